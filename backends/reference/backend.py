"""The reference interpreter as a backend of ``compile``: no machine code, no schedule of its own; for debugging."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.interpreter import evaluate


@dataclass(frozen=True)
class InterpretedCode:
    """Nothing is compiled: the program is its graph."""

    source: str = "# the reference backend interprets the graph"

    def sections(self) -> dict[str, bytes]:
        return {}


def scratch(kernel: Any) -> int:
    return 0


def machine_key() -> str:
    return "reference"


def cached(graph: Any, options: Any) -> InterpretedCode:
    return InterpretedCode()


def keep(graph: Any, options: Any, code: InterpretedCode) -> None:
    """There is nothing to keep."""


def build(plan: Any, options: Any) -> InterpretedCode:
    return InterpretedCode()


def code_from_sections(parts: Mapping[str, Any], path: str = "") -> InterpretedCode:
    return InterpretedCode()


class Runner:
    """Interprets the traced graph; donated and owned arrays are written like the compiled program would."""

    def __init__(self, options: Any, program: Any) -> None:
        self.graph = program.graph
        self.owned = tuple(options.owned)
        self.donated = dict(options.donated)
        self.arrays: tuple[np.ndarray, ...] = ()

    def bind(self, arrays: Sequence[np.ndarray]) -> None:
        self.arrays = tuple(arrays)

    def call(self, leaves: Sequence[Any]) -> list[np.ndarray]:
        rest = iter(leaves)
        inputs, given = [], []
        for k, node in enumerate(self.graph.inputs):
            value = self.arrays[self.owned.index(k)] if k in self.owned else next(rest)
            given.append(value)
            inputs.append(as_input(value, node))
        outputs = evaluate(self.graph, inputs)
        kept = []
        donor = {j: i for i, j in self.donated.items()}
        for j, value in enumerate(outputs):
            i = donor.get(j)
            target = given[i] if i is not None else None
            if isinstance(target, np.ndarray) and target.flags.writeable:
                target[...] = value
                value = target
            if i not in self.owned or i is None:
                kept.append(value)
        return kept


def as_input(value: Any, node: Any) -> np.ndarray:
    array = np.asarray(value)
    want = node.type
    if array.shape != want.shape or (isinstance(value, np.ndarray) and array.dtype != want.dtype.numpy):
        raise TypeError(f"{node['name']} is {array.dtype}{list(array.shape)}, expected {want}")
    return array.astype(want.dtype.numpy)


def load(code: InterpretedCode, options: Any, program: Any) -> Runner:
    return Runner(options, program)


def assembly(code: InterpretedCode) -> str:
    return "; the reference backend has no machine code"


def profile(executable: Any, leaves: Sequence[Any], repeat: int) -> Any:
    raise NotImplementedError("the reference backend has no kernels to profile; use backend='cpu'")
