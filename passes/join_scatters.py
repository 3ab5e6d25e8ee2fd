"""Sums of scatters into zeros become one scatter: the gradient of a table that several gathers read.

Every gather of a table has a gradient of the table's size, nearly all of it zeros, and these are added up. Joined, the
updates and their places are stacked, and every place adds up its own. The order of that sum is the backend's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphc import ops
from graphc.ir import Graph, Node, users
from graphc.ops.base import constant_value
from graphc.passes.join_sums import Sum, Terms, added, sums_of
from graphc.passes.simplify import map_bodies
from graphc.passes.stacks import Join, copied_bytes, join_nodes, needs, run_of, stack


def join_scatters(graph: Graph) -> Graph:
    """``graph`` with sums of like scatters into zeros as one scatter where that moves fewer bytes.

    >>> from graphc.text import from_text
    >>> text = '''
    ... def g(x: f32[2, 3], i: i64[2, 3]):
    ...     v0: f32 = const(f32, 0.0)
    ...     v1: f32[65] = broadcast_to(v0, axes=(), shape=(65,))
    ...     v2: f32[1, 3] = slice(x, size=(1, 3), start=(0, 0), step=(1, 1))
    ...     v3: i64[1, 3] = slice(i, size=(1, 3), start=(0, 0), step=(1, 1))
    ...     v4: f32[65] = scatter(v1, v2, v3, axes=(0,), combine='add', mode='raise')
    ...     v5: f32[1, 3] = slice(x, size=(1, 3), start=(1, 0), step=(1, 1))
    ...     v6: i64[1, 3] = slice(i, size=(1, 3), start=(1, 0), step=(1, 1))
    ...     v7: f32[65] = scatter(v1, v5, v6, axes=(0,), combine='add', mode='raise')
    ...     v8: f32[65] = add(v4, v7)
    ...     return v8'''
    >>> print(join_scatters(from_text(text)))
    def g(x: f32[2, 3], i: i64[2, 3]):
        v0: f32 = const(f32, 0.0)
        v1: f32[65] = broadcast_to(v0, axes=(), shape=(65,))
        v2: f32[2, 1, 3] = reshape(x, shape=(2, 1, 3))
        v3: i64[2, 1, 3] = reshape(i, shape=(2, 1, 3))
        v4: f32[65] = scatter(v1, v2, v3, axes=(0,), combine='add', mode='raise')
        return v4
    """
    graph = map_bodies(graph, join_scatters)
    if sum(node.op is ops.scatter for node in graph.nodes) < 2:
        return graph
    reads, outputs = users(graph.nodes), set(graph.outputs)
    position = {node: k for k, node in enumerate(graph.nodes)}
    joins = []
    for total in sums_of(graph, reads, outputs):
        groups = scatter_groups(total, reads, outputs, position)
        if groups:
            joins.append(sum_join(total, groups))
    return join_nodes(graph, joins)


def scatter_groups(
    total: Sum, reads: Mapping[Node, list[Node]], outputs: set[Node], position: Mapping[Node, int]
) -> list[Terms]:
    """The terms that add to the same zeros in one form, and that nothing else reads, by form, in the order in which their
    operands lie in memory."""
    groups: dict[Any, list[Node]] = {}
    for term in total.terms:
        if term.op is ops.scatter and term["combine"] == "add" and len(reads[term]) == 1 and term not in outputs:
            zeros, updates, *indices = term.inputs
            if is_zero(zeros):
                key = (zeros, updates.type, tuple(i.type for i in indices), term["axes"], term["mode"])
                groups.setdefault(key, []).append(term)
    ordered = [in_order(sorted(group, key=position.__getitem__)) for group in groups.values() if len(group) > 1]
    return [group for group in ordered if pays(group, outputs)]


def in_order(group: Sequence[Node]) -> Terms:
    """The terms in the order of the slices that one of their operands is, else in the given one."""
    for k in range(1, len(group[0].inputs)):
        run = run_of([term.inputs[k] for term in group])
        if run is not None:
            return tuple(group[k] for k in run.order)
    return tuple(group)


def is_zero(node: Node) -> bool:
    """Whether every place holds ``0``, not ``-0.0``."""
    value = constant_value(node)
    return value is not None and value.tobytes() == bytes(value.nbytes)


def columns(group: Terms) -> list[Terms]:
    """The updates and the index tensors of all terms."""
    return [tuple(term.inputs[k] for term in group) for k in range(1, len(group[0].inputs))]


def pays(group: Terms, outputs: set[Node]) -> bool:
    """Whether one scatter moves fewer bytes than its terms and their sum."""
    saved = 2 * (len(group) - 1) * group[0].type.nbytes
    return saved > sum(copied_bytes(column, outputs) for column in columns(group))


def joined(group: Terms, new: Mapping[Node, Node]) -> Node:
    operands = [stack(column, new) for column in columns(group)]
    return ops.scatter(new[group[0].inputs[0]], *operands, **group[0].attributes())


def sum_join(total: Sum, groups: list[Terms]) -> Join:
    """The sum with each group as one term, in the place of the group's first; the other terms are added as they were."""
    rest = set(total.terms).difference(*groups)
    wanted = [t for t in total.terms if t in rest]
    wanted += [o for group in groups for column in columns(group) for o in needs(column)]
    wanted += [group[0].inputs[0] for group in groups]

    def make(new: Mapping[Node, Node]) -> list[Node]:
        value: dict[Node, Node | None] = {t: new[t] for t in rest}
        for group in groups:
            value.update(dict.fromkeys(group))
            value[min(group, key=total.terms.index)] = joined(group, new)
        return [added(total, value)]

    return Join((total.root,), tuple(dict.fromkeys(wanted)), make)
