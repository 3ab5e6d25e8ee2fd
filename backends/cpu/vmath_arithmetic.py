"""Comparisons, rounding, shifts, division and random bits of kernels: NumPy's meaning."""

from __future__ import annotations

from llvmlite import ir
from numba.core import types

from graphc.backends.cpu import simd
from graphc.backends.cpu.lanes import Value, bool_, convert, f64, i64, u32, u64
from graphc.backends.cpu.vmath_base import copysign, elementwise, nearest, plain_add, plain_mul, plain_sub

# ---------------------------------------------------------------------------------------------------------------------
# comparisons, selection, signs, rounding: NumPy's meaning


@elementwise("biuf", outline=False)
def maximum(x: Value, y: Value) -> Value:
    return x | y if x.dtype is bool_ else simd.maximum_value(x, y)


@elementwise("biuf", outline=False)
def minimum(x: Value, y: Value) -> Value:
    return x & y if x.dtype is bool_ else simd.minimum_value(x, y)


@elementwise("biuf", outline=False)
def fmax(x: Value, y: Value) -> Value:
    """The larger one; NaN only where both are."""
    if x.dtype.kind != "f":
        return maximum(x, y)
    return (y != y).where(x, (x > y).where(x, y))


@elementwise("biuf", outline=False)
def fmin(x: Value, y: Value) -> Value:
    """The smaller one; NaN only where both are."""
    if x.dtype.kind != "f":
        return minimum(x, y)
    return (y != y).where(x, (x < y).where(x, y))


@elementwise("biuf", outline=False)
def abs_(x: Value) -> Value:
    if x.dtype.kind == "f":
        return x.abs()
    return (x < 0).where(-x, x) if x.dtype.kind == "i" else x


@elementwise("iuf", outline=False)
def sign(x: Value) -> Value:
    """-1, 0, 1, or NaN; 0 for -0."""
    result = (x > 0).where(x.const(1), 0)
    if x.dtype.kind == "u":
        return result
    result = (x < 0).where(x.const(-1), result)
    return (x != x).where(x, result) if x.dtype.kind == "f" else result


@elementwise(outline=False)
def floor(x: Value) -> Value:
    return x.call("floor")


@elementwise(outline=False)
def ceil(x: Value) -> Value:
    return x.call("ceil")


@elementwise(outline=False)
def trunc(x: Value) -> Value:
    return x.call("trunc")


@elementwise(outline=False)
def rint(x: Value) -> Value:
    """The nearest integer, the even one of two."""
    return x.call("roundeven")


@elementwise("biuf", bool_, outline=False)
def isnan(x: Value) -> Value:
    return x != x


@elementwise("biuf", bool_, outline=False)
def isinf(x: Value) -> Value:
    return x.abs() == float("inf") if x.dtype.kind == "f" else x != x


@elementwise("biuf", bool_, outline=False)
def isfinite(x: Value) -> Value:
    return x.abs() < float("inf") if x.dtype.kind == "f" else x == x


@elementwise("f", bool_, outline=False)
def signbit(x: Value) -> Value:
    return x.bits() < 0


@elementwise("biuf", bool_, outline=False)
def logical_and(x: Value, y: Value) -> Value:
    return convert(x, bool_) & convert(y, bool_)


@elementwise("biuf", bool_, outline=False)
def logical_or(x: Value, y: Value) -> Value:
    return convert(x, bool_) | convert(y, bool_)


@elementwise("biuf", bool_, outline=False)
def logical_xor(x: Value, y: Value) -> Value:
    return convert(x, bool_) ^ convert(y, bool_)


@elementwise("biuf", bool_, outline=False)
def logical_not(x: Value) -> Value:
    return ~convert(x, bool_)


@elementwise(outline=False)
def fma(x: Value, y: Value, z: Value) -> Value:
    """``x * y + z`` with one rounding where the host has FMA, two elsewhere."""
    return x.fma(y, z)


# ---------------------------------------------------------------------------------------------------------------------
# shifts, division, remainder: NumPy's meaning


def _unsigned(x: Value) -> Value:
    return x if x.dtype.kind == "u" else Value(x.b, simd.DTYPES["u" + x.dtype.name[1:]], x.ir)


def _shift_inside(y: Value) -> tuple[Value, Value]:
    """(the count where it is below the width, else 0; whether it is)"""
    inside = _unsigned(y) < y.dtype.bits
    return inside.where(y, 0), inside


@elementwise("iu", outline=False)
def left_shift(x: Value, y: Value) -> Value:
    count, inside = _shift_inside(y)
    return inside.where(x << count, 0)


@elementwise("iu", outline=False)
def right_shift(x: Value, y: Value) -> Value:
    count, inside = _shift_inside(y)
    return inside.where(x >> count, x >> (x.dtype.bits - 1) if x.dtype.kind == "i" else 0)


@elementwise("biuf")
def floor_divide(x: Value, y: Value) -> Value:
    """``x // y`` rounded down; integers: 0 where y is 0, ``INT_MIN // -1`` is INT_MIN."""
    if x.dtype.kind == "f":
        return _float_divmod(x, y)[0]
    truncated, rest = _integer_divide(x, y)
    if x.dtype.kind == "u":
        return truncated
    below = rest.compare("!=", 0) & ((rest ^ y) < 0)
    return below.where(truncated - 1, truncated)


@elementwise("biuf")
def remainder(x: Value, y: Value) -> Value:
    """``x % y`` with the sign of y; integers: 0 where y is 0."""
    if x.dtype.kind == "f":
        return _float_divmod(x, y)[1]
    _, rest = _integer_divide(x, y)
    if x.dtype.kind == "u":
        return rest
    return (rest.compare("!=", 0) & ((rest ^ y) < 0)).where(rest + y, rest)


@elementwise("iuf")
def fmod(x: Value, y: Value) -> Value:
    """The remainder with the sign of x, exact; integers: 0 where y is 0."""
    return _float_fmod(x, y) if x.dtype.kind == "f" else _integer_divide(x, y)[1]


def _integer_divide(x: Value, y: Value) -> tuple[Value, Value]:
    """(x / y rounded to zero, x - y * that); both 0 where y is 0."""
    zero = y == 0
    divisor = zero.where(1, y)
    if x.dtype.bits <= 32:
        # The rounded quotient of f64 lies on the same side of an integer as the exact one.
        wide = (convert(x, f64) / convert(divisor, f64)).call("trunc")
        quotient = convert(nearest(wide)[1], x.dtype)
    elif x.dtype is i64:
        minus = divisor == -1  # INT_MIN / -1 traps
        quotient = Value(x.b, i64, x.b.sdiv(x.ir, minus.where(1, divisor).ir))
        quotient = minus.where(-x, quotient)
    else:
        quotient = Value(x.b, u64, x.b.udiv(x.ir, divisor.ir))
    rest = x - quotient * divisor
    return zero.where(0, quotient), zero.where(0, rest)


def _float_divmod(x: Value, y: Value) -> tuple[Value, Value]:
    """(x // y, x % y) as NumPy's npy_divmod and npy_floor_divide define them."""
    rest = _float_fmod(x, y)
    whole = plain_sub(x, rest) / y
    shifted = (rest != 0.0) & ((rest < 0.0) ^ (y < 0.0))
    whole = shifted.where(plain_add(whole, -1.0), whole)
    rest = (rest == 0.0).where(copysign(x.const(0.0), y), shifted.where(plain_add(rest, y), rest))
    down = whole.call("floor")
    down = (plain_sub(whole, down) > 0.5).where(plain_add(down, 1.0), down)
    ratio = x / y
    down = (whole == 0.0).where(copysign(x.const(0.0), ratio), down)
    zero = y == 0.0
    return zero.where(ratio, down), zero.where(float("nan"), rest)


def _float_fmod(x: Value, y: Value) -> Value:
    """fmod in f64: quotients of 26 bits are subtracted exactly until nothing is left to subtract."""
    b = x.b
    wide, divisor = convert(x, f64).abs(), convert(y, f64).abs()
    ordinary = (wide < float("inf")) & (divisor > 0.0)  # NaN fails both
    proper = ordinary & (divisor < float("inf"))
    left = proper.where(wide, 0.0)
    divisor = proper.where(divisor, 1.0)
    start, loop, done = b.block, b.append_basic_block("subtract"), b.append_basic_block("remainders")
    b.branch(loop)
    b.position_at_end(loop)
    phi = b.phi(f64.llvm)
    current = Value(b, f64, phi)
    step = divisor
    for _ in range(2):  # take a multiple of the divisor while the quotient overflows
        step = (current / step == float("inf")).where(plain_mul(step, 2.0**600), step)
    quotient = _rounded_quotient(current, step)
    following = _exact_difference(current, quotient, step)
    # Where the quotient was rounded up to q, less than a unit of its last place (2**-52 of q) is missing.
    missing = (quotient.bits() & _EXPONENT).bitcast(f64)
    missing = simd.maximum_value(plain_mul(missing, 2.0**-52), missing.const(1.0))
    following = (following < 0.0).where(missing.fma(step, following), following)
    phi.add_incoming(left.ir, start)
    phi.add_incoming(following.ir, loop)
    more = b.bitcast((following >= divisor).ir, simd.I16)
    b.cbranch(b.icmp_unsigned("!=", more, ir.Constant(simd.I16, 0)), loop, done)
    b.position_at_end(done)
    result = proper.where(copysign(convert(following, x.dtype), x), x)
    return ordinary.where(result, float("nan"))


_EXPONENT = 0x7FF << 52


def _rounded_quotient(x: Value, y: Value) -> Value:
    """``x / y``, rounded and then cut to an integer of at most 26 significant bits."""
    return ((x / y).call("trunc").bits() & -(2**27)).bitcast(f64)


def _exact_difference(x: Value, q: Value, y: Value) -> Value:
    """``x - q y`` for a q of 26 bits and a difference that f64 holds."""
    if simd.has_fma(x.b.module):
        return (-q).fma(y, x)
    high = (y.bits() & -(2**27)).bitcast(f64)  # q * high and q * (y - high) are exact
    return plain_sub(plain_sub(x, plain_mul(q, high)), plain_mul(q, plain_sub(y, high)))


# ---------------------------------------------------------------------------------------------------------------------
# random bits: Threefry-2x32 with 20 rounds

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def _threefry(k0: Value, k1: Value, c0: Value, c1: Value) -> tuple[Value, Value]:
    keys = (k0, k1, k0 ^ k1 ^ _PARITY)
    x, y = c0 + k0, c1 + k1
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = y.call("fshl", y, rotation) ^ x
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + (group + 1)
    return x, y


@simd.primitive
def threefry2x32(k0: types.Type, k1: types.Type, c0: types.Type, c1: types.Type) -> tuple[types.Type, simd.Emit]:
    """``y0, y1 = threefry2x32(k0, k1, c0, c1)``: the cipher of a block of two u32 words under a key of two."""
    kinds = (k0, k1, c0, c1)
    if simd.result_dtype(*kinds) is not u32:
        raise simd.typing_error("threefry2x32 needs u32 lanes")

    def emit(b: ir.IRBuilder, *values: ir.Value) -> ir.Value:
        operands = [simd.operand(b, v, t, u32) for v, t in zip(values, kinds, strict=True)]
        return simd.pack(b, [v.ir for v in simd.call_outlined_pair("threefry2x32", u32, _threefry, *operands)])

    return types.UniTuple(simd.Vec(u32), 2), emit
