"""Sums, means, extremes and selection; arrays of given shapes."""

from __future__ import annotations

import numpy as np

import graphc.numpy as gnp
from cases import case, floats, mask

A = floats(3, 4)

CASES = [
    case("np.mean", lambda x: np.mean(x, axis=1), A),
    case("np.sum", lambda x: x.sum(0), A),
    case("np.var", lambda x: np.var(x, axis=0, ddof=1), A),
    case("np.argmax", lambda x: np.argmax(x, axis=0), A, grad=0),
    case("np.where", lambda x, y: np.where(x > 0, x, y), A, floats(4)),
    case("np.all", lambda x: np.all(x > -1.5, axis=1, keepdims=True), A, grad=0),
    case("np.all", lambda x: np.all(x, axis=0, where=np.array([True, False, False, True])), A, grad=0),
    case("np.all", lambda m: m.all(), mask(3, 4)),
    case("np.any", lambda x: np.any(x > 1.5, axis=(0, 1)), A, grad=0),
    case("np.amax", lambda x: np.amax(x, axis=0, initial=0.5), A),
    case("np.amin", lambda x: np.amin(x, axis=1, keepdims=True), A),
    case("np.min", lambda x: x.min(axis=-1), A),
    case("np.max", lambda x: np.max(x, axis=0, where=np.array([[True], [False], [True]]), initial=-5), A, kinds="if"),
    case("np.around", lambda x: np.around(x, 1), A, grad=0),
    case("np.astype", lambda x: np.astype(x, np.float32), A, grad=0),
    case("np.copy", lambda x: np.copy(x) * 2, A),
    case("np.imag", lambda x: np.imag(x) + x, A),
    case("np.zeros_like", lambda x: np.zeros_like(x) + x, A),
    case("np.ones_like", lambda x: np.ones_like(x, shape=(4,)) * x, A),
    case("np.empty_like", lambda x: np.empty_like(x).shape[0] * x, A),
    case("np.zeros", lambda x: gnp.zeros((3, 1), x.dtype) + x, A),
    case("np.ones", lambda x: gnp.ones(4) * x, A),
    case("np.empty", lambda x: gnp.empty((2, 3)).size * x, A),
    case("np.eye", lambda x: gnp.eye(3, 4, 1) * x, A),
    case("np.identity", lambda x: gnp.identity(3) @ x, A, rtol=1e-11),
    case("np.arange", lambda x: gnp.arange(4.0) * x, A),
    case("np.arange", lambda x: np.arange(1.0, 8, 2, like=x) + x, A, expect=lambda x: np.arange(1.0, 8, 2) + x),
    case("np.fromiter", lambda x: np.fromiter([1.0, 2.0, 3.0, 4.0], float, like=x) * x, A,
         expect=lambda x: np.fromiter([1.0, 2.0, 3.0, 4.0], float) * x),
]  # fmt: skip
