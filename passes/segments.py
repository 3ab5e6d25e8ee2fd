"""How scatters are done: by shapes, never by threads, so that the result has the same bits everywhere.

``sorted``   The index tuples are sorted by place once (``segments``); then every place combines its own updates in order
             (``segment_reduce``), places in parallel. Scatters and gradients of gathers by one index share the sorting, and
             a constant index is sorted at compile time.
``tables``   Few places and many updates (counts, histograms): parts of a fixed size are combined in tables of their own,
             which are then combined in order.
``direct``   Few updates, or assignments: the operand is copied, or updated in place, one update after the other.
"""

from __future__ import annotations

import math

from graphc import ops
from graphc.ir import Graph, Node, rewrite
from graphc.ops.indexing import rest_axes
from graphc.ops.segments import LARGEST, segment_reduce, segments
from graphc.passes.simplify import map_bodies

#: Updates of fewer elements are combined by one thread anyway.
SMALL = 1024
#: Tables are for at least so many updates for each place; rows as wide as this are summed in registers instead.
CROWDED = 16
WIDE = 8
LARGEST_TABLE = 1 << 18  # bytes


def strategy(node: Node) -> str:
    """``sorted``, ``tables`` or ``direct``, for a ``scatter`` node."""
    x, updates, *indices = node.inputs
    count = indices[0].type.size
    places = math.prod(x.type.shape[a] for a in node["axes"])
    if node["combine"] == "set" or x.type.size == 0 or max(count, places) >= LARGEST or x.type.dtype.kind == "c":
        return "direct"
    if count < 2 or updates.type.size < SMALL or 4 * count <= places:
        return "direct"
    width = updates.type.size // count
    crowded = CROWDED * places <= count and (width < WIDE or places < 4 * WIDE)
    if len(indices) == 1 and crowded and places * width * x.type.dtype.itemsize <= LARGEST_TABLE:
        return "tables"
    return "sorted"


def by_tables(node: Node) -> bool:
    """Whether ``node`` is a scatter that is done by tables, in the form that its kernel takes."""
    if node.op is not ops.scatter or node["axes"] != (0,) or node.inputs[2].type.ndim != 1:
        return False
    return strategy(node) == "tables"


def sort_scatters(graph: Graph) -> Graph:
    """``graph`` with large scatters in the form that their kernels have."""
    graph = map_bodies(graph, sort_scatters)
    return rewrite(graph, lowered) if any(node.op is ops.scatter for node in graph.nodes) else graph


def lowered(node: Node) -> Node | None:
    """A scatter along the leading axis, or a sorted one; None where it is to stay as it is."""
    if node.op is not ops.scatter or (how := strategy(node)) == "direct":
        return None
    x, updates, *indices = node.inputs
    axes, mode, combine = node["axes"], node["mode"], node["combine"]
    if how == "tables" and by_tables(node):
        return None
    perm = (*axes, *rest_axes(x.type.ndim, axes))
    moved = ops.transpose_to(x, perm)
    extents, rest = moved.type.shape[: len(axes)], moved.type.shape[len(axes) :]
    table = ops.reshape_to(moved, (math.prod(extents), *rest))
    count = indices[0].type.size
    lines = [ops.reshape_to(index, (count,)) for index in indices]
    rows = ops.reshape_to(updates, (count, *rest))
    if how == "tables":
        result = ops.scatter(table, rows, *lines, axes=(0,), mode=mode, combine=combine)
    else:
        starts, order = ops.items(segments(*lines, extents=extents, axes=axes, mode=mode))
        result = segment_reduce(table, rows, starts, order, combine=combine)
    back = sorted(range(len(perm)), key=perm.__getitem__)
    return ops.transpose_to(ops.reshape_to(result, moved.type.shape), tuple(back))


__all__ = ["by_tables", "sort_scatters", "strategy"]
