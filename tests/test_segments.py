"""Gather, apply, scatter as whole programs: against the reference, at ragged shapes, with the same bits for 1 and 2 threads."""

from __future__ import annotations

import numpy as np
import pytest

import graphc

CALLS = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}


def both(fn, *args, **tolerance):
    """``fn`` compiled for 1 and 2 threads gives one result, near that of plain NumPy; returns the executable."""
    two = graphc.compile(fn, threads=2)
    found, single, wanted = two(*args), graphc.compile(fn, threads=1)(*args), fn(*args)
    for a, b, c in zip(*(x if isinstance(x, tuple) else (x,) for x in (found, single, wanted)), strict=True):
        a, b, c = np.asarray(a), np.asarray(b), np.asarray(c)
        assert a.tobytes() == b.tobytes()
        assert a.dtype == c.dtype
        exact = {"rtol": 0, "atol": 0} if c.dtype.kind != "f" else {"rtol": 1e-5, "atol": 1e-5} | tolerance
        np.testing.assert_allclose(a, c, **exact)
    return two.executable(*args)


def draw(rng, shape, dtype):
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, 2 if dtype == "bool" else 5, shape).astype(dtype)


def templates(exe) -> list[str]:
    return [k.template for k in exe.schedule.kernels]


# ------------------------------------------------------------------------------------------------ sorted


@pytest.mark.parametrize(
    ("places", "count", "width"), [(70, 301, 16), (33, 97, 37), (5, 41, 150), (400, 2049, ()), (100, 130, (3, 7))]
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
def test_sorted_updates(places, count, width, dtype):
    rng = np.random.default_rng(count)
    rest = width if isinstance(width, tuple) else (width,)
    x, u = draw(rng, (places, *rest), dtype), draw(rng, (count, *rest), dtype)
    at = rng.integers(-places, places, count)

    def fn(x, u, at):
        y = x + x
        np.add.at(y, at, u)
        return y

    exe = both(fn, x, u, at)
    assert any(n.op.name == "segment_reduce" for n in exe.graph.nodes)


@pytest.mark.parametrize("combine", CALLS)
def test_combines_with_nan_and_empty_places(combine):
    rng = np.random.default_rng(3)
    x, u = rng.standard_normal((90, 20)), rng.standard_normal((200, 20))
    u[rng.random(u.shape) < 0.02] = np.nan
    u[rng.random(u.shape) < 0.02] = np.inf
    at = rng.integers(0, 30, 200)

    def fn(x, u, at):
        y = x + 0
        CALLS[combine].at(y, at, u)
        return y

    with np.errstate(all="ignore"):
        both(fn, x, u, at)


def test_several_indices_and_trailing_ones():
    rng = np.random.default_rng(4)
    x, u = rng.standard_normal((6, 5, 11)), rng.standard_normal((300, 11))
    i, j = rng.integers(-6, 6, 300), rng.integers(0, 5, 300)
    v = rng.standard_normal((300, 6))

    def fn(x, u, v, i, j):
        y, z = x + 0, x + 1
        np.add.at(y, (i, j), u)
        np.add.at(z, (slice(None), j, j), v.T)
        return y, z

    both(fn, x, u, v, i, j)


def test_many_tuples_are_sorted_in_parts():
    rng = np.random.default_rng(5)
    u, at = rng.standard_normal((100_003, 4)).astype(np.float32), rng.integers(0, 7000, 100_003)

    def fn(u, at):
        y = graphc.numpy.zeros((7000, 4), "float32")
        np.add.at(y, at, u)
        return y

    compiled = graphc.compile(fn, threads=2)
    wanted = np.zeros((7000, 4), np.float32)
    np.add.at(wanted, at, u)
    assert np.array_equal(compiled(u, at), wanted)  # in the order of the indices: the bits of a loop
    assert np.array_equal(graphc.compile(fn, threads=1)(u, at), wanted)


def test_an_index_out_of_range_is_an_error():
    def fn(u, at):
        y = graphc.numpy.zeros((50, 16))
        np.add.at(y, at, u)
        return y

    compiled = graphc.compile(fn)
    at = np.zeros(100, np.int64)
    compiled(np.zeros((100, 16)), at)
    for bad in (50, -51):
        at[77] = bad
        with pytest.raises(IndexError):
            compiled(np.zeros((100, 16)), at)


def test_modes_leave_out_or_clip():
    rng = np.random.default_rng(6)
    x, at = rng.standard_normal((40, 16)), rng.integers(-20, 60, 200)

    def taken(x, at):
        return np.take(x, at, axis=0, mode="clip") * 2

    loss = graphc.grad(lambda x, at: (taken(x, at) ** 2).sum())
    both(taken, x, at)
    both(loss, x, at)


# ------------------------------------------------------------------------------------------------ message passing


def convolve(h, w, b, src, dst):
    y = np.zeros_like(h)
    np.add.at(y, dst, h[src] * w[:, None])
    return np.maximum(y + b, 0)


@pytest.mark.parametrize(("nodes", "edges", "width"), [(60, 300, 16), (33, 211, 37), (200, 900, 70)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_messages_are_never_written(nodes, edges, width, dtype):
    rng = np.random.default_rng(nodes)
    h, w, b = draw(rng, (nodes, width), dtype), draw(rng, edges, dtype), draw(rng, width, dtype)
    src, dst = rng.integers(-nodes, nodes, edges), rng.integers(0, nodes, edges)
    step = graphc.value_and_grad(lambda *a: (convolve(*a) ** 2).sum(), argnums=(0, 1, 2))

    def flat(*args):
        value, gradients = step(*args)
        return (value, *gradients)

    exe = both(flat, h, w, b, src, dst, rtol=2e-4, atol=2e-3)
    assert all(v.type.size < edges * width for v in exe.schedule.values if v.kind == "temporary")


def test_one_index_is_sorted_once():
    rng = np.random.default_rng(8)
    h, w = rng.standard_normal((50, 16)), rng.standard_normal(300)
    src, dst = rng.integers(0, 50, 300), rng.integers(0, 50, 300)

    def fn(h, w, src, dst):
        b = np.zeros(16)
        return convolve(convolve(h, w, b, src, dst), w, b, src, dst)

    loss = graphc.grad(lambda *a: fn(*a).sum(), argnums=0)
    exe = both(loss, h, w, src, dst)
    assert sum(n.op.name == "segments" for n in exe.graph.nodes) == 2


def test_a_constant_index_is_sorted_at_compile_time():
    rng = np.random.default_rng(9)
    dst = rng.integers(0, 50, 300)

    def fn(u):
        y = graphc.numpy.zeros((50, 16))
        np.add.at(y, dst, u)
        return y

    exe = graphc.compile(fn).executable(np.zeros((300, 16)))
    assert [n.op.name for n in exe.graph.nodes if n.op.kind == "indexing"] == ["segment_reduce"]


def test_winners_keep_their_bits():
    """The gradient of a maximum goes to the update that equals it: both are computed once."""
    rng = np.random.default_rng(10)
    h, w = rng.standard_normal((40, 16)).astype(np.float32), rng.standard_normal(300).astype(np.float32)
    src, dst = rng.integers(0, 40, 300), rng.integers(0, 40, 300)

    def fn(h, w, src, dst):
        y = np.full_like(h, -100)
        np.maximum.at(y, dst, h[src] * w[:, None] + w[:, None])
        return y.sum()

    both(graphc.grad(fn), h, w, src, dst)


# ------------------------------------------------------------------------------------------------ tables


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8"])
def test_tables_of_parts(dtype):
    rng = np.random.default_rng(11)
    u, at, x = draw(rng, 40_001, dtype), rng.integers(-37, 37, 40_001), draw(rng, 37, dtype)
    wide, rows = draw(rng, (3000, 7), dtype), rng.integers(0, 21, 3000)

    def fn(x, u, at, wide, rows):
        y = x + x
        np.add.at(y, at, u)
        z = graphc.numpy.zeros((21, 7), wide.dtype)
        np.add.at(z, rows, wide)
        return y + y, z

    with np.errstate(all="ignore"):
        wanted_z = np.zeros((21, 7), dtype)
        np.add.at(wanted_z, rows, wide)
        compiled = graphc.compile(fn, threads=2)
        y, z = compiled(x, u, at, wide, rows)
        wanted = x + x
        np.add.at(wanted, at, u)
    tolerance = {"rtol": 1e-4, "atol": 1e-3} if np.dtype(dtype).kind == "f" else {"rtol": 0, "atol": 0}
    np.testing.assert_allclose(y, wanted + wanted, **tolerance)
    np.testing.assert_allclose(z, wanted_z, **tolerance)
    one = graphc.compile(fn, threads=1)(x, u, at, wide, rows)
    assert (y.tobytes(), z.tobytes()) == (one[0].tobytes(), one[1].tobytes())


@pytest.mark.parametrize("combine", ["mul", "min", "max"])
def test_tables_of_extremes_and_products(combine):
    rng = np.random.default_rng(12)
    u, at, x = rng.standard_normal(5000) * 1.1, rng.integers(0, 40, 5000), rng.standard_normal(40)
    u[7] = np.nan

    def fn(x, u, at):
        y = x + 0
        CALLS[combine].at(y, at, u)
        return y

    with np.errstate(all="ignore"):
        both(fn, x, u, at, rtol=1e-9, atol=0)


def test_counts_and_errors():
    at = np.arange(20_000) % 50
    count = graphc.compile(lambda at: np.bincount(at, minlength=50), threads=2)
    assert np.array_equal(count(at), np.bincount(at, minlength=50))
    at[12_345] = 50
    with pytest.raises(IndexError):
        count(at)


def test_embedding_and_its_gradient():
    rng = np.random.default_rng(13)
    table, place = rng.standard_normal((65, 48)).astype(np.float32), rng.standard_normal((30, 48)).astype(np.float32)
    tokens = rng.integers(0, 65, (20, 30))

    def fn(table, place, tokens):
        return np.tanh(table[tokens] + place)

    exe = both(fn, table, place, tokens)
    assert templates(exe) == ["elementwise"]
    both(graphc.grad(lambda *a: (fn(*a) ** 2).sum(), argnums=0), table, place, tokens, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------------------------ gathers in loops


def test_gathers_of_rows_columns_and_elements():
    rng = np.random.default_rng(14)
    x, w = rng.standard_normal((23, 37)).astype(np.float32), rng.standard_normal((41, 37)).astype(np.float32)
    i, j = rng.integers(-23, 23, 41), rng.integers(0, 37, 41).astype(np.int32)

    def fn(x, w, i, j):
        rows = x[i] * w + 1
        columns = np.exp(x[:, j])
        cells = x[i, j] * 3
        along = np.take_along_axis(w, np.stack([i, j], 1) % 37, axis=1)
        return rows, columns, cells, along.sum(), (x[i] * w).sum(1), (x[i] * w).sum(0), x.T[j]

    both(fn, x, w, i, j)


def test_gathers_at_odd_places():
    """Of slices and reversed axes, of 0-d and empty indices, of half floats and bools."""
    rng = np.random.default_rng(15)
    x = rng.standard_normal((9, 8, 7)).astype(np.float32)
    i, one = rng.integers(-4, 4, (5, 3)), np.array(2)
    half, flags = x.astype(np.float16), x > 0

    def fn(x, i, one, half, flags):
        return (
            x[::2, ::-1][:, i] + 1, x[one] * 2, x[i[:0]] + x[0], x.transpose(2, 0, 1)[i, 1] - 1, half[i] + half[i],
            flags[i] ^ flags[one], x[:, i, one],
        )  # fmt: skip

    both(fn, x, i, one, half, flags)


def test_a_gather_that_reads_what_its_kernel_writes():
    rng = np.random.default_rng(16)
    x, i = rng.standard_normal((64, 16)), rng.integers(0, 64, 64)

    def fn(x, i):
        for _ in range(3):
            x = np.tanh(x[i] + x)
        return x

    both(fn, x, i)


def test_donated_memory_is_not_read_after_it_is_written():
    rng = np.random.default_rng(17)
    x, i = rng.standard_normal((64, 16)), rng.integers(0, 64, 64)
    wanted = x[i] + x
    assert np.array_equal(graphc.compile(lambda x, i: x[i] + x, donate=(0,))(x, i), wanted)


def test_what_follows_a_product_reads_finished_gathers():
    rng = np.random.default_rng(18)
    x, w, table = rng.standard_normal((20, 12)), rng.standard_normal((12, 24)), rng.standard_normal((9, 24))
    at, columns = rng.integers(0, 9, 20), rng.integers(0, 24, (20, 24))

    def fn(x, w, table, at, columns):
        return x @ w - table[at], 2 * np.take_along_axis(table[at], columns, axis=1) + x @ w

    both(fn, x, w, table, at, columns)


def test_what_follows_a_segment_may_gather():
    rng = np.random.default_rng(19)
    u, at, table = rng.standard_normal((300, 16)), rng.integers(0, 70, 300), rng.standard_normal((9, 16))
    kind = rng.integers(0, 9, 70)

    def fn(u, at, table, kind):
        y = graphc.numpy.zeros((70, 16))
        np.add.at(y, at, u)
        return y * table[kind] + 1

    compiled = graphc.compile(fn, threads=2)
    wanted = np.zeros((70, 16))
    np.add.at(wanted, at, u)
    np.testing.assert_allclose(compiled(u, at, table, kind), wanted * table[kind] + 1, rtol=1e-12)
