"""What a generation begins with: how a pipeline prepares its latents, for the time of a context."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def prepared(pipe: Any, instead: Callable[..., Any]) -> Iterator[None]:
    """While the context is open, `instead(own, *args, **options)` is called where the pipeline
    would call its own `prepare_latents`, which is `own`: that of its class, or one that the user
    or another context has set, which is there again on exit.
    """
    own, before = pipe.prepare_latents, pipe.__dict__.get("prepare_latents")
    pipe.prepare_latents = lambda *args, **options: instead(own, *args, **options)
    try:
        yield
    finally:
        del pipe.prepare_latents  # the method of the class is there again
        if before is not None:
            pipe.prepare_latents = before
