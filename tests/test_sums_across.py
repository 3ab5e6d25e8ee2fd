"""Sums over rows in the kernels of the rows: layer norm, softmax and others with the gradients of their parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc
from graphc.tree import flatten

SHAPES = [
    (16, 5),
    (17, 16),
    (40, 33),
    (129, 64),
    (70, 65),
    (300, 200),
    (3, 11, 40),
    (4, 8, 2, 37),
    (16, 1),
    (2, 9),
    (0, 7),
    (20, 0),
]


def norm(p: dict[str, Any], x: Any) -> Any:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]


def layer_norm_loss(p: dict[str, Any]) -> Any:
    return (np.tanh(norm(p, p["x"])) * p["weights"]).mean()


def rms_loss(p: dict[str, Any]) -> Any:
    return (graphc.nn.rms_norm(p["x"], p["scale"]) * p["weights"] + p["bias"]).sum()


def softmax_sums(p: dict[str, Any]) -> Any:
    s = graphc.nn.softmax(p["x"] * p["scale"])
    columns = tuple(range(s.ndim - 1))
    return s, (s * p["weights"]).sum(axis=columns), (s - p["bias"]).max(axis=columns), np.min(s * s), s.sum()


def arguments(shape: tuple[int, ...], dtype: str, special: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(len(shape) + sum(shape))
    x = rng.normal(size=shape)
    if special and x.size > 40:
        x.flat[5], x.flat[x.shape[-1] * 3], x.flat[-1] = np.nan, np.inf, -np.inf
    scale, bias = 1 + rng.normal(size=shape[-1]) / 10, rng.normal(size=shape[-1])
    tree = {"x": x, "weights": rng.uniform(size=shape), "scale": scale, "bias": bias}
    return {key: value.astype(dtype) for key, value in tree.items()}


def compare(function: Any, p: Any, dtype: str) -> None:
    with np.errstate(all="ignore"):
        got = flatten(graphc.compile(function, threads=1)(p))[0]
        two = flatten(graphc.compile(function, threads=2)(p))[0]
        want = flatten(graphc.compile(function, backend="reference")(p))[0]
    for mine, other, theirs in zip(got, two, want, strict=True):
        assert np.asarray(mine).tobytes() == np.asarray(other).tobytes()
        tolerance = {"float32": 2e-5, "float64": 1e-12, "float16": 2e-2}[dtype]
        finite = np.abs(np.where(np.isfinite(theirs), theirs, 0)).max(initial=0)
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance * max(float(finite), 1e-3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_layer_norm_gradients(shape: tuple[int, ...], dtype: str) -> None:
    if 0 in shape:
        compare(graphc.value_and_grad(rms_loss), arguments(shape, dtype), dtype)
        return
    compare(graphc.value_and_grad(layer_norm_loss), arguments(shape, dtype), dtype)


@pytest.mark.parametrize("shape", [(40, 33), (129, 64), (3, 11, 40), (1100, 20)], ids=str)
@pytest.mark.parametrize("special", [False, True])
def test_reductions_of_all_kinds(shape: tuple[int, ...], special: bool) -> None:
    compare(softmax_sums, arguments(shape, "float32", special), "float32")


def test_half_precision() -> None:
    compare(graphc.value_and_grad(layer_norm_loss), arguments((64, 48), "float16"), "float16")


def test_layer_norm_backward_is_one_kernel() -> None:
    p = arguments((64, 48), "float32")
    exe = graphc.compile(graphc.value_and_grad(layer_norm_loss)).executable(p)
    assert [kernel.template for kernel in exe.schedule.kernels if kernel.domain.extents] == ["row"]
