"""Schedule: the graph cut into kernels, the kernels ordered into stages.

A :class:`Kernel` is a template (how the loops are built), a domain (the loop extents) and a body, which is again a
Graph: the printer, the verifier and the reference interpreter work on kernels too, and interpreting the kernels in
turn equals interpreting the graph.

What a body may hold, by template. An *access* is a body input, or a chain of transpose, slice, broadcast_to and
axis-splitting reshape over a body input (or over a scalar constant) that addresses memory by an offset and one stride
per axis (:mod:`graphc.passes.access`).

elementwise   domain = the shape of every output. Each node is an access, or elementwise at exactly that shape, or a gather
              of that shape from an access, by accesses at its leading axes (in row and column kernels as well). An output may
              be the concatenation of nodes of that shape: they are written side by side.
row, column   domain = full extents in the graph's axis order, ``reduced`` = the axes summed away (the same for every
              reduction of the body but those across). Each node is an access, an elementwise node at full shape, a
              reduction full → kept, an elementwise node at kept shape, or a broadcast_to kept → full. Outputs are full or
              kept. ``row``: the last axis is reduced (vectors run along it); ``column``: it is kept. A row kernel that
              reduces its last axes may also hold reductions of full values *across* its rows: over the axes that it keeps,
              or over all axes. Their results are outputs, and read by no node.
contraction   one dot; its operands are accesses; then elementwise nodes at the dot's shape (the epilogue) with accesses at
              that shape. domain = batch + rows + columns + contracted extents. Outputs may be concatenations as above, and
              (without batch axes) sums of nodes of the dot's shape over all its rows, read by no node.
window        one conv, reduce_window, window_argmax or window_scatter (and its epilogue, elementwise at its shape).
segment       one op of indexing. segment_reduce, and a scatter by tables, may have before them what makes their updates
              (elementwise nodes and gathers at the shape of the updates) and after them what follows (elementwise nodes at
              the shape of the result); the operands of all others are body inputs.
copy          one movement op that is no access: concatenate, pad, or a reshape that cannot be a view; operands are accesses.
library       one op done by a fixed routine (linalg, sort); operands are body inputs.
attention     softmax(score(q kᵀ)) v or its derivative (:mod:`graphc.passes.attention`); operands of contractions are accesses.
              domain = batch + queries + keys.
control       one scan, cond or while_loop; ``bodies`` are the schedules of its graphs, in the order of the attributes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from graphc.ir import Graph, Line, Node
from graphc.looking import Inspectable
from graphc.types import TensorType

TEMPLATES = (
    "elementwise",
    "row",
    "column",
    "contraction",
    "window",
    "segment",
    "copy",
    "library",
    "attention",
    "control",
)


@dataclass(frozen=True, slots=True)
class Domain:
    """Loop extents; ``reduced`` names the axes along which results are combined, all others are parallel."""

    extents: tuple[int, ...]
    reduced: tuple[int, ...] = ()

    @property
    def parallel(self) -> tuple[int, ...]:
        return tuple(k for k in range(len(self.extents)) if k not in self.reduced)


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Kernel:
    """One generated (or library) function: ``results = body(args)``, where args and results are value numbers."""

    name: str
    template: str
    domain: Domain
    body: Graph
    args: tuple[int, ...]
    results: tuple[int, ...]
    bodies: tuple[Schedule, ...] = ()
    nodes: tuple[
        int, ...
    ] = ()  # numbers, in schedule.graph.nodes, of the nodes it computes (errors, profiles, drawings)


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor in memory, contiguous in C order. ``base`` is the value whose bytes it shares, if any, from byte ``offset``
    on: another shape of all of it, or a part of it. Parts of one value that kernels write do not overlap."""

    type: TensorType
    kind: str  # input, constant, temporary, output
    node: int  # its number in schedule.graph.nodes, -1 if none
    base: int | None = None
    offset: int = 0


@dataclass(frozen=True, eq=False)
class Schedule(Inspectable):
    """Stages of kernels; the kernels of one stage are independent and may run at the same time.

    ``inputs[k]`` is the value of graph input k, ``outputs[k]`` that of graph output k. Output values are all distinct,
    written by a kernel each, and never views of inputs or constants. ``notes`` says why nodes were not fused.
    """

    name: str
    graph: Graph
    values: tuple[Value, ...]
    stages: tuple[tuple[Kernel, ...], ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @property
    def kernels(self) -> Iterator[Kernel]:
        return (kernel for stage in self.stages for kernel in stage)

    def lines(self, kernel: Kernel) -> tuple[Line, ...]:
        """The user's lines behind a kernel, in order of first mention."""
        nodes: tuple[Node, ...] = self.graph.nodes
        return tuple(dict.fromkeys(line for k in kernel.nodes for line in self.graph.lines.get(nodes[k], ())))

    def __str__(self) -> str:
        from graphc.passes.print import schedule_text

        return schedule_text(self)


def base_of(schedule: Schedule, value: int) -> int:
    """The value in whose bytes ``value`` lies: itself, or its base."""
    base = schedule.values[value].base
    return value if base is None else base


def is_part(schedule: Schedule, value: int) -> bool:
    """Whether ``value`` shares some but not all bytes of its base."""
    found = schedule.values[value]
    return found.base is not None and found.type.nbytes != schedule.values[found.base].type.nbytes


def compact(schedule: Schedule) -> Schedule:
    """``schedule`` without the temporaries that no kernel writes."""
    written = {base_of(schedule, r) for kernel in schedule.kernels for r in kernel.results}
    kept = [k for k, v in enumerate(schedule.values) if v.kind != "temporary" or base_of(schedule, k) in written]
    if len(kept) == len(schedule.values):
        return schedule
    number = {old: new for new, old in enumerate(kept)}

    def moved(kernel: Kernel) -> Kernel:
        args, results = (tuple(number[v] for v in values) for values in (kernel.args, kernel.results))
        return replace(kernel, args=args, results=results)

    values = [schedule.values[k] for k in kept]
    return replace(
        schedule,
        values=tuple(v if v.base is None else replace(v, base=number[v.base]) for v in values),
        stages=tuple(tuple(map(moved, stage)) for stage in schedule.stages),
        inputs=tuple(number[v] for v in schedule.inputs),
        outputs=tuple(number[v] for v in schedule.outputs),
    )
