"""Executable: a compiled program, its stages to look at, and its file.

An executable is made from a traced program and options. Its machine code comes from the disk cache where the same
program was compiled before on the same kind of machine by the same versions; otherwise passes, fusion, planning and code
generation run. ``exe.plan.schedule.graph`` walks back through the stages; they are computed on demand.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from graphc import config
from graphc.ir import Graph
from graphc.tracing import Argument, Program
from graphc.tree import Tree, flatten, unflatten
from graphc.types import TensorType, dtype

FORMAT = "graphc executable"


@dataclass(frozen=True)
class Options:
    """What compilation depends on besides the graph.

    donated: ``(input, output)`` pairs that share memory. owned: inputs that the executable keeps between calls; an owned
    input that is donated is updated in place and its output is not returned.
    """

    backend: str = "cpu"
    threads: int | None = None
    donated: tuple[tuple[int, int], ...] = ()
    owned: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"backend": self.backend, "donated": [list(p) for p in self.donated], "owned": list(self.owned)}

    @staticmethod
    def from_json(data: Mapping[str, Any], threads: int | None) -> Options:
        return Options(
            data["backend"], threads, tuple((int(i), int(o)) for i, o in data["donated"]), tuple(data["owned"])
        )


@dataclass(frozen=True)
class Memory:
    """Planned memory in bytes, known before anything runs.

    peak: the arena, temporaries of the busiest stage included, plus scratch of all threads. unplanned: what the
    temporaries would take with a buffer each. lower_bound: the most bytes live at once, which no plan can beat.
    """

    peak: int
    scratch: int
    unplanned: int
    lower_bound: int
    inputs: int
    outputs: int
    constants: int

    def __str__(self) -> str:
        return (
            f"planned peak {self.peak:,} bytes (lower bound {self.lower_bound:,}, unplanned {self.unplanned:,}), "
            f"scratch {self.scratch:,}, inputs {self.inputs:,}, outputs {self.outputs:,}, constants {self.constants:,}"
        )


@dataclass(frozen=True, eq=False)
class Lowered:
    """The stages between the traced graph and machine code."""

    graph: Graph
    schedule: Any
    plan: Any
    report: Any
    seconds: Mapping[str, float] = field(default_factory=dict)


def lower(graph: Graph, options: Options) -> Lowered:
    """Passes, fusion, staging and the memory plan."""
    from graphc.passes import lowering

    return lowering.lower(graph, options.donated, backend_module(options.backend).scratch)


def backend_module(name: str) -> Any:
    """The backend called ``name``. Raises ValueError for one that is not there."""
    if name == "cpu":
        from graphc.backends import cpu

        return cpu
    if name == "reference":
        from graphc.backends.reference import backend

        return backend
    raise ValueError(f"there is no backend {name!r}; there are 'cpu' and 'reference'")


class Executable:
    """A compiled program: call it, look at its stages, save it.

    Calling takes the arguments of the traced function and returns its results as fresh arrays.

    graph      the optimised graph; ``traced`` is the one before passes
    schedule   the graph cut into kernels and stages
    plan       the schedule with every buffer at its place
    source     the generated source of every kernel
    memory     planned bytes, see :class:`Memory`
    """

    def __init__(self, program: Program, options: Options, code: Any = None) -> None:
        self.program = program
        self.options = options
        self.seconds: dict[str, float] = {}
        self.cached = code is not None
        self._code = code or self._obtain()
        self._run = backend_module(options.backend).load(self._code, options, program)

    # -- calling

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from graphc.tracing import is_static

        leaves, tree = flatten((args, kwargs), is_leaf=is_static)
        if tree != self.program.in_tree:
            raise TypeError(
                f"this executable takes arguments {list(self.program.in_tree.paths)}, not {list(tree.paths)}"
            )
        return self.call_leaves([leaf for leaf in leaves if not is_static(leaf)])

    def call_leaves(self, leaves: Sequence[Any]) -> Any:
        """Run on the dynamic leaves of the arguments, in order."""
        return unflatten(self.program.out_tree, self._run.call(leaves))

    @property
    def runner(self) -> Any:
        """The backend's loaded program: ``runner.call(leaves) -> list of arrays``."""
        return self._run

    # -- stages

    @property
    def traced(self) -> Graph:
        """The graph as traced, adjoints included, before passes."""
        return self.program.graph

    @functools.cached_property
    def lowered(self) -> Lowered:
        return lower(self.program.graph, self.options)

    @property
    def graph(self) -> Graph:
        return self.lowered.graph

    @property
    def schedule(self) -> Any:
        return self.lowered.schedule

    @property
    def plan(self) -> Any:
        return self.lowered.plan

    @property
    def report(self) -> Any:
        """What each pass did: nodes before and after, milliseconds."""
        return self.lowered.report

    @property
    def source(self) -> str:
        """The generated source of all kernels."""
        return self._code.source

    @property
    def assembly(self) -> str:
        """The assembly of all kernels, as text."""
        return backend_module(self.options.backend).assembly(self._code)

    @property
    def memory(self) -> Memory:
        plan, graph = self.plan, self.graph
        return Memory(
            plan.peak_bytes,
            plan.scratch_bytes,
            plan.unplanned_bytes,
            plan.lower_bound_bytes,
            sum(t.nbytes for t in graph.input_types),
            sum(t.nbytes for t in graph.output_types),
            sum(n.type.nbytes for n in graph.nodes if n.op.name == "constant"),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks of the tracer: what was widened to float64 and where, large constants."""
        return self.program.notes

    def profile(self, *args: Any, repeat: int = 20, **kwargs: Any) -> Any:
        """Time per kernel on these arguments: µs, GB/s, GFLOP/s and the user's lines. Prints as a table."""
        from graphc.tracing import is_static

        leaves, _ = flatten((args, kwargs), is_leaf=is_static)
        return backend_module(self.options.backend).profile(self, [v for v in leaves if not is_static(v)], repeat)

    def _repr_html_(self) -> str:
        from graphc.drawing import repr_html

        return repr_html(self.graph)

    def __repr__(self) -> str:
        graph = self.program.graph
        return f"<Executable {graph.name} on {self.options.backend}: {len(graph.inputs)} inputs, {len(graph.outputs)} outputs>"

    # -- compiling and the cache

    def _obtain(self) -> Any:
        """Machine code: from the disk cache, or compiled now and put there."""
        backend = backend_module(self.options.backend)
        start = time.perf_counter()
        code = backend.cached(self.program.graph, self.options)
        if code is not None:
            self.cached = True
            self.seconds["cache"] = time.perf_counter() - start
            return code
        low = self.lowered
        self.seconds.update(low.seconds)
        begin = time.perf_counter()
        code = backend.build(low.plan, self.options)
        self.seconds["build"] = time.perf_counter() - begin
        backend.keep(self.program.graph, self.options, code)
        report_compilation(self, time.perf_counter() - start)
        return code

    # -- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the executable to one file: the portable program, its constants, and the machine code.

        Written atomically. :func:`graphc.load` runs it in another process without this program's source and without
        Numba.
        """
        from graphc import storage

        manifest, sections = self.contents()
        storage.write(path, manifest, sections, sign=storage.sign)

    def contents(self) -> tuple[dict[str, Any], dict[str, bytes | np.ndarray]]:
        """What the file of this executable holds: a manifest and sections."""
        from graphc.text import constants, to_text

        graph = self.program.graph
        manifest = {
            "format": FORMAT,
            "version": version("graphc"),
            "options": self.options.to_json(),
            "in_tree": tree_to_json(self.program.in_tree),
            "out_tree": tree_to_json(self.program.out_tree),
            "arguments": [[a.name, str(a.type.dtype), list(a.type.shape), a.weak] for a in self.program.arguments],
            "machine": backend_module(self.options.backend).machine_key(),
        }
        sections: dict[str, bytes | np.ndarray] = {"graph": to_text(graph).encode()}
        sections.update({f"constant.{sha}": array for sha, array in constants(graph).items()})
        sections.update({f"code.{k}": v for k, v in self._code.sections().items()})
        return manifest, sections


def report_compilation(exe: Executable, total: float) -> None:
    if config.get(config.DEBUG) >= 1:
        import sys

        parts = ", ".join(f"{k} {v:.2f} s" for k, v in exe.seconds.items())
        print(f"graphc: compiled {exe.program.graph.name} in {total:.2f} s ({parts})", file=sys.stderr)


@functools.cache
def version(package: str) -> str:
    if package == "graphc":
        from graphc import __version__

        return __version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


# ------------------------------------------------------------------------------------------------ trees as data


def tree_to_json(tree: Tree) -> Any:
    """A tree as JSON. Dict keys must be strings, numbers, bools or None; types are written by name only."""
    if tree.kind in ("leaf", "none"):
        return tree.kind
    for key in tree.keys:
        if not isinstance(key, (str, int, float, bool, type(None))):
            raise TypeError(f"a dict key {key!r} of type {type(key).__name__} cannot be saved; use strings or numbers")
    return [tree.kind, list(tree.keys), [tree_to_json(c) for c in tree.children], list(tree.order)]


def tree_from_json(data: Any) -> Tree:
    """The tree back: namedtuples come back as tuples, dataclasses as dicts (``load(like=)`` gives the types)."""
    if data in ("leaf", "none"):
        return Tree(data)
    if not (isinstance(data, list) and len(data) == 4 and all(isinstance(part, list) for part in data[1:])):
        raise ValueError("a tree in the file is malformed")
    kind, keys, children, order = data
    plain = {"namedtuple": "tuple", "dataclass": "dict"}.get(kind, kind)
    if plain not in ("dict", "list", "tuple") or len(keys) != len(children):
        raise ValueError(f"a tree in the file has kind {kind!r}")
    order = tuple(order) if sorted(order) == list(range(len(keys))) else ()
    parts = tuple(tree_from_json(c) for c in children)
    if plain != "dict":
        return Tree(plain, parts, tuple(range(len(parts))))
    return Tree("dict", parts, tuple(keys), dict, order)


def program_from_file(file: Any) -> Program:
    """The portable program of a saved file. Raises FileFormatError where it is not one."""
    from graphc.storage import FileFormatError
    from graphc.text import from_text

    manifest = file.manifest
    try:
        constants = {n.removeprefix("constant."): file.array(n) for n in file.sections if n.startswith("constant.")}
        graph = from_text(file.blob("graph").decode(), constants)
        arguments = tuple(
            Argument(str(name), TensorType(dtype(element), tuple(int(n) for n in shape)), bool(weak))
            for name, element, shape, weak in manifest["arguments"]
        )
        return Program(graph, arguments, tree_from_json(manifest["in_tree"]), tree_from_json(manifest["out_tree"]))
    except FileFormatError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FileFormatError(file.path, f"does not hold a graphc program ({error})") from None


def load_executable(file: Any, trust: bool | None, threads: int | None = None) -> Executable:
    """An executable from a file that was read: its own machine code where that may run here, else compiled anew."""
    from graphc import storage
    from graphc.storage import FileFormatError

    try:
        options = Options.from_json(file.manifest["options"], threads or config.get(config.THREADS))
        backend = backend_module(options.backend)
        same_machine = file.manifest["machine"] == backend.machine_key() and file.manifest["version"] == version(
            "graphc"
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(file.path, f"is not a saved executable ({error})") from None
    program = program_from_file(file)
    trusted = trust is True or (trust is None and storage.trusts(file))
    code = None
    if same_machine and trusted:
        names = [n for n in file.sections if n.startswith("code.")]
        code = backend.code_from_sections({n.removeprefix("code."): file.section(n) for n in names}, file.path)
    return Executable(program, options, code)


def dumps(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":"), sort_keys=True).encode()


__all__ = ["Executable", "Lowered", "Memory", "Options", "lower", "load_executable", "replace"]
