"""Contractions in the form that their kernels do best.

- A contraction over nothing is a product of repeated operands, and shares the kernels of what reads it.
- One row (or column) per batch member is no matrix product: the products are summed where they are made, at the speed of
  memory, with their producers and consumers.
- A result that is only read with free axes moved before the others is made that way round: those axes become batch axes,
  over which the other operand repeats (a stride of 0). What follows is then an epilogue again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphc import ops
from graphc.ir import Graph, Node, users
from graphc.ops.contraction import free_axes
from graphc.passes.simplify import map_bodies, rebuild
from graphc.types import f32, f64

#: Rows, columns and contracted elements that a contraction keeps when free axes become batch axes.
ENOUGH = 16

Axes = tuple[int, ...]


def shape_dots(graph: Graph) -> Graph:
    """``graph`` with outer products, products of single rows and rotated results of contractions rewritten."""
    graph = map_bodies(graph, shape_dots)
    if not any(node.op is ops.dot for node in graph.nodes):
        return graph
    read, outputs = users(graph.nodes), set(graph.outputs)

    def replace(node: Node, operands: tuple[Node, ...]) -> Node | None:
        if node.op is ops.transpose and node.inputs[0].op is ops.dot and operands[0].op is ops.dot:
            dot = node.inputs[0]
            return rotated(operands[0], node["axes"]) if dot not in outputs and len(read[dot]) == 1 else None
        return simpler(node, *operands) if node.op is ops.dot else None

    return rebuild(graph, replace)


def extents(x: Node, axes: Sequence[int]) -> int:
    return math.prod(x.type.shape[k] for k in axes)


def simpler(node: Node, x: Node, y: Node) -> Node | None:
    """A product of repeated operands, perhaps summed, for a contraction that is no matrix product."""
    batch, contract = node["batch"], node["contract"]
    free = [free_axes(v.type.ndim, b, c) for v, b, c in zip((x, y), batch, contract, strict=True)]
    lead = len(batch[0])
    if not contract[0]:
        over_x = {**{axis: k for k, axis in enumerate(batch[0])}, **{a: lead + k for k, a in enumerate(free[0])}}
        over_y = {
            **{axis: k for k, axis in enumerate(batch[1])},
            **{a: lead + len(free[0]) + k for k, a in enumerate(free[1])},
        }
        return ops.mul(repeated(x, over_x, node.type.shape), repeated(y, over_y, node.type.shape))
    if not lead or node.type.dtype not in (f32, f64) or node.type.size == 0 or extents(x, contract[0]) == 0:
        return None
    if extents(x, batch[0]) < ENOUGH or min(extents(x, free[0]), extents(y, free[1])) > 1:
        return None
    if extents(y, free[1]) == 1 and extents(x, free[0]) > 1:
        return summed(node, y, x, (batch[1], batch[0]), (contract[1], contract[0]), swapped=True)
    return summed(node, x, y, batch, contract, swapped=False)


def repeated(x: Node, over: dict[int, int], shape: Axes) -> Node:
    """``x`` with axis k along axis ``over[k]`` of ``shape``."""
    order = sorted(over, key=over.__getitem__)
    return ops.broadcast(ops.transpose_to(x, order), shape, [over[k] for k in order])


def summed(
    node: Node, row: Node, y: Node, batch: tuple[Axes, Axes], contract: tuple[Axes, Axes], swapped: bool
) -> Node:
    """The sum of products of ``row``, which has one element along its free axes, and ``y``, along the axes of ``y``."""
    dropped = free_axes(row.type.ndim, batch[0], contract[0])
    kept = [k for k in range(row.type.ndim) if k not in dropped]
    line = ops.reshape_to(row, tuple(row.type.shape[k] for k in kept))
    along = dict(zip((*batch[0], *contract[0]), (*batch[1], *contract[1]), strict=True))
    wide = repeated(line, {k: along[axis] for k, axis in enumerate(kept)}, y.type.shape)
    product = ops.mul(y, wide) if swapped else ops.mul(wide, y)
    total = ops.reduce_sum(product, axes=tuple(sorted(contract[1])))
    left = [k for k in range(y.type.ndim) if k not in contract[1]]
    order = [*batch[1], *free_axes(y.type.ndim, batch[1], contract[1])]
    return ops.reshape_to(ops.transpose_to(total, [left.index(k) for k in order]), node.type.shape)


def rotated(dot: Node, axes: Axes) -> Node | None:
    """``transpose(dot, axes)`` as one contraction, or None where that is none with full tiles."""
    (x, y), batch, contract = dot.inputs, dot["batch"], dot["contract"]
    free = [free_axes(v.type.ndim, b, c) for v, b, c in zip((x, y), batch, contract, strict=True)]
    lead, rows_end = len(batch[0]), len(batch[0]) + len(free[0])
    for split in range(lead, len(axes)):
        first, rest = axes[:split], axes[split:]
        if any(k < lead for k in rest):
            continue
        rows, columns = [k for k in rest if k < rows_end], [k for k in rest if k >= rows_end]
        if not (rows and columns) or sorted(rows) != rows or sorted(columns) != columns:
            continue
        if list(rest) not in ([*rows, *columns], [*columns, *rows]):
            continue
        sizes = [math.prod(dot.type.shape[k] for k in group) for group in (rows, columns)]
        if min(*sizes, extents(x, contract[0])) < ENOUGH:
            return None
        return _with_batch(dot, first, list(rest) == [*columns, *rows])
    return None


def _with_batch(dot: Node, first: Axes, exchanged: bool) -> Node:
    """``dot`` with the axes ``first`` of its result as batch axes, in this order, and its operands perhaps exchanged."""
    (x, y), batch, contract = dot.inputs, dot["batch"], dot["contract"]
    free = [free_axes(v.type.ndim, b, c) for v, b, c in zip((x, y), batch, contract, strict=True)]
    lead, rows_end = len(batch[0]), len(batch[0]) + len(free[0])
    new = ([k for k in first if k >= rows_end], [k for k in first if lead <= k < rows_end])  # what x, y repeat over
    operands, batches, contracts = [], [], []
    for side, operand in enumerate((x, y)):
        over, shift = new[side], len(new[side])
        shape = (*(dot.type.shape[k] for k in over), *operand.type.shape)
        operands.append(ops.broadcast(operand, shape, range(shift, len(shape))))
        own = (*batch[side], *free[side]) if side == 0 else batch[side]
        place = {k: shift + axis for k, axis in enumerate(own)} | {k: number for number, k in enumerate(over)}
        if side == 1:
            place |= {rows_end + n: shift + axis for n, axis in enumerate(free[1])}
        batches.append(tuple(place[k] for k in first))
        contracts.append(tuple(shift + axis for axis in contract[side]))
    if exchanged:
        operands, batches, contracts = operands[::-1], batches[::-1], contracts[::-1]
    return ops.dot(*operands, batch=tuple(batches), contract=tuple(contracts))


__all__ = ["shape_dots"]
