"""Cross and Kronecker products, traces of matrices, and the order of an einsum."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from graphc import ops
from graphc.numpy.reductions import sum_, sum_type
from graphc.numpy.shapes import expand_dims, moveaxis, reshape, stack
from graphc.numpy.tables import one_axis, operand, strong, traces
from graphc.tracing import Tracer, apply_ufunc, is_tracer, promote, to_node, wrap
from graphc.types import bool_, i64


@traces(np.cross)
def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None) -> Tracer:
    if axis is not None:
        axisa = axisb = axisc = axis
    given = operand(a), operand(b)
    if any(np.ndim(v) < 1 for v in given):
        raise ValueError("At least one array has zero dimension")
    element = promote(*given)
    if element is bool_:
        raise TypeError("numpy boolean subtract, the `-` operator, is not supported, use the bitwise_xor instead")
    x, y = (moveaxis(wrap(to_node(v, element)), k, -1) for v, k in zip(given, (axisa, axisb), strict=True))
    lengths = x.shape[-1], y.shape[-1]
    if not set(lengths) <= {2, 3}:
        raise ValueError("incompatible dimensions for cross product\n(dimension must be 2 or 3)")
    if 2 in lengths:
        warnings.warn(
            "Arrays of 2-dimensional vectors are deprecated. Use arrays of 3-dimensional vectors instead. (deprecated in "
            "NumPy 2.0)",
            DeprecationWarning,
            stacklevel=2,
        )
    third = x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0]
    if lengths == (2, 2):
        return third
    if lengths == (3, 3):
        first = x[..., 1] * y[..., 2] - x[..., 2] * y[..., 1]
        second = x[..., 2] * y[..., 0] - x[..., 0] * y[..., 2]
    elif lengths == (2, 3):
        first, second = x[..., 1] * y[..., 2], -(x[..., 0] * y[..., 2])
    else:
        first, second = -(x[..., 2] * y[..., 1]), x[..., 2] * y[..., 0]
    return stack([first, second, third], one_axis(axisc, third.ndim + 1))


@traces(np.linalg.cross)
def linalg_cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Tracer:
    x, y = strong(x1), strong(x2)
    lengths = [v.shape[one_axis(axis, v.ndim)] for v in (x, y)]
    if lengths != [3, 3]:
        raise ValueError(
            "Both input arrays must be (arrays of) 3-dimensional vectors, but they are "
            f"{lengths[0]} and {lengths[1]} dimensional instead."
        )
    return cross(x, y, axis=axis)


@traces(np.kron)
def kron(a: Any, b: Any) -> Tracer:
    x, y = strong(a), strong(b)
    rank = max(x.ndim, y.ndim)
    xs, ys = ((1,) * (rank - v.ndim) + v.shape for v in (x, y))
    if not (x.ndim and y.ndim):
        return apply_ufunc(np.multiply, x, y)
    wide = expand_dims(reshape(x, xs), tuple(range(1, 2 * rank, 2)))
    other = expand_dims(reshape(y, ys), tuple(range(0, 2 * rank, 2)))
    return reshape(apply_ufunc(np.multiply, wide, other), [m * n for m, n in zip(xs, ys, strict=True)])


@traces(np.trace, method="trace")
def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Tracer:
    x = strong(a)
    if x.ndim < 2:
        raise ValueError("diag requires an array of at least two dimensions")
    rows, columns = one_axis(axis1, x.ndim), one_axis(axis2, x.ndim)
    if rows == columns:
        raise ValueError("axis1 and axis2 cannot be the same")
    down, right = max(-int(offset), 0), max(int(offset), 0)
    count = max(min(x.shape[rows] - down, x.shape[columns] - right), 0)
    at = ops.iota(shape=(count,), axis=0, to=i64)
    places = [ops.add(at, ops.like(at, start)) for start in (down, right)]
    line = ops.gather(to_node(x), *places, axes=(rows, columns), mode="clip")
    return sum_(wrap(line), 0, sum_type(x, dtype).numpy, out)


@traces(np.einsum_path)
def einsum_path(*operands: Any, optimize: Any = "greedy", einsum_call: bool = False) -> Any:
    """It depends on shapes alone, so the answer is no traced value."""
    stand_ins: list[Any] = [np.broadcast_to(np.float64(0), v.shape) if is_tracer(v) else v for v in operands]
    return np.einsum_path(*stand_ins, optimize=optimize, einsum_call=einsum_call)  # type: ignore[arg-type]


__all__ = ["cross", "einsum_path", "kron", "linalg_cross", "trace"]
