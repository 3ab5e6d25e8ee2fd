"""Passes that join what an unrolled loop does step by step, and the schedule that follows from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

import graphc
from graphc.backends.reference.interpret import run_graph, run_plan, run_schedule
from graphc.ir import Graph
from graphc.passes.check import check_plan
from graphc.passes.fold import eliminate_dead
from graphc.passes.fuse import fuse
from graphc.passes.join_alike import join_alike
from graphc.passes.join_dots import join_dots
from graphc.passes.join_scatters import join_scatters
from graphc.passes.join_sums import join_sums
from graphc.passes.manager import run
from graphc.passes.merge_stacks import merge_stacks
from graphc.passes.parts import place_parts
from graphc.passes.pipeline import PIPELINE
from graphc.passes.plan import Plan, PlanError, plan
from graphc.passes.project_tables import project_tables
from graphc.passes.recompute import recompute
from graphc.passes.schedule import Schedule, is_part
from graphc.passes.simplify import simplify
from graphc.passes.stage import stage
from graphc.text import from_text
from graphc.verifier import verify

RNG = np.random.default_rng(0)
PASSES = (join_scatters, join_sums, join_dots, join_alike, project_tables, merge_stacks)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def recurrence(steps: int, batch: int = 3, size: int = 16, symbols: int = 5, gates: int = 2, dtype=np.float64):
    """An unrolled recurrence with its gradients, and arguments for it."""

    def loss(p, tokens, targets):
        h = np.zeros((batch, size), dtype)
        total = dtype(0)
        for t in range(steps):
            z = p["e"][tokens[:, t]] @ p["w"] + h @ p["u"] + p["b"]
            parts = np.split(z, gates, axis=1)
            h = sigmoid(parts[0]) * h + np.tanh(parts[-1])
            y = h @ p["v"] + p["c"]
            y = y - y.max(axis=1, keepdims=True)
            log_p = y - np.log(np.exp(y).sum(axis=1, keepdims=True))
            total = total - np.take_along_axis(log_p, targets[:, t : t + 1], axis=1).mean()
        return total

    def step(p, tokens, targets):
        value, grads = graphc.value_and_grad(loss)(p, tokens, targets)
        return value, {k: p[k] - dtype(0.1) * grads[k] for k in p}

    shapes = {"e": (symbols, size), "w": (size, gates * size), "u": (size, gates * size), "b": (gates * size,)}
    shapes |= {"v": (size, symbols), "c": (symbols,)}
    p = {k: RNG.normal(0, 0.5, shape).astype(dtype) for k, shape in shapes.items()}
    data = RNG.integers(0, symbols, (2, batch, steps))
    return step, (p, data[0], data[1])


def traced(program: Callable, args) -> tuple[Graph, list[np.ndarray]]:
    graph = graphc.trace(program, *args)
    leaves: list[np.ndarray] = []
    for arg in args:
        leaves += [arg[k] for k in sorted(arg)] if isinstance(arg, dict) else [arg]
    return graph, leaves


def ops_of(graph: Graph) -> Counter[str]:
    return Counter(node.op.name for node in graph.nodes)


def same(left, right, tolerance: float = 1e-11) -> None:
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def scheduled(graph: Graph) -> Schedule:
    return stage(place_parts(recompute(fuse(graph))))


def checked(schedule: Schedule) -> Plan:
    found = plan(schedule)
    check_plan(found)
    return found


# ------------------------------------------------------------------------------------------------ laws


@pytest.mark.parametrize(
    ("steps", "batch", "size", "gates"), [(2, 3, 16, 2), (5, 1, 8, 4), (7, 4, 3, 1), (6, 2, 16, 3)]
)
def test_an_unrolled_recurrence_keeps_its_meaning(steps: int, batch: int, size: int, gates: int) -> None:
    graph, leaves = traced(*recurrence(steps, batch, size, gates=gates))
    want = run_graph(graph, leaves)
    after, _ = run(PIPELINE, graph)
    same(want, run_graph(after, leaves))
    schedule = scheduled(after)
    same(want, run_schedule(schedule, leaves))
    same(want, run_plan(checked(schedule), leaves))


def random_loop(seed: int):
    """An unrolled loop drawn at random: what each step reads and carries, how the results of the steps are put together."""
    rng = np.random.default_rng(seed)
    steps, batch, size = int(rng.integers(2, 6)), int(rng.integers(1, 4)), int(rng.choice([3, 8, 16]))
    axis, carried, reversed_ = int(rng.integers(2)), rng.integers(3), rng.integers(2)
    together, shared, indexed = rng.integers(4), rng.integers(2), rng.integers(2)
    functions = [np.tanh, sigmoid, lambda z: z * z, lambda z: np.where(z > 0, z, z * 0.1)]
    first, second = (functions[k] for k in rng.integers(len(functions), size=2))

    def loss(p, i):
        h = np.zeros((batch, size))
        found = []
        for t in range(steps)[:: -1 if reversed_ else 1]:
            x = p["table"][i[:, t]] if indexed else (p["x"][:, t] if axis else p["x"][t])
            z = x @ p["a"] + p["d"]
            if carried:
                z = z + h @ (p["b"] if carried == 1 else p["a"])
            h = first(z)
            found.append(second(h @ p["b"]) if shared else h * x)
        if together == 0:
            return np.stack(found, axis=axis).max(axis=axis).sum()
        if together == 1:
            return (np.concatenate(found, axis=1 - axis) ** 2).mean()
        return sum((np.exp(-y).sum() for y in found) if together == 2 else found, np.zeros((batch, size))).sum()

    def program(p, i):
        value, grads = graphc.value_and_grad(loss)(p, i)
        return value, grads

    p = {
        "x": rng.normal(size=(batch, steps, size) if axis else (steps, batch, size)),
        "table": rng.normal(size=(4, size)),
    }
    p |= {"a": rng.normal(size=(size, size)), "b": rng.normal(size=(size, size)), "d": rng.normal(size=size)}
    return program, (p, rng.integers(0, 4, (batch, steps)))


@pytest.mark.parametrize("seed", range(24))
def test_random_loops_keep_their_meaning(seed: int) -> None:
    graph, leaves = traced(*random_loop(seed))
    want = run_graph(graph, leaves)
    after, _ = run(PIPELINE, graph)
    same(want, run_graph(after, leaves), 1e-9)
    schedule = scheduled(after)
    same(want, run_schedule(schedule, leaves), 1e-9)
    same(want, run_plan(checked(schedule), leaves), 1e-9)


@pytest.mark.parametrize("joining", PASSES, ids=lambda f: f.__name__)
def test_a_pass_keeps_the_meaning_and_is_idempotent(joining: Callable[[Graph], Graph]) -> None:
    graph, leaves = traced(*recurrence(6))
    before, _ = run(
        [p for p in PIPELINE if p.name in ("inline_calls", "strip_identities", "simplify", "join_pads")], graph
    )
    for earlier in PASSES[: PASSES.index(joining)]:
        before = earlier(before)
    after = joining(before)
    verify(after)
    same(run_graph(before, leaves), run_graph(after, leaves))
    again = joining(after)
    assert eliminate_dead(again).digest == eliminate_dead(after).digest or joining in (join_dots, join_sums)


def test_every_joining_pass_fires_in_an_unrolled_recurrence() -> None:
    graph, _ = traced(*recurrence(8, size=32, symbols=6))
    _, report = run(PIPELINE, graph)
    fired = {e.name for e in report.entries if e.before != e.after}
    assert {p.__name__ for p in PASSES} - {"project_tables"} <= fired


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("poison", [None, np.nan, np.inf])
def test_machine_code_of_a_recurrence_is_that_of_the_reference(dtype, poison) -> None:
    step, args = recurrence(5, 3, 16, 7, 4, dtype)
    if poison is not None:
        args[0]["e"][args[1][0, 2]] = poison
    exact = graphc.compile(step, backend="reference")(*args)
    for threads in (1, 2):
        value, params = graphc.compile(step, threads=threads)(*args)
        tolerance = 1e-4 if dtype is np.float32 else 1e-11
        np.testing.assert_allclose(value, exact[0], rtol=tolerance)
        for k in params:
            np.testing.assert_allclose(params[k], exact[1][k], rtol=tolerance, atol=tolerance)


# ------------------------------------------------------------------------------------------------ what is joined


def test_steps_of_a_recurrence_are_two_kernels_forward_and_one_backward() -> None:
    def kernels(steps: int) -> int:
        graph, _ = traced(*recurrence(steps, batch=4, size=32, symbols=16))
        after, _ = run(PIPELINE, graph)
        return len(list(scheduled(after).kernels))

    assert kernels(9) - kernels(8) == 3


def test_a_recurrent_contraction_stays_as_it_is() -> None:
    def program(x, u):
        for _ in range(4):
            x = np.tanh(x @ u)
        return x

    graph, _ = traced(program, (np.ones((2, 64)), np.ones((64, 64))))
    assert ops_of(join_dots(graph))["dot"] == 4


def test_towers_that_wait_for_each_other_are_not_joined_both() -> None:
    """x @ a before y @ b in one tower, the other way round in the other: joined both ways they would form a circle."""

    def program(x, a, b):
        left = np.tanh(x[0] @ a) @ b
        right = np.tanh(x[1] @ b) @ a
        return left, right

    args = (RNG.normal(size=(2, 2, 64)), RNG.normal(size=(64, 64)), RNG.normal(size=(64, 64)))
    graph, leaves = traced(program, args)
    after = join_dots(graph)
    verify(after)
    same(run_graph(graph, leaves), run_graph(after, leaves))


def test_a_sum_of_contractions_with_two_weights_stays() -> None:
    def program(x, y, a, b):
        return x @ a + y @ b

    shapes = [(2, 64), (2, 64), (64, 64), (64, 64)]
    graph, _ = traced(program, [np.ones(s) for s in shapes])
    assert ops_of(join_sums(graph))["dot"] == 2


def test_other_terms_of_a_joined_sum_are_added_in_their_order() -> None:
    def program(x, a, b, c):
        return ((x[0].T @ x[1] + a) + x[2].T @ x[3]) + b + c

    args = [RNG.normal(size=s) for s in [(4, 2, 16), (16, 16), (16, 16), (16, 16)]]
    graph, leaves = traced(program, args)
    after = join_sums(simplify(graph))
    assert ops_of(after)["dot"] == 1 and ops_of(after)["add"] == 3
    same(run_graph(graph, leaves), run_graph(after, leaves))


def test_alike_nodes_that_depend_on_each_other_are_not_joined() -> None:
    def program(x):
        a = np.tanh(x[0])
        b = np.tanh(x[1] + a)
        return np.stack([a, b])

    graph, leaves = traced(program, (RNG.normal(size=(2, 8)),))
    after = join_alike(graph)
    assert ops_of(after)["tanh"] == 2
    same(run_graph(graph, leaves), run_graph(after, leaves))


def test_tables_are_projected_only_where_they_have_fewer_rows() -> None:
    def program(table, w, i):
        return table[i] @ w

    def first(rows: int, count: int) -> str:
        args = (np.ones((rows, 8)), np.ones((8, 4)), np.zeros(count, np.int64))
        return project_tables(simplify(graphc.trace(program, *args))).outputs[0].op.name

    assert first(3, 6) == "gather" and first(4, 6) == "dot"


def test_a_hundred_thousand_nodes_are_joined_in_seconds() -> None:
    """The time per node stays what it is."""
    import time

    def measured(steps: int) -> float:
        text = [
            "def g(x: f32[2, 8], w: f32[8, 8]):",
            "    v0: f32[2, 8] = dot(x, w, batch=((), ()), contract=((1,), (0,)))",
        ]
        for k in range(1, steps):
            text.append(f"    v{2 * k - 1}: f32[2, 8] = tanh(v{2 * k - 2})")
            text.append(f"    v{2 * k}: f32[2, 8] = dot(v{2 * k - 1}, w, batch=((), ()), contract=((1,), (0,)))")
        graph = from_text("\n".join([*text, f"    return v{2 * steps - 2}"]))
        begin = time.perf_counter()
        for joining in PASSES:
            graph = joining(graph)
        return (time.perf_counter() - begin) / steps

    assert measured(8000) < 6 * measured(1000) + 1e-5


# ------------------------------------------------------------------------------------------------ parts


def concatenated(width: int, axis: int = 0) -> Graph:
    def program(x, y, w):
        return np.sin(np.concatenate([np.tanh(x) @ w, np.exp(y) @ w, x @ w], axis=axis)[::-1])

    x = np.ones((2, 16), np.float32)
    return graphc.trace(program, x, x, np.ones((16, width), np.float32))


def test_kernels_write_into_their_parts_of_a_concatenation() -> None:
    schedule = place_parts(fuse(concatenated(32)))
    assert not any(kernel.template == "copy" for kernel in schedule.kernels)
    assert sum(is_part(schedule, r) for kernel in schedule.kernels for r in kernel.results) == 3
    checked(stage(schedule))


def test_parts_that_would_begin_between_cache_lines_are_copied() -> None:
    schedule = place_parts(fuse(concatenated(5)))
    assert any(kernel.template == "copy" for kernel in schedule.kernels)


def test_one_kernel_writes_a_concatenation_along_any_axis() -> None:
    def program(x, w):
        y = np.exp(x)
        return np.concatenate([y * 2, np.sin(y)], axis=1) @ w

    args = (RNG.normal(size=(3, 5)).astype(np.float32), RNG.normal(size=(10, 2)).astype(np.float32))
    graph, leaves = traced(program, args)
    schedule = place_parts(fuse(graph))
    assert [kernel.template for kernel in schedule.kernels] == ["elementwise", "contraction"]
    same(run_graph(graph, leaves), run_schedule(schedule, leaves))
    np.testing.assert_allclose(graphc.compile(program)(*args), program(*args), rtol=1e-5)


def test_the_checker_finds_parts_that_overlap() -> None:
    from dataclasses import replace

    schedule = stage(place_parts(fuse(concatenated(32))))
    values = tuple(replace(v, offset=0) for v in schedule.values)
    with pytest.raises(PlanError, match="which has a value already"):
        checked(replace(schedule, values=values))


def test_the_checker_finds_parts_that_nobody_writes() -> None:
    from dataclasses import replace

    schedule = stage(place_parts(fuse(concatenated(32))))
    written = next(k for k in schedule.kernels if is_part(schedule, k.results[0]))
    stages = tuple(tuple(k for k in ks if k is not written) for ks in schedule.stages)
    with pytest.raises(PlanError, match="before it is written"):
        checked(replace(schedule, stages=tuple(ks for ks in stages if ks)))


# ------------------------------------------------------------------------------------------------ recomputation


def test_cheap_values_are_made_again_by_their_reader() -> None:
    def program(x, w):
        e = np.exp(x)
        s = 1 / (1 + e)
        return (e * (s @ w)) * s

    args = (RNG.normal(size=(4, 8)), RNG.normal(size=(8, 8)))
    graph, leaves = traced(program, args)
    before = fuse(graph)
    after = recompute(before)
    count = [sum(len(k.results) for k in s.kernels) for s in (before, after)]
    assert count[1] <= count[0]
    same(run_graph(graph, leaves), run_schedule(after, leaves))


def test_what_a_maximum_is_subtracted_from_is_not_made_again() -> None:
    text = """
def g(x: f32[4, 8], y: f32[4, 8], w: f32[8, 8]):
    v0: f32[4, 8] = mul(x, y)
    v1: f32[4, 8] = dot(v0, w, batch=((), ()), contract=((1,), (0,)))
    v2: f32[4, 8] = sub(v0, v1)
    return v2"""
    schedule = fuse(from_text(text))
    assert recompute(schedule) is schedule
