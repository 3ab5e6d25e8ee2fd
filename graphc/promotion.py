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


def element_of(spec: Any) -> DType:
    """The element type that NumPy's functions are given: ``"i8"`` is NumPy's int64 there, graphc's own name elsewhere."""
    return dtype(np.dtype(spec) if isinstance(spec, str) and spec in ("i8", "u8") else spec)


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


def resolved_loop(
    ufunc: Any, given: Sequence[Any], result: DType | tuple[DType | None, ...] | None, casting: str
) -> list[DType]:
    """``given``: a DType, or a Python type for a weak number. NumPy's bools are never weak.

    ``result``: the type of the results that is asked for, or those of all operands and results (None: any).
    """
    if isinstance(result, tuple):
        return signed_loop(ufunc, given, result, casting)
    if ufunc is np.ldexp:  # whose second operand is an integer, whatever the first is
        return mixed_loop(ufunc, given, result, casting)
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


def in_numpy(given: DType | type) -> Any:
    """An operand as ``resolve_dtypes`` takes it; NumPy's bools are never weak, and f32 stands for bf16."""
    if isinstance(given, DType):
        return np.dtype(np.float32) if given is bf16 else given.numpy
    return np.dtype(bool) if given is bool else given


def signed_loop(ufunc: Any, given: Sequence[Any], wanted: tuple[DType | None, ...], casting: str) -> list[DType]:
    """The loop with the types that ``signature=`` names."""
    signature = tuple(None if t is None else in_numpy(t) for t in wanted)
    operands = (*map(in_numpy, given), *[None] * ufunc.nout)
    found = ufunc.resolve_dtypes(operands, signature=signature, casting=casting)[: ufunc.nin]
    return [bf16 if want is bf16 else dtype(t) for t, want in zip(found, wanted, strict=False)]


def mixed_loop(ufunc: Any, given: Sequence[Any], result: DType | None, casting: str) -> list[DType]:
    """The loop of a ufunc whose operands are of different kinds; a bf16 operand stays one."""
    wanted = {} if result is None else {"signature": (*[None] * ufunc.nin, in_numpy(result))}
    operands = (*map(in_numpy, given), *[None] * ufunc.nout)
    if all(isinstance(t, type) for t in given):
        operands = (*map(np.dtype, given), *[None] * ufunc.nout)
    found = ufunc.resolve_dtypes(operands, casting=casting, **wanted)[: ufunc.nin]
    return [bf16 if t is bf16 else dtype(f) for f, t in zip(found, given, strict=True)]
