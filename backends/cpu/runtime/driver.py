"""The driver: native code that interprets a tape on every thread of a team, and the way from Python into it.

It is written as LLVM IR (see `native.py`) and compiled when a process first needs it, so nothing has to be stored with
an executable, and the addresses of this process's C functions are constants in it. The functions, bottom up:

    scalar        reads an integer that control flow depends on
    wait          waits for a word to change
    wake          wakes a thread that sleeps
    arrive        the first half of a barrier
    barrier       waits for all threads of a job
    interpret     runs a tape as one thread of a job
    worker        the life of a thread of the team
    run_team      runs a tape with the team
    run           takes a frame, binds the pointers of a call, runs its tape
    call          `run` as a Python builtin, which reads the pointers from the array objects

**Waiting.** A thread that waits spins for a while, offering its core now and then, then marks itself as parked and
sleeps on its own lock; whoever makes its condition true looks at the mark. Both first write, then read the other's
word, in sequentially consistent order, so one of them sees the other. CPython's lock is a binary semaphore on all
platforms, and needs no GIL.

**Errors.** A kernel's error word stops the thread that got it, which arrives at the barrier where the others are or
will be and leaves. The last to arrive publishes in the phase word whether anyone failed: all the others then leave at
the same barrier, having run the same kernels. The call returns the word of the first failing kernel on the tape, of its
ranks the smallest: the same one whatever the number of threads was, if kernels report their smallest.

**Shared state.** Loop counters and advancing pointers live in the frame and are moved by thread 0 between two
barriers, rather than by every thread in a table of its own: kernels read their tables from one place, a frame costs
the same for any team, and a loop of parallel stages has barriers anyway.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from graphc.backends.cpu.runtime import tape as isa
from graphc.backends.cpu.runtime.native import INT32, WORD, Code, Module, Value, Variable
from graphc.backends.cpu.runtime.pyapi import ObjectLayout, c_api, object_layout

MAX_THREADS = 256

# The team, in words. What different threads write lies in different cache lines.
OWNER, COUNT, PHASE, RUNNING, FAILED = 0, 8, 16, 24, 32
WORKERS, IDLE_SPINS, BARRIER_SPINS, JOB_TAPE, JOB_FRAME, JOB_THREADS = range(40, 46)
PARKED = 48
LOCKS = PARKED + MAX_THREADS
ERROR_AT = LOCKS + MAX_THREADS
ERROR_WORD = ERROR_AT + MAX_THREADS
LINES = ERROR_WORD + MAX_THREADS
LINE_WORDS = 8
TEAM_WORDS = LINES + LINE_WORDS * MAX_THREADS
LINE_MAIL, LINE_THREAD, LINE_TEAM = range(3)
"""A thread's own line: jobs posted to it, its number, the address of the team."""

SPINS_PER_YIELD = 32
"""Turns of a spin loop before the thread offers its core, a power of two. The thread that it waits for may need just
this core: without yields two threads that the scheduler put on one core took 20 µs for every barrier, for seconds."""

# A context (one per executable), in words: a header, a record per argument, then what the records point to.
C_TAPE, C_TEAM, C_THREADS, C_ARGUMENTS, C_WORDS, C_SERIAL = 0, 1, 2, 3, 4, 5
C_POOL, C_POOL_LOCK = 8, 9
C_HEADER = 16
A_DESCR, A_NDIM, A_DIMS, A_FLAGS, A_BYTES, A_DONATED, A_SCALAR, A_FIXUPS, A_FIXUP_COUNT = range(9)
A_WORDS = 9
NO_SCALAR, BOOL, FLOAT32, FLOAT64 = 0, 1, 1032, 1064
"""A_SCALAR: which Python numbers an argument takes. Integers are their bits, 8 to 64, negative if unsigned."""

# A frame: its address is that of its first table word, the header lies before it, the words' initial values after them.
F_NEXT, F_LAST = -1, -2
"""Next frame in the pool; the pointer that argument 0 had in the last call (argument k: F_LAST - k)."""

# What `run` and `call` return: 0, a positive error word, or one of these; -1 - k for argument k not as declared.
OVERLAP, NO_FRAME, NO_TEAM, WRONG_COUNT = (-(n << 32) for n in (1, 2, 3, 4))


def _pause(code: Code) -> None:
    """Tells the core that this is a spin loop."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        code.intrinsic("llvm.x86.sse2.pause")
    elif machine in ("aarch64", "arm64"):
        code.intrinsic("llvm.aarch64.isb", 15)


def _yield(code: Code) -> None:
    """Lets another thread have this core."""
    code.call_address(_yield_address(), result=INT32)


@cache
def _yield_address() -> int:
    """The C function that gives the core to another thread."""
    if sys.platform == "win32":
        return _address(ctypes.WinDLL("kernel32").SwitchToThread)
    return _address(ctypes.CDLL(None).sched_yield)


def _address(function: Any) -> int:
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address


def _acquire(code: Code, lock: Value, wait: int) -> Value:
    """Takes a CPython lock; returns 0 if it is taken and `wait` is 0. Needs no GIL."""
    pointer = [WORD, INT32]
    return code.call_address(c_api("PyThread_acquire_lock"), lock, wait, types=pointer, result=INT32)


def _release(code: Code, lock: Value) -> None:
    code.call_address(c_api("PyThread_release_lock"), lock, result=ir.VoidType())


class _Driver:
    """Writes the module. One method per native function; methods that only inline start with an underscore."""

    def __init__(self, layout: ObjectLayout | None) -> None:
        self.module = Module("graphc_driver")
        self.scalar = self._scalar()
        self.wait = self._wait()
        self.wake = self._wake()
        self.arrive = self._arrive()
        self.barrier = self._barrier()
        self.interpret = self._interpret()
        self.worker = self._worker()
        self.run_team = self._run_team()
        self.take_frame = self._take_frame()
        self.put_frame = self._put_frame()
        self.overlaps = self._overlaps()
        self.bind = self._bind()
        self.run = self._run()
        self._spin()
        if layout:
            self.matches = self._matches(layout)
            self.number = self._number(layout)
            self._call(layout)

    def _scalar(self) -> ir.Function:
        with self.module.function("scalar", 2) as (function, code, (address, kind)):
            for width in (1, 2, 4, 8):
                for signed in (True, False):
                    with code.when(kind == (width if signed else -width)):
                        code.give(code.load(address, 8 * width, signed))
        return function

    def _wait(self) -> ir.Function:
        """(team, thread, address, old, turns): spins, then sleeps, until the word is not `old`; who changes it, wakes."""
        with self.module.function("wait", 5) as (function, code, (team, thread, address, old, turns)):
            words, awaited = code.words(team), code.words(address)
            spins = code.variable(turns)
            mark, lock = thread + PARKED, words[thread + LOCKS]
            with code.loop() as waiting:
                waiting.leave_when(awaited.load(0) != old)
                left = spins.get()
                with code.either(left >= 1) as (spin, park):
                    with spin:
                        _pause(code)
                        spins.set(left - 1)
                        with code.when((left & (SPINS_PER_YIELD - 1)) == 0):
                            _yield(code)
                    with park:
                        words.exchange(mark, 1)
                        # Changed by now? Then take the mark back; if that is too late, a wake-up is under way.
                        sleep = code.variable(1)
                        with code.when(awaited.load(0) != old):
                            sleep.set((words.exchange(mark, 0) == 0).choose(1, 0))
                        with code.when(sleep.get() != 0):
                            _acquire(code, lock, wait=1)
        return function

    def _wake(self) -> ir.Function:
        with self.module.function("wake", 2) as (function, code, (team, thread)):
            words = code.words(team)
            mark = thread + PARKED
            with code.when(words.load(mark) != 0), code.when(words.exchange(mark, 0) != 0):
                _release(code, words[thread + LOCKS])
        return function

    def _arrive(self) -> ir.Function:
        """(team, threads, phase) -> 1 for the last thread to arrive, which starts the next phase."""
        with self.module.function("arrive", 3) as (function, code, (team, threads, phase)):
            words = code.words(team)
            with code.when(words.add(COUNT, 1) == threads - 1):
                words.store(COUNT, 0)
                words.store(PHASE, (phase | 1) + 1 + words.load(FAILED))
                with code.repeat(threads) as thread:
                    code.call(self.wake, team, thread)
                code.give(1)
        return function

    def _barrier(self) -> ir.Function:
        """(team, thread, threads) -> 1 if a thread has failed: then everybody leaves here."""
        with self.module.function("barrier", 3) as (function, code, (team, thread, threads)):
            with code.when(threads == 1):
                code.give(0)
            words = code.words(team)
            phase = words.load(PHASE)
            with code.when(code.call(self.arrive, team, threads, phase) == 0):
                code.call(self.wait, team, thread, words.address(PHASE), phase, words[BARRIER_SPINS])
            code.give(words.load(PHASE) & 1)
        return function

    def _interpret(self) -> ir.Function:
        """(tape, frame, thread, threads, team) -> error word of this thread; its kernel goes to ERROR_AT."""
        with self.module.function("interpret", 5) as (function, code, parameters):
            _Interpreter(self, code, *parameters).write()
        return function

    def _worker(self) -> ir.Function:
        """(line): waits for jobs for ever."""
        with self.module.function("worker", 1, exported=True) as (function, code, (line,)):
            mine = code.words(line)
            thread, team = mine[LINE_THREAD], mine[LINE_TEAM]
            words = code.words(team)
            seen = code.variable(0)
            with code.loop():
                code.call(self.wait, team, thread, mine.address(LINE_MAIL), seen.get(), words[IDLE_SPINS])
                seen.set(seen.get() + 1)
                job = words[JOB_TAPE], words[JOB_FRAME], thread, words[JOB_THREADS], team
                words[thread + ERROR_WORD] = code.call(self.interpret, *job)
                with code.when(words.add(RUNNING, -1) == 1):
                    code.call(self.wake, team, 0)
            code.builder.unreachable()
        return function

    def _run_team(self) -> ir.Function:
        """(tape, frame, threads, team) -> error word. The caller owns the team and is its thread 0."""
        with self.module.function("run_team", 4) as (function, code, (tape, frame, threads, team)):
            words = code.words(team)
            words.store(COUNT, 0)
            words.store(FAILED, 0)
            words.store(RUNNING, threads - 1)
            words[JOB_TAPE], words[JOB_FRAME], words[JOB_THREADS] = tape, frame, threads
            with code.repeat(threads - 1) as i:
                thread = i + 1
                words.add(thread * LINE_WORDS + (LINES + LINE_MAIL), 1)
                code.call(self.wake, team, thread)
            words[ERROR_WORD] = code.call(self.interpret, tape, frame, 0, threads, team)
            with code.loop() as others:
                running = words.load(RUNNING)
                others.leave_when(running == 0)
                code.call(self.wait, team, 0, words.address(RUNNING), running, words[BARRIER_SPINS])
            with code.when(words.load(FAILED) == 0):
                code.give(0)
            code.give(_first_error(code, words, threads))
        return function

    def _take_frame(self) -> ir.Function:
        """(context) -> a frame from the pool, or 0."""
        with self.module.function("take_frame", 1) as (function, code, (context,)):
            words = code.words(context)
            _lock(code, words, C_POOL_LOCK)
            frame = words[C_POOL]
            with code.when(frame != 0):
                words[C_POOL] = code.words(frame)[F_NEXT]
            words.store(C_POOL_LOCK, 0)
            code.give(frame)
        return function

    def _put_frame(self) -> ir.Function:
        """(context, frame): the frame is free."""
        with self.module.function("put_frame", 2, exported=True) as (function, code, (context, frame)):
            words = code.words(context)
            _lock(code, words, C_POOL_LOCK)
            code.words(frame)[F_NEXT] = words[C_POOL]
            words[C_POOL] = frame
            words.store(C_POOL_LOCK, 0)
        return function

    def _overlaps(self) -> ir.Function:
        """(context, pointers, k) -> 1 if arguments k and j share bytes and one of them is donated."""
        with self.module.function("overlaps", 3) as (function, code, (context, pointers, k)):
            records, at = code.words(context), code.words(pointers)
            mine = k * A_WORDS + C_HEADER
            start, donated = at[k], records[mine + A_DONATED]
            end = start + records[mine + A_BYTES]
            with code.repeat(records[C_ARGUMENTS]) as j:
                other = j * A_WORDS + C_HEADER
                with code.when((j != k) & ((donated | records[other + A_DONATED]) != 0)):
                    first = at[j]
                    last = first + records[other + A_BYTES]
                    # Empty arrays share nothing: their `first` is not below their `last`.
                    with code.when(start.below(last) & first.below(end) & (first != last) & (start != end)):
                        code.give(1)
        return function

    def _bind(self) -> ir.Function:
        """(context, frame, pointers) -> 0, or OVERLAP. Writes the pointers that are not those of the last call.

        Whether arrays overlap is asked for the pairs with a new pointer only: the others were asked before.
        """
        with self.module.function("bind", 3) as (function, code, (context, frame, pointers)):
            records, words, at = code.words(context), code.words(frame), code.words(pointers)
            with code.repeat(records[C_ARGUMENTS]) as k:
                pointer = at[k]
                last = code.constant(F_LAST) - k
                with code.when(words[last] != pointer):
                    with code.when(code.call(self.overlaps, context, pointers, k) != 0):
                        with code.repeat(records[C_ARGUMENTS]) as j:
                            words[code.constant(F_LAST) - j] = 0
                        code.give(OVERLAP)
                    words[last] = pointer
                    record = k * A_WORDS + C_HEADER
                    fixups = code.words(records[record + A_FIXUPS])
                    with code.repeat(records[record + A_FIXUP_COUNT]) as i:
                        words[fixups[i * 2]] = pointer + fixups[i * 2 + 1]
        return function

    def _run(self) -> ir.Function:
        """(context, pointers) -> 0, an error word, or a status. Holds no GIL."""
        with self.module.function("run", 2, exported=True) as (function, code, (context, pointers)):
            records = code.words(context)
            threads, team = records[C_THREADS], records[C_TEAM]
            team_words = code.words(team)
            with code.when(team_words.load(WORKERS) < threads - 1):
                code.give(NO_TEAM)
            serial = records[C_SERIAL]
            with code.when(serial != 0):
                _acquire(code, serial, wait=1)
            status = code.variable(NO_FRAME)
            frame = code.call(self.take_frame, context)
            with code.when(frame != 0):
                status.set(code.call(self.bind, context, frame, pointers))
                with code.when(status.get() == 0):
                    self._run_bound(code, records, frame, threads, team, status)
                code.call(self.put_frame, context, frame)
            with code.when(serial != 0):
                _release(code, serial)
            code.give(status.get())
        return function

    def _run_bound(self, code: Code, records, frame: Value, threads: Value, team: Value, status: Variable) -> None:
        """Runs with the team if it is free and wanted, else alone; a frame that failed gets its words back."""
        tape = records[C_TAPE]
        team_words = code.words(team)
        alone = code.variable(1)
        with code.when(threads >= 2), code.when(team_words.exchange(OWNER, 1) == 0):
            alone.set(0)
            status.set(code.call(self.run_team, tape, frame, threads, team))
            team_words.store(OWNER, 0)
        with code.when(alone.get() != 0):
            status.set(code.call(self.interpret, tape, frame, 0, 1, team))
        with code.when(status.get() != 0):
            words, count = code.words(frame), records[C_WORDS]
            with code.repeat(count) as i:
                words[i] = words[count + i]
            with code.repeat(records[C_ARGUMENTS]) as k:
                words[code.constant(F_LAST) - k] = 0

    def _spin(self) -> None:
        """(count): spins, to measure how long that takes."""
        with self.module.function("spin", 1, exported=True) as (_, code, (count,)), code.repeat(count):
            _pause(code)

    def _matches(self, layout: ObjectLayout) -> ir.Function:
        """(record, object) -> 1 if the object is exactly the array that the record declares."""
        with self.module.function("matches", 2) as (function, code, (record, thing)):
            declared = code.words(record)
            with code.when(code.load(thing + layout.type, 64, True) != id(np.ndarray)):
                code.give(0)
            with code.when(code.load(thing + layout.descr, 64, True) != declared[A_DESCR]):
                code.give(0)
            ndim, flags = declared[A_NDIM], declared[A_FLAGS]
            with code.when(code.load(thing + layout.ndim, 32, True) != ndim):
                code.give(0)
            with code.when((code.load(thing + layout.flags, 32, True) & flags) != flags):
                code.give(0)
            shape, expected = code.words(code.load(thing + layout.dims, 64, True)), code.words(declared[A_DIMS])
            with code.repeat(ndim) as i, code.when(shape[i] != expected[i]):
                code.give(0)
            code.give(1)
        return function

    def _number(self, layout: ObjectLayout) -> ir.Function:
        """(record, object, address) -> 1 if the object is a Python number that the 0-d argument takes, now at address.

        The conversions are NumPy's; what it would refuse (2**40 for int32) is left to the slow path.
        """
        with self.module.function("number", 3) as (function, code, (record, thing, address)):
            kind, place = code.words(record)[A_SCALAR], code.words(address)
            with code.when(kind == NO_SCALAR):
                code.give(0)
            python_type = code.load(thing + layout.type, 64, True)
            with code.when(python_type == id(float)):
                with code.when(kind < FLOAT32):
                    code.give(0)
                bits = code.load(thing + layout.float_value, 64, True)
                place[0] = (kind == FLOAT32).choose(code.float32_bits(bits), bits)
                code.give(1)
            with code.when(python_type == id(bool)):
                place[0] = (thing == id(True)).choose(1, 0)
                with code.when(kind == BOOL):
                    code.give(1)
            with code.when((python_type != id(int)) | (kind == BOOL)):
                code.give(0)
            place[0] = 0
            value = code.call_address(c_api("PyLong_AsLongLongAndOverflow"), thing, address)
            with code.when(code.load(address, 32, True) != 0):
                code.give(0)
            with code.when(kind >= FLOAT32):
                bits = code.float64_bits(value)
                place[0] = (kind == FLOAT32).choose(code.float32_bits(bits), bits)
                code.give(1)
            place[0] = value
            for width in (8, 16, 32, 64):
                with code.when(kind == width):
                    code.give(1 if width == 64 else (value + (1 << width - 1)).below(1 << width).choose(1, 0))
                with code.when(kind == -width):
                    code.give((value >= 0 if width == 64 else value.below(1 << width)).choose(1, 0))
        return function

    def _call(self, layout: ObjectLayout) -> None:
        """METH_FASTCALL (self, arguments, count) -> int: `self` is the array that holds the context."""
        with self.module.function("call", 3, exported=True) as (_, code, (owner, arguments, count)):

            def result(status: Value | int) -> Value:
                return code.call_address(c_api("PyLong_FromLongLong"), status)

            context = code.load(owner + layout.data, 64, True)
            records, things = code.words(context), code.words(arguments)
            with code.when(count != records[C_ARGUMENTS]):
                code.give(result(WRONG_COUNT))
            pointers = code.array(count)
            pointer_words, numbers = code.words(pointers), code.words(code.array(count))
            with code.repeat(count) as k:
                thing = things[k]
                record = records.address(k * A_WORDS + C_HEADER)
                with code.either(code.call(self.matches, record, thing) != 0) as (array, other):
                    with array:
                        pointer_words[k] = code.load(thing + layout.data, 64, True)
                    with other:
                        with code.when(code.call(self.number, record, thing, numbers.address(k)) == 0):
                            code.give(result(code.constant(-1) - k))
                        pointer_words[k] = numbers.address(k)
            state = code.call_address(c_api("PyEval_SaveThread"))
            status = code.call(self.run, context, pointers)
            code.call_address(c_api("PyEval_RestoreThread"), state, result=ir.VoidType())
            code.give(result(status))


def _lock(code: Code, words, index: int) -> None:
    """Takes a lock word that is held for a few instructions; yields, as its holder may wait for this core."""
    with code.loop() as trying:
        trying.leave_when(words.exchange(index, 1) == 0)
        _yield(code)


def _first_error(code: Code, words, threads: Value) -> Value:
    """The error word of the first kernel on the tape, the smallest of its ranks. There is one."""
    at, word = code.variable(-1), code.variable(0)
    with code.repeat(threads) as thread:
        mine, where = words[thread + ERROR_WORD], words[thread + ERROR_AT]
        earlier = where.below(at.get()) | ((where == at.get()) & mine.below(word.get()))
        with code.when((mine != 0) & earlier):
            at.set(where)
            word.set(mine)
    return word.get()


class _Interpreter:
    """Writes `interpret`: the loop over instructions, an instruction a method."""

    def __init__(
        self, driver: _Driver, code: Code, tape: Value, frame: Value, thread: Value, threads: Value, team: Value
    ) -> None:
        self.driver = driver
        self.code = code
        self.tape = code.words(tape)
        self.frame = code.words(frame)
        self.frame_address = frame
        self.thread = thread
        self.threads = threads
        self.team = team
        self.pc = code.variable(0)

    def write(self) -> None:
        code = self.code
        with code.loop():
            at = self.pc.get()
            with code.switch(self.tape[at]) as instruction:
                for opcode, write in (
                    (isa.RUN, self.run),
                    (isa.LOOP, self.enter),
                    (isa.NEXT, self.next),
                    (isa.BRANCH, self.branch),
                ):
                    with instruction.case(opcode):
                        write(at)
                with instruction.case(isa.STOP):
                    code.give(0)
        code.builder.unreachable()

    def sync(self, wanted: Value) -> None:
        """Waits for all threads where the instruction says so, and ends the call if one of them has failed."""
        with self.code.when(wanted != 0):
            failed = self.code.call(self.driver.barrier, self.team, self.thread, self.threads)
            with self.code.when(failed != 0):
                self.code.give(0)

    def run(self, at: Value) -> None:
        code, tape = self.code, self.tape
        call = code.variable(at + isa.RUN_FIELDS)
        rank = code.variable(self.thread)
        end = at + isa.RUN_FIELDS + tape[at + 2] * isa.CALL_FIELDS
        with code.loop() as calls:
            here = call.get()
            calls.leave_when(here >= end)
            cap, mine = tape[here + 2], rank.get()
            crew = (cap < self.threads).choose(cap, self.threads)
            with code.when(mine < crew):
                table = self.frame_address + tape[here + 1] * 8
                word = code.call_address(tape[here], table, mine, crew)
                with code.when(word != 0):
                    self.fail(here, word)
            rank.set((mine == 0).choose(self.threads, mine) - 1)
            call.set(here + isa.CALL_FIELDS)
        self.sync(tape[at + 1])
        self.pc.set(end)

    def fail(self, at: Value, word: Value) -> None:
        """Leaves with an error: the others find out at their next barrier, where this thread is counted in."""
        code, words = self.code, self.code.words(self.team)
        with code.when(self.threads >= 2):
            words[self.thread + ERROR_AT] = at
            words.store(FAILED, 1)
            code.call(self.driver.arrive, self.team, self.threads, words.load(PHASE))
        code.give(word)

    def enter(self, at: Value) -> None:
        """LOOP: thread 0 writes the loop's state, then all enter, or all go past it."""
        code, tape, frame = self.code, self.tape, self.frame
        state, advances = tape[at + 5], tape[at + 6]
        with code.when(self.thread == 0):
            trips = code.variable(tape[at + 4])
            kind = tape[at + 3]
            with code.when(kind != isa.LITERAL):
                trips.set(code.call(self.driver.scalar, frame[tape[at + 4]], kind))
            frame[state] = trips.get()
            frame[state + 1] = 0
            with code.repeat(advances) as i:
                frame[state + isa.LOOP_STATE + i] = frame[tape[at + isa.LOOP_FIELDS + i * isa.ADVANCE_FIELDS]]
        self.sync(tape[at + 2])
        body = at + isa.LOOP_FIELDS + advances * isa.ADVANCE_FIELDS
        self.pc.set((frame[state] >= 1).choose(body, tape[at + 1]))

    def next(self, at: Value) -> None:
        """NEXT: thread 0 counts and advances, or restores the words that the loop moved; then all go on."""
        code, tape, frame = self.code, self.tape, self.frame
        head = tape[at + 1]
        state, advances = tape[head + 5], tape[head + 6]
        with code.when(self.thread == 0):
            iteration = frame[state + 1]
            frame[state + 1] = iteration + 1
            again = iteration + 1 < frame[state]
            step = (iteration & 1) + 1  # field `even` or `odd` of an advance
            with code.repeat(advances) as i:
                advance = head + isa.LOOP_FIELDS + i * isa.ADVANCE_FIELDS
                word = tape[advance]
                frame[word] = again.choose(frame[word] + tape[advance + step], frame[state + isa.LOOP_STATE + i])
        self.sync(tape[at + 2])
        body = head + isa.LOOP_FIELDS + advances * isa.ADVANCE_FIELDS
        self.pc.set((frame[state + 1] < frame[state]).choose(body, tape[head + 1]))

    def branch(self, at: Value) -> None:
        code, tape = self.code, self.tape
        kind, last = tape[at + 2], tape[at + 4] - 1
        index = code.variable(0)
        with code.either(kind == isa.THREAD) as (solo, scalar):
            with solo:
                index.set(self.thread)
            with scalar, code.when(kind != isa.LITERAL):
                value = code.call(self.driver.scalar, self.frame[tape[at + 3]], kind)
                negative = (value < 0) & (kind >= 0)
                index.set(negative.choose(0, value))
        chosen = index.get().below(last).choose(index.get(), last)
        self.sync(tape[at + 1])
        self.pc.set(tape[at + isa.BRANCH_FIELDS + chosen])


@dataclass(frozen=True)
class Driver:
    """Addresses of the native functions. `call` is None where arrays can only be read through Python."""

    worker: int
    run: int
    put_frame: int
    spin: int
    call: int | None


@cache
def driver() -> Driver:
    """The driver of this process, compiled at the first call. Its code is never freed: idle threads are inside it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    layout = object_layout()
    module = llvm.parse_assembly(str(_Driver(layout).module.ir))
    module.triple = llvm.get_process_triple()
    module.verify()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=0, jit=True)
    _optimise(module, machine)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    names = ("worker", "run", "put_frame", "spin")
    found = {name: engine.get_function_address(name) for name in names}
    call = engine.get_function_address("call") if layout else None
    engine.detach()
    return Driver(**found, call=call)


def _optimise(module: llvm.ModuleRef, machine: llvm.TargetMachine) -> None:
    """Variables into registers, and little else: the full pipeline takes 60 ms and gains next to nothing."""
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1))
    passes = llvm.create_new_function_pass_manager()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    for function in module.functions:
        if not function.is_declaration:
            passes.run(function, builder)
