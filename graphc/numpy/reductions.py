"""Sums, means, extremes and norms of traced arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import Node
from graphc.leaks import UnsupportedError
from graphc.numpy.elementwise import truth_of
from graphc.numpy.shapes import broadcast_to, reshape
from graphc.numpy.tables import NO_VALUE, axes_of, element_of, given, one_axis, stored, strong, traces
from graphc.tracing import METHODS, Tracer, apply_ufunc, is_tracer, operate, to_node, to_tracer, wrap
from graphc.types import DType, TensorType, bf16, bool_, dtype, f16, f32, f64, i64, u64

COMBINE = {"reduce_sum": ops.add, "reduce_prod": ops.mul, "reduce_max": ops.maximum, "reduce_min": ops.minimum}


def reduce_with(
    x: Any,
    op: Any,
    axis: Any,
    keepdims: Any,
    to: DType | None,
    where: Any,
    initial: Any,
    identity: Any,
    out: Any = None,
) -> Tracer:
    node = to_node(strong(x), to)
    axes = axes_of(axis, node.type.ndim)
    ordered = op.name in ("reduce_max", "reduce_min")
    if where is not True and where is not NO_VALUE:
        if ordered and not given(initial):
            raise ValueError(
                f"reduction operation {op.name[-3:]}imum does not have an identity, so to use a where mask one has to specify "
                "'initial'"
            )
        mask = ops.broadcast_numpy(to_node(where, bool_), node.type.shape)
        node = ops.select(mask, node, ops.like(node, identity(node.type.dtype)))
    if ordered and any(node.type.shape[k] == 0 for k in axes):
        if not given(initial):
            raise ValueError(f"zero-size array to reduction operation {op.name[-3:]}imum which has no identity")
        kept = [n for k, n in enumerate(node.type.shape) if k not in axes]
        result = ops.full(TensorType(node.type.dtype, tuple(kept)), identity(node.type.dtype))
    else:
        result = op(node, axes=axes)
    if given(initial):
        start = ops.broadcast_numpy(to_node(initial, result.type.dtype), result.type.shape)
        result = COMBINE[op.name](result, start)
    return stored(wrap(keep(result, node, axes, keepdims)), out)


def keep(result: Node, node: Node, axes: Sequence[int], keepdims: Any) -> Node:
    if keepdims and keepdims is not NO_VALUE:
        return ops.reshape_to(result, [1 if k in axes else n for k, n in enumerate(node.type.shape)])
    return result


def sum_type(x: Any, requested: Any) -> DType:
    """Sums of bools and small integers are 64 bit, as in NumPy."""
    if given(requested):
        return dtype(requested)
    own = to_tracer(x)._node.type.dtype
    if own.kind in "bi":
        return i64
    return u64 if own.kind == "u" else own


@traces(np.sum, method="sum")
def sum_(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, initial: Any = NO_VALUE,
    where: Any = True,
) -> Tracer:  # fmt: skip
    element = sum_type(a, dtype)
    if element is bool_:
        return any_(a, axis, out, keepdims, where=where)
    return reduce_with(a, ops.reduce_sum, axis, keepdims, element, where, initial, lambda t: 0, out)


@traces(np.prod, method="prod")
def prod(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, initial: Any = NO_VALUE,
    where: Any = True,
) -> Tracer:  # fmt: skip
    element = sum_type(a, dtype)
    if element is bool_:
        return all_(a, axis, out, keepdims, where=where)
    return reduce_with(a, ops.reduce_prod, axis, keepdims, element, where, initial, lambda t: 1, out)


@traces(np.max, np.amax, method="max")
def max_(
    a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = NO_VALUE, where: Any = True
) -> Tracer:
    return reduce_with(a, ops.reduce_max, axis, keepdims, None, where, initial, ops.reduce_max.identity, out)


@traces(np.min, np.amin, method="min")
def min_(
    a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = NO_VALUE, where: Any = True
) -> Tracer:
    return reduce_with(a, ops.reduce_min, axis, keepdims, None, where, initial, ops.reduce_min.identity, out)


@traces(np.all, method="all")
def all_(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True) -> Tracer:
    return reduce_with(truth_of(a), ops.reduce_and, axis, keepdims, None, where, NO_VALUE, lambda t: True, out)


@traces(np.any, method="any")
def any_(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True) -> Tracer:
    return reduce_with(truth_of(a), ops.reduce_or, axis, keepdims, None, where, NO_VALUE, lambda t: False, out)


def element_count(x: Tracer, axis: Any, where: Any, keepdims: Any) -> Any:
    """How many elements a reduction takes: a number, or an array of them where a mask says which."""
    if where is True or where is NO_VALUE:
        return math.prod(x.shape[k] for k in axes_of(axis, x.ndim))
    return sum_(broadcast_to(to_tracer(where), x.shape), axis, keepdims=keepdims)


def quotient(total: Tracer, count: Any) -> Tracer:
    """``total / count`` in the type of ``total``."""
    return total / (count.astype(total.dtype) if is_tracer(count) else count)


@traces(np.mean, method="mean")
def mean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True
) -> Tracer:
    x = strong(a)
    own = x._node.type.dtype
    result = element_of(dtype) if given(dtype) else own if own.is_inexact else f64
    wide = f32 if result in (f16, bf16) else result  # half floats are summed and divided in float32, as in NumPy
    total = sum_(x, axis, wide.numpy, None, keepdims, where=where)
    return stored(quotient(total, element_count(x, axis, where, keepdims)).astype(result.numpy), out)


@traces(np.var, method="var")
def var(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: Any = False, *,
    where: Any = True, mean: Any = NO_VALUE, correction: Any = NO_VALUE,
) -> Tracer:  # fmt: skip
    x = strong(a)
    if given(dtype):
        x = x.astype(dtype)
    ddof = correction if given(correction) else ddof
    centre = mean if given(mean) else _mean(x, axis, keepdims=True, where=where)
    centred = x - centre
    total = sum_(centred * centred, axis, keepdims=keepdims, where=where)
    count = element_count(x, axis, where, keepdims) - ddof
    return stored(quotient(total, maximum_of(count, 0)), out)


_mean = mean


def maximum_of(x: Any, y: Any) -> Any:
    return apply_ufunc(np.maximum, x, y) if is_tracer(x) else max(x, y)


@traces(np.std, method="std")
def std(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: Any = False, *,
    where: Any = True, mean: Any = NO_VALUE, correction: Any = NO_VALUE,
) -> Tracer:  # fmt: skip
    spread = var(a, axis, dtype, None, ddof, keepdims, where=where, mean=mean, correction=correction)
    return stored(apply_ufunc(np.sqrt, spread), out)


@traces(np.average)
def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False) -> Any:
    if returned:
        raise UnsupportedError("np.average(returned=True) is not traced; sum the weights yourself")
    if weights is None:
        return mean(a, axis, keepdims=keepdims)
    w = to_tracer(weights)
    if w.ndim == 1 and np.ndim(a) > 1 and axis is not None:
        k = one_axis(axis, np.ndim(a))
        w = reshape(w, [-1 if j == k else 1 for j in range(np.ndim(a))])
    w = broadcast_to(w, np.shape(a))
    return sum_(to_tracer(a) * w, axis, keepdims=keepdims) / sum_(w, axis, keepdims=keepdims)


def arg_reduce(name: str, op: Any, a: Any, axis: Any, keepdims: Any, out: Any) -> Tracer:
    node = to_node(strong(a))
    k = None if axis is None else one_axis(axis, node.type.ndim)
    if (node.type.size if k is None else node.type.shape[k]) == 0:
        raise ValueError(f"attempt to get {name} of an empty sequence")
    if k is None:
        flat = op(ops.reshape_to(node, (node.type.size,)), axis=0)
        return stored(wrap(keep(flat, node, range(node.type.ndim), keepdims)), out)
    return stored(wrap(keep(op(node, axis=k), node, (k,), keepdims)), out)


@traces(np.argmax, method="argmax")
def argmax(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Tracer:
    return arg_reduce("argmax", ops.argmax, a, axis, keepdims, out)


@traces(np.argmin, method="argmin")
def argmin(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Tracer:
    return arg_reduce("argmin", ops.argmin, a, axis, keepdims, out)


@traces(np.ptp)
def ptp(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Tracer:
    return stored(max_(a, axis, keepdims=keepdims) - min_(a, axis, keepdims=keepdims), out)


@traces(np.count_nonzero)
def count_nonzero(a: Any, axis: Any = None, *, keepdims: Any = False) -> Tracer:
    return sum_(truth_of(a), axis, keepdims=keepdims)


REDUCTIONS = {
    np.add: sum_, np.multiply: prod, np.maximum: max_, np.minimum: min_, np.logical_and: all_, np.logical_or: any_,
}  # fmt: skip


def ufunc_reduce(
    ufunc: Any, array: Any, axis: Any = 0, dtype: Any = None, keepdims: Any = False, **options: Any
) -> Tracer:
    """``np.add.reduce`` and the like."""
    function = REDUCTIONS.get(ufunc)
    if function is None:
        raise UnsupportedError(f"np.{ufunc.__name__}.reduce is not traced")
    options = {k: v for k, v in options.items() if (k, v) != ("where", True) and (k == "where" or given(v))}
    if given(dtype):
        options["dtype"] = dtype
    return function(array, axis=axis, keepdims=keepdims, **options)


METHODS["ufunc.reduce"] = ufunc_reduce


@traces(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tracer:
    t = strong(x)
    if not t._node.type.dtype.is_inexact:
        t = t.astype(np.float64)
    axes = None if axis is None else axes_of(axis, t.ndim)
    vector = ord is None or (t.ndim if axes is None else len(axes)) == 1
    if ord in (None, "fro") or (ord == 2 and vector):
        return apply_ufunc(np.sqrt, sum_(t * t, axes, keepdims=keepdims))
    if not vector or isinstance(ord, str):
        raise UnsupportedError(f"np.linalg.norm(ord={ord!r}) of a matrix is not traced; 'fro' and None are")
    size = apply_ufunc(np.absolute, t)
    if ord in (np.inf, -np.inf):
        return (max_ if ord > 0 else min_)(size, axes, keepdims=keepdims)
    if ord == 0:
        return sum_((t != 0).astype(t.dtype), axes, keepdims=keepdims)
    total = sum_(size if ord == 1 else operate(np.power, size, ord), axes, keepdims=keepdims)
    return total if ord == 1 else operate(np.power, total, 1 / ord)
