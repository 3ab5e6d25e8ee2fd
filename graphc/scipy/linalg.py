"""scipy.linalg's functions that numpy.linalg lacks, for traced and plain arrays.

>>> import numpy as np
>>> solve_triangular(np.array([[2.0, 0.0], [1.0, 4.0]]), np.array([2.0, 9.0]), lower=True)
array([1., 2.])
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import ops
from graphc.numpy.linalg import expm
from graphc.scipy.calls import on_arrays
from graphc.tracing import Tracer, operands, promote, to_node, to_tracer, wrap
from graphc.types import f64


def _pair(a: Any, b: Any) -> tuple[Tracer, Tracer]:
    """Two arrays in one float type, not broadcast."""
    first, second = to_tracer(a), to_tracer(b)
    element = promote(first, second)
    element = element if element.is_inexact else f64
    return wrap(to_node(first, element)), wrap(to_node(second, element))


def factored(lower: Any, b: Any, transpose: bool = False) -> Tracer:
    """L⁻¹ b, or L⁻ᵀ b, of the lower triangle of a matrix; b has two axes."""
    return _solved(lower, b, True, transpose, False)


def _solved(a: Any, b: Any, lower: bool, transpose: bool, unit_diagonal: bool) -> Tracer:
    return wrap(
        ops.triangular_solve(
            to_node(a), to_node(b), lower=lower, transpose=transpose, unit_diagonal=unit_diagonal, left_side=True
        )
    )


def _matrix(name: str, a: Tracer, b: Tracer) -> None:
    if a.ndim != 2 or a.shape[0] != a.shape[1]:
        raise ValueError(f"{name}: expected square matrix, not {a.shape}")
    if b.ndim not in (1, 2) or b.shape[0] != a.shape[0]:
        raise ValueError(f"{name}: shapes of a {a.shape} and b {b.shape} are incompatible")


@on_arrays("trans", "lower", "unit_diagonal", "overwrite_b", "check_finite")
def solve_triangular(
    a: Any, b: Any, trans: Any = 0, lower: bool = False, unit_diagonal: bool = False, overwrite_b: bool = False,
    check_finite: bool = True,
) -> Any:  # fmt: skip
    """x with ``a x = b`` of a triangle of ``a``; ``trans`` is 0 or 'N', 1 or 'T'."""
    matrix, right = _pair(a, b)
    _matrix("solve_triangular", matrix, right)
    if trans not in (0, 1, 2, "N", "T", "C"):
        raise ValueError(f"solve_triangular: trans is 0, 1, 2, 'N', 'T' or 'C', not {trans!r}")
    columns = right[:, None] if right.ndim == 1 else right
    x = _solved(matrix, columns, bool(lower), trans not in (0, "N"), bool(unit_diagonal))
    return x[:, 0] if right.ndim == 1 else x


@on_arrays("lower", "overwrite_a", "check_finite")
def _factor(a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    (node,) = operands(to_tracer(a), to=_pair(a, a)[0]._node.type.dtype)
    matrix = wrap(node)
    symmetric: Any = np.tril(matrix) + np.tril(matrix, -1).T if lower else np.triu(matrix) + np.triu(matrix, 1).T
    factor = np.linalg.cholesky(symmetric)
    return factor if lower else factor.T


def cho_factor(a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True) -> tuple[Any, bool]:
    """The Cholesky factor of a positive definite matrix, and whether it is the lower one: for :func:`cho_solve`.

    Of ``a`` the triangle named is read. The other triangle of the factor is zero.
    """
    return _factor(a, lower), bool(lower)


def cho_solve(c_and_lower: Any, b: Any, overwrite_b: bool = False, check_finite: bool = True) -> Any:
    """x with ``a x = b``, given ``cho_factor(a)``."""
    factor, lower = c_and_lower
    return _cho_solve(factor, b, bool(lower))


@on_arrays("lower")
def _cho_solve(factor: Any, b: Any, lower: bool) -> Any:
    matrix, right = _pair(factor, b)
    _matrix("cho_solve", matrix, right)
    columns = right[:, None] if right.ndim == 1 else right
    x = _solved(matrix, _solved(matrix, columns, lower, not lower, False), lower, lower, False)
    return x[:, 0] if right.ndim == 1 else x


def block_diag(*arrays: Any) -> Any:
    """The matrix with ``arrays`` (of at most two axes) along its diagonal and zeros elsewhere."""
    return _block_diag(list(arrays))


@on_arrays()
def _block_diag(blocks: Any) -> Any:
    parts: list[Any] = [np.atleast_2d(to_tracer(b)) for b in blocks] or [to_tracer(np.zeros((1, 0)))]
    for part in parts:
        if part.ndim > 2:
            raise ValueError(f"arguments in the following positions have dimension greater than 2: {part.shape}")
    width, rows, left = sum(p.shape[1] for p in parts), [], 0
    for part in parts:
        rows.append(np.pad(part, ((0, 0), (left, width - left - part.shape[1]))))
        left += part.shape[1]
    return np.concatenate(rows, axis=0)


@on_arrays()
def toeplitz(c: Any, r: Any = None) -> Any:
    """The matrix with constant diagonals: ``c`` its first column, ``r`` its first row (r[0] is not read)."""
    column = to_tracer(c).reshape(-1)
    row = column if r is None else to_tracer(r).reshape(-1)
    values = np.concatenate([column[::-1], row[1:]])
    place = column.shape[0] - 1 + np.arange(row.shape[0])[None, :] - np.arange(column.shape[0])[:, None]
    return values[place]


__all__ = ["block_diag", "cho_factor", "cho_solve", "expm", "factored", "solve_triangular", "toeplitz"]
