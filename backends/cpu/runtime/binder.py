"""Executables: programs that can be called.

The usual call is one generated Python function and one call into native code, which checks the headers of the arrays,
writes their addresses into a frame and runs the tape without the GIL. Whatever that code does not take as it is goes
the long way round, through `_Core.call_with_care`: conversions, donation that is not possible, errors, missing frames
and threads.
"""

from __future__ import annotations

import ctypes
import itertools
import linecache
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphc.backends.cpu.runtime import driver as native
from graphc.backends.cpu.runtime.frame import (
    Array,
    Context,
    Frame,
    FrameLayout,
    copy_constants,
    donated_inputs,
    fresh_outputs,
    link_tape,
)
from graphc.backends.cpu.runtime.loader import LoadedCode, load_objects
from graphc.backends.cpu.runtime.program import Program, Spec
from graphc.backends.cpu.runtime.pyapi import (
    acquire_lock,
    allocate_lock,
    builtin_function,
    free_lock,
    release_lock,
)
from graphc.backends.cpu.runtime.team import TEAM, available_cores
from graphc.remarks import remark

ErrorFactory = Callable[[int, int], Exception]
"""(code, node) of a kernel's error word to the exception to raise."""

_ERRORS: dict[int, type[Exception]] = {1: IndexError, 2: np.linalg.LinAlgError, 3: FloatingPointError}
_NUMBER_KINDS = {bool: "biufcV", int: "iufcV", float: "fcV", complex: "c"}
"""Python scalar type to the kinds of dtypes that take it; V are the floats of ml_dtypes."""

_serial_numbers = itertools.count()
_alive: weakref.WeakSet[_Core] = weakref.WeakSet()


class Executable:
    """A program with its machine code and memory.

    Args:
        program: what to run.
        code: its kernels, linked or as object files.
        owned: an array for each of `program.owned`, used in place: C-contiguous, aligned, writeable, exact dtype.
        on_error: makes the exception for a kernel's error word; by default IndexError, LinAlgError or
            FloatingPointError with the text of the program's error table.
        threads: the most threads to use. By default as many as the program and this process's cores allow.
        serial: whether calls exclude each other; by default they do if there are owned arrays.
    """

    def __init__(
        self,
        program: Program,
        code: LoadedCode | Sequence[bytes],
        *,
        owned: Sequence[Array] = (),
        on_error: ErrorFactory | None = None,
        threads: int | None = None,
        serial: bool | None = None,
    ) -> None:
        linked = code if isinstance(code, LoadedCode) else load_objects(code)
        allowed = min(program.threads, available_cores(), threads or program.threads)
        serial = bool(program.owned) if serial is None else serial
        self._core = _Core(program, linked, owned, on_error or _table_errors(program), max(1, allowed), serial)
        self.call: Callable[[Sequence[Any]], list[Array]] = _generate_call(self._core)
        """Runs the program: one object per input in, one array per output out ."""

    @property
    def program(self) -> Program:
        """What it runs."""
        return self._core.program

    @property
    def threads(self) -> int:
        """The most threads that a call uses."""
        return self._core.threads

    @property
    def frame_bytes(self) -> int:
        """What one frame takes: the memory of a call besides arguments and results."""
        return self._core.layout.size

    @property
    def owned(self) -> tuple[Array, ...]:
        """The arrays that are bound at present."""
        return self._core.owned

    def bind_owned(self, arrays: Sequence[Array]) -> None:
        """Binds other arrays; waits for a call that is under way.

        Raises:
            TypeError: an array is not of the declared dtype and shape, or cannot be used in place.
        """
        self._core.bind_owned(arrays)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keeps calls out: what is read from owned arrays inside belongs to one point in time. Only if serial."""
        with self._core.exclusive():
            yield


class _Core:
    """What a call needs: linked tape, constants, frames, context. The generated function keeps it alive."""

    def __init__(
        self,
        program: Program,
        code: LoadedCode,
        owned: Sequence[Array],
        on_error: ErrorFactory,
        threads: int,
        serial: bool,
    ) -> None:
        self.program = program
        self.threads = threads
        self.layout = FrameLayout(program, threads)
        self.owned = _checked_owned(program, owned)
        self._code = code
        self._on_error = on_error
        self._constants = copy_constants(program)
        self._frames: list[Frame] = []
        self._growing = threading.Lock()
        self._lock = self._new_lock() if serial else 0
        self._exclusive: int | None = None
        self._torn = False
        self._warned: set[int] = set()
        self.context = Context(program, link_tape(program, code), team=TEAM.address, threads=threads, lock=self._lock)
        self.run = native_runner(self.context, program)
        _alive.add(self)

    def _new_lock(self) -> int:
        lock = allocate_lock()
        weakref.finalize(self, free_lock, lock).atexit = False
        return lock

    # Frames and owned memory

    def add_frame(self) -> None:
        """One more frame for the pool, unless there is one and a call at a time."""
        with self._growing:
            if self._lock and self._frames:
                return
            frame = self.layout.make(self._constants, self.owned)
            self._frames.append(frame)
            _put_frame(self.context, frame)

    def bind_owned(self, arrays: Sequence[Array]) -> None:
        owned = _checked_owned(self.program, arrays)
        with self.exclusive(), self._growing:
            self.owned = owned
            self._torn = False
            self._frames.clear()
            self.context.empty_pool()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        if not self._lock:
            raise RuntimeError("the calls of this executable do not exclude each other")
        acquire_lock(self._lock)
        self._exclusive = threading.get_ident()
        try:
            yield
        finally:
            self._exclusive = None
            release_lock(self._lock)

    def start_anew(self) -> None:
        """In a forked child: calls of other threads do not exist here, so all frames are free, and so is the lock."""
        self._growing = threading.Lock()
        self.context.empty_pool()
        for frame in self._frames:
            frame.reset()
            _put_frame(self.context, frame)
        if self._lock and self._exclusive != threading.get_ident():
            self._torn = not acquire_lock(self._lock, wait=False) and self._exclusive is None
            if self._torn:
                self._frames.clear()
                self.context.empty_pool()  # without a frame, every call comes to _run_to_end and is refused
            self._exclusive = None
            self._lock = self._new_lock()
            self.context.set_lock(self._lock)

    # The long way round

    def call_with_care(self, arguments: Sequence[Any], status: int) -> list[Array]:
        """Does what the native call that returned `status` could not."""
        if status > 0:
            raise self._error(status)
        arrays = self._convert(arguments)
        fresh = [np.empty(output.shape, output.numpy) for output in fresh_outputs(self.program)]
        self._run_to_end((*arrays, *fresh))
        rest = iter(fresh)
        return [next(rest) if output.donated is None else arrays[output.donated] for output in self.program.outputs]

    def _run_to_end(self, arrays: tuple[Array, ...]) -> None:
        if self._torn:
            raise RuntimeError(
                "a call was under way in another thread when this process was forked: what it was "
                "writing is half written here; bind owned arrays anew"
            )
        while status := self.run(*arrays):
            if status > 0:
                raise self._error(status)
            if status == native.NO_FRAME:
                self.add_frame()
            elif status == native.NO_TEAM:
                self.threads = min(self.threads, TEAM.grow(self.threads))
                self.context.set_threads(self.threads)
            else:
                raise AssertionError(f"the native call returned {status}")

    def _error(self, word: int) -> Exception:
        return self._on_error(word >> 32, word & 0xFFFFFFFF)

    def _convert(self, arguments: Sequence[Any]) -> list[Array]:
        """The arguments as arrays that native code takes."""
        specs = self.program.inputs
        if len(arguments) != len(specs):
            names = ", ".join(_name(spec, k) for k, spec in enumerate(specs))
            raise TypeError(f"{len(arguments)} arguments, expected {len(specs)}: {names}")
        arrays = [
            _as_array(argument, spec, _name(spec, k))
            for k, (argument, spec) in enumerate(zip(arguments, specs, strict=True))
        ]
        self._copy_undonatable(arguments, arrays)
        return arrays

    def _copy_undonatable(self, arguments: Sequence[Any], arrays: list[Array]) -> None:
        """Copies the donated arguments whose memory cannot be taken, and warns about each of them once."""
        specs, donated = self.program.inputs, donated_inputs(self.program)
        reasons = {k: _why_not_in_place(arguments[k], arrays[k]) for k in donated}
        for k, j in itertools.combinations((k for k in donated if not reasons[k]), 2):
            if np.may_share_memory(arrays[k], arrays[j]):
                raise ValueError(f"the donated arguments {_name(specs[k], k)} and {_name(specs[j], j)} share memory")
        for k in donated:
            reasons[k] = reasons[k] or next(
                (
                    f"it shares memory with {_name(specs[j], j)}"
                    for j, other in enumerate(arguments)
                    if j not in reasons and isinstance(other, np.ndarray) and np.may_share_memory(arrays[k], other)
                ),
                "",
            )
        for k in (k for k in donated if reasons[k]):
            arrays[k] = arrays[k].copy()
        self._warn({k: reason for k, reason in reasons.items() if reason and k not in self._warned})

    def _warn(self, reasons: dict[int, str]) -> None:
        if not reasons:
            return
        self._warned.update(reasons)
        listed = "; ".join(f"{_name(self.program.inputs[k], k)}: {reason}" for k, reason in reasons.items())
        remark(f"donated arguments that are copied instead of reused: {listed}")


def _put_frame(context: Context, frame: Frame) -> None:
    ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(native.driver().put_frame)(
        context.address, frame.address
    )


def native_runner(context: Context, program: Program) -> Callable[..., int]:
    """`run(*arrays)`: the driver's builtin, which reads the array objects itself."""
    address = native.driver().call
    return python_runner(context, program) if address is None else builtin_function(address, context.words)


def python_runner(context: Context, program: Program) -> Callable[..., int]:
    """The same for a Python whose arrays native code cannot read: they are checked here and passed by address."""
    run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(native.driver().run)
    specs: tuple[Spec, ...] = (*program.inputs, *fresh_outputs(program))
    donated = donated_inputs(program)

    def call(*arrays: Array) -> int:
        if len(arrays) != len(specs):
            return native.WRONG_COUNT
        for k, (array, spec) in enumerate(zip(arrays, specs, strict=True)):
            as_declared = type(array) is np.ndarray and array.dtype is spec.numpy and array.shape == spec.shape
            flags = array.flags if as_declared else None
            if not (flags and flags.c_contiguous and flags.aligned and (flags.writeable or k not in donated)):
                return -1 - k
        return run(context.address, (ctypes.c_int64 * len(arrays))(*(array.ctypes.data for array in arrays)))

    return call


def _generate_call(core: _Core) -> Callable[[Sequence[Any]], list[Array]]:
    """Writes the Python function for calls of this signature: allocate the outputs, run, return."""
    program = core.program
    scope: dict[str, Any] = {"empty": np.empty, "run": core.run, "call_with_care": core.call_with_care}
    allocations, results, fresh = [], [], []
    for k, output in enumerate(program.outputs):
        if output.donated is not None:
            results.append(f"arguments[{output.donated}]")
            continue
        scope[f"dtype{k}"] = output.numpy
        allocations.append(f"    out{k} = empty({output.shape!r}, dtype{k})\n")
        results.append(f"out{k}")
        fresh.append(f"out{k}")
    source = (
        "def call(arguments):\n"
        + "".join(allocations)
        + f"    status = run({', '.join(['*arguments', *fresh])})\n"
        + "    if status:\n"
        + "        return call_with_care(arguments, status)\n"
        + f"    return [{', '.join(results)}]\n"
    )
    name = f"<graphc call {next(_serial_numbers)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    weakref.finalize(core, linecache.cache.pop, name, None)
    exec(compile(source, name, "exec"), scope)
    return scope["call"]


def _table_errors(program: Program) -> ErrorFactory:
    def error(code: int, node: int) -> Exception:
        return _ERRORS.get(code, RuntimeError)(program.errors.get(node, f"error {code} in node {node}"))

    return error


def _checked_owned(program: Program, arrays: Sequence[Array]) -> tuple[Array, ...]:
    if len(arrays) != len(program.owned):
        raise TypeError(f"{len(arrays)} owned arrays, expected {len(program.owned)}")
    for k, (array, spec) in enumerate(zip(arrays, program.owned, strict=True)):
        name = _name(spec, k, "owned array")
        if not isinstance(array, np.ndarray) or array.dtype != spec.numpy or array.shape != spec.shape:
            raise TypeError(f"{name} is {_describe(array)}, expected {spec}")
        if not (array.flags.carray and array.dtype.isnative):
            raise TypeError(f"{name} cannot be used in place: it is not C-contiguous, aligned and writeable")
    return tuple(arrays)


def _as_array(value: Any, spec: Spec, name: str) -> Array:
    """`value` as the array that `spec` declares: itself if it is one, else a converted copy."""
    if type(value) in _NUMBER_KINDS and spec.shape == () and spec.numpy.kind in _NUMBER_KINDS[type(value)]:
        try:
            return np.array(value, spec.numpy)
        except OverflowError as error:
            raise OverflowError(f"{name}: {error}") from None
    try:
        array = np.asarray(value)
    except ValueError:
        raise TypeError(f"{name} is {_describe(value)}, expected {spec}") from None
    if array.dtype.newbyteorder("=") != spec.numpy or array.shape != spec.shape:
        raise TypeError(f"{name} is {_describe(value)}, expected {spec}")
    array = np.require(array, spec.numpy, ["C_CONTIGUOUS", "ALIGNED"])
    return array if array.dtype is spec.numpy else array.view(spec.numpy)


def _why_not_in_place(argument: Any, array: Array) -> str:
    """Why the memory of a donated argument cannot be taken over; empty if it can."""
    if type(argument) is not np.ndarray:
        return f"it is a {type(argument).__name__}, not an ndarray"
    if argument is not array:
        return "it is not a C-contiguous, aligned array in native byte order"
    return "" if array.flags.writeable else "it is read-only"


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray | np.generic):
        return str(Spec(str(value.dtype), value.shape))
    return f"{value!r:.60}, a Python {type(value).__name__}"


def _name(spec: Spec, k: int, kind: str = "argument") -> str:
    return repr(spec.name) if spec.name else f"{kind} {k}"


def _start_anew() -> None:
    for core in list(_alive):
        core.start_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
