"""Generated linear algebra and sorting kernels against the meaning of their ops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from emit_calls import Compiled, KernelError, body, expected, kernel

from graphc import ops
from graphc.backends.cpu import lapack
from graphc.ops import items, linalg, sorting
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


def test_random_bits():
    graph = body(lambda key: ops.OPS["random_bits"](key, shape=(7, 30)), TensorType(u32, (2,)))
    key = np.array([3, 2**32 - 1], np.uint32)
    assert run(graph, key)[0].tobytes() == expected(graph, [key])[0].tobytes()


def test_our_openblas_has_one_thread():
    assert lapack.function("scipy_openblas_get_num_threads")() == 1
