"""Complex numbers: their parts, conjugates, and the inverse functions that only they need records for.

Derivatives follow JAX's convention. For a real loss L, the cotangent of z = x + iy is ∂L/∂x - i ∂L/∂y, so that
dL = Re(ct·dz): rules of holomorphic functions multiply by f'(z) without a conjugate, and

    real: ct ↦ ct + 0i      imag: ct ↦ -i ct      conj: ct ↦ conj(ct)      complex_(x, y): ct ↦ (Re ct, -Im ct)

Backends that generate code see none of this: :mod:`graphc.passes.complex` makes two real nodes of each complex one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.ir import GraphError, Node, Op
from graphc.ops.arithmetic import add, convert, div, mul, neg, sqrt, sub
from graphc.ops.base import check_equal, check_kind, define, elementwise, full, same_type, zeros
from graphc.ops.movement import reshape, slice_
from graphc.types import TensorType, Type, dtype

# ------------------------------------------------------------------------------------------------ parts


def _part_type(name: str) -> Callable[..., Type]:
    def infer(x: TensorType) -> Type:
        check_kind(name, x, "c")
        return TensorType(x.dtype.real, x.shape)

    return infer


def _part_jvp(record: Callable[[], Op]) -> Callable[..., Node | None]:
    return lambda tangents, out, z: None if tangents[0] is None else record()(tangents[0])


#: ``real(z)``: the real parts.
real: Op = define(
    Op(
        "real",
        "elementwise",
        infer=_part_type("real"),
        eval=lambda z: np.ascontiguousarray(z.real).reshape(z.shape),
        vjp=lambda ct, out, z: (convert(ct, z.type.dtype),),
        jvp=_part_jvp(lambda: real),
        batch=lambda size, flags, z: real(z),
    )
)

#: ``imag(z)``: the imaginary parts.
imag: Op = define(
    Op(
        "imag",
        "elementwise",
        infer=_part_type("imag"),
        eval=lambda z: np.ascontiguousarray(z.imag).reshape(z.shape),
        vjp=lambda ct, out, z: (complex_(zeros(ct.type), neg(ct)),),
        jvp=_part_jvp(lambda: imag),
        batch=lambda size, flags, z: imag(z),
    )
)


def _complex_type(x: TensorType, y: TensorType) -> Type:
    check_equal("complex_", x, y)
    if x.dtype.name not in ("f32", "f64"):
        raise GraphError(f"complex_ is defined for f32 and f64, not {x}")
    return TensorType(x.dtype.complex, x.shape)


def _complex_eval(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    z = np.empty(np.shape(x), dtype(x.dtype).complex.numpy)
    z.real, z.imag = x, y  # x + 1j * y would make NaN of an infinite part
    return z


def _complex_jvp(tangents: Sequence[Node | None], out: Node, x: Node, y: Node) -> Node | None:
    tx, ty = tangents
    if tx is None and ty is None:
        return None
    return complex_(zeros(x.type) if tx is None else tx, zeros(y.type) if ty is None else ty)


def _both_batch(size: int, flags: Sequence[bool], x: Node, y: Node) -> Node:
    from graphc.ops.base import batched_operands

    return complex_(*batched_operands(size, flags, (x, y)))


#: ``complex_(x, y)``: x + iy of two real tensors.
complex_: Op = define(
    Op(
        "complex_",
        "elementwise",
        infer=_complex_type,
        eval=_complex_eval,
        vjp=lambda ct, out, x, y: (real(ct), neg(imag(ct))),
        jvp=_complex_jvp,
        batch=_both_batch,
    )
)

#: ``conj(z)``.
conj: Op = define(
    Op(
        "conj",
        "elementwise",
        infer=same_type("conj", "c"),
        eval=np.conjugate,
        vjp=lambda ct, out, z: (conj(ct),),
        jvp=_part_jvp(lambda: conj),
        batch=lambda size, flags, z: conj(z),
        facts=frozenset(("involution",)),
    )
)

# ------------------------------------------------------------------------------------------------ the same memory


def _as_real_type(z: TensorType) -> Type:
    check_kind("view_as_real", z, "c")
    return TensorType(z.dtype.real, (*z.shape, 2))


def _as_complex_type(x: TensorType) -> Type:
    if x.dtype.name not in ("f32", "f64") or not x.shape or x.shape[-1] != 2:
        raise GraphError(f"view_as_complex takes f32 or f64 with a last axis of length 2, not {x}")
    return TensorType(x.dtype.complex, x.shape[:-1])


def _as_real_eval(z: np.ndarray) -> np.ndarray:
    return np.stack([z.real, z.imag], axis=-1)


def _as_complex_eval(x: np.ndarray) -> np.ndarray:
    return _complex_eval(x[..., 0], x[..., 1])


#: ``view_as_real(z)``: the memory of z as real numbers, a last axis of length 2 holding the parts.
view_as_real: Op = define(
    Op(
        "view_as_real",
        "movement",
        infer=_as_real_type,
        eval=_as_real_eval,
        vjp=lambda ct, out, z: (conj(view_as_complex(ct)),),
        jvp=_part_jvp(lambda: view_as_real),
        batch=lambda size, flags, z: view_as_real(z),
    )
)

#: ``view_as_complex(x)``: its inverse.
view_as_complex: Op = define(
    Op(
        "view_as_complex",
        "movement",
        infer=_as_complex_type,
        eval=_as_complex_eval,
        vjp=lambda ct, out, x: (view_as_real(conj(ct)),),
        jvp=_part_jvp(lambda: view_as_complex),
        batch=lambda size, flags, x: view_as_complex(x),
    )
)


def part_of_pairs(x: Node, k: int) -> Node:
    """``x[..., k]``"""
    shape = x.type.shape[:-1]
    ones = (1,) * x.type.ndim
    return reshape(slice_(x, start=(*(0,) * len(shape), k), size=(*shape, 1), step=ones), shape=shape)


# ------------------------------------------------------------------------------------------------ inverse functions


def _function(name: str, function: Callable[..., Any], derivative: Callable[[Node, Node], Node]) -> Op:
    """A holomorphic function; ``derivative(z, f(z))``. Its name has C's leading c: for real operands there are others."""

    def evaluate(z: np.ndarray) -> np.ndarray:
        return np.asarray(function(z), dtype=z.dtype)

    return elementwise(
        name, f"{name}({{0}})", evaluate, (lambda g, o, z: mul(g, derivative(z, o)),), same_type(name, "c")
    )


def one(z: Node) -> Node:
    return full(z.type, 1)


def _inverse(z: Node) -> Node:
    return div(one(z), z)


def _one_minus_square(z: Node) -> Node:
    return mul(sub(one(z), z), add(one(z), z))


def _one_plus_square(z: Node) -> Node:
    return add(one(z), mul(z, z))


creciprocal = _function("creciprocal", np.reciprocal, lambda z, o: neg(mul(o, o)))
casin = _function("casin", np.arcsin, lambda z, o: _inverse(sqrt(_one_minus_square(z))))
cacos = _function("cacos", np.arccos, lambda z, o: neg(_inverse(sqrt(_one_minus_square(z)))))
catan = _function("catan", np.arctan, lambda z, o: _inverse(_one_plus_square(z)))
casinh = _function("casinh", np.arcsinh, lambda z, o: _inverse(sqrt(_one_plus_square(z))))
cacosh = _function("cacosh", np.arccosh, lambda z, o: _inverse(mul(sqrt(sub(z, one(z))), sqrt(add(z, one(z))))))
catanh = _function("catanh", np.arctanh, lambda z, o: _inverse(_one_minus_square(z)))


def times_i(z: Node) -> Node:
    """i·z, exact also for infinities and zeros with a sign."""
    return complex_(neg(imag(z)), real(z))


def over_i(z: Node) -> Node:
    """z / i = -i·z"""
    return complex_(imag(z), neg(real(z)))


__all__ = [
    "cacos", "cacosh", "casin", "casinh", "catan", "catanh", "complex_", "conj", "creciprocal", "imag", "over_i",
    "part_of_pairs", "real", "times_i", "view_as_complex", "view_as_real",
]  # fmt: skip
