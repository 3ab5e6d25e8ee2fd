"""Concatenation without a copy: kernels write their results straight into their part of the joined buffer.

Where one loop or contraction kernel computes all operands, in one shape, and nothing else reads them, it writes them side by
side, whatever the axis: the concatenation becomes its output.

A ``concatenate`` along the leading axis (axes of length 1 before it do not count) puts each operand into one range of bytes.
Where a kernel writes an operand to memory anyway, the value becomes a part of the joined one: a view at an offset. Operands
that lie elsewhere (inputs, constants, other parts) are copied into their ranges, neighbours together. The copy kernel is
gone where nothing is left to copy, and so are the bytes of the operands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from graphc.ir import Graph, Node
from graphc.ops.movement import concatenate
from graphc.passes.schedule import Domain, Kernel, Schedule, Value, base_of, compact
from graphc.types import TensorType

#: Where parts begin, in bytes: what kernels may expect of the memory that they write.
ALIGNMENT = 64


def place_parts(schedule: Schedule) -> Schedule:
    """``schedule`` with operands of concatenations written in place, its control kernels' bodies included."""
    return _Parts(schedule).run()


@dataclass(frozen=True, slots=True)
class _Operand:
    """An operand of a concatenation: its node in the kernel's body, the argument that it is (if it is a whole one), and
    the byte at which it goes."""

    node: Node
    argument: int | None
    offset: int


class _Parts:
    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.values = list(schedule.values)
        self.kernels = list(schedule.kernels)
        self.written = {base_of(schedule, r) for kernel in self.kernels for r in kernel.results}
        self.maker = {base_of(schedule, r): kernel for kernel in self.kernels for r in kernel.results}
        self.readers: dict[int, list[Kernel]] = {}
        for kernel in self.kernels:
            for value in dict.fromkeys(base_of(schedule, a) for a in kernel.args):
                self.readers.setdefault(value, []).append(kernel)
        self.absorbed: dict[Kernel, Kernel] = {}  # kernels that write concatenations by now
        self.done: list[tuple[Kernel, ...]] = []
        self.views: dict[int, list[int]] = {}  # base -> the values that share its bytes
        for number, held in enumerate(self.values):
            if held.base is not None:
                self.views.setdefault(held.base, []).append(number)

    def run(self) -> Schedule:
        for stage in self.schedule.stages:
            found: list[Kernel] = []
            for kernel in stage:
                if kernel.bodies:
                    kernel = replace(kernel, bodies=tuple(map(place_parts, kernel.bodies)))
                if kernel.template == "copy" and kernel.body.outputs[0].op is concatenate:
                    found += [] if self.absorb(kernel) else self.place(kernel)
                else:
                    found.append(kernel)
            self.done += [(kernel,) for kernel in found] if len(found) > len(stage) else [tuple(found)]
        stages = tuple(tuple(self.absorbed.get(k, k) for k in stage) for stage in self.done if stage)
        return compact(replace(self.schedule, values=tuple(self.values), stages=stages))

    # -------------------------------------------------------------------------------------------- one kernel for all

    def absorb(self, kernel: Kernel) -> bool:
        """Whether the kernel that computes all operands now writes the concatenation itself."""
        body = kernel.body
        (joined,) = body.outputs
        if len(set(joined.inputs)) != len(joined.inputs) or set(joined.inputs) != set(body.inputs):
            return False
        argument = dict(zip(body.inputs, kernel.args, strict=True))
        roots = [self.root(argument[node]) for node in joined.inputs]
        maker = self.maker.get(roots[0])
        if maker is None or maker.template not in ("elementwise", "contraction") or not self.only_reader(roots, kernel):
            return False
        maker = self.absorbed.get(maker, maker)
        made = {self.root(r): node for r, node in zip(maker.results, maker.body.outputs, strict=True)}
        parts = [made.get(root) for root in roots]
        if any(part is None or part.type != node.type for part, node in zip(parts, joined.inputs, strict=True)):
            return False
        if len(set(parts)) != len(parts) or any(part.op is concatenate for part in parts if part is not None):
            return False
        output = Node(concatenate, tuple(part for part in parts if part is not None), joined.attrs, joined.type)
        kept = [(r, n) for r, n in zip(maker.results, maker.body.outputs, strict=True) if self.root(r) not in roots]
        outputs = (*(node for _, node in kept), output)
        lines = {**maker.body.lines, **({output: body.lines[joined]} if joined in body.lines else {})}
        graph = Graph(maker.body.name, maker.body.inputs, outputs, (*maker.body.nodes, output), lines)
        results = (*(r for r, _ in kept), kernel.results[0])
        nodes = tuple(dict.fromkeys((*maker.nodes, *kernel.nodes)))
        new = replace(maker, body=graph, results=results, nodes=nodes)
        first = self.maker[roots[0]]
        self.absorbed[first] = new
        self.maker[self.root(kernel.results[0])] = first
        return True

    def only_reader(self, roots: Sequence[int], kernel: Kernel) -> bool:
        """Whether nothing but ``kernel`` reads these temporaries, each of them once."""
        return len(set(roots)) == len(roots) and all(
            self.readers.get(root) == [kernel]
            and self.values[root].kind == "temporary"
            and self.values[root].base is None
            for root in roots
        )

    # -------------------------------------------------------------------------------------------- parts

    def place(self, kernel: Kernel) -> list[Kernel]:
        """The kernels that remain of a concatenation: copies of the operands that are not written in place."""
        operands = self.operands(kernel)
        target = kernel.results[0]
        base = self.values[target].base
        whole = target if base is None else base
        if operands is None or self.values[whole].kind != "temporary":
            return [kernel]
        taken: set[int] = set()
        placed: list[bool] = []
        for operand in operands:
            fits = operand.argument is not None and self.is_free(operand, whole, taken)
            if fits:
                assert operand.argument is not None
                taken.add(self.root(operand.argument))
            placed.append(fits)
        pieces = [list(same) for done, same in groupby(range(len(operands)), key=placed.__getitem__) if not done]
        if not any(placed) or len(pieces) > sum(placed):
            return [kernel]
        start = self.values[target].offset
        for operand, done in zip(operands, placed, strict=True):
            if done:
                assert operand.argument is not None
                self.move(self.root(operand.argument), whole, start + operand.offset)
        return [
            self.copy(kernel, [operands[k] for k in piece], whole, start, number) for number, piece in enumerate(pieces)
        ]

    def root(self, value: int) -> int:
        base = self.values[value].base
        return value if base is None else base

    def operands(self, kernel: Kernel) -> list[_Operand] | None:
        """The operands with their places; None where some would not be one aligned range of bytes."""
        body = kernel.body
        (joined,) = body.outputs
        axis, size = joined["axis"], joined.type.dtype.itemsize
        if math.prod(joined.type.shape[:axis]) != 1 or not joined.type.size:
            return None
        position = {node: k for k, node in enumerate(body.inputs)}
        found, offset = [], 0
        for node in joined.inputs:
            argument = kernel.args[position[node]] if node in position else None
            found.append(_Operand(node, argument, offset))
            offset += node.type.size * size
        return found if all(o.offset % ALIGNMENT == 0 for o in found) else None

    def is_free(self, operand: _Operand, whole: int, taken: set[int]) -> bool:
        """Whether the value that ``operand`` reads is written by a kernel and is no part, so that it may become one."""
        assert operand.argument is not None
        root = self.root(operand.argument)
        value = self.values[root]
        return (
            root in self.written
            and root not in taken
            and root != whole
            and value.kind == "temporary"
            and value.base is None
            and value.type.nbytes == operand.node.type.nbytes
        )

    def move(self, value: int, whole: int, offset: int) -> None:
        """Make ``value``, and all that shares its bytes, parts of ``whole``."""
        moved = [value, *self.views.pop(value, [])]
        for k in moved:
            old = self.values[k]
            self.values[k] = replace(old, base=whole, offset=old.offset + offset)
        self.views.setdefault(whole, []).extend(moved)

    def copy(self, kernel: Kernel, piece: Sequence[_Operand], whole: int, start: int, number: int) -> Kernel:
        """A kernel that copies neighbouring operands into their ranges."""
        body = kernel.body
        (joined,) = body.outputs
        axis = joined["axis"]
        shape = joined.type.shape
        length = sum(operand.node.type.shape[axis] for operand in piece)
        type = TensorType(joined.type.dtype, (*shape[:axis], length, *shape[axis + 1 :]))
        template = "copy" if len(piece) > 1 else "elementwise"
        output = piece[0].node
        if len(piece) > 1:
            output = Node(concatenate, tuple(o.node for o in piece), joined.attrs, type)
        part = len(self.values)
        self.values.append(
            Value(type, self.values[whole].kind, self.values[whole].node, whole, start + piece[0].offset)
        )
        self.views.setdefault(whole, []).append(part)
        needed: dict[Node, None] = {}
        pending = [output]
        while pending:
            node = pending.pop()
            if node not in needed:
                needed[node] = None
                pending += node.inputs
        inputs = tuple(node for node in body.inputs if node in needed)
        inner = tuple(node for node in body.nodes if node in needed and node not in inputs)
        extra = (output,) if len(piece) > 1 else ()
        name = kernel.name if number == 0 else f"{kernel.name}_{number}"
        lines = {node: body.lines[node] for node in needed if node in body.lines}
        graph = Graph(name, inputs, (output,), (*inputs, *inner, *extra), lines)
        args = tuple(a for a, node in zip(kernel.args, body.inputs, strict=True) if node in needed)
        return replace(
            kernel, name=name, template=template, domain=Domain(type.shape), body=graph, args=args, results=(part,)
        )
