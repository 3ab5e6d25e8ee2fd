"""How the compiler scales with the graph: seconds to trace, differentiate, run all passes, fuse, plan; peak memory.

python tests/benchmarks/graph_size.py [1000 10000 100000]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import numpy as np

import graphc
from graphc.passes.fuse import fuse
from graphc.passes.manager import run
from graphc.passes.pipeline import PIPELINE
from graphc.passes.plan import plan
from graphc.passes.stage import stage


def program(nodes: int):
    """A chain of small layers: about ``nodes`` nodes with its gradient."""

    def f(w, x):
        for _ in range(nodes // 10):
            x = np.tanh(x @ w) + x * 0.5
        return x.sum()

    return f


def timed(function, *args, **kwargs):
    begin = time.perf_counter()
    result = function(*args, **kwargs)
    return result, time.perf_counter() - begin


def row(size: int) -> str:
    w, x = graphc.Spec((8, 8)), graphc.Spec((4, 8))
    f = program(size)
    _, forward = timed(graphc.trace, f, w, x)
    graph, both = timed(graphc.trace, graphc.grad(f), w, x)
    (optimised, _), passes = timed(run, PIPELINE, graph)
    schedule, fusing = timed(lambda: stage(fuse(optimised)))
    placed, planning = timed(plan, schedule)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"| {len(graph.nodes):,} | {forward:.2f} | {max(both - forward, 0):.2f} | {passes:.2f} | {fusing:.2f} | {planning:.2f} "
        f"| {sum(1 for _ in schedule.kernels):,} | {placed.peak_bytes:,} | {placed.lower_bound_bytes:,} | {megabytes:,.0f} |"
    )


def main() -> None:
    if len(sys.argv) == 3 and sys.argv[1] == "--one":
        print(row(int(sys.argv[2])))
        return
    print(
        "| nodes | trace s | gradient s | passes s | fuse s | plan s | kernels | peak bytes | lower bound | memory MB |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for size in map(int, sys.argv[1:] or (1000, 10_000, 100_000)):
        # A process for each, so that memory is its own.
        done = subprocess.run(
            [sys.executable, __file__, "--one", str(size)], check=True, capture_output=True, text=True
        )
        print(done.stdout.strip(), flush=True)


if __name__ == "__main__":
    main()
