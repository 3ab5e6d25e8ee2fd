"""From the Python source of a kernel to the bytes of an object file, through Numba's front end and LLVM.

Numba does what it is good at: it reads the bytecode, infers types and walks its IR.  Everything around that which a
kernel has no use for is left out: no runtime, no reference counts, no wrappers, no environment object, no registries of
NumPy and Python functions, no rewrites or inlining passes, no SSA (LLVM builds it).  The contexts below know the
vocabulary of :mod:`graphc.backends.cpu.simd` and nothing else.
"""

from __future__ import annotations

import functools
import linecache
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import bytecode, errors, funcdesc, interpreter, lowering, targetconfig, typeinfer, types
from numba.core import ir as numba_ir
from numba.core.base import BaseContext as TargetBase
from numba.core.compiler import Flags
from numba.core.postproc import PostProcessor
from numba.core.typing.context import BaseContext as TypingBase

from graphc.backends.cpu import simd

_LOCK = threading.RLock()  # Numba's compiler is not re-entrant


# ---------------------------------------------------------------------------------------------------------------------
# targets


@dataclass(frozen=True)
class Target:
    """What code is generated for: an LLVM triple, a CPU name and its feature string."""

    triple: str
    cpu: str
    features: str

    @property
    def enabled(self) -> frozenset[str]:
        """The features that emitters ask about."""
        known = _LEVELS.get(self.cpu, "").split(",") if self.cpu in _LEVELS else []
        return frozenset(f[1:] for f in [*known, *self.features.split(",")] if f.startswith("+"))


_V2 = "+cx16,+sahf,+popcnt,+sse3,+ssse3,+sse4.1,+sse4.2"
_V3 = _V2 + ",+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+xsave"
_LEVELS = {
    "x86-64": "",
    "x86-64-v2": _V2,
    "x86-64-v3": _V3,
    "x86-64-v4": _V3 + ",+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl,+evex512",
}


@functools.cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


@functools.cache
def target(cpu: str | None = None) -> Target:
    """The target for ``cpu``, an LLVM CPU name such as ``x86-64-v3``; None and "host" mean this machine."""
    _initialize()
    if cpu not in (None, "", "host"):
        assert cpu is not None
        return Target(llvm.get_process_triple(), cpu, "")
    return Target(llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())


def target_key(cpu: str | None = None) -> str:
    """Triple, CPU name and features as one line of text, for cache keys."""
    t = target(cpu)
    return f"{t.triple} {t.cpu} {t.features}".rstrip()


@functools.cache
def _machine(t: Target) -> llvm.TargetMachine:
    return llvm.Target.from_triple(t.triple).create_target_machine(
        cpu=t.cpu, features=t.features, opt=2, reloc="pic", codemodel="small"
    )


# ---------------------------------------------------------------------------------------------------------------------
# Numba contexts that know the vocabulary alone


class _Typing(TypingBase):
    """Types of constants and results of calls."""

    def refresh(self) -> None:
        """There are no registries to reload."""

    def resolve_value_type(self, value: Any) -> types.Type:
        if isinstance(value, simd.Primitive):
            return value.type
        if isinstance(value, simd.DType):
            return simd.token_type(value)
        if isinstance(value, bool):
            return types.boolean
        if isinstance(value, int):
            return types.int64
        if isinstance(value, float):
            return types.float64
        try:
            return simd.OPERATORS[value].type
        except (KeyError, TypeError):
            raise ValueError(f"{value!r} does not belong to the language of kernels") from None

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        if isinstance(func, simd.PrimitiveType):
            return func.get_call_type(self, args, kws)
        if func == "static_getitem":
            return simd.static_getitem_signature(*args)
        found = simd.OPERATORS.get(func)
        return None if found is None else found.resolve(tuple(args))[0]


class _Library:
    """Stands where Numba expects a code library: keeps the one module of the kernel."""

    def __init__(self, features: frozenset[str]) -> None:
        self.features = features
        self.module: simd.KernelModule | None = None

    def create_ir_module(self, name: str) -> simd.KernelModule:
        self.module = simd.KernelModule(name, self.features)
        return self.module

    def add_ir_module(self, module: ir.Module) -> None:
        """The module is complete."""


class _CallConvention:
    """The C convention: arguments as they are, the value returned."""

    def init_call_helper(self, builder: ir.IRBuilder) -> None:
        return None

    def get_function_type(self, restype: types.Type, argtypes: Any) -> ir.FunctionType:
        return ir.FunctionType(simd.I64, [simd.POINTER, simd.I64, simd.I64])

    def decorate_function(self, function: ir.Function, args: Any, fe_argtypes: Any, noalias: bool = False) -> None:
        for argument, name in zip(function.args, args, strict=True):
            argument.name = name
        function.attributes.add("nounwind")

    def decode_arguments(self, builder: ir.IRBuilder, argtypes: Any, function: ir.Function) -> tuple[ir.Value, ...]:
        return function.args

    def return_value(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        builder.ret(value)

    def return_user_exc(self, *args: Any, **kwargs: Any) -> None:
        raise errors.LoweringError("a kernel cannot raise; return an error word")


class _Context(TargetBase):
    """Implementations of calls, constants and casts."""

    call_conv = _CallConvention()

    def codegen(self) -> None:
        return None

    def refresh(self) -> None:
        """There are no registries to reload."""

    def get_function(self, fn: Any, sig: Any, _firstcall: bool = True) -> Any:
        if isinstance(fn, simd.PrimitiveType):
            emit = fn.primitive.resolve(sig.args)[1]
        elif fn == "static_getitem":
            emit = simd.static_getitem(sig.args[0], sig.args[1].literal_value)[1]
        else:
            emit = simd.OPERATORS[fn].resolve(sig.args)[1]
        return lambda builder, args, loc=None: emit(builder, *args)

    def get_constant_generic(self, builder: ir.IRBuilder, ty: types.Type, value: Any) -> ir.Value:
        if isinstance(value, bool):
            return ir.Constant(simd.I1, int(value))
        if isinstance(value, int):
            return ir.Constant(simd.I64, value)
        if isinstance(value, float):
            return ir.Constant(simd.F64, value)
        return ir.Constant(simd.I8, None)  # a function or a dtype: no value at run time

    def cast(self, builder: ir.IRBuilder, value: ir.Value, fromty: types.Type, toty: types.Type) -> ir.Value:
        source, wanted = types.unliteral(fromty), types.unliteral(toty)
        if source == wanted:
            return value
        if wanted == types.boolean:
            return simd.bool_rule(source)[1](builder, value)
        return simd.scalar_to(builder, value, wanted)

    def pair_first(self, builder: ir.IRBuilder, value: ir.Value, ty: types.Type) -> ir.Value:
        return builder.extract_value(value, 0)

    def pair_second(self, builder: ir.IRBuilder, value: ir.Value, ty: types.Type) -> ir.Value:
        return builder.extract_value(value, 1)


class _Lower(lowering.Lower):
    """Numba's walk over its IR, without reference counts and environment; variables are plain stack slots."""

    def emit_environment_object(self) -> None:
        """Kernels refer to nothing in this process."""

    def lower(self) -> None:
        self.genlower = None
        self.lower_normal_function(self.fndesc)

    def lower_inst(self, inst: Any) -> None:
        if not isinstance(inst, numba_ir.Del):
            super().lower_inst(inst)

    def loadvar(self, name: str) -> ir.Value:
        local = self._blk_local_varmap.get(name)
        if local is not None:
            return local
        slot = self.varmap[name]
        return self.builder.load(slot, typ=self.context.get_value_type(self.typeof(name)))

    def storevar(self, value: ir.Value, name: str, argidx: int | None = None) -> None:
        if name in self._singly_assigned_vars:
            self._blk_local_varmap[name] = value
            return
        if name not in self.varmap:
            self.varmap[name] = simd.stack_slot(self.builder, value.type, name=name)
        self.builder.store(value, self.varmap[name])


_typing_context = functools.cache(lambda: _Typing())
_target_context = functools.cache(lambda: _Context(_typing_context(), "cpu"))
_ARGUMENTS = (simd.Pointer, types.int64, types.int64)


def _flags() -> Flags:
    flags = Flags()
    flags.error_model = "numpy"
    flags.enable_ssa = False
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    return flags


# ---------------------------------------------------------------------------------------------------------------------
# the pipeline


def default_namespace() -> dict[str, Any]:
    """The names that kernel source may use: the vocabulary of simd, vmath and whatever registered itself there."""
    from graphc.backends.cpu import vmath  # noqa: F401  (registers its functions)

    return dict(simd.VOCABULARY)


def python_function(source: str, name: str, namespace: Mapping[str, Any] | None = None) -> FunctionType:
    """The function ``name`` that ``source`` defines; its lines are known to ``linecache`` for tracebacks."""
    filename = f"<graphc kernel {name}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    scope: dict[str, Any] = dict(default_namespace() if namespace is None else namespace)
    exec(compile(source, filename, "exec"), scope)
    return scope[name]


def llvm_module(
    source: str, name: str, cpu: str | None = None, namespace: Mapping[str, Any] | None = None
) -> simd.KernelModule:
    """The kernel as an LLVM module, not optimised."""
    with _LOCK:
        function = python_function(source, name, namespace)
        identity = bytecode.FunctionIdentity.from_function(function)
        func_ir = interpreter.Interpreter(identity).interpret(bytecode.ByteCode(func_id=identity))
        PostProcessor(func_ir).run(emit_dels=False)
        typed = _infer(func_ir)
        return _lower(func_ir, typed, name, target(cpu))


def _infer(func_ir: Any) -> tuple[Any, Any, Any]:
    context = _typing_context()
    warnings = errors.WarningsFixer(errors.NumbaWarning)
    infer = typeinfer.TypeInferer(context, func_ir, warnings)
    with context.callstack.register("cpu", infer, func_ir.func_id, _ARGUMENTS):
        for index, (argument, type_) in enumerate(zip(func_ir.arg_names, _ARGUMENTS, strict=True)):
            infer.seed_argument(argument, index, type_)
        infer.seed_return(types.int64)
        infer.build_constraint()
        infer.propagate()
        return infer.unify()


def _lower(func_ir: Any, typed: tuple[Any, Any, Any], name: str, t: Target) -> simd.KernelModule:
    typemap, restype, calltypes = typed
    context = _target_context()
    library = _Library(t.enabled)
    descriptor = funcdesc.PythonFunctionDescriptor.from_specialized_function(
        func_ir, typemap, restype, calltypes, mangler=lambda *_, **__: name, inline=False, noalias=False, abi_tags=()
    )
    flags = _flags()
    with targetconfig.ConfigStack().enter(flags):
        _Lower(context, library, descriptor, func_ir).lower()
    assert library.module is not None
    library.module.attach_scopes()
    return library.module


def _optimize(module: llvm.ModuleRef, t: Target) -> None:
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    tuning.loop_vectorization = False
    tuning.slp_vectorization = False
    tuning.loop_unrolling = False
    tuning.loop_interleaving = False
    builder = llvm.create_pass_builder(_machine(t), tuning)
    builder.getModulePassManager().run(module, builder)


def compiled_module(
    source: str, name: str, cpu: str | None = None, namespace: Mapping[str, Any] | None = None
) -> llvm.ModuleRef:
    """The kernel as an optimised LLVM module."""
    with _LOCK:
        t = target(cpu)
        made = llvm_module(source, name, cpu, namespace)
        made.triple = t.triple
        made.data_layout = str(_machine(t).target_data)
        parsed = llvm.parse_assembly(str(made))
        parsed.verify()
        _optimize(parsed, t)
        return parsed


def compile_kernel(
    source: str, name: str, cpu: str | None = None, namespace: Mapping[str, Any] | None = None
) -> bytes:
    """Compile the kernel ``name`` that ``source`` defines to an object file.

    The object exports one symbol, ``name``, with the C signature ``int64 name(void** table, int64 thread, int64
    threads)``.  ``namespace`` replaces the names that the source may use (:func:`default_namespace`).

    Raises
    ------
    numba.core.errors.NumbaError
        when the source leaves the language of kernels; the message shows the line.
    """
    with _LOCK:
        return _machine(target(cpu)).emit_object(compiled_module(source, name, cpu, namespace))


def assembly(source: str, name: str, cpu: str | None = None, namespace: Mapping[str, Any] | None = None) -> str:
    """The assembly text of the kernel."""
    with _LOCK:
        return _machine(target(cpu)).emit_assembly(compiled_module(source, name, cpu, namespace))
