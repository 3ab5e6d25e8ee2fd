"""Gaussian-process regression: kernel parameters by maximum marginal likelihood, SciPy's L-BFGS driven by graphc.

The likelihood is plain NumPy: a covariance matrix, `np.linalg.solve`, `np.linalg.slogdet`. `graphc.value_and_grad` of it,
compiled once, is what `scipy.optimize.minimize(jac=True)` calls.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.optimize import minimize

import graphc


def covariance(params, x1, x2):
    """A smooth trend plus a wave whose period is a parameter too."""
    scale, length, wave_scale, period = np.exp(params[:4])
    apart = x1[:, None] - x2[None, :]
    smooth = scale * np.exp(-0.5 * (apart / length) ** 2)
    wave = wave_scale * np.exp(-2 * np.sin(np.pi * apart / period) ** 2)
    return smooth + wave


def negative_log_likelihood(params, x, y):
    k = covariance(params, x, x) + (np.exp(params[4]) + 1e-6) * np.eye(len(x))
    return 0.5 * (y @ np.linalg.solve(k, y) + np.linalg.slogdet(k)[1] + len(x) * np.log(2 * np.pi))


def predict(params, x, y, x_new):
    """Mean and standard deviation at new places."""
    k = covariance(params, x, x) + (np.exp(params[4]) + 1e-6) * np.eye(len(x))
    cross = covariance(params, x_new, x)
    mean = cross @ np.linalg.solve(k, y)
    left = np.diagonal(covariance(params, x_new, x_new)) - np.sum(cross * np.linalg.solve(k, cross.T).T, axis=1)
    return mean, np.sqrt(np.maximum(left, 0) + np.exp(params[4]))


def truth(x):
    return 0.3 * (x - 3) ** 2 / 4 + np.sin(2 * np.pi * x / 1.3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=60, help="observations")
    parser.add_argument("--plot", metavar="FILE", help="draw the fit there")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(0, 6, args.points))
    y = truth(x) + 0.1 * rng.normal(size=args.points)

    objective = graphc.compile(graphc.value_and_grad(negative_log_likelihood))
    start = np.log([1.0, 2.0, 0.5, 1.2, 0.1])
    before, _ = objective(start, x, y)
    fit = minimize(objective, start, args=(x, y), jac=True, method="L-BFGS-B")
    print(f"negative log-likelihood {before:.2f} → {fit.fun:.2f} in {fit.nit} iterations, {fit.nfev} gradients")
    print(f"period {np.exp(fit.x[3]):.3f} (1.3 is right), noise {np.exp(0.5 * fit.x[4]):.3f} (0.1 is right)")

    x_new = np.linspace(0, 7, 200)  # the last part is beyond the data
    mean, deviation = graphc.compile(predict)(fit.x, x, y, x_new)
    error = np.sqrt(np.mean((mean - truth(x_new)) ** 2))
    print(f"root mean square error, a seventh of it extrapolated: {error:.3f}")

    if args.plot:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
        axes.fill_between(
            x_new, mean - 2 * deviation, mean + 2 * deviation, alpha=0.25, label="± 2 standard deviations"
        )
        axes.plot(x_new, mean, label="mean")
        axes.plot(x_new, truth(x_new), "--", label="truth")
        axes.plot(x, y, "k.", label="observed")
        axes.legend()
        figure.savefig(args.plot, dpi=120)


if __name__ == "__main__":
    main()
