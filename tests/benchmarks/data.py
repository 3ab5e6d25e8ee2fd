"""The inputs of the benchmark workloads: NumPy alone, the same arrays for every framework."""

from __future__ import annotations

import numpy as np


def mlp(sizes: tuple[int, ...], batch: int, seed: int = 0) -> dict[str, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    weights = [
        rng.normal(0, np.sqrt(2 / m), (m, n)).astype(np.float32) for m, n in zip(sizes[:-1], sizes[1:], strict=True)
    ]
    biases = [np.zeros(n, np.float32) for n in sizes[1:]]
    x = rng.normal(size=(batch, sizes[0])).astype(np.float32)
    labels = rng.integers(0, sizes[-1], batch)
    target = rng.normal(size=(batch, sizes[-1])).astype(np.float32)
    return {"weights": weights, "biases": biases, "batch": [x, labels, target]}


def chain(n: int = 4_000_000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, n).astype(np.float32)


MLP = ((784, 512, 512, 10), 128)
TINY = ((8, 16, 1), 1)
