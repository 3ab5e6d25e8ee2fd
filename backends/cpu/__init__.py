"""The CPU backend: a plan becomes Numba kernels, a tape and a native call.

Loading a program needs neither Numba nor the code generator: both are imported when something is compiled.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc import config, storage
from graphc.backends.cpu import target
from graphc.executable import Memory, memory_of, tell
from graphc.text import constants, to_text

if TYPE_CHECKING:
    from graphc.backends.cpu import native
    from graphc.backends.cpu.runtime import Program
    from graphc.executable import Executable, Options
    from graphc.ir import Graph
    from graphc.passes.plan import Plan
    from graphc.passes.schedule import Kernel


@dataclass(frozen=True)
class CompiledCode:
    """Machine code with the program that runs it, as it is kept in the cache and in saved files.

    objects, sources  object file and text of every function, by symbol; ``users`` names the kernels that it is the code of
    unsafe            numbers of errors that are raised after memory of the caller's was written
    memory, plan      planned bytes, and the plan as text
    path              the file that it was read from
    """

    program: Program
    objects: Mapping[str, bytes]
    sources: Mapping[str, str]
    users: Mapping[str, Sequence[str]]
    unsafe: frozenset[int] = frozenset()
    memory: Memory | None = None
    plan: str = ""
    path: str = ""

    @property
    def source(self) -> str:
        """The source of all kernels, each under the names of those who use it."""
        return "\n".join(f"# {', '.join(self.users.get(s, ('routine',)))}\n{text}" for s, text in self.sources.items())

    def sections(self) -> dict[str, bytes]:
        """The parts of a file: an index, texts, constant blocks, object files."""
        index = {
            "program": self.program.to_json(),
            "objects": list(self.objects),
            "unsafe": sorted(self.unsafe),
            "memory": asdict(self.memory) if self.memory else None,
        }
        text = {"sources": dict(self.sources), "users": {k: list(v) for k, v in self.users.items()}}
        parts = {"index": dumps(index), "source": dumps(text), "plan": self.plan.encode()}
        parts.update({f"object.{k}": data for k, data in enumerate(self.objects.values())})
        parts.update({f"block.{k}": data for k, data in enumerate(self.program.constants)})
        return parts


def dumps(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


def code_from_sections(parts: Mapping[str, Any], path: str = "<memory>") -> CompiledCode:
    """The inverse of :meth:`CompiledCode.sections`. Raises FileFormatError."""
    from graphc.backends.cpu.runtime import Program

    try:
        index, text = json.loads(parts["index"]), json.loads(parts["source"])
        blocks = [parts[f"block.{k}"] for k in range(len(index["program"]["constants"]))]
        return CompiledCode(
            Program.from_json(index["program"], blocks),
            {str(name): parts[f"object.{k}"] for k, name in enumerate(index["objects"])},
            {str(symbol): str(source) for symbol, source in text["sources"].items()},
            {str(symbol): [str(name) for name in names] for symbol, names in text["users"].items()},
            frozenset(map(int, index["unsafe"])),
            Memory(**{k: int(v) for k, v in index["memory"].items()}) if index["memory"] else None,
            parts["plan"].decode(),
            path,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise storage.FileFormatError(path, f"holds machine code that is not whole ({error!r})") from None


def check_code(code: CompiledCode, graph: Graph, options: Options, path: str) -> None:
    """Raise FileFormatError where machine code from a file is not that of ``graph``, by the arrays that it takes."""
    donors = {o: i for i, o in options.donated}
    passed = [t for k, t in enumerate(graph.input_types) if k not in options.owned]
    returned = [t for k, t in enumerate(graph.output_types) if donors.get(k) not in options.owned]
    pairs = (
        (code.program.inputs, passed),
        (code.program.outputs, returned),
        (code.program.owned, [graph.input_types[k] for k in options.owned]),
    )
    for specs, types in pairs:
        if [(s.dtype, tuple(s.shape)) for s in specs] != [(t.dtype.numpy.name, t.shape) for t in types]:
            raise storage.FileFormatError(path, "holds machine code of another program")


def scratch(kernel: Kernel) -> int:
    """Bytes of scratch per thread that a kernel needs; 0 for what has no emitter, which `build` reports with its line."""
    from graphc.backends.cpu import codegen

    try:
        return 0 if kernel.template == "control" else codegen.lower(kernel).scratch
    except codegen.NoEmitter:
        return 0


def machine_key() -> str:
    """What machine code was made for and by: code with another key is compiled anew."""
    return target.machine_key()


# ------------------------------------------------------------------------------------------------ the cache

_cache = storage.Cache("off", 0)


def cache() -> storage.Cache:
    """The disk cache that the environment asks for at present."""
    global _cache
    wanted = storage.Cache()
    if (wanted.dir, wanted.limit_bytes) != (_cache.dir, _cache.limit_bytes):
        _cache = wanted
    return _cache


def key(graph: Graph, options: Options) -> storage.Fingerprint | None:
    """What the code of a program is found by; None where there is no cache."""
    if not cache().dir:
        return None
    return storage.fingerprint(
        program=to_text(graph),
        constants=sorted(constants(graph)),
        lines="\n".join(str(line) for lines in graph.lines.values() for line in lines),
        options=options.to_json(),
        **target.machine(),
        **target.lowering(),
    )


def cached(key: storage.Fingerprint | None) -> CompiledCode | None:
    """The code of a program from the disk cache."""
    file = cache().get("executable", key) if key is not None else None
    if file is None:
        return None
    try:
        return code_from_sections({name: file.section(name) for name in file.sections}, file.path)
    except storage.FileFormatError:
        return None


def explain(key: storage.Fingerprint | None) -> str:
    """Why the code of a program is not in the cache."""
    return cache().explain("executable", key) if key is not None else "there is none"


def keep(key: storage.Fingerprint | None, code: CompiledCode) -> None:
    """Put the code of a program into the disk cache."""
    if key is not None:
        cache().put("executable", key, {}, code.sections())


# ------------------------------------------------------------------------------------------------ compiling


def build(plan: Plan, options: Options, seconds: dict[str, float] | None = None) -> CompiledCode:
    """Compile a plan: every kernel that the cache does not have yet, and the tape that runs them.

    ``seconds`` gets the time of the stages ``emit`` and ``kernels``. Raises NotImplementedError for an op that the backend
    cannot do, with the user's line.
    """
    from graphc.backends.cpu.assemble import assemble

    begin = time.perf_counter()
    assembled = assemble(plan, options.owned)
    middle = time.perf_counter()
    objects = compile_sources(assembled.sources, assembled.users)
    if seconds is not None:
        seconds.update(emit=middle - begin, kernels=time.perf_counter() - middle)
    return CompiledCode(
        assembled.program,
        objects,
        assembled.sources,
        assembled.users,
        assembled.late_errors,
        memory_of(plan),
        str(plan),
    )


_objects: dict[tuple[str, str], bytes] = {}


def compile_sources(sources: Mapping[str, str], users: Mapping[str, Sequence[str]] | None = None) -> dict[str, bytes]:
    """Object code by symbol: from this process, from the disk cache, or compiled now."""
    machine = target.machine()
    known = target.machine_key()
    found = {symbol: _objects[known, symbol] for symbol in sources if (known, symbol) in _objects}
    here = len(found)
    missing = [symbol for symbol in sources if symbol not in found]
    keys = {symbol: storage.fingerprint(source=sources[symbol], **machine) for symbol in missing}
    for symbol, file in zip(missing, cache().get_many("kernel", keys.values()), strict=True):
        if file is not None:
            found[symbol] = file.blob("object")
    stored = len(found) - here
    anew = {symbol: keys[symbol] for symbol in missing if symbol not in found}
    if config.get(config.DEBUG) and anew:
        reasons = cache().explain_many("kernel", anew.values(), brief=True)
        for reason, symbols in grouped(zip(reasons, anew, strict=True)):
            tell(1, f"not in the cache: {shortened(symbols)}: {reason}")
    if anew:
        from graphc.backends.cpu import native

        compiled = native.compile_kernels({symbol: sources[symbol] for symbol in anew}, target.cpu_name())
        for symbol, made in compiled.items():
            found[symbol] = made.data
            cache().put("kernel", anew[symbol], {"symbol": symbol}, {"object": made.data})
        report(compiled, users or {})
    _objects.update({(known, symbol): found[symbol] for symbol in missing})
    tell(1, f"{len(sources)} functions: {len(anew)} compiled, {stored} from the cache, {here} known")
    return {symbol: found[symbol] for symbol in sources}


#: So many kernels are listed by GRAPHC_DEBUG=1, those that took longest; higher levels list all.
SLOWEST = 10


def report(compiled: Mapping[str, native.Compiled], users: Mapping[str, Sequence[str]]) -> None:
    """Tell what compiling kernels took."""
    level = config.get(config.DEBUG)
    if not level:
        return
    slowest = sorted(compiled.items(), key=lambda item: -(item[1].front + item[1].llvm))
    for symbol, made in slowest if level >= 2 else slowest[:SLOWEST]:
        names = shortened(users.get(symbol, ())) or "routine"
        parts = f"Numba {1e3 * made.front:.0f}, LLVM {1e3 * made.llvm:.0f}"
        tell(1, f"{symbol} ({names}): compiled in {1e3 * (made.front + made.llvm):.0f} ms ({parts})")
    front, llvm = sum(made.front for made in compiled.values()), sum(made.llvm for made in compiled.values())
    tell(1, f"{len(compiled)} compiled: Numba {1e3 * front:.0f} ms, LLVM {1e3 * llvm:.0f} ms, side by side")


def grouped(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, list[str]]]:
    """Values by key: ``(key, values)`` in the order in which keys first come up."""
    groups: dict[str, list[str]] = {}
    for name, value in pairs:
        groups.setdefault(name, []).append(value)
    yield from groups.items()


def shortened(names: Sequence[str], most: int = 3) -> str:
    """``a, b, c and 9 more``."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


class Runner:
    """A loaded program: ``call(leaves) -> list of arrays``."""

    def __init__(self, code: CompiledCode, threads: int | None) -> None:
        from graphc.backends.cpu import lapack
        from graphc.backends.cpu.runtime import load_objects, undefined_symbols

        objects = list(code.objects.values())
        if any(name in lapack.SYMBOLS for data in objects for name in undefined_symbols(data)):
            lapack.register()
        self.code = code
        self.linked = load_objects(objects)
        self.threads = threads
        self.executable: Any = None
        self.call: Any = self._unbound
        if not code.program.owned:
            self.bind(())

    def bind(self, arrays: Sequence[np.ndarray]) -> None:
        """Give the program the memory that it owns."""
        from graphc.backends.cpu.runtime import Executable as Loaded

        if self.executable is None:
            self.executable = Loaded(
                self.code.program, self.linked, owned=tuple(arrays), on_error=self.error, threads=self.threads
            )
            self.call = self.executable.call
        else:
            self.executable.bind_owned(tuple(arrays))

    @property
    def owned(self) -> tuple[np.ndarray, ...]:
        """The arrays that are bound."""
        return () if self.executable is None else self.executable.owned

    def _unbound(self, leaves: Sequence[Any]) -> list[np.ndarray]:
        raise RuntimeError("this program keeps arrays of its own; bind them first")

    def error(self, code: int, node: int) -> Exception:
        kind = {1: IndexError, 2: np.linalg.LinAlgError, 3: FloatingPointError}.get(code, RuntimeError)
        raised = kind(self.code.program.errors.get(node, f"error {code} in node {node}"))
        raised.unsafe = node in self.code.unsafe  # type: ignore[attr-defined]
        return raised


def load(code: CompiledCode, options: Options, program: Any) -> Runner:
    """Link a program into this process. Raises FileFormatError for code from a file that cannot be linked."""
    from graphc.backends.cpu.runtime import CodeError

    try:
        return Runner(code, options.threads)
    except CodeError as error:
        if not code.path:
            raise
        what = f"holds machine code that cannot be loaded ({error})"
        raise storage.FileFormatError(code.path, what, "load it with trust=False, which compiles it anew") from None


def assembly(code: CompiledCode) -> str:
    """The assembly of every kernel, compiled again from its source."""
    from graphc.backends.cpu import native

    return "\n".join(native.assembly(text, name, target.cpu_name()) for name, text in code.sources.items())


def measure(executable: Executable, leaves: Sequence[Any], repeat: int) -> Any:
    """Time per kernel: see :mod:`graphc.backends.cpu.profile`."""
    from graphc.backends.cpu.profile import profile

    return profile(executable, leaves, repeat)


__all__ = ["CompiledCode", "Runner", "build", "cached", "compile_sources", "keep", "key", "load", "scratch"]
