"""Operators of the kernel language: Python's operators on vectors and scalars, ``range``, ``min`` and ``max``."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing import Signature, signature

from graphc.backends.cpu.lanes import F64, I1, I64, Value, bool_, stack_slot
from graphc.backends.cpu.simd import (
    VALUE_FUNCTIONS,
    Emit,
    Primitive,
    RangeType,
    Vec,
    VecType,
    is_int,
    is_scalar,
    literal_int,
    need,
    operand,
    range_type,
    result_dtype,
    typing_error,
)

OPERATORS: dict[Any, Primitive] = {}  # Python operator or builtin -> primitive


def _operator(*keys: Any) -> Callable[[Callable[..., tuple[types.Type, Emit]]], Primitive]:
    def register(rule: Callable[..., tuple[types.Type, Emit]]) -> Primitive:
        made = Primitive(rule, rule.__name__.rstrip("_"))
        OPERATORS.update({key: made for key in keys})
        return made

    return register


def scalar_pair(x: types.Type, y: types.Type) -> types.Type:
    """The type at which two scalars meet: int64, or float64 if one is a float."""
    if not (is_scalar(x) and is_scalar(y)):
        raise typing_error(f"unsupported operands {x} and {y}")
    kinds = types.unliteral(x), types.unliteral(y)
    if any(isinstance(k, types.Float) for k in kinds):
        return types.float64
    return types.boolean if all(isinstance(k, types.Boolean) for k in kinds) else types.int64


def scalar_to(b: ir.IRBuilder, value: ir.Value, type_: types.Type) -> ir.Value:
    """A scalar widened to ``type_``: bool to int64 to float64."""
    if value.type == I1 and type_ == types.int64:
        return b.zext(value, I64)
    if value.type == I1 and type_ == types.float64:
        return b.uitofp(value, F64)
    if value.type == I64 and type_ == types.float64:
        if isinstance(value, ir.Constant) and value.constant is not None:
            return ir.Constant(F64, float(value.constant))
        return b.sitofp(value, F64)
    return value


ScalarEmit = Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value]


def _binary(
    keys: Sequence[Any],
    vector: Callable[[Value, Value], Value],
    integer: ScalarEmit,
    real: ScalarEmit | None = None,
    compare: bool = False,
    kinds: str = "iuf",
) -> None:
    """Register a binary operator on scalars (int64, and float64 where ``real`` is given) and on vectors."""

    def rule(x: types.Type, y: types.Type) -> tuple[types.Type, Emit]:
        if isinstance(x, VecType) or isinstance(y, VecType):
            d = result_dtype(x, y)
            if d.kind not in kinds:
                raise typing_error(f"{name} of {d} lanes")

            def emit(b: ir.IRBuilder, u: ir.Value, v: ir.Value) -> ir.Value:
                return vector(operand(b, u, x, d), operand(b, v, y, d)).ir

            return Vec(bool_ if compare else d), emit
        meet = scalar_pair(x, y)
        if meet == types.boolean and not (compare or "b" in kinds):
            meet = types.int64
        if meet == types.float64 and real is None:
            raise typing_error(f"{name} of {x} and {y}")
        chosen = real if meet == types.float64 else integer
        assert chosen is not None
        scalar = chosen
        return (
            types.boolean if compare else meet,
            lambda b, u, v: scalar(b, scalar_to(b, u, meet), scalar_to(b, v, meet)),
        )

    name = rule.__name__ = keys[0].__name__
    made = Primitive(rule, name)
    OPERATORS.update({key: made for key in keys})


def floor_div_scalar(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """``x // y`` of int64; 0 where y is 0."""
    quotient, remainder, wrong = _floor_parts(b, x, y)
    return b.select(wrong, b.sub(quotient, ir.Constant(I64, 1)), quotient)


def floor_mod_scalar(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """``x % y`` of int64 with the sign of y; x where y is 0."""
    quotient, remainder, wrong = _floor_parts(b, x, y)
    return b.select(wrong, b.add(remainder, y), remainder)


def _floor_parts(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    zero = ir.Constant(I64, 0)
    if not (isinstance(y, ir.Constant) and y.constant):
        y = b.select(b.icmp_signed("==", y, zero), ir.Constant(I64, 2**63 - 1), y)
    quotient, remainder = b.sdiv(x, y), b.srem(x, y)
    differ = b.icmp_signed("<", b.xor(remainder, y), zero)
    return quotient, remainder, b.and_(differ, b.icmp_signed("!=", remainder, zero))


def _vocabulary_call(name: str) -> Callable[[Value, Value], Value]:
    """A vector operator whose meaning is a function that a later module defines."""
    return lambda x, y: VALUE_FUNCTIONS[name](x, y)


_binary([operator.add, operator.iadd], operator.add, ir.IRBuilder.add, ir.IRBuilder.fadd)
_binary([operator.sub, operator.isub], operator.sub, ir.IRBuilder.sub, ir.IRBuilder.fsub)
_binary([operator.mul, operator.imul], operator.mul, ir.IRBuilder.mul, ir.IRBuilder.fmul)
_binary([operator.floordiv, operator.ifloordiv], _vocabulary_call("floor_divide"), floor_div_scalar)
_binary([operator.mod, operator.imod], _vocabulary_call("remainder"), floor_mod_scalar)
_binary([operator.and_, operator.iand], operator.and_, ir.IRBuilder.and_, kinds="biu")
_binary([operator.or_, operator.ior], operator.or_, ir.IRBuilder.or_, kinds="biu")
_binary([operator.xor, operator.ixor], operator.xor, ir.IRBuilder.xor, kinds="biu")
_binary([operator.lshift, operator.ilshift], _vocabulary_call("left_shift"), ir.IRBuilder.shl, kinds="iu")
_binary([operator.rshift, operator.irshift], _vocabulary_call("right_shift"), ir.IRBuilder.ashr, kinds="iu")


def _ordering(key: Any, op: str) -> None:
    def real(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
        return b.fcmp_unordered(op, x, y) if op == "!=" else b.fcmp_ordered(op, x, y)

    _binary(
        [key],
        lambda x, y: x.compare(op, y),
        lambda b, x, y: b.icmp_signed(op, x, y),
        real,
        compare=True,
        kinds="biuf",
    )


for _key, _op in (
    (operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">="), (operator.eq, "=="),
    (operator.ne, "!="),
):  # fmt: skip
    _ordering(_key, _op)


@_operator(operator.truediv, operator.itruediv)
def truediv(x: types.Type, y: types.Type) -> tuple[types.Type, Emit]:
    if not (isinstance(x, VecType) or isinstance(y, VecType)):
        if scalar_pair(x, y) is None:
            raise typing_error(f"unsupported operands {x} and {y}")
        real = types.float64
        return real, lambda b, u, v: b.fdiv(scalar_to(b, u, real), scalar_to(b, v, real))
    d = result_dtype(x, y)
    if d.kind != "f":
        raise typing_error(f"/ of {d} lanes: cast to a float first")
    return Vec(d), lambda b, u, v: (operand(b, u, x, d) / operand(b, v, y, d)).ir


@_operator(operator.pow, operator.ipow)
def pow_(x: types.Type, y: types.Type) -> tuple[types.Type, Emit]:
    d = result_dtype(x, y)
    return Vec(d), lambda b, u, v: VALUE_FUNCTIONS["power"](operand(b, u, x, d), operand(b, v, y, d)).ir


@_operator(operator.neg)
def neg(x: types.Type) -> tuple[types.Type, Emit]:
    if isinstance(x, VecType):
        d = x.dtype
        return x, lambda b, u: (-Value(b, d, u)).ir
    if not is_scalar(x):
        raise typing_error(f"unsupported operand {x}")
    if isinstance(types.unliteral(x), types.Float):

        def emit(b: ir.IRBuilder, u: ir.Value) -> ir.Value:
            return ir.Constant(F64, -u.constant) if isinstance(u, ir.Constant) else b.fneg(u)

        return types.float64, emit
    return types.int64, lambda b, u: b.neg(scalar_to(b, u, types.int64))


@_operator(operator.pos)
def pos(x: types.Type) -> tuple[types.Type, Emit]:
    return x, lambda b, u: u


@_operator(operator.invert)
def invert(x: types.Type) -> tuple[types.Type, Emit]:
    if isinstance(x, VecType) and x.dtype.kind != "f":
        return x, lambda b, u: b.not_(u)
    need(x)
    return types.int64, lambda b, u: b.not_(u)


@_operator(operator.not_)
def not_(x: types.Type) -> tuple[types.Type, Emit]:
    as_bool = bool_rule(x)[1]
    return types.boolean, lambda b, u: b.not_(as_bool(b, u))


def bool_rule(x: types.Type) -> tuple[types.Type, Emit]:
    """The condition of an ``if``: a bool, or an int64 that is not 0."""
    if isinstance(types.unliteral(x), types.Boolean):
        return types.boolean, lambda b, u: u
    if not is_int(x):
        raise typing_error(f"{x} is no condition; use any_lane or all_lanes for vectors")
    return types.boolean, lambda b, u: b.icmp_signed("!=", u, ir.Constant(I64, 0))


OPERATORS[bool] = Primitive(bool_rule, "bool")


def _extremum(key: Any, op: str) -> None:
    def rule(x: types.Type, y: types.Type) -> tuple[types.Type, Emit]:
        need(x)
        need(y)
        return types.int64, lambda b, u, v: b.select(b.icmp_signed(op, v, u), v, u)

    rule.__name__ = key.__name__
    OPERATORS[key] = Primitive(rule)


_extremum(min, "<")
_extremum(max, ">")


# ---------------------------------------------------------------------------------------------------------------------
# range


@_operator(range)
def range_(
    start: types.Type, stop: types.Type | None = None, step: types.Type | None = None
) -> tuple[types.Type, Emit]:
    for argument in (start, stop):
        if argument is not None:
            need(argument)
    stride = 1 if step is None else literal_int(step)
    if stride == 0:
        raise typing_error("the step of a range must not be 0")

    def emit(b: ir.IRBuilder, first: ir.Value, limit: ir.Value | None = None, _: Any = None) -> ir.Value:
        state = stack_slot(b, ir.ArrayType(I64, 2))
        first, limit = (ir.Constant(I64, 0), first) if limit is None else (first, limit)
        b.store(first, state)
        b.store(limit, b.gep(state, [ir.Constant(I64, 1)], source_etype=I64))
        return state

    return range_type(stride), emit


def iternext(state: RangeType) -> tuple[types.Type, Emit]:
    """Advance a range: the pair (value, whether there is one)."""
    stride = state.step

    def emit(b: ir.IRBuilder, state: ir.Value) -> ir.Value:
        value = b.load(state, typ=I64)
        limit = b.load(b.gep(state, [ir.Constant(I64, 1)], source_etype=I64), typ=I64)
        b.store(b.add(value, ir.Constant(I64, stride)), state)
        valid = b.icmp_signed("<" if stride > 0 else ">", value, limit)
        pair: ir.Value = ir.Constant(ir.LiteralStructType([I64, I1]), ir.Undefined)
        return b.insert_value(b.insert_value(pair, value, 0), valid, 1)

    return types.Pair(types.int64, types.boolean), emit


def static_getitem(items: types.UniTuple, index: int) -> tuple[types.Type, Emit]:
    """``items[index]`` of a tuple, as unpacking writes it."""
    return items.dtype, lambda b, items, _: b.extract_value(items, index)


def static_getitem_signature(items: types.Type, index: Any) -> Signature:
    if not isinstance(items, types.UniTuple) or not isinstance(index, int):
        raise typing_error(f"{items} cannot be indexed; use load and store")
    return signature(items.dtype, items, types.literal(index))


OPERATORS["getiter"] = Primitive(lambda state: (state, lambda b, s: s), "getiter")
OPERATORS["iternext"] = Primitive(iternext, "iternext")
