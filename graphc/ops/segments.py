"""Scatters by sorted index: the contributions to one place are brought together, then combined in order.

``segments`` sorts index tuples by the place that they name, ``segment_reduce`` combines the updates of each place. A pass
makes them of ``scatter`` nodes, so that scatters and gradients of gathers that use one index share the sorting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.ir import GraphError, Node, Op
from graphc.ops.arithmetic import convert, iota, le
from graphc.ops.base import batched_operands, check_kind, define, zeros
from graphc.ops.indexing import COMBINES, MODES, flat_places, scatter
from graphc.ops.movement import broadcast, concatenate, reshape_to, slice_
from graphc.ops.reduction import reduce_sum
from graphc.ops.structure import items
from graphc.types import TensorType, TupleType, Type, i32

LARGEST = 2**31 - 1


def _segments_type(*indices: TensorType, extents: tuple[int, ...], axes: tuple[int, ...], mode: str) -> Type:
    if mode not in MODES:
        raise GraphError(f"segments: mode is one of {', '.join(MODES)}, not {mode!r}")
    if not indices or not len(indices) == len(extents) == len(axes):
        raise GraphError(f"segments takes an index tensor per extent, not {len(indices)} for {extents} at axes {axes}")
    for index in indices:
        check_kind("segments", index, "iu")
        if index.ndim != 1 or index != indices[0]:
            raise GraphError(f"segments needs index vectors of one type, not {', '.join(map(str, indices))}")
    count, places = indices[0].size, math.prod(extents)
    if max(count, places) >= LARGEST or (mode == "clip" and count and not places):
        raise GraphError(f"segments cannot sort {count} indices by {places} places")
    return TupleType((TensorType(i32, (places + 1,)), TensorType(i32, (count,))))


def _segments_eval(
    *indices: np.ndarray, extents: tuple[int, ...], axes: tuple[int, ...], mode: str
) -> tuple[np.ndarray, np.ndarray]:
    places, inside = flat_places(indices, extents, axes, mode)
    size = math.prod(extents)
    places = np.where(inside, places, size)
    counts = np.bincount(places, minlength=size + 1)[:size]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return starts, np.argsort(places, kind="stable").astype(np.int32)


def _member(x: Node, number: int) -> Node:
    """One member of a batch."""
    start, shape = (number, *(0 for _ in x.type.shape[1:])), x.type.shape[1:]
    return reshape_to(slice_(x, start=start, size=(1, *shape), step=(1,) * x.type.ndim), shape)


def _one_by_one(
    op: Op, size: int, flags: Sequence[bool], inputs: Sequence[Node], attrs: dict[str, Any]
) -> tuple[Node, ...]:
    """The results of ``op`` on each member of a batch."""
    inputs = batched_operands(size, flags, inputs)
    types = op.infer(*(TensorType(x.type.dtype, x.type.shape[1:]) for x in inputs), **attrs)
    results = types.items if isinstance(types, TupleType) else (types,)
    if size == 0:
        return tuple(zeros(TensorType(t.dtype, (0, *t.shape))) for t in results)
    made = [op(*(_member(x, k) for x in inputs), **attrs) for k in range(size)]
    every = [items(node) if isinstance(types, TupleType) else (node,) for node in made]
    return tuple(
        concatenate(*(reshape_to(x, (1, *t.shape)) for x in members), axis=0)
        for t, members in zip(results, zip(*every, strict=True), strict=True)
    )


#: ``segments(*indices, extents=, axes=, mode=)``: the numbers of the index tuples, stably sorted by place (in C order of
#: ``extents``), as ``(starts, order)``: those of place p are ``order[starts[p]:starts[p + 1]]``. Dropped ones come last.
#: ``axes`` name the extents in errors.
segments: Op = define(
    Op(
        "segments",
        "indexing",
        infer=_segments_type,
        eval=_segments_eval,
        vjp=lambda ct, out, *indices, **attrs: (None,) * len(indices),
        jvp=lambda tangents, out, *indices, **attrs: (None, None),
        batch=lambda size, flags, *indices, **attrs: _one_by_one(segments, size, flags, indices, attrs),
    )
)


def _reduce_type(x: TensorType, updates: TensorType, starts: TensorType, order: TensorType, combine: str) -> Type:
    if combine not in COMBINES or COMBINES[combine][1] is None:
        raise GraphError(f"segment_reduce: combine is one of add, mul, min, max, not {combine!r}")
    kinds = COMBINES[combine][0].replace("c", "")  # complex scatters are two real ones by now
    check_kind(f"segment_reduce with combine={combine!r}", x, kinds)
    if x.ndim == 0 or starts != TensorType(i32, (x.shape[0] + 1,)) or order.dtype is not i32 or order.ndim != 1:
        raise GraphError(
            f"segment_reduce into {x} takes i32[{x.shape[:1]} + 1] starts and an i32 order, not {starts}, {order}"
        )
    if updates != TensorType(x.dtype, (order.size, *x.shape[1:])):
        raise GraphError(f"segment_reduce of {order.size} updates into {x} does not take {updates}")
    return x


def _reduce_eval(x: np.ndarray, updates: np.ndarray, starts: np.ndarray, order: np.ndarray, combine: str) -> Any:
    result = np.array(x, order="C")
    places = np.repeat(np.arange(len(x)), np.diff(starts))
    cells = places[:, None] * math.prod(x.shape[1:]) + np.arange(math.prod(x.shape[1:]))
    with np.errstate(all="ignore"):
        COMBINES[combine][1].at(result.reshape(-1), cells.ravel(), updates[order[: len(places)]].ravel())
    return result


def _places(x: Node, starts: Node, order: Node) -> Node:
    """The place of each update, the number of places for those that have none: the index of a scatter with this meaning.

    Rules of derivatives are made of it. Passes sort scatters after programs have been differentiated, so that the table
    of comparisons is never made for a large program.
    """
    count, places = order.type.size, x.type.shape[0]
    shape = (count, places)
    ends = broadcast(slice_(starts, start=(1,), size=(places,), step=(1,)), shape, (1,))
    rows = reduce_sum(convert(le(ends, iota(shape=shape, axis=0, to=i32)), i32), axes=(1,))
    return scatter(zeros(order.type), rows, order, axes=(0,), mode="clip", combine="set")


def _as_scatter(x: Node, updates: Node, starts: Node, order: Node, combine: str) -> tuple[Node, dict[str, Any]]:
    return _places(x, starts, order), {"axes": (0,), "mode": "drop", "combine": combine}


def _reduce_vjp(ct: Node, out: Node, x: Node, updates: Node, starts: Node, order: Node, combine: str) -> Sequence[Any]:
    places, attrs = _as_scatter(x, updates, starts, order, combine)
    assert scatter.vjp is not None
    return (*scatter.vjp(ct, out, x, updates, places, **attrs)[:2], None, None)


def _reduce_jvp(
    tangents: Sequence[Node | None], out: Node, x: Node, updates: Node, starts: Node, order: Node, combine: str
) -> Node | None:
    places, attrs = _as_scatter(x, updates, starts, order, combine)
    assert scatter.jvp is not None
    return scatter.jvp((*tangents[:2], None), out, x, updates, places, **attrs)


#: ``segment_reduce(x, updates, starts, order, combine=)``: row p of x combined, in order, with the rows
#: ``order[starts[p]:starts[p + 1]]`` of ``updates``.
segment_reduce: Op = define(
    Op(
        "segment_reduce",
        "indexing",
        infer=_reduce_type,
        eval=_reduce_eval,
        vjp=_reduce_vjp,
        jvp=_reduce_jvp,
        batch=lambda size, flags, *inputs, **attrs: _one_by_one(segment_reduce, size, flags, inputs, attrs)[0],
    )
)

__all__ = ["segment_reduce", "segments"]
