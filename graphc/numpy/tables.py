"""What NumPy's functions on traced arrays are made of: entering them into the dispatch tables, reading their arguments."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.promotion import element_of as element_of
from graphc.tracing import FUNCTIONS, METHODS, Tracer, is_tracer, to_node, to_tracer, wrap
from graphc.tree import flatten

NO_VALUE = getattr(np, "_NoValue", None)


def traces(*functions: Any, method: str | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function as the tracing of NumPy functions, and of the ndarray method of the same meaning."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        for target in functions:
            FUNCTIONS[target] = function
        if method:
            METHODS[method] = function
        return function

    return enter


def property_(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        function.is_property = True  # type: ignore[attr-defined]
        METHODS[name] = function
        return function

    return enter


def axes_of(axis: Any, ndim: int) -> tuple[int, ...]:
    """``axis`` (None, int or tuple) as sorted non-negative axes."""
    if axis is None:
        return tuple(range(ndim))
    given = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    found = []
    for a in given:
        if not -ndim <= a < ndim:
            raise np.exceptions.AxisError(int(a), ndim)
        found.append(int(a) % ndim)
    if len(set(found)) != len(found):
        raise ValueError("duplicate value in 'axis'")
    return tuple(sorted(found))


def one_axis(axis: Any, ndim: int) -> int:
    return axes_of(int(axis), ndim)[0]


def shape_of(shape: Any, unknown: bool = False) -> tuple[int, ...]:
    """A shape as a tuple. Negative extents are refused, unless ``unknown`` (-1 for what is left over) is allowed."""
    found = tuple(map(operator.index, shape)) if np.iterable(shape) else (operator.index(shape),)
    if not unknown and any(n < 0 for n in found):
        raise ValueError(f"negative dimensions are not allowed (in the shape {found})")
    return found


def given(value: Any) -> bool:
    """Whether an optional argument was given: NumPy's default for some is a marker of its own."""
    return value is not None and value is not NO_VALUE


def strong(value: Any) -> Tracer:
    """``value`` as an array: outside ufuncs and np.where NumPy takes Python numbers as strong."""
    x = to_tracer(value)
    return wrap(to_node(x)) if x._weak else x


def operand(value: Any) -> Any:
    """``value`` as a traced or NumPy array, never weak; NumPy's stays one until its element type is known."""
    if is_tracer(value) or isinstance(value, (list, tuple)) and any(map(is_tracer, flatten(list(value))[0])):
        return strong(value)
    return np.asarray(value)


def stored(result: Tracer, out: Any) -> Tracer:
    """``result``, written to ``out`` where that is given."""
    return METHODS["write_out"](np.sum, (out,), result) if out is not None else result


def known_shape(value: Any) -> tuple[int, ...]:
    """The shape of an array or of a nested list, which may hold traced values."""
    if isinstance(value, (list, tuple)) and any(map(is_tracer, flatten(list(value))[0])):
        return (len(value), *known_shape(value[0]))
    return tuple(np.shape(value))
