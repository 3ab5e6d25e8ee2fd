"""Calculus, signal and polynomial functions: errors in NumPy's words, derivatives at awkward points, results without traces."""

from __future__ import annotations

import numpy as np
import pytest
from compare import traced

import graphc
from graphc import ops
from graphc.tracing import UnsupportedError, to_node, wrap

X = np.array([0.5, -1.0, 2.0, 0.25])


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.cumsum(x, axis=1),
        lambda x: np.cumulative_sum(x.reshape(2, 2)),
        lambda x: np.diff(x, n=-1),
        lambda x: np.diff(x[0]),
        lambda x: np.ediff1d(x.astype(int), to_begin=0.5),
        lambda x: np.gradient(x[:1]),
        lambda x: np.gradient(x, 1.0, 2.0),
        lambda x: np.gradient(x, np.ones((2, 2))),
        lambda x: np.gradient(x, np.ones(3)),
        lambda x: np.gradient(x, edge_order=3),
        lambda x: np.interp(x, [], []),
        lambda x: np.interp(x, [0, 1], [0, 1, 2]),
        lambda x: np.interp(x, [0, 1], [0, 1], period=0),
        lambda x: np.convolve(x, np.zeros(0)),
        lambda x: np.convolve(x, [1.0], "middle"),
        lambda x: np.correlate(x, np.ones((2, 2))),
        lambda x: np.correlate(x[:0], x),
        lambda x: np.cross(x, x),
        lambda x: np.cross(x[0], x),
        lambda x: np.trace(x),
        lambda x: np.trace(x.reshape(2, 2), axis1=1, axis2=1),
        lambda x: np.vander(x.reshape(2, 2)),
        lambda x: np.polyder(x, -1),
        lambda x: np.polyint(x, -1),
        lambda x: np.polyint(x, 3, k=[1.0, 2.0]),
        lambda x: np.polyfit(x, x, -1),
        lambda x: np.polyfit(x, x[:3], 1),
        lambda x: np.polyfit(x.reshape(2, 2), x, 1),
    ],
)
def test_errors_are_numpys(call):
    with pytest.raises(Exception) as wanted:
        call(X.copy())
    with pytest.raises(Exception) as found:
        traced(call, X)
    assert type(found.value) is type(wanted.value)
    assert str(wanted.value).split("\n")[0][:40] in str(found.value)


def test_what_is_left_out_says_what_to_write():
    with pytest.raises(UnsupportedError, match=r"np.roots.*Newton"):
        traced(lambda x: np.roots(x), X)
    with pytest.raises(UnsupportedError, match=r"np.poly of a matrix"):
        traced(lambda x: np.poly(x.reshape(2, 2)), X)


def test_a_traced_truth_is_no_python_bool():
    with pytest.raises(TypeError):
        traced(lambda x: x if np.allclose(x, 1) else -x, X)
    assert traced(lambda x: np.array_equal(x, x), X).dtype == bool


# ------------------------------------------------------------------------------------------------ derivatives


def derivatives(function, x, order):
    """The values of a function of one number and its derivatives."""
    found = []
    for _ in range(order + 1):
        found.append(float(function(x)))
        function = graphc.grad(function)
    return found


def test_cumprod_is_right_at_zeros_at_every_order():
    x = np.array([2.0, 0.0, 3.0, 0.0, 1.5])
    jacobian = graphc.jacobian(np.cumprod)(x)
    want = np.zeros((5, 5))
    for i in range(5):
        for j in range(i + 1):
            want[i, j] = np.prod(np.delete(x[: i + 1], j))
    np.testing.assert_allclose(jacobian, want)
    hessian = graphc.hessian(lambda v: np.cumprod(v)[-1])(x)
    assert hessian[1, 3] == hessian[3, 1] == 2.0 * 3.0 * 1.5
    assert np.count_nonzero(hessian) == 2
    third = graphc.jacobian(graphc.hessian(lambda v: np.cumprod(v)[-1]))(x)
    assert third[1, 3, 0] == 3.0 * 1.5


@pytest.mark.parametrize("op, sign", [(ops.cummax, 1.0), (ops.cummin, -1.0)])
def test_running_extremes_route_to_the_last_that_attains_them(op, sign):
    x = sign * np.array([1.0, 1.0, 0.0, 2.0, 2.0, -1.0])

    def total(x, reverse):
        return np.sum(wrap(op(to_node(x), axis=0, reverse=reverse)) * np.array([1.0, 10.0, 100.0, 1e3, 1e4, 1e5]))

    forwards = graphc.grad(lambda x: total(x, False))(x)
    np.testing.assert_array_equal(forwards, [1, 110, 0, 1e3, 1.1e5, 0])
    backwards = graphc.grad(lambda x: total(x, True))(x)
    np.testing.assert_array_equal(backwards, [0, 0, 0, 1111, 1e4, 1e5])


def test_nan_takes_the_derivative_of_a_running_extreme():
    x = np.array([1.0, np.nan, 3.0, 0.0])
    found = graphc.grad(lambda x: np.sum(wrap(ops.cummax(to_node(x), axis=0, reverse=False))))(x)
    np.testing.assert_array_equal(found, [1, 3, 0, 0])


def test_the_first_factor_of_a_recurrence_is_not_used():
    def last(a, b):
        return wrap(ops.recurrence(to_node(a), to_node(b), axis=0, reverse=False))[-1]

    a, b = np.array([np.inf, 2.0, 3.0]), np.array([1.0, 0.5, 0.25])
    assert graphc.vmap(last)(a[None], b[None])[0] == 3 * (2 * 1 + 0.5) + 0.25
    ga, gb = graphc.grad(last, argnums=(0, 1))(a, b)
    np.testing.assert_array_equal(ga, [0, 3 * 1.0, 2.5])
    np.testing.assert_array_equal(gb, [6, 3, 1])


def test_sinc_at_zero():
    pi = np.pi
    found = derivatives(np.sinc, 0.0, 6)
    np.testing.assert_allclose(found, [1, 0, -(pi**2) / 3, 0, pi**4 / 5, 0, -(pi**6) / 7], rtol=1e-14, atol=1e-300)


def test_sinc_on_both_sides_of_its_series():
    edge = 0.5 / np.pi
    for x in (edge * (1 - 1e-12), edge * (1 + 1e-12)):
        y = np.pi * x
        first = (np.cos(y) / y - np.sin(y) / y**2) * np.pi
        second = (-np.sin(y) / y - 2 * np.cos(y) / y**2 + 2 * np.sin(y) / y**3) * np.pi**2
        np.testing.assert_allclose(derivatives(np.sinc, x, 2), [np.sinc(x), first, second], rtol=1e-13)


def test_interp_has_the_slope_to_the_right_of_a_sample_point():
    xp, fp = np.array([0.0, 1.0, 3.0]), np.array([1.0, 3.0, 2.0])
    slope = graphc.vmap(graphc.grad(lambda x: np.interp(x, xp, fp)))(np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_array_equal(slope, [0, 2, 2, -0.5, -0.5, -0.5, 0])
    weights = graphc.jacobian(lambda fp: np.interp(np.array([-1.0, 0.5, 3.0, 4.0]), xp, fp))(fp)
    np.testing.assert_array_equal(weights, [[1, 0, 0], [0.5, 0.5, 0], [0, 0, 1], [0, 0, 1]])


def test_interp_between_infinite_sample_points_has_finite_derivatives():
    xp, fp = np.array([-np.inf, 0.0, 1.0, np.inf]), np.array([1.0, 1.0, 2.0, 2.0])
    x = np.array([-3.0, 0.5, 7.0])
    np.testing.assert_array_equal(traced(lambda x: np.interp(x, xp, fp), x), np.interp(x, xp, fp))
    by_x, by_fp = graphc.grad(lambda x, fp: np.sum(np.interp(x, xp, fp)), argnums=(0, 1))(x, fp)
    np.testing.assert_array_equal(by_x, [0, 1, 0])
    assert np.isfinite(by_fp).all()


def test_unwrap_has_the_derivative_of_the_identity():
    p = np.array([0.0, 3.0, 6.0, -2.0, 9.0])
    np.testing.assert_array_equal(graphc.jacobian(np.unwrap)(p), np.eye(5))


def test_gradient_of_concrete_and_of_traced_spacing_agree():
    t, y = np.array([0.0, 0.5, 2.0, 2.25, 4.0]), np.arange(5.0) ** 2
    for order in (1, 2):
        one = traced(lambda y, order=order: np.gradient(y, t, edge_order=order), y)
        other = traced(lambda y, t, order=order: np.gradient(y, t, edge_order=order), y, t)
        np.testing.assert_allclose(one, other, rtol=1e-14)
        np.testing.assert_allclose(one, np.gradient(y, t, edge_order=order), rtol=1e-14)


def test_f32_stays_f32():
    x = X.astype(np.float32)
    for call in (
        lambda x: np.cumsum(x), lambda x: np.cumprod(x), lambda x: np.diff(x), lambda x: np.gradient(x, 0.5), np.sinc, np.i0,
        lambda x: np.trapezoid(x, dx=0.5), lambda x: np.convolve(x, x, "same"), lambda x: np.unwrap(x), np.nancumsum,
        lambda x: np.polyval(x, x), lambda x: np.kron(x, x), lambda x: np.cross(x[:3], x[1:]),
    ):  # fmt: skip
        assert traced(call, x).dtype == call(x).dtype == np.float32


def test_einsum_path_works_on_shapes():
    paths = []
    traced(lambda x, y: paths.append(np.einsum_path("ij,jk,kl", x, y, y)) or x, np.ones((2, 3)), np.ones((3, 3)))
    assert paths[0][0] == np.einsum_path("ij,jk,kl", np.ones((2, 3)), np.ones((3, 3)), np.ones((3, 3)))[0]


def test_results_go_into_out():
    def program(x):
        y, z = np.zeros_like(x), np.zeros_like(x)
        np.cumsum(x, out=y)
        x.cumprod(out=z)
        w = np.empty_like(x, shape=5)
        np.cumulative_sum(x, include_initial=True, out=w)
        return y, z, w

    for mine, numpys in zip(traced(program, X), program(X), strict=True):
        np.testing.assert_allclose(mine, numpys, rtol=1e-15)


@pytest.mark.parametrize("name", ["cumsum", "cumprod", "cummax", "cummin"])
@pytest.mark.parametrize("shape, axis", [((3, 7), 1), ((3, 7), 0), ((2, 5, 9), 1)])
def test_compiled_derivatives(name, shape, axis):
    x = np.random.default_rng(0).integers(-2, 3, shape).astype(np.float64)
    weights = np.random.default_rng(1).normal(size=shape)

    def loss(x):
        running = [wrap(ops.OPS[name](to_node(x), axis=axis, reverse=reverse)) for reverse in (False, True)]
        return np.sum(np.tanh(running[0] * 0.1) * weights) + np.sum(running[1] ** 2 * weights)

    gradient = graphc.grad(loss)
    np.testing.assert_allclose(graphc.compile(gradient)(x), gradient(x), rtol=1e-12, atol=1e-12)
    product = graphc.hvp(loss)
    np.testing.assert_allclose(graphc.compile(product)(x, weights), product(x, weights), rtol=1e-12, atol=1e-12)
