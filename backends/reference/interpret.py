"""Interpreters of a Graph, a Schedule and a Plan, by ``Op.eval`` alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.interpreter import contiguous, evaluate, fresh
from graphc.ir import Graph
from graphc.passes.schedule import Schedule, Value


class ReferenceError(RuntimeError):
    """A schedule or plan that cannot be run as it stands: something is read before it is written."""


def run_graph(graph: Graph, inputs: Sequence[Any]) -> tuple[np.ndarray, ...]:
    """The outputs of ``graph``, every value checked against its node's type. Raises GraphError."""
    return tuple(evaluate(graph, inputs, check=True))


def run_schedule(schedule: Schedule, inputs: Sequence[Any]) -> tuple[np.ndarray, ...]:
    """The outputs of ``schedule``, kernel by kernel."""
    store: list[np.ndarray | None] = [None] * len(schedule.values)
    for number, value in zip(schedule.inputs, inputs, strict=True):
        store[number] = contiguous(value)
    load_constants(schedule, store)
    for kernel in schedule.kernels:
        results = evaluate(kernel.body, [value_of(schedule, store, a) for a in kernel.args], check=True)
        for number, result in zip(kernel.results, results, strict=True):
            base = schedule.values[number].base
            if base is not None:
                number, result = base, result.reshape(schedule.values[base].type.shape)
            store[number] = result
    outputs = [value_of(schedule, store, v) for v in schedule.outputs]
    return tuple(fresh(outputs, [store[v] for v in schedule.inputs]))  # type: ignore[misc]


def load_constants(schedule: Schedule, store: list[np.ndarray | None]) -> None:
    for number, value in enumerate(schedule.values):
        if value.kind == "constant" and value.base is None:
            store[number] = schedule.graph.nodes[value.node]["value"].value


def value_of(schedule: Schedule, store: Sequence[np.ndarray | None], number: int) -> np.ndarray:
    """The array of a value: a view reshapes its base."""
    value: Value = schedule.values[number]
    array = store[number if value.base is None else value.base]
    if array is None:
        raise ReferenceError(f"%{number}: {value.type} is read before it is written")
    return array if array.shape == value.type.shape else array.reshape(value.type.shape)
