"""Recognising softmax, log-softmax and logsumexp in what the user wrote: see :mod:`graphc.lifting`.

The match is on dataflow, not on names: ``e / e.sum()`` where ``e = exp(x)`` or ``exp(x - c)``, by whatever NumPy functions
it was said. A match becomes a ``call`` that keeps the computation as it was written (its body) and brings a derivative rule
of its own.

    softmax       y = e / Σe                x̄ = y (ȳ − Σ ȳ y)
    log_softmax   y = x − c − log Σe        x̄ = ȳ − eʸ Σ ȳ
    logsumexp     y = log Σe + c            x̄ = ȳ e^(x − y)

The shift c may be anything that does not vary along the summed axes: the maximum as a rule, also with ``np.where(isfinite)``
around it, or of the whole array, or stopped. Shifting by c cancels out exactly, so its adjoint is zero and never built.

>>> from graphc import grad, trace
>>> from graphc.tracing import Spec
>>> import numpy as np
>>> def loss(x):
...     e = np.exp(x - x.max(axis=1, keepdims=True))
...     return (e / e.sum(axis=1, keepdims=True))[:, 0].sum()
>>> [node["name"] for node in trace(grad(loss), Spec((2, 3))).nodes if node.op.name == "call"]
['softmax']
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from graphc import ops
from graphc.ir import Builder, Graph, Node
from graphc.ops.control import call
from graphc.types import TensorType

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Spread:
    """``source`` repeated: its axes longer than 1 lie, in order, at the axes ``places`` of a larger node."""

    source: Node
    places: Axes


@dataclass(frozen=True)
class Match:
    """A pattern: its name, the operand ``x``, the summed axes, the shift (over the axes of x) or None, the result's shape."""

    name: str
    x: Node
    axes: Axes
    shift: Spread | None
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Misfit:
    """Why something that begins like a pattern is none."""

    name: str
    reason: str


# ------------------------------------------------------------------------------------------------ repeated values


def long_axes(shape: Sequence[int]) -> Axes:
    return tuple(k for k, n in enumerate(shape) if n != 1)


def spread(node: Node, places: Axes | None = None) -> Spread:
    """What ``node`` repeats: behind broadcasts, stop_gradients, and reshapes that put in or take out axes of length 1.

    ``places`` are those of the long axes of ``node`` where it is itself a part of something.
    """
    places = long_axes(node.type.shape) if places is None else places
    while True:
        if node.op is ops.stop_gradient or node.op is ops.reshape and same_but_ones(node, node.inputs[0]):
            node = node.inputs[0]
        elif node.op is ops.broadcast_to:
            at = dict(zip(long_axes(node.type.shape), places, strict=True))
            inner = node.inputs[0]
            places = tuple(at[node["axes"][k]] for k in long_axes(inner.type.shape))
            node = inner
        else:
            return Spread(node, places)


def same_but_ones(a: Node, b: Node) -> bool:
    return [n for n in a.type.shape if n != 1] == [n for n in b.type.shape if n != 1]


def put_back(found: Spread, shape: Sequence[int], axes: Axes) -> bool:
    """Whether ``found``, reduced over ``axes`` of ``shape``, is repeated along just these axes."""
    return found.places == tuple(k for k in long_axes(shape) if k not in axes)


# ------------------------------------------------------------------------------------------------ matching

ROOTS = (ops.div, ops.mul, ops.sub, ops.add, ops.log)


def match(node: Node) -> Match | Misfit | None:
    """The pattern whose result ``node`` is, or why it is none."""
    match node:
        case Node(ops.div, (Node(ops.exp) as e, below)):
            return softmax(e, spread(below))
        case Node(ops.mul, (left, right)):
            return inverse_softmax(left, right) or inverse_softmax(right, left)
        case Node(ops.sub, (minuend, below)):
            return log_softmax(minuend, spread(below))
        case Node(ops.add, (left, right)):
            return logsumexp(node, left, right) or logsumexp(node, right, left)
        case Node(ops.log, (operand,)):
            return bare_logsumexp(node, operand)
    return None


def softmax(e: Node, below: Spread) -> Match | Misfit | None:
    """``e / Σe``"""
    total = below.source
    if total.op is not ops.reduce_sum or total.inputs[0].op is not ops.exp:
        return None
    if total.inputs[0] is not e:
        return Misfit("softmax", "the exponential that is divided is not the one that is summed")
    if not put_back(below, e.type.shape, total["axes"]):
        return Misfit("softmax", f"the sum over axes {total['axes']} divides along other axes")
    x, shift = shifted(e.inputs[0], total["axes"])
    return Match("softmax", x, total["axes"], shift, e.type.shape)


def inverse_softmax(e: Node, factor: Node) -> Match | Misfit | None:
    """``e * (1 / Σe)``"""
    if e.op is not ops.exp:
        return None
    inverse = spread(factor)
    if inverse.source.op is not ops.div or ops.constant_value(inverse.source.inputs[0]) != 1:
        return None
    return softmax(e, spread(inverse.source.inputs[1], inverse.places))


def log_softmax(minuend: Node, below: Spread) -> Match | Misfit | None:
    """``s - log Σ exp s`` with s the logits, shifted or not; ``x - (log Σ exp(x - c) + c)`` as well."""
    if below.source.op is ops.log:
        total = spread(below.source.inputs[0], below.places)
        if not sums_exponential(total.source):
            return None
        s, axes = total.source.inputs[0].inputs[0], total.source["axes"]
        x, shift = shifted(s, axes)
        fits = minuend is s
    elif below.source.op is ops.add:
        inner = match(below.source)
        if not isinstance(inner, Match):
            return None
        total, s, axes, x, shift = below, inner.x, inner.axes, inner.x, inner.shift
        fits = minuend is x
    else:
        return None
    if not fits:
        lost = shift is not None and minuend is x
        return Misfit("log_softmax", "the shift is missing outside the exponential") if lost else None
    if not put_back(total, s.type.shape, axes):
        return Misfit("log_softmax", f"the logarithm of the sum over axes {axes} is subtracted along other axes")
    return Match("log_softmax", x, axes, shift, s.type.shape)


def logsumexp(node: Node, logarithm: Node, top: Node) -> Match | Misfit | None:
    """``log Σ exp(x - c) + c``, with or without kept axes."""
    log = spread(logarithm)
    if log.source.op is not ops.log:
        return None
    total = spread(log.source.inputs[0], log.places)
    if not sums_exponential(total.source):
        return None
    e, axes = total.source.inputs[0], total.source["axes"]
    x, shift = shifted(e.inputs[0], axes)
    if total.places != long_axes(node.type.shape):
        return None
    kept = [k for k in long_axes(e.type.shape) if k not in axes]
    added = spread(top)
    where = dict(zip(kept, total.places, strict=True))  # axis of x → axis of the result
    if shift is None:
        return None
    if added.source is not shift.source or added.places != tuple(where[k] for k in shift.places):
        return Misfit("logsumexp", "what is added to the logarithm is not what was subtracted before the exponential")
    return Match("logsumexp", x, axes, shift, node.type.shape)


def bare_logsumexp(node: Node, operand: Node) -> Match | None:
    """``log Σ exp s``"""
    total = spread(operand)
    if not sums_exponential(total.source) or total.places != long_axes(node.type.shape):
        return None
    return Match("logsumexp", total.source.inputs[0].inputs[0], total.source["axes"], None, node.type.shape)


def sums_exponential(node: Node) -> bool:
    return node.op is ops.reduce_sum and node.inputs[0].op is ops.exp


def shifted(s: Node, axes: Axes) -> tuple[Node, Spread | None]:
    """``s`` as ``x - c`` with c constant along ``axes``: x and c. Else s itself."""
    match s:
        case Node(ops.sub, (x, below)):
            c = spread(below)
            if not set(c.places) & set(axes):
                return x, c
    return s, None


# ------------------------------------------------------------------------------------------------ building


def build(found: Match, mapping: dict[Node, Node]) -> Node:
    """The call for a match, its operands mapped, reshaped to the form that the user's node had."""
    x = mapping.get(found.x, found.x)
    operands = [x]
    if found.shift is not None:
        source = mapping.get(found.shift.source, found.shift.source)
        operands.append(ops.stop_gradient(without_axes(source, found.shift.places, x.type.shape, found.axes)))
    body = body_graph(found.name, found.axes, tuple([o.type for o in operands]))
    rule = rule_graph(found.name, found.axes, body)
    (result,) = ops.items(call(*operands, body=body, name=found.name, vjp=rule, custom=False))
    return ops.reshape_to(result, found.shape)


def without_axes(source: Node, places: Axes, shape: Sequence[int], axes: Axes) -> Node:
    """``source``, whose long axes lie at ``places`` of ``shape``, repeated to ``shape`` without ``axes``."""
    kept = [k for k in range(len(shape)) if k not in axes]
    long = ops.reshape_to(source, [source.type.shape[k] for k in long_axes(source.type.shape)])
    return ops.broadcast(long, [shape[k] for k in kept], [kept.index(k) for k in places])


@functools.lru_cache(maxsize=256)
def body_graph(name: str, axes: Axes, types: tuple[TensorType, ...]) -> Graph:
    """``(x, c) -> result``, or ``x -> result`` without a shift. One graph for all calls alike: it is hashed once."""
    with Builder(name) as builder:
        x, *rest = [builder.input(letter, type) for letter, type in zip("xc", types, strict=False)]
        s = ops.sub(x, ops.expand(rest[0], x, axes)) if rest else x
        e = ops.exp(s)
        total = ops.reduce_sum(e, axes=axes)
        if name == "softmax":
            result = ops.div(e, ops.expand(total, x, axes))
        elif name == "log_softmax":
            result = ops.sub(s, ops.expand(ops.log(total), x, axes))
        else:
            result = ops.add(ops.log(total), rest[0]) if rest else ops.log(total)
        return builder.graph([result])


@functools.lru_cache(maxsize=256)
def rule_graph(name: str, axes: Axes, body: Graph) -> Graph:
    """``(x, c, y, ct) -> x̄, c̄``; y is the forward value itself, c̄ is zero."""
    with Builder(f"{name}_rule") as builder:
        x, *rest = [builder.input(n["name"], n.type) for n in body.inputs]
        y = builder.input("y", body.output_types[0])
        ct = builder.input("ct", body.output_types[0])
        if name == "softmax":
            inner = ops.reduce_sum(ops.mul(ct, y), axes=axes)
            adjoint = ops.mul(y, ops.sub(ct, ops.expand(inner, x, axes)))
        elif name == "log_softmax":
            total = ops.reduce_sum(ct, axes=axes)
            adjoint = ops.sub(ct, ops.mul(ops.exp(y), ops.expand(total, x, axes)))
        else:
            adjoint = ops.mul(ops.expand(ct, x, axes), ops.exp(ops.sub(x, ops.expand(y, x, axes))))
        return builder.graph([adjoint, *[ops.zeros(c.type) for c in rest]])


__all__ = ["ROOTS", "Match", "Misfit", "build", "match"]
