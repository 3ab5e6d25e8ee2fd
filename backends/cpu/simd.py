"""The vocabulary of generated CPU kernels: vectors of 16 lanes as Numba types, and intrinsics on them.

Every value in a generated kernel is a vector of exactly ``W = 16`` lanes whatever its dtype and whatever the machine
(an ``f32`` vector is one AVX-512 register or two AVX2 registers).  Reductions therefore have one fixed tree of 16 lanes
on every host, and none of Numba's rules for mixing scalars ever applies: the only scalars are ``int64`` (indices,
extents), ``float64`` literals, booleans of branches, and pointers.

A kernel is Python source that defines ``NAME(table, thread, threads)`` and is compiled by
:func:`graphc.backends.cpu.native.compile_kernel`.  A complete one, ``y = exp(x) * s`` with a ragged end::

    def scale_exp(table, thread, threads):
        x = pointer(table, 0)
        y = pointer(table, 1)
        n = word(table, 2)
        s = param(table, 3, f32)
        start, stop = share(n, 16, thread, threads)
        for i in range(start, stop - 15, 16):
            v1 = load(x, i, f32, 0)             # the last argument is the alias scope: one number per buffer
            v2 = exp(v1) * s
            store(y, i, v2, f32, 1)
        rest = stop - start & 15
        if rest > 0:
            i = stop - rest
            v1 = load_masked(x, i, f32, 0, rest)
            v2 = exp(v1) * s
            store_masked(y, i, v2, f32, 1, rest)
        return 0

The language is a small subset of Python: ``for name in range(...)``, ``while``, ``if``, ``break``, ``continue``, integer
arithmetic on ``int64``, calls of the functions below (positional arguments only), and ``return``.  A name keeps one
type throughout the function.  ``dtype`` and ``scope`` arguments, lane numbers and sizes of ``stack`` are written as
literals.  Anything else is a typing error that shows the line.

Types
    ``Vec`` of ``bool_ i8 i16 i32 i64 u8 u16 u32 u64 f32 f64``.  ``f16`` and ``bf16`` are storage: loads widen to
    ``f32``, stores round to nearest even, ``cast(x, f16)`` gives an ``f32`` vector rounded to ``f16`` precision.

Table, pointers, scratch
    ``pointer(table, k)``                       word k as a pointer
    ``word(table, k)``                          word k as int64
    ``param(table, k, dtype)``                  word k, bit-cast to a scalar of dtype, in all lanes (low bytes of the word)
    ``advance(p, i, dtype)``                    p + i elements
    ``stack(dtype, n)``                         scratch for n elements on the stack, 64-byte aligned, uninitialised
    ``share(n, grain, thread, threads)``        (start, stop) of this thread's contiguous share, in whole grains

Loads and stores (index and stride count elements)
    ``load(p, i, dtype, scope)``                             ``store(p, i, x, dtype, scope)``
    ``load_masked(p, i, dtype, scope, n)``                   ``store_masked(p, i, x, dtype, scope, n)``
    ``load_strided(p, i, stride, dtype, scope, n)``          ``store_strided(p, i, stride, x, dtype, scope, n)``
    ``gather(p, indices, dtype, scope, n)``                  ``scatter(p, indices, x, dtype, scope, n)``
    ``splat_load(p, i, dtype, scope)`` one element in every lane      ``store_first(p, i, x, dtype, scope)`` lane 0 alone
    ``store_stream(p, i, x, dtype, scope)`` past the cache; p + i must be 64-byte aligned
    Lanes >= n are neither read nor written; loads give 0 there.  ``scatter``: of equal indices the highest lane wins.
    ``scope`` is the alias scope: accesses of different scopes are promised to touch different bytes.  One number per
    buffer; an in-place pair shares one; -1 promises nothing.

Making vectors
    ``splat(scalar, dtype)``  ``lanes(start)`` (i64: start .. start+15)  ``lanes_of(start, dtype)``
    ``select(mask, a, b)``  ``cast(x, dtype)`` (NumPy's meaning)  ``bitcast(x, dtype)`` (equal widths)
    ``mask_tail(n)`` (lanes < n)  ``merge(x, identity, n)`` (lanes >= n become the scalar identity)

Operators on vectors
    ``+ - * /`` (``/`` for floats), ``// %`` (NumPy's, see vmath), unary ``-``, ``~``, ``& | ^ << >>`` (NumPy's), ``**``,
    ``== != < <= > >=``.  A scalar operand becomes a vector of the other operand's dtype: ``0.5 * x``.
    Float ``+ - *`` carry LLVM's flag ``contract`` and no other; ``fma(a, b, c)`` is always one rounding.

Across lanes (a fixed tree: lane l with l+8, then l+4, l+2, l+1; the result stands in all lanes)
    ``reduce_add  reduce_mul  reduce_max  reduce_min  reduce_and  reduce_or  reduce_xor`` (max and min: NaN wins)
    ``first_lane(x)`` -> scalar (int64, float64 or bool)   ``lane(x, k)`` -> scalar
    ``any_lane(mask)``  ``all_lanes(mask)`` -> bool for ``if``    ``count_lanes(mask)`` -> int64
    ``splat_lane(x, k)``  ``reverse_lanes(x)``  ``rotate_lanes(x, k)`` (lane l becomes lane l+k mod 16)

Scalars
    ``min(a, b)``, ``max(a, b)``, ``+ - * // % << >> & | ^ ~``, comparisons, ``not``, on int64 (``//`` and ``%`` floor).

Elementwise functions (``exp``, ``tanh``, ``maximum``, ...) live in :mod:`graphc.backends.cpu.vmath`.

Writing more intrinsics: decorate a function of Numba types with :func:`primitive`; it returns the result type and a
function that emits LLVM IR.  :class:`Value` gives vectors operators while emitting, :func:`outlined` makes an intrinsic
whose body is built once per process and inlined by LLVM.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import errors, types
from numba.core.datamodel import default_manager, models, register_default
from numba.core.typing import Signature, signature

W = 16  # lanes of every vector

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
F32, F64 = ir.FloatType(), ir.DoubleType()
POINTER = ir.PointerType()

Emit = Callable[..., ir.Value | None]


# ---------------------------------------------------------------------------------------------------------------------
# dtypes and Numba types


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
        return _INTS[self.bits]

    @property
    def lane(self) -> ir.Type:
        """LLVM type of one lane."""
        if self.kind == "b":
            return I1
        if self.kind == "f":
            return F64 if self is f64 else F32
        return _INTS[self.bits]

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


_INTS = {1: I1, 8: I8, 16: I16, 32: I32, 64: I64}
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


class VecType(types.Type):
    """Numba type of a vector of ``W`` lanes; ``bool``, integer or ``f32``/``f64`` lanes."""

    def __init__(self, dtype: DType) -> None:
        self.dtype = dtype
        super().__init__(f"Vec({dtype})")


class PointerType(types.Type):
    """Numba type of an address; indices of loads and stores count elements of the dtype given there."""

    def __init__(self) -> None:
        super().__init__("Pointer")


class DTypeToken(types.Type):
    """Numba type of a dtype that is written in kernel source; it has no value at run time."""

    def __init__(self, dtype: DType) -> None:
        self.dtype = dtype
        super().__init__(f"dtype({dtype})")


class RangeType(types.SimpleIteratorType):
    """Numba type of ``range(...)`` over int64 with a literal step, iterable and iterator in one.

    Its value is the address of two words, the next value and the limit.
    """

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(f"range(step={step})", types.int64)


_VEC_TYPES = {d: VecType(d) for d in DTYPES.values() if d.compute is d}
_TOKENS = {d: DTypeToken(d) for d in DTYPES.values()}
Pointer = PointerType()
_RANGES: dict[int, RangeType] = {}


def Vec(dtype: DType) -> VecType:
    """Numba type of the vector that holds ``dtype`` (``f32`` for ``f16`` and ``bf16``)."""
    return _VEC_TYPES[dtype.compute]


def range_type(step: int) -> RangeType:
    return _RANGES.setdefault(step, RangeType(step))


def token_type(dtype: DType) -> DTypeToken:
    return _TOKENS[dtype]


@register_default(VecType)
class _VecModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: VecType) -> None:
        super().__init__(manager, fe_type, fe_type.dtype.llvm)


@register_default(PointerType)
class _PointerModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: PointerType) -> None:
        super().__init__(manager, fe_type, POINTER)


@register_default(DTypeToken)
class _TokenModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: DTypeToken) -> None:
        super().__init__(manager, fe_type, I8)


@register_default(RangeType)
class _RangeModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: RangeType) -> None:
        super().__init__(manager, fe_type, POINTER)


def datamodel(type_: types.Type) -> Any:
    """Numba's description of how values of ``type_`` are represented."""
    return default_manager[type_]


# ---------------------------------------------------------------------------------------------------------------------
# primitives: functions of the vocabulary


class Primitive:
    """A function of the kernel language.

    ``rule(*types)`` gets the Numba types of the arguments and returns ``(result type, emit)``; ``emit(builder, *values)``
    writes LLVM IR and returns the result (None for nothing).  The rule raises :class:`TypingError` when the arguments
    do not fit.
    """

    def __init__(self, rule: Callable[..., tuple[types.Type, Emit]], name: str | None = None) -> None:
        self.rule = rule
        self.name = name or rule.__name__
        self.type = PrimitiveType(self)
        self.__doc__ = rule.__doc__
        self._resolved: dict[tuple[types.Type, ...], tuple[Signature, Emit]] = {}

    def resolve(self, args: tuple[types.Type, ...]) -> tuple[Signature, Emit]:
        """Signature and emitter for these argument types."""
        found = self._resolved.get(args)
        if found is None:
            try:
                inspect.signature(self.rule).bind(*args)
            except TypeError as e:
                raise errors.TypingError(f"{self.name}{inspect.signature(self.rule)}: {e}") from None
            result, emit = self.rule(*args)
            found = self._resolved[args] = (signature(result, *args), emit)
        return found

    def __call__(self, *args: Any) -> Any:
        raise TypeError(f"{self.name} is a function of generated kernels; compile it with native.compile_kernel")

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"


class PrimitiveType(types.Callable, types.Opaque):
    """Numba type of a :class:`Primitive`."""

    def __init__(self, primitive: Primitive) -> None:
        self.primitive = primitive
        super().__init__(f"primitive({primitive.name})")

    def get_call_type(self, context: Any, args: Sequence[types.Type], kws: Any) -> Signature:
        if kws:
            raise errors.TypingError(f"{self.primitive.name} takes positional arguments only")
        return self.primitive.resolve(tuple(args))[0]

    def get_call_signatures(self) -> tuple[list[Signature], bool]:
        return [], True

    def get_impl_key(self, sig: Signature) -> Any:
        return self.primitive


VOCABULARY: dict[str, Any] = {d.name: d for d in DTYPES.values() if d is not bool_} | {"bool_": bool_}
VOCABULARY |= {"inf": float("inf"), "nan": float("nan")}


def primitive(rule: Callable[..., tuple[types.Type, Emit]]) -> Primitive:
    """Decorator: make a typing rule a function of the vocabulary under its own name (see :class:`Primitive`)."""
    made = Primitive(rule, rule.__name__.rstrip("_"))
    VOCABULARY[made.name] = made
    return made


def typing_error(message: str) -> errors.TypingError:
    return errors.TypingError(message)


def dtype_of(token: types.Type) -> DType:
    """The dtype that an argument of kernel source names."""
    if not isinstance(token, DTypeToken):
        raise typing_error(f"a dtype such as f32 is needed, not {token}")
    return token.dtype


def literal_int(argument: types.Type) -> int:
    """The value of an integer literal in kernel source."""
    if not isinstance(argument, types.IntegerLiteral):
        raise typing_error(f"an integer literal is needed, not {argument}")
    return int(argument.literal_value)


def vec_dtype(argument: types.Type) -> DType:
    """The dtype of a vector argument."""
    if not isinstance(argument, VecType):
        raise typing_error(f"a vector is needed, not {argument}")
    return argument.dtype


def need(argument: types.Type, *, pointer: bool = False) -> None:
    """Raise unless ``argument`` is an int64 scalar, or a pointer."""
    if pointer and not isinstance(argument, PointerType):
        raise typing_error(f"a pointer is needed, not {argument}")
    if not pointer and not is_int(argument):
        raise typing_error(f"an int64 is needed, not {argument}")


def is_int(argument: types.Type) -> bool:
    return isinstance(types.unliteral(argument), types.Integer)


def is_scalar(argument: types.Type) -> bool:
    return isinstance(types.unliteral(argument), (types.Integer, types.Float, types.Boolean))


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

_COMPARE = {"==": "==", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


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
        function = intrinsic(self.b.module, f"llvm.{name}.{self.dtype.suffix}", self.dtype.llvm, [self.dtype.llvm] * len(args))
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
    raise typing_error(f"a float scalar cannot become {dtype}")


def operand(b: ir.IRBuilder, value: ir.Value, type_: types.Type, dtype: DType) -> Value:
    """A vector argument as a :class:`Value`, a scalar argument broadcast to ``dtype``."""
    return Value(b, dtype, value) if isinstance(type_, VecType) else broadcast(b, value, dtype)


def iota(b: ir.IRBuilder, dtype: DType) -> Value:
    """The constant vector 0, 1, ... W-1."""
    return Value(b, dtype, ir.Constant(dtype.llvm, [float(l) if dtype.kind == "f" else l for l in range(W)]))


def tail_mask(b: ir.IRBuilder, n: ir.Value) -> Value:
    """Lanes < n, for any int64 n."""
    if isinstance(n, ir.Constant):
        return Value(b, bool_, ir.Constant(bool_.llvm, [int(l < n.constant) for l in range(W)]))
    full = ir.Constant(I64, W)
    clamped = b.select(b.icmp_signed("<", n, full), n, full)
    count = splat_scalar(b, b.trunc(clamped, I32), i32)
    return iota(b, i32) < count


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
# pointers, parameters, work shares


def element(b: ir.IRBuilder, base: ir.Value, index: ir.Value, dtype: DType) -> ir.Value:
    """Address of element ``index`` of a buffer of ``dtype`` (an int64 address is accepted as base)."""
    if base.type == I64:
        base = b.inttoptr(base, POINTER)
    return b.gep(base, [index], source_etype=dtype.memory)


def _table_word(b: ir.IRBuilder, table: ir.Value, k: ir.Value, type_: ir.Type) -> ir.Value:
    loaded = b.load(b.gep(table, [k], source_etype=I64), typ=type_, align=8)
    loaded.set_metadata("invariant.load", b.module.add_metadata([]))
    return loaded


@primitive
def pointer(table: types.Type, k: types.Type) -> tuple[types.Type, Emit]:
    need(table, pointer=True)
    return Pointer, lambda b, table, k: _table_word(b, table, k, POINTER)


@primitive
def word(table: types.Type, k: types.Type) -> tuple[types.Type, Emit]:
    need(table, pointer=True)
    return types.int64, lambda b, table, k: _table_word(b, table, k, I64)


@primitive
def param(table: types.Type, k: types.Type, dtype: types.Type) -> tuple[types.Type, Emit]:
    need(table, pointer=True)
    d = dtype_of(dtype)

    def emit(b: ir.IRBuilder, table: ir.Value, k: ir.Value, _: Any) -> ir.Value:
        bits = _table_word(b, table, k, I64)
        scalar = bits if d.bits == 64 else b.trunc(bits, _INTS[d.bits])
        stored = u16 if d.bits == 16 and d.kind == "f" else d
        if stored.kind == "f":
            scalar = b.bitcast(scalar, d.lane)
        if stored is bool_:
            scalar = b.icmp_unsigned("!=", scalar, ir.Constant(I8, 0))
        return _from_memory(splat_scalar(b, scalar, stored), d).ir

    return Vec(d), emit


@primitive
def advance(p: types.Type, i: types.Type, dtype: types.Type) -> tuple[types.Type, Emit]:
    need(i)
    d = dtype_of(dtype)
    return Pointer, lambda b, p, i, _: element(b, p, i, d)


def stack_slot(b: ir.IRBuilder, type_: ir.Type, align: int | None = None, name: str = "") -> ir.Value:
    """Room for one ``type_`` in the frame, made at the function's entry; its address is an opaque pointer."""
    with b.goto_block(b.function.entry_basic_block):
        b.position_at_start(b.function.entry_basic_block)
        slot = b.alloca(type_, name=name)
    slot.type, slot.align = POINTER, align
    return slot


@primitive
def stack(dtype: types.Type, n: types.Type) -> tuple[types.Type, Emit]:
    d, size = dtype_of(dtype), literal_int(n)
    return Pointer, lambda b, *_: stack_slot(b, ir.ArrayType(d.memory, size), align=64)


@primitive
def share(n: types.Type, grain: types.Type, thread: types.Type, threads: types.Type) -> tuple[types.Type, Emit]:
    for argument in (n, grain, thread, threads):
        need(argument)

    def emit(b: ir.IRBuilder, n: ir.Value, grain: ir.Value, thread: ir.Value, threads: ir.Value) -> ir.Value:
        def ceil_div(x: ir.Value, y: ir.Value) -> ir.Value:
            return b.udiv(b.add(x, b.sub(y, ir.Constant(I64, 1))), y)

        def smaller(x: ir.Value, y: ir.Value) -> ir.Value:
            return b.select(b.icmp_signed("<", x, y), x, y)

        part = b.mul(ceil_div(ceil_div(n, grain), threads), grain)
        start = smaller(b.mul(part, thread), n)
        stop = smaller(b.add(start, part), n)
        return pack(b, [start, stop])

    return types.UniTuple(types.int64, 2), emit


def pack(b: ir.IRBuilder, items: Sequence[ir.Value]) -> ir.Value:
    """A homogeneous tuple of Numba from its items."""
    result: ir.Value = ir.Constant(ir.ArrayType(items[0].type, len(items)), ir.Undefined)
    for k, item in enumerate(items):
        result = b.insert_value(result, item, k)
    return result


# ---------------------------------------------------------------------------------------------------------------------
# loads and stores


def _stored(dtype: DType) -> DType:
    """The dtype of the lanes as they are in memory."""
    return {f16: u16, bf16: u16, bool_: u8}.get(dtype, dtype)


def _from_memory(x: Value, dtype: DType) -> Value:
    if dtype is bool_:
        return x if x.dtype is bool_ else x != 0
    return widen(x, dtype) if dtype in (f16, bf16) else x


def to_memory(x: Value, dtype: DType) -> Value:
    """Lanes as they are stored in a buffer of ``dtype``; the conversion of the value itself is the caller's."""
    if dtype in (f16, bf16):
        return narrow(x, dtype)
    if x.dtype is not dtype:
        raise typing_error(f"cannot store {x.dtype} lanes as {dtype}: cast first")
    return convert(x, u8) if dtype is bool_ else x


def _check_access(p: types.Type, i: types.Type) -> None:
    if not (isinstance(p, PointerType) or is_int(p)):
        raise typing_error(f"a pointer is needed, not {p}")
    need(i)


def _store_dtype(x: types.Type, dtype: types.Type) -> DType:
    d, have = dtype_of(dtype), vec_dtype(x)
    if d.compute is not have and not (d in (f16, bf16) and have is f64):
        raise typing_error(f"cannot store {have} lanes as {d}: cast first")
    return d


@primitive
def load(p: types.Type, i: types.Type, dtype: types.Type, scope: types.Type) -> tuple[types.Type, Emit]:
    _check_access(p, i)
    d, s = dtype_of(dtype), literal_int(scope)
    memory = _stored(d)

    def emit(b: ir.IRBuilder, p: ir.Value, i: ir.Value, *_: ir.Value) -> ir.Value:
        loaded = b.load(element(b, p, i, d), typ=memory.llvm, align=d.itemsize)
        b.module.scoped(loaded, s)
        return _from_memory(Value(b, memory, loaded), d).ir

    return Vec(d), emit


@primitive
def store(
    p: types.Type, i: types.Type, x: types.Type, dtype: types.Type, scope: types.Type
) -> tuple[types.Type, Emit]:
    _check_access(p, i)
    d, s = _store_dtype(x, dtype), literal_int(scope)

    def emit(b: ir.IRBuilder, p: ir.Value, i: ir.Value, x: ir.Value, *_: ir.Value) -> None:
        value = to_memory(Value(b, vec_dtype(x_type), x), d)
        b.module.scoped(b.store(value.ir, element(b, p, i, d), align=d.itemsize), s)

    x_type = x
    return types.void, emit


@primitive
def store_stream(
    p: types.Type, i: types.Type, x: types.Type, dtype: types.Type, scope: types.Type
) -> tuple[types.Type, Emit]:
    _check_access(p, i)
    d, s, have = _store_dtype(x, dtype), literal_int(scope), vec_dtype(x)

    def emit(b: ir.IRBuilder, p: ir.Value, i: ir.Value, x: ir.Value, *_: ir.Value) -> None:
        stored = b.store(to_memory(Value(b, have, x), d).ir, element(b, p, i, d), align=min(64, W * d.itemsize))
        stored.set_metadata("nontemporal", b.module.add_metadata([ir.Constant(I32, 1)]))
        b.module.scoped(stored, s)

    return types.void, emit


@primitive
def load_masked(
    p: types.Type, i: types.Type, dtype: types.Type, scope: types.Type, n: types.Type
) -> tuple[types.Type, Emit]:
    _check_access(p, i)
    need(n)
    d, s = dtype_of(dtype), literal_int(scope)
    memory = _stored(d)

    def emit(b: ir.IRBuilder, p: ir.Value, i: ir.Value, _: Any, __: Any, n: ir.Value) -> ir.Value:
        function = intrinsic(
            b.module, f"llvm.masked.load.{memory.suffix}.p0", memory.llvm, [POINTER, I32, bool_.llvm, memory.llvm]
        )
        zero = ir.Constant(memory.llvm, None)
        align = ir.Constant(I32, d.itemsize)
        loaded = b.call(function, [element(b, p, i, d), align, tail_mask(b, n).ir, zero])
        b.module.scoped(loaded, s)
        return _from_memory(Value(b, memory, loaded), d).ir

    return Vec(d), emit


@primitive
def store_masked(
    p: types.Type, i: types.Type, x: types.Type, dtype: types.Type, scope: types.Type, n: types.Type
) -> tuple[types.Type, Emit]:
    _check_access(p, i)
    need(n)
    d, s, have = _store_dtype(x, dtype), literal_int(scope), vec_dtype(x)
    memory = _stored(d)

    def emit(b: ir.IRBuilder, p: ir.Value, i: ir.Value, x: ir.Value, _: Any, __: Any, n: ir.Value) -> None:
        function = intrinsic(
            b.module, f"llvm.masked.store.{memory.suffix}.p0", ir.VoidType(), [memory.llvm, POINTER, I32, bool_.llvm]
        )
        value = to_memory(Value(b, have, x), d)
        align = ir.Constant(I32, d.itemsize)
        b.module.scoped(b.call(function, [value.ir, element(b, p, i, d), align, tail_mask(b, n).ir]), s)

    return types.void, emit


def _addresses(b: ir.IRBuilder, p: ir.Value, indices: ir.Value, dtype: DType) -> ir.Value:
    if p.type == I64:
        p = b.inttoptr(p, POINTER)
    return _VectorGEP(b, p, indices, dtype)


def _VectorGEP(b: ir.IRBuilder, p: ir.Value, indices: ir.Value, dtype: DType) -> ir.Value:
    gep = b.gep(p, [indices], source_etype=dtype.memory)
    gep.type = vector_type(POINTER)  # llvmlite takes the base's type for the result's
    return gep


def _masked_gather(b: ir.IRBuilder, addresses: ir.Value, d: DType, s: int, n: ir.Value) -> ir.Value:
    memory = _stored(d)
    function = intrinsic(
        b.module,
        f"llvm.masked.gather.{memory.suffix}.v{W}p0",
        memory.llvm,
        [vector_type(POINTER), I32, bool_.llvm, memory.llvm],
    )
    args = [addresses, ir.Constant(I32, d.itemsize), tail_mask(b, n).ir, ir.Constant(memory.llvm, None)]
    loaded = b.call(function, args)
    b.module.scoped(loaded, s)
    return _from_memory(Value(b, memory, loaded), d).ir


def _masked_scatter(b: ir.IRBuilder, addresses: ir.Value, x: Value, d: DType, s: int, n: ir.Value) -> None:
    memory = _stored(d)
    function = intrinsic(
        b.module,
        f"llvm.masked.scatter.{memory.suffix}.v{W}p0",
        ir.VoidType(),
        [memory.llvm, vector_type(POINTER), I32, bool_.llvm],
    )
    args = [to_memory(x, d).ir, addresses, ir.Constant(I32, d.itemsize), tail_mask(b, n).ir]
    b.module.scoped(b.call(function, args), s)


def _strided_indices(b: ir.IRBuilder, stride: ir.Value) -> ir.Value:
    return (iota(b, i64) * splat_scalar(b, stride, i64)).ir


@primitive
def load_strided(
    p: types.Type, i: types.Type, stride: types.Type, dtype: types.Type, scope: types.Type, n: types.Type
) -> tuple[types.Type, Emit]:
    _check_access(p, i)
    need(stride)
    need(n)
    d, s = dtype_of(dtype), literal_int(scope)

    def emit(b: ir.IRBuilder, p: ir.Value, i: ir.Value, stride: ir.Value, _: Any, __: Any, n: ir.Value) -> ir.Value:
        return _masked_gather(b, _addresses(b, element(b, p, i, d), _strided_indices(b, stride), d), d, s, n)

    return Vec(d), emit


@primitive
def store_strided(
    p: types.Type, i: types.Type, stride: types.Type, x: types.Type, dtype: types.Type, scope: types.Type, n: types.Type
) -> tuple[types.Type, Emit]:
    _check_access(p, i)
    need(stride)
    need(n)
    d, s, have = _store_dtype(x, dtype), literal_int(scope), vec_dtype(x)

    def emit(
        b: ir.IRBuilder, p: ir.Value, i: ir.Value, stride: ir.Value, x: ir.Value, _: Any, __: Any, n: ir.Value
    ) -> None:
        addresses = _addresses(b, element(b, p, i, d), _strided_indices(b, stride), d)
        _masked_scatter(b, addresses, Value(b, have, x), d, s, n)

    return types.void, emit


def _index_vector(indices: types.Type) -> DType:
    d = vec_dtype(indices)
    if d.kind not in "iu":
        raise typing_error(f"integer indices are needed, not {d}")
    return d


@primitive
def gather(
    p: types.Type, indices: types.Type, dtype: types.Type, scope: types.Type, n: types.Type
) -> tuple[types.Type, Emit]:
    need(n)
    d, s, index = dtype_of(dtype), literal_int(scope), _index_vector(indices)

    def emit(b: ir.IRBuilder, p: ir.Value, indices: ir.Value, _: Any, __: Any, n: ir.Value) -> ir.Value:
        wide = convert(Value(b, index, indices), i64)
        return _masked_gather(b, _addresses(b, p, wide.ir, d), d, s, n)

    return Vec(d), emit


@primitive
def scatter(
    p: types.Type, indices: types.Type, x: types.Type, dtype: types.Type, scope: types.Type, n: types.Type
) -> tuple[types.Type, Emit]:
    need(n)
    d, s, have, index = _store_dtype(x, dtype), literal_int(scope), vec_dtype(x), _index_vector(indices)

    def emit(b: ir.IRBuilder, p: ir.Value, indices: ir.Value, x: ir.Value, _: Any, __: Any, n: ir.Value) -> None:
        wide = convert(Value(b, index, indices), i64)
        _masked_scatter(b, _addresses(b, p, wide.ir, d), Value(b, have, x), d, s, n)

    return types.void, emit


@primitive
def splat_load(p: types.Type, i: types.Type, dtype: types.Type, scope: types.Type) -> tuple[types.Type, Emit]:
    _check_access(p, i)
    d, s = dtype_of(dtype), literal_int(scope)
    memory = _stored(d)

    def emit(b: ir.IRBuilder, p: ir.Value, i: ir.Value, *_: ir.Value) -> ir.Value:
        loaded = b.load(element(b, p, i, d), typ=memory.lane, align=d.itemsize)
        b.module.scoped(loaded, s)
        return _from_memory(splat_scalar(b, loaded, memory), d).ir

    return Vec(d), emit


@primitive
def store_first(
    p: types.Type, i: types.Type, x: types.Type, dtype: types.Type, scope: types.Type
) -> tuple[types.Type, Emit]:
    _check_access(p, i)
    d, s, have = _store_dtype(x, dtype), literal_int(scope), vec_dtype(x)

    def emit(b: ir.IRBuilder, p: ir.Value, i: ir.Value, x: ir.Value, *_: ir.Value) -> None:
        value = to_memory(Value(b, have, x), d)
        first = b.extract_element(value.ir, ir.Constant(I32, 0))
        b.module.scoped(b.store(first, element(b, p, i, d), align=d.itemsize), s)

    return types.void, emit


# ---------------------------------------------------------------------------------------------------------------------
# making vectors


@primitive
def splat(scalar: types.Type, dtype: types.Type) -> tuple[types.Type, Emit]:
    d = dtype_of(dtype)
    if not is_scalar(scalar):
        raise typing_error(f"splat needs a scalar, not {scalar}")

    def emit(b: ir.IRBuilder, scalar: ir.Value, _: ir.Value) -> ir.Value:
        made = broadcast(b, scalar, d.compute)
        return (convert(made, d) if d in (f16, bf16) else made).ir

    return Vec(d), emit


@primitive
def lanes(start: types.Type) -> tuple[types.Type, Emit]:
    need(start)
    return Vec(i64), lambda b, start: (iota(b, i64) + broadcast(b, start, i64)).ir


@primitive
def lanes_of(start: types.Type, dtype: types.Type) -> tuple[types.Type, Emit]:
    need(start)
    d = dtype_of(dtype)

    def emit(b: ir.IRBuilder, start: ir.Value, _: ir.Value) -> ir.Value:
        if d.kind == "f":
            return convert(iota(b, i64) + broadcast(b, start, i64), d).ir
        return (iota(b, d) + broadcast(b, start, d)).ir

    return Vec(d), emit


def result_dtype(*args: types.Type) -> DType:
    """The one dtype of the vectors among the arguments of an operator."""
    found = {a.dtype for a in args if isinstance(a, VecType)}
    if len(found) != 1 or not all(isinstance(a, VecType) or is_scalar(a) for a in args):
        raise typing_error(f"vectors of one dtype (or scalars beside one) are needed, not {', '.join(map(str, args))}")
    (dtype,) = found
    if dtype.kind in "iu" and any(isinstance(types.unliteral(a), types.Float) for a in args):
        raise typing_error(f"a float scalar beside {dtype} lanes: cast first")
    return dtype


@primitive
def select(mask: types.Type, a: types.Type, b: types.Type) -> tuple[types.Type, Emit]:
    if vec_dtype(mask) is not bool_:
        raise typing_error(f"the mask must be a bool vector, not {mask}")
    d = result_dtype(a, b)
    a_type, b_type = a, b

    def emit(builder: ir.IRBuilder, mask: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
        return builder.select(mask, operand(builder, a, a_type, d).ir, operand(builder, b, b_type, d).ir)

    return Vec(d), emit


@primitive
def cast(x: types.Type, dtype: types.Type) -> tuple[types.Type, Emit]:
    have, d = vec_dtype(x), dtype_of(dtype)
    return Vec(d), lambda b, x, _: convert(Value(b, have, x), d).ir


@primitive
def bitcast(x: types.Type, dtype: types.Type) -> tuple[types.Type, Emit]:
    have, d = vec_dtype(x), dtype_of(dtype)
    if d in (f16, bf16) or "b" in (d.kind, have.kind) or have.bits != d.bits:
        raise typing_error(f"cannot bitcast {have} lanes to {d}")
    return Vec(d), lambda b, x, _: Value(b, have, x).bitcast(d).ir


@primitive
def mask_tail(n: types.Type) -> tuple[types.Type, Emit]:
    need(n)
    return Vec(bool_), lambda b, n: tail_mask(b, n).ir


@primitive
def merge(x: types.Type, identity: types.Type, n: types.Type) -> tuple[types.Type, Emit]:
    need(n)
    d, identity_type = result_dtype(x, identity), identity

    def emit(b: ir.IRBuilder, x: ir.Value, identity: ir.Value, n: ir.Value) -> ir.Value:
        return tail_mask(b, n).where(Value(b, d, x), operand(b, identity, identity_type, d)).ir

    return Vec(d), emit


# ---------------------------------------------------------------------------------------------------------------------
# across lanes


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


_COMBINE: dict[str, Callable[[Value, Value], Value]] = {
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


def _reduction(name: str) -> Primitive:
    combine = _COMBINE[name]

    def rule(x: types.Type) -> tuple[types.Type, Emit]:
        d = vec_dtype(x)
        if (name in ("add", "mul") and d is bool_) or (name in ("and", "or", "xor") and d.kind == "f"):
            raise typing_error(f"reduce_{name} of {d} lanes")
        return Vec(d), lambda b, x: call_outlined(f"reduce_{name}", d, lambda v: reduce_lanes(v, combine), Value(b, d, x)).ir

    rule.__name__ = f"reduce_{name}"
    return primitive(rule)


for _name in _COMBINE:
    _reduction(_name)


def scalar_type(dtype: DType) -> types.Type:
    """Numba type of one lane taken out of a vector."""
    return {"b": types.boolean, "f": types.float64}.get(dtype.kind, types.int64)


def _extract(x: Value, k: int) -> ir.Value:
    d = x.dtype
    one = x.b.extract_element(x.ir, ir.Constant(I32, k))
    if d.kind == "f" and d is not f64:
        return x.b.fpext(one, F64)
    if d.kind in "iu" and d.bits < 64:
        return (x.b.sext if d.kind == "i" else x.b.zext)(one, I64)
    return one


@primitive
def first_lane(x: types.Type) -> tuple[types.Type, Emit]:
    d = vec_dtype(x)
    return scalar_type(d), lambda b, x: _extract(Value(b, d, x), 0)


@primitive
def lane(x: types.Type, k: types.Type) -> tuple[types.Type, Emit]:
    d, position = vec_dtype(x), literal_int(k)
    return scalar_type(d), lambda b, x, _: _extract(Value(b, d, x), position)


@primitive
def splat_lane(x: types.Type, k: types.Type) -> tuple[types.Type, Emit]:
    d, position = vec_dtype(x), literal_int(k)
    return Vec(d), lambda b, x, _: Value(b, d, x).shuffle([position] * W).ir


@primitive
def reverse_lanes(x: types.Type) -> tuple[types.Type, Emit]:
    d = vec_dtype(x)
    return Vec(d), lambda b, x: Value(b, d, x).shuffle(list(reversed(range(W)))).ir


@primitive
def rotate_lanes(x: types.Type, k: types.Type) -> tuple[types.Type, Emit]:
    d, shift = vec_dtype(x), literal_int(k)
    return Vec(d), lambda b, x, _: Value(b, d, x).shuffle([(l + shift) % W for l in range(W)]).ir


def _mask_bits(b: ir.IRBuilder, mask: ir.Value) -> ir.Value:
    return b.bitcast(mask, I16)


def _mask_type(mask: types.Type) -> None:
    if vec_dtype(mask) is not bool_:
        raise typing_error(f"a bool vector is needed, not {mask}")


@primitive
def any_lane(mask: types.Type) -> tuple[types.Type, Emit]:
    _mask_type(mask)
    return types.boolean, lambda b, mask: b.icmp_unsigned("!=", _mask_bits(b, mask), ir.Constant(I16, 0))


@primitive
def all_lanes(mask: types.Type) -> tuple[types.Type, Emit]:
    _mask_type(mask)
    return types.boolean, lambda b, mask: b.icmp_unsigned("==", _mask_bits(b, mask), ir.Constant(I16, -1))


@primitive
def count_lanes(mask: types.Type) -> tuple[types.Type, Emit]:
    _mask_type(mask)
    return types.int64, lambda b, mask: b.zext(b.ctpop(_mask_bits(b, mask)), I64)


# ---------------------------------------------------------------------------------------------------------------------
# operators

OPERATORS: dict[Any, Primitive] = {}  # Python operator or builtin -> primitive


def _operator(*keys: Any) -> Callable[[Callable[..., tuple[types.Type, Emit]]], Primitive]:
    def register(rule: Callable[..., tuple[types.Type, Emit]]) -> Primitive:
        made = Primitive(rule, rule.__name__.rstrip("_"))
        OPERATORS.update({key: made for key in keys})
        return made

    return register


def scalar_pair(x: types.Type, y: types.Type) -> types.Type:
    """The type at which two scalars meet: int64, or float64 if one is a float."""
    if not (is_scalar(x) and is_scalar(y)):
        raise typing_error(f"unsupported operands {x} and {y}")
    kinds = types.unliteral(x), types.unliteral(y)
    if any(isinstance(k, types.Float) for k in kinds):
        return types.float64
    return types.boolean if all(isinstance(k, types.Boolean) for k in kinds) else types.int64


def scalar_to(b: ir.IRBuilder, value: ir.Value, type_: types.Type) -> ir.Value:
    """A scalar widened to ``type_``: bool to int64 to float64."""
    if value.type == I1 and type_ == types.int64:
        return b.zext(value, I64)
    if value.type == I1 and type_ == types.float64:
        return b.uitofp(value, F64)
    if value.type == I64 and type_ == types.float64:
        if isinstance(value, ir.Constant) and value.constant is not None:
            return ir.Constant(F64, float(value.constant))
        return b.sitofp(value, F64)
    return value


ScalarEmit = Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value]


def _binary(
    keys: Sequence[Any],
    vector: Callable[[Value, Value], Value],
    integer: ScalarEmit,
    real: ScalarEmit | None = None,
    compare: bool = False,
    kinds: str = "iuf",
) -> None:
    """Register a binary operator on scalars (int64, and float64 where ``real`` is given) and on vectors."""

    def rule(x: types.Type, y: types.Type) -> tuple[types.Type, Emit]:
        if isinstance(x, VecType) or isinstance(y, VecType):
            d = result_dtype(x, y)
            if d.kind not in kinds:
                raise typing_error(f"{name} of {d} lanes")

            def emit(b: ir.IRBuilder, u: ir.Value, v: ir.Value) -> ir.Value:
                return vector(operand(b, u, x, d), operand(b, v, y, d)).ir

            return Vec(bool_ if compare else d), emit
        meet = scalar_pair(x, y)
        if meet == types.boolean and not (compare or "b" in kinds):
            meet = types.int64
        if meet == types.float64 and real is None:
            raise typing_error(f"{name} of {x} and {y}")
        chosen = real if meet == types.float64 else integer
        assert chosen is not None
        scalar = chosen
        return (
            types.boolean if compare else meet,
            lambda b, u, v: scalar(b, scalar_to(b, u, meet), scalar_to(b, v, meet)),
        )

    name = rule.__name__ = keys[0].__name__
    made = Primitive(rule, name)
    OPERATORS.update({key: made for key in keys})


def floor_div_scalar(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """``x // y`` of int64; 0 where y is 0."""
    quotient, remainder, wrong = _floor_parts(b, x, y)
    return b.select(wrong, b.sub(quotient, ir.Constant(I64, 1)), quotient)


def floor_mod_scalar(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """``x % y`` of int64 with the sign of y; x where y is 0."""
    quotient, remainder, wrong = _floor_parts(b, x, y)
    return b.select(wrong, b.add(remainder, y), remainder)


def _floor_parts(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    zero = ir.Constant(I64, 0)
    if not (isinstance(y, ir.Constant) and y.constant):
        y = b.select(b.icmp_signed("==", y, zero), ir.Constant(I64, 2**63 - 1), y)
    quotient, remainder = b.sdiv(x, y), b.srem(x, y)
    differ = b.icmp_signed("<", b.xor(remainder, y), zero)
    return quotient, remainder, b.and_(differ, b.icmp_signed("!=", remainder, zero))


def _vocabulary_call(name: str) -> Callable[[Value, Value], Value]:
    """A vector operator whose meaning is a function that a later module defines."""
    return lambda x, y: VALUE_FUNCTIONS[name](x, y)


VALUE_FUNCTIONS: dict[str, Callable[..., Value]] = {}  # filled by vmath: floor_divide, remainder, power, shifts

_binary([operator.add, operator.iadd], operator.add, ir.IRBuilder.add, ir.IRBuilder.fadd)
_binary([operator.sub, operator.isub], operator.sub, ir.IRBuilder.sub, ir.IRBuilder.fsub)
_binary([operator.mul, operator.imul], operator.mul, ir.IRBuilder.mul, ir.IRBuilder.fmul)
_binary([operator.floordiv, operator.ifloordiv], _vocabulary_call("floor_divide"), floor_div_scalar)
_binary([operator.mod, operator.imod], _vocabulary_call("remainder"), floor_mod_scalar)
_binary([operator.and_, operator.iand], operator.and_, ir.IRBuilder.and_, kinds="biu")
_binary([operator.or_, operator.ior], operator.or_, ir.IRBuilder.or_, kinds="biu")
_binary([operator.xor, operator.ixor], operator.xor, ir.IRBuilder.xor, kinds="biu")
_binary([operator.lshift, operator.ilshift], _vocabulary_call("left_shift"), ir.IRBuilder.shl, kinds="iu")
_binary([operator.rshift, operator.irshift], _vocabulary_call("right_shift"), ir.IRBuilder.ashr, kinds="iu")


def _ordering(key: Any, op: str) -> None:
    def real(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
        return b.fcmp_unordered(op, x, y) if op == "!=" else b.fcmp_ordered(op, x, y)

    _binary(
        [key],
        lambda x, y: x.compare(op, y),
        lambda b, x, y: b.icmp_signed(op, x, y),
        real,
        compare=True,
        kinds="biuf",
    )


for _key, _op in (
    (operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">="), (operator.eq, "=="),
    (operator.ne, "!="),
):  # fmt: skip
    _ordering(_key, _op)


@_operator(operator.truediv, operator.itruediv)
def truediv(x: types.Type, y: types.Type) -> tuple[types.Type, Emit]:
    if not (isinstance(x, VecType) or isinstance(y, VecType)):
        if scalar_pair(x, y) is None:
            raise typing_error(f"unsupported operands {x} and {y}")
        real = types.float64
        return real, lambda b, u, v: b.fdiv(scalar_to(b, u, real), scalar_to(b, v, real))
    d = result_dtype(x, y)
    if d.kind != "f":
        raise typing_error(f"/ of {d} lanes: cast to a float first")
    return Vec(d), lambda b, u, v: (operand(b, u, x, d) / operand(b, v, y, d)).ir


@_operator(operator.pow, operator.ipow)
def pow_(x: types.Type, y: types.Type) -> tuple[types.Type, Emit]:
    d = result_dtype(x, y)
    return Vec(d), lambda b, u, v: VALUE_FUNCTIONS["power"](operand(b, u, x, d), operand(b, v, y, d)).ir


@_operator(operator.neg)
def neg(x: types.Type) -> tuple[types.Type, Emit]:
    if isinstance(x, VecType):
        d = x.dtype
        return x, lambda b, u: (-Value(b, d, u)).ir
    if not is_scalar(x):
        raise typing_error(f"unsupported operand {x}")
    if isinstance(types.unliteral(x), types.Float):

        def emit(b: ir.IRBuilder, u: ir.Value) -> ir.Value:
            return ir.Constant(F64, -u.constant) if isinstance(u, ir.Constant) else b.fneg(u)

        return types.float64, emit
    return types.int64, lambda b, u: b.neg(scalar_to(b, u, types.int64))


@_operator(operator.pos)
def pos(x: types.Type) -> tuple[types.Type, Emit]:
    return x, lambda b, u: u


@_operator(operator.invert)
def invert(x: types.Type) -> tuple[types.Type, Emit]:
    if isinstance(x, VecType) and x.dtype.kind != "f":
        return x, lambda b, u: b.not_(u)
    need(x)
    return types.int64, lambda b, u: b.not_(u)


@_operator(operator.not_)
def not_(x: types.Type) -> tuple[types.Type, Emit]:
    as_bool = bool_rule(x)[1]
    return types.boolean, lambda b, u: b.not_(as_bool(b, u))


def bool_rule(x: types.Type) -> tuple[types.Type, Emit]:
    """The condition of an ``if``: a bool, or an int64 that is not 0."""
    if isinstance(types.unliteral(x), types.Boolean):
        return types.boolean, lambda b, u: u
    if not is_int(x):
        raise typing_error(f"{x} is no condition; use any_lane or all_lanes for vectors")
    return types.boolean, lambda b, u: b.icmp_signed("!=", u, ir.Constant(I64, 0))


OPERATORS[bool] = Primitive(bool_rule, "bool")


def _extremum(key: Any, op: str) -> None:
    def rule(x: types.Type, y: types.Type) -> tuple[types.Type, Emit]:
        need(x)
        need(y)
        return types.int64, lambda b, u, v: b.select(b.icmp_signed(op, v, u), v, u)

    rule.__name__ = key.__name__
    OPERATORS[key] = Primitive(rule)


_extremum(min, "<")
_extremum(max, ">")


# ---------------------------------------------------------------------------------------------------------------------
# range


@_operator(range)
def range_(start: types.Type, stop: types.Type | None = None, step: types.Type | None = None) -> tuple[types.Type, Emit]:
    for argument in (start, stop):
        if argument is not None:
            need(argument)
    stride = 1 if step is None else literal_int(step)
    if stride == 0:
        raise typing_error("the step of a range must not be 0")

    def emit(b: ir.IRBuilder, first: ir.Value, limit: ir.Value | None = None, _: Any = None) -> ir.Value:
        state = stack_slot(b, ir.ArrayType(I64, 2))
        first, limit = (ir.Constant(I64, 0), first) if limit is None else (first, limit)
        b.store(first, state)
        b.store(limit, b.gep(state, [ir.Constant(I64, 1)], source_etype=I64))
        return state

    return range_type(stride), emit


def iternext(state: RangeType) -> tuple[types.Type, Emit]:
    """Advance a range: the pair (value, whether there is one)."""
    stride = state.step

    def emit(b: ir.IRBuilder, state: ir.Value) -> ir.Value:
        value = b.load(state, typ=I64)
        limit = b.load(b.gep(state, [ir.Constant(I64, 1)], source_etype=I64), typ=I64)
        b.store(b.add(value, ir.Constant(I64, stride)), state)
        valid = b.icmp_signed("<" if stride > 0 else ">", value, limit)
        pair: ir.Value = ir.Constant(ir.LiteralStructType([I64, I1]), ir.Undefined)
        return b.insert_value(b.insert_value(pair, value, 0), valid, 1)

    return types.Pair(types.int64, types.boolean), emit


def static_getitem(items: types.BaseTuple, index: int) -> tuple[types.Type, Emit]:
    """``items[index]`` of a tuple, as unpacking writes it."""
    return items[index], lambda b, items, _: b.extract_value(items, index)


def static_getitem_signature(items: types.Type, index: Any) -> Signature:
    if not isinstance(items, types.BaseTuple) or not isinstance(index, int):
        raise typing_error(f"{items} cannot be indexed; use load and store")
    return signature(items[index], items, types.literal(index))


OPERATORS["getiter"] = Primitive(lambda state: (state, lambda b, s: s), "getiter")
OPERATORS["iternext"] = Primitive(iternext, "iternext")
