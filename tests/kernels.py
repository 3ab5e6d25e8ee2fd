"""Call single kernels written in the language of backends/cpu/simd.py: what the tests of that layer share."""

from __future__ import annotations

import ctypes
from typing import Any

import ml_dtypes
import numpy as np

from graphc.backends.cpu import native
from graphc.backends.cpu.runtime.loader import LoadedCode, load_objects

FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
NUMPY: dict[str, Any] = {
    "bool_": np.bool_, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
    "u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "u64": np.uint64,
    "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32, "f64": np.float64,
}  # fmt: skip
INTEGERS = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")
FLOATS = ("f32", "f64")

X86 = native.target().triple.startswith("x86_64")
OTHER_CPUS = ["x86-64-v2", "x86-64-v3"] if X86 else []


def runs(cpu: str) -> bool:
    """Whether this host has all instructions of ``cpu``."""
    return native.target(cpu).enabled <= native.target().enabled


class Call:
    """A compiled kernel; call it with arrays (passed as pointers) and integers."""

    def __init__(self, source: str, name: str = "kernel", cpu: str | None = None) -> None:
        self.loaded: LoadedCode = load_objects([native.compile_kernel(source, name, cpu)])
        self.function = FUNCTION(self.loaded.address(name))

    def __call__(self, *words: np.ndarray | int, thread: int = 0, threads: int = 1) -> int:
        table = np.array([w.ctypes.data if isinstance(w, np.ndarray) else w for w in words], np.int64)
        return self.function(table.ctypes.data, thread, threads)


def bits(value: float, dtype: str) -> int:
    """A scalar as the word of a table."""
    raw = np.array(value, NUMPY[dtype]).tobytes()
    return int.from_bytes(raw.ljust(8, b"\0"), "little", signed=True)


def elementwise(expressions: dict[str, str], dtype: str, inputs: int = 1, cpu: str | None = None) -> Call:
    """One kernel for several expressions of ``a``, ``b``, ...: table = inputs, outputs, n; expression -> result dtype."""
    names = "abcd"[:inputs]
    lines = ["def kernel(table, thread, threads):"]
    lines += [f"    p{k} = pointer(table, {k})" for k in range(inputs + len(expressions))]
    lines += [f"    n = word(table, {inputs + len(expressions)})"]
    for head, load, store, extra in (
        ("for i in range(0, n - 15, 16):", "load", "store", ""),
        ("for i in range(n - n % 16, n, 16):", "load_masked", "store_masked", ", n - i"),
    ):
        lines += [f"    {head}"]
        lines += [f"        {a} = {load}(p{k}, i, {dtype}, {k}{extra})" for k, a in enumerate(names)]
        for k, (expression, out) in enumerate(expressions.items(), inputs):
            lines += [f"        {store}(p{k}, i, {expression}, {out}, {k}{extra})"]
    return Call("\n".join([*lines, "    return 0", ""]), cpu=cpu)


def apply(
    expressions: dict[str, str], dtype: str, *arrays: np.ndarray, cpu: str | None = None
) -> dict[str, np.ndarray]:
    """The values of the expressions on arrays of any one length."""
    arrays = tuple(np.ascontiguousarray(a, NUMPY[dtype]) for a in arrays)
    outputs = [np.zeros(len(arrays[0]), NUMPY[out]) for out in expressions.values()]
    assert elementwise(expressions, dtype, len(arrays), cpu)(*arrays, *outputs, len(arrays[0])) == 0
    return dict(zip(expressions, outputs, strict=True))


def assert_same(got: np.ndarray, want: np.ndarray, what: str = "", signed_zeros: bool = True) -> None:
    """Equal in value, NaN equal to NaN, and in the signs of zeros."""
    want = want.astype(got.dtype)
    same = (got == want) | ((got != got) & (want != want))
    if signed_zeros and got.dtype.kind == "f":
        same &= (np.signbit(got) == np.signbit(want)) | (got != got)
    wrong = np.flatnonzero(~same)
    assert not len(wrong), f"{what}: at {wrong[:4]}: {got[wrong[:4]]}, not {want[wrong[:4]]}"


def pairs(dtype: str, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of the special values of a dtype, then random ones; their number is no multiple of 16."""
    kind, rng = NUMPY[dtype], np.random.default_rng(1)
    if dtype == "bool_":
        special = random = np.array([False, True])
    elif dtype in INTEGERS:
        low, high = np.iinfo(kind).min, np.iinfo(kind).max
        special = [0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 63, 64, 100, high, high - 1, low, low + 1, high // 2]
        special = np.array([kind(v) for v in special])
        random = rng.integers(low, high, count, dtype=kind, endpoint=True)
        random[::2] %= kind(20)
        if low < 0:
            special = np.append(special, [kind(-1), kind(-2), kind(-7)]).astype(kind)
    else:
        info = np.finfo(kind)
        special = np.array([0, 1, 2, 0.5, 3, 7.5, 0.1, np.inf, info.max, info.tiny, info.smallest_subnormal, 1e30])
        special = np.concatenate([special, -special, [np.nan]]).astype(kind)
        wide = np.exp2(rng.uniform(-60, 60, count)) * rng.choice([-1, 1], count)
        random = np.concatenate([rng.normal(size=count) * 3, wide, np.round(rng.normal(size=count) * 9)]).astype(kind)
    x, y = (grid.ravel() for grid in np.meshgrid(special, special))
    other = rng.permutation(random)
    x = np.concatenate([x, random, random])
    y = np.concatenate([y, other, rng.choice(special, len(random))])
    extra = 0 if len(x) % 16 else 3
    return np.concatenate([x, x[:extra]]), np.concatenate([y, y[:extra]])
