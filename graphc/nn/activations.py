"""Activations, and softmax with its logarithms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc import ops
from graphc.ops.special import ndtr
from graphc.tracing import to_node, to_tracer, wrap
from graphc.transforms import concrete_or_traced
from graphc.types import dtype


def relu(x: Any) -> Any:
    """``max(x, 0)``; its derivative at 0 is 0.

    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return np.where(x <= 0, 0, x)


def sigmoid(x: Any) -> Any:
    """``1 / (1 + e^-x)``, without overflow.

    >>> float(sigmoid(0.0))
    0.5
    """
    return concrete_or_traced(lambda x: wrap(ops.sigmoid(to_node(inexact(x)))))(x)


def silu(x: Any) -> Any:
    """``x · sigmoid(x)`` (swish)."""
    return x * sigmoid(x)


def softplus(x: Any) -> Any:
    """``log(1 + e^x)``, without overflow."""
    return np.logaddexp(x, np.zeros((), np.result_type(x)))


def gelu(x: Any, approximate: bool = False) -> Any:
    """``x Φ(x)`` (Hendrycks and Gimpel 2016), or ``approximate``: ``x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))``.

    Neither is computed by 1 + erf or 1 + tanh, which lose all places where x is far below 0.

    >>> float(gelu(0.0))
    0.0
    """
    if approximate:
        return x * sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))
    return x * concrete_or_traced(lambda x: wrap(ndtr(to_node(inexact(x)))))(x)


def inexact(x: Any) -> Any:
    """``x`` as a traced array of floats: integers become float64, as for NumPy's functions."""
    traced = to_tracer(x)
    return traced if dtype(traced.dtype).is_inexact else traced.astype(np.float64)


def softmax(x: Any, axis: Any = -1) -> Any:
    """``e^x / Σ e^x`` over ``axis`` (an int or a tuple)."""
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


def log_softmax(x: Any, axis: Any = -1) -> Any:
    """``log softmax(x)``, exact also where softmax underflows."""
    s = x - np.max(x, axis=axis, keepdims=True)
    return s - np.log(np.sum(np.exp(s), axis=axis, keepdims=True))


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """``log Σ e^x`` over ``axis``, without overflow; -inf for x all -inf.

    >>> round(float(logsumexp(np.array([1000.0, 1000.0]))) - 1000, 4)
    0.6931
    """
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):
        result = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return result if keepdims else np.squeeze(result, axis=axis)
