"""Sorting along one axis. Everything is stable, and NaN is the largest value (last in ascending order), as in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.ir import GraphError, Node, Op
from graphc.ops.base import check_axes, check_kind, define, zeros
from graphc.ops.indexing import add_along_axis, take_along_axis
from graphc.ops.structure import item, items
from graphc.types import TensorType, TupleType, Type, bf16, i64


def _sortable(x: np.ndarray) -> np.ndarray:
    """x in an element type that NumPy sorts with NaN last; bf16 goes to f32 without loss."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype == bf16.numpy else x


def _order(x: np.ndarray, axis: int) -> np.ndarray:
    return np.argsort(_sortable(x), axis=axis, kind="stable").astype(np.int64, copy=False)


# ------------------------------------------------------------------------------------------------ sort, argsort


def _check(name: str, x: TensorType, axis: int) -> None:
    check_kind(name, x, "biuf")
    check_axes(name, x, (axis,))


def _sort_type(x: TensorType, axis: int) -> Type:
    _check("sort", x, axis)
    return x


def _sort_vjp(ct: Node, out: Node, x: Node, axis: int) -> tuple[Node]:
    return (add_along_axis(zeros(x.type), ct, argsort(x, axis=axis), axis, mode="clip"),)


def _sort_jvp(tangents: Sequence[Node | None], out: Node, x: Node, axis: int) -> Node | None:
    (tangent,) = tangents
    return None if tangent is None else take_along_axis(tangent, argsort(x, axis=axis), axis, mode="clip")


#: ``sort(x, axis=)``: ascending along one axis, stable, NaN last.
sort: Op = define(
    Op(
        "sort",
        "sort",
        infer=_sort_type,
        eval=lambda x, axis: np.take_along_axis(x, _order(x, axis), axis),
        vjp=_sort_vjp,
        jvp=_sort_jvp,
        batch=lambda size, flags, x, axis: sort(x, axis=axis + 1),
    )
)


def _argsort_type(x: TensorType, axis: int) -> Type:
    _check("argsort", x, axis)
    return TensorType(i64, x.shape)


#: ``argsort(x, axis=)``: the i64 places along one axis in ascending order of their elements, stable, NaN last.
argsort: Op = define(
    Op(
        "argsort",
        "sort",
        infer=_argsort_type,
        eval=_order,
        vjp=lambda ct, out, x, axis: (None,),
        jvp=lambda tangents, out, x, axis: None,
        batch=lambda size, flags, x, axis: argsort(x, axis=axis + 1),
    )
)

# ------------------------------------------------------------------------------------------------ top_k


def _top_k_type(x: TensorType, k: int) -> Type:
    check_kind("top_k", x, "biuf")
    if x.ndim == 0 or not 0 <= k <= x.shape[-1]:
        raise GraphError(f"top_k: there are no {k} elements along the last axis of {x}")
    shape = (*x.shape[:-1], k)
    return TupleType((TensorType(x.dtype, shape), TensorType(i64, shape)))


def _top_k_eval(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    # Ascending order of the reversed axis, read backwards: descending, and the lower index first among equals.
    backwards = _order(x[..., ::-1], -1)[..., ::-1]
    places = x.shape[-1] - 1 - backwards[..., :k]
    return np.take_along_axis(x, places, -1), places


def _top_k_vjp(ct: Sequence[Node | None], out: Node, x: Node, k: int) -> tuple[Node | None]:
    values = ct[0]
    if values is None:
        return (None,)
    return (add_along_axis(zeros(x.type), values, item(out, index=1), x.type.ndim - 1, mode="clip"),)


def _top_k_jvp(tangents: Sequence[Node | None], out: Node, x: Node, k: int) -> tuple[Any, None]:
    (tangent,) = tangents
    if tangent is None:
        return None, None
    return take_along_axis(tangent, item(out, index=1), x.type.ndim - 1, mode="clip"), None


#: ``top_k(x, k=)``: the k largest along the last axis, largest first, and their i64 places. Among equals the lower
#: index comes first; NaN is larger than everything.
top_k: Op = define(
    Op(
        "top_k",
        "sort",
        infer=_top_k_type,
        eval=_top_k_eval,
        vjp=_top_k_vjp,
        jvp=_top_k_jvp,
        batch=lambda size, flags, x, k: items(top_k(x, k=k)),
    )
)

__all__ = ["argsort", "sort", "top_k"]
