"""Emitter of segment kernels: gather, scatter, dynamic_slice, dynamic_update_slice. All operands lie contiguous.

An index tuple names a *place*; what is moved for it is a box over the axes that are not indexed, a vector of its last axis
at a time. Gathers are loops like any others, see :mod:`graphc.backends.cpu.loops`.

Scatter has two steps. The first checks every index and copies the operand; in place, there is nothing to copy, so that
a bad index is found before anything is overwritten. In the second every thread goes through all updates in order and
applies those that fall on elements of its own, a range of places or of the last axis: an element sees its updates in
order, however many threads there are.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from graphc.backends.cpu.codegen import CONTIGUOUS, LANES, STRIDED, Code, Emission, NoEmitter, dtype_name, linear
from graphc.backends.cpu.emit_loops import elementwise, ragged
from graphc.backends.cpu.loops import LARGEST, Axis, Point, index_error, load_from, merge_axes, store_to
from graphc.ir import Node
from graphc.ops.indexing import rest_axes
from graphc.passes.access import contiguous_strides
from graphc.passes.schedule import Domain, Kernel
from graphc.types import DTYPES, DType, u64

CHUNK = 4096  # elements of a box's last axis, or of a copy, that are one unit of work
FEW_PLACES = 64  # fewer places than that are not dealt out to threads where the last axis can be

Strides = tuple[int, ...]


def segment(kernel: Kernel) -> Code:
    """One gather, scatter, dynamic_slice or dynamic_update_slice."""
    (node,) = kernel.body.outputs
    if node.type.size == 0:
        return Emission(kernel, "segment without elements").code(1, 0.0)
    emit = _EMITTERS.get(node.op.name)
    if emit is None:
        raise NoEmitter(node)
    if node.type.dtype.kind == "c":
        raise NoEmitter(node, "complex numbers")
    return emit(kernel, node)


# ------------------------------------------------------------------------------------------------ boxes


@dataclass(frozen=True, slots=True)
class Box:
    """Loops over a part of a tensor: merged ``extents`` with the strides of two tensors ``a`` and ``b``."""

    extents: Strides
    a: Strides
    b: Strides

    @property
    def size(self) -> int:
        return math.prod(self.extents)

    @property
    def vectors(self) -> float:
        return self.size / self.extents[-1] * -(-self.extents[-1] // LANES)


def merged_box(extents: Sequence[int], a: Sequence[int], b: Sequence[int]) -> Box:
    """The box with as few axes as possible, at least one."""
    axes = merge_axes([Axis((k,), n, False) for k, n in enumerate(extents)], [tuple(a), tuple(b)])
    last = [axis.members[-1] for axis in axes]
    if not axes:
        return Box((1,), (1,), (1,))
    return Box(tuple(axis.extent for axis in axes), tuple(a[k] for k in last), tuple(b[k] for k in last))


def box_points(e: Emission, box: Box, low: str | int = 0, high: str | int | None = None) -> Iterator[Point]:
    """Loops over a box, the last axis from ``low`` to ``high`` in vectors: yields a point of ``r0, r1, …`` per copy of the
    body."""
    index = tuple(f"r{k}" for k in range(len(box.extents)))
    with contextlib.ExitStack() as loops:
        for name, n in zip(index[:-1], box.extents[:-1], strict=True):
            loops.enter_context(e.block(f"for {name} in range({n}):"))
        for lanes in ragged(e, index[-1], low, box.extents[-1] if high is None else high):
            yield Point(index, len(index) - 1, lanes)


def at(base: str, point: Point) -> Point:
    """``point`` with ``base`` as a further index (of stride 1) before the others."""
    return Point((base, *point.index), None if point.axis is None else point.axis + 1, point.lanes)


def bits(dtype: DType) -> DType:
    """The unsigned integer as wide as ``dtype``: copies keep every bit."""
    return DTYPES[f"u{8 * dtype.itemsize}"]


def copy_flat(e: Emission, source: int, target: int, count: int, dtype: DType) -> float:
    """Copy ``count`` elements between arguments, threads sharing them; the estimated nanoseconds."""
    number = e.word(count, "elements")
    e.line(f"start, stop = share({number}, {CHUNK}, thread, threads)")
    for lanes in ragged(e, "c", "start", "stop"):
        point = Point(("c",), 0, lanes)
        e.line(f"x = {load_from(e.pointer(source), (1,), bits(dtype), e.scope(source), point)}")
        e.line(store_to(e.pointer(target), (1,), "x", bits(dtype), e.scope(target), point))
    return count / LANES * 2 * CONTIGUOUS


# ------------------------------------------------------------------------------------------------ indices


@dataclass(frozen=True, slots=True)
class Indices:
    """The index tensors of a gather or scatter: where they are and what they address.

    ``first`` is the number of the first one among the arguments; ``strides`` are those of x along the indexed axes.
    """

    first: int
    dtype: DType
    count: int
    extents: Strides
    strides: Strides
    mode: str

    def names(self, e: Emission) -> list[str]:
        """The extents of the indexed axes, as variables."""
        return [e.word(n, f"extent{k}") for k, n in enumerate(self.extents)]

    def bad(self, e: Emission, node: Node) -> str:
        """The statement that ends the kernel with an IndexError."""
        return index_error(e, node)

    def element(self) -> str:
        return linear(*((f"x{k}", s) for k, s in enumerate(self.strides)))

    def scalars(self, e: Emission, tuple_: str, checked: Node | None = None) -> None:
        """``x0, x1, …``: the places of one index tuple; ``inside`` tells whether there are such places (mode drop).

        ``checked`` is the node to blame where an index is out of range; None: they have been checked.
        """
        extents = self.names(e)
        if self.mode == "drop":
            e.line("inside = 1")
        for k, extent in enumerate(extents):
            position = self.first + k
            load = f"splat_load({e.pointer(position)}, {tuple_}, {dtype_name(self.dtype)}, {e.scope(position)})"
            e.line(f"x{k} = first_lane({load})")
            wraps = self.mode == "raise" and self.dtype.kind == "i"
            if wraps or self.dtype is u64:
                with e.block(f"if x{k} < 0:"):
                    e.line(f"x{k} = x{k} + {extent}" if wraps else f"x{k} = {LARGEST}")
            match self.mode:
                case "clip":
                    e.line(f"x{k} = max(min(x{k}, {extent} - 1), 0)")
                case "drop":
                    self._if_outside(e, k, extent, ["inside = 0", f"x{k} = 0"])
                case _ if checked is not None:
                    self._if_outside(e, k, extent, [self.bad(e, checked)])

    def _if_outside(self, e: Emission, k: int, extent: str, lines: Sequence[str]) -> None:
        with e.block(f"if min(x{k}, {extent} - 1 - x{k}) < 0:"):
            for line in lines:
                e.line(line)

    def vectors(self, e: Emission, point: Point) -> None:
        """``x0, x1, …``: the places of sixteen index tuples; ``bad``: lanes with an index out of range (not for clip). Lanes
        that do not exist have index 0."""
        for k, extent in enumerate(self.names(e)):
            position = self.first + k
            load = load_from(e.pointer(position), (1,), self.dtype, e.scope(position), point)
            e.line(f"x{k} = cast({load}, i64)")
            if self.dtype is u64:
                e.line(f"x{k} = select(x{k} < 0, {LARGEST}, x{k})")
            elif self.mode == "raise" and self.dtype.kind == "i":
                e.line(f"x{k} = select(x{k} < 0, x{k} + {extent}, x{k})")
            if self.mode == "clip":
                e.line(f"x{k} = maximum(minimum(x{k}, {extent} - 1), 0)")
                continue
            e.line(f"{'bad' if k == 0 else f'bad{k}'} = (x{k} < 0) | (x{k} >= {extent})")
            if k:
                e.line(f"bad = bad | bad{k}")


def indices_of(node: Node, first: int) -> Indices:
    """The index tensors of a gather or scatter, the first one being argument number ``first`` of the node."""
    x, index = node.inputs[0], node.inputs[first]
    strides = contiguous_strides(x.type.shape)
    axes = node["axes"]
    extents = tuple(x.type.shape[a] for a in axes)
    return Indices(first, index.type.dtype, index.type.size, extents, tuple(strides[a] for a in axes), node["mode"])


def _arguments(kernel: Kernel, node: Node) -> tuple[int, ...]:
    """The kernel's argument numbers of a node's operands."""
    if any(x.op.kind != "input" for x in node.inputs):
        raise NoEmitter(node, "its operands must be in memory")
    return tuple(kernel.body.inputs.index(x) for x in node.inputs)


# ------------------------------------------------------------------------------------------------ gather


def _gather(kernel: Kernel, node: Node) -> Code:
    """A gather of its own: loops as over any other elements."""
    if node.inputs[0].type.size:
        return elementwise(replace(kernel, domain=Domain(node.type.shape)))
    result, indices = _positions(kernel, node), indices_of(node, 1)  # only mode drop gets further than the indices
    return _gather_nothing(Emission(kernel, f"gather from nothing, mode {indices.mode}"), node, indices, result)


def _positions(kernel: Kernel, node: Node) -> int:
    """The number of the result among arguments and results; operands must be the arguments, in order."""
    if _arguments(kernel, node) != tuple(range(len(node.inputs))):
        raise NoEmitter(node, "its operands must be the kernel's arguments, each once and in order")
    return len(kernel.body.inputs)


def _gather_nothing(e: Emission, node: Node, indices: Indices, result: int) -> Code:
    element = bits(node.type.dtype)
    e.line(f"start, stop = share({e.word(node.type.size, 'elements')}, {CHUNK}, thread, threads)")
    if indices.mode == "raise":
        with e.block("if start < stop:"):
            e.line(indices.bad(e, node))
    for lanes in ragged(e, "c", "start", "stop"):
        zero = f"splat(0, {dtype_name(element)})"
        e.line(store_to(e.pointer(result), (1,), zero, element, e.scope(result), Point(("c",), 0, lanes)))
    return e.code(-(-node.type.size // CHUNK), node.type.size / LANES)


# ------------------------------------------------------------------------------------------------ scatter


def _scatter(kernel: Kernel, node: Node) -> Code:
    result, indices = _positions(kernel, node), indices_of(node, 2)
    return _check_and_copy(kernel, node, indices, result, _apply(kernel, node, indices, result))


def _check_and_copy(kernel: Kernel, node: Node, indices: Indices, result: int, then: Code) -> Code:
    """The first step: every thread checks its share of the indices and copies its share of the operand."""
    x = node.inputs[0].type
    e = Emission(kernel, f"scatter of {dtype_name(x.dtype)}, mode {indices.mode}: check and copy")
    work = 0.0
    if indices.mode == "raise":
        e.line(f"start, stop = share({e.word(indices.count, 'tuples')}, {LANES}, thread, threads)")
        for lanes in ragged(e, "i", "start", "stop"):
            indices.vectors(e, Point(("i",), 0, lanes))
            with e.block("if any_lane(bad):"):
                e.line(indices.bad(e, node))
        work += indices.count / LANES * CONTIGUOUS * 2 * len(indices.extents)
    with e.block(f"if address({e.pointer(0)}) != address({e.pointer(result)}):", "not in place"):
        work += copy_flat(e, 0, result, x.size, x.dtype)
    return e.code(max(x.size // CHUNK, indices.count // CHUNK), work, then)


def _apply(kernel: Kernel, node: Node, indices: Indices, result: int) -> Code:
    """The second step: all updates, in order."""
    x, updates = node.inputs[0].type, node.inputs[1].type
    rest = rest_axes(x.ndim, node["axes"])
    extents = [x.shape[k] for k in rest]
    strides = contiguous_strides(x.shape)
    box = merged_box(extents, [strides[k] for k in rest], contiguous_strides(extents))
    places = math.prod(indices.extents)
    by_last_axis = places < FEW_PLACES and box.extents[-1] >= 4 * LANES
    combine = node["combine"]
    e = Emission(kernel, f"scatter of {dtype_name(x.dtype)}, mode {indices.mode}, combine {combine}: updates")
    shared, grain = (box.extents[-1], LANES * 2) if by_last_axis else (places, 1)
    e.line(f"first, last = share({e.word(shared, 'shared')}, {grain}, thread, threads)")
    with e.block(f"for i in range({e.word(indices.count, 'tuples')}):"):
        indices.scalars(e, "i")
        conditions = ["inside == 1"] if indices.mode == "drop" else []
        if not by_last_axis:
            e.line(f"place = {_place(indices)}")
            conditions.append("min(place - first, last - 1 - place) >= 0")
        e.line(f"base = {indices.element()}")
        e.line(f"from_ = i * {box.size}")
        with contextlib.ExitStack() as nested:
            for condition in conditions:
                nested.enter_context(e.block(f"if {condition}:"))
            _update_box(e, node, box, result, ("first", "last") if by_last_axis else (0, None))
    vectors = indices.count * box.vectors
    each = 3 * (CONTIGUOUS if box.a[-1] == 1 else STRIDED)
    units = shared // grain if by_last_axis else min(places, max(updates.size // 256, 1))
    return e.code(units, indices.count * 4.0 + vectors * each)


def _place(indices: Indices) -> str:
    """The text of a tuple's number among all places, in C order of the indexed axes."""
    text = "x0"
    for k in range(1, len(indices.extents)):
        text = f"({text}) * extent{k} + x{k}" if k > 1 else f"{text} * extent{k} + x{k}"
    return text


def _update_box(e: Emission, node: Node, box: Box, result: int, bounds: tuple[str | int, str | int | None]) -> None:
    dtype, combine = node.type.dtype, node["combine"]
    element = bits(dtype) if combine == "set" else dtype
    out, scope = e.pointer(result), e.scope(result)
    for point in box_points(e, box, *bounds):
        e.line(f"u = {load_from(e.pointer(1), (1, *box.b), element, e.scope(1), at('from_', point))}")
        if combine != "set":
            e.line(f"v = {load_from(out, (1, *box.a), element, scope, at('base', point))}")
            e.line(f"u = {COMBINED[combine, dtype.kind == 'b'].format('v', 'u')}")
        e.line(store_to(out, (1, *box.a), "u", element, scope, at("base", point)))


#: combine, whether for bool → the expression of the element and the update
COMBINED = {
    ("add", False): "{0} + {1}",
    ("mul", False): "{0} * {1}",
    ("min", False): "minimum({0}, {1})",
    ("max", False): "maximum({0}, {1})",
    ("min", True): "{0} & {1}",
    ("max", True): "{0} | {1}",
}


# ------------------------------------------------------------------------------------------------ dynamic slices


def _starts(e: Emission, node: Node, first: int, size: Strides) -> None:
    """``base``: the element of x where the block starts."""
    shape = node.inputs[0].type.shape
    strides = contiguous_strides(shape)
    terms = []
    for k, (n, extent) in enumerate(zip(size, shape, strict=True)):
        if n == extent:
            continue
        position, dtype = first + k, node.inputs[first + k].type.dtype
        load = f"splat_load({e.pointer(position)}, 0, {dtype_name(dtype)}, {e.scope(position)})"
        e.line(f"x{k} = first_lane({load})")
        if dtype is u64:
            with e.block(f"if x{k} < 0:"):
                e.line(f"x{k} = {LARGEST}")
        e.line(f"x{k} = max(min(x{k}, {e.word(extent - n, f'last{k}')}), 0)")
        terms.append((f"x{k}", strides[k]))
    e.line(f"base = {linear(*terms)}")


def _move_block(e: Emission, block: Box, a: int, b: int, dtype: DType, read: bool) -> tuple[int, float]:
    """Copy a block from argument ``a`` at ``base`` to ``b`` (``read``), or the other way round; units and nanoseconds."""
    outer = math.prod(block.extents[:-1])
    chunks = -(-block.extents[-1] // CHUNK)
    element = bits(dtype)
    e.line(
        f"start, stop = share({e.word(outer, 'lines')} * {chunks}, {max(1, 1024 // block.extents[-1])}, thread, threads)"
    )
    with e.block("for unit in range(start, stop):"):
        e.line(f"line = unit // {chunks}" if chunks > 1 else "line = unit")
        e.line(f"low = unit % {chunks} * {CHUNK}" if chunks > 1 else "low = 0")
        e.line(f"high = min(low + {CHUNK}, {block.extents[-1]})")
        for k in reversed(range(len(block.extents) - 1)):
            last = k == 0
            e.line(f"r{k} = line" if last else f"r{k} = line % {block.extents[k]}")
            if not last:
                e.line(f"line = line // {block.extents[k]}")
        index = ("base", *(f"r{k}" for k in range(len(block.extents) - 1)), "j")
        axis = len(index) - 1
        for lanes in ragged(e, "j", "low", "high"):
            outside, inside = Point(index, axis, lanes), Point(("0", *index[1:]), axis, lanes)
            sides = [(a, (1, *block.a), outside), (b, (1, *block.b), inside)]
            (source, of, here), (target, into, there) = sides if read else reversed(sides)
            e.line(f"v = {load_from(e.pointer(source), of, element, e.scope(source), here)}")
            e.line(store_to(e.pointer(target), into, "v", element, e.scope(target), there))
    return outer * chunks, outer * -(-block.extents[-1] // LANES) * 2 * CONTIGUOUS


def _block(node: Node, size: Strides) -> Box:
    return merged_box(size, contiguous_strides(node.inputs[0].type.shape), contiguous_strides(size))


def _dynamic_slice(kernel: Kernel, node: Node) -> Code:
    result = _positions(kernel, node)
    e = Emission(kernel, f"dynamic_slice of {dtype_name(node.type.dtype)}")
    _starts(e, node, 1, node["size"])
    return e.code(*_move_block(e, _block(node, node["size"]), 0, result, node.type.dtype, read=True))


def _dynamic_update_slice(kernel: Kernel, node: Node) -> Code:
    """Copy the operand where it is not written in place, then write the block."""
    result, update = _positions(kernel, node), node.inputs[1].type
    e = Emission(kernel, f"dynamic_update_slice of {dtype_name(node.type.dtype)}: block")
    _starts(e, node, 2, update.shape)
    if update.size == 0:
        then = None
    else:
        then = e.code(*_move_block(e, _block(node, update.shape), result, 1, node.type.dtype, read=False))
    e = Emission(kernel, f"dynamic_update_slice of {dtype_name(node.type.dtype)}: copy")
    with e.block(f"if address({e.pointer(0)}) != address({e.pointer(result)}):", "not in place"):
        work = copy_flat(e, 0, result, node.type.size, node.type.dtype)
    return e.code(node.type.size // CHUNK, work, then)


_EMITTERS: dict[str, Callable[[Kernel, Node], Code]] = {
    "gather": _gather,
    "scatter": _scatter,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
}
