"""The memory of a program: tape, constants, frames, and the context through which native code finds them.

A frame is one allocation: a header, the words, the words' initial values, the arena, the scratch of each thread. It is
filled once; a call writes the pointers of its arguments into it and nothing else. A frame serves one call at a time, so
there are as many as there were concurrent calls.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.backends.cpu.runtime import driver as native
from graphc.backends.cpu.runtime.loader import LoadedCode
from graphc.backends.cpu.runtime.program import ALIGNMENT, Output, Program, Spec, Word
from graphc.backends.cpu.runtime.pyapi import ALIGNED, C_CONTIGUOUS, WRITEABLE
from graphc.backends.cpu.runtime.tape import CALL_FIELDS, RUN_FIELDS, Run, decode

Array = np.ndarray


def aligned_bytes(size: int) -> Array:
    """Uninitialised memory of `size` bytes that starts at a multiple of ALIGNMENT."""
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


def round_up(size: int) -> int:
    """The next multiple of ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def link_tape(program: Program, code: LoadedCode) -> Array:
    """The tape with addresses for kernels, int64."""
    addresses = [code.address(symbol) for symbol in program.kernels]
    tape = np.array(program.tape, np.int64)
    for at, instruction in decode(program.tape):
        if isinstance(instruction, Run):
            for place, (kernel, _, _) in enumerate(instruction.calls):
                tape[at + RUN_FIELDS + place * CALL_FIELDS] = addresses[kernel]
    return tape


def copy_constants(program: Program) -> tuple[Array, ...]:
    """The constant blocks in aligned memory."""
    blocks = []
    for data in program.constants:
        block = aligned_bytes(len(data))
        block[:] = np.frombuffer(data, np.uint8)
        blocks.append(block)
    return tuple(blocks)


class FrameLayout:
    """Where things lie in the frames of a program, and what their words start as.

    Every word is `base + offset` with a base per region and block, so a frame is filled by one vector operation.
    """

    def __init__(self, program: Program, threads: int) -> None:
        self.arguments = len(program.inputs) + len(fresh_outputs(program))
        self.words = len(program.words)
        self.header = round_up(8 * (1 + self.arguments))
        self.arena = round_up(self.header + 2 * 8 * self.words)
        self.scratch = round_up(self.arena + program.arena_bytes)
        self.size = self.scratch + program.scratch_bytes * threads
        self._constants = len(program.constants)
        self._base = np.array([self._base_index(word) for word in program.words], np.int64)
        self._offset = np.array(
            [8 * word.index + word.offset if word.region == "frame" else word.offset for word in program.words],
            np.int64,
        )

    def _base_index(self, word: Word) -> int:
        match word.region:
            case "frame":
                return 1
            case "arena":
                return 2
            case "scratch":
                return 3
            case "constant":
                return 4 + word.index
            case "owned":
                return 4 + self._constants + word.index
        return 0  # values, and pointers that a call adds its argument to

    def make(self, constants: Sequence[Array], owned: Sequence[Array]) -> Frame:
        """A new frame."""
        memory = aligned_bytes(self.size)
        start = memory.ctypes.data
        fixed = (0, start + self.header, start + self.arena, start + self.scratch)
        bases = np.array([*fixed, *(block.ctypes.data for block in (*constants, *owned))], np.int64)
        words = memory[: self.arena].view(np.int64)
        first = self.header // 8
        words[:first] = 0
        initial = words[first + self.words : first + 2 * self.words]
        np.add(bases[self._base], self._offset, out=initial)
        words[first : first + self.words] = initial
        return Frame(memory, words, first, self.words)


class Frame:
    """One frame; `address` is that of its first word."""

    def __init__(self, memory: Array, words: Array, first: int, count: int) -> None:
        self.address = memory.ctypes.data + 8 * first
        self._memory = memory  # keeps the allocation alive
        self._words = words
        self._first = first
        self._count = count

    def reset(self) -> None:
        """Puts every word back to its initial value, as if no call had been made."""
        words, first, count = self._words, self._first, self._count
        words[:first] = 0
        words[first : first + count] = words[first + count : first + 2 * count]


def fresh_outputs(program: Program) -> tuple[Output, ...]:
    """The outputs that are no argument's memory."""
    return tuple(output for output in program.outputs if output.donated is None)


def donated_inputs(program: Program) -> tuple[int, ...]:
    """The numbers of the donated arguments, ascending."""
    return tuple(sorted(output.donated for output in program.outputs if output.donated is not None))


def _fixups(program: Program) -> list[list[tuple[int, int]]]:
    """For every argument (inputs, then fresh outputs) the frame words that point into it, with their byte offsets."""
    argument = len(program.inputs)
    of_output = []
    for output in program.outputs:
        if output.donated is None:
            of_output.append(argument)
            argument += 1
        else:
            of_output.append(output.donated)
    fixups: list[list[tuple[int, int]]] = [[] for _ in range(argument)]
    for index, word in enumerate(program.words):
        if word.region == "input":
            fixups[word.index].append((index, word.offset))
        elif word.region == "output":
            fixups[of_output[word.index]].append((index, word.offset))
    return fixups


class Context:
    """What native code is given for a program: an array of words, see `driver.py`, with a record per argument."""

    def __init__(self, program: Program, tape: Array, *, team: int, threads: int, lock: int) -> None:
        specs: tuple[Spec, ...] = (*program.inputs, *fresh_outputs(program))
        donated = set(donated_inputs(program))
        fixups = _fixups(program)
        size = native.C_HEADER + native.A_WORDS * len(specs)
        tails = [len(spec.shape) + 2 * len(pairs) for spec, pairs in zip(specs, fixups, strict=True)]
        self.words = np.zeros(size + sum(tails), np.int64)
        self.address = self.words.ctypes.data
        self._dtypes = [spec.numpy for spec in specs]  # the records hold their addresses
        self._tape = tape
        words = self.words
        words[native.C_TAPE] = tape.ctypes.data
        words[native.C_TEAM] = team
        words[native.C_THREADS] = threads
        words[native.C_ARGUMENTS] = len(specs)
        words[native.C_WORDS] = len(program.words)
        words[native.C_SERIAL] = lock
        tail = size
        for k, (spec, pairs) in enumerate(zip(specs, fixups, strict=True)):
            dims, fixup = tail, tail + len(spec.shape)
            tail = fixup + 2 * len(pairs)
            written = k in donated or k >= len(program.inputs)
            scalar = _scalar_kind(spec) if spec.shape == () and not written else native.NO_SCALAR
            record = native.C_HEADER + native.A_WORDS * k
            words[record : record + native.A_WORDS] = (
                id(spec.numpy),
                len(spec.shape),
                self.address + 8 * dims,
                C_CONTIGUOUS | ALIGNED | (WRITEABLE if written else 0),
                spec.nbytes,
                k in donated,
                scalar,
                self.address + 8 * fixup,
                len(pairs),
            )
            words[dims:fixup] = spec.shape
            words[fixup:tail] = np.array(pairs, np.int64).reshape(-1)

    def set_threads(self, threads: int) -> None:
        """The most threads that calls use from now on."""
        self.words[native.C_THREADS] = threads

    def set_lock(self, lock: int) -> None:
        """The lock that calls take, 0 for none."""
        self.words[native.C_SERIAL] = lock

    def empty_pool(self) -> None:
        """Forgets all frames, and that anybody is looking at the pool. For when no call is under way."""
        self.words[native.C_POOL] = 0
        self.words[native.C_POOL_LOCK] = 0


def _scalar_kind(spec: Spec) -> int:
    """Which Python numbers native code takes for a 0-d argument, see `driver.py`."""
    bits = 8 * spec.numpy.itemsize
    match spec.numpy.kind:
        case "b":
            return native.BOOL
        case "i":
            return bits
        case "u":
            return -bits
        case "f" if bits >= 32:
            return {32: native.FLOAT32, 64: native.FLOAT64}.get(bits, native.NO_SCALAR)
    return native.NO_SCALAR
