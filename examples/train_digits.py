"""Train a neural network on handwritten digits with one compiled training step; save it, and train on in a new process.

    python examples/train_digits.py                         # scikit-learn's 8x8 digits, a few seconds
    python examples/train_digits.py --data mnist.npz        # MNIST: arrays x_train, y_train, x_test, y_test

The model is plain NumPy. `graphc.TrainingStep` traces it, differentiates it in the graph, fuses it with the optimizer's
update and compiles the whole into one native program. The folder `digits_out` gets the loss curve (loss.png), a drawing of
the step (step.svg) and the step itself (digits.graphc), which a second process loads and trains on: it needs neither this
model nor a compiler for that.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

import graphc


def init(rng: np.random.Generator, sizes: list[int]) -> list[dict[str, np.ndarray]]:
    """He-initialised weights and zero biases."""
    return [
        {"w": rng.normal(0, np.sqrt(2 / m), (m, n)).astype(np.float32), "b": np.zeros(n, np.float32)}
        for m, n in zip(sizes[:-1], sizes[1:], strict=True)
    ]


def logits(params, x):
    for layer in params[:-1]:
        x = np.maximum(x @ layer["w"] + layer["b"], 0)
    return x @ params[-1]["w"] + params[-1]["b"]


def loss(params, x, y):
    """The mean cross-entropy of a softmax over the logits."""
    z = logits(params, x)
    z = z - z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -np.take_along_axis(log_p, y[:, None], axis=1).mean()


def load_data(path: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and test images as rows in [0, 1], and labels."""
    if path is not None:
        data = np.load(path, allow_pickle=False)
        x, y, x_test, y_test = (data[k] for k in ("x_train", "y_train", "x_test", "y_test"))
        scale = 255
    else:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(images))
        images, labels = images[order], labels[order]
        x, x_test, y, y_test = images[:1400], images[1400:], labels[:1400], labels[1400:]
        scale = 16

    def rows(a: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(a.reshape(len(a), -1), np.float32) / np.float32(scale)

    return rows(x), y.astype(np.int64), rows(x_test), y_test.astype(np.int64)


def epochs(step: graphc.TrainingStep, x, y, batch: int, count: int, seed: int, label: str) -> list[float]:
    """Train for ``count`` epochs of shuffled mini-batches; the losses of all steps. A short rest of the data waits."""
    from tqdm import tqdm

    rng = np.random.default_rng(seed)
    losses = []
    with tqdm(total=count * (len(x) // batch), desc=label, unit="step", file=sys.stdout, mininterval=0.5) as bar:
        for _ in range(count):
            order = rng.permutation(len(x))
            for k in range(len(x) // batch):
                rows = order[k * batch : (k + 1) * batch]
                losses.append(float(step(x[rows], y[rows])))
                bar.update()
            bar.set_postfix(loss=f"{np.mean(losses[-20:]):.4f}")
    return losses


@graphc.compile
def predict(params, x):
    return np.argmax(logits(params, x), axis=1)


def accuracy(params, x, y) -> float:
    """Percent of the images in ``x`` that are recognised."""
    return 100 * float((predict(params, x) == y).mean())


def summary(executable) -> str:
    """What was compiled: passes, kernels by template, planned memory, work."""
    kernels = Counter(kernel.template for kernel in executable.schedule.kernels)
    parts = ", ".join(f"{count} {template}" for template, count in kernels.most_common())
    lines = [
        f"{executable.report}",
        f"kernels: {kernels.total()} in {len(executable.schedule.stages)} stages ({parts})",
        f"memory:  {executable.memory}",
        f"work:    {executable.cost}",
    ]
    return "\n".join(lines)


def draw_curve(losses: list[float], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    axes.semilogy(losses, lw=0.6, alpha=0.4, color="tab:blue")
    width = max(len(losses) // 50, 1)
    smooth = np.convolve(losses, np.ones(width) / width, "valid")
    axes.semilogy(np.arange(len(smooth)) + width - 1, smooth, color="tab:blue")
    axes.set(xlabel="step", ylabel="cross-entropy", title="training loss")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def train_on(args: argparse.Namespace) -> None:
    """The second process: load the step from its file and go on. The model above plays no part in that."""
    x, y, _, _ = load_data(args.data)
    step = graphc.load(args.resume)
    epochs(step, x, y, args.batch, args.more, args.seed + 1, "a second process trains on")
    step.save(args.resume)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="an .npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--out", type=Path, default=Path("digits_out"), help="folder for what is written")
    parser.add_argument("--batch", type=int, default=None)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--more", type=int, default=None, help="epochs in the second process")
    parser.add_argument("--hidden", type=int, nargs="*", default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", help=argparse.SUPPRESS)
    args = parser.parse_args()
    big = args.data is not None
    args.batch = args.batch or (128 if big else 50)
    args.epochs = (5 if big else 30) if args.epochs is None else args.epochs
    args.more = (2 if big else 8) if args.more is None else args.more
    if args.resume:
        return train_on(args)

    x, y, x_test, y_test = load_data(args.data)
    args.out.mkdir(parents=True, exist_ok=True)
    hidden = args.hidden if args.hidden is not None else ([256, 128] if big else [64])
    params = init(np.random.default_rng(args.seed), [x.shape[1], *hidden, int(y.max()) + 1])

    step = graphc.TrainingStep(loss, params, graphc.optim.adam(1e-3 if big else 3e-3))
    start = time.perf_counter()
    executable = step.executable(x[: args.batch], y[: args.batch])  # compiles, without taking a step
    compiled = time.perf_counter() - start
    losses = epochs(step, x, y, args.batch, args.epochs, args.seed, "training")
    print(f"loss {losses[0]:.3f} -> {np.mean(losses[-20:]):.4f}, test accuracy {accuracy(step.params, x_test, y_test):.1f} %")

    print(f"\nthe step was compiled in {compiled:.2f} s")
    print(summary(executable), end="\n\n")

    draw_curve(losses, args.out / "loss.png")
    drawing = graphc.draw(executable.graph, args.out / "step.svg")
    saved = args.out / "digits.graphc"
    step.save(saved)
    print(f"wrote {args.out / 'loss.png'}, {drawing} and {saved}\n", flush=True)

    command = [sys.executable, __file__, "--resume", str(saved), "--batch", str(args.batch)]
    command += ["--more", str(args.more), "--seed", str(args.seed)] + (["--data", args.data] if big else [])
    subprocess.run(command, check=True)
    step = graphc.load(saved)
    print(f"test accuracy {accuracy(step.params, x_test, y_test):.1f} %")


if __name__ == "__main__":
    main()
