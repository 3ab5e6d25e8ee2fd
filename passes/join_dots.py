"""Contractions that share an operand and do not depend on each other become one over the stack of the other operands.

The input projections of an unrolled recurrence, ``x[:, t] @ W`` for every t, are one contraction with as many rows as all
of them together: W is read and packed once, and there are enough rows for every core. The results are slices.

Bytes decide here too: joining saves reading the shared operand again for each of them, and costs the copies of operands
that do not lie side by side, and writing and reading the results where an epilogue would have taken them from registers.
What is read again comes from a cache more often than what is copied: it counts half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphc import ops
from graphc.ir import Graph, Node, users
from graphc.passes.merge_stacks import members_of
from graphc.passes.simplify import map_bodies
from graphc.passes.stacks import Join, along, copied_bytes, join_nodes, needs, run_of, stack

#: Most contractions that are joined into one.
MOST = 4096

Dots = tuple[Node, ...]


def join_dots(graph: Graph) -> Graph:
    """``graph`` with independent contractions that share an operand as one, where that moves fewer bytes.

    >>> from graphc.text import from_text
    >>> text = '''
    ... def g(x: f32[2, 2, 32], w: f32[32, 64]):
    ...     v0: f32[1, 2, 32] = slice(x, size=(1, 2, 32), start=(0, 0, 0), step=(1, 1, 1))
    ...     v1: f32[2, 32] = reshape(v0, shape=(2, 32))
    ...     v2: f32[2, 64] = dot(v1, w, batch=((), ()), contract=((1,), (0,)))
    ...     v3: f32[1, 2, 32] = slice(x, size=(1, 2, 32), start=(1, 0, 0), step=(1, 1, 1))
    ...     v4: f32[2, 32] = reshape(v3, shape=(2, 32))
    ...     v5: f32[2, 64] = dot(v4, w, batch=((), ()), contract=((1,), (0,)))
    ...     return v2, v5'''
    >>> print(join_dots(from_text(text)))
    def g(x: f32[2, 2, 32], w: f32[32, 64]):
        v0: f32[2, 2, 64] = dot(x, w, batch=((), ()), contract=((2,), (0,)))
        v1: f32[1, 2, 64] = slice(v0, size=(1, 2, 64), start=(0, 0, 0), step=(1, 1, 1))
        v2: f32[2, 64] = reshape(v1, shape=(2, 64))
        v3: f32[1, 2, 64] = slice(v0, size=(1, 2, 64), start=(1, 0, 0), step=(1, 1, 1))
        v4: f32[2, 64] = reshape(v3, shape=(2, 64))
        return v2, v4
    """
    graph = map_bodies(graph, join_dots)
    groups = candidates(graph)
    if not groups:
        return graph
    reads, outputs = users(graph.nodes), set(graph.outputs)
    dependent = dependent_groups(graph, [dots for _, dots in groups])
    joins: list[Join] = []
    taken: set[Node] = set()
    for k, (side, dots) in enumerate(groups):
        if k not in dependent and taken.isdisjoint(dots) and pays(side, dots, reads, outputs):
            taken.update(dots)
            joins.append(joined(side, dots))
    return join_nodes(graph, joins)


def candidates(graph: Graph) -> list[tuple[int, Dots]]:
    """Contractions of one form with one operand in common; ``side`` numbers the operand that differs. Large groups first."""
    groups: dict[Any, dict[Node, None]] = {}
    for node in graph.nodes:
        if node.op is ops.dot:
            for side in range(2):
                other, shared = node.inputs[side], node.inputs[1 - side]
                if other is not shared:
                    key = (side, shared, other.type, node["batch"], node["contract"])
                    groups.setdefault(key, {})[node] = None
    found = [(key[0], tuple(group)) for key, group in groups.items() if 2 <= len(group) <= MOST]
    stacks = {frozenset(members): members for node in graph.nodes if (members := members_of(node, axis=0)) is not None}
    return sorted(((side, in_order(side, dots, stacks)) for side, dots in found), key=lambda g: -len(g[1]))


def in_order(side: int, dots: Dots, stacks: Mapping[frozenset[Node], Dots]) -> Dots:
    """The order in which the operands lie in memory, or are stacked anyway, else that of the program."""
    operands = [dot.inputs[side] for dot in dots]
    run = run_of(operands)
    if run is not None:
        return tuple(dots[k] for k in run.order)
    have = stacks.get(frozenset(operands))
    if have is None:
        return dots
    of = dict(zip(operands, dots, strict=True))
    return tuple(of[member] for member in have) if len(of) == len(dots) else dots


def dependent_groups(graph: Graph, groups: Sequence[Dots]) -> set[int]:
    """The groups in which one member needs another: a bit for each group that a node needs a member of."""
    own: dict[Node, int] = {}
    for k, dots in enumerate(groups):
        for dot in dots:
            own[dot] = own.get(dot, 0) | 1 << k
    needed: dict[Node, int] = {}
    wrong = 0
    for node in graph.nodes:
        below = 0
        for operand in node.inputs:
            below |= needed[operand]
        mine = own.get(node, 0)
        wrong |= below & mine
        needed[node] = below | mine
    return {k for k in range(len(groups)) if wrong >> k & 1}


def pays(side: int, dots: Dots, reads: Mapping[Node, list[Node]], outputs: set[Node]) -> bool:
    """Whether one contraction moves fewer bytes than ``dots``."""
    saved = (len(dots) - 1) * dots[0].inputs[1 - side].type.nbytes
    cost = copied_bytes([dot.inputs[side] for dot in dots], outputs)
    for dot in dots:
        if dot in outputs:
            cost += 2 * dot.type.nbytes
        elif any(reader.op.kind == "elementwise" for reader in reads[dot]):
            cost += 2 * dot.type.nbytes
    return saved > cost


def joined(side: int, dots: Dots) -> Join:
    """One contraction over the stack of the operands on ``side``; each of ``dots`` is a slice of it."""
    members = [dot.inputs[side] for dot in dots]
    shared = dots[0].inputs[1 - side]
    flags = (side == 0, side == 1)
    attrs = {"batch": dots[0]["batch"], "contract": dots[0]["contract"]}

    def make(new: Mapping[Node, Node]) -> list[Node]:
        operands = [new[shared], new[shared]]
        operands[side] = stack(members, new)
        assert ops.dot.batch is not None
        result = ops.dot.batch(len(dots), flags, *operands, **attrs)
        return [along(result, k, dot.type.shape) for k, dot in enumerate(dots)]

    return Join(dots, (shared, *needs(members)), make)
