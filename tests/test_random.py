"""graphc.random: streams that are independent, distributions, and the same bits wherever they are computed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import graphc
from graphc import random
from graphc.ops.random import threefry2x32

KEY = random.key(7)
#: name → a draw from a key, whose bits are exact on every backend
EXACT = {
    "bits": lambda k: random.bits(k, (3, 33)),
    "uniform f32": lambda k: random.uniform(k, (101,)),
    "uniform f64": lambda k: random.uniform(k, (101,), "f64"),
    "bernoulli": lambda k: random.bernoulli(k, 0.3, (101,)),
    "randint": lambda k: random.randint(k, (101,), -5, 6),
    "permutation": lambda k: random.permutation(k, 50),
    "split": lambda k: random.split(k, 3),
    "after split": lambda k: random.bits(random.split(k)[1], 40),
}


def by_hand(key, count):
    """The words that the definition gives: one block per element, its two words xor-ed."""
    zero, number = np.zeros(count, np.uint32), np.arange(count, dtype=np.uint32)
    first, second = threefry2x32(np.full(count, key[0]), np.full(count, key[1]), zero, number)
    return first ^ second


# ------------------------------------------------------------------------------------------------ keys


@pytest.mark.parametrize(
    ("seed", "words"), [(0, [0, 0]), (5, [0, 5]), (2**32 + 3, [1, 3]), (-1, [2**32 - 1] * 2), (2**64 - 1, [2**32 - 1] * 2)]
)
def test_a_key_holds_the_words_of_its_seed(seed, words):
    key = random.key(seed)
    assert key.dtype == np.uint32 and key.tolist() == words


def test_a_seed_is_an_integer_of_64_bits():
    with pytest.raises(TypeError):
        random.key(1.5)
    with pytest.raises(ValueError, match="more than 64 bits"):
        random.key(2**64)
    assert random.key(np.int32(4)).tolist() == [0, 4]


@pytest.mark.parametrize(
    "key", [0, 1.0, np.zeros(2), np.zeros(2, np.int32), np.zeros(3, np.uint32), np.zeros((2, 2), np.uint32)], ids=str
)
@pytest.mark.parametrize(
    "draw", [random.bits, random.split, random.uniform, random.normal, random.bernoulli, lambda k: random.randint(k, 2, 0, 3)]
)
def test_what_is_no_key_is_refused(draw, key):
    with pytest.raises(TypeError, match="a random key is u32\\[2\\]"):
        draw(key)


def test_split_keys_are_new_and_differ():
    keys = random.split(KEY, 200)
    assert len({tuple(k.tolist()) for k in (KEY, *keys)}) == 201
    assert all(k.dtype == np.uint32 and k.shape == (2,) for k in keys)
    again = random.split(KEY, 200)
    assert all((a == b).all() for a, b in zip(keys, again, strict=True))


def test_streams_of_split_keys_share_nothing():
    """Among m random words about m²/2³³ pairs are equal: with 64-bit words none is."""
    keys = [KEY, *random.split(KEY, 30)]
    keys += [k for parent in keys[1:6] for k in random.split(parent, 6)]
    keys += [random.key(n) for n in range(6)]
    streams = np.array([random.bits(k, (400, 2)) for k in keys]).astype(np.uint64)
    words = streams[..., 0] << np.uint64(32) | streams[..., 1]
    assert np.unique(words).size == words.size
    positions = streams[..., 0]  # the same place in two streams: correlated no more than chance
    flips = np.array([bin(int(a) ^ int(b)).count("1") for a, b in zip(positions[0], positions[1], strict=True)])
    assert abs(flips.mean() - 16) < 5 * np.sqrt(8 / len(flips))


# ------------------------------------------------------------------------------------------------ bits


@pytest.mark.parametrize("seed", [0, 1, 2**40 + 9])
def test_bits_are_those_of_the_definition(seed):
    key = random.key(seed)
    np.testing.assert_array_equal(random.bits(key, 500), by_hand(key, 500))
    np.testing.assert_array_equal(random.bits(key, (20, 5, 5)).ravel(), by_hand(key, 500))


def test_a_longer_draw_begins_with_a_shorter_one():
    np.testing.assert_array_equal(random.bits(KEY, 100)[:9], random.bits(KEY, 9))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), 4, np.int64(3), [2, 3]], ids=str)
def test_shapes(shape):
    want = np.empty(shape).shape
    for draw in (random.bits, random.uniform, random.normal, lambda k, s: random.bernoulli(k, 0.5, s)):
        assert np.shape(draw(KEY, shape)) == want
    assert np.shape(random.randint(KEY, shape, 0, 9)) == want


def test_a_shape_is_of_integers():
    with pytest.raises(TypeError):
        random.bits(KEY, (2.5,))


def on(backend, threads=None):
    compiled = graphc.compile(lambda k: {n: draw(k) for n, draw in EXACT.items()}, backend=backend, threads=threads)
    return compiled(KEY)


@pytest.fixture(scope="module")
def reference():
    return on("reference")


@pytest.mark.parametrize("threads", [1, 2])
def test_every_backend_and_thread_count_gives_the_same_bits(reference, threads):
    found = on("cpu", threads)
    for name, draw in EXACT.items():
        for a, b, c in zip(*map(np.atleast_2d, (found[name], reference[name], draw(KEY))), strict=True):
            assert a.dtype == b.dtype == c.dtype, name
            np.testing.assert_array_equal(a, b, err_msg=name)
            np.testing.assert_array_equal(a, c, err_msg=name)


def test_normal_numbers_agree_between_backends():
    draw = lambda k: (random.normal(k, 300), random.normal(k, 300, "f64"))  # noqa: E731
    for a, b, tolerance in zip(
        graphc.compile(draw, backend="cpu")(KEY), graphc.compile(draw, backend="reference")(KEY), (3e-6, 1e-13), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", sorted(EXACT))
def test_vmap_over_keys(name):
    draw = EXACT[name]
    keys = np.array(random.split(KEY, 4))
    got = graphc.vmap(draw)(keys)
    each = [draw(k) for k in keys]
    parts = zip(got, zip(*each, strict=True), strict=True) if isinstance(got, tuple) else [(got, each)]
    for g, e in parts:
        np.testing.assert_array_equal(g, np.array(e))


# ------------------------------------------------------------------------------------------------ distributions


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_uniform(seed, dtype):
    x = random.uniform(random.key(seed), 20000, dtype)
    assert x.dtype == np.dtype({"f32": "f4", "f64": "f8"}[dtype])
    assert 0 <= x.min() and x.max() < 1
    assert abs(x.mean(dtype=np.float64) - 0.5) < 5 / np.sqrt(12 * x.size)
    assert abs(x.var(dtype=np.float64) - 1 / 12) < 5 / np.sqrt(180 * x.size)
    assert stats.kstest(x.astype(np.float64), "uniform").pvalue > 1e-4


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64"])
def test_uniform_never_reaches_its_end(dtype, monkeypatch):
    """Also for the largest word, and where the scaled number would be rounded up."""
    from graphc import ops

    monkeypatch.setattr(random, "_bits", lambda key, shape: ops.full(graphc.ir.TensorType(graphc.types.u32, shape), 2**32 - 1))
    for low, high in ((0.0, 1.0), (1.0, 2.0), (-3.0, -2.0), (100.0, 100.5), (2.0, 4.0)):
        x = float(random.uniform(KEY, (), dtype, low, high))
        assert low <= x < high, (x, low, high)


def test_uniform_between_bounds():
    x = random.uniform(KEY, 20000, "f64", -2.0, 3.0)
    assert stats.kstest(x, stats.uniform(-2, 5).cdf).pvalue > 1e-4
    for dtype in ("f16", "bf16"):
        x = random.uniform(KEY, 20000, dtype).astype(np.float64)
        assert abs(x.mean() - 0.5) < 0.01 and x.max() < 1


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_normal(seed, dtype):
    x = random.normal(random.key(seed), 20000, dtype).astype(np.float64)
    error = 5 / np.sqrt(x.size)
    assert abs(x.mean()) < error
    assert abs(x.var() - 1) < error * np.sqrt(2)
    assert abs((x**3).mean()) < error * np.sqrt(15)
    assert abs((x**4).mean() - 3) < error * np.sqrt(96)
    assert stats.kstest(x, "norm").pvalue > 1e-4


@pytest.mark.parametrize("draw", [random.uniform, random.normal])
def test_random_floats_are_floats(draw):
    with pytest.raises(TypeError, match="random floats cannot be of type i32"):
        draw(KEY, 3, "i32")
    assert draw(KEY, 3, np.float16).dtype == np.float16


@pytest.mark.parametrize("p", [0.0, 0.03, 0.5, 0.9, 1.0])
def test_bernoulli(p):
    x = random.bernoulli(KEY, p, 20000)
    assert x.dtype == bool
    assert abs(x.mean() - p) <= 5 * np.sqrt(p * (1 - p) / x.size)


def test_bernoulli_of_many_probabilities():
    p = np.full(4000, 0.5)
    assert 1700 < random.bernoulli(KEY, p).sum() < 2300  # one draw for each, not one for all
    assert random.bernoulli(KEY, np.array([0.0, 1.0]), (500, 2)).sum(axis=0).tolist() == [0, 500]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 7), (-3, 3), (10, 74)])
def test_randint(low, high):
    x = random.randint(KEY, 20000, low, high)
    assert x.dtype == np.int64 and low <= x.min() and x.max() < high
    counts = np.bincount(x - low, minlength=high - low)
    assert high - low == 1 or stats.chisquare(counts).pvalue > 1e-4


def test_randint_of_the_widest_range():
    x = random.randint(KEY, 5000, -(2**31), 2**31)
    np.testing.assert_array_equal(x, by_hand(KEY, 5000).astype(np.int64) - 2**31)
    for low, high in ((3, 3), (4, 3), (0, 2**32 + 1)):
        with pytest.raises(ValueError, match="must hold 1 to 2\\^32 integers"):
            random.randint(KEY, 2, low, high)


@pytest.mark.parametrize("n", [0, 1, 2, 17, 1000])
def test_permutation(n):
    x = random.permutation(KEY, n)
    assert x.dtype == np.int64
    np.testing.assert_array_equal(np.sort(x), np.arange(n))


def test_permutations_are_equally_likely():
    keys = np.array(random.split(KEY, 1200))
    orders = graphc.vmap(lambda k: random.permutation(k, 3))(keys)
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 6 and stats.chisquare(counts).pvalue > 1e-4


def test_derivatives_pass_by_the_bits():
    """d/dx of x · noise is the noise."""
    noise = random.normal(KEY, 5, "f64")
    found = graphc.grad(lambda x: (x * random.normal(KEY, 5, "f64")).sum())(np.ones(5))
    np.testing.assert_array_equal(found, noise)
