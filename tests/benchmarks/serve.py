"""One framework in its own process: takes requests as lines of JSON on stdin, answers each with a line of JSON.

    python serve.py MODULE THREADS

A request has ``do``: ``start`` (``name``, ``table``, ``sizes``, ``dtype``) makes a workload, takes its first ``count`` steps
and answers their losses, the size of its gradients where it has them, and the seconds to the first step;
``run`` (``seconds``) takes steps for about that long and answers the seconds per step of each block of steps; ``facts``
asks for what the framework knows about the program; ``limits`` for the measured limits of the machine.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any

BLOCK = 2e-3  # seconds: steps shorter than this are timed in blocks of at least as long


def start(module: Any, name: str, table: str, sizes: dict[str, Any], dtype: str, count: int) -> tuple[Any, dict]:
    import data

    begin = time.perf_counter()
    arrays = data.make(name, sizes, dtype)
    middle = time.perf_counter()
    step = getattr(module, table)[name](arrays)
    losses = [float(step())]
    first = time.perf_counter() - middle
    losses += [float(step()) for _ in range(count - 1)]
    gradients = step.gradients() if hasattr(step, "gradients") else []
    return step, {"losses": losses, "first": first, "data": middle - begin, "sums": [*sums(gradients)]}


def sums(tree: Any) -> Any:
    """The sum of squares of every array, in the order of keys."""
    import numpy as np

    if isinstance(tree, dict):
        for key in sorted(tree):
            yield from sums(tree[key])
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from sums(value)
    else:
        yield float(np.square(np.asarray(tree, np.float64)).sum())


def run(step: Any, seconds: float) -> dict[str, Any]:
    """Seconds per step of blocks of steps, after a few that are not timed (threads wake up, caches fill)."""
    begin = time.perf_counter()
    step()
    once = time.perf_counter() - begin
    while time.perf_counter() - begin < min(seconds / 5, 0.05):
        begin_one = time.perf_counter()
        step()
        once = min(once, time.perf_counter() - begin_one)
    size = max(round(BLOCK / once), 1)
    times = []
    begin = time.perf_counter()
    while len(times) < 2 or time.perf_counter() - begin < seconds:
        before = time.perf_counter()
        for _ in range(size):
            step()
        times.append((time.perf_counter() - before) / size)
    return {"times": times}


def limits(threads: int) -> dict[str, float]:
    from graphc.backends.cpu.profile import limits

    found = limits(threads)
    return {"gigaflops": found.gigaflops, "gigabytes_per_second": found.gigabytes_per_second}


def main() -> None:
    module_name, threads = sys.argv[1], int(sys.argv[2])
    if hasattr(os, "sched_setaffinity"):  # before any framework counts the cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a framework prints is no answer
    module = importlib.import_module(module_name)
    step = None
    for line in sys.stdin:
        request = json.loads(line)
        do = request.pop("do")
        try:
            if do == "start":
                step, answer = start(module, **request)
            elif do == "run":
                answer = run(step, **request)
            elif do == "facts":
                assert step is not None
                answer = step.facts()
            else:
                answer = limits(threads)
        except Exception as error:
            import traceback

            answer = {"error": f"{type(error).__name__}: {error}".strip(), "traceback": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
