"""Emitter of segment kernels; here those that combine many updates: sorted ones, and tables of parts.

Updates may be made on the spot (gathered rows times a weight), and what follows from the result is computed where it is
stored. Three kernels, see :mod:`graphc.passes.segments`:

``segments``        A counting sort of index tuples by place. Parts of a fixed number of tuples are counted, then placed; what
                    comes first within a place follows from the counts of the parts before.
``segment_reduce``  Every place combines its own updates in order, in registers. Threads get places with about as many
                    updates; no sum is cut, so nothing depends on how they are dealt out.
tables              Parts of a fixed number of updates are combined in tables of their own, in order; then the tables are
                    combined, in order.

Everything else is done in :mod:`graphc.backends.cpu.emit_segment`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphc.backends.cpu import emit_segment
from graphc.backends.cpu.codegen import CONTIGUOUS, LANES, Code, Emission, NoEmitter, compute_dtype, dtype_name, op_cost
from graphc.backends.cpu.emit_loops import Vectors, gather_cost, ragged, vector_loop
from graphc.backends.cpu.emit_segment import COMBINED, Indices
from graphc.backends.cpu.loops import LARGEST, Axis, Layout, Point, Values, index_error, merge_axes
from graphc.ir import Node
from graphc.passes.access import contiguous_strides
from graphc.passes.schedule import Kernel
from graphc.passes.segments import by_tables
from graphc.types import DType

PART = 1 << 14  # index tuples that are sorted or combined as one part
MOST_PARTS = 16
SIDE_BY_SIDE = 4  # vectors of a row that are combined at once
TABLES = 4  # tables that take the updates of single elements in turn: the next one does not wait for the last
SERIAL = 1 << 15  # tuples that are sorted by one thread

Strides = tuple[int, ...]


def segment(kernel: Kernel) -> Code:
    """One op of indexing, with what makes its updates and what follows from its result."""
    for node in kernel.body.nodes:
        if node.op.name == "segments":
            return _segments(kernel, node)
        if node.op.name == "segment_reduce" and node.type.size:
            return _sorted(kernel, node)
        if by_tables(node):
            return _tables(kernel, node)
    return emit_segment.segment(kernel)


# ------------------------------------------------------------------------------------------------ sorting indices


def _segments(kernel: Kernel, node: Node) -> Code:
    """Count, add up, place."""
    index, extents = node.inputs[0].type, node["extents"]
    indices = Indices(0, index.dtype, index.size, extents, contiguous_strides(extents), node["mode"])
    places = math.prod(node["extents"])
    parts = _parts(indices.count, places)
    prologue = f"segments, mode {indices.mode}, {len(indices.extents)} indices"
    if parts == 1:
        e = Emission(kernel, prologue)
        counts = e.shared((places + 1) * 4)
        with e.block("if thread == 0:"):
            _count(e, node, indices, counts, "0", e.word(indices.count, "tuples"))
            _add_up(e, kernel, counts, parts)
            _order(e, kernel, node, indices, counts, "0", e.word(indices.count, "tuples"))
        return e.code(1, indices.count * 3.0 + places * 1.5)
    size = -(-indices.count // parts)
    then: Code | None = None
    for what in ("order", "add up", "count"):
        e = Emission(kernel, f"{prologue}: {what}")
        counts = e.shared(parts * (places + 1) * 4)
        if what == "add up":
            with e.block("if thread == 0:"):
                _add_up(e, kernel, counts, parts)
            then = e.code(1, places * parts * 1.0, then)
            continue
        tuples, width = e.word(indices.count, "tuples"), e.word(places + 1, "width")
        e.line(f"first, last = share({parts}, 1, thread, threads)")
        with e.block("for part in range(first, last):"):
            e.line(f"counts = advance({counts}, part * {width}, i32)")
            e.line(f"low = part * {e.word(size, 'size')}")
            e.line(f"high = min(low + size, {tuples})")
            if what == "count":
                _count(e, node, indices, "counts", "low", "high")
            else:
                _order(e, kernel, node, indices, "counts", "low", "high")
        then = e.code(parts, indices.count * 2.0, then)
    assert then is not None
    return then


def _parts(count: int, places: int) -> int:
    """How many parts of the tuples are counted apart: by shape, and no more counts than tuples."""
    if count < SERIAL:
        return 1
    return max(1, min(count // PART, MOST_PARTS, count // max(places, 1)))


def _count(e: Emission, node: Node, indices: Indices, counts: str, low: str, high: str) -> None:
    """``counts[p]``: the tuples from ``low`` to ``high`` with place p; those that are dropped have the last place."""
    width = e.word(math.prod(indices.extents) + 1, "width")
    for lanes in ragged(e, "c", "0", width):
        if lanes is None:
            e.line(f"store({counts}, c, splat(0, i32), i32, -1)")
        else:
            e.line(f"store_masked({counts}, c, splat(0, i32), i32, -1, {lanes})")
    with e.block(f"for i in range({low}, {high}):"):
        _sort_place(e, indices, node)
        e.line(f"store_first({counts}, place, splat_load({counts}, place, i32, -1) + 1, i32, -1)")


def _sort_place(e: Emission, indices: Indices, checked: Node | None) -> None:
    indices.scalars(e, "i", checked)
    e.line(f"place = {indices.element()}")
    if indices.mode == "drop":
        with e.block("if inside == 0:"):
            e.line(f"place = {e.word(math.prod(indices.extents) + 1, 'width')} - 1")


def _add_up(e: Emission, kernel: Kernel, counts: str, parts: int) -> None:
    """``counts``: where the tuples of each part and place go; and where those of each place begin."""
    starts = len(kernel.body.inputs)
    width = e.word(kernel.body.outputs[0].type.size, "width")
    e.line("total = 0")
    with e.block(f"for p in range({width}):"):
        e.line(f"store_first({e.pointer(starts)}, p, splat(total, i32), i32, {e.scope(starts)})")
        with e.block(f"for part in range({parts}):"):
            e.line(f"slot = part * {width} + p")
            e.line(f"here = first_lane(splat_load({counts}, slot, i32, -1))")
            e.line(f"store_first({counts}, slot, splat(total, i32), i32, -1)")
            e.line("total = total + here")


def _order(e: Emission, kernel: Kernel, node: Node, indices: Indices, counts: str, low: str, high: str) -> None:
    order = len(kernel.body.inputs) + 1
    with e.block(f"for i in range({low}, {high}):"):
        _sort_place(e, indices, None)
        e.line(f"slot = first_lane(splat_load({counts}, place, i32, -1))")
        e.line(f"store_first({counts}, place, splat(slot + 1, i32), i32, -1)")
        e.line(f"store_first({e.pointer(order)}, slot, splat(i, i32), i32, {e.scope(order)})")


# ------------------------------------------------------------------------------------------------ loops over rows


@dataclass(frozen=True, slots=True)
class Rows:
    """The loops of a kernel that combines rows: ``axes`` are those of updates and results alike, the first one being
    the number of an update, or of a place. ``updates`` and ``results`` say how nodes lie in them."""

    core: Node
    axes: tuple[Axis, ...]
    updates: Layout
    results: Layout

    @staticmethod
    def of(kernel: Kernel, core: Node) -> Rows:
        made = core.inputs[1]
        single = core.op.name == "scatter" and core.type.ndim == 1
        wanted = [made, core.inputs[2]] if single else [made]
        extents = [(made.type.shape, wanted, ()), (core.type.shape, [*kernel.body.outputs, core.inputs[0]], (core,))]
        strides: list[Strides] = []
        for shape, wanted, known in extents:
            layout = Layout(kernel.body, shape, (0,))
            for node in layout.needed(wanted, known):
                place = layout.place(node) if node is not core else None
                if node.op.name == "gather":
                    strides += layout.gathered(node).strides
                elif place is not None:
                    strides.append(place.strides)
            strides += [layout.stored(node) for node in wanted]
        shape = core.type.shape
        axes = merge_axes([Axis((k,), max(n, 2) if k == 0 else n, k == 0) for k, n in enumerate(shape)], strides)
        both = []
        for shape, _, _ in extents:
            layout = Layout(kernel.body, shape, (0,))
            layout.axes = axes
            both.append(layout)
        return Rows(core, axes, *both)

    @property
    def width(self) -> int:
        """Elements of a row."""
        return math.prod(axis.extent for axis in self.axes[1:])

    @property
    def table(self) -> Strides:
        """Strides of a contiguous tensor over the axes."""
        return self.results.loop_strides(contiguous_strides(self.core.type.shape))

    def cost(self) -> float:
        """Estimated nanoseconds for sixteen elements of an update."""
        axis, total = len(self.axes) - 1, CONTIGUOUS
        for node in self.updates.needed([self.core.inputs[1]]):
            if node.op.name == "gather":
                total += gather_cost(self.updates, node, axis) + 2.0
            else:
                total += op_cost(node) if self.updates.place(node) is None else 2 * CONTIGUOUS
        return total

    @contextlib.contextmanager
    def outer(self, e: Emission) -> Iterator[None]:
        """Loops ``r1 r2 …`` over all axes of a row but the last."""
        with contextlib.ExitStack() as loops:
            for k, axis in enumerate(self.axes[1:-1], 1):
                loops.enter_context(e.block(f"for r{k} in range({axis.extent}):"))
            yield

    def vectors(self, e: Emission, number: str) -> Iterator[list[Point]]:
        """The last axis of a row in groups of vectors: yields the points of one group, inside its loop."""
        last = len(self.axes) - 1
        if last == 0:
            yield [Point((number,), None)]
            return
        extent = self.axes[-1].extent
        width = min(SIDE_BY_SIDE, -(-extent // LANES))
        turns: Iterator[Vectors] = vector_loop(e, "j", 0, extent, width)
        for turn in turns:
            yield [
                Point((number, *(f"r{k}" for k in range(1, last)), f"j + {at}" if at else "j"), last, lanes)
                for at, lanes in turn
            ]


def _combined(node: Node, a: str, b: str) -> str:
    return COMBINED[node["combine"], node.type.dtype.kind == "b"].format(a, b)


def _results(
    e: Emission, rows: Rows, points: Sequence[Point], accumulators: Sequence[str], first: Sequence[Values]
) -> None:
    """What follows from the combined values, and the stores."""
    inputs = len(e.kernel.body.inputs)
    for values, at, accumulator in zip(first, points, accumulators, strict=True):
        values.set(rows.core, accumulator)
        values.emit(e.kernel.body.outputs, at)
        for position, node in enumerate(e.kernel.body.outputs, inputs):
            values.store(position, node, at)


def _suffixes(points: Sequence[Point]) -> list[str]:
    return [f"_{c}" for c in range(len(points))] if len(points) > 1 else [""]


def _renumbered(points: Sequence[Point], number: str) -> list[Point]:
    """The same points of another row."""
    return [Point((number, *at.index[1:]), at.axis, at.lanes) for at in points]


# ------------------------------------------------------------------------------------------------ sorted updates


def _argument(kernel: Kernel, node: Node, x: Node) -> int:
    if x not in kernel.body.inputs:
        raise NoEmitter(node, "its operands must be in memory")
    return kernel.body.inputs.index(x)


def _sorted(kernel: Kernel, node: Node) -> Code:
    rows = Rows.of(kernel, node)
    starts, order = (_argument(kernel, node, x) for x in node.inputs[2:])
    count, places = node.inputs[3].type.size, node.type.shape[0]
    e = Emission(kernel, f"segment_reduce, rows of {rows.width} {dtype_name(node.type.dtype)}")
    n = e.word(places, "places")
    e.line(f"start, stop = share({e.word(count, 'updates')} + {n}, 64, thread, threads)")
    _first_row(e, starts, "start", "first")
    _first_row(e, starts, "stop", "last")
    with e.block("for p in range(first, last):"):
        for name, at in (("begin", "p"), ("end", "p + 1")):
            e.line(f"{name} = first_lane(splat_load({e.pointer(starts)}, {at}, i32, {e.scope(starts)}))")
        with rows.outer(e):
            for points in rows.vectors(e, "p"):
                _sorted_vectors(e, rows, points, order)
    vectors = rows.width / rows.axes[-1].extent * -(-rows.axes[-1].extent // LANES) if len(rows.axes) > 1 else 1
    work = count * (1.5 + vectors * rows.cost()) + places * (2.0 + 2 * vectors * CONTIGUOUS)
    return e.code(-(-(count + places) // 64), max(work, e.memory_cost))


def _first_row(e: Emission, starts: int, bound: str, name: str) -> None:
    """``name``: the first place p before which ``bound`` updates and places lie."""
    e.line(f"{name} = 0")
    e.line("high = places")
    with e.block(f"while {name} < high:"):
        e.line(f"middle = ({name} + high) >> 1")
        with e.block(
            f"if first_lane(splat_load({e.pointer(starts)}, middle, i32, {e.scope(starts)})) + middle < {bound}:"
        ):
            e.line(f"{name} = middle + 1")
        with e.block("else:"):
            e.line("high = middle")


def _sorted_vectors(e: Emission, rows: Rows, points: Sequence[Point], order: int) -> None:
    core = rows.core
    x, made = core.inputs[:2]
    first = [Values(e, rows.results, s) for s in _suffixes(points)]
    names = [f"sum{s}" for s in _suffixes(points)]
    for values, at, name in zip(first, points, names, strict=True):
        values.emit([x], at)
        e.line(f"{name} = {values[x]}")
    with e.block("for k in range(begin, end):"):
        e.line(f"u = first_lane(splat_load({e.pointer(order)}, k, i32, {e.scope(order)}))")
        copies = [Values(e, rows.updates, f"{s}_u") for s in _suffixes(points)]
        there = _renumbered(points, "u")
        _prepare(rows, copies, there)
        copies[0].emit_together(list(zip(copies[1:], there[1:], strict=True)), [made], there[0])
        for values, name in zip(copies, names, strict=True):
            e.line(f"{name} = {_combined(core, name, values[made])}")
    _results(e, rows, points, names, first)


def _prepare(rows: Rows, copies: Sequence[Values], points: Sequence[Point]) -> None:
    """Gathers whose rows are the same for all vectors find them once."""
    for node in rows.updates.needed([rows.core.inputs[1]]):
        if node.op.name == "gather" and all(not any(s[1:]) for s in rows.updates.gathered(node).index_strides):
            copies[0].prepare(node, points[0])
            for values in copies[1:]:
                values.begin_with(copies[0], node)


# ------------------------------------------------------------------------------------------------ tables


def _tables(kernel: Kernel, node: Node) -> Code:
    """Parts of the updates in tables of their own, then all tables in order."""
    rows, count, places = Rows.of(kernel, node), node.inputs[2].type.size, node.type.shape[0]
    single = rows.width == 1
    turns = TABLES if single else 1
    parts = max(1, min(MOST_PARTS, count * rows.width // PART, count // (4 * places * turns)))
    element = compute_dtype(node.type.dtype)
    cells = places * rows.width + (LANES if single else 0)  # with room for what is dropped
    nbytes = parts * turns * cells * element.itemsize
    title = (
        f"scatter by tables, rows of {rows.width} {dtype_name(node.type.dtype)}, mode {node['mode']}, {node['combine']}"
    )
    e = Emission(kernel, f"{title}: combine")
    _combine_tables(e, rows, e.shared(nbytes), parts * turns, cells, element)
    then = e.code(-(-places // 64) if single else places, places * rows.width * parts * turns / LANES * CONTIGUOUS)
    e = Emission(kernel, f"{title}: parts")
    tables = e.shared(nbytes)
    n = e.word(cells, "cells")
    e.line(f"first, last = share({parts}, 1, thread, threads)")
    with e.block("for part in range(first, last):"):
        e.line(f"mine = advance({tables}, part * {turns} * {n}, {dtype_name(element)})")
        _clear(e, node, f"{n} * {turns}", element)
        size = -(-count // parts)
        size = -(-size // LANES) * LANES if single else size
        e.line(f"low = part * {e.word(size, 'size')}")
        e.line(f"high = max(low, min(low + size, {e.word(count, 'updates')}))")
        if single:
            _fill_elements(e, rows, turns, places, element)
        else:
            _fill_rows(e, rows, element)
    vectors = -(-rows.width // LANES)
    work = count * (1.5 if single else 2.0 + vectors * (rows.cost() + CONTIGUOUS)) + nbytes / 64 * CONTIGUOUS
    return e.code(parts, max(work, e.memory_cost), then)


def _clear(e: Emission, node: Node, count: str, element: DType) -> None:
    name = dtype_name(element)
    identity = f"splat({_identity(node, element)}, {name})"
    for lanes in ragged(e, "c", "0", count):
        masked = "" if lanes is None else f", {lanes}"
        e.line(f"store{'_masked' if masked else ''}(mine, c, {identity}, {name}, -1{masked})")


def _fill_elements(e: Emission, rows: Rows, turns: int, places: int, element: DType) -> None:
    """Sixteen updates at once are made, and their places found; then they go into the tables one by one, lane k into table
    k modulo ``turns``. Updates without a place go behind the places of a table."""
    core, name = rows.core, dtype_name(element)
    made, index = core.inputs[1:3]
    mode, dtype, extent = core["mode"], index.type.dtype, e.word(places, "places")
    for k in range(turns):
        e.line(f"mine{k} = advance(mine, {k} * cells, {name})")
    for lanes in ragged(e, "u", "low", "high"):
        at = Point(("u",), 0, lanes)
        values = Values(e, rows.updates)
        values.emit([made, index], at)
        e.line(f"place = cast({values[index]}, i64)")
        if dtype.name == "u64":
            e.line(f"place = select(place < 0, {LARGEST}, place)")
        elif mode == "raise" and dtype.kind == "i":
            e.line(f"place = select(place < 0, place + {extent}, place)")
        if mode == "clip":
            e.line(f"place = maximum(minimum(place, {extent} - 1), 0)")
        else:
            e.line(f"bad = (place < 0) | (place >= {extent})" + ("" if lanes is None else f" & mask_tail({lanes})"))
            if mode == "raise":
                with e.block("if any_lane(bad):"):
                    e.line(index_error(e, core))
            else:
                e.line(f"place = select(bad, {extent}, place)")
        if lanes is not None:
            e.line(f"place = select(mask_tail({lanes}), place, {extent})")
        for first in range(0, LANES, turns):  # tables are apart: what is read before the stores is not stale
            for t in range(turns):
                e.line(f"slot{t} = lane(place, {first + t})")
                e.line(f"old{t} = splat_load(mine{t}, slot{t}, {name}, -1)")
            for t in range(turns):
                update = f"splat_lane({values[made]}, {first + t})"
                e.line(f"store_first(mine{t}, slot{t}, {_combined(core, f'old{t}', update)}, {name}, -1)")


def _fill_rows(e: Emission, rows: Rows, element: DType) -> None:
    """One row after the other."""
    core = rows.core
    with e.block("for u in range(low, high):"):
        if core["mode"] == "drop":
            e.line("inside = 1")
        index = rows.updates.index_tensor(core, core.inputs[2], core.type.shape[0], 1, core.type.ndim - 1)
        here = Point(("u", *(0 for _ in rows.axes[1:])), None)
        Values(e, rows.updates).one_index(core, index, "place", "inside", core["mode"], here)
        with contextlib.ExitStack() as nested:
            if core["mode"] == "drop":
                nested.enter_context(e.block("if inside == 1:"))
            with rows.outer(e):
                for points in rows.vectors(e, "u"):
                    _table_vectors(e, rows, points, core.inputs[1], element)


def _table_vectors(e: Emission, rows: Rows, points: Sequence[Point], made: Node, element: DType) -> None:
    name = dtype_name(element)
    copies = [Values(e, rows.updates, s) for s in _suffixes(points)]
    _prepare(rows, copies, points)
    copies[0].emit_together(list(zip(copies[1:], points[1:], strict=True)), [made], points[0])
    for values, at in zip(copies, _renumbered(points, "place"), strict=True):
        target, masked = at.element(rows.table), "" if at.lanes is None else f", {at.lanes}"
        kind = "_masked" if masked else ""
        e.line(f"old = load{kind}(mine, {target}, {name}, -1{masked})")
        e.line(f"store{kind}(mine, {target}, {_combined(rows.core, 'old', values[made])}, {name}, -1{masked})")


def _combine_tables(e: Emission, rows: Rows, tables: str, count: int, cells: int, element: DType) -> None:
    """Every element of the result from those of the operand and of all tables."""
    core = rows.core
    places, name = core.type.shape[0], dtype_name(element)
    n = e.word(cells, "cells")
    single = rows.width == 1
    e.line(f"first, last = share({e.word(places, 'places')}, {64 if single else 1}, thread, threads)")
    if single:
        for lanes in ragged(e, "p", "first", "last"):
            _combine_vectors(e, rows, [Point(("p",), 0, lanes)], tables, count, n, name)
        return
    with e.block("for p in range(first, last):"), rows.outer(e):
        for points in rows.vectors(e, "p"):
            _combine_vectors(e, rows, points, tables, count, n, name)


def _combine_vectors(
    e: Emission, rows: Rows, points: Sequence[Point], tables: str, count: int, n: str, name: str
) -> None:
    x = rows.core.inputs[0]
    first = [Values(e, rows.results, s) for s in _suffixes(points)]
    sums = [f"sum{s}" for s in _suffixes(points)]
    for values, at, total in zip(first, points, sums, strict=True):
        values.emit([x], at)
        e.line(f"{total} = {values[x]}")
    with e.block(f"for t in range({count}):"):
        for at, total in zip(points, sums, strict=True):
            element, masked = (
                at.after(f"t * {n}").element((1, *rows.table)),
                "" if at.lanes is None else f", {at.lanes}",
            )
            kind = "_masked" if masked else ""
            e.line(f"part = load{kind}({tables}, {element}, {name}, -1{masked})")
            e.line(f"{total} = {_combined(rows.core, total, 'part')}")
    _results(e, rows, points, sums, first)


def _identity(node: Node, element: DType) -> str:
    """What changes nothing when it is combined: for floats the infinities, and -0.0."""
    combine, kind = node["combine"], element.kind
    if combine == "add":
        return "-0.0" if kind == "f" else "0"
    if combine == "mul":
        return "1.0" if kind == "f" else "1"
    if kind == "b":
        return "1" if combine == "min" else "0"
    if kind == "f":
        return "inf" if combine == "min" else "-inf"
    bits = 8 * element.itemsize
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind == "i" else (0, 2**bits - 1)
    return str(high if combine == "min" else low)
