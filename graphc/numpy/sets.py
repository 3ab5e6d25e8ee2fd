"""Sets and places of elements. How many there are depends on data: ``size=`` says for how many there is room, as in JAX.

The functions here that take ``size`` are called as ``graphc.numpy.unique(x, size=10)``, in a trace and on plain arrays; NumPy's
own have no such argument, and refuse traced arrays. The first ``size`` elements are kept, and ``fill_value`` fills up what is
free. Without ``size`` they are NumPy's, for plain arrays alone.

>>> import numpy as np
>>> import graphc.numpy as gnp
>>> gnp.unique(np.array([3, 1, 3]), size=4, fill_value=-1)
array([ 1,  3, -1, -1])
>>> gnp.flatnonzero(np.array([0, 5, 0, 7]), size=3, fill_value=4)
array([1, 3, 4])
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from graphc import ops
from graphc.ir import Node
from graphc.leaks import UnsupportedError
from graphc.numpy.complex import order_along, sorted_along
from graphc.numpy.elementwise import truth_of
from graphc.numpy.shapes import concatenate, ravel
from graphc.numpy.sorting import COUNTED, lexsort, search
from graphc.numpy.tables import one_axis, operand, strong, traces
from graphc.promotion import common_type
from graphc.tracing import (
    LEFT_OUT,
    METHODS,
    Tracer,
    element_type,
    is_tracer,
    located,
    note_widening,
    promote,
    to_node,
    wrap,
)
from graphc.tree import flatten
from graphc.types import DType, TensorType, bool_, i64

# ------------------------------------------------------------------------------------------------ membership


@traces(np.isin)
def isin(
    element: Any, test_elements: Any, assume_unique: bool = False, invert: bool = False, *, kind: Any = None
) -> Tracer:
    """Few test elements are all compared; of many, sorted, each element finds its place. NaN is in no set."""
    if kind not in (None, "sort", "table"):
        raise ValueError(f"Invalid kind: '{kind}'. Please use None, 'sort' or 'table'.")
    a, b = operand(element), operand(test_elements)
    common = common_type([element_type(a), element_type(b)])
    x, line = to_node(a, common), to_node(b, common)
    line = ops.reshape_to(line, (line.type.size,))
    found = wrap(contained(x, line))
    return ~found if invert else found


def contained(x: Node, line: Node) -> Node:
    n, shape = line.type.shape[0], x.type.shape
    if n == 0:
        return ops.full(TensorType(bool_, shape), False)
    if n <= COUNTED:
        wide = (*shape, n)
        same = ops.eq(ops.broadcast(x, wide, range(len(shape))), ops.broadcast(line, wide, (len(shape),)))
        return ops.reduce_or(same, axes=(len(shape),))
    ordered = sorted_along(line, 0)
    return ops.eq(ops.gather(ordered, search(ordered, x, "left"), axes=(0,), mode="clip"), x)


# ------------------------------------------------------------------------------------------------ compaction


def compacted(values: Node, kept: Node, size: int, fill: Any) -> Node:
    """The elements of ``values`` along axis 0 where ``kept`` holds, the first ``size`` of them, then ``fill``."""
    element, rest = values.type.dtype, values.type.shape[1:]
    room = TensorType(element, (size, *rest))
    empty = ops.broadcast_numpy(to_node(fill, element), room.shape)
    return ops.scatter(empty, values, places_of(kept, size), axes=(0,), mode="drop", combine="set")


def places_of(kept: Node, size: int) -> Node:
    """Where each kept element goes: 0, 1, …; ``size``, which is nowhere, for the others."""
    return ops.select(kept, ranks(kept), ops.full(TensorType(i64, kept.type.shape), size))


def ranks(flags: Node) -> Node:
    """How many flags are set up to each place, less 1."""
    counted = ops.cumsum(ops.convert(flags, i64), axis=0, reverse=False)
    return ops.sub(counted, ops.like(counted, 1))


def numbers(n: int) -> Node:
    return ops.iota(shape=(n,), axis=0, to=i64)


def room(name: str, size: Any) -> int:
    if size is None:
        raise UnsupportedError(f"np.{name} of traced numbers has {_SHAPE}; {_remedy(name)}")
    count = operator.index(size)
    if count < 0:
        raise ValueError(f"{name}: size must not be negative, it is {count}")
    return count


def traced_among(*values: Any) -> bool:
    return any(is_tracer(leaf) for value in values for leaf in flatten(value)[0])


def padded(values: np.ndarray, size: int | None, fill: Any, axis: int = 0) -> np.ndarray:
    """A plain result of NumPy's in room for ``size``."""
    if size is None:
        return values
    moved = np.moveaxis(values, axis, 0)[:size]
    result = np.full((size, *moved.shape[1:]), fill, values.dtype)
    result[: len(moved)] = moved
    return np.moveaxis(result, 0, axis)


# ------------------------------------------------------------------------------------------------ places of elements


def nonzero(a: Any, *, size: int | None = None, fill_value: Any = 0) -> tuple[Any, ...]:
    """``np.nonzero``: the places of elements that are not zero, an array of ``size`` per axis.

    ``fill_value`` is a number, or one per axis.
    """
    if not traced_among(a):
        found = np.nonzero(a)
        fills = fill_value if isinstance(fill_value, tuple) else (fill_value,) * len(found)
        return tuple(padded(f, size, v) for f, v in zip(found, fills, strict=True))
    return located(_nonzero, "nonzero", a, size, fill_value)


def _nonzero(name: str, a: Any, size: int | None, fill_value: Any) -> tuple[Tracer, ...]:
    count = room(name, size)
    flags = to_node(truth_of(strong(a)))
    shape = flags.type.shape
    if not shape and name == "nonzero":
        raise ValueError("Calling nonzero on 0d arrays is not allowed. Use np.atleast_1d(scalar).nonzero() instead.")
    fills = fill_value if isinstance(fill_value, tuple) else (fill_value,) * len(shape)
    if len(fills) != len(shape):
        raise ValueError(f"{name}: {len(fills)} fill values for an array of {len(shape)} axes")
    kept = ops.reshape_to(flags, (flags.type.size,))
    place = numbers(flags.type.size)
    found: list[Tracer] = []
    below = flags.type.size
    for extent, fill in zip(shape, fills, strict=True):
        below //= max(extent, 1)
        along = ops.remainder(ops.floor_divide(place, ops.like(place, max(below, 1))), ops.like(place, max(extent, 1)))
        found.append(wrap(compacted(along, kept, count, fill)))
    return tuple(found)


def flatnonzero(a: Any, *, size: int | None = None, fill_value: Any = 0) -> Any:
    """``np.flatnonzero``: the places in the flattened array of elements that are not zero, ``size`` of them."""
    if not traced_among(a):
        return padded(np.flatnonzero(a), size, fill_value)
    return located(lambda: _nonzero("flatnonzero", ravel(strong(a)), size, fill_value)[0])


def argwhere(a: Any, *, size: int | None = None, fill_value: Any = 0) -> Any:
    """``np.argwhere``: as :func:`nonzero`, one row per element."""
    if not traced_among(a):
        found = np.argwhere(a)
        return padded(found, size, fill_value)

    def run() -> Tracer:
        columns = _nonzero("argwhere", a, size, fill_value)
        if not columns:
            return wrap(ops.zeros(TensorType(i64, (room("argwhere", size), 0))))
        return concatenate([c[:, None] for c in columns], axis=1)

    return located(run)


# ------------------------------------------------------------------------------------------------ unique


def unique(
    ar: Any, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False, axis: Any = None, *,
    equal_nan: bool = True, sorted: bool = True, size: int | None = None, fill_value: Any = None,  # noqa: A002
) -> Any:  # fmt: skip
    """``np.unique``, the ``size`` smallest different elements in order; with ``axis``, different parts along it.

    ``fill_value`` is the smallest element by default (zero where there is none). Free places of the indices are 0, those of
    the counts too. Elements beyond ``size`` keep their numbers in the inverse.
    """
    flags = (return_index, return_inverse, return_counts)
    if not traced_among(ar):
        return _unique_plain(np.asarray(ar), flags, axis, equal_nan, size, fill_value)
    return located(_unique, ar, flags, axis, equal_nan, size, fill_value)


Flags = tuple[bool, bool, bool]


def _unique_plain(ar: np.ndarray, flags: Flags, axis: Any, equal_nan: bool, size: Any, fill: Any) -> Any:
    values, index, inverse, counts = np.unique(ar, True, True, True, axis, equal_nan=equal_nan)
    along = 0 if axis is None else one_axis(axis, ar.ndim)
    if size is not None and fill is None:
        first = np.moveaxis(values, along, 0)
        fill = first[0] if len(first) else 0
    found = padded(values, size, fill, along)
    more = padded(index, size, 0), inverse, padded(counts, size, 0)
    results = (found, *[m for m, wanted in zip(more, flags, strict=True) if wanted])
    return results if len(results) > 1 else found


def _unique(ar: Any, flags: Flags, axis: Any, equal_nan: bool, size: Any, fill_value: Any) -> Any:
    count = room("unique", size)
    x = strong(ar)
    if axis is None or x.ndim == 1:
        if axis is not None:
            one_axis(axis, x.ndim)
        along, rows, inverse_shape = 0, to_node(ravel(x)), x.shape if axis is None else (x.size,)
        order = order_along(rows, 0)
    else:
        along, equal_nan = one_axis(axis, x.ndim), False
        rows = ops.move_axis(to_node(x), along, 0)
        inverse_shape = (rows.type.shape[0],)
        order = row_order(rows)
    ordered = ops.gather(rows, order, axes=(0,), mode="clip") if rows.type.shape[0] else rows
    fresh = run_starts(ordered, equal_nan)
    n = rows.type.shape[0]
    fill = fill_value
    if fill is None:
        fill = wrap(ops.reshape_to(ops.slice_(ordered, **first_row(ordered)), rows.type.shape[1:])) if n else 0
    values = wrap(ops.move_axis(compacted(ordered, fresh, count, fill), 0, along))
    results = [values]
    if flags[0]:
        results.append(wrap(compacted(order, fresh, count, 0)))
    rank = ranks(fresh)
    if flags[1]:
        target = ops.zeros(TensorType(i64, (n,)))
        back = ops.scatter(target, rank, order, axes=(0,), mode="clip", combine="set") if n else target
        results.append(wrap(ops.reshape_to(back, inverse_shape)))
    if flags[2]:
        target = ops.zeros(TensorType(i64, (count,)))
        each = ops.full(TensorType(i64, (n,)), 1)
        results.append(wrap(ops.scatter(target, each, rank, axes=(0,), mode="drop", combine="add")))
    return tuple(results) if len(results) > 1 else values


def first_row(x: Node) -> dict[str, tuple[int, ...]]:
    ndim = x.type.ndim
    return {"start": (0,) * ndim, "size": (1, *x.type.shape[1:]), "step": (1,) * ndim}


def row_order(rows: Node) -> Node:
    """The stable order of rows, compared element by element from the first."""
    n, width = rows.type.shape[0], math.prod(rows.type.shape[1:])
    if not width:
        return numbers(n)
    flat = wrap(ops.reshape_to(rows, (n, width)))
    return to_node(lexsort([flat[:, k] for k in range(width)][::-1]))


def run_starts(ordered: Node, equal_nan: bool) -> Node:
    """Which rows differ from the one before; the first one does."""
    n, rest = ordered.type.shape[0], ordered.type.shape[1:]
    if n == 0:
        return ops.full(TensorType(bool_, (0,)), True)
    here, before = neighbours(ordered)
    differs = ops.ne(here, before)
    if equal_nan and ordered.type.dtype.is_inexact:
        differs = ops.bit_and(differs, ops.bit_not(ops.bit_and(ops.isnan(here), ops.isnan(before))))
    if rest:
        differs = ops.reduce_or(differs, axes=tuple(range(1, len(rest) + 1)))
    return ops.concatenate(ops.full(TensorType(bool_, (1,)), True), differs, axis=0)


def neighbours(x: Node) -> tuple[Node, Node]:
    """x without its first and without its last row."""
    n, rest = x.type.shape[0], x.type.shape[1:]
    size, step, zero = (n - 1, *rest), (1,) * x.type.ndim, (0,) * len(rest)
    return (
        ops.slice_(x, start=(1, *zero) if n > 1 else (0, *zero), size=size, step=step),
        ops.slice_(x, start=(0, *zero), size=size, step=step),
    )


class UniqueAll(NamedTuple):
    values: Any
    indices: Any
    inverse_indices: Any
    counts: Any


class UniqueCounts(NamedTuple):
    values: Any
    counts: Any


class UniqueInverse(NamedTuple):
    values: Any
    inverse_indices: Any


def unique_all(x: Any, *, size: int | None = None, fill_value: Any = None) -> UniqueAll:
    """``np.unique_all``, in order; NaN differ from each other, here and in the three below."""
    return UniqueAll(*unique(x, True, True, True, equal_nan=False, size=size, fill_value=fill_value))


def unique_counts(x: Any, *, size: int | None = None, fill_value: Any = None) -> UniqueCounts:
    return UniqueCounts(*unique(x, False, False, True, equal_nan=False, size=size, fill_value=fill_value))


def unique_inverse(x: Any, *, size: int | None = None, fill_value: Any = None) -> UniqueInverse:
    return UniqueInverse(*unique(x, False, True, False, equal_nan=False, size=size, fill_value=fill_value))


def unique_values(x: Any, *, size: int | None = None, fill_value: Any = None) -> Any:
    return unique(x, equal_nan=False, size=size, fill_value=fill_value)


# ------------------------------------------------------------------------------------------------ two sets


class Merged(NamedTuple):
    """Two arrays sorted as one: their elements, places, the number of the run of equal ones that each is in, where runs start."""

    values: Node
    order: Node
    rank: Node
    starts: Node
    first: int  # elements of the first array


def merged(ar1: Any, ar2: Any, equal_nan: bool) -> Merged:
    a, b = operand(ar1), operand(ar2)
    common = promote(a, b)
    note_widening(common, (a, b))
    parts = [flat(a, common), flat(b, common)]
    both = ops.concatenate(*parts, axis=0)
    n = both.type.size
    order = order_along(both, 0)
    values = ops.gather(both, order, axes=(0,), mode="clip") if n else both
    starts = run_starts(values, equal_nan)
    if not equal_nan and n and common.is_inexact:  # NaN are one element of each array
        source = ops.lt(order, ops.like(order, parts[0].type.size))
        (here, before), (mine, other) = neighbours(values), neighbours(source)
        one = ops.bit_and(ops.bit_and(ops.isnan(here), ops.isnan(before)), ops.eq(mine, other))
        fresh = ops.concatenate(ops.full(TensorType(bool_, (1,)), True), ops.bit_not(one), axis=0)
        starts = ops.bit_and(starts, fresh)
    return Merged(values, order, ranks(starts), starts, parts[0].type.size)


def flat(x: Any, element: DType) -> Node:
    node = to_node(x, element)
    return ops.reshape_to(node, (node.type.size,))


def first_places(both: Merged) -> tuple[Node, Node]:
    """For each run of equal elements, where it first is in the first array and in the second; n where it is not there."""
    n = both.order.type.size
    nowhere = ops.full(TensorType(i64, (n,)), n)
    mine = ops.lt(both.order, ops.like(both.order, both.first))
    found = []
    for held in (mine, ops.bit_not(mine)):
        places = ops.select(held, both.order, nowhere)
        found.append(ops.scatter(nowhere, places, both.rank, axes=(0,), mode="clip", combine="min"))
    return found[0], found[1]


def combined(
    name: str, ar1: Any, ar2: Any, keep: Callable[[Node, Node], Node], size: Any, fill: Any, equal_nan: bool = False
) -> tuple[Node, Node, Node, Merged]:
    """The elements whose being in the first and in the second array ``keep`` wants, with where they are in both."""
    count = room(name, size)
    both = merged(ar1, ar2, equal_nan)
    n = both.order.type.size
    if n == 0:
        empty = ops.broadcast_numpy(to_node(0 if fill is None else fill, both.values.type.dtype), (count,))
        nothing = ops.zeros(TensorType(i64, (count,)))
        return empty, nothing, nothing, both
    places = [ops.gather(p, both.rank, axes=(0,), mode="clip") for p in first_places(both)]
    wanted = keep(*[ops.lt(p, ops.like(p, n)) for p in places])
    kept = ops.bit_and(both.starts, wanted)
    if fill is None:
        smallest = ops.argmax(kept, axis=0)  # the first that is kept, or the smallest of all
        fill = wrap(ops.gather(both.values, smallest, axes=(0,), mode="clip"))
    values = compacted(both.values, kept, count, fill)
    second = ops.sub(places[1], ops.like(places[1], both.first))
    return values, compacted(places[0], kept, count, 0), compacted(second, kept, count, 0), both


def union1d(ar1: Any, ar2: Any, *, size: int | None = None, fill_value: Any = None) -> Any:
    """``np.union1d`` in room for ``size``; ``fill_value`` is the smallest element by default."""
    if not traced_among(ar1, ar2):
        return pad_set(np.union1d(ar1, ar2), size, fill_value)
    return located(lambda: wrap(combined("union1d", ar1, ar2, ops.bit_or, size, fill_value, True)[0]))


def intersect1d(
    ar1: Any, ar2: Any, assume_unique: bool = False, return_indices: bool = False, *,
    size: int | None = None, fill_value: Any = None,
) -> Any:  # fmt: skip
    """``np.intersect1d`` in room for ``size``. ``fill_value`` is the smallest common element by default; free indices are 0."""
    if not traced_among(ar1, ar2):
        values, *indices = np.intersect1d(ar1, ar2, return_indices=True)
        results: tuple[Any, ...] = (
            pad_set(values, size, fill_value, ar1, ar2),
            *[padded(i, size, 0) for i in indices],
        )
    else:
        found = located(combined, "intersect1d", ar1, ar2, ops.bit_and, size, fill_value)
        results = tuple([wrap(r) for r in found[:3]])
    return results if return_indices else results[0]


def setdiff1d(
    ar1: Any, ar2: Any, assume_unique: bool = False, *, size: int | None = None, fill_value: Any = None
) -> Any:
    """``np.setdiff1d`` in room for ``size``; with ``assume_unique`` in the order of ``ar1``."""
    if not traced_among(ar1, ar2):
        first = np.ravel(ar1)[:1]
        return pad_set(
            np.setdiff1d(ar1, ar2, assume_unique), size, fill_value, *((first,) if assume_unique else (ar1, ar2))
        )
    if not assume_unique:
        only_first = lambda a, b: ops.bit_and(a, ops.bit_not(b))  # noqa: E731
        return located(lambda: wrap(combined("setdiff1d", ar1, ar2, only_first, size, fill_value)[0]))

    def run() -> Tracer:
        count = room("setdiff1d", size)
        line = ravel(strong(ar1))
        kept = to_node(isin(line, ar2, invert=True))
        fill = fill_value
        if fill is None:
            place = ops.argmax(kept, axis=0) if line.size else None
            fill = 0 if place is None else wrap(ops.gather(to_node(line), place, axes=(0,), mode="clip"))
        return wrap(compacted(to_node(line), kept, count, fill))

    return located(run)


def setxor1d(
    ar1: Any, ar2: Any, assume_unique: bool = False, *, size: int | None = None, fill_value: Any = None
) -> Any:
    """``np.setxor1d`` in room for ``size``."""
    if not traced_among(ar1, ar2):
        return pad_set(np.setxor1d(ar1, ar2), size, fill_value, ar1, ar2)
    return located(lambda: wrap(combined("setxor1d", ar1, ar2, ops.bit_xor, size, fill_value)[0]))


def pad_set(values: np.ndarray, size: int | None, fill: Any, *sources: Any) -> np.ndarray:
    """A plain set in room for ``size``: its smallest element fills it, or where it has none that of all sources."""
    if size is None:
        return values
    if fill is None:
        every = np.concatenate([np.ravel(s) for s in sources]) if sources else values
        fill = values[0] if len(values) else np.sort(every)[0] if every.size else 0
    return padded(values, size, fill)


# ------------------------------------------------------------------------------------------------ NumPy's own

_SHAPE = "a length that depends on data"


def _remedy(name: str) -> str:
    return f"write graphc.numpy.{name}(..., size=n) with room for n elements"


LEFT_OUT.update(
    {
        getattr(np, name): f"the result has {_SHAPE}; {_remedy(name)}"
        for name in (
            "nonzero", "flatnonzero", "argwhere", "unique", "unique_all", "unique_counts", "unique_inverse", "unique_values",
            "union1d", "intersect1d", "setdiff1d", "setxor1d",
        )
    }
)  # fmt: skip
LEFT_OUT[np.trim_zeros] = f"the result has {_SHAPE}; slice between numbers that you know, or mask with np.where"


def _nonzero_method(x: Tracer) -> None:
    raise UnsupportedError(f"the result of x.nonzero() has {_SHAPE}; {_remedy('nonzero')}")


METHODS["nonzero"] = _nonzero_method

__all__ = [
    "argwhere", "flatnonzero", "intersect1d", "isin", "nonzero", "setdiff1d", "setxor1d", "union1d", "unique",
    "unique_all", "unique_counts", "unique_inverse", "unique_values",
]  # fmt: skip
