"""Generated linear algebra and sorting kernels against the meaning of their ops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from emit_calls import Compiled, KernelError, body, expected, kernel

from graphc import ops
from graphc.backends.cpu import lapack
from graphc.ops import decompositions, items, linalg, sorting
from graphc.types import DTYPES, TensorType, f32, f64, u32

SORTABLE = ("bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f16", "bf16", "f32", "f64")


def run(graph, *inputs):
    """The results, checked to be the same bits for any number of threads."""
    call = Compiled(kernel(graph, "library"))
    found = call(*inputs)
    for threads in (2, 3):
        assert all(a.tobytes() == b.tobytes() for a, b in zip(found, call(*inputs, threads=threads), strict=True))
    return found


def unsorted(t: TensorType, rng: np.random.Generator) -> np.ndarray:
    """Many ties; for floats NaN of both signs, both zeros and infinities as well."""
    if t.dtype.name == "bool":
        return rng.random(t.shape) < 0.5
    if t.dtype.is_float:
        pool = np.array([np.nan, -np.nan, 0.0, -0.0, np.inf, -np.inf, 1.0, -1.0, 1e-7, *rng.standard_normal(40)])
        return rng.choice(pool, t.shape).astype(t.dtype.numpy)
    info = np.iinfo(t.dtype.numpy)
    pool = np.array([info.min, info.max, 0, 1, *rng.integers(info.min, info.max, 40, t.dtype.numpy)], t.dtype.numpy)
    return rng.choice(pool, t.shape)


@pytest.mark.parametrize("name", SORTABLE)
def test_sorting(name):
    rng, element = np.random.default_rng(0), DTYPES[name]
    for shape, axis in (((3, 5), 1), ((2, 40, 3), 1), ((300, 2), 0), ((1000,), 0), ((4, 1), 1)):
        t = TensorType(element, shape)
        x = unsorted(t, rng)
        for op in (sorting.sort, sorting.argsort):
            graph = body(lambda x, op=op, axis=axis: op(x, axis=axis), t)
            (found,), (want,) = run(graph, x), expected(graph, [x])
            assert found.tobytes() == want.tobytes(), (op.name, shape)


@pytest.mark.parametrize("name", SORTABLE)
def test_top_k(name):
    rng, element = np.random.default_rng(1), DTYPES[name]
    for shape, k in (((3, 7), 3), ((2, 50), 50), ((2, 500), 20), ((5,), 1)):
        t = TensorType(element, shape)
        x = unsorted(t, rng)
        graph = body(lambda x, k=k: items(sorting.top_k(x, k=k)), t)
        for found, want in zip(run(graph, x), expected(graph, [x]), strict=True):
            assert found.tobytes() == want.tobytes(), shape


def positive_definite(rng: np.random.Generator, batch: tuple[int, ...], n: int, element) -> np.ndarray:
    a = rng.standard_normal((*batch, n, n))
    return (a @ np.swapaxes(a, -1, -2) + n * np.eye(n)).astype(element.numpy)


@pytest.mark.parametrize("element", [f32, f64], ids=str)
def test_cholesky(element):
    rng = np.random.default_rng(2)
    for batch, n in (((), 1), ((), 5), ((3, 2), 20), ((), 70)):
        x = positive_definite(rng, batch, n, element)
        x[..., 0, -1] += 7 if n > 1 else 0  # the upper triangle is not read
        graph = body(linalg.cholesky, TensorType(element, x.shape))
        (found,), (want,) = run(graph, x), expected(graph, [x])
        np.testing.assert_allclose(found, want, rtol=0, atol=n * 20 * np.finfo(found.dtype).eps)
        assert not np.triu(found, 1).any()


def test_a_matrix_that_is_not_positive_definite_is_an_error():
    x = np.stack([np.eye(4), -np.eye(4)])
    graph = body(linalg.cholesky, TensorType(f64, (2, 4, 4)))
    for threads in (1, 2):
        with pytest.raises(KernelError) as caught:
            Compiled(kernel(graph, "library"))(x, threads=threads)
        assert (caught.value.code, caught.value.node) == (2, 1)


@pytest.mark.parametrize("element", [f32, f64], ids=str)
def test_triangular_solve(element):
    rng = np.random.default_rng(3)
    flags = ("lower", "transpose", "unit_diagonal", "left_side")
    for values, (batch, n, m) in itertools.product(
        itertools.product((False, True), repeat=4), (((), 5, 3), ((2,), 33, 1))
    ):
        attrs = dict(zip(flags, values, strict=True))
        a = (rng.standard_normal((*batch, n, n)) / n + 2 * np.eye(n)).astype(element.numpy)
        b = rng.standard_normal((*batch, *((n, m) if attrs["left_side"] else (m, n)))).astype(element.numpy)
        types = [TensorType(element, v.shape) for v in (a, b)]
        graph = body(lambda a, b, attrs=attrs: linalg.triangular_solve(a, b, **attrs), *types)
        (found,), (want,) = run(graph, a, b), expected(graph, [a, b])
        np.testing.assert_allclose(found, want, rtol=0, atol=100 * np.finfo(found.dtype).eps * np.abs(want).max())


def general(rng: np.random.Generator, element, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(element.numpy)


def factors(op, x, **attrs):
    """The results of the kernel of ``op``, of the types that the op infers."""
    graph = body(lambda x: items(op(x, **attrs)), TensorType(f64 if x.dtype == np.float64 else f32, x.shape))
    found = run(graph, x)
    assert [(f.dtype, f.shape) for f in found] == [(w.dtype, w.shape) for w in expected(graph, [x])]
    return found


@pytest.mark.parametrize("element", [f32, f64], ids=str)
def test_lu(element):
    rng = np.random.default_rng(4)
    for shape in ((1, 1), (5, 5), (3, 2, 17, 17), (70, 70), (2, 0, 0)):
        x = general(rng, element, *shape)
        matrix, order, sign = factors(decompositions.lu, x)
        n = shape[-1]
        lower, upper = np.tril(matrix, -1) + np.eye(n), np.triu(matrix)
        permuted = np.take_along_axis(x, order[..., None], -2)
        np.testing.assert_allclose(lower @ upper, permuted, rtol=0, atol=20 * (n + 1) * np.finfo(x.dtype).eps)
        moved = np.take_along_axis(np.broadcast_to(np.eye(n), shape), order[..., None], -2)
        np.testing.assert_array_equal(sign, np.round(np.linalg.det(moved)))
    assert factors(decompositions.lu, np.zeros((2, 3, 3)))[1].tolist() == [[0, 1, 2]] * 2


@pytest.mark.parametrize("element", [f32, f64], ids=str)
def test_qr(element):
    rng = np.random.default_rng(5)
    for shape, full in itertools.product(((1, 1), (5, 3), (2, 3, 5), (2, 2, 18, 18), (80, 70)), (False, True)):
        x = general(rng, element, *shape)
        q, r = factors(decompositions.qr, x, full=full)
        eps = 30 * max(shape) * np.finfo(x.dtype).eps
        np.testing.assert_allclose(q @ r, x, rtol=0, atol=eps)
        np.testing.assert_allclose(np.swapaxes(q, -1, -2) @ q + np.zeros(shape[:-2] + (1, 1)), np.broadcast_to(
            np.eye(q.shape[-1]), shape[:-2] + (q.shape[-1],) * 2), rtol=0, atol=eps)  # fmt: skip
        assert not np.tril(r, -1).any()
        want = np.linalg.qr(x, "complete" if full else "reduced")
        np.testing.assert_allclose(r, want[1], rtol=0, atol=eps)  # signs are NumPy's


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("element", [f32, f64], ids=str)
def test_eigh(element, lower):
    rng = np.random.default_rng(6)
    for shape in ((1, 1), (5, 5), (2, 2, 17, 17), (60, 60)):
        x = general(rng, element, *shape)
        half = np.tril(x) if lower else np.triu(x)
        whole = half + np.swapaxes(half, -1, -2) - half * np.eye(shape[-1], dtype=x.dtype)
        values, vectors = factors(decompositions.eigh, x, lower=lower)
        eps = 50 * shape[-1] * np.finfo(x.dtype).eps
        np.testing.assert_allclose(whole @ vectors, vectors * values[..., None, :], rtol=0, atol=eps)
        assert (np.diff(values, axis=-1) >= 0).all()
        graph = body(lambda x: decompositions.eigvalsh(x, lower=lower), TensorType(element, shape))
        np.testing.assert_allclose(run(graph, x)[0], values, rtol=0, atol=eps)


@pytest.mark.parametrize("element", [f32, f64], ids=str)
def test_svd(element):
    rng = np.random.default_rng(7)
    for shape, full in itertools.product(((1, 1), (5, 3), (2, 3, 5), (2, 2, 18, 18), (4, 90), (90, 4)), (False, True)):
        x = general(rng, element, *shape)
        u, s, vh = factors(decompositions.svd, x, full=full)
        k, eps = s.shape[-1], 50 * max(shape) * np.finfo(x.dtype).eps
        np.testing.assert_allclose((u[..., :k] * s[..., None, :]) @ vh[..., :k, :], x, rtol=0, atol=eps)
        for q in (u, np.swapaxes(vh, -1, -2)):
            turned = np.swapaxes(q, -1, -2) @ q
            np.testing.assert_allclose(turned, np.broadcast_to(np.eye(q.shape[-1]), turned.shape), rtol=0, atol=eps)
        assert (np.diff(s, axis=-1) <= 0).all() and (s >= 0).all()
        graph = body(decompositions.svdvals, TensorType(element, shape))
        np.testing.assert_allclose(run(graph, x)[0], s, rtol=0, atol=eps)


@pytest.mark.parametrize("name", ["nonsingular", "svd", "eigh"])
def test_what_cannot_be_factored_is_an_error(name):
    x = np.stack([np.eye(3), np.full((3, 3), np.nan)])
    attrs = {"svd": {"full": True}, "eigh": {"lower": True}}.get(name, {})
    if name == "nonsingular":
        x[1] = np.triu(np.ones((3, 3)))
        x[1, 1, 1] = -0.0

    def function(x):
        node = ops.OPS[name](x, **attrs)
        return node if name == "nonsingular" else items(node)

    graph = body(function, TensorType(f64, x.shape))
    for threads in (1, 2):
        with pytest.raises(KernelError) as caught:
            Compiled(kernel(graph, "library"))(x, threads=threads)
        assert (caught.value.code, caught.value.node) == (2, 1)
    Compiled(kernel(graph, "library"))(np.stack([np.eye(3)] * 2))


def test_random_bits():
    graph = body(lambda key: ops.OPS["random_bits"](key, shape=(7, 30)), TensorType(u32, (2,)))
    key = np.array([3, 2**32 - 1], np.uint32)
    assert run(graph, key)[0].tobytes() == expected(graph, [key])[0].tobytes()


def test_our_openblas_has_one_thread():
    assert lapack.function("scipy_openblas_get_num_threads")() == 1
