"""scipy.special: its ufuncs by name, and the functions of graphc.scipy.special."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special as sp

import graphc.scipy.special as gs
from cases import Case, case, floats, integers, positive
from graphc.tracing import is_tracer

UNIT = dict(low=0.02, high=0.98)


def special(name: str, *args: np.ndarray, **options: object) -> Case:
    return case(f"scipy.special.{name}", getattr(sp, name), *args, **options)


def of_float64(theirs: Callable[..., Any], *args: Any) -> Any:
    """What SciPy gives; other element types, in which it is not consistent, are no case."""
    if any(getattr(a, "dtype", np.dtype(float)).itemsize < 8 for a in args):
        raise TypeError("not in this type")
    return theirs(*args)


def python(name: str, *args: object, **options: object) -> Case:
    """A function that SciPy writes in Python: ours on tracers, SciPy's on arrays of float64."""
    mine, theirs = getattr(gs, name), getattr(sp, name)
    keywords = {k: options.pop(k) for k in list(options) if k in ("axis", "keepdims", "return_sign")}
    return case(
        f"scipy.special.{name}",
        lambda *a: mine(*a, **keywords),
        *args,
        expect=lambda *a: of_float64(lambda *b: (mine if any(map(is_tracer, b)) else theirs)(*b, **keywords), *a),
        **{"kinds": "f", **options},
    )


def polygamma(n: Any, x: np.ndarray) -> Case:
    """Of known order."""
    return case(
        "scipy.special.polygamma",
        lambda v: gs.polygamma(n, v),
        x,
        expect=lambda v: of_float64(lambda u: (gs if is_tracer(u) else sp).polygamma(n, u), v),
        kinds="f",
    )


WHOLE_LINE = ("expit", "log_expit", "erf", "erfc", "erfcx", "ndtr", "log_ndtr", "expm1", "exp2", "exp10", "cosm1", "cbrt",
    "exprel", "i0", "i0e", "i1", "i1e", "j0", "j1", "cosdg", "sindg")  # fmt: skip
POSITIVE = ("gammaln", "gamma", "rgamma", "digamma", "psi", "entr", "log1p", "k0", "k0e", "k1", "k1e")

CASES = [
    *[special(name, floats(3, 4)) for name in WHOLE_LINE],
    *[special(name, positive(3, 4)) for name in POSITIVE],
    *[special(name, floats(2, 3, low=-12, high=12)) for name in ("i0", "i1e", "j0", "j1", "log_ndtr", "erfcx")],
    *[special(name, floats(5, low=-4.9, high=-3.1)) for name in ("gammaln", "gamma", "rgamma", "digamma")],
    *[special(name, floats(4, low=3.1, high=30)) for name in ("gammaln", "digamma", "k0e", "k1e")],
    special("gamma", floats(4, low=3.1, high=9)),
    special("gammasgn", floats(3, 4), grad=0),
    special("logit", floats(3, 4, **UNIT)),
    special("ndtri", floats(3, 4, **UNIT)),
    special("erfinv", floats(3, 4, low=-0.95, high=0.95)),
    special("erfcinv", floats(3, 4, low=0.05, high=1.95)),
    special("beta", positive(3, 4), positive(4, seed=1)),
    special("betaln", positive(3, 4), positive(4, seed=1)),
    special("betaln", floats(4, low=3.2, high=20), floats(4, low=3.2, high=40, seed=1)),
    special("betaln", floats(4, low=0.2, high=2), floats(4, low=8.5, high=40, seed=1)),
    special("gammainc", positive(3, 4), positive(4, seed=1)),
    special("gammainc", floats(5, low=3.1, high=40), floats(5, low=3.1, high=40, seed=1)),
    special("gammaincc", positive(3, 4), positive(4, seed=1)),
    special("gammaincc", floats(5, low=3.1, high=40), floats(5, low=3.1, high=40, seed=1)),
    special("betainc", positive(3), positive(3, seed=1), floats(2, 3, **UNIT)),
    special("betainc", floats(5, low=3.1, high=20), floats(5, low=3.1, high=20, seed=1), floats(5, **UNIT)),
    special("betaincc", positive(3), positive(3, seed=1), floats(3, **UNIT)),
    special("xlogy", floats(3, 4), positive(4)),
    special("xlog1py", floats(3, 4), positive(4)),
    special("rel_entr", positive(3, 4), positive(4, seed=1)),
    special("kl_div", positive(3, 4), positive(4, seed=1)),
    special("huber", positive(4), floats(3, 4)),
    special("pseudo_huber", positive(4), floats(3, 4)),
    special("boxcox", positive(3, 4), floats(4)),
    special("boxcox1p", positive(3, 4), floats(4)),
    special("inv_boxcox", floats(3, 4, low=0, high=0.8), floats(4, low=-0.9)),
    special("inv_boxcox1p", floats(3, 4, low=0, high=0.8), floats(4, low=-0.9)),
    special("chdtr", positive(4), positive(3, 4, seed=1)),
    special("chdtrc", positive(4), positive(3, 4, seed=1)),
    special("gdtr", positive(4), positive(4, seed=1), positive(4, seed=2)),
    special("gdtrc", positive(4), positive(4, seed=1), positive(4, seed=2)),
    case("scipy.special.pdtr", lambda m: sp.pdtr(np.array([0.0, 1.0, 3.0]), m), positive(3), kinds="f"),
    case("scipy.special.pdtrc", lambda m: sp.pdtrc(np.array([0.0, 1.0, 3.0]), m), positive(3), kinds="f"),
    special("fdtr", positive(4), positive(4, seed=1), positive(4, seed=2)),
    special("fdtrc", positive(4), positive(4, seed=1), positive(4, seed=2)),
    special("stdtr", positive(4), floats(4, seed=1)),
    special("poch", positive(4), positive(4, seed=1)),
    case("scipy.special.zeta", sp.zeta, floats(4, low=1.3, high=9)),
    case("scipy.special.zeta", sp.zeta, floats(4, low=1.3, high=9), positive(4)),
    case("scipy.special.zeta", lambda q: sp.zeta(3.0, q), floats(5, low=-4.9, high=-3.1), kinds="f"),
    *[polygamma(n, positive(3, 4)) for n in (0, 1, 2, 5)],
    polygamma(np.array([[0], [1], [3]]), positive(4)),
    polygamma(2, floats(5, low=-3.9, high=-3.1)),
    case("scipy.special.polygamma", gs.polygamma, integers(4, low=0, high=5), positive(4), kinds="f", grad=0,
        expect=lambda n, x: of_float64(sp.polygamma, n, x)),
    case("scipy.special.multigammaln", lambda x: gs.multigammaln(x, 3), floats(3, low=3, high=5), kinds="f",
        expect=lambda x: of_float64(lambda v: (gs if is_tracer(v) else sp).multigammaln(v, 3), x)),
    python("logsumexp", floats(3, 4)),
    python("logsumexp", floats(3, 4), axis=1),
    python("logsumexp", floats(3, 4), axis=(0, -1), keepdims=True),
    case("scipy.special.logsumexp", lambda x, b: gs.logsumexp(x, axis=0, b=b), floats(3, 4), positive(3, 4),
        expect=lambda x, b: of_float64((gs if is_tracer(x) or is_tracer(b) else sp).logsumexp, x, 0, b), kinds="f"),
    case("scipy.special.logsumexp", lambda x, b: gs.logsumexp(x, axis=1, b=b, return_sign=True), floats(3, 4),
        floats(3, 4, seed=3), kinds="f", grad=0,
        expect=lambda x, b: of_float64(lambda *a: tuple(sp.logsumexp(a[0], 1, a[1], return_sign=True)), x, b)),
    python("softmax", floats(3, 4)),
    case("scipy.special.softmax", lambda x: gs.softmax(x, axis=-1) ** 2, floats(3, 4), kinds="f",
        expect=lambda x: of_float64(lambda v: (gs if is_tracer(v) else sp).softmax(v, axis=-1) ** 2, x)),
    python("log_softmax", floats(3, 4), axis=(0, 1)),
    python("log_softmax", floats(3, 4), axis=0),
    python("softplus", floats(3, 4)),
    case("scipy.special.sinc", sp.sinc, floats(3, 4)),
]  # fmt: skip
