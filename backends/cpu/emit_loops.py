"""Emitters of kernels without reductions: elementwise and copy.

The loops run over as few axes as the memory allows (adjacent axes are merged where every access is one line), sixteen
places of one axis at a time. What does not depend on an inner loop is computed outside it. The ragged end of the vector
axis has the same body on masked loads and stores.

Threads take contiguous blocks of work units. A place is computed alone, so nothing depends on how units are dealt out.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeVar

from graphc.backends.cpu.codegen import (
    CONTIGUOUS,
    LANES,
    SPLAT,
    STRIDED,
    Code,
    Emission,
    NoEmitter,
    Pointer,
    op_cost,
    text_size,
)  # fmt: skip
from graphc.backends.cpu.loops import Axis, Layout, Point, Values, constant_scalar, load_from, merge_axes, store_to
from graphc.ir import Node
from graphc.passes.access import access, contiguous_strides
from graphc.passes.schedule import Kernel

GRAIN = 64  # places: threads never share a cache line of a contiguous result
CHUNK = 4096  # places of the vector axis that make one unit where there are outer axes
TILE = 64  # rows of a transposed read that are done at a time, while its cache lines are near
TINY = 8  # a last axis shorter than this leaves most lanes empty
UNIT = 1024  # places below which units are dealt out several at a time
MOST_SIDE_BY_SIDE = 80  # plain ops in a body of which four copies are worth their code

Strides = tuple[int, ...]
State = TypeVar("State")
Emit = Callable[[int, State, Sequence[Point]], State]

# ------------------------------------------------------------------------------------------------ nests of loops


@dataclass(frozen=True, slots=True)
class Nest:
    """The order of loops over axes of the given ``extents``: units over ``outer`` axes and chunks of the axis
    ``split``, then vectors along ``vector``, then ``inner`` axes. Without outer axes and chunks, the vector axis is
    dealt out to the threads."""

    extents: tuple[int, ...]
    outer: tuple[int, ...]
    vector: int
    inner: tuple[int, ...]
    split: int | None
    chunk: int

    @property
    def flat(self) -> bool:
        return not self.outer and self.split is None

    @property
    def grain(self) -> int:
        """Units (of a flat nest: places) that go to one thread together."""
        if self.flat:
            return GRAIN
        places = math.prod(
            self.chunk if k == self.split else n for k, n in enumerate(self.extents) if k not in self.outer
        )
        return max(1, UNIT // max(places, 1))

    @property
    def units(self) -> int:
        """How many threads can work."""
        if self.flat:
            return -(-self.extents[self.vector] // GRAIN)
        units = math.prod(self.extents[k] for k in self.outer)
        if self.split is not None:
            units *= -(-self.extents[self.split] // self.chunk)
        return -(-units // self.grain)

    def level(self, strides: Strides) -> int:
        """The loop inside which a place with these strides changes: 0 none, 1 units, 2 vectors, 3 inner axes."""
        return max(
            (3 if k in self.inner else 2 if k == self.vector else 1 for k, s in enumerate(strides) if s), default=0
        )


def vector_axis(extents: Sequence[int]) -> int:
    """The axis that lanes run along: the last one, or the one before where that is tiny."""
    tiny = len(extents) > 1 and extents[-1] < TINY and extents[-2] >= LANES
    return len(extents) - 2 if tiny else len(extents) - 1


def plan_nest(extents: Sequence[int], strides: Iterable[Strides]) -> Nest:
    """Choose the vector axis and the order of the loops for accesses with these strides."""
    vector = vector_axis(extents)
    inner = tuple(range(vector + 1, len(extents)))
    split, chunk = None, 1
    if not inner:
        transposed = _transposed_axis(extents, strides, vector)
        if transposed is not None:
            inner, split, chunk = (transposed,), transposed, TILE
        elif vector > 0 and extents[vector] > 2 * CHUNK:
            split, chunk = vector, CHUNK
    outer = tuple(k for k in range(len(extents)) if k != vector and k not in inner)
    return Nest(tuple(extents), outer, vector, inner, split, chunk)


def _transposed_axis(extents: Sequence[int], strides: Iterable[Strides], vector: int) -> int | None:
    """An axis along which an access is contiguous that jumps along the vector axis: it becomes the innermost loop, so
    that the sixteen cache lines of a vector serve the following ones too."""
    for place in strides:
        if abs(place[vector]) > 1:
            for k, stride in enumerate(place):
                if k != vector and abs(stride) == 1 and extents[k] >= LANES // 2:
                    return k
    return None


class Loops:
    """Writes the loops of a nest. The outermost extent is the table word ``n``; ``tag`` keeps several nests apart.

    ``width`` vectors are worked on side by side.
    """

    def __init__(self, e: Emission, nest: Nest, tag: str = "", width: int = 1) -> None:
        self.e, self.nest, self.tag, self.width = e, nest, tag, width
        self.extents: list[str | int] = list(nest.extents)
        self.extents[0] = e.word(nest.extents[0], f"n{tag}0")
        self.index = [f"i{tag}{k}" for k in range(len(nest.extents))]

    def write(self, emit: Emit[State], state: State) -> None:
        """``emit(level, state, points)`` writes what belongs into the loop of a level (0 to 3, see
        :meth:`Nest.level`) and returns the state for the loops inside it. Every level occurs, also where it has no
        loop of its own. From level 2 on there is a point for each vector."""
        e, nest = self.e, self.nest
        state = emit(0, state, [Point((0,) * len(self.index), None)])
        if nest.flat:
            e.line(f"start, stop = share({self.extents[nest.vector]}, {nest.grain}, thread, threads)")
            self._vectors(emit, emit(1, state, [self._point()]), "start", "stop")
            return
        with share_units(e, self._parts(), nest.grain):
            if nest.split is not None:
                e.line(f"low = chunk * {nest.chunk}")
                e.line(f"high = min(low + {nest.chunk}, {self.extents[nest.split]})")
            self._vectors(emit, emit(1, state, [self._point()]), *self._range(nest.vector))

    def _parts(self) -> list[tuple[str, str | int]]:
        """What the number of a unit is made of: variables and their extents."""
        parts = [(self.index[k], self.extents[k]) for k in self.nest.outer]
        if self.nest.split is not None:
            extent, chunk = self.extents[self.nest.split], self.nest.chunk
            whole = -(-extent // chunk) if isinstance(extent, int) else f"(({extent} + {chunk - 1}) // {chunk})"
            parts.append(("chunk", whole))
        return parts

    def _range(self, axis: int) -> tuple[str | int, str | int]:
        return ("low", "high") if axis == self.nest.split else (0, self.extents[axis])

    def _point(self, shift: int = 0, lanes: str | int | None = None) -> Point:
        index = [f"{i} + {shift}" if shift and k == self.nest.vector else i for k, i in enumerate(self.index)]
        return Point(tuple(index), self.nest.vector, lanes)

    def _vectors(self, emit: Emit[State], state: State, first: str | int, last: str | int) -> None:
        for vectors in vector_loop(self.e, self.index[self.nest.vector], first, last, self.width):
            points = [self._point(shift, lanes) for shift, lanes in vectors]
            self._inner(emit, emit(2, state, points), self.nest.inner, points)

    def _inner(self, emit: Emit[State], state: State, axes: Sequence[int], points: Sequence[Point]) -> None:
        if not axes:
            emit(3, state, points)
            return
        low, high = self._range(axes[0])
        with self.e.block(f"for {self.index[axes[0]]} in range({low}, {high}):"):
            self._inner(emit, state, axes[1:], points)


@contextlib.contextmanager
def share_units(e: Emission, parts: Sequence[tuple[str, str | int]], grain: int) -> Iterator[str]:
    """The loop over this thread's units; yields the variable with a unit's number. ``parts`` are the indices that a
    unit has and their extents, of which one may be known at run time only; it comes first in the number."""
    ordered = sorted(parts, key=lambda part: isinstance(part[1], int))
    static = math.prod(n for _, n in ordered if isinstance(n, int))
    dynamic = [n for _, n in ordered if isinstance(n, str)]
    total = " * ".join([*dynamic, *([str(static)] if static != 1 or not dynamic else [])])
    unit = ordered[0][0] if len(ordered) == 1 else "unit"
    e.line(f"start, stop = share({total}, {grain}, thread, threads)")
    with e.block(f"for {unit} in range(start, stop):"):
        if len(ordered) > 1:
            split_index(e, unit, ordered)
        yield unit


def split_index(e: Emission, unit: str, parts: Sequence[tuple[str, str | int]]) -> None:
    """Write the lines that take a number apart into variables of given extents, the last of which runs fastest."""
    extents = [n for _, n in parts[1:]]
    for k, (name, extent) in enumerate(parts):
        stride = math.prod(n for n in extents[k:] if isinstance(n, int))
        text = unit if stride == 1 else f"{unit} // {stride}"
        e.line(f"{name} = {text}" if k == 0 else f"{name} = {text} % {extent}")


#: The vectors of one turn of a loop: how far each is behind the index, and how many lanes it has (None: all)
Vectors = list[tuple[int, str | int | None]]


def vector_loop(e: Emission, index: str, first: str | int, last: str | int, width: int = 1) -> Iterator[Vectors]:
    """Loop ``index`` over ``range(first, last)``, ``width`` vectors of sixteen at a time; yields the vectors inside
    the loop, and then inside a block for the rest. What static extents rule out is left out."""
    step = LANES * width
    side_by_side: Vectors = [(LANES * c, None) for c in range(width)]
    if isinstance(first, int) and isinstance(last, int):
        whole = (last - first) // step * step
        if whole == step:
            e.line(f"{index} = {first}")
            yield side_by_side
        elif whole:
            with e.block(f"for {index} in range({first}, {first + whole}, {step}):"):
                yield side_by_side
        rest = last - first - whole
        if rest:
            e.line(f"{index} = {first + whole}")
            yield [(at, rest - at if rest - at < LANES else None) for at in range(0, rest, LANES)]
        return
    with e.block(f"for {index} in range({first}, {last} - {step - 1}, {step}):"):
        yield side_by_side
    span = str(last) if first == 0 else f"({last} - {first})"
    e.line(f"rest = {span} & {LANES - 1}" if width == 1 else f"rest = {span} % {step}")
    if width == 1:
        with e.block("if rest > 0:"):
            e.line(f"{index} = {last} - rest")
            yield [(0, "rest")]
        return
    with e.block(f"for {index} in range({last} - rest, {last}, {LANES}):"):
        e.line(f"lanes_left = min({last} - {index}, {LANES})")
        yield [(0, "lanes_left")]


def ragged(e: Emission, index: str, first: str | int, last: str | int) -> Iterator[str | int | None]:
    """:func:`vector_loop` over single vectors: yields the number of lanes (an expression), None for all sixteen."""
    for ((_, lanes),) in vector_loop(e, index, first, last):
        yield lanes


def loop_extents(axes: Sequence[Axis]) -> str:
    """The extents of loops for a title; the outermost one is known at run time only."""
    return "[" + ", ".join("n" if k == 0 else str(axis.extent) for k, axis in enumerate(axes)) + "]"


# ------------------------------------------------------------------------------------------------ elementwise


def elementwise(kernel: Kernel) -> Code:
    """Elementwise kernels: every output has the shape of the domain."""
    return elementwise_loops(kernel, Layout(kernel.body, kernel.domain.extents).collapse(kernel.body.outputs))


def elementwise_loops(kernel: Kernel, layout: Layout) -> Code:
    """A kernel whose layout has nothing to reduce."""
    outputs, axes = kernel.body.outputs, layout.axes or ()
    e = Emission(kernel, f"elementwise over {loop_extents(axes)}")
    if not axes:
        _one_place(e, layout)
        return e.code(1, body_cost(layout, outputs, None))
    extents = [axis.extent for axis in axes]
    nest = plan_nest(extents, layout.reads(outputs))
    levels = _levels(layout, nest)
    gathers: dict[int, list[Node]] = {}  # those whose indices are the same in all lanes, by the level at which they change
    for node in layout.needed(outputs):
        if node.op.name == "gather":
            changes = max(map(nest.level, layout.gathered(node).index_strides), default=0)
            if changes < 2:
                gathers.setdefault(changes, []).append(node)

    def emit(level: int, outer: list[Values], points: Sequence[Point]) -> list[Values]:
        inside = [outer[min(c, len(outer) - 1)].child(f"_{c}" if len(points) > 1 else None) for c in range(len(points))]
        for node in gathers.get(level, ()):
            for values, at in zip(inside, points, strict=True):
                values.prepare(node, at)
        inside[0].emit_together(list(zip(inside[1:], points[1:], strict=True)), levels[level], points[0])
        if level == 3:
            for values, at in zip(inside, points, strict=True):
                for position, node in enumerate(outputs, len(kernel.body.inputs)):
                    values.store(position, node, at)
        return inside

    width = 1 if nest.inner else vectors_side_by_side(layout.needed(outputs))
    Loops(e, nest, width=width).write(emit, [Values(e, layout)])
    work = body_cost(layout, outputs, nest.vector) * math.prod(extents) / LANES
    return e.code(nest.units, max(work, e.memory_cost))


def vectors_side_by_side(nodes: Iterable[Node]) -> int:
    """Four vectors where a body is a chain of functions, whose instructions wait for each other; otherwise one."""
    sizes = [text_size(node) for node in nodes]
    return 4 if sum(size > 1 for size in sizes) > 1 and sum(sizes) <= MOST_SIDE_BY_SIDE else 1


def _one_place(e: Emission, layout: Layout) -> None:
    """A domain of one element."""
    values, here = Values(e, layout), Point((), None)
    with e.block("if thread == 0:"):
        values.emit(e.kernel.body.outputs, here)
        for position, node in enumerate(e.kernel.body.outputs, len(e.kernel.body.inputs)):
            values.store(position, node, here)


def _levels(layout: Layout, nest: Nest) -> tuple[list[Node], list[Node], list[Node], list[Node]]:
    """Every node under the loop that it has to be computed in."""
    found: dict[Node, int] = {}
    levels: tuple[list[Node], list[Node], list[Node], list[Node]] = ([], [], [], [])
    for node in layout.needed(layout.body.outputs):
        place = layout.place(node)
        if place is not None:
            found[node] = nest.level(place.strides)
        elif node.op.kind == "random":
            found[node] = max(nest.level(p.strides) for p in layout.random_places(node))
        elif node.op.name == "gather":
            found[node] = max(map(nest.level, layout.gathered(node).strides))
        else:
            found[node] = max((found[x] for x in node.inputs if x in found), default=0)
        levels[found[node]].append(node)
    return levels


def body_cost(layout: Layout, outputs: Iterable[Node], axis: int | None) -> float:
    """Estimated nanoseconds for sixteen places along ``axis`` of all that ``outputs`` need."""
    outputs = list(outputs)
    total = sum(access_cost(strides, axis) for node in outputs for _, _, strides in layout.stores(node))
    for node in layout.needed(outputs):
        place = layout.place(node)
        if node.op.name == "gather":
            total += gather_cost(layout, node, axis)
        else:
            total += access_cost(place.strides, axis) if place is not None else op_cost(node)
    return total


def gather_cost(layout: Layout, node: Node, axis: int | None) -> float:
    """Estimated nanoseconds for sixteen places of a gather."""
    found = layout.gathered(node)
    if axis is not None and any(strides[axis] for strides in found.index_strides):
        return STRIDED + sum(access_cost(strides, axis) for strides in found.index_strides)
    return SPLAT + access_cost(found.table.strides, axis)


def access_cost(strides: Strides, axis: int | None) -> float:
    stride = 0 if axis is None else strides[axis]
    return SPLAT if stride == 0 else CONTIGUOUS if stride == 1 else STRIDED


# ------------------------------------------------------------------------------------------------ copy


@dataclass(frozen=True, slots=True)
class _Piece:
    """A box of the result: element ``offset + Σ into[k]·i_k`` of the result is element ``start + Σ of[k]·i_k`` of
    argument ``position``. A fill reads one element (all strides 0), or is a scalar constant (no position)."""

    extents: Strides
    position: int | None
    start: int
    of: Strides
    offset: int
    into: Strides

    def merged(self) -> tuple[Strides, Strides, Strides]:
        """Extents and both strides with as few axes as possible."""
        axes = merge_axes([Axis((k,), n, False) for k, n in enumerate(self.extents)], [self.of, self.into])
        last = [axis.members[-1] for axis in axes]
        if not axes:
            return (1,), (0,), (1,)
        return tuple(axis.extent for axis in axes), tuple(self.of[k] for k in last), tuple(self.into[k] for k in last)


def copy(kernel: Kernel) -> Code:
    """Movement that is no strided access: concatenate, pad, and reshapes of strided operands.

    Pieces of one shape are one loop over the table: stacking 64 steps is as much code as stacking two.
    """
    (node,) = kernel.body.outputs
    if node.op.name not in _PIECES:
        raise NoEmitter(node)
    boxes = [[piece for piece in box if 0 not in piece.extents] for box in _PIECES[node.op.name](node, kernel)]
    then: Code | None = None
    for step in reversed(boxes):
        then = _copy_step(kernel, node, step, then) if step else then
    return then if then is not None else Emission(kernel, "copy: nothing").code(1, 0.0)


def _copy_step(kernel: Kernel, node: Node, pieces: Sequence[_Piece], then: Code | None) -> Code:
    e = Emission(kernel, f"copy: {node.op.name}")
    work, units = 0.0, 1
    for number, (shape, group) in enumerate(
        groupby(pieces, key=lambda piece: (piece.merged(), piece.position is None))
    ):
        same = list(group)
        nest = _write_group(e, f"_{number}_", same, node)
        (extents, of, into), _ = shape
        units = max(units, nest.units)
        work += len(same) * (access_cost(of, nest.vector) + access_cost(into, nest.vector)) * math.prod(extents) / LANES
    return e.code(units, max(work, e.memory_cost), then)


def _write_group(e: Emission, tag: str, pieces: Sequence[_Piece], node: Node) -> Nest:
    """The loop over pieces of one shape. Their addresses stand in pairs at the end of the table."""
    dtype, result = node.type.dtype, len(e.kernel.body.inputs)
    extents, of, into = pieces[0].merged()
    nest = plan_nest(extents, [of, into])
    loops = Loops(e, nest, tag)
    count = e.word(len(pieces), f"pieces{tag}"[:-1])
    fill = None
    if pieces[0].position is None:
        constant = constant_scalar(node.inputs[1])
        assert constant is not None
        fill = e.param(dtype, constant["value"].value.reshape(()), constant)

    def emit(level: int, state: None, points: Sequence[Point]) -> None:
        if level == 3:
            (at,) = points
            if fill is None:
                e.line(f"x = {load_from('source', of, dtype, 0, at)}")
            e.line(store_to("target", into, fill or "x", dtype, 1, at))

    addresses = [
        Pointer(place, element * dtype.itemsize)
        for piece in pieces
        for place, element in ((piece.position or 0, piece.start), (result, piece.offset))
    ]
    first = e.pointers(addresses)
    with e.block(f"for piece in range({count}):"):
        if fill is None:
            e.line(f"source = pointer(table, {first} + 2 * piece)")
        e.line(f"target = pointer(table, {first + 1} + 2 * piece)")
        loops.write(emit, None)
    return nest


def _access_piece(node: Node, kernel: Kernel, offset: int, into: Strides) -> _Piece:
    constant = constant_scalar(node)
    if constant is not None:
        return _Piece(node.type.shape, None, 0, (0,) * node.type.ndim, offset, into)
    found = access(node, frozenset(kernel.body.inputs))
    if found is None:
        raise NoEmitter(node, "an operand of a copy must be an access")
    return _Piece(node.type.shape, kernel.body.inputs.index(found.source), found.offset, found.strides, offset, into)


def _reshape_pieces(node: Node, kernel: Kernel) -> list[list[_Piece]]:
    (x,) = node.inputs
    return [[_access_piece(x, kernel, 0, contiguous_strides(x.type.shape))]]


def _concatenate_pieces(node: Node, kernel: Kernel) -> list[list[_Piece]]:
    into, at, pieces = contiguous_strides(node.type.shape), 0, []
    for x in node.inputs:
        pieces.append(_access_piece(x, kernel, at * into[node["axis"]], into))
        at += x.type.shape[node["axis"]]
    return [pieces]


def _pad_pieces(node: Node, kernel: Kernel) -> list[list[_Piece]]:
    """The operand in its place; around it boxes of the fill value. Where the operand's elements lie apart, the whole
    result is filled first, and the operand placed in a second step."""
    x, fill = node.inputs
    shape, start, step = node.type.shape, node["start"], node["step"]
    strides = contiguous_strides(shape)

    def filled(low: Sequence[int], high: Sequence[int]) -> _Piece:
        extents = tuple(b - a for a, b in zip(low, high, strict=True))
        offset = sum(a * s for a, s in zip(low, strides, strict=True))
        return replace(_access_piece(fill, kernel, offset, strides), extents=extents, of=(0,) * len(extents))

    if x.type.size == 0:
        return [[filled((0,) * len(shape), shape)]]
    into = tuple(s * by for s, by in zip(strides, step, strict=True))
    placed = _access_piece(x, kernel, sum(s * a for s, a in zip(strides, start, strict=True)), into)
    if any(abs(by) > 1 and n > 1 for by, n in zip(step, x.type.shape, strict=True)):
        return [[filled((0,) * len(shape), shape)], [placed]]
    ends = [a + (n - 1) * by for a, n, by in zip(start, x.type.shape, step, strict=True)]
    low = [min(a, b) for a, b in zip(start, ends, strict=True)]
    high = [max(a, b) + 1 for a, b in zip(start, ends, strict=True)]
    boxes = [placed]
    for k in range(len(shape)):
        before, after = [*low[:k], *(0 for _ in shape[k:])], [*high[:k], *shape[k:]]
        boxes.append(filled(before, [*after[:k], low[k], *after[k + 1 :]]))
        boxes.append(filled([*before[:k], high[k], *before[k + 1 :]], after))
    return [boxes]


_PIECES: dict[str, Callable[[Node, Kernel], list[list[_Piece]]]] = {
    "reshape": _reshape_pieces,
    "concatenate": _concatenate_pieces,
    "pad": _pad_pieces,
}
