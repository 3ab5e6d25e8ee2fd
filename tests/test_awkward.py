"""Derivatives at the points where textbooks have none or two: what graphc gives there, at orders 1 and 2, on both backends.

Each entry of a table is a function, a point, its gradient (of the sum of the results, by every operand) and the gradient of the
sum of all entries of that gradient; None leaves the second order out. Reverse mode, forward mode, and the three ways to the
second order have to agree with it: a convention that holds in one mode only is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import scipy.special

import graphc
from graphc.scipy import special

INF, NAN = np.inf, np.nan
Point = tuple[str, Callable[..., Any], tuple[Any, ...], tuple[Any, ...], tuple[Any, ...] | None]


def floats(args: Sequence[Any]) -> list[np.ndarray]:
    return [np.asarray(a, np.float64) for a in args]


def total_of(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *xs: np.sum(f(*xs))


def every(count: int) -> tuple[int, ...]:
    return tuple(range(count))


def slope_sum(f: Callable[..., Any], count: int) -> Callable[..., Any]:
    """The sum of all entries of the gradient of ``f``, by reverse mode."""
    gradient = graphc.grad(total_of(f), argnums=every(count))
    return lambda *xs: sum(np.sum(g) for g in gradient(*xs))


def reverse(f: Callable[..., Any], count: int, order: int) -> Callable[..., Any]:
    """The gradient of ``f``, or of the sum of the entries of its gradient, reverse over reverse."""
    return graphc.grad(total_of(f) if order == 1 else slope_sum(f, count), argnums=every(count))


def forward(f: Callable[..., Any], args: list[np.ndarray]) -> list[np.ndarray]:
    """The gradient by forward mode, one place after the other."""
    found = [np.zeros_like(a) for a in args]
    for k, a in enumerate(args):
        for place in np.ndindex(a.shape):
            tangent = np.zeros_like(a)
            tangent[place] = 1
            # The other operands are held fast: a tangent of zeros beside an infinite slope would be 0·∞.
            found[k][place] = graphc.jvp(one_operand(f, args, k), (a,), (tangent,))[1]
    return found


def one_operand(f: Callable[..., Any], args: list[np.ndarray], k: int) -> Callable[..., Any]:
    """``f`` of operand ``k`` alone; the others are constants of the trace."""

    def alone(x: Any) -> Any:
        xs = [x if j == k else graphc.numpy.array(a) for j, a in enumerate(args)]
        return np.sum(f(*xs))

    return alone


def forward_over_reverse(f: Callable[..., Any], args: list[np.ndarray]) -> Any:
    gradient = graphc.grad(total_of(f), argnums=every(len(args)))
    return graphc.jvp(gradient, tuple(args), tuple(np.ones_like(a) for a in args))[1]


def reverse_over_forward(f: Callable[..., Any], args: list[np.ndarray]) -> Any:
    def slope(*xs: Any) -> Any:
        return graphc.jvp(total_of(f), xs, tuple(np.ones(x.shape) for x in xs))[1]

    return graphc.grad(slope, argnums=every(len(args)))(*args)


def same(have: Any, want: Any, what: str) -> None:
    for h, w in zip(have, want, strict=True):
        h, w = np.asarray(h), np.broadcast_to(np.asarray(w, np.float64), np.shape(h))
        np.testing.assert_allclose(h, w, rtol=1e-9, atol=1e-12, err_msg=what)


def check(f: Callable[..., Any], args: Any, first: Any, second: Any) -> None:
    args = floats(args)
    with np.errstate(all="ignore"):
        same(reverse(f, len(args), 1)(*args), first, "reverse mode")
        same(forward(f, args), first, "forward mode")
        if second is not None:
            same(reverse(f, len(args), 2)(*args), second, "reverse over reverse")
            same(forward_over_reverse(f, args), second, "forward over reverse")
            same(reverse_over_forward(f, args), second, "reverse over forward")


def check_compiled(points: Sequence[Point]) -> None:
    """All points in one executable."""
    tasks = [(f, floats(args), order, want) for _, f, args, *orders in points for order, want in enumerate(orders, 1) if want]
    counts = [len(args) for _, args, _, _ in tasks]

    def everything(*xs: Any) -> Any:
        found, at = [], 0
        for (f, _, order, _), count in zip(tasks, counts, strict=True):
            found.append(reverse(f, count, order)(*xs[at : at + count]))
            at += count
        return found

    with np.errstate(all="ignore"):
        found = graphc.compile(everything)(*[a for _, args, _, _ in tasks for a in args])
    names = [name for name, *_, second in points for _ in range(2 if second else 1)]
    for have, (_, _, order, want), name in zip(found, tasks, names, strict=True):
        same(have, want, f"{name}, order {order}")


def ids(points: Sequence[Point]) -> list[Any]:
    return [pytest.param(*rest, id=name) for name, *rest in points]


# ------------------------------------------------------------------------------------------------ where

#: ``where`` takes derivatives from the branch that it takes values from: what the other one is there, infinite, NaN or without
#: a derivative, does not matter. No second ``where`` inside is needed, unless an op that mixes elements at given indices or by
#: a contraction (``x[i]``, ``@``) lies between the ``where`` and the infinite slope. JAX and autograd give NaN in these cases.


def unit(v: Any) -> Any:
    n = np.linalg.norm(v, axis=1, keepdims=True)
    return np.where(n > 0, v / n, 0)


def assigned(x: Any) -> Any:
    y = np.sqrt(x)
    y[x <= 0] = 0
    return y


def stored(x: Any) -> Any:
    y = np.zeros_like(x)
    y[x > 0] = np.log(x)[x > 0]
    return y


WHERE: list[Point] = [
    ("sqrt", lambda x: np.where(x > 0, np.sqrt(x), 0), ([0, -1, 4],), ([0, 0, 0.25],), ([0, 0, -1 / 32],)),
    ("log", lambda x: np.where(x > 0, np.log(x), 0), ([0, -1, 4],), ([0, 0, 0.25],), ([0, 0, -1 / 16],)),
    ("other branch", lambda x: np.where(x <= 0, 0, np.log(x)), ([0, -1, 4],), ([0, 0, 0.25],), ([0, 0, -1 / 16],)),
    ("scalar branches", lambda x: np.where(x > 0, 1.0, -1) * x, ([0, 2],), ([-1, 1],), ([0, 0],)),
    ("reciprocal", lambda x: np.where(x != 0, 1 / x, 0), ([0, 2],), ([0, -0.25],), ([0, 0.25],)),
    ("x / x", lambda x: np.where(x != 0, x / x, 1), ([0, 2],), ([0, 0],), ([0, 0],)),
    ("division", lambda x, y: np.where(y != 0, x / y, x), ([3, 4], [0, 2]), ([1, 0.5], [0, -1]), ([0, -0.25], [0, 0.75])),
    ("half power", lambda x: np.where(x > 0, x**0.5, 0), ([0, 4],), ([0, 0.25],), ([0, -1 / 32],)),
    ("negative power", lambda x: np.where(x > 0, x**-2.0, 0), ([0, 1],), ([0, -2],), ([0, 6],)),
    ("arccos", lambda x: np.where(np.abs(x) < 1, np.arccos(x), 0), ([1, 0],), ([0, -1],), ([0, 0],)),
    ("overflow", lambda x: np.where(x < 100, np.exp(x), x), ([1000, 0],), ([1, 1],), ([0, 1],)),
    ("softplus", lambda x: np.where(x > 30, x, np.log1p(np.exp(x))), ([1000, 0],), ([1, 0.5],), ([0, 0.25],)),
    ("chain", lambda x: np.where(x > 0, np.log(np.sqrt(x) * 2), 0), ([0, 4],), ([0, 1 / 8],), ([0, -1 / 32],)),
    ("sin 1/x", lambda x: np.where(x == 0, 0, x * np.sin(1 / x)), ([0],), ([0],), ([0],)),
    ("NaN", lambda x: np.where(np.isnan(x), 0, x * x), ([NAN, 3],), ([0, 6],), ([0, 2],)),
    ("nested", lambda x: np.where(x > 1, np.where(x > 2, np.sqrt(x - 2), np.sqrt(x - 1)), 0), ([0, 1, 2, 3],),
     ([0, 0, 0.5, 0.5],), ([0, 0, -0.25, -0.25],)),
    ("two wheres", lambda x: np.where(x > 0, np.log(x), 0) + np.where(x > 1, np.log(x), 0), ([0, 0.5, 2],), ([0, 2, 1],),
     ([0, -4, -0.5],)),
    ("three wheres", lambda x: (lambda r: np.where(x > 0, r, 0) + np.where(x > 2, r, 1) + np.where(x < 1, 0, 1 / r))(np.sqrt(x)),
     ([0, 4],), ([0, 0.5 - 1 / 16],), ([0, -1 / 16 + 3 / 128],)),
    ("sum", lambda x: np.where(np.all(x > 0), np.sum(np.log(x)), 0.0), ([0, 4],), ([0, 0],), ([0, 0],)),
    ("mean", lambda x: np.where(x.sum() > 0, np.mean(np.sqrt(x)), 0), ([0, 0],), ([0, 0],), ([0, 0],)),
    ("slice", lambda x: np.where(x[1:] > 0, np.log(x)[1:], 0), ([0, 0, 4],), ([0, 0, 0.25],), ([0, 0, -1 / 16],)),
    ("reversed", lambda x: np.where(x[::-1] > 0, np.log(x)[::-1], 0), ([0, 4],), ([0, 0.25],), ([0, -1 / 16],)),
    ("concatenated", lambda x: np.where([True, False], np.concatenate([x, np.log(x)]), 0), ([0],), ([1],), ([0],)),
    ("stacked", lambda x: np.where(x > 0, np.stack([np.log(x), x]), 0), ([0, 4],), ([0, 1.25],), ([0, -1 / 16],)),
    ("padded", lambda x: np.where(np.pad(x, 1) > 0, np.pad(np.log(x), 1), 0), ([0, 4],), ([0, 0.25],), ([0, -1 / 16],)),
    ("transposed", lambda x: np.where(x.T > 0, np.log(x).T, 0), ([[0, 4]],), ([[0, 0.25]],), ([[0, -1 / 16]],)),
    ("reshaped", lambda x: np.where(x.ravel() > 0, np.log(x).ravel(), 0), ([[0, 4]],), ([[0, 0.25]],), ([[0, -1 / 16]],)),
    ("row of a sum", lambda x: np.where(x.sum(1) > 0, np.log(x).sum(1), 0), ([[0, 0], [1, 2]],), ([[0, 0], [1, 0.5]],),
     ([[0, 0], [-1, -0.25]],)),
    ("unit vector", unit, ([[0, 0], [3, 4]],), ([[0, 0], [0.032, -0.024]],), None),
    ("select", lambda x: np.select([x > 0, x < 0], [np.log(x), np.log(-x)], 0), ([0, 1, -1],), ([0, 1, -1],), ([0, -1, -1],)),
    ("piecewise", lambda x: np.piecewise(x, [x > 0], [np.sqrt, 0]), ([0, 4],), ([0, 0.25],), ([0, -1 / 32],)),
    ("where=", lambda x: np.divide(1, x, where=x != 0, out=np.zeros_like(x)), ([0, 2],), ([0, -0.25],), ([0, 0.25],)),
    ("sum where=", lambda x: np.sum(np.log(x), where=x > 0), ([0, 4],), ([0, 0.25],), ([0, -1 / 16],)),
    ("mean where=", lambda x: np.mean(np.log(x), where=x > 0), ([0, 4],), ([0, 0.25],), ([0, -1 / 16],)),
    ("nansum", lambda x: np.nansum(np.log(x)), ([-1, 4],), ([0, 0.25],), ([0, -1 / 16],)),
    ("nan_to_num", lambda x: np.nan_to_num(np.log(x)), ([-1, 4],), ([0, 0.25],), ([0, -1 / 16],)),
    ("assigned", assigned, ([0, 4, -1],), ([0, 0.25, 0],), ([0, -1 / 32, 0],)),
    ("stored", stored, ([0, 4, -1],), ([0, 0.25, 0],), ([0, -1 / 16, 0],)),
]  # fmt: skip


@pytest.mark.parametrize(("f", "args", "first", "second"), ids(WHERE))
def test_where_takes_one_branch(f: Any, args: Any, first: Any, second: Any) -> None:
    check(f, args, first, second)


def test_where_compiled() -> None:
    check_compiled(WHERE)


def test_an_infinite_slope_that_is_taken_stays() -> None:
    """Nothing is hidden: where the branch is taken, its slope counts."""
    for f, slope in ((np.sqrt, INF), (np.log, INF), (lambda x: 1 / x, -INF), (lambda x: x**0.5, INF)):
        assert graphc.grad(lambda x, f=f: np.where(x >= 0, f(x), 0))(0.0) == slope


# ------------------------------------------------------------------------------------------------ products and powers

#: A product of zeros has the product of the others as its slope. x**0 is 1 everywhere, 0**y is flat for y >= 0 (it has no slope
#: by y below 0), and by a base of 0 the slope is that of the power rule: infinite for exponents between 0 and 1.
POWERS: list[Point] = [
    ("one zero", np.prod, ([0, 2, 3],), ([6, 0, 0],), ([5, 3, 2],)),
    ("two zeros", np.prod, ([0, 2, 0],), ([0, 0, 0],), ([2, 0, 2],)),
    ("three zeros", np.prod, ([0, 0, 0],), ([0, 0, 0],), ([0, 0, 0],)),
    ("along axis 1", lambda x: np.prod(x, axis=1), ([[0, 2, 0], [1, 0, 3]],), ([[0, 0, 0], [0, 3, 0]],),
     ([[2, 0, 2], [3, 4, 1]],)),
    ("along both", lambda x: np.prod(x, axis=(0, 1)), ([[0, 2], [1, 3]],), ([[6, 0], [0, 0]],), ([[11, 3], [6, 2]],)),
    ("prod where=", lambda x: np.prod(x, where=x > 0), ([0, 4, 3],), ([0, 3, 4],), ([0, 1, 1],)),
    ("cumprod", np.cumprod, ([0, 2, 0],), ([3, 0, 0],), ([3, 1, 2],)),
    ("x * y", np.multiply, ([0], [0]), ([0], [0]), ([1], [1])),
    ("x**0", lambda x: x**0, ([0, -1, 2],), ([0, 0, 0],), ([0, 0, 0],)),
    ("x**0.0", lambda x: x**0.0, ([0, -1, 2],), ([0, 0, 0],), ([0, 0, 0],)),
    ("x**0.5", lambda x: x**0.5, ([0, 4],), ([INF, 0.25],), ([-INF, -1 / 32],)),
    ("x**1", lambda x: x**1, ([0, -1],), ([1, 1],), ([0, 0],)),
    ("x**1.5", lambda x: x**1.5, ([0, 4],), ([0, 3],), ([INF, 0.375],)),
    ("x**2", lambda x: x**2, ([0, -1],), ([0, -2],), ([2, 2],)),
    ("x**2.0", lambda x: x**2.0, ([0, -1],), ([0, -2],), ([2, 2],)),
    ("x**3", lambda x: x**3, ([0, -1],), ([0, 3],), ([0, -6],)),
    ("x**3.0", lambda x: x**3.0, ([0, -1],), ([0, 3],), ([0, -6],)),
    ("x**-1", lambda x: x**-1, ([2, -2],), ([-0.25, -0.25],), ([0.25, -0.25],)),
    ("traced 0**0", np.power, ([0], [0]), ([0], [0]), ([0], [0])),
    ("traced 0**0.5", np.power, ([0], [0.5]), ([INF], [0]), None),
    ("traced 0**1", np.power, ([0], [1]), ([1], [0]), None),
    ("traced 0**1.5", np.power, ([0], [1.5]), ([0], [0]), None),
    ("traced 0**2", np.power, ([0], [2]), ([0], [0]), ([2], [0])),
    ("traced 0**3", np.power, ([0], [3]), ([0], [0]), ([0], [0])),
    ("traced 2**0", np.power, ([2], [0]), ([0], [np.log(2)]), ([0.5], [0.5 + np.log(2) ** 2])),
    ("0**y", lambda y: 0.0**y, ([0, 1, 2],), ([0, 0, 0],), ([0, 0, 0],)),
    ("negative base, array of exponents", lambda x: x ** np.array([-1.0, 2, 3, 0]), ([-2, -2, -2, -2],),
     ([-0.25, -4, 12, 0],), ([-0.25, 2, -12, 0],)),
    ("negative base by itself", lambda x: x ** np.float64(3), ([-2],), ([12],), ([-12],)),
    ("float_power", lambda x: np.float_power(x, 2), ([0],), ([0],), ([2],)),
    ("square", np.square, ([0],), ([0],), ([2],)),
    ("reciprocal at 0 is infinite", np.reciprocal, ([0],), ([-INF],), ([INF],)),
    ("log at 0 is infinite", np.log, ([0],), ([INF],), ([-INF],)),
    ("sqrt at 0 is infinite", np.sqrt, ([0],), ([INF],), ([-INF],)),
    ("x / x at 0 is NaN, as its value is", lambda x: x / x, ([0],), ([NAN],), None),
    ("sinc at 0", np.sinc, ([0],), ([0],), ([-np.pi**2 / 3],)),
    ("xlogy: x = 0", scipy.special.xlogy, ([0], [2]), ([np.log(2)], [0]), ([0.5], [0.5])),
    ("xlogy: by y 0, by x log y where both are 0", scipy.special.xlogy, ([0], [0]), ([-INF], [0]), None),
    ("xlog1py: x = 0", scipy.special.xlog1py, ([0], [1]), ([np.log(2)], [0]), ([0.5], [0.5])),
]  # fmt: skip


@pytest.mark.parametrize(("f", "args", "first", "second"), ids(POWERS))
def test_products_and_powers(f: Any, args: Any, first: Any, second: Any) -> None:
    check(f, args, first, second)


def test_products_and_powers_compiled() -> None:
    check_compiled(POWERS)


@pytest.mark.parametrize(
    ("f", "args"),
    [(scipy.special.gammainc, (1.0, 2.0)), (scipy.special.gammaincc, (1.0, 2.0)), (scipy.special.betainc, (1.0, 2.0, 0.3)),
     (scipy.special.betainc, (2.0, 1.0, 0.3)), (scipy.special.xlogy, (0.0, 2.0)), (scipy.special.xlog1py, (0.0, 2.0))],
)  # fmt: skip
def test_a_factor_of_zero_has_a_slope(f: Any, args: Any) -> None:
    """Where a factor of the first derivative vanishes (shape 1: the exponential distribution) the second one is still there."""
    graphc.check_grads(lambda *xs: f(*xs), list(args), order=2)


# ------------------------------------------------------------------------------------------------ ties and corners

#: Extremes share a tie equally. Sorting follows the stable permutation, so does the median of it. abs and sign are flat at 0,
#: and so is every norm, also those of matrices; a deviation of equal numbers is 0. A bound of clip that is met shares with the
#: operand.
CORNERS: list[Point] = [
    ("abs", np.abs, ([0, -1],), ([0, -1],), ([0, 0],)),
    ("sign", np.sign, ([0, 2],), ([0, 0],), ([0, 0],)),
    ("copysign", np.copysign, ([-2], [1]), ([-1], [0]), ([0], [0])),
    ("hypot", np.hypot, ([0], [0]), ([0], [0]), ([0], [0])),
    ("arctan2", np.arctan2, ([0], [0]), ([0], [0]), ([0], [0])),
    ("max", np.max, ([1, 3, 3],), ([0, 0.5, 0.5],), ([0, 0, 0],)),
    ("min", lambda x: np.min(x, axis=1), ([[1, 1, 2], [0, 0, 0]],), ([[0.5, 0.5, 0], [1 / 3] * 3],), ([[0] * 3] * 2,)),
    ("max over two axes", lambda x: x.max(axis=(0, 1)), ([[1, 3], [3, 3]],), ([[0, 1 / 3], [1 / 3, 1 / 3]],), ([[0, 0]] * 2,)),
    ("max of NaN has no winner: NaN", np.max, ([NAN, 1],), ([NAN, NAN],), None),
    ("nanmax passes NaN by", np.nanmax, ([NAN, 1, 1],), ([0, 0.5, 0.5],), ([0, 0, 0],)),
    ("maximum", np.maximum, ([1, 2], [1, 3]), ([0.5, 0], [0.5, 1]), ([0, 0], [0, 0])),
    ("minimum", np.minimum, ([1, 2], [1, 3]), ([0.5, 1], [0.5, 0]), ([0, 0], [0, 0])),
    ("fmax", np.fmax, ([1, NAN], [1, 3]), ([0.5, 0], [0.5, 1]), ([0, 0], [0, 0])),
    ("ptp", np.ptp, ([1, 1, 3],), ([-0.5, -0.5, 1],), ([0, 0, 0],)),
    ("ptp of equal numbers", np.ptp, ([2, 2],), ([0, 0],), ([0, 0],)),
    ("clip", lambda x: np.clip(x, 0, 1), ([-1, 0, 0.5, 1, 2],), ([0, 0.5, 1, 0.5, 0],), ([0] * 5,)),
    ("clip by traced bounds", np.clip, ([0, 5], [0, 1], [1, 2]), ([0.5, 0], [0.5, 0], [0, 1]), ([0, 0],) * 3),
    ("relu", lambda x: np.maximum(x, 0), ([0, 1],), ([0.5, 1],), ([0, 0],)),
    ("sort", lambda x: np.sort(x) * np.array([1.0, 2, 3]), ([2, 1, 2],), ([2, 1, 3],), ([0, 0, 0],)),
    ("argsort", lambda x: x[np.argsort(x)] * np.arange(3), ([2, 1, 2],), ([1, 0, 2],), ([0, 0, 0],)),
    ("partition", lambda x: np.partition(x, 1)[1], ([2, 2, 2],), ([0, 1, 0],), ([0, 0, 0],)),
    ("median, odd", np.median, ([2, 2, 2],), ([0, 1, 0],), ([0, 0, 0],)),
    ("median, even", np.median, ([1, 2, 2, 3],), ([0, 0.5, 0.5, 0],), ([0] * 4,)),
    ("quantile at a number", lambda x: np.quantile(x, 0.25), ([3, 1, 2, 4, 5],), ([0, 0, 1, 0, 0],), ([0] * 5,)),
    ("cummax goes to the last of equals", np.maximum.accumulate, ([1, 3, 3, 2],), ([1, 1, 2, 0],), ([0] * 4,)),
    ("cummin", np.minimum.accumulate, ([3, 1, 1],), ([1, 1, 1],), ([0] * 3,)),
    ("var", np.var, ([2, 2, 2],), ([0, 0, 0],), ([0, 0, 0],)),
    ("std", np.std, ([2, 2, 2],), ([0, 0, 0],), ([0, 0, 0],)),
    ("std of rows", lambda x: np.std(x, axis=1), ([[2, 2], [1, 3]],), ([[0, 0], [-0.5 + 0.0, 0.5]],), ([[0, 0], [0, 0]],)),
    ("nanstd", np.nanstd, ([NAN, 2, 2],), ([0, 0, 0],), ([0, 0, 0],)),
    *[(f"norm {ord}", lambda x, ord=ord: np.linalg.norm(x, ord=ord), ([0, 0],), ([0, 0],), ([0, 0],))
      for ord in (None, 0, 1, 2, 3, 1.5, INF, -INF)],
    *[(f"matrix norm {ord}", lambda x, ord=ord: np.linalg.norm(x, ord=ord), (np.zeros((2, 2)),), (np.zeros((2, 2)),),
       (np.zeros((2, 2)),)) for ord in (None, "fro", "nuc", 1, -1, 2, -2, INF, -INF)],
    ("norms of rows", lambda x: np.linalg.norm(x, axis=1), ([[0, 0], [3, 4]],), ([[0, 0], [0.6, 0.8]],),
     ([[0, 0], [(16 - 12) / 125, (9 - 12) / 125]],)),
    ("norm behind where", lambda x: (lambda n: np.where(n > 0, 1 / n, 0))(np.linalg.norm(x)), ([0, 0],), ([0, 0],), ([0, 0],)),
    ("round", np.round, ([0.5, 1.2],), ([0, 0],), ([0, 0],)),
    ("heaviside is its second operand at 0", np.heaviside, ([0, 1], [0.5, 0.5]), ([0, 0], [1, 0]), ([0, 0],) * 2),
    ("remainder at a multiple", np.mod, ([6, 5], [3, 3]), ([1, 1], [-2, -1]), ([0, 0],) * 2),
    ("fmod at a multiple", np.fmod, ([6, -7], [3, 3]), ([1, 1], [-2, 2]), ([0, 0],) * 2),
    ("floor_divide", np.floor_divide, ([6, 5], [3, 3]), ([0, 0], [0, 0]), ([0, 0],) * 2),
    ("unwrap", np.unwrap, ([0, 4, 3 * np.pi],), ([1, 1, 1],), ([0, 0, 0],)),
    ("interp at nodes has the slope to the right, 0 outside", lambda x, y: np.interp(x, [0.0, 1, 2], y),
     ([0, 1, 2, 3, -1], [1, 3, 2]), ([2, -1, -1, 0, 0], [2, 1, 2]), None),
    ("cast to integers", lambda x: x.astype(int) * x, ([2.5],), ([2],), ([0],)),
    ("stop_gradient", lambda x: x * graphc.stop_gradient(x), ([3],), ([3],), ([0],)),
]  # fmt: skip


@pytest.mark.parametrize(("f", "args", "first", "second"), ids(CORNERS))
def test_ties_and_corners(f: Any, args: Any, first: Any, second: Any) -> None:
    check(f, args, first, second)


def test_ties_and_corners_compiled() -> None:
    check_compiled([p for p in CORNERS if not p[0].startswith("matrix norm")])


# ------------------------------------------------------------------------------------------------ infinities

ROWS = [[-INF, -INF], [0.0, -INF], [0.0, 0.0]]
INFINITE: list[Point] = [
    # Of equal infinities the first one takes all: what np.logaddexp has as its larger operand.
    ("logaddexp", np.logaddexp, ([-INF, -INF], [-INF, 0]), ([1, 0], [0, 1]), ([0, 0],) * 2),
    ("softmax of a masked row", lambda x: special.softmax(x, axis=1)[:, 0], (ROWS[1:],), ([[0, 0], [0.25, -0.25]],), None),
    ("logsumexp", lambda x: special.logsumexp(x, axis=1), (ROWS[1:],), ([[1, 0], [0.5, 0.5]],), ([[0, 0], [0, 0]],)),
    ("tanh at infinity", np.tanh, ([INF, -INF],), ([0, 0],), ([0, 0],)),
    ("exp at -infinity", np.exp, ([-INF],), ([0],), ([0],)),
    ("arctan at infinity", np.arctan, ([INF],), ([0],), None),
]  # fmt: skip


@pytest.mark.parametrize(("f", "args", "first", "second"), ids(INFINITE))
def test_infinities(f: Any, args: Any, first: Any, second: Any) -> None:
    check(f, args, first, second)


def test_infinities_compiled() -> None:
    check_compiled(INFINITE)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_masked_scores(name: str) -> None:
    """Masks of -inf in the scores: the masked places get no gradient, and nothing is NaN."""
    scores, mask = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 5.0]]), np.array([[True, True, False], [True, False, False]])

    def f(s: Any) -> Any:
        found = getattr(special, name)(np.where(mask, s, -np.inf), axis=1)
        return np.sum(np.where(mask, found, 0) * np.array([1.0, 3.0, 5.0]))

    for g in (graphc.grad(f)(scores), graphc.compile(graphc.grad(f))(scores), graphc.jacfwd(f)(scores)):
        assert np.isfinite(g).all() and not g[~mask].any() and g[0, :2].all()
    hessians = graphc.hessian(f)(scores), graphc.jacrev(graphc.grad(f))(scores)
    assert np.isfinite(hessians[0]).all()
    np.testing.assert_allclose(*hessians, rtol=1e-10, atol=1e-12)


# ------------------------------------------------------------------------------------------------ indices


def updated(how: Callable[..., Any]) -> Callable[..., Any]:
    """Three updates, two of them to place 0 and one to the last place, weighed by 1, 2, 4."""
    places = np.array([0, 0, -1])

    def f(x: Any, u: Any) -> Any:
        y = x * 1
        how(y, places, u)
        return y * np.array([1.0, 2, 4])

    return f


def assign(y: Any, i: Any, u: Any) -> None:
    y[i] = u


X, U = [1.0, 2, 3], [5.0, 6, 7]
INDICES: list[Point] = [
    ("gather", lambda x: x[np.array([0, 0, -1])] * np.array([1.0, 2, 4]), (X,), ([3, 0, 4],), ([0, 0, 0],)),
    ("take", lambda x: np.take(x, [0, 0, -1]) * np.array([1.0, 2, 4]), (X,), ([3, 0, 4],), ([0, 0, 0],)),
    ("take clipped", lambda x: np.take(x, [0, -5, 9], mode="clip") * np.array([1.0, 2, 4]), (X,), ([3, 0, 4],), ([0, 0, 0],)),
    ("take wrapped", lambda x: np.take(x, [0, -3, 5], mode="wrap") * np.array([1.0, 2, 4]), (X,), ([3, 0, 4],), ([0, 0, 0],)),
    ("set: the last one wins, and only it gets the gradient", updated(assign), (X, U), ([0, 2, 0], [0, 1, 4]), ([0] * 3,) * 2),
    ("add", updated(np.add.at), (X, U), ([1, 2, 4], [1, 1, 4]), ([0] * 3,) * 2),
    ("subtract", updated(np.subtract.at), (X, U), ([1, 2, 4], [-1, -1, -4]), ([0] * 3,) * 2),
    ("multiply", updated(np.multiply.at), (X, U), ([30, 2, 28], [6, 5, 12]), ([11, 0, 4], [7, 6, 4])),
    ("multiply by one zero", updated(np.multiply.at), (X, [0, 6, 7]), ([0, 2, 28], [6, 0, 12]), ([6, 0, 4], [7, 1, 4])),
    ("multiply by zeros", updated(np.multiply.at), ([0, 2, 3], [0, 0, 7]), ([0, 2, 28], [0, 0, 12]), ([0, 0, 4], [0, 0, 4])),
    ("maximum with a tie of three", updated(np.maximum.at), (X, [1, 1, 9]), ([1 / 3, 2, 0], [1 / 3, 1 / 3, 4]), ([0] * 3,) * 2),
    ("minimum", updated(np.minimum.at), (X, [1, 5, 9]), ([0.5, 2, 4], [0.5, 0, 0]), ([0] * 3,) * 2),
    ("at.set", lambda x, u: x.at[np.array([0, 0])].set(u), (X, [5, 6]), ([0, 1, 1], [0, 1]), ([0] * 3, [0] * 2)),
    ("at.mul", lambda x, u: x.at[np.array([0, 0])].mul(u), (X, [0, 6]), ([0, 1, 1], [6, 0]), ([6, 0, 0], [7, 1])),
]  # fmt: skip


@pytest.mark.parametrize(("f", "args", "first", "second"), ids(INDICES))
def test_duplicate_and_negative_indices(f: Any, args: Any, first: Any, second: Any) -> None:
    check(f, args, first, second)


def test_indices_compiled() -> None:
    check_compiled(INDICES)


@pytest.mark.parametrize("places", [[0, 0, -1], [1]])
def test_complex_products_at_indices(places: list[int]) -> None:
    """Complex scatters multiply by the product of the updates of a place, zeros and a place alone included."""
    x, u = np.array([1 + 2j, -1j, 3.0]), np.array([2 - 1j, 0.5 + 1j, -2j])[: len(places)]

    def f(x: Any, u: Any) -> Any:
        y = x.copy()
        np.multiply.at(y, np.array(places), u)
        return y

    np.testing.assert_allclose(graphc.compile(f)(x, u), f(x, u), rtol=1e-14)
    np.testing.assert_allclose(graphc.compile(f)(x, u * 0), f(x, u * 0), rtol=1e-14)


# ------------------------------------------------------------------------------------------------ linear algebra

SINGULAR = [[1.0, 2], [2, 4]]
MATRICES: list[Point] = [
    ("det of a singular matrix", np.linalg.det, (SINGULAR,), ([[4, -2], [-2, 1]],), ([[1, -1], [-1, 1]],)),
    ("det of rank 1", np.linalg.det, (np.ones((3, 3)),), (np.zeros((3, 3)),), (np.zeros((3, 3)),)),
    ("det of 0", np.linalg.det, (np.zeros((4, 4)),), (np.zeros((4, 4)),), (np.zeros((4, 4)),)),
    # Values of repeated eigenvalues: their sum has a derivative; vectors have none, what divides by 0 is left out.
    ("eigvalsh, repeated", np.linalg.eigvalsh, (2 * np.eye(2),), (np.eye(2),), (np.zeros((2, 2)),)),
    ("singular values, repeated", lambda x: np.linalg.svd(x, compute_uv=False), (np.eye(2),), (np.eye(2),), None),
    ("trace by eigh", lambda x: np.linalg.eigh(x)[0] ** 2, (2 * np.eye(2),), (4 * np.eye(2),), None),
    ("eigenvectors, repeated", lambda x: np.linalg.eigh(x)[1], (np.eye(2),), (np.zeros((2, 2)),), None),
    ("singular vectors, repeated", lambda x: np.linalg.svd(x)[0], (np.eye(2),), (np.zeros((2, 2)),), None),
    ("pinv of 0", np.linalg.pinv, (np.zeros((2, 3)),), (np.zeros((2, 3)),), None),
]  # fmt: skip


@pytest.mark.parametrize(("f", "args", "first", "second"), ids(MATRICES))
def test_singular_and_repeated(f: Any, args: Any, first: Any, second: Any) -> None:
    check(f, args, first, second)


# ------------------------------------------------------------------------------------------------ sizes of 0

EMPTY: list[Point] = [
    (name, f, tuple(np.zeros(shape) for shape in shapes), tuple(np.zeros(shape) for shape in shapes),
     tuple(np.zeros(shape) for shape in shapes))
    for name, f, *shapes in (
        ("sum", np.sum, (0,)), ("sum of no rows", lambda x: np.sum(x, axis=0), (0, 2)), ("prod", np.prod, (0,)),
        ("prod of no rows", lambda x: np.prod(x, axis=0), (0, 2)), ("mean of nothing", np.mean, (0,)), ("var", np.var, (0,)),
        ("std", np.std, (0,)), ("max of no rows", lambda x: np.max(x, axis=1), (0, 2)),
        ("max with initial", lambda x: np.max(x, axis=1, initial=0.0), (2, 0)), ("norm", np.linalg.norm, (0,)),
        ("sort", np.sort, (0,)), ("cumsum", np.cumsum, (0,)), ("cumprod", np.cumprod, (0, 2)),
        ("cummax", lambda x: np.maximum.accumulate(x, axis=1), (2, 0)), ("det", np.linalg.det, (0, 0)),
        ("matmul over nothing", np.matmul, (2, 0), (0, 3)), ("matmul of no rows", np.matmul, (0, 2), (2, 3)),
        ("gather", lambda x: x[np.zeros(0, int)], (3,)), ("concatenate", lambda x: np.concatenate([x, x]), (0,)),
        ("logsumexp", lambda x: special.logsumexp(x, axis=0), (2, 0)), ("diff", np.diff, (1,)),
        ("einsum", lambda x: np.einsum("ij->i", x), (2, 0)),
    )
]  # fmt: skip


@pytest.mark.parametrize(("f", "args", "first", "second"), ids(EMPTY))
def test_sizes_of_zero(f: Any, args: Any, first: Any, second: Any) -> None:
    """Gradients of the operands' shapes; an empty sum of slopes is 0."""
    with np.errstate(all="ignore"):
        for order, want in ((1, first), (2, second)):
            have = reverse(f, len(args), order)(*args)
            same(have, want, f"order {order}")
            assert [h.shape for h in have] == [a.shape for a in args]


def test_sizes_of_zero_compiled() -> None:
    check_compiled(EMPTY)


# ------------------------------------------------------------------------------------------------ broadcasting

SHAPES = [(), (1,), (3,), (1, 3), (2, 1), (2, 3), (0,), (2, 0)]
#: Binary ufuncs of floats, with operands where they are smooth.
UFUNCS = [
    np.add, np.subtract, np.multiply, np.divide, np.power, np.float_power, np.maximum, np.minimum, np.fmax, np.fmin, np.arctan2,
    np.hypot, np.logaddexp, np.logaddexp2, np.remainder, np.fmod, np.copysign, np.heaviside, np.floor_divide,
]  # fmt: skip


def pairs() -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    found = []
    for left in SHAPES:
        for right in SHAPES:
            try:
                np.broadcast_shapes(left, right)
            except ValueError:
                continue
            found.append((left, right))
    return found


def unbroadcast(g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The sum over the axes that broadcasting made, by NumPy alone."""
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(k for k, n in enumerate(shape) if n == 1), keepdims=True).reshape(shape)


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda u: u.__name__)
def test_broadcasting_of_every_pair_of_shapes(ufunc: np.ufunc) -> None:
    """The gradient of broadcast operands is that of operands of the full shape, summed over the axes that were made."""
    rng = np.random.default_rng(0)
    for left, right in pairs():
        full = np.broadcast_shapes(left, right)
        x, y = rng.uniform(0.4, 0.9, left), rng.uniform(1.1, 1.9, right)
        weights = rng.normal(size=full)

        def weighed(x: Any, y: Any, weights: Any = weights) -> Any:
            return np.sum(ufunc(x, y) * weights)

        found = graphc.grad(weighed, argnums=(0, 1))(x, y)
        wide = graphc.grad(weighed, argnums=(0, 1))(*(np.broadcast_to(a, full).copy() for a in (x, y)))
        forward = graphc.jvp(weighed, (x, y), (x, y))[1]
        for have, want, operand in zip(found, wide, (x, y), strict=True):
            assert have.shape == operand.shape and have.dtype == operand.dtype
            np.testing.assert_allclose(have, unbroadcast(np.asarray(want), operand.shape), rtol=1e-12, atol=1e-14)
        along = sum(np.sum(g * a) for g, a in zip(found, (x, y), strict=True))
        np.testing.assert_allclose(forward, along, rtol=1e-10, atol=1e-12)


# ------------------------------------------------------------------------------------------------ integers and bools


@pytest.mark.parametrize("x", [np.arange(3), np.array([True, False]), np.arange(3, dtype=np.uint8)], ids=lambda x: x.dtype.name)
def test_no_gradient_by_integers(x: np.ndarray) -> None:
    """It is refused by name; beside it the floats have theirs."""
    for transform in (graphc.grad, graphc.jacrev, graphc.jacfwd):
        with pytest.raises((TypeError, graphc.GraphError), match=x.dtype.name.replace("uint", "u").replace("int", "i")):
            transform(lambda x: np.sum(x * 1.5))(x)
    y = np.ones(x.shape)
    np.testing.assert_array_equal(graphc.grad(lambda x, y: np.sum(x * y), argnums=1)(x, y), x.astype(float))


def test_integers_on_the_way_cut_the_gradient() -> None:
    """Casts to integers, comparisons, argmax and floor have slope 0; what goes by another way counts."""
    x = np.array([2.5, -1.5])
    for f in (lambda x: x.astype(np.int32), lambda x: x > 0, np.argmax, np.floor, np.sign, np.rint, lambda x: x // 1):
        np.testing.assert_array_equal(graphc.grad(lambda x, f=f: np.sum(f(x) * 1.0))(x), [0, 0])
        np.testing.assert_array_equal(graphc.grad(lambda x, f=f: np.sum(f(x) * 1.0 + x * x))(x), 2 * x)
        np.testing.assert_array_equal(graphc.jacfwd(lambda x, f=f: np.sum(f(x) * 1.0 + x * x))(x), 2 * x)
