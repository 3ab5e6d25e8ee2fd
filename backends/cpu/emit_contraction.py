"""Emitter of contractions: one batched dot, then elementwise nodes at its shape (the epilogue).

A work unit is a block of rows times a block of columns. Its sums are built in scratch by the routines of
:mod:`graphc.backends.cpu.tiling`, which all contractions share; then the epilogue runs over the block while it is in the
cache, and stores the results. Three ways to build the sums:

tiles   strips of register tiles; the columns of the right operand are packed into panels, or read where they lie.
dots    dot products along contiguous depth, for few rows, and where the last axis of the result is a batch axis.
lanes   sixteen results side by side with both operands varying along them: the remaining batch axes.

Every sum is taken in the order of the contracted axes (``dots``: in 16 lanes and a fixed tree), cut into pieces by their
extents alone: results depend neither on threads nor on the size of tiles.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphc import config
from graphc.backends.cpu import tiling
from graphc.backends.cpu.codegen import CONTIGUOUS, LANES, Code, Emission, NoEmitter, compute_dtype, dtype_name, linear, op_cost
from graphc.backends.cpu.loops import Axis, Layout, Point, Values, constant_scalar, load_from, merge_axes
from graphc.ir import Node
from graphc.passes.access import Access, access
from graphc.passes.schedule import Kernel
from graphc.types import DType

PANELS = 256 << 10  # bytes of the packed columns of a block: half of a small second cache
WIDEST = 2048  # bytes of a row of a block at most
SUMS = 16 << 10  # bytes of the sums of a block: half of a small first cache
CHUNK = 512  # depth that a strip is computed over at a time: its rows of the left operand stay in the first cache
RESIDENT = 2048  # depth up to which all panels of a block are packed at once and kept for the next unit
STREAMED_SUMS = 128 << 10  # bytes of the sums of a block where chunks of panels are packed again for every block
DIRECT_STRIPS = 4  # strips of a block up to which packing its columns does not pay (measured)
DOT_ROWS, DOT_DEPTH = 8, 32  # `dots` is taken up to so many rows, from such a depth on

Strides = tuple[int, ...]
Deep = tuple[str, int, int, int]  # an outer contracted axis: variable, extent, stride left, stride right


# ------------------------------------------------------------------------------------------------ the problem


@dataclass(frozen=True, slots=True)
class Operand:
    """One side of the dot: element ``offset + Σ axes[k]·i_k + Σ depth[q]·j_q`` of an argument (of a constant: always 0)."""

    node: Node
    position: int | None
    offset: int
    axes: Strides
    depth: Strides

    @property
    def dtype(self) -> DType:
        return self.node.type.dtype


@dataclass(frozen=True, slots=True)
class Problem:
    """A dot over few axes: adjacent axes are merged wherever every access of the kernel is one line there.

    ``lane`` is the axis of the result that vectors run along, ``row`` the one that the rows of tiles run along (None: one
    row, or no tiles). ``left`` is constant along ``lane`` and ``right`` along ``row`` where ``tiles`` holds.
    """

    dot: Node
    layout: Layout
    extents: Strides
    depth: Strides
    left: Operand
    right: Operand
    lane: int | None
    row: int | None
    tiles: bool

    @property
    def rows(self) -> int:
        return 1 if self.row is None else self.extents[self.row]

    @property
    def columns(self) -> int:
        return 1 if self.lane is None else self.extents[self.lane]

    @property
    def outer(self) -> list[int]:
        """The other axes: first those along which the right operand varies, so that its panels are packed rarely."""
        others = [k for k in range(len(self.extents)) if k not in (self.row, self.lane)]
        return sorted(others, key=lambda k: self.right.axes[k] == 0)

    @property
    def compute(self) -> DType:
        return compute_dtype(self.dot.type.dtype)

    def along(self, operand: Operand, axis: int | None) -> int:
        return 0 if axis is None else operand.axes[axis]


def problem(kernel: Kernel) -> Problem:
    """The dot of a contraction kernel and how its operands lie in memory."""
    body = kernel.body
    dots = [node for node in body.nodes if node.op.name == "dot"]
    if len(dots) != 1:
        raise NoEmitter(body.nodes[-1], "a contraction kernel has one dot")
    dot = dots[0]
    layout = Layout(body, dot.type.shape)
    (batch_x, batch_y), (depth_x, depth_y) = dot["batch"], dot["contract"]
    x, y = (_read(kernel, node) for node in dot.inputs)
    free_x = [k for k in range(len(x.strides)) if k not in (*batch_x, *depth_x)]
    free_y = [k for k in range(len(y.strides)) if k not in (*batch_y, *depth_y)]
    along_x = (*[x.strides[k] for k in (*batch_x, *free_x)], *(0 for _ in free_y))
    along_y = (*[y.strides[k] for k in batch_y], *(0 for _ in free_x), *[y.strides[k] for k in free_y])
    owners = ["batch"] * len(batch_x) + ["x"] * len(free_x) + ["y"] * len(free_y)

    places = [layout.place(node) for node in layout.needed(body.outputs, (dot,)) if node is not dot]
    strides = [along_x, along_y, layout.stored(dot), *(place.strides for place in places if place is not None)]
    layout.axes = merge_axes([Axis((k,), n, owners[k] == "x") for k, n in enumerate(dot.type.shape)], strides)
    inner = [axis.members[-1] for axis in layout.axes]
    extents = tuple(axis.extent for axis in layout.axes)
    deep = _merge_depth(
        [dot.inputs[0].type.shape[k] for k in depth_x], [x.strides[k] for k in depth_x], [y.strides[k] for k in depth_y]
    )
    depth, deep_x, deep_y = (tuple(part[k] for part in deep) for k in range(3))
    left = Operand(dot.inputs[0], _position(kernel, x), x.offset, tuple(along_x[k] for k in inner), deep_x)
    right = Operand(dot.inputs[1], _position(kernel, y), y.offset, tuple(along_y[k] for k in inner), deep_y)

    lane = len(extents) - 1 if extents else None
    owner = "batch" if lane is None else owners[inner[lane]]
    if owner == "x":  # one column: lanes run along the rows
        left, right = right, left
    row_owner = {"x": "y", "y": "x"}.get(owner)
    rows = [k for k in range(len(extents)) if owners[inner[k]] == row_owner]
    row = max(rows, key=lambda k: extents[k]) if rows else None
    return Problem(dot, layout, extents, depth, left, right, lane, row, owner != "batch")


def _read(kernel: Kernel, node: Node) -> Access:
    if constant_scalar(node) is not None:
        return Access(node, 0, (0,) * node.type.ndim)
    found = access(node, frozenset(kernel.body.inputs))
    if found is None:
        raise NoEmitter(node, "an operand of a contraction must be an access")
    return found


def _position(kernel: Kernel, found: Access) -> int | None:
    return kernel.body.inputs.index(found.source) if found.source in kernel.body.inputs else None


def _merge_depth(extents: Sequence[int], x: Sequence[int], y: Sequence[int]) -> list[tuple[int, int, int]]:
    """The contracted axes as (extent, stride, stride), outermost first, merged where both operands are one line."""
    merged: list[tuple[int, int, int]] = []
    for n, sx, sy in sorted(zip(extents, x, y, strict=True), key=lambda axis: (-abs(axis[1]), -abs(axis[2]))):
        if n == 1:
            continue
        if merged and merged[-1][1] == sx * n and merged[-1][2] == sy * n:
            n *= merged.pop()[0]
        merged.append((n, sx, sy))
    return merged or [(1, 0, 0)]


# ------------------------------------------------------------------------------------------------ the cut into units


@dataclass(frozen=True, slots=True)
class Blocks:
    """How the result is cut: ``rows`` x ``columns`` of a unit, and how many blocks there are each way."""

    rows: int
    columns: int
    row_blocks: int
    column_blocks: int


def cut(p: Problem, tile: tiling.Tile | None, depth: int) -> Blocks:
    """Blocks by extents alone (and the height of tiles, on which no result depends).

    ``depth`` is what the columns of a block are packed for at a time: wide blocks write long rows, as long as their
    panels fit into the second cache. Sums of a block fit into the first.
    """
    element = p.compute.itemsize
    grain, height = (LANES, 1) if tile is None else (tile.columns, tile.rows)
    widest = max(min(PANELS // (max(depth, 1) * element), WIDEST // element) // grain, 1) * grain
    column_blocks = -(-p.columns // widest)
    columns = _rounded(-(-p.columns // max(column_blocks, 1)), grain)
    tallest = max(SUMS // (columns * element) // height, 1) * height
    row_blocks = -(-p.rows // tallest)
    rows = _rounded(-(-p.rows // max(row_blocks, 1)), height)
    return Blocks(rows, columns, -(-p.rows // max(rows, 1)), -(-p.columns // max(columns, 1)))


def _rounded(n: int, grain: int) -> int:
    return -(-n // grain) * grain


# ------------------------------------------------------------------------------------------------ the kernel


def contraction(kernel: Kernel) -> Code:
    """A dot and its epilogue. Operands of the dot are read by any strides; results must not share memory with them."""
    p = problem(kernel)
    if 0 in p.depth:
        return _Writer(kernel, p, "no products").write(None)
    if not p.tiles or _prefers_dots(p):
        both = p.left.depth[-1] == p.right.depth[-1] == 1 or p.depth == (1,)
        way: _Way = _Dots(p) if both else _Lanes(p)
    else:
        way = _Tiles(p, tiling.choose_tile(p.rows, p.columns, p.compute, tiling.registers(config.get(config.CPU))))
    return _Writer(kernel, p, way.title).write(way)


def _prefers_dots(p: Problem) -> bool:
    contiguous = p.left.depth[-1] == p.right.depth[-1] == 1 and p.depth[-1] >= DOT_DEPTH
    return contiguous and p.rows <= DOT_ROWS and p.along(p.right, p.lane) != 1


class _Writer:
    """The text around the sums: units, the block in scratch, and the epilogue."""

    def __init__(self, kernel: Kernel, p: Problem, title: str) -> None:
        self.kernel, self.p = kernel, p
        self.e = Emission(kernel, f"contraction, {len(p.extents)} + {len(p.depth)} axes of {dtype_name(p.dot.type.dtype)}: {title}")
        self.index = [f"i{k}" for k in range(len(p.extents))]
        self.sources: dict[Node, str] = {}

    def write(self, way: _Way | None) -> Code:
        e, p = self.e, self.p
        blocks = way.blocks if way else cut(p, None, False)
        values = Values(e, p.layout)
        top, per_row, inner = self._levels()
        if way:
            way.prepare(self)
        values.emit(top, Point((0,) * len(self.index), None))
        if way is None:
            e.line(f"total = splat(0, {dtype_name(p.compute)})", "no products")
        units = self._units(blocks)
        e.line(f"first, last = share({' * '.join(units) or '1'}, 1, thread, threads)")
        with e.block("for unit in range(first, last):"):
            self._decode(blocks)
            if way:
                way.sums(self)
            self._epilogue(way, values, per_row, inner)
        count = blocks.row_blocks * blocks.column_blocks * math.prod(p.extents[k] for k in p.outer)
        return e.code(count, self._work(way))

    # -------------------------------------------------------------------------------------------- units

    def _units(self, blocks: Blocks) -> list[str]:
        e, p = self.e, self.p
        e.word(p.rows, "rows")
        e.word(p.columns, "columns")
        e.word(blocks.rows, "block_rows")
        e.word(blocks.columns, "block_columns")
        factors = [e.word(blocks.row_blocks, "row_blocks"), e.word(blocks.column_blocks, "column_blocks")]
        return factors + [e.word(p.extents[k], f"n{k}") for k in p.outer]

    def _decode(self, blocks: Blocks) -> None:
        """A unit's number → its place: row blocks run fastest, then axes without the right operand, then column blocks."""
        e, p = self.e, self.p
        e.line("row_low = unit % row_blocks * block_rows")
        e.line("row_high = min(row_low + block_rows, rows)")
        e.line("rest = unit // row_blocks")
        inside = [k for k in p.outer if p.right.axes[k] == 0]
        around = [k for k in p.outer if k not in inside]
        for k in reversed(inside):
            self._digit(self.index[k], f"n{k}")
        e.line("low = rest % column_blocks * block_columns")
        e.line("high = min(low + block_columns, columns)")
        e.line("rest = rest // column_blocks")
        for k in reversed(around):
            self._digit(self.index[k], f"n{k}")

    def _digit(self, name: str, extent: str) -> None:
        self.e.line(f"{name} = rest % {extent}")
        self.e.line(f"rest = rest // {extent}")

    # -------------------------------------------------------------------------------------------- memory

    def source(self, operand: Operand) -> str:
        """The pointer to an operand's first element."""
        if operand.position is not None:
            return self.e.pointer(operand.position, operand.offset * operand.dtype.itemsize, (*operand.axes, *operand.depth))
        if operand.node not in self.sources:
            constant = constant_scalar(operand.node)
            assert constant is not None
            name = self.sources[operand.node] = f"filled{len(self.sources)}"
            element = dtype_name(operand.dtype)
            value = self.e.param(operand.dtype, constant["value"].value.reshape(()), constant)
            self.e.line(f"{name} = stack({element}, {LANES})", "a constant in every place")
            self.e.line(f"store({name}, 0, {value}, {element}, -1)")
        return self.sources[operand.node]

    def at(self, operand: Operand) -> str:
        """The text of an operand's element at the unit's place on the outer axes."""
        return linear(*((self.index[k], operand.axes[k]) for k in self.p.outer))

    def room(self, name: str, count: int, element: DType) -> None:
        """``name`` points to scratch for ``count`` elements from here on."""
        self.e.line(f"{name} = {self.e.scratch(count * element.itemsize)}")

    # -------------------------------------------------------------------------------------------- epilogue

    def _levels(self) -> tuple[list[Node], list[Node], list[Node]]:
        """The epilogue's nodes by where they are computed: once, once per row, once per vector."""
        p, layout = self.p, self.p.layout
        found: dict[Node, int] = {p.dot: 2}
        levels: tuple[list[Node], list[Node], list[Node]] = ([], [], [])
        for node in layout.needed(self.kernel.body.outputs, (p.dot,)):
            if node is p.dot:
                continue
            place = layout.place(node)
            if place is not None:
                found[node] = 2 if p.lane is not None and place.strides[p.lane] else 1 if any(place.strides) else 0
            elif node.op.kind == "random":
                found[node] = 2
            else:
                found[node] = max((found[x] for x in node.inputs if x in found), default=0)
            levels[found[node]].append(node)
        return levels

    def _epilogue(self, way: _Way | None, values: Values, per_row: list[Node], inner: list[Node]) -> None:
        e, p = self.e, self.p
        row = "row" if p.row is None else self.index[p.row]
        with e.block(f"for {row} in range(row_low, row_high):"):
            of_row = values.child()
            of_row.emit(per_row, Point(tuple(self.index), None))
            lane = "j" if p.lane is None else self.index[p.lane]
            at_row = way.row(self, row) if way else ""
            for lanes in self._vectors(lane):
                inside = of_row.child("" if lanes is None else "_")
                if way:
                    name = f"v{e.numbers[p.dot]}{inside.suffix}"
                    scope = len(e.types)
                    element = f"{at_row} * width + {lane} - {way.edge}"
                    comment = f"v{e.numbers[p.dot]}: {p.dot.type.dtype} = dot"
                    e.line(f"{name} = load(sums, {element}, {dtype_name(p.compute)}, {scope})", comment)
                    inside.set(p.dot, name)
                else:
                    inside.set(p.dot, "total")
                at = Point(tuple(self.index), p.lane, lanes)
                inside.emit(inner, at)
                for position, node in enumerate(self.kernel.body.outputs, len(self.kernel.body.inputs)):
                    inside.store(position, node, at)

    def _vectors(self, lane: str) -> Iterator[str | int | None]:
        """The loop over whole vectors of a row, then the ragged rest."""
        e, p = self.e, self.p
        if p.lane is None:
            e.line(f"{lane} = low")
            yield 1
            return
        known = p.lane != 0  # the outermost extent is no part of the text
        if known and p.columns < LANES:
            e.line(f"{lane} = 0")
            yield p.columns
            return
        with e.block(f"for {lane} in range(low, high - {LANES - 1}, {LANES}):"):
            yield None
        if known and p.columns % LANES == 0:
            return
        with e.block(f"if high - low & {LANES - 1} > 0:"):
            e.line(f"ragged = high - low & {LANES - 1}")
            e.line(f"{lane} = high - ragged")
            yield "ragged"

    def _work(self, way: _Way | None) -> float:
        p = self.p
        size = math.prod(p.extents)
        vectors = size / LANES
        nodes = [n for n in p.layout.needed(self.kernel.body.outputs, (p.dot,)) if n is not p.dot]
        epilogue = sum(CONTIGUOUS if p.layout.place(n) else op_cost(n) for n in nodes)
        epilogue += CONTIGUOUS * (1 + len(self.kernel.body.outputs))
        return vectors * epilogue + (size * math.prod(p.depth) * way.cost if way else 0.0)


# ------------------------------------------------------------------------------------------------ ways to build the sums


class _Way:
    """How the sums of a unit get into ``sums``: element ``(row - top) * width + column - edge``."""

    top, edge = "row_low", "low"

    def __init__(self, p: Problem, title: str, blocks: Blocks, cost: float) -> None:
        self.p, self.title, self.blocks, self.cost = p, title, blocks, cost

    def prepare(self, w: _Writer) -> None:
        """Lines before the loop over units: strides, scratch."""
        p = self.p
        w.e.word(self.blocks.columns, "width")
        w.e.word(p.along(p.left, p.row), "a_row")
        w.e.word(p.along(p.right, p.lane), "b_column")
        w.e.word(p.depth[-1], "depth")
        w.e.word(p.left.depth[-1], "a_step")
        w.e.word(p.right.depth[-1], "b_step")
        self.left, self.right = w.source(p.left), w.source(p.right)
        self.a_type, self.b_type, self.c_type = (dtype_name(t) for t in (p.left.dtype, p.right.dtype, p.compute))

    def sums(self, w: _Writer) -> None:
        raise NotImplementedError

    def row(self, w: _Writer, row: str) -> str:
        """The text of the row of ``sums`` where row ``row`` of the result is."""
        return f"({row} - {self.top})"

    def deep_loops(self, w: _Writer) -> list[Deep]:
        """The outer contracted axes as (variable, extent, stride left, stride right)."""
        p = self.p
        return [(f"q{k}", p.depth[k], p.left.depth[k], p.right.depth[k]) for k in range(len(p.depth) - 1)]


@contextlib.contextmanager
def _nested(e: Emission, loops: Sequence[tuple[str, str]]) -> Iterator[None]:
    """Blocks ``for variable in range(…)`` inside each other."""
    with contextlib.ExitStack() as stack:
        for variable, extent in loops:
            stack.enter_context(e.block(f"for {variable} in range({extent}):"))
        yield


@contextlib.contextmanager
def _chunks(e: Emission) -> Iterator[None]:
    """The loop over the innermost contracted axis: ``some`` places from ``k`` on."""
    e.line("k = 0")
    with e.block("while k < depth:"):
        e.line("some = min(chunk, depth - k)")
        yield
        e.line("k = k + chunk")


class _Tiles(_Way):
    """Strips of register tiles."""

    def __init__(self, p: Problem, tile: tiling.Tile) -> None:
        self.tile = tile
        total = math.prod(p.depth)
        strips = -(-p.rows // tile.rows)
        fits = p.along(p.right, p.lane) == 1 and p.right.dtype is p.compute and p.columns >= tile.columns
        self.packed = not (fits and strips <= DIRECT_STRIPS)
        self.streamed = self.packed and total > RESIDENT
        self.widened = p.left.dtype is not p.compute
        chunks = -(-p.depth[-1] // CHUNK)
        self.chunk = -(-p.depth[-1] // chunks)
        how = "streamed panels" if self.streamed else "panels" if self.packed else "no packing"
        speed = 60.0 if tile.lanes * tile.vectors * p.compute.itemsize >= 128 else 25.0
        title = f"tiles of {tile.rows} x {tile.columns}, {how}"
        super().__init__(p, title, cut(p, tile, self.streamed), p.compute.itemsize / 4 / speed)
        self.top = "top"
        self.edge = "low" if self.packed else "edge"

    def prepare(self, w: _Writer) -> None:
        super().prepare(w)
        p, tile, blocks = self.p, self.tile, self.blocks
        w.e.require(tiling.strip(p.compute, tile))
        w.room("sums", (blocks.rows + tile.rows) * blocks.columns + LANES, p.compute)
        w.e.word(self.chunk, "chunk")
        if self.packed:
            w.e.require(tiling.pack(p.right.dtype, tile.columns))
            depth = self.chunk if self.streamed else math.prod(p.depth)
            w.room("panels", blocks.columns * depth + LANES, p.compute)
        if self.widened:
            w.e.require(tiling.widen(p.left.dtype))
            w.room("wide", tile.rows * self.chunk + LANES, p.compute)
        if self.packed and not self.streamed:
            w.e.line(f"packed = 0 - {1 << 62}", "where the packed columns start in the right operand")

    def sums(self, w: _Writer) -> None:
        e, tile = w.e, self.tile
        e.line(f"top = min(row_low, rows - {tile.rows})", "a last strip that is short starts earlier")
        e.line(f"a_at = {w.at(self.p.left)}")
        if not self.packed:
            e.line(f"edge = min(low, columns - {tile.columns})")
        e.line(f"b_at = {linear((w.at(self.p.right), 1))} + {self.edge} * b_column")
        if self.packed:
            e.line(f"count = (high - low + {tile.columns - 1}) // {tile.columns}")
        if self.streamed:
            self._streamed(w)
            return
        if self.packed:
            self._pack_all(w)
        with e.block(f"for i in range(top, row_high, {tile.rows}):"):
            e.line(f"strip = min(i, row_high - {tile.rows})")
            self._strip(w)

    def _pack_all(self, w: _Writer) -> None:
        """All panels of the block, one region for each place on the outer contracted axes."""
        e = w.e
        with e.block("if packed != b_at:"):
            deep = self.deep_loops(w)
            with _nested(e, [(q, str(n)) for q, n, _, _ in deep]):
                source = linear(("b_at", 1), *((q, right) for q, _, _, right in deep))
                self._pack(w, source, self._region(deep), "depth")
            e.line("packed = b_at")

    def _region(self, deep: Sequence[Deep]) -> str:
        """The first element of the panels for a place on the outer contracted axes."""
        if not deep:
            return "0"
        number = deep[0][0]
        for q, n, _, _ in deep[1:]:
            number = f"({number} * {n} + {q})"
        return f"{number} * count * {self.tile.columns} * depth"

    def _pack(self, w: _Writer, source: str, into: str, depth: str) -> None:
        target = "panels" if into == "0" else f"advance(panels, {into}, {self.c_type})"
        w.e.line(
            f"tile_pack(advance({self.right}, {source}, {self.b_type}), b_step, b_column, {target}, {depth}, high - low, "
            f"{self.b_type}, {self.tile.columns})"
        )

    def _strip(self, w: _Writer) -> None:
        """One strip over the whole depth, a chunk at a time."""
        e, tile = w.e, self.tile
        deep = self.deep_loops(w)
        if not self.packed:
            right = linear(("b_at + k * b_step", 1), *((q, s) for q, _, _, s in deep))
            e.line(f"count = (high - edge) // {tile.columns}")
            self._chunked(w, f"advance({self.right}, {right}, {self.b_type})", "b_step", str(tile.columns), "count", "0")
            if self.p.lane == 0 or self.p.columns % tile.columns:
                with e.block(f"if count * {tile.columns} < high - edge:", "the last columns once more, as a whole panel"):
                    e.line(f"back = high - edge - {tile.columns}")
                    self._chunked(w, f"advance({self.right}, {right} + back, {self.b_type})", "b_step", "0", "1", "back")
            return
        start = f"{self._region(deep)} + k * {tile.columns}" if deep else f"k * {tile.columns}"
        panels = f"advance(panels, {start}, {self.c_type})"
        self._chunked(w, panels, str(tile.columns), f"{tile.columns} * depth", "count", "0")

    def _chunked(self, w: _Writer, right: str, step: str, panel: str, count: str, column: str) -> None:
        deep = self.deep_loops(w)
        with _nested(w.e, [(q, str(n)) for q, n, _, _ in deep]), _chunks(w.e):
            self._call(w, right, step, panel, count, column, "(strip - top)")

    def _call(self, w: _Writer, right: str, step: str, panel: str, count: str, column: str, row: str) -> None:
        """Call the micro-kernel for ``some`` of the depth; a left operand of half floats is widened first."""
        e, tile = w.e, self.tile
        deep = self.deep_loops(w)
        strides = "a_row, a_step"
        left = linear(("a_at + strip * a_row + k * a_step", 1), *((q, s) for q, _, s, _ in deep))
        more = " + ".join([*(q for q, _, _, _ in deep), "k"])
        source = f"advance({self.left}, {left}, {self.a_type})"
        if self.widened:
            if self.p.along(self.p.left, self.p.row) == 1:
                widen, strides = f"a_step, a_row, wide, {tile.rows}, some, {tile.rows}", f"1, {tile.rows}"
            else:
                widen, strides = f"a_row, a_step, wide, some, {tile.rows}, some", "some, 1"
            e.line(f"tile_widen({source}, {widen}, {self.a_type})")
            source = "wide"
        into = f"{row} * width" + (f" + {column}" if column != "0" else "")
        e.line(
            f"tile_strip({source}, {strides}, {right}, {step}, {panel}, {count}, advance(sums, {into}, {self.c_type}), width, "
            f"some, {more}, {self.c_type}, {tile.rows}, {tile.vectors}, {tile.lanes})"
        )

    def _streamed(self, w: _Writer) -> None:
        """Deep contractions: pack a chunk, add its products to the whole block, go on.

        Rows that the last strip has in common with the one before are added up twice, in places of their own: those of
        the last strip are ``again`` rows further on.
        """
        e, tile = w.e, self.tile
        deep = self.deep_loops(w)
        e.line(f"turn = top + (row_high - top - 1) // {tile.rows} * {tile.rows}")
        e.line(f"again = turn + {tile.rows} - row_high")
        with _nested(e, [(q, str(n)) for q, n, _, _ in deep]), _chunks(e):
            self._pack(w, linear(("b_at + k * b_step", 1), *((q, s) for q, _, _, s in deep)), "0", "some")
            with e.block(f"for i in range(top, row_high, {tile.rows}):"):
                e.line(f"strip = min(i, row_high - {tile.rows})")
                self._call(w, "panels", str(tile.columns), f"{tile.columns} * some", "count", "0", "(i - top)")

    def row(self, w: _Writer, row: str) -> str:
        if not self.streamed:
            return super().row(w, row)
        w.e.line(f"at = {row} - top")
        with w.e.block(f"if {row} >= turn:"):
            w.e.line("at = at + again")
        return "at"


class _Dots(_Way):
    """Dot products along contiguous depth, a row at a time."""

    def __init__(self, p: Problem) -> None:
        super().__init__(p, "dot products", cut(p, None, False), 1 / 12.0)

    def prepare(self, w: _Writer) -> None:
        super().prepare(w)
        w.e.require(tiling.dots(self.p.left.dtype))
        w.room("sums", self.blocks.rows * self.blocks.columns + LANES, self.p.compute)
        w.e.word(self.p.along(self.p.left, self.p.lane), "a_column")

    def sums(self, w: _Writer) -> None:
        e = w.e
        deep = self.deep_loops(w)
        e.line(f"a_at = {w.at(self.p.left)} + low * a_column")
        e.line(f"b_at = {w.at(self.p.right)} + low * b_column")
        with e.block("for i in range(row_low, row_high):"), _nested(e, [(q, str(n)) for q, n, _, _ in deep]):
            left = linear(("a_at + i * a_row", 1), *((q, s) for q, _, s, _ in deep))
            right = linear(("b_at", 1), *((q, s) for q, _, _, s in deep))
            e.line(
                f"tile_dots(advance({self.left}, {left}, {self.a_type}), a_column, advance({self.right}, {right}, {self.b_type}), "
                f"b_column, advance(sums, (i - row_low) * width, {self.c_type}), high - low, depth, "
                f"{' + '.join(q for q, _, _, _ in deep) or '0'}, {self.a_type})"
            )


class _Lanes(_Way):
    """Sixteen sums side by side; both operands vary along the lanes (or neither does)."""

    def __init__(self, p: Problem) -> None:
        super().__init__(p, "lanes", cut(p, None, False), 1 / 4.0)

    def prepare(self, w: _Writer) -> None:
        super().prepare(w)
        w.room("sums", self.blocks.rows * self.blocks.columns + LANES, self.p.compute)

    def sums(self, w: _Writer) -> None:
        e, p = w.e, self.p
        deep = [*self.deep_loops(w), ("k", p.depth[-1], p.left.depth[-1], p.right.depth[-1])]
        e.line(f"a_at = {w.at(p.left)}")
        e.line(f"b_at = {w.at(p.right)}")
        with e.block(f"for j in range(low, high, {LANES}):"):
            e.line(f"total = splat(0, {self.c_type})")
            with _nested(e, [*((q, str(n)) for q, n, _, _ in deep[:-1]), ("k", "depth")]):
                factors = []
                for pointer, operand, at, side in ((self.left, p.left, "a_at", 2), (self.right, p.right, "b_at", 3)):
                    stride = p.along(operand, p.lane)
                    place = Point((at, "j", *(q[0] for q in deep)), 1, "high - j")
                    strides = (1, stride, *(q[side] for q in deep))
                    factors.append(load_from(pointer, strides, operand.dtype, -1, place))
                e.line(f"total = total + {factors[0]} * {factors[1]}")
            e.line(f"store(sums, j - low, total, {self.c_type}, {len(e.types)})")
