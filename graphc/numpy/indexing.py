"""Indexing traced arrays in NumPy's meaning: ints, slices, None, Ellipsis, integer arrays; masks in assignments.

Ints, slices, None and Ellipsis give views: what is assigned to them reaches the array (see :class:`graphc.tracing.View`).
Integer arrays give copies, as in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import GraphError, Node
from graphc.leaks import UnsupportedError, refuse
from graphc.location import where
from graphc.tracing import (
    METHODS,
    Tracer,
    View,
    broadcast_together,
    cast_back,
    check_cast,
    current_trace,
    is_tracer,
    promote,
    to_node,
    to_tracer,
    wrap,
)
from graphc.types import TensorType, bool_, i64


def view_of(base: Tracer, read: Callable[[Node], Node], write: Callable[[Node, Node], Node] | None) -> Tracer:
    """A view of ``base`` in the current trace."""
    trace = current_trace()
    assert trace is not None
    return View(base, trace, read, write)


# ------------------------------------------------------------------------------------------------ basic indexing


@dataclass(frozen=True)
class Window:
    """What ints, slices and None select: a strided slice, reshaped to drop the ints' axes and put in new ones."""

    start: tuple[int, ...]
    size: tuple[int, ...]
    step: tuple[int, ...]
    shape: tuple[int, ...]

    def read(self, base: Node) -> Node:
        if self.is_all_of(base):
            return ops.reshape_to(base, self.shape)
        return ops.reshape_to(ops.slice_(base, start=self.start, size=self.size, step=self.step), self.shape)

    def is_all_of(self, base: Node) -> bool:
        return self.size == base.type.shape and all(n == 1 for n in self.step)

    def write(self, base: Node, value: Node) -> Node:
        """``base`` with ``value`` in this window."""
        value = ops.reshape_to(value, self.size)
        if self.is_all_of(base):
            return value
        if value.type.size == 0:
            return base
        if all(n == 1 for n in self.step):
            return ops.dynamic_update_slice(base, value, *[ops.const(n, i64) for n in self.start])
        where_to = {"shape": base.type.shape, "start": self.start, "step": self.step}
        mask = ops.pad(ops.full(TensorType(bool_, self.size), True), ops.const(False), **where_to)
        return ops.select(mask, ops.pad(value, ops.const(0, base.type.dtype), **where_to), base)


@dataclass(frozen=True)
class Selection:
    """An index: a window, and the integer arrays that index axes of it; ``position`` is where their axes go."""

    window: Window
    arrays: tuple[tuple[int, Any], ...]
    position: int

    @property
    def axes(self) -> tuple[int, ...]:
        return tuple(axis for axis, _ in self.arrays)

    def indices(self) -> list[Node]:
        """The index arrays as nodes. Numbers that are known and outside their axis raise IndexError here."""
        for axis, part in self.arrays:
            if not isinstance(part, Tracer) and not (isinstance(part, list) and any(map(is_tracer, part))):
                extent, given = self.window.shape[axis], np.asarray(part)
                outside = given[(given < -extent) | (given >= extent)]
                if outside.size:
                    raise IndexError(f"index {outside[0]} is out of bounds for axis {axis} with size {extent}")
        return index_nodes([part for _, part in self.arrays])

    def order(self, rank: int) -> list[int]:
        """The axes of ``gather``'s result in the order that NumPy gives them; ``rank`` is that of the index arrays."""
        order = list(range(rank, rank + len(self.window.shape) - len(self.arrays)))
        order[self.position : self.position] = range(rank)
        return order


def selection(index: Any, shape: tuple[int, ...], arrays: bool = False) -> Selection:
    """``index`` into an array of ``shape``; with ``arrays`` ints count as 0-d index arrays."""
    parts = expand_ellipsis(index if isinstance(index, tuple) else (index,), len(shape))
    ints_are_arrays = arrays or any(is_advanced(p) for p in parts)
    start, size, step, kept = [], [], [], []
    advanced: list[tuple[int, Any]] = []
    runs: list[int] = []  # positions of advanced entries among all entries, for NumPy's placement rule
    axis = 0
    for position, part in enumerate(parts):
        if part is None:
            kept.append(1)
            continue
        extent = shape[axis]
        first, count, by = 0, extent, 1
        if isinstance(part, slice):
            first, stop, by = part.indices(extent)
            count = len(range(first, stop, by))
            first = first if count else 0
            kept.append(count)
        elif isinstance(part, (int, np.integer)) and not ints_are_arrays:
            first, count = wrapped(int(part), axis, extent), 1
        else:
            if isinstance(part, (int, np.integer)):
                wrapped(int(part), axis, extent)
            advanced.append((len(kept), part))
            runs.append(position)
            kept.append(extent)
        start.append(first)
        size.append(count)
        step.append(by)
        axis += 1
    adjacent = not runs or runs[-1] - runs[0] == len(runs) - 1
    window = Window(tuple(start), tuple(size), tuple(step), tuple(kept))
    return Selection(window, tuple(advanced), advanced[0][0] if advanced and adjacent else 0)


def is_advanced(part: Any) -> bool:
    return isinstance(part, (list, np.ndarray, Tracer))


def expand_ellipsis(parts: tuple[Any, ...], ndim: int) -> list[Any]:
    """``parts`` with the Ellipsis written out and missing trailing slices added; masks and bad entries refused."""
    for part in parts:
        check_part(part)
    consumed = sum(part is not None and part is not Ellipsis for part in parts)
    if consumed > ndim:
        raise IndexError(f"too many indices for array: array is {ndim}-dimensional, but {consumed} were indexed")
    where_dots = [k for k, part in enumerate(parts) if part is Ellipsis]
    if len(where_dots) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    missing = [slice(None)] * (ndim - consumed)
    if not where_dots:
        return [*parts, *missing]
    k = where_dots[0]
    return [*parts[:k], *missing, *parts[k + 1 :]]


def check_part(part: Any) -> None:
    if part is None or part is Ellipsis or isinstance(part, (int, np.integer)) and not isinstance(part, bool):
        return
    if isinstance(part, slice):
        if any(is_tracer(v) for v in (part.start, part.stop, part.step)):
            refuse(
                "a slice with a traced bound has a shape that depends on data",
                "write x[start + np.arange(size)] for a slice of constant size",
            )
        return
    if is_advanced(part):
        kind = element_kind(part)
        if kind == "b":
            refuse(
                "indexing by a boolean mask has a shape that depends on data",
                "write np.where(mask, x, 0) and reduce it, or index with integers; x[mask] = v is possible",
            )
        if kind in "iu" or (isinstance(part, list) and not part):
            return
    raise IndexError(
        "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer arrays are valid indices, "
        f"not {part!r} (at {where()})"
    )


def element_kind(part: Any) -> str:
    if isinstance(part, list) and any(map(is_tracer, part)):
        return str(to_tracer(part).dtype.kind)
    return str(part.dtype.kind if isinstance(part, Tracer) else np.asarray(part).dtype.kind)


def wrapped(index: int, axis: int, extent: int) -> int:
    if not -extent <= index < extent:
        raise IndexError(f"index {index} is out of bounds for axis {axis} with size {extent}")
    return index % extent


def index_nodes(parts: Sequence[Any]) -> list[Node]:
    """Index arrays as i64 nodes broadcast to one shape."""
    nodes = [to_node(np.asarray(p, dtype=np.int64) if isinstance(p, list) and not p else p) for p in parts]
    for node in nodes:
        if not node.type.dtype.is_integer:
            raise GraphError(f"an index array must be of integers, not {node.type}")
    try:
        return broadcast_together([ops.convert(n, i64) for n in nodes])
    except GraphError:
        shapes = " ".join(str(n.type.shape) for n in nodes)
        raise IndexError(
            f"shape mismatch: indexing arrays could not be broadcast together with shapes {shapes}"
        ) from None


# ------------------------------------------------------------------------------------------------ reading


def getitem(x: Tracer, index: Any) -> Tracer:
    """``x[index]``: a view for ints, slices, None and Ellipsis, a copy for integer arrays; a scalar for ints alone."""
    chosen = selection(index, x.shape)
    if not chosen.arrays:
        has_dots = index is Ellipsis or isinstance(index, tuple) and any(part is Ellipsis for part in index)
        if not chosen.window.shape and not has_dots:
            return wrap(chosen.window.read(to_node(x)))
        return view_of(x, chosen.window.read, chosen.window.write)
    indices = chosen.indices()
    gathered = ops.gather(chosen.window.read(to_node(x)), *indices, axes=chosen.axes, mode="raise")
    return wrap(ops.transpose_to(gathered, chosen.order(indices[0].type.ndim)))


# ------------------------------------------------------------------------------------------------ writing


def setitem(x: Tracer, index: Any, value: Any) -> None:
    """``x[index] = value``, cast to x's element type; of equal indices the last one stays."""
    only = index[0] if isinstance(index, tuple) and len(index) == 1 else index
    if is_advanced(only) and element_kind(only) == "b":
        return set_mask(x, to_node(only), value)
    scatter_into(x, selection(index, x.shape), value, "set")
    return None


def scatter_into(x: Tracer, chosen: Selection, value: Any, combine: str) -> None:
    node = to_node(value, x._node.type.dtype)
    whole = chosen.window.is_all_of(to_node(x)) and chosen.window.shape == x.shape
    target = x if whole else view_of(x, chosen.window.read, chosen.window.write)
    if not chosen.arrays:
        target._assign(fitted(node, target.shape))
        return
    indices = chosen.indices()
    held = to_node(target)
    rank = indices[0].type.ndim
    order = chosen.order(rank)
    rest = [n for k, n in enumerate(held.type.shape) if k not in chosen.axes]
    gathered = (*indices[0].type.shape, *rest)
    updates = fitted(node, [gathered[k] for k in order])
    updates = ops.transpose_to(updates, [order.index(k) for k in range(len(order))])
    target._assign(ops.scatter(held, updates, *indices, axes=chosen.axes, mode="raise", combine=combine))


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


def set_mask(x: Tracer, mask: Node, value: Any) -> None:
    """``x[mask] = value`` for a value that is the same wherever the mask holds (as many numbers as x has after it)."""
    lead, rest = x.shape[: mask.type.ndim], x.shape[mask.type.ndim :]
    if mask.type.shape != lead:
        raise IndexError(
            f"boolean index did not match indexed array: {mask.type.shape} for an array of shape {x.shape}"
        )
    node = to_node(value, x._node.type.dtype)
    if node.type.ndim > len(rest) and any(n != 1 for n in node.type.shape[: node.type.ndim - len(rest)]):
        refuse(
            f"a traced array was assigned {node.type} where a mask holds: how many numbers that takes depends on data",
            "write x = np.where(mask, values, x) with values of the shape of x",
        )
    spread = ops.broadcast_numpy(fitted(node, rest), x.shape)
    everywhere = ops.broadcast(mask, x.shape, tuple(range(mask.type.ndim)))
    x._assign(ops.select(everywhere, spread, to_node(x)))


COMBINES = {np.add: "add", np.subtract: "add", np.multiply: "mul", np.maximum: "max", np.minimum: "min"}


def ufunc_at(ufunc: Any, x: Any, index: Any, value: Any = None) -> None:
    """``np.add.at(x, index, value)``: unbuffered, so that equal indices accumulate."""
    if not isinstance(x, Tracer):
        refuse(
            f"np.{ufunc.__name__}.at would write a traced value into a NumPy array",
            "make the array of traced values too: a = np.zeros_like(x) or a = graphc.numpy.zeros(shape)",
        )
    if ufunc not in COMBINES or value is None:
        raise UnsupportedError(f"np.{ufunc.__name__}.at is not traced (at {where()})")
    change = to_tracer(value)
    check_cast(ufunc, promote(x, change), x._node.type.dtype)
    change = -change if ufunc is np.subtract else change
    scatter_into(x, selection(index, x.shape, arrays=True), change, COMBINES[ufunc])


def write_out(function: Any, targets: Sequence[Any], result: Any, mask: Any = True) -> Any:
    """``out=``: the arrays in ``targets`` hold ``result`` (where ``mask`` holds), cast to their own types."""
    results = result if isinstance(result, tuple) else (result,)
    written = []
    for target, value in zip(targets, results, strict=True):
        if target is not None:
            spread = wrap(ops.broadcast_numpy(to_node(value), target.shape))
            node = cast_back(function, target, spread)
            if mask is not True:
                held = ops.broadcast_numpy(to_node(mask, bool_), target.shape)
                node = ops.select(held, node, to_node(target))
            target._assign(node)
        written.append(value if target is None else target)
    return tuple(written) if isinstance(result, tuple) else written[0]


def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    """``np.copyto``, and what ``np.full(shape, x, dtype)`` becomes."""
    if not isinstance(dst, Tracer):
        refuse(
            "a traced value would be copied into a NumPy array",
            "write graphc.numpy.full(shape, value) or np.full_like(x, value) for np.full, or make the array of traced "
            "values too: a = np.zeros_like(x)",
        )
    write_out(np.copyto, (dst,), to_tracer(src), where)


def fill(x: Tracer, value: Any) -> None:
    x._assign(ops.broadcast_numpy(to_node(value, x._node.type.dtype), x.shape))


METHODS.update({"getitem": getitem, "setitem": setitem, "ufunc.at": ufunc_at, "write_out": write_out, "fill": fill})
