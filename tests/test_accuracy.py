"""The bounds of graphc.backends.cpu.accuracy, on inputs of all magnitudes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from exhaustive_math import FUNCTIONS, units, worst

import graphc
from graphc.backends.cpu.accuracy import COMPOSITIONS, F32, F64, PRIMITIVES

mpmath.mp.prec = 200


def test_every_function_has_a_bound() -> None:
    assert set(FUNCTIONS) == set(F32) == set(F64) == {*PRIMITIVES, "ndtr", *COMPOSITIONS}


@pytest.mark.parametrize("third", range(3))
def test_a_sample_of_float32(third: int) -> None:
    """Every 65521st bit pattern, and more where functions bend."""
    x = np.arange(0, 1 << 32, 65521).astype(np.uint32).view(np.float32)
    x = np.concatenate([x, np.random.default_rng(third).uniform(-20, 20, 20000).astype(np.float32)])
    names = list(FUNCTIONS)[third::3]
    compiled = graphc.compile(lambda x: [FUNCTIONS[name][0](x) for name in names])
    with np.errstate(all="ignore"):
        for name, got in zip(names, compiled(x), strict=True):
            want = FUNCTIONS[name][1](x.astype(np.float64))
            error, place = worst(got, want, units(want, name))
            assert error <= F32[name], f"{name} at {x[place]!r}: {got[place]!r}, {error} ulp"


def sigmoid(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


EXACT: dict[str, Callable[[Any], Any]] = {
    "ndtr": lambda x: mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "silu": lambda x: x * sigmoid(x),
    "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "gelu_tanh": lambda x: x * sigmoid(mpmath.sqrt(8 / mpmath.pi) * (x + mpmath.mpf(0.044715) * x**3)),
}


def test_a_sample_of_float64() -> None:
    rng = np.random.default_rng(3)
    x = np.concatenate(
        [rng.normal(size=100), rng.uniform(-36, 40, 100), np.exp2(rng.uniform(-60, 9, 50)) * rng.choice([-1, 1], 50)]
    )
    compiled = graphc.compile(lambda x: [FUNCTIONS[name][0](x) for name in EXACT])
    for (name, exact), got in zip(EXACT.items(), compiled(x), strict=True):
        for point, value in zip(x, got, strict=True):
            true = exact(mpmath.mpf(float(point)))
            unit = mpmath.mpf(float(np.spacing(max(abs(float(true)), 2.0**-1012))))
            assert abs(mpmath.mpf(float(value)) - true) <= F64[name] * unit, f"{name} at {point!r}: {value!r}"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compositions_at_the_ends(dtype: type) -> None:
    x = np.array([0.0, -0.0, np.inf, np.nan, 1e-40, 90, -800], dtype)
    compiled = graphc.compile(lambda x: [graphc.nn.softplus(x), graphc.nn.silu(x), graphc.nn.gelu(x)])
    softplus, silu, gelu = compiled(x)
    np.testing.assert_array_equal(softplus[[2, 3, 5, 6]], np.array([np.inf, np.nan, 90, 0], dtype))
    for got in (silu, gelu):
        np.testing.assert_array_equal(got[[0, 1, 2, 3, 5, 6]], np.array([0, -0.0, np.inf, np.nan, 90, 0], dtype))
        np.testing.assert_array_equal(np.signbit(got[:2]), [False, True])
