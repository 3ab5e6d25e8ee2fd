"""Sums, means and extremes of traced arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import Node
from graphc.numpy.complex import place_of_extreme, reduce_extreme
from graphc.numpy.elementwise import truth_of
from graphc.numpy.elementwise import where as where_
from graphc.numpy.shapes import broadcast_to, reshape, transpose
from graphc.numpy.tables import NO_VALUE, axes_of, element_of, given, one_axis, operand, stored, strong, traces
from graphc.tracing import (
    Tracer,
    apply_ufunc,
    is_tracer,
    note_widening,
    promote,
    to_node,
    to_tracer,
    wrap,
)
from graphc.types import DType, TensorType, bf16, bool_, f16, f32, f64, i64, u64

COMBINE = {"reduce_sum": np.add, "reduce_prod": np.multiply, "reduce_max": np.maximum, "reduce_min": np.minimum}


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
    elif ordered and node.type.dtype.kind == "c":
        result = reduce_extreme(node, axes, op is ops.reduce_max)
    else:
        result = op(node, axes=axes)
    if given(initial):
        start = ops.broadcast_numpy(to_node(initial, result.type.dtype), result.type.shape)
        result = to_node(apply_ufunc(COMBINE[op.name], wrap(result), wrap(start)))
    return stored(wrap(keep(result, node, axes, keepdims)), out)


def keep(result: Node, node: Node, axes: Sequence[int], keepdims: Any) -> Node:
    if keepdims and keepdims is not NO_VALUE:
        return ops.reshape_to(result, [1 if k in axes else n for k, n in enumerate(node.type.shape)])
    return result


def sum_type(x: Any, requested: Any) -> DType:
    """Sums of bools and small integers are 64 bit, as in NumPy."""
    if given(requested):
        return element_of(requested)
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
    total = sum_(squared_size(centred), axis, keepdims=keepdims, where=where)
    count = element_count(x, axis, where, keepdims) - ddof
    return stored(quotient(total, maximum_of(count, 0)), out)


_mean = mean


def squared_size(x: Tracer) -> Tracer:
    """|x|², smooth at 0."""
    return x.real * x.real + x.imag * x.imag if x._node.type.dtype.kind == "c" else x * x


def maximum_of(x: Any, y: Any) -> Any:
    return apply_ufunc(np.maximum, x, y) if is_tracer(x) else max(x, y)


@traces(np.std, method="std")
def std(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: Any = False, *,
    where: Any = True, mean: Any = NO_VALUE, correction: Any = NO_VALUE,
) -> Tracer:  # fmt: skip
    spread = var(a, axis, dtype, None, ddof, keepdims, where=where, mean=mean, correction=correction)
    return stored(root(spread), out)


def root(spread: Tracer) -> Tracer:
    """√spread; where all numbers are equal its derivatives are taken as 0, not 0/0."""
    flat = apply_ufunc(np.equal, spread, 0)
    return where_(flat, 0, apply_ufunc(np.sqrt, where_(flat, 1, spread)))


@traces(np.average)
def average(
    a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = NO_VALUE
) -> Any:  # fmt: skip
    """Weights that sum to zero give NaN or infinity where NumPy raises ZeroDivisionError, unless they are plain numbers."""
    x = strong(a)
    if weights is None:
        result = mean(x, axis, keepdims=keepdims)
        total: Any = np.asarray(x.size / max(result.size, 1), result.dtype)
    else:
        given_weights = operand(weights)
        if not is_tracer(given_weights) and given_weights.size and np.sum(given_weights) == 0:
            raise ZeroDivisionError("Weights sum to zero, can't be normalized")
        w = average_weights(given_weights, x, axis)
        element = promote(x, w, np.float64(0)) if x._node.type.dtype.kind in "biu" else promote(x, w)
        note_widening(element, (x, w))
        total = sum_(w, axis, element.numpy, keepdims=keepdims)
        result = sum_(x.astype(element.numpy) * w.astype(element.numpy), axis, keepdims=keepdims) / total
    return (result, broadcast_to(total, result.shape)) if returned else result


def average_weights(weights: Any, x: Tracer, axis: Any) -> Tracer:
    """The weights in the shape of ``x``: of all its elements, or of those along ``axis``."""
    w = strong(weights)
    if w.shape == x.shape:
        return w
    if axis is None:
        raise TypeError("Axis must be specified when shapes of a and weights differ.")
    axes: list[int] = [int(k) % x.ndim for k in ((axis,) if isinstance(axis, (int, np.integer)) else axis)]
    if w.shape != tuple(x.shape[k] for k in axes):
        raise ValueError("Shape of weights must be consistent with shape of a along specified axis.")
    w = transpose(w, [int(k) for k in np.argsort(axes)])
    return broadcast_to(reshape(w, [n if k in axes else 1 for k, n in enumerate(x.shape)]), x.shape)


def arg_reduce(name: str, op: Any, a: Any, axis: Any, keepdims: Any, out: Any) -> Tracer:
    node = to_node(strong(a))
    k = None if axis is None else one_axis(axis, node.type.ndim)
    if (node.type.size if k is None else node.type.shape[k]) == 0:
        raise ValueError(f"attempt to get {name} of an empty sequence")
    if node.type.dtype.kind == "c":
        largest = op is ops.argmax
        op = lambda z, axis: place_of_extreme(z, axis, largest)  # noqa: E731
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
