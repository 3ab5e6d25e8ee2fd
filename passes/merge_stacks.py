"""Stacks that overlap become one: ``[h0, h1, h2]`` and ``[h1, h2, h3]`` are slices of ``[h0, h1, h2, h3]``.

A recurrence stacks its states twice: those that each step starts from (for the gradient of the recurrent weight) and those
that it ends with (for what is computed from them). A value can lie in one buffer only, so one of the stacks would be copied.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphc import ops
from graphc.ir import Graph, Node
from graphc.ops.movement import reshape_to
from graphc.passes.simplify import map_bodies
from graphc.passes.stacks import Join, join_nodes

Members = tuple[Node, ...]


def merge_stacks(graph: Graph) -> Graph:
    """``graph`` with overlapping stacks as slices of one.

    >>> from graphc.text import from_text
    >>> text = '''
    ... def g(x: f32[1, 8]):
    ...     v0: f32[1, 8] = exp(x)
    ...     v1: f32[2, 8] = concatenate(x, v0, axis=0)
    ...     v2: f32[1, 8] = exp(v0)
    ...     v3: f32[2, 8] = concatenate(v0, v2, axis=0)
    ...     return v1, v3'''
    >>> print(merge_stacks(from_text(text)))
    def g(x: f32[1, 8]):
        v0: f32[1, 8] = exp(x)
        v1: f32[1, 8] = exp(v0)
        v2: f32[3, 8] = concatenate(x, v0, v1, axis=0)
        v3: f32[2, 8] = slice(v2, size=(2, 8), start=(0, 0), step=(1, 1))
        v4: f32[2, 8] = slice(v2, size=(2, 8), start=(1, 0), step=(1, 1))
        return v3, v4
    """
    graph = map_bodies(graph, merge_stacks)
    joins: list[Join] = []
    first_with: dict[Node, Node] = {}
    merged: set[Node] = set()
    for node in graph.nodes:
        members = members_of(node)
        if members is None:
            continue
        for other in dict.fromkeys(first_with[m] for m in members if m in first_with):
            whole = union(members_of(other) or (), members)
            if whole is not None and not merged & {node, other}:
                merged |= {node, other}
                joins.append(merge(other, node, whole))
                break
        for member in members:
            first_with.setdefault(member, node)
    return join_nodes(graph, joins)


def members_of(node: Node) -> Members | None:
    """What a concatenation along the first axis stacks, one index each; None where it is none."""
    if node.op is not ops.concatenate or node["axis"] != 0 or any(i.type.shape[0] != 1 for i in node.inputs):
        return None
    members = tuple(
        i.inputs[0] if i.op is ops.reshape and i.inputs[0].type.shape == i.type.shape[1:] else i for i in node.inputs
    )
    return members if len(set(members)) == len(members) and len({m.type for m in members}) == 1 else None


def union(left: Members, right: Members) -> Members | None:
    """The shortest sequence in which both stand, where one continues the other; None where they do not overlap so."""
    if left[0].type != right[0].type:
        return None
    at = {member: k for k, member in enumerate(left)}
    shift = next(at[m] - k for k, m in enumerate(right) if m in at)
    if shift < 0:
        return union(right, left) if right[-shift] is left[0] else None
    common = left[shift:]
    if len(right) <= len(common):
        return left if common[: len(right)] == right else None
    if right[: len(common)] != common or set(right[len(common) :]) & set(left):
        return None
    return left + right[len(common) :]


def merge(left: Node, right: Node, whole: Members) -> Join:
    """Both stacks as slices of the stack of ``whole``."""

    def make(new: Mapping[Node, Node]) -> list[Node]:
        shape = left.type.shape[1:]
        joined = ops.concatenate(*[reshape_to(new[m], (1, *shape)) for m in whole], axis=0)
        return [part(joined, whole.index(members_of(node)[0]), node) for node in (left, right)]  # type: ignore[index]

    return Join((left, right), whole, make)


def part(joined: Node, first: int, node: Node) -> Node:
    if joined.type == node.type:
        return joined
    start = (first, *(0 for _ in node.type.shape[1:]))
    return ops.slice_(joined, start=start, size=node.type.shape, step=(1,) * node.type.ndim)
