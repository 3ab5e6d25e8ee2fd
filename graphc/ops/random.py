"""Random bits from a counter: a pure function of an explicit key. Everything else that is random is a composite of it.

The cipher is Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror and Shaw 2011, *Parallel random numbers: as easy as
1, 2, 3*). Element number i (C order, 64 bits) is one block of its own, with the counter ``(i >> 32, i & 0xffffffff)``;
its bits are the exclusive or of the block's two words. Elements depend on nothing but the key and their number, so any
part of a result can be computed alone. These are the bits of ``jax.random.bits`` (``jax_threefry_partitionable``).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.ir import GraphError, Op
from graphc.ops.base import define
from graphc.types import TensorType, Type, u32

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def threefry2x32(k0: Any, k1: Any, x0: Any, x1: Any) -> tuple[Any, Any]:
    """The two words of the block with key ``(k0, k1)`` and counter ``(x0, x1)``, all uint32 arrays that broadcast.

    >>> zero = np.zeros(1, np.uint32)
    >>> [hex(word[0]) for word in threefry2x32(zero, zero, zero, zero)]
    ['0x6b200159', '0x99ba4efe']
    """
    keys = (k0, k1, k0 ^ k1 ^ np.uint32(PARITY))
    with np.errstate(over="ignore"):
        x0, x1 = x0 + keys[0], x1 + keys[1]
        for group in range(5):
            for rotation in ROTATIONS[group % 2]:
                x0 = x0 + x1
                x1 = x0 ^ ((x1 << np.uint32(rotation)) | (x1 >> np.uint32(32 - rotation)))
            x0 = x0 + keys[(group + 1) % 3]
            x1 = x1 + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x0, x1


def _random_bits_type(key: TensorType, shape: tuple[int, ...]) -> Type:
    if not isinstance(key, TensorType) or key.dtype is not u32 or key.shape[-1:] != (2,):
        raise GraphError(f"random_bits: a key is u32[2] (or several, u32[..., 2]), not {key}")
    if any(n < 0 for n in shape):
        raise GraphError(f"random_bits: {shape} is no shape")
    return TensorType(u32, (*key.shape[:-1], *shape))


def _random_bits_eval(key: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    number = np.arange(math.prod(shape), dtype=np.uint64)
    counter = (number >> np.uint64(32)).astype(np.uint32), number.astype(np.uint32)
    y0, y1 = threefry2x32(key[..., 0, None], key[..., 1, None], *counter)
    return (y0 ^ y1).reshape((*key.shape[:-1], *shape))


#: ``random_bits(key, shape=)``: u32 of ``shape``, every bit uniform. With keys u32[*B, 2] the result is u32[*B,
#: *shape], each key counting from 0.
random_bits: Op = define(
    Op(
        "random_bits",
        "random",
        infer=_random_bits_type,
        eval=_random_bits_eval,
        vjp=lambda ct, out, key, shape: (None,),
        jvp=lambda tangents, out, key, shape: None,
        batch=lambda size, flags, key, shape: random_bits(key, shape=shape),
    )
)

__all__ = ["random_bits", "threefry2x32"]
