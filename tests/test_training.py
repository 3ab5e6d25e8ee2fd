"""TrainingStep: what it owns, several batches, state, aux and key, failures, and every optimizer against a NumPy loop."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections import namedtuple

import numpy as np
import pytest

import graphc
from graphc import optim

MLP = namedtuple("MLP", "hidden out")
rng = np.random.default_rng(0)
X = rng.normal(size=(12, 4))
Y = np.sin(X.sum(axis=1, keepdims=True))
W = rng.normal(size=(4, 1))


def squares(params, x, y):
    """Mean squared error of a linear model."""
    return ((x @ params["w"] + params["b"] - y) ** 2).mean()


def squares_by_hand(params, x, y):
    """The same, and its gradient."""
    r = x @ params["w"] + params["b"] - y
    scale = np.asarray(2 / r.size, r.dtype)
    return (r**2).mean(), {"w": scale * (x.T @ r), "b": scale * r.sum(axis=0)}


def start(dtype=np.float32):
    return {"w": W.astype(dtype), "b": np.zeros(1, dtype)}


def data(dtype=np.float32):
    return X.astype(dtype), Y.astype(dtype)


def network(params, x, labels):
    """The cross-entropy of a small classifier."""
    hidden = np.tanh(x @ params["w1"] + params["b1"])
    logits = hidden @ params["w2"] + params["b2"]
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -np.take_along_axis(log_p, labels[:, None], axis=1).mean()


def network_start():
    r = np.random.default_rng(1)
    return {
        "w1": r.normal(size=(4, 8)).astype(np.float32), "b1": np.zeros(8, np.float32),
        "w2": r.normal(size=(8, 3)).astype(np.float32), "b2": np.zeros(3, np.float32),
    }  # fmt: skip


@pytest.fixture(scope="module")
def classifier():
    """One compiled classifier for all tests that leave it usable."""
    step = graphc.TrainingStep(network, network_start(), optim.sgd(0.1))
    step(X.astype(np.float32), np.arange(12) % 3)
    return step


def copied(tree):
    return graphc.tree.tree_map(np.array, tree)


# ------------------------------------------------------------------------------------------------ optimizers by hand


def by_hand(kind, **o):
    """``update(t, g, p, memory) -> p`` for one array; ``memory`` is a dict that it keeps things in."""

    def update(t, g, p, memory):
        lr = o["rate"](t) if callable(o["rate"]) else o["rate"]
        if kind in ("sgd", "adam") and "decay" in o:
            g = g + o["decay"] * p
        if kind == "sgd":
            if "momentum" not in o:
                return p - lr * g
            v = memory["v"] = o["momentum"] * memory.get("v", 0 * p) + g
            return p - lr * (g + o["momentum"] * v if o.get("nesterov") else v)
        if kind in ("adam", "adamw"):
            m = memory["m"] = 0.9 * memory.get("m", 0 * p) + 0.1 * g
            v = memory["v"] = 0.999 * memory.get("v", 0 * p) + 0.001 * g * g
            m, v = m / (1 - 0.9 ** (t + 1)), v / (1 - 0.999 ** (t + 1))
            p = p * (1 - lr * o["decay"]) if kind == "adamw" else p
            return p - lr * m / (np.sqrt(v) + 1e-8)
        if kind == "rmsprop":
            v = memory["v"] = 0.99 * memory.get("v", 0 * p) + 0.01 * g * g
            move = g / (np.sqrt(v) + 1e-8)
            if "momentum" in o:
                move = memory["u"] = o["momentum"] * memory.get("u", 0 * p) + move
            return p - lr * move
        s = memory["s"] = memory.get("s", 0 * p) + g * g
        return p - lr * g / (np.sqrt(s) + 1e-10)

    return update


def warm(t):
    return 0.2 * min((t + 1) / 4, 1.0)


OPTIMIZERS = {
    "sgd": (optim.sgd(0.1), by_hand("sgd", rate=0.1)),
    "sgd decay": (optim.sgd(0.1, weight_decay=0.1), by_hand("sgd", rate=0.1, decay=0.1)),
    "momentum": (optim.sgd(0.05, momentum=0.8), by_hand("sgd", rate=0.05, momentum=0.8)),
    "nesterov": (
        optim.sgd(0.05, momentum=0.8, nesterov=True, weight_decay=0.01),
        by_hand("sgd", rate=0.05, momentum=0.8, nesterov=True, decay=0.01),
    ),
    "adam": (optim.adam(0.1), by_hand("adam", rate=0.1)),
    "adam decay": (optim.adam(0.1, weight_decay=0.1), by_hand("adam", rate=0.1, decay=0.1)),
    "adamw": (optim.adamw(0.1, weight_decay=0.05), by_hand("adamw", rate=0.1, decay=0.05)),
    "rmsprop": (optim.rmsprop(0.05), by_hand("rmsprop", rate=0.05)),
    "rmsprop momentum": (optim.rmsprop(0.02, momentum=0.5), by_hand("rmsprop", rate=0.02, momentum=0.5)),
    "adagrad": (optim.adagrad(0.3), by_hand("adagrad", rate=0.3)),
    "warm-up": (optim.sgd(optim.warmup(4, 0.2)), by_hand("sgd", rate=warm)),
    "cosine": (
        optim.sgd(optim.cosine_decay(0.2, 20, 0.01)),
        by_hand("sgd", rate=lambda t: 0.01 + 0.19 * 0.5 * (1 + np.cos(np.pi * t / 20))),
    ),
    "exponential": (
        optim.adam(optim.exponential_decay(0.2, 0.5, 10)), by_hand("adam", rate=lambda t: 0.2 * 0.5 ** (t / 10))
    ),
    "steps": (
        optim.sgd(optim.piecewise_constant([5], [0.2, 0.02])), by_hand("sgd", rate=lambda t: 0.2 if t < 5 else 0.02)
    ),
}  # fmt: skip


def loop_by_hand(update, params, x, y, count):
    memory = {k: {} for k in params}
    losses = []
    for t in range(count):
        loss, grads = squares_by_hand(params, x, y)
        losses.append(loss)
        params = {k: np.asarray(update(t, grads[k], params[k], memory[k]), params[k].dtype) for k in params}
    return losses, params


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_are_those_of_a_numpy_loop(name):
    optimizer, update = OPTIMIZERS[name]
    x, y = data(np.float64)
    step = graphc.TrainingStep(squares, start(np.float64), optimizer)
    losses = [float(step(x, y)) for _ in range(10)]
    want, params = loop_by_hand(update, start(np.float64), x, y, 10)
    np.testing.assert_allclose(losses, want, rtol=1e-9)
    for k in params:
        np.testing.assert_allclose(step.params[k], params[k], rtol=1e-9)
    assert losses[-1] < losses[0]
    assert step.steps == 10


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adagrad", "cosine"])
def test_optimizers_in_single_precision(name):
    optimizer, update = OPTIMIZERS[name]
    x, y = data()
    step = graphc.TrainingStep(squares, start(), optimizer)
    losses = [float(step(x, y)) for _ in range(10)]
    want, params = loop_by_hand(update, start(np.float64), *data(np.float64), 10)
    np.testing.assert_allclose(losses, want, rtol=2e-4)
    assert all(step.params[k].dtype == np.float32 for k in params)
    for k in params:
        np.testing.assert_allclose(step.params[k], params[k], rtol=2e-3, atol=1e-5)


def test_clipping_by_the_global_norm():
    x, y = data(np.float64)
    step = graphc.TrainingStep(squares, start(np.float64), optim.clip_by_global_norm(0.5, optim.sgd(0.1)))
    params = start(np.float64)
    for _ in range(5):
        loss, grads = squares_by_hand(params, x, y)
        assert float(step(x, y)) == pytest.approx(loss, rel=1e-9)
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        params = {k: p - 0.1 * grads[k] * min(1.0, 0.5 / norm) for k, p in params.items()}
    np.testing.assert_allclose(step.params["w"], params["w"], rtol=1e-8)


def test_the_reference_backend_trains_alike():
    x, labels = X.astype(np.float32), np.arange(12) % 3
    steps = [graphc.TrainingStep(network, network_start(), optim.adam(0.05), backend=b) for b in ("cpu", "reference")]
    losses = [[float(step(x, labels)) for _ in range(15)] for step in steps]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert losses[0][-1] < 0.7 * losses[0][0]


# ------------------------------------------------------------------------------------------------ batches


def test_gradient_descent_and_mini_batches_are_one_program():
    x, y = data()
    step = graphc.TrainingStep(squares, start(), optim.sgd(0.1))
    params = start()
    for rows in (slice(None), slice(0, 4), slice(4, 8), slice(None), slice(8, 12), slice(0, 3)):
        loss, grads = squares_by_hand(params, x[rows], y[rows])
        assert float(step(x[rows], y[rows])) == pytest.approx(loss, rel=1e-5)
        params = {k: p - np.float32(0.1) * grads[k] for k, p in params.items()}
        np.testing.assert_allclose(step.params["w"], params["w"], rtol=1e-5)
    assert step.steps == 6
    assert len(step.executables) == 3  # of 12, 4 and 3 rows
    texts = [str(exe.traced).replace("[12, ", "[n, ").replace("[4, ", "[n, ") for exe in step.executables[:2]]
    assert "dot(" in texts[0] and len(texts[0].splitlines()) == len(texts[1].splitlines())


def test_batches_of_any_nesting_numbers_and_flags():
    def loss(params, batch, scale, *, double=False):
        value = ((batch["x"] * params["w"] - batch["y"]) ** 2).mean() * scale
        return value * 2 if double else value

    step = graphc.TrainingStep(loss, {"w": np.float32(1)}, optim.sgd(0.0))
    batch = {"x": np.float32([1, 2]), "y": np.float32([0, 0])}
    for _ in range(2):
        assert step(batch, 1.0) == 2.5
        assert step(batch, 10.0) == 25
        assert step(batch, 10.0, double=True) == 50
        assert step(batch, 10.0, double=False) == 25
    assert len(step.executables) == 3
    with pytest.raises(TypeError, match="argument batch.x is a set"):
        step({"x": {1}, "y": batch["y"]}, 1.0)


def test_a_loss_of_the_parameters_alone():
    step = graphc.TrainingStep(lambda p: (p["x"] - 3) ** 2, {"x": np.float64(0)}, optim.sgd(0.25))
    assert [float(step()) for _ in range(3)] == [9.0, 2.25, 0.5625]
    assert len(step.executables) == 1 and step.params["x"].shape == ()


def test_arguments_have_the_names_of_the_loss(classifier):
    exe = classifier.executable(X.astype(np.float32), np.arange(12) % 3)
    assert exe.traced.input_names == (
        "params.b1", "params.b2", "params.w1", "params.w2", "step", "key", "x", "labels"
    )  # fmt: skip
    with pytest.raises(TypeError, match="call the step"):
        exe(X.astype(np.float32), np.arange(12) % 3)
    with pytest.raises(TypeError, match=r"save the step, step.save\(path\)"):
        exe.save("nowhere")


def test_parameters_of_any_nesting():
    @dataclasses.dataclass
    class Layer:
        w: np.ndarray
        b: np.ndarray

    def loss(params, x):
        h = np.tanh(x @ params.hidden[0].w + params.hidden[0].b)
        return ((h @ params.out) ** 2).mean()

    params = MLP([Layer(W @ np.ones((1, 3)), np.zeros(3))], np.ones(3))
    step = graphc.TrainingStep(loss, params, optim.adam(0.01))
    first = float(step(X))
    for _ in range(20):
        last = float(step(X))
    assert last < first
    got = step.params
    assert type(got) is MLP and type(got.hidden[0]) is Layer and got.hidden[0].w.shape == (4, 3)
    assert type(step.optimizer_state["m"]) is MLP


# ------------------------------------------------------------------------------------------------ what a step owns


def test_parameters_are_copied_and_read_only_views_of_live_memory():
    params = start()
    step = graphc.TrainingStep(squares, params, optim.sgd(0.1))
    view = step.params["w"]
    before = view.copy()
    step(*data())
    assert not np.array_equal(view, before)  # live
    assert view is not step.params["w"] and np.shares_memory(view, step.params["w"])
    np.testing.assert_array_equal(params["w"], W.astype(np.float32))  # the caller's own are as they were
    with pytest.raises(ValueError, match="read-only"):
        step.params["w"][...] = 0
    with pytest.raises(ValueError, match="read-only"):
        step.params["b"] += 1


def test_results_are_fresh():
    def loss(params, x, y):
        return squares(params, x, y), {"w": params["w"], "x": x}

    step = graphc.TrainingStep(loss, start(), optim.sgd(0.1), has_aux=True)
    x, y = data()
    first, aux = step(x, y)
    value, w = float(first), aux["w"].copy()
    np.testing.assert_array_equal(w, W.astype(np.float32))  # the parameters that the loss saw, before the update
    assert not np.shares_memory(aux["w"], step.params["w"]) and not np.shares_memory(aux["x"], x)
    step(x, y)
    assert float(first) == value
    np.testing.assert_array_equal(aux["w"], w)


def test_state_and_aux():
    def loss(params, state, x, y):
        mean = 0.9 * state["mean"] + 0.1 * x.mean(axis=0)
        new = {"mean": mean, "count": state["count"] + 1}
        return squares(params, x - mean, y), new, {"residual": x @ params["w"] - y}

    x, y = data()
    state = {"mean": np.zeros(4, np.float32), "count": np.int32(0)}
    step = graphc.TrainingStep(loss, start(), optim.sgd(0.01), state=state, has_aux=True)
    mean = np.zeros(4, np.float32)
    for k in range(4):
        w = step.params["w"].copy()
        value, aux = step(x, y)
        mean = np.float32(0.9) * mean + np.float32(0.1) * x.mean(axis=0)
        np.testing.assert_allclose(step.state["mean"], mean, rtol=1e-5)
        np.testing.assert_allclose(aux["residual"], x @ w - y, rtol=1e-4, atol=1e-5)
        assert step.state["count"] == k + 1 and value.shape == ()
    with pytest.raises(ValueError, match="read-only"):
        step.state["mean"][0] = 1


def test_state_without_aux():
    step = graphc.TrainingStep(
        lambda p, s, x: ((p * x).sum() ** 2, s + 1), np.ones(3), optim.sgd(0.01), state=np.zeros(())
    )
    step(np.ones(3))
    assert step(np.ones(3)).shape == () and step.state == 2


def noisy(params, key, x):
    return ((params * (x + graphc.random.normal(key, x.shape, np.float32))) ** 2).sum()


def test_a_loss_with_a_key_gets_another_at_every_step():
    def run(seed):
        step = graphc.TrainingStep(noisy, np.ones(4, np.float32), optim.sgd(0.0), seed=seed)
        return [float(step(np.ones(4, np.float32))) for _ in range(4)]

    one = run(0)
    assert len(set(one)) == 4
    step = graphc.TrainingStep(lambda p, x, key: noisy(p, key, x), np.ones(4, np.float32), optim.sgd(0.0))
    assert float(step(np.ones(4, np.float32))) == one[0]
    assert one == run(0) and one != run(1)


# ------------------------------------------------------------------------------------------------ refusals


def test_an_update_that_changes_the_type_is_refused():
    wide = optim.Optimizer(
        lambda p: {}, lambda g, s, p, t: (graphc.tree.tree_map(lambda p, g: p - g * np.sqrt(np.float64(64)), p, g), s)
    )
    step = graphc.TrainingStep(squares, start(), wide)
    message = r"the update of params.b is f64\[1\], the array is f32\[1\]; float64 from .*test_training.py:\d+: "
    with pytest.raises(TypeError, match=message):
        step(*data())

    def state_grows(params, state, x, y):
        return squares(params, x, y), np.concatenate([state, state])

    step = graphc.TrainingStep(state_grows, start(), optim.sgd(0.1), state=np.zeros(2))
    with pytest.raises(TypeError, match=r"the update of state is f64\[4\], the array is f64\[2\]"):
        step(*data())


def test_a_state_of_another_nesting_is_refused():
    step = graphc.TrainingStep(
        lambda p, s, x, y: (squares(p, x, y), {"b": s["a"]}), start(), optim.sgd(0.1), state={"a": np.zeros(2)}
    )
    with pytest.raises(TypeError, match="the update of state nests in another way: expected a dict with the keys .'a'."):
        step(*data())


def test_losses_that_cannot_be():
    x, y = data()
    with pytest.raises(TypeError, match="needs a loss function, parameters and an optimizer"):
        graphc.TrainingStep(squares, start(), None)
    with pytest.raises(TypeError, match="grad needs a scalar loss"):
        graphc.TrainingStep(lambda p, x, y: x @ p["w"], start(), optim.sgd(0.1))(x, y)
    with pytest.raises(TypeError, match=r"must return \(loss, aux\), it returned"):
        graphc.TrainingStep(squares, start(), optim.sgd(0.1), has_aux=True)(x, y)
    with pytest.raises(TypeError, match="is no real float|not a float|is no float|float"):
        graphc.TrainingStep(lambda p, x: (p * x).sum(), np.arange(3), optim.sgd(0.1))(np.ones(3))
    with pytest.raises(TypeError, match="params.w is a str, not an array of numbers"):
        graphc.TrainingStep(squares, {"w": "a"}, optim.sgd(0.1))
    with pytest.raises(TypeError, match="a training step cannot be part of a traced function"):
        step = graphc.TrainingStep(squares, start(), optim.sgd(0.1))
        graphc.trace(lambda x: step(x, y), x)


def test_a_loss_that_fails_while_tracing_leaves_the_step_usable():
    def loss(params, x, y):
        if x.shape[0] == 3:
            raise ZeroDivisionError
        return squares(params, x, y)

    step = graphc.TrainingStep(loss, start(), optim.sgd(0.1))
    x, y = data()
    with pytest.raises(ZeroDivisionError):
        step(x[:3], y[:3])
    step(x, y)
    assert step.steps == 1


# ------------------------------------------------------------------------------------------------ failures while running


def test_a_label_out_of_range_changes_nothing(classifier):
    x, labels = X.astype(np.float32), np.arange(12) % 3
    before, steps = copied(classifier.params), classifier.steps
    for wrong in (3, -4, 10**12, np.iinfo(np.int64).min):
        labels[5] = wrong
        with pytest.raises(IndexError, match=r"out of bounds.*test_training.py:\d+"):
            classifier(x, labels)
    for k, array in before.items():
        np.testing.assert_array_equal(classifier.params[k], array)
    assert classifier.steps == steps
    labels[5] = 2
    assert np.isfinite(classifier(x, labels))


def test_a_label_of_minus_one_is_the_last_class(classifier):
    x, labels = X.astype(np.float32), np.arange(12) % 3
    one, other = (graphc.TrainingStep(network, network_start(), optim.sgd(0.1)) for _ in range(2))
    assert one(x, labels) == other(x, np.where(labels == 2, -1, labels))
    for k in one.params:
        np.testing.assert_array_equal(one.params[k], other.params[k])


def test_wrong_batches_name_the_argument(classifier):
    with pytest.raises(TypeError, match="argument labels is a object"):
        classifier(X.astype(np.float32), object())
    before = classifier.steps
    with pytest.raises(TypeError):
        classifier(X.astype(np.float32))
    assert classifier.steps == before


def late_update(grads, state, params, step):
    """The index of the new state depends on all of the new parameters, and is out of range at step 8."""
    new = params - 0.1 * grads
    table = np.arange(8.0)
    return new, state + np.take(graphc.numpy.asarray(table), (new.sum() * 0).astype(np.int64) + step)


def test_an_error_after_the_first_write_loses_the_step():
    optimizer = optim.Optimizer(lambda p: np.zeros(()), late_update)
    step = graphc.TrainingStep(lambda p, x: ((p * x) ** 2).sum(), np.ones(4000), optimizer)
    x = np.ones(4000)
    for _ in range(8):
        step(x)
    with pytest.raises(IndexError, match=r"test_training.py:\d+") as caught:
        step(x)
    assert step._lost  # the update had begun
    assert any("they are lost" in note for note in caught.value.__notes__)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="they are lost"):
            step(x)
    with pytest.raises(RuntimeError, match="they are lost"):
        step.save("nowhere")


# ------------------------------------------------------------------------------------------------ threads, processes


def test_calls_from_several_threads_take_turns():
    x, y = data()
    one, many = (graphc.TrainingStep(squares, start(), optim.adam(0.01)) for _ in range(2))
    for _ in range(200):
        one(x, y)
    threads = [threading.Thread(target=lambda: [many(x, y) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert many.steps == 200
    np.testing.assert_array_equal(many.params["w"], one.params["w"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_fork_the_child_trains_on_alone(classifier):
    x, labels = X.astype(np.float32), np.arange(12) % 3
    before = copied(classifier.params)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            losses = [float(classifier(x, labels)) for _ in range(5)]
            classifier(x[:5], labels[:5])  # compiles
            code = 0 if losses == sorted(losses, reverse=True) and classifier._lost == "" else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for k, array in before.items():
        np.testing.assert_array_equal(classifier.params[k], array)
    classifier(x, labels)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_in_the_midst_of_a_call_refuses_to_go_on():
    step = graphc.TrainingStep(squares, start(), optim.sgd(0.1))
    step(*data())
    held, done = threading.Event(), threading.Event()

    def hold():
        with step._lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            step(*data())
        except RuntimeError as error:
            code = 0 if "forked" in str(error) else 2
        finally:
            os._exit(code)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    step(*data())
