"""Medians and quantiles, statistics that ignore NaN, and covariance of traced arrays.

What NumPy checks by looking at numbers (quantiles between 0 and 1, weights that are not negative, edges in order) is
checked for plain arrays; of traced ones it is taken for granted. NumPy's RuntimeWarnings (``Mean of empty slice``) are not
given: the values are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc import ops
from graphc.numpy.elementwise import where
from graphc.numpy.reductions import (
    argmax,
    argmin,
    average_weights,
    max_,
    mean,
    min_,
    prod,
    quotient,
    root,
    squared_size,
    sum_,
    var,
)  # fmt: skip
from graphc.numpy.shapes import broadcast_to, concatenate, reshape, squeeze, transpose
from graphc.numpy.sorting import argsort, sort
from graphc.numpy.tables import NO_VALUE, axes_of, element_of, given, operand, stored, strong, traces
from graphc.tracing import (
    Tracer,
    apply_ufunc,
    element_type,
    is_tracer,
    is_weak_scalar,
    note_widening,
    promote,
    to_node,
    to_tracer,
    wrap,
)  # fmt: skip
from graphc.types import DType, f64, i64

# ------------------------------------------------------------------------------------------------ lanes


def lanes(x: Tracer, axes: Sequence[int]) -> Tracer:
    """``x`` with ``axes`` moved to the end and merged into one."""
    kept = [k for k in range(x.ndim) if k not in axes]
    node = ops.transpose_to(to_node(x), [*kept, *axes])
    return wrap(ops.reshape_to(node, [*[x.shape[k] for k in kept], math.prod(x.shape[k] for k in axes)]))


def with_ones(result: Tracer, shape: Sequence[int], axes: Sequence[int], keepdims: Any, lead: int = 0) -> Tracer:
    """``result`` (``lead`` axes, then those kept) with axes of length 1 for the reduced ones where keepdims asks for them."""
    if not keepdims or keepdims is NO_VALUE:
        return result
    ones = [1 if k in axes else n for k, n in enumerate(shape)]
    return reshape(result, (*result.shape[:lead], *ones))


def nan_of(x: Tracer) -> Tracer | None:
    """Where ``x`` is NaN; None where its type has none."""
    return apply_ufunc(np.isnan, x) if x._node.type.dtype.is_inexact else None


def real_only(name: str, a: Any) -> Tracer:
    x = strong(a)
    if x._node.type.dtype.kind == "c":
        raise TypeError("a must be an array of real numbers")
    return x


# ------------------------------------------------------------------------------------------------ median


@traces(np.median)
def median(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False) -> Tracer:
    """The middle of the sorted elements. Its derivative goes to the element (two: half to each) that is there in stable order."""
    x = strong(a)
    axes = axes_of(axis, x.ndim)
    lane = lanes(x, axes)
    n = lane.shape[-1]
    if n == 0:
        return stored(mean(x, axes, keepdims=keepdims), out)
    ordered = sort(lane)
    middle = mean(ordered[..., (n - 1) // 2 : n // 2 + 1], axis=-1)
    middle = or_nan(middle, ordered[..., -1])
    return stored(with_ones(middle, x.shape, axes, keepdims), out)


@traces(np.nanmedian)
def nanmedian(
    a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = NO_VALUE
) -> Tracer:
    x = strong(a)
    if not x._node.type.dtype.is_inexact:
        return median(x, axis, out, overwrite_input, keepdims)
    if x.size == 0:
        return nanmean(x, axis, None, out, keepdims)
    axes = axes_of(axis, x.ndim)
    ordered = sort(lanes(x, axes))
    count = valid_count(ordered)
    middle = [at_places(ordered, place) for place in ((count - 1) // 2, count // 2)]
    both = concatenate([reshape(m, (*m.shape, 1)) for m in middle], axis=-1)
    result = where(count % 2 == 0, mean(both, axis=-1), middle[0])
    return stored(with_ones(or_nan(result, ordered[..., 0]), x.shape, axes, keepdims), out)


def or_nan(result: Tracer, witness: Tracer) -> Tracer:
    """NaN, which has no derivative, for the lanes whose ``witness`` is NaN: the last in order where one NaN is enough, the
    first where it takes all.
    """
    nan = nan_of(witness)
    return result if nan is None else where(nan, np.asarray(np.nan, result.dtype), result)


def valid_count(lane: Tracer) -> Tracer:
    """How many elements along the last axis are no NaN."""
    nan = nan_of(lane)
    assert nan is not None
    return sum_(~nan, -1)


def at_places(ordered: Tracer, places: Tracer) -> Tracer:
    """The element of every lane (last axis) at that lane's place, which is clipped into range."""
    index = ops.reshape_to(to_node(places), (*places.shape, 1))
    found = ops.take_along_axis(to_node(ordered), index, ordered.ndim - 1, mode="clip")
    return wrap(ops.reshape_to(found, places.shape))


# ------------------------------------------------------------------------------------------------ quantiles

# Formulas of NumPy's methods for n elements and quantiles q, both plain or traced: a place among the sorted elements, not
# a whole number in general (Hyndman and Fan, Sample quantiles in statistical packages, 1996).


def by_plotting(alpha: float, beta: float) -> Callable[[Any, Any], Any]:
    return lambda n, q: n * q + (alpha + q * (1 - alpha - beta)) - 1


PLACES: dict[str, Callable[[Any, Any], Any]] = {
    "averaged_inverted_cdf": lambda n, q: n * q - 1,
    "interpolated_inverted_cdf": by_plotting(0, 1),
    "hazen": by_plotting(0.5, 0.5),
    "weibull": by_plotting(0, 0),
    "linear": lambda n, q: (n - 1) * q,
    "median_unbiased": by_plotting(1 / 3.0, 1 / 3.0),
    "normal_unbiased": by_plotting(3 / 8.0, 3 / 8.0),
    "midpoint": lambda n, q: 0.5 * (np.floor((n - 1) * q) + np.ceil((n - 1) * q)),
}


def step_place(place: Any, stays: Callable[[Any, Any], Any]) -> Any:
    """The whole place at ``place`` where ``stays`` says so, else the one after it; at least 0."""
    below = np.floor(place)
    return np.maximum(np.where(stays(place - below, place), below, below + 1), 0)


#: Methods that take one element and interpolate nothing.
WHOLE_PLACES: dict[str, Callable[[Any, Any], Any]] = {
    "inverted_cdf": lambda n, q: step_place(n * q - 1, lambda gamma, place: gamma == 0),
    "closest_observation": lambda n, q: step_place(
        n * q - 1 - 0.5, lambda gamma, place: (gamma == 0) & (np.floor(place) % 2 == 1)
    ),
    "lower": lambda n, q: np.floor((n - 1) * q),
    "higher": lambda n, q: np.ceil((n - 1) * q),
    "nearest": lambda n, q: np.around((n - 1) * q),
}


def fraction(method: str, place: Any, below: Any) -> Any:
    """How far between the elements around ``place`` the quantile lies."""
    gamma = place - below
    if method == "averaged_inverted_cdf":
        return np.where(gamma == 0, 0.5, 1.0).astype(place.dtype)
    if method == "midpoint":
        return np.where(place % 1 == 0, 0.0, 0.5).astype(place.dtype)
    return gamma


def listed(q: Any) -> Any:
    """A list with traced numbers in it as one traced array."""
    return operand(q) if isinstance(q, (list, tuple)) else q


def check_quantiles(q: Any, what: str) -> None:
    if not is_tracer(q) and np.size(q) and not (np.min(q) >= 0 and np.max(q) <= 1):
        raise ValueError(what)
    if np.ndim(q) > 2:
        raise ValueError("q must be a scalar or 1d")


def quantile_weights(weights: Any, x: Tracer, axis: Any, method: str) -> Tracer | None:
    """``weights`` in the shape of ``x``."""
    if weights is None:
        return None
    if method != "inverted_cdf":
        raise ValueError(f"Only method 'inverted_cdf' supports weights. Got: {method}.")
    w = operand(weights)
    if not is_tracer(w) and np.any(w < 0):
        raise ValueError("Weights must be non-negative.")
    return average_weights(w, x, axis)


@traces(np.quantile)
def quantile(
    a: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, method: str = "linear",
    keepdims: Any = False, *, weights: Any = None,
) -> Tracer:  # fmt: skip
    """All of NumPy's methods; ``q`` may be traced, it is differentiated by as well."""
    q = listed(q)
    check_quantiles(q, "Quantiles must be in the range [0, 1]")
    return stored(quantiles(a, q, axis, method, keepdims, weights, False), out)


@traces(np.percentile)
def percentile(
    a: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, method: str = "linear",
    keepdims: Any = False, *, weights: Any = None,
) -> Tracer:  # fmt: skip
    return stored(quantiles(a, hundredth(q), axis, method, keepdims, weights, False), out)


@traces(np.nanquantile)
def nanquantile(
    a: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, method: str = "linear",
    keepdims: Any = NO_VALUE, *, weights: Any = None,
) -> Tracer:  # fmt: skip
    q = listed(q)
    check_quantiles(q, "Quantiles must be in the range [0, 1]")
    return stored(quantiles(a, q, axis, method, keepdims, weights, True), out)


@traces(np.nanpercentile)
def nanpercentile(
    a: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, method: str = "linear",
    keepdims: Any = NO_VALUE, *, weights: Any = None,
) -> Tracer:  # fmt: skip
    return stored(quantiles(a, hundredth(q), axis, method, keepdims, weights, True), out)


def hundredth(q: Any) -> Any:
    """``q`` percent; a Python number stays one."""
    q = listed(q)
    if is_tracer(q):
        return q / 100
    found = q / 100 if is_weak_scalar(q) else np.true_divide(q, 100)
    check_quantiles(found, "Percentiles must be in the range [0, 100]")
    return found


def quantiles(a: Any, q: Any, axis: Any, method: str, keepdims: Any, weights: Any, ignore_nan: bool) -> Tracer:
    x = real_only("quantile", a)
    if method not in PLACES and method not in WHOLE_PLACES:
        raise ValueError(f"{method!r} is not a valid method. Use one of: {', '.join((*PLACES, *WHOLE_PLACES))}")
    w = quantile_weights(weights, x, axis, method)
    axes = axes_of(axis, x.ndim)
    ignore_nan = ignore_nan and x._node.type.dtype.is_inexact
    if ignore_nan and x.size == 0:
        return nanmean(x, axis, keepdims=keepdims)
    lane = lanes(x, axes)
    if lane.shape[-1] == 0:
        raise IndexError("index -1 is out of bounds for axis 0 with size 0")
    if w is None:
        ordered = sort(lane)
        found = interpolated(ordered, q, method, valid_count(ordered) if ignore_nan else None)
    else:
        ordered, found = weighted(lane, lanes(w, axes), q, ignore_nan)
    found = or_nan(found, ordered[..., 0 if ignore_nan else -1])
    return with_ones(found, x.shape, axes, keepdims, np.ndim(q))


def interpolated(ordered: Tracer, q: Any, method: str, count: Tracer | None) -> Tracer:
    """Quantiles of sorted lanes, of which the first ``count`` elements are taken, or all. Shape: q's, then the lanes'."""
    weak = is_weak_scalar(q) or is_tracer(q) and q._weak
    n: Any = ordered.shape[-1] if count is None else count
    places = strong(q) if is_tracer(q) else np.asarray(q)
    if count is not None:  # lanes have their own n: q's axes first, then the lanes'
        places = to_tracer(places)
        places = reshape(places, (*places.shape, *(1,) * count.ndim))
        n = count.astype(places.dtype) if element_type(places).is_float else count
    whole = WHOLE_PLACES.get(method)
    if whole is not None or method == "linear" and element_type(places).is_integer:
        return elements_at(ordered, (whole or PLACES[method])(n, places), n, count is not None)
    place = PLACES[method](n, places)
    place = place if is_tracer(place) else np.asarray(place)
    below = np.floor(place)
    inside = (place >= 0) & (place < n - 1)
    low = np.where(inside, below, np.where(place < 0, 0, n - 1)).astype(place.dtype)
    high = np.where(inside, below + 1, low)
    gamma = fraction(method, place, low)
    first = elements_at(ordered, low, n, count is not None)
    second = elements_at(ordered, high, n, count is not None)
    gamma = to_tracer(gamma)
    if weak:
        gamma = gamma.astype(ordered.dtype if element_type(ordered).is_float else np.float64)
    if count is None:
        gamma = reshape(gamma, (*gamma.shape, *(1,) * (ordered.ndim - 1)))
    return between(first, second, gamma)


def between(a: Tracer, b: Tracer, t: Tracer) -> Tracer:
    """a + (b - a)·t, from the nearer end, as NumPy does it: between infinite ends it is NaN."""
    span = apply_ufunc(np.subtract, b, a)
    return where(t >= 0.5, b - span * (1 - t), a + span * t)


def elements_at(ordered: Tracer, places: Any, n: Any, by_lane: bool) -> Tracer:
    """Elements of the lanes at whole ``places`` (integers in any type), counted from the end where negative."""
    if not is_tracer(places):
        index = np.asarray(places).astype(np.int64)
        if index.ndim == 0:
            return ordered[..., int(index)]
        order = [*range(ordered.ndim - 1, ordered.ndim - 1 + index.ndim), *range(ordered.ndim - 1)]
        return transpose(ordered[..., index], order)
    node = to_node(places, i64)
    if not by_lane:
        return wrap(ops.gather(to_node(ordered), node, axes=(ordered.ndim - 1,), mode="clip"))
    shape = node.type.shape
    lead = len(shape) - (ordered.ndim - 1)
    order = [*range(lead, len(shape)), *range(lead)]
    lanes_first = ops.transpose_to(node, order)
    merged = ops.reshape_to(lanes_first, (*shape[lead:], math.prod(shape[:lead])))
    found = ops.take_along_axis(to_node(ordered), merged, ordered.ndim - 1, mode="clip")
    back = [order.index(k) for k in range(len(shape))]
    return wrap(ops.transpose_to(ops.reshape_to(found, lanes_first.type.shape), back))


def weighted(lane: Tracer, weights: Tracer, q: Any, ignore_nan: bool) -> tuple[Tracer, Tracer]:
    """The sorted lanes, and the first element of each whose cumulative share of the weights reaches q.

    Lanes whose weights are all zero, which NumPy refuses, give their first element.
    """
    order = to_node(argsort(lane))
    last = lane.ndim - 1
    ordered = wrap(ops.take_along_axis(to_node(lane), order, last, mode="clip"))
    share = wrap(ops.take_along_axis(to_node(weights, f64), order, last, mode="clip"))
    nan = nan_of(ordered)
    if ignore_nan and nan is not None:
        share = where(nan, 0.0, share)
    cdf = wrap(ops.cumsum(to_node(share), axis=last, reverse=False))
    cdf = cdf / cdf[..., -1:]
    wanted = strong(q)
    if wanted._node.type.dtype.is_float:
        cdf = cdf.astype(wanted.dtype)
    cdf = where(cdf == 0, np.asarray(-1, cdf.dtype), cdf)
    n, lead = lane.shape[-1], wanted.ndim
    every = reshape(wanted, (*wanted.shape, *(1,) * lane.ndim))
    place = np.minimum(sum_(cdf < every, -1), n - 1)
    return ordered, elements_at(ordered, broadcast_to(place, (*wanted.shape, *lane.shape[:-1])), n, lead >= 0)


# ------------------------------------------------------------------------------------------------ ignoring NaN


def without_nan(a: Any, value: Any) -> tuple[Tracer, Tracer | None]:
    """``a`` with ``value`` for NaN, and where those were."""
    x = strong(a)
    nan = nan_of(x)
    return (x, None) if nan is None else (where(nan, np.asarray(value, x.dtype), x), nan)


@traces(np.nansum)
def nansum(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = NO_VALUE, initial: Any = NO_VALUE,
    where: Any = NO_VALUE,
) -> Tracer:  # fmt: skip
    return sum_(without_nan(a, 0)[0], axis, dtype, out, keepdims, initial, where)


@traces(np.nanprod)
def nanprod(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = NO_VALUE, initial: Any = NO_VALUE,
    where: Any = NO_VALUE,
) -> Tracer:  # fmt: skip
    return prod(without_nan(a, 1)[0], axis, dtype, out, keepdims, initial, where)


def nan_extreme(
    reduce: Callable[..., Tracer], worst: float, a: Any, axis: Any, out: Any, keepdims: Any, initial: Any, mask: Any
) -> Tracer:
    x, nan = without_nan(a, worst)
    if nan is None:
        return reduce(x, axis, out, keepdims, initial, mask)
    if x.size == 0 and not given(initial):
        axes = axes_of(axis, x.ndim)
        if any(x.shape[k] == 0 for k in axes):
            name = "fmax" if worst < 0 else "fmin"
            raise ValueError(f"zero-size array to reduction operation {name} which has no identity")
    found = reduce(x, axis, None, keepdims, initial, mask)
    if not given(initial):
        empty = wrap(ops.reduce_and(to_node(nan), axes=axes_of(axis, x.ndim)))
        found = where(reshape(empty, found.shape), np.asarray(np.nan, x.dtype), found)
    return stored(found, out)


@traces(np.nanmax)
def nanmax(
    a: Any, axis: Any = None, out: Any = None, keepdims: Any = NO_VALUE, initial: Any = NO_VALUE, where: Any = NO_VALUE
) -> Tracer:
    return nan_extreme(max_, -np.inf, a, axis, out, keepdims, initial, where)


@traces(np.nanmin)
def nanmin(
    a: Any, axis: Any = None, out: Any = None, keepdims: Any = NO_VALUE, initial: Any = NO_VALUE, where: Any = NO_VALUE
) -> Tracer:
    return nan_extreme(min_, np.inf, a, axis, out, keepdims, initial, where)


def nan_arg_extreme(reduce: Callable[..., Tracer], worst: float, a: Any, axis: Any, out: Any, keepdims: Any) -> Tracer:
    """Of a slice with nothing but NaN, where NumPy raises ValueError, the index is n, and reading place n raises IndexError."""
    x, nan = without_nan(a, worst)
    found = reduce(x, axis, keepdims=keepdims)
    if nan is not None:
        axes = axes_of(axis, x.ndim)
        n = math.prod(x.shape[k] for k in axes)
        empty = ops.reshape_to(ops.reduce_and(to_node(nan), axes=axes), found.shape)
        node = to_node(found)
        index = ops.select(empty, ops.like(node, n), node)
        found = wrap(ops.gather(ops.iota(shape=(n,), axis=0, to=i64), index, axes=(0,), mode="raise"))
    return stored(found, out)


@traces(np.nanargmax)
def nanargmax(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = NO_VALUE) -> Tracer:
    """A slice with nothing but NaN raises IndexError when the program runs (NumPy: ValueError)."""
    return nan_arg_extreme(argmax, -np.inf, a, axis, out, keepdims)


@traces(np.nanargmin)
def nanargmin(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = NO_VALUE) -> Tracer:
    """A slice with nothing but NaN raises IndexError when the program runs (NumPy: ValueError)."""
    return nan_arg_extreme(argmin, np.inf, a, axis, out, keepdims)


def check_inexact(dtype: Any) -> None:
    if given(dtype) and not element_of(dtype).is_inexact:
        raise TypeError("If a is inexact, then dtype must be inexact")


@traces(np.nanmean)
def nanmean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = NO_VALUE, *, where: Any = NO_VALUE
) -> Tracer:
    x, nan = without_nan(a, 0)
    if nan is None:
        return mean(x, axis, dtype, out, keepdims, where=where)
    check_inexact(dtype)
    total = sum_(x, axis, dtype, None, keepdims, where=where)
    return stored(quotient(total, sum_(~nan, axis, keepdims=keepdims, where=where)), out)


def real_of(dtype: Any) -> Any:
    """The type of the real parts of a complex one."""
    return {np.dtype("F"): np.float32, np.dtype("D"): np.float64}.get(np.dtype(dtype), dtype) if given(dtype) else dtype


@traces(np.nanvar)
def nanvar(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = NO_VALUE, *,
    where: Any = NO_VALUE, mean: Any = NO_VALUE, correction: Any = NO_VALUE,
) -> Tracer:  # fmt: skip
    x, nan = without_nan(a, 0)
    if nan is None:
        return var(x, axis, dtype, out, ddof, keepdims, where=where, mean=mean, correction=correction)
    check_inexact(dtype)
    if given(correction):
        if ddof != 0:
            raise ValueError("ddof and correction can't be provided simultaneously.")
        ddof = correction
    centre = mean if given(mean) else nanmean(a, axis, dtype, None, True, where=where)
    centred = wrap(ops.select(to_node(nan), ops.zeros(to_node(x).type), to_node((x - centre).astype(x.dtype))))
    total = sum_(squared_size(centred), axis, real_of(dtype), None, keepdims, where=where)
    freedom = sum_(~nan, axis, keepdims=keepdims, where=where) - ddof
    spread = quotient(total, freedom)
    return stored(chosen(freedom <= 0, np.asarray(np.nan, spread.dtype), spread), out)


chosen = where  # NumPy's name for it is an argument of the functions above


@traces(np.nanstd)
def nanstd(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = NO_VALUE, *,
    where: Any = NO_VALUE, mean: Any = NO_VALUE, correction: Any = NO_VALUE,
) -> Tracer:  # fmt: skip
    x = strong(a)
    function = nanvar if x._node.type.dtype.is_inexact else var
    spread = function(x, axis, dtype, None, ddof, keepdims, where=where, mean=mean, correction=correction)
    return stored(root(spread), out)


# ------------------------------------------------------------------------------------------------ covariance


def observations(m: Any, element: DType, rowvar: Any) -> Tracer:
    """``m`` as a matrix with one variable a row."""
    x = strong(m).astype(element.numpy)
    if x.ndim > 2:
        raise ValueError("m has more than 2 dimensions")
    if x.ndim < 2:
        return reshape(x, (1, -1))
    return x if rowvar else transpose(x)


def frequency(name: str, weights: Any, count: int, whole: bool) -> Tracer | None:
    if weights is None:
        return None
    given_weights = operand(weights)
    if not is_tracer(given_weights):
        values = np.asarray(given_weights, float)
        if whole and not np.all(values == np.around(values)):
            raise TypeError("fweights must be integer")
        if np.any(values < 0):
            raise ValueError(f"{name} cannot be negative")
    w = strong(given_weights).astype(np.float64)
    if w.ndim > 1:
        raise RuntimeError(f"cannot handle multidimensional {name}")
    if w.shape != (count,):
        raise RuntimeError(f"incompatible numbers of samples and {name}")
    return w


@traces(np.cov)
def cov(
    m: Any, y: Any = None, rowvar: Any = True, bias: Any = False, ddof: Any = None, fweights: Any = None,
    aweights: Any = None, *, dtype: Any = None,
) -> Tracer:  # fmt: skip
    """Computed in float64 unless ``dtype`` says otherwise, as in NumPy: write ``dtype=x.dtype`` for a program in float32."""
    if ddof is not None and ddof != int(ddof):
        raise ValueError("ddof must be integer")
    parts = [operand(p) for p in (m, y) if p is not None]
    element = element_of(dtype) if given(dtype) else promote(*parts, np.float64(0))
    if not given(dtype):
        note_widening(element, parts)
    rows = [observations(parts[0], element, rowvar)]
    if rows[0].shape[0] == 0:
        return to_tracer(np.zeros((0, 0)))
    if y is not None:
        other = observations(parts[1], element, True)
        rows.append(other if rowvar or other.shape[0] == 1 else transpose(other))
    x = concatenate(rows, axis=0) if len(rows) > 1 else rows[0]
    f = frequency("fweights", fweights, x.shape[1], True)
    a = frequency("aweights", aweights, x.shape[1], False)
    freedom = (0 if bias else 1) if ddof is None else ddof
    if f is None and a is None:
        centred = x - mean(x, 1, keepdims=True)
        factor: Any = max(x.shape[1] - freedom, 0)
        right = centred
    else:
        w = f * a if f is not None and a is not None else f if a is None else a
        total = sum_(w)
        centred = x - reshape(sum_(x * w, 1) / total, (-1, 1))
        lost = freedom if a is None or freedom == 0 else freedom * sum_(w * a) / total
        factor = np.maximum(total - lost, 0.0)
        right = centred * w
    product = np.dot(centred, transpose(np.conjugate(right)))
    with np.errstate(all="ignore"):
        scale = np.true_divide(1, factor)
    result = product * (scale if is_tracer(scale) else float(scale))
    return squeeze(result.astype(product.dtype))


@traces(np.corrcoef)
def corrcoef(x: Any, y: Any = None, rowvar: Any = True, *, dtype: Any = None) -> Tracer:
    c = cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    places = np.arange(c.shape[0])
    deviation = apply_ufunc(np.sqrt, np.real(c[places, places]))
    c = c / reshape(deviation, (-1, 1)) / reshape(deviation, (1, -1))
    if c._node.type.dtype.kind != "c":
        return np.clip(c, -1, 1)
    return wrap(ops.complex_(*[to_node(np.clip(part, -1, 1)) for part in (c.real, c.imag)]))
