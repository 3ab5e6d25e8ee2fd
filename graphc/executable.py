"""Executable: a compiled program, its stages to look at, and its file.

An executable is made from a traced program and options. Its machine code comes from the disk cache where the same
program was compiled before on the same kind of machine by the same versions; otherwise passes, fusion, planning and code
generation run. ``exe.plan.schedule.graph`` walks back through the stages; they are computed on demand.
"""

from __future__ import annotations

import functools
import importlib
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from graphc import config
from graphc.calling import (
    NUMBERS,
    ArrayLeaf,
    Leaf,
    Match,
    Signature,
    StaticLeaf,
    matcher,
    rebuilder,
    take_leaves,
)
from graphc.ir import Graph
from graphc.tracing import Program, Tracer, current_trace, root_name, to_node, wrap
from graphc.tree import Tree


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

    peak         the arena: what all temporaries of a call take together.
    scratch      of each thread, beside that.
    unplanned    what the temporaries would take with a buffer each.
    lower_bound  the most bytes of temporaries that live at once, which no plan of these stages can beat.
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
    dump: Any = None  # the folder that GRAPHC_DUMP asks for; what follows goes there too


@dataclass(frozen=True)
class Cost:
    """What one call does, from the plan: floating-point operations, and bytes that kernels read and write.

    A body of ``scan`` counts as often as it runs. That of ``while_loop`` counts once, and ``exact`` is False.
    """

    flops: float
    nbytes: int
    kernels: int
    exact: bool = True

    def __str__(self) -> str:
        at_least = "" if self.exact else "at least "
        return f"{at_least}{self.flops:,.0f} operations and {self.nbytes:,} bytes in {self.kernels:,} kernels a call"


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


def tell(level: int, text: str) -> None:
    """Print to stderr where GRAPHC_DEBUG is at least ``level``."""
    if config.get(config.DEBUG) >= level:
        print(f"graphc: {text}", file=sys.stderr)


class Executable:
    """A compiled program: call it, look at its stages, save it.

    Calling takes the arguments of the traced function and returns its results as fresh arrays. Inside a trace the program
    becomes part of the one that is traced, derivatives included.

    graph      the optimised graph; ``traced`` is the one before passes
    schedule   the graph cut into kernels and stages
    plan       the schedule with every buffer at its place
    source     the generated source of every kernel; ``assembly`` its machine code as text
    memory     planned bytes, see :class:`Memory`; ``cost`` the work of a call, see :class:`Cost`
    seconds    what making it took, by stage; ``cached`` tells whether its machine code was there already
    """

    def __init__(
        self,
        program: Program,
        options: Options,
        code: Any = None,
        *,
        statics: Mapping[int, StaticLeaf] | None = None,
        seconds: Mapping[str, float] | None = None,
    ) -> None:
        self.program = program
        self.options = options
        self.statics = dict(statics or {})
        self.seconds = dict(seconds or {})
        self.cached = code is not None
        self.code = code or self._obtain()
        begin = time.perf_counter()
        self.runner = backend_module(options.backend).load(self.code, options, program)
        self.seconds["link"] = time.perf_counter() - begin
        self._rebuild = rebuilder(program.out_tree)
        parts = ", ".join(f"{stage} {1e3 * s:.1f} ms" for stage, s in self.seconds.items())
        where = "machine code was there" if self.cached else "compiled"
        tell(1, f"{program.graph.name}: {where}, {sum(self.seconds.values()):.3f} s ({parts})")

    # -- calling

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.options.owned:
            raise TypeError("this program keeps its parameters in a training step: call the step")
        leaves = self.match(args, kwargs) if self.match is not None else None
        if leaves is not None:
            return self.call_leaves(leaves)
        leaves = take_leaves(self.signature, self.parameters, args, kwargs)
        if any(isinstance(leaf, Tracer) for leaf in leaves):
            return self._inline(leaves)
        return self.call_leaves(leaves)

    def call_leaves(self, leaves: Sequence[Any]) -> Any:
        """Run on the arrays and numbers among the arguments, in order."""
        return self._rebuild(self.runner.call(leaves))

    def nest_results(self, tree: Tree) -> None:
        """Return results in another nesting of as many leaves."""
        self.program = replace(self.program, out_tree=tree)
        self._rebuild = rebuilder(tree)

    def _inline(self, leaves: Sequence[Any]) -> Any:
        """The program as a node of the one that is being traced."""
        from graphc import ops

        if current_trace() is None:
            raise TypeError("a traced value was used outside its trace")
        graph = self.program.graph
        nodes = []
        for argument, leaf in zip(self.program.arguments, leaves, strict=True):
            node = to_node(leaf, argument.type.dtype if argument.weak or not isinstance(leaf, Tracer) else None)
            if node.type != argument.type:
                raise TypeError(f"{argument.name!r} is {node.type}, expected {argument.type}")
            nodes.append(node)
        called = ops.OPS["call"](*nodes, body=graph, name=graph.name, vjp=None, custom=False)
        return self._rebuild([wrap(node) for node in ops.items(called)])

    @functools.cached_property
    def signature(self) -> Signature:
        """What a call of this executable looks like."""
        arguments = iter(self.program.arguments)
        leaves: list[Leaf] = []
        for k in range(self.program.in_tree.size):
            if k in self.statics:
                leaves.append(self.statics[k])
            else:
                a = next(arguments)
                number = NUMBERS[a.type.dtype.kind] if a.weak else None
                leaves.append(ArrayLeaf(a.type.dtype.numpy, a.type.shape, number))
        return Signature(self.program.in_tree, tuple(leaves))

    @functools.cached_property
    def match(self) -> Match | None:
        """Takes the leaves out of a call of exactly this signature, see :func:`graphc.calling.matcher`."""
        return matcher(self.signature)

    @functools.cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of the positional arguments; those without arrays have none and are numbered."""
        arguments = iter(self.program.arguments)
        found = []
        at = 0
        for k, child in enumerate(self.program.in_tree.children[0].children):
            names = [next(arguments).name for n in range(at, at + child.size) if n not in self.statics]
            at += child.size
            found.append(root_name(names[0]) if names else f"argument {k}")
        return tuple(found)

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
        return self.code.source

    @property
    def assembly(self) -> str:
        """The assembly of all kernels, as text."""
        return backend_module(self.options.backend).assembly(self.code)

    @functools.cached_property
    def memory(self) -> Memory:
        return self.code.memory or memory_of(self.plan)

    @functools.cached_property
    def cost(self) -> Cost:
        return cost_of(self.schedule)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks of the tracer: what was widened to float64 and where, large constants."""
        return self.program.notes

    def profile(self, *args: Any, repeat: int = 20, **kwargs: Any) -> Any:
        """Time per kernel on these arguments: µs, GB/s, GFLOP/s, the share of what this machine can do, the user's lines.

        Prints as a table; ``profile.draw(path)`` draws the schedule with these figures. The machine's limits are measured
        once per process: copying memory, and the register tile of contractions.

        Runs on copies: neither the arguments nor the parameters of a training step change. For the executable of a
        training step, the arguments are the batch.
        """
        signature, names = self.signature, self.parameters
        if self.options.owned:
            signature, names = batch_signature(self)
        leaves = take_leaves(signature, names, args, kwargs)
        return backend_module(self.options.backend).measure(self, leaves, repeat)

    def _repr_html_(self) -> str:
        from graphc.drawing import repr_html

        return repr_html(self.graph)

    def __repr__(self) -> str:
        graph = self.program.graph
        return f"<Executable {graph.name} on {self.options.backend}: {len(graph.inputs)} inputs, {len(graph.outputs)} outputs>"

    # -- compiling and the cache

    def _obtain(self) -> Any:
        """Machine code: from the disk cache, or compiled now and put there."""
        name = self.program.graph.name
        begin = time.perf_counter()
        backend = backend_module(self.options.backend)
        middle = time.perf_counter()
        key = backend.key(self.program.graph, self.options)
        code = backend.cached(key)
        self.seconds |= {"imports": middle - begin, "cache": time.perf_counter() - middle}
        self.cached = code is not None
        if code is None:
            if config.get(config.DEBUG):
                tell(1, f"{name}: not in the cache: {backend.explain(key)}")
            begin = time.perf_counter()
            importlib.import_module("graphc.passes.lowering")
            self.seconds["imports"] += time.perf_counter() - begin
            self.seconds.update(self.lowered.seconds)
            code = backend.build(self.plan, self.options, self.seconds)
            backend.keep(key, code)
        self._show(code)
        return code

    def _show(self, code: Any) -> None:
        """What GRAPHC_DUMP and GRAPHC_DEBUG ask for, also where the machine code was in the cache."""
        wanted = config.get(config.DUMP) is not None
        if wanted or config.get(config.DEBUG) >= 2:
            dump = self.lowered.dump  # lowering shows the stages before this one
            if dump is not None:
                dump.write("source", code.source)
        tell(4, f"{self.program.graph.name}: generated source\n{code.source}")

    # -- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the executable to one file: the portable program, its constants, the plan and the machine code.

        Written atomically. :func:`graphc.load` runs it in another process without this program's source and without
        Numba.
        """
        from graphc import storage
        from graphc.saving import executable_parts

        if self.options.owned:
            raise TypeError("this program keeps its parameters in a training step: save the step, step.save(path)")
        manifest, sections = executable_parts(self)
        storage.write(path, manifest, sections, sign=storage.sign)


def batch_signature(exe: Executable) -> tuple[Signature, tuple[str, ...]]:
    """The signature of an executable without the arguments that it owns, and the names of the rest."""
    tree = exe.program.in_tree
    args, kwargs = tree.children
    count = leaves = 0
    while leaves < len(exe.options.owned):
        leaves += args.children[count].size
        count += 1
    rest = args.children[count:]
    batch = replace(args, children=rest, keys=tuple(range(len(rest))))
    return (
        Signature(replace(tree, children=(batch, kwargs)), exe.signature.leaves[leaves:]),
        exe.parameters[count:],
    )


# ------------------------------------------------------------------------------------------------ figures


def memory_of(plan: Any) -> Memory:
    graph = plan.schedule.graph
    return Memory(
        plan.peak_bytes,
        plan.scratch_bytes,
        plan.unplanned_bytes,
        plan.lower_bound_bytes,
        sum(t.nbytes for t in graph.input_types),
        sum(t.nbytes for t in graph.output_types),
        sum(n.type.nbytes for n in graph.nodes if n.op.name == "constant"),
    )


def cost_of(schedule: Any) -> Cost:
    """The work of a schedule's kernels, those of bodies as often as they run."""
    flops, nbytes, count, exact = 0.0, 0, 0, True
    for kernel in schedule.kernels:
        if kernel.template != "control":
            types = [schedule.values[v].type for v in (*kernel.args, *kernel.results)]
            flops, nbytes, count = flops + operations(kernel.body), nbytes + sum(t.nbytes for t in types), count + 1
            continue
        (node,) = (n for n in kernel.body.nodes if n.op.kind == "control")
        bodies = [cost_of(body) for body in kernel.bodies]
        if node.op.name == "cond":  # the dearest branch
            bodies = [max(bodies, key=lambda cost: (cost.flops, cost.nbytes))]
        times = node["length"] if node.op.name == "scan" else 1
        exact = exact and node.op.name != "while_loop" and all(cost.exact for cost in bodies)
        flops += times * sum(cost.flops for cost in bodies)
        nbytes += times * sum(cost.nbytes for cost in bodies)
        count += times * sum(cost.kernels for cost in bodies)
    return Cost(flops, nbytes, count, exact)


def operations(graph: Graph) -> float:
    """Floating-point operations: two per multiply-add of a contraction or convolution, one per element of the others."""
    total = 0.0
    for node in graph.nodes:
        match node.op.kind, node.op.name:
            case "contraction", _:
                left = node.inputs[0].type
                total += 2.0 * node.type.size * math.prod(left.shape[axis] for axis in node["contract"][0])
            case "window", "conv":
                total += 2.0 * node.type.size * math.prod(node.inputs[1].type.shape[1:])
            case "elementwise", name if name not in ("iota", "cast", "alias", "stop_gradient"):
                total += node.type.size
            case "reduction", _:
                total += node.inputs[0].type.size
    return total


__all__ = ["Cost", "Executable", "Lowered", "Memory", "Options", "backend_module", "lower", "tell"]
