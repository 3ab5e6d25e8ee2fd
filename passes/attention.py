"""Attention in the pipeline: which calls become kernels of the template ``attention``, and what such a kernel computes.

:func:`fuse_attention` makes ``fused`` nodes of the calls that :mod:`graphc.attention` describes, their bodies simplified;
all others are inlined later. :func:`lay_out_fused` lets them write their results in the order of axes in which these are
read. :func:`parts` finds the steps of attention in a body; the emitter asks it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphc import lifting_attention, ops
from graphc.attention import NAMES
from graphc.ir import Builder, Graph, Node, carry_tables, inline, rewrite, topological
from graphc.ops import control
from graphc.ops.fused import fused
from graphc.passes.access import contiguous_strides, reshaped_strides
from graphc.passes.expand import expand_ops
from graphc.passes.fold import eliminate_dead, fold_constants, inline_calls
from graphc.passes.simplify import map_bodies, simplify, strip_identities

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


def parts(body: Graph) -> Parts:
    """The steps of attention, or of its derivative, in ``body``. Raises Unknown."""
    dots = [node for node in body.nodes if node.op is ops.dot]
    found = _forward(body, dots) if len(dots) == 2 else _backward(body, dots)
    frame = found.frame
    b = len(frame) - 2
    need(b >= 0 and is_over(found.s, b, 1, 1), "scores are q kᵀ")
    for node in topological([found.t], stop=[found.s]):
        at_frame = node.type.shape == frame
        plain = node.op.kind in ("elementwise", "input", "constant", "movement")
        need(
            node is found.s or plain and (at_frame or node.op.kind != "elementwise"),
            f"{node.op.name} in the score function",
        )
    need(
        all(n.op.kind != "reduction" or n in (found.total, found.inner) or n.op is ops.reduce_max for n in body.nodes),
        "sums",
    )
    return found


def _exponential(e: Node) -> tuple[Node, Node]:
    """t and m of exp(t - m)."""
    need(e.op is ops.exp and e.inputs[0].op is ops.sub, "exponentials of shifted scores")
    t, m = e.inputs[0].inputs
    need(m.op is ops.broadcast_to, "a shift for each row")
    return t, m


def _forward(body: Graph, dots: Sequence[Node]) -> Parts:
    need(len(body.outputs) == 3, "three results")
    o, top, total = body.outputs
    quotients = [
        node
        for node in body.nodes
        if node.op is ops.div and node.inputs[0] in dots and node.inputs[0].inputs[0].op is ops.exp
    ]
    need(len(quotients) == 1 and placement(o, quotients[0]) is not None, "a product that is divided")
    (quotient,) = quotients
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
    need(len(dots) == 5, "five contractions")
    of_v = [x for x in dots if x.inputs[0].op is ops.div and x.inputs[0].inputs[0].op is ops.exp]
    need(len(of_v) == 1 and of_v[0].type.ndim >= 2, "one product with p")
    (ct_v,) = of_v
    p, b = ct_v.inputs[0], ct_v.type.ndim - 2
    t, m = _exponential(p.inputs[0])
    behind = set(topological([t]))
    s = [node for node in dots if node in behind]
    rest = [node for node in dots if node not in behind and node is not ct_v]
    of_q, of_k = ([x for x in rest if is_over(x, b, k, 0)] for k in (1, 0))
    ct_p = [x for x in rest if is_over(x, b, 1, 1)]
    need(len(s) == len(of_q) == len(of_k) == len(ct_p) == 1 and is_over(ct_v, b, 0, 0), "the axes of the contractions")
    products = (of_q[0], of_k[0], ct_v)
    ct_s = of_q[0].inputs[0]
    need(of_k[0].inputs[0] is ct_s, "one cotangent of the scores")
    for made in products:
        need(any(placement(o, made) is not None for o in body.outputs), "a result with one stride per axis")
    sums = [node for node in body.nodes if node.op.kind == "reduction"]
    need(len(sums) == 1 and sums[0].op is ops.reduce_sum and sums[0]["axes"] == (b + 1,), "one sum for each row")
    return Parts(s[0], t, m, p.inputs[0], ct_p=ct_p[0], inner=sums[0], p=p, ct_s=ct_s, products=products)


def is_over(dot: Node, b: int, of_x: int, of_y: int) -> bool:
    lead = tuple(range(b))
    return (
        dot["batch"] == (lead, lead)
        and dot["contract"] == ((b + of_x,), (b + of_y,))
        and dot.inputs[0].type.ndim == b + 2
    )


# ------------------------------------------------------------------------------------------------ passes


def lift_attention(graph: Graph) -> Graph:
    """``graph`` with attention that no derivative is taken of as calls: what is differentiated was lifted before."""
    if not any(node.op is ops.exp for node in graph.nodes):
        return graph
    finder = lifting_attention.Finder(graph.nodes)
    found = {node: match for node in graph.nodes if isinstance(match := finder.find(node), lifting_attention.Found)}
    if not found:
        return graph
    mapping: dict[Node, Node] = {}
    with Builder(graph.name) as builder:
        for node in graph.inputs:
            mapping[node] = builder.input(node["name"], node.type)
        for node in graph.nodes:
            if node in found:
                builder.origin = graph.lines.get(node, ())
                mapping[node] = lifting_attention.build(found[node], mapping)
                builder.origin = ()
            elif node not in mapping:
                mapping[node] = builder.remake(node, tuple([mapping[x] for x in node.inputs]))
        carry_tables(builder, graph, mapping)
        return builder.graph([mapping[x] for x in graph.outputs])


def fuse_attention(graph: Graph) -> Graph:
    """``graph`` and the graphs in it with the calls named attention and attention_grad as ``fused`` nodes, where their
    bodies are what the template knows."""
    called = {body for node in graph.nodes if node.op is control.call for body in node.bodies}
    graph = map_bodies(graph, lambda body: body if body in called else fuse_attention(body))
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
            case Node(ops.item, (Node(control.call, operands) as call,)) if (
                call["name"] in NAMES and not call["custom"]
            ):
                body = simplified(call["body"])
                return (
                    None
                    if body is None
                    else ops.item(fused(*operands, body=body, name="attention"), index=node["index"])
                )
        return None

    graph = lift_attention(graph)
    if not any(node.op is control.call and node["name"] in NAMES for node in graph.nodes):
        return graph
    return rewrite(graph, rule)


def lay_out_fused(graph: Graph) -> Graph:
    """``graph`` with the results of ``fused`` nodes written where and in the order of axes in which they are read.

    What only moves a result (transposes, reshapes, a concatenation of several of them) is put into the body, as far as each
    result still has one stride per axis. A result that others read transposed and ``fused`` nodes as it is, is transposed
    for both.
    """
    graph = map_bodies(graph, lay_out_fused)
    return _Layout(graph).run() if any(node.op is fused for node in graph.nodes) else graph


class _Layout:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.readers: dict[Node, list[Node]] = {}
        for node in graph.nodes:
            for x in dict.fromkeys(node.inputs):
                self.readers.setdefault(x, []).append(node)
        self.outputs = set(graph.outputs)
        self.ends: dict[Node, list[Node]] = {}  # fused node -> what takes the place of its results
        self.absorbed: set[Node] = set()
        self.order_of: dict[
            Node, tuple[int, ...]
        ] = {}  # item -> the order of axes in which it is stored for all readers

    def run(self) -> Graph:
        for node in self.graph.nodes:
            if node.op is fused:
                self.choose(node)
        if not self.ends:
            return self.graph
        mapping: dict[Node, Node] = {}
        bodies: dict[object, Graph] = {}
        with Builder(self.graph.name) as builder:
            for x in self.graph.inputs:
                mapping[x] = builder.input(x["name"], x.type)
            for node in self.graph.nodes:
                if node in mapping or node in self.absorbed:
                    continue
                if node.op is fused:
                    self.remake(builder, node, mapping, bodies)
                else:
                    mapping[node] = builder.remake(node, tuple([mapping[x] for x in node.inputs]))
            # An adjoint has the type of its primal; what is stored in another order of axes has not.
            kept = [entry for entry in self.graph.adjoints if not {entry[1], entry[2]} & self.order_of.keys()]
            carry_tables(builder, replace(self.graph, adjoints=tuple(kept)), mapping)
            return builder.graph([mapping[x] for x in self.graph.outputs])

    def remake(self, builder: Builder, node: Node, mapping: dict[Node, Node], bodies: dict[object, Graph]) -> None:
        """``node`` and its results, at what takes their place."""
        operands = tuple([self.operand(x, mapping) for x in node.inputs])
        items = [item for item in self.readers.get(node, ()) if item.op is ops.item]
        if node not in self.ends:
            made = builder.remake(node, operands)
            mapping[node] = made
            mapping.update((item, ops.item(made, index=item["index"])) for item in items)
            return
        ends = self.ends[node]
        number = {item: item["index"] for item in items}
        body = self.body(node, ends, number)
        body = bodies.setdefault(body.digest, body)
        made = mapping[node] = fused(*operands, body=body, name=node["name"])
        mapping.update((end, ops.item(made, index=k)) for k, end in enumerate(ends))
        for end in ends:
            if end in self.order_of:
                for reader in self.readers[end]:
                    if reader.op is ops.transpose:
                        mapping[reader] = mapping[end]

    def operand(self, x: Node, mapping: dict[Node, Node]) -> Node:
        if x not in self.order_of:
            return mapping[x]
        order = self.order_of[x]
        return ops.transpose_to(mapping[x], [order.index(k) for k in range(len(order))])

    def body(self, node: Node, ends: Sequence[Node], number: dict[Node, int]) -> Graph:
        with Builder(node["body"].name) as builder:
            results = inline(node["body"], [builder.input(x["name"], x.type) for x in node["body"].inputs])
            moved = {item: results[k] for item, k in number.items()}
            for step in topological(ends, stop=number):
                if step not in moved and step.op is ops.constant:
                    moved[step] = ops.constant(**dict(step.attrs))
                elif step not in moved:
                    moved[step] = builder.remake(step, tuple([moved[x] for x in step.inputs]))
            return builder.graph(
                [ops.transpose_to(moved[end], self.order_of.get(end, range(end.type.ndim))) for end in ends]
            )

    # ---------------------------------------------------------------------------------------- what is moved

    def choose(self, node: Node) -> None:
        """Decide what takes the place of the results of ``node``."""
        items = sorted((item for item in self.readers.get(node, ()) if item.op is ops.item), key=lambda x: x["index"])
        if [item["index"] for item in items] != list(range(len(node.type.items))):
            return
        ends = {item: self.follow(item) for item in items}
        for join in dict.fromkeys(self.reader(end) for end in ends.values()):
            if join is not None and join.op is ops.concatenate and len(set(join.inputs)) == len(join.inputs):
                parts_ = {item for item, end in ends.items() if end in join.inputs}
                if len(parts_) == len(join.inputs):
                    end = self.follow(join)
                    ends |= {item: end for item in parts_}
        while True:
            lost = [item for item, end in ends.items() if placement(end, item) is None]
            if not lost:
                break
            ends = {item: item if end in {ends[x] for x in lost} else end for item, end in ends.items()}
        for item, end in ends.items():
            orders = {
                x["axes"] if x.op is ops.transpose else () for x in self.readers.get(item, ()) if x.op is not fused
            }
            if item is end and item not in self.outputs and len(orders) == 1 and () not in orders:
                self.order_of[item] = orders.pop()
        if all(item is end for item, end in ends.items()) and not self.order_of.keys() & ends.keys():
            return
        self.ends[node] = list(dict.fromkeys(ends.values()))
        made = set(items)  # and what leads on from them
        for x in topological(self.ends[node], stop=items):
            if not made.isdisjoint(x.inputs):
                made.add(x)
        self.absorbed |= made - set(self.ends[node])
        for item in self.order_of.keys() & ends.keys():
            self.absorbed.update(x for x in self.readers[item] if x.op is ops.transpose)

    def reader(self, node: Node) -> Node | None:
        """The one node that reads ``node``."""
        found = self.readers.get(node, ())
        return found[0] if len(found) == 1 and node not in self.outputs else None

    def follow(self, node: Node) -> Node:
        """The last of the movements that only lead on from ``node``."""
        while True:
            reader = self.reader(node)
            if reader is None or not (reader.op in (ops.transpose, ops.reshape) or adds_nothing(reader) is node):
                return node
            node = reader


def adds_nothing(node: Node) -> Node | None:
    """x where ``node`` is x + 0."""
    if node.op is ops.add:
        for x, y in (node.inputs, node.inputs[::-1]):
            if ops.constant_value(y) == 0:
                return x
    return None


@dataclass(frozen=True)
class Placement:
    """Where the elements of a node lie in a result: at an offset, with one stride per axis; ``plus_zero``: as x + 0."""

    offset: int
    strides: tuple[int, ...]
    plus_zero: bool


def placement(end: Node, made: Node) -> Placement | None:
    """Where ``made`` lies in ``end``, which is made of it by movements, casts and additions of 0; None if not affine."""
    offset, strides, plus_zero = 0, contiguous_strides(end.type.shape), False
    node = end
    while node is not made:
        inner = adds_nothing(node)
        if node.op is ops.concatenate:
            at = 0
            for x in node.inputs:
                if made in topological([x], stop=[made]):
                    inner = x
                    break
                at += x.type.shape[node["axis"]]
            offset += at * strides[node["axis"]]
        elif node.op is ops.transpose:
            moved = [0] * len(strides)
            for k, axis in enumerate(node["axes"]):
                moved[axis] = strides[k]
            strides = tuple(moved)
            inner = node.inputs[0]
        elif node.op is ops.reshape:
            found = reshaped_strides(node.type, strides, node.inputs[0].type)
            if found is None:
                return None
            strides, inner = found, node.inputs[0]
        elif node.op is ops.cast:
            inner = node.inputs[0]
        elif inner is not None:
            plus_zero = True
        if inner is None:
            return None
        node = inner
    return Placement(offset, strides, plus_zero)


__all__ = ["Parts", "Placement", "Unknown", "fuse_attention", "lay_out_fused", "parts", "placement"]
