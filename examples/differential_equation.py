"""A network that solves Burgers' equation u_t + u u_x = ν u_xx: its own derivatives by t and x stand in the loss.

The derivatives are gradients of the network at a point, one inside the other, and `graphc.vmap` takes them at every point
of a batch. The gradient of the loss by the weights goes through all of them: third derivatives in all, one compiled step.
"""

from __future__ import annotations

import argparse

import numpy as np

import graphc

VISCOSITY = 0.05


def u(params, t, x):
    """The solution at one point; 0 at the walls x = ±1 and -sin πx at the start by construction."""
    hidden = np.stack([t, x])
    for w, b in params[:-1]:
        hidden = np.tanh(hidden @ w + b)
    w, b = params[-1]
    return -np.sin(np.pi * x) + t * (1 - x**2) * (hidden @ w + b)[0]


def residual(params, t, x):
    """What is left of the equation at one point."""
    u_t, u_x = graphc.grad(u, 1), graphc.grad(u, 2)
    u_xx = graphc.grad(u_x, 2)
    return u_t(params, t, x) + u(params, t, x) * u_x(params, t, x) - VISCOSITY * u_xx(params, t, x)


def loss(params, points):
    return np.mean(graphc.vmap(residual, in_axes=(None, 0, 0))(params, points[:, 0], points[:, 1]) ** 2)


def by_differences(x, end, steps=4000):
    """The same equation by a plain finite-difference scheme, for comparison."""
    u, dx, dt = -np.sin(np.pi * x), x[1] - x[0], end / steps
    for _ in range(steps):
        flux = 0.5 * u**2
        inner = -(flux[2:] - flux[:-2]) / (2 * dx) + VISCOSITY * (u[2:] - 2 * u[1:-1] + u[:-2]) / dx**2
        u[1:-1] += dt * inner
    return u


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4000, help="steps of Adam")
    parser.add_argument("--points", type=int, default=256, help="points per step")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--plot", metavar="FILE", help="draw the solution there")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    sizes = [2, args.hidden, args.hidden, 1]
    params = [
        (rng.normal(size=(m, n)).astype(np.float32) / np.float32(m**0.5), np.zeros(n, np.float32))
        for m, n in zip(sizes, sizes[1:], strict=False)
    ]
    schedule = graphc.optim.cosine_decay(1e-2, args.steps)
    step = graphc.TrainingStep(loss, params, graphc.optim.adam(schedule))
    losses = []
    for _ in range(args.steps):
        points = rng.uniform((0, -1), (0.5, 1), (args.points, 2)).astype(np.float32)
        losses.append(float(step(points)))
    print(f"mean squared residual {losses[0]:.3f} → {np.mean(losses[-50:]):.1e} after {args.steps} steps")

    x = np.linspace(-1, 1, 201)
    at_end = graphc.vmap(u, in_axes=(None, None, 0))(step.params, np.float32(0.5), x.astype(np.float32))
    reference = by_differences(x, 0.5)
    print(f"largest difference from a finite-difference solution at t = 0.5: {np.abs(at_end - reference).max():.4f}")

    if args.plot:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
        axes.plot(x, -np.sin(np.pi * x), ":", label="t = 0")
        axes.plot(x, at_end, label="network, t = 0.5")
        axes.plot(x, reference, "--", label="finite differences")
        axes.legend()
        figure.savefig(args.plot, dpi=120)


if __name__ == "__main__":
    main()
