"""Emitter of convolutions with more places in the window than in the result: above all gradients of filters.

The contracted extent is long and the result small, so the roles are exchanged: the rows of tiles run along the samples (of
a filter's gradient: the channels of the layer's operand), or along neighbouring places of the result where samples are few;
their elements are read one by one from planes. The columns are the filters (the channels of the result's cotangent), packed
with the contracted axis last.

A unit is a part of the contracted extent, some samples, some filters. It adds chunk after chunk to sums of its own, which all
threads can read; a second step adds the parts in a fixed tree and runs the epilogue. Parts and chunks follow from extents
alone.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

from graphc import config
from graphc.backends.cpu import sliding, tiling
from graphc.backends.cpu.codegen import LANES, Code, Emission, compute_dtype, dtype_name
from graphc.backends.cpu.emit_convolution import Block, choose_block, place_block, read, slides_of
from graphc.backends.cpu.places import FlatPlaces
from graphc.backends.cpu.sliding import SPACE, Slide, rounded, uneven
from graphc.ir import Node
from graphc.passes.access import contiguous_strides
from graphc.passes.schedule import Kernel
from graphc.types import DType

DEPTH = 512  # contracted elements that planes are laid out for at a time
ROWS = 32  # samples of a unit
COLUMNS = 256  # filters of a unit
UNITS = 8  # so many units are wanted: parts of the contracted extent make up for what samples and filters lack
PARTIAL = 2 << 20  # bytes of the sums of all parts at most, where there are several


@dataclass(frozen=True, slots=True)
class Correlation:
    """A convolution as products of samples (at each place of the result) with filters, along channels and places of the
    window.

    ``slides`` have the two kinds of places exchanged: their places are those of the window. ``along`` says whether rows are
    neighbouring places of the result.
    """

    node: Node
    slides: tuple[Slide, ...]
    groups: int
    filters: int
    channels: int
    samples: int
    tile: tiling.Tile
    chunk: Block
    along: bool

    @property
    def compute(self) -> DType:
        return compute_dtype(self.node.type.dtype)

    @property
    def extents(self) -> tuple[int, ...]:
        """Places of the result along each axis."""
        return tuple(s.window for s in self.slides)

    @property
    def most(self) -> tuple[int, ...]:
        """Places of the window along each axis of a chunk, at most."""
        return self.chunk.most(self.slides)

    @property
    def depth(self) -> int:
        """Contracted elements of a chunk, at most."""
        return self.chunk.samples * math.prod(self.most)

    @property
    def chunks(self) -> int:
        b = self.chunk
        cut = -(-self.slides[b.cut].places // b.lines) * math.prod(s.places for s in self.slides[: b.cut])
        return -(-self.channels // b.samples) * cut

    @property
    def plane(self) -> int:
        """Elements of a plane of one sample and channel, at most."""
        *rows, line = zip(self.slides, self.most, strict=True)
        return math.prod(s.rows(n) for s, n in rows) * line[0].fold * line[0].line(line[1])

    @property
    def row_blocks(self) -> int:
        return -(-self.samples // ROWS)

    @property
    def block_samples(self) -> int:
        """Samples of a unit."""
        return -(-self.samples // self.row_blocks)

    @property
    def rows(self) -> int:
        """Rows of a set of tiles: all samples of a unit, or all places along the last axis."""
        return rounded(self.extents[-1] if self.along else self.block_samples, self.tile.rows)

    @property
    def sets(self) -> int:
        """Sets of rows of a unit."""
        if self.along:
            return self.block_samples * math.prod(self.extents[:-1])
        return math.prod(self.extents)

    @property
    def column_blocks(self) -> int:
        return -(-self.filters // COLUMNS)

    @property
    def columns(self) -> int:
        """Filters of a unit, in whole tiles."""
        return rounded(-(-self.filters // self.column_blocks), self.tile.columns)

    @property
    def unit(self) -> int:
        """Elements of the sums of a unit."""
        return self.sets * self.rows * self.columns

    @property
    def blocks(self) -> int:
        """Units of one part."""
        return self.groups * self.row_blocks * self.column_blocks

    @property
    def parts(self) -> int:
        wanted = min(-(-UNITS // self.blocks), self.chunks)
        fit = PARTIAL // (self.blocks * self.unit * self.compute.itemsize)
        return max(min(wanted, fit), 1)

    @property
    def partial(self) -> int:
        """Bytes of all sums."""
        return (self.parts * self.blocks * self.unit + LANES) * self.compute.itemsize


def fits(node: Node) -> bool:
    """Whether a conv is better done here: the contracted extent is in the window."""
    places, window = node.type.shape[2:], node.inputs[1].type.shape[2:]
    return (
        math.prod(window) > math.prod(places)
        and all(d == 1 for d in node["lhs_dilation"])
        and node.inputs[1].type.shape[1] > 0
    )


def choose(kernel: Kernel, node: Node) -> Correlation:
    x, w = (n.type for n in node.inputs)
    slides = tuple(
        Slide(s.window, s.count, s.apart, s.stride, s.before, s.extent, 1, s.memory) for s in slides_of(kernel, node)
    )
    compute, groups = compute_dtype(node.type.dtype), node["groups"]
    filters = w.shape[0] // groups
    chunk = choose_block(w.shape[1], [s.places for s in slides], DEPTH, 1, SPACE - 1)
    along = x.shape[0] < min(slides[-1].window, 8) and slides[-1].fold == 1
    samples = -(-x.shape[0] // -(-x.shape[0] // ROWS))
    rows = slides[-1].window if along else samples
    tile = tiling.choose_tile(rows, max(filters, LANES), compute, tiling.registers(config.get(config.CPU)))
    return Correlation(node, slides, groups, filters, w.shape[1], x.shape[0], tile, chunk, along)


def correlation(kernel: Kernel, node: Node) -> Code:
    """The kernel of a conv whose window has more places than the result."""
    c = choose(kernel, node)
    return _products(kernel, c, _add(kernel, c))


# ------------------------------------------------------------------------------------------------ products


def _products(kernel: Kernel, c: Correlation, then: Code) -> Code:
    """The first step: the sums of all parts."""
    node, tile, compute = c.node, c.tile, dtype_name(c.compute)
    x, w = node.inputs
    e = Emission(
        kernel,
        f"conv of {dtype_name(node.type.dtype)}, {node.type.ndim - 2} axes, window contracted: tiles of "
        f"{tile.rows} x {tile.columns}",
    )
    partial = e.shared(c.partial)
    e.require(sliding.strip(c.compute, tile))
    e.require(sliding.planes(x.type.dtype))
    e.require(tiling.pack(w.type.dtype, tile.columns))
    stride = uneven(c.plane * c.chunk.samples)
    e.word(stride, "plane")
    item = c.compute.itemsize
    held = (c.block_samples if c.along else c.rows) * stride + c.tile.rows * c.slides[-1].stride + 4 * LANES
    e.line(f"planes = {e.scratch(held * item)}")
    e.line(f"panels = {e.scratch((c.depth * c.columns + LANES) * item)}")
    e.line(f"places = {e.scratch(c.depth * 8)}")

    for k, s in enumerate(c.slides):
        for name, value in (
            ("all", s.places), ("fold", s.fold), ("step", s.step), ("extent", s.extent), ("memory", s.memory), ("low", s.low),
            ("span", s.span), ("by", s.residues[0].by), ("count", s.window),
        ):  # fmt: skip
            e.word(value, f"{name}{k}")
    b = c.chunk
    for k, n in enumerate(c.most):
        e.word(n, f"most{k}")
    e.word(b.samples, "most_channels")
    e.line("e1 = (most1 - 1) * fold1 + span1")
    e.line("e2 = most2 - 1 + (span2 + fold2 - 1) // fold2")
    e.line("per_channel = ((most0 - 1) * fold0 + span0) * e1 * e2 * fold2")
    e.line("k = 0")
    with contextlib.ExitStack() as loops:
        loops.enter_context(e.block("for channel in range(most_channels):"))
        for axis in range(SPACE):
            loops.enter_context(e.block(f"for k{axis} in range(most{axis}):"))
        e.line("place = channel * per_channel + k0 * fold0 * e1 * e2 + k1 * fold1 * e2 + k2")
        e.line("store_first(places, k, splat(place, i64), i64, -1)")
        e.line("k = k + 1")

    xs, ws = read(kernel, x), read(kernel, w)
    x_pointer = e.pointer(xs[0], xs[1].offset * x.type.dtype.itemsize, xs[1].strides)
    w_pointer = e.pointer(ws[0], ws[1].offset * w.type.dtype.itemsize, ws[1].strides)
    e.word(xs[1].strides[0], "x_sample")
    e.word(xs[1].strides[1], "x_channel")
    e.word(ws[1].strides[0], "w_filter")
    e.word(ws[1].strides[1], "w_channel")
    w_space = (*[0] * (SPACE - w.type.ndim + 2), *ws[1].strides[2:])
    for name, value in (
        ("samples", c.samples), ("per_block", c.block_samples), ("row_blocks", c.row_blocks), ("filters", c.filters),
        ("columns", c.columns), ("column_blocks", c.column_blocks), ("groups", c.groups), ("channels", c.channels),
        ("parts", c.parts), ("chunks", c.chunks), ("unit_size", c.unit), ("lines", b.lines),
        ("cut_blocks", -(-c.slides[b.cut].places // b.lines)), ("set_rows", c.rows),
    ):  # fmt: skip
        e.word(value, name)
    units = c.parts * c.blocks
    e.line(f"first, last = share({e.word(units, 'units')}, 1, thread, threads)")
    with e.block("for unit in range(first, last):"):
        e.line("part = unit % parts")
        e.line("rest = unit // parts")
        e.line("sample = rest % row_blocks * per_block")
        e.line("some_samples = min(per_block, samples - sample)")
        e.line("rest = rest // row_blocks")
        e.line("filter = rest % column_blocks * columns")
        e.line("some_filters = min(columns, filters - filter)")
        e.line("group = rest // column_blocks")
        e.line(f"sums = advance({partial}, unit * unit_size, {compute})")
        e.line("first_chunk = part * chunks // parts")
        e.line(f"count = (some_filters + {tile.columns - 1}) // {tile.columns}")
        with e.block("for chunk in range(first_chunk, (part + 1) * chunks // parts):"):
            e.line("at = chunk")
            place_block(e, b, "at")
            e.line("channel = at * most_channels")
            e.line("some_channels = min(most_channels, channels - channel)")
            e.line("e0 = (n0 - 1) * fold0 + span0")
            e.line("e1 = (n1 - 1) * fold1 + span1")
            e.line("e2 = n2 - 1 + (span2 + fold2 - 1) // fold2")
            e.line("x_at = sample * x_sample + (group * channels + channel) * x_channel")
            e.line(
                f"window_planes(advance({x_pointer}, x_at, {dtype_name(x.type.dtype)}), planes, some_samples, x_sample, plane, "
                "some_channels, x_channel, per_channel, e0, fold0, step0, q0 * step0 + low0, extent0, memory0, "
                "e1, fold1, step1, q1 * step1 + low1, extent1, memory1, "
                f"e2, fold2, step2, q2 * step2 + low2, extent2, memory2, 0, {dtype_name(x.type.dtype)})"
            )
            _pack_columns(e, c, w, w_pointer, w_space)
            _tiles(e, c)
    products = node.type.size * c.channels * math.prod(s.places for s in c.slides)
    return e.code(units, products / 50, then)


def _pack_columns(e: Emission, c: Correlation, w: Node, pointer: str, strides: tuple[int, ...]) -> None:
    """The filters of a unit and chunk as panels: channels, then places of the window."""
    element, compute, width = dtype_name(w.type.dtype), dtype_name(c.compute), c.tile.columns
    line = (*[0] * (SPACE - w.type.ndim + 2), *contiguous_strides(w.type.shape)[2:])
    merged = strides == line
    for k in range(SPACE):
        e.word(strides[k], f"w{k}")
    e.line("depth = some_channels * n0 * n1 * n2")
    e.line("w_at = (group * filters + filter) * w_filter + channel * w_channel + q0 * w0 + q1 * w1 + q2 * w2")

    def pack(source: str, step: str, run: str) -> None:
        e.line(
            f"tile_pack(advance({pointer}, {source}, {element}), {step}, w_filter, advance(panels, into, {compute}), {run}, "
            f"min({width}, some_filters - panel * {width}), {element}, {width})"
        )
        e.line(f"into = into + ({run}) * {width}")

    with e.block("for panel in range(count):"):
        e.line(f"into = panel * {width} * depth")
        with e.block("for k in range(some_channels):"):
            source = f"w_at + panel * {width} * w_filter + k * w_channel"
            if merged:
                pack(source, "w2", "n0 * n1 * n2")
            else:
                with e.block("for k0 in range(n0):"), e.block("for k1 in range(n1):"):
                    pack(f"{source} + k0 * w0 + k1 * w1", "w2", "n2")


def _tiles(e: Emission, c: Correlation) -> None:
    """The products of a chunk, added to the sums of the unit."""
    compute, tile = dtype_name(c.compute), c.tile

    def strips(left: str, row: str, number: str) -> None:
        e.line(
            f"window_strip(advance(planes, {left}, {compute}), {row}, places, panels, {tile.columns}, {tile.columns} * depth, "
            f"count, advance(sums, (({number}) * set_rows + i) * columns, {compute}), columns, depth, chunk - first_chunk, "
            f"{compute}, {tile.rows}, {tile.vectors}, {tile.lanes})"
        )

    rows = "for k0 in range(count0):", "for k1 in range(count1):"
    if c.along:
        with e.block("for s in range(some_samples):"), e.block(rows[0]), e.block(rows[1]):
            with e.block(f"for i in range(0, count2, {tile.rows}):"):
                e.line("left = s * plane + k0 * by0 * e1 * e2 + k1 * by1 * e2 + i * by2")
                strips("left", "by2", "(s * count0 + k0) * count1 + k1")
        return
    with e.block(f"for i in range(0, some_samples, {tile.rows}):"):
        with e.block(rows[0]), e.block(rows[1]), e.block("for k2 in range(count2):"):
            e.line("tap = k2 * by2")
            e.line("left = i * plane + k0 * by0 * e1 * e2 + k1 * by1 * e2 + tap % fold2 * e0 * e1 * e2 + tap // fold2")
            strips("left", "plane", "(k0 * count1 + k1) * count2 + k2")


# ------------------------------------------------------------------------------------------------ adding the parts


def _add(kernel: Kernel, c: Correlation) -> Code:
    """The second step: parts added in a fixed tree, results in their order, the epilogue. A unit is a sample and group."""
    node, compute = c.node, dtype_name(c.compute)
    e = Emission(kernel, f"sums of {compute}: {c.parts} parts" + (", rows along" if c.along else ""))
    partial = e.shared(c.partial)
    flat = FlatPlaces(e, node, 2)
    places = math.prod(c.extents)
    width = c.column_blocks * c.columns
    e.line(f"sums = {e.scratch((width * places + 2 * LANES) * c.compute.itemsize)}")
    values = flat.epilogue.start()
    for name, value in (
        ("samples", c.samples), ("per_block", c.block_samples), ("row_blocks", c.row_blocks), ("filters", c.filters),
        ("columns", c.columns), ("column_blocks", c.column_blocks), ("groups", c.groups), ("unit_size", c.unit),
        ("places", places), ("set_rows", c.rows), ("last", c.extents[-1]),
    ):  # fmt: skip
        e.word(value, name)
    e.line("first, stop = share(samples * groups, 1, thread, threads)")
    with e.block("for unit in range(first, stop):"):
        e.line("sample = unit % samples")
        e.line("group = unit // samples")
        e.line("inside = sample % per_block")
        with e.block("for block in range(column_blocks):"), e.block("for place in range(places):"):
            e.line("number = place * set_rows + inside")
            if c.along:
                e.line("number = (inside * (places // last) + place // last) * set_rows + place % last")
            e.line("block_at = (group * column_blocks + block) * row_blocks + sample // per_block")
            e.line(f"at = advance({partial}, block_at * {c.parts} * unit_size + number * columns, {compute})")
            with e.block(f"for j in range(0, columns, {LANES}):"):
                e.line(f"total = {_tree(c.parts, compute)}")
                # tiles may be narrower than a vector: what lies beyond belongs to the next row
                e.line("n = min(columns - j, 16)")
                e.line(f"store_strided(sums, (block * columns + j) * places + place, places, total, {compute}, -1, n)")
        e.line("low = 0")
        e.line("high = places")
        with e.block("for row in range(filters):"):
            e.line("channel = group * filters + row")
            flat.write(values, ["sample", "channel"], "row * places")
    work = node.type.size * (c.parts / LANES + 0.7) + node.type.size / LANES * flat.epilogue.cost
    return e.code(c.samples * c.groups, work)


def _tree(parts: int, compute: str) -> str:
    """The sum of the parts, halves added to halves."""

    def total(first: int, last: int) -> str:
        if last - first == 1:
            return f"load(at, j + {first} * unit_size, {compute}, -1)"
        middle = (first + last + 1) // 2
        return f"({total(first, middle)} + {total(middle, last)})"

    return total(0, parts)
