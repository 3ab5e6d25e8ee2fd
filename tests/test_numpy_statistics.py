"""Statistics, sorting and sets: refusals, errors when a program runs, derivatives at ties, and what needs a size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compare import traced

import graphc
import graphc.numpy as gnp
from graphc.leaks import UnsupportedError

X = np.array([2.0, 1.0, 2.0, 3.0, 1.0])
ROUND = np.array([[1.0, 2.0, 1.0], [0.0, 2.0, 0.0], [1.0, 2.0, 1.0]])


def grad_of(function: Callable[..., Any], *args: Any) -> Any:
    return graphc.grad(function)(*args)


# ------------------------------------------------------------------------------------------------ refusals and errors


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: np.unique(x), "graphc.numpy.unique"),
        (lambda x: np.nonzero(x), "graphc.numpy.nonzero"),
        (lambda x: x.nonzero(), "graphc.numpy.nonzero"),
        (lambda x: np.flatnonzero(x), "graphc.numpy.flatnonzero"),
        (lambda x: np.argwhere(x), "graphc.numpy.argwhere"),
        (lambda x: np.union1d(x, x), "graphc.numpy.union1d"),
        (lambda x: np.setdiff1d(x, [1.0]), "graphc.numpy.setdiff1d"),
        (lambda x: np.trim_zeros(x), "trim_zeros"),
        (lambda x: gnp.unique(x), "size=n"),
        (lambda x: gnp.intersect1d(x, x), "size=n"),
        (lambda x: gnp.flatnonzero(x), "size=n"),
        (lambda x: np.bincount(x.astype(int)), "minlength="),
        (lambda x: np.histogram(x, "auto"), "number of bins or edges"),
        (lambda x: np.compress(x > 1, x), "graphc.numpy.flatnonzero"),
        (lambda x: np.extract(x > 1, x), "np.where"),
        (lambda x: np.partition(x, x[0].astype(int)), "np.sort"),
    ],
)
def test_what_depends_on_data_is_refused_with_its_remedy(call: Callable[..., Any], words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        traced(call, X)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.sort(x, axis=1),
        lambda x: np.sort(x, kind="bubble"),
        lambda x: np.sort(x, order="f"),
        lambda x: np.sort(x, kind="stable", stable=True),
        lambda x: np.sort(x[0]),
        lambda x: np.partition(x, 5),
        lambda x: np.partition(x, 1.0),
        lambda x: np.argpartition(x, -6),
        lambda x: np.lexsort([]),
        lambda x: np.searchsorted(x, 1.0, "middle"),
        lambda x: np.searchsorted(x, 1.0, "l"),
        lambda x: np.searchsorted(x.reshape(1, 5), 1.0),
        lambda x: np.digitize(x, [1, 3, 2]),
        lambda x: np.quantile(x, 1.5),
        lambda x: np.quantile(x, -0.5),
        lambda x: np.percentile(x, [50, 101]),
        lambda x: np.quantile(x, 0.5, weights=x),
        lambda x: np.quantile(x, 0.5, weights=-np.ones(5), method="inverted_cdf"),
        lambda x: np.quantile(x, np.zeros((1, 1, 1))),
        lambda x: np.quantile(x[:0], 0.5),
        lambda x: np.percentile(x > 1, 50),
        lambda x: np.average(x, weights=[1, 2]),
        lambda x: np.average(x, axis=0, weights=[1, 2]),
        lambda x: np.average(x, weights=np.zeros(5)),
        lambda x: np.average(x[:, None], weights=np.ones(5)),
        lambda x: np.ptp(x[:0]),
        lambda x: np.max(x[:0]),
        lambda x: np.nanmax(x[:0]),
        lambda x: np.nanargmin(x[:0]),
        lambda x: np.argmax(x[:0]),
        lambda x: np.nanmean(x, dtype=int),
        lambda x: np.nanvar(x, ddof=1, correction=1),
        lambda x: np.cov(x, ddof=0.5),
        lambda x: np.cov(x, fweights=np.array([1, 2, 3, 4, 0.5])),
        lambda x: np.cov(x, aweights=-np.ones(5)),
        lambda x: np.cov(x, aweights=np.ones(4)),
        lambda x: np.bincount(x, minlength=4),
        lambda x: np.bincount([-1, 1, 1, 1, 1], x),
        lambda x: np.bincount([1, 2], x),
        lambda x: np.bincount([1, 2, 3, 1, 1], x, minlength=-1),
        lambda x: np.histogram(x, 0),
        lambda x: np.histogram(x, 2.5),
        lambda x: np.histogram(x, [2, 1]),
        lambda x: np.histogram(x, 3, (2, 1)),
        lambda x: np.histogram(x, 3, (0, np.inf)),
        lambda x: np.histogram(x, np.ones((2, 2))),
        lambda x: np.histogram(x, 3, weights=np.ones(4)),
        lambda x: np.histogram2d(x, x[1:]),
        lambda x: np.histogramdd([x, x], [2]),
        lambda x: np.histogramdd([x, x], 2, [(0, 1)]),
        lambda x: np.isin(x, [1], kind="tree"),
        lambda x: np.compress([1, 0, 0, 0, 0, 1], x),
        lambda x: np.compress([[1, 0]], x),
    ],
)  # fmt: skip
def test_errors_are_numpys(call: Callable[..., Any]) -> None:
    with pytest.raises(Exception) as theirs:  # noqa: B017 (whatever NumPy raises)
        call(X.copy())
    with pytest.raises(Exception) as mine:  # noqa: B017
        traced(call, X)
    kinds = (ValueError, IndexError, TypeError, ZeroDivisionError, RuntimeError)
    assert any(isinstance(theirs.value, k) and isinstance(mine.value, k) for k in kinds), mine.value


@pytest.mark.parametrize("run", [graphc.compile, lambda f: lambda *a: traced(f, *a)], ids=["cpu", "reference"])
def test_errors_when_a_program_runs(run: Callable[..., Any]) -> None:
    count = run(lambda i: np.bincount(i, minlength=3))
    np.testing.assert_array_equal(count(np.array([2, 0, 2])), [1, 0, 2])
    with pytest.raises(IndexError):
        count(np.array([2, 0, 3]))
    with pytest.raises(IndexError):
        count(np.array([2, 0, -1]))
    largest = run(lambda x: np.nanargmax(x, axis=1))
    np.testing.assert_array_equal(largest(np.array([[1.0, np.nan], [-np.inf, np.nan]])), [0, 0])
    with pytest.raises(IndexError):
        largest(np.array([[1.0, np.nan], [np.nan, np.nan]]))


# ------------------------------------------------------------------------------------------------ derivatives


def test_sort_ties_follow_the_stable_permutation() -> None:
    np.testing.assert_array_equal(grad_of(lambda x: np.sum(np.sort(x) * np.arange(5.0)), X), [2, 0, 3, 4, 1])


def test_extremes_share_ties_equally() -> None:
    tied = np.array([3.0, 1.0, 3.0, np.nan, 3.0])
    np.testing.assert_allclose(grad_of(np.nanmax, tied), [1 / 3, 0, 1 / 3, 0, 1 / 3])
    np.testing.assert_allclose(grad_of(np.ptp, np.array([1.0, 1.0, 2.0])), [-0.5, -0.5, 1])


def test_median_derivatives() -> None:
    np.testing.assert_array_equal(grad_of(np.median, np.array([4.0, 1.0, 3.0, 2.0])), [0, 0, 0.5, 0.5])
    np.testing.assert_array_equal(
        grad_of(np.median, X), [1, 0, 0, 0, 0]
    )  # the first of two equal ones is in the middle
    np.testing.assert_array_equal(grad_of(np.nanmedian, np.array([np.nan, 1.0, 3.0])), [0, 0.5, 0.5])
    np.testing.assert_array_equal(grad_of(np.nanmedian, np.array([np.nan, np.nan])), [0, 0])
    np.testing.assert_array_equal(grad_of(np.median, np.array([np.nan, 1.0])), [0, 0])


def test_quantile_derivative_by_q() -> None:
    x = np.array([1.0, 2.0, 4.0, 8.0])
    slope = graphc.grad(lambda q: np.quantile(x * 1.0, q))
    assert slope(0.4) == pytest.approx(3 * 2.0) and slope(0.9) == pytest.approx(3 * 4.0)
    assert graphc.grad(lambda q: np.percentile(x, q))(40.0) == pytest.approx(0.06)


def test_nan_and_masked_lanes_have_no_derivative() -> None:
    x = np.array([[np.nan, np.nan], [1.0, np.nan]])
    for function in (np.nansum, np.nanmean, np.nanmax, np.nanmedian, np.nanprod):
        np.testing.assert_array_equal(grad_of(lambda v, f=function: f(v, axis=1)[1], x), [[0, 0], [1, 0]])


def test_histogram_derivatives() -> None:
    x, w = np.array([0.1, 0.6, 0.7, 2.0]), np.arange(1.0, 5.0)
    by_weight = grad_of(lambda w: np.histogram(x, 2, (0, 1), weights=w)[0] @ np.array([10.0, 20.0]), w)
    np.testing.assert_array_equal(by_weight, [10, 20, 20, 0])
    np.testing.assert_array_equal(grad_of(lambda x: np.histogram(x, 2)[1][1], x), [0.5, 0, 0, 0.5])
    np.testing.assert_array_equal(grad_of(lambda w: np.bincount([0, 2, 2, 1], w)[2], w), [0, 1, 1, 0])


def test_unique_gradient_goes_to_the_first_of_equal_ones() -> None:
    np.testing.assert_array_equal(
        grad_of(lambda x: gnp.unique(x, size=4, fill_value=0) @ np.array([1.0, 10, 100, 1000]), X), [10, 1, 0, 100, 0]
    )


def test_corrcoef_of_one_variable_is_constant() -> None:
    np.testing.assert_allclose(grad_of(np.corrcoef, X), 0, atol=1e-15)


# ------------------------------------------------------------------------------------------------ with a size


def test_unique_in_room() -> None:
    run = graphc.compile(lambda x: gnp.unique(x, True, True, True, size=5, fill_value=-1))
    values, index, inverse, counts = run(ROUND)
    np.testing.assert_array_equal(values, [0, 1, 2, -1, -1])
    np.testing.assert_array_equal(index, [3, 0, 1, 0, 0])
    np.testing.assert_array_equal(inverse, [[1, 2, 1], [0, 2, 0], [1, 2, 1]])
    np.testing.assert_array_equal(counts, [2, 4, 3, 0, 0])
    np.testing.assert_array_equal(traced(lambda x: gnp.unique(x, size=2), ROUND), [0, 1])
    np.testing.assert_array_equal(traced(lambda x: gnp.unique(x, size=4), ROUND), [0, 1, 2, 0])
    rows, counts = traced(lambda x: gnp.unique(x, axis=0, return_counts=True, size=3, fill_value=9), ROUND)
    np.testing.assert_array_equal(rows, [[0, 2, 0], [1, 2, 1], [9, 9, 9]])
    np.testing.assert_array_equal(counts, [1, 2, 0])


def test_places_in_room() -> None:
    rows, columns = traced(lambda x: gnp.nonzero(x == 2, size=4, fill_value=(-1, 7)), ROUND)
    np.testing.assert_array_equal(rows, [0, 1, 2, -1])
    np.testing.assert_array_equal(columns, [1, 1, 1, 7])
    np.testing.assert_array_equal(traced(lambda x: gnp.flatnonzero(x, size=2), ROUND), [0, 1])
    np.testing.assert_array_equal(traced(lambda x: gnp.argwhere(x == 0, size=3), ROUND), [[1, 0], [1, 2], [0, 0]])


def test_two_sets_in_room() -> None:
    a, b = np.array([5, 3, 3, 1]), np.array([3, 5, 7])

    def all_of(a: Any, b: Any) -> Any:
        return (
            gnp.union1d(a, b, size=5, fill_value=0), gnp.intersect1d(a, b, return_indices=True, size=3),
            gnp.setdiff1d(a, b, size=2), gnp.setdiff1d(b, a, size=2, fill_value=0), gnp.setxor1d(a, b, size=3),
            gnp.setdiff1d(a, [1], assume_unique=True, size=4),
        )  # fmt: skip

    union, (common, first, second), only_a, only_b, either, unsorted = graphc.compile(all_of)(a, b)
    np.testing.assert_array_equal(union, [1, 3, 5, 7, 0])
    np.testing.assert_array_equal(common, [3, 5, 3])
    np.testing.assert_array_equal((first, second), [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(only_a, [1, 1])
    np.testing.assert_array_equal(only_b, [7, 0])
    np.testing.assert_array_equal(either, [1, 7, 1])
    np.testing.assert_array_equal(unsorted, [5, 3, 3, 5])


def test_plain_arrays_without_size_are_numpys() -> None:
    np.testing.assert_array_equal(gnp.unique(ROUND), [0, 1, 2])
    np.testing.assert_array_equal(gnp.flatnonzero(ROUND == 0), [3, 5])
    np.testing.assert_array_equal(gnp.setxor1d([1, 2], [2, 3]), [1, 3])
    assert len(gnp.nonzero(ROUND)) == 2 and gnp.argwhere(ROUND).shape == (7, 2)
    assert gnp.unique_all(X).counts.tolist() == [2, 2, 1]


# ------------------------------------------------------------------------------------------------ programs


def test_float32_stays() -> None:
    def program(x: Any, y: Any) -> Any:
        edges = np.histogram_bin_edges(x, 4)
        spread = np.percentile(x, 75) - np.quantile(x, 0.25) + np.median(x) + np.nanstd(x) + np.average(x, weights=y)
        place = np.searchsorted(edges, x) + np.digitize(x, [0.0, 0.5]) + np.histogram(x, 4, (0, 1))[0].sum()
        return spread, edges, np.nanmax(x) + place * np.float32(2)

    arrays = [np.linspace(0, 1, 40, dtype=np.float32)] * 2
    spread, edges, _ = traced(program, *arrays)
    assert spread.dtype == edges.dtype == np.float32
    graph = graphc.trace(lambda x: np.searchsorted(x, [0.0, 0.5]) + np.isin(x[:2], x), arrays[0])
    assert "f64" not in str(graph)


def test_a_long_search_halves() -> None:
    graph = graphc.trace(lambda a, v: np.searchsorted(a, v), np.zeros(1000), np.zeros(50))
    assert sum(n.op.name == "gather" for n in graph.nodes) == 10


def test_sort_in_place_through_a_view() -> None:
    def program(x: Any) -> Any:
        y = x.copy()
        y[::2].sort()
        y.reshape(1, 5)[0, 3:].partition(0)
        return y

    x = np.array([5.0, 9.0, 3.0, 8.0, 1.0])
    np.testing.assert_array_equal(traced(program, x), program(x))


def test_outputs_of_counts_and_order() -> None:
    def program(x: Any, out: Any) -> Any:
        np.median(x, axis=0, out=out)
        return out

    np.testing.assert_array_equal(traced(program, ROUND, np.zeros(3)), np.median(ROUND, axis=0))


def test_lists_of_traced_values() -> None:
    """Beside a traced array: NumPy asks no list of traced values what to do with it."""

    def program(x: Any, y: Any) -> Any:
        return (
            np.quantile(x, [y[0], y[1]], axis=0), np.percentile(x, [50 * y[0], 60]), np.nanquantile(x, [y[0]]),
            np.average(x, axis=0, weights=[y[0], y[1], 1.0]), np.cov(x, aweights=[y[0], 1.0, y[1]]),
            np.histogram(x, [y[0] - 1, y[1], 5.0]), np.histogram(x, 3, (y[0], y[1])),
            np.searchsorted([0.5, 1.5], x), np.searchsorted([y[0], y[1]], x), np.isin([x[0, 0], 7.0], x),
            np.histogram2d(x[0], x[1], [[y[0] - 1, 3], [y[1] - 2, 3]]), np.digitize(x, [y[0], y[1]]),
        )  # fmt: skip

    y = np.array([0.25, 0.75])
    have, want = [graphc.tree.flatten(v)[0] for v in (traced(program, ROUND, y), program(ROUND, y))]
    for mine, theirs in zip(have, want, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)
        assert mine.dtype == np.asarray(theirs).dtype
