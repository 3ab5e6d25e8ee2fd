"""Elementwise functions on vectors of 16 lanes, written as LLVM IR once per process and inlined into kernels.

Floating point functions are within 2 ulp of the exact result for f32 and f64 on hosts with FMA (power, cbrt and log2
within 1.6, 0.8 and 1), within 2.7 elsewhere (tan 4.1); they are right at +-0, +-inf, NaN, subnormals and at the ends of
their ranges, call no library, and give the same bits on every host with FMA.  Integer functions have NumPy's meaning
(division by zero gives 0, ``INT_MIN // -1`` wraps, shifts by the width or more give 0 or -1).

Each function below takes and returns :class:`~graphc.backends.cpu.simd.Value`, so they compose; ``@elementwise`` also
makes it a function of the kernel language.  The polynomials are weighted minimax fits made with mpmath, coefficients
rounded one after another to the precision; the comment beside each gives interval and error.

Sources: W. Cody and W. Waite, Software Manual for the Elementary Functions (1980); the argument reductions of fdlibm
and SLEEF (N. Shibata); J. Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (2011).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir
from numba.core import types

from graphc.backends.cpu import simd
from graphc.backends.cpu.lanes import Value, bool_, convert, f32, f64, i32, i64, u32, u64


def elementwise(
    kinds: str = "f", result: simd.DType | None = None, outline: bool = True
) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    """Make a function of Values a function of the kernel language, for dtypes of ``kinds`` (of b i u f).

    All vector arguments have one dtype, scalars are broadcast to it; the result has it too unless ``result`` is given.
    ``outline``: emit as a function that LLVM inlines, rather than directly.
    """

    def decorate(body: Callable[..., Value]) -> Callable[..., Value]:
        name = body.__name__.rstrip("_")

        def rule(*args: types.Type) -> tuple[types.Type, simd.Emit]:
            d = simd.result_dtype(*args)
            if d.kind not in kinds:
                raise simd.typing_error(f"{name} of {d} lanes")
            wanted = body.__code__.co_argcount
            if len(args) != wanted:
                raise simd.typing_error(f"{name} takes {wanted} arguments, not {len(args)}")
            out = result or d

            def emit(b: ir.IRBuilder, *values: ir.Value) -> ir.Value:
                operands = [simd.operand(b, v, t, d) for v, t in zip(values, args, strict=True)]
                return (simd.call_outlined(name, out, body, *operands) if outline else body(*operands)).ir

            return simd.Vec(out), emit

        rule.__name__, rule.__doc__ = name, body.__doc__
        simd.primitive(rule)
        simd.VALUE_FUNCTIONS[name] = body
        return body

    return decorate


# ---------------------------------------------------------------------------------------------------------------------
# building blocks


def horner(x: Value, coefficients: Sequence[float]) -> Value:
    """``c[0] + c[1] x + c[2] x**2 + ...``"""
    total = x.const(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total.fma(x, c)
    return total


def plain_add(x: Value, y: Value | float) -> Value:
    """``x + y`` that nothing may be contracted with."""
    return Value(x.b, x.dtype, x.b.fadd(x.ir, x.like(y).ir))


def plain_sub(x: Value | float, y: Value) -> Value:
    """``x - y`` that nothing may be contracted with."""
    return Value(y.b, y.dtype, y.b.fsub(y.like(x).ir, y.ir))


def plain_mul(x: Value, y: Value | float) -> Value:
    """``x * y`` that nothing may be contracted with."""
    return Value(x.b, x.dtype, x.b.fmul(x.ir, x.like(y).ir))


_MANTISSA = {f32: 23, f64: 52}
_BIAS = {f32: 127, f64: 1023}
_SMALLEST_NORMAL = {f32: 2.0**-126, f64: 2.0**-1022}
_TINY = {f32: 2.0**-14, f64: 2.0**-29}  # below it x**2 / 2 is lost beside 1


def integers_of(x: Value) -> simd.DType:
    """The signed integers as wide as the float lanes of x."""
    return i32 if x.dtype is f32 else i64


def nearest(x: Value, factor: float = 1.0) -> tuple[Value, Value]:
    """``x * factor`` rounded to an integer, as float and as integer lanes.

    Right for results below ``2**(mantissa - 2)``; any number, never an undefined one, for others and for NaN.
    """
    magic = 1.5 * 2.0 ** _MANTISSA[x.dtype]
    shifted = plain_add(x, magic) if factor == 1.0 else x.fma(factor, magic)
    return plain_add(shifted, -magic), shifted.bits() - x.const(magic).bits()


def exponent_of_two(n: Value, dtype: simd.DType) -> Value:
    """``2**n`` for integer lanes n within the normal range of ``dtype``."""
    return ((n + _BIAS[dtype]) << _MANTISSA[dtype]).bitcast(dtype)


def scale(x: Value, n: Value, integer: Value) -> Value:
    """``x * 2**n`` rounded once, for an x near 1; n as float and as integer lanes, its half in the normal range."""
    if has_avx512(x):
        return _avx512("scalef", x, n)
    first = integer >> 1
    return plain_mul(plain_mul(x, exponent_of_two(first, x.dtype)), exponent_of_two(integer - first, x.dtype))


def scale_normal(x: Value, n: Value, integer: Value) -> Value:
    """:func:`scale` for results in the normal range."""
    return _avx512("scalef", x, n) if has_avx512(x) else plain_mul(x, exponent_of_two(integer, x.dtype))


def has_avx512(x: Value) -> bool:
    return "avx512f" in x.b.module.features


def _avx512(name: str, x: Value, *more: Value | int) -> Value:
    """``llvm.x86.avx512.mask.NAME`` on all lanes; integers among the arguments are immediates."""
    lanes = 16 if x.dtype is f32 else 8
    type_ = simd.vector_type(x.dtype.lane, lanes)
    mask = ir.Constant(ir.IntType(lanes), -1)
    symbol = f"llvm.x86.avx512.mask.{name}.{'ps' if x.dtype is f32 else 'pd'}.512"

    def call(operands: Sequence[Value]) -> ir.Value:
        vectors = [v.ir for v in operands]
        immediates = [ir.Constant(simd.I32, m) for m in more if isinstance(m, int)]
        args = [*vectors, *immediates, ir.Constant(type_, None), mask, ir.Constant(simd.I32, 4)]
        return x.b.call(simd.intrinsic(x.b.module, symbol, type_, [a.type for a in args]), args)

    operands = [x, *(m for m in more if isinstance(m, Value))]
    if lanes == 16:
        return Value(x.b, x.dtype, call(operands))
    halves = [Value(x.b, x.dtype, call([v.shuffle(range(k, k + 8)) for v in operands])) for k in (0, 8)]
    return halves[0].shuffle(range(16), halves[1])


def _fixup(result: Value, source: Value, table: int) -> Value:
    """``vfixupimm``: ``result``, but what the four bits of ``table`` for the class of ``source`` say.

    Classes, from the lowest bits: quiet NaN, signalling NaN, 0, 1, -inf, inf, negative, positive. Values: 0 the result, 2 the
    source as a quiet NaN, 3 NaN, 4 -inf, 5 inf.
    """
    b, dtype = result.b, result.dtype
    lanes, integer = (16, i32) if dtype is f32 else (8, i64)
    type_, mask = simd.vector_type(dtype.lane, lanes), ir.Constant(ir.IntType(lanes), -1)
    tables = ir.Constant(simd.vector_type(integer.lane, lanes), [table] * lanes)
    symbol = f"llvm.x86.avx512.mask.fixupimm.{'ps' if dtype is f32 else 'pd'}.512"

    def call(x: Value, y: Value) -> Value:
        args = [x.ir, y.ir, tables, ir.Constant(simd.I32, 0), mask, ir.Constant(simd.I32, 4)]
        return Value(b, dtype, b.call(simd.intrinsic(b.module, symbol, type_, [a.type for a in args]), args))

    if lanes == 16:
        return call(result, source)
    halves = [call(*(v.shuffle(range(k, k + 8)) for v in (result, source))) for k in (0, 8)]
    return halves[0].shuffle(range(16), halves[1])


def clamp(x: Value, low: float, high: float) -> Value:
    """x within [low, high]; NaN stays."""
    x = (x.const(high) < x).where(high, x)
    return (x.const(low) > x).where(low, x)


def negate_where(x: Value, sign_bit: Value) -> Value:
    """x with its sign flipped where the integer lanes ``sign_bit`` have their top bit set."""
    top = -(2 ** (x.dtype.bits - 1))
    return (x.bits() ^ (sign_bit & top)).bitcast(x.dtype)


@elementwise(outline=False)
def copysign(x: Value, y: Value) -> Value:
    """The magnitude of x with the sign of y."""
    return x.call("copysign", y)


def two_sum(x: Value | float, y: Value) -> tuple[Value, Value]:
    """(s, e) with s = x + y rounded and s + e = x + y exactly, if ``|x| >= |y|`` or x = 0."""
    x = y.like(x)
    total = plain_add(x, y)
    return total, plain_sub(y, plain_sub(total, x))


def two_product(x: Value, y: Value) -> tuple[Value, Value]:
    """(p, e) with p = x * y rounded and p + e = x * y exactly, underflow aside."""
    product = plain_mul(x, y)
    if simd.has_fma(x.b.module):
        return product, x.fma(y, -product)
    xh, xl = _split(x)
    yh, yl = _split(y)
    error = plain_sub(plain_mul(xh, yh), product)
    error = plain_add(plain_add(error, plain_mul(xh, yl)), plain_mul(xl, yh))
    return product, plain_add(error, plain_mul(xl, yl))


def _split(x: Value) -> tuple[Value, Value]:
    """x as the sum of two numbers of half its precision (Veltkamp)."""
    big = plain_mul(x, 2.0 ** ((_MANTISSA[x.dtype] + 2) // 2) + 1.0)
    high = plain_sub(big, plain_sub(big, x))
    return high, plain_sub(x, high)


def quotient(x: Value, y: Value, y_low: Value, x_low: Value | None = None) -> Value:
    """``(x + x_low) / (y + y_low)`` with little more than one rounding, for quotients that are normal numbers."""
    inverse = y.const(1.0) / y
    q = plain_mul(x, inverse)
    residual = plain_sub((-q).fma(y, x), plain_mul(q, y_low))
    if x_low is not None:
        residual = plain_add(residual, x_low)
    return residual.fma(inverse, q)


# ---------------------------------------------------------------------------------------------------------------------
# exponentials

LOG2E = 1.4426950408889634
# ln 2 in two parts; the first has so few bits that its product with an exponent is exact.
_LN2 = {f32: (0.693359375, -2.12194440e-4), f64: (6.93147180369123816490e-01, 1.90821492927058770002e-10)}
# (e**r - 1 - r) / r**2 for |r| <= ln(2)/2; relative error of e**r 2**-27, 2**-56
_EXP = {
    f32: (0.5, 0.16666578, 0.04166646, 0.0083631035, 0.0013935675),
    f64: (
        0.5000000000000001, 0.1666666666666667, 0.04166666666662306, 0.008333333333324892, 0.001388888891754531,
        0.00019841269879314612, 2.4801520920634375e-05, 2.7557250094205033e-06, 2.7620229031349483e-07,
        2.510722951087608e-08,
    ),
}  # fmt: skip
# beyond these the result is 0 or inf
_EXP_RANGE = {f32: (-104.0, 89.5), f64: (-746.0, 710.5)}


def _exp_parts(x: Value, x_low: Value | None = None) -> tuple[Value, Value, Value]:
    """(p, n, n) with e**(x + x_low) = (1 + p) 2**n, n as float and integer lanes; x must be clamped."""
    high, low = _LN2[x.dtype]
    n, integer = nearest(x, LOG2E)
    r = (-n).fma(high, x)
    r = (-n).fma(low, r) if x_low is None else plain_add(r, (-n).fma(low, x_low))
    return horner(r, _EXP[x.dtype]).fma(plain_mul(r, r), r), n, integer


@elementwise()
def exp(x: Value) -> Value:
    high, low = _LN2[x.dtype]
    x = clamp(x, *_EXP_RANGE[x.dtype])
    n, integer = nearest(x, LOG2E)
    r = (-n).fma(low, (-n).fma(high, x))
    return scale(horner(r, (1.0, 1.0, *_EXP[x.dtype])), n, integer)


def _half_exp(x: Value) -> Value:
    """e**x / 2 for x >= 0, which overflows later than e**x."""
    p, n, integer = _exp_parts(clamp(x, 0.0, _EXP_RANGE[x.dtype][1]))
    return scale(plain_add(p, 1.0), plain_add(n, -1.0), integer - 1)


def _expm1_clamped(x: Value) -> Value:
    """e**x - 1 where neither overflows nor underflows, x not near 0 for the sign of a zero."""
    high, low = _LN2[x.dtype]
    n, integer = nearest(x, LOG2E)
    first = (-n).fma(high, x)
    r = (-n).fma(low, first)
    # What the rounding of r lost matters here: near n = 1 the result is smaller than the parts that it is made of.
    lost = (-n).fma(low, plain_sub(first, r))
    p = plain_add(horner(r, _EXP[x.dtype]).fma(plain_mul(r, r), lost), r)
    half = exponent_of_two(integer - 1, x.dtype)
    return plain_mul(p.fma(half, plain_add(half, -0.5)), 2.0)


@elementwise()
def expm1(x: Value) -> Value:
    result = _expm1_clamped(clamp(x, *{f32: (-20.0, 88.8), f64: (-40.0, 709.9)}[x.dtype]))
    return (x.abs() < {f32: 2.0**-26, f64: 2.0**-55}[x.dtype]).where(x, result)


# (2**r - 1) / r for |r| <= 1/2; relative error of 2**r 2**-27, 2**-56
_EXP2 = {
    f32: (0.6931472, 0.2402265, 0.055503666, 0.009618073, 0.0013387728, 0.00015458498),
    f64: (
        0.6931471805599453, 0.24022650695910072, 0.05550410866482347, 0.009618129107616885, 0.0013333558145997763,
        0.00015403530429738808, 1.5252734211899925e-05, 1.3215448276507634e-06, 1.0177909973139473e-07,
        7.0716548927253274e-09, 4.477102790195399e-10,
    ),
}  # fmt: skip
_EXP2_RANGE = {f32: (-152.0, 129.0), f64: (-1077.0, 1025.0)}


@elementwise()
def exp2(x: Value) -> Value:
    x = clamp(x, *_EXP2_RANGE[x.dtype])
    n, integer = nearest(x)
    r = plain_sub(x, n)
    return scale(horner(r, _EXP2[x.dtype]).fma(r, 1.0), n, integer)


# ---------------------------------------------------------------------------------------------------------------------
# logarithms

# (log(1 + f) - f + f**2/2) / f**3 for 3/4 <= 1 + f <= 3/2; relative error of the logarithm 2**-27.5, 2**-56.5
_LOG = {
    f32: (0.3333345, -0.25000104, 0.19990829, -0.1664699, 0.14478078, -0.1316381, 0.10470693, -0.04513574),
    f64: (
        0.33333333333333753, -0.25000000000010586, 0.19999999999849102, -0.16666666663798257, 0.14285714300049368,
        -0.12500000290872912, 0.1111111076689796, -0.09999985526608729, 0.0909089317344025, -0.0833370499099777,
        0.07693385319732556, -0.07138570345077307, 0.06643363440761654, -0.062499611743273474, 0.0608321573928354,
        -0.05967817579749694, 0.05068412181225585, -0.029375536633443704, 0.008085434804588513,
    ),
}  # fmt: skip
_THREE_QUARTERS = {f32: 0x3F400000, f64: 0x3FE8000000000000}


def _log_split(x: Value) -> tuple[Value, Value, Callable[[Value], Value]]:
    """(e, f, down) with x = 2**e (1 + f) and 3/4 <= 1 + f < 3/2, for positive finite x.

    e is a float; ``down(y)`` is ``y / 2**e`` for normal x with e below the largest exponent.
    """
    if has_avx512(x):
        mantissa = _avx512("getmant", x, 3)  # into [3/4, 3/2), positive
        e = plain_sub(_avx512("getexp", x), _avx512("getexp", mantissa))
        return e, plain_add(mantissa, -1.0), lambda y: _avx512("scalef", y, -e)
    subnormal = x < _SMALLEST_NORMAL[x.dtype]
    bits = subnormal.where(plain_mul(x, 2.0**54), x).bits()
    exponent = (bits - _THREE_QUARTERS[x.dtype]) >> _MANTISSA[x.dtype]
    mantissa = (bits - (exponent << _MANTISSA[x.dtype])).bitcast(x.dtype)
    e = convert_small(exponent, x.dtype)
    e = subnormal.where(plain_add(e, -54.0), e)
    return e, plain_add(mantissa, -1.0), lambda y: plain_mul(y, exponent_of_two(-exponent, x.dtype))


def convert_small(n: Value, dtype: simd.DType) -> Value:
    """Integer lanes of magnitude below ``2**(mantissa - 2)`` as floats of the same width, without a 64-bit conversion."""
    magic = Value(n.b, dtype, simd.splat_constant(dtype, 1.5 * 2.0 ** _MANTISSA[dtype]))
    return plain_sub((n + magic.bits()).bitcast(dtype), magic)


def _log1p_tail(f: Value) -> Value:
    """log(1 + f) - f for a reduced f."""
    square = plain_mul(f, f)
    return plain_mul(horner(f, _LOG[f.dtype]), f).fma(square, plain_mul(square, -0.5))


#: _fixup of a logarithm by its argument
_LOG_TABLE = 0x3530422


def _log_ends(x: Value, result: Value) -> Value:
    """The logarithm's values at 0, infinity, below 0 and for NaN put into ``result``."""
    if has_avx512(x):
        return _fixup(result, x, _LOG_TABLE)
    result = (x == float("inf")).where(x, result)
    result = (x == 0.0).where(float("-inf"), result)
    return (x >= 0.0).where(result, float("nan"))


def _log_of(e: Value, f: Value) -> Value:
    """e ln(2) + log(1 + f)"""
    if f.dtype is f32 and simd.has_fma(f.b.module):  # ln 2 in one part is right to 2**-28
        natural = plain_mul(f, f).fma(horner(f, (-0.5, *_LOG[f32])), f)
        return e.fma(0.6931471805599453, natural)
    high, low = _LN2[f.dtype]
    return e.fma(high, plain_add(f, e.fma(low, _log1p_tail(f))))


@elementwise()
def log(x: Value) -> Value:
    e, f, _ = _log_split(x)
    return _log_ends(x, _log_of(e, f))


@elementwise()
def log1p(x: Value) -> Value:
    # With 1 + x = 2**k (1 + f), 3/4 <= 1 + f < 3/2: f = x / 2**k - (1 - 2**-k) is rounded once.
    u = plain_add(x, 1.0)
    if has_avx512(x):
        minus_k = plain_sub(-1.0, _avx512("getexp", plain_mul(u, 2.0 / 3.0)))
        down = _avx512("scalef", x.const(1.0), minus_k)
        f = x.fma(down, -plain_sub(1.0, down))
        return _log_ends(u, _log_of(-minus_k, f))
    k = (u.bits() - _THREE_QUARTERS[x.dtype]) >> _MANTISSA[x.dtype]
    down = exponent_of_two(-simd.minimum_value(k, k.const(100)), x.dtype)  # beyond, 1 - 2**-k is 1
    # A k that is not 0 has an x that is no subnormal number.
    scaled = (k == 0).where(x, (x.bits() - (k << _MANTISSA[x.dtype])).bitcast(x.dtype))
    f = plain_sub(scaled, plain_sub(1.0, down))
    return _log_ends(u, _log_of(-convert_small(-k, x.dtype), f))  # -0 keeps the sign of a zero


def _log_times(x: Value, factor: tuple[float, float], unit: tuple[float, float]) -> Value:
    """``log(x) * (factor)`` for a factor in two parts; ``unit`` is ln(2) * factor in two parts, the first with few bits."""
    e, f, _ = _log_split(x)
    natural, rest = two_sum(f, _log1p_tail(f))
    high, low = two_product(natural, natural.const(factor[0]))
    low = plain_add(natural.fma(factor[1], rest * factor[0]), low)
    base, error = two_sum(plain_mul(e, unit[0]), high)
    return _log_ends(x, plain_add(base, plain_add(e.fma(unit[1], error), low)))


# log2(e), log10(e) and log10(2), each in two parts
_LOG2E = {f32: (1.442695, 1.9259629911266175e-08), f64: (1.4426950408889634, 2.0355273740931033e-17)}
_LOG10E = {f32: (0.4342945, -1.0103050052231683e-08), f64: (0.4342944819032518, 1.098319650216765e-17)}
_LOG10_2 = {f32: (0.301025390625, 4.605038981195214e-06), f64: (0.30102999566361177, 3.694239077158931e-13)}


@elementwise()
def log2(x: Value) -> Value:
    return _log_times(x, _LOG2E[x.dtype], (1.0, 0.0))


@elementwise()
def log10(x: Value) -> Value:
    return _log_times(x, _LOG10E[x.dtype], _LOG10_2[x.dtype])


# ---------------------------------------------------------------------------------------------------------------------
# hyperbolic functions, sigmoid


# (e**r - 1 - r) / r**2 for -0.3 ln 2 <= r <= 0.7 ln 2; relative error of e**r - 1 for r > 0, of e**r below, 2**-27
_EXPM1_ABOVE = (0.49999988, 0.16666904, 0.041662153, 0.00828072, 0.0015999718)


@elementwise()
def tanh(x: Value) -> Value:
    return copysign(_tanh_f32(x.abs()) if x.dtype is f32 else _tanh_f64(x.abs()), x)


def _tanh_f32(magnitude: Value) -> Value:
    # With E = e**(2|x|) - 1: tanh |x| = E / (E + 2), which rounds to 1 beyond the limit.  n is 0 up to 0.7 ln 2: where it is
    # 1, E is not small beside the parts that it is made of.
    high, low = _LN2[f32]
    magnitude = clamp(magnitude, 0.0, 10.0)
    twice = plain_add(magnitude, magnitude)
    n = twice.fma(LOG2E, -0.2).call("roundeven")
    r = (-n).fma(low, (-n).fma(high, twice))
    rest = plain_mul(horner(r, _EXPM1_ABOVE), plain_mul(r, r))
    p = plain_add(rest, r)
    power = _avx512("scalef", n.const(1.0), n) if has_avx512(n) else exponent_of_two(nearest(n)[1], f32)
    e = p.fma(power, plain_add(power, -1.0))
    d = plain_add(e, 2.0)
    # Where n is 0, E = p = 2|x| + rest, and E / d = |x| + (rest - |x| p) / d rounds less.
    small = n == 0.0
    ratio = small.where((-magnitude).fma(p, rest), e) / d
    return plain_add(ratio, small.where(magnitude, 0.0))


def _tanh_f64(magnitude: Value) -> Value:
    # With E = e**(2|x|) - 1: tanh |x| = E / (E + 2), which rounds to 1 beyond the limit.
    e = _expm1_clamped(plain_mul(clamp(magnitude, 0.0, 20.0), 2.0))
    d = plain_add(e, 2.0)
    # Exactly what the addition lost: one of the two differences is exact, whichever operand is larger.
    low = (e > 2.0).where(plain_sub(2.0, plain_sub(d, e)), plain_sub(e, plain_add(d, -2.0)))
    return (magnitude < _TINY[f64]).where(magnitude, quotient(e, d, low))


@elementwise()
def sigmoid(x: Value) -> Value:
    e = exp(-x.abs())
    d, low = two_sum(1.0, e)
    result = quotient((x >= 0.0).where(1.0, e), d, low)
    # Subnormal results have no use for the correction and lose by it.
    return (x < {f32: -86.0, f64: -707.0}[x.dtype]).where(e, result)


# (sinh(x) - x) / x**3 in x**2 for |x| <= 1; relative error 2**-31, 2**-61
_SINH = {
    f32: (0.16666667, 0.008333311, 0.00019842635, 2.7839253e-06),
    f64: (
        0.16666666666666669, 0.008333333333332915, 0.0001984126984158925, 2.7557319108448557e-06,
        2.5052130690498307e-08, 1.6056685055240987e-10, 7.775783944607389e-13,
    ),
}  # fmt: skip


@elementwise()
def sinh(x: Value) -> Value:
    magnitude = x.abs()
    square = plain_mul(x, x)
    small = plain_mul(horner(square, _SINH[x.dtype]), square).fma(x, x)
    half = _half_exp(magnitude)
    large = copysign(plain_sub(half, x.const(0.25) / half), x)
    return (magnitude < 1.0).where(small, large)


@elementwise()
def cosh(x: Value) -> Value:
    half = _half_exp(x.abs())
    return plain_add(half, x.const(0.25) / half)


@elementwise()
def asinh(x: Value) -> Value:
    a = x.abs()
    big = a > {f32: 2.0**25, f64: 2.0**54}[x.dtype]
    square = plain_mul(a, a)
    grown = plain_add(a, square / plain_add(plain_add(square, 1.0).call("sqrt"), 1.0))
    logarithm = log1p(big.where(a, grown))
    result = big.where(plain_add(logarithm, 0.6931471805599453), logarithm)
    return copysign((a < _TINY[x.dtype]).where(a, result), x)


@elementwise()
def acosh(x: Value) -> Value:
    big = x > {f32: 2.0**25, f64: 2.0**54}[x.dtype]
    t = plain_add(x, -1.0)
    grown = plain_add(t, plain_add(plain_mul(t, t), plain_mul(t, 2.0)).call("sqrt"))
    logarithm = log1p(big.where(x, grown))
    result = big.where(plain_add(logarithm, 0.6931471805599453), logarithm)
    return (x >= 1.0).where(result, float("nan"))


@elementwise()
def atanh(x: Value) -> Value:
    # log((1 + a) / (1 - a)) / 2 = log1p(2a / (1 - a)) / 2
    a = x.abs()
    d = plain_sub(1.0, a)
    low = plain_sub(plain_sub(1.0, d), a)
    ratio = (d > 0.0).where(quotient(plain_mul(a, 2.0), d, low), plain_mul(a, 2.0) / d)
    result = plain_mul(log1p(ratio), 0.5)
    return copysign((a < _TINY[x.dtype]).where(a, result), x)


# ---------------------------------------------------------------------------------------------------------------------
# error functions

# (erf(x) - x) / x in x**2 for |x| <= 0.925 (f32), 1 (f64); relative error 2**-30, 2**-56
_ERF = {
    f32: (0.12837917, -0.3761263, 0.11283624, -0.026855582, 0.005191913, -0.00080431666, 7.965576e-05),
    f64: (
        0.12837916709551256, -0.37612638903183365, 0.11283791670938242, -0.026866170642185456, 0.00522397759863567,
        -0.0008548325575441734, 0.00012055283137354118, -1.4924514571364798e-05, 1.6444727167318227e-06,
        -1.6188171292971218e-07, 1.3633672207951306e-08, -7.637306832428613e-10,
    ),
}  # fmt: skip
# log(1 - erf(x)) from there to 3.95 (f32), 6 (f64), where erf is 1; error of erf 2**-29, 2**-59
_LOG_ERFC = {
    f32: (-0.00020784058, -1.1276243, -0.6372705, -0.1038526, 0.02218811, -0.0030332985, 0.00019490713),
    f64: (
        -1.835188073860212e-07, -1.1283772906483007, -0.6366286671440058, -0.10274674294091334, 0.0190771460569933,
        0.00028196186845694243, -0.0017706408373010525, 0.0006425970856830863, -4.580058028077193e-05,
        -6.983156654493227e-05, 4.480365377410931e-05, -1.6432618349115927e-05, 4.304673177697495e-06,
        -8.457757999174065e-07, 1.2491981686061235e-07, -1.3532139233712311e-08, 1.0178046105974095e-09,
        -4.7552404573143215e-11, 1.0398042891422531e-12,
    ),
}  # fmt: skip
_ERF_SMALL = {f32: 0.925, f64: 1.0}
_ERF_ONE = {f32: 3.95, f64: 6.0}
# (1 + 2x) exp(x**2) erfc(x) in (x - K) / (x + K), 0.48 <= x <= 10.7, K = 2 (f32), 0 <= x <= 28, K = 4 (f64); error 2**-27,
# 2**-54
_ERFCX = {
    f32: (
        1.2769784, -0.092763826, -0.16602953, 0.16405115, -0.054235537, -0.008030115, 0.008820349, 0.0012368854,
        -0.0017076291, -0.0003356529, 0.0004294439,
    ),
    f64: (
        1.2329951186255526, -0.1396211168405625, 0.015379652102611342, 0.06809705425469396, -0.10103906603598249,
        0.09373283499810113, -0.06633036581748603, 0.037167515544377895, -0.016197734009507688, 0.005031969895937558,
        -0.0007577735769077685, -0.00019925616833058605, 0.0001506228972445446, -2.4401190035796096e-05,
        -1.1225785360209945e-05, 5.7141089199692995e-06, 3.0191808528747195e-07, -8.307141515204301e-07,
        6.320869169900647e-08, 1.124126235577538e-07, -8.630167186360353e-09, -1.28410753367261e-08,
        -1.4362757054358896e-09,
    ),
}  # fmt: skip
_ERFCX_CENTRE = {f32: 2.0, f64: 4.0}
_ERFC_ZERO = {f32: 10.6, f64: 28.0}


@elementwise()
def erf(x: Value) -> Value:
    a = x.abs()
    small = horner(plain_mul(x, x), _ERF[x.dtype]).fma(x, x)
    limited = clamp(a, 0.0, _ERF_ONE[x.dtype])
    p, n, integer = _exp_parts(horner(limited, _LOG_ERFC[x.dtype]))
    large = copysign(plain_sub(1.0, scale(plain_add(p, 1.0), n, integer)), x)
    return (a < _ERF_SMALL[x.dtype]).where(small, large)


def _erfcx(a: Value) -> Value:
    """``exp(a**2) erfc(a)`` in the range of _ERFCX."""
    centre = _ERFCX_CENTRE[a.dtype]
    t = plain_add(a, -centre) / plain_add(a, centre)
    first, *others = _ERFCX[a.dtype]
    polynomial, polynomial_low = two_sum(first, plain_mul(horner(t, others), t))
    twice = plain_mul(a, 2.0)
    d = plain_add(twice, 1.0)
    low = (twice > 1.0).where(plain_sub(1.0, plain_sub(d, twice)), plain_sub(twice, plain_add(d, -1.0)))
    return quotient(polynomial, d, low, polynomial_low)


@elementwise()
def erfc(x: Value) -> Value:
    a = clamp(x.abs(), 0.0, _ERFC_ZERO[x.dtype])
    scaled = _erfcx(a)
    square, square_low = two_product(a, a)
    p, n, integer = _exp_parts(clamp(-square, _EXP_RANGE[x.dtype][0], 0.0), -square_low)
    positive = scale(p.fma(scaled, scaled), n, integer)
    result = (x < 0.0).where(plain_sub(2.0, positive), positive)
    near = horner(plain_mul(x, x), _ERF[x.dtype]).fma(x, x)
    return (x.abs() < 0.62).where(plain_sub(1.0, near), result)


@elementwise()
def ndtr(x: Value) -> Value:
    """The normal distribution function, erfc(-x / sqrt(2)) / 2, with the square of x itself: right in the tail as well."""
    magnitude = clamp(x.abs(), 0.0, {f32: 14.9, f64: 39.5}[x.dtype])
    scaled = plain_mul(_erfcx(plain_mul(magnitude, 0.5**0.5)), 0.5)
    square, square_low = two_product(magnitude, magnitude)
    half = clamp(plain_mul(square, -0.5), _EXP_RANGE[x.dtype][0], 0.0)
    p, n, integer = _exp_parts(half, plain_mul(square_low, -0.5))
    tail = scale(p.fma(scaled, scaled), n, integer)
    t = plain_mul(x, 0.5**0.5)
    near = horner(plain_mul(t, t), _ERF[x.dtype]).fma(t, t)
    result = (x < 0.0).where(tail, plain_sub(1.0, tail))
    return (x.abs() < 0.7).where(near.fma(0.5, 0.5), result)


# ---------------------------------------------------------------------------------------------------------------------
# trigonometric functions

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
    return (x.abs() < _TINY[x.dtype]).where(x, _sine_at(r, low, q))


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
    return (x.abs() < _TINY[x.dtype]).where(x, quotient(above, below, below_low, above_low))


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
    small = a < _SMALLEST_NORMAL[x.dtype]
    large = a > _LARGE_CUBE[x.dtype]
    scaled = plain_mul(a, small.where(2.0**54, large.where(2.0**-54, x.const(1.0))))
    e, f, _ = _log_split(scaled)
    root = exp(plain_mul(_log_of(e, f), 1.0 / 3.0))
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
    e, f, _ = _log_split(convert(a, f64))
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
    p, n, integer = _exp_parts(clamp(total, *_EXP_RANGE[f64]), inside.where(error, 0.0))
    return scale(plain_add(p, 1.0), n, integer)


def _log_double(a: Value) -> tuple[Value, Value]:
    """log(a) for positive finite a as the sum of two f64, with about 66 bits."""
    e, f, _ = _log_split(a)
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
    largest_odd = 2.0 ** (_MANTISSA[x.dtype] + 1)
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
