"""Counts and histograms of traced arrays.

What NumPy checks by looking at numbers (edges in order, a range that is finite) is checked for plain arrays; of traced ones
it is taken for granted.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import Node
from graphc.leaks import UnsupportedError
from graphc.numpy.elementwise import where
from graphc.numpy.reductions import (
    max_,
    min_,
    sum_,
)  # fmt: skip
from graphc.numpy.shapes import concatenate, ravel, reshape
from graphc.numpy.sorting import check_line, comes_before, searchsorted
from graphc.numpy.tables import operand, strong, traces
from graphc.tracing import (
    Tracer,
    apply_ufunc,
    broadcast_together,
    element_type,
    is_tracer,
    note_widening,
    promote,
    to_node,
    to_tracer,
    wrap,
)  # fmt: skip
from graphc.types import DType, TensorType, bf16, bool_, f16, f64, i64

# ------------------------------------------------------------------------------------------------ counting


@traces(np.bincount)
def bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Tracer:
    """The result of a traced ``x`` has exactly ``minlength`` elements, which must be given: NumPy's length is the largest number
    plus 1, but at least ``minlength``. Negative numbers, and those of ``minlength`` and above, raise IndexError when the
    program runs.
    """
    line = operand(x)
    check_line(line.shape)
    if element_type(line).numpy != np.uint64 and not np.can_cast(element_type(line).numpy, np.int64, "safe"):
        raise TypeError(
            f"Cannot cast array data from {np.dtype(element_type(line).numpy)!r} to dtype('int64') according to the rule 'safe'"
        )
    length = operator.index(minlength)
    if length < 0:
        raise ValueError("'minlength' must not be negative")
    if not is_tracer(line):
        if line.size and line.min() < 0:
            raise ValueError("'list' argument must have no negative elements")
        length = max(length, int(line.max(initial=-1)) + 1)
    elif length == 0 and line.size:
        raise UnsupportedError(
            "np.bincount of traced numbers has a length that depends on data; give minlength=, one more than the largest"
        )
    amounts = None if weights is None else strong(weights)
    if amounts is not None and amounts.shape != line.shape:
        raise ValueError("The weights and list don't have the same length.")
    if amounts is not None:
        if amounts._node.type.dtype.kind == "c":
            raise TypeError(
                f"Cannot cast array data from {amounts.dtype!r} to dtype('float64') according to the rule 'safe'"
            )
        note_widening(f64, (amounts,))
        amounts = amounts.astype(np.float64)
    index = to_node(line, i64)
    index = ops.select(ops.lt(index, ops.zeros(index.type)), ops.like(index, length), index)  # -1 is no last place here
    return tally(index, amounts, length, "raise")


def tally(index: Node, amounts: Tracer | None, length: int, mode: str) -> Tracer:
    """How many of ``index`` (1-D) are 0, 1, …, or the sum of their ``amounts``."""
    element = i64 if amounts is None else amounts._node.type.dtype
    if amounts is not None and element in (f16, bf16):  # half floats are summed in float32
        return tally(index, amounts.astype(np.float32), length, mode).astype(element.numpy)
    each = ops.full(TensorType(i64, index.type.shape), 1) if amounts is None else to_node(amounts)
    target = ops.zeros(TensorType(element, (length,)))
    if element is bool_:
        return wrap(ops.scatter(target, each, index, axes=(0,), mode=mode, combine="max"))
    return wrap(ops.scatter(target, each, index, axes=(0,), mode=mode, combine="add"))


# ------------------------------------------------------------------------------------------------ histograms


def outer_edges(a: Tracer, range_: Any) -> tuple[Any, Any]:
    """The first and last edge: given ones, or the extremes of the data; an empty range is widened by a half to each side."""
    if range_ is not None:
        low, high = range_
        if not is_tracer(low) and not is_tracer(high):
            if low > high:
                raise ValueError("max must be larger than min in range parameter.")
            if not (np.isfinite(low) and np.isfinite(high)):
                raise ValueError(f"supplied range of [{low}, {high}] is not finite")
            return (low - 0.5, high + 0.5) if low == high else (low, high)
    elif a.size == 0:
        return 0, 1
    else:
        low, high = min_(a), max_(a)
    same = apply_ufunc(np.equal, low, high)
    return where(same, low - 0.5, low), where(same, high + 0.5, high)


def even_edges(low: Any, high: Any, bins: int, element: DType) -> Any:
    """``bins`` + 1 edges from low to high, both exactly: plain ones where both ends are."""
    if not is_tracer(low) and not is_tracer(high):
        edges = np.linspace(low, high, bins + 1, dtype=element.numpy)
        if np.any(edges[:-1] >= edges[1:]):
            raise ValueError(f"Too many bins for data range. Cannot create {bins} finite-sized bins.")
        return edges
    first, last = wrap(to_node(low, element)), wrap(to_node(high, element))
    steps = np.arange(bins).astype(element.numpy)
    # Products of numbers that are not negative. Through abs nothing joins product and sum into one rounding, which moves
    # edges away from the integers on which NumPy has them, and with them the counts of integers.
    apart = apply_ufunc(np.absolute, steps * ((last - first) / bins))
    return concatenate([first + apart, reshape(last, (1,))])


def rank(value: Any) -> int:
    """The number of axes of an array, or of a list that may hold traced values."""
    return len(operand(value).shape)


def bin_count(bins: Any, message: str) -> int:
    try:
        return operator.index(bins)
    except TypeError as error:
        if is_tracer(bins):
            raise
        raise TypeError(message) from error


def histogram_edges(a: Tracer, bins: Any, range_: Any) -> tuple[Any, bool]:
    """The edges, and whether they are evenly spaced."""
    if isinstance(bins, str):
        raise UnsupportedError(
            f"np.histogram(bins={bins!r}) of traced numbers has a length that depends on data; give a number of bins or edges"
        )
    if rank(bins) == 0:
        count = bin_count(bins, "`bins` must be an integer, a string, or an array")
        if count < 1:
            raise ValueError("`bins` must be positive, when an integer")
        low, high = outer_edges(a, range_)
        element = promote(low, high, a)
        return even_edges(low, high, count, element if element.is_inexact else f64), True
    edges = operand(bins)
    if len(edges.shape) != 1:
        raise ValueError("`bins` must be 1d, when an array")
    if not is_tracer(edges) and np.any(edges[:-1] > edges[1:]):
        raise ValueError("`bins` must increase monotonically, when an array")
    return edges, False


def bin_samples(a: Any) -> Tracer:
    x = ravel(strong(a))
    return x.astype(np.uint8) if x._node.type.dtype is bool_ else x


@traces(np.histogram_bin_edges)
def histogram_bin_edges(a: Any, bins: Any = 10, range: Any = None, weights: Any = None) -> Tracer:  # noqa: A002
    return to_tracer(histogram_edges(bin_samples(a), bins, range)[0])


@traces(np.histogram)
def histogram(
    a: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None  # noqa: A002
) -> tuple[Tracer, Tracer]:  # fmt: skip
    """A number of bins between the extremes of the data, or in ``range``, or between edges (which must not fall).

    Differentiable by the weights and, through the edges, by the data: counts are constant almost everywhere.
    """
    amounts = None if weights is None else strong(weights)
    if amounts is not None and amounts.shape != np.shape(a):
        raise ValueError("weights should have the same shape as a.")
    x = bin_samples(a)
    edges, even = histogram_edges(x, bins, range)
    bounds, count = to_tracer(edges), np.shape(edges)[0] - 1
    amounts = None if amounts is None else ravel(amounts)
    place = even_places(x, bounds, count) if even else sorted_places(x, edges, count)
    counts = tally(to_node(place), amounts, max(count, 0), "drop")
    if density:
        width = (bounds[1:] - bounds[:-1]).astype(np.float64)
        return counts / width / sum_(counts), bounds
    return counts, bounds


def even_places(x: Tracer, edges: Tracer, count: int) -> Tracer:
    """Bins by arithmetic, put right by one where rounding went over an edge; ``count`` outside all bins."""
    inside = (x >= edges[0]) & (x <= edges[-1])
    value = x.astype(edges.dtype)
    scaled = (value - edges[0]) / (edges[-1] - edges[0]) * count
    place = np.minimum(where(inside, scaled, np.zeros((), edges.dtype)).astype(np.int64), count - 1)

    def edge(index: Tracer) -> Tracer:
        return wrap(ops.gather(to_node(edges), to_node(index), axes=(0,), mode="clip"))

    place = place - (value < edge(place))
    place = place + ((value >= edge(place + 1)) & (place != count - 1))
    return where(inside, place, count)


def sorted_places(x: Tracer, edges: Any, count: int) -> Tracer:
    """Bins by search; the last one includes its right edge."""
    if count < 1:
        return wrap(ops.zeros(TensorType(i64, x.shape)))
    place = searchsorted(edges, x, "right") - 1
    element = promote(x, operand(edges))
    value, last = broadcast_together([to_node(x, element), to_node(edges[-1], element)])
    inside = wrap(comes_before(value, last, "right"))
    return where(inside & (place >= 0), np.minimum(place, count - 1), count)


@traces(np.histogramdd)
def histogramdd(
    sample: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None  # noqa: A002
) -> tuple[Tracer, list[Tracer]]:  # fmt: skip
    """Counts are float64, as NumPy's are."""
    columns = sample_columns(sample)
    dimensions, samples = len(columns), columns[0].shape[0] if columns else 0
    if not isinstance(bins, (list, tuple)) and np.ndim(bins) == 0:
        bins = [bins] * dimensions
    if len(bins) != dimensions:
        raise ValueError("The dimension of bins must be equal to the dimension of the sample x.")
    ranges = [None] * dimensions if range is None else list(range)
    if len(ranges) != dimensions:
        raise ValueError("range argument must have one entry per dimension")
    edges = [dimension_edges(k, *parts) for k, parts in enumerate(zip(columns, bins, ranges, strict=True))]
    shape = tuple(np.shape(e)[0] - 1 for e in edges)
    flat: Any = wrap(ops.zeros(TensorType(i64, (samples,))))
    inside: Any = wrap(ops.full(TensorType(bool_, (samples,)), True))
    for column, edge, count in zip(columns, edges, shape, strict=True):
        place = sorted_places(column, edge, count)
        inside = inside & (place < count)
        flat = flat * count + place
    total = math.prod(shape)
    amounts = to_tracer(np.ones(samples)) if weights is None else strong(weights)
    if amounts.shape != (samples,):
        raise ValueError("The weights and list don't have the same length.")
    note_widening(f64, (amounts,))
    counts = reshape(tally(to_node(where(inside, flat, total)), amounts.astype(np.float64), total, "drop"), shape)
    bounds = [to_tracer(e) for e in edges]
    if density:
        whole = sum_(counts)
        for k, edge in enumerate(bounds):
            counts = counts / reshape(edge[1:] - edge[:-1], [-1 if j == k else 1 for j, _ in enumerate(shape)])
        counts = counts / whole
    return counts, bounds


def sample_columns(sample: Any) -> list[Tracer]:
    """The coordinates, one array each: of a matrix of samples, or of a list of coordinates."""
    if not isinstance(sample, (list, tuple)) and rank(sample) == 2:
        x = strong(sample)
        return [x[:, k] for k in range(x.shape[1])]
    parts = list(sample) if isinstance(sample, (list, tuple)) else [sample]
    if parts and all(rank(p) == 0 for p in parts):  # one coordinate, as a list of numbers
        parts = [sample]
    element = promote(*[operand(p) for p in parts])
    return [wrap(to_node(strong(p), element)) for p in parts]


def dimension_edges(k: int, x: Tracer, bins: Any, range_: Any) -> Any:
    if rank(bins) == 0:
        count = bin_count(bins, f"`bins[{k}]` must be an integer, when a scalar")
        if count < 1:
            raise ValueError(f"`bins[{k}]` must be positive, when an integer")
        low, high = outer_edges(x, range_)
        traced_ends = [v for v in (low, high) if is_tracer(v)]
        element = promote(low, high) if traced_ends else f64
        return even_edges(low, high, count, element if element.is_inexact else f64)
    edges = operand(bins)
    if len(edges.shape) != 1:
        raise ValueError(f"`bins[{k}]` must be a scalar or 1d array")
    if not is_tracer(edges) and np.any(edges[:-1] > edges[1:]):
        raise ValueError(f"`bins[{k}]` must be monotonically increasing, when an array")
    return edges


@traces(np.histogram2d)
def histogram2d(
    x: Any, y: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None  # noqa: A002
) -> tuple[Tracer, Tracer, Tracer]:  # fmt: skip
    if len(x) != len(y):
        raise ValueError("x and y must have the same length.")
    if (isinstance(bins, (list, tuple)) or np.ndim(bins) != 0) and len(bins) not in (1, 2):
        bins = [operand(bins)] * 2
    counts, edges = histogramdd([x, y], bins, range, density, weights)
    return counts, edges[0], edges[1]
