"""Training steps of graphc beside its peers: all alternate in one run, on the same data, weights and threads.

    python tests/benchmarks/steps.py --torch PYTHON --jax PYTHON --pytensor PYTHON [--threads 2] [--rounds 9] [--only NAME …]

Each peer is the Python of an environment that has it; any may be left out. Every framework (and every way to write a
workload in it) runs in a process of its own, the processes take turns, and a ratio is the median over the rounds of
graphc's time by the peer's of the same round. The first losses must agree. What is printed is Markdown: step times,
cold and warm starts, planned memory. ``--vary`` takes other sizes and float64 in place of the rows, ``--set`` and
``--dtype`` any others: ``--only lstm --set batch=1 --set steps=16 --dtype float64``.
"""

from __future__ import annotations

import argparse
import ast
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import data
from sides import ONLY, WAYS, Refused, Side, caches, ways

FIRST = 6  # steps whose losses are compared
#: Relative differences of losses that are allowed at the first step and over FIRST steps.
TOLERANCES = {"float32": (1e-4, 1e-2), "float64": (1e-9, 1e-6)}
#: The ways whose starts are measured.
STARTS = ("graphc", "jax", "torch")

# ------------------------------------------------------------------------------------------------ step times


@dataclass
class Row:
    """What was measured of one workload."""

    name: str
    sizes: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    times: dict[str, float] = field(default_factory=dict)  # way → median seconds of a step
    fastest: dict[str, float] = field(default_factory=dict)  # way → seconds of a step in its fastest block
    ratios: dict[str, float] = field(default_factory=dict)  # peer's way → median of graphc's time by its
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # way → why
    deviation: float = 0.0  # largest relative difference of losses from graphc's

    @property
    def best(self) -> str | None:
        """The fastest peer: the one with the largest ratio."""
        return max(self.ratios, key=lambda way: self.ratios[way], default=None)

    @property
    def title(self) -> str:
        return self.name if not self.sizes and self.dtype == "float32" else f"{self.what}, {self.dtype}"

    @property
    def what(self) -> str:
        return data.describe(self.name, data.SIZES[self.name] | self.sizes)


def compare(way: str, have: dict[str, Any], want: dict[str, Any], dtype: str) -> float:
    """The largest relative difference of losses (and of sums of squared gradients); exits where it is too large."""

    def apart(x: float, y: float) -> float:
        return abs(x - y) / (abs(y) + 1e-6) if math.isfinite(x) and math.isfinite(y) else math.inf

    first, later = TOLERANCES[dtype]
    starts = [apart(have["losses"][0], want["losses"][0]), *map(apart, have["sums"], want["sums"])]
    ends = [apart(x, y) for x, y in zip(have["losses"], want["losses"], strict=True)]
    if max(starts) > first or max(ends) > later or len(have["sums"]) != len(want["sums"]):
        raise SystemExit(f"the losses of {way} differ from graphc's:\n{have}\n{want}")
    return max(*starts, *ends)


def measure(row: Row, pythons: dict[str, str], threads: int, rounds: int, seconds: float) -> None:
    """Fill the row: every way starts, then all take turns, ``rounds`` of about ``seconds`` each."""
    sides: dict[str, Side] = {}
    want: dict[str, Any] = {}
    try:
        for way in ways(row.name, pythons):  # graphc comes first
            sides[way] = side = Side(way, pythons[way], threads, row.dtype)
            try:
                answer = side.start(row.name, row.sizes, row.dtype, FIRST)
                row.facts[way] = side.ask("facts")
            except Refused as error:
                if way == "graphc":
                    raise SystemExit(f"{row.title}: {error}\n{error.details}") from None
                row.refused[way] = str(error)
                sides.pop(way).close()
                continue
            want = want or answer
            row.deviation = max(row.deviation, compare(way, answer, want, row.dtype))
        medians: dict[str, list[float]] = {way: [] for way in sides}
        for turn in range(rounds):
            # The order turns as well, so that nobody always comes after the same neighbour.
            at = turn % len(sides)
            for way in [*sides][at:] + [*sides][:at]:
                blocks = sides[way].ask("run", seconds=seconds)["times"]
                medians[way].append(statistics.median(blocks))
                row.fastest[way] = min(row.fastest.get(way, math.inf), *blocks)
                time.sleep(0.01)  # threads that spin after their work come to rest
        row.times = {way: statistics.median(times) for way, times in medians.items()}
        ours = medians.pop("graphc")
        row.ratios = {way: statistics.median(map(float.__truediv__, ours, times)) for way, times in medians.items()}
    finally:
        for side in sides.values():
            side.close()


def machine_limits(threads: int, count: int = 3) -> dict[str, float]:
    """GFLOP/s of a large contraction and GB/s of a copy by graphc's own kernels: the best that some processes measure."""
    found: dict[str, float] = {}
    for _ in range(count):
        with Side("graphc", sys.executable, threads) as side:
            found = {key: max(value, found.get(key, 0)) for key, value in side.ask("limits").items()}
    return found


def start_seconds(name: str, way: str, python: str, threads: int, folder: str) -> float:
    """Of a new process with its cache in ``folder``, until the first step is done; making the data is not counted."""
    begin = time.perf_counter()
    with Side(way, python, threads, env=caches(folder)) as side:
        answer = side.start(name, {}, "float32", count=1)
        return time.perf_counter() - begin - answer["data"]


def starts(name: str, pythons: dict[str, str], threads: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Way → seconds of a start with an empty cache, then with what that one left; the least of some rounds of both."""
    found: dict[str, tuple[float, float]] = {}
    for _ in range(rounds):
        for way in STARTS:
            if way in pythons:
                with tempfile.TemporaryDirectory() as folder:
                    pair = [start_seconds(name, way, pythons[way], threads, folder) for _ in range(2)]
                found[way] = tuple(map(min, pair, found.get(way, pair)))
    return found


# ------------------------------------------------------------------------------------------------ printing


def duration(seconds: float) -> str:
    return f"{1e6 * seconds:,.1f} µs" if seconds < 1e-3 else f"{1e3 * seconds:,.2f} ms"


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def header(cells: Sequence[str]) -> str:
    return f"{line(cells)}\n{line(['---'] * len(cells))}"


def step_header(peers: Sequence[str]) -> str:
    last = ("ratio to the best", "of the fastest steps", "GFLOP/s", "GB/s", "losses differ by")
    return header(["step", "graphc", *peers, *last])


def step_line(row: Row, peers: Sequence[str], limits: dict[str, float]) -> str:
    facts, ours = row.facts["graphc"], row.times["graphc"]
    gigaflops, gigabytes = facts["flops"] / ours / 1e9, facts["nbytes"] / ours / 1e9
    cells = [row.title, duration(ours)]
    cells += [duration(row.times[way]) if way in row.times else "fails" if way in row.refused else "–" for way in peers]
    cells.append(f"**{row.ratios[row.best]:.2f}** {row.best}" if row.best else "–")
    cells.append(fastest_ratio(row))
    # The measured peak is one of float32: twice that of float64.
    peak = limits["gigaflops"] / (2 if row.dtype == "float64" else 1)
    cells.append(f"{gigaflops:,.1f} ({gigaflops / peak:.0%})")
    cells.append(f"{gigabytes:,.1f} ({gigabytes / limits['gigabytes_per_second']:.0%})")
    return line([*cells, f"{row.deviation:.0e}"])


def fastest_ratio(row: Row) -> str:
    """The fastest block of graphc by that of the fastest peer: what is left of noise on a busy machine."""
    peers = {way: seconds for way, seconds in row.fastest.items() if way != "graphc"}
    if not peers:
        return "–"
    best = min(peers, key=lambda way: peers[way])
    return f"{row.fastest['graphc'] / peers[best]:.2f} {best}"


def start_line(name: str, found: dict[str, tuple[float, float]]) -> str:
    cells = [name]
    for k in (0, 1):
        cells += [f"{found[way][k]:.2f}" if way in found else "–" for way in STARTS]
        cells.append(f"{found['graphc'][k] / found['jax'][k]:.2f}" if "jax" in found else "–")
    return line(cells)


def memory_line(row: Row) -> str:
    ours, jax = row.facts["graphc"], row.facts.get("jax", {}).get("peak")
    return line(
        [
            row.title,
            f"{ours['peak'] + ours['scratch']:,}",
            f"{ours['peak']:,}",
            f"{ours['lower_bound']:,}",
            f"{ours['unplanned']:,}",
            "–" if jax is None else f"{jax:,}",
            "–" if not jax else f"{(ours['peak'] + ours['scratch']) / jax:.2f}",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for peer in ("torch", "jax", "pytensor"):
        parser.add_argument(f"--{peer}", metavar="PYTHON", help=f"a Python with {peer}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9, help="0: no step times")
    parser.add_argument("--seconds", type=float, default=0.3, help="of one turn")
    parser.add_argument("--starts", type=int, default=1, help="rounds of cold and warm starts; 0: none")
    parser.add_argument("--vary", action="store_true", help="the other sizes of data.py; no starts")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a size of the rows; no starts")
    parser.add_argument("--dtype", default="float32", choices=tuple(TOLERANCES))
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which takes minutes")
    parser.add_argument("--only", nargs="+", default=list(data.SIZES), choices=list(data.SIZES), metavar="NAME")
    args = parser.parse_args()

    pythons = {"graphc": sys.executable}
    for way, (module, _) in WAYS.items():
        python = getattr(args, module.removeprefix("side_"), None)
        wanted = way not in ONLY or set(ONLY[way]) & set(args.only)
        if python and wanted and not (args.no_compile and way == "torch.compile"):
            pythons[way] = python
    peers = [way for way in pythons if way != "graphc"]
    changed = {key: ast.literal_eval(value) for key, value in (text.split("=") for text in args.set)}
    rows = [Row(name, {k: v for k, v in changed.items() if k in data.SIZES[name]}, args.dtype) for name in args.only]
    plain = not (args.vary or changed or args.dtype != "float32")
    if args.vary:
        rows = [Row(*variant) for variant in data.VARIANTS if variant[0] in args.only]

    if args.rounds:
        limits = machine_limits(args.threads)
        print(
            f"Threads: {args.threads}. Measured limits of the machine: {limits['gigaflops']:.0f} GFLOP/s (float32), "
            f"{limits['gigabytes_per_second']:.1f} GB/s copied.\n\n{step_header(peers)}",
            flush=True,
        )
        for row in rows:
            measure(row, pythons, args.threads, args.rounds, args.seconds)
            print(step_line(row, peers, limits), flush=True)
        print()
        for row in rows:
            if plain:
                print(f"- {row.name}: {row.what}")
            for why in row.refused.values():
                print(f"- {row.title}: {why.splitlines()[0]}")
        names = ("planned peak with scratch", "arena", "lower bound", "without planning", "jax", "ratio")
        print(f"\nBytes of temporaries:\n\n{header(['step', *names])}")
        for row in rows:
            print(memory_line(row))
    if args.starts and plain:
        names = [f"{way} {kind}" for kind in ("cold", "warm") for way in (*STARTS, "ratio to jax")]
        print(f"\nSeconds from a new process to the end of its first step:\n\n{header(['step', *names])}", flush=True)
        for name in args.only:
            print(start_line(name, starts(name, pythons, args.threads, args.starts)), flush=True)


if __name__ == "__main__":
    main()
