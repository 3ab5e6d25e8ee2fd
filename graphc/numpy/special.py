"""scipy.special's ufuncs on traced arrays, matched by name so that SciPy need not be installed.

Every ufunc of scipy.special is either in :data:`NAMED_UFUNCS` or raises by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from graphc import ops
from graphc.ir import Node
from graphc.ops import special
from graphc.tracing import NAMED_UFUNCS, UFUNCS


def degrees(function: Callable[[Node], Node]) -> Callable[[Node], Node]:
    return lambda x: function(ops.mul(x, ops.like(x, math.pi / 180)))


def exp10(x: Node) -> Node:
    return ops.pow_(ops.like(x, 10), x)


def riemann(s: Node) -> Node:
    """ζ(s) for s ≥ 1."""
    return special.zeta(s, ops.like(s, 1))


NAMED_UFUNCS.update(
    {
        name: getattr(special, name)
        for name in (
            "beta", "betainc", "betaincc", "betaln", "boxcox", "boxcox1p", "chdtr", "chdtrc", "cosm1", "digamma", "entr",
            "erfc", "erfcinv", "erfcx", "erfinv", "fdtr", "fdtrc", "gamma", "gammainc", "gammaincc", "gammaln",
            "gammasgn", "gdtr", "gdtrc", "huber", "i0", "i0e", "i1", "i1e", "inv_boxcox", "inv_boxcox1p", "j0", "j1",
            "k0", "k0e", "k1", "k1e", "kl_div", "log_expit", "log_ndtr", "logit", "ndtr", "ndtri", "pdtr", "pdtrc",
            "poch", "pseudo_huber", "rel_entr", "rgamma", "stdtr", "xlog1py", "xlogy",
        )
    }
)  # fmt: skip
NAMED_UFUNCS.update(
    {
        "cbrt": UFUNCS[np.cbrt],
        "erf": ops.erf,
        "exp10": exp10,
        "exp2": UFUNCS[np.exp2],
        "expit": ops.sigmoid,
        "expm1": ops.expm1,
        "exprel": lambda x: special.exprel(x, order=0),
        "log1p": ops.log1p,
        "psi": special.digamma,
        "cosdg": degrees(ops.cos),
        "sindg": degrees(ops.sin),
        "_riemann_zeta": riemann,
        "_zeta": special.zeta,
    }
)  # fmt: skip

__all__ = ["exp10", "riemann"]
