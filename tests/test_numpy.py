"""NumPy's functions on traced arrays against NumPy itself: element types, shapes, values; derivatives by differences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import scipy.special
from compare import check_same, in_numpy, traced

import graphc
import graphc.numpy as gnp
from graphc.tracing import UnsupportedError

DTYPES = [np.dtype(t) for t in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")]
SHAPES = [(), (3,), (2, 3), (0,), (2, 0, 3), (2, 1, 3)]


def array(shape: tuple[int, ...], dtype: Any = "f8", seed: int = 0) -> np.ndarray:
    """Numbers of both signs without ties, small enough for every element type."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        return rng.integers(0 if dtype.kind == "u" else -9, 10, shape).astype(dtype)
    return rng.normal(0, 2, shape).astype(dtype)


# ------------------------------------------------------------------------------------------------ promotion

BINARY = [
    np.add, np.subtract, np.multiply, np.true_divide, np.floor_divide, np.remainder, np.fmod, np.power, np.maximum,
    np.minimum, np.arctan2, np.hypot, np.logaddexp, np.equal, np.less, np.greater_equal, np.logical_and, np.bitwise_and,
    np.bitwise_xor, np.left_shift, np.right_shift, np.copysign, np.fmax, np.float_power, np.heaviside, np.divmod,
]  # fmt: skip
UNARY = [
    np.negative, np.absolute, np.sign, np.square, np.sqrt, np.exp, np.log1p, np.tanh, np.floor, np.rint, np.isnan,
    np.isfinite, np.logical_not, np.invert, np.reciprocal, np.signbit, np.cbrt, np.fabs, np.positive, np.isinf,
]  # fmt: skip
SCALARS = [
    True,
    2,
    -1,
    1.5,
    np.int8(2),
    np.uint64(3),
    np.float16(1.5),
    np.float32(1.5),
    np.float64(1.5),
    np.bool_(True),
]


def half(*values: Any) -> bool:
    """An f16 among integers or f64: there graphc follows JAX."""
    kinds = [v if isinstance(v, np.dtype) else getattr(v, "dtype", None) for v in values]
    kinds = [k for k in kinds if k is not None]
    return np.dtype("f2") in kinds and len(kinds) > 1


def result_dtypes(function: Callable[..., Any], *args: Any) -> Any:
    """The element types of the results in NumPy, or TypeError / ValueError / OverflowError as a name."""
    try:
        found = in_numpy(function, *args)
    except (TypeError, ValueError, OverflowError):
        return "refused"
    return [np.asarray(f).dtype for f in (found if isinstance(found, tuple) else (found,))]


def refused(function: Callable[..., Any], *args: Any) -> bool:
    try:
        in_numpy(function, *args)
    except (TypeError, ValueError):
        return True
    return False


def traced_dtypes(function: Callable[..., Any], *args: Any) -> Any:
    try:
        graph = graphc.trace(function, *args)
    except (TypeError, ValueError, OverflowError):
        return "refused"
    return [t.dtype.numpy for t in graph.output_types]


@pytest.mark.parametrize("ufunc", BINARY, ids=lambda u: u.__name__)
def test_promotion_of_pairs(ufunc: np.ufunc) -> None:
    for left, right in itertools.product(DTYPES, DTYPES):
        x, y = np.ones(2, left), np.ones(2, right)
        if half(left, right) or ufunc is np.power and {left.kind, right.kind} <= set("iub"):
            continue
        assert traced_dtypes(ufunc, x, y) == result_dtypes(ufunc, x, y), (left, right)


@pytest.mark.parametrize("ufunc", [u for u in BINARY if u is not np.power], ids=lambda u: u.__name__)
def test_promotion_with_numbers(ufunc: np.ufunc) -> None:
    """Python's numbers are weak and NumPy's strong, as literals and as traced arguments, on both sides."""
    for dtype, scalar in itertools.product(DTYPES, SCALARS):
        x = np.ones(2, dtype)
        if half(dtype, scalar):
            continue
        want = result_dtypes(ufunc, x, scalar)
        if want == "refused" and result_dtypes(ufunc, x, type(scalar)(1)) != "refused":
            continue  # -1 for an unsigned array: a traced number's value is not known
        assert traced_dtypes(lambda x: ufunc(x, scalar), x) == want, (dtype, scalar)  # noqa: B023
        assert traced_dtypes(ufunc, x, scalar) == want, (dtype, scalar)
        assert traced_dtypes(lambda x: ufunc(scalar, x), x) == result_dtypes(ufunc, scalar, x), (dtype, scalar)  # noqa: B023


@pytest.mark.parametrize("ufunc", UNARY, ids=lambda u: u.__name__)
def test_promotion_of_one(ufunc: np.ufunc) -> None:
    for dtype in DTYPES:
        assert traced_dtypes(ufunc, np.ones(2, dtype)) == result_dtypes(ufunc, np.ones(2, dtype)), dtype
    for scalar in SCALARS:
        assert traced_dtypes(ufunc, scalar) == result_dtypes(ufunc, scalar), scalar


OPERATORS: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / b, lambda a, b: a // b, lambda a, b: a % b,
    lambda a, b: a < b, lambda a, b: a == b, lambda a, b: -a + b, lambda a, b: abs(a) * b, lambda a, b: a**2 + b,
    lambda a, b: a**0.5 + b, lambda a, b: divmod(a, b)[0], lambda a, b: np.sqrt(a) * b, lambda a, b: np.add(a, 1) * b,
    lambda a, b: (a > 1) * b, lambda a, b: (a + a) * b, lambda a, b: np.where(a > 0, a, b),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(OPERATORS)))
def test_programs_on_numbers_promote_as_they_do_outside(number: int) -> None:
    """Operators on Python's numbers give Python's numbers (weak); NumPy's functions give NumPy's (strong)."""
    program = OPERATORS[number]
    array32 = np.ones(2, "f4")
    for first, second in itertools.product([True, 3, 2.5, np.float32(2), np.float64(2), np.int16(2)], repeat=2):
        if "divmod" in str(number) and isinstance(first, bool):
            continue
        want = result_dtypes(lambda a, b, x: program(a, b) * x, first, second, array32)
        assert traced_dtypes(lambda a, b, x: program(a, b) * x, first, second, array32) == want, (first, second)


def test_bf16_and_f16_promote_as_in_jax() -> None:
    bf16 = np.dtype(ml_dtypes.bfloat16)
    f16, f32, f64 = (np.dtype(t) for t in ("f2", "f4", "f8"))
    expected = {
        (bf16, bf16): bf16, (bf16, f16): f32, (bf16, f32): f32, (bf16, f64): f64, (f16, f16): f16, (f16, f32): f32,
        (f16, f64): f64,
        **{(half_, np.dtype(t)): half_ for half_ in (bf16, f16) for t in ("?", "i1", "i4", "i8", "u1", "u8")},
    }  # fmt: skip
    for (left, right), want in expected.items():
        x, y = np.ones(2).astype(left), np.ones(2).astype(right)
        for function in (
            np.add,
            np.maximum,
            lambda a, b: np.where(a > 0, a, b),
            lambda a, b: np.concatenate([a, b]),
            np.matmul,
        ):
            assert traced_dtypes(function, x, y) == [want] and traced_dtypes(function, y, x) == [want], (left, right)
    for half_ in (bf16, f16):
        x = np.ones(2).astype(half_)
        for scalar in (True, 2, 2.5):
            assert traced_dtypes(np.multiply, x, scalar) == [half_]
            assert traced_dtypes(lambda x: x + scalar, x) == [half_]  # noqa: B023
        assert traced_dtypes(np.exp, x) == [half_] and traced_dtypes(np.less, x, 1.5) == [np.dtype(bool)]
        assert traced_dtypes(lambda x: (x.sum(), x.mean(), x @ x, x**2, x / 3), x) == [half_] * 5
        assert traced_dtypes(np.bitwise_and, x, x) == "refused"


def test_comparisons_with_numbers_that_do_not_fit() -> None:
    x = np.array([0, 5, 255], "u1")
    for op in (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal):
        for number in (300, -1, 2**70, 5):
            check_same(lambda x: (op(x, number), op(number, x)), x)  # noqa: B023
        for number in (300, -1, 5):
            check_same(op, x, number)
        check_same(op, np.array([0, 1, 2**63 + 5], "u8"), np.array([-1, 1, 2**62]))
        check_same(op, np.array([-1, 1, 2**62]), np.array([0, 1, 2**63 + 5], "u8"))
    with pytest.raises(OverflowError, match="300 out of bounds for uint8"):
        graphc.trace(lambda x: x + 300, x)


# ------------------------------------------------------------------------------------------------ elementwise values


@pytest.mark.parametrize(
    "ufunc",
    [
        *UNARY,
        np.sin,
        np.cos,
        np.tan,
        np.sinh,
        np.cosh,
        np.expm1,
        np.log,
        np.log2,
        np.log10,
        np.exp2,
        np.arctan,
        np.arcsin,
        np.arccos,
        np.arctanh,
        np.ceil,
        np.trunc,
        np.deg2rad,
        np.rad2deg,
    ],
    ids=lambda u: u.__name__,
)
def test_unary_values(ufunc: np.ufunc) -> None:
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, -0.5, 1e-9, -1e-9, 2.5, 30.0, -30.0])
    for dtype in DTYPES:
        if result_dtypes(ufunc, np.ones(1, dtype)) != "refused":
            x = special.astype(dtype) if dtype.kind == "f" else array((2, 3), dtype)
            if ufunc is np.reciprocal and dtype.kind in "iu":
                x[x == 0] = 1  # 1 // 0 is undefined
            check_same(ufunc, x, label=str(dtype))
    check_same(ufunc, np.zeros((0, 2))) if result_dtypes(ufunc, np.zeros(1)) != "refused" else None


@pytest.mark.parametrize("ufunc", BINARY, ids=lambda u: u.__name__)
def test_binary_values(ufunc: np.ufunc) -> None:
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -2.0, 0.5, 3.0])
    x, y = special[:, None], special
    if result_dtypes(ufunc, x, y) != "refused":
        check_same(ufunc, x, y)
        check_same(ufunc, np.zeros((0, 1)), np.ones(3))
    for dtype in ("?", "i1", "i4", "u1", "i8"):
        a, b = array((3, 1), dtype, 1), array((4,), dtype, 2)
        if ufunc is not np.power and result_dtypes(ufunc, a, b) != "refused":
            check_same(ufunc, a, b, label=dtype)


def test_shapes_that_do_not_fit_are_refused_by_name() -> None:
    with pytest.raises(
        TypeError, match=r"add: f64\[3\] and f64\[4\] do not broadcast together\n  at .*test_numpy.py:\d+: `x \+ y`"
    ):
        graphc.trace(lambda x, y: x + y, np.ones(3), np.ones(4))


def test_powers() -> None:
    for dtype, exponent in itertools.product(DTYPES, (0, 1, 2, 3, 5, 0.5, 2.0, -1.0, 1.5, -2)):
        x = np.abs(array((4,), dtype)).astype(dtype) + np.ones((), dtype)
        want = result_dtypes(lambda x: x**exponent, x)  # noqa: B023
        if want == "refused":
            assert traced_dtypes(lambda x: x**exponent, x) == "refused"  # noqa: B023
        else:
            check_same(lambda x: x**exponent, x, label=f"{dtype} ** {exponent}")  # noqa: B023
    check_same(lambda x, y: x**y, np.array([2.0, 3.0, 0.0]), np.array([0.5, -1.0, 0.0]))
    check_same(lambda x: 2**x, np.array([2.0, 3.0]))
    check_same(lambda x, n: x**n, np.array([2.0, 3.0], "f4"), 3)


def test_scipys_ufuncs_by_name() -> None:
    x = np.linspace(-3, 3, 7)
    for function in (scipy.special.expit, scipy.special.erf, scipy.special.log_expit, scipy.special.log1p):
        check_same(function, x if function is not scipy.special.log1p else x + 4)
    check_same(scipy.special.logit, np.array([0.1, 0.5, 0.9]))
    check_same(scipy.special.xlogy, np.array([0.0, 1.0, 2.0]), np.array([0.0, 3.0, 4.0]))
    check_same(scipy.special.entr, np.array([0.0, 0.5, 2.0]))
    with pytest.raises(UnsupportedError, match="ufunc jv"):
        graphc.trace(lambda x: scipy.special.jv(2.0, x), x)


def test_ufunc_options() -> None:
    x, y = np.linspace(-1, 2, 6).reshape(2, 3), np.arange(3.0)
    check_same(lambda x, y: np.add(x, y, dtype=np.float32), x, y)
    check_same(lambda x: np.add.reduce(x) + np.maximum.reduce(x, axis=1, keepdims=True), x)
    check_same(lambda x: np.add.reduce(x, axis=None), x)
    check_same(lambda x, y: np.multiply.outer(y, x), x, y)
    check_same(lambda x: np.logical_or.reduce(x > 0, axis=1), x)
    with pytest.raises(UnsupportedError, match="where=.*without out="):
        graphc.trace(lambda x, y: np.add(x, y, where=x > 0), x, y)
    with pytest.raises(UnsupportedError, match="reduceat was given traced indices|ufunc floor .vectorized"):
        graphc.trace(np.frompyfunc(math.floor, 1, 1), x)


# ------------------------------------------------------------------------------------------------ reductions

AXES = {0: [None], 1: [None, 0, -1, ()], 2: [None, 0, 1, -1, (0, 1), (-1, 0), ()], 3: [None, 0, 1, 2, (0, 2), (-1, 1)]}
REDUCTIONS = [np.sum, np.prod, np.max, np.min, np.mean, np.var, np.std, np.all, np.any, np.ptp, np.count_nonzero]


@pytest.mark.parametrize("function", REDUCTIONS, ids=lambda f: f.__name__)
def test_reductions(function: Callable[..., Any]) -> None:
    for shape, dtype in itertools.product(SHAPES, ("?", "i1", "i8", "u1", "f2", "f4", "f8")):
        x = array(shape, dtype, 3)
        for axis, keepdims in itertools.product(AXES[len(shape)], (False, True)):

            def reduce(x: Any, axis: Any = axis, keepdims: Any = keepdims) -> Any:
                return function(x, axis=axis, keepdims=keepdims)

            if result_dtypes(reduce, x) == "refused":
                assert traced_dtypes(reduce, x) == "refused", (shape, dtype, axis)
            else:
                check_same(reduce, x, label=f"{dtype}{shape} axis={axis} keepdims={keepdims}")


def test_reduction_options() -> None:
    x = array((2, 3, 4), "f4")
    mask = x > 0
    for reduce in (np.sum, np.prod, np.mean, np.any, np.all, np.std, np.var):
        check_same(lambda x, m: reduce(x, axis=1, where=m), x, mask)  # noqa: B023
    for reduce in (np.sum, np.prod, np.max, np.min):
        check_same(lambda x: reduce(x, axis=(0, 2), initial=0.5), x)  # noqa: B023
    check_same(lambda x, m: np.max(x, axis=0, initial=-9.0, where=m), x, mask)
    check_same(lambda x: np.max(np.zeros((0,)) * x.sum(), initial=5.0), x)
    check_same(lambda x: x.sum(1, np.float64, None, True), x)
    check_same(lambda x: np.sum(x, 0, np.float64), x)
    check_same(lambda x: (np.sum(x > 0, dtype=bool), np.prod(x > 0, dtype=bool)), x)
    check_same(lambda x: (np.std(x, ddof=1), np.var(x, axis=0, correction=1), np.mean(x, dtype=np.float64)), x)
    check_same(lambda x: (np.average(x), np.average(x, axis=1, weights=np.arange(3.0))), x)
    check_same(lambda x: x.mean(axis=-1, keepdims=True), np.full((3, 70000), 1.0, "f2"))
    for bad in (lambda x: np.sum(x, axis=3), lambda x: np.sum(x, axis=(0, 0)), lambda x: np.max(x, where=x > 0)):
        assert traced_dtypes(bad, x) == result_dtypes(bad, x) == "refused"
    with pytest.raises(ValueError, match="zero-size array to reduction operation maximum"):
        graphc.trace(np.max, np.zeros((0, 3)))
    with pytest.raises(UnsupportedError, match="unexpected keyword argument 'nonsense'"):
        graphc.trace(lambda x: x.sum(nonsense=1), x)


@pytest.mark.parametrize("function", [np.argmax, np.argmin, np.argsort, np.sort], ids=lambda f: f.__name__)
def test_argmax_and_sorting(function: Callable[..., Any]) -> None:
    ties = np.array([[1.0, np.nan, 1.0, 0.0], [2.0, 2.0, -0.0, 0.0]])
    for x in (ties, ties.astype("f4"), array((3, 4), "i1"), array((5,), "?"), array((2, 0, 3))):
        for axis in (None, 0, -1):
            if result_dtypes(lambda x: function(x, axis=axis), x) == "refused":  # noqa: B023
                assert traced_dtypes(lambda x: function(x, axis=axis), x) == "refused"  # noqa: B023
            elif function is np.argsort:
                check_same(lambda x: np.argsort(x, axis=axis, kind="stable"), x)  # noqa: B023
            else:
                check_same(lambda x: function(x, axis=axis), x)  # noqa: B023
    if function in (np.argmax, np.argmin):
        check_same(lambda x: function(x, axis=1, keepdims=True), ties)
        with pytest.raises(ValueError, match="empty sequence"):
            graphc.trace(function, np.zeros((2, 0)))


# ------------------------------------------------------------------------------------------------ contractions


def test_matmul_and_dot() -> None:
    shapes = [(3,), (2, 3), (3, 4), (4, 3), (5, 2, 3), (5, 3, 2), (1, 3, 2), (4, 1, 2, 3), (0, 3), (3, 0), (2, 0)]
    for left, right in itertools.product(shapes, shapes):
        x, y = array(left, seed=1), array(right, seed=2)
        for function in (np.matmul, np.dot, np.inner):
            if result_dtypes(function, x, y) == "refused":
                assert traced_dtypes(function, x, y) == "refused", (function, left, right)
            else:
                check_same(function, x, y, rtol=1e-4, label=f"{function.__name__} {left} {right}")
    for left, right in itertools.product(("?", "i1", "f4", "f8", "i8"), repeat=2):
        x, y = array((2, 3), left, 1), array((3, 2), right, 2)
        for function in (np.matmul, np.dot, lambda a, b: a @ b, lambda a, b: np.einsum("ij,jk->ik", a, b)):
            check_same(function, x, y, label=f"{left} {right}")
    x = array((3,), "f4")
    for function in (np.dot, np.inner, np.outer, lambda x, y: np.tensordot(x, y, 0)):
        check_same(lambda x: function(x, 2.0), x)  # noqa: B023
    check_same(np.outer, x, array((2, 2)))
    check_same(np.vdot, array((2, 3)), array((3, 2)))
    with pytest.raises(TypeError, match=r"matmul: f64\[2, 3\] @ f64\[2, 3\]: the inner lengths 3 and 2 differ"):
        graphc.trace(np.matmul, array((2, 3)), array((2, 3)))


def test_tensordot_and_einsum() -> None:
    x, y = array((2, 3, 4)), array((4, 3, 5))
    for axes in (0, 1, ([1, 2], [1, 0]), ((-1,), (0,)), (1, 1)):
        check_same(lambda x, y: np.tensordot(x, y, axes), x, y, rtol=1e-4)  # noqa: B023
    cases = [
        ("ij,jk", (2, 3), (3, 4)),
        ("ij,jk->ki", (2, 3), (3, 4)),
        ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
        ("ii", (3, 3)),
        ("ii->i", (3, 3)),
        ("ij->", (2, 3)),
        ("ij->ji", (2, 3)),
        ("i,j", (2,), (3,)),
        ("...ij,...jk", (5, 1, 2, 3), (4, 3, 2)),
        ("i...->...", (2, 3)),
        ("ij,j,k->ik", (2, 3), (3,), (4,)),
        ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)),
        ("ab,bc,cd,de->ae", (2, 3), (3, 4), (4, 5), (5, 2)),
        ("i,i->i", (1,), (3,)),
        ("ij,jk", (2, 1), (3, 4)),
        ("Ab,bA->", (2, 3), (3, 2)),
        ("iij,j->i", (2, 2, 3), (3,)),
        (" i j , j -> i ", (2, 3), (3,)),
        ("i,i,i->", (3,), (3,), (3,)),
    ]
    for subscripts, *shapes in cases:
        arrays = [array(s, seed=k) for k, s in enumerate(shapes)]
        check_same(lambda *a: np.einsum(subscripts, *a), *arrays, rtol=1e-4, label=subscripts)  # noqa: B023
    for subscripts, *shapes in [
        ("ij,jk", (2, 3), (4, 5)),
        ("ij", (3,)),
        ("ij->k", (2, 3)),
        ("i->ii", (3,)),
        ("ii", (1, 3)),
    ]:
        arrays = [array(s) for s in shapes]
        assert traced_dtypes(lambda *a: np.einsum(subscripts, *a), *arrays) == "refused"  # noqa: B023


# ------------------------------------------------------------------------------------------------ shapes

SHAPED: list[tuple[str, Callable[[Any], Any], tuple[int, ...]]] = [
    ("reshape", lambda x: x.reshape(3, -1), (2, 3, 4)),
    ("reshape tuple", lambda x: np.reshape(x, (4, 6)), (2, 3, 4)),
    ("reshape 0", lambda x: x.reshape(0, 5), (2, 0)),
    ("ravel", lambda x: (x.ravel(), x.flatten(), np.ravel(x)), (2, 3)),
    (
        "transpose",
        lambda x: (x.T, x.transpose(1, 2, 0), np.transpose(x, (2, 0, 1)), x.transpose((0, -1, 1))),
        (2, 3, 4),
    ),
    ("swapaxes", lambda x: (np.swapaxes(x, 0, -1), x.mT, np.matrix_transpose(x)), (2, 3, 4)),
    ("moveaxis", lambda x: (np.moveaxis(x, 0, -1), np.moveaxis(x, (0, 2), (1, 0))), (2, 3, 4)),
    ("expand_dims", lambda x: (np.expand_dims(x, 0), np.expand_dims(x, (0, -1)), np.atleast_2d(x[0])), (2, 3)),
    ("squeeze", lambda x: (np.squeeze(x), x.squeeze(0), np.squeeze(x, (-1, 0))), (1, 3, 1)),
    ("broadcast", lambda x: (np.broadcast_to(x, (4, 2, 3)), *np.broadcast_arrays(x, x[0], x[:, :1])), (2, 3)),
    (
        "concatenate",
        lambda x: (np.concatenate([x, x], 1), np.concatenate([x, 2 * x], axis=None), np.concatenate((x, x[:0]))),
        (2, 3),
    ),
    (
        "concatenate types",
        lambda x: (np.concatenate([x, np.ones((2, 3), int)]), np.concatenate([x, x], dtype=np.float32)),
        (2, 3),
    ),
    ("stack", lambda x: (np.stack([x, x]), np.stack((x, x), axis=-1), np.stack([x[0, 0], 1.0])), (2, 3)),
    (
        "vstack",
        lambda x: (np.vstack([x, x[0]]), np.hstack([x, x]), np.hstack([x[0], x[1]]), np.column_stack([x, x[:, 0]])),
        (2, 3),
    ),
    ("split", lambda x: (*np.split(x, 3, axis=1), *np.array_split(x, 4, axis=-1), *np.split(x, [1, 5], 1)), (2, 6)),
    ("flip", lambda x: (np.flip(x), np.flip(x, 0), np.flip(x, (0, -1))), (2, 3)),
    ("roll", lambda x: (np.roll(x, 1), np.roll(x, -2, axis=1), np.roll(x, (1, 2), (0, 1)), np.roll(x, 7, 0)), (2, 3)),
    ("diff", lambda x: (np.diff(x), np.diff(x, 2, axis=0), np.diff(x > 0)), (3, 4)),
    ("pad", lambda x: (np.pad(x, 1), np.pad(x, (1, 2)), np.pad(x, ((1, 0), (0, 2)), constant_values=3)), (2, 3)),
    ("pad sides", lambda x: np.pad(x, ((1, 2), (0, 1)), constant_values=((1, 2), (3, 4))), (2, 3)),
    ("tile", lambda x: (np.tile(x, 2), np.tile(x, (2, 1, 3)), np.tile(x, ())), (2, 3)),
    ("repeat", lambda x: (np.repeat(x, 2), np.repeat(x, [1, 0, 2], axis=1), x.repeat(3, 0)), (2, 3)),
    ("triangles", lambda x: (np.tril(x), np.triu(x, 1), np.tril(x, -1), np.triu(x, -1)), (2, 3, 4)),
    ("linspace", lambda x: (np.linspace(x[0], x[1], 5), np.linspace(0, x[0, 0], 3, endpoint=False)), (2, 3)),
    (
        "like",
        lambda x: (np.zeros_like(x), np.ones_like(x, dtype=int), np.full_like(x, 2.5), np.full_like(x, 1, shape=(2,))),
        (2, 3),
    ),
    (
        "norm",
        lambda x: (np.linalg.norm(x), np.linalg.norm(x, axis=1), np.linalg.norm(x, axis=0, ord=1, keepdims=True)),
        (2, 3),
    ),
    ("norms", lambda x: tuple(np.linalg.norm(x, axis=-1, ord=p) for p in (2, 3, np.inf, -np.inf, 0)), (2, 3)),
    ("clip", lambda x: (np.clip(x, -1, 1), x.clip(0), np.clip(x, None, 0.5), x.clip(max=x[0])), (2, 3)),
    ("round", lambda x: (np.round(x), x.round(2), np.around(x * 100, -1)), (2, 3)),
    ("where", lambda x: (np.where(x > 0, x, 0), np.where(x, 1, 2), np.where([True, False, True], x, x[0])), (2, 3)),
    (
        "copy",
        lambda x: (np.copy(x), x.copy(), x.astype("i4"), x.astype(np.float32, copy=False), x.real, x.imag, x.conj()),
        (2, 3),
    ),
    (
        "take",
        lambda x: (
            np.take(x, [0, 5]),
            x.take([[1], [0]], axis=1),
            np.take(x, 7, mode="clip"),
            np.take(x, [-1, 8], 1, mode="wrap"),
        ),
        (2, 3),
    ),
    (
        "take along",
        lambda x: (np.take_along_axis(x, np.argsort(x, 1), 1), np.take_along_axis(x, np.array([[0], [2]]), 1)),
        (2, 3),
    ),
    ("what is known", lambda x: (np.shape(x)[0], np.ndim(x), np.size(x), np.size(x, 1), len(x), x.size), (2, 3)),
    ("iteration", lambda x: [row * k for k, row in enumerate(x)], (2, 3)),
    ("cholesky", lambda x: np.linalg.cholesky(x @ x.T + 3 * np.eye(2)), (2, 3)),
]


@pytest.mark.parametrize(("name", "function", "shape"), SHAPED, ids=[name for name, _, _ in SHAPED])
def test_shapes(name: str, function: Callable[[Any], Any], shape: tuple[int, ...]) -> None:
    for dtype in ("f8", "f4", "i4", "?"):
        x = array(shape, dtype)
        if not refused(function, x):
            check_same(function, x, label=f"{name} {dtype}", rtol=1e-4)
        elif name != "like":
            assert dtype == "?"


def test_rounding_and_clipping_of_integers() -> None:
    x = np.array([-25, -15, 4, 5, 15, 16])
    check_same(lambda x: (np.round(x), np.round(x, 2), np.round(x, -1)), x)
    check_same(lambda x: np.clip(x, 0, 300), np.arange(5, dtype="u1"))
    check_same(lambda x: np.clip(x, -3, 2), np.arange(5, dtype="u1"))
    check_same(lambda x: np.clip(x, 0.5, 3), np.arange(5, dtype="i4"))
    check_same(lambda x: np.nan_to_num(x), np.array([np.nan, np.inf, -np.inf, 1.0], "f4"))
    check_same(lambda x: np.nan_to_num(x, nan=1, posinf=2.0, neginf=-3), np.array([np.nan, np.inf, -np.inf, 1.0]))


def test_bad_shapes_are_refused() -> None:
    x = array((2, 3))
    for bad in (
        lambda x: x.reshape(4, -1),
        lambda x: x.reshape(-1, -1),
        lambda x: x.reshape(5),
        lambda x: np.squeeze(x, 0),
        lambda x: np.stack([x, x[0]]),
        lambda x: np.concatenate([x, x[0]]),
        lambda x: np.split(x, 2, axis=1),
        lambda x: np.transpose(x, (0, 0)),
        lambda x: np.broadcast_to(x, (2, 4)),
        lambda x: np.concatenate([x.sum(), x.sum()]),
        lambda x: np.concatenate([x, x], dtype=int),
        lambda x: np.pad(x, -1),
        lambda x: np.moveaxis(x, (0, 1), 0),
    ):
        assert result_dtypes(bad, x) == "refused"
        assert traced_dtypes(bad, x) == "refused"
    with pytest.raises(ValueError, match="cannot reshape array of size 6") as caught:
        graphc.trace(lambda x: x.reshape(4, -1), x)
    assert any("x.reshape(4, -1)" in note for note in caught.value.__notes__), "the user's line is noted"


# ------------------------------------------------------------------------------------------------ changing in place


def program_add(x: Any) -> Any:
    y = x + 0
    z = y
    y += 1
    return y, z


def program_rows(x: Any) -> Any:
    y = x * 1
    for k, row in enumerate(y):
        row += k
        row[0] *= 2
    return y


def program_views(x: Any) -> Any:
    y = x + 0
    left, right = np.split(y, 2, axis=1)
    left -= right
    t = y.T
    t[1] = 9
    y[1:, ::2][..., None][:, 0] += 5
    np.flip(y, 0)[0] = 7
    y[np.newaxis][0, 1, 1] = -1
    np.squeeze(y[None])[2] **= 2
    np.moveaxis(y, 0, 1)[:, 0] /= 4
    return y, left, t, right


def program_functions(x: Any) -> Any:
    y = np.zeros_like(x)
    np.add.at(y, ([0, 0, 2], [1, 1, 3]), [1.0, 2.0, 3.0])
    np.add.at(y, 1, 1.5)
    np.maximum.at(y[:, :2], [0, 0], 4)
    np.subtract.at(y, (slice(None), [3, 3]), 1)
    np.copyto(y[2], x[0])
    np.copyto(y, 0, where=x > 1)
    np.add(y, 1, out=y)
    np.multiply(y, 2, out=y, where=x < 0)
    np.sum(x, axis=0, out=y[1])
    x2 = x.copy()
    x2.sort()
    x2[0].fill(3)
    return y, x2


def program_masks(x: Any) -> Any:
    y = x + 0
    y[y > 0] = 0
    y[y < -1] = 5.0
    y[[0, 2]] *= 3
    y[np.array([True, False, True])] = np.arange(4.0)
    y[1, [0, 0]] = [1, 2]
    return y


def program_scalars(x: Any) -> Any:
    s = x.sum()
    t = s
    s += 1
    first = x[0, 0]
    first *= 3
    return s, t, first, x


def program_stale(x: Any) -> Any:
    y = x + 0
    row, again = y[1], y[1][::2]
    y[1] = 0
    before = row * 2
    y += 1
    return before, row, again, y


def program_types(x: Any) -> Any:
    y = np.ones_like(x, dtype=np.float32)
    y += x
    z = np.zeros_like(x, dtype=int)
    z[:] = x * 10
    z[0] = 2.7
    return y, z


PROGRAMS = [
    program_add, program_rows, program_views, program_functions, program_masks, program_scalars, program_stale,
    program_types,
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__.removeprefix("program_"))
def test_changes_in_place_are_numpys(program: Callable[..., Any]) -> None:
    x = array((3, 4))
    check_same(program, x)
    graphc.trace(program, x)
    np.testing.assert_array_equal(x, array((3, 4)), err_msg="the caller's array is not changed")


def test_changes_and_repeated_indices_run_on_the_cpu() -> None:
    x, i = array((3, 4)), np.array([0, 2])

    def program(x: Any, i: Any) -> Any:
        return (*program_rows(x), x[i, i], x[[0, 1], [0, 1]])  # one index tensor stands twice

    have = graphc.compile(program, backend="cpu")(x, i)
    for one, other in zip(have, program(x.copy(), i), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_changes_have_gradients() -> None:
    def loss(x: Any) -> Any:
        y = x * 2
        y[1:] += x[:-1] ** 2
        y[np.array([0, 0]), 1] = x[0, :2]
        y.T[0] *= x[:, 1]
        np.add.at(y, [2, 2], np.sin(x[0]))
        y[x > 1] = 0
        return (y**2).sum()

    graphc.check_grads(loss, (array((3, 4)),), order=2)


def test_changes_that_cannot_be_told_are_refused() -> None:
    x = array((2, 3))

    def after_reshape(x: Any) -> Any:
        y = x + 0
        flat = y.reshape(-1)
        y += 1
        return flat.sum()

    def through_reshape(x: Any) -> Any:
        y = x + 0
        y.ravel()[0] = 1
        return y

    def of_a_scalar_argument(s: Any) -> Any:
        s += 1
        return s

    def does_not_fit(x: Any) -> Any:
        y = x[0] + 0
        y += x
        return y

    def wrong_type(x: Any) -> Any:
        y = np.zeros_like(x, dtype=int)
        y += x
        return y

    for function in (after_reshape, through_reshape):
        with pytest.raises(graphc.TracerError, match=r"test_numpy.py:\d+: .*; write .copy\(\)"):
            graphc.trace(function, x)
    with pytest.raises(graphc.TracerError, match="0-d argument f64 would be changed in place.*write x = x"):
        graphc.trace(of_a_scalar_argument, np.float64(2.0))
    assert traced(of_a_scalar_argument, 2.0) == 3.0
    with pytest.raises(TypeError, match=r"add in place: the result f64\[2, 3\] does not fit into f64\[3\]"):
        graphc.trace(does_not_fit, x)
    with pytest.raises(TypeError, match="f64 cannot be written into an array of i64"):
        graphc.trace(wrong_type, x)


# ------------------------------------------------------------------------------------------------ graphc.numpy


def test_namespace_inside_and_outside_a_trace() -> None:
    assert type(gnp.zeros(3)) is np.ndarray and type(gnp.asarray([1, 2])) is np.ndarray
    assert gnp.exp is np.exp and gnp.float32 is np.float32
    with pytest.raises(AttributeError, match="graphc.numpy has no 'nonsense'"):
        gnp.nonsense  # noqa: B018

    def build(x: Any, i: Any) -> Any:
        a = gnp.zeros((2, 3))
        a[0] = x
        table = gnp.asarray(np.arange(12).reshape(3, 4))
        many = gnp.array([[x[0], 1.0], [2.0, x[1]]])
        return (
            a,
            table[i],
            many,
            gnp.full((2,), x[0]),
            gnp.full((2,), x[0], np.float32),
            gnp.eye(2) @ many,
            gnp.arange(3),
        )

    x, i = np.array([1.5, 2.5, 3.5]), np.array([2, 0])
    a, rows, many, full, full32, product, line = traced(build, x, i)
    np.testing.assert_array_equal(a, [x, [0, 0, 0]])
    np.testing.assert_array_equal(rows, np.arange(12).reshape(3, 4)[i])
    np.testing.assert_array_equal(many, [[1.5, 1.0], [2.0, 2.5]])
    np.testing.assert_array_equal(product, many)
    assert full.tolist() == [1.5, 1.5] and full32.dtype == np.float32 and line.tolist() == [0, 1, 2]


# ------------------------------------------------------------------------------------------------ derivatives


def positive(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).uniform(0.5, 2.0, shape)


def spread(*shape: int) -> np.ndarray:
    """Numbers of both signs, away from 0 and from each other."""
    count = math.prod(shape)
    places = np.random.default_rng(6).permutation(count)
    return (np.where(places % 2, 1, -1) * (0.3 + 1.5 * (places + 0.5) / max(count, 1))).reshape(shape)


DIFFERENTIABLE: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "arithmetic": (lambda x, y: x * y + x / y - y + np.float64(3) - 2 * x, (spread(2, 3), spread(3))),
    "powers": (lambda x, y: x**y + x**3 + 2.0**y + x**-2 + x**0.5, (positive(3), spread(3))),
    "power at zero": (lambda x: x**3 + x**1 + x**0, (np.zeros(2),)),
    "remainders": (lambda x, y: x % y + np.fmod(x, y) + np.divmod(x, y)[1], (spread(4), positive(4))),
    "exponentials": (lambda x: np.exp(x) + np.expm1(x) + np.exp2(x) + np.logaddexp(x, x[::-1]), (spread(4),)),
    "logarithms": (lambda x: np.log(x) + np.log1p(x) + np.log2(x) + np.log10(x), (positive(4),)),
    "logaddexp of equals": (lambda x: np.logaddexp(x, 2 * x), (np.zeros(3),)),
    "circular": (
        lambda x: np.sin(x) * np.cos(x) + np.tan(x / 3) + np.arctan(x) + np.arcsin(x / 3) + np.arccos(x / 3),
        (spread(4),),
    ),
    "hyperbolic": (lambda x: np.tanh(x) + np.sinh(x) + np.cosh(x / 2) + np.arctanh(x / 3), (spread(4),)),
    "hyperbolic near zero": (lambda x: np.sinh(x) + np.cosh(x), (np.array([0.0, 1e-4, -0.9]),)),
    "two arguments": (lambda x, y: np.arctan2(x, y) + np.hypot(x, y), (spread(4), spread(4)[::-1].copy())),
    "extremes": (
        lambda x, y: np.maximum(x, y) * np.minimum(x, 2 * y) + np.abs(x) + np.clip(x, -1, 0.4) * y,
        (spread(4), spread(4)[::-1] / 2),
    ),
    "roots": (lambda x: np.sqrt(x) + np.cbrt(x) + np.reciprocal(x) + np.square(x), (positive(4),)),
    "special": (lambda x: scipy.special.expit(x) + scipy.special.erf(x) + scipy.special.log_expit(x), (spread(4),)),
    "where": (lambda x, y: np.where(x > 0, x * y, y**2), (spread(3, 2), spread(2))),
    "copysign": (lambda x, y: np.copysign(x, y) * x + np.heaviside(x, 0.5) * x, (spread(4), spread(4)[::-1])),
    "sums": (lambda x: x.sum() * x.sum(0) + x.mean(axis=1, keepdims=True) * x, (spread(2, 3),)),
    "products": (lambda x: np.prod(x, axis=1) + np.prod(x), (np.array([[0.0, 2.0, 3.0], [1.0, 0.0, 0.0]]),)),
    "maxima": (lambda x: x.max(axis=0) * x.min() + np.ptp(x, axis=1)[0], (spread(3, 4),)),
    "spreads": (
        lambda x: np.var(x, axis=0) + np.std(x) + np.linalg.norm(x, axis=0) + np.std(x, ddof=1),
        (spread(3, 4),),
    ),
    "matmul": (lambda x, y: x @ y + np.dot(x, y) * 2, (spread(2, 3), spread(3, 2))),
    "batched matmul": (lambda x, y, v: (x @ y) @ v + v @ (x @ y), (spread(2, 1, 2, 3), spread(4, 3, 2), spread(2))),
    "einsum": (
        lambda x, y: np.einsum("bij,bjk->bik", x, y).sum() * np.einsum("iij->j", x),
        (spread(2, 2, 3), spread(2, 3, 2)),
    ),
    "tensordot": (
        lambda x, y: np.tensordot(x, y, ([1, 2], [1, 0])) + np.outer(x[0, 0], y[0, 0]).sum(),
        (spread(2, 3, 4), spread(4, 3, 2)),
    ),
    "shapes": (
        lambda x: (x.T.reshape(3, 2) * np.swapaxes(x, 0, 1)).ravel()[::-2] * np.roll(x, 1).sum(0)[0],
        (spread(2, 3),),
    ),
    "joining": (
        lambda x, y: np.concatenate([x, y * x[:1]]) * np.stack([x[0], y[0], x[1]]) + np.pad(x, ((0, 1), (0, 0))),
        (spread(2, 3), spread(1, 3)),
    ),
    "indexing": (lambda x: x[[0, 1, 1], :, [2, 0, 0]] * x[:, ::-1, 1][:1] + x[..., None, 0].sum(), (spread(2, 3, 4),)),
    "taking": (lambda x: np.take(x, [0, 0, 4]) * np.take_along_axis(x, np.argsort(x, 1), 1)[0], (spread(2, 3),)),
    "sorting": (lambda x: np.sort(x, axis=0) * np.arange(3.0), (spread(4, 3),)),
    "tiling": (
        lambda x: np.tile(x, (2, 2)) * np.repeat(x, 2, 1)[[0, 1, 0, 1]] + np.broadcast_to(x[0, 0], (4, 6)),
        (spread(2, 3),),
    ),
    "triangles": (lambda x: np.tril(x) @ np.triu(x, 1) + np.diff(x, axis=0)[:1], (spread(3, 3),)),
    "cholesky": (lambda x: np.linalg.cholesky(x @ x.T + 2 * np.eye(3)), (spread(3, 3),)),
    "weak numbers": (lambda x, n: x * n + n**2 - np.sqrt(n), (spread(3), 2.5)),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives(name: str) -> None:
    function, args = DIFFERENTIABLE[name]
    check_same(function, *args, rtol=1e-3)
    graphc.check_grads(function, args, order=2)
