"""Reductions over a set of axes, which the result no longer has; argmax and argmin over one axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.ir import GraphError, Node, Op, ShapeError
from graphc.ops.arithmetic import add, convert, div, eq, like, mul
from graphc.ops.base import bool_, check_axes, check_kind, const, define, linear_jvp, shifted
from graphc.ops.movement import broadcast, concatenate, pad, reshape_to, slice_, transpose_to
from graphc.types import DType, TensorType, Type, bf16, i64


def kept_axes(ndim: int, axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(k for k in range(ndim) if k not in axes)


def widened(x: np.ndarray) -> np.ndarray:
    """x as sums and products take it: f16 and bf16 accumulate in f32."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype in (np.float16, bf16.numpy) else x


def expand(y: Node, x: Node, axes: Sequence[int]) -> Node:
    """``y`` (``x`` reduced over ``axes``) repeated along those axes."""
    return broadcast(y, x.type.shape, kept_axes(x.type.ndim, axes))


def _reduced_type(name: str, kinds: str) -> Callable[..., Type]:
    def infer(x: TensorType, axes: tuple[int, ...]) -> Type:
        check_kind(name, x, kinds)
        check_axes(name, x, axes)
        if list(axes) != sorted(axes):
            raise GraphError(f"{name}: axes {axes} must be in order")
        if name in ("reduce_max", "reduce_min") and any(x.shape[a] == 0 for a in axes):
            raise ShapeError(f"{name}: zero-size {x} has no {name[-3:]}imum over axes {axes}")
        return TensorType(x.dtype, tuple(x.shape[k] for k in kept_axes(x.ndim, axes)))

    return infer


def _reduction(name: str, kinds: str, function: Callable[..., Any], combine: str, identity: Any, **rules: Any) -> Op:
    def evaluate(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        if name in ("reduce_sum", "reduce_prod"):
            wide = widened(x)
            return np.asarray(function(wide, axis=axes, dtype=wide.dtype)).astype(x.dtype, copy=False)
        return np.asarray(function(x, axis=axes))

    def batch(size: int, flags: Sequence[bool], x: Node, axes: tuple[int, ...]) -> Node:
        return record(x, axes=shifted(axes))

    record = define(
        Op(
            name,
            "reduction",
            _reduced_type(name, kinds),
            evaluate,
            batch=batch,
            combine=combine,
            identity=identity,
            **rules,
        )
    )
    return record


reduce_sum: Op = _reduction(
    "reduce_sum",
    "iufc",
    np.add.reduce,
    "{0} + {1}",
    lambda t: 0,
    vjp=lambda ct, out, x, axes: (expand(ct, x, axes),),
    jvp=linear_jvp(lambda: reduce_sum),
)


def product_of_others(x: Node) -> Node:
    """For each element along the last axis, the product of the others.

    A tree of halves, up and down again: no division, so it is right at zeros, and so are its derivatives of any order.
    """
    halves: list[tuple[Node, Node, int]] = []
    lead, ones = (0,) * (x.type.ndim - 1), (1,) * x.type.ndim

    def part(y: Node, start: int, size: int) -> Node:
        return slice_(y, start=(*lead, start), size=(*y.type.shape[:-1], size), step=ones)

    y = x
    while (n := y.type.shape[-1]) > 1:
        half = (n + 1) // 2
        left, right = part(y, 0, half), part(y, half, n - half)
        if n % 2:
            right = pad(right, const(1, y.type.dtype), shape=left.type.shape, start=(*lead, 0), step=ones)
        halves.append((left, right, n))
        y = mul(left, right)
    others = like(y, 1)
    for left, right, size in reversed(halves):
        both = concatenate(mul(others, right), mul(others, left), axis=x.type.ndim - 1)
        others = part(both, 0, size)
    return others


def _prod_partials(x: Node, axes: tuple[int, ...]) -> Node:
    """d prod / d x, in the shape of ``x``."""
    order = (*kept_axes(x.type.ndim, axes), *axes)
    last = transpose_to(x, order)
    kept = last.type.shape[: len(order) - len(axes)]
    others = product_of_others(reshape_to(last, (*kept, math.prod(x.type.shape[k] for k in axes))))
    return transpose_to(reshape_to(others, last.type.shape), tuple(order.index(k) for k in range(len(order))))


reduce_prod = _reduction(
    "reduce_prod",
    "iufc",
    np.prod,
    "{0} * {1}",
    lambda t: 1,
    vjp=lambda ct, out, x, axes: (mul(expand(ct, x, axes), _prod_partials(x, axes)),),
    jvp=lambda tangents, out, x, axes: (
        None if tangents[0] is None else reduce_sum(mul(tangents[0], _prod_partials(x, axes)), axes=axes)
    ),
)


def _winner_weights(x: Node, out: Node, axes: tuple[int, ...]) -> Node:
    """1 at the winner of a max or min; ties share it equally (as in JAX)."""
    wins = convert(eq(x, expand(out, x, axes)), x.type.dtype)
    return div(wins, expand(reduce_sum(wins, axes=axes), x, axes))


def _winner_vjp(ct: Node, out: Node, x: Node, axes: tuple[int, ...]) -> tuple[Node]:
    return (mul(expand(ct, x, axes), _winner_weights(x, out, axes)),)


def _winner_jvp(tangents: Sequence[Node | None], out: Node, x: Node, axes: tuple[int, ...]) -> Node | None:
    (tangent,) = tangents
    return None if tangent is None else reduce_sum(mul(tangent, _winner_weights(x, out, axes)), axes=axes)


def lowest(t: DType) -> Any:
    """The identity of max."""
    if t.kind == "c":
        return complex(-np.inf, -np.inf)
    return -np.inf if t.is_float else False if t is bool_ else int(np.iinfo(t.numpy).min)


def highest(t: DType) -> Any:
    """The identity of min."""
    if t.kind == "c":
        return complex(np.inf, np.inf)
    return np.inf if t.is_float else True if t is bool_ else int(np.iinfo(t.numpy).max)


reduce_max = _reduction("reduce_max", "biuf", np.maximum.reduce, "maximum({0}, {1})", lowest, vjp=_winner_vjp, jvp=_winner_jvp)
reduce_min = _reduction("reduce_min", "biuf", np.minimum.reduce, "minimum({0}, {1})", highest, vjp=_winner_vjp, jvp=_winner_jvp)
reduce_and = _reduction("reduce_and", "b", np.all, "{0} & {1}", lambda t: True)
reduce_or = _reduction("reduce_or", "b", np.any, "{0} | {1}", lambda t: False)


def _arg_reduction(name: str, function: Callable[..., Any], combine: str) -> Op:
    def infer(x: TensorType, axis: int) -> Type:
        check_kind(name, x, "biuf")
        check_axes(name, x, (axis,))
        if x.shape[axis] == 0:
            raise ShapeError(f"{name}: axis {axis} of {x} is empty")
        return TensorType(i64, x.shape[:axis] + x.shape[axis + 1 :])

    record = define(
        Op(
            name,
            "reduction",
            infer,
            lambda x, axis: np.asarray(function(x, axis=axis), np.int64),
            vjp=lambda ct, out, x, axis: (None,),
            jvp=lambda tangents, out, x, axis: None,
            batch=lambda size, flags, x, axis: record(x, axis=axis + 1),
            combine=combine,
        )
    )
    return record


#: First occurrence of the extreme value; NaN counts as extreme, as in NumPy. ``combine`` says which comparison wins.
argmax = _arg_reduction("argmax", np.argmax, ">")
argmin = _arg_reduction("argmin", np.argmin, "<")


def mean(x: Node, axes: Sequence[int]) -> Node:
    """The mean over ``axes``."""
    total = reduce_sum(x, axes=tuple(axes))
    count = x.type.size // max(total.type.size, 1) if x.type.size else 0
    return div(total, like(total, count))


__all__ = [
    "add", "argmax", "argmin", "expand", "highest", "kept_axes", "lowest", "mean", "reduce_and", "reduce_max",
    "reduce_min", "reduce_or", "reduce_prod", "reduce_sum", "reshape_to", "transpose_to", "widened",
]  # fmt: skip
