"""Complex numbers taken apart: after :func:`lower_complex` no kernel sees one.

Every complex node becomes two real ones of its shape. Inputs and results of the program keep their type and memory, in
which the parts alternate: ``view_as_real`` and ``view_as_complex`` name them as real tensors with a last axis of length 2,
which costs nothing. The graphs in cond, scan and while_loop take and give the parts one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graphc import ops
from graphc.ir import INPUT, Builder, Graph, GraphError, Node, rewrite
from graphc.ops import control
from graphc.ops.complex import part_of_pairs
from graphc.ops.indexing import product_per_place
from graphc.passes.complex_math import BINARY, UNARY, Real, hypot
from graphc.types import TensorType, TupleType, Type


@dataclass(frozen=True, slots=True)
class Parts:
    """A complex tensor as two real nodes."""

    re: Node
    im: Node

    def __iter__(self) -> Any:
        return iter((self.re, self.im))


Value = Node | Parts
#: op name -> function(node, operands with their complex ones in parts)
RULES: dict[str, Callable[..., Value]] = {}

#: Linear ops that do to each part what they do to a real tensor: the complex operands in parts, the others as they are.
PARTWISE = (
    "add", "sub", "neg", "select", "alias", "barrier", "stop_gradient", "broadcast_to", "reshape", "transpose", "slice",
    "pad", "concatenate", "gather", "scatter", "dynamic_slice", "dynamic_update_slice", "reduce_sum", "reduce_window",
    "cumsum",
)  # fmt: skip


def lower_complex(graph: Graph) -> Graph:
    """``graph`` without complex nodes but its inputs and outputs; itself where there are none."""
    return graph if is_lowered(graph) else _split(graph, interleaved=True)


def is_lowered(graph: Graph) -> bool:
    """Whether complex numbers are only taken in (by ``view_as_real``) and given out (by ``view_as_complex``)."""
    results = {node for node in graph.outputs if node.op is ops.view_as_complex}
    for node in graph.nodes:
        if node.op is INPUT or node in results and node.inputs[0].op is not INPUT:
            continue
        taken = [x for x in node.inputs if is_complex(x.type)]
        if is_complex(node.type) or any(map(has_complex, node.bodies)):
            return False
        if taken and not (node.op is ops.view_as_real and taken[0].op is INPUT):
            return False
    return not any(node.op is INPUT and is_complex(node.type) for node in graph.outputs)


def is_complex(type: Type) -> bool:
    return any(t.dtype.kind == "c" for t in (type.items if isinstance(type, TupleType) else (type,)))


def has_complex(graph: Graph) -> bool:
    return any(is_complex(node.type) or any(map(has_complex, node.bodies)) for node in graph.nodes)


# ------------------------------------------------------------------------------------------------ the driver


def _split(graph: Graph, interleaved: bool) -> Graph:
    """``interleaved``: complex inputs and outputs stay one tensor; otherwise each becomes two."""
    graph = rewrite(graph, _expanded)
    found: dict[Node, Any] = {}  # a Value; a list of them for a control node with complex results
    with Builder(graph.name) as builder:
        for node in graph.inputs:
            found[node] = _input(builder, node, interleaved)
        for node in graph.nodes:
            if node not in found:
                builder.origin = graph.lines.get(node, ())
                found[node] = _lowered(builder, graph, node, [found[i] for i in node.inputs])
        builder.origin = ()
        for order, primal, adjoint in graph.adjoints:
            for one, other in zip(_pieces(found[primal]), _pieces(found[adjoint]), strict=False):
                builder.add_adjoint(order, one, other)
        outputs = [found[node] for node in graph.outputs]
        if interleaved:
            return builder.graph([interleave(v) if isinstance(v, Parts) else v for v in outputs])
        return builder.graph([piece for v in outputs for piece in _pieces(v)])


def _pieces(value: Any) -> list[Node]:
    return [value] if isinstance(value, Node) else [piece for v in value for piece in _pieces(v)]


def _input(builder: Builder, node: Node, interleaved: bool) -> Value:
    if node.type.dtype.kind != "c":
        return builder.input(node["name"], node.type)
    if interleaved:
        pairs = ops.view_as_real(builder.input(node["name"], node.type))
        return Parts(part_of_pairs(pairs, 0), part_of_pairs(pairs, 1))
    part = TensorType(node.type.dtype.real, node.type.shape)
    return Parts(builder.input(f"{node['name']}_re", part), builder.input(f"{node['name']}_im", part))


def interleave(z: Parts) -> Node:
    """The parts as one complex tensor, copied once."""
    shape = (*z.re.type.shape, 1)
    return ops.view_as_complex(ops.concatenate(*[ops.reshape(v, shape=shape) for v in z], axis=len(shape) - 1))


def _lowered(builder: Builder, graph: Graph, node: Node, operands: Sequence[Any]) -> Any:
    if node.op is ops.item and not isinstance(operands[0], Node):
        return operands[0][node["index"]]
    inside = any(map(has_complex, node.bodies))
    if not (inside or is_complex(node.type) or any(not isinstance(o, Node) for o in operands)):
        return builder.remake(node, tuple(operands))
    if node.bodies:
        return _control(node, operands)
    if node.op.name in PARTWISE:
        return _partwise(node, operands)
    rule = RULES.get(node.op.name)
    if rule is None:
        places = ", ".join(map(str, graph.lines.get(node, ())))
        raise GraphError(f"no backend computes {node.op.name} of complex numbers ({places})")
    return rule(node, *operands)


def _partwise(node: Node, operands: Sequence[Value]) -> Parts:
    def part(k: int) -> Node:
        chosen = [tuple(v)[k] if isinstance(v, Parts) else v for v in operands]
        return node.op(*chosen, **node.attributes())

    return Parts(part(0), part(1))


# ------------------------------------------------------------------------------------------------ graphs in nodes


def _control(node: Node, operands: Sequence[Value]) -> list[Value]:
    """cond, scan, while_loop (and calls that were not inlined) over parts."""
    bodies: dict[Graph, Graph] = {}

    def split(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(split, value))
        if not isinstance(value, Graph):
            return value
        if value not in bodies:
            bodies[value] = _split(value, interleaved=False)
        return bodies[value]

    attrs = {key: split(value) for key, value in node.attrs}
    if node.op is control.call:
        attrs["vjp"] = None  # adjoints are written by now
    counts = [len(_pieces(o)) for o in operands]
    if "n_carry" in attrs:
        carries = attrs["n_carry"]
        attrs["n_carry"] = sum(counts[:carries])
        if "n_xs" in attrs:
            attrs["n_xs"] = sum(counts[carries : carries + attrs["n_xs"]])
    made = node.op(*[piece for o in operands for piece in _pieces(o)], **attrs)
    rest = iter(ops.items(made))
    return [Parts(next(rest), next(rest)) if t.dtype.kind == "c" else next(rest) for t in node.type.items]


# ------------------------------------------------------------------------------------------------ complex by simpler complex


def _expanded(node: Node) -> Node | None:
    """Products of several numbers, as products of two."""
    if not isinstance(node.type, TensorType) or node.type.dtype.kind != "c":
        return None
    match node.op.name:
        case "integer_pow":
            return _integer_power(node.inputs[0], node["exponent"])
        case "reduce_prod":
            return _product(node.inputs[0], node["axes"])
        case "cumprod":
            return _running(node.inputs[0], None, node["axis"], node["reverse"])[0]
        case "recurrence":
            return _running(node.inputs[0], node.inputs[1], node["axis"], node["reverse"])[1]
        case "scatter" if node["combine"] == "mul":
            x, updates, *indices = node.inputs
            return ops.mul(x, product_per_place(x, updates, indices, axes=node["axes"], mode=node["mode"]))
    return None


def _integer_power(x: Node, exponent: int) -> Node:
    """By squaring; a negative power is the inverse of the positive one."""
    result: Node | None = None
    square, left = x, abs(exponent)
    while left:
        if left % 2:
            result = square if result is None else ops.mul(result, square)
        left //= 2
        if left:
            square = ops.mul(square, square)
    one = ops.like(x, 1)
    if result is None:
        return one
    return ops.div(one, result) if exponent < 0 else result


def _product(x: Node, axes: tuple[int, ...]) -> Node:
    """A balanced tree of products of halves."""
    kept = [k for k in range(x.type.ndim) if k not in axes]
    shape = [x.type.shape[k] for k in kept]
    count = math.prod(x.type.shape[k] for k in axes)
    y = ops.reshape_to(ops.transpose_to(x, (*kept, *axes)), (*shape, count))
    lead, ones = (0,) * len(shape), (1,) * (len(shape) + 1)
    if count == 0:
        return ops.full(TensorType(x.type.dtype, tuple(shape)), 1)
    while (n := y.type.shape[-1]) > 1:
        half = n // 2
        left, right = (ops.slice_(y, start=(*lead, at), size=(*shape, half), step=ones) for at in (0, half))
        product = ops.mul(left, right)
        if n % 2:
            last = ops.slice_(y, start=(*lead, n - 1), size=(*shape, 1), step=ones)
            product = ops.concatenate(product, last, axis=len(shape))
        y = product
    return ops.reshape_to(y, shape)


def _running(a: Node, b: Node | None, axis: int, reverse: bool) -> tuple[Node, Node | None]:
    """The maps y ↦ a_i y + b_i composed along an axis, by doubling: all products of a, and the recurrence (b given)."""
    by = 1
    while by < a.type.shape[axis]:
        if b is not None:
            b = ops.add(ops.mul(a, _moved(b, by, 0, axis, reverse)), b)
        a = ops.mul(a, _moved(a, by, 1, axis, reverse))
        by *= 2
    return a, b


def _moved(x: Node, by: int, fill: float, axis: int, reverse: bool) -> Node:
    """``x`` moved by ``by`` places along ``axis``, away from where a running op begins."""
    shape = x.type.shape
    ones = (1,) * len(shape)
    size = tuple(n - by * (k == axis) for k, n in enumerate(shape))
    first = tuple(by * int(k == axis and reverse) for k in range(len(shape)))
    into = tuple(by * int(k == axis and not reverse) for k in range(len(shape)))
    part = ops.slice_(x, start=first, size=size, step=ones)
    return ops.pad(part, ops.const(fill, x.type.dtype), shape=shape, start=into, step=ones)


# ------------------------------------------------------------------------------------------------ rules


def rule(*names: str) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    def enter(function: Callable[..., Value]) -> Callable[..., Value]:
        for name in names:
            RULES[name] = function
        return function

    return enter


def _as_pair(z: Parts) -> tuple[Real, Real]:
    return Real(z.re), Real(z.im)


@rule(*UNARY, *BINARY)
def by_formula(node: Node, *operands: Parts) -> Parts:
    function: Callable[..., Any] = (UNARY | BINARY)[node.op.name]
    re, im = function(*map(_as_pair, operands))
    return Parts(re.node, im.node)


@rule("constant")
def constant(node: Node) -> Parts:
    value, part = node["value"].value, node.type.dtype.real
    return Parts(ops.const(value.real, part), ops.const(value.imag, part))


@rule("real")
def real(node: Node, z: Parts) -> Node:
    return z.re


@rule("imag")
def imag(node: Node, z: Parts) -> Node:
    return z.im


@rule("conj")
def conj(node: Node, z: Parts) -> Parts:
    return Parts(z.re, ops.neg(z.im))


@rule("complex_")
def complex_(node: Node, x: Node, y: Node) -> Parts:
    return Parts(x, y)


@rule("view_as_real")
def view_as_real(node: Node, z: Parts) -> Node:
    return interleave(z).inputs[0]


@rule("view_as_complex")
def view_as_complex(node: Node, x: Node) -> Parts:
    return Parts(part_of_pairs(x, 0), part_of_pairs(x, 1))


@rule("abs")
def absolute(node: Node, z: Parts) -> Node:
    return hypot(*_as_pair(z)).node


@rule("eq")
def eq(node: Node, x: Parts, y: Parts) -> Node:
    return ops.bit_and(ops.eq(x.re, y.re), ops.eq(x.im, y.im))


@rule("ne")
def ne(node: Node, x: Parts, y: Parts) -> Node:
    return ops.bit_or(ops.ne(x.re, y.re), ops.ne(x.im, y.im))


@rule("isnan")
def isnan(node: Node, z: Parts) -> Node:
    return ops.bit_or(ops.isnan(z.re), ops.isnan(z.im))


@rule("isfinite")
def isfinite(node: Node, z: Parts) -> Node:
    return ops.bit_and(ops.isfinite(z.re), ops.isfinite(z.im))


@rule("cast")
def cast(node: Node, x: Value) -> Value:
    to = node["to"]
    if to.kind == "c":
        parts = x if isinstance(x, Parts) else Parts(x, None)  # type: ignore[arg-type]
        re = ops.convert(parts.re, to.real)
        return Parts(re, ops.zeros(re.type) if parts.im is None else ops.convert(parts.im, to.real))
    assert isinstance(x, Parts)
    if to.kind == "b":
        return ops.bit_or(ops.convert(x.re, to), ops.convert(x.im, to))
    return ops.convert(x.re, to)


@rule("dot", "conv")
def contraction(node: Node, x: Parts, y: Parts) -> Parts:
    def product(p: Node, q: Node) -> Node:
        return node.op(p, q, **node.attributes())

    re = ops.sub(product(x.re, y.re), product(x.im, y.im))
    return Parts(re, ops.add(product(x.re, y.im), product(x.im, y.re)))


__all__ = ["PARTWISE", "RULES", "has_complex", "lower_complex"]
