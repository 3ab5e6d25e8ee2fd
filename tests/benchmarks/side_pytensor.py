"""The workloads in PyTensor's Numba mode: shared variables with updates, ``trust_input``.

Left out: the other workloads, which take it minutes to compile or run a hundred times slower than the best peer (graph
convolution 0.1 s, PDE residual 1.4 s a step), and the mixture of experts, whose product of stacks its rewrites break.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt

# ------------------------------------------------------------------------------------------------ models


def cross_entropy(logits, labels):
    log_p = pt.special.log_softmax(logits, axis=-1)
    return -log_p[pt.arange(labels.shape[0]), labels].mean()


def dense(p, x):
    return x @ p["w"] + p["b"]


def relu(x):
    return pt.maximum(x, 0)


def tiny(params, x, y):
    return ((dense(params[1], pt.tanh(dense(params[0], x))) - y) ** 2).mean()


def mlp(params, x, labels):
    for p in params[:-1]:
        x = relu(dense(p, x))
    return cross_entropy(dense(params[-1], x), labels)


def chain(x):
    return pt.log1p(pt.exp(pt.tanh(x))).mean()


def weighted_mean(p):
    x = p["x"]
    centred = x - x.mean(axis=1, keepdims=True)
    h = centred / pt.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]
    gelu = 0.5 * h * (1 + pt.tanh(np.float32((2 / np.pi) ** 0.5) * (h + 0.044715 * h**3)))
    return (gelu * p["weights"]).mean()


# ------------------------------------------------------------------------------------------------ steps


class Step:
    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call

    def __call__(self) -> float:
        return float(self.call())

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


def sgd(params, grads, rate):
    return [(p, p - rate * g) for p, g in zip(params, grads, strict=True)]


def adam(params, grads, rate, b1=0.9, b2=0.999, eps=1e-8):
    one = rate.dtype.type
    step = pytensor.shared(np.zeros((), rate.dtype))
    t = step + one(1)
    first, second = one(1) - one(b1) ** t, one(1) - one(b2) ** t
    updates = [(step, t)]
    for p, g in zip(params, grads, strict=True):
        m, v = (pytensor.shared(np.zeros_like(p.get_value())) for _ in range(2))
        new_m, new_v = one(b1) * m + one(1 - b1) * g, one(b2) * v + one(1 - b2) * g * g
        updates += [(m, new_m), (v, new_v)]
        updates.append((p, p - rate * (new_m / first) / (pt.sqrt(new_v / second) + one(eps))))
    return updates


def symbol(array: np.ndarray) -> Any:
    """An input of the type of ``array``, its shape known."""
    return pt.tensor(dtype=array.dtype, shape=array.shape)


def compiled(inputs: list[Any], outputs: Any, updates: Any = None) -> Any:
    return pytensor.function(inputs, outputs, updates=updates, mode="NUMBA", trust_input=True)


def train(loss: Callable[..., Any], optimizer: Callable[..., Any]) -> Callable[..., Step]:
    def start(arrays: dict[str, Any]) -> Step:
        params = tree_map(pytensor.shared, arrays["params"])
        batch = arrays["batch"]
        inputs = [symbol(v) for v in batch]
        value = loss(params, *inputs)
        flat = leaves(params)
        rate = flat[0].get_value().dtype.type(arrays["rate"])
        updates = optimizer(flat, pt.grad(value, flat), rate)
        function = compiled(inputs, value, updates)
        return Step(lambda: function(*batch))

    return start


def gradients(loss: Callable[..., Any]) -> Callable[..., Step]:
    def start(arrays: dict[str, Any]) -> Step:
        flat = leaves(arrays["params"])
        symbols = tree_map(symbol, arrays["params"])
        value = loss(symbols)
        function = compiled(leaves(symbols), [value, *pt.grad(value, leaves(symbols))])
        step = Step(lambda: function(*flat)[0])
        step.gradients = lambda: by_key(arrays["params"], function(*flat)[1:])
        return step

    return start


def by_key(tree: Any, values: list[Any]) -> Any:
    found = iter(values)
    return tree_map(lambda _: next(found), tree)


WORKLOADS: dict[str, Callable[[dict[str, Any]], Step]] = {
    "tiny": train(tiny, sgd),
    "mlp-sgd": train(mlp, sgd),
    "mlp-adam": train(mlp, adam),
    "chain": gradients(chain),
    "layernorm": gradients(weighted_mean),
}
