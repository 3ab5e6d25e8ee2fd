"""The interpreter and the reference backend: fresh results, checked types, and ``backend="reference"``."""

from __future__ import annotations

import time

import numpy as np
import pytest
from op_samples import SAMPLES, Sample, draw
from random_graphs import random_graph, random_inputs

import graphc
from graphc import ops
from graphc.backends.reference import UnwrittenError, run_graph, run_plan, run_schedule
from graphc.interpreter import evaluate, program_of
from graphc.ir import Builder, Graph, GraphError, Op
from graphc.ops.base import same_type
from graphc.passes.check import check_plan
from graphc.passes.complex import lower_complex
from graphc.passes.fold import inline_calls
from graphc.passes.fuse import fuse
from graphc.passes.plan import plan
from graphc.passes.simplify import strip_identities
from graphc.passes.stage import stage
from graphc.text import from_text
from graphc.types import DType, TensorType, TupleType, bool_, c64, dtype, f32, i32


def graph_of(*lines: str) -> Graph:
    return from_text("\n".join(lines))


# ------------------------------------------------------------------------------------------------ evaluate


def test_results_are_fresh() -> None:
    """No result shares memory with an input, a constant or another result; all can be written."""
    graph = graph_of(
        "def g(x: f32[2, 3]):",
        "    v0: f32[3, 2] = transpose(x, axes=(1, 0))",
        "    v1: f32[2, 3] = const(f32[2, 3], [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])",
        "    v2: f32[6] = reshape(x, shape=(6,))",
        "    v3: f32[4, 2, 3] = broadcast_to(x, axes=(1, 2), shape=(4, 2, 3))",
        "    v4: f32[2, 3] = tanh(x)",
        "    return x, v0, v1, v2, v3, v4, v4",
    )
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    results = evaluate(graph, [x], check=True)
    constant = graph.outputs[2]["value"].value
    for k, result in enumerate(results):
        assert result.flags.c_contiguous and result.flags.writeable
        assert not any(np.shares_memory(result, other) for other in [x, constant, *results[:k]])
        result[...] = 7
    assert (x == np.arange(6).reshape(2, 3)).all() and constant[0, 0] == 1


def test_results_do_not_depend_on_the_layout_of_inputs() -> None:
    graph = random_graph(5, size=60)
    inputs = random_inputs(graph, 5)
    strided = [np.asfortranarray(x) for x in inputs]
    with np.errstate(all="ignore"):
        for a, b in zip(evaluate(graph, inputs), evaluate(graph, strided), strict=True):
            assert a.tobytes() == b.tobytes()


def test_dead_values_are_freed() -> None:
    with Builder() as b:
        y = b.input("x", TensorType(f32, (4,)))
        for _ in range(50):
            y = ops.tanh(y)
        graph = b.graph([y])
    program = program_of(graph)
    assert program is program_of(graph)
    freed = {slot for step in program.steps for slot in step[6]}
    assert freed == set(range(program.size)) - set(program.outputs)


def test_wrong_results_are_found() -> None:
    """An op whose eval disagrees with its infer."""
    bad = Op("bad", "elementwise", infer=same_type("bad"), eval=lambda x: x.astype(np.float64))
    with Builder() as b:
        graph = b.graph([bad(b.input("x", TensorType(f32, (2,))))])
    with pytest.raises(GraphError, match=r"evaluates to float64\[2\], not f32\[2\]"):
        run_graph(graph, [np.ones(2, np.float32)])
    with pytest.raises(GraphError, match="takes 1 inputs, 0 given"):
        evaluate(graph, [])
    with pytest.raises(GraphError, match="evaluates to"):
        run_graph(graph, [np.ones(3, np.float32)])


def test_scalars_and_tuples() -> None:
    graph = graph_of(
        "def g(x: f32[5]):",
        "    v0: (f32[2], i64[2]) = top_k(x, k=2)",
        "    v1: i64[2] = v0[1]",
        "    v2: f32 = reduce_sum(x, axes=(0,))",
        "    v3: bool = eq(v2, v2)",
        "    return v1, v2, v3",
    )
    places, total, truth = run_graph(graph, [np.array([3, 1, 4, 1, 5], np.float32)])
    assert places.tolist() == [4, 2] and total == 14 and truth.shape == () and truth.dtype == bool


def test_overhead_per_node() -> None:
    """About 1 µs a node on an idle machine; the bound leaves room for a busy one."""
    nothing = Op("nothing", "elementwise", infer=same_type("nothing"), eval=lambda x: x)
    with Builder() as b:
        y = b.input("x", TensorType(f32, (4,)))
        for _ in range(20_000):
            y = nothing(y)
        graph = b.graph([y])
    inputs = [np.ones(4, np.float32)]
    best = min(timed(graph, inputs) for _ in range(5))
    assert best / len(graph.nodes) < 10e-6


def timed(graph: Graph, inputs: list[np.ndarray]) -> float:
    begin = time.perf_counter()
    evaluate(graph, inputs)
    return time.perf_counter() - begin


# ------------------------------------------------------------------------------------------------ three ways to run


@pytest.mark.parametrize("seed", range(40))
def test_graph_schedule_and_plan_agree(seed: int) -> None:
    graph = random_graph(500 + seed, size=30, control=seed % 2 == 0)
    inputs = random_inputs(graph, seed)
    schedule = stage(fuse(graph))
    with np.errstate(all="ignore"):
        want = run_graph(graph, inputs)
        for have in (run_schedule(schedule, inputs), run_plan(plan(schedule), inputs)):
            assert [x.tobytes() for x in want] == [x.tobytes() for x in have]
            for k, x in enumerate(have):
                assert not any(np.shares_memory(x, other) for other in [*inputs, *have[:k]])


def accepted(name: str, sample: Sample, element: DType) -> list[np.ndarray] | None:
    """Operands of ``element`` where the op takes them."""
    arrays = draw(name, sample, element)
    try:
        ops.OPS[name].infer(*[TensorType(dtype(a.dtype), a.shape) for a in arrays], **sample.attrs)
    except GraphError:
        return None
    return arrays


@pytest.mark.parametrize("name", SAMPLES)
def test_every_op_fuses_and_plans(name: str) -> None:
    """Each op on operands that are stored transposed, with work before and after it."""
    for sample in SAMPLES[name]:
        found = (accepted(name, sample, element) for element in (f32, i32, bool_, c64))
        arrays = next(arrays for arrays in found if arrays is not None)
        with Builder() as b:
            stored = [b.input(f"x{k}", TensorType(dtype(a.dtype), a.shape[::-1])) for k, a in enumerate(arrays)]
            operands = [ops.transpose(x, axes=tuple(reversed(range(x.type.ndim)))) for x in stored]
            result = ops.OPS[name](*operands, **sample.attrs)
            results = ops.items(result) if isinstance(result.type, TupleType) else [result]
            after = [ops.neg(r) if r.type.dtype.kind == "f" else ops.eq(r, r) for r in results]
            graph = lower_complex(inline_calls(b.graph([*after, results[0]])))
        result_plan = plan(stage(fuse(graph)))
        check_plan(result_plan)
        inputs = [np.array(a.T, order="C") for a in arrays]
        with np.errstate(all="ignore"):
            want = run_graph(graph, inputs)
            for have in (run_schedule(result_plan.schedule, inputs), run_plan(result_plan, inputs)):
                assert [x.tobytes() for x in want] == [x.tobytes() for x in have]


def test_inputs_are_never_written() -> None:
    graph = graph_of("def g(x: f32[4]):", "    v0: f32[4] = neg(x)", "    return v0")
    x = np.ones(4, np.float32)
    result = plan(fuse(graph), {0: 0})
    assert (run_plan(result, [x])[0] == -1).all() and (x == 1).all()


def test_a_schedule_out_of_order_is_an_error() -> None:
    from dataclasses import replace

    graph = graph_of(
        "def g(x: f32[4, 4]):",
        "    v0: f32[4, 4] = dot(x, x, batch=((), ()), contract=((1,), (0,)))",
        "    v1: f32[4, 4] = dot(v0, x, batch=((), ()), contract=((1,), (0,)))",
        "    return v1",
    )
    schedule = fuse(graph)
    with pytest.raises(UnwrittenError, match="is read before it is written"):
        run_schedule(replace(schedule, stages=schedule.stages[::-1]), [np.ones((4, 4), np.float32)])


# ------------------------------------------------------------------------------------------------ backend="reference"


def test_compile_for_reference() -> None:
    f = graphc.compile(lambda p, x: (p - 0.5 * x, (p * x).sum()), donate=(0,), backend="reference")
    p, x = np.ones(4, np.float32), np.arange(4, dtype=np.float32)
    q, total = f(p, x)
    assert q is p and q.tolist() == [1.0, 0.5, 0.0, -0.5] and total == 6


def test_training_step_on_reference() -> None:
    step = graphc.TrainingStep(
        lambda p, x: ((x @ p["w"]) ** 2).mean(),
        {"w": np.ones((3, 2), np.float32)},
        graphc.optim.sgd(0.05),
        backend="reference",
    )
    x = np.ones((4, 3), np.float32)
    losses = [float(step(x)) for _ in range(3)]
    assert losses[0] == 9 and losses == sorted(losses, reverse=True)


def test_errors_of_a_plan_carry_the_kernel_and_the_line() -> None:
    graph = strip_identities(inline_calls(graphc.trace(lambda x, i: x[i], np.ones(3, np.float32), np.array([7]))))
    with pytest.raises(IndexError, match="out of bounds") as caught:
        run_plan(plan(fuse(graph)), [np.ones(3, np.float32), np.array([7])])
    (note,) = caught.value.__notes__
    assert "elementwise, from" in note and "test_reference.py" in note


def test_integers_wrap() -> None:
    graph = graph_of("def g(x: i32[2]):", "    v0: i32[2] = mul(x, x)", "    return v0")
    assert run_graph(graph, [np.full(2, 1 << 20, np.int32)])[0].tolist() == [0, 0]
    assert i32.itemsize == 4
