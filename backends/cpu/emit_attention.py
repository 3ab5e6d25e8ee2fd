"""Emitter of attention: softmax(score(q kᵀ)) v and its derivative, without the matrix of scores in memory.

A unit is one matrix of the batch, or a part of its queries (of its keys). Its scores are made a block at a time, rows times
keys, in scratch, by the micro-kernel of :mod:`graphc.backends.cpu.tiling`; the score function and the exponentials run over
the block while it is in the cache, and the micro-kernel multiplies it with the values.

Forward, the maximum and the sum of each row are kept up as blocks of keys come by (Milakov and Gimelshein, *Online normalizer
calculation for softmax*, 2018); what is accumulated is rescaled where the maximum grows. Backward, blocks of p and of the
scores' cotangents are made again from the maximum and the sum that the forward kernel has stored. Where there are enough
matrices, one kernel makes all three results; else one makes that of the queries, then one those of keys and values.

Where the scores are a number beyond some diagonal (a causal mask), those blocks are left out if that changes nothing: if the
exponentials there are exactly 0, and what they are multiplied with is finite. Both are looked at while running.

All sums run over blocks in the order of their places; blocks are cut by extents alone.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from graphc import config, ops
from graphc.backends.cpu import tiling
from graphc.backends.cpu.codegen import LANES, Code, Emission, NoEmitter, compute_dtype, dtype_name, linear, op_cost
from graphc.backends.cpu.emit_loops import ragged, vector_loop
from graphc.backends.cpu.loops import Layout, Point, Values, load, store_to
from graphc.ir import Node
from graphc.passes.access import access
from graphc.passes.attention import Parts, Unknown, parts, placement
from graphc.passes.schedule import Kernel
from graphc.types import DType

KEYS = 256  # keys of a block at most
BLOCK, BLOCK_BACK = 16 << 10, 24 << 10  # bytes of a block of scores
PAD = 16  # elements between rows of a block: rows a power of two apart would fall on one another in the cache
ENOUGH = 16  # matrices of a batch from which a unit is a whole matrix
UNITS = 32  # units wanted where there are fewer
FEWEST, MOST = 96, 512  # rows of a unit that is a part of a matrix
WHOLE = 1 << 18  # elements of the accumulators of a unit that makes all results
SIDE_BY_SIDE = 2  # vectors along the keys that are worked on at once
GRAIN = SIDE_BY_SIDE * LANES  # keys: what is computed before a mask begins is rounded up to so many
SPEED = 40.0  # multiplications per nanosecond, estimated


def attention(kernel: Kernel) -> Code:
    """One attention, or its derivative."""
    try:
        found = parts(kernel.body)
    except Unknown as why:
        raise NoEmitter(kernel.body.nodes[-1], f"this is not attention: {why}") from None
    if found.product is not None:
        return _Forward(kernel, found).write()
    whole = _Backward.blocks(found)
    if math.prod(found.frame[:-2]) >= ENOUGH and whole:
        return _Backward(kernel, found, queries=True, keys=True).write()
    second = _Backward(kernel, found, queries=False, keys=True).write()
    return _Backward(kernel, found, queries=True, keys=False).write(second)


# ------------------------------------------------------------------------------------------------ what is common


@dataclass(frozen=True, slots=True)
class Matrix:
    """Where an operand of a contraction lies: pointer, stored element type, strides of batch axes, rows and columns."""

    pointer: str
    dtype: DType
    batch: tuple[int, ...]
    row: int
    column: int

    def rows_from(self, row: str, index: Sequence[str]) -> str:
        """The pointer to the first element of row ``row`` of the unit's matrix."""
        place = linear(*zip(index, self.batch, strict=True), (row, self.row))
        return f"advance({self.pointer}, {place}, {dtype_name(self.dtype)})"


class _Writer:
    """What the forward and the backward kernel have in common."""

    def __init__(self, kernel: Kernel, found: Parts, title: str, block: int) -> None:
        self.kernel, self.found = kernel, found
        self.frame = found.frame
        *self.lead, self.rows, self.keys = self.frame
        self.type = compute_dtype(found.s.type.dtype)
        self.c = dtype_name(self.type)
        self.features = found.s.inputs[0].type.shape[-1]
        self.e = Emission(kernel, f"attention over {len(self.frame)} axes of {self.c}: {title}")
        self.layout = Layout(kernel.body, self.frame, (len(self.frame) - 1,))
        self.index = [f"i{k}" for k in range(len(self.lead))]
        self.file = tiling.registers(config.get(config.CPU))
        self.score_tile = self.tile(self.rows, self.keys)
        self.height = self.score_tile.rows
        width = self.score_tile.columns
        self.block_keys = rounded(-(-self.keys // -(-self.keys // KEYS)), width)
        tall = max(block // (self.block_keys * self.type.itemsize) // self.height, 1) * self.height
        self.block_rows = rounded(-(-self.rows // -(-self.rows // tall)), self.height)
        self.width = self.block_keys + PAD  # of a row of scores
        self.limit = visible(found.t)

    # -------------------------------------------------------------------------------------------- tiles

    def tile(self, rows: int, columns: int) -> tiling.Tile:
        return tiling.choose_tile(rows, columns, self.type, self.file)

    def strip(
        self, left: str, left_row: str, left_step: str, right: str, step: str, panel: str, count: str, into: str,
        into_row: str, depth: str, add: bool, tile: tiling.Tile,
    ) -> None:  # fmt: skip
        self.e.require(tiling.strip(self.type, tile))
        self.e.line(
            f"tile_strip({left}, {left_row}, {left_step}, {right}, {step}, {panel}, {count}, {into}, {into_row}, "
            f"{depth}, {int(add)}, {self.c}, {tile.rows}, {tile.vectors}, {tile.lanes})"
        )

    def pack_rows(self, x: Matrix, first: str, count: str, depth: int, into: str, width: int) -> None:
        """Rows of ``x`` side by side at each of its columns: the left operand of a product, or a transposed right one."""
        self.e.require(tiling.pack(x.dtype, width))
        source = x.rows_from(first, self.index)
        self.e.line(
            f"tile_pack({source}, {x.column}, {x.row}, {into}, {depth}, {count}, {dtype_name(x.dtype)}, {width})"
        )

    def pack_columns(self, x: Matrix, first: str, count: str, columns: int, into: str, width: int) -> None:
        """Columns of ``x`` side by side at each row: the right operand of a product that sums over rows."""
        self.e.require(tiling.pack(x.dtype, width))
        source = x.rows_from(first, self.index)
        self.e.line(
            f"tile_pack({source}, {x.row}, {x.column}, {into}, {count}, {columns}, {dtype_name(x.dtype)}, {width})"
        )

    def room(self, name: str, count: int) -> None:
        """``name`` points to scratch for ``count`` elements from here on."""
        self.e.line(f"{name} = {self.e.scratch(count * self.type.itemsize)}")

    def at(self, name: str, element: str) -> str:
        return f"advance({name}, {element}, {self.c})"

    # -------------------------------------------------------------------------------------------- memory

    def matrix(self, node: Node) -> Matrix:
        """An operand of a contraction."""
        while node.op is ops.cast:
            node = node.inputs[0]
        found = access(node, frozenset(self.kernel.body.inputs))
        if found is None:
            raise NoEmitter(node, "an operand of attention must be an access")
        position = self.kernel.body.inputs.index(found.source)
        size, strides = node.type.dtype.itemsize, found.strides
        pointer = self.e.pointer(position, found.offset * size, strides)
        return Matrix(pointer, node.type.dtype, strides[:-2], strides[-2], strides[-1])

    def result(self, made: Node) -> Callable[[str, Point], None]:
        """A function that stores lanes of ``made`` at a point of it, where it lies in one of the results."""
        outputs = self.kernel.body.outputs
        number, place = next((k, at) for k, node in enumerate(outputs) if (at := placement(node, made)) is not None)
        dtype = outputs[number].type.dtype
        position = len(self.kernel.body.inputs) + number
        pointer = self.e.pointer(position, place.offset * dtype.itemsize, place.strides)
        scope = self.e.scope(position)

        def store(value: str, at: Point) -> None:
            value = f"{value} + 0.0" if place.plus_zero else value
            self.e.line(store_to(pointer, place.strides, value, dtype, scope, at), f"out{number}")

        return store

    # -------------------------------------------------------------------------------------------- loops

    def batch_of(self, rest: str) -> None:
        """Write the indices of the batch axes of matrix number ``rest``."""
        for k in reversed(range(len(self.lead))):
            extent = self.e.word(self.lead[k], f"n{k}")
            self.e.line(f"{self.index[k]} = {rest}" if k == 0 else f"{self.index[k]} = {rest} % {extent}")
            if k:
                self.e.line(f"{rest} = {rest} // {extent}")

    @contextlib.contextmanager
    def strips(self, low: str, high: str, height: int) -> Iterator[None]:
        with self.e.block(f"for strip in range({low}, {high}, {height}):"):
            yield

    def over_keys(self) -> Iterator[list[tuple[Point, str | int | None]]]:
        """Vectors along the keys from ``at`` to ``until``, some side by side."""
        for vectors in vector_loop(self.e, "key", "at", "until", SIDE_BY_SIDE):
            points = []
            for shift, lanes in vectors:
                key = f"key + {shift}" if shift else "key"
                points.append((Point((*self.index, "row", key), len(self.frame) - 1, lanes), lanes))
            yield points

    def zero(self, name: str, count: int | str) -> None:
        with self.e.block(f"for j in range(0, {count}, {LANES}):"):
            self.e.line(f"store({name}, j, zero, {self.c}, -1)")

    def not_finite(self, name: str, count: str, flag: str) -> None:
        """Set ``flag`` to 0 where one of ``count`` elements is inf or NaN."""
        e = self.e
        e.line("probe = zero")
        with e.block(f"for j in range(0, {count}, {LANES}):"):
            e.line(f"probe = probe + load_masked({name}, j, {self.c}, -1, {count} - j) * 0.0")
        with e.block("if any_lane(probe != 0.0):"):
            e.line(f"{flag} = 0")

    # -------------------------------------------------------------------------------------------- elementwise nodes

    def levels(self, wanted: Sequence[Node], of_row: Sequence[Node], of_place: Sequence[Node]) -> list[list[Node]]:
        """What ``wanted`` need, by how often it is computed: once, once per row, at every place. ``of_row`` and
        ``of_place`` are known there."""
        level: dict[Node, int] = {**dict.fromkeys(of_row, 1), **dict.fromkeys(of_place, 2)}
        found: list[list[Node]] = [[], [], []]
        for node in self.layout.needed(wanted, level):
            if node in level:
                continue
            place = self.layout.place(node)
            if place is not None:
                level[node] = 2 if place.strides[-1] else 1 if any(place.strides) else 0
            elif node.op.kind == "random":
                level[node] = 2
            else:
                level[node] = max((level[x] for x in node.inputs if x in level), default=0)
            found[level[node]].append(node)
        return found

    def cost(self, nodes: Sequence[Node]) -> float:
        return sum(op_cost(node) for node in nodes if node.op.kind == "elementwise")

    def gone(self, constant: Node, at: Callable[[str], str], values: Values, first: str, last: str) -> None:
        """Set ``left_out`` where ``constant``, shifted by the maximum of any row from ``first`` to ``last``, has the
        exponential 0; ``at(row)`` reads the maxima, which must be finite."""
        e = self.e
        e.line("lowest = zero + 3.0e38")
        e.line("probe = zero")
        with e.block(f"for r in range({first}, {last}):"):
            e.line(f"highest = {at('r')}")
            e.line("lowest = minimum(lowest, highest)")
            e.line("probe = probe + highest * 0.0")
        with e.block(f"if all_lanes(exp({values[constant]} - lowest) + probe == 0.0):"):
            e.line("left_out = finite")


def rounded(n: int, grain: int) -> int:
    return -(-n // grain) * grain


# ------------------------------------------------------------------------------------------------ causal masks


def visible(t: Node) -> tuple[int, Node] | None:
    """``(offset, number)`` where t is that number in every place with key > row + offset."""
    if t.op is not ops.select:
        return None
    condition, yes, no = t.inputs
    if ops.constant_value(no) is not None:
        offset = bound(condition, True)
        return None if offset is None else (offset, no)
    if ops.constant_value(yes) is not None:
        offset = bound(condition, False)
        return None if offset is None else (offset, yes)
    return None


def bound(condition: Node, holds: bool) -> int | None:
    """An offset such that ``condition`` is not ``holds`` wherever key > row + offset."""
    op = condition.op
    if op is ops.bit_not:
        return bound(condition.inputs[0], not holds)
    if op in (ops.bit_and, ops.bit_or):
        found = [bound(x, holds) for x in condition.inputs]
        if (op is ops.bit_and) == holds:
            return min((k for k in found if k is not None), default=None)
        return None if None in found else max(k for k in found if k is not None)
    if op not in (ops.ge, ops.gt, ops.le, ops.lt) or not condition.inputs[0].type.dtype.is_integer:
        return None
    left, right = (affine(x) for x in condition.inputs)
    if left is None or right is None:
        return None
    # As left - right >= 0, or left - right > 0, or with the sides exchanged.
    strict, turned = op in (ops.gt, ops.lt), op in (ops.le, ops.lt)
    if not holds:
        strict, turned = not strict, not turned
    row, key, constant = (a - b for a, b in zip(*((right, left) if turned else (left, right)), strict=True))
    return constant - strict if (row, key) == (1, -1) else None


def affine(x: Node) -> tuple[int, int, int] | None:
    """``x`` as row·a + key·b + c, of small numbers."""
    number = ops.constant_value(x)
    if number is not None:
        return (0, 0, int(number)) if abs(int(number)) < 1 << 30 else None
    if x.op is ops.iota:
        last = x.type.ndim - 1
        return (int(x["axis"] == last - 1), int(x["axis"] == last), 0) if x["axis"] >= last - 1 else None
    if x.op is ops.cast and x.inputs[0].type.dtype.is_integer and x.type.dtype.itemsize >= 4:
        return affine(x.inputs[0])
    if x.op in (ops.add, ops.sub):
        left, right = (affine(y) for y in x.inputs)
        sign = 1 if x.op is ops.add else -1
        if left is not None and right is not None:
            a, b, c = (one + sign * other for one, other in zip(left, right, strict=True))
            return a, b, c
    return None


# ------------------------------------------------------------------------------------------------ forward


class _Forward(_Writer):
    """o, and the maximum and the sum of each row."""

    def __init__(self, kernel: Kernel, found: Parts) -> None:
        super().__init__(kernel, found, "forward", BLOCK)
        assert found.product is not None
        self.values = found.product.type.shape[-1]
        self.value_tile = self.tile(self.rows, self.values)
        matrices = math.prod(self.lead)
        wanted = 1 if matrices >= ENOUGH else -(-UNITS // max(matrices, 1))
        least = max(-(-self.rows // MOST), 1)
        parts_ = min(max(wanted, least), max(self.rows // FEWEST, least))
        self.unit_rows = rounded(-(-self.rows // parts_), self.block_rows)
        self.units_of_matrix = -(-self.rows // self.unit_rows)
        self.value_width = rounded(self.values, self.value_tile.columns) + PAD

    def write(self) -> Code:
        e, found = self.e, self.found
        assert found.product is not None
        q, k = (self.matrix(x) for x in found.s.inputs)
        v = self.matrix(found.product.inputs[1])
        (quotient,) = (x for x in self.kernel.body.nodes if x.op is ops.div and x.inputs[0] is found.product)
        assert found.total is not None
        store_o, store_m, store_l = (self.result(x) for x in (quotient, found.m.inputs[0], found.total))
        e.word(self.rows, "rows")
        e.word(self.keys, "keys")
        for name, count in (
            ("lefts", self.unit_rows * self.features),
            ("panels", self.block_keys * self.features),
            ("values", rounded(self.values, self.value_tile.columns) * self.block_keys),
            ("sums", self.block_rows * self.width),
            ("weighted", self.unit_rows * self.value_width),
            ("maxima", self.unit_rows),
            ("totals", self.unit_rows),
            ("tops", self.block_rows),
            ("shifts", self.block_rows),
            ("factors", self.block_rows),
        ):
            self.room(name, count + LANES)
        e.line(f"zero = splat(0, {self.c})")
        e.line("lowest_of_all = zero - 1.0 / zero", "-inf")
        once, per_row, per_place = self.levels([found.t], (), [found.s])
        outside = Values(e, self.layout)
        outside.emit(once, Point((0,) * len(self.frame), None))
        if self.limit is not None:
            outside.emit([self.limit[1]], Point((0,) * len(self.frame), None))
        matrices = math.prod(self.lead)
        count = " * ".join(
            [*(e.word(n, f"n{j}") for j, n in enumerate(self.lead)), e.word(self.units_of_matrix, "parts")]
        )
        e.word(self.unit_rows, "unit_rows")
        e.line(f"first, last = share({count}, 1, thread, threads)")
        with e.block("for unit in range(first, last):"):
            e.line("row_first = unit % parts * unit_rows")
            e.line("row_end = min(row_first + unit_rows, rows)")
            e.line("rest = unit // parts")
            self.batch_of("rest")
            self.pack_rows(q, "row_first", "row_end - row_first", self.features, "lefts", self.height)
            self.zero("weighted", self.unit_rows * self.value_width)
            self.zero("totals", self.unit_rows)
            with e.block(f"for j in range(0, {self.unit_rows}, {LANES}):"):
                e.line(f"store(maxima, j, lowest_of_all, {self.c}, -1)")
            with e.block(f"for key_low in range(0, keys, {self.block_keys}):"):
                e.line(f"key_high = min(key_low + {self.block_keys}, keys)")
                self.pack_rows(k, "key_low", "key_high - key_low", self.features, "panels", self.score_tile.columns)
                self.pack_columns(v, "key_low", "key_high - key_low", self.values, "values", self.value_tile.columns)
                if self.limit is not None:
                    e.line("finite = 1")
                    padded = rounded(self.values, self.value_tile.columns)
                    self.not_finite("values", f"(key_high - key_low) * {padded}", "finite")
                with e.block(f"for row_low in range(row_first, row_end, {self.block_rows}):"):
                    e.line(f"row_high = min(row_low + {self.block_rows}, row_end)")
                    self._blocks(outside, per_row, per_place)
            self._finish(store_o, store_m, store_l)
        places = matrices * self.rows * self.keys
        work = places * (self.features + self.values) / SPEED + places / LANES * (2.0 + self.cost(per_place))
        return e.code(matrices * self.units_of_matrix, work)

    def _blocks(self, outside: Values, per_row: list[Node], per_place: list[Node]) -> None:
        """The rows from ``row_low`` to ``row_high`` times the block of keys."""
        e = self.e
        e.line("at = key_low")
        if self.limit is None:
            e.line("until = key_high")
            self._block(outside, per_row, per_place)
            return
        offset, number = self.limit
        e.line(f"seen = (row_high + {offset} - key_low + {GRAIN - 1}) // {GRAIN} * {GRAIN}", "keys before the mask")
        e.line("until = min(key_high, key_low + max(seen, 0))")
        with e.block("while at < key_high:"):
            with e.block("if at >= until:"):
                e.line("left_out = 0")
                self.gone(
                    number,
                    lambda r: f"splat_load(maxima, {r} - row_first, {self.c}, -1)",
                    outside,
                    "row_low",
                    "row_high",
                )
                with e.block("if left_out > 0:"):
                    e.line("break")
                e.line("until = key_high")
            self._block(outside, per_row, per_place)
            e.line("at = until")

    def _block(self, outside: Values, per_row: list[Node], per_place: list[Node]) -> None:
        """Keys from ``at`` to ``until``."""
        e, tile, of_values = self.e, self.score_tile, self.value_tile
        e.line(f"panel = (at - key_low) // {tile.columns}")
        e.line(f"count = (until - key_low + {tile.columns - 1}) // {tile.columns} - panel")
        with self.strips("row_low", "row_high", self.height):
            self.strip(
                self.at("lefts", f"(strip - row_first) * {self.features}"), "1", str(self.height),
                self.at("panels", f"panel * {tile.columns * self.features}"), str(tile.columns),
                str(tile.columns * self.features), "count",
                self.at("sums", f"(strip - row_low) * {self.width} + panel * {tile.columns}"), str(self.width),
                str(self.features), False, tile,
            )  # fmt: skip
        with e.block("for row in range(row_low, row_high):"):
            self._scores(outside, per_row, per_place)
        self._shifts()
        with e.block("for row in range(row_low, row_high):"):
            self._exponentials()
        self._rescale()
        with self.strips("row_low", "row_high", self.height):
            self.strip(
                self.at("sums", f"(strip - row_low) * {self.width} + at - key_low"), str(self.width), "1",
                self.at("values", f"(at - key_low) * {of_values.columns}"), str(of_values.columns),
                f"(key_high - key_low) * {of_values.columns}", str(of_values.panels(self.values)),
                self.at("weighted", f"(strip - row_first) * {self.value_width}"), str(self.value_width), "until - at",
                True, of_values,
            )  # fmt: skip

    def _scores(self, outside: Values, per_row: list[Node], per_place: list[Node]) -> None:
        """The score function on one row, and its maximum."""
        e, found = self.e, self.found
        of_row = outside.child()
        of_row.emit(per_row, Point((*self.index, "row", "key_low"), None))
        e.line(f"base = (row - row_low) * {self.width} - key_low")
        e.line("top = lowest_of_all")
        for points in self.over_keys():
            copies = []
            for j, (point, _) in enumerate(points):
                values = of_row.child(f"_{'abcd'[j]}" if len(points) > 1 else "_r")
                name = values.name(found.s)
                e.line(f"{name} = load(sums, base + {point.index[-1]}, {self.c}, -1)")
                values.set(found.s, name)
                copies.append((values, point))
            copies[0][0].emit_together(copies[1:], per_place, copies[0][1])
            for (values, point), (_, lanes) in zip(copies, points, strict=True):
                t = values[found.t]
                if found.t is not found.s:
                    e.line(f"store(sums, base + {point.index[-1]}, {t}, {self.c}, -1)")
                e.line(
                    f"top = maximum(top, {t if lanes is None else f'select(mask_tail({lanes}), {t}, lowest_of_all)'})"
                )
        e.line(f"store_first(tops, row - row_low, reduce_max(top), {self.c}, -1)")

    def _shifts(self) -> None:
        """What the scores of each row are shifted by, and the factor of what was summed before; sixteen rows at a time."""
        e = self.e
        e.line("grown = 0")
        with e.block(f"for r in range(0, row_high - row_low, {LANES}):"):
            e.line("n = row_high - row_low - r")
            e.line(f"old = load(maxima, row_low - row_first + r, {self.c}, -1)")
            e.line(f"highest = maximum(old, load(tops, r, {self.c}, -1))")
            e.line(
                "shift = select(highest == lowest_of_all, zero, highest)",
                "a row of -inf: its exponentials are 0 so far",
            )
            e.line("factor = exp(old - shift)")
            e.line(f"store(shifts, r, shift, {self.c}, -1)")
            e.line(f"store(factors, r, factor, {self.c}, -1)")
            e.line(f"store_masked(maxima, row_low - row_first + r, highest, {self.c}, -1, n)")
            with e.block("if any_lane((factor != 1.0) & (old != lowest_of_all) & mask_tail(n)):"):
                e.line("grown = 1")

    def _exponentials(self) -> None:
        """The exponentials of one row, and their sum."""
        e = self.e
        e.line(f"base = (row - row_low) * {self.width} - key_low")
        e.line(f"shift = splat_load(shifts, row - row_low, {self.c}, -1)")
        e.line("total = zero")
        for points in self.over_keys():
            for j, (point, _) in enumerate(points):
                e.line(f"e{j} = exp(load(sums, base + {point.index[-1]}, {self.c}, -1) - shift)")
            for j, (point, lanes) in enumerate(points):
                if lanes is not None:
                    e.line(f"e{j} = merge(e{j}, 0.0, {lanes})")
                e.line(f"store(sums, base + {point.index[-1]}, e{j}, {self.c}, -1)")
                e.line(f"total = total + e{j}")
        e.line(f"store_first(tops, row - row_low, reduce_add(total), {self.c}, -1)")

    def _rescale(self) -> None:
        """Add the sums of the block's exponentials; what was summed with a lower maximum shrinks."""
        e = self.e
        with e.block(f"for r in range(0, row_high - row_low, {LANES}):"):
            e.line("n = row_high - row_low - r")
            e.line(f"before = load(totals, row_low - row_first + r, {self.c}, -1) * load(factors, r, {self.c}, -1)")
            e.line(f"more = before + load(tops, r, {self.c}, -1)")
            e.line(f"store_masked(totals, row_low - row_first + r, more, {self.c}, -1, n)")
        with e.block("if grown > 0:"), e.block("for row in range(row_low, row_high):"):
            e.line(f"factor = splat_load(factors, row - row_low, {self.c}, -1)")
            e.line(f"line = (row - row_first) * {self.value_width}")
            with e.block(f"for j in range(line, line + {rounded(self.values, LANES)}, {LANES}):"):
                e.line(f"store(weighted, j, load(weighted, j, {self.c}, -1) * factor, {self.c}, -1)")

    def _finish(self, store_o: Callable[[str, Point], None], *store_of_rows: Callable[[str, Point], None]) -> None:
        e = self.e
        with e.block("for row in range(row_first, row_end):"):
            e.line(f"total = splat_load(totals, row - row_first, {self.c}, -1)")
            e.line(f"line = (row - row_first) * {self.value_width}")
            for lanes in ragged(e, "column", 0, self.values):
                e.line(f"o = load(weighted, line + column, {self.c}, -1) / total")
                store_o("o", Point((*self.index, "row", "column"), len(self.frame) - 1, lanes))
        for lanes in ragged(e, "row", "row_first", "row_end"):
            for source, store in zip(("maxima", "totals"), store_of_rows, strict=True):
                e.line(f"of_rows = load({source}, row - row_first, {self.c}, -1)")
                store("of_rows", Point((*self.index, "row"), len(self.frame) - 2, lanes))


# ------------------------------------------------------------------------------------------------ backward


class _Backward(_Writer):
    """The cotangents of the queries (``queries``), of keys and values (``keys``), or all.

    A unit is a range of rows and a range of keys of one matrix: all of them, but for the axis along which the results lie
    where only one kind is made. Blocks of keys are the outer loop.
    """

    def __init__(self, kernel: Kernel, found: Parts, queries: bool, keys: bool) -> None:
        what = (
            "cotangents" if queries and keys else "cotangent of queries" if queries else "cotangents of keys and values"
        )
        super().__init__(kernel, found, what, BLOCK_BACK)
        assert found.ct_p is not None
        self.of_queries, self.of_keys = queries, keys
        self.values = found.ct_p.inputs[0].type.shape[-1]
        self.query_tile = self.tile(self.rows, self.features)
        self.key_tile, self.value_tile = self.tile(self.keys, self.features), self.tile(self.keys, self.values)
        self.unit_rows, self.unit_keys = rounded(self.rows, self.block_rows), rounded(self.keys, self.block_keys)
        matrices = math.prod(self.lead)
        wanted = -(-UNITS // max(matrices, 1))
        if not keys:
            pieces = max(min(wanted, self.rows // FEWEST), -(-self.rows // MOST), 1)
            self.unit_rows = rounded(-(-self.rows // pieces), self.block_rows)
        if not queries:
            blocks = -(-self.keys // self.block_keys)
            self.unit_keys = self.block_keys * max(blocks // wanted, 1)

    @staticmethod
    def blocks(found: Parts) -> bool:
        """Whether the accumulators of a whole matrix are few enough."""
        return found.frame[-2] * (found.s.inputs[0].type.shape[-1] + PAD) <= WHOLE

    @property
    def parts(self) -> int:
        return -(-self.rows // self.unit_rows) * -(-self.keys // self.unit_keys)

    def write(self, then: Code | None = None) -> Code:
        e, found = self.e, self.found
        assert found.ct_p is not None and found.inner is not None and found.p is not None and found.ct_s is not None
        self.q, self.k = (self.matrix(x) for x in found.s.inputs)
        self.ct_o, self.v = (self.matrix(x) for x in found.ct_p.inputs)
        stores = [self.result(x) for x in found.products]
        e.word(self.rows, "rows")
        e.word(self.keys, "keys")
        self._rooms()
        e.line(f"zero = splat(0, {self.c})")
        e.line("finite = 1")
        once, per_row, per_place = self.levels([found.p, found.ct_s], [found.inner], [found.s, found.ct_p])
        outside = Values(e, self.layout)
        outside.emit(once, Point((0,) * len(self.frame), None))
        if self.limit is not None:
            outside.emit([self.limit[1]], Point((0,) * len(self.frame), None))
        matrices = math.prod(self.lead)
        e.word(self.parts, "parts")
        e.word(self.unit_rows, "unit_rows")
        e.word(self.unit_keys, "unit_keys")
        count = " * ".join([*(e.word(n, f"n{j}") for j, n in enumerate(self.lead)), "parts"])
        e.line(f"first, last = share({count}, 1, thread, threads)")
        with e.block("for unit in range(first, last):"):
            e.line("part = unit % parts")
            e.line("rest = unit // parts")
            e.line("row_first = part * unit_rows" if not self.of_keys else "row_first = 0")
            e.line("key_first = part * unit_keys" if not self.of_queries else "key_first = 0")
            e.line("row_end = min(row_first + unit_rows, rows)")
            e.line("key_end = min(key_first + unit_keys, keys)")
            self.batch_of("rest")
            if self.of_queries:
                self.zero("to_queries", self.unit_rows * self.query_width)
            with e.block(f"for key_low in range(key_first, key_end, {self.block_keys}):"):
                self._block_of_keys(outside, per_row, per_place, stores)
            if self.of_queries:
                self._store("to_queries", self.query_width, "row_first", "row_end", self.features, stores[0])
        places = matrices * self.rows * self.keys
        products = self.features + self.values + self.of_queries * self.features
        products += self.of_keys * (self.features + self.values)
        work = places * products / SPEED + places / LANES * (2.0 + self.cost(per_place))
        return e.code(matrices * self.parts, work, then)

    def _rooms(self) -> None:
        score, query, key, value = self.score_tile, self.query_tile, self.key_tile, self.value_tile
        wide = rounded(self.block_keys, key.rows)
        self.query_width = rounded(self.features, query.columns) + PAD
        self.key_width = rounded(self.features, key.columns) + PAD
        self.value_width = rounded(self.values, value.columns) + PAD
        self.width = max(self.width, wide + PAD)
        rooms = [
            ("lefts", self.block_rows * self.features), ("left_cts", self.block_rows * self.values),
            ("panels", self.block_keys * self.features), ("value_panels", self.block_keys * self.values),
            ("sums", self.block_rows * self.width), ("grads", self.block_rows * self.width),
        ]  # fmt: skip
        if self.of_queries:
            rooms += [
                ("key_rows", self.block_keys * rounded(self.features, query.columns)),
                ("to_queries", self.unit_rows * self.query_width),
            ]
        if self.of_keys:
            rooms += [
                ("query_rows", self.block_rows * rounded(self.features, key.columns)),
                ("ct_rows", self.block_rows * rounded(self.values, value.columns)),
                ("to_keys", wide * self.key_width), ("to_values", wide * self.value_width),
            ]  # fmt: skip
        assert score.rows == query.rows
        for name, count in rooms:
            self.room(name, count + LANES)

    def _block_of_keys(
        self, outside: Values, per_row: list[Node], per_place: list[Node],
        stores: Sequence[Callable[[str, Point], None]],
    ) -> None:  # fmt: skip
        e, columns = self.e, self.score_tile.columns
        e.line(f"key_high = min(key_low + {self.block_keys}, key_end)")
        e.line("held = key_high - key_low")
        self.pack_rows(self.k, "key_low", "held", self.features, "panels", columns)
        self.pack_rows(self.v, "key_low", "held", self.values, "value_panels", columns)
        if self.of_queries:
            self.pack_columns(self.k, "key_low", "held", self.features, "key_rows", self.query_tile.columns)
        if self.of_keys:
            wide = rounded(self.block_keys, self.key_tile.rows)
            self.zero("to_keys", wide * self.key_width)
            self.zero("to_values", wide * self.value_width)
        if self.limit is not None:
            e.line("finite_keys = 1")
            e.line(f"padded = (held + {columns - 1}) // {columns} * {columns}")
            self.not_finite("panels", f"padded * {self.features}", "finite_keys")
            self.not_finite("value_panels", f"padded * {self.values}", "finite_keys")
        with e.block(f"for row_low in range(row_first, row_end, {self.block_rows}):"):
            e.line(f"row_high = min(row_low + {self.block_rows}, row_end)")
            e.line("taken = row_high - row_low")
            self.pack_rows(self.q, "row_low", "taken", self.features, "lefts", self.height)
            self.pack_rows(self.ct_o, "row_low", "taken", self.values, "left_cts", self.height)
            e.line("at = key_low")
            e.line("until = key_high")
            if self.limit is not None:
                self._shorten(outside)
            with e.block("if until > at:"):
                self._block(outside, per_row, per_place)
        if self.of_keys:
            self._store("to_keys", self.key_width, "key_low", "key_high", self.features, stores[1])
            self._store("to_values", self.value_width, "key_low", "key_high", self.values, stores[2])

    def _shorten(self, outside: Values) -> None:
        """``until`` before what the mask hides, where nothing comes of that."""
        e, limit = self.e, self.limit
        assert limit is not None
        offset, number = limit
        place = self.layout.place(self.found.m)
        assert place is not None
        e.line(f"seen = (row_high + {offset} - key_low + {GRAIN - 1}) // {GRAIN} * {GRAIN}", "keys before the mask")
        with e.block("if key_low + seen < key_high:"):
            e.line("finite = finite_keys")
            e.line(f"padded = (taken + {self.height - 1}) // {self.height} * {self.height}")
            self.not_finite("lefts", f"padded * {self.features}", "finite")
            self.not_finite("left_cts", f"padded * {self.values}", "finite")
            e.line("left_out = 0")

            def maximum(r: str) -> str:
                point = Point((*self.index, r, "key_low"), None)
                return load(e, place, self.found.m.type.dtype, point)

            self.gone(number, maximum, outside, "row_low", "row_high")
            with e.block("if left_out > 0:"):
                e.line("until = key_low + max(seen, 0)")

    def _block(self, outside: Values, per_row: list[Node], per_place: list[Node]) -> None:
        """Rows from ``row_low`` to ``row_high``, keys from ``at`` = ``key_low`` to ``until``."""
        e, tile = self.e, self.score_tile
        e.line(f"count = (until - key_low + {tile.columns - 1}) // {tile.columns}")
        with self.strips("0", "taken", self.height):
            for left, right, depth, into in (
                ("lefts", "panels", self.features, "sums"), ("left_cts", "value_panels", self.values, "grads"),
            ):  # fmt: skip
                self.strip(
                    self.at(left, f"strip * {depth}"), "1", str(self.height), right, str(tile.columns),
                    str(tile.columns * depth), "count", self.at(into, f"strip * {self.width}"), str(self.width),
                    str(depth), False, tile,
                )  # fmt: skip
        with e.block("for row in range(row_low, row_high):"):
            self._row(outside, per_row, per_place)
        if self.of_queries:
            tile = self.query_tile
            with self.strips("0", "taken", self.height):
                self.strip(
                    self.at("grads", f"strip * {self.width}"), str(self.width), "1", "key_rows", str(tile.columns),
                    f"held * {tile.columns}", str(tile.panels(self.features)),
                    self.at("to_queries", f"(row_low - row_first + strip) * {self.query_width}"),
                    str(self.query_width), "until - key_low", True, tile,
                )  # fmt: skip
        if self.of_keys:
            for right, x, columns, tile, left, into, width in (
                ("query_rows", self.q, self.features, self.key_tile, "grads", "to_keys", self.key_width),
                ("ct_rows", self.ct_o, self.values, self.value_tile, "sums", "to_values", self.value_width),
            ):
                self.pack_columns(x, "row_low", "taken", columns, right, tile.columns)
                with self.strips("0", "until - key_low", tile.rows):
                    self.strip(
                        self.at(left, "strip"), "1", str(self.width), right, str(tile.columns),
                        f"taken * {tile.columns}", str(tile.panels(columns)), self.at(into, f"strip * {width}"),
                        str(width), "taken", True, tile,
                    )  # fmt: skip

    def _row(self, outside: Values, per_row: list[Node], per_place: list[Node]) -> None:
        """p and the cotangents of the scores in one row, in the place of s and of the cotangent of p."""
        e, found = self.e, self.found
        assert found.inner is not None and found.ct_p is not None and found.p is not None and found.ct_s is not None
        of_row = outside.child()
        name = of_row.name(found.inner)
        self._inner(name)
        of_row.set(found.inner, name)
        of_row.emit([*per_row, found.p.inputs[1]], Point((*self.index, "row", "key_low"), None))
        e.line(f"inverse = 1.0 / {of_row[found.p.inputs[1]]}")
        e.line(f"base = (row - row_low) * {self.width} - key_low")
        for points in self.over_keys():
            copies = []
            for j, (point, _) in enumerate(points):
                values = of_row.child(f"_{'abcd'[j]}" if len(points) > 1 else "_r")
                for node, source in ((found.s, "sums"), (found.ct_p, "grads")):
                    made = values.name(node)
                    e.line(f"{made} = load({source}, base + {point.index[-1]}, {self.c}, -1)")
                    values.set(node, made)
                copies.append((values, point))
            exponential = found.p.inputs[0]
            copies[0][0].emit_together(copies[1:], [exponential], copies[0][1])
            for values, _ in copies:
                made = values.name(found.p)
                e.line(f"{made} = {values[exponential]} * inverse", "p")
                values.set(found.p, made)
            copies[0][0].emit_together(copies[1:], [found.ct_s], copies[0][1])
            for values, point in copies:
                e.line(f"store(sums, base + {point.index[-1]}, {values[found.p]}, {self.c}, -1)")
                e.line(f"store(grads, base + {point.index[-1]}, {values[found.ct_s]}, {self.c}, -1)")
        for name in ("sums", "grads"):  # what a strip along the keys reads beyond them
            e.line(f"store({name}, base + until, zero, {self.c}, -1)")

    def _inner(self, name: str) -> None:
        """The sum over the values of ō o in one row."""
        e, found = self.e, self.found
        assert found.inner is not None
        product = found.inner.inputs[0]
        shape = product.type.shape
        layout = Layout(self.kernel.body, shape, (len(shape) - 1,))
        e.line("inner = zero")
        for lanes in ragged(e, "column", 0, self.values):
            values = Values(e, layout, "_o")
            values.emit([product], Point((*self.index, "row", "column"), len(shape) - 1, lanes))
            e.line(f"inner = inner + {values[product] if lanes is None else f'merge({values[product]}, 0.0, {lanes})'}")
        e.line(f"{name} = reduce_add(inner)")

    def _store(
        self, source: str, width: int, low: str, high: str, columns: int, store: Callable[[str, Point], None]
    ) -> None:
        e = self.e
        with e.block(f"for row in range({low}, {high}):"):
            e.line(f"line = (row - {low}) * {width}")
            for lanes in ragged(e, "column", 0, columns):
                e.line(f"made = load({source}, line + column, {self.c}, -1)")
                store("made", Point((*self.index, "row", "column"), len(self.frame) - 1, lanes))
