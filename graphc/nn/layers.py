"""Layers as plain functions: linear, embeddings, normalisations, dropout, attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc import numpy as gnp
from graphc import random
from graphc.nn.activations import softmax
from graphc.types import dtype


def linear(x: Any, w: Any, b: Any = None) -> Any:
    """``x @ w + b``: x (…, n), w (n, m), b (m,)."""
    return x @ w if b is None else x @ w + b


def one_hot(index: Any, size: int, dtype: Any = np.float32) -> Any:
    """1 at place ``index`` of a new last axis of length ``size``, 0 elsewhere; all 0 where the index is outside.

    >>> one_hot(np.array([1, 0]), 3)
    array([[0., 1., 0.],
           [1., 0., 0.]], dtype=float32)
    """
    index = index if hasattr(index, "astype") else np.asarray(index)
    return (index[..., None] == np.arange(size)).astype(dtype)


def embedding(table: Any, index: Any) -> Any:
    """The rows of ``table`` at the integers ``index``: shape ``index.shape + table.shape[1:]``."""
    return gnp.asarray(table)[index]


def layer_norm(x: Any, scale: Any = None, bias: Any = None, axis: Any = -1, eps: float = 1e-5) -> Any:
    """``(x − mean) / √(var + eps)`` over ``axis``, times ``scale``, plus ``bias`` (Ba et al. 2016).

    >>> layer_norm(np.array([1.0, 3.0]), eps=0.0)
    array([-1.,  1.])
    """
    centred = x - np.mean(x, axis=axis, keepdims=True)
    return affine(centred / np.sqrt(np.mean(centred * centred, axis=axis, keepdims=True) + eps), scale, bias)


def rms_norm(x: Any, scale: Any = None, axis: Any = -1, eps: float = 1e-6) -> Any:
    """``x / √(mean(x²) + eps)`` over ``axis``, times ``scale`` (Zhang and Sennrich 2019)."""
    return affine(x / np.sqrt(np.mean(x * x, axis=axis, keepdims=True) + eps), scale, None)


def affine(x: Any, scale: Any, bias: Any) -> Any:
    x = x if scale is None else x * scale
    return x if bias is None else x + bias


def batch_norm_state(channels: int, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    """The running statistics that :func:`batch_norm` starts from: mean 0, variance 1."""
    return {"mean": np.zeros(channels, dtype), "var": np.ones(channels, dtype)}


def batch_norm(
    x: Any, state: Any, scale: Any = None, bias: Any = None, training: bool = True, axis: int = 1, momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Any, Any]:  # fmt: skip
    """``(y, new state)``: x normalised per channel (axis ``axis``) over all other axes (Ioffe and Szegedy 2015).

    In training the statistics are those of the batch, and the running ones move by ``momentum`` towards them (towards the
    unbiased variance, as in PyTorch); else the running ones are used. ``state`` is as :func:`batch_norm_state` makes it.
    """
    k = axis % np.ndim(x)
    others = tuple(a for a in range(np.ndim(x)) if a != k)
    shape = [-1 if a == k else 1 for a in range(np.ndim(x))]
    mean, var = state["mean"], state["var"]
    if training:
        mean = np.mean(x, axis=others)
        var = np.mean((x - np.reshape(mean, shape)) ** 2, axis=others)
        count = math.prod(np.shape(x)[a] for a in others)
        unbiased = var * (count / max(count - 1, 1))
        state = {
            "mean": (1 - momentum) * state["mean"] + momentum * mean,
            "var": (1 - momentum) * state["var"] + momentum * unbiased,
        }
    y = (x - np.reshape(mean, shape)) / np.sqrt(np.reshape(var, shape) + eps)
    scale, bias = (None if p is None else np.reshape(p, shape) for p in (scale, bias))
    return affine(y, scale, bias), state


def dropout(key: Any, x: Any, rate: float, training: bool = True) -> Any:
    """x with each element 0 with probability ``rate``, the others times ``1 / (1 − rate)`` (Srivastava et al. 2014).

    ``key`` is from :mod:`graphc.random`. Not in ``training``, and for a rate of 0, x itself.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"dropout: the rate {rate} is no probability")
    if not training or rate == 0:
        return x
    if rate == 1:
        return np.zeros_like(x)
    kept = random.bernoulli(key, 1 - rate, np.shape(x))
    return np.where(kept, x / (1 - rate), np.zeros((), np.result_type(x)))


def attention(q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False, scale: float | None = None) -> Any:
    """``softmax(q kᵀ · scale) v`` (Vaswani et al. 2017): q (…, T, d), k (…, S, d), v (…, S, e) → (…, T, e).

    ``mask`` (broadcastable to (…, T, S)) is True where attention is allowed; ``causal`` allows place t the places up to
    t (counted from the end if T and S differ). ``scale`` is 1/√d by default.

    >>> q = np.ones((2, 1)); v = np.array([[1.0], [3.0]])
    >>> attention(q, q, v, causal=True)
    array([[1.],
           [2.]])
    """
    scores = (q @ np.swapaxes(k, -1, -2)) * (1 / math.sqrt(np.shape(q)[-1]) if scale is None else scale)
    rows, columns = np.shape(scores)[-2:]
    allowed = np.tri(rows, columns, columns - rows, dtype=bool) if causal else None
    if mask is not None:
        allowed = mask if allowed is None else np.logical_and(mask, allowed)
    if allowed is not None:
        scores = np.where(allowed, scores, lowest(scores))
    return softmax(scores) @ v


def lowest(x: Any) -> Any:
    """The lowest finite number of the type of x."""
    from graphc.numpy.elementwise import finite_range

    element = dtype(np.result_type(x))
    return np.asarray(finite_range(element)[0], element.numpy)
