"""Emitter of windows: which routine an op takes, and the general one for reductions of windows.

Convolutions go to :mod:`graphc.backends.cpu.emit_convolution` (few places in the window), ``emit_correlation`` (few in the
result) and ``emit_depthwise`` (few filters in a group), reductions along up to three trailing axes to ``emit_pooling``.

Here is what remains: reductions along more axes, and where a window has its extreme value. Places of the result are
numbered along its *flat* axes (those that windows slide along, and what comes after them). Sixteen of these numbers are a
vector; their coordinates are computed once, and for each place in the window say where the lanes read, and which of them
read padding. Where the lanes read neighbours, that is one masked load, else a gather.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from graphc.backends.cpu.codegen import LANES, STRIDED, Code, Emission, NoEmitter, compute_dtype, dtype_name, linear
from graphc.backends.cpu.emit_convolution import convolution, read
from graphc.backends.cpu.emit_correlation import correlation, fits
from graphc.backends.cpu.emit_depthwise import direct, dots, few_filters, few_products
from graphc.backends.cpu.emit_pooling import pooling, trailing, unpooling
from graphc.backends.cpu.places import FlatPlaces
from graphc.backends.cpu.sliding import SPACE, Slide
from graphc.ir import Node
from graphc.ops.reduction import highest, lowest
from graphc.passes.access import Access, contiguous_strides
from graphc.passes.schedule import Kernel
from graphc.types import DType, i64, u8

BLOCK = 512  # places of a block at most
ROWS = 16  # rows of a unit of reduce_window
WINDOWS = ("conv", "reduce_window", "window_argmax", "window_scatter")

Strides = tuple[int, ...]


def window(kernel: Kernel) -> Code:
    """One conv, reduce_window, window_argmax or window_scatter with elementwise nodes at its shape."""
    found = [node for node in kernel.body.nodes if node.op.name in WINDOWS]
    if len(found) != 1:
        raise NoEmitter(kernel.body.nodes[-1], "a window kernel has one window op")
    (node,) = found
    if node.type.size == 0:
        return Emission(kernel, "window without elements").code(1, 0.0)
    if node.op.name == "conv":
        if fits(node):
            return dots(kernel, node) if few_products(node) else correlation(kernel, node)
        return direct(kernel, node) if few_filters(node) else convolution(kernel, node)
    if node.op.name == "window_scatter":
        return unpooling(kernel, node)
    if node.op.name == "reduce_window" and 1 <= len(trailing(node)) <= SPACE:
        return pooling(kernel, node)
    return _reduction(kernel, node)


# ------------------------------------------------------------------------------------------------ sliding


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


# ------------------------------------------------------------------------------------------------ reduce_window


def _reduction(kernel: Kernel, node: Node) -> Code:
    """Rows are the leading axes along which nothing slides. A unit is a block of rows and of places."""
    x = node.inputs[0]
    if not x.type.shape:
        raise NoEmitter(node, "the window of a scalar is the scalar: the pass simplify replaces it")
    position, found = read(kernel, x)
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
        flat = FlatPlaces(e, node, lead)
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
                flat.write(values, index, "(row - row_low) * width - low")
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
