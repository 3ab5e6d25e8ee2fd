"""Emitter of contractions: one batched dot, then elementwise nodes at its shape (the epilogue).

A work unit is a block of rows times a block of columns. Its sums are built in scratch by the routines of
:mod:`graphc.backends.cpu.tiling`, which all contractions share; then the epilogue runs over the block while it is in the
cache, and stores the results. Three ways to build the sums:

tiles   strips of register tiles; the columns of the right operand are packed into panels, or read where they lie.
dots    dot products along contiguous depth, for few rows, and where the last axis of the result is a batch axis.
lanes   sixteen results side by side with both operands varying along them: the remaining batch axes.

Every sum is taken in the order of the contracted axes (``dots``: in 16 lanes and a fixed tree), cut into pieces by their
extents alone: results depend neither on threads nor on the size of tiles. Where there are few and long sums, each is
taken in several parts, which are units of their own; a second step adds them up and does the epilogue.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from graphc import config
from graphc.backends.cpu import tiling
from graphc.backends.cpu.codegen import LANES, Code, Emission, dtype_name, linear
from graphc.backends.cpu.epilogue import Epilogue
from graphc.backends.cpu.loops import Point, Values, constant_scalar, load_from
from graphc.backends.cpu.product import SUMS, Blocks, Operand, Problem, cut, problem
from graphc.ir import Node
from graphc.passes.schedule import Kernel
from graphc.types import DType

CHUNK = 512  # depth that a strip is computed over at a time: its rows of the left operand stay in the first cache
RESIDENT = 2048  # depth up to which all panels of a block are packed at once and kept for the next unit
FAR, CACHE_LINE = 192, 64  # the same where the left operand jumps so many bytes at each step
STREAMED = 384  # chunk where panels are streamed
PAD = 16  # elements between rows of sums: rows a power of two apart would fall on one another in the cache
#: Packing the columns does not pay up to so many rows (measured), of columns that fit into the second cache; far larger
#: ones are read line by line, so packing them is faster but for very few rows. Less than a vector is always packed.
DIRECT_ROWS, DIRECT_BYTES, DIRECT_FEW, DIRECT_COLUMNS = 48, 2 << 20, 4, 16
DIRECT_CHUNK = 64  # depth at a time of columns that lie where they lie, and do not fit into the caches
ADDED = 0.05  # nanoseconds of adding an element of one part
GROUP = 48  # rows that are added up before all: a multiple of the height of any tile that is not the only one
DOT_ROWS, DOT_DEPTH = 8, 32  # `dots` is taken up to so many rows, from such a depth on

# ------------------------------------------------------------------------------------------------ the kernel


def contraction(kernel: Kernel) -> Code:
    """A dot and its epilogue. Operands of the dot are read by any strides; results must not share memory with them."""
    p = problem(kernel)
    if 0 in p.extents:
        return Emission(kernel, "contraction without elements").code(1, 0.0)
    if 0 in p.depth:
        then = _Writer(kernel, p, "columns added").write_columns() if _sums(kernel) else None
        return _Writer(kernel, p, "no products").write(None, then)
    if not p.tiles or _prefers_dots(p):
        both = p.left.depth[-1] == p.right.depth[-1] == 1 or p.depth == (1,)
        way: _Way = _Dots(p, _grain(kernel)) if both else _Lanes(p)
    else:
        file, apart = tiling.registers(config.get(config.CPU)), p.along(p.left, p.row) * p.left.dtype.itemsize
        way = _Tiles(p, tiling.choose_tile(p.rows, p.columns, p.compute, file, apart), _grain(kernel))
    title = way.title
    then = _Writer(kernel, p, "columns added", p.parts).write_columns() if _sums(kernel) else None
    if p.parts == 1:
        return _Writer(kernel, p, title).write(way, then)
    whole = replace(p, parts=1)
    then = _Writer(kernel, whole, f"{p.parts} parts added", p.parts).write(_Parts(whole, p.parts, _grain(kernel)), then)
    return _Writer(kernel, p, f"{title}, in parts", p.parts).write_parts(way, then)


def _sums(kernel: Kernel) -> list[Node]:
    """Sums over the rows of the result."""
    return [node for node in kernel.body.outputs if node.op.kind == "reduction"]


def _grain(kernel: Kernel) -> int:
    """Blocks have whole groups of rows where groups are added up, else any number of strips."""
    return GROUP if _sums(kernel) else 0


def _prefers_dots(p: Problem) -> bool:
    contiguous = p.left.depth[-1] == p.right.depth[-1] == 1 and p.depth[-1] >= DOT_DEPTH
    return contiguous and p.rows <= DOT_ROWS and p.along(p.right, p.lane) != 1


class _Writer:
    """The text around the sums: units, the block in scratch, and the epilogue.

    ``parts`` of every sum, where there are several, lie in scratch ``partial`` that the threads share.
    """

    def __init__(self, kernel: Kernel, p: Problem, title: str, parts: int = 1) -> None:
        self.kernel, self.p = kernel, p
        axes = f"{len(p.extents)} + {len(p.depth)} axes of {dtype_name(p.dot.type.dtype)}"
        self.e = Emission(kernel, f"contraction, {axes}: {title}")
        self.epilogue = Epilogue(self.e, p.dot, p.layout, p.lane)
        self.index = [f"i{k}" for k in range(len(p.extents))]
        self.sources: dict[Node, str] = {}
        self.partial = self.e.shared(parts * math.prod(p.extents) * p.compute.itemsize) if parts > 1 else ""
        #: groups of rows, and the sums of all groups: scratch that the threads share
        self.groups = -(-p.rows // GROUP) * math.prod(p.extents[k] for k in p.outer)
        self.group_sums = {
            node: self.e.shared(self.groups * p.columns * node.type.dtype.itemsize) for node in self.epilogue.sums
        }

    def write(self, way: _Way | None, then: Code | None = None) -> Code:
        e, p = self.e, self.p
        blocks = way.blocks if way else cut(p, grain=_grain(self.kernel))
        if way:
            way.prepare(self)
        else:
            e.line(f"total = splat(0, {dtype_name(p.compute)})", "no products")
        values = self.epilogue.start()
        with self._units(blocks):
            self._clear_sums()
            with self._slices(way.slice if way else 0):
                if way:
                    way.sums(self)
                self._epilogue(way, values)
        size = math.prod(p.extents)
        return e.code(self._count(blocks), size / LANES * self.epilogue.cost + self._sums_cost(way), then)

    def write_parts(self, way: _Way, then: Code) -> Code:
        """The first of two steps: parts of the sums, stored where all threads find them."""
        e, p = self.e, self.p
        way.prepare(self)
        e.word(p.depth[-1], "whole")
        with self._units(way.blocks):
            e.line("depth = min(part_depth, whole - part * part_depth)")
            way.sums(self)
            row, lane = self.names
            with e.block(f"for {row} in range(row_low, row_high):"):
                for lanes in self._vectors(lane):
                    kind, count = ("store", "") if lanes is None else ("store_masked", f", {lanes}")
                    total = way.total(self, lanes)
                    at = linear((f"part * {math.prod(p.extents)}", 1), *self.partial_terms)
                    e.line(f"{kind}({self.partial}, {at}, {total}, {way.c_type}, {self.epilogue.sums_scope}{count})")
        return e.code(self._count(way.blocks), self._sums_cost(way), then)

    @property
    def names(self) -> tuple[str, str]:
        """The variables of the row and the column of an element."""
        row = "row" if self.p.row is None else self.index[self.p.row]
        return row, "j" if self.p.lane is None else self.index[self.p.lane]

    @property
    def partial_terms(self) -> list[tuple[str, int]]:
        """The place of an element within a part: columns innermost."""
        p, (row, lane) = self.p, self.names
        terms, stride = [(lane, 1), (row, p.columns)], p.columns * p.rows
        for k in p.outer:
            terms.append((self.index[k], stride))
            stride *= p.extents[k]
        return terms

    # -------------------------------------------------------------------------------------------- units

    @contextlib.contextmanager
    def _units(self, blocks: Blocks) -> Iterator[None]:
        """The loop over this thread's units."""
        e, p = self.e, self.p
        e.word(p.rows, "rows")
        e.word(p.columns, "columns")
        e.word(blocks.strips, "strips")
        e.word(blocks.panels, "panels_in_all")
        factors = [e.word(blocks.row_blocks, "row_blocks"), e.word(blocks.column_blocks, "column_blocks")]
        factors += [e.word(p.extents[k], f"n{k}") for k in p.outer]
        if p.parts > 1:
            factors.append(e.word(p.parts, "parts"))
        e.line(f"first, last = share({' * '.join(factors)}, 1, thread, threads)")
        with e.block("for unit in range(first, last):"):
            self._decode(blocks)
            yield

    def _count(self, blocks: Blocks) -> int:
        outer = math.prod(self.p.extents[k] for k in self.p.outer)
        return blocks.row_blocks * blocks.column_blocks * outer * self.p.parts

    def _decode(self, blocks: Blocks) -> None:
        """A unit's number → its place: row blocks run fastest, then axes without the right operand, then column blocks,
        then the other axes, then parts of the depth."""
        e, p = self.e, self.p
        e.line("block = unit % row_blocks")
        e.line(f"row_low = block * strips // row_blocks * {blocks.height}")
        e.line(f"row_high = min((block + 1) * strips // row_blocks * {blocks.height}, rows)")
        e.line("rest = unit // row_blocks")
        inside = [k for k in p.outer if p.right.axes[k] == 0]
        around = [k for k in p.outer if k not in inside]
        for k in reversed(inside):
            self._digit(self.index[k], f"n{k}")
        e.line("block = rest % column_blocks")
        e.line(f"low = block * panels_in_all // column_blocks * {blocks.width}")
        e.line(f"high = min((block + 1) * panels_in_all // column_blocks * {blocks.width}, columns)")
        e.line("rest = rest // column_blocks")
        for k in reversed(around):
            self._digit(self.index[k], f"n{k}")
        if p.parts > 1:
            e.line("part = rest")

    @contextlib.contextmanager
    def _slices(self, rows: int) -> Iterator[None]:
        """The unit in slices of so many rows (0: as one)."""
        if not rows:
            yield
            return
        self.e.line("unit_low, unit_high = row_low, row_high")
        with self.e.block(f"for row_low in range(unit_low, unit_high, {rows}):"):
            self.e.line(f"row_high = min(row_low + {rows}, unit_high)")
            yield

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
        """The text of an operand's element at the unit's place on the outer axes (and the first of its part)."""
        terms: list[tuple[str | int, int]] = [(self.index[k], operand.axes[k]) for k in self.p.outer]
        if self.p.parts > 1:
            terms.append(("part * part_depth", operand.depth[-1]))
        return linear(*terms)

    def room(self, name: str, count: int, element: DType) -> None:
        """``name`` points to scratch for ``count`` elements from here on."""
        self.e.line(f"{name} = {self.e.scratch(count * element.itemsize)}")

    # -------------------------------------------------------------------------------------------- epilogue

    def _epilogue(self, way: _Way | None, values: Values) -> None:
        row, lane = self.names
        with self.e.block(f"for {row} in range(row_low, row_high):"):
            of_row = self.epilogue.row(values, self.index)
            if self.group_sums:
                self.e.line(f"group_at = ({self._group_at(f'{row} // {GROUP}')}) * {self.p.columns}")
            for lanes in self._vectors(lane):
                found = self.epilogue.vector(of_row, self.index, lanes, way.total(self, lanes) if way else "total")
                for node, sums in self.group_sums.items():
                    self._add_to(sums, f"group_at + {lane}", found[node.inputs[0]], dtype_name(node.type.dtype), lanes)

    # -------------------------------------------------------------------------------------------- sums over rows

    def _group_at(self, group: str) -> str:
        """The number of a group of rows at the unit's place: axes of the columns before axes of the rows."""
        p, terms, stride = self.p, [(group, 1)], -(-self.p.rows // GROUP)
        for k in sorted(p.outer, key=lambda k: (p.owners[k] == "x", k), reverse=True):
            terms.append((self.index[k], stride))
            stride *= p.extents[k]
        return linear(*terms)

    def _clear_sums(self) -> None:
        _, lane = self.names
        for node, sums in self.group_sums.items():
            element, scope = dtype_name(node.type.dtype), self.epilogue.sums_scope
            with self.e.block(f"for group in range(row_low // {GROUP}, (row_high + {GROUP - 1}) // {GROUP}):"):
                for lanes in self._vectors(lane):
                    kind, count = ("store", "") if lanes is None else ("store_masked", f", {lanes}")
                    at = f"({self._group_at('group')}) * {self.p.columns} + {lane}"
                    self.e.line(f"{kind}({sums}, {at}, splat(0, {element}), {element}, {scope}{count})")

    def _add_to(self, sums: str, at: str, value: str, element: str, lanes: str | int | None) -> None:
        masked, count, scope = (
            ("", "", self.epilogue.sums_scope) if lanes is None else ("_masked", f", {lanes}", self.epilogue.sums_scope)
        )
        before = f"load{masked}({sums}, {at}, {element}, {scope}{count})"
        self.e.line(f"store{masked}({sums}, {at}, {before} + {value}, {element}, {scope}{count})")

    def write_columns(self) -> Code:
        """The last step where columns are added up: the groups of rows, in their order."""
        e, p, scope = self.e, self.p, self.epilogue.sums_scope
        along_columns = math.prod(p.extents[k] for k in p.outer if p.owners[k] != "x")
        groups = self.groups // along_columns
        e.word(p.columns, "columns")
        e.word(groups, "groups")
        vectors = e.word(-(-p.columns // LANES), "vectors")
        e.line(f"first, last = share({vectors} * {e.word(along_columns, 'lines')}, 1, thread, threads)")
        with e.block("for unit in range(first, last):"):
            e.line(f"low = unit % vectors * {LANES}")
            e.line("line = unit // vectors")
            for position, node in enumerate(self.epilogue.outputs, len(self.kernel.body.inputs)):
                if node not in self.group_sums:
                    continue
                sums, element = self.group_sums[node], dtype_name(node.type.dtype)
                e.line(f"total = splat(0, {element})")
                with e.block("for group in range(groups):"):
                    at = "(line * groups + group) * columns + low"
                    e.line(f"total = total + load_masked({sums}, {at}, {element}, {scope}, columns - low)")
                into = f"{e.pointer(position)}, line * columns + low"
                e.line(f"store_masked({into}, total, {element}, {e.scope(position)}, columns - low)")
        work = self.groups * p.columns / LANES * len(self.group_sums)
        return e.code(-(-p.columns // LANES) * along_columns, work)

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

    def _sums_cost(self, way: _Way | None) -> float:
        return math.prod(self.p.extents) * math.prod(self.p.depth) * way.cost if way else 0.0


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
        w.e.word(p.part, "part_depth" if p.parts > 1 else "depth")
        w.e.word(p.left.depth[-1], "a_step")
        w.e.word(p.right.depth[-1], "b_step")
        self.left, self.right = w.source(p.left), w.source(p.right)
        w.room("sums", ((self.slice or blocks.rows) + self.height) * (blocks.columns + PAD), p.compute)

    #: rows of sums beyond those of the block
    height = 0
    #: rows of a unit that are done at a time, where all of its sums would not fit into the first cache; 0: all
    slice = 0

    def cut_slices(self, grain: int) -> None:
        """Blocks of a multiple of ``grain`` rows are done in slices."""
        height = max(self.height, 1)
        rows = max(SUMS // (self.blocks.columns * self.p.compute.itemsize) // height, 1) * height
        self.slice = rows if 0 < rows < self.blocks.rows and grain else 0

    def sums(self, w: _Writer) -> None:
        """Lines that make the sums of a unit."""
        raise NotImplementedError

    def total(self, w: _Writer, lanes: str | int | None) -> str:
        """The expression of sixteen sums."""
        row, lane = w.names
        return w.epilogue.load_sums(f"({row} - {self.top}) * width + {lane} - {self.edge}")

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

    def __init__(self, p: Problem, tile: tiling.Tile, grain: int = 0) -> None:
        self.tile, self.height = tile, tile.rows
        fits = p.along(p.right, p.lane) == 1 and p.right.dtype is p.compute and p.columns >= DIRECT_COLUMNS
        far = abs(p.left.depth[-1]) * p.compute.itemsize >= CACHE_LINE
        deep = math.prod(p.depth[:-1]) * p.part
        big = p.columns * deep * p.compute.itemsize > DIRECT_BYTES
        few = fits and p.rows <= (DIRECT_FEW if big else DIRECT_ROWS)
        self.direct = few and p.columns >= tile.columns
        self.streamed = not few and deep > (FAR if far else RESIDENT)
        chunk = STREAMED if self.streamed else DIRECT_CHUNK if few and big else CHUNK
        self.chunk = -(-p.part // -(-p.part // chunk))
        self.held = self.chunk if self.streamed else deep
        self.pack_left = p.left.dtype is not p.compute or self.streamed
        self.top = "row_low" if self.streamed else "top"
        self.edge = "edge" if self.direct else "low"
        how = "no packing" if self.direct else "streamed panels" if self.streamed else "panels"
        title = f"tiles of {tile.rows} x {tile.columns}, {how}" + (", left packed" if self.pack_left else "")
        speed = 60.0 if tile.lanes * tile.vectors * p.compute.itemsize >= 128 else 25.0
        blocks = cut(p, 1 / speed, tile, self.direct, self.held, self.streamed, self.pack_left, grain)
        super().__init__(p, title, blocks, 1 / speed)
        self.cut_slices(0 if self.streamed else grain)

    def prepare(self, w: _Writer) -> None:
        super().prepare(w)
        p, tile, blocks = self.p, self.tile, self.blocks
        w.e.require(tiling.strip(p.compute, tile))
        w.e.word(self.chunk, "chunk")
        if not self.direct:
            w.e.require(tiling.pack(p.right.dtype, tile.columns))
            w.room("panels", blocks.columns * self.held + LANES, p.compute)
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

    def __init__(self, p: Problem, grain: int = 0) -> None:
        super().__init__(p, "dot products", cut(p, 1 / 16, grain=grain), 1 / 16)
        self.cut_slices(grain)

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
        super().__init__(p, "lanes", cut(p, 1 / 4), 1 / 4)

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


class _Parts(_Way):
    """Sums whose parts are there: they are added in pairs, and those in pairs again."""

    def __init__(self, p: Problem, parts: int, grain: int = 0) -> None:
        super().__init__(p, "parts", cut(p, ADDED * parts / math.prod(p.depth), grain=grain), 0.0)
        self.parts = parts

    def prepare(self, w: _Writer) -> None:
        """Nothing: the parts lie in shared scratch."""

    def sums(self, w: _Writer) -> None:
        """Nothing: sums are read part by part."""

    def total(self, w: _Writer, lanes: str | int | None) -> str:
        size, scope = math.prod(self.p.extents), w.epilogue.sums_scope
        kind, count = ("load", "") if lanes is None else ("load_masked", f", {lanes}")
        terms = [
            f"{kind}({w.partial}, {linear((k * size, 1), *w.partial_terms)}, {self.c_type}, {scope}{count})"
            for k in range(self.parts)
        ]
        while len(terms) > 1:
            pairs = [f"({a} + {b})" for a, b in zip(terms[::2], terms[1::2], strict=False)]
            terms = pairs + terms[len(pairs) * 2 :]
        return terms[0]
