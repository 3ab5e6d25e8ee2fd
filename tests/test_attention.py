"""Attention as users write it: recognised before differentiation, computed by fused kernels, right at the edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import graphc
from graphc.backends.cpu.emit_attention import visible
from graphc.interpreter import evaluate
from graphc.tracing import trace_program

Function = Callable[..., Any]
T, S, D, E = 40, 48, 5, 7


def draw(*shapes: tuple[int, ...], dtype: Any = np.float64, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def softmax(s: Any) -> Any:
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def loss_of(function: Function) -> Function:
    return lambda *args: (np.sin(function(*args)) * 1.5).sum()


def lifted(function: Function, *args: Any) -> list[str]:
    graph = graphc.trace(graphc.grad(loss_of(function), tuple(range(len(args)))), *args)
    return [n["name"] for n in graph.nodes if n.op.name == "call"]


# ------------------------------------------------------------------------------------------------ the many ways


QKV = ((T, D), (S, D), (S, E))
HEADS = ((2, 3, T, D), (2, 3, S, D), (2, 3, S, E))
LAST = ((2, T, 3, D), (2, S, 3, D), (2, S, 3, E))
CAUSAL = np.tri(T, S, S - T, dtype=bool)


def plain(q: Any, k: Any, v: Any) -> Any:
    return softmax(q @ k.T / np.sqrt(D)) @ v


def without_shift(q: Any, k: Any, v: Any) -> Any:
    e = np.exp(q @ k.T)
    return (e / e.sum(-1, keepdims=True)) @ v


def divided_last(q: Any, k: Any, v: Any) -> Any:
    e = np.exp(q @ k.T)
    return (e @ v) / e.sum(-1, keepdims=True)


def divided_last_shifted(q: Any, k: Any, v: Any) -> Any:
    s = np.einsum("bqhd,bkhd->bhqk", q, k)
    e = np.exp(s - s.max(-1, keepdims=True))
    return np.einsum("bhqk,bkhe->bqhe", e, v) / e.sum(-1).transpose(0, 2, 1)[..., None]


def by_inverse(q: Any, k: Any, v: Any) -> Any:
    e = np.exp(q @ k.T)
    return (e * (1 / e.sum(-1, keepdims=True))) @ v


def scaled_before(q: Any, k: Any, v: Any) -> Any:
    return softmax((q * 0.3) @ np.swapaxes(k, -1, -2)) @ v


def by_nn(q: Any, k: Any, v: Any) -> Any:
    return graphc.nn.attention(q, k, v, causal=True)


def by_nn_softmax(q: Any, k: Any, v: Any) -> Any:
    return graphc.nn.softmax(q @ k.T, axis=-1) @ v


def causal_where(q: Any, k: Any, v: Any) -> Any:
    return softmax(np.where(CAUSAL, q @ np.swapaxes(k, -1, -2), -1e9)) @ v


def causal_inf(q: Any, k: Any, v: Any) -> Any:
    return softmax(np.where(CAUSAL, q @ np.swapaxes(k, -1, -2), -np.inf)) @ v


def causal_added(q: Any, k: Any, v: Any) -> Any:
    return softmax(q @ np.swapaxes(k, -1, -2) + (1 - CAUSAL) * -1e10) @ v


def causal_by_aranges(q: Any, k: Any, v: Any) -> Any:
    i, j = graphc.numpy.arange(T)[:, None], graphc.numpy.arange(S)[None, :]
    return softmax(np.where(j > i + 8, -np.inf, q @ np.swapaxes(k, -1, -2))) @ v


def causal_square(q: Any, k: Any, v: Any) -> Any:
    s = q @ np.swapaxes(k, -1, -2)
    return softmax(np.where(np.tri(*s.shape[-2:], dtype=bool), s, s.dtype.type(-1e9))) @ v


def alibi(q: Any, k: Any, v: Any) -> Any:
    slopes = np.array([0.5, 0.25, 0.125])[:, None, None]
    return softmax(q @ k.transpose(0, 1, 3, 2) - slopes * (np.arange(T)[:, None] - np.arange(S))) @ v


def soft_cap(q: Any, k: Any, v: Any) -> Any:
    return softmax(5.0 * np.tanh(q @ k.T / 5.0)) @ v


def einsum_heads_last(q: Any, k: Any, v: Any) -> Any:
    return np.einsum("bhqk,bkhe->bqhe", softmax(np.einsum("bqhd,bkhd->bhqk", q, k)), v)


def einsum_swapped(q: Any, k: Any, v: Any) -> Any:
    return np.einsum("eK,qK->qe", v.T, softmax(np.einsum("Kd,qd->qK", k, q)))


def einsum_of_transposed_scores(q: Any, k: Any, v: Any) -> Any:
    s = np.einsum("kd,qd->kq", k, q)
    e = np.exp(s - s.max(0))
    return np.einsum("kq,ke->qe", e / e.sum(0), v)


def shared_by_broadcast(q: Any, k: Any, v: Any) -> Any:
    return softmax(q @ k.transpose(0, 2, 1)[:, None]) @ v[:, None]


def shared_by_einsum(q: Any, k: Any, v: Any) -> Any:
    return np.einsum("bhqk,bke->bhqe", softmax(np.einsum("bhqd,bkd->bhqk", q, k)), v)


def one_projection(x: Any, w: Any) -> Any:
    b, t, c = x.shape
    qkv = (x @ w).reshape(b, t, 3, 2, c // 2).transpose(2, 0, 3, 1, 4)
    o = softmax(qkv[0] @ np.swapaxes(qkv[1], -1, -2)) @ qkv[2]
    return o.transpose(0, 2, 1, 3).reshape(b, t, c)


def split_projection(x: Any, w: Any) -> Any:
    q, k, v = np.split(x @ w, 3, axis=-1)
    return softmax(q @ np.swapaxes(k, -1, -2)) @ v


def of_itself(x: Any) -> Any:
    return softmax(x @ x.T) @ x


def with_bias(q: Any, k: Any, v: Any, bias: Any) -> Any:
    return softmax(q @ k.T + bias) @ v


def with_key_mask(q: Any, k: Any, v: Any, keep: Any) -> Any:
    return softmax(np.where((keep > -1)[:, None, None, :], q @ np.swapaxes(k, -1, -2), -1e9)) @ v


def several_features(q: Any, k: Any, v: Any) -> Any:
    return np.einsum("qk,kxy->qxy", softmax(np.einsum("qxy,kxy->qk", q, k)), v)


FORMS: list[tuple[Function, tuple[tuple[int, ...], ...]]] = [
    (plain, QKV), (without_shift, QKV), (divided_last, QKV), (divided_last_shifted, LAST), (by_inverse, QKV),
    (scaled_before, HEADS), (by_nn, HEADS), (by_nn_softmax, QKV), (causal_where, HEADS), (causal_inf, QKV),
    (causal_added, HEADS), (causal_by_aranges, QKV), (alibi, HEADS), (soft_cap, QKV), (einsum_heads_last, LAST),
    (einsum_swapped, QKV), (einsum_of_transposed_scores, QKV), (shared_by_broadcast, ((2, 3, T, D), (2, S, D), (2, S, E))),
    (shared_by_einsum, ((2, 3, T, D), (2, S, D), (2, S, E))), (one_projection, ((2, T, 8), (8, 24))),
    (split_projection, ((2, T, 8), (8, 24))), (of_itself, ((T, D),)), (with_bias, (*QKV, (T, S))),
    (with_key_mask, (*HEADS, (2, S))), (several_features, ((T, 2, 3), (S, 2, 3), (S, 3, 2))),
]  # fmt: skip


@pytest.mark.parametrize(("function", "shapes"), FORMS, ids=[f.__name__ for f, _ in FORMS])
def test_forms_are_lifted_and_right(function: Function, shapes: tuple[tuple[int, ...], ...]) -> None:
    args = draw(*shapes)
    assert lifted(function, *args) == ["attention", "attention_grad"]
    value = graphc.value_and_grad(loss_of(function))(*args)[0]
    np.testing.assert_allclose(value, loss_of(function)(*args), rtol=1e-10)
    gradient = graphc.grad(loss_of(function), tuple(range(len(args))))(*args)
    steps = draw(*shapes, seed=1)
    for k, (g, step) in enumerate(zip(gradient, steps, strict=True)):
        up, down = ([x + sign * 1e-6 * step if j == k else x for j, x in enumerate(args)] for sign in (1, -1))
        slope = (loss_of(function)(*up) - loss_of(function)(*down)) / 2e-6
        np.testing.assert_allclose((g * step).sum(), slope, rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------------------ near misses


def miss_dropout(q: Any, k: Any, v: Any) -> Any:
    return (softmax(q @ k.T) * (np.arange(S) % 3 > 0)) @ v


def miss_rows(q: Any, k: Any, v: Any) -> Any:
    s = q @ k.T
    e = np.exp(s - s.max(0))
    return (e / e.sum(0)) @ v


def miss_own_mean(q: Any, k: Any, v: Any) -> Any:
    s = q @ k.T
    return softmax(s * s.mean()) @ v


def miss_symmetric(q: Any, k: Any, v: Any) -> Any:
    s = q @ k[:T].T
    return softmax(s + s.T) @ v[:T]


def miss_small(q: Any, k: Any, v: Any) -> Any:
    return softmax(q[:8] @ k[:8].T) @ v[:8]


MISSES = [
    (miss_dropout, "mul lies between the softmax and the second contraction"),
    (miss_rows, "the softmax sums over other axes than the second contraction"),
    (miss_own_mean, "the score function reads what was reduced or moved from the scores themselves"),
    (miss_symmetric, "in two orders of its axes"),
    (miss_small, "a kernel of its own is not worth it for 8 queries, 8 keys"),
]


@pytest.mark.parametrize(("function", "why"), MISSES, ids=[f.__name__ for f, _ in MISSES])
def test_near_misses_say_why(function: Function, why: str) -> None:
    args = draw(*QKV)
    program = trace_program(graphc.grad(loss_of(function), (0, 1, 2)), tuple(args), {})
    assert "attention" not in [n["name"] for n in program.graph.nodes if n.op.name == "call"]
    assert why in "; ".join(program.notes)
    assert "test_attention.py:" in "; ".join(program.notes)


# ------------------------------------------------------------------------------------------------ kernels


def both(function: Function, *args: np.ndarray) -> Function:
    """Value, output and gradients of one function."""

    def value(*args: Any) -> Any:
        out = function(*args)
        weights = np.linspace(-1, 1, math.prod(out.shape)).reshape(out.shape).astype(args[0].dtype)
        return (out * weights).sum(), out

    return graphc.value_and_grad(value, tuple(range(len(args))), has_aux=True)


def check(function: Function, *args: np.ndarray, rtol: float | None = None) -> graphc.Executable:
    """Fused kernels give what the reference gives in f64, with the same bits for one and two threads."""
    compiled = graphc.compile(both(function, *args), threads=1)
    (_, out), gradient = compiled(*args)
    exe = compiled.executable(*args)
    assert [k.template for k in exe.schedule.kernels].count("attention") == 2, exe.schedule.notes
    (_, again), gradients = graphc.compile(both(function, *args), threads=2)(*args)
    for one, two in zip((out, *gradient), (again, *gradients), strict=True):
        assert one.tobytes() == two.tobytes(), "bits depend on threads"
    wide = [x.astype(np.float64) if x.dtype.kind != "i" else x for x in args]
    with np.errstate(all="ignore"):
        graph = graphc.trace(both(function, *wide), *wide)
        _, exact, *slopes = evaluate(graph, wide)
    tolerance = rtol or {4: 1e-5, 8: 1e-13}[args[0].dtype.itemsize]
    for one, want in zip((out, *gradient), (exact, *slopes), strict=True):
        scale = np.max(np.abs(want[np.isfinite(want)]), initial=1e-30)
        np.testing.assert_allclose(one.astype(np.float64), want, rtol=0, atol=tolerance * scale)
    return exe


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("few", [False, True], ids=["many matrices", "few matrices"])
def test_ragged_sizes(few: bool, dtype: Any) -> None:
    batch = (3,) if few else (3, 7)
    q, k, v = draw((*batch, 131, 9), (*batch, 293, 9), (*batch, 293, 21), dtype=dtype)
    check(scaled_before, q, k, v)


@pytest.mark.parametrize("fill", [-1e9, -np.inf, 0.0])
@pytest.mark.parametrize("few", [False, True], ids=["many matrices", "few matrices"])
def test_causal_masks(few: bool, fill: float) -> None:
    mask = np.tri(150, 170, 20, dtype=bool)
    heads = 2 if few else 17

    def function(q: Any, k: Any, v: Any) -> Any:
        return softmax(np.where(mask, q @ np.swapaxes(k, -1, -2), q.dtype.type(fill))) @ v

    check(function, *draw((heads, 150, 12), (heads, 170, 12), (heads, 170, 12), dtype=np.float32))


def masked_by(fill: float, offset: int) -> Function:
    mask = np.tri(64, 64, offset, dtype=bool)
    return lambda q, k, v: softmax(np.where(mask, q @ np.swapaxes(k, -1, -2), q.dtype.type(fill))) @ v


SQUARE = ((2, 64, 8), (2, 64, 8), (2, 64, 8))


@pytest.mark.parametrize("fill", [-1e9, -np.inf])
def test_rows_in_which_all_is_masked(fill: float) -> None:
    """Of -inf the result is NaN, of -1e9 the mean of all values."""
    q, k, v = draw(*SQUARE, dtype=np.float32)
    exe = check(masked_by(fill, -20), q, k, v)
    (_, out), _ = exe(q, k, v)
    if fill == -np.inf:
        assert np.isnan(out[:, :20]).all() and np.isfinite(out[:, 20:]).all()
    else:
        np.testing.assert_allclose(
            out[:, :20], np.broadcast_to(v.mean(1, keepdims=True), out[:, :20].shape), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("which", range(3), ids=["q", "k", "v"])
def test_masks_do_not_hide_what_is_not_finite(which: int, value: float) -> None:
    """0 · ∞ is NaN: a hidden key whose value is not finite spoils the rows, as in NumPy."""
    args = draw(*SQUARE, dtype=np.float32)
    args[which][1, 60, 3] = value
    check(masked_by(-1e9, 0), *args)


def test_scores_so_low_that_the_mask_does_not_hide() -> None:
    q, k, v = draw(*SQUARE, dtype=np.float64)
    q[:, :, 0], k[:, :, 0] = 1e5, -1e5
    _, out = graphc.compile(both(masked_by(-1e9, 0), q, k, v))(q, k, v)[0]
    np.testing.assert_allclose(out, masked_by(-1e9, 0)(q, k, v), rtol=1e-9)
    assert not np.allclose(out[:, 0], v[:, 0]), "row 0 sees hidden keys"


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_half_floats(dtype: Any) -> None:
    q, k, v = draw(*SQUARE, dtype=dtype)
    check(lambda q, k, v: softmax(q @ k.transpose(0, 2, 1)) @ v, q, k, v, rtol=2e-2)


def test_heads_lie_beside_each_other_without_copies() -> None:
    x, w = draw((2, 64, 24), (24, 72), dtype=np.float32)
    exe = check(one_projection, x, w * np.float32(0.3))
    assert {k.template for k in exe.schedule.kernels} <= {"attention", "contraction", "row", "elementwise"}
    assert not any(
        k.body.outputs[0].op.name == "transpose" for k in exe.schedule.kernels if k.template == "elementwise"
    )


def test_the_matrix_of_scores_is_never_in_memory() -> None:
    q, k, v = draw((2, 1024, 8), (2, 1024, 8), (2, 1024, 8), dtype=np.float32)
    exe = graphc.compile(graphc.value_and_grad(loss_of(scaled_before), (0, 1, 2))).executable(q, k, v)
    assert exe.memory.peak + 2 * exe.memory.scratch < 1024 * 1024 * 4


def test_without_derivatives_it_is_fused_too() -> None:
    q, k, v = draw((2, 1024, 8), (2, 1024, 8), (2, 1024, 8), dtype=np.float32)
    compiled = graphc.compile(causal_square)
    exe = compiled.executable(q, k, v)
    assert [kernel.template for kernel in exe.schedule.kernels] == ["attention"]
    assert exe.memory.peak + 2 * exe.memory.scratch < 1024 * 1024
    np.testing.assert_allclose(compiled(q, k, v), causal_square(q, k, v), rtol=1e-4, atol=1e-5)


def test_layers_share_their_kernels() -> None:
    def layers(count: int) -> int:
        def function(x: Any) -> Any:
            for _ in range(count):
                x = x + softmax(x @ x.transpose(0, 2, 1)) @ x
            return (x * x).sum()

        exe = graphc.compile(graphc.grad(function)).executable(*draw((2, 64, 8), dtype=np.float32))
        from graphc.backends.cpu.codegen import lower

        return len({lower(k).symbol for k in exe.schedule.kernels if k.template == "attention"})

    assert layers(4) == layers(2) == 2


# ------------------------------------------------------------------------------------------------ derivatives


def test_second_order() -> None:
    q, k, v = draw((8, 2), (128, 2), (128, 2))
    graphc.check_grads(lambda *args: plain(*args)[::3], (q, k[:, :2], v), order=2)


def test_forward_mode() -> None:
    args, steps = draw(*QKV), draw(*QKV, seed=1)
    gradient = graphc.grad(loss_of(plain), (0, 1, 2))
    _, dual = graphc.jvp(gradient, args, steps)
    up, down = (gradient(*[x + sign * 1e-6 * d for x, d in zip(args, steps, strict=True)]) for sign in (1, -1))
    for t, a, b in zip(dual, up, down, strict=True):
        np.testing.assert_allclose(t, (a - b) / 2e-6, rtol=1e-4, atol=1e-6)


def test_a_batch_of_gradients() -> None:
    q, k, v = draw((3, T, D), (3, S, D), (3, S, E))
    batched = graphc.vmap(graphc.grad(loss_of(plain)))
    compiled = graphc.compile(batched)
    want = [graphc.grad(loss_of(plain))(*x) for x in zip(q, k, v, strict=True)]
    np.testing.assert_allclose(compiled(q, k, v), np.stack(want), rtol=1e-10, atol=1e-12)
    assert "attention" in {kernel.template for kernel in compiled.executable(q, k, v).schedule.kernels}


# ------------------------------------------------------------------------------------------------ causal masks, found


def test_which_masks_are_causal() -> None:
    def of(mask: Callable[[Any, Any], Any]) -> int | None:
        def function(q: Any, k: Any, v: Any) -> Any:
            i, j = graphc.numpy.arange(T)[:, None], graphc.numpy.arange(S)[None, :]
            return softmax(np.where(mask(i, j), q @ k.T, -1e9)) @ v

        graph = graphc.trace(graphc.grad(loss_of(function)), *draw(*QKV))
        (body,) = [n["body"] for n in graph.nodes if n.op.name == "call" and n["name"] == "attention"]
        (t,) = [n.inputs[0].inputs[0] for n in body.nodes if n.op.name == "exp"]
        found = visible(t)
        return None if found is None else found[0]

    assert of(lambda i, j: j <= i + 3) == 3
    assert of(lambda i, j: i > j) == -1
    assert of(lambda i, j: ~(j > i)) == 0
    assert of(lambda i, j: (j <= i) & (i - j < 9)) == 0
    assert of(lambda i, j: j >= i) is None
