"""scipy.stats and scipy.linalg as graphc.scipy has them: SciPy's values, derivatives by differences of SciPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg as sl
import scipy.stats as st

import graphc.scipy.linalg as gl
import graphc.scipy.stats as gs
from cases import Case, case, floats, integers, positive
from graphc.tracing import is_tracer


def both(name: str, mine: Any, theirs: Any, *args: np.ndarray, **options: Any) -> Case:
    """Ours on tracers, SciPy's on arrays. SciPy's element type is float64 whatever the arguments are."""

    def expect(*a: Any) -> Any:
        if any(getattr(x, "dtype", np.dtype(float)).itemsize < 8 for x in a):
            raise TypeError("not in this type")
        return (mine if any(map(is_tracer, a)) else theirs)(*a)

    return case(name, lambda *a: mine(*a), *args, expect=expect, **{"kinds": "f", **options})


def stats(name: str, methods: str, *args: np.ndarray, **options: Any) -> list[Case]:
    owner, theirs = getattr(gs, name), getattr(st, name)
    return [
        both(f"scipy.stats.{name}.{m}", getattr(owner, m), getattr(theirs, m), *args, **options) for m in methods.split()
    ]


LOC, SCALE = floats(4, seed=7, low=-0.2, high=0.2), positive(4, seed=8)
Q = floats(3, 4, low=0.05, high=0.95)
PROBABILITIES = floats(4, low=0.1, high=0.9)
DENSITIES, TAILS = "pdf logpdf", "cdf logcdf sf logsf"
MATRIX = np.array([[2.0, 0.3, 0.1], [0.3, 1.5, -0.2], [0.1, -0.2, 1.0]])
LOWER = np.linalg.cholesky(MATRIX)

CASES = [
    *stats("norm", f"{DENSITIES} {TAILS}", floats(3, 4), LOC, SCALE),
    *stats("norm", "ppf", Q, LOC, SCALE),
    *stats("t", f"{DENSITIES} cdf sf", floats(3, 4), positive(4, seed=2), LOC, SCALE),
    *stats("gamma", f"{DENSITIES} {TAILS}", positive(3, 4), positive(4, seed=2)),
    *stats("gamma", "logpdf cdf", positive(3, 4), positive(4, seed=2), LOC, SCALE),
    *stats("chi2", f"{DENSITIES} cdf sf", positive(3, 4), positive(4, seed=2)),
    *stats("beta", f"{DENSITIES} {TAILS}", Q, positive(4, seed=2), positive(4, seed=3)),
    *stats("expon", f"{DENSITIES} {TAILS}", positive(3, 4), LOC, SCALE),
    *stats("expon", "ppf", Q, LOC, SCALE),
    *stats("uniform", f"{DENSITIES} cdf sf ppf", Q),
    *stats("laplace", f"{DENSITIES} {TAILS}", floats(3, 4), LOC, SCALE),
    *stats("laplace", "ppf", Q, LOC, SCALE),
    *stats("logistic", f"{DENSITIES} {TAILS}", floats(3, 4), LOC, SCALE),
    *stats("logistic", "ppf", Q),
    *stats("cauchy", f"{DENSITIES} cdf sf", floats(3, 4), LOC, SCALE),
    *stats("cauchy", "ppf", Q),
    *stats("lognorm", f"{DENSITIES} {TAILS}", positive(3, 4), positive(4, seed=2)),
    *stats("lognorm", "ppf", Q, positive(4, seed=2)),
    *stats("poisson", "pmf logpmf cdf", integers(3, 4, low=0, high=6), positive(4)),
    *stats("poisson", "pmf logpmf cdf", integers(3, 4, low=-3, high=3) * 0.5, np.array([0.0, 1.5, 2.0, -1.0]), grad=0),
    *stats("bernoulli", "pmf logpmf cdf", integers(3, 4, low=0, high=2), PROBABILITIES),
    *stats("bernoulli", "logpmf cdf", integers(3, 4, low=-1, high=3), np.array([0.0, 0.4, 1.0, 1.2]), grad=0),
    *stats("binom", "pmf logpmf cdf", integers(3, 4, low=0, high=4), integers(4, low=3, high=6), PROBABILITIES),
    *stats("binom", "pmf logpmf", integers(3, 4, low=-1, high=6), integers(4, low=3, high=5), PROBABILITIES, grad=0),
    both("scipy.stats.multivariate_normal.logpdf", gs.multivariate_normal.logpdf, st.multivariate_normal.logpdf,
        floats(4, 3), floats(3), MATRIX, grad=0, batch=False),
    both("scipy.stats.multivariate_normal.logpdf", lambda x, m: gs.multivariate_normal.logpdf(x, m, MATRIX),
        lambda x, m: st.multivariate_normal.logpdf(x, m, MATRIX), floats(4, 3), floats(3)),
    both("scipy.stats.multivariate_normal.pdf", lambda x, d: gs.multivariate_normal.pdf(x, np.zeros(3), d),
        lambda x, d: st.multivariate_normal.pdf(x, np.zeros(3), d), floats(3), positive(3)),
    both("scipy.stats.multivariate_normal.logpdf", lambda x, r: gs.multivariate_normal.logpdf(x, cov=r @ r.T),
        lambda x, r: st.multivariate_normal.logpdf(x, cov=r @ r.T), floats(2, 3), LOWER),
    both("scipy.stats.dirichlet.logpdf", gs.dirichlet.logpdf,
        st.dirichlet.logpdf, np.array([0.2, 0.3]), positive(3)),
    both("scipy.linalg.solve_triangular", lambda a, b: gl.solve_triangular(a, b, lower=True),
        lambda a, b: sl.solve_triangular(a, b, lower=True), LOWER, floats(3, 2), batch=False),
    both("scipy.linalg.solve_triangular", lambda a, b: gl.solve_triangular(a, b, trans="T"),
        lambda a, b: sl.solve_triangular(a, b, trans="T"), LOWER.T, floats(3), batch=False),
    both("scipy.linalg.cho_solve", lambda a, b: gl.cho_solve(gl.cho_factor(a), b),
        lambda a, b: sl.cho_solve(sl.cho_factor(a), b), MATRIX, floats(3), batch=False),
    both("scipy.linalg.cho_solve", lambda a, b: gl.cho_solve(gl.cho_factor(a, lower=True), b),
        lambda a, b: sl.cho_solve(sl.cho_factor(a, lower=True), b), MATRIX, floats(3, 2), batch=False),
    both("scipy.linalg.block_diag", gl.block_diag, sl.block_diag, floats(2, 3), floats(1, 2), floats(2)),
    both("scipy.linalg.toeplitz", gl.toeplitz, sl.toeplitz, floats(3), floats(4)),
    both("scipy.linalg.toeplitz", gl.toeplitz, sl.toeplitz, floats(3)),
    both("scipy.linalg.expm", gl.expm, sl.expm, floats(3, 3)),
]  # fmt: skip
