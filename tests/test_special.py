"""The special functions against mpmath and SciPy: accuracy by regions, ends of the domains, element types, errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
from compare import traced

import graphc
import graphc.scipy.special as gs
from graphc import ops
from graphc.ir import Builder
from graphc.leaks import TracerError, UnsupportedError
from graphc.numpy.special import NAMED_UFUNCS
from graphc.ops import special
from graphc.passes.expand import expand_ops
from graphc.types import TensorType, f64

mpmath.mp.dps = 30
RNG = np.random.default_rng(0)
BOUND = 1e-13


def spread(low: float, high: float, count: int = 25) -> np.ndarray:
    """Positive numbers, evenly by magnitude."""
    return np.exp(RNG.uniform(np.log(low), np.log(high), count))


def between(low: float, high: float, count: int = 40) -> np.ndarray:
    return RNG.uniform(low, high, count)


def signed(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, -x])


def around(place: float) -> np.ndarray:
    return place + signed(spread(1e-10, 0.1))


def joined(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts)


def erfcx(x: mpmath.mpf) -> mpmath.mpf:
    if x < 20:
        return mpmath.exp(x * x) * mpmath.erfc(x)
    series = [(-1) ** k * mpmath.fac2(2 * k - 1) / (2 * x * x) ** k for k in range(30)]
    return mpmath.fsum(series) / (x * mpmath.sqrt(mpmath.pi))


def erfcinv(q: mpmath.mpf) -> mpmath.mpf:
    if q > 1e-10:
        with mpmath.workdps(60):
            return mpmath.erfinv(1 - q)
    return mpmath.findroot(lambda t: mpmath.log(mpmath.erfc(t)) - mpmath.log(q), mpmath.sqrt(-mpmath.log(q)) * 0.95)


def ndtr(x: mpmath.mpf) -> mpmath.mpf:
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


def log_ndtr(x: mpmath.mpf) -> mpmath.mpf:
    return mpmath.log(ndtr(x)) if x < 2 else mpmath.log1p(-ndtr(-x))


def bessel(function: Callable[..., Any], order: int, scaled: int = 0) -> Callable[[mpmath.mpf], mpmath.mpf]:
    return lambda x: function(order, x) * mpmath.exp(scaled * abs(x))


#: name -> (exact function, places): regions of the formulas and their borders, tiny and huge arguments.
EXACT: dict[str, tuple[Callable[[mpmath.mpf], Any], np.ndarray]] = {
    "erfcx": (erfcx, joined(spread(1e-10, 1e8), -spread(1e-5, 26))),
    "erfinv": (mpmath.erfinv, joined(signed(spread(1e-12, 0.99)), 1 - spread(1e-15, 0.3))),
    "erfcinv": (erfcinv, joined(spread(1e-300, 0.5), between(0.2, 1.9), 2 - spread(1e-14, 0.3))),
    "ndtr": (ndtr, between(-37, 8)),
    "log_ndtr": (log_ndtr, joined(between(-300, 8), between(-3, 3))),
    "gammaln": (
        lambda x: mpmath.re(mpmath.loggamma(x)),
        joined(spread(1e-300, 1e300), between(0, 10, 80), around(1.0), around(2.0)),
    ),
    "gamma": (mpmath.gamma, joined(between(-170, 171), signed(spread(1e-300, 5)), between(-5, 5))),
    "rgamma": (mpmath.rgamma, joined(between(-170, 171), signed(spread(1e-300, 5)), between(-5, 5))),
    "digamma": (mpmath.digamma, joined(spread(1e-300, 1e300), between(0, 10, 80), around(1.4616321449683622))),
    "i0": (bessel(mpmath.besseli, 0), signed(joined(spread(1e-5, 700), between(6, 10)))),
    "i1": (bessel(mpmath.besseli, 1), signed(joined(spread(1e-5, 700), between(6, 10)))),
    "i0e": (bessel(mpmath.besseli, 0, -1), signed(joined(spread(1e-5, 700), between(6, 10)))),
    "i1e": (bessel(mpmath.besseli, 1, -1), signed(joined(spread(1e-5, 700), between(6, 10)))),
    "k0": (bessel(mpmath.besselk, 0), joined(spread(1e-5, 700), between(1, 10))),
    "k1": (bessel(mpmath.besselk, 1), joined(spread(1e-5, 700), between(1, 10))),
    "k0e": (bessel(mpmath.besselk, 0, 1), joined(spread(1e-5, 700), between(1, 10))),
    "k1e": (bessel(mpmath.besselk, 1, 1), joined(spread(1e-5, 700), between(1, 10))),
    "j0": (bessel(mpmath.besselj, 0), signed(between(0, 5.6))),
    "j1": (bessel(mpmath.besselj, 1), signed(joined(spread(1e-9, 7), between(0, 7.1)))),
    "logit": (lambda x: mpmath.log(x) - mpmath.log1p(-x), joined(spread(1e-300, 0.5), between(0, 1), around(0.5))),
    "log1pmx": (lambda x: mpmath.log1p(x) - x, joined(signed(spread(1e-6, 0.99)), spread(0.5, 1e5))),
    "log_expit": (lambda x: -mpmath.log1p(mpmath.exp(-x)), between(-50, 50)),
    "cosm1": (lambda x: mpmath.cos(x) - 1, signed(spread(1e-5, 1))),
    "entr": (lambda x: -x * mpmath.log(x), joined(spread(1e-9, 0.9), spread(1.1, 1e5))),
}


def errors(found: np.ndarray, exact: list[Any]) -> np.ndarray:
    """Relative errors; a result that overflows is right where f64 does."""
    rows = []
    for have, want in zip(found.tolist(), exact, strict=True):
        if np.isinf(have) and abs(want) > np.finfo(float).max:
            rows.append(0.0)
        else:
            rows.append(float(abs(mpmath.mpf(have) / want - 1)) if want else abs(have))
    return np.array(rows)


@pytest.mark.parametrize("name", EXACT)
def test_accuracy(name: str) -> None:
    exact, places = EXACT[name]
    wanted = [exact(mpmath.mpf(x)) for x in places.tolist()]
    found = errors(getattr(special, name).eval(places), wanted)
    assert found.max() <= BOUND, f"{found.max():.1e} at {places[found.argmax()]}"
    narrow = places.astype(np.float32)
    with np.errstate(all="ignore"):
        low = getattr(special, name).eval(narrow)
        again = getattr(special, name).eval(narrow.astype(np.float64)).astype(np.float32)
    assert low.dtype == np.float32
    np.testing.assert_array_max_ulp(low[np.isfinite(again)], again[np.isfinite(again)], 2)


@pytest.mark.parametrize("name", EXACT)
def test_compiled_is_as_accurate(name: str) -> None:
    exact, places = EXACT[name]
    function = lambda x: graphc.tracing.wrap(getattr(special, name)(graphc.tracing.to_node(x)))  # noqa: E731
    found = errors(graphc.compile(function)(places), [exact(mpmath.mpf(x)) for x in places.tolist()])
    assert found.max() <= BOUND, f"{found.max():.1e} at {places[found.argmax()]}"


@pytest.mark.parametrize("order", [1, 2, 3, 5, 10])
def test_polygamma(order: int) -> None:
    for places, bound in ((joined(spread(1e-3, 1e6), between(0.1, 20)), BOUND), (between(-6, 0), 1e-12)):
        exact = [mpmath.polygamma(order, mpmath.mpf(x)) for x in places.tolist()]
        assert errors(special.polygamma.eval(places, order=order), exact).max() <= bound


def test_zeta() -> None:
    s, q = 1 + spread(1e-3, 20), spread(1e-2, 30)
    exact = [mpmath.zeta(mpmath.mpf(a), mpmath.mpf(b)) for a, b in zip(s.tolist(), q.tolist(), strict=True)]
    assert errors(special.zeta.eval(s, q), exact).max() <= BOUND
    s, q = 1 + spread(1, 1e3, 60), spread(1e-2, 1e6, 60)
    np.testing.assert_allclose(special.zeta.eval(s, q), scipy.special.zeta(s, q), rtol=1e-13)
    q = np.array([-0.3, -1.7, -5.2, -0.9, -20.3])
    for s in (2.0, 3.0, 6.0):
        np.testing.assert_allclose(special.zeta.eval(np.full(5, s), q), scipy.special.zeta(s, q), rtol=1e-12)


def test_beta() -> None:
    p, q = spread(1e-3, 1e6, 60), spread(1e-3, 1e6, 60)
    logarithms = [
        mpmath.loggamma(a) + mpmath.loggamma(b) - mpmath.loggamma(mpmath.mpf(a) + mpmath.mpf(b))
        for a, b in zip(p.tolist(), q.tolist(), strict=True)
    ]
    assert errors(special.betaln.eval(p, q), logarithms).max() <= BOUND
    p, q = spread(1e-3, 80, 40), spread(1e-3, 80, 40)
    exact = [mpmath.beta(a, b) for a, b in zip(p.tolist(), q.tolist(), strict=True)]
    assert errors(special.beta.eval(p, q), exact).max() <= BOUND


def lower_gamma(a: float, x: float) -> mpmath.mpf:
    """P(a, x) by its series, which has no cancellation."""
    a, x = mpmath.mpf(a), mpmath.mpf(x)
    term = total = mpmath.mpf(1)
    n = 0
    while term > total * mpmath.mpf(10) ** -150:
        n += 1
        term *= x / (a + n)
        total += term
    return total * mpmath.exp(a * mpmath.log(x) - x - mpmath.loggamma(a + 1))


@pytest.mark.parametrize("shape", [1e-3, 0.05, 0.9, 1.0, 3.1, 20.0, 200.0])
def test_incomplete_gamma(shape: float) -> None:
    """Both tails, near the mean and far from it. The bound is that of the exponent, down to e^-300."""
    x = np.array([shape * f for f in (1e-3, 0.3, 0.97, 1, 1.03, 1.5, 3)] + [shape + 8 * shape**0.5, 0.99, 1.01, 5.0])
    with mpmath.workdps(160):
        lower = [lower_gamma(shape, v) for v in x.tolist()]
        upper = [1 - p for p in lower]
    for op, exact in ((special.gammainc, lower), (special.gammaincc, upper)):
        likely = np.array([p > 1e-130 for p in exact])
        found = errors(op.eval(np.full(x.shape, shape), x)[likely], [p for p, use in zip(exact, likely, strict=True) if use])
        assert found.max() <= BOUND, (op, x[likely][found.argmax()])


def test_incomplete_beta() -> None:
    grid = [0.05, 0.5, 1.0, 2.5, 10.0, 300.0]
    for p in grid:
        for q in grid:
            mean = p / (p + q)
            x = np.array([mean * 0.01, mean * 0.9, mean, mean + (1 - mean) * 0.1, mean + (1 - mean) * 0.8])
            found = special.betainc.eval(np.full(5, p), np.full(5, q), x)
            np.testing.assert_allclose(found, scipy.special.betainc(p, q, x), rtol=1e-12, atol=1e-290)


# ------------------------------------------------------------------------------------------------ ends of the domains

ENDS = np.array([0.0, -0.0, 1.0, -1.0, -2.0, 2.0, 0.5, np.inf, -np.inf, np.nan, -0.5, 1e-300, 171.7, -170.3, 30.0])
ONE = (
    "erf erfc erfcx erfinv erfcinv ndtr log_ndtr ndtri gammaln gamma gammasgn digamma psi i0e i1e j0 j1 k0 k0e k1 k1e "
    "logit log_expit expit entr cosm1 exprel rgamma"
).split()


@pytest.mark.parametrize("name", ONE)
def test_ends_of_one_argument(name: str) -> None:
    ufunc = getattr(scipy.special, name)
    with np.errstate(all="ignore"):
        want, have = ufunc(ENDS), traced(ufunc, ENDS)
    if name == "rgamma":
        want[ENDS > 170] = have[ENDS > 170]  # a subnormal number, for which SciPy has 0
    same = np.isfinite(ENDS) | (name not in ("exprel", "cosm1"))
    np.testing.assert_allclose(have[same], want[same], rtol=1e-12)


PAIRS = [(p, q) for p in (0.0, 0.5, 1.0, 3.0, np.inf, np.nan, -1.0) for q in (0.0, 0.5, 2.0, np.inf, np.nan, -1.0)]


@pytest.mark.parametrize("name", "xlogy xlog1py rel_entr kl_div huber pseudo_huber gammainc gammaincc boxcox".split())
def test_ends_of_two_arguments(name: str) -> None:
    ufunc = getattr(scipy.special, name)
    p, q = np.array(PAIRS).T
    with np.errstate(all="ignore"):
        want, have = ufunc(p, q), traced(ufunc, p, q)
    same = np.isfinite(p) & np.isfinite(q) | np.isin(name, ["gammainc", "gammaincc"])
    np.testing.assert_allclose(have[same], want[same], rtol=1e-12)


def test_poles_keep_their_derivatives() -> None:
    """1 / Γ is smooth at the poles of Γ: its slope at -n is (-1)ⁿ n!."""
    found = graphc.grad(lambda x: scipy.special.rgamma(x).sum())(np.array([0.0, -1.0, -2.0, -3.0]))
    np.testing.assert_allclose(found, [1, -1, 2, -6], rtol=1e-14)


def test_derivatives_at_awkward_points() -> None:
    gradient = lambda f, x: graphc.grad(lambda v: f(v).sum())(np.asarray(x, float))  # noqa: E731
    np.testing.assert_array_equal(gradient(lambda p: scipy.special.xlogy(p, 2.0), [0.0]), [np.log(2.0)])
    np.testing.assert_array_equal(gradient(lambda y: scipy.special.xlogy(0.0, y), [0.0, 1.0]), [0, 0])
    np.testing.assert_array_equal(gradient(scipy.special.i1, [0.0]), [0.5])
    np.testing.assert_array_equal(gradient(scipy.special.j1, [0.0]), [0.5])
    np.testing.assert_allclose(gradient(lambda p: scipy.special.boxcox(2.0, p), [0.0]), [np.log(2.0) ** 2 / 2], rtol=1e-14)
    np.testing.assert_array_equal(gradient(lambda x: scipy.special.gammainc(1.0, x), [0.0]), [1])
    np.testing.assert_allclose(gradient(scipy.special.log_ndtr, [-1e4, 1e4]), [1e4 + 1e-4, 0], rtol=1e-12)
    np.testing.assert_allclose(gradient(scipy.special.log_expit, [-800.0, 800.0]), [1, 0])


def test_incomplete_integrals_by_their_shapes() -> None:
    """By the shape, far from where differences are accurate: mpmath's derivative."""
    with mpmath.workdps(30):
        for a, x in ((0.3, 0.2), (2.5, 4.0), (50.0, 45.0), (50.0, 60.0)):
            exact = mpmath.diff(lambda s, x=x: mpmath.gammainc(s, 0, x, regularized=True), a)
            found = graphc.grad(lambda s, x=x: scipy.special.gammainc(s, x))(a)
            assert abs(found / exact - 1) < 1e-11
        for p, q, x in ((0.3, 2.0, 0.1), (5.0, 3.0, 0.9), (20.0, 30.0, 0.35)):
            exact = mpmath.diff(lambda s, q=q, x=x: mpmath.betainc(s, q, 0, x, regularized=True), p)
            found = graphc.grad(lambda s, q=q, x=x: scipy.special.betainc(s, q, x))(p)
            assert abs(found / exact - 1) < 1e-11


# ------------------------------------------------------------------------------------------------ plain arrays, types, errors


def test_plain_arrays_need_no_scipy() -> None:
    code = (
        "import sys; sys.modules['scipy'] = None\n"
        "import numpy as np, graphc\n"
        "s = graphc.scipy\n"
        "print(round(float(s.special.gammaln(5.0)), 12), s.special.softmax([0.0, 0.0]), float(s.stats.norm.cdf(0.0)))\n"
        "print(s.special.polygamma([0, 1], 1.0), s.linalg.cho_solve(s.linalg.cho_factor(np.eye(2)), np.ones(2)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).resolve().parent.parent
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == (
        f"{round(np.log(24.0), 12)} [0.5 0.5] 0.5 [-0.57721566 1.64493407] [1. 1.]".split()
    )


@pytest.mark.parametrize("name", sorted(gs._OPERANDS))
def test_plain_arrays_have_scipys_values(name: str) -> None:
    count = len(gs._OPERANDS[name].split())
    args = [np.linspace(0.2, 0.8, 5) + 0.1 * k for k in range(count)]
    np.testing.assert_allclose(getattr(gs, name)(*args), getattr(scipy.special, name)(*args), rtol=1e-12)
    single = [a.astype(np.float32) for a in args]
    assert getattr(gs, name)(*single).dtype == np.float32
    assert getattr(gs, name)(*[1] * count).dtype == np.float64


def test_distributions_keep_float32() -> None:
    x = np.linspace(0.2, 0.8, 5, dtype=np.float32)
    stats = graphc.scipy.stats
    for found in (
        stats.norm.logpdf(x), stats.gamma.logpdf(x, x), stats.gamma.cdf(x, 2.0), stats.beta.sf(x, x, 2.0), stats.t.cdf(x, 3.0),
        stats.expon.logcdf(x), stats.uniform.cdf(x), stats.laplace.ppf(x), stats.poisson.logpmf(np.float32(2), x),
        stats.binom.cdf(np.float32(2), np.float32(5), x), stats.multivariate_normal.logpdf(x, x, x),
        stats.dirichlet.logpdf(x / x.sum(), x), graphc.scipy.special.logsumexp(x), graphc.scipy.special.softmax(x),
    ):  # fmt: skip
        assert found.dtype == np.float32


OUTSIDE = np.array([-np.inf, -1.0, 0.0, 0.3, 1.0, 2.5, np.inf, np.nan])


@pytest.mark.parametrize(
    "name, shapes",
    [("norm", ()), ("t", (3.0,)), ("gamma", (2.0,)), ("gamma", (0.5,)), ("beta", (2.0, 3.0)), ("expon", ()), ("uniform", ()),
     ("laplace", ()), ("logistic", ()), ("cauchy", ()), ("lognorm", (0.7,)), ("chi2", (4.0,)), ("norm", (0.0, -1.0)),
     ("gamma", (-1.0,))],
)  # fmt: skip
def test_distributions_outside_their_support(name: str, shapes: tuple[float, ...]) -> None:
    mine, theirs = getattr(graphc.scipy.stats, name), getattr(scipy.stats, name)
    for method in ("pdf", "logpdf", "cdf", "sf"):
        with np.errstate(all="ignore"):
            want = getattr(theirs, method)(OUTSIDE, *shapes)
        finite = np.isfinite(OUTSIDE) | (method in ("cdf", "sf"))
        np.testing.assert_allclose(getattr(mine, method)(OUTSIDE, *shapes)[finite], want[finite], rtol=1e-12, atol=1e-300)


def test_distributions_name_what_they_do_not_have() -> None:
    with pytest.raises(UnsupportedError, match=r"graphc.scipy.stats.t has no ppf; it has pdf, logpdf, cdf, sf"):
        graphc.scipy.stats.t.ppf(0.3, 2.0)
    with pytest.raises(TypeError, match="gamma needs a"):
        graphc.scipy.stats.gamma.pdf(0.3)
    with pytest.raises(AttributeError, match="graphc.scipy.stats has no 'zipf'"):
        graphc.scipy.stats.zipf  # noqa: B018
    with pytest.raises(AttributeError, match="graphc.scipy.special has no 'jv'"):
        gs.jv  # noqa: B018


def test_every_ufunc_of_scipy_is_traced_or_refused_by_name() -> None:
    names = [n for n in dir(scipy.special) if isinstance(getattr(scipy.special, n), np.ufunc)]
    left = [n for n in names if n not in NAMED_UFUNCS]
    assert len(names) - len(left) > 60
    for name in left:
        ufunc = getattr(scipy.special, name)
        if ufunc.nin and not hasattr(np, name):
            with pytest.raises(UnsupportedError, match=rf"ufunc {ufunc.__name__}\b"):
                graphc.trace(lambda x, u=ufunc: u(*[x] * u.nin), np.ones(3))


@pytest.mark.parametrize(
    "call, remedy",
    [
        (lambda x: scipy.special.logsumexp(x, axis=0), "graphc.scipy.special.logsumexp"),
        (lambda x: scipy.special.softmax(x), "graphc.scipy.special.softmax"),
        (lambda x: scipy.special.log_softmax(x), "graphc.scipy.special.log_softmax"),
        (lambda x: scipy.special.polygamma(1, x), "graphc.scipy.special.polygamma"),
        (lambda x: scipy.stats.norm.logpdf(x), "graphc.scipy.stats.norm.logpdf"),
        (lambda x: scipy.linalg.expm(x), "graphc.scipy.linalg.expm"),
        (lambda x: scipy.linalg.cho_solve((x, True), x), "graphc.scipy.linalg.cho_solve"),
    ],
)
def test_what_scipy_writes_in_python_is_refused_with_the_remedy(call: Callable[[Any], Any], remedy: str) -> None:
    with pytest.raises(TracerError, match=rf"asks for the numbers of .* at .*test_special.py:\d+: .*write {remedy}"):
        graphc.trace(call, np.eye(3))


def test_softmax_and_logsumexp_are_lifted() -> None:
    def loss(x: Any) -> Any:
        return gs.logsumexp(x, axis=1).sum() + gs.softmax(x, axis=1)[:, 0].sum() + gs.log_softmax(x, axis=1)[:, 1].sum()

    graph = graphc.trace(graphc.grad(loss), np.ones((2, 3)))
    assert sorted(n["name"] for n in graph.nodes if n.op.name == "call") == ["log_softmax", "logsumexp", "softmax"]


def test_logsumexp_at_infinities_and_without_elements() -> None:
    x = np.array([[-np.inf, -np.inf], [np.inf, 0.0], [1e4, 1e4]])
    np.testing.assert_allclose(gs.logsumexp(x, axis=1), scipy.special.logsumexp(x, axis=1))
    assert gs.logsumexp(np.zeros((2, 0)), axis=1).tolist() == [-np.inf, -np.inf]
    found = gs.logsumexp(np.array([1.0, 2.0]), b=np.array([1.0, -1.0]), return_sign=True)
    np.testing.assert_allclose(found, scipy.special.logsumexp([1.0, 2.0], b=[1.0, -1.0], return_sign=True))


def test_solve_triangular_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="expected square matrix"):
        graphc.scipy.linalg.solve_triangular(np.ones((2, 3)), np.ones(2))
    with pytest.raises(ValueError, match="incompatible"):
        graphc.scipy.linalg.solve_triangular(np.eye(2), np.ones(3))


# ------------------------------------------------------------------------------------------------ the pass


def test_expansion_reaches_bodies_and_leaves_nothing() -> None:
    def program(x: Any) -> Any:
        total = graphc.fori_loop(0, 3, lambda k, c: c + scipy.special.gammaln(c), x)
        return scipy.special.betainc(x, total, 0.5)

    graph = expand_ops(graphc.trace(program, np.ones(3)))

    def check(graph: graphc.Graph) -> None:
        for node in graph.nodes:
            assert node.op.expand is None or node.op.scalar, node
            for body in node.bodies:
                check(body)

    check(graph)
    assert expand_ops(graph) is graph


def test_expansions_stay_small() -> None:
    """What compiles slowly is worth a thought."""
    for name, op in ops.OPS.items():
        if op.expand is None:
            continue
        attrs = {"polygamma": {"order": 1}, "exprel": {"order": 1}, "gammainc_moment": {"order": 1}}.get(name, {})
        attrs = {"first": 1, "second": 1} if name == "betainc_moment" else attrs
        for count in (1, 2, 3):
            with Builder() as builder:
                inputs = [builder.input(f"x{k}", TensorType(f64, (4,))) for k in range(count)]
                try:
                    graph = builder.graph([op.expand(*inputs, **attrs)])
                except TypeError:
                    continue
            used = [n for n in graph.nodes if n.op.name not in ("constant", "broadcast_to")]
            assert len(used) < 700, (name, len(used))
