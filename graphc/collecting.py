"""Python's garbage collector, while graphc makes many objects at once.

A trace makes thousands of nodes, none of them in a reference cycle. The collector would look at them again and again, and at
everything else that is loaded: beside Numba that took as long as the work itself.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_paused = threading.Lock()  # held by the one who paused it


@contextmanager
def collector_paused() -> Iterator[None]:
    """No collection meanwhile, in any thread. Within another pause, also another thread's, this does nothing.

    The collector is therefore off for no longer than one such block, and stays off where it was.

    >>> with collector_paused():
    ...     gc.isenabled()
    False
    """
    if not (gc.isenabled() and _paused.acquire(blocking=False)):
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        _paused.release()


__all__ = ["collector_paused"]
