"""Operands of many small contractions, transposed once.

A kernel of a contraction reads the columns of its right operand side by side. Where they lie one below the other, it
packs them first, which many rows pay for and few do not: the 64 steps of an unrolled recurrence multiply 32 rows each by
the same transposed weight. From MANY such contractions on, the operand is transposed in a kernel of its own (a
concatenation of one part is a copy in memory) and all of them read the copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphc import ops
from graphc.ir import Graph, Node
from graphc.ops.contraction import free_axes
from graphc.passes.access import access
from graphc.passes.simplify import map_bodies, rebuild
from graphc.types import f32, f64

#: Contractions that share an operand; their rows (with fewer, dot products along the depth are as fast, with more, packing
#: costs little); columns and depth at least.
MANY = 4
FEWEST_ROWS, MOST_ROWS = 9, 48
LEAST = 16

Key = tuple[Node, tuple[int, ...]]


def pack_operands(graph: Graph) -> Graph:
    """``graph`` with a copy in memory of every operand that many contractions with few rows read across its lines.

    >>> from graphc.text import from_text
    >>> lines = [f"    v{k}: f32[16, 64] = dot(x{k}, w, batch=((), ()), contract=((1,), (1,)))" for k in range(4)]
    >>> header = "def g(w: f32[64, 32], " + ", ".join(f"x{k}: f32[16, 32]" for k in range(4)) + "):"
    >>> graph = from_text("\\n".join([header, *lines, "    return v0, v1, v2, v3"]))
    >>> print(pack_operands(graph))
    def g(w: f32[64, 32], x0: f32[16, 32], x1: f32[16, 32], x2: f32[16, 32], x3: f32[16, 32]):
        v0: f32[32, 64] = transpose(w, axes=(1, 0))
        v1: f32[32, 64] = concatenate(v0, axis=0)
        v2: f32[16, 64] = dot(x0, v1, batch=((), ()), contract=((1,), (0,)))
        v3: f32[16, 64] = dot(x1, v1, batch=((), ()), contract=((1,), (0,)))
        v4: f32[16, 64] = dot(x2, v1, batch=((), ()), contract=((1,), (0,)))
        v5: f32[16, 64] = dot(x3, v1, batch=((), ()), contract=((1,), (0,)))
        return v2, v3, v4, v5
    """
    graph = map_bodies(graph, pack_operands)
    readers: dict[Key, int] = {}
    for node in graph.nodes:
        if node.op is ops.dot:
            for side in across(node):
                key = key_of(node, side)
                readers[key] = readers.get(key, 0) + 1
    wanted = {key for key, count in readers.items() if count >= MANY}
    if not wanted:
        return graph
    copies: dict[Key, Node] = {}

    def replace(node: Node, operands: tuple[Node, ...]) -> Node | None:
        sides = [side for side in across(node) if key_of(node, side) in wanted] if node.op is ops.dot else []
        if not sides:
            return None
        new, contract = list(operands), list(node["contract"])
        for side in sides:
            key = key_of(node, side)
            if key not in copies:
                free = free_axes(operands[side].type.ndim, (), contract[side])
                copies[key] = ops.concatenate(ops.transpose_to(operands[side], (*contract[side], *free)), axis=0)
            new[side], contract[side] = copies[key], tuple(range(len(contract[side])))
        return ops.dot(*new, batch=node["batch"], contract=tuple(contract))

    return rebuild(graph, replace)


def key_of(dot: Node, side: int) -> Key:
    return dot.inputs[side], dot["contract"][side]


def across(dot: Node) -> list[int]:
    """The sides (0 or 1) of a contraction whose operand is worth a transposed copy, if enough others read it."""
    if dot.type.dtype not in (f32, f64) or dot["batch"] != ((), ()):
        return []
    return [side for side in (0, 1) if is_across(dot, side)]


def is_across(dot: Node, side: int) -> bool:
    x, contract = dot.inputs[side], dot["contract"][side]
    free = free_axes(x.type.ndim, (), contract)
    rows = dot.type.size // max(extent(x, free), 1)
    if not (FEWEST_ROWS <= rows <= MOST_ROWS and extent(x, free) >= LEAST and extent(x, contract) >= LEAST):
        return False
    source = x
    while source.op.name in ("transpose", "slice", "broadcast_to", "reshape"):
        source = source.inputs[0]
    found = access(x, {source})
    return found is not None and found.strides[free[-1]] != 1 and 1 in [found.strides[k] for k in contract]


def extent(x: Node, axes: Sequence[int]) -> int:
    return math.prod(x.type.shape[k] for k in axes)


__all__ = ["pack_operands"]
