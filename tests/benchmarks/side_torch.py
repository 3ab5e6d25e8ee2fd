"""The workloads in PyTorch, on parameters as its own modules keep them; fused optimizers.

``WORKLOADS`` is eager. ``COMPILED`` has the same losses under torch.compile, and ``OTHER`` further ways to write a workload
that may be faster: the ratio is to the best.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))

# ------------------------------------------------------------------------------------------------ models


def dense(p, x):
    return F.linear(x, p["w"], p["b"])


def layer_norm(p, x):
    return F.layer_norm(x, x.shape[-1:], p["scale"], p["bias"], 1e-5)


def tiny(params, x, y):
    return F.mse_loss(dense(params[1], torch.tanh(dense(params[0], x))), y)


def mlp(params, x, labels):
    for p in params[:-1]:
        x = F.relu(dense(p, x))
    return F.cross_entropy(dense(params[-1], x), labels)


def chain(x):
    return torch.log1p(torch.exp(torch.tanh(x))).mean()


def weighted_mean(p):
    return (F.gelu(layer_norm(p, p["x"]), approximate="tanh") * p["weights"]).mean()


def lstm(params, tokens, targets):
    batch, steps = tokens.shape
    h = c = torch.zeros(batch, params["hidden"].shape[0], dtype=params["hidden"].dtype)
    # All input projections at once, as cuDNN and the hand-written loops of PyTorch's users do.
    inputs = F.embedding(tokens, params["embedding"]) @ params["input"] + params["bias"]
    hidden = []
    for t in range(steps):
        i, f, g, o = (inputs[:, t] + h @ params["hidden"]).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        hidden.append(h)
    logits = dense(params["output"], torch.stack(hidden, dim=1))
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def lstm_module(params, tokens, targets):
    """By ``nn.LSTM``'s own function."""
    x = F.embedding(tokens, params["embedding"])
    state = x.new_zeros(1, len(tokens), x.shape[-1])
    # The second bias, which nn.LSTM has beside the first, would only double its rate.
    weights = [params["input"], params["hidden"], params["bias"], torch.zeros_like(params["bias"])]
    hidden = torch.lstm(x, (state, state), weights, True, 1, 0.0, True, False, True)[0]
    return F.cross_entropy(dense(params["output"], hidden).flatten(0, 1), targets.flatten())


def attention(p, x, heads):
    batch, context, width = x.shape
    q, k, v = (z.view(batch, context, heads, -1).transpose(1, 2) for z in dense(p["qkv"], x).split(width, dim=2))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return dense(p["project"], y.transpose(1, 2).reshape(batch, context, width))


def gpt(params, tokens, targets, heads):
    x = F.embedding(tokens, params["tokens"]) + params["places"][: tokens.shape[1]]
    for p in params["layers"]:
        x = x + attention(p, layer_norm(p["norm1"], x), heads)
        x = x + dense(p["down"], F.gelu(dense(p["up"], layer_norm(p["norm2"], x)), approximate="tanh"))
    logits = layer_norm(params["norm"], x) @ params["head"]
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def lenet(params, images, labels):
    x = images
    for p in (params["conv1"], params["conv2"]):
        x = F.max_pool2d(F.relu(F.conv2d(x, p["w"], p["b"])), 2)
    x = F.relu(dense(params["dense1"], x.flatten(1)))
    return F.cross_entropy(dense(params["dense2"], x), labels)


def batch_norm(p, x):
    return F.batch_norm(x, None, None, p["scale"], p["bias"], training=True, eps=1e-5)


def resnet(params, images, labels):
    x = F.relu(batch_norm(params["norm"], F.conv2d(images, params["stem"], padding=1)))
    for p in params["blocks"]:
        stride = 2 if "shortcut" in p else 1
        y = F.relu(batch_norm(p["norm1"], F.conv2d(x, p["conv1"], stride=stride, padding=1)))
        y = batch_norm(p["norm2"], F.conv2d(y, p["conv2"], padding=1))
        if stride == 2:
            x = batch_norm(p["norm3"], F.conv2d(x, p["shortcut"], stride=2))
        x = F.relu(x + y)
    return F.cross_entropy(dense(params["dense"], x.mean(dim=(2, 3))), labels)


def gcn(params, x, source, target, coefficient, known, labels):
    def convolve(p, h):
        h = h @ p["w"].T
        return torch.zeros_like(h).index_add(0, target, coefficient[:, None] * h[source]) + p["b"]

    logits = convolve(params[1], F.relu(convolve(params[0], x)))
    return F.cross_entropy(logits[known], labels)


def moe(params, x, y):
    gates = torch.softmax(x @ params["gate"], dim=1)
    least = torch.topk(gates.detach(), 2).values[:, -1:]
    gates = torch.where(gates >= least, gates, 0)
    gates = gates / gates.sum(dim=1, keepdim=True)
    rows = x.expand(len(params["up"]), *x.shape)
    hidden = F.relu(torch.baddbmm(params["up_bias"][:, None], rows, params["up"]))
    out = torch.baddbmm(params["down_bias"][:, None], hidden, params["down"])
    return F.mse_loss(torch.einsum("be,ebd->bd", gates, out), y)


def pde(params, t, x):
    t, x = t.requires_grad_(), x.requires_grad_()
    h = torch.stack([t, x], dim=1)
    for p in params[:-1]:
        h = torch.tanh(dense(p, h))
    u = dense(params[-1], h)[:, 0]
    u_t, u_x = torch.autograd.grad(u.sum(), (t, x), create_graph=True)
    (u_xx,) = torch.autograd.grad(u_x.sum(), x, create_graph=True)
    return ((u_t + u * u_x - 0.05 * u_xx) ** 2).mean()


# ------------------------------------------------------------------------------------------------ steps


class Step:
    def __init__(self, call: Callable[[], float]) -> None:
        self.call = call

    def __call__(self) -> float:
        return self.call()

    def facts(self) -> dict[str, Any]:
        return {}


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: tree_map(function, value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(tree_map(function, value) for value in tree)
    return function(tree)


def leaves(tree: Any) -> list[Any]:
    found: list[Any] = []
    tree_map(found.append, tree)
    return found


def as_modules_keep_them(tree: Any) -> Any:
    """The weights of dense layers as (out, in)."""
    if isinstance(tree, dict):
        return {
            key: value.T
            if key == "w" and isinstance(value, np.ndarray) and value.ndim == 2
            else as_modules_keep_them(value)
            for key, value in tree.items()
        }
    return type(tree)(map(as_modules_keep_them, tree)) if isinstance(tree, (list, tuple)) else tree


def train(
    loss: Callable[..., Any],
    optimizer: Any,
    prepare: Callable[[Any], Any] = lambda p: p,
    channels_last: bool = False,
) -> Callable[..., Step]:
    def start(arrays: dict[str, Any], compiled: bool = False) -> Step:
        memory = torch.channels_last if channels_last else torch.contiguous_format

        def tensor(v):
            v = torch.from_numpy(np.array(v, order="C"))
            return v.contiguous(memory_format=memory) if v.ndim == 4 else v

        params = tree_map(lambda v: tensor(v).requires_grad_(), prepare(as_modules_keep_them(arrays["params"])))
        batch = tree_map(tensor, arrays["batch"])
        update = optimizer(leaves(params), lr=arrays["rate"], fused=True)
        function = functools.partial(loss, heads=arrays["heads"]) if "heads" in arrays else loss
        function = torch.compile(function, dynamic=False) if compiled else function

        def step() -> float:
            update.zero_grad(set_to_none=True)
            value = function(params, *batch)
            value.backward()
            update.step()
            return value.item()

        return Step(step)

    return start


def gradients(loss: Callable[..., Any]) -> Callable[..., Step]:
    def start(arrays: dict[str, Any], compiled: bool = False) -> Step:
        params = tree_map(lambda v: torch.from_numpy(v.copy()).requires_grad_(), arrays["params"])
        flat = leaves(params)
        function = torch.compile(loss, dynamic=False) if compiled else loss

        def step() -> float:
            for p in flat:
                p.grad = None
            value = function(params)
            value.backward()
            return value.item()

        found = Step(step)
        found.gradients = lambda: tree_map(lambda p: p.grad.numpy(), params)
        return found

    return start


def of_module(params: dict[str, Any]) -> dict[str, Any]:
    """Of the LSTM as nn.LSTM keeps it: weights as (4·hidden, in)."""
    return params | {key: params[key].T for key in ("input", "hidden")}


SGD, ADAM = torch.optim.SGD, torch.optim.Adam
WORKLOADS: dict[str, Callable[..., Step]] = {
    "tiny": train(tiny, SGD),
    "tiny-tree": train(tiny, SGD),
    "mlp-sgd": train(mlp, SGD),
    "mlp-adam": train(mlp, ADAM),
    "chain": gradients(chain),
    "layernorm": gradients(weighted_mean),
    "lstm": train(lstm, SGD),
    "gpt": train(gpt, ADAM),
    "lenet": train(lenet, SGD),
    "resnet": train(resnet, SGD),
    "gcn": train(gcn, ADAM),
    "moe": train(moe, SGD),
    "pde": train(pde, SGD),
}
COMPILED = {name: functools.partial(start, compiled=True) for name, start in WORKLOADS.items()}
OTHER: dict[str, Callable[..., Step]] = {
    "lstm": train(lstm_module, SGD, prepare=of_module),
    "lenet": train(lenet, SGD, channels_last=True),
    "resnet": train(resnet, SGD, channels_last=True),
}
