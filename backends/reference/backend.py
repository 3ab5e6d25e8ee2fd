"""The reference interpreter as a backend of ``compile``: no machine code, no schedule of its own; for debugging."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.interpreter import evaluate, program_of
from graphc.ir import Graph, Node
from graphc.remarks import remark
from graphc.types import TensorType

if TYPE_CHECKING:
    from graphc.executable import Executable, Memory, Options
    from graphc.passes.plan import Plan
    from graphc.passes.schedule import Kernel
    from graphc.tracing import Program


@dataclass(frozen=True)
class InterpretedCode:
    """Nothing is compiled: the program is its graph."""

    source: str = "# the reference backend interprets the graph"
    memory: Memory | None = None

    def sections(self) -> dict[str, bytes]:
        return {}


def scratch(kernel: Kernel) -> int:
    return 0


def machine_key() -> str:
    return "reference"


def key(graph: Graph, options: Options) -> None:
    """There is no cache: nothing takes time."""


def cached(key: None) -> InterpretedCode:
    return InterpretedCode()


def explain(key: None) -> str:
    return "the reference backend compiles nothing"


def keep(key: None, code: InterpretedCode) -> None:
    """There is nothing to keep."""


def build(plan: Plan, options: Options, seconds: dict[str, float] | None = None) -> InterpretedCode:
    return InterpretedCode()


def code_from_sections(parts: Mapping[str, Any], path: str = "") -> InterpretedCode:
    return InterpretedCode()


def check_code(code: InterpretedCode, graph: Graph, options: Options, path: str) -> None:
    """There is nothing to check."""


class Runner:
    """Interprets the traced graph. Donated and owned arrays are written as by the compiled program, when all is computed."""

    def __init__(self, options: Options, program: Program) -> None:
        self.graph = program.graph
        self.owned: tuple[np.ndarray, ...] = ()
        self._where = {k: place for place, k in enumerate(options.owned)}
        self._donor = {output: i for i, output in options.donated}
        self._donated = [i for i, _ in options.donated if i not in self._where]
        self._warned = False
        self._lock = threading.RLock()

    def bind(self, arrays: Sequence[np.ndarray]) -> None:
        self.owned = tuple(arrays)

    def call(self, leaves: Sequence[Any]) -> list[np.ndarray]:
        rest = iter(leaves)
        given = [self.owned[self._where[k]] if k in self._where else next(rest) for k in range(len(self.graph.inputs))]
        inputs = [as_input(value, node) for value, node in zip(given, self.graph.inputs, strict=True)]
        reused = {i for i in self._donated if not self._why_not(i, given)}
        with self._lock:
            return self._write(given, reused, run(self.graph, inputs))

    def _write(self, given: Sequence[Any], reused: set[int], outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        results = []
        for j, value in enumerate(outputs):
            i = self._donor.get(j)
            if i is not None and (i in self._where or i in reused):
                given[i][...] = value
                value = given[i]
            if i not in self._where:
                results.append(value)
        return results

    def _why_not(self, i: int, given: Sequence[Any]) -> str:
        """Why argument ``i`` cannot be reused, which is warned of once. Raises ValueError where two donated ones overlap."""
        value, why = given[i], ""
        if type(value) is not np.ndarray or not (value.flags.carray and value.dtype.isnative):
            why = "it is not a writable, aligned, C-contiguous array"
        for k, other in enumerate(given):
            if k != i and not why and isinstance(other, np.ndarray) and np.may_share_memory(value, other):
                names = self.graph.input_names
                if k in self._donated:
                    raise ValueError(f"the donated arguments {names[i]!r} and {names[k]!r} share memory")
                why = f"it shares memory with {names[k]!r}"
        if why and not self._warned:
            self._warned = True
            name = self.graph.input_names[i]
            remark(f"donated arguments that are copied instead of reused: {name!r}: {why}")
        return why


def run(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of ``graph``; NumPy's errors get the user's line."""
    try:
        return evaluate(graph, inputs)
    except (IndexError, ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        node = failing(graph, inputs)
        lines = graph.lines.get(node, ()) if node is not None else ()
        error.add_note("".join([node.op.name if node is not None else graph.name, *(f" at {line}" for line in lines[:1])]))
        raise


def failing(graph: Graph, inputs: Sequence[np.ndarray]) -> Node | None:
    """The first node that cannot be computed."""
    program = program_of(graph)
    slots: list[Any] = [*inputs, *itertools.repeat(None, program.size - len(inputs))]
    for node, function, operands, attrs, place, _, _ in program.steps:
        try:
            slots[place] = function(*[slots[k] for k in operands], **attrs)
        except Exception:
            return node
    return None


def as_input(value: Any, node: Node) -> np.ndarray:
    """``value`` as an array of the type of an input. Raises TypeError where it has another one."""
    array, want = np.asarray(value), node.type
    assert isinstance(want, TensorType)
    number = isinstance(value, (bool, int, float, complex)) and not isinstance(value, np.generic)
    if array.shape != want.shape or not (number or array.dtype == want.dtype.numpy):
        raise TypeError(f"{node['name']!r} is {array.dtype}{list(array.shape)}, expected {want}")
    return array.astype(want.dtype.numpy)


def load(code: InterpretedCode, options: Options, program: Program) -> Runner:
    return Runner(options, program)


def assembly(code: InterpretedCode) -> str:
    return "; the reference backend has no machine code"


def measure(executable: Executable, leaves: Sequence[Any], repeat: int) -> Any:
    raise NotImplementedError("the reference backend has no kernels to profile; use backend='cpu'")
