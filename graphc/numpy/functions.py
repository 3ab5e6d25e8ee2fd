"""NumPy's functions on traced arrays. Each has NumPy's signature; the decorator enters it into the dispatch tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import GraphError, Node
from graphc.leaks import UnsupportedError
from graphc.numpy.indexing import copyto, view_of
from graphc.tracing import (
    FUNCTIONS,
    METHODS,
    Tracer,
    apply_ufunc,
    broadcast_together,
    element_type,
    is_tracer,
    note_widening,
    operands,
    operate,
    promote,
    same_kind,
    to_node,
    to_tracer,
    type_of,
    wrap,
)
from graphc.tree import flatten
from graphc.types import DType, TensorType, bf16, bool_, dtype, f16, f32, f64, i64, u64

NO_VALUE = getattr(np, "_NoValue", None)


def traces(*functions: Any, method: str | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function as the tracing of NumPy functions, and of the ndarray method of the same meaning."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        for target in functions:
            FUNCTIONS[target] = function
        if method:
            METHODS[method] = function
        return function

    return enter


def property_(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        function.is_property = True  # type: ignore[attr-defined]
        METHODS[name] = function
        return function

    return enter


def axes_of(axis: Any, ndim: int) -> tuple[int, ...]:
    """``axis`` (None, int or tuple) as sorted non-negative axes."""
    if axis is None:
        return tuple(range(ndim))
    given = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    found = []
    for a in given:
        if not -ndim <= a < ndim:
            raise np.exceptions.AxisError(int(a), ndim)
        found.append(int(a) % ndim)
    if len(set(found)) != len(found):
        raise ValueError("duplicate value in 'axis'")
    return tuple(sorted(found))


def one_axis(axis: int, ndim: int) -> int:
    return axes_of(int(axis), ndim)[0]


def shape_of(shape: Any) -> tuple[int, ...]:
    return (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(int(n) for n in shape)


# ------------------------------------------------------------------------------------------------ reductions


def given(value: Any) -> bool:
    """Whether an optional argument was given: NumPy's default for some is a marker of its own."""
    return value is not None and value is not NO_VALUE


def strong(value: Any) -> Tracer:
    """``value`` as an array: outside ufuncs and np.where NumPy takes Python numbers as strong."""
    x = to_tracer(value)
    return wrap(to_node(x)) if x._weak else x


def operand(value: Any) -> Any:
    """``value`` as a traced or NumPy array, never weak; NumPy's stays one until its element type is known."""
    if is_tracer(value) or isinstance(value, (list, tuple)) and any(map(is_tracer, flatten(list(value))[0])):
        return strong(value)
    return np.asarray(value)


def stored(result: Tracer, out: Any) -> Tracer:
    """``result``, written to ``out`` where that is given."""
    return METHODS["write_out"](np.sum, (out,), result) if out is not None else result


COMBINE = {"reduce_sum": ops.add, "reduce_prod": ops.mul, "reduce_max": ops.maximum, "reduce_min": ops.minimum}


def reduce_with(
    x: Any,
    op: Any,
    axis: Any,
    keepdims: Any,
    to: DType | None,
    where: Any,
    initial: Any,
    identity: Any,
    out: Any = None,
) -> Tracer:
    node = to_node(strong(x), to)
    axes = axes_of(axis, node.type.ndim)
    ordered = op.name in ("reduce_max", "reduce_min")
    if where is not True and where is not NO_VALUE:
        if ordered and not given(initial):
            raise ValueError(
                f"reduction operation {op.name[-3:]}imum does not have an identity, so to use a where mask one has to specify "
                "'initial'"
            )
        mask = ops.broadcast_numpy(to_node(where, bool_), node.type.shape)
        node = ops.select(mask, node, ops.like(node, identity(node.type.dtype)))
    if ordered and any(node.type.shape[k] == 0 for k in axes):
        if not given(initial):
            raise ValueError(f"zero-size array to reduction operation {op.name[-3:]}imum which has no identity")
        kept = [n for k, n in enumerate(node.type.shape) if k not in axes]
        result = ops.full(TensorType(node.type.dtype, tuple(kept)), identity(node.type.dtype))
    else:
        result = op(node, axes=axes)
    if given(initial):
        start = ops.broadcast_numpy(to_node(initial, result.type.dtype), result.type.shape)
        result = COMBINE[op.name](result, start)
    return stored(wrap(keep(result, node, axes, keepdims)), out)


def keep(result: Node, node: Node, axes: Sequence[int], keepdims: Any) -> Node:
    if keepdims and keepdims is not NO_VALUE:
        return ops.reshape_to(result, [1 if k in axes else n for k, n in enumerate(node.type.shape)])
    return result


def sum_type(x: Any, requested: Any) -> DType:
    """Sums of bools and small integers are 64 bit, as in NumPy."""
    if given(requested):
        return dtype(requested)
    own = to_tracer(x)._node.type.dtype
    if own.kind in "bi":
        return i64
    return u64 if own.kind == "u" else own


@traces(np.sum, method="sum")
def sum_(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, initial: Any = NO_VALUE,
    where: Any = True,
) -> Tracer:  # fmt: skip
    element = sum_type(a, dtype)
    if element is bool_:
        return any_(a, axis, out, keepdims, where=where)
    return reduce_with(a, ops.reduce_sum, axis, keepdims, element, where, initial, lambda t: 0, out)


@traces(np.prod, method="prod")
def prod(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, initial: Any = NO_VALUE,
    where: Any = True,
) -> Tracer:  # fmt: skip
    element = sum_type(a, dtype)
    if element is bool_:
        return all_(a, axis, out, keepdims, where=where)
    return reduce_with(a, ops.reduce_prod, axis, keepdims, element, where, initial, lambda t: 1, out)


@traces(np.max, np.amax, method="max")
def max_(
    a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = NO_VALUE, where: Any = True
) -> Tracer:
    return reduce_with(a, ops.reduce_max, axis, keepdims, None, where, initial, ops.reduce_max.identity, out)


@traces(np.min, np.amin, method="min")
def min_(
    a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = NO_VALUE, where: Any = True
) -> Tracer:
    return reduce_with(a, ops.reduce_min, axis, keepdims, None, where, initial, ops.reduce_min.identity, out)


@traces(np.all, method="all")
def all_(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True) -> Tracer:
    return reduce_with(truth_of(a), ops.reduce_and, axis, keepdims, None, where, NO_VALUE, lambda t: True, out)


@traces(np.any, method="any")
def any_(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True) -> Tracer:
    return reduce_with(truth_of(a), ops.reduce_or, axis, keepdims, None, where, NO_VALUE, lambda t: False, out)


def truth_of(a: Any) -> Tracer:
    x = to_tracer(a)
    return x if x._node.type.dtype is bool_ else apply_ufunc(np.not_equal, x, 0)


def element_count(x: Tracer, axis: Any, where: Any, keepdims: Any) -> Any:
    """How many elements a reduction takes: a number, or an array of them where a mask says which."""
    if where is True or where is NO_VALUE:
        return math.prod(x.shape[k] for k in axes_of(axis, x.ndim))
    return sum_(broadcast_to(to_tracer(where), x.shape), axis, keepdims=keepdims)


def quotient(total: Tracer, count: Any) -> Tracer:
    """``total / count`` in the type of ``total``."""
    return total / (count.astype(total.dtype) if is_tracer(count) else count)


@traces(np.mean, method="mean")
def mean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True
) -> Tracer:
    x = strong(a)
    own = x._node.type.dtype
    result = _dtype(dtype) if given(dtype) else own if own.is_inexact else f64
    wide = f32 if result in (f16, bf16) else result  # half floats are summed and divided in float32, as in NumPy
    total = sum_(x, axis, wide.numpy, None, keepdims, where=where)
    return stored(quotient(total, element_count(x, axis, where, keepdims)).astype(result.numpy), out)


@traces(np.var, method="var")
def var(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: Any = False, *,
    where: Any = True, mean: Any = NO_VALUE, correction: Any = NO_VALUE,
) -> Tracer:  # fmt: skip
    x = strong(a)
    if given(dtype):
        x = x.astype(dtype)
    ddof = correction if given(correction) else ddof
    centre = mean if given(mean) else _mean(x, axis, keepdims=True, where=where)
    centred = x - centre
    total = sum_(centred * centred, axis, keepdims=keepdims, where=where)
    count = element_count(x, axis, where, keepdims) - ddof
    return stored(quotient(total, maximum_of(count, 0)), out)


_mean = mean


def maximum_of(x: Any, y: Any) -> Any:
    return apply_ufunc(np.maximum, x, y) if is_tracer(x) else max(x, y)


@traces(np.std, method="std")
def std(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: Any = False, *,
    where: Any = True, mean: Any = NO_VALUE, correction: Any = NO_VALUE,
) -> Tracer:  # fmt: skip
    spread = var(a, axis, dtype, None, ddof, keepdims, where=where, mean=mean, correction=correction)
    return stored(apply_ufunc(np.sqrt, spread), out)


@traces(np.average)
def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False) -> Any:
    if returned:
        raise UnsupportedError("np.average(returned=True) is not traced; sum the weights yourself")
    if weights is None:
        return mean(a, axis, keepdims=keepdims)
    w = to_tracer(weights)
    if w.ndim == 1 and np.ndim(a) > 1 and axis is not None:
        k = one_axis(axis, np.ndim(a))
        w = reshape(w, [-1 if j == k else 1 for j in range(np.ndim(a))])
    w = broadcast_to(w, np.shape(a))
    return sum_(to_tracer(a) * w, axis, keepdims=keepdims) / sum_(w, axis, keepdims=keepdims)


def arg_reduce(name: str, op: Any, a: Any, axis: Any, keepdims: Any, out: Any) -> Tracer:
    node = to_node(strong(a))
    k = None if axis is None else one_axis(axis, node.type.ndim)
    if (node.type.size if k is None else node.type.shape[k]) == 0:
        raise ValueError(f"attempt to get {name} of an empty sequence")
    if k is None:
        flat = op(ops.reshape_to(node, (node.type.size,)), axis=0)
        return stored(wrap(keep(flat, node, range(node.type.ndim), keepdims)), out)
    return stored(wrap(keep(op(node, axis=k), node, (k,), keepdims)), out)


@traces(np.argmax, method="argmax")
def argmax(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Tracer:
    return arg_reduce("argmax", ops.argmax, a, axis, keepdims, out)


@traces(np.argmin, method="argmin")
def argmin(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Tracer:
    return arg_reduce("argmin", ops.argmin, a, axis, keepdims, out)


@traces(np.ptp)
def ptp(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Tracer:
    return stored(max_(a, axis, keepdims=keepdims) - min_(a, axis, keepdims=keepdims), out)


@traces(np.count_nonzero)
def count_nonzero(a: Any, axis: Any = None, *, keepdims: Any = False) -> Tracer:
    return sum_(truth_of(a), axis, keepdims=keepdims)


REDUCTIONS = {
    np.add: sum_, np.multiply: prod, np.maximum: max_, np.minimum: min_, np.logical_and: all_, np.logical_or: any_,
}  # fmt: skip


def ufunc_reduce(
    ufunc: Any, array: Any, axis: Any = 0, dtype: Any = None, keepdims: Any = False, **options: Any
) -> Tracer:
    """``np.add.reduce`` and the like."""
    function = REDUCTIONS.get(ufunc)
    if function is None:
        raise UnsupportedError(f"np.{ufunc.__name__}.reduce is not traced")
    options = {k: v for k, v in options.items() if (k, v) != ("where", True) and (k == "where" or given(v))}
    if given(dtype):
        options["dtype"] = dtype
    return function(array, axis=axis, keepdims=keepdims, **options)


def ufunc_outer(ufunc: Any, a: Any, b: Any) -> Tracer:
    x, y = to_tracer(a), to_tracer(b)
    return apply_ufunc(ufunc, reshape(x, (*x.shape, *(1,) * y.ndim)), y)


METHODS["ufunc.reduce"] = ufunc_reduce
METHODS["ufunc.outer"] = ufunc_outer


# ------------------------------------------------------------------------------------------------ contraction


@traces(np.matmul)
def matmul(x1: Any, x2: Any, *, dtype: Any = None) -> Tracer:
    x, y = contracted_pair(x1, x2, dtype)
    if x.type.ndim == 0 or y.type.ndim == 0:
        raise GraphError(f"matmul: scalars are not allowed ({x.type} @ {y.type}); use * instead")
    k1, k2 = x.type.shape[-1], y.type.shape[max(y.type.ndim - 2, 0)]
    if k1 != k2:
        raise GraphError(f"matmul: {x.type} @ {y.type}: the inner lengths {k1} and {k2} differ")
    if y.type.ndim <= 2:  # no batch: all leading axes of x are rows of one contraction
        return wrap(boolean_dot(ops.matmul, x, y))
    if x.type.ndim == 1:
        batch, contract = ((), ()), ((0,), (y.type.ndim - 2,))
        return wrap(boolean_dot(lambda p, q: ops.dot(p, q, batch=batch, contract=contract), x, y))
    x, y = align_batches(x, y)
    return wrap(boolean_dot(ops.matmul, x, y))


def contracted_pair(a: Any, b: Any, element: Any = None) -> tuple[Node, Node]:
    """Both operands of a contraction in their common element type."""
    x, y = operand(a), operand(b)
    common = promote(x, y) if element is None else _dtype(element)
    note_widening(common, (x, y))
    return to_node(x, common), to_node(y, common)


def boolean_dot(function: Callable[..., Node], x: Node, y: Node) -> Node:
    """Dots of bools are or-of-and, through integers."""
    if x.type.dtype is not bool_:
        return function(x, y)
    result = function(ops.convert(x, i64), ops.convert(y, i64))
    return ops.ne(result, ops.zeros(result.type))


def align_batches(x: Node, y: Node) -> tuple[Node, Node]:
    """Leading axes of matmul operands, which are matrices or stacks of them, broadcast together."""
    bx, by = x.type.shape[:-2], y.type.shape[:-2]
    try:
        lead = np.broadcast_shapes(bx, by)
    except ValueError:
        raise GraphError(f"matmul: {x.type} @ {y.type}: the leading axes do not broadcast together") from None
    return (
        ops.broadcast_numpy(x, (*lead, *x.type.shape[-2:])),
        ops.broadcast_numpy(y, (*lead, *y.type.shape[-2:])),
    )


@traces(np.dot, method="dot")
def dot(a: Any, b: Any, out: Any = None) -> Tracer:
    x, y = contracted_pair(a, b)
    if x.type.ndim == 0 or y.type.ndim == 0:
        return stored(apply_ufunc(np.multiply, wrap(x), wrap(y)), out)
    left, right = x.type.ndim - 1, max(y.type.ndim - 2, 0)
    if x.type.shape[left] != y.type.shape[right]:
        raise GraphError(
            f"dot: {x.type} and {y.type} do not fit: {x.type.shape[left]} and {y.type.shape[right]} differ"
        )
    return stored(wrap(contract(x, y, (left,), (right,))), out)


def contract(x: Node, y: Node, x_axes: tuple[int, ...], y_axes: tuple[int, ...]) -> Node:
    return boolean_dot(lambda p, q: ops.dot(p, q, batch=((), ()), contract=(x_axes, y_axes)), x, y)


@traces(np.inner)
def inner(a: Any, b: Any) -> Tracer:
    x, y = strong(a), strong(b)
    if x.ndim == 0 or y.ndim == 0:
        return x * y
    return tensordot(x, y, axes=((-1,), (-1,)))


@traces(np.outer)
def outer(a: Any, b: Any, out: Any = None) -> Tracer:
    return stored(reshape(strong(a), (-1, 1)) * reshape(strong(b), (1, -1)), out)


@traces(np.vdot)
def vdot(a: Any, b: Any) -> Tracer:
    return dot(reshape(a, -1), reshape(b, -1))


@traces(np.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Tracer:
    x, y = contracted_pair(a, b)
    if isinstance(axes, (int, np.integer)):
        left: Any = range(x.type.ndim - int(axes), x.type.ndim)
        right: Any = range(int(axes))
    else:
        left, right = axes
        left = (left,) if isinstance(left, (int, np.integer)) else left
        right = (right,) if isinstance(right, (int, np.integer)) else right
    xc = tuple(one_axis(k, x.type.ndim) for k in left)
    yc = tuple(one_axis(k, y.type.ndim) for k in right)
    if len(xc) != len(yc) or any(x.type.shape[i] != y.type.shape[j] for i, j in zip(xc, yc, strict=False)):
        raise GraphError(f"tensordot: axes {xc} of {x.type} do not fit axes {yc} of {y.type}")
    return wrap(contract(x, y, xc, yc))


@traces(np.einsum)
def einsum(subscripts: Any, *arrays: Any, out: Any = None, optimize: Any = False, dtype: Any = None) -> Tracer:
    """Any letters and ellipsis; pairs of operands contract on NumPy's greedy path."""
    if not isinstance(subscripts, str):
        raise UnsupportedError("np.einsum with index lists is not traced; write the subscripts as a string")
    given_ = [operand(a) for a in arrays]
    element = promote(*given_) if dtype is None else _dtype(dtype)
    note_widening(element, given_)
    terms, output = einsum_terms(subscripts, [a.shape for a in given_])
    numbers = i64 if element is bool_ else element  # or-of-and, through integers
    work = [einsum_diagonal(t, to_node(a, numbers)) for t, a in zip(terms, given_, strict=True)]
    for step in einsum_order(subscripts, [a.shape for a in given_]):
        chosen = [work.pop(k) for k in sorted(step, reverse=True)]
        while len(chosen) > 1:
            (ta, a), (tb, b) = chosen.pop(), chosen.pop()
            rest = set(output).union(*[t for t, _ in (*work, *chosen)])
            chosen.append(einsum_pair(ta, a, tb, b, rest))
        work += chosen
    term, node = work[0]
    gone = [k for k, letter in enumerate(term) if letter not in output]
    if gone:
        node = ops.reduce_sum(node, axes=tuple(gone))
        term = "".join(letter for letter in term if letter in output)
    node = ops.transpose_to(node, [term.index(letter) for letter in output])
    return stored(wrap(ops.ne(node, ops.zeros(node.type)) if element is bool_ else node), out)


def einsum_order(subscripts: str, shapes: Sequence[tuple[int, ...]]) -> Sequence[tuple[int, ...]]:
    """Which operands to contract in turn: NumPy's greedy path."""
    if len(shapes) < 3:
        return [tuple(range(len(shapes)))]
    path, _ = np.einsum_path(subscripts, *[np.broadcast_to(np.float64(0), s) for s in shapes], optimize="greedy")
    return [tuple(step) for step in path[1:]]


def einsum_terms(subscripts: str, shapes: Sequence[tuple[int, ...]]) -> tuple[list[str], str]:
    """Operand terms and the output term, the ellipsis written out with letters of its own."""
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise GraphError(f"einsum: {subscripts!r} has {len(terms)} operands, {len(shapes)} given")
    used = set(text)
    spare = [chr(c) for c in range(0x100, 0x180) if chr(c) not in used]
    longest = max(
        (len(s) - len(t.replace("...", "")) for t, s in zip(terms, shapes, strict=True) if "..." in t), default=0
    )
    dots = "".join(spare[:longest])
    full = []
    for term, shape in zip(terms, shapes, strict=True):
        if "..." in term:
            n = len(shape) - len(term.replace("...", ""))
            term = term.replace("...", dots[longest - n :])
        if len(term) != len(shape):
            raise GraphError(f"einsum: the term {term!r} does not fit an operand of shape {shape}")
        full.append(term)
    if arrow:
        output = right.replace("...", dots)
    else:
        letters = "".join(full)
        output = dots + "".join(sorted(c for c in set(letters) if letters.count(c) == 1 and c not in dots))
    if len(set(output)) != len(output) or not set(output) <= set("".join(full)):
        raise GraphError(
            f"einsum: the output {output!r} of {subscripts!r} must name each of its letters once, from the operands"
        )
    return full, output


def einsum_diagonal(term: str, node: Node) -> tuple[str, Node]:
    """A repeated letter in one term takes the diagonal: mask and sum."""
    while len(set(term)) != len(term):
        letter = next(c for c in term if term.count(c) > 1)
        i = term.index(letter)
        j = term.index(letter, i + 1)
        if node.type.shape[i] != node.type.shape[j]:
            raise GraphError(f"einsum: the letter {letter!r} has lengths {node.type.shape[i]} and {node.type.shape[j]}")
        shape = node.type.shape
        same = ops.eq(ops.iota(shape=shape, axis=i, to=i64), ops.iota(shape=shape, axis=j, to=i64))
        node = ops.reduce_sum(ops.select(same, node, ops.zeros(node.type)), axes=(j,))
        term = term[:j] + term[j + 1 :]
    return term, node


def einsum_pair(ta: str, a: Node, tb: str, b: Node, keep_letters: set[str]) -> tuple[str, Node]:
    """Contract two operands: letters in both and not needed later are summed, those needed later are batch axes."""
    for term, node, other in ((ta, a, tb), (tb, b, ta)):
        alone = tuple(k for k, c in enumerate(term) if c not in other and c not in keep_letters)
        if alone:
            summed = ops.reduce_sum(node, axes=alone)
            kept = "".join(c for k, c in enumerate(term) if k not in alone)
            if term is ta and node is a:
                ta, a = kept, summed
            else:
                tb, b = kept, summed
    shared = [c for c in ta if c in tb]
    sizes = {**dict(zip(ta, a.type.shape, strict=True))}
    for c, n in zip(tb, b.type.shape, strict=True):
        if c in sizes and sizes[c] != n and 1 not in (sizes[c], n):
            raise GraphError(f"einsum: the letter {c!r} has lengths {sizes[c]} and {n}")
        sizes[c] = max(sizes.get(c, 1), n)
    a = ops.broadcast_numpy(a, [sizes[c] for c in ta])
    b = ops.broadcast_numpy(b, [sizes[c] for c in tb])
    batch = [c for c in shared if c in keep_letters]
    summed_letters = [c for c in shared if c not in keep_letters]
    node = ops.dot(
        a,
        b,
        batch=(tuple(ta.index(c) for c in batch), tuple(tb.index(c) for c in batch)),
        contract=(tuple(ta.index(c) for c in summed_letters), tuple(tb.index(c) for c in summed_letters)),
    )
    term = "".join([*batch, *[c for c in ta if c not in shared], *[c for c in tb if c not in shared]])
    return term, node


# ------------------------------------------------------------------------------------------------ shape


def new_shape(shape: Any, size: int) -> tuple[int, ...]:
    """``shape`` for ``size`` elements, its -1 written out. Raises ValueError in NumPy's words."""
    wanted = list(shape_of(shape))
    if sum(n < 0 for n in wanted) > 1:
        raise ValueError("can only specify one unknown dimension")
    unknown = next((k for k, n in enumerate(wanted) if n < 0), None)
    if unknown is not None:
        known = math.prod(n for n in wanted if n >= 0)
        if known == 0 or size % known:
            raise ValueError(f"cannot reshape array of size {size} into shape {tuple(wanted)}")
        wanted[unknown] = size // known
    if math.prod(wanted) != size:
        raise ValueError(f"cannot reshape array of size {size} into shape {tuple(wanted)}")
    return tuple(wanted)


def reshaped(x: Tracer, shape: tuple[int, ...]) -> Tracer:
    """``x`` in another shape: a view where that only puts in or takes out axes of length 1, else perhaps one."""
    only_ones = [n for n in shape if n != 1] == [n for n in x.shape if n != 1]

    def write(base: Node, value: Node) -> Node:
        return ops.reshape_to(value, base.type.shape)

    return view_of(x, lambda base: ops.reshape_to(base, shape), write if only_ones else None)


@traces(np.reshape)
def reshape(a: Any, shape: Any = None, order: str = "C", newshape: Any = None, copy: Any = None) -> Tracer:
    x = to_tracer(a)
    if order != "C":
        raise UnsupportedError("reshape(order=...) other than 'C' is not traced; transpose first")
    result = reshaped(x, new_shape(shape if shape is not None else newshape, x.size))
    return wrap(result._node) if copy else result


METHODS["reshape"] = lambda x, *shape, **kw: reshape(x, shape[0] if len(shape) == 1 else shape, **kw)


@traces(np.ravel, method="ravel")
def ravel(a: Any, order: str = "C") -> Tracer:
    return reshape(a, -1, "C" if order in ("A", "K") else order)


METHODS["flatten"] = lambda x, order="C": wrap(ravel(x, order)._node)


@traces(np.transpose)
def transpose(a: Any, axes: Any = None) -> Tracer:
    x = to_tracer(a)
    n = x.ndim
    order = list(range(n))[::-1] if axes is None else [one_axis(k, n) for k in axes]
    if sorted(order) != list(range(n)):
        raise ValueError("axes don't match array")
    back = [order.index(k) for k in range(n)]
    return view_of(x, lambda base: ops.transpose_to(base, order), lambda base, value: ops.transpose_to(value, back))


METHODS["transpose"] = lambda x, *axes: transpose(
    x, None if not axes or axes == (None,) else axes[0] if isinstance(axes[0], (tuple, list)) else axes
)
property_("T")(lambda x: transpose(x))


@property_("mT")
@traces(np.matrix_transpose)
def matrix_transpose(x: Any) -> Tracer:
    return swapaxes(x, -1, -2)


@traces(np.swapaxes, method="swapaxes")
def swapaxes(a: Any, axis1: int, axis2: int) -> Tracer:
    n = np.ndim(a)
    order = list(range(n))
    i, j = one_axis(axis1, n), one_axis(axis2, n)
    order[i], order[j] = order[j], order[i]
    return transpose(a, order)


@traces(np.moveaxis)
def moveaxis(a: Any, source: Any, destination: Any) -> Tracer:
    n = np.ndim(a)
    src = [one_axis(k, n) for k in ((source,) if isinstance(source, (int, np.integer)) else source)]
    dst = [one_axis(k, n) for k in ((destination,) if isinstance(destination, (int, np.integer)) else destination)]
    if len(src) != len(dst) or len(set(src)) != len(src) or len(set(dst)) != len(dst):
        raise ValueError("`source` and `destination` arguments must have the same number of different elements")
    order = [k for k in range(n) if k not in src]
    for d, s in sorted(zip(dst, src, strict=True)):
        order.insert(d, s)
    return transpose(a, order)


@traces(np.expand_dims)
def expand_dims(a: Any, axis: Any) -> Tracer:
    x = to_tracer(a)
    extra = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    places = axes_of(extra, x.ndim + len(extra))
    shape = list(x.shape)
    for k in places:
        shape.insert(k, 1)
    return reshaped(x, tuple(shape))


@traces(np.squeeze, method="squeeze")
def squeeze(a: Any, axis: Any = None) -> Tracer:
    x = to_tracer(a)
    gone = [k for k, n in enumerate(x.shape) if n == 1] if axis is None else axes_of(axis, x.ndim)
    if any(x.shape[k] != 1 for k in gone):
        raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return reshaped(x, tuple(n for k, n in enumerate(x.shape) if k not in gone))


@traces(np.broadcast_to)
def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Tracer:
    wanted = shape_of(shape)
    return view_of(to_tracer(array), lambda base: ops.broadcast_numpy(base, wanted), None)


@traces(np.broadcast_arrays)
def broadcast_arrays(*arrays: Any, subok: bool = False) -> tuple[Tracer, ...]:
    shape = np.broadcast_shapes(*[np.shape(a) for a in arrays])
    return tuple(broadcast_to(a, shape) for a in arrays)


@traces(np.concatenate)
def concatenate(arrays: Any, axis: Any = 0, out: Any = None, dtype: Any = None, casting: str = "same_kind") -> Tracer:
    parts = [operand(a) for a in arrays]
    if not parts:
        raise ValueError("need at least one array to concatenate")
    element = promote(*parts) if dtype is None else _dtype(dtype)
    if dtype is None:
        note_widening(element, parts)
    for part in parts:
        have = element_type(part)
        if not (
            same_kind(have, element) if casting == "same_kind" else np.can_cast(have.numpy, element.numpy, casting)
        ):  # type: ignore[arg-type]
            raise TypeError(f"Cannot cast array data from {have} to {element} according to the rule {casting!r}")
    nodes = [to_node(p, element) for p in parts]
    if axis is None:
        nodes = [ops.reshape_to(n, (n.type.size,)) for n in nodes]
        axis = 0
    if nodes[0].type.ndim == 0:
        raise ValueError("zero-dimensional arrays cannot be concatenated")
    return stored(wrap(ops.concatenate(*nodes, axis=one_axis(axis, nodes[0].type.ndim))), out)


def _dtype(spec: Any) -> DType:
    return dtype(spec)


@traces(np.stack)
def stack(arrays: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind") -> Tracer:
    parts = list(arrays)
    if not parts:
        raise ValueError("need at least one array to stack")
    if len({np.shape(a) for a in parts}) != 1:
        raise ValueError("all input arrays must have the same shape")
    k = one_axis(axis, np.ndim(parts[0]) + 1)
    return concatenate([expand_dims(a, k) for a in parts], k, out, dtype=dtype, casting=casting)


def at_least(a: Any, ndim: int) -> Tracer:
    x = to_tracer(a)
    return reshaped(x, (*(1,) * (ndim - x.ndim), *x.shape))


def _at_least(ndim: int) -> Callable[..., Any]:
    def function(*arys: Any) -> Any:
        results = tuple(at_least(a, ndim) for a in arys)
        return results[0] if len(results) == 1 else results

    return function


FUNCTIONS[np.atleast_1d] = _at_least(1)
FUNCTIONS[np.atleast_2d] = _at_least(2)


@traces(np.vstack)
def vstack(tup: Any, **kwargs: Any) -> Tracer:
    return concatenate([at_least(a, 2) for a in tup], axis=0, **kwargs)


@traces(np.hstack)
def hstack(tup: Any, **kwargs: Any) -> Tracer:
    parts = [at_least(a, 1) for a in tup]
    return concatenate(parts, axis=0 if parts[0].ndim == 1 else 1, **kwargs)


@traces(np.column_stack)
def column_stack(tup: Any) -> Tracer:
    return concatenate([reshape(a, (-1, 1)) if np.ndim(a) < 2 else a for a in tup], axis=1)


@traces(np.split)
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tracer]:
    n = np.shape(ary)[axis]
    if isinstance(indices_or_sections, (int, np.integer)) and n % int(indices_or_sections):
        raise ValueError("array split does not result in an equal division")
    return array_split(ary, indices_or_sections, axis)


@traces(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tracer]:
    x = to_tracer(ary)
    k = one_axis(axis, x.ndim)
    n = x.shape[k]
    if isinstance(indices_or_sections, (int, np.integer)):
        sections = int(indices_or_sections)
        if sections <= 0:
            raise ValueError("number sections must be larger than 0.")
        each, extra = divmod(n, sections)
        cuts = list(np.cumsum([0] + [each + 1] * extra + [each] * (sections - extra)))
    else:
        cuts = [0, *[int(c) for c in indices_or_sections], n]
    before = (slice(None),) * k
    return [x[(*before, slice(int(a), int(b)))] for a, b in zip(cuts[:-1], cuts[1:], strict=True)]


@traces(np.linspace)
def linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None, axis: int = 0
) -> Any:
    if retstep or axis != 0:
        raise UnsupportedError("np.linspace with retstep or axis is not traced")
    element = promote(start, stop, 0.0)
    low, high = wrap(to_node(start, element)), wrap(to_node(stop, element))
    places = np.arange(num).astype(element.numpy).reshape(-1, *(1,) * max(low.ndim, high.ndim))
    step = (high - low) / max(num - 1 if endpoint else num, 1)
    result = low + places * step
    return result if dtype is None else result.astype(dtype)


@traces(np.flip)
def flip(m: Any, axis: Any = None) -> Tracer:
    x = to_tracer(m)
    turned = axes_of(axis, x.ndim)
    return x[(*[slice(None, None, -1) if k in turned else slice(None) for k in range(x.ndim)], ...)]


@traces(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Tracer:
    x = to_tracer(a)
    if axis is None:
        return wrap(ops.reshape_to(roll(ravel(x), shift, 0)._node, x.shape))
    axes = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    shifts, axes = np.broadcast_arrays(np.asarray(shift), np.asarray(axes))
    node = to_node(x)
    for by, k in zip(shifts.ravel(), axes.ravel(), strict=True):
        node = rolled(node, int(by), one_axis(int(k), x.ndim))
    return wrap(node)


def rolled(node: Node, by: int, axis: int) -> Node:
    extent = node.type.shape[axis]
    by = by % extent if extent else 0
    if by == 0:
        return node

    def part(start: int, count: int) -> Node:
        size = [count if k == axis else n for k, n in enumerate(node.type.shape)]
        first = [start if k == axis else 0 for k in range(node.type.ndim)]
        return ops.slice_(node, start=tuple(first), size=tuple(size), step=(1,) * node.type.ndim)

    return ops.concatenate(part(extent - by, by), part(0, extent - by), axis=axis)


@traces(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1) -> Tracer:
    x = to_tracer(a)
    k = one_axis(axis, x.ndim)
    before = (slice(None),) * k
    subtract = np.not_equal if x._node.type.dtype is bool_ else np.subtract
    for _ in range(n):
        x = apply_ufunc(subtract, x[(*before, slice(1, None))], x[(*before, slice(None, -1))])
    return wrap(to_node(x))


@traces(np.pad)
def pad(array: Any, pad_width: Any, mode: Any = "constant", *, constant_values: Any = 0) -> Tracer:
    if mode != "constant":
        raise UnsupportedError(f"np.pad(mode={mode!r}) is not traced; pad with np.concatenate of slices")
    node = to_node(strong(array))
    ndim = node.type.ndim
    widths = np.broadcast_to(np.asarray(pad_width), (ndim, 2))
    if widths.size and widths.min() < 0:
        raise ValueError("index can't contain negative values")
    values = to_tracer(constant_values)
    if values.ndim == 0:
        return wrap(padded(node, widths, values))
    values = broadcast_to(values, (ndim, 2))
    for k in range(ndim):
        for side in range(2):
            one_side = np.zeros((ndim, 2), int)
            one_side[k, side] = widths[k, side]
            node = padded(node, one_side, values[k, side])
    return wrap(node)


def padded(node: Node, widths: np.ndarray, value: Tracer) -> Node:
    shape = tuple(int(n + w.sum()) for n, w in zip(node.type.shape, widths, strict=True))
    start = tuple(int(w[0]) for w in widths)
    return ops.pad(node, to_node(value, node.type.dtype), shape=shape, start=start, step=(1,) * node.type.ndim)


@traces(np.tile)
def tile(A: Any, reps: Any) -> Tracer:  # noqa: N803 (NumPy's parameter name)
    node = to_node(strong(A))
    counts = shape_of(reps)
    rank = max(len(counts), node.type.ndim)
    counts = (1,) * (rank - len(counts)) + counts
    shape = (1,) * (rank - node.type.ndim) + node.type.shape
    spread = [v for c, n in zip(counts, shape, strict=True) for v in (c, n)]
    one = [v for n in shape for v in (1, n)]
    whole = ops.broadcast_numpy(ops.reshape_to(node, one), spread)
    return wrap(ops.reshape_to(whole, [c * n for c, n in zip(counts, shape, strict=True)]))


@traces(np.repeat, method="repeat")
def repeat(a: Any, repeats: Any, axis: Any = None) -> Tracer:
    node = to_node(strong(a))
    if axis is None:
        node, axis = ops.reshape_to(node, (node.type.size,)), 0
    k = one_axis(axis, node.type.ndim)
    if is_tracer(repeats):
        raise UnsupportedError("np.repeat with traced repeats has a shape that depends on data")
    counts = np.broadcast_to(np.asarray(repeats), (node.type.shape[k],))
    places = np.repeat(np.arange(node.type.shape[k]), counts)
    return take(wrap(node), places, axis=k)


def triangle(m: Any, k: int, lower: bool) -> Tracer:
    x = strong(m)
    if x.ndim < 2:
        raise UnsupportedError("np.tril and np.triu of vectors are not traced")
    mask = np.tri(*x.shape[-2:], k=k if lower else k - 1, dtype=bool)
    return where(mask if lower else ~mask, x, np.zeros((), x.dtype))


@traces(np.tril)
def tril(m: Any, k: int = 0) -> Tracer:
    return triangle(m, k, lower=True)


@traces(np.triu)
def triu(m: Any, k: int = 0) -> Tracer:
    return triangle(m, k, lower=False)


# ------------------------------------------------------------------------------------------------ elementwise


@traces(np.where)
def where(condition: Any, x: Any = None, y: Any = None, /) -> Tracer:
    if x is None or y is None:
        raise UnsupportedError(
            "np.where(condition) alone has a shape that depends on data; use np.where(condition, x, y)"
        )
    a, b = operands(x, y)
    c, a, b = broadcast_together([to_node(truth_of(condition)), a, b])
    return wrap(ops.select(c, a, b))


@traces(np.clip, method="clip")
def clip(
    a: Any,
    a_min: Any = NO_VALUE,
    a_max: Any = NO_VALUE,
    out: Any = None,
    *,
    min: Any = NO_VALUE,
    max: Any = NO_VALUE,  # noqa: A002
) -> Tracer:
    low, high = (a_min if given(a_min) else min), (a_max if given(a_max) else max)
    x: Any = strong(a)
    bounds = [clip_bound(x, b) for b in (low, high)]
    element = promote(x, *[b for b in bounds if b is not None])
    x = wrap(to_node(x, element))
    for bound, ufunc in zip(bounds, (np.maximum, np.minimum), strict=True):
        if bound is not None:
            x = apply_ufunc(ufunc, x, bound)
    return stored(x, out)


def clip_bound(x: Tracer, bound: Any) -> Any:
    """A bound that can matter: None for one that is not given, or an int beyond the type of ``x``."""
    if not given(bound):
        return None
    element = x._node.type.dtype
    if type(bound) is int and element.is_integer:
        info = np.iinfo(element.numpy)
        if not info.min <= bound <= info.max:
            return info.min if bound < info.min else info.max
    return bound


if hasattr(np._core.umath, "clip"):  # the ufunc that ndarray.clip calls  # type: ignore[attr-defined]
    FUNCTIONS[np._core.umath.clip] = clip  # type: ignore[attr-defined]


def astype(
    x: Tracer, dtype: Any, order: str = "K", casting: str = "unsafe", subok: bool = True, copy: bool = True
) -> Tracer:
    element = _dtype(dtype)
    if casting != "unsafe" and not np.can_cast(x.dtype, element.numpy, casting):  # type: ignore[arg-type]
        raise TypeError(
            f"Cannot cast array data from {x._node.type.dtype} to {element} according to the rule {casting!r}"
        )
    if not copy and element is x._node.type.dtype and not x._weak:
        return x
    return wrap(ops.convert(to_node(x), element))


METHODS["astype"] = astype
METHODS["copy"] = lambda x, order="C": wrap(to_node(x))
if hasattr(np, "astype"):
    FUNCTIONS[np.astype] = lambda x, dtype, copy=True, device=None: astype(x, dtype, copy=copy)


@traces(np.copy)
def copy(a: Any, order: str = "K", subok: bool = False) -> Tracer:
    return wrap(to_node(strong(a)))


@traces(np.round, np.around, method="round")
def round_(a: Any, decimals: int = 0, out: Any = None) -> Tracer:
    x = strong(a)
    kind = x._node.type.dtype.kind
    if kind in "iu" and decimals >= 0:
        return stored(wrap(to_node(x)), out)
    if decimals == 0 or kind == "b":
        return stored(apply_ufunc(np.rint, x), out)
    scale = 10 ** abs(decimals)
    if decimals > 0:
        return stored(apply_ufunc(np.rint, x * float(scale)) / float(scale), out)
    return stored((apply_ufunc(np.rint, x / scale) * scale).astype(x.dtype), out)


@traces(np.nan_to_num)
def nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Tracer:
    t = strong(x)
    if not copy:
        raise UnsupportedError("np.nan_to_num(copy=False) is not traced; use the result")
    if not t._node.type.dtype.is_float:
        return wrap(to_node(t))
    info = finite_range(t._node.type.dtype)
    result = where(apply_ufunc(np.isnan, t), nan, t)
    result = where(apply_ufunc(np.equal, t, np.inf), info[1] if posinf is None else posinf, result)
    return where(apply_ufunc(np.equal, t, -np.inf), info[0] if neginf is None else neginf, result).astype(t.dtype)


def finite_range(element: DType) -> tuple[float, float]:
    """The lowest and highest finite numbers of a float type."""
    if element is bf16:
        return -3.3895313892515355e38, 3.3895313892515355e38
    info = np.finfo(element.numpy)
    return float(info.min), float(info.max)


@traces(np.zeros_like)
def zeros_like(a: Any, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None) -> Tracer:
    return full_like(a, 0, dtype, shape=shape)


@traces(np.ones_like)
def ones_like(a: Any, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None) -> Tracer:
    return full_like(a, 1, dtype, shape=shape)


@traces(np.empty_like)
def empty_like(prototype: Any, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None) -> Tracer:
    return full_like(prototype, 0, dtype, shape=shape)


@traces(np.full_like)
def full_like(
    a: Any, fill_value: Any, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None
) -> Tracer:
    like = type_of(a)
    element = like.dtype if dtype is None else _dtype(dtype)
    value = ops.convert(to_node(fill_value), element)
    return wrap(ops.broadcast_numpy(value, like.shape if shape is None else shape_of(shape)))


FUNCTIONS[np.copyto] = copyto


@traces(np.shape)
def shape(a: Any) -> tuple[int, ...]:
    return to_tracer(a).shape


@traces(np.ndim)
def ndim(a: Any) -> int:
    return to_tracer(a).ndim


@traces(np.size)
def size(a: Any, axis: Any = None) -> int:
    x = to_tracer(a)
    return x.size if axis is None else x.shape[axis]


@traces(np.result_type)
def result_type(*arrays_and_dtypes: Any) -> np.dtype:
    values = [
        a if is_tracer(a) or isinstance(a, np.ndarray) or np.isscalar(a) else np.zeros((), a) for a in arrays_and_dtypes
    ]
    return promote(*values).numpy


@traces(np.iscomplexobj)
def iscomplexobj(x: Any) -> bool:
    return bool(to_tracer(x)._node.type.dtype.kind == "c")


@traces(np.isrealobj)
def isrealobj(x: Any) -> bool:
    return not iscomplexobj(x)


@traces(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tracer:
    t = strong(x)
    if not t._node.type.dtype.is_inexact:
        t = t.astype(np.float64)
    axes = None if axis is None else axes_of(axis, t.ndim)
    vector = ord is None or (t.ndim if axes is None else len(axes)) == 1
    if ord in (None, "fro") or (ord == 2 and vector):
        return apply_ufunc(np.sqrt, sum_(t * t, axes, keepdims=keepdims))
    if not vector or isinstance(ord, str):
        raise UnsupportedError(f"np.linalg.norm(ord={ord!r}) of a matrix is not traced; 'fro' and None are")
    size = apply_ufunc(np.absolute, t)
    if ord in (np.inf, -np.inf):
        return (max_ if ord > 0 else min_)(size, axes, keepdims=keepdims)
    if ord == 0:
        return sum_((t != 0).astype(t.dtype), axes, keepdims=keepdims)
    total = sum_(size if ord == 1 else operate(np.power, size, ord), axes, keepdims=keepdims)
    return total if ord == 1 else operate(np.power, total, 1 / ord)


# ------------------------------------------------------------------------------------------------ indexing functions


@traces(np.take, method="take")
def take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Tracer:
    x = to_tracer(a)
    if axis is None:
        x, axis = ravel(x), 0
    k = one_axis(axis, x.ndim)
    index = to_node(strong(indices))
    if not index.type.dtype.is_integer:
        raise GraphError(f"take: the indices must be integers, not {index.type}")
    index = ops.convert(index, i64)
    if mode == "wrap":
        index = ops.remainder(index, ops.like(index, x.shape[k]))
    elif mode not in ("raise", "clip"):
        raise ValueError(f"clipmode must be one of 'clip', 'raise', or 'wrap' (got {mode!r})")
    gathered = ops.gather(to_node(x), index, axes=(k,), mode="clip" if mode == "clip" else "raise")
    order = list(range(index.type.ndim, gathered.type.ndim))
    order[k:k] = range(index.type.ndim)
    return stored(wrap(ops.transpose_to(gathered, order)), out)


@traces(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Tracer:
    x, index = to_tracer(arr), to_tracer(indices)
    if axis is None:
        return take_along_axis(ravel(x), index, 0)
    if x.ndim != index.ndim:
        raise ValueError("`indices` and `arr` must have the same number of dimensions")
    k = one_axis(axis, x.ndim)
    shape = np.broadcast_shapes(without(x.shape, k), without(index.shape, k))
    spread = (*shape[:k], index.shape[k], *shape[k + 1 :])
    index = broadcast_to(index, spread)
    x = broadcast_to(x, (*shape[:k], x.shape[k], *shape[k + 1 :]))
    parts = [index if j == k else wrap(ops.iota(shape=spread, axis=j, to=i64)) for j in range(x.ndim)]
    return x[tuple(parts)]


def without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], 1, *shape[axis + 1 :])


@traces(np.sort)
def sort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Tracer:
    x = ravel(a) if axis is None else strong(a)
    return wrap(ops.sort(to_node(x), axis=one_axis(-1 if axis is None else axis, x.ndim)))


METHODS["sort"] = lambda x, axis=-1, kind=None, order=None, *, stable=None: x._assign(sort(x, axis)._node)


@traces(np.argsort, method="argsort")
def argsort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Tracer:
    x = ravel(a) if axis is None else strong(a)
    return wrap(ops.argsort(to_node(x), axis=one_axis(-1 if axis is None else axis, x.ndim)))


@traces(np.linalg.cholesky)
def cholesky(a: Any, /, *, upper: bool = False) -> Tracer:
    lower = wrap(ops.cholesky(to_node(strong(a))))
    return matrix_transpose(lower) if upper else lower


def array(value: Any) -> Tracer:
    """Nested lists of traced scalars and arrays, stacked: what ``np.array`` cannot do with tracers."""
    if isinstance(value, (list, tuple)):
        return stack([array(v) for v in value])
    return strong(value)


METHODS["array"] = array


@property_("real")
@traces(np.real)
def real(val: Any) -> Tracer:
    return to_tracer(val)


@property_("imag")
@traces(np.imag)
def imag(val: Any) -> Tracer:
    return full_like(val, 0)


@traces(np.conjugate, method="conj")
def conjugate(x: Any) -> Tracer:
    return wrap(to_node(x))


@property_("flat")
def flat(x: Tracer) -> Any:
    return iter(ravel(x))
