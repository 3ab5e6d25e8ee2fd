"""Factorisations of the matrices in the last two axes: LU, QR, eigenvalues of symmetric matrices, singular values.

Values and signs are LAPACK's (getrf, geqrf and orgqr, syevd, gesdd), as in NumPy. Eigenvectors and singular vectors are
determined up to their signs (up to rotations where values repeat): what is computed from them should not depend on that.

Derivatives: Giles 2008; Townsend 2016, *Differentiating the singular value decomposition*; Seeger et al. 2017,
*Auto-differentiating linear algebra*; Walter and Lehmann 2013, *Algorithmic differentiation of linear algebra functions*.
Derivatives of values are always right at order 1. Vectors of equal (singular) values have no derivative: what would
divide by the difference of two values is 0 where they are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.ir import GraphError, Node, Op
from graphc.ops.arithmetic import add, div, eq, iota, like, mul, neg, select, sub
from graphc.ops.base import add_all, define, full, zeros
from graphc.ops.indexing import take_along_axis
from graphc.ops.linalg import check_square, product, swap_last, triangle, triangular_solve
from graphc.ops.movement import broadcast, concatenate, reshape_to, slice_
from graphc.ops.sorting import argsort
from graphc.ops.structure import item, items
from graphc.types import TensorType, TupleType, Type, f32, f64, i64

Part = Node | None


def _check_matrices(name: str, a: TensorType) -> None:
    if not isinstance(a, TensorType) or a.dtype not in (f32, f64) or a.ndim < 2:
        raise GraphError(f"{name} takes matrices of f32 or f64 in the last two axes, not {a}")


# ------------------------------------------------------------------------------------------------ parts of matrices


def identity(type: TensorType) -> Node:
    """Ones on the diagonals of the matrices of a tensor of ``type``, zeros elsewhere."""
    shape = type.shape[-2:]
    same = eq(iota(shape=shape, axis=0, to=i64), iota(shape=shape, axis=1, to=i64))
    ones = select(same, full(TensorType(type.dtype, shape), 1), zeros(TensorType(type.dtype, shape)))
    return broadcast(ones, type.shape, (type.ndim - 2, type.ndim - 1))


def diagonal(x: Node) -> Node:
    """The diagonals of the square matrices in x, as a view."""
    *lead, n, _ = x.type.shape
    flat = reshape_to(x, (*lead, n * n))
    ones = (1,) * len(lead)
    return slice_(flat, start=(0,) * len(flat.type.shape), size=(*lead, n), step=(*ones, n + 1))


def diagonal_matrix(d: Node) -> Node:
    """Matrices with the diagonals ``d``."""
    type = TensorType(d.type.dtype, (*d.type.shape, d.type.shape[-1]))
    same = identity(type)
    return select(eq(same, like(same, 1)), rows_times(full(type, 1), d), zeros(type))


def rows_times(x: Node, d: Node) -> Node:
    """diag(d) x: row i of each matrix times d[i]."""
    return mul(x, along_rows(d, x.type))


def columns_times(x: Node, d: Node) -> Node:
    """x diag(d): column j of each matrix times d[j]."""
    return mul(x, along_columns(d, x.type))


def along_rows(d: Node, type: TensorType) -> Node:
    """d[i] in every place of row i of matrices of ``type``."""
    return broadcast(d, type.shape, tuple(range(type.ndim - 1)))


def along_columns(d: Node, type: TensorType) -> Node:
    """d[j] in every place of column j of matrices of ``type``."""
    return broadcast(d, type.shape, (*range(type.ndim - 2), type.ndim - 1))


def columns(x: Node, start: int, stop: int) -> Node:
    """x[..., start:stop]"""
    lead = x.type.shape[:-1]
    at = (0,) * len(lead)
    return slice_(x, start=(*at, start), size=(*lead, stop - start), step=(1,) * x.type.ndim)


def take_rows(x: Node, order: Node) -> Node:
    """x[..., order, :] for each matrix."""
    index = broadcast(order, x.type.shape, tuple(range(x.type.ndim - 1)))
    return take_along_axis(x, index, x.type.ndim - 2, mode="clip")


def safe_reciprocal(x: Node) -> Node:
    """1 / x, and 0 where x is 0; without a NaN in any derivative."""
    zero = eq(x, zeros(x.type))
    return select(zero, zeros(x.type), div(like(x, 1), select(zero, like(x, 1), x)))


def _symmetric(x: Node) -> Node:
    return mul(add(x, swap_last(x)), like(x, 0.5))


def _batch(op: Callable[[], Op]) -> Callable[..., Any]:
    """The batching rule of a factorisation: the batch is one more leading axis."""

    def batch(size: int, flags: Sequence[bool], x: Node, **attrs: Any) -> Any:
        return items(op()(x, **attrs))

    return batch


# ------------------------------------------------------------------------------------------------ lu


def _lu_type(x: TensorType) -> Type:
    check_square("lu", x)
    return TupleType((x, TensorType(i64, x.shape[:-1]), TensorType(x.dtype, x.shape[:-2])))


def _lu_eval(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, count = x.shape[-1], int(np.prod(x.shape[:-2]))
    a = np.array(x).reshape(count, n, n)
    order = np.tile(np.arange(n), (count, 1))
    sign = np.ones(count, x.dtype)
    each = np.arange(count)
    with np.errstate(all="ignore"):
        for k in range(n - 1):
            size = np.abs(a[:, k:, k])
            pivot = k + np.argmax(np.where(np.isnan(size), -1, size), axis=1)
            for array in (a, order):
                array[each, k], array[each, pivot] = array[each, pivot], array[each, k]
            sign[pivot != k] *= -1
            head = a[:, k, k]
            a[:, k + 1 :, k] /= np.where(head == 0, 1, head)[:, None]
            a[:, k + 1 :, k + 1 :] -= a[:, k + 1 :, k, None] * a[:, k, None, k + 1 :]
    return a.reshape(x.shape), order.reshape(x.shape[:-1]), np.asarray(sign.reshape(x.shape[:-2]))


def _lu_vjp(ct: Sequence[Part], out: Node, x: Node) -> tuple[Part]:
    """Pᵀ L⁻ᵀ (tril(Lᵀ C, strictly) + triu(C Uᵀ)) U⁻ᵀ, C being L̄ below the diagonal and Ū elsewhere."""
    if ct[0] is None:
        return (None,)
    factors, order = item(out, index=0), item(out, index=1)
    lower, upper = _halves(factors)
    inner = add(
        triangle(product(swap_last(lower), ct[0]), strict=True),
        triangle(product(ct[0], swap_last(upper)), lower=False),
    )
    left = _solve_lower(factors, inner, transpose=True)
    found = triangular_solve(factors, left, lower=False, transpose=True, unit_diagonal=False, left_side=False)
    return (take_rows(found, argsort(order, axis=order.type.ndim - 1)),)


def _lu_jvp(tangents: Sequence[Part], out: Node, x: Node) -> tuple[Part, None, None]:
    """L tril(M, strictly) + triu(M) U with M = L⁻¹ P t U⁻¹"""
    (tangent,) = tangents
    if tangent is None:
        return None, None, None
    factors, order = item(out, index=0), item(out, index=1)
    lower, upper = _halves(factors)
    left = _solve_lower(factors, take_rows(tangent, order), transpose=False)
    inner = triangular_solve(factors, left, lower=False, transpose=False, unit_diagonal=False, left_side=False)
    return add(product(lower, triangle(inner, strict=True)), product(triangle(inner, lower=False), upper)), None, None


def _halves(factors: Node) -> tuple[Node, Node]:
    """L with its ones, and U."""
    return add(triangle(factors, strict=True), identity(factors.type)), triangle(factors, lower=False)


def _solve_lower(factors: Node, b: Node, transpose: bool) -> Node:
    return triangular_solve(factors, b, lower=True, transpose=transpose, unit_diagonal=True, left_side=True)


#: ``lu(x)``: (factors, order, sign) of x[order] = L U with partial pivoting. ``factors`` has U and, below its diagonal, L,
#: whose diagonal is 1; ``order`` is i64; ``sign`` is 1 or -1, the determinant of the permutation. A matrix without an
#: inverse has a 0 on the diagonal of U.
lu: Op = define(Op("lu", "linalg", infer=_lu_type, eval=_lu_eval, vjp=_lu_vjp, jvp=_lu_jvp, batch=_batch(lambda: lu)))

# ------------------------------------------------------------------------------------------------ qr


def _qr_type(x: TensorType, full: bool) -> Type:
    _check_matrices("qr", x)
    *lead, m, n = x.shape
    k = m if full else min(m, n)
    return TupleType((TensorType(x.dtype, (*lead, m, k)), TensorType(x.dtype, (*lead, k, n))))


def _qr_eval(x: np.ndarray, full: bool) -> tuple[np.ndarray, np.ndarray]:
    q, r = np.linalg.qr(x, mode="complete" if full else "reduced")
    return q, r


def _check_qr(x: Node, full: bool) -> None:
    m, n = x.type.shape[-2:]
    if full and m > n:
        raise GraphError(
            f"qr of {x.type} with mode='complete' has no derivative: the columns of q beyond {n} are not determined by the "
            "matrix; use mode='reduced'"
        )


def _qr_vjp(ct: Sequence[Part], out: Node, x: Node, full: bool) -> tuple[Part]:
    """(Q̄ + Q sym(tril(M))) R⁻ᵀ with M = R R̄ᵀ - Q̄ᵀ Q; of wide matrices the columns beyond the square follow Qᵀ x."""
    _check_qr(x, full)
    m, n = x.type.shape[-2:]
    q, r = items(out)
    ct_q, ct_r = ct
    rest = None
    if n > m and ct_r is not None:
        beyond = columns(ct_r, m, n)
        rest = product(q, beyond)
        more = product(columns(x, m, n), swap_last(beyond))
        ct_q = more if ct_q is None else add(ct_q, more)
        ct_r = columns(ct_r, 0, m)
    elif n > m:
        rest = zeros(columns(x, m, n).type)
    r = columns(r, 0, min(m, n))
    terms = [] if ct_r is None else [product(r, swap_last(ct_r))]
    if ct_q is not None:
        terms.append(neg(product(swap_last(ct_q), q)))
    inner = add_all(terms)
    if inner is None:
        return (None,)
    low = triangle(inner, strict=True)
    mirrored = add(triangle(inner), swap_last(low))
    right = product(q, mirrored) if ct_q is None else add(ct_q, product(q, mirrored))
    found = triangular_solve(r, right, lower=False, transpose=True, unit_diagonal=False, left_side=False)
    return (found if rest is None else concatenate(found, rest, axis=x.type.ndim - 1),)


def _qr_jvp(tangents: Sequence[Part], out: Node, x: Node, full: bool) -> tuple[Part, Part]:
    (tangent,) = tangents
    if tangent is None:
        return None, None
    _check_qr(x, full)
    m, n = x.type.shape[-2:]
    q, r = items(out)
    k = min(m, n)
    first, r = columns(tangent, 0, k), columns(r, 0, k)
    scaled = triangular_solve(r, first, lower=False, transpose=False, unit_diagonal=False, left_side=False)
    inner = product(swap_last(q), scaled)
    low = triangle(inner, strict=True)
    turn = sub(low, swap_last(low))
    t_q = add(product(q, sub(turn, inner)), scaled)
    t_r = product(sub(inner, turn), r)
    if n > m:
        more = add(
            product(swap_last(t_q), columns(x, m, n)),
            product(swap_last(q), columns(tangent, m, n)),
        )
        t_r = concatenate(t_r, more, axis=x.type.ndim - 1)
    return t_q, t_r


#: ``qr(x, full=)``: (q, r), q with min(m, n) orthonormal columns, m of them where ``full``. Derivatives need the first
#: min(m, n) columns of x to be linearly independent.
qr: Op = define(Op("qr", "linalg", infer=_qr_type, eval=_qr_eval, vjp=_qr_vjp, jvp=_qr_jvp, batch=_batch(lambda: qr)))

# ------------------------------------------------------------------------------------------------ eigh


def _eigh_type(x: TensorType, lower: bool) -> Type:
    check_square("eigh", x)
    return TupleType((TensorType(x.dtype, x.shape[:-1]), x))


def _eigh_eval(x: np.ndarray, lower: bool) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(x, UPLO="L" if lower else "U")
    return values, vectors


def _gaps(values: Node, type: TensorType) -> Node:
    """1 / (w[j] - w[i]) in row i and column j; 0 where they are equal."""
    return safe_reciprocal(sub(along_columns(values, type), along_rows(values, type)))


def _eigh_vjp(ct: Sequence[Part], out: Node, x: Node, lower: bool) -> tuple[Part]:
    """V (diag(w̄) + F∘(Vᵀ V̄)) Vᵀ, of which the symmetric part"""
    values, vectors = items(out)
    ct_values, ct_vectors = ct
    terms = [] if ct_values is None else [product(columns_times(vectors, ct_values), swap_last(vectors))]
    if ct_vectors is not None:
        inner = mul(_gaps(values, x.type), product(swap_last(vectors), ct_vectors))
        terms.append(_symmetric(product(product(vectors, inner), swap_last(vectors))))
    return (add_all(terms),)


def _eigh_jvp(tangents: Sequence[Part], out: Node, x: Node, lower: bool) -> tuple[Part, Part]:
    (tangent,) = tangents
    if tangent is None:
        return None, None
    values, vectors = items(out)
    inner = product(product(swap_last(vectors), _symmetric(tangent)), vectors)
    return diagonal(inner), product(vectors, mul(_gaps(values, x.type), inner))


#: ``eigh(x, lower=)``: (values, vectors) of symmetric matrices, values ascending. Reads one triangle alone, as NumPy
#: does, but derivatives are those of eigh((x + xᵀ)/2), so cotangents are symmetric.
eigh: Op = define(
    Op("eigh", "linalg", infer=_eigh_type, eval=_eigh_eval, vjp=_eigh_vjp, jvp=_eigh_jvp, batch=_batch(lambda: eigh))
)


def _eigvalsh_type(x: TensorType, lower: bool) -> Type:
    check_square("eigvalsh", x)
    return TensorType(x.dtype, x.shape[:-1])


def _eigvalsh_vjp(ct: Node, out: Node, x: Node, lower: bool) -> tuple[Node]:
    vectors = item(eigh(x, lower=lower), index=1)
    return (product(columns_times(vectors, ct), swap_last(vectors)),)


def _eigvalsh_jvp(tangents: Sequence[Part], out: Node, x: Node, lower: bool) -> Part:
    return None if tangents[0] is None else _eigh_jvp(tangents, eigh(x, lower=lower), x, lower)[0]


#: ``eigvalsh(x, lower=)``: the values of eigh alone. Derivatives compute the vectors.
eigvalsh: Op = define(
    Op(
        "eigvalsh",
        "linalg",
        infer=_eigvalsh_type,
        eval=lambda x, lower: np.linalg.eigvalsh(x, UPLO="L" if lower else "U"),
        vjp=_eigvalsh_vjp,
        jvp=_eigvalsh_jvp,
        batch=lambda size, flags, x, lower: eigvalsh(x, lower=lower),
    )
)

# ------------------------------------------------------------------------------------------------ svd


def _svd_type(x: TensorType, full: bool) -> Type:
    _check_matrices("svd", x)
    *lead, m, n = x.shape
    k = min(m, n)
    u, vh = ((m, m), (n, n)) if full else ((m, k), (k, n))
    return TupleType(tuple(TensorType(x.dtype, (*lead, *shape)) for shape in (u, (k,), vh)))


def _svd_eval(x: np.ndarray, full: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    u, s, vh = np.linalg.svd(x, full_matrices=full)
    return u, s, vh


def _check_svd(x: Node, full: bool) -> None:
    m, n = x.type.shape[-2:]
    if full and m != n:
        raise GraphError(
            f"svd of {x.type} with full_matrices=True has no derivative: the vectors beyond {min(m, n)} are not determined "
            "by the matrix; use full_matrices=False"
        )


def _square_gaps(s: Node, type: TensorType) -> Node:
    """1 / (s[j]² - s[i]²) in row i and column j; 0 where they are equal."""
    row, column = along_rows(s, type), along_columns(s, type)
    return safe_reciprocal(mul(add(column, row), sub(column, row)))


def _svd_vjp(ct: Sequence[Part], out: Node, x: Node, full: bool) -> tuple[Part]:
    ct_u, ct_s, ct_vh = ct
    m, n = x.type.shape[-2:]
    _check_svd(x, full)
    u, s, vh = items(out)
    square = TensorType(x.type.dtype, (*s.type.shape, s.type.shape[-1]))
    terms = [] if ct_s is None else [diagonal_matrix(ct_s)]
    beyond = []
    if ct_u is not None:
        inner = mul(_square_gaps(s, square), _skew(product(swap_last(u), ct_u)))
        terms.append(columns_times(inner, s))
        if m > s.type.shape[-1]:
            outside = sub(ct_u, product(u, product(swap_last(u), ct_u)))
            beyond.append(product(columns_times(outside, safe_reciprocal(s)), vh))
    if ct_vh is not None:
        inner = mul(_square_gaps(s, square), _skew(product(vh, swap_last(ct_vh))))
        terms.append(rows_times(inner, s))
        if n > s.type.shape[-1]:
            outside = sub(ct_vh, product(product(ct_vh, swap_last(vh)), vh))
            beyond.append(product(u, rows_times(outside, safe_reciprocal(s))))
    total = add_all(terms)
    return (None if total is None else add_all([product(product(u, total), vh), *beyond]),)


def _skew(x: Node) -> Node:
    return sub(x, swap_last(x))


def _svd_jvp(tangents: Sequence[Part], out: Node, x: Node, full: bool) -> tuple[Part, Part, Part]:
    (tangent,) = tangents
    if tangent is None:
        return None, None, None
    m, n = x.type.shape[-2:]
    _check_svd(x, full)
    u, s, vh = items(out)
    inner = product(product(swap_last(u), tangent), swap_last(vh))
    t_s = diagonal(inner)
    gaps = _square_gaps(s, inner.type)
    right, left = columns_times(inner, s), rows_times(inner, s)
    t_u = product(u, mul(gaps, add(right, swap_last(right))))
    t_v = product(swap_last(vh), mul(gaps, add(left, swap_last(left))))
    if m > n:
        image = product(tangent, swap_last(vh))
        outside = sub(image, product(u, product(swap_last(u), image)))
        t_u = add(t_u, columns_times(outside, safe_reciprocal(s)))
    if n > m:
        image = product(swap_last(tangent), u)
        outside = sub(image, product(swap_last(vh), product(vh, image)))
        t_v = add(t_v, columns_times(outside, safe_reciprocal(s)))
    return t_u, t_s, swap_last(t_v)


#: ``svd(x, full=)``: (u, s, vh) with x = u diag(s) vh, s descending. ``full``: u and vh are square; then the vectors beyond
#: the first min(m, n) have no derivative.
svd: Op = define(
    Op("svd", "linalg", infer=_svd_type, eval=_svd_eval, vjp=_svd_vjp, jvp=_svd_jvp, batch=_batch(lambda: svd))
)


def _svdvals_type(x: TensorType) -> Type:
    _check_matrices("svdvals", x)
    return TensorType(x.dtype, (*x.shape[:-2], min(x.shape[-2:])))


def _svdvals_jvp(tangents: Sequence[Part], out: Node, x: Node) -> Part:
    return None if tangents[0] is None else _svd_jvp(tangents, svd(x, full=False), x, False)[1]


#: ``svdvals(x)``: the singular values alone, descending. Derivatives compute the vectors.
svdvals: Op = define(
    Op(
        "svdvals",
        "linalg",
        infer=_svdvals_type,
        eval=lambda x: np.linalg.svd(x, compute_uv=False),
        vjp=lambda ct, out, x: _svd_vjp((None, ct, None), svd(x, full=False), x, False),
        jvp=_svdvals_jvp,
        batch=lambda size, flags, x: svdvals(x),
    )
)

__all__ = [
    "along_columns", "along_rows", "columns", "columns_times", "diagonal", "diagonal_matrix", "eigh", "eigvalsh",
    "identity", "lu", "qr", "rows_times", "safe_reciprocal", "svd", "svdvals", "take_rows",
]  # fmt: skip
