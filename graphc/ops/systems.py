"""Linear systems and what their solution gives: solve, determinants, pseudo-inverses.

These records have the derivative rules of mathematics and NumPy's functions as their meaning; ``expand`` writes them in
factorisations and triangular solves, so that in a compiled program everything about one matrix shares one factorisation.

Derivatives: Giles 2008; Golub and Pereyra 1973, *The differentiation of pseudo-inverses and nonlinear least squares
problems whose variables separate*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.ir import Builder, Graph, GraphError, Node, Op
from graphc.ops.arithmetic import abs_, add, cast, eq, gt, log, mul, neg, select, sign, sub
from graphc.ops.base import add_all, batched_operands, define, full, zeros
from graphc.ops.control import cond
from graphc.ops.decompositions import (
    columns_times,
    diagonal,
    diagonal_matrix,
    identity,
    lu,
    rows_times,
    safe_reciprocal,
    svd,
    take_rows,
)
from graphc.ops.linalg import check_square, product, swap_last, triangular_solve
from graphc.ops.movement import broadcast, concatenate, move_axis, reshape_to, slice_, transpose_to
from graphc.ops.reduction import product_of_others, reduce_or, reduce_prod, reduce_sum
from graphc.ops.sorting import argsort
from graphc.ops.structure import item, items
from graphc.types import TensorType, TupleType, Type, f32, f64, i32

Part = Node | None


def _same_systems(name: str, a: TensorType, b: TensorType) -> None:
    check_square(name, a)
    if b.dtype is not a.dtype or b.ndim != a.ndim or b.shape[:-1] != a.shape[:-1]:
        raise GraphError(f"{name}: a x = b needs b of the element type and batch of {a} that fits it, not {b}")


# ------------------------------------------------------------------------------------------------ nonsingular


def _nonsingular_type(x: TensorType) -> Type:
    check_square("nonsingular", x)
    return x


def _nonsingular_eval(x: np.ndarray) -> np.ndarray:
    if not np.diagonal(x, axis1=-2, axis2=-1).all():
        raise np.linalg.LinAlgError("Singular matrix")
    return np.array(x)


#: ``nonsingular(x)``: the factors of an LU decomposition as they are; raises LinAlgError for a 0 on the diagonal.
nonsingular: Op = define(
    Op(
        "nonsingular",
        "linalg",
        infer=_nonsingular_type,
        eval=_nonsingular_eval,
        vjp=lambda ct, out, x: (ct,),
        jvp=lambda tangents, out, x: tangents[0],
        batch=lambda size, flags, x: nonsingular(x),
    )
)

# ------------------------------------------------------------------------------------------------ solve


def _solve_type(a: TensorType, b: TensorType, transpose: bool, check: bool) -> Type:
    _same_systems("solve", a, b)
    return b


def _solve_eval(a: np.ndarray, b: np.ndarray, transpose: bool, check: bool) -> np.ndarray:
    a = np.swapaxes(a, -1, -2) if transpose else a
    try:
        return np.linalg.solve(a, b)
    except np.linalg.LinAlgError:
        if check:
            raise
    x = np.full(b.shape, np.nan, b.dtype)
    for at in np.ndindex(a.shape[:-2]):
        if np.linalg.det(a[at]) != 0:
            x[at] = np.linalg.solve(a[at], b[at])
    return x


def _solve_expand(a: Node, b: Node, transpose: bool, check: bool) -> Node:
    if b.type.size == 0:
        return zeros(b.type)
    factors, order, _ = items(lu(a))
    if check:
        factors = nonsingular(factors)
    first, second = {"lower": True, "unit_diagonal": True}, {"lower": False, "unit_diagonal": False}
    if transpose:
        first, second = second, first
    else:
        b = take_rows(b, order)
    x = triangular_solve(factors, b, transpose=transpose, left_side=True, **first)
    x = triangular_solve(factors, x, transpose=transpose, left_side=True, **second)
    return take_rows(x, argsort(order, axis=order.type.ndim - 1)) if transpose else x


def _solve_vjp(ct: Node, out: Node, a: Node, b: Node, transpose: bool, check: bool) -> tuple[Node, Node]:
    ct_b = solve(a, ct, transpose=not transpose, check=check)
    x, y = (ct_b, out) if transpose else (out, ct_b)
    return neg(product(y, swap_last(x))), ct_b


def _solve_jvp(tangents: Sequence[Part], out: Node, a: Node, b: Node, transpose: bool, check: bool) -> Node | None:
    ta, tb = tangents
    terms = [] if tb is None else [tb]
    if ta is not None:
        terms.append(neg(product(swap_last(ta) if transpose else ta, out)))
    right = add_all(terms)
    return None if right is None else solve(a, right, transpose=transpose, check=check)


def _solve_batch(size: int, flags: Sequence[bool], a: Node, b: Node, **attrs: Any) -> Node:
    if flags[0]:
        return solve(*batched_operands(size, flags, (a, b)), **attrs)
    return one_matrix(lambda wide: solve(a, wide, **attrs), b)


def one_matrix(function: Callable[[Node], Node], b: Node) -> Node:
    """``function`` of right-hand sides that all have one matrix: the first axis of ``b`` joins its columns."""
    n, at = b.type.ndim, b.type.ndim - 2
    moved = move_axis(b, 0, at)
    shape = moved.type.shape
    found = reshape_to(function(reshape_to(moved, (*shape[:at], shape[at] * shape[at + 1]))), shape)
    return transpose_to(found, (at, *[k for k in range(n) if k != at]))


#: ``solve(a, b, transpose=, check=)``: x with a x = b, or aᵀ x = b. A singular matrix raises LinAlgError, or gives
#: numbers that are not finite where not ``check``.
solve: Op = define(
    Op(
        "solve",
        "linalg",
        infer=_solve_type,
        eval=_solve_eval,
        vjp=_solve_vjp,
        jvp=_solve_jvp,
        batch=_solve_batch,
        expand=_solve_expand,
    )
)


def inverse(a: Node, transpose: bool = False, check: bool = False) -> Node:
    """The inverses of the matrices in a, or their transposes."""
    return solve(a, identity(a.type), transpose=transpose, check=check)


# ------------------------------------------------------------------------------------------------ slogdet


def _over_matrix(x: Node, type: TensorType) -> Node:
    """A number per matrix in every place of that matrix."""
    return broadcast(x, type.shape, tuple(range(type.ndim - 2)))


def _slogdet_type(x: TensorType) -> Type:
    check_square("slogdet", x)
    return TupleType((TensorType(x.dtype, x.shape[:-2]),) * 2)


def _slogdet_eval(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(all="ignore"):
        s, value = np.linalg.slogdet(x)
    return np.asarray(s), np.asarray(value)


def _slogdet_expand(x: Node) -> tuple[Node, Node]:
    axes = (x.type.ndim - 2,)
    if x.type.shape[-1] == 0:
        lead = TensorType(x.type.dtype, x.type.shape[:-2])
        return full(lead, 1), zeros(lead)
    factors, _, parity = items(lu(x))
    on_diagonal = diagonal(factors)
    return mul(parity, reduce_prod(sign(on_diagonal), axes=axes)), reduce_sum(log(abs_(on_diagonal)), axes=axes)


def _slogdet_vjp(ct: Sequence[Part], out: Node, x: Node) -> tuple[Part]:
    return (None if ct[1] is None else mul(_over_matrix(ct[1], x.type), inverse(x, transpose=True)),)


def _slogdet_jvp(tangents: Sequence[Part], out: Node, x: Node) -> tuple[None, Part]:
    (tangent,) = tangents
    if tangent is None:
        return None, None
    return None, _inner(inverse(x, transpose=True), tangent)


def _inner(x: Node, y: Node) -> Node:
    """The sum of the products of the elements of two matrices."""
    n = x.type.ndim
    return reduce_sum(mul(x, y), axes=(n - 2, n - 1))


#: ``slogdet(x)``: (sign, log|det|); 0 and -inf for a singular matrix, where there is no derivative.
slogdet: Op = define(
    Op(
        "slogdet",
        "linalg",
        infer=_slogdet_type,
        eval=_slogdet_eval,
        vjp=_slogdet_vjp,
        jvp=_slogdet_jvp,
        batch=lambda size, flags, x: items(slogdet(x)),
        expand=_slogdet_expand,
    )
)

# ------------------------------------------------------------------------------------------------ det, cofactor


def _det_type(x: TensorType) -> Type:
    check_square("det", x)
    return TensorType(x.dtype, x.shape[:-2])


def _det_eval(x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(np.linalg.det(x), x.dtype)


def _det_expand(x: Node) -> Node:
    if x.type.shape[-1] == 0:
        return full(TensorType(x.type.dtype, x.type.shape[:-2]), 1)
    factors, _, parity = items(lu(x))
    return mul(parity, reduce_prod(diagonal(factors), axes=(x.type.ndim - 2,)))


def _cofactors(x: Node) -> Node:
    """The derivative of det. Up to 3 x 3 it is written out, so that every derivative exists at every matrix."""
    n = x.type.shape[-1]
    if n < 2:
        return full(x.type, 1)
    if n == 2:
        flipped = _rolled(_rolled(x, 1, -1), 1, -2)
        signs = sub(add(identity(x.type), identity(x.type)), full(x.type, 1))
        return mul(flipped, signs)
    if n == 3:
        down, up = _rolled(x, 1, -2), _rolled(x, 2, -2)
        return sub(mul(_rolled(down, 1, -1), _rolled(up, 2, -1)), mul(_rolled(down, 2, -1), _rolled(up, 1, -1)))
    return cofactor(x)


def _rolled(x: Node, by: int, axis: int) -> Node:
    """``np.roll(x, -by, axis)``"""
    axis += x.type.ndim
    extent = x.type.shape[axis]
    parts = []
    for start, count in ((by, extent - by), (0, by)):
        size = (*x.type.shape[:axis], count, *x.type.shape[axis + 1 :])
        at = tuple(start if k == axis else 0 for k in range(x.type.ndim))
        parts.append(slice_(x, start=at, size=size, step=(1,) * x.type.ndim))
    return concatenate(*parts, axis=axis)


#: ``det(x)``. Its derivative is the matrix of cofactors, which exists where x is singular, too.
det: Op = define(
    Op(
        "det",
        "linalg",
        infer=_det_type,
        eval=_det_eval,
        vjp=lambda ct, out, x: (mul(_over_matrix(ct, x.type), _cofactors(x)),),
        jvp=lambda tangents, out, x: None if tangents[0] is None else _inner(_cofactors(x), tangents[0]),
        batch=lambda size, flags, x: det(x),
        expand=_det_expand,
    )
)


def _cofactor_type(x: TensorType) -> Type:
    check_square("cofactor", x)
    return x


def _cofactor_eval(x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        size = np.asarray(np.linalg.det(x))
        regular = size != 0
        safe = np.where(regular[..., None, None], x, np.eye(x.shape[-1], dtype=x.dtype))
        found = np.asarray(size[..., None, None] * np.swapaxes(np.linalg.inv(safe), -1, -2), x.dtype)
        if not regular.all():
            u, s, vh = np.linalg.svd(x[~regular])
            others = np.where(np.eye(s.shape[-1], dtype=bool), 1, s[..., None, :]).prod(-1)
            others *= (np.linalg.det(u) * np.linalg.det(vh))[..., None]
            found[~regular] = (u * others[..., None, :]) @ vh
    return found


def _singular(x: Node) -> Node:
    """Where elimination meets a zero: bool per matrix."""
    return reduce_or(eq(diagonal(item(lu(x), index=0)), zeros(_rows(x))), axes=(x.type.ndim - 2,))


def _rows(x: Node) -> TensorType:
    return TensorType(x.type.dtype, x.type.shape[:-1])


def _regular_cofactor(x: Node) -> Node:
    return mul(_over_matrix(det(x), x.type), inverse(x, transpose=True))


def _singular_cofactor(x: Node) -> Node:
    """det(U) det(Vᵀ) U diag(products of the other singular values) Vᵀ: also where x has no inverse."""
    u, s, vh = items(svd(x, full=False))
    turned = mul(det(u), det(vh))
    scaled = rows_times(vh, product_of_others(s))
    return mul(_over_matrix(turned, x.type), product(u, scaled))


def _cofactor_expand(x: Node) -> Node:
    """The singular values are computed only where some matrix is singular."""
    singular = _singular(x)

    def both(x: Node, singular: Node) -> Node:
        return select(_over_matrix(singular, x.type), _singular_cofactor(x), _regular_cofactor(x))

    some = reduce_or(singular, axes=tuple(range(singular.type.ndim)))
    branches = (
        _graph("regular", lambda x, singular: _regular_cofactor(x), x, singular),
        _graph("singular", both, x, singular),
    )
    return item(cond(cast(some, to=i32), x, singular, branches=branches), index=0)


def _graph(name: str, function: Callable[..., Node], *operands: Node) -> Graph:
    with Builder(name) as builder:
        inputs = [builder.input(f"x{k}", operand.type) for k, operand in enumerate(operands)]
        return builder.graph([function(*inputs)])


def _cofactor_derivative(h: Node, x: Node) -> Node:
    """The derivative of the cofactors in direction h: the second derivative of det, a symmetric map of h.

    For an invertible x it is C tr(x⁻¹ h) - x⁻ᵀ hᵀ C. Else, with M = Uᵀ h V and P[i, j] the product of the singular values
    but those of i and j, it is ± U (diag(Σ P[i, k] M[k, k]) - P∘Mᵀ) Vᵀ. Exact for all matrices; derivatives of it are
    for invertible ones, and for singular ones without repeated singular values.
    """
    singular = _over_matrix(_singular(x), x.type)
    safe = select(singular, identity(x.type), x)
    inverted = inverse(safe, transpose=True)
    cofactors = mul(_over_matrix(det(safe), x.type), inverted)
    trace = _over_matrix(_inner(inverted, h), x.type)
    regular = sub(mul(cofactors, trace), product(product(inverted, swap_last(h)), cofactors))

    u, s, vh = items(svd(x, full=False))
    inner = product(product(swap_last(u), h), swap_last(vh))
    eye = identity(x.type)
    on_diagonal = gt(eye, zeros(eye.type))
    lines = broadcast(s, x.type.shape, (*range(x.type.ndim - 2), x.type.ndim - 1))
    pairs = product_of_others(select(on_diagonal, full(x.type, 1), lines))
    pairs = select(on_diagonal, zeros(x.type), pairs)
    n = x.type.ndim
    sums = reduce_sum(columns_times(pairs, diagonal(inner)), axes=(n - 1,))
    middle = sub(diagonal_matrix(sums), mul(pairs, swap_last(inner)))
    turned = _over_matrix(mul(det(u), det(vh)), x.type)
    return select(singular, mul(turned, product(product(u, middle), vh)), regular)


def _cofactor_jvp(tangents: Sequence[Part], out: Node, x: Node) -> Part:
    return None if tangents[0] is None else _cofactor_derivative(tangents[0], x)


#: ``cofactor(x)``: det(x) x⁻ᵀ, continued to singular matrices. For matrices of at least 2 x 2.
cofactor: Op = define(
    Op(
        "cofactor",
        "linalg",
        infer=_cofactor_type,
        eval=_cofactor_eval,
        vjp=lambda ct, out, x: (_cofactor_derivative(ct, x),),
        jvp=_cofactor_jvp,
        batch=lambda size, flags, x: cofactor(x),
        expand=_cofactor_expand,
    )
)

# ------------------------------------------------------------------------------------------------ pinv


def _pinv_type(x: TensorType, cutoff: TensorType) -> Type:
    if not isinstance(x, TensorType) or x.dtype not in (f32, f64) or x.ndim < 2:
        raise GraphError(f"pinv takes matrices of f32 or f64 in the last two axes, not {x}")
    if cutoff != TensorType(x.dtype, x.shape[:-2]):
        raise GraphError(f"pinv of {x} needs a cutoff of its element type for each matrix, not {cutoff}")
    *lead, m, n = x.shape
    return TensorType(x.dtype, (*lead, n, m))


def _pinv_expand(x: Node, cutoff: Node) -> Node:
    u, s, vh = items(svd(x, full=False))
    n = s.type.ndim
    if s.type.shape[-1] == 0:
        return zeros(swap_last(x).type)
    largest = slice_(s, start=(0,) * n, size=(*s.type.shape[:-1], 1), step=(1,) * n)
    limit = mul(reshape_to(largest, s.type.shape[:-1]), cutoff)
    large = gt(s, broadcast(limit, s.type.shape, tuple(range(n - 1))))
    inverted = safe_reciprocal(select(large, s, zeros(s.type)))
    return product(swap_last(vh), rows_times(swap_last(u), inverted))


def _pinv_vjp(ct: Node, out: Node, x: Node, cutoff: Node) -> tuple[Part, None]:
    p, q = out, swap_last(out)
    left, right = _outside(x, p)
    terms = [
        neg(product(product(q, ct), q)),
        product(product(left, swap_last(ct)), product(p, q)),
        product(product(product(q, p), swap_last(ct)), right),
    ]
    return add_all(terms), None


def _outside(x: Node, p: Node) -> tuple[Node, Node]:
    """I - x p and I - p x: what is orthogonal to the columns and to the rows of x."""
    outer, inner = product(x, p), product(p, x)
    return sub(identity(outer.type), outer), sub(identity(inner.type), inner)


def _pinv_jvp(tangents: Sequence[Part], out: Node, x: Node, cutoff: Node) -> Part:
    tangent = tangents[0]
    if tangent is None:
        return None
    p, q, turned = out, swap_last(out), swap_last(tangent)
    left, right = _outside(x, p)
    terms = [
        neg(product(product(p, tangent), p)),
        product(product(product(p, q), turned), left),
        product(product(right, turned), product(q, p)),
    ]
    return add_all(terms)


#: ``pinv(x, cutoff)``: the pseudo-inverse; singular values up to ``cutoff`` times the largest one count as 0. The
#: derivative is the one at constant rank.
pinv: Op = define(
    Op(
        "pinv",
        "linalg",
        infer=_pinv_type,
        eval=lambda x, cutoff: np.linalg.pinv(x, cutoff),
        vjp=_pinv_vjp,
        jvp=_pinv_jvp,
        batch=lambda size, flags, x, cutoff: pinv(*batched_operands(size, flags, (x, cutoff))),
        expand=_pinv_expand,
    )
)

__all__ = ["cofactor", "det", "inverse", "nonsingular", "one_matrix", "pinv", "slogdet", "solve"]
