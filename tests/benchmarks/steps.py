"""Training steps of graphc beside its peers: all alternate in one run, on the same data, weights and threads.

    python tests/benchmarks/steps.py --torch PYTHON --jax PYTHON --pytensor PYTHON [--threads 2] [--rounds 9] [--only NAME …]

Each peer is the Python of an environment that has it; any may be left out. Every framework (and every way to write a
workload in it) runs in a process of its own, the processes take turns, and a ratio is the median over the rounds of
graphc's time by the peer's of the same round. The first losses must agree. What is printed is Markdown.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import data

HERE = Path(__file__).resolve().parent
FIRST = 6  # steps whose losses are compared
#: Relative differences of losses that are allowed at the first step and after FIRST steps.
TOLERANCES = {"float32": (1e-4, 1e-2), "float64": (1e-9, 1e-6)}
#: Names of the ways in which a peer writes a workload: its module and its table of workloads.
WAYS = {
    "graphc": ("side_graphc", "WORKLOADS"),
    "torch": ("side_torch", "WORKLOADS"),
    "torch other": ("side_torch", "OTHER"),
    "torch.compile": ("side_torch", "COMPILED"),
    "jax": ("side_jax", "WORKLOADS"),
    "pytensor": ("side_pytensor", "WORKLOADS"),
}


# ------------------------------------------------------------------------------------------------ processes


class Refused(RuntimeError):
    """A side cannot run a workload; ``details`` is its traceback."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class Side:
    """The process of one way to run a workload."""

    def __init__(self, way: str, python: str, threads: int, dtype: str = "float32", env: dict[str, str] | None = None) -> None:  # fmt: skip
        self.way = way
        module, self.table = WAYS[way]
        self.process = subprocess.Popen(
            [python, str(HERE / "serve.py"), module, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=HERE,
            env=os.environ | environment(threads, dtype) | (env or {}),
        )

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Refused(f"{self.way}: its process ended with {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(f"{self.way}: {answer['error']}", answer["traceback"])
        return answer

    def start(self, name: str, sizes: dict[str, Any], dtype: str, count: int = FIRST) -> dict[str, Any]:
        return self.ask("start", name=name, table=self.table, sizes=sizes, dtype=dtype, count=count)

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def environment(threads: int, dtype: str) -> dict[str, str]:
    """The same number of threads for all. Sides are also bound to as many cores, see serve.py."""
    found = {"GRAPHC_THREADS": str(threads), "PYTHONPATH": str(HERE.parents[1])}
    found |= {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
    if threads == 1:
        found["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    if dtype == "float64":
        found["JAX_ENABLE_X64"] = "1"
    return found


# ------------------------------------------------------------------------------------------------ step times


@dataclass
class Row:
    """What was measured of one workload."""

    name: str
    sizes: dict[str, Any]
    dtype: str = "float32"
    times: dict[str, float] = field(default_factory=dict)  # way → median seconds of a step
    fastest: dict[str, float] = field(default_factory=dict)  # way → seconds of its fastest block of steps
    ratios: dict[str, float] = field(default_factory=dict)  # peer's way → median of graphc's time by its
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)  # way → seconds to the first step, imports aside
    refused: dict[str, str] = field(default_factory=dict)  # way → why
    deviation: float = 0.0  # largest relative difference of losses from graphc's

    @property
    def best(self) -> str | None:
        """The fastest peer: the one with the largest ratio."""
        return max(self.ratios, key=lambda way: self.ratios[way], default=None)


def compare(way: str, have: dict[str, Any], want: dict[str, Any], dtype: str) -> float:
    """The largest relative difference of losses (and of sums of squared gradients); raises where it is too large."""

    def apart(x: float, y: float) -> float:
        return abs(x - y) / (abs(y) + 1e-6) if math.isfinite(x) and math.isfinite(y) else math.inf

    first, later = TOLERANCES[dtype]
    starts = [apart(have["losses"][0], want["losses"][0]), *map(apart, have["sums"], want["sums"])]
    ends = [apart(x, y) for x, y in zip(have["losses"], want["losses"], strict=True)]
    if max(starts) > first or max(ends) > later or len(have["sums"]) != len(want["sums"]):
        raise SystemExit(f"the losses of {way} differ from graphc's:\n{have}\n{want}")
    return max(*starts, *ends)


def measure(row: Row, pythons: dict[str, str], threads: int, rounds: int, seconds: float) -> None:
    """Fill the row: every way starts, then all take turns for ``rounds`` rounds of about ``seconds`` each."""
    sides: dict[str, Side] = {}
    starts: dict[str, dict[str, Any]] = {}
    try:
        for way in ways(row.name, pythons):
            side = Side(way, pythons[way], threads, row.dtype)
            try:
                starts[way] = side.start(row.name, row.sizes, row.dtype)
                row.facts[way] = side.ask("facts")
            except Refused as error:
                if way == "graphc":
                    raise SystemExit(f"{error}\n{error.details}") from None
                row.refused[way] = str(error)
                side.close()
                continue
            sides[way] = side
            row.first[way] = starts[way]["first"]
        for way, answer in starts.items():
            row.deviation = max(row.deviation, compare(way, answer, starts["graphc"], row.dtype))
        found: dict[str, list[float]] = {way: [] for way in sides}
        for turn in range(rounds):
            # The order turns as well, so that nobody always comes after the same neighbour.
            order = list(sides)[turn % len(sides) :] + list(sides)[: turn % len(sides)]
            for way in order:
                blocks = sides[way].ask("run", seconds=seconds)["times"]
                found[way].append(statistics.median(blocks))
                row.fastest[way] = min(row.fastest.get(way, math.inf), *blocks)
                time.sleep(0.01)  # threads that spin after their work come to rest
        row.times = {way: statistics.median(times) for way, times in found.items()}
        ours = found.pop("graphc")
        row.ratios = {way: statistics.median(map(float.__truediv__, ours, times)) for way, times in found.items()}
    finally:
        for side in sides.values():
            side.close()


def ways(name: str, pythons: dict[str, str]) -> Iterator[str]:
    """The ways that have this workload; the modules of peers cannot be imported here, so they list it themselves."""
    for way in WAYS:
        if way in pythons and (way not in ONLY or name in ONLY[way]):
            yield way


ONLY: dict[str, Sequence[str]] = {
    "torch other": ("lstm", "lenet", "resnet"),
    "pytensor": ("tiny", "mlp-sgd", "mlp-adam", "chain", "layernorm"),
}


# ------------------------------------------------------------------------------------------------ printing


def duration(seconds: float) -> str:
    """In µs below 10 ms, else in ms."""
    return f"{1e6 * seconds:,.1f} µs" if seconds < 1e-3 else f"{1e3 * seconds:,.2f} ms"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fastest_ratio(row: Row) -> str:
    """The fastest block of graphc by that of the fastest peer: what is left of noise on a busy machine."""
    peers = {way: seconds for way, seconds in row.fastest.items() if way != "graphc"}
    if not peers:
        return "–"
    best = min(peers, key=lambda way: peers[way])
    return f"{row.fastest['graphc'] / peers[best]:.2f} {best}"


def step_line(row: Row, peers: Sequence[str], limits: dict[str, float]) -> list[str]:
    facts, ours = row.facts["graphc"], row.times["graphc"]
    gigaflops, gigabytes = facts["flops"] / ours / 1e9, facts["nbytes"] / ours / 1e9
    shares = [gigaflops / limits["gigaflops"], gigabytes / limits["gigabytes_per_second"]]
    best = row.best
    return [
        row.name,
        duration(ours),
        *(duration(row.times[way]) if way in row.times else "–" for way in peers),
        f"**{row.ratios[best]:.2f}** {best}" if best else "–",
        fastest_ratio(row),
        f"{gigaflops:,.1f} ({shares[0]:.0%})",
        f"{gigabytes:,.1f} ({shares[1]:.0%})",
        f"{row.deviation:.0e}",
    ]


STEP_HEADER = ("GFLOP/s", "GB/s", "losses differ by")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for peer in ("torch", "jax", "pytensor"):
        parser.add_argument(f"--{peer}", metavar="PYTHON", help=f"a Python with {peer}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one turn")
    parser.add_argument("--only", nargs="+", default=list(data.SIZES), choices=list(data.SIZES), metavar="NAME")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    args = parser.parse_args()
    pythons = {"graphc": sys.executable}
    for way, (module, _) in WAYS.items():
        python = getattr(args, module.removeprefix("side_"), None)
        if python and not (args.no_compile and way == "torch.compile"):
            pythons[way] = python
    peers = [way for way in pythons if way != "graphc"]
    side = Side("graphc", sys.executable, args.threads)
    limits = side.ask("limits")
    side.close()
    print(f"Limits, {args.threads} threads: {limits['gigaflops']:.0f} GFLOP/s, {limits['gigabytes_per_second']:.1f} GB/s.\n")
    print(table(["step", "graphc", *peers, "ratio to the best", "of fastest steps", *STEP_HEADER], []), flush=True)
    for name in args.only:
        row = Row(name, data.SIZES[name])
        measure(row, pythons, args.threads, args.rounds, args.seconds)
        print(f"| {' | '.join(step_line(row, peers, limits))} |", flush=True)
        for way, why in row.refused.items():
            print(f"  {name}: {way}: {why}", file=sys.stderr)


if __name__ == "__main__":
    main()
