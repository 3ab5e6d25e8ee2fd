"""Elements chosen by place or by condition, and written there: the take, put and choose families, select, piecewise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import Node
from graphc.leaks import UnsupportedError, refuse
from graphc.numpy.elementwise import wrapped_integer
from graphc.numpy.flat import Flat, repeated
from graphc.numpy.masked import MaskedSelection
from graphc.numpy.shapes import broadcast_to, ravel
from graphc.numpy.tables import known_shape, one_axis, shape_of, stored, strong, traces
from graphc.promotion import common_type
from graphc.tracing import (
    METHODS,
    Tracer,
    broadcast_together,
    element_type,
    is_tracer,
    promote,
    to_node,
    to_tracer,
    weak_kind,
    wrap,
)
from graphc.types import DType, TensorType, bool_, i64

# ------------------------------------------------------------------------------------------------ indices


def integer_node(name: str, indices: Any) -> Node:
    """Indices as an i64 node. Raises TypeError in NumPy's words."""
    empty = isinstance(indices, (list, tuple)) and 0 in known_shape(indices)
    node = to_node(np.zeros(known_shape(indices), np.int64) if empty else strong(indices))
    if not (node.type.dtype.is_integer or node.type.dtype is bool_):
        raise TypeError(
            f"{name}: Cannot cast array data from {node.type.dtype} to i64 according to the rule 'safe': indices are integers"
        )
    return ops.convert(node, i64)


def placed(index: Node, extent: int, mode: str) -> Node:
    """``index`` as mode "raise", "wrap" or "clip" of NumPy's take and put has it; what is outside in "raise" stays so."""
    if mode == "wrap":
        return ops.remainder(index, ops.like(index, extent)) if extent else index
    if mode == "clip":
        return ops.minimum(ops.maximum(index, ops.like(index, 0)), ops.like(index, max(extent - 1, 0)))
    if mode != "raise":
        raise ValueError(f"clipmode must be one of 'clip', 'raise', or 'wrap' (got {mode!r})")
    return index


def known_index(indices: Any) -> bool:
    return not is_tracer(indices) and not (isinstance(indices, (list, tuple)) and any(map(is_tracer, indices)))


@traces(np.take, method="take")
def take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Tracer:
    x = to_tracer(a)
    if axis is None:
        x, axis = ravel(x), 0
    k = one_axis(axis, x.ndim)
    extent = x.shape[k]
    if extent == 0 and 0 not in known_shape(indices):
        raise IndexError("cannot do a non-empty take from an empty axes.")
    if mode == "raise" and known_index(indices):
        given = np.asarray(indices)
        outside = given[(given < -extent) | (given >= extent)] if given.dtype.kind in "biu" else given[:0]
        if outside.size:
            raise IndexError(f"index {outside.reshape(-1)[0]} is out of bounds for axis {k} with size {extent}")
    index = placed(integer_node("take", indices), extent, mode)
    gathered = ops.gather(to_node(x), index, axes=(k,), mode="raise")
    order = list(range(index.type.ndim, gathered.type.ndim))
    order[k:k] = range(index.type.ndim)
    return stored(wrap(ops.transpose_to(gathered, order)), out)


def along(name: str, x: Tracer, indices: Any, axis: int) -> tuple[int, tuple[Any, ...]]:
    """The index tuple of take_along_axis and put_along_axis: the shapes but for ``axis`` broadcast."""
    index = to_tracer(indices)
    if not index._node.type.dtype.is_integer:
        raise IndexError("`indices` must be an integer array")
    if x.ndim != index.ndim:
        raise ValueError("`indices` and `arr` must have the same number of dimensions")
    k = one_axis(axis, x.ndim)
    shape = np.broadcast_shapes(without(x.shape, k), without(index.shape, k))
    spread = (*shape[:k], index.shape[k], *shape[k + 1 :])
    # Along an axis of length 1 of the array its one element is taken, however many the indices have.
    parts = [
        broadcast_to(index, spread)
        if j == k
        else wrap(ops.iota(shape=spread, axis=j, to=i64) if x.shape[j] != 1 else ops.zeros(TensorType(i64, spread)))
        for j in range(x.ndim)
    ]
    return k, tuple(parts)


def without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], 1, *shape[axis + 1 :])


@traces(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Tracer:
    x = to_tracer(arr)
    if axis is None:
        if np.ndim(indices) != 1:
            raise ValueError("when axis=None, `indices` must have a single dimension.")
        return take_along_axis(ravel(x), indices, 0)
    return x[along("take_along_axis", x, indices, axis)[1]]


def writable(name: str, a: Any) -> Tracer:
    if not is_tracer(a):
        refuse(
            f"np.{name} would write a traced value into a NumPy array",
            "make the array of traced values too: a = np.zeros_like(x) or a = graphc.numpy.zeros(shape)",
        )
    return a


@traces(np.put_along_axis)
def put_along_axis(arr: Any, indices: Any, values: Any, axis: Any = -1) -> None:
    x = writable("put_along_axis", arr)
    if axis is None:
        if np.ndim(indices) != 1:
            raise ValueError("when axis=None, `indices` must have a single dimension.")
        flat = Flat(x)
        flat[indices] = values
        return
    x[along("put_along_axis", x, indices, axis)[1]] = values


@traces(np.put, method="put")
def put(a: Any, ind: Any, v: Any, mode: str = "raise") -> None:
    """Written into the flattened array; fewer values than places are repeated."""
    x = writable("put", a)
    index = integer_node("put", ind)
    count = index.type.size
    if 0 in known_shape(v) or count == 0:
        return
    flat = Flat(x)
    if mode == "raise" and known_index(ind):
        flat[np.asarray(ind, np.int64).reshape(-1)] = v
        return
    flat[wrap(ops.reshape_to(placed(index, x.size, mode), (count,)))] = v


@traces(np.place)
def place(arr: Any, mask: Any, vals: Any) -> None:
    """The first values where the mask holds, in order, from the start again when they are used up."""
    x = writable("place", arr)
    values = to_node(vals, x._node.type.dtype)
    holds = to_node(mask, bool_)
    if holds.type.size != x.size:
        raise ValueError("place: mask and data must be the same size")
    if values.type.size == 0:
        raise ValueError("Cannot insert from an empty array!")
    line = ops.reshape_to(holds, (x.size,))
    number = ops.sub(ops.cumsum(ops.convert(line, i64), axis=0, reverse=False), ops.like(ops.convert(line, i64), 1))
    number = ops.remainder(number, ops.like(number, values.type.size))
    chosen = ops.gather(ops.reshape_to(values, (values.type.size,)), number, axes=(0,), mode="raise")
    new = ops.select(line, chosen, ops.reshape_to(to_node(x), (x.size,)))
    x._assign(ops.reshape_to(new, x.shape))


@traces(np.putmask)
def putmask(a: Any, mask: Any, values: Any) -> None:
    """Where the mask holds, the value of the same place in the flattened array; fewer values are repeated."""
    x = writable("putmask", a)
    holds = to_node(mask, bool_)
    if holds.type.size != x.size:
        raise ValueError("putmask: mask and data must be the same size")
    node = to_node(values, x._node.type.dtype)
    if node.type.size == 0:
        return
    line = repeated(ops.reshape_to(node, (node.type.size,)), x.size)
    x._assign(ops.select(ops.reshape_to(holds, x.shape), ops.reshape_to(line, x.shape), to_node(x)))


# ------------------------------------------------------------------------------------------------ choices


@traces(np.choose)
def choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Tracer:
    options = list(choices)
    if not options:
        raise ValueError("choose: there are no choices")
    index = integer_node("choose", a)
    if mode == "raise" and known_index(a) and np.any((np.asarray(a) < 0) | (np.asarray(a) >= len(options))):
        raise ValueError("invalid entry in choice array")
    element = promote(*options)
    index, *nodes = broadcast_together([index, *[to_node(c, element) for c in options]])
    if mode == "raise":  # a negative number is no choice
        index = ops.select(ops.lt(index, ops.like(index, 0)), ops.like(index, len(options)), index)
    index = placed(index, len(options), mode)
    rows = ops.concatenate(*[ops.reshape_to(n, (1, n.type.size)) for n in nodes], axis=0)
    column = ops.iota(shape=(index.type.size,), axis=0, to=i64)
    line = ops.reshape_to(index, (index.type.size,))
    chosen = ops.gather(rows, line, column, axes=(0, 1), mode="raise")
    return stored(wrap(ops.reshape_to(chosen, index.type.shape)), out)


METHODS["choose"] = lambda x, *choices, out=None, mode="raise": choose(
    x, choices[0] if len(choices) == 1 else choices, out, mode
)


@traces(np.select)
def select(condlist: Any, choicelist: Any, default: Any = 0) -> Tracer:
    conditions, choices = list(condlist), list(choicelist)
    if len(conditions) != len(choices):
        raise ValueError("list of cases must be same length as list of conditions")
    if not conditions:
        raise ValueError("select with an empty condition list is not possible")
    for k, condition in enumerate(conditions):
        if element_type(condition) is not bool_:
            raise TypeError(f"invalid entry {k} in condlist: should be boolean ndarray")
    element = common_type([kind_of(v) for v in (*choices, default)])
    values = [to_node(wrapped_integer(v, element), element) for v in (*choices, default)]
    nodes = broadcast_together([to_node(c) for c in conditions] + values)
    result = nodes[-1]
    for condition, choice in reversed(list(zip(nodes[: len(conditions)], nodes[len(conditions) : -1], strict=True))):
        result = ops.select(condition, choice, result)
    return wrap(result)


def kind_of(value: Any) -> DType | type:
    """What ``np.select`` asks: Python's int, float and complex are weak, its bool is not."""
    weak = weak_kind(value)
    return weak if weak is not None and weak is not bool else element_type(value)


@traces(np.piecewise)
def piecewise(x: Any, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Tracer:
    """Each function is called once, with what its condition selects (see :mod:`graphc.numpy.masked`)."""
    t = strong(x)
    conditions = [condlist] if single_condition(condlist, t) else list(condlist)
    conditions = [to_tracer(c).astype(bool) for c in conditions]
    functions = list(funclist)
    if len(functions) == len(conditions) + 1:
        anywhere = conditions[0]
        for condition in conditions[1:]:
            anywhere = anywhere | condition
        conditions.append(~anywhere)
    if len(conditions) != len(functions):
        raise ValueError(
            f"with {len(conditions)} condition(s), either {len(conditions)} or {len(conditions) + 1} functions are expected"
        )
    y = wrap(ops.zeros(t._node.type))
    if not t.size:
        return y
    for condition, function in zip(conditions, functions, strict=True):
        mask = broadcast_to(condition, t.shape)
        if callable(function):
            found = function(t[mask], *args, **kw)
            if is_tracer(found) and not isinstance(found, MaskedSelection) and found.ndim:
                raise UnsupportedError("np.piecewise: the functions are elementwise ones; write np.where or np.select")
        else:
            found = function
        y[mask] = found
    return y


def single_condition(condlist: Any, x: Tracer) -> bool:
    """Whether ``condlist`` is one condition rather than a list of them: NumPy's rule."""
    if not known_shape(condlist):
        return True
    return not isinstance(condlist[0], (list, np.ndarray)) and x.ndim != 0 or is_vector(condlist) and x.ndim != 0


def is_vector(value: Any) -> bool:
    return is_tracer(value) and value.ndim == 1


# ------------------------------------------------------------------------------------------------ flat places


def checked(index: Node, extent: int) -> Node:
    """``index``, which raises IndexError when the program runs where it is not in [0, extent)."""
    zero = ops.zeros(index.type)
    outside = ops.bit_or(ops.lt(index, zero), ops.ge(index, ops.like(index, extent)))
    nothing = ops.gather(ops.const(np.zeros(1, np.int64)), ops.convert(outside, i64), axes=(0,), mode="raise")
    return ops.add(index, nothing)


@traces(np.unravel_index)
def unravel_index(indices: Any, shape: Any, order: str = "C") -> tuple[Tracer, ...]:
    if order not in ("C", "F"):
        raise ValueError(f"order must be 'C' or 'F' (got {order!r})")
    extents = shape_of(shape)
    node = checked(integer_node("unravel_index", indices), int(np.prod(extents, dtype=np.int64)))
    parts = []
    for n in extents if order == "F" else reversed(extents):
        parts.append(wrap(ops.remainder(node, ops.like(node, max(n, 1)))))
        node = ops.floor_divide(node, ops.like(node, max(n, 1)))
    return tuple(parts if order == "F" else reversed(parts))


@traces(np.ravel_multi_index)
def ravel_multi_index(multi_index: Any, dims: Any, mode: Any = "raise", order: str = "C") -> Tracer:
    if order not in ("C", "F"):
        raise ValueError(f"order must be 'C' or 'F' (got {order!r})")
    extents = shape_of(dims)
    parts = [integer_node("ravel_multi_index", part) for part in multi_index]
    if len(parts) != len(extents):
        raise ValueError(f"parameter multi_index must be a sequence of length {len(extents)}")
    modes = (mode,) * len(extents) if isinstance(mode, str) else tuple(mode)
    parts = broadcast_together(parts)
    found = [
        checked(part, n) if how == "raise" else placed(part, n, how)
        for part, n, how in zip(parts, extents, modes, strict=True)
    ]
    weights = strides(extents if order == "F" else extents[::-1])
    weights = weights if order == "F" else weights[::-1]
    total = ops.zeros(parts[0].type)
    for part, weight in zip(found, weights, strict=True):
        total = ops.add(total, ops.mul(part, ops.like(part, weight)))
    return wrap(total)


def strides(extents: Sequence[int]) -> list[int]:
    """How far apart neighbours along each axis are, the first axis varying fastest."""
    return [int(n) for n in np.cumprod([1, *extents])[:-1]]
