"""Complete NumPy programs: values, first and second derivatives, float32, HIPS autograd, both backends, optimisers.

``GRAPHC_TEST_FULL=1`` compiles every program, and takes second derivatives of every one; otherwise of a sample.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import pytest
from compare import run
from programs import Program, all_programs, on_autograd
from scipy.optimize import minimize

import graphc
from graphc.tracing import trace_program
from graphc.tree import flatten, unflatten
from graphc.verifier import verify

FULL = os.environ.get("GRAPHC_TEST_FULL") == "1"
PROGRAMS = all_programs()
#: A hundred steps and more: their second derivatives take seconds each.
LONG = {"heat_equation", "wave_equation", "shallow_water", "n_body", "fluid"}
#: What is compiled in the normal run, a program or two per family.
COMPILED = {
    "black_box_inference", "burgers", "calibration_curve", "gaussian_mixture", "graph_attention", "hidden_markov_model",
    "matrix_factorisation", "oscillator_network", "rendering", "smile",
}  # fmt: skip


def named(programs: list[Program]) -> list[Any]:
    return [pytest.param(one, id=one.name) for one in programs]


def converted(tree: Any, element: Any) -> Any:
    """``tree`` with its float64 arrays in another element type."""
    leaves, structure = flatten(tree)
    return unflatten(structure, [v.astype(element) if np.asarray(v).dtype == np.float64 else v for v in leaves])


def close(have: Any, want: Any, rtol: float, narrow: bool = False) -> None:
    """Leaf by leaf, relative to the largest number of all: a gradient's small parts are small beside its large ones."""
    got, expected = flatten(have)[0], flatten(want)[0]
    assert len(got) == len(expected)
    largest = max(float(np.abs(v).max(initial=0)) for v in expected)
    for mine, theirs in zip(got, expected, strict=True):
        assert np.shape(mine) == np.shape(theirs)
        if not narrow:
            assert np.asarray(mine).dtype == np.asarray(theirs).dtype
        np.testing.assert_allclose(np.asarray(mine, np.float64), theirs, rtol=rtol, atol=rtol * largest)


def test_there_are_enough() -> None:
    """The issue asks for 25; all but a few of them also run on HIPS autograd."""
    assert len(PROGRAMS) >= 28
    assert sum(not one.peer for one in PROGRAMS) >= 25
    for one in PROGRAMS:
        assert one.loss.__doc__, one.name


@pytest.mark.parametrize("one", named(PROGRAMS))
def test_values(one: Program) -> None:
    """The traced program computes what NumPy computes, in float64 and float32, and leaves its arguments alone."""
    for element in (np.float64, np.float32):
        args = converted(one.arguments(0), element)
        before = [np.copy(v) for v in flatten(args)[0]]
        want = one.loss(*args)
        program = trace_program(one.loss, args, {})
        verify(program.graph)
        have = run(program, *args)
        assert have.dtype == np.asarray(want).dtype and np.shape(want) == ()
        np.testing.assert_allclose(have, want, rtol=1e-12 if element == np.float64 else 2e-4)
        if element == np.float32 and not one.widens:
            assert have.dtype == np.float32
            assert not [n for n in program.graph.nodes if str(n.type).startswith("f64")], "float64 in a float32 program"
        for old, now in zip(before, flatten(args)[0], strict=True):
            np.testing.assert_array_equal(old, now)


@pytest.mark.parametrize("one", named(PROGRAMS))
def test_derivatives(one: Program) -> None:
    """Forward and reverse mode against central differences, by the parameters, at orders 1 and 2."""
    params, *data = one.arguments(0)
    order = 2 if FULL or one.name not in LONG else 1

    def loss(params: Any) -> Any:
        return one.loss(params, *[graphc.numpy.asarray(v) for v in data])  # part of the program, as in a call

    graphc.check_grads(loss, (params,), order, rtol=one.rtol, atol=one.rtol, modes=one.modes)


@pytest.mark.parametrize("one", named([p for p in PROGRAMS if not p.peer]))
def test_gradient_is_that_of_autograd(one: Program) -> None:
    """HIPS autograd, which runs the very same source, finds the same value and gradient."""
    import autograd

    args = one.arguments(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value, gradient = autograd.value_and_grad(on_autograd(one.loss))(*args)
    close(graphc.value_and_grad(one.loss)(*args), (np.float64(value), gradient), 1e-9, narrow=True)


@pytest.mark.parametrize("one", named(PROGRAMS))
def test_gradient_in_float32(one: Program) -> None:
    """A float32 program has a float32 gradient, near that of the float64 program."""
    args = one.arguments(0)
    want = graphc.grad(one.loss)(*args)
    have = graphc.grad(one.loss)(*converted(args, np.float32))
    assert {np.asarray(v).dtype.name for v in flatten(have)[0]} == {"float32"}
    close(have, want, one.grad32, narrow=True)


@pytest.mark.parametrize("one", named([p for p in PROGRAMS if FULL or p.name not in LONG]))
def test_batched(one: Program) -> None:
    """``vmap`` of the gradient over two sets of parameters and data is the loop over them."""
    examples = [one.arguments(seed) for seed in (0, 1)]
    leaves = [flatten(args)[0] for args in examples]
    stacked = unflatten(flatten(examples[0])[1], [np.stack(pair) for pair in zip(*leaves, strict=True)])
    gradient = graphc.grad(one.loss)
    want = [flatten(gradient(*args))[0] for args in examples]
    close(graphc.vmap(gradient)(*stacked), [np.stack(pair) for pair in zip(*want, strict=True)], 1e-9)


@pytest.mark.parametrize("one", named([p for p in PROGRAMS if FULL or p.name in COMPILED]))
def test_compiled(one: Program) -> None:
    """The CPU backend gives the reference's value and gradient, in float64 and float32."""
    both = graphc.value_and_grad(one.loss)
    compiled = graphc.compile(both)
    args = one.arguments(0)
    want = both(*args)
    close(compiled(*args), want, 1e-9)
    close(compiled(*converted(args, np.float32)), want, one.grad32, narrow=True)


# ------------------------------------------------------------------------------------------------ optimisers


def program(name: str) -> Program:
    return next(one for one in PROGRAMS if one.name == name)


@pytest.mark.parametrize("compiled", [False, True], ids=["concrete", "compiled"])
def test_lbfgs(compiled: bool) -> None:
    """``scipy.optimize.minimize(jac=True)`` takes value_and_grad as it is."""
    one = program("mlp_flat")
    start, *data = one.arguments(0)
    both = graphc.value_and_grad(one.loss)
    options = {"maxiter": 30}
    both = graphc.compile(both) if compiled else both
    found = minimize(both, start, args=tuple(data), jac=True, method="L-BFGS-B", options=options)
    assert found.nit > 5 and found.fun < 0.2 * one.loss(start, *data)
    np.testing.assert_allclose(found.fun, one.loss(found.x, *data), rtol=1e-9)


@pytest.mark.parametrize("compiled", [False, True], ids=["concrete", "compiled"])
def test_newton_cg(compiled: bool) -> None:
    """Hessian-vector products drive Newton-CG to the point where the gradient vanishes."""
    one = program("robust_regression")
    (slope, intercept, log_scale), *data = one.arguments(0)
    size = len(slope)

    def flat(v: Any, *data: Any) -> Any:
        return one.loss((v[:size], v[size], v[size + 1]), *data)

    gradient, curvature = graphc.grad(flat), graphc.hvp(flat)

    def product(v: Any, p: Any, *data: Any) -> Any:
        return curvature(v, *data, p)

    if compiled:
        gradient, product = graphc.compile(gradient), graphc.compile(product)
    start = np.concatenate([slope, [intercept, log_scale]])
    found = minimize(flat, start, tuple(data), "Newton-CG", gradient, hessp=product, options={"xtol": 1e-9})
    assert found.success, found.message
    assert np.abs(gradient(found.x, *data)).max() < 1e-6 and flat(found.x, *data) < flat(start, *data)
