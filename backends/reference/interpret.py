"""Interpreters of a Graph, a Schedule and a Plan, by ``Op.eval`` alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.interpreter import contiguous, evaluate, fresh
from graphc.ir import Graph
from graphc.passes.packing import ALIGNMENT
from graphc.passes.plan import Block, Plan
from graphc.passes.schedule import Kernel, Schedule, Value, base_of, is_part
from graphc.types import TensorType

Arrays = Sequence[np.ndarray]


class UnwrittenError(RuntimeError):
    """A schedule that reads a value before it is written."""


def run_graph(graph: Graph, inputs: Sequence[Any]) -> tuple[np.ndarray, ...]:
    """The outputs of ``graph``, every value checked against its node's type. Raises GraphError."""
    return tuple(evaluate(graph, inputs, check=True))


# ------------------------------------------------------------------------------------------------ schedules


def run_schedule(schedule: Schedule, inputs: Sequence[Any]) -> tuple[np.ndarray, ...]:
    """The outputs of ``schedule``, kernel by kernel, every value in memory of its own."""
    store: list[np.ndarray | None] = [None] * len(schedule.values)
    for number, value in zip(schedule.inputs, inputs, strict=True):
        store[number] = contiguous(value)
    for number, value in enumerate(schedule.values):
        if value.kind == "constant" and value.base is None:
            store[number] = schedule.graph.nodes[value.node]["value"].value
    for kernel in schedule.kernels:
        arguments = [stored(schedule, store, a) for a in kernel.args]
        for number, result in zip(kernel.results, compute(kernel, arguments), strict=True):
            target = base_of(schedule, number)
            if is_part(schedule, number):
                whole = store[target]
                if whole is None:
                    whole = store[target] = garbage(schedule.values[target].type)
                part_of(whole, schedule.values[number])[...] = result
            else:
                store[target] = seen_as(result, schedule.values[target].type)
    outputs = [stored(schedule, store, v) for v in schedule.outputs]
    return tuple(fresh(outputs, [stored(schedule, store, v) for v in schedule.inputs]))


def stored(schedule: Schedule, store: Sequence[np.ndarray | None], number: int) -> np.ndarray:
    """The array of a value: a view is its base, or a part of it, in another shape."""
    value = schedule.values[number]
    array = store[number if value.base is None else value.base]
    if array is None:
        raise UnwrittenError(f"%{number}: {value.type} is read before it is written")
    return part_of(array, value)


def part_of(array: np.ndarray, value: Value) -> np.ndarray:
    """The bytes of a contiguous array that ``value``, a view of it, has, in its shape."""
    flat = array.reshape(-1).view(np.uint8)
    return flat[value.offset : value.offset + value.type.nbytes].view(value.type.dtype.numpy).reshape(value.type.shape)


def seen_as(array: np.ndarray, type: TensorType) -> np.ndarray:
    """The memory of a contiguous array as a tensor of ``type``: another shape, complex numbers as pairs of real ones."""
    return array.reshape(-1).view(type.dtype.numpy).reshape(type.shape)


def compute(kernel: Kernel, arguments: Arrays) -> list[np.ndarray]:
    """The results of a kernel; a control kernel runs the schedules of its bodies."""
    if not kernel.bodies:
        return evaluate(kernel.body, arguments, check=True)
    node = control_node(kernel)
    match node.op.name:
        case "cond":
            index = min(max(int(arguments[0]), 0), len(kernel.bodies) - 1)
            return list(run_schedule(kernel.bodies[index], arguments[1:]))
        case "scan":
            return scan_schedule(kernel, arguments)
        case "while_loop":
            n_carry, body = node["n_carry"], kernel.bodies[node.bodies.index(node["body"])]
            condition = kernel.bodies[node.bodies.index(node["cond"])]
            carry, constants = [np.array(a) for a in arguments[:n_carry]], arguments[n_carry:]
            while bool(run_schedule(condition, [*carry, *constants])[0]):
                carry = list(run_schedule(body, [*carry, *constants]))
            return carry
    raise NotImplementedError(f"the reference backend does not run {node.op.name}")


def scan_schedule(kernel: Kernel, arguments: Arrays) -> list[np.ndarray]:
    node, (body,) = control_node(kernel), kernel.bodies
    n_carry, n_xs = node["n_carry"], node["n_xs"]
    carry, xs, constants = split(arguments, n_carry, n_xs)
    types = [body.values[v].type for v in body.outputs[n_carry:]]
    ys = [np.empty((node["length"], *t.shape), t.dtype.numpy) for t in types]
    carry = [np.array(c) for c in carry]
    for k in steps(node):
        results = run_schedule(body, [*carry, *[x[k, ...] for x in xs], *constants])
        carry = list(results[:n_carry])
        for y, value in zip(ys, results[n_carry:], strict=True):
            y[k] = value
    return [*carry, *ys]


def control_node(kernel: Kernel) -> Any:
    (node,) = (n for n in kernel.body.nodes if n.op.kind == "control")
    return node


def split(values: Arrays, n_carry: int, n_xs: int) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    return list(values[:n_carry]), list(values[n_carry : n_carry + n_xs]), list(values[n_carry + n_xs :])


def steps(node: Any) -> range:
    length = node["length"]
    return range(length - 1, -1, -1) if node["reverse"] else range(length)


# ------------------------------------------------------------------------------------------------ plans


def run_plan(plan: Plan, inputs: Sequence[Any]) -> tuple[np.ndarray, ...]:
    """The outputs of ``plan`` run in one arena of bytes, full of garbage at the start, every value at its planned place.

    Donated outputs share the memory of (a copy of) their input, so a mistake of the planner is a wrong number.
    """
    given = [np.array(contiguous(x)) for x in inputs]
    schedule = plan.schedule
    donor = {j: i for i, j in plan.donations}
    outputs = [
        given[donor[j]] if j in donor else garbage(schedule.values[v].type) for j, v in enumerate(schedule.outputs)
    ]
    run_in(plan, given, outputs, aligned_bytes(plan.arena_bytes))
    return tuple(fresh(outputs, []))


def garbage(type: TensorType) -> np.ndarray:
    """Memory of ``type`` that holds nothing one could take for a result."""
    return np.frombuffer(bytearray(b"\xa5" * type.nbytes), np.uint8).view(type.dtype.numpy).reshape(type.shape)


def aligned_bytes(size: int) -> np.ndarray:
    memory = np.frombuffer(bytearray(b"\xa5" * (size + ALIGNMENT)), np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


def run_in(plan: Plan, inputs: Arrays, outputs: Arrays, arena: np.ndarray) -> None:
    """Run ``plan`` on given memory: the results are in ``outputs`` afterwards."""
    schedule = plan.schedule
    constants = [schedule.graph.nodes[schedule.values[v].node]["value"].value for v in plan.constants]

    def at(number: int) -> np.ndarray:
        place, type = plan.places[number], schedule.values[number].type
        match place.region:
            case "input":
                return seen_as(inputs[place.index], type)
            case "output":
                return seen_as(outputs[place.index], type)
            case "constant":
                return constants[place.index].reshape(type.shape)
        return typed(arena, place.offset, type)

    for kernel in schedule.kernels:
        arguments, results = [at(a) for a in kernel.args], [at(r) for r in kernel.results]
        if kernel.template == "control":
            run_control(kernel, plan.inner[kernel], plan.blocks[kernel], arguments, results, arena)
            continue
        try:
            computed = evaluate(kernel.body, arguments, check=True)
        except Exception as error:
            lines = ", ".join(map(str, schedule.lines(kernel)))
            error.add_note(f"in {kernel.name} {kernel.template}" + (f", from {lines}" if lines else ""))
            raise
        for target, value in zip(results, computed, strict=True):
            target[...] = value


def typed(arena: np.ndarray, offset: int, type: TensorType) -> np.ndarray:
    """The bytes of ``arena`` from ``offset`` on as a tensor."""
    return arena[offset : offset + type.nbytes].view(type.dtype.numpy).reshape(type.shape)


def run_control(
    kernel: Kernel, inner: Sequence[Plan], block: Block, arguments: Arrays, results: Arrays, arena: np.ndarray
) -> None:
    """A control kernel as the compiled tape runs it: bodies in their sub-arenas, carries between two buffers."""
    node = control_node(kernel)
    arenas = [arena[a : a + p.arena_bytes] for a, p in zip(block.arenas, inner, strict=True)]
    match node.op.name:
        case "cond":
            index = min(max(int(arguments[0]), 0), len(inner) - 1)
            run_in(inner[index], arguments[1:], results, arenas[index])
        case "scan":
            run_scan(node, inner[0], block, arguments, results, arena, arenas[0])
        case "while_loop":
            run_while(node, inner, block, arguments, results, arena, arenas)
        case name:
            raise NotImplementedError(f"the reference backend does not run {name}")


def run_scan(
    node: Any, body: Plan, block: Block, arguments: Arrays, results: Arrays, arena: np.ndarray, own: np.ndarray
) -> None:
    """Carry c alternates between result c and its second buffer, so that the last step writes the result."""
    n_carry = node["n_carry"]
    start, xs, constants = split(arguments, n_carry, node["n_xs"])
    first, second = list(results[:n_carry]), second_buffers(block, results, arena)
    written = second if node["length"] % 2 == 0 else first
    read = first if node["length"] % 2 == 0 else second
    for target, value in zip(read, start, strict=True):
        target[...] = value
    for k in steps(node):
        run_in(
            body,
            [*read, *[x[k, ...] for x in xs], *constants],
            [*written, *[y[k, ...] for y in results[n_carry:]]],
            own,
        )
        read, written = written, read


def run_while(
    node: Any, inner: Sequence[Plan], block: Block, arguments: Arrays, results: Arrays, arena: np.ndarray,
    arenas: Arrays,
) -> None:  # fmt: skip
    """The carry lies in the results; what the body cannot update in place it writes beside, and that is copied."""
    n_carry = node["n_carry"]
    constants = arguments[n_carry:]
    test, body = node.bodies.index(node["cond"]), node.bodies.index(node["body"])
    second = second_buffers(block, results, arena)
    for target, value in zip(results, arguments[:n_carry], strict=True):
        target[...] = value
    predicate = arena[block.predicate : block.predicate + 1].view(np.bool_).reshape(())
    while True:
        run_in(inner[test], [*results, *constants], [predicate], arenas[test])
        if not predicate:
            return
        run_in(inner[body], [*results, *constants], second, arenas[body])
        for target, value in zip(results, second, strict=True):
            if target is not value:
                target[...] = value


def second_buffers(block: Block, results: Arrays, arena: np.ndarray) -> list[np.ndarray]:
    """The other buffer of each carry: the result itself where the body updates the carry in place."""
    found = []
    for result, offset in zip(results, block.carries, strict=False):
        if offset is None:
            found.append(result)
        else:
            found.append(arena[offset : offset + result.nbytes].view(result.dtype).reshape(result.shape))
    return found
