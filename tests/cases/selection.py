"""Elements taken, put, chosen and selected by place or condition; places in flattened arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cases import Case, case, floats, integers, mask, positive


def changing(name: str, change: Callable[..., Any], *args: Any, **options: Any) -> Case:
    """A function that changes its first argument in place: the array after it."""

    def call(x: Any, *rest: Any) -> Any:
        y = x.copy()
        change(y, *rest)
        return y

    return case(name, call, *args, **options)


def nan_in_place(x: Any) -> Any:
    np.nan_to_num(x[0], copy=False, nan=2.5)
    return np.where(np.isnan(x), 0, x)


M = floats(3, 4)
V = floats(5)
ROWS = integers(3, 2, high=3)

CASES = [
    case(
        "np.take",
        lambda x: (np.take(x, [0, 5, -1, 0]), np.take(x, [[1, -1]], axis=1), x.take(2, axis=0)),
        M,
        exact=True,
        kinds="biufc",
    ),
    case(
        "np.take",
        lambda x, i: (np.take(x, i, axis=0), np.take(x, i, axis=1, mode="wrap"), np.take(x, i - 2, mode="clip")),
        M,
        ROWS,
    ),
    case("np.take", lambda x, i: np.take(x, i, axis=-1, mode="clip"), M, integers(4, low=-9, high=9)),
    case("np.take", lambda x: np.take(x, [], axis=0), M),
    case(
        "np.take_along_axis",
        lambda x, i: (np.take_along_axis(x, i, 0), np.take_along_axis(x, i[:1, :1], axis=-1)),
        M,
        integers(2, 4, high=3),
        exact=True,
        kinds="biufc",
    ),
    case(
        "np.take_along_axis",
        lambda x: (np.take_along_axis(x, np.argsort(x, 1), 1), np.take_along_axis(x, np.array([1, 7]), None)),
        M,
    ),
    case("np.take_along_axis", lambda x, i: np.take_along_axis(x, i, axis=1), floats(1, 4), integers(3, 2)),
    changing(
        "np.put_along_axis",
        lambda y, i, v: np.put_along_axis(y, i, v, axis=1),
        M,
        np.array([[1], [0], [3]]),
        floats(3, 1),
    ),
    changing("np.put_along_axis", lambda y, v: np.put_along_axis(y, np.array([1, 5]), v, None), M, floats(2)),
    changing("np.put", lambda y, v: (np.put(y, [0, -1, 3, 3, 7], v), y.put(2, 4)), M, floats(2)),
    changing(
        "np.put",
        lambda y, i, v: (np.put(y, i, v, mode="wrap"), np.put(y, i[0] + 10, 1, mode="clip")),
        M,
        integers(3, low=-20, high=20),
        floats(3),
    ),
    changing("np.put", lambda y: np.put(y, [1, 2], []), M),
    changing("np.place", lambda y, v: np.place(y, y > 0, v), M, floats(3)),
    changing("np.place", lambda y, m: np.place(y, m, [7, 8]), M, mask(3, 4)),
    changing("np.putmask", lambda y, v: np.putmask(y, y > 0, v), M, floats(3)),
    changing("np.putmask", lambda y, m, v: np.putmask(y, m, v * 2), M, mask(3, 4), floats(3, 4, seed=1), kinds="f"),
    changing("np.copyto", lambda y, v: (np.copyto(y, v, where=y > 0), np.copyto(y[:1], 2)), M, floats(4)),
    changing(
        "np.copyto",
        lambda y, v: np.copyto(y, v[:, :1], casting="unsafe", where=[True, False, True, False]),
        M,
        floats(3, 1),
    ),
    changing("np.ndarray.fill", lambda y, v: (y[0].fill(v[0]), y[:, 1].fill(3)), M, floats(2)),
    changing(
        "np.ndarray.flat",
        lambda y, v: (
            y.flat.__setitem__(slice(0, 9, 2), v),
            y.flat.__setitem__([1, 3], 7),
            y.flat.__setitem__(-1, v[0]),
        ),
        M,
        floats(2),
    ),
    case(
        "np.ndarray.flat",
        lambda x: (x.flat[3], x.flat[1:9:3], x.T.flat[[0, 5]], x.flat.copy(), list(x.flat)[4], len(x.flat)),
        M,
    ),
    case(
        "np.choose",
        lambda x, y, i: (np.choose(i, [x, y, 0.5]), (x > 0).astype(int).choose([x, y[0], y])),
        M,
        floats(3, 4, seed=1),
        integers(3, 4, high=3),
        kinds="fc",
    ),
    case(
        "np.choose",
        lambda x, i: (np.choose(i, x, mode="wrap"), np.choose(i, x, mode="clip")),
        M,
        integers(4, low=-5, high=5),
    ),
    case("np.choose", lambda x, b: np.choose(b, [x, -x]), M, mask(3, 4), kinds="ifc"),
    case("np.select", lambda x, y: np.select([x > 1, x < -0.5], [x**2, y], 3.0), M, floats(4), kinds="f"),
    case(
        "np.select",
        lambda x: (np.select([x > 0, x > 1], [x, 2 * x]), np.select([x[0] > 0], [x], default=x[0])),
        M,
        kinds="iuf",
    ),
    case("np.select", lambda x: np.select([x > 0.5, x > 0], [np.sqrt(np.abs(x)), 1], default=-2), M, kinds="f"),
    case("np.piecewise", lambda x: np.piecewise(x, [x < 0, x >= 0], [lambda v: -v, lambda v: v**2]), M, kinds="f"),
    case(
        "np.piecewise",
        lambda x: np.piecewise(x, [x > 0.5, x < -0.5], [np.log, -1.0, lambda v: np.sin(v) + 2]),
        M,
        kinds="f",
    ),
    case(
        "np.piecewise",
        lambda x, k: np.piecewise(x, x > 0, [lambda v, a: np.sqrt(v) * a, lambda v, a: a], k),
        V,
        positive(),
        kinds="f",
    ),
    case("np.piecewise", lambda x: np.piecewise(x, [x > 0], [lambda v: np.where(v > 1, v, 2 * v)]), V, kinds="f"),
    case("np.where", lambda x, y: (np.where(x > 0, x, y), np.where(x[:, :1] > 0, 1.5, x)), M, floats(4), kinds="f"),
    case("np.where", lambda x: np.where(x > 0, np.log(np.where(x > 0, x, 1)), 0), M, kinds="f"),
    case("np.nan_to_num", lambda x: np.nan_to_num(np.where(x > 0, x, np.nan), nan=0.5), M, kinds="f"),
    case("np.nan_to_num", lambda x: nan_in_place(np.where(x > 0, x, np.nan)), M, kinds="f"),
    changing("np.ndarray.flat", lambda y, v: setattr(y, "flat", v), M, floats(3)),
    case(
        "np.unravel_index",
        lambda i: (np.unravel_index(i, (3, 4)), np.unravel_index(i, (2, 6), order="F")),
        integers(2, 3, high=12),
    ),
    case("np.unravel_index", lambda x: x[np.unravel_index(np.argmax(x), x.shape)], M),
    case(
        "np.ravel_multi_index",
        lambda i, j: np.ravel_multi_index((i, j), (3, 4)),
        integers(5, high=3),
        integers(5, high=4, seed=1),
    ),
    case(
        "np.ravel_multi_index",
        lambda i, j: np.ravel_multi_index((i, j), (3, 4), mode=("clip", "wrap"), order="F"),
        integers(5, low=-5, high=9),
        integers(5, low=-5, high=9, seed=1),
    ),
    case(
        "np.can_cast",
        lambda x: (np.can_cast(x, "f8"), np.can_cast(x, "i4", "unsafe"), np.can_cast(np.int8, x.dtype)),
        M,
        grad=0,
    ),
    case("np.min_scalar_type", lambda x: np.zeros(2, np.min_scalar_type(x)), M, grad=0, kinds="f"),
    case("np.common_type", lambda x: np.zeros(2, np.common_type(x, np.float32(1), np.arange(2))), M, grad=0, kinds="f"),
    case(
        "np.may_share_memory",
        lambda x: (np.may_share_memory(x, x[1:]), np.may_share_memory(x, x + 1), np.shares_memory(x, x.copy())),
        M,
        grad=0,
    ),
    case("np.ndarray.view", lambda i: (i.view("u8"), (i - 2).view("u8"), i.view()), integers(3, 4)),
]
