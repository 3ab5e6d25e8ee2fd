"""Plans as programs: stages, shared kernels, loops and branches of the tape, errors, owned and donated memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from random_graphs import random_donations, random_graph, random_inputs

import graphc
from graphc import ops
from graphc.backends.cpu import assemble as assembling
from graphc.backends.cpu import compile_sources, scratch
from graphc.backends.cpu.assemble import Assembled, assemble, threads_for
from graphc.backends.cpu.codegen import Code
from graphc.backends.cpu.runtime import Executable
from graphc.backends.cpu.runtime.tape import Run, decode
from graphc.interpreter import evaluate
from graphc.ir import Builder, Graph, Line, Op
from graphc.passes.fuse import fuse
from graphc.passes.plan import Plan, plan
from graphc.passes.stage import stage
from graphc.types import TensorType, f32


def planned(graph: Graph, donated: Mapping[int, int] | None = None) -> Plan:
    return plan(stage(fuse(graph), donated or {}), donated, scratch)


def loaded(assembled: Assembled, **options: Any) -> Executable:
    return Executable(assembled.program, list(compile_sources(assembled.sources).values()), **options)


def check(
    graph: Graph, *inputs: np.ndarray, donated: Mapping[int, int] | None = None, tolerance: float = 1e-5
) -> Assembled:
    """The program gives what the graph means, and the same bits on two threads."""
    assembled = assemble(planned(graph, donated))
    want = evaluate(graph, inputs)
    runs = [loaded(assembled, threads=n).call([np.copy(x) for x in inputs]) for n in (1, 2)]
    for one, two, w in zip(*runs, want, strict=True):
        assert one.tobytes() == two.tobytes()
        np.testing.assert_allclose(one, w, rtol=tolerance, atol=tolerance)
    return assembled


def traced(function: Callable[..., Any], *args: Any) -> Graph:
    return graphc.trace(function, *args)


@pytest.fixture
def always_parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kernel is worth all threads."""
    monkeypatch.setattr(assembling, "WORTH_A_THREAD", 1)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


# ------------------------------------------------------------------------------------------------ stages


def test_equal_kernels_are_one_function() -> None:
    def layers(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        for k in range(6):
            x = np.tanh(x @ w) * (0.1 + k / 100)
        return x

    assembled = check(traced(layers, numbers(8, 12), numbers(12, 12)), numbers(8, 12), numbers(12, 12))
    assert len(assembled.program.kernels) == 1
    assert max(map(len, assembled.users.values())) == 6


@pytest.mark.usefixtures("always_parallel")
def test_kernels_in_steps() -> None:
    """A long reduction is two kernels one after the other, which have scratch in common."""
    x = numbers(200_000)
    assembled = check(traced(lambda x: (x.argmax(), x.argmin()), x), x)
    assert len(assembled.program.kernels) >= 2
    assert assembled.program.scratch_bytes > 0


def test_threads_follow_the_work() -> None:
    def code(units: int, work: float) -> Code:
        return Code("", "k", (), 0, units, work)

    assert threads_for(code(1000, 500.0)) == 1
    assert threads_for(code(1000, 45_000.0)) == 5
    assert threads_for(code(3, 1e9)) == 3
    assert threads_for(code(10**6, 1e12)) == assembling.MOST_THREADS
    small = assemble(planned(traced(lambda x: np.tanh(x), numbers(64))))
    large = assemble(planned(traced(lambda x: np.tanh(x), numbers(1 << 20))))
    assert (small.program.threads, small.program.kernels) == (1, large.program.kernels)
    assert large.program.threads > 8


def test_small_kernels_of_a_long_program_have_more_threads() -> None:
    scanned = planned(
        traced(lambda x: graphc.scan(lambda c, _: (np.tanh(c), None), x, None, length=50)[0], numbers(64))
    )
    once = planned(traced(lambda x: np.tanh(x), numbers(64)))
    assert assembling.total_work(scanned) >= 50 * assembling.total_work(once) > 0
    assert assembling.total_work(scanned) < assembling.LONG
    middling = numbers(128, 512)  # worth two threads only where these are awake
    short = assemble(planned(traced(lambda x: x + 1, middling)))
    long = assemble(planned(traced(lambda x, y: (x + 1, np.sin(y)), middling, numbers(1 << 20))))
    caps = [
        {call[2] for _, run in decode(a.program.tape) if isinstance(run, Run) for call in run.calls}
        for a in (short, long)
    ]
    assert caps[0] == {1} and min(caps[1]) > 1


def test_empty_results_need_no_kernel() -> None:
    x = numbers(0, 5)
    assembled = check(traced(lambda x: (np.tanh(x), x.sum(axis=1), x.sum(axis=0)), x), x)
    assert len(assembled.program.kernels) == 1


def test_constants_are_kept_once() -> None:
    table = np.arange(60, dtype=np.float32).reshape(20, 3)
    assembled = check(traced(lambda x: (x @ table, np.tanh(x @ np.copy(table))), numbers(4, 20)), numbers(4, 20))
    assert [len(block) for block in assembled.program.constants] == [240]


# ------------------------------------------------------------------------------------------------ memory of the caller


def test_donated_memory() -> None:
    graph = traced(lambda w, g: (w - 0.1 * g, (g * g).sum()), numbers(30), numbers(30))
    assembled = assemble(planned(graph, {0: 0}))
    assert [o.donated for o in assembled.program.outputs] == [0, None]
    w, g = numbers(30), numbers(30, seed=1)
    want = evaluate(graph, [w, g])
    new, total = loaded(assembled).call([w, g])
    assert new is w
    np.testing.assert_allclose(new, want[0], rtol=1e-6)
    np.testing.assert_allclose(total, want[1], rtol=1e-6)


def test_owned_memory() -> None:
    """Owned inputs are bound once; the outputs that they are donated to are not returned."""
    graph = traced(lambda w, m, x: ((w * x).sum(), w + x, m * 2), numbers(9), numbers(4), numbers(9))
    assembled = assemble(planned(graph, {0: 1, 1: 2}), owned=(0, 1))
    program = assembled.program
    assert ([s.name for s in program.owned], [s.name for s in program.inputs], len(program.outputs)) == (
        ["w", "m"],
        ["x"],
        1,
    )
    w, m, x = numbers(9), numbers(4), numbers(9, seed=1)
    start_w, start_m = w.copy(), m.copy()
    exe = loaded(assembled, owned=[w, m])
    for k in range(3):
        (total,) = exe.call([x])
        np.testing.assert_allclose(total, ((start_w + k * x) * x).sum(), rtol=1e-5)
    np.testing.assert_allclose(w, start_w + 3 * x, rtol=1e-5)
    np.testing.assert_array_equal(m, start_m * 8)


# ------------------------------------------------------------------------------------------------ loops and branches


def step_in_place(c: Any, x: Any) -> tuple[Any, Any]:
    return c * 0.5 + x, c.sum()


def step_beside(c: Any, x: Any) -> tuple[Any, Any]:
    """The carry is read after it could be overwritten: it needs a second buffer."""
    return np.tanh(c @ np.eye(3, dtype=np.float32) + x), c[::-1] * x


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 7])
@pytest.mark.parametrize("body", [step_in_place, step_beside])
@pytest.mark.parametrize("reverse", [False, True])
def test_scan(length: int, body: Callable[..., Any], reverse: bool) -> None:
    c, xs = numbers(3), numbers(length, 3)
    check(traced(lambda c, xs: graphc.scan(body, c, xs, reverse=reverse), c, xs), c, xs)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_scan_of_several(length: int) -> None:
    """Two carries (one in place, one beside), two operands with slices, a constant, two results with slices."""

    def run(a: Any, b: Any, xs: Any, zs: Any, k: Any) -> Any:
        def body(carry: Any, x: Any) -> Any:
            a, b = carry
            x, z = x
            return (a + b.sum() * k, np.sin(b[::-1] + a[:4])), (x * a, z @ z)

        return graphc.scan(body, (a, b), (xs, zs))

    args = numbers(6), numbers(4), numbers(length, 6), numbers(length, 2, 2), np.asarray(0.3, np.float32)
    check(traced(run, *args), *args)


@pytest.mark.parametrize(("outer", "inner"), [(1, 1), (2, 3), (3, 2), (4, 0)])
def test_nested_scans(outer: int, inner: int) -> None:
    """An inner loop moves along a slice that the outer one moves."""

    def run(c: Any, xs: Any) -> Any:
        def outer_body(c: Any, block: Any) -> Any:
            c, ys = graphc.scan(lambda c, x: (np.tanh(c + x[::-1]), c * x), c, block)
            return c * 0.5, ys

        return graphc.scan(outer_body, c, xs)

    args = numbers(5), numbers(outer, inner, 5)
    check(traced(run, *args), *args)


def test_while_loop() -> None:
    def run(c: Any, limit: Any) -> Any:
        return graphc.while_loop(lambda s: s[0].sum() < limit, lambda s: (s[0] * 1.5 + s[1][::-1], s[1] + 1), (c, c))

    for limit in (-100.0, 5.0, 1000.0):
        args = np.abs(numbers(4)), np.asarray(limit, np.float32)
        check(traced(run, *args), *args)


def test_cond_and_switch() -> None:
    def branch(p: Any, x: Any) -> Any:
        return graphc.cond(p, lambda x: (x * 2, x.max()), lambda x: (x[::-1], x.sum()), x)

    x = numbers(6)
    for p in (True, False):
        check(traced(branch, np.asarray(p), x), np.asarray(p), x)
    graph = traced(lambda k, x: graphc.switch(k, [lambda x: x + 1, lambda x: x * x.sum(), np.tanh], x), np.int32(0), x)
    for k in (-3, 0, 1, 2, 9):
        check(graph, np.asarray(k, np.int32), x)


def test_cond_in_a_loop_in_a_cond() -> None:
    def run(n: Any, xs: Any) -> Any:
        def body(c: Any, x: Any) -> Any:
            c = graphc.cond(
                x.sum() > 0, lambda c: c + x, lambda c: graphc.while_loop(lambda s: s.sum() > 1, lambda s: s / 2, c), c
            )
            return c, c * 2

        return graphc.cond(n > 0, lambda xs: graphc.scan(body, xs[0], xs), lambda xs: (xs[1], xs * 3), xs)

    xs = numbers(5, 4)
    graph = traced(run, np.int32(1), xs)
    for n in (0, 1):
        check(graph, np.asarray(n, np.int32), xs)


@pytest.mark.usefixtures("always_parallel")
@pytest.mark.parametrize("seed", range(24))
def test_random_programs(seed: int) -> None:
    graph = random_graph(seed, 25, control=True)
    inputs = random_inputs(graph, seed)
    donated = random_donations(graph, seed)
    assembled = assemble(planned(graph, donated))
    runs = [loaded(assembled, threads=n).call([x.copy() for x in inputs]) for n in (1, 2)]
    for one, two, want in zip(*runs, evaluate(graph, inputs), strict=True):
        assert one.tobytes() == two.tobytes()
        assert (one.dtype, one.shape) == (want.dtype, want.shape)
        if want.dtype.kind != "f":
            np.testing.assert_array_equal(one, want)


# ------------------------------------------------------------------------------------------------ errors


def test_an_error_names_the_node_and_the_line() -> None:
    def pick(x: Any, i: Any) -> Any:
        y = np.tanh(x)
        return y[i] * 2  # the line that is named

    x, i = numbers(5), np.array([0, 7])
    graph = traced(pick, x, i)
    exe = loaded(assemble(planned(graph)))
    message = r"gather: an index is out of bounds for axis 0 with size 5 \(v\d+, .*test_assemble.py:\d+\)"
    with pytest.raises(IndexError, match=message):
        exe.call([x, i])
    np.testing.assert_allclose(exe.call([x, np.array([0, -1])])[0], np.tanh(x[[0, -1]]) * 2, rtol=1e-6)


def test_errors_after_the_first_write_are_known() -> None:
    """An error that comes after owned memory was written is told apart from one that comes before."""

    def run(w: Any, i: Any) -> Any:
        new = w * 2
        return new, (new[i]).sum()

    def early(w: Any, i: Any) -> Any:
        return w * 2 + w[i].sum()

    w, i = numbers(5), np.array([1])
    late = assemble(planned(traced(run, w, i), {0: 0}), owned=(0,))
    assert late.late_errors and late.late_errors <= set(late.program.errors)
    assert not assemble(planned(traced(early, w, i), {0: 0}), owned=(0,)).late_errors


def test_a_missing_emitter_names_node_and_line() -> None:
    unknown = Op("frobnicate", "elementwise", lambda x: x, lambda x: x)
    with Builder() as b:
        graph = b.graph([unknown(ops.tanh(b.input("x", TensorType(f32, (8,)))))])
    line = Line("model.py", 31)
    graph = Graph(graph.name, graph.inputs, graph.outputs, graph.nodes, {graph.outputs[0]: (line,)})
    with pytest.raises(NotImplementedError, match=r"cpu has no emitter for frobnicate \(v1, model.py:31\)"):
        assemble(plan(stage(fuse(graph)), None))
