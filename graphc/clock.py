"""Where the time of a trace goes: making the graph of the user's function, and appending adjoint nodes to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class _Stopwatch(threading.local):
    """Seconds that this thread has spent on gradients; ``running`` where it does just now."""

    seconds = 0.0
    running = False


_GRADIENT = _Stopwatch()


@contextmanager
def differentiating() -> Iterator[None]:
    """What runs inside is work on a gradient. Nested blocks, as of second derivatives, count once."""
    if _GRADIENT.running:
        yield
        return
    _GRADIENT.running = True
    begin = time.perf_counter()
    try:
        yield
    finally:
        _GRADIENT.seconds += time.perf_counter() - begin
        _GRADIENT.running = False


@contextmanager
def tracing() -> Iterator[dict[str, float]]:
    """The seconds of the trace inside, known when it ends: ``trace``, and ``gradient`` where there was one.

    >>> with tracing() as seconds:
    ...     pass
    >>> list(seconds)
    ['trace']
    """
    seconds: dict[str, float] = {}
    begin, before = time.perf_counter(), _GRADIENT.seconds
    yield seconds
    gradient = _GRADIENT.seconds - before
    seconds["trace"] = time.perf_counter() - begin - gradient
    if gradient:
        seconds["gradient"] = gradient


__all__ = ["differentiating", "tracing"]
