"""What an index expression selects, in NumPy's meaning: ``x[1:, None, [0, 2], ..., mask]`` as a :class:`Selection`.

Ints, slices, None and Ellipsis make a :class:`Window`, a strided block. Integer arrays index axes of the window; a mask that is
known while tracing stands for the integer arrays that ``np.nonzero`` makes of it, one that is traced is kept apart.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import GraphError, Node
from graphc.leaks import refuse
from graphc.location import where
from graphc.tracing import METHODS, Tracer, broadcast_together, is_tracer, to_node
from graphc.tree import flatten
from graphc.types import TensorType, bool_, i64


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


@dataclass(frozen=True, eq=False)
class Mask:
    """A boolean index whose numbers are not known: an array of ``ndim`` axes."""

    array: Tracer

    @property
    def ndim(self) -> int:
        return self.array.ndim


@dataclass(frozen=True, eq=False)
class Known:
    """A boolean index that is known while tracing."""

    array: np.ndarray

    @property
    def ndim(self) -> int:
        return self.array.ndim


@dataclass(frozen=True)
class Selection:
    """An index: a window, and the integer arrays that index axes of it; ``position`` is where their axes go.

    ``mask`` is a traced boolean index, if there is one, over the axes of the window from ``mask_axis`` on; there are no integer
    arrays beside it.
    """

    window: Window
    arrays: tuple[tuple[int, Any], ...]
    position: int
    mask: Tracer | None = None
    mask_axis: int = 0

    @property
    def axes(self) -> tuple[int, ...]:
        return tuple(axis for axis, _ in self.arrays)

    @property
    def is_view(self) -> bool:
        """Whether NumPy makes a view: there are no arrays. Traced ints count as ints."""
        return self.mask is None and all(is_tracer(part) and not part.ndim for _, part in self.arrays)

    def indices(self, mode: str = "raise") -> list[Node]:
        """The index arrays as nodes of one shape. Numbers that are known and outside their axis raise IndexError here."""
        if mode == "raise":
            for axis, part in self.arrays:
                if not is_tracer(part):
                    check_bounds(part, axis, self.window.shape[axis])
        return index_nodes([part for _, part in self.arrays])

    def order(self, rank: int) -> list[int]:
        """The axes of ``gather``'s result in the order that NumPy gives them; ``rank`` is that of the index arrays."""
        order = list(range(rank, rank + len(self.window.shape) - len(self.arrays)))
        order[self.position : self.position] = range(rank)
        return order


def check_bounds(index: np.ndarray, axis: int, extent: int) -> None:
    outside = index[(index < -extent) | (index >= extent)]
    if outside.size:
        raise IndexError(f"index {outside[0]} is out of bounds for axis {axis} with size {extent}")


def selection(index: Any, shape: tuple[int, ...], mode: str = "raise") -> Selection:
    """``index`` into an array of ``shape``. Raises IndexError in NumPy's words; what depends on data is refused.

    Ints outside their axis raise in mode "raise" and become index arrays in others.
    """
    given = [entry(part) for part in (index if isinstance(index, tuple) else (index,))]
    parts = expand_ellipsis(given, len(shape))
    start, size, step, kept = [], [], [], []
    arrays: list[tuple[int, Any]] = []
    runs: list[
        tuple[int, int]
    ] = []  # (position among all entries, axes before it) of what NumPy's placement rule counts
    mask, mask_axis = None, 0
    axis = 0

    def whole(extent: int) -> None:
        start.append(0)
        size.append(extent)
        step.append(1)
        kept.append(extent)

    for position, part in enumerate(parts):
        if part is None:
            kept.append(1)
            continue
        if part is Ellipsis:
            continue
        if isinstance(part, slice):
            extent = shape[axis]
            first, stop, by = part.indices(extent)
            count = len(range(first, stop, by))
            start.append(first if count else 0)
            size.append(count)
            step.append(by)
            kept.append(count)
            axis += 1
            continue
        runs.append((position, len(kept)))
        if isinstance(part, (Known, Mask)):
            check_mask_shape(part, axis, shape)
            if isinstance(part, Mask):
                mask, mask_axis = one_mask(mask, part), len(kept)
                for k in range(part.ndim):
                    whole(shape[axis + k])
            else:
                for k, places in enumerate(np.nonzero(part.array) if part.ndim else (zero_or_none(part),)):
                    arrays.append((len(kept), places))
                    if part.ndim:
                        whole(shape[axis + k])
                    else:
                        kept.append(1)
            axis += part.ndim
        elif isinstance(part, int) and (mode == "raise" or -shape[axis] <= part < shape[axis]):
            start.append(wrapped(part, axis, shape[axis]))
            size.append(1)
            step.append(1)
            axis += 1
        else:
            arrays.append((len(kept), np.asarray(part) if isinstance(part, int) else part))
            whole(shape[axis])
            axis += 1
    if mask is not None and arrays:
        refuse_mask_beside_arrays()
    adjacent = bool(runs) and runs[-1][0] - runs[0][0] == len(runs) - 1
    window = Window(tuple(start), tuple(size), tuple(step), tuple(kept))
    return Selection(window, tuple(arrays), runs[0][1] if adjacent else 0, mask, mask_axis)


def one_mask(before: Tracer | None, part: Mask) -> Tracer:
    if before is not None:
        refuse_mask_beside_arrays()
    return part.array


def refuse_mask_beside_arrays() -> None:
    refuse(
        "a traced mask beside other index arrays selects as many elements as it has true ones, which depends on data",
        "index with the arrays first and mask the result, or write np.where(mask, values, x)",
    )


def zero_or_none(part: Known) -> np.ndarray:
    """Where the new axis of length 1 that True or False stands for is indexed."""
    return np.zeros(int(part.array), np.int64)


def check_mask_shape(part: Known | Mask, axis: int, shape: tuple[int, ...]) -> None:
    for k, n in enumerate(part.array.shape):
        if n != shape[axis + k] and n:  # NumPy lets a mask of nothing pass
            raise IndexError(
                f"boolean index did not match indexed array along axis {axis + k}; size of axis is {shape[axis + k]} but "
                f"size of corresponding boolean axis is {n}"
            )


def entry(part: Any) -> Any:
    """One entry of an index: None, Ellipsis, a slice, an int, an integer array (of NumPy or traced), Known or Mask."""
    if part is None or part is Ellipsis:
        return part
    if isinstance(part, slice):
        if any(is_tracer(v) for v in (part.start, part.stop, part.step)):
            refuse(
                "a slice with a traced bound has a shape that depends on data",
                "write x[start + np.arange(size)] for a slice of constant size",
            )
        return part
    if isinstance(part, (bool, np.bool_)):
        return Known(np.asarray(part))
    if not is_tracer(part):
        try:
            return operator.index(part)
        except TypeError:
            return array_entry(part)
    return traced_entry(part)


def array_entry(part: Any) -> Any:
    if isinstance(part, (list, tuple)) and any(map(is_tracer, flatten(list(part))[0])):
        return traced_entry(METHODS["array"](list(part)))
    array = None if isinstance(part, (str, bytes, dict, set)) else np.asarray(part)
    if array is not None and array.size == 0 and not isinstance(part, np.ndarray):
        return array.astype(np.int64)
    if array is None or array.dtype.kind not in "biu":
        if isinstance(part, (np.ndarray, list, tuple)) and np.ndim(part):
            raise IndexError("arrays used as indices must be of integer (or boolean) type")
        raise IndexError(
            "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or boolean arrays are valid "
            f"indices, not {part!r} (at {where()})"
        )
    return Known(array) if array.dtype.kind == "b" else array


def traced_entry(part: Tracer) -> Any:
    node = part._node
    if node.op is ops.constant:
        return array_entry(node["value"].value)
    if node.type.dtype is bool_:
        return Mask(part) if node.type.size else Known(np.zeros(node.type.shape, bool))
    if not node.type.dtype.is_integer:
        raise IndexError(
            f"arrays used as indices must be of integer (or boolean) type, not {node.type} (at {where()}); "
            "write x[i.astype(int)]"
        )
    return part


def consumed(part: Any) -> int:
    """How many axes of the array an entry indexes."""
    if part is None or part is Ellipsis:
        return 0
    return part.ndim if isinstance(part, (Known, Mask)) else 1


def expand_ellipsis(parts: Sequence[Any], ndim: int) -> list[Any]:
    """``parts`` with slices for the axes that they leave out, behind the Ellipsis, which stays."""
    count = sum(map(consumed, parts))
    if count > ndim:
        raise IndexError(f"too many indices for array: array is {ndim}-dimensional, but {count} were indexed")
    dots = [k for k, part in enumerate(parts) if part is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    k = dots[0] + 1 if dots else len(parts)
    return [*parts[:k], *[slice(None)] * (ndim - count), *parts[k:]]


def wrapped(index: int, axis: int, extent: int) -> int:
    if not -extent <= index < extent:
        raise IndexError(f"index {index} is out of bounds for axis {axis} with size {extent}")
    return index % extent


def index_nodes(parts: Sequence[Any]) -> list[Node]:
    """Index arrays as i64 nodes broadcast to one shape."""
    nodes = [ops.convert(to_node(part), i64) for part in parts]
    try:
        return broadcast_together(nodes)
    except GraphError:
        shapes = " ".join(str(n.type.shape) for n in nodes)
        raise IndexError(
            f"shape mismatch: indexing arrays could not be broadcast together with shapes {shapes}"
        ) from None
