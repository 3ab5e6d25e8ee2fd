"""The independent checker of memory plans: brute force over bytes and stages, with a liveness of its own.

It shares no code with :mod:`graphc.passes.plan`. What a plan claims is turned into byte ranges of named memories and
compared range by range; nothing that the planner worked out is believed.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graphc.ir import Node
from graphc.passes.plan import Plan, PlanError
from graphc.passes.schedule import Kernel


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes [start, stop) of a memory: the arena, or one input, output or constant."""

    memory: str
    start: int
    stop: int

    def meets(self, other: Bytes) -> bool:
        return self.memory == other.memory and self.start < other.stop and other.start < self.stop


#: Bytes that live in the arena, the value (-1: none), and what to call it.
Entry = tuple[Bytes, int, str]


def check_plan(plan: Plan) -> None:
    """Raise PlanError where the plan is wrong: a value outside its memory, two live values that overlap, kernels of one
    stage where one writes what another touches, an in-place pair or a donation that is not legal, a read before a write.
    """
    _Check(plan).run()


class _Check:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.schedule = plan.schedule
        self.root = [k if v.base is None else v.base for k, v in enumerate(self.schedule.values)]
        self.donor = {j: i for i, j in plan.donations}
        self.born: dict[int, int] = {}
        self.dies: dict[int, int] = {}

    def run(self) -> None:
        self.check_places()
        self.check_types()
        self.check_order()
        self.check_arena()
        for number, kernels in enumerate(self.schedule.stages):
            self.check_stage(number, kernels)
            for kernel in kernels:
                self.check_in_place(kernel)
                if kernel.template == "control":
                    self.check_control(kernel)
        self.check_donations()

    # -------------------------------------------------------------------------------------------- where values lie

    def bytes_of(self, value: int) -> Bytes:
        place, size = self.plan.places[value], self.schedule.values[value].type.nbytes
        match place.region:
            case "arena":
                return Bytes("arena", place.offset, place.offset + size)
            case "output" if place.index in self.donor:
                return Bytes(f"input {self.donor[place.index]}", 0, size)
            case region:
                return Bytes(f"{region} {place.index}", 0, size)

    def check_places(self) -> None:
        """Every value is in the right memory and inside it; views are where their bases are."""
        plan, schedule = self.plan, self.schedule
        if len(plan.places) != len(schedule.values):
            raise PlanError(f"{len(schedule.values)} values have {len(plan.places)} places")
        for k, (value, place) in enumerate(zip(schedule.values, plan.places, strict=True)):
            if place.region != {"temporary": "arena"}.get(value.kind, value.kind):
                raise PlanError(f"%{k}, a value of kind {value.kind}, lies in {place.region}")
            at = plan.places[self.root[k]]
            inside = (at.region, at.index, at.offset + value.offset) == (place.region, place.index, place.offset)
            if not inside or value.kind != schedule.values[self.root[k]].kind:
                raise PlanError(f"%{k} is not where its base %{self.root[k]} is")
            if schedule.values[self.root[k]].base is not None:
                raise PlanError(f"%{k} is a view of a view")
            whole = schedule.values[self.root[k]].type
            if value.offset < 0 or value.offset + value.type.nbytes > whole.nbytes:
                raise PlanError(
                    f"%{k}: {value.type} from byte {value.offset} on leaves its base %{self.root[k]}: {whole}"
                )
            if value.type.nbytes != whole.nbytes and value.kind != "temporary":
                raise PlanError(f"%{k}: {value.type} has other bytes than its base %{self.root[k]}")
            if place.region == "arena" and (place.offset < 0 or place.offset % 64):
                raise PlanError(f"%{k} lies at offset {place.offset}, which is no multiple of 64")
            if place.region == "arena" and place.offset + value.type.nbytes > plan.arena_bytes:
                raise PlanError(f"%{k} ends at byte {place.offset + value.type.nbytes} of {plan.arena_bytes}")
        for region, table in (("input", schedule.inputs), ("output", schedule.outputs), ("constant", plan.constants)):
            for index, k in enumerate(table):
                place = plan.places[k]
                if place.region != region or place.index != index:
                    raise PlanError(f"{region} {index}, %{k}, is at {place}")
        for kernel, block in plan.blocks.items():
            if block.offset < 0 or block.offset % 64 or block.offset + block.size > plan.arena_bytes:
                raise PlanError(f"the block of {kernel.name} leaves the arena of {plan.arena_bytes} bytes")

    def check_types(self) -> None:
        """The body of a kernel takes and gives exactly the values that it is bound to."""
        values = self.schedule.values
        for kernel in self.schedule.kernels:
            have = (*kernel.body.input_types, *kernel.body.output_types)
            bound = (*kernel.args, *kernel.results)
            if have != tuple(values[v].type for v in bound):
                raise PlanError(f"{kernel.name} computes {have} and is bound to {[f'%{v}' for v in bound]}")

    def range_of(self, value: int) -> tuple[int, int]:
        """The bytes of its base that a value has: the first one, and the first one after it."""
        found = self.schedule.values[value]
        return found.offset, found.offset + found.type.nbytes

    # -------------------------------------------------------------------------------------------- when they live

    def check_order(self) -> None:
        """Every byte of a value is written once, before the stages that read it; fills ``born`` and ``dies``."""
        values = self.schedule.values
        ready = {k: Written([(0, v.type.nbytes)]) for k, v in enumerate(values) if v.kind in ("input", "constant")}
        for number, kernels in enumerate(self.schedule.stages):
            for kernel in kernels:
                for a in kernel.args:
                    if self.root[a] not in ready or not ready[self.root[a]].has(*self.range_of(a)):
                        raise PlanError(f"{kernel.name} reads %{a} before it is written")
                    self.dies[self.root[a]] = number
            for kernel in kernels:
                before = {self.root[r]: self.root[r] in ready for r in kernel.results}
                for r in kernel.results:
                    if not ready.setdefault(self.root[r], Written([])).add(*self.range_of(r)):
                        if before[self.root[r]]:
                            raise PlanError(f"{kernel.name} writes %{r}, which has a value already")
                        raise PlanError(f"{kernel.name} writes a value twice")
                    self.born.setdefault(self.root[r], number)
                    self.dies[self.root[r]] = number
        for v in self.schedule.outputs:
            if v not in self.born:
                raise PlanError(f"output %{v} is never written")

    def check_arena(self) -> None:
        """No two things that live in the arena in one stage overlap, but for the in-place pairs of that stage."""
        pairs: dict[int, set[tuple[int, int]]] = {}
        for number, kernels in enumerate(self.schedule.stages):
            pairs[number] = {
                (self.root[kernel.args[a]], self.root[kernel.results[r]])
                for kernel in kernels
                for r, a in self.plan.in_place.get(kernel, ())
            }
        entries: dict[int, list[Entry]] = {}
        leaving: dict[int, list[Entry]] = {}
        for v, first in self.born.items():
            if self.schedule.values[v].kind == "temporary":
                entry = (self.bytes_of(v), v, f"%{v}")
                entries.setdefault(first, []).append(entry)
                leaving.setdefault(self.dies[v], []).append(entry)
        for number, kernels in enumerate(self.schedule.stages):
            for kernel in kernels:
                if kernel in self.plan.blocks:
                    block = self.plan.blocks[kernel]
                    span = Bytes("arena", block.offset, block.offset + block.size)
                    entries.setdefault(number, []).append((span, -1, f"block of {kernel.name}"))
                    leaving.setdefault(number, []).append(entries[number][-1])
        live: list[Entry] = []  # by their starts; apart from in-place pairs of this stage they are disjoint
        for number in range(len(self.schedule.stages)):
            for entry in entries.get(number, ()):
                if entry[0].start == entry[0].stop:
                    continue
                at = bisect.bisect_left(live, entry[0].start, key=lambda e: e[0].start)
                for other in neighbours(live, at, entry[0]):
                    if not {(entry[1], other[1]), (other[1], entry[1])} & pairs[number]:
                        raise PlanError(f"{entry[2]} and {other[2]} share bytes in stage {number}")
                live.insert(at, entry)
            for entry in leaving.get(number, ()):
                if entry[0].start != entry[0].stop:
                    at = bisect.bisect_left(live, entry[0].start, key=lambda e: e[0].start)
                    while live[at] is not entry:
                        at += 1
                    del live[at]

    # -------------------------------------------------------------------------------------------- stages

    def touched(self, kernel: Kernel) -> tuple[list[Bytes], list[Bytes]]:
        """What a kernel reads and what it writes."""
        written = [self.bytes_of(r) for r in kernel.results]
        if kernel in self.plan.blocks:
            block = self.plan.blocks[kernel]
            written.append(Bytes("arena", block.offset, block.offset + block.size))
        return [self.bytes_of(a) for a in kernel.args], written

    def check_stage(self, number: int, kernels: tuple[Kernel, ...]) -> None:
        """What one kernel of a stage writes, no other kernel of it reads or writes; their scratch is apart."""
        spans = [(kernel, *self.touched(kernel)) for kernel in kernels]
        for k, (kernel, _, written) in enumerate(spans):
            for n, (other, reads, writes) in enumerate(spans):
                if n != k and any(w.meets(b) for w in written for b in (*reads, *writes)):
                    raise PlanError(f"{kernel.name} writes what {other.name} of the same stage {number} touches")
        for kernel in kernels:
            if not 0 <= self.plan.scratch[kernel] <= self.plan.scratch_bytes:
                raise PlanError(f"the scratch of {kernel.name} is outside the {self.plan.scratch_bytes} bytes")

    # -------------------------------------------------------------------------------------------- in place

    def check_in_place(self, kernel: Kernel) -> None:
        pairs = set(self.plan.in_place.get(kernel, ()))
        for r, result in enumerate(kernel.results):
            for a, argument in enumerate(kernel.args):
                if self.bytes_of(result).meets(self.bytes_of(argument)):
                    if (r, a) not in pairs:
                        raise PlanError(
                            f"{kernel.name} writes %{result} over its argument %{argument}: no in-place pair"
                        )
                    if self.bytes_of(result) != self.bytes_of(argument):
                        raise PlanError(f"{kernel.name}: %{result} and %{argument} overlap in part")
                    why = hazard(kernel, r, a)
                    if why:
                        raise PlanError(f"{kernel.name} must not write %{result} over %{argument}: {why}")

    # -------------------------------------------------------------------------------------------- donation

    def check_donations(self) -> None:
        """An input that an output overwrites is read in earlier stages, or in place by the kernel that overwrites it."""
        for i, j in self.plan.donations:
            source, target = self.schedule.inputs[i], self.schedule.outputs[j]
            if self.schedule.values[source].type != self.schedule.values[target].type:
                raise PlanError(f"output {j} has another type than input {i}, which is donated to it")
            for number, kernels in enumerate(self.schedule.stages):
                for kernel in kernels:
                    reads = source in (self.root[a] for a in kernel.args)
                    writes = target in (self.root[r] for r in kernel.results)
                    if reads and number >= self.born[target] and not writes:
                        raise PlanError(f"{kernel.name} reads input {i} when output {j} has been written over it")
        if len(set(self.donor.values())) != len(self.donor) or len(self.donor) != len(self.plan.donations):
            raise PlanError(f"a memory is donated twice: {self.plan.donations}")

    # -------------------------------------------------------------------------------------------- control kernels

    def check_control(self, kernel: Kernel) -> None:
        """The block holds the arenas of the bodies, and beside them the second buffers and the predicate."""
        block, inner = self.plan.blocks[kernel], self.plan.inner[kernel]
        node = next(n for n in kernel.body.nodes if n.op.kind == "control")
        beside: list[tuple[int, Bytes, str]] = []
        for c, offset in enumerate(block.carries):
            if offset is not None:
                size = self.schedule.values[kernel.results[c]].type.nbytes
                beside.append((c, Bytes("arena", offset, offset + size), f"second buffer of carry {c}"))
            elif not any((c, c) == pair for pair in inner[node.bodies.index(node["body"])].donations):
                raise PlanError(f"{kernel.name}: carry {c} has one buffer, but the body does not update it in place")
        if node.op.name == "while_loop":
            beside.append((-1, Bytes("arena", block.predicate, block.predicate + 1), "predicate"))
        for start, body in zip(block.arenas, inner, strict=True):
            own = (-2, Bytes("arena", start, start + body.arena_bytes), "arena of a body")
            everything = sorted((e for e in [*beside, own] if e[1].start < e[1].stop), key=lambda e: e[1].start)
            for left, right in overlaps(everything):
                raise PlanError(f"{kernel.name}: {left[2]} and {right[2]} share bytes")
            for _, span, what in everything:
                if span.start < block.offset or span.stop > block.offset + block.size:
                    raise PlanError(f"{kernel.name}: {what} is outside the kernel's block")
            check_plan(body)


class Written:
    """The bytes of a value that have been written: ranges from start to stop that do not touch."""

    def __init__(self, ranges: list[tuple[int, int]]) -> None:
        self.ranges = ranges

    def has(self, start: int, stop: int) -> bool:
        at = bisect.bisect_right(self.ranges, start, key=lambda r: r[0])
        return start == stop or at > 0 and self.ranges[at - 1][1] >= stop

    def add(self, start: int, stop: int) -> bool:
        """Enter a range; False where some of it is there already (of values without bytes: where they are)."""
        at = bisect.bisect_left(self.ranges, start, key=lambda r: r[0])
        if (
            at > 0
            and self.ranges[at - 1][1] > start
            or at < len(self.ranges)
            and self.ranges[at][0] < max(stop, start + 1)
        ):
            return False
        low, high = at, at
        if at > 0 and self.ranges[at - 1][1] == start < stop:
            low, start = at - 1, self.ranges[at - 1][0]
        if at < len(self.ranges) and self.ranges[at][0] == stop:
            high, stop = at + 1, self.ranges[at][1]
        self.ranges[low:high] = [(start, stop)]
        return True


def neighbours(live: list[Entry], at: int, span: Bytes) -> list[Entry]:
    """The entries of ``live``, sorted by start, that share bytes with ``span``, which would be inserted at ``at``.

    At most two entries begin at one place (an in-place pair), and only they overlap; so a few steps to either side do.
    """
    found = [e for e in live[max(at - 2, 0) : at] if e[0].meets(span)]
    while at < len(live) and live[at][0].start < span.stop:
        found.append(live[at])
        at += 1
    return found


def overlaps(entries: list[tuple[int, Bytes, str]]) -> Iterator[tuple[tuple[int, Bytes, str], tuple[int, Bytes, str]]]:
    """Pairs of entries, sorted by their start, that share bytes."""
    open_: list[tuple[int, Bytes, str]] = []
    for entry in entries:
        open_ = [e for e in open_ if e[1].stop > entry[1].start]
        for e in open_:
            yield e, entry
        open_.append(entry)


# ------------------------------------------------------------------------------------------------ hazards


def hazard(kernel: Kernel, result: int, argument: int) -> str:
    """Why writing the result over the argument would be wrong, '' where it is right.

    Each node is given the moment at which it is computed for one element: the number of its loop over the elements, then
    its line. The argument must not be read for another element at all, nor for this one after the result is there.
    """
    x, out = kernel.body.inputs[argument], kernel.body.outputs[result]
    if kernel.template == "segment":
        if out.op.name not in ("scatter", "segment_reduce", "dynamic_update_slice") or out.inputs[0] is not x:
            return f"{out.op.name} does not update its operand"
        readers = sum(operand is x for node in kernel.body.nodes for operand in node.inputs)
        return "it is read as another operand too" if readers > 1 else ""
    if kernel.template in ("copy", "library", "control", "attention"):
        return f"a {kernel.template} kernel reads and writes in its own order"
    if x.type.shape != out.type.shape or x.type.dtype.itemsize != out.type.dtype.itemsize:
        return f"{x.type} and {out.type} have other places for an element"
    moment = moments(kernel)
    last_loop = max(m[0] for n, m in moment.items() if n.op.kind == "reduction" or n.type.shape == x.type.shape)
    if moment[out][0] < last_loop:
        return "a later loop over the elements follows"
    for reader in (n for n in kernel.body.nodes if any(i is x for i in n.inputs)):
        if reader.op.kind == "reduction":
            if moment[reader][0] >= moment[out][0]:
                return f"{reader.op.name} reads it in the loop that writes"
        elif reader.op.kind != "elementwise":
            return f"{reader.op.name} reads other elements of it"
        elif moment[reader] > moment[out]:
            return f"{reader.op.name} reads it after the write"
    return ""


def moments(kernel: Kernel) -> Mapping[Node, tuple[int, int]]:
    found: dict[Node, tuple[int, int]] = {}
    for line, node in enumerate(kernel.body.nodes):
        loop = 0
        for operand in node.inputs:
            earlier = found[operand][0]
            loop = max(loop, earlier + 1 if operand.op.kind == "reduction" else earlier)
        found[node] = (loop, line)
    return found
