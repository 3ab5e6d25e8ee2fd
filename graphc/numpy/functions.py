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
    View,
    apply_ufunc,
    is_tracer,
    note_widening,
    operands,
    operate,
    promote,
    to_node,
    to_tracer,
    type_of,
    wrap,
)
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


def stored(result: Tracer, out: Any) -> Tracer:
    """``result``, written to ``out`` where that is given."""
    return METHODS["write_out"](np.sum, (out,), result) if out is not None else result


COMBINE = {"reduce_sum": ops.add, "reduce_prod": ops.mul, "reduce_max": ops.maximum, "reduce_min": ops.minimum}


def reduce_with(
    x: Any, op: Any, axis: Any, keepdims: Any, to: DType | None, where: Any, initial: Any, identity: Any, out: Any = None
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
def mean(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True) -> Tracer:
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


def ufunc_reduce(ufunc: Any, array: Any, axis: Any = 0, dtype: Any = None, keepdims: Any = False, **options: Any) -> Tracer:
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
    if x.type.ndim > 2 or y.type.ndim > 2:
        x, y = align_batches(x, y)
    return wrap(boolean_dot(ops.matmul, x, y))


def contracted_pair(a: Any, b: Any, element: Any = None) -> tuple[Node, Node]:
    """Both operands of a contraction in their common element type."""
    x, y = strong(a), strong(b)
    common = promote(x, y) if element is None else _dtype(element)
    note_widening(common, (x, y))
    return to_node(a if common is x._node.type.dtype else x, common), to_node(y, common)


def boolean_dot(function: Callable[..., Node], x: Node, y: Node) -> Node:
    """Dots of bools are or-of-and, through integers."""
    if x.type.dtype is not bool_:
        return function(x, y)
    result = function(ops.convert(x, i64), ops.convert(y, i64))
    return ops.ne(result, ops.zeros(result.type))


def align_batches(x: Node, y: Node) -> tuple[Node, Node]:
    """Leading axes of matmul operands broadcast together. An operand without any stays as it is where that is free."""
    bx, by = x.type.shape[:-2], y.type.shape[:-2]
    if y.type.ndim == 1:
        return x, ops.broadcast(y, (*bx, *y.type.shape), (len(bx),)) if bx else y
    if x.type.ndim == 1:
        return (ops.broadcast(x, (*by, *x.type.shape), (len(by),)) if by else x), y
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
        raise GraphError(f"dot: {x.type} and {y.type} do not fit: {x.type.shape[left]} and {y.type.shape[right]} differ")
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
def einsum(subscripts: Any, *arrays: Any, optimize: Any = False, dtype: Any = None) -> Tracer:
    """Any letters and ellipsis; pairs of operands contract left to right."""
    if not isinstance(subscripts, str):
        raise UnsupportedError("np.einsum with index lists is not traced; write the subscripts as a string")
    given_ = [strong(a) for a in arrays]
    element = promote(*given_) if dtype is None else _dtype(dtype)
    note_widening(element, given_)
    terms, output = einsum_terms(subscripts, [a.shape for a in given_])
    work = [(t, to_node(a, element)) for t, a in zip(terms, given_, strict=True)]
    work = [einsum_diagonal(t, n) for t, n in work]
    while len(work) > 1:
        (ta, a), (tb, b) = work[0], work[1]
        rest = set(output).union(*[t for t, _ in work[2:]])
        work = [einsum_pair(ta, a, tb, b, rest), *work[2:]]
    term, node = work[0]
    gone = [k for k, letter in enumerate(term) if letter not in output]
    if gone:
        node = ops.reduce_sum(node, axes=tuple(gone))
        term = "".join(letter for letter in term if letter in output)
    return wrap(ops.transpose_to(node, [term.index(letter) for letter in output]))


def einsum_terms(subscripts: str, shapes: Sequence[tuple[int, ...]]) -> tuple[list[str], str]:
    """Operand terms and the output term, the ellipsis written out with letters of its own."""
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise GraphError(f"einsum: {subscripts!r} has {len(terms)} operands, {len(shapes)} given")
    used = set(text)
    spare = [chr(c) for c in range(0x100, 0x180) if chr(c) not in used]
    longest = max((len(s) - len(t.replace("...", "")) for t, s in zip(terms, shapes, strict=True) if "..." in t), default=0)
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
        raise GraphError(f"einsum: the output {output!r} of {subscripts!r} must name each of its letters once, from the operands")
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


@traces(np.reshape)
def reshape(a: Any, shape: Any = None, order: str = "C", newshape: Any = None, copy: Any = None) -> Tracer:
    x = to_node(a)
    if order != "C":
        raise UnsupportedError("reshape(order=...) other than 'C' is not traced; transpose first")
    wanted = list(shape_of(shape if shape is not None else newshape))
    if wanted.count(-1) > 1:
        raise ValueError("can only specify one unknown dimension")
    if -1 in wanted:
        known = -math.prod(wanted)
        if known == 0 or x.type.size % known:
            raise ValueError(f"cannot reshape array of size {x.type.size} into shape {tuple(wanted)}")
        wanted[wanted.index(-1)] = x.type.size // known
    if math.prod(wanted) != x.type.size:
        raise ValueError(f"cannot reshape array of size {x.type.size} into shape {tuple(wanted)}")
    return wrap(ops.reshape_to(x, wanted))


METHODS["reshape"] = lambda x, *shape, **kw: reshape(x, shape[0] if len(shape) == 1 else shape, **kw)


@traces(np.ravel, method="ravel")
def ravel(a: Any, order: str = "C") -> Tracer:
    return reshape(a, -1, order)


METHODS["flatten"] = ravel


@traces(np.transpose)
def transpose(a: Any, axes: Any = None) -> Tracer:
    x = to_node(a)
    n = x.type.ndim
    if axes is None:
        order = list(range(n))[::-1]
    else:
        order = [one_axis(k, n) for k in axes]
        if sorted(order) != list(range(n)):
            raise ValueError("axes don't match array")
    return wrap(ops.transpose_to(x, order))


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
    src = [one_axis(k, n) for k in ((source,) if isinstance(source, int) else source)]
    dst = [one_axis(k, n) for k in ((destination,) if isinstance(destination, int) else destination)]
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
    return reshape(x, shape)


@traces(np.squeeze, method="squeeze")
def squeeze(a: Any, axis: Any = None) -> Tracer:
    x = to_tracer(a)
    gone = [k for k, n in enumerate(x.shape) if n == 1] if axis is None else axes_of(axis, x.ndim)
    if any(x.shape[k] != 1 for k in gone):
        raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return reshape(x, [n for k, n in enumerate(x.shape) if k not in gone])


@traces(np.broadcast_to)
def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Tracer:
    return wrap(ops.broadcast_numpy(to_node(array), shape_of(shape)))


@traces(np.broadcast_arrays)
def broadcast_arrays(*arrays: Any, subok: bool = False) -> tuple[Tracer, ...]:
    shape = np.broadcast_shapes(*[np.shape(a) for a in arrays])
    return tuple(broadcast_to(a, shape) for a in arrays)


@traces(np.concatenate)
def concatenate(arrays: Any, axis: Any = 0, dtype: Any = None, casting: Any = None) -> Tracer:
    element = promote(*arrays) if dtype is None else dtype
    nodes = [to_node(a, element if isinstance(element, DType) else None) for a in arrays]
    if dtype is not None:
        nodes = [ops.convert(n, _dtype(dtype)) for n in nodes]
    if axis is None:
        nodes = [ops.reshape_to(n, (n.type.size,)) for n in nodes]
        axis = 0
    return wrap(ops.concatenate(*nodes, axis=one_axis(axis, nodes[0].type.ndim)))


def _dtype(spec: Any) -> DType:
    return dtype(spec)


@traces(np.stack)
def stack(arrays: Any, axis: int = 0, dtype: Any = None, casting: Any = None) -> Tracer:
    arrays = list(arrays)
    return concatenate([expand_dims(a, axis) for a in arrays], axis=one_axis(axis, np.ndim(arrays[0]) + 1), dtype=dtype)


def at_least(a: Any, ndim: int) -> Tracer:
    x = to_tracer(a)
    if ndim == 1:
        return reshape(x, (1,)) if x.ndim == 0 else x
    return reshape(x, (1, *x.shape) if x.ndim == 1 else (1, 1)) if x.ndim < 2 else x


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
        each, extra = divmod(n, sections)
        cuts = list(np.cumsum([0] + [each + 1] * extra + [each] * (sections - extra)))
    else:
        cuts = [0, *[int(c) for c in indices_or_sections], n]
    before = (slice(None),) * k
    return [x[(*before, slice(int(a), int(b)))] for a, b in zip(cuts[:-1], cuts[1:], strict=True)]


@traces(np.flip)
def flip(m: Any, axis: Any = None) -> Tracer:
    x = to_tracer(m)
    turned = axes_of(axis, x.ndim)
    return x[tuple(slice(None, None, -1) if k in turned else slice(None) for k in range(x.ndim))]


@traces(np.pad)
def pad(array: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Tracer:
    if mode != "constant":
        raise UnsupportedError(f"np.pad(mode={mode!r}) is not traced yet; pad with np.concatenate of slices")
    x = to_node(array)
    widths = np.broadcast_to(np.asarray(pad_width), (x.type.ndim, 2))
    if is_tracer(constant_values) or np.ndim(constant_values) == 0:
        shape = tuple(int(n + w.sum()) for n, w in zip(x.type.shape, widths, strict=True))
        start = tuple(int(w[0]) for w in widths)
        return wrap(ops.pad(x, to_node(constant_values, x.type.dtype), shape=shape, start=start, step=(1,) * x.type.ndim))
    raise UnsupportedError("np.pad with constant_values per side is not traced; pad once per side")


@traces(np.tile)
def tile(A: Any, reps: Any) -> Tracer:  # noqa: N803 (NumPy's parameter name)
    x = to_tracer(A)
    counts = shape_of(reps)
    rank = max(len(counts), x.ndim)
    counts = (1,) * (rank - len(counts)) + counts
    shape = (1,) * (rank - x.ndim) + x.shape
    spread = [v for c, n in zip(counts, shape, strict=True) for v in (c, n)]
    one = [v for n in shape for v in (1, n)]
    return reshape(broadcast_to(reshape(x, one), spread), [c * n for c, n in zip(counts, shape, strict=True)])


# ------------------------------------------------------------------------------------------------ elementwise


@traces(np.where)
def where(condition: Any, x: Any = None, y: Any = None, /) -> Tracer:
    if x is None or y is None:
        raise UnsupportedError("np.where(condition) alone has a shape that depends on data; use np.where(condition, x, y)")
    a, b = operands(x, y)
    c = to_node(truth_of(condition))
    shape = np.broadcast_shapes(c.type.shape, a.type.shape)
    c, a, b = (ops.broadcast_numpy(n, shape) for n in (c, a, b))
    return wrap(ops.select(c, a, b))


@traces(np.clip, method="clip")
def clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Tracer:  # noqa: A002
    low, high = (a_min if a_min is not None else min), (a_max if a_max is not None else max)
    x = to_tracer(a)
    if low is not None and low is not NO_VALUE:
        x = apply_ufunc(np.maximum, x, low)
    if high is not None and high is not NO_VALUE:
        x = apply_ufunc(np.minimum, x, high)
    return x


METHODS["astype"] = lambda x, dtype, copy=True: wrap(ops.convert(to_node(x), _dtype(dtype)))
METHODS["copy"] = lambda x, order="C": wrap(to_node(x), x._weak)


@traces(np.copy)
def copy(a: Any, order: str = "K", subok: bool = False) -> Tracer:
    return to_tracer(a).__copy__()


@traces(np.round, np.around, method="round")
def round_(a: Any, decimals: int = 0) -> Tracer:
    x = to_tracer(a)
    if not x._node.type.dtype.is_float:
        return x if decimals >= 0 else apply_ufunc(np.rint, x / 10**-decimals).astype(x.dtype) * 10**-decimals
    scale = 10.0**decimals
    return apply_ufunc(np.rint, x) if decimals == 0 else apply_ufunc(np.rint, x * scale) / scale


@traces(np.nan_to_num)
def nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Tracer:
    t = to_tracer(x)
    if not t._node.type.dtype.is_float:
        return t
    info = np.finfo(t.dtype)
    t = where(apply_ufunc(np.isnan, t), nan, t)
    t = where(apply_ufunc(np.equal, t, np.inf), info.max if posinf is None else posinf, t)
    return where(apply_ufunc(np.equal, t, -np.inf), info.min if neginf is None else neginf, t).astype(x.dtype)


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
def full_like(a: Any, fill_value: Any, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None) -> Tracer:
    like = to_tracer(a)._node.type
    element = like.dtype if dtype is None else _dtype(dtype)
    value = to_node(fill_value, element)
    return wrap(ops.broadcast_numpy(value, like.shape if shape is None else shape_of(shape)))


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
    tracers = [a for a in arrays_and_dtypes if isinstance(a, Tracer)]
    others = [a for a in arrays_and_dtypes if not isinstance(a, Tracer)]
    return np.result_type(*[np.zeros((), t.dtype) for t in tracers], *others)


@traces(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tracer:
    if ord not in (None, 2, "fro") or (ord == 2 and axis is None and np.ndim(x) > 1):
        raise UnsupportedError(f"np.linalg.norm(ord={ord!r}) is not traced yet")
    t = to_tracer(x)
    return apply_ufunc(np.sqrt, sum_(t * t, axis, keepdims=keepdims))


# ------------------------------------------------------------------------------------------------ indexing functions


@traces(np.take, method="take")
def take(a: Any, indices: Any, axis: Any = None, mode: str = "raise") -> Tracer:
    x = to_tracer(a)
    if axis is None:
        x, axis = ravel(x), 0
    k = one_axis(axis, x.ndim)
    index = to_tracer(indices)._node
    if not index.type.dtype.is_integer:
        raise GraphError(f"take: the indices must be integers, not {index.type}")
    index = ops.convert(index, i64)
    extent = x.shape[k]
    if mode == "wrap":
        index = ops.remainder(index, ops.like(index, extent))
    elif mode == "clip":
        index = ops.minimum(ops.maximum(index, ops.zeros(index.type)), ops.like(index, extent - 1))
    gathered = ops.gather(to_node(x), index, axes=(k,), mode="raise")
    order = list(range(index.type.ndim, gathered.type.ndim))
    order[k:k] = range(index.type.ndim)
    return wrap(ops.transpose_to(gathered, order))


@traces(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Tracer:
    x, index = to_tracer(arr), to_tracer(indices)
    if axis is None:
        return take_along_axis(ravel(x), index, 0)
    k = one_axis(axis, x.ndim)
    shape = np.broadcast_shapes(
        tuple(1 if j == k else n for j, n in enumerate(x.shape)), tuple(1 if j == k else n for j, n in enumerate(index.shape))
    )
    spread = tuple(index.shape[k] if j == k else n for j, n in enumerate(shape))
    index = broadcast_to(index, spread)
    x = broadcast_to(x, tuple(x.shape[k] if j == k else n for j, n in enumerate(shape)))
    parts = [index if j == k else wrap(ops.iota(shape=spread, axis=j, to=i64)) for j in range(x.ndim)]
    return x[tuple(parts)]


@traces(np.sort)
def sort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Tracer:
    x = ravel(a) if axis is None else to_tracer(a)
    return wrap(ops.sort(to_node(x), axis=one_axis(-1 if axis is None else axis, x.ndim)))


@traces(np.argsort, method="argsort")
def argsort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Tracer:
    x = ravel(a) if axis is None else to_tracer(a)
    return wrap(ops.argsort(to_node(x), axis=one_axis(-1 if axis is None else axis, x.ndim)))


@traces(np.linalg.cholesky)
def cholesky(a: Any, /, *, upper: bool = False) -> Tracer:
    lower = wrap(ops.cholesky(to_node(a)))
    return matrix_transpose(lower) if upper else lower


def array(value: Any) -> Tracer:
    """Nested lists of traced scalars and arrays, stacked: what ``np.array`` cannot do with tracers."""
    if isinstance(value, (list, tuple)):
        return stack([array(v) for v in value])
    return to_tracer(value)


METHODS["array"] = array


@property_("real")
def real(x: Tracer) -> Tracer:
    return x


@property_("flat")
def flat(x: Tracer) -> Any:
    return iter(ravel(x))


def full_type(shape: Any, element: Any) -> TensorType:
    return TensorType(_dtype(element), shape_of(shape))
