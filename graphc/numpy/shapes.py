"""Reshaping, transposing, turning and joining traced arrays. What is a view in NumPy is one here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import Node
from graphc.leaks import UnsupportedError
from graphc.numpy.indexing import view_of
from graphc.numpy.tables import (
    axes_of,
    element_of,
    known_shape,
    one_axis,
    operand,
    property_,
    shape_of,
    stored,
    strong,
    traces,
)
from graphc.promotion import same_kind
from graphc.tracing import (
    METHODS,
    Tracer,
    element_type,
    is_tracer,
    note_widening,
    promote,
    to_node,
    to_tracer,
    wrap,
)
from graphc.types import i64


def new_shape(shape: Any, size: int) -> tuple[int, ...]:
    """``shape`` for ``size`` elements, its -1 written out. Raises ValueError in NumPy's words."""
    wanted = list(shape_of(shape, unknown=True))
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
def reshape(a: Any, /, shape: Any = None, order: str = "C", *, newshape: Any = None, copy: Any = None) -> Tracer:
    x = to_tracer(a)
    wanted = shape if shape is not None else newshape
    if wanted is None:
        raise TypeError("reshape() missing 1 required positional argument: 'shape'")
    full = new_shape(wanted, x.size)
    if in_fortran_order(order, x, "reshape"):
        result = transpose(reshaped(transpose(x), full[::-1]))
    else:
        result = reshaped(x, full)
    return wrap(result._node) if copy else result


def in_fortran_order(order: Any, x: Tracer, name: str) -> bool:
    """Whether elements are read with the first axis varying fastest. "A" and "K" ask for a layout that a trace has not."""
    if order not in ("C", "F", "A", "K", None):
        raise ValueError(f"order must be one of 'C', 'F', 'A', or 'K' (got {order!r})")
    if order in ("A", "K") and x.ndim > 1:
        raise UnsupportedError(
            f"{name}(order={order!r}) depends on the memory layout of the array; write order='C' or 'F'"
        )
    return order == "F"


METHODS["reshape"] = lambda x, *shape, **kw: reshape(x, shape[0] if len(shape) == 1 else shape, **kw)


@traces(np.ravel, method="ravel")
def ravel(a: Any, order: str = "C") -> Tracer:
    return reshape(a, -1, order)


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


@traces(np.rollaxis)
def rollaxis(a: Any, axis: int, start: int = 0) -> Tracer:
    n = np.ndim(a)
    k = one_axis(axis, n)
    if not -n <= start <= n:
        raise np.exceptions.AxisError(f"'start' arg requires {-n} <= start < {n + 1}, but {start} was passed in")
    place = start + n if start < 0 else start
    order = [j for j in range(n) if j != k]
    order.insert(place - (k < place), k)
    return transpose(a, order)


@traces(np.squeeze, method="squeeze")
def squeeze(a: Any, axis: Any = None) -> Tracer:
    x = to_tracer(a)
    gone = [k for k, n in enumerate(x.shape) if n == 1] if axis is None else axes_of(axis, x.ndim)
    if any(x.shape[k] != 1 for k in gone):
        raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return reshaped(x, tuple(n for k, n in enumerate(x.shape) if k not in gone))


@traces(np.broadcast_to)
def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Tracer:
    wanted, x = shape_of(shape, unknown=True), to_tracer(array)
    if any(n < 0 for n in wanted):
        raise ValueError("all elements of broadcast shape must be non-negative")
    have = (1,) * (len(wanted) - x.ndim) + x.shape
    if len(have) != len(wanted) or any(n not in (1, m) for n, m in zip(have, wanted, strict=True)):
        raise ValueError(
            f"operands could not be broadcast together with remapped shapes [original->remapped]: {x.shape} and requested shape "
            f"{wanted}"
        )
    return view_of(x, lambda base: ops.broadcast_numpy(base, wanted), None)


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
    k = one_axis(axis, nodes[0].type.ndim)
    check_joined([n.type.shape for n in nodes], k)
    joined = ops.concatenate(*nodes, axis=k) if len(nodes) > 1 else nodes[0]
    return stored(wrap(joined), out)


def check_joined(shapes: Sequence[tuple[int, ...]], axis: int) -> None:
    """Raises ValueError in NumPy's words where arrays do not fit beside each other."""
    first = shapes[0]
    for j, shape in enumerate(shapes):
        if len(shape) != len(first):
            raise ValueError(
                "all the input arrays must have same number of dimensions, but the array at index 0 has "
                f"{len(first)} dimension(s) and the array at index {j} has {len(shape)} dimension(s)"
            )
        for k, (n, m) in enumerate(zip(first, shape, strict=True)):
            if k != axis and n != m:
                raise ValueError(
                    "all the input array dimensions except for the concatenation axis must match exactly, but along dimension "
                    f"{k}, the array at index 0 has size {n} and the array at index {j} has size {m}"
                )


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
    return x if x.ndim >= ndim else reshaped(x, (*(1,) * (ndim - x.ndim), *x.shape))


@traces(np.flip)
def flip(m: Any, axis: Any = None) -> Tracer:
    x = to_tracer(m)
    turned = axes_of(axis, x.ndim)
    return x[(*[slice(None, None, -1) if k in turned else slice(None) for k in range(x.ndim)], ...)]


@traces(np.flipud)
def flipud(m: Any) -> Tracer:
    if np.ndim(m) < 1:
        raise ValueError("Input must be >= 1-d.")
    return flip(m, 0)


@traces(np.fliplr)
def fliplr(m: Any) -> Tracer:
    if np.ndim(m) < 2:
        raise ValueError("Input must be >= 2-d.")
    return flip(m, 1)


@traces(np.rot90)
def rot90(m: Any, k: int = 1, axes: Any = (0, 1)) -> Tracer:
    x = to_tracer(m)
    if len(axes) != 2:
        raise ValueError("len(axes) must be 2.")
    if axes[0] == axes[1] or abs(axes[0] - axes[1]) == x.ndim:
        raise ValueError("Axes must be different.")
    if any(not -x.ndim <= a < x.ndim for a in axes):
        raise ValueError(f"Axes={axes} out of range for array of ndim={x.ndim}.")
    turns = k % 4
    if turns == 0:
        return x[...]
    if turns == 2:
        return flip(flip(x, axes[0]), axes[1])
    if turns == 1:
        return swapaxes(flip(x, axes[1]), *axes)
    return flip(swapaxes(x, *axes), axes[1])


@traces(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Tracer:
    """``shift`` may be traced; one that is not gives two slices."""
    x = to_tracer(a)
    if axis is None:
        return wrap(ops.reshape_to(roll(ravel(x), shift, 0)._node, x.shape))
    if max(len(known_shape(shift)), np.ndim(axis)) > 1:
        raise ValueError("'shift' and 'axis' should be scalars or 1D sequences")
    node = to_node(x)
    for by, k in pairs(shift, axis):
        node = rolled(node, by, one_axis(int(k), x.ndim))
    return wrap(node)


def pairs(shift: Any, axis: Any) -> list[tuple[Any, Any]]:
    """Shifts and axes, a single one of either going with all of the other."""
    shifts = list(shift) if known_shape(shift) else [shift]
    axes = list(axis) if np.ndim(axis) else [axis]
    count = np.broadcast_shapes((len(shifts),), (len(axes),))[0]
    return list(
        zip(shifts * (count // len(shifts) if shifts else 0), axes * (count // len(axes) if axes else 0), strict=True)
    )


def rolled(node: Node, by: Any, axis: int) -> Node:
    extent = node.type.shape[axis]
    if extent == 0:
        return node
    if is_tracer(by):
        return rolled_by_traced(node, to_node(by), axis)
    by = int(by) % extent
    if by == 0:
        return node

    def part(start: int, count: int) -> Node:
        size = [count if k == axis else n for k, n in enumerate(node.type.shape)]
        first = [start if k == axis else 0 for k in range(node.type.ndim)]
        return ops.slice_(node, start=tuple(first), size=tuple(size), step=(1,) * node.type.ndim)

    return ops.concatenate(part(extent - by, by), part(0, extent - by), axis=axis)


def rolled_by_traced(node: Node, by: Node, axis: int) -> Node:
    if not by.type.dtype.is_integer or by.type.size != 1:
        raise TypeError(f"np.roll: the shift is a whole number, not a traced {by.type}")
    extent = node.type.shape[axis]
    line = ops.iota(shape=(extent,), axis=0, to=i64)
    back = ops.broadcast_numpy(ops.reshape_to(ops.convert(by, i64), ()), (extent,))
    places = ops.remainder(ops.sub(line, back), ops.like(line, extent))
    return ops.move_axis(ops.gather(node, places, axes=(axis,), mode="raise"), 0, axis)


@traces(np.shape)
def shape(a: Any) -> tuple[int, ...]:
    return to_tracer(a).shape


@traces(np.ndim)
def ndim(a: Any) -> int:
    return to_tracer(a).ndim


@traces(np.size)
def size(a: Any, axis: Any = None) -> int:
    x = to_tracer(a)
    return x.size if axis is None else math.prod(x.shape[k] for k in axes_of(axis, x.ndim))


def array(value: Any) -> Tracer:
    """Nested lists of traced scalars and arrays, stacked: what ``np.array`` cannot do with tracers."""
    if isinstance(value, (list, tuple)):
        return stack([array(v) for v in value])
    return strong(value)


METHODS["array"] = array
