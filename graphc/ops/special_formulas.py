"""The values of the special functions as formulas over f64 nodes; :mod:`graphc.ops.special` makes op records of them.

Every branch of a formula is computed and the right one selected, so a branch may be inf or NaN where it is not taken.
ε is 2^-53. The bounds that the docstrings state are held against mpmath by ``tests/test_special.py``.
"""

from __future__ import annotations

import math

import numpy as np

from graphc.ir import Node
from graphc.ops import arithmetic as a
from graphc.ops import special_tables as tables
from graphc.ops.formula import (
    Real,
    along,
    both,
    cos,
    either,
    exp,
    expm1,
    floor,
    greatest,
    least,
    log,
    log1p,
    polynomial,
    power,
    rational,
    rint,
    sign,
    sin,
    spread,
    sqrt,
    total,
    where,
)

LOG_SQRT_2PI = 0.9189385332046728
LOG_PI = 1.1447298858494002
SQRT_2PI = 2.5066282746310002
SQRT_HALF = math.sqrt(0.5)
SQRT_PI = math.sqrt(math.pi)

# ------------------------------------------------------------------------------------------------ parts


def whole(x: Real) -> tuple[Real, Real, Real]:
    """sin πx, cos πx, and x less the nearest integer."""
    nearest = rint(x)
    rest = x - nearest
    turned = 1 - 2 * (nearest - 2 * floor(nearest * 0.5))
    return turned * sin(math.pi * rest), turned * cos(math.pi * rest), rest


def is_whole(rest: Real) -> Node:
    return rest.equals(0)


def log1pmx(u: Real) -> Real:
    """log(1 + u) - u."""
    near = both(u > -0.5, u < 1)
    v = where(near, u, 0)
    return where(near, v * v * rational(tables.LOG1PMX, v), log1p(u) - u)


def log_minus(ratio: Real, u: Real) -> Real:
    """log(1 + u) - u, where 1 + u is known better as ``ratio``."""
    return where(u < -0.5, log(ratio) - u, log1pmx(u))


def expm1mx(w: Real) -> Real:
    """e^w - 1 - w."""
    near = abs(w) < 0.3
    v = where(near, w, 0)
    series = polynomial([1 / math.factorial(k) for k in range(2, 15)], v)
    return where(near, v * v * series, expm1(w) - w)


def gaussian(x: Real, factor: float) -> Real:
    """e^(factor · x²): x² in two parts, since its rounding would be multiplied by it."""
    x = greatest(least(x, 60.0), -60.0)
    upper = rint(x * 16) * 0.0625
    return exp(factor * (upper * upper)) * exp(factor * ((x - upper) * (x + upper)))


# ------------------------------------------------------------------------------------------------ error functions


def erfcx_positive(x: Real) -> Real:
    t = where(x.equals(np.inf), 1, (x - 3.75) / (x + 3.75))
    return rational(tables.ERFCX, t) / (1 + 2 * x)


def erfcx(x: Real) -> Real:
    """e^(x²) erfc(x): 8ε."""
    upper = erfcx_positive(abs(x))
    return where(x < 0, 2 * gaussian(x, 1.0) - upper, upper)


def ndtr(x: Real) -> Real:
    """The normal distribution function: 10ε, in the lower tail as well."""
    tail = 0.5 * erfcx_positive(abs(x) * SQRT_HALF) * gaussian(x, -0.5)
    return where(x < 0, tail, 1 - tail)


def log_ndtr(x: Real) -> Real:
    """log of ndtr: 10ε."""
    tail = 0.5 * erfcx_positive(abs(x) * SQRT_HALF)
    below = log(tail) - 0.5 * (x * x)
    return where(x < -1, below, log1p(-where(x < 0, 1 - tail * gaussian(x, -0.5), tail * gaussian(x, -0.5))))


def inverse_tail(q: Real) -> Real:
    """erfcinv(q) of q ≤ 0.26."""
    s = sqrt(-log(q))
    far = s > 3.5
    return where(far, s * rational(tables.ERFCINV_FAR, 1 / s), rational(tables.ERFCINV_NEAR, where(far, 3.5, s)))


def inverse_middle(y: Real) -> Real:
    """erfinv(y) of |y| ≤ 0.75."""
    return y * rational(tables.ERFINV, least(y * y, 0.5625))


def erfinv(y: Real) -> Real:
    """50ε; NaN outside [-1, 1]."""
    size = abs(y)
    return where(size <= 0.75, inverse_middle(y), sign(y) * inverse_tail(1 - size))


def erfcinv(q: Real) -> Real:
    """50ε; NaN outside [0, 2]."""
    tail = inverse_tail(least(q, 2 - q))
    middle = both(q >= 0.25, q <= 1.75)
    return where(middle, inverse_middle(1 - q), where(q < 1, tail, -tail))


def ndtri(p: Real) -> Real:
    """The inverse of ndtr: 50ε; NaN outside [0, 1]."""
    return -math.sqrt(2) * erfcinv(2 * p)


# ------------------------------------------------------------------------------------------------ gamma functions


def stirling(x: Real) -> Real:
    """log Γ(x) - (x - 1/2) log x + x - log √2π, for x ≥ 3."""
    inverse = 1 / x
    return inverse * rational(tables.STIRLING, least(inverse * inverse, 1 / 9))


def near_two(y: Real) -> tuple[Real, Real, Node]:
    """u in [-1, 1] with 2 + u = y or, below 1, y + 1; u + 1; whether y < 1."""
    small = y < 1
    inside = where(y > 3, 3, y)
    return where(small, y - 1, inside - 2), where(small, y, inside - 1), small


def gammaln_positive(y: Real) -> Real:
    u, u1, small = near_two(y)
    near = u * u1 * rational(tables.LGAMMA, u) + 0.0  # no -0 at 1 and 2
    logarithm = log(y)
    far = (y - 0.5) * (logarithm - 1) + (stirling(y) + (LOG_SQRT_2PI - 0.5))
    return where(y > 3, far, where(small, near - logarithm, near))


def gammaln(x: Real) -> Real:
    """log |Γ(x)|: 100ε for x > 0, near its zeros 1 and 2 as well; 40ε (1 + |x log |x||) absolute below, where it has zeros."""
    y = abs(x)
    upper = gammaln_positive(y)
    sine, _, _ = whole(x)
    lower = LOG_PI - log(abs(sine)) - log(y) - upper
    return where(x < 0, where(x.equals(-np.inf), -np.inf, lower), upper)


def gamma_parts(y: Real) -> tuple[Real, Real, Real, Real]:
    """Γ(y), 1 / Γ(y), y Γ(y) and 1 / y Γ(y) for y ≥ 0, each without overflow of another."""
    u, _, small = near_two(y)
    near = rational(tables.GAMMA, u)
    bounded = least(y, 200.0)
    root = power(bounded, bounded * 0.5 - 0.25)
    factor = SQRT_2PI * exp(-bounded) * exp(stirling(bounded))
    big, inverse = factor * root * root, 1 / factor / root / root
    large = y > 3
    value = where(large, big, where(small, near / y, near))
    reciprocal = where(large, inverse, where(small, y, 1) / near)
    return value, reciprocal, where(small, near, value * y), where(small, 1 / near, reciprocal / y)


def gamma(x: Real) -> Real:
    """Γ(x): 30ε; NaN at negative integers."""
    y = where(x < 0, -x, x)
    value, _, _, reciprocal = gamma_parts(y)
    sine, _, rest = whole(x)
    below = math.pi / where(is_whole(rest), np.nan, sine) * reciprocal
    return where(x < 0, below, value)


def rgamma(x: Real) -> Real:
    """1 / Γ(x): 30ε; zero at the poles of Γ."""
    y = where(x < 0, -x, x)
    _, reciprocal, times, _ = gamma_parts(y)
    sine, _, rest = whole(x)
    return where(x < 0, where(either(is_whole(rest), x.equals(-np.inf)), 0, sine / math.pi * times), reciprocal)


def gammasgn(x: Real) -> Real:
    """The sign of Γ(x); NaN at negative integers, and of NaN."""
    below = floor(x)
    odd = below - 2 * floor(below * 0.5)
    signs = where(either(below.equals(x), x.equals(-np.inf)), np.nan, 1 - 2 * odd)
    at_zero = where(1 / x < 0, x - 1, x + 1)
    return where(x < 0, signs, where(x.equals(0), at_zero, where(x > 0, 1, x)))


DIGAMMA_ROOT = (1.4616321449683622, 9.549995429965697e-17)


def digamma_positive(y: Real) -> Real:
    u, _, small = near_two(y)
    high, low = DIGAMMA_ROOT
    distance = where(small, y - (high - 1), least(y, 3.0) - high) - low
    near = distance * rational(tables.DIGAMMA, u)
    inverse = 1 / y
    square = inverse * inverse
    far = log(y) - (0.5 * inverse + square * rational(tables.DIGAMMA_TAIL, least(square, 1 / 9)))
    return where(y > 3, far, where(small, near - inverse, near))


def digamma(x: Real) -> Real:
    """ψ(x): 20ε for x > 0; 20ε (1 + |ψ|) absolute below, where it has zeros. NaN at negative integers."""
    y = where(x < 0, -x, x)
    upper = digamma_positive(y)
    sine, cosine, rest = whole(x)
    below = upper + 1 / y - math.pi * cosine / where(is_whole(rest), np.nan, sine)
    return where(x < 0, below, upper)


#: B₂ⱼ / (2j)! of the Euler-Maclaurin formula.
BERNOULLI = (
    1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600,
    -3617 / 10670622842880000, 43867 / 5109094217170944000, -174611 / 802857662698291200000,
    77683 / 14101100039391805440000, -236364091 / 1693824136731743669452800000,
)  # fmt: skip
TERMS = 10


def polygamma_positive(x: Real, n: int) -> Real:
    """n! ζ(n + 1, x) by the Euler-Maclaurin formula, TERMS terms summed."""
    s = n + 1
    head: Real | None = None
    for k in reversed(range(TERMS)):
        term = (1 / (x + float(k))) ** s
        head = term if head is None else head + term
    assert head is not None
    w = 1 / (x + float(TERMS))
    rising, coefficients = 1.0, []
    for j, b in enumerate(BERNOULLI):
        rising *= s if j == 0 else (s + 2 * j - 1) * (s + 2 * j)
        coefficients.append(b * rising)
    tail = 1 / (s - 1) + w * (0.5 + w * polynomial(coefficients, w * w))
    return math.factorial(n) * (head + w ** (s - 1) * tail)


def cotangent_derivative(n: int) -> list[float]:
    """The coefficients in c = cot u of the n-th derivative of cot u: P₀ = c, Pₖ₊₁ = -(1 + c²) Pₖ'."""
    p = [0, 1]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(p)][1:]
        p = [0] * (len(slope) + 2)
        for k, c in enumerate(slope):
            p[k] -= c
            p[k + 2] -= c
    return [float(c) for c in p]


def polygamma(x: Real, order: int) -> Real:
    """ψ⁽ⁿ⁾(x) for n ≥ 1: 60ε for x > 0; below 0 by reflection, relative to its two terms."""
    negative = x < 0
    size = (-1) ** (order + 1) * polygamma_positive(where(negative, 1 - x, x) + 0.0, order)
    sine, cosine, _ = whole(x)
    reflected = math.pi ** (order + 1) * polynomial(cotangent_derivative(order), cosine / sine)
    return where(negative, (-1) ** order * size - reflected, size)


def hurwitz_positive(s: Real, q: Real) -> Real:
    head: Real | None = None
    for k in reversed(range(TERMS)):
        term = power(q + float(k), -s)
        head = term if head is None else head + term
    assert head is not None
    base = q + float(TERMS)
    w = 1 / base
    square = w * w
    nested = Real(s._of(BERNOULLI[-1]))
    for j in reversed(range(len(BERNOULLI) - 1)):
        nested = (s + float(2 * j + 1)) * (s + float(2 * j + 2)) * square * nested + BERNOULLI[j]
    last = power(base, -s)
    rest = where(last.equals(0), 0, last * (0.5 + s * w * nested))
    return head + (power(base, 1 - s) / (s - 1) + rest)


def zeta(s: Real, q: Real) -> Real:
    """Hurwitz's ζ(s, q) = Σ (q + k)^-s: 60ε for q > 0 and s > 1. As SciPy's: inf at s = 1 and at q = 0, -1, …; NaN for
    s < 1, and for negative q where s is no integer."""
    up = q + greatest(-floor(q), 0.0)  # in (0, 1) where q is negative
    negative = q < 0
    inside = where(up.equals(0), 1, up)
    right = hurwitz_positive(s, where(negative, inside, q) + 0.0)
    ends = hurwitz_positive(s, 1 - where(negative, where(inside.equals(1), 0.5, inside), 0.5))
    ends = ends - hurwitz_positive(s, where(negative, 1 - q, 1))
    odd = s - 2 * floor(s * 0.5)
    left = where(either(odd.equals(0), odd.equals(1)), right + (1 - 2 * odd) * ends, np.nan)
    value = where(negative, left, right)
    value = where(both(q <= 0, floor(q).equals(q)), np.inf, value)
    return where(s < 1, np.nan, where(s.equals(1), np.inf, value))


# ------------------------------------------------------------------------------------------------ beta functions


def betaln_positive(p: Real, q: Real) -> Real:
    """log B of positive arguments: both large, one, or none (the two of log Γ that cancel are never subtracted)."""
    low, high = least(p, q), greatest(p, q)
    both_sum = low + high
    correction = stirling(greatest(high, 3.0)) - stirling(greatest(both_sum, 3.0))
    slow = -(high * log1p(low / high)) - 0.5 * log(high)
    share = LOG_SQRT_2PI + slow + (low - 0.5) * log(low / both_sum) + stirling(greatest(low, 3.0)) + correction
    one = gammaln_positive(low) + low + slow - (low - 0.5) * log(both_sum) + correction
    none = gammaln_positive(low) + gammaln_positive(high) - gammaln_positive(both_sum)
    return where(low > 3, share, where(high > 8, one, none))


def betaln(p: Real, q: Real) -> Real:
    """log |B(p, q)|: 20ε (1 + |betaln|) + 20ε log(1 + p + q) for positive p and q; else the sum of three of log |Γ|."""
    positive = both(p > 0, q > 0)
    inner = betaln_positive(where(positive, p, 1), where(positive, q, 1))
    other = gammaln(p) + gammaln(q) - gammaln(p + q)
    return where(positive, inner, where(either(p.equals(0), q.equals(0)), np.inf, other))


def beta(p: Real, q: Real) -> Real:
    """B(p, q): 20ε (1 + |betaln|) for positive p and q; else the product of three gamma functions."""
    positive = both(p > 0, q > 0)
    inner = exp(betaln_positive(where(positive, p, 1), where(positive, q, 1)))
    other = gamma(p) * (gamma(q) * rgamma(p + q))
    return where(positive, inner, where(either(p.equals(0), q.equals(0)), np.inf, other))


# ------------------------------------------------------------------------------------------------ incomplete integrals

_STEP = 1 / 16
_U = np.arange(-59, 73) * _STEP
#: Double exponential quadrature of [0, ∞) (Takahasi and Mori 1974): places in units of the decay length, and weights.
PLACES = np.exp(_U - np.exp(-_U))
WEIGHTS = _STEP * PLACES * (1 + np.exp(-_U))


def decay_length(slope: Real, curvature: Real) -> Real:
    """Where slope · v + curvature · v² / 2 has grown to 1."""
    return 2 / (slope + sqrt(slope * slope + 2 * curvature))


def log_gamma_density(shape: Real, x: Real) -> Real:
    """log(x^a e^-x / Γ(a))."""
    large = shape > 3
    safe = where(large, shape, 4)
    u = (x - safe) / safe
    far = safe * log_minus(x / safe, u) + 0.5 * log(safe) - LOG_SQRT_2PI - stirling(safe)
    return where(large, far, shape * log(x) - x - gammaln_positive(where(large, 1, shape)))


def gamma_moment(shape: Real, x: Real, order: int) -> Real:
    """∫ tᵃ⁻¹ e⁻ᵗ (log t/x)ᵏ dt / Γ(a) over [0, x] where x ≤ a, minus that over [x, ∞) above."""
    upper = x > shape
    side = where(upper, 1, Real(shape._of(-1)))
    distance = abs(x - shape)
    length = where(both(x <= shape, shape < 1), 1 / shape, decay_length(distance, x))
    t, weights = along(length, PLACES)[1], along(length, WEIGHTS)[1]
    count = len(PLACES)
    v = spread(length, count) * t
    signed = spread(side, count) * v
    terms = exp(-(spread(distance, count) * v) - spread(x, count) * expm1mx(signed)) * weights
    if order:
        terms = terms * signed**order
    integral = -(side * length) * total(terms)
    return exp(log_gamma_density(shape, x)) * integral


def gamma_series(shape: Real, x: Real, order: int, first: int = 0) -> Real:
    """Σ (-x)ⁿ / n! · (-1)ᵏ k! / (a + n)ᵏ⁺¹: the integral over [0, x] of small x, without xᵃ / Γ(a)."""
    result: Real | None = None
    for n in reversed(range(first, 20)):
        factor = (-1) ** (n + order) * math.factorial(order) / math.factorial(n)
        term = factor / (shape + float(n)) ** (order + 1)
        result = term if result is None else term + result * x
    assert result is not None
    return result * x if first else result


def gammaln1p(x: Real) -> Real:
    """log Γ(1 + x), x ≥ 0, relative to x near 0."""
    u, u1, small = near_two(x)
    return where(small, u * u1 * rational(tables.LGAMMA, u), gammaln_positive(1 + x))


def gammainc_parts(shape: Real, x: Real) -> tuple[Real, Real]:
    """P and Q = 1 - P for a > 0 and finite x > 0."""
    tiny = x < 1
    moment = gamma_moment(where(tiny, 2, shape), where(tiny, 2, x), 0)
    upper = x > shape
    p_far, q_far = where(upper, 1 + moment, moment), where(upper, -moment, 1 - moment)
    near = where(tiny, x, 0.5)
    logarithm = shape * log(near) - gammaln1p(shape)
    p_near = shape * exp(logarithm) * gamma_series(shape, near, 0)
    q_near = -expm1(logarithm) - shape * exp(logarithm) * gamma_series(shape, near, 0, first=1)
    return where(tiny, p_near, p_far), where(tiny, q_near, q_far)


def incomplete(shape: Real, x: Real, which: int) -> Real:
    """P (0) or Q (1), with their values at the ends of the domain; NaN outside."""
    inside = both(shape > 0, x > 0, shape < np.inf, x < np.inf)
    value = gammainc_parts(where(inside, shape, 1), where(inside, x, 1))[which]
    low, high = (0, 1) if which == 0 else (1, 0)
    at_zero = either(x.equals(0), shape.equals(np.inf))
    ends = where(both(shape.equals(0), x > 0), high, where(at_zero, low, where(x.equals(np.inf), high, x + shape)))
    missing = either(a.isnan(shape.node), a.isnan(x.node))
    ambiguous = either(both(shape.equals(0), x.equals(0)), both(shape.equals(np.inf), x.equals(np.inf)))
    undefined = either(missing, ambiguous, shape < 0, x < 0)
    return where(inside, value, where(undefined, np.nan, ends))


def gammainc(shape: Real, x: Real) -> Real:
    """The regularised lower incomplete gamma function: 1e-13, in its tail too, where it is above e^-300."""
    return incomplete(shape, x, 0)


def gammaincc(shape: Real, x: Real) -> Real:
    """The regularised upper incomplete gamma function: 1e-13, in its tail too, where it is above e^-300."""
    return incomplete(shape, x, 1)


def gamma_pdf(shape: Real, x: Real) -> Real:
    """xᵃ⁻¹ e⁻ˣ / Γ(a); at 0 its limit."""
    inside = x > 0
    value = exp(log_gamma_density(shape, where(inside, x, 1))) / where(inside, x, 1)
    at_zero = where(shape < 1, np.inf, where(shape.equals(1), 1, Real(shape._of(0))))
    return where(inside, value, where(x.equals(0), at_zero, x * 0))


def gammainc_moment(shape: Real, x: Real, order: int) -> Real:
    """The order-th moment of log(t / x) in gammainc: see :func:`gamma_moment`. 0 at x = 0."""
    inside = x > 0
    tiny = both(inside, x < 1)
    far = gamma_moment(where(tiny, 2, shape), where(both(inside, x >= 1), x, 2), order)
    near = where(tiny, x, 0.5)
    series = shape * exp(shape * log(near) - gammaln1p(shape)) * gamma_series(shape, near, order)
    return where(tiny, series, where(inside, far, 0))


def log_beta_density(p: Real, q: Real, y: Real, c: Real) -> Real:
    """log(yᵖ cᵠ / B(p, q)) with c = 1 - y."""
    large = both(p > 3, q > 3)
    p1, q1 = where(large, p, 4), where(large, q, 4)
    n = p1 + q1
    d = y * q1 - c * p1
    far = p1 * log_minus(y * n / p1, d / p1) + q1 * log_minus(c * n / q1, -d / q1)
    far = far + 0.5 * log(p1 / n * q1) - LOG_SQRT_2PI - (stirling(p1) + stirling(q1) - stirling(n))
    near = p * log(y) + q * where(y < 0.5, log1p(-y), log(c))
    return where(large, far, near - betaln_positive(where(large, 1, p), where(large, 1, q)))


def beta_moment(p: Real, q: Real, x: Real, first: int, second: int) -> Real:
    """∫ tᵖ⁻¹ (1-t)ᵠ⁻¹ (log t/x)ʲ (log (1-t)/(1-x))ᵏ dt / B over [0, x] below the mean; minus that over [x, 1] above."""
    upper = x > p / (p + q)
    rise, fall = where(upper, q, p), where(upper, p, q)
    y, c = where(upper, 1 - x, x), where(upper, x, 1 - x)
    odds = y / c
    excess = greatest(fall - 1, 0.0) * odds
    slope = rise - excess
    length = where(rise < 1, 1 / rise, decay_length(slope, excess * (1 + odds)))
    count = len(PLACES)
    v = spread(length, count) * along(length, PLACES)[1]
    gain = log1p(-(spread(odds, count) * expm1(-v)))
    terms = exp(spread(fall - 1, count) * gain - spread(rise, count) * v) * along(length, WEIGHTS)[1]
    if first or second:
        flag = spread(Real(upper), count).node
        near, far = -v, gain
        if first:
            terms = terms * where(flag, far, near) ** first
        if second:
            terms = terms * where(flag, near, far) ** second
    integral = length * total(terms)
    return where(upper, -1, Real(p._of(1))) * integral * exp(log_beta_density(rise, fall, y, c)) / c


def betainc(p: Real, q: Real, x: Real) -> Real:
    """The regularised incomplete beta function: 1e-13, in its tail too, where it is above e^-300."""
    inside = both(p > 0, q > 0, x > 0, x < 1, p < np.inf, q < np.inf)
    p1, q1, x1 = (where(inside, v, 0.5) for v in (p, q, x))
    moment = beta_moment(p1, q1, x1, 0, 0)
    value = where(x1 > p1 / (p1 + q1), 1 + moment, moment)
    finite = both(p < np.inf, q < np.inf, p >= 0, q >= 0, x >= 0, x <= 1)
    open_ = both(finite, either(p > 0, q > 0))
    ends = where(
        either(q.equals(0), p.equals(np.inf)),
        where(x.equals(1), 1, Real(x._of(0))),
        where(either(p.equals(0), q.equals(np.inf)), where(x.equals(0), 0, Real(x._of(1))), x),
    )
    ambiguous = either(both(p.equals(0), q.equals(0)), both(p.equals(np.inf), q.equals(np.inf)))
    outside = either(x < 0, x > 1, p < 0, q < 0, ambiguous)
    known = both(either(open_, p.equals(np.inf), q.equals(np.inf)), a.bit_not(outside))
    return where(inside, value, where(known, ends, np.nan))


def betainc_moment(p: Real, q: Real, x: Real, first: int, second: int) -> Real:
    inside = both(x > 0, x < 1)
    return where(inside, beta_moment(p, q, where(inside, x, 0.5), first, second), 0)


def beta_pdf(p: Real, q: Real, x: Real) -> Real:
    """xᵖ⁻¹ (1-x)ᵠ⁻¹ / B(p, q); at 0 and 1 its limits."""
    inside = both(x > 0, x < 1)
    x1 = where(inside, x, 0.5)
    value = exp(log_beta_density(p, q, x1, 1 - x1)) / (x1 * (1 - x1))
    zero = Real(x._of(0))
    at_zero = where(p < 1, np.inf, where(p.equals(1), q, zero))
    at_one = where(q < 1, np.inf, where(q.equals(1), p, zero))
    return where(inside, value, where(x.equals(0), at_zero, where(x.equals(1), at_one, x * 0)))


# ------------------------------------------------------------------------------------------------ Bessel functions


def scaled_i(x: Real, order: int) -> Real:
    """e^-|x| I(x) of order 0 or 1."""
    size = abs(x)
    near = rational((tables.I0E, tables.I1E)[order], least(size, 8.0))
    far = rational((tables.I0E_TAIL, tables.I1E_TAIL)[order], 16 / greatest(size, 8.0) - 1) / sqrt(size)
    if order == 0:
        return where(size <= 8, near, far)
    return where(size <= 8, near * x, sign(x) * far)


def unscaled(scaled: Real, x: Real) -> Real:
    """``scaled`` times e^|x|, without overflow before the product does."""
    half = exp(0.5 * abs(x))
    return half * (scaled * half)


def i0e(x: Real) -> Real:
    """e^-|x| I₀(x): 8ε."""
    return scaled_i(x, 0)


def i1e(x: Real) -> Real:
    """e^-|x| I₁(x): 8ε."""
    return scaled_i(x, 1)


def i0(x: Real) -> Real:
    """I₀(x): 10ε."""
    return unscaled(scaled_i(x, 0), x)


def i1(x: Real) -> Real:
    """I₁(x): 10ε."""
    return unscaled(scaled_i(x, 1), x)


#: The first two positive roots of J₀ and of J₁, each with what it lacks.
J_ROOTS = (
    ((2.404825557695773, -1.176691651530894e-16), (5.520078110286311, 8.088597146146722e-17)),
    ((3.8317059702075125, -1.5269184090088067e-16), (7.015586669815619, -9.414165653410389e-17)),
)


def bessel_j(x: Real, order: int) -> Real:
    """J(x) of order 0 or 1: 100ε up to the second root, beyond 20ε √(2 / πx) absolute."""
    size = abs(x)
    inside = least(size, 8.0)
    near = rational((tables.J0, tables.J1)[order], inside * inside)
    for high, low in J_ROOTS[order]:
        near = near * ((inside - high) - low) * (inside + high)
    outside = where(size <= 8, 8, size)
    inverse = 1 / outside
    square = inverse * inverse
    p = rational((tables.J0_P, tables.J1_P)[order], square)
    q = rational((tables.J0_Q, tables.J1_Q)[order], square) * inverse
    # cos and sin of x - π/4 and x - 3π/4 from those of x: the difference would be rounded.
    s, c = sin(outside), cos(outside)
    first, second = (c + s, s - c) if order == 0 else (s - c, -(s + c))
    far = (p * first - q * second) * sqrt(inverse) * (1 / SQRT_PI)
    if order == 0:
        return where(size <= 8, near, far)
    return where(size <= 8, near * x, sign(x) * far)


def j0(x: Real) -> Real:
    return bessel_j(x, 0)


def j1(x: Real) -> Real:
    return bessel_j(x, 1)


def scaled_k(x: Real, order: int) -> tuple[Real, Real, Node]:
    """K(x) up to 2, e^x K(x) above, and which it is. Order 0 or 1; inf at 0, NaN below."""
    low = where(x > 2, 2, x)
    logarithm = log(0.5 * low)
    if order == 0:
        near = rational(tables.K0_A, low * low) - logarithm * i0(low)
    else:
        near = rational(tables.K1_A, low * low) / low + logarithm * i1(low)
    inverse = 1 / where(x > 2, x, 2)
    far = rational((tables.K0E_TAIL, tables.K1E_TAIL)[order], inverse) * sqrt(inverse)
    near = where(x.equals(0), np.inf, where(x < 0, np.nan, near))
    return near, far, x > 2


def k_scaled(x: Real, order: int) -> Real:
    near, far, large = scaled_k(x, order)
    return where(large, far, near * exp(x))


def k_plain(x: Real, order: int) -> Real:
    near, far, large = scaled_k(x, order)
    half = exp(-0.5 * x)
    return where(large, half * (far * half), near)


def k0(x: Real) -> Real:
    """K₀(x): 20ε."""
    return k_plain(x, 0)


def k1(x: Real) -> Real:
    """K₁(x): 20ε."""
    return k_plain(x, 1)


def k0e(x: Real) -> Real:
    """e^x K₀(x): 20ε."""
    return k_scaled(x, 0)


def k1e(x: Real) -> Real:
    """e^x K₁(x): 20ε."""
    return k_scaled(x, 1)


# ------------------------------------------------------------------------------------------------ elementary


def logit(p: Real) -> Real:
    """log(p / (1 - p)): 8ε, at its zero 1/2 as well."""
    distance = 2 * p - 1
    near = abs(distance) < 0.4
    return where(near, log1p(where(near, distance / (1 - p), 0)), log(p) - log1p(-p))


def exprel(x: Real, order: int) -> Real:
    """∫ sᵏ e^(sx) ds over [0, 1]: the k-th derivative of (e^x - 1) / x. 30ε for k ≤ 2."""
    near = abs(x) < 1
    small = where(near, x, 0)
    series = polynomial([1 / (math.factorial(j) * (j + order + 1)) for j in range(20)], small)
    large = where(near, 1, x)
    value = expm1(large) / large
    grown = exp(large)
    for k in range(1, order + 1):
        value = (grown - float(k) * value) / large
    return where(near, series, where(x.equals(np.inf), np.inf, where(x.equals(-np.inf), 0, value)))


def log1p_ratio(x: Real) -> Real:
    """log(1 + x) / x, 1 at 0."""
    near = both(x > -0.5, x < 1)
    small = where(near, x, 0)
    return where(near, 1 + small * rational(tables.LOG1PMX, small), log1p(x) / where(near, 1, x))
