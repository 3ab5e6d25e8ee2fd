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
from graphc.backends.cpu.codegen import LANES, Code, Emission, NoEmitter, compute_dtype, dtype_name, linear
from graphc.backends.cpu.epilogue import Epilogue
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
FAR, CACHE_LINE = 192, 64  # the same where the left operand jumps so many bytes at each step
STREAMED, STREAMED_ROW, STREAMED_SUMS = 384, 1024, 192 << 10  # chunk; bytes of a row of a block; bytes of its sums
PAD = 16  # elements between rows of sums: rows a power of two apart would fall on one another in the cache
DIRECT_STRIPS = 4  # strips of a block up to which packing its columns does not pay (measured)
DOT_ROWS, DOT_DEPTH = 8, 32  # `dots` is taken up to so many rows, from such a depth on

Strides = tuple[int, ...]


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
    flat, layout = Layout(body, dot.type.shape), Layout(body, dot.type.shape)
    (batch_x, batch_y), (depth_x, depth_y) = dot["batch"], dot["contract"]
    x, y = (_read(kernel, node) for node in dot.inputs)
    free_x = [k for k in range(len(x.strides)) if k not in (*batch_x, *depth_x)]
    free_y = [k for k in range(len(y.strides)) if k not in (*batch_y, *depth_y)]
    along_x = (*[x.strides[k] for k in (*batch_x, *free_x)], *(0 for _ in free_y))
    along_y = (*[y.strides[k] for k in batch_y], *(0 for _ in free_x), *[y.strides[k] for k in free_y])
    owners = ["batch"] * len(batch_x) + ["x"] * len(free_x) + ["y"] * len(free_y)

    places = [flat.place(node) for node in flat.needed(body.outputs, (dot,)) if node is not dot]
    strides = [along_x, along_y, flat.stored(dot), *(place.strides for place in places if place is not None)]
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


def cut(p: Problem, tile: tiling.Tile | None, depth: int, streamed: bool = False) -> Blocks:
    """Blocks by extents alone (and the height of tiles, on which no result depends).

    ``depth`` is what the columns of a block are packed for at a time: wide blocks write long rows, as long as their
    panels fit into the second cache. Sums of a block fit into the first, but where chunks are packed for every block.
    """
    element = p.compute.itemsize
    grain, height = (LANES, 1) if tile is None else (tile.columns, tile.rows)
    longest = STREAMED_ROW if streamed else min(PANELS // max(depth, 1), WIDEST)
    widest = max(longest // element // grain, 1) * grain
    column_blocks = -(-p.columns // widest)
    columns = _rounded(-(-p.columns // max(column_blocks, 1)), grain)
    tallest = max((STREAMED_SUMS if streamed else SUMS) // (columns * element) // height, 1) * height
    row_blocks = -(-p.rows // tallest)
    rows = _rounded(-(-p.rows // max(row_blocks, 1)), height)
    return Blocks(rows, columns, -(-p.rows // max(rows, 1)), -(-p.columns // max(columns, 1)))


def _rounded(n: int, grain: int) -> int:
    return -(-n // grain) * grain


# ------------------------------------------------------------------------------------------------ the kernel


def contraction(kernel: Kernel) -> Code:
    """A dot and its epilogue. Operands of the dot are read by any strides; results must not share memory with them."""
    p = problem(kernel)
    if 0 in p.extents:
        return Emission(kernel, "contraction without elements").code(1, 0.0)
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
        axes = f"{len(p.extents)} + {len(p.depth)} axes of {dtype_name(p.dot.type.dtype)}"
        self.e = Emission(kernel, f"contraction, {axes}: {title}")
        self.epilogue = Epilogue(self.e, p.dot, p.layout, p.lane)
        self.index = [f"i{k}" for k in range(len(p.extents))]
        self.sources: dict[Node, str] = {}

    def write(self, way: _Way | None) -> Code:
        e, p = self.e, self.p
        blocks = way.blocks if way else cut(p, None, 0)
        if way:
            way.prepare(self)
        else:
            e.line(f"total = splat(0, {dtype_name(p.compute)})", "no products")
        values = self.epilogue.start()
        units = self._units(blocks)
        e.line(f"first, last = share({' * '.join(units)}, 1, thread, threads)")
        with e.block("for unit in range(first, last):"):
            self._decode()
            if way:
                way.sums(self)
            self._epilogue(way, values)
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

    def _decode(self) -> None:
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
            return self.e.pointer(
                operand.position, operand.offset * operand.dtype.itemsize, (*operand.axes, *operand.depth)
            )
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

    def _epilogue(self, way: _Way | None, values: Values) -> None:
        row = "row" if self.p.row is None else self.index[self.p.row]
        lane = "j" if self.p.lane is None else self.index[self.p.lane]
        with self.e.block(f"for {row} in range(row_low, row_high):"):
            of_row = self.epilogue.row(values, self.index)
            for lanes in self._vectors(lane):
                total = "total"
                if way:
                    total = self.epilogue.load_sums(f"({row} - {way.top}) * width + {lane} - {way.edge}")
                self.epilogue.vector(of_row, self.index, lanes, total)

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
        size = math.prod(self.p.extents)
        sums = size * math.prod(self.p.depth) * way.cost if way else 0.0
        return size / LANES * self.epilogue.cost + sums


# ------------------------------------------------------------------------------------------------ ways to build the sums


class _Way:
    """How the sums of a unit get into ``sums``: element ``(row - top) * width + column - edge``."""

    top, edge = "row_low", "low"

    def __init__(self, p: Problem, title: str, blocks: Blocks, cost: float) -> None:
        self.p, self.title, self.blocks, self.cost = p, title, blocks, cost
        self.a_type, self.b_type, self.c_type = (dtype_name(t) for t in (p.left.dtype, p.right.dtype, p.compute))
        #: the outer contracted axes: variable, extent, stride of the left operand, stride of the right operand
        self.deep = [(f"q{k}", p.depth[k], p.left.depth[k], p.right.depth[k]) for k in range(len(p.depth) - 1)]

    def prepare(self, w: _Writer) -> None:
        """Lines before the loop over units: strides and scratch."""
        p, blocks = self.p, self.blocks
        w.e.word(blocks.columns + PAD, "width")
        w.e.word(p.along(p.left, p.row), "a_row")
        w.e.word(p.along(p.right, p.lane), "b_column")
        w.e.word(p.depth[-1], "depth")
        w.e.word(p.left.depth[-1], "a_step")
        w.e.word(p.right.depth[-1], "b_step")
        self.left, self.right = w.source(p.left), w.source(p.right)
        w.room("sums", (blocks.rows + self.height) * (blocks.columns + PAD), p.compute)

    #: rows of sums beyond those of the block
    height = 0

    def sums(self, w: _Writer) -> None:
        """Lines that make the sums of a unit."""
        raise NotImplementedError

    def over_deep(self, e: Emission) -> contextlib.AbstractContextManager[None]:
        """Loops over the outer contracted axes."""
        return _nested(e, [(q, str(n)) for q, n, _, _ in self.deep])

    def left_at(self, element: str) -> str:
        return f"advance({self.left}, {linear((element, 1), *((q, s) for q, _, s, _ in self.deep))}, {self.a_type})"

    def right_at(self, element: str) -> str:
        return f"advance({self.right}, {linear((element, 1), *((q, s) for q, _, _, s in self.deep))}, {self.b_type})"

    def more(self, *inner: str) -> str:
        """An expression that is 0 at the first place of the contracted axes: from there on, sums are added to."""
        return " + ".join([*(q for q, _, _, _ in self.deep), *inner]) or "0"


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
    """Strips of register tiles.

    A block's rows are cut into strips from the top; the last one is shifted up where it would not be whole. The right
    operand is read where it lies (``direct``), packed for a block and kept for the next unit, or, where the depth is too
    long for that, streamed: a chunk is packed and its products are added to the whole block.
    """

    def __init__(self, p: Problem, tile: tiling.Tile) -> None:
        self.tile, self.height = tile, tile.rows
        strips = -(-p.rows // tile.rows)
        fits = p.along(p.right, p.lane) == 1 and p.right.dtype is p.compute and p.columns >= tile.columns
        self.direct = fits and strips <= DIRECT_STRIPS
        far = abs(p.left.depth[-1]) * p.compute.itemsize >= CACHE_LINE
        self.streamed = not self.direct and math.prod(p.depth) > (FAR if far else RESIDENT)
        chunk = STREAMED if self.streamed else CHUNK
        self.chunk = -(-p.depth[-1] // -(-p.depth[-1] // chunk))
        self.pack_left = p.left.dtype is not p.compute or self.streamed
        self.top = "row_low" if self.streamed else "top"
        self.edge = "edge" if self.direct else "low"
        how = "no packing" if self.direct else "streamed panels" if self.streamed else "panels"
        title = f"tiles of {tile.rows} x {tile.columns}, {how}" + (", left packed" if self.pack_left else "")
        speed = 60.0 if tile.lanes * tile.vectors * p.compute.itemsize >= 128 else 25.0
        super().__init__(
            p, title, cut(p, tile, self.chunk if self.streamed else math.prod(p.depth), self.streamed), 1 / speed
        )

    def prepare(self, w: _Writer) -> None:
        super().prepare(w)
        p, tile, blocks = self.p, self.tile, self.blocks
        w.e.require(tiling.strip(p.compute, tile))
        w.e.word(self.chunk, "chunk")
        if not self.direct:
            w.e.require(tiling.pack(p.right.dtype, tile.columns))
            w.room("panels", blocks.columns * (self.chunk if self.streamed else math.prod(p.depth)) + LANES, p.compute)
        if self.pack_left:
            w.e.require(tiling.pack(p.left.dtype, tile.rows))
            w.room("lefts", (blocks.rows if self.streamed else tile.rows) * self.chunk + LANES, p.compute)
        if not (self.direct or self.streamed):
            w.e.line(f"packed = 0 - {1 << 62}", "where the packed columns start in the right operand")

    def sums(self, w: _Writer) -> None:
        e, tile = w.e, self.tile
        if not self.streamed:
            e.line(f"top = min(row_low, rows - {tile.rows})")
        e.line(f"a_at = {w.at(self.p.left)}")
        if self.direct:
            e.line(f"edge = min(low, columns - {tile.columns})")
            e.line(f"b_at = {w.at(self.p.right)} + edge * b_column")
        else:
            e.line(f"b_at = {w.at(self.p.right)} + low * b_column")
            e.line(f"count = (high - low + {tile.columns - 1}) // {tile.columns}")
        if self.direct:
            self._direct(w)
        elif self.streamed:
            self._streamed(w)
        else:
            self._resident(w)

    def _resident(self, w: _Writer) -> None:
        """All panels of the block, one region for each place on the outer contracted axes; then strip after strip."""
        e = w.e
        number = "0"
        for q, n, _, _ in self.deep:
            number = q if number == "0" else f"({number} * {n} + {q})"
        region = "" if number == "0" else f"{number} * count * {self.tile.columns} * depth + "
        with e.block("if packed != b_at:"):
            with self.over_deep(e):
                self._pack_right(w, self.right_at("b_at"), f"advance(panels, {region}0, {self.c_type})", "depth")
            e.line("packed = b_at")
        with self._strips(w), self.over_deep(e), _chunks(e):
            panels = f"advance(panels, {region}k * {self.tile.columns}, {self.c_type})"
            self._call(w, panels, str(self.tile.columns), f"{self.tile.columns} * depth", "count", "strip - top")

    def _direct(self, w: _Writer) -> None:
        """Columns where they lie; those of a last panel that is not whole are computed once more, as a whole panel."""
        e, tile = w.e, self.tile
        with self._strips(w):
            e.line(f"count = (high - edge) // {tile.columns}")
            with self.over_deep(e), _chunks(e):
                self._call(w, self.right_at("b_at + k * b_step"), "b_step", str(tile.columns), "count", "strip - top")
            if self.p.lane != 0 and self.p.columns % tile.columns == 0:
                return
            with e.block(f"if count * {tile.columns} < high - edge:"):
                e.line(f"back = high - edge - {tile.columns}")
                with self.over_deep(e), _chunks(e):
                    last = self.right_at("b_at + k * b_step + back")
                    self._call(w, last, "b_step", "0", "1", "strip - top", "back")

    def _streamed(self, w: _Writer) -> None:
        e, tile = w.e, self.tile
        with self.over_deep(e), _chunks(e):
            self._pack_right(w, self.right_at("b_at + k * b_step"), "panels", "some")
            self._pack_left(w, "row_low", "row_high - row_low")
            with e.block(f"for strip in range(row_low, row_high, {tile.rows}):"):
                left = f"advance(lefts, (strip - row_low) * some, {self.c_type})"
                self._call(
                    w, "panels", str(tile.columns), f"{tile.columns} * some", "count", "strip - row_low", left=left
                )

    @contextlib.contextmanager
    def _strips(self, w: _Writer) -> Iterator[None]:
        with w.e.block(f"for i in range(top, row_high, {self.tile.rows}):"):
            w.e.line(
                f"strip = min(i, row_high - {self.tile.rows})", "the last strip starts early rather than being short"
            )
            yield

    def _pack_right(self, w: _Writer, source: str, target: str, depth: str) -> None:
        arguments = f"{source}, b_step, b_column, {target}, {depth}, high - low, {self.b_type}, {self.tile.columns}"
        w.e.line(f"tile_pack({arguments})")

    def _pack_left(self, w: _Writer, row: str, count: str) -> None:
        left = self.left_at(f"a_at + {row} * a_row + k * a_step")
        w.e.line(f"tile_pack({left}, a_step, a_row, lefts, some, {count}, {self.a_type}, {self.tile.rows})")

    def _call(
        self, w: _Writer, right: str, step: str, panel: str, count: str, row: str, column: str = "", left: str = ""
    ) -> None:
        """Call the micro-kernel for one strip and ``some`` of the depth; ``left`` are its packed rows, if they are."""
        e, tile = w.e, self.tile
        if self.pack_left and not left:
            left = "lefts"
            self._pack_left(w, "strip", str(tile.rows))
        strides = f"1, {tile.rows}" if left else "a_row, a_step"
        left = left or self.left_at("a_at + strip * a_row + k * a_step")
        into = f"advance(sums, ({row}) * width{' + ' + column if column else ''}, {self.c_type})"
        e.line(
            f"tile_strip({left}, {strides}, {right}, {step}, {panel}, {count}, {into}, width, some, {self.more('k')}, "
            f"{self.c_type}, {tile.rows}, {tile.vectors}, {tile.lanes})"
        )


class _Dots(_Way):
    """Dot products along contiguous depth, a row at a time."""

    def __init__(self, p: Problem) -> None:
        super().__init__(p, "dot products", cut(p, None, math.prod(p.depth)), 1 / 16)

    def prepare(self, w: _Writer) -> None:
        super().prepare(w)
        w.e.require(tiling.dots(self.p.left.dtype))
        w.e.word(self.p.along(self.p.left, self.p.lane), "a_column")

    def sums(self, w: _Writer) -> None:
        e = w.e
        e.line(f"a_at = {w.at(self.p.left)} + low * a_column")
        e.line(f"b_at = {w.at(self.p.right)} + low * b_column")
        with e.block("for i in range(row_low, row_high):"), self.over_deep(e):
            e.line(
                f"tile_dots({self.left_at('a_at + i * a_row')}, a_column, {self.right_at('b_at')}, b_column, "
                f"advance(sums, (i - row_low) * width, {self.c_type}), high - low, depth, {self.more()}, {self.a_type})"
            )


class _Lanes(_Way):
    """Sixteen sums side by side; both operands vary along the lanes (or neither does)."""

    def __init__(self, p: Problem) -> None:
        super().__init__(p, "lanes", cut(p, None, math.prod(p.depth)), 1 / 4)

    def sums(self, w: _Writer) -> None:
        e, p = w.e, self.p
        e.line(f"a_at = {w.at(p.left)}")
        e.line(f"b_at = {w.at(p.right)}")
        with e.block(f"for j in range(low, high, {LANES}):"):
            e.line(f"total = splat(0, {self.c_type})")
            with self.over_deep(e), e.block("for k in range(depth):"):
                place = Point(("0", "j"), 1, "high - j")
                a = load_from(self.left_at("a_at + k * a_step"), (0, p.along(p.left, p.lane)), p.left.dtype, -1, place)
                b = load_from(
                    self.right_at("b_at + k * b_step"), (0, p.along(p.right, p.lane)), p.right.dtype, -1, place
                )
                e.line(f"total = total + {a} * {b}")
            e.line(f"store(sums, j - low, total, {self.c_type}, {w.epilogue.sums_scope})")
