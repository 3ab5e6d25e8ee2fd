"""Optimizers against loops written out from their papers (in PyTorch's form), on arrays and inside traces."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from compare import traced

import graphc
from graphc import optim

RNG = np.random.default_rng(0)
P0 = {"w": RNG.normal(size=(2, 3)), "b": [RNG.normal(size=3), None]}
STEPS = 6


def gradient(p: np.ndarray, k: int) -> np.ndarray:
    """Some gradient that changes with the step."""
    return np.sin(3 * p + k) + 0.1 * p


def flat(tree: Any) -> list[np.ndarray]:
    return graphc.tree.tree_leaves(tree)


def run(optimizer: optim.Optimizer, p: Any, steps: int = STEPS, wrap: Callable[[Any], Any] = lambda f: f) -> Any:
    """``steps`` updates; ``wrap`` may compile one."""
    state = optimizer.init(p)

    def update(p: Any, state: Any, k: Any) -> Any:
        grads = graphc.tree.tree_map(lambda leaf: np.sin(3 * leaf + k) + 0.1 * leaf, p)
        return optimizer.update(grads, state, p, k)

    one = wrap(update)
    for k in range(steps):
        p, state = one(p, state, k)
    return p, state


# Each is one leaf's updates, written out.


def sgd(
    p: np.ndarray, lr: float = 0.1, momentum: float = 0.0, nesterov: bool = False, decay: float = 0.0
) -> Iterator[Any]:
    v = np.zeros_like(p)
    for k in range(STEPS):
        g = gradient(p, k) + decay * p
        if momentum:
            v = momentum * v + g
            g = g + momentum * v if nesterov else v
        p = p - lr * g
        yield p


def adam(
    p: np.ndarray, lr: float = 0.1, l2: float = 0.0, decoupled: float = 0.0, b1: float = 0.9, b2: float = 0.999
) -> Iterator[Any]:
    m = v = np.zeros_like(p)
    for k in range(STEPS):
        g = gradient(p, k) + l2 * p
        p = p * (1 - lr * decoupled)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        p = p - lr * (m / (1 - b1 ** (k + 1))) / (np.sqrt(v / (1 - b2 ** (k + 1))) + 1e-8)
        yield p


def rmsprop(p: np.ndarray, lr: float = 0.1, momentum: float = 0.0) -> Iterator[Any]:
    v = u = np.zeros_like(p)
    for k in range(STEPS):
        g = gradient(p, k)
        v = 0.99 * v + 0.01 * g**2
        u = momentum * u + g / (np.sqrt(v) + 1e-8)
        p = p - lr * u
        yield p


def adagrad(p: np.ndarray, lr: float = 0.1) -> Iterator[Any]:
    s = np.zeros_like(p)
    for k in range(STEPS):
        g = gradient(p, k)
        s = s + g**2
        p = p - lr * g / (np.sqrt(s) + 1e-10)
        yield p


CASES: dict[str, tuple[optim.Optimizer, Callable[[np.ndarray], Iterator[Any]]]] = {
    "sgd": (optim.sgd(0.1), sgd),
    "sgd with decay": (optim.sgd(0.1, weight_decay=0.2), lambda p: sgd(p, decay=0.2)),
    "momentum": (optim.sgd(0.1, momentum=0.9), lambda p: sgd(p, momentum=0.9)),
    "nesterov": (
        optim.sgd(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: sgd(p, momentum=0.9, nesterov=True, decay=0.1),
    ),
    "adam": (optim.adam(0.1), adam),
    "adam with l2": (optim.adam(0.1, weight_decay=0.3), lambda p: adam(p, l2=0.3)),
    "adam betas": (optim.adam(0.1, b1=0.5, b2=0.9), lambda p: adam(p, b1=0.5, b2=0.9)),
    "adamw": (optim.adamw(0.1, weight_decay=0.3), lambda p: adam(p, decoupled=0.3)),
    "rmsprop": (optim.rmsprop(0.1), rmsprop),
    "rmsprop momentum": (optim.rmsprop(0.1, momentum=0.9), lambda p: rmsprop(p, momentum=0.9)),
    "adagrad": (optim.adagrad(0.1), adagrad),
}


@pytest.mark.parametrize("name", CASES)
def test_updates_are_the_papers(name: str) -> None:
    optimizer, written = CASES[name]
    found, state = run(optimizer, P0)
    for have, start in zip(flat(found), flat(P0), strict=True):
        *_, want = written(start)
        np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-13)
    assert graphc.tree.flatten(state)[1] == graphc.tree.flatten(optimizer.init(P0))[1]
    inside, _ = run(optimizer, P0, wrap=lambda f: lambda *args: traced(f, *args))
    for one, other in zip(flat(inside), flat(found), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_float32_stays_float32(name: str) -> None:
    optimizer, _ = CASES[name]
    narrow = graphc.tree.tree_map(lambda p: p.astype(np.float32), P0)
    for wrap in (lambda f: f, lambda f: lambda *args: traced(f, *args)):
        for tree in run(optimizer, narrow, 2, wrap):
            assert {leaf.dtype for leaf in flat(tree)} <= {np.dtype(np.float32)}
    program = graphc.tracing.trace_program(
        lambda p, s, k: optimizer.update(p, s, p, k), (narrow, optimizer.init(narrow), np.int64(3)), {}
    )
    assert not program.notes and all(t.dtype.name == "f32" for t in program.graph.output_types)


def test_numpys_numbers_as_hyperparameters_widen_nothing() -> None:
    p = {"w": np.ones(3, np.float32), "s": np.float32(2)}
    f64 = np.float64
    optimizers = [
        optim.sgd(f64(0.1), f64(0.9), True, f64(0.1)), optim.adamw(f64(0.1), f64(0.9), f64(0.99), f64(1e-8), f64(0.1)),
        optim.rmsprop(f64(0.1), f64(0.9), f64(1e-8), f64(0.5)), optim.adagrad(f64(0.1), f64(1e-8)),
        optim.clip_by_global_norm(f64(1.0), optim.sgd(optim.cosine_decay(0.1, 10))),
        optim.sgd(lambda step: np.float64(0.1)), optim.sgd(lambda step: 0.1), optim.sgd(np.array(0.1)),
    ]  # fmt: skip
    for optimizer in optimizers:
        new, _ = optimizer.update(p, optimizer.init(p), p, 0)
        assert {leaf.dtype for leaf in flat(new)} == {np.dtype(np.float32)}


def test_python_numbers_and_half_floats_as_parameters() -> None:
    for optimizer in (
        optim.sgd(0.5, momentum=0.5),
        optim.adam(0.5),
        optim.clip_by_global_norm(1.0, optim.adagrad(0.5)),
    ):
        new, _ = optimizer.update({"a": 1.0, "b": 2.0}, optimizer.init({"a": 1.0, "b": 2.0}), {"a": 3.0, "b": 1.0}, 0)
        assert float(new["a"]) < 3 and float(new["b"]) < 1
        half = {"w": np.full(4, 100.0, np.float16)}
        new, _ = optimizer.update(half, optimizer.init(half), half, 0)
        assert new["w"].dtype == np.float16 and np.isfinite(new["w"]).all()


def test_what_does_not_nest_is_refused() -> None:
    for optimizer in (optim.sgd(0.1), optim.adam(0.1)):
        with pytest.raises(TypeError, match=r"the gradients do not nest as the parameters: .*\['w'\]"):
            optimizer.update({"v": 1.0}, optimizer.init({"w": 1.0}), {"w": 1.0}, 0)
    with pytest.raises(TypeError, match="the optimizer state does not nest"):
        optim.sgd(0.1, momentum=0.9).update({"w": 1.0}, {"velocity": {"v": 1.0}}, {"w": 1.0}, 0)
    with pytest.raises(ValueError, match="nesterov needs a momentum"):
        optim.sgd(0.1, nesterov=True)


def test_minimises_and_differentiates() -> None:
    a = np.diag([1.0, 10.0])
    loss = lambda p: (p @ a @ p) / 2  # noqa: E731
    for optimizer in (optim.sgd(0.05, momentum=0.9), optim.adam(0.1), optim.rmsprop(0.02), optim.adagrad(0.5)):
        p = np.array([1.0, -2.0])
        state = optimizer.init(p)
        for k in range(300):
            p, state = optimizer.update(graphc.grad(loss)(p), state, p, k)
        assert loss(p) < 1e-2

    def after_two_steps(lr: Any) -> Any:
        p, state = np.array([1.0, -2.0]), {}
        for k in range(2):
            p, state = optim.sgd(lr).update(graphc.grad(loss)(p), state, p, k)
        return loss(p)

    graphc.check_grads(after_two_steps, (0.03,), order=2)


# ------------------------------------------------------------------------------------------------ clipping, schedules


def test_clipping_by_the_global_norm() -> None:
    grads = {"a": np.array([3.0, 0.0]), "b": np.array(4.0)}
    assert float(optim.global_norm(grads)) == 5
    start = {"a": np.zeros(2), "b": np.array(0.0)}
    for limit, scale in ((1.0, 0.2), (10.0, 1.0)):
        new, _ = optim.clip_by_global_norm(limit, optim.sgd(1.0)).update(grads, {}, start, 0)
        np.testing.assert_allclose(new["a"], -grads["a"] * scale)
        np.testing.assert_allclose(new["b"], -grads["b"] * scale)
    zero, _ = optim.clip_by_global_norm(1.0, optim.sgd(1.0)).update(start, {}, start, 0)
    assert np.isfinite(zero["a"]).all()
    half = np.full(10, 300.0, np.float16)
    assert float(optim.global_norm([half])) == pytest.approx(300 * math.sqrt(10), rel=1e-3), "no overflow in float16"


SCHEDULES: dict[str, tuple[Callable[[Any], Any], Callable[[int], float]]] = {
    "constant": (optim.constant(0.3), lambda k: 0.3),
    "exponential": (optim.exponential_decay(1.0, 0.5, 4), lambda k: 0.5 ** (k / 4)),
    "cosine": (optim.cosine_decay(2.0, 10, 0.1), lambda k: 0.1 + 1.9 * 0.5 * (1 + math.cos(math.pi * min(k / 10, 1)))),
    "warmup": (optim.warmup(4, 0.8), lambda k: 0.8 * min((k + 1) / 4, 1) if k < 4 else 0.8),
    "warmup cosine": (optim.warmup(4, optim.cosine_decay(1.0, 8)),
                      lambda k: (k + 1) / 4 if k < 4 else 0.5 * (1 + math.cos(math.pi * min((k - 4) / 8, 1)))),
    "piecewise": (optim.piecewise_constant([3, 6], [1.0, 0.1, 0.01]), lambda k: 1.0 if k < 3 else 0.1 if k < 6 else 0.01),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name: str) -> None:
    schedule, written = SCHEDULES[name]
    for k in range(14):
        assert float(schedule(k)) == pytest.approx(written(k), rel=1e-12)
        assert float(traced(schedule, np.int64(k))) == pytest.approx(written(k), rel=1e-12)
    p = np.ones(2, np.float32)
    for k in (0, 5):
        new, _ = optim.sgd(schedule).update(p, {}, p, k)
        np.testing.assert_allclose(new, 1 - np.float32(written(k)), rtol=1e-6)
        assert new.dtype == np.float32
    with pytest.raises(ValueError, match="one value more than boundaries"):
        optim.piecewise_constant([1], [1.0])


# ------------------------------------------------------------------------------------------------ in a training step


def test_an_update_that_widens_is_refused_with_its_line() -> None:
    def loss(p: Any, x: Any) -> Any:
        return ((p["w"] * x) ** 2).mean()

    def widening() -> optim.Optimizer:
        def update(grads: Any, state: Any, params: Any, step: Any) -> Any:
            return graphc.tree.tree_map(lambda g, p: p - np.float64(0.1) * g, grads, params), state

        return optim.Optimizer(lambda params: {}, update)

    step = graphc.TrainingStep(loss, {"w": np.ones(3, np.float32)}, widening(), backend="reference")
    with pytest.raises(
        TypeError,
        match=r"update of params.w is f64\[3\].*float64 from .*test_optim.py:\d+: np.float64\(0.1\) is float64",
    ):
        step(np.ones(3, np.float32))
