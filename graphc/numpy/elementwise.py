"""Functions of NumPy that work element by element and are no ufuncs, and the ``_like`` ones."""

from __future__ import annotations

import importlib
import operator
from typing import Any

import numpy as np

from graphc import ops
from graphc.leaks import UnsupportedError
from graphc.numpy.indexing import copyto
from graphc.numpy.tables import NO_VALUE, element_of, given, shape_of, stored, strong, traces
from graphc.tracing import (
    FUNCTIONS,
    METHODS,
    Tracer,
    apply_ufunc,
    broadcast_together,
    is_tracer,
    operands,
    promote,
    to_node,
    to_tracer,
    type_of,
    wrap,
)
from graphc.types import DType, bf16, bool_


def truth_of(a: Any) -> Tracer:
    x = to_tracer(a)
    return x if x._node.type.dtype is bool_ else apply_ufunc(np.not_equal, x, 0)


@traces(np.where)
def where(condition: Any, x: Any = None, y: Any = None, /) -> Tracer:
    if (x is None) != (y is None):
        raise ValueError("either both or neither of x and y should be given")
    if x is None:
        raise UnsupportedError(
            "np.where(condition) alone has a shape that depends on data; use np.where(condition, x, y)"
        )
    element = promote(x, y)
    a, b = operands(*[wrapped_integer(v, element) for v in (x, y)], to=element)
    c, a, b = broadcast_together([to_node(truth_of(condition)), a, b])
    return wrap(ops.select(c, a, b))


def wrapped_integer(value: Any, element: DType) -> Any:
    """A Python int in the integer type of the other operand: np.where wraps it, where arithmetic would refuse it."""
    if type(value) is not int or not element.is_integer:
        return value
    array = np.asarray(value)
    if array.dtype == object:
        raise OverflowError("Python int too large to convert to C long")
    return array.astype(element.numpy)


@traces(np.clip, method="clip")
def clip(
    a: Any,
    a_min: Any = NO_VALUE,
    a_max: Any = NO_VALUE,
    out: Any = None,
    *,
    min: Any = NO_VALUE,
    max: Any = NO_VALUE,  # noqa: A002
) -> Tracer:
    low, high = (a_min if given(a_min) else min), (a_max if given(a_max) else max)
    x: Any = strong(a)
    bounds = [clip_bound(x, b) for b in (low, high)]
    element = promote(x, *[b for b in bounds if b is not None])
    x = wrap(to_node(x, element))
    for bound, ufunc in zip(bounds, (np.maximum, np.minimum), strict=True):
        if bound is not None:
            x = apply_ufunc(ufunc, x, bound)
    return stored(x, out)


def clip_bound(x: Tracer, bound: Any) -> Any:
    """A bound that can matter: None for one that is not given, or an int beyond the type of ``x``."""
    if not given(bound):
        return None
    element = x._node.type.dtype
    if type(bound) is int and element.is_integer:
        info = np.iinfo(element.numpy)
        if not info.min <= bound <= info.max:
            return info.min if bound < info.min else info.max
    return bound


#: The ufunc that ``ndarray.clip`` calls has no public name.
FUNCTIONS[importlib.import_module("numpy._core.umath").clip] = clip


def astype(
    x: Tracer, dtype: Any, order: str = "K", casting: str = "unsafe", subok: bool = True, copy: bool = True
) -> Tracer:
    element = element_of(dtype)
    if casting != "unsafe" and not np.can_cast(x.dtype, element.numpy, casting):  # type: ignore[arg-type]
        raise TypeError(
            f"Cannot cast array data from {x._node.type.dtype} to {element} according to the rule {casting!r}"
        )
    if not copy and element is x._node.type.dtype and not x._weak:
        return x
    return wrap(to_node(x, element))


METHODS["astype"] = astype


METHODS["copy"] = lambda x, order="C": wrap(to_node(x))


if hasattr(np, "astype"):
    FUNCTIONS[np.astype] = lambda x, dtype, copy=True, device=None: astype(x, dtype, copy=copy)


@traces(np.copy)
def copy(a: Any, order: str = "K", subok: bool = False) -> Tracer:
    return wrap(to_node(strong(a)))


@traces(np.round, np.around, method="round")
def round_(a: Any, decimals: int = 0, out: Any = None) -> Tracer:
    x, decimals = strong(a), operator.index(decimals)
    kind = x._node.type.dtype.kind
    if kind in "iu" and decimals >= 0:
        return stored(wrap(to_node(x)), out)
    if decimals == 0 or kind == "b":
        return stored(apply_ufunc(np.rint, x), out)
    scale = 10 ** abs(decimals)
    if decimals > 0:
        return stored(apply_ufunc(np.rint, x * float(scale)) / float(scale), out)
    return stored((apply_ufunc(np.rint, x / scale) * scale).astype(x.dtype), out)


@traces(np.nan_to_num)
def nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Tracer:
    t = strong(x)
    if not copy and t is x and t._is_array():
        t._assign(to_node(nan_to_num(t, True, nan, posinf, neginf)))
        return t
    if t._node.type.dtype.kind == "c":
        parts = [nan_to_num(p, True, nan, posinf, neginf) for p in (t.real, t.imag)]
        return wrap(ops.complex_(*map(to_node, parts)))
    if not t._node.type.dtype.is_float:
        return wrap(to_node(t))
    info = finite_range(t._node.type.dtype)
    result = where(apply_ufunc(np.isnan, t), nan, t)
    result = where(apply_ufunc(np.equal, t, np.inf), info[1] if posinf is None else posinf, result)
    return where(apply_ufunc(np.equal, t, -np.inf), info[0] if neginf is None else neginf, result).astype(t.dtype)


def finite_range(element: DType) -> tuple[float, float]:
    """The lowest and highest finite numbers of a float type."""
    if element is bf16:
        return -3.3895313892515355e38, 3.3895313892515355e38
    info = np.finfo(element.numpy)
    return float(info.min), float(info.max)


@traces(np.zeros_like)
def zeros_like(
    a: Any, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None, *, device: Any = None
) -> Tracer:
    return full_like(a, 0, dtype, shape=shape)


@traces(np.ones_like)
def ones_like(
    a: Any, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None, *, device: Any = None
) -> Tracer:
    return full_like(a, 1, dtype, shape=shape)


@traces(np.empty_like)
def empty_like(
    prototype: Any, /, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None, *, device: Any = None
) -> Tracer:
    return full_like(prototype, 0, dtype, shape=shape)


@traces(np.full_like)
def full_like(
    a: Any,
    fill_value: Any,
    dtype: Any = None,
    order: Any = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Tracer:
    like = type_of(a)
    element = like.dtype if dtype is None else element_of(dtype)
    value = to_node(fill_value, element)
    return wrap(ops.broadcast_numpy(value, like.shape if shape is None else shape_of(shape)))


FUNCTIONS[np.copyto] = copyto


@traces(np.result_type)
def result_type(*arrays_and_dtypes: Any) -> np.dtype:
    values = [
        a if is_tracer(a) or isinstance(a, np.ndarray) or np.isscalar(a) else np.zeros((), a) for a in arrays_and_dtypes
    ]
    return promote(*values).numpy
