"""Generated gather, scatter and dynamic slice kernels against the meaning of their ops, bit for bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from emit_calls import ERROR_BASE, Compiled, KernelError, body, expected, kernel

from graphc import ops
from graphc.ops import indexing
from graphc.types import DTYPES, TensorType, f32, i32, i64

gather, scatter = indexing.gather, indexing.scatter


def draw(t: TensorType, rng: np.random.Generator) -> np.ndarray:
    if t.dtype.name == "bool":
        return rng.random(t.shape) < 0.5
    if t.dtype.is_float:
        x = rng.standard_normal(t.shape)
        x[rng.random(t.shape) < 0.05] = np.nan
        x[rng.random(t.shape) < 0.05] = -0.0
        return x.astype(t.dtype.numpy)
    info = np.iinfo(t.dtype.numpy)
    return rng.integers(info.min, info.max, t.shape, t.dtype.numpy, endpoint=True)


def index(shape, extent: int, dtype, rng: np.random.Generator, mode: str) -> np.ndarray:
    """Indices in range (negative ones included) for mode raise, others beyond as well."""
    low, high = -extent, extent - 1
    if mode != "raise":
        low, high = -2 * extent - 1, 2 * extent
    if dtype.kind == "u":
        low = 0
    return rng.integers(low, high, shape, endpoint=True).astype(dtype.numpy) if extent else np.zeros(shape, dtype.numpy)


def check(graph, inputs, in_place=None) -> None:
    call = Compiled(kernel(graph, "segment"))
    wanted = expected(graph, inputs)
    for threads, place in itertools.product((1, 2, 3), (None, in_place) if in_place else (None,)):
        for got, want in zip(call(*inputs, threads=threads, in_place=place), wanted, strict=True):
            if got.dtype.kind == "f":  # any NaN is as good as another
                got, want = (np.where(np.isnan(x), np.float32(np.nan), x) for x in (got, want))
            assert got.tobytes() == want.tobytes(), call.code.source


CASES = (
    # shape of x, indexed axes, shape of the index tensors
    ((10,), (0,), (5,)),
    ((10,), (0,), (100,)),
    ((7, 33), (0,), (20,)),
    ((7, 33), (1,), (3, 4)),
    ((5, 6, 40), (1,), (9,)),
    ((5, 6, 7), (2, 0), (11,)),
    ((5, 6, 7), (0, 1, 2), (35,)),
    ((4, 1, 3), (0,), ()),
    ((3, 9000), (0,), (2,)),
    ((6, 4), (0,), (0,)),
)


@pytest.mark.parametrize("mode", indexing.MODES)
def test_gather(mode):
    rng = np.random.default_rng(1)
    for (shape, axes, at), dtype in itertools.product(CASES, (i64, i32)):
        graph = body(
            lambda x, *ix, axes=axes: gather(x, *ix, axes=axes, mode=mode),
            TensorType(f32, shape),
            *[TensorType(dtype, at)] * len(axes),
        )
        ix = [index(at, shape[a], dtype, rng, mode) for a in axes]
        check(graph, [draw(graph.input_types[0], rng), *ix])


@pytest.mark.parametrize("combine", indexing.COMBINES)
def test_scatter(combine):
    rng = np.random.default_rng(2)
    for (shape, axes, at), mode in itertools.product(CASES, indexing.MODES):
        if mode == "raise" and at == (9,):
            continue  # one of the modes is enough for the larger ones
        x = TensorType(f32, shape)
        updates = TensorType(f32, (*at, *[shape[k] for k in indexing.rest_axes(len(shape), axes)]))
        graph = body(
            lambda x, u, *ix, axes=axes, mode=mode: scatter(x, u, *ix, axes=axes, mode=mode, combine=combine),
            x,
            updates,
            *[TensorType(i64, at)] * len(axes),
        )
        ix = [index(at, shape[a], i64, rng, mode) for a in axes]
        check(graph, [draw(x, rng), draw(updates, rng), *ix], in_place={0: 0})


@pytest.mark.parametrize("name", ["bool", "i8", "u16", "i64", "u64", "f16", "bf16", "f64"])
def test_element_types(name):
    rng, element = np.random.default_rng(3), DTYPES[name]
    x, u, ix = TensorType(element, (5, 20)), TensorType(element, (9, 20)), TensorType(i64, (9,))
    at = index((9,), 5, i64, rng, "raise")
    check(body(lambda x, i: gather(x, i, axes=(0,), mode="raise"), x, ix), [draw(x, rng), at])
    column = TensorType(element, (9, 5))
    check(body(lambda x, i: gather(x, i, axes=(1,), mode="drop"), x, ix), [draw(x, rng), at])
    for combine, (kinds, _) in indexing.COMBINES.items():
        if element.kind in kinds:
            rows = body(lambda x, u, i, c=combine: scatter(x, u, i, axes=(0,), mode="raise", combine=c), x, u, ix)
            check(rows, [draw(x, rng), draw(u, rng), at], in_place={0: 0})
            columns = body(
                lambda x, u, i, c=combine: scatter(x, u, i, axes=(1,), mode="clip", combine=c), x, column, ix
            )
            check(columns, [draw(x, rng), draw(column, rng), at])


@pytest.mark.parametrize("name", ["i8", "u8", "i32", "u32", "u64"])
def test_index_types(name):
    rng, dtype = np.random.default_rng(4), DTYPES[name]
    x = TensorType(f32, (50, 3))
    for mode in indexing.MODES:
        graph = body(lambda x, i, m=mode: gather(x, i, axes=(0,), mode=m), x, TensorType(dtype, (40,)))
        check(graph, [draw(x, rng), index((40,), 50, dtype, rng, mode)])
        flat = body(
            lambda x, i, m=mode: gather(x, i, axes=(0,), mode=m), TensorType(f32, (50,)), TensorType(dtype, (40,))
        )
        check(flat, [draw(flat.input_types[0], rng), index((40,), 50, dtype, rng, mode)])
    if name == "u64":
        huge = np.array([2**64 - 1, 2**63, 3], np.uint64)
        for mode in ("clip", "drop"):
            graph = body(lambda x, i, m=mode: gather(x, i, axes=(0,), mode=m), x, TensorType(dtype, (3,)))
            check(graph, [draw(x, rng), huge])
            flat = body(
                lambda x, i, m=mode: gather(x, i, axes=(0,), mode=m), TensorType(f32, (50,)), TensorType(dtype, (3,))
            )
            check(flat, [draw(flat.input_types[0], rng), huge])


def test_an_index_out_of_range_is_an_error_of_its_node():
    x, ix = TensorType(f32, (10, 20)), TensorType(i64, (40,))
    graph = body(lambda x, i: gather(x, i, axes=(0,), mode="raise"), x, ix)
    data = np.zeros((10, 20), np.float32)
    for place, value in ((0, 10), (39, -11), (17, 2**62), (20, -(2**63))):
        at = np.zeros(40, np.int64)
        at[place] = value
        for threads in (1, 2):
            with pytest.raises(KernelError) as caught:
                Compiled(kernel(graph, "segment"))(data, at, threads=threads)
            assert (caught.value.code, caught.value.node) == (1, graph.nodes.index(graph.outputs[0]))
    elements = body(lambda x, i: gather(x, i, axes=(0,), mode="raise"), TensorType(f32, (10,)), ix)
    with pytest.raises(KernelError):
        Compiled(kernel(elements, "segment"))(data[:, 0], at)
    assert ERROR_BASE > 0


def test_a_bad_index_is_found_before_anything_is_overwritten():
    x, ix = TensorType(f32, (10, 20)), TensorType(i64, (40,))
    graph = body(
        lambda x, u, i: scatter(x, u, i, axes=(0,), mode="raise", combine="add"), x, TensorType(f32, (40, 20)), ix
    )
    target = np.zeros((10, 20), np.float32)
    at = np.arange(40) % 10
    at[39] = 10
    call = Compiled(kernel(graph, "segment")).bind(target, np.ones((40, 20), np.float32), at, target, threads=2)
    with pytest.raises(KernelError):
        call()
    assert not target.any()


def test_many_updates_of_few_places():
    rng = np.random.default_rng(5)
    x, u, ix = TensorType(f32, (3, 500)), TensorType(f32, (20, 500)), TensorType(i64, (20,))
    graph = body(lambda x, u, i: scatter(x, u, i, axes=(0,), mode="raise", combine="add"), x, u, ix)
    check(graph, [draw(x, rng), draw(u, rng), index((20,), 3, i64, rng, "raise")], in_place={0: 0})


SLICES = (
    ((10,), (4,)), ((7, 30), (3, 30)), ((7, 30), (7, 17)), ((4, 5, 6), (2, 5, 3)), ((2, 9000), (2, 5000)), ((), ()),
    ((3, 4), (0, 4)),
)  # fmt: skip


@pytest.mark.parametrize("name", ["f32", "bf16", "i64", "bool"])
def test_dynamic_slices(name):
    rng, element = np.random.default_rng(6), DTYPES[name]
    for shape, size in SLICES:
        x, u = TensorType(element, shape), TensorType(element, size)
        for start, dtype in ((-3, i32), (1, i64), (100, i64)):
            starts = [np.array(start, dtype.numpy)] * len(shape)
            types = [TensorType(dtype, ())] * len(shape)
            read = body(lambda x, *s, size=size: ops.OPS["dynamic_slice"](x, *s, size=size), x, *types)
            check(read, [draw(x, rng), *starts])
            write = body(lambda x, u, *s: ops.OPS["dynamic_update_slice"](x, u, *s), x, u, *types)
            check(write, [draw(x, rng), draw(u, rng), *starts], in_place={0: 0})
