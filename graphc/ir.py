"""The graph: immutable typed nodes, interned by a Builder, collected in a Graph.

Every program, gradient and kernel body in graphc is a :class:`Graph` of :class:`Node`. A node is made by calling an op
(``ops.add(x, y)``) inside a ``with Builder():`` block and never changes. Equal nodes made in one builder are one object,
so common subexpressions are shared by construction:

>>> from graphc import ops, types
>>> with Builder() as b:
...     x = b.input("x", types.TensorType(types.f32, (3,)))
...     same = ops.add(x, x) is ops.add(x, x)
>>> same
True

Nothing in this module recurses over a graph: graphs of 100,000 nodes work.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.looking import Inspectable
from graphc.types import DType, TensorType, TupleType, Type, dtype

KINDS = (
    "input", "constant", "elementwise", "reduction", "contraction", "window", "movement", "indexing", "sort",
    "cumulative", "linalg", "random", "control", "tuple",
)  # fmt: skip


class GraphError(TypeError):
    """A graph that cannot be: operand types that do not fit, a malformed attribute. Names the op and the types."""


class ShapeError(GraphError, ValueError):
    """A GraphError of shapes or attributes, where NumPy raises ValueError: code that catches NumPy's catches this one."""


@dataclass(frozen=True, eq=False, slots=True)
class Op:
    """One primitive: everything that is known about it, in one record.

    name     unique name, also the name in the text form.
    kind     one of KINDS; backends dispatch on it.
    infer    ``infer(*types, **attrs) -> Type``: the only shape and dtype rule. Raises GraphError.
    eval     ``eval(*arrays, **attrs)``: the meaning, in NumPy. A tuple of arrays where the type is a TupleType.
    vjp      ``vjp(ct, out, *inputs, **attrs) -> tuple``: one cotangent node or None (zero) per input. Graph ops only.
             ``out`` is the node itself. For tuple results ``ct`` is a tuple whose absent entries are None.
    partials where the vjp is made operand by operand: ``partials[k](ct, out, *inputs, **attrs)``, or None for zero. What
             nobody asks for is then not made.
    jvp      ``jvp(tangents, out, *inputs, **attrs)``: the tangent node of the result, or None; absent tangents are None.
             For tuple results it returns a tuple.
    batch    ``batch(size, flags, *inputs, **attrs)``: the node over a leading axis of length ``size``; inputs whose flag
             is set carry that axis first. Tuple results: a tuple of nodes, all batched.
    scalar   elementwise: the body as a Python expression with ``{0} {1} …`` for operands and ``{attr}`` for attributes,
             valid on every code-generating backend.
    combine, identity   reductions: the scalar expression of two partial results, and ``identity(dtype) -> number``.
    expand   ``expand(*inputs, **attrs)``: a node of other ops with the same meaning, for ops that no backend knows; the
             pass ``expand_ops`` puts it in their place before fusion. For tuple results it returns a tuple of nodes.
    facts    algebraic facts: commutative, associative, involution, idempotent, linear, constant-time …
    """

    name: str
    kind: str
    infer: Callable[..., Type]
    eval: Callable[..., Any]
    vjp: Callable[..., Sequence[Node | None]] | None = None
    jvp: Callable[..., Any] | None = None
    batch: Callable[..., Any] | None = None
    scalar: str | None = None
    combine: str | None = None
    identity: Callable[[DType], Any] | None = None
    facts: frozenset[str] = frozenset()
    expand: Callable[..., Any] | None = None
    partials: Sequence[Callable[..., Node | None] | None] | None = None

    def __call__(self, *inputs: Node, **attrs: Any) -> Node:
        """The node of this op on ``inputs`` in the current builder."""
        builders = _state.builders
        return (builders[-1] if builders else current_builder()).make(self, inputs, attrs)

    def __repr__(self) -> str:
        return f"<op {self.name}>"


class Array:
    """An immutable array constant as a node attribute, compared by dtype, shape and exact bytes (hashed once)."""

    __slots__ = ("key", "type", "value")

    def __init__(self, value: Any, element: DType | None = None) -> None:
        array = np.array(value, dtype=element.numpy if element else None, order="C")
        array.flags.writeable = False
        self.value = array
        self.type = TensorType(dtype(array.dtype), array.shape)
        body = array.tobytes()
        self.key = (self.type.dtype.name, array.shape, body if len(body) <= 64 else hashlib.sha256(body).digest())

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.value.tobytes()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Array) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"Array({self.type})"


def attribute_key(value: Any) -> Any:
    """A hashable key by exact meaning: ``0.0``, ``-0.0``, ``1``, ``True`` and NaN payloads stay apart."""
    key = _KEYS.get(type(value))
    if key is None:
        key = next((k for kind, k in _KEYS.items() if isinstance(value, kind)), None)
    if key is None:
        raise GraphError(
            f"{value!r} of type {type(value).__name__} cannot be a node attribute; attributes are None, bool, int, float, "
            "str, element types, Array, Graph, and tuples of these"
        )
    return key(value)


def _named_key(value: Any) -> Any:
    return (type(value).__name__, value)


def _same_key(value: Any) -> Any:
    return value


def _tuple_key(value: tuple) -> Any:
    for v in value:
        if type(v) is not int:
            return ("tuple", *[attribute_key(v) for v in value])
    return ("tuple", *value)


#: type of an attribute → its key; subclasses (``np.float64`` of float) count as the first type they are instances of
_KEYS: dict[type, Callable[[Any], Any]] = {
    bool: _named_key,
    type(None): _named_key,
    str: _named_key,
    int: _same_key,
    float: lambda value: ("float", struct.pack("<d", value)),
    tuple: _tuple_key,
    Array: lambda value: ("array", value.key),
    DType: _same_key,
    TensorType: _same_key,
    TupleType: _same_key,
}


class Node:
    """One operation of a graph. Immutable; equality is identity (a Builder interns)."""

    __slots__ = ("op", "inputs", "attrs", "type", "__weakref__")
    __match_args__ = ("op", "inputs")

    op: Op
    inputs: tuple[Node, ...]
    attrs: tuple[tuple[str, Any], ...]
    type: Any  # Type; Any so that rules may say x.type.shape

    def __init__(self, op: Op, inputs: tuple[Node, ...], attrs: tuple[tuple[str, Any], ...], type: Type) -> None:
        set_ = object.__setattr__
        set_(self, "op", op)
        set_(self, "inputs", inputs)
        set_(self, "attrs", attrs)
        set_(self, "type", type)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"nodes are immutable; make a new one instead of setting {name!r}")

    def __getitem__(self, name: str) -> Any:
        for key, value in self.attrs:
            if key == name:
                return value
        raise KeyError(f"{self.op.name} has no attribute {name!r}")

    def attributes(self) -> dict[str, Any]:
        return dict(self.attrs)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def bodies(self) -> tuple[Graph, ...]:
        """The graphs that this node holds (call, scan, cond, while_loop)."""
        found: list[Graph] = []
        for _, value in self.attrs:
            if isinstance(value, Graph):
                found.append(value)
            elif isinstance(value, tuple):
                found.extend(v for v in value if isinstance(v, Graph))
        return tuple(found)

    def __iter__(self) -> Iterator[Node]:
        raise TypeError("a Node is not iterable; read tuple results with ops.item")

    def __repr__(self) -> str:
        attrs = "".join(f", {k}={v!r}" for k, v in self.attrs)
        return f"<{self.op.name}({', '.join(str(n.type) for n in self.inputs)}{attrs}): {self.type}>"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the user's program: file, 1-based line, and the function it is in."""

    file: str
    line: int
    function: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, eq=False)
class Graph(Inspectable):
    """What to compute: named inputs, outputs, and every node in topological order.

    ``lines`` maps a node to the user's lines that made it; ``adjoints`` holds ``(order, primal, adjoint)`` triples
    (many to many: an adjoint may be a primal, and may serve several primals). Both are annotations: they take no part
    in equality of nodes, and the rewrite driver carries them through every pass.
    """

    name: str
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    nodes: tuple[Node, ...]
    lines: Mapping[Node, tuple[Line, ...]] = field(default_factory=dict)
    adjoints: tuple[tuple[int, Node, Node], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "_digest", None)

    @property
    def input_types(self) -> tuple[TensorType, ...]:
        return tuple(n.type for n in self.inputs)

    @property
    def output_types(self) -> tuple[TensorType, ...]:
        return tuple(n.type for n in self.outputs)

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(n["name"] for n in self.inputs)

    @property
    def digest(self) -> str:
        """sha256 of the structure: ops, attributes, wiring. Names of inputs, lines and adjoints do not take part."""
        if self._digest is None:  # type: ignore[attr-defined]
            object.__setattr__(self, "_digest", structural_digest(self))
        return self._digest  # type: ignore[attr-defined]

    def to_text(self, lines: bool = False, roles: bool = False) -> str:
        """The text form; ``lines`` and ``roles`` add the user's lines and what is adjoint to what as comments."""
        from graphc.text import to_text  # upward only for printing

        return to_text(self, lines, roles)

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return f"<Graph {self.name}: {len(self.inputs)} inputs, {len(self.nodes)} nodes, {len(self.outputs)} outputs>"


_KEYS[Graph] = lambda value: ("graph", value.digest)


def structural_digest(graph: Graph) -> str:
    number = {node: k for k, node in enumerate(graph.inputs)}
    sha = hashlib.sha256()
    sha.update(repr(graph.input_types).encode())
    for node in graph.nodes:
        if node in number:
            continue
        number[node] = len(number)
        attrs = [(k, attribute_key(v)) for k, v in node.attrs]
        sha.update(f"{node.op.name} {[number[i] for i in node.inputs]} {attrs} {node.type}\n".encode())
    sha.update(repr([number[o] for o in graph.outputs]).encode())
    return sha.hexdigest()


def topological(outputs: Iterable[Node], stop: Iterable[Node] = ()) -> list[Node]:
    """Every node that ``outputs`` need, operands first; nodes in ``stop`` are listed but not looked behind."""
    done: dict[Node, None] = {}
    barrier = set(stop)
    for root in outputs:
        stack = [root]
        while stack:
            node = stack[-1]
            if node not in done:
                if node.inputs and node not in barrier:
                    for operand in node.inputs[::-1]:
                        if operand not in done:
                            stack.append(operand)
                    if stack[-1] is not node:
                        continue
                done[node] = None
            stack.pop()
    return list(done)


def users(nodes: Iterable[Node]) -> dict[Node, list[Node]]:
    """Node → the nodes that read it, in order, once per reading node."""
    table: dict[Node, list[Node]] = {}
    for node in nodes:
        table.setdefault(node, [])
        for operand in dict.fromkeys(node.inputs):
            table.setdefault(operand, []).append(node)
    return table


class _State(threading.local):
    def __init__(self) -> None:
        self.builders: list[Builder] = []


_state = _State()


def current_builder() -> Builder:
    if not _state.builders:
        raise RuntimeError("no graph is being built here: use `with graphc.ir.Builder():` (or trace a function)")
    return _state.builders[-1]


class Builder:
    """Makes and interns nodes. ``with Builder() as b:`` makes it the one that ops called there build in.

    ``lines`` and ``adjoints`` are collected beside the nodes; ``origin`` (a tuple of Lines or None) is what new nodes
    get as their lines while it is set, and ``locate`` is asked otherwise (the tracer sets it).
    """

    def __init__(self, name: str = "graph") -> None:
        self.name = name
        self.inputs: list[Node] = []
        self.lines: dict[Node, tuple[Line, ...]] = {}
        self.adjoints: dict[tuple[int, Node, Node], None] = {}
        self.adjoint_order: dict[Node, int] = {}  # the highest order at which a node is an adjoint
        self.origin: tuple[Line, ...] | None = None
        self.locate: Callable[[], tuple[Line, ...]] | None = None
        self.filled: dict[Any, Node] = {}  # (element type, shape, number) -> the number in every place of such a tensor
        self._interned: dict[Any, Node] = {}
        self._names: set[str] = set()

    def __enter__(self) -> Builder:
        _state.builders.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _state.builders.pop()

    def input(self, name: str, type: TensorType) -> Node:
        """A new graph input; ``name`` is made unique by a numeric suffix."""
        unique, k = name, 1
        while unique in self._names:
            unique, k = f"{name}_{k}", k + 1
        self._names.add(unique)
        node = Node(INPUT, (), (("name", unique), ("type", type)), type)
        self.inputs.append(node)
        self.record(node)
        return node

    def placeholder(self, type: Type) -> Node:
        """An input that is not listed: transforms trace a function on placeholders and substitute them."""
        return Node(INPUT, (), (("name", "placeholder"), ("type", type)), type)

    def make(self, op: Op, inputs: tuple[Node, ...], attrs: Mapping[str, Any]) -> Node:
        items = () if not attrs else tuple(sorted(attrs.items()) if len(attrs) > 1 else attrs.items())
        key = (op.name, inputs, tuple([(k, attribute_key(v)) for k, v in items])) if items else (op.name, inputs)
        node = self._interned.get(key)
        if node is None:
            node = Node(op, inputs, items, op.infer(*[n.type for n in inputs], **attrs))
            self._interned[key] = node
        self.record(node)
        return node

    def remake(self, node: Node, inputs: tuple[Node, ...]) -> Node:
        """``node`` with other operands of the same types: interned, without inferring the type again."""
        name, attrs = node.op.name, node.attrs
        key = (name, inputs, tuple([(k, attribute_key(v)) for k, v in attrs])) if attrs else (name, inputs)
        found = self._interned.get(key)
        if found is None:
            found = Node(node.op, inputs, node.attrs, node.type)
            self._interned[key] = found
        return found

    def record(self, node: Node) -> None:
        lines = self.origin
        if lines is None:
            lines = self.locate() if self.locate else ()
        if lines and self.lines.setdefault(node, lines) is not lines:
            self.add_lines(node, lines)

    def add_lines(self, node: Node, lines: tuple[Line, ...]) -> None:
        have = self.lines.setdefault(node, lines)
        if have is not lines and any(line not in have for line in lines):
            # A node shared by many lines keeps the first few: the table stays linear in the number of nodes.
            self.lines[node] = tuple(dict.fromkeys(have + lines))[:MAX_LINES]

    def add_adjoint(self, order: int, primal: Node, adjoint: Node) -> None:
        self.adjoints[order, primal, adjoint] = None
        if self.adjoint_order.get(adjoint, 0) < order:
            self.adjoint_order[adjoint] = order

    def graph(
        self,
        outputs: Sequence[Node],
        name: str | None = None,
        inputs: Sequence[Node] | None = None,
        annotated: bool = True,
    ) -> Graph:
        """The Graph of everything that ``outputs`` need, with every input kept; ``annotated`` with lines and adjoints."""
        ordered = tuple(self.inputs if inputs is None else inputs)
        nodes = dict.fromkeys(ordered)
        nodes.update(dict.fromkeys(topological(outputs, stop=ordered)))
        return Graph(
            name or self.name,
            ordered,
            tuple(outputs),
            tuple(nodes),
            {n: self.lines[n] for n in nodes if n in self.lines} if annotated else {},
            tuple(t for t in self.adjoints if t[1] in nodes and t[2] in nodes) if annotated else (),
        )


MAX_LINES = 8


def inline(graph: Graph, operands: Sequence[Node]) -> tuple[Node, ...]:
    """Build ``graph`` on ``operands`` in the current builder; its outputs."""
    builder = current_builder()
    if len(operands) != len(graph.inputs):
        raise GraphError(f"{graph.name} takes {len(graph.inputs)} operands, {len(operands)} given")
    for have, want in zip(operands, graph.inputs, strict=True):
        if have.type != want.type:
            raise GraphError(f"{graph.name} takes {want.type} as {want['name']}, {have.type} given")
    return copy_nodes(builder, graph.nodes, dict(zip(graph.inputs, operands, strict=True)), graph.outputs, graph)


def copy_nodes(
    builder: Builder,
    nodes: Iterable[Node],
    mapping: dict[Node, Node],
    outputs: Sequence[Node],
    tables: Graph | None = None,
) -> tuple[Node, ...]:
    """Remake ``nodes`` (topological) in ``builder`` under ``mapping`` (extended in place), tables carried along."""
    for node in nodes:
        if node not in mapping:
            mapping[node] = builder.remake(node, tuple([mapping[i] for i in node.inputs]))
    if tables is not None:
        carry_tables(builder, tables, mapping)
    return tuple(mapping[o] for o in outputs)


def carry_tables(builder: Builder, graph: Graph, mapping: Mapping[Node, Node]) -> None:
    """Carry the lines and adjoints of ``graph`` over to the nodes that ``mapping`` sends its nodes to."""
    for node, lines in graph.lines.items():
        if node in mapping:
            builder.add_lines(mapping[node], lines)
    for order, primal, adjoint in graph.adjoints:
        if primal in mapping and adjoint in mapping:
            builder.add_adjoint(order, mapping[primal], mapping[adjoint])


def rewrite(graph: Graph, rule: Callable[[Node], Node | None], name: str | None = None) -> Graph:
    """The one rewrite driver: rebuild ``graph`` operands first, offering each rebuilt node to ``rule`` until it declines.

    ``rule`` returns a replacement of the same type, made in the current builder, or None. Replacements are offered
    again; the operands that a rule made on the way are not, so a pass sweeps until the graph stays as it is
    (:func:`fixed_point`). Dead nodes fall away; lines and adjoints follow their nodes.
    """
    mapping: dict[Node, Node] = {}
    settled: dict[Node, Node] = {}
    with Builder(name or graph.name) as builder:
        for node in graph.inputs:
            mapping[node] = builder.input(node["name"], node.type)
        for node in graph.nodes:
            if node in mapping:
                continue
            builder.origin = graph.lines.get(node, ())
            mapping[node] = settle(builder.remake(node, tuple([mapping[i] for i in node.inputs])), rule, settled)
        builder.origin = ()
        carry_tables(builder, graph, mapping)
        return builder.graph([mapping[o] for o in graph.outputs])


def fixed_point(graph: Graph, rule: Callable[[Node], Node | None], sweeps: int = 16) -> Graph:
    """Sweep :func:`rewrite` until nothing changes (at most ``sweeps`` times).

    The same object where nothing did, which need not be verified again.
    """
    fired = False

    def watched(node: Node) -> Node | None:
        nonlocal fired
        found = rule(node)
        fired = fired or (found is not None and found is not node)
        return found

    for _ in range(sweeps):
        fired = False
        after = rewrite(graph, watched)
        if not fired or after.digest == graph.digest:
            break
        graph = after
    return graph


def settle(node: Node, rule: Callable[[Node], Node | None], settled: dict[Node, Node]) -> Node:
    """Apply ``rule`` to ``node``, and to what it is replaced with, until it declines."""
    if node in settled:
        return settled[node]
    chain = [node]
    current = node
    for _ in range(MAX_REWRITES):
        replacement = rule(current)
        if replacement is None or replacement is current:
            break
        if replacement.type != current.type:
            raise GraphError(f"a rewrite replaced {current!r} by {replacement!r}: the types differ")
        if replacement in settled:
            current = settled[replacement]
            break
        current = replacement
        chain.append(current)
    else:
        raise GraphError(f"a rewrite does not end at {node!r}")
    for member in chain:
        settled[member] = current
    return current


MAX_REWRITES = 1000


def _no_eval(*_: Any, **attrs: Any) -> Any:
    raise RuntimeError(f"input {attrs.get('name')!r} has no value: the interpreter binds inputs")


INPUT = Op("input", "input", lambda name, type: type, _no_eval)
