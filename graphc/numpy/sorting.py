"""Sorting, partitioning, searching and picking by conditions.

All sorts are stable whatever ``kind`` asks for, and NaN comes last. The derivative of a sort follows its stable permutation.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import Node
from graphc.leaks import UnsupportedError
from graphc.numpy.complex import order_along, sorted_along
from graphc.numpy.elementwise import where
from graphc.numpy.shapes import ravel
from graphc.numpy.tables import NO_VALUE, one_axis, operand, stored, strong, traces
from graphc.promotion import common_type
from graphc.tracing import METHODS, Tracer, element_type, is_tracer, to_node, wrap
from graphc.types import DType, TensorType, i64

KINDS = ("quicksort", "mergesort", "heapsort", "stable")
SELECTIONS = ("introselect",)
COUNTED = 32  # sorted numbers up to which a search compares with all of them rather than halving


# ------------------------------------------------------------------------------------------------ sort, argsort


def check_order(kind: Any, order: Any, stable: Any = None) -> None:
    """The arguments of a sort that change nothing here, in NumPy's words where they are wrong."""
    if order is not None:
        raise ValueError("Cannot specify order when the array has no fields.")
    if kind is not None and stable not in (None, NO_VALUE):
        raise ValueError("`kind` and keyword parameters can't be provided at the same time. Use only one of them.")
    if kind is not None and not (isinstance(kind, str) and any(k.startswith(kind[:1].lower()) for k in KINDS) and kind):
        raise ValueError(f"sort kind must be one of 'quick', 'heap', or 'stable' (got {kind!r})")


def laid_out(a: Any, axis: Any) -> tuple[Node, int]:
    """``a`` and the axis to sort along: flattened for None."""
    x = ravel(strong(a)) if axis is None else strong(a)
    return to_node(x), one_axis(-1 if axis is None else operator.index(axis), x.ndim)


def laid_out_places(a: Any, axis: Any) -> tuple[Node, int]:
    """As :func:`laid_out`; the argsort functions take a 0-d array as one of one element."""
    x = strong(a)
    return laid_out(ravel(x) if x.ndim == 0 and axis in (-1, 0) else x, axis)


@traces(np.sort)
def sort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Tracer:
    check_order(kind, order, stable)
    node, k = laid_out(a, axis)
    return wrap(sorted_along(node, k))


def sort_in_place(x: Tracer, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> None:
    """``x.sort()``: through a view it sorts that part of its base."""
    x._assign(sort(x, operator.index(axis), kind, order, stable=stable)._node)


METHODS["sort"] = sort_in_place


@traces(np.argsort, method="argsort")
def argsort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Tracer:
    check_order(kind, order, stable)
    node, k = laid_out_places(a, axis)
    return wrap(order_along(node, k))


@traces(np.lexsort)
def lexsort(keys: Any, axis: Any = -1) -> Tracer:
    """Places in the order of the last key, ties by the one before it, and so on: a stable sort by each key in turn."""
    rows = (
        list(keys) if isinstance(keys, (list, tuple)) else [keys[k] for k in range(len(keys))] if np.ndim(keys) else []
    )
    if not rows:
        raise TypeError("need sequence of keys with len > 0 in lexsort")
    nodes = [to_node(strong(row)) for row in rows]
    if any(n.type.shape != nodes[0].type.shape for n in nodes):
        raise ValueError("all keys need to be the same shape")
    if not nodes[0].type.shape:
        return wrap(ops.const(0, i64))
    k = one_axis(operator.index(axis), nodes[0].type.ndim)
    order = order_along(nodes[0], k)
    for node in nodes[1:]:
        by = order_along(ops.take_along_axis(node, order, k, mode="clip"), k)
        order = ops.take_along_axis(order, by, k, mode="clip")
    return wrap(order)


# ------------------------------------------------------------------------------------------------ partition


def check_partition(kth: Any, length: int, kind: Any, order: Any) -> None:
    """``kth`` says which places must be right; a full sort makes all of them so."""
    if order is not None:
        raise ValueError("Cannot specify order when the array has no fields.")
    if kind not in SELECTIONS:
        raise ValueError(f"select kind must be 'introselect' (got {kind!r})")
    if is_tracer(kth):
        raise UnsupportedError(
            "np.partition with a traced kth is not traced; write np.sort, which is right for every kth"
        )
    places = np.asarray(kth)
    if places.dtype.kind not in "iu" and places.size:
        raise TypeError("Partition index must be integer")
    for place in places.ravel() if length else ():  # of nothing, NumPy takes every place
        if not -length <= place < length:
            raise ValueError(f"kth(={place if place >= 0 else place + length}) out of bounds ({length})")


def partition_length(a: Any, axis: Any) -> int:
    # NumPy checks kth of a flattened array against the last axis of the array that it was before.
    shape = np.shape(a)
    return int(np.size(a)) if axis is None or not shape else shape[one_axis(operator.index(axis), len(shape))]


@traces(np.partition)
def partition(a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None) -> Tracer:
    """The array sorted: a legal partition for every ``kth``, which is only checked. NumPy leaves the order of the others open."""
    check_partition(kth, partition_length(a, axis), kind, order)
    return sort(a, axis)


def partition_in_place(x: Tracer, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None) -> None:
    x._assign(partition(x, kth, operator.index(axis), kind, order)._node)


METHODS["partition"] = partition_in_place


@traces(np.argpartition, method="argpartition")
def argpartition(a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None) -> Tracer:
    """The places of :func:`partition`: those of a stable sort."""
    check_partition(kth, partition_length(a, axis), kind, order)
    return argsort(a, axis)


# ------------------------------------------------------------------------------------------------ searching


def comes_before(x: Node, v: Node, side: str) -> Node:
    """Whether each x comes before v (``left``), or not after it (``right``), with NaN after all numbers."""
    if x.type.dtype.kind == "c":
        return complex_before(x, v) if side == "left" else ops.bit_not(complex_before(v, x))
    before = (ops.lt if side == "left" else ops.le)(x, v)
    if not x.type.dtype.is_float:
        return before
    after_numbers = ops.isnan(v)
    if side == "left":
        after_numbers = ops.bit_and(after_numbers, ops.bit_not(ops.isnan(x)))
    return ops.bit_or(before, after_numbers)


def complex_before(x: Node, v: Node) -> Node:
    """NumPy's order of complex numbers: by the real part, then the imaginary one, with NaN in either after all numbers."""
    (a, b), (c, d) = [(ops.real(z), ops.imag(z)) for z in (x, v)]
    unknown = ops.isnan(b), ops.isnan(d)
    only_second = ops.bit_and(ops.bit_not(unknown[0]), unknown[1])
    same_real = ops.bit_or(ops.eq(a, c), ops.bit_and(ops.isnan(a), ops.isnan(c)))
    by_imaginary = ops.select(same_real, ops.bit_or(ops.lt(b, d), only_second), ops.isnan(c))
    by_real = ops.bit_or(ops.bit_not(unknown[0]), unknown[1])
    return ops.select(ops.lt(a, c), by_real, ops.select(ops.gt(a, c), only_second, by_imaginary))


def search(line: Node, values: Node, side: str) -> Node:
    """How many of the sorted ``line`` (1-D) come before each of ``values``; i64, in their shape.

    A short line is compared with all values at once. In a long one every value halves its own range, all of them together:
    log2(n) steps of one gather each.
    """
    n, shape = line.type.shape[0], values.type.shape
    count = TensorType(i64, shape)
    if n == 0:
        return ops.zeros(count)
    if n <= COUNTED:
        wide = (*shape, n)
        have = comes_before(
            ops.broadcast(line, wide, (len(shape),)), ops.broadcast(values, wide, range(len(shape))), side
        )
        return ops.reduce_sum(ops.convert(have, i64), axes=(len(shape),))
    found = ops.zeros(count)
    step = 1 << (n.bit_length() - 1)
    while step:
        reached = ops.add(found, ops.like(found, step))
        probe = ops.gather(line, ops.sub(reached, ops.like(found, 1)), axes=(0,), mode="clip")
        fits = ops.bit_and(ops.le(reached, ops.like(found, n)), comes_before(probe, values, side))
        found = ops.select(fits, reached, found)
        step //= 2
    return found


def search_type(line: Any, values: Any) -> DType:
    """The common element type; that of ``line`` where it holds plain ``values`` exactly, so that f32 stays f32."""
    have, other = element_type(line), element_type(values)
    if not is_tracer(values) and have is not other and have.kind in "iuf":
        with np.errstate(all="ignore"):
            kept = values.astype(have.numpy)
            if np.array_equal(kept.astype(values.dtype), values) and (have.is_float or not values.dtype.kind == "f"):
                return have
    return common_type([have, other])


def check_line(shape: tuple[int, ...]) -> None:
    if len(shape) != 1:
        raise ValueError(
            "object too deep for desired array" if shape else "object of too small depth for desired array"
        )


def side_of(side: Any) -> str:
    if side in ("left", "right"):
        return str(side)
    if isinstance(side, str) and side[:1].lower() in ("l", "r") and side:
        raise ValueError("search side must be one of 'left' or 'right'")
    raise ValueError(f"search side must be 'left' or 'right' (got {side!r})")


@traces(np.searchsorted, method="searchsorted")
def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Tracer:
    """Where ``v`` go into the sorted ``a``; NaN is the largest. For an ``a`` that is not sorted nothing is promised."""
    line, values = operand(a), operand(v)
    which = side_of(side)
    check_line(line.shape)
    if sorter is not None:
        places = operand(sorter)
        if element_type(places).kind not in "iu":
            raise TypeError("sorter must only contain integers")
        if places.shape != line.shape:
            raise ValueError("sorter.size must equal len(a)")
        line = strong(line)[places]
    element = search_type(line, values)
    return wrap(search(to_node(line, element), to_node(values, element), which))


@traces(np.digitize)
def digitize(x: Any, bins: Any, right: bool = False) -> Tracer:
    """Traced ``bins`` must be monotonic, up or down: that cannot be checked while tracing."""
    values, edges = operand(x), operand(bins)
    if element_type(values).kind == "c":
        raise TypeError("x may not be complex")
    check_line(edges.shape)
    side, n = "left" if right else "right", edges.shape[0]
    if not is_tracer(edges):
        direction = monotonicity(edges)
        if direction == 0:
            raise ValueError("bins must be monotonically increasing or decreasing")
        return searchsorted(edges, values, side) if direction > 0 else n - searchsorted(edges[::-1], values, side)
    if n < 2:
        return searchsorted(edges, values, side)
    falling = wrap(comes_before(to_node(edges[-1]), to_node(edges[0]), "left"))
    found = searchsorted(where(falling, edges[::-1], edges), values, side)
    return where(falling, n - found, found)


def monotonicity(edges: np.ndarray) -> int:
    """1 for edges that never fall, -1 for edges that never rise, else 0; as NumPy reads NaN among them."""
    steps = np.flatnonzero(edges[1:] != edges[:-1])
    if not steps.size or edges[steps[0]] < edges[steps[0] + 1]:
        return int(not np.any(edges[1:] < edges[:-1]))
    return -int(not np.any(edges[1:] > edges[:-1]))


# ------------------------------------------------------------------------------------------------ by conditions


def known_condition(name: str, condition: Any) -> np.ndarray:
    if is_tracer(condition) or isinstance(condition, (list, tuple)) and any(map(is_tracer, condition)):
        raise UnsupportedError(
            f"np.{name} with a traced condition has a shape that depends on data; write np.where(condition, x, 0), or "
            "x[graphc.numpy.flatnonzero(condition, size=n)] for at most n elements"
        )
    return np.asarray(condition)


@traces(np.compress)
def compress(condition: Any, a: Any, axis: Any = None, out: Any = None) -> Tracer:
    chosen = known_condition("compress", condition)
    if chosen.ndim != 1:
        raise ValueError("condition must be a 1-d array")
    x = ravel(strong(a)) if axis is None else strong(a)
    k = one_axis(0 if axis is None else axis, x.ndim)
    return stored(x[(*[slice(None)] * k, np.flatnonzero(chosen))], out)


METHODS["compress"] = lambda x, condition, axis=None, out=None: compress(condition, x, axis, out)


@traces(np.extract)
def extract(condition: Any, arr: Any) -> Tracer:
    return ravel(strong(arr))[np.flatnonzero(known_condition("extract", condition))]
