"""Random numbers with an explicit key: a counter-based generator, the same bits on every backend and machine.

A key is a ``u32[2]`` array. :func:`split` makes new keys from one; a key is used once. The generator is Threefry-2x32
with 20 rounds (Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*, 2011).

>>> from graphc import random
>>> k = random.key(0)
>>> a, b = random.split(k)
>>> random.uniform(a, (2, 3)).shape
(2, 3)
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import Node
from graphc.tracing import Tracer, to_node, wrap
from graphc.transforms import concrete_or_traced
from graphc.types import TensorType, dtype, f32, f64, u32


def key(seed: int) -> np.ndarray:
    """A key from an integer of up to 64 bits.

    >>> key(1)
    array([0, 1], dtype=uint32)
    """
    seed = operator.index(seed) & (1 << 64) - 1
    return np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32)


def _shape(shape: Any) -> tuple[int, ...]:
    return tuple(map(operator.index, [shape] if isinstance(shape, (int, np.integer)) else shape))


def _key(key: Any) -> Node:
    node = to_node(key)
    if node.type != TensorType(u32, (2,)):
        raise TypeError(f"a random key is u32[2] (make one with graphc.random.key(seed)), not {node.type}")
    return node


def _bits(key: Any, shape: tuple[int, ...]) -> Node:
    return ops.random_bits(_key(key), shape=shape)


def split(key: Any, count: int = 2) -> tuple[Any, ...]:
    """``count`` new keys, independent of each other and of ``key``'s own stream.

    >>> [k.tolist() for k in split(key(7))] == [k.tolist() for k in split(key(7))]
    True
    """

    def split_key(key: Any) -> tuple[Tracer, ...]:
        words = wrap(_bits(_fold(key, 0x9E3779B9), (count, 2)))
        return tuple(words[k] for k in range(count))

    return concrete_or_traced(split_key)(key)


def _fold(key: Any, data: int) -> Node:
    """A key made of ``key`` and a number: another stream."""
    node = _key(key)
    return ops.bit_xor(node, ops.const(np.array([data & 0xFFFFFFFF, (data * 0x85EBCA6B) & 0xFFFFFFFF], np.uint32)))


def bits(key: Any, shape: Any = ()) -> Any:
    """Uniform u32 words.

    >>> bits(key(0), 2).dtype
    dtype('uint32')
    """
    return concrete_or_traced(lambda key: wrap(_bits(key, _shape(shape))))(key)


#: element type → how many bits a uniform float of it has: as many as fit without rounding up to 1
_BITS = {"bf16": 8, "f16": 11, "f32": 24}


def _unit(key: Any, shape: tuple[int, ...], element: Any) -> Node:
    """Uniform floats in [0, 1): multiples of 2^-24 for f32, 2^-53 for f64."""
    if element is f64:
        words, zero = _bits(key, (2, *shape)), (0,) * len(shape)
        parts = [
            ops.reshape_to(ops.slice_(words, start=(k, *zero), size=(1, *shape), step=(1,) * (len(shape) + 1)), shape)
            for k in range(2)
        ]
        high = ops.convert(ops.shift_right(parts[0], ops.full(parts[0].type, 5)), f64)
        low = ops.convert(ops.shift_right(parts[1], ops.full(parts[1].type, 6)), f64)
        return ops.mul(
            ops.add(ops.mul(high, ops.like(high, 67108864.0)), low), ops.like(high, 1.0 / 9007199254740992.0)
        )
    word, bits = _bits(key, shape), _BITS[element.name]
    value = ops.convert(ops.shift_right(word, ops.full(word.type, 32 - bits)), f32)
    return ops.convert(ops.mul(value, ops.like(value, 1.0 / (1 << bits))), element)


def uniform(key: Any, shape: Any = (), dtype: Any = "f32", low: float = 0.0, high: float = 1.0) -> Any:
    """Floats uniform in ``[low, high)``; ``low`` and ``high`` are numbers.

    >>> bool((uniform(key(1), 100) < 1).all())
    True
    """
    element, low, high = _float(dtype), float(low), float(high)
    if not low < high:
        raise ValueError(f"uniform: the range [{low}, {high}) is empty")

    def draw(key: Any) -> Any:
        unit = wrap(_unit(key, _shape(shape), element))
        if (low, high) == (0.0, 1.0):
            return unit
        value = unit * (high - low) + low
        return np.where(value < high, value, np.asarray(low, element.numpy))  # the sum may round up to high

    return concrete_or_traced(draw)(key)


def _float(spec: Any) -> Any:
    element = dtype(spec)
    if not element.is_float:
        raise TypeError(f"random floats cannot be of type {element}")
    return element


def normal(key: Any, shape: Any = (), dtype: Any = "f32") -> Any:
    """Standard normal floats (Box and Muller 1958)."""
    element = _float(dtype)

    def draw(key: Any) -> Tracer:
        wide = element if element is f64 else f32
        pair = wrap(_unit(key, (2, *_shape(shape)), wide))
        radius = np.sqrt(-2 * np.log1p(-pair[0]))
        return (radius * np.cos(2 * math.pi * pair[1])).astype(element.numpy)

    return concrete_or_traced(draw)(key)


def bernoulli(key: Any, p: Any = 0.5, shape: Any = None) -> Any:
    """Bools that are True with probability ``p`` (a number or an array); the shape is that of ``p`` by default.

    >>> bernoulli(key(0), np.array([0.0, 1.0]))
    array([False,  True])
    """
    wanted = np.shape(p) if shape is None else _shape(shape)
    return concrete_or_traced(lambda key, p: wrap(_unit(key, wanted, f32)) < p)(key, p)


def randint(key: Any, shape: Any, low: int, high: int) -> Any:
    """i64 integers in ``[low, high)``, ``high - low`` at most 2^32 (by multiplication of the high word, Lemire 2019).

    >>> sorted(set(randint(key(0), 100, 1, 7).tolist()))
    [1, 2, 3, 4, 5, 6]
    """
    low, high = operator.index(low), operator.index(high)
    if not 0 < high - low <= 1 << 32:
        raise ValueError(f"randint: the range {low}..{high} must hold 1 to 2^32 integers")

    def draw(key: Any) -> Tracer:
        word = wrap(_bits(key, _shape(shape))).astype(np.uint64)
        return ((word * np.uint64(high - low)) >> np.uint64(32)).astype(np.int64) + low

    return concrete_or_traced(draw)(key)


def permutation(key: Any, n: int) -> Any:
    """A random order of ``range(n)``, i64: the order of n random 64-bit numbers.

    >>> sorted(permutation(key(0), 5).tolist())
    [0, 1, 2, 3, 4]
    """

    def draw(key: Any) -> Any:
        words = wrap(_bits(key, (2, operator.index(n)))).astype(np.uint64)
        return np.argsort(words[0] << np.uint64(32) | words[1], kind="stable")

    return concrete_or_traced(draw)(key)
