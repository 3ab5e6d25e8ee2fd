"""Norms and condition numbers of traced vectors and matrices.

Where a norm has a corner its derivative is the subgradient that is 0: that of every norm at 0, and of the largest of
several equal things their mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.linalg import LinAlgError

from graphc import ops
from graphc.leaks import UnsupportedError
from graphc.numpy.matrices import check_square, is_empty, matrices, npx, svdvals
from graphc.numpy.tables import axes_of, strong, traces
from graphc.tracing import Tracer, is_tracer, wrap


def floating(x: Any) -> Tracer:
    t = strong(x)
    return t if t._node.type.dtype.is_inexact else t.astype(np.float64)


def flat_at_zero(function: Callable[[Tracer], Tracer], total: Tracer) -> Tracer:
    """``function`` of sums of sizes; where such a sum is 0, so is the result, and so are all derivatives."""
    zero = total == 0
    return npx.where(zero, npx.zeros_like(total), function(npx.where(zero, npx.ones_like(total), total)))


def squares(x: Tracer) -> Tracer:
    if x._node.type.dtype.kind == "c":
        return x.real * x.real + x.imag * x.imag
    return x * x


def euclidean(x: Tracer, axes: tuple[int, ...], keepdims: bool) -> Tracer:
    return flat_at_zero(npx.sqrt, squares(x).sum(axis=axes, keepdims=keepdims))


def number_of(ord: Any) -> Any:
    if is_tracer(ord):
        raise UnsupportedError("np.linalg.norm with a traced ord is not traced; write np.sum(np.abs(x)**p)**(1/p)")
    return ord


def vector_norm_of(x: Tracer, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Tracer:
    if ord is None or ord == 2:
        return euclidean(x, axes, keepdims)
    if ord == 0:
        return (x != 0).astype(npx.abs(x).dtype).sum(axis=axes, keepdims=keepdims)
    if isinstance(ord, str):
        raise ValueError(f"Invalid norm order '{ord}' for vectors")
    size = npx.abs(x)
    if ord == np.inf:
        return size.max(axis=axes, keepdims=keepdims)
    if ord == -np.inf:
        return size.min(axis=axes, keepdims=keepdims)
    if ord == 1:
        return size.sum(axis=axes, keepdims=keepdims)
    if 0 < ord < 2:  # the second derivative of a power below 2 is infinite at 0
        nothing = size.sum(axis=axes, keepdims=True) == 0
        total = (npx.where(nothing, npx.ones_like(size), size) ** float(ord)).sum(axis=axes, keepdims=keepdims)
        nothing = nothing if keepdims else npx.squeeze(nothing, axis=axes)
        total = npx.where(nothing, npx.zeros_like(total), total)
    else:
        total = (size ** float(ord)).sum(axis=axes, keepdims=keepdims)
    return flat_at_zero(lambda t: t ** (1.0 / float(ord)), total)


def matrix_norm_of(x: Tracer, ord: Any, axes: tuple[int, int], keepdims: bool) -> Tracer:
    row, column = axes
    if ord in (None, "fro", "f"):
        return euclidean(x, (row, column), keepdims)
    if ord in (2, -2, "nuc"):
        s = npx.abs(svdvals(npx.moveaxis(x, (row, column), (-2, -1))))  # as of any size, the derivative at 0 is 0
        found = s.sum(axis=-1) if ord == "nuc" else s.max(axis=-1) if ord == 2 else s.min(axis=-1)
        return npx.expand_dims(found, sorted(axes)) if keepdims else found
    if isinstance(ord, str) or ord not in (1, -1, np.inf, -np.inf):
        raise ValueError("Invalid norm order for matrices.")
    summed, other = (row, column) if abs(ord) == 1 else (column, row)
    sums = npx.abs(x).sum(axis=summed, keepdims=True)
    found = (sums.max if ord > 0 else sums.min)(axis=other, keepdims=True)
    return found if keepdims else npx.squeeze(found, axis=axes)


@traces(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tracer:
    t, ord = floating(x), number_of(ord)
    if axis is None:
        everything = tuple(range(t.ndim))
        if ord is None or (ord in ("f", "fro") and t.ndim == 2) or (ord == 2 and t.ndim == 1):
            return euclidean(t, everything, keepdims)
        given = everything
    else:
        given = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
        axes_of(given, t.ndim)  # AxisError
        given = tuple(int(k) % t.ndim for k in given)
    if len(given) == 1:
        return vector_norm_of(t, ord, given, keepdims)
    if len(given) == 2:
        return matrix_norm_of(t, ord, (given[0], given[1]), keepdims)
    raise ValueError("Improper number of dimensions to norm.")


@traces(np.linalg.vector_norm)
def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Tracer:
    t = floating(x)
    axes = axes_of(axis, t.ndim)
    return vector_norm_of(t, number_of(ord), axes, keepdims)


@traces(np.linalg.matrix_norm)
def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Tracer:
    return norm(x, axis=(-2, -1), keepdims=keepdims, ord=ord)


@traces(np.linalg.cond)
def cond(x: Any, p: Any = None) -> Tracer:
    t = strong(x)
    if is_empty(t):
        raise LinAlgError("cond is not defined on empty arrays")
    (node,) = matrices("cond", t)
    a = wrap(node)
    if p is None or p in (2, -2):
        s = svdvals(a)
        found = s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    else:
        check_square(node)
        inverse = wrap(ops.inverse(node))
        found = norm(a, p, axis=(-2, -1)) * norm(inverse, p, axis=(-2, -1))
    unknown = npx.isnan(found) & ~npx.isnan(a).any(axis=(-2, -1))
    return npx.where(unknown, np.asarray(math.inf, a.dtype), found)


__all__ = ["cond", "matrix_norm", "norm", "vector_norm"]
