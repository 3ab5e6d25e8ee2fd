"""Elementwise functions on vectors of 16 lanes, written as LLVM IR once per process and inlined into kernels.

Floating point functions are within 2 ulp of the exact result for f32 and f64, right at +-0, +-inf, NaN, subnormals and at
the ends of their ranges, and call no library.  Integer functions have NumPy's meaning (division by zero gives 0,
``INT_MIN // -1`` wraps, shifts by the width or more give 0 or -1).

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
from graphc.backends.cpu.simd import Value, bool_, convert, f32, f64, i32, i64, u32, u64

ALLOWED_SYMBOLS: frozenset[str] = frozenset()
"""Undefined symbols that an object file may have; their addresses are those of the C library."""


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


def _signed(x: Value) -> simd.DType:
    """The signed integers as wide as the lanes of x."""
    return i32 if x.dtype is f32 else i64


_MANTISSA = {f32: 23, f64: 52}
_BIAS = {f32: 127, f64: 1023}


def exponent_of_two(n: Value, dtype: simd.DType) -> Value:
    """2**n for integers n within the normal range of ``dtype``."""
    return ((n + _BIAS[dtype]) << _MANTISSA[dtype]).bitcast(dtype)


def nearest(x: Value) -> tuple[Value, Value]:
    """x rounded to nearest even for ``|x| < 2**(mantissa - 2)``, as float and as integer lanes; no undefined lanes."""
    magic = 1.5 * 2.0 ** _MANTISSA[x.dtype]
    shifted = plain_add(x, magic)
    offset = x.const(magic).bits()
    return plain_add(shifted, -magic), shifted.bits() - offset


def plain_add(x: Value, y: Value | float) -> Value:
    """``x + y`` that nothing may be contracted with."""
    return Value(x.b, x.dtype, x.b.fadd(x.ir, x.like(y).ir))


def scale(x: Value, n: Value) -> Value:
    """``x * 2**n`` with one rounding, for integer lanes n whose half is in the normal range."""
    first = n >> 1
    return x * exponent_of_two(first, x.dtype) * exponent_of_two(n - first, x.dtype)


def clamp(x: Value, low: float, high: float) -> Value:
    """x within [low, high]; NaN stays."""
    x = (x.const(high) < x).where(high, x)
    return (x.const(low) > x).where(low, x)


def copysign_bits(magnitude: Value, sign: Value) -> Value:
    return magnitude.call("copysign", sign)


def is_nan(x: Value) -> Value:
    return x != x


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
_EXP_RANGE = {f32: (-104.0, 89.0), f64: (-746.0, 710.0)}


def _exp_parts(x: Value) -> tuple[Value, Value]:
    """(p, n) with e**x = (1 + p) 2**n, |p| <= 0.42; x must be clamped."""
    high, low = _LN2[x.dtype]
    n, integer = nearest(x * LOG2E)
    r = (-n).fma(low, (-n).fma(high, x))
    return horner(r, _EXP[x.dtype]).fma(r * r, r), integer


@elementwise()
def exp(x: Value) -> Value:
    p, n = _exp_parts(clamp(x, *_EXP_RANGE[x.dtype]))
    return scale(plain_add(p, 1.0), n)


@elementwise()
def expm1(x: Value) -> Value:
    low = {f32: -20.0, f64: -40.0}[x.dtype]
    clamped = clamp(x, low, _EXP_RANGE[x.dtype][1])
    high, low_part = _LN2[x.dtype]
    n, integer = nearest(clamped * LOG2E)
    first = (-n).fma(high, clamped)
    r = (-n).fma(low_part, first)
    # What the rounding of r lost matters here: near n = 1 the result is smaller than the parts that it is made of.
    lost = (-n).fma(low_part, plain_add(first, -r))
    p = horner(r, _EXP[x.dtype]).fma(r * r, lost)
    p = plain_add(p, r)
    half = exponent_of_two(integer - 1, x.dtype)
    result = p.fma(half, plain_add(half, -0.5)) * 2.0
    tiny = {f32: 2.0**-26, f64: 2.0**-55}[x.dtype]
    return (x.abs() < tiny).where(x, result)


# ---------------------------------------------------------------------------------------------------------------------
# logarithms

_SQRT_HALF_BITS = {f32: 0x3F3504F3, f64: 0x3FE6A09E667F3BCD}
# (log(1 + f) - f + f**2/2) / f**3 for sqrt(1/2) <= 1 + f <= sqrt(2); relative error of the logarithm 2**-27, 2**-59
_LOG = {
    f32: (0.33333316, -0.25000808, 0.20002285, -0.1662462, 0.14181529, -0.13128667, 0.12878458, -0.07855227),
    f64: (
        0.3333333333333347, -0.2499999999999923, 0.19999999999940388, -0.1666666666683111, 0.14285714294449964,
        -0.12499999990387843, 0.11111110487667414, -0.0999999995345556, 0.09090934066025409, -0.08333358374735804,
        0.07691714916688137, -0.07141781519573333, 0.06674927936157542, -0.06271966841043655, 0.05821758659922066,
        -0.053162126725392604, 0.053857331526483546, -0.06285250460577241, 0.05784215188840618, -0.024950088477115842,
    ),
}  # fmt: skip
_SMALLEST_NORMAL = {f32: 2.0**-126, f64: 2.0**-1022}


def _log_split(x: Value) -> tuple[Value, Value]:
    """(e, f) with x = 2**e (1 + f) and 1 + f between sqrt(1/2) and sqrt(2), for positive finite x; e as a float."""
    subnormal = x < _SMALLEST_NORMAL[x.dtype]
    bits = subnormal.where(x * 2.0**54, x).bits()
    shifted = bits - _SQRT_HALF_BITS[x.dtype]
    exponent = shifted >> _MANTISSA[x.dtype]
    mantissa = (bits - (exponent << _MANTISSA[x.dtype])).bitcast(x.dtype)
    e = convert(exponent, x.dtype)
    return subnormal.where(e - 54.0, e), plain_add(mantissa, -1.0)


def _log1p_parts(f: Value) -> Value:
    """log(1 + f) - f for a reduced f."""
    square = f * f
    return (horner(f, _LOG[f.dtype]) * f).fma(square, square * -0.5)


def _log_ends(x: Value, result: Value) -> Value:
    """log at 0, infinity, below 0 and for NaN."""
    result = (x == float("inf")).where(x, result)
    result = (x == 0.0).where(float("-inf"), result)
    return (x >= 0.0).where(result, float("nan"))


@elementwise()
def log(x: Value) -> Value:
    e, f = _log_split(x)
    high, low = _LN2[x.dtype]
    return _log_ends(x, e.fma(high, plain_add(f, e.fma(low, _log1p_parts(f)))))


@elementwise()
def log1p(x: Value) -> Value:
    u = plain_add(x, 1.0)
    e, f = _log_split(u)
    # 1 + x = u + c exactly; c counts where x is not so large that u = x.
    c = (x.abs() < 1.0).where(plain_add(x, -plain_add(u, -1.0)), plain_add(x.const(1.0), -plain_add(u, -x)))
    large = {f32: 2.0**30, f64: 2.0**60}[x.dtype]
    c = (x < large).where(c * exponent_of_two(-_to_lane_int(e), x.dtype), 0.0)
    f = plain_add(f, c)
    high, low = _LN2[x.dtype]
    result = e.fma(high, plain_add(f, e.fma(low, _log1p_parts(f))))
    result = _log_ends(u, result)
    return (x.abs() < {f32: 2.0**-26, f64: 2.0**-55}[x.dtype]).where(x, result)


def _to_lane_int(n: Value) -> Value:
    """Integral float lanes of small magnitude as integers; any value for NaN, never an undefined one."""
    return nearest(n)[1]


# ---------------------------------------------------------------------------------------------------------------------
# hyperbolic functions, sigmoid


@elementwise()
def tanh(x: Value) -> Value:
    # With E = e**(2|x|) - 1: tanh |x| = E / (E + 2).  Beyond the limit the quotient is 1.
    limit = {f32: 10.0, f64: 20.0}[x.dtype]
    e = expm1(clamp(x.abs(), 0.0, limit) * 2.0)
    return copysign_bits(e / plain_add(e, 2.0), x)


@elementwise()
def sigmoid(x: Value) -> Value:
    e = exp(-x.abs())
    return (x >= 0.0).where(x.const(1.0), e) / plain_add(e, 1.0)


# ---------------------------------------------------------------------------------------------------------------------
# arithmetic with NumPy's meaning


@elementwise("biuf", outline=False)
def maximum(x: Value, y: Value) -> Value:
    return x | y if x.dtype is bool_ else simd.maximum_value(x, y)


@elementwise("biuf", outline=False)
def minimum(x: Value, y: Value) -> Value:
    return x & y if x.dtype is bool_ else simd.minimum_value(x, y)


@elementwise(outline=False)
def sqrt(x: Value) -> Value:
    return x.call("sqrt")


@elementwise(outline=False)
def fma(x: Value, y: Value, z: Value) -> Value:
    return x.fma(y, z)
