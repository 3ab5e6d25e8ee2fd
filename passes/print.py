"""Text of a Schedule and of a Plan: one line per kernel with its body below, stages apart; values with their bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from graphc.passes.plan import Plan, uses_of
from graphc.passes.schedule import Domain, Kernel, Schedule
from graphc.text import identifier, text_lines


def schedule_text(schedule: Schedule, indent: str = "") -> str:
    """Inputs, constants and outputs with their values ``%k``; then the kernels, stage by stage.

    ``%7: f32[20] of %5`` is a view: the bytes of ``%5`` in another shape; ``of %5 + 64`` begins at its byte 64.
    """
    return "\n".join(indent + line for line in _schedule_lines(schedule))


def _schedule_lines(schedule: Schedule) -> Iterator[str]:
    kernels = list(schedule.kernels)
    yield f"schedule {identifier(schedule.name)}: {_count(len(kernels), 'kernel')} in {_count(len(schedule.stages), 'stage')}"
    for node, k in zip(schedule.graph.inputs, schedule.inputs, strict=True):
        yield f"  input {node['name']} = {value_text(schedule, k)}"
    for k, value in enumerate(schedule.values):
        if value.kind == "constant" and value.base is None:
            yield f"  constant {value_text(schedule, k)}"
    for number, stage in enumerate(schedule.stages):
        yield f"stage {number}"
        for kernel in stage:
            yield from _kernel_lines(schedule, kernel)
    yield "return " + ", ".join(f"%{v}" for v in schedule.outputs)
    for note in schedule.notes:
        yield f"# {note}"


def _kernel_lines(schedule: Schedule, kernel: Kernel) -> Iterator[str]:
    head = f"  {kernel.name} {kernel.template} {domain_text(kernel.domain)}"
    yield f"{head} ({_list(schedule, kernel.args)}) -> ({_list(schedule, kernel.results)})"
    for line in text_lines(kernel.body):
        yield f"    {line.text}"
    for body in kernel.bodies:
        for text in _schedule_lines(body):
            yield f"      {text}"


def domain_text(domain: Domain) -> str:
    """``[128, 10]``, reduced axes in braces: ``[128, {10}]``."""
    return "[" + ", ".join(f"{{{n}}}" if k in domain.reduced else str(n) for k, n in enumerate(domain.extents)) + "]"


def value_text(schedule: Schedule, number: int) -> str:
    value = schedule.values[number]
    of = "" if value.base is None else f" of %{value.base}" + (f" + {value.offset}" if value.offset else "")
    return f"%{number}: {value.type}{of}"


def _list(schedule: Schedule, numbers: Sequence[int]) -> str:
    return ", ".join(value_text(schedule, k) for k in numbers)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def table(rows: Iterable[Sequence[str]], right: Sequence[int]) -> Iterator[str]:
    """Columns aligned; those in ``right`` to the right."""
    rows = [list(row) for row in rows]
    if not rows:
        return
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(w) if k in right else cell.ljust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  " + "  ".join(cells).rstrip()


# ------------------------------------------------------------------------------------------------ plans


def plan_text(plan: Plan) -> str:
    """A summary, the places of all values with the stages in which they live, in-place pairs, and plans of bodies."""
    return "\n".join(_plan_lines(plan, ""))


def _plan_lines(plan: Plan, indent: str) -> Iterator[str]:
    schedule = plan.schedule
    yield (
        f"{indent}plan {identifier(schedule.name)}: arena {plan.arena_bytes} bytes (lower bound {plan.lower_bound_bytes}, "
        f"unplanned {plan.unplanned_bytes}), scratch {plan.scratch_bytes} per thread"
    )
    uses = uses_of(schedule)
    rows = []
    for k, value in enumerate(schedule.values):
        if value.base is None and value.kind == "temporary":
            place = plan.places[k]
            life = f"{uses.written[k]}..{uses.last(k)}"
            rows.append((f"{place.offset}", f"+{value.type.nbytes}", life, f"%{k}: {value.type}"))
    for kernel, block in plan.blocks.items():
        stage = next(n for n, kernels in enumerate(schedule.stages) if kernel in kernels)
        rows.append((f"{block.offset}", f"+{block.size}", f"{stage}..{stage}", f"block of {kernel.name}"))
    rows.sort(key=lambda row: (int(row[0]), int(row[2].split("..")[0])))
    yield from (indent + line for line in table(rows, right=(0, 1)))
    for i, j in plan.donations:
        yield f"{indent}  output {j} overwrites input {i} ({schedule.graph.inputs[i]['name']})"
    for kernel, pairs in plan.in_place.items():
        text = ", ".join(f"%{kernel.results[r]} over %{kernel.args[a]}" for r, a in pairs)
        yield f"{indent}  {kernel.name} in place: {text}"
    for kernel, inner in plan.inner.items():
        block = plan.blocks[kernel]
        carries = ", ".join("in place" if c is None else str(c) for c in block.carries)
        if block.carries:
            yield f"{indent}  {kernel.name} second buffers of carries: {carries}"
        for body in inner:
            yield from _plan_lines(body, indent + "    ")
