"""Threads, forks, many processes on one cache, memory over many calls, and errors of the data: right results throughout."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from faults import forked, run_script

import graphc
from graphc import optim
from graphc.tracing import Spec

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def mlp(params, x, labels):
    for layer in params[:-1]:
        x = np.maximum(x @ layer["w"] + layer["b"], 0)
    z = x @ params[-1]["w"] + params[-1]["b"]
    z = z - z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -np.take_along_axis(log_p, labels[:, None], axis=1).mean()


def mlp_params(*sizes, seed=0):
    r = np.random.default_rng(seed)
    return [
        {"w": r.normal(0, np.sqrt(2 / m), (m, n)).astype(np.float32), "b": np.zeros(n, np.float32)}
        for m, n in zip(sizes[:-1], sizes[1:], strict=True)
    ]


def batch(rows, columns, classes, seed=0):
    r = np.random.default_rng(seed)
    return r.normal(size=(rows, columns)).astype(np.float32), r.integers(0, classes, rows)


def child(action) -> int:
    """The exit code of a forked process that runs ``action``: 0 where it comes through."""
    return os.waitstatus_to_exitcode(os.waitpid(forked(action), 0)[1])


# ------------------------------------------------------------------------------------------------ threads


def test_threads_compile_and_run_at_once():
    def work(n):
        f = graphc.compile(lambda x: (np.tanh(x * n) + n).sum(axis=1))
        g = graphc.compile(graphc.grad(lambda x: (np.exp(x) * n).sum()))
        x = np.linspace(0, 1, 10 * (n + 2), dtype=np.float32).reshape(-1, n + 2)
        for _ in range(20):
            np.testing.assert_allclose(f(x), (np.tanh(x * n) + n).sum(axis=1), rtol=1e-5)
            np.testing.assert_allclose(g(x), np.exp(x) * n, rtol=1e-5)
        return n

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == list(range(4))


def test_threads_that_need_one_executable_compile_it_once():
    traced = []

    @graphc.compile
    def f(x):
        traced.append(1)
        return np.tanh(x) * 3

    gate = threading.Barrier(8)

    def work(k):
        gate.wait()
        x = np.full(100, k, np.float32)
        return all(np.allclose(f(x), np.tanh(np.float32(k)) * 3) for _ in range(100))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert len(traced) == 1 and len(f.executables) == 1


def test_eight_threads_call_one_executable():
    f = graphc.compile(lambda w, x: (np.tanh(x @ w) @ w.T, (x @ w).sum()), threads=2)
    rng = np.random.default_rng(0)
    w = rng.normal(size=(64, 48)).astype(np.float32)
    inputs = [rng.normal(size=(96, 64)).astype(np.float32) for _ in range(8)]
    want = [f(w, x) for x in inputs]

    def work(k):
        for _ in range(60):
            a, b = f(w, inputs[k])
            if not (np.array_equal(a, want[k][0]) and b == want[k][1]):
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def convolution():
    from graphc import ops
    from graphc.tracing import to_node, wrap

    def conv(w, x):
        attrs = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "lhs_dilation": (1, 1), "rhs_dilation": (1, 1)}
        return (wrap(ops.conv(to_node(x), to_node(w), groups=1, **attrs)) ** 2).sum()

    r = np.random.default_rng(0)
    return graphc.grad(conv), (
        r.normal(size=(16, 8, 3, 3)).astype(np.float32), r.normal(size=(8, 8, 20, 20)).astype(np.float32)
    )  # fmt: skip


MODELS = {
    "mlp step": lambda: (
        graphc.value_and_grad(mlp), (mlp_params(96, 128, 64, 10), *batch(192, 96, 10))
    ),
    "softmax": lambda: (
        lambda x: np.exp(x - x.max(axis=1, keepdims=True)) / np.exp(x - x.max(axis=1, keepdims=True)).sum(1, keepdims=True),
        (batch(600, 300, 2)[0],),
    ),
    "sums": lambda: (
        lambda x: (x.sum(), x.sum(axis=0), x.mean(axis=1), np.sqrt((x * x).sum())), (batch(1000, 700, 2)[0],)
    ),
    "elementwise": lambda: (
        graphc.grad(lambda x: np.log1p(np.exp(np.tanh(x))).sum()), (batch(500, 1000, 2)[0],)
    ),
    "scan": lambda: (
        graphc.grad(lambda w, x: graphc.scan(lambda c, row: (np.tanh(row + c @ w), c.sum()), x[0], x)[1].sum()),
        (np.float32(0.1) * batch(192, 192, 2)[0], batch(9, 192 * 192, 2)[0].reshape(9, 192, 192)),
    ),
    "convolution": convolution,
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_number_of_threads_changes_no_bit(name):
    model, arguments = MODELS[name]()
    one, two = (graphc.compile(model, threads=n) for n in (1, 2))
    if os.cpu_count() and len(os.sched_getaffinity(0)) > 1:
        assert two.executable(*arguments).runner.executable.threads == 2
    want = graphc.tree.tree_leaves(one(*arguments))
    for _ in range(5):
        for a, b in zip(want, graphc.tree.tree_leaves(two(*arguments)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_training_with_more_threads_changes_no_bit():
    x, labels = batch(160, 80, 10)
    one, two = (graphc.TrainingStep(mlp, mlp_params(80, 160, 96, 10), optim.adam(1e-3), threads=n) for n in (1, 2))
    for _ in range(20):
        assert one(x, labels) == two(x, labels)
    for a, b in zip(*(graphc.tree.tree_leaves(step.params) for step in (one, two)), strict=True):
        np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------------------------------------------ forks


@needs_fork
def test_a_forked_child_runs_and_compiles():
    f = graphc.compile(lambda w, x: np.tanh(x @ w), threads=2)
    w, x = np.ones((200, 200), np.float32), np.ones((300, 200), np.float32)
    want = f(w, x)  # the team of threads is running

    def work():
        np.testing.assert_array_equal(f(w, x), want)
        np.testing.assert_array_equal(f(w, x[:100]), want[:100])
        g = graphc.compile(lambda x: (x * 7 + 1).sum(axis=0), threads=2)
        np.testing.assert_allclose(g(x), (x * 7 + 1).sum(axis=0))

    assert child(work) == 0
    assert child(lambda: child(work) and os._exit(3)) == 0  # and a child of the child
    np.testing.assert_array_equal(f(w, x), want)


@needs_fork
def test_a_fork_while_another_thread_compiles():
    from graphc.backends.cpu import native

    f = graphc.compile(lambda x: np.tanh(x) * 43)
    held, done = threading.Event(), threading.Event()

    def hold():
        with f._lock, native._FRONT_END:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    x = np.ones(3)
    try:
        assert child(lambda: np.testing.assert_allclose(f(x), np.tanh(1) * 43)) == 0
    finally:
        done.set()
        thread.join()


@needs_fork
def test_forks_while_other_threads_call():
    f = graphc.compile(lambda x: np.tanh(x) * 2, threads=2)
    x = np.linspace(0, 1, 200_000, dtype=np.float32)
    want = f(x)
    stop = threading.Event()

    def call():
        while not stop.is_set():
            f(x)

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            assert child(lambda: np.testing.assert_array_equal(f(x), want)) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


# ------------------------------------------------------------------------------------------------ the cache


WORK = """
import sys
import numpy as np
import graphc
def loss(p, x, y):
    return ((np.tanh(x @ p["w1"]) @ p["w2"] - y) ** 2).mean()
r = np.random.default_rng(0)
p = {"w1": r.normal(size=(6, 12)).astype("f4"), "w2": r.normal(size=(12, 1)).astype("f4")}
x, y = r.normal(size=(20, 6)).astype("f4"), np.ones((20, 1), "f4")
step = graphc.TrainingStep(loss, p, graphc.optim.adam(1e-2))
print([float(step(x, y)).hex() for _ in range(3)])
print([float(v).hex() for v in graphc.compile(lambda x: np.exp(x).sum(axis=0))(x)])
print("numba" in sys.modules, all(e.cached for e in step.executables))
"""


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A cache that one process has filled, and what it printed."""
    folder = tmp_path_factory.mktemp("cache") / "graphc"
    out = run_script(WORK, GRAPHC_CACHE_DIR=str(folder)).splitlines()
    assert out[2] == "True False"
    return folder, out[:2]


def entries(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.name != "CACHEDIR.TAG")


def test_a_second_process_compiles_nothing(warm):
    folder, want = warm
    before = {p: p.read_bytes() for p in entries(folder)}
    assert {p.name.split(".")[1] for p in before} == {"executable", "kernel"}
    out = run_script(WORK, GRAPHC_CACHE_DIR=str(folder)).splitlines()
    assert out == [*want, "False True"]
    assert {p: p.read_bytes() for p in entries(folder)} == before


def test_other_lines_of_the_program_need_no_numba_either(warm):
    """The executable is keyed by the user's lines, which its errors quote; the kernels are not."""
    folder, want = warm
    out = run_script("\n\n" + WORK, GRAPHC_CACHE_DIR=str(folder)).splitlines()
    assert out == [*want, "False False"]


def test_damaged_entries_are_compiled_again(warm):
    folder, want = warm
    for k, path in enumerate(entries(folder)):
        data = bytearray(path.read_bytes())
        match k % 3:
            case 0:
                data[len(data) // 2] ^= 1
            case 1:
                del data[len(data) // 3 :]
            case 2:
                data[:] = b"nonsense"
        path.write_bytes(data)
    assert run_script(WORK, GRAPHC_CACHE_DIR=str(folder)).splitlines() == [*want, "True False"]
    assert run_script(WORK, GRAPHC_CACHE_DIR=str(folder)).splitlines() == [*want, "False True"]


def test_eight_processes_on_one_cold_cache(warm, tmp_path):
    folder = tmp_path / "cold"
    path = os.pathsep.join(p for p in [*sys.path, os.getcwd()] if p)
    environment = os.environ | {"PYTHONPATH": path, "GRAPHC_CACHE_DIR": str(folder), "GRAPHC_THREADS": "1"}
    command = [sys.executable, "-c", WORK]
    children = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(8)
    ]
    for process in children:
        out, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
        assert out.splitlines()[:2] == warm[1]
        assert "Warning" not in error
    assert run_script(WORK, GRAPHC_CACHE_DIR=str(folder)).splitlines() == [*warm[1], "False True"]
    assert not [p for p in folder.iterdir() if p.suffix == ".tmp"]


@needs_fork
def test_killed_at_every_write_the_cache_stays_whole(tmp_path, monkeypatch):
    from faults import kill_everywhere

    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    graphc.storage.sign(b"")
    f = lambda x: np.sqrt(x) + 41.5  # noqa: E731
    x = np.ones(3, np.float32)

    def compiled():
        from graphc.backends import cpu

        cpu._objects.clear()
        return graphc.compile(f)(x)

    compiled_before = compiled()
    for path in entries(tmp_path / "cache"):
        path.unlink()
    count = 0
    for _ in kill_everywhere(compiled):
        count += 1
        np.testing.assert_array_equal(compiled(), compiled_before)
        for path in entries(tmp_path / "cache"):
            path.unlink()
    assert count > 8


def test_the_key_covers_everything(monkeypatch):
    from graphc import config
    from graphc.backends import cpu
    from graphc.backends.cpu import target
    from graphc.executable import Options

    def traced(scale=2.0, extra=0):
        data = np.arange(20, dtype=np.float32) + extra
        return graphc.trace(lambda x: np.tanh(x) * scale + np.asarray(data), Spec((20,)))

    graph = traced()
    pairs = ((0, 0),)

    def key(graph=graph, options=None):
        return cpu.key(graph, options or Options()).key

    keys = [key(), key(traced(3.0)), key(traced(extra=1)), key(options=Options(donated=pairs)),
            key(options=Options(donated=pairs, owned=(0,)))]  # fmt: skip
    for variable, value in (("GRAPHC_CPU", "x86-64-v2"), ("GRAPHC_DISABLE", "simplify")):
        monkeypatch.setenv(variable, value)
        keys.append(key())
        monkeypatch.delenv(variable)
    for name in ("numba", "llvmlite"):
        target._machine.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(target, "version", lambda package, name=name: "9.9" if package == name else "1.0")
            keys.append(key())
    target._machine.cache_clear()
    for what in ("generator_key", "lowering_key"):
        with monkeypatch.context() as patch:
            target._machine.cache_clear()
            patch.setattr(target, what, lambda: "other code")
            keys.append(key())
    target._machine.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(np, "__version__", "9.9")
        keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key() == keys[0] == key(options=Options(threads=1))  # results do not depend on the number of threads
    assert config.get(config.CPU) == "host"


def test_misses_are_explained(monkeypatch, tmp_path):
    from graphc.backends import cpu
    from graphc.executable import Options

    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    graph = graphc.trace(lambda x: np.tanh(x), Spec((20,)))
    assert cpu.explain(cpu.key(graph, Options())).startswith("executable: nothing is stored in")
    graphc.compile(lambda x: np.tanh(x)).executable(Spec((20,)))
    monkeypatch.setenv("GRAPHC_DISABLE", "simplify")
    text = cpu.explain(cpu.key(graph, Options()))
    assert "disabled passes  -> simplify" in text
    monkeypatch.setenv("GRAPHC_CACHE_DIR", "off")
    assert cpu.key(graph, Options()) is None and cpu.explain(None) == "there is none"


# ------------------------------------------------------------------------------------------------ memory


class MallInfo(ctypes.Structure):
    _fields_ = [(n, ctypes.c_size_t) for n in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]  # fmt: skip


def allocated() -> int:
    """Bytes that the C library's malloc has given out."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = MallInfo
    info = mallinfo2()
    return info.uordblks + info.hblkhd


def test_thousands_of_calls_need_no_more_memory():
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("needs glibc")
    step = graphc.TrainingStep(mlp, mlp_params(16, 32, 4), optim.adam(1e-3), threads=2)
    f = graphc.compile(lambda p, x: {"y": [x @ p[0]["w"]]}, threads=2)
    x, labels = batch(24, 16, 4)

    def calls(count):
        for _ in range(count):
            step(x, labels)
            f([{"w": x.T}], x)  # converts: x.T is not contiguous
            try:
                step(x, labels + 10)
            except IndexError:
                pass

    calls(300)
    gc.collect()
    before = allocated()
    calls(1500)
    gc.collect()
    assert allocated() - before < 2000
    tracemalloc.start()
    try:
        calls(300)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        calls(1500)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 2000
    finally:
        tracemalloc.stop()


def test_programs_that_are_dropped_give_their_memory_back():
    def use(n):
        graphc.compile(lambda x: x * n, backend="cpu")(np.ones(100_000, np.float32))

    for n in range(5):
        use(n)
    gc.collect()
    before = allocated()
    for n in range(5, 25):
        use(n)
    gc.collect()
    assert allocated() - before < 20 * 100_000


# ------------------------------------------------------------------------------------------------ errors of the data


def lines(error) -> str:
    return "\n".join([str(error.value), *getattr(error.value, "__notes__", [])])


@pytest.fixture(params=["cpu", "reference"])
def backend(request):
    return request.param


def test_indices_mean_what_they_mean_in_numpy(backend):
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    f = graphc.compile(lambda x, i: (x[i], np.take(x, i, axis=1 - 1)), backend=backend)
    for i in (np.array([0, 3, -1, -4]), np.array([-2, 1], np.int32), np.array(2), np.zeros((2, 0), int), np.array(-1, np.int8)):
        for got in f(x, i):
            np.testing.assert_array_equal(got, x[i])
    for i in ([0, 4], [-5, 0], [10**15, 0]):
        with pytest.raises(IndexError) as error:
            f(x, np.array(i))
        assert "test_robustness.py:" in lines(error)
        with pytest.raises(IndexError):
            x[np.array(i)]


def test_indices_into_empty_arrays(backend):
    f = graphc.compile(lambda x, i: x[i], backend=backend)
    empty = np.zeros((0, 3), np.float32)
    assert f(empty, np.zeros(0, int)).shape == (0, 3)
    with pytest.raises(IndexError) as error:
        f(empty, np.array([0]))
    assert "test_robustness.py:" in lines(error)
    assert f(np.zeros((3, 0)), np.array([1, 2])).shape == (2, 0)


def test_scatter_out_of_range(backend):
    def f(x, i, v):
        x = x.copy()
        x[i] = v
        return x

    g = graphc.compile(f, backend=backend)
    x, v = np.zeros(4), np.ones(2)
    np.testing.assert_array_equal(g(x, np.array([-1, 0]), v), [1, 0, 0, 1])
    with pytest.raises(IndexError) as error:
        g(x, np.array([0, 4]), v)
    assert "test_robustness.py:" in lines(error)
    assert not x.any()


def test_a_matrix_that_is_not_positive_definite(backend):
    f = graphc.compile(lambda a: np.linalg.cholesky(a), backend=backend)
    good = np.array([[4.0, 2.0], [2.0, 3.0]])
    np.testing.assert_allclose(f(good), np.linalg.cholesky(good))
    for bad in (np.array([[1.0, 2.0], [2.0, 1.0]]), -np.eye(2), np.zeros((2, 2))):
        with pytest.raises(np.linalg.LinAlgError) as error:
            f(bad)
        assert "test_robustness.py:" in lines(error)
        with pytest.raises(np.linalg.LinAlgError):
            np.linalg.cholesky(bad)
    np.testing.assert_allclose(f(good), np.linalg.cholesky(good))


def test_an_error_in_the_body_of_a_loop_names_its_line(backend):
    def f(x, i):
        return graphc.scan(lambda c, k: (c + x[k], c), x[0], i)[0]

    g = graphc.compile(f, backend=backend)
    x = np.arange(5.0)
    assert g(x, np.array([1, 2, -1])) == 7
    with pytest.raises(IndexError) as error:
        g(x, np.array([1, 5, 0]))
    assert "test_robustness.py:" in lines(error)
    assert g(x, np.array([1, 2, 3])) == 6


def test_a_failed_call_leaves_donated_memory_alone_where_it_can():
    f = graphc.compile(lambda x, i: x + x[i], donate="x")
    x = np.arange(4, dtype=np.float32)
    with pytest.raises(IndexError):
        f(x, np.array([0, 1, 2, 9]))
    np.testing.assert_array_equal(x, np.arange(4))
    assert f(x, np.array([0, 1, 2, 3])) is x
    np.testing.assert_array_equal(x, 2 * np.arange(4))
