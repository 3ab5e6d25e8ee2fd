"""How windows slide along an axis, and the source of the routines that lay their elements out for the micro-kernel.

Zeros that dilate the operand are never multiplied: places of the result whose windows meet elements at the same places of
the window form a *class* (at a dilation of 2 there are two along an axis), and each class is a convolution without them.

The elements that a block of places reads are copied once into *planes*: padding is there as zeros, half floats as f32, and
where windows step by more than one element, every element that is met at the same place of windows next to each other lies
side by side (a *phase*). From planes, every place of the window reads whole vectors:

``planes``      channels x samples of an operand, whatever its strides → planes.
``patches``     planes → a matrix [channels, places of the window][places of the result].
``interleave``  the sums of all classes → rows of the result.

The routines are compiled once, kept like kernels, and shared. All extents and strides travel as words.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from graphc.backends.cpu.tiling import Routine, Tile, W, compute
from graphc.types import DType

SPACE = 3  # spatial axes of the routines: missing ones come first and have one place


@dataclass(frozen=True, slots=True)
class Residue:
    """The places ``number, number + period, …`` of one axis: windows there meet elements at the places ``tap``,
    ``tap + apart``, … of the window, ``taps`` of them; these are ``by`` elements apart, the first is ``first`` elements
    after the one where the class's place 0 would begin without padding."""

    number: int
    tap: int
    apart: int
    taps: int
    first: int
    by: int


@dataclass(frozen=True, slots=True)
class Slide:
    """How a window slides along one axis: place y of the result meets, at place i of the window, the element
    ``(y·stride + i·apart - before) / dilation`` of the operand where that is a whole number below ``extent``.

    ``memory`` are elements of memory between neighbours.
    """

    count: int
    window: int
    stride: int
    apart: int
    before: int
    extent: int
    dilation: int
    memory: int

    @property
    def period(self) -> int:
        """How many classes there are."""
        return self.dilation // math.gcd(self.dilation, self.stride)

    @property
    def step(self) -> int:
        """Elements from one place of a class to the next one."""
        return self.stride // math.gcd(self.dilation, self.stride)

    @property
    def places(self) -> int:
        """Places of the largest class."""
        return -(-self.count // self.period)

    @property
    def residues(self) -> tuple[Residue, ...]:
        return _residues(self)

    @property
    def low(self) -> int:
        """The first element that place 0 of any class meets."""
        return min((r.first for r in self.residues if r.taps), default=0)

    @property
    def span(self) -> int:
        """Elements from there to the last one."""
        return max((r.first + (r.taps - 1) * r.by for r in self.residues if r.taps), default=0) - self.low + 1

    @property
    def fold(self) -> int:
        """Elements of a plane from one place to the next: those between windows that no window meets are left out."""
        return min(self.step, self.span)

    def rows(self, places: int) -> int:
        """Extent of a plane for so many places."""
        return (places - 1) * self.fold + self.span

    def line(self, places: int) -> int:
        """Elements of each phase of a plane's line for so many places."""
        return places - 1 + -(-self.span // self.fold)


@functools.cache
def _residues(s: Slide) -> tuple[Residue, ...]:
    found = []
    common = math.gcd(s.apart, s.dilation)
    apart, by = s.dilation // common, s.apart // common
    for number in range(s.period):
        start = number * s.stride - s.before
        tap = next((i for i in range(min(apart, s.window)) if (start + i * s.apart) % s.dilation == 0), None)
        if tap is None:
            found.append(Residue(number, 0, apart, 0, 0, by))
        else:
            taps = -(-(s.window - tap) // apart)
            found.append(Residue(number, tap, apart, taps, (start + tap * s.apart) // s.dilation, by))
    return tuple(found)


#: an axis with one place, one element
STILL = Slide(1, 1, 1, 1, 0, 1, 1, 0)


def in_space(slides: Sequence[Slide]) -> tuple[Slide, ...]:
    """``slides`` with axes of one place before them."""
    return (*[STILL] * (SPACE - len(slides)), *slides)


def rounded(n: int, grain: int) -> int:
    return -(-n // grain) * grain


def uneven(n: int) -> int:
    """At least n: an odd number of vectors, so that rows do not fall on one another in the cache."""
    return (-(-n // W) | 1) * W


# ---------------------------------------------------------------------------------------------------------------------
# the shared routines


def planes_symbol(element: str) -> str:
    return f"graphc_planes_{element}"


def planes(element: DType) -> Routine:
    """Lay out elements stored as ``element`` in planes of the computing type (called by ``window_planes``)."""
    symbol = planes_symbol(element.name)
    return symbol, _PLANES.format(symbol=symbol, e=element.name, c=compute(element).name)


#: words: source, target; outer count, its strides in the source and the target; the same of an inner count; the first
#: two axes: extent of the plane, fold, step, first element, extent, memory; the line: elements of a phase, then the same;
#: the bits of what stands outside
_PLANES = """\
def {symbol}(table, thread, threads):
    # y[outer, inner, phase, rows, rows, line] = x, a given number outside of its extents
    x = pointer(table, 0)
    y = pointer(table, 1)
    outside = param(table, 26, {c})
    fold0 = word(table, 9)
    step0 = word(table, 10)
    origin0 = word(table, 11)
    fold1 = word(table, 15)
    step1 = word(table, 16)
    origin1 = word(table, 17)
    line = word(table, 20)
    step = word(table, 22)
    origin = word(table, 23)
    memory = word(table, 25)
    by = step * memory
    for i in range(word(table, 2)):
        for s in range(word(table, 5)):
            into = i * word(table, 4) + s * word(table, 7)
            for phase in range(word(table, 21)):
                t = origin + phase
                low = min(max((step - 1 - t) // step, 0), line)
                high = max(min((word(table, 24) - t + step - 1) // step, line), low)
                start = i * word(table, 3) + s * word(table, 6) + t * memory
                for j0 in range(word(table, 8)):
                    t0 = j0 + origin0
                    if fold0 != step0:
                        t0 = j0 // fold0 * step0 + j0 % fold0 + origin0
                    for j1 in range(word(table, 14)):
                        t1 = j1 + origin1
                        if fold1 != step1:
                            t1 = j1 // fold1 * step1 + j1 % fold1 + origin1
                        k = 0
                        inside = min(min(t0, word(table, 12) - 1 - t0), min(t1, word(table, 18) - 1 - t1))
                        if inside >= 0:
                            at = start + t0 * word(table, 13) + t1 * word(table, 19)
                            while k < low:
                                store(y, into + k, outside, {c}, 1)
                                k = k + 16
                            k = low
                            if by == 1:
                                while k + 16 <= high:
                                    store(y, into + k, load(x, at + k, {e}, 0), {c}, 1)
                                    k = k + 16
                                while k < high:
                                    v = load_masked(x, at + k, {e}, 0, high - k)
                                    store(y, into + k, select(mask_tail(high - k), v, outside), {c}, 1)
                                    k = k + 16
                            else:
                                if by == 2:
                                    while k + 17 <= high:
                                        store(y, into + k, load_second(x, at + k * 2, {e}, 0), {c}, 1)
                                        k = k + 16
                                while k < high:
                                    v = load_strided(x, at + k * by, by, {e}, 0, min(high - k, 16))
                                    store(y, into + k, select(mask_tail(high - k), v, outside), {c}, 1)
                                    k = k + 16
                        while k < line:
                            store(y, into + k, outside, {c}, 1)
                            k = k + 16
                        into = into + line
    return 0
"""


def patches_symbol(element: str) -> str:
    return f"graphc_patches_{element}"


def patches(element: DType) -> Routine:
    """Planes of the computing type → the operand of a matrix product (called by ``window_patches``)."""
    symbol = patches_symbol(element.name)
    return symbol, _PATCHES.format(symbol=symbol, c=element.name)


#: words: source, target; channels and their stride; stride of rows of the target; taps of each axis; for each axis the
#: first tap's place in the plane and elements between taps; strides of the plane's rows; fold of the line, stride of phases;
#: samples and their stride; places of each axis; strides of places of the first two axes
_PATCHES = """\
def {symbol}(table, thread, threads):
    # y[channel, tap, tap, tap][sample, place, place, place] = x, place and tap added along each axis
    x = pointer(table, 0)
    y = pointer(table, 1)
    fold = word(table, 16)
    samples = word(table, 18)
    per_sample = word(table, 19)
    places0 = word(table, 20)
    places1 = word(table, 21)
    places = word(table, 22)
    along0 = word(table, 23)
    along1 = word(table, 24)
    width = word(table, 4)
    row = 0
    for c in range(word(table, 2)):
        for i0 in range(word(table, 5)):
            for i1 in range(word(table, 6)):
                start = c * word(table, 3) + (word(table, 8) + i0 * word(table, 9)) * word(table, 14)
                start = start + (word(table, 10) + i1 * word(table, 11)) * word(table, 15)
                for i2 in range(word(table, 7)):
                    tap = word(table, 12) + i2 * word(table, 13)
                    at = start + tap
                    if fold > 1:
                        at = start + tap % fold * word(table, 17) + tap // fold
                    into = row
                    row = row + width
                    for s in range(samples):
                        for q0 in range(places0):
                            i = at + s * per_sample + q0 * along0
                            if places <= 16:
                                for q1 in range(places1):
                                    store(y, into, load(x, i, {c}, 0), {c}, 1)
                                    i = i + along1
                                    into = into + places
                            else:
                                for q1 in range(places1):
                                    for k in range(0, places, 16):
                                        store(y, into + k, load(x, i + k, {c}, 0), {c}, 1)
                                    i = i + along1
                                    into = into + places
    return 0
"""


def interleave_symbol(element: str) -> str:
    return f"graphc_interleave_{element}"


def interleave(element: DType) -> Routine:
    """The sums of all classes → rows of the result (called by ``window_interleave``)."""
    symbol = interleave_symbol(element.name)
    return symbol, _INTERLEAVE.format(symbol=symbol, c=element.name)


#: words: source, target; stride of a class in the source; rows, their strides in the source and the target; samples;
#: places of a class along each axis; places of the result along each axis; periods
_INTERLEAVE = """\
def {symbol}(table, thread, threads):
    # y[row][sample, places] = x[class][row][sample, places of the class]
    x = pointer(table, 0)
    y = pointer(table, 1)
    apart = word(table, 2)
    q0 = word(table, 7)
    q1 = word(table, 8)
    q2 = word(table, 9)
    n2 = word(table, 12)
    p0 = word(table, 13)
    p1 = word(table, 14)
    p2 = word(table, 15)
    for row in range(word(table, 3)):
        into = row * word(table, 5)
        for s in range(word(table, 6)):
            for y0 in range(word(table, 10)):
                for y1 in range(word(table, 11)):
                    at = row * word(table, 4) + ((s * q0 + y0 // p0) * q1 + y1 // p1) * q2
                    at = at + (y0 % p0 * p1 + y1 % p1) * p2 * apart
                    if p2 == 2:
                        for k in range(0, q2, 16):
                            v = load(x, at + k, {c}, 0)
                            w = load(x, at + apart + k, {c}, 0)
                            store(y, into + 2 * k, zip_low(v, w), {c}, 1)
                            store(y, into + 2 * k + 16, zip_high(v, w), {c}, 1)
                    else:
                        for r in range(p2):
                            for k in range(0, q2, 16):
                                n = min((n2 - r + p2 - 1) // p2 - k, 16)
                                v = load(x, at + r * apart + k, {c}, 0)
                                store_strided(y, into + k * p2 + r, p2, v, {c}, 1, n)
                    into = into + n2
    return 0
"""


def strip_symbol(element: str, rows: int, vectors: int, lanes: int) -> str:
    return f"graphc_strip_at_{element}_{rows}x{vectors}x{lanes}"


def strip(element: DType, tile: Tile) -> Routine:
    """The micro-kernel whose left operand is read at the places of a list (called by ``window_strip``)."""
    shape = f"{tile.rows}, {tile.vectors}, {tile.lanes}"
    symbol = strip_symbol(element.name, tile.rows, tile.vectors, tile.lanes)
    return symbol, (
        f"def {symbol}(table, thread, threads):\n"
        f"    # c[{tile.rows} rows, panels of {tile.columns} columns] = (c +) a · b: a at places, b in panels\n"
        f"    micro_strip_at(table, {element.name}, {shape})\n"
        f"    return 0\n"
    )
