"""Sums over the rows of a contraction's result: they join it.

The gradient of a bias adds up, over all rows, what the epilogue of a contraction has just computed. :func:`attach_columns`
moves such sums into the contraction's kernel; what follows from them stays behind. The emitter adds up groups of rows
while they are in the cache, and the groups in a second step.
"""

from __future__ import annotations

import math

from graphc.ops.contraction import free_axes
from graphc.passes.across import move, reduces_alone
from graphc.passes.grouping import CONTRACTION, ELEMENTWISE, FULL, KEPT, MAX_NODES, REDUCTION, Group, Grouping
from graphc.types import f32, f64

#: Bytes of the result from which a pass over it is worth saving: smaller ones are still in the cache (measured: a sum of
#: its own then takes no longer than what it adds to the contraction).
LEAST_BYTES = 1 << 20
#: Fewer rows are no groups.
LEAST_ROWS = 16


def attach_columns(cut: Grouping) -> None:
    """Move sums over rows into the contractions that compute what they add up."""
    for group in sorted((g for g in cut.groups if g.members), key=lambda g: (g.level, g.number)):
        if group.core != "loop" or not group.reduced or not reduces_alone(cut, group):
            continue
        host = host_of(cut, group)
        if host is not None and len(host.members) + len(group.members) <= MAX_NODES:
            move(cut, group, host)


def host_of(cut: Grouping, group: Group) -> Group | None:
    """The contraction whose epilogue computes all that ``group`` adds up, or None where there is none."""
    found: set[Group | None] = set()
    for member in group.members:
        if cut.what[member] == REDUCTION:
            node, (o,) = cut.node(member), cut.operands[member]
            root = cut.root[o]
            if node.op.name != "reduce_sum" or node.type.dtype not in (f32, f64) or not cut.pure[o] or cut.is_inline(o):
                return None
            if cut.what[root] not in (ELEMENTWISE, CONTRACTION) or cut.place[root] != FULL:
                return None
            found.add(cut.group[root])
        elif cut.place[member] != KEPT:
            return None
    if len(found) != 1:
        return None
    (host,) = found
    return host if host is not None and host.core == "contraction" and adds_rows(cut, group, host) else None


def row_axes(cut: Grouping, host: Group) -> int:
    """How many leading axes of a contraction's result are its rows; 0 where it has batch axes."""
    (dot,) = (cut.node(m) for m in host.members if cut.what[m] == CONTRACTION)
    batch, contract = dot["batch"], dot["contract"]
    return 0 if batch[0] else len(free_axes(dot.inputs[0].type.ndim, batch[0], contract[0]))


def adds_rows(cut: Grouping, group: Group, host: Group) -> bool:
    """Whether ``group`` reduces exactly the rows of the contraction, of which there are several columns."""
    assert group.reduced is not None
    count, lead = row_axes(cut, host), len(group.reduced)
    rows, columns = math.prod(host.frame[:count]), math.prod(host.frame[count:])
    exact = tuple(sorted(group.reduced)) == tuple(range(lead)) and math.prod(group.frame[:lead]) == rows
    size = math.prod(host.frame)
    large = any(size * cut.type(m).dtype.itemsize > LEAST_BYTES for m in host.members if cut.what[m] == CONTRACTION)
    return count > 0 and exact and rows >= LEAST_ROWS and columns > 1 and math.prod(group.frame) == size and large


__all__ = ["attach_columns", "row_axes"]
