"""Machine code of windows: the micro-kernel that reads its left operand by places, shuffles, calls of the shared routines.

In kernel source (pointers, then int64; dtypes and literals last)
    ``window_planes(…, dtype)``   ``window_patches(…, dtype)``   ``window_interleave(…, dtype)``
    ``load_second(p, i, dtype, scope)``   p[i], p[i + 2], …, p[i + 30]; p[i + 31] is read too
    ``zip_low(x, y)``   ``zip_high(x, y)``   x0 y0 x1 y1 …: the first and the second sixteen
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from graphc.backends.cpu import simd, sliding
from graphc.backends.cpu.external import routine_call
from graphc.backends.cpu.simd import Emit, Value, W

window_planes = routine_call("window_planes", "pp" + "i" * 24, sliding.planes_symbol)
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
