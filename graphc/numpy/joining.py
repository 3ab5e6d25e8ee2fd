"""Arrays beside each other, apart and repeated: stacking, block, append, insert, delete, splitting, tile, repeat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import ops
from graphc.leaks import UnsupportedError
from graphc.numpy.shapes import at_least, concatenate, expand_dims, moveaxis, ravel, reshape, reshaped
from graphc.numpy.tables import one_axis, shape_of, strong, traces
from graphc.tracing import FUNCTIONS, METHODS, Tracer, is_tracer, to_node, to_tracer, wrap
from graphc.tree import flatten


def _at_least(ndim: int) -> Callable[..., Any]:
    def function(*arys: Any) -> Any:
        results = tuple(at_least(a, ndim) if ndim < 3 else at_least_3d(a) for a in arys)
        return results[0] if len(results) == 1 else results

    return function


def at_least_3d(a: Any) -> Tracer:
    """A vector lies along the second of three axes, a matrix along the first two."""
    x = to_tracer(a)
    shape = {0: (1, 1, 1), 1: (1, *x.shape, 1), 2: (*x.shape, 1)}.get(x.ndim, x.shape)
    return x if x.ndim >= 3 else reshaped(x, shape)


FUNCTIONS[np.atleast_1d] = _at_least(1)
FUNCTIONS[np.atleast_2d] = _at_least(2)
FUNCTIONS[np.atleast_3d] = _at_least(3)


@traces(np.vstack)
def vstack(tup: Any, **kwargs: Any) -> Tracer:
    return concatenate([at_least(a, 2) for a in sequence(tup)], axis=0, **kwargs)


@traces(np.hstack)
def hstack(tup: Any, **kwargs: Any) -> Tracer:
    parts = [at_least(a, 1) for a in sequence(tup)]
    return concatenate(parts, axis=0 if parts and parts[0].ndim == 1 else 1, **kwargs)


@traces(np.dstack)
def dstack(tup: Any) -> Tracer:
    return concatenate([at_least_3d(a) for a in sequence(tup)], axis=2)


@traces(np.column_stack)
def column_stack(tup: Any) -> Tracer:
    return concatenate([reshape(a, (-1, 1)) if np.ndim(a) < 2 else a for a in sequence(tup)], axis=1)


def sequence(arrays: Any) -> list[Any]:
    if is_tracer(arrays) or isinstance(arrays, (list, tuple, np.ndarray)):
        return list(arrays)
    raise TypeError('arrays to stack must be passed as a "sequence" type such as list or tuple, not as a generator')


@traces(np.block)
def block(arrays: Any) -> Tracer:
    """Nested lists: the innermost ones joined along the last axis, those around them along the one before, and so on."""
    depth = block_depth(arrays)
    leaves = flatten(arrays)[0] if isinstance(arrays, list) else [arrays]
    rank = max([np.ndim(leaf) for leaf in leaves] + [depth])

    def join(part: Any, level: int) -> Tracer:
        if level < depth:
            return concatenate([join(p, level + 1) for p in part], axis=level - depth)
        return at_least(part, rank)

    joined = join(arrays, 0)
    return joined if depth else wrap(to_node(joined))


def block_depth(arrays: Any) -> int:
    if isinstance(arrays, tuple):
        raise TypeError(
            "arrays is a tuple. Only lists can be used to arrange blocks, and np.block does not allow tuples."
        )
    if not isinstance(arrays, list):
        return 0
    if not arrays:
        raise ValueError("List at arrays cannot be empty")
    depths = {block_depth(a) for a in arrays}
    if len(depths) != 1:
        raise ValueError(
            f"List depths are mismatched. {' and '.join(map(str, sorted(depths)))} lists lie beside each other"
        )
    return depths.pop() + 1


@traces(np.append)
def append(arr: Any, values: Any, axis: Any = None) -> Tracer:
    if axis is None:
        return concatenate([ravel(strong(arr)), ravel(strong(values))])
    return concatenate([arr, values], axis=axis)


@traces(np.insert)
def insert(arr: Any, obj: Any, values: Any, axis: Any = None) -> Tracer:
    x = strong(arr)
    refuse_traced_places("insert", obj)
    if axis is None:
        x, axis = ravel(x), -1
    k = one_axis(axis, x.ndim)
    n = x.shape[k]
    new = strong(values).astype(x.dtype)
    size = 1 if isinstance(obj, (int, np.integer)) else len(np.insert(np.arange(n), obj, -1)) - n
    if size == 1:
        where = np.insert(np.arange(n), obj, -1).tolist().index(-1)
        new = at_least(new, x.ndim)
        new = moveaxis(new, 0, k) if np.ndim(obj) == 0 and not isinstance(obj, slice) else new
        shape = [m if j == k else extent for j, (m, extent) in enumerate(zip(new.shape, x.shape, strict=True))]
        before = (slice(None),) * k
        parts = [x[(*before, slice(0, where))], broadcast(new, shape), x[(*before, slice(where, None))]]
        return concatenate(parts, axis=k)
    places = np.insert(np.arange(n), obj, n + np.arange(size))
    shape = [size if j == k else extent for j, extent in enumerate(x.shape)]
    return picked(concatenate([x, broadcast(new, shape)], axis=k), places, k)


def broadcast(x: Tracer, shape: Any) -> Tracer:
    """``x`` in ``shape``, as in an assignment."""
    try:
        return wrap(ops.broadcast_numpy(to_node(x), tuple(shape)))
    except TypeError:
        raise ValueError(f"could not broadcast input array from shape {x.shape} into shape {tuple(shape)}") from None


def refuse_traced_places(name: str, obj: Any) -> None:
    parts = [obj.start, obj.stop, obj.step] if isinstance(obj, slice) else flatten(obj)[0]
    if any(map(is_tracer, parts)):
        raise UnsupportedError(
            f"np.{name} at traced places is not traced: give them as numbers, or write np.where or np.take with indices that you "
            "compute"
        )


@traces(np.delete)
def delete(arr: Any, obj: Any, axis: Any = None) -> Tracer:
    x = strong(arr)
    refuse_traced_places("delete", obj)
    if axis is None:
        x, axis = ravel(x), -1
    k = one_axis(axis, x.ndim)
    return picked(x, np.delete(np.arange(x.shape[k]), obj), k)


#: Runs of neighbours up to which slices are joined rather than elements gathered.
_RUNS = 8


def picked(x: Tracer, places: np.ndarray, axis: int) -> Tracer:
    """The elements at ``places``, known numbers in range, along ``axis``: a few slices side by side, or gathered."""
    before = (slice(None),) * axis
    if len(places) == 0:
        return wrap(to_node(x[(*before, slice(0, 0))]))
    runs = slices_of(places)
    if len(runs) > _RUNS:
        return x[(*before, places)]
    return concatenate([x[(*before, run)] for run in runs], axis=axis)


def slices_of(places: np.ndarray) -> list[slice]:
    """``places`` as slices of step 1 or -1, in order."""
    runs: list[slice] = []
    steps = np.diff(places)
    start = 0
    while start < len(places):
        step = int(steps[start]) if start < len(steps) and abs(steps[start]) == 1 else 1
        other = np.flatnonzero(steps[start:] != step)
        count = int(other[0]) + 1 if len(other) else len(places) - start
        first = int(places[start])
        end = first + count * step
        runs.append(slice(first, None if end < 0 else end, step))
        start += count
    return runs


# ------------------------------------------------------------------------------------------------ splitting


@traces(np.split)
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tracer]:
    n = np.shape(ary)[axis]
    if np.ndim(indices_or_sections) == 0 and not is_tracer(indices_or_sections) and n % indices_or_sections:
        raise ValueError("array split does not result in an equal division")
    return array_split(ary, indices_or_sections, axis)


@traces(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tracer]:
    x = to_tracer(ary)
    k = one_axis(axis, x.ndim)
    n = x.shape[k]
    if np.ndim(indices_or_sections) == 0 and not is_tracer(indices_or_sections):
        sections = int(indices_or_sections)
        if sections <= 0:
            raise ValueError("number sections must be larger than 0.")
        each, extra = divmod(n, sections)
        cuts = [0, *np.cumsum([each + 1] * extra + [each] * (sections - extra)).tolist()]
    else:
        refuse_traced_places("split", list(indices_or_sections))
        cuts = [0, *[int(c) for c in indices_or_sections], n]
    before = (slice(None),) * k
    return [x[(*before, slice(a, b))] for a, b in zip(cuts[:-1], cuts[1:], strict=True)]


@traces(np.hsplit)
def hsplit(ary: Any, indices_or_sections: Any) -> list[Tracer]:
    if np.ndim(ary) == 0:
        raise ValueError("hsplit only works on arrays of 1 or more dimensions")
    return split(ary, indices_or_sections, 1 if np.ndim(ary) > 1 else 0)


@traces(np.vsplit)
def vsplit(ary: Any, indices_or_sections: Any) -> list[Tracer]:
    if np.ndim(ary) < 2:
        raise ValueError("vsplit only works on arrays of 2 or more dimensions")
    return split(ary, indices_or_sections, 0)


@traces(np.dsplit)
def dsplit(ary: Any, indices_or_sections: Any) -> list[Tracer]:
    if np.ndim(ary) < 3:
        raise ValueError("dsplit only works on arrays of 3 or more dimensions")
    return split(ary, indices_or_sections, 2)


if hasattr(np, "unstack"):

    @traces(np.unstack)
    def unstack(x: Any, /, *, axis: int = 0) -> tuple[Tracer, ...]:
        if np.ndim(x) == 0:
            raise ValueError("Input array must be at least 1-d.")
        return tuple(moveaxis(x, axis, 0))


# ------------------------------------------------------------------------------------------------ repeating


@traces(np.tile)
def tile(A: Any, reps: Any) -> Tracer:  # noqa: N803 (NumPy's parameter name)
    node = to_node(strong(A))
    refuse_traced_counts("tile", "reps", reps)
    counts = shape_of(reps)
    rank = max(len(counts), node.type.ndim)
    counts = (1,) * (rank - len(counts)) + counts
    shape = (1,) * (rank - node.type.ndim) + node.type.shape
    spread = [v for c, n in zip(counts, shape, strict=True) for v in (c, n)]
    one = [v for n in shape for v in (1, n)]
    whole = ops.broadcast_numpy(ops.reshape_to(node, one), spread)
    return wrap(ops.reshape_to(whole, [c * n for c, n in zip(counts, shape, strict=True)]))


def refuse_traced_counts(name: str, argument: str, value: Any) -> None:
    if any(map(is_tracer, flatten(value)[0])):
        raise UnsupportedError(
            f"np.{name} with traced {argument} has a shape that depends on data; give numbers, or name the argument in "
            "compile(static=...)"
        )


@traces(np.repeat, method="repeat")
def repeat(a: Any, repeats: Any, axis: Any = None) -> Tracer:
    x = strong(a)
    if axis is None:
        x, axis = ravel(x), 0
    k = one_axis(axis, x.ndim)
    refuse_traced_counts("repeat", "repeats", repeats)
    counts = np.asarray(repeats)
    if counts.dtype.kind not in "biu":
        raise TypeError(f"Cannot cast array data from {counts.dtype} to dtype('int64') according to the rule 'safe'")
    if counts.size and counts.min() < 0:
        raise ValueError("repeats may not contain negative values.")
    if counts.size == 1:
        return repeated_evenly(x, int(counts.reshape(())), k)
    if counts.shape != (x.shape[k],):
        raise ValueError(f"operands could not be broadcast together with shape ({x.shape[k]},) {counts.shape}")
    return picked(x, np.repeat(np.arange(x.shape[k]), counts), k)


def repeated_evenly(x: Tracer, count: int, axis: int) -> Tracer:
    node = to_node(expand_dims(x, axis + 1))
    shape = list(node.type.shape)
    shape[axis + 1] = count
    spread = ops.broadcast_numpy(node, shape)
    return wrap(ops.reshape_to(spread, (*x.shape[:axis], x.shape[axis] * count, *x.shape[axis + 1 :])))


@traces(np.resize)
def resize(a: Any, new_shape: Any) -> Tracer:
    """The elements in order, from the start again as often as needed."""
    x = ravel(strong(a))
    shape = shape_of(new_shape, unknown=True)
    if any(n < 0 for n in shape):
        raise ValueError("all elements of `new_shape` must be non-negative")
    size = int(np.prod(shape, dtype=np.int64))
    if x.size == 0 or size == 0:
        return wrap(ops.broadcast_numpy(to_node(0, x._node.type.dtype), shape))
    return reshape(tile(x, -(-size // x.size))[:size], shape)


METHODS["repeat"] = repeat
