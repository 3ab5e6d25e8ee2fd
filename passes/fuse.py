"""Fusion: a Graph becomes a Schedule of few, large kernels.

:mod:`graphc.passes.grouping` decides which nodes share a kernel; here each group becomes a :class:`Kernel`, whose body is
a Graph over the values that it reads. Accesses (transpose, slice, broadcast_to, reshape) are repeated in every body that
needs them: they are addresses. Numbers and index tensors are repeated as well. Nothing else is: a value that two kernels
read is computed once and lies in memory between them.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Any

from graphc.ir import INPUT, Array, Graph, GraphError, Line, Node, Op
from graphc.ops.base import constant
from graphc.ops.contraction import free_axes
from graphc.ops.movement import broadcast_to, reshape
from graphc.passes.across import attach
from graphc.passes.columns import attach_columns, row_axes
from graphc.passes.grouping import (
    ACROSS,
    CLOSED,
    COPY,
    FULL,
    GATHER,
    ITEM,
    REDUCTION,
    SCALAR,
    SEGMENT,
    SOURCE,
    WINDOW,
    Group,
    Grouping,
    Shape,
    index_axis,
    index_shape,
    kept_shape,
    reduced_axes,
)  # fmt: skip
from graphc.passes.schedule import Domain, Kernel, Schedule, Value
from graphc.passes.updates import absorb
from graphc.text import node_names
from graphc.types import TensorType, Type

#: At most so many notes are kept; a graph of 100,000 nodes has more neighbours than anyone reads about.
MAX_NOTES = 4096

TEMPLATE_OF_KIND = {
    "indexing": "segment", "movement": "copy", "sort": "library", "linalg": "library", "random": "library",
    "cumulative": "library", "control": "control", "window": "window",
}  # fmt: skip


def fuse(graph: Graph) -> Schedule:
    """``graph`` cut into kernels, one per stage, in an order that follows the program.

    Calls must be inlined; alias and stop_gradient cost nothing but should be gone. Raises GraphError for a call and for a
    node that no template computes. ``schedule.graph`` is ``graph``.
    """
    grouping = Grouping(graph)
    grouping.run()
    absorb(grouping)
    grouping.sink()
    attach(grouping)
    attach_columns(grouping)
    grouping.finish()
    return _Lowering(grouping).schedule()


class _Lowering:
    """Groups to kernels: numbers the values and writes the bodies."""

    def __init__(self, grouping: Grouping) -> None:
        self.cut = grouping
        self.graph = grouping.graph
        self.values: list[Value] = []
        self.value_of: dict[int, int] = {}  # item (or source node) -> its value
        self.views: dict[tuple[int, Shape], int] = {}
        self.output_of = {item: j for j, item in enumerate(grouping.output_item)}

    def schedule(self) -> Schedule:
        cut = self.cut
        inputs = [self.source(cut.number[n]) for n in self.graph.inputs]
        kernels = [self.kernel(group, k) for k, group in enumerate(self.ordered())]
        return Schedule(
            self.graph.name,
            self.graph,
            tuple(self.values),
            tuple((kernel,) for kernel in kernels),
            tuple(inputs),
            tuple(self.value_of[item] for item in cut.output_item),
            self.notes(),
        )

    def ordered(self) -> list[Group]:
        """Groups in topological order; among those that are ready, the one whose last node comes first."""
        cut = self.cut
        groups = cut.groups
        key = {g: (max(cut.position[m] for m in g.members), g.number) for g in groups}
        waiting: dict[Group, int] = {}
        readers: dict[Group, list[Group]] = {g: [] for g in groups}
        for g in groups:
            before = {cut.group[root] for root in g.externals} - {None, g}
            waiting[g] = len(before)
            for other in before:
                assert other is not None
                readers[other].append(g)
        heap = [(key[g], g.number, g) for g in groups if waiting[g] == 0]
        heapq.heapify(heap)
        found: list[Group] = []
        while heap:
            _, _, g = heapq.heappop(heap)
            found.append(g)
            for reader in readers[g]:
                waiting[reader] -= 1
                if waiting[reader] == 0:
                    heapq.heappush(heap, (key[reader], reader.number, reader))
        assert len(found) == len(groups), "kernels depend on each other in a circle"
        return found

    # ---------------------------------------------------------------------------------------- values

    def new_value(self, type: TensorType, kind: str, node: int, base: int | None = None) -> int:
        self.values.append(Value(type, kind, node, base))
        return len(self.values) - 1

    def source(self, node: int) -> int:
        """The value of a graph input or constant."""
        if node not in self.value_of:
            found = self.graph.nodes[node]
            kind = "constant" if found.op is constant else "input"
            base = self.source(self.cut.number[found.inputs[0]]) if found.inputs else None  # of view_as_real
            self.value_of[node] = self.new_value(found.type, kind, node, base)
        return self.value_of[node]

    def written(self, item: int) -> int:
        """The value that a kernel writes for ``item``; an output has the type of the graph's output."""
        if item not in self.value_of:
            j = self.output_of.get(item)
            output = None if j is None else self.graph.outputs[j]
            node = self.cut.node(item)
            number = self.cut.number[node]
            if output is None:
                self.value_of[item] = self.new_value(node.type, "temporary", number)
            else:
                self.value_of[item] = self.new_value(output.type, "output", number)
        return self.value_of[item]

    def root_value(self, root: int) -> int:
        return self.source(root) if self.cut.what[root] in (SOURCE, SCALAR) else self.written(root)

    def view(self, value: int, shape: Shape) -> int:
        """``value`` itself where it has ``shape``, else the value that shares its bytes and has it.

        Complex values are read and written as real ones.
        """
        have = self.values[value]
        type = TensorType(have.type.dtype.real, shape)
        if have.type == type:
            return value
        key = (value, shape)
        if key not in self.views:
            base = value if have.base is None else have.base
            self.views[key] = self.new_value(type, have.kind, have.node, base)
        return self.views[key]

    # ---------------------------------------------------------------------------------------- kernels

    def kernel(self, group: Group, number: int) -> Kernel:
        group.members.sort(key=self.cut.position.__getitem__)
        first = group.members[0]
        if group.core == "closed" and self.cut.what[first] in (CLOSED, WINDOW):
            return self.closed(first, number)
        return self.loops(group, number)

    def loops(self, group: Group, number: int) -> Kernel:
        """An elementwise, row, column, contraction or window kernel."""
        cut, body = self.cut, _Body(self, group)
        outputs, results = [], []
        for item in group.members:
            node = body.compute(item)
            if cut.is_written(item, group):
                outputs.append(node)
                results.append(self.view(self.written(item), node.type.shape))
        template, domain = self.domain(group)
        return body.kernel(f"k{number}", template, domain, outputs, results, [*group.produced, *group.members])

    def domain(self, group: Group) -> tuple[str, Domain]:
        if group.core in ("window", "segment"):
            return group.core, Domain(group.frame)
        if group.core == "contraction":
            dot = next(cut_node for cut_node in map(self.cut.node, group.members) if cut_node.op.kind == "contraction")
            extents = dot_extents(dot)
            contracted = len(extents) - len(dot["contract"][0])
            return "contraction", Domain(extents, tuple(range(contracted, len(extents))))
        if group.reduced is None:
            return "elementwise", Domain(group.frame)
        last = len(group.frame) - 1
        return "row" if last in group.reduced else "column", Domain(group.frame, group.reduced)

    def closed(self, item: int, number: int) -> Kernel:
        """The kernel of one op with a routine of its own; a tuple's results are all written, in order."""
        cut, node = self.cut, self.graph.nodes[item]
        group = cut.group[item]
        assert group is not None
        if node.op.kind == "fused":
            return self.fused(item, number)
        template = TEMPLATE_OF_KIND.get(node.op.kind)
        if template is None:
            raise GraphError(f"no kernel template computes {node.op.name} (kind {node.op.kind})")
        body = _Body(self, group)
        # Control binds its bodies, and segment reads its indices, by position: an operand that stands twice is two inputs.
        operand = body.parameter if template in ("control", "segment") else body.raw
        operands = tuple(operand(o) for o in cut.reads(item))
        computed = body.add(node.op, operands, node.attrs, node.type, node)
        outputs, results = [computed], []
        if isinstance(node.type, TensorType):
            results = [self.view(self.written(item), node.type.shape)]
        else:
            read = {self.graph.nodes[r]["index"]: r for r in cut.readers[item] if cut.what[r] == ITEM}
            outputs = []
            for k, type in enumerate(node.type.items):
                outputs.append(body.item(computed, k, type))
                unread = k not in read
                value = self.new_value(type, "temporary", cut.number[node]) if unread else self.written(read[k])
                results.append(self.view(value, type.shape))
        shape = node.type.shape if isinstance(node.type, TensorType) else ()
        bodies = tuple(fuse(inner) for inner in node.bodies) if template == "control" else ()
        return body.kernel(f"k{number}", template, Domain(shape), outputs, results, [item], bodies)

    def fused(self, item: int, number: int) -> Kernel:
        """The kernel of a ``fused`` node: its body, with accesses in the place of its inputs."""
        cut, node = self.cut, self.graph.nodes[item]
        group = cut.group[item]
        assert group is not None
        body, inner = _Body(self, group), node["body"]
        made = {x: body.raw(o) for x, o in zip(inner.inputs, cut.operands[item], strict=True)}
        for step in inner.nodes:
            if step not in made:
                made[step] = body.add(step.op, tuple(made[x] for x in step.inputs), step.attrs, step.type, node)
        read = {self.graph.nodes[r]["index"]: r for r in cut.readers[item] if cut.what[r] == ITEM}
        results = []
        for k, type in enumerate(inner.output_types):
            value = self.written(read[k]) if k in read else self.new_value(type, "temporary", cut.number[node])
            results.append(self.view(value, type.shape))
        extents = max((step.type.shape for step in inner.nodes), key=math.prod)
        outputs = [made[x] for x in inner.outputs]
        return body.kernel(f"k{number}", node["name"], Domain(extents), outputs, results, [item])

    # ---------------------------------------------------------------------------------------- notes

    def notes(self) -> tuple[str, ...]:
        """Why neighbours did not share a kernel, for those that do not in the end."""
        cut = self.cut
        names = node_names(self.graph)
        found: dict[str, None] = {}
        for (producer, consumer), why in cut.reasons.items():
            if cut.group[producer] is not cut.group[consumer]:
                left, right = cut.node(producer), cut.node(consumer)
                found[f"{names[left]} {left.op.name} | {names[right]} {right.op.name}: {why}"] = None
                if len(found) == MAX_NOTES:
                    break
        return tuple(found)


def dot_extents(dot: Node) -> Shape:
    """Batch, row, column and contracted extents of a dot."""
    x, y = dot.inputs
    batch, contract = dot["batch"], dot["contract"]
    return (
        *(x.type.shape[k] for k in batch[0]),
        *(x.type.shape[k] for k in free_axes(x.type.ndim, batch[0], contract[0])),
        *(y.type.shape[k] for k in free_axes(y.type.ndim, batch[1], contract[1])),
        *(x.type.shape[k] for k in contract[0]),
    )


class _Body:
    """The graph of one kernel, under construction. Members are never merged; what they read is, per body."""

    def __init__(self, lowering: _Lowering, group: Group) -> None:
        self.lowering = lowering
        self.cut = lowering.cut
        self.group = group
        self.inputs: list[tuple[int, Node]] = []  # values with their body inputs
        self.input_of: dict[int, Node] = {}
        self.nodes: list[Node] = []
        self.lines: dict[Node, tuple[Line, ...]] = {}
        self.computed: dict[int, Node] = {}  # member -> body node
        self.produced: dict[int, Node] = {}  # the same for what is computed for the updates of a segment
        self.made: dict[Any, Node] = {}

    def add(self, op: Op, inputs: tuple[Node, ...], attrs: Any, type: Type, origin: Node | None = None) -> Node:
        node = Node(op, inputs, attrs, type)
        self.nodes.append(node)
        lines = self.cut.graph.lines.get(origin) if origin is not None else None
        if lines:
            self.lines[node] = lines
        return node

    def once(
        self, op: Op, inputs: tuple[Node, ...], attrs: Any, type: Type, key: Any, origin: Node | None = None
    ) -> Node:
        """A node that is made once per body under ``key``."""
        if key not in self.made:
            self.made[key] = self.add(op, inputs, attrs, type, origin)
        return self.made[key]

    def argument(self, value: int) -> Node:
        if value not in self.input_of:
            self.input_of[value] = self.new_input(value)
        return self.input_of[value]

    def new_input(self, value: int) -> Node:
        type = self.lowering.values[value].type
        node = Node(INPUT, (), (("name", f"x{len(self.inputs)}"), ("type", type)), type)
        self.inputs.append((value, node))
        return node

    def parameter(self, o: int) -> Node:
        """Operand ``o``, which lies in memory, as an input of its own, whether or not another operand is the same."""
        root = self.lowering.root_value(self.cut.root[o])
        return self.new_input(self.lowering.view(root, self.cut.type(o).shape))

    def kernel(
        self, name: str, template: str, domain: Domain, outputs: Sequence[Node], results: Sequence[int],
        members: Sequence[int], bodies: tuple[Schedule, ...] = (),
    ) -> Kernel:  # fmt: skip
        inputs = tuple(node for _, node in self.inputs)
        graph = Graph(name, inputs, tuple(outputs), (*inputs, *self.nodes), self.lines)
        numbers = tuple(dict.fromkeys(self.cut.number[self.cut.node(m)] for m in members))
        return Kernel(
            name, template, domain, graph, tuple(value for value, _ in self.inputs), tuple(results), bodies, numbers
        )

    # ---------------------------------------------------------------------------------------- members

    def compute(self, item: int) -> Node:
        """The body node of a member, at the shape of its place in the loops."""
        cut = self.cut
        place = cut.place[item]
        shape = self.group.frame if place == FULL else self.group.kept
        operands = cut.operands[item]
        if cut.what[item] == COPY:
            made = self.read(operands[0], FULL, shape)
        elif cut.what[item] == REDUCTION and place == ACROSS:
            made = self.across(item)
        elif cut.what[item] == REDUCTION:
            made = self.apply(item, (self.read(operands[0], FULL, self.group.frame),), shape)
        elif cut.nodes[item].op.kind in ("contraction", "window"):
            made = self.apply(item, tuple(self.raw(o) for o in operands), shape)
        elif cut.nodes[item].op.name == "iota":
            made = self.index(item, shape)
        elif cut.what[item] == GATHER:
            made = self.gather(item, shape)
        elif cut.what[item] == SEGMENT:
            made = self.segment(item)
        else:
            made = self.apply(item, tuple(self.read(o, place, shape) for o in operands), shape)
        self.computed[item] = made
        return made

    def across(self, item: int) -> Node:
        """A reduction over the axes that the kernel keeps, or over all of them."""
        node, frame, reduced = self.cut.nodes[item], self.group.frame, self.group.reduced
        if self.group.core == "contraction":
            reduced = tuple(range(row_axes(self.cut, self.group), len(frame)))
        assert reduced is not None
        total = len(reduced_axes(node)) == len(node.inputs[0].type.shape)
        axes = tuple(k for k in range(len(frame)) if total or k not in reduced)
        attrs = tuple((key, axes if key == "axes" else value) for key, value in node.attrs)
        shape = () if total else tuple(frame[k] for k in reduced)
        operand = self.read(self.cut.operands[item][0], FULL, frame)
        return self.add(node.op, (operand,), attrs, TensorType(node.type.dtype, shape), node)

    def gather(self, item: int, shape: Shape) -> Node:
        """A gather at ``shape``: its table as it is, its index tensors at the leading axes."""
        table, *indices = self.cut.operands[item]
        lead = index_shape(self.cut.nodes[item], shape)
        assert lead is not None
        return self.apply(item, (self.raw(table), *(self.read(o, FULL, lead) for o in indices)), shape)

    def segment(self, item: int) -> Node:
        """A scatter or segment_reduce, and what makes its updates."""
        x, updates, *others = self.cut.operands[item]
        shape = self.cut.nodes[item].inputs[1].type.shape
        target = self.read(x, FULL, self.group.frame)
        for member in self.group.produced:
            if self.cut.what[member] == GATHER:
                self.produced[member] = self.gather(member, shape)
            else:
                operands = tuple(self.update(o, shape) for o in self.cut.operands[member])
                self.produced[member] = self.apply(member, operands, shape)
        lead = (shape[0],)
        rest = (self.update(o, lead) if self.cut.root[o] in self.produced else self.raw(o) for o in others)
        return self.apply(item, (target, self.update(updates, shape), *rest), self.group.frame)

    def update(self, o: int, shape: Shape) -> Node:
        """Operand ``o`` for the updates of a segment, which have ``shape``."""
        found = self.produced.get(self.cut.root[o]) if self.cut.pure[o] else None
        return self.read(o, FULL, shape) if found is None else found

    def apply(self, item: int, operands: tuple[Node, ...], shape: Shape) -> Node:
        """The op of ``item`` on other operands, its result of ``shape``."""
        node = self.cut.nodes[item]
        return self.add(node.op, operands, node.attrs, TensorType(node.type.dtype, shape), node)

    def item(self, computed: Node, index: int, type: TensorType) -> Node:
        from graphc.ops.structure import item

        return self.add(item, (computed,), (("index", index),), type)

    # ---------------------------------------------------------------------------------------- operands

    def read(self, o: int, place: int, shape: Shape) -> Node:
        """Operand ``o`` as loops over ``shape`` see it."""
        cut = self.cut
        root = cut.root[o]
        if cut.what[root] == SCALAR:
            return self.number(root, shape)
        if cut.is_inline(o):
            return self.index(o, shape)
        if cut.group[root] is self.group:
            found = self.computed[root]
            if cut.place[root] != place:
                assert self.group.reduced is not None
                axes = tuple(k for k in range(len(self.group.frame)) if k not in self.group.reduced)
                return self.movement(broadcast_to, found, shape, axes=axes, shape=shape)
            return found
        if cut.pure[o]:
            return self.argument(self.lowering.view(self.lowering.root_value(root), shape))
        return self.reshaped(self.raw(o), shape)

    def raw(self, o: int) -> Node:
        """Operand ``o`` as an access over a body input, at its own shape."""
        cut = self.cut
        root = cut.root[o]
        if cut.pure[o]:
            shape = cut.type(o).shape
            return self.argument(self.lowering.view(self.lowering.root_value(root), shape))
        chain = []
        while not cut.pure[o]:
            chain.append(o)
            (o,) = cut.operands[o]
        found = self.raw(o)
        for step in reversed(chain):
            node = cut.nodes[step]
            found = self.once(
                node.op, (found,), node.attrs, node.type, ("access", node.op.name, found, node.attrs), node
            )
        return found

    def movement(self, op: Op, x: Node, to: Shape, **attrs: Any) -> Node:
        items = tuple(sorted(attrs.items()))
        return self.once(op, (x,), items, TensorType(x.type.dtype, to), ("access", op.name, x, items))

    def reshaped(self, x: Node, shape: Shape) -> Node:
        return x if x.type.shape == shape else self.movement(reshape, x, shape, shape=shape)

    def number(self, root: int, shape: Shape) -> Node:
        """A scalar constant in every place of ``shape``."""
        value = self.cut.nodes[root]["value"].value.reshape(())
        type = self.cut.nodes[root].type
        scalar = TensorType(type.dtype, ())
        array = Array(value)
        found = self.once(constant, (), (("value", array),), scalar, ("constant", array))
        return found if shape == () else self.movement(broadcast_to, found, shape, axes=(), shape=shape)

    def index(self, o: int, shape: Shape) -> Node:
        """An index tensor, at ``shape``."""
        node = self.cut.nodes[o]
        axis = index_axis(node, shape)
        assert axis is not None
        attrs = (("axis", axis), ("shape", shape), ("to", node["to"]))
        return self.once(node.op, (), attrs, TensorType(node.type.dtype, shape), ("iota", attrs), node)


def kernel_work(kernel: Kernel) -> int:
    """A rough count of scalar operations, by which stages and thread counts are chosen. Sizes decide, never machines."""
    if kernel.template == "contraction":
        return 2 * math.prod(kernel.domain.extents) + len(kernel.body.outputs) * kernel.body.outputs[0].type.size
    nodes = [n for n in kernel.body.nodes if isinstance(n.type, TensorType)]
    return sum(n.type.size for n in nodes)


__all__ = ["dot_extents", "fuse", "kept_shape", "kernel_work"]
