"""Reshaping, transposing, joining and splitting traced arrays. What is a view in NumPy is one here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import Node
from graphc.leaks import UnsupportedError
from graphc.numpy.indexing import view_of
from graphc.numpy.tables import axes_of, element_of, one_axis, operand, property_, shape_of, stored, strong, traces
from graphc.promotion import same_kind
from graphc.tracing import (
    FUNCTIONS,
    METHODS,
    Tracer,
    apply_ufunc,
    element_type,
    note_widening,
    promote,
    to_node,
    to_tracer,
    wrap,
)
from graphc.types import bool_


def new_shape(shape: Any, size: int) -> tuple[int, ...]:
    """``shape`` for ``size`` elements, its -1 written out. Raises ValueError in NumPy's words."""
    wanted = list(shape_of(shape))
    if sum(n < 0 for n in wanted) > 1:
        raise ValueError("can only specify one unknown dimension")
    unknown = next((k for k, n in enumerate(wanted) if n < 0), None)
    if unknown is not None:
        known = math.prod(n for n in wanted if n >= 0)
        if known == 0 or size % known:
            raise ValueError(f"cannot reshape array of size {size} into shape {tuple(wanted)}")
        wanted[unknown] = size // known
    if math.prod(wanted) != size:
        raise ValueError(f"cannot reshape array of size {size} into shape {tuple(wanted)}")
    return tuple(wanted)


def reshaped(x: Tracer, shape: tuple[int, ...]) -> Tracer:
    """``x`` in another shape: a view where that only puts in or takes out axes of length 1, else perhaps one."""
    only_ones = [n for n in shape if n != 1] == [n for n in x.shape if n != 1]

    def write(base: Node, value: Node) -> Node:
        return ops.reshape_to(value, base.type.shape)

    return view_of(x, lambda base: ops.reshape_to(base, shape), write if only_ones else None)


@traces(np.reshape)
def reshape(a: Any, shape: Any = None, order: str = "C", newshape: Any = None, copy: Any = None) -> Tracer:
    x = to_tracer(a)
    if order != "C":
        raise UnsupportedError("reshape(order=...) other than 'C' is not traced; transpose first")
    result = reshaped(x, new_shape(shape if shape is not None else newshape, x.size))
    return wrap(result._node) if copy else result


METHODS["reshape"] = lambda x, *shape, **kw: reshape(x, shape[0] if len(shape) == 1 else shape, **kw)


@traces(np.ravel, method="ravel")
def ravel(a: Any, order: str = "C") -> Tracer:
    return reshape(a, -1, "C" if order in ("A", "K") else order)


METHODS["flatten"] = lambda x, order="C": wrap(ravel(x, order)._node)


@traces(np.transpose)
def transpose(a: Any, axes: Any = None) -> Tracer:
    x = to_tracer(a)
    n = x.ndim
    order = list(range(n))[::-1] if axes is None else [one_axis(k, n) for k in axes]
    if sorted(order) != list(range(n)):
        raise ValueError("axes don't match array")
    back = [order.index(k) for k in range(n)]
    return view_of(x, lambda base: ops.transpose_to(base, order), lambda base, value: ops.transpose_to(value, back))


METHODS["transpose"] = lambda x, *axes: transpose(
    x, None if not axes or axes == (None,) else axes[0] if isinstance(axes[0], (tuple, list)) else axes
)


property_("T")(lambda x: transpose(x))


@property_("mT")
@traces(np.matrix_transpose)
def matrix_transpose(x: Any) -> Tracer:
    return swapaxes(x, -1, -2)


@traces(np.swapaxes, method="swapaxes")
def swapaxes(a: Any, axis1: int, axis2: int) -> Tracer:
    n = np.ndim(a)
    order = list(range(n))
    i, j = one_axis(axis1, n), one_axis(axis2, n)
    order[i], order[j] = order[j], order[i]
    return transpose(a, order)


@traces(np.moveaxis)
def moveaxis(a: Any, source: Any, destination: Any) -> Tracer:
    n = np.ndim(a)
    src = [one_axis(k, n) for k in ((source,) if isinstance(source, (int, np.integer)) else source)]
    dst = [one_axis(k, n) for k in ((destination,) if isinstance(destination, (int, np.integer)) else destination)]
    if len(src) != len(dst) or len(set(src)) != len(src) or len(set(dst)) != len(dst):
        raise ValueError("`source` and `destination` arguments must have the same number of different elements")
    order = [k for k in range(n) if k not in src]
    for d, s in sorted(zip(dst, src, strict=True)):
        order.insert(d, s)
    return transpose(a, order)


@traces(np.expand_dims)
def expand_dims(a: Any, axis: Any) -> Tracer:
    x = to_tracer(a)
    extra = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    places = axes_of(extra, x.ndim + len(extra))
    shape = list(x.shape)
    for k in places:
        shape.insert(k, 1)
    return reshaped(x, tuple(shape))


@traces(np.squeeze, method="squeeze")
def squeeze(a: Any, axis: Any = None) -> Tracer:
    x = to_tracer(a)
    gone = [k for k, n in enumerate(x.shape) if n == 1] if axis is None else axes_of(axis, x.ndim)
    if any(x.shape[k] != 1 for k in gone):
        raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return reshaped(x, tuple(n for k, n in enumerate(x.shape) if k not in gone))


@traces(np.broadcast_to)
def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Tracer:
    wanted = shape_of(shape)
    return view_of(to_tracer(array), lambda base: ops.broadcast_numpy(base, wanted), None)


@traces(np.broadcast_arrays)
def broadcast_arrays(*arrays: Any, subok: bool = False) -> tuple[Tracer, ...]:
    shape = np.broadcast_shapes(*[np.shape(a) for a in arrays])
    return tuple(broadcast_to(a, shape) for a in arrays)


@traces(np.concatenate)
def concatenate(arrays: Any, axis: Any = 0, out: Any = None, dtype: Any = None, casting: Any = "same_kind") -> Tracer:
    parts = [operand(a) for a in arrays]
    if not parts:
        raise ValueError("need at least one array to concatenate")
    element = promote(*parts) if dtype is None else element_of(dtype)
    if dtype is None:
        note_widening(element, parts)
    for part in parts:
        have = element_type(part)
        fits = same_kind(have, element) if casting == "same_kind" else np.can_cast(have.numpy, element.numpy, casting)
        if not fits:
            raise TypeError(f"Cannot cast array data from {have} to {element} according to the rule {casting!r}")
    nodes = [to_node(p, element) for p in parts]
    if axis is None:
        nodes = [ops.reshape_to(n, (n.type.size,)) for n in nodes]
        axis = 0
    if nodes[0].type.ndim == 0:
        raise ValueError("zero-dimensional arrays cannot be concatenated")
    return stored(wrap(ops.concatenate(*nodes, axis=one_axis(axis, nodes[0].type.ndim))), out)


@traces(np.stack)
def stack(arrays: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind") -> Tracer:
    parts = list(arrays)
    if not parts:
        raise ValueError("need at least one array to stack")
    if len({np.shape(a) for a in parts}) != 1:
        raise ValueError("all input arrays must have the same shape")
    k = one_axis(axis, np.ndim(parts[0]) + 1)
    return concatenate([expand_dims(a, k) for a in parts], k, out, dtype=dtype, casting=casting)


def at_least(a: Any, ndim: int) -> Tracer:
    x = to_tracer(a)
    return reshaped(x, (*(1,) * (ndim - x.ndim), *x.shape))


def _at_least(ndim: int) -> Callable[..., Any]:
    def function(*arys: Any) -> Any:
        results = tuple(at_least(a, ndim) for a in arys)
        return results[0] if len(results) == 1 else results

    return function


FUNCTIONS[np.atleast_1d] = _at_least(1)


FUNCTIONS[np.atleast_2d] = _at_least(2)


@traces(np.vstack)
def vstack(tup: Any, **kwargs: Any) -> Tracer:
    return concatenate([at_least(a, 2) for a in tup], axis=0, **kwargs)


@traces(np.hstack)
def hstack(tup: Any, **kwargs: Any) -> Tracer:
    parts = [at_least(a, 1) for a in tup]
    return concatenate(parts, axis=0 if parts[0].ndim == 1 else 1, **kwargs)


@traces(np.column_stack)
def column_stack(tup: Any) -> Tracer:
    return concatenate([reshape(a, (-1, 1)) if np.ndim(a) < 2 else a for a in tup], axis=1)


@traces(np.split)
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tracer]:
    n = np.shape(ary)[axis]
    if isinstance(indices_or_sections, (int, np.integer)) and n % int(indices_or_sections):
        raise ValueError("array split does not result in an equal division")
    return array_split(ary, indices_or_sections, axis)


@traces(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tracer]:
    x = to_tracer(ary)
    k = one_axis(axis, x.ndim)
    n = x.shape[k]
    if isinstance(indices_or_sections, (int, np.integer)):
        sections = int(indices_or_sections)
        if sections <= 0:
            raise ValueError("number sections must be larger than 0.")
        each, extra = divmod(n, sections)
        cuts = list(np.cumsum([0] + [each + 1] * extra + [each] * (sections - extra)))
    else:
        cuts = [0, *[int(c) for c in indices_or_sections], n]
    before = (slice(None),) * k
    return [x[(*before, slice(int(a), int(b)))] for a, b in zip(cuts[:-1], cuts[1:], strict=True)]


@traces(np.linspace)
def linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None, axis: int = 0
) -> Any:
    if retstep or axis != 0:
        raise UnsupportedError("np.linspace with retstep or axis is not traced")
    element = promote(start, stop, 0.0)
    low, high = wrap(to_node(start, element)), wrap(to_node(stop, element))
    places = np.arange(num).astype(element.numpy).reshape(-1, *(1,) * max(low.ndim, high.ndim))
    step = (high - low) / max(num - 1 if endpoint else num, 1)
    result = low + places * step
    return result if dtype is None else result.astype(dtype)


@traces(np.flip)
def flip(m: Any, axis: Any = None) -> Tracer:
    x = to_tracer(m)
    turned = axes_of(axis, x.ndim)
    return x[(*[slice(None, None, -1) if k in turned else slice(None) for k in range(x.ndim)], ...)]


@traces(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Tracer:
    x = to_tracer(a)
    if axis is None:
        return wrap(ops.reshape_to(roll(ravel(x), shift, 0)._node, x.shape))
    node = to_node(x)
    for by, k in np.broadcast(shift, axis):
        node = rolled(node, int(by), one_axis(int(k), x.ndim))
    return wrap(node)


def rolled(node: Node, by: int, axis: int) -> Node:
    extent = node.type.shape[axis]
    by = by % extent if extent else 0
    if by == 0:
        return node

    def part(start: int, count: int) -> Node:
        size = [count if k == axis else n for k, n in enumerate(node.type.shape)]
        first = [start if k == axis else 0 for k in range(node.type.ndim)]
        return ops.slice_(node, start=tuple(first), size=tuple(size), step=(1,) * node.type.ndim)

    return ops.concatenate(part(extent - by, by), part(0, extent - by), axis=axis)


@traces(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1) -> Tracer:
    x = to_tracer(a)
    k = one_axis(axis, x.ndim)
    before = (slice(None),) * k
    subtract = np.not_equal if x._node.type.dtype is bool_ else np.subtract
    for _ in range(n):
        x = apply_ufunc(subtract, x[(*before, slice(1, None))], x[(*before, slice(None, -1))])
    return wrap(to_node(x))


@traces(np.pad)
def pad(array: Any, pad_width: Any, mode: Any = "constant", *, constant_values: Any = 0) -> Tracer:
    if mode != "constant":
        raise UnsupportedError(f"np.pad(mode={mode!r}) is not traced; pad with np.concatenate of slices")
    node = to_node(strong(array))
    ndim = node.type.ndim
    widths = np.broadcast_to(np.asarray(pad_width), (ndim, 2))
    if widths.size and widths.min() < 0:
        raise ValueError("index can't contain negative values")
    values = to_tracer(constant_values)
    if values.ndim == 0:
        return wrap(padded(node, widths, values))
    values = broadcast_to(values, (ndim, 2))
    for k in range(ndim):
        for side in range(2):
            one_side = np.zeros((ndim, 2), int)
            one_side[k, side] = widths[k, side]
            node = padded(node, one_side, values[k, side])
    return wrap(node)


def padded(node: Node, widths: np.ndarray, value: Tracer) -> Node:
    shape = tuple(int(n + w.sum()) for n, w in zip(node.type.shape, widths, strict=True))
    start = tuple(int(w[0]) for w in widths)
    return ops.pad(node, to_node(value, node.type.dtype), shape=shape, start=start, step=(1,) * node.type.ndim)


@traces(np.tile)
def tile(A: Any, reps: Any) -> Tracer:  # noqa: N803 (NumPy's parameter name)
    node = to_node(strong(A))
    counts = shape_of(reps)
    rank = max(len(counts), node.type.ndim)
    counts = (1,) * (rank - len(counts)) + counts
    shape = (1,) * (rank - node.type.ndim) + node.type.shape
    spread = [v for c, n in zip(counts, shape, strict=True) for v in (c, n)]
    one = [v for n in shape for v in (1, n)]
    whole = ops.broadcast_numpy(ops.reshape_to(node, one), spread)
    return wrap(ops.reshape_to(whole, [c * n for c, n in zip(counts, shape, strict=True)]))


@traces(np.shape)
def shape(a: Any) -> tuple[int, ...]:
    return to_tracer(a).shape


@traces(np.ndim)
def ndim(a: Any) -> int:
    return to_tracer(a).ndim


@traces(np.size)
def size(a: Any, axis: Any = None) -> int:
    x = to_tracer(a)
    return x.size if axis is None else x.shape[axis]


def array(value: Any) -> Tracer:
    """Nested lists of traced scalars and arrays, stacked: what ``np.array`` cannot do with tracers."""
    if isinstance(value, (list, tuple)):
        return stack([array(v) for v in value])
    return strong(value)


METHODS["array"] = array


@property_("flat")
def flat(x: Tracer) -> Any:
    return iter(ravel(x))
