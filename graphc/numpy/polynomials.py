"""NumPy's functions of polynomials, given by their coefficients, highest power first.

The degree is that of the shapes. Where NumPy drops leading coefficients that happen to be zero (``polymul``, the remainder of
``polydiv``), they are kept: how many there are depends on data.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import ops
from graphc.leaks import UnsupportedError
from graphc.numpy.elementwise import full_like, zeros_like
from graphc.numpy.matrices import inv, lstsq
from graphc.numpy.shapes import at_least, broadcast_to, concatenate, flip, reshape
from graphc.numpy.signal import convolve
from graphc.numpy.tables import strong, traces
from graphc.tracing import Tracer, apply_ufunc, promote, to_node, wrap
from graphc.types import f32, f64


def coefficients(value: Any) -> Tracer:
    return at_least(strong(value), 1)


@traces(np.vander)
def vander(x: Any, N: Any = None, increasing: bool = False) -> Tracer:  # noqa: N803 (NumPy's parameter name)
    t = strong(x)
    if t.ndim != 1:
        raise ValueError("x must be a one-dimensional array or sequence.")
    t = wrap(to_node(t, promote(t, np.int64(0))))
    columns = t.size if N is None else int(N)
    powers = broadcast_to(reshape(t, (-1, 1)), (t.size, max(columns - 1, 0)))
    found = concatenate(
        [full_like(t, 1, shape=(t.size, min(columns, 1))), wrap(ops.cumprod(to_node(powers), axis=1, reverse=False))], 1
    )
    return found if increasing else flip(found, 1)


@traces(np.poly)
def poly(seq_of_zeros: Any) -> Any:
    zeros = coefficients(seq_of_zeros)
    if zeros.ndim == 2 and zeros.shape[0] == zeros.shape[1] != 0:
        raise UnsupportedError("np.poly of a matrix needs its eigenvalues, which may be complex; give np.poly the zeros")
    if zeros.ndim != 1:
        raise ValueError("input must be 1d or non-empty square 2d array.")
    if zeros.size == 0:
        return 1.0
    element = zeros._node.type.dtype
    zeros = zeros if element in (f32, f64) or element.kind == "c" else zeros.astype(np.float64)
    found = full_like(zeros, 1, shape=(1,))
    nothing = full_like(zeros, 0, shape=(1,))
    for zero in zeros:
        found = concatenate([found, nothing]) - zero * concatenate([nothing, found])
    return found


@traces(np.polyval)
def polyval(p: Any, x: Any) -> Tracer:
    at = strong(x)
    y = zeros_like(at)
    for coefficient in strong(p):
        y = y * at + coefficient
    return y


def aligned(a1: Any, a2: Any) -> tuple[Tracer, Tracer]:
    x, y = coefficients(a1), coefficients(a2)
    size = max(x.shape[0], y.shape[0])
    return lengthened(x, size), lengthened(y, size)


def lengthened(x: Tracer, size: int) -> Tracer:
    return concatenate([full_like(x, 0, shape=(size - x.shape[0],)), x]) if x.shape[0] < size else x


@traces(np.polyadd)
def polyadd(a1: Any, a2: Any) -> Tracer:
    x, y = aligned(a1, a2)
    return x + y


@traces(np.polysub)
def polysub(a1: Any, a2: Any) -> Tracer:
    x, y = aligned(a1, a2)
    return apply_ufunc(np.subtract, x, y)


@traces(np.polymul)
def polymul(a1: Any, a2: Any) -> Tracer:
    return convolve(coefficients(a1), coefficients(a2))


@traces(np.polydiv)
def polydiv(u: Any, v: Any) -> tuple[Tracer, Tracer]:
    """The quotient, and the remainder with one coefficient less than the divisor (one at least)."""
    x, y = coefficients(u) + 0.0, coefficients(v) + 0.0
    element = promote(x, y)
    rest = wrap(to_node(x, element))
    divisor = wrap(to_node(y, element))
    quotient = []
    for _ in range(x.shape[0] - y.shape[0] + 1):
        factor = rest[:1] * (1.0 / y[0])
        quotient.append(factor)
        changed = rest[1 : y.shape[0]] - factor * divisor[1:]
        rest = concatenate([changed, rest[y.shape[0] :]])
    nothing = full_like(rest, 0, shape=(1,))
    return concatenate(quotient) if quotient else nothing, rest if rest.shape[0] else nothing


@traces(np.polyder)
def polyder(p: Any, m: Any = 1) -> Tracer:
    if int(m) < 0:
        raise ValueError("Order of derivative must be positive (see polyint)")
    x = strong(p)
    for _ in range(int(m)):
        x = x[:-1] * np.arange(x.shape[0] - 1, 0, -1)
    return x


@traces(np.polyint)
def polyint(p: Any, m: Any = 1, k: Any = None) -> Tracer:
    order = int(m)
    if order < 0:
        raise ValueError("Order of integral must be positive (see polyder)")
    constants = coefficients(np.zeros(order) if k is None else k)
    if constants.shape[0] == 1 and order > 1:
        constants = constants[0] * np.ones(order)
    if constants.shape[0] < order:
        raise ValueError("k must be a scalar or a rank-1 array of length 1 or >m.")
    x = strong(p)
    for step in range(order):
        x = concatenate([x / np.arange(x.shape[0], 0, -1.0), constants[step : step + 1]])
    return x


@traces(np.polyfit)
def polyfit(
    x: Any, y: Any, deg: Any, rcond: Any = None, full: bool = False, w: Any = None, cov: Any = False
) -> Any:
    order = int(deg) + 1
    at, values = strong(x) + 0.0, strong(y) + 0.0
    check_fit(at, values, deg)
    if rcond is None:
        rcond = at.shape[0] * float(np.finfo(at.dtype).eps)
    left = vander(at.astype(np.float64), order)  # NumPy's: float32 with integers is float64
    if w is not None:
        weights = strong(w) + 0.0
        if weights.ndim != 1:
            raise TypeError("expected a 1-d array for weights")
        if weights.shape[0] != values.shape[0]:
            raise TypeError("expected w and y to have the same length")
        column = reshape(weights, (-1, 1))
        left = (left * column).astype(left.dtype)
        values = (values * (column if values.ndim == 2 else weights)).astype(values.dtype)
    scale = apply_ufunc(np.sqrt, (left * left).sum(axis=0))
    left = left / scale
    found, residuals, rank, singular = lstsq(left, values, rcond)
    found = (found.T / scale).T
    if full:
        return found, residuals, rank, singular, rcond
    if cov:
        return found, covariance(left, scale, residuals, values, order, cov)
    return found


def check_fit(at: Tracer, values: Tracer, deg: Any) -> None:
    if deg < 0:
        raise ValueError("expected deg >= 0")
    if at.ndim != 1:
        raise TypeError("expected 1D vector for x")
    if at.size == 0:
        raise TypeError("expected non-empty vector for x")
    if not 1 <= values.ndim <= 2:
        raise TypeError("expected 1D or 2D array for y")
    if at.shape[0] != values.shape[0]:
        raise TypeError("expected x and y to have same length")


def covariance(left: Tracer, scale: Tracer, residuals: Tracer, values: Tracer, order: int, cov: Any) -> Tracer:
    base = inv(left.T @ left) / apply_ufunc(np.multiply, reshape(scale, (-1, 1)), scale)
    factor: Any = 1
    if cov != "unscaled":
        if left.shape[0] <= order:
            raise ValueError("the number of data points must exceed order to scale the covariance matrix")
        factor = residuals / (left.shape[0] - order)
    return base * factor if values.ndim == 1 else reshape(base, (*base.shape, 1)) * factor


__all__ = [
    "poly", "polyadd", "polyder", "polydiv", "polyfit", "polyint", "polymul", "polysub", "polyval", "vander",
]  # fmt: skip
