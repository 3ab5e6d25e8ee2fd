"""Tiny kernels on int64 data for the tests of the runtime, written in the runtime's own native language."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm

from graphc.backends.cpu.runtime.native import Code, Module, Value

Body = Callable[[Code, Value, Value, Value], None]


def kernel_object(name: str, body: Body) -> bytes:
    """An object file with one kernel, `body(code, table, thread, threads)`."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = Module(name)
    with module.function(name, 3, exported=True) as (_, code, (table, thread, threads)):
        body(code, table, thread, threads)
    parsed = llvm.parse_assembly(str(module.ir))
    parsed.triple = llvm.get_process_triple()
    return llvm.Target.from_default_triple().create_target_machine(jit=True).emit_object(parsed)


def _add(code: Code, table: Value, thread: Value, threads: Value) -> None:
    """table: x, out, n, c.  out = x + c over the units of this rank."""
    words = code.words(table)
    x, out, c = code.words(words[0]), code.words(words[1]), words[3]
    with code.repeat(words[2]) as i, code.when(_mine(i, thread, threads)):
        out[i] = x[i] + c


def _accumulate(code: Code, table: Value, thread: Value, threads: Value) -> None:
    """table: x, total, n.  total[0] = total[0] * 3 + sum(x): the order of calls shows."""
    words = code.words(table)
    x, total = code.words(words[0]), code.words(words[1])
    running = code.variable(total[0] * 3)
    with code.repeat(words[2]) as i:
        running.set(running.get() + x[i])
    total[0] = running.get()


def _below(code: Code, table: Value, thread: Value, threads: Value) -> None:
    """table: x, out, limit.  out[0] = x[0] < limit."""
    words = code.words(table)
    x, out = code.words(words[0]), code.words(words[1])
    out[0] = (x[0] < words[2]).choose(1, 0)


def _ranks(code: Code, table: Value, thread: Value, threads: Value) -> None:
    """table: out.  out[thread] += 1 + 100 * threads."""
    out = code.words(code.words(table)[0])
    out.add(thread, threads * 100 + 1)


def _fail(code: Code, table: Value, thread: Value, threads: Value) -> None:
    """table: x, node, step.  Fails with code x[0] in node + step * thread, if x[0] is not 0."""
    words = code.words(table)
    number = code.words(words[0])[0]
    code.give((number != 0).choose(number * (1 << 32) + words[1] + words[2] * thread, 0))


def _spin(code: Code, table: Value, thread: Value, threads: Value) -> None:
    """table: x, out.  Counts to x[0] and says so in out[0]."""
    words = code.words(table)
    out = code.words(words[1])
    with code.repeat(code.words(words[0])[0]) as i:
        out.exchange(0, i + 1)


def _bits(code: Code, table: Value, thread: Value, threads: Value) -> None:
    """table: x, out, width.  out[0] = the first `width` bytes of x."""
    words = code.words(table)
    for width in (1, 2, 4, 8):
        with code.when(words[2] == width):
            code.words(words[1])[0] = code.load(words[0], 8 * width, signed=False)


def _mine(unit: Value, thread: Value, threads: Value):  # noqa: ANN202
    """Units in turn: there is no remainder in the language, but crews of the tests have 1, 2 or 4 members."""
    return (unit & (threads - 1)) == thread


_BODIES: dict[str, Body] = {
    "add": _add,
    "accumulate": _accumulate,
    "below": _below,
    "ranks": _ranks,
    "fail": _fail,
    "spin": _spin,
    "bits": _bits,
}


@cache
def objects(*names: str) -> tuple[bytes, ...]:
    """The object files of kernels above."""
    return tuple(kernel_object(name, _BODIES[name]) for name in names)


def executable(builder, *, threads: int = 2, **description):  # noqa: ANN001, ANN201
    """An executable of what a TapeBuilder holds; `description` is split between the program and the executable."""
    from graphc.backends.cpu.runtime import Executable

    mine = {key: description.pop(key) for key in ("owned_arrays", "on_error", "serial") if key in description}
    if "owned_arrays" in mine:
        mine["owned"] = mine.pop("owned_arrays")
    program = builder.program(threads=threads, **description)
    return Executable(program, objects(*program.kernels), **mine)


def run_python(script: str, timeout: float = 120) -> str:
    """What ``script`` prints in a process of its own, which must end well."""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={"PYTHONPATH": f"{here.parent}:{here}", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
