"""The partial results of reductions while a kernel runs over the reduced axes."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backends.cpu.codegen import Emission, compute_dtype, dtype_name
from graphc.ir import Node
from graphc.ops.reduction import highest, lowest
from graphc.types import DType, i32, i64, u8

HORIZONTAL = {
    "reduce_sum": "reduce_add", "reduce_prod": "reduce_mul", "reduce_max": "reduce_max", "reduce_min": "reduce_min",
    "reduce_and": "reduce_and", "reduce_or": "reduce_or",
}  # fmt: skip


class Accumulator:
    """The partial result of one reduction, in one variable (argmax and argmin: two) per vector that is worked on at
    once.

    ``prefix`` tells the sum of a block (``b``) from the whole (``a``).
    """

    def __init__(self, e: Emission, node: Node, prefix: str = "a") -> None:
        self.e, self.node = e, node
        self.number = e.numbers[node]
        self.prefix = prefix
        self.dtype = compute_dtype(node.inputs[0].type.dtype)
        self.is_arg = node.op.combine in (">", "<")
        if self.is_arg and self.dtype.kind == "b":
            self.dtype = u8
        axis_extent = node.inputs[0].type.shape[node["axis"]] if self.is_arg else 0
        self.index_dtype = i32 if axis_extent < 2**31 else i64

    @property
    def is_float_sum(self) -> bool:
        return self.node.op.name == "reduce_sum" and self.dtype.is_float

    def of_blocks(self) -> Accumulator:
        """The accumulator of one block of a float sum; for other reductions this one."""
        return Accumulator(self.e, self.node, "b") if self.is_float_sum else self

    def name(self, suffix: str) -> str:
        return f"{self.prefix}{self.number}{suffix}"

    def place(self, suffix: str) -> str:
        """The variable with the place of the extreme value."""
        return f"place{self.number}{suffix}"

    @property
    def identity(self) -> str:
        """The number that changes nothing, as a literal."""
        if self.is_arg:
            return literal(self.dtype, (lowest if self.node.op.combine == ">" else highest)(self.dtype))
        assert self.node.op.identity is not None
        return literal(self.dtype, self.node.op.identity(self.dtype))

    @property
    def variables(self) -> list[tuple[str, DType]]:
        """Its variables, without suffix, and their element types."""
        found = [(self.name(""), self.dtype)]
        return [*found, (self.place(""), self.index_dtype)] if self.is_arg else found

    def start(self, suffix: str, along_lanes: bool = False) -> None:
        """Before the first vector. ``along_lanes``: lanes run along the reduced axis, so that their first places
        differ."""
        self.e.line(f"{self.name(suffix)} = splat({self.identity}, {dtype_name(self.dtype)})")
        if self.is_arg:
            first = "lanes_of" if along_lanes else "splat"
            self.e.line(f"{self.place(suffix)} = {first}(0, {dtype_name(self.index_dtype)})")

    def update(self, suffix: str, value: str, place: str = "") -> None:
        """Combine with another vector, whose elements have the places ``place`` (an expression)."""
        name = self.name(suffix)
        if not self.is_arg:
            assert self.node.op.combine is not None
            self.e.line(f"{name} = {self.node.op.combine.format(name, value)}", f"v{self.number}: {self.node.op.name}")
            return
        wins = f"{value} {self.node.op.combine} {name}"
        if self.dtype.is_float:
            wins = f"({wins}) | ({value} != {value}) & ({name} == {name})"
        self.e.line(f"wins = {wins}", f"v{self.number}: {self.node.op.name}")
        self.e.line(f"{name} = select(wins, {value}, {name})")
        self.e.line(f"{self.place(suffix)} = select(wins, {place}, {self.place(suffix)})")

    def merge(self, suffixes: Sequence[str]) -> None:
        """Combine the vectors that were worked on at once into the first of them."""
        names = [self.name(suffix) for suffix in suffixes]
        while len(names) > 1:
            half = len(names) // 2
            assert self.node.op.combine is not None
            for k in range(half):
                self.e.line(f"{names[k]} = {self.node.op.combine.format(names[k], names[k + half])}")
            names = names[:half]

    def finish(self, suffix: str, across_lanes: bool) -> str:
        """The variable with the result, in all lanes where it was combined ``across_lanes``."""
        result, name, place = f"v{self.number}{suffix}", self.name(suffix), self.place(suffix)
        if not across_lanes:
            self.e.line(f"{result} = " + (f"cast({place}, i64)" if self.is_arg else name))
        elif not self.is_arg:
            self.e.line(f"{result} = {HORIZONTAL[self.node.op.name]}({name})")
        else:
            best = HORIZONTAL["reduce_max" if self.node.op.combine == ">" else "reduce_min"]
            ties = f"{name} == {best}({name})"
            if self.dtype.is_float:
                ties = f"({ties}) | ({name} != {name})"
            beyond = f"splat({literal(self.index_dtype, highest(self.index_dtype))}, {dtype_name(self.index_dtype)})"
            self.e.line(f"{result} = cast(reduce_min(select({ties}, {place}, {beyond})), i64)")
        return result


def literal(dtype: DType, value: float | bool) -> str:
    """A number as kernel source writes it; integers above int64 wrap."""
    if dtype.is_float:
        return repr(float(value))
    number = int(value)
    return str(number - 2**64 if number >= 2**63 else number)
