"""The vocabulary of kernels: memory, conversions, operators, lanes, scalars; each held against NumPy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from kernels import FLOATS, INTEGERS, NUMPY, OTHER_CPUS, Call, apply, assert_same, bits, pairs, runs

from graphc.backends.cpu import native

RAGGED = (0, 1, 2, 15, 16, 17, 31, 47)


def source(*lines: str) -> str:
    return "\n".join(["def kernel(table, thread, threads):", *(f"    {line}" for line in lines), ""])


def values(dtype: str, count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype == "bool_":
        return rng.random(count) < 0.5
    if dtype in INTEGERS:
        info = np.iinfo(NUMPY[dtype])
        return rng.integers(info.min, info.max, count, NUMPY[dtype], endpoint=True)
    return (rng.normal(size=count) * 100).astype(NUMPY[dtype])


# memory -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cpu", [None, *OTHER_CPUS])
@pytest.mark.parametrize("dtype", NUMPY)
def test_copies_of_any_length(dtype: str, cpu: str | None):
    if cpu and not runs(cpu):
        pytest.skip("this host lacks the instructions")
    call = Call(
        source(
            "x, y, n = pointer(table, 0), pointer(table, 1), word(table, 2)",
            "for i in range(0, n - 15, 16):",
            f"    store(y, i, load(x, i, {dtype}, 0), {dtype}, 1)",
            "i = n & -16",
            f"store_masked(y, i, load_masked(x, i, {dtype}, 0, n - i), {dtype}, 1, n - i)",
            "return 0",
        ),
        cpu=cpu,
    )
    for n in RAGGED:
        x, y = values(dtype, n + 16), values(dtype, n + 16, seed=1)
        want = np.concatenate([x[:n], y[n:]])
        call(x, y, n)
        assert y.tobytes() == want.tobytes()


@pytest.mark.parametrize("dtype", ["bool_", "i8", "u16", "i32", "f64", "f16", "bf16", "f32"])
def test_strided_access(dtype: str):
    call = Call(
        source(
            "x, y, n = pointer(table, 0), pointer(table, 1), word(table, 4)",
            "i, stride = word(table, 2), word(table, 3)",
            f"v = load_strided(x, i, stride, {dtype}, 0, n)",
            f"store_strided(y, i + 1, stride, v, {dtype}, 1, n)",
            f"store(y, 200, v, {dtype}, -1)",
            "return 0",
        )
    )
    for start, stride, n in ((0, 1, 16), (3, 5, 16), (90, -4, 13), (7, 0, 1), (7, 11, 0), (0, 3, 99)):
        x, y = values(dtype, 250), values(dtype, 250, seed=1)
        where = start + stride * np.arange(min(n, 16))
        want = y.copy()
        want[where + 1] = x[where]
        want[200:216] = 0
        want[200 : 200 + len(where)] = x[where]
        call(x, y, start, stride, n)
        assert y.tobytes() == want.tobytes()


@pytest.mark.parametrize("index", ["i32", "i64", "u8"])
@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16", "i8", "bool_"])
def test_gather_and_scatter(dtype: str, index: str):
    call = Call(
        source(
            "x, at, y = pointer(table, 0), pointer(table, 1), pointer(table, 2)",
            "n = word(table, 3)",
            f"where = load(at, 0, {index}, 0)",
            f"v = gather(x, where, {dtype}, 1, n)",
            f"store(y, 100, v, {dtype}, 2)",
            f"scatter(y, where, v, {dtype}, 2, n)",
            "return 0",
        )
    )
    rng = np.random.default_rng(0)
    for n in (0, 1, 9, 16):
        x, y = values(dtype, 120), values(dtype, 120, seed=1)
        at = rng.integers(0, 40, 16).astype(NUMPY[index])
        want = y.copy()
        want[100:116] = np.where(np.arange(16) < n, x[at], np.zeros(1, x.dtype))
        want[at[:n]] = x[at[:n]]
        call(x, at, y, n)
        assert y.tobytes() == want.tobytes()


def test_the_highest_lane_wins_a_scatter():
    call = Call(
        source(
            "y = pointer(table, 0)",
            "scatter(y, lanes(0) & 3, lanes_of(0, f32), f32, 0, 16)",
            "return 0",
        )
    )
    y = np.zeros(4, np.float32)
    call(y)
    assert y.tolist() == [12, 13, 14, 15]


@pytest.mark.parametrize("dtype", NUMPY)
def test_single_elements_and_parameters(dtype: str):
    call = Call(
        source(
            "x, y = pointer(table, 0), pointer(table, 1)",
            f"store(y, 0, splat_load(x, 3, {dtype}, 0), {dtype}, 1)",
            f"store(y, 16, param(table, 2, {dtype}), {dtype}, 1)",
            f"store_first(y, 32, load(x, 5, {dtype}, 0), {dtype}, 1)",
            f"store_first(advance(y, 33, {dtype}), 1, splat_load(x, 4, {dtype}, 0), {dtype}, 1)",
            "return 0",
        )
    )
    x, y = values(dtype, 32), np.zeros(36, NUMPY[dtype])
    call(x, y, bits(x[7], dtype))
    want = np.concatenate([np.repeat(x[3], 16), np.repeat(x[7], 16), [x[5]], y[33:34], [x[4]], y[35:]])
    assert y.tobytes() == want.astype(y.dtype).tobytes()


def test_streamed_stores_scratch_and_integer_addresses():
    call = Call(
        source(
            "x, y = word(table, 0), pointer(table, 1)",
            "scratch = stack(f64, 40)",
            "for k in range(0, 32, 16):",
            "    store(scratch, k, load(x, k, f64, 0) * 2.0, f64, 2)",
            "store_stream(y, 0, load(scratch, 4, f64, 2), f64, 1)",
            "return word(table, 2)",
        )
    )
    x = np.arange(32.0)
    room = np.zeros(32 + 8)
    y = room[(-room.ctypes.data % 64) // 8 :][:16]
    assert call(x, y, -5) == -5
    assert y.tolist() == (2 * x[4:20]).tolist()


def test_shares_cover_everything_once():
    call = Call(
        source(
            "start, stop = share(word(table, 0), word(table, 1), thread, threads)",
            "out = pointer(table, 2)",
            "store_first(out, 0, splat(start, i64), i64, 0)",
            "store_first(out, 1, splat(stop, i64), i64, 0)",
            "return 0",
        )
    )
    out = np.zeros(2, np.int64)
    for n in (0, 1, 16, 17, 100, 1000):
        for grain in (1, 16, 64):
            for threads in (1, 2, 3, 8):
                covered = []
                for thread in range(threads):
                    call(n, grain, out, thread=thread, threads=threads)
                    assert out[0] % grain == 0 or out[0] == n
                    covered += range(out[0], out[1])
                assert covered == list(range(n))


# conversions ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [d for d in NUMPY if d not in ("f16", "bf16")])
@pytest.mark.parametrize("cpu", [None, *OTHER_CPUS[:1]])
def test_casts(dtype: str, cpu: str | None):
    x = pairs(dtype)[0]
    if dtype in FLOATS:
        limits = [300.7, 70000.5, 3e9, 5e9, 1e19, 1.9e19, 65519.9, 65520, 1e-8, 2.98e-8, 2147483647.5, 2147483648.5]
        x = np.concatenate([x, limits, np.negative(limits)]).astype(NUMPY[dtype])
    x = np.resize(x, len(x) // 64 * 64 + 64)  # NumPy converts what is out of range otherwise in its ragged ends
    got = apply({f"cast(a, {to})": to for to in NUMPY}, dtype, x, cpu=cpu)
    with np.errstate(all="ignore"):
        for to, result in zip(NUMPY, got.values(), strict=True):
            want = x.astype(np.float32) if to == "bf16" and dtype not in FLOATS else x
            assert_same(result, want.astype(NUMPY[to]), f"{dtype} to {to}")


@pytest.mark.parametrize("cpu", [None, *OTHER_CPUS[:1]])
def test_half_precision_is_exact(cpu: str | None):
    everything = np.arange(65536, dtype=np.uint16)
    for dtype, scalar in (("f16", np.float16), ("bf16", ml_dtypes.bfloat16)):
        call = Call(
            source(
                "x, wide, back = pointer(table, 0), pointer(table, 1), pointer(table, 2)",
                "for i in range(0, 65536, 16):",
                f"    v = load(x, i, {dtype}, 0)",
                "    store(wide, i, v, f32, 1)",
                f"    store(back, i, v, {dtype}, 2)",
                "return 0",
            ),
            cpu=cpu,
        )
        wide, back = np.zeros(65536, np.float32), np.zeros(65536, np.uint16)
        call(everything, wide, back)
        halves = everything.view(scalar)
        assert_same(wide, halves.astype(np.float32), dtype)
        numbers = ~np.isnan(wide)
        assert np.array_equal(back[numbers], everything[numbers])
        assert np.isnan(back[~numbers].view(scalar).astype(np.float32)).all()


def test_rounding_to_half_precision():
    rng = np.random.default_rng(0)
    near = np.float64(np.arange(0, 31744, 7, dtype=np.uint16).view(np.float16))
    ties = near + np.spacing(near.astype(np.float16)).astype(np.float64) / 2
    x = np.concatenate([ties, np.nextafter(ties, 0), np.nextafter(ties, np.inf), rng.normal(size=500) * 10.0**-5])
    x = np.concatenate([x, -x])
    for dtype in FLOATS:
        v = x.astype(NUMPY[dtype])
        assert_same(apply({"a": "f16"}, dtype, v)["a"], v.astype(np.float16), dtype)
    bf = np.concatenate([np.float64(np.arange(0, 0x7F80, 5, dtype=np.uint16).view(ml_dtypes.bfloat16)), x])
    bf = np.concatenate([bf * (1 + 2.0**-8), bf * (1 + 2.0**-8 + 2.0**-40), bf])
    f32s = bf.astype(np.float32)
    assert_same(apply({"a": "bf16"}, "f32", f32s)["a"], f32s.astype(ml_dtypes.bfloat16))
    exact = apply({"a": "bf16"}, "f64", bf)["a"].astype(np.float64)
    assert np.all(
        np.abs(exact - bf)[np.isfinite(exact)] <= np.abs(bf)[np.isfinite(exact)] * 2.0**-8 * (1 + 1e-12) + 1e-40
    )


def test_bitcasts_and_splats():
    got = apply({"bitcast(a, u32)": "u32", "bitcast(bitcast(a, i32) + 1, f32)": "f32"}, "f32", np.float32([0, -1.5, 7]))
    assert got["bitcast(a, u32)"].tolist() == np.float32([0, -1.5, 7]).view(np.uint32).tolist()
    assert_same(
        got["bitcast(bitcast(a, i32) + 1, f32)"], np.nextafter(np.float32([0, -1.5, 7]), np.float32([1, -2, 8]))
    )
    expressions = {
        "a * 0 + splat(300, u8)": "u8", "a * 0 + splat(-1, u8)": "u8", "lanes_of(254, u8)": "u8",
        "lanes_of(3, f16)": "f16", "lanes(-2)": "i64", "splat(0.1, f16)": "f16", "splat(inf, f32)": "f32",
        "splat(-nan, f64)": "f64", "splat(2, f64)": "f64",
    }  # fmt: skip
    got = apply(expressions, "u8", np.zeros(16))
    first = [v[0] for v in got.values()]
    assert first[:3] == [44, 255, 254] and got["lanes_of(254, u8)"].tolist()[:4] == [254, 255, 0, 1]
    assert got["lanes_of(3, f16)"].tolist() == list(range(3, 19)) and got["lanes(-2)"].tolist() == list(range(-2, 14))
    assert first[5] == np.float16(0.1) and first[6] == np.inf and np.isnan(first[7]) and first[8] == 2


# operators --------------------------------------------------------------------------------------------------------------

COMPARISONS = {f"a {op} b": "bool_" for op in ("<", "<=", "==", "!=", ">", ">=")}


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
def test_operators(dtype: str):
    x, y = pairs(dtype)
    arithmetic = {e: dtype for e in ("a + b", "a - b", "a * b", "-a")}
    more = {e: dtype for e in ("a & b", "a | b", "a ^ b", "~a")} if dtype in INTEGERS else {"a / b": dtype}
    got = apply({**arithmetic, **more, **COMPARISONS}, dtype, x, y)
    with np.errstate(all="ignore"):
        for expression, result in got.items():
            assert_same(result, eval(expression, {"a": x, "b": y}), f"{dtype} {expression}")


def test_scalar_operands_take_the_dtype_of_the_vector():
    expressions = {
        "a + 300": "u8", "200 - a": "u8", "a > 3": "bool_", "select(a > 3, 7, a)": "u8", "select(a > 3, a, 7)": "u8",
        "maximum(a, 4)": "u8",
    }  # fmt: skip
    a = np.arange(17, dtype=np.uint8)
    got = list(apply(expressions, "u8", a).values())
    assert got[0].tolist() == ((a.astype(int) + 300) % 256).tolist() and got[1].tolist() == (200 - a).tolist()
    assert got[3].tolist() == np.where(a > 3, 7, a).tolist() and got[4].tolist() == np.where(a > 3, a, 7).tolist()
    assert got[5].tolist() == np.maximum(a, 4).tolist()
    f = apply({"0.5 * a": "f32", "1 / a": "f32", "a ** 2.0": "f32", "a * inf": "f32"}, "f32", np.float32([3, 0, -2]))
    assert f["0.5 * a"].tolist() == [1.5, 0, -1] and f["a ** 2.0"].tolist() == [9, 0, 4]


def test_a_product_and_a_sum_may_fuse_and_nothing_else():
    x = np.float32([1 + 2**-12, 1e8, 3])
    got = apply({"(a + 1e8) - 1e8": "f32", "a * a - a * a": "f32", "fma(a, a, -1.0)": "f32"}, "f32", x)
    assert got["(a + 1e8) - 1e8"].tolist() == ((x + np.float32(1e8)) - np.float32(1e8)).tolist()
    if "fma" in native.target().enabled:
        assert got["fma(a, a, -1.0)"][0] == np.float32(float(x[0]) ** 2 - 1)


# lanes ------------------------------------------------------------------------------------------------------------------


def tree(x: np.ndarray, combine: np.ufunc) -> np.ndarray:
    """The documented order: lane l with l+8, then l+4, l+2, l+1."""
    for width in (8, 4, 2, 1):
        x = combine(x[..., :width], x[..., width : 2 * width])
    return np.repeat(x, 16, axis=-1)


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
def test_reductions_over_lanes_are_a_fixed_tree(dtype: str):
    x = values(dtype, 16 * 20)
    if dtype in FLOATS:
        x[5], x[40], x[41] = np.nan, np.inf, -np.inf
    table = {"reduce_add": np.add, "reduce_mul": np.multiply, "reduce_max": np.maximum, "reduce_min": np.minimum}
    if dtype in INTEGERS:
        table |= {"reduce_and": np.bitwise_and, "reduce_or": np.bitwise_or, "reduce_xor": np.bitwise_xor}
    got = apply({f"{name}(a)": dtype for name in table}, dtype, x)
    with np.errstate(all="ignore"):
        for (name, combine), result in zip(table.items(), got.values(), strict=True):
            assert_same(result.reshape(-1, 16), tree(x.reshape(-1, 16), combine), f"{name} {dtype}")


def test_reductions_of_masks():
    x = np.concatenate([np.zeros(16, bool), np.ones(16, bool), np.arange(16) == 3])
    got = apply({f"reduce_{k}(a)": "bool_" for k in ("max", "min", "and", "or", "xor")}, "bool_", x)
    assert [v[::16].tolist() for v in got.values()] == [
        [False, True, True], [False, True, False], [False, True, False], [False, True, True], [False, False, True],
    ]  # fmt: skip


def test_tails_and_shuffles():
    expressions = {
        "merge(a, inf, 5)": "f32", "cast(mask_tail(3), f32)": "f32", "cast(mask_tail(0), f32)": "f32",
        "cast(mask_tail(99), f32)": "f32", "splat_lane(a, 7)": "f32", "reverse_lanes(a)": "f32",
        "rotate_lanes(a, 3)": "f32", "splat(lane(a, 9), f32)": "f32", "splat(first_lane(a + 1.0), f32)": "f32",
        "splat(count_lanes(a > 4.0), f32)": "f32",
    }  # fmt: skip
    x = np.arange(16, dtype=np.float32)
    merged, three, none, every, seven, back, turned, nine, one, count = apply(expressions, "f32", x).values()
    assert merged.tolist() == [*range(5), *[np.inf] * 11]
    assert three.tolist() == [1] * 3 + [0] * 13 and not none.any() and every.all()
    assert set(seven) == {7} and back.tolist() == x[::-1].tolist() and turned.tolist() == np.roll(x, -3).tolist()
    assert set(nine) == {9} and set(one) == {1} and set(count) == {11}


# scalars and control flow -----------------------------------------------------------------------------------------------


def test_scalars_are_pythons():
    expressions = (
        "a + b", "a - b", "a * b", "a // b", "a % b", "a & b", "a | b", "a ^ b", "~a", "-a", "min(a, b)", "max(a, b)",
        "a << 3", "a >> 2", "(a < b) + (a == b)", "1 if a else 2", "1 if not a else 2", "7 if a < b and b > 2 else 8",
    )  # fmt: skip
    lines = ["a, b, out = word(table, 0), word(table, 1), pointer(table, 2)"]
    lines += [f"store_first(out, {k}, splat({e}, i64), i64, 0)" for k, e in enumerate(expressions)]
    call = Call(source(*lines, "return 0"))
    out = np.zeros(len(expressions), np.int64)
    for a in (-9, -8, -1, 0, 1, 7, 12):
        for b in (-4, -1, 1, 3, 8):
            call(a, b, out)
            assert out.tolist() == [int(eval(e, {"a": a, "b": b})) for e in expressions]
    call(5, 0, out)
    assert out[3] == 0 and out[4] == 5


def test_loops_and_branches():
    call = Call(
        source(
            "n, out = word(table, 0), pointer(table, 1)",
            "total = 0",
            "for i in range(n):",
            "    if i % 3 == 0:",
            "        continue",
            "    for j in range(10, i, -2):",
            "        if j > 8 and i > 4:",
            "            break",
            "        total += i * j",
            "k = 0",
            "while k < n:",
            "    k = k + 2",
            "    total += k",
            "store_first(out, 0, splat(i, i64), i64, 0)",
            "if any_lane(lanes(0) > n) and not all_lanes(lanes(0) > n):",
            "    return -total",
            "return total",
        )
    )
    out = np.zeros(1, np.int64)
    for n in (1, 5, 9, 20):
        total = 0
        for i in range(n):
            if i % 3 == 0:
                continue
            for j in range(10, i, -2):
                if j > 8 and i > 4:
                    break
                total += i * j
        k = 0
        while k < n:
            k = k + 2
            total += k
        assert call(n, out) == (-total if n < 15 else total)
        assert out[0] == n - 1
