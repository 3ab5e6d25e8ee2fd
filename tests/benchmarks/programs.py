"""The gradients of the programs in tests/programs beside HIPS autograd's, the very same source on both.

For every program that autograd can run: ``autograd.grad(f)(x)``, ``graphc.grad(f)(x)`` on plain arrays (traced, differentiated
and interpreted anew at every call), and ``graphc.compile(graphc.grad(f))(x)``. The three alternate in one process; what
is shown are medians over the rounds. Run it alone on a machine:

    python tests/benchmarks/programs.py [--sizes large|tiny] [--rounds 9] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from programs import Program, all_programs, on_autograd  # noqa: E402

import graphc  # noqa: E402
from graphc.tree import flatten  # noqa: E402


def seconds(function: Callable[..., Any], args: tuple[Any, ...], least: float) -> float:
    """Of one call: the mean over as many as take ``least`` seconds."""
    calls, start = 0, time.perf_counter()
    while True:
        function(*args)
        calls += 1
        taken = time.perf_counter() - start
        if taken >= least:
            return taken / calls


def measure(one: Program, sizes: str, rounds: int, least: float) -> list[float]:
    """Median seconds of autograd, of the concrete and of the compiled gradient; then seconds of compilation."""
    import autograd

    args = one.arguments(0, **(one.large if sizes == "large" else {}))
    compiled = graphc.compile(graphc.grad(one.loss))
    start = time.perf_counter()
    compiled(*args)
    first = time.perf_counter() - start
    sides = (autograd.grad(on_autograd(one.loss)), graphc.grad(one.loss), compiled)
    results = [[np.asarray(v, np.float64) for v in flatten(side(*args))[0]] for side in sides]
    largest = max(float(np.abs(v).max(initial=0)) for v in results[0])
    for have in results[1:]:
        for mine, theirs in zip(have, results[0], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-8 * largest, err_msg=one.name)
    times = [[seconds(side, args, least) for side in sides] for _ in range(rounds)]
    return [*np.median(times, axis=0), first]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", choices=("large", "tiny"), default="large", help="tiny: those of the tests")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--least", type=float, default=0.02, help="seconds that each side runs in a round")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="programs; default: every one that autograd runs")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    chosen = [one for one in all_programs() if not one.peer and (not args.only or one.name in args.only)]
    print(
        "| program | autograd ms | concrete ms | compiled ms | concrete / autograd | compiled / autograd | compile s |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    ratios = []
    for one in chosen:
        try:
            peer, concrete, compiled, first = measure(one, args.sizes, args.rounds, args.least)
        except graphc.UnsupportedError as error:
            print(f"| {one.name} | | | | | | {str(error).splitlines()[0]} |", flush=True)
            continue
        ratios.append((concrete / peer, compiled / peer))
        numbers = [f"{1e3 * s:.3f}" for s in (peer, concrete, compiled)]
        print(
            f"| {one.name} | {' | '.join(numbers)} | {ratios[-1][0]:.2f} | {ratios[-1][1]:.3f} | {first:.1f} |",
            flush=True,
        )
    if ratios:
        middle, worst = np.median(ratios, axis=0), np.max(ratios, axis=0)
        print(f"| **median** | | | | {middle[0]:.2f} | {middle[1]:.3f} | |")
        print(f"| **largest** | | | | {worst[0]:.2f} | {worst[1]:.3f} | |")


if __name__ == "__main__":
    main()
