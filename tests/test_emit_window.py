"""Generated convolutions and reductions of windows against the meaning of their ops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from emit_calls import Compiled, body, expected, kernel, widened

from graphc import ops
from graphc.ops import window
from graphc.types import DTYPES, TensorType, bf16, f16, f32, f64, i32, i64

EPSILON = {"f64": 2.0**-53, "f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}


def draw(t: TensorType, rng: np.random.Generator) -> np.ndarray:
    if t.dtype.name == "bool":
        return rng.random(t.shape) < 0.5
    if t.dtype.is_float:
        return rng.standard_normal(t.shape).astype(t.dtype.numpy)
    info = np.iinfo(t.dtype.numpy)
    return rng.integers(info.min, info.max, t.shape, t.dtype.numpy, endpoint=True)


def check(graph, *inputs: np.ndarray, depth: int = 1) -> None:
    rng = np.random.default_rng(0)
    inputs = inputs or tuple(draw(t, rng) for t in graph.input_types)
    call = Compiled(kernel(graph, "window"))
    found = call(*inputs)
    for threads in (2, 3):
        assert all(a.tobytes() == b.tobytes() for a, b in zip(found, call(*inputs, threads=threads), strict=True))
    exact = expected(widened(graph), [x.astype(np.float64) if x.dtype.kind not in "biu" else x for x in inputs])
    for got, want, t in zip(found, exact, graph.output_types, strict=True):
        if not t.dtype.is_float:
            assert np.array_equal(got, want), call.code.source
            continue
        magnitude = np.max(np.abs(want[np.isfinite(want)]), initial=1.0)
        tolerance = magnitude * (
            4 * EPSILON[t.dtype.name] + 8 * EPSILON["f64" if t.dtype is f64 else "f32"] * np.sqrt(depth)
        )
        np.testing.assert_allclose(got.astype(np.float64), want, rtol=0, atol=tolerance, err_msg=call.code.source)


def conv(x, w, strides=None, padding=None, lhs=None, rhs=None, groups=1, element=f32):
    """The graph of a convolution of these shapes; attributes of one number hold for every axis."""
    space = len(x) - 2
    attrs = dict(
        strides=(strides or 1,) * space,
        padding=padding or ((0, 0),) * space,
        lhs_dilation=(lhs or 1,) * space,
        rhs_dilation=(rhs or 1,) * space,
        groups=groups,
    )
    types = TensorType(element, x), TensorType(element, w)
    return body(lambda x, w: window.conv(x, w, **attrs), *types)


SAME = ((1, 1), (1, 1))
CONVOLUTIONS = (
    conv((2, 3, 9, 20), (5, 3, 3, 3)),
    conv((2, 3, 9, 20), (13, 3, 3, 3), padding=SAME),
    conv((1, 4, 7, 7), (6, 4, 3, 3), padding=SAME, strides=2),
    conv((1, 2, 30, 17), (30, 2, 5, 1), padding=((-1, 3), (2, -2))),
    conv((2, 6, 8, 8), (4, 3, 2, 2), groups=2),
    conv((2, 6, 9, 9), (6, 1, 3, 3), groups=6, padding=SAME),
    conv((1, 3, 6, 6), (4, 3, 3, 3), padding=((2, 2), (2, 2)), lhs=2),
    conv((1, 3, 12, 12), (4, 3, 3, 3), rhs=3),
    conv((1, 3, 12, 11), (4, 3, 3, 2), rhs=2, lhs=3, strides=2, padding=((0, 5), (3, 0))),
    conv((3, 4, 40), (7, 4, 5), padding=((4, 0),)),
    conv((1, 2, 5, 6, 7), (3, 2, 2, 3, 2), padding=((1, 0), (0, 1), (1, 1))),
    conv((1, 1, 20, 20), (1, 1, 20, 20), padding=((3, 3), (0, 0))),
    conv((1, 1, 3, 3), (2, 1, 3, 3)),
    conv((2, 0, 5, 5), (3, 0, 2, 2)),
    conv((2, 40, 6, 40), (20, 40, 6, 6)),  # several chunks of channels
    conv((0, 3, 5, 5), (2, 3, 2, 2)),
)


def test_convolutions():
    for graph in CONVOLUTIONS:
        check(graph, depth=int(np.prod(graph.input_types[1].shape[1:])))


@pytest.mark.parametrize("element", [f64, f16, bf16, i32], ids=str)
def test_convolutions_of_other_elements(element):
    check(conv((2, 3, 9, 20), (13, 3, 3, 3), padding=SAME, element=element), depth=27)
    check(conv((2, 4, 7, 9), (4, 2, 3, 2), strides=2, groups=2, element=element), depth=12)


def test_bits_do_not_depend_on_the_processor(monkeypatch):
    for graph in (CONVOLUTIONS[1], CONVOLUTIONS[4]):
        rng = np.random.default_rng(0)
        inputs = [draw(t, rng) for t in graph.input_types]
        results = []
        for cpu in ("host", "x86-64-v3"):
            monkeypatch.setenv("GRAPHC_CPU", cpu)
            results += Compiled(kernel(graph, "window"))(*inputs)
        assert results[0].tobytes() == results[1].tobytes()


def test_operands_are_read_by_any_stride():
    def backwards(x, w):
        x = ops.transpose(x, axes=(0, 3, 1, 2))
        w = ops.transpose(ops.slice_(w, start=(0, 0, 2, 2), size=(3, 5, 3, 3), step=(1, 1, -1, -1)), axes=(1, 0, 2, 3))
        return window.conv(x, w, strides=(1, 1), padding=SAME, lhs_dilation=(1, 1), rhs_dilation=(1, 1), groups=1)

    check(body(backwards, TensorType(f32, (2, 8, 9, 3)), TensorType(f32, (3, 5, 3, 3))), depth=27)


def test_epilogues():
    def layer(x, w, bias, residual):
        shape = (2, 5, 9, 7)
        v = window.conv(x, w, strides=(1, 1), padding=SAME, lhs_dilation=(1, 1), rhs_dilation=(1, 1), groups=1)
        v = ops.add(v, ops.broadcast(bias, shape, (1,)))
        return [ops.maximum(v, ops.full(v.type, 0)), ops.add(v, residual)]

    types = [TensorType(f32, s) for s in ((2, 3, 9, 7), (5, 3, 3, 3), (5,), (2, 5, 9, 7))]
    check(body(layer, *types), depth=27)

    def by_column(x, w, scale):  # the spatial axes do not merge
        v = window.conv(x, w, strides=(1, 1), padding=SAME, lhs_dilation=(1, 1), rhs_dilation=(1, 1), groups=1)
        return ops.mul(v, ops.broadcast(scale, (2, 5, 9, 7), (3,)))

    check(body(by_column, *types[:2], TensorType(f32, (7,))), depth=27)

    def by_depth(x, w, scale):
        v = window.conv(
            x, w, strides=(1,) * 3, padding=((0, 0),) * 3, lhs_dilation=(1,) * 3, rhs_dilation=(1,) * 3, groups=1
        )
        return ops.mul(v, ops.broadcast(scale, (1, 2, 4, 5, 6), (3,)))

    check(body(by_depth, *[TensorType(f32, s) for s in ((1, 3, 5, 6, 7), (2, 3, 2, 2, 2), (5,))]), depth=24)

    def pooled(x, y):
        v = window.reduce_window(
            x, window=(1, 2, 2), strides=(1, 2, 2), padding=((0, 0),) * 3, dilation=(1,) * 3, kind="max"
        )
        return ops.add(v, ops.broadcast(y, (3, 4, 5), (2,)))

    check(body(pooled, TensorType(f32, (3, 8, 10)), TensorType(f32, (5,))))


WINDOWS = (
    # shape, window, strides, padding, dilation
    ((3, 2, 8, 10), (1, 1, 2, 2), (1, 1, 2, 2), ((0, 0),) * 4, (1,) * 4),
    ((2, 9, 9), (1, 3, 3), (1, 2, 2), ((0, 0), (1, 1), (1, 0)), (1,) * 3),
    ((20,), (20,), (1,), ((19, 0),), (1,)),  # cumulative
    ((2, 12, 5), (1, 3, 1), (1, 1, 1), ((0, 0), (2, 3), (0, 0)), (1, 4, 1)),
    ((6, 7), (2, 3), (3, 1), ((-1, 0), (0, -2)), (1, 1)),
    ((40, 5), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    ((3, 4), (2, 2), (1, 1), ((4, 0), (0, 4)), (1, 1)),  # windows of padding alone
    ((3, 0), (1, 2), (1, 1), ((0, 0), (2, 2)), (1, 1)),
    ((50, 700), (1, 2), (1, 2), ((0, 0), (0, 0)), (1, 1)),
)


@pytest.mark.parametrize("name", ["f32", "bool", "i8", "i64", "u64", "f16", "bf16", "f64"])
def test_windows(name):
    rng, element = np.random.default_rng(1), DTYPES[name]
    cases = WINDOWS if name == "f32" else WINDOWS[1:9:3]
    for (shape, size, strides, padding, dilation), kind in itertools.product(cases, ("sum", "max", "min")):
        if kind == "sum" and name == "bool":
            continue
        attrs = dict(window=size, strides=strides, padding=padding, dilation=dilation, kind=kind)
        t = TensorType(element, shape)
        x = draw(t, rng)
        check(body(lambda x, attrs=attrs: window.reduce_window(x, **attrs), t), x, depth=int(np.prod(size)))
        if kind != "sum":
            check(body(lambda x, attrs=attrs: window.window_argmax(x, **attrs), t), x)


def test_nan_and_ties_in_windows():
    rng = np.random.default_rng(2)
    for shape, size, strides, padding, dilation in WINDOWS:
        t = TensorType(f32, shape)
        x = rng.choice(np.array([np.nan, np.inf, -np.inf, 0.0, 1.0], np.float32), shape)
        for kind in ("max", "min"):
            attrs = dict(window=size, strides=strides, padding=padding, dilation=dilation, kind=kind)
            check(body(lambda x, attrs=attrs: window.reduce_window(x, **attrs), t), x)
            check(body(lambda x, attrs=attrs: window.window_argmax(x, **attrs), t), x)


def test_windows_of_an_access():
    attrs = dict(window=(1, 2, 2), strides=(1, 2, 2), padding=((0, 0),) * 3, dilation=(1,) * 3, kind="max")

    def moved(x):
        x = ops.transpose(ops.slice_(x, start=(7, 0, 0), size=(8, 3, 6), step=(-1, 1, 1)), axes=(1, 0, 2))
        return [window.reduce_window(x, **attrs)]

    check(body(moved, TensorType(f32, (8, 3, 6))))

    def place(x):
        return window.window_argmax(ops.transpose(x, axes=(1, 0, 2)), **attrs)

    check(body(place, TensorType(f32, (8, 3, 6))))
    assert i64.itemsize == 8
