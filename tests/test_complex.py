"""Complex numbers: derivatives in JAX's convention, the pass that takes them apart, special values, whole programs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import Case
from cases.complex import CASES
from compare import traced
from test_cases import check_values, in_type, quiet

import graphc
from graphc import ops, optim, types
from graphc.backends.reference.interpret import run_plan, run_schedule
from graphc.interpreter import evaluate
from graphc.ir import Builder, Graph, Node
from graphc.ops.base import OPS
from graphc.passes.check import check_plan
from graphc.passes.complex import PARTWISE, RULES, has_complex, is_lowered, lower_complex
from graphc.passes.fuse import fuse
from graphc.passes.manager import run
from graphc.passes.pipeline import PIPELINE
from graphc.passes.plan import plan
from graphc.passes.stage import stage
from graphc.types import TensorType

NAMED = [pytest.param(one, id=f"{k}-{one.name}") for k, one in enumerate(CASES) if "c" in one.kinds]
ROUGH = ("np.ndarray.astype", "np.nan_to_num")  # single precision; not differentiable where the case is
Z = np.array([0.6 + 0.8j, -1.5 + 0.25j, 0.1 - 2j])


# ------------------------------------------------------------------------------------------------ every case


@pytest.mark.parametrize("one", NAMED)
def test_compiled(one: Case) -> None:
    """The CPU backend gives the reference's values, of both widths."""
    for code in ("F", "D"):
        args = in_type(one.args, code)
        want = quiet(lambda *a: traced(one.call, *a), *args)
        check_values(one, quiet(graphc.compile(one.call), *args), want, code)


@pytest.mark.parametrize("one", [p for p in NAMED if p.values[0].name not in ROUGH])
def test_derivatives(one: Case) -> None:
    """Both modes at orders 1 and 2, by differences along complex directions."""
    args = in_type(one.args, "D")
    places = [k for k, a in enumerate(args) if isinstance(a, np.ndarray) and a.dtype == np.complex128]

    def function(*xs: Any) -> Any:
        full = list(args)
        for k, x in zip(places, xs, strict=True):
            full[k] = x
        return one.call(*full)

    with np.errstate(all="ignore"):
        graphc.check_grads(function, [args[k] for k in places])


@pytest.mark.parametrize("one", [p for p in NAMED if p.values[0].batch])
def test_batching(one: Case) -> None:
    args = in_type(one.args, "D")
    axes = tuple(0 if isinstance(a, np.ndarray) and a.dtype == np.complex128 else None for a in args)
    examples = [args, tuple(a if k is None else a[::-1] for a, k in zip(args, axes, strict=True))]
    stacked = [
        a if k is None else np.stack([e[n] for e in examples]) for n, (a, k) in enumerate(zip(args, axes, strict=True))
    ]
    want = [graphc.tree.flatten(quiet(one.call, *e))[0] for e in examples]
    have = graphc.tree.flatten(quiet(graphc.vmap(one.call, in_axes=axes), *stacked))[0]
    check_values(one, have, [np.stack(parts) for parts in zip(*want, strict=True)], "D")


# ------------------------------------------------------------------------------------------------ JAX's convention


@pytest.mark.parametrize(
    "function, gradient",
    [
        (lambda z: np.abs(z) ** 2, lambda z: 2 * np.conj(z)),
        (np.abs, lambda z: np.conj(z) / abs(z)),
        (np.real, lambda z: 1),
        (np.imag, lambda z: -1j),
        (lambda z: np.conj(z).real, lambda z: 1),
        (lambda z: np.conj(z).imag, lambda z: 1j),
        (np.angle, lambda z: -1j / z),
        (lambda z: (z * z).real, lambda z: 2 * z),
        (lambda z: (z * z).imag, lambda z: -2j * z),
        (lambda z: (z * np.conj(z)).real, lambda z: 2 * np.conj(z)),
        (lambda z: (z**3).real, lambda z: 3 * z**2),
        (lambda z: (1 / z).real, lambda z: -1 / z**2),
        (lambda z: np.exp(z).real, np.exp),
        (lambda z: np.log(z).real, lambda z: 1 / z),
        (lambda z: np.log(np.abs(z)), lambda z: 1 / z),
        (lambda z: np.sqrt(z).real, lambda z: 0.5 / np.sqrt(z)),
        (lambda z: np.sin(z).imag, lambda z: -1j * np.cos(z)),
        (lambda z: np.arctan(z).real, lambda z: 1 / (1 + z * z)),
        (lambda z: np.linalg.norm(np.stack([z, 2 * z])), lambda z: np.sqrt(5) * np.conj(z) / abs(z)),
        (lambda z: np.vdot(1 + 2j, z).real, lambda z: 1 - 2j),
        (lambda z: np.vdot(z, 1 + 2j).real, lambda z: 1 - 2j),
        (lambda z: np.vdot(z, 1 + 2j).imag, lambda z: 2 + 1j),
        (lambda z: np.sign(z).real, lambda z: 1j * z.imag * np.conj(z) / abs(z) ** 3),
    ],
)  # fmt: skip
def test_gradients_of_real_functions(function: Callable[..., Any], gradient: Callable[..., Any]) -> None:
    for z in Z:
        have = graphc.grad(function)(z)
        assert have.dtype == np.complex128
        np.testing.assert_allclose(have, gradient(z), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(graphc.compile(graphc.grad(function))(z), gradient(z), rtol=1e-12, atol=1e-14)


def test_gradients_at_zero() -> None:
    assert graphc.grad(np.abs)(0j) == 0
    assert graphc.grad(lambda z: np.abs(z) ** 2)(0j) == 0
    assert graphc.grad(lambda z: np.sign(z).real)(0j) == 0
    assert graphc.grad(lambda z: (z**2).real)(0j) == 0 and graphc.grad(lambda z: (z**1).real)(0j) == 1
    with np.errstate(all="ignore"):
        assert graphc.grad(lambda z: np.where(z == 0, 0, np.sqrt(np.where(z == 0, 1, z))).real)(0j) == 0
    np.testing.assert_array_equal(graphc.grad(lambda z: np.prod(z).real)(np.array([0, 2, 3j])), [6j, 0, 0])


def test_real_operands_get_real_cotangents() -> None:
    have = graphc.grad(lambda x: np.abs(x * (1 + 2j)))(3.0)
    assert have.dtype == np.float64
    np.testing.assert_allclose(have, np.sqrt(5))
    x, z = np.array([1.0, 2.0]), np.array([1 - 2j, 3j])
    by_x, by_z = graphc.grad(lambda x, z: (x * z * z).imag.sum(), argnums=(0, 1))(x, z)
    np.testing.assert_allclose(by_x, (z * z).imag)
    np.testing.assert_allclose(by_z, -2j * x * z)
    assert by_x.dtype == np.float64
    single = graphc.grad(lambda x: np.abs(np.exp(1j * x) + x).sum())(np.ones(3, np.float32))
    assert single.dtype == np.float32


def test_holomorphic() -> None:
    np.testing.assert_allclose(graphc.grad(np.tanh, holomorphic=True)(Z[0]), 1 - np.tanh(Z[0]) ** 2)
    value, derivative = graphc.value_and_grad(lambda z: z**3, holomorphic=True)(Z[1])
    np.testing.assert_allclose((value, derivative), (Z[1] ** 3, 3 * Z[1] ** 2))
    for jacobian in (graphc.jacfwd, graphc.jacrev, graphc.jacobian):
        np.testing.assert_allclose(jacobian(np.exp, holomorphic=True)(Z), np.diag(np.exp(Z)), atol=1e-15)
    second = graphc.hessian(lambda z: np.sum(z**3), holomorphic=True)(Z)
    np.testing.assert_allclose(second, np.diag(6 * Z))
    np.testing.assert_allclose(graphc.jacfwd(lambda x: np.exp(1j * x))(0.5), 1j * np.exp(0.5j))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: graphc.grad(np.exp)(1j), "holomorphic=True"),
        (lambda: graphc.grad(np.exp, holomorphic=True)(1.0), "complex arguments"),
        (lambda: graphc.grad(np.abs, holomorphic=True)(1j), "complex losses"),
        (lambda: graphc.jacrev(np.exp)(1j), "holomorphic=True"),
        (lambda: graphc.jacfwd(np.abs)(1j), "holomorphic=True"),
        (lambda: graphc.jacrev(np.abs, holomorphic=True)(1j), "complex outputs"),
        (lambda: graphc.jvp(np.exp, (1.0,), (1j,)), "should be f64, not c128"),
        (lambda: graphc.vjp(np.abs, 1j)[1](1j), "should be f64, not c128"),
        (lambda: graphc.trace(np.fft.fft, Z), "fast Fourier transform"),
        (lambda: graphc.trace(np.fft.fftshift, Z), "np.roll"),
    ],
)
def test_refusals(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, graphc.UnsupportedError), match=message):
        call()


# ------------------------------------------------------------------------------------------------ special values


def grid(element: Any) -> np.ndarray:
    info = np.finfo(element)
    parts = [0.0, -0.0, 1.0, -1.0, 0.5, -3.0, np.inf, -np.inf, np.nan, float(info.max) / 2, 4 * float(info.tiny), 30.0]
    x, y = np.meshgrid(parts, parts)
    z = np.empty(x.size, element)
    z.real, z.imag = x.ravel(), y.ravel()
    return z


EXACT_SIGNS = (
    "negative square reciprocal sqrt log sin cos sinh cosh arcsin arccos arcsinh arccosh conjugate absolute".split()
)
SPECIAL = [*EXACT_SIGNS, *"sign exp exp2 expm1 log2 log10 log1p tan tanh arctan arctanh isnan isinf isfinite".split()]


@pytest.mark.parametrize("element", ["D", "F"])
@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(name: str, element: str) -> None:
    """Zeros with signs, infinities, NaN, huge and tiny parts: compiled as in NumPy."""
    z = grid(element)
    function = getattr(np, name)
    if name == "arctan":  # NumPy loses the real part of nan + inf·i
        z = z[~(np.isnan(z.real) & np.isinf(z.imag))]
    want, have = quiet(function, z), graphc.compile(function)(z)
    assert have.dtype == want.dtype
    rtol = 1e-12 if element == "D" else 3e-6
    parts = [(have, want)] if want.dtype.kind != "c" else [(have.real, want.real), (have.imag, want.imag)]
    for mine, theirs in parts:
        if theirs.dtype.kind == "b":
            np.testing.assert_array_equal(mine, theirs)
            continue
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=1e-300 if name != "log1p" else 1e-15)
        if name in EXACT_SIGNS:
            number = ~np.isnan(theirs) & np.isfinite(z)
            np.testing.assert_array_equal(np.signbit(mine)[number], np.signbit(theirs)[number])


@pytest.mark.parametrize("ufunc", [np.add, np.subtract, np.multiply, np.true_divide, np.equal, np.less, np.greater_equal,
    np.maximum, np.minimum, np.fmax, np.fmin], ids=lambda u: u.__name__)  # fmt: skip
def test_special_pairs(ufunc: Any) -> None:
    x, y = (a.ravel() for a in np.meshgrid(grid("D")[::3], grid("D")))
    if ufunc is np.multiply:  # whether one of two products that are added overflows depends on which of them is fused
        parts = np.abs(np.stack([x.real, x.imag, y.real, y.imag]))
        plain = ~((parts > 1e300) & np.isfinite(parts)).any(axis=0)
        x, y = x[plain], y[plain]
    want, have = quiet(ufunc, x, y), quiet(graphc.compile(ufunc), x, y)
    for mine, theirs in ((have.real, want.real), (have.imag, want.imag)):
        np.testing.assert_allclose(mine, theirs, rtol=1e-15)


def test_powers() -> None:
    for base, exponent in ((0j, 0j), (0j, 2 + 1j), (0j, -1 + 0j), (2j, 0j), (-8 + 0j, 1 / 3 + 0j), (1 + 1j, 3 - 2j)):
        x, y = np.array([base]), np.array([exponent])
        np.testing.assert_allclose(graphc.compile(np.power)(x, y), quiet(np.power, x, y), rtol=1e-14)


@pytest.mark.parametrize("function", [np.sort, np.argsort, np.max, np.min, np.argmax, np.argmin])
def test_order_of_nan(function: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    z = rng.choice(grid("D"), (40, 9))
    z[0] = np.arange(9) // 3 + 1j * (np.arange(9) % 2)
    stable = {"kind": "stable"} if function is np.argsort else {}
    want = quiet(lambda a: function(a, axis=1, **stable), z)
    have = graphc.compile(lambda a: function(a, axis=1, **stable))(z)
    np.testing.assert_array_equal(have, want)


# ------------------------------------------------------------------------------------------------ the pass


def graph_of(function: Callable[..., Any], *types: TensorType) -> Graph:
    with Builder("f") as builder:
        found = function(*[builder.input(f"x{k}", t) for k, t in enumerate(types)])
        return builder.graph(list(found) if isinstance(found, (list, tuple)) else [found])


def test_every_op_that_takes_complex_numbers_is_lowered() -> None:
    import op_samples

    expanded = {"integer_pow", "reduce_prod", "cumprod", "recurrence"}
    for name, samples in op_samples.SAMPLES.items():
        for sample in samples:
            arrays = op_samples.draw(name, sample, types.c64)
            kinds = [TensorType(types.dtype(a.dtype), a.shape) for a in arrays]
            if name in ("input", "random_bits") or not any(t.dtype.kind == "c" for t in kinds):
                continue
            try:
                OPS[name].infer(*kinds, **sample.attrs)
            except TypeError:
                continue
            assert name in {*RULES, *PARTWISE, *expanded}, name
            graph = graph_of(lambda *xs, op=OPS[name], at=sample.attrs: op(*xs, **at), *kinds)
            after = lower_complex(graph)
            assert is_lowered(after) and lower_complex(after) is after, name
            for one, other in zip(evaluate(graph, arrays), evaluate(after, arrays, check=True), strict=True):
                np.testing.assert_allclose(other, one, rtol=2e-5, atol=2e-5, err_msg=name)


def test_no_kernel_sees_a_complex_number() -> None:
    c64 = TensorType(types.c64, (3, 5))
    graph = graph_of(
        lambda x, y: (ops.exp(ops.mul(x, y)), x, ops.abs_(y), ops.transpose(y, axes=(1, 0)), ops.full(c64, 2 - 1j)),
        c64,
        c64,
    )
    after, _ = run(PIPELINE, graph)
    assert after.input_types == graph.input_types and after.output_types == graph.output_types
    again, _ = run(PIPELINE, after)
    assert again.digest == after.digest
    schedule = stage(fuse(after), {})
    assert not any(has_complex(kernel.body) for kernel in schedule.kernels)
    placed = plan(schedule)
    check_plan(placed)
    rng = np.random.default_rng(0)
    inputs = [(rng.normal(size=(3, 5)) + 1j * rng.normal(size=(3, 5))).astype(np.complex64) for _ in range(2)]
    for k, want in enumerate(evaluate(graph, inputs)):
        for have in (run_schedule(schedule, inputs), run_plan(placed, inputs)):
            assert have[k].dtype == want.dtype
            np.testing.assert_allclose(have[k], want, rtol=1e-5, atol=1e-6)


def test_real_programs_stay_as_they_are() -> None:
    graph = graph_of(lambda x: ops.exp(x), TensorType(types.f32, (3,)))
    assert lower_complex(graph) is graph


def test_an_op_without_a_rule_is_named() -> None:
    strange = ops.OPS["add"]
    node = Node(
        strange.__class__("strange", "elementwise", strange.infer, strange.eval), (), (), TensorType(types.c64, ())
    )
    graph = Graph("f", (), (node,), (node,))
    with pytest.raises(TypeError, match="no backend computes strange of complex numbers"):
        lower_complex(graph)


# ------------------------------------------------------------------------------------------------ whole programs


def both(function: Callable[..., Any], *args: Any, rtol: float = 1e-12) -> Any:
    """Compiled and interpreted alike; the compiled result."""
    want, have = traced(function, *args), graphc.compile(function)(*args)
    for one, other in zip(graphc.tree.flatten(have)[0], graphc.tree.flatten(want)[0], strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol)
    return have


@pytest.mark.parametrize("shape", [(), (1,), (17,), (0,), (3, 0), (5, 33), (2, 3, 7)])
def test_ragged_shapes(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    for element, rtol in ((np.complex64, 1e-4), (np.complex128, 1e-12)):
        z = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(element)
        both(lambda z: (np.tanh(z) / (z + 2), (z * z.conj()).sum(), np.abs(z).real, z.imag), z, rtol=rtol)


def test_arguments_of_any_layout() -> None:
    rng = np.random.default_rng(2)
    z = rng.normal(size=(6, 8)) + 1j * rng.normal(size=(6, 8))
    f = graphc.compile(lambda z: z.T * 1j + z[0, 0])
    for one in (z, np.asfortranarray(z), z[::2, ::-1], z.astype(z.dtype.newbyteorder())):
        np.testing.assert_allclose(f(one), one.T * 1j + one[0, 0])
    np.testing.assert_allclose(graphc.compile(lambda a: a * 2)(2 + 1j), 4 + 2j)


def test_results_do_not_depend_on_threads() -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(size=(300, 200)) + 1j * rng.normal(size=(300, 200))
    program = lambda z: (np.exp(z).sum(axis=0), z @ z.T, np.log(z) * z, z.prod(axis=1))  # noqa: E731
    one, two = (graphc.compile(program, threads=k)(z) for k in (1, 2))
    assert [a.tobytes() for a in one] == [a.tobytes() for a in two]


def test_control() -> None:
    def scanned(z: Any, ws: Any) -> Any:
        def step(carry: Any, w: Any) -> Any:
            total, count = carry
            return (total * w + 1j, count + 1), (total.real, total * 2)

        return graphc.scan(step, (z, 0), ws)

    def looped(z: Any) -> Any:
        def step(z: Any) -> Any:
            return z * z * 0.5 + 0.3j

        steps = graphc.fori_loop(0, 3, lambda k, z: step(z), z)
        until = graphc.while_loop(lambda z: np.abs(z).sum() < 40, lambda z: z * (1 + 1j), z)
        return steps, until, graphc.cond(np.abs(z[0]) > 1, np.exp, lambda v: v * 1j, z)

    both(scanned, Z, np.exp(1j * np.arange(12.0)).reshape(4, 3))
    both(looped, Z)
    ws = np.exp(1j * np.arange(12.0)).reshape(4, 3)
    graphc.check_grads(lambda z, w: scanned(z, w)[0][0], (Z, ws))
    loss = lambda z, w: np.abs(scanned(z, w)[0][0]).sum()  # noqa: E731
    np.testing.assert_allclose(graphc.compile(graphc.grad(loss))(Z, ws), graphc.grad(loss)(Z, ws))


def test_donation_and_saving(tmp_path: Any) -> None:
    f = graphc.compile(lambda z, w: z * w + 1j, donate="z")
    z = Z.copy()
    want = Z * Z[::-1] + 1j
    have = f(z, Z[::-1].copy())
    assert have is z
    np.testing.assert_allclose(have, want)
    exe = f.executable(Z, Z)
    exe.save(tmp_path / "f.graphc")
    loaded = graphc.load(tmp_path / "f.graphc")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(loaded(Z.copy(), Z[::-1].copy()), want)


def test_training_with_complex_parameters(tmp_path: Any) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(20, 3)) + 1j * rng.normal(size=(20, 3))
    y = x @ Z

    def loss(w: Any, x: Any, y: Any) -> Any:
        residual = x @ w - y
        return (np.abs(residual) ** 2).mean()

    for optimizer in (optim.sgd(0.1), optim.sgd(0.05, momentum=0.5), optim.adam(0.05)):
        step = graphc.TrainingStep(loss, np.zeros(3, complex), optimizer)
        losses = [float(step(x, y)) for _ in range(300)]
        assert losses[-1] < 1e-4 * losses[0]
        np.testing.assert_allclose(step.params, Z, atol=1e-2)
    step.save(tmp_path / "step.graphc")
    np.testing.assert_array_equal(graphc.load(tmp_path / "step.graphc").params, step.params)


def test_views_of_parts_reach_their_base() -> None:
    def program(z: Any) -> Any:
        z = z.copy()
        re, row = z.real, z[1:]
        re[0] = 7
        row.imag *= 3
        z.imag = np.abs(re)
        return z, re + 0, row.imag + 0

    both(program, Z)
    np.testing.assert_array_equal(graphc.compile(program)(Z)[0], program(Z)[0])
    with pytest.raises(TypeError, match="imaginary part"):
        graphc.trace(lambda x: setattr(x * 1, "imag", 2.0), np.ones(3))


def test_complex_values_do_not_enter_real_arrays_silently() -> None:
    def program(x: Any, z: Any) -> Any:
        x = x.copy()
        x += z
        return x

    with pytest.raises(TypeError, match="cannot be written"):
        graphc.trace(program, np.ones(3), Z)
    with pytest.raises(graphc.TracerError, match=r"astype\(complex\)"):
        graphc.trace(lambda z: complex(z[0]), Z)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        graphc.trace(lambda z: z.astype(float), Z)
    assert [w.category for w in caught] == [np.exceptions.ComplexWarning]
