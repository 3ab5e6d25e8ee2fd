"""Every op and every NumPy function in every element type: the CPU backend against the reference.

Integers, bools and moved values are the same; floats are as close as ``element_types.UNITS`` says. f16 and bf16 are
computed in f32 and rounded once per kernel, which is closer to the exact result than the reference, that rounds every op.
``GRAPHC_TEST_FULL=1`` takes every sample and every case instead of a few, always the same ones.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from cases import Case
from compare import traced
from element_types import SAMPLES, SPACING, One, difference, joint_graph, samples, taken, wide
from laws import run_cpu
from test_cases import CASES, check_values, floating, ids, in_type, quiet
from test_ops import PRIMITIVES, graph_of, type_of, with_strides

import graphc
from graphc import ops, types
from graphc.autodiff import vjp_graph
from graphc.interpreter import evaluate
from graphc.ir import Builder, GraphError
from graphc.ops.base import OPS
from graphc.ops.special import __name__ as SPECIAL
from graphc.tree import flatten
from graphc.types import DType, TensorType, bf16, bool_, f16, f32, f64, i16, u8, u32

ELEMENTS = list(types.DTYPES.values())
REAL = [e for e in ELEMENTS if e.kind != "c"]
FLOATS = [f16, bf16, f32, f64]


def check(
    graph: Any, arrays: list[np.ndarray], labels: list[Any], units: float | None = None, each: bool = False
) -> None:
    """The CPU backend against the reference, all outputs."""
    with np.errstate(all="ignore"):
        want = evaluate(graph, arrays)
    have = run_cpu(graph, arrays)
    wrong = []
    for label, mine, theirs in zip(labels, have, want, strict=True):
        found = difference(np.asarray(mine), np.asarray(theirs), units, each)
        if found:
            wrong.append(f"{label}: {found}")
    assert not wrong, "\n".join(wrong)


# ------------------------------------------------------------------------------------------------ every op


@pytest.mark.parametrize("element", ELEMENTS, ids=str)
def test_every_op(element: DType) -> None:
    for group in samples(element, 24):
        check(*joint_graph(group, element))


def smooth(one: One) -> bool:
    return one.sample.smooth


@pytest.mark.parametrize("element", [f16, bf16, f32], ids=str)
def test_every_derivative(element: DType) -> None:
    """The derivative graph of many samples at once. Rules are of several ops, so half floats have 8 of their units."""
    for group in samples(element, 32, smooth):
        graph, arrays, _ = joint_graph(group, element)
        wrt = [k for k, a in enumerate(arrays) if types.dtype(a.dtype) is element]
        seeds = [o for o in graph.outputs if o.dtype.is_inexact]
        cotangents = [np.linspace(0.5, 1.5, o.type.size).reshape(o.shape).astype(o.dtype.numpy) for o in seeds]
        owners = [one for one in group for _ in one.sample.operands]
        if wrt and seeds:
            units = 8 if element in (f16, bf16) else None
            check(vjp_graph(graph, wrt), [*arrays, *cotangents], [owners[k] for k in wrt], units)


# ------------------------------------------------------------------------------------------------ edge values


def edges(element: DType) -> np.ndarray:
    """The numbers of an element type at which something changes."""
    if element.kind == "b":
        return np.array([False, True])
    if element.is_integer:
        info = np.iinfo(element.numpy)
        found = {0, 1, 2, 3, 7, 100, info.bits - 1, info.bits, info.bits + 1, info.max - 1, info.max, info.max // 2 + 1}
        found |= {v for v in (-1, -2, -3, -7, -info.bits, info.min, info.min + 1, info.min // 2) if info.min < 0}
        return np.array(sorted(found), element.numpy)
    import ml_dtypes

    info = ml_dtypes.finfo(element.numpy)
    smallest, normal, gap, largest = (float(v) for v in (info.smallest_subnormal, info.tiny, info.eps, info.max))
    found = [0, smallest, 3 * smallest, normal - smallest, normal, 0.5, 1 - gap / 2, 1, 1 + gap, 1.5, 2.5, 3, 7]
    found += [127, 128, 255, 256, 32768, 65504, 2.0**31, 2.0**32, 2.0**63, 2.0**64, 1e20, largest, np.inf]
    with np.errstate(all="ignore"):
        return np.array([*found, *[-v for v in found], np.nan]).astype(element.numpy)


def elementwise_calls(element: DType) -> list[tuple[str, int, dict[str, Any]]]:
    """(name, number of operands, attributes) of the elementwise ops that ``element`` has a meaning for, one or two
    operands of it; special functions have tests of their own."""
    found: list[tuple[str, int, dict[str, Any]]] = []
    for name in PRIMITIVES:
        op = OPS[name]
        if op.kind != "elementwise" or name in OPS_OF_SPECIAL:
            continue
        for sample in SAMPLES[name]:
            call = (name, len(sample.operands), sample.attrs)
            try:
                op.infer(*[TensorType(element, (3,))] * call[1], **sample.attrs)
            except (GraphError, TypeError):
                continue
            if call[1] in (1, 2) and call not in found:
                found.append(call)
    return found


OPS_OF_SPECIAL = frozenset(name for name, op in OPS.items() if getattr(op.infer, "__module__", "") == SPECIAL)
#: NumPy's f16 loop has the first of two zeros where those of f32 and f64 have the second.
SIGN_OF_ZERO_OPEN = ("maximum", "minimum")
#: The sum of two terms that may cancel: right to units of the larger operand.
CANCELLING = ("logaddexp",)


def near(have: np.ndarray, want: np.ndarray, *terms: np.ndarray) -> np.ndarray:
    """Whether numbers are within 4 units of the larger one of ``terms``."""
    import ml_dtypes

    with np.errstate(all="ignore"):
        size = np.maximum(*(abs(term.astype(np.float64)) for term in terms))
        apart = abs(have.astype(np.float64) - want.astype(np.float64))
        return apart <= 4 * float(ml_dtypes.finfo(want.dtype).eps) * size


@pytest.mark.parametrize("element", REAL, ids=str)
def test_edge_values(element: DType) -> None:
    """Wrapping around, division by zero, wide shifts, casts out of range, NaN, infinities, subnormals and signs of zero:
    every elementwise op on every pair of edge values. 289 = 18·16 + 1 pairs and the like: also single lanes."""
    values = edges(element)
    x, y = (np.ascontiguousarray(a.ravel()) for a in np.meshgrid(values, values, indexing="ij"))
    calls = elementwise_calls(element)
    for k in range(0, len(calls), 16):
        part = calls[k : k + 16]

        def all_of(*operands: Any, part: list[Any] = part) -> list[Any]:
            return [OPS[name](*operands[:count], **attrs) for name, count, attrs in part]

        graph, arrays = graph_of(all_of, type_of(x), type_of(y)), [x, y]
        with np.errstate(all="ignore"):
            want = evaluate(graph, arrays)
        for (name, _, attrs), mine, theirs in zip(part, run_cpu(graph, arrays), want, strict=True):
            if name in CANCELLING:
                mine = np.where(near(mine, theirs, x, y), theirs, mine)
            found = difference(mine, theirs, 4, each=name not in SIGN_OF_ZERO_OPEN)
            assert not found, f"{name} {attrs} {found}"


@pytest.mark.parametrize("element", FLOATS, ids=str)
def test_order_of_special_values(element: DType) -> None:
    """NaN wins maxima and minima, is last in sorted order and first of argmax; the first of equal values is taken."""
    rng = np.random.default_rng(3)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, float(np.float64(SPACING[element.name]))])
    x = rng.choice(np.concatenate([special, rng.normal(size=4)]), (7, 37)).astype(element.numpy)
    x[0] = np.where(np.isnan(wide(x[0])), 0, x[0])
    attrs: dict[str, dict[str, Any]] = {
        **{name: {"axes": (1,)} for name in ("reduce_max", "reduce_min")},
        **{name: {"axis": 1} for name in ("argmax", "argmin", "sort", "argsort")},
        **{name: {"axis": 1, "reverse": r} for name, r in (("cummax", False), ("cummin", True))},
        "top_k": {"k": 5},
    }
    results = graph_of(lambda v: [o for n, a in attrs.items() for o in flat(OPS[n](v, **a))], type_of(x))
    check(results, [x], [*list(attrs)[:-1], "top_k", "places of top_k"], units=0)
    order = evaluate(graph_of(lambda v: ops.argsort(v, axis=1), type_of(x)), [x])[0]
    np.testing.assert_array_equal(order, np.argsort(wide(x), axis=1, kind="stable"))


def flat(node: Any) -> list[Any]:
    return list(ops.items(node)) if isinstance(node.type, types.TupleType) else [node]


@pytest.mark.parametrize("element", ELEMENTS, ids=str)
def test_layouts_of_inputs(element: DType) -> None:
    """Inputs in Fortran order, with steps, backwards, broadcast, read-only and of size 0."""

    def function(x: Any, y: Any) -> Any:
        return (
            x[1:] == y[:-1],
            x.T,
            np.where(x, y, x),
            np.concatenate([x, y[:, ::-1]], axis=1),
            np.argmax(x != y),
            x * y,
        )

    base = np.array([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]).astype(element.numpy)
    views = [base, with_strides(base), np.asfortranarray(base), base[::-1, ::-1], np.broadcast_to(base[:1], (3, 4))]
    compiled = graphc.compile(function)
    for x in views:
        for y in views:
            compare(compiled(x, y), traced(function, np.ascontiguousarray(x), np.ascontiguousarray(y)))
    empty = np.zeros((3, 0), element.numpy)

    def of_nothing(x: Any) -> Any:
        return x[1:] == x[:-1], x.T, x * x, x.sum(), np.sort(x.real, axis=0), np.concatenate([x, x], axis=1)

    compare(graphc.compile(of_nothing)(empty), traced(of_nothing, empty))


def compare(have: Any, want: Any) -> None:
    for mine, theirs in zip(flatten(have)[0], flatten(want)[0], strict=True):
        assert not difference(np.asarray(mine), np.asarray(theirs))


# ------------------------------------------------------------------------------------------------ NumPy's functions

#: What depends on the spacing of numbers, or on which side of a boundary a rounded number lies.
BY_SPACING = ("np.spacing", "np.nextafter", "np.histogram", "np.common_type")


def half_runs() -> list[tuple[str, Case]]:
    return [(n, c) for n, c in CASES if floating(c) and "f" in c.kinds and c.name not in BY_SPACING]


def as_bf16(args: tuple[Any, ...]) -> tuple[Any, ...]:
    with np.errstate(all="ignore"):
        return tuple(a.astype(bf16.numpy) if isinstance(a, np.ndarray) and a.dtype == np.float64 else a for a in args)


def in_f32(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype == bf16.numpy else a for a in args)


def results(one: Case, args: tuple[Any, ...]) -> list[np.ndarray]:
    return [np.asarray(v) for v in flatten(quiet(lambda *a: traced(one.call, *a), *args))[0]]


@pytest.mark.parametrize("one", ids(half_runs()))
def test_bf16_in_numpy(one: Case) -> None:
    """Where f16 is taken, so is bf16, and where the one gives f16, the other gives bf16 (the rule of JAX): the values of
    f32, rounded. (SciPy's functions widen f16, as SciPy does; a bf16 stays one.)"""
    try:
        halves = results(one, in_type(one.args, "f2"))
    except (TypeError, ValueError, np.linalg.LinAlgError):
        pytest.skip("NumPy takes no f16 there")
    args = as_bf16(one.args)
    for have, half, want in zip(results(one, args), halves, results(one, in_f32(args)), strict=True):
        narrow = half.dtype == np.float16 or (one.name.startswith("scipy.special") and want.dtype == np.float32)
        assert have.dtype == (bf16.numpy if narrow else half.dtype)
        assert have.shape == want.shape
        if have.dtype == bf16.numpy or have.dtype.kind in "fc":
            x, y = wide(have), wide(want)
            size = np.abs(y[np.isfinite(y)]).max(initial=0.0)
            np.testing.assert_allclose(x, y, rtol=8 * SPACING["bf16"], atol=8 * SPACING["bf16"] * size)


@pytest.mark.parametrize("one", ids([(n, c) for n, c in CASES if floating(c) and taken(n, 256)]))
def test_compiled_in_narrow_types(one: Case) -> None:
    """NumPy's functions on the CPU in i32, u8, f16 and bf16."""
    for code, kind in (("i4", "i"), ("u1", "u"), ("f2", "f"), ("bf16", "f")):
        if kind not in one.kinds:
            continue
        args = as_bf16(one.args) if code == "bf16" else in_type(one.args, code)
        try:
            want = results(one, args)
        except (TypeError, ValueError, np.linalg.LinAlgError):
            continue
        have = [np.asarray(v) for v in flatten(quiet(graphc.compile(one.call), *args))[0]]
        spacing = SPACING.get({"f2": "f16"}.get(code, code))
        for mine, theirs in zip(have, want, strict=True):
            if spacing is None:
                check_values(one, mine, theirs, code)
                continue
            assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
            # Intermediate results are rounded to the element type by the reference alone.
            x, y = wide(mine), wide(theirs)
            size = np.abs(y[np.isfinite(y)]).max(initial=0.0) if y.dtype.kind in "fc" else 0
            np.testing.assert_allclose(x, y, rtol=8 * spacing, atol=8 * spacing * size, err_msg=code)


# ------------------------------------------------------------------------------------------------ what was wrong once


def run_one(function: Any, *arrays: Any) -> list[np.ndarray]:
    arrays = [np.asarray(a) for a in arrays]
    return run_cpu(graph_of(function, *map(type_of, arrays)), arrays)


@pytest.mark.parametrize("element", [bf16, f16, u8, i16, bool_], ids=str)
def test_a_single_lane_is_stored_alone(element: DType) -> None:
    """LLVM for AVX-512 made a store of 4 bytes of a masked store of one truncated lane: it set the next element to 0."""
    x = np.ones(6, element.numpy)
    kind = "max" if element is bool_ else "mul"
    scatter = functools.partial(ops.scatter, axes=(0,), mode="raise", combine=kind)
    np.testing.assert_array_equal(run_one(scatter, x, x[:2], np.array([1, 3]))[0], x)
    rows = np.ones((5, 17), np.int32)
    with Builder() as builder:
        cast = ops.cast(builder.input("x", type_of(rows)), to=element)
        graph = builder.graph([ops.pad(cast, ops.const(1, element), shape=(5, 19), start=(0, 0), step=(1, 1))])
    np.testing.assert_array_equal(run_cpu(graph, [rows])[0], np.ones((5, 19), element.numpy))


@pytest.mark.parametrize("kind", ["sum", "max", "min"])
def test_window_of_a_scalar(kind: str) -> None:
    window = {"window": (), "strides": (), "padding": (), "dilation": (), "kind": kind}
    assert run_one(lambda x: ops.reduce_window(x, **window), np.float32(3))[0] == 3
    if kind != "sum":
        assert run_one(lambda x: ops.window_argmax(x, **window), np.float32(3))[0] == 0


@pytest.mark.parametrize("element", [f32, f64, bf16], ids=str)
def test_power_whose_reciprocal_overflows(element: DType) -> None:
    x = np.array([2.0 ** (513 if element is f64 else 64), -(2.0 ** (358 if element is f64 else 43))], element.numpy)
    for exponent in (-2, -3):
        have = run_one(lambda v, e=exponent: ops.integer_pow(v, exponent=e), x)[0]
        np.testing.assert_array_equal(have, (wide(x) ** exponent).astype(element.numpy))


@pytest.mark.parametrize("element", [f32, f64], ids=str)
def test_cube_root_of_the_largest_number(element: DType) -> None:
    info = np.finfo(element.numpy)
    largest = np.array([info.max, -info.max, info.smallest_subnormal])
    np.testing.assert_allclose(run_one(OPS["cbrt"], largest)[0], np.cbrt(largest), rtol=4 * SPACING[element.name])


def test_remainder_of_a_divisor_just_below_a_power_of_two() -> None:
    """The quotient was one too small, and what it left has more bits than f64."""
    below = np.nextafter(1.0, 0)
    x = np.array([128.0, 256.0, 2.0**40, 2.0**53, 2.0**60, 1e300, 2.0**-1000])
    y = np.array([below, below, below, below, *(np.nextafter(v, 0) for v in (4.0, 2.0**-300, 2.0**-1020))])
    np.testing.assert_array_equal(run_one(OPS["fmod"], x, y)[0], np.fmod(x, y))
    np.testing.assert_array_equal(run_one(OPS["remainder"], -x, y)[0], np.remainder(-x, y))


def test_remainders_are_exact() -> None:
    rng = np.random.default_rng(0)
    count = 4096
    y = rng.uniform(1, 2, count) * 2.0 ** rng.integers(-5, 30, count)
    x = np.rint(2.0 ** rng.uniform(0, 53, count)) * y * (1 + rng.choice([-1, 0, 1], count) * 2.0**-52)
    np.testing.assert_array_equal(run_one(OPS["fmod"], x, y)[0], np.fmod(x, y))


@pytest.mark.parametrize("element", FLOATS, ids=str)
def test_cast_to_u32_does_not_depend_on_the_place(element: DType) -> None:
    """NumPy's vector loop and its loop for the last elements differ where a float is beyond u32; an op has one meaning."""
    with np.errstate(all="ignore"):
        values = np.array([np.nan, np.inf, -np.inf, -1, 2.5, -3e9, 5e9]).astype(element.numpy)
    x = np.tile(values, (7, 1)).T
    have = evaluate(graph_of(lambda v: ops.cast(v, to=u32), type_of(x)), [x])[0]
    assert (have == have[:, :1]).all()
    np.testing.assert_array_equal(run_one(lambda v: ops.cast(v, to=u32), x)[0], have)


def test_sign_of_a_negative_zero_in_bf16() -> None:
    x = np.array([-0.0, 0.0, -2.0, np.nan], bf16.numpy)
    for found in (evaluate(graph_of(OPS["sign"], type_of(x)), [x])[0], run_one(OPS["sign"], x)[0]):
        assert wide(found)[:3].tolist() == [0, 0, -1] and not np.signbit(wide(found)[0]) and np.isnan(wide(found)[3])


def test_histogram_of_integers_on_edges() -> None:
    """FMA moved edges off the integers on which NumPy has them; the floor of linspace(dtype=int) hung on it as well."""
    rng = np.random.default_rng(0)
    histogram = graphc.compile(lambda x: np.histogram(x, bins=10))
    spaced = graphc.compile(lambda a, b: np.linspace(a, b, 11, dtype=int))
    for _ in range(40):
        x = rng.integers(-20, 20, 50)
        counts, edges = histogram(x)
        np.testing.assert_array_equal(counts, np.histogram(x, bins=10)[0])
        np.testing.assert_array_equal(edges, np.histogram(x, bins=10)[1])
        np.testing.assert_array_equal(spaced(float(x[0]), float(x[1])), np.linspace(x[0], x[1], 11, dtype=int))
