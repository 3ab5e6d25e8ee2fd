"""``np.pad`` in all modes: each side of each axis is computed of the array as it is and joined to it, axis by axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc import ops
from graphc.leaks import UnsupportedError
from graphc.numpy.creation import linspace
from graphc.numpy.joining import picked
from graphc.numpy.shapes import broadcast_to, concatenate, flip
from graphc.numpy.tables import known_shape, strong, traces
from graphc.tracing import FUNCTIONS, Tracer, to_node, to_tracer, wrap

_ALLOWED: dict[str, tuple[str, ...]] = {
    "empty": (),
    "edge": (),
    "wrap": (),
    "constant": ("constant_values",),
    "linear_ramp": ("end_values",),
    "maximum": ("stat_length",),
    "mean": ("stat_length",),
    "median": ("stat_length",),
    "minimum": ("stat_length",),
    "reflect": ("reflect_type",),
    "symmetric": ("reflect_type",),
}
_STATISTICS = {"maximum": np.max, "minimum": np.min, "mean": np.mean, "median": np.median}
Widths = list[tuple[int, int]]


@traces(np.pad)
def pad(array: Any, pad_width: Any, mode: Any = "constant", **options: Any) -> Tracer:
    x = strong(array)
    widths = pairs_of_widths(pad_width, x.ndim)
    if callable(mode):
        raise UnsupportedError(
            "np.pad(mode=<function>) is not traced: the function would write into parts of the array; pad with mode='empty' and "
            "assign to slices of the result"
        )
    if mode not in _ALLOWED:
        raise ValueError(f"mode '{mode}' is not supported")
    unknown = set(options) - set(_ALLOWED[mode])
    if unknown:
        raise ValueError(f"unsupported keyword arguments for mode '{mode}': {unknown}")
    if mode in ("constant", "empty"):
        return constant(x, widths, options.get("constant_values", 0))
    if x.size == 0:
        for k, sides in enumerate(widths):
            if x.shape[k] == 0 and any(sides):
                raise ValueError(f"can't extend empty axis {k} using modes other than 'constant' or 'empty'")
        return constant(x, widths, 0)
    if mode == "linear_ramp":
        ends = pairs_of_values(options.get("end_values", 0), x.ndim)
        for k, sides in enumerate(widths):
            x = between(x, k, [ramp(x, k, side, sides[side], ends[k][side]) for side in (0, 1)])
        return x
    if mode in _STATISTICS:
        lengths = np.broadcast_to(np.asarray(options.get("stat_length"), dtype=object), (x.ndim, 2))
        for k, sides in enumerate(widths):
            parts = [statistic(x, k, side, lengths[k][side], mode) for side in (0, 1)]
            x = between(x, k, [along(p, k, n) for p, n in zip(parts, sides, strict=True)])
        return x
    return mirrored(x, widths, mode, options.get("reflect_type", "even"))


def pairs_of_widths(pad_width: Any, ndim: int) -> Widths:
    """(before, after) of each axis. Raises TypeError and ValueError in NumPy's words."""
    if isinstance(pad_width, dict):
        found: list[Any] = [(0, 0)] * ndim
        for axis, width in pad_width.items():
            found[axis] = (width, width) if isinstance(width, int) else width
        pad_width = found
    widths = np.asarray(pad_width)
    if widths.dtype.kind != "i":
        raise TypeError("`pad_width` must be of integral type.")
    spread = np.broadcast_to(widths, (ndim, 2))
    if spread.size and spread.min() < 0:
        raise ValueError("index can't contain negative values")
    return [(int(before), int(after)) for before, after in spread]


def pairs_of_values(values: Any, ndim: int) -> list[tuple[Any, Any]]:
    spread = broadcast_to(to_tracer(values), (ndim, 2))
    return [(spread[k, 0], spread[k, 1]) for k in range(ndim)]


def between(x: Tracer, axis: int, sides: Sequence[Tracer | None]) -> Tracer:
    """``x`` between what lies before and behind it along ``axis``."""
    before, after = sides
    parts = [p for p in (before, x, after) if p is not None and p.shape[axis]]
    return concatenate([p if p is x else p.astype(x.dtype) for p in parts], axis=axis) if len(parts) > 1 else x


def along(part: Tracer, axis: int, count: int) -> Tracer:
    """``part``, of length 1 along ``axis``, repeated ``count`` times."""
    shape = list(part.shape)
    shape[axis] = count
    return wrap(ops.broadcast_numpy(to_node(part), shape))


def edge(x: Tracer, axis: int, side: int) -> Tracer:
    n = x.shape[axis]
    return x[(*(slice(None),) * axis, slice(0, 1) if side == 0 else slice(n - 1, n))]


def constant(x: Tracer, widths: Widths, values: Any) -> Tracer:
    """One value around all of it, or one for each side of each axis, put on axis after axis as in NumPy."""
    node, ndim = to_node(x), x.ndim
    if math.prod(known_shape(values)) == 1:
        value = to_tracer(values).reshape(())
        return wrap(padded(node, widths, value))
    for k, pair in enumerate(pairs_of_values(values, ndim)):
        for side in (0, 1):
            one_side = [(0, 0)] * ndim
            one_side[k] = (widths[k][0], 0) if side == 0 else (0, widths[k][1])
            node = padded(node, one_side, pair[side])
    return wrap(node)


def padded(node: Any, widths: Widths, value: Tracer) -> Any:
    if not any(map(any, widths)):
        return node
    shape = tuple(n + sum(w) for n, w in zip(node.type.shape, widths, strict=True))
    start = tuple(before for before, _ in widths)
    return ops.pad(node, to_node(value, node.type.dtype), shape=shape, start=start, step=(1,) * node.type.ndim)


def ramp(x: Tracer, axis: int, side: int, count: int, end: Any) -> Tracer:
    """From ``end`` towards the edge, which is not part of it."""
    inner = edge(x, axis, side)
    flat = wrap(ops.reshape_to(to_node(inner), x.shape[:axis] + x.shape[axis + 1 :]))
    line = linspace(end, flat, count, endpoint=False, dtype=x.dtype, axis=axis)
    return line if side == 0 else flip(line, axis)


def statistic(x: Tracer, axis: int, side: int, length: Any, mode: str) -> Tracer:
    n = x.shape[axis]
    if length is not None and (length != int(length) or length < 0):
        raise ValueError("index can't contain negative values" if length < 0 else "`stat_length` must be whole")
    count = n if length is None else min(int(length), n)
    if count == 0 and mode in ("maximum", "minimum"):
        raise ValueError("stat_length of 0 yields no value for padding")
    chunk = x[(*(slice(None),) * axis, slice(0, count) if side == 0 else slice(n - count, n))]
    found = FUNCTIONS[_STATISTICS[mode]](chunk, axis=axis, keepdims=True)
    rounds = mode in ("mean", "median") and x.dtype.kind in "iu"
    return FUNCTIONS[np.round](found) if rounds else found


def mirrored(x: Tracer, widths: Widths, mode: str, reflect_type: str) -> Tracer:
    """Modes edge, wrap, reflect and symmetric: every element is one of the array, or (odd) twice an edge minus one."""
    for k, (before, after) in enumerate(widths):
        if not (before or after):
            continue
        n = x.shape[k]
        places = np.arange(-before, n + after)
        if mode == "edge" or (n == 1 and mode in ("reflect", "symmetric")):
            x = between(x, k, [along(edge(x, k, 0), k, before), along(edge(x, k, 1), k, after)])
        elif mode == "wrap":
            x = picked(x, places % n, k)
        elif reflect_type == "odd":
            x = oddly(x, k, before, after, mode == "symmetric")
        else:
            x = picked(x, reflected(places, n, mode == "symmetric"), k)
    return x


def reflected(places: np.ndarray, n: int, symmetric: bool) -> np.ndarray:
    """Where places outside [0, n) lie after reflection, about the edge or (symmetric) about what lies beyond it."""
    period = 2 * n if symmetric else 2 * n - 2
    places = places % period
    return np.where(places < n, places, (period - 1 if symmetric else period) - places)


def oddly(x: Tracer, axis: int, before: int, after: int, symmetric: bool) -> Tracer:
    """Reflected elements subtracted from twice the edge, from the inside outwards as NumPy does it, so that rounding agrees."""
    period = x.shape[axis]
    lead = (slice(None),) * axis
    skip = 0 if symmetric else 1  # reflect leaves the edge itself out
    while before > 0 or after > 0:
        have = x.shape[axis]
        usable = have // period * period if symmetric else (have - 1) // (period - 1) * (period - 1)
        left, right = min(usable, before), min(usable, after)
        sides = [
            2 * edge(x, axis, side) - flip(x[(*lead, part)], axis)
            for side, part in ((0, slice(skip, skip + left)), (1, slice(have - skip - right, have - skip)))
        ]
        x = between(x, axis, sides)
        before, after = before - left, after - right
    return x
