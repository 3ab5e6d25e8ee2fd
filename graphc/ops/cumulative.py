"""Running sums, products and extremes along one axis, and the first-order recurrence that their derivatives are made of.

Every op takes ``axis`` and ``reverse``: from the first place of the axis to the last, or from the last to the first. The
family is closed under differentiation, and no rule divides, so that zeros are right at every order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.ir import GraphError, Node, Op
from graphc.ops.arithmetic import add, bit_or, eq, iota, isnan, like, mul, select
from graphc.ops.base import batched_operands, check_axes, check_equal, check_kind, const, define, linear_jvp, zeros
from graphc.ops.indexing import add_along_axis, take_along_axis
from graphc.ops.movement import pad, slice_
from graphc.ops.reduction import widened
from graphc.types import TensorType, Type, i64


def _running_type(name: str, kinds: str) -> Callable[..., Type]:
    def infer(x: TensorType, *rest: TensorType, axis: int, reverse: bool) -> Type:
        check_equal(name, x, *rest)
        check_kind(name, x, kinds)
        check_axes(name, x, (axis,))
        if not isinstance(reverse, bool):
            raise GraphError(f"{name}: reverse is True or False, not {reverse!r}")
        return x

    return infer


def _accumulate(ufunc: np.ufunc) -> Callable[..., np.ndarray]:
    """The meaning of a running ufunc: one place after the other. f16 and bf16 accumulate in f32."""

    def evaluate(x: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
        wide = np.flip(widened(x), axis) if reverse else widened(x)
        with np.errstate(all="ignore"):
            found = ufunc.accumulate(wide, axis=axis, dtype=wide.dtype)
            return np.asarray(np.flip(found, axis) if reverse else found).astype(x.dtype, copy=False)

    return evaluate


def _running(name: str, kinds: str, ufunc: np.ufunc, **rules: Any) -> Op:
    def batch(size: int, flags: Sequence[bool], x: Node, axis: int, reverse: bool) -> Node:
        return record(x, axis=axis + 1, reverse=reverse)

    record = define(
        Op(name, "cumulative", _running_type(name, kinds), _accumulate(ufunc), batch=batch, **rules)
    )
    return record


def before(x: Node, fill: float, axis: int, reverse: bool) -> Node:
    """At each place the element of ``x`` that comes before it in the order of a running op; ``fill`` at the first."""
    shape = x.type.shape
    if shape[axis] == 0:
        return x
    ones = (1,) * len(shape)
    size = tuple(n - (k == axis) for k, n in enumerate(shape))
    first = tuple(int(k == axis and reverse) for k in range(len(shape)))
    into = tuple(int(k == axis and not reverse) for k in range(len(shape)))
    return pad(slice_(x, start=first, size=size, step=ones), const(fill, x.type.dtype), shape=shape, start=into, step=ones)


# ------------------------------------------------------------------------------------------------ sums

#: ``cumsum(x, axis=, reverse=)``: y_i = x_0 + … + x_i (reverse: x_i + … + x_{n-1}). Integers wrap around.
cumsum: Op = _running(
    "cumsum",
    "iufc",
    np.add,
    vjp=lambda ct, out, x, axis, reverse: (cumsum(ct, axis=axis, reverse=not reverse),),
    jvp=linear_jvp(lambda: cumsum),
)

# ------------------------------------------------------------------------------------------------ recurrence


def _recurrence_eval(a: np.ndarray, b: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
    steps, factors = np.moveaxis(widened(b), axis, 0), np.moveaxis(widened(a), axis, 0)
    result = np.empty(steps.shape, steps.dtype)
    order = range(len(steps))
    y: np.ndarray | None = None
    with np.errstate(all="ignore"):
        for k in reversed(order) if reverse else order:
            y = steps[k] if y is None else factors[k] * y + steps[k]
            result[k] = y
        return np.moveaxis(result, 0, axis).astype(b.dtype, copy=False)


def _adjoint(a: Node, ct: Node, axis: int, reverse: bool) -> Node:
    """The cotangent of b: λ_i = ct_i + a_{i+1} λ_{i+1}, the recurrence in the other direction."""
    return recurrence(before(a, 0, axis, not reverse), ct, axis=axis, reverse=not reverse)


def _recurrence_vjp(ct: Node, out: Node, a: Node, b: Node, axis: int, reverse: bool) -> tuple[Node, Node]:
    ct_b = _adjoint(a, ct, axis, reverse)
    return mul(ct_b, before(out, 0, axis, reverse)), ct_b


def _recurrence_jvp(
    tangents: Sequence[Node | None], out: Node, a: Node, b: Node, axis: int, reverse: bool
) -> Node | None:
    ta, tb = tangents
    if ta is not None:
        term = mul(ta, before(out, 0, axis, reverse))
        tb = term if tb is None else add(term, tb)
    return None if tb is None else recurrence(a, tb, axis=axis, reverse=reverse)


def _recurrence_batch(size: int, flags: Sequence[bool], a: Node, b: Node, axis: int, reverse: bool) -> Node:
    return recurrence(*batched_operands(size, flags, (a, b)), axis=axis + 1, reverse=reverse)


#: ``recurrence(a, b, axis=, reverse=)``: y_i = a_i y_{i-1} + b_i with y_0 = b_0, so that a_0 is not used (reverse:
#: y_i = a_i y_{i+1} + b_i with y_{n-1} = b_{n-1}).
recurrence: Op = define(
    Op(
        "recurrence",
        "cumulative",
        infer=_running_type("recurrence", "iufc"),
        eval=_recurrence_eval,
        vjp=_recurrence_vjp,
        jvp=_recurrence_jvp,
        batch=_recurrence_batch,
    )
)

# ------------------------------------------------------------------------------------------------ products


def _cumprod_vjp(ct: Node, out: Node, x: Node, axis: int, reverse: bool) -> tuple[Node]:
    return (mul(_adjoint(x, ct, axis, reverse), before(out, 1, axis, reverse)),)


def _cumprod_jvp(tangents: Sequence[Node | None], out: Node, x: Node, axis: int, reverse: bool) -> Node | None:
    """t_i = x_i t_{i-1} + y_{i-1} tx_i, with y_{-1} = 1"""
    (tangent,) = tangents
    if tangent is None:
        return None
    return recurrence(x, mul(tangent, before(out, 1, axis, reverse)), axis=axis, reverse=reverse)


#: ``cumprod(x, axis=, reverse=)``: y_i = x_0 ⋯ x_i (reverse: x_i ⋯ x_{n-1}). Integers wrap around.
cumprod: Op = _running("cumprod", "iufc", np.multiply, vjp=_cumprod_vjp, jvp=_cumprod_jvp)

# ------------------------------------------------------------------------------------------------ extremes


def _places(out: Node, x: Node, axis: int, reverse: bool) -> Node:
    """The place of the running extreme: among those that attain it, the one that the running op met last."""
    attains = bit_or(eq(x, out), isnan(x))
    place = iota(shape=x.type.shape, axis=axis, to=i64)
    if reverse:
        return cummin(select(attains, place, like(place, x.type.shape[axis] - 1)), axis=axis, reverse=True)
    return cummax(select(attains, place, zeros(place.type)), axis=axis, reverse=False)


def _extreme_vjp(ct: Node, out: Node, x: Node, axis: int, reverse: bool) -> tuple[Node]:
    if x.type.size == 0:
        return (ct,)
    return (add_along_axis(zeros(x.type), ct, _places(out, x, axis, reverse), axis, mode="clip"),)


def _extreme_jvp(tangents: Sequence[Node | None], out: Node, x: Node, axis: int, reverse: bool) -> Node | None:
    (tangent,) = tangents
    if tangent is None or x.type.size == 0:
        return tangent
    return take_along_axis(tangent, _places(out, x, axis, reverse), axis, mode="clip")


#: ``cummax(x, axis=, reverse=)``: the largest element so far; NaN once there was one; "or" of bools. The derivative is
#: that of the last element met that attains the extreme (NumPy's ``maximum.accumulate`` keeps either of equal ones).
cummax: Op = _running("cummax", "biuf", np.maximum, vjp=_extreme_vjp, jvp=_extreme_jvp)

#: ``cummin(x, axis=, reverse=)``: the smallest element so far, otherwise as cummax.
cummin: Op = _running("cummin", "biuf", np.minimum, vjp=_extreme_vjp, jvp=_extreme_jvp)

__all__ = ["before", "cummax", "cummin", "cumprod", "cumsum", "recurrence"]
