"""numpy.linalg on traced arrays: systems, determinants, factorisations, powers, the exponential.

Matrices are the last two axes, axes before them a batch. f32 stays f32, integers become f64, as in NumPy. Eigenvectors and
singular vectors of repeated values have no derivative; what would divide by the difference of equal values counts as 0.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.linalg import LinAlgError

from graphc import ops
from graphc.control import cond as either
from graphc.control import scan
from graphc.ir import Node
from graphc.leaks import UnsupportedError
from graphc.numpy.tables import NO_VALUE, stored, strong, traces
from graphc.ops.linalg import swap_last
from graphc.ops.systems import one_matrix
from graphc.tracing import Tracer, is_tracer, note_widening, to_node, to_tracer, wrap
from graphc.types import DType, TensorType, f32, f64

npx: Any = np  # NumPy's functions as traced arrays see them: their annotations know ndarray alone

EighResult: Any = type(np.linalg.eigh(np.eye(1)))
QRResult: Any = type(np.linalg.qr(np.eye(1)))
SlogdetResult: Any = type(np.linalg.slogdet(np.eye(1)))
SVDResult: Any = type(np.linalg.svd(np.eye(1)))


# ------------------------------------------------------------------------------------------------ operands


def element_of_all(name: str, tracers: Sequence[Tracer]) -> DType:
    """The element type that LAPACK computes in: f32 if all are, else f64."""
    for x in tracers:
        element = x._node.type.dtype
        if element.kind == "c":
            raise UnsupportedError(
                f"np.linalg.{name} of complex matrices is not traced; write a + ib as the real matrix "
                "np.block([[a, -b], [b, a]])"
            )
        if element.is_float and element.itemsize < 4:
            raise TypeError(
                f"array type {element.numpy.name} is unsupported in linalg; convert it with .astype(np.float32)"
            )
    return f32 if all(x._node.type.dtype is f32 for x in tracers) else f64


def matrices(name: str, *values: Any) -> tuple[Node, ...]:
    """Operands as stacks of matrices in their common element type."""
    tracers = [strong(v) for v in values]
    for x in tracers:
        if x.ndim < 2:
            raise LinAlgError(f"{x.ndim}-dimensional array given. Array must be at least two-dimensional")
    element = element_of_all(name, tracers)
    note_widening(element, [x for x in tracers if x._node.type.dtype.is_float])
    return tuple(to_node(x, element) for x in tracers)


def square(name: str, value: Any) -> Node:
    (a,) = matrices(name, value)
    check_square(a)
    return a


def check_square(a: Node) -> None:
    if a.type.shape[-1] != a.type.shape[-2]:
        raise LinAlgError("Last 2 dimensions of the array must be square")


def mirrored(a: Any) -> Tracer:
    """The symmetric matrices of whose lower triangle a holds; their derivatives are those of the symmetric part."""
    x = to_tracer(a)
    lower = npx.tril(x)
    whole = lower + matrix_transpose(npx.tril(x, -1))
    part = (x + matrix_transpose(x)) * 0.5
    return part + wrap(ops.stop_gradient(to_node(whole - part)))


def eps_of(x: Tracer) -> float:
    return float(np.finfo(x.dtype).eps)


def is_empty(x: Tracer) -> bool:
    return x.size == 0 and math.prod(x.shape[-2:]) == 0


# ------------------------------------------------------------------------------------------------ systems


@traces(np.linalg.solve)
def solve(a: Any, b: Any) -> Tracer:
    x, y = strong(a), strong(b)
    vector = y.ndim == 1
    if y.ndim == 0:
        raise ValueError("solve: Input operand 1 does not have enough dimensions (has 0, it needs 1)")
    left, right = matrices("solve", x, y[:, None] if vector else y)
    check_square(left)
    if left.type.shape[-1] != right.type.shape[-2]:
        raise ValueError(
            f"solve: Input operand 1 has a mismatch in its core dimension 0 (size {right.type.shape[-2]} is different from "
            f"{left.type.shape[-1]})"
        )
    found = wrap(solved(left, right))
    return found[..., 0] if vector else found


def solved(a: Node, b: Node) -> Node:
    """Both with their own batch axes, which broadcast together. One matrix is factored once."""
    if a.type.ndim == 2 and b.type.ndim > 2:
        lead = b.type.shape[:-2]
        flat = ops.reshape_to(b, (math.prod(lead), *b.type.shape[-2:]))
        found = one_matrix(lambda wide: ops.solve(a, wide, transpose=False, check=True), flat)
        return ops.reshape_to(found, b.type.shape)
    lead = np.broadcast_shapes(a.type.shape[:-2], b.type.shape[:-2])
    a = ops.broadcast_numpy(a, (*lead, *a.type.shape[-2:]))
    b = ops.broadcast_numpy(b, (*lead, *b.type.shape[-2:]))
    return ops.solve(a, b, transpose=False, check=True)


@traces(np.linalg.inv)
def inv(a: Any) -> Tracer:
    return wrap(ops.inverse(square("inv", a), check=True))


@traces(np.linalg.det)
def det(a: Any) -> Tracer:
    return wrap(ops.det(square("det", a)))


@traces(np.linalg.slogdet)
def slogdet(a: Any) -> Any:
    return SlogdetResult(*map(wrap, ops.items(ops.slogdet(square("slogdet", a)))))


@traces(np.linalg.pinv)
def pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = NO_VALUE) -> Tracer:
    if rcond is not None and rtol is not NO_VALUE:
        raise ValueError("`rtol` and `rcond` can't be both set.")
    x = strong(a)
    if x.ndim > 1 and is_empty(x):
        return wrap(ops.zeros(swap_last(x._node).type))
    (node,) = matrices("pinv", x)
    if rcond is None:
        widest = max(node.type.shape[-2:]) * float(np.finfo(node.type.dtype.numpy).eps)
        rcond = 1e-15 if rtol is NO_VALUE else widest if rtol is None else rtol
    if hermitian:
        check_square(node)
        node = to_node(mirrored(wrap(node)))
    cutoff = ops.stop_gradient(to_node(strong(rcond), node.type.dtype))
    return wrap(ops.pinv(node, ops.broadcast_numpy(cutoff, node.type.shape[:-2])))


@traces(np.linalg.lstsq)
def lstsq(a: Any, b: Any, rcond: Any = None) -> tuple[Tracer, Tracer, Tracer, Tracer]:
    """NumPy's results. Its residuals have a shape that depends on the rank; here it is that of full rank.

    So there are as many residuals as right-hand sides where a has more rows than columns, else none.
    """
    x, y = strong(a), strong(b)
    if x.ndim != 2:
        raise LinAlgError(f"{x.ndim}-dimensional array given. Array must be two-dimensional")
    vector = y.ndim == 1
    y = y[:, None] if vector else y
    if y.ndim != 2:
        raise LinAlgError(f"{y.ndim}-dimensional array given. Array must be two-dimensional")
    m, n = x.shape
    if m != y.shape[0]:
        raise LinAlgError("Incompatible dimensions")
    left, right = map(wrap, matrices("lstsq", x, y))
    eps = eps_of(left)
    limit = eps * max(m, n) if rcond is None else rcond
    limit = eps if not is_tracer(limit) and limit < 0 else limit
    s = wrap(ops.items(ops.svd(to_node(left), full=False))[1])  # the decomposition that pinv makes, too
    found = pinv(left, limit) @ right
    rank = (s > s[:1] * limit).sum().astype(np.int32)
    errors = right - left @ found
    residuals = (errors * errors).sum(axis=0) if m > n else wrap(ops.zeros(TensorType(left._node.type.dtype, (0,))))
    return found[:, 0] if vector else found, residuals, rank, s


@traces(np.linalg.tensorinv)
def tensorinv(a: Any, ind: int = 2) -> Tracer:
    x = strong(a)
    if ind <= 0:
        raise ValueError("Invalid ind argument.")
    shape = x.shape[ind:] + x.shape[:ind]
    return inv(x.reshape(math.prod(x.shape[ind:]), -1)).reshape(shape)


@traces(np.linalg.tensorsolve)
def tensorsolve(a: Any, b: Any, axes: Any = None) -> Tracer:
    x, y = strong(a), strong(b)
    if axes is not None:
        order = [k for k in range(x.ndim) if k not in axes]
        x = x.transpose([*order, *axes])
    shape = x.shape[y.ndim - x.ndim :] if x.ndim > y.ndim else ()
    rows = math.prod(x.shape[: y.ndim])
    if x.size != rows * rows:
        raise LinAlgError("Input arrays must satisfy the requirement prod(a.shape[b.ndim:]) == prod(a.shape[:b.ndim])")
    return solve(x.reshape(rows, rows), y.reshape(-1)).reshape(shape)


# ------------------------------------------------------------------------------------------------ factorisations


@traces(np.linalg.cholesky)
def cholesky(a: Any, /, *, upper: bool = False) -> Tracer:
    node = square("cholesky", a)
    if upper:
        return matrix_transpose(wrap(ops.cholesky(swap_last(node))))
    return wrap(ops.cholesky(node))


@traces(np.linalg.qr)
def qr(a: Any, mode: str = "reduced") -> Any:
    if mode not in ("reduced", "complete", "r"):
        if mode == "raw":
            raise UnsupportedError(
                "np.linalg.qr(mode='raw') is not traced: it gives LAPACK's reflectors; use mode='reduced' or 'complete'"
            )
        raise ValueError(f"Unrecognized mode '{mode}'")
    (node,) = matrices("qr", a)
    *lead, m, n = node.type.shape
    if mode == "complete" and n == 0:
        eye = ops.identity(TensorType(node.type.dtype, (*lead, m, m)))
        return QRResult(wrap(eye), wrap(node))
    q, r = map(wrap, ops.items(ops.qr(node, full=mode == "complete")))
    return r if mode == "r" else QRResult(q, r)


def lower_of(uplo: str) -> bool:
    if uplo.upper() not in ("L", "U"):
        raise ValueError("UPLO argument must be 'L' or 'U'")
    return uplo.upper() == "L"


@traces(np.linalg.eigh)
def eigh(a: Any, UPLO: str = "L") -> Any:
    return EighResult(*map(wrap, ops.items(ops.eigh(square("eigh", a), lower=lower_of(UPLO)))))


@traces(np.linalg.eigvalsh)
def eigvalsh(a: Any, UPLO: str = "L") -> Tracer:
    return wrap(ops.eigvalsh(square("eigvalsh", a), lower=lower_of(UPLO)))


@traces(np.linalg.svd)
def svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    if hermitian:
        return hermitian_svd(a, compute_uv)
    (node,) = matrices("svd", a)
    dtype, (*lead, m, n) = node.type.dtype, node.type.shape
    if not compute_uv:
        return wrap(ops.svdvals(node))
    if full_matrices and min(m, n) == 0:
        u, vh = (ops.identity(TensorType(dtype, (*lead, k, k))) for k in (m, n))
        return SVDResult(wrap(u), wrap(ops.zeros(TensorType(dtype, (*lead, 0)))), wrap(vh))
    u, values, vh = ops.items(ops.svd(node, full=False))
    if full_matrices and m != n:  # the values have derivatives, the vectors beyond them have none
        u, _, vh = ops.items(ops.svd(node, full=True))
    return SVDResult(*map(wrap, (u, values, vh)))


def hermitian_svd(a: Any, compute_uv: bool) -> Any:
    if not compute_uv:
        return npx.flip(npx.sort(npx.abs(eigvalsh(a))), -1)
    values, vectors = eigh(a)
    order = npx.flip(npx.argsort(npx.abs(values)), -1)
    signs = npx.take_along_axis(npx.sign(values), order, -1)
    values = npx.take_along_axis(npx.abs(values), order, -1)
    places = npx.broadcast_to(order[..., None, :], vectors.shape)
    vectors = npx.take_along_axis(vectors, places, -1)
    return SVDResult(vectors, values, matrix_transpose(vectors * signs[..., None, :]))


@traces(np.linalg.svdvals)
def svdvals(x: Any, /) -> Tracer:
    return svd(x, compute_uv=False)


@traces(np.linalg.matrix_rank)
def matrix_rank(A: Any, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Tracer:
    x = strong(A)
    if rtol is not None and tol is not None:
        raise ValueError("`tol` and `rtol` can't be both set.")
    if x.ndim < 2:
        return (x != 0).any().astype(np.int64)
    s = svd(x, compute_uv=False, hermitian=hermitian)
    if s.shape[-1] == 0:
        return (s != 0).sum(axis=-1)
    if tol is None:
        scale = max(x.shape[-2:]) * eps_of(s) if rtol is None else strong(rtol)[..., None]
        tol = s.max(axis=-1, keepdims=True) * scale
    else:
        tol = strong(tol)[..., None]
    return (s > tol).sum(axis=-1)


# ------------------------------------------------------------------------------------------------ products


@traces(np.linalg.matrix_power)
def matrix_power(a: Any, n: Any) -> Tracer:
    x = strong(a)
    if x.ndim < 2:
        raise LinAlgError(f"{x.ndim}-dimensional array given. Array must be at least two-dimensional")
    check_square(x._node)
    try:
        count = operator.index(n)
    except TypeError as error:
        if is_tracer(n):
            raise
        raise TypeError("exponent must be an integer") from error
    if count == 0:
        return wrap(ops.convert(ops.identity(TensorType(f64, x.shape)), x._node.type.dtype))
    if count < 0:
        x, count = inv(x), -count
    result: Tracer | None = None
    while count:
        count, bit = divmod(count, 2)
        if bit:
            result = x if result is None else result @ x
        x = x @ x if count else x
    assert result is not None
    return result


@traces(np.linalg.multi_dot)
def multi_dot(arrays: Sequence[Any], *, out: Any = None) -> Tracer:
    parts = [strong(a) for a in arrays]
    if len(parts) < 2:
        raise ValueError("Expecting at least two arrays.")
    first, last = parts[0].ndim, parts[-1].ndim
    parts[0] = parts[0][None, :] if first == 1 else parts[0]
    parts[-1] = parts[-1][:, None] if last == 1 else parts[-1]
    for x in parts:
        if x.ndim != 2:
            raise LinAlgError(f"{x.ndim}-dimensional array given. Array must be two-dimensional")
    found = chained(parts, chain_order([x.shape[0] for x in parts] + [parts[-1].shape[1]]), 0, len(parts) - 1)
    found = found[0] if first == 1 else found
    return stored(found[..., 0] if last == 1 else found, out)


def chain_order(sizes: Sequence[int]) -> dict[tuple[int, int], int]:
    """Where to cut each chain i..j so that the fewest multiplications remain (Cormen et al., *Algorithms*, 15.2)."""
    n = len(sizes) - 1
    cost = {(i, i): 0 for i in range(n)}
    cut = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            choices = [cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1] for k in range(i, j)]
            cost[i, j] = min(choices)
            cut[i, j] = i + choices.index(cost[i, j])
    return cut


def chained(parts: Sequence[Tracer], cut: dict[tuple[int, int], int], i: int, j: int) -> Tracer:
    if i == j:
        return parts[i]
    return chained(parts, cut, i, cut[i, j]) @ chained(parts, cut, cut[i, j] + 1, j)


@traces(np.linalg.trace)
def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Tracer:
    return npx.trace(strong(x), offset, axis1=-2, axis2=-1, dtype=dtype)


@traces(np.linalg.diagonal)
def diagonal(x: Any, /, *, offset: int = 0) -> Tracer:
    return npx.diagonal(strong(x), offset, axis1=-2, axis2=-1)


@traces(np.linalg.matrix_transpose)
def matrix_transpose(x: Any, /) -> Tracer:
    t = strong(x)
    if t.ndim < 2:
        raise ValueError(f"Input array must be at least 2-dimensional, but it is {t.ndim}")
    return wrap(swap_last(to_node(t)))


@traces(np.linalg.outer)
def outer(x1: Any, x2: Any, /) -> Tracer:
    x, y = strong(x1), strong(x2)
    if x.ndim != 1 or y.ndim != 1:
        raise ValueError(f"Input arrays must be one-dimensional, but they are x1.ndim={x.ndim} and x2.ndim={y.ndim}.")
    return npx.outer(x, y)


@traces(np.linalg.tensordot)
def tensordot(x1: Any, x2: Any, /, *, axes: Any = 2) -> Tracer:
    return npx.tensordot(x1, x2, axes=axes)


@traces(np.linalg.matmul)
def matmul(x1: Any, x2: Any, /) -> Tracer:
    return npx.matmul(x1, x2)


@traces(np.linalg.vecdot)
def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Tracer:
    x, y = strong(x1), strong(x2)
    x, y = npx.moveaxis(x, axis, -1), npx.moveaxis(y, axis, -1)
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"vecdot: the last axes have lengths {x.shape[-1]} and {y.shape[-1]}")
    x = npx.conj(x) if x._node.type.dtype.kind == "c" else x
    return x @ y if x.ndim == y.ndim == 1 else (x[..., None, :] @ y[..., :, None])[..., 0, 0]


# ------------------------------------------------------------------------------------------------ expm

#: Of the [13/13] Padé approximant (Higham 2005, *The scaling and squaring method for the matrix exponential revisited*).
PADE = (
    64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0, 129060195264000.0, 10559470521600.0,
    670442572800.0, 33522128640.0, 1323241920.0, 40840800.0, 960960.0, 16380.0, 182.0, 1.0,
)  # fmt: skip
THETA = 5.371920351148152  # 1-norms up to this one need no scaling
SQUARINGS = 64  # norms up to 1e20


def expm(a: Any) -> Tracer:
    """e to a matrix: [13/13] Padé approximant, scaled by a power of two and squared back as often as the norm asks.

    Derivatives are those of the approximant. The number of squarings is chosen at run time, at most 64.
    """
    x = strong(a)
    half = x._node.type.dtype.is_float and x._node.type.dtype.itemsize < 4
    node = square("expm", x.astype(np.float32) if half else x)
    if node.type.size == 0:
        return wrap(node)
    x = wrap(node)
    norm = wrap(ops.stop_gradient(to_node(npx.abs(x).sum(axis=-2).max(axis=-1))))
    limits = np.asarray([THETA * 2.0**k for k in range(SQUARINGS)], x.dtype)
    needed = norm[..., None] > limits
    scale = npx.where(needed, np.asarray(0.5, x.dtype), np.asarray(1, x.dtype)).prod(axis=-1)
    result = pade(x * scale[..., None, None])

    def step(r: Tracer, more: Tracer) -> tuple[Tracer, None]:
        squared = either(more.any(), lambda r, m: npx.where(m[..., None, None], r @ r, r), lambda r, m: r, r, more)
        return squared, None

    return scan(step, result, npx.moveaxis(needed, -1, 0))[0]


def pade(x: Tracer) -> Tracer:
    """(V - U)⁻¹ (V + U), U the odd part of the numerator and V the even one."""
    eye = wrap(ops.identity(x._node.type))
    b = PADE
    x2 = x @ x
    x4 = x2 @ x2
    x6 = x4 @ x2
    odd = x6 @ (x6 * b[13] + x4 * b[11] + x2 * b[9]) + x6 * b[7] + x4 * b[5] + x2 * b[3] + eye * b[1]
    u = x @ odd
    v = x6 @ (x6 * b[12] + x4 * b[10] + x2 * b[8]) + x6 * b[6] + x4 * b[4] + x2 * b[2] + eye * b[0]
    return wrap(ops.solve(to_node(v - u), to_node(v + u), transpose=False, check=False))
