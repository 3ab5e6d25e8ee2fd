"""The error of every unary function at every float32: all 2^32 inputs against NumPy's and SciPy's float64.

    python tests/exhaustive_math.py [--only NAME ...] [--every N]

prints per function the largest error found, in units in the last place of the exact result, where it was found, and the
bound of ``graphc.backends.cpu.accuracy``; a wrong NaN, infinity or sign of a zero counts as an infinite error. One
function takes one to two minutes on one core; ``--every 64`` looks at each 64th block of 2^18 inputs alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import scipy.special

import graphc
from graphc.backends.cpu.accuracy import COMPOSITIONS, F32

CHUNK = 1 << 18  # inputs at once: they stay in the cache
INPUTS = 1 << 32

Function = Callable[[Any], Any]


def softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def logistic(x: Any) -> Any:
    with np.errstate(over="ignore"):
        e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def gelu_tanh(x: Any) -> Any:
    return x * logistic(np.sqrt(8 / np.pi) * (x + 0.044715 * x**3))


#: What graphc compiles, and the float64 that it is compared with
FUNCTIONS: dict[str, tuple[Function, Function]] = {
    "exp": (np.exp, np.exp),
    "exp2": (np.exp2, np.exp2),
    "expm1": (np.expm1, np.expm1),
    "log": (np.log, np.log),
    "log2": (np.log2, np.log2),
    "log10": (np.log10, np.log10),
    "log1p": (np.log1p, np.log1p),
    "sqrt": (np.sqrt, np.sqrt),
    "rsqrt": (lambda x: 1 / np.sqrt(x), lambda x: 1 / np.sqrt(x)),
    "cbrt": (np.cbrt, np.cbrt),
    "tanh": (np.tanh, np.tanh),
    "sigmoid": (graphc.nn.sigmoid, logistic),
    "sinh": (np.sinh, np.sinh),
    "cosh": (np.cosh, np.cosh),
    "asinh": (np.arcsinh, np.arcsinh),
    "acosh": (np.arccosh, np.arccosh),
    "atanh": (np.arctanh, np.arctanh),
    "erf": (graphc.scipy.special.erf, scipy.special.erf),
    "erfc": (graphc.scipy.special.erfc, scipy.special.erfc),
    "sin": (np.sin, np.sin),
    "cos": (np.cos, np.cos),
    "tan": (np.tan, np.tan),
    "asin": (np.arcsin, np.arcsin),
    "acos": (np.arccos, np.arccos),
    "atan": (np.arctan, np.arctan),
    "ndtr": (graphc.scipy.special.ndtr, scipy.special.ndtr),
    "softplus": (graphc.nn.softplus, softplus),
    "silu": (graphc.nn.silu, lambda x: x * logistic(x)),
    "gelu": (graphc.nn.gelu, lambda x: x * scipy.special.ndtr(x)),
    "gelu_tanh": (lambda x: graphc.nn.gelu(x, approximate=True), gelu_tanh),
}


def units(want: np.ndarray, name: str) -> np.ndarray:
    """What the last place of a float32 near each of ``want`` is worth."""
    power = (want.view(np.int64) & (0x7FF << 52)).view(np.float64)
    return np.clip(power, 2.0**-119 if name in COMPOSITIONS else 2.0**-126, 2.0**127) * 2.0**-23


@numba.njit
def worst(got: np.ndarray, want: np.ndarray, unit: np.ndarray) -> tuple[float, int]:
    """The largest error and its place."""
    largest, place = -1.0, 0
    top = 2.0**128
    for k in range(got.size):
        y, x = float(got[k]), want[k]
        if x != x or y != y:
            error = 0.0 if x != x and y != y else np.inf
        else:
            y, x = max(min(y, top), -top), max(min(x, top), -top)
            error = abs(y - x) / unit[k]
            if y == 0 and np.signbit(y) != np.signbit(x):
                error = np.inf
        if error > largest:
            largest, place = error, k
    return largest, place


def examine(name: str, every: int = 1) -> tuple[float, float]:
    """(the largest error of a function, the float32 where it is)"""
    function, exact = FUNCTIONS[name]
    compiled = graphc.compile(lambda x: function(x))
    numbers = np.arange(CHUNK, dtype=np.uint32)
    found, where = -1.0, 0.0
    for first in range(0, INPUTS, every * CHUNK):
        x = (numbers + np.uint32(first)).view(np.float32)
        with np.errstate(all="ignore"):
            want = exact(x.astype(np.float64))
            error, place = worst(compiled(x), want, units(want, name))
        if error > found:
            found, where = error, float(x[place])
    return found, where


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", metavar="NAME", help="functions; default: all")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each N-th block of inputs alone")
    args = parser.parse_args()
    missed = 0
    print("| function | largest error, ulp | at | bound | s |\n| --- | --- | --- | --- | --- |", flush=True)
    for name in args.only or FUNCTIONS:
        start = time.perf_counter()
        error, where = examine(name, args.every)
        seconds = time.perf_counter() - start
        missed += error > F32[name]
        print(f"| {name} | {error:.3f} | {where!r} | {F32[name]:g} | {seconds:.0f} |", flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(main())
