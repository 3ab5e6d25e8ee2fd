"""What the elementwise functions of kernels are made of: sums without contraction, exponents, two-part arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir
from numba.core import types

from graphc.backends.cpu import simd
from graphc.backends.cpu.lanes import Value, f32, f64, i32, i64


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


MANTISSA = {f32: 23, f64: 52}
_BIAS = {f32: 127, f64: 1023}
SMALLEST_NORMAL = {f32: 2.0**-126, f64: 2.0**-1022}
TINY = {f32: 2.0**-14, f64: 2.0**-29}  # below it x**2 / 2 is lost beside 1


def integers_of(x: Value) -> simd.DType:
    """The signed integers as wide as the float lanes of x."""
    return i32 if x.dtype is f32 else i64


def nearest(x: Value, factor: float = 1.0) -> tuple[Value, Value]:
    """``x * factor`` rounded to an integer, as float and as integer lanes.

    Right for results below ``2**(mantissa - 2)``; any number, never an undefined one, for others and for NaN.
    """
    magic = 1.5 * 2.0 ** MANTISSA[x.dtype]
    shifted = plain_add(x, magic) if factor == 1.0 else x.fma(factor, magic)
    return plain_add(shifted, -magic), shifted.bits() - x.const(magic).bits()


def exponent_of_two(n: Value, dtype: simd.DType) -> Value:
    """``2**n`` for integer lanes n within the normal range of ``dtype``."""
    return ((n + _BIAS[dtype]) << MANTISSA[dtype]).bitcast(dtype)


def scale(x: Value, n: Value, integer: Value) -> Value:
    """``x * 2**n`` rounded once, for an x near 1; n as float and as integer lanes, its half in the normal range."""
    if has_avx512(x):
        return avx512("scalef", x, n)
    first = integer >> 1
    return plain_mul(plain_mul(x, exponent_of_two(first, x.dtype)), exponent_of_two(integer - first, x.dtype))


def has_avx512(x: Value) -> bool:
    return "avx512f" in x.b.module.features


def avx512(name: str, x: Value, *more: Value | int) -> Value:
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


def fixup(result: Value, source: Value, table: int) -> Value:
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
    big = plain_mul(x, 2.0 ** ((MANTISSA[x.dtype] + 2) // 2) + 1.0)
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
