"""What a case cannot say of ufuncs: derivatives where they are a convention, exact values, errors, names left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compare import traced
from numpy.testing.overrides import get_overridable_numpy_ufuncs

import graphc
import graphc.numpy  # noqa: F401
from graphc.leaks import TracerError, UnsupportedError
from graphc.tracing import FUNCTIONS, LEFT_OUT, UFUNCS

INF, NAN = np.inf, np.nan
X = np.linspace(0.5, 3.0, 6)


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with np.errstate(all="ignore"):
        yield


def test_every_numeric_ufunc_is_traced() -> None:
    """The others work on text or dates, and say so."""
    for ufunc in get_overridable_numpy_ufuncs():
        numeric = any(kind in loop for loop in ufunc.types for kind in "?bdlM") and ufunc is not np.isnat
        assert (ufunc in UFUNCS or ufunc in FUNCTIONS) == numeric, ufunc
        assert (ufunc in LEFT_OUT) != numeric, ufunc
    with pytest.raises(UnsupportedError, match="does not trace the ufunc isnat .*dates"):
        graphc.trace(np.isnat, X)
    with pytest.raises(UnsupportedError, match="does not trace the ufunc isalpha .*text"):
        graphc.trace(np.strings.isalpha, X)


@pytest.mark.parametrize(
    ("ufunc", "x", "value"),
    [
        (np.log2, 8.0, 3.0), (np.log2, 2.0**-1074, -1074.0), (np.exp2, 3.0, 8.0), (np.exp2, -1074.0, 2.0**-1074),
        (np.cbrt, 27.0, 3.0), (np.cbrt, -1e-300, -1e-100), (np.log10, 1000.0, 3.0), (np.log10, 1e-5, -5.0),
        (np.arcsinh, 1e-20, 1e-20), (np.arcsinh, -0.0, -0.0), (np.arcsinh, 1e300, math.asinh(1e300)),
        (np.arccosh, 1.0, 0.0), (np.arccosh, 1 + 1e-12, math.acosh(1 + 1e-12)), (np.arctanh, 1e-20, 1e-20),
        (np.sinh, 1e-20, 1e-20), (np.tan, -0.0, -0.0), (np.arctan, 1e300, math.pi / 2),
    ],
)  # fmt: skip
def test_exact_values(ufunc: Any, x: float, value: float) -> None:
    for have in (traced(ufunc, np.float64(x)), graphc.compile(ufunc)(np.float64(x))):
        assert abs(have - value) <= 2 * np.spacing(abs(value)) and np.signbit(have) == np.signbit(value)
        if value == round(value, 0):
            assert have == value


# ------------------------------------------------------------------------------------------------ derivatives at a point


def derivatives(f: Callable[..., Any], *at: float) -> tuple[list[float], list[list[float]]]:
    """First and second derivatives; forward and reverse mode must agree on them."""

    def packed(v: Any) -> Any:
        return f(*[v[k] for k in range(len(at))])

    x = np.array(at)
    first = [np.asarray(d(packed)(x)) for d in (graphc.jacrev, graphc.jacfwd)]
    np.testing.assert_allclose(*first, rtol=1e-12)
    second = [
        np.asarray(one(other(packed))(x))
        for one in (graphc.jacrev, graphc.jacfwd)
        for other in (graphc.jacrev, graphc.jacfwd)
    ]
    for other in second[1:]:
        np.testing.assert_allclose(second[0], other, rtol=1e-12, atol=1e-100)
    return first[0].tolist(), second[0].tolist()


def same(have: Any, want: Any) -> None:
    np.testing.assert_allclose(np.asarray(have, float), np.asarray(want, float), rtol=1e-12)


@pytest.mark.parametrize(
    ("f", "at", "first", "second"),
    [
        # The derivative of the absolute value at 0 is 0, as is that of functions of it.
        (np.abs, (0.0,), [0], [[0]]),
        (np.abs, (-0.0,), [0], [[0]]),
        (np.fabs, (-2.0,), [-1], [[0]]),
        (np.hypot, (0.0, 0.0), [0, 0], [[0, 0], [0, 0]]),
        (np.hypot, (3.0, 0.0), [1, 0], [[0, 0], [0, 1 / 3]]),
        (np.hypot, (-3e200, 4e200), [-0.6, 0.8], [[0.64 / 5e200, 0.48 / 5e200], [0.48 / 5e200, 0.36 / 5e200]]),
        # Steps are flat, also where they jump.
        (np.sign, (0.0,), [0], [[0]]),
        (np.floor, (2.0,), [0], [[0]]),
        (np.trunc, (2.0,), [0], [[0]]),
        (np.rint, (0.5,), [0], [[0]]),
        (np.heaviside, (0.0, 0.5), [0, 1], [[0, 0], [0, 0]]),
        (np.heaviside, (2.0, 0.5), [0, 0], [[0, 0], [0, 0]]),
        (np.nextafter, (1.0, 2.0), [0, 0], [[0, 0], [0, 0]]),
        (np.spacing, (1.0,), [0], [[0]]),
        # Ties of extremes are shared equally. fmax and fmin pass a NaN by.
        (np.maximum, (2.0, 2.0), [0.5, 0.5], [[0, 0], [0, 0]]),
        (np.minimum, (0.0, -0.0), [0.5, 0.5], [[0, 0], [0, 0]]),
        (np.maximum, (INF, 1.0), [1, 0], [[0, 0], [0, 0]]),
        (np.fmax, (NAN, 2.0), [0, 1], [[0, 0], [0, 0]]),
        (np.fmin, (2.0, NAN), [1, 0], [[0, 0], [0, 0]]),
        (np.fmax, (2.0, 2.0), [0.5, 0.5], [[0, 0], [0, 0]]),
        # A remainder goes with the dividend, and against the quotient times the divisor.
        (np.mod, (6.0, 3.0), [1, -2], [[0, 0], [0, 0]]),
        (np.mod, (-1.0, 3.0), [1, 1], [[0, 0], [0, 0]]),
        (np.fmod, (-7.0, 3.0), [1, 2], [[0, 0], [0, 0]]),
        (np.fmod, (6.0, 3.0), [1, -2], [[0, 0], [0, 0]]),
        (lambda x: np.modf(x)[0], (-2.0,), [1], [[0]]),
        (lambda x: np.modf(x)[1], (-2.5,), [0], [[0]]),
        (lambda x: np.frexp(x)[0], (6.0,), [0.125], [[0]]),
        (lambda x: np.frexp(x)[0], (0.0,), [1], [[0]]),
        (lambda x: np.ldexp(x, 3), (0.0,), [8], [[0]]),
        # Powers: x**0 is 1 everywhere, 0**x is 0 to the right of 0 and flat.
        (lambda x: x**0, (0.0,), [0], [[0]]),
        (lambda x: x**1, (0.0,), [1], [[0]]),
        (lambda x: x**2, (0.0,), [0], [[2]]),
        (np.power, (0.0, 0.0), [0, 0], [[0, 0], [0, 0]]),
        (np.power, (2.0, 0.0), [0, math.log(2)], [[0, 0.5], [0.5, math.log(2) ** 2]]),
        (np.power, (0.0, 2.0), [0, 0], [[2, 0], [0, 0]]),
        (np.float_power, (0.0, 3.0), [0, 0], [[0, 0], [0, 0]]),
        # An angle has no derivative at the origin: 0.
        (np.arctan2, (0.0, 0.0), [0, 0], [[0, 0], [0, 0]]),
        (np.arctan2, (0.0, -1.0), [-1, 0], [[0, -1], [-1, 0]]),
        (np.arctan2, (3e200, 4e200), [0.4 / 2.5e200, -0.3 / 2.5e200], [[0, 0], [0, 0]]),
        # Of equal infinities the first one takes all; one of -inf takes nothing.
        (np.logaddexp, (-INF, -INF), [1, 0], [[0, 0], [0, 0]]),
        (np.logaddexp, (-INF, 1.0), [0, 1], [[0, 0], [0, 0]]),
        (np.logaddexp, (INF, 1.0), [1, 0], [[0, 0], [0, 0]]),
        (np.logaddexp, (1.0, 1.0), [0.5, 0.5], [[0.25, -0.25], [-0.25, 0.25]]),
        (np.logaddexp2, (1.0, 1.0), [0.5, 0.5], [[math.log(2) / 4, -math.log(2) / 4], [-math.log(2) / 4, math.log(2) / 4]]),
        # Right at 0.
        (np.arcsinh, (0.0,), [1], [[0]]),
        (np.arctanh, (0.0,), [1], [[0]]),
        (np.sinh, (0.0,), [1], [[0]]),
        (np.cosh, (0.0,), [0], [[1]]),
        (np.tan, (0.0,), [1], [[0]]),
        (np.arcsin, (0.0,), [1], [[0]]),
        (np.square, (0.0,), [0], [[2]]),
        (np.copysign, (-2.0, 1.0), [-1, 0], [[0, 0], [0, 0]]),
        (np.arcsinh, (1e200,), [1e-200], [[0]]),
        # What a where leaves out does not matter, whatever its derivatives there are.
        (lambda x: np.where(x > 0, np.sqrt(x), 0.0), (0.0,), [0], [[0]]),
        (lambda x: np.where(x > 0, np.sqrt(x) * np.sqrt(x), 0.0), (0.0,), [0], [[0]]),
        (lambda x: np.where(x > 0, np.log(x), 0.0), (0.0,), [0], [[0]]),
        (lambda x: np.where(x > 0, np.cbrt(x), x), (0.0,), [1], [[0]]),
        (lambda x: np.where(abs(x) < 1, np.arcsin(x), 0.0), (1.0,), [0], [[0]]),
    ],
)  # fmt: skip
def test_derivative_conventions(f: Callable[..., Any], at: tuple[float, ...], first: Any, second: Any) -> None:
    have = derivatives(f, *at)
    same(have[0], first)
    if abs(at[0]) < 1e100:  # beyond, factors of second derivatives are below the smallest number
        same(have[1], second)


@pytest.mark.parametrize(
    ("f", "at", "first"),
    [
        (np.sqrt, 0.0, INF), (np.cbrt, 0.0, INF), (np.cbrt, -0.0, INF), (np.arcsin, 1.0, INF), (np.arcsin, -1.0, INF),
        (np.arccos, 1.0, -INF), (np.arccosh, 1.0, INF), (np.arctanh, 1.0, INF), (np.log, 0.0, INF), (np.log2, 0.0, INF),
        (np.log1p, -1.0, INF), (np.reciprocal, 0.0, -INF), (np.tanh, INF, 0.0), (np.arctan, INF, 0.0), (np.exp, -INF, 0.0),
        (np.exp2, -INF, 0.0), (np.arcsinh, INF, 0.0), (np.arccosh, INF, 0.0),
    ],
)  # fmt: skip
def test_derivatives_at_ends(f: Any, at: float, first: float) -> None:
    """Infinite where the tangent is upright, 0 where the function has come to rest."""
    assert float(graphc.grad(f)(at)) == first
    assert float(graphc.jvp(f, (at,), (1.0,))[1]) == first


def test_sqrt_of_a_norm_behind_where() -> None:
    """A cotangent of 0 stays 0 at √0, also where a sum is in between."""

    def unit(v: Any) -> Any:
        n = np.sqrt(np.sum(v * v, axis=-1, keepdims=True))
        return np.where(n > 0, v / n, 0.0)

    v = np.array([[0.0, 0.0], [3.0, 4.0]])
    for jacobian in (graphc.jacrev, graphc.jacfwd):
        found = jacobian(unit)(v)
        assert not found[0].any()
        np.testing.assert_allclose(found[1, :, 1], np.array([[16, -12], [-12, 9]]) / 125, rtol=1e-12)
    # Where the cotangent happens to be 0 beside √x ≠ 0 the second derivative is there.
    same(graphc.hessian(lambda x: (np.sqrt(x) - 1) ** 2)(1.0), 0.5)


@pytest.mark.parametrize(
    ("f", "at"),
    [(lambda x: np.where(x == 0, 0.0, np.sin(1 / x)), 0.0), (lambda x: np.where(x < 9, np.exp(x) ** 2, 0.0), 1e3),
     (lambda x: np.where(x > 0, 3 / np.sqrt(x * x), 0.0), 0.0)],
)
def test_chains_behind_where(f: Callable[..., Any], at: float) -> None:
    """Infinite factors of several steps; the second derivative is forward over reverse."""
    for derivative in (graphc.grad, graphc.jacfwd, graphc.hessian):
        assert float(derivative(f)(at)) == 0


def test_where_guards_derivatives() -> None:
    """``where=`` leaves an operand out of derivatives as well."""

    def ratio(x: Any, y: Any) -> Any:
        return np.divide(x, y, out=np.zeros_like(x), where=y != 0).sum()

    x, y = np.array([1.0, 2.0, 0.0]), np.array([0.0, 4.0, 0.0])
    by_x, by_y = graphc.grad(ratio, argnums=(0, 1))(x, y)
    same(by_x, [0, 0.25, 0])
    same(by_y, [0, -0.125, 0])
    safe = graphc.grad(lambda x: np.arccosh(x, out=x * 2, where=x > 1).sum())
    same(safe(np.array([0.5, 1.0, 2.0])), [2, 2, 1 / math.sqrt(3)])


def test_products_at_zeros() -> None:
    f = np.multiply.reduce
    same(graphc.grad(f)(np.array([0.0, 2.0, 3.0])), [6, 0, 0])
    same(graphc.grad(f)(np.array([0.0, 2.0, 0.0])), [0, 0, 0])
    same(graphc.hessian(f)(np.array([0.0, 2.0, 0.0])), [[0, 0, 2], [0, 0, 0], [2, 0, 0]])
    same(graphc.jacrev(np.multiply.accumulate)(np.array([0.0, 2.0, 0.0])), [[1, 0, 0], [2, 0, 0], [0, 0, 0]])
    same(graphc.grad(np.maximum.reduce)(np.array([2.0, 1.0, 2.0])), [0.5, 0, 0.5])
    same(graphc.grad(np.hypot.reduce)(np.zeros(3)), [0, 0, 0])
    same(graphc.grad(np.logaddexp.reduce)(np.array([-INF, 0.0, -INF, 0.0])), [0, 0.5, 0, 0.5])


# ------------------------------------------------------------------------------------------------ powers of integers


def test_integer_powers() -> None:
    x = np.array([-3, -1, 0, 1, 2, 3])
    power = graphc.compile(np.power)
    n = np.array([2, 5, 0, 100, 62, 39])
    np.testing.assert_array_equal(power(x, n), x**n)
    # NumPy raises for negative exponents, which are not known while tracing: the exact power rounded towards 0.
    np.testing.assert_array_equal(power(x, np.full(6, -1)), [0, -1, 0, 1, 0, 0])
    np.testing.assert_array_equal(power(x, np.full(6, -2)), [0, 1, 0, 1, 0, 0])
    for f in (lambda x: np.power(x, -1), lambda x: x ** np.array([1, -1, 1, 1, 1, 1]), lambda x: np.power(x, np.full(6, -2))):
        with pytest.raises(ValueError, match="Integers to negative integer powers are not allowed"):
            graphc.trace(f, x)


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("f", "error", "message"),
    [
        (lambda x: np.subtract.reduce(x.reshape(2, 3), axis=(0, 1)), ValueError, "'subtract' is not reorderable"),
        (lambda x: np.subtract.reduce(x.reshape(2, 3), axis=None), ValueError, "'subtract' is not reorderable"),
        (lambda x: np.maximum.reduce(x[:0]), ValueError, "zero-size array to reduction operation maximum"),
        (lambda x: np.subtract.reduce(x[:0]), ValueError, "zero-size array to reduction operation subtract"),
        (lambda x: np.maximum.reduce(x, where=x > 1), ValueError, "does not have an identity, so to use a where mask"),
        (lambda x: np.add.reduce(x, axis=1), np.exceptions.AxisError, "axis 1 is out of bounds"),
        (lambda x: np.add.accumulate(x[0]), TypeError, "cannot accumulate on a scalar"),
        (lambda x: np.sin.reduce(x), ValueError, "reduce only supported for binary functions"),
        (lambda x: np.divmod.reduce(x), ValueError, "reduce only supported for functions returning a single value"),
        (lambda x: np.matmul.reduce(x), RuntimeError, "Reduction not defined on ufunc with signature"),
        (lambda x: np.sin.outer(x, x), ValueError, "outer product only supported for binary functions"),
        (lambda x: np.less.reduce(x), TypeError, "loop"),
        (lambda x: np.gcd.reduce(x), TypeError, "did not contain a loop"),
        (lambda x: np.add.reduceat(x, [0, 9]), IndexError, "index 9 out-of-bounds in add.reduceat"),
        (lambda x: np.add.reduceat(x, x.astype(int)), TracerError, "traced indices: how much each fold takes"),
        (lambda x: np.add.at(x, [0, 1]), ValueError, "second operand needed for ufunc"),
        (lambda x: np.negative.at(x, [0, 1], 2), ValueError, "second operand provided when ufunc is unary"),
        (lambda x: np.add.at(x, [7], 1), IndexError, "index 7 is out of bounds"),
        (lambda x: np.add.at(np.zeros(6), [0], x[0]), TracerError, "would write a traced value into a NumPy array"),
        (lambda x: np.add(x, 1, where=x > 1), UnsupportedError, "without out= leaves numbers undefined"),
        (lambda x: np.add(x, 1, where=x, out=np.zeros_like(x)), TypeError, "Cannot cast array data"),
        (lambda x: np.add(x, 1, out=np.zeros(6)), TracerError, "would write a traced value into a NumPy array"),
        (lambda x: np.add(x, 1, out=np.zeros_like(x, int)), TypeError, "f64 cannot be written into an array of i64"),
        (lambda x: np.add(x, x, dtype=int), TypeError, "Cannot cast ufunc 'add' input"),
        (lambda x: np.add(x, x, signature="d->d"), ValueError, "a type-string for add"),
        (lambda x: np.add(x, x, signature="dd->d", dtype=float), TypeError, "both 'signature' and 'dtype'"),
        (lambda x: np.frompyfunc(math.floor, 1, 1)(x), UnsupportedError, "frompyfunc .* graphc.vmap"),
        (lambda x: np.vectorize(lambda v: v + 1)(x), TracerError, "np.vectorize would call .* graphc.vmap"),
        (lambda x: np.vecdot(x, x[:2]), ValueError, "mismatch in its core dimension"),
        (lambda x: np.matvec(x, x), ValueError, "does not have enough dimensions"),
        (lambda x: np.matvec(x, x, axes=3), TypeError, "axes should be a list"),
    ],
)
def test_errors(f: Callable[..., Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        graphc.trace(f, X)


def test_methods_of_long_axes() -> None:
    """Folds that are no op's: a scan for left folds, which stays small in the graph, halves for associative ones."""
    x = np.linspace(1, 1.01, 1000)
    for f in (np.divide.reduce, np.divide.accumulate, np.hypot.reduce, np.fmax.accumulate, np.logaddexp.accumulate):
        graph = graphc.trace(f, x)
        assert len(graph.nodes) < 400
        np.testing.assert_allclose(graphc.compile(f)(x), f(x), rtol=1e-12)
    assert len(graphc.trace(np.divide.reduce, x).nodes) < 20


def test_f32_stays_f32() -> None:
    x = X.astype(np.float32)
    for ufunc in (np.arcsinh, np.hypot, np.logaddexp, np.logaddexp2, np.degrees, np.cbrt, np.log2, np.exp2, np.fmod):
        args = (x,) * ufunc.nin
        graph = graphc.trace(graphc.grad(lambda *a, u=ufunc: u(*a).sum()), *args)
        assert "f64" not in str(graph), ufunc
    for f in (np.logaddexp.reduce, np.divide.reduce, np.hypot.accumulate):
        assert "f64" not in str(graphc.trace(f, x))
