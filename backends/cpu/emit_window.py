"""Emitter of windows: convolutions, reductions of windows, where a window has its extreme value; and their epilogue.

Places of the result are numbered along its *flat* axes (those that windows slide along, and what comes after them). Sixteen
of these numbers are a vector; their coordinates are computed once, and for each place in the window say where the lanes
read, and which of them read padding. Where the lanes read neighbours, that is one masked load, else a gather.

A convolution is a contraction: filters times patches. Filters are packed first, once, into panels that all threads read.
A unit is a block of places of one sample and group: its patches are laid out in scratch, a chunk of channels at a time,
and the micro-kernel of :mod:`graphc.backends.cpu.tiling` multiplies them with all filters.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from graphc import config
from graphc.backends.cpu import tiling
from graphc.backends.cpu.codegen import LANES, STRIDED, Code, Emission, NoEmitter, compute_dtype, dtype_name, linear
from graphc.backends.cpu.emit_loops import ragged
from graphc.backends.cpu.epilogue import Epilogue
from graphc.backends.cpu.loops import Axis, Layout, Values, merge_axes
from graphc.ir import Node
from graphc.ops.reduction import highest, lowest
from graphc.passes.access import Access, access, contiguous_strides
from graphc.passes.schedule import Kernel
from graphc.types import DType, i64, u8

PATCHES = 256 << 10  # bytes of patches laid out at a time: half of a small second cache
DEPTH = 1024  # products per sum that patches are laid out for at a time
BLOCK = 512  # places of a block at most
ROWS = 16  # rows of a unit of reduce_window
WINDOWS = ("conv", "reduce_window", "window_argmax")

Strides = tuple[int, ...]


def window(kernel: Kernel) -> Code:
    """One conv, reduce_window or window_argmax with elementwise nodes at its shape."""
    found = [node for node in kernel.body.nodes if node.op.name in WINDOWS]
    if len(found) != 1:
        raise NoEmitter(kernel.body.nodes[-1], "a window kernel has one window op")
    (node,) = found
    if node.type.size == 0:
        return Emission(kernel, "window without elements").code(1, 0.0)
    return _convolution(kernel, node) if node.op.name == "conv" else _reduction(kernel, node)


def _read(kernel: Kernel, node: Node) -> tuple[int, Access]:
    """Argument number and access of an operand."""
    found = access(node, frozenset(kernel.body.inputs))
    if found is None:
        raise NoEmitter(node, "an operand of a window must be an access")
    return kernel.body.inputs.index(found.source), found


# ------------------------------------------------------------------------------------------------ sliding


@dataclass(frozen=True, slots=True)
class Slide:
    """How a window slides along one flat axis.

    Place i of the window at place y of the result reads element ``(y·stride + i·apart - before) / dilation`` of the
    operand, if that is one of its ``extent`` elements; they are ``memory`` elements of memory apart.
    """

    count: int
    window: int
    stride: int
    apart: int
    before: int
    extent: int
    dilation: int
    memory: int


@dataclass(frozen=True, slots=True)
class Windows:
    """All flat axes. ``integer`` is the type of lanes that hold places."""

    slides: tuple[Slide, ...]
    integer: str

    @property
    def places(self) -> int:
        return math.prod(s.count for s in self.slides)

    @property
    def size(self) -> int:
        """Elements of a window."""
        return math.prod(s.window for s in self.slides)

    def coordinates(self, e: Emission, first: str) -> None:
        """``y0, y1, …``: where the windows of sixteen places from ``first`` on begin, per axis (padding is negative)."""
        e.line(f"number = lanes_of({first}, u32)")
        for k in reversed(range(len(self.slides))):
            s = self.slides[k]
            digit = "number" if k == 0 else f"number % splat({s.count}, u32)"
            e.line(f"y{k} = cast({digit}, {self.integer}) * {s.stride} - {s.before}")
            if k:
                e.line(f"number = number // splat({s.count}, u32)")

    @contextlib.contextmanager
    def inside(self, e: Emission) -> Iterator[str]:
        """Loops over the places of a window, giving ``ok``, the lanes that read elements, ``at``, the elements relative to
        the operand's first one, ``start``, that of lane 0; yields the number of the place in the window."""
        number, ok, terms = "", "", []
        with contextlib.ExitStack() as loops:
            for k, s in enumerate(self.slides):
                if s.window > 1:
                    loops.enter_context(e.block(f"for w{k} in range({s.window}):"))
                    number = f"({number}) * {s.window} + w{k}" if number else f"w{k}"
                e.line(f"t{k} = y{k} + w{k} * {s.apart}" if s.window > 1 else f"t{k} = y{k}")
                conditions = [ok] if ok else []
                if s.dilation > 1:
                    e.line(f"whole{k} = t{k} % splat({s.dilation}, {self.integer}) == 0")
                    conditions.append(f"whole{k}")
                    e.line(f"t{k} = t{k} // splat({s.dilation}, {self.integer})")
                conditions += [f"(t{k} >= 0)", f"(t{k} < {s.extent})"]
                e.line(f"ok{k} = {' & '.join(conditions)}")
                ok = f"ok{k}"
                terms.append((f"t{k}", s.memory))
            e.line(f"ok = {ok}")
            e.line(f"at = {linear(*terms)}" if any(s.memory for s in self.slides) else "at = t0 * 0")
            e.line("start = first_lane(at)")
            yield number or "0"

    def read(self, e: Emission, body: Callable[[str], None], pointer: str, dtype: DType) -> None:
        """``body(expression)`` once for lanes that read neighbours, once for those that do not."""
        name = dtype_name(dtype)
        with e.block(f"if all_lanes(at == lanes_of(start, {self.integer})):"):
            body(f"load_where({pointer}, start, ok, {name})")
        with e.block("else:"):
            body(f"gather_where({pointer}, at, ok, {name})")

    @property
    def cost(self) -> float:
        """Estimated nanoseconds to read one vector."""
        return 3.0 if self.slides[-1].stride == self.slides[-1].memory == 1 else STRIDED


def _integer(extents: Sequence[int]) -> str:
    return "i32" if math.prod(extents) < 2**30 else "i64"


# ------------------------------------------------------------------------------------------------ the epilogue


class _Flat:
    """The epilogue over rows of flat places: ``lead`` axes of the result come before the flat ones."""

    def __init__(self, e: Emission, node: Node, lead: int) -> None:
        shape = node.type.shape
        layout, probe = Layout(e.kernel.body, shape), Layout(e.kernel.body, shape)
        places = [probe.place(n) for n in probe.needed(e.kernel.body.outputs, (node,)) if n is not node]
        strides = [probe.stored(node), *(place.strides for place in places if place is not None)]
        axes = [Axis((k,), n, False) for k, n in enumerate(shape)]
        flat = merge_axes([Axis(a.members, a.extent, k >= lead) for k, a in enumerate(axes)], strides)
        flat = tuple(Axis(a.members, a.extent, False) for a in flat if a.members[0] >= lead)
        self.whole = len(flat) <= 1
        tail = flat or (axes[-1],)
        layout.axes = (*axes[:lead], *(tail if self.whole else axes[lead:]))
        self.e, self.lead, self.extents = e, lead, shape[lead:]
        self.epilogue = Epilogue(e, node, layout, len(layout.axes) - 1)

    def write(self, values: Values, lead: Sequence[str], row: str) -> None:
        """The places ``low`` to ``high`` of one row; ``row`` is that of ``sums``."""
        e = self.e
        if self.whole:
            index = [*lead, "j"]
            of_row = self.epilogue.row(values, index)
            for lanes in ragged(e, "j", "low", "high"):
                self.epilogue.vector(of_row, index, lanes, self.epilogue.load_sums(f"{row} * width + j - low"))
            return
        width = self.extents[-1]
        with e.block(f"for line in range(low // {width}, (high - 1) // {width} + 1):"):
            index = list(lead)
            rest = "line"
            digits = []
            for k in reversed(range(len(self.extents) - 1)):
                digits.append(f"f{k} = {rest}" if k == 0 else f"f{k} = {rest} % {self.extents[k]}")
                rest = f"({rest} // {self.extents[k]})"
            for line in digits:
                e.line(line)
            index += [*(f"f{k}" for k in range(len(self.extents) - 1)), "j"]
            e.line(f"from_ = max(low - line * {width}, 0)")
            e.line(f"to = min(high - line * {width}, {width})")
            of_row = self.epilogue.row(values, index)
            for lanes in ragged(e, "j", "from_", "to"):
                element = f"{row} * width + line * {width} + j - low"
                self.epilogue.vector(of_row, index, lanes, self.epilogue.load_sums(element))


# ------------------------------------------------------------------------------------------------ convolution


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution as ``groups`` products of filters (``filters`` x ``depth``) with patches (``depth`` x places)."""

    node: Node
    windows: Windows
    tile: tiling.Tile
    groups: int
    filters: int
    channels: int
    samples: int

    @property
    def depth(self) -> int:
        return self.channels * self.windows.size

    @property
    def strips(self) -> int:
        """Panels of filters of one group."""
        return -(-self.filters // self.tile.rows)

    @property
    def compute(self) -> DType:
        return compute_dtype(self.node.type.dtype)

    @property
    def packed(self) -> int:
        """Bytes of all packed filters."""
        return (self.groups * self.strips * self.tile.rows * self.depth + LANES) * self.compute.itemsize

    @property
    def chunk(self) -> int:
        """Channels whose patches are laid out at a time."""
        return max(min(DEPTH // self.windows.size, self.channels), 1)

    @property
    def block(self) -> int:
        """Places of a unit."""
        fit = PATCHES // (self.chunk * self.windows.size * self.compute.itemsize) // LANES * LANES
        most = min(max(fit, LANES), BLOCK)
        blocks = -(-self.windows.places // most)
        grain = max(LANES, self.tile.columns)
        return -(-self.windows.places // blocks // grain) * grain + (
            grain if self.windows.places // blocks % grain else 0
        )


def _convolution(kernel: Kernel, node: Node) -> Code:
    x, w = (n.type for n in node.inputs)
    _, at = _read(kernel, node.inputs[0])
    slides = tuple(
        Slide(count, window, stride, apart, low, extent, dilation, memory)
        for count, window, stride, apart, (low, _), extent, dilation, memory in zip(
            node.type.shape[2:], w.shape[2:], node["strides"], node["rhs_dilation"], node["padding"], x.shape[2:],
            node["lhs_dilation"], at.strides[2:], strict=True,
        )
    )  # fmt: skip
    reach = [s.count * s.stride + s.window * s.apart + abs(s.before) + s.extent * abs(s.memory) for s in slides]
    windows = Windows(slides, _integer([max(reach)]))
    groups, compute = node["groups"], compute_dtype(node.type.dtype)
    filters = w.shape[0] // groups
    file = tiling.registers(config.get(config.CPU))
    tile = tiling.choose_tile(filters, max(windows.places, LANES), compute, file)
    c = Convolution(node, windows, tile, groups, filters, w.shape[1], x.shape[0])
    multiply = _multiply(kernel, c)
    return _pack_filters(kernel, c, multiply) if c.depth else multiply


def _pack_filters(kernel: Kernel, c: Convolution, then: Code) -> Code:
    """The first step: filters as panels of the tile's height, in scratch that all threads share."""
    w = c.node.inputs[1]
    position, found = _read(kernel, w)
    e = Emission(kernel, f"filters of {dtype_name(w.type.dtype)} as panels of {c.tile.rows}")
    panels = e.shared(c.packed)
    e.require(tiling.pack(w.type.dtype, c.tile.rows))
    pointer = e.pointer(position, found.offset * w.type.dtype.itemsize, found.strides)
    deep = merge_axes([Axis((k,), n, False) for k, n in enumerate(w.type.shape[1:])], [found.strides[1:], _line(w)])
    deep = deep or (Axis((0,), 1, False),)
    strides = [found.strides[1 + axis.members[-1]] for axis in deep]
    e.line(f"first, last = share({e.word(c.groups * c.strips, 'strips')}, 1, thread, threads)")
    e.word(c.filters, "filters")
    with e.block("for strip in range(first, last):"):
        e.line(f"row = strip % {c.strips} * {c.tile.rows}")
        e.line(f"w_at = (strip // {c.strips} * filters + row) * {found.strides[0]}")
        e.line(f"into = strip * {c.depth * c.tile.rows}")
        with contextlib.ExitStack() as loops:
            for k, axis in enumerate(deep[:-1]):
                loops.enter_context(e.block(f"for q{k} in range({axis.extent}):"))
            source = linear(("w_at", 1), *((f"q{k}", s) for k, s in enumerate(strides[:-1])))
            inner = [math.prod(a.extent for a in deep[k + 1 :]) * c.tile.rows for k in range(len(deep) - 1)]
            target = linear(("into", 1), *((f"q{k}", n) for k, n in enumerate(inner)))
            e.line(
                f"tile_pack(advance({pointer}, {source}, {dtype_name(w.type.dtype)}), {strides[-1]}, {found.strides[0]}, "
                f"advance({panels}, {target}, {dtype_name(c.compute)}), {deep[-1].extent}, "
                f"min(filters - row, {c.tile.rows}), {dtype_name(w.type.dtype)}, {c.tile.rows})"
            )
    return e.code(c.groups * c.strips, w.type.size * 0.4, then)


def _line(w: Node) -> Strides:
    """Strides of the contracted axes of filters in their packed order."""
    return contiguous_strides(w.type.shape[1:])


def _multiply(kernel: Kernel, c: Convolution) -> Code:
    """The second step: units of one sample, one group, and a block of places."""
    node, tile, compute = c.node, c.tile, dtype_name(c.compute)
    spatial = f"{len(c.windows.slides)} axes"
    e = Emission(
        kernel, f"conv of {dtype_name(node.type.dtype)} along {spatial}: tiles of {tile.rows} x {tile.columns}"
    )
    panels = e.shared(c.packed) if c.depth else ""
    block = c.block
    flat = _Flat(e, node, 2)
    e.word(block + LANES, "width")
    rows = max(c.strips, 1) * tile.rows
    e.line(f"sums = {e.scratch(rows * (block + LANES) * c.compute.itemsize + 64)}")
    if c.depth:
        e.require(tiling.strip(c.compute, tile))
        e.line(f"patches = {e.scratch((c.chunk * c.windows.size + 1) * (block + LANES) * c.compute.itemsize)}")
    values = flat.epilogue.start()
    blocks = -(-c.windows.places // block)
    e.word(c.windows.places, "places")
    e.word(c.filters, "filters")
    e.line(f"first, last = share({e.word(c.samples, 'samples')} * {c.groups * blocks}, 1, thread, threads)")
    with e.block("for unit in range(first, last):"):
        e.line(f"low = unit % {blocks} * {block}")
        e.line(f"high = min(low + {block}, places)")
        e.line(f"group = unit // {blocks} % {c.groups}")
        e.line(f"sample = unit // {blocks * c.groups}")
        if c.depth:
            _sums(kernel, c, e, panels)
        else:
            with e.block(f"for i in range(0, {rows * (block + LANES)}, {LANES}):"):
                e.line(f"store(sums, i, splat(0, {compute}), {compute}, {flat.epilogue.sums_scope})")
        with e.block("for row in range(filters):"):
            e.line("channel = group * filters + row")
            flat.write(values, ["sample", "channel"], "row")
    size = node.type.size
    patches = c.samples * c.groups * c.depth * (c.windows.places / LANES + blocks) * c.windows.cost
    return e.code(c.samples * c.groups * blocks, size / LANES * flat.epilogue.cost + size * c.depth / 50 + patches)


def _sums(kernel: Kernel, c: Convolution, e: Emission, panels: str) -> None:
    """Chunk after chunk of channels: lay out the patches of the block, add their products with all filters."""
    tile, compute, size = c.tile, dtype_name(c.compute), c.windows.size
    position, found = _read(kernel, c.node.inputs[0])
    dtype = c.node.inputs[0].type.dtype
    pointer = e.pointer(position, found.offset * dtype.itemsize, found.strides)
    per_sample, per_channel = found.strides[:2]
    e.line("channel_low = 0")
    with e.block(f"while channel_low < {c.channels}:"):
        e.line(f"some = min({c.chunk}, {c.channels} - channel_low)")
        base = linear(("sample", per_sample), (f"(group * {c.channels} + channel_low)", per_channel))
        e.line(f"base = {base}")
        with e.block(f"for p in range(low, high, {LANES}):"):
            c.windows.coordinates(e, "p")
            with c.windows.inside(e) as number:

                def lay_out(expression: str) -> None:
                    with e.block("for c in range(some):"):
                        e.line(
                            f"here = advance({pointer}, {linear(('base', 1), ('c', per_channel))}, {dtype_name(dtype)})"
                        )
                        e.line(f"v = {expression}")
                        e.line(f"store(patches, (c * {size} + {number}) * width + p - low, v, {compute}, -1)")

                c.windows.read(e, lay_out, "here", dtype)
        e.line(f"count = (high - low + {tile.columns - 1}) // {tile.columns}")
        with e.block(f"for strip in range({c.strips}):"):
            panel = f"((group * {c.strips} + strip) * {c.depth} + channel_low * {size}) * {tile.rows}"
            e.line(
                f"tile_strip(advance({panels}, {panel}, {compute}), 1, {tile.rows}, patches, width, {tile.columns}, count, "
                f"advance(sums, strip * {tile.rows} * width, {compute}), width, some * {size}, channel_low, {compute}, "
                f"{tile.rows}, {tile.vectors}, {tile.lanes})"
            )
        e.line("channel_low = channel_low + some")


# ------------------------------------------------------------------------------------------------ reduce_window


def _reduction(kernel: Kernel, node: Node) -> Code:
    """Rows are the leading axes along which nothing slides. A unit is a block of rows and of places."""
    x = node.inputs[0]
    if not x.type.shape:
        raise NoEmitter(node, "the window of a scalar is the scalar: the pass simplify replaces it")
    position, found = _read(kernel, x)
    shape = node.type.shape
    plain = [_stays(node, k) for k in range(x.type.ndim)]
    lead = next((k for k, stays in enumerate(plain) if not stays), x.type.ndim - 1)
    slides = tuple(
        Slide(
            shape[k], node["window"][k], node["strides"][k], node["dilation"][k], node["padding"][k][0], x.type.shape[k], 1,
            found.strides[k],
        )
        for k in range(lead, x.type.ndim)
    ) or (Slide(1, 1, 1, 1, 0, 1, 1, 0),)  # fmt: skip
    reach = [s.count * s.stride + s.window * s.apart + abs(s.before) + s.extent * abs(s.memory) for s in slides]
    windows = Windows(slides, _integer([max(reach)]))
    r = _Reduction(node, x.type.dtype, windows, position, found)
    e = Emission(kernel, f"{node.op.name} {node['kind']} of {dtype_name(x.type.dtype)} along {len(slides)} axes")
    return r.write(e, lead)


def _stays(node: Node, k: int) -> bool:
    """Whether windows neither slide nor reach along axis k."""
    return (node["window"][k], node["strides"][k], tuple(node["padding"][k])) == (1, 1, (0, 0))


@dataclass(frozen=True, slots=True)
class _Reduction:
    """A reduce_window or window_argmax of argument ``position``."""

    node: Node
    dtype: DType
    windows: Windows
    position: int
    found: Access

    @property
    def element(self) -> DType:
        """What is read: bools as bytes, on which max and min mean the same."""
        return u8 if self.dtype.kind == "b" else self.dtype

    def write(self, e: Emission, lead: int) -> Code:
        node, windows = self.node, self.windows
        shape = node.type.shape
        rows = math.prod(shape[:lead])
        block, height = min(-(-windows.places // LANES) * LANES, BLOCK), min(rows, ROWS)
        flat = _Flat(e, node, lead)
        kept = i64 if node.op.name == "window_argmax" else compute_dtype(self.element)
        e.word(block + LANES, "width")
        e.line(f"sums = {e.scratch((height * (block + LANES) + LANES) * kept.itemsize)}")
        values = flat.epilogue.start()
        blocks = -(-windows.places // block)
        e.word(windows.places, "places")
        e.word(rows, "rows")
        row_blocks = e.word(-(-rows // height), "row_blocks")
        e.line(f"first, last = share({row_blocks} * {blocks}, 1, thread, threads)")
        with e.block("for unit in range(first, last):"):
            e.line(f"low = unit % {blocks} * {block}")
            e.line(f"high = min(low + {block}, places)")
            e.line(f"row_low = unit // {blocks} * {height}")
            e.line(f"row_high = min(row_low + {height}, rows)")
            with e.block(f"for p in range(low, high, {LANES}):"):
                windows.coordinates(e, "p")
                with e.block("for row in range(row_low, row_high):"):
                    self._one(e, lead, kept, flat.epilogue.sums_scope)
            with e.block("for row in range(row_low, row_high):"):
                index = self._decode(e, shape[:lead])
                flat.write(values, index, "(row - row_low)")
        vectors = node.type.size / LANES
        work = vectors * (flat.epilogue.cost + windows.size * (windows.cost + 2))
        return e.code(-(-rows // height) * blocks, work)

    def _decode(self, e: Emission, lead: Strides) -> list[str]:
        """The coordinates of a row."""
        names, rest = [f"l{k}" for k in range(len(lead))], "row"
        for k in reversed(range(len(lead))):
            e.line(f"l{k} = {rest}" if k == 0 else f"l{k} = {rest} % {lead[k]}")
            rest = f"({rest} // {lead[k]})"
        return names

    def _one(self, e: Emission, lead: int, kept: DType, scope: int) -> None:
        """Sixteen windows of one row."""
        node, name = self.node, dtype_name(self.element)
        shape, contiguous = node.inputs[0].type.shape, contiguous_strides(node.inputs[0].type.shape)
        names = self._decode(e, node.type.shape[:lead])
        pointer = e.pointer(self.position, self.found.offset * self.dtype.itemsize, self.found.strides)
        e.line(f"here = advance({pointer}, {linear(*zip(names, self.found.strides, strict=False))}, {name})")
        argument = node.op.name == "window_argmax"
        e.line(f"best = {self._identity(e)}")
        if argument:
            e.line("place = splat(-1, i64)")
            e.line(f"row_at = {linear(*zip(names, contiguous, strict=False))}")
        with self.windows.inside(e):
            if argument:
                flat = linear(*((f"cast(t{k}, i64)", contiguous[lead + k]) for k in range(len(shape) - lead)))
                e.line(f"number_at = {flat if len(shape) > lead else 'lanes(0) * 0'} + row_at")

            def combine(expression: str) -> None:
                e.line(f"v = {expression}")
                for line in self._combined(argument):
                    e.line(line)

            self.windows.read(e, combine, "here", self.element)
        result = "place" if argument else "best"
        e.line(f"store(sums, (row - row_low) * width + p - low, {result}, {dtype_name(kept)}, {scope})")

    def _identity(self, e: Emission) -> str:
        kind = self.node["kind"]
        value = 0 if kind == "sum" else lowest(self.element) if kind == "max" else highest(self.element)
        return e.param(self.element, value, "identity")

    def _combined(self, argument: bool) -> list[str]:
        kind = self.node["kind"]
        if argument:
            comparison = ">" if kind == "max" else "<"
            nan = " | ((v != v) & (best == best))" if self.dtype.kind == "f" else ""
            return [
                f"wins = ok & ((place < 0) | (v {comparison} best){nan})",
                "best = select(wins, v, best)",
                "place = select(wins, number_at, place)",
            ]
        if kind == "sum":
            return ["best = best + v"]
        function = "maximum" if kind == "max" else "minimum"
        return [f"best = select(ok, {function}(best, v), best)"]
