"""The dot of a contraction kernel: how its operands lie in memory, and how the result is cut into work units.

Nothing here depends on threads, and what a sum is made of (:attr:`Problem.parts`) depends on extents alone.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphc.backends.cpu.codegen import LANES, NoEmitter, compute_dtype
from graphc.backends.cpu.loops import Axis, Layout, constant_scalar, merge_axes
from graphc.backends.cpu.tiling import Tile
from graphc.ir import Node
from graphc.passes.access import Access, access
from graphc.passes.schedule import Kernel
from graphc.types import DType

PANELS = 256 << 10  # bytes of the packed columns of a block: half of a small second cache
WIDEST = 2048  # bytes of a row of a block at most
SUMS = 16 << 10  # bytes of the sums of a block: half of a small first cache
STREAMED_ROW, STREAMED_SUMS = 1024, 192 << 10  # where panels are streamed: bytes of a row of a block, of its sums

SKINNY, SKINNY_ROWS, SKINNY_DEPTH = 32, 64, 64  # lanes run along the rows up to so many columns, from so many rows on

PART = 512  # depth of one part of a sum at least
PART_BLOCK = 64  # rows and columns of a block; sums are taken in parts where there are fewer than MOST_PARTS of these
MOST_PARTS = 8
PART_WORK = 1 << 20  # products up to which parts do not pay

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
    owners: tuple[str, ...]  # of the axes: batch, x, y
    parts: int = 1  # every sum is taken in so many parts along the last contracted axis

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
    def part(self) -> int:
        """Depth of a part along the last contracted axis; the last part may be shorter."""
        return -(-self.depth[-1] // self.parts)

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
    strides += [s for output in body.outputs if output.op.name == "concatenate" for _, _, s in flat.stores(output)]
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
    summed = any(node.op.kind == "reduction" for node in body.outputs)
    if (
        not summed
        and row is not None
        and lane is not None
        and _is_skinny(extents[lane], extents[row], depth, left, right, lane, row)
    ):
        left, right, lane, row = right, left, row, lane
    owned = tuple(owners[k] for k in inner)
    found = Problem(dot, layout, extents, depth, left, right, lane, row, owner != "batch", owned)
    return replace(found, parts=_parts(found))


def _is_skinny(columns: int, rows: int, depth: Strides, left: Operand, right: Operand, lane: int, row: int) -> bool:
    """Few columns, and the left operand runs along the rows: its vectors fill the lanes that the columns would not."""
    few = columns <= SKINNY and rows >= max(SKINNY_ROWS, 2 * columns)
    return few and left.axes[row] == 1 and math.prod(depth) >= SKINNY_DEPTH


def _parts(p: Problem) -> int:
    """How many parts a sum is taken in: few long ones would leave threads without work."""
    if len(p.depth) > 1 or 0 in (*p.extents, *p.depth):
        return 1
    outer = math.prod(p.extents[k] for k in p.outer)
    blocks = -(-p.rows // PART_BLOCK) * -(-p.columns // PART_BLOCK) * outer
    if math.prod(p.extents) * p.depth[0] < PART_WORK:
        return 1
    return max(min(MOST_PARTS // blocks, p.depth[0] // PART), 1)


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
    """How the result is cut into units: ``strips`` of ``height`` rows and ``panels`` of ``width`` columns, dealt out evenly
    to ``row_blocks`` x ``column_blocks``."""

    strips: int
    panels: int
    height: int
    width: int
    row_blocks: int
    column_blocks: int

    @property
    def rows(self) -> int:
        """Rows of the largest block."""
        return -(-self.strips // self.row_blocks) * self.height

    @property
    def columns(self) -> int:
        return -(-self.panels // self.column_blocks) * self.width


def cut(
    p: Problem, cost: float = 0.0, tile: Tile | None = None, direct: bool = True, depth: int = 0,
    streamed: bool = False, packs_left: bool = False, grain: int = 0,
) -> Blocks:  # fmt: skip
    """Blocks by extents alone (and the size of tiles, on which no result depends).

    ``cost`` is the time of a product in nanoseconds. ``depth`` is what the columns of a block are packed for at a time
    (unless they are read where they lie, ``direct``): wide blocks write long rows, as long as their panels fit into the
    second cache. Sums of a block fit into the first, but where chunks are packed for every block (``streamed``). Blocks
    have a multiple of ``grain`` rows.
    """
    width, height = (LANES, 1) if tile is None else (tile.columns, tile.rows)
    height = grain or height
    outer = math.prod(p.extents[k] for k in p.outer) * p.parts
    work = math.prod(p.extents) * math.prod(p.depth) * cost
    sides = (-(-p.rows // height), -(-p.columns // width), height, width)
    packs = 0 if direct else 2 if streamed else 1
    return Blocks(*sides, *_cut(sides, outer, p.compute.itemsize, depth, packs, packs_left, work))


#: Costs in products: of packing an element of the right or the left operand, of reading one of the left operand again.
PACKED, READ = 9.0, 1.0
#: Nanoseconds of the lines around a unit, of work for which the runtime wakes a thread, and of a row of a block where the
#: result is too LARGE for the second cache: every row starts with a wait for memory.
UNIT, THREAD, ROW, LARGE = 200.0, 10_000.0, 50.0, 1 << 20


@functools.lru_cache(4096)
def _cut(
    sides: tuple[int, int, int, int], outer: int, element: int, depth: int, packs: int, packs_left: bool, work: float
) -> tuple[int, int]:
    """Blocks along rows and columns with the least estimated time, for few threads rather than for many.

    ``packs``: 0 the right operand is not packed, 1 once for all blocks of its columns, 2 for every block.
    """
    strips, panels, height, width = sides
    longest = STREAMED_ROW if packs == 2 else min(PANELS // max(depth, 1), WIDEST)
    fewest = -(-panels // max(longest // element // width, 1))
    best, found = math.inf, (1, 1)
    for columns in _counts(fewest, panels):
        row = -(-panels // columns) * width * element
        tallest = max((STREAMED_SUMS if packs == 2 else SUMS) // row // height, 1)
        for rows in _counts(-(-strips // tallest), strips):
            time = _time(strips, panels, height, width, rows, columns, outer, packs, packs_left, work)
            if strips * height * panels * width * outer * element > LARGE:
                time += 2 * ROW * strips * height * columns * outer / (work + 1)
            if time < best:
                best, found = time, (rows, columns)
    return found


def _counts(fewest: int, most: int) -> list[int]:
    """Numbers of blocks to consider."""
    wanted = {fewest, *range(fewest, min(fewest + 4, most + 1)), *(n for n in (6, 8, 12, 16) if fewest < n <= most)}
    return sorted(wanted)


def _time(
    strips: int, panels: int, height: int, width: int, rows: int, columns: int, outer: int, packs: int,
    packs_left: bool, work: float,
) -> float:  # fmt: skip
    units = rows * columns * outer
    largest = -(-strips // rows) * -(-panels // columns) * units / (strips * panels * outer)
    left = columns * (PACKED if packs_left else READ) / (panels * width)
    total = 0.0
    for threads, weight in ((1, 1.0), (2, 1.0), (4, 0.5), (8, 0.05)):
        if work <= (threads - 1) * THREAD and threads > 1:
            break
        share = -(-units // threads)
        packed = share if packs == 2 else min(-(-share // rows) + (share % rows > 0), share) if packs else 0
        right = PACKED * packed * threads / (columns * strips * height * outer)
        time = share * threads / units * (1 + (largest - 1) / share) * (1 + left + right) + UNIT * units / (work + 1)
        total += weight * time
    return total
