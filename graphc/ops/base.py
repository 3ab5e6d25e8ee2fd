"""What op records are made of: the registry, type rules, constants, and records built from partial derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphc.ir import INPUT, Array, GraphError, Node, Op, attribute_key, current_builder
from graphc.types import DType, TensorType, TupleType, Type, bool_

OPS: dict[str, Op] = {INPUT.name: INPUT}


def define(record: Op) -> Op:
    """Enter an op into the registry under its name (the parser and the coverage tests look there)."""
    if record.name in OPS:
        raise ValueError(f"op {record.name!r} is defined twice")
    OPS[record.name] = record
    return record


# ---------------------------------------------------------------------------------------------- type rules


def same_type(name: str, kinds: str = "biuf") -> Callable[..., Type]:
    """All operands have one type, whose element kind is in ``kinds``; so has the result."""

    def infer(first: TensorType, *rest: TensorType) -> Type:
        for other in rest:
            if other is not first and other != first:
                check_equal(name, first, *rest)
        if type(first) is not TensorType or first.dtype.kind not in kinds:
            check_kind(name, first, kinds)
        return first

    return infer


def check_equal(name: str, *types: TensorType) -> None:
    first = types[0]
    if any([t is not first and t != first for t in types]):
        raise GraphError(f"{name} needs operands of one type, not {', '.join(map(str, types))}")


def check_kind(name: str, type: TensorType, kinds: str) -> None:
    if not isinstance(type, TensorType):
        raise GraphError(f"{name} takes tensors, not the tuple {type}")
    if type.dtype.kind not in kinds:
        words = {"b": "bool", "i": "signed integers", "u": "unsigned integers", "f": "floats", "c": "complex numbers"}
        raise GraphError(f"{name} is defined for {', '.join(words[k] for k in kinds)}, not {type}")


def check_axes(name: str, type: TensorType, axes: Sequence[int]) -> None:
    if len(set(axes)) != len(axes) or not all(0 <= a < type.ndim for a in axes):
        raise GraphError(f"{name}: axes {tuple(axes)} do not fit {type}")


# ---------------------------------------------------------------------------------------------- constants

constant: Op = define(
    Op(
        "constant",
        "constant",
        infer=lambda value: value.type,
        eval=lambda value: value.value,
        vjp=lambda ct, out, value: (),
        jvp=lambda tangents, out, value: None,
    )
)


def const(value: Any, element: DType | None = None) -> Node:
    """A constant node; ``value`` is anything that ``np.array`` takes."""
    return constant(value=Array(value, element))


type_of = type


def full(type: TensorType, value: Any) -> Node:
    """``value`` in every place of a tensor of ``type``."""
    from graphc.ops.movement import broadcast

    if type_of(value) not in (int, float):
        return broadcast(const(value, type.dtype), type.shape, ())
    builder = current_builder()
    key = (type.dtype, type.shape, attribute_key(value))
    node = builder.filled.get(key)
    if node is None:
        node = builder.filled[key] = broadcast(const(value, type.dtype), type.shape, ())
    else:
        for made in (*node.inputs, node):
            builder.record(made)
    return node


def zeros(type: TensorType) -> Node:
    return full(type, 0)


def constant_value(node: Node) -> Any:
    """The one number that fills ``node`` (a scalar constant, or a broadcast of one), or None."""
    while node.op.name in ("broadcast_to", "reshape"):
        node = node.inputs[0]
    if node.op is constant and node["value"].value.size == 1:
        return node["value"].value.reshape(())[()]
    return None


# ---------------------------------------------------------------------------------------------- records

Partial = Callable[..., Node | None]


def elementwise(
    name: str,
    scalar: str | None,
    eval: Callable[..., Any],
    partials: Sequence[Partial | None],
    infer: Callable[..., Type],
    facts: Sequence[str] = (),
    expand: Callable[..., Node] | None = None,
) -> Op:
    """An elementwise op by its partial derivatives.

    ``partials[k](g, out, *inputs)`` is g times the derivative by operand k, linear in g: the map is diagonal, so the one
    rule serves vjp (g is the cotangent) and jvp (g is the tangent). None stands for a derivative of zero.
    """

    def vjp(ct: Node, out: Node, *inputs: Node, **attrs: Any) -> tuple[Node | None, ...]:
        return tuple(p(ct, out, *inputs, **attrs) if p else None for p in partials)

    def jvp(tangents: Sequence[Node | None], out: Node, *inputs: Node, **attrs: Any) -> Node | None:
        terms = [p(t, out, *inputs, **attrs) for p, t in zip(partials, tangents, strict=True) if p and t is not None]
        return add_all([t for t in terms if t is not None])

    def batch(size: int, flags: Sequence[bool], *inputs: Node, **attrs: Any) -> Node:
        return record(*batched_operands(size, flags, inputs), **attrs)

    record = define(
        Op(
            name, "elementwise", infer, eval, vjp, jvp, batch, scalar,
            facts=frozenset(facts), expand=expand, partials=tuple(partials),
        )
    )  # fmt: skip
    return record


def linear_jvp(record: Callable[[], Op], k: int = 0) -> Callable[..., Node | None]:
    """The jvp of an op that is linear in operand ``k`` and not differentiable in the others."""

    def jvp(tangents: Sequence[Node | None], out: Node, *inputs: Node, **attrs: Any) -> Node | None:
        tangent = tangents[k]
        return None if tangent is None else record()(*inputs[:k], tangent, *inputs[k + 1 :], **attrs)

    return jvp


def add_all(terms: Sequence[Node]) -> Node | None:
    from graphc.ops.arithmetic import add

    total: Node | None = None
    for term in terms:
        total = term if total is None else add(total, term)
    return total


def batched_operands(size: int, flags: Sequence[bool], inputs: Sequence[Node]) -> list[Node]:
    """The operands, each with a leading axis of ``size``: unbatched ones are broadcast along it."""
    return [x if flag else with_batch_axis(x, size) for x, flag in zip(inputs, flags, strict=True)]


def with_batch_axis(x: Node, size: int) -> Node:
    from graphc.ops.movement import broadcast

    return broadcast(x, (size, *x.type.shape), tuple(range(1, x.type.ndim + 1)))


def shifted(axes: Sequence[int]) -> tuple[int, ...]:
    """Axes of an operand after a batch axis was put before them."""
    return tuple(a + 1 for a in axes)


__all__ = [
    "OPS", "Op", "TensorType", "TupleType", "add_all", "batched_operands", "bool_", "check_axes", "check_equal",
    "check_kind", "const", "constant", "constant_value", "define", "elementwise", "full", "linear_jvp", "same_type",
    "shifted", "with_batch_axis", "zeros",
]  # fmt: skip
