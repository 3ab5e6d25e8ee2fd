"""Trigonometric functions of kernels, and their inverses."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.cpu import simd
from graphc.backends.cpu.lanes import Value, convert, f32, f64, i64
from graphc.backends.cpu.vmath_base import (
    TINY,
    copysign,
    elementwise,
    horner,
    integers_of,
    nearest,
    negate_where,
    plain_add,
    plain_mul,
    plain_sub,
    quotient,
    two_product,
    two_sum,
)

# pi/2 in three parts of full precision, for hosts with FMA: the first difference is exact
_HALF_PI = {
    f32: (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    f64: (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
}
# pi/2 in two parts of 33 bits and the rest, for hosts without
_HALF_PI_SHORT = (1.57079632673412561417e00, 6.07710050630396597660e-11, 2.02226624879595063154e-21)
# up to here the number of quarter turns comes out right (or so nearly that the remainder stays below 0.8)
_TURN_LIMIT = {f32: 2.0**16, f64: 2.0**40}
_TURN_LIMIT_SHORT = 2.0**19
# (sin(r) - r) / r**3 and (cos(r) - 1 + r**2/2) / r**4 in r**2 for |r| <= 0.8; errors 2**-27.8, 2**-33; 2**-57.6, 2**-63.7
_SIN = {
    f32: (-0.16666654, 0.008332098, -0.00019506023),
    f64: (
        -0.16666666666666624, 0.008333333333320323, -0.00019841269828063557, 2.755731306785264e-06,
        -2.505065802473645e-08, 1.5890881362587169e-10,
    ),
}  # fmt: skip
_COS = {
    f32: (0.041666646, -0.0013887291, 2.4428646e-05),
    f64: (
        0.04166666666666658, -0.0013888888888870876, 2.480158728741969e-05, -2.755731374780286e-07,
        2.087564007460926e-09, -1.135529443644937e-11,
    ),
}  # fmt: skip


def _quarter_turns(x: Value) -> tuple[Value, Value, Value]:
    """(r, low, q) with x = r + low + q pi/2, |r| <= 0.8; q as integer lanes, right modulo 4.  NaN for infinite x."""
    if simd.has_fma(x.b.module):
        n, integer = nearest(x, 0.6366197723675814)
        first, second, third = _HALF_PI[x.dtype]
        product, error = two_product(n, n.const(second))
        r, low = two_sum((-n).fma(first, x), -product)
        low = plain_sub(low, n.fma(third, error))
        return _huge_turns(x, r, low, integer, _TURN_LIMIT[x.dtype])
    wide = convert(x, f64)
    n, integer = nearest(wide, 0.6366197723675814)
    first, second, third = _HALF_PI_SHORT
    r, low = two_sum(plain_sub(wide, plain_mul(n, first)), -plain_mul(n, second))
    low = plain_sub(low, plain_mul(n, third))
    if x.dtype is f32:
        wide, r = r, convert(r, f32)
        low = convert(plain_add(plain_sub(wide, convert(r, f64)), low), f32)
    return _huge_turns(x, r, low, convert(integer, integers_of(x)), _TURN_LIMIT_SHORT)


def _huge_turns(x: Value, r: Value, low: Value, q: Value, limit: float) -> tuple[Value, Value, Value]:
    """(r, low, q) where ``|x| < limit``, the slow exact reduction in the other lanes."""
    b = x.b
    huge = x.abs() >= limit
    slow, join = b.append_basic_block("huge"), b.append_basic_block("reduced")
    fast = b.block
    b.cbranch(b.icmp_unsigned("!=", b.bitcast(huge.ir, simd.I16), ir.Constant(simd.I16, 0)), slow, join)
    b.position_at_end(slow)
    slow_r, slow_q = _reduce_each(x, r, q)
    chosen = (huge.where(slow_r, r), huge.where(0.0, low), huge.where(slow_q, q))
    slow = b.block
    b.branch(join)
    b.position_at_end(join)
    return _phi(r, fast, chosen[0], slow), _phi(low, fast, chosen[1], slow), _phi(q, fast, chosen[2], slow)


def _phi(x: Value, x_block: ir.Block, y: Value, y_block: ir.Block) -> Value:
    phi = x.b.phi(x.ir.type)
    phi.add_incoming(x.ir, x_block)
    phi.add_incoming(y.ir, y_block)
    return Value(x.b, x.dtype, phi)


def _reduce_each(x: Value, r: Value, q: Value) -> tuple[Value, Value]:
    """The exact reduction by multiples of pi/2, lane by lane."""
    b = x.b
    reduce_one = b.module.support("graphc.reduce_huge", _REDUCE_TYPE, _REDUCE_HUGE)
    wide = convert(x, f64)
    slots = [simd.stack_slot(b, t, align=64) for t in (f64.llvm, f64.llvm, i64.llvm)]
    b.store(wide.ir, slots[0], align=64)
    start = b.block
    loop, done = b.append_basic_block("lane"), b.append_basic_block("lanes")
    b.branch(loop)
    b.position_at_end(loop)
    lane = b.phi(simd.I64)
    lane.add_incoming(ir.Constant(simd.I64, 0), start)
    one = b.load(b.gep(slots[0], [lane], source_etype=simd.F64), typ=simd.F64, align=8)
    both = b.call(reduce_one, [one])
    b.store(b.extract_value(both, 0), b.gep(slots[1], [lane], source_etype=simd.F64), align=8)
    b.store(b.extract_value(both, 1), b.gep(slots[2], [lane], source_etype=simd.I64), align=8)
    following = b.add(lane, ir.Constant(simd.I64, 1))
    lane.add_incoming(following, loop)
    b.cbranch(b.icmp_unsigned("<", following, ir.Constant(simd.I64, simd.W)), loop, done)
    b.position_at_end(done)
    remainder = Value(b, f64, b.load(slots[1], typ=f64.llvm, align=64))
    turns = Value(b, i64, b.load(slots[2], typ=i64.llvm, align=64))
    return convert(remainder, r.dtype), convert(turns, q.dtype)


@elementwise()
def sin(x: Value) -> Value:
    r, low, q = _quarter_turns(x)
    return (x.abs() < TINY[x.dtype]).where(x, _sine_at(r, low, q))


@elementwise()
def cos(x: Value) -> Value:
    r, low, q = _quarter_turns(x)
    return _sine_at(r, low, q + 1)


def _sine_at(r: Value, low: Value, q: Value) -> Value:
    """sin(r + low + q pi/2)"""
    sine, cosine = _sine_cosine(r, low)
    odd = (q & 1).compare("!=", 0)
    result = odd.where(plain_add(*cosine), plain_add(*sine))
    return negate_where(result, q << (q.dtype.bits - 2))


def _sine_cosine(r: Value, low: Value) -> tuple[tuple[Value, Value], tuple[Value, Value]]:
    """sin(r + low) and cos(r + low), each as a sum of two of which the second is small."""
    square = plain_mul(r, r)
    sine_low = plain_mul(horner(square, _SIN[r.dtype]), square).fma(r, low)
    cosine, cosine_low = two_sum(1.0, plain_mul(square, -0.5))
    cosine_low = (-low).fma(r, horner(square, _COS[r.dtype]).fma(plain_mul(square, square), cosine_low))
    return (r, sine_low), (cosine, cosine_low)


@elementwise()
def tan(x: Value) -> Value:
    r, low, q = _quarter_turns(x)
    parts = _sine_cosine(r, low)
    (sine, sine_low), (cosine, cosine_low) = two_sum(*parts[0]), two_sum(*parts[1])
    odd = (q & 1).compare("!=", 0)
    above, above_low = odd.where(-cosine, sine), odd.where(-cosine_low, sine_low)
    below, below_low = odd.where(sine, cosine), odd.where(sine_low, cosine_low)
    return (x.abs() < TINY[x.dtype]).where(x, quotient(above, below, below_low, above_low))


# (atan(x) - x) / x**3 in x**2 for |x| <= 1; relative error 2**-27.2, 2**-54.6
_ATAN = {
    f32: (
        -0.33333302, 0.19998628, -0.14265127, 0.10956965, -0.08417729, 0.058206286, -0.031429037, 0.011050957,
        -0.0018243826,
    ),
    f64: (
        -0.3333333333333201, 0.19999999999776447, -0.14285714272417627, 0.11111110706862452, -0.09090901675274433,
        0.07692217471587923, -0.06665893121477307, 0.058774793649997506, -0.052399028899852935, 0.04675932473122277,
        -0.040971340012629774, 0.03414620611410988, -0.02593170747759073, 0.017084795531510318,
        -0.009265663233670266, 0.0039005027016747605, -0.001180755831093952, 0.0002268389244051957,
        -2.0660557888944255e-05,
    ),
}  # fmt: skip


def _atan_reduced(t: Value) -> Value:
    square = plain_mul(t, t)
    return plain_mul(horner(square, _ATAN[t.dtype]), square).fma(t, t)


@elementwise()
def atan(x: Value) -> Value:
    a = x.abs()
    steep = a > 1.0
    p = _atan_reduced(steep.where(x.const(1.0) / a, a))
    high, low, _ = _HALF_PI[x.dtype]
    return copysign(steep.where(plain_sub(high, plain_add(p, -low)), p), x)


@elementwise()
def atan2(y: Value, x: Value) -> Value:
    ay, ax = y.abs(), x.abs()
    steep = ay > ax
    smaller, larger = steep.where(ax, ay), steep.where(ay, ax)
    ratio = (larger == 0.0).where(0.0, smaller / larger)
    ratio = ((smaller == larger) & (larger > 0.0)).where(1.0, ratio)  # inf / inf as well
    p = _atan_reduced(ratio)
    high, low, _ = _HALF_PI[x.dtype]
    p = steep.where(plain_sub(high, plain_add(p, -low)), p)
    p = (x.bits() < 0).where(plain_sub(2.0 * high, plain_add(p, -2.0 * low)), p)
    result = copysign(p, y)
    return ((x != x) | (y != y)).where(plain_add(x, y), result)


# (asin(x) - x) / x**3 in x**2 for |x| <= 0.55; relative error 2**-29.5, 2**-58.9
_ASIN = {
    f32: (0.1666664, 0.075016245, 0.044311624, 0.03343742, 0.008600844, 0.04526242),
    f64: (
        0.16666666666666502, 0.07500000000048643, 0.044642857092663024, 0.030381947056425582, 0.022372078706570535,
        0.017354360568527842, 0.013943312554863757, 0.011755145295451958, 0.008397438172458353, 0.014895346769416196,
        -0.014405046764367253, 0.05531084678353012, -0.06245305095104772, 0.052969004036548056,
    ),
}  # fmt: skip


def _asin_reduced(a: Value) -> tuple[Value, Value]:
    """(large, p) for 0 <= a: asin(a) = p, or pi/2 - 2p where large."""
    large = a > 0.55
    square = large.where(plain_mul(plain_sub(1.0, a), 0.5), plain_mul(a, a))
    s = large.where(square.call("sqrt"), a)
    return large, plain_mul(horner(square, _ASIN[a.dtype]), square).fma(s, s)


@elementwise()
def asin(x: Value) -> Value:
    large, p = _asin_reduced(x.abs())
    high, low, _ = _HALF_PI[x.dtype]
    return copysign(large.where(plain_sub(high, plain_add(plain_mul(p, 2.0), -low)), p), x)


@elementwise()
def acos(x: Value) -> Value:
    large, p = _asin_reduced(x.abs())
    high, low, _ = _HALF_PI[x.dtype]
    twice = plain_mul(p, 2.0)
    outer = (x < 0.0).where(plain_sub(2.0 * high, plain_add(twice, -2.0 * low)), twice)
    inner = plain_sub(high, plain_sub(copysign(p, x), x.const(low)))
    return large.where(outer, inner)


# ---------------------------------------------------------------------------------------------------------------------
# the exact reduction of huge angles (M. Payne, R. Hanek 1983)

# 64 zero bits, then the first 1344 bits of 2/pi after the binary point
_TWO_OVER_PI = (
    "0000000000000000"
    "A2F9836E4E441529FC2757D1F534DDC0DB6295993C439041FE5163ABDEBBC561B7246E3A424DD2E006492EEA09D1921C"
    "FE1DEB1CB129A73EE88235F52EBB4484E99C7026B45F7E413991D639835339F49C845F8BBDF9283B1FF897FFDE05980F"
    "EF2F118B5A0A6D1F6D367ECF27CB09B74F463F669E5FEA2D7527BAC7EBE5F17B3D0739F78A5292EA6BFB5FB11F8D5D08"
    "56033046FC7B6BABF0CFBC209AF4361DA9E391615EE61B08"
)
_WORDS = [int(_TWO_OVER_PI[k : k + 16], 16) for k in range(0, len(_TWO_OVER_PI), 16)]
_REDUCE_TYPE = ir.FunctionType(ir.LiteralStructType([simd.F64, simd.I64]), [simd.F64])
# x = m 2**e with a 53-bit integer m.  The bits of 2/pi that e moves beyond the second place before the point give whole
# turns, so 192 bits from there on suffice: f = m * bits is the fraction of a turn in units of 2**-128.
_REDUCE_HUGE = f"""
@graphc.two_over_pi = internal constant [{len(_WORDS)} x i64] [{", ".join(f"i64 {w}" for w in _WORDS)}]
define internal {{double, i64}} @"graphc.reduce_huge"(double %x) noinline nounwind willreturn memory(none) {{
  %bits = bitcast double %x to i64
  %field = lshr i64 %bits, 52
  %exponent = and i64 %field, 2047
  %e = sub i64 %exponent, 1075
  %fraction = and i64 %bits, 4503599627370495
  %m = or i64 %fraction, 4503599627370496
  %at = add i64 %e, 62
  %word = ashr i64 %at, 6
  %offset = and i64 %at, 63
  %p0 = getelementptr i64, ptr @graphc.two_over_pi, i64 %word
  %p1 = getelementptr i64, ptr %p0, i64 1
  %p2 = getelementptr i64, ptr %p0, i64 2
  %p3 = getelementptr i64, ptr %p0, i64 3
  %w0 = load i64, ptr %p0
  %w1 = load i64, ptr %p1
  %w2 = load i64, ptr %p2
  %w3 = load i64, ptr %p3
  %a = call i64 @llvm.fshl.i64(i64 %w0, i64 %w1, i64 %offset)
  %b = call i64 @llvm.fshl.i64(i64 %w1, i64 %w2, i64 %offset)
  %c = call i64 @llvm.fshl.i64(i64 %w2, i64 %w3, i64 %offset)
  %m.wide = zext i64 %m to i128
  %b.wide = zext i64 %b to i128
  %c.wide = zext i64 %c to i128
  %ma = mul i64 %m, %a
  %ma.wide = zext i64 %ma to i128
  %ma.high = shl i128 %ma.wide, 64
  %mb = mul i128 %m.wide, %b.wide
  %mc = mul i128 %m.wide, %c.wide
  %mc.high = lshr i128 %mc, 64
  %ab = add i128 %ma.high, %mb
  %f = add i128 %ab, %mc.high
  %rounded = add i128 %f, {2**125}
  %quarter = lshr i128 %rounded, 126
  %q = trunc i128 %quarter to i64
  %whole = shl i128 %quarter, 126
  %rest = sub i128 %f, %whole
  %negative = icmp slt i128 %rest, 0
  %opposite = sub i128 0, %rest
  %size = select i1 %negative, i128 %opposite, i128 %rest
  %nonzero = or i128 %size, 1
  %zeros = call i128 @llvm.ctlz.i128(i128 %nonzero, i1 true)
  %normal = shl i128 %nonzero, %zeros
  %top.wide = lshr i128 %normal, 65
  %top = trunc i128 %top.wide to i64
  %d = sitofp i64 %top to double
  %z = trunc i128 %zeros to i64
  %unit = sub i64 962, %z
  %unit.bits = shl i64 %unit, 52
  %scale = bitcast i64 %unit.bits to double
  %quarters = fmul double %d, %scale
  %low = fmul double %quarters, {6.123233995736766e-17!r}
  %r = call double @llvm.fmuladd.f64(double %quarters, double {1.5707963267948966!r}, double %low)
  %minus.r = fneg double %r
  %r.signed = select i1 %negative, double %minus.r, double %r
  %below = icmp slt i64 %bits, 0
  %r.flipped = fneg double %r.signed
  %r.final = select i1 %below, double %r.flipped, double %r.signed
  %q.flipped = sub i64 0, %q
  %q.final = select i1 %below, i64 %q.flipped, i64 %q
  %special = icmp eq i64 %exponent, 2047
  %r.result = select i1 %special, double 0x7FF8000000000000, double %r.final
  %one = insertvalue {{double, i64}} undef, double %r.result, 0
  %both = insertvalue {{double, i64}} %one, i64 %q.final, 1
  ret {{double, i64}} %both
}}
"""
