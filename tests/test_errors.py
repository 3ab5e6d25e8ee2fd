"""What a traced value is not: every leak is one clear error with the user's line, the expression, and what to write."""

from __future__ import annotations

import copy
import inspect
import math
import operator
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.tracing import TracerError, UnsupportedError

TABLE = np.zeros(3)
ITEMS = [1, 2, 3]
X = np.ones(3)


def first(x: Any) -> Any:
    return x.astype(int)[0]


# Each function has the guilty expression on its last line. The strings are: what the error says, the expression shown, the
# remedy.


def if_(x: Any) -> Any:
    return 1 if x.sum() > 0 else 2


def while_(x: Any) -> Any:
    while x.sum() > 0:
        x = x - 1


def and_(x: Any) -> Any:
    return x.sum() > 0 and x[0] > 1


def not_(x: Any) -> Any:
    return not x[0]


def assert_(x: Any) -> Any:
    assert x[0] > 0


def max_(x: Any) -> Any:
    return max(x[0], x[1])


def sorted_(x: Any) -> Any:
    return sorted(x)


def in_(x: Any) -> Any:
    return 1 in x


def float_(x: Any) -> Any:
    return float(x[0])


def int_(x: Any) -> Any:
    return int(x[0])


def complex_(x: Any) -> Any:
    return complex(x[0])


def sin_(x: Any) -> Any:
    return math.sin(x[0])


def pow_(x: Any) -> Any:
    return math.pow(x[0], 2)


def erf_(x: Any) -> Any:
    return math.erf(x[0])


def floor_(x: Any) -> Any:
    return math.floor(x[0])


def round_(x: Any) -> Any:
    return round(x[0])


def index_(x: Any) -> Any:
    return operator.index(first(x))


def range_(x: Any) -> Any:
    return list(range(first(x)))


def list_index(x: Any) -> Any:
    return ITEMS[first(x)]


def shape_(x: Any) -> Any:
    return np.zeros(first(x))


def reshape_(x: Any) -> Any:
    return TABLE.reshape(first(x), 3)


def table_index(x: Any) -> Any:
    return TABLE[first(x)]


def table_gather(x: Any) -> Any:
    return TABLE[x.astype(int)]


def table_take(x: Any) -> Any:
    return np.take(TABLE, x.astype(int))


def write_element(x: Any) -> Any:
    TABLE[0] = x[0]


def write_all(x: Any) -> Any:
    TABLE[:] = x


def write_where(x: Any) -> Any:
    TABLE[x > 0] = 0


def write_method(x: Any) -> Any:
    TABLE.fill(x[0])


def write_in_place(x: Any) -> Any:
    global TABLE
    TABLE += x


def write_out(x: Any) -> Any:
    return np.maximum(x, 0, out=TABLE)


def write_sum(x: Any) -> Any:
    return np.sum(x, axis=0, keepdims=True, out=TABLE[:1])


def write_at(x: Any) -> Any:
    np.add.at(TABLE, [0], x[0])


def write_copyto(x: Any) -> Any:
    np.copyto(TABLE, x)


def full_(x: Any) -> Any:
    return np.full(3, x[0])


def full_typed(x: Any) -> Any:
    return np.full(3, x[0], np.float32)


def array_(x: Any) -> Any:
    return np.array([x[0], x[1]])


def asarray_(x: Any) -> Any:
    return np.asarray(x)


def scalar_(x: Any) -> Any:
    return np.float32(x[0])


def arange_(x: Any) -> Any:
    return np.arange(x[0])


def method_(x: Any) -> Any:
    return TABLE.dot(x)


def nested_list(x: Any) -> Any:
    return np.concatenate([TABLE, [x[0]]])


def generator_(x: Any) -> Any:
    return np.random.default_rng(0).normal(x)


def mask_(x: Any) -> Any:
    return x[x > 0]


def traced_slice(x: Any) -> Any:
    return x[: first(x)]


def item_(x: Any) -> Any:
    return x.item()


def tolist_(x: Any) -> Any:
    return x.tolist()


def pickle_(x: Any) -> Any:
    return pickle.dumps(x)


def masked_array(x: Any) -> Any:
    return x + np.ma.array([1.0, 2.0, 3.0])


TRUTH = "truth value of a traced bool is not known"
LEAKS: list[tuple[Callable[[Any], Any], str, str, str]] = [
    (if_, TRUTH, "x.sum() > 0", "np.where(condition, a, b) or graphc.cond"),
    (while_, TRUTH, "x.sum() > 0", "graphc.while_loop instead of while"),
    (and_, TRUTH, "x.sum() > 0 and x[0] > 1", "np.logical_and"),
    (not_, "truth value of a traced f64", "not x[0]", "np.where"),
    (assert_, TRUTH, "assert x[0] > 0", "np.where"),
    (max_, TRUTH, "max(x[0], x[1])", "write np.maximum(a, b)"),
    (sorted_, TRUTH, "sorted(x)", "write np.sort(x)"),
    (in_, "`in` needs the numbers", "1 in x", "np.any(x == value)"),
    (float_, "float() needs the number of a traced f64", "float(x[0])", "x.astype(float)"),
    (int_, "int() needs the number of a traced f64", "int(x[0])", "x.astype(int)"),
    (complex_, "complex() needs the number", "complex(x[0])", "x.astype(complex)"),
    (sin_, "math.sin() needs the number of a traced f64", "math.sin(x[0])", "write np.sin"),
    (pow_, "math.pow() needs the number", "math.pow(x[0], 2)", "write np.power"),
    (erf_, "math.erf() needs the number", "math.erf(x[0])", "write scipy.special.erf"),
    (floor_, "math.floor() needs the number", "math.floor(x[0])", "write np.floor(x)"),
    (round_, "round() needs the number", "round(x[0])", "write np.round(x)"),
    (index_, "used as a Python integer", "operator.index(first(x))", "compile(static=...)"),
    (range_, "used as a Python integer", "range(first(x))", "use graphc.fori_loop"),
    (list_index, "used as a Python integer", "ITEMS[first(x)]", "np.stack(items)[i]"),
    (shape_, "used as a Python integer", "np.zeros(first(x))", "compile(static=...)"),
    (reshape_, "used as a Python integer", "TABLE.reshape(first(x), 3)", "compile(static=...)"),
    (table_index, "a NumPy array is indexed by a traced i64", "TABLE[first(x)]", "graphc.numpy.asarray(a)[i]"),
    (table_gather, "a NumPy array is indexed by a traced i64[3]", "TABLE[x.astype(int)]", "graphc.numpy.asarray(a)[i]"),
    (table_take, "np.take was given as indices", "np.take(TABLE, x.astype(int))", "graphc.numpy.asarray(a)[i]"),
    (write_element, "a traced f64 would be written into a NumPy array", "TABLE[0]", "a = np.zeros_like(x)"),
    (write_all, "a traced f64[3] would be written into a NumPy array", "TABLE[:]", "a = np.zeros_like(x)"),
    (write_where, "would be written into a NumPy array", "TABLE[x > 0]", "np.where"),
    (write_method, "would be written into a NumPy array", "TABLE.fill(x[0])", "a = np.zeros_like(x)"),
    (write_in_place, "np.add would write a traced value into a NumPy array", "TABLE += x", "a = a + x instead of a += x"),
    (write_out, "np.maximum would write a traced value", "np.maximum(x, 0, out=TABLE)", "without out="),
    (write_sum, "np.sum would write a traced value", "np.sum(x, axis=0, keepdims=True, out=TABLE[:1])", "without out="),
    (write_at, "np.add.at would write a traced value", "np.add.at(TABLE, [0], x[0])", "a = np.zeros_like(x)"),
    (write_copyto, "would be copied into a NumPy array", "np.copyto(TABLE, x)", "a = np.zeros_like(x)"),
    (full_, "np.full would fill a NumPy array", "np.full(3, x[0])", "graphc.numpy.full"),
    (full_typed, "would be copied into a NumPy array", "np.full(3, x[0], np.float32)", "graphc.numpy.full"),
    (array_, "np.array would make a NumPy array", "np.array([x[0], x[1]])", "np.stack([...])"),
    (asarray_, "np.asarray would make a NumPy array", "np.asarray(x)", "leave it away"),
    (scalar_, "float32() would make a NumPy scalar", "np.float32(x[0])", "x.astype(np.float32)"),
    (arange_, "np.arange would depend on", "np.arange(x[0])", "step * np.arange(n)"),
    (method_, "dot() needs the numbers of a traced f64[3]", "TABLE.dot(x)", "np.dot(a, x) rather than a.dot(x)"),
    (nested_list, "concatenate() needs the numbers", "np.concatenate([TABLE, [x[0]]])", "graphc.numpy.array([...])"),
    (generator_, "a NumPy random generator was given", "np.random.default_rng(0).normal(x)", "graphc.random with a key"),
    (mask_, "indexing by a boolean mask has a shape that depends on data", "x[x > 0]", "np.where(mask, x, 0)"),
    (traced_slice, "a slice with a traced bound", "x[: first(x)]", "np.arange(size)"),
    (item_, "item() of a traced value", "x.item()", "return the value"),
    (tolist_, "tolist() of a traced value", "x.tolist()", "return the value"),
    (pickle_, "cannot be pickled", "pickle.dumps(x)", "return it from the function"),
]  # fmt: skip


def line_of(function: Callable[..., Any], expression: str) -> int:
    """The last line of ``function`` that holds ``expression``."""
    lines, first = inspect.getsourcelines(function)
    return first + max(k for k, line in enumerate(lines) if expression in line)


@pytest.mark.parametrize(("function", "what", "expression", "remedy"), LEAKS, ids=[f.__name__ for f, *_ in LEAKS])
def test_leaks(function: Callable[[Any], Any], what: str, expression: str, remedy: str) -> None:
    before = TABLE.copy()
    for run in (lambda: graphc.trace(function, X), lambda: graphc.grad(function)(X)):
        with pytest.raises(TracerError) as caught:
            run()
        message = str(caught.value)
        assert what in message and remedy in message, message
        assert f"test_errors.py:{line_of(function, expression)}: `{expression}`" in message, message
        assert "\n" not in message
    np.testing.assert_array_equal(TABLE, before, err_msg="nothing was written")


def test_leaks_inside_a_body_and_a_transform() -> None:
    with pytest.raises(TracerError, match=r"would be written into a NumPy array at .*test_errors.py:\d+: `TABLE\[0\]`"):
        graphc.trace(lambda x: graphc.scan(lambda c, v: (c + v, write_element(x)), 0.0, x), X)
    with pytest.raises(TracerError, match="truth value"):
        graphc.vmap(lambda v: v if v > 0 else -v)(X)


def test_an_error_of_the_users_own_stays() -> None:
    def careful(x: Any) -> Any:
        try:
            float(x[0])
        except TypeError:
            pass
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        graphc.trace(careful, X)

    def handled(x: Any) -> Any:
        try:
            return float(x[0])
        except TypeError:
            return x[0] * 2

    assert len(graphc.trace(handled, X).outputs) == 1


# ------------------------------------------------------------------------------------------------ kept values


def test_a_value_kept_from_another_trace() -> None:
    kept: list[Any] = []

    def keeps(x: Any) -> Any:
        kept.append(x * 2)
        return x

    graphc.trace(keeps, X)
    with pytest.raises(
        TracerError,
        match=r"f64\[3\] of tests.test_errors.py:\d+ was kept from another trace and used at .*: `x \+ kept\[0\]`",
    ):
        graphc.trace(lambda x: x + kept[0], X)
    for use in (lambda: kept[0] + 1, lambda: np.sin(kept[0]), lambda: kept[0].sum(), lambda: kept[0][0]):
        with pytest.raises(TracerError, match="kept from another trace"):
            use()


def test_a_value_kept_from_a_body() -> None:
    kept: list[Any] = []

    def body(c: Any, v: Any) -> Any:
        kept.append(c + v)
        return c + v, None

    def program(x: Any) -> Any:
        graphc.scan(body, 0.0, x)
        return kept[-1] * 2

    with pytest.raises(TracerError, match="kept from another trace.*bodies of scan"):
        graphc.trace(program, X)


def test_a_value_kept_from_a_vmap() -> None:
    kept: list[Any] = []

    def program(x: Any) -> Any:
        graphc.vmap(lambda v: kept.append(v * 2) or v)(x)
        return kept[-1] + 1

    with pytest.raises(
        TracerError, match=r"one example f64 of a vmapped function was used outside it \(at .*test_errors.py"
    ):
        graphc.trace(program, X)

    def stores(x: Any) -> Any:
        total = x * 0
        graphc.vmap(lambda v: total.__iadd__(v))(x)
        return total

    with pytest.raises(TracerError, match="used outside it"):
        graphc.trace(stores, X)


def test_arrays_are_not_changed_from_a_body() -> None:
    def program(x: Any) -> Any:
        y = x + 0

        def body(c: Any, v: Any) -> Any:
            y[0] = v
            return c, None

        graphc.scan(body, 0.0, x)
        return y

    with pytest.raises(TracerError, match="of the enclosing function would be changed inside a body"):
        graphc.trace(program, X)


def test_copies_are_fine() -> None:
    assert graphc.trace(lambda x: (copy.copy(x), copy.deepcopy([x])), X).output_types[0].shape == (3,)


# ------------------------------------------------------------------------------------------------ not covered


def test_what_is_not_covered_is_named() -> None:
    cases: list[tuple[Callable[[Any], Any], str]] = [
        (lambda x: np.fft.fft(x), "np.fft.fft"), (lambda x: np.unique(x), "np.unique"),
        (lambda x: x.byteswap(), r"byteswap\(\)"), (lambda x: np.repeat(x, x.astype(int)), "np.repeat with traced repeats"),
        (lambda x: np.where(x > 0), r"np.where\(condition\) alone"), (lambda x: x.strides, "attribute strides"),
        (lambda x: x.sum(nonsense=3), "the method sum, as graphc traces it, got an unexpected keyword argument 'nonsense'"),
        (lambda x: x[None].ravel(order="K"), r"reshape\(order='K'\)"),
        (lambda x: np.pad(x, 1, mode=len), "np.pad"),
    ]  # fmt: skip
    for function, name in cases:
        with pytest.raises((UnsupportedError, AttributeError, TypeError), match=name):
            graphc.trace(function, X)
    with pytest.raises(AttributeError, match="a traced array has no attribute 'nonsense'"):
        graphc.trace(lambda x: x.nonsense, X)


def test_types_that_no_operation_takes() -> None:
    with pytest.raises(
        TypeError, match=r"bitwise_and is not defined for f64\[3\], f64\[3\]: .*\n  at .*test_errors.py:\d+: `x & x`"
    ):
        graphc.trace(lambda x: x & x, X)
    with pytest.raises(TypeError, match="subtract"):
        graphc.trace(lambda x: (x > 0) - (x > 1), X)
    with pytest.raises(TypeError, match=r"floor is not defined for c128\[3\]: .*\n  at .*`np.floor\(x \* 1j\)`"):
        graphc.trace(lambda x: np.floor(x * 1j), X)
    with pytest.raises(TypeError, match="str"):
        graphc.trace(lambda x: x + "a", X)
    with pytest.raises(TypeError, match="MaskedArray.*keep masks as"):
        graphc.trace(masked_array, X)


def test_arguments_and_results_that_are_no_arrays() -> None:
    with pytest.raises(TypeError, match=r"argument x.b is a set; arguments are arrays, numbers and nestings"):
        graphc.trace(lambda x: x["a"], {"a": 1.0, "b": {1}})
    with pytest.raises(TypeError, match="the traced function returned a str as name"):
        graphc.trace(lambda x: {"name": "mlp", "x": x}, X)
    with pytest.raises(TypeError, match="NumPy's object|element type for NumPy's"):
        graphc.trace(lambda x: x, np.array([None, 1]))
    with pytest.raises(TypeError, match="Spec; give an array"):
        graphc.grad(lambda x: x)(graphc.Spec(()))


def test_messages_show_multi_line_expressions_shortly() -> None:
    def function(x: Any) -> Any:
        return float(
            x[0]
            + x[1]
        )  # fmt: skip

    with pytest.raises(TracerError, match=re.escape("`float( …`")):
        graphc.trace(function, X)
