"""From a memory plan to a program for the runtime: the source of its kernels, their tables, and the tape.

Every kernel becomes code (:mod:`graphc.backends.cpu.codegen`) and a table of frame words; kernels of equal text share
the code. Stages become stages of the tape, control kernels its loops and branches, around the stages of their bodies.

A body's kernels are laid out before its loop is, since a loop has to know which words it moves: a pointer into a
slice of an operand moves by a slice after each step. Carries alternate between two buffers; the loop then does two
steps at a time, one in each direction.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from graphc.backends.cpu import codegen
from graphc.backends.cpu.codegen import Code, ErrorBase, NoEmitter, Pointer, Scratch, ScratchStride
from graphc.backends.cpu.runtime import Advance, Call, Output, Program, Spec, TapeBuilder, Word
from graphc.backends.cpu.runtime.builder import Scalar
from graphc.ir import INPUT, Graph, Node
from graphc.passes.plan import Block, Plan
from graphc.passes.schedule import Domain, Kernel
from graphc.text import node_names
from graphc.types import TensorType

#: Nanoseconds of work that are worth another thread. In a short program its threads sleep when a call comes, and to wake
#: one takes longer than small kernels; in a long one they are awake, and a barrier takes 0.2 µs.
WORTH_A_THREAD, WORTH_IF_AWAKE = 10_000, 4_000
LONG = 100_000  # nanoseconds of a program's work on one thread
MOST_THREADS = 256

#: what went wrong in a kernel that returned an error word, by op
ERRORS = {
    "gather": "an index is out of bounds",
    "scatter": "an index is out of bounds",
    "segments": "an index is out of bounds",
    "cholesky": "the matrix is not positive definite",
    "nonsingular": "the matrix is singular",
    "eigh": "the eigenvalues did not converge",
    "eigvalsh": "the eigenvalues did not converge",
    "svd": "the singular values did not converge",
    "svdvals": "the singular values did not converge",
}


@dataclass(frozen=True)
class Assembled:
    """A program without machine code.

    sources       symbol → source of every kernel and of the routines that kernels call, each once.
    users         symbol → the names of the schedule's kernels that it is the code of.
    late_errors   numbers of errors that are raised after the first write to memory of a caller's.
    """

    program: Program
    sources: Mapping[str, str]
    users: Mapping[str, tuple[str, ...]]
    late_errors: frozenset[int]


def assemble(plan: Plan, owned: Sequence[int] = ()) -> Assembled:
    """The program of ``plan``.

    ``owned`` are inputs whose memory is bound once rather than passed; outputs that they are donated to are not
    returned. Raises NotImplementedError for an op that the backend cannot do, naming it and the user's line.
    """
    return _Assembler(plan, tuple(owned)).assemble()


# ------------------------------------------------------------------------------------------------ addresses


@dataclass(frozen=True, slots=True)
class Address:
    """Byte ``offset`` of a region of the frame. ``moves``: loops that the address is inside of, and the bytes by
    which each moves it after every iteration."""

    region: str
    index: int = 0
    offset: int = 0
    moves: tuple[tuple[_Loop, int], ...] = ()

    def shifted(self, nbytes: int) -> Address:
        return replace(self, offset=self.offset + nbytes)

    def moved(self, loop: _Loop | None, step: int) -> Address:
        return self if loop is None or step == 0 else replace(self, moves=(*self.moves, (loop, step)))

    @property
    def word(self) -> Word:
        return Word(self.region, self.index, self.offset)


@dataclass(frozen=True, slots=True)
class _Binding:
    """Where the memory of a plan is: its inputs, outputs and constants, and where its arena and scratch begin."""

    inputs: Sequence[Address]
    outputs: Sequence[Address]
    constants: Sequence[Address]
    arena: int = 0
    scratch: int = 0


# What the tape will be made of. Words are laid out when these are made.


@dataclass(frozen=True)
class _Stage:
    calls: tuple[Call, ...]
    serial: bool


@dataclass(eq=False)
class _Loop:
    count: int
    advances: list[Advance] = field(default_factory=list)
    body: list[_Item] = field(default_factory=list)


@dataclass(frozen=True)
class _Switch:
    scalar: Scalar
    cases: list[list[_Item]]


@dataclass(frozen=True)
class _While:
    test: list[_Item]
    scalar: Scalar
    body: list[_Item]


_Item = _Stage | _Loop | _Switch | _While


# ------------------------------------------------------------------------------------------------ assembling


class _Assembler:
    def __init__(self, plan: Plan, owned: tuple[int, ...]) -> None:
        self.plan = plan
        self.tape = TapeBuilder()
        self.worth = WORTH_A_THREAD
        self.sources: dict[str, str] = {}
        self.users: dict[str, dict[str, None]] = {}
        self.constants: dict[tuple[str, bytes], int] = {}
        self.errors: dict[int, str] = {}
        self.late: set[int] = set()
        self.written = False  # whether memory of a caller's has been written by now
        self.donor = {j: i for i, j in plan.donations}
        graph = plan.schedule.graph
        self.owned = owned
        self.passed = [k for k in range(len(graph.inputs)) if k not in owned]
        self.returned = [j for j in range(len(graph.outputs)) if self.donor.get(j) not in owned]

    def assemble(self) -> Assembled:
        if total_work(self.plan) >= LONG:
            self.worth = min(self.worth, WORTH_IF_AWAKE)
        schedule, graph = self.plan.schedule, self.plan.schedule.graph
        binding = _Binding(
            [self._input(k) for k in range(len(graph.inputs))],
            [self._output(j) for j in range(len(graph.outputs))],
            self._constants(self.plan),
        )
        self._play(self._items(self.plan, binding))
        names = graph.input_names
        outputs = []
        for j in self.returned:
            donated = self.passed.index(self.donor[j]) if j in self.donor else None
            spec = _spec(schedule.values[schedule.outputs[j]].type, f"result {j}")
            outputs.append(Output(spec.dtype, spec.shape, spec.name, donated))
        program = self.tape.program(
            arena_bytes=self.plan.arena_bytes,
            scratch_bytes=self.plan.scratch_bytes,
            constants=[block for _, block in self.constants],
            inputs=[_spec(graph.inputs[k].type, names[k]) for k in self.passed],
            outputs=outputs,
            owned=[_spec(graph.inputs[k].type, names[k]) for k in self.owned],
            threads=MOST_THREADS,
            errors=self.errors,
        )
        users = {symbol: tuple(kernels) for symbol, kernels in self.users.items()}
        return Assembled(program, self.sources, users, frozenset(self.late))

    # -------------------------------------------------------------------------------------------- memory

    def _input(self, k: int) -> Address:
        return Address("owned", self.owned.index(k)) if k in self.owned else Address("input", self.passed.index(k))

    def _output(self, j: int) -> Address:
        donor = self.donor.get(j)
        return (
            Address("owned", self.owned.index(donor))
            if donor in self.owned
            else Address("output", self.returned.index(j))
        )

    def _constants(self, plan: Plan) -> list[Address]:
        """Constant blocks, equal ones once in the whole program."""
        found = []
        for number in plan.constants:
            value = plan.schedule.graph.nodes[plan.schedule.values[number].node]["value"].value
            key = (str(value.dtype), value.tobytes())
            found.append(Address("constant", self.constants.setdefault(key, len(self.constants))))
        return found

    def _address(self, plan: Plan, binding: _Binding, value: int) -> Address:
        place = plan.places[value]
        match place.region:
            case "input":
                return binding.inputs[place.index]
            case "output":
                return binding.outputs[place.index]
            case "constant":
                return binding.constants[place.index]
        return Address("arena", 0, binding.arena + place.offset)

    def _table(self, words: Iterable[Address | Word]) -> int:
        """Lay out frame words, and tell the loops which of them they move."""
        words = list(words)
        first = self.tape.table([w.word if isinstance(w, Address) else w for w in words])
        for k, word in enumerate(words):
            if isinstance(word, Address):
                for loop, step in word.moves:
                    loop.advances.append(Advance(first + k, step))
        return first

    def _scalar(self, address: Address, kind: str) -> Scalar:
        return Scalar(self._table([address]), kind)

    # -------------------------------------------------------------------------------------------- stages

    def _items(self, plan: Plan, binding: _Binding) -> list[_Item]:
        items: list[_Item] = []
        for stage in plan.schedule.stages:
            plain = [k for k in stage if k.template != "control" and not _is_empty(k)]
            writes = self._writes_callers_memory(plan, binding, stage)
            self.written = self.written or writes
            codes = [(kernel, _lowered(kernel, plan)) for kernel in plain]
            items += self._stages([self._calls(plan, binding, kernel, code) for kernel, code in codes])
            for kernel in stage:
                if kernel.template == "control":
                    items += self._control(plan, binding, kernel)
        return items

    def _writes_callers_memory(self, plan: Plan, binding: _Binding, stage: Iterable[Kernel]) -> bool:
        """Whether a stage writes owned or donated memory, which is lost when the call fails later."""
        donated = {Address("output", self.returned.index(j)) for j in self.donor if j in self.returned}
        for kernel in stage:
            for value in kernel.results:
                address = replace(self._address(plan, binding, value), offset=0, moves=())
                if address.region == "owned" or address in donated:
                    return True
        return False

    def _calls(self, plan: Plan, binding: _Binding, kernel: Kernel, code: Code) -> list[tuple[Call, float]]:
        """The calls of a kernel's steps, each with its work."""
        memory = [self._address(plan, binding, v) for v in (*kernel.args, *kernel.results)]
        scratch = binding.scratch + plan.scratch.get(kernel, 0)
        errors = self._error_base(plan, kernel) if any(ErrorBase() in step.table for step in code.steps) else 0
        return [self._call(step, kernel.name, memory, scratch, errors) for step in code.steps]

    def _call(self, step: Code, user: str, memory: Sequence[Address], scratch: int, errors: int) -> tuple[Call, float]:
        for symbol, source in step.requires:
            self.sources.setdefault(symbol, source)
        self.sources.setdefault(step.symbol, step.source)
        self.users.setdefault(step.symbol, {})[user] = None
        words: list[Address | Word] = []
        for entry in step.table:
            match entry:
                case Pointer(position, offset):
                    words.append(memory[position].shifted(offset))
                case codegen.Word(value):
                    words.append(Word.value(value))
                case Scratch(offset):
                    words.append(Address("scratch", 0, scratch + offset))
                case ScratchStride():
                    words.append(Word.value(self.plan.scratch_bytes))
                case ErrorBase():
                    words.append(Word.value(errors))
        return Call(step.symbol, self._table(words), threads_for(step, self.worth)), step.work

    def _error_base(self, plan: Plan, kernel: Kernel) -> int:
        """Enter the errors of a kernel into the table; the number of its body's first node there."""
        base = len(self.errors) + 1
        for k, node in enumerate(kernel.body.nodes):
            self.errors[base + k] = f"{node.op.name}: {what_failed(node)} ({_where(plan, kernel, node)})"
            if self.written:
                self.late.add(base + k)
        return base

    def _stages(self, kernels: Sequence[Sequence[tuple[Call, float]]]) -> list[_Item]:
        """The kernels of one stage side by side; those of several steps need as many stages."""
        items: list[_Item] = []
        for step in itertools.zip_longest(*kernels):
            present = [call for call in step if call is not None]
            serial = sum(work for _, work in present) < 2 * self.worth
            items.append(_Stage(tuple(call for call, _ in present), serial))
        return items

    def _copies(self, pairs: Sequence[tuple[TensorType, Address, Address]]) -> list[_Item]:
        """Copy values from one address to another, where these differ."""
        kernels = []
        for type, source, target in pairs:
            if source == target or type.size == 0:
                continue
            kernels.append([self._call(codegen.lower(copy_kernel(type)), "copy", [source, target], 0, 0)])
        return self._stages(kernels)

    # -------------------------------------------------------------------------------------------- control

    def _control(self, plan: Plan, binding: _Binding, kernel: Kernel) -> list[_Item]:
        (node,) = (n for n in kernel.body.nodes if n.op.kind == "control")
        emit = {"cond": self._cond, "scan": self._scan, "while_loop": self._while}.get(node.op.name)
        if emit is None:
            raise NotImplementedError(f"cpu has no emitter for {node.op.name} ({_where(plan, kernel, node)})")
        arguments = [self._address(plan, binding, v) for v in kernel.args]
        results = [self._address(plan, binding, v) for v in kernel.results]
        block, inner = plan.blocks[kernel], plan.inner[kernel]
        at = _Place(node, inner, block, binding.arena, binding.scratch + plan.scratch.get(kernel, 0))
        return emit(at, arguments, results)

    def _body(self, at: _Place, number: int, inputs: Sequence[Address], outputs: Sequence[Address]) -> list[_Item]:
        """The stages of a control kernel's body on the given memory."""
        inner = at.inner[number]
        constants = self._constants(inner)
        return self._items(inner, _Binding(inputs, outputs, constants, at.arena + at.block.arenas[number], at.scratch))

    def _cond(self, at: _Place, arguments: Sequence[Address], results: Sequence[Address]) -> list[_Item]:
        index = self._scalar(arguments[0], "i4")
        return [_Switch(index, [self._body(at, k, arguments[1:], results) for k in range(len(at.inner))])]

    def _scan(self, at: _Place, arguments: Sequence[Address], results: Sequence[Address]) -> list[_Item]:
        node, length = at.node, at.node["length"]
        n_carry, n_xs = node["n_carry"], node["n_xs"]
        types = node["body"].input_types
        first, second = list(results[:n_carry]), at.second_buffers(results)
        written, read = (second, first) if length % 2 == 0 else (first, second)
        items = self._copies(list(zip(types, arguments[:n_carry], read, strict=False)))
        slices = [(a, t.nbytes) for a, t in zip(arguments[n_carry : n_carry + n_xs], types[n_carry:], strict=False)]
        stacked = [(r, t.nbytes) for r, t in zip(results[n_carry:], node["body"].output_types[n_carry:], strict=True)]
        sign, start = (-1, length - 1) if node["reverse"] else (1, 0)

        def step(number: int, loop: _Loop | None, by: int, read: list[Address], written: list[Address]) -> list[_Item]:
            """Step ``number``; inside ``loop`` all slices move on by ``by`` steps."""

            def slice_of(address: Address, nbytes: int) -> Address:
                return address.shifted((start + sign * number) * nbytes).moved(loop, sign * by * nbytes)

            inputs = [*read, *(slice_of(*x) for x in slices), *arguments[n_carry + n_xs :]]
            return self._body(at, 0, inputs, [*written, *(slice_of(*y) for y in stacked)])

        if first == second:
            loop = _Loop(length)
            loop.body = step(0, loop, 1, read, written)
            return [*items, loop] if length else items
        done = length % 2
        if done:  # the last step must write the results: with an odd length one step comes before the pairs
            items += step(0, None, 0, read, written)
            read, written = written, read
        if length > done:
            loop = _Loop(length // 2)
            loop.body = [*step(done, loop, 2, read, written), *step(done + 1, loop, 2, written, read)]
            items.append(loop)
        return items

    def _while(self, at: _Place, arguments: Sequence[Address], results: Sequence[Address]) -> list[_Item]:
        node = at.node
        n_carry = node["n_carry"]
        types = node["body"].input_types[:n_carry]
        test, body = node.bodies.index(node["cond"]), node.bodies.index(node["body"])
        second, constants = at.second_buffers(results), list(arguments[n_carry:])
        predicate = Address("arena", 0, at.arena + at.block.predicate)
        start = self._copies(list(zip(types, arguments[:n_carry], results, strict=True)))
        tested = self._body(at, test, [*results, *constants], [predicate])
        scalar = self._scalar(predicate, "b1")
        stepped = self._body(at, body, [*results, *constants], second)
        back = self._copies(list(zip(types, second, results, strict=True)))
        return [*start, _While(tested, scalar, [*stepped, *back])]

    # -------------------------------------------------------------------------------------------- the tape

    def _play(self, items: Iterable[_Item]) -> None:
        """Write the tape."""
        for item in items:
            match item:
                case _Stage(calls, serial):
                    self.tape.stage(*calls, serial=serial)
                case _Loop():
                    with self.tape.loop(item.count, item.advances):
                        self._play(item.body)
                case _Switch(scalar, cases):
                    with self.tape.switch(scalar) as switch:
                        for case in cases:
                            with switch.case():
                                self._play(case)
                case _While(test, scalar, body):
                    with self.tape.while_loop() as loop:
                        self._play(test)
                        loop.exit_unless(scalar)
                        self._play(body)


@dataclass(frozen=True)
class _Place:
    """A control node with the plans of its bodies, and where its memory begins."""

    node: Node
    inner: Sequence[Plan]
    block: Block
    arena: int
    scratch: int

    def second_buffers(self, results: Sequence[Address]) -> list[Address]:
        """The other buffer of each carry: the result itself where the body updates the carry in place."""
        return [
            result if offset is None else Address("arena", 0, self.arena + offset)
            for result, offset in zip(results, self.block.carries, strict=False)
        ]


# ------------------------------------------------------------------------------------------------ helpers


def total_work(plan: Plan) -> float:
    """Estimated nanoseconds of a call on one thread; bodies of scans as often as they run, of other loops once."""
    total = 0.0
    for kernel in plan.schedule.kernels:
        if kernel.template == "control":
            (node,) = (n for n in kernel.body.nodes if n.op.kind == "control")
            times = node["length"] if node.op.name == "scan" else 1
            total += times * sum(map(total_work, plan.inner[kernel]))
        elif not _is_empty(kernel):
            total += sum(step.work for step in _lowered(kernel, plan).steps)
    return total


def threads_for(code: Code, worth: float = WORTH_A_THREAD) -> int:
    """The most threads that are worth their waking, by the cost model. Results do not depend on it."""
    return max(1, min(code.units, math.ceil(code.work / worth), MOST_THREADS))


def copy_kernel(type: TensorType) -> Kernel:
    """A kernel that copies a value."""
    flat = TensorType(type.dtype, (type.size,))
    x = Node(INPUT, (), (("name", "x"), ("type", flat)), flat)
    return Kernel("copy", "elementwise", Domain(flat.shape), Graph("copy", (x,), (x,), (x,)), (0,), (1,))


def what_failed(node: Node) -> str:
    """What the error of a node means; for indices with the axis that they are for, where that is one."""
    text = ERRORS.get(node.op.name, "failed")
    if node.op.name not in ("gather", "scatter", "segments") or len(node["axes"]) != 1:
        return text
    (axis,) = node["axes"]
    extent = node["extents"][0] if node.op.name == "segments" else node.inputs[0].type.shape[axis]
    return f"{text} for axis {axis} with size {extent}"


def _is_empty(kernel: Kernel) -> bool:
    return all(t.size == 0 for t in kernel.body.output_types)


def _spec(type: TensorType, name: str) -> Spec:
    return Spec(type.dtype.numpy.name, type.shape, name)


def _lowered(kernel: Kernel, plan: Plan) -> Code:
    try:
        return codegen.lower(kernel)
    except NoEmitter as error:
        raise NotImplementedError(f"{error} ({_where(plan, kernel, error.node)})") from error


_names = functools.lru_cache(maxsize=4)(node_names)


def _where(plan: Plan, kernel: Kernel, node: Node) -> str:
    """The name of a body's node in the graph, and the user's line: ``v14, model.py:31``."""
    graph = plan.schedule.graph
    names = _names(graph)
    same = [graph.nodes[k] for k in kernel.nodes if graph.nodes[k].op is node.op]
    lines = kernel.body.lines.get(node) or next((graph.lines[n] for n in same if n in graph.lines), ())
    return ", ".join([*(names[n] for n in same[:1]), *map(str, lines[:1])]) or kernel.name
