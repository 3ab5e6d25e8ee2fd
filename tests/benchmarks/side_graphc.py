"""The workloads in graphc, in plain NumPy. ``start(name, arrays)`` gives a step: a function without arguments, the loss."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

import graphc

# ------------------------------------------------------------------------------------------------ models


def cross_entropy(logits, labels):
    z = logits - logits.max(axis=-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(log_p, labels[..., None], axis=-1).mean()


def dense(p, x):
    return x @ p["w"] + p["b"]


def relu(x):
    return np.maximum(x, 0)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def layer_norm(p, x):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]


def tiny(params, x, y):
    return ((dense(params[1], np.tanh(dense(params[0], x))) - y) ** 2).mean()


def mlp(params, x, labels):
    for p in params[:-1]:
        x = relu(dense(p, x))
    return cross_entropy(dense(params[-1], x), labels)


def chain(x):
    return np.log1p(np.exp(np.tanh(x))).mean()


def weighted_mean(p):
    return (gelu(layer_norm(p, p["x"])) * p["weights"]).mean()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(params, tokens, targets):
    batch, steps = tokens.shape
    size = params["hidden"].shape[0]
    h = c = np.zeros((batch, size), params["hidden"].dtype)
    hidden = []
    for t in range(steps):
        gates = params["embedding"][tokens[:, t]] @ params["input"] + h @ params["hidden"] + params["bias"]
        i, f, g, o = (gates[:, k * size : (k + 1) * size] for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        hidden.append(h)
    return cross_entropy(dense(params["output"], np.stack(hidden, axis=1)), targets)


def attention(p, x, heads):
    batch, context, width = x.shape
    qkv = dense(p["qkv"], x).reshape(batch, context, 3, heads, width // heads).transpose(2, 0, 3, 1, 4)
    q, k, v = qkv[0], qkv[1], qkv[2]
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(width // heads)
    scores = np.where(np.tri(context, dtype=bool), scores, -1e9)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True) @ v
    return dense(p["project"], y.transpose(0, 2, 1, 3).reshape(batch, context, width))


def gpt(params, tokens, targets, heads):
    x = params["tokens"][tokens] + params["places"][: tokens.shape[1]]
    for p in params["layers"]:
        x = x + attention(p, layer_norm(p["norm1"], x), heads)
        x = x + dense(p["down"], gelu(dense(p["up"], layer_norm(p["norm2"], x))))
    return cross_entropy(layer_norm(params["norm"], x) @ params["head"], targets)


if hasattr(graphc.nn, "conv2d"):
    conv2d, max_pool2d = graphc.nn.conv2d, graphc.nn.max_pool2d
else:

    def conv2d(x, w, b=None, stride=1, padding=0):
        return graphc.nn.conv(x, w, b, stride=stride, padding=padding)

    def max_pool2d(x, window):
        return graphc.nn.max_pool(x, window)


def lenet(params, images, labels):
    x = images
    for p in (params["conv1"], params["conv2"]):
        x = max_pool2d(relu(conv2d(x, p["w"], p["b"])), 2)
    x = relu(dense(params["dense1"], x.reshape(len(x), -1)))
    return cross_entropy(dense(params["dense2"], x), labels)


def batch_norm(p, x):
    mean = x.mean(axis=(0, 2, 3), keepdims=True)
    var = ((x - mean) ** 2).mean(axis=(0, 2, 3), keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5) * p["scale"][:, None, None] + p["bias"][:, None, None]


def block(p, x):
    stride = 2 if "shortcut" in p else 1
    y = relu(batch_norm(p["norm1"], conv2d(x, p["conv1"], stride=stride, padding=1)))
    y = batch_norm(p["norm2"], conv2d(y, p["conv2"], padding=1))
    if stride == 2:
        x = batch_norm(p["norm3"], conv2d(x, p["shortcut"], stride=2))
    return relu(x + y)


def resnet(params, images, labels):
    x = relu(batch_norm(params["norm"], conv2d(images, params["stem"], padding=1)))
    for p in params["blocks"]:
        x = block(p, x)
    return cross_entropy(dense(params["dense"], x.mean(axis=(2, 3))), labels)


def gcn(params, x, source, target, coefficient, known, labels):
    def convolve(p, h):
        h = h @ p["w"]
        out = np.zeros_like(h)
        np.add.at(out, target, coefficient[:, None] * h[source])
        return out + p["b"]

    logits = convolve(params[1], relu(convolve(params[0], x)))
    return cross_entropy(logits[known], labels)


def moe(params, x, y):
    scores = x @ params["gate"]
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    gates = e / e.sum(axis=1, keepdims=True)
    gates = np.where(gates >= np.sort(gates, axis=1)[:, -2:-1], gates, 0)
    gates = gates / gates.sum(axis=1, keepdims=True)
    hidden = relu(np.einsum("bd,edh->ebh", x, params["up"]) + params["up_bias"][:, None])
    out = np.einsum("ebh,ehd->ebd", hidden, params["down"]) + params["down_bias"][:, None]
    return ((np.einsum("be,ebd->bd", gates, out) - y) ** 2).mean()


def u(params, t, x):
    h = np.stack([t, x])
    for p in params[:-1]:
        h = np.tanh(dense(p, h))
    return dense(params[-1], h)[0]


def residual(params, t, x):
    u_t, u_x = graphc.grad(u, 1), graphc.grad(u, 2)
    u_xx = graphc.grad(u_x, 2)
    return u_t(params, t, x) + u(params, t, x) * u_x(params, t, x) - 0.05 * u_xx(params, t, x)


def pde(params, t, x):
    return (graphc.vmap(residual, in_axes=(None, 0, 0))(params, t, x) ** 2).mean()


# ------------------------------------------------------------------------------------------------ steps


class Step:
    """A call takes one step and returns the loss; ``executable`` is the program, ``args`` what ``profile`` takes."""

    def __init__(self, call: Callable[[], Any], executable: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.call, self.args = call, args
        self._executable = executable

    def __call__(self) -> float:
        return float(self.call())

    @property
    def executable(self) -> graphc.Executable:
        return self._executable(*self.args)

    def facts(self) -> dict[str, Any]:
        exe = self.executable
        memory, cost = exe.memory, exe.cost
        threads = int(os.environ.get("GRAPHC_THREADS", "1"))
        return {
            "peak": memory.peak,
            "scratch": memory.scratch * threads,
            "lower_bound": memory.lower_bound,
            "unplanned": memory.unplanned,
            "flops": cost.flops,
            "nbytes": cost.nbytes,
            "kernels": cost.kernels,
        }


def train(loss: Callable[..., Any], optimizer: Callable[[float], Any]) -> Callable[[dict[str, Any]], Step]:
    def start(arrays: dict[str, Any]) -> Step:
        function = loss
        if "heads" in arrays:

            def function(params, *batch):
                return loss(params, *batch, arrays["heads"])

        step = graphc.TrainingStep(function, arrays["params"], optimizer(arrays["rate"]))
        batch = arrays["batch"]
        return Step(lambda: step(*batch), step.executable, batch)

    return start


def tiny_tree(arrays: dict[str, Any]) -> Step:
    """A function from parameters to new ones, which take the place of the old."""
    rate, (x, y) = arrays["rate"], arrays["batch"]

    def step(params, x, y):
        loss, grads = graphc.value_and_grad(tiny)(params, x, y)
        return loss, [{key: p[key] - rate * g[key] for key in p} for p, g in zip(params, grads, strict=True)]

    compiled = graphc.compile(step, donate="params")
    params = [{key: value.copy() for key, value in p.items()} for p in arrays["params"]]

    def call():
        nonlocal params
        loss, params = compiled(params, x, y)
        return loss

    return Step(call, compiled.executable, (params, x, y))


def gradients(loss: Callable[..., Any]) -> Callable[[dict[str, Any]], Step]:
    def start(arrays: dict[str, Any]) -> Step:
        compiled = graphc.compile(graphc.value_and_grad(loss))
        params = arrays["params"]
        step = Step(lambda: compiled(params)[0], compiled.executable, (params,))
        step.gradients = lambda: compiled(params)[1]
        return step

    return start


WORKLOADS: dict[str, Callable[[dict[str, Any]], Step]] = {
    "tiny": train(tiny, graphc.optim.sgd),
    "tiny-tree": tiny_tree,
    "mlp-sgd": train(mlp, graphc.optim.sgd),
    "mlp-adam": train(mlp, graphc.optim.adam),
    "chain": gradients(chain),
    "layernorm": gradients(weighted_mean),
    "lstm": train(lstm, graphc.optim.sgd),
    "gpt": train(gpt, graphc.optim.adam),
    "lenet": train(lenet, graphc.optim.sgd),
    "resnet": train(resnet, graphc.optim.sgd),
    "gcn": train(gcn, graphc.optim.adam),
    "moe": train(moe, graphc.optim.sgd),
    "pde": train(pde, graphc.optim.sgd),
}
