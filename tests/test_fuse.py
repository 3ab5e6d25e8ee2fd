"""Fusion: golden schedules, and the law that interpreting the kernels in turn equals interpreting the graph.

``python tests/test_fuse.py`` writes the golden texts anew; read the diff.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from random_graphs import random_graph, random_inputs

from graphc import ops
from graphc.autodiff import vjp_nodes
from graphc.backends.reference import run_graph, run_schedule
from graphc.ir import Builder, Graph, GraphError, Node, topological
from graphc.passes.access import access
from graphc.passes.fuse import fuse
from graphc.passes.grouping import MAX_BUFFERS, MAX_NODES
from graphc.passes.join import join_pads
from graphc.passes.schedule import TEMPLATES, Kernel, Schedule
from graphc.passes.split import split_reductions
from graphc.text import from_text
from graphc.types import TensorType, f32, i32

GOLDEN = Path(__file__).parent / "golden"


def tensor(*shape: int) -> TensorType:
    return TensorType(f32, shape)


# ------------------------------------------------------------------------------------------------ programs


def softmax_cross_entropy() -> Graph:
    """Mean cross-entropy of logits against labels, and its gradient."""
    with Builder("cross_entropy") as b:
        z, y = b.input("z", tensor(8, 10)), b.input("y", TensorType(i32, (8,)))
        shifted = ops.sub(z, ops.expand(ops.stop_gradient(ops.reduce_max(z, axes=(1,))), z, (1,)))
        norm = ops.log(ops.reduce_sum(ops.exp(shifted), axes=(1,)))
        log_p = ops.sub(shifted, ops.expand(norm, z, (1,)))
        labels = ops.iota(shape=(8, 10), axis=1, to=i32)
        hot = ops.convert(ops.eq(labels, ops.broadcast_to(y, shape=(8, 10), axes=(0,))), f32)
        loss = ops.neg(ops.mean(ops.reduce_sum(ops.mul(hot, log_p), axes=(1,)), (0,)))
        (gradient,) = vjp_nodes([loss], [ops.const(1.0, f32)], [z])
        assert gradient is not None
        return b.graph([loss, gradient])


def mlp_layer() -> Graph:
    """A layer with bias and relu, the gradients of its weights for a given cotangent, and their SGD update."""
    with Builder("layer") as b:
        x, w, bias = b.input("x", tensor(8, 6)), b.input("w", tensor(6, 4)), b.input("b", tensor(4))
        ct = b.input("ct", tensor(8, 4))
        z = ops.add(ops.matmul(x, w), ops.broadcast_numpy(bias, (8, 4)))
        h = ops.select(ops.gt(z, ops.like(z, 0.0)), z, ops.like(z, 0.0))
        gradients = vjp_nodes([h], [ct], [w, bias])
        updated = [ops.sub(p, ops.mul(g, ops.like(g, 0.1))) for p, g in zip([w, bias], gradients, strict=True) if g]
        return b.graph([h, *updated])


def layer_norm() -> Graph:
    """LayerNorm with keepdims, as NumPy programs write it."""
    with Builder("layer_norm") as b:
        x, g, bias = b.input("x", tensor(2, 3, 8)), b.input("g", tensor(8)), b.input("b", tensor(8))

        def mean(v: Node) -> Node:
            return ops.reshape(ops.mean(v, (2,)), shape=(2, 3, 1))

        centered = ops.sub(x, ops.broadcast_numpy(mean(x), x.type.shape))
        variance = mean(ops.mul(centered, centered))
        deviation = ops.sqrt(ops.add(variance, ops.like(variance, 1e-5)))
        hat = ops.div(centered, ops.broadcast_numpy(deviation, x.type.shape))
        scaled = ops.mul(hat, ops.broadcast_numpy(g, x.type.shape))
        return b.graph([ops.add(scaled, ops.broadcast_numpy(bias, x.type.shape))])


def both_axes() -> Graph:
    """A chain normalised along rows, then along columns."""
    with Builder("both_axes") as b:
        x = ops.exp(b.input("x", tensor(6, 8)))
        rows = ops.div(x, ops.expand(ops.reduce_sum(x, axes=(1,)), x, (1,)))
        columns = ops.div(rows, ops.expand(ops.reduce_sum(rows, axes=(0,)), rows, (0,)))
        return b.graph([ops.tanh(columns)])


PROGRAMS: dict[str, Callable[[], Graph]] = {
    f.__name__: f for f in (softmax_cross_entropy, mlp_layer, layer_norm, both_axes)
}


def without_aliases(graph: Graph) -> Graph:
    from graphc.passes.simplify import strip_identities

    return strip_identities(graph)


@pytest.mark.parametrize("name", PROGRAMS)
def test_golden(name: str) -> None:
    graph = without_aliases(PROGRAMS[name]())
    schedule = fuse(graph)
    assert str(schedule) == str(fuse(graph)), "the text must be the same every time"
    assert str(schedule) + "\n" == (GOLDEN / f"fuse_{name}.txt").read_text()
    assert_same(graph, schedule, 0)


@pytest.mark.parametrize(
    ("name", "templates"),
    [
        ("softmax_cross_entropy", ["row", "row"]),  # the whole forward and backward, then the mean of the losses
        ("mlp_layer", ["contraction", "contraction", "column"]),
        ("layer_norm", ["row"]),
        ("both_axes", ["row", "column"]),
    ],
)
def test_few_kernels(name: str, templates: list[str]) -> None:
    graph = without_aliases(PROGRAMS[name]())
    from graphc.passes.fold import fold_constants

    assert sorted(k.template for k in fuse(fold_constants(graph)).kernels) == sorted(templates)


# ------------------------------------------------------------------------------------------------ laws


def assert_same(graph: Graph, schedule: Schedule, seed: int) -> None:
    inputs = random_inputs(graph, seed)
    with np.errstate(all="ignore"):
        want, have = run_graph(graph, inputs), run_schedule(schedule, inputs)
    for x, y in zip(want, have, strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert x.tobytes() == y.tobytes()


@pytest.mark.parametrize("seed", range(120))
def test_kernels_in_turn_equal_the_graph(seed: int) -> None:
    graph = random_graph(seed, size=10 + seed % 70, control=seed % 3 == 0)
    schedule = fuse(graph)
    assert_same(graph, schedule, seed)
    check_contract(schedule)


@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_every_node_is_computed_once(seed: int) -> None:
    graph = random_graph(seed, size=50)
    schedule = fuse(graph)
    working = [kernel for kernel in schedule.kernels if computing(kernel)]  # the others copy outputs
    computed = [k for kernel in working for k in kernel.nodes if graph.nodes[k].op.kind in COMPUTING]
    assert len(computed) == len(set(computed))


COMPUTING = ("elementwise", "reduction", "contraction")


def check_contract(schedule: Schedule) -> None:
    """What :mod:`graphc.passes.schedule` promises about bodies, by template."""
    written: set[int] = set()
    for kernel in schedule.kernels:
        assert kernel.template in TEMPLATES
        assert kernel.body.input_types == tuple(schedule.values[a].type for a in kernel.args)
        assert kernel.body.output_types == tuple(schedule.values[r].type for r in kernel.results)
        assert len(set(kernel.body.outputs)) == len(kernel.body.outputs)
        assert len(kernel.body.nodes) <= 3 * MAX_NODES and len(kernel.args) <= MAX_BUFFERS + MAX_NODES
        match kernel.template:
            case "elementwise" | "row" | "column":
                check_loops(kernel)
            case "contraction":
                check_contraction(kernel)
            case "segment" if len(computing(kernel)) > 1:
                check_segment(kernel)
            case "segment" | "library":
                (node,) = computing(kernel)
                assert all(i in kernel.body.inputs for i in node.inputs)
            case "copy":
                (node,) = computing(kernel)
                assert all(access(i, set(kernel.body.inputs)) for i in node.inputs)
            case "control":
                (node,) = computing(kernel)
                assert node.inputs == kernel.body.inputs and len(kernel.bodies) == len(node.bodies)
                for body in kernel.bodies:
                    check_contract(body)
        roots = [r if schedule.values[r].base is None else schedule.values[r].base for r in kernel.results]
        assert not written & set(roots)
        written.update(r for r in roots if r is not None)
    assert len(set(schedule.outputs)) == len(schedule.outputs)
    for k, output in enumerate(schedule.outputs):
        value = schedule.values[output]
        assert value.kind == "output" and value.base is None and output in written
        assert value.type == schedule.graph.outputs[k].type
    for value in schedule.values:
        assert value.base is None or schedule.values[value.base].base is None


def check_segment(kernel: Kernel) -> None:
    """Nodes at the shape of the updates, one that combines them, and nodes at the shape of its result."""
    cores = [n for n in kernel.body.nodes if n.op.name in ("segment_reduce", "scatter")]
    (core,) = cores
    made = set(topological([core.inputs[1]]))
    for node in computing(kernel):
        if node.op.kind == "elementwise" or node.op.name == "gather":
            assert node.type.shape == (core.inputs[1].type.shape if node in made else core.type.shape)
        else:
            assert node is core or node.op.kind in ("constant", "movement")


def computing(kernel: Kernel) -> list[Node]:
    """The nodes of a body but for accesses and the reading of tuples."""
    sources = set(kernel.body.inputs)
    return [n for n in kernel.body.nodes if n.op.kind not in ("input", "tuple") and access(n, sources) is None]


def check_loops(kernel: Kernel) -> None:
    domain = kernel.domain
    full = domain.extents
    kept = tuple(n for k, n in enumerate(full) if k not in domain.reduced)
    last_reduced = len(full) - 1 in domain.reduced
    assert kernel.template == ("row" if last_reduced else "column") or not any_reduction(kernel)
    sources = set(kernel.body.inputs) | {n for n in kernel.body.nodes if n.op.name == "constant"}
    for node in kernel.body.nodes:
        match node.op.kind:
            case "input":
                continue
            case "constant":
                assert node.type.shape == ()
            case "elementwise":
                assert node.type.shape in (full, kept) or node.op.name == "iota"  # of a gather: at its index's shape
            case "indexing":
                assert node.op.name == "gather" and node.type.shape in (full, kept)
                assert access(node.inputs[0], set(kernel.body.inputs)) is not None
            case "reduction":
                axes = dict(node.attrs).get("axes") or (node["axis"],)
                assert node.inputs[0].type.shape == full and tuple(axes) == domain.reduced
            case "movement":
                if access(node, sources) is None:
                    axes = tuple(k for k in range(len(full)) if k not in domain.reduced)
                    assert (node.op.name, node["axes"], node.type.shape) == ("broadcast_to", axes, full)
            case kind:
                raise AssertionError(f"{kind} in a loop")
    assert all(o.type.shape in (full, kept) for o in kernel.body.outputs)


def any_reduction(kernel: Kernel) -> bool:
    return any(n.op.kind == "reduction" for n in kernel.body.nodes)


def check_contraction(kernel: Kernel) -> None:
    (dot,) = (n for n in kernel.body.nodes if n.op.kind == "contraction")
    sources = set(kernel.body.inputs)
    assert all(access(i, sources) for i in dot.inputs)
    assert np.prod([*kernel.domain.extents, 1]) >= dot.type.size * min(1, dot.inputs[0].type.size)
    assert {n.type.shape for n in kernel.body.nodes if n.op.kind == "elementwise"} <= {dot.type.shape}


# ------------------------------------------------------------------------------------------------ cases


def kernels(text: str) -> list[Kernel]:
    graph = from_text(text)
    schedule = fuse(graph)
    check_contract(schedule)
    assert_same(graph, schedule, 1)
    return list(schedule.kernels)


def templates(text: str) -> list[str]:
    return [k.template for k in kernels(text)]


def test_transposed_output_is_one_copy() -> None:
    assert templates("def g(x: f32[2, 3]):\n    v0: f32[3, 2] = transpose(x, axes=(1, 0))\n    return v0") == [
        "elementwise"
    ]


def test_outputs_that_are_inputs_constants_or_repeated_get_copies() -> None:
    text = """
def g(x: f32[3]):
    v0: f32[3] = const(f32[3], [1.0, 2.0, 3.0])
    v1: f32[3] = tanh(x)
    return x, v0, v1, v1, x"""
    schedule = fuse(from_text(text))
    assert len(set(schedule.outputs)) == 5
    assert len(list(schedule.kernels)) == 5


def test_reshaped_output_costs_nothing() -> None:
    text = "def g(x: f32[2, 3]):\n    v0: f32[2, 3] = tanh(x)\n    v1: f32[6] = reshape(v0, shape=(6,))\n    return v1"
    assert templates(text) == ["elementwise"]


def test_a_reshape_inside_a_chain_does_not_break_it() -> None:
    text = """
def g(x: f32[2, 3, 4], y: f32[24]):
    v0: f32[2, 3, 4] = tanh(x)
    v1: f32[24] = reshape(v0, shape=(24,))
    v2: f32[24] = add(v1, y)
    v3: f32[6, 4] = reshape(v2, shape=(6, 4))
    v4: f32[6] = reduce_sum(v3, axes=(1,))
    v5: f32[6, 4] = broadcast_to(v4, shape=(6, 4), axes=(0,))
    v6: f32[6, 4] = mul(v3, v5)
    return v6"""
    assert templates(text) == ["row"]


def test_epilogue_through_a_reshape() -> None:
    text = """
def g(x: f32[6, 4], w: f32[4, 8], y: f32[2, 3, 8]):
    v0: f32[6, 8] = dot(x, w, batch=((), ()), contract=((1,), (0,)))
    v1: f32[2, 3, 8] = reshape(v0, shape=(2, 3, 8))
    v2: f32[2, 3, 8] = add(v1, y)
    return v2"""
    assert templates(text) == ["contraction"]


def test_transposed_reshape_is_materialised_once() -> None:
    """What has no strides is copied; what reads it shares the copy."""
    text = """
def g(x: f32[4, 6], w: f32[12, 5], u: f32[12, 5]):
    v0: f32[6, 4] = transpose(x, axes=(1, 0))
    v1: f32[2, 12] = reshape(v0, shape=(2, 12))
    v2: f32[2, 5] = dot(v1, w, batch=((), ()), contract=((1,), (0,)))
    v3: f32[2, 5] = dot(v1, u, batch=((), ()), contract=((1,), (0,)))
    return v2, v3"""
    assert sorted(templates(text)) == ["contraction", "contraction", "elementwise"]


def test_two_contractions_of_one_level_share_an_epilogue() -> None:
    text = """
def g(x: f32[4, 4], w: f32[4, 4], u: f32[4, 4]):
    v0: f32[4, 4] = dot(x, w, batch=((), ()), contract=((1,), (0,)))
    v1: f32[4, 4] = dot(x, u, batch=((), ()), contract=((1,), (0,)))
    v2: f32[4, 4] = add(v0, v1)
    v3: f32[4, 4] = tanh(v2)
    return v3"""
    assert templates(text) == ["contraction", "contraction"]


def test_squares_of_a_gradient_belong_to_their_sum() -> None:
    """The contraction writes the gradient alone: its squares would be one more tensor through memory."""
    text = """
def g(x: f32[8, 16], y: f32[8, 16]):
    v0: f32[16, 16] = dot(x, y, batch=((), ()), contract=((0,), (0,)))
    v1: f32[16, 16] = mul(v0, v0)
    v2: f32 = reduce_sum(v1, axes=(0, 1))
    return v0, v2"""
    contraction, row = kernels(text)
    assert len(contraction.results) == 1
    assert [n.op.name for n in row.body.nodes] == ["input", "mul", "reduce_sum"]


def test_producer_of_maximum_and_exponential_is_not_duplicated() -> None:
    graph = softmax_cross_entropy()
    computed = [k for kernel in fuse(without_aliases(graph)).kernels for k in kernel.nodes]
    assert len(computed) == len(set(computed))


def test_long_reductions_do_not_keep_one_thread_busy() -> None:
    text = """
def g(x: f32[4, 131072]):
    v0: f32[4] = reduce_sum(x, axes=(1,))
    v1: f32[4, 131072] = broadcast_to(v0, shape=(4, 131072), axes=(0,))
    v2: f32[4, 131072] = div(x, v1)
    return v2"""
    assert templates(text) == ["row", "elementwise"]
    assert "a long reduction into few results" in fuse(from_text(text)).notes[0]


def test_gathers_read_views_and_feed_loops() -> None:
    text = """
def g(x: f32[4, 3], i: i32[2]):
    v0: f32[3, 4] = transpose(x, axes=(1, 0))
    v1: f32[2, 4] = gather(v0, i, axes=(0,), mode='clip')
    v2: f32[2, 4] = tanh(v1)
    return v2"""
    assert templates(text) == ["elementwise"]


def test_a_gather_reads_finished_values() -> None:
    text = """
def g(x: f32[4, 3], i: i32[2]):
    v0: f32[4, 3] = tanh(x)
    v1: f32[2, 3] = gather(v0, i, axes=(0,), mode='clip')
    return v1"""
    assert templates(text) == ["elementwise", "elementwise"]


def test_segments_make_their_updates() -> None:
    text = """
def g(h: f32[4, 8], w: f32[9], starts: i32[5], order: i32[9], i: i32[9]):
    v0: f32 = const(f32, 0.0)
    v1: f32[4, 8] = broadcast_to(v0, axes=(), shape=(4, 8))
    v2: f32[9, 8] = gather(h, i, axes=(0,), mode='raise')
    v3: f32[9, 8] = broadcast_to(w, axes=(0,), shape=(9, 8))
    v4: f32[9, 8] = mul(v2, v3)
    v5: f32[4, 8] = segment_reduce(v1, v4, starts, order, combine='add')
    v6: f32[4, 8] = tanh(v5)
    v7: f32[9] = reduce_sum(v4, axes=(1,))
    return v6, v7"""
    schedule = fuse(from_text(text))
    check_contract(schedule)
    first, second = schedule.kernels
    assert {first.template, second.template} == {"row", "segment"}
    assert all(t.size < 72 for k in (first, second) for t in k.body.output_types)


def test_zero_size_and_scalars() -> None:
    text = """
def g(x: f32[0, 3], y: f32):
    v0: f32[3] = reduce_sum(x, axes=(0,))
    v1: f32[3] = broadcast_to(y, shape=(3,), axes=())
    v2: f32[3] = add(v0, v1)
    v3: f32[0, 3] = tanh(x)
    return v2, v3"""
    assert all(t in ("column", "elementwise") for t in templates(text))


def test_calls_must_be_inlined() -> None:
    text = """
def g(x: f32[3]):
    def body(a: f32[3]):
        v0: f32[3] = tanh(a)
        return v0
    v0: (f32[3],) = call(x, body=body, custom=False, name='f', vjp=None)
    v1: f32[3] = v0[0]
    return v1"""
    with pytest.raises(GraphError, match="inline the call of 'f'"):
        fuse(from_text(text))


def test_notes_name_the_nodes_and_the_reason() -> None:
    text = """
def g(x: f32[4, 6]):
    v0: f32[4] = reduce_sum(x, axes=(1,))
    v1: f32 = reduce_sum(v0, axes=(0,))
    return v1"""
    assert fuse(from_text(text)).notes == ("v0 reduce_sum | v1 reduce_sum: the reduced axes differ",)


def test_long_chains_are_cut() -> None:
    with Builder() as b:
        x = y = b.input("x", tensor(4))
        for k in range(3 * MAX_NODES):
            y = ops.tanh(y) if k % 2 else ops.add(y, x)
        graph = b.graph([y])
    schedule = fuse(graph)
    assert all(sum(n.op.kind == "elementwise" for n in k.body.nodes) <= MAX_NODES for k in schedule.kernels)
    assert_same(graph, schedule, 0)


def test_many_operands_are_cut() -> None:
    with Builder() as b:
        total = b.input("x0", tensor(4))
        for k in range(1, 4 * MAX_BUFFERS):
            total = ops.add(total, b.input(f"x{k}", tensor(4)))
        graph = b.graph([total])
    schedule = fuse(graph)
    assert all(len(k.args) <= MAX_BUFFERS + 1 for k in schedule.kernels)
    assert_same(graph, schedule, 0)


# ------------------------------------------------------------------------------------------------ split reductions


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((1 << 18,), (0,)), ((256, 512), (0, 1)), ((1 << 16, 8), (0,)), ((65537,), (0,)), ((2, 131071), (1,)),
     ((8, 3, 70000), (0, 2)), ((3, 70001), (1,))],
)  # fmt: skip
@pytest.mark.parametrize("name", ["reduce_sum", "reduce_max"])
def test_split_reductions(shape: tuple[int, ...], axes: tuple[int, ...], name: str) -> None:
    with Builder() as b:
        x = b.input("x", TensorType(i32, shape))
        graph = b.graph([ops.OPS[name](x, axes=axes)])
    parts = split_reductions(graph)
    assert split_reductions(parts) is parts
    assert sum(n.op.kind == "reduction" for n in parts.nodes) > 1
    inputs = [np.random.default_rng(0).integers(-99, 99, shape).astype(np.int32)]
    assert (run_graph(graph, inputs)[0] == run_graph(parts, inputs)[0]).all()
    assert_same(parts, fuse(parts), 0)


def test_short_reductions_stay() -> None:
    with Builder() as b:
        graph = b.graph([ops.reduce_sum(b.input("x", tensor(128, 4096)), axes=(1,))])
    assert split_reductions(graph) is graph


def test_producers_follow_a_split() -> None:
    with Builder() as b:
        x, y = b.input("x", tensor(512, 512)), b.input("y", tensor(512))
        d = ops.sub(x, ops.broadcast_numpy(y, (512, 512)))
        graph = split_reductions(b.graph([ops.reduce_sum(ops.mul(d, d), axes=(0, 1))]))
    assert [k.template for k in fuse(graph).kernels] == ["row", "row"]


# ------------------------------------------------------------------------------------------------ joined pads


def taken_apart(order: list[int], gap: int = 0) -> Graph:
    """The cotangent of a tensor from its slices, summed up in ``order``; ``gap`` columns between slices are not used."""
    with Builder() as b:
        pieces = [b.input(f"x{k}", tensor(3, k + 1)) for k in range(4)]
        starts = [sum(k + 1 + gap for k in range(n)) for n in range(4)]
        shape = (3, starts[-1] + 4 + gap)
        pads = [
            ops.pad(x, ops.const(0.0, f32), shape=shape, start=(0, at), step=(1, 1))
            for x, at in zip(pieces, starts, strict=True)
        ]
        total = pads[order[0]]
        for k in order[1:]:
            total = ops.add(total, pads[k])
        return b.graph([total])


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
@pytest.mark.parametrize("gap", [0, 1])
def test_pads_side_by_side_become_a_concatenation(order: list[int], gap: int) -> None:
    graph = taken_apart(order, gap)
    joined = join_pads(graph)
    assert not any(n.op.name == "pad" for n in joined.nodes)
    assert sum(n.op.name == "concatenate" for n in joined.nodes) == 1
    assert join_pads(joined) is joined
    inputs = random_inputs(graph, 0)
    inputs[2][0, :] = [-0.0, np.nan, np.inf]
    assert run_graph(graph, inputs)[0].tobytes() == run_graph(joined, inputs)[0].tobytes()


@pytest.mark.parametrize(
    "second",
    ["start=(1, 0), step=(1, 1)", "start=(0, 2), step=(1, 1)", "start=(0, 0), step=(1, 2)"],
    ids=["another axis", "overlapping", "with gaps"],
)
def test_other_pads_stay(second: str) -> None:
    graph = from_text(f"""
def g(x: f32[2, 4], y: f32[2, 4], z: f32):
    v0: f32 = const(f32, 0.0)
    v1: f32[4, 8] = pad(x, v0, shape=(4, 8), start=(0, 0), step=(1, 1))
    v2: f32[4, 8] = pad(y, v0, shape=(4, 8), {second})
    v3: f32[4, 8] = add(v1, v2)
    return v3""")
    assert join_pads(graph) is graph


# ------------------------------------------------------------------------------------------------ size


def test_ten_thousand_nodes() -> None:
    with Builder() as b:
        x = h = b.input("x", tensor(4, 8))
        w = b.input("w", tensor(8, 8))
        for _ in range(2000):
            h = ops.tanh(ops.add(ops.mul(ops.matmul(h, w), x), h))
        graph = b.graph([h])
    schedule = fuse(graph)
    assert len(graph.nodes) > 8000
    assert len(list(schedule.kernels)) == 2000


def golden_texts() -> Iterator[tuple[str, str]]:
    for name, make in PROGRAMS.items():
        yield name, str(fuse(without_aliases(make())))


if __name__ == "__main__":
    for name, text in golden_texts():
        (GOLDEN / f"fuse_{name}.txt").write_text(text + "\n")
        print(re.sub(r"\n.*", "", text))
