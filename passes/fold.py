"""Constant folding, inlining of calls, and removal of dead nodes."""

from __future__ import annotations

import numpy as np

from graphc import ops
from graphc.ir import Graph, Node, fixed_point, rewrite, topological
from graphc.ops import control
from graphc.passes.simplify import inlined, map_bodies
from graphc.types import TensorType

#: A folded constant has at most so many elements, or no more bytes than the constants that it was computed from.
LIMIT = 1 << 16

#: What runs at run time whatever is known of it: loops may be long, and a barrier keeps a computation where it is.
_NEVER = frozenset({"barrier", "alias", "stop_gradient", "call", "cond", "scan", "while_loop", "broadcast_to", "view_as_complex"})

#: Errors that kernels report. A node that raises one is left alone: it raises at run time, with the user's line.
_RUNTIME_ERRORS = (IndexError, FloatingPointError, np.linalg.LinAlgError)


def fold_constants(graph: Graph) -> Graph:
    """``graph`` and the graphs in it with every node computed whose operands are constants, within LIMIT.

    What is cheap to describe stays symbolic: a repeated constant (``broadcast_to``) and everything made from ``iota``.
    An array constant that repeats one number becomes such a ``broadcast_to``.
    """
    with np.errstate(all="ignore"):
        return fixed_point(map_bodies(graph, fold_constants), _fold)


def _fold(node: Node) -> Node | None:
    if node.op is ops.constant:
        return _symbolic(node)
    source = node.inputs[0] if node.op is ops.item else node
    if source.op.name in _NEVER or not source.inputs or not all(map(_is_known, source.inputs)):
        return None
    if source.op.kind == "elementwise" and all(ops.constant_value(x) is not None for x in source.inputs):
        return _fold_uniform(node)
    if not isinstance(node.type, TensorType) or not all(map(_is_small, source.inputs)):
        return None  # of a tuple, the items are folded
    if node.type.size > LIMIT and node.type.nbytes > sum(x.type.nbytes for x in source.inputs if x.op is ops.constant):
        return None
    try:
        value = source.op.eval(*[_value(x) for x in source.inputs], **source.attributes())
    except _RUNTIME_ERRORS:
        return None
    return ops.const(value[node["index"]] if source is not node else value, node.type.dtype)


def _symbolic(node: Node) -> Node | None:
    """A constant array that repeats one number, as that number repeated: compared by bits."""
    array = node["value"].value
    if array.size < 2:
        return None
    cells = array.reshape(-1).view(np.uint8).reshape(array.size, array.dtype.itemsize)
    likely = (cells[[-1, array.size // 2]] == cells[0]).all()
    return ops.full(node.type, array.reshape(-1)[0]) if likely and (cells == cells[0]).all() else None


def _fold_uniform(node: Node) -> Node | None:
    """An elementwise node on repeated numbers: one number, repeated."""
    numbers = [np.asarray(ops.constant_value(x)) for x in node.inputs]
    return ops.full(node.type, node.op.eval(*numbers, **node.attributes()))


def _is_known(x: Node) -> bool:
    return x.op is ops.constant or (x.op is ops.broadcast_to and x.inputs[0].op is ops.constant)


def _is_small(x: Node) -> bool:
    return x.op is ops.constant or x.type.size <= LIMIT


def _value(x: Node) -> np.ndarray:
    return x["value"].value if x.op is ops.constant else x.op.eval(_value(x.inputs[0]), **x.attributes())


# ------------------------------------------------------------------------------------------------ calls


def inline_calls(graph: Graph) -> Graph:
    """``graph`` and the graphs in it with every ``call`` replaced by its body, those in the bodies too."""

    def rule(node: Node) -> Node | None:
        match node:
            case Node(ops.item, (Node(control.call, operands) as call,)):
                return inlined(call["body"], operands)[node["index"]]
        return None

    while any(node.op is control.call for node in graph.nodes):
        graph = rewrite(graph, rule)
    return map_bodies(graph, inline_calls)


# ------------------------------------------------------------------------------------------------ dead nodes


def eliminate_dead(graph: Graph) -> Graph:
    """``graph`` and the graphs in it without the nodes that no output needs. Inputs stay."""
    graph = map_bodies(graph, eliminate_dead)
    needed = dict.fromkeys(graph.inputs)
    needed.update(dict.fromkeys(topological(graph.outputs, stop=graph.inputs)))
    if len(needed) == len(graph.nodes):
        return graph
    nodes = tuple(node for node in graph.nodes if node in needed)
    lines = {node: lines for node, lines in graph.lines.items() if node in needed}
    adjoints = tuple(entry for entry in graph.adjoints if entry[1] in needed and entry[2] in needed)
    return Graph(graph.name, graph.inputs, graph.outputs, nodes, lines, adjoints)


__all__ = ["eliminate_dead", "fold_constants", "inline_calls"]
