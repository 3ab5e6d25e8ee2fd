"""Indexing traced arrays in NumPy's meaning, reading and writing; ``out=``, ``np.copyto``, ``np.add.at``.

Ints, slices, None and Ellipsis give views: what is assigned to them reaches the array (see :class:`graphc.tracing.View`).
Integer arrays give copies, as in NumPy. Of equal indices in an assignment the last one stays, and only it gets the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import GraphError, Node
from graphc.leaks import UnsupportedError, refuse
from graphc.location import where
from graphc.numpy.indices import Selection, selection
from graphc.promotion import same_kind
from graphc.tracing import (
    METHODS,
    UFUNCS,
    Tracer,
    View,
    apply_ufunc,
    cast_back,
    current_trace,
    element_type,
    is_tracer,
    promote,
    to_node,
    to_tracer,
    weak_kind,
    wrap,
)
from graphc.types import DType, bool_


def view_of(base: Tracer, read: Callable[[Node], Node], write: Callable[[Node, Node], Node] | None) -> Tracer:
    """A view of ``base`` in the current trace."""
    trace = current_trace()
    assert trace is not None
    return View(base, trace, read, write)


# ------------------------------------------------------------------------------------------------ reading


def getitem(x: Tracer, index: Any) -> Tracer:
    """``x[index]``: a view for ints, slices, None and Ellipsis, a copy for integer arrays; a scalar for ints alone.

    With a traced mask it is what can be known of the masked elements (:mod:`graphc.numpy.masked`).
    """
    chosen = selection(index, x.shape)
    if chosen.mask is not None:
        return METHODS["masked_selection"](x, chosen)
    indices = chosen.indices() if chosen.arrays else []

    def read(base: Node) -> Node:
        return elements(chosen, chosen.window.read(base), indices, "raise")

    if not chosen.is_view:
        return wrap(read(to_node(x)))
    has_dots = index is Ellipsis or isinstance(index, tuple) and any(part is Ellipsis for part in index)
    if len(chosen.window.shape) == len(chosen.arrays) and not has_dots:
        return wrap(read(to_node(x)))

    def write(base: Node, value: Node) -> Node:
        if indices:
            held = chosen.window.read(base)
            value = ops.scatter(held, value, *indices, axes=chosen.axes, mode="raise", combine="set")
        return chosen.window.write(base, value)

    return view_of(x, read, write)


def elements(chosen: Selection, held: Node, indices: Sequence[Node], mode: str) -> Node:
    """What ``chosen`` selects of ``held``, the contents of its window."""
    if not chosen.arrays:
        return held
    gathered = ops.gather(held, *indices, axes=chosen.axes, mode=mode)
    return ops.transpose_to(gathered, chosen.order(indices[0].type.ndim))


# ------------------------------------------------------------------------------------------------ writing


def setitem(x: Tracer, index: Any, value: Any) -> None:
    """``x[index] = value``, cast to x's element type; of equal indices the last one stays."""
    chosen = selection(index, x.shape)
    target = window_of(x, chosen)
    target._assign(updated(chosen, to_node(target), value, "set"))


def window_of(x: Tracer, chosen: Selection) -> Tracer:
    """The window of ``chosen`` as a view of ``x``, or ``x`` itself where it is all of it."""
    whole = chosen.window.is_all_of(to_node(x)) and chosen.window.shape == x.shape
    return x if whole else view_of(x, chosen.window.read, chosen.window.write)


def updated(chosen: Selection, held: Node, value: Any, combine: str, mode: str = "raise") -> Node:
    """``held``, the contents of the window, with ``value`` combined into what ``chosen`` selects of it.

    ``combine`` is "set", "add", "mul", "min" or "max": with all but "set" equal indices accumulate.
    """
    element = held.type.dtype
    if chosen.mask is not None:
        change = combined(held, METHODS["masked_values"](chosen, value, element), combine)
        everywhere = ops.broadcast(to_node(chosen.mask), held.type.shape, mask_axes(chosen))
        return ops.select(everywhere, change, held)
    node = to_node(value, element)
    if not chosen.arrays:
        return combined(held, fitted(node, held.type.shape), combine)
    indices = chosen.indices(mode)
    updates = spread_updates(chosen, held, indices, node)
    if element is bool_:
        combine = {"add": "max", "mul": "min"}.get(combine, combine)
    return ops.scatter(held, updates, *indices, axes=chosen.axes, mode=mode, combine=combine)


def mask_axes(chosen: Selection) -> tuple[int, ...]:
    """The axes of the window that the mask spans."""
    assert chosen.mask is not None
    return tuple(range(chosen.mask_axis, chosen.mask_axis + chosen.mask.ndim))


def spread_updates(chosen: Selection, held: Node, indices: Sequence[Node], value: Node) -> Node:
    """``value`` broadcast to what ``chosen`` selects, in the order of axes that ``scatter`` takes."""
    order = chosen.order(indices[0].type.ndim)
    rest = [n for k, n in enumerate(held.type.shape) if k not in chosen.axes]
    gathered = (*indices[0].type.shape, *rest)
    updates = fitted(value, [gathered[k] for k in order])
    return ops.transpose_to(updates, [order.index(k) for k in range(len(order))])


#: What combines elements, by scatter's name of it.
COMBINES = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def combined(held: Node, change: Node, combine: str) -> Node:
    return change if combine == "set" else UFUNCS[COMBINES[combine]](held, change)


def fitted(value: Node, shape: Sequence[int]) -> Node:
    """``value`` broadcast to the shape that is assigned to; leading axes of length 1 too many are dropped, as in NumPy."""
    have = value.type.shape
    while len(have) > len(shape) and have[0] == 1:
        have = have[1:]
    try:
        return ops.broadcast_numpy(ops.reshape_to(value, have), tuple(shape))
    except GraphError:
        raise ValueError(
            f"could not broadcast input array from shape {value.type.shape} into shape {tuple(shape)}"
        ) from None


# ------------------------------------------------------------------------------------------------ ufunc.at

_SCATTERED = {np.add: "add", np.subtract: "add", np.multiply: "mul", np.maximum: "max", np.minimum: "min"}


def ufunc_at(ufunc: Any, x: Any, index: Any, value: Any = None) -> None:
    """``np.add.at(x, index, value)``: unbuffered, so that equal indices accumulate.

    The results are cast to x's type whatever it is, as in NumPy. ufuncs that no scatter knows are applied once for every time
    that an index occurs, which must be known while tracing.
    """
    if not is_tracer(x):
        refuse(
            f"np.{ufunc.__name__}.at would write a traced value into a NumPy array",
            "make the array of traced values too: a = np.zeros_like(x) or a = graphc.numpy.zeros(shape)",
        )
    if ufunc.nin == 2 and value is None:
        raise ValueError("second operand needed for ufunc")
    chosen = selection(index, x.shape)
    target = window_of(x, chosen)
    if ufunc in _SCATTERED and same_kind(promote(x, value), x._node.type.dtype):
        change = to_tracer(value)
        change = -change if ufunc is np.subtract else change
        target._assign(updated(chosen, to_node(target), change, _SCATTERED[ufunc]))
        return
    extra = () if ufunc.nin == 1 else (value,)
    if not chosen.arrays and chosen.mask is None:
        target._assign(cast_back(ufunc, target, apply_ufunc(ufunc, target, *extra), "unsafe"))
        return
    if chosen.mask is not None or any(is_tracer(part) and part.ndim for _, part in chosen.arrays):
        raise UnsupportedError(
            f"np.{ufunc.__name__}.at with traced indices is not traced: how often one occurs depends on data; where all differ, "
            f"write x[i] = np.{ufunc.__name__}(x[i]{', v' if extra else ''}) (at {where()})"
        )
    for one, changes in occurrences(chosen, to_node(target), extra):
        held = to_node(target)
        mine = wrap(elements(one, held, one.indices(), "raise"))
        result = cast_back(ufunc, mine, apply_ufunc(ufunc, mine, *changes), "unsafe")
        target._assign(updated(one, held, wrap(result), "set"))


def occurrences(chosen: Selection, held: Node, values: Sequence[Any]) -> list[tuple[Selection, list[Tracer]]]:
    """``chosen`` in parts in which no index occurs twice, the first occurrences first, with the values of each."""
    indices = chosen.indices()
    lead = indices[0].type.shape
    arrays = [np.broadcast_to(part, lead).reshape(-1) if not is_tracer(part) else part for _, part in chosen.arrays]
    extents = [held.type.shape[axis] for axis in chosen.axes]
    known = [(a % n if n else a, n) for a, n in zip(arrays, extents, strict=True) if not is_tracer(a)]
    flat = np.zeros(len(known[0][0]) if known else 1, np.int64)
    for a, n in known:
        flat = flat * n + a
    order = np.argsort(flat, kind="stable")
    new = np.r_[True, np.diff(flat[order]) != 0][: len(order)]
    first = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    turn = np.empty(len(order), np.int64)
    turn[order] = np.arange(len(order)) - first
    spread = [wrap(spread_updates(chosen, held, indices, to_node(v))) for v in values]
    rows = [METHODS["reshape"](v, (len(flat), *v.shape[len(lead) :])) for v in spread]
    # One axis of indices, first in the result: what spread_updates gave the values too.
    flattened = replace(chosen, position=0)
    parts = []
    for k in range(int(turn.max(initial=-1)) + 1):
        now = np.flatnonzero(turn == k)
        mine = [(axis, a if is_tracer(a) else a[now]) for axis, a in zip(chosen.axes, arrays, strict=True)]
        parts.append((replace(flattened, arrays=tuple(mine)), [v[now] for v in rows]))
    return parts


# ------------------------------------------------------------------------------------------------ out=, copyto


def write_out(function: Any, targets: Sequence[Any], result: Any, mask: Any = True, casting: str = "same_kind") -> Any:
    """``out=``: the arrays in ``targets`` hold ``result`` (where ``mask`` holds), cast to their own types."""
    results = result if isinstance(result, tuple) else (result,)
    written = []
    for target, value in zip(targets, results, strict=True):
        if target is not None:
            spread = wrap(ops.broadcast_numpy(to_node(value), target.shape))
            node = cast_back(function, target, spread, casting)
            target._assign(where_mask(mask, node, target))
        written.append(value if target is None else target)
    return tuple(written) if isinstance(result, tuple) else written[0]


def where_mask(mask: Any, node: Node, target: Tracer) -> Node:
    """``node`` where ``mask`` holds, what ``target`` holds elsewhere."""
    if mask is True:
        return node
    return ops.select(ops.broadcast_numpy(to_node(mask, bool_), target.shape), node, to_node(target))


def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    """``np.copyto``, and what ``np.full(shape, x, dtype)`` becomes."""
    if not is_tracer(dst):
        refuse(
            "a traced value would be copied into a NumPy array",
            "write graphc.numpy.full(shape, value) or np.full_like(x, value) for np.full, or make the array of traced "
            "values too: a = np.zeros_like(x)",
        )
    want = dst._node.type.dtype
    if not castable(src, want, casting):
        raise TypeError(f"Cannot cast array data from {element_type(src)} to {want} according to the rule {casting!r}")
    dst._assign(where_mask(where, fitted(to_node(src, want), dst.shape), dst))


def castable(value: Any, want: DType, casting: str) -> bool:
    """Whether NumPy's rule ``casting`` lets ``value`` into an array of ``want``; Python numbers by their kind."""
    weak = weak_kind(value)
    if weak is not None and casting != "unsafe":
        return want.kind in {bool: "biufc", int: "iufc", float: "fc", complex: "c"}[weak]
    have = element_type(value)
    return same_kind(have, want) if casting == "same_kind" else bool(np.can_cast(have.numpy, want.numpy, casting))  # type: ignore[arg-type]


def fill(x: Tracer, value: Any) -> None:
    node = to_node(value, x._node.type.dtype)
    if node.type.size != 1:
        raise ValueError(f"fill() takes one number, not {node.type}")
    x._assign(ops.broadcast_numpy(ops.reshape_to(node, ()), x.shape))


METHODS.update({"getitem": getitem, "setitem": setitem, "write_out": write_out, "fill": fill})
