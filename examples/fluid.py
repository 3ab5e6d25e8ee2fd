"""Control of a fluid: which initial motion carries a band of smoke into the shape of a ring?

A small incompressible flow on a periodic grid, after HIPS autograd's fluidsim: velocities are made free of divergence by
Jacobi sweeps, and everything is carried along by looking back where it came from, which indexes arrays with integers
that were computed from the velocities. The whole simulation is differentiated through; L-BFGS does the rest.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.optimize import minimize

import graphc


def project(vx, vy, sweeps=10):
    """The velocities without their divergence."""
    divergence = -0.5 * (
        np.roll(vx, -1, axis=0) - np.roll(vx, 1, axis=0) + np.roll(vy, -1, axis=1) - np.roll(vy, 1, axis=1)
    )
    p = np.zeros_like(divergence)
    for _ in range(sweeps):
        neighbours = np.roll(p, 1, axis=0) + np.roll(p, -1, axis=0) + np.roll(p, 1, axis=1) + np.roll(p, -1, axis=1)
        p = (divergence + neighbours) / 4.0
    vx = vx - 0.5 * (np.roll(p, -1, axis=0) - np.roll(p, 1, axis=0))
    vy = vy - 0.5 * (np.roll(p, -1, axis=1) - np.roll(p, 1, axis=1))
    return vx, vy


def advect(f, vx, vy):
    """``f`` a step later: each cell takes the value of the place that flows into it, between four cells."""
    rows, cols = f.shape
    x, y = np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij")
    from_x, from_y = x - vx, y - vy
    left, top = np.floor(from_x), np.floor(from_y)
    right_share, bottom_share = from_x - left, from_y - top
    left, top = np.mod(left.astype(int), rows), np.mod(top.astype(int), cols)
    right, bottom = np.mod(left + 1, rows), np.mod(top + 1, cols)
    return (1 - right_share) * ((1 - bottom_share) * f[left, top] + bottom_share * f[left, bottom]) + right_share * (
        (1 - bottom_share) * f[right, top] + bottom_share * f[right, bottom]
    )


def simulate(velocity, smoke, steps):
    vx, vy = project(velocity[0], velocity[1])
    for _ in range(steps):
        vx, vy = project(advect(vx, vx, vy), advect(vy, vx, vy))
        smoke = advect(smoke, vx, vy)
    return smoke


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=32, help="cells along a side")
    parser.add_argument("--steps", type=int, default=12, help="time steps")
    parser.add_argument("--iterations", type=int, default=60, help="iterations of L-BFGS")
    parser.add_argument("--plot", metavar="FILE", help="draw start, result and target there")
    args = parser.parse_args()
    n = args.size
    x, y = np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n), indexing="ij")
    smoke = np.exp(-8 * x**2)
    target = np.exp(-12 * (np.sqrt(x**2 + y**2) - 0.55) ** 2)
    target *= smoke.mean() / target.mean()

    def loss(flat, smoke, target):
        velocity = flat.reshape(2, n, n)
        return np.mean((simulate(velocity, smoke, args.steps) - target) ** 2) + 1e-5 * np.mean(velocity**2)

    objective = graphc.compile(graphc.value_and_grad(loss))
    start = np.zeros(2 * n * n)
    before, _ = objective(start, smoke, target)
    nodes = len(objective.executable(start, smoke, target).graph.nodes)
    options = {"maxiter": args.iterations}
    found = minimize(objective, start, args=(smoke, target), jac=True, method="L-BFGS-B", options=options)
    print(f"a graph of {nodes} nodes: {args.steps} steps of the fluid, forward and backward")
    print(
        f"mean squared difference {before:.4f} → {found.fun:.4f}, {found.fun / before:.1%} of it left, {found.nfev} gradients"
    )

    if args.plot:
        import matplotlib.pyplot as plt

        result = simulate(found.x.reshape(2, n, n), smoke, args.steps)
        figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
        for ax, picture, title in zip(
            axes, (smoke, result, target), ("start", "after the flow", "target"), strict=True
        ):
            ax.imshow(picture, cmap="magma", vmin=0, vmax=1)
            ax.set(title=title, xticks=[], yticks=[])
        figure.savefig(args.plot, dpi=120)


if __name__ == "__main__":
    main()
