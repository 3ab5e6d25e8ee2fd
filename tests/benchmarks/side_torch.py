"""The workloads in PyTorch, eager, written as its users write them."""

from __future__ import annotations

import os
from collections.abc import Callable

import data
import torch
import torch.nn.functional as F

torch.set_num_threads(int(os.environ.get("GRAPHC_THREADS", "2")))


def network(arrays, activation) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    for w, b in zip(arrays["weights"], arrays["biases"], strict=True):
        layer = torch.nn.Linear(*w.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(w.T.copy()))
            layer.bias.copy_(torch.from_numpy(b))
        layers += [layer, activation()]
    return torch.nn.Sequential(*layers[:-1])


def train(model, optimizer, loss, x, y) -> Callable[[], float]:
    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        return value.item()

    return step


def mlp(make) -> Callable[[], float]:
    arrays = data.mlp(*data.MLP)
    model = network(arrays, torch.nn.ReLU)
    x, labels, _ = map(torch.from_numpy, arrays["batch"])
    return train(model, make(model.parameters()), F.cross_entropy, x, labels)


def tiny() -> Callable[[], float]:
    arrays = data.mlp(*data.TINY)
    model = network(arrays, torch.nn.Tanh)
    x, _, y = map(torch.from_numpy, arrays["batch"])
    return train(model, torch.optim.SGD(model.parameters(), 0.01), F.mse_loss, x, y)


def chain() -> Callable[[], float]:
    x = torch.from_numpy(data.chain()).requires_grad_()

    def step() -> float:
        x.grad = None
        value = torch.log1p(torch.exp(torch.tanh(x))).mean()
        value.backward()
        return value.item()

    return step


WORKLOADS = {
    "mlp-sgd": lambda: mlp(lambda p: torch.optim.SGD(p, 0.01)),
    "mlp-adam": lambda: mlp(lambda p: torch.optim.Adam(p, 1e-3)),
    "tiny": tiny,
    "chain": chain,
}
