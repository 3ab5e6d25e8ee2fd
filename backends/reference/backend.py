"""The reference interpreter as a backend of ``compile``: the same plan, run with the NumPy meaning of each op.

Nothing is compiled, so nothing is kept: a saved executable holds the portable program, and loading it plans again.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.backends.reference.interpret import aligned_bytes, garbage, run_in
from graphc.interpreter import fresh
from graphc.passes.plan import Plan

if TYPE_CHECKING:
    from graphc.executable import Executable, Options
    from graphc.ir import Graph
    from graphc.passes.schedule import Kernel


@dataclass(frozen=True, eq=False)
class ReferenceCode:
    """What stands for machine code: the plan. ``owned`` are the inputs whose memory is bound once."""

    plan: Plan
    owned: tuple[int, ...]

    @property
    def source(self) -> str:
        """The schedule: that is what runs."""
        return str(self.plan.schedule)

    def sections(self) -> dict[str, bytes]:
        return {}


def scratch(kernel: Kernel) -> int:
    """An interpreted kernel needs no scratch."""
    return 0


def machine_key() -> str:
    return "reference"


def cached(graph: Graph, options: Options) -> None:
    """Nothing is kept between processes."""


def keep(graph: Graph, options: Options, code: ReferenceCode) -> None:
    """Nothing is kept between processes."""


def code_from_sections(parts: Mapping[str, Any], path: str = "<memory>") -> None:
    """There is no code in files of this backend: the program in the file is planned again."""


def build(plan: Plan, options: Options) -> ReferenceCode:
    return ReferenceCode(plan, options.owned)


def load(code: ReferenceCode, options: Options, program: Any) -> Runner:
    return Runner(code)


def profile(executable: Executable, leaves: Sequence[Any], repeat: int) -> Any:
    raise TypeError("the reference backend interprets: its times say nothing; compile for cpu to profile")


class Runner:
    """A plan that can be called: ``call(leaves) -> list of arrays``, donated and owned memory as in compiled programs."""

    def __init__(self, code: ReferenceCode) -> None:
        self.plan = code.plan
        self.owned = code.owned
        self.arrays: tuple[np.ndarray, ...] | None = None if code.owned else ()
        self.donor = {j: i for i, j in code.plan.donations}
        self.warned: set[int] = set()

    def bind(self, arrays: Sequence[np.ndarray]) -> None:
        """Give the program the memory that it owns."""
        self.arrays = tuple(arrays)

    def call(self, leaves: Sequence[Any]) -> list[np.ndarray]:
        """Run on the values of all inputs that are not owned. Raises TypeError for one of another type."""
        if self.arrays is None:
            raise RuntimeError("this program keeps arrays of its own; bind them first")
        plan, schedule = self.plan, self.plan.schedule
        owned, given = iter(self.arrays), iter(leaves)
        inputs = [next(owned) if k in self.owned else self.argument(k, next(given)) for k in range(len(schedule.inputs))]
        self.check_overlap([inputs[i] for i, _ in plan.donations])
        outputs = [
            inputs[self.donor[j]] if j in self.donor else garbage(schedule.values[v].type)
            for j, v in enumerate(schedule.outputs)
        ]
        run_in(plan, inputs, outputs, aligned_bytes(plan.arena_bytes))
        fresh_outputs = iter(fresh([o for j, o in enumerate(outputs) if j not in self.donor], []))
        return [
            outputs[j] if j in self.donor else next(fresh_outputs)
            for j in range(len(outputs))
            if self.donor.get(j) not in self.owned
        ]

    def argument(self, k: int, value: Any) -> np.ndarray:
        """The memory of input ``k``: a donated array itself where it can be written, with a warning where it cannot."""
        type, name = self.plan.schedule.graph.input_types[k], self.plan.schedule.graph.input_names[k]
        array = np.asarray(value, None if isinstance(value, np.ndarray) else type.dtype.numpy)
        if array.dtype != type.dtype.numpy or array.shape != type.shape:
            raise TypeError(f"argument {name} must be {type}, not {array.dtype}{list(array.shape)}")
        if k not in dict(self.plan.donations):
            return np.ascontiguousarray(array).reshape(type.shape)
        flags = array.flags
        if isinstance(value, np.ndarray) and flags.writeable and flags.c_contiguous and flags.aligned:
            return array
        if k not in self.warned:
            self.warned.add(k)
            warnings.warn(
                f"donated argument {name} is copied: it is no writable, aligned, C-contiguous array", stacklevel=2
            )
        return np.array(array, order="C")

    @staticmethod
    def check_overlap(arrays: Sequence[np.ndarray]) -> None:
        ranges = sorted((a.ctypes.data, a.ctypes.data + a.nbytes) for a in arrays if a.nbytes)
        for (_, end), (start, _) in zip(ranges, ranges[1:], strict=False):
            if start < end:
                raise ValueError("two donated arguments share memory")
