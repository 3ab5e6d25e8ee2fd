"""How a kernel with reductions runs: which node in which run over the reduced axes, and the loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphc.backends.cpu.codegen import LANES, is_narrow, text_size
from graphc.backends.cpu.emit_loops import UNIT, vectors_side_by_side
from graphc.backends.cpu.loops import Axis, Layout
from graphc.ir import Node

BLOCK = 128  # vectors of a float sum that are added one after another; the blocks' sums are added up
CHUNK = 1 << 15  # elements of a long reduction that are one unit
FEW_CHUNKS = 64  # chunks of units are larger than CHUNK where there would be more, but not larger than BLOCK units
LONG = 1 << 17  # elements from which a reduction with few units is cut into chunks
FEW_UNITS = 8
RESIDENT = 4  # vectors of a row that stay in registers
SMALL_BODY = 5  # nodes: up to here four vectors are worked on at once
MEDIUM_BODY = 16

#: ops that give the same bits wherever they are written: no product that could contract into a following addition
_REPEATABLE = frozenset(
    "add sub neg abs sign maximum minimum select cast eq ne lt le gt ge isnan isfinite floor ceil trunc rint "
    "bit_and bit_or bit_xor bit_not alias stop_gradient broadcast_to".split()
)
_MOST_REPEATED = 3  # ops that are computed again rather than kept


class Phases:
    """When each node of a body with reductions is computed.

    A node is *inner* if it changes along the reduced axes; others are known per unit. ``when[node]`` is the phase
    that an inner node is computed in, and the phase before which any other node is known. ``stored[q]`` are the
    (numbers of) full-size outputs that phase q writes, ``saved[q]`` the nodes that it puts into scratch,
    ``loaded[q]`` those that it gets from there or from an output. ``across[q]`` are the reductions across units that it
    takes part in; ``every_total`` those of them that go over all axes.
    """

    def __init__(self, layout: Layout, scopes: Sequence[int], across: Sequence[Node] = ()) -> None:
        self.layout = layout
        self.outputs = layout.body.outputs
        self.order = layout.needed(self.outputs)
        self.inner: set[Node] = set()
        self.when: dict[Node, int] = {}
        for node in self.order:
            self._place(node)
        self.all_across = tuple(across)
        self.every_total = tuple(node for node in across if node.type.ndim == 0)
        self.all_reductions = [n for n in self.order if n.op.kind == "reduction" and n not in across]
        self.gathers = [node for node in self.order if node in self.inner and self._begins_once(node)]
        assert layout.extents is not None
        ndim = len(layout.extents)
        self.full = [k for k, node in enumerate(self.outputs) if node.type.ndim == ndim and node not in across]
        self.count = 1 + max(
            [
                *(self.when[r] - 1 for r in (*self.all_reductions, *across)),
                *(self.when[self.outputs[k]] for k in self.full),
            ],
            default=0,
        )
        self.reductions = [[r for r in self.all_reductions if self.when[r] - 1 == q] for q in range(self.count)]
        self.across = [[r for r in across if self.when[r] - 1 == q] for q in range(self.count)]
        self._sink()
        store = {k: self.when[self.outputs[k]] for k in self.full}
        while self._schedule(store, scopes):
            pass

    def _place(self, node: Node) -> None:
        place = self.layout.place(node)
        if place is not None:
            self.when[node] = 0
            if self._changes(place.strides):
                self.inner.add(node)
            return
        if self.layout.is_leaf(node):
            self.when[node] = 0
            if node.op.name == "gather" and any(map(self._changes, self.layout.gathered(node).strides)):
                self.inner.add(node)
            return
        self.when[node] = max(self.when[x] for x in node.inputs) + (node.op.kind == "reduction")
        if node.op.kind != "reduction" and any(x in self.inner for x in node.inputs):
            self.inner.add(node)

    def _begins_once(self, node: Node) -> bool:
        """Whether ``node`` is a gather whose indices are the same for a whole unit, and in all its lanes."""
        if node.op.name != "gather":
            return False
        found = self.layout.gathered(node).index_strides
        return not any(strides[-1] != 0 or self._changes(strides) for strides in found)

    def _changes(self, strides: tuple[int, ...]) -> bool:
        """Whether a place with these strides changes along the reduced axes."""
        assert self.layout.axes is not None
        return any(s != 0 and axis.reduced for s, axis in zip(strides, self.layout.axes, strict=True))

    def _sink(self) -> None:
        """Compute nodes in the phase that first uses them where no more than their one computed operand has to wait."""
        first_use: dict[Node, int] = {self.outputs[k]: self.when[self.outputs[k]] for k in self.full}
        for node in reversed(self.order):
            is_reduction = node.op.kind == "reduction"
            if node in self.inner and not self.layout.is_leaf(node):
                computed = [x for x in node.inputs if x in self.inner and not self.layout.is_leaf(x)]
                if len(computed) <= 1:
                    self.when[node] = max(self.when[node], first_use[node])
            if self.layout.is_leaf(node):
                continue
            for x in node.inputs:
                use = self.when[node] - 1 if is_reduction else self.when[node]
                first_use[x] = min(first_use.get(x, use), use)

    def _schedule(self, store: dict[int, int], scopes: Sequence[int]) -> bool:
        """Find what crosses from phase to phase if output k is written in phase ``store[k]``. An output may lie where
        an argument lies: if that is read in a later phase, delay the output and return True."""
        self.stored = [[k for k in self.full if store[k] == q] for q in range(self.count)]
        self.saved: list[list[Node]] = [[] for _ in range(self.count)]
        self.loaded: list[list[Node]] = [[] for _ in range(self.count)]
        last_read: dict[int, int] = {}
        for q in reversed(range(self.count)):
            seen: set[Node] = set()
            stack = self.wanted(q)
            while stack:
                node = stack.pop()
                if node in seen or node not in self.inner:
                    continue
                seen.add(node)
                place = self.layout.place(node)
                if place is not None:
                    last_read.setdefault(scopes[place.position] if place.position >= 0 else -1, q)
                elif self.when[node] < q and not self._repeatable(node):
                    self.loaded[q].append(node)
                    if self.output_of(node, q) is None and node not in self.saved[self.when[node]]:
                        self.saved[self.when[node]].append(node)
                elif not self.layout.is_leaf(node):
                    stack.extend(node.inputs)
        delayed = False
        for k in self.full:
            last = last_read.get(scopes[len(self.layout.body.inputs) + k], 0)
            if last > store[k]:
                store[k], delayed = last, True
        return delayed

    def wanted(self, q: int) -> list[Node]:
        """What phase q computes at each point, besides what that needs."""
        found = (
            [r.inputs[0] for r in (*self.reductions[q], *self.across[q])]
            + [self.outputs[k] for k in self.stored[q]]
            + self.saved[q]
        )
        return list(dict.fromkeys(found))

    def totals(self, q: int) -> list[Node]:
        """The reductions over all axes that phase q takes part in."""
        return [node for node in self.across[q] if node in self.every_total]

    def output_of(self, node: Node, q: int) -> int | None:
        """An output that holds ``node`` in full precision since before phase q."""
        if is_narrow(node.type.dtype):
            return None
        return next((k for p in range(q) for k in self.stored[p] if self.outputs[k] is node), None)

    def _repeatable(self, node: Node) -> bool:
        """True for a few ops, none of which can round differently in another place."""
        stack, ops = [node], 0
        while stack:
            node = stack.pop()
            if node not in self.inner or self.layout.is_leaf(node):
                continue
            ops += 1
            if node.op.name not in _REPEATABLE or ops > _MOST_REPEATED:
                return False
            stack.extend(node.inputs)
        return True

    def known_before(self, q: int) -> list[Node]:
        """The nodes that are the same for a whole unit and are first known before phase q."""
        return [n for n in self.order if n not in self.inner and n.op.kind != "reduction" and self.when[n] == q]

    def body_size(self) -> float:
        """The text of the largest phase, counted in plain ops."""
        return max(sum(map(text_size, self._computed(q))) for q in range(self.count))

    def has_chains(self) -> bool:
        """Whether a phase gains from vectors that are worked on side by side."""
        return any(vectors_side_by_side(self._computed(q)) > 1 for q in range(self.count))

    def _computed(self, q: int) -> list[Node]:
        needed = self.layout.needed(self.wanted(q), self.loaded[q])
        return [node for node in needed if node in self.inner and not self.layout.is_leaf(node)]

    @property
    def splits(self) -> bool:
        """Whether partial results of chunks can be combined afterwards: one phase, and nothing computed per unit on
        both sides of it."""
        if self.count > 1:
            return False
        return all(self.layout.is_leaf(node) for node in self.known_before(0))


# ------------------------------------------------------------------------------------------------ shape of the loops


@dataclass(frozen=True, slots=True)
class Shape:
    """The loops: units over ``outer`` kept axes (and ``blocks`` of columns), inside them a loop over ``rows``
    (reduced axes that lanes do not run along), and vectors along the last axis, which is reduced in a row kernel and
    kept in a column kernel.

    ``width`` vectors are worked on at once. ``resident``: all vectors of a row, which then stay in registers.
    ``chunks``: parts of a long reduction, along ``rows`` if there are any, each ``chunk`` long; where reductions go
    across units, parts of these.
    """

    axes: tuple[Axis, ...]
    outer: tuple[int, ...]
    rows: tuple[int, ...]
    width: int
    resident: bool
    chunks: int
    chunk: int

    @staticmethod
    def of(layout: Layout, phases: Phases) -> Shape:
        assert layout.axes
        axes, last = layout.axes, len(layout.axes) - 1
        outer = tuple(k for k, axis in enumerate(axes) if not axis.reduced and k != last)
        rows = tuple(k for k, axis in enumerate(axes) if axis.reduced and k != last)
        vectors, size = -(-axes[last].extent // LANES), phases.body_size()
        width = 4 if size <= SMALL_BODY or phases.has_chains() else 2 if size <= MEDIUM_BODY else 1
        if any(r.op.combine in (">", "<") for r in phases.all_reductions) and axes[last].reduced:
            width = 1
        resident = (
            axes[last].reduced and not rows and last > 0 and 0 < vectors <= (RESIDENT if size <= MEDIUM_BODY else 1)
        )
        if not axes[last].reduced:
            width = max(1, min(width, vectors))
        elif last > 0 and vectors < 2 * width:
            width = 1
        shape = Shape(axes, outer, rows, width, resident, 1, 0)
        if phases.all_across:
            elements = max(shape.elements // max(shape.units, 1), 1)
            chunk = min(max(-(-CHUNK // elements), -(-shape.units // FEW_CHUNKS), 1), BLOCK)
            return replace(shape, chunk=chunk, chunks=-(-shape.units // chunk))
        if not phases.splits or shape.units > FEW_UNITS or shape.elements < LONG:
            return shape
        if not rows:
            return replace(shape, chunk=CHUNK, chunks=-(-shape.length // CHUNK))
        chunk = -(-max(1, CHUNK // max(shape.elements // shape.row_count, 1)) // BLOCK) * BLOCK
        return replace(shape, chunk=chunk, chunks=-(-shape.row_count // chunk))

    @property
    def is_row(self) -> bool:
        return self.axes[-1].reduced

    @property
    def length(self) -> int:
        """Extent of the vector axis."""
        return self.axes[-1].extent

    @property
    def row_count(self) -> int:
        return math.prod(self.axes[k].extent for k in self.rows)

    @property
    def elements(self) -> int:
        return math.prod(axis.extent for axis in self.axes)

    @property
    def blocks(self) -> int:
        """Blocks of columns."""
        return 1 if self.is_row else -(-self.length // (LANES * self.width))

    @property
    def units(self) -> int:
        return math.prod(self.axes[k].extent for k in self.outer) * self.blocks

    @property
    def grain(self) -> int:
        """Units that go to one thread together."""
        return max(1, UNIT // max(self.elements // max(self.units, 1), 1))

    @property
    def threads(self) -> int:
        return -(-self.units // self.grain)
