"""The cotangents of one node's operands: by its op's rule, with the conditions of ``where`` kept outside.

``np.where(x > 0, np.sqrt(x), 0)`` has no derivative by the root where x is 0, though that of the root alone is infinite there:
0 · ∞ must not arise. So a cotangent that a ``select`` makes 0 stays a select while it passes through rules, which are linear
in it: ``rule(select(c, g, 0))`` is ``select(c, rule(g), 0)``.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Container, Sequence
from typing import Any

from graphc.ir import Node
from graphc.ops.arithmetic import add, bit_not, bit_or, cast, select
from graphc.ops.base import const, constant_value, zeros
from graphc.ops.movement import pad, reshape_to, slice_


def by_rule(node: Node, ct: Any, wanted: Container[Node]) -> Sequence[Node | None]:
    """The cotangents of the operands of ``node`` by its op's rule; of those not ``wanted`` none is made, where it can be."""
    op, inputs, attrs = node.op, node.inputs, dict(node.attrs)
    if op.partials is None:
        assert op.vjp is not None
        return op.vjp(ct, node, *inputs, **attrs)
    pairs = zip(op.partials, inputs, strict=True)
    return [partial(ct, node, *inputs, **attrs) if partial and x in wanted else None for partial, x in pairs]


def parts_of(node: Node, ct: Any, sources: Collection[Node], wanted: Container[Node]) -> Sequence[Node | None]:
    """The cotangents of those operands of ``node`` that are ``wanted``.

    A cotangent ``select(c, g, 0)`` passes ops that move or add elements inside the select, ``select(c, rule(g), 0)``: where c
    does not hold there is no derivative, also where a rule has an infinite factor (``np.where(x > 0, np.sqrt(x), 0)`` at 0).
    ``sources`` are where the walk ends: no rule follows there, so ops that would rebuild the condition need not.
    """
    if not isinstance(ct, Node) or ct.op not in (select, add) or (ct.op is add and node.op is add):
        return by_rule(node, ct, wanted)
    masks, inner = unmasked(ct)
    ends = node.op.name in REBUILDING and all(x in sources for x in node.inputs)
    behind = [None if ends else masks_behind(node, condition, side) for condition, side in masks]
    stays = [mask for mask, conditions in zip(masks, behind, strict=True) if conditions is None]
    passes = [(conditions, side) for (_, side), conditions in zip(masks, behind, strict=True) if conditions is not None]
    if not passes:
        return by_rule(node, ct, wanted)
    parts = by_rule(node, masked(stays, inner), wanted)
    return [None if p is None else masked([(c[k], side) for c, side in passes], p) for k, p in enumerate(parts)]


#: Linear ops each element of whose operands reaches one element of the result or none, if not the same number of them.
REBUILDING = ("reduce_sum", "concatenate", "slice", "pad")


def masks_behind(node: Node, condition: Node, side: bool) -> Sequence[Node] | None:
    """A condition on the result of ``node`` as one on each operand, where it is: the branch ``side`` is not 0."""
    if node.op.kind == "elementwise":
        return [condition] * len(node.inputs)
    attrs = dict(node.attrs)
    if node.op.name in ("reshape", "transpose", "reduce_sum", "concatenate"):
        assert node.op.vjp is not None
        return [part for part in node.op.vjp(condition, node, *node.inputs, **attrs) if part is not None]
    if node.op.name == "slice":  # nothing comes of what is left out
        shape = node.inputs[0].type.shape
        return [pad(condition, const(not side), shape=shape, start=attrs["start"], step=attrs["step"])]
    if node.op.name == "pad" and is_constant(node.inputs[1]):
        size = node.inputs[0].type.shape
        inside = slice_(condition, start=attrs["start"], size=size, step=attrs["step"])
        return [inside, const(side)]
    if node.op.name != "broadcast_to":
        return None
    x = node.inputs[0]
    if x.type.size == node.type.size:
        return [reshape_to(condition, x.type.shape)]
    return [condition.inputs[0]] if condition.op is node.op and condition["axes"] == node["axes"] else None


def is_constant(x: Node) -> bool:
    return constant_value(x.inputs[0] if x.op is cast else x) is not None


def unmasked(ct: Node) -> tuple[list[tuple[Node, bool]], Node]:
    """The conditions under which ``ct`` is not 0, outermost first with the branch they choose, and what it is there."""
    masks: list[tuple[Node, bool]] = []
    while ct.op is select:
        condition, x, y = ct.inputs
        if constant_value(y) == 0:
            masks.append((condition, True))
            ct = x
        elif constant_value(x) == 0:
            masks.append((condition, False))
            ct = y
        else:
            break
    some = any_summand(ct)
    return (masks if some is None else [*masks, (some, True)]), ct


def any_summand(ct: Node, most: int = 8) -> Node | None:
    """Where a summand of ``ct`` is not 0, if each of them is under a condition; of sums of up to ``most`` terms."""
    terms: list[Node] = []
    waiting = [ct] if ct.op is add else []
    while waiting:
        term = waiting.pop()
        if term.op is add:
            waiting.extend(term.inputs)
        elif term.op is select and constant_value(term.inputs[2]) == 0:
            terms.append(term.inputs[0])
        elif term.op is select and constant_value(term.inputs[1]) == 0:
            terms.append(bit_not(term.inputs[0]))
        else:
            return None
        if len(terms) + len(waiting) > most:
            return None
    if any(t.op is bit_not and t.inputs[0] in terms for t in terms):  # both branches of one where: everywhere
        return None
    return functools.reduce(bit_or, dict.fromkeys(terms)) if terms else None


def masked(masks: Sequence[tuple[Node, bool]], ct: Node) -> Node:
    for condition, side in reversed(masks):
        ct = select(condition, ct, zeros(ct.type)) if side else select(condition, zeros(ct.type), ct)
    return ct


def summed(x: Node, y: Node) -> Node:
    """``x + y``; of two cotangents under the same conditions it is one under these."""
    if x.op is select and y.op is select and x.inputs[0] is y.inputs[0]:
        (masks, one), (others, other) = unmasked(x), unmasked(y)
        if masks == others and masks:
            return masked(masks, add(one, other))
    return add(x, y)
