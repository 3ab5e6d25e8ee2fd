"""Machine code of windows: the micro-kernel that reads its left operand by places, shuffles, calls of the shared routines.

In kernel source (pointers, then int64; dtypes and literals last)
    ``window_strip(a, a_row, places, b, b_step, b_panel, panels, c, c_row, depth, accumulate, dtype, rows, vectors, lanes)``
    ``window_planes(…, dtype)``   ``window_patches(…, dtype)``   ``window_interleave(…, dtype)``
    ``load_second(p, i, dtype, scope)``   p[i], p[i + 2], …, p[i + 30]; p[i + 31] is read too
    ``zip_low(x, y)``   ``zip_high(x, y)``   x0 y0 x1 y1 …: the first and the second sixteen
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from graphc.backends.cpu import simd, sliding, tile
from graphc.backends.cpu.external import routine_call
from graphc.backends.cpu.simd import Emit, Value, W

window_planes = routine_call("window_planes", "pp" + "i" * 25, sliding.planes_symbol)
window_patches = routine_call("window_patches", "pp" + "i" * 23, sliding.patches_symbol)
window_interleave = routine_call("window_interleave", "pp" + "i" * 14, sliding.interleave_symbol)


@simd.primitive
def load_second(p: types.Type, i: types.Type, dtype: types.Type, scope: types.Type) -> tuple[types.Type, Emit]:
    """Every second one of 32 elements from p + i on."""
    simd.need(p, pointer=True)
    simd.need(i)
    d, s = simd.dtype_of(dtype), simd.literal_int(scope)
    memory = simd.stored_dtype(d)

    def emit(b: ir.IRBuilder, p: ir.Value, i: ir.Value, *_: Any) -> ir.Value:
        parts = []
        for k in (0, W):
            place = b.add(i, ir.Constant(simd.I64, k))
            loaded = b.load(simd.element(b, p, place, d), typ=memory.llvm, align=d.itemsize)
            b.module.scoped(loaded, s)
            parts.append(Value(b, memory, loaded))
        return simd.from_memory(parts[0].shuffle(range(0, 2 * W, 2), parts[1]), d).ir

    return simd.Vec(d), emit


def _zip(first: int) -> Any:
    def rule(x: types.Type, y: types.Type) -> tuple[types.Type, Emit]:
        d = simd.vec_dtype(x)
        if simd.vec_dtype(y) is not d:
            raise simd.typing_error(f"the vectors must be of one dtype, not {x} and {y}")
        lanes = [first + k // 2 + W * (k % 2) for k in range(W)]
        return x, lambda b, x, y: Value(b, d, x).shuffle(lanes, Value(b, d, y)).ir

    rule.__name__ = "zip_high" if first else "zip_low"
    return simd.primitive(rule)


zip_low, zip_high = _zip(0), _zip(W // 2)

window_strip = routine_call("window_strip", "pippiiipiii", sliding.strip_symbol, literals=3)


@simd.primitive
def micro_strip_at(
    table: types.Type, dtype: types.Type, rows: types.Type, vectors: types.Type, lanes: types.Type
) -> tuple[types.Type, Emit]:
    """The body of a strip routine whose left operand is read at the places of a list; the words of ``table`` are the
    arguments of ``window_strip``."""
    simd.need(table, pointer=True)
    micro = tile._Micro(
        simd.dtype_of(dtype), simd.literal_int(rows), simd.literal_int(vectors), simd.literal_int(lanes)
    )
    return types.void, lambda b, table, *_: _emit_strip_at(b, table, micro)


def _emit_strip_at(b: ir.IRBuilder, table: ir.Value, micro: tile._Micro) -> None:
    """Panel after panel; along the depth, row i of the left operand is at ``a + places[k] + i * a_row``."""
    words = tile._words(b, table, "pippiiipiii")
    a, a_row, places, right, b_step, b_panel, panels, c, c_row, depth, accumulate = words
    itemsize = ir.Constant(simd.I64, micro.dtype.itemsize)
    a_row, b_step, b_panel, c_row = (b.mul(stride, itemsize) for stride in (a_row, b_step, b_panel, c_row))
    groups = [tile._offset(b, a, b.mul(a_row, ir.Constant(simd.I64, i))) for i in range(0, micro.rows, 4)]
    with tile._count(b, panels) as panel:
        into = tile._offset(b, c, b.mul(panel, ir.Constant(simd.I64, micro.vectors * micro.nbytes)))
        before = b.block
        start = tile._offset(b, right, b.mul(panel, b_panel))
        loop, done = b.append_basic_block("depth"), b.append_basic_block("done")
        b.branch(loop)
        b.position_at_end(loop)
        k, columns = b.phi(simd.I64), b.phi(simd.POINTER)
        k.add_incoming(ir.Constant(simd.I64, 0), before)
        columns.add_incoming(start, before)
        totals = [b.phi(micro.vector) for _ in range(micro.rows * micro.vectors)]
        for total in totals:
            total.add_incoming(ir.Constant(micro.vector, None), before)
        place = b.load(b.gep(places, [k], source_etype=simd.I64), typ=simd.I64, align=8)
        place = b.mul(place, itemsize)
        left = [tile._offset(b, group, place) for group in groups]
        found = micro.step(b, micro.row_addresses(b, left, a_row), columns, totals)
        for total, value in zip(totals, found, strict=True):
            total.add_incoming(value, loop)
        columns.add_incoming(tile._offset(b, columns, b_step), loop)
        following = b.add(k, ir.Constant(simd.I64, 1))
        k.add_incoming(following, loop)
        b.cbranch(b.icmp_signed("<", following, depth), loop, done)
        b.position_at_end(done)
        with b.if_else(b.icmp_signed("!=", accumulate, ir.Constant(simd.I64, 0))) as (add, overwrite):
            with add:
                micro.store(b, into, c_row, found, accumulate=True)
            with overwrite:
                micro.store(b, into, c_row, found, accumulate=False)
