"""scipy.special for traced and plain arrays: its ufuncs by name, and the functions that SciPy writes in Python.

Numbers and integer arrays are computed in float64, floats in their own type. f64 results are within 1e-13 of the exact
value, most within a few 1e-16; :mod:`graphc.ops.special_formulas` states the bound of each.

>>> import numpy as np
>>> bool(abs(gammaln(5.0) - np.log(24.0)) < 1e-14)
True
>>> softmax(np.array([0.0, np.log(3.0)]))
array([0.25, 0.75])
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import graphc.numpy.special  # noqa: F401  (fills the table of ufuncs)
from graphc import ops
from graphc.numpy.tables import axes_of
from graphc.ops import special
from graphc.scipy.calls import on_arrays
from graphc.tracing import (
    NAMED_UFUNCS,
    Tracer,
    UnsupportedError,
    is_tracer,
    operands,
    promote,
    to_tracer,
    wrap,
)
from graphc.types import DType, f64

#: Operands of scipy.special's ufuncs, by name. Those that end in _ are no functions of this module.
_OPERANDS = {
    "beta": "a b", "betainc": "a b x", "betaincc": "a b x", "betaln": "a b", "boxcox": "x lmbda", "boxcox1p": "x lmbda",
    "cbrt": "x", "chdtr": "v x", "chdtrc": "v x", "cosdg": "x", "cosm1": "x", "digamma": "z", "entr": "x", "erf": "z",
    "erfc": "x", "erfcinv": "y", "erfcx": "x", "erfinv": "y", "exp10": "x", "exp2": "x", "expit": "x", "expm1": "x",
    "exprel": "x", "fdtr": "dfn dfd x", "fdtrc": "dfn dfd x", "gamma": "z", "gammainc": "a x", "gammaincc": "a x",
    "gammaln": "x", "gammasgn": "x", "gdtr": "a b x", "gdtrc": "a b x", "huber": "delta r", "i0": "x", "i0e": "x",
    "i1": "x", "i1e": "x", "inv_boxcox": "y lmbda", "inv_boxcox1p": "y lmbda", "j0": "x", "j1": "x", "k0": "x",
    "k0e": "x", "k1": "x", "k1e": "x", "kl_div": "x y", "log1p": "x", "log_expit": "x", "log_ndtr": "x", "logit": "x",
    "ndtr": "x", "ndtri": "y", "pdtr": "k m", "pdtrc": "k m", "poch": "z m", "pseudo_huber": "delta r", "psi": "z",
    "rel_entr": "x y", "rgamma": "z", "sindg": "x", "stdtr": "df t", "xlog1py": "x y", "xlogy": "x y",
}  # fmt: skip


def float_type(*values: Any) -> DType:
    """The type that special functions of ``values`` are computed in: float64 for integers."""
    element = promote(*values)
    return element if element.is_inexact else f64


def _rule(name: str, *values: Any) -> Tracer:
    prepared = [to_tracer(v) if isinstance(v, (list, tuple)) else v for v in values]
    element = float_type(*prepared)
    if element.kind == "c":
        raise UnsupportedError(f"scipy.special.{name} of complex numbers is not traced; graphc has it for real ones")
    return wrap(NAMED_UFUNCS[name](*operands(*prepared, to=element)))


def _ufunc(name: str, parameters: str) -> Callable[..., Any]:
    names = parameters.split()
    if len(names) == 1:

        def function(x: Any) -> Any:
            return _rule(name, x)

    elif len(names) == 2:

        def function(x: Any, y: Any) -> Any:  # type: ignore[misc]
            return _rule(name, x, y)

    else:

        def function(x: Any, y: Any, z: Any) -> Any:  # type: ignore[misc]
            return _rule(name, x, y, z)

    function.__name__ = function.__qualname__ = name
    formula = getattr(special, name, None)
    about = getattr(formula, "__doc__", None)
    function.__doc__ = f"``scipy.special.{name}({', '.join(names)})``." + (f"\n\n{about}" if callable(about) else "")
    return on_arrays()(function)


for _name, _parameters in _OPERANDS.items():
    globals()[_name] = _ufunc(_name, _parameters)


def __getattr__(name: str) -> Any:
    raise AttributeError(
        f"graphc.scipy.special has no {name!r}; it has {', '.join(sorted(__all__))}"
    )


# ------------------------------------------------------------------------------------------------ zeta and polygamma


@on_arrays()
def zeta(x: Any, q: Any = None) -> Any:
    """Riemann's ζ(x), or Hurwitz's ζ(x, q)."""
    return _rule("_riemann_zeta", x) if q is None else _rule("_zeta", x, q)


@on_arrays("n")
def polygamma(n: Any, x: Any) -> Any:
    """The ``n``-th derivative of digamma. ``n`` is a number, an array of whole numbers, or traced integers.

    """
    if not is_tracer(n):
        return _polygamma_of(np.asarray(n), x)
    element = float_type(x)
    order, at = operands(n, x, to=element)
    one = ops.like(order, 1)
    above = ops.add(order, one)
    sign = ops.sub(ops.mul(ops.like(order, 2), ops.remainder(order, ops.like(order, 2))), one)
    value = ops.mul(ops.mul(sign, special.gamma(above)), special.zeta(above, at))
    return wrap(ops.select(ops.eq(order, ops.zeros(order.type)), special.digamma(at), value))


def _polygamma_of(n: np.ndarray, x: Any) -> Any:
    if np.any(n < 0) or np.any(n != np.floor(n)):
        raise ValueError("polygamma: n is a non-negative integer")
    at = to_tracer(x)
    (node,) = operands(at, to=float_type(at))
    orders = sorted({int(k) for k in n.reshape(-1)})
    values = [wrap(special.polygamma(node, order=k) if k else special.digamma(node)) for k in orders]
    if n.ndim == 0:
        return values[0]
    result: Any = np.broadcast_to(values[0], np.broadcast_shapes(n.shape, at.shape)) if values else at * n
    for k, value in zip(orders[1:], values[1:], strict=True):
        result = np.where(n == k, value, result)
    return result


@on_arrays("d")
def multigammaln(a: Any, d: int) -> Any:
    """log of the multivariate gamma function of dimension ``d``."""
    (node,) = operands(to_tracer(a), to=float_type(a))
    x = wrap(node)
    total = d * (d - 1) * 0.25 * math.log(math.pi)
    for j in range(d):
        total = total + _rule("gammaln", x - 0.5 * j)
    return total


# ------------------------------------------------------------------------------------------------ sums of exponentials


def as_floats(x: Any) -> Tracer:
    (node,) = operands(to_tracer(x), to=float_type(to_tracer(x)))
    return wrap(node)


@on_arrays("axis", "keepdims", "return_sign")
def logsumexp(a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False) -> Any:
    """``log Σ b eᵃ`` over ``axis``, without overflow; with ``return_sign`` also the sign of the sum.

    Without ``return_sign`` a negative sum gives NaN. The derivative is that of the exact function: softmax.

    >>> round(float(logsumexp([1000.0, 1000.0])) - 1000, 4)
    0.6931
    """
    x: Any = as_floats(a)
    if b is not None:
        factor: Any = to_tracer(b)
        shape = np.broadcast_shapes(x.shape, factor.shape)
        x, factor = np.broadcast_to(x, shape), np.broadcast_to(factor, shape).astype(x.dtype)
        x = np.where(factor == 0, -np.inf, x)
    axes = axes_of(axis, x.ndim)
    if any(x.shape[k] == 0 for k in axes):
        kept = tuple(1 if k in axes else n for k, n in enumerate(x.shape) if keepdims or k not in axes)
        empty = to_tracer(np.full(kept, -np.inf, x.dtype))
        return (empty, to_tracer(np.zeros(kept, x.dtype))) if return_sign else empty
    top = np.max(x, axis=axes, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    terms = np.exp(x - top)
    if b is not None:
        terms = factor * terms
    total = np.sum(terms, axis=axes, keepdims=True)
    sign = np.sign(total)
    result = np.log(np.abs(total) if return_sign else total) + top
    if not keepdims:
        result, sign = np.squeeze(result, axis=axes), np.squeeze(sign, axis=axes)
    return (result, sign) if return_sign else result


@on_arrays("axis")
def softmax(x: Any, axis: Any = None) -> Any:
    """``eˣ / Σ eˣ`` over ``axis``: an int, a tuple, or None for all axes (SciPy's default)."""
    values = as_floats(x)
    axes = axes_of(axis, values.ndim)
    e = np.exp(values - np.max(values, axis=axes, keepdims=True))
    return e / np.sum(e, axis=axes, keepdims=True)


@on_arrays("axis")
def log_softmax(x: Any, axis: Any = None) -> Any:
    """``log softmax(x)``, exact also where softmax underflows."""
    values = as_floats(x)
    axes = axes_of(axis, values.ndim)
    top = np.max(values, axis=axes, keepdims=True)
    s = values - np.where(np.isfinite(top), top, 0)
    return s - np.log(np.sum(np.exp(s), axis=axes, keepdims=True))


@on_arrays()
def softplus(x: Any) -> Any:
    """``log(1 + eˣ)``."""
    return np.logaddexp(0, as_floats(x))


@on_arrays()
def sinc(x: Any) -> Any:
    """``sin πx / πx``, 1 at 0."""
    return np.sinc(as_floats(x))


__all__ = [
    *_OPERANDS, "log_softmax", "logsumexp", "multigammaln", "polygamma", "sinc", "softmax", "softplus", "zeta",
]  # fmt: skip  # noqa: PLE0604


