"""scipy.stats's distributions for traced and plain arrays: densities, distribution functions and their inverses.

Each has SciPy's parameters: ``norm.logpdf(x, loc=0, scale=1)``, ``gamma.cdf(x, a, loc=0, scale=1)``. Outside the support a
density is 0 and its logarithm -inf; where a parameter makes no distribution the result is NaN. Derivatives exist by every
argument that is a float, at every order.

>>> round(float(norm.cdf(1.959963984540054)), 6)
0.975
>>> round(float(gamma.logpdf(2.0, 3.0, scale=0.5)), 6)
-1.227411
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.scipy import special as functions
from graphc.scipy.calls import on_arrays
from graphc.scipy.linalg import factored
from graphc.tracing import UnsupportedError, operands, to_tracer, wrap

special: Any = functions  # its ufuncs are made in a loop, which no type checker follows
LOG_2PI = math.log(2 * math.pi)
Formula = Callable[..., Any]


def _floats(*values: Any) -> list[Any]:
    """``values`` as traced arrays of one float type; numbers stay what the arrays are."""
    prepared = [to_tracer(v) if isinstance(v, (list, tuple, np.ndarray, np.generic)) else v for v in values]
    return [wrap(node) for node in operands(*prepared, to=special.float_type(*prepared))]


def _either(condition: Any, x: float, y: float, like: Any) -> Any:
    """One of two numbers in the type of ``like``: between Python's own np.where chooses float64."""
    return np.where(condition, like.dtype.type(x), like.dtype.type(y))


class Continuous:
    """A distribution by its standard form: ``logpdf(y, *shapes)``, ``cdf``, ``sf``, ``logcdf``, ``logsf``, ``ppf`` on the
    support ``[low, high]``, and the condition on the shapes. ``loc`` and ``scale`` move it."""

    def __init__(
        self, name: str, shapes: str, formulas: dict[str, Formula], low: float, high: float, valid: Formula | None = None
    ) -> None:
        self.name, self.shapes, self.formulas, self.low, self.high, self.valid = name, shapes, formulas, low, high, valid

    def __repr__(self) -> str:
        return f"<distribution {self.name}>"

    def _parse(self, args: tuple, kwargs: dict[str, Any]) -> list[Any]:
        names = ["x", *self.shapes.split(), "loc", "scale"]
        if len(args) > len(names) or set(kwargs) - set(names):
            raise TypeError(f"{self.name} takes {', '.join(names)}, not {len(args)} arguments and {sorted(kwargs)}")
        given = {"loc": 0, "scale": 1, **dict(zip(names, args, strict=False)), **kwargs}
        missing = [n for n in names if n not in given]
        if missing:
            raise TypeError(f"{self.name} needs {', '.join(missing)}")
        return [given[n] for n in names]

    def _call(self, function: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        parsed = self._parse(args, kwargs)

        @on_arrays()
        def run(a: Any, b: Any, c: Any, d: Any = None, e: Any = None) -> Any:
            return function(*_floats(*[v for v in (a, b, c, d, e) if v is not None]))

        return run(*parsed)

    def _valid(self, scale: Any, shapes: list[Any]) -> Any:
        valid = scale > 0
        return valid if self.valid is None else np.logical_and(valid, self.valid(*shapes))

    def _at(self, formula: Formula, x: Any, args: tuple, below: float, above: float, inclusive: bool) -> tuple[Any, Any]:
        """``formula`` at the standardised x, ``below`` and ``above`` the support; the scale."""
        *shapes, loc, scale = args
        valid = self._valid(scale, shapes)
        y = (x - loc) / np.where(valid, scale, 1)
        inside = np.logical_and(y >= self.low, y <= self.high) if inclusive else np.logical_and(y > self.low, y < self.high)
        unbounded = self.low == -np.inf and self.high == np.inf
        value = formula(y if unbounded else np.where(inside, y, 0.5), *shapes)
        if not unbounded:
            outer = _either(y < self.low if inclusive else y <= self.low, below, above, y)
            value = np.where(inside, value, np.where(np.isnan(y), np.nan, outer))
        return np.where(valid, value, np.nan), np.where(valid, scale, 1)

    def _formula(self, *names: str) -> Formula:
        for name in names:
            if name in self.formulas:
                return self.formulas[name]
        raise UnsupportedError(
            f"graphc.scipy.stats.{self.name} has no {names[0]}; it has "
            f"{', '.join(['pdf', *self.formulas])}"
        )

    def logpdf(self, *args: Any, **kwargs: Any) -> Any:
        """The logarithm of the density at ``x``."""

        def run(x: Any, *rest: Any) -> Any:
            value, scale = self._at(self._formula("logpdf"), x, rest, -np.inf, -np.inf, True)
            return value - np.log(scale)

        return self._call(run, args, kwargs)

    def pdf(self, *args: Any, **kwargs: Any) -> Any:
        """The density at ``x``."""

        def run(x: Any, *rest: Any) -> Any:
            value, scale = self._at(self._formula("logpdf"), x, rest, -np.inf, -np.inf, True)
            return np.exp(value) / scale

        return self._call(run, args, kwargs)

    def _distribution(self, name: str, below: float, above: float) -> Callable[..., Any]:
        formula = self._formula(name)
        return lambda x, *rest: self._at(formula, x, rest, below, above, False)[0]

    def cdf(self, *args: Any, **kwargs: Any) -> Any:
        """The probability of values up to ``x``."""
        return self._call(self._distribution("cdf", 0.0, 1.0), args, kwargs)

    def sf(self, *args: Any, **kwargs: Any) -> Any:
        """The probability of values above ``x``, exact also where it is small."""
        return self._call(self._distribution("sf", 1.0, 0.0), args, kwargs)

    def logcdf(self, *args: Any, **kwargs: Any) -> Any:
        """``log cdf``."""
        return self._call(self._log("logcdf", "cdf", -np.inf, 0.0), args, kwargs)

    def logsf(self, *args: Any, **kwargs: Any) -> Any:
        """``log sf``."""
        return self._call(self._log("logsf", "sf", 0.0, -np.inf), args, kwargs)

    def _log(self, name: str, plain: str, below: float, above: float) -> Callable[..., Any]:
        if name in self.formulas:
            return self._distribution(name, below, above)
        formula = self._formula(plain)
        return lambda x, *rest: self._at(lambda *a: np.log(formula(*a)), x, rest, below, above, False)[0]

    def ppf(self, *args: Any, **kwargs: Any) -> Any:
        """The value up to which the probability is ``x``: the inverse of cdf. NaN outside [0, 1]."""
        formula = self._formula("ppf")

        def run(q: Any, *rest: Any) -> Any:
            *shapes, loc, scale = rest
            valid = np.logical_and(self._valid(scale, shapes), np.logical_and(q >= 0, q <= 1))
            return np.where(valid, formula(np.where(valid, q, 0.5), *shapes) * scale + loc, np.nan)

        return self._call(run, args, kwargs)


def _t_logpdf(y: Any, df: Any) -> Any:
    half = special.betaln(0.5 * df, 0.5)
    return -half - 0.5 * np.log(df) - 0.5 * (df + 1) * np.log1p(y * y / df)


def _laplace_cdf(y: Any) -> Any:
    tail = 0.5 * np.exp(-np.abs(y))
    return np.where(y < 0, tail, 1 - tail)


def _positive(*shapes: Any) -> Any:
    valid = shapes[0] > 0
    for s in shapes[1:]:
        valid = np.logical_and(valid, s > 0)
    return valid


norm = Continuous(
    "norm", "",
    {
        "logpdf": lambda y: -0.5 * (y * y) - 0.5 * LOG_2PI,
        "cdf": lambda y: special.ndtr(y), "sf": lambda y: special.ndtr(-y),
        "logcdf": lambda y: special.log_ndtr(y), "logsf": lambda y: special.log_ndtr(-y),
        "ppf": lambda q: special.ndtri(q),
    },
    -np.inf, np.inf,
)  # fmt: skip
t = Continuous(
    "t", "df",
    {"logpdf": _t_logpdf, "cdf": lambda y, df: special.stdtr(df, y), "sf": lambda y, df: special.stdtr(df, -y)},
    -np.inf, np.inf, _positive,
)  # fmt: skip
gamma = Continuous(
    "gamma", "a",
    {
        "logpdf": lambda y, a: special.xlogy(a - 1, y) - y - special.gammaln(a),
        "cdf": lambda y, a: special.gammainc(a, y), "sf": lambda y, a: special.gammaincc(a, y),
    },
    0.0, np.inf, _positive,
)  # fmt: skip
chi2 = Continuous(
    "chi2", "df",
    {
        "logpdf": lambda y, df: (
            special.xlogy(0.5 * df - 1, y) - 0.5 * y - special.gammaln(0.5 * df) - 0.5 * math.log(2) * df
        ),
        "cdf": lambda y, df: special.chdtr(df, y), "sf": lambda y, df: special.chdtrc(df, y),
    },
    0.0, np.inf, _positive,
)  # fmt: skip
beta = Continuous(
    "beta", "a b",
    {
        "logpdf": lambda y, a, b: special.xlogy(a - 1, y) + special.xlog1py(b - 1, -y) - special.betaln(a, b),
        "cdf": lambda y, a, b: special.betainc(a, b, y), "sf": lambda y, a, b: special.betainc(b, a, 1 - y),
    },
    0.0, 1.0, _positive,
)  # fmt: skip
expon = Continuous(
    "expon", "",
    {
        "logpdf": lambda y: -y, "cdf": lambda y: -np.expm1(-y), "sf": lambda y: np.exp(-y),
        "logcdf": lambda y: np.log(-np.expm1(-y)), "logsf": lambda y: -y, "ppf": lambda q: -np.log1p(-q),
    },
    0.0, np.inf,
)  # fmt: skip
uniform = Continuous(
    "uniform", "",
    {"logpdf": lambda y: y * 0, "cdf": lambda y: y, "sf": lambda y: 1 - y, "ppf": lambda q: q},
    0.0, 1.0,
)  # fmt: skip
laplace = Continuous(
    "laplace", "",
    {
        "logpdf": lambda y: -np.abs(y) - math.log(2), "cdf": _laplace_cdf, "sf": lambda y: _laplace_cdf(-y),
        "ppf": lambda q: np.where(q > 0.5, -np.log(2 * (1 - q)), np.log(2 * q)),
    },
    -np.inf, np.inf,
)  # fmt: skip
logistic = Continuous(
    "logistic", "",
    {
        "logpdf": lambda y: -np.abs(y) - 2 * np.log1p(np.exp(-np.abs(y))),
        "cdf": lambda y: special.expit(y), "sf": lambda y: special.expit(-y),
        "logcdf": lambda y: special.log_expit(y), "logsf": lambda y: special.log_expit(-y),
        "ppf": lambda q: special.logit(q),
    },
    -np.inf, np.inf,
)  # fmt: skip
cauchy = Continuous(
    "cauchy", "",
    {
        "logpdf": lambda y: -np.log1p(y * y) - math.log(math.pi),
        "cdf": lambda y: np.arctan2(1, -y) / math.pi, "sf": lambda y: np.arctan2(1, y) / math.pi,
        "ppf": lambda q: np.tan(math.pi * (q - 0.5)),
    },
    -np.inf, np.inf,
)  # fmt: skip
lognorm = Continuous(
    "lognorm", "s",
    {
        "logpdf": lambda y, s: np.where(
            y > 0, _lognorm(np.where(y > 0, y, 1), s), -np.inf
        ),
        "cdf": lambda y, s: special.ndtr(np.log(y) / s), "sf": lambda y, s: special.ndtr(-np.log(y) / s),
        "logcdf": lambda y, s: special.log_ndtr(np.log(y) / s), "logsf": lambda y, s: special.log_ndtr(-np.log(y) / s),
        "ppf": lambda q, s: np.exp(s * special.ndtri(q)),
    },
    0.0, np.inf, _positive,
)  # fmt: skip


def _lognorm(y: Any, s: Any) -> Any:
    z = np.log(y) / s
    return -0.5 * (z * z) - np.log(s * y) - 0.5 * LOG_2PI


# ------------------------------------------------------------------------------------------------ discrete distributions


class Discrete:
    """A distribution of whole numbers: ``logpmf(k, *shapes)`` on 0 … ``high(*shapes)``, and the condition on the shapes."""

    def __init__(self, name: str, shapes: str, logpmf: Formula, high: Formula, valid: Formula, cdf: Formula | None) -> None:
        self.name, self.shapes, self._logpmf, self._high, self._valid, self._cdf = name, shapes, logpmf, high, valid, cdf

    def __repr__(self) -> str:
        return f"<distribution {self.name}>"

    def _call(self, function: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        names = ["k", *self.shapes.split(), "loc"]
        parameters = [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names[:-1]]
        last = inspect.Parameter("loc", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=0)
        bound = inspect.Signature([*parameters, last]).bind(*args, **kwargs)
        bound.apply_defaults()

        @on_arrays()
        def run(a: Any, b: Any, c: Any, d: Any = None) -> Any:
            k, *shapes, loc = _floats(*[v for v in (a, b, c, d) if v is not None])
            return function(k - loc, *shapes)

        return run(*bound.args)

    def _at(self, formula: Formula, k: Any, shapes: tuple, outside: float) -> Any:
        valid = self._valid(*shapes)
        inside = np.logical_and(np.logical_and(k >= 0, k <= self._high(*shapes)), np.floor(k) == k)
        value = formula(np.where(inside, k, 0), *shapes)
        missing = np.logical_or(np.logical_not(valid), np.isnan(k))
        return np.where(missing, np.nan, np.where(inside, value, outside))

    def logpmf(self, *args: Any, **kwargs: Any) -> Any:
        """The logarithm of the probability of ``k``."""
        return self._call(lambda k, *shapes: self._at(self._logpmf, k, shapes, -np.inf), args, kwargs)

    def pmf(self, *args: Any, **kwargs: Any) -> Any:
        """The probability of ``k``."""
        return self._call(lambda k, *shapes: np.exp(self._at(self._logpmf, k, shapes, -np.inf)), args, kwargs)

    def cdf(self, *args: Any, **kwargs: Any) -> Any:
        """The probability of values up to ``k``."""
        if self._cdf is None:
            raise UnsupportedError(f"graphc.scipy.stats.{self.name} has no cdf; it has pmf and logpmf")
        cdf = self._cdf

        def run(k: Any, *shapes: Any) -> Any:
            floor = np.floor(k)
            inside = np.logical_and(floor >= 0, floor < self._high(*shapes))
            value = cdf(np.where(inside, floor, 0), *shapes)
            missing = np.logical_or(np.logical_not(self._valid(*shapes)), np.isnan(k))
            return np.where(missing, np.nan, np.where(inside, value, _either(k < 0, 0.0, 1.0, k)))

        return self._call(run, args, kwargs)


def _probability(p: Any) -> Any:
    return np.logical_and(p >= 0, p <= 1)


def _binom_logpmf(k: Any, n: Any, p: Any) -> Any:
    ways = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return ways + special.xlogy(k, p) + special.xlog1py(n - k, -p)


def _binom_cdf(k: Any, n: Any, p: Any) -> Any:
    inside = k < n
    return special.betainc(np.where(inside, n - k, 1), k + 1, 1 - p)


poisson = Discrete(
    "poisson", "mu", lambda k, mu: special.xlogy(k, mu) - special.gammaln(k + 1) - mu, lambda mu: np.inf,
    lambda mu: mu >= 0, lambda k, mu: special.pdtr(k, mu),
)  # fmt: skip
bernoulli = Discrete(
    "bernoulli", "p", lambda k, p: special.xlogy(k, p) + special.xlog1py(1 - k, -p), lambda p: 1, _probability,
    lambda k, p: 1 - p,
)  # fmt: skip
binom = Discrete(
    "binom", "n p", _binom_logpmf, lambda n, p: n,
    lambda n, p: np.logical_and(np.logical_and(n >= 0, np.floor(n) == n), _probability(p)), _binom_cdf,
)  # fmt: skip

# ------------------------------------------------------------------------------------------------ several variables


class _MultivariateNormal:
    """The normal distribution of vectors, by the Cholesky factor of its covariance."""

    def __repr__(self) -> str:
        return "<distribution multivariate_normal>"

    def logpdf(self, x: Any, mean: Any = None, cov: Any = 1) -> Any:
        """The logarithm of the density at the vectors in the last axis of ``x``.

        ``mean`` is a vector or a number, ``cov`` a positive definite matrix, the vector of its diagonal, or a number.
        """
        return _normal_logpdf(x, mean, cov)

    def pdf(self, x: Any, mean: Any = None, cov: Any = 1) -> Any:
        """The density."""
        return np.exp(_normal_logpdf(x, mean, cov))


@on_arrays()
def _normal_logpdf(x: Any, mean: Any = None, cov: Any = 1) -> Any:
    values = [x, cov] if mean is None else [x, cov, mean]
    element = special.float_type(*[to_tracer(v) for v in values])
    x, cov = (to_tracer(v).astype(element.numpy) for v in (x, cov))
    mean = None if mean is None else to_tracer(mean).astype(element.numpy)
    n = cov.shape[0] if cov.ndim else mean.size if mean is not None else x.shape[-1] if x.ndim > 1 else 1
    if mean is not None and mean.size != n:
        raise ValueError(f"Array 'mean' must be a vector of length {n}.")
    if cov.ndim > 2 or (cov.ndim == 2 and cov.shape != (n, n)):
        raise ValueError(f"Array 'cov' must be square if it is two dimensional, but cov.shape = {cov.shape}.")
    if x.ndim == 0:
        x = x.reshape(1, 1)
    elif x.ndim == 1:
        x = x[:, None] if n == 1 else x[None, :]
    d = x if mean is None else x - mean.reshape(-1)
    if d.shape[-1] != n:
        raise ValueError(f"the vectors in the last axis of x have {d.shape[-1]} entries, the distribution {n}")
    if cov.ndim < 2:
        variance = np.broadcast_to(cov, (n,))
        squares, logs = np.sum(d * d / variance, axis=-1), np.sum(np.log(variance))
    else:
        lower = np.linalg.cholesky(cov)
        rows = d.reshape(-1, n)
        solved = factored(lower, rows.T)
        squares = np.sum(solved * solved, axis=0).reshape(d.shape[:-1])
        logs = 2 * np.sum(np.log(np.diagonal(lower)))
    return np.squeeze(-0.5 * (n * LOG_2PI + logs + squares))


class _Dirichlet:
    """The Dirichlet distribution of probability vectors, which lie along the first axis."""

    def __repr__(self) -> str:
        return "<distribution dirichlet>"

    def logpdf(self, x: Any, alpha: Any) -> Any:
        """The logarithm of the density at ``x``: (k,) or (k, n), or with one row less, which makes the sum 1."""
        return _dirichlet_logpdf(x, alpha)

    def pdf(self, x: Any, alpha: Any) -> Any:
        """The density."""
        return np.exp(_dirichlet_logpdf(x, alpha))


@on_arrays()
def _dirichlet_logpdf(x: Any, alpha: Any) -> Any:
    element = special.float_type(to_tracer(x), to_tracer(alpha))
    x, alpha = (to_tracer(v).astype(element.numpy) for v in (x, alpha))
    if alpha.ndim != 1:
        raise ValueError(f"Parameter vector 'a' must be one dimensional, but a.shape = {alpha.shape}.")
    if x.shape[0] == alpha.shape[0] - 1:
        x = np.concatenate([x, 1 - np.sum(x, axis=0, keepdims=True)], axis=0)
    if x.shape[0] != alpha.shape[0]:
        raise ValueError(
            f"Vector 'x' must have either the same number of entries as, or one entry fewer than, parameter vector 'a', "
            f"but alpha.shape = {alpha.shape} and x.shape = {x.shape}."
        )
    weights = (alpha - 1).reshape(-1, *[1] * (x.ndim - 1))
    norming = special.gammaln(np.sum(alpha)) - np.sum(special.gammaln(alpha))
    return norming + np.sum(special.xlogy(np.broadcast_to(weights, x.shape), x), axis=0)


multivariate_normal = _MultivariateNormal()
dirichlet = _Dirichlet()


def __getattr__(name: str) -> Any:
    raise AttributeError(f"graphc.scipy.stats has no {name!r}; it has {', '.join(__all__)}")


__all__ = [
    "bernoulli", "beta", "binom", "cauchy", "chi2", "dirichlet", "expon", "gamma", "laplace", "logistic", "lognorm",
    "multivariate_normal", "norm", "poisson", "t", "uniform",
]  # fmt: skip
