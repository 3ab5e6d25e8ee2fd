"""Every numeric ufunc called: smooth points with derivatives, and the awkward values without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cases import case, floats, integers, mask, positive

UNIT = floats(3, 4, low=-0.9, high=0.9)
WHOLE = integers(3, 4, low=-9, high=9)
COUNTS = integers(3, 4, low=0, high=5, seed=1)
#: Numbers at which functions are special; as small integers and bools too.
EDGES = np.array([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, 8.0, 27.0, 100.0, -100.0, np.inf, -np.inf, np.nan])
NEAR = np.array([0.0, -0.0, 1e-300, 1e-20, -1e-9, 1e-5, 1e5, -1e20, 1e200, 1.7e308])
#: All pairs of some of them.
LEFT, RIGHT = (a.ravel() for a in np.meshgrid(EDGES[[0, 1, 2, 3, 5, 6, 7, 11, 12, 13]], EDGES[[0, 1, 2, 3, 4, 6, 11, 12, 13]]))
INTEGERS = np.array([0, 1, 2, 3, 12, 18, 35, 127, -128, -127, -1, -12], np.int8)
FIRST, SECOND = (a.ravel() for a in np.meshgrid(INTEGERS, INTEGERS))


def named(name: str) -> Callable[..., Any]:
    return getattr(np, name)


def kinds_of(name: str) -> str:
    """NumPy's 1 / 0 of integers is what the machine makes of it."""
    return "f" if name == "reciprocal" else "biuf"


SMOOTH = {
    "absolute": floats(3, 4), "fabs": floats(3, 4), "negative": floats(3, 4), "positive": floats(3, 4),
    "square": floats(3, 4), "sqrt": positive(3, 4), "cbrt": floats(3, 4), "reciprocal": positive(3, 4),
    "exp": floats(3, 4), "exp2": floats(3, 4), "expm1": floats(3, 4), "log": positive(3, 4), "log2": positive(3, 4),
    "log10": positive(3, 4), "log1p": positive(3, 4), "sin": floats(3, 4), "cos": floats(3, 4), "tan": UNIT,
    "arcsin": UNIT, "arccos": UNIT, "arctan": floats(3, 4), "sinh": floats(3, 4), "cosh": floats(3, 4),
    "tanh": floats(3, 4), "arcsinh": floats(3, 4), "arccosh": 1 + positive(3, 4), "arctanh": UNIT,
    "degrees": floats(3, 4), "radians": floats(3, 4), "deg2rad": floats(3, 4), "rad2deg": floats(3, 4),
    "conjugate": floats(3, 4), "modf": floats(3, 4, low=-3, high=3), "frexp": positive(3, 4),
}  # fmt: skip
FLAT = (
    "sign", "floor", "ceil", "trunc", "rint", "isnan", "isinf", "isfinite", "signbit", "logical_not", "spacing",
)  # fmt: skip
PAIRS = {
    "add": (floats(3, 4), floats(4, seed=1)), "subtract": (floats(3, 4), floats(4, seed=1)),
    "multiply": (floats(3, 4), floats(4, seed=1)), "divide": (floats(3, 4), positive(4, seed=1)),
    "true_divide": (floats(3, 1), positive(4, seed=1)), "power": (positive(3, 4), floats(4, seed=1)),
    "float_power": (positive(3, 4), floats(4, seed=1)), "arctan2": (floats(3, 4), floats(4, seed=1)),
    "hypot": (floats(3, 4), floats(4, seed=1)), "logaddexp": (floats(3, 4), floats(4, seed=1)),
    "logaddexp2": (floats(3, 4), floats(4, seed=1)), "maximum": (floats(3, 4), floats(4, seed=1)),
    "minimum": (floats(3, 4), floats(4, seed=1)), "fmax": (floats(3, 4), floats(4, seed=1)),
    "fmin": (floats(3, 4), floats(4, seed=1)), "remainder": (floats(3, 4), positive(4, seed=1)),
    "mod": (floats(3, 4), positive(4, seed=1)), "fmod": (floats(3, 4), positive(4, seed=1)),
    "copysign": (floats(3, 4), floats(4, seed=1)), "heaviside": (floats(3, 4), floats(4, seed=1)),
}  # fmt: skip
FLAT_PAIRS = (
    "floor_divide", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and", "logical_or",
    "logical_xor", "nextafter",
)  # fmt: skip
BITS = ("bitwise_and", "bitwise_or", "bitwise_xor", "gcd", "lcm")
#: The tolerance at the edges: f64 functions of the CPU are within 2 ulp.
EXACT = ("sign", "floor", "ceil", "trunc", "rint", "copysign", "heaviside", "fmax", "fmin", "maximum", "minimum")


CASES = [
    *[case(f"np.{name}", named(name), x, kinds=kinds_of(name)) for name, x in SMOOTH.items()],
    *[case(f"np.{name}", named(name), EDGES, grad=0, rtol=2e-15, kinds=kinds_of(name)) for name in [*SMOOTH, *FLAT]],
    *[case(f"np.{name}", named(name), NEAR, grad=0, rtol=2e-15, kinds="f") for name in SMOOTH],
    *[case(f"np.{name}", named(name), *xs) for name, xs in PAIRS.items()],
    *[
        case(f"np.{name}", named(name), LEFT, RIGHT, grad=0, rtol=1e-14, kinds="f" if "divide" in name else "biuf")
        for name in [*PAIRS, *FLAT_PAIRS]
        if name not in ("power", "float_power")
    ],
    case("np.power", np.power, LEFT, RIGHT, grad=0, kinds="f"),
    case("np.float_power", np.float_power, LEFT, RIGHT, grad=0, kinds="f"),
    case("np.divmod", np.divmod, floats(3, 4), positive(4, seed=1)),
    case("np.divmod", np.divmod, LEFT, RIGHT, grad=0),
    # ------------------------------------------------------------------------------------------ integers and bits
    *[case(f"np.{name}", named(name), FIRST, SECOND, grad=0) for name in [*BITS, "fmod", "floor_divide", "remainder"]],
    *[case(f"np.{name}", named(name), FIRST.astype(np.int64), SECOND.astype(np.int64), grad=0) for name in BITS],
    *[case(f"np.{name}", named(name), FIRST.view(np.uint8), SECOND.view(np.uint8), grad=0) for name in BITS],
    case("np.gcd", lambda x: np.gcd(x, 12), np.arange(20, dtype=np.uint32), grad=0),
    case("np.gcd", np.gcd, np.array([2**63 - 1, -(2**63), 2971215073]), np.array([3, -(2**63), 1836311903]), grad=0),
    *[
        case("np.bitwise_count", np.bitwise_count, np.array([0, 1, 127, 85, info.max, info.min, info.max // 3], t), grad=0)
        for t in (np.int8, np.uint8, np.int32, np.uint64, np.int64)
        for info in (np.iinfo(t),)
    ],
    case("np.invert", np.invert, INTEGERS, grad=0),
    case("np.invert", np.invert, mask(4), grad=0),
    case("np.left_shift", np.left_shift, WHOLE, COUNTS, grad=0),
    case("np.left_shift", lambda x: x << np.array([0, 1, 7, 8, 9, 100], np.int8)[:, None], INTEGERS, grad=0),
    case("np.right_shift", np.right_shift, WHOLE, COUNTS, grad=0),
    case("np.right_shift", lambda x: x >> np.array([0, 1, 7, 8, 9, 100], np.int8)[:, None], INTEGERS, grad=0),
    case("np.bitwise_and", np.bitwise_and, mask(3, 4), mask(4, seed=1), grad=0),
    # powers of integers: the exponent traced, constant, an array
    case("np.power", np.power, WHOLE, COUNTS, grad=0),
    case("np.power", np.power, FIRST.view(np.uint8), SECOND.view(np.uint8), grad=0),
    case("np.power", lambda x: x ** np.array([0, 1, 2, 3, 7, 100]), np.arange(-3, 3), grad=0),
    case("np.power", lambda x, n: x**n, mask(4), mask(4, seed=1), grad=0),
    case("np.power", lambda x: 2**x, COUNTS, grad=0),
    case("np.power", lambda x: x**3, floats(4)),
    # ------------------------------------------------------------------------------------------ parts of floats
    case("np.ldexp", np.ldexp, floats(3, 4), WHOLE),
    case("np.ldexp", lambda x: np.ldexp(x, [[-1080], [-1074], [-1023], [-1022], [0], [1023], [1024], [2047]]), floats(4),
         grad=0, kinds="f"),
    case("np.ldexp", np.ldexp, EDGES, np.arange(14, dtype=np.int32), grad=0, kinds="f"),
    case("np.ldexp", lambda x: np.ldexp(x, 3), floats(4)),
    case("np.frexp", np.frexp, EDGES, grad=0),
    case("np.frexp", np.frexp, np.array([5e-324, 1e-310, 2.0**-1022, 1.7e308]), grad=0, kinds="f"),
    case("np.nextafter", np.nextafter, NEAR, NEAR[::-1].copy(), grad=0, kinds="f"),
    case("np.hypot", np.hypot, np.array([3e200, 3e-200, 5.0, 8.0, 0.0]), np.array([4e200, 4e-200, 12.0, 15.0, 0.0]),
         grad=0, rtol=1e-15, kinds="f"),
    # ------------------------------------------------------------------------------------------ arguments
    case("np.add", lambda x: np.add(x, 1, dtype=np.float32, casting="same_kind"), floats(4), grad=0, kinds="f"),
    case("np.add", lambda x: np.add(x, x, signature="ff->f", casting="unsafe"), floats(4), grad=0),
    case("np.sqrt", lambda x: np.sqrt(x, signature=(None, np.float64)), positive(4), kinds="iuf"),
    case("np.multiply", lambda x: np.multiply(x, 2, order="F", subok=False), floats(2, 3)),
    case("np.isnan", lambda x: np.isnan(x, out=np.zeros_like(x, bool)), EDGES, grad=0),
    case("np.exp", lambda x: np.exp(x, np.zeros_like(x)), floats(4), kinds="f"),
    case("np.add", lambda x: np.add(x, 1, out=np.zeros_like(x, shape=(2, 4))), floats(4), kinds="f"),
    case("np.add", lambda x: np.add(x, 0.5, out=np.zeros_like(x, int), casting="unsafe"), floats(4), grad=0, kinds="f"),
    case("np.divide", lambda x, y: np.divide(x, y, out=np.zeros_like(x), where=y != 0), floats(4),
         np.array([0.0, 1.0, 0.0, 2.0]), grad=0, kinds="f"),
    case("np.divide", lambda x: np.divide(1, x, out=x * 3, where=np.array([True, False, True, True])), positive(4)),
    case("np.log", lambda x: np.log(x, out=np.ones_like(x), where=np.array([[True], [False], [True]])), positive(3, 4),
         kinds="f"),
    case("np.divmod", lambda x: np.divmod(x, 0.7, out=(np.zeros_like(x), np.ones_like(x))), floats(4), kinds="f"),
    case("np.modf", lambda x: np.modf(x, out=(np.zeros_like(x), None)), floats(4, high=5), kinds="f"),
    # ------------------------------------------------------------------------------------------ products
    case("np.matmul", lambda x, y: np.matmul(x, y, axes=[(0, 1), (1, 0), (1, 0)]), floats(3, 4), floats(5, 4),
         kinds="iuf"),
    case("np.matmul", lambda x, y: np.matmul(x, y, axes=[(0, -1), (1, 2), (1, 0)]), floats(4, 2, 3), floats(2, 3, 5)),
    case("np.matvec", np.matvec, floats(2, 3, 4), floats(4), kinds="biufc"),
    case("np.matvec", np.matvec, floats(2, 1, 3, 4), floats(5, 4), kinds="biufc"),
    case("np.matvec", lambda x, y: np.matvec(x, y, axes=[(0, 1), 0, 0]), floats(3, 4, 2), floats(4)),
    case("np.vecmat", np.vecmat, floats(3), floats(2, 3, 4), kinds="biufc"),
    case("np.vecmat", np.vecmat, floats(5, 3), floats(3, 4), kinds="biufc"),
    case("np.vecdot", np.vecdot, floats(2, 3), floats(3, seed=1), kinds="biufc"),
    case("np.vecdot", np.vecdot, floats(3), floats(3, seed=1), kinds="biufc"),
    case("np.vecdot", lambda x, y: np.vecdot(x, y, axis=0), floats(3, 2), floats(3, 2, seed=1)),
    case("np.vecdot", lambda x, y: np.vecdot(x, y, axis=0, keepdims=True), floats(3, 2), floats(3, 2, seed=1)),
    case("np.vecdot", np.vecdot, floats(2, 0), floats(0), grad=0),
    # ------------------------------------------------------------------------------------------ shapes
    case("np.arcsinh", np.arcsinh, floats(0, 3)),
    case("np.arcsinh", np.arcsinh, floats()),
    case("np.hypot", np.hypot, floats(0, 3), floats(3)),
    case("np.gcd", np.gcd, integers(0, 3), integers(3), grad=0),
    case("np.power", np.power, integers(), integers(2, seed=2), grad=0),
]
