"""The team: native threads that run tapes together with the thread of a call; one per process, for all executables.

Threads are started when the first executable that wants them is called, and stay for the life of the process; between
calls they sleep. They run native code only and never touch Python, so the interpreter may exit at any time. A call
owns the team while it runs; a call that finds it taken runs alone on its own thread, with the same result. In a forked
child there are no threads, so its team starts anew.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time

from graphc.backends.cpu.runtime.driver import (
    BARRIER_SPINS,
    IDLE_SPINS,
    LINE_TEAM,
    LINE_THREAD,
    LINE_WORDS,
    LINES,
    LOCKS,
    MAX_THREADS,
    TEAM_WORDS,
    WORKERS,
    driver,
)
from graphc.backends.cpu.runtime.pyapi import allocate_lock, c_api

IDLE_SECONDS = 20e-6
"""How long a thread without a job spins before it sleeps."""
BARRIER_SECONDS = 200e-6
"""How long a thread with a job does. To wake a thread takes 20 to 60 µs, which every imbalance of a stage would cost."""

_CACHE_LINE = 64
_start_thread = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p, ctypes.c_void_p)(c_api("PyThread_start_new_thread"))
_NO_THREAD = ctypes.c_ulong(-1).value


def available_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Team:
    """The memory that the threads share, and the number of them. Its memory is never freed: threads sleep in it."""

    def __init__(self) -> None:
        size = 8 * TEAM_WORDS
        allocate = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)(c_api("PyMem_RawCalloc"))
        start = allocate(1, size + _CACHE_LINE)
        if start is None:
            raise MemoryError
        self.address = -(-start // _CACHE_LINE) * _CACHE_LINE
        self._words = (ctypes.c_int64 * TEAM_WORDS).from_address(self.address)
        self._growing = threading.Lock()
        self._add_locks(0)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start_anew)

    @property
    def workers(self) -> int:
        """Threads besides the caller's."""
        return self._words[WORKERS]

    def grow(self, threads: int) -> int:
        """Starts what is missing to `threads`, the caller's included; returns how many there are now.

        That may be fewer: the operating system may refuse to start more.
        """
        with self._growing:
            if self.workers == 0:
                turns = _spin_turns_per_second()
                self._words[IDLE_SPINS] = int(turns * IDLE_SECONDS)
                self._words[BARRIER_SPINS] = int(turns * BARRIER_SECONDS)
            while self.workers < min(threads, MAX_THREADS) - 1 and self._start(self.workers + 1):
                self._words[WORKERS] += 1
            return self.workers + 1

    def _start(self, thread: int) -> bool:
        self._add_locks(thread)
        line = LINES + LINE_WORDS * thread
        self._words[line + LINE_THREAD] = thread
        self._words[line + LINE_TEAM] = self.address
        return _start_thread(driver().worker, self.address + 8 * line) != _NO_THREAD

    def _add_locks(self, thread: int) -> None:
        if not self._words[LOCKS + thread]:
            self._words[LOCKS + thread] = allocate_lock(taken=True)

    def _start_anew(self) -> None:
        """In a forked child: none of the threads exist, and any of the words may have been on its way."""
        ctypes.memset(self.address, 0, 8 * TEAM_WORDS)
        self._growing = threading.Lock()
        self._add_locks(0)


def _spin_turns_per_second() -> float:
    """The speed of spin loops; 0 on a single core, which spinning would only block."""
    if available_cores() == 1:
        return 0.0
    spin = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(driver().spin)
    turns = 500

    def seconds() -> float:
        start = time.perf_counter()
        spin(turns)
        return time.perf_counter() - start

    return turns / max(min(seconds() for _ in range(5)), 1e-9)


TEAM = Team()
"""The team of this process."""
