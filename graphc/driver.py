"""The driver: from a traced function to an executable, and the cache between. The one place that imports upward.

    trace_program → passes → fuse → plan → backend.build → Executable

``compile`` makes one executable per signature of its arguments. Passes, fusion and planning run only where the
executable is not in the disk cache, or where somebody asks for its schedule or plan.
"""

from __future__ import annotations

import functools
import inspect
import os
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from graphc import config
from graphc.calling import Match, Signature, signature_of
from graphc.clock import tracing
from graphc.executable import Executable, Options
from graphc.ir import Graph, Node, users
from graphc.remarks import remark
from graphc.tracing import Spec, current_trace, leaf_names, root_name, trace_program
from graphc.types import TensorType

BACKENDS = ("cpu", "reference")
#: So many quick ways are tried, those used last first, before a call is looked up by its signature.
QUICK = 4


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


class Compiled:
    """A function that is compiled once per signature of its arguments. Made by :func:`compile`."""

    def __init__(
        self, function: Callable[..., Any], donate: tuple[Any, ...], static: tuple[Any, ...], options: Options
    ) -> None:
        self.function = function
        self.options = options
        self.static = parameter_names(function, static, "static")
        self.donate = parameter_names(function, donate, "donated")
        both = [name for name in self.donate if name in self.static]
        if both:
            raise ValueError(f"{label(function)}: {both[0]!r} cannot be both static and donated")
        self._executables: dict[Signature, Executable] = {}
        self._quick: tuple[tuple[Match, Callable[[Sequence[Any]], Any]], ...] = ()
        self._lock = threading.Lock()
        functools.update_wrapper(self, function, updated=())
        _alive.add(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if current_trace() is not None:
            return self.function(*args, **kwargs)
        for match, call in self._quick:
            leaves = match(args, kwargs)
            if leaves is not None:
                return call(leaves)
        exe, leaves = self._find(args, kwargs)
        self._prefer(exe)
        return exe.call_leaves(leaves)

    def executable(self, *args: Any, **kwargs: Any) -> Executable:
        """The executable for arguments of these types (arrays, numbers, or Specs); compiled if it is not there yet."""
        return self._find(args, kwargs)[0]

    @property
    def executables(self) -> tuple[Executable, ...]:
        """All that were compiled so far."""
        return tuple(self._executables.values())

    def _find(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Executable, list[Any]]:
        key, leaves = signature_of(args, kwargs, functools.partial(leaf_names, self.function), self.static)
        exe = self._executables.get(key)
        if exe is None:
            with self._lock:
                exe = self._executables.get(key)
                if exe is None:
                    exe = self._executables[key] = self._compile(key, args, kwargs)
        return exe, leaves

    def _prefer(self, exe: Executable) -> None:
        """Try the quick way to ``exe`` first from now on."""
        if exe.match is not None:
            way = (exe.match, exe.call_leaves)
            if way not in self._quick:
                self._quick = (way, *self._quick[: QUICK - 1])

    def _compile(self, key: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Executable:
        with tracing() as seconds:
            program = trace_program(self.function, args, kwargs, self.static)
        donated = [k for k, a in enumerate(program.arguments) if root_name(a.name) in self.donate and not a.weak]
        pairs = match_donations(program.graph, donated)
        warn_unused([program.arguments[k].name for k in donated if k not in dict(pairs)], label(self.function))
        options = replace(self.options, donated=pairs)
        return Executable(program, options, statics=key.statics, seconds=seconds)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        count = len(self._executables)
        return f"<compiled {label(self.function)}: {count} executable{'s' * (count != 1)}>"


_alive: weakref.WeakSet[Compiled] = weakref.WeakSet()


def _after_fork() -> None:
    """In a forked child: threads that were compiling do not exist here."""
    for compiled in list(_alive):
        compiled._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def compile(
    function: Callable[..., Any] | None = None,
    *,
    donate: Any = (),
    static: Any = (),
    backend: str | None = None,
    threads: int | None = None,
) -> Any:
    """Compile ``function``: a function of the same arguments and results that runs natively.

    donate   positions or names of arguments whose memory results of the same type may take over: such a result *is* the
             array that was given. One that cannot be reused (read-only, not contiguous, shared with another argument) is
             copied, with one warning; donated arrays that overlap are a ValueError.
    static   positions or names of arguments that are part of the signature: a new value compiles again. Strings, enums,
             callables and bools given by keyword always are; other numbers are traced unless named here.
    backend  ``"cpu"`` or ``"reference"`` (an interpreter, for debugging); default ``GRAPHC_BACKEND``.
    threads  of one call; default ``GRAPHC_THREADS`` or every core. Results do not depend on it.

    One executable is made per signature (nesting, element types and shapes, static values), by one thread while others
    that need it wait; see :meth:`Compiled.executable`. Results are fresh arrays. Works as a decorator, of methods too
    (``static="self"``). Inside a trace the function is traced through.

    >>> import numpy as np
    >>> f = compile(lambda x: np.tanh(x).sum(), backend="reference")
    >>> float(f(np.zeros(3)))
    0.0
    """
    if function is None:
        return functools.partial(compile, donate=donate, static=static, backend=backend, threads=threads)
    if not callable(function):
        raise TypeError(f"compile takes a function, not a {type(function).__name__}")
    return Compiled(function, as_tuple(donate), as_tuple(static), chosen_options(backend, threads))


def chosen_options(backend: str | None, threads: int | None) -> Options:
    """Options with what the environment says where the caller does not. Raises ValueError for what cannot be."""
    name = config.get(config.BACKEND) if backend is None else backend
    if name not in BACKENDS:
        raise ValueError(f"there is no backend {name!r}; there are {' and '.join(map(repr, BACKENDS))}")
    count = config.get(config.THREADS) if threads is None else threads
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ValueError(f"threads must be a positive number, not {count!r}")
    return Options(name, count)


def as_tuple(value: Any) -> tuple[Any, ...]:
    return (value,) if isinstance(value, (int, str)) else tuple(value)


def label(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)


def parameter_names(function: Callable[..., Any], wanted: Sequence[Any], what: str) -> tuple[str, ...]:
    """The names of the parameters that are given by position or name. Raises ValueError for one that is not there."""
    if not wanted:
        return ()
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise ValueError(f"{label(function)} does not tell its parameters, so none can be {what}") from None
    plain = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    by_name = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    rest = next((p.name for p in parameters if p.kind == p.VAR_POSITIONAL), None)
    more = any(p.kind == p.VAR_KEYWORD for p in parameters)
    names = []
    for one in wanted:
        if isinstance(one, int) and 0 <= one < len(plain):
            names.append(plain[one])
        elif isinstance(one, int) and one >= len(plain) and rest is not None:
            names.append(f"{rest}{one - len(plain)}")  # as tracing names them
        elif isinstance(one, str) and (one in by_name or more):
            names.append(one)
        else:
            raise ValueError(f"{label(function)} has no parameter {one!r} that could be {what}; it has {', '.join(by_name)}")
    return tuple(names)


# ------------------------------------------------------------------------------------------------ donation


def match_donations(graph: Graph, donated: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """``(input, output)`` pairs: which result takes over the memory of each donated input; both have one type.

    A result that is computed from the input element by element goes first, the nearest one: so ``w`` gives its memory to
    ``w - rate * gradient`` and not to the gradient, which would need a copy. What is left is paired in order.
    """
    donated = list(donated)
    if not donated:
        return ()
    readers = users(graph.nodes)
    near = sorted((d, i, o) for i in donated for o, d in distances(graph, graph.inputs[i], readers).items())
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for _, i, o in near:
        if i not in pairs and o not in taken:
            pairs[i] = o
            taken.add(o)
    free: dict[TensorType, list[int]] = {}
    for o in reversed(range(len(graph.outputs))):
        if o not in taken:
            free.setdefault(graph.outputs[o].type, []).append(o)
    for i in donated:
        left = free.get(graph.inputs[i].type)
        if i not in pairs and left:
            pairs[i] = left.pop()
    return tuple(sorted(pairs.items()))


def distances(graph: Graph, start: Node, readers: Mapping[Node, Sequence[Node]], most: int = 16) -> dict[int, int]:
    """Outputs that elementwise nodes of one type lead to from ``start``, with the number of nodes between."""
    found = {start: 0}
    pending = [start]
    for node in pending:
        for reader in readers.get(node, ()):
            alike = reader.op.kind == "elementwise" and reader.type == start.type
            if alike and reader not in found and found[node] < most:
                found[reader] = found[node] + 1
                pending.append(reader)
    return {o: found[node] for o, node in enumerate(graph.outputs) if node in found}


def warn_unused(names: Sequence[str], function: str) -> None:
    if names:
        shown = ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "")
        remark(f"donated to {function}, but no result has their type: {shown}")


__all__ = ["Compiled", "Spec", "compile", "match_donations", "trace"]
