"""``compile``: signatures, static arguments, nesting, donation, fresh results, errors, and calls inside traces."""

from __future__ import annotations

import dataclasses
import enum
import functools
import warnings
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphc
from graphc.calling import matcher, rebuilder, signature_of
from graphc.driver import match_donations
from graphc.tracing import Spec, TracerError, leaf_names
from graphc.tree import flatten, unflatten

Point = namedtuple("Point", "x y")


@dataclasses.dataclass
class Layer:
    w: object
    b: object


class Mode(enum.Enum):
    PLAIN = 1
    DOUBLE = 2


@pytest.fixture(params=["cpu", "reference"])
def backend(request):
    return request.param


def vector(*values, dtype=np.float32):
    return np.array(values, dtype)


# ------------------------------------------------------------------------------------------------ signatures


def test_one_executable_per_signature(backend):
    f = graphc.compile(lambda x: x * 2, backend=backend)
    np.testing.assert_array_equal(f(vector(1, 2)), [2, 4])
    f(vector(5, 6))
    assert len(f.executables) == 1
    f(vector(1, 2, 3))
    f(vector(1, 2, dtype=np.float64))
    assert len(f.executables) == 3
    assert repr(f) == "<compiled <lambda>: 3 executables>"


def test_python_numbers_do_not_compile_again():
    f = graphc.compile(lambda x, s: x * s)
    x = vector(1, 2)
    for s in (1.0, 2.5, -3.0):
        result = f(x, s)
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result, x * np.float32(s))
    assert len(f.executables) == 1
    assert f(x, 3).dtype == np.float32
    assert f(x, True).dtype == np.float32
    assert len(f.executables) == 3  # an int and a bool are other types
    assert f(x, np.float64(2)).dtype == np.float64  # strong, although it is a float
    assert len(f.executables) == 4


def test_specs_and_arrays_share_executables():
    f = graphc.compile(lambda x, s: x + s)
    exe = f.executable(Spec((3,)), 1.0)
    assert f.executable(np.zeros(3, np.float32), 2.0) is exe
    assert f.executable(np.zeros(3, ">f4"), 2.0) is exe
    np.testing.assert_array_equal(f(vector(1, 2, 3), 1.0), [2, 3, 4])
    assert f.executables == (exe,)


def test_lists_and_scalars_as_arrays():
    f = graphc.compile(lambda x: x[0] + x[1])
    assert f([1.0, 2.0]) == 3.0  # a pytree of two numbers
    assert float(f(np.array([1.0, 2.0]))) == 3.0


def test_layouts_share_an_executable():
    f = graphc.compile(lambda x: x * 2)
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    for given_ in (x, np.asfortranarray(x), x[::1], np.flip(x), x.astype(">f4"), x[:, ::-1]):
        np.testing.assert_array_equal(f(given_), given_ * 2)
    assert len(f.executables) == 1


def test_several_signatures_in_turn():
    f = graphc.compile(lambda x: x + 1, backend="reference")
    arrays = [np.zeros(n, np.float32) for n in range(1, 9)]
    for _ in range(3):
        for a in arrays:
            assert f(a).shape == a.shape
    assert len(f.executables) == 8
    assert len(f._quick) <= 4


# ------------------------------------------------------------------------------------------------ nesting


def test_nested_arguments_and_results(backend):
    @graphc.compile(backend=backend)
    def f(params, point, *rest, scale):
        return {
            "layers": [Layer(p.w * scale, p.b) for p in params["layers"]],
            "point": Point(point.y, point.x),
            "none": params["none"],
            "rest": rest,
            "one": (point.x,),
        }

    params = {"none": None, "layers": [Layer(vector(1, 2), vector(3)), Layer(vector(4), vector(5, 6))]}
    for _ in range(3):  # the first call compiles, the others go the quick way
        got = f(params, Point(vector(7), vector(8)), vector(9), 10.0, scale=2)
        assert list(got) == ["layers", "point", "none", "rest", "one"]
        assert type(got["layers"][0]) is Layer and type(got["point"]) is Point and got["none"] is None
        np.testing.assert_array_equal(got["layers"][0].w, [2, 4])
        np.testing.assert_array_equal(got["layers"][1].b, [5, 6])
        np.testing.assert_array_equal(got["point"].x, [8])
        assert isinstance(got["rest"], tuple) and float(got["rest"][1]) == 10.0
        assert isinstance(got["one"], tuple) and len(got["one"]) == 1
    assert len(f.executables) == 1


def test_dicts_match_by_key():
    f = graphc.compile(lambda p: p["a"] - p["b"], backend="reference")
    a, b = vector(5), vector(2)
    assert f({"a": a, "b": b}) == f({"b": b, "a": a}) == f(OrderedDict(b=b, a=a)) == 3
    assert len(f.executables) == 1


def test_other_nestings_are_other_signatures():
    f = graphc.compile(lambda p: p[0] + p[1], backend="reference")
    assert f([vector(1), vector(2)]) == f((vector(1), vector(2))) == f(Point(vector(1), vector(2))) == 3
    assert len(f.executables) == 3


leaves = st.sampled_from(
    [np.zeros((), np.float32), np.int32(1), np.zeros((2, 3)), np.zeros(0, np.int32), 1.0, 2, True, None, "mode", Mode.PLAIN]
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.builds(Point, inner, inner)
        | st.builds(Layer, inner, inner)
        | st.dictionaries(st.sampled_from(["a", "b c", 3, "c"]), inner, max_size=3)
        | st.dictionaries(st.sampled_from(["x", "y"]), inner).map(OrderedDict)
    ),
    max_leaves=8,
)


@given(st.tuples(trees, trees), st.dictionaries(st.sampled_from(["p", "q"]), trees))
def test_the_quick_way_is_the_long_way(args, kwargs):
    signature, dynamic = signature_of(args, kwargs, lambda tree: leaf_names(dict, tree))
    match = matcher(signature)
    if match is not None:
        found = match(args, kwargs)
        assert len(found) == len(dynamic)
        assert all(a is b or (isinstance(b, np.generic) and a == b) for a, b in zip(found, dynamic, strict=True))
        assert match((*args, 1.0), kwargs) is None
        assert match(args, {**kwargs, "more": 1.0}) is None
        assert match((object(), args[1]), kwargs) is None
    results, tree = flatten([args, kwargs])
    assert repr(rebuilder(tree)(results)) == repr(unflatten(tree, results))


@given(st.tuples(trees), st.tuples(trees))
def test_the_quick_way_takes_only_its_own_signature(one, other):
    names = lambda tree: leaf_names(dict, tree)  # noqa: E731
    signature, _ = signature_of(one, {}, names)
    another, _ = signature_of(other, {}, names)
    match = matcher(signature)
    if match is not None and match(other, {}) is not None:
        assert another == signature


# ------------------------------------------------------------------------------------------------ static arguments


def test_static_arguments(backend):
    @graphc.compile(static=("power", 2), backend=backend)
    def f(x, power, times, mode="plain", activation=None, training=False):
        for _ in range(times):
            x = x**power
        if mode == "double":
            x = x * 2
        if training:
            x = x + 1
        return x if activation is None else activation(x)

    x = vector(2, 3)
    np.testing.assert_array_equal(f(x, 2, 1), x**2)
    np.testing.assert_array_equal(f(x, 2, 2), x**4)
    np.testing.assert_array_equal(f(x, 2, 2), x**4)
    assert len(f.executables) == 2
    np.testing.assert_array_equal(f(x, 2, 1, "double"), 2 * x**2)
    np.testing.assert_array_equal(f(x, 2, 1, mode="double"), 2 * x**2)
    np.testing.assert_array_equal(f(x, 2, 1, training=True), x**2 + 1)
    np.testing.assert_array_equal(f(x, 2, 1, training=False), x**2)
    np.testing.assert_array_equal(f(x, 1, 1, activation=np.negative), -x)
    count = len(f.executables)
    f(x, 1, 1, activation=np.negative)
    f(x, 2, 1, training=True)
    assert len(f.executables) == count


def test_enums_are_static():
    f = graphc.compile(lambda x, mode: x * mode.value, backend="reference")
    assert f(vector(3), Mode.DOUBLE) == 6 and f(vector(3), Mode.PLAIN) == 3
    assert len(f.executables) == 2


def test_static_values_differ_by_type():
    f = graphc.compile(lambda x, k: x * (10 if k is True else k), static="k", backend="reference")
    assert f(vector(1), 1) == 1 and f(vector(1), True) == 10 and f(vector(1), 1.0) == 1
    assert len(f.executables) == 3


def test_wrong_static_arguments():
    def f(x, sizes):
        return x

    with pytest.raises(ValueError, match="f has no parameter 'y' that could be static; it has .*x"):
        graphc.compile(f, static="y")
    with pytest.raises(ValueError, match="no parameter 5 that could be donated"):
        graphc.compile(f, donate=5)
    with pytest.raises(ValueError, match="'x' cannot be both static and donated"):
        graphc.compile(f, static="x", donate=0)
    with pytest.raises(TypeError, match="a static argument must be hashable, .* of type ndarray"):
        graphc.compile(f, static="x")(vector(1), 1)
    with pytest.raises(TypeError, match="argument sizes is a object"):
        graphc.compile(f)(vector(1), object())
    with pytest.raises(TypeError, match=r"argument x\['a'\]|argument x.a is a set"):
        graphc.compile(f)({"a": {1}}, 1)


def test_options_are_checked():
    with pytest.raises(TypeError, match="compile takes a function, not a int"):
        graphc.compile(5)
    with pytest.raises(ValueError, match="there is no backend 'gpu'; there are 'cpu' and 'reference'"):
        graphc.compile(np.tanh, backend="gpu")
    for threads in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="threads must be a positive number"):
            graphc.compile(lambda x: x, threads=threads)


# ------------------------------------------------------------------------------------------------ decorators, traces


def test_decorators():
    @graphc.compile
    def f(x):
        """Twice x."""
        return x + x

    @graphc.compile(donate="x", backend="reference")
    def g(x):
        return x + 1

    assert f.__name__ == "f" and f.__doc__ == "Twice x." and f.__wrapped__ is f.function
    assert f(vector(2)) == 4
    x = vector(2)
    assert g(x) is x and x == 3


def test_functions_of_any_kind():
    class Thrice:
        def __call__(self, x):
            return x * 3

    x = vector(1, 2)
    np.testing.assert_array_equal(graphc.compile(functools.partial(np.multiply, 2.0), backend="reference")(x), x * 2)
    np.testing.assert_array_equal(graphc.compile(Thrice(), backend="reference")(x), x * 3)
    np.testing.assert_array_equal(graphc.compile(np.square, backend="reference")(x), x * x)
    np.testing.assert_array_equal(graphc.compile(graphc.compile(np.negative), backend="reference")(x), -x)
    f = graphc.compile(lambda *xs: [v + 1 for v in xs], donate=1, backend="reference")
    y = vector(1, 2)
    got = f(x, y)
    assert got[0] is not x and got[1] is y


def test_methods():
    class Model:
        def __init__(self, scale):
            self.scale = scale

        @graphc.compile(static="self", backend="reference")
        def predict(self, x):
            return x * self.scale

    one, two = Model(2), Model(3)
    assert one.predict(vector(5)) == 10 and two.predict(vector(5)) == 15 and one.predict(vector(5)) == 10
    assert len(Model.predict.executables) == 2


def test_compiled_functions_inside_a_trace():
    inner = graphc.compile(lambda x, k: np.sin(x) * k)
    outer = graphc.compile(lambda x: inner(x, 2) + inner(x, 3))
    x = vector(0.5, 1.5, dtype=np.float64)
    np.testing.assert_allclose(outer(x), 5 * np.sin(x))
    assert not inner.executables  # traced through
    np.testing.assert_allclose(graphc.grad(lambda x: inner(x, 2).sum())(x), 2 * np.cos(x))
    np.testing.assert_allclose(graphc.vmap(inner, in_axes=(0, None))(np.stack([x, x]), 2.0), 2 * np.sin(np.stack([x, x])))
    np.testing.assert_allclose(graphc.hessian(lambda x: inner(x, 1).sum())(x), np.diag(-np.sin(x)))
    derivative = graphc.compile(graphc.grad(lambda x: inner(x, 2).sum()))
    np.testing.assert_allclose(derivative(x), 2 * np.cos(x))


def test_executables_inside_a_trace(tmp_path):
    exe = graphc.compile(lambda p, x: {"y": np.tanh(x @ p)}).executable(Spec((3, 2), "f64"), Spec((4, 3), "f64"))
    exe.save(tmp_path / "layer.graphc")
    rng = np.random.default_rng(0)
    p, x = rng.normal(size=(3, 2)), rng.normal(size=(4, 3))
    want = graphc.grad(lambda p: np.tanh(x @ p).sum())(p)
    for layer in (exe, graphc.load(tmp_path / "layer.graphc")):
        np.testing.assert_allclose(graphc.grad(lambda p, layer=layer: layer(p, x)["y"].sum())(p), want)
    with pytest.raises(TypeError, match=r"'p' is f64\[3, 3\], expected f64\[3, 2\]"):
        graphc.trace(lambda p: exe(p, x)["y"], Spec((3, 3), "f64"))


def test_a_failed_trace_leaves_nothing_behind():
    broken = [True]

    @graphc.compile(backend="reference")
    def f(x):
        if broken[0]:
            raise ZeroDivisionError("while tracing")
        return x

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            f(vector(1))
    broken[0] = False
    assert f(vector(1)) == 1


def test_values_that_leave_the_trace():
    kept = []
    f = graphc.compile(lambda x: kept.append(x) or x, backend="reference")
    f(vector(1))
    g = graphc.compile(lambda x: x + 1, backend="reference")
    with pytest.raises(TypeError):
        g(kept[0])
    with pytest.raises(TypeError):
        g.executable(Spec((1,)))(kept[0])


# ------------------------------------------------------------------------------------------------ errors


def test_errors_of_an_executable_name_the_argument(backend):
    f = graphc.compile(lambda params, x, mode="a": x @ params["w"], backend=backend)
    exe = f.executable({"w": Spec((3, 2))}, Spec((4, 3)), mode="a")
    w, x = np.ones((3, 2), np.float32), np.ones((4, 3), np.float32)
    np.testing.assert_array_equal(exe({"w": w}, x, mode="a"), x @ w)
    with pytest.raises(TypeError, match=r"'params.w'.* expected f.*\[3, 2\]"):
        exe({"w": w.T}, x, mode="a")
    with pytest.raises(TypeError, match=r"'x'.* expected f.*\[4, 3\]"):
        exe({"w": w}, x.astype(np.float64), mode="a")
    with pytest.raises(TypeError, match="params: expected a dict with the keys .'w'., got a list of 1"):
        exe([w], x, mode="a")
    with pytest.raises(TypeError, match="params: expected a dict with the keys .'w'., got a dict with the keys .'v', 'w'"):
        exe({"w": w, "v": w}, x, mode="a")
    with pytest.raises(TypeError, match="params.w: expected an array or number, got a list of 2"):
        exe({"w": [w, w]}, x, mode="a")
    with pytest.raises(TypeError, match=r"expected the arguments \(params, x, mode=\), got 1 argument, mode="):
        exe({"w": w}, mode="a")
    with pytest.raises(TypeError, match="compiled for the static value 'a', not 'b'"):
        exe({"w": w}, x, mode="b")


def test_shape_errors_name_operation_types_and_line():
    f = graphc.compile(lambda x, y: x @ y)
    with pytest.raises(TypeError, match=r"(?s)f32\[2, 3\].*f32\[2, 3\].*test_compile.py:\d+"):
        f(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32))


def test_what_the_tracer_refuses_names_the_line():
    f = graphc.compile(lambda x: x if x > 0 else -x)
    with pytest.raises(TracerError, match=r"test_compile.py:\d+.*graphc.cond"):
        f(1.0)


def test_element_types_that_are_not_there():
    f = graphc.compile(lambda x: x)
    for array in (np.array(["a"]), np.array([None]), np.zeros(2, np.longdouble), np.zeros(2, "M8[s]")):
        with pytest.raises(TypeError):
            f(array)


# ------------------------------------------------------------------------------------------------ results


def test_results_are_fresh(backend):
    constant = np.arange(20.0, dtype=np.float32)
    f = graphc.compile(lambda x: (x, x, x.reshape(-1), x + 0, np.asarray(constant), x[1:]), backend=backend)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    first = f(x)
    want = [np.array(r) for r in first]
    second = f(x)
    arrays = [x, constant, *first, *second]
    assert all(not np.may_share_memory(a, b) for k, a in enumerate(arrays) for b in arrays[:k])
    for a in first:
        assert type(a) is np.ndarray and a.flags.writeable and a.flags.c_contiguous
        a[...] = -1
    x[...] = 7
    for a, b in zip(second, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_scalars_come_as_0d_arrays(backend):
    f = graphc.compile(lambda x: (x.sum(), 3, 2.5, True, np.float32(1)), backend=backend)
    got = f(vector(1, 2))
    assert all(type(r) is np.ndarray and r.shape == () for r in got)
    assert [r.dtype.name for r in got] == ["float32", "int64", "float64", "bool", "float32"]


def test_no_arguments_and_no_results(backend):
    assert graphc.compile(lambda: np.float32(2), backend=backend)() == 2
    assert graphc.compile(lambda x: None, backend=backend)(vector(1)) is None
    assert graphc.compile(lambda x: {}, backend=backend)(vector(1)) == {}


# ------------------------------------------------------------------------------------------------ donation


def test_a_donated_array_is_the_result(backend):
    f = graphc.compile(lambda x, y: (x + y, x * y), donate="x", backend=backend)
    x, y = vector(1, 2, 3), vector(10, 20, 30)
    for _ in range(3):
        want_sum, want_product = x + y, x * y
        total, product = f(x, y)
        assert total is x and product is not x
        np.testing.assert_array_equal(total, want_sum)
        np.testing.assert_array_equal(product, want_product)


def test_donated_trees(backend):
    def update(params, grads):
        return {k: p - np.float32(0.5) * grads[k] for k, p in params.items()}, grads

    f = graphc.compile(update, donate="params", backend=backend)
    params, grads = {"b": vector(1, 2), "w": vector(3, 4)}, {"b": vector(2, 2), "w": vector(4, 4)}
    new, _ = f(params, grads)
    assert new["b"] is params["b"] and new["w"] is params["w"]
    np.testing.assert_array_equal(params["w"], [1, 2])


def test_numbers_that_cannot_be_reused_are_no_matter():
    f = graphc.compile(lambda state: {"n": state["n"] + 1, "x": state["x"] * 2}, donate=0)
    x = vector(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = f({"n": 1, "x": x})
    assert got["x"] is x and got["n"] == 2


@pytest.mark.parametrize("kind", ["read-only", "strided", "other order", "shared"])
def test_an_array_that_cannot_be_reused_is_copied_with_one_warning(backend, kind):
    f = graphc.compile(lambda x, y: x + y, donate="x", backend=backend)
    x, y = np.arange(12, dtype=np.float32).reshape(3, 4), np.ones((3, 4), np.float32)
    if kind == "read-only":
        x.flags.writeable = False
    elif kind == "strided":
        x = np.arange(24, dtype=np.float32).reshape(3, 8)[:, ::2]
    elif kind == "other order":
        x = np.asfortranarray(x)
    else:
        y = x
    before = x.copy()
    with pytest.warns(UserWarning, match="copied instead of reused: 'x'") as caught:
        got = f(x, y)
    assert got is not x
    assert [w.filename for w in caught] == [__file__]
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(got, before + y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f(x, y)


def test_overlapping_donated_arrays_are_an_error(backend):
    f = graphc.compile(lambda x, y: (x + 1, y + 2), donate=(0, 1), backend=backend)
    x = np.zeros(6, np.float32)
    with pytest.raises(ValueError, match="donated arguments 'x' and 'y' share memory"):
        f(x, x)
    with pytest.raises(ValueError, match="share memory"):
        f(x[:4], x[2:])
    assert not x.any()
    a, b = f(x[:3], x[3:])
    np.testing.assert_array_equal(x, [1, 1, 1, 2, 2, 2])
    assert np.shares_memory(a, x) and np.shares_memory(b, x)


def test_donation_without_a_result_of_the_type_warns_once():
    f = graphc.compile(lambda x: x.sum(), donate="x", backend="reference")
    with pytest.warns(UserWarning, match="donated to <lambda>, but no result has their type: 'x'"):
        f(vector(1, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f(vector(1, 2))


def test_memory_goes_to_the_result_that_is_computed_from_it():
    def step(w, m, x):
        gradient = x.T @ (x @ w)
        m2 = 0.9 * m + gradient
        return gradient, w - 0.1 * m2, m2

    spec = Spec((4, 4))
    graph = graphc.trace(step, spec, spec, spec)
    assert match_donations(graph, [0, 1]) == ((0, 1), (1, 2))
    assert match_donations(graph, [0, 1, 2]) == ((0, 1), (1, 2), (2, 0))
    assert match_donations(graph, []) == ()
    swap = graphc.trace(lambda x, y: (y, x), spec, spec)
    assert match_donations(swap, [0, 1]) == ((0, 1), (1, 0))


def test_swapped_donations(backend):
    f = graphc.compile(lambda x, y: (y + 1, x + 1), donate=(0, 1), backend=backend)
    x, y = vector(1, 2), vector(3, 4)
    a, b = f(x, y)
    assert {id(a), id(b)} == {id(x), id(y)}
    np.testing.assert_array_equal(a, [4, 5])
    np.testing.assert_array_equal(b, [2, 3])


def test_donation_into_a_result_that_needs_the_old_value_elsewhere(backend):
    f = graphc.compile(lambda x, y: (x @ y, (x * y).sum(axis=0), x[::-1] + x), donate="x", backend=backend)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 5)), rng.normal(size=(5, 5))
    want = x @ y, (x * y).sum(axis=0), x[::-1] + x
    got = f(x, y)
    assert any(r is x for r in got)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b)


# ------------------------------------------------------------------------------------------------ looking inside


def test_stages_walk_back():
    exe = graphc.compile(lambda w, x: np.tanh(x @ w).sum(axis=1)).executable(Spec((64, 32)), Spec((16, 64)))
    assert exe.plan.schedule.graph is exe.graph
    assert exe.schedule.graph is exe.graph
    assert "tanh" in str(exe.traced) and "tanh" in exe.source and "test_compile.py" in exe.traced.to_text(lines=True)
    assert "inline_calls" in str(exe.report)
    assert exe.memory.peak == exe.plan.peak_bytes >= exe.memory.lower_bound
    assert exe.memory.inputs == 4 * (64 * 32 + 16 * 64) and exe.memory.outputs == 64
    assert exe.cost.flops >= 2 * 16 * 32 * 64 and exe.cost.kernels == len(list(exe.schedule.kernels))
    assert "operations" in str(exe.cost) and "planned peak" in str(exe.memory)
    assert set(exe.seconds) >= {"trace", "cache", "link"}
    assert "2 inputs, 1 outputs" in repr(exe)
    assert "<svg" in exe._repr_html_() or "digraph" in exe._repr_html_() or "pre" in exe._repr_html_()


def test_cost_counts_bodies_as_often_as_they_run():
    def f(x):
        return graphc.scan(lambda c, _: (c * 2 + 1, c.sum()), x, length=10)

    def g(x):
        return graphc.while_loop(lambda c: c[0] < 10, lambda c: c + 1, x)

    cost = graphc.compile(f).executable(Spec((8,))).cost
    assert cost.exact and cost.flops == 10 * (8 + 8 + 8)
    cost = graphc.compile(g).executable(Spec((8,))).cost
    assert not cost.exact and str(cost).startswith("at least")


def test_what_was_widened_is_told():
    exe = graphc.compile(lambda x: x * np.sqrt(64)).executable(Spec((2,)))
    assert any(note.startswith("float64 from") and "test_compile.py" in note for note in exe.notes)


# ------------------------------------------------------------------------------------------------ values


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_special_values_pass_through():
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 3e38], np.float32)
    f = graphc.compile(lambda x: (x * 1, np.maximum(x, 0), np.exp(x), x.sum(), x.max(), x / 0, np.sqrt(x)))
    for a, b in zip(f(special), (special, np.maximum(special, 0), np.exp(special), special.sum(), special.max(),
                                 special / np.float32(0), np.sqrt(special)), strict=True):  # fmt: skip
        np.testing.assert_allclose(a, b, rtol=1e-6)
        np.testing.assert_array_equal(np.signbit(a)[~np.isnan(a)], np.signbit(b)[~np.isnan(b)])


def test_empty_arrays():
    f = graphc.compile(lambda x, w: (x @ w, x.sum(axis=0), (x @ w).sum(), np.tanh(x), x.T))
    x, w = np.zeros((0, 3), np.float32), np.ones((3, 2), np.float32)
    got = f(x, w)
    assert [r.shape for r in got] == [(0, 2), (3,), (), (0, 3), (3, 0)]
    assert not got[1].any() and got[2] == 0
