"""The inputs of the benchmark workloads: NumPy alone, the same arrays for every framework.

``make(name, sizes, dtype)`` gives a dict: ``params`` (a tree of dicts and lists), what a step takes beside them (``batch``,
a tuple), and ``rate``, that of the optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

#: The sizes of the rows of the table; ``steps.py --vary`` and the tests have others.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"widths": (8, 16, 1), "batch": 1},
    "tiny-tree": {"widths": (8, 16, 1), "batch": 1},
    "mlp-sgd": {"widths": (784, 512, 512, 10), "batch": 128},
    "mlp-adam": {"widths": (784, 512, 512, 10), "batch": 128},
    "chain": {"size": 4_000_000},
    "layernorm": {"rows": 4096, "width": 768},
    "lstm": {"batch": 32, "hidden": 128, "steps": 64, "symbols": 65},
    "gpt": {"layers": 4, "width": 128, "heads": 4, "context": 128, "batch": 16, "symbols": 65},
    "lenet": {"channels": (16, 32), "window": 5, "hidden": 128, "batch": 64, "extent": 28},
    "resnet": {"channels": (64, 128, 256), "blocks": 2, "batch": 32, "extent": 32},
    "gcn": {"nodes": 2708, "edges": 10556, "features": 1433, "hidden": 16, "classes": 7},
    "moe": {"experts": 8, "width": 128, "hidden": 256, "batch": 512},
    "pde": {"hidden": 64, "layers": 3, "batch": 1024},
}

#: Other sizes of the same rows: batches from 1 to 1024, widths that divide nothing, float64.
VARIANTS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("tiny", {"widths": (5, 7, 3), "batch": 3}, "float32"),
    ("tiny", {}, "float64"),
    ("mlp-sgd", {"batch": 1}, "float32"),
    ("mlp-sgd", {"batch": 1024}, "float32"),
    ("mlp-sgd", {"widths": (101, 333, 77, 13), "batch": 59}, "float32"),
    ("mlp-adam", {}, "float64"),
    ("chain", {"size": 100_003}, "float32"),
    ("chain", {"size": 1_000_003}, "float64"),
    ("layernorm", {"rows": 1001, "width": 333}, "float32"),
    ("layernorm", {"rows": 64, "width": 5000}, "float32"),
    ("layernorm", {"rows": 1024}, "float64"),
    ("lstm", {"batch": 1, "steps": 16}, "float32"),
    ("lstm", {"batch": 27, "hidden": 75, "steps": 16}, "float32"),
    ("lstm", {"steps": 16}, "float64"),
    ("gpt", {"layers": 2, "batch": 1}, "float32"),
    ("gpt", {"layers": 2, "width": 99, "heads": 3, "context": 77, "batch": 5}, "float32"),
    ("gpt", {"layers": 2, "context": 64, "batch": 4}, "float64"),
    ("lenet", {"batch": 1}, "float32"),
    ("lenet", {"channels": (7, 13), "window": 3, "hidden": 50, "batch": 37, "extent": 30}, "float32"),
    ("lenet", {}, "float64"),
    ("resnet", {"channels": (64, 128), "blocks": 1, "batch": 1}, "float32"),
    ("resnet", {"channels": (27, 51), "blocks": 1, "batch": 7, "extent": 22}, "float32"),
    ("gcn", {"nodes": 999, "edges": 30011, "features": 97, "hidden": 33}, "float32"),
    ("gcn", {}, "float64"),
    ("moe", {"batch": 1}, "float32"),
    ("moe", {"experts": 5, "width": 61, "hidden": 99, "batch": 77}, "float32"),
    ("moe", {}, "float64"),
    ("pde", {"hidden": 50, "batch": 333}, "float32"),
    ("pde", {}, "float64"),
)

WHAT = {
    "tiny": "MLP {widths}, batch {batch}, SGD",
    "tiny-tree": "MLP {widths}, batch {batch}, SGD, a function of parameter trees, donated",
    "mlp-sgd": "MLP {widths}, batch {batch}, cross-entropy, SGD",
    "mlp-adam": "MLP {widths}, batch {batch}, cross-entropy, Adam",
    "chain": "mean of log1p(exp(tanh x)) over {size:,}, with gradient",
    "layernorm": "layer norm, gelu, weighted mean, {rows}×{width}, with gradients",
    "lstm": "LSTM, batch {batch}, hidden {hidden}, {steps} steps unrolled, {symbols} symbols, SGD",
    "gpt": "GPT, {layers} layers, width {width}, {heads} heads, context {context}, batch {batch}, Adam",
    "lenet": "LeNet, {channels} channels of {window}×{window}, {hidden} hidden, batch {batch}, {extent}×{extent}, SGD",
    "resnet": "ResNet, {channels} channels, {blocks} blocks each, batch {batch}, {extent}×{extent}, SGD",
    "gcn": "graph convolution, {nodes} nodes, {edges} edges, {features} features, {hidden} hidden, Adam",
    "moe": "mixture of {experts} experts {width}-{hidden}-{width}, top 2, batch {batch}, SGD",
    "pde": "PDE residual with u_x, u_t, u_xx, tanh MLP {layers}×{hidden}, batch {batch}, SGD",
}


def describe(name: str, sizes: dict[str, Any]) -> str:
    return WHAT[name].format(
        **{k: "-".join(map(str, v)) if isinstance(v, (list, tuple)) else v for k, v in sizes.items()}
    )


def make(name: str, sizes: dict[str, Any] | None = None, dtype: str = "float32") -> dict[str, Any]:
    """Parameters and batch of a workload: floats in ``dtype``, indices as int64."""
    maker = MAKERS[name.removesuffix("-sgd").removesuffix("-adam").removesuffix("-tree")]
    found = maker(np.random.default_rng(0), **SIZES[name] | (sizes or {}))
    return found | {"params": cast(found["params"], dtype), "batch": cast(found["batch"], dtype)}


def cast(tree: Any, dtype: str) -> Any:
    if isinstance(tree, dict):
        return {key: cast(value, dtype) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(cast(value, dtype) for value in tree)
    return np.ascontiguousarray(tree, dtype if np.issubdtype(tree.dtype, np.floating) else np.int64)


def dense(rng: np.random.Generator, n: int, m: int, gain: float = 1.0) -> dict[str, np.ndarray]:
    """Biases are not 0: at relu's kink, where all inputs are 0, ``np.maximum(x, 0)`` has half the gradient of a peer's relu."""
    return {"w": rng.normal(0, gain / math.sqrt(n), (n, m)), "b": rng.normal(0, 0.01, m)}


def norm(n: int) -> dict[str, np.ndarray]:
    return {"scale": np.ones(n), "bias": np.zeros(n)}


def tiny(rng: np.random.Generator, widths: tuple[int, ...], batch: int) -> dict[str, Any]:
    params = [dense(rng, n, m) for n, m in zip(widths, widths[1:], strict=False)]
    x, y = rng.normal(size=(batch, widths[0])), rng.normal(size=(batch, widths[-1]))
    return {"params": params, "batch": (x, y), "rate": 0.01}


def mlp(rng: np.random.Generator, widths: tuple[int, ...], batch: int) -> dict[str, Any]:
    params = [dense(rng, n, m, math.sqrt(2)) for n, m in zip(widths, widths[1:], strict=False)]
    x, labels = rng.normal(size=(batch, widths[0])), rng.integers(0, widths[-1], batch)
    return {"params": params, "batch": (x, labels), "rate": 1e-3}


def chain(rng: np.random.Generator, size: int) -> dict[str, Any]:
    return {"params": rng.uniform(-1, 1, size), "batch": (), "rate": 0.0}


def layernorm(rng: np.random.Generator, rows: int, width: int) -> dict[str, Any]:
    x, weights = rng.normal(size=(rows, width)), rng.uniform(0, 1, (rows, width))
    scale, bias = 1 + 0.1 * rng.normal(size=width), 0.1 * rng.normal(size=width)
    return {"params": {"x": x, "scale": scale, "bias": bias, "weights": weights}, "batch": (), "rate": 0.0}


def lstm(rng: np.random.Generator, batch: int, hidden: int, steps: int, symbols: int) -> dict[str, Any]:
    """The four gates stand side by side: input, forget, cell, output. Tokens are (batch, steps)."""
    params = {
        "embedding": rng.normal(0, 1, (symbols, hidden)),
        "input": rng.normal(0, 1 / math.sqrt(hidden), (hidden, 4 * hidden)),
        "hidden": rng.normal(0, 1 / math.sqrt(hidden), (hidden, 4 * hidden)),
        "bias": np.zeros(4 * hidden),
        "output": dense(rng, hidden, symbols),
    }
    text = rng.integers(0, symbols, (batch, steps + 1))
    return {"params": params, "batch": (text[:, :-1], text[:, 1:]), "rate": 0.5}


def gpt(
    rng: np.random.Generator, layers: int, width: int, heads: int, context: int, batch: int, symbols: int
) -> dict[str, Any]:
    def layer() -> dict[str, Any]:
        return {
            "norm1": norm(width), "qkv": dense(rng, width, 3 * width), "project": dense(rng, width, width, 0.5),
            "norm2": norm(width), "up": dense(rng, width, 4 * width), "down": dense(rng, 4 * width, width, 0.5),
        }  # fmt: skip

    params = {
        "tokens": rng.normal(0, 0.1, (symbols, width)),
        "places": rng.normal(0, 0.1, (context, width)),
        "layers": [layer() for _ in range(layers)],
        "norm": norm(width),
        "head": rng.normal(0, 1 / math.sqrt(width), (width, symbols)),
    }
    text = rng.integers(0, symbols, (batch, context + 1))
    return {"params": params, "batch": (text[:, :-1], text[:, 1:]), "rate": 3e-4, "heads": heads}


def kernel(rng: np.random.Generator, out: int, into: int, window: int) -> np.ndarray:
    return rng.normal(0, math.sqrt(2 / (into * window * window)), (out, into, window, window))


def lenet(
    rng: np.random.Generator, channels: tuple[int, int], window: int, hidden: int, batch: int, extent: int
) -> dict[str, Any]:
    first, second = channels
    after = ((extent - window + 1) // 2 - window + 1) // 2
    params = {
        "conv1": {"w": kernel(rng, first, 1, window), "b": np.zeros(first)},
        "conv2": {"w": kernel(rng, second, first, window), "b": np.zeros(second)},
        "dense1": dense(rng, second * after * after, hidden, math.sqrt(2)),
        "dense2": dense(rng, hidden, 10),
    }
    images, labels = rng.normal(size=(batch, 1, extent, extent)), rng.integers(0, 10, batch)
    return {"params": params, "batch": (images, labels), "rate": 0.01}


def resnet(rng: np.random.Generator, channels: tuple[int, ...], blocks: int, batch: int, extent: int) -> dict[str, Any]:
    """Convolutions have no bias. The first block of every stage but the first halves the image and has a shortcut of 1×1."""

    def block(into: int, out: int) -> dict[str, Any]:
        found = {"conv1": kernel(rng, out, into, 3), "conv2": kernel(rng, out, out, 3)}
        found |= {"norm1": norm(out), "norm2": norm(out)}
        if into != out:
            found |= {"shortcut": kernel(rng, out, into, 1), "norm3": norm(out)}
        return found

    stages = [[block(out if k else into, out) for k in range(blocks)]
              for into, out in zip((channels[0], *channels), channels, strict=False)]  # fmt: skip
    params = {
        "stem": kernel(rng, channels[0], 3, 3),
        "norm": norm(channels[0]),
        "blocks": [one for stage in stages for one in stage],
        "dense": dense(rng, channels[-1], 10),
    }
    images, labels = rng.normal(size=(batch, 3, extent, extent)), rng.integers(0, 10, batch)
    return {"params": params, "batch": (images, labels), "rate": 0.01}


def gcn(rng: np.random.Generator, nodes: int, edges: int, features: int, hidden: int, classes: int) -> dict[str, Any]:
    """A random graph: edges from ``source`` to ``target`` with 1/√(degree·degree) as coefficient, one node in twenty labelled."""
    source, target = rng.integers(0, nodes, (2, edges))
    degree = np.maximum(np.bincount(target, minlength=nodes), 1)
    coefficient = 1 / np.sqrt(degree[source] * degree[target])
    x = rng.uniform(size=(nodes, features)) * (rng.uniform(size=(nodes, features)) < 0.02)
    known = np.sort(rng.choice(nodes, max(nodes // 20, 1), replace=False))
    labels = rng.integers(0, classes, len(known))
    params = [dense(rng, features, hidden, 4.0), dense(rng, hidden, classes)]
    return {"params": params, "batch": (x, source, target, coefficient, known, labels), "rate": 1e-2}


def moe(rng: np.random.Generator, experts: int, width: int, hidden: int, batch: int) -> dict[str, Any]:
    params = {
        "gate": rng.normal(0, 1 / math.sqrt(width), (width, experts)),
        "up": rng.normal(0, math.sqrt(2 / width), (experts, width, hidden)),
        "up_bias": np.zeros((experts, hidden)),
        "down": rng.normal(0, 1 / math.sqrt(hidden), (experts, hidden, width)),
        "down_bias": np.zeros((experts, width)),
    }
    x, y = rng.normal(size=(2, batch, width))
    return {"params": params, "batch": (x, y), "rate": 0.1}


def pde(rng: np.random.Generator, hidden: int, layers: int, batch: int) -> dict[str, Any]:
    """Points (t, x), in columns, for Burgers' equation."""
    widths = (2, *(hidden,) * layers, 1)
    params = [dense(rng, n, m) for n, m in zip(widths, widths[1:], strict=False)]
    return {"params": params, "batch": (rng.uniform(0, 1, batch), rng.uniform(-1, 1, batch)), "rate": 1e-2}


MAKERS: dict[str, Callable[..., dict[str, Any]]] = {
    "tiny": tiny, "mlp": mlp, "chain": chain, "layernorm": layernorm, "lstm": lstm, "gpt": gpt, "lenet": lenet,
    "resnet": resnet, "gcn": gcn, "moe": moe, "pde": pde,
}  # fmt: skip
