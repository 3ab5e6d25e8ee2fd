"""Convolution and pooling with PyTorch's arguments, over one to three spatial axes.

Images are (N, C, *spatial), or (C, *spatial) for a single one; ``layout`` moves the channels last: "NLC", "NHWC", "NDHWC"
instead of "NCL", "NCHW", "NCDHW". Filters are (O, C/groups, *window) in either layout, those of a transposed convolution
(C, O/groups, *window). Numbers that are per axis may be one int for all of them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc import ops
from graphc.tracing import to_node, to_tracer, wrap
from graphc.transforms import concrete_or_traced

Ints = int | Sequence[int]
Pairs = tuple[tuple[int, int], ...]

AXES = {1: "L", 2: "HW", 3: "DHW"}


# ------------------------------------------------------------------------------------------------ arguments


def per_axis(name: str, value: Any, axes: int) -> tuple[int, ...]:
    """``value`` as one int for each of ``axes`` spatial axes."""
    values = (int(value),) * axes if isinstance(value, (int, np.integer)) else tuple(int(v) for v in value)
    if len(values) != axes:
        raise ValueError(f"{name}={value!r} needs a number for each of the {axes} spatial axes")
    return values


def padding_pairs(name: str, padding: Any, extents: Ints, window: Ints, strides: Ints, dilations: Ints) -> Pairs:
    """``padding`` as (before, after) for each spatial axis."""
    if isinstance(padding, str):
        if padding.lower() not in ("valid", "same"):
            raise ValueError(
                f"{name}: padding is 'valid', 'same', an int, or an int or a pair per axis, not {padding!r}"
            )
        pairs = []
        for n, k, s, d in zip(extents, window, strides, dilations, strict=True):  # type: ignore[arg-type]
            total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0) if padding.lower() == "same" else 0
            pairs.append((total // 2, total - total // 2))
        return tuple(pairs)
    axes = len(extents)  # type: ignore[arg-type]
    if isinstance(padding, (int, np.integer)):
        padding = (padding,) * axes
    pairs = [(int(p), int(p)) if isinstance(p, (int, np.integer)) else (int(p[0]), int(p[1])) for p in padding]
    if len(pairs) != axes:
        raise ValueError(f"{name}: padding={padding!r} needs an int or a pair for each of the {axes} spatial axes")
    return tuple(pairs)


def channels_first(name: str, x: Any, space: int, layout: str | None) -> tuple[Any, bool, bool]:
    """``x`` as (N, C, *spatial), whether its channels were last, and whether it was a single image."""
    first, last = f"NC{AXES[space]}", f"N{AXES[space]}C"
    layout = first if layout is None else layout.upper()
    if layout not in (first, last):
        raise ValueError(f"{name}: layout is {first!r} or {last!r}, not {layout!r}")
    if np.ndim(x) not in (space + 1, space + 2):
        shape = ", ".join(layout)
        raise ValueError(f"{name} takes images of shape ({shape}) or ({shape[3:]}), not {np.shape(x)}")
    single = np.ndim(x) == space + 1
    if single:
        x = np.expand_dims(x, 0)
    return (np.moveaxis(x, -1, 1) if layout == last else x), layout == last, single


def as_given(y: Any, last: bool, single: bool) -> Any:
    """The result in the layout of the operand."""
    y = np.moveaxis(y, 1, -1) if last else y
    return y[0] if single else y


# ------------------------------------------------------------------------------------------------ convolution


def convolved(x: Any, w: Any, **attrs: Any) -> Any:
    def body(x: Any, w: Any) -> Any:
        element = np.result_type(x, w)
        return wrap(ops.conv(*[to_node(to_tracer(v).astype(element)) for v in (x, w)], **attrs))

    return concrete_or_traced(body)(x, w)


def convolution(
    space: int, x: Any, w: Any, bias: Any, stride: Ints, padding: Any, dilation: Ints, groups: int, layout: str | None
) -> Any:
    name = f"conv{space}d"
    x, last, single = channels_first(name, x, space, layout)
    check_filters(name, w, space)
    if groups < 1 or np.shape(x)[1] != groups * np.shape(w)[1] or np.shape(w)[0] % groups:
        raise ValueError(
            f"{name}: with groups={groups}, filters of shape {np.shape(w)} read {groups * np.shape(w)[1]} channels and write "
            f"a multiple of {groups}; the images have {np.shape(x)[1]} channels"
        )
    strides, dilations = per_axis("stride", stride, space), per_axis("dilation", dilation, space)
    pairs = padding_pairs(name, padding, np.shape(x)[2:], np.shape(w)[2:], strides, dilations)
    y = convolved(
        x, w, strides=strides, padding=pairs, lhs_dilation=(1,) * space, rhs_dilation=dilations, groups=groups
    )
    return as_given(biased(y, bias), last, single)


def transposed(
    space: int, x: Any, w: Any, bias: Any, stride: Ints, padding: Ints, output_padding: Ints, groups: int, dilation: Ints,
    layout: str | None,
) -> Any:  # fmt: skip
    """The convolution whose gradient is a convolution of ``w``: over x with ``stride - 1`` zeros between its elements."""
    name = f"conv_transpose{space}d"
    x, last, single = channels_first(name, x, space, layout)
    check_filters(name, w, space)
    strides, dilations = per_axis("stride", stride, space), per_axis("dilation", dilation, space)
    less, more = per_axis("padding", padding, space), per_axis("output_padding", output_padding, space)
    for extra, s, d in zip(more, strides, dilations, strict=True):
        if not 0 <= extra < max(s, d):
            raise ValueError(
                f"{name}: output_padding={output_padding!r} must be smaller than the stride or the dilation"
            )
    channels, each, *window = np.shape(w)
    if groups < 1 or channels % groups or channels != np.shape(x)[1]:
        raise ValueError(
            f"{name}: filters of shape {np.shape(w)} read {channels} channels in {groups} groups; the images have "
            f"{np.shape(x)[1]} channels"
        )
    flipped = w[(slice(None), slice(None), *[slice(None, None, -1)] * space)]
    flipped = np.reshape(flipped, (groups, channels // groups, each, *window))
    flipped = np.reshape(np.swapaxes(flipped, 1, 2), (groups * each, channels // groups, *window))
    reach = [(k - 1) * d for k, d in zip(window, dilations, strict=True)]
    pairs = tuple((r - p, r - p + extra) for r, p, extra in zip(reach, less, more, strict=True))
    y = convolved(
        x, flipped, strides=(1,) * space, padding=pairs, lhs_dilation=strides, rhs_dilation=dilations, groups=groups
    )
    return as_given(biased(y, bias), last, single)


def check_filters(name: str, w: Any, space: int) -> None:
    if np.ndim(w) != space + 2:
        raise ValueError(f"{name}: filters have {space + 2} axes, not the shape {np.shape(w)}")


def biased(y: Any, bias: Any) -> Any:
    return y if bias is None else y + np.reshape(bias, (-1, *(1,) * (np.ndim(y) - 2)))


def conv1d(
    input: Any, weight: Any, bias: Any = None, stride: Ints = 1, padding: Any = 0, dilation: Ints = 1, groups: int = 1,
    layout: str = "NCL",
) -> Any:  # fmt: skip
    """Convolution over one axis: input (N, C, L), weight (O, C/groups, K), bias (O,) → (N, O, L').

    Arguments as in :func:`conv2d`.

    >>> conv1d(np.ones((1, 1, 4)), np.ones((1, 1, 3)), padding="same")
    array([[[2., 3., 3., 2.]]])
    """
    return convolution(1, input, weight, bias, stride, padding, dilation, groups, layout)


def conv2d(
    input: Any, weight: Any, bias: Any = None, stride: Ints = 1, padding: Any = 0, dilation: Ints = 1, groups: int = 1,
    layout: str = "NCHW",
) -> Any:  # fmt: skip
    """Convolution of images: input (N, C, H, W), weight (O, C/groups, KH, KW), bias (O,) → (N, O, H', W').

    Filters are not flipped, as in every neural-network library. ``padding`` is ``"valid"`` (none), ``"same"`` (as many places
    as ``ceil(extent / stride)``), or per axis an int for both ends or a pair ``(before, after)``. Output channel o reads the
    channels of group ``o // (O/groups)``. H' is ``(H + padding - dilation·(KH - 1) - 1) // stride + 1``. Raises ValueError for
    shapes that do not fit.

    >>> conv2d(np.ones((1, 3, 5, 5)), np.ones((2, 3, 3, 3)), stride=2, padding=1)[0, 0]
    array([[12., 18., 12.],
           [18., 27., 18.],
           [12., 18., 12.]])
    """
    return convolution(2, input, weight, bias, stride, padding, dilation, groups, layout)


def conv3d(
    input: Any, weight: Any, bias: Any = None, stride: Ints = 1, padding: Any = 0, dilation: Ints = 1, groups: int = 1,
    layout: str = "NCDHW",
) -> Any:  # fmt: skip
    """Convolution of volumes: input (N, C, D, H, W), weight (O, C/groups, KD, KH, KW), bias (O,) → (N, O, D', H', W').

    Arguments as in :func:`conv2d`.

    >>> conv3d(np.ones((1, 1, 2, 2, 2)), np.ones((1, 1, 2, 2, 2))).item()
    8.0
    """
    return convolution(3, input, weight, bias, stride, padding, dilation, groups, layout)


def conv_transpose1d(
    input: Any, weight: Any, bias: Any = None, stride: Ints = 1, padding: Ints = 0, output_padding: Ints = 0,
    groups: int = 1, dilation: Ints = 1, layout: str = "NCL",
) -> Any:  # fmt: skip
    """Transposed convolution over one axis: input (N, C, L), weight (C, O/groups, K), bias (O,) → (N, O, L').

    Arguments as in :func:`conv_transpose2d`.

    >>> conv_transpose1d(np.array([[[1.0, 2.0]]]), np.array([[[1.0, 10.0, 100.0]]]), stride=2)
    array([[[  1.,  10., 102.,  20., 200.]]])
    """
    return transposed(1, input, weight, bias, stride, padding, output_padding, groups, dilation, layout)


def conv_transpose2d(
    input: Any, weight: Any, bias: Any = None, stride: Ints = 1, padding: Ints = 0, output_padding: Ints = 0,
    groups: int = 1, dilation: Ints = 1, layout: str = "NCHW",
) -> Any:  # fmt: skip
    """Transposed convolution of images: input (N, C, H, W), weight (C, O/groups, KH, KW), bias (O,) → (N, O, H', W').

    The gradient of :func:`conv2d` with respect to its input. H' is ``(H - 1)·stride - 2·padding + dilation·(KH - 1) +
    output_padding + 1``; ``output_padding``, below the stride or the dilation, tells apart the extents that a strided
    convolution takes to the same one. Raises ValueError for shapes that do not fit.

    >>> conv_transpose2d(np.ones((1, 1, 1, 2)), np.ones((1, 1, 2, 2)), stride=2, output_padding=1)[0, 0]
    array([[1., 1., 1., 1., 0.],
           [1., 1., 1., 1., 0.],
           [0., 0., 0., 0., 0.]])
    """
    return transposed(2, input, weight, bias, stride, padding, output_padding, groups, dilation, layout)


def conv_transpose3d(
    input: Any, weight: Any, bias: Any = None, stride: Ints = 1, padding: Ints = 0, output_padding: Ints = 0,
    groups: int = 1, dilation: Ints = 1, layout: str = "NCDHW",
) -> Any:  # fmt: skip
    """Transposed convolution of volumes: input (N, C, D, H, W), weight (C, O/groups, KD, KH, KW) → (N, O, D', H', W').

    Arguments as in :func:`conv_transpose2d`.

    >>> conv_transpose3d(np.ones((1, 2, 1, 1, 1)), np.ones((2, 1, 2, 1, 1)), np.ones(1)).ravel()
    array([3., 3.])
    """
    return transposed(3, input, weight, bias, stride, padding, output_padding, groups, dilation, layout)


# ------------------------------------------------------------------------------------------------ pooling


def window_attrs(windows: Sequence[int], strides: Sequence[int], pairs: Pairs, dilations: Sequence[int]) -> dict:
    return {
        "window": (1, 1, *windows),
        "strides": (1, 1, *strides),
        "padding": ((0, 0), (0, 0), *pairs),
        "dilation": (1, 1, *dilations),
    }


def pool_arguments(
    name: str,
    x: Any,
    space: int,
    kernel_size: Ints,
    stride: Ints | None,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], Pairs, dict]:
    """Windows, strides, padding, padding with what ``ceil_mode`` adds behind, and the attributes of the op."""
    windows = per_axis("kernel_size", kernel_size, space)
    strides = windows if stride is None else per_axis("stride", stride, space)
    pads, dilations = per_axis("padding", padding, space), per_axis("dilation", dilation, space)
    pairs = []
    for n, k, s, p, d in zip(np.shape(x)[2:], windows, strides, pads, dilations, strict=True):
        reach = (k - 1) * d + 1
        if not 0 <= 2 * p <= reach:
            raise ValueError(f"{name}: padding={padding!r} must be between 0 and half of kernel_size={kernel_size!r}")
        behind = p
        if ceil_mode:  # one more window where elements are left over, if it starts on an element or the padding before
            count = -(-(n + 2 * p - reach) // s) + 1
            if (count - 1) * s >= n + p:
                count -= 1
            behind = max((count - 1) * s + reach - n - p, p)
        pairs.append((p, behind))
    return windows, strides, pads, tuple(pairs), window_attrs(windows, strides, tuple(pairs), dilations)


def max_pool(
    space: int, x: Any, kernel_size: Ints, stride: Ints | None, padding: Ints, dilation: Ints, ceil_mode: bool,
    return_indices: bool, layout: str,
) -> Any:  # fmt: skip
    name = f"max_pool{space}d"
    x, last, single = channels_first(name, x, space, layout)
    *_, attrs = pool_arguments(name, x, space, kernel_size, stride, padding, dilation, ceil_mode)
    y = concrete_or_traced(lambda x: wrap(ops.reduce_window(to_node(x), kind="max", **attrs)))(x)
    if not return_indices:
        return as_given(y, last, single)
    places = concrete_or_traced(lambda x: wrap(ops.window_argmax(to_node(x), kind="max", **attrs)))(x)
    places = places % max(math.prod(np.shape(x)[2:]), 1)
    return as_given(y, last, single), as_given(places, last, single)


def avg_pool(
    space: int, x: Any, kernel_size: Ints, stride: Ints | None, padding: Ints, ceil_mode: bool, count_include_pad: bool,
    divisor_override: int | None, layout: str,
) -> Any:  # fmt: skip
    name = f"avg_pool{space}d"
    x, last, single = channels_first(name, x, space, layout)
    windows, strides, pads, pairs, attrs = pool_arguments(name, x, space, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override == 0:
        raise ValueError(f"{name}: divisor_override must not be 0")
    total = concrete_or_traced(lambda x: wrap(ops.reduce_window(to_node(x), kind="sum", **attrs)))(x)
    if divisor_override is not None:
        return as_given(total / divisor_override, last, single)
    counts = []
    for n, k, s, p, (before, behind) in zip(np.shape(x)[2:], windows, strides, pads, pairs, strict=True):
        start = np.arange(0, n + before + behind - k + 1, s) - p
        stop = np.minimum(start + k, n + p if count_include_pad else n)
        counts.append(stop - (start if count_include_pad else np.maximum(start, 0)))
    if all((c == k).all() for c, k in zip(counts, windows, strict=True)):
        return as_given(total / math.prod(windows), last, single)
    divisor = functools.reduce(np.multiply.outer, counts)
    element = np.result_type(total)
    return as_given(total / (divisor.astype(element) if element.kind not in "biu" else divisor), last, single)


def max_pool1d(
    input: Any, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
    ceil_mode: bool = False, return_indices: bool = False, layout: str = "NCL",
) -> Any:  # fmt: skip
    """The largest element of each window over the last axis of input (N, C, L). Arguments as in :func:`max_pool2d`.

    >>> max_pool1d(np.arange(5.0).reshape(1, 1, 5), 2, ceil_mode=True)
    array([[[1., 3., 4.]]])
    """
    return max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, layout)


def max_pool2d(
    input: Any, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
    ceil_mode: bool = False, return_indices: bool = False, layout: str = "NCHW",
) -> Any:  # fmt: skip
    """The largest element of each window over input (N, C, H, W): (N, C, H', W').

    The stride is the window by default. ``padding``, at most half of the window, is never the largest; ``ceil_mode`` adds a
    window where elements are left over. With ``return_indices`` also where it was found: places (i64) in the H·W elements of
    an image's channel. The first of equal elements counts, and gets the gradient; NaN is larger than any number.

    >>> y, places = max_pool2d(np.array([[[[1.0, 5.0], [7.0, 2.0]]]]), 2, return_indices=True)
    >>> y.item(), places.item()
    (7.0, 2)
    """
    return max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, layout)


def max_pool3d(
    input: Any, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
    ceil_mode: bool = False, return_indices: bool = False, layout: str = "NCDHW",
) -> Any:  # fmt: skip
    """The largest element of each window over input (N, C, D, H, W). Arguments as in :func:`max_pool2d`.

    >>> max_pool3d(np.arange(8.0).reshape(1, 1, 2, 2, 2), 2).item()
    7.0
    """
    return max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, layout)


def avg_pool1d(
    input: Any, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, layout: str = "NCL",
) -> Any:  # fmt: skip
    """The mean of each window over the last axis of input (N, C, L). Arguments as in :func:`avg_pool2d`.

    >>> avg_pool1d(np.ones((1, 1, 3)), 3, stride=1, padding=1, count_include_pad=False)
    array([[[1., 1., 1.]]])
    """
    return avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None, layout)


def avg_pool2d(
    input: Any, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None, layout: str = "NCHW",
) -> Any:  # fmt: skip
    """The mean of each window over input (N, C, H, W): (N, C, H', W').

    The stride is the window by default. The zeros of ``padding`` count as elements, unless ``count_include_pad`` is false;
    what ``ceil_mode`` adds beyond them never does. ``divisor_override`` divides the sums instead of the counts.

    >>> avg_pool2d(np.arange(8.0).reshape(1, 1, 2, 4), 2)
    array([[[[2.5, 4.5]]]])
    """
    return avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, layout)


def avg_pool3d(
    input: Any, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None, layout: str = "NCDHW",
) -> Any:  # fmt: skip
    """The mean of each window over input (N, C, D, H, W). Arguments as in :func:`avg_pool2d`.

    >>> avg_pool3d(np.ones((1, 1, 2, 2, 2)), 2, divisor_override=4).item()
    2.0
    """
    return avg_pool(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, layout)
