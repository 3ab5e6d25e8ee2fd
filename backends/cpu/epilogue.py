"""What follows a contraction or a window: elementwise nodes at its shape, written where its sums are near."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backends.cpu.codegen import CONTIGUOUS, SPLAT, STRIDED, Emission, compute_dtype, dtype_name, op_cost
from graphc.backends.cpu.loops import Layout, Point, Values
from graphc.ir import Node


class Epilogue:
    """The elementwise nodes after ``root``, by how often they are computed: once, once per row, once per vector.

    ``layout`` is that of the loops over root's shape; vectors run along its axis ``lane`` (None: there is one element).
    """

    def __init__(self, e: Emission, root: Node, layout: Layout, lane: int | None) -> None:
        self.e, self.root, self.layout, self.lane = e, root, layout, lane
        self.outputs = e.kernel.body.outputs
        #: sums over rows, and what they add up
        self.sums = [node for node in self.outputs if node.op.kind == "reduction"]
        wanted = [node.inputs[0] if node in self.sums else node for node in self.outputs]
        self.once: list[Node] = []
        self.per_row: list[Node] = []
        self.per_vector: list[Node] = []
        level: dict[Node, int] = {root: 2}
        for node in layout.needed(wanted, (root,)):
            if node is root:
                continue
            level[node] = self._level(node, level)
            (self.once, self.per_row, self.per_vector)[level[node]].append(node)

    def _level(self, node: Node, level: dict[Node, int]) -> int:
        place = self.layout.place(node)
        if place is not None:
            along = 0 if self.lane is None else place.strides[self.lane]
            return 2 if along else 1 if any(place.strides) else 0
        if node.op.kind == "random":
            return 2
        return max((level[x] for x in node.inputs if x in level), default=0)

    def start(self) -> Values:
        """Write what is computed once."""
        values = Values(self.e, self.layout)
        values.emit(self.once, Point((0,) * len(self.layout.axes or ()), None))
        return values

    def row(self, values: Values, index: Sequence[str]) -> Values:
        """Write what is computed once per row; ``index`` has a variable per axis of the loops."""
        inside = values.child()
        inside.emit(self.per_row, Point(tuple(index), None))
        return inside

    def vector(self, values: Values, index: Sequence[str], lanes: str | int | None, total: str) -> Values:
        """Write one vector: ``total`` is the expression of root's value there. The variables that hold the nodes."""
        inside = values.child("" if lanes is None else "_")
        if total.isidentifier():
            inside.set(self.root, total)
        else:
            name = inside.name(self.root)
            self.e.line(
                f"{name} = {total}", f"v{self.e.numbers[self.root]}: {self.root.type.dtype} = {self.root.op.name}"
            )
            inside.set(self.root, name)
        at = Point(tuple(index), self.lane, lanes)
        inside.emit(self.per_vector, at)
        for position, node in enumerate(self.outputs, len(self.e.kernel.body.inputs)):
            if node not in self.sums:
                inside.store(position, node, at)
        return inside

    @property
    def sums_scope(self) -> int:
        """An alias scope of its own for the scratch that holds root's values."""
        return len(self.e.types)

    def load_sums(self, element: str) -> str:
        """The expression of sixteen of root's values, from scratch ``sums``."""
        return f"load(sums, {element}, {dtype_name(compute_dtype(self.root.type.dtype))}, {self.sums_scope})"

    @property
    def cost(self) -> float:
        """Estimated nanoseconds of one vector."""
        total = CONTIGUOUS * (1 + len(self.outputs))
        for node in self.per_vector:
            place = self.layout.place(node)
            stride = 0 if place is None or self.lane is None else place.strides[self.lane]
            total += op_cost(node) if place is None else {0: SPLAT, 1: CONTIGUOUS}.get(stride, STRIDED)
        return total
