"""Windows that slide over tensors: convolution, reductions of windows, and where a window has its extreme value.

Along an axis of n elements, dilation d puts d-1 zeros (or the identity of the reduction) between neighbours; padding
``(lo, hi)`` adds such elements at the ends, and removes elements where it is negative. A window of k elements that are
d apart stands at every ``stride``-th place where it fits wholly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.ir import GraphError, Node, Op
from graphc.ops.arithmetic import iota, like, lt, mul, select, sub
from graphc.ops.base import add_all, check_kind, const, define, zeros
from graphc.ops.indexing import gather, scatter
from graphc.ops.movement import broadcast, move_axis, pad, reshape_to, slice_, transpose_to
from graphc.ops.reduction import highest, lowest, widened
from graphc.types import TensorType, Type, dtype, i64

Axes = tuple[int, ...]
Padding = tuple[tuple[int, int], ...]


def dilated(count: int, dilation: int) -> int:
    """The extent of ``count`` elements that are ``dilation`` apart."""
    return (count - 1) * dilation + 1 if count else 0


def all_dilated(counts: Sequence[int], dilation: Sequence[int]) -> Axes:
    return tuple(dilated(n, d) for n, d in zip(counts, dilation, strict=True))


def window_counts(
    name: str, extents: Sequence[int], window: Axes, strides: Axes, padding: Padding, dilation: Axes
) -> Axes:
    """How many windows stand along each axis of ``extents`` (already dilated). Raises GraphError."""
    axes = len(extents)
    if any(len(attr) != axes for attr in (window, strides, padding, dilation)):
        raise GraphError(
            f"{name}: window {window}, strides {strides}, padding {padding} and dilation {dilation} need {axes} entries"
        )
    if any(n < 1 for attr in (window, strides, dilation) for n in attr):
        raise GraphError(f"{name}: window {window}, strides {strides} and dilation {dilation} must be positive")
    counts = []
    for n, k, stride, (lo, hi), d in zip(extents, window, strides, padding, dilation, strict=True):
        if n + lo + hi < 0:
            raise GraphError(f"{name}: padding {padding} removes more than there is of extents {tuple(extents)}")
        counts.append(max((n + lo + hi - dilated(k, d)) // stride + 1, 0))
    return tuple(counts)


def _spread(x: np.ndarray, fill: Any, padding: Padding, dilation: Axes) -> np.ndarray:
    """x dilated and padded with ``fill``, negative padding removed; C-contiguous."""
    grown = [(max(lo, 0), dilated(n, d), max(hi, 0)) for n, (lo, hi), d in zip(x.shape, padding, dilation, strict=True)]
    result = np.full([sum(parts) for parts in grown], fill, x.dtype)
    result[tuple(slice(lo, lo + n, d) for (lo, n, _), d in zip(grown, dilation, strict=True))] = x
    kept = [slice(max(-lo, 0), n - max(-hi, 0)) for n, (lo, hi) in zip(result.shape, padding, strict=True)]
    return np.asarray(result[tuple(kept)], order="C")


def _windows(x: np.ndarray, lead: int, counts: Axes, window: Axes, strides: Axes, dilation: Axes) -> np.ndarray:
    """A read-only view: ``lead`` axes of x, then the windows' places, then the places inside a window."""
    steps = x.strides[lead:]
    return np.lib.stride_tricks.as_strided(
        x,
        (*x.shape[:lead], *counts, *window),
        (
            *x.strides[:lead],
            *[s * n for s, n in zip(strides, steps, strict=True)],
            *[d * n for d, n in zip(dilation, steps, strict=True)],
        ),
        writeable=False,
    )


# ------------------------------------------------------------------------------------------------ convolution


def _conv_type(
    x: TensorType,
    w: TensorType,
    strides: Axes,
    padding: Padding,
    lhs_dilation: Axes,
    rhs_dilation: Axes,
    groups: int,
) -> Type:
    check_kind("conv", x, "iufc")
    if x.dtype is not w.dtype or x.ndim != w.ndim or not 3 <= x.ndim <= 5:
        raise GraphError(
            "conv takes x (N, C, *spatial) and w (O, C/groups, *spatial) of one element type with 1 to 3 spatial axes, "
            f"not {x} and {w}"
        )
    if groups < 1 or x.shape[1] != groups * w.shape[1] or w.shape[0] % groups:
        raise GraphError(f"conv: the channels of {x} and {w} do not fit with {groups} groups")
    if len(lhs_dilation) != x.ndim - 2 or any(d < 1 for d in lhs_dilation):
        raise GraphError(f"conv: lhs_dilation {lhs_dilation} needs a positive entry per spatial axis of {x}")
    extents = all_dilated(x.shape[2:], lhs_dilation)
    counts = window_counts("conv", extents, w.shape[2:], strides, padding, rhs_dilation)
    return TensorType(x.dtype, (x.shape[0], w.shape[0], *counts))


def _conv_eval(
    x: np.ndarray,
    w: np.ndarray,
    strides: Axes,
    padding: Padding,
    lhs_dilation: Axes,
    rhs_dilation: Axes,
    groups: int,
) -> np.ndarray:
    space, window = x.ndim - 2, w.shape[2:]
    wide = widened(_spread(x, 0, ((0, 0), (0, 0), *padding), (1, 1, *lhs_dilation)))
    counts = window_counts("conv", wide.shape[2:], window, strides, ((0, 0),) * space, rhs_dilation)
    n, channels, filters = x.shape[0], w.shape[1], w.shape[0] // groups
    patches = _windows(wide, 2, counts, window, strides, rhs_dilation)
    patches = patches.reshape(n, groups, channels, *counts, *window)
    places, inside = range(3, 3 + space), range(3 + space, 3 + 2 * space)
    rows = patches.transpose(1, 0, *places, 2, *inside).reshape(
        groups, n * math.prod(counts), channels * math.prod(window)
    )
    columns = widened(w).reshape(groups, filters, channels * math.prod(window)).transpose(0, 2, 1)
    with np.errstate(all="ignore"):
        product = np.matmul(rows, columns).astype(x.dtype, copy=False)
    product = product.reshape(groups, n, *counts, filters)
    return product.transpose(1, 0, 2 + space, *range(2, 2 + space)).reshape(n, groups * filters, *counts)


def _transposed_filters(w: Node, groups: int) -> Node:
    """w with the channels it reads and those it writes exchanged within each group, spatial axes reversed."""
    out, channels, *window = w.type.shape
    space = len(window)
    w = slice_(
        w,
        start=(0, 0, *[k - 1 for k in window]),
        size=w.type.shape,
        step=(1, 1, *[-1] * space),
    )
    w = reshape_to(w, (groups, out // groups, channels, *window))
    w = transpose_to(w, (0, 2, 1, *range(3, 3 + space)))
    return reshape_to(w, (groups * channels, out // groups, *window))


def _adjoint_padding(
    extents: Sequence[int],
    window: Sequence[int],
    counts: Sequence[int],
    strides: Axes,
    padding: Padding,
    dilation: Axes,
) -> Padding:
    """Padding with which windows over the result (dilated by ``strides``) stand at each element of the operand.

    ``extents`` are those of the operand, already dilated.
    """
    found = []
    for n, k, count, stride, (lo, _), d in zip(extents, window, counts, strides, padding, dilation, strict=True):
        before = dilated(k, d) - lo - 1
        found.append((before, n + dilated(k, d) - 1 - dilated(count, stride) - before))
    return tuple(found)


def _conv_ct_x(ct: Node, x: Node, w: Node, attrs: dict[str, Any]) -> Node:
    strides, lhs_dilation, rhs_dilation = attrs["strides"], attrs["lhs_dilation"], attrs["rhs_dilation"]
    extents = all_dilated(x.type.shape[2:], lhs_dilation)
    return conv(
        ct,
        _transposed_filters(w, attrs["groups"]),
        strides=lhs_dilation,
        padding=_adjoint_padding(extents, w.type.shape[2:], ct.type.shape[2:], strides, attrs["padding"], rhs_dilation),
        lhs_dilation=strides,
        rhs_dilation=rhs_dilation,
        groups=attrs["groups"],
    )


def _conv_ct_w(ct: Node, x: Node, w: Node, attrs: dict[str, Any]) -> Node:
    """The cotangent slides over x as the filter; samples are the channels that are summed, group by group."""
    if 0 in ct.type.shape[2:]:
        return zeros(w.type)
    n, out, *counts = ct.type.shape
    channels, groups = w.type.shape[1], attrs["groups"]
    spatial, space = x.type.shape[2:], len(counts)
    lhs = reshape_to(x, (n, groups, channels, *spatial))
    lhs = reshape_to(transpose_to(lhs, (2, 1, 0, *range(3, 3 + space))), (channels, groups * n, *spatial))
    extents = all_dilated(spatial, attrs["lhs_dilation"])
    windows = all_dilated(w.type.shape[2:], attrs["rhs_dilation"])
    covers = all_dilated(counts, attrs["strides"])
    padding = tuple(
        (lo, cover - extent + window - lo - 1)
        for extent, window, cover, (lo, _) in zip(extents, windows, covers, attrs["padding"], strict=True)
    )
    product = conv(
        lhs,
        move_axis(ct, 1, 0),
        strides=attrs["rhs_dilation"],
        padding=padding,
        lhs_dilation=attrs["lhs_dilation"],
        rhs_dilation=attrs["strides"],
        groups=groups,
    )
    return move_axis(product, 1, 0)


def _conv_vjp(ct: Node, out: Node, x: Node, w: Node, **attrs: Any) -> tuple[Node, Node]:
    return _conv_ct_x(ct, x, w, attrs), _conv_ct_w(ct, x, w, attrs)


def _conv_jvp(tangents: Sequence[Node | None], out: Node, x: Node, w: Node, **attrs: Any) -> Node | None:
    tx, tw = tangents
    terms = ([] if tx is None else [conv(tx, w, **attrs)]) + ([] if tw is None else [conv(x, tw, **attrs)])
    return add_all(terms)


def _conv_batch(size: int, flags: Sequence[bool], x: Node, w: Node, groups: int, **attrs: Any) -> Node:
    if not flags[1]:  # more samples
        samples = x.type.shape[1]
        found = conv(reshape_to(x, (size * samples, *x.type.shape[2:])), w, groups=groups, **attrs)
        return reshape_to(found, (size, samples, *found.type.shape[1:]))
    if flags[0] and size == 0:
        member = [TensorType(v.type.dtype, v.type.shape[1:]) for v in (x, w)]
        return zeros(TensorType(x.type.dtype, (0, *_conv_type(*member, groups=groups, **attrs).shape)))  # type: ignore
    if flags[0]:  # more groups
        samples, channels = x.type.shape[1:3]
        x = reshape_to(move_axis(x, 0, 1), (samples, size * channels, *x.type.shape[3:]))
        w = reshape_to(w, (size * w.type.shape[1], *w.type.shape[2:]))
        found = conv(x, w, groups=size * groups, **attrs)
        split = reshape_to(found, (samples, size, found.type.shape[1] // size, *found.type.shape[2:]))
        return move_axis(split, 1, 0)
    # more filters, within each group
    samples, (out, channels, *window) = x.type.shape[0], w.type.shape[1:]
    w = move_axis(reshape_to(w, (size, groups, out // groups, channels, *window)), 0, 1)
    found = conv(x, reshape_to(w, (groups * size * (out // groups), channels, *window)), groups=groups, **attrs)
    split = reshape_to(found, (samples, groups, size, out // groups, *found.type.shape[2:]))
    return reshape_to(move_axis(split, 2, 0), (size, samples, out, *found.type.shape[2:]))


#: ``conv(x, w, strides=, padding=, lhs_dilation=, rhs_dilation=, groups=)``: x (N, C, *spatial), w (O, C/groups,
#: *spatial) → (N, O, *spatial), 1 to 3 spatial axes. Filters are not flipped (cross-correlation). lhs_dilation
#: dilates x, rhs_dilation w; padding may be negative. Output channel o reads the channels of group ``o //
#: (O/groups)``. f16 and bf16 accumulate in f32.
conv: Op = define(
    Op("conv", "window", infer=_conv_type, eval=_conv_eval, vjp=_conv_vjp, jvp=_conv_jvp, batch=_conv_batch)
)

# ------------------------------------------------------------------------------------------------ reduce_window


def sliding_axes(x: TensorType, window: Axes, strides: Axes, padding: Padding) -> range:
    """The trailing axes of x from the first one on along which windows slide or reach (at least the last)."""
    stays = [(k, s, tuple(p)) == (1, 1, (0, 0)) for k, s, p in zip(window, strides, padding, strict=True)]
    return range(stays.index(False) if False in stays else max(x.ndim - 1, 0), x.ndim)


#: kind of reduce_window → element kinds, identity, NumPy's reduction
_KINDS: dict[str, tuple[str, Any, Any]] = {
    "sum": ("iufc", lambda t: 0, np.sum),
    "max": ("biuf", lowest, np.max),
    "min": ("biuf", highest, np.min),
}


def _window_type(name: str, x: TensorType, kind: str, kinds: Sequence[str], attrs: dict[str, Any]) -> Axes:
    if kind not in kinds:
        raise GraphError(f"{name}: kind is one of {', '.join(kinds)}, not {kind!r}")
    check_kind(f"{name} with kind={kind!r}", x, _KINDS[kind][0])
    return window_counts(name, x.shape, **attrs)


def _reduce_window_type(
    x: TensorType, window: Axes, strides: Axes, padding: Padding, dilation: Axes, kind: str
) -> Type:
    attrs = {"window": window, "strides": strides, "padding": padding, "dilation": dilation}
    return TensorType(x.dtype, _window_type("reduce_window", x, kind, tuple(_KINDS), attrs))


def _all_windows(x: np.ndarray, fill: Any, window: Axes, strides: Axes, padding: Padding, dilation: Axes) -> np.ndarray:
    """[*counts, elements of a window]"""
    wide = _spread(x, fill, padding, (1,) * x.ndim)
    counts = window_counts("reduce_window", wide.shape, window, strides, ((0, 0),) * x.ndim, dilation)
    return _windows(wide, 0, counts, window, strides, dilation).reshape(*counts, math.prod(window))


def _reduce_window_eval(x: np.ndarray, kind: str, **attrs: Any) -> np.ndarray:
    _, identity, function = _KINDS[kind]
    views = _all_windows(widened(x) if kind == "sum" else x, identity(dtype(x.dtype)), **attrs)
    with np.errstate(all="ignore"):
        return np.asarray(function(views, axis=-1)).astype(x.dtype, copy=False)


def _window_sum_vjp(ct: Node, x: Node, window: Axes, strides: Axes, padding: Padding, dilation: Axes) -> Node:
    shape = all_dilated(ct.type.shape, strides)
    apart = ct
    if shape != ct.type.shape:
        apart = pad(ct, const(0, ct.type.dtype), shape=shape, start=(0,) * len(shape), step=strides)
    adjoint = _adjoint_padding(x.type.shape, window, ct.type.shape, strides, padding, dilation)
    attrs = {"window": window, "strides": (1,) * len(shape), "padding": adjoint, "dilation": dilation}
    return reduce_window(apart, **attrs, kind="sum")


def _reduce_window_vjp(ct: Node, out: Node, x: Node, kind: str, **attrs: Any) -> tuple[Node]:
    if kind == "sum":
        return (_window_sum_vjp(ct, x, **attrs),)
    if x.type.ndim == 0:
        return (ct,)
    if len(sliding_axes(x.type, attrs["window"], attrs["strides"], attrs["padding"])) <= 3:
        return (window_scatter(ct, x, kind=kind, **attrs),)
    flat = zeros(TensorType(x.type.dtype, (x.type.size,)))
    places = window_argmax(x, kind=kind, **attrs)
    return (reshape_to(scatter(flat, ct, places, axes=(0,), mode="drop", combine="add"), x.type.shape),)


def _reduce_window_jvp(tangents: Sequence[Node | None], out: Node, x: Node, kind: str, **attrs: Any) -> Node | None:
    (tangent,) = tangents
    if tangent is None:
        return None
    if kind == "sum":
        return reduce_window(tangent, kind=kind, **attrs)
    return _window_gather(tangent, x, kind=kind, **attrs)


def _over_batch(window: Axes, strides: Axes, padding: Padding, dilation: Axes) -> dict[str, Any]:
    """The attributes for an operand with a further leading axis."""
    return {
        "window": (1, *window),
        "strides": (1, *strides),
        "padding": ((0, 0), *padding),
        "dilation": (1, *dilation),
    }


#: ``reduce_window(x, window=, strides=, padding=, dilation=, kind=)``: the sum, max or min of every window over x;
#: all attributes have one entry per axis of x. Padding has the identity (0, the lowest, the highest value).
#: ``dilation`` is the window's. Of elements that tie for max or min, the first in C order gets the cotangent. f16
#: and bf16 accumulate in f32.
reduce_window: Op = define(
    Op(
        "reduce_window",
        "window",
        infer=_reduce_window_type,
        eval=_reduce_window_eval,
        vjp=_reduce_window_vjp,
        jvp=_reduce_window_jvp,
        batch=lambda size, flags, x, kind, **attrs: reduce_window(x, kind=kind, **_over_batch(**attrs)),
    )
)


def _window_argmax_type(
    x: TensorType, window: Axes, strides: Axes, padding: Padding, dilation: Axes, kind: str
) -> Type:
    attrs = {"window": window, "strides": strides, "padding": padding, "dilation": dilation}
    return TensorType(i64, _window_type("window_argmax", x, kind, ("max", "min"), attrs))


def _window_argmax_eval(x: np.ndarray, kind: str, **attrs: Any) -> np.ndarray:
    values = _all_windows(x, _KINDS[kind][1](dtype(x.dtype)), **attrs)
    places = _all_windows(np.arange(x.size, dtype=np.int64).reshape(x.shape), -1, **attrs)
    best = (np.argmax if kind == "max" else np.argmin)(values, axis=-1)[..., None]
    # Padding ties with elements that equal the identity: there, take the first element that is no padding.
    on_padding = np.take_along_axis(places, best, -1) < 0
    best = np.where(on_padding, np.argmax(places >= 0, axis=-1)[..., None], best)
    return np.take_along_axis(places, best, -1)[..., 0]


def _window_argmax_batch(size: int, flags: Sequence[bool], x: Node, kind: str, **attrs: Any) -> Node:
    places = window_argmax(x, kind=kind, **_over_batch(**attrs))
    each = x.type.size // size if size else 0
    if each == 0:
        return places
    member = iota(shape=places.type.shape, axis=0, to=i64)
    mine = sub(places, mul(member, like(member, each)))
    return select(lt(places, like(places, 0)), places, mine)


#: ``window_argmax(x, window=, strides=, padding=, dilation=, kind='max'|'min')``: where reduce_window finds its
#: value: i64 flat places in x (C order), the first in a window among equals, NaN counting as extreme; -1 for a
#: window of padding alone.
window_argmax: Op = define(
    Op(
        "window_argmax",
        "window",
        infer=_window_argmax_type,
        eval=_window_argmax_eval,
        vjp=lambda ct, out, x, **_: (None,),
        jvp=lambda tangents, out, x, **_: None,
        batch=_window_argmax_batch,
    )
)


def _window_scatter_type(
    y: TensorType, x: TensorType, window: Axes, strides: Axes, padding: Padding, dilation: Axes, kind: str
) -> Type:
    attrs = {"window": window, "strides": strides, "padding": padding, "dilation": dilation}
    counts = _window_type("window_scatter", x, kind, ("max", "min"), attrs)
    check_kind("window_scatter", y, "iuf")
    if y.shape != counts:
        raise GraphError(f"window_scatter: {y} needs an element for each of the windows {counts} of {x}")
    if not 1 <= len(sliding_axes(x, window, strides, padding)) <= 3:
        raise GraphError(f"window_scatter: windows slide along one to three trailing axes, not {window} over {x}")
    return TensorType(y.dtype, x.shape)


def _window_scatter_eval(y: np.ndarray, x: np.ndarray, kind: str, **attrs: Any) -> np.ndarray:
    places = _window_argmax_eval(x, kind, **attrs).reshape(-1)
    flat = np.zeros(x.size, widened(y).dtype)
    with np.errstate(all="ignore"):
        np.add.at(flat, places[places >= 0], widened(y).reshape(-1)[places >= 0])
    return flat.reshape(x.shape).astype(y.dtype, copy=False)


def _window_gather(y: Node, x: Node, kind: str, **attrs: Any) -> Node:
    """The elements of y where the windows over x have their extreme value; 0 for windows of padding alone."""
    places = window_argmax(x, kind=kind, **attrs)
    return gather(reshape_to(y, (y.type.size,)), places, axes=(0,), mode="drop")


def _window_scatter_jvp(tangents: Sequence[Node | None], out: Node, y: Node, x: Node, **attrs: Any) -> Node | None:
    return None if tangents[0] is None else window_scatter(tangents[0], x, **attrs)


def _window_scatter_batch(size: int, flags: Sequence[bool], y: Node, x: Node, kind: str, **attrs: Any) -> Node:
    y, x = [
        v if given else broadcast(v, (size, *v.type.shape), tuple(range(1, v.type.ndim + 1)))
        for v, given in zip((y, x), flags, strict=True)
    ]
    return window_scatter(y, x, kind=kind, **_over_batch(**attrs))


#: ``window_scatter(y, x, window=, strides=, padding=, dilation=, kind='max'|'min')``: of each element of x, the sum of
#: y over the windows that have their extreme value there (as window_argmax finds it): the cotangent of reduce_window.
#: Windows slide along the last three axes at most.
window_scatter: Op = define(
    Op(
        "window_scatter",
        "window",
        infer=_window_scatter_type,
        eval=_window_scatter_eval,
        vjp=lambda ct, out, y, x, **attrs: (_window_gather(ct, x, **attrs), None),
        jvp=_window_scatter_jvp,
        batch=_window_scatter_batch,
    )
)

__all__ = ["conv", "dilated", "reduce_window", "window_argmax", "sliding_axes", "window_counts", "window_scatter"]
