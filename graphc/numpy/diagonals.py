"""Diagonals and triangles: reading them, making matrices of them, writing them in place."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from graphc import ops
from graphc.ir import Node
from graphc.leaks import refuse
from graphc.numpy.elementwise import where
from graphc.numpy.flat import Flat
from graphc.numpy.indexing import view_of
from graphc.numpy.shapes import ravel
from graphc.numpy.tables import one_axis, strong, traces
from graphc.tracing import Tracer, is_tracer, to_node, to_tracer, wrap
from graphc.types import TensorType, i64


def diagonal_nodes(node: Node, offset: int) -> Node:
    """The diagonal of the last two axes, as the last axis: every (columns + 1)-th element of the flattened matrix."""
    *lead, rows, columns = node.type.shape
    count = max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
    flat = ops.reshape_to(node, (*lead, rows * columns))
    first = (offset if offset >= 0 else -offset * columns) if count else 0
    zeros, ones = (0,) * len(lead), (1,) * len(lead)
    return ops.slice_(flat, start=(*zeros, first), size=(*lead, count), step=(*ones, columns + 1))


@traces(np.diagonal, method="diagonal")
def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tracer:
    """A view that cannot be written, as in NumPy."""
    x = to_tracer(a)
    if x.ndim < 2:
        raise ValueError("diag requires an array of at least two dimensions")
    i, j = one_axis(axis1, x.ndim), one_axis(axis2, x.ndim)
    if i == j:
        raise ValueError("axis1 and axis2 cannot be the same")
    order = [*[k for k in range(x.ndim) if k not in (i, j)], i, j]
    return view_of(x, lambda base: diagonal_nodes(ops.transpose_to(base, order), int(offset)), read_only)


def read_only(base: Node, value: Node) -> NoReturn:
    raise ValueError("assignment destination is read-only")


@traces(np.diag)
def diag(v: Any, k: int = 0) -> Tracer:
    x = to_tracer(v)
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ValueError("Input must be 1- or 2-d.")
    node = to_node(strong(x))
    side = x.size + abs(k)
    if x.size == 0:
        return wrap(ops.zeros(TensorType(node.type.dtype, (side, side))))
    start = k if k >= 0 else -k * side
    zero = ops.const(0, node.type.dtype)
    placed = ops.pad(node, zero, shape=(side * side,), start=(start,), step=(side + 1,))
    return wrap(ops.reshape_to(placed, (side, side)))


@traces(np.diagflat)
def diagflat(v: Any, k: int = 0) -> Tracer:
    return diag(ravel(strong(v)), k)


@traces(np.fill_diagonal)
def fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    """Written in place; values fewer than places are repeated."""
    if not is_tracer(a):
        refuse(
            "np.fill_diagonal would write a traced value into a NumPy array",
            "make the array of traced values too: a = np.zeros_like(x) or a = graphc.numpy.zeros(shape)",
        )
    if a.ndim < 2:
        raise ValueError("array must be at least 2-d")
    if a.ndim == 2:
        step = a.shape[1] + 1
        end = None if wrap else a.shape[1] * a.shape[1]
    else:
        if len(set(a.shape)) != 1:
            raise ValueError("All dimensions of input must be of equal length")
        step, end = 1 + int(np.cumprod(a.shape[:-1]).sum()), None
    Flat(a)[:end:step] = val


def triangle(m: Any, k: int, lower: bool) -> Tracer:
    """``m`` on one side of its diagonal, 0 on the other; a vector is every row of a square matrix."""
    x = strong(m)
    if x.ndim < 1:
        raise TypeError("np.tril and np.triu take arrays of at least one axis")
    rows, columns = x.shape[-2:] if x.ndim > 1 else x.shape * 2
    row, column = (ops.iota(shape=(rows, columns), axis=axis, to=i64) for axis in (0, 1))
    inside = wrap(ops.ge(ops.add(row, ops.like(row, k if lower else k - 1)), column))
    zero = np.zeros((), x.dtype)
    return where(inside, x, zero) if lower else where(inside, zero, x)


@traces(np.tril)
def tril(m: Any, k: int = 0) -> Tracer:
    return triangle(m, k, lower=True)


@traces(np.triu)
def triu(m: Any, k: int = 0) -> Tracer:
    return triangle(m, k, lower=False)


@traces(np.tril_indices_from)
def tril_indices_from(arr: Any, k: int = 0) -> tuple[np.ndarray, ...]:
    rows, columns = matrix_shape(arr)
    return np.tril_indices(rows, k, columns)


@traces(np.triu_indices_from)
def triu_indices_from(arr: Any, k: int = 0) -> tuple[np.ndarray, ...]:
    rows, columns = matrix_shape(arr)
    return np.triu_indices(rows, k, columns)


def matrix_shape(arr: Any) -> tuple[int, ...]:
    if np.ndim(arr) != 2:
        raise ValueError("input array must be 2-d")
    return np.shape(arr)


@traces(np.diag_indices_from)
def diag_indices_from(arr: Any) -> tuple[np.ndarray, ...]:
    if np.ndim(arr) < 2:
        raise ValueError("input array must be at least 2-d")
    if len(set(np.shape(arr))) != 1:
        raise ValueError("All dimensions of input must be of equal length")
    return np.diag_indices(np.shape(arr)[0], np.ndim(arr))
