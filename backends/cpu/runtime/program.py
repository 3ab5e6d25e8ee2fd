"""A program for the CPU runtime: plain data that a code generator makes and a file can hold.

A `Program` says what the frame of a call looks like (its words, arena and scratch), which kernels run over it in which
order (the tape, see `tape.py`), and what comes in and goes out. It names kernels by symbol and holds no addresses, so
that it means the same in every process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from graphc.backends.cpu.runtime import tape

REGIONS = ("value", "frame", "arena", "scratch", "constant", "input", "output", "owned")
ALIGNMENT = 64
"""Alignment of the arena, the scratch of each thread and every constant, in bytes."""

_INT64 = range(-(2**63), 2**63)
_MAX_BYTES = 2**48
"""More than any address space of today: sizes beyond are a damaged program, and sums of sizes stay within int64."""


@dataclass(frozen=True, slots=True)
class Word:
    """One 8-byte word of a frame: a value, or the address of byte `offset` of a region.

    Kernels read their pointers and parameters from consecutive words (their table). Use the constructors below; `index`
    tells constants, inputs, outputs, owned arrays and frame words apart and is 0 for the other regions.
    """

    region: str
    index: int
    offset: int

    @staticmethod
    def value(value: int) -> Word:
        """The 64-bit integer itself, from -2**63 up to 2**64 - 1 (the upper half is stored as the same bits)."""
        if not -(2**63) <= value < 2**64:
            raise ValueError(f"a frame word holds 64 bits, and {value} needs more")
        return Word("value", 0, value - 2**64 if value >= 2**63 else value)

    @staticmethod
    def frame(word: int, offset: int = 0) -> Word:
        """The address of frame word `word`: a loop counter, say, as a scalar in memory."""
        return Word("frame", word, offset)

    @staticmethod
    def arena(offset: int) -> Word:
        """An address in the arena that the planner laid out."""
        return Word("arena", 0, offset)

    @staticmethod
    def scratch(offset: int = 0) -> Word:
        """An address in the scratch of rank 0; rank r of the kernel adds `r * program.scratch_bytes`."""
        return Word("scratch", 0, offset)

    @staticmethod
    def constant(index: int, offset: int = 0) -> Word:
        """An address in a constant block."""
        return Word("constant", index, offset)

    @staticmethod
    def input(index: int, offset: int = 0) -> Word:
        """An address in an argument of the call."""
        return Word("input", index, offset)

    @staticmethod
    def output(index: int, offset: int = 0) -> Word:
        """An address in a result of the call; the donated argument's where the output has one."""
        return Word("output", index, offset)

    @staticmethod
    def owned(index: int, offset: int = 0) -> Word:
        """An address in an array that is bound once, such as a parameter of a training step."""
        return Word("owned", index, offset)


def dtype_from_name(name: str) -> np.dtype[Any]:
    """The NumPy dtype called `name`; the names that ml_dtypes adds (bfloat16) import it, no others do."""
    try:
        return np.dtype(name)
    except (TypeError, ValueError, SyntaxError):
        pass
    try:
        import ml_dtypes
    except ImportError:
        raise ValueError(f"dtype {name!r} needs the package ml_dtypes") from None
    scalar = getattr(ml_dtypes, name, None)
    if not isinstance(scalar, type):
        raise ValueError(f"{name!r} is not the name of a dtype")
    return np.dtype(scalar)


@dataclass(frozen=True)
class Spec:
    """What an argument or an owned array must be: a dtype by its NumPy name, a shape, and a name for messages."""

    dtype: str
    shape: tuple[int, ...]
    name: str = ""

    @cached_property
    def numpy(self) -> np.dtype[Any]:
        """The dtype as NumPy knows it."""
        return dtype_from_name(self.dtype)

    @cached_property
    def nbytes(self) -> int:
        """The size of an array of this kind, in bytes."""
        return math.prod(self.shape) * self.numpy.itemsize

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Output(Spec):
    """A result: a fresh array, or the memory of the argument number `donated`."""

    donated: int | None = None


@dataclass(frozen=True)
class Program:
    """What one executable does, for the runtime.

    Attributes:
        tape: instructions for the driver; kernels by index into `kernels`, frame words by index into `words`.
        kernels: the symbol of each kernel.
        words: the words of a frame.
        arena_bytes: size of the arena; 64-byte aligned.
        scratch_bytes: scratch of one thread; the frame has `threads` times as much.
        constants: read-only blocks, copied once per executable.
        inputs, outputs, owned: what is passed, returned, and bound once.
        threads: the most threads that can work at the same time.
        errors: node number to the text of the error that it raises.

    Raises:
        ValueError: anything is inconsistent, so that a damaged program is refused before it runs.
    """

    tape: tuple[int, ...]
    kernels: tuple[str, ...]
    words: tuple[Word, ...]
    arena_bytes: int = 0
    scratch_bytes: int = 0
    constants: tuple[bytes, ...] = field(default=(), repr=False)
    inputs: tuple[Spec, ...] = ()
    outputs: tuple[Output, ...] = ()
    owned: tuple[Spec, ...] = ()
    threads: int = 1
    errors: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _verify(self)

    def listing(self) -> str:
        """The tape as text, an instruction a line."""
        return tape.disassemble(self.tape, self.kernels)

    def to_json(self) -> dict[str, Any]:
        """The program as JSON-able data; `constants` become their sizes, the blocks themselves travel beside it."""
        return {
            "tape": list(self.tape),
            "kernels": list(self.kernels),
            "words": [[REGIONS.index(word.region), word.index, word.offset] for word in self.words],
            "arena_bytes": self.arena_bytes,
            "scratch_bytes": self.scratch_bytes,
            "constants": [len(block) for block in self.constants],
            "inputs": [[spec.dtype, list(spec.shape), spec.name] for spec in self.inputs],
            "outputs": [[spec.dtype, list(spec.shape), spec.name, spec.donated] for spec in self.outputs],
            "owned": [[spec.dtype, list(spec.shape), spec.name] for spec in self.owned],
            "threads": self.threads,
            "errors": [[node, text] for node, text in sorted(self.errors.items())],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], constants: Sequence[bytes] = ()) -> Program:
        """The inverse of `to_json`.

        Raises:
            ValueError: the data is not a program, or the blocks are not those it was saved with.
        """
        try:
            sizes = tuple(data["constants"])
            program = cls(
                tape=tuple(data["tape"]),
                kernels=tuple(data["kernels"]),
                words=tuple(Word(REGIONS[region], index, offset) for region, index, offset in data["words"]),
                arena_bytes=data["arena_bytes"],
                scratch_bytes=data["scratch_bytes"],
                constants=tuple(constants),
                inputs=tuple(Spec(dtype, tuple(shape), name) for dtype, shape, name in data["inputs"]),
                outputs=tuple(
                    Output(dtype, tuple(shape), name, donated) for dtype, shape, name, donated in data["outputs"]
                ),
                owned=tuple(Spec(dtype, tuple(shape), name) for dtype, shape, name in data["owned"]),
                threads=data["threads"],
                errors={node: text for node, text in data["errors"]},
            )
        except (KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"this is not a program: {error!r}") from error
        if sizes != tuple(len(block) for block in constants):
            raise ValueError(
                f"the program needs constants of {sizes} bytes, not of {tuple(len(block) for block in constants)}"
            )
        return program


def _verify(program: Program) -> None:
    """Every index and size within bounds, every instruction whole: what the native code takes for granted."""
    _check(all(_is_size(size) for size in (program.arena_bytes, program.scratch_bytes)), "sizes are not byte counts")
    _check(program.scratch_bytes % ALIGNMENT == 0, f"scratch_bytes is not a multiple of {ALIGNMENT}")
    _check(_is_int(program.threads) and 1 <= program.threads <= 4096, "threads is not between 1 and 4096")
    _check(all(isinstance(symbol, str) for symbol in program.kernels), "a kernel's symbol is not a string")
    _check(all(isinstance(block, bytes | memoryview) for block in program.constants), "a constant is not bytes")
    _check(
        all(_is_int(node) and isinstance(text, str) for node, text in program.errors.items()),
        "the error table does not map nodes to texts",
    )
    for kind in ("inputs", "outputs", "owned"):
        for index, spec in enumerate(getattr(program, kind)):
            _verify_spec(spec, f"{kind}[{index}]")
    _verify_donation(program)
    limits = _region_limits(program)
    for index, word in enumerate(program.words):
        _verify_word(word, f"words[{index}]", limits)
    try:
        tape.verify(program.tape, len(program.kernels), [word.region != "value" for word in program.words])
    except ValueError as error:
        raise ValueError(f"not a valid program: {error}") from None


def _verify_spec(spec: Spec, where: str) -> None:
    _check(isinstance(spec.dtype, str) and isinstance(spec.name, str), f"{where}: dtype or name is not a string")
    _check(all(_is_size(extent) for extent in spec.shape), f"{where}: the shape {spec.shape} is not made of sizes")
    _check(len(spec.shape) <= 64, f"{where}: more than 64 dimensions")
    _check(spec.numpy.isbuiltin != 0 and not spec.numpy.hasobject, f"{where}: {spec.dtype} is not a plain dtype")
    _check(_is_size(spec.nbytes), f"{where}: {spec} is larger than any memory")


def _verify_donation(program: Program) -> None:
    taken: set[int] = set()
    for index, output in enumerate(program.outputs):
        if output.donated is None:
            continue
        where = f"outputs[{index}]"
        _check(_is_int(output.donated) and 0 <= output.donated < len(program.inputs), f"{where}: no such input")
        _check(output.donated not in taken, f"{where}: input {output.donated} is donated twice")
        taken.add(output.donated)
        given = program.inputs[output.donated]
        _check(
            (given.dtype, given.shape) == (output.dtype, output.shape),
            f"{where}: {output} cannot take the memory of {given}",
        )


def _region_limits(program: Program) -> dict[str, tuple[int, ...]]:
    """Region name to the sizes of its blocks in bytes; words may point up to the end of a block."""
    return {
        "frame": (8,) * len(program.words),
        "arena": (program.arena_bytes,),
        "scratch": (program.scratch_bytes,),
        "constant": tuple(len(block) for block in program.constants),
        "input": tuple(spec.nbytes for spec in program.inputs),
        "output": tuple(spec.nbytes for spec in program.outputs),
        "owned": tuple(spec.nbytes for spec in program.owned),
    }


def _verify_word(word: Word, where: str, limits: dict[str, tuple[int, ...]]) -> None:
    _check(_is_int(word.index) and _is_int(word.offset), f"{where}: not integers")
    if word.region == "value":
        _check(word.offset in _INT64, f"{where}: the value does not fit")
        return
    blocks = limits.get(word.region)
    _check(blocks is not None, f"{where}: no region {word.region!r}")
    assert blocks is not None
    _check(0 <= word.index < len(blocks), f"{where}: no {word.region} {word.index}")
    _check(
        0 <= word.offset <= blocks[word.index],
        f"{where}: byte {word.offset} lies outside {word.region} {word.index} of {blocks[word.index]} bytes",
    )


def _is_int(value: object) -> bool:
    return type(value) is int


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < _MAX_BYTES


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(f"not a valid program: {message}")
