"""Layers, activations and losses as plain functions of arrays: written in NumPy, usable inside traces and on NumPy arrays.

Parameters are ordinary arguments; nothing is kept anywhere. Images are (N, C, *spatial), as are the results.

>>> import numpy as np
>>> softmax(np.array([0.0, np.log(3.0)]))
array([0.25, 0.75])
>>> round(float(cross_entropy(np.array([[0.0, np.log(3.0)]]), np.array([1]))), 4) == round(math.log(4 / 3), 4)
True
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc import numpy as gnp
from graphc import ops, random
from graphc.tracing import to_node, to_tracer, wrap
from graphc.transforms import concrete_or_traced
from graphc.types import dtype

# ------------------------------------------------------------------------------------------------ activations


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
    """``x Φ(x)`` (Hendrycks and Gimpel 2016), by erf, or ``approximate`` by tanh.

    >>> float(gelu(0.0))
    0.0
    """
    if approximate:
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    half = concrete_or_traced(lambda x: wrap(ops.erf(to_node(inexact(x)))))(x * math.sqrt(0.5))
    return 0.5 * x * (1 + half)


def inexact(x: Any) -> Any:
    """``x`` as a traced array of floats: integers become float64, as for NumPy's functions."""
    traced = to_tracer(x)
    return traced if dtype(traced.dtype).is_inexact else traced.astype(np.float64)


# ------------------------------------------------------------------------------------------------ softmax


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


# ------------------------------------------------------------------------------------------------ layers


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


# ------------------------------------------------------------------------------------------------ windows


def conv(
    x: Any, w: Any, b: Any = None, stride: int | Sequence[int] = 1, padding: Any = "VALID", dilation: int | Sequence[int] = 1,
    input_dilation: int | Sequence[int] = 1, groups: int = 1,
) -> Any:  # fmt: skip
    """Convolution: x (N, C, *spatial), w (O, C/groups, *window), b (O,) → (N, O, *places), 1 to 3 spatial axes.

    Filters are not flipped, as in every neural-network library. ``padding`` is ``"VALID"`` (none), ``"SAME"`` (as many places
    as ``ceil(extent / stride)``), an int, or a pair ``(before, after)`` per spatial axis. ``dilation`` is that of the filters,
    ``input_dilation`` (of x) makes the convolution a transposed one.

    >>> conv(np.ones((1, 1, 4)), np.ones((1, 1, 3)), padding="SAME")
    array([[[2., 3., 3., 2.]]])
    """
    space = np.ndim(x) - 2
    strides, dilations, spreads = (per_axis(name, v, space) for name, v in
                                   (("stride", stride), ("dilation", dilation), ("input_dilation", input_dilation)))  # fmt: skip
    extents = [(n - 1) * d + 1 if n else 0 for n, d in zip(np.shape(x)[2:], spreads, strict=True)]
    pairs = padding_pairs("conv", padding, extents, np.shape(w)[2:], strides, dilations)

    def convolved(x: Any, w: Any) -> Any:
        element = np.result_type(x, w)
        nodes = [to_node(to_tracer(v).astype(element)) for v in (x, w)]
        attrs = {
            "strides": strides,
            "padding": pairs,
            "lhs_dilation": spreads,
            "rhs_dilation": dilations,
            "groups": groups,
        }
        return wrap(ops.conv(*nodes, **attrs))

    y = concrete_or_traced(convolved)(x, w)
    return y if b is None else y + np.reshape(b, (-1, *(1,) * space))


def max_pool(
    x: Any, window: int | Sequence[int], stride: int | Sequence[int] | None = None, padding: Any = "VALID"
) -> Any:
    """The largest element of each window over the spatial axes of x (N, C, *spatial); the stride is the window by default.

    >>> max_pool(np.arange(6.0).reshape(1, 1, 6), 2)
    array([[[1., 3., 5.]]])
    """
    return pool("max", x, window, stride, padding)


def avg_pool(
    x: Any, window: int | Sequence[int], stride: int | Sequence[int] | None = None, padding: Any = "VALID"
) -> Any:
    """The mean of each window over the spatial axes of x (N, C, *spatial), padding not counted.

    >>> avg_pool(np.arange(6.0).reshape(1, 1, 6), 2)
    array([[[0.5, 2.5, 4.5]]])
    """
    total = pool("sum", x, window, stride, padding)
    counts = pool("sum", np.ones((1, 1, *np.shape(x)[2:]), np.result_type(total)), window, stride, padding)
    return total / counts


def pool(kind: str, x: Any, window: Any, stride: Any, padding: Any) -> Any:
    space = np.ndim(x) - 2
    windows = per_axis("window", window, space)
    strides = windows if stride is None else per_axis("stride", stride, space)
    pairs = padding_pairs(f"{kind}_pool", padding, np.shape(x)[2:], windows, strides, (1,) * space)
    attrs = {
        "window": (1, 1, *windows), "strides": (1, 1, *strides), "padding": ((0, 0), (0, 0), *pairs),
        "dilation": (1,) * (space + 2),
    }  # fmt: skip
    return concrete_or_traced(lambda x: wrap(ops.reduce_window(to_node(x), kind=kind, **attrs)))(x)


def per_axis(name: str, value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    values = (int(value),) * axes if isinstance(value, (int, np.integer)) else tuple(int(v) for v in value)
    if len(values) != axes:
        raise ValueError(f"{name}={value!r} needs a number for each of the {axes} spatial axes")
    return values


def padding_pairs(
    name: str,
    padding: Any,
    extents: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> tuple[tuple[int, int], ...]:
    """``padding`` as a pair of numbers per spatial axis."""
    if isinstance(padding, (int, np.integer)):
        return ((int(padding), int(padding)),) * len(extents)
    if not isinstance(padding, str):
        pairs = tuple((int(p), int(p)) if isinstance(p, (int, np.integer)) else (int(p[0]), int(p[1])) for p in padding)
        if len(pairs) != len(extents):
            raise ValueError(f"{name}: padding={padding!r} needs a pair for each of the {len(extents)} spatial axes")
        return pairs
    if padding.upper() == "VALID":
        return ((0, 0),) * len(extents)
    if padding.upper() != "SAME":
        raise ValueError(f"{name}: padding is 'VALID', 'SAME', an int, or a pair per axis, not {padding!r}")
    found = []
    for n, k, s, d in zip(extents, window, strides, dilations, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        found.append((total // 2, total - total // 2))
    return tuple(found)


# ------------------------------------------------------------------------------------------------ losses


def cross_entropy(logits: Any, labels: Any, axis: int = -1) -> Any:
    """The mean of ``−log softmax(logits)`` at the labels: integers (…), or probabilities of the shape of the logits.

    An integer outside the range raises IndexError; negative ones count from the end, as everywhere in NumPy.
    """
    log_p = log_softmax(logits, axis=axis)
    if np.shape(labels) == np.shape(logits) and np.result_type(labels).kind not in "biu":
        return -np.mean(np.sum(labels * log_p, axis=axis))
    return -np.mean(np.take_along_axis(log_p, np.expand_dims(labels, axis), axis=axis))


def mse(prediction: Any, target: Any) -> Any:
    """The mean of the squared differences.

    >>> float(mse(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
    2.0
    """
    difference = prediction - target
    return np.mean(difference * difference)


__all__ = [
    "attention", "avg_pool", "batch_norm", "batch_norm_state", "conv", "cross_entropy", "dropout", "embedding", "gelu",
    "layer_norm", "linear", "log_softmax", "logsumexp", "max_pool", "mse", "one_hot", "relu", "rms_norm", "sigmoid", "silu",
    "softmax", "softplus",
]  # fmt: skip
