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

Reductions *across* units (sums over the rows of what a row kernel computes: the gradients of a layer norm's scale and
bias) run beside them. Units are then dealt out in chunks of a fixed size; each chunk adds what its rows give into a row
of partial results, and a second step combines the chunks in their order.

The order of every reduction is fixed by shapes: sixteen lanes (and one or four vectors) run along the axis, sums of
floats in blocks of at most 128 rows or 2048 elements that are added up, lanes are combined in a tree. Long reductions
into few results are cut into chunks of a fixed size, whose partial results a second kernel combines.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

from graphc.backends.cpu.accumulators import Accumulator
from graphc.backends.cpu.codegen import (
    CONTIGUOUS,
    LANES,
    Code,
    Emission,
    alias_scopes,
    compute_dtype,
    dtype_name,
    linear,
    op_cost,
)  # fmt: skip
from graphc.backends.cpu.emit_loops import (
    Vectors,
    access_cost,
    elementwise_loops,
    gather_cost,
    loop_extents,
    share_units,
    split_index,
    vector_loop,
)  # fmt: skip
from graphc.backends.cpu.loops import Layout, Point, Values, load_from, store_to
from graphc.backends.cpu.phases import BLOCK, Phases, Shape
from graphc.ir import Node
from graphc.passes.grouping import reduced_axes
from graphc.passes.schedule import Kernel
from graphc.types import DType

HORIZONTAL_COST = 3.0  # nanoseconds of combining sixteen lanes
SHARED_VECTORS = 4  # vectors of sums across rows that a thread combines at once


def row(kernel: Kernel) -> Code:
    """Reductions along the last axis (and others)."""
    return _reduction(kernel)


def column(kernel: Kernel) -> Code:
    """Reductions along other axes than the last."""
    return _reduction(kernel)


def _reduction(kernel: Kernel) -> Code:
    """The template names the usual case; axes of extent 1 can turn one into the other, or leave nothing to reduce."""
    across = across_units(kernel)
    reached = [node.inputs[0] if node in across else node for node in kernel.body.outputs]
    layout = Layout(kernel.body, kernel.domain.extents, kernel.domain.reduced).collapse(reached)
    if not any(axis.reduced for axis in layout.axes or ()):
        return elementwise_loops(kernel, layout)
    phases = Phases(layout, alias_scopes(kernel.body.input_types, kernel.body.output_types), across)
    shape = Shape.of(layout, phases)
    writer = _Writer(Emission(kernel, _title(shape)), phases, shape)
    if across:
        writer.write_across()
        combine = _Writer(Emission(kernel, f"{_title(shape)}, combining sums across rows"), phases, shape)
        combine.write_across_combined()
        vectors = shape.row_count * -(-shape.length // LANES)
        then = combine.e.code(-(-vectors // SHARED_VECTORS), shape.chunks * vectors * len(across) * CONTIGUOUS)
        return writer.e.code(shape.chunks, max(cost(phases, shape), writer.e.memory_cost), then)
    if shape.chunks == 1:
        writer.write()
        return writer.e.code(shape.threads, max(cost(phases, shape), writer.e.memory_cost))
    writer.write_partial()
    combine = _Writer(Emission(kernel, f"{_title(shape)}, combining partial results"), phases, shape)
    combine.write_combined()
    then = combine.e.code(shape.units, shape.chunks * shape.units * len(phases.all_reductions))
    work = max(cost(phases, shape), writer.e.memory_cost)
    return writer.e.code(shape.chunks * shape.units, work, then)


def across_units(kernel: Kernel) -> tuple[Node, ...]:
    """The reductions of a body that do not go over the reduced axes of its domain but over all others, or over all axes."""
    reduced = tuple(sorted(kernel.domain.reduced))
    nodes = (node for node in kernel.body.nodes if node.op.kind == "reduction")
    return tuple(node for node in nodes if reduced_axes(node) != reduced)


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
        inner += 2 * CONTIGUOUS * len(phases.across[q])
    return inner * vectors + outer * shape.units


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
        self.accumulators = {node: Accumulator(e, node) for node in (*phases.all_reductions, *phases.all_across)}
        self.row = f"i{shape.rows[0]}" if len(shape.rows) == 1 else "r"
        self.low: str | int = 0  # the range of rows, or of vectors where there are no rows
        self.high: str | int = self._product(shape.rows) if shape.rows else self.extents[-1]
        self.suffixes = [f"_{c}" for c in range(shape.width)] if shape.width > 1 else [""]
        self.scratch: dict[Node, tuple[str, int]] = {}  # what goes through scratch: pointer, alias scope
        self.partial: dict[Node, tuple[str, int]] = {}  # of reductions across units: shared scratch, alias scope

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
            self._unit()

    def _unit(self) -> None:
        """All phases of a unit, and what it stores."""
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

    # -------------------------------------------------------------------------------------------- across units

    def write_across(self) -> None:
        """The first of two steps where reductions go across units: chunks of units leave their partial results."""
        self._make_partial()
        if not self.shape.resident:
            self._make_scratch()
        e, shape = self.e, self.shape
        size = e.word(shape.chunk, "chunk_size")
        e.line(f"start, stop = share({e.word(shape.chunks, 'chunks')}, 1, thread, threads)")
        with e.block("for chunk in range(start, stop):"):
            for node, (pointer, scope) in self.partial.items():
                accumulator = self.accumulators[node]
                zero = f"splat({accumulator.identity}, {dtype_name(accumulator.dtype)})"
                if node in self.phases.every_total:
                    e.line(f"t{accumulator.number} = {zero}")
                    continue
                with e.block(f"for j in range(0, {self._partial_size(node)}, {LANES}):"):
                    element = linear(("chunk", self._partial_size(node)), ("j", 1))
                    e.line(f"store({pointer}, {element}, {zero}, {dtype_name(accumulator.dtype)}, {scope})")
            outer = [(f"i{k}", self.extents[k]) for k in shape.outer]
            unit = outer[0][0] if len(outer) == 1 else "unit"
            last = f"min(chunk * {size} + {size}, {self._product(shape.outer)})"
            with e.block(f"for {unit} in range(chunk * {size}, {last}):"):
                if len(outer) > 1:
                    split_index(e, unit, outer)
                self._unit()
            for node in self.phases.every_total:
                accumulator, (pointer, scope) = self.accumulators[node], self.partial[node]
                name = dtype_name(accumulator.dtype)
                e.line(f"store({pointer}, chunk * {LANES}, t{accumulator.number}, {name}, {scope})")

    def write_across_combined(self) -> None:
        """The second step: the chunks' partial results combined in order."""
        self._make_partial()
        e, shape = self.e, self.shape
        chunks, first = e.word(shape.chunks, "chunks"), len(e.kernel.body.inputs)
        outputs = [(k, node) for k, node in enumerate(self.phases.outputs, first) if node in self.partial]
        per_row = -(-shape.length // LANES)
        columns = [(k, node) for k, node in outputs if node not in self.phases.every_total]
        if columns:
            e.line(f"start, stop = share({shape.row_count * per_row}, {SHARED_VECTORS}, thread, threads)")
            with e.block("for vector in range(start, stop):"):
                for _, node in columns:
                    self._combine_chunks(node, chunks, f"vector * {LANES}")
                e.line(f"column = vector % {per_row} * {LANES}")
                e.line(f"lanes_left = min({shape.length} - column, {LANES})")
                at = Point((f"vector // {per_row} * {shape.length} + column",), 0, "lanes_left")
                for k, node in columns:
                    dtype, name = node.type.dtype, self.accumulators[node].name("")
                    e.line(store_to(e.pointer(k), (1,), name, dtype, e.scope(k), at))
        totals = [(k, node) for k, node in outputs if node in self.phases.every_total]
        with e.block("if thread == 0:"):
            for k, node in totals:
                self._combine_chunks(node, chunks, "0")
                result = self.accumulators[node].finish("", True)
                e.line(store_to(e.pointer(k), (), result, node.type.dtype, e.scope(k), Point((), None)))

    def _combine_chunks(self, node: Node, chunks: str, element: str) -> None:
        """A vector of the partial results of all chunks, combined in blocks of a fixed size."""
        (pointer, scope), whole = self.partial[node], self.accumulators[node]
        block = Accumulator(self.e, node, "b")
        whole.start("")
        with self.e.block(f"for first in range(0, {chunks}, {BLOCK}):"):
            block.start("")
            with self.e.block(f"for chunk in range(first, min(first + {BLOCK}, {chunks})):"):
                at = linear(("chunk", self._partial_size(node)), (element if element != "0" else 0, 1))
                block.update("", f"load({pointer}, {at}, {dtype_name(whole.dtype)}, {scope})")
            whole.update("", block.name(""))

    def _partial_size(self, node: Node) -> int:
        """Elements that a chunk leaves of a reduction across units: all places of a unit, or sixteen lanes of a total."""
        return LANES if node in self.phases.every_total else self.shape.row_count * self._scratch_row()

    def _make_partial(self) -> None:
        for node in self.phases.all_across:
            nbytes = self.shape.chunks * self._partial_size(node) * self.accumulators[node].dtype.itemsize
            self.partial[node] = self.e.shared(nbytes), self.e.new_scope()

    def _add_across(self, values: Values, at: Point, q: int) -> None:
        """Combine a vector with what earlier units of the chunk gave at this place of the unit."""
        for node in self.phases.across[q]:
            if node in self.phases.every_total:
                continue
            (pointer, scope), accumulator = self.partial[node], self.accumulators[node]
            dtype = dtype_name(accumulator.dtype)
            element = linear(("chunk", self._partial_size(node)), (self._scratch_element(at, values.suffix), 1))
            assert node.op.combine is not None
            added = node.op.combine.format(f"load({pointer}, {element}, {dtype}, {scope})", values[node.inputs[0]])
            self.e.line(
                f"store({pointer}, {element}, {added}, {dtype}, {scope})", f"v{accumulator.number}: {node.op.name}"
            )

    def _add_totals(self, totals: Sequence[Accumulator], suffix: str) -> None:
        for accumulator in totals:
            assert accumulator.node.op.combine is not None
            whole = f"t{accumulator.number}"
            self.e.line(f"{whole} = {accumulator.node.op.combine.format(whole, accumulator.name(suffix))}")

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
            if k not in self.phases.full and node not in self.phases.all_across:
                for value, at in zip(values, points, strict=True):
                    value.store(first + k, node, at)

    # -------------------------------------------------------------------------------------------- one phase

    def _phase(self, values: Sequence[Values], points: Sequence[Point], q: int) -> None:
        """Run over the reduced axes once."""
        totals = [self.accumulators[node] for node in self.phases.totals(q)]
        accumulators = [*(self.accumulators[node] for node in self.phases.reductions[q]), *totals]
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
        self._add_totals(totals, suffixes[0])

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
            self._add_across(values, at, q)
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
        totals = [self.accumulators[node] for node in self.phases.totals(q)]
        accumulators = [*(self.accumulators[node] for node in self.phases.reductions[q]), *totals]
        for accumulator in accumulators:
            accumulator.start(unit.suffix, True)
        for values, _ in rows:
            values.adopt(unit)
        (first, at), *others = rows
        first.emit_together(others, self.phases.wanted(q), at)
        for values, at in rows:
            view = values.child(unit.suffix)  # all vectors go into the unit's accumulators
            self._update(view, at, accumulators)
            self._add_across(values, at, q)
            self._store_full(values, q, at)
        self._add_totals(totals, unit.suffix)

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
