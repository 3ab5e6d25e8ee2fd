"""Memory plans: golden text, laws on random graphs, donation, in-place pairs, control flow, and plans that are wrong.

``python tests/test_plan.py`` writes the golden texts anew; read the diff.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_donations, random_graph, random_inputs

from graphc import ops
from graphc.autodiff import vjp_nodes
from graphc.backends.reference import run_graph, run_plan
from graphc.ir import Builder, Graph
from graphc.passes.check import check_plan
from graphc.passes.fuse import fuse
from graphc.passes.packing import ALIGNMENT, Span, most_live, pack
from graphc.passes.plan import Plan, PlanError, plan
from graphc.passes.stage import MAX_STAGE, SMALL_WORK, stage
from graphc.text import from_text
from graphc.types import TensorType, f32

GOLDEN = Path(__file__).parent / "golden"


def planned(graph: Graph, donated: dict[int, int] | None = None) -> Plan:
    result = plan(stage(fuse(graph), donated), donated)
    check_plan(result)
    return result


def assert_same(graph: Graph, result: Plan, seed: int = 0) -> None:
    inputs = random_inputs(graph, seed)
    with np.errstate(all="ignore"):
        want, have = run_graph(graph, inputs), run_plan(result, inputs)
    for x, y in zip(want, have, strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert x.tobytes() == y.tobytes()


def training_step(layers: int = 3, batch: int = 32, width: int = 64) -> Graph:
    """A multi-layer perceptron with tanh, a squared loss, and momentum SGD."""

    def tensor(*shape: int) -> TensorType:
        return TensorType(f32, shape)

    with Builder("step") as b:
        params = [b.input(f"w{k}", tensor(width, width)) for k in range(layers)]
        momenta = [b.input(f"m{k}", tensor(width, width)) for k in range(layers)]
        h, y = b.input("x", tensor(batch, width)), b.input("y", tensor(batch, width))
        for w in params:
            h = ops.tanh(ops.matmul(h, w))
        error = ops.sub(h, y)
        loss = ops.mean(ops.mul(error, error), (0, 1))
        gradients = vjp_nodes([loss], [ops.const(1.0, f32)], params)
        new_m = [ops.add(ops.mul(m, ops.like(m, 0.9)), g) for m, g in zip(momenta, gradients, strict=True) if g]
        new_w = [ops.sub(w, ops.mul(m, ops.like(m, 0.1))) for w, m in zip(params, new_m, strict=True)]
        return b.graph([loss, *new_w, *new_m])


DONATED = {k: k + 1 for k in range(6)}

# ------------------------------------------------------------------------------------------------ golden


PROGRAMS: dict[str, Callable[[], str]] = {
    "step": lambda: str(planned(training_step(2, 8, 16))),
    "step_donated": lambda: str(planned(training_step(2, 8, 16), {k: k + 1 for k in range(4)})),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_golden(name: str) -> None:
    assert PROGRAMS[name]() == PROGRAMS[name](), "the text must be the same every time"
    assert PROGRAMS[name]() + "\n" == (GOLDEN / f"plan_{name}.txt").read_text()


# ------------------------------------------------------------------------------------------------ laws


@pytest.mark.parametrize("seed", range(100))
def test_planned_bytes_give_the_values_of_the_graph(seed: int) -> None:
    graph = random_graph(seed, size=10 + seed % 70, control=seed % 3 == 0)
    for donated in ({}, random_donations(graph, seed)):
        assert_same(graph, planned(graph, donated), seed)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 20), st.integers(0, 8)), max_size=60))
def test_packed_spans_do_not_overlap(raw: list[tuple[int, int, int]]) -> None:
    spans = [Span(size, first, first + length) for size, first, length in raw]
    offsets, total = pack(spans)
    assert total >= most_live(spans) and all(o % ALIGNMENT == 0 for o in offsets)
    for k, (a, x) in enumerate(zip(spans, offsets, strict=True)):
        assert x + a.size <= total
        for b, y in zip(spans[:k], offsets[:k], strict=True):
            together = a.first <= b.last and b.first <= a.last
            assert not together or x + a.size <= y or y + b.size <= x or not a.size or not b.size


@pytest.mark.parametrize(("layers", "batch", "width"), [(3, 32, 64), (8, 128, 96), (12, 16, 256)])
@pytest.mark.parametrize("donate", [False, True])
def test_training_steps_reach_the_lower_bound(layers: int, batch: int, width: int, donate: bool) -> None:
    graph = training_step(layers, batch, width)
    result = planned(graph, {k: k + 1 for k in range(2 * layers)} if donate else {})
    bound = result.lower_bound_bytes
    assert result.arena_bytes <= max(1.05 * bound, bound + 64 * 1024)
    assert result.unplanned_bytes > result.arena_bytes
    assert len(result.donations) == (2 * layers if donate else 0)


# ------------------------------------------------------------------------------------------------ staging


def test_stages_hold_small_independent_kernels() -> None:
    graph = training_step(3, 8, 16)
    schedule = stage(fuse(graph))
    assert len(schedule.stages) < len(list(schedule.kernels))
    for kernels in schedule.stages:
        written = {r for k in kernels for r in k.results}
        assert len(kernels) <= MAX_STAGE
        assert not any(a in written for k in kernels for a in k.args)
    assert [k.name for k in schedule.kernels] == [f"k{n}" for n in range(len(list(schedule.kernels)))]


def test_large_kernels_are_alone() -> None:
    text = f"""
def g(x: f32[{SMALL_WORK}], y: f32[{SMALL_WORK}]):
    v0: f32[{SMALL_WORK}] = tanh(x)
    v1: f32[{SMALL_WORK}] = exp(y)
    return v0, v1"""
    assert [len(s) for s in stage(fuse(from_text(text))).stages] == [1, 1]


def test_memory_decides_the_order() -> None:
    """Four branches that the program advances in turn: they run one after the other, each in two buffers."""
    square = {"batch": ((), ()), "contract": ((1,), (0,))}
    with Builder() as b:
        inputs = [b.input(f"x{k}", TensorType(f32, (64, 64))) for k in range(4)]
        heads, nodes = inputs, list(inputs)
        for _ in range(3):
            heads = [ops.dot(h, h, **square) for h in heads]
            nodes += heads
        sums = [ops.reduce_sum(h, axes=(0, 1)) for h in heads]
    graph = Graph("branches", tuple(inputs), tuple(sums), (*nodes, *sums))
    in_order = plan(fuse(graph))
    result = planned(graph)
    assert in_order.lower_bound_bytes == 5 * 16384 and result.lower_bound_bytes <= 2 * 16384
    assert_same(graph, result)


# ------------------------------------------------------------------------------------------------ donation, in place


def test_donated_inputs_are_overwritten_in_place() -> None:
    graph = training_step()
    result = planned(graph, DONATED)
    assert dict(result.donations) == DONATED
    assert len(list(result.schedule.kernels)) == len(list(fuse(graph).kernels)), "nothing is copied"
    pairs = [p for kernel in result.schedule.kernels for p in result.in_place.get(kernel, ())]
    assert len(pairs) >= len(DONATED)
    assert_same(graph, result)


def test_swapped_inputs_need_one_copy() -> None:
    graph = from_text(
        "def g(x: f32[4], y: f32[4]):\n    v0: f32[4] = neg(y)\n    v1: f32[4] = neg(x)\n    return v0, v1"
    )
    result = planned(graph, {0: 0, 1: 1})
    assert len(list(result.schedule.kernels)) == 3
    assert_same(graph, result)


def test_readers_come_before_the_writer() -> None:
    """x is donated to the first output, and read by a contraction that program order puts later."""
    text = """
def g(x: f32[4, 4], y: f32[4, 4]):
    v0: f32[4, 4] = add(x, y)
    v1: f32[4, 4] = dot(y, x, batch=((), ()), contract=((1,), (0,)))
    return v0, v1"""
    graph = from_text(text)
    result = planned(graph, {0: 0})
    assert [k.template for k in result.schedule.kernels] == ["contraction", "elementwise"]
    assert_same(graph, result)


def test_an_operand_of_a_contraction_is_not_overwritten() -> None:
    text = """
def g(x: f32[4, 4], y: f32[4, 4]):
    v0: f32[4, 4] = dot(x, y, batch=((), ()), contract=((1,), (0,)))
    v1: f32[4, 4] = add(v0, x)
    return v1"""
    graph = from_text(text)
    result = planned(graph, {0: 0})
    assert len(list(result.schedule.kernels)) == 2, "computed in the arena, then copied"
    assert_same(graph, result)


def test_an_unchanged_donated_input_stays_where_it_is() -> None:
    graph = from_text("def g(x: f32[4]):\n    v0: f32[4] = neg(x)\n    return x, v0")
    result = planned(graph, {0: 0})
    assert_same(graph, result)
    assert sum(len(p) for p in result.in_place.values()) == 1


def test_a_transposed_argument_is_not_overwritten() -> None:
    text = """
def g(x: f32[4, 4]):
    v0: f32[4, 4] = dot(x, x, batch=((), ()), contract=((1,), (0,)))
    v1: f32[4, 4] = transpose(v0, axes=(1, 0))
    v2: f32[4, 4] = mul(v1, x)
    v3: f32[4, 4] = dot(v2, x, batch=((), ()), contract=((1,), (0,)))
    return v3"""
    graph = from_text(text)
    result = planned(graph)
    assert not result.in_place
    assert_same(graph, result)


def test_softmax_overwrites_its_operand() -> None:
    text = """
def g(x: f32[4, 4]):
    v0: f32[4, 4] = dot(x, x, batch=((), ()), contract=((1,), (0,)))
    v1: f32[4] = reduce_max(v0, axes=(1,))
    v2: f32[4, 4] = broadcast_to(v1, shape=(4, 4), axes=(0,))
    v3: f32[4, 4] = sub(v0, v2)
    v4: f32[4, 4] = exp(v3)
    v5: f32[4] = reduce_sum(v4, axes=(1,))
    v6: f32[4, 4] = broadcast_to(v5, shape=(4, 4), axes=(0,))
    v7: f32[4, 4] = div(v4, v6)
    v8: f32[4, 4] = dot(v7, x, batch=((), ()), contract=((1,), (0,)))
    return v8"""
    graph = from_text(text)
    result = planned(graph)
    (row,) = (k for k in result.schedule.kernels if k.template == "row")
    assert result.in_place[row] == ((0, 0),)
    assert result.arena_bytes == 64
    assert_same(graph, result)


def test_scatter_updates_its_operand() -> None:
    text = """
def g(x: f32[8, 4], u: f32[2, 4], i: i32[2]):
    v0: f32[8, 4] = exp(x)
    v1: f32[8, 4] = scatter(v0, u, i, axes=(0,), mode='clip', combine='add')
    v2: f32[8] = reduce_sum(v1, axes=(1,))
    return v2"""
    graph = from_text(text)
    result = planned(graph)
    (segment,) = (k for k in result.schedule.kernels if k.template == "segment")
    assert result.in_place[segment] == ((0, 0),)
    assert_same(graph, result)


def test_bad_donations_are_refused() -> None:
    schedule = fuse(from_text("def g(x: f32[4], y: f32[3]):\n    v0: f32[4] = neg(x)\n    return v0"))
    with pytest.raises(PlanError, match=r"input 1 is f32\[3\], output 0 is f32\[4\]"):
        plan(schedule, {1: 0})
    with pytest.raises(PlanError, match="no input 5"):
        plan(schedule, {5: 0})


# ------------------------------------------------------------------------------------------------ control flow

SCAN = """
def g(c: f32[4], d: f32[2], xs: f32[5, 4], w: f32[4]):
    def body(c: f32[4], d: f32[2], x: f32[4], w: f32[4]):
        v0: f32[4] = mul(c, w)
        v1: f32[4] = add(v0, x)
        v2: f32 = reduce_sum(v1, axes=(0,))
        v3: f32[2] = broadcast_to(v2, shape=(2,), axes=())
        v4: f32[2] = slice(d, start=(1,), size=(2,), step=(-1,))
        v5: f32[2] = add(v3, v4)
        return v1, v5, v3
    v0: (f32[4], f32[2], f32[5, 2]) = scan(c, d, xs, w, body=body, length=5, n_carry=2, n_xs=1, reverse=False)
    v1: f32[4] = v0[0]
    v2: f32[2] = v0[1]
    v3: f32[5, 2] = v0[2]
    return v1, v2, v3
"""


@pytest.mark.parametrize("length", [1, 4, 5])
@pytest.mark.parametrize("reverse", [False, True])
def test_scan_alternates_between_two_buffers(length: int, reverse: bool) -> None:
    text = SCAN.replace("f32[5", f"f32[{length}").replace("length=5", f"length={length}")
    graph = from_text(text.replace("reverse=False", f"reverse={reverse}"))
    result = planned(graph)
    (kernel,) = result.schedule.kernels
    in_place, second = result.blocks[kernel].carries
    assert in_place is None, "c is read where it is written"
    assert second is not None, "d is read backwards"
    assert_same(graph, result)


def test_loops_and_branches_nest() -> None:
    for seed in range(12):
        graph = random_graph(1000 + seed, size=30, control=True)
        assert_same(graph, planned(graph), seed)


# ------------------------------------------------------------------------------------------------ the checker


def broken(result: Plan, value: int, **change: int) -> Plan:
    places = list(result.places)
    places[value] = replace(places[value], **change)
    return replace(result, places=tuple(places))


def temporaries(result: Plan) -> list[int]:
    return [k for k, v in enumerate(result.schedule.values) if v.kind == "temporary" and v.base is None]


def test_checker_finds_values_that_overlap() -> None:
    """Every temporary is moved onto every other: whatever the checker lets pass must still give the right numbers."""
    graph = training_step(2, 8, 16)
    result = planned(graph)
    inputs = random_inputs(graph, 0)
    want = run_graph(graph, inputs)
    caught = 0
    for a in temporaries(result):
        for b in temporaries(result):
            moved = broken(result, a, offset=result.places[b].offset)
            try:
                check_plan(moved)
            except PlanError:
                caught += 1
            else:
                assert all((x == y).all() for x, y in zip(want, run_plan(moved, inputs), strict=True))
    assert caught > 10


def test_checker_finds_values_outside_the_arena() -> None:
    result = planned(training_step(2, 8, 16))
    value = temporaries(result)[0]
    with pytest.raises(PlanError, match="ends at byte"):
        check_plan(broken(result, value, offset=result.arena_bytes))
    with pytest.raises(PlanError, match="no multiple of 64"):
        check_plan(broken(result, value, offset=4))


def test_checker_finds_pairs_that_are_not_legal() -> None:
    result = planned(training_step(2, 8, 16), {k: k + 1 for k in range(4)})
    with pytest.raises(PlanError, match="no in-place pair"):
        check_plan(replace(result, in_place={}))


def test_checker_finds_writers_in_one_stage_with_readers() -> None:
    result = planned(training_step(2, 8, 16))
    merged = tuple(k for s in result.schedule.stages for k in s)
    with pytest.raises(PlanError, match="before it is written"):
        check_plan(replace(result, schedule=replace(result.schedule, stages=(merged,))))


def test_checker_finds_donations_with_late_readers() -> None:
    text = """
def g(x: f32[4, 4], y: f32[4, 4]):
    v0: f32[4, 4] = add(x, y)
    v1: f32[4, 4] = dot(y, x, batch=((), ()), contract=((1,), (0,)))
    return v0, v1"""
    schedule = fuse(from_text(text))
    result = plan(schedule)
    forced = replace(result, donations=((0, 0),), in_place={next(schedule.kernels): ((0, 0),)})
    with pytest.raises(PlanError, match="has been written over it"):
        check_plan(forced)


def test_checker_finds_blocks_that_overlap() -> None:
    result = planned(from_text(SCAN))
    (kernel,) = result.schedule.kernels
    block = result.blocks[kernel]
    bad = replace(block, carries=(None, block.arenas[0]))
    with pytest.raises(PlanError, match="share bytes"):
        check_plan(replace(result, blocks={kernel: bad}))


# ------------------------------------------------------------------------------------------------ size


def test_many_kernels() -> None:
    """An unrolled recurrence of 10,000 nodes is staged and planned in seconds."""
    with Builder() as b:
        h, w = b.input("h", TensorType(f32, (4, 8))), b.input("w", TensorType(f32, (8, 8)))
        kept = []
        for _ in range(1500):
            h = ops.tanh(ops.matmul(h, w))
            kept.append(h)
        total = kept[0]
        for k in kept[1:]:
            total = ops.add(total, k)
        graph = b.graph(vjp_nodes([ops.reduce_sum(total, axes=(0, 1))], [ops.const(1.0, f32)], [w]))  # type: ignore[arg-type]
    result = planned(graph)
    assert len(graph.nodes) > 10_000
    assert result.arena_bytes <= 1.05 * result.lower_bound_bytes + 64 * 1024


if __name__ == "__main__":
    for name, make in PROGRAMS.items():
        (GOLDEN / f"plan_{name}.txt").write_text(make() + "\n")
