"""How contractions are cut into register tiles, and the source of the routines that all of them share.

A contraction is computed strip by strip: a *strip* is ``rows`` rows of the result times a number of *panels*, each as wide
as the register tile.  The routines below are compiled once, kept like kernels, and called by every contraction kernel:

``strip``   the micro-kernel: accumulators in registers, the whole depth in one loop, any strides of the left operand.
``pack``    columns of an operand, whatever its strides, as panels: ``width`` columns side by side at each depth. Half
            floats become f32 there.
``dots``    dot products along contiguous depth, for results with few rows.

Everything here is text and numbers; the machine code is emitted by :mod:`graphc.backends.cpu.tile`.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from graphc.types import DType, bf16, f16, f32

W = 16  # lanes of a vector of the kernel language


@dataclass(frozen=True, slots=True)
class Registers:
    """The vector registers of a processor: how many there are and how many bytes each has."""

    count: int
    nbytes: int


_LEVELS = {
    "x86-64": Registers(16, 16),
    "x86-64-v2": Registers(16, 16),
    "x86-64-v3": Registers(16, 32),
    "x86-64-v4": Registers(32, 64),
}


@functools.cache
def registers(cpu: str) -> Registers:
    """The vector registers of ``cpu``, an LLVM name or ``host``; of names that are not known, the least there can be.

    Results do not depend on them: every element is summed in the order of the contracted axis.
    """
    if cpu in _LEVELS:
        return _LEVELS[cpu]
    if cpu not in ("", "host"):
        return _LEVELS["x86-64"]
    import llvmlite.binding as llvm

    triple, features = llvm.get_process_triple(), llvm.get_host_cpu_features()
    if triple.startswith(("aarch64", "arm64")):
        return Registers(32, 16)
    if features.get("avx512f"):
        return Registers(32, 64)
    return Registers(16, 32 if features.get("avx") else 16)


@dataclass(frozen=True, slots=True)
class Tile:
    """A register tile: ``rows`` rows of ``vectors`` registers of ``lanes`` elements."""

    rows: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        return self.vectors * self.lanes

    def panels(self, columns: int) -> int:
        """How many panels cover ``columns`` columns."""
        return -(-columns // self.columns)


def compute(element: DType) -> DType:
    """The element type in which values of type ``element`` are multiplied and summed."""
    return f32 if element in (f16, bf16) else element


def choose_tile(rows: int, columns: int, element: DType, file: Registers, row_bytes: int = 0) -> Tile:
    """The register tile for a result of ``rows`` times ``columns`` elements of the computing type ``element``.

    Tall tiles read the fewest operands per multiplication; a shorter one is taken where it wastes fewer rows, a narrow
    one where it wastes fewer columns (measured: 8 rows lose 4 %, one register of columns loses 10 %). ``row_bytes`` is the
    distance of the rows of the left operand: those a multiple of 4096 apart share one set of the first cache, which holds
    8 lines or so (measured: 12 rows lose 8 % in f32, 20 % in f64).
    """
    lanes = min(max(file.nbytes // element.itemsize, 1), W)
    tallest, shorter = (12, 8) if file.count >= 32 else (6, 4)
    if row_bytes and row_bytes % 4096 == 0:
        tallest = min(tallest, 8)
    if rows < tallest:
        height = rows
    else:
        height = min((tallest, shorter), key=lambda h: -(-rows // h) * h * (1.0 if h == tallest else 1.04))
    most = min(_MOST_VECTORS[file.count].get(height, 2), max(columns // lanes, 1))
    if height < 6 or most == 1:
        return Tile(height, most, lanes)
    wide, narrow = Tile(height, 2, lanes), Tile(height, 1, lanes)
    waste = wide.panels(columns) * wide.columns > 1.1 * narrow.panels(columns) * narrow.columns
    return narrow if waste else wide


#: registers → height of a tile → how many registers wide it is at most
_MOST_VECTORS = {
    32: {1: 8, 2: 8, 3: 4, 4: 4, 5: 4},
    16: {1: 6, 2: 4, 3: 3},
}


# ---------------------------------------------------------------------------------------------------------------------
# the shared routines

Routine = tuple[str, str]  # symbol, source


def strip_symbol(element: str, rows: int, vectors: int, lanes: int) -> str:
    return f"graphc_strip_{element}_{rows}x{vectors}x{lanes}"


def strip(element: DType, tile: Tile) -> Routine:
    """The micro-kernel for operands of the computing type ``element`` (called by ``tile_strip``)."""
    shape = f"{tile.rows}, {tile.vectors}, {tile.lanes}"
    symbol = strip_symbol(element.name, tile.rows, tile.vectors, tile.lanes)
    return symbol, (
        f"def {symbol}(table, thread, threads):\n"
        f"    # c[{tile.rows} rows, panels of {tile.columns} columns] = (c +) a · b: a by strides, b in panels\n"
        f"    micro_strip(table, {element.name}, {shape})\n"
        f"    return 0\n"
    )


def pack_symbol(element: str, width: int) -> str:
    return f"graphc_pack_{element}_{width}"


def pack(element: DType, width: int) -> Routine:
    """Columns stored as ``element`` → panels of ``width`` columns of the computing type (called by ``tile_pack``).

    Columns beyond the last are 0.
    """
    symbol = pack_symbol(element.name, width)
    # A vector of columns stays within its panel: one of 24 columns is done in groups of 8.
    group = width if width < W else math.gcd(width, W)
    e, c, whole = element.name, compute(element).name, group == W
    blocks = _BLOCKS.format(e=e, width=width, group=group) if group == min(width, W) else ""
    return symbol, _PACK.format(
        symbol=symbol,
        e=e,
        width=width,
        group=group,
        blocks=blocks,
        load=f"load(x, j + k * x_step, {e}, 0)" if whole else f"load_masked(x, j + k * x_step, {e}, 0, {group})",
        store=f"store(y, into + k * {width}, v, {c}, 1)"
        if whole
        else f"store_masked(y, into + k * {width}, v, {c}, 1, {group})",
    )


_BLOCKS = """\
        while x_step == 1 and columns - j >= {group} and k + 16 <= depth:
            transpose_block(x, j * x_column + k, x_column, {e}, y, into + k * {width}, {width})
            k = k + 16
"""

_PACK = """\
def {symbol}(table, thread, threads):
    # y[panel, depth, {width}] = x[depth, columns], zero beyond the last column
    x = pointer(table, 0)
    x_step = word(table, 1)
    x_column = word(table, 2)
    y = pointer(table, 3)
    depth = word(table, 4)
    columns = word(table, 5)
    last = (columns + {width} - 1) // {width} * {width}
    low = 0
    while x_column == 1 and low < depth:  # lines in memory: few at a time, read along
        high = min(low + 8, depth)
        for j in range(0, last, {group}):
            into = j // {width} * {width} * depth + j % {width}
            if columns - j >= {group}:
                for k in range(low, high):
                    v = {load}
                    {store}
            else:
                for k in range(low, high):
                    v = load_masked(x, j + k * x_step, {e}, 0, columns - j)
                    {store}
        low = high
    for j in range(0, last, {group}):
        into = j // {width} * {width} * depth + j % {width}
        k = low
{blocks}        while k < depth:
            v = load_strided(x, j * x_column + k * x_step, x_column, {e}, 0, min(columns - j, {group}))
            {store}
            k = k + 1
    return 0
"""


def dots_symbol(element: str) -> str:
    return f"graphc_dots_{element}"


def dots(element: DType) -> Routine:
    """Dot products of rows stored as ``element``, contiguous along the depth (called by ``tile_dots``).

    Eight at a time where the left row is one and the same. Every sum is taken in 16 lanes and the fixed tree.
    """
    symbol, e, c = dots_symbol(element.name), element.name, compute(element).name
    rows = range(8)

    def lines(indent: int, text: str) -> str:
        return "\n".join(" " * indent + text.format(r=r, e=e, c=c) for r in rows)

    return symbol, _DOTS.format(
        symbol=symbol,
        e=e,
        c=c,
        rows=len(rows),
        starts=lines(8, "s{r} = zero"),
        steps=lines(12, "s{r} = s{r} + v * load(y, m + {r} * y_row, {e}, 1)"),
        rests=lines(12, "s{r} = s{r} + v * load_masked(y, m + {r} * y_row, {e}, 1, depth - k)"),
        stores=lines(8, "add_first(out, j + {r}, reduce_add(s{r}), more, {c})"),
    )


_DOTS = """\
def {symbol}(table, thread, threads):
    # out[j] = (out[j] +) sum of x[j * x_row + k] * y[j * y_row + k] over k < depth
    x = pointer(table, 0)
    x_row = word(table, 1)
    y = pointer(table, 2)
    y_row = word(table, 3)
    out = pointer(table, 4)
    count = word(table, 5)
    depth = word(table, 6)
    more = word(table, 7)
    zero = splat(0, {c})
    j = 0
    while x_row == 0 and j + {rows} <= count:
{starts}
        k = 0
        while k + 16 <= depth:
            m = j * y_row + k
            v = load(x, k, {e}, 0)
{steps}
            k = k + 16
        if k < depth:
            m = j * y_row + k
            v = load_masked(x, k, {e}, 0, depth - k)
{rests}
{stores}
        j = j + {rows}
    while j < count:
        s = zero
        k = 0
        while k < depth:
            i = j * x_row + k
            m = j * y_row + k
            n = depth - k
            s = s + load_masked(x, i, {e}, 0, n) * load_masked(y, m, {e}, 1, n)
            k = k + 16
        add_first(out, j, reduce_add(s), more, {c})
        j = j + 1
    return 0
"""
