"""Splitting long reductions into parallel parts.

A reduction with few results would keep one thread busy and all others waiting. ``reduce_sum`` of f32[4194304] becomes a
sum over f32[1024, 4096] along the second axis, whose 1024 results are summed once more. Shapes decide how many parts
there are, never threads: the result has the same bits everywhere.

The leading reduced axes stay in the first step; an axis is split where they are not enough. Splitting an axis is a reshape
that every producer can follow, so elementwise producers still share the kernel of the first step.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from graphc import ops
from graphc.ir import Graph, Node, rewrite
from graphc.passes.grouping import reduced_axes
from graphc.passes.simplify import map_bodies

#: Reductions of fewer elements per result are left alone, and so are those with at least so many results.
LONG = 1 << 16
FEW = 64
#: A part has about so many elements, all parts and results together make at most so many.
PART = 4096
MOST_PARTS = 1024
#: Nodes that are looked at before a reduction.
MOST_SEEN = 256

COMBINE: dict[str, Callable[[Node, Node], Node]] = {
    "reduce_sum": ops.add,
    "reduce_prod": ops.mul,
    "reduce_max": ops.maximum,
    "reduce_min": ops.minimum,
    "reduce_and": ops.bit_and,
    "reduce_or": ops.bit_or,
}


def split_reductions(graph: Graph) -> Graph:
    """``graph`` with every reduction of at least LONG elements into fewer than FEW results done in two steps."""
    graph = map_bodies(graph, split_reductions)
    return rewrite(graph, split) if any(map(is_long, graph.nodes)) else graph


def is_long(node: Node) -> bool:
    if node.op.name not in COMBINE:
        return False
    results = node.type.size
    return 0 < results < FEW and node.inputs[0].type.size >= LONG * results and not beside_rows(node)


def beside_rows(node: Node) -> bool:
    """Whether what ``node`` reduces depends, element by element, on reductions of its rows, of which there are many: the
    kernel of those rows then takes ``node`` along, in parts of its own."""
    x, axes = node.inputs[0], node["axes"]
    if axes != tuple(range(len(axes))):
        return False
    stack, seen = [x], {x}
    while stack and len(seen) < MOST_SEEN:
        above = stack.pop()
        if above.op.kind == "reduction":
            shape, over = above.inputs[0].type.shape, reduced_axes(above)
            if math.prod(shape) == x.type.size and over == tuple(range(len(shape) - len(over), len(shape))):
                if above.type.size >= FEW:
                    return True
        elif above.op.kind == "elementwise" or above.op.name in ("broadcast_to", "reshape"):
            new = [operand for operand in above.inputs if operand not in seen]
            seen.update(new)
            stack.extend(new)
    return False


def split(node: Node) -> Node | None:
    """The two steps of a long reduction, or None."""
    if not is_long(node):
        return None
    x, results = node.inputs[0], node.type.size
    return in_parts(node, x, node["axes"], min(x.type.size // results // PART, max(MOST_PARTS // results, 2)))


def in_parts(node: Node, x: Node, axes: tuple[int, ...], wanted: int) -> Node:
    """Reduce ``x`` in about ``wanted`` parts: the leading axes of ``axes`` one by one, the last of them split."""
    parts, kept = 1, []
    for axis in axes:
        extent = x.type.shape[axis]
        missing = -(-wanted // parts)
        if extent <= missing:
            kept.append(axis)
            parts *= extent
            if 2 * parts > wanted:
                break
            continue
        count = divisor(extent, missing)
        if count is None:
            return with_tail(node, x, axes, axis, missing)
        shape = (*x.type.shape[:axis], count, extent // count, *x.type.shape[axis + 1 :])
        x = ops.reshape(x, shape=shape)
        axes = tuple(a if a <= axis else a + 1 for a in axes)  # `axis` now counts the parts, the next is the rest of it
        axes = tuple(sorted((*axes, axis + 1)))
        kept.append(axis)
        break
    return in_two_steps(node, x, axes, kept)


def divisor(extent: int, wanted: int) -> int | None:
    """The divisor of ``extent`` nearest to ``wanted`` from below, not less than a quarter of it; else up to twice it."""
    below = range(wanted, max(wanted // 4, 1), -1)
    above = range(wanted + 1, 2 * wanted + 1)
    return next((d for d in (*below, *above) if extent % d == 0), None)


def in_two_steps(node: Node, x: Node, axes: tuple[int, ...], kept: list[int]) -> Node:
    """Reduce over ``axes`` without those ``kept`` (leading ones), then over what was kept."""
    first = tuple(a for a in axes if a not in kept)
    if not first or not kept:
        return node.op(x, axes=axes)
    partial = node.op(x, axes=first)
    left = [k for k in range(x.type.ndim) if k not in first]
    return node.op(partial, axes=tuple(left.index(a) for a in kept))


def with_tail(node: Node, x: Node, axes: tuple[int, ...], axis: int, parts: int) -> Node:
    """Where no divisor is near: the largest multiple of ``parts`` along ``axis`` in parts, the few that remain apart."""
    extent = x.type.shape[axis]
    even = extent // parts * parts
    front, tail = (along(x, axis, 0, even), along(x, axis, even, extent - even))
    return COMBINE[node.op.name](in_parts(node, front, axes, parts), node.op(tail, axes=axes))


def along(x: Node, axis: int, start: int, size: int) -> Node:
    """``size`` elements from ``start`` on along ``axis``."""
    starts = tuple(start if k == axis else 0 for k in range(x.type.ndim))
    sizes = tuple(size if k == axis else n for k, n in enumerate(x.type.shape))
    return ops.slice_(x, start=starts, size=sizes, step=(1,) * x.type.ndim)
