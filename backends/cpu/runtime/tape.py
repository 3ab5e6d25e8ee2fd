"""The tape: what the native driver executes, as a flat sequence of int64 words.

Four instructions: run a stage, loop, branch, stop. Fields are one word each; a position is an index into the tape.

    RUN     sync n  (kernel table cap) * n           run the kernels of a stage; at the end wait for all threads if sync
    LOOP    exit sync kind count state n  (word even odd) * n
                                                     enter a loop of `count` iterations, or go to `exit` if none
    NEXT    head sync                                back-edge of the loop at `head`
    BRANCH  sync kind word n  target * n             go to one of the targets
    STOP                                             end of the call

`kernel` is an index in `Program.kernels` (an address once loaded); `table`, `word` and `state` are frame words by
index.

A kernel of cap c is run by a *crew* of min(c, threads) threads. Crews start at different threads, so that kernels of
one stage with cap 1 spread over the team: the kernel at place p of its stage has its rank 0 on thread p mod threads.

`kind` says what a scalar is: LITERAL (the field itself; a branch takes its first target), the width in bytes of an
integer in memory whose address is in a frame word, negative for an unsigned one, or for branches THREAD (the first
target for thread 0, the second for the others: a *solo* region that thread 0 executes alone).

A loop has `2 + n` state words: the number of iterations, the number of the current one, and the old values of the words
that it advances. Those words move by `even` after iterations 0, 2, ..., by `odd` after the others, and have their old
values again when the loop is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

RUN, LOOP, NEXT, BRANCH, STOP = range(5)

LITERAL = 0
THREAD = 16
SCALAR_KINDS = {"b1": -1, "i1": 1, "i2": 2, "i4": 4, "i8": 8, "u1": -1, "u2": -2, "u4": -4, "u8": -8}

RUN_FIELDS, CALL_FIELDS = 3, 3
"""Words of a RUN before its calls, and of each call."""
LOOP_FIELDS, ADVANCE_FIELDS = 7, 3
"""Words of a LOOP before its advances, and of each advance."""
NEXT_FIELDS = 3
BRANCH_FIELDS = 5
"""Words of a BRANCH before its targets."""
LOOP_STATE = 2
"""State words of a loop before the saved values."""


@dataclass(frozen=True, slots=True)
class Run:
    """A stage: `calls` are (kernel, table, cap)."""

    sync: bool
    calls: tuple[tuple[int, int, int], ...]

    def encode(self) -> list[int]:
        return [RUN, int(self.sync), len(self.calls), *(field for call in self.calls for field in call)]


@dataclass(frozen=True, slots=True)
class Loop:
    """The entry of a loop: `advances` are (word, even, odd)."""

    exit: int
    sync: bool
    kind: int
    count: int
    state: int
    advances: tuple[tuple[int, int, int], ...]

    def encode(self) -> list[int]:
        return [
            LOOP,
            self.exit,
            int(self.sync),
            self.kind,
            self.count,
            self.state,
            len(self.advances),
            *(field for advance in self.advances for field in advance),
        ]


@dataclass(frozen=True, slots=True)
class Next:
    """The back-edge of the loop at `head`."""

    head: int
    sync: bool

    def encode(self) -> list[int]:
        return [NEXT, self.head, int(self.sync)]


@dataclass(frozen=True, slots=True)
class Branch:
    """A jump to the target that a scalar selects, clamped to the last one."""

    sync: bool
    kind: int
    word: int
    targets: tuple[int, ...]

    def encode(self) -> list[int]:
        return [BRANCH, int(self.sync), self.kind, self.word, len(self.targets), *self.targets]


@dataclass(frozen=True, slots=True)
class Stop:
    """The end of the call."""

    def encode(self) -> list[int]:
        return [STOP]


Instruction = Run | Loop | Next | Branch | Stop


def decode(tape: Sequence[int]) -> Iterator[tuple[int, Instruction]]:
    """Yields every instruction with its position.

    Raises:
        ValueError: the words are not a sequence of whole instructions.
    """
    at = 0
    while at < len(tape):
        try:
            instruction = _decode_one(tape, at)
        except IndexError:
            raise ValueError(f"the tape ends inside the instruction at {at}") from None
        yield at, instruction
        at += len(instruction.encode())


def _decode_one(tape: Sequence[int], at: int) -> Instruction:
    match tape[at]:
        case 0:
            return Run(_flag(tape, at + 1), _triples(tape, at + RUN_FIELDS, tape[at + 2]))
        case 1:
            return Loop(
                tape[at + 1],
                _flag(tape, at + 2),
                tape[at + 3],
                tape[at + 4],
                tape[at + 5],
                _triples(tape, at + LOOP_FIELDS, tape[at + 6]),
            )
        case 2:
            return Next(tape[at + 1], _flag(tape, at + 2))
        case 3:
            count = tape[at + 4]
            return Branch(_flag(tape, at + 1), tape[at + 2], tape[at + 3], _slice(tape, at + BRANCH_FIELDS, count))
        case 4:
            return Stop()
    raise ValueError(f"{tape[at]} at {at} is not an instruction")


def _flag(tape: Sequence[int], at: int) -> bool:
    if tape[at] not in (0, 1):
        raise ValueError(f"{tape[at]} at {at} is not a flag")
    return bool(tape[at])


def _slice(tape: Sequence[int], start: int, count: int) -> tuple[int, ...]:
    if not 0 <= count <= len(tape) - start:
        raise IndexError
    return tuple(tape[start : start + count])


def _triples(tape: Sequence[int], start: int, count: int) -> tuple[tuple[int, int, int], ...]:
    flat = iter(_slice(tape, start, 3 * count))
    return tuple(zip(flat, flat, flat, strict=True))


def verify(tape: Sequence[int], kernels: int, is_address: Sequence[bool]) -> None:
    """Checks a tape against the number of kernels and the frame words (True where a word holds an address).

    Raises:
        ValueError: a field is out of its range, a jump ends inside an instruction, or the tape does not end with STOP.
    """
    if not all(type(word) is int and -(2**63) <= word < 2**63 for word in tape):
        raise ValueError("the tape is not made of 64-bit integers")
    instructions = dict(decode(tape))
    if not instructions or not isinstance(list(instructions.values())[-1], Stop):
        raise ValueError("the tape does not end with STOP")
    for at, instruction in instructions.items():
        problem = _problem(instruction, instructions, kernels, is_address)
        if problem:
            raise ValueError(f"tape[{at}]: {problem}")


def _problem(
    instruction: Instruction, instructions: dict[int, Instruction], kernels: int, is_address: Sequence[bool]
) -> str | None:
    words = len(is_address)
    match instruction:
        case Run(_, calls):
            for kernel, table, cap in calls:
                if not (0 <= kernel < kernels and 0 <= table <= words and cap >= 1):
                    return f"no such call: kernel {kernel}, table {table}, cap {cap}"
        case Loop(exit, _, kind, count, state, advances):
            if exit not in instructions:
                return f"no instruction starts at {exit}"
            if not 0 <= state <= words - LOOP_STATE - len(advances):
                return "the loop's state lies outside the frame"
            if not all(0 <= word < words for word, _, _ in advances):
                return "the loop advances a word outside the frame"
            if kind != LITERAL:
                return _scalar_problem(kind, count, is_address)
        case Next(head, _):
            if not isinstance(instructions.get(head), Loop):
                return f"no loop starts at {head}"
        case Branch(_, kind, word, targets):
            if not targets or not all(target in instructions for target in targets):
                return f"not all of {targets} are instructions"
            if kind == THREAD:
                return None if len(targets) == 2 else "a solo branch has two targets"
            if kind != LITERAL:
                return _scalar_problem(kind, word, is_address)
    return None


def _scalar_problem(kind: int, word: int, is_address: Sequence[bool]) -> str | None:
    if abs(kind) not in (1, 2, 4, 8):
        return f"no scalar kind {kind}"
    if not 0 <= word < len(is_address) or not is_address[word]:
        return f"frame word {word} is not the address of a scalar"
    return None


def disassemble(tape: Sequence[int], kernels: Sequence[str]) -> str:
    """The tape as text, an instruction a line, kernels by symbol."""
    lines = []
    for at, instruction in decode(tape):
        match instruction:
            case Run(sync, calls):
                shown = [f"{kernels[kernel]}(w{table}){f' x{cap}' if cap > 1 else ''}" for kernel, table, cap in calls]
                text = f"run {', '.join(shown)}{' sync' if sync else ''}" if calls else "sync"
            case Loop(exit, sync, kind, count, state, advances):
                times = count if kind == LITERAL else _scalar_text(kind, count)
                shown = [f"w{word} {even:+d}{f'/{odd:+d}' if odd != even else ''}" for word, even, odd in advances]
                moved = f": {', '.join(shown)}" if shown else ""
                text = f"loop {times} times, state w{state}, exit {exit}{' sync' if sync else ''}{moved}"
            case Next(head, sync):
                text = f"next {head}{' sync' if sync else ''}"
            case Branch(_, 0, _, targets):
                text = f"jump {targets[0]}"
            case Branch(_, 16, _, targets):
                text = f"solo until {targets[1]}"
            case Branch(sync, kind, word, targets):
                text = f"branch {_scalar_text(kind, word)} -> {', '.join(map(str, targets))}{' sync' if sync else ''}"
            case Stop():
                text = "stop"
        lines.append(f"{at:5}  {text}")
    return "\n".join(lines)


def _scalar_text(kind: int, word: int) -> str:
    return f"{'u' if kind < 0 else 'i'}{8 * abs(kind)} at w{word}"
