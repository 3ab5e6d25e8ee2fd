"""Windows that slide along axes: ``np.lib.stride_tricks.sliding_window_view``."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import Node
from graphc.numpy.diagonals import read_only
from graphc.numpy.indexing import view_of
from graphc.numpy.tables import one_axis, shape_of, traces
from graphc.tracing import Tracer, to_tracer, wrap

#: Up to this many windows are slices side by side; longer ones are gathered.
_SLICES = 16


@traces(np.lib.stride_tricks.sliding_window_view)
def sliding_window_view(
    x: Any, window_shape: Any, axis: Any = None, *, subok: bool = False, writeable: bool = False
) -> Tracer:
    """A view that cannot be written; with ``writeable`` a place may stand in several windows, which is refused when written."""
    array = to_tracer(x)
    extents = shape_of(window_shape, unknown=True)
    if any(n < 0 for n in extents):
        raise ValueError("`window_shape` cannot contain negative values")
    if axis is None:
        axes = tuple(range(array.ndim))
        if len(extents) != len(axes):
            raise ValueError(
                "Since axis is None, must provide window_shape for all dimensions of `x`; got "
                f"{len(extents)} window_shape elements and `x.ndim` is {array.ndim}."
            )
    else:
        given = axis if np.iterable(axis) else (axis,)
        axes = tuple(one_axis(operator.index(k), array.ndim) for k in given)
        if len(extents) != len(axes):
            raise ValueError(
                f"Must provide matching length window_shape and axis; got {len(extents)} window_shape elements and {len(axes)} "
                "axes elements."
            )
    left = list(array.shape)
    for k, n in zip(axes, extents, strict=True):
        if left[k] < n:
            raise ValueError("window shape cannot be larger than input array shape")
        left[k] -= n - 1
    return view_of(array, lambda base: windows_of(base, axes, extents), None if writeable else read_only)


def windows_of(node: Node, axes: Sequence[int], extents: Sequence[int]) -> Node:
    """The windows of each axis in turn, as a last axis each."""
    for k, n in zip(axes, extents, strict=True):
        node = windows_along(node, k, n)
    return node


def windows_along(node: Node, axis: int, extent: int) -> Node:
    shape = node.type.shape
    count = shape[axis] - extent + 1
    if not 0 < extent <= _SLICES:
        places = np.arange(count)[:, None] + np.arange(extent)
        chosen = wrap(node)[(*(slice(None),) * axis, places)]
        order = [k for k in range(chosen.ndim) if k != axis + 1] + [axis + 1]
        return ops.transpose_to(chosen._node, order)
    parts = []
    for first in range(extent):
        start = tuple(first if k == axis else 0 for k in range(len(shape)))
        size = tuple(count if k == axis else n for k, n in enumerate(shape))
        part = ops.slice_(node, start=start, size=size, step=(1,) * len(shape))
        parts.append(ops.reshape_to(part, (*size, 1)))
    return parts[0] if extent == 1 else ops.concatenate(*parts, axis=len(shape))
