"""Elementwise ops beside arithmetic: logarithms and powers of other bases, trigonometric and hyperbolic functions, bits.

Each is a function of NumPy's and of the code generators, so that values are exact where NumPy's are (``log2(8)`` is 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.ir import GraphError, Node, Op
from graphc.ops.arithmetic import (
    add,
    bit_and,
    div,
    eq,
    exp,
    gt,
    isnan,
    keep_dtype,
    like,
    log1p,
    mul,
    neg,
    rint,
    select,
    sigmoid,
    sqrt,
    sub,
)
from graphc.ops.base import elementwise, same_type, zeros
from graphc.types import DType, TensorType, Type, dtype

Partial = Callable[..., Node]


def _function(name: str, numpy: Callable[..., Any], partial: Partial) -> Op:
    return elementwise(name, f"{name}({{0}})", keep_dtype(numpy), (partial,), same_type(name, "f"))


# ------------------------------------------------------------------------------------------------ powers and logarithms

exp2 = _function("exp2", np.exp2, lambda g, o, x: mul(g, mul(o, like(o, math.log(2)))))
log2 = _function("log2", np.log2, lambda g, o, x: div(g, mul(x, like(x, math.log(2)))))
log10 = _function("log10", np.log10, lambda g, o, x: div(g, mul(x, like(x, math.log(10)))))
#: The derivative at 0 is infinite.
cbrt = _function("cbrt", np.cbrt, lambda g, o, x: div(mul(g, like(o, 1 / 3)), mul(o, o)))


def log_of_sum(
    x: Node, y: Node, exponential: Callable[[Node], Node], log_one_plus: Callable[[Node], Node]
) -> Node:
    """The larger one, plus the logarithm of 1 + e^-distance. Right in every derivative, also for x = y.

    Equal infinities give themselves; all of the cotangent is then the first one's.
    """
    zero = zeros(x.type)
    distance = sub(y, x)
    distance = select(_equal_infinities(distance, x, y), zero, distance)
    above = gt(distance, zero)
    upper = add(y, log_one_plus(exponential(neg(select(above, distance, zero)))))
    lower = add(x, log_one_plus(exponential(select(above, zero, distance))))
    return select(above, upper, lower)


def _equal_infinities(distance: Node, x: Node, y: Node) -> Node:
    return bit_and(isnan(distance), eq(x, y))


def _share(mine: Node, other: Node, of_infinities: float) -> Node:
    """e^mine / (e^mine + e^other); of equal infinities the sigmoid of ``of_infinities``."""
    distance = sub(mine, other)
    return sigmoid(select(_equal_infinities(distance, mine, other), like(distance, of_infinities), distance))


#: log(e^x + e^y). Of equal infinities the first one has all of the cotangent.
logaddexp = elementwise(
    "logaddexp",
    None,
    keep_dtype(np.logaddexp),
    (lambda g, o, x, y: mul(g, _share(x, y, math.inf)), lambda g, o, x, y: mul(g, _share(y, x, -math.inf))),
    same_type("logaddexp", "f"),
    expand=lambda x, y: log_of_sum(x, y, exp, log1p),
)

# ------------------------------------------------------------------------------------------------ angles


def _cofunction(x: Node) -> Node:
    """√(1 - x²)"""
    return sqrt(_one_minus_square(x))


def _one_minus_square(x: Node) -> Node:
    """1 - x², right near 1 and -1."""
    one = like(x, 1)
    return mul(sub(one, x), add(one, x))


tan = _function("tan", np.tan, lambda g, o, x: mul(g, add(like(o, 1), mul(o, o))))
asin = _function("asin", np.arcsin, lambda g, o, x: div(g, _cofunction(x)))
acos = _function("acos", np.arccos, lambda g, o, x: neg(div(g, _cofunction(x))))
atan = _function("atan", np.arctan, lambda g, o, x: div(g, add(like(x, 1), mul(x, x))))

# ------------------------------------------------------------------------------------------------ hyperbolic

sinh: Op = _function("sinh", np.sinh, lambda g, o, x: mul(g, cosh(x)))
cosh: Op = _function("cosh", np.cosh, lambda g, o, x: mul(g, sinh(x)))
#: cosh(asinh x) is √(1 + x²) without squares that overflow; so is sinh(acosh x) of √(x² - 1).
asinh = _function("asinh", np.arcsinh, lambda g, o, x: div(g, cosh(o)))
acosh = _function("acosh", np.arccosh, lambda g, o, x: div(g, sinh(o)))
atanh = _function("atanh", np.arctanh, lambda g, o, x: div(g, _one_minus_square(x)))

# ------------------------------------------------------------------------------------------------ remainder and bits

#: The remainder of a division rounded towards 0: it has the sign of the dividend.
fmod = elementwise(
    "fmod",
    "fmod({0}, {1})",
    keep_dtype(np.fmod),
    (lambda g, o, x, y: g, lambda g, o, x, y: neg(mul(g, rint(div(sub(x, o), y))))),
    same_type("fmod", "iuf"),
)


def _bitcast_type(x: TensorType, to: DType) -> Type:
    element = dtype(to)
    if x.dtype.itemsize != element.itemsize or element.itemsize < 4 or "c" in (x.dtype.kind, element.kind):
        raise GraphError(f"bitcast between types of 32 or of 64 bits, not from {x} to {element}")
    return TensorType(element, x.shape)


#: ``bitcast(x, to=)``: the same bits as another element type of that width (4 or 8 bytes).
bitcast = elementwise(
    "bitcast",
    "bitcast({0}, {to})",
    lambda x, to: np.ascontiguousarray(x).view(to.numpy).reshape(np.shape(x)),
    (None,),
    _bitcast_type,
)
