"""Movement: ops that only say which element goes where.

``broadcast_to`` and ``reduce_sum`` are each other's transposes, as are ``slice`` and ``pad``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.ir import GraphError, Node, Op, ShapeError
from graphc.ops.base import batched_operands, check_axes, check_kind, const, define, linear_jvp, shifted
from graphc.types import TensorType, Type

# ------------------------------------------------------------------------------------------------ broadcast_to


def _broadcast_type(x: TensorType, shape: tuple[int, ...], axes: tuple[int, ...]) -> Type:
    fits = len(axes) == x.ndim and list(axes) == sorted(set(axes)) and all(0 <= a < len(shape) for a in axes)
    if not fits or any(shape[a] != n for a, n in zip(axes, x.shape, strict=True)):
        raise GraphError(f"broadcast_to: {x} does not go onto axes {axes} of shape {shape}")
    return TensorType(x.dtype, tuple(shape))


def _broadcast_eval(x: np.ndarray, shape: tuple[int, ...], axes: tuple[int, ...]) -> np.ndarray:
    expanded = np.asarray(x).reshape([n if k in axes else 1 for k, n in enumerate(shape)]) if axes else x
    if math.prod(shape) > SMALL:
        return np.broadcast_to(expanded, shape)
    result = np.empty(shape, x.dtype)  # sooner written than described
    result[...] = expanded
    return result


SMALL = 1024


def _broadcast_vjp(ct: Node, out: Node, x: Node, shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[Node]:
    from graphc.ops.reduction import reduce_sum

    return (reduce_sum(ct, axes=tuple(k for k in range(len(shape)) if k not in axes)),)


#: ``broadcast_to(x, shape=, axes=)``: axis k of x becomes axis ``axes[k]`` of the result; the other axes repeat x.
broadcast_to: Op = define(
    Op(
        "broadcast_to",
        "movement",
        infer=_broadcast_type,
        eval=_broadcast_eval,
        vjp=_broadcast_vjp,
        jvp=linear_jvp(lambda: broadcast_to),
        batch=lambda size, flags, x, shape, axes: broadcast_to(x, shape=(size, *shape), axes=(0, *shifted(axes))),
    )
)


def broadcast(x: Node, shape: Sequence[int], axes: Sequence[int]) -> Node:
    """broadcast_to, or x itself where nothing changes."""
    shape, axes = tuple(shape), tuple(axes)
    return x if shape == x.type.shape else broadcast_to(x, shape=shape, axes=axes)


def broadcast_numpy(x: Node, shape: Sequence[int]) -> Node:
    """NumPy's broadcasting: missing leading axes and axes of length 1 are repeated. Raises GraphError."""
    have, want = x.type.shape, tuple(shape)
    offset = len(want) - len(have)
    if offset < 0 or any(n not in (1, want[k + offset]) for k, n in enumerate(have)):
        raise ShapeError(f"{x.type} does not broadcast to shape {want}")
    if have == want:
        return x
    kept = [k for k, n in enumerate(have) if n == want[k + offset]]
    return broadcast(reshape_to(x, [have[k] for k in kept]), want, [k + offset for k in kept])


# ------------------------------------------------------------------------------------------------ reshape, transpose


def _reshape_type(x: TensorType, shape: tuple[int, ...]) -> Type:
    if math.prod(shape) != x.size or any(n < 0 for n in shape):
        raise ShapeError(f"reshape: {x} has {x.size} elements, shape {tuple(shape)} has {math.prod(shape)}")
    return TensorType(x.dtype, tuple(shape))


reshape: Op = define(
    Op(
        "reshape",
        "movement",
        infer=_reshape_type,
        eval=lambda x, shape: np.reshape(x, shape),
        vjp=lambda ct, out, x, shape: (reshape_to(ct, x.type.shape),),
        jvp=linear_jvp(lambda: reshape),
        batch=lambda size, flags, x, shape: reshape(x, shape=(size, *shape)),
    )
)


def reshape_to(x: Node, shape: Sequence[int]) -> Node:
    """reshape, or x itself where it has that shape."""
    shape = tuple(shape)
    return x if shape == x.type.shape else reshape(x, shape=shape)


def _transpose_type(x: TensorType, axes: tuple[int, ...]) -> Type:
    if sorted(axes) != list(range(x.ndim)):
        raise GraphError(f"transpose: axes {tuple(axes)} are no permutation of the axes of {x}")
    return TensorType(x.dtype, tuple(x.shape[a] for a in axes))


#: ``transpose(x, axes=)``: axis k of the result is axis ``axes[k]`` of x.
transpose: Op = define(
    Op(
        "transpose",
        "movement",
        infer=_transpose_type,
        eval=lambda x, axes: np.transpose(x, axes),
        vjp=lambda ct, out, x, axes: (transpose_to(ct, tuple(int(k) for k in np.argsort(axes))),),
        jvp=linear_jvp(lambda: transpose),
        batch=lambda size, flags, x, axes: transpose(x, axes=(0, *shifted(axes))),
    )
)


def transpose_to(x: Node, axes: Sequence[int]) -> Node:
    """transpose, or x itself where the order stays."""
    axes = tuple(axes)
    return x if axes == tuple(range(len(axes))) else transpose(x, axes=axes)


def move_axis(x: Node, source: int, destination: int) -> Node:
    """x with axis ``source`` moved to ``destination``, the others in order."""
    order = [k for k in range(x.type.ndim) if k != source]
    order.insert(destination, source)
    return transpose_to(x, order)


# ------------------------------------------------------------------------------------------------ slice, pad


def _within(start: int, size: int, step: int, extent: int) -> bool:
    return size >= 0 and step != 0 and (size == 0 or (0 <= start < extent and 0 <= start + (size - 1) * step < extent))


def _slice_type(x: TensorType, start: tuple[int, ...], size: tuple[int, ...], step: tuple[int, ...]) -> Type:
    if not len(start) == len(size) == len(step) == x.ndim:
        raise GraphError(f"slice: start {start}, size {size}, step {step} need one entry per axis of {x}")
    if not all(_within(*parts) for parts in zip(start, size, step, x.shape, strict=True)):
        raise GraphError(f"slice: start {start}, size {size}, step {step} leave {x}")
    return TensorType(x.dtype, tuple(size))


def _window(start: Sequence[int], size: Sequence[int], step: Sequence[int]) -> tuple[slice, ...]:
    """The NumPy index of elements start, start+step, …, ``size`` of them, per axis."""
    index = []
    for first, count, by in zip(start, size, step, strict=True):
        end = first + count * by
        index.append(slice(0, 0) if count == 0 else slice(first, None if end < 0 else end, by))
    return tuple(index)


#: ``slice(x, start=, size=, step=)``: element i along each axis is ``x[start + i*step]``; steps may be negative.
slice_: Op = define(
    Op(
        "slice",
        "movement",
        infer=_slice_type,
        eval=lambda x, start, size, step: x[_window(start, size, step)],
        vjp=lambda ct, out, x, start, size, step: (
            pad(ct, const(0, ct.type.dtype), shape=x.type.shape, start=start, step=step),
        ),
        jvp=linear_jvp(lambda: slice_),
        batch=lambda n, flags, x, start, size, step: slice_(x, start=(0, *start), size=(n, *size), step=(1, *step)),
    )
)


def _pad_type(x: TensorType, fill: TensorType, shape: Any, start: Any, step: Any) -> Type:
    if fill != TensorType(x.dtype, ()):
        raise GraphError(f"pad: the fill value of {x} must be {x.dtype}, not {fill}")
    if not len(shape) == len(start) == len(step) == x.ndim:
        raise GraphError(f"pad: shape {shape}, start {start}, step {step} need one entry per axis of {x}")
    if not all(_within(*parts) for parts in zip(start, x.shape, step, shape, strict=True)):
        raise GraphError(f"pad: {x} placed at {start} with step {step} leaves shape {shape}")
    return TensorType(x.dtype, tuple(shape))


def _pad_eval(x: np.ndarray, fill: np.ndarray, shape: Any, start: Any, step: Any) -> np.ndarray:
    result = np.empty(shape, x.dtype)
    result[...] = fill
    result[_window(start, x.shape, step)] = x
    return result


def _covered(x: TensorType, **attrs: Any) -> Node:
    """True where pad puts an element of x, False where it puts the fill value."""
    from graphc.ops.base import bool_, full

    return pad(full(TensorType(bool_, x.shape), True), const(False), **attrs)


def _padded_vjp(ct: Node, out: Node, x: Node, fill: Node, **attrs: Any) -> Node:
    return slice_(ct, start=attrs["start"], size=x.type.shape, step=attrs["step"])


def _fill_vjp(ct: Node, out: Node, x: Node, fill: Node, **attrs: Any) -> Node:
    from graphc.ops.arithmetic import select
    from graphc.ops.base import zeros
    from graphc.ops.reduction import reduce_sum

    around = select(_covered(x.type, **attrs), zeros(ct.type), ct)
    return reduce_sum(around, axes=tuple(range(ct.type.ndim)))


def _pad_vjp(*args: Node, **attrs: Any) -> tuple[Node, Node]:
    return _padded_vjp(*args, **attrs), _fill_vjp(*args, **attrs)


def _pad_jvp(tangents: Sequence[Node | None], out: Node, x: Node, fill: Node, **attrs: Any) -> Node | None:
    tx, tf = tangents
    if tx is None and tf is None:
        return None
    from graphc.ops.base import zeros

    return pad(zeros(x.type) if tx is None else tx, zeros(fill.type) if tf is None else tf, **attrs)


def _pad_batch(size: int, flags: Sequence[bool], x: Node, fill: Node, shape: Any, start: Any, step: Any) -> Node:
    (x,) = batched_operands(size, flags[:1], (x,))
    attrs = {"shape": (size, *shape), "start": (0, *start), "step": (1, *step)}
    if not flags[1]:
        return pad(x, fill, **attrs)
    from graphc.ops.arithmetic import select

    placed = pad(x, const(0, x.type.dtype), **attrs)
    return select(_covered(x.type, **attrs), placed, broadcast(fill, placed.type.shape, (0,)))


#: ``pad(x, fill, shape=, start=, step=)``: x placed at ``start + i*step`` in a tensor of ``shape`` full of ``fill``.
pad: Op = define(
    Op(
        "pad",
        "movement",
        infer=_pad_type,
        eval=_pad_eval,
        vjp=_pad_vjp,
        jvp=_pad_jvp,
        batch=_pad_batch,
        partials=(_padded_vjp, _fill_vjp),
    )
)


# ------------------------------------------------------------------------------------------------ concatenate


def _concatenate_type(*xs: TensorType, axis: int) -> Type:
    if not xs:
        raise ShapeError("concatenate needs at least one operand")
    first = xs[0]
    check_axes("concatenate", first, (axis,))
    for x in xs:
        check_kind("concatenate", x, "biufc")
        if (
            x.dtype is not first.dtype
            or x.shape[:axis] + x.shape[axis + 1 :] != first.shape[:axis] + first.shape[axis + 1 :]
        ):
            raise ShapeError(f"concatenate along axis {axis}: {first} and {x} do not fit")
    return TensorType(first.dtype, (*first.shape[:axis], sum(x.shape[axis] for x in xs), *first.shape[axis + 1 :]))


def _concatenate_vjp(ct: Node, out: Node, *xs: Node, axis: int) -> tuple[Node, ...]:
    parts, at = [], 0
    for x in xs:
        start = tuple(at if k == axis else 0 for k in range(x.type.ndim))
        parts.append(slice_(ct, start=start, size=x.type.shape, step=(1,) * x.type.ndim))
        at += x.type.shape[axis]
    return tuple(parts)


def _concatenate_jvp(tangents: Sequence[Node | None], out: Node, *xs: Node, axis: int) -> Node:
    from graphc.ops.base import zeros

    return concatenate(*[zeros(x.type) if t is None else t for x, t in zip(xs, tangents, strict=True)], axis=axis)


concatenate: Op = define(
    Op(
        "concatenate",
        "movement",
        infer=_concatenate_type,
        eval=lambda *xs, axis: np.concatenate(xs, axis=axis),
        vjp=_concatenate_vjp,
        jvp=_concatenate_jvp,
        batch=lambda size, flags, *xs, axis: concatenate(*batched_operands(size, flags, xs), axis=axis + 1),
    )
)
