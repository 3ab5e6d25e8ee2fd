"""Generated elementwise, row, column and copy kernels against the meaning of their ops, called through ctypes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from emit_calls import Compiled, body, expected, widened

from graphc import ops
from graphc.backends.cpu import codegen, native
from graphc.ir import Graph, Node
from graphc.ops import OPS
from graphc.passes.schedule import Domain, Kernel
from graphc.types import (
    DTYPES,
    DType,
    TensorType,
    bf16,
    bool_,
    f16,
    f32,
    f64,
    i8,
    i16,
    i32,
    i64,
    u8,
    u16,
    u32,
    u64,
)  # fmt: skip

FLOATS, INTEGERS = (f32, f64, f16, bf16), (i8, i16, i32, i64, u8, u16, u32, u64)
GOLDEN = Path(__file__).parent / "golden"


def kernel(graph: Graph, template: str, extents: Sequence[int], reduced: Sequence[int] = ()) -> Kernel:
    n = len(graph.inputs)
    results = tuple(range(n, n + len(graph.outputs)))
    return Kernel("k", template, Domain(tuple(extents), tuple(reduced)), graph, tuple(range(n)), results)


def elementwise(make: Callable[..., Node | Sequence[Node]], *inputs: TensorType) -> Kernel:
    graph = body(make, *inputs)
    return kernel(graph, "elementwise", graph.outputs[0].type.shape)


def values(t: TensorType, seed: int = 0, special: bool = True) -> np.ndarray:
    """Numbers of a type, among them (unless they are few) those that are special."""
    rng = np.random.default_rng([seed, *t.shape, t.dtype.itemsize])
    if t.dtype is bool_:
        return rng.random(t.shape) < 0.5
    if t.dtype.is_integer:
        info = np.iinfo(t.dtype.numpy)
        x = rng.integers(info.min, info.max, t.shape, t.dtype.numpy, endpoint=True)
        small = rng.integers(0 if info.min == 0 else -9, 10, t.shape)
        x = np.where(rng.random(t.shape) < 0.5, x, small.astype(x.dtype))
        extremes: tuple = (0, 1, info.max, info.min)
    else:
        x = (rng.standard_normal(t.shape) * np.exp2(rng.integers(-3, 4, t.shape))).astype(t.dtype.numpy)
        extremes = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5)
    if special:
        x = np.where(rng.random(t.shape) < 0.15, rng.choice(np.array(extremes, x.dtype), t.shape), x)
    return np.ascontiguousarray(x, t.dtype.numpy)


def ulps(got: np.ndarray, want: np.ndarray, dtype: DType) -> float:
    """The largest distance in units in the last place; NaN and infinities must agree."""
    got, want = got.astype(np.float64), want.astype(np.float64)
    assert np.array_equal(np.isnan(got), np.isnan(want)), (got, want)
    assert np.array_equal(np.isinf(got), np.isinf(want)), (got, want)
    finite = np.isfinite(want)
    if not finite.any():
        return 0.0
    bits = {"f64": 52, "f32": 23, "f16": 10, "bf16": 7}[dtype.name]
    smallest = {"f64": -1074, "f32": -149, "f16": -24, "bf16": -133}[dtype.name]
    _, exponent = np.frexp(want[finite])
    return float(
        np.max(np.abs(got[finite] - want[finite]) / np.exp2(np.maximum(exponent - 1 - bits, smallest).astype(float)))
    )


def check(
    k: Kernel,
    *inputs: np.ndarray,
    limit: float = 0.0,
    threads: Sequence[int] = (2, 3),
    in_place: dict[int, int] | None = None,
) -> Compiled:
    """The kernel's results are those of its body up to ``limit`` ulps, with the same bits for any number of threads."""
    compiled = Compiled(k)
    found = compiled(*inputs, in_place=in_place)
    for n in threads:
        for got, again in zip(found, compiled(*inputs, threads=n, in_place=in_place), strict=True):
            assert got.tobytes() == again.tobytes(), f"bits depend on threads\n{compiled.code.source}"
    for got, want, node in zip(found, expected(k.body, inputs), k.body.outputs, strict=True):
        if node.type.dtype.is_float:
            assert (got.dtype, got.shape) == (want.dtype, want.shape)
            assert ulps(got, want, node.type.dtype) <= limit, f"{node}\n{compiled.code.source}"
        else:
            np.testing.assert_array_equal(got, want, err_msg=f"{node}\n{compiled.code.source}", strict=True)
    return compiled


# ------------------------------------------------------------------------------------------------ ops


def elementwise_ops(dtype: DType, operands: int) -> list[str]:
    """The ops that take ``operands`` tensors of an element type and no attributes."""
    found = []
    for name, op in OPS.items():
        if (
            op.kind == "elementwise"
            and op.scalar
            and op.scalar.count("{") == operands
            and name not in ("select", "cast", "iota", "bitcast")
        ):
            try:
                op.infer(*[TensorType(dtype, (3,))] * operands)
            except TypeError:
                continue
            found.append(name)
    return found


#: ulps of f32 and f64 between two roundings of functions that are each within 2 of the exact value
CLOSE = 5


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, bool_], ids=str)
def test_ops(dtype: DType) -> None:
    """Every op of an element type, in two kernels; all ragged lengths are the same two functions."""
    unary, binary = elementwise_ops(dtype, 1), elementwise_ops(dtype, 2)
    symbols = set()
    for n in (0, 1, 15, 16, 17, 33, 200):
        t = TensorType(dtype, (n,))
        x, y = values(t, 1), values(t, 2)
        limit = CLOSE if dtype in (f32, f64) else 1
        for k, args in (
            (elementwise(lambda x: [OPS[name](x) for name in unary], t), (x,)),
            (elementwise(lambda x, y: [OPS[name](x, y) for name in binary], t, t), (x, y)),
        ):
            if k.body.outputs and n != 1:
                symbols.add(check(k, *args, limit=limit).code.symbol)
    assert len(symbols) == bool(unary) + bool(binary)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, bool_], ids=str)
def test_casts_and_select(dtype: DType) -> None:
    targets = [d for d in DTYPES.values() if d.kind != "c"]
    t = TensorType(dtype, (77,))
    x, y = values(t, 3), values(t, 4)
    if dtype.is_float:  # out of range of the target: any number; here there are none
        x = np.clip(np.nan_to_num(np.abs(x), posinf=1), 0, 100).astype(x.dtype)
    c = values(TensorType(bool_, (77,)))
    check(
        elementwise(
            lambda c, x, y: [*(ops.cast(x, to=d) for d in targets), ops.select(c, x, y)], TensorType(bool_, (77,)), t, t
        ),
        c, x, y,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [f32, f64, f16, i32], ids=str)
def test_integer_powers(dtype: DType) -> None:
    powers = (0, 1, 2, 3, 4, 7, 13) + ((-1, -2, -3) if dtype.is_float else ())
    t = TensorType(dtype, (50,))
    x = values(t, special=False)
    if dtype is f16:
        x = np.clip(x, -2, 2)
    check(
        elementwise(lambda x: [ops.integer_pow(x, exponent=p) for p in powers], t), x, limit=16 if dtype.is_float else 0
    )


def test_index_tensors() -> None:
    shape = (5, 3, 20)
    k = elementwise(lambda: [ops.iota(shape=shape, axis=a, to=d) for a in range(3) for d in (i32, f32, u8, bf16, f64)])
    check(k)


def test_scalars() -> None:
    """A kernel of one element, constants, and two outputs of one node."""
    t = TensorType(f32, ())
    x, y = np.float32(2.5), np.float32(-3.0)
    k = elementwise(lambda x, y: [ops.mul(ops.add(x, y), ops.const(0.1, f32)), ops.sqrt(x), ops.const(7.0, f32)], t, t)
    check(k, np.asarray(x), np.asarray(y), limit=1)


# ------------------------------------------------------------------------------------------------ accesses


def accesses(x: Node) -> list[Node]:
    """Accesses of x: f32[6, 35], at shape [6, 35] or [35, 6]."""
    return [
        x,
        ops.slice_(x, start=(5, 34), size=(6, 35), step=(-1, -1)),
        ops.slice_(x, start=(0, 34), size=(6, 35), step=(1, -1)),
        ops.broadcast(ops.reshape(ops.slice_(x, start=(2, 0), size=(1, 35), step=(1, 1)), shape=(35,)), (6, 35), (1,)),
        ops.broadcast(ops.reshape(ops.slice_(x, start=(0, 3), size=(6, 1), step=(1, 1)), shape=(6,)), (6, 35), (0,)),
        ops.broadcast(ops.reshape(ops.slice_(x, start=(1, 3), size=(1, 1), step=(1, 1)), shape=()), (6, 35), ()),
    ]


@pytest.mark.parametrize("dtype", [f32, f64, bf16, i8, bool_], ids=str)
def test_accesses(dtype: DType) -> None:
    t = TensorType(dtype, (6, 35))
    check(elementwise(lambda x: accesses(x)[1:] + [ops.alias(x, tag=0)], t), values(t))
    every_second = TensorType(dtype, (12, 70))
    check(
        elementwise(lambda x: ops.slice_(x, start=(1, 0), size=(6, 35), step=(2, 2)), every_second),
        values(every_second),
    )
    split = TensorType(dtype, (6, 7, 5))
    check(elementwise(lambda x: ops.transpose(ops.reshape(x, shape=(6, 7, 5)), axes=(2, 0, 1)), t), values(t))
    check(elementwise(lambda x: ops.transpose(x, axes=(1, 2, 0)), split), values(split))


SHAPES = [
    (1, 1),
    (1, 40),
    (40, 1),
    (15, 16),
    (16, 15),
    (17, 33),
    (33, 17),
    (2, 100),
    (100, 2),
    (100, 3),
    (3, 7),
    (130, 70),
    (0, 5),
]


def test_transposes_and_rows() -> None:
    """Two-dimensional shapes with a transposed operand, a row and a column: equal text wherever only the rows differ."""
    for m, n in SHAPES:
        t, u = TensorType(f32, (m, n)), TensorType(f32, (n, m))
        row, column = TensorType(f32, (n,)), TensorType(f32, (m,))

        def make(x: Node, y: Node, r: Node, c: Node, shape: tuple[int, ...] = (m, n)) -> list[Node]:
            moved = ops.transpose(y, axes=(1, 0))
            mixed = ops.add(ops.mul(x, ops.broadcast_to(r, shape=shape, axes=(1,))), moved)
            return [ops.sub(mixed, ops.broadcast_to(c, shape=shape, axes=(0,))), moved]

        check(elementwise(make, t, u, row, column), *map(values, (t, u, row, column)), limit=4e9)


def test_many_axes() -> None:
    """Four axes, some of one element, in every order; one kernel has two orders."""
    shape = (3, 1, 18, 5)
    x = values(TensorType(f32, shape))
    for order in itertools.permutations(range(4)):
        result = tuple(shape[k] for k in order)
        k = elementwise(
            lambda x, y, order=order: ops.maximum(ops.transpose(x, axes=order), y),
            TensorType(f32, shape),
            TensorType(f32, result),
        )
        y = np.ascontiguousarray(np.transpose(x, order) + 1)
        check(k, x, y, threads=(2,))


def test_large_rows_are_split() -> None:
    t = TensorType(f32, (3, 20011))
    column = TensorType(f32, (3,))
    k = elementwise(lambda x, c: ops.add(x, ops.broadcast_to(c, shape=t.shape, axes=(0,))), t, column)
    assert check(k, values(t), values(column), threads=(2, 5)).code.units > 8


# ------------------------------------------------------------------------------------------------ sharing of text


def source(k: Kernel) -> str:
    return codegen.lower(k).source


def test_equal_kernels_have_equal_text() -> None:
    """Outermost extents, offsets of views and scalar constants are in the table."""

    def step(n: int, start: int, factor: float) -> str:
        t = TensorType(f32, (n, 40))
        part = (n - start, 40)
        return source(
            elementwise(
                lambda x: ops.mul(
                    ops.slice_(x, start=(start, 0), size=part, step=(1, 1)), ops.full(TensorType(f32, part), factor)
                ),
                t,
            )
        )

    assert step(128, 1, 0.5) == step(128, 7, 0.5) == step(33, 2, 3.0)

    def softmax_rows(n: int) -> str:
        return source(kernel(body(softmax(1), TensorType(f32, (n, 40))), "row", (n, 40), (1,)))

    def total(n: int) -> str:
        return source(
            kernel(body(lambda x: ops.reduce_sum(x, axes=(0,)), TensorType(f32, (n, 40))), "column", (n, 40), (0,))
        )

    assert softmax_rows(128) == softmax_rows(7)
    assert total(1000) == total(31)
    assert "1000" not in total(1000)


# ------------------------------------------------------------------------------------------------ reductions


def softmax(axis: int) -> Callable[[Node], Node]:
    def make(x: Node) -> Node:
        e = ops.exp(ops.sub(x, ops.expand(ops.reduce_max(x, axes=(axis,)), x, (axis,))))
        return ops.div(e, ops.expand(ops.reduce_sum(e, axes=(axis,)), x, (axis,)))

    return make


def reduction(graph: Graph, extents: Sequence[int], reduced: Sequence[int]) -> Kernel:
    return kernel(graph, "row" if len(extents) - 1 in reduced else "column", extents, reduced)


REDUCED = [
    ((17, 33), (1,)), ((17, 33), (0,)), ((17, 33), (0, 1)), ((5, 100), (1,)), ((100, 5), (0,)), ((4, 16), (1,)),
    ((16, 4), (0,)), ((1, 7), (1,)), ((7, 1), (1,)), ((7, 1), (0,)), ((1, 7), (0,)), ((3, 5, 70), (1,)), ((3, 5, 70), (0, 2)),
    ((3, 5, 70), (0, 1)), ((3, 5, 70), (1, 2)), ((3, 5, 20), (2,)), ((2, 300), (1,)), ((300, 2), (0,)), ((2, 3, 4, 5), (1, 3)),
    ((2, 3, 4, 5), (0, 2)), ((300, 130), (0,)), ((1, 1), (0, 1)), ((40,), (0,)),
]  # fmt: skip


def reductions(x: Node, axes: tuple[int, ...]) -> list[Node]:
    names = ["reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_and", "reduce_or"]
    found = []
    for name in names:
        try:
            found.append(OPS[name](x, axes=axes))
        except TypeError:
            continue
    return found + ([ops.argmax(x, axis=axes[0]), ops.argmin(x, axis=axes[0])] if len(axes) == 1 else [])


@pytest.mark.parametrize("dtype", [f32, f64, f16, bf16, i8, i32, i64, u16, u64, bool_], ids=str)
def test_reductions(dtype: DType) -> None:
    """Every reduction of an element type in one kernel, over rows, columns, both and in the middle."""
    shapes = REDUCED if dtype in (f32, i32) else REDUCED[dtype.itemsize % 3 :: 4]
    for shape, axes in shapes:
        t = TensorType(dtype, shape)
        x = values(t, special=not dtype.is_float)
        if dtype.is_float:  # sums in another order: numbers whose sums and products are exact
            x = np.round(np.clip(x, -2, 2)).astype(x.dtype)
        check(reduction(body(lambda x, axes=axes: reductions(x, axes), t), shape, axes), x)


@pytest.mark.parametrize("dtype", [f32, f64, bf16], ids=str)
def test_reductions_of_special_numbers(dtype: DType) -> None:
    """NaN, infinities and zeros in max, min, argmax and argmin: NumPy's answers, first occurrences."""

    def make(x: Node, axis: int) -> list[Node]:
        return [
            ops.reduce_max(x, axes=(axis,)), ops.reduce_min(x, axes=(axis,)), ops.argmax(x, axis=axis), ops.argmin(x, axis=axis)
        ]  # fmt: skip

    for shape, axis in (((40, 37), 1), ((37, 40), 0), ((9, 5), 1), ((20, 200), 1)):
        t = TensorType(dtype, shape)
        x = values(t)
        x[0] = -np.inf
        x[1] = np.nan
        x[:, 0] = np.inf
        x[3:, 1:] = np.where(np.isnan(x[3:, 1:]), x[3:, 1:], np.minimum(x[3:, 1:], x.dtype.type(1)))
        k = reduction(body(lambda x, axis=axis: make(x, axis), t), shape, (axis,))
        check(k, x)
        check(k, np.full_like(x, -np.inf))
        check(k, np.full_like(x, np.inf))
        check(k, np.where(np.isnan(x), x.dtype.type(0), x))


def test_empty_reductions() -> None:
    """Sums and products over nothing are 0 and 1, and what follows from them is computed."""
    for shape, axes in (
        ((3, 0), (1,)),
        ((0, 3), (0,)),
        ((0,), (0,)),
        ((2, 0, 40), (1,)),
        ((0, 5), (0, 1)),
        ((4, 0, 0), (1, 2)),
    ):
        t = TensorType(f32, shape)
        k = reduction(
            body(lambda x, axes=axes: [ops.exp(ops.reduce_sum(x, axes=axes)), ops.reduce_prod(x, axes=axes)], t),
            shape,
            axes,
        )
        compiled = check(k, values(t))
        (one, _) = compiled(values(t))
        assert (one == 1).all()


@pytest.mark.parametrize("dtype", [f32, f64, f16], ids=str)
@pytest.mark.parametrize(
    ("shape", "axis"), [((20, 33), 1), ((9, 300), 1), ((70, 33), 0), ((6, 50, 20), 1), ((5, 10), 1), ((3, 64), 1)]
)
def test_softmax(dtype: DType, shape: tuple[int, ...], axis: int) -> None:
    t = TensorType(dtype, shape)
    x = values(t, special=False)
    k = reduction(body(softmax(axis), t), shape, (axis,))
    if dtype is f16:  # rounded once, at the store
        (found,) = Compiled(k)(x)
        assert ulps(found, *expected(widened(k.body), [x.astype(np.float64)]), dtype) <= 0.51
        return
    check(k, x, limit=8)
    check(k, x, limit=8, in_place={0: 0})


def layer_norm(x: Node, g: Node, b: Node, axis: int) -> list[Node]:
    """Full and kept outputs, three phases, reads of the operand in each."""
    shape = x.type.shape
    d = ops.sub(x, ops.expand(ops.mean(x, (axis,)), x, (axis,)))
    variance = ops.mean(ops.mul(d, d), (axis,))
    scale = ops.rsqrt(ops.add(variance, ops.full(variance.type, 1e-5)))
    y = ops.mul(d, ops.expand(scale, x, (axis,)))
    other = (axis,)
    out = ops.add(
        ops.mul(y, ops.broadcast_to(g, shape=shape, axes=other)), ops.broadcast_to(b, shape=shape, axes=other)
    )
    return [out, scale, y, ops.reduce_max(out, axes=(axis,))]


@pytest.mark.parametrize(("shape", "axis"), [((20, 33), 1), ((9, 300), 1), ((70, 33), 0), ((5, 10), 1)])
def test_several_phases(shape: tuple[int, ...], axis: int) -> None:
    t, u = TensorType(f32, shape), TensorType(f32, (shape[axis],))
    k = reduction(body(lambda x, g, b: layer_norm(x, g, b, axis), t, u, u), shape, (axis,))
    args = values(t, special=False), values(u, 1, special=False), values(u, 2, special=False)
    compiled = Compiled(k)
    found, want = compiled(*args), expected(k.body, args)
    for got, w in zip(found, want, strict=True):
        np.testing.assert_allclose(got, w, rtol=2e-5, atol=2e-5)
    for in_place in ({0: 0}, {2: 0}):
        for got, again in zip(found, compiled(*args, threads=2, in_place=in_place), strict=True):
            np.testing.assert_array_equal(got, again)


def test_a_later_phase_reads_what_an_output_overwrites() -> None:
    """An output of the first phase in the place of an operand that the second phase reads: it is stored late."""

    def make(x: Node) -> list[Node]:
        early = ops.exp(x)
        total = ops.expand(ops.reduce_sum(early, axes=(1,)), x, (1,))
        return [early, ops.mul(ops.sub(x, total), ops.sin(x))]

    t = TensorType(f32, (11, 150))
    k = reduction(body(make, t), t.shape, (1,))
    x = values(t, special=False)
    compiled = Compiled(k)
    found = compiled(x)
    for threads, in_place in ((1, {0: 0}), (3, {0: 0}), (1, {1: 0})):
        for got, again in zip(found, compiled(x, threads=threads, in_place=in_place), strict=True):
            np.testing.assert_array_equal(got, again)
    np.testing.assert_allclose(found[1], expected(k.body, [x])[1], rtol=1e-4, atol=1e-4)


def test_a_producer_is_rounded_once() -> None:
    """exp(s·x - max(s·x)) never exceeds 1: both see the same product."""

    def make(x: Node, s: Node) -> list[Node]:
        y = ops.mul(x, ops.broadcast_to(s, shape=x.type.shape, axes=()))
        return [
            ops.reduce_max(ops.exp(ops.sub(y, ops.expand(ops.reduce_max(y, axes=(axis,)), y, (axis,)))), axes=(axis,))
        ]

    for shape, axis in (((50, 10), 1), ((50, 130), 1), ((130, 50), 0)):
        t = TensorType(f32, shape)
        k = reduction(body(make, t, TensorType(f32, ())), shape, (axis,))
        x = values(t, special=False) * np.float32(1e4 / 3)
        (most,) = Compiled(k)(x, np.asarray(np.float32(1 / 3)))
        assert (most == 1).all()


@pytest.mark.parametrize("n", [200_000, 1 << 17, 131_072 * 2 + 1])
def test_long_reductions_are_done_in_chunks(n: int) -> None:
    t = TensorType(f32, (n,))
    k = reduction(
        body(lambda x: [*reductions(x, (0,)), ops.sqrt(ops.reduce_sum(ops.mul(x, x), axes=(0,)))], t), (n,), (0,)
    )
    x = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    x[[n // 2, n - 1]] = 9.0
    x[[n // 3, n // 2 + 1]] = -9.0
    compiled = Compiled(k)
    assert compiled.code.then is not None and compiled.code.units >= 4
    found = compiled(x)
    for threads in (2, 4):
        assert [a.tobytes() for a in found] == [a.tobytes() for a in compiled(x, threads=threads)]
    total, _, most, least, first, last, norm = found
    assert (most, least, first, last) == (9, -9, n // 2, n // 3)
    np.testing.assert_allclose(total, x.astype(np.float64).sum(), atol=1e-3)
    np.testing.assert_allclose(norm, np.sqrt((x.astype(np.float64) ** 2).sum()), rtol=1e-6)


@pytest.mark.parametrize("shape", [(30_000, 10), (5_000, 3, 40), (2_000, 100)])
def test_long_columns_are_done_in_chunks(shape: tuple[int, ...]) -> None:
    t = TensorType(f32, shape)
    axes = tuple(range(len(shape) - 1))
    k = reduction(
        body(lambda x: [ops.reduce_sum(x, axes=axes), ops.reduce_max(x, axes=axes), ops.abs_(x)], t), shape, axes
    )
    x = np.random.default_rng(0).random(shape, np.float32)
    compiled = Compiled(k)
    assert compiled.code.then is not None
    found = compiled(x)
    for threads in (2, 3):
        assert [a.tobytes() for a in found] == [a.tobytes() for a in compiled(x, threads=threads)]
    np.testing.assert_allclose(found[0], x.astype(np.float64).sum(axes), rtol=1e-6)
    np.testing.assert_array_equal(found[1], x.max(axes))
    np.testing.assert_array_equal(found[2], x)


@pytest.mark.parametrize(("shape", "axis"), [((1 << 20,), 0), ((4, 100_000), 1), ((60_000, 20), 0)])
def test_sums_are_accurate(shape: tuple[int, ...], axis: int) -> None:
    t = TensorType(f32, shape)
    x = np.random.default_rng(1).random(shape, np.float32)
    (total,) = Compiled(reduction(body(lambda x: ops.reduce_sum(x, axes=(axis,)), t), shape, (axis,)))(x)
    exact = x.astype(np.float64).sum(axis)
    assert np.max(np.abs(total - exact) / exact) < 4 * 2.0**-24


# ------------------------------------------------------------------------------------------------ copies


@pytest.mark.parametrize("dtype", [f32, f64, i8, bool_], ids=str)
def test_copies(dtype: DType) -> None:
    def copy(make: Callable[..., Node], *shapes: tuple[int, ...]) -> Compiled:
        types = [TensorType(dtype, shape) for shape in shapes]
        graph = body(make, *types)
        return check(kernel(graph, "copy", graph.outputs[0].type.shape), *map(values, types))

    for axis in (0, 1, 2):
        shapes = [tuple(n if k == axis else m for k, m in enumerate((3, 5, 20))) for n in (2, 2, 7, 0, 7)]
        copy(lambda *xs, axis=axis: ops.concatenate(*xs, axis=axis), *shapes)
    copy(lambda x, y: ops.concatenate(ops.transpose(x, axes=(1, 0)), y, axis=1), (30, 20), (20, 5))
    copy(lambda x, f: ops.pad(x, f, shape=(9, 40), start=(2, 3), step=(1, 1)), (5, 33), ())
    copy(lambda x, f: ops.pad(x, f, shape=(9, 40), start=(8, 35), step=(-1, -1)), (5, 33), ())
    copy(lambda x, f: ops.pad(x, f, shape=(20, 70), start=(2, 1), step=(3, 2)), (5, 33), ())
    copy(lambda x, f: ops.pad(x, f, shape=(2, 40), start=(0, 0), step=(1, 1)), (2, 0), ())
    copy(lambda x, y: ops.concatenate(x, y, axis=0), (0, 3), (0, 3))
    copy(lambda x: ops.reshape(ops.transpose(x, axes=(1, 0)), shape=(100,)), (5, 20))
    copy(lambda x: ops.reshape(ops.transpose(x, axes=(2, 1, 0)), shape=(40, 9)), (3, 6, 20))


def test_stacking_many_is_one_loop() -> None:
    def stack(n: int) -> str:
        types = [TensorType(f32, (1, 32, 20))] * n
        graph = body(lambda *xs: ops.concatenate(*xs, axis=0), *types)
        return source(kernel(graph, "copy", graph.outputs[0].type.shape))

    assert stack(3) == stack(64)


# ------------------------------------------------------------------------------------------------ text and machine code


def test_golden_softmax() -> None:
    k = reduction(body(softmax(1), TensorType(f32, (128, 100))), (128, 100), (1,))
    code = codegen.lower(k)
    assert code.source == (GOLDEN / "cpu_softmax.py").read_text()
    assert code.symbol in code.source and len(code.table) == 5


@pytest.mark.parametrize("template", ["elementwise", "row", "column"])
def test_kernels_are_vectorised(template: str) -> None:
    """20 buffers and more make LLVM's own vectoriser give up; here vectors are vectors."""
    t = TensorType(f32, (64, 96))
    if template == "elementwise":
        k = elementwise(
            lambda *xs: [ops.tanh(ops.mul(a, b)) for a, b in zip(xs[::2], xs[1::2], strict=True)], *[t] * 14
        )
    else:
        axis = 1 if template == "row" else 0
        k = reduction(body(softmax(axis), t), t.shape, (axis,))
    code = codegen.lower(k)
    text = native.assembly(code.source, code.symbol)
    lines = [line for line in text.splitlines() if line.startswith("\t") and not line.startswith("\t.")]
    count = native.vector_instruction_count(text)
    assert count > len(lines) / 3, f"{count} vector instructions of {len(lines)}"


def wide_enough() -> bool:
    """Whether this machine runs code for AVX2 with FMA."""
    return bool({"+avx2", "+fma"} <= set(native.target(None).features.split(",")))


@pytest.mark.skipif(not wide_enough(), reason="no AVX2")
def test_bits_do_not_depend_on_the_vector_width(monkeypatch: pytest.MonkeyPatch) -> None:
    t = TensorType(f32, (37, 150))
    x = values(t, special=False)
    kernels = [
        elementwise(lambda x: [ops.log1p(ops.exp(ops.tanh(x))), ops.add(ops.mul(x, x), ops.sin(x))], t),
        *(reduction(body(softmax(axis), t), t.shape, (axis,)) for axis in (0, 1)),
        reduction(
            body(lambda x: [ops.reduce_sum(x, axes=(0, 1)), ops.reduce_prod(x, axes=(0, 1))], t), t.shape, (0, 1)
        ),
    ]
    here = [Compiled(k)(x) for k in kernels]
    monkeypatch.setenv("GRAPHC_CPU", "x86-64-v3")
    for k, found in zip(kernels, here, strict=True):
        assert [a.tobytes() for a in Compiled(k)(x)] == [a.tobytes() for a in found]
