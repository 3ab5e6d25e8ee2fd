"""Stacks: tensors of one type side by side along a new leading axis, and graphs in which several nodes become one.

Tensors that are consecutive slices of one array lie side by side already: their stack is an access of that array and costs
nothing. Others are concatenated, which costs nothing either where their kernels can write into the stack
(:mod:`graphc.passes.parts`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from graphc import ops
from graphc.ir import Builder, Graph, Line, Node, carry_tables
from graphc.ops.movement import move_axis, reshape_to
from graphc.types import TensorType

#: ops whose results lie where the kernel that computes them is told to write
PLACED = ("elementwise", "reduction", "contraction", "window")
#: So many bytes of a stack that waits for its members count as one that is moved.
WAITING = 16


def reshaped(x: Node, shape: Sequence[int]) -> Node:
    """``x`` in another shape; of several reshapes only the last one counts."""
    while x.op is ops.reshape:
        (x,) = x.inputs
    return reshape_to(x, shape)


# ------------------------------------------------------------------------------------------------ slices of one array


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive slices of ``source`` along ``axis``: ``order`` numbers them from first to last, ``start`` is the first's
    corner, ``size`` that of every slice, ``shape`` what each is reshaped to."""

    source: Node
    axis: int
    order: tuple[int, ...]
    start: tuple[int, ...]
    size: tuple[int, ...]
    shape: tuple[int, ...]

    def stack(self, source: Node) -> Node:
        """The slices of ``source`` as one access, the axis that counts them first."""
        count, axis = len(self.order), self.axis
        size = (*self.size[:axis], count * self.size[axis], *self.size[axis + 1 :])
        x = source
        if size != source.type.shape:
            x = ops.slice_(x, start=self.start, size=size, step=(1,) * len(size))
        if all(n == 1 for n in size[:axis]):
            return reshaped(x, (count, *self.shape))
        x = reshaped(x, (*size[:axis], count, *self.size[axis:]))
        return reshaped(move_axis(x, axis, 0), (count, *self.shape))


def slice_of(node: Node) -> tuple[Node, tuple[int, ...], tuple[int, ...]] | None:
    """Source, start and size where ``node`` is a slice without gaps, perhaps without some axes of length 1."""
    shape = node.type.shape
    while node.op is ops.reshape:
        (node,) = node.inputs
    if node.op is not ops.slice_ or any(by != 1 and n > 1 for by, n in zip(node["step"], node["size"], strict=True)):
        return None
    if [n for n in shape if n != 1] != [n for n in node["size"] if n != 1]:
        return None
    return node.inputs[0], node["start"], node["size"]


def run_of(members: Sequence[Node]) -> Run | None:
    """The run that ``members``, of one type, make in some order; None where they are no consecutive slices."""
    found = [slice_of(node) for node in members]
    first = found[0]
    if first is None or not members[0].type.size:
        return None
    source, _, size = first
    starts = []
    for slice_ in found:
        if slice_ is None or slice_[0] is not source or slice_[2] != size:
            return None
        starts.append(slice_[1])
    axes = [k for k in range(len(size)) if len({start[k] for start in starts}) > 1]
    if len(axes) != 1:
        return None
    (axis,) = axes
    order = sorted(range(len(members)), key=lambda k: starts[k][axis])
    low = starts[order[0]]
    if any(starts[k][axis] != low[axis] + n * size[axis] for n, k in enumerate(order)):
        return None
    return Run(source, axis, tuple(order), low, size, members[0].type.shape)


# ------------------------------------------------------------------------------------------------ stacks


def stack(members: Sequence[Node], new: Mapping[Node, Node]) -> Node:
    """``members`` along a new leading axis, in this order; ``new`` has the nodes that they have become."""
    run = run_of(members)
    if run is not None and list(run.order) == sorted(run.order):
        return run.stack(new[run.source])
    made = [new[m] for m in members]
    run = run_of(made)
    if run is not None and list(run.order) == sorted(run.order):
        return run.stack(run.source)
    shape = members[0].type.shape
    return ops.concatenate(*[reshaped(new[m], (1, *shape)) for m in members], axis=0)


def needs(members: Sequence[Node]) -> tuple[Node, ...]:
    """What :func:`stack` reads of ``members``."""
    run = run_of(members)
    return (run.source,) if run is not None and list(run.order) == sorted(run.order) else tuple(members)


def copied_bytes(members: Sequence[Node], outputs: set[Node]) -> int:
    """Bytes that a stack of ``members`` moves: none for slices side by side.

    What its kernel can write there is not moved, but all of the stack is taken from the first of them on, when the others
    are not there yet: that counts a little.
    """
    run = run_of(members)
    if run is not None and list(run.order) == sorted(run.order):
        return 0
    return sum(m.type.nbytes // WAITING if is_placed(m, outputs) else 2 * m.type.nbytes for m in members)


def is_placed(node: Node, outputs: set[Node]) -> bool:
    """Whether the kernel that computes ``node`` can write it where it is told to."""
    return node.op.kind in PLACED and node not in outputs


def along(result: Node, k: int, shape: tuple[int, ...]) -> Node:
    """Number ``k`` of a stack, of ``shape``."""
    start = (k, *(0 for _ in shape))
    return reshaped(ops.slice_(result, start=start, size=(1, *shape), step=(1,) * (len(shape) + 1)), shape)


# ------------------------------------------------------------------------------------------------ joining nodes


@dataclass(frozen=True, slots=True, eq=False)
class Join:
    """Nodes that become one computation: it reads ``needs``, and ``make(new nodes)`` gives what stands for ``members``."""

    members: tuple[Node, ...]
    needs: tuple[Node, ...]
    make: Callable[[Mapping[Node, Node]], Sequence[Node]]


def join_nodes(graph: Graph, joins: Sequence[Join]) -> Graph:
    """``graph`` with every join made. Where several would wait for each other in a circle, those with several members that
    are part of it are left out."""
    if not joins:
        return graph
    order = ordered(graph, joins)
    if isinstance(order, set):
        joins = [join for join in joins if len(join.members) == 1 or join not in order]
        order = ordered(graph, joins)
        if isinstance(order, set) or not joins:
            return graph
    mapping: dict[Node, Node] = {}
    with Builder(graph.name) as builder:
        for node in graph.inputs:
            mapping[node] = builder.input(node["name"], node.type)
        for unit in order:
            if isinstance(unit, Join):
                builder.origin = lines_of(graph, unit)
                made = unit.make(mapping)
                builder.origin = ()
                for member, node in zip(unit.members, made, strict=True):
                    assert member.type == node.type
                    mapping[member] = node
            elif unit not in mapping:
                mapping[unit] = builder.remake(unit, tuple([mapping[i] for i in unit.inputs]))
        carry_tables(builder, graph, mapping)
        return builder.graph([mapping[o] for o in graph.outputs])


def lines_of(graph: Graph, join: Join) -> tuple[Line, ...]:
    """The lines of the first members: a node keeps a few."""
    found = [line for member in join.members[:8] for line in graph.lines.get(member, ())]
    return tuple(dict.fromkeys(found))[:8]


def ordered(graph: Graph, joins: Sequence[Join]) -> list[Node | Join] | set[Join]:
    """Nodes and joins so that each comes after what it reads; the joins that wait for each other where there is no order.

    Only what the outputs need with the joins made is listed.
    """
    join_of = {member: join for join in joins for member in join.members}
    reads: dict[Node | Join, list[Node | Join]] = {}
    pending: list[Node | Join] = [join_of.get(o, o) for o in graph.outputs]
    while pending:
        unit = pending.pop()
        if unit in reads:
            continue
        needs: Sequence[Node] = unit.needs if isinstance(unit, Join) else unit.inputs
        reads[unit] = list(dict.fromkeys(join_of.get(o, o) for o in needs))
        pending += reads[unit]
    readers: dict[Node | Join, list[Node | Join]] = {unit: [] for unit in reads}
    for unit, operands in reads.items():
        for operand in operands:
            readers[operand].append(unit)
    waiting = {unit: len(operands) for unit, operands in reads.items()}
    ready = deque(unit for unit in reads if not waiting[unit])
    found: list[Node | Join] = []
    while ready:
        unit = ready.popleft()
        found.append(unit)
        for reader in readers[unit]:
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    if len(found) < len(reads):
        return {unit for unit, count in waiting.items() if count and isinstance(unit, Join)}
    return found


def same_types(nodes: Sequence[Node]) -> bool:
    return len({node.type for node in nodes}) == 1 and isinstance(nodes[0].type, TensorType)
