"""What the commands that talk to a remote share: how the client behaves on this terminal."""

from __future__ import annotations

import logging
import sys

from pe_toolkit.cli.errors import Session


def prepare(session: Session) -> None:
    """Bars for transfers where a person can see them; no log lines of the client but in --debug."""
    from huggingface_hub import constants
    from huggingface_hub.utils import logging as client_logging
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    if not session.debug:
        client_logging.set_verbosity(logging.ERROR)
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:  # what the user said counts
        if sys.stderr.isatty() and not session.out.json:
            enable_progress_bars()
        else:
            disable_progress_bars()
