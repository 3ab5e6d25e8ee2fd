"""Index expressions of every kind, read and written; masks in reductions; ``x.at``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cases import Case, case, floats, mask, positive


def read(call: Callable[..., Any], *args: Any, **options: Any) -> Case:
    return case("np.ndarray.__getitem__", call, *args, **({"exact": True, "kinds": "biufc"} | options))


def write(change: Callable[..., Any], *args: Any, **options: Any) -> Case:
    """What an array is after statements that change it."""

    def call(x: Any, *rest: Any) -> Any:
        y = x.copy()
        change(y, *rest)
        return y

    return case("np.ndarray.__setitem__", call, *args, **options)


def masked(call: Callable[..., Any], *args: Any, **options: Any) -> Case:
    return case("np.ndarray.__getitem__", call, *args, **({"kinds": "f"} | options))


def at(call: Callable[..., Any], expect: Callable[..., Any], *args: Any, **options: Any) -> Case:
    """``x.at``, which NumPy has not, against statements that change a copy."""

    def expected(x: Any, *rest: Any) -> Any:
        y = x.copy()
        found = expect(y, *rest)
        return y if found is None else found

    return case("x.at", call, *args, expect=expected, **options)


M = floats(3, 4)
T = floats(2, 3, 4)
I3 = np.array([0, 2, -1])
KNOWN = np.array([True, False, True])


def assign(y: Any, index: Any, value: Any) -> None:
    y[index] = value


def several(y: Any, v: Any) -> None:
    y[0] = v
    y[:, 1:3] += v[:2]
    y[::-2, -1] *= 2
    y[..., None, 0, :] -= 1
    y[True] = y[True] * 1
    y[np.False_] = 5


def arrays(y: Any, v: Any) -> None:
    y[[0, 2, 0], [1, 1, 1]] = v[:3]
    y[[2, 1]] += v
    y[:, [3, 3]] = v[:2]
    y[np.array([[0], [1]]), [0, 2]] *= v[:2]
    y[[]] = 7
    y[KNOWN, 0] = v[:2]
    y[KNOWN] = 3 * y[KNOWN]


def traced_arrays(y: Any, v: Any, i: Any) -> None:
    y[i] = v
    y[i, -1] += 1
    y[i[0], i[1]] = v[0]
    y[i[:, None], [0, 1]] *= 2
    row = y[i[2]]
    row += v
    row[i[0]] = 4


def masks(y: Any, v: Any, m: Any) -> None:
    y[m] = v[0]
    y[y > 1] *= 2
    y[m[:, 0]] += v
    y[m[:, 0], 1] = v[1]
    y[:, m[0]] -= 0.5
    y[m[:, 1], 1:3] = v[:2]
    y[y < 0] = np.sqrt(-y[y < 0])
    y[m] = (y * 2)[m] + 1
    y[m[1, 1]] = y[m[1, 1]] + 3


CASES = [
    read(
        lambda x: (x[1], x[-1, 2], x[:, ::-2], x[..., 0], x[None, 1:, ..., None], x[()], x[...], x[5:], x[1, ..., 2]), M
    ),
    read(
        lambda x: (
            x[np.int8(1)],
            x[np.array(1)],
            x[np.array(1), 0],
            x[np.s_[1:, 0]],
            x[slice(np.int64(1), None)],
            x[tuple([0, 1])],
        ),
        M,
    ),
    read(
        lambda x: (
            x[[0, -1]],
            x[[[0, 1]], [2, 3]],
            x[:, [1, 1]],
            x[[0, 2], 1],
            x[(0, 1),],
            x[range(2)],
            x[[]],
            x[np.array([], int)],
        ),
        M,
    ),
    read(
        lambda x: (
            x[0, :, [1, 2]],
            x[[0], ..., [1]],
            x[:, [0, 1], [1, 2]],
            x[[1], :, 0],
            x[:, 0, [1, 2]],
            x[[0, 1], None, [0, 1]],
        ),
        T,
    ),
    read(
        lambda x: (
            x[True],
            x[False],
            x[np.True_, 1],
            x[:, True],
            x[True, [0, 1]],
            x[[True, False, True]],
            x[None, np.array(False)],
        ),
        M,
    ),
    read(
        lambda x: (
            x[KNOWN],
            x[KNOWN, 1],
            x[KNOWN, [0, 1]],
            x[np.eye(3, 4) > 0],
            x[:, np.arange(4) > 1],
            x[np.zeros((3, 4), bool)],
        ),
        M,
    ),
    read(lambda x: (x[:, KNOWN], x[:, KNOWN, 1], x[0, :, np.arange(4) > 1], x[np.array([True, False]), :, [1]]), T),
    read(
        lambda x, i: (
            x[i],
            x[:, i],
            x[i, i],
            x[i[:, None], i],
            x[i, None],
            x[i[0]],
            x[1, i[1]],
            x[i[0], i[1]],
            x[[i[0], 1]],
        ),
        M,
        I3,
    ),
    read(
        lambda x, i: (x[i[0], :, [0, 1]], x[0, i], x[:, i[1], i], x[i[:2], ..., i[1]], x[i[0] - 1, ..., i[1] - 1]),
        T,
        np.array([0, 1, 2]),
    ),
    read(lambda x: x[np.arange(0, 200, 3) % 5], floats(5)),
    read(lambda x: (x[0:0], x[..., [0, 1]], x[[0, 1], :0]), floats(2, 3)),
    write(several, M, floats(4)),
    write(arrays, M, floats(4)),
    write(traced_arrays, M, floats(4), I3),
    write(masks, M, positive(4), mask(3, 4), kinds="f"),
    write(
        lambda y, v: (
            assign(y, (0, slice(None), [1, 2]), v.T),
            assign(y, ([0], ..., [1]), 2),
            assign(y, (slice(None), KNOWN, 1), v[:2, 0]),
        ),
        T,
        floats(3, 2),
    ),
    write(
        lambda y, v: (
            assign(y[1:].T[1], slice(None, 2), v),
            assign(y.reshape(3, 1, 4)[:, 0], 1, v[0]),
            assign(y[1:][::-1], 0, 9),
        ),
        M,
        floats(2),
    ),
    # masks that are traced, in reductions and elementwise
    masked(
        lambda x: (
            x[x > 0].sum(),
            x[x > 0].mean(),
            np.max(x[x > 0]),
            x[x > 0].min(),
            x[x < 0].prod(),
            np.std(x[x > 0]),
        ),
        M,
    ),
    masked(
        lambda x: (
            np.log(x[x > 0]).sum(),
            np.sum(x[x > 0] ** 2),
            (x[x > 0] * 2 + 1 / x[x > 0]).mean(),
            abs(x[x < 0]).max(),
        ),
        M,
    ),
    masked(
        lambda x, y: (((x[x > 0] - y[x > 0]) ** 2).mean(), x[x > 0] @ y[x > 0], np.dot(x[x > 0], y[x > 0])),
        M,
        floats(3, 4, seed=1),
    ),
    masked(
        lambda x, m, a: ((a * np.log(x[m] * a)).sum(), (x[m] / a).var(ddof=1)), positive(3, 4), mask(3, 4), positive()
    ),
    masked(lambda x, m: (x[m].sum(0), x[m].mean(axis=0), x[m].sum(1).sum(), x[m, 1].max()), M, KNOWN),
    masked(
        lambda x, m: (x[:, m].sum(), x[:, m].max(axis=1), x[0, :, m[:4]].sum(0), (x[:, m] * x[:, m]).mean(1)),
        floats(2, 4, 4),
        np.array([True, False, True, True]),
    ),
    masked(
        lambda x: (
            (x[x > 0] > 1).any(),
            (x[x > 0] > 0).all(),
            np.count_nonzero(x[x > 0] > 1),
            x[x > 0].size,
            np.size(x[x > 1]),
        ),
        M,
        grad=0,
    ),
    masked(
        lambda x: (
            np.linalg.norm(x[x > 0]),
            np.linalg.norm(x[x > 0], 1),
            np.average(x[x > 0], weights=x[x > 0]),
            np.ptp(x[x > 0]),
        ),
        M,
    ),
    masked(
        lambda x: (np.where(x[x > 0] > 1, x[x > 0], 0.5).sum(), x[x > 0].clip(0.5, 1).sum(), x[x > 0].round(1).sum()),
        M,
        grad=1,
    ),
    masked(lambda x, m: ((x[m] + np.arange(4.0)).sum(0), x[m].astype("f4").sum()), M, KNOWN, grad=0),
    masked(lambda x: x[x > 9].sum(), M),
    masked(
        lambda x: (x[np.array(True) & (x[0, 0] < 9)].sum(), np.add.reduce(x[x > 0]), np.maximum.reduce(x[x > 0])), M
    ),
    # x.at
    at(lambda x, v: x.at[1].set(v), lambda y, v: assign(y, 1, v), M, floats(4), kinds="iufc"),
    at(lambda x, v: x.at[[0, 2, 0]].add(v), lambda y, v: np.add.at(y, [0, 2, 0], v), M, floats(4), kinds="iuf"),
    at(
        lambda x, i, v: x.at[i, 1].subtract(v),
        lambda y, i, v: np.subtract.at(y, (i, 1), v),
        M,
        I3,
        floats(3),
        kinds="if",
    ),
    at(
        lambda x, i, v: x.at[i].multiply(v),
        lambda y, i, v: np.multiply.at(y, i, v),
        M,
        I3,
        floats(3, 4, seed=2),
        kinds="if",
    ),
    at(lambda x, i, v: x.at[i].divide(v), lambda y, i, v: np.divide.at(y, i, v), M, I3, positive(3, 1), kinds="f"),
    at(
        lambda x, v: x.at[:, 1].power(v),
        lambda y, v: assign(y, (slice(None), 1), y[:, 1] ** v),
        positive(3, 4),
        positive(3),
        kinds="f",
        batch=False,
    ),
    at(
        lambda x, i, v: (x.at[i].min(v), x.at[i].max(v)),
        lambda y, i, v: (
            np.minimum(y, np.where([[0], [1], [0]], y, v)),
            np.maximum(y, np.where([[0], [1], [0]], y, v)),
        ),
        M,
        np.array([0, 2]),
        floats(),
    ),
    at(lambda x: x.at[1:].apply(np.exp), lambda y: assign(y, slice(1, None), np.exp(y[1:])), M, kinds="f"),
    at(
        lambda x: (x.at[x > 0].set(0), x.at[x > 0].add(1), x.at[x > 0].mul(2), x.at[x > 0].apply(np.log)),
        lambda y: (
            np.where(y > 0, 0, y),
            np.where(y > 0, y + 1, y),
            np.where(y > 0, y * 2, y),
            np.where(y > 0, np.log(np.abs(y)), y),
        ),
        M,
        kinds="f",
    ),
    at(
        lambda x, i: x.at[i].get(mode="fill", fill_value=7),
        lambda y, i: np.array([y[0], y[2], 7 + 0 * y[0]]),
        M,
        np.array([0, -1, 9]),
        kinds="iuf",
    ),
    at(
        lambda x, i: (x.at[i].get(mode="clip"), x.at[i].set(1, mode="drop"), x.at[i, 0].add(x[:, 1], mode="drop")),
        lambda y, i: (
            y[[0, 2, 2]],
            np.array([0 * y[0] + 1, y[1], 0 * y[0] + 1]),
            y + np.array([[1, 0, 0, 0]], y.dtype) * np.array([y[0, 1], 0, y[1, 1]], y.dtype)[:, None],
        ),
        M,
        np.array([0, -1, 9]),
        kinds="f",
    ),
    case("np.ufunc.at", lambda x, v: [ufunc_at(u, x, v) for u in (np.add, np.maximum, np.multiply)], M, floats(3)),
    case("np.ufunc.at", lambda x, v: [ufunc_at(u, x, v) for u in (np.divide, np.hypot)], M, positive(3), kinds="f"),
    case("np.ufunc.at", lambda x: unary_at(np.sin, x), M, kinds="f"),
]


def ufunc_at(ufunc: Any, x: Any, v: Any) -> Any:
    y = x.copy()
    ufunc.at(y, ([0, 1, 0], [2, 2, 2]), v)
    ufunc.at(y, (slice(1, None), [0, 0]), v[:2])
    ufunc.at(y, 2, v[0])
    return y


def unary_at(ufunc: Any, x: Any) -> Any:
    y = x.copy()
    ufunc.at(y, [0, 2, 0])
    ufunc.at(y, (slice(None), 1))
    return y
