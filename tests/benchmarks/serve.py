"""One framework in its own process: takes ``name steps`` lines, answers with JSON: losses and seconds of each step.

python serve.py side_graphc
"""

from __future__ import annotations

import importlib
import json
import sys
import time


def main() -> None:
    workloads = importlib.import_module(sys.argv[1]).WORKLOADS
    ready = {}
    answers = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        name, count = line.split()
        first = None
        if name not in ready:
            begin = time.perf_counter()
            ready[name] = workloads[name]()
            ready[name]()
            first = time.perf_counter() - begin
        step, times, losses = ready[name], [], []
        for _ in range(int(count)):
            begin = time.perf_counter()
            loss = step()
            times.append(time.perf_counter() - begin)
            losses.append(float(loss))
        print(json.dumps({"times": times, "losses": losses, "first": first}), file=answers, flush=True)


if __name__ == "__main__":
    main()
