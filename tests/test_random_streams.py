"""Streams of random bits: independent of each other, the same for every backend and number of threads; what is no key."""

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
    "split": lambda k: np.stack(random.split(k, 3)),
    "after split": lambda k: random.bits(random.split(k)[1], 40),
}


def by_hand(key, count):
    """The words that the definition gives: one block per element, its two words combined."""
    zero, number = np.zeros(count, np.uint32), np.arange(count, dtype=np.uint32)
    first, second = threefry2x32(np.full(count, key[0]), np.full(count, key[1]), zero, number)
    return first ^ second


@pytest.mark.parametrize("seed", [0, 1, 2**40 + 9])
def test_bits_are_those_of_the_definition(seed):
    key = random.key(seed)
    np.testing.assert_array_equal(random.bits(key, 500), by_hand(key, 500))
    np.testing.assert_array_equal(random.bits(key, (20, 5, 5)).ravel(), by_hand(key, 500))


def test_streams_of_split_keys_share_nothing():
    """No 64-bit word twice among 12 000 (by chance: once in 2^37 runs), and no correlation of bits at equal places."""
    keys = [KEY, *random.split(KEY, 20)]
    keys += [k for parent in keys[1:4] for k in random.split(parent, 4)]
    keys += [random.key(n) for n in range(6)]
    streams = np.array([random.bits(k, (300, 2)) for k in keys])
    words = streams[..., 0].astype(np.uint64) << np.uint64(32) | streams[..., 1]
    assert np.unique(words).size == words.size
    flips = np.bitwise_count(streams[0] ^ streams[1:])
    assert abs(flips.mean() - 16) < 5 * np.sqrt(8 / flips.size)


@pytest.fixture(scope="module")
def reference():
    return graphc.compile(lambda k: {n: draw(k) for n, draw in EXACT.items()}, backend="reference")(KEY)


@pytest.mark.parametrize("threads", [1, 2])
def test_every_backend_and_number_of_threads_gives_the_same_bits(reference, threads):
    found = graphc.compile(lambda k: {n: draw(k) for n, draw in EXACT.items()}, backend="cpu", threads=threads)(KEY)
    for name, draw in EXACT.items():
        for other in (reference[name], draw(KEY)):
            assert found[name].dtype == other.dtype, name
            np.testing.assert_array_equal(found[name], other, err_msg=name)


def test_normal_numbers_agree_between_backends():
    def draw(key):
        return random.normal(key, 300), random.normal(key, 300, "f64")

    ours, exact = (graphc.compile(draw, backend=backend)(KEY) for backend in ("cpu", "reference"))
    for a, b, tolerance in zip(ours, exact, (3e-6, 1e-13), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_moments(seed, dtype):
    key, n = random.key(seed), 20000
    x = random.uniform(key, n, dtype).astype(np.float64)
    assert abs(x.mean() - 0.5) < 5 / np.sqrt(12 * n)
    assert abs(x.var() - 1 / 12) < 5 / np.sqrt(180 * n)
    assert stats.kstest(x, "uniform").pvalue > 1e-4
    x = random.normal(key, n, dtype).astype(np.float64)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((x**power).mean() - moment) < 5 * np.sqrt(variance / n), power


@pytest.mark.parametrize("n", [1, 7, 64])
def test_integers_are_equally_likely(n):
    counts = np.bincount(random.randint(KEY, 20000, -3, n - 3) + 3, minlength=n)
    assert len(counts) == n and (n == 1 or stats.chisquare(counts).pvalue > 1e-4)


def test_orders_are_equally_likely():
    orders = graphc.vmap(lambda k: random.permutation(k, 3))(np.array(random.split(KEY, 1200)))
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 6 and stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize(
    "key", [0, 1.0, np.zeros(2), np.zeros(2, np.int32), np.zeros(3, np.uint32), np.zeros((2, 2), np.uint32)], ids=str
)
@pytest.mark.parametrize("name", EXACT)
def test_what_is_no_key_is_refused(name, key):
    """``split`` too, by the same message."""
    with pytest.raises(TypeError, match=r"a random key is u32\[2\] \(make one with graphc.random.key"):
        EXACT[name](key)


def test_seeds_and_shapes_are_integers():
    for wrong in (lambda: random.key(1.5), lambda: random.bits(KEY, (2.5,)), lambda: random.bits(KEY, 2.0)):
        with pytest.raises(TypeError):
            wrong()
    assert random.key(np.int32(4)).tolist() == [0, 4]
    assert random.bits(KEY, np.int64(3)).shape == (3,) and random.bits(KEY, [2, 0]).shape == (2, 0)
