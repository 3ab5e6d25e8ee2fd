"""graphc.nn's convolution and pooling: PyTorch's arguments, held against sums that are written out one by one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import nn

RNG = np.random.default_rng(5)
LETTERS = {1: "L", 2: "HW", 3: "DHW"}

Ints = tuple[int, ...]


def each(value: Any, axes: int) -> Ints:
    return (value,) * axes if isinstance(value, int) else tuple(value)


def direct_conv(
    x: np.ndarray, w: np.ndarray, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> np.ndarray:
    """Sum by sum, as PyTorch defines it; padding is an int or a pair per axis."""
    axes = x.ndim - 2
    strides, dilations = each(stride, axes), each(dilation, axes)
    pads = [(p, p) if isinstance(p, int) else p for p in each(padding, axes)]
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    out, channels, *window = w.shape
    counts = [
        (n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], window, strides, dilations, strict=True)
    ]
    y = np.zeros((len(x), out, *counts))
    for o in range(out):
        first = o // (out // groups) * channels
        for place in itertools.product(*map(range, counts)):
            patch = [
                slice(i * s, i * s + (k - 1) * d + 1, d)
                for i, s, k, d in zip(place, strides, window, dilations, strict=True)
            ]
            y[(slice(None), o, *place)] = (x[(slice(None), slice(first, first + channels), *patch)] * w[o]).sum(
                tuple(range(1, axes + 2))
            )
    return y


def direct_transpose(
    x: np.ndarray, w: np.ndarray, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1,
    dilation: Any = 1,
) -> np.ndarray:  # fmt: skip
    """Each element of x adds the filters at its place; ``padding`` is then cut off."""
    axes = x.ndim - 2
    strides, pads, more, dilations = (each(v, axes) for v in (stride, padding, output_padding, dilation))
    channels, out, *window = w.shape
    full = [
        (n - 1) * s + (k - 1) * d + 1 + extra
        for n, s, k, d, extra in zip(x.shape[2:], strides, window, dilations, more, strict=True)
    ]
    y = np.zeros((len(x), groups * out, *full))
    for c in range(channels):
        first = c // (channels // groups) * out
        for place in itertools.product(*map(range, x.shape[2:])):
            at = [
                slice(i * s, i * s + (k - 1) * d + 1, d)
                for i, s, k, d in zip(place, strides, window, dilations, strict=True)
            ]
            value = x[(slice(None), c, *place)].reshape(-1, *(1,) * (axes + 1))
            y[(slice(None), slice(first, first + out), *at)] += value * w[c]
    return y[(..., *[slice(p, n - p) for p, n in zip(pads, full, strict=True)])]


def direct_pool(
    x: np.ndarray, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, dilation: Any = 1
) -> list[tuple[tuple[slice, ...], Ints, Ints]]:
    """For each window: the elements of x that it covers, its place, and its elements in x and padding along each axis."""
    axes = x.ndim - 2
    kernels, pads, dilations = each(kernel, axes), each(padding, axes), each(dilation, axes)
    strides = kernels if stride is None else each(stride, axes)
    spans: list[list[tuple[slice, int, int]]] = []
    for n, k, s, p, d in zip(x.shape[2:], kernels, strides, pads, dilations, strict=True):
        spans.append([])
        start = -p
        reach = (k - 1) * d + 1
        while start + reach <= n + p or (ceil_mode and start < n and start - s + reach < n + p):
            inside = [i for i in range(start, start + reach, d) if 0 <= i < n]
            padded = len([i for i in range(start, start + reach, d) if i < n + p])
            spans[-1].append((slice(inside[0], inside[-1] + 1, d), len(spans[-1]), padded))
            start += s
    return [
        (tuple(s for s, _, _ in found), tuple(i for _, i, _ in found), tuple(m for _, _, m in found))
        for found in itertools.product(*spans)
    ]


CONVOLUTIONS: dict[str, tuple[Ints, Ints, dict[str, Any]]] = {
    "1d": ((2, 3, 9), (4, 3, 3), {}),
    "1d strided, dilated": ((2, 4, 11), (6, 2, 3), {"stride": 2, "padding": 2, "dilation": 2, "groups": 2}),
    "2d": ((2, 3, 6, 7), (4, 3, 3, 2), {"padding": 1}),
    "2d by axis": ((2, 4, 7, 8), (6, 2, 3, 2), {"stride": (2, 3), "padding": (2, 1), "dilation": (1, 2), "groups": 2}),
    "2d depthwise": ((1, 4, 5, 6), (8, 1, 3, 3), {"stride": 2, "padding": 1, "groups": 4}),
    "3d": ((1, 2, 4, 5, 3), (3, 2, 2, 3, 2), {"stride": (1, 2, 1), "padding": (0, 1, 1)}),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions(case: str) -> None:
    shape, window, arguments = CONVOLUTIONS[case]
    x, w, b = RNG.normal(size=shape), RNG.normal(size=window), RNG.normal(size=window[0])
    function = getattr(nn, f"conv{len(shape) - 2}d")
    want = direct_conv(x, w, **arguments) + b.reshape(-1, *(1,) * (len(shape) - 2))
    np.testing.assert_allclose(function(x, w, b, **arguments), want, rtol=1e-10, atol=1e-12)
    compiled = graphc.compile(lambda x, w, b: function(x, w, b, **arguments))
    np.testing.assert_allclose(compiled(x, w, b), want, rtol=1e-10, atol=1e-12)


TRANSPOSED: dict[str, tuple[Ints, Ints, dict[str, Any]]] = {
    "1d": ((2, 3, 5), (3, 4, 3), {}),
    "1d strided": ((2, 4, 5), (4, 3, 4), {"stride": 3, "padding": 1, "output_padding": 2, "groups": 2}),
    "2d": ((2, 3, 4, 3), (3, 2, 3, 2), {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}),
    "2d, padding beyond the window": ((1, 2, 5, 6), (2, 2, 1, 1), {"padding": 1}),
    "3d": ((1, 2, 2, 3, 2), (2, 2, 2, 2, 3), {"stride": 2, "padding": (0, 1, 1), "output_padding": (1, 0, 1)}),
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolutions(case: str) -> None:
    shape, window, arguments = TRANSPOSED[case]
    x, w = RNG.normal(size=shape), RNG.normal(size=window)
    b = RNG.normal(size=window[1] * arguments.get("groups", 1))
    function = getattr(nn, f"conv_transpose{len(shape) - 2}d")
    want = direct_transpose(x, w, **arguments) + b.reshape(-1, *(1,) * (len(shape) - 2))
    np.testing.assert_allclose(function(x, w, b, **arguments), want, rtol=1e-10, atol=1e-12)
    compiled = graphc.compile(lambda x, w, b: function(x, w, b, **arguments))
    np.testing.assert_allclose(compiled(x, w, b), want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("stride, padding, dilation", [(1, 0, 1), (2, 1, 1), (3, 2, 2)])
def test_a_transposed_convolution_is_the_gradient_of_a_convolution(stride: int, padding: int, dilation: int) -> None:
    x, w = RNG.normal(size=(2, 3, 13)), RNG.normal(size=(4, 3, 3))
    y, pull = graphc.vjp(lambda x: nn.conv1d(x, w, stride=stride, padding=padding, dilation=dilation), x)
    ct = RNG.normal(size=y.shape)
    (want,) = pull(ct)
    lost = (13 + 2 * padding - dilation * 2 - 1) % stride  # elements that no window reaches
    found = nn.conv_transpose1d(ct, w, stride=stride, padding=padding, output_padding=lost, dilation=dilation)
    np.testing.assert_allclose(found, want, rtol=1e-10, atol=1e-12)


POOLS: dict[str, tuple[Ints, dict[str, Any]]] = {
    "1d": ((2, 3, 7), {"kernel_size": 3}),
    "1d, one more window": ((2, 3, 8), {"kernel_size": 3, "stride": 3, "ceil_mode": True}),
    "1d, a window that would start on padding": ((1, 1, 4), {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True}),
    "2d": ((2, 2, 5, 6), {"kernel_size": (3, 2), "stride": (2, 1), "padding": 1}),
    "2d, all at once": ((2, 2, 7, 6), {"kernel_size": 3, "stride": 2, "padding": (1, 0), "ceil_mode": True}),
    "3d": ((1, 2, 4, 3, 5), {"kernel_size": (2, 3, 2), "stride": 2, "padding": (0, 1, 1)}),
}  # fmt: skip


def arguments_of(case: str) -> tuple[np.ndarray, int, dict[str, Any], list[Any]]:
    shape, arguments = POOLS[case]
    x = RNG.normal(size=shape)
    kernel, stride = arguments["kernel_size"], arguments.get("stride")
    windows = direct_pool(x, kernel, stride, arguments.get("padding", 0), arguments.get("ceil_mode", False))
    return x, len(shape) - 2, arguments, windows


def shape_of(x: np.ndarray, windows: Sequence[Any]) -> Ints:
    return (*x.shape[:2], *(n + 1 for n in windows[-1][1]))


@pytest.mark.parametrize("case", POOLS)
def test_max_pools_and_where_they_found_the_maximum(case: str) -> None:
    x, axes, arguments, windows = arguments_of(case)
    want, places = np.zeros(shape_of(x, windows)), np.zeros(shape_of(x, windows), np.int64)
    numbers = np.broadcast_to(np.arange(x[0, 0].size).reshape(x.shape[2:]), x.shape)
    for patch, place, _ in windows:
        values = x[(..., *patch)].reshape(*x.shape[:2], -1)
        want[(..., *place)] = values.max(-1)
        index = numbers[(..., *patch)].reshape(*x.shape[:2], -1)
        places[(..., *place)] = np.take_along_axis(index, values.argmax(-1)[..., None], -1)[..., 0]
    function = getattr(nn, f"max_pool{axes}d")
    found = graphc.compile(lambda x: function(x, return_indices=True, **arguments))(x)
    np.testing.assert_array_equal(found[0], want)
    np.testing.assert_array_equal(found[1], places)
    np.testing.assert_array_equal(function(x, **arguments), want)


def test_max_pool_dilated() -> None:
    x = RNG.normal(size=(2, 1, 9))
    found = nn.max_pool1d(x, 3, 2, padding=1, dilation=3)
    want = [[max(row[i] for i in (s, s + 3, s + 6) if 0 <= i < 9) for s in (-1, 1, 3)] for row in x[:, 0]]
    np.testing.assert_array_equal(found[:, 0], want)


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("case", POOLS)
def test_average_pools(case: str, count_include_pad: bool) -> None:
    x, axes, arguments, windows = arguments_of(case)
    want = np.zeros(shape_of(x, windows))
    for patch, place, padded in windows:
        values = x[(..., *patch)].reshape(*x.shape[:2], -1)
        want[(..., *place)] = values.sum(-1) / (np.prod(padded) if count_include_pad else values.shape[-1])
    function = getattr(nn, f"avg_pool{axes}d")
    arguments = arguments | {"count_include_pad": count_include_pad}
    np.testing.assert_allclose(function(x, **arguments), want, rtol=1e-12)
    np.testing.assert_allclose(graphc.compile(lambda x: function(x, **arguments))(x), want, rtol=1e-12)


def test_average_pool_with_a_divisor_of_its_own() -> None:
    x = RNG.normal(size=(1, 2, 4, 4))
    np.testing.assert_allclose(nn.avg_pool2d(x, 2, divisor_override=3), nn.avg_pool2d(x, 2) * 4 / 3)


def test_element_types() -> None:
    assert nn.avg_pool2d(np.ones((1, 1, 3, 3), np.float32), 2, padding=1).dtype == np.float32
    assert nn.avg_pool1d(np.array([[[1, 2]]]), 2).tolist() == [[[1.5]]]
    assert nn.conv1d(np.ones((1, 1, 3), np.float32), np.ones((1, 1, 2), np.float32)).dtype == np.float32


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_channels_last_and_single_images(axes: int) -> None:
    x, w = RNG.normal(size=(2, 3, *(5, 6, 4)[:axes])), RNG.normal(size=(3, 3, *(2, 3, 2)[:axes]))
    last = np.moveaxis(x, 1, -1)
    layout = f"N{LETTERS[axes]}C"
    for name, arguments in (("conv", (w,)), ("conv_transpose", (w,)), ("max_pool", (2,)), ("avg_pool", (2,))):
        function = getattr(nn, f"{name}{axes}d")
        y = function(x, *arguments)
        np.testing.assert_allclose(function(last, *arguments, layout=layout), np.moveaxis(y, 1, -1), atol=1e-12)
        np.testing.assert_allclose(function(x[0], *arguments), y[0], atol=1e-12)
        np.testing.assert_allclose(function(last[1], *arguments, layout=layout), np.moveaxis(y[1], 0, -1), atol=1e-12)


def test_same_padding_keeps_the_extent_over_the_stride() -> None:
    x, w = RNG.normal(size=(1, 1, 7, 6)), RNG.normal(size=(1, 1, 3, 2))
    for stride in (1, 2, 3):
        assert nn.conv2d(x, w, stride=stride, padding="same").shape[2:] == (-(-7 // stride), -(-6 // stride))
    np.testing.assert_allclose(nn.conv2d(x, w, padding="same"), direct_conv(x, w, padding=((1, 1), (0, 1))), atol=1e-12)


@pytest.mark.parametrize(
    "function, args",
    [
        (lambda x, w: nn.conv2d(x, w, padding=((0, 1), 1), stride=2, groups=2), ((1, 2, 3, 4), (2, 1, 2, 2))),
        (lambda x, w: nn.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1), ((1, 2, 2, 2), (2, 1, 3, 3))),
        (lambda x: nn.max_pool2d(x, 3, 2, padding=1, ceil_mode=True), ((1, 1, 4, 5),)),
        (lambda x: nn.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False), ((1, 1, 4, 5),)),
    ],
    ids=["conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d"],
)
def test_derivatives(function: Any, args: tuple[Ints, ...]) -> None:
    graphc.check_grads(function, tuple(RNG.normal(size=shape) for shape in args), order=2)


BAD: dict[str, tuple[Any, str]] = {
    "padding by name": (lambda x, w: nn.conv2d(x, w, padding="full"), "conv2d: padding is 'valid', 'same'"),
    "padding of another rank": (lambda x, w: nn.conv2d(x, w, padding=(1, 1, 1)), "for each of the 2 spatial axes"),
    "stride of another rank": (lambda x, w: nn.conv2d(x, w, stride=(1,)), "stride=.*2 spatial axes"),
    "images of another rank": (lambda x, w: nn.conv1d(x, w), r"conv1d takes images of shape \(N, C, L\) or \(C, L\), not"),
    "filters of another rank": (lambda x, w: nn.conv2d(x, w[0]), "filters have 4 axes"),
    "a layout that is none": (lambda x, w: nn.conv2d(x, w, layout="HWNC"), "layout is 'NCHW' or 'NHWC'"),
    "channels that do not fit": (lambda x, w: nn.conv2d(x, w[:, :1]), "channels"),
    "output padding": (lambda x, w: nn.conv_transpose2d(x, w, output_padding=1), "smaller than the stride"),
    "groups of a transposed one": (lambda x, w: nn.conv_transpose2d(x, w, groups=2), "3 channels.*2 groups"),
    "padding beyond half": (lambda x, w: nn.max_pool2d(x, 2, padding=2), "half of kernel_size"),
    "no divisor": (lambda x, w: nn.avg_pool2d(x, 2, divisor_override=0), "must not be 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case: str) -> None:
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call(np.ones((1, 3, 5, 5)), np.ones((3, 3, 2, 2)))
