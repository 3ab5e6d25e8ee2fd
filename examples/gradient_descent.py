"""Gradient descent on the full batch and stochastic gradient descent on mini-batches: one program, other batches.

Logistic regression on scikit-learn's breast-cancer data. Both curves go against the number of *examples* seen: one step of
gradient descent costs a pass over all the data, in which stochastic gradient descent takes many small ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import graphc


def loss(params, x, y):
    """Mean logistic loss of a linear model, labels ±1."""
    return np.logaddexp(0, -y * (x @ params["w"] + params["b"])).mean()


def data() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return x.astype(np.float32), (2 * y - 1).astype(np.float32)


def train(x, y, batch: int, passes: int, learning_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Examples seen and the full loss, after every step."""
    params = {"w": np.zeros(x.shape[1], np.float32), "b": np.float32(0)}
    step = graphc.TrainingStep(loss, params, graphc.optim.sgd(learning_rate))
    full_loss = graphc.compile(loss)
    rng = np.random.default_rng(0)
    seen, losses = [0], [float(full_loss(params, x, y))]
    for _ in range(passes):
        order = rng.permutation(len(x))
        for start in range(0, len(x) - batch + 1, batch):
            rows = order[start : start + batch]
            step(x[rows], y[rows])
            seen.append(seen[-1] + batch)
            losses.append(float(full_loss(step.params, x, y)))
    return np.array(seen), np.array(losses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("gradient_descent.png"))
    args = parser.parse_args()
    x, y = data()

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for name, batch in (("gradient descent, full batch", len(x)), ("stochastic, batch 16", 16)):
        seen, losses = train(x, y, batch, args.passes, 0.5 if batch == len(x) else 0.05)
        axes.semilogy(seen / len(x), losses, label=name)
        print(f"{name}: loss {losses[0]:.4f} → {losses[-1]:.4f} after {args.passes} passes, {len(losses) - 1} steps")
    axes.set(xlabel="passes over the data", ylabel="loss")
    axes.legend()
    figure.savefig(args.out, dpi=120)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
