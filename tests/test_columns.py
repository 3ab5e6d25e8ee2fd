"""Sums over the rows of large contractions are taken in the contraction's kernel."""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc.passes.schedule import Kernel


def gradients(x, w, b):
    v = np.tanh(x @ w)
    return v, v.sum(axis=0), b - 0.1 * (v * v).sum(axis=0)


def arguments(rows: int, columns: int, dtype: str) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(s).astype(dtype) for s in ((rows, 5), (5, columns), (columns,))]


def sums(kernel: Kernel) -> int:
    return sum(node.op.kind == "reduction" for node in kernel.body.outputs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_join_a_large_contraction(dtype):
    given = arguments(701, 510, dtype)
    step = graphc.compile(gradients)
    kernels = step.executable(*given).schedule.kernels
    assert [sums(k) for k in kernels if k.template == "contraction"] == [
        1
    ]  # what is squared first is added up on its own
    for got, expected in zip(step(*given), graphc.compile(gradients, backend="reference")(*given), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3)


def test_a_small_result_is_added_up_on_its_own():
    given = arguments(40, 30, "float32")
    kernels = graphc.compile(gradients).executable(*given).schedule.kernels
    assert [sums(k) for k in kernels if k.template == "contraction"] == [0]
