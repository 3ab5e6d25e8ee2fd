"""Attention in the pipeline: which calls become kernels of the template ``attention``, and what such a kernel computes.

:func:`fuse_attention` makes ``fused`` nodes of the calls that :mod:`graphc.attention` describes, their bodies simplified;
all others are inlined later. :func:`lay_out_fused` lets them write their results in the order of axes in which these are
read. :func:`parts` finds the steps of attention in a body; the emitter asks it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphc import ops
from graphc.attention import NAMES
from graphc.ir import Builder, Graph, Node, inline, rewrite, topological
from graphc.ops import control
from graphc.ops.fused import fused
from graphc.passes.expand import expand_ops
from graphc.passes.fold import eliminate_dead, fold_constants, inline_calls
from graphc.passes.simplify import map_bodies, rebuild, simplify, strip_identities

_STEPS = (inline_calls, expand_ops, strip_identities, simplify, fold_constants, simplify, eliminate_dead)


# ------------------------------------------------------------------------------------------------ the steps in a body


@dataclass(frozen=True)
class Parts:
    """The nodes of attention: of shapes […, M, N] (frame), […, M] and […, M or N, features].

    s       the first contraction, of q and k (its operands, read from memory).
    t       the scores, elementwise in s.
    m       the maximum of each row, over the frame as it is subtracted.
    e       the exponentials.
    weights of the products with v: e (forward), p (backward).

    Forward: ``product`` is e v, ``total`` the sum of e. Backward: ``ct_p`` is the contraction of ō and v, ``inner`` the sum of
    ō o, ``ct_s`` the cotangent of s, and ``products`` are those of q, k and v.
    """

    s: Node
    t: Node
    m: Node
    e: Node
    product: Node | None = None
    total: Node | None = None
    ct_p: Node | None = None
    inner: Node | None = None
    p: Node | None = None
    ct_s: Node | None = None
    products: tuple[Node, ...] = ()

    @property
    def frame(self) -> tuple[int, ...]:
        return self.s.type.shape


class Unknown(Exception):
    """Why a body is not computed by the template."""


def need(holds: bool, what: str) -> None:
    if not holds:
        raise Unknown(what)


def bare(node: Node) -> Node:
    """``node`` without transposes and casts between floats around it."""
    while node.op is ops.transpose or node.op is ops.cast and node.inputs[0].type.dtype.is_float and node.type.dtype.is_float:
        node = node.inputs[0]
    return node


def parts(body: Graph) -> Parts:
    """The steps of attention, or of its derivative, in ``body``. Raises Unknown."""
    need(len(body.outputs) == 3, "three results")
    dots = [node for node in body.nodes if node.op is ops.dot]
    found = _forward(body, dots) if len(dots) == 2 else _backward(body, dots)
    frame = found.frame
    b = len(frame) - 2
    need(b >= 0 and is_over(found.s, b, 1, 1), "scores are q kᵀ")
    known = {found.s, *dots}
    for node in topological([found.t], stop=[found.s]):
        at_frame = node.type.shape == frame
        plain = node.op.kind in ("elementwise", "input", "constant", "movement")
        need(node is found.s or plain and (at_frame or node.op.kind != "elementwise"), f"{node.op.name} in the score function")
    need(all(n.op.kind != "reduction" or n in (found.total, found.inner) or n.op is ops.reduce_max for n in body.nodes), "sums")
    need(len(known) == len(dots), "contractions")
    return found


def _exponential(e: Node) -> tuple[Node, Node]:
    """t and m of exp(t - m)."""
    need(e.op is ops.exp and e.inputs[0].op is ops.sub, "exponentials of shifted scores")
    t, m = e.inputs[0].inputs
    need(m.op is ops.broadcast_to, "a shift for each row")
    return t, m


def _forward(body: Graph, dots: Sequence[Node]) -> Parts:
    o, top, total = body.outputs
    quotient = bare(o)
    need(quotient.op is ops.div and quotient.inputs[0].op is ops.dot, "a product that is divided")
    product = quotient.inputs[0]
    e = product.inputs[0]
    t, m = _exponential(e)
    (s,) = (node for node in dots if node is not product)
    b = s.type.ndim - 2
    last = (b + 1,)
    need(is_over(product, b, 1, 0), "the second contraction")
    need(m.inputs[0] is top and top.op is ops.reduce_max and top.inputs[0] is t and top["axes"] == last, "the maximum")
    need(total.op is ops.reduce_sum and total.inputs[0] is e and total["axes"] == last, "the sum")
    below = quotient.inputs[1]
    need(below.op is ops.broadcast_to and below.inputs[0] is total, "the divisor")
    return Parts(s, t, m, e, product=product, total=total)


def _backward(body: Graph, dots: Sequence[Node]) -> Parts:
    products = tuple(bare(o) for o in body.outputs)
    need(len(dots) == 5 and all(x.op is ops.dot for x in products), "five contractions")
    ct_q, ct_k, ct_v = products
    ct_s, p = ct_q.inputs[0], ct_v.inputs[0]
    need(ct_k.inputs[0] is ct_s and p.op is ops.div, "the factors of the products")
    t, m = _exponential(p.inputs[0])
    behind = set(topological([t]))
    others = [node for node in dots if node not in products]
    s = [node for node in others if node in behind]
    ct_p = [node for node in others if node not in behind]
    need(len(s) == 1 and len(ct_p) == 1, "the scores and the cotangent of p")
    b = s[0].type.ndim - 2
    need(is_over(ct_p[0], b, 1, 1) and is_over(ct_q, b, 1, 0) and is_over(ct_k, b, 0, 0) and is_over(ct_v, b, 0, 0), "axes")
    sums = [node for node in body.nodes if node.op.kind == "reduction"]
    need(len(sums) == 1 and sums[0].op is ops.reduce_sum and sums[0]["axes"] == (b + 1,), "one sum for each row")
    return Parts(s[0], t, m, p.inputs[0], ct_p=ct_p[0], inner=sums[0], p=p, ct_s=ct_s, products=products)


def is_over(dot: Node, b: int, of_x: int, of_y: int) -> bool:
    lead = tuple(range(b))
    return dot["batch"] == (lead, lead) and dot["contract"] == ((b + of_x,), (b + of_y,)) and dot.inputs[0].type.ndim == b + 2


# ------------------------------------------------------------------------------------------------ passes


def fuse_attention(graph: Graph) -> Graph:
    """``graph`` and the graphs in it with the calls named attention and attention_grad as ``fused`` nodes, where their
    bodies are what the template knows."""
    graph = map_bodies(graph, fuse_attention)
    bodies: dict[str, Graph | None] = {}

    def simplified(body: Graph) -> Graph | None:
        if body.digest not in bodies:
            made = body
            for step in _STEPS:
                made = step(made)
            try:
                parts(made)
                bodies[body.digest] = made
            except Unknown:
                bodies[body.digest] = None
        return bodies[body.digest]

    def rule(node: Node) -> Node | None:
        match node:
            case Node(ops.item, (Node(control.call, operands) as call,)) if call["name"] in NAMES and not call["custom"]:
                body = simplified(call["body"])
                return None if body is None else ops.item(fused(*operands, body=body, name="attention"), index=node["index"])
        return None

    if not any(node.op is control.call and node["name"] in NAMES for node in graph.nodes):
        return graph
    return rewrite(graph, rule)


def lay_out_fused(graph: Graph) -> Graph:
    """``graph`` with each result of a ``fused`` node that is only read transposed written in that order of axes."""
    graph = map_bodies(graph, lay_out_fused)
    if not any(node.op is fused for node in graph.nodes):
        return graph
    readers: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        for x in node.inputs:
            readers.setdefault(x, []).append(node)
    outputs = set(graph.outputs)
    wanted: dict[Node, dict[int, tuple[int, ...]]] = {}  # fused node -> order of axes of each of its results
    for node in graph.nodes:
        if node.op is ops.item and node.inputs[0].op is fused and node not in outputs:
            orders = {x["axes"] if x.op is ops.transpose else () for x in readers.get(node, ())}
            if len(orders) == 1 and () not in orders:
                wanted.setdefault(node.inputs[0], {})[node["index"]] = orders.pop()
    if not wanted:
        return graph
    bodies: dict[tuple[str, tuple[tuple[int, tuple[int, ...]], ...]], Graph] = {}

    def moved_to(node: Node, operands: tuple[Node, ...]) -> Node | None:
        if node in wanted:
            body, orders = node["body"], wanted[node]
            key = (body.digest, tuple(sorted(orders.items())))
            if key not in bodies:
                bodies[key] = transposed(body, orders)
            return fused(*operands, body=bodies[key], name=node["name"])
        if node.op is ops.item and node.inputs[0] in wanted:
            return ops.item(operands[0], index=node["index"])
        if node.op is ops.transpose and node.inputs[0].op is ops.item and node.inputs[0].inputs[0] in wanted:
            if node.inputs[0]["index"] in wanted[node.inputs[0].inputs[0]]:
                return operands[0]
        return None

    moved = {item for item in graph.nodes if item.op is ops.item and item["index"] in wanted.get(item.inputs[0], ())}
    # An adjoint has the type of its primal; what is moved has not.
    adjoints = tuple(entry for entry in graph.adjoints if not moved & {entry[1], entry[2]})
    return rebuild(replace(graph, adjoints=adjoints), moved_to)


def transposed(body: Graph, orders: dict[int, tuple[int, ...]]) -> Graph:
    """``body`` with results transposed."""
    with Builder(body.name) as builder:
        results = inline(body, [builder.input(x["name"], x.type) for x in body.inputs])
        return builder.graph([ops.transpose_to(x, orders[k]) if k in orders else x for k, x in enumerate(results)])


__all__ = ["Parts", "Unknown", "fuse_attention", "lay_out_fused", "parts"]
