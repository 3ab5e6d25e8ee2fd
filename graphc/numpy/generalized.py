"""NumPy's generalized ufuncs: matmul, matvec, vecmat and vecdot, with ``axes=``, ``axis=`` and ``keepdims=``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.ir import ShapeError
from graphc.numpy.contractions import matmul as matmul_of_last_axes
from graphc.numpy.shapes import moveaxis, reshape
from graphc.numpy.tables import one_axis, strong, traces
from graphc.tracers import loop_signature
from graphc.tracing import Tracer, apply_ufunc

#: How many axes of each operand and of the result a product takes: its signature.
_CORE: dict[Any, tuple[int, int, int]] = {
    np.matmul: (2, 2, 2),
    np.matvec: (2, 1, 1),
    np.vecmat: (1, 2, 1),
    np.vecdot: (1, 1, 0),
}


def core_axes(ufunc: Any, axes: Any, ranks: Sequence[int]) -> list[tuple[int, ...]]:
    """``axes=`` as a tuple of axes for each operand and the result."""
    counts = _CORE[ufunc]
    if not isinstance(axes, list):
        raise TypeError("axes should be a list.")
    if len(axes) != 3 and not (len(axes) == 2 and counts[2] == 0):
        raise ValueError(
            f"axes should be a list with an entry for all {3} inputs and outputs; entries for outputs can only be "
            "omitted if none of them has core axes."
        )
    found = []
    for given, count in zip([*axes, ()][:3], counts, strict=True):
        entry = (given,) if isinstance(given, (int, np.integer)) else tuple(given)
        if len(entry) != count:
            raise ValueError(
                f"{ufunc.__name__}: an entry of axes has {len(entry)} axes, the operand has {count} core axes"
            )
        found.append(entry)
    return found


def at_the_end(x: Any, axes: tuple[int, ...]) -> Tracer:
    """``x`` with ``axes`` moved to the end, in their order."""
    t = strong(x)
    return moveaxis(t, [one_axis(k, t.ndim) for k in axes], list(range(-len(axes), 0))) if axes else t


def product(
    ufunc: Any, compute: Callable[[Any, Any], Tracer], x1: Any, x2: Any, axes: Any, dtype: Any, signature: Any
) -> Tracer:
    if signature is not None:
        dtype = next((t for t in loop_signature(ufunc, signature, dtype) if t is not None), None)
    x, y = (strong(v) if dtype is None else strong(v).astype(dtype) for v in (x1, x2))
    if axes is None:
        return compute(x, y)
    first, second, last = core_axes(ufunc, axes, (x.ndim, y.ndim))
    result = compute(at_the_end(x, first), at_the_end(y, second))
    return moveaxis(result, list(range(-len(last), 0)), list(last)) if last else result


def checked(ufunc: Any, x: Tracer, y: Tracer) -> None:
    """Raise ValueError in NumPy's words for operands with too few axes, or inner lengths that differ."""
    for k, (v, count) in enumerate(zip((x, y), _CORE[ufunc][:2], strict=True)):
        if v.ndim < count:
            raise ValueError(
                f"{ufunc.__name__}: Input operand {k} does not have enough dimensions (has {v.ndim}, gufunc core with signature "
                f"{ufunc.signature} requires {count})"
            )
    inner = (x.shape[-1], y.shape[-2 if _CORE[ufunc][1] == 2 else -1])
    if inner[0] != inner[1]:
        raise ValueError(
            f"{ufunc.__name__}: Input operand 1 has a mismatch in its core dimension 0, with gufunc signature {ufunc.signature} "
            f"(size {inner[1]} is different from {inner[0]})"
        )
    try:
        np.broadcast_shapes(x.shape[: x.ndim - _CORE[ufunc][0]], y.shape[: y.ndim - _CORE[ufunc][1]])
    except ValueError:
        raise ShapeError(
            f"{ufunc.__name__}: the leading axes of {x._node.type} and {y._node.type} do not broadcast together"
        ) from None


@traces(np.matmul)
def matmul(x1: Any, x2: Any, *, axes: Any = None, dtype: Any = None, signature: Any = None) -> Tracer:
    if axes is None and signature is None:
        return matmul_of_last_axes(x1, x2, dtype=dtype)
    return product(np.matmul, matmul_of_last_axes, x1, x2, axes, dtype, signature)


@traces(np.matvec)
def matvec(x1: Any, x2: Any, *, axes: Any = None, dtype: Any = None, signature: Any = None) -> Tracer:
    return product(np.matvec, matrix_times_vector, x1, x2, axes, dtype, signature)


def matrix_times_vector(x: Tracer, y: Tracer) -> Tracer:
    checked(np.matvec, x, y)
    if y.ndim == 1:
        return matmul_of_last_axes(x, y)
    found = matmul_of_last_axes(x, reshape(y, (*y.shape, 1)))
    return reshape(found, found.shape[:-1])


@traces(np.vecmat)
def vecmat(x1: Any, x2: Any, *, axes: Any = None, dtype: Any = None, signature: Any = None) -> Tracer:
    return product(np.vecmat, vector_times_matrix, x1, x2, axes, dtype, signature)


def vector_times_matrix(x: Tracer, y: Tracer) -> Tracer:
    """The vector is conjugated, as in NumPy."""
    checked(np.vecmat, x, y)
    row = conjugated(x)
    found = matmul_of_last_axes(reshape(row, (*x.shape[:-1], 1, x.shape[-1])), y)
    return reshape(found, (*found.shape[:-2], found.shape[-1]))


@traces(np.vecdot)
def vecdot(
    x1: Any,
    x2: Any,
    *,
    axes: Any = None,
    axis: Any = None,
    keepdims: bool = False,
    dtype: Any = None,
    signature: Any = None,
) -> Tracer:
    """The sum of conj(x1)·x2 over the last axis, or over ``axis``."""
    if axis is not None:
        if axes is not None:
            raise TypeError("cannot specify both 'axis' and 'axes'")
        axes = [axis, axis, ()]
    found = product(np.vecdot, vectors_multiplied, x1, x2, axes, dtype, signature)
    if not keepdims:
        return found
    place = one_axis(-1 if axes is None else core_axes(np.vecdot, axes, ())[0][0], found.ndim + 1)
    return reshape(found, (*found.shape[:place], 1, *found.shape[place:]))


def vectors_multiplied(x: Tracer, y: Tracer) -> Tracer:
    checked(np.vecdot, x, y)
    row = conjugated(x)
    if x.ndim == y.ndim == 1:
        return matmul_of_last_axes(row, y)
    found = matmul_of_last_axes(reshape(row, (*x.shape[:-1], 1, x.shape[-1])), reshape(y, (*y.shape, 1)))
    return reshape(found, found.shape[:-2])


def conjugated(x: Tracer) -> Tracer:
    return apply_ufunc(np.conjugate, x) if x.dtype.kind == "c" else x
