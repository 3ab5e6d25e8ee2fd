"""The special functions (those of scipy.special) as elementwise ops: meaning by expansion, derivatives by partial rules.

No backend knows these ops: ``expand`` gives each as a graph of elementary ones, which the pass ``expand_ops`` puts in its
place. f16, bf16 and f32 operands are computed in f64. Derivatives are ops of this module again, so every order exists. The
functions below the records are compositions that need no record of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.ir import GraphError, Node, Op
from graphc.ops import arithmetic as a
from graphc.ops import special_formulas as formulas
from graphc.ops.arithmetic import keep_dtype
from graphc.ops.base import elementwise, same_type
from graphc.ops.formula import (
    Real,
    both,
    either,
    evaluation,
    exp,
    expansion,
    expm1,
    log,
    log1p,
    power,
    slope,
    sqrt,
    where,
)
from graphc.types import TensorType, Type

Rule = Callable[..., Real] | None


def rule(formula: Rule) -> Callable[..., Node | None] | None:
    """A partial derivative written over :class:`Real`: of (g, out, *operands)."""
    if formula is None:
        return None
    return lambda *nodes, **attrs: formula(*map(Real, nodes), **attrs).node


def float_type(name: str) -> Callable[..., Type]:
    """All operands have one float type, so has the result; attributes are whole numbers from 0 on."""
    rule = same_type(name, "f")

    def infer(*types: TensorType, **attrs: Any) -> Type:
        for key, value in attrs.items():
            if type(value) is not int or value < (1 if name == "polygamma" else 0):
                raise GraphError(f"{name}: {key} is a whole number, not {value!r}")
        return rule(*types)

    return infer


def special(name: str, formula: Callable[..., Real], *partials: Rule, wide: bool = True) -> Op:
    """An op by its formula; where no partials are given, its derivative is that of the formula."""
    expand = expansion(formula, wide)
    rules = [rule(p) for p in partials] or [slope(expand, 0)]
    record = elementwise(name, None, evaluation(expand), rules, float_type(name), expand=expand)
    return record


def on_reals(op: Op) -> Callable[..., Real]:
    return lambda *xs, **attrs: Real(op(*[x.node for x in xs], **attrs))


# ------------------------------------------------------------------------------------------------ error functions

_erfc_lanes = np.frompyfunc(math.erfc, 1, 1)
erfc = elementwise(
    "erfc",
    "erfc({0})",
    keep_dtype(lambda x: _erfc_lanes(np.asarray(x, np.float64))),
    (rule(lambda g, o, x: g * (-2 / math.sqrt(math.pi) * exp(-(x * x)))),),
    same_type("erfc", "f"),
)
erfcx = special("erfcx", formulas.erfcx)
erfinv = special("erfinv", formulas.erfinv, lambda g, o, y: g * (math.sqrt(math.pi) / 2 * exp(o * o)))
erfcinv = special("erfcinv", formulas.erfcinv, lambda g, o, q: g * (-math.sqrt(math.pi) / 2 * exp(o * o)))
ndtr = elementwise(
    "ndtr",
    "ndtr({0})",
    evaluation(expansion(formulas.ndtr)),
    (rule(lambda g, o, x: g * (1 / formulas.SQRT_2PI * exp(-0.5 * (x * x)))),),
    same_type("ndtr", "f"),
)
log_ndtr = special(
    "log_ndtr",
    formulas.log_ndtr,
    lambda g, o, x: g * (math.sqrt(2 / math.pi) / on_reals(erfcx)(x * -math.sqrt(0.5))),
)
ndtri = special("ndtri", formulas.ndtri, lambda g, o, p: g * (formulas.SQRT_2PI * exp(0.5 * (o * o))))

# ------------------------------------------------------------------------------------------------ gamma functions


def _polygamma_slope(g: Real, o: Real, x: Real, order: int) -> Real:
    return g * Real(polygamma(x.node, order=order + 1))


polygamma: Op = special("polygamma", formulas.polygamma, _polygamma_slope)
digamma = special("digamma", formulas.digamma, lambda g, o, x: g * Real(polygamma(x.node, order=1)))
psi = on_reals(digamma)
gammaln = special("gammaln", formulas.gammaln, lambda g, o, x: g * psi(x))
gamma = special("gamma", formulas.gamma, lambda g, o, x: g * (o * psi(x)))


def _rgamma_slope(g: Real, o: Real, x: Real) -> Real:
    """-ψ(x) / Γ(x); to the left of 1/2 by reflection, which is smooth at the poles of Γ and ψ."""
    left = x < 0.5
    right, mirrored = where(left, 1, x), where(left, 1 - x, 1)
    angle = math.pi * where(left, x, 0)
    smooth = on_reals(gamma)(mirrored) * (a_cos(angle) - a_sin(angle) / math.pi * psi(mirrored))
    return g * where(left, smooth, -(psi(right) * on_reals(rgamma)(right)))


a_sin, a_cos = on_reals(a.sin), on_reals(a.cos)
rgamma: Op = special("rgamma", formulas.rgamma, _rgamma_slope)
gammasgn = special("gammasgn", formulas.gammasgn, None, wide=False)
_expand_zeta = expansion(formulas.zeta)


def _zeta_by_place(g: Node, o: Node, s: Node, q: Node) -> Node:
    return a.mul(g, a.neg(a.mul(s, zeta(a.add(s, a.like(s, 1.0)), q))))


zeta: Op = elementwise(
    "zeta", None, evaluation(_expand_zeta), (slope(_expand_zeta, 0), _zeta_by_place), float_type("zeta"),
    expand=_expand_zeta,
)  # fmt: skip

betaln: Op = special(
    "betaln",
    formulas.betaln,
    lambda g, o, p, q: g * (psi(p) - psi(p + q)),
    lambda g, o, p, q: g * (psi(q) - psi(p + q)),
)
beta: Op = special(
    "beta",
    formulas.beta,
    lambda g, o, p, q: g * (o * (psi(p) - psi(p + q))),
    lambda g, o, p, q: g * (o * (psi(q) - psi(p + q))),
)

# ------------------------------------------------------------------------------------------------ incomplete integrals


def _log_at(x: Real) -> Real:
    """log x, 0 at 0: what it multiplies is 0 there."""
    return log(where(x.equals(0), 1, x))


def _over(x: Real, y: Real) -> Real:
    """x / y, 0 where both are 0."""
    nothing = both(x.equals(0), y.equals(0))
    return where(nothing, 0, x / where(nothing, 1, y))


gamma_pdf: Op = special(
    "gamma_pdf",
    formulas.gamma_pdf,
    lambda g, o, p, x: g * (o * (_log_at(x) - psi(p))),
    lambda g, o, p, x: g * (o * (_over(p - 1, x) - 1)),
)


def _gamma_by_shape(g: Real, o: Real, p: Real, x: Real, order: int) -> Real:
    moment = on_reals(gammainc_moment)
    return g * (moment(p, x, order=order + 1) + (_log_at(x) - psi(p)) * moment(p, x, order=order))


def _gamma_by_place(g: Real, o: Real, p: Real, x: Real, order: int) -> Real:
    if order == 0:
        return g * on_reals(gamma_pdf)(p, x)
    return g * (float(-order) * _over(on_reals(gammainc_moment)(p, x, order=order - 1), x))


#: The moments of log(t / x), by which gammainc is differentiated: see formulas.gamma_moment.
gammainc_moment: Op = special("gammainc_moment", formulas.gammainc_moment, _gamma_by_shape, _gamma_by_place)
gammainc = special(
    "gammainc",
    formulas.gammainc,
    lambda g, o, p, x: _gamma_by_shape(g, o, p, x, 0),
    lambda g, o, p, x: _gamma_by_place(g, o, p, x, 0),
)
gammaincc = special(
    "gammaincc",
    formulas.gammaincc,
    lambda g, o, p, x: -_gamma_by_shape(g, o, p, x, 0),
    lambda g, o, p, x: -_gamma_by_place(g, o, p, x, 0),
)

beta_pdf: Op = special(
    "beta_pdf",
    formulas.beta_pdf,
    lambda g, o, p, q, x: g * (o * (_log_at(x) - psi(p) + psi(p + q))),
    lambda g, o, p, q, x: g * (o * (_log_at(1 - x) - psi(q) + psi(p + q))),
    lambda g, o, p, q, x: g * (o * (_over(p - 1, x) - _over(q - 1, 1 - x))),
)


def _beta_by_first(g: Real, o: Real, p: Real, q: Real, x: Real, first: int, second: int) -> Real:
    moment = on_reals(betainc_moment)
    at = _log_at(x) - psi(p) + psi(p + q)
    return g * (moment(p, q, x, first=first + 1, second=second) + at * moment(p, q, x, first=first, second=second))


def _beta_by_second(g: Real, o: Real, p: Real, q: Real, x: Real, first: int, second: int) -> Real:
    moment = on_reals(betainc_moment)
    at = _log_at(1 - x) - psi(q) + psi(p + q)
    return g * (moment(p, q, x, first=first, second=second + 1) + at * moment(p, q, x, first=first, second=second))


def _beta_by_place(g: Real, o: Real, p: Real, q: Real, x: Real, first: int, second: int) -> Real:
    if first == second == 0:
        return g * on_reals(beta_pdf)(p, q, x)
    moment = on_reals(betainc_moment)
    result: Real | None = None
    if first:
        result = float(-first) * _over(moment(p, q, x, first=first - 1, second=second), x)
    if second:
        term = float(second) * _over(moment(p, q, x, first=first, second=second - 1), 1 - x)
        result = term if result is None else result + term
    assert result is not None
    return g * result


#: The moments of log(t / x) and log((1 - t) / (1 - x)), by which betainc is differentiated.
betainc_moment: Op = special("betainc_moment", formulas.betainc_moment, _beta_by_first, _beta_by_second, _beta_by_place)
betainc = special(
    "betainc",
    formulas.betainc,
    lambda g, o, p, q, x: _beta_by_first(g, o, p, q, x, 0, 0),
    lambda g, o, p, q, x: _beta_by_second(g, o, p, q, x, 0, 0),
    lambda g, o, p, q, x: _beta_by_place(g, o, p, q, x, 0, 0),
)

# ------------------------------------------------------------------------------------------------ Bessel functions


def _ratio_at_zero(y: Real, x: Real) -> Real:
    """y / x for an odd y with slope 1/2 at 0."""
    zero = x.equals(0)
    return where(zero, 0.5, y / where(zero, 1, x))


def _sign(x: Real) -> Real:
    return on_reals(a.sign)(x)


i0: Op = special("i0", formulas.i0, lambda g, o, x: g * on_reals(i1)(x))
i1: Op = special("i1", formulas.i1, lambda g, o, x: g * (on_reals(i0)(x) - _ratio_at_zero(o, x)))
i0e: Op = special("i0e", formulas.i0e, lambda g, o, x: g * (on_reals(i1e)(x) - _sign(x) * o))
i1e: Op = special("i1e", formulas.i1e, lambda g, o, x: g * (on_reals(i0e)(x) - _ratio_at_zero(o, x) - _sign(x) * o))
j0: Op = special("j0", formulas.j0, lambda g, o, x: -(g * on_reals(j1)(x)))
j1: Op = special("j1", formulas.j1, lambda g, o, x: g * (on_reals(j0)(x) - _ratio_at_zero(o, x)))
k0: Op = special("k0", formulas.k0, lambda g, o, x: -(g * on_reals(k1)(x)))
k1: Op = special("k1", formulas.k1, lambda g, o, x: -(g * (on_reals(k0)(x) + o / x)))
k0e: Op = special("k0e", formulas.k0e, lambda g, o, x: g * (o - on_reals(k1e)(x)))
k1e: Op = special("k1e", formulas.k1e, lambda g, o, x: g * (o - on_reals(k0e)(x) - o / x))

# ------------------------------------------------------------------------------------------------ elementary

logit = special("logit", formulas.logit, lambda g, o, p: g / (p * (1 - p)), wide=False)
log1pmx = special("log1pmx", formulas.log1pmx, lambda g, o, x: -(g * (x / (1 + x))))
log1p_ratio = special("log1p_ratio", formulas.log1p_ratio)


def _exprel_slope(g: Real, o: Real, x: Real, order: int) -> Real:
    return g * Real(exprel(x.node, order=order + 1))


#: The order-th derivative of (e^x - 1) / x.
exprel: Op = special("exprel", formulas.exprel, _exprel_slope)


def _log_expit(x: Real) -> Real:
    return where(x > 0, 0, x) - log1p(exp(-abs(x)))


log_expit = special(
    "log_expit",
    _log_expit,
    lambda g, o, x: g * on_reals(a.sigmoid)(-x),
    wide=False,
)
cosm1 = special(
    "cosm1", lambda x: -2 * a_sin(0.5 * x) ** 2, lambda g, o, x: -(g * a_sin(x)), wide=False
)  # fmt: skip


def _times_log(logarithm: Callable[[Real], Real]) -> Callable[[Real, Real], Real]:
    """x · logarithm(y), 0 where x is 0 and y is a number."""

    def formula(x: Real, y: Real) -> Real:
        zero = both(x.equals(0), y.equals(y))
        return where(zero, 0, x * logarithm(where(zero, 1, y)))

    return formula


#: By x the derivative is log y where x is 0 as well, and -inf where both are.
xlogy = special("xlogy", _times_log(log), lambda g, o, x, y: g * log(y), lambda g, o, x, y: g * _over(x, y), wide=False)
xlog1py = special(
    "xlog1py", _times_log(log1p), lambda g, o, x, y: g * log1p(y), lambda g, o, x, y: g * _over(x, 1 + y), wide=False
)


def _entr(x: Real) -> Real:
    inside = x > 0
    return where(inside, -(x * log(where(inside, x, 1))), where(x.equals(0), 0, where(x < 0, -np.inf, x)))


entr = special("entr", _entr, lambda g, o, x: -(g * (log(x) + 1)), wide=False)


def _log_ratio(x: Real, y: Real) -> Real:
    """log(x / y) of positive numbers: relative to their distance, and where the quotient overflows."""
    quotient, distance = x / y, (x - y) / y
    close = both(quotient > 0.5, quotient < 2)
    plain = both(quotient > 0, quotient < np.inf)
    apart = where(plain, log(where(plain, quotient, 1)), log(x) - log(y))
    return where(close, log1p(where(close, distance, 0)), apart)


def _relative(inner: Callable[[Real, Real], Real], at_zero: Callable[[Real], Real]) -> Callable[[Real, Real], Real]:
    def formula(x: Real, y: Real) -> Real:
        inside = both(x > 0, y > 0)
        value = inner(where(inside, x, 1), where(inside, y, 1))
        edge = both(x.equals(0), y >= 0)
        missing = either(a.isnan(x.node), a.isnan(y.node))
        return where(inside, value, where(missing, np.nan, where(edge, at_zero(y), np.inf)))

    return formula


def _divergence(x: Real, y: Real) -> Real:
    u = (x - y) / y
    close = both(u > -0.5, u < 1)
    near = x * formulas.log1pmx(where(close, u, 0)) + u * (x - y)
    return where(close, near, x * _log_ratio(x, y) - x + y)


rel_entr = special(
    "rel_entr",
    _relative(lambda x, y: x * _log_ratio(x, y), lambda y: y * 0),
    lambda g, o, x, y: g * (_log_ratio(x, y) + 1),
    lambda g, o, x, y: -(g * (x / y)),
)
kl_div = special(
    "kl_div",
    _relative(_divergence, lambda y: y),
    lambda g, o, x, y: g * _log_ratio(x, y),
    lambda g, o, x, y: g * ((y - x) / y),
)

# ------------------------------------------------------------------------------------------------ Box-Cox


def _box_cox(logarithm: Callable[[Real], Real]) -> Callable[[Real, Real], Real]:
    def formula(x: Real, power_: Real) -> Real:
        plain = abs(power_) < 1e-19
        safe = where(plain, 1, power_)
        return where(plain, logarithm(x), expm1(safe * logarithm(x)) / safe)

    return formula


def _by_power(logarithm: Callable[[Real], Real]) -> Rule:
    def partial(g: Real, o: Real, x: Real, power_: Real) -> Real:
        size = logarithm(x)
        return g * (size * size * Real(exprel((power_ * size).node, order=1)))

    return partial


boxcox = special("boxcox", _box_cox(log), lambda g, o, x, p: g * power(x, p - 1), _by_power(log))
boxcox1p = special("boxcox1p", _box_cox(log1p), lambda g, o, x, p: g * exp((p - 1) * log1p(x)), _by_power(log1p))


def on_nodes(formula: Callable[..., Real]) -> Callable[..., Node]:
    """A composition written over :class:`Real`, on nodes."""

    def function(*nodes: Node, **attrs: Any) -> Node:
        return formula(*map(Real, nodes), **attrs).node

    return function


@on_nodes
def inv_boxcox(y: Real, p: Real) -> Real:
    return exp(y * on_reals(log1p_ratio)(p * y))


@on_nodes
def inv_boxcox1p(y: Real, p: Real) -> Real:
    return expm1(y * on_reals(log1p_ratio)(p * y))


# ------------------------------------------------------------------------------------------------ losses


@on_nodes
def huber(delta: Real, r: Real) -> Real:
    size = abs(r)
    return where(delta < 0, np.inf, where(size <= delta, 0.5 * (r * r), delta * (size - 0.5 * delta)))


@on_nodes
def pseudo_huber(delta: Real, r: Real) -> Real:
    """δ² (√(1 + (r/δ)²) - 1) without its cancellation; 0 for δ = 0."""
    zero = delta.equals(0)
    v = r / where(zero, 1, delta)
    return where(delta < 0, np.inf, where(zero, 0, r * r / (1 + sqrt(1 + v * v))))


# ------------------------------------------------------------------------------------------------ distributions


@on_nodes
def betaincc(p: Real, q: Real, x: Real) -> Real:
    return on_reals(betainc)(q, p, 1 - x)


@on_nodes
def chdtr(v: Real, x: Real) -> Real:
    return on_reals(gammainc)(0.5 * v, 0.5 * x)


@on_nodes
def chdtrc(v: Real, x: Real) -> Real:
    return on_reals(gammaincc)(0.5 * v, 0.5 * x)


@on_nodes
def gdtr(p: Real, b: Real, x: Real) -> Real:
    return on_reals(gammainc)(b, p * x)


@on_nodes
def gdtrc(p: Real, b: Real, x: Real) -> Real:
    return on_reals(gammaincc)(b, p * x)


@on_nodes
def pdtr(k: Real, m: Real) -> Real:
    return on_reals(gammaincc)(on_reals(a.floor)(k) + 1, m)


@on_nodes
def pdtrc(k: Real, m: Real) -> Real:
    return on_reals(gammainc)(on_reals(a.floor)(k) + 1, m)


@on_nodes
def fdtr(dfn: Real, dfd: Real, x: Real) -> Real:
    value = on_reals(betainc)(0.5 * dfn, 0.5 * dfd, dfn * x / (dfd + dfn * x))
    return where(both(dfn > 0, dfd > 0, x >= 0), value, np.nan)


@on_nodes
def fdtrc(dfn: Real, dfd: Real, x: Real) -> Real:
    value = on_reals(betainc)(0.5 * dfd, 0.5 * dfn, dfd / (dfd + dfn * x))
    return where(both(dfn > 0, dfd > 0, x >= 0), value, np.nan)


@on_nodes
def stdtr(df: Real, t: Real) -> Real:
    """Student's distribution function; by t² / (df + t²) near 0, where df / (df + t²) is rounded to 1."""
    square = t * t
    close = square < df
    half = Real(a.like(t.node, 0.5))
    middle = 0.5 * on_reals(betainc)(half, 0.5 * df, where(close, square / (df + square), 0.5))
    tail = 0.5 * on_reals(betainc)(0.5 * df, half, where(close, 0.5, df / (df + square)))
    low = where(close, 0.5 - middle, tail)
    return where(df > 0, where(t < 0, low, 1 - low), np.nan)


@on_nodes
def poch(x: Real, m: Real) -> Real:
    """Γ(x + m) / Γ(x)."""
    plain = both(abs(x) < 170, abs(x + m) < 170)
    top, bottom = where(plain, x + m, 1), where(plain, x, 1)
    signs = on_reals(gammasgn)
    apart = exp(on_reals(gammaln)(x + m) - on_reals(gammaln)(x)) * signs(x + m) * signs(x)
    return where(m.equals(0), 1, where(plain, on_reals(gamma)(top) * on_reals(rgamma)(bottom), apart))
