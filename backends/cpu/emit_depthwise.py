"""Emitter of convolutions with one or two filters in a group, above all depthwise ones: no matrix product, vectors along the
last axis.

``direct`` is for few places in the window: sixteen neighbouring places of the result, their elements read from planes of one
channel at a time. ``dots`` is for few places in the result (the gradient of such filters): one vector of sums for each of
them, along the last axis of the window. Sums are taken in the order of channels and places, ``dots`` in sixteen lanes and
their fixed tree.
"""

from __future__ import annotations

import contextlib
import math

from graphc.backends.cpu import sliding
from graphc.backends.cpu.codegen import LANES, Code, Emission, compute_dtype, dtype_name
from graphc.backends.cpu.emit_convolution import choose_block, read, slides_of
from graphc.backends.cpu.emit_pooling import (
    UNROLLED,
    block_words,
    each_tap,
    fill_planes,
    in_memory,
    plane_extents,
    plane_size,
    slide_words,
    unit_block,
)
from graphc.backends.cpu.places import FlatPlaces
from graphc.backends.cpu.sliding import SPACE, Slide
from graphc.ir import Node
from graphc.passes.schedule import Kernel

PLACES = 2048  # places of a block at most
FILTERS = 2  # filters of a group at most
SUMS = 8  # sums of `dots` that are taken side by side
CHUNK = 4096  # places of the window that `dots` lays out planes for at a time


def few_filters(node: Node) -> bool:
    """Whether a conv is done here when its window has few places."""
    return node.inputs[1].type.shape[0] <= FILTERS * node["groups"] and node.inputs[1].type.shape[1] > 0


def few_products(node: Node) -> bool:
    """Whether a conv is done here when its result has few places."""
    x, w = (n.type for n in node.inputs)
    few = w.shape[0] * x.shape[0] <= 4 * node["groups"] and node["groups"] >= 4
    return few and math.prod(node.type.shape[2:]) <= 64


def direct(kernel: Kernel, node: Node) -> Code:
    """A conv of few filters in a group, a plane at a time."""
    x, w = node.inputs
    of_x, of_w = read(kernel, x), read(kernel, w)
    slides, compute = slides_of(kernel, node), compute_dtype(node.type.dtype)
    name, groups = dtype_name(compute), node["groups"]
    filters, channels = w.type.shape[0] // groups, w.type.shape[1]
    last = next((k for k, s in enumerate(slides) if s.period > 1), SPACE - 1)
    b = choose_block(1, [s.places for s in slides], PLACES, LANES, last)
    most = b.most(slides)
    classes = math.prod(s.period for s in slides)
    e = Emission(
        kernel,
        f"conv of {dtype_name(node.type.dtype)}, {node.type.ndim - 2} axes, few filters"
        + (", classes" * (classes > 1)),
    )
    flat = FlatPlaces(e, node, 2)
    e.require(sliding.planes(x.type.dtype))
    class_size = math.prod(most) + 2 * LANES
    e.line(f"sums = {e.scratch((classes * class_size + 4 * LANES) * compute.itemsize)}")
    total = "sums"
    if classes > 1:
        e.require(sliding.interleave(compute))
        whole = math.prod(n * s.period for n, s in zip(most, slides, strict=True))
        total = "total"
        e.line(f"total = {e.scratch((whole + 6 * LANES) * compute.itemsize)}")
    e.line(f"planes = {e.scratch(plane_size(slides, most) * compute.itemsize)}")
    values = flat.epilogue.start()
    x_pointer = e.pointer(of_x[0], of_x[1].offset * x.type.dtype.itemsize, of_x[1].strides)
    w_pointer = e.pointer(of_w[0], of_w[1].offset * w.type.dtype.itemsize, of_w[1].strides)
    slide_words(e, slides, "x")
    for label, value in (
        ("x_sample", of_x[1].strides[0]), ("x_channel", of_x[1].strides[1]), ("w_filter", of_w[1].strides[0]),
        ("w_channel", of_w[1].strides[1]), ("filters", filters), ("channels", channels), ("all_filters", w.type.shape[0]),
    ):  # fmt: skip
        e.word(value, label)
    units = block_words(e, slides, b, x.type.shape[0] * w.type.shape[0])
    e.line(f"first, last = share({e.word(units, 'units')}, 1, thread, threads)")
    x_type, w_type = dtype_name(x.type.dtype), dtype_name(w.type.dtype)
    with e.block("for unit in range(first, last):"):
        unit_block(e, slides, b)
        e.line("sample = row // all_filters")
        e.line("filter = row % all_filters")
        plane_extents(e, "x", ("n0", "n1", "n2"))
        e.line("x_phase = x_e0 * x_e1 * x_e2")
        with e.block("for channel in range(channels):"):
            e.line("x_at = sample * x_sample + (filter // filters * channels + channel) * x_channel")
            origins = [f"q{k} * x_step{k}" for k in range(SPACE)]
            fill_planes(e, "x", f"advance({x_pointer}, x_at, {x_type})", "planes", origins, "0", x.type.dtype)
            e.line(f"w_at = advance({w_pointer}, filter * w_filter + channel * w_channel, {w_type})")
            _products(e, slides, in_memory(of_w[1].strides, 2), w_type, name, class_size)
        if classes > 1:
            p0, p1, p2 = (s.period for s in slides)
            e.line(
                f"window_interleave(sums, total, {class_size}, 1, 0, 0, 1, n0, n1, n2, m0, m1, m2, {p0}, {p1}, {p2}, {name})"
            )
        flat.write(values, ["sample", "filter"], "0 - low", total)
    vectors = node.type.size / LANES
    taps = channels * math.prod(s.window for s in slides)
    return e.code(units, vectors * (flat.epilogue.cost + taps * 0.6) + x.type.size * filters / LANES)


def _products(
    e: Emission, s: tuple[Slide, ...], strides: tuple[int, ...], w_type: str, name: str, class_size: int
) -> None:
    """Add the products of one channel to the sums of all classes."""
    residues = [(a, b, c) for a in s[0].residues for b in s[1].residues for c in s[2].residues]
    for kind, of_class in enumerate(residues):
        taps = math.prod(r.taps for r in of_class)
        firsts = [r.first - axis.low for r, axis in zip(of_class, s, strict=True)]
        few = taps <= 3 * UNROLLED
        listed = [
            (j0, j1, j2) for j0 in range(of_class[0].taps) for j1 in range(of_class[1].taps) for j2 in range(of_class[2].taps)
        ] if few else []  # fmt: skip

        def weight(j: tuple[object, ...], of_class: tuple[sliding.Residue, ...] = of_class) -> str:
            terms = [
                f"({r.tap} + {k} * {r.apart}) * {stride}" for r, k, stride in zip(of_class, j, strides, strict=True)
            ]
            return " + ".join(terms)

        for number, j in enumerate(listed):
            e.line(f"weight{number} = splat_load(w_at, {weight(j)}, {w_type}, -1)")
        with e.block("for i0 in range(n0):"), e.block("for i1 in range(n1):"):
            e.line("at = (i0 * x_fold0 * x_e1 + i1 * x_fold1) * x_e2")
            e.line(f"into = {kind * class_size} + (i0 * n1 + i1) * n2")
            with e.block(f"for i2 in range(0, n2, {LANES}):"):
                e.line(f"result = splat(0, {name})")
                with e.block("if channel > 0:"):
                    e.line(f"result = load(sums, into + i2, {name}, -1)")
                for number, j in enumerate(listed):
                    f = [first + k * r.by for first, k, r in zip(firsts, j, of_class, strict=True)]
                    place = f"({f[0]} * x_e1 + {f[1]}) * x_e2 + {f[2] % s[2].fold} * x_phase + {f[2] // s[2].fold}"
                    e.line(
                        _multiply_add("result", f"load(planes, at + i2 + {place}, {name}, -1)", f"weight{number}", name)
                    )
                if not few:
                    with contextlib.ExitStack() as loops:
                        for k, r in enumerate(of_class):
                            loops.enter_context(e.block(f"for j{k} in range({r.taps}):"))
                            e.line(f"f{k} = {firsts[k]} + j{k} * {r.by}")
                        e.line(f"weight = splat_load(w_at, {weight(('j0', 'j1', 'j2'))}, {w_type}, -1)")
                        e.line("place = (f0 * x_e1 + f1) * x_e2 + f2 % x_fold2 * x_phase + f2 // x_fold2")
                        e.line(_multiply_add("result", f"load(planes, at + i2 + place, {name}, -1)", "weight", name))
                # what lies beyond the line is the next one's, of which the sums of other channels are still needed
                e.line(f"store_masked(sums, into + i2, result, {name}, -1, min(n2 - i2, {LANES}))")


def _multiply_add(total: str, x: str, y: str, element: str) -> str:
    return f"{total} = fma({x}, {y}, {total})" if element.startswith("f") else f"{total} = {total} + {x} * {y}"


def dots(kernel: Kernel, node: Node) -> Code:
    """A conv of few places and few filters in a group: dot products along the places of the window."""
    x, w = node.inputs
    of_x, of_w = read(kernel, x), read(kernel, w)
    compute = compute_dtype(node.type.dtype)
    name, groups = dtype_name(compute), node["groups"]
    filters, channels = w.type.shape[0] // groups, w.type.shape[1]
    # the two kinds of places exchanged
    slides = tuple(
        Slide(s.window, s.count, s.apart, s.stride, s.before, s.extent, 1, s.memory) for s in slides_of(kernel, node)
    )
    b = choose_block(1, [s.places for s in slides], CHUNK, LANES, SPACE - 1)
    most = b.most(slides)
    places = math.prod(s.window for s in slides)
    e = Emission(
        kernel, f"conv of {dtype_name(node.type.dtype)}, {node.type.ndim - 2} axes, few filters, window contracted"
    )
    flat = FlatPlaces(e, node, 2)
    e.require(sliding.planes(x.type.dtype))
    e.line(f"sums = {e.scratch((places + 2 * LANES) * compute.itemsize)}")
    e.line(f"lanes_of_sums = {e.scratch((places * LANES + LANES) * compute.itemsize)}")
    e.line(f"planes = {e.scratch(plane_size(slides, most) * compute.itemsize)}")
    values = flat.epilogue.start()
    x_pointer = e.pointer(of_x[0], of_x[1].offset * x.type.dtype.itemsize, of_x[1].strides)
    w_pointer = e.pointer(of_w[0], of_w[1].offset * w.type.dtype.itemsize, of_w[1].strides)
    slide_words(e, slides, "x")
    w_space = in_memory(of_w[1].strides, 2)
    for label, value in (
        ("x_sample", of_x[1].strides[0]), ("x_channel", of_x[1].strides[1]), ("w_filter", of_w[1].strides[0]),
        ("w_channel", of_w[1].strides[1]), ("filters", filters), ("channels", channels), ("all_filters", w.type.shape[0]),
        ("w0", w_space[0]), ("w1", w_space[1]), ("w2", w_space[2]),
    ):  # fmt: skip
        e.word(value, label)
    chunks = block_words(e, slides, b, channels)
    e.word(chunks, "chunks")
    rows = x.type.shape[0] * w.type.shape[0]
    e.line(f"first, stop = share({e.word(rows, 'rows')}, 1, thread, threads)")
    x_type, w_type = dtype_name(x.type.dtype), dtype_name(w.type.dtype)
    along = "load_masked" if w_space[2] == 1 else "load_strided"
    with e.block("for pair in range(first, stop):"):
        e.line("sample = pair // all_filters")
        e.line("filter = pair % all_filters")
        with e.block(f"for i in range({places}):"):
            e.line(f"store(lanes_of_sums, i * {LANES}, splat(0, {name}), {name}, -1)")
        with e.block("for unit in range(chunks):"):
            unit_block(e, slides, b)
            plane_extents(e, "x", ("n0", "n1", "n2"))
            e.line("x_phase = x_e0 * x_e1 * x_e2")
            e.line("x_at = sample * x_sample + (filter // filters * channels + row) * x_channel")
            origins = [f"q{k} * x_step{k}" for k in range(SPACE)]
            fill_planes(e, "x", f"advance({x_pointer}, x_at, {x_type})", "planes", origins, "0", x.type.dtype)
            e.line("w_at = filter * w_filter + row * w_channel + q0 * w0 + q1 * w1 + q2 * w2")
            taps = list(each_tap(slides, "x"))
            for start in range(0, len(taps), SUMS):
                some = taps[start : start + SUMS]
                for number, _ in some:
                    e.line(f"sum{number - start} = load(lanes_of_sums, {number * LANES}, {name}, -1)")
                with e.block("for i0 in range(n0):"), e.block("for i1 in range(n1):"):
                    e.line("at = (i0 * x_fold0 * x_e1 + i1 * x_fold1) * x_e2")
                    e.line("w_line = w_at + i0 * w0 + i1 * w1")

                    def add(v: str, n: str, some: list[tuple[int, str]] = some, start: int = start) -> None:
                        e.line(f"v = {v}")
                        for number, tap in some:
                            u = f"load(planes, at + i2 + {tap}, {name}, -1)"
                            if n:  # beyond the line, planes hold other elements, infinite ones perhaps
                                u = f"select(mask_tail({n}), {u}, splat(0, {name}))"
                            e.line(_multiply_add(f"sum{number - start}", "v", u, name))

                    step = "" if along == "load_masked" else "w2, "
                    e.line("i2 = 0")
                    with e.block(f"while i2 + {LANES} <= n2:"):
                        whole = f"load({w_pointer}, w_line + i2, {w_type}, -1)"
                        add(
                            whole if not step else f"load_strided({w_pointer}, w_line + i2 * w2, w2, {w_type}, -1, 16)",
                            "",
                        )
                        e.line(f"i2 = i2 + {LANES}")
                    with e.block("if i2 < n2:"):
                        add(f"{along}({w_pointer}, w_line + i2 * w2, {step}{w_type}, -1, n2 - i2)", "n2 - i2")
                for number, _ in some:
                    e.line(f"store(lanes_of_sums, {number * LANES}, sum{number - start}, {name}, -1)")
        with e.block(f"for i in range({places}):"):
            e.line(
                f"store_first(sums, i, reduce_add(load(lanes_of_sums, i * {LANES}, {name}, -1)), {name}, "
                f"{flat.epilogue.sums_scope})"
            )
        e.line("low = 0")
        e.line(f"high = {places}")
        flat.write(values, ["sample", "filter"], "0")
    contracted = channels * math.prod(s.places for s in slides)
    return e.code(rows, rows * contracted / LANES * (places * 0.6 + 1.5) + rows * flat.epilogue.cost)
