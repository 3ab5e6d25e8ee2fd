"""One-dimensional signals: convolution and correlation, unwrapped phases, sinc."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import Node
from graphc.numpy.calculus import along, cumsum, subtracted
from graphc.numpy.contractions import boolean_dot, contracted_pair
from graphc.numpy.elementwise import where
from graphc.numpy.shapes import at_least, concatenate
from graphc.numpy.tables import one_axis, strong, traces
from graphc.ops import special
from graphc.tracing import Tracer, apply_ufunc, promote, to_node, wrap

# ------------------------------------------------------------------------------------------------ convolution


def sliding(x: Node, weights: Node, mode: Any) -> Node:
    """Σ_k x_{n+k} weights_k, ``weights`` not longer than ``x``, at the places of a mode of ``np.correlate``."""
    n = weights.type.shape[0]
    before, behind = {"valid": (0, 0), "same": (n // 2, n - 1 - n // 2), "full": (n - 1, n - 1)}[mode]

    def product(p: Node, q: Node) -> Node:
        return ops.reshape_to(
            ops.conv(
                ops.reshape_to(p, (1, 1, p.type.size)),
                ops.reshape_to(q, (1, 1, n)),
                strides=(1,), padding=((before, behind),), lhs_dilation=(1,), rhs_dilation=(1,), groups=1,
            ),
            (p.type.size + before + behind - n + 1,),
        )  # fmt: skip

    return boolean_dot(product, x, weights)


def mode_of(mode: Any) -> str:
    """One of NumPy's modes, also by number."""
    modes = ("valid", "same", "full")
    if mode in modes:
        return str(mode)
    if isinstance(mode, int) and 0 <= mode < 3:
        return modes[mode]
    raise ValueError(f"mode must be one of 'valid', 'same', or 'full' (got {mode!r})")


def reversed_(x: Node) -> Node:
    n = x.type.shape[0]
    return ops.slice_(x, start=(n - 1,), size=(n,), step=(-1,)) if n else x


def signals(a: Any, v: Any) -> tuple[Node, Node]:
    x, y = contracted_pair(a, v)
    for node in (x, y):
        if node.type.ndim != 1:
            raise ValueError(f"object {'too deep' if node.type.ndim > 1 else 'of too small depth'} for desired array")
    return x, y


@traces(np.convolve)
def convolve(a: Any, v: Any, mode: Any = "full") -> Tracer:
    x, y = signals(at_least(strong(a), 1), at_least(strong(v), 1))
    for name, node in (("a", x), ("v", y)):
        if node.type.size == 0:
            raise ValueError(f"{name} cannot be empty")
    longer, shorter = (x, y) if x.type.size >= y.type.size else (y, x)
    return wrap(sliding(longer, reversed_(shorter), mode_of(mode)))


@traces(np.correlate)
def correlate(a: Any, v: Any, mode: Any = "valid") -> Tracer:
    x, y = signals(a, v)
    y = ops.conj(y) if y.type.dtype.kind == "c" else y
    for name, node in (("first", x), ("second", y)):
        if node.type.size == 0:
            raise ValueError(f"{name} array argument cannot be empty")
    if x.type.size >= y.type.size:
        return wrap(sliding(x, y, mode_of(mode)))
    return wrap(reversed_(sliding(y, x, mode_of(mode))))


# ------------------------------------------------------------------------------------------------ unwrap


@traces(np.unwrap)
def unwrap(p: Any, discont: Any = None, axis: int = -1, *, period: Any = 2 * math.pi) -> Tracer:
    x = strong(p)
    k = one_axis(axis, x.ndim)
    steps = subtracted(x, k)
    discont = period / 2 if discont is None else discont
    element = promote(steps, period)
    if element.is_integer:
        high, odd = divmod(period, 2)
        ambiguous = odd == 0
    else:
        high, ambiguous = period / 2, True
    inside = apply_ufunc(np.remainder, steps + high, period) - high
    if ambiguous:
        inside = where((inside == -high) & (steps > 0), high, inside).astype(inside.dtype)
    jumps = inside - steps
    jumps = where(apply_ufunc(np.absolute, steps) < discont, 0, jumps).astype(jumps.dtype)
    first, rest = x[along(x.ndim, k, slice(None, 1))], x[along(x.ndim, k, slice(1, None))]
    parts = [part.astype(element.numpy) for part in (first, rest + cumsum(jumps, k))]
    return concatenate(parts, k)


# ------------------------------------------------------------------------------------------------ sinc

#: (-1)^k / (2k+1)!: sin(y) / y in powers of y². Below NEAR it is right to the last bit, and so are many derivatives.
SINC_SERIES = [(-1) ** k / math.factorial(2 * k + 1) for k in range(10)]
NEAR = 0.5


@traces(np.sinc)
def sinc(x: Any) -> Tracer:
    y = math.pi * strong(x)
    near = apply_ufunc(np.absolute, y) < NEAR
    close = where(near, y, 0).astype(y.dtype)
    square, series = close * close, SINC_SERIES[-1]
    for term in reversed(SINC_SERIES[:-1]):
        series = series * square + term
    far = where(near, 1, y).astype(y.dtype)
    return where(near, series, apply_ufunc(np.sin, far) / far)


@traces(np.i0)
def i0(x: Any) -> Tracer:
    """The modified Bessel function of order 0; its derivative is that of order 1."""
    t = strong(x)
    if t._node.type.dtype.kind == "c":
        raise TypeError("i0 not supported for complex values")
    if not t._node.type.dtype.is_float:
        t = t.astype(np.float64)
    return wrap(special.i0(to_node(t)))


__all__ = ["convolve", "correlate", "i0", "sinc", "unwrap"]
