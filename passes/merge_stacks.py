"""Stacks that overlap become one: ``[h0, h1, h2]`` and ``[h1, h2, h3]`` are slices of ``[h0, h1, h2, h3]``.

A recurrence stacks its states twice: those that each step starts from (for the gradient of the recurrent weight) and those
that it ends with (for what is computed from them). A value can lie in one buffer only, so one of the stacks would be copied.

Stacking along another axis than the first, ``np.stack(states, axis=1)``, would be a copy too: it becomes an access of the
stack along the first axis, where the kernels that compute the states can write them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from graphc import ops
from graphc.ir import Graph, Node
from graphc.ops.movement import move_axis
from graphc.passes.simplify import map_bodies
from graphc.passes.stacks import Join, is_placed, join_nodes, reshaped

Members = tuple[Node, ...]


def merge_stacks(graph: Graph) -> Graph:
    """``graph`` with overlapping stacks as slices of one, the members along its first axis.

    >>> from graphc.text import from_text
    >>> text = '''
    ... def g(x: f32[8]):
    ...     v0: f32[8] = exp(x)
    ...     v1: f32[1, 8] = reshape(x, shape=(1, 8))
    ...     v2: f32[1, 8] = reshape(v0, shape=(1, 8))
    ...     v3: f32[2, 8] = concatenate(v1, v2, axis=0)
    ...     v4: f32[8] = exp(v0)
    ...     v5: f32[8, 1] = reshape(v0, shape=(8, 1))
    ...     v6: f32[8, 1] = reshape(v4, shape=(8, 1))
    ...     v7: f32[8, 2] = concatenate(v5, v6, axis=1)
    ...     return v3, v7'''
    >>> print(merge_stacks(from_text(text)))
    def g(x: f32[8]):
        v0: f32[1, 8] = reshape(x, shape=(1, 8))
        v1: f32[8] = exp(x)
        v2: f32[1, 8] = reshape(v1, shape=(1, 8))
        v3: f32[8] = exp(v1)
        v4: f32[1, 8] = reshape(v3, shape=(1, 8))
        v5: f32[3, 8] = concatenate(v0, v2, v4, axis=0)
        v6: f32[2, 8] = slice(v5, size=(2, 8), start=(0, 0), step=(1, 1))
        v7: f32[2, 8] = slice(v5, size=(2, 8), start=(1, 0), step=(1, 1))
        v8: f32[8, 2] = transpose(v7, axes=(1, 0))
        return v6, v8
    """
    graph = map_bodies(graph, merge_stacks)
    outputs = set(graph.outputs)
    merged: dict[Node, list[Node]] = {}  # the first of some stacks -> all of them
    whole: dict[Node, Members] = {}
    first_with: dict[Node, Node] = {}
    for node in graph.nodes:
        members = members_of(node)
        if members is None or not (node["axis"] == 0 or all(is_placed(m, outputs) for m in members)):
            continue
        home = next((first_with[m] for m in members if m in first_with), None)
        both = None if home is None else union(whole[home], members)
        if home is None or both is None:
            home, both = node, members
            merged[node] = []
        merged[home].append(node)
        whole[home] = both
        for member in members:
            first_with.setdefault(member, home)
    joins = [
        merge(nodes, whole[home])
        for home, nodes in merged.items()
        if len(nodes) > 1 or math.prod(home.type.shape[: home["axis"]]) != 1
    ]
    return join_nodes(graph, joins)


def members_of(node: Node, axis: int | None = None) -> Members | None:
    """What a concatenation stacks, one index each, along ``axis`` (None: any); None where it is none."""
    if node.op is not ops.concatenate or axis not in (None, node["axis"]):
        return None
    at = node["axis"]
    if any(i.type.shape[at] != 1 for i in node.inputs):
        return None
    shape = (*node.type.shape[:at], *node.type.shape[at + 1 :])
    members = tuple(i.inputs[0] if i.op is ops.reshape and i.inputs[0].type.shape == shape else i for i in node.inputs)
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


def merge(nodes: Sequence[Node], whole: Members) -> Join:
    """All of ``nodes`` as slices of the stack of ``whole``."""

    def make(new: Mapping[Node, Node]) -> list[Node]:
        axis = nodes[0]["axis"]
        shape = (*nodes[0].type.shape[:axis], *nodes[0].type.shape[axis + 1 :])
        joined = ops.concatenate(*[reshaped(new[m], (1, *shape)) for m in whole], axis=0)
        return [part(joined, whole, node) for node in nodes]

    return Join(tuple(nodes), whole, make)


def part(joined: Node, whole: Members, node: Node) -> Node:
    """``node`` as a slice of the stack ``joined`` of ``whole``, its axes in their order."""
    members = members_of(node)
    assert members is not None
    shape = (len(members), *joined.type.shape[1:])
    if joined.type.shape != shape:
        start = (whole.index(members[0]), *(0 for _ in shape[1:]))
        joined = ops.slice_(joined, start=start, size=shape, step=(1,) * len(shape))
    return move_axis(joined, 0, node["axis"])
