"""Which nodes share a kernel: level fusion, sinking, delaying, and merging side by side.

Every *item* (a node that computes something, or a copy of a value) lies in one group, and every group has a level: one
more than the highest level among the groups it reads (inputs and constants have level 0). An edge between groups always
leads to a higher level, so no sequence of the steps below can make a cycle:

1. :meth:`Grouping.join`. In program order, an item joins the groups at the highest level it reads where they can take it
   (and each other: groups of one level are independent); all else that it reads lies lower. Otherwise it opens a group.
2. :meth:`Grouping.sink`. A group that only one group reads moves into it.
3. :meth:`Grouping.delay`. The last items of a group, read by one other group alone, move there where that saves traffic
   (the squares of a gradient belong to the sum of squares, not to the contraction that made the gradient).
4. :meth:`Grouping.pair`. Groups of one level that read a value over the same domain become one, up to MAX_PAIRED buffers.

Within a group an item lies at one of two places: FULL (the loop extents, ``frame``) or KEPT (the frame without the
reduced axes). Shapes matter only up to a reshape of contiguous values, which costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from graphc.ir import Graph, GraphError, Node
from graphc.passes.access import Access, contiguous_strides, move, reshaped_strides
from graphc.passes.segments import by_tables
from graphc.types import TensorType, TupleType

Shape = tuple[int, ...]

# What an item is.
SOURCE, SCALAR, IOTA, ACCESS, ELEMENTWISE, COPY, REDUCTION, CONTRACTION, WINDOW, CLOSED, ITEM, RESULT, GATHER, SEGMENT = range(14)
LOOPED = (ELEMENTWISE, COPY, REDUCTION, GATHER)

FULL, KEPT, ACROSS = 0, 1, 2

#: Limits of one kernel: body nodes, buffers of a chain, buffers of a merger side by side.
MAX_NODES = 160
MAX_BUFFERS = 48
MAX_PAIRED = 24
#: A reduction over more elements than this into fewer results than that keeps one thread busy: what is broadcast back
#: from it runs in a kernel of its own, where every core takes part.
LONG_REDUCTION = 1 << 16
FEW_RESULTS = 64

#: A group is raised to a higher level when at most so many readers have to be raised with it.
MAX_RAISED = 256


@dataclass(eq=False, slots=True)
class Group:
    """Items of one kernel. ``core``: loop, contraction, window, or closed (one op with a routine of its own)."""

    number: int
    level: int
    core: str
    frame: Shape
    reduced: tuple[int, ...] | None
    members: list[int]
    produced: dict[int, None] = field(default_factory=dict)  # of a segment: items computed anew for each of its updates
    externals: dict[int, None] = field(default_factory=dict)
    read_by: dict[Group, None] = field(default_factory=dict)  # may name groups that have moved into others
    into: Group | None = None  # the group that has taken over the members

    @property
    def kept(self) -> Shape:
        return kept_shape(self.frame, self.reduced)

    @property
    def is_free(self) -> bool:
        """Elementwise only: the frame may still become another shape of the same size."""
        return self.core == "loop" and self.reduced is None


@dataclass(frozen=True, slots=True)
class Fit:
    """How groups (and a new item) become one: the common domain, and where each group's items lie in it."""

    frame: Shape
    reduced: tuple[int, ...] | None
    core: str
    places: dict[Group, int]
    place: int = FULL  # of the new item


class Misfit(Exception):
    """Why two things cannot share a kernel."""


def survivor(group: Group) -> Group:
    """The group that holds the members of ``group`` by now."""
    while group.into is not None:
        group = group.into
    return group


def kept_shape(frame: Shape, reduced: tuple[int, ...] | None) -> Shape:
    return frame if not reduced else tuple(n for k, n in enumerate(frame) if k not in reduced)


def reduced_axes(node: Node) -> tuple[int, ...]:
    for key, value in node.attrs:
        if key == "axes":
            return tuple(value)
    return (node["axis"],)


def index_shape(gather: Node, shape: Shape) -> Shape | None:
    """The shape of the index tensors of ``gather`` where its result has ``shape``; None if it cannot have it."""
    rest = gather.type.shape[gather.inputs[1].type.ndim :]
    lead = len(shape) - len(rest)
    if lead < 0 or shape[lead:] != rest or math.prod(shape[:lead]) != gather.inputs[1].type.size:
        return None
    return shape[:lead]


def same_strides(shape: Shape, left: Sequence[int], right: Sequence[int]) -> bool:
    """Whether two accesses of ``shape`` reach the same places (strides of axes with one element do not matter)."""
    return all(n == 1 or a == b for n, a, b in zip(shape, left, right, strict=True))


def classify(node: Node) -> int:
    op = node.op
    match op.kind:
        case "input":
            return SOURCE
        case "constant":
            return SCALAR if node.type.size == 1 else SOURCE
        case "elementwise":
            return IOTA if op.name == "iota" else ELEMENTWISE
        case "reduction":
            return REDUCTION
        case "contraction":
            return CONTRACTION
        case "window":
            return WINDOW
        case "tuple":
            return ITEM
        case "movement" if op.name == "view_as_real":
            return SOURCE  # the memory of a graph input
        case "movement" if op.name == "view_as_complex":
            return RESULT  # the memory of a graph output
        case "indexing" if op.name == "gather" and node.inputs[0].type.size > 0:
            return GATHER
        case "indexing" if op.name == "segment_reduce" or by_tables(node):
            return SEGMENT
        case "movement" if op.name in ("transpose", "slice", "broadcast_to", "reshape"):
            return ACCESS
        case "control" if op.name == "call":
            raise GraphError(f"inline the call of {node['name']!r} before fusing")
    return CLOSED


class Grouping:
    """The state of the algorithm over one graph. Items are node numbers; copies have numbers beyond the nodes.

    ``order`` lists the items in program order, ``at[k]`` is the access of node k over the item it addresses (its root),
    ``output_item[j]`` the item whose value is graph output j, ``copy_of`` the materialised copy of an access.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes = graph.nodes
        number = {node: k for k, node in enumerate(graph.nodes)}
        self.number = number
        self.what: list[int] = [classify(node) for node in graph.nodes]
        self.operands: list[list[int]] = [[number[i] for i in node.inputs] for node in graph.nodes]
        self.at: list[Access | None] = [None] * len(graph.nodes)
        self.root: list[int] = list(range(len(graph.nodes)))
        self.pure: list[bool] = [True] * len(graph.nodes)
        self.copied: list[int] = []  # node that copy item len(nodes) + k copies
        self.copy_of: dict[int, int] = {}
        self.order: list[int] = []
        self.output_item: list[int] = []
        self.is_output: set[int] = set()
        self.resolve()
        for k, what in enumerate(self.what):
            if what == GATHER and self.what[self.root[self.operands[k][0]]] in (SCALAR, IOTA):
                self.what[k] = CLOSED  # what it reads from has to be put into memory
        self.list_items()
        count = len(self.nodes) + len(self.copied)
        self.position = {item: k for k, item in enumerate(self.order)}
        self.group: list[Group | None] = [None] * count
        self.place: list[int] = [FULL] * count
        self.readers: list[list[int]] = [[] for _ in range(count)]
        for item in self.order:
            for root in dict.fromkeys(self.root[o] for o in self.reads(item)):
                self.readers[root].append(item)
        self.groups: list[Group] = []
        self.reasons: dict[tuple[int, int], str] = {}

    # -------------------------------------------------------------------------------------------- what is read

    def resolve(self) -> None:
        """The access of every node over its root; a movement that is not affine becomes a copy."""
        for k, node in enumerate(self.nodes):
            if self.what[k] == ACCESS:
                (operand,) = self.operands[k]
                below = self.at[operand]
                assert below is not None
                moved = move(below, node)
                if moved is not None:
                    root = self.root[k] = self.root[operand]
                    self.at[k] = moved
                    same_size = node.type.size == self.nodes[root].type.size
                    self.pure[k] = same_size and (
                        node.type.size == 0
                        or moved.offset == 0
                        and same_strides(node.type.shape, moved.strides, contiguous_strides(node.type.shape))
                    )
                    continue
                self.what[k] = COPY
            if isinstance(node.type, TensorType):
                self.at[k] = Access(node, 0, contiguous_strides(node.type.shape))

    def list_items(self) -> None:
        """Items in program order: live nodes, copies of accesses that must lie in memory, copies for outputs."""
        live = self.live()
        claimed: set[int] = set()
        wanted: list[tuple[int, int]] = []
        for j, output in enumerate(self.graph.outputs):
            k = self.number[output]
            if self.what[k] == RESULT:
                (k,) = self.operands[k]
            root = self.root[k]
            if self.pure[k] and root not in claimed and self.what[root] not in (SOURCE, SCALAR):
                claimed.add(root)
                self.output_item.append(root)
            else:
                wanted.append((j, k))
                self.output_item.append(-1)
        self.is_output |= claimed
        real_iota = self.iotas_in_memory(live, claimed)
        for k in range(len(self.nodes)):
            if not live[k] or self.what[k] in (SOURCE, SCALAR, ACCESS, RESULT):
                continue
            if self.what[k] == IOTA:
                if k not in real_iota:
                    continue
                self.what[k] = ELEMENTWISE
            elif self.what[k] == CLOSED and self.nodes[k].op.kind not in ("movement", "fused"):
                for o in self.operands[k]:
                    if not self.pure[o] and o not in self.copy_of:
                        self.copy_of[o] = self.add_copy(o)
            self.order.append(k)
        for j, k in wanted:
            copy = self.output_item[j] = self.add_copy(k)
            self.is_output.add(copy)

    def live(self) -> list[bool]:
        live = [False] * len(self.nodes)
        for output in self.graph.outputs:
            live[self.number[output]] = True
        for k in range(len(self.nodes) - 1, -1, -1):
            if live[k]:
                for o in self.operands[k]:
                    live[o] = True
        return live

    def iotas_in_memory(self, live: list[bool], claimed: set[int]) -> set[int]:
        """Index tensors that something addresses; the others are computed where they are read."""
        needed = {k for k in claimed if self.what[k] == IOTA}
        for k, operands in enumerate(self.operands):
            if live[k] and self.what[k] not in LOOPED:
                needed.update(o for o in operands if self.what[o] == IOTA)
        return needed

    def add_copy(self, node: int) -> int:
        item = len(self.nodes) + len(self.copied)
        self.copied.append(node)
        self.what.append(COPY)
        self.operands.append([node])
        self.root.append(item)
        self.pure.append(True)
        self.at.append(None)
        self.order.append(item)
        return item

    def reads(self, item: int) -> Sequence[int]:
        """The nodes (or copies) that ``item`` reads."""
        if self.what[item] != CLOSED:
            return self.operands[item]
        return [self.copy_of.get(o, o) for o in self.operands[item]]

    def node(self, item: int) -> Node:
        """The node behind an item: for a copy, what it copies."""
        return self.nodes[item] if item < len(self.nodes) else self.nodes[self.copied[item - len(self.nodes)]]

    def shape(self, item: int) -> Shape:
        """The shape at which an item computes; a reshape that needs a copy copies at its operand's shape."""
        if self.what[item] == COPY:
            return self.nodes[self.operands[item][0]].type.shape
        return self.nodes[item].type.shape

    def type(self, item: int) -> TensorType:
        """The type of an item's value in memory."""
        return self.node(item).type

    def is_inline(self, operand: int) -> bool:
        """Whether loops compute this operand on the spot: a number in every place, or the index along an axis."""
        return self.what[self.root[operand]] == SCALAR or (
            operand < len(self.nodes) and self.nodes[operand].op.name == "iota"
        )

    # -------------------------------------------------------------------------------------------- 1. joining

    def run(self) -> None:
        for item in self.order:
            if self.what[item] == ITEM:
                self.group[item] = self.group[self.root[self.operands[item][0]]]
            elif self.what[item] in LOOPED:
                self.join(item)
            else:
                self.open(item)
        self.sink()
        self.delay()
        self.sink()

    def finish(self) -> None:
        """The last step, after :func:`graphc.passes.across.attach`."""
        self.pair()
        self.groups = [g for g in self.groups if g.members]

    def groups_read(self, item: int) -> list[Group]:
        found = (self.group[self.root[o]] for o in self.reads(item))
        return list(dict.fromkeys(g for g in found if g is not None))

    def open(self, item: int) -> Group:
        read = self.groups_read(item)
        level = 1 + max((g.level for g in read), default=0)
        frame: Shape
        reduced: tuple[int, ...] | None = None
        core = "loop"
        what = self.what[item]
        if what == REDUCTION:
            frame = self.nodes[self.operands[item][0]].type.shape
            reduced = reduced_axes(self.nodes[item])
            self.place[item] = KEPT
        elif what == CLOSED or isinstance(self.node(item).type, TupleType):
            core, frame = "closed", ()
        else:
            core = {CONTRACTION: "contraction", WINDOW: "window", SEGMENT: "segment"}.get(what, "loop")
            frame = self.shape(item)
        group = Group(len(self.groups), level, core, frame, reduced, [])
        self.groups.append(group)
        self.enter(item, group)
        return group

    def enter(self, item: int, group: Group) -> None:
        group.members.append(item)
        self.group[item] = group
        for o in self.reads(item):
            if self.what[item] in LOOPED and self.is_inline(o):
                continue
            root = self.root[o]
            other = self.group[root]
            if other is not group:
                group.externals[root] = None
                if other is not None:
                    other.read_by[group] = None

    def join(self, item: int) -> Group:
        read = self.groups_read(item)
        top = max((g.level for g in read), default=0)
        hosts = [g for g in read if g.level == top]
        if not hosts:
            return self.open(item)
        try:
            fit = self.fit(hosts, item)
        except Misfit as why:
            host = self.raised_host(hosts, item)
            if host is None:
                self.refuse(item, hosts, str(why))
                return self.open(item)
            fit = self.fit([host], item)
            self.refuse(item, [g for g in hosts if g is not host], str(why))
            hosts = [host]
        group = self.merge(hosts, fit)
        self.place[item] = fit.place
        group.frame, group.reduced = fit.frame, fit.reduced
        self.enter(item, group)
        return group

    def raised_host(self, hosts: Sequence[Group], item: int) -> Group | None:
        """One of several groups that can take ``item`` alone; it moves up one level, so that the others lie below it.

        Groups of one level do not reach each other, so no circle comes of it. Contractions first: an epilogue is free.
        """
        if len(hosts) < 2:
            return None
        for host in sorted(hosts, key=lambda g: g.core == "loop"):
            try:
                self.fit([host], item)
            except Misfit:
                continue
            if self.raise_level(host):
                return host
        return None

    def raise_level(self, group: Group) -> bool:
        """Put ``group`` one level higher, and what reads it above it; not where that would touch many groups."""
        raised = {group: group.level + 1}
        pending = [group]
        while pending:
            low = pending.pop()
            for reader in {survivor(g) for g in low.read_by} - {low}:
                level = max(raised.get(reader, reader.level), raised[low] + 1)
                if level > raised.get(reader, reader.level):
                    raised[reader] = level
                    pending.append(reader)
            if len(raised) > MAX_RAISED:
                return False
        for member, level in raised.items():
            member.level = level
        return True

    def refuse(self, item: int, hosts: Iterable[Group], why: str) -> None:
        groups = set(hosts)
        for o in self.reads(item):
            root = self.root[o]
            if self.group[root] in groups:
                self.reasons[root, item] = why

    # -------------------------------------------------------------------------------------------- what fits

    def fit(self, groups: Sequence[Group], item: int | None = None, readers: Sequence[int] = ()) -> Fit:
        """How ``groups`` become one that holds ``item`` too; ``readers`` are members that read others of the groups.

        Raises Misfit with the reason.
        """
        why = Misfit("their loops have different extents")
        for frame, reduced, core in self.domains(groups, item):
            for found in self.placements(groups, item, frame, reduced, core):
                try:
                    self.check(groups, found, item, readers)
                except Misfit as reason:
                    why = reason
                    continue
                return found
        raise why

    def domains(self, groups: Sequence[Group], item: int | None) -> Iterable[tuple[Shape, tuple[int, ...] | None, str]]:
        """Candidates for the common domain."""
        fixed = list(dict.fromkeys((g.frame, g.reduced, g.core) for g in groups if not g.is_free))
        if item is not None and self.what[item] == REDUCTION:
            need = (self.nodes[self.operands[item][0]].type.shape, reduced_axes(self.nodes[item]), "loop")
            if need not in fixed:
                fixed.append(need)
        if any(core == "closed" for _, _, core in fixed):
            raise Misfit("a routine of its own computes the operand")
        if sum(g.core in ("contraction", "window", "segment") for g in groups) > 1:
            raise Misfit("a kernel holds one contraction")
        if len(fixed) > 1:
            kinds = {core for _, _, core in fixed}
            raise Misfit("a contraction's epilogue holds no reduction" if len(kinds) > 1 else "the reduced axes differ")
        if fixed:
            return fixed
        frames = [self.shape(item)] if item is not None else []
        return [(frame, None, "loop") for frame in dict.fromkeys([*frames, *(g.frame for g in groups)])]

    def placements(
        self, groups: Sequence[Group], item: int | None, frame: Shape, reduced: tuple[int, ...] | None, core: str
    ) -> Iterable[Fit]:
        """Where the items can lie in the domain: by their sizes; both ways where FULL and KEPT are of one size."""
        full = math.prod(frame)
        kept = math.prod(kept_shape(frame, reduced)) if reduced is not None else -1
        fixed_places: dict[Group, int] = {}
        loose: list[Group] = []
        for g in groups:
            if not g.is_free:
                fixed_places[g] = FULL
            else:
                loose.append(g)
        sizes = {math.prod(g.frame) for g in loose}
        if item is not None and self.what[item] != REDUCTION:
            sizes.add(math.prod(self.shape(item)))
        if not sizes <= {full, kept}:
            return
        for low in (KEPT, FULL) if full == kept else (FULL,):

            def choose(size: int, low: int = low) -> int:
                return low if full == kept else FULL if size == full else KEPT

            places = fixed_places | {g: choose(math.prod(g.frame)) for g in loose}
            place = FULL
            if item is not None:
                place = KEPT if self.what[item] == REDUCTION else choose(math.prod(self.shape(item)))
            yield Fit(frame, reduced, core, places, place)

    def check(self, groups: Sequence[Group], fit: Fit, item: int | None, readers: Sequence[int]) -> None:
        members = sum(len(g.members) for g in groups) + (item is not None)
        if members > MAX_NODES:
            raise Misfit(f"a kernel holds at most {MAX_NODES} nodes")
        # Sums of counts are upper bounds: the exact set is only made when they are too large.
        if sum(len(g.externals) for g in groups) + 4 > MAX_BUFFERS:
            buffers = set().union(*(g.externals for g in groups))
            if item is not None:
                buffers.update(self.root[o] for o in self.reads(item))
            if sum(self.group[b] not in fit.places for b in buffers) > MAX_BUFFERS:
                raise Misfit(f"a kernel reads at most {MAX_BUFFERS} buffers")
        if fit.core not in ("loop", "segment") and any(self.what[m] == GATHER for g in groups for m in g.members):
            raise Misfit(f"what follows a {fit.core} reads nothing by index")
        kept = kept_shape(fit.frame, fit.reduced)
        for g in groups:
            want = fit.frame if fit.places[g] == FULL else kept
            if g.is_free and g.frame != want:
                for member in g.members:
                    self.check_reads(member, fit, fit.places[g])
        if item is not None:
            self.check_reads(item, fit, fit.place)
        for reader in readers:
            self.check_reads(reader, fit, self.place_in(reader, fit))

    def place_in(self, item: int, fit: Fit) -> int:
        group = self.group[item]
        assert group is not None
        return fit.places[group] if group.is_free else self.place[item]

    def check_reads(self, item: int, fit: Fit, place: int) -> None:
        """Raise Misfit unless ``item`` at ``place`` can read all its operands in the kernel."""
        if self.what[item] not in LOOPED:
            raise Misfit(f"operands of {self.nodes[item].op.name} are read from memory")
        if self.what[item] == REDUCTION:
            self.check_reduced(item, fit)
            return
        shape = fit.frame if place == FULL else kept_shape(fit.frame, fit.reduced)
        if self.what[item] == GATHER:
            self.check_gather(item, fit, shape)
            return
        if self.node(item).op.name == "iota" and index_axis(self.node(item), shape) is None:
            raise Misfit("an index tensor has no counterpart in the shape of the loops")
        for o in self.operands[item]:
            if self.is_inline(o):
                if self.what[self.root[o]] != SCALAR and index_axis(self.nodes[o], shape) is None:
                    raise Misfit("an index tensor has no counterpart in the shape of the loops")
                continue
            root = self.root[o]
            group = self.group[root]
            if group not in fit.places:
                if not self.pure[o] and self.strides_at(o, shape) is None:
                    raise Misfit("an operand has no strides in the shape of the loops")
                continue
            if self.what[item] == COPY:
                raise Misfit("a copy reads a finished value")
            root_place = self.place_in(root, fit)
            if root_place == place:
                if not self.pure[o]:
                    raise Misfit("it reads other elements than the one just computed")
            elif place == FULL:
                self.check_broadcast(o, fit)
            else:
                raise Misfit("it reads full-size values at the size of a reduction's result")

    def check_gather(self, item: int, fit: Fit, shape: Shape) -> None:
        """A gather reads what is finished: its table, and its index tensors at the leading axes of ``shape``."""
        node = self.nodes[item]
        table, *indices = self.operands[item]
        lead = index_shape(node, shape)
        if fit.core not in ("loop", "segment"):
            raise Misfit(f"what follows a {fit.core} reads nothing by index")
        if lead is None:
            raise Misfit("a gather's result has other axes than the loops")
        for o in (table, *indices):
            if self.group[self.root[o]] in fit.places:
                raise Misfit("a gather reads finished values")
        for o in indices:
            if self.is_inline(o):
                if self.what[self.root[o]] != SCALAR and index_axis(self.nodes[o], lead) is None:
                    raise Misfit("an index tensor has no counterpart in the shape of the loops")
            elif not self.pure[o] and self.strides_at(o, lead) is None:
                raise Misfit("an operand has no strides in the shape of the loops")

    def check_reduced(self, item: int, fit: Fit) -> None:
        (o,) = self.operands[item]
        root = self.root[o]
        group = self.group[root]
        if self.nodes[o].type.shape != fit.frame or reduced_axes(self.nodes[item]) != fit.reduced:
            raise Misfit("the reduced axes differ")
        if group in fit.places and not self.is_inline(o):
            if self.place_in(root, fit) != FULL or not self.pure[o]:
                raise Misfit("a reduction reads what another reduction of the kernel has finished")

    def check_broadcast(self, o: int, fit: Fit) -> None:
        """``o`` must repeat a kept value along the reduced axes."""
        assert fit.reduced is not None
        kept = kept_shape(fit.frame, fit.reduced)
        found = self.strides_at(o, fit.frame)
        line = iter(contiguous_strides(kept))
        want = [0 if k in fit.reduced else next(line) for k in range(len(fit.frame))]
        at = self.at[o]
        if found is None or at is None or at.offset != 0 or not same_strides(fit.frame, found, want):
            raise Misfit("a reduction's result is not repeated along the reduced axes")
        if math.prod(kept) < FEW_RESULTS and math.prod(fit.frame) > LONG_REDUCTION * math.prod(kept):
            raise Misfit("a long reduction into few results is finished before others read it")

    def strides_at(self, o: int, shape: Shape) -> Shape | None:
        """The strides over its root at which operand ``o`` is read when it is reshaped to ``shape``, None if not affine."""
        at, own = self.at[o], self.type(o)
        strides = contiguous_strides(own.shape) if at is None else at.strides
        return strides if own.shape == shape else reshaped_strides(own, strides, TensorType(own.dtype, shape))

    # -------------------------------------------------------------------------------------------- merging

    def merge(self, groups: Sequence[Group], fit: Fit) -> Group:
        """Make ``groups`` one as ``fit`` says; the largest takes the members of the others."""
        for g in groups:
            if g.is_free:
                for member in g.members:
                    self.place[member] = fit.places[g]
        main = max(groups, key=lambda g: len(g.members))
        main.level = max(g.level for g in groups)
        main.frame, main.reduced, main.core = fit.frame, fit.reduced, fit.core
        for g in groups:
            if g is main:
                continue
            for member in g.members:
                self.group[member] = main
            main.members.extend(g.members)
            main.externals.update(g.externals)
            main.read_by.update(g.read_by)
            g.members, g.externals, g.read_by, g.into = [], {}, {}, main
        return main

    # -------------------------------------------------------------------------------------------- 2. sinking

    def reader_groups(self, group: Group) -> dict[Group, None]:
        found: dict[Group, None] = {}
        for member in group.members:
            for reader in self.readers[member]:
                other = self.group[reader]
                if other is not group and other is not None:
                    found[other] = None
        return found

    def sink(self) -> None:
        """From the last level back: a loop group that only one other group reads moves into it."""
        for group in sorted((g for g in self.groups if g.members), key=lambda g: (-g.level, -g.number)):
            if group.core != "loop" or not group.members:
                continue
            into = self.reader_groups(group)
            if len(into) != 1:
                continue
            (host,) = into
            inside = set(group.members)
            readers = dict.fromkeys(r for m in group.members for r in self.readers[m] if self.group[r] is host)
            try:
                fit = self.fit([host, group], readers=list(readers))
            except Misfit as why:
                for m in group.members:
                    for r in self.readers[m]:
                        if self.group[r] is host:
                            self.reasons.setdefault((m, r), str(why))
                continue
            level = host.level
            merged = self.merge([host, group], fit)
            merged.level = level
            for member in inside:
                merged.externals.pop(member, None)

    # -------------------------------------------------------------------------------------------- 3. delaying

    def delay(self) -> None:
        """Move the tails of groups into the one group that reads them where fewer bytes go through memory."""
        for group in sorted((g for g in self.groups if g.members), key=lambda g: (-g.level, -g.number)):
            if group.core == "closed" or len(group.members) < 2:
                continue
            tails: dict[Group, list[int]] = {}
            leaving: dict[int, Group] = {}
            for item in sorted(group.members, key=self.position.__getitem__, reverse=True):
                if self.what[item] != ELEMENTWISE or item in self.is_output:
                    continue
                into = {leaving.get(r) or self.group[r] for r in self.readers[item]}
                if len(into) == 1:
                    (host,) = into
                    if host is not group and host is not None and host.core != "closed":
                        leaving[item] = host
                        tails.setdefault(host, []).append(item)
            for host, tail in tails.items():
                best = self.cheapest_tail(group, host, tail)
                self.move_tail(group, host, best)

    def cheapest_tail(self, group: Group, host: Group, tail: Sequence[int]) -> list[int]:
        """The part of ``tail`` (last items first) that saves most bytes when it moves; the items must fit one by one."""
        moved: set[int] = set()
        best, best_saving, saving = 0, 0, 0
        newly_read: set[int] = set()
        for count, item in enumerate(tail, start=1):
            nbytes = self.type(item).nbytes
            # Before: written here, read there. An item that an earlier mover read was counted as read from memory.
            saving += 2 * nbytes
            for root in {self.root[o] for o in self.operands[item] if not self.is_inline(o)}:
                if root in host.externals or root in newly_read:
                    continue
                newly_read.add(root)
                saving -= self.type(root).nbytes
                if self.group[root] is group and not self.stored(root, group, moved):
                    saving -= self.type(root).nbytes
            moved.add(item)
            if saving > best_saving:
                best, best_saving = count, saving
        return list(tail[:best])

    def stored(self, root: int, group: Group, moved: set[int]) -> bool:
        """Whether ``root`` goes to memory anyway: an output, or read outside its group by others than the movers."""
        return root in self.is_output or any(self.group[r] is not group for r in self.readers[root] if r not in moved)

    def move_tail(self, group: Group, host: Group, tail: Sequence[int]) -> None:
        for item in tail:
            single = Group(-1, host.level, "loop", self.shape(item), None, [item])
            old_place = self.place[item]
            self.group[item] = single
            self.place[item] = FULL
            try:
                readers = [r for r in self.readers[item] if self.group[r] is host]
                fit = self.fit([host, single], readers=readers)
                if fit.frame != host.frame or fit.reduced != host.reduced:
                    raise Misfit("the domain of the reader would change")
                self.check_reads(item, fit, fit.places[single])
            except Misfit:
                self.group[item], self.place[item] = group, old_place
                return
            self.place[item] = fit.places[single]
            self.group[item] = None
            group.members.remove(item)
            host.externals.pop(item, None)
            self.enter(item, host)
            self.recount(group)

    def recount(self, group: Group) -> None:
        """The values that ``group`` reads, after a member has left."""
        group.externals = {}
        for item in group.members:
            for o in self.reads(item):
                root = self.root[o]
                if self.group[root] is not group and not (self.what[item] in LOOPED and self.is_inline(o)):
                    group.externals[root] = None

    # -------------------------------------------------------------------------------------------- 4. side by side

    def pair(self) -> None:
        """Merge groups of one level and domain that read a common value."""
        leader: dict[tuple[int, Shape, int], Group] = {}
        for group in [g for g in self.groups if g.members]:
            if group.core != "loop" or any(m in self.is_output and self.what[m] == COPY for m in group.members):
                continue
            for root in list(group.externals):
                key = (group.level, group.frame, root)
                other = leader.get(key)
                if other is None or not other.members:
                    leader[key] = group
                elif other is not group and self.may_pair(other, group):
                    fit = Fit(group.frame, other.reduced if group.reduced is None else group.reduced, "loop",
                              {group: FULL, other: FULL})  # fmt: skip
                    group = leader[key] = self.merge([other, group], fit)

    def may_pair(self, left: Group, right: Group) -> bool:
        if None not in (left.reduced, right.reduced) and left.reduced != right.reduced:
            return False
        if len(left.members) + len(right.members) > MAX_NODES:
            return False
        written = sum(self.is_written(m, g) for g in (left, right) for m in g.members)
        return len(left.externals | right.externals) + written <= MAX_PAIRED

    def is_written(self, item: int, group: Group) -> bool:
        return item in self.is_output or any(self.group[r] is not group for r in self.readers[item])


def index_axis(node: Node, shape: Shape) -> int | None:
    """The axis of ``shape`` along which ``node`` (an iota) counts when it is reshaped to ``shape``; None if there is none."""
    own, axis = node.type, node["axis"]
    if own.shape == shape:
        return axis
    if own.size == 0:
        return 0 if shape else None
    strides = reshaped_strides(own, [int(k == axis) for k in range(own.ndim)], TensorType(own.dtype, shape))
    if strides is None:
        return None
    along = [k for k, s in enumerate(strides) if s != 0 and shape[k] != 1]
    if not along:
        return next((k for k, n in enumerate(shape) if n == 1), None)
    return along[0] if len(along) == 1 and strides[along[0]] == 1 else None
