"""Emitters of kernels with reductions: row (vectors run along the reduced axes) and column (along a kept one).

A unit is one place of the kept axes (row), or up to four vectors of them (column). Its reduced axes are run over once
per *phase*: phase 0 computes what the reductions of the first level need, phase 1 what those need that depend on
their results, and so on (softmax: the maximum; the sum of exponentials; the quotients). What a later phase needs
again is

- read again, where it is memory or an output that was stored in full precision,
- computed again, where that takes an operation or two that cannot round differently (nothing that contracts into an
  FMA),
- kept in the thread's scratch, everything else. A producer is never evaluated twice: ``exp(x - max(x))`` would
  overflow if
  the two ``x`` were rounded differently.

Rows of a few vectors keep everything in registers instead.

The order of every reduction is fixed by shapes: sixteen lanes (and one or four vectors) run along the axis, sums of
floats in blocks of at most 128 rows or 2048 elements that are added up, lanes are combined in a tree. Long reductions
into few results are cut into chunks of a fixed size, whose partial results a second kernel combines.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from graphc.backends.cpu.codegen import (
    CONTIGUOUS,
    LANES,
    Code,
    Emission,
    alias_scopes,
    compute_dtype,
    dtype_name,
    is_narrow,
    linear,
    op_cost,
    text_size,
)  # fmt: skip
from graphc.backends.cpu.emit_loops import (
    UNIT,
    Vectors,
    access_cost,
    elementwise_loops,
    gather_cost,
    loop_extents,
    share_units,
    split_index,
    vector_loop,
    vectors_side_by_side,
)  # fmt: skip
from graphc.backends.cpu.loops import Axis, Layout, Point, Values, load_from
from graphc.ir import Node
from graphc.ops.reduction import highest, lowest
from graphc.passes.schedule import Kernel
from graphc.types import DType, i32, i64, u8

BLOCK = 128  # vectors of a float sum that are added one after another; the blocks' sums are added up
CHUNK = 1 << 15  # elements of a long reduction that are one unit
LONG = 1 << 17  # elements from which a reduction with few units is cut into chunks
FEW_UNITS = 8
RESIDENT = 4  # vectors of a row that stay in registers
SMALL_BODY = 5  # nodes: up to here four vectors are worked on at once
MEDIUM_BODY = 16

HORIZONTAL_COST = 3.0  # nanoseconds of combining sixteen lanes
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
        return writer.e.code(shape.threads, max(cost(phases, shape), writer.e.memory_cost))
    writer.write_partial()
    combine = _Writer(Emission(kernel, f"{_title(shape)}, combining partial results"), phases, shape)
    combine.write_combined()
    then = combine.e.code(shape.units, shape.chunks * shape.units * len(phases.all_reductions))
    work = max(cost(phases, shape), writer.e.memory_cost)
    return writer.e.code(shape.chunks * shape.units, work, then)


def _title(shape: Shape) -> str:
    reduced = [k for k, axis in enumerate(shape.axes) if axis.reduced]
    return f"{'row' if shape.is_row else 'column'} over {loop_extents(shape.axes)}, reduced {reduced}"


def cost(phases: Phases, shape: Shape) -> float:
    """Estimated nanoseconds on one thread."""
    layout, axis = phases.layout, len(shape.axes) - 1
    rows = shape.elements / max(shape.length, 1)
    vectors, inner, outer = rows * -(-shape.length // LANES), 0.0, HORIZONTAL_COST * len(phases.all_reductions)
    for q in range(phases.count):
        for node in layout.needed(phases.wanted(q), phases.loaded[q]):
            place = layout.place(node)
            each = op_cost(node) if place is None else access_cost(place.strides, axis)
            if node.op.name == "gather":
                each = gather_cost(layout, node, axis)
            if node in phases.inner:
                inner += each
            else:
                outer += each
        inner += CONTIGUOUS * (len(phases.loaded[q]) + len(phases.saved[q]) + len(phases.stored[q]))
    return inner * vectors + outer * shape.units


# ------------------------------------------------------------------------------------------------ phases


class Phases:
    """When each node of a body with reductions is computed.

    A node is *inner* if it changes along the reduced axes; others are known per unit. ``when[node]`` is the phase
    that an inner node is computed in, and the phase before which any other node is known. ``stored[q]`` are the
    (numbers of) full-size outputs that phase q writes, ``saved[q]`` the nodes that it puts into scratch,
    ``loaded[q]`` those that it gets from there or from an output.
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
        self.gathers = [node for node in self.order if node in self.inner and self._begins_once(node)]
        assert layout.extents is not None
        self.full = [k for k, node in enumerate(self.outputs) if node.type.ndim == len(layout.extents)]
        self.count = 1 + max(
            [*(self.when[r] - 1 for r in self.all_reductions), *(self.when[self.outputs[k]] for k in self.full)],
            default=0,
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


# ------------------------------------------------------------------------------------------------ accumulators


class Accumulator:
    """The partial result of one reduction, in one variable (argmax and argmin: two) per vector that is worked on at
    once.

    ``prefix`` tells the sum of a block (``b``) from the whole (``a``).
    """

    def __init__(self, e: Emission, node: Node, prefix: str = "a") -> None:
        self.e, self.node = e, node
        self.number = e.numbers[node]
        self.prefix = prefix
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
        return Accumulator(self.e, self.node, "b") if self.is_float_sum else self

    def name(self, suffix: str) -> str:
        return f"{self.prefix}{self.number}{suffix}"

    def place(self, suffix: str) -> str:
        """The variable with the place of the extreme value."""
        return f"place{self.number}{suffix}"

    @property
    def identity(self) -> str:
        """The number that changes nothing, as a literal."""
        if self.is_arg:
            return literal(self.dtype, (lowest if self.node.op.combine == ">" else highest)(self.dtype))
        assert self.node.op.identity is not None
        return literal(self.dtype, self.node.op.identity(self.dtype))

    @property
    def variables(self) -> list[tuple[str, DType]]:
        """Its variables, without suffix, and their element types."""
        found = [(self.name(""), self.dtype)]
        return [*found, (self.place(""), self.index_dtype)] if self.is_arg else found

    def start(self, suffix: str, along_lanes: bool = False) -> None:
        """Before the first vector. ``along_lanes``: lanes run along the reduced axis, so that their first places
        differ."""
        self.e.line(f"{self.name(suffix)} = splat({self.identity}, {dtype_name(self.dtype)})")
        if self.is_arg:
            first = "lanes_of" if along_lanes else "splat"
            self.e.line(f"{self.place(suffix)} = {first}(0, {dtype_name(self.index_dtype)})")

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

    ``i0 i1 …`` are the indices along the axes of the loops, ``r`` numbers the rows where these are several axes. What
    is computed per unit is held in one :class:`Values` per vector: one in a row kernel (all lanes are the same
    place), one for each vector of a block of columns.
    """

    def __init__(self, e: Emission, phases: Phases, shape: Shape) -> None:
        self.e, self.phases, self.shape, self.layout = e, phases, shape, phases.layout
        self.extents: list[str | int] = [axis.extent for axis in shape.axes]
        self.extents[0] = e.word(shape.axes[0].extent, "n0")
        self.index: list[str | int] = [f"i{k}" for k in range(len(shape.axes))]
        self.vector = len(shape.axes) - 1
        self.accumulators = {node: Accumulator(e, node) for node in phases.all_reductions}
        self.row = f"i{shape.rows[0]}" if len(shape.rows) == 1 else "r"
        self.low: str | int = 0  # the range of rows, or of vectors where there are no rows
        self.high: str | int = self._product(shape.rows) if shape.rows else self.extents[-1]
        self.suffixes = [f"_{c}" for c in range(shape.width)] if shape.width > 1 else [""]
        self.scratch: dict[Node, tuple[str, int]] = {}  # what goes through scratch: pointer, alias scope

    def _product(self, axes: Sequence[int]) -> str | int:
        """The product of extents, as text if one of them is known at run time only."""
        static = math.prod(n for k in axes if isinstance(n := self.extents[k], int))
        dynamic = [n for k in axes if isinstance(n := self.extents[k], str)]
        if not dynamic:
            return static
        return dynamic[0] if static == 1 else f"{dynamic[0]} * {static}"

    # -------------------------------------------------------------------------------------------- whole kernels

    def write(self) -> None:
        """The kernel in one step."""
        if not self.shape.resident:
            self._make_scratch()
        with self._units():
            for values, points in self._blocks():
                rows = self._resident_rows(values[0]) if self.shape.resident else []
                for q in range(self.phases.count):
                    self._emit_unit_nodes(values, points, q)
                    if self.shape.resident:
                        self._resident_phase(values[0], rows, q)
                    else:
                        self._phase(values, points, q)
                    self._finish(values, q)
                self._emit_unit_nodes(values, points, self.phases.count)
                self._store_kept(values, points)

    def write_partial(self) -> None:
        """The first of two steps: each chunk of the reduced axes leaves its accumulators in shared scratch."""
        partials = self._partials()
        with self._units(chunked=True) as unit:
            self.e.line(f"low = chunk * {self.shape.chunk}")
            self.e.line(f"high = min(low + {self.shape.chunk}, {self.high})")
            self.low, self.high = "low", "high"
            for values, points in self._blocks():
                self._emit_unit_nodes(values, points, 0)
                self._phase(values, points, 0)
                for pointer, scope, dtype, variable in partials:
                    for c, value in enumerate(values):
                        at = linear((unit, LANES * self.shape.width), (LANES * c, 1))
                        self.e.line(f"store({pointer}, {at}, {variable}{value.suffix}, {dtype_name(dtype)}, {scope})")

    def write_combined(self) -> None:
        """The second step: the chunks' accumulators combined in order, and what follows from the results."""
        partials = self._partials()
        chunks = self._chunks()
        with self._units() as unit:
            for values, points in self._blocks():
                for accumulator in self.accumulators.values():
                    for value in values:
                        accumulator.start(value.suffix, self.shape.is_row)
                with self.e.block(f"for chunk in range({chunks}):"):
                    first, last = ("chunk", unit) if isinstance(chunks, str) else (unit, "chunk")
                    number = linear((first, self.shape.units if isinstance(chunks, str) else chunks), (last, 1))
                    for c, value in enumerate(values):
                        at = linear((number, LANES * self.shape.width), (LANES * c, 1))
                        self._combine(partials, at, value.suffix)
                self._finish(values, 0)
                self._emit_unit_nodes(values, points, 1)
                self._store_kept(values, points)

    def _combine(self, partials: Sequence[tuple[str, int, DType, str]], at: str, suffix: str) -> None:
        loaded = []
        for k, (pointer, scope, dtype, _) in enumerate(partials):
            loaded.append(f"part{k}{suffix}")
            self.e.line(f"{loaded[-1]} = load({pointer}, {at}, {dtype_name(dtype)}, {scope})")
        parts = iter(loaded)
        for accumulator in self.accumulators.values():
            accumulator.update(suffix, next(parts), next(parts) if accumulator.is_arg else "")

    def _partials(self) -> list[tuple[str, int, DType, str]]:
        """Shared scratch for the variables of accumulators: pointer, alias scope, element type, variable."""
        vectors = self.shape.chunks * self.shape.units * self.shape.width
        found = []
        for accumulator in self.accumulators.values():
            for stem, dtype in accumulator.variables:
                pointer = self.e.shared(vectors * LANES * dtype.itemsize)
                found.append((pointer, self.e.new_scope(), dtype, stem))
        return found

    # -------------------------------------------------------------------------------------------- units

    def _chunks(self) -> str | int:
        size = self.shape.chunk
        return -(-self.high // size) if isinstance(self.high, int) else f"(({self.high} + {size - 1}) // {size})"

    @contextlib.contextmanager
    def _units(self, chunked: bool = False) -> Iterator[str]:
        """The loop over this thread's units; yields the number of one."""
        shape = self.shape
        parts: list[tuple[str, str | int]] = [(f"i{k}", self.extents[k]) for k in shape.outer]
        if shape.blocks > 1:
            parts.append(("block", shape.blocks))
        if chunked:
            parts.append(("chunk", self._chunks()))
        if parts:
            with share_units(self.e, parts, 1 if chunked else shape.grain) as unit:
                yield unit
        else:
            with self.e.block("if thread == 0:"):
                yield "0"

    def _blocks(self) -> Iterator[tuple[list[Values], list[Point]]]:
        """The vectors of a unit: yields inside a block for full blocks of columns, and inside one for the ragged last
        one."""
        if self.shape.is_row:
            yield [Values(self.e, self.layout, self.suffixes[0])], [Point(tuple(self.index), None)]
            return
        size, length = LANES * self.shape.width, self.shape.length
        whole, rest = divmod(length, size)
        if self.shape.blocks == 1:
            self.index[-1] = 0
            yield self._columns(rest or size)
            return
        self.e.line(f"i{self.vector} = block * {size}")
        if not rest:
            yield self._columns(size)
            return
        with self.e.block(f"if block < {whole}:"):
            yield self._columns(size)
        with self.e.block("else:"):
            yield self._columns(rest)

    def _columns(self, count: int) -> tuple[list[Values], list[Point]]:
        values, points = [], []
        for c in range(-(-count // LANES)):
            lanes = count - c * LANES
            points.append(self._point(c * LANES, lanes if lanes < LANES else None))
            values.append(Values(self.e, self.layout, self.suffixes[c]))
        return values, points

    def _point(self, shift: int = 0, lanes: str | int | None = None) -> Point:
        """The place of a vector, ``shift`` elements behind the index of the vector axis."""
        first = self.index[-1]
        last = first + shift if isinstance(first, int) else f"{first} + {shift}" if shift else first
        return Point((*self.index[:-1], last), self.vector, lanes)

    def _emit_unit_nodes(self, values: Sequence[Values], points: Sequence[Point], q: int) -> None:
        for value, at in zip(values, points, strict=True):
            value.emit(self.phases.known_before(q), at)
            for node in self.phases.gathers if q == 0 else ():
                value.prepare(node, at)

    def _finish(self, values: Sequence[Values], q: int) -> None:
        for node in self.phases.reductions[q]:
            for value in values:
                value.set(node, self.accumulators[node].finish(value.suffix, self.shape.is_row))

    def _store_kept(self, values: Sequence[Values], points: Sequence[Point]) -> None:
        first = len(self.e.kernel.body.inputs)
        for k, node in enumerate(self.phases.outputs):
            if k not in self.phases.full:
                for value, at in zip(values, points, strict=True):
                    value.store(first + k, node, at)

    # -------------------------------------------------------------------------------------------- one phase

    def _phase(self, values: Sequence[Values], points: Sequence[Point], q: int) -> None:
        """Run over the reduced axes once."""
        accumulators = [self.accumulators[node] for node in self.phases.reductions[q]]
        suffixes = self.suffixes if self.shape.is_row else [value.suffix for value in values]
        for accumulator in accumulators:
            for suffix in suffixes:
                accumulator.start(suffix, self.shape.is_row)
        with self._rows(accumulators, suffixes) as current:
            if self.shape.is_row:
                self._row_vectors(values[0], q, current)
            else:
                self._bodies([value.child() for value in values], points, q, current)
        if self.shape.is_row:
            for accumulator in accumulators:
                accumulator.merge(suffixes)

    @contextlib.contextmanager
    def _rows(self, accumulators: Sequence[Accumulator], suffixes: Sequence[str]) -> Iterator[Sequence[Accumulator]]:
        """The loop over rows, if any; yields the accumulators to use inside."""
        if not self.shape.rows:
            yield accumulators
            return
        size = self._rows_of_block(accumulators)
        if size is None:
            with self.e.block(f"for {self.row} in range({self.low}, {self.high}):"):
                self._split_row()
                yield accumulators
            return
        with self._block(accumulators, suffixes, self.low, self.high, size) as (blocks, header):
            with self.e.block(f"for {self.row} in {header}:"):
                self._split_row()
                yield blocks

    def _split_row(self) -> None:
        if len(self.shape.rows) > 1:
            split_index(self.e, self.row, [(f"i{k}", self.extents[k]) for k in self.shape.rows])

    def _rows_of_block(self, accumulators: Sequence[Accumulator]) -> int | None:
        """How many rows a block of a float sum has; None: there are so few, or each is so long, that there are no
        blocks."""
        if not any(a.is_float_sum for a in accumulators):
            return None
        vectors = -(-self.shape.length // LANES) if self.shape.is_row else 1
        if vectors > 2 * BLOCK or (isinstance(self.high, int) and self.high * vectors <= 2 * BLOCK):
            return None
        return max(1, BLOCK // max(vectors, 1))

    @contextlib.contextmanager
    def _block(
        self,
        accumulators: Sequence[Accumulator],
        suffixes: Sequence[str],
        low: str | int,
        high: str | int,
        size: int,
        step: int = 1,
    ) -> Iterator[tuple[Sequence[Accumulator], str]]:
        """A loop over blocks whose float sums are added up; yields the accumulators and the range of one block."""
        blocks = [a.of_blocks() for a in accumulators]
        by = f", {step}" if step != 1 else ""
        with self.e.block(f"for first in range({low}, {high}, {size}):"):
            for b in blocks:
                if b.is_float_sum:
                    for suffix in suffixes:
                        b.start(suffix)
            yield blocks, f"range(first, min(first + {size}, {high}){by})"
            for a, b in zip(accumulators, blocks, strict=True):
                if b.is_float_sum:
                    for suffix in suffixes:
                        a.update(suffix, b.name(suffix))

    def _row_vectors(self, values: Values, q: int, accumulators: Sequence[Accumulator]) -> None:
        """The loop over the vectors of a row: as many as the shape is wide at once, the rest one by one."""
        e, index = self.e, f"i{self.vector}"
        low, high = (0, self.extents[-1]) if self.shape.rows else (self.low, self.high)
        step = LANES * self.shape.width
        long = isinstance(high, str) or high > 2 * BLOCK * LANES
        if long and any(a.is_float_sum for a in accumulators):
            whole: str | int = "whole"
            if isinstance(low, int) and isinstance(high, int):
                whole = low + (high - low) // step * step
            else:
                span = f"({high} - {low})" if low else high
                e.line("whole = " + linear((f"{span} // {step}", step), (low, 1)))
            with self._block(accumulators, self.suffixes, low, whole, BLOCK * LANES, step) as (blocks, header):
                with e.block(f"for {index} in {header}:"):
                    self._turn(values, q, [(LANES * c, None) for c in range(self.shape.width)], blocks)
            for rest in vector_loop(e, index, whole, high):
                self._turn(values, q, rest, accumulators)
            return
        for vectors in vector_loop(e, index, low, high, self.shape.width):
            self._turn(values, q, vectors, accumulators)

    def _turn(self, values: Values, q: int, vectors: Vectors, accumulators: Sequence[Accumulator]) -> None:
        """Vectors of a row side by side."""
        points = [self._point(shift, lanes) for shift, lanes in vectors]
        self._bodies([values.child(suffix) for suffix in self.suffixes[: len(points)]], points, q, accumulators)

    def _bodies(
        self, copies: Sequence[Values], points: Sequence[Point], q: int, accumulators: Sequence[Accumulator]
    ) -> None:
        """Vectors in phase ``q``, each with what is known for the unit."""
        phases = self.phases
        for values, at in zip(copies, points, strict=True):
            for node in phases.loaded[q]:
                name = values.name(node)
                self.e.line(f"{name} = {self._load(node, q, at, values.suffix)}", f"v{self.e.numbers[node]}")
                values.set(node, name)
        copies[0].emit_together(list(zip(copies[1:], points[1:], strict=True)), phases.wanted(q), points[0])
        for values, at in zip(copies, points, strict=True):
            self._update(values, at, accumulators)
        for values, at in zip(copies, points, strict=True):
            for node in phases.saved[q]:
                pointer, scope = self.scratch[node]
                dtype = dtype_name(compute_dtype(node.type.dtype))
                element = self._scratch_element(at, values.suffix)
                self.e.line(f"store({pointer}, {element}, {values[node]}, {dtype}, {scope})")
            self._store_full(values, q, at)

    def _update(self, values: Values, at: Point, accumulators: Sequence[Accumulator]) -> None:
        """Combine a vector with the accumulators. ``at`` tells the place of its lanes."""
        for accumulator in accumulators:
            node = accumulator.node.inputs[0]
            value, place = values[node], ""
            if accumulator.is_arg:
                value = values.rounded(node)
                if node.type.dtype.kind == "b":
                    value = f"cast({value}, u8)"
                dtype = dtype_name(accumulator.index_dtype)
                place = f"lanes_of({at.index[-1]}, {dtype})" if self.shape.is_row else f"splat({self.row}, {dtype})"
            if at.lanes is not None and self.shape.is_row:
                value = f"merge({value}, {accumulator.identity}, {at.lanes})"
            if accumulator.is_arg and not value.isidentifier():
                candidate = f"candidate{accumulator.number}{values.suffix}"
                self.e.line(f"{candidate} = {value}")
                value = candidate
            accumulator.update(values.suffix, value, place)

    def _store_full(self, values: Values, q: int, at: Point) -> None:
        for k in self.phases.stored[q]:
            values.store(len(self.e.kernel.body.inputs) + k, self.phases.outputs[k], at)

    # -------------------------------------------------------------------------------------------- rows that stay in
    # registers

    def _resident_rows(self, unit: Values) -> list[tuple[Values, Point]]:
        rows = []
        for c, first in enumerate(range(0, self.shape.length, LANES)):
            rest = self.shape.length - first
            at = Point((*self.index[:-1], first), self.vector, rest if rest < LANES else None)
            rows.append((unit.child(f"_{c}"), at))
        return rows

    def _resident_phase(self, unit: Values, rows: Sequence[tuple[Values, Point]], q: int) -> None:
        accumulators = [self.accumulators[node] for node in self.phases.reductions[q]]
        for accumulator in accumulators:
            accumulator.start(unit.suffix, True)
        for values, _ in rows:
            values.adopt(unit)
        (first, at), *others = rows
        first.emit_together(others, self.phases.wanted(q), at)
        for values, at in rows:
            view = values.child(unit.suffix)  # all vectors go into the unit's accumulators
            self._update(view, at, accumulators)
            self._store_full(values, q, at)

    # -------------------------------------------------------------------------------------------- scratch

    def _make_scratch(self) -> None:
        """Scratch for what crosses from phase to phase: all rows of a unit, each in whole vectors."""
        rows = self.shape.row_count
        for saved in self.phases.saved:
            for node in saved:
                nbytes = rows * self._scratch_row() * compute_dtype(node.type.dtype).itemsize
                self.scratch[node] = self.e.scratch(nbytes), self.e.new_scope()

    def _scratch_row(self) -> int:
        return -(-self.shape.length // LANES) * LANES if self.shape.is_row else LANES * self.shape.width

    def _scratch_element(self, at: Point, suffix: str) -> str:
        row = (self.row, self._scratch_row() if self.shape.rows else 0)
        return linear(row, (at.index[-1], 1) if self.shape.is_row else (LANES * self.suffixes.index(suffix), 1))

    def _load(self, node: Node, q: int, at: Point, suffix: str) -> str:
        """The expression that reads a node that an earlier phase computed."""
        output = self.phases.output_of(node, q)
        if output is not None:
            position = len(self.e.kernel.body.inputs) + output
            return load_from(
                self.e.pointer(position), self.layout.stored(node), node.type.dtype, self.e.scope(position), at
            )
        pointer, scope = self.scratch[node]
        return f"load({pointer}, {self._scratch_element(at, suffix)}, {dtype_name(compute_dtype(node.type.dtype))}, {scope})"
