"""Code generation for the CPU: a kernel of the schedule becomes the source text of one function and the table it reads.

The text is what is compiled, cached and shared, so everything in which otherwise equal kernels differ is kept out of it
and passed through the kernel's table: the byte offsets of views, scalar constants, the outermost extent of the loops.
The 64 steps of an unrolled recurrence, or a short last batch, are then one compiled function with several tables.

An emitter is a function ``Kernel -> Code``, one per template (:data:`EMITTERS`). It writes into an :class:`Emission`.
Nothing here, and nothing in the emitters, imports Numba: a compilation that finds its machine code in the cache only
makes texts and tables. The language of the text is that of :mod:`graphc.backends.cpu.simd`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.ir import Node
from graphc.passes.schedule import Kernel
from graphc.types import DType, TensorType, bf16, f16, f32, f64

#: template → the module with its emitter, a function of the template's name
EMITTERS = {
    "elementwise": "emit_loops",
    "copy": "emit_loops",
    "row": "emit_reductions",
    "column": "emit_reductions",
    "contraction": "emit_contraction",
    "window": "emit_window",
    "segment": "emit_scatter",
    "library": "emit_library",
    "attention": "emit_attention",
}
LANES = 16
FITS_CACHE = 2 << 20  # bytes
PER_BYTE = 0.035  # nanoseconds for a byte that comes from memory, on one thread
SCRATCH_ALIGNMENT = 64


class NoEmitter(NotImplementedError):
    """The CPU backend cannot do an op. Holds the body's node, so that whoever knows the graph can name its line."""

    def __init__(self, node: Node, why: str = "") -> None:
        self.node = node
        super().__init__(f"cpu has no emitter for {node.op.name}" + (f": {why}" if why else ""))


# ------------------------------------------------------------------------------------------------ the table


@dataclass(frozen=True, slots=True)
class Pointer:
    """The address of byte ``offset`` of the kernel's argument or result number ``position`` (arguments first)."""

    position: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Word:
    """A 64-bit parameter: an extent, or the bits of a scalar constant."""

    value: int


@dataclass(frozen=True, slots=True)
class Scratch:
    """The address of byte ``offset`` of the kernel's scratch in the memory of its first thread."""

    offset: int = 0


@dataclass(frozen=True, slots=True)
class ScratchStride:
    """Bytes from one thread's scratch to the next one's."""


@dataclass(frozen=True, slots=True)
class ErrorBase:
    """What a kernel adds to a node's number in its body so that an error word names one node of the whole program."""


Entry = Pointer | Word | Scratch | ScratchStride | ErrorBase


@dataclass(frozen=True, slots=True)
class Code:
    """A kernel in the language of :mod:`graphc.backends.cpu.simd`.

    source   defines ``symbol(table, thread, threads)``, which returns 0 or the error word ``code << 32 | node``.
    table    what the words of ``table`` hold.
    scratch  bytes of scratch for each thread.
    units    work units: more threads than that have nothing to do.
    work     estimated nanoseconds on one thread; decides how many threads are worth waking.
    then     a second kernel over the same arguments and results, run when all threads have finished this one.
    requires (symbol, source) of the shared routines that it calls: functions with the signature of a kernel, compiled
    and
             kept like kernels, and loaded with it.
    """

    source: str
    symbol: str
    table: tuple[Entry, ...]
    scratch: int
    units: int
    work: float
    then: Code | None = None
    requires: tuple[tuple[str, str], ...] = ()

    @property
    def steps(self) -> Iterator[Code]:
        """This kernel and those that follow it."""
        step: Code | None = self
        while step is not None:
            yield step
            step = step.then


def lower(kernel: Kernel) -> Code:
    """The code of a kernel by the emitter of its template. Raises NoEmitter.

    Remembered for as long as the kernel lives: the planner asks for its scratch, then it is assembled.
    """
    found = _lowered.get(kernel)
    if found is None:
        module = importlib.import_module(f"graphc.backends.cpu.{EMITTERS[kernel.template]}")
        found = _lowered[kernel] = getattr(module, kernel.template)(kernel)
    return found


_lowered: weakref.WeakKeyDictionary[Kernel, Code] = weakref.WeakKeyDictionary()


# ------------------------------------------------------------------------------------------------ text


def dtype_name(dtype: DType) -> str:
    """How kernel source spells an element type."""
    return "bool_" if dtype.name == "bool" else dtype.name


def compute_dtype(dtype: DType) -> DType:
    """The element type of the lanes that hold ``dtype`` while computing: half floats are f32."""
    return f32 if dtype is f16 or dtype is bf16 else dtype


def is_narrow(dtype: DType) -> bool:
    """True for storage types whose values are held in more bits while computing."""
    return compute_dtype(dtype) is not dtype


def word_bits(dtype: DType, value: Any) -> int:
    """The table word of the scalar ``value``: its bytes as lanes of ``dtype`` are held, in the low end of the word."""
    with np.errstate(over="ignore"):
        scalar = np.asarray(value).astype(dtype.numpy).astype(compute_dtype(dtype).numpy)
    return int.from_bytes(scalar.tobytes().ljust(8, b"\0"), "little", signed=True)


def linear(*terms: tuple[str | int, int]) -> str:
    """The text of ``Σ index·stride``, without what adds nothing.

    >>> linear(("i0", 512), ("i1 + 16", 1), ("i2", 0)), linear(("i0", -3)), linear()
    ('i0 * 512 + i1 + 16', '0 - i0 * 3', '0')
    """
    constant = sum(index * stride for index, stride in terms if isinstance(index, int))
    text = ""
    for index, stride in terms:
        if isinstance(index, int) or stride == 0:
            continue
        factor = index if index.isidentifier() or stride == 1 else f"({index})"
        product = factor if abs(stride) == 1 else f"{factor} * {abs(stride)}"
        text += f" + {product}" if stride > 0 else f" - {product}"
    if constant:
        text += f" + {constant}" if constant > 0 else f" - {-constant}"
    if not text:
        return "0"
    return text[3:] if text.startswith(" + ") else f"0{text}"


class Emission:
    """One kernel being written: its table, its prologue and its body.

    Variables that stand for table words are defined in the prologue, at the top of the function, whenever they are
    first asked for. ``title`` opens the text as a comment; it must not mention what the table holds.
    """

    def __init__(self, kernel: Kernel, title: str) -> None:
        self.kernel = kernel
        self.numbers = {node: k for k, node in enumerate(kernel.body.nodes)}
        self.types: tuple[TensorType, ...] = (*kernel.body.input_types, *kernel.body.output_types)
        self._title = title
        self._table: list[Entry] = []
        self._prologue: list[str] = []
        self._lines: list[str] = []
        self._depth = 1
        self._extra_scopes = 0
        self._names: dict[Any, str] = {}
        self._scopes = alias_scopes(kernel.body.input_types, kernel.body.output_types)
        self._own = self._shared = self._regions = self._shared_regions = 0
        self._requires: dict[str, str] = {}

    # -------------------------------------------------------------------------------------------- table

    def pointer(self, position: int, offset: int = 0, strides: tuple[int, ...] = ()) -> str:
        """The variable that points to byte ``offset`` of an argument or result; one per distinct access."""

        def define(name: str) -> str:
            slot = self._slot(Pointer(position, offset))
            inputs = len(self.kernel.body.inputs)
            label = f"in{position}" if position < inputs else f"out{position - inputs}"
            return f"{name} = pointer(table, {slot})  # {label}: {dtype_name(self.types[position].dtype)}"

        return self._name(("pointer", position, offset, strides), "p", define)

    def pointers(self, entries: Iterable[Entry]) -> int:
        """Consecutive table words for a kernel that loops over them; the first one's number."""
        return [self._slot(entry) for entry in entries][0]

    def word(self, value: int, name: str) -> str:
        """The int64 variable ``name``, read from the table."""
        if ("word", name) not in self._names:
            self._names["word", name] = name
            self._prologue.append(f"{name} = word(table, {self._slot(Word(value))})")
        return name

    def param(self, dtype: DType, value: Any, key: Any) -> str:
        """The variable with the scalar ``value`` in all lanes, read from the table; one per ``key``."""

        def define(name: str) -> str:
            slot = self._slot(Word(word_bits(dtype, value)))
            return f"{name} = param(table, {slot}, {dtype_name(compute_dtype(dtype))})"

        return self._name(("param", key), "c", define)

    def scratch(self, nbytes: int) -> str:
        """A new variable that points to ``nbytes`` of this thread's own scratch, 64-byte aligned."""
        name = f"scratch{self._regions or ''}"
        slot, stride = self._slot(Scratch(self._shared + self._own)), self._slot(ScratchStride())
        self._prologue.append(f"{name} = advance(pointer(table, {slot}), thread * word(table, {stride}), u8)")
        self._own += _aligned(nbytes)
        self._regions += 1
        return name

    def shared(self, nbytes: int) -> str:
        """A new variable that points to ``nbytes`` of scratch that all threads of the kernel have in common.

        To be asked for before :meth:`scratch`, and in the same order and sizes by every step of a kernel that has
        several.
        """
        assert not self._own, "shared scratch comes first"
        name = f"shared{self._shared_regions or ''}"
        self._prologue.append(f"{name} = pointer(table, {self._slot(Scratch(self._shared))})")
        self._shared += _aligned(nbytes)
        self._shared_regions += 1
        return name

    def errors(self) -> str:
        """The int64 variable to which an error word adds the number of a body's node."""
        if "errors" not in self._names:
            self._names["errors"] = "errors"
            self._prologue.append(f"errors = word(table, {self._slot(ErrorBase())})")
        return "errors"

    def require(self, routine: tuple[str, str]) -> None:
        """Note that the text calls a shared routine, given as its symbol and source."""
        symbol, source = routine
        self._requires[symbol] = source

    def scope(self, position: int) -> int:
        """The alias scope of an argument or result: what the planner may lay in one place has one scope."""
        return self._scopes[position]

    def new_scope(self) -> int:
        """An alias scope for memory of the kernel's own."""
        self._extra_scopes += 1
        return len(self.types) + self._extra_scopes - 1

    def _slot(self, entry: Entry) -> int:
        self._table.append(entry)
        return len(self._table) - 1

    def _name(self, key: Any, prefix: str, define: Any) -> str:
        if key not in self._names:
            name = f"{prefix}{sum(1 for k in self._names if isinstance(k, tuple) and k[0] == key[0])}"
            self._names[key] = name
            self._prologue.append(define(name))
        return self._names[key]

    # -------------------------------------------------------------------------------------------- text

    def line(self, text: str, comment: str = "") -> None:
        """One line of the body."""
        self._lines.append("    " * self._depth + text + (f"  # {comment}" if comment else ""))

    @contextlib.contextmanager
    def block(self, header: str, comment: str = "") -> Iterator[None]:
        """``header`` and an indented block. A block that stays empty is left out, header included."""
        at = len(self._lines)
        self.line(header, comment)
        self._depth += 1
        yield
        self._depth -= 1
        if len(self._lines) == at + 1:
            del self._lines[at:]

    @property
    def memory_cost(self) -> float:
        """Nanoseconds that moving all arguments and results takes at least where they do not fit into the caches."""
        nbytes = sum(t.nbytes for t in self.types)
        return nbytes * PER_BYTE if nbytes > FITS_CACHE else 0.0

    def code(self, units: int, work: float, then: Code | None = None) -> Code:
        """The finished kernel."""
        prologue = ["    " + line for line in self._prologue]
        text = [f"# {self._title}", "def kernel(table, thread, threads):", *prologue, *self._lines, "    return 0", ""]
        neutral = "\n".join(text)
        symbol = "k_" + hashlib.sha256(neutral.encode()).hexdigest()[:16]
        source = neutral.replace("def kernel(", f"def {symbol}(", 1)
        scratch = max(self._shared + self._own, then.scratch if then else 0)
        requires = tuple(self._requires.items())
        return Code(source, symbol, tuple(self._table), scratch, max(units, 1), work, then, requires)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // SCRATCH_ALIGNMENT) * SCRATCH_ALIGNMENT


def alias_scopes(args: tuple[TensorType, ...], results: tuple[TensorType, ...]) -> tuple[int, ...]:
    """One scope per buffer; an argument shares that of every result that could be written in its place.

    Which pairs do share memory is the planner's decision, and the text must not depend on it.
    """
    scopes = list(range(len(args) + len(results)))
    for r, result in enumerate(results, len(args)):
        for a, arg in enumerate(args):
            if arg.dtype.itemsize == result.dtype.itemsize and arg.size == result.size and scopes[a] != scopes[r]:
                low, high = sorted((scopes[a], scopes[r]))
                scopes = [low if s == high else s for s in scopes]
    return tuple(scopes)


# ------------------------------------------------------------------------------------------------ costs


#: Estimated cost, in nanoseconds for 16 lanes of f32, of ops that take longer than an addition (measured with AVX-512).
_SLOW = {
    "div": 1.2, "sqrt": 1.9, "rsqrt": 4.5, "exp": 1.5, "expm1": 2.5, "log": 5.0, "log1p": 5.0, "tanh": 4.0,
    "sigmoid": 4.0, "erf": 4.5, "erfc": 9.0, "ndtr": 10.0, "sin": 4.0, "cos": 4.0, "atan2": 5.0, "pow": 20.0,
    "floor_divide": 30.0,
    "remainder": 25.0, "random_bits": 20.0, "exp2": 1.5, "log2": 5.0, "log10": 5.0, "cbrt": 4.0, "tan": 5.0, "asin": 5.0,
    "acos": 5.0, "atan": 4.0, "sinh": 4.0, "cosh": 4.0, "asinh": 8.0, "acosh": 8.0, "atanh": 8.0, "fmod": 25.0,
}  # fmt: skip
#: Nanoseconds for 16 lanes of f32: an addition, and accesses by their stride along the lanes.
CHEAP, CONTIGUOUS, STRIDED, SPLAT = 0.3, 0.7, 8.0, 0.3


def op_cost(node: Node) -> float:
    """Estimated nanoseconds for 16 lanes of an elementwise op."""
    cost = _SLOW.get(node.op.name, CHEAP)
    wide = compute_dtype(node.type.dtype)
    return cost * 3.0 if wide is f64 else cost * 2 if wide.itemsize == 8 else cost


def text_size(node: Node) -> int:
    """How much machine code an op is, counted in plain ops."""
    return 4 if node.op.name in _SLOW else 1
