"""From the Python source of a kernel to the bytes of an object file, through Numba's front end and LLVM.

:mod:`graphc.backends.cpu.frontend` makes Numba's IR of the source and Numba infers the types; :class:`_Lowering` writes
LLVM IR from that.  Everything that
a kernel has no use for is left out: no runtime, no reference counts, no wrappers, no registries of NumPy and Python
functions, no rewrites, no SSA (LLVM builds it).  The only functions are those of :mod:`graphc.backends.cpu.simd`.

Compile time, for a kernel of 12 operations in a loop and a masked tail (24 operations, eight of them exp, log or tanh):
8 ms in Python (syntax tree 1, types 3, lowering 4), 15 ms in LLVM (two thirds of it instruction selection and register
allocation).  Two things keep LLVM fast: large functions such as ``exp`` are optimised once per process, and inlined
only after the kernel itself went through the passes.  Several kernels go through both halves at once, see
:func:`compile_kernels`.
"""

from __future__ import annotations

import contextlib
import functools
import linecache
import os
import queue
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import errors, typeinfer, types
from numba.core import ir as numba_ir
from numba.core.typing.context import BaseContext

from graphc.backends.cpu import frontend, operators, simd
from graphc.backends.cpu.runtime.objectfile import read_symbols
from graphc.collecting import collector_paused

_FRONT_END = threading.RLock()  # Numba keeps global state while it compiles; llvmlite locks every call into LLVM itself


def _after_fork() -> None:
    """In a forked child: threads that were compiling do not exist here."""
    global _FRONT_END
    _FRONT_END = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


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
        """Names of the features that code may use; ``fma`` wherever the architecture has it always."""
        listed = f"{_LEVELS.get(self.cpu, '')},{self.features}".split(",")
        found = {f[1:] for f in listed if f.startswith("+")}
        if self.triple.startswith(("aarch64", "arm64")):
            found.add("fma")
        return frozenset(found)


_V2 = "+cx16,+sahf,+popcnt,+sse3,+ssse3,+sse4.1,+sse4.2"
_V3 = _V2 + ",+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+xsave"
_LEVELS = {
    "x86-64-v2": _V2,
    "x86-64-v3": _V3,
    "x86-64-v4": _V3 + ",+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl",
}


@functools.cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


@functools.cache
def target(cpu: str | None = None) -> Target:
    """The target for ``cpu``: ``x86-64-v2`` ... ``x86-64-v4`` or another LLVM CPU name; None is this machine."""
    _initialize()
    triple = llvm.get_process_triple()
    if cpu in (None, "", "host"):
        return Target(triple, llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())
    if cpu == "x86-64":
        raise ValueError("x86-64 has no instruction that rounds to integers; the least CPU is x86-64-v2")
    assert cpu is not None
    return Target(triple, cpu, "")


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
# types


class _Typing(BaseContext):
    """Numba's typing context for a language whose only functions are primitives."""

    def resolve_value_type(self, value: Any) -> types.Type:
        if isinstance(value, simd.Primitive):
            return value.type
        if isinstance(value, simd.DType):
            return simd.token_type(value)
        for python_type, type_ in ((bool, types.boolean), (int, types.int64), (float, types.float64)):
            if isinstance(value, python_type):
                return type_
        with contextlib.suppress(KeyError, TypeError):
            return operators.OPERATORS[value].type
        raise ValueError(f"{value!r} does not belong to the language of kernels")

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        if isinstance(func, simd.PrimitiveType):
            return func.get_call_type(self, args, kws)
        if func == "static_getitem":
            return operators.static_getitem_signature(*args)
        found = operators.OPERATORS.get(func)
        return None if found is None else found.resolve(tuple(args))[0]


class _NoWarnings:
    """Stands for Numba's collector of warnings: typing primitives gives none, and collecting is slow."""

    @contextlib.contextmanager
    def catch_warnings(self, filename: str | None = None, lineno: int | None = None) -> Iterator[None]:
        yield


_typing_context = functools.cache(_Typing)
_ARGUMENTS = (simd.Pointer, types.int64, types.int64)


@dataclass(frozen=True)
class _TypedFunction:
    blocks: dict[int, Any]
    typemap: Mapping[str, types.Type]
    signatures: Mapping[Any, Any]


def _typed(func_ir: numba_ir.FunctionIR) -> _TypedFunction:
    if func_ir.arg_count != len(_ARGUMENTS):
        raise errors.TypingError(f"{func_ir.func_id.func_name} must take (table, thread, threads)", loc=func_ir.loc)
    infer = typeinfer.TypeInferer(_typing_context(), func_ir, _NoWarnings())
    for index, (argument, type_) in enumerate(zip(func_ir.arg_names, _ARGUMENTS, strict=True)):
        infer.seed_argument(argument, index, type_)
    infer.seed_return(types.int64)
    infer.build_constraint()
    infer.propagate()
    typemap, _, signatures = infer.unify()
    return _TypedFunction(dict(sorted(func_ir.blocks.items())), typemap, signatures)


# ---------------------------------------------------------------------------------------------------------------------
# lowering


class _Lowering:
    """Writes one typed function as LLVM IR.

    A variable that is assigned once and used in that block alone is an SSA value, every other one a stack slot that
    LLVM turns into registers.
    """

    def __init__(self, typed: _TypedFunction, name: str, t: Target) -> None:
        self.typed = typed
        self.module = simd.KernelModule(name, t.enabled, functools.partial(_optimized_text, t))
        self.module.triple = t.triple
        self.module.data_layout = str(_machine(t).target_data)
        type_ = ir.FunctionType(simd.I64, [simd.POINTER, simd.I64, simd.I64])
        self.function = ir.Function(self.module, type_, name)
        self.function.attributes.add("nounwind")
        self.entry = self.function.append_basic_block("entry")
        self.targets = {
            label: self.function.append_basic_block(f"line{b.loc.line}") for label, b in typed.blocks.items()
        }
        self.b = ir.IRBuilder(self.entry)
        self.local = _local_variables(typed.blocks)
        self.values: dict[str, ir.Value] = {}
        self.slots: dict[str, ir.Value] = {}

    def run(self) -> simd.KernelModule:
        for label, block in self.typed.blocks.items():
            self.b.position_at_end(self.targets[label])
            for statement in block.body:
                try:
                    self.statement(statement)
                except errors.NumbaError:
                    raise
                except Exception as e:
                    raise errors.LoweringError(f"{type(e).__name__}: {e}", loc=statement.loc) from e
        self.b.position_at_end(self.entry)
        self.b.branch(self.targets[min(self.targets)])
        self.module.attach_scopes()
        return self.module

    def statement(self, statement: Any) -> None:
        match statement:
            case numba_ir.Assign():
                name = statement.target.name
                self.write(name, self.value(statement.value, self.typed.typemap[name]))
            case numba_ir.Jump():
                self.b.branch(self.targets[statement.target])
            case numba_ir.Branch():
                condition = self.read(statement.cond.name)
                self.b.cbranch(condition, self.targets[statement.truebr], self.targets[statement.falsebr])
            case numba_ir.Return():
                self.b.ret(self.read(statement.value.name))
            case numba_ir.Del() | numba_ir.PopBlock():
                pass
            case _:
                raise errors.UnsupportedError(f"{statement} is not in the language of kernels", loc=statement.loc)

    def value(self, value: Any, type_: types.Type) -> ir.Value:
        match value:
            case numba_ir.Const() | numba_ir.Global() | numba_ir.FreeVar():
                return self.constant(value.value)
            case numba_ir.Var():
                return self.read(value.name, type_)
            case numba_ir.Arg():
                return self.function.args[value.index]
            case numba_ir.Expr():
                return self.expression(value, type_)
        raise errors.UnsupportedError(f"{value} is not in the language of kernels", loc=value.loc)

    def constant(self, value: Any) -> ir.Value:
        match value:
            case bool():
                return ir.Constant(simd.I1, int(value))
            case int():
                return ir.Constant(simd.I64, value)
            case float():
                return ir.Constant(simd.F64, value)
        return ir.Constant(simd.I8, None)  # a function or a dtype: nothing at run time

    def expression(self, e: Any, type_: types.Type) -> ir.Value:
        match e.op:
            case "binop":
                return self.call(operators.OPERATORS[e.fn], e, [e.lhs, e.rhs], type_)
            case "inplace_binop":
                return self.call(operators.OPERATORS[e.immutable_fn], e, [e.lhs, e.rhs], type_)
            case "unary":
                return self.call(operators.OPERATORS[e.fn], e, [e.value], type_)
            case "call":
                callee = self.typed.typemap[e.func.name]
                assert isinstance(callee, simd.PrimitiveType)
                return self.call(callee.primitive, e, e.args, type_)
            case "getiter" | "iternext":
                return self.call(operators.OPERATORS[e.op], e, [e.value], type_)
            case "pair_first" | "pair_second":
                return self.b.extract_value(self.read(e.value.name), int(e.op == "pair_second"))
            case "static_getitem":
                return self.b.extract_value(self.read(e.value.name), e.index)
            case "exhaust_iter" | "cast":
                return self.read(e.value.name, type_)
        raise errors.UnsupportedError(f"{e.op} is not in the language of kernels", loc=e.loc)

    def call(self, primitive: simd.Primitive, e: Any, arguments: list[Any], wanted: types.Type) -> ir.Value:
        signature = self.typed.signatures[e]
        values = [self.read(a.name, t) for a, t in zip(arguments, signature.args, strict=True)]
        result = primitive.resolve(signature.args)[1](self.b, *values)
        if result is None:
            return ir.Constant(simd.I8, None)
        return self.convert(result, signature.return_type, wanted)

    def convert(self, value: ir.Value, have: types.Type, want: types.Type) -> ir.Value:
        """Numba's implicit conversions: a variable that is assigned an int64 and a bool is an int64."""
        if have is want or want == types.none:
            return value
        have, want = types.unliteral(have), types.unliteral(want)
        return value if have == want else operators.scalar_to(self.b, value, want)

    def read(self, name: str, wanted: types.Type | None = None) -> ir.Value:
        have = self.typed.typemap[name]
        if name in self.local:
            value = self.values[name]
        elif isinstance(have, (simd.PrimitiveType, simd.DTypeToken)):
            value = self.constant(None)
        elif name in self.slots:
            slot = self.slots[name]
            value = self.b.load(slot, typ=_llvm_type(have))
        else:
            raise errors.TypingError(f"{name} is used before it is assigned")
        return value if wanted is None else self.convert(value, have, wanted)

    def write(self, name: str, value: ir.Value) -> None:
        if name in self.local:
            self.values[name] = value
            return
        if isinstance(self.typed.typemap[name], (simd.PrimitiveType, simd.DTypeToken)):
            return
        if name not in self.slots:
            self.slots[name] = simd.stack_slot(self.b, value.type, name=name)
        self.b.store(value, self.slots[name])


def _llvm_type(type_: types.Type) -> ir.Type:
    return simd.datamodel(type_).get_value_type()


def _operands(value: Any) -> list[str]:
    """Names of the variables that the right side of an assignment reads."""
    if isinstance(value, numba_ir.Var):
        return [value.name]
    if not isinstance(value, numba_ir.Expr):
        return []
    parts = [v for key, v in value._kws.items() if key != "index_var"]
    flat = [w for v in parts for w in (v if isinstance(v, (list, tuple)) else [v])]
    return [v.name for v in flat if isinstance(v, numba_ir.Var)]


def _local_variables(blocks: Mapping[int, Any]) -> frozenset[str]:
    """Variables that are assigned once and read only later in the same block."""
    assigned: Counter[str] = Counter()
    escaping: set[str] = set()
    for block in blocks.values():
        here: set[str] = set()
        for statement in block.body:
            match statement:
                case numba_ir.Assign():
                    reads = _operands(statement.value)
                case numba_ir.Branch():
                    reads = [statement.cond.name]
                case numba_ir.Return():
                    reads = [statement.value.name]
                case _:
                    reads = []
            escaping.update(name for name in reads if name not in here)
            if isinstance(statement, numba_ir.Assign):
                here.add(statement.target.name)
                assigned[statement.target.name] += 1
    return frozenset(name for name, times in assigned.items() if times == 1 and name not in escaping)


# ---------------------------------------------------------------------------------------------------------------------
# LLVM


def _pass_builder(t: Target) -> llvm.PassBuilder:
    """O1, and no pass that makes vectors out of loops or copies of their bodies: the kernels are vectors already."""
    tuning = llvm.create_pipeline_tuning_options(speed_level=1)
    tuning.loop_vectorization = tuning.slp_vectorization = False
    tuning.loop_unrolling = tuning.loop_interleaving = False
    return llvm.create_pass_builder(_machine(t), tuning)


def _run_function_passes(module: llvm.ModuleRef, name: str, t: Target) -> None:
    builder = _pass_builder(t)
    builder.getFunctionPassManager().run(module.get_function(name), builder)


def _optimized_text(t: Target, name: str, text: str) -> str:
    """The definition of the outlined function ``name`` in a module's text, after LLVM's function passes."""
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = t.triple, str(_machine(t).target_data)
    _run_function_passes(module, name, t)
    function = str(module.get_function(name))
    head, body = function[function.index("define ") :].split("{\n", 1)
    head = re.sub(r" #\d+ ?$", " ", head.rstrip() + " ")
    attributes = "alwaysinline nounwind willreturn memory(none)"
    return f"{head}{attributes} {{\n{body}"


def _inline(module: llvm.ModuleRef, t: Target) -> None:
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.run(module, _pass_builder(t))


# ---------------------------------------------------------------------------------------------------------------------
# the pipeline


def default_namespace() -> dict[str, Any]:
    """The names that kernel source may use: the vocabulary of simd and vmath, and whatever else registered itself."""
    from graphc.backends.cpu import external, tile, vmath, window_tile  # noqa: F401  (they register their functions)

    return dict(simd.VOCABULARY)


def function_ir(source: str, name: str, namespace: Mapping[str, Any] | None = None) -> numba_ir.FunctionIR:
    """Numba's IR of the function ``name`` that ``source`` defines; its lines are known to ``linecache`` for errors."""
    filename = f"<graphc kernel {name}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    return frontend.numba_ir(source, name, default_namespace() if namespace is None else namespace, filename)


def llvm_text(source: str, name: str, cpu: str | None = None, namespace: Mapping[str, Any] | None = None) -> str:
    """The kernel as LLVM IR, not optimised: what Numba and the vocabulary make of it."""
    with _FRONT_END:
        return str(_Lowering(_typed(function_ir(source, name, namespace)), name, target(cpu)).run())


def optimized_module(text: str, name: str, cpu: str | None = None) -> llvm.ModuleRef:
    """The module of :func:`llvm_text` after LLVM's passes."""
    module = llvm.parse_assembly(text)
    module.verify()
    _run_function_passes(module, name, target(cpu))
    _inline(module, target(cpu))
    return module


def _object(text: str, name: str, cpu: str | None) -> bytes:
    return _machine(target(cpu)).emit_object(optimized_module(text, name, cpu))


def compile_kernel(source: str, name: str, cpu: str | None = None, namespace: Mapping[str, Any] | None = None) -> bytes:
    """Compile the kernel ``name`` that ``source`` defines to an object file.

    The object exports one symbol, ``name``, with the C signature ``int64 name(void** table, int64 thread, int64
    threads)``.  ``cpu`` restricts the instructions (see :func:`target`), ``namespace`` replaces the names that the
    source may use (see :func:`default_namespace`).  May be called from several threads: one of them is in Numba's front
    end at a time, and one in LLVM.

    Raises
    ------
    numba.core.errors.NumbaError
        when the source leaves the language of kernels; the message shows the line.

    Examples
    --------
    >>> source = '''
    ... def double(table, thread, threads):
    ...     x = pointer(table, 0)
    ...     store(x, 0, load(x, 0, f32, 0) * 2.0, f32, 0)
    ...     return 0
    ... '''
    >>> undefined_symbols(compile_kernel(source, "double"))
    set()
    """
    return _object(llvm_text(source, name, cpu, namespace), name, cpu)


@dataclass(frozen=True)
class Compiled:
    """A kernel's object file, and the seconds that it took: in Numba's front end, in LLVM's passes and code generator."""

    data: bytes
    front: float
    llvm: float


#: Python lets another thread run after so many seconds while kernels are compiled: a thread in LLVM comes back to Python
#: for a few instructions at a time (22 kernels of an MLP on 2 cores: 0.40 s with this, 0.47 with 0.1 ms, 0.72 with 5 ms).
SWITCH_SECONDS = 5e-5


def compile_kernels(sources: Mapping[str, str], cpu: str | None = None) -> dict[str, Compiled]:
    """Object files of several kernels, symbol to source: while LLVM works on one, Numba reads the next.

    Two threads, since each half is one at a time: the front end holds Python's lock, LLVM that of llvmlite. The halves
    are about equal. Measured with the 22 kernels of an MLP on 2 cores: 0.60 s one after the other, 0.40 s so, 0.34 s with
    a forked worker, which is not safe beside threads of others; a new worker would have to import Numba first (0.35 s).
    """
    if len(sources) < 2:
        return {name: _compiled(source, name, cpu) for name, source in sources.items()}
    found: dict[str, Compiled] = {}
    failures: list[BaseException] = []
    texts: queue.SimpleQueue[tuple[str, str, float] | None] = queue.SimpleQueue()

    def compile_texts() -> None:
        while (item := texts.get()) is not None:
            name, text, front = item
            if failures:
                continue
            try:
                begin = time.perf_counter()
                data = _object(text, name, cpu)
                found[name] = Compiled(data, front, time.perf_counter() - begin)
            except BaseException as error:  # raised again by the thread that waits
                failures.append(error)

    default_namespace()
    worker = threading.Thread(target=compile_texts, name="graphc-llvm", daemon=True)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(min(interval, SWITCH_SECONDS))
    try:
        worker.start()
        with collector_paused():
            for name, source in sources.items():
                begin = time.perf_counter()
                text = llvm_text(source, name, cpu)
                texts.put((name, text, time.perf_counter() - begin))
                if failures:
                    break
    finally:
        texts.put(None)
        worker.join()
        sys.setswitchinterval(interval)
    if failures:
        raise failures[0]
    return {name: found[name] for name in sources}


def _compiled(source: str, name: str, cpu: str | None) -> Compiled:
    begin = time.perf_counter()
    with collector_paused():
        text = llvm_text(source, name, cpu)
    middle = time.perf_counter()
    data = _object(text, name, cpu)
    return Compiled(data, middle - begin, time.perf_counter() - middle)


def assembly(source: str, name: str, cpu: str | None = None, namespace: Mapping[str, Any] | None = None) -> str:
    """The assembly text of the kernel."""
    return _machine(target(cpu)).emit_assembly(optimized_module(llvm_text(source, name, cpu, namespace), name, cpu))


# ---------------------------------------------------------------------------------------------------------------------
# looking at the result


def undefined_symbols(obj: bytes) -> set[str]:
    """Names of the functions that an object file needs from elsewhere."""
    return set(read_symbols(obj).undefined)


_PACKED = re.compile(
    r"v?("
    r"(add|sub|mul|div|sqrt|max|min|mov[au]|and|andn|or|xor|blendv?|shuf|perm\w*|round|rndscale|broadcast\w*|cmp\w*)p[sdh]"
    r"|fn?m(add|sub)\d+p[sdh]|cvt\w*(ps|pd|ph|dq|qq)\w*|p(add|sub|mul\w*|and|andn|or|xor|sll|srl|sra|cmp\w+|max|min|shuf|blend"
    r"|unpck|ternlog)\w*|movdq[au]\d*)"
)
_ARM_VECTOR = re.compile(r"\bv\d+\.(16b|8h|4s|2d)\b")


def vector_instruction_count(asm: str) -> int:
    """How many instructions of an assembly text work on more than one element.

    On x86 those on ymm and zmm registers, and those on xmm registers whose name says packed; on Arm those on vector
    arrangements such as ``v0.4s``.
    """
    return sum(_is_vector_instruction(line) for line in asm.splitlines() if re.match(r"\t[^.]", line))


def _is_vector_instruction(line: str) -> bool:
    if "%ymm" in line or "%zmm" in line or _ARM_VECTOR.search(line):
        return True
    return "%xmm" in line and _PACKED.fullmatch(line.split()[0]) is not None
