"""The CPU backend: a plan becomes Numba kernels, a tape and a native call.

Loading a program needs neither Numba nor the code generator: both are imported when something is compiled.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc import storage
from graphc.backends.cpu import target
from graphc.text import constants, to_text

if TYPE_CHECKING:
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
    """

    program: Program
    objects: Mapping[str, bytes]
    sources: Mapping[str, str]
    users: Mapping[str, Sequence[str]]
    unsafe: frozenset[int] = frozenset()

    @property
    def source(self) -> str:
        """The source of all kernels, each under the names of those who use it."""
        return "\n".join(f"# {', '.join(self.users.get(s, ('routine',)))}\n{text}" for s, text in self.sources.items())

    def sections(self) -> dict[str, bytes]:
        """The parts of a file: an index, constant blocks, object files."""
        index = {"program": self.program.to_json(), "objects": list(self.objects), "unsafe": sorted(self.unsafe)}
        text = {"sources": dict(self.sources), "users": {k: list(v) for k, v in self.users.items()}}
        parts = {"index": json.dumps(index, separators=(",", ":")).encode(), "source": json.dumps(text).encode()}
        parts.update({f"object.{k}": data for k, data in enumerate(self.objects.values())})
        parts.update({f"block.{k}": data for k, data in enumerate(self.program.constants)})
        return parts


def code_from_sections(parts: Mapping[str, Any], path: str = "<memory>") -> CompiledCode:
    """The inverse of :meth:`CompiledCode.sections`. Raises FileFormatError."""
    from graphc.backends.cpu.runtime import Program

    try:
        index = json.loads(parts["index"])
        blocks = [parts[f"block.{k}"] for k in range(len(index["program"]["constants"]))]
        program = Program.from_json(index["program"], blocks)
        objects = {str(name): parts[f"object.{k}"] for k, name in enumerate(index["objects"])}
        text = json.loads(parts["source"])
        unsafe = frozenset(map(int, index["unsafe"]))
        return CompiledCode(program, objects, dict(text["sources"]), dict(text["users"]), unsafe)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise storage.FileFormatError(path, f"holds machine code that is not whole ({error})") from None


def scratch(kernel: Kernel) -> int:
    """Bytes of scratch per thread that a kernel needs."""
    from graphc.backends.cpu import codegen

    if kernel.template == "control" or all(t.size == 0 for t in kernel.body.output_types):
        return 0
    return max(step.scratch for step in codegen.lower(kernel).steps)


def machine_key() -> str:
    """What machine code was made for and by: code with another key is compiled anew."""
    return f"{target.target_key()} {target.generator_key()}"


@functools.cache
def cache() -> storage.Cache:
    return storage.Cache()


def executable_key(graph: Graph, options: Options) -> storage.Fingerprint:
    return storage.fingerprint(
        graph=to_text(graph, lines=True),
        constants=sorted(constants(graph)),
        options=options.to_json(),
        machine=machine_key(),
        lowering=target.lowering_key(),
    )


def cached(graph: Graph, options: Options) -> CompiledCode | None:
    """The code of this program from the disk cache."""
    key = executable_key(graph, options)
    file = cache().get("executable", key)
    if file is None:
        return None
    try:
        return code_from_sections({name: file.section(name) for name in file.sections}, file.path)
    except storage.FileFormatError:
        return None


def keep(graph: Graph, options: Options, code: CompiledCode) -> None:
    """Put the code of this program into the disk cache."""
    cache().put("executable", executable_key(graph, options), {}, code.sections())


def build(plan: Plan, options: Options) -> CompiledCode:
    """Compile a plan: every kernel that the cache does not have yet, and the tape that runs them."""
    from graphc.backends.cpu.assemble import assemble

    assembled = assemble(plan, options.owned)
    objects = compile_sources(assembled.sources)
    return CompiledCode(assembled.program, objects, assembled.sources, assembled.users, assembled.late_errors)


_objects: dict[tuple[str, str], bytes] = {}


def compile_sources(sources: Mapping[str, str]) -> dict[str, bytes]:
    """Object code by symbol: from this process, from the disk cache, or compiled now."""
    machine = machine_key()
    found = {symbol: _objects[machine, symbol] for symbol in sources if (machine, symbol) in _objects}
    missing = [symbol for symbol in sources if symbol not in found]
    keys = {symbol: storage.fingerprint(source=sources[symbol], machine=machine) for symbol in missing}
    for symbol, file in zip(missing, cache().get_many("kernel", keys.values()), strict=True):
        if file is not None:
            found[symbol] = file.blob("object")
    for symbol in missing:
        if symbol not in found:
            from graphc.backends.cpu import native

            found[symbol] = native.compile_kernel(sources[symbol], symbol, target.cpu_name())
            cache().put("kernel", keys[symbol], {"symbol": symbol}, {"object": found[symbol]})
        _objects[machine, symbol] = found[symbol]
    return {symbol: found[symbol] for symbol in sources}


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

    def _unbound(self, leaves: Sequence[Any]) -> list[np.ndarray]:
        raise RuntimeError("this program keeps arrays of its own; bind them first")

    def error(self, code: int, node: int) -> Exception:
        kind = {1: IndexError, 2: np.linalg.LinAlgError, 3: FloatingPointError}.get(code, RuntimeError)
        raised = kind(self.code.program.errors.get(node, f"error {code} in node {node}"))
        raised.unsafe = node in self.code.unsafe  # type: ignore[attr-defined]
        return raised


def load(code: CompiledCode, options: Options, program: Any) -> Runner:
    """Link a program into this process."""
    return Runner(code, options.threads)


def assembly(code: CompiledCode) -> str:
    """The assembly of every kernel, compiled again from its source."""
    from graphc.backends.cpu import native

    return "\n".join(native.assembly(text, name, target.cpu_name()) for name, text in code.sources.items())


def profile(executable: Executable, leaves: Sequence[Any], repeat: int) -> Any:
    from graphc.backends.cpu.profile import profile as measure

    return measure(executable, leaves, repeat)
