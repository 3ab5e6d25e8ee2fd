"""Emitter of convolutions with few places in the window: filters times patches, a matrix product per group and class.

Filters are packed first, once, into panels that all threads read. A unit is a block of places (of several samples where
those are small) times all filters of a group: planes and patches of a chunk of channels are laid out in scratch by the
routines of :mod:`graphc.backends.cpu.sliding`, the micro-kernel of :mod:`graphc.backends.cpu.tiling` adds their products with
the filters to the sums, and the epilogue runs over the block while it is in the cache. Nothing as large as the patches of a
whole sample is ever written.

Every sum is taken in the order of channels and places of the window, in chunks by the extents alone.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from graphc import config
from graphc.backends.cpu import sliding, tiling
from graphc.backends.cpu.codegen import LANES, Code, Emission, NoEmitter, Word, compute_dtype, dtype_name, linear
from graphc.backends.cpu.loops import Axis, Values, merge_axes
from graphc.backends.cpu.places import FlatPlaces
from graphc.backends.cpu.sliding import SPACE, Slide, rounded, uneven
from graphc.ir import Node
from graphc.passes.access import Access, access, contiguous_strides
from graphc.passes.schedule import Kernel
from graphc.types import DType

PATCHES = 320 << 10  # bytes of patches laid out at a time
DEPTH = 640  # products per sum that patches are laid out for at a time
LARGEST = 4 << 20  # bytes of patches, where a block cannot be smaller
BLOCK = 512  # places of a block at most
PLANES = 400 << 10  # bytes of the planes of all channels, where they are laid out at once
UNITS = 8  # with fewer units than this, filters are dealt out too
MANY_UNITS = 16  # blocks become one unit while there are so many

Strides = tuple[int, ...]


def read(kernel: Kernel, node: Node) -> tuple[int, Access]:
    """Argument number and access of an operand."""
    found = access(node, frozenset(kernel.body.inputs))
    if found is None:
        raise NoEmitter(node, "an operand of a window must be an access")
    return kernel.body.inputs.index(found.source), found


def slides_of(kernel: Kernel, node: Node) -> tuple[Slide, ...]:
    """How the windows of a conv slide along its spatial axes."""
    x, w = (n.type for n in node.inputs)
    _, at = read(kernel, node.inputs[0])
    return sliding.in_space([
        Slide(count, window, stride, apart, low, extent, dilation, memory)
        for count, window, stride, apart, (low, _), extent, dilation, memory in zip(
            node.type.shape[2:], w.shape[2:], node["strides"], node["rhs_dilation"], node["padding"], x.shape[2:],
            node["lhs_dilation"], at.strides[2:], strict=True,
        )
    ])  # fmt: skip


@dataclass(frozen=True, slots=True)
class Block:
    """The places of a unit, in places of a class: ``lines`` along axis ``cut``, one along axes before it, all along axes
    after it; ``samples`` of them where a sample is a block."""

    cut: int
    lines: int
    samples: int

    def most(self, slides: Sequence[Slide]) -> tuple[int, ...]:
        """Places along each axis of a unit, at most."""
        return tuple(1 if k < self.cut else self.lines if k == self.cut else s.places for k, s in enumerate(slides))


def place_block(e: Emission, b: Block, number: str) -> None:
    """The number of a block → its first places ``q`` and counts ``n``; ``number`` keeps what is left of it."""
    e.line(f"q{b.cut} = {number} % cut_blocks * lines")
    e.line(f"n{b.cut} = min(lines, all{b.cut} - q{b.cut})")
    e.line(f"{number} = {number} // cut_blocks")
    for k in reversed(range(b.cut)):
        e.line(f"q{k} = {number} % all{k}")
        e.line(f"n{k} = 1")
        e.line(f"{number} = {number} // all{k}")
    for k in range(b.cut + 1, SPACE):
        e.line(f"q{k} = 0")
        e.line(f"n{k} = all{k}")


def choose_block(samples: int, places: Sequence[int], most: int, grain: int, last: int) -> Block:
    """The block of at most about ``most`` places that leaves the fewest columns of tiles (``grain`` wide) empty.

    No axis after ``last`` is cut, even if the block becomes larger.
    """
    inner = [math.prod(places[k + 1 :]) for k in range(len(places))]
    cut = next(k for k in range(len(places)) if inner[k] <= most or k == last)

    def tiles(columns: int) -> int:
        return -(-columns // grain)

    # candidates: (tiles for each place of the whole, minus the size, block)
    found = []
    whole = math.prod(places)
    for lines in range(1, min(places[cut], max(most // inner[cut], 1)) + 1):
        full, rest = divmod(places[cut], lines)
        count = full * tiles(lines * inner[cut]) + (tiles(rest * inner[cut]) if rest else 0)
        found.append((count / (places[cut] * inner[cut]), -lines * inner[cut], Block(cut, lines, 1)))
    if cut == 0:
        for some in range(2, min(samples, max(most // max(whole, 1), 1)) + 1):
            full, rest = divmod(samples, some)
            count = full * tiles(some * whole) + (tiles(rest * whole) if rest else 0)
            found.append((count / (samples * whole), -some * whole, Block(0, places[0], some)))
    best = min(cost for cost, _, _ in found)
    return min((size, block.lines, block) for cost, size, block in found if cost <= 1.03 * best)[2]


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution as ``groups`` products of filters with patches."""

    node: Node
    slides: tuple[Slide, ...]
    groups: int
    filters: int
    channels: int
    samples: int
    tile: tiling.Tile
    chunk: int
    block: Block

    @property
    def compute(self) -> DType:
        return compute_dtype(self.node.type.dtype)

    @property
    def classes(self) -> list[tuple[sliding.Residue, ...]]:
        """One residue for each axis: the last axis runs fastest."""
        found: list[tuple[sliding.Residue, ...]] = [()]
        for s in self.slides:
            found = [(*before, r) for before in found for r in s.residues]
        return found

    @property
    def taps(self) -> list[int]:
        """Places of the window that each class meets."""
        return [math.prod(r.taps for r in residues) for residues in self.classes]

    @property
    def depth(self) -> int:
        """Elements of a filter that are multiplied at all, in all classes."""
        return self.channels * sum(self.taps)

    @property
    def strips(self) -> int:
        """Panels of filters of one group."""
        return -(-self.filters // self.tile.rows)

    @property
    def packed(self) -> int:
        """Bytes of all packed filters."""
        return (self.groups * self.strips * self.tile.rows * self.depth + LANES) * self.compute.itemsize

    @property
    def most(self) -> tuple[int, ...]:
        """Places of a class along each axis of a block, at most."""
        return self.block.most(self.slides)

    @property
    def columns(self) -> int:
        """Places of a class in a block, at most."""
        return self.block.samples * math.prod(self.most)

    @property
    def plane(self) -> int:
        """Elements of the plane of one sample and channel for a unit, at most."""
        return self._plane(self.merged)

    def _plane(self, merged: int) -> int:
        most = list(self.most)
        most[self.block.cut] = min(most[self.block.cut] * merged, self.slides[self.block.cut].places)
        *rows, line = zip(self.slides, most, strict=True)
        return math.prod(s.rows(n) for s, n in rows) * line[0].fold * line[0].line(line[1])

    @property
    def cut_blocks(self) -> int:
        """Blocks along the axis that is cut."""
        return -(-self.slides[self.block.cut].places // self.block.lines)

    @property
    def others(self) -> int:
        """Units for each block along the axis that is cut."""
        before = math.prod(axis.places for axis in self.slides[: self.block.cut])
        return -(-self.samples // self.block.samples) * self.groups * before

    @property
    def merged(self) -> int:
        """Blocks of a unit: neighbours along the axis that is cut, for which planes are laid out at once."""
        if self.block.samples > 1:
            return 1
        most = min(self.cut_blocks, max(self.others * self.cut_blocks // MANY_UNITS, 1))
        fits = next((n for n in range(most, 1, -1) if self._resident(n)), 1)
        return -(-self.cut_blocks // -(-self.cut_blocks // fits))

    def _resident(self, merged: int) -> bool:
        return self.channels * self._plane(merged) * self.block.samples * self.compute.itemsize <= PLANES

    @property
    def resident(self) -> bool:
        """Whether planes of all channels are laid out at once."""
        return self._resident(self.merged)

    @property
    def row_blocks(self) -> int:
        """Parts of the filters that are dealt out, where there are few blocks of places."""
        blocks = self.others * -(-self.cut_blocks // self.merged)
        return 1 if blocks >= UNITS else min(-(-UNITS // blocks), self.strips)

    @property
    def is_plain(self) -> bool:
        """Whether planes are patches: the window has one place."""
        return len(self.classes) == 1 and all(s.span == 1 for s in self.slides)


def choose(kernel: Kernel, node: Node) -> Convolution:
    """How a convolution is cut: by extents alone, but for the tile, on which no result depends."""
    x, w = (n.type for n in node.inputs)
    slides, groups, compute = slides_of(kernel, node), node["groups"], compute_dtype(node.type.dtype)
    filters, channels = w.shape[0] // groups, w.shape[1]
    taps = math.prod(max(r.taps for r in s.residues) for s in slides)
    chunk = max(min(DEPTH // max(taps, 1), channels), 1)
    chunk = -(-channels // -(-channels // chunk)) if channels else 1
    places = [s.places for s in slides]
    most = max(min(PATCHES // (chunk * max(taps, 1) * compute.itemsize), BLOCK), LANES)
    last = next((k for k, s in enumerate(slides) if s.period > 1), SPACE - 1)  # the places of all classes are one line
    block = choose_block(x.shape[0], places, most, 2 * LANES, last)
    columns = block.samples * block.lines * math.prod(places[block.cut + 1 :])
    chunk = max(min(chunk, LARGEST // (columns * max(taps, 1) * compute.itemsize)), 1)
    file = tiling.registers(config.get(config.CPU))
    tile = tiling.choose_tile(filters, max(columns, LANES), compute, file)
    return Convolution(node, slides, groups, filters, channels, x.shape[0], tile, chunk, block)


def convolution(kernel: Kernel, node: Node) -> Code:
    """The kernel of a conv whose window has fewer places than the result."""
    c = choose(kernel, node)
    multiply = _Multiply(kernel, c).write()
    return _pack_filters(kernel, c, multiply) if c.depth else multiply


# ------------------------------------------------------------------------------------------------ filters


def _pack_filters(kernel: Kernel, c: Convolution, then: Code) -> Code:
    """The first step: filters as panels of the tile's height, in scratch that all threads share.

    A panel holds class after class; in a class, channels, then the places of the window.
    """
    w = c.node.inputs[1]
    position, found = read(kernel, w)
    element, compute, rows = dtype_name(w.type.dtype), dtype_name(c.compute), c.tile.rows
    e = Emission(kernel, f"filters of {element} as panels of {rows}")
    panels = e.shared(c.packed)
    e.require(tiling.pack(w.type.dtype, rows))
    pointer = e.pointer(position, found.offset * w.type.dtype.itemsize, found.strides)
    e.line(f"first, last = share({e.word(c.groups * c.strips, 'strips')}, 1, thread, threads)")
    e.word(c.filters, "filters")
    e.word(c.strips, "per_group")
    e.word(found.strides[0], "w_row")
    e.word(c.depth, "depth")
    single = len(c.classes) == 1 and all(r.apart == 1 for r in c.classes[0])
    if not single:
        classes = _class_words(c, [0] * (SPACE - w.type.ndim + 2) + list(found.strides[2:]))
        first_word = e.pointers(classes)
    with e.block("for strip in range(first, last):"):
        e.line(f"row = strip % per_group * {rows}")
        e.line("w_at = (strip // per_group * filters + row) * w_row")
        e.line(f"into = strip * depth * {rows}")
        e.line(f"some = min(filters - row, {rows})")

        def pack(source: str, step: str, target: str, depth: str) -> None:
            e.line(
                f"tile_pack(advance({pointer}, {source}, {element}), {step}, w_row, advance({panels}, {target}, {compute}), "
                f"{depth}, some, {element}, {rows})"
            )

        if single:
            line = contiguous_strides(w.type.shape[1:])
            deep = merge_axes(
                [Axis((k,), n, False) for k, n in enumerate(w.type.shape[1:])], [found.strides[1:], line]
            ) or (Axis((0,), 1, False),)
            strides = [found.strides[1 + axis.members[-1]] for axis in deep]
            with contextlib.ExitStack() as loops:
                for k, axis in enumerate(deep[:-1]):
                    loops.enter_context(e.block(f"for q{k} in range({e.word(axis.extent, f'deep{k}')}):"))
                source = linear(("w_at", 1), *((f"q{k}", s) for k, s in enumerate(strides[:-1])))
                inner = [math.prod(a.extent for a in deep[k + 1 :]) * rows for k in range(len(deep) - 1)]
                target = linear(("into", 1), *((f"q{k}", n) for k, n in enumerate(inner)))
                pack(source, str(strides[-1]), target, e.word(deep[-1].extent, "deepest"))
        else:
            with e.block(f"for kind in range({e.word(len(c.classes), 'classes')}):"):
                e.line(f"k = {first_word} + kind * {CLASS}")
                loops_ = [
                    "for channel in range(channels):",
                    "for q0 in range(word(table, k)):",
                    "for q1 in range(word(table, k + 1)):",
                ]
                e.word(c.channels, "channels")
                with contextlib.ExitStack() as loops:
                    for header in loops_:
                        loops.enter_context(e.block(header))
                    with e.block("if word(table, k + 2) > 0:"):
                        source = (
                            f"w_at + channel * {e.word(found.strides[1], 'w_channel')} + word(table, k + 8) "
                            "+ q0 * word(table, k + 9) + q1 * word(table, k + 10)"
                        )
                        pack(source, "word(table, k + 11)", "into", "word(table, k + 2)")
                        e.line(f"into = into + word(table, k + 2) * {rows}")
    return e.code(c.groups * c.strips, w.type.size * 0.4, then)


CLASS = 12  # words of a class


def _class_words(c: Convolution, w_strides: Sequence[int]) -> list[Word]:
    """For each class: taps along each axis; place in the plane of the first tap along each; taps in all; taps of the
    classes before; where its elements of a filter start, and their strides."""
    words, before = [], 0
    for residues, taps in zip(c.classes, c.taps, strict=True):
        words += [Word(r.taps if taps else 0) for r in residues]
        words += [Word(r.first - s.low) for r, s in zip(residues, c.slides, strict=True)]
        words += [Word(taps), Word(before)]
        words += [Word(sum(r.tap * stride for r, stride in zip(residues, w_strides, strict=True)))]
        words += [Word(r.apart * stride) for r, stride in zip(residues, w_strides, strict=True)]
        before += taps
    return words


# ------------------------------------------------------------------------------------------------ products


class _Multiply:
    """The second step: units of a block of places, a group, and a part of its filters."""

    def __init__(self, kernel: Kernel, c: Convolution) -> None:
        self.kernel, self.c = kernel, c
        self.e = Emission(
            kernel,
            f"conv of {dtype_name(c.node.type.dtype)}, {c.node.type.ndim - 2} axes: tiles of {c.tile.rows} x {c.tile.columns}"
            + (", classes" if len(c.classes) > 1 else ""),
        )
        self.compute = dtype_name(c.compute)

    def write(self) -> Code:
        e, c = self.e, self.c
        self.panels = e.shared(c.packed) if c.depth else ""
        flat = FlatPlaces(e, c.node, 2)
        self.strips = -(-c.strips // c.row_blocks)
        rows = self.strips * c.tile.rows
        width = rounded(c.columns, c.tile.columns) + LANES
        e.word(width, "width")
        item = c.compute.itemsize
        many = len(c.classes) > 1
        e.line(f"sums = {e.scratch((rows * width * len(c.classes) + 4 * LANES) * item)}")
        self.total = "sums"
        if many:
            whole = c.block.samples * math.prod(n * s.period for n, s in zip(c.most, c.slides, strict=True))
            e.word(whole + 2 * LANES, "whole")
            e.line(f"total = {e.scratch((rows * (whole + 2 * LANES) + 4 * LANES) * item)}")
            e.require(sliding.interleave(c.compute))
        if c.depth:
            e.require(tiling.strip(c.compute, c.tile))
            e.require(sliding.planes(c.node.inputs[0].type.dtype))
            channel = uneven(c.plane * c.block.samples)
            e.word(channel, "plane")
            room = (c.channels if c.resident else c.chunk) * channel + 8 * LANES + c.tile.columns
            e.line(f"planes = {e.scratch(room * item)}")
            if not c.is_plain:
                e.require(sliding.patches(c.compute))
                most = max(c.taps)
                e.line(f"patches = {e.scratch((c.chunk * most * width + 4 * LANES) * item)}")
        values = flat.epilogue.start()
        units = self._units()
        e.word(c.filters, "filters")
        e.line(f"first, last = share({e.word(units, 'units')}, 1, thread, threads)")
        with e.block("for unit in range(first, last):"):
            self._decode()
            if c.depth and c.resident:
                self._planes("channels")
            with contextlib.ExitStack() as loop:
                if c.merged > 1:
                    cut = c.block.cut
                    loop.enter_context(e.block(f"while q{cut} < start + held:"))
                    e.line(f"n{cut} = min(lines, start + held - q{cut})")
                self._block(flat, values, rows)
                if c.merged > 1:
                    e.line(f"q{cut} = q{cut} + lines")
        size = c.node.type.size
        places = c.samples * math.prod(s.count for s in c.slides)
        copied = places / LANES * c.channels * c.groups * math.prod(s.window for s in c.slides) * 0.6
        products = c.samples * c.groups * c.filters * c.depth * math.prod(s.places for s in c.slides)
        return e.code(units, size / LANES * flat.epilogue.cost + products / 50 + copied)

    def _units(self) -> int:
        c = self.c
        return c.row_blocks * c.others * -(-c.cut_blocks // c.merged)

    def _block(self, flat: FlatPlaces, values: Values, rows: int) -> None:
        """One block of places: its sums, then the epilogue."""
        e, c = self.e, self.c
        many = len(c.classes) > 1
        for k in range(SPACE):  # places of the result
            period = c.slides[k].period
            e.line(f"y{k} = q{k} * {period}" if period > 1 else f"y{k} = q{k}")
            e.line(f"m{k} = min(n{k} * {period}, count{k} - y{k})" if period > 1 else f"m{k} = n{k}")
        e.line("low = (y0 * count1 + y1) * count2 + y2")
        e.line("high = low + m0 * m1 * m2")
        if c.depth:
            self._sums()
        if not (c.depth and all(c.taps)):
            self._zeros(rows)
        if many:
            self._interleave(rows)
        with e.block("for row in range(row_low, row_high):"):
            e.line("channel = group * filters + row")
            with e.block("for s in range(samples):"):
                e.line("sample = sample_low + s")
                stride = "whole" if many else "width"
                base = f"(row - row_low) * {stride} + s * (high - low) - low"
                flat.write(values, ["sample", "channel"], base, "total" if many else "sums")

    def _decode(self) -> None:
        """A unit's number → its filters, its places, its group, its samples."""
        e, c = self.e, self.c
        b = c.block
        e.word(self.strips, "strips")
        e.word(c.strips, "all_strips")
        e.line("rest = unit")
        if c.row_blocks > 1:
            e.line(f"strip_low = rest % {e.word(c.row_blocks, 'row_blocks')} * strips")
            e.line("rest = rest // row_blocks")
            e.line("strip_high = min(strip_low + strips, all_strips)")
        else:
            e.line("strip_low = 0")
            e.line("strip_high = all_strips")
        e.line(f"row_low = strip_low * {c.tile.rows}")
        e.line(f"row_high = min(strip_high * {c.tile.rows}, filters)")
        for k in range(SPACE):
            e.word(c.slides[k].places, f"places{k}")
            e.word(c.slides[k].count, f"count{k}")
        e.word(-(-c.cut_blocks // c.merged), "cut_blocks")
        e.word(b.lines, "lines")
        e.line(f"start = rest % cut_blocks * {e.word(b.lines * c.merged, 'unit_lines')}")
        e.line(f"held = min(unit_lines, places{b.cut} - start)")
        e.line("rest = rest // cut_blocks")
        e.line(f"q{b.cut} = start")
        e.line(f"n{b.cut} = held")
        for k in reversed(range(b.cut)):
            e.line(f"q{k} = rest % places{k}")
            e.line(f"n{k} = 1")
            e.line(f"rest = rest // places{k}")
        for k in range(b.cut + 1, SPACE):
            e.line(f"q{k} = 0")
            e.line(f"n{k} = places{k}")
        e.line(f"group = rest % {e.word(c.groups, 'groups')}")
        e.line(f"sample_low = rest // groups * {e.word(b.samples, 'per_block')}")
        e.line(f"samples = min(per_block, {e.word(c.samples, 'all_samples')} - sample_low)")

    def _planes(self, some: str) -> None:
        """Lay out ``some`` channels of the unit, from ``channel_low`` on."""
        e, c = self.e, self.c
        position, found = read(self.kernel, c.node.inputs[0])
        dtype = c.node.inputs[0].type.dtype
        pointer = e.pointer(position, found.offset * dtype.itemsize, found.strides)
        e.word(found.strides[0], "x_sample")
        e.word(found.strides[1], "x_channel")
        e.word(c.channels, "channels")
        for k, s in enumerate(c.slides):
            for name, value in (("fold", s.fold), ("step", s.step), ("extent", s.extent), ("memory", s.memory)):
                e.word(value, f"{name}{k}")
            e.word(s.low, f"low{k}")
            e.word(s.span, f"span{k}")
        first = [f"q{k}" if k != c.block.cut else "start" for k in range(SPACE)]
        count = [f"n{k}" if k != c.block.cut else "held" for k in range(SPACE)]
        e.line(f"e0 = ({count[0]} - 1) * fold0 + span0")
        e.line(f"e1 = ({count[1]} - 1) * fold1 + span1")
        e.line(f"e2 = {count[2]} - 1 + (span2 + fold2 - 1) // fold2")
        e.line("per_sample = e0 * e1 * e2 * fold2")
        channel = "group * channels" if c.resident else "group * channels + channel_low"
        e.line(f"x_at = sample_low * x_sample + ({channel}) * x_channel")
        e.line(
            f"window_planes(advance({pointer}, x_at, {dtype_name(dtype)}), planes, {some}, x_channel, plane, samples, "
            f"x_sample, per_sample, e0, fold0, step0, {first[0]} * step0 + low0, extent0, memory0, "
            f"e1, fold1, step1, {first[1]} * step1 + low1, extent1, memory1, "
            f"e2, fold2, step2, {first[2]} * step2 + low2, extent2, memory2, 0, {dtype_name(dtype)})"
        )

    def _sums(self) -> None:
        """Chunk after chunk of channels: lay out the patches of the block, add their products with the filters."""
        e, c = self.e, self.c
        tile = c.tile
        e.word(c.channels, "channels")
        e.word(c.chunk, "chunk")
        e.word(c.depth, "depth")
        e.line(f"count = (samples * n0 * n1 * n2 + {tile.columns - 1}) // {tile.columns}")
        e.line("channel_low = 0")
        many = len(c.classes) > 1
        if many:
            first_word = e.pointers(_class_words(c, (0,) * SPACE))
        with e.block("while channel_low < channels:"):
            e.line("some = min(chunk, channels - channel_low)")
            if c.resident:
                along = ("fold0 * e1 * e2", "fold1 * e2", "1")[c.block.cut]
                e.line(
                    f"left = advance(planes, channel_low * plane + (q{c.block.cut} - start) * {along}, {self.compute})"
                )
            else:
                self._planes("some")
                e.line("left = planes")
            if many:
                with e.block(f"for kind in range({e.word(len(c.classes), 'classes')}):"):
                    e.line(f"k = {first_word} + kind * {CLASS}")
                    with e.block("if word(table, k + 6) > 0:"):
                        words = [f"word(table, k + {j})" for j in range(8)]
                        self._class(words, f"kind * {self.strips * tile.rows} * width + ")
            else:
                words = [e.word(w.value, f"tap{j}") for j, w in enumerate(_class_words(c, (0,) * SPACE)[:7])]
                self._class([*words, "0"], "")
            e.line("channel_low = channel_low + some")

    def _class(self, words: Sequence[str], sums: str) -> None:
        """The products of one class; ``words`` are the first eight of it."""
        e, c, compute, tile = self.e, self.c, self.compute, self.c.tile
        n0, n1, n2, f0, f1, f2, taps, before = words
        residues = c.classes[0]
        by = [r.by for r in residues]
        right = "left"
        if not c.is_plain:
            right = "patches"
            e.line(
                f"window_patches(left, patches, some, plane, width, {n0}, {n1}, {n2}, {f0}, {by[0]}, {f1}, {by[1]}, {f2}, "
                f"{by[2]}, e1 * e2, e2, fold2, e0 * e1 * e2, samples, per_sample, n0, n1, n2, fold0 * e1 * e2, fold1 * e2, "
                f"{compute})"
            )
        with e.block("for strip in range(strip_low, strip_high):"):
            panel = f"((group * all_strips + strip) * depth + {before} * channels + channel_low * {taps}) * {tile.rows}"
            e.line(
                f"tile_strip(advance({self.panels}, {panel}, {compute}), 1, {tile.rows}, {right}, "
                f"{'plane' if c.is_plain else 'width'}, {tile.columns}, count, "
                f"advance(sums, {sums}(strip - strip_low) * {tile.rows} * width, {compute}), width, some * {taps}, "
                f"channel_low, {compute}, {tile.rows}, {tile.vectors}, {tile.lanes})"
            )

    def _zeros(self, rows: int) -> None:
        """Zeros in the sums of the classes that meet nothing."""
        e, c = self.e, self.c
        for kind, taps in enumerate(c.taps):
            if taps and c.depth:
                continue
            with e.block(f"for i in range({kind * rows} * width, {(kind + 1) * rows} * width, {LANES}):"):
                e.line(f"store(sums, i, splat(0, {self.compute}), {self.compute}, -1)")

    def _interleave(self, rows: int) -> None:
        c = self.c
        p0, p1, p2 = (s.period for s in c.slides)
        self.e.line(
            f"window_interleave(sums, total, {rows} * width, row_high - row_low, width, whole, samples, n0, n1, n2, "
            f"m0, m1, m2, {p0}, {p1}, {p2}, {self.compute})"
        )
