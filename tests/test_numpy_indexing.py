"""Laws of indexing: random index expressions of every kind, read and written, against NumPy; what is refused, and how."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compare import check_same, in_numpy, traced
from hypothesis import given
from hypothesis import strategies as st

import graphc
import graphc.numpy as gnp

SHAPES = [(4,), (3, 4), (2, 3, 4), (2, 0, 3), (2, 3, 2, 2), ()]


def numbers(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(math.prod(shape), dtype=float).reshape(shape) + 1


@st.composite
def indices(draw: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """An index into an array of ``shape``: ints, slices, None, Ellipsis, integer arrays and lists, masks, True and False.

    Arrays and masks need not broadcast together: NumPy decides whether the index is one.
    """
    axes = draw(st.integers(0, len(shape)))
    dots = draw(st.integers(0, axes)) if draw(st.booleans()) else None
    lead = draw(st.sampled_from([(), (2,), (3, 2), (1,)]))
    parts: list[Any] = []
    k = 0
    while k < axes:
        # Parts behind an Ellipsis index the last axes.
        at = k if dots is None or k < dots else len(shape) - axes + k
        extent = shape[at]
        if dots == k:
            parts.append(Ellipsis)
            dots = -1 - len(shape)
        kinds = ["slice", "slice", "none", "truth", "mask", "empty"] + (
            ["int", "array", "array", "list", "outside"] if extent else []
        )
        kind = draw(st.sampled_from(kinds))
        if kind in ("none", "truth"):
            parts.append(None if kind == "none" else draw(st.sampled_from([True, False, np.True_, np.array(True)])))
            kind = "slice"
        if kind == "int":
            number = draw(st.integers(-extent, extent - 1))
            parts.append(draw(st.sampled_from([int, np.int64, np.int8, np.array]))(number))
        elif kind == "outside":
            parts.append(
                draw(st.sampled_from([extent, -extent - 1, [0, extent]])) if draw(st.integers(0, 9)) == 0 else 0
            )
        elif kind == "empty":
            parts.append(draw(st.sampled_from([[], np.zeros((0,), int), slice(0, 0)])))
        elif kind in ("array", "list"):
            own = draw(st.sampled_from([lead, lead[-1:], (1,) * len(lead)]))
            given = draw(st.lists(st.integers(-extent, extent - 1), min_size=math.prod(own), max_size=math.prod(own)))
            array = np.array(given, draw(st.sampled_from(["i8", "i4", "i1"]))).reshape(own)
            parts.append(array if kind == "array" else array.tolist())
        elif kind == "mask":
            width = 2 if k + 2 <= axes and dots in (None, -1 - len(shape)) and draw(st.booleans()) else 1
            span = shape[at : at + width]
            truth = draw(st.lists(st.booleans(), min_size=math.prod(span), max_size=math.prod(span)))
            parts.append(np.array(truth, bool).reshape(span))
            k += width - 1
        else:
            bound = st.none() | st.integers(-extent - 2, extent + 2)
            step = draw(st.none() | st.sampled_from([1, 2, 3, -1, -2, -5]))
            parts.append(slice(draw(bound), draw(bound), step))
        k += 1
    if dots is not None and dots >= 0:
        parts.append(Ellipsis)
    return tuple(parts)


def chosen(x: np.ndarray, index: Any) -> Any:
    """``x[index]``, or IndexError where NumPy raises it."""
    try:
        return x[index]
    except IndexError:
        return IndexError


def is_array(part: Any) -> bool:
    return isinstance(part, np.ndarray) and part.dtype.kind in "iu"


def with_traced(index: Any) -> tuple[Callable[..., Any], list[Any]]:
    """``index`` with its integer arrays as arguments: a function that puts them back, and the arrays."""
    parts = index if isinstance(index, tuple) else (index,)
    places = [k for k, p in enumerate(parts) if is_array(p)]

    def rebuilt(*arrays: Any) -> tuple[Any, ...]:
        now = list(parts)
        for k, a in zip(places, arrays, strict=True):
            now[k] = a
        return tuple(now)

    return rebuilt, [parts[k] for k in places]


@given(st.data())
def test_law_reading_is_numpys(data: Any) -> None:
    shape = data.draw(st.sampled_from(SHAPES))
    index = data.draw(indices(shape))
    index = index[0] if len(index) == 1 and data.draw(st.booleans()) else index
    x = numbers(shape)
    if chosen(x, index) is IndexError:
        with pytest.raises(IndexError):
            graphc.trace(lambda x: x[index], x)
        return
    check_same(lambda x: x[index], x)
    rebuilt, arrays = with_traced(index)
    if arrays:
        check_same(lambda x, *arrays: x[rebuilt(*arrays)], x, *arrays)


@given(st.data())
def test_law_writing_is_numpys(data: Any) -> None:
    shape = data.draw(st.sampled_from(SHAPES))
    index = data.draw(indices(shape))
    x = numbers(shape)
    if chosen(x, index) is IndexError:
        with pytest.raises(IndexError):
            graphc.trace(lambda x: x.at[index].set(0), x)
        return
    target = np.shape(x[index])
    value = -numbers(target)
    if target and data.draw(st.booleans()):
        value = value[:1]
    elif data.draw(st.booleans()):
        value = np.float64(-7)
    rebuilt, arrays = with_traced(index)

    def assign(x: Any, value: Any, *arrays: Any) -> Any:
        y = x + 0
        if not y.shape:
            y = y.reshape(()) if isinstance(y, np.generic) else y
        y[rebuilt(*arrays)] = value
        return y

    def accumulate(x: Any, value: Any, *arrays: Any) -> Any:
        y = x + 0
        np.add.at(y, rebuilt(*arrays), value)
        return y

    def update(x: Any, value: Any, *arrays: Any) -> Any:
        y = x + 0
        y[rebuilt(*arrays)] += value
        return y

    if not shape:
        return
    check_same(assign, x, value, *arrays)
    check_same(update, x, value, *arrays)
    if math.prod(target):  # NumPy's add.at does not take all empty ones
        check_same(accumulate, x, value, *arrays)
    want = in_numpy(assign, x, value, *arrays)
    np.testing.assert_array_equal(traced(lambda x, v, *a: x.at[rebuilt(*a)].set(v), x, value, *arrays), want)
    for function in (assign, accumulate if math.prod(target) else assign):
        check_linear(function, x, value, arrays)


def check_linear(function: Callable[..., Any], x: np.ndarray, value: Any, arrays: list[Any]) -> None:
    """The gradient of a function that is linear in x and value, by exact differences of whole numbers."""
    rng = np.random.default_rng(0)
    cotangent = rng.integers(-5, 6, x.shape).astype(float)
    gx, gv = graphc.grad(lambda x, v: (function(x, v, *arrays) * cotangent).sum(), argnums=(0, 1))(x, value)
    dx, dv = (rng.integers(-5, 6, np.shape(a)).astype(float) for a in (x, value))
    change = in_numpy(function, x + dx, value + dv, *arrays) - in_numpy(function, x, value, *arrays)
    assert (change * cotangent).sum() == (gx * dx).sum() + (gv * dv).sum()


@given(st.data())
def test_law_traced_masks(data: Any) -> None:
    """A traced mask among ints, slices, None and Ellipsis: assigned to, and reduced."""
    shape = data.draw(st.sampled_from([(4,), (3, 4), (2, 3, 4), (2, 3, 2, 2)]))
    x = numbers(shape)
    first = data.draw(st.integers(0, len(shape) - 1))
    width = data.draw(st.integers(0, len(shape) - first))
    mask = np.array(
        data.draw(st.lists(st.booleans(), min_size=math.prod(shape[first : first + width]), max_size=1000))
    )[: math.prod(shape[first : first + width])].reshape(shape[first : first + width])

    def simple(extent: int) -> Any:
        return data.draw(st.sampled_from([slice(None), slice(1, None), slice(None, None, -1), 0, -1]))

    before = [simple(n) for n in shape[:first]]
    after = [simple(n) for n in shape[first + width :]][: data.draw(st.integers(0, 2))]
    extra = [[None], [Ellipsis], []][data.draw(st.integers(0, 2))]

    def index(m: Any) -> tuple[Any, ...]:
        return (*before, m, *extra, *after) if extra != [Ellipsis] else (*before, m, *after, *extra)

    def reduced(x: Any, m: Any) -> Any:
        found = x[index(m)]
        axis = data_axis if found.ndim else None
        return found.sum(), (found * 2 + found).sum(axis=axis).sum(), found.sum(axis=tuple(range(found.ndim)))

    data_axis = data.draw(st.integers(0, max(x[index(mask)].ndim - 1, 0)))
    check_same(reduced, x, mask)

    def changed(x: Any, m: Any) -> Any:
        y = x + 0
        y[index(m)] = 0.5
        y[index(m)] += y[index(m)] * 3
        y[index(m)] -= x[index(m)]
        return y

    check_same(changed, x, mask)
    check_linear(lambda x, v, m: changed(x, m) * 1 + v, x, np.float64(1), [mask])


def test_bad_indices() -> None:
    x = numbers((3, 4))
    for bad in (
        lambda x: x[3], lambda x: x[0, -5], lambda x: x[0, 0, 0], lambda x: x[..., ...], lambda x: x[1.5], lambda x: x["a"],
        lambda x: x[[3]], lambda x: x[[0, 1], [0, 1, 2]], lambda x: x[np.array([0.5])], lambda x: x[:, [-5]],
        lambda x: x[[True, False]], lambda x: x[:, np.ones(3, bool)], lambda x: x[x[0] > 0], lambda x: x[True, 3],
        lambda x: x[np.ones((3, 4, 1), bool)], lambda x: x[np.array([1.0])], lambda x: x[x], lambda x: x[{0}],
    ):  # fmt: skip
        with pytest.raises(IndexError):
            graphc.trace(bad, x)
    with pytest.raises(IndexError, match="index 3 is out of bounds for axis 0 with size 3"):
        graphc.trace(lambda x: x[[0, 3]], x)
    with pytest.raises(IndexError, match="size of axis is 3 but size of corresponding boolean axis is 4"):
        graphc.trace(lambda x: x[x[0] > 0], x)
    with pytest.raises(IndexError, match="index 7 is out of bounds for axis 0 with size 3"):
        traced(lambda x, k: x[k], x, np.array([0, 7]))
    with pytest.raises(ValueError, match=r"could not broadcast input array from shape \(3,\) into shape \(4,\)"):
        graphc.trace(lambda x: x.at[0].set(np.ones(3)), x)


REFUSED = [
    (lambda x, m: x[m], "boolean mask has a shape that depends on data: x.mask., of .*py:.*: `x.m.`, is used.*np.where"),
    (lambda x, m: len(x[m]), "the shape of x.mask., .*np.count_nonzero"),
    (lambda x, m: x[m].shape[0], "the shape of"),
    (lambda x, m: np.sort(x[m]), "np.sort of x.mask."),
    (lambda x, m: x[m].argmax(), "the method or attribute argmax of x.mask."),
    (lambda x, m: np.cumsum(x[m]), "np.cumsum of x.mask."),
    (lambda x, m: x[m] + x[~m], "two different masks"),
    (lambda x, m: x[m] * x[0], "whether they broadcast depends on data"),
    (lambda x, m: x[m][0], "has a shape that depends on data"),
    (lambda x, m: list(x[m]), "the shape of"),
    (lambda x, m: np.concatenate([x[m], x[m]]), "np.concatenate of x.mask."),
    (lambda x, m: x[m[:, 0], [0, 1]], "a traced mask beside other index arrays"),
    (lambda x, m: x.at[m].get(), "x.at.mask..get.. has a shape"),
    (lambda x, m: x.at[m].set(np.arange(3)), "how many numbers that takes depends on data"),
    (lambda x, m: x.at[m].set(x[~m]), "another mask"),
    (lambda x, m: x[: m.sum()], "a slice with a traced bound"),
    (lambda x, m: x.strides, "the attribute strides"),
    (lambda x, m: x.nonzero(), "depends? on data"),
    (lambda x, m: x.resize((2, 2)), "np.resize"),
    (lambda x, m: x.view(np.int64), "x.view.i64. of a traced"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_depends_on_data_is_refused(function: Callable[..., Any], message: str) -> None:
    x = numbers((3, 4))
    with pytest.raises(TypeError, match=message) as caught:
        graphc.trace(function, x, x > 3)
    assert "test_numpy_indexing.py" in str(caught.value), "the user's line"


def test_selections_do_not_see_what_the_mask_leaves_out() -> None:
    x, a = np.array([-1.0, 4.0, 0.0, 9.0]), np.float64(2)

    def loss(x: Any, a: Any) -> Any:
        return (a * np.log(x[x > 0] * a) / np.sqrt(x[x > 0])).sum()

    gx, ga = graphc.grad(loss, argnums=(0, 1))(x, a)
    assert np.isfinite(gx).all() and np.isfinite(ga) and gx[0] == gx[2] == 0
    graphc.check_grads(lambda x, a: loss(np.where(np.array([False, True, False, True]), x, -1), a), (x, a), order=2)
    assert np.isnan(traced(lambda x: x[x > 99].mean(), x)) and traced(lambda x: x[x > 99].max(), x) == -np.inf


def test_duplicate_indices_give_the_gradient_to_the_last_one() -> None:
    x, i = numbers((3,)), np.array([1, 1, 0])
    set_ = graphc.grad(lambda v: (x[0] * gnp.asarray(x).at[i].set(v)).sum())(numbers((3,)))
    assert set_.tolist() == [0, 1, 1]
    added = graphc.grad(lambda v: (gnp.asarray(x).at[i].add(v) * x).sum())(numbers((3,)))
    assert added.tolist() == [2, 2, 1]
    tied = graphc.grad(lambda v: gnp.asarray(x).at[i].max(v).sum())(np.array([5.0, 5.0, 0.0]))
    assert tied.tolist() == [0.5, 0.5, 0]


def test_known_indices_that_differ_need_no_winners() -> None:
    def operations(index: Any) -> list[str]:
        graph = graphc.trace(graphc.grad(lambda v, x: (x.at[index].set(v) ** 2).sum()), np.ones(3), numbers((4,)))
        return [n.op.name for n in graph.nodes]

    assert "eq" not in operations([0, -1, 1]) and "eq" not in operations(np.array([True, True, False, True]))
    assert "eq" in operations([0, -1, 3])


def test_modes_of_at() -> None:
    x, i = np.arange(4.0), np.array([-1, 9, -9])
    assert np.isnan(traced(lambda x, i: x.at[i].get(mode="fill"), x, i)).tolist() == [False, True, True]
    whole = np.arange(4)
    low = np.iinfo(np.int64).min
    assert traced(lambda x, i: x.at[i].get(mode="fill"), whole, i).tolist() == [3, low, low]
    assert traced(lambda x: x.at[7].get(mode="clip"), x) == 3
    assert traced(lambda x: x.at[7].set(1, mode="drop", unique_indices=True), x).tolist() == x.tolist()
    with pytest.raises(IndexError, match="out of bounds"):
        graphc.trace(lambda x: x.at[7].set(1), x)
    with pytest.raises(ValueError, match="mode is one of"):
        graphc.trace(lambda x: x.at[7].set(1, mode="wrong"), x)
    with pytest.raises(TypeError, match="has no argument 'mod'"):
        graphc.trace(lambda x: x.at[0].set(1, mod="clip"), x)


def test_large_indices_stay_linear() -> None:
    """A mask and an index of 100,000 elements make graphs of a few nodes, and constants of their own size."""
    x = np.arange(100_000.0)
    mask, places = x % 3 == 0, (np.arange(100_000) * 7) % 100_000

    def program(x: Any) -> Any:
        y = x + 0
        y[mask] += 1
        y[places] = y[::-1]
        y[y > 5] *= 2
        return y[mask].sum() + y[places].sum()

    graph = graphc.trace(graphc.grad(program), x)
    assert len(graph.nodes) < 120
    assert all(np.prod(t.shape) <= 100_000 for n in graph.nodes for t in [n.type] if hasattr(t, "shape"))
    check_same(program, x)


def test_views_by_a_traced_int() -> None:
    def program(x: Any, i: Any) -> Any:
        y = x + 0
        row = y[i]
        row += 10
        row[::2][0] = -1
        column = y[:, i + 1]
        column *= 2
        y[i, i] = 7
        return y, row, column

    check_same(program, numbers((3, 4)), np.int64(1))
    check_same(program, numbers((3, 4)), 0)
