"""Running ops: their kernels against their meaning, and the awkward points of their derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from emit_calls import Compiled, body, expected, kernel

from graphc import ops
from graphc.types import DTYPES, TensorType

NUMERIC = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f16", "bf16", "f32", "f64")
SHAPES = [
    ((3, 5), 1), ((3, 5), 0), ((40, 3), 1), ((2, 40, 3), 1), ((4, 70), 0), ((2, 7, 300), 1), ((1000,), 0), ((5, 1), 1),
    ((1,), 0), ((3, 2, 8), 0), ((20, 17), 1), ((2, 130), 1),
    ((40, 2), 0), ((4, 40, 2), 1), ((7,), 0), ((16,), 0), ((33,), 0), ((48,), 0),
]  # fmt: skip
TOLERANCE = {"f16": 4e-3, "bf16": 3e-2, "f32": 2e-6, "f64": 1e-14}


def run(graph, *inputs):
    """The result, checked to be the same bits for any number of threads."""
    call = Compiled(kernel(graph, "library"))
    (found,) = call(*inputs)
    for threads in (2, 3):
        assert call(*inputs, threads=threads)[0].tobytes() == found.tobytes()
    return found


def drawn(rng: np.random.Generator, t: TensorType, special: bool = False) -> np.ndarray:
    if t.dtype.name == "bool":
        return rng.random(t.shape) < 0.3
    if t.dtype.is_float:
        x = rng.uniform(0.5, 1.5, t.shape) * rng.choice([-1, 1], t.shape)
        if special:
            x = np.where(rng.random(t.shape) < 0.05, rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0], t.shape), x)
        return x.astype(t.dtype.numpy)
    info = np.iinfo(t.dtype.numpy)
    return rng.integers(info.min, info.max, t.shape, t.dtype.numpy, endpoint=True)


def check(name: str, element: str, operands: int, special: bool = False) -> None:
    rng = np.random.default_rng(0)
    for shape, axis in SHAPES:
        for reverse in (False, True):
            t = TensorType(DTYPES[element], shape)
            inputs = [drawn(rng, t, special) for _ in range(operands)]
            if name == "recurrence" and t.dtype.is_float:
                inputs[0] = (inputs[0] * 0.6).astype(t.dtype.numpy)
            graph = body(lambda *xs, axis=axis, reverse=reverse: ops.OPS[name](*xs, axis=axis, reverse=reverse), *[t] * operands)
            found, (want,) = run(graph, *inputs), expected(graph, inputs)
            assert found.dtype == want.dtype
            if name in ("cummax", "cummin") and t.dtype.is_float:
                found, want = found.astype(np.float64), want.astype(np.float64)
            if not t.dtype.is_float or name in ("cummax", "cummin"):
                np.testing.assert_array_equal(found, want, err_msg=f"{shape} {axis} {reverse}")
                continue
            rtol = TOLERANCE[element] * 8
            found, want = found.astype(np.float64), want.astype(np.float64)
            scale = np.abs(want[np.isfinite(want)]).max(initial=0.0) if name == "cumsum" else 0.0
            np.testing.assert_allclose(found, want, rtol=rtol, atol=rtol * max(scale, 1.0), err_msg=f"{shape} {axis} {reverse}")


@pytest.mark.parametrize("element", NUMERIC)
@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_sums_and_products(name, element):
    check(name, element, 1)


@pytest.mark.parametrize("element", NUMERIC)
def test_recurrence(element):
    check("recurrence", element, 2)


@pytest.mark.parametrize("element", ["bool", *NUMERIC])
@pytest.mark.parametrize("name", ["cummax", "cummin"])
def test_extremes(name, element):
    check(name, element, 1, special=True)


@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_nan_and_infinity_run_on(name):
    check(name, "f64", 1, special=True)
