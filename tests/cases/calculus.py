"""Running sums and products, differences, gradients, integrals, interpolation, convolution, closeness and products of arrays."""

from __future__ import annotations

import warnings

import numpy as np

from cases import case, floats, integers, mask, positive

NAN = np.array([1.0, np.nan, 2.0, -np.inf, np.nan])
KNOTS = np.array([-1.5, -0.5, 0.25, 0.5, 2.0])
HEIGHTS = np.array([0.3, -1.0, 2.0, 0.7, 1.1])
ZEROS = np.array([[0.0, 1.5, 0.0, 2.0], [1.2, 0.0, -0.7, 0.4]])
TIES = np.array([1.0, 1.0, 2.0, 2.0, -1.0])


def flat_cross(a, b, **axes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.cross(a, b, **axes)


CASES = [
    # ------------------------------------------------------------------------------------------ running
    case("np.cumsum", lambda x: np.cumsum(x), floats(3, 4), kinds="biufc"),
    case("np.cumsum", lambda x: np.cumsum(x, axis=0), floats(3, 4), kinds="biufc"),
    case("np.cumsum", lambda x: np.cumsum(x, axis=-1), floats(2, 3, 17), kinds="biufc"),
    case("np.cumsum", lambda x: np.cumsum(x.T[::-1], axis=1), floats(3, 4), kinds="biufc"),
    case("np.cumsum", lambda x: np.cumsum(x, dtype=np.float64), floats(3, 4)),
    case("np.cumsum", lambda x: np.cumsum(x, axis=0, dtype=bool), floats(3, 2), grad=0),
    case("np.cumsum", lambda x: np.cumsum(x), np.array(1.5), kinds="biufc"),
    case("np.cumsum", lambda x: np.cumsum(x, axis=0), floats(0, 3), kinds="biufc"),
    case("np.cumsum", lambda x: np.cumsum(x, axis=1), floats(3, 0), kinds="biufc"),
    case("np.cumsum", lambda x: np.cumsum(x, axis=0), np.array([[1.0, np.nan], [np.inf, 2.0], [-np.inf, 1.0]]), grad=0),
    case("np.cumsum", lambda n: np.cumsum(n, axis=1), integers(3, 4).astype(np.int8)),
    case("np.cumsum", lambda m: np.cumsum(m), mask(7)),
    case("np.ndarray.cumsum", lambda x: x.cumsum(1), floats(3, 4)),
    case("np.cumprod", lambda x: np.cumprod(x), floats(2, 3), kinds="biufc"),
    case("np.cumprod", lambda x: np.cumprod(x, axis=1), ZEROS, kinds="biufc"),
    case("np.cumprod", lambda x: np.cumprod(x, axis=0), floats(20, 3), kinds="biufc"),
    case("np.cumprod", lambda x: np.cumprod(x, axis=-1, dtype=np.float32), ZEROS, grad=0, rtol=1e-5),
    case("np.cumprod", lambda x: np.cumprod(x, axis=1), floats(2, 0), kinds="biufc"),
    case("np.cumprod", lambda x: np.cumprod(x, dtype=bool), ZEROS, grad=0),
    case("np.ndarray.cumprod", lambda x: x.cumprod(axis=0), ZEROS, kinds="biufc"),
    case("np.cumulative_sum", lambda x: np.cumulative_sum(x, axis=1, include_initial=True), floats(3, 4), kinds="biufc"),
    case("np.cumulative_sum", lambda x: np.cumulative_sum(x), floats(4), kinds="biufc"),
    case("np.cumulative_sum", lambda x: np.cumulative_sum(x, include_initial=True), np.array(2.0), kinds="biufc"),
    case("np.cumulative_prod", lambda x: np.cumulative_prod(x, axis=0, include_initial=True), ZEROS),
    case("np.cumulative_prod", lambda x: np.cumulative_prod(x, dtype=np.float64), floats(5)),
    case("np.nancumsum", lambda x: np.nancumsum(x), NAN, grad=0),
    case("np.nancumsum", lambda x: np.nancumsum(x, axis=0), floats(3, 4), kinds="biufc"),
    case("np.nancumsum", lambda x: np.nancumsum(np.where(x > 0, x, np.nan), axis=0), floats(3, 4), kinds="biufc"),
    case("np.nancumprod", lambda x: np.nancumprod(np.where(x > 0, x, np.nan), axis=1), floats(3, 4), kinds="biufc"),
    case("np.nancumprod", lambda x: np.nancumprod(x), NAN, grad=0),
    # ------------------------------------------------------------------------------------------ differences
    case("np.diff", lambda x: np.diff(x), floats(3, 4), kinds="biufc"),
    case("np.diff", lambda x: np.diff(x, 2, axis=0), floats(4, 3), kinds="biufc"),
    case("np.diff", lambda x: np.diff(x, n=0), floats(4), kinds="biufc"),
    case("np.diff", lambda x: np.diff(x, n=5), floats(4), kinds="biufc"),
    case("np.diff", lambda x, p: np.diff(x, axis=0, prepend=p, append=7.0), floats(3, 4), floats(2, 4, seed=1), kinds="f"),
    case("np.diff", lambda x: np.diff(x, prepend=0), floats(3, 4), kinds="bi"),
    case("np.diff", lambda x, v: np.diff(x, prepend=v), floats(2, 4), np.array(0.5), kinds="biufc"),
    case("np.ediff1d", lambda x: np.ediff1d(x), floats(3, 4), kinds="biufc"),
    case("np.ediff1d", lambda x, b: np.ediff1d(x, to_end=[1, 2], to_begin=b), floats(4), floats(1, 2, seed=1), kinds="biufc"),
    case("np.ediff1d", lambda x: np.ediff1d(x, to_end=3), floats(1), kinds="biufc"),
    # ------------------------------------------------------------------------------------------ gradient
    case("np.gradient", lambda x: np.gradient(x), floats(6), kinds="biufc"),
    case("np.gradient", lambda x: np.gradient(x), floats(3, 4), kinds="biufc"),
    case("np.gradient", lambda x: np.gradient(x, 0.5, edge_order=2), floats(4, 3), kinds="biufc"),
    case("np.gradient", lambda x: np.gradient(x, 2.0, 0.25, axis=(0, 1)), floats(3, 4), kinds="biufc"),
    case("np.gradient", lambda x: np.gradient(x, KNOTS, axis=-1), floats(2, 5), kinds="biufc"),
    case("np.gradient", lambda x: np.gradient(x, KNOTS, edge_order=2), floats(5), kinds="biufc"),
    case("np.gradient", lambda x: np.gradient(x, np.arange(4), axis=1), floats(3, 4), kinds="biufc"),
    case("np.gradient", lambda x: np.gradient(x, KNOTS, 0.5, axis=(1, 0)), floats(3, 5), kinds="biufc"),
    case("np.gradient", lambda x, h: np.gradient(x, h), floats(5), np.array(0.3), kinds="biufc"),
    case("np.gradient", lambda x, t: np.gradient(x, np.cumsum(t), axis=1, edge_order=2), floats(2, 5), positive(5), kinds="f"),
    case("np.gradient", lambda x, t: np.gradient(x, np.cumsum(t)), floats(5), positive(5), kinds="f"),
    case("np.gradient", lambda x: np.gradient(x), floats(2), kinds="biufc"),
    # ------------------------------------------------------------------------------------------ integrals
    case("np.trapezoid", lambda y: np.trapezoid(y), floats(3, 4), kinds="biufc"),
    case("np.trapezoid", lambda y: np.trapezoid(y, dx=0.25, axis=0), floats(3, 4), kinds="biufc"),
    case("np.trapezoid", lambda y, x: np.trapezoid(y, x, axis=0), floats(3, 4), floats(3, seed=1), kinds="biufc"),
    case("np.trapezoid", lambda y, x: np.trapezoid(y, x), floats(3, 4), floats(3, 4, seed=1), kinds="biufc"),
    case("np.trapezoid", lambda y: np.trapezoid(y), floats(1), kinds="biufc"),
    # ------------------------------------------------------------------------------------------ interpolation
    case("np.interp", lambda x: np.interp(x, KNOTS, HEIGHTS), floats(3, 4)),
    case("np.interp", lambda x, t, fp: np.interp(x, np.cumsum(t, 0, "d") - 3, fp), floats(7), positive(5), HEIGHTS, kinds="f"),
    case("np.interp", lambda x, fp: np.interp(x, KNOTS, fp, left=-3, right=x[0]), floats(9), HEIGHTS),
    case("np.interp", lambda x, xp, fp: np.interp(x, xp, fp, period=3.1), floats(9), KNOTS, HEIGHTS, kinds="f"),
    case("np.interp", lambda x, p: np.interp(x, KNOTS, HEIGHTS, period=p), floats(9), np.array(4.4), kinds="f", rtol=1e-11),
    case("np.interp", lambda x: np.interp(x, KNOTS, HEIGHTS), np.array([*KNOTS, np.nan, np.inf, -np.inf, -2, 3]), grad=0),
    case("np.interp", lambda x: np.interp(x, [-np.inf, 0.0, 1.0, np.inf], [1.0, 1.0, 2.0, 5.0]), floats(9), grad=0),
    case("np.interp", lambda x: np.interp(x, [0, 1, 1, 2], [0, 1, 5, 6]), np.array([1, 0.5, 2.0]), grad=0),
    case("np.interp", lambda x, fp: np.interp(x, [0.5], fp), floats(4), floats(1, seed=3)),
    case("np.interp", lambda x: np.interp(x, [0, 2], [1, 5]), np.array(0.7)),
    case("np.interp", lambda x: np.interp(x, KNOTS, HEIGHTS), floats(0, 2)),
    case("np.interp", lambda x, fp: np.interp(x, KNOTS, fp * (1 + 2j), left=3, right=1j), floats(6), HEIGHTS, kinds="f", grad=0),
    # ------------------------------------------------------------------------------------------ signals
    case("np.convolve", lambda a, v: np.convolve(a, v), floats(6), floats(3, seed=1), kinds="biufc"),
    case("np.convolve", lambda a, v: np.convolve(a, v, "same"), floats(3), floats(6, seed=1), kinds="biufc"),
    case("np.convolve", lambda a, v: np.convolve(a, v, mode="same"), floats(7), floats(4, seed=1), kinds="biufc"),
    case("np.convolve", lambda a, v: np.convolve(a, v, "valid"), floats(4), floats(6, seed=1), kinds="biufc"),
    case("np.convolve", lambda a: np.convolve(a, [1, 2, 1], "same"), floats(6), kinds="bi"),
    case("np.convolve", lambda a, v: np.convolve(a, v), np.array(2.0), floats(1), kinds="biufc"),
    case("np.correlate", lambda a, v: np.correlate(a, v), floats(6), floats(3, seed=1), kinds="biufc"),
    case("np.correlate", lambda a, v: np.correlate(a, v, "full"), floats(3), floats(5, seed=1), kinds="biufc"),
    case("np.correlate", lambda a, v: np.correlate(a, v, "same"), floats(4), floats(7, seed=1), kinds="biufc"),
    case("np.correlate", lambda a, v: np.correlate(a, v, "same"), floats(7), floats(4, seed=1), kinds="biufc"),
    case("np.correlate", lambda a: np.correlate(a, a, "full"), floats(5), kinds="biufc"),
    case("np.convolve", lambda a, v: np.convolve(a * 1j, v, "same"), floats(3), floats(6, seed=1), kinds="f", grad=0),
    case("np.correlate", lambda a, v: np.correlate(a, v * (1 + 1j), "full"), floats(3), floats(5, seed=1), kinds="f", grad=0),
    case("np.i0", lambda x: np.i0(x), floats(3, 4), rtol=1e-11),
    case("np.i0", lambda x: np.i0(x), np.array([0.0, -0.0, 8.0, -9.5, 20.0, 0.25]), rtol=1e-11),
    case("np.unwrap", lambda p: np.unwrap(p * 3), floats(12)),
    case("np.unwrap", lambda p: np.unwrap(p, axis=0, period=2.5, discont=1.0), floats(5, 2)),
    case("np.unwrap", lambda n: np.unwrap(n, period=4), np.array([0, 1, 2, -1, 0, 3, 1, 2])),
    case("np.unwrap", lambda n: np.unwrap(n, period=5), np.array([0, 1, 2, -1, 0, 3, 1, 2])),
    case("np.unwrap", lambda p: np.unwrap(p, period=4), np.array([0.0, 2.0, 0.0, -2.0, 2.0, 6.0]), kinds="if", grad=0),
    case("np.unwrap", lambda p: np.unwrap(p), floats(0)),
    case("np.sinc", lambda x: np.sinc(x), floats(3, 4), rtol=1e-11),
    case("np.sinc", lambda x: np.sinc(x), np.array([0.0, -0.0, 0.1, 0.159, 0.16, -0.3, 1e-9]), rtol=1e-11),
    case("np.sinc", lambda x: np.sinc(x), np.array([np.nan, np.inf, 0.0, 30.5]), grad=0),
    case("np.angle", lambda x: np.angle(x), np.array([1.0, -2.0, 0.0, -0.0, np.nan, -np.inf]), kinds="buif", grad=0),
    case("np.angle", lambda x: np.angle(x, deg=True), floats(3), kinds="buif"),
    # ------------------------------------------------------------------------------------------ closeness
    case("np.isclose", lambda x: np.isclose(x, x + 1e-9), floats(3), grad=0, kinds="biufc"),
    case("np.isclose", lambda x, y: np.isclose(x, y, rtol=0.5, atol=0.1), floats(3, 4), floats(4, seed=2), grad=0, kinds="biufc"),
    case("np.isclose", lambda x: np.isclose(x, NAN, equal_nan=True), NAN, grad=0),
    case("np.isclose", lambda x: np.isclose(x, NAN), NAN, grad=0),
    case("np.isclose", lambda x: np.isclose(x, 1), floats(4), grad=0, kinds="biufc"),
    case("np.isclose", lambda n: np.isclose(n, n[::-1], atol=1), np.array([-(2**63), 0, 1, 2**62]), grad=0, kinds="biufc"),
    case("np.allclose", lambda x: np.allclose(x, x + 1e-9), floats(3, 2), grad=0, kinds="biufc"),
    case("np.allclose", lambda x: np.allclose(x, 0.5, atol=np.array([1, 3.0])), floats(3, 2), grad=0, kinds="biufc"),
    case("np.array_equal", lambda x, y: np.array_equal(x, y), floats(3), floats(3), grad=0, kinds="biufc"),
    case("np.array_equal", lambda x, y: np.array_equal(x, y), floats(3), floats(1, 3), grad=0, kinds="biufc"),
    case("np.array_equal", lambda x: (np.array_equal(x, x), np.array_equal(x, x, equal_nan=True)), NAN, grad=0),
    case("np.array_equiv", lambda x: np.array_equiv(x, np.stack([x, x])), floats(3), grad=0),
    case("np.array_equiv", lambda x: np.array_equiv(x, np.ones(4)), floats(3), grad=0),
    case("np.isposinf", lambda x: np.isposinf(x), np.array([1.0, np.inf, -np.inf, np.nan]), grad=0),
    case("np.isneginf", lambda x: np.isneginf(x), np.array([1.0, np.inf, -np.inf, np.nan]), grad=0),
    case("np.iscomplex", lambda x: np.iscomplex(x), floats(3), grad=0, kinds="biufc"),
    case("np.isreal", lambda x: np.isreal(x), floats(3), grad=0, kinds="biufc"),
    case("np.real_if_close", lambda x: np.real_if_close(x), floats(3)),
    case("np.fix", lambda x: np.fix(x), np.array([2.7, -2.7, 0.4, -0.4, 3.0, np.nan, -np.inf]), grad=0),
    # ------------------------------------------------------------------------------------------ products
    case("np.cross", lambda a, b: np.cross(a, b), floats(4, 3), floats(3, seed=1), kinds="biufc"),
    case("np.cross", lambda a, b: np.cross(a, b, axisa=0, axisb=1, axisc=0), floats(3, 2), floats(2, 3, seed=1), kinds="biufc"),
    case("np.cross", lambda a, b: np.cross(a, b, axis=1), floats(2, 3, 2), floats(2, 3, 2, seed=1), kinds="biufc"),
    case("np.cross", lambda a, b: flat_cross(a, b), floats(4, 2), floats(4, 2, seed=1), kinds="biufc"),
    case("np.cross", lambda a, b: flat_cross(a, b), floats(4, 2), floats(4, 3, seed=1), kinds="biufc"),
    case("np.cross", lambda a, b: flat_cross(a, b, axisc=0), floats(4, 3), floats(4, 2, seed=1), kinds="biufc"),
    case("np.linalg.cross", lambda a, b: np.linalg.cross(a, b, axis=0), floats(3, 2), floats(3, 2, seed=1)),
    case("np.kron", lambda a, b: np.kron(a, b), floats(2, 3), floats(3, 2, seed=1), kinds="biufc"),
    case("np.kron", lambda a, b: np.kron(a, b), floats(3), floats(2, 2, seed=1), kinds="biufc"),
    case("np.kron", lambda a, b: np.kron(a, b), floats(2, 2), np.array(1.5), kinds="biufc"),
    case("np.kron", lambda a, b: np.kron(a, b), floats(2, 0), floats(3, seed=1), kinds="biufc"),
    case("np.trace", lambda x: np.trace(x), floats(3, 4), kinds="biufc"),
    case("np.trace", lambda x: np.trace(x, offset=-1, axis1=2, axis2=0), floats(3, 2, 4), kinds="biufc"),
    case("np.trace", lambda x: np.trace(x, 7), floats(3, 4), kinds="biufc"),
    case("np.ndarray.trace", lambda x: x.trace(1), floats(3, 4)),
    case("np.einsum_path", lambda x, y: x * len(np.einsum_path("ij,jk,kl->il", x, y, x)[0]), floats(3, 3), floats(3, 3, seed=1)),
]  # fmt: skip
