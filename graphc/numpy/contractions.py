"""Products of matrices and tensors: ``@``, dot, tensordot, einsum. All lower to the one contraction."""

from __future__ import annotations

import operator
import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import Node, ShapeError
from graphc.numpy.indexing import view_of
from graphc.numpy.shapes import reshape
from graphc.numpy.tables import element_of, one_axis, operand, stored, strong, traces
from graphc.tracing import Tracer, apply_ufunc, note_widening, promote, to_node, to_tracer, wrap
from graphc.types import bool_, i64


@traces(np.matmul)
def matmul(x1: Any, x2: Any, *, dtype: Any = None) -> Tracer:
    x, y = contracted_pair(x1, x2, dtype)
    if x.type.ndim == 0 or y.type.ndim == 0:
        raise ShapeError(f"matmul: scalars are not allowed ({x.type} @ {y.type}); use * instead")
    k1, k2 = x.type.shape[-1], y.type.shape[max(y.type.ndim - 2, 0)]
    if k1 != k2:
        raise ShapeError(f"matmul: {x.type} @ {y.type}: the inner lengths {k1} and {k2} differ")
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
    common = promote(x, y) if element is None else element_of(element)
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
        raise ShapeError(f"matmul: {x.type} @ {y.type}: the leading axes do not broadcast together") from None
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
        raise ShapeError(
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
    return dot(apply_ufunc(np.conjugate, reshape(a, -1)), reshape(b, -1))


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
        raise ShapeError(f"tensordot: axes {xc} of {x.type} do not fit axes {yc} of {y.type}")
    return wrap(contract(x, y, xc, yc))


@traces(np.einsum)
def einsum(subscripts: Any, *arrays: Any, out: Any = None, optimize: Any = False, dtype: Any = None) -> Tracer:
    """Any letters and ellipsis; pairs of operands contract on NumPy's greedy path."""
    if not isinstance(subscripts, str):
        subscripts, arrays = written_subscripts((subscripts, *arrays))
    given_ = [operand(a) for a in arrays]
    element = promote(*given_) if dtype is None else element_of(dtype)
    note_widening(element, given_)
    terms, output = einsum_terms(subscripts, [a.shape for a in given_])
    if len(terms) == 1 and out is None and set(terms[0]) == set(output) and given_[0].dtype == element.numpy:
        return einsum_view(terms[0], output, to_tracer(given_[0]))
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


def written_subscripts(arguments: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """``einsum(x, [0, 1], y, [1])`` as the subscripts ``"ab,b"`` and the operands."""
    arrays, lists = arguments[0 : len(arguments) // 2 * 2 : 2], arguments[1::2]
    if not lists:
        raise ValueError("must provide at least an operand and a subscripts list to einsum")
    terms = [written_term(term) for term in lists]
    if len(arguments) % 2:
        return f"{','.join(terms)}->{written_term(arguments[-1])}", arrays
    return ",".join(terms), arrays


def written_term(places: Any) -> str:
    if not np.iterable(places) or isinstance(places, str):
        raise TypeError("For this input type lists must contain either int or Ellipsis")
    numbers = [operator.index(k) for k in places if k is not Ellipsis]
    if not all(0 <= k < len(_LETTERS) for k in numbers):
        raise ValueError("subscript is not within the valid range [0, 52)")
    return "".join("..." if k is Ellipsis else _LETTERS[operator.index(k)] for k in places)


#: Their order is that of the characters, by which an output that is not given is sorted.
_LETTERS = string.ascii_uppercase + string.ascii_lowercase


def einsum_view(term: str, output: str, x: Tracer) -> Tracer:
    """One operand of which nothing is summed: a view, also in NumPy: ``np.einsum("ii->i", a)[:] = 1``."""
    first = [k for k, letter in enumerate(term) if term.index(letter) == k]
    letters = "".join(term[k] for k in first)

    def read(base: Node) -> Node:
        return ops.transpose_to(einsum_diagonal(term, base)[1], [letters.index(c) for c in output])

    def write(base: Node, value: Node) -> Node:
        shape = base.type.shape
        spread = ops.broadcast(ops.transpose_to(value, [output.index(c) for c in letters]), shape, first)
        for k, letter in enumerate(term):
            if k not in first:
                same = ops.eq(*[ops.iota(shape=shape, axis=axis, to=i64) for axis in (term.index(letter), k)])
                spread = ops.select(same, spread, base)
        return spread

    return view_of(x, read, write)


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
        raise ShapeError(f"einsum: {subscripts!r} has {len(terms)} operands, {len(shapes)} given")
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
            raise ShapeError(f"einsum: the term {term!r} does not fit an operand of shape {shape}")
        full.append(term)
    if arrow:
        output = right.replace("...", dots)
    else:
        letters = "".join(full)
        output = dots + "".join(sorted(c for c in set(letters) if letters.count(c) == 1 and c not in dots))
    if len(set(output)) != len(output) or not set(output) <= set("".join(full)):
        raise ShapeError(
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
            raise ShapeError(f"einsum: the letter {letter!r} has lengths {node.type.shape[i]} and {node.type.shape[j]}")
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
            raise ShapeError(f"einsum: the letter {c!r} has lengths {sizes[c]} and {n}")
        sizes[c] = n if sizes.get(c, 1) == 1 else sizes[c]
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
