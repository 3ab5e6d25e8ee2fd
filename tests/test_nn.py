"""Layers, activations and losses against their definitions; traced as on arrays; derivatives by differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
from compare import traced

import graphc
from graphc import nn, random

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 5))
IMAGE = RNG.normal(size=(2, 4, 7, 6))


def phi(x: np.ndarray) -> np.ndarray:
    return (1 + scipy.special.erf(x / math.sqrt(2))) / 2


CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]] = {
    "relu": (nn.relu, lambda x: np.maximum(x, 0), (X,)),
    "sigmoid": (nn.sigmoid, scipy.special.expit, (X,)),
    "silu": (nn.silu, lambda x: x * scipy.special.expit(x), (X,)),
    "softplus": (nn.softplus, lambda x: np.log(1 + np.exp(x)), (X,)),
    "gelu": (nn.gelu, lambda x: x * phi(x), (X,)),
    "gelu by tanh": (
        lambda x: nn.gelu(x, approximate=True),
        lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        (X,),
    ),
    "softmax": (nn.softmax, lambda x: scipy.special.softmax(x, -1), (X,)),
    "softmax over two axes": (lambda x: nn.softmax(x, axis=(0, 1)), scipy.special.softmax, (X,)),
    "log_softmax": (lambda x: nn.log_softmax(x, axis=0), lambda x: scipy.special.log_softmax(x, 0), (X,)),
    "logsumexp": (nn.logsumexp, scipy.special.logsumexp, (X,)),
    "logsumexp kept": (
        lambda x: nn.logsumexp(x, 1, keepdims=True),
        lambda x: scipy.special.logsumexp(x, 1, keepdims=True),
        (X,),
    ),
    "linear": (nn.linear, lambda x, w, b: x @ w + b, (X, RNG.normal(size=(5, 2)), RNG.normal(size=2))),
    "layer_norm": (
        nn.layer_norm,
        lambda x, s, b: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * s + b,
        (X, RNG.normal(size=5), RNG.normal(size=5)),
    ),
    "rms_norm": (
        nn.rms_norm,
        lambda x, s: x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * s,
        (X, RNG.normal(size=5)),
    ),
    "mse": (nn.mse, lambda x, y: ((x - y) ** 2).mean(), (X, X[::-1].copy())),
    "cross_entropy": (
        lambda x: nn.cross_entropy(x, np.array([0, 4, -1])),
        lambda x: -scipy.special.log_softmax(x, 1)[np.arange(3), [0, 4, 4]].mean(),
        (X,),
    ),
    "cross_entropy of probabilities": (
        nn.cross_entropy,
        lambda x, p: -(p * scipy.special.log_softmax(x, 1)).sum(1).mean(),
        (X, scipy.special.softmax(X[::-1], 1)),
    ),
    "avg_pool2d": (
        lambda x: nn.avg_pool2d(x, 2),
        lambda x: x[:, :, :6].reshape(2, 4, 3, 2, 3, 2).mean((3, 5)),
        (IMAGE,),
    ),
    "max_pool2d": (lambda x: nn.max_pool2d(x, (7, 3)), lambda x: x.reshape(2, 4, 1, 7, 2, 3).max((3, 5)), (IMAGE,)),
    "embedding": (lambda t: nn.embedding(t, np.array([[0, 2], [1, 0]])), lambda t: t[[[0, 2], [1, 0]]], (X,)),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name: str) -> None:
    function, written, args = CASES[name]
    want = written(*args)
    for found in (function(*args), traced(function, *args)):
        np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-13)
    graphc.check_grads(function, args, order=2)
    narrow = tuple(a.astype(np.float32) for a in args)
    program = graphc.tracing.trace_program(function, narrow, {})
    assert {t.dtype.name for t in program.graph.output_types} == {"f32"} and not program.notes
    assert np.asarray(function(*narrow)).dtype == np.float32


def test_extreme_values() -> None:
    x = np.array([-1e4, -30.0, 0.0, 30.0, 1e4, np.inf, -np.inf])
    for function in (nn.sigmoid, nn.softplus, nn.relu):
        assert not np.isnan(traced(function, x)).any()
        assert np.isfinite(graphc.vmap(graphc.grad(function))(x[:5])).all()
    assert np.isnan(nn.relu(np.array([np.nan]))).all()
    assert graphc.grad(nn.relu)(0.0) == 0
    assert float(nn.logsumexp(np.full(3, -np.inf))) == -np.inf
    np.testing.assert_allclose(nn.softmax(np.array([1e4, 0.0])), [1, 0])
    assert nn.sigmoid(3).dtype == np.float64


def test_one_hot_and_embedding_with_traced_indices() -> None:
    index = np.array([[0, 2], [1, 5]])
    want = np.zeros((2, 2, 3), np.float32)
    want[0, 0, 0] = want[0, 1, 2] = want[1, 0, 1] = 1
    for found in (nn.one_hot(index, 3), traced(lambda i: nn.one_hot(i, 3), index)):
        np.testing.assert_array_equal(found, want)
        assert found.dtype == np.float32
    np.testing.assert_array_equal(traced(nn.embedding, X, np.array([2, 0])), X[[2, 0]])
    np.testing.assert_array_equal(traced(lambda i: nn.embedding(X, i), np.array([2, 0])), X[[2, 0]])
    with pytest.raises(IndexError):
        traced(nn.embedding, X, np.array([3]))
    gradient = graphc.grad(lambda t, i: nn.embedding(t, i).sum())(X, np.array([1, 1, 0]))
    np.testing.assert_array_equal(gradient[:, 0], [1, 2, 0])


def test_cross_entropy_of_traced_labels() -> None:
    labels = np.array([0, 4, 2])
    p = scipy.special.softmax(X, 1)
    p[np.arange(3), labels] -= 1
    np.testing.assert_allclose(graphc.grad(nn.cross_entropy)(X, labels), p / 3, atol=1e-15)
    names = [n["name"] for n in graphc.trace(graphc.grad(nn.cross_entropy), X, labels).nodes if n.op.name == "call"]
    assert names == ["log_softmax"]
    image = RNG.normal(size=(2, 5, 3, 3))
    where = RNG.integers(0, 5, (2, 3, 3))
    want = -np.take_along_axis(scipy.special.log_softmax(image, 1), where[:, None], 1).mean()
    assert float(nn.cross_entropy(image, where, axis=1)) == pytest.approx(want)
    with pytest.raises(IndexError):
        traced(nn.cross_entropy, X, np.array([0, 1, 5]))


def test_batch_norm_keeps_running_statistics() -> None:
    state = nn.batch_norm_state(4, np.float64)
    scale, bias = RNG.normal(size=4), RNG.normal(size=4)
    axes = (0, 2, 3)
    mean, var = IMAGE.mean(axes), IMAGE.var(axes)

    def shaped(v: np.ndarray) -> np.ndarray:
        return v[:, None, None]

    want = (IMAGE - shaped(mean)) / np.sqrt(shaped(var) + 1e-5) * shaped(scale) + shaped(bias)
    for y, new in (nn.batch_norm(IMAGE, state, scale, bias), traced(nn.batch_norm, IMAGE, state, scale, bias)):
        np.testing.assert_allclose(y, want, rtol=1e-12)
        np.testing.assert_allclose(new["mean"], 0.1 * mean)
        np.testing.assert_allclose(new["var"], 0.9 + 0.1 * IMAGE.var(axes, ddof=1))
    y, same = nn.batch_norm(IMAGE, new, training=False)
    np.testing.assert_allclose(y, (IMAGE - shaped(new["mean"])) / np.sqrt(shaped(new["var"]) + 1e-5))
    assert same is new
    rows, _ = nn.batch_norm(X, nn.batch_norm_state(5, np.float64), axis=-1)
    np.testing.assert_allclose(rows.mean(0), 0, atol=1e-12)
    graphc.check_grads(lambda x, s, b: nn.batch_norm(x, state, s, b), (IMAGE, scale, bias), order=1)
    narrow = nn.batch_norm(IMAGE.astype(np.float32), nn.batch_norm_state(4))
    assert narrow[0].dtype == narrow[1]["mean"].dtype == narrow[1]["var"].dtype == np.float32


def test_dropout() -> None:
    key = random.key(0)
    x = np.ones((100, 100), np.float32)
    for y in (nn.dropout(key, x, 0.25), traced(lambda k, x: nn.dropout(k, x, 0.25), key, x)):
        assert set(np.unique(y).tolist()) == {0.0, np.float32(1 / 0.75)} and abs(y.mean() - 1) < 0.02
        assert y.dtype == np.float32
    assert nn.dropout(key, x, 0.25, training=False) is x and nn.dropout(key, x, 0.0) is x
    assert not nn.dropout(key, x, 1.0).any()
    gradient = graphc.grad(lambda x: nn.dropout(key, x, 0.25).sum())(x)
    np.testing.assert_array_equal(gradient, nn.dropout(key, x, 0.25))
    with pytest.raises(ValueError, match="rate 1.5 is no probability"):
        nn.dropout(key, x, 1.5)


def test_attention() -> None:
    q, k, v = RNG.normal(size=(2, 3, 4, 5)), RNG.normal(size=(2, 3, 6, 5)), RNG.normal(size=(2, 3, 6, 2))
    mask = RNG.integers(0, 2, (4, 6)).astype(bool)
    mask[:, 0] = True

    def written(allowed: np.ndarray) -> np.ndarray:
        scores = np.where(allowed, np.einsum("bhtd,bhsd->bhts", q, k) / math.sqrt(5), -np.inf)
        return np.asarray(np.einsum("bhts,bhse->bhte", scipy.special.softmax(scores, -1), v))

    causal = np.tri(4, 6, 2, dtype=bool)
    for options, allowed in (
        ({}, np.ones((4, 6), bool)),
        ({"causal": True}, causal),
        ({"mask": mask}, mask),
        ({"mask": mask, "causal": True}, mask & causal),
    ):
        for found in (nn.attention(q, k, v, **options), traced(lambda *a: nn.attention(*a, **options), q, k, v)):  # noqa: B023
            np.testing.assert_allclose(found, written(allowed), rtol=1e-12, atol=1e-14)
        graphc.check_grads(lambda *a: nn.attention(*a, **options), (q[0, 0], k[0, 0], v[0, 0]), order=2)  # noqa: B023
    np.testing.assert_allclose(nn.attention(q, k, v, scale=0.0), v.mean(-2, keepdims=True).repeat(4, -2), rtol=1e-12)
    gradient = graphc.trace(graphc.grad(lambda q: nn.attention(q, k, v, causal=True).sum()), q)
    assert [n["name"] for n in gradient.nodes if n.op.name == "call"] == ["softmax"]


def test_a_small_network_trains() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 1, 8, 8))
    y = (x.mean((1, 2, 3)) > 0).astype(np.int64)
    params = {
        "conv": 0.3 * rng.normal(size=(4, 1, 3, 3)), "scale": np.ones(4), "bias": np.zeros(4),
        "out": 0.1 * rng.normal(size=(4 * 16, 2)),
    }  # fmt: skip
    state = nn.batch_norm_state(4, np.float64)

    def loss(p: Any, state: Any) -> Any:
        h, state = nn.batch_norm(nn.conv2d(x, p["conv"], padding="same"), state, p["scale"], p["bias"])
        h = nn.max_pool2d(nn.gelu(h), 2)
        return nn.cross_entropy(h.reshape(len(x), -1) @ p["out"], y), state

    optimizer = graphc.optim.adam(0.02)
    moments = optimizer.init(params)
    step = graphc.value_and_grad(loss, has_aux=True)
    losses = []
    for k in range(12):
        (value, state), grads = step(params, state)
        params, moments = optimizer.update(grads, moments, params, k)
        losses.append(float(value))
    assert losses[-1] < 0.5 * losses[0]
