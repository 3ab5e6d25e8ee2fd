"""What makes the updates of a segment is computed where they are combined: gathered rows times a weight are never written.

Gathers and cheap elementwise nodes are computed anew in every kernel that combines them, so that neither a scatter nor the
gradient of its weights needs the matrix of messages; what takes longer moves only where nothing else reads it.
"""

from __future__ import annotations

import math

from graphc.passes.grouping import (
    ELEMENTWISE,
    GATHER,
    SCALAR,
    SEGMENT,
    SOURCE,
    Group,
    Grouping,
    Shape,
    index_axis,
    index_shape,
)  # fmt: skip

#: Rows of updates narrower than this leave most lanes empty: they are computed before they are combined.
FEW_LANES = 4
#: Items that are computed anew for the updates of a segment: so many, and, where others read them as well, only these.
MAX_PRODUCED = 16
CHEAP = frozenset("add sub mul neg abs select cast maximum minimum eq ne lt le gt ge".split())


def absorb(cut: Grouping) -> None:
    """Compute the updates of segments where they are combined: gathered rows times a weight are never written."""
    for item in cut.order:
        group = cut.group[item]
        if cut.what[item] == SEGMENT and group is not None:
            produced = producers(cut, item)
            if produced:
                absorb_into(cut, item, group, produced)


def producers(cut: Grouping, item: int) -> dict[int, None]:
    """The items that make the updates of segment ``item`` and are better computed anew, element by element."""
    node = cut.nodes[item]
    shape = node.inputs[1].type.shape
    operands = cut.operands[item][1:2]
    if node.op.name == "scatter" and len(shape) == 1:
        operands = cut.operands[item][1:3]  # sixteen updates and their places at once
    elif math.prod(shape[1:]) < FEW_LANES:
        return {}
    found: dict[int, None] = {}
    for o in operands:
        if not cut.is_inline(o) and cut.pure[o]:
            produces(cut, cut.root[o], shape, item, found)
    exact = node["combine"] == "add" or all(cut.what[k] == GATHER for k in found)
    return found if exact else {}  # what wins a minimum must have the bits that others compare it with


def produces(cut: Grouping, root: int, shape: Shape, segment: int, found: dict[int, None]) -> bool:
    """Enter ``root``, and what it needs, into ``found``, where it can be computed at ``shape`` and is not stored anyway."""
    if root in found:
        return True
    group = cut.group[root]
    if cut.what[root] not in (ELEMENTWISE, GATHER) or group is None or group.core != "loop" or root in cut.is_output:
        return False
    if len(found) >= MAX_PRODUCED or cut.type(root).size != math.prod(shape):
        return False
    node, operands = cut.nodes[root], cut.operands[root]
    if cut.what[root] == GATHER:
        lead = index_shape(node, shape)
        if lead is None or not all(readable(cut, o, lead) for o in operands[1:]):
            return False
        found[root] = None
        return True
    readers = [r for r in cut.readers[root] if r != segment and r not in found]
    stored = any(cut.group[r] is not group and cut.what[r] != SEGMENT for r in readers)
    if stored or node.op.name == "iota" or (readers and node.op.name not in CHEAP):
        return False
    before = dict(found)
    found[root] = None
    for o in operands:
        if cut.is_inline(o) or not cut.pure[o] or not produces(cut, cut.root[o], shape, segment, found):
            if not readable(cut, o, shape):
                found.clear()
                found.update(before)
                return False
    return True


def readable(cut: Grouping, o: int, shape: Shape) -> bool:
    """Whether loops over ``shape`` can read operand ``o`` from memory, or compute it on the spot."""
    if cut.is_inline(o):
        return cut.what[cut.root[o]] == SCALAR or index_axis(cut.nodes[o], shape) is not None
    return cut.pure[o] or cut.strides_at(o, shape) is not None


def absorb_into(cut: Grouping, item: int, group: Group, produced: dict[int, None]) -> None:
    group.produced = dict.fromkeys(sorted(produced, key=cut.position.__getitem__))
    for first in {cut.root[o] for o in cut.operands[item]} & produced.keys():
        cut.readers[first].remove(item)
        group.externals.pop(first, None)
    for member in group.produced:
        for o in cut.operands[member]:
            root = cut.root[o]
            if root not in produced and not (cut.is_inline(o) and cut.what[member] != GATHER):
                if item not in cut.readers[root]:
                    cut.readers[root].append(item)
                if cut.group[root] is not None or cut.what[root] == SOURCE:
                    group.externals[root] = None
    for member in reversed(group.produced):
        owner = cut.group[member]
        if owner is not None and not cut.readers[member] and member not in cut.is_output:
            owner.members.remove(member)
            cut.recount(owner)
            for root in {cut.root[o] for o in cut.operands[member]}:
                if member in cut.readers[root]:
                    cut.readers[root].remove(member)
