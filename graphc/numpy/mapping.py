"""Functions applied along axes, and bits packed into bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import ops
from graphc.leaks import UnsupportedError
from graphc.numpy.shapes import array, expand_dims, moveaxis, ravel, reshape
from graphc.numpy.tables import one_axis, strong, traces
from graphc.tracing import Tracer, is_tracer, to_node, to_tracer, wrap
from graphc.transforms import vmap
from graphc.tree import flatten
from graphc.types import u8


@traces(np.apply_along_axis)
def apply_along_axis(func1d: Callable[..., Any], axis: Any, arr: Any, *args: Any, **kwargs: Any) -> Tracer:
    """The function is traced once, for one vector, and mapped over the others."""
    x = strong(arr)
    k = one_axis(axis, x.ndim)
    outer = (*x.shape[:k], *x.shape[k + 1 :])
    count = int(np.prod(outer, dtype=np.int64))
    if count == 0:
        raise ValueError("Cannot apply_along_axis when any iteration dimensions are 0")
    rows = reshape(moveaxis(x, k, -1), (count, x.shape[k]))

    def one(row: Any) -> Tracer:
        found = func1d(row, *args, **kwargs)
        return array(found) if any(map(is_tracer, flatten(found)[0])) else to_tracer(np.asarray(found))

    results = strong(vmap(one)(wrap(to_node(rows))))
    inner = results.ndim - 1
    spread = reshape(results, (*outer, *results.shape[1:]))
    places = list(range(len(outer), len(outer) + inner))
    return wrap(to_node(moveaxis(spread, places, [k + j for j in range(inner)])))


@traces(np.apply_over_axes)
def apply_over_axes(func: Callable[..., Any], a: Any, axes: Any) -> Tracer:
    x = strong(a)
    for axis in (axes,) if np.ndim(axes) == 0 else tuple(axes):
        k = int(axis) + x.ndim if axis < 0 else int(axis)
        found = strong(func(x, k))
        found = found if found.ndim == x.ndim else expand_dims(found, k)
        if found.ndim != x.ndim:
            raise ValueError("function is not returning an array of the correct shape")
        x = found
    return x


@traces(np.packbits)
def packbits(a: Any, /, axis: Any = None, bitorder: str = "big") -> Tracer:
    x = strong(a)
    check_bits("packbits", x, "biu", bitorder)
    if axis is None:
        x, axis = ravel(x), 0
    k = one_axis(axis, x.ndim)
    bits = ops.ne(to_node(x), ops.zeros(x._node.type)) if x.dtype != bool else to_node(x)
    *lead, n = (line := ops.move_axis(ops.convert(bits, u8), k, x.ndim - 1)).type.shape
    count = -(-n // 8)
    whole = ops.pad(
        line,
        ops.const(0, u8),
        shape=(*lead, 8 * count),
        start=(0,) * len(line.type.shape),
        step=(1,) * len(line.type.shape),
    )
    eights = ops.reshape_to(whole, (*lead, count, 8))
    weights = np.left_shift(np.uint8(1), bit_places(bitorder)).astype(np.uint8)
    weighed = ops.mul(eights, ops.broadcast_numpy(ops.const(weights), eights.type.shape))
    packed = ops.reduce_sum(weighed, axes=(len(lead) + 1,))
    return wrap(ops.move_axis(packed, len(lead), k))


@traces(np.unpackbits)
def unpackbits(a: Any, /, axis: Any = None, count: Any = None, bitorder: str = "big") -> Tracer:
    x = strong(a)
    check_bits("unpackbits", x, "u", bitorder)
    if x._node.type.dtype is not u8:
        raise TypeError("Expected an input array of unsigned byte data type")
    if axis is None:
        x, axis = ravel(x), 0
    k = one_axis(axis, x.ndim)
    line = ops.move_axis(to_node(x), k, x.ndim - 1)
    *lead, n = line.type.shape
    spread = ops.broadcast(line, (*lead, n, 8), range(len(lead) + 1))
    shifts = ops.broadcast_numpy(ops.const(bit_places(bitorder)), spread.type.shape)
    bits = ops.bit_and(ops.shift_right(spread, shifts), ops.like(spread, 1))
    flat = wrap(ops.reshape_to(bits, (*lead, 8 * n)))
    wanted = 8 * n if count is None else int(count) if count >= 0 else max(8 * n + int(count), 0)
    if wanted > 8 * n:
        more = np.zeros((*lead, wanted - 8 * n), np.uint8)
        flat = wrap(ops.concatenate(to_node(flat), to_node(more), axis=len(lead)))
    return wrap(ops.move_axis(to_node(flat[..., :wanted]), len(lead), k))


def check_bits(name: str, x: Tracer, kinds: str, bitorder: str) -> None:
    if x._node.type.dtype.kind not in kinds:
        raise TypeError("Expected an input array of integer or boolean data type")
    if bitorder not in ("big", "little"):
        raise ValueError(f"'order' must be either 'little' or 'big' (got {bitorder!r})")
    if x.ndim == 0 and name == "packbits":
        raise UnsupportedError("np.packbits takes arrays of at least one axis")


def bit_places(bitorder: str) -> np.ndarray:
    return np.arange(8, dtype=np.uint8)[:: -1 if bitorder == "big" else 1].copy()
