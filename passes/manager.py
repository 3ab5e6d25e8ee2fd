"""The pass manager: runs a pipeline of passes over a graph, and does all that a pass itself does not.

It times, verifies, dumps, and names the pass that failed. What the environment says is in :mod:`graphc.config`:
GRAPHC_DISABLE leaves passes out, GRAPHC_VERIFY=0 turns the verifier off, GRAPHC_DUMP writes every stage, GRAPHC_DEBUG
prints.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphc import config, drawing
from graphc.ir import Graph
from graphc.text import identifier, to_text
from graphc.verifier import VerifyError
from graphc.verifier import verify as verify_graph


@dataclass(frozen=True, slots=True)
class Pass:
    """A named function from Graph to Graph.

    ``after`` and ``before`` name passes that must stand earlier or later in a pipeline, and ``reason`` says why.
    """

    name: str
    function: Callable[[Graph], Graph]
    doc: str
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one pass did: numbers of nodes before and after, and seconds for the pass and for verifying its result."""

    name: str
    before: int
    after: int
    seconds: float
    verify_seconds: float
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What the passes of one run did, in order. Prints as a table."""

    entries: tuple[Entry, ...]

    @property
    def seconds(self) -> float:
        """Time of the passes and of the verifier."""
        return sum(e.seconds + e.verify_seconds for e in self.entries)

    def __str__(self) -> str:
        rows = [("pass", "before", "after", "ms", "verify ms")]
        for e in self.entries:
            times = ("off", "") if e.disabled else (f"{1e3 * e.seconds:.2f}", f"{1e3 * e.verify_seconds:.2f}")
            rows.append((e.name, str(e.before), str(e.after), *times))
        widths = [max(len(row[k]) for row in rows) for k in range(5)]
        lines = []
        for name, *numbers in rows:
            cells = [text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), *cells]).rstrip())
        return "\n".join(lines)


class PassError(RuntimeError):
    """A pass raised, or made a graph that is not valid: a bug of graphc. Names the pass; ``__cause__`` is the error."""


class Dump:
    """A folder that gets every stage of one compilation, as ``03_simplify.txt`` and ``03_simplify.dot``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    @classmethod
    def from_config(cls, name: str) -> Dump | None:
        """A new folder, named after ``name``, in the folder of GRAPHC_DUMP; None where that is not set."""
        root = config.get(config.DUMP)
        if root is None:
            return None
        root.mkdir(parents=True, exist_ok=True)
        for k in itertools.count():
            folder = root / f"{identifier(name)}-{k}"
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                return cls(folder)
        return None

    def write(self, stage: str, value: Any) -> Path:
        """Write a Graph (with lines and roles), a Schedule, a Plan, or anything that prints. Returns the path."""
        path = self.folder / f"{self.count:02d}_{re.sub(r'[^A-Za-z0-9_.-]', '_', stage)}.txt"
        self.count += 1
        text = to_text(value, lines=True, roles=True) if isinstance(value, Graph) else str(value)
        path.write_text(text + "\n", encoding="utf-8")
        dot = drawing.try_dot(value)
        if dot is not None:
            path.with_suffix(".dot").write_text(dot, encoding="utf-8")
        return path


def run(
    passes: Sequence[Pass], graph: Graph, verify: bool = True, dump: Dump | None = None, start: str = "traced"
) -> tuple[Graph, Report]:
    """Run ``passes`` in order; the last graph and what each pass did.

    The graph is verified before the first pass and after every pass, unless ``verify`` is false or GRAPHC_VERIFY is 0.
    Every stage is written to ``dump`` (by default a new one where GRAPHC_DUMP names a folder), the first under the name
    ``start``. Raises PassError.
    """
    disabled: tuple[str, ...] = config.get("GRAPHC_DISABLE")
    dump = Dump.from_config(graph.name) if dump is None else dump
    runner = _Runner(verify and config.get(config.VERIFY), dump, config.get(config.DEBUG))
    runner.show(start, graph)
    runner.check(start, graph)
    entries: list[Entry] = []
    for step in passes:
        if step.name in disabled:
            entries.append(Entry(step.name, len(graph.nodes), len(graph.nodes), 0.0, 0.0, disabled=True))
        else:
            graph, entry = runner.run(step, graph)
            entries.append(entry)
    return graph, Report(tuple(entries))


@dataclass(frozen=True, slots=True)
class _Runner:
    """Runs one pass after the other under the same switches."""

    verify: bool
    dump: Dump | None
    debug: int

    def run(self, step: Pass, graph: Graph) -> tuple[Graph, Entry]:
        begin = time.perf_counter()
        try:
            after = step.function(graph)
        except Exception as error:
            raise PassError(f"pass {step.name} failed on {graph!r}: {error}{self.where()}") from error
        middle = time.perf_counter()
        if after is not graph:
            self.check(step.name, after)
        entry = Entry(step.name, len(graph.nodes), len(after.nodes), middle - begin, time.perf_counter() - middle)
        self.show(step.name, after)
        if self.debug >= 1:
            counts = f"{entry.before} -> {entry.after} nodes"
            print(f"graphc: {step.name}: {counts}, {1e3 * entry.seconds:.2f} ms", file=sys.stderr)
        return after, entry

    def check(self, name: str, graph: Graph) -> None:
        if not self.verify:
            return
        try:
            verify_graph(graph)
        except VerifyError as error:
            where = self.where()
            if self.dump is not None:
                self.dump.write(f"{name}_not_valid", graph)
            raise PassError(f"after {name} the graph is not valid: {error}{where}") from error

    def show(self, name: str, graph: Graph) -> None:
        if self.dump is not None:
            self.dump.write(name, graph)
        if self.debug >= 3:
            print(f"graphc: after {name}\n{to_text(graph, lines=True, roles=True)}", file=sys.stderr)

    def where(self) -> str:
        return f"\nthe graph before it: {self.dump.folder}" if self.dump is not None else ""


def check_order(passes: Sequence[Pass]) -> list[str]:
    """What is wrong with the order of ``passes``, in words: each constraint of each pass, with its reason.

    A pass may stand in a pipeline several times: "after x" asks that some x stands earlier, "before x" that no x does.
    """
    wrong: list[str] = []
    for k, step in enumerate(passes):
        earlier = {p.name for p in passes[:k]}
        wrong += [f"{step.name} must stand after {x}: {step.reason}" for x in step.after if x not in earlier]
        wrong += [f"{step.name} must stand before {x}: {step.reason}" for x in step.before if x in earlier]
    return wrong
