"""Sums of contractions become one contraction: Σ_t x_tᵀ·δ_t is Xᵀ·Δ over the stacked x_t and δ_t.

The gradient of a weight that an unrolled loop uses at every step is such a sum. Term by term, each contraction reads and
writes a result of the weight's size; joined, the result is written once, and the depth is long enough for tiles to run at
full speed. The order of summation inside a contraction is the backend's.

Bytes decide: joining saves reading and writing the result for every further term, and costs the copies of operands that
neither lie side by side already nor can be written side by side by the kernels that compute them. So ``x @ W + h @ U`` stays
(the weights would be copied), and the gradients of W and U are joined.

A sum of reductions, or a reduction of a sum, whose operands are stacked for a contraction anyway, is one reduction of the
stack: the gradient of a bias beside that of a weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphc import ops
from graphc.ir import Graph, Node, users
from graphc.passes.simplify import map_bodies
from graphc.passes.stacks import Join, copied_bytes, join_nodes, needs, run_of, stack

#: Most terms of one joined sum: as many operands as a concatenation of them has.
MOST_TERMS = 4096

Terms = tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Sum:
    """A tree of additions: its root, the additions in it (operands first, the root last), and what they add up."""

    root: Node
    adds: Terms
    terms: Terms


def join_sums(graph: Graph) -> Graph:
    """``graph`` with sums of like contractions as one contraction where that moves fewer bytes.

    >>> from graphc.text import from_text
    >>> text = '''
    ... def g(x: f32[4, 2, 8], d: f32[2, 8], e: f32[2, 8]):
    ...     v0: f32[1, 2, 8] = slice(x, size=(1, 2, 8), start=(1, 0, 0), step=(1, 1, 1))
    ...     v1: f32[2, 8] = reshape(v0, shape=(2, 8))
    ...     v2: f32[8, 8] = dot(v1, d, batch=((), ()), contract=((0,), (0,)))
    ...     v3: f32[1, 2, 8] = slice(x, size=(1, 2, 8), start=(2, 0, 0), step=(1, 1, 1))
    ...     v4: f32[2, 8] = reshape(v3, shape=(2, 8))
    ...     v5: f32[8, 8] = dot(v4, e, batch=((), ()), contract=((0,), (0,)))
    ...     v6: f32[8, 8] = add(v5, v2)
    ...     return v6'''
    >>> print(join_sums(from_text(text)))
    def g(x: f32[4, 2, 8], d: f32[2, 8], e: f32[2, 8]):
        v0: f32[2, 2, 8] = slice(x, size=(2, 2, 8), start=(1, 0, 0), step=(1, 1, 1))
        v1: f32[1, 2, 8] = reshape(d, shape=(1, 2, 8))
        v2: f32[1, 2, 8] = reshape(e, shape=(1, 2, 8))
        v3: f32[2, 2, 8] = concatenate(v1, v2, axis=0)
        v4: f32[8, 8] = dot(v0, v3, batch=((), ()), contract=((0, 1), (0, 1)))
        return v4
    """
    graph = map_bodies(graph, join_sums)
    reads = users(graph.nodes)
    outputs = set(graph.outputs)
    sums = sums_of(graph, reads, outputs)
    if not sums:
        return graph
    position = {node: k for k, node in enumerate(graph.nodes)}
    stacks: dict[frozenset[Node], Terms] = {}
    joined: dict[Node, tuple[Sum, list[Terms]]] = {}
    for total in sums:
        found = [in_order(group, position) for group in dot_groups(total, reads, outputs)]
        groups = [group for group in found if pays(group, outputs)]
        if groups:
            joined[total.root] = (total, groups)
            for group in groups:
                for side in range(2):
                    operands = tuple(dot.inputs[side] for dot in group)
                    stacks.setdefault(frozenset(operands), operands)
    for total in sums:
        groups = reduction_groups(total, reads, outputs, stacks)
        if groups:
            have = joined.get(total.root, (total, []))
            joined[total.root] = (total, [*have[1], *groups])
    joins = [sum_join(total, groups, stacks) for total, groups in joined.values()]
    for total in sums:
        join = None if total.root in joined else reduced_sum(total, reads, outputs, stacks)
        if join is not None:
            joins.append(join)
    return join_nodes(graph, joins)


def sums_of(graph: Graph, reads: Mapping[Node, list[Node]], outputs: set[Node]) -> list[Sum]:
    """The largest trees of additions, of two terms or more, all of them different."""

    def inside(node: Node) -> bool:
        """Whether an addition is part of a larger sum."""
        return node not in outputs and len(reads[node]) == 1 and reads[node][0].op is ops.add

    found = []
    for root in graph.nodes:
        if root.op is not ops.add or inside(root):
            continue
        adds: list[Node] = []
        terms: list[Node] = []
        pending = [root]
        while pending:
            node = pending.pop()
            adds.append(node)
            for operand in node.inputs:
                is_part = operand.op is ops.add and inside(operand) and node.inputs[0] is not node.inputs[1]
                (pending if is_part else terms).append(operand)
        if len(set(terms)) == len(terms):
            found.append(Sum(root, tuple(adds[::-1]), tuple(terms)))
    return found


# ------------------------------------------------------------------------------------------------ contractions


def dot_groups(total: Sum, reads: Mapping[Node, list[Node]], outputs: set[Node]) -> list[Terms]:
    """The terms that are contractions of one form and that nothing else reads, by form."""
    groups: dict[Any, list[Node]] = {}
    for term in total.terms:
        if term.op is ops.dot and len(reads[term]) == 1 and term not in outputs:
            x, y = term.inputs
            groups.setdefault((x.type, y.type, term["batch"], term["contract"]), []).append(term)
    return [tuple(group) for group in groups.values() if 2 <= len(group) <= MOST_TERMS and all_different(group)]


def all_different(dots: Sequence[Node]) -> bool:
    return all(max(Counter(dot.inputs[side] for dot in dots).values()) == 1 for side in range(2))


def in_order(dots: Terms, position: Mapping[Node, int]) -> Terms:
    """The terms in the order in which one of the operands lies in memory, else in that of the program."""
    for side in range(2):
        run = run_of([dot.inputs[side] for dot in dots])
        if run is not None:
            return tuple(dots[k] for k in run.order)
    return tuple(sorted(dots, key=lambda dot: position[dot.inputs[0]]))


def pays(dots: Terms, outputs: set[Node]) -> bool:
    """Whether one contraction moves fewer bytes than ``dots`` and their sum."""
    saved = 2 * (len(dots) - 1) * dots[0].type.nbytes
    return saved > sum(copied_bytes([dot.inputs[side] for dot in dots], outputs) for side in range(2))


def joined_dot(dots: Terms, new: Mapping[Node, Node]) -> Node:
    """The sum of ``dots`` as one contraction, whose first contracted axis counts them."""
    x, y = (stack([dot.inputs[side] for dot in dots], new) for side in range(2))
    batch = tuple(tuple(a + 1 for a in axes) for axes in dots[0]["batch"])
    contract = tuple((0, *(a + 1 for a in axes)) for axes in dots[0]["contract"])
    return ops.dot(x, y, batch=batch, contract=contract)


# ------------------------------------------------------------------------------------------------ reductions


def reduction_groups(
    total: Sum, reads: Mapping[Node, list[Node]], outputs: set[Node], stacks: Mapping[frozenset[Node], Terms]
) -> list[Terms]:
    """The terms that are sums along the same axes of what is one stack anyway."""
    groups: dict[Any, list[Node]] = {}
    for term in total.terms:
        if term.op is ops.reduce_sum and len(reads[term]) == 1 and term not in outputs:
            groups.setdefault((term.inputs[0].type, term["axes"]), []).append(term)
    return [tuple(g) for g in groups.values() if len(g) > 1 and is_stack([t.inputs[0] for t in g], stacks)]


def is_stack(members: Sequence[Node], stacks: Mapping[frozenset[Node], Terms]) -> bool:
    return len(set(members)) == len(members) and (frozenset(members) in stacks or run_of(members) is not None)


def stacked(members: Sequence[Node], stacks: Mapping[frozenset[Node], Terms]) -> Terms:
    """``members`` in the order of their stack."""
    found = stacks.get(frozenset(members))
    if found is not None:
        return found
    run = run_of(members)
    assert run is not None
    return tuple(members[k] for k in run.order)


def reduced_sum(
    total: Sum, reads: Mapping[Node, list[Node]], outputs: set[Node], stacks: Mapping[frozenset[Node], Terms]
) -> Join | None:
    """``reduce_sum`` of a sum of what is one stack anyway, as a reduction of the stack."""
    root, terms = total.root, total.terms
    if root in outputs or len(reads[root]) != 1 or reads[root][0].op is not ops.reduce_sum:
        return None
    (reduction,) = reads[root]
    if len({t.type for t in terms}) > 1 or not is_stack(terms, stacks):
        return None
    members = stacked(terms, stacks)
    return Join((reduction,), needs(members), lambda new: [over_stack(members, reduction["axes"], new)])


def over_stack(members: Terms, axes: tuple[int, ...], new: Mapping[Node, Node]) -> Node:
    return ops.reduce_sum(stack(members, new), axes=(0, *(a + 1 for a in axes)))


# ------------------------------------------------------------------------------------------------ the new sum


def sum_join(total: Sum, groups: Sequence[Terms], stacks: Mapping[frozenset[Node], Terms]) -> Join:
    """The sum with each group as one term, in the place of the group's first; the other terms are added as they were."""
    wanted: list[Node] = []
    rest = set(total.terms).difference(*groups)
    wanted += [t for t in total.terms if t in rest]
    for group in groups:
        if group[0].op is ops.dot:
            wanted += [o for side in range(2) for o in needs([dot.inputs[side] for dot in group])]
        else:
            wanted += needs(stacked([t.inputs[0] for t in group], stacks))

    def make(new: Mapping[Node, Node]) -> list[Node]:
        value: dict[Node, Node | None] = {t: new[t] for t in rest}
        for group in groups:
            value.update(dict.fromkeys(group))
            first = min(group, key=total.terms.index)
            if group[0].op is ops.dot:
                value[first] = joined_dot(group, new)
            else:
                members = stacked([t.inputs[0] for t in group], stacks)
                value[first] = over_stack(members, group[0]["axes"], new)
        return [added(total, value)]

    return Join((total.root,), tuple(wanted), make)


def added(total: Sum, value: dict[Node, Node | None]) -> Node:
    """The sum of what stands for its terms in ``value``; None stands for nothing."""
    for node in total.adds:
        left, right = (value[i] for i in node.inputs)
        value[node] = left if right is None else right if left is None else ops.add(left, right)
    made = value[total.root]
    assert made is not None
    return made
