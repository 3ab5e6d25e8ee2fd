"""Indexing traced arrays: ints, slices, None, Ellipsis, integer arrays, in NumPy's meaning."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import GraphError, Node
from graphc.location import where
from graphc.tracing import METHODS, Tracer, UnsupportedError, broadcast_together, is_tracer, refuse, to_node, wrap
from graphc.types import bool_, i64


def getitem(x: Tracer, index: Any) -> Tracer:
    """``x[index]``. Boolean masks are refused: the shape of the result would depend on data."""
    parts = expand_ellipsis(index if isinstance(index, tuple) else (index,), x.ndim)
    node, advanced, position = basic_part(to_node(x), parts)
    if not advanced:
        return wrap(node)
    return wrap(advanced_part(node, advanced, position))


def is_advanced(part: Any) -> bool:
    return isinstance(part, (list, np.ndarray, Tracer))


def expand_ellipsis(parts: tuple[Any, ...], ndim: int) -> list[Any]:
    """``parts`` with the Ellipsis written out and missing trailing slices added; masks and bad entries refused."""
    for part in parts:
        check_part(part)
    consumed = sum(part is not None and part is not Ellipsis for part in parts)
    if consumed > ndim:
        raise IndexError(f"too many indices for array: array is {ndim}-dimensional, but {consumed} were indexed")
    where_dots = [k for k, part in enumerate(parts) if part is Ellipsis]
    if len(where_dots) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    missing = [slice(None)] * (ndim - consumed)
    if not where_dots:
        return [*parts, *missing]
    k = where_dots[0]
    return [*parts[:k], *missing, *parts[k + 1 :]]


def check_part(part: Any) -> None:
    if part is None or part is Ellipsis or isinstance(part, (int, np.integer)) and not isinstance(part, bool):
        return
    if isinstance(part, slice):
        if any(is_tracer(v) for v in (part.start, part.stop, part.step)):
            refuse(
                "a slice with a traced bound: the shape of the result would depend on data",
                "use graphc.numpy.dynamic_slice(x, starts, sizes), or np.take with np.arange(size) + start",
            )
        return
    if is_advanced(part) or isinstance(part, np.generic):
        kind = np.asarray(part).dtype.kind if not isinstance(part, Tracer) else part.dtype.kind
        if kind == "b":
            refuse(
                "indexing by a boolean mask: the shape of the result would depend on data",
                "write np.where(mask, x, 0) and reduce it, or index with integers",
            )
        if kind in "iu" or (isinstance(part, list) and not part):
            return
    raise IndexError(
        f"only integers, slices (`:`), ellipsis (`...`), None and integer arrays are valid indices, not {part!r} (at {where()})"
    )


def basic_part(node: Node, parts: list[Any]) -> tuple[Node, list[tuple[int, Any]], int]:
    """Apply ints, slices and None. Returns the node, ``(axis, index array)`` pairs left over, and where their axes go."""
    scalars_are_arrays = any(is_advanced(p) for p in parts)
    start, size, step, shape = [], [], [], []
    advanced: list[tuple[int, Any]] = []
    runs: list[int] = []  # positions of advanced entries among all entries, for NumPy's placement rule
    axis = 0
    for position, part in enumerate(parts):
        if part is None:
            shape.append(1)
            continue
        extent = node.type.shape[axis]
        if isinstance(part, (int, np.integer)) and not scalars_are_arrays:
            start.append(wrapped(int(part), axis, extent))
            size.append(1)
            step.append(1)
        elif isinstance(part, slice):
            first, stop, by = part.indices(extent)
            count = len(range(first, stop, by))
            start.append(first if count else 0)
            size.append(count)
            step.append(by)
            shape.append(count)
        else:
            start.append(0)
            size.append(extent)
            step.append(1)
            advanced.append((len(shape), part))
            runs.append(position)
            shape.append(extent)
        axis += 1
    if (tuple(start), tuple(size), tuple(step)) != ((0,) * axis, node.type.shape, (1,) * axis):
        node = ops.slice_(node, start=tuple(start), size=tuple(size), step=tuple(step))
    node = ops.reshape_to(node, shape)
    adjacent = not runs or runs[-1] - runs[0] == len(runs) - 1
    return node, advanced, advanced[0][0] if advanced and adjacent else 0


def wrapped(index: int, axis: int, extent: int) -> int:
    if not -extent <= index < extent:
        raise IndexError(f"index {index} is out of bounds for axis {axis} with size {extent}")
    return index % extent


def advanced_part(node: Node, advanced: list[tuple[int, Any]], position: int) -> Node:
    """One gather over all integer index arrays, then their axes moved to where NumPy puts them."""
    indices = index_nodes([part for _, part in advanced])
    axes = tuple(axis for axis, _ in advanced)
    gathered = ops.gather(node, *indices, axes=axes, mode="raise")
    rank = indices[0].type.ndim
    order = list(range(rank, gathered.type.ndim))
    order[position:position] = range(rank)
    return ops.transpose_to(gathered, order)


def index_nodes(parts: list[Any]) -> list[Node]:
    """Index arrays as i64 nodes broadcast to one shape."""
    nodes = [to_node(np.asarray(p, dtype=np.int64) if isinstance(p, list) and not p else p) for p in parts]
    for node in nodes:
        if node.type.dtype is bool_ or not node.type.dtype.is_integer:
            raise GraphError(f"an index array must be of integers, not {node.type}")
    return broadcast_together([ops.convert(n, i64) for n in nodes])


def setitem(x: Tracer, index: Any, value: Any) -> None:
    raise UnsupportedError(
        f"assignment into a traced array is not traced yet (at {where()}); build the result with np.where, "
        "np.concatenate or np.stack, or graphc.numpy.put"
    )


METHODS["getitem"] = getitem
METHODS["setitem"] = setitem
