"""Softmax, log-softmax and logsumexp as users write them: recognised before differentiation, right in every derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
from compare import traced

import graphc
from graphc.ir import Graph

Function = Callable[[Any], Any]


def lifted_names(graph: Graph) -> list[str]:
    return [n["name"] for n in graph.nodes if n.op.name == "call"]


def names_in_gradient(function: Function, x: Any) -> list[str]:
    return lifted_names(graphc.trace(graphc.grad(lambda x: (np.sin(function(x)) * 1.5).sum()), x))


# ------------------------------------------------------------------------------------------------ the many ways


def softmax_plain(x: Any) -> Any:
    e = np.exp(x)
    return e / e.sum(axis=1, keepdims=True)


def softmax_shifted(x: Any) -> Any:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def softmax_with_none(x: Any) -> Any:
    e = np.exp(x - np.max(x, axis=1)[:, None])
    return e / np.sum(e, axis=1)[:, np.newaxis]


def softmax_expanded(x: Any) -> Any:
    e = np.exp(x - np.expand_dims(np.amax(x, 1), 1))
    return np.divide(e, np.expand_dims(e.sum(1), -1))


def softmax_reshaped(x: Any) -> Any:
    e = np.exp(x - x.max(1).reshape(-1, 1))
    return e / e.sum(1).reshape((len(x), 1))


def softmax_of_all(x: Any) -> Any:
    e = np.exp(x - x.max())
    return e / e.sum()


def softmax_over_rows(x: Any) -> Any:
    e = np.exp(x - x.max(0))
    return e / e.sum(0)


def softmax_written_twice(x: Any) -> Any:
    return np.exp(x - x.max(1, keepdims=True)) / np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True)


def softmax_stopped(x: Any) -> Any:
    e = np.exp(x - graphc.stop_gradient(x.max(1, keepdims=True)))
    return e / e.sum(1, keepdims=True)


def softmax_global_shift(x: Any) -> Any:
    e = np.exp(x - x.max())
    return e / e.sum(1, keepdims=True)


def softmax_by_inverse(x: Any) -> Any:
    e = np.exp(x - x.max(1, keepdims=True))
    return e * (1.0 / e.sum(1, keepdims=True))


def softmax_by_einsum(x: Any) -> Any:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / np.einsum("ij->i", e)[:, None]


def softmax_of_attention(x: Any) -> Any:
    scores = np.where(np.tri(*x.shape, dtype=bool), x / np.sqrt(4.0), -1e9)
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_through_log(x: Any) -> Any:
    s = x - x.max(1, keepdims=True)
    return np.exp(s - np.log(np.exp(s).sum(1, keepdims=True)))


SOFTMAXES = [
    softmax_plain, softmax_shifted, softmax_with_none, softmax_expanded, softmax_reshaped, softmax_of_all,
    softmax_over_rows, softmax_written_twice, softmax_stopped, softmax_global_shift, softmax_by_inverse, softmax_by_einsum,
    softmax_of_attention,
]  # fmt: skip


def log_softmax_plain(x: Any) -> Any:
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def log_softmax_shifted(x: Any) -> Any:
    s = x - x.max(axis=1, keepdims=True)
    return s - np.log(np.exp(s).sum(axis=1, keepdims=True))


def log_softmax_with_none(x: Any) -> Any:
    s = x - x.max(1)[:, None]
    return s - np.log(np.sum(np.exp(s), 1))[:, None]


def log_softmax_of_logsumexp(x: Any) -> Any:
    m = x.max(axis=1, keepdims=True)
    return x - (m + np.log(np.exp(x - m).sum(axis=1, keepdims=True)))


def log_softmax_of_reduced_logsumexp(x: Any) -> Any:
    m = x.max(axis=1)
    lse = np.log(np.exp(x - m[:, None]).sum(axis=1)) + m
    return x - lse[:, None]


def log_softmax_over_rows(x: Any) -> Any:
    s = x - x.max(0)
    return s - np.log(np.exp(s).sum(0))


def log_softmax_scipy(x: Any) -> Any:
    """As scipy.special.log_softmax is written."""
    x_max = np.max(x, axis=1, keepdims=True)
    x_max = np.where(np.isfinite(x_max), x_max, 0)
    tmp = x - x_max
    return tmp - np.log(np.sum(np.exp(tmp), axis=1, keepdims=True))


LOG_SOFTMAXES = [
    log_softmax_plain, log_softmax_shifted, log_softmax_with_none, log_softmax_of_logsumexp,
    log_softmax_of_reduced_logsumexp, log_softmax_over_rows, log_softmax_scipy,
]  # fmt: skip


def logsumexp_plain(x: Any) -> Any:
    return np.log(np.exp(x).sum(1))


def logsumexp_kept(x: Any) -> Any:
    m = x.max(1, keepdims=True)
    return np.log(np.exp(x - m).sum(1, keepdims=True)) + m


def logsumexp_reduced(x: Any) -> Any:
    m = np.max(x, axis=1)
    return m + np.log(np.sum(np.exp(x - m[:, None]), axis=1))


def logsumexp_squeezed(x: Any) -> Any:
    m = x.max(0, keepdims=True)
    return np.log(np.exp(x - m).sum(0)) + np.squeeze(m, 0)


def logsumexp_indexed(x: Any) -> Any:
    m = x.max(1, keepdims=True)
    return np.log(np.sum(np.exp(x - m), 1)) + m[:, 0]


def logsumexp_scipy(x: Any) -> Any:
    """As scipy.special.logsumexp was written."""
    a_max = np.amax(x, axis=1, keepdims=True)
    a_max = np.where(np.isfinite(a_max), a_max, 0)
    out = np.log(np.sum(np.exp(x - a_max), axis=1, keepdims=False))
    return out + np.squeeze(a_max, axis=1)


def logsumexp_of_all(x: Any) -> Any:
    m = x.max()
    return np.log(np.exp(x - m).sum()) + m


LOGSUMEXPS = [
    logsumexp_plain, logsumexp_kept, logsumexp_reduced, logsumexp_squeezed, logsumexp_indexed, logsumexp_scipy,
    logsumexp_of_all,
]  # fmt: skip

EVERY = [
    *[("softmax", f) for f in SOFTMAXES], *[("log_softmax", f) for f in [*LOG_SOFTMAXES, softmax_through_log]],
    *[("logsumexp", f) for f in LOGSUMEXPS],
]  # fmt: skip
X = np.random.default_rng(3).normal(size=(3, 4)) * 2


@pytest.mark.parametrize(("name", "function"), EVERY, ids=[f.__name__ for _, f in EVERY])
def test_lifted_and_right(name: str, function: Function) -> None:
    assert names_in_gradient(function, X) == [name]
    graphc.check_grads(function, (X,), order=2)
    graph = graphc.trace(graphc.grad(lambda x: function(x).sum()), X)
    maxima = [n for n in graph.nodes if n.op.name in ("argmax", "eq")]
    assert not maxima, "the adjoint through the shift is not built"
    assert lifted_names(graphc.trace(function, X)) == [], "nothing changes where nothing is differentiated"


@pytest.mark.parametrize(("name", "function"), EVERY, ids=[f.__name__ for _, f in EVERY])
def test_the_value_keeps_its_bits(name: str, function: Function) -> None:
    value, _ = graphc.value_and_grad(lambda x: function(x).sum())(X)
    assert value == traced(lambda x: function(x).sum(), X)


def test_large_logits_stay_finite() -> None:
    x = np.array([[1000.0, -1000.0, 999.0], [-1e4, -1e4, -1e4]])
    for function in (softmax_shifted, log_softmax_shifted, logsumexp_kept, logsumexp_scipy, softmax_of_attention):

        def loss(x: Any, function: Function = function) -> Any:
            return (function(x) ** 2).mean()

        for derivative in (graphc.grad(loss), graphc.hessian(loss)):
            assert np.isfinite(derivative(x)).all(), function.__name__
    np.testing.assert_allclose(graphc.grad(lambda x: logsumexp_kept(x).sum())(x), scipy.special.softmax(x, 1))


def test_derivatives_agree_with_scipy() -> None:
    p = scipy.special.softmax(X, 1)
    weights = np.arange(12.0).reshape(3, 4)
    want = p * (weights - (weights * p).sum(1, keepdims=True))
    np.testing.assert_allclose(graphc.grad(lambda x: (softmax_shifted(x) * weights).sum())(X), want, atol=1e-14)
    rows = graphc.vmap(graphc.hessian(lambda x: logsumexp_kept(x[None])[0, 0]))(X)
    np.testing.assert_allclose(rows, np.einsum("ij,jk->ijk", p, np.eye(4)) - np.einsum("ij,ik->ijk", p, p), atol=1e-14)


def test_under_vmap_jvp_and_nested() -> None:
    def loss(x: Any) -> Any:
        s = x - x.max()
        return (np.log(np.exp(s).sum()) - s[1]) ** 2

    def plain(x: Any) -> Any:
        return (np.log(np.exp(x).sum()) - x[1]) ** 2

    graph = graphc.trace(graphc.vmap(graphc.grad(loss)), X)
    assert lifted_names(graph) == ["logsumexp"] and graph.output_types[0].shape == (3, 4)
    np.testing.assert_allclose(graphc.vmap(graphc.grad(loss))(X), [graphc.grad(plain)(x) for x in X], atol=1e-12)
    third = graphc.grad(lambda x: graphc.grad(lambda x: graphc.grad(loss)(x)[0])(x)[1])
    np.testing.assert_allclose(
        third(X[0]), graphc.jacfwd(lambda x: graphc.jacfwd(graphc.jacfwd(plain))(x)[0, 1])(X[0]), atol=1e-10
    )
    outer = graphc.grad(lambda x: graphc.vmap(loss)(x).sum())
    np.testing.assert_allclose(outer(X), graphc.vmap(graphc.grad(loss))(X), atol=1e-12)


def test_two_patterns_in_a_row() -> None:
    def twice(x: Any) -> Any:
        return log_softmax_shifted(softmax_shifted(x) * 3)

    assert names_in_gradient(twice, X) == ["softmax", "log_softmax"]
    graphc.check_grads(twice, (X,), order=2)


def test_cross_entropy_keeps_its_line() -> None:
    def loss(x: Any) -> Any:
        s = x - x.max(1, keepdims=True)
        log_p = s - np.log(np.exp(s).sum(1, keepdims=True))
        return -log_p[np.arange(3), [0, 2, 1]].mean()

    graph = graphc.trace(graphc.grad(loss), X)
    (call,) = [n for n in graph.nodes if n.op.name == "call"]
    line = loss.__code__.co_firstlineno + 2
    assert [entry.line for entry in graph.lines[call]] == [line]
    p = scipy.special.softmax(X, 1)
    p[np.arange(3), [0, 2, 1]] -= 1
    np.testing.assert_allclose(graphc.grad(loss)(X), p / 3, atol=1e-15)


# ------------------------------------------------------------------------------------------------ near misses


def miss_other_axis(x: Any) -> Any:
    e = np.exp(x[:3, :3])
    return e / e.sum(axis=0)[:, None]


def miss_epsilon(x: Any) -> Any:
    e = np.exp(x)
    return e / (e.sum(1, keepdims=True) + 1e-3)


def miss_other_exponential(x: Any) -> Any:
    return np.exp(x) / np.exp(2 * x).sum(1, keepdims=True)


def miss_masked(x: Any) -> Any:
    e = np.where(x > 0, np.exp(x), 0)
    return e / (e.sum(1, keepdims=True) + 1)


def miss_mean(x: Any) -> Any:
    e = np.exp(x)
    return e / e.mean(1, keepdims=True)


def miss_log2(x: Any) -> Any:
    return x - np.log2(np.exp2(x).sum(1, keepdims=True))


def miss_power(x: Any) -> Any:
    e = 2.0**x
    return e / e.sum(1, keepdims=True)


MISSES = [miss_other_axis, miss_epsilon, miss_other_exponential, miss_masked, miss_mean, miss_log2, miss_power]


@pytest.mark.parametrize("function", MISSES, ids=lambda f: f.__name__)
def test_near_misses_are_left_alone_and_right(function: Function) -> None:
    assert names_in_gradient(function, X) == []
    graphc.check_grads(function, (X,), order=2)


def test_a_shift_that_varies_along_the_sum_is_part_of_the_operand() -> None:
    def function(x: Any) -> Any:
        e = np.exp(x - x.max(0))  # the maximum of the columns, the sum of the rows
        return e / e.sum(1, keepdims=True)

    assert names_in_gradient(function, X) == ["softmax"]
    graphc.check_grads(function, (X,), order=2)


def test_a_shift_that_is_not_added_again_is_no_logsumexp() -> None:
    def function(x: Any) -> Any:
        m = x.max(1)
        return np.log(np.exp(x - m[:, None]).sum(1)) + 2 * m

    assert names_in_gradient(function, X) == ["logsumexp"], "of the shifted operand alone"
    graphc.check_grads(function, (X,), order=2)
    exe = graphc.tracing.trace_program(graphc.grad(lambda x: function(x).sum()), (X,), {})
    assert any("not recognised as logsumexp" in note and "test_lifting.py" in note for note in exe.notes)


def test_misses_say_why() -> None:
    def notes(function: Function) -> str:
        return "; ".join(graphc.tracing.trace_program(graphc.grad(lambda x: function(x).sum()), (X,), {}).notes)

    assert "not recognised as softmax (" in notes(miss_other_axis) and "test_lifting.py:" in notes(miss_other_axis)
    assert "the sum over axes (0,) divides along other axes" in notes(miss_other_axis)
    assert "the exponential that is divided is not the one that is summed" in notes(miss_other_exponential)
    assert notes(softmax_shifted) == ""
