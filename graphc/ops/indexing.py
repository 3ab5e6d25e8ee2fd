"""Indexing: elements read and written at places that are computed at run time.

``gather`` and ``scatter`` take one index tensor per indexed axis, all of one integer type and one shape I. With
``rest`` the axes of x that are not indexed, in order, gathered elements and updates have shape ``I + rest``. ``mode``
says what an index outside its axis means:

``raise``   NumPy's meaning: negative indices count from the end, others raise IndexError.
``clip``    the nearest place on the axis; negative indices mean place 0 (as in ``np.take``).
``drop``    nothing is there: gather reads 0, scatter leaves the update out. Negative indices are outside.

``dynamic_slice`` and ``dynamic_update_slice`` read and write a block of static size whose start is clamped into range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.ir import GraphError, Node, Op
from graphc.ops.arithmetic import add, convert, div, eq, iota, like, maximum, minimum, mul, select
from graphc.ops.base import batched_operands, check_axes, check_kind, const, define, full, linear_jvp, shifted, zeros
from graphc.ops.movement import broadcast, move_axis, pad, reshape_to, slice_, transpose_to
from graphc.types import DType, TensorType, Type, i32, i64

Axes = tuple[int, ...]

MODES = ("raise", "clip", "drop")
#: combine of scatter → the element kinds it takes and NumPy's ufunc (None: assignment)
COMBINES: dict[str, tuple[str, Any]] = {
    "set": ("biufc", None),
    "add": ("iufc", np.add),
    "mul": ("iufc", np.multiply),
    "min": ("biuf", np.minimum),
    "max": ("biuf", np.maximum),
}


def rest_axes(ndim: int, axes: Sequence[int]) -> Axes:
    """The axes that are not indexed, in order."""
    return tuple(k for k in range(ndim) if k not in axes)


def _gathered_shape(name: str, x: TensorType, indices: Sequence[TensorType], axes: Axes, mode: str) -> Axes:
    """I + rest, after checking what gather and scatter share. Raises GraphError."""
    check_kind(name, x, "biufc")
    check_axes(name, x, axes)
    if mode not in MODES:
        raise GraphError(f"{name}: mode is one of {', '.join(MODES)}, not {mode!r}")
    if not indices or len(indices) != len(axes):
        raise GraphError(
            f"{name}: {len(indices)} index tensors for axes {axes} of {x}; it takes one per axis, at least one"
        )
    for index in indices:
        check_kind(name, index, "iu")
        if index != indices[0]:
            raise GraphError(f"{name} needs index tensors of one type, not {', '.join(map(str, indices))}")
    if mode == "clip" and indices[0].size and any(x.shape[a] == 0 for a in axes):
        raise GraphError(f"{name}: no index can be clipped to an empty axis (axes {axes} of {x})")
    return (*indices[0].shape, *[x.shape[k] for k in rest_axes(x.ndim, axes)])


def flat_places(indices: Sequence[np.ndarray], extents: Axes, axes: Axes, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Flat place of each index tuple among the indexed axes (in C order of ``axes``), and which tuples are in range.

    Both have shape [size of I]. Places out of range are 0. Raises IndexError in NumPy's words (mode ``raise``).
    """
    flat = np.zeros(indices[0].size, np.int64)
    inside = np.ones(indices[0].size, bool)
    for index, extent, axis in zip(indices, extents, axes, strict=True):
        index = np.ravel(index)
        if index.dtype == np.uint64:
            index = np.minimum(index, np.uint64(2**63 - 1))
        index = given = index.astype(np.int64)
        if mode == "raise":
            index = np.where(index < 0, index + extent, index)
        elif mode == "clip":
            index = np.clip(index, 0, max(extent - 1, 0))
        fits = (index >= 0) & (index < extent)
        if mode == "raise" and not fits.all():
            bad = given[np.argmin(fits)]
            raise IndexError(f"index {bad} is out of bounds for axis {axis} with size {extent}")
        inside &= fits
        flat = flat * extent + index
    return np.where(inside, flat, 0), inside


# ------------------------------------------------------------------------------------------------ gather


def _gather_type(x: TensorType, *indices: TensorType, axes: Axes, mode: str) -> Type:
    return TensorType(x.dtype, _gathered_shape("gather", x, indices, axes, mode))


def _gather_eval(x: np.ndarray, *indices: np.ndarray, axes: Axes, mode: str) -> np.ndarray:
    rest = rest_axes(x.ndim, axes)
    extents, tail = tuple(x.shape[a] for a in axes), tuple(x.shape[k] for k in rest)
    places, inside = flat_places(indices, extents, axes, mode)
    table = x.transpose(*axes, *rest).reshape(math.prod(extents), *tail)
    if inside.all():
        rows = table[places]
    else:
        rows = np.zeros((len(places), *tail), x.dtype)
        rows[inside] = table[places[inside]]
    return rows.reshape((*indices[0].shape, *tail))


def _gather_vjp(ct: Node, out: Node, x: Node, *indices: Node, axes: Axes, mode: str) -> tuple[Node | None, ...]:
    added = scatter(zeros(x.type), ct, *indices, axes=axes, mode=mode, combine="add")
    return (added, *[None] * len(indices))


def _with_batch_index(size: int, flags: Sequence[bool], indices: Sequence[Node]) -> list[Node]:
    """Index tensors of shape [size] + I for x with a leading batch axis: the number of the batch member comes first."""
    indices = batched_operands(size, flags, indices)
    element = indices[0].type.dtype
    if size - 1 > np.iinfo(element.numpy).max:
        element = i64
        indices = [convert(i, i64) for i in indices]
    return [iota(shape=indices[0].type.shape, axis=0, to=element), *indices]


def _gather_batch(size: int, flags: Sequence[bool], x: Node, *indices: Node, axes: Axes, mode: str) -> Node:
    if not any(flags[1:]):
        return move_axis(gather(x, *indices, axes=shifted(axes), mode=mode), indices[0].type.ndim, 0)
    if flags[0]:
        every = _with_batch_index(size, flags[1:], indices)
        return gather(x, *every, axes=(0, *shifted(axes)), mode=mode)
    return gather(x, *batched_operands(size, flags[1:], indices), axes=axes, mode=mode)


#: ``gather(x, *indices, axes=, mode=)``: result[i + r] is x at place ``indices[k][i]`` of axis ``axes[k]`` and r of
#: the rest.
gather: Op = define(
    Op(
        "gather",
        "indexing",
        infer=_gather_type,
        eval=_gather_eval,
        vjp=_gather_vjp,
        jvp=linear_jvp(lambda: gather),
        batch=_gather_batch,
    )
)


# ------------------------------------------------------------------------------------------------ scatter


def _scatter_type(
    x: TensorType, updates: TensorType, *indices: TensorType, axes: Axes, mode: str, combine: str
) -> Type:
    if combine not in COMBINES:
        raise GraphError(f"scatter: combine is one of {', '.join(COMBINES)}, not {combine!r}")
    check_kind(f"scatter with combine={combine!r}", x, COMBINES[combine][0])
    want = TensorType(x.dtype, _gathered_shape("scatter", x, indices, axes, mode))
    if updates != want:
        raise GraphError(f"scatter into axes {axes} of {x} takes updates {want}, not {updates}")
    return x


def _scatter_eval(
    x: np.ndarray, updates: np.ndarray, *indices: np.ndarray, axes: Axes, mode: str, combine: str
) -> np.ndarray:
    order = (*axes, *rest_axes(x.ndim, axes))
    extents = tuple(x.shape[a] for a in axes)
    places, inside = flat_places(indices, extents, axes, mode)
    result = np.array(x.transpose(order), order="C")
    width = math.prod(result.shape[len(axes) :])
    rows = np.reshape(updates, (len(places), width))[inside]
    places = places[inside]
    if combine == "set":
        result.reshape(math.prod(extents), width)[places] = (
            rows  # one index vector: NumPy assigns in order, the last stays
        )
    else:
        cells = places[:, None] * width + np.arange(width)
        with np.errstate(all="ignore"):
            COMBINES[combine][1].at(result.reshape(-1), cells.ravel(), rows.ravel())
    return result.transpose(np.argsort(order))


def _winners(x: Node, indices: Sequence[Node], axes: Axes, mode: str) -> Node:
    """For each index tuple, 1 + the number of the last tuple with the same place; 0 where it is dropped. Shape I."""
    lead = tuple(range(len(axes)))
    target = TensorType(_counter(indices), tuple(x.type.shape[a] for a in axes))
    numbers = scatter(zeros(target), _numbers(indices), *indices, axes=lead, mode=mode, combine="set")
    return gather(numbers, *indices, axes=lead, mode=mode)


def _counter(indices: Sequence[Node]) -> DType:
    return i32 if indices[0].type.size < 2**31 - 1 else i64


def _numbers(indices: Sequence[Node]) -> Node:
    """1, 2, 3, … over the index tuples in C order. Shape I."""
    size, element = indices[0].type.size, _counter(indices)
    line = add(iota(shape=(size,), axis=0, to=element), full(TensorType(element, (size,)), 1))
    return reshape_to(line, indices[0].type.shape)


def _over_rest(mask: Node, updates: Node) -> Node:
    """A tensor of shape I repeated over the rest of ``updates``."""
    return broadcast(mask, updates.type.shape, range(mask.type.ndim))


def _known(node: Node) -> np.ndarray | None:
    """The numbers of a tensor that no input takes part in: a constant or iota, perhaps moved or cast."""
    if node.op.name == "constant":
        return np.asarray(node["value"].value)
    if node.op.name not in ("iota", "broadcast_to", "reshape", "cast"):
        return None
    inputs = [_known(x) for x in node.inputs]
    if any(x is None for x in inputs):
        return None
    return np.asarray(node.op.eval(*inputs, **node.attributes()))


def _all_different(x: Node, indices: Sequence[Node], axes: Axes, mode: str) -> bool:
    """Whether the indices are known, and no two of them are one place: then every update stays."""
    known = [_known(index) for index in indices]
    if any(k is None for k in known):
        return False
    flat = np.zeros(indices[0].type.shape, np.int64)
    for index, axis in zip(known, axes, strict=True):
        extent = x.type.shape[axis]
        if index is None or index.size == 0 or index.min() < (-extent if mode == "raise" else 0) or index.max() >= extent:
            return False
        flat = flat * extent + index.astype(np.int64) % extent
    return bool(np.unique(flat).size == flat.size)


def _set_vjp(ct: Node, x: Node, updates: Node, indices: Sequence[Node], at: dict[str, Any]) -> tuple[Node, Node]:
    ct_x = scatter(ct, zeros(updates.type), *indices, **at, combine="set")
    ct_updates = gather(ct, *indices, **at)
    if indices[0].type.size > 1 and not _all_different(x, indices, **at):
        last = _over_rest(eq(_winners(x, indices, **at), _numbers(indices)), updates)
        ct_updates = select(last, ct_updates, zeros(updates.type))
    return ct_x, ct_updates


def _shift(x: Node, by: int, fill: Node) -> Node:
    """x moved by ``by`` places along axis 0, the first ones filled."""
    shape = x.type.shape
    start, ones = (0,) * (len(shape) - 1), (1,) * len(shape)
    kept = slice_(x, start=(0, *start), size=(shape[0] - by, *shape[1:]), step=ones)
    return pad(kept, fill, shape=shape, start=(by, *start), step=ones)


def _product_before(values: Node, segments: Node) -> Node:
    """Along axis 0, the product of the earlier values of the same segment (equal neighbours), by doubling."""
    one, nothing = const(1, values.type.dtype), const(-1, segments.type.dtype)

    def earlier(products: Node, by: int) -> Node:
        same = _over_rest(eq(segments, _shift(segments, by, nothing)), values)
        return select(same, _shift(products, by, one), full(values.type, 1))

    products, by = values, 1
    while by < values.type.shape[0]:
        products = mul(products, earlier(products, by))
        by *= 2
    return earlier(products, 1)


def _product_of_others(x: Node, updates: Node, indices: Sequence[Node], axes: Axes, mode: str) -> Node:
    """For each update the product of the other updates of its place.

    Segmented products over the updates sorted by place: no division, so it is right at zeros, as are its derivatives.
    """
    from graphc.ops.sorting import argsort

    count = indices[0].type.size
    segments = reshape_to(_winners(x, indices, axes, mode), (count,))
    dropped = _over_rest(eq(segments, zeros(segments.type)), flat := _rows(updates, indices))
    order = argsort(segments, axis=0)
    segments = gather(segments, order, axes=(0,), mode="clip")
    values = gather(select(dropped, full(flat.type, 1), flat), order, axes=(0,), mode="clip")
    before = _product_before(values, segments)
    after = _backwards(_product_before(_backwards(values), _backwards(segments)))
    others = gather(mul(before, after), argsort(order, axis=0), axes=(0,), mode="clip")
    return reshape_to(others, updates.type.shape)


def product_per_place(x: Node, updates: Node, indices: Sequence[Node], axes: Axes, mode: str) -> Node:
    """For each place of ``x`` the product of its updates, 1 where there is none: what scatter multiplies it by."""
    ones = full(x.type, 1)
    if updates.type.size == 0:
        return ones
    others = _product_of_others(x, updates, indices, axes, mode) if indices[0].type.size > 1 else like(updates, 1)
    return scatter(ones, mul(updates, others), *indices, axes=axes, mode=mode, combine="set")


def _rows(updates: Node, indices: Sequence[Node]) -> Node:
    return reshape_to(updates, (indices[0].type.size, *updates.type.shape[indices[0].type.ndim :]))


def _backwards(x: Node) -> Node:
    shape = x.type.shape
    more = len(shape) - 1
    return slice_(x, start=(shape[0] - 1, *(0,) * more), size=shape, step=(-1, *(1,) * more))


def _mul_partials(x: Node, updates: Node, indices: Sequence[Node], at: dict[str, Any]) -> tuple[Node, Node]:
    """d out / d x at each place, and d out / d update at each update."""
    by_x = scatter(full(x.type, 1), updates, *indices, **at, combine="mul")
    by_updates = gather(x, *indices, **at)
    if indices[0].type.size > 1 and not _all_different(x, indices, **at):
        by_updates = mul(by_updates, _product_of_others(x, updates, indices, **at))
    return by_x, by_updates


def _extreme_partials(
    out: Node, x: Node, updates: Node, indices: Sequence[Node], at: dict[str, Any]
) -> tuple[Node, Node]:
    """1 at the winner of each place, in x and in the updates; all that tie share it equally (as in JAX)."""
    element = x.type.dtype
    x_wins = convert(eq(x, out), element)
    update_wins = convert(eq(updates, gather(out, *indices, **at)), element)
    count = scatter(x_wins, update_wins, *indices, **at, combine="add")
    return _share(x_wins, count), _share(update_wins, gather(count, *indices, **at))


def _share(wins: Node, count: Node) -> Node:
    """wins / count; 0 where there is no winner (NaN equals nothing, a dropped update counts nowhere)."""
    return div(wins, maximum(count, like(count, 1)))


def _partials(
    out: Node, x: Node, updates: Node, indices: Sequence[Node], at: dict[str, Any], combine: str
) -> tuple[Node, Node]:
    if combine == "mul":
        return _mul_partials(x, updates, indices, at)
    return _extreme_partials(out, x, updates, indices, at)


def _scatter_vjp(
    ct: Node, out: Node, x: Node, updates: Node, *indices: Node, axes: Axes, mode: str, combine: str
) -> tuple[Node | None, ...]:
    at = {"axes": axes, "mode": mode}
    none = [None] * len(indices)
    if combine == "set":
        return (*_set_vjp(ct, x, updates, indices, at), *none)
    arrived = gather(ct, *indices, **at)
    if combine == "add":
        return (ct, arrived, *none)
    by_x, by_updates = _partials(out, x, updates, indices, at, combine)
    return (mul(ct, by_x), mul(arrived, by_updates), *none)


def _scatter_jvp(
    tangents: Sequence[Node | None],
    out: Node,
    x: Node,
    updates: Node,
    *indices: Node,
    axes: Axes,
    mode: str,
    combine: str,
) -> Node | None:
    tx, tu = tangents[:2]
    if tx is None and tu is None:
        return None
    at = {"axes": axes, "mode": mode}
    if combine == "add" and tu is None:
        return tx
    tx = zeros(x.type) if tx is None else tx
    tu = zeros(updates.type) if tu is None else tu
    if combine in ("set", "add"):
        return scatter(tx, tu, *indices, **at, combine=combine)
    by_x, by_updates = _partials(out, x, updates, indices, at, combine)
    return scatter(mul(tx, by_x), mul(tu, by_updates), *indices, **at, combine="add")


def _scatter_batch(
    size: int, flags: Sequence[bool], x: Node, updates: Node, *indices: Node, axes: Axes, **attrs: Any
) -> Node:
    x, updates = batched_operands(size, flags[:2], (x, updates))
    if any(flags[2:]):
        every = _with_batch_index(size, flags[2:], indices)
        return scatter(x, updates, *every, axes=(0, *shifted(axes)), **attrs)
    # The batch axis is one of the rest here, and the first of them.
    updates = move_axis(updates, 0, indices[0].type.ndim)
    return scatter(x, updates, *indices, axes=shifted(axes), **attrs)


#: ``scatter(x, updates, *indices, axes=, mode=, combine=)``: x with each update combined into its place, in order
#: (C order of I). ``set``: the last update of a place wins, and only it gets the cotangent. ``add``, ``mul``,
#: ``min``, ``max``: all take part, as in ``np.add.at``; winners of min and max that tie share the cotangent
#: equally.
scatter: Op = define(
    Op(
        "scatter",
        "indexing",
        infer=_scatter_type,
        eval=_scatter_eval,
        vjp=_scatter_vjp,
        jvp=_scatter_jvp,
        batch=_scatter_batch,
    )
)


# ------------------------------------------------------------------------------------------------ dynamic slices


def _check_starts(name: str, x: TensorType, starts: Sequence[TensorType], size: Axes) -> None:
    check_kind(name, x, "biufc")
    if len(starts) != x.ndim or len(size) != x.ndim:
        raise GraphError(f"{name}: {len(starts)} starts and size {size} for {x}; it takes one per axis")
    for start in starts:
        check_kind(name, start, "iu")
        if start.shape or start != starts[0]:
            raise GraphError(f"{name} needs scalar starts of one integer type, not {', '.join(map(str, starts))}")
    if not all(0 <= n <= extent for n, extent in zip(size, x.shape, strict=True)):
        raise GraphError(f"{name}: a block of {size} does not fit into {x}")


def _block(starts: Sequence[Any], size: Axes, shape: Axes) -> tuple[slice, ...]:
    """The NumPy index of the block, its starts clamped into range."""
    clamped = [min(max(int(s), 0), extent - n) for s, n, extent in zip(starts, size, shape, strict=True)]
    return tuple(slice(s, s + n) for s, n in zip(clamped, size, strict=True))


def _dynamic_slice_type(x: TensorType, *starts: TensorType, size: Axes) -> Type:
    _check_starts("dynamic_slice", x, starts, size)
    return TensorType(x.dtype, tuple(size))


def _dynamic_slice_vjp(ct: Node, out: Node, x: Node, *starts: Node, size: Axes) -> tuple[Node | None, ...]:
    return (dynamic_update_slice(zeros(x.type), ct, *starts), *[None] * len(starts))


def _block_indices(
    size: int, flags: Sequence[bool], x_shape: Axes, starts: Sequence[Node], block: Axes
) -> tuple[Axes, list[Node]]:
    """Batched starts as index tensors: the axes of x that the block does not span, and an index tensor for each.

    The index tensors have shape [size] + the block's extents along those axes, and lie in range.
    """
    axes = tuple(k for k, n in enumerate(block) if n != x_shape[k])
    shape = (size, *[block[k] for k in axes])
    indices = []
    for position, k in enumerate(axes):
        start = convert(starts[k] if flags[k] else broadcast(starts[k], (size,), ()), i64)
        start = minimum(maximum(start, like(start, 0)), like(start, x_shape[k] - block[k]))
        indices.append(add(broadcast(start, shape, (0,)), iota(shape=shape, axis=position + 1, to=i64)))
    return axes, indices


def _block_order(ndim: int, axes: Axes) -> Axes:
    """Where the axes of a batched block (batch axis first) are in a gathered tensor: batch, ``axes``, rest."""
    have = [0, *shifted(axes), *shifted(rest_axes(ndim, axes))]
    return tuple(have.index(k) for k in range(ndim + 1))


def _first(starts: Sequence[Node]) -> Node:
    """The start of a batch axis that the block spans."""
    return const(0, starts[0].type.dtype if starts else i64)


def _dynamic_slice_batch(count: int, flags: Sequence[bool], x: Node, *starts: Node, size: Axes) -> Node:
    if not any(flags[1:]):
        return dynamic_slice(x, _first(starts), *starts, size=(count, *size))
    shape = x.type.shape[1:] if flags[0] else x.type.shape
    axes, indices = _block_indices(count, flags[1:], shape, starts, size)
    if not axes:  # the block is all of x, wherever it starts
        return batched_operands(count, flags[:1], (x,))[0]
    flags = (flags[0], *[True] * len(axes))
    return transpose_to(
        _gather_batch(count, flags, x, *indices, axes=axes, mode="clip"), _block_order(len(shape), axes)
    )


#: ``dynamic_slice(x, *starts, size=)``: the block of ``size`` at ``starts``, each clamped to [0, extent - size] as
#: in JAX.
dynamic_slice: Op = define(
    Op(
        "dynamic_slice",
        "indexing",
        infer=_dynamic_slice_type,
        eval=lambda x, *starts, size: x[_block(starts, size, x.shape)],
        vjp=_dynamic_slice_vjp,
        jvp=linear_jvp(lambda: dynamic_slice),
        batch=_dynamic_slice_batch,
    )
)


def _update_type(x: TensorType, update: TensorType, *starts: TensorType) -> Type:
    if update.dtype is not x.dtype or update.ndim != x.ndim:
        raise GraphError(f"dynamic_update_slice: {update} does not fit into {x}")
    _check_starts("dynamic_update_slice", x, starts, update.shape)
    return x


def _update_eval(x: np.ndarray, update: np.ndarray, *starts: np.ndarray) -> np.ndarray:
    result = np.array(x)
    result[_block(starts, update.shape, x.shape)] = update
    return result


def _update_vjp(ct: Node, out: Node, x: Node, update: Node, *starts: Node) -> tuple[Node | None, ...]:
    return (
        dynamic_update_slice(ct, zeros(update.type), *starts),
        dynamic_slice(ct, *starts, size=update.type.shape),
        *[None] * len(starts),
    )


def _update_jvp(tangents: Sequence[Node | None], out: Node, x: Node, update: Node, *starts: Node) -> Node | None:
    tx, tu = tangents[:2]
    if tx is None and tu is None:
        return None
    return dynamic_update_slice(zeros(x.type) if tx is None else tx, zeros(update.type) if tu is None else tu, *starts)


def _update_batch(size: int, flags: Sequence[bool], x: Node, update: Node, *starts: Node) -> Node:
    x, update = batched_operands(size, flags[:2], (x, update))
    if not any(flags[2:]):
        return dynamic_update_slice(x, update, _first(starts), *starts)
    block = update.type.shape[1:]
    axes, indices = _block_indices(size, flags[2:], x.type.shape[1:], starts, block)
    if not axes:
        return update
    inverse = np.argsort(_block_order(len(block), axes))
    update = transpose_to(update, tuple(int(k) for k in inverse))
    every = (True, True, *[True] * len(axes))
    return _scatter_batch(size, every, x, update, *indices, axes=axes, mode="clip", combine="set")


#: ``dynamic_update_slice(x, update, *starts)``: x with the block at ``starts`` (clamped as in dynamic_slice) replaced.
dynamic_update_slice: Op = define(
    Op(
        "dynamic_update_slice",
        "indexing",
        infer=_update_type,
        eval=_update_eval,
        vjp=_update_vjp,
        jvp=_update_jvp,
        batch=_update_batch,
    )
)


# ------------------------------------------------------------------------------------------------ along one axis


def _along(index: Node, axis: int) -> list[Node]:
    """An index tensor for every axis: ``index`` itself along ``axis``, each element's own place along the others."""
    if max(index.type.shape) > np.iinfo(index.type.dtype.numpy).max:
        index = convert(index, i64)
    type = index.type
    return [index if k == axis else iota(shape=type.shape, axis=k, to=type.dtype) for k in range(type.ndim)]


def take_along_axis(x: Node, index: Node, axis: int, mode: str = "raise") -> Node:
    """``np.take_along_axis``: ``index`` has the shape of x but along ``axis``."""
    return gather(x, *_along(index, axis), axes=tuple(range(x.type.ndim)), mode=mode)


def add_along_axis(x: Node, updates: Node, index: Node, axis: int, mode: str = "raise") -> Node:
    """x with ``updates`` added where take_along_axis would read."""
    at = {"axes": tuple(range(x.type.ndim)), "mode": mode, "combine": "add"}
    return scatter(x, updates, *_along(index, axis), **at)


__all__ = [
    "COMBINES", "MODES", "add_along_axis", "dynamic_slice", "dynamic_update_slice", "flat_places", "gather", "rest_axes",
    "scatter", "take_along_axis",
]  # fmt: skip
