"""Linear algebra on the last two axes; axes before them are a batch, equal in all operands.

Derivatives: Giles 2008, *Collected matrix derivative results for forward and reverse mode algorithmic differentiation*;
Murray 2016, *Differentiation of the Cholesky decomposition*.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.ir import GraphError, Node, Op
from graphc.ops.arithmetic import add, ge, gt, iota, like, mul, neg, select, sub
from graphc.ops.base import add_all, batched_operands, define, zeros
from graphc.ops.contraction import dot
from graphc.ops.movement import broadcast, move_axis, reshape_to, transpose_to
from graphc.types import TensorType, Type, f32, f64, i64


def check_square(name: str, a: TensorType) -> None:
    """Raise GraphError unless ``a`` holds square matrices."""
    if not isinstance(a, TensorType) or a.dtype not in (f32, f64) or a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise GraphError(f"{name} takes square matrices of f32 or f64 in the last two axes, not {a}")


def swap_last(x: Node) -> Node:
    """The transposes of the matrices in ``x``."""
    n = x.type.ndim
    return transpose_to(x, (*range(n - 2), n - 1, n - 2))


def product(x: Node, y: Node) -> Node:
    """The matrix products ``x @ y`` of equal batches."""
    n = x.type.ndim
    lead = tuple(range(n - 2))
    return dot(x, y, batch=(lead, lead), contract=((n - 1,), (n - 2,)))


def triangle_mask(type: TensorType, lower: bool, strict: bool) -> Node:
    """bool of the shape of ``type``: True in the lower (upper) triangle of its last two axes.

    The diagonal is part of it where not ``strict``.
    """
    shape = type.shape[-2:]
    row, column = iota(shape=shape, axis=0, to=i64), iota(shape=shape, axis=1, to=i64)
    low, high = (row, column) if lower else (column, row)
    return broadcast((gt if strict else ge)(low, high), type.shape, (type.ndim - 2, type.ndim - 1))


def triangle(x: Node, lower: bool = True, strict: bool = False) -> Node:
    """x with zeros outside a triangle of its last two axes."""
    return select(triangle_mask(x.type, lower, strict), x, zeros(x.type))


# ------------------------------------------------------------------------------------------------ triangular_solve


def _solve_type(
    a: TensorType, b: TensorType, lower: bool, transpose: bool, unit_diagonal: bool, left_side: bool
) -> Type:
    check_square("triangular_solve", a)
    fits = b.dtype is a.dtype and b.ndim == a.ndim and b.shape[:-2] == a.shape[:-2]
    if not fits or b.shape[-2 if left_side else -1] != a.shape[-1]:
        side = "op(a) x = b" if left_side else "x op(a) = b"
        raise GraphError(f"triangular_solve: {side} needs b of the element type and batch of {a} that fits it, not {b}")
    return b


def _substitute(a: np.ndarray, b: np.ndarray, lower: bool, unit_diagonal: bool) -> np.ndarray:
    """x with a x = b by substitution, reading one triangle of a. A zero on the diagonal gives inf or NaN, no error."""
    triangle = np.tril(a) if lower else np.triu(a)
    places = np.arange(a.shape[-1])
    if unit_diagonal:
        triangle[..., places, places] = 1
    if np.isfinite(triangle).all() and triangle[..., places, places].all():
        # LAPACK's elimination has nothing to do in an upper triangle: what remains is back substitution.
        if not lower:
            return np.linalg.solve(triangle, b)
        return np.linalg.solve(triangle[..., ::-1, ::-1], b[..., ::-1, :])[..., ::-1, :]
    return _substitute_rows(triangle, b, lower)


def _substitute_rows(a: np.ndarray, b: np.ndarray, lower: bool) -> np.ndarray:
    """Substitution row by row, for triangles with what LAPACK refuses: zeros on the diagonal, infinities."""
    x = np.array(b)
    n = a.shape[-1]
    for k in range(n) if lower else reversed(range(n)):
        known = slice(0, k) if lower else slice(k + 1, n)
        row = x[..., k, :] - (a[..., k : k + 1, known] @ x[..., known, :])[..., 0, :]
        x[..., k, :] = row / a[..., k, k, None]
    return x


def _solve_eval(
    a: np.ndarray, b: np.ndarray, lower: bool, transpose: bool, unit_diagonal: bool, left_side: bool
) -> np.ndarray:
    if transpose == left_side:  # the system to substitute in has the transpose of a
        a, lower = np.swapaxes(a, -1, -2), not lower
    with np.errstate(all="ignore"):
        if left_side:
            return _substitute(a, b, lower, unit_diagonal)
        return np.swapaxes(_substitute(a, np.swapaxes(b, -1, -2), lower, unit_diagonal), -1, -2)


def _solve_vjp(
    ct: Node, out: Node, a: Node, b: Node, lower: bool, transpose: bool, unit_diagonal: bool, left_side: bool
) -> tuple[Node, Node]:
    attrs = {"lower": lower, "unit_diagonal": unit_diagonal, "left_side": left_side}
    ct_b = triangular_solve(a, ct, transpose=not transpose, **attrs)
    x, y = (out, ct_b) if left_side else (swap_last(ct_b), swap_last(out))
    # op(a) has the cotangent -y xᵀ where it stands on the left, a that or its transpose.
    ct_a = product(x, swap_last(y)) if transpose else product(y, swap_last(x))
    return neg(triangle(ct_a, lower, unit_diagonal)), ct_b


def _solve_jvp(
    tangents: Sequence[Node | None],
    out: Node,
    a: Node,
    b: Node,
    lower: bool,
    transpose: bool,
    unit_diagonal: bool,
    left_side: bool,
) -> Node | None:
    ta, tb = tangents
    terms = [] if tb is None else [tb]
    if ta is not None:
        ta = triangle(ta, lower, unit_diagonal)
        ta = swap_last(ta) if transpose else ta
        terms.append(neg(product(ta, out) if left_side else product(out, ta)))
    right = add_all(terms)
    if right is None:
        return None
    attrs = {"lower": lower, "transpose": transpose, "unit_diagonal": unit_diagonal, "left_side": left_side}
    return triangular_solve(a, right, **attrs)


def _solve_batch(size: int, flags: Sequence[bool], a: Node, b: Node, left_side: bool, **attrs: Any) -> Node:
    if flags[0]:
        return triangular_solve(*batched_operands(size, flags, (a, b)), left_side=left_side, **attrs)
    # One matrix, more right-hand sides: the batch axis joins the columns (rows) of b.
    n, at = b.type.ndim, b.type.ndim - 2 if left_side else b.type.ndim - 3
    moved = move_axis(b, 0, at)
    shape = moved.type.shape
    wide = reshape_to(moved, (*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :]))
    found = reshape_to(triangular_solve(a, wide, left_side=left_side, **attrs), shape)
    return transpose_to(found, (at, *[k for k in range(n) if k != at]))


#: ``triangular_solve(a, b, lower=, transpose=, unit_diagonal=, left_side=)``: x with op(a) x = b (left_side) or x
#: op(a) = b, op being the transpose or nothing. Only the lower (upper) triangle of a is read, with ones as diagonal
#: where unit_diagonal. A zero on the diagonal gives inf or NaN.
triangular_solve: Op = define(
    Op(
        "triangular_solve",
        "linalg",
        infer=_solve_type,
        eval=_solve_eval,
        vjp=_solve_vjp,
        jvp=_solve_jvp,
        batch=_solve_batch,
    )
)

# ------------------------------------------------------------------------------------------------ cholesky


def _cholesky_type(x: TensorType) -> Type:
    check_square("cholesky", x)
    return x


def _symmetric(x: Node) -> Node:
    return mul(add(x, swap_last(x)), like(x, 0.5))


def _half_diagonal(x: Node) -> Node:
    """Φ of Murray 2016: the lower triangle with its diagonal halved."""
    strict = triangle(x, strict=True)
    return add(strict, mul(sub(triangle(x), strict), like(x, 0.5)))


def _solve(factor: Node, b: Node, transpose: bool, left_side: bool) -> Node:
    return triangular_solve(factor, b, lower=True, transpose=transpose, unit_diagonal=False, left_side=left_side)


def _cholesky_vjp(ct: Node, out: Node, x: Node) -> tuple[Node]:
    """sym(L⁻ᵀ Φ(Lᵀ ct) L⁻¹)"""
    inner = _half_diagonal(product(swap_last(out), ct))
    left = _solve(out, inner, transpose=True, left_side=True)
    return (_symmetric(_solve(out, left, transpose=False, left_side=False)),)


def _cholesky_jvp(tangents: Sequence[Node | None], out: Node, x: Node) -> Node | None:
    """L Φ(L⁻¹ sym(t) L⁻ᵀ)"""
    (tangent,) = tangents
    if tangent is None:
        return None
    left = _solve(out, _symmetric(tangent), transpose=False, left_side=True)
    return product(out, _half_diagonal(_solve(out, left, transpose=True, left_side=False)))


#: ``cholesky(x)``: the lower triangular L with L Lᵀ = x. Reads the lower triangle of x alone, as NumPy does, but
#: derivatives are those of cholesky((x + xᵀ)/2), so cotangents are symmetric (as in JAX). Raises LinAlgError where
#: x is not positive definite.
cholesky: Op = define(
    Op(
        "cholesky",
        "linalg",
        infer=_cholesky_type,
        eval=lambda x: np.linalg.cholesky(x),
        vjp=_cholesky_vjp,
        jvp=_cholesky_jvp,
        batch=lambda size, flags, x: cholesky(x),
    )
)

__all__ = ["check_square", "cholesky", "product", "swap_last", "triangle", "triangle_mask", "triangular_solve"]
