"""Functions of complex numbers as formulas of their two real parts.

What happens at ±0, ±inf and NaN is what C99 (annex G) and NumPy define, but for signs that C leaves open. Products,
quotients and powers are the plain formulas, which make NaN of some infinities, as NumPy's do. log1p is more accurate near 0
than NumPy's; powers lose as many digits as |y log x| has before the point.

Sources: W. Kahan, *Branch cuts for complex elementary functions, or much ado about nothing's sign bit* (1987); R. L. Smith,
*Algorithm 116: complex division* (1962).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphc import ops
from graphc.ir import Node


@dataclass(frozen=True, slots=True, eq=False)
class Real:
    """A real node with Python's operators, so that formulas read as such. Numbers take its type."""

    node: Node

    def of(self, value: Any) -> Node:
        return value.node if isinstance(value, Real) else ops.like(self.node, value)

    def __add__(self, other: Any) -> Real:
        return Real(ops.add(self.node, self.of(other)))

    def __sub__(self, other: Any) -> Real:
        return Real(ops.sub(self.node, self.of(other)))

    def __rsub__(self, other: Any) -> Real:
        return Real(ops.sub(self.of(other), self.node))

    def __mul__(self, other: Any) -> Real:
        return Real(ops.mul(self.node, self.of(other)))

    def __truediv__(self, other: Any) -> Real:
        return Real(ops.div(self.node, self.of(other)))

    def __rtruediv__(self, other: Any) -> Real:
        return Real(ops.div(self.of(other), self.node))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Real:
        return Real(ops.neg(self.node))

    def __abs__(self) -> Real:
        return Real(ops.abs_(self.node))

    def __lt__(self, other: Any) -> Real:
        return Real(ops.lt(self.node, self.of(other)))

    def __gt__(self, other: Any) -> Real:
        return Real(ops.gt(self.node, self.of(other)))

    def __ge__(self, other: Any) -> Real:
        return Real(ops.ge(self.node, self.of(other)))

    def is_(self, other: Any) -> Real:
        return Real(ops.eq(self.node, self.of(other)))

    def __and__(self, other: Real) -> Real:
        return Real(ops.bit_and(self.node, other.node))

    def __or__(self, other: Real) -> Real:
        return Real(ops.bit_or(self.node, other.node))

    def __invert__(self) -> Real:
        return Real(ops.bit_not(self.node))

    @property
    def is_double(self) -> bool:
        return bool(self.node.type.dtype.itemsize == 8)


Pair = tuple[Real, Real]
INF = math.inf


def function(op: Callable[..., Node]) -> Callable[..., Real]:
    return lambda *xs: Real(op(*[x.node for x in xs]))


root, sine, cosine, exponential = map(function, (ops.sqrt, ops.sin, ops.cos, ops.exp))
log, log1p, expm1, arctan2 = map(function, (ops.log, ops.log1p, ops.expm1, ops.atan2))
larger, smaller, finite, is_nan = map(function, (ops.maximum, ops.minimum, ops.isfinite, ops.isnan))


def where(condition: Real, x: Any, y: Any) -> Real:
    like = x if isinstance(x, Real) else y
    return Real(ops.select(condition.node, like.of(x), like.of(y)))


def infinite(x: Real) -> Real:
    return abs(x).is_(INF)


def negative(x: Real) -> Real:
    """Whether x has its sign bit set (False for NaN)."""
    return (x < 0) | (x.is_(0) & (1 / x < 0))


def copysign(size: Any, sign: Real) -> Real:
    size = abs(size) if isinstance(size, Real) else Real(sign.of(size))
    return where(negative(sign), -size, size)


def zero_or_product(x: Real, y: Real) -> Real:
    """x·y, where 0 times anything is 0: the limits of functions that vanish on an axis."""

    def tame(v: Real) -> Real:
        return where(finite(v), v, copysign(1, v))

    return where(x.is_(0) | y.is_(0), tame(x) * tame(y), x * y)


# ------------------------------------------------------------------------------------------------ arithmetic


def multiply(x: Pair, y: Pair) -> Pair:
    (a, b), (c, d) = x, y
    return a * c - b * d, a * d + b * c


def divide(x: Pair, y: Pair) -> Pair:
    """Smith's method, as in NumPy: by the larger part of the divisor, so that squares neither overflow nor vanish."""
    (a, b), (c, d) = x, y
    by_real = abs(c) >= abs(d)
    large, small = where(by_real, c, d), where(by_real, d, c)
    nothing = c.is_(0) & d.is_(0)
    large = where(nothing, abs(large), large)
    ratio = small / where(nothing, 1, large)
    scale = 1 / (large + where(nothing, 0, small * ratio))
    first, second = where(by_real, a, b), where(by_real, b, a)
    across = where(nothing, 0, second * ratio)
    back = where(nothing, 0, first * ratio)
    im = where(by_real, second - back, back - second)
    return (first + across) * scale, im * scale


def reciprocal(z: Pair) -> Pair:
    """1/z, likewise; its zeros have the signs of conj(z), as in NumPy."""
    c, d = z
    by_real = abs(c) > abs(d)
    large, small = where(by_real, c, d), where(by_real, d, c)
    ratio = small / large
    below = large + small * ratio
    first, second = 1 / below, ratio / below
    return where(by_real, first, second), -where(by_real, second, first)


def hypot(x: Real, y: Real) -> Real:
    """√(x² + y²), infinite where a part is, whatever the other."""
    large, small = larger(abs(x), abs(y)), smaller(abs(x), abs(y))
    ratio = small / where((large > 0) & (large < INF), large, 1)
    return where(infinite(x) | infinite(y), INF, large * root(ratio * ratio + 1))


def sign(z: Pair) -> Pair:
    """z/|z|; 0 at 0, ±1 and ±i in the direction of one infinite part (whatever the other), NaN where both are."""
    x, y = z
    size = hypot(x, y)
    endless = infinite(size) & ~(infinite(x) & infinite(y))
    still = size.is_(0)
    by = where(still, 1, where(endless, 1, size))

    def part(v: Real) -> Real:
        return where(endless, where(infinite(v), copysign(1, v), 0), where(still, 0, v / by))

    unknown = (is_nan(x) | is_nan(y)) & ~endless
    return where(unknown, math.nan, part(x)), where(unknown, math.nan, part(y))


# ------------------------------------------------------------------------------------------------ exponential, logarithm, root


def exp(z: Pair) -> Pair:
    """e^x (cos y + i sin y); where e^x alone would overflow, its last factor comes last."""
    x, y = z
    limit = 709.0 if x.is_double else 88.0
    beyond = x > limit
    size = exponential(where(beyond, x - limit, x))
    factor = where(beyond, math.exp(limit), Real(ops.like(x.node, 1)))
    lost = ~finite(y)
    c = where(lost & infinite(x), 1, cosine(y))
    s = where(lost & x.is_(-INF), 0, sine(y))
    return size * c * factor, where(y.is_(0), y, size * s * factor)


def expm1_(z: Pair) -> Pair:
    """NumPy's formula, plain also at infinities."""
    x, y = z
    half = sine(y * 0.5)
    return expm1(x) * cosine(y) - 2 * half * half, exponential(x) * sine(y)


def log_size(x: Real, y: Real) -> Real:
    """log |z|. Near |z| = 1 its error is absolute, as large as the rounding of x and y."""
    large, small = larger(abs(x), abs(y)), smaller(abs(x), abs(y))
    ratio = small / where((large > 0) & (large < INF), large, 1)
    far = log(large) + 0.5 * log1p(ratio * ratio)
    close = (large > 0.5) & (large < 1.5)
    near = 0.5 * log1p((large - 1) * (large + 1) + small * small)
    return where(infinite(x) | infinite(y), INF, where(close, near, far))


def log_(z: Pair) -> Pair:
    x, y = z
    return log_size(x, y), arctan2(y, x)


def log1p_(z: Pair) -> Pair:
    """Exact to rounding near 0, where NumPy's log(1 + z) is not."""
    x, y = z
    near = 0.5 * log1p(x * (x + 2) + y * y)
    return where(larger(abs(x), abs(y)) < 0.5, near, log_size(x + 1, y)), arctan2(y, x + 1)


def sqrt(z: Pair) -> Pair:
    """The root in the right half plane; scaled where |z| would overflow or lose digits."""
    x, y = z
    largest = larger(abs(x), abs(y))
    top, bottom, up = (2.0**1019, 2.0**-900, 2.0**110) if x.is_double else (2.0**123, 2.0**-90, 2.0**50)
    big, tiny = largest > top, largest < bottom
    scale = where(big, 1 / 16, where(tiny, up, Real(ops.like(x.node, 1))))
    back = where(big, 4, where(tiny, up**-0.5, Real(ops.like(x.node, 1))))
    ax, ay = abs(x) * scale, abs(y) * scale
    t = root(0.5 * (ax + hypot(ax, ay)))
    u = ay / where(t.is_(0), 1, 2 * t)
    endless = infinite(y)
    t, u = where(endless, INF, t * back), where(endless, INF, u * back)
    right = x >= 0
    return where(right, t, u), copysign(where(right, u, t), y)


def power(x: Pair, y: Pair) -> Pair:
    """e^(y log x); 1 for exponent 0; of 0, 0 for exponents with a positive real part and NaN for others."""
    none, base_zero = y[0].is_(0) & y[1].is_(0), x[0].is_(0) & x[1].is_(0)
    safe = where(base_zero, 1, x[0]), x[1]
    re, im = exp(multiply(y, log_(safe)))
    of_zero = where(y[0] > 0, Real(ops.like(re.node, 0)), math.nan)
    re, im = where(base_zero, of_zero, re), where(base_zero, of_zero, im)
    return where(none, 1, re), where(none, 0, im)


# ------------------------------------------------------------------------------------------------ trigonometric


def half_exponentials(x: Real) -> Pair:
    """e^x / 2 and e^-x / 2 of x ≥ 0, where the first overflows only if it is too large itself."""
    half_way = exponential(x * 0.5)
    return 0.5 * half_way * half_way, 0.5 / half_way / half_way


def sinh(x: Real) -> Real:
    close = abs(x) < 1
    e = expm1(where(close, x, 0))
    near = 0.5 * (e + e / (e + 1))
    up, down = half_exponentials(abs(x))
    return where(x.is_(0), x, where(close, near, copysign(up - down, x)))


def cosh(x: Real) -> Real:
    up, down = half_exponentials(abs(x))
    return up + down


def sin(z: Pair) -> Pair:
    x, y = z
    lost = infinite(y) & ~finite(x)
    return zero_or_product(sine(x), cosh(y)), where(lost, INF, zero_or_product(cosine(x), sinh(y)))


def cos(z: Pair) -> Pair:
    x, y = z
    lost = infinite(y) & ~finite(x)
    return where(lost, INF, zero_or_product(cosine(x), cosh(y))), -zero_or_product(sine(x), sinh(y))


def tanh(z: Pair) -> Pair:
    """(sinh x cosh x + i sin y cos y) / (cos² y + sinh² x); beyond ``limit`` cosh and sinh are equal."""
    x, y = z
    limit = 22.0 if x.is_double else 11.0
    s, c, w = sinh(larger(smaller(x, Real(x.of(limit))), Real(x.of(-limit)))), cosine(y), sine(y)
    below = c * c + s * s
    far = abs(x) > limit
    turned = where(infinite(x) & ~finite(y), 0, 4 * w * c * exponential(-2 * abs(x)))
    full = copysign(1, x) + where(infinite(x), 0, w * 0)
    re = where(x.is_(0), x, where(far, full, s * root(s * s + 1) / below))
    return re, where(y.is_(0), y, where(far, turned, w * c / below))


# ------------------------------------------------------------------------------------------------ inverse trigonometric (Kahan)


def arcsinh_of_real(x: Real) -> Real:
    size = abs(x)
    square = where(size < 1e9, size, 0) * size
    near = log1p(size + square / (root(square + 1) + 1))
    return copysign(where(size < 1e9, near, log(size) + math.log(2)), x)


def conjugate_product(x: Pair, y: Pair) -> Pair:
    """conj(x)·y"""
    return x[0] * y[0] + x[1] * y[1], x[0] * y[1] - x[1] * y[0]


def direction(x: Real, y: Real) -> Pair:
    """Where an infinite number lies: infinite parts as ±1, finite ones as ±0."""
    return tuple(where(is_nan(v), v, copysign(where(infinite(v), 1, Real(v.of(0))), v)) for v in (x, y))  # type: ignore


def arcsin(z: Pair) -> Pair:
    x, y = z
    left, right = sqrt((1 - x, -y)), sqrt((x + 1, y))
    endless = infinite(x) | infinite(y)
    dx, dy = direction(x, y)
    re = where(endless, arctan2(dx, abs(dy)), where(x.is_(0), x, arctan2(x, multiply(left, right)[0])))
    return re, where(endless, copysign(INF, y), arcsinh_of_real(conjugate_product(left, right)[1]))


def arccos(z: Pair) -> Pair:
    x, y = z
    left, right = sqrt((1 - x, -y)), sqrt((x + 1, y))
    endless = infinite(x) | infinite(y)
    dx, dy = direction(x, y)
    re = where(endless, arctan2(abs(dy), dx), where(x.is_(0), math.pi / 2, 2 * arctan2(left[0], right[0])))
    return re, where(endless, -copysign(INF, y), arcsinh_of_real(conjugate_product(right, left)[1]))


def arccosh(z: Pair) -> Pair:
    x, y = z
    left, right = sqrt((x - 1, y)), sqrt((x + 1, y))
    endless = infinite(x) | infinite(y)
    dx, dy = direction(x, y)
    re = where(endless, INF, arcsinh_of_real(conjugate_product(left, right)[0]))
    im = where(x.is_(0), copysign(math.pi / 2, y), 2 * arctan2(left[1], right[0]))
    return re, where(endless, arctan2(dy, dx), im)


def arcsinh(z: Pair) -> Pair:
    p, q = arcsin((-z[1], z[0]))
    return q, -p


def arctanh(z: Pair) -> Pair:
    """Beyond ``limit`` it is ±iπ/2 + 1/z; at ±1 + iy for a y whose square vanishes, log(2/|y|)/2."""
    x, y = z
    ax, ay = abs(x), abs(y)
    limit, least = (1e9, 1e-100) if x.is_double else (1e5, 1e-15)
    far = larger(ax, ay) > limit
    nx, ny = where(far, 0, ax), where(far, 0, y)
    beyond = 1 - nx
    re = 0.25 * log1p(4 * nx / (beyond * beyond + ny * ny))
    re = where(nx.is_(1) & (ay < least), 0.5 * (math.log(2) - log(ay)), re)
    im = 0.5 * arctan2(2 * ny, beyond * (nx + 1) - ny * ny)
    size = where(far, hypot(x, y), 1)
    re = where(far, ax / size / size, re)
    im = where(far, copysign(math.pi / 2, y) - y / size / size, im)
    endless = infinite(x) | infinite(y)
    re = where(x.is_(0) | endless, 0, re)
    return copysign(re, x), where(endless & ~is_nan(y), copysign(math.pi / 2, y), im)


def arctan(z: Pair) -> Pair:
    p, q = arctanh((-z[1], z[0]))
    return q, -p


#: Ops of one complex operand with a complex result.
UNARY: dict[str, Callable[[Pair], Pair]] = {
    "exp": exp, "expm1": expm1_, "log": log_, "log1p": log1p_, "sqrt": sqrt, "sin": sin, "cos": cos, "tanh": tanh,
    "sign": sign, "creciprocal": reciprocal, "casin": arcsin, "cacos": arccos, "catan": arctan, "casinh": arcsinh,
    "cacosh": arccosh,
    "catanh": arctanh,
}  # fmt: skip
#: Ops of two.
BINARY: dict[str, Callable[[Pair, Pair], Pair]] = {"mul": multiply, "div": divide, "pow": power}

__all__ = ["BINARY", "UNARY", "Pair", "Real", "hypot"]
