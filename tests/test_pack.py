"""Operands that many small contractions read across their lines are transposed once."""

from __future__ import annotations

import numpy as np
import pytest

from graphc import interpreter, ops
from graphc.ir import Builder, Graph
from graphc.passes.pack import MANY, pack_operands
from graphc.types import TensorType, bf16, f32, f64


def products(count: int, rows: int = 16, element=f32, left: bool = False) -> Graph:
    """``count`` contractions of different operands with one weight, along the last axis of both."""
    with Builder("g") as b:
        w = b.input("w", TensorType(element, (40, 24)))
        xs = [b.input(f"x{k}", TensorType(element, (rows, 24))) for k in range(count)]
        pairs = [(w, x) if left else (x, w) for x in xs]
        return b.graph([ops.dot(*pair, batch=((), ()), contract=((1,), (1,))) for pair in pairs])


def copies(graph: Graph) -> int:
    return sum(node.op is ops.concatenate for node in graph.nodes)


@pytest.mark.parametrize("element", [f32, f64], ids=str)
@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_one_copy_serves_all(element, left):
    graph = products(MANY + 1, element=element, left=left)
    packed = pack_operands(graph)
    assert copies(packed) == 1
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(t.shape).astype(t.dtype.numpy) for t in graph.input_types]
    for before, after in zip(interpreter.evaluate(graph, inputs), interpreter.evaluate(packed, inputs), strict=True):
        np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-5)


def test_where_a_copy_does_not_pay():
    for graph in (products(MANY - 1), products(MANY, rows=4), products(MANY, rows=100), products(MANY, element=bf16)):
        assert pack_operands(graph) is graph


def test_an_operand_along_its_lines_stays():
    with Builder("g") as b:
        w = b.input("w", TensorType(f32, (24, 40)))
        xs = [b.input(f"x{k}", TensorType(f32, (16, 24))) for k in range(MANY)]
        graph = b.graph([ops.matmul(x, w) for x in xs])
    assert pack_operands(graph) is graph


def test_two_contracted_axes_and_a_transposed_view():
    with Builder("g") as b:
        w = b.input("w", TensorType(f32, (30, 4, 8)))
        view = ops.transpose(w, axes=(0, 2, 1))
        xs = [b.input(f"x{k}", TensorType(f32, (12, 8, 4))) for k in range(MANY)]
        graph = b.graph([ops.dot(x, view, batch=((), ()), contract=((1, 2), (1, 2))) for x in xs])
    packed = pack_operands(graph)
    assert copies(packed) == 1
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal(t.shape).astype("f4") for t in graph.input_types]
    for before, after in zip(interpreter.evaluate(graph, inputs), interpreter.evaluate(packed, inputs), strict=True):
        np.testing.assert_allclose(before, after, rtol=1e-4, atol=1e-5)
