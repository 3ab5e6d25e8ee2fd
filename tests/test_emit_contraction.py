"""Generated contraction kernels against the meaning of their ops, called through ctypes."""

from __future__ import annotations

import itertools
import platform
import re
from collections.abc import Sequence

import numpy as np
import pytest
from emit_calls import Compiled, body, expected, kernel, widened

from graphc import ops
from graphc.backends.cpu import native, tiling
from graphc.ir import Graph
from graphc.types import DTYPES, TensorType, bf16, f16, f32, f64, i8, i32, i64, u8

EPSILON = {"f64": 2.0**-53, "f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}


def draw(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = []
    for t in graph.input_types:
        if t.dtype.is_float:
            inputs.append(rng.standard_normal(t.shape).astype(t.dtype.numpy))
        else:
            info = np.iinfo(t.dtype.numpy)
            inputs.append(rng.integers(info.min, info.max, t.shape, t.dtype.numpy, endpoint=True))
    return inputs


def check(
    graph: Graph, inputs: Sequence[np.ndarray] | None = None, depth: int = 1, in_place: dict[int, int] | None = None
) -> None:
    """The kernel's results are right, and the same bits for any number of threads."""
    inputs = draw(graph) if inputs is None else inputs
    call = Compiled(kernel(graph, "contraction"))
    found = call(*inputs, in_place=in_place)
    for threads in (2, 3):
        for got, again in zip(found, call(*inputs, threads=threads, in_place=in_place), strict=True):
            assert got.tobytes() == again.tobytes(), f"bits depend on threads\n{call.code.source}"
    wide = expected(widened(graph), [x if x.dtype.kind in "biu" else x.astype(np.float64) for x in inputs])
    for got, exact, t in zip(found, wide, graph.output_types, strict=True):
        if not t.dtype.is_float:
            assert np.array_equal(got, exact), call.code.source
            continue
        narrowest = max(EPSILON[u.dtype.name] for u in graph.input_types if u.dtype.is_float)
        epsilon = max(EPSILON[t.dtype.name], min(narrowest, EPSILON["f32"]))
        magnitude = np.max(np.abs(exact[np.isfinite(exact)]), initial=1.0)
        tolerance = magnitude * (4 * epsilon + 4 * min(narrowest, EPSILON["f32"]) * np.sqrt(depth + 1))
        np.testing.assert_allclose(got.astype(np.float64), exact, rtol=0, atol=tolerance, err_msg=call.code.source)


def product(m: int, n: int, k: int, left: bool, right: bool, element=f32) -> Graph:
    """x · y where x (y) is the transpose of what lies in memory if ``left`` (``right``)."""
    types = TensorType(element, (k, m) if left else (m, k)), TensorType(element, (n, k) if right else (k, n))
    contract = ((0 if left else 1,), (1 if right else 0,))
    return body(lambda x, y: ops.dot(x, y, batch=((), ()), contract=contract), *types)


SHAPES = (
    (1, 1, 1), (1, 8, 16), (5, 7, 3), (12, 32, 16), (13, 33, 17), (37, 70, 50), (65, 10, 130), (30, 49, 600), (7, 213, 20),
    (3, 5, 0), (0, 4, 3), (4, 0, 3), (100, 1, 64), (1, 100, 64), (1, 1, 100), (61, 70, 231), (9, 20, 2100), (29, 35, 2100),
)  # fmt: skip


@pytest.mark.parametrize("transposed", [*itertools.product((False, True), repeat=2)], ids=str)
def test_matrices_of_any_shape(transposed):
    for m, n, k in SHAPES:
        check(product(m, n, k, *transposed), depth=k)


@pytest.mark.parametrize("element", ["f64", "i32", "i64", "u8", "f16", "bf16"])
def test_element_types(element):
    for (m, n, k), (left, right) in itertools.product(
        ((1, 8, 16), (5, 7, 3), (29, 35, 70), (26, 20, 521), (1, 33, 40), (17, 1, 40)), ((False, False), (True, True))
    ):
        check(product(m, n, k, left, right, DTYPES[element]), depth=k)


@pytest.mark.parametrize("element", [f32, f64], ids=str)
def test_few_long_sums_are_taken_in_parts(element):
    for m, n, k, left, right in (
        (30, 41, 2050, True, False), (30, 41, 2050, False, True), (64, 64, 1025, False, False), (3, 70, 5001, False, True),
        (1, 1, 1 << 20, False, False), (130, 20, 1100, False, False), (70, 20, 1500, True, False),
    ):  # fmt: skip
        graph = product(m, n, k, left, right, element)
        check(graph, depth=k)
        steps = [*Compiled(kernel(graph, "contraction")).code.steps]
        assert len(steps) == 2 and steps[0].units >= 2, (m, n, k)


def test_parts_before_an_epilogue():
    def update(x, ct, w, bias, rate):
        gradient = ops.dot(x, ct, batch=((), ()), contract=((0,), (0,)))
        new = ops.sub(w, ops.mul(ops.broadcast(rate, (50, 45), ()), gradient))
        return [new, ops.gt(ops.add(gradient, ops.broadcast(bias, (50, 45), (1,))), ops.full(w.type, 0))]

    types = [TensorType(f32, s) for s in ((2049, 50), (2049, 45), (50, 45), (45,), ())]
    check(body(update, *types), depth=2049, in_place={0: 2})


@pytest.mark.parametrize("element", [f32, f64], ids=str)
def test_sums_over_rows(element):
    def delta(x, w, y):
        v = ops.mul(ops.dot(x, w, batch=((), ()), contract=((1,), (1,))), y)
        return [v, ops.reduce_sum(v, axes=(0,)), ops.reduce_sum(ops.mul(v, v), axes=(0,))]

    def alone(x, w, _):
        return ops.reduce_sum(ops.dot(x, w, batch=((), ()), contract=((1,), (1,))), axes=(0,))

    for m, n, k in ((16, 5, 3), (25, 40, 20), (131, 70, 50), (30, 41, 2200), (400, 9, 64), (16, 700, 40), (20, 3, 0)):
        types = [TensorType(element, s) for s in ((m, k), (n, k), (m, n))]
        for make in (delta, alone):
            check(body(make, *types), depth=m * k)


def test_sums_over_rows_of_several_axes():
    def delta(x, w):
        v = ops.dot(x, w, batch=((), ()), contract=((1,), (2,)))
        return [v, ops.reduce_sum(v, axes=(0, 1))]

    types = TensorType(f32, (5, 20, 30)), TensorType(f32, (4, 7, 20))
    check(body(delta, *types), depth=3000)
    moved = body(lambda x, w: delta(ops.transpose(x, axes=(2, 1, 0)), ops.transpose(w, axes=(1, 0, 2))), *types)
    check(moved, depth=3000)


def test_sums_over_rows_do_not_depend_on_the_processor(monkeypatch):
    def delta(x, w):
        v = ops.matmul(x, w)
        return [v, ops.reduce_sum(v, axes=(0,))]

    graph = body(delta, TensorType(f32, (150, 60)), TensorType(f32, (60, 50)))
    inputs, found = draw(graph), set()
    for cpu in ("host", "x86-64-v3"):
        monkeypatch.setenv("GRAPHC_CPU", cpu)
        found.add(Compiled(kernel(graph, "contraction"))(*inputs)[1].tobytes())
    assert len(found) == 1


def test_few_columns_of_a_left_operand_that_runs_along_the_rows():
    for m, n, k in ((300, 7, 90), (129, 32, 64), (64, 10, 700), (1000, 16, 1100)):
        for right in (False, True):
            graph = product(m, n, k, True, right)
            check(graph, depth=k)

    def layer(x, w, bias, scale):
        v = ops.dot(x, w, batch=((), ()), contract=((0,), (0,)))
        v = ops.add(v, ops.broadcast(bias, (203, 9), (1,)))
        return [ops.mul(v, ops.broadcast(scale, (203, 9), (0,))), v]

    types = [TensorType(f32, s) for s in ((80, 203), (80, 9), (9,), (203,))]
    check(body(layer, *types), depth=80)


def test_wide_operands_of_few_rows():
    check(product(2, 600, 1000, False, False), depth=1000)
    check(product(9, 600, 1000, False, False), depth=1000)


def test_units_divide_evenly():
    """The shares of two threads differ by less than a tenth at shapes of training steps."""
    for m, n, k in (
        (128, 512, 784),
        (128, 784, 512),
        (784, 512, 128),
        (32, 128, 512),
        (128, 10, 512),
        (2708, 16, 1433),
    ):
        units = Compiled(kernel(product(m, n, k, False, False), "contraction")).code.units
        assert -(-units // 2) * 2 <= 1.1 * units, (m, n, k, units)


def test_deep_half_floats():
    check(product(14, 20, 2100, True, False, bf16), depth=2100)
    check(product(1, 20, 2100, False, True, f16), depth=2100)


def test_integers_wrap():
    check(product(9, 10, 300, False, False, i8))


def test_bits_do_not_depend_on_the_processor(monkeypatch):
    """Tiles of other sizes, the same order of every sum."""
    for shape in (
        (37, 70, 600, False, False),
        (50, 40, 230, True, False),
        (3, 70, 90, False, False),
        (20, 5, 40, True, True),
        (64, 40, 1100, True, False),
        (9, 600, 1000, False, False),
        (100, 10, 300, True, False),
        (40, 130, 2100, False, False),
    ):
        graph = product(*shape)
        inputs = draw(graph)
        monkeypatch.setenv("GRAPHC_CPU", "host")
        (here,) = Compiled(kernel(graph, "contraction"))(*inputs)
        monkeypatch.setenv("GRAPHC_CPU", "x86-64-v3")
        (there,) = Compiled(kernel(graph, "contraction"))(*inputs)
        assert here.tobytes() == there.tobytes()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="levels of x86-64")
def test_micro_kernels_keep_their_sums_in_registers():
    for cpu, element in itertools.product(("x86-64-v2", "x86-64-v3", "x86-64-v4"), (f32, f64, i32)):
        for rows, columns in ((128, 512), (32, 512), (1, 512), (5, 512), (40, 10)):
            tile = tiling.choose_tile(rows, columns, element, tiling.registers(cpu))
            symbol, source = tiling.strip(element, tile)
            text = native.assembly(source, symbol, cpu)
            spills = [line for line in text.split("\n") if "mm" in line and "(%rsp" in line]
            fused = len(re.findall(r"vfmadd\d+p[sd]", text))
            assert not spills, (cpu, tile, spills)
            assert fused == (tile.rows * tile.vectors if element.is_float and cpu != "x86-64-v2" else 0), (cpu, tile)


def test_nan_and_infinity():
    graph = product(14, 40, 33, False, True)
    x, y = draw(graph)
    x[3, 5], x[7, 0], y[20, 4], y[2, 2] = np.nan, np.inf, -np.inf, np.nan
    y[10, 0] = 0  # inf · 0
    check(graph, [x, y], depth=33)


def test_batches_and_axes_that_do_not_merge():
    heads = TensorType(f32, (3, 10, 4, 6))  # batch, time, heads, features
    scores = dict(batch=((0, 2), (0, 2)), contract=((3,), (3,)))
    check(body(lambda q, k: ops.dot(q, k, **scores), heads, heads), depth=6)
    mixed = dict(batch=((0, 1), (0, 2)), contract=((3,), (1,)))
    check(body(lambda p, v: ops.dot(p, v, **mixed), TensorType(f32, (3, 4, 10, 10)), heads), depth=10)
    out = dict(batch=((), ()), contract=((1, 3), (0, 1)))  # two contracted axes, two axes of rows
    check(
        body(lambda x, w: ops.dot(x, w, **out), TensorType(f32, (3, 4, 10, 6)), TensorType(f32, (4, 6, 21))), depth=24
    )
    deep = TensorType(f32, (4, 10, 300))
    check(body(lambda x, w: ops.dot(x, w, batch=((), ()), contract=((0, 2), (0, 2))), deep, deep), depth=1200)
    long = TensorType(f32, (5, 14, 500))
    check(body(lambda x, w: ops.dot(x, w, batch=((), ()), contract=((0, 2), (0, 2))), long, long), depth=2500)


def test_products_without_rows_or_columns():
    vectors = TensorType(f32, (7, 40))
    check(body(lambda x, y: ops.dot(x, y, batch=((0,), (0,)), contract=((1,), (1,))), vectors, vectors), depth=40)
    check(body(lambda x, y: ops.dot(x, y, batch=((1,), (1,)), contract=((0,), (0,))), vectors, vectors), depth=7)
    check(
        body(lambda x, y: ops.dot(x, y, batch=((), ()), contract=((0,), (0,))), *[TensorType(f32, (1000,))] * 2),
        depth=1000,
    )
    check(body(lambda x, y: ops.dot(x, y, batch=((0, 1), (0, 1)), contract=((), ())), vectors, vectors))
    check(
        body(
            lambda x, y: ops.dot(x, y, batch=((), ()), contract=((), ())), TensorType(f32, (5,)), TensorType(f32, (19,))
        )
    )


def test_operands_are_read_by_any_stride():
    def backwards(x, y):
        x = ops.slice_(x, start=(19, 2), size=(10, 8), step=(-2, 3))
        y = ops.transpose(ops.slice_(y, start=(30, 7), size=(21, 8), step=(-1, -1)), axes=(1, 0))
        return ops.matmul(x, y)

    check(body(backwards, TensorType(f32, (20, 30)), TensorType(f32, (40, 9))), depth=8)

    def repeated(x, y):
        return ops.matmul(ops.broadcast(x, (9, 30), (1,)), ops.broadcast(y, (30, 20), (0,)))

    check(body(repeated, TensorType(f32, (30,)), TensorType(f32, (30,))), depth=30)

    def ones(y):
        return ops.matmul(ops.full(TensorType(f32, (9, 30)), 1.5), y)

    check(body(ones, TensorType(f32, (30, 20))), depth=30)

    def sums(x):
        return ops.matmul(x, ops.full(TensorType(f32, (30,)), 1.0))

    check(body(sums, TensorType(f32, (9, 30))), depth=30)


def test_epilogues():
    def layer(x, w, bias, scale, residual):
        shape = (13, 37)
        v = ops.add(ops.matmul(x, w), ops.broadcast(bias, shape, (1,)))
        v = ops.mul(v, ops.broadcast(scale, shape, (0,)))
        active = ops.gt(v, ops.full(v.type, 0))
        return [ops.add(ops.select(active, v, ops.full(v.type, 0)), residual), active, ops.cast(v, to=f64)]

    types = [TensorType(f32, s) for s in ((13, 20), (20, 37), (37,), (13,), (13, 37))]
    check(body(layer, *types), depth=20)
    check(body(layer, *types), depth=20, in_place={0: 4})

    def update(x, ct, w, rate):
        gradient = ops.dot(x, ct, batch=((), ()), contract=((0,), (0,)))
        return ops.sub(w, ops.mul(ops.broadcast(rate, (50, 48), ()), gradient))

    types = [TensorType(f32, s) for s in ((33, 50), (33, 48), (50, 48), ())]
    check(body(update, *types), depth=33, in_place={0: 2})

    def causal(q, k):
        scores = ops.mul(ops.matmul(q, k), ops.full(TensorType(f32, (2, 19, 19)), 0.25))
        row, column = (ops.iota(shape=(2, 19, 19), axis=a, to=i64) for a in (1, 2))
        return ops.select(ops.ge(row, column), scores, ops.full(scores.type, -1e9))

    check(body(causal, TensorType(f32, (2, 19, 8)), TensorType(f32, (2, 8, 19))), depth=8)

    def nothing(x, w, bias):
        return ops.add(ops.matmul(x, w), ops.broadcast(bias, (6, 20), (1,)))

    check(body(nothing, TensorType(f32, (6, 0)), TensorType(f32, (0, 20)), TensorType(f32, (20,))))

    def halves(x, w, bias):
        v = ops.add(ops.matmul(x, w), ops.broadcast(bias, (9, 20), (1,)))
        return [v, ops.gt(v, ops.full(v.type, 0))]

    graph = body(halves, *[TensorType(bf16, s) for s in ((9, 30), (30, 20), (20,))])
    found = Compiled(kernel(graph, "contraction"))(*draw(graph))
    assert np.array_equal(found[0].astype(np.float32) > 0, found[1])

    def column(x, w, bias):  # lanes run along the rows
        return ops.add(ops.matmul(x, w), ops.broadcast(bias, (45, 1), (1,)))

    check(body(column, TensorType(f32, (45, 12)), TensorType(f32, (12, 1)), TensorType(f32, (1,))), depth=12)

    def heads(x, w, b):  # columns of two axes
        return ops.add(ops.dot(x, w, batch=((), ()), contract=((1,), (0,))), ops.broadcast(b, (14, 5, 6), (1, 2)))

    check(body(heads, *[TensorType(f32, s) for s in ((14, 9), (9, 5, 6), (5, 6))]), depth=9)


def test_equal_text_for_other_batch_sizes():
    sources = set()
    for batch in (60, 84, 100):
        code = Compiled(kernel(product(batch, 40, 50, False, False), "contraction")).code
        sources.add(code.source)
        assert code.units >= 1 and code.work > 0
    assert len(sources) == 1


def test_integers_of_every_width():
    for element in (i8, u8, i32, i64):
        check(product(6, 40, 12, False, False, element))
        check(product(14, 6, 12, False, True, element))
