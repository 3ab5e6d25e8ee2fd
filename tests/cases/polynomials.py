"""Polynomials by their coefficients."""

from __future__ import annotations

import numpy as np

from cases import case, floats, integers, positive


def half(function):
    """What NumPy gives, but f16 with integers stays f16, as in JAX."""

    def expected(x, *rest):
        found = function(x, *rest)
        return found.astype(x.dtype) if x.dtype == np.float16 else found

    return expected


def divided(u, v):
    """The remainder keeps its leading zeros."""
    quotient, rest = np.polydiv(u, v)
    return quotient, np.concatenate([np.zeros(len(v), rest.dtype), rest])[1 - len(v) :] if len(u) >= len(v) else rest


CASES = [
    case("np.vander", lambda x: np.vander(x), floats(4), expect=half(np.vander)),
    case("np.vander", lambda x: np.vander(x, 3, True), np.array([0.0, 1.5, -0.5]), expect=half(lambda x: np.vander(x, 3, True))),
    case("np.vander", lambda x: np.vander(x, N=1), floats(3), expect=half(lambda x: np.vander(x, 1))),
    case("np.vander", lambda x: np.vander(x, 0), floats(3), expect=half(lambda x: np.vander(x, 0))),
    case("np.vander", lambda n: np.vander(n, 4), integers(3).astype(np.int8)),
    case("np.poly", lambda z: np.poly(z), floats(4), kinds="biu", rtol=1e-11),
    case("np.poly", lambda z: np.poly(z), floats(3), kinds="f", rtol=1e-11),
    case("np.polyval", lambda p, x: np.polyval(p, x), floats(4), floats(3, 2, seed=1)),
    case("np.polyval", lambda x: np.polyval([1, -2, 0.5], x), floats(5), kinds="f"),
    case("np.polyval", lambda x: np.polyval([1, -2, 3], x), floats(5), kinds="i"),
    case("np.polyval", lambda p: np.polyval(p, 0.0), floats(3), kinds="f"),
    case("np.polyval", lambda x: np.polyval(np.poly1d([1.0, 0.0, 2.0]), x), floats(3), kinds="f"),
    case("np.polyval", lambda p, x: np.polyval(p, x), floats(0), floats(3)),
    case("np.polyadd", lambda a, b: np.polyadd(a, b), floats(4), floats(2, seed=1)),
    case("np.polyadd", lambda a: np.polyadd(a, 3.0), floats(3), kinds="f"),
    case("np.polysub", lambda a, b: np.polysub(a, b), floats(2), floats(4, seed=1)),
    case("np.polysub", lambda a, b: np.polysub(a, b), floats(3), floats(3, seed=1)),
    case("np.polymul", lambda a, b: np.polymul(a, b), floats(4), positive(3), kinds="f"),
    case("np.polymul", lambda a: np.polymul(a, [2, 1]), positive(3), kinds="f", expect=half(lambda a: np.polymul(a, [2, 1]))),
    case("np.polydiv", lambda u, v: np.polydiv(u, v), floats(6), positive(3), kinds="f", rtol=1e-10, expect=divided),
    case("np.polydiv", lambda u, v: np.polydiv(u, v), floats(2), positive(3), kinds="f"),
    case("np.polyder", lambda p: np.polyder(p), floats(5), expect=half(np.polyder)),
    case("np.polyder", lambda p: np.polyder(p, 2), floats(5), expect=half(lambda p: np.polyder(p, 2))),
    case("np.polyder", lambda p: np.polyder(p, m=0), floats(5)),
    case("np.polyint", lambda p: np.polyint(p), floats(4)),
    case("np.polyint", lambda p, k: np.polyint(p, m=2, k=k), floats(4), floats(2, seed=1)),
    case("np.polyint", lambda p: np.polyint(p, 3, k=1.5), floats(2)),
    case("np.polyfit", lambda x, y: np.polyfit(x, y, 2), floats(6), floats(6, seed=1), kinds="f", rtol=1e-9),
    case("np.polyfit", lambda x, y: np.polyfit(x, y, 1), floats(5), floats(5, 2, seed=1), kinds="f", rtol=1e-9),
    case("np.polyfit", lambda x, y, w: np.polyfit(x, y, 2, w=w), floats(6), floats(6, seed=1), positive(6), kinds="f", rtol=1e-9),
    case("np.polyfit", lambda x, y: np.polyfit(x, y, 1, cov=True), floats(6), floats(6, seed=1), kinds="f", rtol=1e-9),
    case("np.polyfit", lambda x, y: np.polyfit(x, y, 2, cov="unscaled"), floats(6), floats(6, 2, seed=1), kinds="f", rtol=1e-9),
    case("np.polyfit", lambda x, y: np.polyfit(x, y, 2, full=True)[:4], floats(6), floats(6, seed=1), kinds="f", rtol=1e-9),
    case("np.polyfit", lambda x, y: np.polyfit(x, y, 0), integers(4), integers(4, seed=1), rtol=1e-11),
]  # fmt: skip
