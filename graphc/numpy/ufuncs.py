"""NumPy's ufuncs as ops: one table entry each. Operands arrive cast to the loop's types and broadcast."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import GraphError, Node
from graphc.tracing import METHODS, NAMED_UFUNCS, UFUNCS, Tracer, is_weak_scalar, operate, to_node, wrap
from graphc.types import TensorType, bool_, f64, u64


def by_kind(boolean: Callable[..., Node], number: Callable[..., Node]) -> Callable[..., Node]:
    """One rule for bool operands, another for numbers."""
    return lambda *xs: (boolean if xs[0].type.dtype is bool_ else number)(*xs)


def truth(x: Node) -> Node:
    """``x != 0``."""
    return x if x.type.dtype is bool_ else ops.ne(x, ops.zeros(x.type))


def float_only(
    name: str, on_float: Callable[[Node], Node], otherwise: Callable[[Node], Node]
) -> Callable[[Node], Node]:
    return lambda x: on_float(x) if x.type.dtype.is_float else otherwise(x)


def constant_like(x: Node, value: bool) -> Node:
    return ops.full(TensorType(bool_, x.type.shape), value)


def comparison(
    op: Callable[[Node, Node], Node], first_negative: bool, second_negative: bool
) -> Callable[[Node, Node], Node]:
    """``op``, also between u64 and i64, which have no common integer type: a negative number settles it."""

    def compare(x: Node, y: Node) -> Node:
        if x.type.dtype is y.type.dtype:
            return op(x, y)
        signed, answer = (y, second_negative) if x.type.dtype is u64 else (x, first_negative)
        negative = ops.lt(signed, ops.zeros(signed.type))
        return ops.select(negative, constant_like(x, answer), op(ops.convert(x, u64), ops.convert(y, u64)))

    return compare


def divmod_(x: Node, y: Node) -> tuple[Node, Node]:
    return ops.floor_divide(x, y), ops.remainder(x, y)


def fmod(x: Node, y: Node) -> Node:
    """The remainder with the sign of the dividend."""
    r = ops.remainder(ops.abs_(x), ops.abs_(y))
    return ops.select(ops.lt(x, ops.zeros(x.type)), ops.neg(r), r)


def logaddexp(x: Node, y: Node) -> Node:
    """log(e^x + e^y): the larger one, plus log1p of e to minus the distance. Right in every derivative, also for x = y.

    Equal infinities give themselves.
    """
    zero = ops.zeros(x.type)
    distance = ops.sub(y, x)
    distance = ops.select(ops.bit_and(ops.isnan(distance), ops.eq(x, y)), zero, distance)
    above = ops.gt(distance, zero)
    upper = ops.add(y, ops.log1p(ops.exp(ops.neg(ops.select(above, distance, zero)))))
    lower = ops.add(x, ops.log1p(ops.exp(ops.select(above, zero, distance))))
    return ops.select(above, upper, lower)


def power(x: Node, y: Node) -> Node:
    if x.type.dtype.is_float:
        return ops.pow_(x, y)
    exponent = ops.constant_value(y)
    if exponent is None:
        raise GraphError(
            f"power of integers needs a constant exponent, not a traced {y.type}; convert with .astype(float)"
        )
    return ops.integer_pow(x, exponent=int(exponent))


def sinh(x: Node) -> Node:
    """(e^x - e^-x) / 2: by expm1 near 0, where the difference cancels; elsewhere by e^(x/2), which does not overflow."""
    close = ops.lt(ops.abs_(x), ops.like(x, 1))
    e = ops.expm1(ops.select(close, x, ops.zeros(x.type)))
    near = ops.mul(ops.like(x, 0.5), ops.add(e, ops.div(e, ops.add(e, ops.like(x, 1)))))
    return ops.select(close, near, ops.sub(*half_exponentials(x)))


def cosh(x: Node) -> Node:
    return ops.add(*half_exponentials(x))


def half_exponentials(x: Node) -> tuple[Node, Node]:
    """e^x / 2 and e^-x / 2 where each overflows only if it is too large itself."""
    root = ops.exp(ops.mul(x, ops.like(x, 0.5)))
    half = ops.like(x, 0.5)
    return ops.mul(ops.mul(half, root), root), ops.div(ops.div(half, root), root)


def arcsin(x: Node) -> Node:
    return ops.atan2(x, cofunction(x))


def arccos(x: Node) -> Node:
    return ops.atan2(cofunction(x), x)


def cofunction(x: Node) -> Node:
    """√(1 - x²)"""
    one = ops.like(x, 1)
    return ops.sqrt(ops.mul(ops.sub(one, x), ops.add(one, x)))


def arctanh(x: Node) -> Node:
    """log((1 + x) / (1 - x)) / 2"""
    return ops.mul(ops.like(x, 0.5), ops.log1p(ops.div(ops.mul(ops.like(x, 2), x), ops.sub(ops.like(x, 1), x))))


def cube_root(x: Node) -> Node:
    root = ops.pow_(ops.abs_(x), ops.like(x, 1 / 3))
    return ops.select(ops.lt(x, ops.zeros(x.type)), ops.neg(root), root)


def hypot(x: Node, y: Node) -> Node:
    """√(x² + y²) scaled by the larger one, so that squares neither overflow nor vanish; infinite where x or y is."""
    largest = ops.stop_gradient(ops.maximum(ops.abs_(x), ops.abs_(y)))
    infinite = ops.eq(largest, ops.like(x, np.inf))
    either = ops.bit_or(*[ops.eq(ops.abs_(v), ops.like(v, np.inf)) for v in (x, y)])
    usable = ops.bit_and(ops.gt(largest, ops.zeros(x.type)), ops.bit_not(infinite))
    scale = ops.select(usable, largest, ops.like(x, 1))
    a, b = ops.div(x, scale), ops.div(y, scale)
    root = ops.mul(scale, ops.sqrt(ops.add(ops.mul(a, a), ops.mul(b, b))))
    return ops.select(either, ops.like(x, np.inf), root)


def reciprocal(x: Node) -> Node:
    """1 / x; of integers, rounded towards 0, it is not 0 for 1 and -1 alone."""
    one = ops.like(x, 1)
    if x.type.dtype.is_float:
        return ops.div(one, x)
    found = ops.convert(ops.eq(x, one), x.type.dtype)
    if x.type.dtype.kind == "u":
        return found
    return ops.sub(found, ops.convert(ops.eq(x, ops.like(x, -1)), x.type.dtype))


def heaviside(x: Node, at_zero: Node) -> Node:
    zero = ops.zeros(x.type)
    step = ops.select(ops.lt(x, zero), zero, ops.select(ops.isnan(x), x, ops.like(x, 1)))
    return ops.select(ops.eq(x, zero), at_zero, step)


def signbit(x: Node) -> Node:
    zero = ops.zeros(x.type)
    negative = ops.lt(x, zero)
    if not x.type.dtype.is_float:
        return negative
    return ops.bit_or(negative, ops.bit_and(ops.eq(x, zero), ops.lt(ops.div(ops.like(x, 1), x), zero)))


def copysign(x: Node, y: Node) -> Node:
    size = ops.abs_(x)
    return ops.select(signbit(y), ops.neg(size), size)


def ignoring_nan(op: Callable[[Node, Node], Node]) -> Callable[[Node, Node], Node]:
    """fmax and fmin: of a NaN and a number, the number."""

    def extreme(x: Node, y: Node) -> Node:
        if not x.type.dtype.is_float:
            return op(x, y)
        return ops.select(ops.isnan(x), y, ops.select(ops.isnan(y), x, op(x, y)))

    return extreme


def over(function: Callable[[Node], Node], divisor: float) -> Callable[[Node], Node]:
    return lambda x: ops.div(function(x), ops.like(x, divisor))


UFUNCS.update(
    {
        np.add: by_kind(ops.bit_or, ops.add),
        np.subtract: ops.sub,
        np.multiply: by_kind(ops.bit_and, ops.mul),
        np.true_divide: ops.div,
        np.floor_divide: ops.floor_divide,
        np.remainder: ops.remainder,
        np.fmod: fmod,
        np.divmod: divmod_,
        np.power: power,
        np.float_power: ops.pow_,
        np.negative: ops.neg,
        np.positive: lambda x: x,
        np.absolute: by_kind(lambda x: x, ops.abs_),
        np.fabs: ops.abs_,
        np.sign: ops.sign,
        np.reciprocal: reciprocal,
        np.square: by_kind(lambda x: x, lambda x: ops.mul(x, x)),
        np.sqrt: ops.sqrt,
        np.exp: ops.exp,
        np.exp2: lambda x: ops.pow_(ops.like(x, 2), x),
        np.cbrt: cube_root,
        np.expm1: ops.expm1,
        np.log: ops.log,
        np.log2: over(ops.log, math.log(2)),
        np.log10: over(ops.log, math.log(10)),
        np.log1p: ops.log1p,
        np.sin: ops.sin,
        np.cos: ops.cos,
        np.tan: lambda x: ops.div(ops.sin(x), ops.cos(x)),
        np.tanh: ops.tanh,
        np.sinh: sinh,
        np.cosh: cosh,
        np.arctan2: ops.atan2,
        np.arcsin: arcsin,
        np.arccos: arccos,
        np.arctanh: arctanh,
        np.arctan: lambda x: ops.atan2(x, ops.like(x, 1)),
        np.hypot: hypot,
        np.deg2rad: lambda x: ops.mul(x, ops.like(x, float(np.pi / 180))),
        np.rad2deg: lambda x: ops.mul(x, ops.like(x, float(180 / np.pi))),
        np.maximum: ops.maximum,
        np.minimum: ops.minimum,
        np.fmax: ignoring_nan(ops.maximum),
        np.fmin: ignoring_nan(ops.minimum),
        np.logaddexp: logaddexp,
        np.floor: float_only("floor", ops.floor, lambda x: x),
        np.ceil: float_only("ceil", ops.ceil, lambda x: x),
        np.trunc: float_only("trunc", ops.trunc, lambda x: x),
        np.rint: ops.rint,
        np.equal: comparison(ops.eq, False, False),
        np.not_equal: comparison(ops.ne, True, True),
        np.less: comparison(ops.lt, True, False),
        np.less_equal: comparison(ops.le, True, False),
        np.greater: comparison(ops.gt, False, True),
        np.greater_equal: comparison(ops.ge, False, True),
        np.logical_and: lambda x, y: ops.bit_and(truth(x), truth(y)),
        np.logical_or: lambda x, y: ops.bit_or(truth(x), truth(y)),
        np.logical_xor: lambda x, y: ops.bit_xor(truth(x), truth(y)),
        np.logical_not: lambda x: ops.bit_not(truth(x)),
        np.bitwise_and: ops.bit_and,
        np.bitwise_or: ops.bit_or,
        np.bitwise_xor: ops.bit_xor,
        np.invert: ops.bit_not,
        np.left_shift: ops.shift_left,
        np.right_shift: ops.shift_right,
        np.isnan: float_only("isnan", ops.isnan, lambda x: constant_like(x, False)),
        np.isfinite: float_only("isfinite", ops.isfinite, lambda x: constant_like(x, True)),
        np.isinf: float_only(
            "isinf", lambda x: ops.eq(ops.abs_(x), ops.like(x, np.inf)), lambda x: constant_like(x, False)
        ),
        np.signbit: signbit,
        np.heaviside: heaviside,
        np.copysign: copysign,
    }
)

#: scipy.special's ufuncs, matched by name so that SciPy need not be installed.
NAMED_UFUNCS.update(
    {
        "expit": ops.sigmoid,
        "erf": ops.erf,
        "log1p": ops.log1p,
        "expm1": ops.expm1,
        "log_expit": lambda x: ops.neg(logaddexp(ops.neg(x), ops.zeros(x.type))),
        "logit": lambda x: ops.sub(ops.log(x), ops.log1p(ops.neg(x))),
        "xlogy": lambda x, y: _guarded(x, lambda v: ops.mul(x, ops.log(v)), y),
        "xlog1py": lambda x, y: _guarded(x, lambda v: ops.mul(x, ops.log1p(v)), y),
        "entr": lambda x: ops.neg(_guarded(x, lambda v: ops.mul(x, ops.log(v)), x)),
    }
)


def _guarded(x: Node, product: Callable[[Node], Node], y: Node) -> Node:
    """``product(y)``, zero where x is zero; the untaken branch never sees log 0."""
    zero = ops.eq(x, ops.zeros(x.type))
    if y.type.dtype.is_float:
        zero = ops.bit_and(zero, ops.bit_not(ops.isnan(y)))
    return ops.select(zero, ops.zeros(x.type), product(ops.select(zero, ops.like(y, 1), y)))


def operator_power(x: Any, y: Any) -> Any:
    """``x ** y``: a number as exponent keeps x's type, and the derivative is exact at 0 for whole ones."""
    if not (isinstance(x, Tracer) and is_weak_scalar(y)):
        return operate(np.power, x, y)
    element = x._node.type.dtype
    if element.is_float:
        if y == 2:
            return operate(np.square, x)
        if y == 0.5:
            return operate(np.sqrt, x)
        if type(y) in (int, float) and float(y).is_integer() and abs(y) < 2**31:
            return wrap(ops.integer_pow(to_node(x), exponent=int(y)), x._weak)
    if element.is_integer and type(y) is int:
        if y < 0 and x._weak:  # Python's 2 ** -1 is a float
            return operate(np.power, wrap(to_node(x, f64), True), float(y))
        np.asarray(y, element.numpy)  # OverflowError for an exponent that the type does not hold, as in NumPy
        return wrap(ops.integer_pow(to_node(x), exponent=y), x._weak)
    if element is bool_ and type(y) is int and y == 2:
        return operate(np.square, x)
    return operate(np.power, x, y)


METHODS["power"] = operator_power
