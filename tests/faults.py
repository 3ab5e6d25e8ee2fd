"""File systems that fail and processes that are killed, for the tests of everything that writes files.

:class:`FaultyOS` stands in for the module ``os`` inside :mod:`graphc.storage`. It counts the calls that change the file
system and asks a ``fault`` before each; a write is also interrupted half-way.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from graphc.storage import cache, container, files, trust

CHANGES = frozenset("open write fsync close chmod replace link unlink mkdir utime".split())
KILLED = 77
MODULES = (files, container, trust, cache)

Fault = Callable[[int, str], None]


class FaultyOS:
    """``fault(count, name)`` is called before each change, and may raise or end the process."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._counter = itertools.count()

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CHANGES:
            return real

        def changing(*args: Any, **kwargs: Any) -> Any:
            self._fault(next(self._counter), name)
            if name != "write":
                return real(*args, **kwargs)
            descriptor, data = args
            half = real(descriptor, data[: len(data) // 2])
            self._fault(next(self._counter), name)
            return half + real(descriptor, data[half:])

        return changing


def install(fault: Fault) -> None:
    """Make every module of the storage package work on a faulty file system, for the rest of this process."""
    faulty = FaultyOS(fault)
    for module in MODULES:
        module.os = faulty  # type: ignore[attr-defined]


def kill_everywhere(action: Callable[[], object]) -> Iterator[int]:
    """Run ``action`` in forked processes, the n-th of which is killed at its n-th change of the file system.

    Yields n after each, for the caller to look at what is left; ends with the first that comes through.
    """
    for n in itertools.count():
        if run_forked(lambda n=n: killed_at(n, action)) == 0:  # type: ignore[misc]
            yield n
            return
        yield n


def killed_at(n: int, action: Callable[[], object]) -> None:
    """Run ``action`` and end this process, without any cleaning up, at its n-th change."""

    def fault(count: int, name: str) -> None:
        if count == n:
            os._exit(KILLED)

    install(fault)
    action()


def forked(action: Callable[[], object]) -> int:
    """The process number of a child that runs ``action`` and exits with 0 where it comes through, else with 1."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def run_forked(*actions: Callable[[], object]) -> int:
    """Run each action in a process of its own, all at once; 0, or KILLED if one was killed. Anything else fails."""
    children = [forked(action) for action in actions]
    codes = {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children}
    assert codes <= {0, KILLED}, f"exit codes {codes}"
    return max(codes)


def run_script(code: str, **environment: str) -> str:
    """Run ``code`` in a fresh interpreter that imports what this one can, and return what it prints."""
    path = os.pathsep.join([os.path.dirname(os.path.abspath(__file__)), *filter(None, sys.path), os.getcwd()])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
