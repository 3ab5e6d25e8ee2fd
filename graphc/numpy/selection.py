"""Taking, sorting and masking by place; Cholesky."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import GraphError
from graphc.leaks import UnsupportedError
from graphc.numpy.elementwise import where
from graphc.numpy.shapes import broadcast_to, matrix_transpose, ravel
from graphc.numpy.tables import one_axis, stored, strong, traces
from graphc.tracing import METHODS, Tracer, is_tracer, to_node, to_tracer, wrap
from graphc.types import i64


@traces(np.repeat, method="repeat")
def repeat(a: Any, repeats: Any, axis: Any = None) -> Tracer:
    node = to_node(strong(a))
    if axis is None:
        node, axis = ops.reshape_to(node, (node.type.size,)), 0
    k = one_axis(axis, node.type.ndim)
    if is_tracer(repeats):
        raise UnsupportedError("np.repeat with traced repeats has a shape that depends on data")
    counts = np.broadcast_to(np.asarray(repeats), (node.type.shape[k],))
    places = np.repeat(np.arange(node.type.shape[k]), counts)
    return take(wrap(node), places, axis=k)


def triangle(m: Any, k: int, lower: bool) -> Tracer:
    x = strong(m)
    if x.ndim < 2:
        raise UnsupportedError("np.tril and np.triu of vectors are not traced")
    rows, columns = x.shape[-2:]
    mask = np.tri(rows, columns, k if lower else k - 1, dtype=bool)
    return where(mask if lower else ~mask, x, np.zeros((), x.dtype))


@traces(np.tril)
def tril(m: Any, k: int = 0) -> Tracer:
    return triangle(m, k, lower=True)


@traces(np.triu)
def triu(m: Any, k: int = 0) -> Tracer:
    return triangle(m, k, lower=False)


@traces(np.take, method="take")
def take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Tracer:
    x = to_tracer(a)
    if axis is None:
        x, axis = ravel(x), 0
    k = one_axis(axis, x.ndim)
    index = to_node(strong(indices))
    if not index.type.dtype.is_integer:
        raise GraphError(f"take: the indices must be integers, not {index.type}")
    index = ops.convert(index, i64)
    if mode == "wrap":
        index = ops.remainder(index, ops.like(index, x.shape[k]))
    elif mode not in ("raise", "clip"):
        raise ValueError(f"clipmode must be one of 'clip', 'raise', or 'wrap' (got {mode!r})")
    gathered = ops.gather(to_node(x), index, axes=(k,), mode="clip" if mode == "clip" else "raise")
    order = list(range(index.type.ndim, gathered.type.ndim))
    order[k:k] = range(index.type.ndim)
    return stored(wrap(ops.transpose_to(gathered, order)), out)


@traces(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Tracer:
    x, index = to_tracer(arr), to_tracer(indices)
    if axis is None:
        return take_along_axis(ravel(x), index, 0)
    if x.ndim != index.ndim:
        raise ValueError("`indices` and `arr` must have the same number of dimensions")
    k = one_axis(axis, x.ndim)
    shape = np.broadcast_shapes(without(x.shape, k), without(index.shape, k))
    spread = (*shape[:k], index.shape[k], *shape[k + 1 :])
    index = broadcast_to(index, spread)
    x = broadcast_to(x, (*shape[:k], x.shape[k], *shape[k + 1 :]))
    parts = [index if j == k else wrap(ops.iota(shape=spread, axis=j, to=i64)) for j in range(x.ndim)]
    return x[tuple(parts)]


def without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], 1, *shape[axis + 1 :])


@traces(np.sort)
def sort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Tracer:
    x = ravel(a) if axis is None else strong(a)
    return wrap(ops.sort(to_node(x), axis=one_axis(-1 if axis is None else axis, x.ndim)))


METHODS["sort"] = lambda x, axis=-1, kind=None, order=None, *, stable=None: x._assign(sort(x, axis)._node)


@traces(np.argsort, method="argsort")
def argsort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Tracer:
    x = ravel(a) if axis is None else strong(a)
    return wrap(ops.argsort(to_node(x), axis=one_axis(-1 if axis is None else axis, x.ndim)))


@traces(np.linalg.cholesky)
def cholesky(a: Any, /, *, upper: bool = False) -> Tracer:
    lower = wrap(ops.cholesky(to_node(strong(a))))
    return matrix_transpose(lower) if upper else lower
