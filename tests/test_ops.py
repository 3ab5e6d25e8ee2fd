"""The record of every op: eval against infer, derivatives, batching, and NumPy's meaning where it is easily missed."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import op_samples
import pytest
from op_samples import SAMPLES, Sample, draw

from graphc import ops, types
from graphc.autodiff import jvp_graph, vjp_graph
from graphc.interpreter import evaluate
from graphc.ir import Builder, Graph, GraphError, Node
from graphc.ops.base import OPS
from graphc.text import constants, from_text, to_text
from graphc.types import TensorType, TupleType, Type
from graphc.verifier import verify

FLOATS = [types.f16, types.bf16, types.f32, types.f64]
ELEMENTS = list(types.DTYPES.values())
#: What derivatives are checked in.
WIDEST = (types.f64, types.c128)
#: Kinds without samples: inputs have no meaning of their own; item and ops that hold graphs are tested with their
#: drivers.
STRUCTURAL = ("input", "control", "tuple", "fused")
PRIMITIVES = [name for name, op in OPS.items() if op.kind not in STRUCTURAL]


def type_of(array: np.ndarray) -> TensorType:
    return TensorType(types.dtype(array.dtype), array.shape)


def results(type: Type) -> tuple[TensorType, ...]:
    return type.items if isinstance(type, TupleType) else (type,)


def outputs(node: Any) -> list[Node]:
    return list(ops.items(node)) if isinstance(node.type, TupleType) else [node]


def graph_of(function: Callable[..., Any], *types: TensorType) -> Graph:
    """The graph of ``function`` of nodes."""
    with Builder() as builder:
        found = function(*[builder.input(f"x{k}", t) for k, t in enumerate(types)])
        return builder.graph(list(found) if isinstance(found, (list, tuple)) else outputs(found))


def run(function: Callable[..., Any], *arrays: Any) -> Any:
    """``function`` of nodes on arrays: its result, a list where it has several."""
    arrays = tuple(np.asarray(a) for a in arrays)
    found = evaluate(graph_of(function, *map(type_of, arrays)), arrays, check=True)
    return found if len(found) > 1 else found[0]


def gradients(function: Callable[..., Any], *arrays: Any, ct: Any = None) -> list[np.ndarray]:
    """Cotangents of all (inexact) arrays for ``ct`` (ones by default) of ``function``."""
    arrays = tuple(np.asarray(a) for a in arrays)
    graph = graph_of(function, *map(type_of, arrays))
    wrt = [k for k, a in enumerate(arrays) if a.dtype.kind == "f"]
    seed = np.ones(graph.outputs[0].shape) if ct is None else np.asarray(ct)
    return evaluate(vjp_graph(graph, wrt), [*arrays, seed.astype(graph.outputs[0].dtype.numpy)])


def cases(*, differentiable: bool = False, element: types.DType = types.f64) -> list[Any]:
    return [
        pytest.param(name, sample, id=f"{name}-{k}")
        for name in PRIMITIVES
        for k, sample in enumerate(SAMPLES.get(name, ()))
        if not differentiable or (sample.operands and sample.smooth and accepts(name, sample, element))
    ]


def checks_of(names: Sequence[str], element: str) -> list[tuple[str, Sample]]:
    """The differentiable samples of ``names``, for the mutation run."""
    chosen = cases(differentiable=True, element=types.DTYPES[element])
    return [tuple(c.values) for c in chosen if c.values[0] in names]


def accepts(name: str, sample: Sample, element: types.DType) -> bool:
    try:
        OPS[name].infer(*map(type_of, draw(name, sample, element)), **sample.attrs)
    except GraphError:
        return False
    return True


# ------------------------------------------------------------------------------------------------ coverage


def test_every_op_has_samples() -> None:
    assert sorted(SAMPLES) == sorted(PRIMITIVES)
    for name, samples in SAMPLES.items():
        for sample in samples:
            assert any(accepts(name, sample, element) for element in ELEMENTS), (name, sample)


def test_every_op_has_rules() -> None:
    for name in PRIMITIVES:
        op = OPS[name]
        floats = any(accepts(name, sample, element) for sample in SAMPLES[name] for element in WIDEST)
        assert op.batch or name == "constant", name
        assert (op.vjp and op.jvp) or not floats, name


# ------------------------------------------------------------------------------------------------ eval against infer


@pytest.mark.parametrize("name", PRIMITIVES)
def test_eval_has_the_inferred_type(name: str) -> None:
    op = OPS[name]
    for sample, element in itertools.product(SAMPLES[name], ELEMENTS):
        if not accepts(name, sample, element):
            continue
        arrays = draw(name, sample, element)
        wanted = results(op.infer(*map(type_of, arrays), **sample.attrs))
        before = [a.tobytes() for a in arrays]
        found = op.eval(*arrays, **sample.attrs)
        found = found if isinstance(found, tuple) else (found,)
        assert [type_of(np.asarray(f)) for f in found] == list(wanted), (sample, element)
        assert before == [a.tobytes() for a in arrays], "eval wrote to an operand"
        strided = op.eval(*map(with_strides, arrays), **sample.attrs)
        for one, other in zip(found, strided if isinstance(strided, tuple) else (strided,), strict=True):
            np.testing.assert_allclose(wide(one), wide(other), rtol=tolerance(element))
        if element.is_inexact:
            widest = np.complex128 if element.kind == "c" else np.float64
            exact = op.eval(
                *[a.astype(widest) if types.dtype(a.dtype) is element else a for a in arrays], **sample.attrs
            )
            for one, other in zip(found, exact if isinstance(exact, tuple) else (exact,), strict=True):
                np.testing.assert_allclose(wide(one), wide(other), rtol=tolerance(element), atol=tolerance(element))


def with_strides(array: np.ndarray) -> np.ndarray:
    """The same elements, neither contiguous nor in C order."""
    doubled = np.empty([2 * k for k in array.shape], array.dtype, order="F")
    every_other: tuple[Any, ...] = (slice(None, None, 2),) * array.ndim
    view = doubled[(*every_other, ...)]  # the ellipsis: a view also where there is no axis
    view[...] = array
    return view


def wide(value: Any) -> np.ndarray:
    value = np.asarray(value)
    if value.dtype.kind == "c":
        return value.astype(np.complex128)
    return value.astype(np.float64) if types.dtype(value.dtype).is_float else value


def tolerance(element: types.DType) -> float:
    return {"f16": 8e-3, "bf16": 6e-2, "f32": 1e-5, "f64": 1e-12, "c64": 1e-5, "c128": 1e-12}.get(element.name, 0.0)


@pytest.mark.parametrize("name", PRIMITIVES)
def test_text_and_verifier_know_the_op(name: str) -> None:
    for sample, element in itertools.product(SAMPLES[name], ELEMENTS):
        if accepts(name, sample, element):
            arrays = draw(name, sample, element)
            graph = graph_of(functools.partial(OPS[name], **sample.attrs), *map(type_of, arrays))
            verify(graph)
            parsed = from_text(to_text(graph), constants(graph))
            assert to_text(parsed) == to_text(graph) and parsed.digest == graph.digest


# ------------------------------------------------------------------------------------------------ derivatives


def differentiable_graph(name: str, sample: Sample, arrays: Sequence[np.ndarray]) -> tuple[Graph, list[int]]:
    """The op as a graph with its f64 results as outputs, and the operands that it is differentiated by."""

    def function(*inputs: Node) -> list[Node]:
        if name in ("cholesky", "eigh", "eigvalsh"):  # their derivatives are those of the symmetric part
            inputs = (ops.mul(ops.add(inputs[0], transposed(inputs[0])), ops.like(inputs[0], 0.5)),)
        return [o for o in outputs(OPS[name](*inputs, **sample.attrs)) if o.dtype in WIDEST]

    graph = graph_of(function, *map(type_of, arrays))
    return graph, [k for k, a in enumerate(arrays) if types.dtype(a.dtype) in WIDEST]


def transposed(x: Node) -> Node:
    n = len(x.shape)
    return ops.transpose(x, axes=(*range(n - 2), n - 1, n - 2))


def inner(xs: Sequence[np.ndarray], ys: Sequence[np.ndarray]) -> float:
    """The pairing of cotangents with tangents: of complex ones the real part, nothing conjugated."""
    return float(sum(np.sum(a * b).real for a, b in zip(xs, ys, strict=True)))


def like(arrays: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    def one(a: np.ndarray) -> np.ndarray:
        found = rng.normal(size=a.shape)
        return found + 1j * rng.normal(size=a.shape) if a.dtype.kind == "c" else found

    return [np.asarray(one(a)) for a in arrays]


def check_derivatives(graph: Graph, wrt: list[int], arrays: list[np.ndarray], order: int, label: str = "f") -> None:
    """jvp against central differences, vjp against jvp, and so on for the graphs of both up to ``order``."""
    rng = np.random.default_rng(7)
    forward, reverse = jvp_graph(graph, wrt), vjp_graph(graph, wrt)
    values = evaluate(graph, arrays, check=True)
    floats = [k for k, v in enumerate(values) if v.dtype.kind in "fc"]
    v = like([arrays[k] for k in wrt], rng)
    u = like([values[k] for k in floats], rng)
    tangent = evaluate(forward, [*arrays, *v], check=True)[len(values) :]
    cotangent = evaluate(reverse, [*arrays, *u], check=True)

    h = 1e-5
    shifted = []
    for sign in (1, -1):
        moved = list(arrays)
        for k, direction in zip(wrt, v, strict=True):
            moved[k] = arrays[k] + sign * h * direction
        shifted.append([evaluate(graph, moved)[k] for k in floats])
    for have, up, down in zip(tangent, *shifted, strict=True):
        up, down = (np.where(np.isfinite(a), a, 0) for a in (up, down))  # the max of no element is -inf
        scale = 1 + max(np.max(np.abs(up), initial=0), np.max(np.abs(have), initial=0))
        np.testing.assert_allclose(have, (up - down) / (2 * h), rtol=0, atol=1e-6 * scale, err_msg=f"jvp of {label}")
    for k in range(len(wrt) if len(wrt) > 1 and label == "f" else 0):  # a tangent that is absent is one of zeros
        alone = evaluate(jvp_graph(graph, [wrt[k]]), [*arrays, v[k]], check=True)[len(values) :]
        others_zero = [d if j == k else np.zeros_like(d) for j, d in enumerate(v)]
        for have, want in zip(alone, evaluate(forward, [*arrays, *others_zero])[len(values) :], strict=True):
            np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-12, err_msg=f"jvp of {label} by one operand")
    left, right = inner(u, tangent), inner(cotangent, v)
    size = 1 + inner([abs(a) for a in u], [abs(a) for a in tangent])
    assert abs(left - right) <= 1e-10 * size, f"<u, Jv> = {left}, <J'u, v> = {right} for {label}"

    if order > 1:
        n = len(arrays)
        check_derivatives(reverse, [*wrt, *range(n, n + len(u))], [*arrays, *u], order - 1, f"vjp of {label}")
        check_derivatives(forward, [*wrt, *range(n, n + len(v))], [*arrays, *v], order - 1, f"jvp of {label}")


@pytest.mark.parametrize("name, sample", cases(differentiable=True))
def test_derivatives(name: str, sample: Sample) -> None:
    arrays = draw(name, sample, types.f64)
    graph, wrt = differentiable_graph(name, sample, arrays)
    if graph.outputs and wrt:
        check_derivatives(graph, wrt, arrays, order=2)


@pytest.mark.parametrize("name, sample", cases(differentiable=True, element=types.c128))
def test_complex_derivatives(name: str, sample: Sample) -> None:
    """By central differences along random complex directions: real and imaginary parts both count."""
    arrays = draw(name, sample, types.c128)
    graph, wrt = differentiable_graph(name, sample, arrays)
    if graph.outputs and wrt:
        check_derivatives(graph, wrt, arrays, order=2)


@pytest.mark.parametrize("name, sample", cases(differentiable=True))
def test_derivatives_keep_the_element_type(name: str, sample: Sample) -> None:
    """The derivative graph has the types of the operands; in f32 its values are those in f64."""
    found = {}
    for element in FLOATS:
        if not accepts(name, sample, element):
            continue
        arrays = [a.astype(np.float32) if a.dtype == np.float64 else a for a in draw(name, sample, types.f64)]
        arrays = [a.astype(element.numpy) if a.dtype == np.float32 else a for a in arrays]
        graph = graph_of(functools.partial(OPS[name], **sample.attrs), *map(type_of, arrays))
        wrt = [k for k, a in enumerate(arrays) if types.dtype(a.dtype) is element]
        seeds = [np.ones(o.shape, o.dtype.numpy) for o in graph.outputs if o.dtype.is_inexact]
        found[element] = evaluate(vjp_graph(graph, wrt), [*arrays, *seeds], check=True)
        tangents = [np.ones(arrays[k].shape, arrays[k].dtype) for k in wrt]
        found[element] += evaluate(jvp_graph(graph, wrt), [*arrays, *tangents], check=True)
    for low, high in zip(found[types.f32], found[types.f64], strict=True):
        scale = np.max(np.abs(high), initial=1, where=np.isfinite(high))
        np.testing.assert_allclose(low, high, rtol=0, atol=2e-5 * scale)


def test_casts_between_floats_are_linear() -> None:
    for source, to in itertools.product(FLOATS, FLOATS):
        graph = graph_of(lambda x, to=to: ops.cast(x, to=to), TensorType(source, (2,)))
        value, ct = np.array([1.5, 2], source.numpy), np.array([3, 4], to.numpy)
        (back,) = evaluate(vjp_graph(graph, [0]), [value, ct], check=True)
        _, forward = evaluate(jvp_graph(graph, [0]), [value, value], check=True)
        assert back.tolist() == [3, 4] and forward.tolist() == [1.5, 2]


def test_stop_gradient_stops() -> None:
    assert gradients(lambda x: ops.mul(x, ops.stop_gradient(x)), np.array([2.0, 3.0]))[0].tolist() == [2, 3]


@pytest.mark.parametrize("shape", [(), (3,)])
def test_third_order(shape: tuple[int, ...]) -> None:
    """One elementwise case and one product with zeros, a third time."""
    graph = graph_of(lambda x: ops.mul(ops.tanh(x), ops.exp(x)), TensorType(types.f64, shape))
    check_derivatives(graph, [0], [np.linspace(-1, 1, int(np.prod(shape))).reshape(shape)], order=3)
    graph = graph_of(lambda x: ops.reduce_prod(x, axes=(0,)), TensorType(types.f64, (4,)))
    check_derivatives(graph, [0], [np.array([0.0, 2.0, 0.0, 3.0])], order=3)


# ------------------------------------------------------------------------------------------------ batching


@pytest.mark.parametrize("name, sample", [c for c in cases() if c.values[1].operands])
def test_batch_rule_is_a_loop(name: str, sample: Sample) -> None:
    op = OPS[name]
    element = next(e for e in (types.f64, types.i32, types.bool_, types.c128) if accepts(name, sample, e))
    count = len(sample.operands)
    for size, flags in itertools.product((3, 0), itertools.product((True, False), repeat=count)):
        if not any(flags):
            continue
        members = [draw(name, sample, element, member) for member in range(max(size, 1))]
        operands = [np.stack([m[k] for m in members])[:size] if flag else members[0][k] for k, flag in enumerate(flags)]

        def batched(*inputs: Node, size: int = size, flags: tuple[bool, ...] = flags) -> list[Node]:
            found = op.batch(size, flags, *inputs, **sample.attrs)  # type: ignore[misc]
            return list(found) if isinstance(found, tuple) else [found]

        found = evaluate(graph_of(batched, *map(type_of, operands)), operands, check=True)
        wanted = results(op.infer(*map(type_of, members[0]), **sample.attrs))
        assert [type_of(f) for f in found] == [TensorType(t.dtype, (size, *t.shape)) for t in wanted], (size, flags)
        for member in range(size):
            one = op.eval(*[o[member] if f else o for o, f in zip(operands, flags, strict=True)], **sample.attrs)
            for have, want in zip(found, one if isinstance(one, tuple) else (one,), strict=True):
                np.testing.assert_allclose(wide(have[member]), wide(want), rtol=1e-12, atol=1e-12, err_msg=str(flags))


def test_a_batch_larger_than_the_index_type() -> None:
    x, index = np.arange(300.0).reshape(150, 2), np.zeros((150, 1), np.int8)
    found = run(lambda x, i: OPS["gather"].batch(150, (True, True), x, i, axes=(0,), mode="raise"), x, index)  # type: ignore[misc]
    np.testing.assert_array_equal(found, x[:, :1])


# ------------------------------------------------------------------------------------------------ elementwise meaning


@pytest.mark.parametrize("element", ["i8", "u8", "i64", "u64"])
def test_integers_mean_what_they_mean_in_numpy(element: str) -> None:
    dtype = types.DTYPES[element].numpy
    info = np.iinfo(dtype)
    values = np.array([info.min, info.min + 1, 0, 1, 2, 3, 7, info.max - 1, info.max], dtype)
    x, y = (a.ravel() for a in np.meshgrid(values, values, indexing="ij"))
    pairs: dict[str, Any] = {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "floor_divide": np.floor_divide,
        "remainder": np.remainder, "maximum": np.maximum, "minimum": np.minimum,
        "shift_left": np.left_shift, "shift_right": np.right_shift,
    }  # fmt: skip
    with np.errstate(all="ignore"):
        for name, function in pairs.items():
            np.testing.assert_array_equal(run(OPS[name], x, y), function(x, y), err_msg=name)
        singles: dict[str, Any] = {"neg": np.negative, "abs": np.abs, "sign": np.sign, "bit_not": np.invert}
        for name, function in singles.items():
            np.testing.assert_array_equal(run(OPS[name], values), function(values), err_msg=name)


def test_nan_and_signed_zero() -> None:
    x, y = np.array([np.nan, 1.0, 0.0, -0.0]), np.array([2.0, np.nan, -0.0, 0.0])
    for name, function in {"maximum": np.maximum, "minimum": np.minimum}.items():
        np.testing.assert_array_equal(run(OPS[name], x, y), function(x, y))
    assert np.isnan(run(lambda v: ops.reduce_max(v, axes=(0,)), x))
    assert run(lambda v: ops.argmax(v, axis=0), x) == 0 and run(lambda v: ops.argmin(v, axis=0), y) == 1
    assert np.signbit(run(ops.neg, np.array(0.0))) and np.signbit(run(ops.mul, np.array(-1.0), np.array(0.0)))


@pytest.mark.parametrize("element", FLOATS, ids=str)
def test_nan_in_every_float(element: types.DType) -> None:
    x = np.array([1, 3, np.nan, -np.inf, np.inf, 2, np.nan], element.numpy)
    assert run(lambda v: ops.argmax(v, axis=0), x) == 2 and run(lambda v: ops.argmin(v, axis=0), x) == 2
    for name in ("reduce_max", "reduce_min"):
        assert np.isnan(run(lambda v, name=name: OPS[name](v, axes=(0,)), x).astype(float))
    order = run(lambda v: ops.argsort(v, axis=0), x)
    assert order.tolist() == [3, 0, 5, 1, 4, 2, 6]
    np.testing.assert_array_equal(wide(run(lambda v: ops.sort(v, axis=0), x)), wide(x)[order])
    values, places = run(lambda v: ops.top_k(v, k=4), x)
    assert places.tolist() == [2, 6, 4, 1] and np.isnan(wide(values)[:2]).all()


@pytest.mark.parametrize("element", [types.f16, types.bf16], ids=str)
def test_half_floats_accumulate_in_f32(element: types.DType) -> None:
    ones = np.ones((4096, 2), element.numpy)
    assert (wide(run(lambda x: ops.reduce_sum(x, axes=(0,)), ones)) == 4096).all()
    window = op_samples.win((4096, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), kind="sum")
    assert (wide(run(lambda x: ops.reduce_window(x, **window), ones)) == 4096).all()
    assert wide(run(lambda x: ops.dot(x, x, batch=((), ()), contract=((0, 1), (0, 1))), ones)) == 8192


def test_derivatives_at_special_points() -> None:
    zero = np.array(0.0)
    (gx, gy) = gradients(ops.maximum, np.array(1.0), np.array(1.0))
    assert gx == gy == 0.5
    assert gradients(lambda x: ops.integer_pow(x, exponent=1), zero)[0] == 1
    assert gradients(lambda x: ops.integer_pow(x, exponent=2), zero)[0] == 0
    gx, gy = gradients(ops.pow_, np.zeros(3), np.array([0.0, 1.0, 2.0]))
    assert gx.tolist() == [0, 1, 0] and gy.tolist() == [0, 0, 0]
    assert gradients(ops.abs_, zero)[0] == 0
    assert gradients(lambda x: ops.reduce_max(x, axes=(0,)), np.array([1.0, 3.0, 3.0]))[0].tolist() == [0, 0.5, 0.5]
    assert gradients(lambda x: ops.reduce_prod(x, axes=(0,)), np.array([0.0, 2.0, 3.0]))[0].tolist() == [6, 0, 0]


# ------------------------------------------------------------------------------------------------ indexing


def test_gather_is_numpy_indexing() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 5, 3))
    i, j = rng.integers(-4, 4, (2, 3)), rng.integers(-3, 3, (2, 3))
    np.testing.assert_array_equal(run(lambda x, i: ops.gather(x, i, axes=(0,), mode="raise"), x, i), x[i])
    both = run(lambda x, i, j: ops.gather(x, i, j, axes=(0, 2), mode="raise"), x, i, j)
    np.testing.assert_array_equal(both, x[i, :, j])
    k = rng.integers(-9, 9, 7)
    np.testing.assert_array_equal(
        run(lambda x, k: ops.gather(x, k, axes=(1,), mode="clip"), x, k),
        np.take(x, k, 1, mode="clip").transpose(1, 0, 2),
    )
    dropped = run(lambda x, k: ops.gather(x, k, axes=(1,), mode="drop"), x, k)
    inside = (k >= 0) & (k < 5)
    np.testing.assert_array_equal(
        dropped, np.where(inside[:, None, None], x[:, np.where(inside, k, 0)].transpose(1, 0, 2), 0)
    )


@pytest.mark.parametrize("bad", [3, -4, 2**62])
def test_indices_out_of_range(bad: int) -> None:
    x, i = np.zeros((2, 3)), np.array([0, bad, 5])
    with pytest.raises(IndexError) as numpy_error:
        np.empty((2, 3))[:, i]
    with pytest.raises(IndexError) as error:
        run(lambda x, i: ops.gather(x, i, axes=(1,), mode="raise"), x, i)
    assert str(error.value) == str(numpy_error.value)
    with pytest.raises(IndexError, match="out of bounds for axis 1 with size 3"):
        run(lambda x, u, i: ops.scatter(x, u, i, axes=(1,), mode="raise", combine="add"), x, np.zeros((3, 2)), i)


def test_unsigned_indices_do_not_wrap() -> None:
    i = np.array([2**64 - 1], np.uint64)
    with pytest.raises(IndexError):
        run(lambda x, i: ops.gather(x, i, axes=(0,), mode="raise"), np.zeros(3), i)
    assert run(lambda x, i: ops.gather(x, i, axes=(0,), mode="clip"), np.arange(3.0), i) == 2


@pytest.mark.parametrize("combine", ["set", "add", "mul", "min", "max"])
def test_scatter_is_numpy_assignment(combine: str) -> None:
    rng = np.random.default_rng(1)
    x, u, i = rng.normal(size=(4, 3)), rng.normal(size=(5, 8, 3)), rng.integers(-4, 4, (5, 8))
    want = x.copy()
    if combine == "set":
        for place in np.ndindex(5, 8):
            want[i[place]] = u[place]
    else:
        {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}[combine].at(want, i, u)
    found = run(lambda x, u, i: ops.scatter(x, u, i, axes=(0,), mode="raise", combine=combine), x, u, i)
    np.testing.assert_allclose(found, want, rtol=1e-14)


def test_the_last_update_gets_the_gradient() -> None:
    x, u, i = np.zeros(3), np.arange(4.0), np.array([1, 2, -2, 1])
    gx, gu = gradients(
        lambda x, u, i: ops.scatter(x, u, i, axes=(0,), mode="raise", combine="set"), x, u, i, ct=[3.0, 5.0, 7.0]
    )
    assert gx.tolist() == [3, 0, 0] and gu.tolist() == [0, 7, 0, 5]


def test_ties_of_scatter_share_the_gradient() -> None:
    x, u, i = np.array([1.0, 1.0, 9.0]), np.array([1.0, 1.0, 5.0, 0.0]), np.array([0, 0, 1, 2])
    gx, gu = gradients(
        lambda x, u, i: ops.scatter(x, u, i, axes=(0,), mode="raise", combine="max"), x, u, i, ct=[6.0, 6.0, 6.0]
    )
    assert gx.tolist() == [2, 0, 6] and gu.tolist() == [2, 2, 6, 0]


def test_dropped_products_do_no_harm() -> None:
    x, u, i = np.ones(2), np.array([1e300, 1e300, 2.0, 3.0]), np.array([7, 7, 0, 0])
    gx, gu = gradients(lambda x, u, i: ops.scatter(x, u, i, axes=(0,), mode="drop", combine="mul"), x, u, i)
    assert gx.tolist() == [6, 1] and gu.tolist() == [0, 0, 3, 2]


def test_starts_are_clamped() -> None:
    x = np.arange(10.0)
    for start, first in ((-5, 0), (3, 3), (9, 7), (2**40, 7)):
        assert run(lambda x, s: ops.dynamic_slice(x, s, size=(3,)), x, start).tolist() == [first, first + 1, first + 2]
        updated = run(ops.dynamic_update_slice, x, np.full(3, -1.0), start)
        assert np.flatnonzero(updated == -1).tolist() == [first, first + 1, first + 2]


def test_along_axis() -> None:
    rng = np.random.default_rng(2)
    x, i = rng.normal(size=(3, 4)), rng.integers(-4, 4, (3, 2))
    np.testing.assert_array_equal(run(lambda x, i: ops.take_along_axis(x, i, 1), x, i), np.take_along_axis(x, i, 1))


# ------------------------------------------------------------------------------------------------ sorting


def test_sorting_is_stable() -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(-3, 3, (4, 20)).astype(np.int8)
    np.testing.assert_array_equal(run(lambda x: ops.argsort(x, axis=1), x), np.argsort(x, axis=1, kind="stable"))
    values, places = run(lambda x: ops.top_k(x, k=7), x)
    want = np.lexsort((np.broadcast_to(np.arange(20), x.shape), -x.astype(int)))[:, :7]
    np.testing.assert_array_equal(places, want)
    np.testing.assert_array_equal(values, np.take_along_axis(x, want, 1))


# ------------------------------------------------------------------------------------------------ window


def naive_conv(
    x: np.ndarray, w: np.ndarray, strides: Any, padding: Any, lhs_dilation: Any, rhs_dilation: Any, groups: int
) -> np.ndarray:
    """The definition: one product at a time."""

    def at(n: int, c: int, place: list[int]) -> float:
        source = []
        for p, (lo, _), d, extent in zip(place, padding, lhs_dilation, x.shape[2:], strict=True):
            quotient, rest = divmod(p - lo, d)
            if rest or not 0 <= quotient < extent:
                return 0.0
            source.append(quotient)
        return x[(n, c, *source)]

    counts = OPS["conv"].infer(type_of(x), type_of(w), strides, padding, lhs_dilation, rhs_dilation, groups).shape[2:]  # type: ignore[union-attr]
    found = np.zeros((x.shape[0], w.shape[0], *counts))
    for n, o, *t in np.ndindex(found.shape):
        first = o // (w.shape[0] // groups) * w.shape[1]
        for c, *k in np.ndindex(w.shape[1:]):
            place = [a * s + b * d for a, s, b, d in zip(t, strides, k, rhs_dilation, strict=True)]
            found[(n, o, *t)] += at(n, first + c, place) * w[(o, c, *k)]
    return found


@pytest.mark.parametrize("sample", SAMPLES["conv"][:5], ids=str)
def test_conv_is_its_definition(sample: Sample) -> None:
    x, w = draw("conv", sample, types.f64)
    np.testing.assert_allclose(
        run(lambda x, w: ops.conv(x, w, **sample.attrs), x, w), naive_conv(x, w, **sample.attrs), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("padding, count", [(((-1, 2),), 4), (((0, 0),), 4), (((2, -4),), 3)])
def test_windows_are_their_definition(padding: Any, count: int) -> None:
    x = np.array([-np.inf, 3.0, 1.0, 3.0, -np.inf, -np.inf, 3.0, np.nan, 2.0])
    lo, hi = padding[0]
    places = np.arange(len(x))
    numbers = np.pad(places, (max(lo, 0), max(hi, 0)), constant_values=-1)
    numbers = numbers[max(-lo, 0) : len(numbers) + min(hi, 0)]
    windows = [numbers[k : k + 3] for k in range(0, len(numbers) - 2, 2)]
    attrs = op_samples.win((3,), (2,), padding, (1,))
    found = {
        kind: run(lambda x, kind=kind: ops.reduce_window(x, kind=kind, **attrs), x) for kind in ("sum", "max", "min")
    }
    where = run(lambda x: ops.window_argmax(x, kind="max", **attrs), x)
    for k, window in enumerate(windows):
        inside = window[window >= 0]
        with np.errstate(all="ignore"):
            np.testing.assert_equal(found["sum"][k], x[inside].sum())
        np.testing.assert_equal(found["max"][k], x[inside].max(initial=-np.inf))
        np.testing.assert_equal(found["min"][k], x[inside].min(initial=np.inf))
        assert where[k] == (inside[np.argmax(x[inside])] if len(inside) else -1)
    assert len(windows) == len(where)


def test_the_first_maximum_of_a_window_gets_the_gradient() -> None:
    x = np.array([[2.0, 2.0, 1.0], [2.0, 2.0, 2.0]])
    attrs = op_samples.win((2, 2), (1, 1), ((0, 0), (0, 0)), (1, 1), kind="max")
    assert gradients(lambda x: ops.reduce_window(x, **attrs), x)[0].tolist() == [[1, 1, 0], [0, 0, 0]]


# ------------------------------------------------------------------------------------------------ linear algebra


@pytest.mark.parametrize("sample", SAMPLES["triangular_solve"][:10], ids=str)
def test_triangular_solve_solves(sample: Sample) -> None:
    a, b = draw("triangular_solve", sample, types.f64)
    x = run(lambda a, b: ops.triangular_solve(a, b, **sample.attrs), a, b)
    a = np.tril(a) if sample.attrs["lower"] else np.triu(a)
    if sample.attrs["unit_diagonal"]:
        a = a - a * np.eye(a.shape[-1]) + np.eye(a.shape[-1])
    a = np.swapaxes(a, -1, -2) if sample.attrs["transpose"] else a
    np.testing.assert_allclose(a @ x if sample.attrs["left_side"] else x @ a, b, rtol=1e-12, atol=1e-12)


def test_cholesky_reads_the_lower_triangle() -> None:
    a = np.array([[4.0, 99.0], [2.0, 5.0]])
    np.testing.assert_array_equal(run(ops.cholesky, a), np.linalg.cholesky(a))
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        run(ops.cholesky, -a)
    (g,) = gradients(ops.cholesky, a)
    np.testing.assert_array_equal(g, g.T)


@pytest.mark.parametrize("name, attrs", [("cholesky", {}), ("eigh", {"lower": True}), ("eigvalsh", {"lower": False})])
def test_derivatives_are_those_of_the_symmetric_part(name: str, attrs: dict[str, Any]) -> None:
    """Cotangents are symmetric, and of a tangent the symmetric part counts, although values come of one triangle."""
    a = np.array([[4.0, 1, 0.5], [1, 3, -1], [0.5, -1, 5]])
    graph = graph_of(functools.partial(OPS[name], **attrs), type_of(a))
    rng = np.random.default_rng(0)
    cts = [rng.normal(size=o.shape) for o in graph.outputs]
    (back,) = evaluate(vjp_graph(graph, [0]), [a, *cts])
    np.testing.assert_allclose(back, back.T, rtol=1e-12, atol=1e-12)
    t = rng.normal(size=(3, 3))
    both = [evaluate(jvp_graph(graph, [0]), [a, tangent]) for tangent in (t, (t + t.T) / 2)]
    for skew, symmetric in zip(*both, strict=True):
        np.testing.assert_allclose(skew, symmetric, rtol=1e-12, atol=1e-12)


def test_a_singular_triangle_gives_inf() -> None:
    a, b = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[1.0], [3.0]])
    assert run(lambda a, b: ops.triangular_solve(a, b, **op_samples.ts()), a, b).ravel().tolist() == [1, np.inf]


# ------------------------------------------------------------------------------------------------ random


def test_threefry_known_answers() -> None:
    """The vectors that come with Random123, for threefry2x32 with 20 rounds."""
    from graphc.ops.random import threefry2x32

    for words, want in [
        ((0, 0, 0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 4, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344, 0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ]:
        found = threefry2x32(*[np.array([w], np.uint32) for w in words])
        assert tuple(int(f[0]) for f in found) == want


def test_random_bits_depend_on_key_and_number_alone() -> None:
    keys = np.array([[0, 42], [7, 2**32 - 1]], np.uint32)
    both = run(lambda k: ops.random_bits(k, shape=(4, 5)), keys)
    for key, bits in zip(keys, both, strict=True):
        longer = run(lambda k: ops.random_bits(k, shape=(100,)), key)
        np.testing.assert_array_equal(bits.ravel(), longer[:20])
    assert [hex(b) for b in both[0, 0, :4]] == ["0x7d1c13a2", "0xae0730d9", "0x9dc3f9f9", "0x8f9ec1d7"]


# ------------------------------------------------------------------------------------------------ type errors


@pytest.mark.parametrize(
    "name, operands, attrs, message",
    [
        ("add", ["f32[2]", "f32[3]"], {}, "one type"),
        ("gather", ["f32[2]", "f32[3]"], {"axes": (0,), "mode": "raise"}, "integers"),
        ("gather", ["f32[2]", "i32[3]"], {"axes": (1,), "mode": "raise"}, "axes"),
        ("gather", ["f32[2]", "i32[3]"], {"axes": (0,), "mode": "wrap"}, "mode"),
        ("gather", ["f32[2]"], {"axes": (), "mode": "raise"}, "at least one"),
        ("gather", ["f32[0]", "i32[3]"], {"axes": (0,), "mode": "clip"}, "empty axis"),
        ("gather", ["f32[2, 2]", "i32[3]", "i64[3]"], {"axes": (0, 1), "mode": "raise"}, "one type"),
        ("scatter", ["f32[2]", "f32[2]", "i32[3]"], {"axes": (0,), "mode": "raise", "combine": "set"}, r"f32\[3\]"),
        (
            "scatter",
            ["bool[2]", "bool[3]", "i32[3]"],
            {"axes": (0,), "mode": "raise", "combine": "add"},
            "combine='add'",
        ),
        ("dynamic_slice", ["f32[2]", "i32"], {"size": (3,)}, "does not fit"),
        ("dynamic_slice", ["f32[2]", "i32[1]"], {"size": (1,)}, "scalar"),
        ("dynamic_update_slice", ["f32[2]", "f64[1]", "i32"], {}, "does not fit"),
        ("sort", ["f32"], {"axis": 0}, "axes"),
        ("top_k", ["f32[2]"], {"k": 3}, "no 3 elements"),
        ("conv", ["f32[1, 3, 4]", "f32[2, 2, 2]"], op_samples.cv((1,), ((0, 0),), (1,), (1,)), "channels"),
        ("conv", ["f32[1, 3]", "f32[2, 3]"], op_samples.cv((), (), (), ()), "spatial"),
        ("conv", ["f32[1, 2, 4]", "f32[2, 2, 2]"], op_samples.cv((0,), ((0, 0),), (1,), (1,)), "positive"),
        ("conv", ["f32[1, 2, 4]", "f32[2, 2, 2]"], op_samples.cv((1,), ((-3, -2),), (1,), (1,)), "removes more"),
        ("reduce_window", ["f32[4]"], op_samples.win((2, 2), (1,), ((0, 0),), (1,), kind="sum"), "entries"),
        ("reduce_window", ["f32[4]"], op_samples.win((2,), (1,), ((0, 0),), (1,), kind="mean"), "kind"),
        ("cholesky", ["f32[2, 3]"], {}, "square"),
        ("cholesky", ["f16[2, 2]"], {}, "f32 or f64"),
        ("triangular_solve", ["f32[2, 2]", "f32[3, 1]"], op_samples.ts(), "fits"),
        ("random_bits", ["u32[3]"], {"shape": (2,)}, "key"),
        ("iota", [], {"shape": (2,), "axis": 1, "to": types.i32}, "axes"),
        ("reduce_max", ["f32[0]"], {"axes": (0,)}, "zero-size"),
    ],
)
def test_type_errors_say_what_is_wrong(name: str, operands: list[str], attrs: dict[str, Any], message: str) -> None:
    def parsed(text: str) -> TensorType:
        element, _, shape = text.partition("[")
        return TensorType(types.DTYPES[element], tuple(int(k) for k in shape.rstrip("]").split(",") if k.strip()))

    with pytest.raises(GraphError, match=message):
        OPS[name].infer(*map(parsed, operands), **attrs)
