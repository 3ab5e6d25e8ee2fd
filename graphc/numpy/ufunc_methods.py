"""Methods of NumPy's ufuncs on traced arrays: reduce, accumulate, outer, reduceat, and at with traced indices.

Any binary ufunc has them. Those with an op of their own (sums, products, extremes, and/or of bools) use it; associative ones
are folded in halves, which is as deep as the logarithm of the length; all others go from the first element to the last, in
a scan where that is long. What NumPy says of bad arguments it says itself: every call is first tried on a small stand-in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import Builder, Node
from graphc.leaks import UnsupportedError, refuse
from graphc.location import where as here
from graphc.numpy.indexing import spread_updates, ufunc_at, window_of
from graphc.numpy.indices import selection
from graphc.numpy.reductions import keep
from graphc.numpy.tables import NO_VALUE, axes_of, element_of, given, strong
from graphc.ops.control import scan
from graphc.ops.reduction import highest, lowest
from graphc.promotion import same_kind
from graphc.tracers import call_ufunc
from graphc.tracing import (
    FUNCTIONS,
    METHODS,
    NAMED_UFUNCS,
    UFUNCS,
    Trace,
    Tracer,
    apply_ufunc,
    cast_back,
    current_trace,
    element_type,
    is_tracer,
    promote,
    to_node,
    to_tracer,
    type_of,
    weak_kind,
    wrap,
)
from graphc.types import DType, TensorType, bf16, bool_, dtype

#: Left folds of at most so many steps are written out; longer ones are a scan.
UNROLLED = 8

#: ufuncs that are an op's reduction or running fold, of numbers and of bools
_REDUCTIONS: dict[Any, tuple[Any, Any]] = {
    np.add: (ops.reduce_sum, ops.reduce_or),
    np.multiply: (ops.reduce_prod, ops.reduce_and),
    np.maximum: (ops.reduce_max, ops.reduce_or),
    np.minimum: (ops.reduce_min, ops.reduce_and),
    np.logical_and: (None, ops.reduce_and),
    np.logical_or: (None, ops.reduce_or),
    np.bitwise_and: (None, ops.reduce_and),
    np.bitwise_or: (None, ops.reduce_or),
}
_RUNNING: dict[Any, tuple[Any, Any]] = {
    np.add: (ops.cumsum, ops.cummax),
    np.multiply: (ops.cumprod, ops.cummin),
    np.maximum: (ops.cummax, ops.cummax),
    np.minimum: (ops.cummin, ops.cummin),
    np.logical_and: (None, ops.cummin),
    np.logical_or: (None, ops.cummax),
    np.bitwise_and: (None, ops.cummin),
    np.bitwise_or: (None, ops.cummax),
}
#: Associative and commutative ufuncs, whose folds may be bracketed in any way; the others are folded from the left.
ASSOCIATIVE = frozenset(
    {
        *_REDUCTIONS, np.fmax, np.fmin, np.logaddexp, np.logaddexp2, np.hypot, np.bitwise_xor, np.logical_xor, np.gcd,
        np.lcm,
    }
)  # fmt: skip


# ------------------------------------------------------------------------------------------------ element types


def in_numpy(element: DType) -> np.dtype:
    """The element type that asks NumPy in place of ``element``: it does not know bf16."""
    return np.dtype(np.float32) if element is bf16 else element.numpy


def fold_type(ufunc: Any, own: DType, requested: Any, out: Any) -> DType:
    """The element type in which NumPy folds elements of type ``own``; f16 and bf16 stay what they are.

    NumPy widens bools and small integers in sums and products, unless ``out`` is given, whose type then takes part.
    """
    target = None if out is None else in_numpy(out._node.type.dtype)
    first = None if not given(requested) else in_numpy(element_of(requested))
    signature = {} if first is None else {"signature": (first, None, None)}
    found = ufunc.resolve_dtypes((target, in_numpy(own), None), casting="unsafe", reduction=True, **signature)
    if found[0] != found[1] and given(requested):
        raise UnsupportedError(
            f"np.{ufunc.__name__} of operands of different types is not folded in a given one (at {here()}); leave dtype= away"
        )
    if given(requested) and found[0] == first:
        return element_of(requested)
    return own if own is bf16 and found[0] == np.float32 else dtype(found[0])


def rule_of(ufunc: Any) -> Callable[..., Node]:
    rule = UFUNCS.get(ufunc) or NAMED_UFUNCS.get(ufunc.__name__)
    if rule is None:
        raise UnsupportedError(f"graphc does not trace the ufunc {ufunc.__name__} (at {here()})")
    return rule


def stand_in(x: Tracer, exact: int | None = None) -> np.ndarray:
    """A small array that NumPy says the same of as of ``x``: as many axes, empty where those are; axis ``exact`` whole."""
    shape = [n if k == exact else min(n, 2) for k, n in enumerate(x.shape)]
    return np.ones(shape, in_numpy(x._node.type.dtype))


def tried(ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
    """What NumPy gives; its errors are those of the call being traced."""
    with np.errstate(all="ignore"):
        return getattr(ufunc, method)(*args, **kwargs)


def options(dtype: Any, **more: Any) -> dict[str, Any]:
    """Keyword arguments for :func:`tried`, without those that were not given."""
    if given(dtype):
        more["dtype"] = in_numpy(element_of(dtype))
    return {k: v for k, v in more.items() if v is not NO_VALUE}



def target_of(out: Any) -> Any:
    """The one array of ``out=``, or None."""
    return out[0] if isinstance(out, tuple) else out


def written(ufunc: Any, out: Any, result: Tracer) -> Tracer:
    target = target_of(out)
    if target is None:
        return result
    if result.shape != target.shape:
        raise ValueError(
            f"output parameter for reduction operation {ufunc.__name__} has shape {target.shape}, the result has "
            f"{result.shape}"
        )
    return METHODS["write_out"](ufunc, (target,), result)


# ------------------------------------------------------------------------------------------------ folds


def neutral(ufunc: Any, element: DType) -> Any:
    """What takes part in a fold without changing it, or None: NumPy's identity, and those that it does not count as one."""
    if ufunc is np.maximum:
        return lowest(element)
    if ufunc is np.minimum:
        return highest(element)
    if ufunc in (np.fmax, np.fmin):
        return np.nan if element.is_inexact else neutral(np.maximum if ufunc is np.fmax else np.minimum, element)
    if ufunc is np.lcm:
        return 1
    if ufunc is np.bitwise_and:
        return np.array(-1).astype(element.numpy)[()]
    return ufunc.identity if ufunc in ASSOCIATIVE else None


def combine_by(ufunc: Any, element: DType) -> Callable[[Node, Node], Node]:
    rule = rule_of(ufunc)
    return lambda x, y: ops.convert(rule(x, y), element)


def part(x: Node, start: int, size: int, axis: int) -> Node:
    """``size`` places of ``x`` along ``axis``."""
    shape = x.type.shape
    first = tuple(start if k == axis else 0 for k in range(len(shape)))
    return ops.slice_(x, start=first, size=(*shape[:axis], size, *shape[axis + 1 :]), step=(1,) * len(shape))


def in_halves(x: Node, combine: Callable[[Node, Node], Node]) -> Node:
    """The fold of ``x`` along its last axis, of at least one element: halves combined, and theirs."""
    last = x.type.ndim - 1
    while (n := x.type.shape[-1]) > 1:
        half = n // 2
        folded = combine(part(x, 0, half, last), part(x, half, half, last))
        x = ops.concatenate(folded, part(x, n - 1, 1, last), axis=last) if n % 2 else folded
    return ops.reshape_to(x, x.type.shape[:-1])


def reduced_axes_last(x: Node, axes: Sequence[int]) -> Node:
    """``x`` with ``axes`` as one axis, the last."""
    kept = [k for k in range(x.type.ndim) if k not in axes]
    moved = ops.transpose_to(x, [*kept, *axes])
    count = math.prod(x.type.shape[k] for k in axes)
    return ops.reshape_to(moved, [*[x.type.shape[k] for k in kept], count])


def first_along(x: Node, axis: int, k: int = 0) -> Node:
    """Place ``k`` along ``axis``, which the result no longer has."""
    return ops.reshape_to(part(x, k, 1, axis), x.type.shape[:axis] + x.type.shape[axis + 1 :])


def from_the_left(step: Callable[..., Node], start: Node, xs: Sequence[Node], running: bool) -> Node:
    """``start = step(start, *x)`` over the leading axis of ``xs``; with ``running`` all results, stacked."""
    length = xs[0].type.shape[0]
    if length > UNROLLED:
        return scanned(step, start, xs, running)
    states = []
    for k in range(length):
        start = step(start, *[first_along(x, 0, k) for x in xs])
        states.append(ops.reshape_to(start, (1, *start.type.shape)))
    if not running:
        return start
    return (
        ops.concatenate(*states, axis=0) if states else ops.zeros(TensorType(start.type.dtype, (0, *start.type.shape)))
    )


def scanned(step: Callable[..., Node], start: Node, xs: Sequence[Node], running: bool) -> Node:
    length = xs[0].type.shape[0]
    with Builder("fold") as builder:
        inputs = [builder.input("state", start.type)]
        inputs += [builder.input(f"x{k}", TensorType(x.type.dtype, x.type.shape[1:])) for k, x in enumerate(xs)]
        state = step(*inputs)
        body = builder.graph([state, state] if running else [state], inputs=inputs)
    node = scan(start, *xs, body=body, n_carry=1, n_xs=len(xs), length=length, reverse=False)
    return ops.items(node)[-1]


def fold(ufunc: Any, x: Node, axes: Sequence[int], mask: Node | None = None, start: Node | None = None) -> Node:
    """``x`` folded over ``axes``, elements where ``mask`` does not hold left out, ``start`` as the one before the first.

    NumPy has been asked whether that exists.
    """
    element = x.type.dtype
    op = _REDUCTIONS.get(ufunc, (None, None))[element is bool_]
    if ufunc not in ASSOCIATIVE:
        return left_fold(ufunc, x, axes, mask, start)
    nothing = neutral(ufunc, element)
    if mask is not None:
        x = ops.select(mask, x, ops.like(x, nothing))
    if any(x.type.shape[k] == 0 for k in axes):
        result = ops.full(TensorType(element, tuple(n for k, n in enumerate(x.type.shape) if k not in axes)), nothing)
    elif op is not None:
        result = op(x, axes=tuple(axes))
    else:
        result = in_halves(reduced_axes_last(x, axes), combine_by(ufunc, element))
    return result if start is None else combine_by(ufunc, element)(start, result)


def left_fold(ufunc: Any, x: Node, axes: Sequence[int], mask: Node | None, start: Node | None) -> Node:
    """The fold of a ufunc whose order matters, over one axis at most."""
    combine = combine_by(ufunc, x.type.dtype)
    if not axes:
        return x if start is None else left_out(combine, mask, start, x)
    (axis,) = axes
    if ufunc is np.subtract:  # the first number minus all others, which are summed
        if start is None:
            start, x = first_along(x, axis), part(x, 1, x.type.shape[axis] - 1, axis)
        kept = x if mask is None else ops.select(mask, x, ops.zeros(x.type))
        return ops.sub(start, ops.reduce_sum(kept, axes=(axis,)))
    xs = [ops.move_axis(v, axis, 0) for v in (x, mask) if v is not None]
    if start is None:
        start = first_along(xs[0], 0)
        xs = [part(v, 1, v.type.shape[0] - 1, 0) for v in xs]
    return from_the_left(lambda s, v, m=None: left_out(combine, m, s, v), start, xs, False)


def left_out(combine: Callable[[Node, Node], Node], mask: Node | None, state: Node, x: Node) -> Node:
    """``combine(state, x)`` where ``mask`` holds, ``state`` elsewhere; derivatives never see the x left out."""
    if mask is None:
        return combine(state, x)
    safe = ops.select(mask, x, ops.like(x, 1))
    return ops.select(mask, combine(state, safe), state)


# ------------------------------------------------------------------------------------------------ reduce


def reduce(
    ufunc: Any, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: Any = False,
    initial: Any = NO_VALUE, where: Any = True,
) -> Tracer:  # fmt: skip
    """``np.subtract.reduce`` and the like."""
    x = strong(array)
    if is_tracer(initial) and initial.shape:
        raise ValueError("Input object to FillWithScalar is not a scalar")
    masked = where is not True and where is not NO_VALUE
    guess = np.ones((), in_numpy(initial._node.type.dtype))[()] if is_tracer(initial) else initial
    tried(
        ufunc, "reduce", stand_in(x), axis=axis, keepdims=bool(keepdims) and keepdims is not NO_VALUE,
        **options(dtype, initial=guess, where=np.ones((1,) * x.ndim, bool) if masked else NO_VALUE),
    )  # fmt: skip
    element = fold_type(ufunc, x._node.type.dtype, dtype, target_of(out))
    node = to_node(x, element)
    axes = axes_of(axis, node.type.ndim) if node.type.ndim else ()
    mask = ops.broadcast_numpy(to_node(where, bool_), node.type.shape) if masked else None
    kept = tuple(n for k, n in enumerate(node.type.shape) if k not in axes)
    if initial is NO_VALUE and ufunc in (np.hypot, np.gcd):  # NumPy starts at the identity, which makes one element positive
        initial = 0
    start = ops.broadcast_numpy(to_node(initial, element), kept) if given(initial) else None
    result = wrap(keep(fold(ufunc, node, axes, mask, start), node, axes, keepdims))
    return written(ufunc, out, result)


# ------------------------------------------------------------------------------------------------ accumulate


def accumulate(ufunc: Any, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Tracer:
    """``np.multiply.accumulate`` and the like: all the results of a fold along one axis."""
    x = strong(array)
    tried(ufunc, "accumulate", stand_in(x), axis=axis, **options(dtype))
    element = fold_type(ufunc, x._node.type.dtype, dtype, target_of(out))
    (axis,) = axes_of(int(axis), x.ndim)
    return written(ufunc, out, wrap(running_fold(ufunc, to_node(x, element), axis)))


def running_fold(ufunc: Any, x: Node, axis: int) -> Node:
    """Every element of ``x`` folded with those before it along ``axis``."""
    element, n = x.type.dtype, x.type.shape[axis]
    op = _RUNNING.get(ufunc, (None, None))[element is bool_]
    if n < 2 or x.type.size == 0:
        return x
    if op is not None:
        return op(x, axis=axis, reverse=False)
    combine = combine_by(ufunc, element)
    if ufunc in ASSOCIATIVE:
        return by_doubling(x, combine, axis)
    first, rest = part(x, 0, 1, axis), part(x, 1, n - 1, axis)
    if ufunc is np.subtract:
        spread = ops.expand(ops.reshape_to(first, kept_shape(x, axis)), rest, (axis,))
        later = ops.sub(spread, ops.cumsum(rest, axis=axis, reverse=False))
    else:
        lines = ops.move_axis(rest, axis, 0)
        later = ops.move_axis(from_the_left(combine, first_along(x, axis), [lines], True), 0, axis)
    return ops.concatenate(first, later, axis=axis)


def kept_shape(x: Node, axis: int) -> tuple[int, ...]:
    return x.type.shape[:axis] + x.type.shape[axis + 1 :]


def by_doubling(x: Node, combine: Callable[[Node, Node], Node], axis: int) -> Node:
    """Running folds of an associative function: after k rounds each element has taken in the 2^k before it.

    W. Hillis and G. Steele, Data parallel algorithms (1986).
    """
    n, by = x.type.shape[axis], 1
    while by < n:
        later = combine(part(x, 0, n - by, axis), part(x, by, n - by, axis))
        x = ops.concatenate(part(x, 0, by, axis), later, axis=axis)
        by *= 2
    return x


# ------------------------------------------------------------------------------------------------ reduceat


def reduceat(ufunc: Any, array: Any, indices: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Tracer:
    """``ufunc.reduceat``: the folds of ``x[i:j]`` for each index i and the next one j, or ``x[i]`` where j <= i."""
    if is_tracer(indices):
        refuse(
            f"np.{ufunc.__name__}.reduceat was given traced indices: how much each fold takes depends on data",
            "give the indices as numbers that are known (an np.array, or an argument named in compile(static=...)), or "
            "add up by groups with np.add.at(np.zeros(n), group, x)",
        )
    x = strong(array)
    line = axes_of(int(axis), x.ndim)[0] if x.ndim and -x.ndim <= int(axis) < x.ndim else None
    tried(ufunc, "reduceat", stand_in(x, line), indices, axis=axis, **options(dtype))
    assert line is not None
    element = fold_type(ufunc, x._node.type.dtype, dtype, target_of(out))
    node = ops.move_axis(to_node(x, element), line, 0)
    starts = np.asarray(indices, np.int64)
    return written(ufunc, out, wrap(ops.move_axis(segment_folds(ufunc, node, starts), 0, line)))


def segment_folds(ufunc: Any, x: Node, starts: np.ndarray) -> Node:
    """The folds of reduceat along the leading axis: all segments beside each other, filled up to the longest."""
    ends = np.append(starts[1:], x.type.shape[0])
    sizes = np.maximum(ends - starts, 1)
    longest = int(sizes.max(initial=1))
    places = np.minimum(starts[:, None] + np.arange(longest), max(x.type.shape[0] - 1, 0))
    inside = np.arange(longest) < sizes[:, None]
    scattered = _SCATTERED.get(ufunc, {}).get(x.type.dtype is bool_)
    if scattered is not None and inside.size > 2 * inside.sum():
        return scattered_folds(
            ufunc, x, places[inside], np.repeat(np.arange(len(starts)), sizes), len(starts), scattered
        )
    rows = ops.gather(x, ops.const(places), axes=(0,), mode="clip")
    if not len(starts):
        return ops.reshape_to(rows, (0, *x.type.shape[1:]))
    if inside.all():
        return fold(ufunc, rows, (1,))
    mask = ops.broadcast(ops.const(inside), rows.type.shape, (0, 1))
    start = None if ufunc in ASSOCIATIVE else first_along(rows, 1)
    if ufunc in (np.hypot, np.gcd, np.lcm):  # one element stays as it is, with its sign
        alone = ops.broadcast(ops.const(sizes == 1), rows.type.shape[:1] + rows.type.shape[2:], (0,))
        return ops.select(alone, first_along(rows, 1), fold(ufunc, rows, (1,), mask))
    if start is not None:
        rows, mask = part(rows, 1, longest - 1, 1), part(mask, 1, longest - 1, 1)
    return fold(ufunc, rows, (1,), mask, start)


_SCATTERED: dict[Any, dict[bool, str]] = {
    np.add: {False: "add", True: "max"},
    np.multiply: {False: "mul", True: "min"},
    np.maximum: {False: "max", True: "max"},
    np.minimum: {False: "min", True: "min"},
}


def scattered_folds(ufunc: Any, x: Node, places: np.ndarray, segments: np.ndarray, count: int, combine: str) -> Node:
    """Segments of very different lengths: each element is scattered to the number of its segment."""
    into = ops.full(TensorType(x.type.dtype, (count, *x.type.shape[1:])), neutral(ufunc, x.type.dtype))
    rows = ops.gather(x, ops.const(places), axes=(0,), mode="clip")
    return ops.scatter(into, rows, ops.const(segments), axes=(0,), mode="clip", combine=combine)


# ------------------------------------------------------------------------------------------------ outer


def outer(ufunc: Any, a: Any, b: Any, out: Any = None, **kwargs: Any) -> Any:
    """``ufunc(a_i, b_j)`` for all pairs of elements."""
    types = [np.ones((1,) * len(type_of(v).shape), in_numpy(type_of(v).dtype)) for v in (a, b)]
    if ufunc.signature is not None or ufunc.nin != 2:
        tried(ufunc, "outer", *types)
    x, y = to_tracer(a), to_tracer(b)
    spread = METHODS["reshape"](x, (*x.shape, *(1,) * y.ndim)) if y.ndim else x
    targets = () if out is None else out if isinstance(out, tuple) else (out,)
    return call_ufunc(ufunc, (spread, y), targets, kwargs)


# ------------------------------------------------------------------------------------------------ at


def at(ufunc: Any, x: Any, index: Any, value: Any = None) -> None:
    """``ufunc.at``: in place and unbuffered, so that equal indices take effect one after the other."""
    if ufunc.signature is not None or ufunc.nout != 1 or ufunc.nin > 2:
        tried(ufunc, "at", np.ones(1), [0], np.ones(1))
    if ufunc.nin == 1 and value is not None:
        raise ValueError("second operand provided when ufunc is unary")
    scattered = is_tracer(x) and ufunc in _ONE_SCATTER and same_kind(promote(x, value), x._node.type.dtype)
    if is_tracer(x) and not scattered and (ufunc.nin == 1 or value is not None):
        chosen = selection(index, x.shape)
        if chosen.mask is None and any(is_tracer(k) and k.ndim for _, k in chosen.arrays):
            return one_by_one(ufunc, x, index, () if ufunc.nin == 1 else (value,))
    return ufunc_at(ufunc, x, index) if ufunc.nin == 1 else ufunc_at(ufunc, x, index, value)


_ONE_SCATTER = frozenset({np.add, np.subtract, np.multiply, np.maximum, np.minimum})


def one_by_one(ufunc: Any, x: Tracer, index: Any, extra: tuple[Any, ...]) -> None:
    """Updates at traced indices in a scan: which of them are equal is not known."""
    chosen = selection(index, x.shape)
    target = window_of(x, chosen)
    held, indices = to_node(target), chosen.indices()
    lead = indices[0].type.shape
    lines = [ops.reshape_to(i, (math.prod(lead),)) for i in indices]
    values = [spread_updates(chosen, held, indices, to_node(strong(v))) for v in extra]
    rows = [ops.reshape_to(v, (math.prod(lead), *v.type.shape[len(lead) :])) for v in values]
    at_once = [*lines, *rows]
    where_to = {"axes": chosen.axes, "mode": "raise"}
    with Trace("update", current_trace()) as trace:
        state = trace.input("state", held.type)
        xs = [trace.input(f"x{k}", TensorType(v.type.dtype, v.type.shape[1:])) for k, v in enumerate(at_once)]
        places = [to_node(i) for i in xs[: len(lines)]]
        row = wrap(ops.gather(to_node(state), *places, **where_to))
        changed = cast_back(ufunc, row, apply_ufunc(ufunc, row, *xs[len(lines) :]), "unsafe")
        result = ops.scatter(to_node(state), changed, *places, **where_to, combine="set")
        body = trace.graph([result], inputs=[to_node(v) for v in (state, *xs)])
    node = scan(held, *at_once, body=body, n_carry=1, n_xs=len(at_once), length=math.prod(lead), reverse=False)
    target._assign(ops.items(node)[0])


# ------------------------------------------------------------------------------------------------ where=


def guarded(ufunc: Any, mask: Any, value: Any) -> Any:
    """An operand with a harmless number wherever ``mask`` leaves a ufunc out, so that derivatives there are 0, not NaN."""
    if weak_kind(value) is not None or not element_type(value).is_float:
        return value
    return FUNCTIONS[np.where](mask, value, 2.0 if ufunc is np.arccosh else 0.5)


METHODS.update(
    {
        "ufunc.reduce": reduce,
        "ufunc.accumulate": accumulate,
        "ufunc.reduceat": reduceat,
        "ufunc.outer": outer,
        "ufunc.at": at,
        "ufunc.guarded": guarded,
    }
)
