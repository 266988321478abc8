"""What libraries log, through the one sink of the command line: a name in a stranger's file may be
part of it, and a handler of their own would send it to the terminal as it is.
"""

from __future__ import annotations

import logging
import sys

from pe_toolkit.cli.output import Output

LIBRARIES = ("diffusers", "transformers", "huggingface_hub", "accelerate", "peft", "torchao")


LONGEST = 400
"""Characters of a record: some are tables with a line for every weight."""


class Ours(logging.Handler):
    """Gives records to an `Output`: warnings and worse as `Warning: ...`, others as remarks."""

    def __init__(self, out: Output) -> None:
        super().__init__()
        self.out = out

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = " ".join(record.getMessage().split())
            if len(text) > LONGEST:
                text = f"{text[:LONGEST]} ..."
            library = record.name.partition(".")[0]
            if record.levelno >= logging.WARNING:
                self.out.warn(f"{library}: {text}")
            else:
                self.out.talk(f"{library}: {text}")
        except Exception:
            self.handleError(record)


def take(out: Output) -> None:
    """Have the libraries that are imported log to `out`, and to nothing else."""
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
        logger.addHandler(Ours(out))
        logger.propagate = False


def download_bars(out: Output) -> None:
    """Bars of huggingface_hub where a person can see them; what the user said comes first."""
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    if constants.HF_HUB_DISABLE_PROGRESS_BARS is not None:
        return
    if sys.stderr.isatty() and not out.json:
        enable_progress_bars()
    else:
        disable_progress_bars()
