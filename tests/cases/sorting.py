"""Sorting, partitioning and searching."""

from __future__ import annotations

import numpy as np

from cases import case, floats, integers

NAN = np.array([[2.0, np.nan, -1.0, 2.0], [np.nan, 0.0, -0.0, np.inf]])
TIES = np.array([[2.0, 1.0, 2.0, 1.0], [3.0, 3.0, 3.0, 0.0]])
NONE = np.zeros((0, 3))
LONG = np.sort(floats(100))


def by_sort(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[:, 1:].sort(axis=0)
    return x


def in_place(x: np.ndarray) -> np.ndarray:
    y = x.copy()
    y.T[0].sort()
    return y


def partitioned(x: np.ndarray) -> np.ndarray:
    y = x.copy()
    y.partition(2, axis=1)
    return y


# fmt: off
CASES = [
    case("np.sort", lambda x: np.sort(x), floats(3, 4), exact=True),
    case("np.sort", lambda x: np.sort(x, axis=0, kind="heapsort"), floats(5, 2), exact=True),
    case("np.sort", lambda x: np.sort(x, axis=None, stable=True), floats(3, 4), kinds="biufc", exact=True),
    case("np.sort", lambda x: np.sort(x), NAN, kinds="f", grad=0),
    case("np.sort", lambda x: np.sort(x, axis=0), NONE, grad=0, batch=False),
    case("np.sort", lambda x: np.sort(x.T, axis=0), floats(2, 120), exact=True, grad=1),
    case("np.ndarray.sort", by_sort, floats(4, 3), exact=True),
    case("np.ndarray.sort", in_place, floats(4, 3), exact=True),
    case("np.argsort", lambda x: np.argsort(x), floats(3, 4), kinds="f", grad=0),
    case("np.argsort", lambda x: x.argsort(axis=0, kind="stable"), TIES, grad=0, kinds="biufc"),
    case("np.argsort", lambda x: np.argsort(x, axis=None, stable=True), NAN, grad=0, kinds="biufc"),
    case("np.argsort", lambda x: np.argsort(x), np.ones(()), grad=0),
    case("np.lexsort", lambda x, y: np.lexsort((x, y)), floats(4), TIES[0], grad=0),
    case("np.lexsort", lambda x: np.lexsort((x, x.astype(int) % 2, x > 0), axis=0), floats(5, 3), grad=0),
    case("np.lexsort", lambda x: np.lexsort(x), np.stack([TIES, -TIES]), grad=0, kinds="biufc"),
    case("np.partition", lambda x: np.partition(x, 1), floats(3, 4), expect=lambda x: np.sort(x), exact=True),
    case(
        "np.partition", lambda x: np.partition(x, (0, 3), axis=None),
        floats(3, 4), expect=lambda x: np.sort(x, None), exact=True,
    ),
    case("np.partition", lambda x: np.partition(x, -1, axis=0)[-1], floats(3, 4), kinds="biufc", exact=True),
    case("np.ndarray.partition", partitioned, floats(3, 4), expect=lambda x: np.sort(x, 1), exact=True),
    case(
        "np.argpartition", lambda x: np.argpartition(x, 1, axis=0), floats(4, 3), grad=0, kinds="f",
        expect=lambda x: np.argsort(x, 0, stable=True),
    ),
    case(
        "np.argpartition", lambda x: x.argpartition(1), floats(4, 3), grad=0, kinds="f",
        expect=lambda x: np.argsort(x, -1, stable=True),
    ),
    # ------------------------------------------------------------------------------------ searching
    case(
        "np.searchsorted", lambda a, v: np.searchsorted(np.sort(a), v),
        floats(9), floats(2, 3, seed=1), grad=0, kinds="biufc",
    ),
    case("np.searchsorted", lambda v: np.searchsorted(LONG, v, side="right"), floats(40, seed=1), grad=0),
    case("np.searchsorted", lambda v: np.searchsorted(np.repeat(LONG, 3), v), LONG, grad=0),
    case("np.searchsorted", lambda v: np.searchsorted(np.repeat(LONG, 3), v, "right"), LONG, grad=0),
    case(
        "np.searchsorted", lambda a: np.searchsorted(np.sort(a), 0.5),
        np.array([0.0, 0.5, 0.5, np.nan]), kinds="f", grad=0,
    ),
    case("np.searchsorted", lambda a, v: np.searchsorted(np.sort(a), v, "right"), NAN.ravel(), NAN, kinds="f", grad=0),
    case("np.searchsorted", lambda a, v: np.searchsorted(np.sort(a), v), NAN.ravel(), NAN, kinds="f", grad=0),
    case(
        "np.searchsorted", lambda a, v: np.searchsorted(np.sort(a), v),
        np.append(LONG, [np.nan] * 3), NAN, kinds="f", grad=0,
    ),
    case(
        "np.searchsorted", lambda a, v: np.searchsorted(np.sort(a), v, "right"),
        np.append(LONG, [np.nan] * 3), NAN, kinds="f", grad=0,
    ),
    case(
        "np.searchsorted", lambda a, v: np.searchsorted(a, v, sorter=np.argsort(a)),
        floats(6), floats(3, seed=1), kinds="f", grad=0,
    ),
    case(
        "np.searchsorted", lambda a, v: np.searchsorted(np.sort(a), v, "right"),
        NAN.ravel(), NAN, kinds="c", grad=0, batch=False,
    ),
    case("np.searchsorted", lambda v: np.searchsorted(np.zeros(0), v), floats(3), grad=0),
    case(
        "np.ndarray.searchsorted", lambda a, v: np.sort(a).searchsorted(v, side="right"),
        floats(40), floats(4), grad=0,
    ),
    case("np.digitize", lambda x: np.digitize(x, [-1, 0, 0.5]), floats(2, 4), grad=0),
    case(
        "np.digitize", lambda x: np.digitize(x, np.array([0.5, 0, -1]), right=True),
        np.array([0.5, 0.0, -1, 2, np.nan]), kinds="f", grad=0,
    ),
    case(
        "np.digitize", lambda x, b: np.digitize(x, b),
        floats(2, 4), np.array([-1.0, 0.0, 1.0]), kinds="f", grad=0, batch=False,
    ),
    case(
        "np.digitize", lambda x, b: np.digitize(x, b, right=True),
        TIES, np.array([2.0, 1.0, 1.0, 0.0]), kinds="f", grad=0, batch=False,
    ),
    case("np.digitize", lambda x: np.digitize(x, [1.0]), floats(4), grad=0),
    # ------------------------------------------------------------------------------------ by conditions
    case("np.compress", lambda x: np.compress([True, False, True], x, axis=0), floats(4, 3), kinds="biufc"),
    case("np.compress", lambda x: np.compress(integers(12, high=2), x), floats(3, 4)),
    case("np.ndarray.compress", lambda x: x.compress([0, 1, 1], axis=-1), floats(4, 3)),
    case("np.extract", lambda x: np.extract(np.arange(12).reshape(3, 4) % 3 == 0, x), floats(3, 4)),
]
# fmt: on
