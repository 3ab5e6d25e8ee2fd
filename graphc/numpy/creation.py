"""Making arrays: evenly spaced numbers between traced ends, grids, and NumPy's creators with ``like=`` a traced array."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import ops
from graphc.leaks import UnsupportedError
from graphc.numpy.elementwise import where
from graphc.numpy.shapes import array as stacked
from graphc.numpy.shapes import broadcast_arrays, broadcast_to, moveaxis, reshape
from graphc.numpy.tables import element_of, shape_of, strong, traces
from graphc.tracing import FUNCTIONS, Tracer, apply_ufunc, is_tracer, promote, to_node, to_tracer, wrap
from graphc.tree import flatten


@traces(np.linspace)
def linspace(
    start: Any, stop: Any, num: Any = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None, axis: int = 0,
    *, device: Any = None,
) -> Any:  # fmt: skip
    if is_tracer(num):
        raise UnsupportedError(
            "np.linspace with a traced num has a shape that depends on data; name it in compile(static=...)"
        )
    num = operator.index(num)
    if num < 0:
        raise ValueError(f"Number of samples, {num}, must be non-negative.")
    divisions = num - 1 if endpoint else num
    own = promote(start, stop, float(num))
    low, high = broadcast_arrays(wrap(to_node(start, own)), wrap(to_node(stop, own)))
    delta = high - low
    places = np.arange(num).astype(own.numpy).reshape(-1, *(1,) * low.ndim)
    step: Any = delta / divisions if divisions > 0 else np.nan
    apart = places * step if divisions > 0 else places * delta
    if dtype is not None and np.dtype(element_of(dtype).numpy).kind in "iu":
        # Through abs nothing joins product and sum into one rounding, on which the floor below may depend.
        apart = where(delta < 0, -apply_ufunc(np.absolute, apart), apply_ufunc(np.absolute, apart))
    result = low + apart
    if endpoint and num > 1:  # exactly the end, which rounding may miss
        result = wrap(ops.concatenate(to_node(result[:-1]), ops.reshape_to(to_node(high), (1, *high.shape)), axis=0))
    if dtype is not None:
        whole = np.dtype(element_of(dtype).numpy).kind in "iu"
        result = (apply_ufunc(np.floor, result) if whole else result).astype(dtype)
    result = moveaxis(result, 0, axis) if axis != 0 else result
    return (wrap(to_node(result)), step) if retstep else wrap(to_node(result))


@traces(np.logspace)
def logspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: Any = 10.0, dtype: Any = None, axis: int = 0
) -> Tracer:
    if np.ndim(base):
        start, stop, base = broadcast_arrays(start, stop, base)
        base = wrap(ops.reshape_to(to_node(base), (1, *base.shape)))
    powers = linspace(start, stop, num, endpoint)
    result = apply_ufunc(np.power, base, powers)
    result = result if dtype is None else result.astype(dtype)
    return moveaxis(result, 0, axis) if axis != 0 else result


@traces(np.geomspace)
def geomspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0) -> Tracer:
    """Both ends of one sign, which cannot be seen while tracing: with others the result is NaN."""
    own = promote(start, stop, float(num), np.zeros((), dtype))  # float64 where no dtype is given, as in NumPy
    low, high = broadcast_arrays(wrap(to_node(start, own)), wrap(to_node(stop, own)))
    sign = apply_ufunc(np.sign, low)
    ratio = [apply_ufunc(np.log10, end * sign) for end in (low, high)]
    result = logspace(*ratio, num, endpoint, 10.0) * sign
    parts = [to_node(result)]
    if num > 0:  # the ends exactly, which rounding may miss
        parts = [to_node(low[None]), to_node(result[1:])]
    if endpoint and num > 1:
        parts = [to_node(low[None]), to_node(result[1:-1]), to_node(high[None])]
    whole = wrap(ops.concatenate(*parts, axis=0))
    whole = whole if dtype is None else whole.astype(dtype)
    return moveaxis(whole, 0, axis) if axis != 0 else whole


# ------------------------------------------------------------------------------------------------ grids


@traces(np.meshgrid)
def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> tuple[Tracer, ...]:
    if indexing not in ("xy", "ij"):
        raise ValueError("Valid values for `indexing` are 'xy' and 'ij'.")
    axes = list(range(len(xi)))
    if indexing == "xy" and len(xi) > 1:
        axes[:2] = [1, 0]
    open_ = [
        reshape(strong(x), [-1 if k == axis else 1 for k in range(len(xi))]) for axis, x in zip(axes, xi, strict=True)
    ]
    grids = open_ if sparse else list(broadcast_arrays(*open_)) if open_ else []
    return tuple(wrap(to_node(g)) for g in grids) if copy else tuple(grids)


@traces(np.ix_)
def ix_(*args: Any) -> tuple[Tracer, ...]:
    for part in args:
        if np.ndim(part) != 1:
            raise ValueError("Cross index must be 1 dimensional")
        if is_tracer(part) and part.dtype == bool:
            raise UnsupportedError("np.ix_ of a traced mask has a shape that depends on data; give it integers")
    known = [part if is_tracer(part) else np.ix_(part)[0] for part in args]
    return tuple(reshape(part, [-1 if k == j else 1 for k in range(len(args))]) for j, part in enumerate(known))


# ------------------------------------------------------------------------------------------------ like=


def full(shape: Any, fill_value: Any, dtype: Any = None, order: Any = "C", **_: Any) -> Tracer:
    value = strong(fill_value)
    return broadcast_to(value if dtype is None else value.astype(dtype), shape_of(shape))


def as_array(a: Any, dtype: Any = None, *_: Any, copy: Any = None, ndmin: int = 0, **__: Any) -> Tracer:
    """``np.array`` and its kin: lists may hold traced values; one traced array is itself unless another type is asked for."""
    found = stacked(a) if any(map(is_tracer, flatten(a)[0])) and not is_tracer(a) else to_tracer(a)
    found = strong(found) if found._weak else found
    if dtype is not None:
        found = found.astype(dtype, copy=False)
    if found.ndim < ndmin:
        found = reshape(found, (1,) * (ndmin - found.ndim) + found.shape)
    return wrap(to_node(found)) if copy else found


def _array(
    object: Any, dtype: Any = None, *, copy: Any = True, order: Any = "K", subok: bool = False, ndmin: int = 0
) -> Tracer:
    return as_array(object, dtype, copy=copy, ndmin=ndmin)


def _contiguous(a: Any, dtype: Any = None) -> Tracer:
    return as_array(a, dtype, ndmin=1)


def _require(a: Any, dtype: Any = None, requirements: Any = None) -> Tracer:
    return as_array(a, dtype)


def _like(function: Callable[..., Any]) -> Callable[..., Any]:
    """A creator whose arguments are numbers: NumPy's array as a constant of the program."""
    return lambda *args, **kwargs: to_tracer(function(*args, **{k: v for k, v in kwargs.items() if k != "device"}))


for _function in (np.zeros, np.ones, np.empty, np.eye, np.identity, np.arange, np.tri, np.fromiter):
    FUNCTIONS[_function] = _like(_function)
FUNCTIONS[np.full] = full
FUNCTIONS[np.array] = _array
FUNCTIONS[np.asarray] = FUNCTIONS[np.asanyarray] = as_array
FUNCTIONS[np.ascontiguousarray] = FUNCTIONS[np.asfortranarray] = _contiguous
FUNCTIONS[np.require] = _require


def fromfunction(function: Callable[..., Any], shape: Any, *, dtype: Any = float, **kwargs: Any) -> Any:
    return function(*[to_tracer(part) for part in np.indices(shape_of(shape), dtype=dtype)], **kwargs)


#: NumPy has a function of its own for some of the names with ``like=``.
_OWN = {
    "numpy._core.numeric": ("ones", "full", "identity", "fromfunction"),
    "numpy._core._asarray": ("require",),
    "numpy.lib._twodim_base_impl": ("eye", "tri"),
}
FUNCTIONS[np.fromfunction] = fromfunction
for _module, _names in _OWN.items():
    for _name in _names:
        _own = getattr(importlib.import_module(_module), f"_{_name}_with_like", None)
        if _own is not None:
            FUNCTIONS[_own] = FUNCTIONS[getattr(np, _name)]
