"""Sets with room for a fixed number of elements, and places of elements."""

from __future__ import annotations

import numpy as np

import graphc.numpy as gnp
from cases import case, floats

TIES = np.array([[2.0, 1.0, 2.0, 1.0], [3.0, 3.0, 3.0, 0.0]])
NAN = np.array([2.0, np.nan, -1.0, 2.0, np.nan, 0.0])
NONE = np.zeros(0)
ROWS = np.array([[1.0, 2.0, 1.0], [0.0, 2.0, 0.0], [1.0, 2.0, 1.0], [1.0, 0.0, 3.0]])
MANY = np.arange(-60, 60) / 30

# fmt: off
CASES = [
    case("np.isin", lambda x, t: np.isin(x, t), TIES, np.array([1.0, 3.0, 7.0]), grad=0, kinds="biufc"),
    case("np.isin", lambda x: np.isin(x, [2, 0], invert=True), TIES, grad=0),
    case("np.isin", lambda x: np.isin(x, MANY), np.linspace(-3, 3, 37), grad=0),
    case("np.isin", lambda x, t: np.isin(x, t, assume_unique=True), NAN[1:4], NAN, kinds="f", grad=0),
    case("np.isin", lambda x, t: np.isin(x, t), NAN, np.append(MANY, np.nan), kinds="f", grad=0),
    case("np.isin", lambda x: np.isin(x, []), floats(2, 3), grad=0),
    case("np.isin", lambda x: np.isin(x, floats(2, 2)), np.ones(()), grad=0),
    # ------------------------------------------------------------------------------------ places
    case("graphc.numpy.nonzero", lambda x: gnp.nonzero(x, size=5), TIES - 1, grad=0),
    case("graphc.numpy.nonzero", lambda x: gnp.nonzero(x > 1, size=9, fill_value=(7, -1)), TIES, grad=0),
    case("graphc.numpy.flatnonzero", lambda x: gnp.flatnonzero(x > 1, size=7, fill_value=8), TIES, grad=0, kinds="biufc"),
    case("graphc.numpy.flatnonzero", lambda x: gnp.flatnonzero(x, size=2), NONE, grad=0, batch=False),
    case("graphc.numpy.argwhere", lambda x: gnp.argwhere(x > 1, size=6, fill_value=-1), TIES, grad=0),
    case("graphc.numpy.argwhere", lambda x: gnp.argwhere(x, size=2), np.ones(()), grad=0),
    # ------------------------------------------------------------------------------------ unique
    case("graphc.numpy.unique", lambda x: gnp.unique(x, size=12, fill_value=0), floats(3, 4), exact=True),
    case("graphc.numpy.unique", lambda x: gnp.unique(x, size=3), floats(3, 4)),
    case("graphc.numpy.unique", lambda x: gnp.unique(x, True, True, True, size=6), TIES, grad=0, kinds="biufc"),
    case("graphc.numpy.unique", lambda x: gnp.unique(x, True, True, True, size=2), TIES, grad=0),
    case("graphc.numpy.unique", lambda x: gnp.unique(x, return_counts=True, size=6), NAN, kinds="f", grad=0),
    case(
        "graphc.numpy.unique", lambda x: gnp.unique(x, True, True, True, size=6, equal_nan=False),
        NAN, kinds="f", grad=0,
    ),
    case("graphc.numpy.unique", lambda x: gnp.unique(x, True, True, True, 0, size=4, fill_value=9), ROWS, grad=0),
    case("graphc.numpy.unique", lambda x: gnp.unique(x, True, True, True, axis=1, size=3), ROWS, grad=0),
    case("graphc.numpy.unique", lambda x: gnp.unique(x, True, True, True, size=2), NONE, grad=0, batch=False),
    case("graphc.numpy.unique", lambda x: gnp.unique(x, size=0), TIES, grad=0),
    case("graphc.numpy.unique_all", lambda x: gnp.unique_all(x, size=7), NAN, kinds="f", grad=0),
    case("graphc.numpy.unique_counts", lambda x: gnp.unique_counts(x, size=5), TIES, grad=0),
    case("graphc.numpy.unique_inverse", lambda x: gnp.unique_inverse(x, size=5), TIES, grad=0),
    case(
        "graphc.numpy.unique_values", lambda x: gnp.unique_values(x, size=5, fill_value=-1),
        TIES, kinds="if", grad=0,
    ),
    # ------------------------------------------------------------------------------------ two sets
    case("graphc.numpy.union1d", lambda x, y: gnp.union1d(x, y, size=7), TIES, np.array([5.0, 1.0, -1.0]), grad=0),
    case(
        "graphc.numpy.union1d", lambda x, y: gnp.union1d(x, y, size=9, fill_value=0),
        floats(2, 2), floats(3, seed=1),
    ),
    case("graphc.numpy.union1d", lambda x, y: gnp.union1d(x, y, size=9), NAN, NAN[1:4], kinds="f", grad=0),
    case(
        "graphc.numpy.intersect1d", lambda x, y: gnp.intersect1d(x, y, size=4),
        TIES, np.array([3.0, 1.0, 1.0, 9.0]), grad=0,
    ),
    case(
        "graphc.numpy.intersect1d", lambda x, y: gnp.intersect1d(x, y, return_indices=True, size=4),
        TIES, np.array([3.0, 1.0, 1.0, 9.0]), grad=0,
    ),
    case(
        "graphc.numpy.intersect1d", lambda x, y: gnp.intersect1d(x, y, size=3),
        NAN, NAN[::-1].copy(), kinds="f", grad=0,
    ),
    case("graphc.numpy.intersect1d", lambda x, y: gnp.intersect1d(x, y, size=2), NONE, NONE, grad=0, batch=False),
    case("graphc.numpy.setdiff1d", lambda x, y: gnp.setdiff1d(x, y, size=4), TIES, np.array([3.0, 1.0, 9.0]), grad=0),
    case("graphc.numpy.setdiff1d", lambda x, y: gnp.setdiff1d(x, y, True, size=9), TIES, np.array([3.0, 9.0]), grad=0),
    case("graphc.numpy.setdiff1d", lambda x, y: gnp.setdiff1d(x, y, size=6), NAN, NAN[1:3], kinds="f", grad=0),
    case("graphc.numpy.setxor1d", lambda x, y: gnp.setxor1d(x, y, size=4), TIES, np.array([3.0, 1.0, 9.0]), grad=0),
    case("graphc.numpy.setxor1d", lambda x, y: gnp.setxor1d(x, y, size=8), NAN, NAN[1:3], kinds="f", grad=0),
    case(
        "graphc.numpy.setxor1d", lambda x: gnp.setxor1d(x, np.array([3.0, 1.0, 5.0]), size=8),
        TIES, kinds="if", grad=0,
    ),
]
# fmt: on
