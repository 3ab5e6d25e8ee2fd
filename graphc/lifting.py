"""Lifting: recognising what the user wrote by its dataflow, before adjoint nodes exist, so that it gets derivative rules of
its own.

:mod:`graphc.lifting_softmax` knows softmax, log-softmax and logsumexp, :mod:`graphc.lifting_attention` attention, which has
a softmax inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphc import lifting_attention, ops
from graphc.autodiff import active_nodes, origin_of
from graphc.ir import Node, current_builder
from graphc.lifting_softmax import ROOTS, Match, Misfit, build, match


def lift(
    outputs: Sequence[Node], wrt: Sequence[Node], remark: Callable[[Node, Misfit], None] = lambda node, misfit: None
) -> tuple[list[Node], list[Node] | None]:
    """``outputs`` with every pattern between ``wrt`` and them replaced by its call, in the current builder.

    And the active nodes between, None where something was replaced. ``remark`` is told of what begins like a pattern and
    is none.
    """
    builder = current_builder()
    path = active_nodes(outputs, wrt)
    if not any([node.op is ops.exp for node in path]):
        return list(outputs), path
    mapping: dict[Node, Node] = {}
    sources = set(wrt)
    attention = lifting_attention.Finder(path)
    for node in path:
        if node in sources:
            continue
        found = attention.find(node)
        if isinstance(found, lifting_attention.Found):
            with origin_of(builder, node):
                mapping[node] = lifting_attention.build(found, mapping)
            continue
        if found is not None:
            remark(node, found)
        pattern = match(node) if node.op in ROOTS else None
        if isinstance(pattern, Match):
            with origin_of(builder, node):
                mapping[node] = build(pattern, mapping)
            continue
        if pattern is not None:
            remark(node, pattern)
        if mapping and any([i in mapping for i in node.inputs]):
            with origin_of(builder, node):
                mapping[node] = builder.remake(node, tuple([mapping.get(i, i) for i in node.inputs]))
                builder.record(mapping[node])
    return ([mapping.get(o, o) for o in outputs], None) if mapping else (list(outputs), path)


__all__ = ["Match", "Misfit", "lift", "match"]
