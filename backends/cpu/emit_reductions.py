"""Emitters of kernels with reductions: row (vectors run along the reduced axes) and column (along a kept one).

A unit is one place of the kept axes (row), or up to four vectors of them (column). Its reduced axes are run over once per
*phase*: phase 0 computes what the reductions of the first level need, phase 1 what those need that depend on their results,
and so on (softmax: the maximum; the sum of exponentials; the quotients). What a later phase needs again is

- read again, where it is memory or an output that was stored in full precision,
- computed again, where that takes an operation or two that cannot round differently (nothing that contracts into an FMA),
- kept in the thread's scratch, everything else. A producer is never evaluated twice: ``exp(x - max(x))`` would overflow if
  the two ``x`` were rounded differently.

Rows of a few vectors keep everything in registers instead.

The order of every reduction is fixed by shapes: sixteen lanes (and one or four vectors) run along the axis, sums of floats in
blocks of at most 128 rows or 2048 elements that are added up, lanes are combined in a tree. Long reductions into few results
are cut into chunks of a fixed size, whose partial results a second kernel combines.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from graphc.backends.cpu.codegen import LANES, Code, Emission, alias_scopes, compute_dtype, dtype_name, is_narrow, op_cost
from graphc.backends.cpu.emit_loops import UNIT, access_cost, elementwise_loops, loop_extents, ragged, split_index
from graphc.backends.cpu.loops import Axis, Layout, Point, Values, load_from, store_to
from graphc.ir import Node
from graphc.ops.reduction import highest, lowest
from graphc.passes.access import contiguous_strides
from graphc.passes.schedule import Kernel
from graphc.types import DType, i32, i64, u8

BLOCK = 128  # vectors of a float sum that are added one after another; the blocks' sums are added up
CHUNK = 1 << 15  # elements of a long reduction that are one unit
LONG = 1 << 17  # elements from which a reduction with few units is cut into chunks
FEW_UNITS = 8
RESIDENT = 4  # vectors of a row that stay in registers
SMALL_BODY = 5  # nodes: up to here four vectors are worked on at once
MEDIUM_BODY = 16

HORIZONTAL = {
    "reduce_sum": "reduce_add", "reduce_prod": "reduce_mul", "reduce_max": "reduce_max", "reduce_min": "reduce_min",
    "reduce_and": "reduce_and", "reduce_or": "reduce_or",
}  # fmt: skip
#: ops that give the same bits wherever they are written: no product that could contract into a following addition
_REPEATABLE = frozenset(
    "add sub neg abs sign maximum minimum select cast eq ne lt le gt ge isnan isfinite floor ceil trunc rint "
    "bit_and bit_or bit_xor bit_not alias stop_gradient broadcast_to".split()
)
_MOST_REPEATED = 3  # ops that are computed again rather than kept


def row(kernel: Kernel) -> Code:
    """Reductions along the last axis (and others)."""
    return _reduction(kernel)


def column(kernel: Kernel) -> Code:
    """Reductions along other axes than the last."""
    return _reduction(kernel)


def _reduction(kernel: Kernel) -> Code:
    """The template names the usual case; axes of extent 1 can turn one into the other, or leave nothing to reduce."""
    layout = Layout(kernel.body, kernel.domain.extents, kernel.domain.reduced).collapse(kernel.body.outputs)
    if not any(axis.reduced for axis in layout.axes or ()):
        return elementwise_loops(kernel, layout)
    phases = Phases(layout, alias_scopes(kernel.body.input_types, kernel.body.output_types))
    shape = Shape.of(layout, phases)
    writer = _Writer(Emission(kernel, _title(shape)), phases, shape)
    if shape.chunks == 1:
        writer.write()
        return writer.e.code(shape.threads, cost(phases, shape))
    writer.write_partial()
    combine = _Writer(Emission(kernel, f"{_title(shape)}, combining partial results"), phases, shape)
    combine.write_combined()
    then = combine.e.code(shape.units, shape.chunks * shape.units * len(phases.all_reductions))
    return writer.e.code(shape.chunks * shape.units, cost(phases, shape), then)


def _title(shape: Shape) -> str:
    reduced = [k for k, axis in enumerate(shape.axes) if axis.reduced]
    return f"{'row' if shape.is_row else 'column'} over {loop_extents(shape.axes)}, reduced {reduced}"


def cost(phases: Phases, shape: Shape) -> float:
    """Estimated nanoseconds on one thread."""
    layout, total = phases.layout, 0.0
    for q in range(phases.count):
        for node in layout.needed(phases.wanted(q), phases.loaded[q]):
            place = layout.place(node)
            total += op_cost(node) if place is None else access_cost(place.strides, shape.vector)
        total += 1.5 * (len(phases.loaded[q]) + len(phases.saved[q]) + len(phases.stored[q]))
    vectors = shape.elements / LANES if not shape.is_row else shape.elements / max(shape.length, 1) * -(-shape.length // LANES)
    return total * vectors + 8.0 * len(phases.all_reductions) * shape.units


# ------------------------------------------------------------------------------------------------ phases


class Phases:
    """When each node of a body with reductions is computed.

    A node is *inner* if it changes along the reduced axes; others are known per unit. ``when[node]`` is the phase that an
    inner node is computed in, and the phase before which any other node is known. ``stored[q]`` are the (numbers of)
    full-size outputs that phase q writes, ``saved[q]`` the nodes that it puts into scratch, ``loaded[q]`` those that it gets
    from there or from an output.
    """

    def __init__(self, layout: Layout, scopes: Sequence[int]) -> None:
        self.layout = layout
        self.outputs = layout.body.outputs
        self.order = layout.needed(self.outputs)
        self.inner: set[Node] = set()
        self.when: dict[Node, int] = {}
        for node in self.order:
            self._place(node)
        self.all_reductions = [node for node in self.order if node.op.kind == "reduction"]
        assert layout.extents is not None
        self.full = [k for k, node in enumerate(self.outputs) if node.type.ndim == len(layout.extents)]
        self.count = 1 + max(
            [*(self.when[r] - 1 for r in self.all_reductions), *(self.when[self.outputs[k]] for k in self.full)], default=0
        )
        self.reductions = [[r for r in self.all_reductions if self.when[r] - 1 == q] for q in range(self.count)]
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
            return
        self.when[node] = max(self.when[x] for x in node.inputs) + (node.op.kind == "reduction")
        if node.op.kind != "reduction" and any(x in self.inner for x in node.inputs):
            self.inner.add(node)

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
        """Find what crosses from phase to phase if output k is written in phase ``store[k]``. An output may lie where an
        argument lies: if that is read in a later phase, delay the output and return True."""
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
        found = [r.inputs[0] for r in self.reductions[q]] + [self.outputs[k] for k in self.stored[q]] + self.saved[q]
        return list(dict.fromkeys(found))

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

    def body_size(self) -> int:
        """Computed nodes of the largest phase."""
        return max(sum(not self.layout.is_leaf(n) for n in self.layout.needed(self.wanted(q), self.loaded[q]))
                   for q in range(self.count))  # fmt: skip

    @property
    def splits(self) -> bool:
        """Whether partial results of chunks can be combined afterwards: one phase, and nothing computed per unit on both
        sides of it."""
        if self.count > 1:
            return False
        before = {n for n in self.known_before(0) if not self.layout.is_leaf(n)}
        return not before


# ------------------------------------------------------------------------------------------------ shape of the loops


@dataclass(frozen=True, slots=True)
class Shape:
    """The loops: units over ``outer`` kept axes (and ``blocks`` of columns), inside them a loop over ``rows`` (reduced axes that
    lanes do not run along), and vectors along the last axis, which is reduced in a row kernel and kept in a column kernel.

    ``width`` vectors are worked on at once. ``resident``: all vectors of a row, which then stay in registers.
    ``chunks``: parts of a long reduction, along ``rows`` if there are any, each ``chunk`` long.
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
        width = 4 if size <= SMALL_BODY else 2 if size <= MEDIUM_BODY and not axes[last].reduced else 1
        if any(r.op.combine in (">", "<") for r in phases.all_reductions) and axes[last].reduced:
            width = 1
        resident = axes[last].reduced and not rows and last > 0 and vectors <= (RESIDENT if size <= MEDIUM_BODY else 1)
        if not axes[last].reduced:
            width = max(1, min(width, vectors))
        elif last > 0 and vectors < 2 * width:
            width = 1
        shape = Shape(axes, outer, rows, width, resident, 1, 0)
        if not phases.splits or shape.units * (1 if shape.is_row else shape.blocks) > FEW_UNITS or shape.elements < LONG:
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


# ------------------------------------------------------------------------------------------------ accumulators


class Accumulator:
    """The partial result of one reduction, in one variable (argmax and argmin: two) per vector that is worked on at once.

    ``prefix`` tells the sum of a block (``b``) from the whole (``a``).
    """

    def __init__(self, e: Emission, node: Node, nonempty: bool, prefix: str = "a") -> None:
        self.e, self.node = e, node
        self.number = e.numbers[node]
        self.prefix = prefix
        self.nonempty = nonempty
        self.dtype = compute_dtype(node.inputs[0].type.dtype)
        self.is_arg = node.op.combine in (">", "<")
        if self.is_arg and self.dtype.kind == "b":
            self.dtype = u8
        axis_extent = node.inputs[0].type.shape[node["axis"]] if self.is_arg else 0
        self.index_dtype = i32 if axis_extent < 2**31 else i64

    @property
    def is_float_sum(self) -> bool:
        return self.node.op.name == "reduce_sum" and self.dtype.is_float

    def of_blocks(self) -> Accumulator:
        """The accumulator of one block of a float sum; for other reductions this one."""
        return Accumulator(self.e, self.node, self.nonempty, "b") if self.is_float_sum else self

    def name(self, suffix: str) -> str:
        return f"{self.prefix}{self.number}{suffix}"

    def place(self, suffix: str) -> str:
        """The variable with the place of the extreme value."""
        return f"place{self.number}{suffix}"

    @property
    def identity(self) -> str:
        """The number that changes nothing, as a literal. That of float sums is -0.0 (0.0 + -0.0 would lose a sign), unless
        nothing at all is added up."""
        if self.is_arg:
            return literal(self.dtype, (lowest if self.node.op.combine == ">" else highest)(self.dtype))
        assert self.node.op.identity is not None
        if self.is_float_sum:
            return "-0.0" if self.nonempty else "0.0"
        return literal(self.dtype, self.node.op.identity(self.dtype))

    def start(self, suffix: str, index: str | None = None) -> None:
        """``index``: the places of the lanes, where they differ."""
        self.e.line(f"{self.name(suffix)} = splat({self.identity}, {dtype_name(self.dtype)})")
        if self.is_arg:
            dtype = dtype_name(self.index_dtype)
            self.e.line(f"{self.place(suffix)} = " + (f"lanes_of(0, {dtype})" if index == "lanes" else f"splat(0, {dtype})"))

    def update(self, suffix: str, value: str, place: str = "") -> None:
        """Combine with another vector, whose elements have the places ``place`` (an expression)."""
        name = self.name(suffix)
        if not self.is_arg:
            assert self.node.op.combine is not None
            self.e.line(f"{name} = {self.node.op.combine.format(name, value)}", f"v{self.number}: {self.node.op.name}")
            return
        wins = f"{value} {self.node.op.combine} {name}"
        if self.dtype.is_float:
            wins = f"({wins}) | ({value} != {value}) & ({name} == {name})"
        self.e.line(f"wins = {wins}", f"v{self.number}: {self.node.op.name}")
        self.e.line(f"{name} = select(wins, {value}, {name})")
        self.e.line(f"{self.place(suffix)} = select(wins, {place}, {self.place(suffix)})")

    def merge(self, suffixes: Sequence[str]) -> None:
        """Combine the vectors that were worked on at once into the first of them."""
        names = [self.name(suffix) for suffix in suffixes]
        while len(names) > 1:
            half = len(names) // 2
            assert self.node.op.combine is not None
            for k in range(half):
                self.e.line(f"{names[k]} = {self.node.op.combine.format(names[k], names[k + half])}")
            names = names[:half]

    def finish(self, suffix: str, across_lanes: bool) -> str:
        """The variable with the result, in all lanes where it was combined ``across_lanes``."""
        result, name, place = f"v{self.number}{suffix}", self.name(suffix), self.place(suffix)
        if not across_lanes:
            self.e.line(f"{result} = " + (f"cast({place}, i64)" if self.is_arg else name))
        elif not self.is_arg:
            self.e.line(f"{result} = {HORIZONTAL[self.node.op.name]}({name})")
        else:
            best = HORIZONTAL["reduce_max" if self.node.op.combine == ">" else "reduce_min"]
            ties = f"{name} == {best}({name})"
            if self.dtype.is_float:
                ties = f"({ties}) | ({name} != {name})"
            beyond = f"splat({literal(self.index_dtype, highest(self.index_dtype))}, {dtype_name(self.index_dtype)})"
            self.e.line(f"{result} = cast(reduce_min(select({ties}, {place}, {beyond})), i64)")
        return result


def literal(dtype: DType, value: float | bool) -> str:
    """A number as kernel source writes it; integers above int64 wrap."""
    if dtype.is_float:
        return repr(float(value))
    number = int(value)
    return str(number - 2**64 if number >= 2**63 else number)


# ------------------------------------------------------------------------------------------------ writing


class _Writer:
    """Writes the loops of a reduction.

    Kept axes have the index variables ``i0 i1 …``, as have reduced ones; ``r`` numbers the rows.
    """

    def __init__(self, e: Emission, phases: Phases, shape: Shape) -> None:
        self.e, self.phases, self.shape, self.layout = e, phases, shape, phases.layout
        self.extents: list[str | int] = [axis.extent for axis in shape.axes]
        self.extents[0] = e.word(shape.axes[0].extent, "n0")
        self.index: list[str | int] = [f"i{k}" for k in range(len(shape.axes))]
        self.vector = len(shape.axes) - 1
        nonempty = all(axis.extent for axis in shape.axes if axis.reduced)
        self.accumulators = {node: Accumulator(e, node, nonempty) for node in phases.all_reductions}
        self.row_index = f"i{shape.rows[0]}" if len(shape.rows) == 1 else "r"
        self.low: str | int = 0  # the part of the chunked loop that is run over: rows if there are any, else vectors
        self.high: str | int = self._extent(shape.rows) if shape.rows else self.extents[-1]
        self.suffixes = [f"_{c}" for c in range(shape.width)] if shape.width > 1 else [""]
        self.kept_at: dict[Node, tuple[str, int]] = {}  # what goes through scratch: pointer, alias scope

    # -------------------------------------------------------------------------------------------- whole kernels

    def write(self) -> None:
        """The kernel in one step."""
        self._make_scratch()
        with self._units(1):
            for values, points in self._unit_points():
                for q in range(self.phases.count):
                    self._unit_nodes(values, points, q)
                    self._phase(values, points, q)
                    self._finish(values, q)
                self._unit_nodes(values, points, self.phases.count)
                self._store_kept(values, points)

    def write_partial(self) -> None:
        """The first of two steps: chunks of the reduced axes, the accumulators stored into shared scratch."""
        pointers = self._partials()
        length = self.high
        with self._units(self.shape.chunks):
            size = self.shape.chunk
            self.e.line(f"low = chunk * {size}")
            self.e.line(f"high = min(low + {size}, {length})")
            self.low, self.high = "low", "high"
            for values, points in self._unit_points():
                self._unit_nodes(values, points, 0)
                self._phase(values, points, 0)
                for pointer, scope, dtype, name_of in pointers:
                    for suffix, at in self._partial_places("chunk"):
                        self.e.line(f"store({pointer}, {at}, {name_of(suffix)}, {dtype}, {scope})")

    def write_combined(self) -> None:
        """The second step: the chunks' accumulators combined in order, then what follows from the results."""
        pointers = self._partials()
        chunks = f"((({self.high}) + {self.shape.chunk - 1}) // {self.shape.chunk})"
        with self._units(1):
            for values, points in self._unit_points():
                for accumulator in self.accumulators.values():
                    for suffix in self._unit_suffixes(points):
                        accumulator.start(suffix, "lanes" if self.shape.is_row else None)
                with self.e.block(f"for chunk in range({chunks}):"):
                    for suffix, at in self._partial_places("chunk"):
                        if suffix in self._unit_suffixes(points):
                            self._combine(pointers, suffix, at)
                self._finish(values, 0)
                self._unit_nodes(values, points, 1)
                self._store_kept(values, points)
