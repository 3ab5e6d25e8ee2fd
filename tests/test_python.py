"""Python around arrays: iteration, unpacking, containers, copies and questions work on traced arrays as on NumPy's."""

from __future__ import annotations

import collections
import copy
import dataclasses
import enum
import functools
import itertools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from compare import check_same, traced

import graphc

X = np.array([0.5, -1.0, 2.0])
A = np.arange(6.0).reshape(2, 3) - 2.5
I = np.array([2, 0])  # noqa: E741


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclasses.dataclass
class Layer:
    w: Any
    b: Any

    def __call__(self, x: Any) -> Any:
        return x @ self.w + self.b


class Side(enum.Enum):
    LEFT = 1
    RIGHT = 2


PROGRAMS: dict[str, Callable[..., Any]] = {}


def program(function: Callable[..., Any]) -> Callable[..., Any]:
    PROGRAMS[function.__name__] = function
    return function


@program
def rows(x: Any, a: Any) -> Any:
    total = 0
    for row in a:
        total = total + row * x
    return total


@program
def unpacking(x: Any, a: Any) -> Any:
    (p, q, r), (top, bottom) = x, a
    first, *rest = x
    return p * q - r, top + bottom, first * len(rest), rest[-1]


@program
def unpacked_shape(x: Any, a: Any) -> Any:
    m, n = a.shape
    return a.sum() / (m * n), np.zeros_like(x) + n


@program
def enumerate_and_zip(x: Any, a: Any) -> Any:
    return sum(k * v for k, v in enumerate(x)), [u * v for u, v in zip(a[0], x, strict=True)]


@program
def zip_star(x: Any, a: Any) -> Any:
    params = [(x, a), (x * 2, a * 3), (x - 1, a)]
    xs, others = zip(*params, strict=True)
    return np.stack(xs), sum(others)


@program
def sum_of_list(x: Any, a: Any) -> Any:
    return sum([row * 2 for row in a]), sum(x), sum(x, start=10)


@program
def map_reduce_accumulate(x: Any, a: Any) -> Any:
    doubled = list(map(lambda v: v * 2, x))
    running = list(itertools.accumulate(x, operator.mul))
    return functools.reduce(lambda p, q: p * 0.5 + q, a), doubled, running


@program
def comprehensions(x: Any, a: Any) -> Any:
    squares = {k: v**2 for k, v in enumerate(x) if k != 1}
    return [row.sum() for row in a], tuple(v + 1 for v in x), squares


@program
def keys_of_any_kind(x: Any, a: Any) -> Any:
    table = {("layer", 0): x, Side.LEFT: a[0], 3: x * 2, "w": x.sum(), None: a, frozenset({1}): x - 1, 2.5: x[0]}
    return table[("layer", 0)] + table[Side.LEFT] + table[3] * table["w"], table[None], table[frozenset({1})] * table[2.5]


@program
def copies(x: Any, a: Any) -> Any:
    y, z = copy.copy(x), copy.deepcopy({"a": a})
    y[0] = 7.0
    z["a"][1] = 0.0
    return x, y, a, z["a"]


@program
def questions(x: Any, a: Any) -> Any:
    assert isinstance(x, np.ndarray) and not isinstance(x, (list, float)) and hasattr(x, "shape")
    assert np.shape(a) == (2, 3) and np.ndim(x) == 1 and np.size(a) == a.size == 6 and len(a) == 2
    assert x.dtype == np.float64 and x.dtype.kind == "f" and a.itemsize == 8 and a.nbytes == 48
    assert np.isscalar(2.0) and not np.isscalar(x) and callable(x.sum) and bool(x.shape)
    assert np.issubdtype(x.dtype, np.floating) and np.iscomplexobj(x) is False
    return np.ones(x.shape) * x if isinstance(x, np.ndarray) else None


@program
def isinstance_dispatch(x: Any, a: Any) -> Any:
    def norm(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return sum(map(norm, value))
        if isinstance(value, dict):
            return sum(norm(v) for v in value.values())
        if isinstance(value, np.ndarray):
            return np.sum(value**2)
        return value**2

    return norm([x, {"a": a, "scale": 2.0}, (x, 3)])


@program
def named_tuples_and_dataclasses(x: Any, a: Any) -> Any:
    pair = Pair(x, second=a)
    layer = Layer(a.T, a[:, 0])
    replaced = dataclasses.replace(layer, b=layer.b * 2)
    return pair._replace(first=x * 2), layer(x), replaced(x), collections.OrderedDict(p=pair.second)


@program
def reversed_and_sliced(x: Any, a: Any) -> Any:
    backward = [v for v in reversed(x)]
    return backward, list(itertools.chain(a[0], x)), [u - v for u, v in itertools.pairwise(x)]


@program
def augmented(x: Any, a: Any) -> Any:
    y = x.copy()
    y += 1
    y *= x
    y **= 2
    total = 0.0
    total += y.sum()
    return y, total, x


@program
def operators(x: Any, a: Any) -> Any:
    p = operator.itemgetter(0)(x)
    return operator.matmul(a, x), -x, +x, abs(x), 2 - x, 2 / x, 2**x, x // 0.7, x % 0.7, divmod(x, 0.7), p > 0, ~(x > 0)


@program
def swapping(x: Any, a: Any) -> Any:
    first, second = x, x * 2
    for _ in range(3):
        first, second = second, first + second
    return first, second


@program
def python_branches_on_shapes(x: Any, a: Any) -> Any:
    out = []
    for value in (x, a, x[0]):
        out.append(value.sum() if value.ndim > 1 else value * 2 if value.ndim else value - 1)
    while len(out) > 2:
        out.pop(0)
    return out


@program
def recursion(x: Any, a: Any) -> Any:
    def tree_sum(values: Any) -> Any:
        n = len(values)
        return values[0] if n == 1 else tree_sum(values[: n // 2]) + tree_sum(values[n // 2 :])

    return tree_sum(x), tree_sum(a)


@program
def closures_and_partials(x: Any, a: Any) -> Any:
    scale = functools.partial(np.multiply, 3.0)
    return scale(x), (lambda v, *, k=2: v * k)(a, k=3), functools.partial(np.sum, axis=0)(a)


@program
def sorting_by_known_keys(x: Any, a: Any) -> Any:
    parts = sorted([("b", x), ("a", a)], key=lambda item: item[0])
    return [value * k for k, (_, value) in enumerate(parts)]


@program
def methods_by_name(x: Any, a: Any) -> Any:
    return [getattr(np, name)(x) for name in ("sin", "cos", "exp")], [getattr(a, name)() for name in ("sum", "mean", "max")]


@program
def arrays_beside(x: Any, a: Any) -> Any:
    table = np.arange(12.0).reshape(3, 4)
    return table.T @ x, table[:2, 1:] * a, np.eye(3) * x, np.ones((2, 1)) + x


@program
def flat_and_ravel(x: Any, a: Any) -> Any:
    return sum(a.flat), a.ravel()[1:3], np.ndenumerate(A) is not None


@program
def try_and_with(x: Any, a: Any) -> Any:
    with np.errstate(all="ignore"):
        try:
            y = np.log(x[5])
        except IndexError:
            y = np.log(x * x)
        finally:
            z = y * 2
    return y, z


@program
def match_statement(x: Any, a: Any) -> Any:
    match a.shape:
        case (n, m) if n < m:
            return a.T * 2
        case _:
            return a


@program
def walrus_and_conditional_expression(x: Any, a: Any) -> Any:
    return (y := x * 2) + y if (n := len(x)) > 2 else x * n


@pytest.mark.parametrize("name", PROGRAMS)
def test_python_around_arrays(name: str) -> None:
    check_same(PROGRAMS[name], X, A)


@pytest.mark.parametrize("name", ["rows", "unpacking", "zip_star", "keys_of_any_kind", "copies", "recursion", "swapping"])
def test_and_its_derivatives(name: str) -> None:
    graphc.check_grads(PROGRAMS[name], (X, A))


def test_results_nest_with_keys_of_any_kind() -> None:
    found = traced(lambda x: {("a", 1): x, 2: [x * 2, None], None: (x, {Side.LEFT: x + 1})}, X)
    np.testing.assert_array_equal(found[None][1][Side.LEFT], X + 1)
    np.testing.assert_array_equal(found[2][0], X * 2)


def test_arguments_nest_with_keys_of_any_kind() -> None:
    params = {("w", 0): X, Side.RIGHT: {3: A, None: (X, None)}}
    grads = graphc.grad(lambda p: np.sum(p[("w", 0)] ** 2) + np.sum(p[Side.RIGHT][3]) * p[Side.RIGHT][None][0].sum())(params)
    np.testing.assert_allclose(grads[("w", 0)], 2 * X)
    np.testing.assert_allclose(grads[Side.RIGHT][3], np.full_like(A, X.sum()))


def test_an_array_of_objects_holds_tracers_apart() -> None:
    """A list of traced values of different shapes stays a list."""
    found = traced(lambda x, a: [v.sum() for v in [x, a]], X, A)
    np.testing.assert_allclose(found, [X.sum(), A.sum()])


def test_text_of_tracers_says_their_types() -> None:
    def program(x: Any, a: Any) -> Any:
        assert f"{x}" == "Tracer(f64[3])" and str(a) == "Tracer(f64[2, 3])" and f"{x.sum():.3f}" == "Tracer(f64)"
        assert f"{x!r:>16}" == "  Tracer(f64[3])"
        return x

    traced(program, X, A)


def test_tracers_are_keys_by_identity() -> None:
    np.testing.assert_array_equal(traced(lambda x: {x: x * 2}[x], X), X * 2)
