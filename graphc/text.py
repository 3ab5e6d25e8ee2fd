"""The text form of a Graph, and back: a subset of Python in which a graph is a ``def`` and a node is one statement.

>>> from graphc import ops
>>> from graphc.ir import Builder
>>> from graphc.types import TensorType, f32
>>> with Builder("step") as b:
...     x, w = b.input("x", TensorType(f32, (2, 4))), b.input("w", TensorType(f32, (4, 3)))
...     graph = b.graph([ops.tanh(ops.matmul(x, w))])
>>> print(to_text(graph))
def step(x: f32[2, 4], w: f32[4, 3]):
    v0: f32[2, 3] = dot(x, w, batch=((), ()), contract=((1,), (0,)))
    v1: f32[2, 3] = tanh(v0)
    return v1
>>> to_text(from_text(to_text(graph))) == to_text(graph)
True

Every value is exact: ``0.0``, ``-0.0``, ``1``, ``True`` and the payloads of NaNs stay apart. What Python has no literal
for is written as a call: ``nan(0x7fc00001)`` is a NaN by its bits, ``const(f32[2], [1.0, inf])`` an array. An array of
more than INLINE elements is named by the hash of its bytes, ``const(f32[784, 512], sha256='…')``, and travels beside
the text (:func:`constants`). As an attribute, a scalar's type is ``f32[()]`` (``f32`` is an element type), a tuple's
``tuple[f32[2], i64[2]]``. A graph held by a node is a nested ``def`` above the first node that holds it.

The text is untrusted data: it is parsed with ``ast``, one statement at a time, and nothing in it is evaluated.
"""

from __future__ import annotations

import ast
import hashlib
import keyword
import math
import os
import re
import struct
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from graphc.ir import INPUT, Array, Builder, Graph, GraphError, Node
from graphc.types import DTYPES, DType, TensorType, TupleType, Type

#: Arrays of at most this many elements are written out.
INLINE = 16
#: Headers of ``def`` longer than this have one parameter a line.
WIDTH = 120
#: A text may nest this many ``def``s; no traced program comes near.
MAX_DEPTH = 100

_RESERVED = frozenset(DTYPES) | {"nan", "inf", "const", "tuple", "complex"}


# ------------------------------------------------------------------------------------------------ printing


def to_text(graph: Graph, lines: bool = False, roles: bool = False) -> str:
    """The text of ``graph``. ``lines`` adds comments such as ``# model.py:31``, ``roles`` such as ``# adjoint of v3``.

    The parser ignores comments: they are outside the law of the round trip.
    """
    return "\n".join(line.text for line in text_lines(graph, lines, roles))


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of the text: the graph (or body) that it belongs to, and its node (None in headers and returns)."""

    text: str
    graph: Graph
    node: Node | None


def text_lines(graph: Graph, lines: bool = False, roles: bool = False) -> Iterator[TextLine]:
    """The lines of :func:`to_text` with what they show. Prints malformed graphs too: an unknown operand is ``_``."""
    stack = [_print_graph(graph, identifier(graph.name), "", lines, roles)]
    while stack:
        item = next(stack[-1], None)
        if item is None:
            stack.pop()
        elif isinstance(item, TextLine):
            yield item
        else:
            body, name, indent = item
            stack.append(_print_graph(body, name, indent, lines, roles))


def node_names(graph: Graph) -> dict[Node, str]:
    """The name of every node in the text: inputs by their own (made identifiers, and unique), the others v0, v1, …"""
    taken: set[str] = set()
    names: dict[Node, str] = {}
    for node in graph.inputs:
        names[node] = _unique(identifier(str(dict(node.attrs).get("name", "input"))), taken)
    k = 0
    for node in graph.nodes:
        if node in names:
            continue
        while f"v{k}" in taken:
            k += 1
        names[node] = f"v{k}"
        k += 1
    return names


def constants(graph: Graph) -> dict[str, np.ndarray]:
    """The arrays that the text of ``graph`` names by their sha256 (those of more than INLINE elements)."""
    found: dict[str, np.ndarray] = {}
    pending: list[Any] = [graph]
    while pending:
        match pending.pop():
            case Graph(nodes=nodes):
                pending.extend(value for node in nodes for _, value in node.attrs)
            case tuple() as values:
                pending.extend(values)
            case Array() as array if array.value.size > INLINE:
                found[_sha256(array)] = array.value
    return found


def identifier(name: str) -> str:
    """``name`` as a Python identifier that is no keyword: ``params['w']`` becomes ``params_w``."""
    name = unicodedata.normalize("NFKC", name)  # as Python's own parser does
    if not name.isidentifier():
        name = re.sub(r"\W+", "_", name).strip("_")
    if not name.isidentifier():
        name = "_" + re.sub(r"[^A-Za-z0-9_]", "_", name)
    return f"{name}_" if keyword.iskeyword(name) else name


def _unique(name: str, taken: set[str]) -> str:
    unique, k = name, 1
    while unique in taken:
        unique, k = f"{name}_{k}", k + 1
    taken.add(unique)
    return unique


_Nested = tuple[Graph, str, str]


def _print_graph(graph: Graph, name: str, indent: str, lines: bool, roles: bool) -> Iterator[TextLine | _Nested]:
    names = node_names(graph)
    inputs = frozenset(graph.inputs)
    bodies: dict[Graph, str] = {}
    taken = set(_RESERVED)
    notes = _notes(graph, names, lines, roles) if lines or roles else {}
    for text in _header(name, [f"{names[n]}: {n.type}" for n in graph.inputs], indent):
        yield TextLine(text, graph, None)
    inner = indent + "    "
    for node in graph.nodes:
        if node in inputs:
            continue
        for body in _held_graphs(node):
            if body not in bodies:
                bodies[body] = _unique(identifier(body.name), taken)
                yield body, bodies[body], inner
        text = f"{inner}{names[node]}: {node.type!r} = {_call_text(node, names, bodies)}{notes.get(node, '')}"
        yield TextLine(text, graph, node)
    outputs = ", ".join(names.get(o, "_") for o in graph.outputs)
    yield TextLine(f"{inner}return {outputs}".rstrip(), graph, None)


def _header(name: str, parameters: Sequence[str], indent: str) -> list[str]:
    one = f"{indent}def {name}({', '.join(parameters)}):"
    if len(one) <= WIDTH or not parameters:
        return [one]
    return [f"{indent}def {name}(", *(f"{indent}        {p}," for p in parameters), f"{indent}):"]


def _held_graphs(node: Node) -> list[Graph]:
    """Every Graph among the attributes, at any depth of tuples."""
    found: list[Graph] = []
    pending = [value for _, value in reversed(node.attrs)]
    while pending:
        value = pending.pop()
        if isinstance(value, Graph):
            found.append(value)
        elif isinstance(value, tuple):
            pending.extend(reversed(value))
    return found


def _notes(graph: Graph, names: Mapping[Node, str], lines: bool, roles: bool) -> dict[Node, str]:
    """The comment of each node that has one."""
    parts: dict[Node, list[str]] = {}
    if roles:
        parts.update((node, [note]) for node, note in adjoint_notes(graph, names).items())
    if lines:
        for node, made_by in graph.lines.items():
            parts.setdefault(node, []).extend(f"{os.path.basename(line.file)}:{line.line}" for line in made_by)
    return {node: "  # " + _printable("; ".join(dict.fromkeys(found))) for node, found in parts.items()}


def adjoint_notes(graph: Graph, names: Mapping[Node, str]) -> dict[Node, str]:
    """What each adjoint node is the adjoint of, in words: ``adjoint of v3, x``, ``order-2 adjoint of v7``."""
    primals: dict[Node, dict[int, list[str]]] = {}
    for order, primal, adjoint in graph.adjoints:
        primals.setdefault(adjoint, {}).setdefault(order, []).append(names.get(primal, "_"))
    return {
        node: "; ".join(
            f"{'adjoint' if order == 1 else f'order-{order} adjoint'} of {', '.join(dict.fromkeys(found))}"
            for order, found in orders.items()
        )
        for node, orders in primals.items()
    }


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]


def _call_text(node: Node, names: Mapping[Node, str], bodies: Mapping[Graph, str]) -> str:
    operands = [names.get(i, "_") for i in node.inputs]
    match node.op.name, operands, node.attrs:
        case "item", [operand], (("index", int(index)),):
            return f"{operand}[{index}]"
        case "constant", [], (("value", Array() as array),):
            return _const_text(array)
    attrs = [f"{key}={value_text(value, bodies)}" for key, value in node.attrs]
    return f"{node.op.name}({', '.join(operands + attrs)})"


def value_text(value: Any, bodies: Mapping[Graph, str] | None = None) -> str:
    """An attribute as text, exactly. ``bodies`` names the graphs that it may hold."""
    match value:
        case bool() | None | str():
            return repr(value)
        case int():
            return int.__repr__(value)
        case float():
            return _float_text(value)
        case tuple():
            inner = [value_text(v, bodies) for v in value]
            return f"({inner[0]},)" if len(inner) == 1 else f"({', '.join(inner)})"
        case DType():
            return value.name
        case TensorType():
            return repr(value) if value.shape else f"{value.dtype.name}[()]"
        case TupleType():
            return f"tuple[{', '.join(value_text(t) for t in value.items) or '()'}]"
        case Array():
            return _const_text(value)
        case Graph():
            return bodies.get(value, "_") if bodies else "_"
    return f"<{type(value).__name__}>"  # no attribute: only a malformed graph gets here


def _float_text(value: float) -> str:
    if math.isnan(value):
        return _nan_text(struct.unpack("<Q", struct.pack("<d", value))[0], 8)
    return repr(float(value))


_QUIET_NAN = {"f16": 0x7E00, "bf16": 0x7FC0, "f32": 0x7FC00000, "f64": 0x7FF8000000000000}


def _nan_text(bits: int, itemsize: int, plain: int = _QUIET_NAN["f64"]) -> str:
    return "nan" if bits == plain else f"nan(0x{bits:0{2 * itemsize}x})"


def _const_text(array: Array) -> str:
    content = f"sha256={_sha256(array)!r}" if array.value.size > INLINE else array_text(array)
    return f"const({array.type}, {content})"


def array_text(array: Array) -> str:
    """The elements as nested lists; a zero-size array of any shape is ``[]``."""
    if not array.value.size:
        return "[]"
    items = _element_texts(array.value, array.type.dtype)
    for extent in reversed(array.value.shape):
        items = [f"[{', '.join(items[k : k + extent])}]" for k in range(0, len(items), extent)]
    return items[0]


def _element_texts(values: np.ndarray, element: DType) -> list[str]:
    flat = values.reshape(-1)
    match element.kind:
        case "f":
            return [_element_float_text(x, element) for x in flat]
        case "c":
            half = DTYPES["f32" if element.name == "c64" else "f64"]
            parts = [_element_float_text(x, half) for x in flat.view(half.numpy)]
            return [f"complex({re_}, {im})" for re_, im in zip(parts[::2], parts[1::2], strict=True)]
    return [repr(x) for x in flat.tolist()]


def _element_float_text(x: Any, element: DType) -> str:
    """The shortest decimal that reads back as exactly ``x``; NaNs by their bits unless they are the usual one."""
    wide = float(x)
    if math.isnan(wide):
        return _nan_text(int(x.view(f"u{element.itemsize}")), element.itemsize, _QUIET_NAN[element.name])
    # Reading goes through f64, where a short text may round to the neighbour: so each is tried.
    shorter = (repr(float(f"{wide:.{digits}g}")) for digits in range(1, 10 if element.name != "f64" else 1))
    with np.errstate(over="ignore"):
        return next((text for text in shorter if np.array(float(text)).astype(element.numpy) == x), repr(wide))


def _sha256(array: Array) -> str:
    """The hash of the array's bytes, taken from its key where it is there."""
    body = array.key[2]
    return body.hex() if array.value.nbytes > 64 else hashlib.sha256(body).hexdigest()


# ------------------------------------------------------------------------------------------------ parsing


class TextError(ValueError):
    """A text that is no graph: names the line and shows it, with a caret under the place. ``line`` is 1-based."""

    def __init__(self, reason: str, line: int, source: str = "", column: int = 0) -> None:
        caret = f"\n    {source}\n    {' ' * column}^" if source.strip() else ""
        super().__init__(f"line {line}: {reason}{caret}")
        self.reason, self.line, self.column = reason, line, column


def from_text(text: str, constants: Mapping[str, np.ndarray] | None = None) -> Graph:
    """The Graph of ``text``; ``constants`` holds the arrays that it names by sha256.

    Types are inferred again and compared with the printed ones. Raises TextError, whatever the text is.
    """
    return _Parser(constants or {}).parse(text)


@dataclass(slots=True)
class _Statement:
    """A logical line: its first physical line's number, its indentation, and its source without that indentation."""

    line: int
    indent: int
    source: str

    def fail(self, reason: str, at: Any = None) -> NoReturn:
        """Raise a TextError that points at an ``ast`` node (or at the start)."""
        row = getattr(at, "lineno", 1) - 1
        column = getattr(at, "col_offset", 0)
        self.fail_at(reason, row, column)

    def fail_at(self, reason: str, row: int, byte_column: int) -> NoReturn:
        rows = self.source.split("\n")
        row = min(max(row, 0), len(rows) - 1)
        column = len(rows[row].encode()[: max(byte_column, 0)].decode(errors="ignore"))
        left = " " * self.indent if row == 0 else ""
        raise TextError(reason, self.line + row, left + rows[row], len(left) + column)


@dataclass(slots=True)
class _Scope:
    """A ``def`` that is being read."""

    name: str
    outer_indent: int
    builder: Builder
    values: dict[str, Node] = field(default_factory=dict)
    graphs: dict[str, Graph] = field(default_factory=dict)
    nodes: dict[Node, str] = field(default_factory=dict)
    indent: int = -1  # of its body, set by the first statement there


_TOKEN = re.compile(r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|\#[^\n]*|[()\[\]{}]""")


def _logical_lines(text: str) -> Iterator[_Statement]:
    """Statements: physical lines, joined while a bracket is open; blank lines and comments are left out."""
    first, depth = 0, 0
    joined: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.rstrip("\r")
        if depth == 0 and (not line.strip() or line.lstrip().startswith("#")):
            continue
        if depth == 0:
            first, joined = number, []
        joined.append(line)
        depth += sum(1 if t in "([{" else -1 if t in ")]}" else 0 for t in _TOKEN.findall(line))
        if depth <= 0:
            depth = 0
            yield _statement(first, joined)
    if depth:
        raise TextError("a bracket is not closed", first, joined[0])


def _statement(first: int, rows: Sequence[str]) -> _Statement:
    stripped = rows[0].lstrip(" ")
    indent = len(rows[0]) - len(stripped)
    if stripped[0] in "\t\f\v" or not stripped[0].isprintable():
        raise TextError("indent with spaces", first, rows[0], indent)
    return _Statement(first, indent, "\n".join([stripped, *rows[1:]]))


class _Parser:
    """Reads statements into a stack of scopes: the innermost ``def`` is the last."""

    def __init__(self, constants: Mapping[str, np.ndarray]) -> None:
        from graphc.ops import OPS

        self.ops = OPS
        self.constants = constants
        self.arrays: dict[tuple[str, TensorType], Array] = {}  # hashed once
        self.types: dict[bytes, Type] = {}  # by source
        self.scopes: list[_Scope] = []
        self.result: Graph | None = None
        self.at = _Statement(1, 0, "")  # what is being read

    def parse(self, text: str) -> Graph:
        for self.at in _logical_lines(text):
            if self.result is not None:
                self.at.fail("a text holds one graph; this stands after its return")
            self.statement()
        if self.scopes:
            raise TextError(f"{self.scopes[-1].name} has no return", self.at.line + 1)
        if self.result is None:
            raise TextError("there is no graph here: it starts with `def`", 1)
        return self.result

    def statement(self) -> None:
        is_def = self.at.source.startswith("def ")
        tree = _ast(self.at, "\n pass" if is_def else "")
        if not self.scopes:
            if not isinstance(tree, ast.FunctionDef) or self.at.indent:
                self.at.fail("a graph starts with `def` at the left margin")
        else:
            self.check_indent()
        match tree:
            case ast.FunctionDef() if is_def:
                self.open(tree)
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=ast.expr() as value):
                self.assign(name, annotation, value)
            case ast.Return(value=value):
                self.close(value)
            case _:
                self.at.fail("a statement of a graph is `v0: f32[2] = op(x, attribute=...)`, a `def` or a `return`")

    def check_indent(self) -> None:
        scope = self.scopes[-1]
        if scope.indent < 0 and self.at.indent > scope.outer_indent:
            scope.indent = self.at.indent
        if self.at.indent != scope.indent:
            here = f"indented by {scope.indent}" if scope.indent >= 0 else "indented more than its def"
            self.at.fail(f"this is indented by {self.at.indent}, the statements of {scope.name} are {here}")

    # -------------------------------------------------------------------------------------------- def and return

    def open(self, tree: ast.FunctionDef) -> None:
        if len(self.scopes) >= MAX_DEPTH:
            self.at.fail(f"more than {MAX_DEPTH} nested defs")
        arguments = tree.args
        extra = [arguments.vararg, arguments.kwarg, tree.returns, *arguments.kwonlyargs, *arguments.defaults]
        if arguments.posonlyargs or tree.decorator_list or any(part is not None for part in extra):
            self.at.fail(f"the parameters of {tree.name} are plain: `name: type`")
        if self.scopes and (tree.name in self.scopes[-1].graphs or tree.name in _RESERVED):
            self.at.fail(f"the name {tree.name} is taken")
        scope = _Scope(tree.name, self.at.indent, Builder(tree.name))
        for parameter in arguments.args:
            if parameter.annotation is None:
                self.at.fail(f"parameter {parameter.arg} needs a type", parameter)
            if parameter.arg in scope.values:
                self.at.fail(f"two parameters are named {parameter.arg}", parameter)
            type_ = self.type(parameter.annotation)
            if not isinstance(type_, TensorType):
                self.at.fail(f"parameter {parameter.arg} must be a tensor, not {type_}", parameter.annotation)
            node = scope.builder.input(parameter.arg, type_)
            scope.values[parameter.arg] = node
            scope.nodes[node] = parameter.arg
        self.scopes.append(scope)

    def close(self, value: ast.expr | None) -> None:
        scope = self.scopes[-1]
        parts = [] if value is None else value.elts if isinstance(value, ast.Tuple) else [value]
        outputs = [self.operand(part) for part in parts]
        for part, node in zip(parts, outputs, strict=True):
            if not isinstance(node.type, TensorType):
                self.at.fail(f"a graph returns tensors; this is the tuple {node.type}: return its items", part)
        graph = Graph(scope.name, tuple(scope.builder.inputs), tuple(outputs), tuple(scope.nodes))
        self.scopes.pop()
        if self.scopes:
            self.scopes[-1].graphs[scope.name] = graph
        else:
            self.result = graph

    # -------------------------------------------------------------------------------------------- nodes

    def assign(self, name: str, annotation: ast.expr, value: ast.expr) -> None:
        scope = self.scopes[-1]
        if name in scope.values:
            self.at.fail(f"{name} is defined twice")
        printed = self.type(annotation)
        node = self.node(value)
        if node.type != printed or repr(node.type) != repr(printed):  # in a shape, 1 == True
            self.at.fail(f"{name} is {node.type}, not {printed}", annotation)
        if node in scope.nodes:
            self.at.fail(f"{name} repeats {scope.nodes[node]}: equal nodes are one node", value)
        scope.nodes[node] = name
        scope.values[name] = node

    def node(self, value: ast.expr) -> Node:
        match value:
            case ast.Subscript(value=ast.Name() as source, slice=ast.Constant(value=index)):
                operand = self.operand(source)
                return self.make(value, "item", (operand,), {"index": index})
            case ast.Call(func=ast.Name(id="const")):
                return self.make(value, "constant", (), {"value": self.array(value)})
            case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
                operands = tuple([self.operand(a) for a in args])
                attrs: dict[str, Any] = {}
                for item in keywords:
                    if item.arg is None or item.arg in attrs:
                        self.at.fail("attributes are written `name=value`, each once", item)
                    attrs[item.arg] = self.value(item.value)
                return self.make(value, name, operands, attrs)
        self.at.fail("a node is `op(operands, attributes)`, `const(...)` or `v0[1]`", value)

    def make(self, at: ast.expr, name: str, operands: tuple[Node, ...], attrs: dict[str, Any]) -> Node:
        op = self.ops.get(name)
        if op is None or op is INPUT:
            self.at.fail(f"there is no op {name!r}" if op is None else "inputs are parameters of the def", at)
        try:
            return self.scopes[-1].builder.make(op, operands, attrs)
        except GraphError as error:
            self.at.fail(str(error), at)
        except Exception as error:  # operands or attributes of a wrong kind, met by a type rule that trusts them
            types = ", ".join(str(o.type) for o in operands)
            self.at.fail(f"{name} does not take ({types}) with attributes {', '.join(attrs) or 'none'}: {error}", at)

    def operand(self, part: ast.expr) -> Node:
        if not isinstance(part, ast.Name):
            self.at.fail("operands are names of nodes", part)
        node = self.scopes[-1].values.get(part.id)
        if node is None:
            self.at.fail(f"{part.id} is not defined above", part)
        return node

    # -------------------------------------------------------------------------------------------- attributes

    def value(self, part: ast.expr) -> Any:
        match part:
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                return value
            case ast.Tuple(elts=elements):
                return tuple([self.value(e) for e in elements])
            case ast.Call(func=ast.Name(id="const")):
                return self.array(part)
            case ast.Name(id=name) if name in self.scopes[-1].graphs:
                return self.scopes[-1].graphs[name]
            case ast.Name(id=name) if name in DTYPES:
                return DTYPES[name]
            case ast.Subscript(value=ast.Name(id="tuple"), slice=inner):
                return TupleType(tuple([self.tensor(e) for e in _elements(inner)]))
            case ast.Subscript():
                return self.tensor(part)
        number = _number(part)
        if number is None:
            self.at.fail("not a value of an attribute", part)
        return _float_of_bits(self.at, part, number, 8) if isinstance(number, _Bits) else number

    def type(self, part: ast.expr) -> Type:
        rows = self.at.source.encode().split(b"\n")
        raw = rows[part.lineno - 1][part.col_offset : part.end_col_offset] if part.lineno == part.end_lineno else b""
        found = self.types.get(raw)
        if found is None:
            tensors = [self.tensor(e) for e in part.elts] if isinstance(part, ast.Tuple) else None
            found = self.tensor(part) if tensors is None else TupleType(tuple(tensors))
            if raw:
                self.types[raw] = found
        return found

    def tensor(self, part: ast.expr) -> TensorType:
        match part:
            case ast.Name(id=name) if name in DTYPES:
                return TensorType(DTYPES[name], ())
            case ast.Subscript(value=ast.Name(id=name), slice=inner) if name in DTYPES:
                extents = [e.value if isinstance(e, ast.Constant) else None for e in _elements(inner)]
                if all(type(n) is int for n in extents):
                    return TensorType(DTYPES[name], tuple(extents))  # type: ignore[arg-type]
        self.at.fail("not a type: types are written f32, f32[2, 4]", part)

    # -------------------------------------------------------------------------------------------- arrays

    def array(self, call: ast.Call) -> Array:
        match call:
            case ast.Call(args=[kind, values], keywords=[]):
                return _inline_array(self.at, self.tensor(kind), values)
            case ast.Call(args=[kind], keywords=[ast.keyword(arg="sha256", value=ast.Constant(value=str(digest)))]):
                return self.named_array(call, self.tensor(kind), digest)
        self.at.fail("constants are written const(f32[2], [1.0, 2.0]) or const(f32[50], sha256='...')", call)

    def named_array(self, call: ast.Call, type: TensorType, digest: str) -> Array:
        """The array of ``type`` whose bytes have that hash: equal bytes of several types are one entry of the table."""
        if (digest, type) in self.arrays:
            return self.arrays[digest, type]
        if digest not in self.constants:
            self.at.fail(f"the constant with sha256 {digest!r} was not given", call)
        given = np.ascontiguousarray(self.constants[digest])
        if given.nbytes != type.nbytes or type.size <= INLINE:
            self.at.fail(f"the constant given for this has {given.nbytes} bytes", call)
        array = Array(given.reshape(-1).view(np.uint8).view(type.dtype.numpy).reshape(type.shape))
        if _sha256(array) != digest:
            self.at.fail("the constant given for this has another sha256", call)
        if type.dtype.kind == "b" and array.value.view(np.uint8).max() > 1:
            self.at.fail("the constant given for this is not of bools", call)
        self.arrays[digest, type] = array
        return array


def _ast(statement: _Statement, tail: str) -> ast.stmt:
    try:
        body = ast.parse(statement.source + tail).body
    except SyntaxError as error:
        statement.fail_at(error.msg, (error.lineno or 1) - 1, _byte_column(statement, error))
    except (ValueError, MemoryError, RecursionError) as error:
        statement.fail(f"cannot be read: {error or type(error).__name__}")
    if len(body) != 1:
        statement.fail("one statement a line")
    return body[0]


def _byte_column(statement: _Statement, error: SyntaxError) -> int:
    rows = statement.source.split("\n")
    row = rows[min((error.lineno or 1) - 1, len(rows) - 1)]
    return len(row[: max((error.offset or 1) - 1, 0)].encode())


def _elements(part: ast.expr) -> list[ast.expr]:
    return part.elts if isinstance(part, ast.Tuple) else [part]


@dataclass(frozen=True, slots=True)
class _Bits:
    """A NaN given by its bits."""

    bits: int


def _number(part: ast.expr) -> bool | int | float | _Bits | None:
    match part:
        case ast.Constant(value=bool() | int() | float() as value):
            return value
        case ast.Name(id="nan"):
            return math.nan
        case ast.Name(id="inf"):
            return math.inf
        case ast.UnaryOp(op=ast.USub(), operand=ast.Name(id="inf")):
            return -math.inf
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=bool())):
            return None
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Call(func=ast.Name(id="nan"), args=[ast.Constant(value=int() as bits)], keywords=[]):
            return _Bits(bits)
    return None


def _float_of_bits(statement: _Statement, part: ast.expr, number: _Bits, itemsize: int) -> float:
    if number.bits >= 1 << 8 * itemsize:
        statement.fail(f"a NaN of {itemsize} bytes has no such bits", part)
    value = struct.unpack("<d", struct.pack("<Q", number.bits))[0]
    if not math.isnan(value):
        statement.fail("these are not the bits of a NaN", part)
    return value


def _inline_array(statement: _Statement, type: TensorType, values: ast.expr) -> Array:
    if type.size > INLINE:
        statement.fail(f"a constant of more than {INLINE} elements is named by its sha256", values)
    flat = _flat(statement, type.shape, values)
    element = type.dtype
    if element.kind == "c":
        half = DTYPES["f32" if element.name == "c64" else "f64"]
        parts = [_element(statement, p, half) for pair in flat for p in _complex_parts(statement, pair)]
        return Array(_from_bits(parts, half).view(element.numpy).reshape(type.shape))
    return Array(_from_bits([_element(statement, e, element) for e in flat], element).reshape(type.shape))


def _flat(statement: _Statement, shape: Sequence[int], values: ast.expr) -> list[ast.expr]:
    """The elements of nested lists of ``shape``."""
    if 0 in shape:
        if not isinstance(values, ast.List) or values.elts:
            statement.fail("a constant without elements is written []", values)
        return []
    level = [values]
    for extent in shape:
        for part in level:
            if not isinstance(part, ast.List) or len(part.elts) != extent:
                statement.fail(f"shape {tuple(shape)} needs a list of {extent} here", part)
        level = [e for part in level if isinstance(part, ast.List) for e in part.elts]
    return level


def _complex_parts(statement: _Statement, part: ast.expr) -> Iterable[ast.expr]:
    match part:
        case ast.Call(func=ast.Name(id="complex"), args=[real, imaginary], keywords=[]):
            return (real, imaginary)
    statement.fail("complex numbers are written complex(1.0, -0.0)", part)


def _element(statement: _Statement, part: ast.expr, element: DType) -> int:
    """The bits of one element of a constant."""
    number = _number(part)
    unsigned = np.dtype(f"u{element.itemsize}")
    match element.kind, number:
        case "b", bool():
            return int(number)
        case (("i" | "u"), int()) if not isinstance(number, bool):
            limits = np.iinfo(element.numpy)
            if limits.min <= number <= limits.max:
                return number % (1 << 8 * element.itemsize)
        case "f", _Bits(bits) if bits < 1 << 8 * element.itemsize:
            if np.isnan(np.array(bits, unsigned).view(element.numpy)):
                return bits
        case "f", float():
            if math.isnan(number):
                return _QUIET_NAN[element.name]
            with np.errstate(over="ignore"):
                return int(np.array(number).astype(element.numpy).view(unsigned))
    statement.fail(f"not an element of {element.name}", part)


def _from_bits(bits: Sequence[int], element: DType) -> np.ndarray:
    return np.array(bits, np.dtype(f"u{element.itemsize}")).view(element.numpy)
