"""Newton's method with exact Hessian-vector products: SciPy's Newton-CG and trust-ncg beside L-BFGS, on a bad valley.

The curvature of a function of n variables is an n × n matrix that nobody wants to write down. Newton-CG only asks for its
products with vectors, and `graphc.hvp` gives one for the price of about two gradients: no matrix, no differences.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.optimize import minimize

import graphc


def valley(x):
    """Rosenbrock's function in many dimensions, its minimum 0 where everything is 1."""
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=200, help="number of variables")
    args = parser.parse_args()
    start = np.tile([-1.2, 1.0], args.size)[: args.size]

    value_and_gradient = graphc.compile(graphc.value_and_grad(valley))
    curvature = graphc.compile(graphc.hvp(valley))  # curvature(x, v): the Hessian at x times v

    v = np.random.default_rng(0).normal(size=args.size)
    full = graphc.hessian(valley)(start) @ v
    print(f"Hessian-vector product, off by {np.abs(curvature(start, v) - full).max() / np.abs(full).max():.0e}")

    for method, curved in (("L-BFGS-B", False), ("Newton-CG", True), ("trust-ncg", True)):
        options = {"maxiter": 5000} | ({"xtol": 1e-12} if method == "Newton-CG" else {})
        more = {"hessp": curvature} if curved else {}
        found = minimize(value_and_gradient, start, jac=True, method=method, options=options, **more)
        slope = np.abs(value_and_gradient(found.x)[1]).max()
        counts = f"{found.nit} iterations, {found.nfev} gradients" + (f", {found.nhev} products" if curved else "")
        print(f"{method:10} f = {found.fun:.1e}, steepest slope {slope:.0e}: {counts}")


if __name__ == "__main__":
    main()
