"""Running sums and products, differences, gradients on grids, integrals, and linear interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc import ops
from graphc.numpy.elementwise import full_like, truth_of, where
from graphc.numpy.reductions import sum_, sum_type
from graphc.numpy.shapes import at_least, broadcast_to, concatenate, ravel, reshape
from graphc.numpy.sorting import argsort, searchsorted
from graphc.numpy.tables import NO_VALUE, one_axis, operand, stored, strong, traces
from graphc.promotion import same_kind
from graphc.tracing import Tracer, apply_ufunc, element_type, is_tracer, to_node, to_tracer, wrap
from graphc.types import bool_


def along(ndim: int, axis: int, part: Any) -> tuple[Any, ...]:
    """The index of ``part`` along one axis."""
    return tuple(part if k == axis else slice(None) for k in range(ndim))


# ------------------------------------------------------------------------------------------------ running


def running(op: Any, of_bools: Any, a: Any, axis: Any, dtype: Any) -> Tracer:
    x = strong(a)
    element = sum_type(x, dtype)
    if axis is None or x.ndim == 0 and axis in (0, -1):
        x, axis = ravel(x), 0
    node = to_node(truth_of(x) if element is bool_ else x, element)
    return wrap((of_bools if element is bool_ else op)(node, axis=one_axis(axis, x.ndim), reverse=False))


@traces(np.cumsum, method="cumsum")
def cumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Tracer:
    return stored(running(ops.cumsum, ops.cummax, a, axis, dtype), out)


@traces(np.cumprod, method="cumprod")
def cumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Tracer:
    return stored(running(ops.cumprod, ops.cummin, a, axis, dtype), out)


def cumulative(function: Any, first: int, x: Any, axis: Any, dtype: Any, include_initial: bool) -> Tracer:
    t = at_least(strong(x), 1)
    if axis is None:
        if t.ndim >= 2:
            raise ValueError("For arrays which have more than one dimension ``axis`` argument is required.")
        axis = 0
    found = function(t, axis, dtype)
    if not include_initial:
        return found
    k = one_axis(axis, t.ndim)
    start = full_like(found, first, shape=tuple(1 if j == k else n for j, n in enumerate(t.shape)))
    return concatenate([start, found], k)


@traces(np.cumulative_sum)
def cumulative_sum(x: Any, /, *, axis: Any = None, dtype: Any = None, include_initial: bool = False) -> Tracer:
    return cumulative(cumsum, 0, x, axis, dtype, include_initial)


@traces(np.cumulative_prod)
def cumulative_prod(x: Any, /, *, axis: Any = None, dtype: Any = None, include_initial: bool = False) -> Tracer:
    return cumulative(cumprod, 1, x, axis, dtype, include_initial)


def without_nan(a: Any, fill: float) -> Tracer:
    x = strong(a)
    return where(apply_ufunc(np.isnan, x), fill, x) if x._node.type.dtype.is_inexact else x


@traces(np.nancumsum)
def nancumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Tracer:
    return stored(cumsum(without_nan(a, 0), axis, dtype), out)


@traces(np.nancumprod)
def nancumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Tracer:
    return stored(cumprod(without_nan(a, 1), axis, dtype), out)


# ------------------------------------------------------------------------------------------------ differences


def subtracted(x: Tracer, axis: int) -> Tracer:
    """Neighbours along ``axis`` subtracted; of bools, whether they differ."""
    ufunc = np.not_equal if x._node.type.dtype is bool_ else np.subtract
    return apply_ufunc(ufunc, x[along(x.ndim, axis, slice(1, None))], x[along(x.ndim, axis, slice(None, -1))])


@traces(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = NO_VALUE, append: Any = NO_VALUE) -> Tracer:
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n!r}")
    x = strong(a)
    if n == 0:
        return x
    if x.ndim == 0:
        raise ValueError("diff requires input that is at least one dimensional")
    k = one_axis(axis, x.ndim)
    parts = [beside(p, x, k) if p is not x else x for p in (prepend, x, append) if p is not NO_VALUE]
    x = concatenate(parts, k) if len(parts) > 1 else x
    for _ in range(n):
        x = subtracted(x, k)
    return x


def beside(part: Any, x: Tracer, axis: int) -> Any:
    """What stands before or behind ``x`` along ``axis``; one number stands for a slice of length 1."""
    found = operand(part)
    if found.ndim:
        return found
    shape = tuple(1 if k == axis else n for k, n in enumerate(x.shape))
    return broadcast_to(found, shape) if is_tracer(found) else np.broadcast_to(found, shape)


@traces(np.ediff1d)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Tracer:
    x = ravel(strong(ary))
    parts: list[Any] = [apply_ufunc(np.subtract, x[1:], x[:-1])]
    for name, part in (("to_begin", to_begin), ("to_end", to_end)):
        if part is None:
            continue
        found = operand(part)
        if not same_kind(element_type(found), x._node.type.dtype):
            raise TypeError(f"dtype of `{name}` must be compatible with input `ary` under the `same_kind` rule.")
        parts.insert(0 if name == "to_begin" else len(parts), wrap(to_node(ravel(found), x._node.type.dtype)))
    return concatenate(parts) if len(parts) > 1 else parts[0]


# ------------------------------------------------------------------------------------------------ gradient


@traces(np.gradient)
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    x = strong(f)
    axes = range(x.ndim) if axis is None else [one_axis(k, x.ndim) for k in np.atleast_1d(axis)]
    steps = spacings(x, varargs, list(axes))
    if edge_order > 2:
        raise ValueError("'edge_order' greater than 2 not supported")
    result = x.dtype if x._node.type.dtype.is_inexact else np.dtype(np.float64)
    if x._node.type.dtype.is_integer:
        x = x.astype(np.float64)
    found = []
    for k, step in zip(axes, steps, strict=True):
        if x.shape[k] < edge_order + 1:
            raise ValueError(
                "Shape of array too small to calculate a numerical gradient, at least (edge_order + 1) elements are required."
            )
        parts = differences(x, k, step, edge_order)
        found.append(concatenate([part.astype(result) for part in parts], k))
    return found[0] if len(found) == 1 else tuple(found)


def spacings(x: Tracer, given: Sequence[Any], axes: Sequence[int]) -> list[Any]:
    """The distances along each axis: a number, or the steps between coordinates."""
    if not given:
        return [1.0] * len(axes)
    if len(given) == 1 and np.ndim(given[0]) == 0:
        return [given[0]] * len(axes)
    if len(given) != len(axes):
        raise TypeError("invalid number of arguments")
    return [spacing(at, x.shape[k]) for at, k in zip(given, axes, strict=True)]


def spacing(at: Any, extent: int) -> Any:
    if np.ndim(at) == 0:
        return at
    if np.ndim(at) != 1:
        raise ValueError("distances must be either scalars or 1d")
    at = operand(at)
    if at.shape[0] != extent:
        raise ValueError("when 1d, distances must match the length of the corresponding dimension")
    if element_type(at).is_integer:
        at = at.astype(np.float64)
    if is_tracer(at):
        return subtracted(at, 0)
    steps = np.diff(at)
    return steps[0] if steps.size and (steps == steps[0]).all() else steps


def differences(x: Tracer, axis: int, step: Any, edge_order: int) -> list[Any]:
    """First-order or second-order differences at the first place of an axis, central ones inside, and at the last."""

    def at(start: int | None, stop: int | None) -> Tracer:
        return x[along(x.ndim, axis, slice(start, stop))]

    def one(k: int) -> Tracer:
        return at(k, k + 1 or None)

    uniform = np.ndim(step) == 0
    first, last = (step, step) if uniform else (step[0], step[-1])
    if uniform:
        inside = (at(2, None) - at(None, -2)) / (2.0 * step)
    else:
        a, b, c = [spread(v, x.ndim, axis) for v in inner_weights(step[:-1], step[1:])]
        inside = a * at(None, -2) + b * at(1, -1) + c * at(2, None)
    if edge_order == 1:
        return [(one(1) - one(0)) / first, inside, (one(-1) - one(-2)) / last]
    if uniform:
        start: Any = (-1.5 / step, 2.0 / step, -0.5 / step)
        end: Any = (0.5 / step, -2.0 / step, 1.5 / step)
    else:
        start, end = edge_weights(step[0], step[1]), [-w for w in edge_weights(step[-1], step[-2])[::-1]]
    return [
        start[0] * one(0) + start[1] * one(1) + start[2] * one(2),
        inside,
        end[0] * one(-3) + end[1] * one(-2) + end[2] * one(-1),
    ]


def spread(v: Any, ndim: int, axis: int) -> Any:
    return reshape(v, [-1 if k == axis else 1 for k in range(ndim)])


def inner_weights(before: Any, behind: Any) -> tuple[Any, Any, Any]:
    """The weights of a place and its neighbours that differentiate parabolas exactly."""
    return (
        -behind / (before * (before + behind)),
        (behind - before) / (before * behind),
        before / (behind * (before + behind)),
    )


def edge_weights(near: Any, far: Any) -> tuple[Any, Any, Any]:
    """The same for the first of three places."""
    return (
        -(2.0 * near + far) / (near * (near + far)),
        (near + far) / (near * far),
        -near / (far * (near + far)),
    )


# ------------------------------------------------------------------------------------------------ integrals


@traces(np.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Tracer:
    values = strong(y)
    k = one_axis(axis, values.ndim)
    steps = dx
    if x is not None:
        places = strong(x)
        if places.ndim == 1:
            steps = spread(subtracted(places, 0), values.ndim, k)
        else:
            steps = subtracted(places, one_axis(axis, places.ndim))
    inner = values[along(values.ndim, k, slice(1, None))] + values[along(values.ndim, k, slice(None, -1))]
    return sum_(steps * inner / 2.0, axis)


# ------------------------------------------------------------------------------------------------ interpolation


@traces(np.interp)
def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Tracer:
    """The derivative by x is the slope to the right of a sample point, at the last one that to the left of it."""
    if element_type(operand(fp)).kind == "c":
        re, im = (interp(x, xp, *[part_of(v, k) for v in (fp, left, right)], period=period) for k in (0, 1))
        return re + 1j * im
    if any(v is not None and element_type(operand(v)).kind == "c" for v in (x, xp, left, right)):
        raise TypeError("Cannot cast array data from dtype('complex128') to dtype('float64') according to the rule 'safe'")
    at, places, values = (wrap(to_node(strong(v), element_type(np.float64(0)))) for v in (x, xp, fp))
    if places.ndim > 1 or values.ndim > 1:
        raise ValueError("object too deep for desired array")
    places, values = at_least(places, 1), at_least(values, 1)
    if period is not None:
        if not is_tracer(period) and period == 0:
            raise ValueError("period must be a non-zero value")
        at, places, values = unrolled(at, places, values, apply_ufunc(np.absolute, to_tracer(period)))
        left = right = None
    if places.size == 0:
        raise ValueError("array of sample points is empty")
    if places.size != values.size:
        raise ValueError("fp and xp are not of the same length.")
    below = values[0] if left is None else left
    above = values[-1] if right is None else right
    inside = values[0] if places.size == 1 else between(at, places, values)
    found = where(at < places[0], below, where(at > places[-1], above, inside)).astype(np.float64)
    return found if places.size == 1 else where(apply_ufunc(np.isnan, at), at, found)


def part_of(value: Any, k: int) -> Any:
    """The real or imaginary part of what may not be given."""
    return None if value is None else (strong(value).real, strong(value).imag)[k]


def unrolled(at: Tracer, places: Tracer, values: Tracer, period: Tracer) -> tuple[Tracer, Tracer, Tracer]:
    """One period of the sample points in order, with one more on each side."""
    at, places = apply_ufunc(np.remainder, at, period), apply_ufunc(np.remainder, places, period)
    order = argsort(places)
    places, values = places[order], values[order]
    wide = concatenate([places[-1:] - period, places, places[:1] + period])
    return at, wide, concatenate([values[-1:], values, values[:1]])


def between(at: Tracer, places: Tracer, values: Tracer) -> Tracer:
    """The line through the sample points on both sides. As NumPy does, a result that is not a number is tried from the
    other side, and equal values are kept where both fail: sample points may be infinite."""
    last = places.size - 1
    here = apply_ufunc(np.maximum, searchsorted(places, at, "right") - 1, 0)
    interval = apply_ufunc(np.minimum, here, last - 1)
    low, high = values[interval], values[interval + 1]
    width = places[interval + 1] - places[interval]
    slope = (high - low) / where(width == 0, 1.0, width)  # 0 between the last two points alone, where it is not used
    start, value = places[here], values[here]
    found, fails = line(slope, at - start, value)
    other, other_fails = line(slope, at - places[interval + 1], high)
    other = where(other_fails, where(low == high, low, np.nan), other)
    return where(fails, where(at == start, value, other), found)


def line(slope: Tracer, distance: Tracer, value: Tracer) -> tuple[Tracer, Tracer]:
    """``value + slope * distance``, and where that is no number; what fails is kept out of the derivatives."""
    fails = apply_ufunc(np.isnan, slope * distance + value)
    return slope * where(fails, 0.0, distance) + value, fails


__all__ = [
    "along", "cumprod", "cumsum", "cumulative_prod", "cumulative_sum", "diff", "ediff1d", "gradient", "interp", "nancumprod",
    "nancumsum", "subtracted", "trapezoid",
]  # fmt: skip
