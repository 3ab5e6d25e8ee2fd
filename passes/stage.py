"""Staging: the order of the kernels, and which of them run at the same time.

Order: list scheduling by memory. Of the kernels that are ready, the one runs next that frees most bytes over those it
allocates; the program's own order is kept where it needs no more memory. A kernel that overwrites a donated input comes
after all that read that input.

Stages: neighbours that do not depend on each other and are too small to be worth splitting over threads share a stage,
as long as the peak stays what it is. Large kernels are alone in theirs: they are parallel inside.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from graphc.passes.fuse import kernel_work
from graphc.passes.schedule import Kernel, Schedule, base_of, is_part

#: Kernels of at most so many scalar operations share stages.
SMALL_WORK = 1 << 16
MAX_STAGE = 32
#: Kernels of at most so many scalar operations that overwrite a donated input (step counters, random keys) wait for all
#: kernels whose data can be wrong: a call that raises then leaves the memory as it was. To wait costs them no memory.
TINY_WORK = 64


@dataclass(frozen=True, slots=True)
class Flow:
    """Which kernel waits for which, and the temporaries that each reads and writes. Kernels and values by number."""

    kernels: tuple[Kernel, ...]
    before: tuple[frozenset[int], ...]
    after: tuple[tuple[int, ...], ...]
    reads: tuple[tuple[int, ...], ...]
    writes: tuple[tuple[int, ...], ...]
    allocates: tuple[int, ...]  # bytes of the temporaries, or parts of them, that each writes
    nbytes: Mapping[int, int]


def stage(schedule: Schedule, donated: Mapping[int, int] | None = None) -> Schedule:
    """``schedule`` with its kernels ordered for least peak memory, in stages, and renamed in that order.

    ``donated`` maps numbers of graph inputs to the graph outputs that are to take over their memory. Where an order
    exists in which every other reader of the input runs before its memory is written, the result has it.
    """
    flow = flow_of(schedule, donated or {})
    program = tuple(range(len(flow.kernels)))
    if not in_order(flow, program):
        program = topological_order(flow)
    greedy = greedy_order(flow)
    order = min((program, greedy), key=lambda o: peak(flow, o))
    stages = cut_into_stages(flow, order)
    names = {k: f"k{n}" for n, k in enumerate(k for ks in stages for k in ks)}
    renamed = tuple(tuple(rename(flow.kernels[k], names[k]) for k in ks) for ks in stages)
    return replace(schedule, stages=renamed)


def rename(kernel: Kernel, name: str) -> Kernel:
    bodies = tuple(stage(body) for body in kernel.bodies)
    if kernel.name == name and not bodies:
        return kernel
    return replace(kernel, name=name, body=replace(kernel.body, name=name), bodies=bodies)


def flow_of(schedule: Schedule, donated: Mapping[int, int]) -> Flow:
    kernels = tuple(schedule.kernels)
    writer: dict[int, int] = {}  # of values that are no parts, by base
    parts: dict[int, dict[tuple[int, int], int]] = {}  # base -> bytes of a part -> the kernel that writes it
    readers: dict[int, list[int]] = {}
    for k, kernel in enumerate(kernels):
        for value in kernel.results:
            if is_part(schedule, value):
                parts.setdefault(base_of(schedule, value), {})[range_of(schedule, value)] = k
            else:
                writer[base_of(schedule, value)] = k
        for value in dict.fromkeys(base_of(schedule, a) for a in kernel.args):
            readers.setdefault(value, []).append(k)
    before: list[set[int]] = [set() for _ in kernels]
    after: list[dict[int, None]] = [{} for _ in kernels]
    for k, kernel in enumerate(kernels):
        for argument in kernel.args:
            base = base_of(schedule, argument)
            for w in writers_of(range_of(schedule, argument), parts[base]) if base in parts else (writer.get(base),):
                if w is not None:
                    before[k].add(w)
                    after[w][k] = None
    for i, j in sorted(donated.items()):
        owner = writer[base_of(schedule, schedule.outputs[j])]
        others = [k for k in readers.get(schedule.inputs[i], []) if k != owner]
        if not reaches(after, owner, others):
            for k in others:
                before[owner].add(k)
                after[k][owner] = None
    checks = [k for k, kernel in enumerate(kernels) if may_fail(kernel)] if donated else []
    for j in donated.values():
        owner = writer[base_of(schedule, schedule.outputs[j])]
        if kernel_work(kernels[owner]) <= TINY_WORK and not may_fail(kernels[owner]):
            for k in checks:
                if not reaches(after, owner, [k]):
                    before[owner].add(k)
                    after[k][owner] = None

    def temporaries(values: Iterable[int]) -> tuple[int, ...]:
        roots = dict.fromkeys(base_of(schedule, v) for v in values)
        return tuple(v for v in roots if schedule.values[v].kind == "temporary")

    def allocated(kernel: Kernel) -> int:
        return sum(schedule.values[v].type.nbytes for v in kernel.results if schedule.values[v].kind == "temporary")

    return Flow(
        kernels,
        tuple(frozenset(b) for b in before),
        tuple(tuple(a) for a in after),
        tuple(temporaries(k.args) for k in kernels),
        tuple(temporaries(k.results) for k in kernels),
        tuple(allocated(k) for k in kernels),
        {v: value.type.nbytes for v, value in enumerate(schedule.values)},
    )


def range_of(schedule: Schedule, value: int) -> tuple[int, int]:
    """The bytes of its base that ``value`` has: the first one, and the first one after it."""
    found = schedule.values[value]
    return found.offset, found.offset + found.type.nbytes


def writers_of(wanted: tuple[int, int], parts: Mapping[tuple[int, int], int]) -> list[int]:
    """The kernels that write some of the bytes ``wanted`` of a value that is written in parts."""
    if wanted in parts:
        return [parts[wanted]]
    return list(dict.fromkeys(k for (start, stop), k in parts.items() if start < wanted[1] and wanted[0] < stop))


def may_fail(kernel: Kernel) -> bool:
    """Whether a kernel's data can be wrong: indices out of range, singular matrices."""
    return any(node.op.kind in ("indexing", "linalg") for node in kernel.body.nodes)


def reaches(after: Sequence[Mapping[int, None]], start: int, targets: Iterable[int]) -> bool:
    wanted = set(targets)
    seen, pending = {start}, [start]
    while pending:
        k = pending.pop()
        if k in wanted:
            return True
        for n in after[k]:
            if n not in seen:
                seen.add(n)
                pending.append(n)
    return False


def in_order(flow: Flow, order: Sequence[int]) -> bool:
    place = {k: n for n, k in enumerate(order)}
    return all(place[b] < place[k] for k in order for b in flow.before[k])


def topological_order(flow: Flow) -> tuple[int, ...]:
    """The program's order, as far as the donations allow."""
    return list_schedule(flow, lambda k, remaining: 0)


def greedy_order(flow: Flow) -> tuple[int, ...]:
    """Most bytes freed minus allocated first."""

    def gain(k: int, remaining: Mapping[int, int]) -> int:
        return sum(flow.nbytes[v] for v in flow.reads[k] if remaining[v] == 1) - flow.allocates[k]

    return list_schedule(flow, gain)


def list_schedule(flow: Flow, gain) -> tuple[int, ...]:  # type: ignore[no-untyped-def]
    """List scheduling: of the ready kernels the one with the highest ``gain(kernel, readers left by value)``.

    A value with one reader left raises that reader's gain, which is entered into the heap again; stale entries are
    recognised when they come up.
    """
    waiting = [len(b) for b in flow.before]
    remaining: dict[int, int] = {}
    number_sum: dict[int, int] = {}  # sum of the numbers of the readers left: with one left, it is that reader
    for k, reads in enumerate(flow.reads):
        for v in reads:
            remaining[v] = remaining.get(v, 0) + 1
            number_sum[v] = number_sum.get(v, 0) + k
    heap = [(-gain(k, remaining), k) for k, count in enumerate(waiting) if count == 0]
    heapq.heapify(heap)
    done = [False] * len(waiting)
    order: list[int] = []
    while heap:
        score, k = heapq.heappop(heap)
        if done[k] or -score != gain(k, remaining):
            continue
        done[k] = True
        order.append(k)
        for v in flow.reads[k]:
            remaining[v] -= 1
            number_sum[v] -= k
            if remaining[v] == 1:
                last = number_sum[v]
                if waiting[last] == 0 and not done[last]:
                    heapq.heappush(heap, (-gain(last, remaining), last))
        for n in flow.after[k]:
            waiting[n] -= 1
            if waiting[n] == 0:
                heapq.heappush(heap, (-gain(n, remaining), n))
    assert len(order) == len(waiting), "the kernels wait for each other in a circle"
    return tuple(order)


def peak(flow: Flow, order: Sequence[int]) -> int:
    """Most bytes of temporaries that live at once when the kernels run one by one."""
    return max(live_bytes(flow, order), default=0)


def live_bytes(flow: Flow, order: Sequence[int]) -> list[int]:
    """Bytes of temporaries that live while each kernel of ``order`` runs."""
    remaining: dict[int, int] = {}
    for reads in flow.reads:
        for v in reads:
            remaining[v] = remaining.get(v, 0) + 1
    live, found = 0, []
    for k in order:
        live += flow.allocates[k]
        found.append(live)
        live -= sum(flow.nbytes[v] for v in flow.writes[k] if v not in remaining)
        for v in flow.reads[k]:
            remaining[v] -= 1
            if remaining[v] == 0:
                live -= flow.nbytes[v]
    return found


def cut_into_stages(flow: Flow, order: Sequence[int]) -> list[list[int]]:
    """Neighbours in one stage where they are independent and small, and no stage needs more than the peak."""
    allowed = peak(flow, order)
    at = live_bytes(flow, order)
    stages: list[list[int]] = []
    members: set[int] = set()
    needed = 0
    for k, live in zip(order, at, strict=True):
        small = kernel_work(flow.kernels[k]) <= SMALL_WORK and flow.kernels[k].template != "control"
        allocated = flow.allocates[k]
        fits = small and bool(members) and len(members) < MAX_STAGE and needed + allocated <= allowed
        if fits and not flow.before[k] & members:
            stages[-1].append(k)
            members.add(k)
            needed += allocated
            continue
        stages.append([k])
        members = {k} if small else set()
        needed = live
    return stages
