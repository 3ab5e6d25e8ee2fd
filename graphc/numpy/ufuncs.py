"""NumPy's ufuncs as ops: one table entry each. Operands arrive cast to the loop's types and broadcast."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import Builder, Node
from graphc.ops.control import while_loop
from graphc.ops.elementary import log_of_sum
from graphc.tracing import LEFT_OUT, METHODS, UFUNCS, Tracer, is_weak_scalar, operate, to_node, wrap
from graphc.types import DType, TensorType, bf16, bool_, dtype, f16, f32, f64, i32, i64, u8, u64


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


@dataclass(frozen=True)
class Layout:
    """A float type's bits: the integers of its width, bits of the fraction, exponent of the smallest normal number."""

    integers: DType
    fraction: int
    lowest: int

    @property
    def mask(self) -> int:
        """The bits of the exponent."""
        return (1 << (8 * self.integers.itemsize - 1)) - (1 << self.fraction)


LAYOUTS = {f32: Layout(i32, 23, -126), f64: Layout(i64, 52, -1022)}


def in_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` of halves through f32, whose numbers they are among; the float results are halves again."""

    def through(*xs: Node) -> Any:
        element = xs[0].type.dtype
        if element in LAYOUTS:
            return function(*xs)
        found = function(*[ops.convert(x, f32) if x.type.dtype.is_float else x for x in xs])
        parts = found if isinstance(found, tuple) else (found,)
        halves = tuple(ops.convert(r, element) if r.type.dtype is f32 else r for r in parts)
        return halves if isinstance(found, tuple) else halves[0]

    return through


@in_float32
def logaddexp(x: Node, y: Node) -> Node:
    """log(e^x + e^y)"""
    return ops.logaddexp(x, y)


@in_float32
def logaddexp2(x: Node, y: Node) -> Node:
    """log2(2^x + 2^y)"""
    return log_of_sum(x, y, ops.exp2, lambda v: ops.mul(ops.log1p(v), ops.like(v, math.log2(math.e))))


# ------------------------------------------------------------------------------------------------ powers of integers


def power(x: Node, y: Node) -> Node:
    return ops.pow_(x, y) if x.type.dtype.is_inexact else integer_power(x, y)


def integer_power(x: Node, y: Node) -> Node:
    """``x ** y`` by repeated squaring.

    NumPy raises ValueError where an exponent is negative. So does this where the exponents are known; of traced ones a
    negative power is the exact one rounded towards 0: 1 and -1 for a base of 1 and -1, and 0 for any other.
    """
    known = known_numbers(y)
    if known is not None and known.size and known.min() < 0:
        raise ValueError("Integers to negative integer powers are not allowed.")
    exponent = ops.constant_value(y)
    if exponent is not None:
        return ops.integer_pow(x, exponent=int(exponent))
    if known is not None:
        state = [ops.like(x, 1), x, y]
        for _ in range(int(known.max(initial=0)).bit_length()):
            state = squared(*state)
        return state[0]
    zero = ops.zeros(y.type)
    result = repeated_while(lambda r, b, e: ops.ne(e, ops.zeros(e.type)), squared, ops.like(x, 1), x, ops.maximum(y, zero))
    if y.type.dtype.kind == "u":
        return result[0]
    odd = ops.ne(ops.bit_and(y, ops.like(y, 1)), zero)
    unit = ops.eq(ops.abs_(x), ops.like(x, 1))
    below = ops.select(unit, ops.select(odd, x, ops.like(x, 1)), ops.zeros(x.type))
    return ops.select(ops.lt(y, zero), below, result[0])


def squared(result: Node, base: Node, exponent: Node) -> list[Node]:
    """One step of repeated squaring: the lowest bit of the exponent is used up."""
    one = ops.like(exponent, 1)
    odd = ops.ne(ops.bit_and(exponent, one), ops.zeros(exponent.type))
    return [
        ops.select(odd, ops.mul(result, base), result),
        ops.mul(base, base),
        ops.shift_right(exponent, one),
    ]


def known_numbers(node: Node) -> np.ndarray | None:
    """The numbers in ``node`` (each at least once), where they are constant."""
    while node.op.name in ("broadcast_to", "reshape", "transpose"):
        node = node.inputs[0]
    return node["value"].value if node.op is ops.constant else None


def repeated_while(
    condition: Callable[..., Node], step: Callable[..., Sequence[Node]], *state: Node
) -> Sequence[Node]:
    """``state = step(*state)`` as long as ``condition(*state)`` holds anywhere, all at once: steps must not hurt others."""
    with Builder("step") as builder:
        inputs = [builder.input(f"x{k}", x.type) for k, x in enumerate(state)]
        body = builder.graph(list(step(*inputs)), inputs=inputs)
    with Builder("unfinished") as builder:
        inputs = [builder.input(f"x{k}", x.type) for k, x in enumerate(state)]
        open_ = condition(*inputs)
        test = builder.graph([ops.reduce_or(open_, axes=tuple(range(open_.type.ndim)))], inputs=inputs)
    return ops.items(while_loop(*state, cond=test, body=body, n_carry=len(state)))


def unsigned(x: Node) -> Node:
    """The size of integers as unsigned ones of their width: of the lowest number too."""
    if x.type.dtype.kind == "u":
        return x
    return ops.convert(ops.abs_(x), dtype(f"u{8 * x.type.dtype.itemsize}"))


def gcd(x: Node, y: Node) -> Node:
    """Euclid's algorithm on all elements at once, until the last is done."""

    def step(a: Node, b: Node) -> list[Node]:
        done = ops.eq(b, ops.zeros(b.type))
        return [ops.select(done, a, b), ops.select(done, b, ops.remainder(a, b))]

    found = repeated_while(lambda a, b: ops.ne(b, ops.zeros(b.type)), step, unsigned(x), unsigned(y))
    return ops.convert(found[0], x.type.dtype)


def lcm(x: Node, y: Node) -> Node:
    a, b = unsigned(x), unsigned(y)
    divisor = gcd(a, b)
    found = ops.mul(ops.floor_divide(a, ops.maximum(divisor, ops.like(divisor, 1))), b)
    return ops.convert(found, x.type.dtype)


def bitwise_count(x: Node) -> Node:
    """How many bits of the size of ``x`` are set: sums of neighbours (H. Warren, Hacker's Delight, 5-1)."""
    v = unsigned(x)
    width = 8 * v.type.dtype.itemsize

    def spread(byte: int) -> Node:
        return ops.like(v, int.from_bytes(bytes([byte]) * v.type.dtype.itemsize, "little"))

    def down(x: Node, count: int) -> Node:
        return ops.shift_right(x, ops.like(x, count)) if count else x

    v = ops.sub(v, ops.bit_and(down(v, 1), spread(0x55)))
    v = ops.add(ops.bit_and(v, spread(0x33)), ops.bit_and(down(v, 2), spread(0x33)))
    v = ops.bit_and(ops.add(v, down(v, 4)), spread(0x0F))
    return ops.convert(down(ops.mul(v, spread(0x01)), width - 8), u8)


# ------------------------------------------------------------------------------------------------ bits of floats


def power_of_two(n: Node, element: DType) -> Node:
    """2^n for integers n between the exponents of the smallest and the largest normal number."""
    layout = LAYOUTS[element]
    biased = ops.add(ops.convert(n, layout.integers), ops.full(TensorType(layout.integers, n.type.shape), 1 - layout.lowest))
    return ops.bitcast(ops.shift_left(biased, ops.like(biased, layout.fraction)), to=element)


@in_float32
def ldexp(x: Node, n: Node) -> Node:
    """x·2^n rounded once. Beyond the exponents of normal numbers in up to three steps; downwards such that only the last
    one rounds (musl's scalbn)."""
    element = x.type.dtype
    layout = LAYOUTS[element]
    top, bottom = 1 - layout.lowest, layout.lowest
    n = ops.maximum(ops.minimum(n, ops.like(n, 8 * top)), ops.like(n, -8 * top))
    for _ in range(2):
        low = ops.select(ops.lt(n, ops.like(n, bottom)), ops.like(n, bottom + layout.fraction + 1), ops.zeros(n.type))
        part = ops.select(ops.gt(n, ops.like(n, top)), ops.like(n, top), low)
        x, n = ops.mul(x, power_of_two(part, element)), ops.sub(n, part)
    n = ops.maximum(ops.minimum(n, ops.like(n, top)), ops.like(n, bottom))
    return ops.mul(x, power_of_two(n, element))


@in_float32
def frexp(x: Node) -> tuple[Node, Node]:
    """(m, e) with x = m·2^e and 1/2 <= abs(m) < 1; 0, infinities and NaN are their own m, with e = 0."""
    layout = LAYOUTS[x.type.dtype]
    small = ops.lt(ops.abs_(x), ops.like(x, 2.0**layout.lowest))
    scale = layout.fraction + 2
    bits = ops.bitcast(ops.select(small, ops.mul(x, ops.like(x, 2.0**scale)), x), to=layout.integers)
    field = ops.shift_right(ops.bit_and(bits, ops.like(bits, layout.mask)), ops.like(bits, layout.fraction))
    exponent = ops.convert(ops.add(field, ops.like(field, layout.lowest)), i32)
    exponent = ops.sub(exponent, ops.select(small, ops.like(exponent, scale), ops.zeros(exponent.type)))
    plain = ops.bit_and(ops.isfinite(x), ops.ne(x, ops.zeros(x.type)))
    exponent = ops.select(plain, exponent, ops.zeros(exponent.type))
    return ops.select(plain, ldexp(x, ops.neg(exponent)), x), exponent


def modf(x: Node) -> tuple[Node, Node]:
    """(the fraction, the whole number), both with the sign of x; the derivative of the fraction is 1 everywhere."""
    whole = ops.trunc(x)
    fraction = ops.select(signbit(x), ops.neg(ops.sub(whole, x)), ops.sub(x, whole))
    nothing = copysign(ops.zeros(x.type), x)
    return ops.select(isinf(x), nothing, fraction), whole


def smallest(element: DType) -> float:
    """The smallest positive number, a subnormal one."""
    return {f16: 2.0**-24, bf16: 2.0**-133, f32: 2.0**-149, f64: 2.0**-1074}[element]


def nextafter(x: Node, y: Node) -> Node:
    """The number next to x in the direction of y. It has no derivative, as other functions of bits."""
    element = x.type.dtype
    if element not in LAYOUTS:  # the bits of halves are those of f32, cut off
        x, y = ops.convert(x, f32), ops.convert(y, f32)
    zero = ops.zeros(x.type)
    grows = ops.eq(ops.gt(y, x), ops.gt(x, zero))
    moved = moved_by(x, grows, {f16: 1 << 13, bf16: 1 << 16}.get(element, 1))
    if element is f16:
        moved = half_steps(x, grows, moved)
    moved = ops.select(ops.eq(x, zero), copysign(ops.like(x, smallest(element)), y), moved)
    moved = ops.select(ops.eq(x, y), x if element is f16 else y, moved)  # of 0.0 and -0.0, as in NumPy
    return ops.convert(ops.select(ops.bit_or(ops.isnan(x), ops.isnan(y)), ops.add(x, y), moved), element)


def moved_by(x: Node, grows: Node, step: int) -> Node:
    """x with ``step`` added to its bits where its size grows, taken away elsewhere."""
    bits = ops.bitcast(x, to=LAYOUTS[x.type.dtype].integers)
    by = ops.select(grows, ops.like(bits, step), ops.like(bits, -step))
    return ops.bitcast(ops.add(bits, by), to=x.type.dtype)


def half_steps(x: Node, grows: Node, moved: Node) -> Node:
    """The steps of f16 that are not steps of its bits in f32: of subnormal numbers and down from infinity."""
    size, step = ops.abs_(x), ops.like(x, smallest(f16))
    near = ops.select(grows, ops.add(size, step), ops.sub(size, step))
    moved = ops.select(ops.le(size, ops.like(x, 2.0**-14)), copysign(near, x), moved)
    return ops.select(isinf(x), copysign(ops.like(x, 65504.0), x), moved)


def spacing(x: Node) -> Node:
    """The distance to the next number: of halves upwards, of others away from 0 with the sign of x, as in NumPy."""
    element, x = x.type.dtype, ops.stop_gradient(x)
    if element is f16:
        return ops.sub(nextafter(x, ops.like(x, np.inf)), ops.select(isinf(x), ops.like(x, np.nan), x))
    wide = ops.convert(x, f32) if element is bf16 else x
    far = moved_by(wide, ops.full(TensorType(bool_, x.type.shape), True), 1 << 16 if element is bf16 else 1)
    zero = ops.eq(wide, ops.zeros(wide.type))
    distance = ops.select(zero, ops.like(wide, smallest(element)), ops.sub(far, wide))
    return ops.convert(distance, element)


# ------------------------------------------------------------------------------------------------ lengths and signs


@in_float32
def hypot(x: Node, y: Node) -> Node:
    """√(x² + y²) scaled by a power of two, so that squares neither overflow nor vanish; infinite where x or y is.

    The derivative at (0, 0) is 0, as that of the absolute value.
    """
    layout = LAYOUTS[x.type.dtype]
    largest = ops.maximum(ops.abs_(x), ops.abs_(y))
    bits = ops.bitcast(ops.maximum(largest, ops.like(x, 2.0**layout.lowest)), to=layout.integers)
    scale = ops.bitcast(ops.bit_and(bits, ops.like(bits, layout.mask)), to=x.type.dtype)
    infinite = ops.bit_or(isinf(x), isinf(y))
    scale = ops.select(infinite, ops.like(x, 1), scale)
    a, b = ops.div(x, scale), ops.div(y, scale)
    nothing = ops.eq(largest, ops.zeros(x.type))
    squares = ops.add(ops.mul(a, a), ops.mul(b, b))
    root = ops.mul(scale, ops.sqrt(ops.select(nothing, ops.like(x, 1), squares)))
    root = ops.select(nothing, ops.add(ops.abs_(x), ops.abs_(y)), root)
    return ops.select(infinite, ops.like(x, np.inf), root)


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
    """Whether the sign is minus: of -0.0 and of NaN too."""
    if not x.type.dtype.is_float:
        return ops.lt(x, ops.zeros(x.type))
    wide = x if x.type.dtype in LAYOUTS else ops.convert(x, f32)
    bits = ops.bitcast(wide, to=LAYOUTS[wide.type.dtype].integers)
    return ops.lt(bits, ops.zeros(bits.type))


def isinf(x: Node) -> Node:
    return ops.eq(ops.abs_(x), ops.like(x, np.inf))


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


def degrees(x: Node) -> Node:
    """x in degrees; NumPy's factor of f32 is a quotient in f32."""
    return ops.mul(x, ops.like(x, 180 / np.pi if x.type.dtype is f64 else float(np.float32(180) / np.float32(np.pi))))


UFUNCS.update(
    {
        np.add: by_kind(ops.bit_or, ops.add),
        np.subtract: ops.sub,
        np.multiply: by_kind(ops.bit_and, ops.mul),
        np.true_divide: ops.div,
        np.floor_divide: ops.floor_divide,
        np.remainder: ops.remainder,
        np.fmod: ops.fmod,
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
        np.exp2: ops.exp2,
        np.cbrt: ops.cbrt,
        np.expm1: ops.expm1,
        np.log: ops.log,
        np.log2: ops.log2,
        np.log10: ops.log10,
        np.log1p: ops.log1p,
        np.sin: ops.sin,
        np.cos: ops.cos,
        np.tan: ops.tan,
        np.tanh: ops.tanh,
        np.sinh: ops.sinh,
        np.cosh: ops.cosh,
        np.arctan2: ops.atan2,
        np.arcsin: ops.asin,
        np.arccos: ops.acos,
        np.arcsinh: ops.asinh,
        np.arccosh: ops.acosh,
        np.arctanh: ops.atanh,
        np.arctan: ops.atan,
        np.hypot: hypot,
        np.deg2rad: lambda x: ops.mul(x, ops.like(x, float(np.pi / 180))),
        np.radians: lambda x: ops.mul(x, ops.like(x, float(np.pi / 180))),
        np.rad2deg: degrees,
        np.degrees: degrees,
        np.maximum: ops.maximum,
        np.minimum: ops.minimum,
        np.fmax: ignoring_nan(ops.maximum),
        np.fmin: ignoring_nan(ops.minimum),
        np.logaddexp: logaddexp,
        np.logaddexp2: logaddexp2,
        np.gcd: gcd,
        np.lcm: lcm,
        np.bitwise_count: bitwise_count,
        np.ldexp: ldexp,
        np.frexp: frexp,
        np.modf: modf,
        np.nextafter: nextafter,
        np.spacing: spacing,
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
        np.isinf: float_only("isinf", isinf, lambda x: constant_like(x, False)),
        np.signbit: signbit,
        np.heaviside: heaviside,
        np.copysign: copysign,
    }
)


def operator_power(x: Any, y: Any) -> Any:
    """``x ** y``: a number as exponent keeps x's type, and the derivative is exact at 0 for whole ones."""
    if not (isinstance(x, Tracer) and is_weak_scalar(y)):
        return operate(np.power, x, y)
    element = x._node.type.dtype
    if element.is_inexact:
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


# ------------------------------------------------------------------------------------------------ left out

_UMATH = importlib.import_module("numpy._core.umath")

#: A ufunc without a public name, behind np.ones_like.
UFUNCS[_UMATH._ones_like] = lambda x: ops.like(x, 1)

LEFT_OUT.update(
    {
        ufunc: "it works on text, which is no number; call it outside the traced function"
        for ufunc in vars(_UMATH).values()
        if isinstance(ufunc, np.ufunc) and not any(kind in loop for loop in ufunc.types for kind in "?bdlM")
    }
)
LEFT_OUT[np.isnat] = "it works on dates, which graphc does not have; call it outside the traced function"
