"""The driver: from a traced function to an executable, and the cache between. The one place that imports upward.

    trace_program → passes → fuse → plan → backend.build → Executable

``compile`` makes one executable per signature of its arguments. Passes, fusion and planning run only where the
executable is not in the disk cache, or where somebody asks for its schedule or plan.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc import config
from graphc.executable import Executable, Options
from graphc.ir import Graph
from graphc.tracing import Argument, Program, argument, current_trace, is_static, leaf_names, trace_program
from graphc.tree import Tree, flatten
from graphc.types import TensorType


def trace(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Graph:
    """The graph of ``function`` for arguments of these types (arrays, numbers, or :class:`Spec`), unoptimised.

    >>> import numpy as np
    >>> print(trace(lambda x: np.tanh(x) * 2, Spec((3,))))
    def graph(x: f32[3]):
        v0: f32[3] = tanh(x)
        v1: f32 = const(f32, 2.0)
        v2: f32[3] = broadcast_to(v1, axes=(), shape=(3,))
        v3: f32[3] = mul(v0, v2)
        return v3
    """
    return trace_program(function, args, kwargs).graph


@dataclass(frozen=True)
class Signature:
    """What distinguishes one executable of a function from another: nesting, types, static values."""

    tree: Tree
    leaves: tuple[Any, ...]


class Compiled:
    """A function that is compiled once per signature of its arguments. Made by :func:`compile`."""

    def __init__(
        self, function: Callable[..., Any], donate: tuple[Any, ...], static: tuple[Any, ...], options: Options
    ) -> None:
        self.function = function
        self.donate = donate
        self.static = static
        self.options = options
        self._executables: dict[Signature, Executable] = {}
        self._lock = threading.Lock()
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if current_trace() is not None:
            return self.function(*args, **kwargs)
        exe, leaves = self._find(args, kwargs)
        return exe.call_leaves(leaves)

    def executable(self, *args: Any, **kwargs: Any) -> Executable:
        """The executable for arguments of these types (arrays, numbers, or Specs); compiled if it is not there yet."""
        return self._find(args, kwargs)[0]

    def _find(self, args: tuple, kwargs: dict[str, Any]) -> tuple[Executable, list[Any]]:
        leaves, tree = flatten((args, kwargs), is_leaf=is_static)
        names = static_leaves(self.function, tree, self.static) if self.static else None
        described = []
        dynamic = []
        for k, leaf in enumerate(leaves):
            if (names is not None and names[k]) or is_static(leaf):
                described.append(("static", hashable(leaf)))
            else:
                described.append(leaf_signature(leaf))
                dynamic.append(leaf)
        key = Signature(tree, tuple(described))
        exe = self._executables.get(key)
        if exe is None:
            with self._lock:
                exe = self._executables.get(key)
                if exe is None:
                    exe = self._compile(args, kwargs)
                    self._executables[key] = exe
        return exe, dynamic

    def _compile(self, args: tuple, kwargs: dict[str, Any]) -> Executable:
        program = trace_program(self.function, args, kwargs, tuple(map(str, static_names(self.function, self.static))))
        donated = donated_leaves(program, self.function, self.donate)
        return Executable(program, replace(self.options, donated=match_donations(program.graph, donated)))

    def __repr__(self) -> str:
        return f"<compiled {getattr(self.function, '__name__', 'function')}: {len(self._executables)} executables>"


def compile(
    function: Callable[..., Any] | None = None,
    *,
    donate: Any = (),
    static: Any = (),
    backend: str | None = None,
    threads: int | None = None,
) -> Any:
    """Compile ``function``: a function of the same arguments and results that runs natively.

    donate   positions or names of arguments whose arrays may be overwritten by results of the same type.
    static   positions or names of arguments that are part of the signature: a new value compiles again. Strings, enums
             and callables always are; ints and floats are traced unless named here.
    backend  ``"cpu"`` or ``"reference"`` (an interpreter, for debugging); default ``GRAPHC_BACKEND``.
    threads  of one call; default ``GRAPHC_THREADS`` or every core. Results do not depend on it.

    One executable is made per signature (nesting, element types and shapes, static values); see
    :meth:`Compiled.executable`. Works as a decorator. Inside a trace the function is traced through.

    >>> import numpy as np
    >>> f = compile(lambda x: np.tanh(x).sum(), backend="reference")
    >>> float(f(np.zeros(3)))
    0.0
    """
    if function is None:
        return functools.partial(compile, donate=donate, static=static, backend=backend, threads=threads)
    options = Options(backend or config.get(config.BACKEND), threads or config.get(config.THREADS))
    return Compiled(function, as_tuple(donate), as_tuple(static), options)


def as_tuple(value: Any) -> tuple[Any, ...]:
    return (value,) if isinstance(value, (int, str)) else tuple(value)


def hashable(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"a static argument must be hashable, {value!r} is not") from None
    return (type(value), value)


def leaf_signature(leaf: Any) -> Any:
    """Type of one argument leaf, cheap for arrays."""
    if type(leaf) is np.ndarray:
        return leaf.dtype, leaf.shape
    described = argument(leaf, "")
    return described.type.dtype.numpy, described.type.shape, described.weak


def static_names(function: Callable[..., Any], static: tuple[Any, ...]) -> list[str]:
    """The names of static arguments; positions are looked up in the signature."""
    import inspect

    names = []
    parameters = list(inspect.signature(function).parameters)
    for s in static:
        names.append(parameters[s] if isinstance(s, int) else s)
        if names[-1] not in parameters:
            raise ValueError(
                f"static argument {s!r} is no parameter of {getattr(function, '__name__', 'the function')}"
            )
    return names


def static_leaves(function: Callable[..., Any], tree: Tree, static: tuple[Any, ...]) -> list[bool]:
    names = set(static_names(function, static))
    return [root_name(n) in names for n in leaf_names(function, tree)]


def root_name(name: str) -> str:
    return name.split(".")[0].split("[")[0]


def donated_leaves(program: Program, function: Callable[..., Any], donate: tuple[Any, ...]) -> list[int]:
    """The inputs of the program that belong to donated arguments."""
    if not donate:
        return []
    names = set(static_names(function, donate))
    return [k for k, a in enumerate(program.arguments) if root_name(a.name) in names]


def match_donations(graph: Graph, donated: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """``(input, output)`` pairs: each donated input goes to the first output of its type that is still free."""
    free = list(range(len(graph.outputs)))
    pairs = []
    for k in donated:
        for out in free:
            if graph.outputs[out].type == graph.inputs[k].type:
                free.remove(out)
                pairs.append((k, out))
                break
    return tuple(pairs)


__all__ = ["Argument", "Compiled", "Sequence", "TensorType", "compile", "match_donations", "trace"]
