"""Time per kernel: the same kernels on the same memory, a clock between them.

The program is assembled once more with a clock after every kernel: a small native function that adds the time since the
last reading to the kernel's slot. Kernels of one stage run one after the other here, each on as many threads as usual.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from graphc import config
from graphc.backends.cpu import CompiledCode, Runner, compile_sources, tiling
from graphc.backends.cpu.assemble import _Assembler
from graphc.backends.cpu.runtime import Call, TapeBuilder, Word, load_objects
from graphc.backends.cpu.runtime.team import available_cores
from graphc.executable import operations
from graphc.looking import Inspectable
from graphc.passes.schedule import Kernel, Schedule
from graphc.types import f32

CLOCK = "graphc_clock"
I64, I32 = ir.IntType(64), ir.IntType(32)


@dataclass(frozen=True)
class Row:
    """One kernel: how often it ran per call, µs per call in it, bytes and operations per call, the user's lines."""

    name: str
    template: str
    runs: float
    microseconds: float
    nbytes: int
    flops: float
    lines: tuple[str, ...]

    @property
    def gigabytes_per_second(self) -> float:
        return self.nbytes * self.runs / (1e3 * self.microseconds) if self.microseconds else 0.0

    @property
    def gigaflops(self) -> float:
        return self.flops * self.runs / (1e3 * self.microseconds) if self.microseconds else 0.0


@dataclass(frozen=True)
class Limits:
    """What this machine was measured to do with the same number of threads: copying memory, and fused multiply-adds."""

    gigabytes_per_second: float
    gigaflops: float


@dataclass(frozen=True)
class Profile(Inspectable):
    """Kernels by time. Prints as a table, and draws the schedule with the figures of each kernel (``draw``, ``to_dot``).

    ``limit`` is the share of the nearer one of the machine's measured limits.
    """

    rows: tuple[Row, ...]
    limits: Limits
    schedule: Schedule

    @property
    def microseconds(self) -> float:
        return sum(row.microseconds for row in self.rows)

    def share_of_limit(self, row: Row) -> float:
        return max(row.gigabytes_per_second / self.limits.gigabytes_per_second, row.gigaflops / self.limits.gigaflops)

    @property
    def figures(self) -> dict[str, str]:
        """One line for each kernel, by name: what a drawing shows."""
        total = self.microseconds or 1.0
        return {
            row.name: f"{row.microseconds:.2f} µs ({row.microseconds / total:.0%}), {row.gigabytes_per_second:.1f} GB/s, "
            f"{row.gigaflops:.1f} GFLOP/s, {self.share_of_limit(row):.0%} of the limit"
            for row in self.rows
        }

    def __str__(self) -> str:
        total = self.microseconds or 1.0
        head = ("kernel", "template", "µs", "share", "GB/s", "GFLOP/s", "limit", "lines")
        table = [head]
        for row in sorted(self.rows, key=lambda r: -r.microseconds):
            table.append(
                (
                    row.name + (f" ×{row.runs:g}" if row.runs != 1 else ""),
                    row.template,
                    f"{row.microseconds:.2f}",
                    f"{row.microseconds / total:.0%}",
                    f"{row.gigabytes_per_second:.1f}",
                    f"{row.gigaflops:.1f}",
                    f"{self.share_of_limit(row):.0%}",
                    ", ".join(row.lines[:3]) + (" …" if len(row.lines) > 3 else ""),
                )
            )
        widths = [max(len(r[k]) for r in table) for k in range(len(head))]
        lines = []
        for r in table:
            cells = [
                c.ljust(w) if k in (0, 1, 7) else c.rjust(w) for k, (c, w) in enumerate(zip(r, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        lines.append(
            f"{total:.1f} µs in kernels; measured limits of this machine: copying "
            f"{self.limits.gigabytes_per_second:.1f} GB/s, multiply-adds {self.limits.gigaflops:.0f} GFLOP/s"
        )
        return "\n".join(lines)


class _ClockedTape(TapeBuilder):
    """A tape with a clock after every kernel. ``readings``: a kernel's table, its nanoseconds and how often it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.last = np.zeros(1, np.int64)
        self.outside = np.zeros(2, np.int64)  # time between kernels
        self.readings: list[tuple[int, np.ndarray]] = []

    def clock(self, reading: np.ndarray) -> None:
        addresses = (clock_address(), self.last.ctypes.data, reading.ctypes.data)
        super().stage(Call(CLOCK, self.table([Word.value(a) for a in addresses])))

    def stage(self, *calls: Call, serial: bool = False) -> None:
        for call in calls:
            self.readings.append((call.table, np.zeros(2, np.int64)))
            self.clock(self.outside)
            super().stage(call)
            self.clock(self.readings[-1][1])


class _ClockedAssembler(_Assembler):
    """Assembles with a clocked tape and remembers which kernel each table is of."""

    def __init__(self, plan: Any, owned: tuple[int, ...]) -> None:
        super().__init__(plan, owned)
        self.tape: _ClockedTape = _ClockedTape()
        self.kernel_of: dict[int, tuple[Kernel, Schedule, int]] = {}  # by table: also the number of the kernel's step

    def _calls(self, plan: Any, binding: Any, kernel: Kernel, code: Any) -> Any:
        calls = super()._calls(plan, binding, kernel, code)
        for step, (call, _) in enumerate(calls):
            self.kernel_of[call.table] = (kernel, plan.schedule, step)
        return calls


def profile(executable: Any, leaves: Sequence[Any], repeat: int) -> Profile:
    """Run ``executable`` on ``leaves`` with clocks, ``repeat`` times after one warm-up, on copies of what it owns."""
    plan, options = executable.plan, executable.options
    assembler = _ClockedAssembler(plan, tuple(options.owned))
    assembled = assembler.assemble()
    sources = {k: v for k, v in assembled.sources.items() if k != CLOCK}
    objects = {**compile_sources(sources), CLOCK: clock_object()}
    runner = Runner(CompiledCode(assembled.program, objects, {}, {}, assembled.late_errors), options.threads)
    if options.owned:
        runner.bind([np.array(a, order="C") for a in executable.runner.owned])
    copies = [np.array(v) if isinstance(v, np.ndarray) else v for v in leaves]
    runner.call(copies)
    readings = assembler.tape.readings
    for _, reading in readings:
        reading[:] = 0
    for _ in range(repeat):
        runner.call(copies)
    rows: dict[Kernel | None, Row] = {}
    for table, reading in readings:
        kernel, schedule, step = assembler.kernel_of.get(table, (None, None, 0))
        nanoseconds, runs = map(int, reading)
        row = rows.get(kernel) or describe(kernel, schedule, top=plan.schedule)
        # A kernel has a table for each of its steps, and again where a loop does two iterations at a time.
        rows[kernel] = replace(
            row,
            runs=row.runs + (runs / repeat if step == 0 else 0),
            microseconds=row.microseconds + nanoseconds / repeat / 1e3,
        )
    return Profile(tuple(rows.values()), limits(options.threads), plan.schedule)


def describe(kernel: Kernel | None, schedule: Schedule | None, top: Schedule) -> Row:
    """A kernel that has not run yet; None stands for the copies that loops make of their carries."""
    if kernel is None or schedule is None:
        return Row("copies of carries", "copy", 0.0, 0.0, 0, 0.0, ())
    values = [schedule.values[v].type for v in (*kernel.args, *kernel.results)]
    lines = tuple(str(line) for line in schedule.lines(kernel))
    nbytes = sum(t.nbytes for t in values)
    name = kernel.name if schedule is top else f"{schedule.name}.{kernel.name}"
    return Row(name, kernel.template, 0.0, 0.0, nbytes, operations(kernel.body), lines)


# ------------------------------------------------------------------------------------------------ the clock


@functools.cache
def clock_address() -> int:
    """The address of the C library's monotonic clock."""
    if sys.platform == "win32":
        raise NotImplementedError("profiling needs clock_gettime, which Windows does not have")
    address = ctypes.cast(ctypes.CDLL(None).clock_gettime, ctypes.c_void_p).value
    assert address is not None
    return address


@functools.cache
def clock_object() -> bytes:
    """``table = (address of clock_gettime, last reading, slot)``: slot[0] += now - last, slot[1] += 1, last = now."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = ir.Module("clock")
    module.triple = llvm.get_process_triple()
    pointer = I64.as_pointer()
    function = ir.Function(module, ir.FunctionType(I64, [pointer, I64, I64]), CLOCK)
    b = ir.IRBuilder(function.append_basic_block())
    table = function.args[0]
    spec = b.alloca(I64, 2)

    def word(k: int) -> ir.Value:
        return b.load(b.gep(table, [ir.Constant(I64, k)]))

    clock_type = ir.FunctionType(I32, [I32, pointer])
    monotonic = 6 if sys.platform == "darwin" else 1
    b.call(b.inttoptr(word(0), clock_type.as_pointer()), [ir.Constant(I32, monotonic), spec])
    seconds, nanos = b.load(spec), b.load(b.gep(spec, [ir.Constant(I64, 1)]))
    now = b.add(b.mul(seconds, ir.Constant(I64, 10**9)), nanos)
    last, slot = b.inttoptr(word(1), pointer), b.inttoptr(word(2), pointer)
    count = b.gep(slot, [ir.Constant(I64, 1)])
    b.store(b.add(b.load(slot), b.sub(now, b.load(last))), slot)
    b.store(b.add(b.load(count), ir.Constant(I64, 1)), count)
    b.store(now, last)
    b.ret(ir.Constant(I64, 0))
    parsed = llvm.parse_assembly(str(module))
    machine = llvm.Target.from_default_triple().create_target_machine(reloc="pic", codemodel="default")
    return machine.emit_object(parsed)


# ------------------------------------------------------------------------------------------------ limits


@functools.cache
def limits(threads: int | None) -> Limits:
    """What this machine does with so many threads: copying 64 MB, and the register tile on operands in the first cache.

    Measured once per process, in about a fifth of a second.
    """
    count = min(threads or available_cores(), available_cores())
    return Limits(copy_bandwidth(threads), tile_peak(count))


def copy_bandwidth(threads: int | None) -> float:
    """GB/s, read and written, of a copy from 32 MB to 32 MB by a kernel of graphc's; the best of 7."""
    import graphc

    n = 8 << 20
    source, target = np.ones(n, np.float32), np.ones(n, np.float32)
    copy = graphc.compile(lambda x, y: x + np.float32(1), donate="y", threads=threads)
    copy(source, target)
    return 2 * source.nbytes / best_seconds(lambda: copy(source, target)) / 1e9


#: of the tile's operands in `tile_peak`: the depth at which both fit into 32 KB, and panels per call
DEPTH, PANELS, CALLS = 128, 64, 16


def tile_peak(threads: int) -> float:
    """GFLOP/s of the micro-kernel of contractions in f32, on ``threads`` threads at once; the best of 7."""
    tile = tiling.choose_tile(1 << 12, 1 << 12, f32, tiling.registers(config.get(config.CPU)))
    symbol, source = tiling.strip(f32, tile)
    linked = load_objects(list(compile_sources({symbol: source}).values()))
    strip = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(linked.address(symbol))
    tables = []
    arrays = []  # a, b and c of each thread
    for _ in range(threads):
        a = np.ones((tile.rows, DEPTH), np.float32)
        b = np.ones((DEPTH, tile.columns), np.float32)
        c = np.ones((tile.rows, PANELS * tile.columns), np.float32)
        arrays.append((a, b, c))
        words = (a.ctypes.data, DEPTH, 1, b.ctypes.data, tile.columns, 0, PANELS, c.ctypes.data, c.shape[1], DEPTH, 0)
        tables.append(np.array(words, np.int64))

    def work(table: np.ndarray, barrier: threading.Barrier) -> None:
        barrier.wait()
        for _ in range(CALLS):
            strip(table.ctypes.data, 0, 1)
        barrier.wait()

    def round_seconds() -> float:
        barrier = threading.Barrier(threads + 1)
        workers = [threading.Thread(target=work, args=(table, barrier)) for table in tables]
        for worker in workers:
            worker.start()
        barrier.wait()
        begin = time.perf_counter()
        barrier.wait()
        seconds = time.perf_counter() - begin
        for worker in workers:
            worker.join()
        return seconds

    flops = 2.0 * tile.rows * tile.columns * DEPTH * PANELS * CALLS * threads
    return flops / min(round_seconds() for _ in range(7)) / 1e9


def best_seconds(call: Callable[[], Any], count: int = 7) -> float:
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)
