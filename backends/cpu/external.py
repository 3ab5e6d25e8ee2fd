"""Calls out of kernel source: of routines that kernels share, and of LAPACK and BLAS.

In kernel source (pointers, then int64; dtypes and literals last)
    ``sort_small(keys, order, n)``   ``sort_large(keys, order, more_keys, more_order, counts, n, digits, flip)``
    ``cholesky_factor(a, n, dtype)`` -> LAPACK's info, 0 where a is positive definite
    ``triangular_solve(a, b, m, n, k, right, upper, transpose, unit, dtype)``
    ``getrf``, ``geqrf``, ``orgqr``, ``syevd``, ``gesdd``: LAPACK's own, on its column-major matrices -> info
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import types

from graphc.backends.cpu import simd
from graphc.backends.cpu.simd import F32, F64, I8, I32, I64, POINTER, DType, Emit, dtype_of, literal_int

# ---------------------------------------------------------------------------------------------------------------------
# routines: the arguments travel as a table of words, so that a routine has the signature of a kernel


def routine_call(
    name: str, parameters: str, symbol: Callable[..., str], typed: bool = True, literals: int = 0
) -> simd.Primitive:
    """A primitive that calls the routine ``symbol(dtype, *literals)`` (no dtype where not ``typed``).

    ``parameters`` has a ``p`` for each pointer and an ``i`` for each int64.
    """
    count = len(parameters)

    def rule(*args: types.Type) -> tuple[types.Type, Emit]:
        if len(args) != count + typed + literals:
            raise simd.typing_error(f"{name} takes {count} arguments{', a dtype' * typed} and {literals} literals")
        for kind, argument in zip(parameters, args, strict=False):
            simd.need(argument, pointer=kind == "p")
        element = (dtype_of(args[count]).name,) if typed else ()
        called = symbol(*element, *map(literal_int, args[count + typed :]))
        return types.void, lambda b, *values: call_routine(b, called, values[:count])

    rule.__name__ = name
    return simd.primitive(rule)


def call_routine(b: ir.IRBuilder, symbol: str, words: Sequence[ir.Value]) -> None:
    """Call a routine with these words as its table."""
    table = simd.stack_slot(b, ir.ArrayType(I64, len(words)), align=8)
    for k, word in enumerate(words):
        b.store(word, b.gep(table, [ir.Constant(I64, 8 * k)], source_etype=I8), align=8)
    function = simd.intrinsic(b.module, symbol, I64, [POINTER, I64, I64])
    b.call(function, [table, ir.Constant(I64, 0), ir.Constant(I64, 1)])


sort_small = routine_call("sort_small", "ppi", lambda: "graphc_sort_small", typed=False)
sort_large = routine_call("sort_large", "pppppiii", lambda: "graphc_sort_large", typed=False)


# ---------------------------------------------------------------------------------------------------------------------
# LAPACK and BLAS, in Fortran's convention: everything by reference, the lengths of strings at the end


def _stored(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
    slot = simd.stack_slot(b, value.type)
    b.store(value, slot)
    return slot


def _letter(b: ir.IRBuilder, flag: ir.Value | bool, yes: str, no: str = "") -> ir.Value:
    """A character: ``yes`` where the int64 ``flag`` is not 0."""
    characters = [ir.Constant(I8, ord(c)) for c in (yes, no or yes)]
    if isinstance(flag, bool):
        return _stored(b, characters[not flag])
    return _stored(b, b.select(b.icmp_signed("!=", flag, ir.Constant(I64, 0)), *characters))


def _integer(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
    return _stored(b, b.trunc(value, I32))


def _call_fortran(b: ir.IRBuilder, name: str, arguments: Sequence[ir.Value], strings: int) -> None:
    types_ = [POINTER] * len(arguments) + [I64] * strings
    function = simd.intrinsic(b.module, name, ir.VoidType(), types_)
    b.call(function, [*arguments, *[ir.Constant(I64, 1)] * strings])


def _prefix(dtype: types.Type) -> tuple[str, DType]:
    element = dtype_of(dtype)
    if element not in (simd.f32, simd.f64):
        raise simd.typing_error(f"LAPACK takes f32 and f64, not {element}")
    return ("s" if element is simd.f32 else "d"), element


@simd.primitive
def cholesky_factor(a: types.Type, n: types.Type, dtype: types.Type) -> tuple[types.Type, Emit]:
    """Factor the row-major n x n matrix at ``a`` in place, reading and writing its lower triangle."""
    simd.need(a, pointer=True)
    simd.need(n)
    kind, _ = _prefix(dtype)

    def emit(b: ir.IRBuilder, a: ir.Value, n: ir.Value, _: Any) -> ir.Value:
        size, info = _integer(b, n), _stored(b, ir.Constant(I32, 0))
        # LAPACK's columns are our rows: its upper triangle is our lower one.
        _call_fortran(b, f"scipy_{kind}potrf_", [_letter(b, True, "U"), size, a, size, info], 1)
        return b.sext(b.load(info, typ=I32), I64)

    return types.int64, emit


@simd.primitive
def triangular_solve(
    a: types.Type,
    b: types.Type,
    rows: types.Type,
    columns: types.Type,
    left: types.Type,
    lower: types.Type,
    transpose: types.Type,
    unit: types.Type,
    dtype: types.Type,
) -> tuple[types.Type, Emit]:
    """Overwrite the row-major rows x columns matrix at ``b`` with the x of op(a) x = b (``left``) or x op(a) = b."""
    for argument in (a, b):
        simd.need(argument, pointer=True)
    for argument in (rows, columns, left, lower, transpose, unit):
        simd.need(argument)
    kind, element = _prefix(dtype)

    def emit(
        builder: ir.IRBuilder, a: ir.Value, x: ir.Value, rows: ir.Value, columns: ir.Value, left: ir.Value,
        lower: ir.Value, transpose: ir.Value, unit: ir.Value, _: Any,
    ) -> None:  # fmt: skip
        is_left = builder.icmp_signed("!=", left, ir.Constant(I64, 0))
        order = _integer(builder, builder.select(is_left, rows, columns))
        one = _stored(builder, ir.Constant(F32 if element is simd.f32 else F64, 1.0))
        # BLAS sees the transposes of all matrices: sides and triangles change places.
        letters = [
            _letter(builder, left, "R", "L"),
            _letter(builder, lower, "U", "L"),
            _letter(builder, transpose, "T", "N"),
            _letter(builder, unit, "U", "N"),
        ]
        width = _integer(builder, columns)
        arguments = [*letters, width, _integer(builder, rows), one, a, order, x, width]
        _call_fortran(builder, f"scipy_{kind}trsm_", arguments, 4)

    return types.void, emit


def _lapack(name: str, parameters: str, arguments: Callable[..., list[ir.Value]], strings: int) -> simd.Primitive:
    """A primitive that calls the LAPACK routine ``name`` and gives its info.

    ``parameters`` has a ``p`` for each pointer and an ``i`` for each int64; the dtype comes last. ``arguments(b, *values)``
    are the routine's, without info.
    """

    def rule(*args: types.Type) -> tuple[types.Type, Emit]:
        if len(args) != len(parameters) + 1:
            raise simd.typing_error(f"{name} takes {len(parameters)} arguments and a dtype")
        for kind, argument in zip(parameters, args, strict=False):
            simd.need(argument, pointer=kind == "p")
        letter, _ = _prefix(args[-1])

        def emit(b: ir.IRBuilder, *values: ir.Value) -> ir.Value:
            info = _stored(b, ir.Constant(I32, 0))
            given = arguments(b, *values[: len(parameters)])
            # info comes last, before the lengths of strings
            _call_fortran(b, f"scipy_{letter}{name}_", [*given, info], strings)
            return b.sext(b.load(info, typ=I32), I64)

        return types.int64, emit

    rule.__name__ = name
    return simd.primitive(rule)


def _by_kind(kinds: str) -> Callable[..., list[ir.Value]]:
    """Arguments passed in their order: ``p`` a pointer, ``i`` an integer, ``V`` the letter V, a digit an earlier integer."""

    def arguments(b: ir.IRBuilder, *values: ir.Value) -> list[ir.Value]:
        given = iter(values)
        found: list[ir.Value] = []
        for kind in kinds:
            if kind == "p":
                found.append(next(given))
            elif kind == "i":
                found.append(_integer(b, next(given)))
            elif kind.isdigit():
                found.append(found[int(kind)])
            else:
                found.append(_letter(b, True, kind))
        return found

    return arguments


def _eigenvalues(b: ir.IRBuilder, *values: ir.Value) -> list[ir.Value]:
    job, lower, n, a, w, work, lwork, iwork, liwork = values
    size = _integer(b, n)
    return [
        _character(b, job), _letter(b, lower, "L", "U"), size, a, size, w, work, _integer(b, lwork), iwork,
        _integer(b, liwork),
    ]  # fmt: skip


def _character(b: ir.IRBuilder, code: ir.Value) -> ir.Value:
    return _stored(b, b.trunc(code, I8))


def _singular_values(b: ir.IRBuilder, *values: ir.Value) -> list[ir.Value]:
    job, m, n, a, s, u, vt, rows_vt, work, lwork, iwork = values
    rows = _integer(b, m)
    return [
        _character(b, job), rows, _integer(b, n), a, rows, s, u, rows, vt, _integer(b, rows_vt), work,
        _integer(b, lwork), iwork,
    ]  # fmt: skip


def _square_factor(b: ir.IRBuilder, *values: ir.Value) -> list[ir.Value]:
    n, a, pivots = values
    size = _integer(b, n)
    return [size, size, a, size, pivots]


#: ``getrf(n, a, pivots, dtype)``: LU of the n x n matrix at a, pivots i32 from 1
getrf = _lapack("getrf", "ipp", _square_factor, 0)
#: ``geqrf(m, n, a, tau, work, lwork, dtype)``
geqrf = _lapack("geqrf", "iipppi", _by_kind("iip0ppi"), 0)
#: ``orgqr(m, columns, reflectors, a, tau, work, lwork, dtype)``
orgqr = _lapack("orgqr", "iiipppi", _by_kind("iiip0ppi"), 0)
#: ``syevd(job, lower, n, a, values, work, lwork, iwork, liwork, dtype)``: a becomes the eigenvectors; jobs are letters
syevd = _lapack("syevd", "iiipppipi", _eigenvalues, 2)
#: ``gesdd(job, m, n, a, s, u, vt, rows_vt, work, lwork, iwork, dtype)``
gesdd = _lapack("gesdd", "iiippppipip", _singular_values, 1)
