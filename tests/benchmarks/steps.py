"""Training steps beside PyTorch: the two alternate in one run, on the same data and weights, with the same threads.

    python tests/benchmarks/steps.py --peer PATH_OF_A_PYTHON_WITH_TORCH [--threads 2] [--rounds 15]

Prints a Markdown table: median step time of each and their ratio, time to the first step, and checks that losses agree.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
STEPS = {"mlp-sgd": 20, "mlp-adam": 20, "tiny": 500, "chain": 4}


class Side:
    """A framework's process."""

    def __init__(self, python: str, module: str, threads: int) -> None:
        env = os.environ | {
            "GRAPHC_THREADS": str(threads),
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": str(HERE.parents[1]),
        }
        self.process = subprocess.Popen(
            [python, str(HERE / "serve.py"), module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=HERE,
            env=env,
        )

    def run(self, name: str, steps: int) -> dict:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{name} {steps}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.process.args} stopped")
        return json.loads(answer)


def measure(name: str, sides: list[Side], rounds: int) -> str:
    """One row of the table."""
    times: list[list[float]] = [[] for _ in sides]
    losses: list[list[float]] = [[] for _ in sides]
    first = [side.run(name, STEPS[name])["first"] for side in sides]
    ratios = []
    for _ in range(rounds):
        medians = []
        for k, side in enumerate(sides):
            answer = side.run(name, STEPS[name])
            medians.append(statistics.median(answer["times"]))
            times[k].append(medians[-1])
            losses[k] += answer["losses"]
        ratios.append(medians[0] / medians[1])
    worst = max(abs(a - b) / (abs(b) + 1e-3) for a, b in zip(*losses, strict=True))
    if worst > 2e-2:
        raise SystemExit(f"{name}: the losses differ by {worst:.1%}")
    ours, theirs = (1e6 * statistics.median(t) for t in times)
    return (
        f"| {name} | {ours:,.1f} | {theirs:,.1f} | {statistics.median(ratios):.2f} | {first[0]:.2f} | {first[1]:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True, help="a Python with torch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="*", default=list(STEPS))
    args = parser.parse_args()
    sides = [Side(sys.executable, "side_graphc", args.threads), Side(args.peer, "side_torch", args.threads)]
    print(
        "| step | graphc µs | PyTorch µs | ratio | graphc first s | PyTorch first s |\n| --- | --- | --- | --- | --- | --- |"
    )
    for name in args.only:
        print(measure(name, sides, args.rounds), flush=True)


if __name__ == "__main__":
    main()
