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
    Float ``+ - *`` carry LLVM's flag ``contract`` and no other; ``fma(a, b, c)`` rounds once on hosts with FMA.

Across lanes (a fixed tree: lane l with l+8, then l+4, l+2, l+1; the result stands in all lanes)
    ``reduce_add  reduce_mul  reduce_max  reduce_min  reduce_and  reduce_or  reduce_xor`` (max and min: NaN wins)
    ``first_lane(x)`` -> scalar (int64, float64 or bool)   ``lane(x, k)`` -> scalar
    ``any_lane(mask)``  ``all_lanes(mask)`` -> bool for ``if``    ``count_lanes(mask)`` -> int64
    ``splat_lane(x, k)``  ``reverse_lanes(x)``  ``rotate_lanes(x, k)`` (lane l becomes lane l+k mod 16)

Scalars
    ``min(a, b)``, ``max(a, b)``, ``+ - * // % << >> & | ^ ~``, comparisons, ``not``, on int64 (``//`` and ``%`` floor).

Elementwise functions (``exp``, ``tanh``, ``maximum``, ...) and random bits (``threefry2x32``) live in
:mod:`graphc.backends.cpu.vmath`, the operators in :mod:`graphc.backends.cpu.operators`.

Writing more intrinsics: decorate a function of Numba types with :func:`primitive`; it returns the result type and a
function that emits LLVM IR.  :class:`~graphc.backends.cpu.lanes.Value` gives vectors operators while emitting,
:func:`~graphc.backends.cpu.lanes.call_outlined` keeps a large body out of the kernel until LLVM inlines it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import errors, types
from numba.core.datamodel import default_manager, models, register_default
from numba.core.typing import Signature, signature

from graphc.backends.cpu.lanes import (  # noqa: F401  (what writers of primitives need beside)
    COMBINE,
    DTYPES,
    F32,
    F64,
    I1,
    I8,
    I16,
    I32,
    I64,
    INTS,
    POINTER,
    DType,
    KernelModule,
    Value,
    W,
    bf16,
    bool_,
    broadcast,
    call_outlined,
    call_outlined_pair,
    convert,
    element,
    f16,
    f32,
    f64,
    from_memory,
    has_fma,
    i8,
    i16,
    i32,
    i64,
    intrinsic,
    iota,
    maximum_value,
    minimum_value,
    narrow,
    pack,
    reduce_lanes,
    scalar_constant,
    splat_constant,
    splat_scalar,
    stack_slot,
    stored_dtype,
    tail_mask,
    to_memory,
    u8,
    u16,
    u32,
    u64,
    vector_type,
    widen,
)

Emit = Callable[..., ir.Value | None]


# ---------------------------------------------------------------------------------------------------------------------
# Numba types


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
# operands of primitives


def operand(b: ir.IRBuilder, value: ir.Value, type_: types.Type, dtype: DType) -> Value:
    """A vector argument as a :class:`Value`, a scalar argument broadcast to ``dtype``."""
    return Value(b, dtype, value) if isinstance(type_, VecType) else broadcast(b, value, dtype)


# ---------------------------------------------------------------------------------------------------------------------
# pointers, parameters, work shares


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
        scalar = bits if d.bits == 64 else b.trunc(bits, INTS[d.bits])
        stored = u16 if d.bits == 16 and d.kind == "f" else d
        if stored.kind == "f":
            scalar = b.bitcast(scalar, d.lane)
        if stored is bool_:
            scalar = b.icmp_unsigned("!=", scalar, ir.Constant(I8, 0))
        return from_memory(splat_scalar(b, scalar, stored), d).ir

    return Vec(d), emit


@primitive
def advance(p: types.Type, i: types.Type, dtype: types.Type) -> tuple[types.Type, Emit]:
    need(i)
    d = dtype_of(dtype)
    return Pointer, lambda b, p, i, _: element(b, p, i, d)


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


# ---------------------------------------------------------------------------------------------------------------------
# loads and stores


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
    memory = stored_dtype(d)

    def emit(b: ir.IRBuilder, p: ir.Value, i: ir.Value, *_: ir.Value) -> ir.Value:
        loaded = b.load(element(b, p, i, d), typ=memory.llvm, align=d.itemsize)
        b.module.scoped(loaded, s)
        return from_memory(Value(b, memory, loaded), d).ir

    return Vec(d), emit


@primitive
def store(p: types.Type, i: types.Type, x: types.Type, dtype: types.Type, scope: types.Type) -> tuple[types.Type, Emit]:
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
    memory = stored_dtype(d)

    def emit(b: ir.IRBuilder, p: ir.Value, i: ir.Value, _: Any, __: Any, n: ir.Value) -> ir.Value:
        function = intrinsic(
            b.module, f"llvm.masked.load.{memory.suffix}.p0", memory.llvm, [POINTER, I32, bool_.llvm, memory.llvm]
        )
        zero = ir.Constant(memory.llvm, None)
        align = ir.Constant(I32, d.itemsize)
        loaded = b.call(function, [element(b, p, i, d), align, tail_mask(b, n).ir, zero])
        b.module.scoped(loaded, s)
        return from_memory(Value(b, memory, loaded), d).ir

    return Vec(d), emit


@primitive
def store_masked(
    p: types.Type, i: types.Type, x: types.Type, dtype: types.Type, scope: types.Type, n: types.Type
) -> tuple[types.Type, Emit]:
    _check_access(p, i)
    need(n)
    d, s, have = _store_dtype(x, dtype), literal_int(scope), vec_dtype(x)
    memory = stored_dtype(d)

    def emit(b: ir.IRBuilder, p: ir.Value, i: ir.Value, x: ir.Value, _: Any, __: Any, n: ir.Value) -> None:
        value = to_memory(Value(b, have, x), d)
        if isinstance(n, ir.Constant) and n.constant == 1:
            # Of a store under the constant mask 1, 0, 0 … of lanes that were truncated, LLVM 22 for AVX-512 makes a
            # store of the whole lane before truncation: it overwrites the elements that follow.
            return _store_lane(b, p, i, value, d, s)
        function = intrinsic(
            b.module, f"llvm.masked.store.{memory.suffix}.p0", ir.VoidType(), [memory.llvm, POINTER, I32, bool_.llvm]
        )
        align = ir.Constant(I32, d.itemsize)
        b.module.scoped(b.call(function, [value.ir, element(b, p, i, d), align, tail_mask(b, n).ir]), s)

    return types.void, emit


def _store_lane(b: ir.IRBuilder, p: ir.Value, i: ir.Value, value: Value, d: DType, scope: int) -> None:
    """Store lane 0 of lanes as they are in memory."""
    first = b.extract_element(value.ir, ir.Constant(I32, 0))
    b.module.scoped(b.store(first, element(b, p, i, d), align=d.itemsize), scope)


def _addresses(b: ir.IRBuilder, p: ir.Value, indices: ir.Value, dtype: DType) -> ir.Value:
    if p.type == I64:
        p = b.inttoptr(p, POINTER)
    return _VectorGEP(b, p, indices, dtype)


def _VectorGEP(b: ir.IRBuilder, p: ir.Value, indices: ir.Value, dtype: DType) -> ir.Value:
    gep = b.gep(p, [indices], source_etype=dtype.memory)
    gep.type = vector_type(POINTER)  # llvmlite takes the base's type for the result's
    return gep


def _masked_gather(b: ir.IRBuilder, addresses: ir.Value, d: DType, s: int, n: ir.Value) -> ir.Value:
    memory = stored_dtype(d)
    function = intrinsic(
        b.module,
        f"llvm.masked.gather.{memory.suffix}.v{W}p0",
        memory.llvm,
        [vector_type(POINTER), I32, bool_.llvm, memory.llvm],
    )
    args = [addresses, ir.Constant(I32, d.itemsize), tail_mask(b, n).ir, ir.Constant(memory.llvm, None)]
    loaded = b.call(function, args)
    b.module.scoped(loaded, s)
    return from_memory(Value(b, memory, loaded), d).ir


def _masked_scatter(b: ir.IRBuilder, addresses: ir.Value, x: Value, d: DType, s: int, n: ir.Value) -> None:
    memory = stored_dtype(d)
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
    memory = stored_dtype(d)

    def emit(b: ir.IRBuilder, p: ir.Value, i: ir.Value, *_: ir.Value) -> ir.Value:
        loaded = b.load(element(b, p, i, d), typ=memory.lane, align=d.itemsize)
        b.module.scoped(loaded, s)
        return from_memory(splat_scalar(b, loaded, memory), d).ir

    return Vec(d), emit


@primitive
def store_first(
    p: types.Type, i: types.Type, x: types.Type, dtype: types.Type, scope: types.Type
) -> tuple[types.Type, Emit]:
    _check_access(p, i)
    d, s, have = _store_dtype(x, dtype), literal_int(scope), vec_dtype(x)

    def emit(b: ir.IRBuilder, p: ir.Value, i: ir.Value, x: ir.Value, *_: ir.Value) -> None:
        _store_lane(b, p, i, to_memory(Value(b, have, x), d), d, s)

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


def _reduction(name: str) -> Primitive:
    combine = COMBINE[name]

    def rule(x: types.Type) -> tuple[types.Type, Emit]:
        d = vec_dtype(x)
        if (name in ("add", "mul") and d is bool_) or (name in ("and", "or", "xor") and d.kind == "f"):
            raise typing_error(f"reduce_{name} of {d} lanes")
        return Vec(
            d
        ), lambda b, x: call_outlined(f"reduce_{name}", d, lambda v: reduce_lanes(v, combine), Value(b, d, x)).ir

    rule.__name__ = f"reduce_{name}"
    return primitive(rule)


for _name in COMBINE:
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
    return Vec(d), lambda b, x, _: Value(b, d, x).shuffle([(k + shift) % W for k in range(W)]).ir


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


VALUE_FUNCTIONS: dict[str, Callable[..., Value]] = {}
"""Functions of Values that operators stand for (``//``: floor_divide, ``**``: power, ...); vmath fills it."""
