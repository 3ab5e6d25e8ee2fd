"""The workloads in graphc. Each entry of WORKLOADS makes a function of no arguments that takes one step: the loss."""

from __future__ import annotations

from collections.abc import Callable

import data
import numpy as np

import graphc


def cross_entropy(params, x, labels):
    h = x
    for w, b in params[:-1]:
        h = np.maximum(h @ w + b, 0)
    z = h @ params[-1][0] + params[-1][1]
    z = z - z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -np.take_along_axis(log_p, labels[:, None], axis=1).mean()


def squared_error(params, x, y):
    h = np.tanh(x @ params[0][0] + params[0][1])
    return ((h @ params[1][0] + params[1][1] - y) ** 2).mean()


def mlp(optimizer: graphc.optim.Optimizer) -> Callable[[], float]:
    arrays = data.mlp(*data.MLP)
    params = list(zip(arrays["weights"], arrays["biases"], strict=True))
    step = graphc.TrainingStep(cross_entropy, params, optimizer)
    x, labels, _ = arrays["batch"]
    return lambda: step(x, labels)


def tiny() -> Callable[[], float]:
    arrays = data.mlp(*data.TINY)
    params = list(zip(arrays["weights"], arrays["biases"], strict=True))
    step = graphc.TrainingStep(squared_error, params, graphc.optim.sgd(0.01))
    x, _, y = arrays["batch"]
    return lambda: step(x, y)


def chain() -> Callable[[], float]:
    x = data.chain()
    f = graphc.compile(graphc.value_and_grad(lambda x: np.log1p(np.exp(np.tanh(x))).mean()))
    return lambda: f(x)[0]


WORKLOADS = {
    "mlp-sgd": lambda: mlp(graphc.optim.sgd(0.01)),
    "mlp-adam": lambda: mlp(graphc.optim.adam(1e-3)),
    "tiny": tiny,
    "chain": chain,
}
