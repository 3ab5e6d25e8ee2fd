"""Ways of the CPU backend to convolve and pool, each at ragged shapes against the meaning of the ops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from emit_calls import Compiled, body, kernel
from test_emit_window import check, conv, draw

from graphc.backends.cpu import emit_convolution, emit_correlation, sliding
from graphc.backends.cpu.sliding import Slide
from graphc.ir import Graph, Node
from graphc.ops import window
from graphc.types import TensorType, bf16, f32, f64, i32


def conv_of(graph: Graph) -> Node:
    return next(node for node in graph.nodes if node.op.name == "conv")


def pad(*pairs):
    return {"padding": pairs}


DEPTHWISE = (
    conv((2, 5, 9, 37), (5, 1, 3, 3), groups=5, **pad((1, 1), (0, 2))),
    conv((1, 4, 21, 20), (8, 1, 3, 5), groups=4, strides=2, **pad((1, 2), (0, 3))),
    conv((2, 3, 7, 6), (3, 1, 3, 3), groups=3, lhs=2, **pad((2, 1), (2, 3))),
    conv((1, 6, 11), (4, 3, 3), groups=2, rhs=2, lhs=3, strides=2, **pad((4, 1))),
    conv((1, 2, 60, 61), (2, 1, 2, 2), groups=2),  # several blocks
    conv((1, 2, 4, 5, 6), (2, 1, 6, 3, 2), groups=2, **pad((3, 2), (1, 1), (0, 1))),  # too many places to write out
)
DOTS = (
    conv((1, 8, 9, 41), (4, 2, 7, 38), groups=4),
    conv((1, 8, 30), (8, 2, 12), groups=4, rhs=2, strides=3, **pad((1, 2))),
    conv((1, 4, 70, 75), (4, 1, 68, 72), groups=4),  # several chunks
)
CORRELATIONS = (
    conv((35, 3, 11, 13), (21, 3, 9, 11)),  # rows are samples
    conv((2, 5, 9, 20), (17, 5, 7, 18), **pad((1, 1), (2, 1))),  # rows are neighbouring places
    conv((13, 4, 9, 9), (19, 4, 4, 4), rhs=2, **pad((1, 0), (1, 2))),
    conv((13, 4, 9, 9), (19, 4, 5, 4), strides=3, rhs=2, **pad((1, 3), (2, 2))),
    conv((10, 2, 40, 45), (5, 2, 38, 43)),  # several chunks and parts
    conv((4, 6, 200), (3, 2, 190), groups=3),
    conv((9, 2, 4, 5, 6), (3, 2, 3, 4, 5)),
)
CLASSES = (
    conv((2, 3, 9, 8), (5, 3, 3, 3), lhs=2, **pad((1, 2), (2, 1))),
    conv((2, 3, 5, 6), (5, 3, 1, 1), lhs=3, **pad((0, 2), (0, 1))),  # classes that meet nothing
    conv((1, 3, 40, 41), (9, 3, 3, 2), lhs=2, rhs=3, **pad((2, 3), (1, 1))),  # several blocks
    conv((1, 3, 30), (4, 3, 5), lhs=4, strides=6, **pad((3, 2))),
)
BLOCKS = (
    conv((3, 40, 31, 33), (20, 40, 3, 3), **pad((1, 1), (1, 1))),  # planes of all channels, several blocks of a unit
    conv((1, 90, 12, 300), (5, 90, 3, 3)),  # planes chunk by chunk
    conv((5, 20, 3, 7), (30, 20, 1, 1)),  # patches are planes
    conv((3, 20, 31, 31), (30, 20, 1, 1), strides=2),
    conv((1, 3, 2000), (4, 3, 9), **pad((4, 4))),
)


@pytest.mark.parametrize(
    "graphs", [DEPTHWISE, DOTS, CORRELATIONS, CLASSES, BLOCKS], ids="depthwise dots correlations classes blocks".split()
)
def test_ways_to_convolve(graphs):
    for graph in graphs:
        w = graph.input_types[1]
        check(graph, depth=math.prod(w.shape[1:]))


@pytest.mark.parametrize("element", [f64, bf16, i32], ids=str)
def test_ways_to_convolve_other_elements(element):
    for graph, depth in (
        (conv((1, 4, 9, 8), (8, 1, 3, 3), groups=4, strides=2, element=element), 9),
        (conv((1, 8, 9, 21), (4, 2, 7, 19), groups=4, element=element), 266),
        (conv((18, 3, 9, 9), (5, 3, 7, 7), element=element), 147),
        (conv((2, 3, 5, 6), (5, 3, 3, 3), lhs=2, element=element), 27),
    ):
        check(graph, depth=depth)


def test_infinite_elements_stay_where_they_are():
    rng = np.random.default_rng(4)
    for graph in (DEPTHWISE[0], DOTS[0], CORRELATIONS[1], CLASSES[0], BLOCKS[2]):
        x, w = (draw(t, rng) for t in graph.input_types)
        for value in (np.inf, np.nan):
            x.reshape(-1)[rng.integers(x.size, size=2)] = value
        (found,) = Compiled(kernel(graph, "window"))(x, w)
        conv_node = conv_of(graph)
        (wide,) = [conv_node.op.eval(x.astype(np.float64), w.astype(np.float64), **conv_node.attributes())]
        assert np.array_equal(np.isfinite(found), np.isfinite(wide))


def test_slides_name_every_element_once():
    rng = np.random.default_rng(5)
    for _ in range(200):
        count, size, stride, apart, dilation = (int(n) for n in rng.integers(1, 7, 5))
        s = Slide(count, size, stride, apart, int(rng.integers(-3, 7)), 9, dilation, 1)
        for y in range(count):
            direct = {
                (i, (y * stride + i * apart - s.before) // dilation)
                for i in range(size)
                if (y * stride + i * apart - s.before) % dilation == 0
            }
            r, q = s.residues[y % s.period], y // s.period
            assert {(r.tap + j * r.apart, q * s.step + r.first + j * r.by) for j in range(r.taps)} == direct
            for _, element in direct:
                assert 0 <= element - q * s.step - s.low < s.span


def test_blocks_cover_all_places():
    for graph in (*BLOCKS, *CLASSES):
        c = emit_convolution.choose(kernel(graph, "window"), conv_of(graph))
        assert c.cut_blocks * c.block.lines >= c.slides[c.block.cut].places
        assert c.merged == 1 or c.resident
    for graph in CORRELATIONS:
        c = emit_correlation.choose(kernel(graph, "window"), conv_of(graph))
        assert c.chunks >= c.parts >= 1 and c.columns * c.column_blocks >= c.filters
    assert sliding.uneven(17) == 48 and sliding.uneven(16) == 16


SCATTERS = (
    # shape, window, strides, padding, dilation
    ((3, 2, 8, 10), (1, 1, 2, 2), (1, 1, 2, 2), ((0, 0),) * 4, (1,) * 4),
    ((2, 9, 21), (1, 3, 3), (1, 2, 2), ((0, 0), (1, 1), (1, 0)), (1,) * 3),
    ((2, 12, 5), (1, 3, 1), (1, 1, 1), ((0, 0), (2, 3), (0, 0)), (1, 4, 1)),
    ((6, 7), (2, 3), (3, 1), ((-1, 0), (0, -2)), (1, 1)),
    ((3, 4), (2, 2), (1, 1), ((4, 0), (0, 4)), (1, 1)),  # windows of padding alone
    ((3, 0), (1, 2), (1, 1), ((0, 0), (2, 2)), (1, 1)),
    ((3, 9, 40), (1, 4, 4), (1, 3, 3), ((0, 0), (2, 2), (2, 2)), (1, 1, 2)),
    ((70, 80), (3, 3), (2, 2), ((0, 0), (1, 1)), (1, 1)),  # several blocks
)


@pytest.mark.parametrize("element", [f32, f64, bf16, i32], ids=str)
def test_cotangents_of_windows(element):
    rng = np.random.default_rng(6)
    for k, (shape, size, strides, padding, dilation) in enumerate(SCATTERS if element is f32 else SCATTERS[1:7:2]):
        attrs = dict(window=size, strides=strides, padding=padding, dilation=dilation, kind=("max", "min")[k % 2])
        t = TensorType(element, shape)
        y = TensorType(f32 if element is i32 else element, window.reduce_window.infer(t, **attrs).shape)
        graph = body(lambda y, x, attrs=attrs: window.window_scatter(y, x, **attrs), y, t)
        values = [0, 1] if element is i32 else [np.nan, np.inf, -np.inf, 0.0, 1.0]
        ties = rng.choice(np.array(values, np.float64), shape).astype(element.numpy)
        for x in (draw(t, rng), ties):
            check(graph, draw(y, rng), x, depth=math.prod(size))
