"""From a traced graph to a memory plan: the passes, fusion, staging and planning, each timed and dumped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable

from graphc import config
from graphc.executable import Lowered
from graphc.ir import Graph
from graphc.passes.fuse import fuse
from graphc.passes.manager import Dump, run
from graphc.passes.parts import place_parts
from graphc.passes.pipeline import PIPELINE
from graphc.passes.plan import plan
from graphc.passes.recompute import recompute
from graphc.passes.schedule import Kernel
from graphc.passes.stage import stage


def lower(graph: Graph, donated: Iterable[tuple[int, int]], scratch: Callable[[Kernel], int]) -> Lowered:
    """All stages between ``graph`` and machine code.

    ``donated`` holds ``(input, output)`` pairs that may share memory, ``scratch`` the bytes per thread of a kernel.
    """
    check_disabled()
    pairs = dict(donated)
    seconds: dict[str, float] = {}
    dump = Dump.from_config(graph.name)

    begin = time.perf_counter()
    optimised, report = run(PIPELINE, graph, dump=dump)
    seconds["passes"] = time.perf_counter() - begin

    begin = time.perf_counter()
    schedule = stage(place_parts(recompute(fuse(optimised))), pairs)
    seconds["fuse"] = time.perf_counter() - begin

    begin = time.perf_counter()
    placed = plan(schedule, pairs, scratch)
    seconds["plan"] = time.perf_counter() - begin

    if dump is not None:
        dump.write("schedule", schedule)
        dump.write("plan", placed)
    if config.get(config.DEBUG) >= 2:
        print(f"{schedule}\n\n{placed}", file=sys.stderr)
    return Lowered(optimised, schedule, placed, report, seconds, dump)


def check_disabled() -> None:
    """Raise ConfigError where GRAPHC_DISABLE names a pass that is not there."""
    known = dict.fromkeys(step.name for step in PIPELINE)
    unknown = [name for name in config.get(config.DISABLE) if name not in known]
    if unknown:
        raise config.ConfigError(f"GRAPHC_DISABLE: there is no pass {', '.join(unknown)}; there are {', '.join(known)}")
