"""Derivatives and vectorisation: values, nesting, composition, errors, and the graphs that they make."""

from __future__ import annotations

import gc
import math
import os
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from compare import traced
from faults import run_script
from hypothesis import given
from hypothesis import strategies as st

import graphc
from graphc import (
    check_grads,
    grad,
    hessian,
    hvp,
    jacfwd,
    jacobian,
    jacrev,
    jvp,
    ops,
    stop_gradient,
    value_and_grad,
    vjp,
    vmap,
)
from graphc.autodiff import vjp_nodes
from graphc.ir import Builder, Graph
from graphc.types import TensorType, f64
from graphc.verifier import verify

X = np.random.default_rng(0).normal(size=(2, 3))
V = np.random.default_rng(1).normal(size=3)
Pair = namedtuple("Pair", "left right")


@dataclass
class Layer:
    w: Any
    b: Any


def everywhere(function: Callable[..., Any], *args: Any) -> list[Any]:
    """What ``function`` gives on arrays, inside a trace, and compiled for the reference backend."""
    compiled = graphc.compile(function, backend="reference")
    return [function(*args), traced(function, *args), compiled(*args)]


def close(have: Any, want: Any, tolerance: float = 1e-12) -> None:
    want = np.array(want) if isinstance(want, list) else want
    one, other = graphc.tree.flatten(have), graphc.tree.flatten(want)
    assert one[1] == other[1]
    for a, b in zip(one[0], other[0], strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def names(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


# ------------------------------------------------------------------------------------------------ the textbook


def textbook(x: Any, y: Any, z: Any) -> Any:
    return (x + y) * (x + z)


POINT = (-2.0, 5.0, -4.0)


def test_textbook_gradient_in_one_pass() -> None:
    for value, gradient in everywhere(value_and_grad(textbook, argnums=(0, 1, 2)), *POINT):
        assert float(value) == -18 and tuple(map(float, gradient)) == (-3, -6, 3)
    graph = graphc.trace(value_and_grad(textbook, argnums=(0, 1, 2)), *POINT)
    verify(graph)
    value, dx, dy, dz = graph.outputs
    q, r = value.inputs
    assert names(graph).count("add") == 3, "two forward, and the sum of the two paths to x"
    assert {a for o, p, a in graph.adjoints if p is q} == {dy}, "the adjoint of q is r times 1"
    assert dx.inputs == (dz, dy) or dx.inputs == (dy, dz)
    assert {o for o, _, _ in graph.adjoints} == {1}


def test_textbook_second_derivatives() -> None:
    want = np.array([[2.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    for found in everywhere(hessian(lambda v: textbook(*v)), np.array(POINT)):
        np.testing.assert_array_equal(found, want)
    for found in everywhere(hessian(textbook, argnums=(0, 1, 2)), *POINT):
        np.testing.assert_array_equal(np.array([[float(v) for v in row] for row in found]), want)


def test_roles_are_printed() -> None:
    text = graphc.text.to_text(graphc.trace(value_and_grad(textbook, argnums=(0, 1, 2)), *POINT), roles=True)
    assert text.count("# adjoint of") == 4
    second = graphc.trace(lambda x: (grad(np.sin)(x), grad(grad(np.sin))(x)), 1.0)
    assert {order for order, _, _ in second.adjoints} == {1, 2}
    rows = graphc.trace(vmap(value_and_grad(lambda v: np.sin(textbook(*v)))), np.array([POINT]))
    assert len(rows.adjoints) > 3, "batched adjoints stay adjoints"


# ------------------------------------------------------------------------------------------------ grad


def test_gradients_nest_as_arguments() -> None:
    def loss(params: Any, x: Any) -> Any:
        h = np.tanh(x @ params["in"].w + params["in"].b)
        return (h * params["out"][0]).sum() + params["pair"].left * params["pair"].right

    params = {"in": Layer(X.T.copy(), V[:2]), "out": [2.0, None], "pair": Pair(np.float64(3), 4.0)}
    for found in everywhere(grad(loss), params, X):
        assert list(found) == ["in", "out", "pair"] and type(found["in"]) is Layer and type(found["pair"]) is Pair
        assert found["out"][1] is None and float(found["pair"].left) == 4
        assert found["in"].w.shape == (3, 2) and found["in"].b.shape == (2,)
    check_grads(loss, (params, X))


def test_argnums_has_aux_and_keywords() -> None:
    def f(x: Any, y: Any, scale: Any = 1.0) -> Any:
        return (x * y).sum() * scale

    close(grad(f)(V, 2 * V), 2 * V)
    close(grad(f, argnums=1)(V, 2 * V, scale=3.0), 3 * V)
    close(grad(f, argnums=-1)(V, 2 * V), V)
    close(grad(f, argnums=(1, 0))(V, 2 * V), (V, 2 * V))
    close(grad(f, argnums=[0])(V, 2 * V), (2 * V,))

    def with_aux(x: Any) -> Any:
        e = np.exp(x - x.max())
        p = e / e.sum()
        return (p**2).sum(), {"p": p, "n": 3}

    for (value, aux), gradient in everywhere(value_and_grad(with_aux, has_aux=True), V):
        p = np.exp(V) / np.exp(V).sum()
        close(aux["p"], p)
        close(value, (p**2).sum())
        close(gradient, 2 * p * (p - (p**2).sum()))
        assert int(aux["n"]) == 3
    gradient, aux = grad(with_aux, has_aux=True)(V)
    assert aux["p"].shape == (3,) and gradient.shape == (3,)


def test_results_are_zero_where_nothing_depends() -> None:
    close(grad(lambda x: 3.0)(V), 0 * V)
    close(grad(lambda x, y: (y**2).sum())(V, X), 0 * V)
    close(grad(lambda x: np.floor(x).sum() + np.argmax(x))(V), 0 * V)
    close(grad(lambda x: stop_gradient(x**2).sum() + x[0])(V), np.eye(3)[0])


def test_errors_of_grad() -> None:
    cases: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (
            lambda: grad(lambda x: x * 2)(V),
            TypeError,
            r"grad needs a scalar loss, this one is f64\[3\].*\.mean\(\).*jacobian",
        ),
        (
            lambda: grad(lambda x: (x.sum(), x))(V),
            TypeError,
            "returned a tuple; return the loss alone, or .* has_aux=True",
        ),
        (lambda: grad(lambda x: None)(V), TypeError, "returned a NoneType"),
        (
            lambda: grad(lambda x: x.sum(), has_aux=True)(V),
            TypeError,
            r"has_aux=True needs a function that returns \(loss, aux\)",
        ),
        (lambda: grad(lambda x: x.sum().astype(int))(V), TypeError, "real floating loss, this one is i64"),
        (lambda: grad(lambda x: x)(3), TypeError, r"grad: argument 0 is i64; .*write 3.0 for 3.*argnums"),
        (lambda: grad(lambda p: p["w"])({"w": 1.0, "n": np.arange(3)}), TypeError, r"argument 0 \(n\) is i64\[3\]"),
        (lambda: grad(lambda p: p["w"])({"w": 1.0, "n": "name"}), TypeError, r"argument 0 \(n\) is a str"),
        (lambda: grad(lambda x: x)(True), TypeError, "argument 0 is bool"),
        (lambda: grad(lambda x: x, argnums=1)(1.0), ValueError, "argnums=1 for a call with 1 positional argument;"),
        (lambda: grad(lambda x, y: x, argnums=(0, -2))(1.0, 2.0), ValueError, "names an argument twice"),
        (lambda: grad(lambda x: x, argnums="x")(1.0), ValueError, "argnums='x'"),
        (lambda: grad(lambda x: x)(x=1.0), ValueError, "0 positional arguments.*must be given by position"),
        (
            lambda: grad(lambda x: graphc.while_loop(lambda v: v < 9, lambda v: v * 2, x))(1.0),
            TypeError,
            r"while_loop has no reverse-mode.*fori_loop",
        ),
    ]
    for call, kind, message in cases:
        with pytest.raises(kind, match=message):
            call()


# ------------------------------------------------------------------------------------------------ nesting


def test_derivatives_of_derivatives() -> None:
    f = np.sin
    derivatives = [np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x), np.sin]
    for want in derivatives:
        f = grad(f)
        for found in everywhere(f, 0.7):
            close(found, want(0.7))


def deep(x: Any) -> Any:
    return np.exp(2 * x) * np.sin(x)


FORWARD: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda f: lambda x: jvp(f, (x,), (1.0,))[1]  # noqa: E731
PULLED: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda f: lambda x: vjp(f, x)[1](1.0)[0]  # noqa: E731


@given(st.lists(st.sampled_from([grad, FORWARD, PULLED, jacfwd, jacrev]), min_size=4, max_size=4))
def test_law_any_four_modes_agree(modes: list[Any]) -> None:
    f = deep
    for mode in modes:
        f = mode(f)
    close(f(0.3), (-7 * math.sin(0.3) + 24 * math.cos(0.3)) * math.exp(0.6), 1e-9)


def test_perturbations_are_not_confused() -> None:
    close(grad(lambda x: x * grad(lambda y: x + y)(x))(1.0), 1.0)
    close(grad(lambda x: x * grad(lambda y: x * y)(2.0))(3.0), 6.0)
    close(grad(lambda x: grad(lambda y: x * x * y)(x))(3.0), 6.0)
    close(FORWARD(lambda x: x * FORWARD(lambda y: x + y)(x))(1.0), 1.0)
    close(FORWARD(lambda x: x * grad(lambda y: x * y * y)(x))(2.0), 24.0)
    close(grad(lambda x: FORWARD(lambda y: stop_gradient(x) * y * x)(x))(3.0), 3.0)
    close(grad(lambda x: x * vmap(lambda y: grad(lambda z: x * z * y)(x))(np.ones(3)).sum())(2.0), 12.0)
    # Manzyuk et al. (2019), "Perturbation confusion in forward automatic differentiation of higher-order functions".
    shift = lambda f: lambda x: FORWARD(lambda d: f(x + d))(0.0)  # noqa: E731
    close(shift(shift(lambda x: x**3))(2.0), 12.0)
    close(grad(lambda u: shift(lambda t: grad(lambda s: s * t * u)(1.0))(5.0))(4.0), 1.0)

    # The same node as argument and as closed-over value, at two levels of one function.
    def outer(x: Any) -> Any:
        y = x * x
        return grad(lambda a: a * y + grad(lambda b: b * y * a)(y))(y)

    close(grad(outer)(3.0), 12.0)


def test_transforms_compose_with_control_flow_inside_a_trace() -> None:
    def step(w: Any, x: Any) -> Any:
        loss = lambda w: ((np.tanh(x @ w)) ** 2).mean()  # noqa: E731
        for _ in range(2):
            w = w - 0.1 * grad(loss)(w)
        return loss(w)

    w = V.copy()
    found = everywhere(grad(step), w, X)
    close(found[1], found[0])
    close(found[2], found[0])
    check_grads(step, (w, X), order=2)


# ------------------------------------------------------------------------------------------------ vjp, jvp


def test_vjp_and_jvp_nest() -> None:
    def f(p: Any, x: Any) -> Any:
        return {"y": p["w"] @ x, "n": (np.sin(x), p["b"] * 2)}

    p = {"w": X, "b": 3.0}
    out, pullback = vjp(f, p, V)
    cotangent = {"n": (np.ones(3), 0.5), "y": np.array([1.0, 2.0])}
    found = pullback(cotangent)
    close(found, ({"w": np.outer([1.0, 2.0], V), "b": np.float64(1.0)}, X.T @ [1.0, 2.0] + np.cos(V)))
    close(out["y"], X @ V)
    primal, tangent = jvp(f, (p, V), ({"w": X, "b": 1.0}, V))
    close(tangent, {"y": 2 * X @ V, "n": (V * np.cos(V), np.float64(2.0))})
    close(primal["y"], X @ V)

    def symbolic(p: Any, x: Any) -> Any:
        out, pull = vjp(f, p, x)
        return pull(out), jvp(f, (p, x), (p, x))

    traced_pull, traced_pair = traced(symbolic, p, V)
    close(traced_pull, pullback(out))
    close(traced_pair[1]["y"], 2 * X @ V)


def test_vjp_and_jvp_with_aux() -> None:
    out, pullback, aux = vjp(lambda x: (x**2, x + 1), V, has_aux=True)
    close((out, aux, pullback(np.ones(3))), (V**2, V + 1, (2 * V,)))
    close(jvp(lambda x: (x**2, x + 1), (V,), (V,), has_aux=True), (V**2, 2 * V * V, V + 1))


def test_errors_of_vjp_and_jvp() -> None:
    _, pullback = vjp(lambda x: {"a": x, "b": x * 2}, V)
    with pytest.raises(
        TypeError,
        match=r"vjp: the cotangent expected a dict with the keys \['a', 'b'\], got a dict with the keys \['a'\]",
    ):
        pullback({"a": V})
    with pytest.raises(TypeError, match=r"the cotangent at 'b' should be f64\[3\], not f64\[2\]"):
        pullback({"a": V, "b": V[:2]})
    with pytest.raises(TypeError, match="jvp: 1 primals, 2 tangents"):
        jvp(np.sin, (1.0,), (1.0, 2.0))
    with pytest.raises(TypeError, match="jvp: the tangent expected a tuple of 2, got a list of 2"):
        jvp(lambda x: x[0], ((1.0, 2.0),), ([1.0, 2.0],))
    with pytest.raises(TypeError, match=r"vjp: argument 1 is i64\[3\].*close over it"):
        vjp(lambda x, k: x[k], V, np.arange(3))


# ------------------------------------------------------------------------------------------------ vmap


def test_vmap_in_and_out_axes() -> None:
    a, b = np.arange(6.0).reshape(2, 3), np.arange(8.0).reshape(4, 2)
    close(vmap(lambda x: x.sum())(a), a.sum(1))
    close(vmap(lambda x: x.sum(), in_axes=1)(a), a.sum(0))
    close(vmap(lambda x: x * 2, in_axes=-1, out_axes=-1)(a), a * 2)
    close(vmap(lambda x: x * 2, out_axes=1)(a), 2 * a.T)
    close(vmap(lambda x, y: x * y, in_axes=(0, None))(a, V), a * V)
    close(vmap(lambda x, y: np.outer(x, y), in_axes=(0, 1), out_axes=2)(a, b), np.einsum("bi,jb->ijb", a, b))
    close(vmap(lambda p, s: p["w"] @ p["b"] * s, in_axes=({"w": 0, "b": None}, None))({"w": np.ones((5, 2, 3)), "b": V}, 2.0),
          np.full((5, 2), 2 * V.sum()))  # fmt: skip
    close(vmap(lambda p: p["w"]["a"] + p["b"], in_axes=({"w": None, "b": 0},))({"w": {"a": V}, "b": a}), V + a)
    close(vmap(lambda x: {"a": x, "c": (x.sum(), 3.0)}, out_axes={"a": 1, "c": (0, None)})(a),
          {"a": a.T, "c": (a.sum(1), np.float64(3.0))})  # fmt: skip
    close(vmap(lambda x: (x, np.ones(2)))(a), (a, np.ones((2, 2))))
    close(vmap(lambda x, y=None: x + y)(a, y=a), 2 * a)
    close(vmap(lambda x: x, in_axes=[0])(a), a)


def test_vmaps_nest_and_take_other_transforms() -> None:
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(4, 3)
    rows = vmap(vmap(lambda x, y: x @ y, in_axes=(None, 0)), in_axes=(0, None))
    for found in everywhere(rows, a, b):
        close(found, a @ b.T)
    close(vmap(vmap(lambda x: np.sin(x)))(a), np.sin(a))
    close(vmap(grad(lambda x: (x**3).sum()))(a), 3 * a**2)
    close(grad(lambda a: (vmap(np.sin)(a) ** 2).sum())(a), 2 * np.sin(a) * np.cos(a))
    close(vmap(hessian(lambda x: (x**3).sum()))(a), np.einsum("bi,ij->bij", 6 * a, np.eye(3)))
    close(vmap(lambda x: jvp(np.sin, (x,), (2.0,))[1])(V), 2 * np.cos(V))
    one = grad(lambda w, x, y: (np.tanh(x @ w) - y) ** 2)
    close(vmap(one, in_axes=(None, 0, 0))(V, X, np.array([0.0, 1.0])), [one(V, X[0], 0.0), one(V, X[1], 1.0)])


def test_vmap_of_many_kinds_of_operations() -> None:
    keys = np.array([graphc.random.key(k) for k in range(3)])
    index, x = np.array([[0, 1], [2, 2], [1, 0]]), np.arange(12.0).reshape(3, 4) - 5

    def each(row: Any, i: Any, key: Any) -> Any:
        y = row + 0
        y[i] += 10
        return (
            row[i],
            np.sort(row),
            np.argmax(row),
            np.where(row > 0, row, 0),
            np.concatenate([row, row[:1]]),
            y,
            row[:, None] @ row[None],
            np.prod(row),
            np.pad(row, 1),
            graphc.random.uniform(key, 2),
            row[1],
        )

    found = vmap(each)(x, index, keys)
    for k in range(3):
        want = traced(each, x[k], index[k], keys[k])
        for have, one in zip(found, want, strict=True):
            close(have[k], one)


def test_errors_of_vmap() -> None:
    a = np.ones((2, 3))
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: vmap(lambda x, y: x, in_axes=(0,))(a, a), "in_axes has 1 entries for 2 arguments"),
        (lambda: vmap(lambda x: x, in_axes=None)(a), "no argument is mapped"),
        (lambda: vmap(lambda x, y: x)(a, V), r"different lengths \[2, 3\]"),
        (lambda: vmap(lambda x: x)(1.0), "axis 0 of an argument with 0 axes; in_axes=None leaves"),
        (lambda: vmap(lambda x: x, in_axes=2)(a), "axis 2 of an argument with 2 axes"),
        (
            lambda: vmap(lambda x: x, in_axes=({"a": 0},))({"b": a}),
            r"in_axes=.* does not match: expected a dict with the keys \['b'\]",
        ),
        (lambda: vmap(lambda x: x, in_axes="0")(a), "in_axes holds ints and None, not '0'"),
        (lambda: vmap(lambda x: x, out_axes=2)(a), "out_axes 2 for the output with 2 axes"),
        (lambda: vmap(lambda x: x, out_axes=None)(a), "depends on a mapped argument"),
        (lambda: vmap(lambda x: (x, x), out_axes=(0, 0, 0))(a), "out_axes=.*does not match"),
    ]
    for call, message in cases:
        with pytest.raises((ValueError, TypeError), match=message):
            call()


# ------------------------------------------------------------------------------------------------ Jacobians


def test_jacobians_agree_and_nest() -> None:
    def f(p: Any, x: Any) -> Any:
        return {"y": np.tanh(p["w"] @ x), "s": (x**2).sum() * p["b"]}

    args = ({"w": X, "b": np.float64(2.0)}, V)
    forward, reverse = jacfwd(f, argnums=(0, 1))(*args), jacrev(f, argnums=(0, 1))(*args)
    close(forward, reverse)
    assert (
        forward["y"][0]["w"].shape == (2, 2, 3) and forward["y"][1].shape == (2, 3) and forward["s"][0]["b"].shape == ()
    )
    close(jacobian(lambda x: X @ x)(V), X)
    close(jacfwd(lambda x: np.sin(x).reshape(3, 1))(V), np.diag(np.cos(V)).reshape(3, 1, 3))
    for found in everywhere(jacrev(lambda x: x[None] * x[:, None]), V):
        close(found, np.einsum("ik,j->ijk", np.eye(3), V) + np.einsum("jk,i->ijk", np.eye(3), V))
    close(jacrev(lambda x: 3.0)(V), 0 * V)
    with pytest.raises(TypeError, match="jacrev: the output k is i64"):
        jacrev(lambda x: {"k": np.argmax(x), "x": x})(V)
    with pytest.raises(TypeError, match="jacfwd: the output is bool"):
        jacfwd(lambda x: x > 0)(V)


def test_hessians_and_products() -> None:
    def f(x: Any) -> Any:
        return np.sin(x).prod() + (x**4).sum()

    h = hessian(f)(V)
    close(h, jacrev(grad(f))(V))
    close(h, jacfwd(jacfwd(f))(V))
    close(hvp(f)(V, np.ones(3)), h @ np.ones(3))
    close(traced(hvp(f), V, V), h @ V)
    nested = hessian(lambda p: (p["a"] ** 2 * p["b"]).sum())({"a": V, "b": np.float64(2.0)})
    close(nested["a"]["b"], 2 * V)
    close(nested["b"]["a"], 2 * V)
    close(nested["a"]["a"], 4 * np.eye(3))
    close(hvp(lambda x, y: (x * y**2).sum(), argnums=1)(V, 2 * V, V), 2 * V * V)
    with pytest.raises(TypeError, match="the vector comes after the arguments"):
        hvp(f)(V)
    with pytest.raises(ValueError, match="argnums=1 for a call with 1"):
        hvp(f, argnums=1)(V, V)


def test_graphs_do_not_grow_with_the_number_of_outputs() -> None:
    def f(x: Any) -> Any:
        return np.tanh(x * 2) * x.sum()

    for transform in (jacrev, jacfwd, lambda f: hessian(lambda x: f(x).sum())):
        sizes = [len(graphc.trace(transform(f), np.ones(n)).nodes) for n in (2, 5, 50)]
        assert len(set(sizes)) == 1, sizes


# ------------------------------------------------------------------------------------------------ rules of one's own


def clipped_square() -> Any:
    @graphc.custom_vjp
    def f(x: Any) -> Any:
        return x * x

    f.defvjp(lambda x: (x * x, x), lambda x, ct: (np.clip(2 * x * ct, -1, 1),))
    return f


def test_custom_vjp_everywhere() -> None:
    f = clipped_square()
    assert f(3.0) == 9.0 and f.__name__ == "f"
    for found in everywhere(grad(lambda x: f(x) * 3), 5.0):
        close(found, 1.0)
    close(vmap(grad(f))(np.array([0.1, 5.0, -5.0])), [0.2, 1.0, -1.0])
    close(grad(lambda x: vmap(f)(x).sum())(np.array([0.1, 5.0, -5.0])), [0.2, 1.0, -1.0])
    close(grad(lambda x: vmap(lambda k: f(x) * k)(np.array([0.01, 0.02])).sum())(2.0), 0.04 + 0.08)
    close(jacrev(f)(np.array(0.25)), 0.5)
    close(grad(grad(f))(0.25), 2.0)
    close(grad(lambda x: graphc.scan(lambda c, _: (f(c) * 0.5, None), x, length=2)[0])(0.5), 0.0625)
    close(hessian(lambda x: f(x) + x**2)(0.25), 4.0)
    for forward in (lambda: jvp(f, (1.0,), (1.0,)), lambda: jacfwd(f)(1.0)):
        with pytest.raises(TypeError, match="f has a custom VJP and therefore no forward-mode derivative"):
            forward()


def test_custom_vjp_trees_integers_and_statics() -> None:
    @graphc.custom_vjp
    def pick(params: Any, k: Any, mode: str, unused: Any) -> Any:
        return {"value": params["w"][k] * params["b"], "k": k}

    def backward(residuals: Any, ct: Any) -> Any:
        w, k, b = residuals
        assert ct["k"] is None
        dw = np.zeros_like(w)
        dw[k] += 100 * ct["value"] * b
        return {"b": None, "w": dw}, None, None, None

    pick.defvjp(lambda p, k, mode, unused: (pick.fun(p, k, mode, unused), (p["w"], k, p["b"])), backward)
    params = {"w": V, "b": 2.0}
    loss = lambda p: pick(p, 1, "mode", 4.0)["value"]  # noqa: E731
    close(grad(loss)(params), {"w": np.array([0, 200.0, 0]), "b": np.float64(0)})
    close(grad(lambda p: pick(p, unused=1.0, mode="m", k=2)["value"])(params)["w"], [0, 0, 200.0])


def test_custom_vjp_closures() -> None:
    def outer(w: Any, x: Any) -> Any:
        @graphc.custom_vjp
        def f(x: Any) -> Any:
            return w * x**2

        f.defvjp(lambda x: (w * x**2, (w, x)), lambda r, ct: (10 * r[0] * r[1] * ct,))
        return f(x)

    for found in everywhere(grad(outer, argnums=(0, 1)), 3.0, 2.0):
        close(found, (np.float64(4.0), np.float64(60.0)))
    close(vmap(grad(outer, argnums=1), in_axes=(0, None))(np.array([1.0, 2.0]), 2.0), [20.0, 40.0])
    close(vmap(grad(outer, argnums=0), in_axes=(None, 0))(1.0, np.array([1.0, 2.0])), [1.0, 4.0])

    def solver(w: Any, x: Any) -> Any:
        @graphc.custom_vjp
        def root(x: Any) -> Any:
            return graphc.while_loop(lambda y: abs(y * y - w) > 1e-12, lambda y: (y + w / y) / 2, x)

        root.defvjp(lambda x: (root.fun(x), None), lambda _, ct: (0 * ct,))
        return root(x)

    with pytest.raises(TypeError, match=r"root closes over traced values(.|\n)*Pass them as arguments"):
        grad(solver)(2.0, 1.0)


def test_custom_vjp_for_an_implicit_function() -> None:
    @graphc.custom_vjp
    def root(w: Any) -> Any:
        return graphc.while_loop(lambda y: abs(y * y - w) > 1e-12, lambda y: (y + w / y) / 2, w)

    def forward(w: Any) -> Any:
        y = root(w)
        return y, y

    root.defvjp(forward, lambda y, ct: (ct / (2 * y),))
    close(traced(root, 2.0), math.sqrt(2), 1e-12)
    close(grad(lambda w: root(w) ** 3)(2.0), 1.5 * math.sqrt(2), 1e-10)


def test_errors_of_custom_vjp() -> None:
    def rules(fwd: Any, bwd: Any) -> Any:
        f = graphc.custom_vjp(lambda x: x * 2)
        f.defvjp(fwd, bwd)
        return lambda: grad(lambda x: f(x).sum())(V)

    cases = [
        (rules(lambda x: x * 2, lambda r, ct: (ct,)), r"fwd rule of .* must return \(output, residuals\)"),
        (rules(lambda x: ((x, x), None), lambda r, ct: (ct,)), "fwd rule of .* returned outputs"),
        (
            rules(lambda x: (x * 2, None), lambda r, ct: ct),
            "must return a tuple of 1 cotangents, one per argument, not a Tracer",
        ),
        (rules(lambda x: (x * 2, None), lambda r, ct: (ct, ct)), "one per argument, not 2"),
        (
            rules(lambda x: (x * 2, None), lambda r, ct: (ct.sum(),)),
            r"returned a cotangent f64 for an argument f64\[3\]",
        ),
        (lambda: grad(graphc.custom_vjp(lambda x: x))(1.0), "custom_vjp without rules"),
    ]
    for call, message in cases:
        with pytest.raises(TypeError, match=message):
            call()


# ------------------------------------------------------------------------------------------------ checkpoint


def test_checkpoint_keeps_values_and_recomputes() -> None:
    def block(x: Any, w: Any, flag: bool = True) -> Any:
        return np.tanh(np.sin(x * w)) if flag else x

    def loss(x: Any, w: Any, wrap: Any) -> Any:
        for k in range(3):
            x = wrap(block)(x, w[k], flag=True)
        return (x**2).sum()

    w = np.array([0.5, 1.5, 2.0])
    plain = lambda x, w: loss(x, w, lambda f: f)  # noqa: E731
    saved = lambda x, w: loss(x, w, graphc.checkpoint)  # noqa: E731
    for found in everywhere(value_and_grad(saved, argnums=(0, 1)), V, w):
        close(found, value_and_grad(plain, argnums=(0, 1))(V, w))
    check_grads(saved, (V, w), order=2)
    close(vmap(grad(saved), in_axes=(0, None))(X, w), vmap(grad(plain), in_axes=(0, None))(X, w))
    close(hessian(saved)(V, w), hessian(plain)(V, w))

    def inlined(graph: Graph) -> list[str]:
        """The ops with the bodies of calls in place, as passes see them."""
        found = []
        for node in graph.nodes:
            found += [n.op.name for n in node["body"].nodes] if node.op.name == "call" else [node.op.name]
        return found

    plain_ops = inlined(graphc.trace(grad(plain), V, w))
    saved_ops = inlined(graphc.trace(grad(saved), V, w))
    assert plain_ops.count("sin") == 3 and saved_ops.count("sin") == 6, "each is computed again for the backward pass"
    assert saved_ops.count("barrier") == 3 * 2 and plain_ops.count("barrier") == 0


# ------------------------------------------------------------------------------------------------ the rest


def test_stop_gradient_of_trees() -> None:
    value = {"a": V, "b": (1.0, None)}
    assert stop_gradient(value) is value
    close(grad(lambda p: (p["a"] * stop_gradient(p)["a"]).sum())({"a": V})["a"], V)


def test_transforms_outside_see_plain_values() -> None:
    gradient = grad(lambda x: (x**2).sum())(np.ones(3, np.float32))
    assert type(gradient) is np.ndarray and gradient.dtype == np.float32
    gradient[0] = 7  # fresh and writable
    big_endian = np.ones(3, ">f4")
    assert grad(lambda x: (x**2).sum())(big_endian).dtype == np.float32
    assert grad(lambda x: (x[::2] ** 2).sum())(np.ones((6, 6))[::2, 0]).shape == (3,)


def test_names_and_docstrings_are_kept() -> None:
    def loss(x: Any) -> Any:
        """The loss."""
        return x.sum()

    assert grad(loss).__name__ == "grad_loss" and grad(loss).__doc__ == "The loss."
    assert vmap(lambda x: x).__name__ == "vmap_lambda"


def test_mixed_precision() -> None:
    def loss(w: Any, x: Any) -> Any:
        return (x.astype(np.float16) @ w.astype(np.float16)).astype(np.float32).sum()

    gradient = grad(loss)(V.astype(np.float32), X.astype(np.float32))
    assert gradient.dtype == np.float32
    close(gradient.astype(np.float64), X.sum(0), 1e-2)


def test_check_grads_finds_mistakes() -> None:
    wrong = clipped_square()
    with pytest.raises(AssertionError, match="check_grads: order 1, rev: ⟨ct, J v⟩ is .* by differences"):
        check_grads(wrong, (5.0,), order=1, modes=("rev",))
    check_grads(wrong, (0.1,), order=1, modes=("rev",))
    half_right = graphc.custom_vjp(lambda x: x * x)
    half_right.defvjp(lambda x: (x * x, x), lambda x, ct: (2 * stop_gradient(x) * ct,))
    with pytest.raises(AssertionError, match="order 2"):
        check_grads(half_right, (V,), order=2, modes=("rev",))
    with pytest.raises(TypeError, match="no float among the arguments"):
        check_grads(lambda x: x, (3,))
    with pytest.raises(ValueError, match="modes are"):
        check_grads(lambda x: x, (3.0,), modes=("forward",))
    check_grads(lambda p, k: p["w"][k] * 2, ({"w": V}, np.array([0, 2])), order=2)
    check_grads(lambda x: np.exp(x), (np.ones(3, np.float32),), order=2)


def test_the_collector_is_as_before_after_a_transform() -> None:
    """It is paused meanwhile, also where the function raises, and left alone where it was off."""

    def fails(x: Any) -> Any:
        assert not gc.isenabled()
        raise ZeroDivisionError

    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            with pytest.raises(ZeroDivisionError):
                grad(fails)(1.0)
            assert gc.isenabled() == enabled
        finally:
            gc.enable()


def test_cotangents_that_nobody_asks_for_are_not_made() -> None:
    for op in (ops.div, ops.matmul):
        with Builder() as builder:
            x, y = (builder.input(name, TensorType(f64, (2, 2))) for name in "xy")
            product = op(x, y)
            before = set(builder._interned.values())
            (found,) = vjp_nodes([product], [x], [x])
            graph = builder.graph([found])  # type: ignore[list-item]
            made = set(builder._interned.values()) - before
        assert made == set(graph.nodes) - {x, y, product}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_collector_runs_in_a_child_of_a_process_that_paused_it() -> None:
    """Another thread traces while this one forks: the child has no such thread, and its collector runs."""
    script = (
        "import gc, os, threading\n"
        "from graphc.collecting import collector_paused\n"
        "inside, go = threading.Event(), threading.Event()\n"
        "def hold():\n    with collector_paused():\n        inside.set(); go.wait()\n"
        "threading.Thread(target=hold, daemon=True).start(); inside.wait()\n"
        "before = gc.isenabled(); child = os.fork()\n"
        "if child == 0:\n    os._exit(int(not gc.isenabled()))\n"
        "print(before, os.waitpid(child, 0)[1]); go.set()"
    )
    assert run_script(script) == "False 0\n"
