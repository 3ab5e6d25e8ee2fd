"""Sums over the rows of what a row kernel computes: they join it.

The gradients of a layer norm's scale and bias add up, over all rows, values that the kernel of the gradient of its input
has at hand row by row. The reduced axes differ (the rows there, their places here), so the rules of one kernel keep the
two apart, and the summands go through memory. Where a reduction runs over exactly the axes that a row kernel keeps, or over
all axes, and what it reads is computed in that kernel or read by it anyway, :func:`attach` moves it there, with what leads
to it; what follows from its results stays behind. Emitters combine partial results of chunks of rows in a second step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from graphc.passes.grouping import (
    ACROSS,
    FULL,
    KEPT,
    MAX_BUFFERS,
    MAX_NODES,
    REDUCTION,
    Fit,
    Group,
    Grouping,
    Misfit,
    kept_shape,
)  # fmt: skip

#: With fewer rows the partial results of the chunks would be as much as the rows.
LEAST_ROWS = 16
COMBINED = ("reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_and", "reduce_or")


def attach(cut: Grouping) -> None:
    """Move reductions across rows into the row kernels that compute, or read, what they reduce."""
    for group in sorted((g for g in cut.groups if g.members), key=lambda g: (g.level, g.number)):
        if group.core != "loop" or group.reduced is None or not reduces_alone(cut, group):
            continue
        for host in hosts(cut, group):
            try:
                check(cut, group, host)
            except Misfit as why:
                for root in group.externals:
                    if cut.group[root] is host:
                        for r in cut.readers[root]:
                            if cut.group[r] is group:
                                cut.reasons[root, r] = str(why)
                continue
            move(cut, group, host)
            break


def reduces_alone(cut: Grouping, group: Group) -> bool:
    """Whether the reductions of ``group`` are its last loop over the elements, and of a kind that partial results have."""
    for member in group.members:
        if cut.place[member] == FULL:
            if any(cut.group[cut.root[o]] is group and cut.place[cut.root[o]] != FULL for o in cut.reads(member)):
                return False
        elif cut.place[member] != KEPT:
            return False
        elif cut.what[member] == REDUCTION and cut.node(member).op.name not in COMBINED:
            return False
    return True


def hosts(cut: Grouping, group: Group) -> Iterable[Group]:
    """Row kernels that compute what ``group`` reads at full size; then those beside it that read the same."""
    size = math.prod(group.frame)
    roots = [root for root in group.externals if cut.type(root).size == size]
    found: dict[Group, None] = {}
    for root in roots:
        producer = cut.group[root]
        if producer is not None:
            found[producer] = None
    for root in roots:
        for reader in cut.readers[root]:
            other = cut.group[reader]
            if other is not None and other.level == group.level:
                found[other] = None
    found.pop(group, None)
    return [g for g in found if g.core == "loop" and is_rows(g) and math.prod(g.frame) == size]


def is_rows(group: Group) -> bool:
    """Whether ``group`` reduces its last axes, for many places of the others."""
    if not group.reduced:
        return False
    first = group.reduced[0]
    rows, length = math.prod(group.frame[:first]), math.prod(group.frame[first:])
    return group.reduced == tuple(range(first, len(group.frame))) and rows >= LEAST_ROWS and length > 1


def check(cut: Grouping, group: Group, host: Group) -> None:
    """Raise Misfit unless ``host`` can take the reductions of ``group``."""
    assert host.reduced is not None and group.reduced is not None
    over = tuple(sorted(group.reduced))
    rows = math.prod(host.frame[: host.reduced[0]])
    is_total = len(over) == len(group.frame)
    is_columns = over == tuple(range(len(over))) and math.prod(group.frame[: len(over)]) == rows
    if not (is_total or is_columns):
        raise Misfit("the reduced axes differ")
    if len(group.members) + len(host.members) > MAX_NODES:
        raise Misfit(f"a kernel holds at most {MAX_NODES} nodes")
    if len(group.externals | host.externals) > MAX_BUFFERS:
        raise Misfit(f"a kernel reads at most {MAX_BUFFERS} buffers")
    fit = Fit(host.frame, host.reduced, "loop", {host: FULL, group: FULL})
    for member in group.members:
        if cut.what[member] == REDUCTION:
            check_summand(cut, cut.operands[member][0], fit)
        elif cut.place[member] == FULL:
            cut.check_reads(member, fit, FULL)
    others = {g for root in reads_before(cut, group) if (g := cut.group[root]) is not None} - {host, group}
    top = max((g.level for g in others), default=0)
    if top > host.level or (top == host.level and not cut.raise_level(host)):
        raise Misfit("it also reads what is computed later")


def reads_before(cut: Grouping, group: Group) -> set[int]:
    """The items that the members which would move read."""
    moving = [m for m in group.members if cut.place[m] == FULL or cut.what[m] == REDUCTION]
    return {cut.root[o] for m in moving for o in cut.reads(m) if not cut.is_inline(o)}


def check_summand(cut: Grouping, o: int, fit: Fit) -> None:
    root = cut.root[o]
    if cut.is_inline(o):
        raise Misfit("a number is reduced")
    if cut.group[root] in fit.places:
        if cut.place_in(root, fit) != FULL or not cut.pure[o]:
            raise Misfit("a reduction reads what another reduction of the kernel has finished")
    elif not cut.pure[o] and cut.strides_at(o, fit.frame) is None:
        raise Misfit("an operand has no strides in the shape of the loops")


def move(cut: Grouping, group: Group, host: Group) -> None:
    """Give the reductions of ``group``, and what leads to them, to ``host``."""
    assert group.reduced is not None
    tail = [m for m in group.members if cut.place[m] == KEPT and cut.what[m] != REDUCTION]
    for member in group.members:
        if member not in tail:
            cut.group[member] = host
            cut.place[member] = ACROSS if cut.what[member] == REDUCTION else FULL
            host.members.append(member)
    group.members = tail
    if tail:
        group.frame, group.reduced = kept_shape(group.frame, group.reduced), None
        for member in tail:
            cut.place[member] = FULL
        host.read_by[group] = None
        cut.recount(group)
        if group.level <= host.level:
            cut.raise_level(group)
    else:
        group.externals, group.into = {}, host
        host.read_by.update(group.read_by)
    cut.recount(host)
    for root in host.externals:
        producer = cut.group[root]
        if producer is not None:
            producer.read_by[host] = None
