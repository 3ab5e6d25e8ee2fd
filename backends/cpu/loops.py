"""What emitters of loops share: how the nodes of a body lie in the loops, and the text of a body at one vector.

A kernel's body is written at a :class:`Point`: sixteen places along one axis of the loops. :class:`Layout` says which
memory each node reads there, :class:`Values` writes the lines.

Half floats are computed in f32 and rounded where they are stored. Where an op decides something (comparisons, casts to
integers), its half-float operands are rounded first, so that it sees what every other kernel reads from memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from graphc.backends.cpu.codegen import LANES, Emission, NoEmitter, compute_dtype, dtype_name, is_narrow, linear
from graphc.ir import Graph, Node, topological
from graphc.ops.indexing import rest_axes
from graphc.passes.access import Access, access, contiguous_strides
from graphc.types import DType, i64, u64

INDEX = -1  # the position of what is not read from memory but follows from the indices of the loops
INDEX_ERROR = 1  # the code of an error word: an index is out of range
LARGEST = 2**63 - 1

#: ops whose spelling in kernel source is not that of their scalar expression
SPELLING = {
    "abs": "abs({0})",
    "pow": "power({0}, {1})",
    "shift_left": "left_shift({0}, {1})",
    "shift_right": "right_shift({0}, {1})",
}
#: ops whose second operand is written as a literal where it is constant: LLVM then needs no division
_LITERAL_DIVISORS = ("floor_divide", "remainder", "shift_left", "shift_right")


# ------------------------------------------------------------------------------------------------ layout


@dataclass(frozen=True, slots=True)
class Place:
    """What a node reads: element ``offset + Σ strides[k]·i_k`` of argument ``position`` (INDEX: that number itself)."""

    position: int
    offset: int
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class IndexTensor:
    """One index tensor of a gather: where it is read (a scalar constant: nowhere), its element type, and the extent and
    stride of the axis of the table that it addresses."""

    place: Place | None
    constant: Node | None
    dtype: DType
    extent: int
    stride: int
    checked: bool  # whether indices may be outside


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a gather reads: ``table`` has strides along the axes that are not indexed; each index adds to its element."""

    table: Place
    indices: tuple[IndexTensor, ...]
    mode: str

    @property
    def strides(self) -> list[tuple[int, ...]]:
        """The strides of all that it reads."""
        return [self.table.strides, *self.index_strides]

    @property
    def index_strides(self) -> list[tuple[int, ...]]:
        return [index.place.strides for index in self.indices if index.place is not None]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of the loops: the axes of the domain that went into it, its extent, and whether it is reduced."""

    members: tuple[int, ...]
    extent: int
    reduced: bool


class Layout:
    """How the nodes of a body lie in loops over a domain.

    ``extents`` and ``reduced`` are those of the kernel's domain; without them every node has the axes of its own shape.
    Nodes of the kept shape (the domain without its reduced axes) have stride 0 along the reduced axes. Once
    :meth:`collapse` has been called, places have one stride per axis in :attr:`axes`.
    """

    def __init__(self, body: Graph, extents: Sequence[int] | None = None, reduced: Sequence[int] = ()) -> None:
        self.body = body
        self.extents = None if extents is None else tuple(extents)
        self.kept = None if extents is None else tuple(k for k in range(len(extents)) if k not in reduced)
        self.axes: tuple[Axis, ...] | None = None
        if self.extents is not None:
            self.axes = tuple(Axis((k,), n, k in reduced) for k, n in enumerate(self.extents))
        self._sources = frozenset(body.inputs)
        self._position = {node: k for k, node in enumerate(body.inputs)}
        self._places: dict[Node, Place | None] = {}
        self._gathers: dict[Node, Gathered] = {}
        self._leaves: frozenset[Node] | None = None

    def place(self, node: Node) -> Place | None:
        """Where ``node`` is read from, or None if it is computed (or a constant)."""
        if node not in self._places:
            self._places[node] = self._find(node)
        return self._places[node]

    def _find(self, node: Node) -> Place | None:
        ranks = None if self.extents is None else (len(self.extents), len(self.kept or ()))
        if node.op.name == "iota":
            if ranks is not None and node.type.ndim not in ranks:
                return None  # the index tensor of a gather
            return Place(INDEX, 0, self.loop_strides(tuple(int(k == node["axis"]) for k in range(len(node["shape"])))))
        if node.op.kind not in ("input", "movement"):
            return None
        if ranks is not None and node.type.ndim not in ranks:
            return None  # not at a shape of the loops: something that accesses, or a contraction, read
        found = access(node, self._sources)
        return None if found is None else self._located(found)

    def _located(self, found: Access) -> Place:
        return Place(self._position[found.source], found.offset, self.loop_strides(found.strides))

    def stored(self, node: Node) -> tuple[int, ...]:
        """Strides, along the loops, of a contiguous result with the shape of ``node``."""
        return self.loop_strides(contiguous_strides(node.type.shape))

    def stores(self, node: Node) -> list[tuple[Node, int, tuple[int, ...]]]:
        """What is written for the output ``node``: nodes, the elements of the result at which they begin, and their strides
        along the loops. A concatenation of nodes at the shape of the loops is written operand by operand."""
        if node.op.name != "concatenate":
            return [(node, 0, self.stored(node))]
        strides, axis = contiguous_strides(node.type.shape), node["axis"]
        found, at = [], 0
        for x in node.inputs:
            found.append((x, at * strides[axis], self.loop_strides(strides)))
            at += x.type.shape[axis]
        return found

    def loop_strides(self, strides: tuple[int, ...]) -> tuple[int, ...]:
        """Strides along a node's own axes as strides along the axes of the loops."""
        if self.axes is None or self.extents is None or self.kept is None:
            return strides
        if len(strides) != len(self.extents):
            wide = [0] * len(self.extents)
            for k, stride in zip(self.kept, strides, strict=True):
                wide[k] = stride
            strides = tuple(wide)
        return tuple(strides[axis.members[-1]] for axis in self.axes)

    def random_places(self, node: Node) -> tuple[Place, Place, Place]:
        """Of a ``random_bits`` node: the two words of its key, and its elements' numbers."""
        key = node.inputs[0]
        batch, shape = key.type.ndim - 1, node["shape"]
        found = access(key, self._sources)
        if found is None:
            raise NoEmitter(node, "its key is computed in the same kernel")
        lead = (*found.strides[:batch], *(0 for _ in shape))
        low = self._located(Access(found.source, found.offset, lead))
        high = self._located(Access(found.source, found.offset + found.strides[-1], lead))
        numbers = (*(0 for _ in range(batch)), *contiguous_strides(shape))
        return low, high, Place(INDEX, 0, self.loop_strides(numbers))

    def gathered(self, node: Node) -> Gathered:
        """What a ``gather`` node reads."""
        if node not in self._gathers:
            self._gathers[node] = self._find_gathered(node)
        return self._gathers[node]

    def _find_gathered(self, node: Node) -> Gathered:
        x, *indices = node.inputs
        rest = rest_axes(x.type.ndim, node["axes"])
        found = access(x, self._sources)
        if found is None:
            raise NoEmitter(node, "what it reads from must be in memory")
        lead = (0,) * indices[0].type.ndim
        table = self._located(Access(found.source, found.offset, (*lead, *(found.strides[k] for k in rest))))
        tensors = [
            self.index_tensor(node, index, x.type.shape[axis], found.strides[axis], len(rest))
            for index, axis in zip(indices, node["axes"], strict=True)
        ]
        return Gathered(table, tuple(tensors), node["mode"])

    def index_tensor(self, node: Node, index: Node, extent: int, stride: int, rest: int) -> IndexTensor:
        """An index tensor of ``node`` for an axis of the given extent and stride; ``rest`` axes follow its own."""
        constant, place, checked = constant_scalar(index), None, True
        if constant is None and index.op.name == "iota":
            steps = tuple(int(k == index["axis"]) for k in range(index.type.ndim))
            place = Place(INDEX, 0, self.loop_strides((*steps, *(0 for _ in range(rest)))))
            checked = index.type.shape[index["axis"]] > extent
        elif constant is None:
            at = access(index, self._sources)
            if at is None:
                raise NoEmitter(node, "its indices must be in memory")
            place = self._located(Access(at.source, at.offset, (*at.strides, *(0 for _ in range(rest)))))
        return IndexTensor(place, constant, index.type.dtype, extent, stride, checked)

    def collapse(self, outputs: Sequence[Node]) -> Layout:
        """A layout without axes of one element, adjacent ones merged where all that ``outputs`` need allows it."""
        assert self.axes is not None
        strides = [*self.reads(outputs), *(s for node in outputs for _, _, s in self.stores(node))]
        result = Layout(self.body, self.extents, [k for axis in self.axes if axis.reduced for k in axis.members])
        result.axes = merge_axes(self.axes, strides)
        return result

    def reads(self, outputs: Iterable[Node]) -> list[tuple[int, ...]]:
        """The strides of everything that ``outputs`` read."""
        strides = []
        for node in self.needed(outputs):
            if node.op.kind == "random":
                strides += [place.strides for place in self.random_places(node)]
            elif node.op.name == "gather":
                strides += self.gathered(node).strides
            elif (found := self.place(node)) is not None:
                strides.append(found.strides)
        return strides

    @property
    def reduces_nothing(self) -> bool:
        """Whether all reduced axes have one element."""
        return self.axes is not None and not any(axis.reduced for axis in self.axes)

    def is_leaf(self, node: Node) -> bool:
        """True for what needs no other node at a point: accesses, indices, scalar constants, random bits, gathers."""
        if node.op.kind == "random" or node.op.name == "gather":
            return True
        return self.place(node) is not None or constant_scalar(node) is not None

    def needed(self, wanted: Iterable[Node], known: Iterable[Node] = ()) -> list[Node]:
        """Every node that ``wanted`` need, in order; accesses and ``known`` nodes are listed but not looked behind."""
        if self._leaves is None:
            self._leaves = frozenset(node for node in self.body.nodes if self.is_leaf(node))
        return topological(wanted, stop=self._leaves.union(known))


def merge_axes(axes: Sequence[Axis], strides: Sequence[tuple[int, ...]]) -> tuple[Axis, ...]:
    """``axes`` without those of extent 1, neighbours of one kind merged where they are one line for all ``strides``."""
    merged: list[tuple[Axis, int]] = []  # with the number of the innermost axis that went in
    for k, axis in enumerate(axes):
        if axis.extent == 1:
            continue
        if merged and merged[-1][0].reduced == axis.reduced:
            before, last = merged[-1]
            if all(s[last] == s[k] * axis.extent for s in strides):
                merged.pop()
                axis = Axis((*before.members, *axis.members), before.extent * axis.extent, axis.reduced)
        merged.append((axis, k))
    return tuple(axis for axis, _ in merged)


def constant_scalar(node: Node) -> Node | None:
    """The scalar constant that fills ``node``, or None."""
    while node.op.name in ("broadcast_to", "reshape", "transpose", "slice"):
        node = node.inputs[0]
    return node if node.op.kind == "constant" and node["value"].value.size == 1 else None


# ------------------------------------------------------------------------------------------------ points


@dataclass(frozen=True, slots=True)
class Point:
    """Sixteen places: ``index`` has an int64 expression (or a number) for each axis of the loops, ``axis`` is the one
    that lanes run along (None: all lanes are the same place), ``lanes`` says how many of them exist (None: all
    sixteen)."""

    index: tuple[str | int, ...]
    axis: int | None
    lanes: str | int | None = None

    def element(self, strides: tuple[int, ...], offset: int = 0) -> str:
        """The text of the element number of lane 0."""
        return linear((offset, 1), *zip(self.index, strides, strict=True))

    def stride(self, strides: tuple[int, ...]) -> int:
        """Elements from one lane to the next."""
        return 0 if self.axis is None else strides[self.axis]

    def after(self, base: str) -> Point:
        """This point with ``base`` as a further index before the others."""
        return Point((base, *self.index), None if self.axis is None else self.axis + 1, self.lanes)


def load(e: Emission, place: Place, dtype: DType, at: Point) -> str:
    """The expression that reads ``place`` at a point."""
    pointer = e.pointer(place.position, place.offset * dtype.itemsize, place.strides)
    return load_from(pointer, place.strides, dtype, e.scope(place.position), at)


def load_from(pointer: str, strides: tuple[int, ...], dtype: DType, scope: int, at: Point) -> str:
    """The expression that reads memory at ``pointer`` with the given strides."""
    element, stride, name = at.element(strides), at.stride(strides), dtype_name(dtype)
    match stride, at.lanes:
        case 0, _:
            return f"splat_load({pointer}, {element}, {name}, {scope})"
        case 1, None:
            return f"load({pointer}, {element}, {name}, {scope})"
        case 1, lanes:
            return f"load_masked({pointer}, {element}, {name}, {scope}, {lanes})"
        case _, lanes:
            return f"load_strided({pointer}, {element}, {stride}, {name}, {scope}, {16 if lanes is None else lanes})"


def store_to(pointer: str, strides: tuple[int, ...], value: str, dtype: DType, scope: int, at: Point) -> str:
    """The statement that writes ``value`` to memory at ``pointer`` with the given strides."""
    element, stride, name = at.element(strides), at.stride(strides), dtype_name(dtype)
    match stride, at.lanes:
        case 0, _:
            return f"store_first({pointer}, {element}, {value}, {name}, {scope})"
        case 1, None:
            return f"store({pointer}, {element}, {value}, {name}, {scope})"
        case 1, lanes:
            return f"store_masked({pointer}, {element}, {value}, {name}, {scope}, {lanes})"
        case _, lanes:
            return f"store_strided({pointer}, {element}, {stride}, {value}, {name}, {scope}, {16 if lanes is None else lanes})"


def index_error(e: Emission, node: Node) -> str:
    """The statement that ends a kernel with an IndexError."""
    return f"return ({INDEX_ERROR} << 32) | ({e.errors()} + {e.numbers[node]})"


def _index_lanes(place: Place, dtype: DType, at: Point) -> str:
    """The numbers of the places of a point, as a vector of ``dtype``."""
    element, stride = at.element(place.strides, place.offset), at.stride(place.strides)
    if dtype.kind in "iu" and stride in (0, 1):
        return f"{'lanes_of' if stride else 'splat'}({element}, {dtype_name(dtype)})"
    whole = f"splat({element}, i64)" if stride == 0 else f"lanes({element})"
    if stride not in (0, 1):
        whole = f"splat({element}, i64) + lanes(0) * {stride}"
    return whole if dtype is i64 else f"cast({whole}, {dtype_name(dtype)})"


# ------------------------------------------------------------------------------------------------ values


class Values:
    """The variables that hold a body's nodes at a point, and the lines that make them.

    Variables are named by the node's number in the body (``v3``) and a suffix. A :meth:`child` starts with what is
    known outside and forgets what is made inside, like the indented block that it is for.
    """

    def __init__(self, e: Emission, layout: Layout | None = None, suffix: str = "") -> None:
        self.e = e
        self.layout = layout or Layout(e.kernel.body)
        self.suffix = suffix
        self._names: dict[Node, str] = {}
        self._rounded: dict[Node, str] = {}
        self._loads: dict[tuple[Place, DType], str] = {}
        self._bases: dict[Node, str] = {}

    def child(self, suffix: str | None = None) -> Values:
        inner = Values(self.e, self.layout, self.suffix if suffix is None else suffix)
        inner._names, inner._rounded, inner._loads = dict(self._names), dict(self._rounded), dict(self._loads)
        inner._bases = dict(self._bases)
        return inner

    def set(self, node: Node, name: str) -> None:
        """``node`` is held by the variable ``name``."""
        self._names[node] = name
        self._rounded.pop(node, None)

    def adopt(self, outer: Values) -> None:
        """Know what ``outer`` has come to know."""
        for node, name in outer._names.items():
            self._names.setdefault(node, name)
        self._bases |= outer._bases

    def __contains__(self, node: Node) -> bool:
        return node in self._names

    def __getitem__(self, node: Node) -> str:
        return self._names[node]

    def name(self, node: Node) -> str:
        """The variable that is made for ``node``."""
        return f"v{self.e.numbers[node]}{self.suffix}"

    def emit(self, wanted: Iterable[Node], at: Point) -> None:
        """Write the lines of everything that ``wanted`` need and that is not known yet."""
        for node in self.layout.needed(wanted, self._names):
            if node not in self._names:
                self._define(node, at)

    def emit_together(self, others: Sequence[tuple[Values, Point]], wanted: Iterable[Node], at: Point) -> None:
        """:meth:`emit` here and for ``others`` at their points, node by node in turn. ``others`` know what this one
        knows.

        The processor looks ahead a few hundred instructions: long chains of functions run side by side only where their
        instructions are mixed.
        """
        copies = [(self, at), *others]
        for node in self.layout.needed(wanted, self._names):
            for values, point in copies:
                if node not in values:
                    values._define(node, point)

    def store(self, position: int, node: Node, at: Point) -> None:
        """Write ``node`` into the contiguous result number ``position`` (arguments count first)."""
        scope = self.e.scope(position)
        for part, offset, strides in self.layout.stores(node):
            pointer = self.e.pointer(position, offset * part.type.dtype.itemsize)
            self.e.line(
                store_to(pointer, strides, self[part], part.type.dtype, scope, at), self._result_comment(position, part)
            )

    def _result_comment(self, position: int, node: Node) -> str:
        return f"out{position - len(self.e.kernel.body.inputs)} = v{self.e.numbers[node]}"

    # -------------------------------------------------------------------------------------------- one node

    def _define(self, node: Node, at: Point) -> None:
        constant = constant_scalar(node)
        place = self.layout.place(node)
        if constant is not None:
            self.set(node, self.e.param(node.type.dtype, constant["value"].value.reshape(()), constant))
        elif place is not None:
            self._define_place(node, place, at)
        elif node.op.name == "random_bits":
            self._define_random(node, at)
        elif node.op.name == "gather":
            self._define_gather(node, at)
        elif node.op.name == "broadcast_to" or node.op.scalar == "{0}":
            self.set(node, self._names[node.inputs[0]])
        elif node.op.kind == "reduction" and self.layout.reduces_nothing:
            self._define_reduction_of_one(node)
        elif node.op.name == "integer_pow":
            self._define_power(node)
        elif node.op.kind == "elementwise":
            self._assign(node, self._expression(node))
        elif node.op.name == "concatenate":
            pass  # an output: its operands are stored side by side
        else:
            raise NoEmitter(node, f"inside a kernel of template {self.e.kernel.template}")

    def _define_place(self, node: Node, place: Place, at: Point) -> None:
        key = (place, node.type.dtype)
        if key not in self._loads:
            text = (
                _index_lanes(place, node.type.dtype, at)
                if place.position == INDEX
                else load(self.e, place, node.type.dtype, at)
            )
            name = self.name(node)
            label = f"iota, {place.strides}" if place.position == INDEX else f"in{place.position}"
            self.e.line(f"{name} = {text}", f"v{self.e.numbers[node]}: {node.type.dtype} = {label}")
            self._loads[key] = name
        self.set(node, self._loads[key])

    def _define_random(self, node: Node, at: Point) -> None:
        low, high, numbers = self.layout.random_places(node)
        name, u32 = self.name(node), node.type.dtype
        for suffix, text in (
            ("_k0", load(self.e, low, u32, at)),
            ("_k1", load(self.e, high, u32, at)),
            ("_i", _index_lanes(numbers, i64, at)),
            ("_c0", f"cast({name}_i >> 32, u32)"),
            ("_c1", f"cast({name}_i, u32)"),
        ):
            self.e.line(f"{name}{suffix} = {text}")
        words = f"{name}_k0, {name}_k1, {name}_c0, {name}_c1"
        self.e.line(f"{name}_0, {name}_1 = threefry2x32({words})")
        self._assign(node, f"{name}_0 ^ {name}_1")

    # -------------------------------------------------------------------------------------------- gathers

    def prepare(self, node: Node, at: Point) -> None:
        """The lines that find where in its table a gather reads, for indices that are the same in all lanes. To be written
        in the loop in which the indices change, which may lie outside of that over the lanes."""
        if node in self._bases:
            return
        found, name = self.layout.gathered(node), self.name(node)
        if found.mode == "drop":
            self.e.line(f"{name}_in = 1")
        terms = []
        for k, index in enumerate(found.indices):
            terms.append((f"{name}_i{k}", index.stride))
            self.one_index(node, index, f"{name}_i{k}", f"{name}_in", found.mode, at)
        self._bases[node] = name
        self.e.line(f"{name}_at = {linear(*terms)}", f"v{self.e.numbers[node]}: where it begins")

    def begin_with(self, other: Values, node: Node) -> None:
        """Read the table of a gather where ``other`` does."""
        self._bases[node] = other._bases[node]

    def one_index(self, node: Node, index: IndexTensor, name: str, inside: str, mode: str, at: Point) -> None:
        """``name``, an int64: the place that an index means; mode drop: ``inside`` is set to 0 where there is none."""
        if index.place is None:
            assert index.constant is not None
            text = f"first_lane({self.e.param(index.dtype, index.constant['value'].value.reshape(()), index.constant)})"
        elif index.place.position == INDEX:
            text = at.element(index.place.strides, index.place.offset)
        else:
            text = f"first_lane({load(self.e, index.place, index.dtype, replace(at, axis=None, lanes=None))})"
        self.e.line(f"{name} = {text}")
        if not index.checked:
            return
        extent = self.e.word(index.extent, f"{name}_n")
        wraps = mode == "raise" and index.dtype.kind == "i"
        if wraps or index.dtype is u64:
            with self.e.block(f"if {name} < 0:"):
                self.e.line(f"{name} = {name} + {extent}" if wraps else f"{name} = {LARGEST}")
        if mode == "clip":
            self.e.line(f"{name} = max(min({name}, {extent} - 1), 0)")
            return
        with self.e.block(f"if min({name}, {extent} - 1 - {name}) < 0:"):
            if mode == "drop":
                self.e.line(f"{inside} = 0")
                self.e.line(f"{name} = 0")
            else:
                self.e.line(index_error(self.e, node))

    def _define_gather(self, node: Node, at: Point) -> None:
        found, name, dtype = self.layout.gathered(node), self.name(node), node.type.dtype
        position, scope = found.table.position, self.e.scope(found.table.position)
        pointer = self.e.pointer(position, found.table.offset * dtype.itemsize, found.table.strides)
        zero = f"splat(0, {dtype_name(compute_dtype(dtype))})"
        if node in self._bases or all(at.stride(s) == 0 for s in found.index_strides):
            self.prepare(node, at)
            base = self._bases[node]
            text = load_from(pointer, (1, *found.table.strides), dtype, scope, at.after(f"{base}_at"))
            if found.mode == "drop":
                text = f"select(splat({base}_in, i64) != 0, {text}, {zero})"
        else:
            places, bad = self._index_vectors(node, found, at)
            lanes = LANES if at.lanes is None else at.lanes
            if bad and at.lanes is not None:
                self.e.line(f"{name}_bad = {bad} & mask_tail({lanes})")
                bad = f"{name}_bad"
            if bad and found.mode == "raise":
                with self.e.block(f"if any_lane({bad}):"):
                    self.e.line(index_error(self.e, node))
            elif bad:
                places = f"select({bad}, 0, {places})"
            text = f"gather({pointer}, {places}, {dtype_name(dtype)}, {scope}, {lanes})"
            if bad and found.mode == "drop":
                text = f"select({bad}, {zero}, {text})"
        self.e.line(f"{name} = {text}", f"v{self.e.numbers[node]}: {dtype} = gather(in{position})")
        self.set(node, name)

    def _index_vectors(self, node: Node, found: Gathered, at: Point) -> tuple[str, str]:
        """Variables with sixteen elements of the table, and with the lanes whose indices are out of range ('': none)."""
        name, bad, total = self.name(node), "", at.element(found.table.strides)
        vectors: list[str] = []
        if at.stride(found.table.strides):
            vectors.append(f"lanes(0) * {at.stride(found.table.strides)}")
        for k, index in enumerate(found.indices):
            one = f"{name}_i{k}"
            if index.place is None:
                assert index.constant is not None
                param = self.e.param(index.dtype, index.constant["value"].value.reshape(()), index.constant)
                self.e.line(f"{one} = cast({param}, i64)")
            elif index.place.position == INDEX:
                self.e.line(f"{one} = {_index_lanes(index.place, i64, at)}")
            else:
                self.e.line(f"{one} = cast({load(self.e, index.place, index.dtype, at)}, i64)")
            if index.checked:
                extent = self.e.word(index.extent, f"{one}_n")
                if index.dtype is u64:
                    self.e.line(f"{one} = select({one} < 0, {LARGEST}, {one})")
                elif found.mode == "raise" and index.dtype.kind == "i":
                    self.e.line(f"{one} = select({one} < 0, {one} + {extent}, {one})")
                if found.mode == "clip":
                    self.e.line(f"{one} = maximum(minimum({one}, {extent} - 1), 0)")
                else:
                    self.e.line(f"{one}_bad = ({one} < 0) | ({one} >= {extent})" + (f" | {bad}" if bad else ""))
                    bad = f"{one}_bad"
            vectors.append(one if index.stride == 1 else f"{one} * {index.stride}")
        if total != "0":
            vectors.append(f"splat({total}, i64)")
        self.e.line(f"{name}_places = {' + '.join(vectors)}")
        return f"{name}_places", bad

    def _define_reduction_of_one(self, node: Node) -> None:
        if node.op.combine in (">", "<"):
            self._assign(node, f"splat(0, {dtype_name(node.type.dtype)})")
        else:
            self.set(node, self._names[node.inputs[0]])

    def _define_power(self, node: Node) -> None:
        """Square and multiply."""
        base, exponent = self._names[node.inputs[0]], node["exponent"]
        name, dtype = self.name(node), dtype_name(node.type.dtype)
        if is_narrow(node.type.dtype):
            dtype = "f32"
        if exponent == 0:
            self._assign(node, f"splat(1, {dtype})")
            return
        product = self._power(base, abs(exponent), name)
        if exponent > 0:
            self._assign(node, product)
        elif exponent == -1:
            self._assign(node, f"1.0 / {base}")
        else:  # where the power overflows, that of the reciprocal may be a number still
            self.e.line(f"{name}_power = {product}")
            self.e.line(f"{name}_inverse = 1.0 / {base}")
            small = self._power(f"{name}_inverse", -exponent, f"{name}_inverse")
            self._assign(node, f"select(isinf({name}_power), {small}, 1.0 / {name}_power)")

    def _power(self, base: str, exponent: int, name: str) -> str:
        """The product of the squares of ``base`` that make up ``base ** exponent``; squares are ``name_…``."""
        square, product, rest = base, "", exponent
        while rest:
            if rest & 1:
                product = f"{product} * {square}" if product else square
            rest >>= 1
            if rest:
                self.e.line(f"{name}_{rest} = {square} * {square}")
                square = f"{name}_{rest}"
        return product

    def _expression(self, node: Node) -> str:
        op = node.op
        scalar = SPELLING.get(op.name, op.scalar)
        if scalar is None:
            raise NoEmitter(node)
        decides = node.type.dtype.kind != "f"
        operands = [self.rounded(x) if decides else self._names[x] for x in node.inputs]
        if op.name in _LITERAL_DIVISORS and (divisor := self._literal(node.inputs[1])) is not None:
            operands[1] = divisor
        attrs = {k: dtype_name(v) if isinstance(v, DType) else v for k, v in node.attrs}
        return scalar.format(*operands, **attrs)

    def rounded(self, node: Node) -> str:
        """The variable that holds ``node`` as it would be read from memory."""
        if not is_narrow(node.type.dtype) or self.layout.is_leaf(node):
            return self._names[node]
        if node not in self._rounded:
            self._rounded[node] = f"{self.name(node)}_rounded"
            self.e.line(f"{self._rounded[node]} = cast({self._names[node]}, {dtype_name(node.type.dtype)})")
        return self._rounded[node]

    def _literal(self, node: Node) -> str | None:
        constant = constant_scalar(node)
        if constant is None or not node.type.dtype.is_integer:
            return None
        value = int(constant["value"].value.reshape(()))
        return f"splat({value}, {dtype_name(node.type.dtype)})" if -(2**63) <= value < 2**63 else None

    def _assign(self, node: Node, text: str) -> None:
        name = self.name(node)
        operands = ", ".join(f"v{self.e.numbers[x]}" for x in node.inputs)
        attrs = "".join(f", {k}={v}" for k, v in node.attrs if isinstance(v, (int, DType)))
        comment = f"v{self.e.numbers[node]}: {node.type.dtype} = {node.op.name}({operands}{attrs})"
        self.e.line(f"{name} = {text}", comment)
        self.set(node, name)
