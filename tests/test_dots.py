"""Contractions rewritten: the same numbers at any arrangement of axes, and the form that kernels do best."""

from __future__ import annotations

import random

import numpy as np
import pytest

from graphc import ops
from graphc.interpreter import evaluate
from graphc.ir import Builder, Graph
from graphc.passes import dots
from graphc.types import TensorType, f64


def contraction(pick: random.Random) -> Graph:
    """A transposed contraction with batch, free and contracted axes in any order."""
    counts = {kind: pick.randint(0, 2) for kind in "bxyc"}
    names = [f"{kind}{k}" for kind, count in counts.items() for k in range(count)]
    extent = {name: pick.choice([0, 1, 2, 3, 4, 4]) for name in names}
    sides = [[n for n in names if n[0] in kinds] for kinds in ("bxc", "byc")]
    for side in sides:
        pick.shuffle(side)
    batch, contract = (
        tuple(tuple(side.index(n) for n in names if n[0] == kind) for side in sides) for kind in ("b", "c")
    )
    with Builder("g") as b:
        x, y = (
            b.input(name, TensorType(f64, tuple(extent[n] for n in side)))
            for name, side in zip("xy", sides, strict=True)
        )
        product = ops.dot(x, y, batch=batch, contract=contract)
        axes = list(range(product.type.ndim))
        pick.shuffle(axes)
        return b.graph([ops.transpose_to(product, axes)])


@pytest.mark.parametrize("enough", [2, 4])
def test_meaning_is_kept(enough, monkeypatch):
    monkeypatch.setattr(dots, "ENOUGH", enough)
    pick, rng, changed = random.Random(enough), np.random.default_rng(0), 0
    for _ in range(300):
        before = contraction(pick)
        after = dots.shape_dots(before)
        changed += str(before) != str(after)
        args = [rng.standard_normal(t.shape) for t in before.input_types]
        np.testing.assert_allclose(evaluate(after, args)[0], evaluate(before, args)[0], rtol=1e-12, atol=1e-12)
        assert dots.shape_dots(after) is after or str(dots.shape_dots(after)) == str(after)
    assert changed > 100


def shaped(x, y, batch, contract, axes=None) -> list[str]:
    with Builder("g") as b:
        made = ops.dot(
            b.input("x", TensorType(f64, x)), b.input("y", TensorType(f64, y)), batch=batch, contract=contract
        )
        graph = b.graph([made if axes is None else ops.transpose(made, axes=axes)])
    return [n.op.name for n in dots.shape_dots(graph).nodes if n.op.kind not in ("input", "movement")]


def test_forms():
    assert shaped((64, 8), (64, 32), ((0,), (0,)), ((), ())) == ["mul"]
    assert shaped((64, 32), (8, 64, 32), ((0,), (1,)), ((1,), (2,))) == ["mul", "reduce_sum"]
    assert shaped((64, 32), (32, 48), ((), ()), ((1,), (0,))) == ["dot"]
    assert shaped((4, 32), (4, 32, 48), ((0,), (0,)), ((1,), (1,))) == [
        "dot"
    ]  # four products of one row: no more than one


def test_rotated_results_become_batches():
    with Builder("g") as b:
        x, y = b.input("x", TensorType(f64, (64, 32))), b.input("y", TensorType(f64, (8, 32, 48)))
        graph = b.graph([ops.transpose(ops.dot(x, y, batch=((), ()), contract=((1,), (1,))), axes=(1, 0, 2))])
    (made,) = dots.shape_dots(graph).outputs
    assert made.op is ops.dot and made["batch"] == ((0,), (0,)) and made.inputs[0].op is ops.broadcast_to
