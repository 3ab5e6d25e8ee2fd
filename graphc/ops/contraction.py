"""The one contraction: a batched dot product over named axes, to which ``@``, einsum and tensordot lower."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.ir import Node, Op, ShapeError
from graphc.ops.base import add_all, check_axes, check_kind, define
from graphc.ops.movement import transpose_to
from graphc.types import TensorType, Type, bf16, f16

Axes = tuple[int, ...]


@functools.lru_cache(maxsize=4096)
def free_axes(ndim: int, batch: Axes, contract: Axes) -> Axes:
    return tuple(k for k in range(ndim) if k not in batch and k not in contract)


@functools.lru_cache(maxsize=4096)
def _dot_type(x: TensorType, y: TensorType, batch: tuple[Axes, Axes], contract: tuple[Axes, Axes]) -> Type:
    check_kind("dot", x, "iufc")
    for operand, b, c in ((x, batch[0], contract[0]), (y, batch[1], contract[1])):
        check_axes("dot", operand, (*b, *c))
    pairs = [*zip(batch[0], batch[1], strict=True), *zip(contract[0], contract[1], strict=True)]
    if x.dtype is not y.dtype or any(x.shape[i] != y.shape[j] for i, j in pairs):
        raise ShapeError(f"dot: {x} and {y} do not fit with batch axes {batch} and contracted axes {contract}")
    rows = [x.shape[k] for k in free_axes(x.ndim, batch[0], contract[0])]
    columns = [y.shape[k] for k in free_axes(y.ndim, batch[1], contract[1])]
    return TensorType(x.dtype, (*[x.shape[k] for k in batch[0]], *rows, *columns))


def _dot_eval(x: np.ndarray, y: np.ndarray, batch: tuple[Axes, Axes], contract: tuple[Axes, Axes]) -> np.ndarray:
    first, second = _matrix_axes(x.ndim, y.ndim, batch, contract)
    lead, depth = len(batch[0]), len(contract[0])
    a, b = x.transpose(first), y.transpose(second)
    shape = a.shape[: x.ndim - depth] + b.shape[lead + depth :]
    if depth != 1 or a.ndim != lead + 2 or b.ndim != lead + 2:
        batched, inner = a.shape[:lead], math.prod(a.shape[x.ndim - depth :])
        a = a.reshape(*batched, math.prod(a.shape[lead : x.ndim - depth]), inner)
        b = b.reshape(*batched, inner, math.prod(b.shape[lead + depth :]))
    if x.dtype.itemsize == 2 and x.dtype in (np.float16, bf16.numpy):
        product = np.matmul(a.astype(np.float32), b.astype(np.float32)).astype(x.dtype)
    else:
        product = np.matmul(a, b)
    return product.reshape(shape)


@functools.lru_cache(maxsize=4096)
def _matrix_axes(nx: int, ny: int, batch: tuple[Axes, Axes], contract: tuple[Axes, Axes]) -> tuple[Axes, Axes]:
    """The orders of axes in which the operands are (stacks of) matrices, rows by depth and depth by columns."""
    fx, fy = free_axes(nx, batch[0], contract[0]), free_axes(ny, batch[1], contract[1])
    return (*batch[0], *fx, *contract[0]), (*batch[1], *contract[1], *fy)


def _first_vjp(ct: Node, out: Node, x: Node, y: Node, batch: Any, contract: Any) -> Node:
    return _operand_cotangent(ct, x, y, batch, contract, swap=False)


def _second_vjp(ct: Node, out: Node, x: Node, y: Node, batch: Any, contract: Any) -> Node:
    return _operand_cotangent(ct, y, x, batch[::-1], contract[::-1], swap=True)


def _dot_vjp(*args: Node, **attrs: Any) -> tuple[Node, Node]:
    return _first_vjp(*args, **attrs), _second_vjp(*args, **attrs)


def _operand_cotangent(ct: Node, x: Node, y: Node, batch: Any, contract: Any, swap: bool) -> Node:
    """The cotangent of ``x``: ct contracted with ``y`` over y's free axes, its axes brought into the order of x.

    ``swap`` says that x was the second operand; then y comes first, so that dW of ``x @ w`` needs no transpose.
    """
    attrs, order = _cotangent_axes(x.type.ndim, y.type.ndim, batch, contract, swap)
    product = dot(y, ct, **attrs) if swap else dot(ct, y, **attrs)
    return transpose_to(product, order)


@functools.lru_cache(maxsize=4096)
def _cotangent_axes(nx: int, ny: int, batch: Any, contract: Any, swap: bool) -> tuple[dict[str, Any], Axes]:
    """The axes of the dot that gives the cotangent of ``x``, and the order in which it has those of ``x``."""
    n_batch = len(batch[0])
    x_free, y_free = free_axes(nx, batch[0], contract[0]), free_axes(ny, batch[1], contract[1])
    lead = tuple(range(n_batch))
    first = n_batch if swap else n_batch + len(x_free)
    ct_y = tuple(range(first, first + len(y_free)))
    partner = dict(zip(contract[1], contract[0], strict=True))
    contracted = [partner[k] for k in sorted(contract[1])]
    if swap:
        attrs = {"batch": (batch[1], lead), "contract": (y_free, ct_y)}
        have = [*batch[0], *contracted, *x_free]
    else:
        attrs = {"batch": (lead, batch[1]), "contract": (ct_y, y_free)}
        have = [*batch[0], *x_free, *contracted]
    return attrs, tuple([have.index(k) for k in range(nx)])


def _dot_jvp(tangents: Sequence[Node | None], out: Node, x: Node, y: Node, **attrs: Any) -> Node | None:
    tx, ty = tangents
    terms = ([] if tx is None else [dot(tx, y, **attrs)]) + ([] if ty is None else [dot(x, ty, **attrs)])
    return add_all(terms)


def _dot_batch(size: int, flags: Sequence[bool], x: Node, y: Node, batch: Any, contract: Any) -> Node:
    def shift(flag: bool, axes: Axes) -> Axes:
        return tuple(a + 1 for a in axes) if flag else axes

    moved = tuple(shift(f, b) for f, b in zip(flags, batch, strict=True))
    summed = tuple(shift(f, c) for f, c in zip(flags, contract, strict=True))
    if all(flags):
        return dot(x, y, batch=((0, *moved[0]), (0, *moved[1])), contract=summed)
    result = dot(x, y, batch=moved, contract=summed)
    # The batch axis of the one batched operand is now among that operand's free axes: bring it to the front.
    at = len(moved[0])
    if flags[1]:
        at += len(free_axes(x.type.ndim, moved[0], summed[0]))
    return transpose_to(result, (at, *[k for k in range(result.type.ndim) if k != at]))


#: ``dot(x, y, batch=(xb, yb), contract=(xc, yc))``: axes of the result are batch, free axes of x, free axes of y.
#: f16 and bf16 accumulate in f32.
dot: Op = define(
    Op(
        "dot",
        "contraction",
        infer=_dot_type,
        eval=_dot_eval,
        vjp=_dot_vjp,
        jvp=_dot_jvp,
        batch=_dot_batch,
        partials=(_first_vjp, _second_vjp),
    )
)


def matmul(x: Node, y: Node) -> Node:
    """NumPy's ``x @ y`` for operands of equal dtype; batch axes must already agree. Vectors are allowed."""
    nx, ny = x.type.ndim, y.type.ndim
    if nx == 0 or ny == 0:
        raise ShapeError(f"matmul: scalars are not allowed ({x.type} @ {y.type}); use * instead")
    lead = max(min(nx, ny) - 2, 0)
    axes = tuple(range(lead))
    return dot(x, y, batch=(axes, axes), contract=((nx - 1,), (max(ny - 2, 0),)))


__all__ = ["dot", "f16", "free_axes", "matmul"]
