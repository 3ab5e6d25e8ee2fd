"""Memory planning: every value of a Schedule at a fixed place, known before anything runs.

Temporaries live in one arena from the stage that writes them to the last stage that reads them; the kernels of one stage
never share bytes. A kernel writes a result over an argument that dies there where it reads each element just where it
writes it (an in-place pair). A donated input is overwritten by its output under the same condition, or once everything
has read it; where neither is possible the output is computed in the arena and copied at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from graphc.ir import INPUT, Graph, Node
from graphc.looking import Inspectable
from graphc.passes.packing import Span, aligned, most_live, pack
from graphc.passes.schedule import Domain, Kernel, Schedule, Value, base_of, is_part
from graphc.types import TensorType


class PlanError(ValueError):
    """A memory plan that cannot be right, or donations that make no sense. Names the values."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value lies. ``region`` is input, output or constant (``index`` numbers them) or arena (``offset`` in bytes).

    The place of output ``j`` that input ``i`` is donated to is ``output j``; at run time that is the memory of ``i``.
    """

    region: str
    index: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """The memory of a control kernel in the arena that its schedule is planned in, live while the kernel runs.

    ``arenas[b]`` is where the arena of the plan of body ``b`` begins. ``carries[c]`` is the second buffer of carry c of a
    loop, None where its body updates the carry in place; the first buffer is the kernel's result c. ``predicate`` is the
    bool that the condition of a while_loop writes. All are byte offsets; -1 stands for nothing.
    """

    offset: int
    size: int
    arenas: tuple[int, ...]
    carries: tuple[int | None, ...] = ()
    predicate: int = -1


@dataclass(frozen=True, eq=False)
class Plan(Inspectable):
    """A schedule with a place for every value.

    places           by value number; a view has the place of its base.
    constants        value numbers of the constant blocks, by index.
    arena_bytes      size of the arena; offsets in it are multiples of 64.
    scratch_bytes    per thread; kernel k of a stage has its scratch at ``scratch[k]``.
    donations        (input, output) pairs: the output is written into the input's memory.
    in_place         per kernel (result, argument) positions that are one memory.
    blocks, inner    per control kernel its memory and the plans of its bodies.
    unplanned_bytes  the temporaries, were each given memory of its own.
    lower_bound_bytes  most bytes that live at once: no plan of these stages is smaller.
    """

    schedule: Schedule
    places: tuple[Place, ...]
    constants: tuple[int, ...]
    arena_bytes: int
    scratch_bytes: int
    scratch: Mapping[Kernel, int]
    donations: tuple[tuple[int, int], ...]
    in_place: Mapping[Kernel, tuple[tuple[int, int], ...]]
    blocks: Mapping[Kernel, Block]
    inner: Mapping[Kernel, tuple[Plan, ...]]
    unplanned_bytes: int
    lower_bound_bytes: int

    @property
    def peak_bytes(self) -> int:
        """Most bytes of the arena in use at once."""
        return self.arena_bytes

    def __str__(self) -> str:
        from graphc.passes.print import plan_text

        return plan_text(self)


def no_scratch(kernel: Kernel) -> int:
    return 0


Scratch = Callable[[Kernel], int]


def plan(schedule: Schedule, donated: Mapping[int, int] | None = None, scratch: Scratch = no_scratch) -> Plan:
    """Places for all values of ``schedule``; its stages stay as they are.

    ``donated`` maps graph inputs to the outputs that take over their memory; both must have one type, and an output or
    input may occur once (PlanError). Where an output cannot be written straight into its input, the plan's schedule has
    a copy at its end. ``scratch(kernel)`` is what the backend wants per thread, in bytes.
    """
    donations = dict(sorted((donated or {}).items()))
    check_donations(schedule, donations)
    schedule = with_copies(schedule, donations)
    return _Planner(schedule, donations, scratch).plan()


def check_donations(schedule: Schedule, donations: Mapping[int, int]) -> None:
    for i, j in donations.items():
        if not 0 <= i < len(schedule.inputs) or not 0 <= j < len(schedule.outputs):
            raise PlanError(f"there is no input {i} or output {j} to donate")
        source, target = schedule.values[schedule.inputs[i]].type, schedule.values[schedule.outputs[j]].type
        if source != target:
            raise PlanError(f"input {i} is {source}, output {j} is {target}: donation needs one type")
    if len(set(donations.values())) != len(donations):
        raise PlanError(f"two inputs are donated to one output: {dict(donations)}")


# ------------------------------------------------------------------------------------------------ uses of values


@dataclass(frozen=True, slots=True)
class Uses:
    """Per base value: the stages that first and last write it (-1: none) and the kernels that read it with their stages.
    Values that are written in parts are written in several stages."""

    written: tuple[int, ...]
    finished: tuple[int, ...]
    readers: tuple[tuple[tuple[int, Kernel], ...], ...]

    def last(self, value: int) -> int:
        return max((s for s, _ in self.readers[value]), default=self.finished[value])


def uses_of(schedule: Schedule) -> Uses:
    written, finished = [-1] * len(schedule.values), [-1] * len(schedule.values)
    readers: list[list[tuple[int, Kernel]]] = [[] for _ in schedule.values]
    for number, kernels in enumerate(schedule.stages):
        for kernel in kernels:
            for value in dict.fromkeys(base_of(schedule, a) for a in kernel.args):
                readers[value].append((number, kernel))
            for value in dict.fromkeys(base_of(schedule, r) for r in kernel.results):
                written[value] = number if written[value] < 0 else written[value]
                finished[value] = number
    return Uses(tuple(written), tuple(finished), tuple(map(tuple, readers)))


# ------------------------------------------------------------------------------------------------ in place


def may_overwrite(schedule: Schedule, kernel: Kernel, result: int, argument: int) -> bool:
    """Whether ``kernel`` may write result number ``result`` over argument number ``argument``.

    The argument must be read only at the element that is being written, by nodes that come no later than the result's,
    and in the last pass over the elements: then nothing reads it after the write. Nothing else in the kernel may touch
    those bytes.
    """
    bases = [base_of(schedule, a) for a in kernel.args]
    if bases.count(bases[argument]) != 1:
        return False
    x, out = kernel.body.inputs[argument], kernel.body.outputs[result]
    if kernel.template == "segment":
        readers = [node for node in kernel.body.nodes if x in node.inputs]
        updated = out.op.name in ("scatter", "segment_reduce", "dynamic_update_slice") and out.inputs[0] is x
        return updated and readers == [out] and x not in out.inputs[1:]
    if kernel.template not in ("elementwise", "row", "column", "contraction", "window"):
        return False
    if x.type.shape != out.type.shape or x.type.dtype.itemsize != out.type.dtype.itemsize:
        return False
    passes = passes_of(kernel.body)
    loops = [n for n in kernel.body.nodes if n.op.kind == "reduction" or n.type.shape == out.type.shape]
    if passes[out] < max(passes[n] for n in loops):
        return False
    order = {node: k for k, node in enumerate(kernel.body.nodes)}
    for node in kernel.body.nodes:
        if x in node.inputs:
            earlier_pass = node.op.kind == "reduction" and passes[node] < passes[out]
            same_element = node.op.kind == "elementwise" and order[node] <= order[out]
            if not (earlier_pass or same_element):
                return False
    return True


def passes_of(body: Graph) -> dict[Node, int]:
    """How many reductions must be finished before a node is computed: the loops over the elements that come before it."""
    passes: dict[Node, int] = {}
    for node in body.nodes:
        before = max((passes[i] + (i.op.kind == "reduction") for i in node.inputs), default=0)
        passes[node] = before
    return passes


# ------------------------------------------------------------------------------------------------ donation


def can_donate(schedule: Schedule, uses: Uses, i: int, j: int) -> bool:
    """Whether output ``j`` can be written straight into input ``i``: all else has read it, or reads it in place."""
    source, target = schedule.inputs[i], schedule.outputs[j]
    stage = uses.written[target]
    if any(s >= stage for s, k in uses.readers[source] if target not in written_by(schedule, k)):
        return False
    owner = next(k for k in schedule.stages[stage] if target in written_by(schedule, k))
    arguments = [p for p, a in enumerate(owner.args) if base_of(schedule, a) == source]
    result = written_by(schedule, owner).index(target)
    return not arguments or (len(arguments) == 1 and may_overwrite(schedule, owner, result, arguments[0]))


def written_by(schedule: Schedule, kernel: Kernel) -> list[int]:
    return [base_of(schedule, r) for r in kernel.results]


def with_copies(schedule: Schedule, donations: Mapping[int, int]) -> Schedule:
    """``schedule`` with a last stage that copies the outputs which cannot be written straight into their inputs."""
    uses = uses_of(schedule)
    late = [j for i, j in donations.items() if not can_donate(schedule, uses, i, j)]
    if not late:
        return schedule
    values, outputs = list(schedule.values), list(schedule.outputs)
    copies: list[Kernel] = []
    for j in late:
        computed = outputs[j]
        for k, value in enumerate(values):
            if k == computed or value.base == computed:
                values[k] = replace(value, kind="temporary")
        outputs[j] = len(values)
        values.append(Value(values[computed].type, "output", values[computed].node))
        pair = [as_real(values, k) for k in (computed, outputs[j])]
        copies.append(copy_kernel(f"k{sum(map(len, schedule.stages)) + len(copies)}", values, *pair))
    return replace(schedule, values=tuple(values), outputs=tuple(outputs), stages=(*schedule.stages, tuple(copies)))


def as_real(values: list[Value], number: int) -> int:
    """The number of a value, or of a view of it that kernels can copy: complex ones are pairs of real numbers."""
    value = values[number]
    if value.type.dtype.kind != "c":
        return number
    type = TensorType(value.type.dtype.real, (*value.type.shape, 2))
    values.append(Value(type, value.kind, value.node, number if value.base is None else value.base))
    return len(values) - 1


def copy_kernel(name: str, values: Sequence[Value], source: int, target: int) -> Kernel:
    type = values[source].type
    x = Node(INPUT, (), (("name", "x0"), ("type", type)), type)
    return Kernel(name, "elementwise", Domain(type.shape), Graph(name, (x,), (x,), (x,)), (source,), (target,))


# ------------------------------------------------------------------------------------------------ planning


class _Planner:
    def __init__(self, schedule: Schedule, donations: Mapping[int, int], scratch: Scratch) -> None:
        self.schedule = schedule
        self.donations = donations
        self.scratch = scratch
        self.uses = uses_of(schedule)
        self.inner: dict[Kernel, tuple[Plan, ...]] = {}
        self.in_place: dict[Kernel, tuple[tuple[int, int], ...]] = {}
        self.buffer: dict[int, int] = {}  # temporary -> the one whose memory it takes over in the end

    def plan(self) -> Plan:
        schedule = self.schedule
        self.plan_bodies()
        self.pair_in_place()
        spans, members, kernels = self.spans()
        offsets, arena = pack(spans)
        offset_of = {value: offsets[k] for k, values in enumerate(members) for value in values}
        blocks = {kernel: block_of(kernel, self.inner[kernel], schedule, offsets[k]) for kernel, k in kernels.items()}
        constants = tuple(k for k, v in enumerate(schedule.values) if v.kind == "constant" and v.base is None)
        scratch, scratch_bytes = self.scratch_offsets()
        sizes = [v.type.nbytes for v in schedule.values if v.kind == "temporary" and v.base is None]
        return Plan(
            schedule,
            self.places(offset_of, {v: k for k, v in enumerate(constants)}),
            constants,
            arena,
            scratch_bytes,
            scratch,
            tuple(self.donations.items()),
            self.in_place,
            blocks,
            self.inner,
            sum(map(aligned, sizes)) + sum(b.size for b in blocks.values()),
            most_live(spans),
        )

    def plan_bodies(self) -> None:
        for kernel in self.schedule.kernels:
            if kernel.template == "control":
                self.inner[kernel] = plan_bodies(kernel, self.scratch)

    def pair_in_place(self) -> None:
        """Choose in-place pairs, in program order; each argument gives its memory to one result."""
        schedule = self.schedule
        donor = {schedule.outputs[j]: schedule.inputs[i] for i, j in self.donations.items()}
        for number, kernels in enumerate(schedule.stages):
            for kernel in kernels:
                pairs: list[tuple[int, int]] = []
                bases = [base_of(schedule, a) for a in kernel.args]
                for position, result in enumerate(kernel.results):
                    value = base_of(schedule, result)
                    if value in donor and donor[value] in bases:
                        pairs.append((position, bases.index(donor[value])))
                    elif schedule.values[value].kind == "temporary" and not is_part(schedule, result):
                        taken = {a for _, a in pairs}
                        argument = self.free_argument(kernel, number, position, taken)
                        if argument is not None:
                            pairs.append((position, argument))
                            self.buffer[value] = self.buffer.get(bases[argument], bases[argument])
                if pairs:
                    self.in_place[kernel] = tuple(pairs)

    def free_argument(self, kernel: Kernel, number: int, result: int, taken: set[int]) -> int | None:
        """The first argument that dies in ``kernel`` (of stage ``number``) and may take over result ``result``."""
        for position, argument in enumerate(kernel.args):
            value = base_of(self.schedule, argument)
            if position in taken or self.schedule.values[value].kind != "temporary" or is_part(self.schedule, argument):
                continue
            others = any(s >= number and k is not kernel for s, k in self.uses.readers[value])
            if not others and may_overwrite(self.schedule, kernel, result, position):
                return position
        return None

    def spans(self) -> tuple[list[Span], list[list[int]], dict[Kernel, int]]:
        """What wants memory in the arena: buffers with the values that lie in them, then blocks of control kernels."""
        schedule, uses = self.schedule, self.uses
        members: dict[int, list[int]] = {}
        for k, value in enumerate(schedule.values):
            if value.kind == "temporary" and value.base is None:
                members.setdefault(self.buffer.get(k, k), []).append(k)
        spans = [
            Span(
                schedule.values[owner].type.nbytes,
                min(uses.written[v] for v in values),
                max(uses.last(v) for v in values),
            )
            for owner, values in members.items()
        ]
        kernels: dict[Kernel, int] = {}
        for number, stage in enumerate(schedule.stages):
            for kernel in stage:
                if kernel.template == "control":
                    kernels[kernel] = len(spans)
                    spans.append(Span(block_of(kernel, self.inner[kernel], schedule, 0).size, number, number))
        return spans, list(members.values()), kernels

    def places(self, offset_of: Mapping[int, int], constant_of: Mapping[int, int]) -> tuple[Place, ...]:
        schedule = self.schedule
        input_of = {v: k for k, v in enumerate(schedule.inputs)}
        output_of = {v: k for k, v in enumerate(schedule.outputs)}
        found = []
        for k, value in enumerate(schedule.values):
            base = base_of(schedule, k)
            match value.kind:
                case "temporary":
                    found.append(Place("arena", 0, offset_of[base] + value.offset))
                case "input":
                    found.append(Place("input", input_of[base]))
                case "output":
                    found.append(Place("output", output_of[base]))
                case _:
                    found.append(Place("constant", constant_of[base]))
        return tuple(found)

    def scratch_offsets(self) -> tuple[dict[Kernel, int], int]:
        """Kernels of one stage have their scratch side by side; that of a control kernel serves its bodies."""
        offsets: dict[Kernel, int] = {}
        most = 0
        for stage in self.schedule.stages:
            top = 0
            for kernel in stage:
                offsets[kernel] = top
                inside = max((p.scratch_bytes for p in self.inner.get(kernel, ())), default=0)
                top += aligned(max(self.scratch(kernel), inside))
            most = max(most, top)
        return offsets, most


# ------------------------------------------------------------------------------------------------ control kernels


def plan_bodies(kernel: Kernel, scratch: Scratch) -> tuple[Plan, ...]:
    """The plans of a control kernel's bodies. A loop's body updates a carry in place where it can."""
    (node,) = (n for n in kernel.body.nodes if n.op.kind == "control")
    if node.op.name == "cond":
        return tuple(plan(body, None, scratch) for body in kernel.bodies)
    return tuple(
        plan(body, in_place_carries(body, node["n_carry"]) if inner is node["body"] else None, scratch)
        for inner, body in zip(node.bodies, kernel.bodies, strict=True)
    )


def in_place_carries(body: Schedule, n_carry: int) -> dict[int, int]:
    """The carries that a loop's body can write straight over their old value."""
    uses = uses_of(body)
    return {c: c for c in range(n_carry) if can_donate(body, uses, c, c)}


def block_of(kernel: Kernel, inner: Sequence[Plan], schedule: Schedule, offset: int) -> Block:
    """Lay out the memory of a control kernel from ``offset`` on.

    Arenas of several bodies share their bytes, as one body runs at a time, and what one leaves there the other does not
    read; second buffers of carries and the predicate lie after them.
    """
    (node,) = (n for n in kernel.body.nodes if n.op.kind == "control")
    top = offset + max((p.arena_bytes for p in inner), default=0)
    arenas = (offset,) * len(inner)
    if node.op.name == "cond":
        return Block(offset, top - offset, arenas)
    body = inner[node.bodies.index(node["body"])]
    updated = {i for i, _ in body.donations}
    carries: list[int | None] = []
    for c in range(node["n_carry"]):
        if c in updated:
            carries.append(None)
        else:
            carries.append(top)
            top += aligned(body.schedule.values[body.schedule.inputs[c]].type.nbytes)
    predicate = -1
    if node.op.name == "while_loop":
        predicate, top = top, top + aligned(1)
    return Block(offset, top - offset, arenas, tuple(carries), predicate)
