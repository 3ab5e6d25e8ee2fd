"""Machine code of register tiles: the micro-kernel, transposing blocks, and calls of the shared routines.

The micro-kernel is LLVM IR emitted by one primitive: nothing is left for Numba to type, so that it compiles in
0.02 s, where the same loop as kernel source takes 1.7 s.  :mod:`graphc.backends.cpu.tiling` has the routines' sources.

In kernel source (pointers, then int64; strides count elements; literals last)
    ``tile_strip(a, a_row, a_step, b, b_step, b_panel, panels, c, c_row, depth, accumulate, dtype, rows, vectors, lanes)``
    ``tile_pack(x, x_step, x_column, y, depth, columns, dtype, width)``
    ``tile_dots(x, x_row, y, y_row, out, count, depth, accumulate, dtype)``
    ``add_first(out, j, x, accumulate, dtype)``   out[j] = (out[j] +) lane 0 of x
    ``load_where(p, i, mask, dtype)``   ``gather_where(p, places, mask, dtype)``   lanes outside the mask are 0, not read
    ``transpose_block(x, i, row, dtype, y, j, width)``   ``address(p)``
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import types

from graphc.backends.cpu import simd, tiling
from graphc.backends.cpu.external import routine_call
from graphc.backends.cpu.simd import I8, I32, I64, POINTER, DType, Emit, W, dtype_of, literal_int

tile_strip = routine_call("tile_strip", "piipiiipiii", tiling.strip_symbol, literals=3)
tile_pack = routine_call("tile_pack", "piipii", tiling.pack_symbol, literals=1)
tile_dots = routine_call("tile_dots", "pipipiii", tiling.dots_symbol)


# ---------------------------------------------------------------------------------------------------------------------
# the micro-kernel


def _offset(b: ir.IRBuilder, base: ir.Value, nbytes: ir.Value) -> ir.Value:
    return b.gep(base, [nbytes], source_etype=I8)


def _words(b: ir.IRBuilder, table: ir.Value, kinds: str) -> list[ir.Value]:
    return [
        b.load(_offset(b, table, ir.Constant(I64, 8 * k)), typ=POINTER if kind == "p" else I64, align=8)
        for k, kind in enumerate(kinds)
    ]


@dataclass(frozen=True)
class _Micro:
    """The vector instructions of a tile of ``rows`` x ``vectors`` registers of ``lanes`` elements of ``dtype``."""

    dtype: DType
    rows: int
    vectors: int
    lanes: int

    @property
    def vector(self) -> ir.VectorType:
        return simd.vector_type(self.dtype.lane, self.lanes)

    @property
    def nbytes(self) -> int:
        return self.lanes * self.dtype.itemsize

    def load(self, b: ir.IRBuilder, p: ir.Value, register: int) -> ir.Value:
        address = _offset(b, p, ir.Constant(I64, register * self.nbytes))
        return b.load(address, typ=self.vector, align=self.dtype.itemsize)

    def splat(self, b: ir.IRBuilder, p: ir.Value) -> ir.Value:
        """One element in all lanes: the broadcast operand of a multiplication."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        element = b.load(p, typ=self.dtype.lane, align=self.dtype.itemsize)
        first = b.insert_element(undefined, element, ir.Constant(I32, 0))
        return b.shuffle_vector(first, undefined, ir.Constant(simd.vector_type(I32, self.lanes), None))

    def multiply_add(self, b: ir.IRBuilder, x: ir.Value, y: ir.Value, total: ir.Value) -> ir.Value:
        """``x * y + total``: one rounding where the processor has FMA, two elsewhere (never a library call)."""
        if self.dtype.kind != "f":
            return b.add(b.mul(x, y), total)
        if not simd.has_fma(b.module):
            return b.fadd(b.fmul(x, y), total)
        name = f"llvm.fma.v{self.lanes}f{self.dtype.bits}"
        return b.call(simd.intrinsic(b.module, name, self.vector, [self.vector] * 3), [x, y, total])

    def add(self, b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
        return b.fadd(x, y) if self.dtype.kind == "f" else b.add(x, y)

    def row_addresses(self, b: ir.IRBuilder, a: Sequence[ir.Value], row: ir.Value) -> list[ir.Value]:
        """Addresses of one element per row; ``a`` points to rows 0, 4, 8, …, ``row`` is the bytes between rows."""
        between = [ir.Constant(I64, 0), row, b.shl(row, ir.Constant(I64, 1)), b.mul(row, ir.Constant(I64, 3))]
        return [_offset(b, a[i // 4], between[i % 4]) for i in range(self.rows)]

    def step(
        self, b: ir.IRBuilder, rows: Sequence[ir.Value], columns: ir.Value, totals: list[ir.Value]
    ) -> list[ir.Value]:
        """One step along the depth: ``totals[row, register] += a[row] * b[register]``."""
        right = [self.load(b, columns, j) for j in range(self.vectors)]
        result = []
        for i in range(self.rows):
            left = self.splat(b, rows[i])
            for j in range(self.vectors):
                result.append(self.multiply_add(b, left, right[j], totals[i * self.vectors + j]))
        return result

    def store(self, b: ir.IRBuilder, c: ir.Value, row: ir.Value, totals: list[ir.Value], accumulate: bool) -> None:
        for i in range(self.rows):
            line = _offset(b, c, b.mul(row, ir.Constant(I64, i)))
            for j in range(self.vectors):
                value = totals[i * self.vectors + j]
                if accumulate:
                    value = self.add(b, self.load(b, line, j), value)
                b.store(value, _offset(b, line, ir.Constant(I64, j * self.nbytes)), align=self.dtype.itemsize)


@simd.primitive
def micro_strip(
    table: types.Type, dtype: types.Type, rows: types.Type, vectors: types.Type, lanes: types.Type
) -> tuple[types.Type, Emit]:
    """The body of a strip routine; the words of ``table`` are the arguments of ``tile_strip``."""
    simd.need(table, pointer=True)
    micro = _Micro(dtype_of(dtype), literal_int(rows), literal_int(vectors), literal_int(lanes))
    return types.void, lambda b, table, *_: _emit_strip(b, table, micro)


def _emit_strip(b: ir.IRBuilder, table: ir.Value, micro: _Micro) -> None:
    a, a_row, a_step, right, b_step, b_panel, panels, c, c_row, depth, accumulate = _words(b, table, "piipiiipiii")
    itemsize = ir.Constant(I64, micro.dtype.itemsize)
    a_row, a_step, b_step, b_panel, c_row = (
        b.mul(stride, itemsize) for stride in (a_row, a_step, b_step, b_panel, c_row)
    )
    groups = [_offset(b, a, b.mul(a_row, ir.Constant(I64, i))) for i in range(0, micro.rows, 4)]
    with _count(b, panels) as panel:
        columns = _offset(b, right, b.mul(panel, b_panel))
        into = _offset(b, c, b.mul(panel, ir.Constant(I64, micro.vectors * micro.nbytes)))
        totals = _emit_depth(b, micro, groups, a_row, a_step, columns, b_step, depth)
        with b.if_else(b.icmp_signed("!=", accumulate, ir.Constant(I64, 0))) as (add, overwrite):
            with add:
                micro.store(b, into, c_row, totals, accumulate=True)
            with overwrite:
                micro.store(b, into, c_row, totals, accumulate=False)


def _emit_depth(
    b: ir.IRBuilder,
    micro: _Micro,
    groups: Sequence[ir.Value],
    a_row: ir.Value,
    a_step: ir.Value,
    columns: ir.Value,
    b_step: ir.Value,
    depth: ir.Value,
) -> list[ir.Value]:
    """The loop along the depth (at least 1), accumulators in registers; the totals, row by row."""
    before = b.block
    loop, done = b.append_basic_block("depth"), b.append_basic_block("done")
    b.branch(loop)
    b.position_at_end(loop)
    left = b.phi(I64)
    left.add_incoming(depth, before)
    pointers = []
    for start in (*groups, columns):
        pointers.append(b.phi(POINTER))
        pointers[-1].add_incoming(start, before)
    totals = [b.phi(micro.vector) for _ in range(micro.rows * micro.vectors)]
    for total in totals:
        total.add_incoming(ir.Constant(micro.vector, None), before)
    found = micro.step(b, micro.row_addresses(b, pointers[:-1], a_row), pointers[-1], totals)
    for total, value in zip(totals, found, strict=True):
        total.add_incoming(value, loop)
    for pointer, by in zip(pointers, [a_step] * len(groups) + [b_step], strict=True):
        pointer.add_incoming(_offset(b, pointer, by), loop)
    rest = b.sub(left, ir.Constant(I64, 1))
    left.add_incoming(rest, loop)
    b.cbranch(b.icmp_signed("!=", rest, ir.Constant(I64, 0)), loop, done)
    b.position_at_end(done)
    return found


class _count:
    """``for k in range(n)`` while emitting: ``with _count(b, n) as k``."""

    def __init__(self, b: ir.IRBuilder, n: ir.Value) -> None:
        self.b, self.n = b, n

    def __enter__(self) -> ir.Value:
        b = self.b
        before = b.block
        self.head, body, self.done = (b.append_basic_block(name) for name in ("head", "body", "end"))
        b.branch(self.head)
        b.position_at_end(self.head)
        self.k = b.phi(I64)
        self.k.add_incoming(ir.Constant(I64, 0), before)
        b.cbranch(b.icmp_signed("<", self.k, self.n), body, self.done)
        b.position_at_end(body)
        return self.k

    def __exit__(self, *_: Any) -> None:
        b = self.b
        self.k.add_incoming(b.add(self.k, ir.Constant(I64, 1)), b.block)
        b.branch(self.head)
        b.position_at_end(self.done)


# ---------------------------------------------------------------------------------------------------------------------
# transposing


@simd.primitive
def transpose_block(
    x: types.Type, i: types.Type, row: types.Type, dtype: types.Type, y: types.Type, j: types.Type, width: types.Type
) -> tuple[types.Type, Emit]:
    """16 rows (below a width of 16: so many) of ``dtype`` at x + i, ``row`` apart, transposed to y + j, ``width`` apart."""
    for pointer in (x, y):
        simd.need(pointer, pointer=True)
    simd.need(i)
    simd.need(j)
    d, apart = dtype_of(dtype), literal_int(width)

    def emit(
        b: ir.IRBuilder, x: ir.Value, i: ir.Value, row: ir.Value, _: Any, y: ir.Value, j: ir.Value, __: Any
    ) -> None:
        memory = d if d.compute is d else simd.u16
        block: list[simd.Value] = []
        for r in range(W):
            if r >= apart:
                block.append(block[0])  # no part of the panel
                continue
            place = b.add(i, b.mul(row, ir.Constant(I64, r)))
            loaded = b.load(simd.element(b, x, place, d), typ=memory.llvm, align=d.itemsize)
            block.append(simd.Value(b, memory, loaded))
        for r, value in enumerate(transposed(block)):
            place = b.add(j, ir.Constant(I64, r * apart))
            wide = value if d.compute is d else simd.widen(value, d)
            part = wide.ir if apart >= W else _first_lanes(b, wide.ir, apart)
            b.store(part, simd.element(b, y, place, d.compute), align=d.compute.itemsize)

    return types.void, emit


def _first_lanes(b: ir.IRBuilder, vector: ir.Value, count: int) -> ir.Value:
    mask = ir.Constant(simd.vector_type(I32, count), list(range(count)))
    return b.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)


def transposed(rows: list[simd.Value]) -> list[simd.Value]:
    """The 16 columns of 16 vectors, by exchanging halves of halves (Eklundh 1972): 4 rounds of 16 shuffles."""
    distance = W // 2
    while distance:
        even = [k if not k & distance else W + k - distance for k in range(W)]
        odd = [k + distance if not k & distance else W + k for k in range(W)]
        merged = list(rows)
        for r in range(W):
            if not r & distance:
                merged[r] = rows[r].shuffle(even, rows[r + distance])
                merged[r + distance] = rows[r].shuffle(odd, rows[r + distance])
        rows = merged
        distance //= 2
    return rows


@simd.primitive
def add_first(
    out: types.Type, j: types.Type, x: types.Type, accumulate: types.Type, dtype: types.Type
) -> tuple[types.Type, Emit]:
    """out[j] = lane 0 of x, added to what is there where ``accumulate`` is not 0."""
    simd.need(out, pointer=True)
    simd.need(j)
    simd.need(accumulate)
    d = dtype_of(dtype)

    def emit(b: ir.IRBuilder, out: ir.Value, j: ir.Value, x: ir.Value, accumulate: ir.Value, _: Any) -> None:
        address = simd.element(b, out, j, d)
        total = b.extract_element(x, ir.Constant(I32, 0))
        with b.if_else(b.icmp_signed("!=", accumulate, ir.Constant(I64, 0))) as (add, overwrite):
            with add:
                before = b.load(address, typ=d.lane, align=d.itemsize)
                b.store(b.fadd(before, total) if d.kind == "f" else b.add(before, total), address, align=d.itemsize)
            with overwrite:
                b.store(total, address, align=d.itemsize)

    return types.void, emit


@simd.primitive
def address(p: types.Type) -> tuple[types.Type, Emit]:
    """A pointer as int64: equal for what is written in place."""
    simd.need(p, pointer=True)
    return types.int64, lambda b, p: b.ptrtoint(p, I64)


# ---------------------------------------------------------------------------------------------------------------------
# reading windows: the lanes of a mask


def _where(
    p: types.Type, place: types.Type, mask: types.Type, dtype: types.Type, vector: bool
) -> tuple[types.Type, Emit]:
    simd.need(p, pointer=True)
    if vector:
        simd.vec_dtype(place)
    else:
        simd.need(place)
    if simd.vec_dtype(mask) is not simd.bool_:
        raise simd.typing_error(f"the mask must be a bool vector, not {mask}")
    d = dtype_of(dtype)
    memory = d if d.compute is d else simd.u16

    def emit(b: ir.IRBuilder, p: ir.Value, place: ir.Value, mask: ir.Value, _: Any) -> ir.Value:
        if vector:
            wide = simd.convert(simd.Value(b, simd.vec_dtype(place_type), place), simd.i64)
            address = b.gep(p, [wide.ir], source_etype=d.memory)
            address.type = simd.vector_type(POINTER)  # llvmlite takes the base's type for the result's
            name = f"llvm.masked.gather.{memory.suffix}.v{W}p0"
        else:
            address = simd.element(b, p, place, d)
            name = f"llvm.masked.load.{memory.suffix}.p0"
        arguments = [address, ir.Constant(I32, d.itemsize), mask, ir.Constant(memory.llvm, None)]
        function = simd.intrinsic(b.module, name, memory.llvm, [a.type for a in arguments])
        loaded = simd.Value(b, memory, b.call(function, arguments))
        return (loaded if d.compute is d else simd.widen(loaded, d)).ir

    place_type = place
    return simd.Vec(d), emit


@simd.primitive
def load_where(p: types.Type, i: types.Type, mask: types.Type, dtype: types.Type) -> tuple[types.Type, Emit]:
    """Sixteen elements from p + i on, those in the mask; 0 in the other lanes, which are not read."""
    return _where(p, i, mask, dtype, vector=False)


@simd.primitive
def gather_where(p: types.Type, places: types.Type, mask: types.Type, dtype: types.Type) -> tuple[types.Type, Emit]:
    """The elements at ``places`` after p, those in the mask; 0 in the other lanes, which are not read."""
    return _where(p, places, mask, dtype, vector=True)
