"""Elementwise functions of kernels: at most 2 ulp from the exact result, and NumPy's values at the special points."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import numpy as np
import pytest
from kernels import FLOATS, INTEGERS, NUMPY, OTHER_CPUS, Call, apply, assert_same, pairs, runs

from graphc.backends.cpu import native

LIMIT = {None: 2.0, "x86-64-v3": 2.0, "x86-64-v2": 2.6}  # in ulp; without FMA more roundings happen
mpmath.mp.prec = 130

ANY, POSITIVE, UNIT, ABOVE_ONE, ABOVE_MINUS_ONE = "any", "positive", "unit", "above one", "above minus one"
EXACT: dict[str, tuple[Callable, str]] = {
    "exp": (mpmath.exp, ANY),
    "exp2": (lambda x: mpmath.mpf(2) ** x, ANY),
    "expm1": (mpmath.expm1, ANY),
    "log": (mpmath.log, POSITIVE),
    "log2": (lambda x: mpmath.log(x, 2), POSITIVE),
    "log10": (mpmath.log10, POSITIVE),
    "log1p": (mpmath.log1p, ABOVE_MINUS_ONE),
    "sqrt": (mpmath.sqrt, POSITIVE),
    "rsqrt": (lambda x: 1 / mpmath.sqrt(x), POSITIVE),
    "cbrt": (lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)), ANY),
    "tanh": (mpmath.tanh, ANY),
    "sigmoid": (lambda x: 1 / (1 + mpmath.exp(-x)), ANY),
    "sinh": (mpmath.sinh, ANY),
    "cosh": (mpmath.cosh, ANY),
    "asinh": (mpmath.asinh, ANY),
    "acosh": (mpmath.acosh, ABOVE_ONE),
    "atanh": (mpmath.atanh, UNIT),
    "erf": (lambda x: mpmath.erf(x) if abs(x) < 100 else mpmath.sign(x), ANY),
    "erfc": (lambda x: mpmath.erfc(x) if abs(x) < 100 else 1 - mpmath.sign(x), ANY),
    "sin": (mpmath.sin, ANY),
    "cos": (mpmath.cos, ANY),
    "tan": (mpmath.tan, ANY),
    "asin": (mpmath.asin, UNIT),
    "acos": (mpmath.acos, UNIT),
    "atan": (mpmath.atan, ANY),
}


def samples(domain: str, dtype: str, count: int = 60) -> np.ndarray:
    """Points of all magnitudes in the domain, more of them where functions bend."""
    rng, info = np.random.default_rng(2), np.finfo(NUMPY[dtype])
    lowest = np.log2(float(info.smallest_subnormal))
    sign = rng.choice([-1, 1], count)
    x = [rng.normal(size=2 * count) * scale for scale in (0.3, 3, 30)]
    x += [np.exp2(rng.uniform(-30, 12, count)) * sign, np.exp2(rng.uniform(lowest, info.maxexp - 0.01, count)) * sign]
    x += [1 + rng.normal(size=count) * 1e-3, np.round(np.exp2(rng.uniform(0, 15, 2 * count))) * np.pi / 2]
    v = np.concatenate(x)
    if domain == POSITIVE:
        v = np.abs(v)
    elif domain == UNIT:
        v = np.concatenate([np.tanh(v), 1 - np.exp2(rng.uniform(-20, 0, count)), rng.uniform(-1, 1, 2 * count)])
    elif domain == ABOVE_ONE:
        v = 1 + np.abs(v)
    elif domain == ABOVE_MINUS_ONE:
        v = np.where(v < -1, -v, v)
    return v.astype(NUMPY[dtype])


def distance(got: np.ndarray, x: np.ndarray, exact: Callable) -> np.ndarray:
    """The error of each result in units in the last place of the exact one."""
    errors = []
    for value, point in zip(got, x, strict=True):
        true = mpmath.mpf(exact(mpmath.mpf(float(point)))) if np.isfinite(point) else mpmath.mpf(float(point))
        nearest = got.dtype.type(float(true)) if abs(true) < 1e308 else got.dtype.type(np.sign(float(true)) * np.inf)
        if not np.isfinite(nearest) or not np.isfinite(value):
            largest = np.finfo(got.dtype).max
            errors.append(0.0 if nearest == value else 1.0 if {abs(nearest), abs(value)} == {largest, np.inf} else 1e9)
            continue
        errors.append(float(abs(mpmath.mpf(float(value)) - true) / mpmath.mpf(float(np.spacing(abs(nearest))))))
    return np.array(errors)


@pytest.mark.parametrize("cpu", [None, *OTHER_CPUS])
@pytest.mark.parametrize("dtype", FLOATS)
def test_functions_are_accurate(dtype: str, cpu: str | None):
    if cpu and not runs(cpu):
        pytest.skip("this host lacks the instructions")
    with np.errstate(over="ignore", under="ignore"):
        for domain in (ANY, POSITIVE, UNIT, ABOVE_ONE, ABOVE_MINUS_ONE):
            names = [name for name, (_, where) in EXACT.items() if where == domain]
            x = samples(domain, dtype, 60 if cpu is None else 12)
            for expression, got in apply({f"{name}(a)": dtype for name in names}, dtype, x, cpu=cpu).items():
                errors = distance(got, x, EXACT[expression[:-3]][0])
                worst = int(np.argmax(errors))
                assert errors[worst] <= LIMIT[cpu], f"{expression} {dtype} at {x[worst]!r}: {got[worst]!r}"


NUMPY_NAMES = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2, "log10": np.log10,
    "log1p": np.log1p, "sqrt": np.sqrt, "cbrt": np.cbrt, "tanh": np.tanh, "sinh": np.sinh, "cosh": np.cosh,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "rsqrt": lambda x: 1 / np.sqrt(x),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}  # fmt: skip


@pytest.mark.parametrize("cpu", [None, *OTHER_CPUS[1:]])
@pytest.mark.parametrize("dtype", FLOATS)
def test_special_points_are_numpys(dtype: str, cpu: str | None):
    if cpu and not runs(cpu):
        pytest.skip("this host lacks the instructions")
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 2, -2, 1e30, -1e30], NUMPY[dtype])
    got = apply({f"{name}(a)": dtype for name in [*NUMPY_NAMES, "erf", "erfc"]}, dtype, x, cpu=cpu)
    with np.errstate(all="ignore"):
        for name, function in NUMPY_NAMES.items():
            want, result = function(x), got[f"{name}(a)"]
            special = ~np.isfinite(want) | (want == 0) | (np.abs(want) == 1)
            assert_same(result[special], want[special], f"{name} {dtype}")
            assert np.isfinite(result[~special]).all()
    assert_same(got["erf(a)"][:5], np.array([0, -0.0, 1, -1, np.nan]))
    assert_same(got["erfc(a)"][:5], np.array([1, 1, 0, 2, np.nan]))


@pytest.mark.parametrize("dtype", FLOATS)
def test_tiny_arguments(dtype: str):
    x = np.array([1e-40, -1e-40, np.finfo(NUMPY[dtype]).smallest_subnormal, np.finfo(NUMPY[dtype]).tiny], NUMPY[dtype])
    odd = "expm1 log1p tanh sinh asinh atanh sin tan asin atan".split()
    for expression, got in apply({f"{name}(a)": dtype for name in odd}, dtype, np.append(x, -x)).items():
        assert_same(got, np.append(x, -x), expression)
    for expression, got in apply({f"{name}(a)": dtype for name in ("exp", "cos", "cosh", "erfc")}, dtype, x).items():
        assert np.all(got == 1), expression


@pytest.mark.parametrize("dtype", FLOATS)
def test_saturation_is_monotone(dtype: str):
    """Where results leave the range of the type or reach their limit they do so once."""
    top = {"f32": 88.72, "f64": 709.78}[dtype]
    bottom = {"f32": -103.97, "f64": -745.13}[dtype]
    near = np.linspace(-1, 1, 4001) * 0.05
    rising = {
        "exp": [top, bottom], "exp2": [{"f32": 128, "f64": 1024}[dtype], {"f32": -150, "f64": -1075}[dtype]],
        "expm1": [top], "sinh": [top + 0.69], "tanh": [9.01, 19.06, 10, 20], "erf": [3.92, 5.92, 3.95, 6],
        "sigmoid": [bottom, 17.3, 36.7, {"f32": -86, "f64": -707}[dtype]],
    }  # fmt: skip
    for name, centres in rising.items():
        x = np.unique(np.concatenate([near + c for c in centres]).astype(NUMPY[dtype]))
        y = apply({f"{name}(a)": dtype}, dtype, x)[f"{name}(a)"]
        assert np.all(
            np.diff(y[np.isfinite(y)].astype(np.longdouble)) >= -2 * np.spacing(np.abs(y[np.isfinite(y)][1:]))
        )
        assert np.all(np.diff(np.isinf(y).astype(int)) >= 0)
    x = np.array([top + 0.01, 2 * top, np.finfo(NUMPY[dtype]).max], NUMPY[dtype])
    got = apply({f"{n}(a)": dtype for n in ("exp", "expm1", "tanh", "erf", "sigmoid", "erfc")}, dtype, x)
    assert [v.tolist() for v in got.values()] == [[np.inf] * 3, [np.inf] * 3, [1] * 3, [1] * 3, [1] * 3, [0] * 3]
    got = apply({f"{n}(a)": dtype for n in ("exp", "expm1", "tanh", "erf", "sigmoid", "erfc")}, dtype, -2 * x[:2])
    assert [v.tolist() for v in got.values()] == [[0] * 2, [-1] * 2, [-1] * 2, [-1] * 2, [0] * 2, [2] * 2]


# two operands -----------------------------------------------------------------------------------------------------------

SAME_AS_NUMPY = {
    "floor_divide(a, b)": np.floor_divide, "a // b": np.floor_divide, "remainder(a, b)": np.remainder,
    "a % b": np.remainder, "fmod(a, b)": np.fmod, "maximum(a, b)": np.maximum, "minimum(a, b)": np.minimum,
    "abs(a)": lambda a, b: np.abs(a), "sign(a)": lambda a, b: np.sign(a), "square(a)": lambda a, b: np.square(a),
}  # fmt: skip
INTEGERS_ONLY = {
    "a << b": np.left_shift, "right_shift(a, b)": np.right_shift, "fmax(a, b)": np.maximum, "fmin(a, b)": np.minimum,
}  # fmt: skip
FLOATS_ONLY = {
    "copysign(a, b)": np.copysign, "floor(a)": lambda a, b: np.floor(a), "ceil(a)": lambda a, b: np.ceil(a),
    "trunc(a)": lambda a, b: np.trunc(a), "rint(a)": lambda a, b: np.rint(a), "a / b": np.divide,
    "reciprocal(a)": lambda a, b: np.reciprocal(a),
}  # fmt: skip
PREDICATES = {
    "isnan(a)": lambda a, b: np.isnan(a), "isinf(a)": lambda a, b: np.isinf(a), "isfinite(a)": lambda a, b: np.isfinite(a),
    "logical_and(a, b)": np.logical_and, "logical_or(a, b)": np.logical_or, "logical_xor(a, b)": np.logical_xor,
    "logical_not(a)": lambda a, b: np.logical_not(a),
}  # fmt: skip


@pytest.mark.parametrize("cpu", [None, *OTHER_CPUS[:1]])
@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
def test_arithmetic_is_numpys(dtype: str, cpu: str | None):
    x, y = pairs(dtype)
    table = SAME_AS_NUMPY | (INTEGERS_ONLY if dtype in INTEGERS else FLOATS_ONLY)
    with np.errstate(all="ignore"):
        for expression, got in apply(dict.fromkeys(table, dtype), dtype, x, y, cpu=cpu).items():
            assert_same(got, table[expression](x, y), f"{dtype} {expression}")
        for expression, got in apply(dict.fromkeys(PREDICATES, "bool_"), dtype, x, y, cpu=cpu).items():
            assert_same(got, PREDICATES[expression](x, y), f"{dtype} {expression}")


def test_logic_of_masks():
    x, y = pairs("bool_")
    table = PREDICATES | {"a & b": np.bitwise_and, "a | b": np.bitwise_or, "a ^ b": np.bitwise_xor}
    table |= {"~a": lambda a, b: ~a, "maximum(a, b)": np.maximum, "minimum(a, b)": np.minimum}
    for expression, got in apply(dict.fromkeys(table, "bool_"), "bool_", x, y).items():
        assert_same(got, table[expression](x, y), expression)


@pytest.mark.parametrize("dtype", FLOATS)
def test_fmax_and_fmin_ignore_nan(dtype: str):
    x, y = pairs(dtype)
    got = apply({"fmax(a, b)": dtype, "fmin(a, b)": dtype}, dtype, x, y)
    assert_same(got["fmax(a, b)"], np.fmax(x, y), signed_zeros=False)
    assert_same(got["fmin(a, b)"], np.fmin(x, y), signed_zeros=False)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_powers(dtype: str):
    x, y = pairs(dtype)
    negative = y < 0
    got = apply({"a ** b": dtype, "reciprocal(a)": dtype}, dtype, x, y)
    with np.errstate(all="ignore"):
        assert_same(got["a ** b"][~negative], np.power(x[~negative], y[~negative]))
        nonzero = x != 0
        assert_same(got["reciprocal(a)"][nonzero], np.reciprocal(x[nonzero]))
    inverse = got["a ** b"][negative]
    assert set(inverse[~np.isin(x[negative], [1, -1])]) <= {0} and set(inverse) <= {-1, 0, 1}


@pytest.mark.parametrize("dtype", FLOATS)
def test_powers(dtype: str):
    kind, rng, n = NUMPY[dtype], np.random.default_rng(5), 150
    base = np.exp2(rng.uniform(-30, 30, n))
    span = {"f32": 125, "f64": 1000}[dtype]
    exponent = rng.uniform(-span, span, n) / np.maximum(np.abs(np.log2(base)), 1e-3)
    x = np.concatenate([base, 1 + rng.normal(size=n) * 1e-3, -np.round(base), rng.normal(size=n)]).astype(kind)
    y = np.concatenate([exponent, rng.normal(size=n) * span * 90, *rng.integers(-9, 9, (2, n))]).astype(kind)
    got = apply({"a ** b": dtype}, dtype, x, y)["a ** b"]
    with np.errstate(all="ignore"):
        finite = np.isfinite(x.astype("f8") ** y) & np.isfinite(got)
    for k in np.flatnonzero(finite & (x != 0)):
        whole = y[k] == int(y[k])
        exact = mpmath.mpf(float(x[k])) ** (int(y[k]) if whole else mpmath.mpf(float(y[k])))
        unit = mpmath.mpf(float(np.spacing(abs(got[k]))))
        assert abs(mpmath.mpf(float(got[k])) - exact) <= LIMIT[None] * unit, (x[k], y[k], got[k])
    x, y = pairs(dtype, 20)
    x, y = x[:529], y[:529]
    with np.errstate(all="ignore"):
        got, want = apply({"power(a, b)": dtype}, dtype, x, y)["power(a, b)"], np.power(x, y)
    plain = np.isfinite(want) & (want != 0) & (np.abs(want) != 1)
    assert_same(got[~plain], want[~plain])
    np.testing.assert_allclose(got[plain], want[plain], rtol=1e-6 if dtype == "f32" else 1e-14)


@pytest.mark.parametrize("dtype", FLOATS)
def test_atan2(dtype: str):
    x, y = pairs(dtype)
    got = apply({"atan2(a, b)": dtype}, dtype, x, y)["atan2(a, b)"]
    want = np.arctan2(x.astype(np.longdouble), y.astype(np.longdouble))
    nearest = want.astype(NUMPY[dtype])
    known = nearest == nearest
    assert np.isnan(got[~known]).all()
    assert np.array_equal(np.signbit(got[known]), np.signbit(want[known]))
    assert np.all(np.abs(got - want)[known] <= 2 * np.spacing(np.abs(nearest))[known])


def test_huge_angles():
    x = np.float64([1e22, 2.0**60, 1.7e308, 6381956970095103 * 2.0**797, -3e15, 2.0**40, 2.0**39])
    for function in ("sin", "cos", "tan"):
        got = apply({f"{function}(a)": "f64"}, "f64", x)[f"{function}(a)"]
        assert distance(got, x, EXACT[function][0]).max() <= 2


def test_fmod_of_extreme_quotients():
    info = np.finfo(np.float64)
    x = np.float64([info.max, info.max, 1e300, 1e17, 5, info.tiny, -1e308])
    y = np.float64([info.smallest_subnormal, 3.3, 1e-300, 0.3, -1e-310, info.smallest_subnormal * 3, 7e-200])
    assert_same(apply({"fmod(a, b)": "f64"}, "f64", x, y)["fmod(a, b)"], np.fmod(x, y))


# random bits ------------------------------------------------------------------------------------------------------------


def test_threefry_has_the_published_answers():
    call = Call(
        "def kernel(table, thread, threads):\n"
        "    p = pointer(table, 0)\n"
        "    a, b = threefry2x32(splat_load(p, 0, u32, 0), splat_load(p, 1, u32, 0),\n"
        "                        splat_load(p, 2, u32, 0), splat_load(p, 3, u32, 0))\n"
        "    store(p, 4, a, u32, 0)\n"
        "    store(p, 20, b, u32, 0)\n"
        "    return 0\n"
    )
    for key, counter, answer in (
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ):
        words = np.zeros(36, np.uint32)
        words[:4] = *key, *counter
        call(words)
        assert set(words[4:20]) == {answer[0]} and set(words[20:]) == {answer[1]}


def test_no_function_calls_a_library():
    names = [*EXACT, "abs", "floor", "ceil", "trunc", "rint"]
    for dtype in FLOATS:
        lines = [
            f"    store(p, {16 * k}, {name}(load(p, {16 * k}, {dtype}, 0)), {dtype}, 0)" for k, name in enumerate(names)
        ]
        source = "\n".join(
            ["def kernel(table, thread, threads):", "    p = pointer(table, 0)", *lines, "    return 0", ""]
        )
        for cpu in (None, *OTHER_CPUS):
            assert native.undefined_symbols(native.compile_kernel(source, "kernel", cpu)) == set()
