"""Random numbers with explicit keys: the same everywhere, of the right distribution, and inside the range asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
from compare import traced

import graphc
from graphc import random

KEY = random.key(42)


def test_keys() -> None:
    assert random.key(0).tolist() == [0, 0] and random.key(2**32 + 5).tolist() == [1, 5]
    assert random.key(-1).tolist() == [2**32 - 1] * 2 and random.key(0).dtype == np.uint32
    keys = [k.tolist() for k in random.split(KEY, 50)]
    assert len({tuple(k) for k in [*keys, KEY.tolist()]}) == 51
    assert [k.tolist() for k in random.split(KEY)] == keys[:2], "keys do not depend on how many are asked for"
    for bad in (np.zeros(3, np.uint32), np.zeros(2), 0):
        with pytest.raises(TypeError, match=r"a random key is u32\[2\] \(make one with graphc.random.key\(seed\)\)"):
            random.uniform(bad)


DRAWS: dict[str, Any] = {
    "bits": lambda key: random.bits(key, (3, 4)),
    "uniform": lambda key: random.uniform(key, (3, 4)),
    "uniform f64": lambda key: random.uniform(key, 5, "f64", -2, 3),
    "normal": lambda key: random.normal(key, (3, 4)),
    "bernoulli": lambda key: random.bernoulli(key, 0.3, (3, 4)),
    "randint": lambda key: random.randint(key, (3, 4), -5, 5),
    "permutation": lambda key: random.permutation(key, 7),
    "split": lambda key: random.split(key, 3),
    "scalar": lambda key: random.normal(key),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_functions_of_the_key(name: str) -> None:
    draw = DRAWS[name]
    one, again, other = draw(KEY), draw(KEY), draw(random.key(43))
    inside = traced(draw, KEY)
    for a, b, c, d in zip(*[graphc.tree.flatten(v)[0] for v in (one, again, inside, other)], strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
        assert a.dtype == c.dtype and a.shape == c.shape
        assert not np.array_equal(a, d)
    keys = np.stack(random.split(KEY, 3))
    batched = graphc.tree.flatten(graphc.vmap(draw)(keys))[0]
    for k in range(3):
        for whole, single in zip(batched, graphc.tree.flatten(draw(keys[k]))[0], strict=True):
            np.testing.assert_array_equal(whole[k], single)


def test_known_bits() -> None:
    """Threefry-2x32-20 of counter 0 under key 0, both words combined; see graphc.ops.random."""
    assert int(random.bits(random.key(0), 1)[0]) == 0x6B200159 ^ 0x99BA4EFE


def test_types_and_shapes() -> None:
    for dtype in ("f16", "bf16", "f32", "f64"):
        assert graphc.types.dtype(random.uniform(KEY, 3, dtype).dtype).name == dtype
        assert graphc.types.dtype(random.normal(KEY, (2, 3), dtype).dtype).name == dtype
    assert random.uniform(KEY).shape == () and random.normal(KEY, 0).shape == (0,)
    assert random.randint(KEY, (2,), 0, 9).dtype == np.int64 and random.permutation(KEY, 0).shape == (0,)
    with pytest.raises(TypeError, match="random floats cannot be of type i32"):
        random.uniform(KEY, 3, np.int32)


def test_ranges_are_half_open() -> None:
    for dtype in ("f16", "bf16", "f32", "f64"):
        for low, high in ((0, 1), (1, 2), (-3, 5), (1000, 1001)):
            draw = np.asarray(random.uniform(KEY, 20_000, dtype, low, high)).astype(np.float64)
            assert draw.min() >= low and draw.max() < high, (dtype, low, high)
    assert set(random.randint(KEY, 1000, -2, 2).tolist()) == {-2, -1, 0, 1}
    assert set(random.randint(KEY, 10, 7, 8).tolist()) == {7}
    assert random.randint(KEY, 1000, 0, 2**32).max() > 2**31
    for low, high in ((1, 1), (0, 2**32 + 1)):
        with pytest.raises(ValueError, match="must hold 1 to"):
            random.randint(KEY, 1, low, high)
    with pytest.raises(ValueError, match="empty"):
        random.uniform(KEY, 1, low=2, high=1)


def test_distributions() -> None:
    n = 20_000
    assert scipy.stats.kstest(random.uniform(KEY, n, "f64"), "uniform").pvalue > 1e-3
    assert scipy.stats.kstest(random.uniform(KEY, n), "uniform").pvalue > 1e-3
    for dtype in ("f32", "f64"):
        assert scipy.stats.kstest(random.normal(KEY, n, dtype), "norm").pvalue > 1e-3
    counts = np.bincount(random.randint(KEY, n, 0, 10), minlength=10)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    assert abs(random.bernoulli(KEY, 0.3, n).mean() - 0.3) < 0.015
    first = np.bincount([int(random.permutation(k, 4)[0]) for k in random.split(KEY, 400)], minlength=4)
    assert scipy.stats.chisquare(first).pvalue > 1e-3
    assert sorted(random.permutation(KEY, 1000).tolist()) == list(range(1000))
    a, b = (random.normal(k, n, "f64") for k in random.split(KEY))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03


def test_bernoulli_takes_arrays() -> None:
    p = np.array([[0.0, 1.0, 0.5]] * 200)
    draw = random.bernoulli(KEY, p)
    assert draw.shape == p.shape and not draw[:, 0].any() and draw[:, 1].all() and 50 < draw[:, 2].sum() < 150


def test_draws_inside_a_differentiated_function() -> None:
    def loss(w: Any, key: Any) -> Any:
        noise, mask = random.split(key)
        return ((w + random.normal(noise, 3, "f64")) * random.bernoulli(mask, 0.5, 3)).sum()

    np.testing.assert_array_equal(graphc.grad(loss)(np.ones(3), KEY), random.bernoulli(random.split(KEY)[1], 0.5, 3))
