"""The invariants of a Graph, checked. The pass manager runs :func:`verify` after every pass.

A violation is a bug of a pass, never of the user. The error shows the offending line of the printed graph:

>>> from graphc import ops
>>> from graphc.ir import Builder, Graph, Node
>>> from graphc.types import TensorType, f32
>>> with Builder("f") as b:
...     x = b.input("x", TensorType(f32, (2,)))
...     graph = b.graph([ops.neg(ops.tanh(x))])
>>> x, v0, v1 = graph.nodes
>>> verify(Graph("f", graph.inputs, graph.outputs, (x, v1, v0)))
Traceback (most recent call last):
    ...
graphc.verifier.VerifyError: v0 reads v1, which is defined below it
    def f(x: f32[2]):
        v0: f32[2] = neg(v1)
                         ^
        v1: f32[2] = tanh(x)
        return v0
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NoReturn
from weakref import WeakSet

from graphc.ir import INPUT, Graph, GraphError, Node, attribute_key
from graphc.text import TextLine, node_names, text_lines
from graphc.types import TensorType, TupleType

#: Lines shown before and after the offending one.
CONTEXT = 3

# A Graph and what it holds never change, so each object is verified once: bodies are shared between passes.
_verified: WeakSet[Graph] = WeakSet()


class VerifyError(GraphError):
    """A broken invariant, shown at its line of the text. ``node`` of ``graph`` is at fault (None: no single one)."""

    def __init__(self, message: str, graph: Graph, node: Node | None) -> None:
        super().__init__(message)
        self.graph, self.node = graph, node


def verify(graph: Graph) -> None:
    """Check every invariant of ``graph`` and of the graphs that its nodes hold. Raises VerifyError."""
    pending = [(graph, False)]
    while pending:
        part, bodies_done = pending.pop()
        if part in _verified:
            continue
        if not bodies_done:  # bodies come first: to compare nodes that hold them takes their digests
            pending.append((part, True))
            pending.extend((body, False) for node in part.nodes if node.attrs for body in node.bodies)
            continue
        _Check(graph, part).run()
        _verified.add(part)


class _Check:
    """The checks of one graph, ``part`` of ``root`` (or ``root`` itself)."""

    def __init__(self, root: Graph, part: Graph) -> None:
        self.root, self.graph = root, part

    def run(self) -> None:
        self.inputs()
        self.nodes()
        self.outputs()
        self.tables()

    # -------------------------------------------------------------------------------------------- the interface

    def inputs(self) -> None:
        names: set[str] = set()
        nodes = set(self.graph.nodes)
        for node in self.graph.inputs:
            if node.op is not INPUT:
                self.fail(None, f"the input {self.name(node)} is a node of op {node.op.name}")
            if not isinstance(node.type, TensorType):
                self.fail(None, f"the input {self.name(node)} is the tuple {node.type}: inputs are tensors")
            if node not in nodes:
                self.fail(None, f"the input {self.name(node)} is not among the nodes", self.name(node))
            if node["name"] in names:
                self.fail(None, f"two inputs are named {node['name']!r}", self.name(node))
            names.add(node["name"])

    def outputs(self) -> None:
        nodes = set(self.graph.nodes)
        for node in self.graph.outputs:
            if node not in nodes:
                self.fail_at_return(f"the output {node!r} is not a node of the graph", "_")
            if not isinstance(node.type, TensorType):
                name = self.name(node)
                self.fail_at_return(f"the output {name} is the tuple {node.type}: return its items", name)

    # -------------------------------------------------------------------------------------------- the nodes

    def nodes(self) -> None:
        """One pass over the nodes. The hot loop of the verifier: what is wrong is worked out after the fact."""
        from graphc.ops import OPS

        seen: set[Node] = set()
        tuples: set[Node] = set()
        interned: dict[Any, Node] = {}
        listed = frozenset(self.graph.inputs)
        for node in self.graph.nodes:
            op, inputs, type_ = node.op, node.inputs, node.type
            if node in seen:
                self.fail(node, f"{self.name(node)} is listed twice")
            if not seen.issuperset(inputs):
                self.fail_operands(node, seen)
            if OPS.get(op.name) is not op:
                self.fail(node, f"the op of {self.name(node)}, {op.name}, is not registered in ops.OPS", op.name)
            if op is INPUT and node not in listed:
                self.fail(node, f"{self.name(node)} is an input that the graph does not list", op.name)
            if tuples and op.name != "item" and not tuples.isdisjoint(inputs):
                self.fail_tuple_read(node, tuples)
            key = (op.name, inputs, self.attribute_keys(node) if node.attrs else ())
            twin = interned.setdefault(key, node)
            if twin is not node and op is not INPUT:
                self.fail(node, f"{self.name(node)} repeats {self.name(twin)}: equal nodes must be one node")
            self.infer(node)
            if type_.__class__ is TupleType:
                tuples.add(node)
            seen.add(node)

    def attribute_keys(self, node: Node) -> tuple[Any, ...]:
        names = [name for name, _ in node.attrs]
        if len(names) > 1 and any(a >= b for a, b in zip(names, names[1:], strict=False)):
            self.fail(node, f"the attributes of {self.name(node)} are not sorted, each once: {', '.join(names)}")
        try:
            return tuple([(name, attribute_key(value)) for name, value in node.attrs])
        except GraphError as error:
            self.fail(node, f"an attribute of {self.name(node)} is of no allowed kind: {error}")

    def infer(self, node: Node) -> None:
        try:
            inferred = node.op.infer(*[i.type for i in node.inputs], **dict(node.attrs))
        except Exception as error:  # whatever a type rule meets in operands or attributes that it does not take
            name = node.op.name
            self.fail(node, f"{self.name(node)}: {name} refuses its operands or attributes: {error}", name)
        if inferred != node.type:
            self.fail(node, f"{self.name(node)} has type {node.type}, but {node.op.name} infers {inferred}")
        for tensor in inferred.items if isinstance(inferred, TupleType) else (inferred,):
            for extent in tensor.shape:
                if type(extent) is not int:
                    self.fail(node, f"{self.name(node)} has an extent that is no int: {extent!r}")

    def fail_operands(self, node: Node, seen: set[Node]) -> NoReturn:
        operand = next(i for i in node.inputs if i not in seen)
        if operand not in set(self.graph.nodes):
            self.fail(node, f"{self.name(node)} reads a node that is not in the graph: {operand!r}", "_")
        name = self.name(operand)
        below = "itself" if operand is node else f"{name}, which is defined below it"
        self.fail(node, f"{self.name(node)} reads {below}", name)

    def fail_tuple_read(self, node: Node, tuples: set[Node]) -> NoReturn:
        name = self.name(next(i for i in node.inputs if i in tuples))
        self.fail(node, f"{self.name(node)} reads the tuple {name}: only item reads a tuple", name)

    # -------------------------------------------------------------------------------------------- the tables

    def tables(self) -> None:
        if not self.graph.lines and not self.graph.adjoints:
            return
        nodes = set(self.graph.nodes)
        for node in self.graph.lines:
            if node not in nodes:
                self.fail(None, f"the table of lines mentions a node that is not in the graph: {node!r}")
        for order, primal, adjoint in self.graph.adjoints:
            missing = [n for n in (primal, adjoint) if n not in nodes]
            if missing:
                self.fail(None, f"the table of adjoints mentions a node that is not in the graph: {missing[0]!r}")
            if primal.type != adjoint.type:
                names = f"{self.name(adjoint)}, the adjoint of {self.name(primal)}"
                self.fail(adjoint, f"{names} (order {order}), is {adjoint.type}, not {primal.type}")

    # -------------------------------------------------------------------------------------------- messages

    def name(self, node: Node) -> str:
        return node_names(self.graph).get(node, "_")

    def fail(self, node: Node | None, reason: str, mark: str = "") -> NoReturn:
        """Raise, showing the line of ``node`` (None: the header) with a caret under the word ``mark``."""
        at = None if node is None or node in self.graph.inputs else node
        place = _first(text_lines(self.root), lambda line: line.graph is self.graph and line.node is at)
        raise VerifyError(reason + _shown(self.root, place, mark) + self.made_by(node), self.graph, node)

    def fail_at_return(self, reason: str, mark: str) -> NoReturn:
        place = _last(text_lines(self.root), lambda line: line.graph is self.graph and line.node is None)
        raise VerifyError(reason + _shown(self.root, place, mark), self.graph, None)

    def made_by(self, node: Node | None) -> str:
        lines = self.graph.lines.get(node, ()) if node is not None else ()
        return f"\nmade by {', '.join(map(str, lines))}" if lines else ""


def _first(lines: Iterable[TextLine], fits: Callable[[TextLine], bool]) -> int:
    return next((k for k, line in enumerate(lines) if fits(line)), 0)


def _last(lines: Iterable[TextLine], fits: Callable[[TextLine], bool]) -> int:
    return max((k for k, line in enumerate(lines) if fits(line)), default=0)


def _shown(root: Graph, place: int, mark: str) -> str:
    """Line ``place`` of the text with its neighbours, and a caret under ``mark`` (or under its first word)."""
    rows = [line.text for line in text_lines(root)]
    shown = []
    for k in range(max(place - CONTEXT, 0), min(place + CONTEXT + 1, len(rows))):
        shown.append(f"\n    {rows[k]}")
        if k == place:
            shown.append(f"\n    {' ' * _column(rows[k], mark)}^")
    return "".join(shown)


def _column(row: str, mark: str) -> int:
    """Where ``mark`` stands as a word, to the right of ``=`` where there is one."""
    start = row.find(" = ") + 1
    found = re.compile(rf"(?<!\w){re.escape(mark)}(?!\w)").search(row, start) if mark else None
    return found.start() if found else len(row) - len(row.lstrip())
