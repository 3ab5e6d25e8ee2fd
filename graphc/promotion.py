"""Which element type arithmetic gives: NumPy 2's promotion, with f16 and bf16 as in JAX.

Operands are described by their element type, or by ``bool``, ``int``, ``float`` or ``complex`` for a weak number: one that takes
the type of the arrays it meets, as Python's literals do.

>>> from graphc.types import bf16, f32, i64
>>> common_type([f32, float]), common_type([f32, i64]), common_type([bf16, i64]), common_type([int, float])
(f32, f64, bf16, f64)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.types import DType, bf16, dtype, f16

Operand = DType | type


def common_type(given: Sequence[DType | type]) -> DType:
    """:func:`promote` of element types; bool, int and float stand for weak numbers."""
    strong = [t for t in given if isinstance(t, DType)]
    weak = [t for t in given if not isinstance(t, DType)]
    if f16 in strong or bf16 in strong:
        return promote_half(strong, weak)
    return dtype(np.result_type(*[t.numpy for t in strong], *[kind() for kind in weak]))


def promote_half(strong: Sequence[DType], weak: Sequence[type]) -> DType:
    """With f16 or bf16 among them: integers and weak numbers follow the floats; f16 with bf16 is f32 (as in JAX)."""
    floats = {t for t in strong if t.is_inexact}
    if len(floats) == 1 and complex not in weak:
        return floats.pop()
    wide = [np.dtype(np.complex64)] if complex in weak else []
    return dtype(np.result_type(np.float32, *wide, *[t.numpy for t in floats if t not in (f16, bf16)]))


def same_kind(have: DType, want: DType) -> bool:
    """NumPy's casting rule ``same_kind``, bf16 being a float like the others."""
    return have.is_float and want.is_float or bool(np.can_cast(have.numpy, want.numpy, "same_kind"))


def resolved_loop(ufunc: Any, given: Sequence[Any], result: DType | None, casting: str) -> list[DType]:
    """``given``: a DType, or a Python type for a weak number. NumPy's bools are never weak."""
    strong = [t for t in given if isinstance(t, DType)]
    half = (
        promote_half(strong, [t for t in given if not isinstance(t, DType)])
        if {f16, bf16} & {*strong, result}
        else None
    )
    if half is not None:
        half = result if result is not None and result.is_inexact else half
        stand_in = np.dtype(np.float32) if half is bf16 else half.numpy
        operands: list[Any] = [stand_in] * len(given)
    elif strong:
        operands = [t.numpy if isinstance(t, DType) else np.dtype(bool) if t is bool else t for t in given]
    else:
        operands = [np.dtype(t) for t in given]
    wanted = [None] * ufunc.nout if result is None or half is not None else [result.numpy] * ufunc.nout
    signature = (*[None] * ufunc.nin, *wanted)  # NumPy takes no None for all of it
    found = ufunc.resolve_dtypes((*operands, *[None] * ufunc.nout), signature=signature, casting=casting)[: ufunc.nin]
    if half is not None:
        return [half if t == stand_in else dtype(t) for t in found]
    return [dtype(t) for t in found]
