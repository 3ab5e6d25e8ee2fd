"""The NumPy-shaped namespace: NumPy's names, on traced and on plain arrays.

Inside a trace the creation functions return traced arrays; everything else dispatches by its arguments, so
``graphc.numpy.exp(a)`` is ``np.exp(a)`` for a NumPy array. A NumPy name that graphc does not trace is passed through and
raises by name when it meets a traced value.

>>> import graphc.numpy as gnp
>>> gnp.arange(3)
array([0, 1, 2])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.numpy import (  # noqa: F401  (they fill the tables of what is traced)
    attributes,
    calculus,
    closeness,
    complex,
    contractions,
    creation,
    diagonals,
    elementwise,
    flat,
    generalized,
    histograms,
    indexing,
    joining,
    left_out,
    linalg,
    mapping,
    masked,
    matrices,
    norms,
    padding,
    polynomials,
    products,
    reductions,
    selection,
    sets,
    shapes,
    signal,
    sorting,
    special,
    statistics,
    ufunc_methods,
    ufuncs,
    updates,
    windows,
)  # fmt: skip
from graphc.numpy.sets import (
    argwhere,
    flatnonzero,
    intersect1d,
    nonzero,
    setdiff1d,
    setxor1d,
    union1d,
    unique,
    unique_all,
    unique_counts,
    unique_inverse,
    unique_values,
)  # fmt: skip
from graphc.tracing import FUNCTIONS, current_trace, is_tracer, located, to_tracer
from graphc.tree import flatten

_CREATORS = ("zeros", "ones", "full", "empty", "eye", "identity", "arange", "linspace", "tri", "logspace", "geomspace")


def _creator(name: str) -> Callable[..., Any]:
    original = getattr(np, name)

    def create(*args: Any, **kwargs: Any) -> Any:
        if name == "full" and any(map(is_tracer, (*args, *kwargs.values()))):
            return creation.full(*args, **kwargs)
        made = original(*args, **kwargs)
        return made if current_trace() is None else to_tracer(made)

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f"``np.{name}``; inside a trace the result is a traced array."
    return create


for _name in _CREATORS:
    globals()[_name] = _creator(_name)


def asarray(a: Any, dtype: Any = None) -> Any:
    """``a`` as an array; inside a trace as a traced one, so that traced indices work on it: ``asarray(a)[i]``.

    Lists may hold traced values. A traced array is returned as it is.
    """
    if current_trace() is None:
        return np.asarray(a, dtype)
    if any(map(is_tracer, flatten(a)[0])):
        made = a if is_tracer(a) else located(shapes.array, a)
    else:
        made = to_tracer(np.asarray(a, dtype))
    return made if dtype is None else made.astype(dtype, copy=False)


def array(a: Any, dtype: Any = None) -> Any:
    """As :func:`asarray`, but always a new array."""
    return np.array(a, dtype) if current_trace() is None else asarray(a, dtype).copy()


def _converter(name: str) -> Callable[..., Any]:
    original = getattr(np, name)

    def convert(a: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        if current_trace() is None:
            return original(a, dtype, *args, **kwargs)
        return located(FUNCTIONS[original], a, dtype, *args, **kwargs)

    convert.__name__ = convert.__qualname__ = name
    convert.__doc__ = f"``np.{name}``; inside a trace the result is a traced array, which has no memory layout."
    return convert


_CONVERTERS = ("asanyarray", "ascontiguousarray", "asfortranarray", "require")
for _name in _CONVERTERS:
    globals()[_name] = _converter(_name)


def fromfunction(function: Callable[..., Any], shape: Any, *, dtype: Any = float, **kwargs: Any) -> Any:
    """``np.fromfunction``; inside a trace the function is called with traced coordinates."""
    if current_trace() is None:
        return np.fromfunction(function, shape, dtype=dtype, **kwargs)
    return located(creation.fromfunction, function, shape, dtype=dtype, **kwargs)


def __getattr__(name: str) -> Any:
    try:
        return getattr(np, name)
    except AttributeError:
        raise AttributeError(f"graphc.numpy has no {name!r}: NumPy has none") from None


__all__ = [
    "argwhere",
    "array",
    "asarray",
    "flatnonzero",
    "fromfunction",
    "intersect1d",
    "linalg",
    "nonzero",
    "setdiff1d",
    "setxor1d",
    "union1d",
    "unique",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
    *_CREATORS,
    *_CONVERTERS,
]  # noqa: PLE0604
