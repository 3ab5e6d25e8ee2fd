"""Lifting: recognising softmax, log-softmax and logsumexp in what the user wrote, before adjoint nodes exist.

The match is on dataflow, not on names: ``e / e.sum()`` where ``e = exp(x)`` or ``exp(x - x.max())``, by whatever NumPy
functions it was said. A match becomes a ``call`` that keeps the computation as it was written (its body) and brings a
derivative rule of its own, so the adjoint through the max-shift, which is zero, is never built.

    softmax       y = e / Σe              x̄ = y (ȳ − Σ ȳ y)
    log_softmax   y = s − log Σe          x̄ = ȳ − eʸ Σ ȳ
    logsumexp     y = log Σe (+ max)      x̄ = ȳ e^(x − y)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphc import ops
from graphc.autodiff import active_nodes, origin_of
from graphc.ir import Builder, Graph, Node, current_builder, inline
from graphc.ops.control import call
from graphc.types import TensorType

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Exponential:
    """``exp(x - max)`` or ``exp(x)``, to be summed over ``axes``; ``top`` is the max-reduction node or None."""

    x: Node
    axes: Axes
    top: Node | None


@dataclass(frozen=True)
class Match:
    name: str
    x: Node
    axes: Axes
    shifted: bool
    shape: tuple[int, ...]  # of the node that was matched


def lift(outputs: Sequence[Node], wrt: Sequence[Node]) -> list[Node]:
    """``outputs`` with every pattern between ``wrt`` and them replaced by its call, in the current builder."""
    builder = current_builder()
    mapping: dict[Node, Node] = {}
    sources = set(wrt)
    for node in active_nodes(outputs, wrt):
        if node in sources:
            continue
        found = match(node)
        with origin_of(builder, node):
            if found is not None:
                mapping[node] = build(found, mapping.get(found.x, found.x))
            elif any(i in mapping for i in node.inputs):
                mapping[node] = node.op(*[mapping.get(i, i) for i in node.inputs], **dict(node.attrs))
    return [mapping.get(o, o) for o in outputs]


# ------------------------------------------------------------------------------------------------ matching


def match(node: Node) -> Match | None:
    """The pattern whose result ``node`` is."""
    match node:
        case Node(ops.div, (Node(ops.exp) as e, below)):
            total = expanded(below, "reduce_sum")
            if total is not None and total.inputs[0] is e and (found := exponential(e, total["axes"])):
                return Match("softmax", found.x, found.axes, found.top is not None, node.type.shape)
        case Node(ops.sub, (shifted, below)):
            return log_softmax(node, shifted, below)
        case Node(ops.add, (left, right)):
            return logsumexp(node, left, right) or logsumexp(node, right, left)
    return None


def log_softmax(node: Node, shifted: Node, below: Node) -> Match | None:
    """``s - log Σ exp s`` with ``s`` the (shifted) logits; also ``x - logsumexp(x)`` written as one."""
    total = expanded_log(below)
    if total is None or total.inputs[0] is not _exp_of(total, shifted):
        return None
    found = exponential(total.inputs[0], total["axes"])
    if found is None:
        return None
    return Match("log_softmax", found.x, found.axes, found.top is not None, node.type.shape)


def _exp_of(total: Node, operand: Node) -> Node | None:
    e = total.inputs[0]
    return e if e.op is ops.exp and e.inputs[0] is operand else None


def logsumexp(node: Node, logarithm: Node, top: Node) -> Match | None:
    """``log Σ exp(x - max) + max``, with or without kept axes."""
    if logarithm.op is not ops.log:
        return None
    total = squeezed(logarithm.inputs[0])
    if total.op is not ops.reduce_sum or total.inputs[0].op is not ops.exp:
        return None
    found = exponential(total.inputs[0], total["axes"])
    if found is None or found.top is None or without_stop(squeezed(top)) is not found.top:
        return None
    return Match("logsumexp", found.x, found.axes, True, node.type.shape)


def exponential(e: Node, axes: Axes) -> Exponential | None:
    """``e`` as an exponential summed over ``axes``: of x less its maximum over the same axes, or of x itself."""
    inner = e.inputs[0]
    match inner:
        case Node(ops.sub, (x, below)):
            top = expanded(below, "reduce_max")
            if top is not None and top["axes"] == axes and without_stop(top.inputs[0]) is without_stop(x):
                return Exponential(x, axes, top)
    return Exponential(inner, axes, None)


def without_stop(node: Node) -> Node:
    while node.op is ops.stop_gradient:
        node = node.inputs[0]
    return node


def squeezed(node: Node) -> Node:
    """``node`` before reshapes that only put in or take out axes of length 1 (and stop_gradients)."""
    while node.op is ops.stop_gradient or (node.op is ops.reshape and same_but_ones(node, node.inputs[0])):
        node = node.inputs[0]
    return node


def same_but_ones(a: Node, b: Node) -> bool:
    return [n for n in a.type.shape if n != 1] == [n for n in b.type.shape if n != 1]


def expanded(node: Node, reduction: str) -> Node | None:
    """The reduction that ``node`` repeats along the axes it was reduced over, or None."""
    source = without_stop(node)
    if source.op is ops.broadcast_to:
        found = squeezed(source.inputs[0])
        return found if is_reduction(found, reduction) and repeats(source, found) else None
    found = squeezed(source)  # reduced axes of length 1: no broadcast is needed
    return found if is_reduction(found, reduction) and same_but_ones(source, found.inputs[0]) else None


def is_reduction(node: Node, reduction: str) -> bool:
    return node.op.name == reduction


def repeats(broadcast: Node, reduced: Node) -> bool:
    """Whether ``broadcast`` puts the kept axes of ``reduced`` back where they came from."""
    full = reduced.inputs[0].type.shape
    if broadcast.type.shape != full:
        return False
    put = [a for a in broadcast["axes"] if full[a] != 1]
    kept = [k for k in range(len(full)) if k not in reduced["axes"] and full[k] != 1]
    return put == kept


def expanded_log(node: Node) -> Node | None:
    """The sum Σ of ``node = log Σ`` repeated along Σ's axes."""
    source = node
    if source.op is ops.broadcast_to:
        logarithm = squeezed(source.inputs[0])
        if logarithm.op is not ops.log:
            return None
        total = squeezed(logarithm.inputs[0])
        return total if is_reduction(total, "reduce_sum") and repeats(source, total) else None
    return None


# ------------------------------------------------------------------------------------------------ building


def build(found: Match, x: Node) -> Node:
    """The call for a match on the operand ``x``, reshaped to the form that the user's node had."""
    body = body_graph(found, x.type)
    rule = rule_graph(found, x.type)
    (result,) = ops.items(call(x, body=body, name=found.name, vjp=rule, custom=False))
    return ops.reshape_to(result, found.shape)


def body_graph(found: Match, type: TensorType) -> Graph:
    with Builder(found.name) as builder:
        x = builder.input("x", type)
        axes = found.axes
        top = ops.reduce_max(x, axes=axes) if found.shifted else None
        s = x if top is None else ops.sub(x, ops.expand(top, x, axes))
        e = ops.exp(s)
        total = ops.reduce_sum(e, axes=axes)
        results: dict[str, Callable[[], Node]] = {
            "softmax": lambda: ops.div(e, ops.expand(total, x, axes)),
            "log_softmax": lambda: ops.sub(s, ops.expand(ops.log(total), x, axes)),
            "logsumexp": lambda: ops.add(ops.log(total), top) if top is not None else ops.log(total),
        }
        return builder.graph([results[found.name]()])


def rule_graph(found: Match, type: TensorType) -> Graph:
    """``(x, y, ct) -> x̄``; y is computed by the body's own nodes, so that it is the forward value itself."""
    body = body_graph(found, type)
    axes = found.axes
    with Builder(f"{found.name}_rule") as builder:
        x = builder.input("x", type)
        y = builder.input("y", body.output_types[0])
        ct = builder.input("ct", body.output_types[0])
        if found.name == "softmax":
            inner = ops.reduce_sum(ops.mul(ct, y), axes=axes)
            return builder.graph([ops.mul(y, ops.sub(ct, ops.expand(inner, x, axes)))])
        if found.name == "log_softmax":
            total = ops.reduce_sum(ct, axes=axes)
            return builder.graph([ops.sub(ct, ops.mul(ops.exp(y), ops.expand(total, x, axes)))])
        weight = ops.exp(ops.sub(x, ops.expand(y, x, axes)))
        return builder.graph([ops.mul(ops.expand(ct, x, axes), weight)])


__all__ = ["Match", "inline", "lift", "match"]
