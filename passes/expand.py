"""Expansion: ops that no backend knows are replaced by the graph of other ops that means the same."""

from __future__ import annotations

from typing import Any

from graphc import ops
from graphc.ir import Graph, Node, rewrite
from graphc.passes.simplify import map_bodies
from graphc.types import TupleType


def expand_ops(graph: Graph) -> Graph:
    """``graph`` and the graphs in it with every op that has ``expand`` and no ``scalar`` replaced by its expansion.

    What an expansion holds is expanded too: special functions may be made of others. Linear systems become factorisations
    and triangular solves, which are then shared by everything about one matrix. Where an op has several results its
    ``expand`` returns a tuple of nodes.
    """
    while any(map(_expandable, graph.nodes)):
        graph = rewrite(graph, _expansion)
    return map_bodies(graph, expand_ops)


def _expandable(node: Node) -> bool:
    return node.op.expand is not None and node.op.scalar is None


def _expansion(node: Node) -> Node | None:
    match node:
        case Node(ops.item, (source,)) if _expandable(source):
            return _expanded(source)[node["index"]]
        case Node() if _expandable(node) and not isinstance(node.type, TupleType):
            return _expanded(node)
    return None


def _expanded(node: Node) -> Any:
    assert node.op.expand is not None
    return node.op.expand(*node.inputs, **node.attributes())


__all__ = ["expand_ops"]
