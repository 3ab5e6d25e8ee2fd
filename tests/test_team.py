"""The CPU runtime with several threads: crews, barriers, sleeping, concurrent calls, fork, exit."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from runtime_kernels import executable, run_python

from graphc.backends.cpu.runtime import Advance, Call, Executable, Output, Spec, TapeBuilder, Word
from graphc.backends.cpu.runtime import binder as binder_module
from graphc.backends.cpu.runtime.team import TEAM, available_cores

ROOT = Path(__file__).parent.parent
I64 = "int64"
two_cores = pytest.mark.skipif(available_cores() < 2, reason="needs two cores")
can_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def many_cores(monkeypatch):
    """Lets executables use more threads than there are cores."""
    monkeypatch.setattr(binder_module, "available_cores", lambda: 64)


def chain(stages: int, *, cap: int = 2, n: int = 64, threads: int = 2) -> Executable:
    """out = x + stages, through as many parallel stages between two buffers."""
    b = TapeBuilder()
    places = [Word.arena(0), Word.arena(8 * n)]
    source = Word.input(0)
    for k in range(stages):
        target = Word.output(0) if k == stages - 1 else places[k % 2]
        b.stage(Call("add", b.table([source, target, Word.value(n), Word.value(1)]), cap))
        source = target
    return executable(
        b, arena_bytes=16 * n, inputs=(Spec(I64, (n,), "x"),), outputs=(Output(I64, (n,)),), threads=threads
    )


def test_the_driver_compiles_for_other_machines(monkeypatch):
    """Nothing in it is particular to x86-64: it compiles for 64-bit Arm and needs no symbol from elsewhere."""
    import platform

    import llvmlite.binding as llvm

    from graphc.backends.cpu.runtime import driver, objectfile, pyapi

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    for machine, triple in (("aarch64", "aarch64-linux-gnu"), ("x86_64", "x86_64-linux-gnu")):
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        module = llvm.parse_assembly(str(driver._Driver(pyapi.object_layout()).module.ir))
        module.triple = triple
        target = llvm.Target.from_triple(triple).create_target_machine(opt=0, jit=True)
        symbols = objectfile.read_symbols(target.emit_object(module))
        assert symbols.undefined == () and "call" in symbols.defined


# Stages and crews


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_stage_gives_each_kernel_its_crew(threads, many_cores):
    """Every kernel is run once by each rank of min(cap, threads)."""
    b = TapeBuilder()
    caps = (1, 2, 4, 100, 1, 2)
    b.stage(*(Call("ranks", b.table([Word.owned(k)]), cap) for k, cap in enumerate(caps)))
    counts = [np.zeros(8, np.int64) for _ in caps]
    exe = executable(b, threads=threads, owned=tuple(Spec(I64, (8,)) for _ in caps), owned_arrays=counts)
    assert exe.threads == threads
    for _ in range(50):
        exe.call([])
    for cap, count in zip(caps, counts, strict=True):
        crew = min(cap, threads)
        assert count.tolist() == [50 * (1 + 100 * crew)] * crew + [0] * (8 - crew)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_stages_wait_for_each_other(threads, many_cores):
    exe = chain(200, cap=4, threads=threads)
    x = np.arange(64)
    for _ in range(20):
        np.testing.assert_array_equal(exe.call([x])[0], x + 200)


@two_cores
def test_threads_really_run_at_the_same_time():
    """Two kernels that wait for each other would never end on one thread."""
    from runtime_kernels import kernel_object

    def meet(code, table, thread, threads):
        words = code.words(code.words(table)[0])
        words.add(0, 1)
        with code.loop() as waiting:
            waiting.leave_when(words.load(0) >= 2)

    b = TapeBuilder()
    table = b.table([Word.owned(0)])
    b.stage(Call("meet", table, 2))
    program = b.program(owned=(Spec(I64, (1,)),), threads=2)
    Executable(program, [kernel_object("meet", meet)], owned=[np.zeros(1, np.int64)]).call([])


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_loops_and_branches_with_a_team(threads, many_cores):
    """A loop of parallel stages, serial parts and a switch in between, each thread seeing each decision."""
    b = TapeBuilder()
    n = 16
    choose = b.scalar(Word.input(0), "u1")
    table = b.table([Word.arena(0), Word.arena(8 * n), Word.value(n), Word.value(1)])
    back = b.table([Word.arena(8 * n), Word.arena(0), Word.value(n), Word.value(0)])
    total = b.table([Word.arena(0), Word.output(0), Word.value(1)])
    b.stage(Call("add", b.table([Word.input(1), Word.arena(0), Word.value(n), Word.value(0)]), 4))
    b.stage(Call("add", b.table([Word.input(1), Word.output(0), Word.value(1), Word.value(0)])))
    with b.loop(30, advance=[Advance(choose.word, 1), Advance(table + 3, 1)]):
        b.stage(Call("add", table, 4))
        with b.switch(choose) as s:
            with s.case():
                b.stage(Call("add", back, 4))
            with s.case():
                b.stage(Call("accumulate", total))
            with s.case():
                b.stage(Call("add", back))
                b.stage(Call("accumulate", total))
    exe = executable(
        b,
        threads=threads,
        arena_bytes=16 * n,
        inputs=(Spec("uint8", (30,)), Spec(I64, (n,))),
        outputs=(Output(I64, ()),),
    )
    rng = np.random.default_rng(0)
    for _ in range(20):
        selectors, x = rng.integers(0, 3, 30, np.uint8), rng.integers(0, 5, n)
        first, expected = x.copy(), x[0]
        with np.errstate(over="ignore"):
            for i, selector in enumerate(selectors):
                new = first + 1 + i
                first = first if selector == 1 else new
                if selector:
                    expected = expected * 3 + first[0]
        assert exe.call([selectors, x])[0] == expected


# Errors


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_first_error_on_the_tape_wins(threads, many_cores):
    """Several kernels and ranks fail at once; the call always reports the same."""
    b = TapeBuilder()
    b.stage(Call("add", b.table([Word.input(0), Word.output(0), Word.value(1), Word.value(0)]), 4))
    for base in (10, 40):  # the second stage is never reached
        b.stage(
            *(
                Call("fail", b.table([Word.input(k), Word.value(base + 10 * k), Word.value(1)]), cap)
                for k, cap in enumerate((2, 1, 4))
            )
        )
    exe = executable(
        b,
        threads=threads,
        inputs=tuple(Spec(I64, (1,)) for _ in range(3)),
        outputs=(Output(I64, (1,)),),
        on_error=lambda code, node: KeyError(code, node),
    )
    zero, one = np.array([0]), np.array([1])
    for _ in range(100):
        for failing, node in (((one, one, one), 10), ((zero, one, one), 20), ((zero, zero, one), 30)):
            with pytest.raises(KeyError) as caught:
                exe.call(failing)
            assert caught.value.args == (1, node)
        exe.call((zero, zero, zero))


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("cap", [1, 4])
@pytest.mark.parametrize("last", [True, False])
def test_errors_anywhere_leave_the_team_usable(threads, cap, last, many_cores):
    """In solo regions, loops, before the end of the tape: nobody waits for a thread that has left."""
    b = TapeBuilder()
    work = b.table([Word.input(0), Word.output(0), Word.value(5), Word.value(1)])
    check = b.table([Word.input(0), Word.value(3), Word.value(0)])
    b.stage(Call("add", work, 4))
    with b.loop(5, advance=[Advance(check, 8)]):
        b.stage(Call("fail", check, cap))
        b.stage(Call("add", work))
    if not last:
        b.stage(Call("add", work, 4))
    exe = executable(b, threads=threads, inputs=(Spec(I64, (5,)),), outputs=(Output(I64, (5,)),))
    for k in range(100):
        x = np.zeros(5, np.int64)
        if k % 6 < 5:
            x[k % 6] = 1
            with pytest.raises(IndexError):
                exe.call([x])
        else:
            assert exe.call([x])[0].tolist() == [1] * 5


# Concurrent calls


def together(count: int, work) -> None:
    """Runs work(k) on `count` Python threads at the same time and raises what they raised."""
    failures = []
    start = threading.Barrier(count)

    def run(k: int) -> None:
        try:
            start.wait()
            work(k)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a call hangs"
    if failures:
        raise failures[0]


def test_eight_python_threads_share_an_executable():
    exe = chain(20)

    def work(k: int) -> None:
        for i in range(300):
            x = np.arange(64) + 1000 * k + i
            np.testing.assert_array_equal(exe.call([x])[0], x + 20)

    together(8, work)
    assert len(exe._core._frames) <= 8


def test_calls_of_an_executable_with_state_exclude_each_other():
    b = TapeBuilder()
    count = b.table([Word.owned(0), Word.owned(0), Word.value(2), Word.value(1)])
    for _ in range(5):
        b.stage(Call("add", count, 2))
    b.stage(Call("add", b.table([Word.owned(0), Word.output(0), Word.value(1), Word.value(0)])))
    state = np.zeros(2, np.int64)
    exe = executable(b, owned=(Spec(I64, (2,), "state"),), owned_arrays=[state], outputs=(Output(I64, ()),))
    seen: list[int] = []

    def work(k: int) -> None:
        for _ in range(200):
            seen.append(int(exe.call([])[0]))
            with exe.exclusive():
                assert state[0] == state[1] and state[0] % 5 == 0

    together(8, work)
    assert sorted(seen) == list(range(5, 5 * 1600 + 1, 5)) and state.tolist() == [8000, 8000]
    assert len(exe._core._frames) == 1


def test_a_stateless_executable_has_nothing_to_exclude():
    with pytest.raises(RuntimeError, match="do not exclude"), chain(2).exclusive():
        pass


def test_rebinding_while_others_call():
    b = TapeBuilder()
    b.stage(Call("add", b.table([Word.owned(0), Word.output(0), Word.value(2), Word.value(0)]), 2))
    exe = executable(
        b, owned=(Spec(I64, (2,), "w"),), owned_arrays=[np.zeros(2, np.int64)], outputs=(Output(I64, (2,)),)
    )

    def work(k: int) -> None:
        for i in range(200):
            if k == 0:
                exe.bind_owned([np.full(2, i)])
            else:
                first, second = exe.call([])[0]
                assert first == second

    together(4, work)


# Threads


def test_threads_are_limited():
    assert chain(2, cap=100, threads=64).threads <= available_cores()
    assert chain(2, cap=1, threads=64).threads == 1


def test_the_team_grows_on_demand_and_stays(many_cores):
    chain(3, threads=2).call([np.arange(64)])
    assert TEAM.workers >= 1
    exe = chain(3, cap=6, threads=6)
    np.testing.assert_array_equal(exe.call([np.arange(64)])[0], np.arange(64) + 3)
    assert TEAM.workers >= 5
    workers = TEAM.workers
    chain(3, threads=2).call([np.arange(64)])
    assert TEAM.workers == workers


def test_an_operating_system_without_more_threads(monkeypatch, many_cores):
    """The executable makes do with what there is."""
    monkeypatch.setattr(TEAM, "_start", lambda thread: False)
    exe = chain(3, cap=100, threads=100)
    np.testing.assert_array_equal(exe.call([np.arange(64)])[0], np.arange(64) + 3)
    assert exe.threads == TEAM.workers + 1


def test_more_threads_than_cores_make_progress(many_cores):
    """Eight threads on what there is, and then on one core."""
    exe = chain(100, cap=8, threads=8)
    x = np.arange(64)

    def calls() -> None:
        for _ in range(10):
            np.testing.assert_array_equal(exe.call([x])[0], x + 100)

    calls()
    if not hasattr(os, "sched_setaffinity"):
        return
    tasks = [int(task) for task in os.listdir("/proc/self/task")]
    before = {task: os.sched_getaffinity(task) for task in tasks}
    try:
        for task in tasks:
            os.sched_setaffinity(task, {min(before[task])})
        start = time.perf_counter()
        calls()
        assert time.perf_counter() - start < 30
    finally:
        for task in tasks:
            os.sched_setaffinity(task, before[task])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinities")
@pytest.mark.parametrize("threads", [2, 4])
def test_more_threads_than_cores_are_not_much_slower(threads):
    """On one core, stages of 30 µs: threads that wait give the core away. Measured: 1.1 and 1.3 times one thread's."""
    run_python(f"""
        import os, time
        os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
        import numpy as np
        from test_team import chain
        from graphc.backends.cpu.runtime import binder
        binder.available_cores = lambda: 64
        n = 20_000
        one, many = chain(30, cap=1, n=n, threads=1), chain(30, cap={threads}, n=n, threads={threads})
        x = np.arange(n)
        best = {{}}
        for _ in range(40):
            for exe in (one, many):
                begin = time.perf_counter()
                exe.call([x])
                best[exe] = min(best.get(exe, 1.0), time.perf_counter() - begin)
        assert many.threads == {threads}
        assert best[many] < 3 * best[one] + 1e-3, best.values()
    """)


def test_an_idle_team_uses_no_processor_time():
    run_python("""
        import time
        import numpy as np
        from test_team import chain
        exe = chain(10)
        exe.call([np.arange(64)])
        time.sleep(0.05)
        before = time.process_time()
        time.sleep(0.5)
        used = time.process_time() - before
        assert used < 0.02, used
    """)


def test_a_long_serial_kernel_lets_the_others_sleep(many_cores):
    """Workers park at a barrier too: the process uses about one core, not two."""
    b = TapeBuilder()
    add = b.table([Word.input(0), Word.output(0), Word.value(1), Word.value(0)])
    b.stage(Call("add", add, 2))
    b.stage(Call("spin", b.table([Word.input(0), Word.arena(0)])))
    b.stage(Call("add", add, 2))
    exe = executable(b, arena_bytes=64, inputs=(Spec(I64, (1,)),), outputs=(Output(I64, (1,)),))
    exe.call([np.array([1])])
    wall, cpu = time.perf_counter(), time.process_time()
    exe.call([np.array([30_000_000])])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert cpu < 1.3 * wall + 0.01


def test_exit_with_sleeping_spinning_and_working_threads():
    """The interpreter ends at once, whatever the team is doing."""
    for ending in ("", "time.sleep(0.05)", "threading.Thread(target=forever, daemon=True).start(); time.sleep(0.1)"):
        start = time.perf_counter()
        run_python(f"""
            import threading, time
            import numpy as np
            from test_team import chain
            exe = chain(10)
            x = np.arange(64)
            def forever():
                while True: exe.call([x])
            exe.call([x])
            {ending}
        """)
        assert time.perf_counter() - start < 20


# Fork


def in_child(work) -> None:
    """Runs work in a forked child and fails if it fails or hangs."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    for _ in range(3000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0
            return
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")


@can_fork
def test_calls_after_fork():
    exe = chain(20)
    x = np.arange(64)
    exe.call([x])

    def work() -> None:
        assert TEAM.workers == 0
        for _ in range(50):
            np.testing.assert_array_equal(exe.call([x])[0], x + 20)
        assert TEAM.workers == exe.threads - 1
        np.testing.assert_array_equal(chain(7).call([x])[0], x + 7)

    in_child(work)
    np.testing.assert_array_equal(exe.call([x])[0], x + 20)


@can_fork
def test_fork_while_other_threads_call():
    exe = chain(50)
    x = np.arange(64)
    stop = threading.Event()

    def forever() -> None:
        while not stop.is_set():
            exe.call([x])

    def work() -> None:
        for _ in range(20):
            np.testing.assert_array_equal(exe.call([x])[0], x + 50)

    threads = [threading.Thread(target=forever) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(6):
            in_child(work)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    work()


def stateful(work: int) -> tuple[Executable, np.ndarray]:
    """state += 1 with a pause of `work` turns before."""
    b = TapeBuilder()
    b.stage(Call("spin", b.table([Word.constant(0), Word.arena(0)])))
    b.stage(Call("add", b.table([Word.owned(0), Word.owned(0), Word.value(1), Word.value(1)])))
    state = np.zeros(1, np.int64)
    exe = executable(
        b,
        arena_bytes=64,
        constants=(np.array([work]).tobytes(),),
        owned=(Spec(I64, (1,), "state"),),
        owned_arrays=[state],
    )
    return exe, state


@can_fork
def test_state_after_fork():
    exe, state = stateful(0)
    exe.call([])

    def work() -> None:
        exe.call([])
        with exe.exclusive():
            assert state[0] == 2

    in_child(work)
    assert state[0] == 1
    with exe.exclusive():
        in_child(lambda: None)
    exe.call([])


@can_fork
def test_a_fork_in_the_middle_of_a_step_leaves_the_child_without_its_state():
    exe, state = stateful(60_000_000)
    thread = threading.Thread(target=exe.call, args=([],))
    thread.start()
    time.sleep(0.05)
    assert thread.is_alive() and state[0] == 0

    def work() -> None:
        with pytest.raises(RuntimeError, match="half written"):
            exe.call([])
        new = np.array([5])
        exe.bind_owned([new])
        assert exe.owned[0] is new

    in_child(work)
    thread.join(60)
    assert state[0] == 1
