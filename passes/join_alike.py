"""Nodes that do the same to each member of a stack become one node on the stack.

An unrolled loop computes its loss step by step: 64 times logits, maximum, exponentials, sum, logarithm. What is joined
afterwards (stacked for the gradient of a weight, or added up) was computed by *alike* nodes: one op, equal attributes, one
type, and operands that are the same node for all of them, consecutive slices of one array, or alike in turn. Such a family
is one node over the stack, by the op's batching rule; who reads a member reads a slice. Families are looked for from
concatenations and sums backwards, so that nothing is stacked that was not going to be.

No member of a family may need another: what a recurrence carries from step to step stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphc import ops
from graphc.ir import Graph, Node, users
from graphc.ops.movement import move_axis
from graphc.passes.join_dots import dependent_groups
from graphc.passes.join_sums import sums_of
from graphc.passes.simplify import map_bodies
from graphc.passes.stacks import Join, along, join_nodes, reshaped, run_of, stack
from graphc.types import TensorType

KINDS = ("elementwise", "reduction", "movement", "indexing", "cumulative", "contraction")
#: Sums of fewer alike terms are left as they are.
FEW = 4

Members = tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """Alike nodes. ``columns`` has, for each operand, the node that all share, or the operands of the members in turn."""

    members: Members
    columns: tuple[Node | Members, ...]


def join_alike(graph: Graph) -> Graph:
    """``graph`` with alike nodes, whose results are joined, computed at once.

    >>> from graphc.text import from_text
    >>> text = '''
    ... def g(x: f32[2, 8]):
    ...     v0: f32[1, 8] = slice(x, size=(1, 8), start=(0, 0), step=(1, 1))
    ...     v1: f32[1, 8] = tanh(v0)
    ...     v2: f32[1, 8] = slice(x, size=(1, 8), start=(1, 0), step=(1, 1))
    ...     v3: f32[1, 8] = tanh(v2)
    ...     v4: f32[2, 8] = concatenate(v1, v3, axis=0)
    ...     return v4'''
    >>> print(join_alike(from_text(text)))
    def g(x: f32[2, 8]):
        v0: f32[2, 1, 8] = reshape(x, shape=(2, 1, 8))
        v1: f32[2, 1, 8] = tanh(v0)
        v2: f32[2, 8] = reshape(v1, shape=(2, 8))
        return v2
    """
    graph = map_bodies(graph, join_alike)
    found = _Families()
    stacked = [node for node in graph.nodes if is_stack(node) and found.find(node.inputs)]
    for terms in alike_terms(graph):
        found.find(terms)
    families = found.families()
    if not families and not stacked:
        return graph
    dependent = dependent_groups(graph, [family.members for family in families])
    accepted: dict[Members, Family] = {}
    taken: set[Node] = set()
    for k, family in enumerate(families):  # operands come first
        apart = all(column in accepted or is_run(column) for column in family.columns if isinstance(column, tuple))
        if k not in dependent and apart and taken.isdisjoint(family.members):
            accepted[family.members] = family
            taken.update(family.members)
    joins = [family_join(family) for family in accepted.values()]
    joins += [stack_join(node) for node in stacked if node.inputs in accepted or is_run(node.inputs)]
    return join_nodes(graph, joins)


def is_stack(node: Node) -> bool:
    """A concatenation of tensors of one type, all different."""
    if node.op is not ops.concatenate or not node.type.size or len(set(node.inputs)) != len(node.inputs):
        return False
    return len(node.inputs) > 1 and all(i.type == node.inputs[0].type for i in node.inputs)


def alike_terms(graph: Graph) -> list[Members]:
    """The terms of each sum that are of one op, type and attributes."""
    groups: dict[Any, list[Node]] = {}
    if not any(node.op is ops.add for node in graph.nodes):
        return []
    for number, total in enumerate(sums_of(graph, users(graph.nodes), set(graph.outputs))):
        if len(total.terms) >= FEW:
            for term in total.terms:
                groups.setdefault((number, term.op.name, term.type, term.attrs), []).append(term)
    position = {node: k for k, node in enumerate(graph.nodes)}
    return [tuple(sorted(group, key=position.__getitem__)) for group in groups.values() if len(group) >= FEW]


def is_run(members: Members) -> bool:
    run = run_of(members)
    return run is not None and list(run.order) == sorted(run.order)


class _Families:
    """Families by their members, found from the results back to slices of one array."""

    def __init__(self) -> None:
        self.known: dict[Members, Family | None] = {}

    def families(self) -> list[Family]:
        return [family for family in self.known.values() if family is not None]

    def find(self, members: Members) -> bool:
        """Whether ``members`` are slices of one array, or a family; all that they need is entered before them."""
        pending = [members]
        while pending:
            top = pending[-1]
            if top in self.known or is_run(top):
                pending.pop()
                continue
            columns = columns_of(top)
            open_ = [c for c in columns or () if isinstance(c, tuple) and not is_run(c) and c not in self.known]
            if open_:
                pending += open_
                continue
            pending.pop()
            good = columns is not None and all(
                is_run(c) or self.known[c] is not None for c in columns if isinstance(c, tuple)
            )
            varies = columns is not None and any(isinstance(c, tuple) for c in columns)
            self.known[top] = Family(top, columns) if good and varies and columns is not None else None
        return is_run(members) or self.known.get(members) is not None


def columns_of(members: Members) -> tuple[Node | Members, ...] | None:
    """The operands of alike nodes, by position; None where they are not alike."""
    first = members[0]
    op = first.op
    if op.kind not in KINDS or op.batch is None or first.bodies or not isinstance(first.type, TensorType):
        return None
    for node in members:
        if (
            node.op is not op
            or node.type != first.type
            or node.attrs != first.attrs
            or len(node.inputs) != len(first.inputs)
        ):
            return None
    columns: list[Node | Members] = []
    for k, operand in enumerate(first.inputs):
        column = tuple(node.inputs[k] for node in members)
        if all(node is operand for node in column):
            columns.append(operand)
        elif len(set(column)) == len(column) and all(node.type == operand.type for node in column):
            columns.append(column)
        else:
            return None
    return tuple(columns)


def family_join(family: Family) -> Join:
    """One node over the stacks of what the members read; the members are slices of it."""
    members, columns = family.members, family.columns
    op, size = members[0].op, len(members)
    flags = tuple(isinstance(column, tuple) for column in columns)
    wanted: list[Node] = []
    for column in columns:
        wanted += column if isinstance(column, tuple) else (column,)

    def make(new: Mapping[Node, Node]) -> Sequence[Node]:
        operands = [stack(column, new) if isinstance(column, tuple) else new[column] for column in columns]
        assert op.batch is not None
        result = op.batch(size, flags, *operands, **members[0].attributes())
        return [along(result, k, node.type.shape) for k, node in enumerate(members)]

    return Join(members, tuple(dict.fromkeys(wanted)), make)


def stack_join(node: Node) -> Join:
    """A concatenation of what has become slices of one array, as movement of that array."""
    axis = node["axis"]

    def make(new: Mapping[Node, Node]) -> list[Node]:
        return [reshaped(move_axis(stack(node.inputs, new), 0, axis), node.type.shape)]

    return Join((node,), node.inputs, make)
