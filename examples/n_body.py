"""Three bodies on one closed orbit: initial conditions of the figure eight, found by differentiating a simulation.

Three equal masses chase each other along a figure eight (Moore 1993; Chenciner and Montgomery 2000). From a rough guess
the orbit does not close. The gap after one period is a function of the guess; its Jacobian goes through every step of a
symplectic integrator, and Gauss-Newton closes the orbit in a few iterations.
"""

from __future__ import annotations

import argparse

import numpy as np

import graphc

PERIOD = 6.32591398  # sets the scale


def acceleration(x):
    """Of bodies of mass 1 at positions [n, 2]; the diagonal is kept from dividing by 0."""
    apart = x[None, :, :] - x[:, None, :]
    squared = np.sum(apart**2, axis=-1) + np.eye(len(x))
    return np.sum(apart / squared[:, :, None] ** 1.5, axis=1)


def simulate(x, v, dt, steps):
    """Positions and velocities after ``steps`` steps of the leapfrog."""
    a = acceleration(x)
    for _ in range(steps):
        v = v + 0.5 * dt * a
        x = x + dt * v
        a = acceleration(x)
        v = v + 0.5 * dt * a
    return x, v


def start(guess):
    """Positions and velocities by the symmetry of the orbit: p, -p and 0; u, u and -2u. ``guess`` is (p, u)."""
    p, u = guess[0:2], guess[2:4]
    return np.stack([p, -p, 0 * p]), np.stack([u, u, -2 * u])


def gap(guess, steps):
    """After a third of the period every body must be where the next one started, and move as it did."""
    x0, v0 = start(guess)
    x, v = simulate(x0, v0, PERIOD / (3 * steps), steps)
    return np.concatenate([(x - np.roll(x0, 1, axis=0)).ravel(), (v - np.roll(v0, 1, axis=0)).ravel()])


def energy(x, v):
    distances = [np.hypot(*(x[i] - x[j])) for i, j in ((0, 1), (0, 2), (1, 2))]
    return 0.5 * np.sum(v**2) - sum(1 / d for d in distances)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=250, help="time steps in a third of the orbit")
    parser.add_argument("--plot", metavar="FILE", help="draw the orbit there")
    args = parser.parse_args()

    gaps = graphc.compile(lambda guess: gap(guess, args.steps))
    jacobian = graphc.compile(graphc.jacfwd(lambda guess: gap(guess, args.steps)))
    guess = np.array([0.9, -0.3, 0.4, 0.5])
    for iteration in range(12):
        missing = gaps(guess)
        print(f"iteration {iteration}: the orbit misses by {np.abs(missing).max():.1e}")
        if np.abs(missing).max() < 1e-9:
            break
        change = np.linalg.lstsq(jacobian(guess), -missing, rcond=1e-9)[0]
        guess = guess + change * min(1.0, 0.2 / np.abs(change).max())

    x, v = start(guess)
    dt, before = PERIOD / (3 * args.steps), energy(x, v)
    path = [x]
    advance = graphc.compile(lambda x, v: simulate(x, v, dt, 5))
    for _ in range(3 * args.steps // 5):
        x, v = advance(x, v)
        path.append(x)
    print(
        f"energy {before:.5f} (-1.28714 in the literature), after a whole period off by {abs(energy(x, v) - before):.0e}"
    )

    if args.plot:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
        axes.plot(*np.transpose(path, (2, 0, 1)))
        axes.plot(*path[0].T, "ko")
        axes.set_aspect("equal")
        figure.savefig(args.plot, dpi=120)


if __name__ == "__main__":
    main()
