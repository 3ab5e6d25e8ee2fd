"""Tracing a function: which arguments become inputs, running it on tracers, and the program that comes out.

The tracers themselves are in :mod:`graphc.tracers`, whose names are passed on here.
"""

from __future__ import annotations

import enum
import inspect
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.collecting import collector_paused
from graphc.generators import unchanged_generators
from graphc.ir import Graph, Node
from graphc.leaks import TracerError, UnsupportedError, refuse
from graphc.promotion import common_type
from graphc.tracers import (
    FUNCTIONS,
    LEFT_OUT,
    METHODS,
    NAMED_UFUNCS,
    UFUNCS,
    Trace,
    Tracer,
    View,
    apply_ufunc,
    broadcast_together,
    cast_back,
    check_cast,
    current_trace,
    element_type,
    is_tracer,
    is_weak_scalar,
    located,
    note_widening,
    operands,
    operate,
    plain,
    promote,
    to_node,
    to_tracer,
    type_of,
    weak_kind,
    wrap,
)
from graphc.tree import Tree, flatten, unflatten
from graphc.types import DType, TensorType, dtype


@dataclass(frozen=True)
class Spec:
    """The shape and element type of an argument, in place of an array: ``Spec((128, 784), "f32")``.

    >>> Spec((2, 3), "f32")
    Spec(shape=(2, 3), dtype=f32)
    """

    shape: tuple[int, ...]
    dtype: Any = "f32"

    is_pytree_leaf = True

    def __post_init__(self) -> None:
        shape = (self.shape,) if isinstance(self.shape, (int, np.integer)) else self.shape
        object.__setattr__(self, "shape", tuple(int(n) for n in shape))
        object.__setattr__(self, "dtype", dtype(self.dtype))
        if any(n < 0 for n in self.shape):
            raise ValueError(f"Spec: {self.shape} is no shape")

    @property
    def type(self) -> TensorType:
        return TensorType(self.dtype, self.shape)


@dataclass(frozen=True)
class Argument:
    """One traced leaf: its name, type, and whether it is a weak Python scalar."""

    name: str
    type: TensorType
    weak: bool


def argument(value: Any, name: str) -> Argument:
    """How a call argument enters a program. Raises TypeError for what is no array, number or Spec."""
    if isinstance(value, Spec):
        return Argument(name, value.type, False)
    if isinstance(value, Tracer):
        return Argument(name, value._node.type, value._weak)
    if isinstance(value, np.ndarray):
        return Argument(name, TensorType(dtype(plain(value).dtype), value.shape), False)
    if is_weak_scalar(value):
        return Argument(name, TensorType(dtype(np.asarray(value).dtype), ()), True)
    if isinstance(value, np.generic):
        return Argument(name, TensorType(dtype(value.dtype), ()), False)
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        return Argument(name, TensorType(dtype(array.dtype), array.shape), False)
    raise TypeError(
        f"argument {name or 'of the function'} is a {type(value).__name__}; arguments are arrays, numbers and nestings of "
        "dict, list, tuple, namedtuple, dataclass and None; name others in static="
    )


@dataclass(frozen=True)
class Flag:
    """A bool given by keyword (``training=True``): part of the signature, not an input."""

    value: bool

    is_pytree_leaf = True


def flatten_call(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], Tree]:
    """The leaves of a call, static ones among them, and the tree of ``(args, kwargs)``. Bools given by keyword are static."""
    named = {k: Flag(v) if type(v) is bool else v for k, v in kwargs.items()}
    return flatten((tuple(args), named), is_leaf=is_static)


def is_static(value: Any) -> bool:
    """Leaves that are part of the signature rather than inputs: strings, enums, callables, types, flags."""
    if isinstance(value, (np.ndarray, np.generic, Tracer)):
        return False
    return isinstance(value, (str, bytes, enum.Enum, type, slice, range, np.dtype, DType, Flag)) or callable(value)


def unwrapped(value: Any) -> Any:
    return value.value if isinstance(value, Flag) else value


_parameters: weakref.WeakKeyDictionary[Any, list[inspect.Parameter]] = weakref.WeakKeyDictionary()


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of ``function``, empty where it does not tell; looked up once as long as it lives."""
    inner = inspect.unwrap(function, stop=lambda f: hasattr(f, "__signature__"))
    try:
        return _parameters[inner]
    except (KeyError, TypeError):  # TypeError: it has no hash or no weak references
        pass
    try:
        found = list(inspect.signature(inner).parameters.values())
    except (TypeError, ValueError):
        found = []
    try:
        _parameters[inner] = found
    except TypeError:
        pass
    return found


def leaf_names(function: Callable[..., Any], tree: Tree) -> list[str]:
    """Readable names of the leaves of an ``(args, kwargs)`` tree: ``params.w1``, ``x``."""
    parameters = parameters_of(function)
    simple = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind == p.VAR_POSITIONAL), "arg")
    names: list[str] = []
    args, kwargs = tree.children
    for k, child in enumerate(args.children):
        base = simple[k] if k < len(simple) else f"{rest}{k - len(simple)}"
        names.extend(_join(base, p) for p in child.paths)
    for key, child in zip(kwargs.keys, kwargs.children, strict=True):
        names.extend(_join(str(key), p) for p in child.paths)
    return names


def _join(base: str, path: str) -> str:
    return base if not path else base + path if path.startswith("[") else f"{base}.{path}"


def root_name(name: str) -> str:
    """The parameter that a leaf belongs to: ``params`` of ``params.w1``."""
    return name.split(".")[0].split("[")[0]


def output_nodes(value: Any) -> tuple[list[Node], Tree]:
    """The leaves of what a traced function returned, as nodes of the current trace."""
    leaves, tree = flatten(value)
    nodes = []
    for k, leaf in enumerate(leaves):
        if not isinstance(leaf, (Tracer, np.ndarray, np.generic)) and (isinstance(leaf, (str, bytes)) or callable(leaf)):
            path = tree.paths[k]
            raise TypeError(
                f"the traced function returned a {type(leaf).__name__}{f' as {path}' if path else ''}; "
                "return arrays, numbers and nestings of dict, list, tuple, namedtuple, dataclass and None"
            )
        nodes.append(to_node(leaf))
    return nodes, tree


@dataclass(frozen=True, eq=False)
class Program:
    """A traced function: the graph, and how its inputs and outputs nest."""

    graph: Graph
    arguments: tuple[Argument, ...]
    in_tree: Tree
    out_tree: Tree
    notes: tuple[str, ...] = ()


def trace_program(
    function: Callable[..., Any], args: tuple, kwargs: Mapping[str, Any], static: Sequence[str] = ()
) -> Program:
    """Run ``function`` on tracers in place of the array leaves of its arguments; parameters in ``static`` stay as they are."""
    leaves, tree = flatten_call(args, kwargs)
    names = leaf_names(function, tree)
    dynamic = [not (is_static(v) or root_name(n) in static) for v, n in zip(leaves, names, strict=True)]
    arguments = tuple(argument(v, n) for v, n, d in zip(leaves, names, dynamic, strict=True) if d)
    with collector_paused(), unchanged_generators(function, leaves):
        with Trace(graph_name(function)) as trace:
            tracers = iter([trace.input(a.name or "x", a.type, a.weak) for a in arguments])
            filled = [next(tracers) if d else unwrapped(v) for v, d in zip(leaves, dynamic, strict=True)]
            call_args, call_kwargs = unflatten(tree, filled)
            nodes, out_tree = output_nodes(function(*call_args, **call_kwargs))
            graph = trace.graph(nodes)
    return Program(graph, arguments, tree, out_tree, tuple(trace.notes))


def graph_name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", "graph")
    return name if name.isidentifier() else "graph"


__all__ = [
    "FUNCTIONS", "LEFT_OUT", "METHODS", "NAMED_UFUNCS", "UFUNCS", "Argument", "Flag", "Program", "Spec", "Trace", "Tracer",
    "TracerError", "UnsupportedError", "View", "apply_ufunc", "argument", "broadcast_together", "cast_back", "check_cast",
    "common_type", "current_trace", "element_type", "flatten_call", "graph_name", "is_static", "is_tracer",
    "is_weak_scalar", "leaf_names", "located", "note_widening", "operands", "operate", "output_nodes", "promote", "refuse",
    "root_name", "to_node", "to_tracer", "trace_program", "type_of", "unwrapped", "weak_kind", "wrap",
]  # fmt: skip
