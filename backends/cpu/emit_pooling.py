"""Emitter of pooling: reductions of windows that slide along up to three trailing axes, and the cotangents of max and min.

The elements that a block of windows meets are laid out in planes with the reduction's identity around them
(:mod:`graphc.backends.cpu.sliding`), so that sixteen neighbouring windows read each of their places as one vector.

The cotangent of max and min is a gather, not a scatter: the number of the place where each window has its extreme value is
found first, then every element sums over the windows that may meet it, in the order of the windows' places. Elements
that meet windows at the same places form a class, as in a convolution with a dilated operand.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

from graphc.backends.cpu import sliding
from graphc.backends.cpu.codegen import LANES, Code, Emission, compute_dtype, dtype_name, linear, word_bits
from graphc.backends.cpu.emit_convolution import Block, choose_block, place_block, read
from graphc.backends.cpu.places import FlatPlaces
from graphc.backends.cpu.sliding import SPACE, Slide, in_space
from graphc.ir import Node
from graphc.ops.reduction import highest, lowest
from graphc.ops.window import sliding_axes
from graphc.passes.access import Access
from graphc.passes.schedule import Kernel
from graphc.types import DType, TensorType, u8

WINDOWS = 2048  # windows of a block at most
UNROLLED = 9  # places of a window up to which they are written one by one

Strides = tuple[int, ...]


def trailing(node: Node) -> range:
    """The axes that are laid out in planes."""
    x = node.inputs[-1].type
    return sliding_axes(x, node["window"], node["strides"], node["padding"])


def _slides(node: Node, memory: Sequence[int]) -> tuple[Slide, ...]:
    """How windows slide over the operand that has the strides ``memory``."""
    x = node.inputs[-1].type
    counts = node.type.shape if node.op.name == "reduce_window" else node.inputs[0].type.shape
    return in_space([
        Slide(
            counts[k], node["window"][k], node["strides"][k], node["dilation"][k], node["padding"][k][0], x.shape[k], 1, memory[k]
        )
        for k in trailing(node)
    ])  # fmt: skip


def _element(t: TensorType) -> DType:
    """What is read: bools as bytes, on which max and min mean the same."""
    return u8 if t.dtype.kind == "b" else t.dtype


def _identity(kind: str, element: DType) -> object:
    return 0 if kind == "sum" else lowest(element) if kind == "max" else highest(element)


def _decode(e: Emission, lead: Strides) -> list[str]:
    """The coordinates of ``row`` on the leading axes."""
    names, rest = [f"l{k}" for k in range(len(lead))], "row"
    for k in reversed(range(len(lead))):
        e.line(f"l{k} = {rest}" if k == 0 else f"l{k} = {rest} % {lead[k]}")
        rest = f"({rest} // {lead[k]})"
    return names


def slide_words(e: Emission, slides: Sequence[Slide], tag: str) -> None:
    for k, s in enumerate(slides):
        for name, value in (
            ("fold", s.fold), ("step", s.step), ("extent", s.extent), ("memory", s.memory), ("low", s.low), ("span", s.span),
        ):  # fmt: skip
            e.word(value, f"{tag}_{name}{k}")


def plane_extents(e: Emission, tag: str, counts: Sequence[str]) -> None:
    """``{tag}_e0 …``: the extents of planes for so many places."""
    for k in range(SPACE - 1):
        e.line(f"{tag}_e{k} = ({counts[k]} - 1) * {tag}_fold{k} + {tag}_span{k}")
    e.line(f"{tag}_e2 = {counts[2]} - 1 + ({tag}_span2 + {tag}_fold2 - 1) // {tag}_fold2")


def fill_planes(
    e: Emission, tag: str, source: str, target: str, origins: Sequence[str], outside: str, dtype: DType
) -> None:
    """One sample's planes."""
    axes = ", ".join(
        f"{tag}_e{k}, {tag}_fold{k}, {tag}_step{k}, {origins[k]} + {tag}_low{k}, {tag}_extent{k}, {tag}_memory{k}"
        for k in range(SPACE)
    )
    e.line(f"window_planes({source}, {target}, 1, 0, 0, 1, 0, 0, {axes}, {outside}, {dtype_name(dtype)})")


@contextlib.contextmanager
def _taps(e: Emission, s: Sequence[Slide], tag: str) -> Iterator[None]:
    """Loops over the places of a window: ``tap`` is the place's element in the planes after that of the window's first."""
    with contextlib.ExitStack() as loops:
        for k in range(SPACE):
            loops.enter_context(e.block(f"for w{k} in range({s[k].window}):"))
        e.line(f"t = w2 * {s[2].apart}")
        e.line(
            f"tap = (w0 * {s[0].apart} * {tag}_e1 + w1 * {s[1].apart}) * {tag}_e2 + t % {tag}_fold2 * {tag}_phase + "
            f"t // {tag}_fold2"
        )
        yield


def each_tap(s: Sequence[Slide], tag: str) -> Iterator[tuple[int, str]]:
    """For windows of few places: each place's number, and its element in the planes after that of the window's first."""
    number = 0
    for w0 in range(s[0].window):
        for w1 in range(s[1].window):
            for w2 in range(s[2].window):
                t = w2 * s[2].apart
                row = linear((f"{tag}_e1 * {tag}_e2", w0 * s[0].apart), (f"{tag}_e2", w1 * s[1].apart))
                yield number, linear((row, 1), (f"{tag}_phase", t % s[2].fold), (t // s[2].fold, 1))
                number += 1


def _small(s: Sequence[Slide]) -> bool:
    return math.prod(axis.window for axis in s) <= UNROLLED


def plane_size(s: Sequence[Slide], most: Sequence[int]) -> int:
    """Elements of a plane for so many places along each axis."""
    rows = math.prod(s[k].rows(most[k]) for k in range(SPACE - 1))
    return rows * s[-1].fold * s[-1].line(most[-1]) + 4 * LANES


def block_words(e: Emission, s: Sequence[Slide], b: Block, rows: int) -> int:
    """Words by which a unit's number becomes its place; how many units there are."""
    cut_blocks = -(-s[b.cut].places // b.lines)
    for k in range(SPACE):
        e.word(s[k].places, f"all{k}")
        e.word(s[k].count, f"count{k}")
    e.word(cut_blocks, "cut_blocks")
    e.word(b.lines, "lines")
    return rows * cut_blocks * math.prod(a.places for a in s[: b.cut])


def unit_block(e: Emission, s: Sequence[Slide], b: Block) -> None:
    """A unit's number → ``row``, first places ``q``, counts ``n``; ``low`` and ``high`` in the result."""
    e.line("rest = unit")
    place_block(e, b, "rest")
    e.line("row = rest")
    for k in range(SPACE):
        p = s[k].period
        e.line(f"y{k} = q{k} * {p}")
        e.line(f"m{k} = min(n{k} * {p}, count{k} - y{k})")
    e.line("low = (y0 * count1 + y1) * count2 + y2")
    e.line("high = low + m0 * m1 * m2")


def _pointer(e: Emission, position: int, found: Access, dtype: DType, names: Sequence[str]) -> str:
    pointer = e.pointer(position, found.offset * dtype.itemsize, found.strides)
    return f"advance({pointer}, {linear(*zip(names, found.strides, strict=False))}, {dtype_name(dtype)})"


# ------------------------------------------------------------------------------------------------ reduce_window


def pooling(kernel: Kernel, node: Node) -> Code:
    """A reduce_window along few axes."""
    x, kind = node.inputs[0], node["kind"]
    position, found = read(kernel, x)
    element, kept = _element(x.type), compute_dtype(_element(x.type))
    lead = trailing(node).start
    slides = _slides(node, found.strides)
    b = choose_block(1, [s.places for s in slides], WINDOWS, LANES, SPACE - 1)
    most = b.most(slides)
    name = dtype_name(kept)
    e = Emission(kernel, f"reduce_window {kind} of {dtype_name(element)} along {len(trailing(node))} axes")
    flat = FlatPlaces(e, node, lead)
    e.require(sliding.planes(element))
    e.line(f"sums = {e.scratch((math.prod(most) + 4 * LANES) * kept.itemsize)}")
    e.line(f"planes = {e.scratch(plane_size(slides, most) * kept.itemsize)}")
    values = flat.epilogue.start()
    identity = _identity(kind, element)
    outside = e.param(element, identity, "identity")
    e.word(word_bits(element, identity), "outside")
    slide_words(e, slides, "x")
    rows = math.prod(node.type.shape[:lead])
    units = block_words(e, slides, b, rows)
    e.line(f"first, last = share({e.word(units, 'units')}, 1, thread, threads)")

    def combine(place: str) -> None:
        e.line(f"v = load(planes, {place}, {name}, -1)")
        e.line("best = best + v" if kind == "sum" else f"best = {'maximum' if kind == 'max' else 'minimum'}(best, v)")

    with e.block("for unit in range(first, last):"):
        unit_block(e, slides, b)
        names = _decode(e, node.type.shape[:lead])
        plane_extents(e, "x", ("n0", "n1", "n2"))
        e.line("x_phase = x_e0 * x_e1 * x_e2")
        origins = [f"q{k} * x_step{k}" for k in range(SPACE)]
        fill_planes(e, "x", _pointer(e, position, found, element, names), "planes", origins, "outside", element)
        with e.block("for i0 in range(n0):"), e.block("for i1 in range(n1):"):
            e.line("into = (i0 * n1 + i1) * n2")
            e.line("at = (i0 * x_fold0 * x_e1 + i1 * x_fold1) * x_e2")
            with e.block(f"for i2 in range(0, n2, {LANES}):"):
                e.line(f"best = {outside}")
                if _small(slides):
                    for _, tap in each_tap(slides, "x"):
                        combine(f"at + i2 + {tap}")
                else:
                    with _taps(e, slides, "x"):
                        combine("at + i2 + tap")
                e.line(f"store(sums, into + i2, best, {name}, {flat.epilogue.sums_scope})")
        flat.write(values, names, "0 - low")
    vectors = node.type.size / LANES
    work = vectors * (flat.epilogue.cost + math.prod(s.window for s in slides) * 0.7)
    return e.code(units, work + x.type.size / LANES)


# ------------------------------------------------------------------------------------------------ window_scatter


def unpooling(kernel: Kernel, node: Node) -> Code:
    """A window_scatter: every element sums over the windows that meet it."""
    y, x = node.inputs
    of_y, of_x = read(kernel, y), read(kernel, x)
    element, kept = _element(x.type), compute_dtype(_element(x.type))
    sums = compute_dtype(y.type.dtype)
    lead = trailing(node).start
    forward = _slides(node, of_x[1].strides)
    # an element t and a window q meet at the window's place i where t = q * stride + i * apart - before
    back = tuple(
        Slide(s.extent, s.window, 1, s.apart, (s.window - 1) * s.apart - s.before, s.count, s.stride, memory)
        for s, memory in zip(forward, in_memory(of_y[1].strides, lead), strict=True)
    )
    last = next((k for k, s in enumerate(back) if s.period > 1), SPACE - 1)
    b = choose_block(1, [s.places for s in back], WINDOWS, LANES, last)
    most = b.most(back)
    windows = (back[0].rows(most[0]), back[1].rows(most[1]), back[2].line(most[2]))
    classes = math.prod(s.period for s in back)
    e = Emission(
        kernel,
        f"window_scatter {node['kind']} of {dtype_name(y.type.dtype)} by {dtype_name(element)} along "
        f"{len(trailing(node))} axes" + (", classes" if classes > 1 else ""),
    )
    flat = FlatPlaces(e, node, lead)
    e.require(sliding.planes(element))
    e.require(sliding.planes(y.type.dtype))
    class_size = math.prod(most) + 2 * LANES
    e.line(f"sums = {e.scratch((classes * class_size + 4 * LANES) * sums.itemsize)}")
    total = "sums"
    if classes > 1:
        e.require(sliding.interleave(sums))
        whole = math.prod(n * s.period for n, s in zip(most, back, strict=True))
        total = "total"
        e.line(f"total = {e.scratch((whole + 6 * LANES) * sums.itemsize)}")
    e.line(f"planes = {e.scratch(plane_size(forward, windows) * kept.itemsize)}")
    e.line(f"cotangents = {e.scratch(plane_size(back, most) * sums.itemsize)}")
    e.line(f"winners = {e.scratch((math.prod(windows) + 4 * LANES) * 4)}")
    values = flat.epilogue.start()
    identity = _identity(node["kind"], element)
    outside = e.param(element, identity, "identity")
    e.word(word_bits(element, identity), "outside")
    slide_words(e, forward, "x")
    slide_words(e, back, "y")
    rows = math.prod(x.type.shape[:lead])
    units = block_words(e, back, b, rows)
    e.line(f"first, last = share({e.word(units, 'units')}, 1, thread, threads)")
    with e.block("for unit in range(first, last):"):
        unit_block(e, back, b)
        names = _decode(e, x.type.shape[:lead])
        plane_extents(e, "y", ("n0", "n1", "n2"))
        for k in range(SPACE):
            e.line(f"first{k} = q{k} * y_step{k} + y_low{k}")
        origins = [f"q{k} * y_step{k}" for k in range(SPACE)]
        fill_planes(e, "y", _pointer(e, *of_y, y.type.dtype, names), "cotangents", origins, "0", y.type.dtype)
        plane_extents(e, "x", ("y_e0", "y_e1", "y_e2"))
        e.line("x_phase = x_e0 * x_e1 * x_e2")
        origins = [f"first{k} * x_step{k}" for k in range(SPACE)]
        fill_planes(e, "x", _pointer(e, *of_x, element, names), "planes", origins, "outside", element)
        _winners(e, node, forward, element, outside)
        _gather(e, back, sums, class_size)
        if classes > 1:
            p0, p1, p2 = (s.period for s in back)
            e.line(
                f"window_interleave(sums, total, {class_size}, 1, 0, 0, 1, n0, n1, n2, m0, m1, m2, {p0}, {p1}, {p2}, "
                f"{dtype_name(sums)})"
            )
        flat.write(values, names, "0 - low", total)
    taps = math.prod(s.window for s in forward)
    work = y.type.size / LANES * taps * 1.5 + x.type.size / LANES * (flat.epilogue.cost + 3)
    return e.code(units, work)


def in_memory(strides: Sequence[int], lead: int) -> tuple[int, ...]:
    """Strides of the trailing axes, for three of them."""
    return (*[0] * (SPACE - len(strides) + lead), *strides[lead:])


def _winners(e: Emission, node: Node, s: Sequence[Slide], element: DType, outside: str) -> None:
    """``winners``: the number of the place where each window has its extreme value; -1 for padding alone."""
    name = dtype_name(compute_dtype(element))
    better = ">" if node["kind"] == "max" else "<"
    nan = " | ((v != v) & (best == best))" if element.kind == "f" else ""

    def compare(number: str, tap: str) -> None:
        e.line(f"v = load(planes, at + i2 + {tap}, {name}, -1)")
        e.line(f"wins = (v {better} best){nan}")
        e.line("best = select(wins, v, best)")
        e.line(f"winner = select(wins, splat({number}, i32), winner)")

    with e.block("for i0 in range(y_e0):"), e.block("for i1 in range(y_e1):"):
        e.line("at = (i0 * x_fold0 * x_e1 + i1 * x_fold1) * x_e2")
        e.line("into = (i0 * y_e1 + i1) * y_e2")
        with e.block(f"for i2 in range(0, y_e2, {LANES}):"):
            e.line(f"best = {outside}")
            e.line("winner = splat(-1, i32)")
            if _small(s):
                for number, tap in each_tap(s, "x"):
                    compare(str(number), tap)
            else:
                with _taps(e, s, "x"):
                    compare(f"(w0 * {s[1].window} + w1) * {s[2].window} + w2", "tap")
            # windows in which nothing exceeds the identity: the first place that is no padding
            with e.block("if any_lane(winner < 0):"), contextlib.ExitStack() as loops:
                for k in range(SPACE):
                    loops.enter_context(e.block(f"for w{k} in range({s[k].window}):"))
                    place = f"i{k}" if k < SPACE - 1 else "lanes(i2)"
                    e.line(f"t{k} = ({place} + first{k}) * {s[k].step} + w{k} * {s[k].apart} - {s[k].before}")
                e.line("ok = (t2 >= 0) & (t2 < x_extent2)")
                with e.block("if min(min(t0, x_extent0 - 1 - t0), min(t1, x_extent1 - 1 - t1)) >= 0:"):
                    own = f"(w0 * {s[1].window} + w1) * {s[2].window} + w2"
                    e.line(f"winner = select(ok & (winner < 0), splat({own}, i32), winner)")
            e.line("store(winners, into + i2, winner, i32, -1)")


def _gather(e: Emission, s: Sequence[Slide], sums: DType, class_size: int) -> None:
    """The sums of all classes, from ``winners`` and ``cotangents``."""
    name = dtype_name(sums)
    window = [axis.window for axis in s]
    kind = 0
    residues = [(a, b, c) for a in s[0].residues for b in s[1].residues for c in s[2].residues]
    for of_class in residues:
        with e.block("for i0 in range(n0):"), e.block("for i1 in range(n1):"):
            e.line("at = (i0 * y_e1 + i1) * y_e2")
            e.line(f"into = {kind * class_size} + (i0 * n1 + i1) * n2")
            with e.block(f"for i2 in range(0, n2, {LANES}):"):
                e.line(f"total_ = splat(0, {name})")
                firsts = [r.first - axis.low for r, axis in zip(of_class, s, strict=True)]
                if math.prod(r.taps for r in of_class) <= UNROLLED:
                    for j0 in range(of_class[0].taps):
                        for j1 in range(of_class[1].taps):
                            for j2 in range(of_class[2].taps):
                                places = [f + j * r.by for f, j, r in zip(firsts, (j0, j1, j2), of_class, strict=True)]
                                i = [r.tap + j * r.apart for j, r in zip((j0, j1, j2), of_class, strict=True)]
                                mine = [n - 1 - k for n, k in zip(window, i, strict=True)]
                                number = (mine[0] * window[1] + mine[1]) * window[2] + mine[2]
                                place = linear(("y_e1 * y_e2", places[0]), ("y_e2", places[1]), (places[2], 1))
                                _add_winner(e, place, str(number), name)
                else:
                    with contextlib.ExitStack() as loops:
                        for k, r in enumerate(of_class):
                            loops.enter_context(e.block(f"for j{k} in range({r.taps}):"))
                            e.line(f"place{k} = {firsts[k]} + j{k} * {r.by}")
                            e.line(f"mine{k} = {window[k] - 1 - r.tap} - j{k} * {r.apart}")
                        tap = f"(mine0 * {window[1]} + mine1) * {window[2]} + mine2"
                        _add_winner(e, "(place0 * y_e1 + place1) * y_e2 + place2", tap, name)
                e.line(f"store(sums, into + i2, total_, {name}, -1)")
        kind += 1


def _add_winner(e: Emission, place: str, number: str, name: str) -> None:
    e.line(f"there = load(winners, at + i2 + {place}, i32, -1) == splat({number}, i32)")
    e.line(f"total_ = total_ + select(there, load(cotangents, at + i2 + {place}, {name}, -1), splat(0, {name}))")
