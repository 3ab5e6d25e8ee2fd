"""``x.at[i].set(v)`` and the like: new arrays with elements changed, under JAX's names.

Traced arrays have it; NumPy's have no ``at``, so outside a trace write ``y = x.copy(); y[i] = v``.

``i`` is any index of NumPy's, traced masks included. Of equal indices the last one stays with ``set``, and only it gets the
gradient; ``add``, ``subtract``, ``multiply``, ``divide``, ``power``, ``min`` and ``max`` take all of them, those that tie for
min or max sharing the gradient equally; ``apply`` calls its function once for every place. ``mode`` says what an index outside
its axis means: None raises IndexError as in NumPy; "clip" takes the nearest place; "drop" leaves the update out; "fill" does
that too, and lets ``get`` read ``fill_value`` (NaN, or the type's lowest signed or highest unsigned integer). Negative indices
count from the end in all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import Node
from graphc.leaks import UnsupportedError, refuse
from graphc.location import where
from graphc.numpy.indexing import elements, updated
from graphc.numpy.indices import Selection, selection
from graphc.numpy.tables import property_
from graphc.tracing import Tracer, apply_ufunc, located, operate, to_node, wrap
from graphc.types import DType, TensorType, bool_, i64

#: What ops call the modes.
_MODES = {None: "raise", "promise_in_bounds": "raise", "clip": "clip", "drop": "drop", "fill": "drop"}


class At:
    """``x.at``: indexed, it gives the updates of ``x``."""

    def __init__(self, array: Tracer) -> None:
        self._array = array

    def __getitem__(self, index: Any) -> Updates:
        return Updates(self._array, index)


class Updates:
    """``x.at[index]``: each method returns ``x`` with what ``index`` selects changed; ``x`` stays as it is."""

    def __init__(self, array: Tracer, index: Any) -> None:
        self._array = array
        self._index = index

    def get(self, *, mode: str | None = None, fill_value: Any = None, **hints: Any) -> Tracer:
        """What ``index`` selects: ``x[index]``, indices outside as ``mode`` says."""
        check_hints("get", hints)
        return located(read, self._array, self._index, mode, fill_value)

    def set(self, values: Any, *, mode: str | None = None, **hints: Any) -> Tracer:
        return self._combine("set", values, mode, hints)

    def add(self, values: Any, *, mode: str | None = None, **hints: Any) -> Tracer:
        return self._combine("add", values, mode, hints)

    def multiply(self, values: Any, *, mode: str | None = None, **hints: Any) -> Tracer:
        return self._combine("mul", values, mode, hints)

    mul = multiply

    def min(self, values: Any, *, mode: str | None = None, **hints: Any) -> Tracer:
        return self._combine("min", values, mode, hints)

    def max(self, values: Any, *, mode: str | None = None, **hints: Any) -> Tracer:
        return self._combine("max", values, mode, hints)

    def subtract(self, values: Any, *, mode: str | None = None, **hints: Any) -> Tracer:
        return self._combine("add", operate(np.negative, own_type(values, self._array)), mode, hints)

    def divide(self, values: Any, *, mode: str | None = None, **hints: Any) -> Tracer:
        """``x`` over the product of what falls on each place."""
        return apply_ufunc(np.true_divide, self._array, self._product(values, mode, hints))

    def power(self, values: Any, *, mode: str | None = None, **hints: Any) -> Tracer:
        """``x`` to the power of the product of what falls on each place."""
        return apply_ufunc(np.power, self._array, self._product(values, mode, hints))

    def apply(self, function: Callable[[Any], Any], *, mode: str | None = None, **hints: Any) -> Tracer:
        """``function`` of what ``index`` selects, called once with all of it."""
        check_hints("apply", hints)
        if located(selection, self._index, self._array.shape, mode_of(mode)).mask is not None:
            changed = function(self._array)
            return self.set(changed[self._index], mode=mode)
        return self.set(function(self.get(mode=mode)), mode=mode)

    def _product(self, values: Any, mode: str | None, hints: dict[str, Any]) -> Tracer:
        ones = wrap(ops.like(to_node(self._array), 1))
        return Updates(ones, self._index)._combine("mul", values, mode, hints)

    def _combine(self, combine: str, values: Any, mode: str | None, hints: dict[str, Any]) -> Tracer:
        check_hints(combine, hints)
        return located(change, self._array, self._index, values, combine, mode)


def own_type(values: Any, array: Tracer) -> Tracer:
    return wrap(to_node(values, array._node.type.dtype))


def check_hints(name: str, hints: dict[str, Any]) -> None:
    """``indices_are_sorted`` and ``unique_indices`` are promises that graphc makes no use of."""
    unknown = set(hints) - {"indices_are_sorted", "unique_indices"}
    if unknown:
        raise UnsupportedError(f"x.at[i].{name} has no argument {sorted(unknown)[0]!r} (at {where()})")


def mode_of(mode: str | None) -> str:
    if mode not in _MODES:
        raise ValueError(f"x.at[i]: mode is one of None, {', '.join(repr(m) for m in _MODES if m)}, not {mode!r}")
    return _MODES[mode]


def chosen_by(x: Tracer, index: Any, mode: str) -> Selection:
    """The selection, its index arrays as nodes; outside mode "raise" negative indices are written out."""
    chosen = selection(index, x.shape, mode)
    if mode == "raise" or not chosen.arrays:
        return chosen
    arrays = [(axis, from_the_front(to_node(part), chosen.window.shape[axis])) for axis, part in chosen.arrays]
    return Selection(chosen.window, tuple(arrays), chosen.position)


def from_the_front(index: Node, extent: int) -> Tracer:
    index = ops.convert(index, i64)
    below = ops.lt(index, ops.zeros(index.type))
    return wrap(ops.select(below, ops.add(index, ops.like(index, extent)), index))


def change(x: Tracer, index: Any, values: Any, combine: str, mode: str | None) -> Tracer:
    own = mode_of(mode)
    chosen = chosen_by(x, index, own)
    base = to_node(x)
    if combine != "set" and x._node.type.dtype is not bool_ and not isinstance(values, Tracer):
        values = own_type(values, x)
    return wrap(chosen.window.write(base, updated(chosen, chosen.window.read(base), values, combine, own)))


def read(x: Tracer, index: Any, mode: str | None, fill_value: Any) -> Tracer:
    own = mode_of(mode)
    chosen = chosen_by(x, index, own)
    if chosen.mask is not None:
        refuse(
            "x.at[mask].get() has a shape that depends on data",
            "write np.where(mask, x, fill_value)",
        )
    held = chosen.window.read(to_node(x))
    indices = chosen.indices(own) if chosen.arrays else []
    found = elements(chosen, held, indices, own)
    if mode != "fill" or not indices:
        return wrap(found)
    element = held.type.dtype
    fill = to_node(default_fill(element) if fill_value is None else fill_value, element)
    inside = elements(chosen, ops.full(TensorType(bool_, held.type.shape), True), indices, own)
    return wrap(ops.select(inside, found, ops.broadcast_numpy(fill, found.type.shape)))


def default_fill(element: DType) -> Any:
    if element.is_inexact:
        return np.nan
    if element is bool_:
        return True
    info = np.iinfo(element.numpy)
    return np.asarray(info.min if element.kind == "i" else info.max, element.numpy)


@property_("at")
def at(x: Tracer) -> At:
    return At(x)
