"""Joining pads: the sum of zero-padded pieces that lie side by side is their concatenation.

The cotangent of a tensor that was taken apart by slices (the gates of an LSTM, the heads of an attention layer) is a sum of
pads, one per slice: as many tensors of full size as there are pieces, nearly all of it zeros. Where the pieces do not
overlap each place of the sum is one element plus zeros, so it is read once and written once. The result has the same
bits: a piece is added to ``0.0``, which is what the sum does to ``-0.0``.
"""

from __future__ import annotations

from graphc import ops
from graphc.ir import Graph, Node, users
from graphc.ops.base import constant_value
from graphc.passes.simplify import map_bodies, rebuild
from graphc.types import TensorType

Terms = tuple[Node, ...]


def join_pads(graph: Graph) -> Graph:
    """``graph`` with every sum of zero pads that lie side by side along one axis as a concatenation.

    >>> from graphc.text import from_text
    >>> text = '''
    ... def g(x: f32[2], y: f32[3]):
    ...     v0: f32 = const(f32, 0.0)
    ...     v1: f32[5] = pad(x, v0, shape=(5,), start=(0,), step=(1,))
    ...     v2: f32[5] = pad(y, v0, shape=(5,), start=(2,), step=(1,))
    ...     v3: f32[5] = add(v1, v2)
    ...     return v3'''
    >>> print(join_pads(from_text(text)))
    def g(x: f32[2], y: f32[3]):
        v0: f32 = const(f32, 0.0)
        v1: f32[2] = broadcast_to(v0, axes=(), shape=(2,))
        v2: f32[2] = add(x, v1)
        v3: f32[3] = broadcast_to(v0, axes=(), shape=(3,))
        v4: f32[3] = add(y, v3)
        v5: f32[5] = concatenate(v2, v4, axis=0)
        return v5
    """
    graph = map_bodies(graph, join_pads)
    sums = sums_of_pads(graph)
    layouts = {node: side_by_side(pads) for node, pads in sums.items()}
    if not any(layouts.values()):
        return graph
    pieces = {pad: pad.inputs[0] for pads in sums.values() for pad in pads}
    made: dict[Node, Node] = {}

    def replace(node: Node, operands: tuple[Node, ...]) -> Node | None:
        if node in pieces:
            made[node] = operands[0]
        layout = layouts.get(node)
        return None if layout is None else concatenation(node.type, *layout, made)

    return rebuild(graph, replace)


def sums_of_pads(graph: Graph) -> dict[Node, Terms]:
    """Every sum whose terms are all zero pads, with its terms; a sum that is only part of another is left out."""
    readers = users(graph.nodes)
    outputs = set(graph.outputs)
    terms: dict[Node, Terms] = {}
    for node in graph.nodes:
        if is_zero_pad(node):
            terms[node] = (node,)
        elif node.op is ops.add and all(i in terms and alone(i, readers, outputs) for i in node.inputs):
            terms[node] = tuple(pad for i in node.inputs for pad in terms[i])
    inner = {i for node in terms if node.op is ops.add for i in node.inputs}
    return {node: pads for node, pads in terms.items() if node.op is ops.add and node not in inner}


def alone(node: Node, readers: dict[Node, list[Node]], outputs: set[Node]) -> bool:
    """Whether nothing but one sum reads ``node``: it is gone when the sum is."""
    return len(readers[node]) == 1 and node not in outputs


def is_zero_pad(node: Node) -> bool:
    """A pad by ``0``, not ``-0.0``, without gaps between the elements."""
    if node.op is not ops.pad or any(by != 1 for by in node["step"]) or node.type.size == 0:
        return False
    fill = constant_value(node.inputs[1])
    return fill is not None and fill.tobytes() == bytes(fill.nbytes)


def side_by_side(pads: Terms) -> tuple[int, Terms] | None:
    """The axis along which the pieces lie side by side, and the pads in that order; None where there is none."""
    shape = pads[0].type.shape
    axes = [k for k in range(len(shape)) if any(p.inputs[0].type.shape[k] != shape[k] for p in pads)]
    if len(axes) != 1:
        return None
    (axis,) = axes
    ordered = tuple(sorted(pads, key=lambda p: (p["start"][axis], p.inputs[0].type.shape[axis])))
    end = 0
    for pad in ordered:
        if pad["start"][axis] < end:
            return None
        end = pad["start"][axis] + pad.inputs[0].type.shape[axis]
    return axis, ordered


def concatenation(type: TensorType, axis: int, pads: Terms, made: dict[Node, Node]) -> Node:
    """The pieces (``made`` has them by pad) and zeros between them."""
    parts: list[Node] = []
    end = 0

    def zeros_until(start: int) -> None:
        if start > end:
            shape = (*type.shape[:axis], start - end, *type.shape[axis + 1 :])
            parts.append(ops.zeros(TensorType(type.dtype, shape)))

    for pad in pads:
        zeros_until(pad["start"][axis])
        parts.append(plus_zero(made[pad]))
        end = pad["start"][axis] + pad.inputs[0].type.shape[axis]
    zeros_until(type.shape[axis])
    return ops.concatenate(*parts, axis=axis)


def plus_zero(x: Node) -> Node:
    return ops.add(x, ops.zeros(x.type)) if x.type.dtype.is_inexact else x
