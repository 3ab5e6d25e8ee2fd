"""Comparisons of whole arrays and of numbers up to a tolerance; signs of infinities; parts of real numbers.

What NumPy answers with a Python bool is a traced bool here: it can be returned and computed with, not branched on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import ops
from graphc.leaks import UnsupportedError
from graphc.numpy.elementwise import full_like
from graphc.numpy.reductions import all_
from graphc.numpy.tables import stored, strong, traces
from graphc.tracing import Tracer, apply_ufunc, is_tracer, is_weak_scalar, promote, to_node, to_tracer, wrap


def either(value: Any) -> Any:
    """A Python number as it is, anything else as an array."""
    return value if is_weak_scalar(value) or is_tracer(value) else np.asarray(value)


def inexact(value: Any) -> Any:
    """``value`` in a float type of its own, so that differences of integers do not wrap around."""
    if is_weak_scalar(value):
        return float(value) if isinstance(value, int) else value
    if is_tracer(value):
        return wrap(to_node(value, promote(value, 1.0)), value._weak)
    return np.asarray(value, promote(value, 1.0).numpy)


@traces(np.isclose)
def isclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Tracer:
    x, y = either(a), inexact(either(b))
    atol, rtol = either(atol), either(rtol)
    near = apply_ufunc(np.absolute, apply_ufunc(np.subtract, x, y)) <= atol + rtol * apply_ufunc(np.absolute, y)
    found = near & apply_ufunc(np.isfinite, y) | apply_ufunc(np.equal, x, y)
    return found | apply_ufunc(np.isnan, x) & apply_ufunc(np.isnan, y) if equal_nan else found


@traces(np.allclose)
def allclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Tracer:
    return all_(isclose(a, b, rtol, atol, equal_nan))


@traces(np.array_equal)
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Tracer:
    x, y = strong(a1), strong(a2)
    if x.shape != y.shape:
        return wrap(ops.const(False))
    same = apply_ufunc(np.equal, x, y)
    return all_(same | apply_ufunc(np.isnan, x) & apply_ufunc(np.isnan, y) if equal_nan else same)


@traces(np.array_equiv)
def array_equiv(a1: Any, a2: Any) -> Tracer:
    x, y = strong(a1), strong(a2)
    try:
        np.broadcast_shapes(x.shape, y.shape)
    except ValueError:
        return wrap(ops.const(False))
    return all_(apply_ufunc(np.equal, x, y))


def infinite(x: Any, sign: float) -> Tracer:
    t = strong(x)
    if t._node.type.dtype.kind == "c":
        raise TypeError(f"This operation is not supported for {t.dtype} values because it would be ambiguous.")
    if not t._node.type.dtype.is_float:
        return full_like(t, False, bool)
    return apply_ufunc(np.equal, t, sign)


@traces(np.isposinf)
def isposinf(x: Any, out: Any = None) -> Tracer:
    return stored(infinite(x, np.inf), out)


@traces(np.isneginf)
def isneginf(x: Any, out: Any = None) -> Tracer:
    return stored(infinite(x, -np.inf), out)


@traces(np.iscomplex)
def iscomplex(x: Any) -> Tracer:
    t = strong(x)
    return apply_ufunc(np.not_equal, t.imag, 0) if t._node.type.dtype.kind == "c" else full_like(t, False, bool)


@traces(np.isreal)
def isreal(x: Any) -> Tracer:
    t = strong(x)
    return apply_ufunc(np.equal, t.imag, 0) if t._node.type.dtype.kind == "c" else full_like(t, True, bool)


@traces(np.real_if_close)
def real_if_close(a: Any, tol: float = 100) -> Tracer:
    x = to_tracer(a)
    if x._node.type.dtype.kind == "c":
        raise UnsupportedError("np.real_if_close of complex numbers has a type that depends on data; write np.real(x)")
    return x


@traces(np.fix)
def fix(x: Any, out: Any = None) -> Tracer:
    return stored(apply_ufunc(np.trunc, strong(x)), out)


__all__ = [
    "allclose", "array_equal", "array_equiv", "fix", "isclose", "iscomplex", "isneginf", "isposinf", "isreal", "real_if_close",
]  # fmt: skip
