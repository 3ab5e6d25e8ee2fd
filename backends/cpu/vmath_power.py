"""Roots and powers of kernels."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu import simd
from graphc.backends.cpu.lanes import Value, convert, f32, f64
from graphc.backends.cpu.vmath_base import (
    MANTISSA,
    SMALLEST_NORMAL,
    clamp,
    copysign,
    elementwise,
    exponent_of_two,
    horner,
    nearest,
    plain_add,
    plain_mul,
    plain_sub,
    scale,
    two_product,
    two_sum,
)
from graphc.backends.cpu.vmath_exp import EXP_RANGE, LOG2E, exp, exp_parts, log_of, log_split

# ---------------------------------------------------------------------------------------------------------------------
# roots


@elementwise(outline=False)
def sqrt(x: Value) -> Value:
    return x.call("sqrt")


@elementwise(outline=False)
def rsqrt(x: Value) -> Value:
    """1 / sqrt(x)"""
    return x.const(1.0) / x.call("sqrt")


#: Beyond it the cube of a root that is rounded up may overflow.
_LARGE_CUBE = {f32: 2.0**100, f64: 2.0**1000}


@elementwise()
def cbrt(x: Value) -> Value:
    a = x.abs()
    small = a < SMALLEST_NORMAL[x.dtype]
    large = a > _LARGE_CUBE[x.dtype]
    scaled = plain_mul(a, small.where(2.0**54, large.where(2.0**-54, x.const(1.0))))
    e, f, _ = log_split(scaled)
    root = exp(plain_mul(log_of(e, f), 1.0 / 3.0))
    # One Newton step with the residual in twice the precision.
    square, low = two_product(root, root)
    cube, cube_low = two_product(square, root)
    residual = plain_sub(plain_sub(cube, scaled), -low.fma(root, cube_low))
    root = plain_sub(root, residual / plain_mul(square, 3.0))
    root = plain_mul(root, small.where(2.0**-18, large.where(2.0**18, x.const(1.0))))
    ordinary = (a > 0.0) & (a < float("inf"))
    return ordinary.where(copysign(root, x), x)


# ---------------------------------------------------------------------------------------------------------------------
# powers


@elementwise("iuf", outline=False)
def square(x: Value) -> Value:
    return x * x


@elementwise("iuf")
def reciprocal(x: Value) -> Value:
    if x.dtype.kind == "f":
        return x.const(1.0) / x
    return convert(Value(x.b, f64, simd.splat_constant(f64, 1.0)) / convert(x, f64), x.dtype)


@elementwise("iuf")
def power(x: Value, y: Value) -> Value:
    """``x ** y``; negative powers of integers are those of the quotient 1 / x rounded to zero."""
    if x.dtype.kind != "f":
        return _integer_power(x, y)
    magnitude = _power_f32(x.abs(), y) if x.dtype is f32 else _power_f64(x.abs(), y)
    return _power_ends(x, y, magnitude)


def _integer_power(x: Value, y: Value) -> Value:
    """Repeated squaring, as many rounds as the largest exponent among the lanes has bits."""
    b = x.b
    start, loop, done = b.block, b.append_basic_block("square"), b.append_basic_block("powers")
    b.branch(loop)
    b.position_at_end(loop)
    bits = y if y.dtype.kind == "u" else Value(b, simd.DTYPES["u" + y.dtype.name[1:]], y.ir)
    phis = [b.phi(v.ir.type) for v in (x, x, bits)]
    result, base, left = Value(b, x.dtype, phis[0]), Value(b, x.dtype, phis[1]), Value(b, bits.dtype, phis[2])
    following = [(left & 1).compare("!=", 0).where(result * base, result), base * base, left >> 1]
    for phi, first, value in zip(phis, (x.const(1), x, bits), following, strict=True):
        phi.add_incoming(first.ir, start)
        phi.add_incoming(value.ir, loop)
    more = b.bitcast(following[2].compare("!=", 0).ir, simd.I16)
    b.cbranch(b.icmp_unsigned("!=", more, ir.Constant(simd.I16, 0)), loop, done)
    b.position_at_end(done)
    if y.dtype.kind == "u":
        return following[0]
    odd = (y & 1).compare("!=", 0)
    inverse = (x == 1).where(1, (x == -1).where(odd.where(x, 1), x.const(0)))
    return (y < 0).where(inverse, following[0])


# As _LOG and _EXP2, short: relative errors 2**-38
_LOG_SHORT = (
    0.3333333334783963, -0.24999998714189883, 0.1999999467553809, -0.16666797669214956, 0.14286278012903297,
    -0.12495981341828229, 0.11088691288951512, -0.10029793678543926, 0.09440524245317451, -0.08762169218481963,
    0.0630148986237535, -0.022726604850906208,
)  # fmt: skip
_EXP2_SHORT = (
    0.6931471805568329, 0.24022650695737646, 0.055504109063276144, 0.009618129183324844, 0.0013333478470804257,
    0.00015403436885171878, 1.5303701591051517e-05, 1.3259529956725386e-06,
)  # fmt: skip


def _power_f32(a: Value, y: Value) -> Value:
    """``a ** y`` for positive a in f64, rounded once: more than half a unit in the last place is 2**-5 unlikely."""
    e, f, _ = log_split(convert(a, f64))
    square_f = plain_mul(f, f)
    natural = plain_add(plain_mul(horner(f, _LOG_SHORT), f).fma(square_f, plain_mul(square_f, -0.5)), f)
    exponent = plain_mul(natural.fma(LOG2E, e), convert(y, f64))
    exponent = clamp(exponent, -200.0, 200.0)
    n, integer = nearest(exponent)
    r = plain_sub(exponent, n)
    result = plain_mul(horner(r, _EXP2_SHORT).fma(r, 1.0), exponent_of_two(integer, f64))
    return convert(result, f32)


# (log(m) - 2q - 2/3 q**3) / q**5 in q**2 for q = (m - 1) / (m + 1), 3/4 <= m <= 3/2; relative error of log m 2**-66
_LOG_QUOTIENT = (
    0.39999999999999997, 0.28571428571437124, 0.22222222218050053, 0.1818181898210377, 0.15384539114993337,
    0.13337296095405304, 0.11650852264291386, 0.12209095207501777,
)  # fmt: skip
_TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)
_LN2_PARTS = (6.93147180369123816490e-01, 1.90821492927058770002e-10, 1.1612227229362532e-26)


def _power_f64(a: Value, y: Value) -> Value:
    """``a ** y`` for positive a, the logarithm and its product with y in twice the precision."""
    high, low = _log_double(a)
    # An exponent beyond the range of exp overflows or underflows; limit it before its products do so.
    limited = clamp(y, -1e300, 1e300)
    product, error = two_product(high, limited)
    error = plain_add(error, plain_mul(low, limited))
    total, error = two_sum(product, error)
    inside = total.abs() < 1100.0
    p, n, integer = exp_parts(clamp(total, *EXP_RANGE[f64]), inside.where(error, 0.0))
    return scale(plain_add(p, 1.0), n, integer)


def _log_double(a: Value) -> tuple[Value, Value]:
    """log(a) for positive finite a as the sum of two f64, with about 66 bits."""
    e, f, _ = log_split(a)
    denominator, denominator_low = two_sum(2.0, f)
    q = f / denominator
    product, product_low = two_product(q, denominator)
    rest = plain_sub(plain_sub(f, product), product_low)
    q_low = plain_sub(rest, plain_mul(q, denominator_low)) / denominator
    square_q, square_low = two_product(q, q)
    square_low = plain_add(square_low, plain_mul(plain_mul(q, q_low), 2.0))
    cube, cube_low = two_product(square_q, q)
    cube_low = plain_add(cube_low, plain_add(plain_mul(square_q, q_low), plain_mul(square_low, q)))
    third, third_low = two_product(cube, cube.const(_TWO_THIRDS[0]))
    third_low = plain_add(third_low, plain_add(plain_mul(cube, _TWO_THIRDS[1]), plain_mul(cube_low, _TWO_THIRDS[0])))
    tail = plain_mul(horner(square_q, _LOG_QUOTIENT), plain_mul(cube, square_q))
    # e ln 2 + 2q + 2/3 q**3 + tail, largest first
    whole = plain_mul(e, _LN2_PARTS[0])
    total, error = two_sum(whole, plain_mul(e, _LN2_PARTS[1]))
    total, more = _two_sum_any(total, plain_mul(q, 2.0))
    error = plain_add(error, more)
    total, more = _two_sum_any(total, third)
    error = plain_add(error, more)
    small = plain_add(plain_add(plain_mul(q_low, 2.0), third_low), plain_mul(e, _LN2_PARTS[2]))
    return two_sum(total, plain_add(error, plain_add(small, tail)))


def _two_sum_any(x: Value, y: Value) -> tuple[Value, Value]:
    """:func:`two_sum` for any order of magnitude (Knuth)."""
    total = plain_add(x, y)
    virtual = plain_sub(total, x)
    return total, plain_add(plain_sub(x, plain_sub(total, virtual)), plain_sub(y, virtual))


def _power_ends(x: Value, y: Value, magnitude: Value) -> Value:
    """C's rules for pow at zeros, infinities, NaN and negative bases, put over ``|x| ** y``."""
    a, infinite = x.abs(), float("inf")
    whole = y == y.call("trunc")
    largest_odd = 2.0 ** (MANTISSA[x.dtype] + 1)
    half = plain_mul(y, 0.5)
    odd = whole & (y.abs() < largest_odd) & (half != half.call("trunc"))
    # 0 and infinity as bases, infinity as exponent
    vanishing = (a == 0.0) | (a == infinite)
    goes_up = (a == infinite) == (y > 0.0)
    result = vanishing.where(goes_up.where(x.const(infinite), 0.0), magnitude)
    grows = (a > 1.0) == (y > 0.0)
    at_infinity = (a == 1.0).where(1.0, grows.where(x.const(infinite), 0.0))
    result = (y.abs() == infinite).where(at_infinity, result)
    negative = (x.bits() < 0) & odd
    result = negative.where(-result, result)
    invalid = (x < 0.0) & (a < infinite) & (whole ^ True) & (y.abs() < infinite)
    result = (invalid | (x != x) | (y != y)).where(float("nan"), result)
    return ((x == 1.0) | (y == 0.0)).where(1.0, result)
