"""TapeBuilder: stages, loops and branches in, a `Program` out.

The code generator says what runs after what; the builder lays out frame words, turns structure into jumps, and decides
where threads wait for each other. Parts that only thread 0 can work on become *solo* regions without a single barrier:
the other threads wait at their end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby

from graphc.backends.cpu.runtime.program import Output, Program, Spec, Word
from graphc.backends.cpu.runtime.tape import (
    LITERAL,
    LOOP_STATE,
    SCALAR_KINDS,
    THREAD,
    Branch,
    Instruction,
    Loop,
    Next,
    Run,
    Stop,
    decode,
)


@dataclass(frozen=True)
class Call:
    """One kernel of a stage: its symbol, the first frame word of its table, and the most threads that can share it."""

    kernel: str
    table: int
    cap: int = 1


@dataclass(frozen=True)
class Advance:
    """A frame word that a loop moves: by `step` after iterations 0, 2, ..., by `odd` (or `step`) after the others.

    A pointer moves by bytes; `odd=-step` toggles it between two buffers; a counter is a `Word.value` that moves by 1.
    """

    word: int
    step: int
    odd: int | None = None


@dataclass(frozen=True)
class Scalar:
    """An integer in memory that control flow reads: the frame word with its address, and its kind (b1 i1 ... u8)."""

    word: int
    kind: str


@dataclass(frozen=True)
class _Stage:
    calls: tuple[Call, ...]
    serial: bool


@dataclass(frozen=True)
class _Loop:
    count: int | Scalar
    advances: tuple[Advance, ...]
    state: int
    body: list[_Item]


@dataclass(frozen=True)
class _Switch:
    scalar: Scalar
    cases: list[list[_Item]]


@dataclass(frozen=True)
class _While:
    body: list[_Item]


@dataclass(frozen=True)
class _ExitUnless:
    scalar: Scalar


_Item = _Stage | _Loop | _Switch | _While | _ExitUnless


class Switch:
    """The cases of a `TapeBuilder.switch`, added in order."""

    def __init__(self, builder: TapeBuilder, cases: list[list[_Item]]) -> None:
        self._builder = builder
        self._cases = cases

    @contextmanager
    def case(self) -> Iterator[None]:
        """What runs when the scalar is the number of this case (the last one: or more)."""
        self._cases.append([])
        with self._builder._block(self._cases[-1]):
            yield


class While:
    """The exit of a `TapeBuilder.while_loop`."""

    def __init__(self, builder: TapeBuilder, body: list[_Item]) -> None:
        self._builder = builder
        self._body = body

    def exit_unless(self, scalar: Scalar) -> None:
        """Leaves the loop here when the scalar is 0. Belongs directly in the loop's body."""
        if self._builder._items is not self._body:
            raise ValueError("exit_unless belongs directly in the body of its while_loop")
        self._body.append(_ExitUnless(scalar))


@dataclass
class _Emitter:
    """Encodes items as tape words; `kernels` are numbered in the order in which they are met."""

    tape: list[int] = field(default_factory=list)
    kernels: dict[str, int] = field(default_factory=dict)

    def put(self, instruction: Instruction) -> int:
        at = len(self.tape)
        self.tape += instruction.encode()
        return at

    def patch(self, at: int, instruction: Instruction) -> None:
        words = instruction.encode()
        self.tape[at : at + len(words)] = words

    def block(self, items: Sequence[_Item], solo: bool) -> None:
        """Emits `items`; in a solo region only thread 0 comes here, elsewhere all threads do."""
        for alone, group in groupby(items, key=_is_serial):
            if alone and not solo:
                self.solo(list(group))
                continue
            for item in group:
                self.item(item, solo)

    def solo(self, items: list[_Item]) -> None:
        """Emits serial items for thread 0 alone; the others wait at the end."""
        match items:
            case [_Stage((call,), _)]:  # one kernel: a synchronous stage does the same in fewer words
                self.put(Run(True, (self.alone(call),)))
                return
        entry = self.put(Branch(False, THREAD, 0, (0, 0)))
        start = len(self.tape)
        self.block(items, solo=True)
        self.patch(entry, Branch(False, THREAD, 0, (start, len(self.tape))))
        self.put(Run(True, ()))

    def item(self, item: _Item, solo: bool) -> None:
        match item:
            case _Stage(calls, _):
                self.stage(calls, solo)
            case _Loop():
                self.loop(item, solo)
            case _Switch():
                self.switch(item, solo)
            case _While():
                self.while_loop(item, solo)

    def stage(self, calls: tuple[Call, ...], solo: bool) -> None:
        if not solo:
            self.put(Run(True, tuple(map(self.call, calls))))
            return
        for call in calls:  # one by one: within a stage the second kernel would be for thread 1
            self.put(Run(False, (self.alone(call),)))

    def alone(self, call: Call) -> tuple[int, int, int]:
        """A call for one thread whatever its cap: a kernel that is told of more threads leaves work to them."""
        return self.call(Call(call.kernel, call.table))

    def call(self, call: Call) -> tuple[int, int, int]:
        return self.kernels.setdefault(call.kernel, len(self.kernels)), call.table, call.cap

    def loop(self, loop: _Loop, solo: bool) -> None:
        kind, count = (LITERAL, loop.count) if isinstance(loop.count, int) else _encoded(loop.count)
        advances = tuple((a.word, a.step, a.step if a.odd is None else a.odd) for a in loop.advances)
        head = self.put(Loop(0, not solo, kind, count, loop.state, advances))
        self.block(loop.body, solo)
        self.put(Next(head, not solo))
        self.patch(head, Loop(len(self.tape), not solo, kind, count, loop.state, advances))

    def switch(self, switch: _Switch, solo: bool) -> None:
        kind, word = _encoded(switch.scalar)
        entry = self.put(Branch(not solo, kind, word, (0,) * len(switch.cases)))
        targets, jumps = [], []
        for case in switch.cases:
            targets.append(len(self.tape))
            self.block(case, solo)
            jumps.append(self.put(Branch(False, LITERAL, 0, (0,))))
        self.patch(entry, Branch(not solo, kind, word, tuple(targets)))
        for jump in jumps:
            self.patch(jump, Branch(False, LITERAL, 0, (len(self.tape),)))

    def while_loop(self, loop: _While, solo: bool) -> None:
        head = len(self.tape)
        exits = []
        start = 0
        for at, item in enumerate(loop.body):
            if isinstance(item, _ExitUnless):
                self.block(loop.body[start:at], solo)
                kind, word = _encoded(item.scalar)
                exits.append((self.put(Branch(not solo, kind, word, (0, 0))), kind, word))
                start = at + 1
        self.block(loop.body[start:], solo)
        self.put(Branch(False, LITERAL, 0, (head,)))
        for at, kind, word in exits:
            after = at + len(Branch(False, kind, word, (0, 0)).encode())
            self.patch(at, Branch(not solo, kind, word, (len(self.tape), after)))


class TapeBuilder:
    """Builds a `Program` from structured control flow.

    >>> b = TapeBuilder()
    >>> table = b.table([Word.input(0), Word.output(0), Word.value(8)])
    >>> with b.loop(4, advance=[Advance(table, 32), Advance(table + 1, 32)]):
    ...     b.stage(Call("double", table, cap=2))
    >>> program = b.program(inputs=(Spec("float32", (4, 8), "x"),), outputs=(Output("float32", (4, 8)),), threads=2)
    >>> print(program.listing())
        0  loop 4 times, state w3, exit 22 sync: w0 +32, w1 +32
       13  run double(w0) x2 sync
       19  next 0 sync
       22  stop
    """

    def __init__(self) -> None:
        self._words: list[Word] = []
        self._root: list[_Item] = []
        self._items = self._root

    def table(self, words: Sequence[Word]) -> int:
        """Lays out consecutive frame words, the table of a kernel; returns the index of the first."""
        first = len(self._words)
        self._words += words
        return first

    def scalar(self, word: Word, kind: str) -> Scalar:
        """An integer in memory for loop counts and branches; `kind` is one of b1 i1 i2 i4 i8 u1 u2 u4 u8."""
        if kind not in SCALAR_KINDS:
            raise ValueError(f"no scalar kind {kind!r}; there are {', '.join(SCALAR_KINDS)}")
        return Scalar(self.table([word]), kind)

    def stage(self, *calls: Call, serial: bool = False) -> None:
        """Runs kernels that are independent of each other; `serial`: all of them on thread 0, in order."""
        serial = serial or (len(calls) == 1 and calls[0].cap == 1)
        self._items.append(_Stage(calls, serial))

    @contextmanager
    def loop(self, count: int | Scalar, advance: Sequence[Advance] = ()) -> Iterator[None]:
        """Repeats what is added inside `count` times and moves the words in `advance` after every iteration."""
        state = self.table([Word.value(0)] * (LOOP_STATE + len(advance)))
        body: list[_Item] = []
        with self._block(body):
            yield
        self._items.append(_Loop(count, tuple(advance), state, body))

    @contextmanager
    def switch(self, scalar: Scalar) -> Iterator[Switch]:
        """Runs one of the cases: number `scalar`, clamped to 0 ... n - 1."""
        cases: list[list[_Item]] = []
        yield Switch(self, cases)
        if not cases:
            raise ValueError("a switch needs at least one case")
        self._items.append(_Switch(scalar, cases))

    @contextmanager
    def while_loop(self) -> Iterator[While]:
        """Repeats what is added inside until one of its `exit_unless` finds 0."""
        body: list[_Item] = []
        with self._block(body):
            yield While(self, body)
        if not any(isinstance(item, _ExitUnless) for item in body):
            raise ValueError("a while_loop needs an exit_unless")
        self._items.append(_While(body))

    def program(
        self,
        *,
        arena_bytes: int = 0,
        scratch_bytes: int = 0,
        constants: Sequence[bytes] = (),
        inputs: Sequence[Spec] = (),
        outputs: Sequence[Output] = (),
        owned: Sequence[Spec] = (),
        threads: int = 1,
        errors: Mapping[int, str] | None = None,
    ) -> Program:
        """The finished program; its `threads` is the most that one of its stages can use, at most `threads`."""
        emitter = _Emitter()
        emitter.block(self._root, solo=False)
        _trim_last_barrier(emitter.tape)
        emitter.put(Stop())
        return Program(
            tape=tuple(emitter.tape),
            kernels=tuple(emitter.kernels),
            words=tuple(self._words),
            arena_bytes=arena_bytes,
            scratch_bytes=scratch_bytes,
            constants=tuple(constants),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            owned=tuple(owned),
            threads=max(1, min(threads, _useful_threads(self._root))),
            errors=dict(errors or {}),
        )

    @contextmanager
    def _block(self, items: list[_Item]) -> Iterator[None]:
        outer, self._items = self._items, items
        try:
            yield
        finally:
            self._items = outer


def _encoded(scalar: Scalar) -> tuple[int, int]:
    return SCALAR_KINDS[scalar.kind], scalar.word


def _children(item: _Item) -> list[list[_Item]]:
    match item:
        case _Loop() | _While():
            return [item.body]
        case _Switch():
            return item.cases
    return []


def _is_serial(item: _Item) -> bool:
    """True where thread 0 has all the work. (An exit is emitted by its loop, never asked here on its own.)"""
    if isinstance(item, _Stage):
        return item.serial
    return all(_is_serial(inner) for block in _children(item) for inner in block)


def _useful_threads(items: Sequence[_Item]) -> int:
    """The most threads that a stage among `items` can keep busy."""
    most = 1
    for item in items:
        if isinstance(item, _Stage) and not item.serial:
            most = max(most, sum(call.cap for call in item.calls))
        for block in _children(item):
            most = max(most, _useful_threads(block))
    return most


def _trim_last_barrier(tape: list[int]) -> None:
    """Drops the wait before STOP, which waits for all threads itself."""
    instructions = list(decode(tape))
    if not instructions:
        return
    last, run = instructions[-1]
    if not isinstance(run, Run):
        return
    del tape[last:]
    if run.calls:
        tape += Run(False, run.calls).encode()
