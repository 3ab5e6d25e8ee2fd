"""numpy.linalg: systems, determinants, factorisations, norms, powers, the exponential.

Factors have signs of their own: what is differentiated is made of them so that signs cancel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg

import graphc.numpy as gnp
from cases import case, floats, positive


def square(*shape: int, seed: int = 0) -> np.ndarray:
    """Well-conditioned matrices that are not symmetric."""
    return floats(*shape, shape[-1], seed=seed) + 3 * np.eye(shape[-1])


def symmetric(x: Any) -> Any:
    return (x + np.swapaxes(x, -1, -2)) / 2


def definite(x: Any) -> Any:
    return x @ np.swapaxes(x, -1, -2) + np.asarray(np.eye(x.shape[-1]), x.dtype if x.dtype.kind == "f" else None)


def squares_of(parts: Any) -> tuple[Any, ...]:
    """The entries squared: without signs."""
    return tuple(p * p for p in parts)


def projectors(q: Any) -> Any:
    """q[:, i] q[j, i] for every column i: without the sign of the column."""
    return q[..., :, None, :] * q[..., None, :, :]


SINGULAR = np.array([[1.0, 2.0, 3.0, 1.0], [2.0, 4.0, 6.0, 2.0], [1.0, 0.0, 1.0, 4.0], [3.0, 1.0, 1.0, 0.0]])
la = np.linalg

CASES = [
    # ------------------------------------------------------------------------------------------ systems
    case("np.linalg.solve", lambda a, b: la.solve(a, b), square(3), floats(3), kinds="biuf"),
    case("np.linalg.solve", lambda a, b: la.solve(a, b), square(2, 3), floats(3, 2)),
    case("np.linalg.solve", lambda a, b: la.solve(a, b), square(3), floats(2, 2, 3, 1)),
    case("np.linalg.solve", lambda a, b: la.solve(a, b), np.zeros((0, 0)), floats(0, 2)),
    case("np.linalg.inv", lambda a: la.inv(a), square(3)),
    case("np.linalg.inv", lambda a: la.inv(a), square(2, 2)),
    case("np.linalg.inv", lambda a: la.inv(a.T), square(4)),
    case("np.linalg.inv", lambda a: la.inv(a), np.zeros((2, 0, 0))),
    case("np.linalg.det", lambda a: la.det(a), square(4)),
    case("np.linalg.det", lambda a: la.det(a), square(2, 3)),
    case("np.linalg.det", lambda a: la.det(a), square(2)),
    case("np.linalg.det", lambda a: la.det(a), square(1)),
    case("np.linalg.det", lambda a: la.det(a), np.zeros((2, 0, 0))),
    case("np.linalg.det", lambda a: la.det(a), SINGULAR, kinds="f", batch=False),
    case("np.linalg.det", lambda a: la.det(a), np.zeros((4, 4)), batch=False),
    case("np.linalg.det", lambda a: la.det(a), np.diag([1.0, 1.0, 1.0, 0.0])),
    case("np.linalg.det", lambda a: la.det(a), np.eye(4)),
    case("np.linalg.slogdet", lambda a: la.slogdet(a), square(3)),
    case("np.linalg.slogdet", lambda a: tuple(la.slogdet(-a)), square(2, 3)),
    case("np.linalg.slogdet", lambda a: la.slogdet(a), np.zeros((0, 0))),
    case("np.linalg.slogdet", lambda a: la.slogdet(a), np.zeros((3, 3)), grad=0),
    case("np.linalg.pinv", lambda a: la.pinv(a), floats(4, 3)),
    case("np.linalg.pinv", lambda a: la.pinv(a), floats(2, 2, 3)),
    case("np.linalg.pinv", lambda a: la.pinv(a, rcond=np.array([1e-3, 1e-2])), floats(2, 3, 3), batch=False),
    case("np.linalg.pinv", lambda a: la.pinv(symmetric(a), hermitian=True), square(3)),
    case("np.linalg.pinv", lambda a: la.pinv(a, rtol=1e-2), floats(3, 2) * [1.0, 1.0]),
    case("np.linalg.pinv", lambda a: la.pinv(a), np.zeros((0, 3))),
    case("np.linalg.lstsq", lambda a, b: la.lstsq(a, b), floats(5, 3), floats(5, 2), kinds="f"),
    case("np.linalg.lstsq", lambda a, b: la.lstsq(a, b)[0], floats(5, 3), floats(5)),
    case("np.linalg.lstsq", lambda a, b: la.lstsq(a, b, rcond=-1)[:2], floats(2, 3), floats(2), kinds="f"),
    case("np.linalg.lstsq", lambda a, b: la.lstsq(a, b, rcond=0.1), square(3), floats(3, 1)),
    case("np.linalg.tensorinv", lambda a: la.tensorinv(a), square(6).reshape(2, 3, 2, 3)),
    case("np.linalg.tensorinv", lambda a: la.tensorinv(a, ind=1), square(6).reshape(6, 2, 3)),
    case("np.linalg.tensorsolve", lambda a, b: la.tensorsolve(a, b), square(6).reshape(2, 3, 6), floats(2, 3)),
    case(
        "np.linalg.tensorsolve", lambda a, b: la.tensorsolve(a, b, axes=(0,)),
        square(6).reshape(6, 3, 2).transpose(2, 0, 1), floats(6),
    ),
    # ------------------------------------------------------------------------------------------ factorisations
    case("np.linalg.cholesky", lambda a: la.cholesky(definite(a)), floats(3, 3)),
    case("np.linalg.cholesky", lambda a: la.cholesky(definite(a), upper=True), floats(2, 3, 3)),
    case("np.linalg.cholesky", lambda a: la.cholesky(a), np.zeros((0, 0))),
    case("np.linalg.qr", lambda a: squares_of(la.qr(a)), floats(4, 3)),
    case("np.linalg.qr", lambda a: squares_of(la.qr(a)), floats(2, 2, 4)),
    case("np.linalg.qr", lambda a: squares_of(la.qr(a, "complete")), floats(3, 3)),
    case("np.linalg.qr", lambda a: la.qr(a, mode="complete"), floats(4, 2), grad=0),
    case("np.linalg.qr", lambda a: la.qr(a, mode="r") ** 2, floats(4, 2)),
    case("np.linalg.qr", lambda a: la.qr(a), floats(4, 2), grad=0, kinds="f"),
    case("np.linalg.qr", lambda a: la.qr(a, "complete"), np.zeros((2, 0)), grad=0),
    case("np.linalg.qr", lambda a: la.qr(a), np.zeros((0, 2))),
    case("np.linalg.eigh", lambda a: la.eigh(symmetric(a))[0], floats(3, 3)),
    case("np.linalg.eigh", lambda a: projectors(la.eigh(symmetric(a)).eigenvectors) ** 4, floats(2, 3, 3), kinds="f"),
    case("np.linalg.eigh", lambda a: la.eigh(a, UPLO="U")[0], floats(4, 4), grad=0),
    case("np.linalg.eigh", lambda a: la.eigh(a)[0], np.zeros((0, 0))),
    case("np.linalg.eigvalsh", lambda a: la.eigvalsh(symmetric(a)), floats(2, 3, 3)),
    case("np.linalg.eigvalsh", lambda a: la.eigvalsh(a, "u"), floats(3, 3), grad=0),
    case("np.linalg.eigvalsh", lambda a: la.eigvalsh(symmetric(a)), np.eye(3), grad=0),
    case("np.linalg.svd", lambda a: la.svd(a, compute_uv=False), floats(4, 3)),
    case("np.linalg.svd", lambda a: (lambda u, s, v: (projectors(u), s))(*la.svd(a, False)), floats(4, 3), kinds="f"),
    case(
        "np.linalg.svd", lambda a: projectors(np.swapaxes(la.svd(a, False).Vh, -1, -2)), floats(2, 2, 3), kinds="f"
    ),
    case("np.linalg.svd", lambda a: (lambda u, s, v: (u * s) @ v)(*la.svd(a)), floats(3, 3)),
    case("np.linalg.svd", lambda a: tuple(np.abs(p) for p in la.svd(a)), floats(4, 2), grad=0, kinds="f"),
    case("np.linalg.svd", lambda a: la.svd(a), np.zeros((0, 3)), grad=0),
    case("np.linalg.svd", lambda a: la.svd(symmetric(a), compute_uv=False, hermitian=True), floats(3, 3)),
    case("np.linalg.svd", lambda a: (lambda u, s, v: (u * s) @ v)(*la.svd(symmetric(a), hermitian=True)), floats(3, 3)),
    case("np.linalg.svdvals", lambda a: la.svdvals(a), floats(2, 3, 4)),
    case("np.linalg.matrix_rank", lambda a: la.matrix_rank(a), SINGULAR, grad=0, kinds="f"),
    case("np.linalg.matrix_rank", lambda a: la.matrix_rank(a, tol=1.5), floats(2, 3, 4), grad=0),
    case("np.linalg.matrix_rank", lambda a: la.matrix_rank(a, rtol=0.5), floats(2, 3, 4), grad=0),
    case("np.linalg.matrix_rank", lambda a: la.matrix_rank(symmetric(a), hermitian=True), floats(3, 3), grad=0),
    case("np.linalg.matrix_rank", lambda a: la.matrix_rank(a), floats(3), grad=0),
    # ------------------------------------------------------------------------------------------ norms
    case("np.linalg.norm", lambda x: la.norm(x), floats(3, 4)),
    case("np.linalg.norm", lambda x: la.norm(x, axis=-1, keepdims=True), floats(2, 3, 4)),
    case("np.linalg.norm", lambda x: tuple(la.norm(x, p) for p in (1, 2, 3, 0.5, 0, np.inf, -np.inf)), positive(5)),
    case("np.linalg.norm", lambda x: tuple(la.norm(x, p, axis=1) for p in (-1, -2, 1.5)), positive(3, 4)),
    case("np.linalg.norm", lambda x: tuple(la.norm(x, p) for p in ("fro", 1, -1, np.inf, -np.inf)), floats(3, 4)),
    case("np.linalg.norm", lambda x: tuple(la.norm(x, p) for p in ("nuc", 2, -2)), floats(3, 4)),
    case("np.linalg.norm", lambda x: la.norm(x, "nuc", axis=(2, 0), keepdims=True), floats(3, 2, 4)),
    case("np.linalg.norm", lambda x: la.norm(x, 1, axis=(2, 0), keepdims=True), floats(3, 2, 4)),
    case("np.linalg.norm", lambda x: la.norm(x, np.inf, axis=(2, 0)), floats(3, 2, 4)),
    case("np.linalg.norm", lambda x: la.norm(x), np.array(-2.5)),
    case("np.linalg.norm", lambda x: la.norm(x), floats(0)),
    case("np.linalg.vector_norm", lambda x: la.vector_norm(x, axis=(0, 2), ord=3, keepdims=True), floats(3, 2, 4)),
    case("np.linalg.vector_norm", lambda x: la.vector_norm(x, axis=0), floats(3, 2)),
    case("np.linalg.vector_norm", lambda x: la.vector_norm(x, ord=np.inf), floats(3, 2)),
    case("np.linalg.matrix_norm", lambda x: la.matrix_norm(x), floats(2, 3, 4)),
    case("np.linalg.matrix_norm", lambda x: la.matrix_norm(x, ord="nuc", keepdims=True), floats(2, 3, 4)),
    case("np.linalg.cond", lambda a: la.cond(a), floats(3, 4), rtol=1e-11),
    case("np.linalg.cond", lambda a: tuple(la.cond(a, p) for p in (-2, 1, -1, "fro", np.inf, "nuc")), square(3), rtol=1e-11),
    case("np.linalg.cond", lambda a: (la.cond(a, 1), la.cond(a)), np.zeros((2, 2)), grad=0),
    # ------------------------------------------------------------------------------------------ products
    case("np.linalg.matrix_power", lambda a: la.matrix_power(a, 5), square(2, 2)),
    case("np.linalg.matrix_power", lambda a: la.matrix_power(a, -2), square(3)),
    case("np.linalg.matrix_power", lambda a: (la.matrix_power(a, 0), la.matrix_power(a, 1)), square(2, 3)),
    case("np.linalg.multi_dot", lambda a, b, c: la.multi_dot([a, b, c]), floats(2, 5), floats(5, 3), floats(3, 4)),
    case(
        "np.linalg.multi_dot", lambda a, b, c, d: la.multi_dot([a, b, c, d]),
        floats(5), floats(5, 3), floats(3, 4), floats(4),
    ),
    case("np.linalg.multi_dot", lambda a, b: la.multi_dot([a, b]), floats(2, 3), floats(3)),
    case("np.linalg.trace", lambda a: la.trace(a, offset=1), floats(2, 3, 4)),
    case("np.linalg.diagonal", lambda a: la.diagonal(a, offset=-1), floats(2, 3, 4)),
    case("np.linalg.outer", lambda a, b: la.outer(a, b), floats(2), floats(3)),
    case("np.linalg.tensordot", lambda a, b: la.tensordot(a, b, axes=1), floats(2, 3), floats(3, 2)),
    case("np.linalg.matmul", lambda a, b: la.matmul(a, b), floats(2, 3), floats(2, 3, 2)),
    case("np.linalg.vecdot", lambda a, b: la.vecdot(a, b, axis=0), floats(3, 2), floats(3, 1)),
    case("np.linalg.vecdot", lambda a, b: la.vecdot(a, b), floats(3), floats(3)),
    case("np.linalg.matrix_transpose", lambda a: la.matrix_transpose(a), floats(2, 3, 4), exact=True),
    # ------------------------------------------------------------------------------------------ expm
    *[
        case(
            "graphc.numpy.linalg.expm", lambda a, size=size: gnp.linalg.expm(a * size), square(*shape),
            expect=lambda a, size=size: scipy.linalg.expm(a * np.asarray(size, a.dtype)), kinds="f", rtol=1e-11,
        )
        for size, shape in ((0.01, (3,)), (1.0, (2, 3)), (-6.0, (2,)))
    ],
    case("graphc.numpy.linalg.expm", lambda a: gnp.linalg.expm(a), np.zeros((3, 3)), expect=scipy.linalg.expm, kinds="f"),
]  # fmt: skip
