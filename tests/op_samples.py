"""Samples of every op: operand specs and attributes, one line per op (and a few more where shapes branch).

``SAMPLES[name]`` is a list of :class:`Sample`. Operands are specs, from which :func:`draw` makes arrays: always the
same for one sample, op and ``member`` (members differ, and are what a batch is stacked of). Specs of floats have no
element type of their own: the tests draw them as every type that the op takes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from graphc import types
from graphc.ir import Array
from graphc.types import DType

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Spec:
    """An operand: ``make(rng)`` gives its array. ``element`` is None where the test chooses the element type."""

    make: Callable[[np.random.Generator], np.ndarray] = field(repr=False)
    element: DType | None = None


@dataclass(frozen=True)
class Sample:
    """Operands and attributes of one call. ``smooth``: the op has (its) derivatives there."""

    operands: tuple[Spec, ...] = ()
    attrs: dict[str, Any] = field(default_factory=dict)
    smooth: bool = True


def s(*operands: Spec, **attrs: Any) -> Sample:
    return Sample(operands, attrs)


def rough(sample: Sample) -> Sample:
    """``sample``, at a point where central differences are no derivative."""
    return replace(sample, smooth=False)


def x(*shape: int, low: float = -2.0, high: float = 2.0) -> Spec:
    """Numbers in (low, high), all different and well apart, so that central differences cross no tie."""

    def make(rng: np.random.Generator) -> np.ndarray:
        count = int(np.prod(shape))
        places = rng.permutation(count) + rng.uniform(0.25, 0.75, count)
        return (low + (high - low) * places / max(count, 1)).reshape(shape)

    return Spec(make)


def given(*numbers: int) -> Spec:
    """These i32 numbers."""
    return Spec(lambda rng: np.array(numbers, np.int32), types.i32)


def pos(*shape: int) -> Spec:
    return x(*shape, low=0.3, high=2.0)


def minus(*shape: int) -> Spec:
    return x(*shape, low=-2.0, high=-0.3)


def unit(*shape: int) -> Spec:
    """Numbers away from 0 and integers, between 0 and 1."""
    return x(*shape, low=0.15, high=0.85)


def ties(*shape: int) -> Spec:
    """Numbers among -1, 0 and 1: many are equal."""
    return Spec(lambda rng: rng.integers(-1, 2, shape).astype(np.float64))


def n(low: int, high: int, *shape: int, to: DType = types.i64) -> Spec:
    """Integers in [low, high), as index tensors have."""
    return Spec(lambda rng: rng.integers(low, high, shape).astype(to.numpy), to)


def distinct(extent: int, *shape: int, to: DType = types.i64) -> Spec:
    """Different integers in [0, extent)."""
    count = int(np.prod(shape))
    return Spec(lambda rng: rng.permutation(extent)[:count].reshape(shape).astype(to.numpy), to)


def flag(*shape: int) -> Spec:
    return Spec(lambda rng: rng.integers(0, 2, shape).astype(bool), types.bool_)


def key(*shape: int) -> Spec:
    return Spec(lambda rng: rng.integers(0, 2**32, (*shape, 2), dtype=np.uint32), types.u32)


def spd(*shape: int) -> Spec:
    """Symmetric positive definite matrices."""

    def make(rng: np.random.Generator) -> np.ndarray:
        a = rng.normal(size=(*shape, shape[-1]))
        return a @ np.swapaxes(a, -1, -2) + 2 * np.eye(shape[-1])

    return Spec(make)


def singular(*shape: int) -> Spec:
    """Square matrices without an inverse, exactly: small integers, one column twice the other, one row 0."""

    def make(rng: np.random.Generator) -> np.ndarray:
        a = rng.integers(1, 5, (*shape, shape[-1])).astype(np.float64)
        a[..., :, 1] = 2 * a[..., :, 0]
        a[..., -1, :] = 0
        return a

    return Spec(make)


def tiny(*shape: int) -> Spec:
    """What counts as 0 beside 1."""
    return Spec(lambda rng: np.full(shape, 1e-3))


def tri(*shape: int) -> Spec:
    """Square matrices with a diagonal away from 0; both triangles filled."""
    return Spec(lambda rng: rng.normal(size=(*shape, shape[-1])) * 0.5 + 2 * np.eye(shape[-1]))


def draw(name: str, sample: Sample, element: DType, member: int = 0) -> list[np.ndarray]:
    """The operands as arrays, those without an element type of their own as ``element``."""
    arrays = []
    k = SAMPLES[name].index(sample)
    for position, spec in enumerate(sample.operands):
        rng = np.random.default_rng([zlib.crc32(name.encode()), k, position, member])
        value = spec.make(rng)
        arrays.append(np.asarray(value) if spec.element else as_element(value, element))
    return arrays


def as_element(value: np.ndarray, element: DType) -> np.ndarray:
    """Floats as another type: integers by rounding 3 times the value (unsigned ones wrap), bool by sign.

    Complex numbers have the value as their real part and one away from 0 as the other.
    """
    if element.kind == "c":
        return np.asarray((value + 1j * (0.7 * np.roll(value, 1) + 0.2)).astype(element.numpy))
    if element.kind == "b":
        return np.asarray(value > 0)
    if element.kind in "iu":
        return np.asarray(np.rint(3 * value).astype(np.int64).astype(element.numpy))
    return np.asarray(value.astype(element.numpy))


def win(window: Shape, strides: Shape, padding: Any, dilation: Shape, **more: Any) -> dict[str, Any]:
    return {"window": window, "strides": strides, "padding": padding, "dilation": dilation, **more}


def cv(strides: Shape, padding: Any, lhs_dilation: Shape, rhs_dilation: Shape, groups: int = 1) -> dict[str, Any]:
    return {
        "strides": strides,
        "padding": padding,
        "lhs_dilation": lhs_dilation,
        "rhs_dilation": rhs_dilation,
        "groups": groups,
    }


def ts(
    lower: bool = True, transpose: bool = False, unit_diagonal: bool = False, left_side: bool = True
) -> dict[str, bool]:
    return {"lower": lower, "transpose": transpose, "unit_diagonal": unit_diagonal, "left_side": left_side}


def share(*shape: int) -> Spec:
    return x(*shape, low=0.1, high=0.9)


def above(*shape: int) -> Spec:
    return x(*shape, low=1.5, high=4.0)


def unary(spec: Callable[..., Spec] = x) -> list[Sample]:
    return [s(spec(2, 3)), s(spec()), s(spec(0, 2))]


def unit_open(*shape: int) -> Spec:
    """Numbers in (-1, 1), away from its ends."""
    return x(*shape, low=-0.9, high=0.9)


def above_one(*shape: int) -> Spec:
    return x(*shape, low=1.2, high=4.0)


def binary(left: Callable[..., Spec] = x, right: Callable[..., Spec] = x) -> list[Sample]:
    return [s(left(2, 3), right(2, 3)), s(left(), right()), s(left(0, 2), right(0, 2))]


def reduction(spec: Callable[..., Spec] = x) -> list[Sample]:
    return [s(spec(2, 3, 2), axes=(0, 2)), s(spec(2, 3), axes=()), s(spec(5), axes=(0,)), s(spec(0, 2), axes=(1,))]


def along(**more: Any) -> list[Sample]:
    return [
        s(x(2, 4), axis=1, **more),
        s(x(3, 2, 2), axis=0, **more),
        rough(s(ties(6), axis=0, **more)),
        s(x(0, 2), axis=1, **more),
    ]


def running(operands: int = 1) -> list[Sample]:
    def operand(*shape: int) -> list[Spec]:
        return [x(*shape)] * operands

    return [
        s(*operand(2, 4), axis=1, reverse=False), s(*operand(3, 2, 2), axis=0, reverse=True),
        s(*operand(2, 3, 9), axis=1, reverse=False), s(*operand(5), axis=0, reverse=True),
        rough(s(*[ties(6)] * operands, axis=0, reverse=False)), s(*operand(0, 2), axis=1, reverse=False),
        s(*operand(2, 0), axis=1, reverse=True),
    ]  # fmt: skip


SAMPLES: dict[str, list[Sample]] = {
    "constant": [s(value=Array(np.arange(6.0).reshape(2, 3))), s(value=Array(True))],
    # ------------------------------------------------------------------------------------------ elementwise
    "add": binary(), "sub": binary(), "mul": binary(), "div": [*binary(x, pos), s(x(3), minus(3))],
    "neg": unary(), "abs": unary(),
    "sign": unary(), "floor": unary(unit), "ceil": unary(unit), "trunc": unary(unit), "rint": unary(unit),
    "floor_divide": binary(unit, pos), "remainder": [*binary(x, pos), s(x(3), minus(3))],
    "maximum": binary(), "minimum": binary(),
    "pow": binary(pos, x),
    "integer_pow": [s(x(2, 3), exponent=k) for k in (0, 1, 2, 3, 5)]
    + [s(pos(3), exponent=-2), s(minus(3), exponent=-3), s(x(), exponent=2)],
    "exp": unary(), "expm1": unary(), "log": unary(pos), "log1p": [*unary(pos), s(x(3, low=-0.8, high=-0.1))],
    "sqrt": unary(pos), "rsqrt": unary(pos),
    "sin": unary(), "cos": unary(), "tanh": unary(), "sigmoid": unary(), "erf": unary(),
    "atan2": [*binary(pos, x), s(minus(3), x(3))],
    "exp2": unary(), "log2": unary(pos), "log10": unary(pos), "cbrt": [*unary(pos), s(minus(3))], "tan": unary(unit_open),
    "asin": unary(unit_open), "acos": unary(unit_open), "atan": unary(), "sinh": unary(), "cosh": unary(), "asinh": unary(),
    "acosh": unary(above_one), "atanh": unary(unit_open), "fmod": [*binary(x, pos), s(x(3), minus(3))],
    "bitcast": [
        rough(s(n(1, 99, *shape, to=have), to=to)) for shape in ((2, 3), (), (0, 2)) for have, to in (
            (types.i32, types.f32), (types.u32, types.f32), (types.i32, types.u32), (types.f64, types.i64),
            (types.f64, types.u64), (types.i64, types.f64), (types.u64, types.f64),
        )
    ],
    "eq": binary(ties, ties), "ne": binary(ties, ties), "lt": binary(), "le": binary(ties, ties), "gt": binary(),
    "ge": binary(ties, ties), "isnan": unary(), "isfinite": unary(),
    "bit_and": binary(), "bit_or": binary(), "bit_xor": binary(), "bit_not": unary(),
    "shift_left": binary(x, pos), "shift_right": binary(x, pos),
    "select": [s(flag(2, 3), x(2, 3), x(2, 3)), s(flag(), x(), x()), s(flag(0), x(0), x(0))],
    "cast": [s(unit(2, 3), to=to) for to in types.DTYPES.values()],
    "real": unary(), "imag": unary(), "conj": unary(), "complex_": binary(), "view_as_real": unary(),
    "view_as_complex": [s(x(2, 3, 2)), s(x(2)), s(x(0, 2))],
    "creciprocal": unary(), "casin": unary(), "cacos": unary(), "catan": unary(), "casinh": unary(),
    "cacosh": unary(), "catanh": unary(),
    "alias": [s(x(2, 3), tag=1)], "barrier": [s(x(2, 3), tag=1)], "stop_gradient": [rough(s(x(2, 3)))],
    "iota": [s(shape=(2, 3), axis=k, to=to) for k in (0, 1) for to in (types.i64, types.u8, types.f32, types.bf16)],
    # ------------------------------------------------------------------------------------------ special functions
    **{name: unary() for name in ("erfc", "erfcx", "ndtr", "log_ndtr", "i0", "i1", "i0e", "i1e", "j0", "j1", "log_expit",
        "cosm1")},
    **{name: unary(pos) for name in ("gammaln", "gamma", "rgamma", "digamma", "k0", "k1", "k0e", "k1e", "entr", "log1pmx",
        "log1p_ratio")},
    **{name: unary(share) for name in ("erfinv", "erfcinv", "ndtri", "logit")},
    "logaddexp": binary(),
    **{name: binary(pos, pos) for name in ("beta", "betaln", "gammainc", "gammaincc", "gamma_pdf", "xlogy", "xlog1py",
        "rel_entr", "kl_div", "boxcox", "boxcox1p")},
    **{name: [s(pos(2, 3), pos(2, 3), share(2, 3)), s(pos(0), pos(0), share(0))] for name in ("betainc", "beta_pdf")},
    "gammasgn": unary(), "zeta": [s(above(2, 3), pos(2, 3)), s(above(0), pos(0))],
    "polygamma": [s(pos(2, 3), order=1), s(pos(3), order=3)], "exprel": [s(x(2, 3), order=0), s(x(3), order=2)],
    "gammainc_moment": [s(pos(3), pos(3), order=1), s(pos(3), pos(3), order=2)],
    "betainc_moment": [s(pos(3), pos(3), share(3), first=1, second=0), s(pos(3), pos(3), share(3), first=1, second=1)],
    # ------------------------------------------------------------------------------------------ movement
    "broadcast_to": [s(x(2, 1), shape=(2, 3, 1), axes=(0, 2)), s(x(), shape=(2,), axes=()),
        s(x(2), shape=(0, 2), axes=(1,))],
    "reshape": [s(x(2, 3), shape=(3, 1, 2)), s(x(1, 1), shape=()), s(x(0, 2), shape=(3, 0))],
    "transpose": [s(x(2, 3, 4), axes=(2, 0, 1)), s(x(), axes=()), s(x(0, 2), axes=(1, 0))],
    "slice": [
        s(x(5, 4), start=(3, 0), size=(2, 2), step=(-2, 3)), s(x(3), start=(0,), size=(0,), step=(1,)),
        s(x(0, 2), start=(0, 1), size=(0, 1), step=(1, 1)), s(x(4), start=(3,), size=(4,), step=(-1,)),
    ],
    "pad": [
        s(x(2, 3), x(), shape=(5, 7), start=(3, 1), step=(-2, 2)), s(x(0), x(), shape=(3,), start=(0,), step=(1,)),
        s(x(), x(), shape=(), start=(), step=()),
    ],
    "concatenate": [s(x(2, 1), x(2, 3), x(2, 0), axis=1), s(x(2), axis=0), s(x(0, 2), x(0, 2), axis=0)],
    # ------------------------------------------------------------------------------------------ reductions, contraction
    "reduce_sum": reduction(), "reduce_prod": [*reduction(), s(ties(7), axes=(0,)), s(ties(2, 3, 2), axes=(1, 2))],
    "reduce_max": reduction(), "reduce_min": reduction(), "reduce_and": reduction(), "reduce_or": reduction(),
    "argmax": along()[:3], "argmin": along()[:3],
    "dot": [
        s(x(2, 3), x(3, 4), batch=((), ()), contract=((1,), (0,))),
        s(x(2, 3, 4), x(4, 5, 2), batch=((0,), (2,)), contract=((2,), (0,))),
        s(x(2, 3, 4, 2), x(2, 4, 2, 3), batch=((3,), (0,)), contract=((1, 2), (3, 1))),
        s(x(3), x(3), batch=((), ()), contract=((0,), (0,))), s(x(2), x(3), batch=((), ()), contract=((), ())),
        s(x(2, 0), x(0, 3), batch=((), ()), contract=((1,), (0,))),
        s(x(0, 2), x(2, 3), batch=((), ()), contract=((1,), (0,))),
    ],
    # ------------------------------------------------------------------------------------------ indexing
    "gather": [
        s(x(4, 3), n(-4, 4, 2, 3), axes=(0,), mode="raise"),
        s(x(4, 3, 2), n(-2, 2, 3), n(-4, 4, 3), axes=(2, 0), mode="raise"),
        s(x(3, 4), n(-3, 7, 5, to=types.i8), axes=(1,), mode="clip"), s(x(3, 4), n(-3, 7, 5), axes=(1,), mode="drop"),
        s(x(3), n(0, 3, to=types.u16), axes=(0,), mode="raise"), s(x(0, 2), n(0, 2, 3), axes=(1,), mode="raise"),
        s(x(0, 2), n(-1, 2, 3), axes=(0,), mode="drop"), s(x(3, 2), n(0, 3, 0), axes=(0,), mode="clip"),
        s(x(2, 3), n(0, 2, 2, 2), n(0, 3, 2, 2), axes=(0, 1), mode="clip"),
    ],
    "scatter": [
        s(x(4, 3), x(2, 2, 3), n(-4, 4, 2, 2), axes=(0,), mode="raise", combine="set"),
        s(x(4, 3, 2), x(5, 3), n(-2, 2, 5), n(-4, 4, 5), axes=(2, 0), mode="raise", combine="add"),
        s(x(2, 4), x(6, 2), n(-3, 7, 6, to=types.i8), axes=(1,), mode="clip", combine="set"),
        s(x(2, 4), x(6, 2), n(-3, 7, 6), axes=(1,), mode="drop", combine="set"),
        s(x(2, 4), x(6, 2), n(-3, 7, 6), axes=(1,), mode="drop", combine="add"),
        s(x(4, 2), x(7, 2), n(-1, 4, 7), axes=(0,), mode="drop", combine="mul"),
        s(ties(3), ties(8), n(0, 3, 8), axes=(0,), mode="raise", combine="mul"),
        s(x(4, 2), x(7, 2), n(-4, 4, 7), axes=(0,), mode="raise", combine="max"),
        s(x(4, 2), x(7, 2), n(-1, 5, 7), axes=(0,), mode="drop", combine="min"),
        s(x(3), x(), n(0, 3), axes=(0,), mode="raise", combine="set"),
        s(x(3), x(0), n(0, 3, 0), axes=(0,), mode="raise", combine="set"),
        s(x(3), x(0), n(0, 3, 0), axes=(0,), mode="raise", combine="mul"),
        s(x(3), x(1), n(0, 3, 1), axes=(0,), mode="clip", combine="mul"),
        s(x(0, 2), x(3, 0), n(0, 2, 3), axes=(1,), mode="raise", combine="add"),
    ],
    "segments": [
        s(n(-4, 4, 9), extents=(4,), axes=(0,), mode="raise"),
        s(n(-2, 6, 7, to=types.i8), extents=(4,), axes=(1,), mode="drop"),
        s(n(-2, 6, 5), n(0, 3, 5), extents=(4, 3), axes=(0, 2), mode="clip"),
        s(n(0, 4, 0), extents=(4,), axes=(0,), mode="raise"),
    ],
    "segment_reduce": [
        s(x(3, 2), x(5, 2), given(0, 2, 2, 5), given(3, 1, 0, 4, 2), combine="add"),
        s(x(2), x(4), given(0, 1, 3), given(2, 0, 3, 1), combine="mul"),
        s(x(2, 3), x(4, 3), given(0, 0, 4), given(2, 0, 3, 1), combine="max"),
        s(x(2, 2), x(3, 2), given(0, 1, 3), given(1, 0, 2), combine="min"),
        s(x(2, 0), x(3, 0), given(0, 1, 3), given(1, 0, 2), combine="add"),
    ],
    "dynamic_slice": [
        s(x(4, 3), n(-3, 5), n(-3, 5), size=(2, 3)), s(x(3, 4), n(-3, 5), n(-3, 5), size=(3, 2)),
        s(x(4, 3, 2), *[n(0, 5, to=types.u8)] * 3, size=(2, 1, 2)),
        s(x(), size=()),
        s(x(3, 0), n(0, 2), n(0, 2), size=(2, 0)), s(x(3, 2), n(0, 2), n(0, 2), size=(0, 1)),
    ],
    "dynamic_update_slice": [
        s(x(4, 3), x(2, 3), n(-3, 5), n(-3, 5)), s(x(3, 4), x(3, 2), n(-3, 5), n(-3, 5)),
        s(x(4, 3, 2), x(2, 1, 2), *[n(0, 5, to=types.u8)] * 3), s(x(), x()),
        s(x(3, 0), x(2, 0), n(0, 2), n(0, 2)), s(x(3, 2), x(0, 1), n(0, 2), n(0, 2)),
    ],
    # ------------------------------------------------------------------------------------------ sort
    "sort": along(), "argsort": along(), "top_k": [s(x(2, 5), k=3), s(x(4), k=4), s(x(2, 3), k=0), s(x(0, 3), k=2),
        s(x(2, 1, 4), k=1)],
    # ------------------------------------------------------------------------------------------ cumulative
    "cumsum": running(), "cumprod": [*running(), s(ties(7), axis=0, reverse=False)], "cummax": running(),
    "cummin": running(), "recurrence": running(2),
    # ------------------------------------------------------------------------------------------ window
    "conv": [
        s(x(2, 3, 5), x(4, 3, 2), **cv((1,), ((0, 0),), (1,), (1,))),
        s(x(2, 2, 5, 4), x(3, 2, 3, 2), **cv((2, 1), ((1, 2), (-1, 1)), (1, 2), (2, 1))),
        s(x(2, 4, 6), x(6, 2, 3), **cv((2,), ((2, -1),), (1,), (1,), 2)),
        s(x(1, 3, 4), x(3, 1, 2), **cv((3,), ((0, 0),), (2,), (2,), 3)),
        s(x(1, 2, 3, 2, 3), x(2, 2, 2, 1, 2), **cv((1, 1, 2), ((1, 0), (0, 0), (1, 1)), (1, 1, 1), (1, 1, 1))),
        s(x(0, 2, 4), x(3, 2, 2), **cv((1,), ((0, 0),), (1,), (1,))),
        s(x(2, 0, 4), x(3, 0, 2), **cv((1,), ((0, 0),), (1,), (1,))),
        s(x(2, 2, 2), x(3, 2, 4), **cv((1,), ((0, 0),), (1,), (1,))),
        s(x(1, 2, 0), x(3, 2, 2), **cv((1,), ((2, 1),), (1,), (1,))),
        s(x(2, 2, 4), x(0, 2, 2), **cv((1,), ((0, 0),), (1,), (1,))),
    ],
    "reduce_window": [
        s(x(2, 5, 4), **win((1, 3, 2), (1, 2, 1), ((0, 0), (1, 2), (-1, 2)), (1, 1, 2), kind=kind))
        for kind in ("sum", "max", "min")
    ] + [s(x(7), **win((2,), (3,), ((-1, 3),), (2,), kind=kind)) for kind in ("sum", "max", "min")] + [
        s(x(), **win((), (), (), (), kind="max")),
        s(x(2, 2), **win((3, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), kind="sum")),
        s(x(2, 2), **win((3, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), kind="max")),
        s(x(0, 2), **win((1, 2), (1, 1), ((1, 1), (0, 0)), (1, 1), kind="sum")),
        s(x(0, 2), **win((1, 2), (1, 1), ((1, 1), (0, 0)), (1, 1), kind="max")),
        s(x(2), **win((1,), (1,), ((2, 2),), (1,), kind="max")),
    ],
    "window_argmax": [
        s(x(2, 5, 4), **win((1, 3, 2), (1, 2, 1), ((0, 0), (1, 2), (-1, 2)), (1, 1, 2), kind=kind))
        for kind in ("max", "min")
    ] + [s(ties(7), **win((3,), (1,), ((0, 1),), (1,), kind="max")),
    s(x(2), **win((1,), (1,), ((2, 2),), (1,), kind="min"))],
    "window_scatter": [
        s(x(2, 4, 6), x(2, 5, 4), **win((1, 3, 2), (1, 2, 1), ((0, 0), (3, 2), (1, 2)), (1, 1, 1), kind=kind))
        for kind in ("max", "min")
    ] + [s(x(6), x(7), **win((3,), (1,), ((0, 1),), (1,), kind="max")),
    s(x(6), x(2), **win((1,), (1,), ((2, 2),), (1,), kind="min"))],
    # ------------------------------------------------------------------------------------------ linear algebra
    "triangular_solve": [
        s(tri(3), x(3, 2), **ts(lower, transpose)) for lower in (True, False) for transpose in (True, False)
    ] + [
        s(tri(3), x(2, 3), **ts(lower, transpose, left_side=False))
        for lower in (True, False) for transpose in (True, False)
    ] + [
        s(tri(2, 3), x(2, 3, 2), **ts(unit_diagonal=True)), s(tri(2, 3), x(2, 2, 3), **ts(False, True, True, False)),
        s(tri(0), x(0, 2), **ts()), s(tri(2), x(2, 0), **ts()), s(tri(0, 2), x(0, 2, 1), **ts()),
    ],
    "cholesky": [s(spd(3)), s(spd(2, 2)), s(spd(1)), s(spd(0)), s(spd(0, 2))],
    "lu": [s(x(3, 3)), s(x(2, 4, 4)), s(tri(1)), s(tri(0)), s(tri(0, 2))],
    "nonsingular": [s(tri(3)), s(tri(2, 2)), s(tri(0)), s(tri(0, 2))],
    "qr": [s(x(4, 3), full=False), s(x(2, 3, 3), full=True), s(x(2, 2, 4), full=False), s(x(2, 3), full=True),
        s(x(3, 5), full=False),
        rough(s(x(4, 2), full=True)), s(x(0, 2), full=False), s(x(2, 0), full=False), s(x(0, 2, 2), full=False)],
    "eigh": [s(spd(3), lower=True), s(spd(2, 4), lower=False), s(spd(1), lower=True), s(spd(0), lower=True),
        s(spd(0, 2), lower=False)],
    "svd": [s(x(3, 3), full=True), s(x(4, 2), full=False), s(x(2, 2, 3), full=False), rough(s(x(2, 3), full=True)),
        rough(s(x(3, 2), full=True)), s(x(0, 2), full=False), s(x(2, 0), full=False), s(x(0, 2, 2), full=False)],
    "eigvalsh": [s(spd(3), lower=True), s(spd(2, 4), lower=False), s(spd(0), lower=True)],
    "svdvals": [s(x(3, 3)), s(x(4, 2)), s(x(2, 2, 3)), s(x(0, 2)), s(x(0, 2, 2))],
    "solve": [
        s(x(3, 3), x(3, 2), transpose=False, check=True), s(x(2, 3, 3), x(2, 3, 1), transpose=True, check=True),
        s(tri(2), x(2, 2), transpose=True, check=False), s(tri(0), x(0, 2), transpose=False, check=True),
        s(tri(2), x(2, 0), transpose=False, check=True), s(tri(0, 2), x(0, 2, 1), transpose=False, check=True),
    ],
    "slogdet": [s(x(3, 3)), s(x(2, 4, 4)), s(tri(1)), s(tri(0)), s(tri(0, 2))],
    "det": [s(x(4, 4)), s(x(2, 3, 3)), s(x(2, 2)), s(tri(1)), s(tri(0)), s(tri(0, 2)), s(singular(3)), s(singular(2, 4))],
    "cofactor": [s(x(4, 4)), s(x(2, 3, 3)), s(tri(0, 4)), s(singular(2, 4)), s(singular(3, 4))],
    "pinv": [s(x(4, 2), tiny()), s(x(2, 2, 3), tiny(2)), s(x(3, 3), tiny()), s(x(0, 2), tiny()), s(x(0, 2, 2), tiny(0))],
    # ------------------------------------------------------------------------------------------ random
    "random_bits": [s(key(), shape=(2, 3)), s(key(2), shape=(5,)), s(key(), shape=()), s(key(), shape=(0, 2))],
}  # fmt: skip
