"""Drawings: roles, DOT text, pictures with and without the programs that lay them out, networkx, notebooks."""

from __future__ import annotations

import builtins
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from random_graphs import random_graph

from graphc import autodiff, drawing, ops
from graphc.drawing import draw, render, repr_html, repr_svg, roles, to_dot, to_networkx, try_dot
from graphc.ir import Builder, Graph, Line
from graphc.ops.control import cond, scan
from graphc.passes.fuse import fuse
from graphc.passes.plan import plan
from graphc.passes.simplify import simplify
from graphc.text import node_names
from graphc.types import TensorType, f32, f64, i32


def textbook(order: int = 1) -> Graph:
    """f(x, y, z) = (x + y)(x + z), its gradient, and the gradient of the square of df/dx."""
    with Builder("f") as b:
        x, y, z = (b.input(name, TensorType(f64, ())) for name in "xyz")
        b.origin = (Line("/home/me/model.py", 3),)
        f = ops.mul(ops.add(x, y), ops.add(x, z))
        one = ops.const(1.0, f64)
        gradient = autodiff.vjp_nodes([f], [one], [x, y, z])
        outputs = [f, *gradient]
        if order == 2:
            g = gradient[0]
            assert g is not None
            outputs += autodiff.vjp_nodes([ops.mul(g, g)], [one], [x])
        return b.graph([o for o in outputs if o is not None])


def sgd_step() -> Graph:
    with Builder("step") as b:
        x, w = b.input("x", TensorType(f32, (32, 64))), b.input("params['w']", TensorType(f32, (64, 16)))
        h = ops.tanh(ops.matmul(x, w))
        loss = ops.reduce_sum(ops.mul(h, h), axes=(0, 1))
        (g,) = autodiff.vjp_nodes([loss], [ops.const(1.0, f32)], [w])
        assert g is not None
        return b.graph([loss, ops.sub(w, ops.mul(g, ops.like(g, 0.1)))])


def with_bodies() -> Graph:
    with Builder("body") as b:
        c = b.input("c", TensorType(f32, (3,)))
        body = b.graph([ops.tanh(c)])
    with Builder("branch") as b:
        i, c = b.input("i", TensorType(i32, ())), b.input("c", TensorType(f32, (3,)))
        inner = b.graph([ops.item(scan(c, body=body, n_carry=1, n_xs=0, length=4, reverse=False), index=0)])
    with Builder("f") as b:
        i, x = b.input("i", TensorType(i32, ())), b.input("x", TensorType(f32, (3,)))
        return b.graph([ops.item(cond(i, i, x, branches=(inner,)), index=0)])


def named_roles(graph: Graph) -> dict[str, str]:
    names = node_names(graph)
    return {names[node]: role for node, role in roles(graph).items()}


# ------------------------------------------------------------------------------------------------ roles


def test_roles_of_the_textbook_graph() -> None:
    assert named_roles(textbook()) == {
        "x": "input", "y": "input", "z": "input", "v0": "forward", "v1": "forward", "v2": "forward", "v3": "constant",
        "v4": "adjoint", "v5": "adjoint", "v6": "adjoint",
    }  # fmt: skip
    simple = named_roles(simplify(textbook()))  # now the adjoint of q is p
    assert [k for k, role in simple.items() if role == "adjoint"] == ["v3"]  # x gets p + q
    second = named_roles(textbook(order=2))
    assert {role for role in second.values()} == {"input", "constant", "forward", "adjoint", "adjoint 2"}
    assert second["v6"] == "adjoint"


def test_updates_are_a_role_of_their_own() -> None:
    found = roles(sgd_step())
    out = sgd_step().outputs[1]
    assert [role for node, role in found.items() if node.op.name == "sub" and node.type == out.type] == ["update"]


def test_without_adjoints_all_is_forward() -> None:
    assert set(roles(random_graph(3)).values()) <= {"input", "constant", "forward"}


# ------------------------------------------------------------------------------------------------ DOT


def test_dot_of_the_textbook_graph() -> None:
    dot = to_dot(textbook())
    lines = dot.split("\n")

    def line(start: str) -> str:
        return next(text for text in lines if text.strip().startswith(start))

    assert dot.startswith("digraph f {")
    assert "shape=ellipse" in line("x [")
    assert "x -> v0 [label=f64" in dot
    assert "adjoint of v0, y" in dot and "model.py:3" in dot
    forward, adjoint = line("v0 ["), next(text for text in dot.split(" [label=") if text.startswith('"v5 = mul'))
    assert "diagonals" in adjoint and "diagonals" not in forward
    assert dot.count("peripheries=2") == 4
    assert to_dot(textbook()) == dot


def test_dot_of_graphs_that_hold_graphs() -> None:
    dot = to_dot(with_bodies())
    assert dot.count("subgraph cluster_") == 2
    assert 'label="branch of v0"' in dot and 'label="body of v0"' in dot
    assert "lhead=cluster_1" in dot and "b1_c -> b1_v0" in dot


def test_labels_are_escaped() -> None:
    with Builder("<f>\\") as b:
        x = b.input('a\\b<c>"d', TensorType(f32, ()))
        graph = b.graph([ops.alias(x, tag='<b>\\n"')])
    assert render(to_dot(graph), "svg") is not None
    assert "digraph f_" in to_dot(graph) or "digraph" in to_dot(graph)


def test_big_graphs_are_cut_with_a_note() -> None:
    with Builder("f") as b:
        y = b.input("x", TensorType(f32, ()))
        for _ in range(5000):
            y = ops.tanh(ops.neg(y))
        graph = b.graph([y])
    dot = to_dot(graph, limit=50)
    assert "9,951 more nodes are not drawn" in dot and "limit=10001" in dot
    assert dot.count('label="v') == 49
    assert "not drawn" not in to_dot(textbook())


def test_dot_of_schedules_and_plans() -> None:
    schedule = fuse(simplify(sgd_step()))
    dot = to_dot(schedule)
    for kernel in schedule.kernels:
        assert f"subgraph cluster_{kernel.name}" in dot
    assert "output 1" in dot and "params['w']" in dot and "stage 1" in dot
    placed = plan(schedule, {1: 1})
    drawn = to_dot(placed)
    assert drawn.count("shape=cylinder") == len({v for k in schedule.kernels for v in (*k.args, *k.results)})
    assert "in the memory of input 1" in drawn and "arena at 0" in drawn
    assert "not drawn" in to_dot(schedule, limit=3) and "not drawn" in to_dot(placed, limit=3)


def test_malformed_graphs_draw() -> None:
    """Dumps show the graph that the verifier refused."""
    graph = textbook()
    assert "v0" in to_dot(Graph("f", graph.inputs, graph.outputs, graph.nodes[1:4] + graph.nodes[5:]))


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(TypeError, match="only a Graph, Schedule or Plan can be drawn, not int"):
        to_dot(3)
    assert try_dot("text") is None


def test_random_graphs_draw() -> None:
    for seed in range(20):
        graph = random_graph(seed, control=True)
        assert to_dot(graph).count("->") == sum(len(node.inputs) for g in every(graph) for node in g.nodes) + sum(
            len(node.bodies) for g in every(graph) for node in g.nodes
        )


def every(graph: Graph) -> Iterator[Graph]:
    pending = [graph]
    while pending:
        part = pending.pop()
        yield part
        pending.extend(body for node in part.nodes for body in node.bodies)


# ------------------------------------------------------------------------------------------------ pictures


@pytest.mark.parametrize(
    "suffix, start", [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF"), (".dot", b"digraph")]
)
def test_pictures(tmp_path: Path, suffix: str, start: bytes) -> None:
    path = tmp_path / f"picture{suffix}"
    assert draw(textbook(), path) == path
    assert path.read_bytes().startswith(start)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # nothing temporary is left


def test_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'a.gif': drawings are written as .svg, .png, .pdf, .dot"):
        draw(textbook(), tmp_path / "a.gif")


def without(monkeypatch: pytest.MonkeyPatch, *packages: str, program: bool = False) -> None:
    """As if ``packages`` (and the program dot) were not installed."""
    real = builtins.__import__

    def importer(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] in packages:
            raise ImportError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", importer)
    if not program:
        monkeypatch.setattr(drawing.shutil, "which", lambda name: None)


def test_without_anything_that_lays_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without(monkeypatch, "pygraphviz")
    with pytest.warns(UserWarning, match="pictures need the Graphviz program `dot` .* or the package pygraphviz"):
        written = draw(textbook(), tmp_path / "picture.png")
    assert written == tmp_path / "picture.dot" and written.read_text().startswith("digraph f {")
    assert repr_svg(textbook()) is None
    assert repr_html(textbook()).startswith("<pre")


def test_without_the_graphviz_package(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "graphviz")
    assert try_dot(textbook()) is None
    with pytest.raises(ImportError):
        to_dot(textbook())
    assert "def f(x: f64, y: f64, z: f64):" in repr_html(textbook())


def test_the_program_dot_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], input: bytes, **_: Any) -> Any:
        assert command == ["/bin/dot", "-Tsvg"] and input.startswith(b"digraph")
        return types.SimpleNamespace(returncode=0, stdout=b"<svg from dot/>")

    monkeypatch.setattr(drawing.shutil, "which", lambda name: "/bin/dot")
    monkeypatch.setattr(drawing.subprocess, "run", run)
    assert render(to_dot(textbook()), "svg") == b"<svg from dot/>"


def test_importing_needs_neither_package() -> None:
    code = "import sys; sys.modules.update(graphviz=None, pygraphviz=None, networkx=None); import graphc.drawing; print('fine')"
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "fine\n"


# ------------------------------------------------------------------------------------------------ networkx, notebooks


def test_networkx() -> None:
    import networkx

    graph = textbook()
    found = to_networkx(graph)
    assert isinstance(found, networkx.MultiDiGraph) and networkx.is_directed_acyclic_graph(found)
    assert found.graph == {"name": "f", "inputs": ["x", "y", "z"], "outputs": ["v2", "v6", "v5", "v4"]}
    assert found.nodes["v5"] == {
        "op": "mul", "type": "f64", "role": "adjoint", "attrs": {}, "lines": ["/home/me/model.py:3"],
        "adjoint_of": ["v0", "y"], "output": [2],
    }  # fmt: skip
    assert found.edges["v1", "v2", 1] == {"type": "f64"}
    assert found.number_of_edges() == sum(len(node.inputs) for node in graph.nodes)
    schedule = fuse(sgd_step())
    assert to_networkx(schedule).number_of_nodes() == len(schedule.graph.nodes)
    assert to_networkx(plan(schedule)).number_of_nodes() == len(schedule.graph.nodes)


def test_squares_have_two_edges() -> None:
    with Builder("f") as b:
        x = b.input("x", TensorType(f32, ()))
        graph = b.graph([ops.mul(x, x)])
    assert to_networkx(graph).number_of_edges("x", "v0") == 2


def test_notebooks() -> None:
    graph, schedule = textbook(), fuse(sgd_step())
    for value in (graph, schedule, plan(schedule)):
        html = repr_html(value)
        assert "<svg" in html and "<pre" in html and "<?xml" not in html
    assert graph._repr_html_() == repr_html(graph)
    with Builder("f") as b:
        y = b.input("x", TensorType(f32, ()))
        for _ in range(500):
            y = ops.tanh(ops.neg(y))
        big = b.graph([y])
    assert repr_html(big).startswith("<pre")
