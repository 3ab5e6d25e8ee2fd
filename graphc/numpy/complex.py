"""Complex numbers in NumPy's functions: parts, conjugates, angles, and what ufuncs mean for them.

Complex numbers are ordered as in NumPy, by their real and then their imaginary parts; NaN (of either part) comes last in
sorting and wins in maximum and minimum. Of numbers that tie, the first gets the derivative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import Node
from graphc.numpy import ufuncs  # noqa: F401  (the table that COMPLEX extends)
from graphc.numpy.elementwise import full_like
from graphc.numpy.indexing import view_of
from graphc.numpy.tables import property_, strong, traces
from graphc.tracing import METHODS, UFUNCS, Tracer, apply_ufunc, to_node, to_tracer, wrap

# ------------------------------------------------------------------------------------------------ parts


def is_complex(x: Any) -> bool:
    return bool(to_tracer(x)._node.type.dtype.kind == "c")


@traces(np.iscomplexobj)
def iscomplexobj(x: Any) -> bool:
    return is_complex(x)


@traces(np.isrealobj)
def isrealobj(x: Any) -> bool:
    return not is_complex(x)


def part(x: Tracer, read: Any, write: Callable[[Node, Node], Node]) -> Tracer:
    """The real or imaginary parts: a view of an array, through which it can be changed; of a number a number."""
    if not x._is_array():
        return wrap(read(to_node(x)), x._weak)
    return view_of(x, read, write)


@property_("real")
@traces(np.real)
def real(val: Any) -> Tracer:
    x = to_tracer(val)
    return part(x, ops.real, lambda z, new: ops.complex_(new, ops.imag(z))) if is_complex(x) else x


@property_("imag")
@traces(np.imag)
def imag(val: Any) -> Tracer:
    x = to_tracer(val)
    return part(x, ops.imag, lambda z, new: ops.complex_(ops.real(z), new)) if is_complex(x) else full_like(x, 0)


def set_part(x: Tracer, name: str, value: Any) -> None:
    """``x.real = value`` and ``x.imag = value``."""
    if not is_complex(x):
        if name == "imag":
            raise TypeError("array does not have imaginary part to set")
        METHODS["setitem"](x, ..., value)
        return
    if not x._is_array():
        raise AttributeError(f"the {name} part of a complex number cannot be set; write a new one, or index with [()]")
    METHODS["setitem"](real(x) if name == "real" else imag(x), ..., value)


METHODS["set_part"] = set_part


def conjugate(x: Tracer) -> Tracer:
    """The method, which returns real arrays themselves."""
    return apply_ufunc(np.conjugate, x) if is_complex(x) else x


METHODS["conj"] = METHODS["conjugate"] = conjugate


@traces(np.angle)
def angle(z: Any, deg: bool = False) -> Tracer:
    """Of a real number 0 or pi, without a derivative."""
    x = to_tracer(z)
    if is_complex(x):
        found = apply_ufunc(np.arctan2, wrap(to_node(imag(x))), wrap(to_node(real(x))))
    else:
        found = apply_ufunc(np.arctan2, 0, wrap(ops.stop_gradient(to_node(x))))
    return found * (180 / math.pi) if deg else found


@traces(np.sort_complex)
def sort_complex(a: Any) -> Tracer:
    x = strong(a)
    narrow = x.dtype.char in "bhBH"
    wide = x if is_complex(x) else x.astype(np.complex64 if narrow else np.complex128)
    return wrap(sorted_along(to_node(wide), wide.ndim - 1))


# ------------------------------------------------------------------------------------------------ order


def ordered(strict: Any, greater: bool) -> Callable[[Node, Node], Node]:
    """NumPy's comparison of complex numbers: real parts first. False where a part that decides is NaN."""
    first = ops.gt if greater else ops.lt

    def compare(x: Node, y: Node) -> Node:
        (a, b), (c, d) = parts(x), parts(y)
        known = ops.bit_not(ops.bit_or(ops.isnan(b), ops.isnan(d)))
        by_real = ops.bit_and(first(a, c), known)
        return ops.bit_or(by_real, ops.bit_and(ops.eq(a, c), strict(b, d)))

    return compare


def parts(z: Node) -> tuple[Node, Node]:
    return ops.real(z), ops.imag(z)


less, less_equal = ordered(ops.lt, False), ordered(ops.le, False)
greater, greater_equal = ordered(ops.gt, True), ordered(ops.ge, True)


def extreme(beats: Callable[[Node, Node], Node], nan_wins: bool) -> Callable[[Node, Node], Node]:
    """maximum and minimum (``nan_wins``), fmax and fmin: x where it is no worse, or NaN counts for it."""

    def chosen(x: Node, y: Node) -> Node:
        settled = ops.isnan(x) if nan_wins else ops.isnan(y)
        return ops.select(ops.bit_or(beats(x, y), settled), x, y)

    return chosen


def winners(z: Node, axes: Sequence[int], largest: bool) -> Node:
    """Where the extreme over ``axes`` is attained: at NaN where there is any."""
    axes = tuple(axes)
    best, worst = (ops.reduce_max, -np.inf) if largest else (ops.reduce_min, np.inf)
    re, im = parts(z)
    hit = ops.eq(re, ops.expand(best(re, axes=axes), re, axes))
    im = ops.select(hit, im, ops.like(im, worst))
    hit = ops.bit_and(hit, ops.eq(im, ops.expand(best(im, axes=axes), im, axes)))
    unknown = ops.isnan(z)
    return ops.select(ops.expand(ops.reduce_or(unknown, axes=axes), hit, axes), unknown, hit)


def place_of_extreme(z: Node, axis: int, largest: bool) -> Node:
    """argmax and argmin: the first place."""
    return ops.argmax(winners(z, (axis,), largest), axis=axis)


def reduce_extreme(z: Node, axes: Sequence[int], largest: bool) -> Node:
    """max and min over ``axes``: the first number that attains it."""
    kept = [k for k in range(z.type.ndim) if k not in axes]
    shape = tuple(z.type.shape[k] for k in kept)
    flat = ops.reshape_to(ops.transpose_to(z, (*kept, *axes)), (*shape, math.prod(z.type.shape[k] for k in axes)))
    place = place_of_extreme(flat, len(shape), largest)
    return ops.reshape_to(ops.take_along_axis(flat, ops.reshape(place, shape=(*shape, 1)), len(shape)), shape)


def order_along(z: Node, axis: int) -> Node:
    """argsort, stable; of complex numbers by which part is NaN, then by the real, then by the imaginary part."""
    if z.type.dtype.kind != "c":
        return ops.argsort(z, axis=axis)
    re, im = parts(z)
    none, both = ops.zeros(re.type), ops.like(re, 2)
    unknown = ops.add(ops.select(ops.isnan(re), both, none), ops.select(ops.isnan(im), ops.like(re, 1), none))
    order = ops.argsort(im, axis=axis)
    for key in (re, unknown):
        order = ops.take_along_axis(order, ops.argsort(ops.take_along_axis(key, order, axis), axis=axis), axis)
    return order


def sorted_along(z: Node, axis: int) -> Node:
    if z.type.dtype.kind != "c":
        return ops.sort(z, axis=axis)
    return ops.take_along_axis(z, order_along(z, axis), axis) if z.type.size else z


# ------------------------------------------------------------------------------------------------ ufuncs


def power(x: Node, y: Node) -> Node:
    """Whole constant exponents by multiplication, with which derivatives are right at 0."""
    exponent = ops.constant_value(y)
    if exponent is not None and exponent.imag == 0 and float(exponent.real).is_integer() and abs(exponent) < 2**31:
        return ops.integer_pow(x, exponent=int(exponent.real))
    return ops.pow_(x, y)


def times(factor: float) -> Callable[[Node], Node]:
    return lambda z: ops.complex_(*[ops.mul(p, ops.like(p, factor)) for p in parts(z)])


def after(function: Callable[[Node], Node], last: Callable[[Node], Node]) -> Callable[[Node], Node]:
    return lambda z: last(function(z))


def isinf(z: Node) -> Node:
    return ops.bit_or(*[ops.eq(ops.abs_(p), ops.like(p, np.inf)) for p in parts(z)])


def rint(z: Node) -> Node:
    return ops.complex_(*map(ops.rint, parts(z)))


#: The ufuncs whose node for complex operands is not the one for real ones.
COMPLEX: dict[Any, Callable[..., Node]] = {
    np.conjugate: ops.conj,
    np.power: power,
    np.float_power: power,
    np.reciprocal: ops.creciprocal,
    np.exp2: after(times(math.log(2)), ops.exp),
    np.log2: after(ops.log, times(1 / math.log(2))),
    np.log10: after(ops.log, times(1 / math.log(10))),
    np.tan: lambda z: ops.over_i(ops.tanh(ops.times_i(z))),
    np.sinh: lambda z: ops.over_i(ops.sin(ops.times_i(z))),
    np.cosh: lambda z: ops.cos(ops.times_i(z)),
    np.arcsin: ops.casin,
    np.arccos: ops.cacos,
    np.arctan: ops.catan,
    np.arcsinh: ops.casinh,
    np.arccosh: ops.cacosh,
    np.arctanh: ops.catanh,
    np.rint: rint,
    np.isnan: ops.isnan,
    np.isfinite: ops.isfinite,
    np.isinf: isinf,
    np.less: less,
    np.less_equal: less_equal,
    np.greater: greater,
    np.greater_equal: greater_equal,
    np.maximum: extreme(greater_equal, True),
    np.minimum: extreme(less_equal, True),
    np.fmax: extreme(greater_equal, False),
    np.fmin: extreme(less_equal, False),
}


def with_complex(rule: Callable[..., Any], on_complex: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *xs: (on_complex if xs[0].type.dtype.kind == "c" else rule)(*xs)


UFUNCS[np.conjugate] = lambda x: x
UFUNCS.update({ufunc: with_complex(UFUNCS[ufunc], rule) for ufunc, rule in COMPLEX.items()})

__all__ = [
    "angle", "conjugate", "imag", "iscomplexobj", "isrealobj", "order_along", "place_of_extreme", "real", "reduce_extreme",
    "sort_complex", "sorted_along",
]  # fmt: skip
