"""Control flow that stays in the graph, against the Python it stands for: values, derivatives, vmap, types, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compare import traced

import graphc
from graphc import (
    check_grads,
    cond,
    fori_loop,
    grad,
    hessian,
    jacfwd,
    jvp,
    ops,
    scan,
    switch,
    value_and_grad,
    vmap,
    while_loop,
)
from graphc.autodiff import vjp_graph
from graphc.interpreter import evaluate
from graphc.ir import Builder
from graphc.ops.control import call
from graphc.types import TensorType, f64
from graphc.verifier import verify

X = np.random.default_rng(0).normal(size=(4, 3))
W = np.random.default_rng(1).normal(size=(3, 3))


def close(have: Any, want: Any, tolerance: float = 1e-12) -> None:
    one, other = graphc.tree.flatten(have)[0], graphc.tree.flatten(want)[0]
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def python_scan(f: Callable[..., Any], carry: Any, xs: Any, reverse: bool = False) -> Any:
    ys = []
    for x in xs[::-1] if reverse else xs:
        carry, y = f(carry, x)
        ys.append(y)
    return carry, np.stack(ys[::-1] if reverse else ys)


def cell(h: Any, x: Any) -> Any:
    h = np.tanh(h @ W + x)
    return h, h * 2


# ------------------------------------------------------------------------------------------------ scan


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_is_the_loop(reverse: bool) -> None:
    want = python_scan(cell, np.zeros(3), X, reverse)
    close(scan(cell, np.zeros(3), X, reverse=reverse), want)
    close(traced(lambda h, x: scan(cell, h, x, reverse=reverse), np.zeros(3), X), want)

    def loss(h: Any, x: Any, w: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            h = np.tanh(h @ w + x)
            return h, h**2

        h, ys = scan(step, h, x, reverse=reverse)
        return (ys * np.arange(4.0)[:, None]).sum() + h.sum()

    def unrolled(h: Any, x: Any, w: Any) -> Any:
        total = 0.0
        for k in reversed(range(4)) if reverse else range(4):
            h = np.tanh(h @ w + x[k])
            total = total + (h**2 * k).sum()
        return total + h.sum()

    args = (np.zeros(3), X, W)
    close(value_and_grad(loss, argnums=(0, 1, 2))(*args), value_and_grad(unrolled, argnums=(0, 1, 2))(*args))
    close(hessian(loss)(*args), hessian(unrolled)(*args))
    close(jvp(loss, args, args)[1], jvp(unrolled, args, args)[1])
    check_grads(loss, args, order=2)


def test_scan_with_trees_and_without_xs() -> None:
    def step(c: Any, x: Any) -> Any:
        return {"n": c["n"] + 1, "s": c["s"] + x["a"] * x["b"][0]}, (c["n"], None)

    xs = {"a": np.arange(3.0), "b": (np.arange(3.0) + 1,)}
    carry, (counts, none) = scan(step, {"s": 0.0, "n": 0}, xs)
    assert int(carry["n"]) == 3 and float(carry["s"]) == 8 and counts.tolist() == [0, 1, 2] and none is None
    carry, ys = scan(lambda c, _: (c * 2, c), 1.0, length=4)
    assert float(carry) == 16 and ys.tolist() == [1, 2, 4, 8]
    carry, ys = scan(lambda c, x: (c + x, x), 5.0, np.zeros(0))
    assert float(carry) == 5 and ys.shape == (0,)
    close(grad(lambda c: scan(lambda c, _: (c * 2, None), c, length=3)[0])(1.0), 8.0)


def test_nested_scans_capture_and_differentiate() -> None:
    def loss(w: Any, x: Any) -> Any:
        scale = np.exp(w[0])

        def inner(c: Any, v: Any) -> Any:
            return c * w[1] + v * scale, None

        def outer(c: Any, row: Any) -> Any:
            total, _ = scan(inner, c, row)
            return np.sin(total) + w[2] * c, total

        last, totals = scan(outer, w[2], x)
        return last + (totals**2).sum()

    def unrolled(w: Any, x: Any) -> Any:
        c, total = w[2], 0.0
        for row in x:
            t = c
            for v in row:
                t = t * w[1] + v * np.exp(w[0])
            total = total + t**2
            c = np.sin(t) + w[2] * c
        return c + total

    w = np.array([0.1, 0.5, 0.3])
    close(value_and_grad(loss, argnums=(0, 1))(w, X), value_and_grad(unrolled, argnums=(0, 1))(w, X))
    close(hessian(loss)(w, X), hessian(unrolled)(w, X))
    rows = np.stack([w, 2 * w])
    close(vmap(grad(loss), in_axes=(0, None))(rows, X), np.stack([grad(unrolled)(r, X) for r in rows]))
    check_grads(loss, (w, X), order=2)


def test_scan_under_vmap() -> None:
    def run(h: Any, x: Any, w: Any) -> Any:
        return scan(lambda h, x: (np.tanh(h * w + x), h), h, x)

    h, x = np.arange(2.0), np.random.default_rng(2).normal(size=(2, 5))
    for axes in ((0, 0, None), (None, 0, None), (0, None, 0), (None, None, 0)):
        args = [a if axis == 0 else a[0] for a, axis in zip((h, x, np.array([1.0, 2.0])), axes, strict=True)]
        each = [run(*[a[k] if axis == 0 else a for a, axis in zip(args, axes, strict=True)]) for k in range(2)]
        close(vmap(run, in_axes=axes)(*args), (np.stack([e[0] for e in each]), np.stack([e[1] for e in each])))


def test_numbers_that_are_carried_take_the_type_they_meet() -> None:
    x32 = np.arange(3, dtype=np.float32)

    def types(function: Callable[..., Any], *args: Any) -> list[str]:
        return [str(t) for t in graphc.trace(function, *args).output_types]

    assert types(lambda x: scan(lambda c, v: (c + v, c), 0.0, x), x32) == ["f32", "f32[3]"]
    assert types(lambda x: scan(lambda c, v: (c + v, c), 0, x), x32) == ["f32", "f32[3]"]
    assert types(lambda x: fori_loop(0, 3, lambda i, s: s * i + x, x), x32) == ["f32[3]"], "i is a Python number"
    assert types(lambda x: x * fori_loop(0, 3, lambda i, s: s + i, 0), x32) == ["f32[3]"], "and so is what comes of it"
    assert types(lambda x: x * while_loop(lambda s: s < 5, lambda s: s * 2, 1), x32) == ["f32[3]"]
    assert types(lambda x: scan(lambda c, v: (c * 0 + 0.5, c), v0, x)[0] if (v0 := x[0]) is not None else 0, x32) == [
        "f32"
    ]
    assert types(lambda x: cond(x[0] > 0, lambda v: v, lambda v: 0.0, x[0]), x32) == ["f32"]
    assert types(lambda x: x * cond(x[0] > 0, lambda: 1, lambda: 2.5), x32) == ["f32[3]"]
    assert types(lambda x: switch(0, [lambda: x, lambda: x.astype(np.float64)]), x32) == ["f64[3]"]


def test_a_carry_that_changes_is_refused() -> None:
    x32 = np.arange(3, dtype=np.float32)
    cases: list[tuple[Callable[[], Any], str]] = [
        (
            lambda: scan(lambda c, x: (c + x, x), np.float32(0), np.arange(3.0)),
            r"the carry of scan goes in as f32 and comes out as f64.*\.astype\('float64'\) before",
        ),
        (lambda: scan(lambda c, x: (c[None] + x, x), x32, x32), r"goes in as f32\[3\] and comes out as f32\[1, 3\]"),
        (
            lambda: scan(lambda c, x: ((c, c), x), 0.0, x32),
            "the carry of scan expected an array or number, got a tuple of 2",
        ),
        (lambda: scan(lambda c, x: c + x, 0.0, x32), r"the body of scan must return \(carry, y\)"),
        (
            lambda: scan(lambda c, x: ({"a": c["a"], "b": x}, x), {"a": 0.0, "b": 0}, X),
            r"the carry of scan at 'b' goes in as i64 and comes out as f64\[3\]",
        ),
        (
            lambda: while_loop(lambda s: s < 3, lambda s: s + 1.5, np.int64(0)),
            "the value of while_loop goes in as i64 and comes out as f64",
        ),
        (lambda: while_loop(lambda s: s < 3, lambda s: s, x32), r"must return one scalar, not \['bool\[3\]'\]"),
        (
            lambda: fori_loop(0, 3, lambda i, s: (s, s), 1.0),
            "the carry of fori_loop expected an array or number, got a tuple",
        ),
        (
            lambda: cond(True, lambda: X, lambda: X[0]),
            r"the branches of cond return different shapes : f64\[3\], f64\[4, 3\]",
        ),
        (lambda: cond(True, lambda: (X, X), lambda: X), "the branches of cond return different trees"),
        (
            lambda: cond(np.array([True, False]), lambda: X, lambda: X),
            r"must be a scalar, not bool\[2\]; np.where chooses",
        ),
        (lambda: switch(1.5, [lambda: X]), "the index of switch must be an integer scalar, not f64"),
    ]
    for attempt, message in cases:
        with pytest.raises(TypeError, match=message):
            attempt()
    for attempt, message in (
        (lambda: scan(lambda c, x: (c, x), 0.0), "without xs give length="),
        (
            lambda: scan(lambda c, x: (c, x), 0.0, (np.ones(2), np.ones(3))),
            r"agree in their leading length, found \[2, 3\]",
        ),
        (lambda: scan(lambda c, x: (c, x), 0.0, np.ones(2), length=4), r"found \[2, 4\]"),
        (lambda: scan(lambda c, x: (c, x), 0.0, 1.0), "one of them is a scalar"),
        (lambda: switch(0, []), "at least one branch"),
    ):
        with pytest.raises(ValueError, match=message):
            attempt()


# ------------------------------------------------------------------------------------------------ fori_loop, while_loop


def test_fori_loop() -> None:
    def power(x: Any, n: int) -> Any:
        return fori_loop(0, n, lambda i, s: s * x + i, 1.0)

    def unrolled(x: Any, n: int) -> Any:
        s = 1.0
        for i in range(n):
            s = s * x + i
        return s

    for n in (0, 1, 4):
        close(power(1.5, n), np.float64(unrolled(1.5, n)))
        close(grad(lambda x: power(x, n))(1.5), grad(lambda x: unrolled(x, n) + 0 * x)(1.5))  # noqa: B023
    close(hessian(lambda x: power(x, 4))(1.5), hessian(lambda x: unrolled(x, 4))(1.5))
    assert int(fori_loop(3, 1, lambda i, s: s + 1, 7)) == 7
    assert int(fori_loop(-2, np.int64(3), lambda i, s: s + i, 0)) == 0
    assert traced(lambda n: fori_loop(0, n, lambda i, s: s + i * 2, 0), 5) == 20
    close(vmap(lambda n: fori_loop(0, n, lambda i, s: s + i, 0))(np.array([0, 3, 5])), np.array([0, 3, 10]))
    big = graphc.trace(lambda x: fori_loop(0, 10**7, lambda i, s: s + i, x), 1.0)
    assert all(n.op.name != "constant" or n.type.size < 10 for n in big.nodes), "the counter is no constant"


def test_while_loop() -> None:
    def newton(a: Any) -> Any:
        return while_loop(lambda s: abs(s[0] ** 2 - a) > 1e-13, lambda s: ((s[0] + a / s[0]) / 2, s[1] + 1), (a, 0))

    root, steps = newton(2.0)
    assert abs(float(root) - 2**0.5) < 1e-12 and int(steps) == 5
    close(jvp(lambda a: newton(a)[0], (2.0,), (1.0,))[1], 0.5 / 2**0.5, 1e-9)
    close(jacfwd(lambda a: newton(a)[0])(2.0), 0.5 / 2**0.5, 1e-9)
    values = np.array([2.0, 9.0, 1.0])
    roots, counts = vmap(newton)(values)
    close(roots, np.sqrt(values), 1e-12)
    assert counts.tolist() == [int(newton(v)[1]) for v in values], "finished examples wait"
    with pytest.raises(
        TypeError, match=r"while_loop has no reverse-mode derivative.*\n  of .*test_control.py:\d+\n  at .*`grad"
    ):
        grad(lambda a: newton(a)[0])(2.0)
    assert float(while_loop(lambda v: v - 3, lambda v: v + 1, 0.0)) == 3, "any number is a condition"


# ------------------------------------------------------------------------------------------------ cond, switch


def test_cond() -> None:
    def f(x: Any, y: Any) -> Any:
        return cond(x > 1, lambda a: {"v": a * y, "n": 1}, lambda a: {"v": a**2, "n": 2}, x)

    for x, want in ((3.0, 6.0), (0.5, 0.25)):
        found = f(x, 2.0)
        assert float(found["v"]) == want
        assert float(traced(f, x, 2.0)["v"]) == want
    close(grad(lambda x, y: f(x, y)["v"], argnums=(0, 1))(3.0, 2.0), (np.float64(2), np.float64(3)))
    close(grad(lambda x, y: f(x, y)["v"], argnums=(0, 1))(0.5, 2.0), (np.float64(1), np.float64(0)))
    close(hessian(lambda x: f(x, 2.0)["v"])(0.5), 2.0)
    close(jvp(lambda x: f(x, 2.0)["v"], (3.0,), (1.0,))[1], 2.0)
    close(vmap(lambda x: f(x, 2.0)["v"])(np.array([3.0, 0.5])), np.array([6.0, 0.25]))
    close(vmap(grad(lambda x: f(x, 2.0)["v"]))(np.array([3.0, 0.5])), np.array([2.0, 1.0]))
    close(vmap(lambda y: f(3.0, y)["v"])(np.array([1.0, 2.0])), np.array([3.0, 6.0]))
    assert float(cond(np.bool_(False), lambda: 1.0, lambda: 2.0)) == 2
    assert float(cond(2, lambda: 1.0, lambda: 2.0)) == 1


def test_only_the_chosen_branch_runs() -> None:
    table = np.arange(3.0)

    def f(k: Any) -> Any:
        read = graphc.numpy.asarray(table)
        return cond(k < 3, lambda: read[k], lambda: -1.0)

    assert float(traced(f, 2)) == 2 and float(traced(f, 7)) == -1


def test_switch() -> None:
    branches = [lambda x: x, lambda x: x**2, lambda x: np.exp(x)]
    for index, want in ((-5, 2.0), (0, 2.0), (1, 4.0), (2, np.exp(2.0)), (9, np.exp(2.0))):
        close(switch(index, branches, 2.0), np.float64(want))
        close(traced(lambda k, x: switch(k, branches, x), np.int8(index), 2.0), np.float64(want))
    close(grad(lambda x: switch(1, branches, x))(3.0), 6.0)
    close(vmap(lambda k: switch(k, branches, 2.0))(np.array([0, 1, 2, 5])), np.array([2, 4, np.exp(2.0), np.exp(2.0)]))
    close(
        vmap(grad(lambda x, k: switch(k, branches, x)), in_axes=(None, 0))(3.0, np.array([0, 1])), np.array([1.0, 6.0])
    )
    close(switch(True, branches[:2], 3.0), 9.0)


def test_everything_nested() -> None:
    def f(x: Any) -> Any:
        def step(c: Any, v: Any) -> Any:
            c = cond(v > 0, lambda c: fori_loop(0, 2, lambda i, s: s * v + x[0], c), lambda c: np.sin(c) * x[1], c)
            return c, switch(c > 0.5, [lambda: c, lambda: c * x[2]])

        last, ys = scan(step, x[0], X[:, 0])
        return last * ys.sum()

    def plain(x: Any) -> Any:
        c, total = x[0], 0.0
        for v in X[:, 0]:
            if v > 0:
                for _ in range(2):
                    c = c * v + x[0]
            else:
                c = np.sin(c) * x[1]
            total = total + (c * x[2] if values(c) > 0.5 else c)
        return c * total

    def values(c: Any) -> float:
        return float(c)

    x = np.array([0.3, 0.7, -0.4])
    close(f(x), plain(x))
    close(jvp(f, (x,), (x,))[1], grad(f)(x) @ x)
    check_grads(f, (x,), order=2)
    close(vmap(f)(np.stack([x, 2 * x])), np.array([plain(x), plain(2 * x)]))
    close(jacfwd(grad(f))(x), jacfwd(jacfwd(f))(x), 1e-10)


# ------------------------------------------------------------------------------------------------ annotations


def test_lines_and_adjoints_of_bodies() -> None:
    def loss(w: Any) -> Any:
        def step(c: Any, x: Any) -> Any:
            return np.sin(c * w) + x, c

        return scan(step, 0.5, np.arange(4.0))[0]

    graph = graphc.trace(grad(loss), 2.0)
    verify(graph)
    line = loss.__code__.co_firstlineno + 2
    scans = [n for n in graph.nodes if n.op.name == "scan"]
    assert len(scans) == 2
    for scan_ in scans:
        body = scan_["body"]
        computed = [n for n in body.nodes if n.op.name in ("sin", "cos")]
        assert computed and all([p.line for p in body.lines[n]] == [line] for n in computed)
    assert not scans[0]["body"].adjoints
    backward = scans[1]["body"]
    assert {order for order, _, _ in backward.adjoints} == {1}
    (product,) = [
        p
        for _, p, _ in backward.adjoints
        if p.op.name == "mul" and p in backward.nodes and p.inputs[0].op.name == "input"
    ][:1]
    assert product.type == graphc.types.TensorType(graphc.types.f64, ())
    assert {order for order, _, _ in graph.adjoints} == {1}


# ------------------------------------------------------------------------------------------------ call


@pytest.mark.parametrize("same", [False, True])
def test_a_call_without_a_rule_has_the_derivative_of_its_body(same: bool) -> None:
    """Also where it is given one node twice."""
    with Builder("product") as builder:
        x, y = (builder.input(name, TensorType(f64, (3,))) for name in "xy")
        body = builder.graph([ops.mul(ops.sin(x), y)])
    with Builder("f") as builder:
        x, y = (builder.input(name, TensorType(f64, (3,))) for name in "xy")
        (result,) = ops.items(call(x, x if same else y, body=body, name="product", vjp=None, custom=False))
        graph = builder.graph([result])
    a, b, ct = X[0], X[1], X[2]
    found = evaluate(vjp_graph(graph, [0, 1]), [a, b, ct])
    if same:
        close(found, [ct * (np.cos(a) * a + np.sin(a)), np.zeros(3)])
    else:
        close(found, [ct * np.cos(a) * b, ct * np.sin(a)])
