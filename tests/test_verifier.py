"""The verifier: each broken invariant has a message of its own, shown at the line of the text."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphc import ops
from graphc.ir import INPUT, Builder, Graph, Line, Node, Op
from graphc.ops.control import cond
from graphc.text import from_text
from graphc.types import TensorType, TupleType, f32, f64, i32, i64
from graphc.verifier import VerifyError, verify

VECTOR = TensorType(f32, (2,))


def good() -> Graph:
    with Builder("f") as b:
        x = b.input("x", VECTOR)
        y = b.input("y", VECTOR)
        return b.graph([ops.neg(ops.add(ops.tanh(x), y))])


def with_nodes(graph: Graph, *nodes: Node, outputs: tuple[Node, ...] | None = None) -> Graph:
    return Graph(graph.name, graph.inputs, outputs or graph.outputs, nodes)


def new(op: Op, *inputs: Node, type: Any = VECTOR, **attrs: Any) -> Node:
    return Node(op, inputs, tuple(sorted(attrs.items())), type)


def message(graph: Graph) -> str:
    with pytest.raises(VerifyError) as caught:
        verify(graph)
    with pytest.raises(VerifyError):  # a graph that failed is not taken for verified
        verify(graph)
    return str(caught.value)


def test_good_graphs_pass() -> None:
    graph = good()
    verify(graph)
    verify(graph)
    verify(Graph("empty", (), (), ()))


def test_the_message_shows_the_line() -> None:
    x, y, v0, v1, v2 = good().nodes
    graph = Graph("f", (x, y), (v2,), (x, y, v1, v0, v2))
    assert message(graph) == (
        "v0 reads v1, which is defined below it\n"
        "    def f(x: f32[2], y: f32[2]):\n"
        "        v0: f32[2] = add(v1, y)\n"
        "                         ^\n"
        "        v1: f32[2] = tanh(x)\n"
        "        v2: f32[2] = neg(v0)\n"
        "        return v2"
    )


def test_the_message_names_the_users_line() -> None:
    x, y, v0, v1, v2 = good().nodes
    graph = Graph("f", (x, y), (v2,), (x, y, v1, v0, v2), {v1: (Line("model.py", 3),)})
    assert message(graph).endswith("\nmade by model.py:3")


def test_context_is_a_few_lines() -> None:
    with Builder("f") as b:
        x = y = b.input("x", VECTOR)
        for _ in range(50):
            y = ops.exp(ops.neg(y))
        graph = b.graph([y])
    nodes = list(graph.nodes)
    nodes[60] = new(ops.neg, nodes[59], type=TensorType(f64, (2,)))  # the next node reads what it replaces
    shown = message(Graph("f", (x,), (nodes[-1],), tuple(nodes)))
    assert shown.startswith("v59 has type f64[2], but neg infers f32[2]")
    assert re.findall(r"\n +(v\d+|\^)", shown) == ["v56", "v57", "v58", "v59", "^", "v60", "v61", "v62"]


# ------------------------------------------------------------------------------------------------ each invariant


def test_nodes() -> None:
    graph = good()
    x, y, v0, v1, v2 = graph.nodes
    far = new(ops.exp, x)
    assert "v2 is listed twice" in message(with_nodes(graph, x, y, v0, v1, v2, v2))
    reads_far, twin = new(ops.neg, far), new(ops.tanh, x)
    assert "v0 reads a node that is not in the graph: <exp(f32[2]): f32[2]>" in message(
        with_nodes(graph, x, y, reads_far, outputs=(reads_far,))
    )
    assert "v3 repeats v0: equal nodes must be one node" in message(with_nodes(graph, x, y, v0, v1, v2, twin))


def test_a_caret_stands_under_the_unknown_operand() -> None:
    x, y, *_ = good().nodes
    bad = new(ops.add, x, new(ops.exp, x))
    lines = message(Graph("f", (x, y), (bad,), (x, y, bad))).split("\n")
    assert lines[2].index("_)") == lines[3].index("^")


def test_inputs() -> None:
    graph = good()
    x, y, v0, v1, v2 = graph.nodes
    stray = new(INPUT, name="z", type=VECTOR)
    twin = new(INPUT, name="x", type=VECTOR)
    tupled = Node(INPUT, (), (("name", "t"), ("type", TupleType((VECTOR,)))), TupleType((VECTOR,)))
    assert "the input y is not among the nodes" in message(with_nodes(graph, x, v0, v1, v2))
    assert "v1 is an input that the graph does not list" in message(with_nodes(graph, x, y, v0, stray, v1, v2))
    assert "two inputs are named 'x'" in message(Graph("f", (x, twin), (v0,), (x, twin, v0)))
    assert "is a node of op tanh" in message(Graph("f", (x, v0), (v0,), (x, v0)))
    assert "is the tuple (f32[2],): inputs are tensors" in message(Graph("f", (tupled,), (), (tupled,)))
    assert "two inputs" in message(Graph("f", (x, x), (x,), (x,)))


def test_outputs() -> None:
    graph = good()
    x, y, v0, v1, v2 = graph.nodes
    assert "the output <exp(f32[2]): f32[2]> is not a node of the graph" in message(
        with_nodes(graph, *graph.nodes, outputs=(v2, new(ops.exp, x)))
    )
    pair = new(ops.top_k, x, type=TupleType((VECTOR, TensorType(i64, (2,)))), k=2)
    shown = message(Graph("f", (x,), (pair,), (x, pair)))
    assert "the output v0 is the tuple (f32[2], i64[2]): return its items" in shown


def test_ops_and_attributes() -> None:
    x, y, v0, *_ = good().nodes

    def single(node: Node) -> str:
        return message(Graph("f", (x,), (node,), (x, node)))

    foreign = replace(ops.neg, name="foreign")
    impostor = replace(ops.neg)
    assert "the op of v0, foreign, is not registered in ops.OPS" in single(new(foreign, x))
    assert "the op of v0, neg, is not registered in ops.OPS" in single(new(impostor, x))
    assert "an attribute of v0 is of no allowed kind" in single(new(ops.alias, x, tag=[1]))
    assert "an attribute of v0 is of no allowed kind" in single(new(ops.alias, x, tag=np.int64(1)))
    unsorted = Node(ops.alias, (x,), (("tag", 1), ("b", 2)), VECTOR)
    assert "the attributes of v0 are not sorted" in single(unsorted)
    twice = Node(ops.alias, (x,), (("tag", 1), ("tag", 2)), VECTOR)
    assert "the attributes of v0 are not sorted" in single(twice)


def test_types() -> None:
    x, y, v0, *_ = good().nodes

    def single(node: Node) -> str:
        return message(Graph("f", (x,), (node,), (x, node)))

    assert "v0 has type f32[3], but neg infers f32[2]" in single(new(ops.neg, x, type=TensorType(f32, (3,))))
    assert "v0: transpose refuses its operands or attributes" in single(new(ops.transpose, x, axes=(1,)))
    assert "v0: reduce_sum refuses its operands or attributes" in single(new(ops.reduce_sum, x, wrong=1))
    made = new(ops.reshape, x, type=TensorType(f32, (True, 2)), shape=(True, 2))
    assert "v0 has an extent that is no int: True" in single(made)


def test_tuples_are_read_by_item_alone() -> None:
    x, *_ = good().nodes
    pair_type = TupleType((VECTOR, TensorType(i64, (2,))))
    pair = new(ops.top_k, x, type=pair_type, k=2)
    bad = new(ops.alias, pair, type=pair_type)
    assert "v1 reads the tuple v0: only item reads a tuple" in message(Graph("f", (x,), (x,), (x, pair, bad)))
    assert "v1: item refuses" in message(Graph("f", (x,), (x,), (x, pair, new(ops.item, pair, index=2))))


def test_bodies_are_verified() -> None:
    with Builder("body") as b:
        z = b.input("z", VECTOR)
        body = b.graph([ops.tanh(ops.neg(z))])
    z, inner, outer = body.nodes
    broken = Graph("body", (z,), (outer,), (z, outer, inner))
    leaky = Graph("body", (z,), (inner,), (z, new(ops.neg, new(INPUT, name="x", type=VECTOR)), inner))
    for bad, reason in ((broken, "v0 reads v1, which is defined below it"), (leaky, "v0 reads a node that is not in")):
        with Builder("f") as b:
            i, x = b.input("i", TensorType(i32, ())), b.input("x", VECTOR)
        held = new(cond, i, x, type=TupleType((VECTOR,)), branches=(body, bad))
        out = new(ops.item, held, index=0)
        shown = message(Graph("f", (i, x), (out,), (i, x, held, out)))
        assert reason in shown and "def body_1(z: f32[2]):" in shown


def test_tables() -> None:
    graph = good()
    x, y, v0, v1, v2 = graph.nodes
    stray = new(ops.exp, x)
    scalar = Node(ops.reduce_sum, (x,), (("axes", (0,)),), TensorType(f32, ()))
    assert "the table of lines mentions a node that is not in the graph" in message(replace(graph, lines={stray: ()}))
    assert "the table of adjoints mentions a node" in message(replace(graph, adjoints=((1, v0, stray),)))
    nodes = (*graph.nodes, scalar)
    assert "v3, the adjoint of v0 (order 1), is f32, not f32[2]" in message(
        replace(graph, nodes=nodes, adjoints=((1, v0, v1), (1, v0, scalar)))
    )
    verify(replace(graph, adjoints=((1, v0, v1), (2, v1, v1))))


def test_speed() -> None:
    """About 5 µs a node; the bound here is loose, for a busy machine."""
    lines = ["def f(x: f32[4, 4]):", "    v0: f32[4, 4] = neg(x)"]
    lines += [f"    v{k}: f32[4, 4] = add(v{k - 1}, x)" for k in range(1, 20_000)]
    graph = from_text("\n".join([*lines, "    return v19999"]))
    start = time.process_time()
    verify(graph)
    assert (time.process_time() - start) / len(graph.nodes) < 50e-6
    start = time.process_time()
    verify(graph)
    assert time.process_time() - start < 1e-3
