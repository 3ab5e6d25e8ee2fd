"""Python's garbage collector, while graphc makes many objects at once.

A trace makes thousands of nodes, none of them in a reference cycle. The collector would look at them again and again, and at
everything else that is loaded: beside Numba that took as long as the work itself.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_paused = threading.Lock()  # held by the thread that paused it
_owner = 0  # that thread


def _after_fork() -> None:
    """A child has one thread: what another one had paused goes on."""
    if _paused.locked() and _owner != threading.get_ident():
        gc.enable()
        _paused.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def collector_paused() -> Iterator[None]:
    """No collection meanwhile, in any thread. Within another pause, also another thread's, this does nothing.

    The collector is therefore off for no longer than one such block, and stays off where it was.

    >>> with collector_paused():
    ...     gc.isenabled()
    False
    """
    global _owner
    if not (gc.isenabled() and _paused.acquire(blocking=False)):
        yield
        return
    _owner = threading.get_ident()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        _paused.release()


__all__ = ["collector_paused"]
