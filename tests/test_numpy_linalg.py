"""numpy.linalg on traced arrays: errors, derivatives at awkward points, and what NumPy leaves open."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from compare import traced

import graphc
import graphc.numpy as gnp
from graphc.ir import GraphError
from graphc.leaks import UnsupportedError
from graphc.transforms import hessian, jacobian

rng = np.random.default_rng(0)
BACKENDS = ("reference", "cpu")


def differences(f, x, h=1e-5):
    """The gradient by central differences."""
    found = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[at] = h
        found[at] = (f(x + step) - f(x - step)) / (2 * h)
    return found


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_singular_matrix_is_an_error_when_it_runs(backend):
    a = np.stack([np.eye(3), np.ones((3, 3))])
    for function in (
        np.linalg.inv,
        lambda a: np.linalg.solve(a, np.ones((3, 1))),
        graphc.grad(lambda a: np.linalg.inv(a).sum()),
    ):
        f = graphc.compile(function, backend=backend)
        with pytest.raises(np.linalg.LinAlgError, match="(?i)singular"):
            f(a)
        f(a + 3 * np.eye(3))


@pytest.mark.parametrize("backend", BACKENDS)
def test_values_that_do_not_converge_are_an_error(backend):
    a = np.full((2, 3, 3), np.nan)
    for function in (lambda a: np.linalg.svd(a), lambda a: np.linalg.svd(a, compute_uv=False)):
        with pytest.raises(np.linalg.LinAlgError, match="converge"):
            graphc.compile(function, backend=backend)(a)


def test_operands_that_are_no_matrices():
    vector, wide, cube = np.ones(3), np.ones((2, 3)), np.eye(3)
    errors = np.linalg.LinAlgError
    for function, args, kind, words in [
        (np.linalg.inv, (vector,), errors, "at least two-dimensional"),
        (np.linalg.inv, (wide,), errors, "must be square"),
        (np.linalg.det, (wide,), errors, "must be square"),
        (np.linalg.cholesky, (wide,), errors, "must be square"),
        (np.linalg.eigh, (wide,), errors, "must be square"),
        (np.linalg.svd, (vector,), errors, "at least two-dimensional"),
        (np.linalg.matrix_power, (wide, 2), errors, "must be square"),
        (lambda a: np.linalg.matrix_power(a, 1.5), (cube,), TypeError, "exponent must be an integer"),
        (lambda a: np.linalg.solve(a, np.ones(2)), (cube,), ValueError, "mismatch"),
        (lambda a: np.linalg.lstsq(a, np.ones(4)), (wide,), errors, "Incompatible"),
        (lambda a: np.linalg.eigh(a, "X"), (cube,), ValueError, "UPLO"),
        (lambda a: np.linalg.qr(a, "thin"), (cube,), ValueError, "Unrecognized mode"),
        (lambda a: np.linalg.qr(a, "raw"), (cube,), UnsupportedError, "reduced"),
        (lambda a: np.linalg.norm(a, 3), (cube,), ValueError, "Invalid norm order for matrices"),
        (lambda a: np.linalg.norm(a, "nuc"), (vector,), ValueError, "Invalid norm order 'nuc' for vectors"),
        (lambda a: np.linalg.norm(a, axis=2), (cube,), np.exceptions.AxisError, "out of bounds"),
        (lambda a: np.linalg.cond(a), (np.ones((0, 0)),), errors, "empty"),
        (lambda a: np.linalg.pinv(a, 1e-3, rtol=1e-3), (cube,), ValueError, "can't be both set"),
        (lambda a: np.linalg.matrix_rank(a, 1e-3, rtol=1e-3), (cube,), ValueError, "can't be both set"),
        (lambda a: np.linalg.multi_dot([a]), (cube,), ValueError, "at least two"),
        (np.linalg.inv, (np.eye(2, dtype=np.float16),), TypeError, "float16"),
    ]:
        with pytest.raises(kind, match=words):
            traced(function, *args)
        if kind is not UnsupportedError and function is not None and "raw" not in words:
            with pytest.raises(kind):
                function(*args)


@pytest.mark.parametrize("name", ["eig", "eigvals"])
def test_what_is_left_out_says_so(name):
    with pytest.raises(UnsupportedError, match="eigh"):
        traced(lambda a: getattr(np.linalg, name)(a), np.eye(2))


# ------------------------------------------------------------------------------------------------ results


def test_results_have_numpy_s_names():
    a = rng.normal(size=(3, 3))
    s = traced(lambda a: np.linalg.slogdet(a @ a.T), a)
    assert (s.sign, s.logabsdet) == pytest.approx(tuple(np.linalg.slogdet(a @ a.T)))
    assert traced(lambda a: np.linalg.eigh(a), a)._fields == ("eigenvalues", "eigenvectors")
    assert traced(lambda a: np.linalg.svd(a), a)._fields == ("U", "S", "Vh")
    assert traced(lambda a: np.linalg.qr(a), a)._fields == ("Q", "R")


def test_least_squares_of_a_rank_deficient_matrix_have_the_residuals_of_full_rank():
    """NumPy's residuals are then empty: their shape depends on data."""
    a, b = np.ones((4, 2)), rng.normal(size=(4, 3))
    x, residuals, rank, s = traced(lambda a, b: np.linalg.lstsq(a, b), a, b)
    want = np.linalg.lstsq(a, b)
    np.testing.assert_allclose(x, want[0], atol=1e-14)
    np.testing.assert_allclose(residuals, ((b - a @ x) ** 2).sum(0))
    assert residuals.shape == (3,) and want[1].shape == (0,) and rank == want[2] == 1


def test_one_matrix_is_factored_once():
    """Everything about one matrix shares its decomposition in a compiled program, the derivative included."""

    def density(a, x):
        return x @ np.linalg.solve(a, x) + np.linalg.slogdet(a)[1]

    a = rng.normal(size=(4, 4)) + 4 * np.eye(4)
    f = graphc.compile(graphc.value_and_grad(density))
    f(a, np.ones(4))
    graph = f.executable(a, np.ones(4)).plan.schedule.graph
    assert sum(n.op.name == "lu" for n in graph.nodes) == 1


def test_plain_arrays():
    a = rng.normal(size=(3, 3))
    np.testing.assert_array_equal(gnp.linalg.inv(a), np.linalg.inv(a))
    np.testing.assert_allclose(gnp.linalg.expm(a), scipy.linalg.expm(a), rtol=1e-12)
    assert gnp.linalg.expm(a.astype(np.float32)).dtype == np.float32
    with pytest.raises(AttributeError, match="graphc.numpy.linalg has no 'logm'"):
        gnp.linalg.logm  # noqa: B018


# ------------------------------------------------------------------------------------------------ derivatives


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rank", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_derivatives_of_det_at_every_rank(n, rank, backend):
    if rank > n:
        pytest.skip("no such matrix")
    x = np.zeros((n, n))
    x[:rank, :rank] = np.triu(rng.integers(1, 4, (rank, rank)))
    gradient = graphc.compile(graphc.grad(lambda a: np.linalg.det(a)), backend=backend)
    want = differences(np.linalg.det, x)
    np.testing.assert_allclose(gradient(x), want, atol=1e-8)
    v = rng.normal(size=(n, n))
    second = graphc.compile(lambda x, v: graphc.hvp(lambda a: np.linalg.det(a))(x, v), backend=backend)(x, v)
    want = (gradient(x + 1e-4 * v) - gradient(x - 1e-4 * v)) / 2e-4
    np.testing.assert_allclose(second, want, atol=1e-6 * (1 + np.abs(want).max()))


def test_the_third_derivative_of_det_at_the_identity():
    v = rng.normal(size=(4, 4))

    def second(a):
        return (graphc.hvp(lambda a: np.linalg.det(a))(a, v) * v).sum()

    np.testing.assert_allclose(graphc.grad(second)(np.eye(4)), differences(second, np.eye(4), 1e-4), atol=1e-6)


@pytest.mark.parametrize("order", [None, 1, 2, 3, 1.5])
def test_the_derivative_of_a_norm_at_0_is_0(order):
    gradient = graphc.grad(lambda x: np.linalg.norm(x, order))
    assert gradient(np.zeros(3)).tolist() == [0, 0, 0]
    assert hessian(lambda x: np.linalg.norm(x, order))(np.zeros(3)).tolist() == np.zeros((3, 3)).tolist()
    mixed = graphc.grad(lambda x: np.linalg.norm(x, order, axis=1).sum())(np.array([[0.0, 0.0], [3.0, 4.0]]))
    assert np.isfinite(mixed).all() and mixed[0].tolist() == [0, 0]


def test_repeated_singular_values():
    """Values (and what is made of all of them) have derivatives; vectors count as not turning among equal values."""
    a = np.diag([2.0, 2.0, 1.0])
    nuclear = graphc.grad(lambda a: np.linalg.norm(a, "nuc"))(a)
    np.testing.assert_allclose(nuclear, np.eye(3), atol=1e-14)
    largest = graphc.grad(lambda a: np.linalg.norm(a, 2))(a)
    np.testing.assert_allclose(largest, np.diag([0.5, 0.5, 0]), atol=1e-14)  # the mean of both
    squares = graphc.grad(lambda a: (np.linalg.eigvalsh(a) ** 2).sum())(np.eye(3))
    np.testing.assert_allclose(squares, 2 * np.eye(3), atol=1e-14)
    vectors = jacobian(lambda a: np.linalg.eigh(a)[1])(np.eye(3))
    assert not vectors.any()


def test_full_factors_of_matrices_that_are_not_square_have_no_derivative():
    x = rng.normal(size=(4, 2))
    for function in (lambda a: np.linalg.svd(a)[0].sum(), lambda a: np.linalg.qr(a, "complete")[0].sum()):
        for transformed in (graphc.grad(function), lambda a, f=function: graphc.jvp(f, (a,), (a,))):
            with pytest.raises(GraphError, match="use (full_matrices=False|mode='reduced')"):
                transformed(x)


def test_symmetric_functions_have_symmetric_cotangents():
    a = rng.normal(size=(3, 3))
    a = a @ a.T + np.eye(3)
    for function in (np.linalg.cholesky, np.linalg.eigvalsh, lambda a: np.linalg.eigh(a)[1]):
        g = graphc.grad(lambda a, f=function: (f(a) * np.arange(1, 4)).sum())(a)
        np.testing.assert_allclose(g, g.T, atol=1e-13)


@pytest.mark.parametrize("size", [1e-3, 1.0, 40.0, -3e5])
def test_expm_of_small_and_large_matrices(size):
    a = np.array([[1.0, 0.3], [0.2, 0.8]]) * size
    want = scipy.linalg.expm(a)
    np.testing.assert_allclose(graphc.compile(gnp.linalg.expm)(a), want, rtol=1e-9, atol=1e-300)
    v = rng.normal(size=(2, 2))
    tangent = graphc.jvp(gnp.linalg.expm, (a,), (v,))[1]
    np.testing.assert_allclose(tangent, scipy.linalg.expm_frechet(a, v, compute_expm=False), rtol=1e-8, atol=1e-300)


def test_expm_does_not_square_more_than_needed():
    graph = graphc.trace(gnp.linalg.expm, np.eye(2))
    assert "cond" in str(graph) and "scan" in str(graph)


def test_singular_matrices_have_no_logarithm_of_their_determinant():
    sign, value = traced(lambda a: np.linalg.slogdet(a), np.zeros((3, 3)))
    assert (sign, value) == (0, -np.inf)
    compiled = graphc.compile(lambda a: np.linalg.slogdet(a))(np.ones((2, 3, 3)))
    assert compiled[0].tolist() == [0, 0] and compiled[1].tolist() == [-np.inf, -np.inf]
