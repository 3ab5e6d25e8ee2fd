"""Vectors of 16 lanes at the level of LLVM IR: element types, modules, values with operators, conversions.

This layer knows llvmlite alone.  :mod:`graphc.backends.cpu.simd` makes a language for kernels of it,
:mod:`graphc.backends.cpu.vmath` writes functions such as ``exp`` with its :class:`Value`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir

# ---------------------------------------------------------------------------------------------------------------------
# element types

W = 16  # lanes of every vector
I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
F32, F64 = ir.FloatType(), ir.DoubleType()
POINTER = ir.PointerType()


@dataclass(frozen=True)
class DType:
    """An element type of the vocabulary: ``kind`` is one of b i u f, ``bits`` its width in memory."""

    name: str
    kind: str
    bits: int

    @property
    def itemsize(self) -> int:
        return self.bits // 8

    @property
    def compute(self) -> DType:
        """The dtype of the lanes that a load of this dtype gives."""
        return f32 if self in (f16, bf16) else self

    @property
    def memory(self) -> ir.Type:
        """LLVM type of one element in memory."""
        if self in (f32, f64):
            return self.lane
        return INTS[self.bits]

    @property
    def lane(self) -> ir.Type:
        """LLVM type of one lane."""
        if self.kind == "b":
            return I1
        if self.kind == "f":
            return F64 if self is f64 else F32
        return INTS[self.bits]

    @property
    def llvm(self) -> ir.VectorType:
        """LLVM type of a vector of ``W`` lanes."""
        return vector_type(self.lane)

    @property
    def suffix(self) -> str:
        """Overload suffix of LLVM intrinsics, such as ``v16f32``."""
        return f"v{W}{'f' if self.kind == 'f' else 'i'}{1 if self.kind == 'b' else self.compute.bits}"

    def __str__(self) -> str:
        return self.name


INTS = {1: I1, 8: I8, 16: I16, 32: I32, 64: I64}
_VECTORS: dict[tuple[str, int], ir.VectorType] = {}
bool_ = DType("bool", "b", 8)
i8, i16, i32, i64 = (DType(f"i{n}", "i", n) for n in (8, 16, 32, 64))
u8, u16, u32, u64 = (DType(f"u{n}", "u", n) for n in (8, 16, 32, 64))
f16, bf16, f32, f64 = DType("f16", "f", 16), DType("bf16", "f", 16), DType("f32", "f", 32), DType("f64", "f", 64)
DTYPES = {d.name: d for d in (bool_, i8, i16, i32, i64, u8, u16, u32, u64, f16, bf16, f32, f64)}


def vector_type(lane: ir.Type, lanes: int = W) -> ir.VectorType:
    """``<lanes x lane>``, one object per type (llvmlite caches the text of a type on the object)."""
    key = (str(lane), lanes)
    if key not in _VECTORS:
        _VECTORS[key] = ir.VectorType(lane, lanes)
    return _VECTORS[key]


# ---------------------------------------------------------------------------------------------------------------------
# modules: alias scopes, outlined functions


class KernelModule(ir.Module):
    """The LLVM module of one kernel: collects alias scopes and the outlined functions that it calls."""

    def __init__(
        self,
        name: str,
        features: frozenset[str] = frozenset(),
        optimize: Callable[[str, str], str] = lambda name, text: text,
    ) -> None:
        super().__init__(name)
        self.features = features
        self.optimize = optimize  # (name, module text) -> text of that outlined function, optimised
        self._scoped: list[tuple[ir.Instruction, int]] = []
        self._outlined: dict[str, str] = {}

    def scoped(self, access: ir.Instruction, scope: int) -> None:
        """Note that ``access`` belongs to alias scope ``scope`` (-1: to none)."""
        if scope >= 0:
            self._scoped.append((access, scope))

    def attach_scopes(self) -> None:
        """Write ``!alias.scope`` and ``!noalias``; the set of scopes is known once the function is complete."""
        names = sorted({scope for _, scope in self._scoped})
        domain = self.add_metadata(["kernel"])
        scopes = {n: self.add_metadata([f"buffer {n}", domain]) for n in names}
        lists = {n: self.add_metadata([scopes[n]]) for n in names}
        others = {n: self.add_metadata([scopes[m] for m in names if m != n]) for n in names}
        for access, scope in self._scoped:
            access.set_metadata("alias.scope", lists[scope])
            if len(names) > 1:
                access.set_metadata("noalias", others[scope])

    def outlined(self, name: str, type_: ir.FunctionType, make: Callable[[], dict[str, str]]) -> ir.Function:
        """The internal function ``name``, declared for callers here; ``make()`` gives its text and those it calls."""
        if name not in self._outlined:
            self._outlined.update(make())
        return self.globals[name] if name in self.globals else ir.Function(self, type_, name)

    def support(self, name: str, type_: ir.FunctionType, text: str) -> ir.Function:
        """A function written as LLVM text (with the globals that it needs), which LLVM does not inline."""
        return self.outlined(name, type_, lambda: {name: text})

    @property
    def outlined_texts(self) -> dict[str, str]:
        """Texts of the functions outside this module's own, by name."""
        return dict(self._outlined)

    def __repr__(self) -> str:
        text = super().__repr__()
        lines = [line for line in text.split("\n") if not self._is_outlined_declaration(line)]
        return "\n".join([*lines, *self._outlined.values()])

    def _is_outlined_declaration(self, line: str) -> bool:
        if not (line.startswith("declare ") and self._outlined):
            return False
        return line.split('@"', 1)[1].split('"', 1)[0] in self._outlined


def intrinsic(module: ir.Module, name: str, result: ir.Type, args: Sequence[ir.Type]) -> ir.Function:
    """Declaration of an LLVM intrinsic (or any external function) in ``module``."""
    found = module.globals.get(name)
    return found if found is not None else ir.Function(module, ir.FunctionType(result, args), name)


def stack_slot(b: ir.IRBuilder, type_: ir.Type, align: int | None = None, name: str = "") -> ir.Value:
    """Room for one ``type_`` in the frame, made at the function's entry; its address is an opaque pointer."""
    with b.goto_block(b.function.entry_basic_block):
        b.position_at_start(b.function.entry_basic_block)
        slot = b.alloca(type_, name=name)
    slot.type, slot.align = POINTER, align
    return slot


class _Splat(ir.Constant):
    """A vector constant with equal lanes, printed in LLVM's short form."""

    def __init__(self, type_: ir.VectorType, element: ir.Constant) -> None:
        super().__init__(type_, element)
        self.text = f"splat ({element})"

    def _to_string(self) -> str:
        return f"{self.type} {self.text}"

    def get_reference(self) -> str:
        return self.text


def splat_constant(dtype: DType, value: Any) -> ir.Constant:
    """The constant ``value`` in all lanes of a vector of ``dtype`` (wrapped to the width, rounded to the precision)."""
    return _Splat(dtype.llvm, scalar_constant(dtype, value))


def scalar_constant(dtype: DType, value: Any) -> ir.Constant:
    """The constant ``value`` as one lane of ``dtype``."""
    if dtype.kind == "b":
        return ir.Constant(I1, int(bool(value)))
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return ir.Constant(dtype.lane, float(np.float32(value)) if dtype.lane is F32 else float(value))
    wrapped = int(value) & ((1 << dtype.bits) - 1)
    return ir.Constant(dtype.lane, wrapped - (1 << dtype.bits) if wrapped >> (dtype.bits - 1) else wrapped)


# ---------------------------------------------------------------------------------------------------------------------
# values: vectors with operators, for those who write emitters


@dataclass(frozen=True, eq=False)
class Value:
    """An SSA vector while emitting: a builder, a dtype, an LLVM value; Python operators emit instructions.

    Float ``+ - *`` carry ``contract``, everything else no flags.  Integer operators wrap; ``>>`` is arithmetic for
    signed dtypes; shift counts must be below the width.  The other operand may be a Python number.
    """

    b: ir.IRBuilder
    dtype: DType
    ir: ir.Value

    def const(self, value: Any) -> Value:
        """``value`` in all lanes, of this dtype."""
        return Value(self.b, self.dtype, splat_constant(self.dtype, value))

    def like(self, other: Value | float) -> Value:
        if not isinstance(other, Value):
            return self.const(other)
        assert other.dtype.llvm is self.dtype.llvm, f"{self.dtype} and {other.dtype}"
        return other

    def _new(self, value: ir.Value) -> Value:
        return Value(self.b, self.dtype, value)

    def _arith(self, other: Value | float, name: str, swap: bool = False) -> Value:
        x, y = self, self.like(other)
        if swap:
            x, y = y, x
        if self.dtype.kind == "f":
            return self._new(getattr(self.b, "f" + name)(x.ir, y.ir, flags=("contract",)))
        return self._new(getattr(self.b, name)(x.ir, y.ir))

    def __add__(self, other: Value | float) -> Value:
        return self._arith(other, "add")

    def __radd__(self, other: float) -> Value:
        return self._arith(other, "add")

    def __sub__(self, other: Value | float) -> Value:
        return self._arith(other, "sub")

    def __rsub__(self, other: float) -> Value:
        return self._arith(other, "sub", swap=True)

    def __mul__(self, other: Value | float) -> Value:
        return self._arith(other, "mul")

    def __rmul__(self, other: float) -> Value:
        return self._arith(other, "mul")

    def __truediv__(self, other: Value | float) -> Value:
        assert self.dtype.kind == "f"
        return self._new(self.b.fdiv(self.ir, self.like(other).ir))

    def __rtruediv__(self, other: float) -> Value:
        return self.const(other) / self

    def __neg__(self) -> Value:
        return self._new(self.b.fneg(self.ir) if self.dtype.kind == "f" else self.b.neg(self.ir))

    def __and__(self, other: Value | float) -> Value:
        return self._new(self.b.and_(self.ir, self.like(other).ir))

    def __or__(self, other: Value | float) -> Value:
        return self._new(self.b.or_(self.ir, self.like(other).ir))

    def __xor__(self, other: Value | float) -> Value:
        return self._new(self.b.xor(self.ir, self.like(other).ir))

    def __invert__(self) -> Value:
        return self._new(self.b.not_(self.ir))

    def __lshift__(self, other: Value | int) -> Value:
        return self._new(self.b.shl(self.ir, self.like(other).ir))

    def __rshift__(self, other: Value | int) -> Value:
        shift = self.b.ashr if self.dtype.kind == "i" else self.b.lshr
        return self._new(shift(self.ir, self.like(other).ir))

    def compare(self, op: str, other: Value | float) -> Value:
        """A bool vector; ``!=`` is true for NaN, the others are false."""
        y = self.like(other)
        if self.dtype.kind == "f":
            compare = self.b.fcmp_unordered if op == "!=" else self.b.fcmp_ordered
        else:
            compare = self.b.icmp_signed if self.dtype.kind == "i" else self.b.icmp_unsigned
        return Value(self.b, bool_, compare(op, self.ir, y.ir))

    def __lt__(self, other: Value | float) -> Value:
        return self.compare("<", other)

    def __le__(self, other: Value | float) -> Value:
        return self.compare("<=", other)

    def __gt__(self, other: Value | float) -> Value:
        return self.compare(">", other)

    def __ge__(self, other: Value | float) -> Value:
        return self.compare(">=", other)

    def __eq__(self, other: Value | float) -> Value:  # type: ignore[override]
        return self.compare("==", other)

    def __ne__(self, other: Value | float) -> Value:  # type: ignore[override]
        return self.compare("!=", other)

    def where(self, a: Value | float, b: Value | float) -> Value:
        """Lanes of ``a`` where this bool vector is true, of ``b`` elsewhere; at least one of the two is a vector."""
        model = a if isinstance(a, Value) else b
        assert isinstance(model, Value)
        x, y = model.like(a), model.like(b)
        return Value(self.b, model.dtype, self.b.select(self.ir, x.ir, y.ir))

    def call(self, name: str, *others: Value | float) -> Value:
        """The LLVM intrinsic ``llvm.name`` overloaded on this dtype, all operands and the result of this dtype."""
        args = [self.ir, *(self.like(o).ir for o in others)]
        function = intrinsic(
            self.b.module, f"llvm.{name}.{self.dtype.suffix}", self.dtype.llvm, [self.dtype.llvm] * len(args)
        )
        return self._new(self.b.call(function, args))

    def fma(self, m: Value | float, a: Value | float) -> Value:
        """``self * m + a``, one rounding on hosts with FMA, two elsewhere (never a library call)."""
        return self.call("fma" if has_fma(self.b.module) else "fmuladd", m, a)

    def abs(self) -> Value:
        assert self.dtype.kind == "f"
        return self.call("fabs")

    def bits(self, signed: bool = True) -> Value:
        """The bits of float lanes as integers of that width."""
        return self.bitcast((i32 if signed else u32) if self.dtype.lane is F32 else (i64 if signed else u64))

    def bitcast(self, dtype: DType) -> Value:
        return Value(self.b, dtype, self.b.bitcast(self.ir, dtype.llvm) if dtype.llvm != self.dtype.llvm else self.ir)

    def shuffle(self, lanes: Sequence[int], other: Value | None = None) -> Value:
        """Lane l of the result is lane ``lanes[l]`` of this vector (or of ``other``, numbered from W)."""
        mask = ir.Constant(vector_type(I32, len(lanes)), list(lanes))
        second = other.ir if other is not None else ir.Constant(self.ir.type, ir.Undefined)
        return self._new(self.b.shuffle_vector(self.ir, second, mask))


def has_fma(module: ir.Module) -> bool:
    return "fma" in getattr(module, "features", ())


def broadcast(b: ir.IRBuilder, scalar: ir.Value, dtype: DType) -> Value:
    """An int64, float64 or bool scalar in all lanes, converted to ``dtype``."""
    if isinstance(scalar, ir.Constant) and scalar.constant is not None:
        return Value(b, dtype, splat_constant(dtype, scalar.constant))
    return splat_scalar(b, _convert_scalar(b, scalar, dtype), dtype)


def splat_scalar(b: ir.IRBuilder, scalar: ir.Value, dtype: DType) -> Value:
    """A scalar of the lane type in all lanes."""
    undefined = ir.Constant(dtype.llvm, ir.Undefined)
    one = b.insert_element(undefined, scalar, ir.Constant(I32, 0))
    zeros = ir.Constant(vector_type(I32), None)
    return Value(b, dtype, b.shuffle_vector(one, undefined, zeros))


def _convert_scalar(b: ir.IRBuilder, scalar: ir.Value, dtype: DType) -> ir.Value:
    source, target = scalar.type, dtype.lane
    if source == target:
        return scalar
    if isinstance(source, ir.IntType):
        if dtype.kind == "f":
            return b.uitofp(scalar, target) if source.width == 1 else b.sitofp(scalar, target)
        if dtype.kind == "b":
            return b.icmp_signed("!=", scalar, ir.Constant(source, 0))
        if source.width == 1:
            return b.zext(scalar, target)
        return b.trunc(scalar, target) if source.width > target.width else b.sext(scalar, target)
    if dtype.kind == "f":
        return b.fptrunc(scalar, target) if target is F32 else b.fpext(scalar, target)
    raise TypeError(f"a float scalar cannot become {dtype}")


def iota(b: ir.IRBuilder, dtype: DType) -> Value:
    """The constant vector 0, 1, ... W-1."""
    return Value(b, dtype, ir.Constant(dtype.llvm, [float(k) if dtype.kind == "f" else k for k in range(W)]))


def tail_mask(b: ir.IRBuilder, n: ir.Value) -> Value:
    """Lanes < n, for any int64 n."""
    if isinstance(n, ir.Constant):
        return Value(b, bool_, ir.Constant(bool_.llvm, [int(k < n.constant) for k in range(W)]))
    full = ir.Constant(I64, W)
    clamped = b.select(b.icmp_signed("<", n, full), n, full)
    count = splat_scalar(b, b.trunc(clamped, I32), i32)
    return iota(b, i32) < count


def element(b: ir.IRBuilder, base: ir.Value, index: ir.Value, dtype: DType) -> ir.Value:
    """Address of element ``index`` of a buffer of ``dtype`` (an int64 address is accepted as base)."""
    if base.type == I64:
        base = b.inttoptr(base, POINTER)
    return b.gep(base, [index], source_etype=dtype.memory)


def pack(b: ir.IRBuilder, items: Sequence[ir.Value]) -> ir.Value:
    """A homogeneous tuple of Numba from its items."""
    result: ir.Value = ir.Constant(ir.ArrayType(items[0].type, len(items)), ir.Undefined)
    for k, item in enumerate(items):
        result = b.insert_value(result, item, k)
    return result


# ---------------------------------------------------------------------------------------------------------------------
# outlined functions: the body of a large intrinsic, built once per process, inlined by LLVM

_OUTLINED: dict[tuple[str, frozenset[str]], dict[str, str]] = {}


def call_outlined(name: str, result: DType, body: Callable[..., Value], *args: Value) -> Value:
    """Call ``body(*args)`` as an internal function named ``name`` plus the dtypes.

    ``body`` takes and returns :class:`Value`; it runs once per process and target, later calls reuse its text, and LLVM
    inlines it.  It must depend on nothing but its arguments' dtypes and the features of the module.
    """
    return Value(args[0].b, result, _call_outlined(name, result.llvm, lambda *v: body(*v).ir, args, result.name))


def call_outlined_pair(
    name: str, result: DType, body: Callable[..., tuple[Value, Value]], *args: Value
) -> tuple[Value, Value]:
    """:func:`call_outlined` for a body that gives two vectors of one dtype."""
    type_ = ir.ArrayType(result.llvm, 2)
    b = args[0].b
    both = _call_outlined(name, type_, lambda *v: pack(v[0].b, [r.ir for r in body(*v)]), args, result.name)
    return Value(b, result, b.extract_value(both, 0)), Value(b, result, b.extract_value(both, 1))


def _call_outlined(
    name: str, result: ir.Type, body: Callable[..., ir.Value], args: Sequence[Value], result_name: str
) -> ir.Value:
    b, module, dtypes = args[0].b, args[0].b.module, [a.dtype for a in args]
    symbol = ".".join(["graphc", name, *(d.name for d in dtypes), result_name])
    type_ = ir.FunctionType(result, [d.llvm for d in dtypes])

    def make() -> dict[str, str]:
        key = (symbol, module.features)
        if key not in _OUTLINED:
            scratch = KernelModule(symbol, module.features, module.optimize)
            function = ir.Function(scratch, type_, symbol)
            function.linkage = "internal"
            function.attributes.add("alwaysinline")
            builder = ir.IRBuilder(function.append_basic_block("entry"))
            builder.ret(body(*(Value(builder, d, a) for d, a in zip(dtypes, function.args, strict=True))))
            _OUTLINED[key] = {symbol: module.optimize(symbol, str(scratch)), **scratch.outlined_texts}
        return _OUTLINED[key]

    return b.call(module.outlined(symbol, type_, make), [a.ir for a in args])


# ---------------------------------------------------------------------------------------------------------------------
# conversions


def convert(x: Value, dtype: DType) -> Value:
    """``x.astype(dtype)`` with NumPy's meaning; for ``f16`` and ``bf16`` an ``f32`` vector of rounded values."""
    if dtype in (f16, bf16):
        return widen(narrow(x, dtype), dtype)
    b, source, target = x.b, x.dtype, dtype.llvm
    if source is dtype:
        return x
    if dtype.kind == "b":
        return x != 0
    if source.kind == "b":
        emit = b.uitofp if dtype.kind == "f" else b.zext
        return Value(b, dtype, emit(x.ir, target))
    if source.kind == "f" and dtype.kind == "f":
        return Value(b, dtype, b.fpext(x.ir, target) if dtype is f64 else b.fptrunc(x.ir, target))
    if dtype.kind == "f":
        return Value(b, dtype, (b.sitofp if source.kind == "i" else b.uitofp)(x.ir, target))
    if source.kind == "f":
        return call_outlined("to_int", dtype, lambda v: _float_to_int(v, dtype), x)
    if source.bits == dtype.bits:
        return Value(b, dtype, x.ir)
    if source.bits > dtype.bits:
        return Value(b, dtype, b.trunc(x.ir, target))
    return Value(b, dtype, (b.sext if source.kind == "i" else b.zext)(x.ir, target))


def _float_to_int(x: Value, dtype: DType) -> Value:
    """C's cast as x86-64 compilers translate it for NumPy: out of range and NaN give the "integer indefinite" value.

    Types narrower than 32 bits take the low bits of the conversion to i32; u32 and u64 subtract half of their range
    from what lies beyond it.
    """
    if dtype.bits < 32:
        return convert(_to_signed(x, i32), dtype)
    if dtype.kind == "i":
        return _to_signed(x, dtype)
    signed, half = {u32: i32, u64: i64}[dtype], 2.0 ** (dtype.bits - 1)
    above = Value(x.b, x.dtype, x.b.fsub(x.ir, x.const(half).ir))
    small, large = _to_signed(x, signed), _to_signed(above, signed) ^ -(2 ** (dtype.bits - 1))
    return Value(x.b, dtype, (x >= half).where(large, small).ir)


def _to_signed(x: Value, dtype: DType) -> Value:
    """Truncation to i32 or i64; the smallest integer where the result does not fit."""
    limit = 2.0 ** (dtype.bits - 1)
    inside = (x.abs() < limit) if (x.dtype is f32 or dtype is i64) else ((x > -limit - 1) & (x < limit))
    truncated = Value(x.b, dtype, x.b.fptosi(x.ir, dtype.llvm))
    return inside.where(truncated, -int(limit))


def stored_dtype(dtype: DType) -> DType:
    """The dtype of the lanes as they are in memory."""
    return {f16: u16, bf16: u16, bool_: u8}.get(dtype, dtype)


def from_memory(x: Value, dtype: DType) -> Value:
    if dtype is bool_:
        return x if x.dtype is bool_ else x != 0
    return widen(x, dtype) if dtype in (f16, bf16) else x


def to_memory(x: Value, dtype: DType) -> Value:
    """Lanes as they are stored in a buffer of ``dtype``; the conversion of the value itself is the caller's."""
    if dtype in (f16, bf16):
        return narrow(x, dtype)
    if x.dtype is not dtype:
        raise TypeError(f"cannot store {x.dtype} lanes as {dtype}: cast first")
    return convert(x, u8) if dtype is bool_ else x


def widen(bits: Value, dtype: DType) -> Value:
    """``u16`` storage of ``f16`` or ``bf16`` as ``f32`` lanes, exactly."""
    if dtype is bf16:
        return (convert(bits, u32) << 16).bitcast(f32)
    if "f16c" in bits.b.module.features:
        half = bits.b.bitcast(bits.ir, vector_type(ir.HalfType()))
        return Value(bits.b, f32, bits.b.fpext(half, f32.llvm))
    return call_outlined("widen_f16", f32, _widen_f16, bits)


def _widen_f16(bits: Value) -> Value:
    wide = convert(bits, u32)
    magnitude = (wide & 0x7FFF) << 13
    scaled = (magnitude.bitcast(f32) * 2.0**112).bits(signed=False)  # exact, subnormals included
    special = (wide & 0x7FFF) >= 0x7C00
    quiet = (wide & 0x3FF).compare("!=", 0).where(wide.const(0x400000), wide.const(0))
    finite_or_special = special.where(magnitude | 0x7F800000 | quiet, scaled)
    return (finite_or_special | ((wide & 0x8000) << 16)).bitcast(f32)


def narrow(x: Value, dtype: DType) -> Value:
    """Lanes rounded to nearest even ``f16`` or ``bf16``, as ``u16`` storage."""
    if x.dtype is not f64:
        x = convert(x, f32)
        if dtype is f16 and "f16c" in x.b.module.features:
            half = x.b.fptrunc(x.ir, vector_type(ir.HalfType()))
            return Value(x.b, u16, x.b.bitcast(half, u16.llvm))
    return call_outlined("narrow_" + dtype.name, u16, _narrow_f16 if dtype is f16 else _narrow_bf16, x)


def _round_to_odd(x: Value) -> Value:
    """f64 to f32 such that a later rounding to fewer than 22 bits is right: truncate, or the last bit if inexact."""
    if x.dtype is f32:
        return x
    near = convert(x, f32)
    back = convert(near, f64)
    bits = near.bits()
    toward_zero = (back.abs() > x.abs()).where(bits - 1, bits)
    odd = ((back != x) & (x == x)).where(toward_zero | 1, bits)
    return odd.bitcast(f32)


def _narrow_bf16(x: Value) -> Value:
    bits = _round_to_odd(x).bits(signed=False)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return convert((x == x).where(rounded, (bits >> 16) | 0x40), u16)


def _narrow_f16(x: Value) -> Value:
    x = _round_to_odd(x)
    bits = x.bits(signed=False)
    sign, magnitude = (bits >> 16) & 0x8000, bits & 0x7FFFFFFF
    rebiased = magnitude - (112 << 23)
    normal = (rebiased + 0xFFF + ((rebiased >> 13) & 1)) >> 13
    # Below 2**-14 the unit in the last place is 2**-24: let the float adder round there.
    subnormal = ((magnitude.bitcast(f32) + 0.5).bits(signed=False)) - 0x3F000000
    finite = (magnitude < (113 << 23)).where(subnormal, normal)
    infinite = (magnitude >= 0x47800000).where(finite.const(0x7C00), finite)
    nan = (magnitude >> 13) & 0x3FF | 0x7E00
    return convert((magnitude > 0x7F800000).where(nan, infinite) | sign, u16)


# ---------------------------------------------------------------------------------------------------------------------
# maximum, minimum, trees over the lanes


def maximum_value(x: Value, y: Value) -> Value:
    """np.maximum: NaN wins (the first of two)."""
    larger = (x > y).where(x, y)
    return (x != x).where(x, larger) if x.dtype.kind == "f" else larger


def minimum_value(x: Value, y: Value) -> Value:
    """np.minimum: NaN wins (the first of two)."""
    smaller = (x < y).where(x, y)
    return (x != x).where(x, smaller) if x.dtype.kind == "f" else smaller


def _or_for_bool(x: Value, y: Value) -> Value:
    return x | y if x.dtype is bool_ else maximum_value(x, y)


def _and_for_bool(x: Value, y: Value) -> Value:
    return x & y if x.dtype is bool_ else minimum_value(x, y)


def _plain(name: str) -> Callable[[Value, Value], Value]:
    """Addition or multiplication without ``contract``: a tree gives the same bits wherever its operands come from."""

    def combine(x: Value, y: Value) -> Value:
        emit = getattr(x.b, "f" + name if x.dtype.kind == "f" else name)
        return Value(x.b, x.dtype, emit(x.ir, y.ir))

    return combine


COMBINE: dict[str, Callable[[Value, Value], Value]] = {
    "add": _plain("add"),
    "mul": _plain("mul"),
    "max": _or_for_bool,
    "min": _and_for_bool,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
}


def reduce_lanes(x: Value, combine: Callable[[Value, Value], Value]) -> Value:
    """The tree l+8, l+4, l+2, l+1 over the lanes, its result in all lanes."""
    for width in (8, 4, 2, 1):
        low = x.shuffle(list(range(width)))
        high = x.shuffle(list(range(width, 2 * width)))
        x = combine(low, high)
    return splat_scalar(x.b, x.b.extract_element(x.ir, ir.Constant(I32, 0)), x.dtype)
