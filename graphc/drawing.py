"""Drawings: a Graph, a Schedule or a Plan as DOT text, as a picture, and as a networkx graph.

>>> from graphc import ops
>>> from graphc.ir import Builder
>>> from graphc.types import TensorType, f32
>>> with Builder("f") as b:
...     x = b.input("x", TensorType(f32, (2,)))
...     graph = b.graph([ops.tanh(x)])
>>> sorted(to_networkx(graph).nodes(data="role"))
[('v0', 'forward'), ('x', 'input')]

DOT text is made with the ``graphviz`` package. A picture is rendered by the program ``dot`` where it is installed, else
by ``pygraphviz``, whose wheel carries the layout; without either the DOT text is written and a warning says what to
install.
"""

from __future__ import annotations

import contextlib
import html
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from graphc.ir import Graph, Node, topological
from graphc.storage.files import write_atomically
from graphc.text import adjoint_notes, array_text, identifier, node_names, value_text

#: Pictures of more nodes than this are cut off, with a note: nobody reads them, and layout takes minutes.
LIMIT = 400

SUFFIXES = (".svg", ".png", ".pdf", ".dot")

INSTALL = (
    "pictures need the Graphviz program `dot` (https://graphviz.org/download/) or the package pygraphviz "
    "(pip install 'graphc[viz]')"
)

_FONT = {"fontname": "Helvetica,Arial,sans-serif"}
_GRAPH_STYLE = {"rankdir": "TB", "nodesep": "0.3", "ranksep": "0.45", "fontsize": "12", "compound": "true", **_FONT}
_NODE_STYLE = {
    "style": "filled,rounded", "shape": "box", "fontsize": "12", "height": "0.3", "margin": "0.12,0.06", **_FONT
}  # fmt: skip
_EDGE_STYLE = {"fontsize": "9", "fontcolor": "#666666", "color": "#555555", "arrowsize": "0.7", **_FONT}

#: Shape and colours by role. Adjoints of order 2 and more go on through the last list.
_ROLE_STYLE = {
    "input": {"shape": "ellipse", "style": "filled", "fillcolor": "#cfe3f7", "color": "#2f6da8"},
    "constant": {"shape": "plain", "style": "", "fontcolor": "#666666", "color": "#999999"},
    "forward": {"fillcolor": "#f4f6f8", "color": "#54606c"},
    "update": {"shape": "box", "style": "filled", "fillcolor": "#d8f0d5", "color": "#3c8a3a"},
}
_ADJOINT_STYLES = (
    {"shape": "box", "style": "filled,diagonals", "fillcolor": "#fde0c2", "color": "#c8691c"},
    {"shape": "box", "style": "filled,diagonals", "fillcolor": "#f6cfe0", "color": "#b03a72"},
    {"shape": "box", "style": "filled,diagonals", "fillcolor": "#e3d5f5", "color": "#6d44a8"},
)


# ------------------------------------------------------------------------------------------------ roles


def roles(graph: Graph) -> dict[Node, str]:
    """What each node is: input, constant, forward, ``adjoint`` (of order 1; ``adjoint 2`` …), or update.

    What a primal of order 1 needs is forward; what else an adjoint of order k needs is adjoint of order k, lowest first.
    Of the rest, what reads adjoints is an update, and all others are forward.
    """
    found: dict[Node, str] = {}
    found.update(dict.fromkeys(topological([p for order, p, _ in graph.adjoints if order == 1]), "forward"))
    for order in sorted({order for order, _, _ in graph.adjoints}):
        name = "adjoint" if order == 1 else f"adjoint {order}"
        for node in topological([a for k, _, a in graph.adjoints if k == order], stop=found):
            found.setdefault(node, name)
    for node in graph.nodes:
        if node.op.kind in ("input", "constant"):
            found[node] = node.op.kind
        elif node not in found:
            late = any(found.get(i, "forward") not in _BEFORE_ADJOINTS for i in node.inputs)
            found[node] = "update" if late else "forward"
    return {node: found[node] for node in graph.nodes}


_BEFORE_ADJOINTS = frozenset({"input", "constant", "forward"})


def _role_style(role: str) -> dict[str, str]:
    if not role.startswith("adjoint"):
        return _ROLE_STYLE[role]
    order = int(role[8:] or 1)
    return _ADJOINT_STYLES[min(order, len(_ADJOINT_STYLES)) - 1]


# ------------------------------------------------------------------------------------------------ networkx


def to_networkx(value: Any) -> Any:
    """A Graph (of a Schedule or Plan: its graph) as a networkx MultiDiGraph, from operands to the nodes that read them.

    Nodes are the names of the text form, with attributes ``op``, ``type``, ``role``, ``attrs`` (name → text), ``lines``
    (the user's lines), ``adjoint_of`` (names) and ``output`` (positions among the outputs). An edge's key is the
    position of the operand, its ``type`` what flows along it. The graph has ``name``, ``inputs`` and ``outputs``.
    """
    import networkx

    graph = _graph_of(value)
    names, kinds = node_names(graph), roles(graph)
    adjoint_of: dict[Node, list[str]] = {}
    for _, primal, adjoint in graph.adjoints:
        adjoint_of.setdefault(adjoint, []).append(names[primal])
    result = networkx.MultiDiGraph(
        name=graph.name, inputs=[names[n] for n in graph.inputs], outputs=[names[n] for n in graph.outputs]
    )
    places = _output_places(graph)
    for node in graph.nodes:
        result.add_node(
            names[node],
            op=node.op.name,
            type=str(node.type),
            role=kinds[node],
            attrs={key: value_text(value) for key, value in node.attrs},
            lines=[str(line) for line in graph.lines.get(node, ())],
            adjoint_of=adjoint_of.get(node, []),
            output=places.get(node, []),
        )
    for node in graph.nodes:
        for k, operand in enumerate(node.inputs):
            result.add_edge(names[operand], names[node], key=k, type=str(operand.type))
    return result


def _graph_of(value: Any) -> Graph:
    while not isinstance(value, Graph):
        value = value.graph if hasattr(value, "graph") else value.schedule
    return value


def _output_places(graph: Graph) -> dict[Node, list[int]]:
    places: dict[Node, list[int]] = {}
    for k, node in enumerate(graph.outputs):
        places.setdefault(node, []).append(k)
    return places


# ------------------------------------------------------------------------------------------------ DOT


def to_dot(value: Any, limit: int = LIMIT) -> str:
    """A Graph, Schedule, Plan or profile as DOT text; at most ``limit`` nodes of it, and a note about the others.

    Graph: forward and adjoint nodes differ in colour and shape, edges carry types, tooltips the user's lines. Schedule:
    a box around the nodes of each kernel. Profile: the schedule with the figures of each kernel. Plan: kernels and
    buffers, a buffer's colour being its place in the arena.
    Raises ImportError without the ``graphviz`` package, TypeError for anything else.
    """
    if isinstance(value, Graph):
        return _GraphDrawing(value, limit).source()
    if hasattr(value, "stages"):
        return _ScheduleDrawing(value, limit).source()
    if hasattr(value, "figures"):
        return _ScheduleDrawing(value.schedule, limit, value.figures).source()
    if hasattr(value, "schedule"):
        return _PlanDrawing(value, limit).source()
    raise TypeError(f"only a Graph, Schedule or Plan can be drawn, not {type(value).__name__}")


def try_dot(value: Any) -> str | None:
    """:func:`to_dot`, or None where ``value`` has no drawing or the ``graphviz`` package is missing (for dumps)."""
    if not (isinstance(value, Graph) or hasattr(value, "stages") or hasattr(value, "schedule")):
        return None
    with contextlib.suppress(ImportError):
        return to_dot(value)
    return None


class _Drawing:
    """A ``graphviz.Digraph`` with the house style, and a count of what there is room for."""

    def __init__(self, name: str, limit: int) -> None:
        import graphviz

        self.dot = graphviz.Digraph(
            identifier(name), graph_attr=_GRAPH_STYLE, node_attr=_NODE_STYLE, edge_attr=_EDGE_STYLE
        )
        self.dot.attr(tooltip=_escape(name))
        self.escape = graphviz.escape
        self.room = limit
        self.limit = limit
        self.drawn: set[str] = set()

    def node(self, at: Any, key: str, label: str, tooltip: str, **style: str) -> bool:
        """Draw a node into ``at`` (a Digraph) if there is room."""
        if self.room <= 0:
            return False
        self.room -= 1
        self.drawn.add(key)
        at.node(key, label=self.escape(label), tooltip=self.escape(tooltip), **style)
        return True

    def edge(self, at: Any, tail: str, head: str, label: str, **style: str) -> None:
        if tail in self.drawn and head in self.drawn:
            at.edge(tail, head, label=self.escape(label), tooltip=self.escape(label), **style)

    def note_rest(self, total: int, what: str) -> None:
        """Say what was left out."""
        if self.room > 0 or total <= self.limit:
            return
        text = f"{total - self.limit:,} more {what} are not drawn\nto_dot(..., limit={total}) draws all"
        self.dot.node("_rest", label=text, shape="note", style="filled", fillcolor="#fff3b0", color="#b09000")


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\")


class _GraphDrawing(_Drawing):
    """One Graph and the graphs that its nodes hold, each of these in a box of its own."""

    def __init__(self, graph: Graph, limit: int) -> None:
        super().__init__(graph.name, limit)
        self.graph = graph

    def source(self) -> str:
        total = 0
        pending: list[tuple[Graph, Any, str, str | None]] = [(self.graph, self.dot, "", None)]
        boxes = 0
        while pending:
            graph, at, prefix, holder = pending.pop()
            total += len(graph.nodes)
            first = self.nodes(graph, at, prefix)
            if holder is not None and first is not None:
                self.edge(self.dot, holder, first, "", style="dashed", arrowhead="none", lhead=at.name)
            for node, name in node_names(graph).items():
                for body in node.bodies if node.attrs else ():
                    boxes += 1
                    box = self.box(f"cluster_{boxes}", f"{body.name} of {name}")
                    pending.append((body, box, f"b{boxes}_", prefix + name))
            if at is not self.dot:
                self.dot.subgraph(at)
        self.note_rest(total, "nodes")
        return str(self.dot.source)

    def box(self, key: str, label: str) -> Any:
        import graphviz

        style = {"label": self.escape(label), "style": "rounded", "color": "#999999", "bgcolor": "#fbfbfb", **_FONT}
        return graphviz.Digraph(key, graph_attr=style)

    def nodes(self, graph: Graph, at: Any, prefix: str) -> str | None:
        """Draw the nodes and edges; the key of the first node."""
        names, kinds = node_names(graph), roles(graph)
        adjoint_of, places = adjoint_notes(graph, names), _output_places(graph)
        for node in graph.nodes:
            label = _label(node, names[node], adjoint_of.get(node), places.get(node))
            tip = _tooltip(node, names, graph)
            style = dict(_role_style(kinds[node]))
            if node in places:
                style |= {"peripheries": "2", "penwidth": "1.4"}
            if not self.node(at, prefix + names[node], label, tip, **style):
                break
        for node in graph.nodes:
            for operand in node.inputs:
                self.edge(at, prefix + names.get(operand, "_"), prefix + names[node], str(operand.type))
        first = prefix + names[graph.nodes[0]] if graph.nodes else None
        return first if first in self.drawn else None


def _label(node: Node, name: str, adjoint_of: str | None = None, places: Iterable[int] | None = None) -> str:
    """Name and op, short attributes, what it is the adjoint of, and which output it is."""
    rows = [f"{name}: {node.type}" if node.op.kind == "input" else f"{name} = {_call(node)}"]
    if node.op.kind == "constant":
        rows = [_constant_label(node)]
    if adjoint_of:
        rows.append(adjoint_of)
    if places is not None:
        rows.append("output " + ", ".join(map(str, places)) + f": {node.type}")
    return "\n".join(rows)


def _call(node: Node) -> str:
    attrs = [f"{key}={value_text(value)}" for key, value in node.attrs if key != "shape" and not _is_graph(value)]
    text = ", ".join(attrs)
    return f"{node.op.name} {text}" if 0 < len(text) <= 28 else node.op.name


def _is_graph(value: Any) -> bool:
    return isinstance(value, Graph) or (isinstance(value, tuple) and any(isinstance(v, Graph) for v in value))


def _constant_label(node: Node) -> str:
    array = node["value"]
    text = array_text(array) if array.value.size <= 4 else ""
    return text if 0 < len(text) <= 28 else f"const {node.type}"


def _tooltip(node: Node, names: Mapping[Node, str], graph: Graph) -> str:
    operands = [names.get(i, "_") for i in node.inputs]
    attrs = [f"{key}={value_text(value)}" for key, value in node.attrs if not _is_graph(value)]
    call = f"{names[node]}: {node.type} = {node.op.name}({', '.join(operands + attrs)})"
    return "\n".join([call, *map(str, graph.lines.get(node, ()))])


class _ScheduleDrawing(_Drawing):
    """The body of every kernel in a box; edges between boxes are values in memory. ``figures``: measured, by kernel."""

    def __init__(self, schedule: Any, limit: int, figures: Mapping[str, str] | None = None) -> None:
        super().__init__(schedule.name, limit)
        self.schedule = schedule
        self.figures = figures or {}
        self.writer: dict[int, str] = {}  # value -> the drawn node that computes it

    def source(self) -> str:
        schedule, total = self.schedule, len(self.schedule.inputs)
        for node, value in zip(schedule.graph.inputs, schedule.inputs, strict=True):
            name = f"{node['name']}: {node.type}"
            if self.node(self.dot, f"in{value}", name, f"input %{value}", **_ROLE_STYLE["input"]):
                self.writer[value] = f"in{value}"
        for number, stage in enumerate(schedule.stages):
            for kernel in stage:
                total += len(kernel.body.nodes)
                self.kernel(kernel, number)
        for k, value in enumerate(schedule.outputs):
            key = f"out{k}"
            if self.node(self.dot, key, f"output {k}", f"%{value}", **_ROLE_STYLE["input"], peripheries="2"):
                self.edge(self.dot, self.writer.get(self.root(value), ""), key, self.value_label(value))
        self.note_rest(total, "nodes")
        return str(self.dot.source)

    def root(self, value: int) -> int:
        """The value whose bytes ``value`` views."""
        while (base := self.schedule.values[value].base) is not None:
            value = base
        return value

    def value_label(self, value: int) -> str:
        return f"%{value}: {self.schedule.values[value].type}"

    def kernel(self, kernel: Any, stage: int) -> None:
        body, prefix = kernel.body, f"{kernel.name}_"
        names = node_names(body)
        lines = ", ".join(map(str, self.schedule.lines(kernel)))
        title = f"{kernel.name} {kernel.template} {list(kernel.domain.extents)}, stage {stage}"
        if kernel.name in self.figures:
            title += f"\n{self.figures[kernel.name]}"
        inputs = dict(zip(body.inputs, kernel.args, strict=True))
        with self.dot.subgraph(name=f"cluster_{kernel.name}") as box:
            style = {"style": "rounded,filled", "color": "#8a97a5", "fillcolor": _template_colour(kernel.template)}
            box.attr(label=self.escape(title), tooltip=self.escape(lines or title), **style, **_FONT)
            for node in body.nodes:
                if node in inputs:
                    continue
                style = _ROLE_STYLE["constant" if node.op.kind == "constant" else "forward"]
                self.node(box, prefix + names[node], _label(node, names[node]), _tooltip(node, names, body), **style)
        for node in body.nodes:
            for operand in node.inputs:
                self.read(prefix + names[node], operand, inputs, prefix + names[operand])
        for node, value in zip(body.outputs, kernel.results, strict=True):
            self.writer[self.root(value)] = prefix + names[node]

    def read(self, reader: str, operand: Node, inputs: Mapping[Node, int], inside: str) -> None:
        if operand not in inputs:
            self.edge(self.dot, inside, reader, str(operand.type))
            return
        value = inputs[operand]
        root = self.root(value)
        if root not in self.writer:  # a constant
            key = f"const{root}"
            label = f"const {self.schedule.values[root].type}"
            if self.node(self.dot, key, label, f"%{root}", **_ROLE_STYLE["constant"]):
                self.writer[root] = key
        self.edge(self.dot, self.writer.get(root, ""), reader, self.value_label(value), penwidth="1.6")


_TEMPLATE_COLOURS = {
    "elementwise": "#eef5ee", "row": "#eaf1fa", "column": "#eaf1fa", "contraction": "#fbeee6", "window": "#fbeee6",
    "segment": "#f5eef8", "copy": "#f4f4f4", "library": "#f9f6e4", "control": "#fdf0f2",
}  # fmt: skip


def _template_colour(template: str) -> str:
    return _TEMPLATE_COLOURS.get(template, "#f4f4f4")


class _PlanDrawing(_Drawing):
    """Kernels as boxes and buffers as cylinders between them; buffers at one place of the arena share a colour."""

    def __init__(self, plan: Any, limit: int) -> None:
        super().__init__(plan.schedule.name, limit)
        self.plan = plan
        self.colours: dict[int, str] = {}
        self.donated: dict[int, int] = {}

    def source(self) -> str:
        plan, schedule = self.plan, self.plan.schedule
        offsets = sorted({place.offset for place in plan.places if place.region == "arena"})
        self.colours = {offset: _slot_colour(k, len(offsets)) for k, offset in enumerate(offsets)}
        self.donated = {output: source for source, output in plan.donations}
        size = f"arena {_bytes(plan.arena_bytes)}, least possible {_bytes(plan.lower_bound_bytes)}"
        self.dot.attr(label=f"{size}, unplanned {_bytes(plan.unplanned_bytes)}", labelloc="t")
        read = {self.root(v) for kernel in schedule.kernels for v in kernel.args}
        used = [*schedule.inputs, *schedule.outputs, *read, *(v for kernel in schedule.kernels for v in kernel.results)]
        buffers = sorted({self.root(v) for v in used})
        for value in buffers:
            self.buffer(value)
        kernels = [(number, kernel) for number, stage in enumerate(schedule.stages) for kernel in stage]
        for number, kernel in kernels:
            self.kernel(kernel, number)
        self.note_rest(len(buffers) + len(kernels), "kernels and buffers")
        return str(self.dot.source)

    def root(self, value: int) -> int:
        while (base := self.plan.schedule.values[value].base) is not None:
            value = base
        return value

    def buffer(self, number: int) -> None:
        value, place = self.plan.schedule.values[number], self.plan.places[number]
        where = f"arena at {place.offset:,}" if place.region == "arena" else f"{place.region} {place.index}"
        if place.region == "output" and place.index in self.donated:
            where += f", in the memory of input {self.donated[place.index]}"
        label = f"%{number}: {value.type}\n{where}, {_bytes(value.type.nbytes)}"
        style = {"shape": "cylinder", "style": "filled", "fillcolor": _REGION_COLOURS.get(place.region, "#ffffff")}
        if place.region == "arena":
            style["fillcolor"] = self.colours[place.offset]
        self.node(self.dot, f"v{number}", label, label, **style)

    def kernel(self, kernel: Any, stage: int) -> None:
        lines = ", ".join(map(str, self.plan.schedule.lines(kernel)))
        title = f"{kernel.name} {kernel.template}\nstage {stage}"
        self.node(self.dot, kernel.name, title, lines or title, fillcolor=_template_colour(kernel.template))
        paired = {argument: result for result, argument in self.plan.in_place.get(kernel, ())}
        for k, value in enumerate(kernel.args):
            label = "in place" if k in paired else ""
            self.edge(self.dot, f"v{self.root(value)}", kernel.name, label)
        for value in kernel.results:
            self.edge(self.dot, kernel.name, f"v{self.root(value)}", "")


_REGION_COLOURS = {"input": "#cfe3f7", "output": "#dfe7ef", "constant": "#f2f2f2"}


def _slot_colour(k: int, count: int) -> str:
    """Colour ``k`` of ``count`` as hue, saturation, value: neighbours in the arena are far apart on the wheel."""
    return f"{(k * 0.381966) % 1:.3f} {0.35 + 0.15 * (k % 3):.2f} 0.95"


def _bytes(n: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n} {unit}" if isinstance(n, int) else f"{n:.4g} {unit}"
        n = n / 1024 if n % 1024 else n // 1024  # type: ignore[assignment]
    return f"{n:.4g} GiB"


# ------------------------------------------------------------------------------------------------ pictures


def draw(value: Any, path: str | os.PathLike[str], limit: int = LIMIT) -> Path:
    """Draw a Graph, Schedule or Plan into a file: .svg, .png, .pdf or .dot. Returns the path that was written.

    Where nothing can lay the picture out, the DOT text is written beside it (suffix .dot) and a warning says what to
    install. The file appears whole or not at all. Raises ValueError for another suffix.
    """
    target = Path(path)
    if target.suffix not in SUFFIXES:
        raise ValueError(f"{target.name!r}: drawings are written as {', '.join(SUFFIXES)}")
    dot = to_dot(value, limit)
    picture = dot.encode() if target.suffix == ".dot" else render(dot, target.suffix[1:])
    if picture is None:
        target = target.with_suffix(".dot")
        warnings.warn(f"{INSTALL}; the DOT text is in {target}", stacklevel=2)
        picture = dot.encode()
    write_atomically(target, [picture], durable=False)
    return target


def render(dot: str, format: str) -> bytes | None:
    """The picture of DOT text as ``svg``, ``png`` or ``pdf``; None where nothing here can lay it out."""
    program = shutil.which("dot")
    if program is not None:
        done = subprocess.run([program, f"-T{format}"], input=dot.encode(), capture_output=True, check=False)
        if done.returncode == 0:
            return done.stdout
    try:
        import pygraphviz
    except ImportError:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, f"picture.{format}")
        drawing = pygraphviz.AGraph(string=dot)
        drawing.draw(file, format=format, prog="dot")
        drawing.close()
        return Path(file).read_bytes()


# ------------------------------------------------------------------------------------------------ notebooks


#: Notebooks show pictures of at most this many nodes, and text above.
NOTEBOOK_LIMIT = 120


def repr_svg(value: Any) -> str | None:
    """The drawing as SVG, or None where it is too big to read or cannot be rendered."""
    if _size(value) > NOTEBOOK_LIMIT:
        return None
    dot = try_dot(value)
    picture = None if dot is None else render(dot, "svg")
    return None if picture is None else picture.decode()


def repr_html(value: Any) -> str:
    """What a notebook shows: the drawing where there is one, and the text."""
    text = f'<pre style="white-space: pre; overflow-x: auto">{html.escape(str(value))}</pre>'
    svg = repr_svg(value)
    if svg is None:
        return text
    svg = svg[svg.index("<svg") :]
    return f"<div>{svg}</div><details><summary>text</summary>{text}</details>"


def _size(value: Any) -> int:
    """How many nodes the drawing has, about."""
    if isinstance(value, Graph):
        return len(value.nodes) + sum(len(body.nodes) for body in _bodies(value))
    if hasattr(value, "stages"):
        return sum(len(kernel.body.nodes) for kernel in value.kernels)
    return len(value.schedule.values) + sum(1 for _ in value.schedule.kernels)


def _bodies(graph: Graph) -> Iterator[Graph]:
    pending = [graph]
    while pending:
        for node in pending.pop().nodes:
            for body in node.bodies if node.attrs else ():
                pending.append(body)
                yield body


__all__ = [
    "LIMIT", "draw", "render", "repr_html", "repr_svg", "roles", "to_dot", "to_networkx", "try_dot",
]  # fmt: skip
