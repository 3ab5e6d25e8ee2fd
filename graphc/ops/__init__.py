"""The primitives: one record each, by family. ``ops.OPS`` is the registry by name; an op is called to make a node."""

from __future__ import annotations

from graphc.ops.arithmetic import (
    abs_, add, alias, atan2, barrier, bit_and, bit_not, bit_or, bit_xor, cast, ceil, convert, cos, div, eq, erf, exp, expm1,
    floor, floor_divide, ge, gt, integer_pow, iota, isfinite, isnan, le, like, log, log1p, lt, maximum, minimum, mul,
    ne, neg, pow_, remainder, rint, rsqrt, select, shift_left, shift_right, sigmoid, sign, sin, sqrt, stop_gradient,
    sub, tanh, trunc,
)  # fmt: skip
from graphc.ops.base import OPS, add_all, const, constant, constant_value, define, full, with_batch_axis, zeros
from graphc.ops.complex import (
    cacos, cacosh, casin, casinh, catan, catanh, complex_, conj, creciprocal, imag, over_i, real, times_i,
    view_as_complex, view_as_real,
)  # fmt: skip
from graphc.ops.contraction import dot, matmul
from graphc.ops.cumulative import cummax, cummin, cumprod, cumsum, recurrence
from graphc.ops.elementary import (
    acos, acosh, asin, asinh, atan, atanh, bitcast, cbrt, cosh, exp2, fmod, log2, log10, logaddexp, sinh, tan,
)  # fmt: skip
from graphc.ops.decompositions import (
    diagonal, diagonal_matrix, eigh, eigvalsh, identity, lu, qr, safe_reciprocal, svd, svdvals,
)  # fmt: skip
from graphc.ops.indexing import (
    add_along_axis, dynamic_slice, dynamic_update_slice, gather, scatter, take_along_axis,
)  # fmt: skip
from graphc.ops.linalg import cholesky, triangle, triangle_mask, triangular_solve
from graphc.ops.movement import (
    broadcast, broadcast_numpy, broadcast_to, concatenate, move_axis, pad, reshape, reshape_to, slice_, transpose,
    transpose_to,
)  # fmt: skip
from graphc.ops.random import random_bits
from graphc.ops.reduction import (
    argmax, argmin, expand, mean, reduce_and, reduce_max, reduce_min, reduce_or, reduce_prod, reduce_sum,
)  # fmt: skip
from graphc.ops.segments import segment_reduce, segments
from graphc.ops.sorting import argsort, sort, top_k
from graphc.ops.structure import item, items
from graphc.ops.systems import cofactor, det, inverse, nonsingular, pinv, slogdet, solve
from graphc.ops.window import conv, reduce_window, window_argmax, window_scatter

__all__ = [
    "OPS", "abs_", "acos", "acosh", "add", "add_all", "add_along_axis", "alias", "argmax", "argmin", "argsort",
    "asin", "asinh", "atan", "atan2", "atanh", "barrier", "bit_and", "bit_not", "bit_or", "bit_xor", "bitcast",
    "broadcast", "broadcast_numpy", "broadcast_to", "cacos", "cacosh", "casin", "casinh", "cast", "catan", "catanh",
    "cbrt", "ceil", "cholesky", "cofactor", "complex_", "concatenate", "conj", "const", "constant", "constant_value",
    "conv", "convert", "cos", "cosh", "creciprocal", "cummax", "cummin", "cumprod", "cumsum", "define", "det",
    "diagonal", "diagonal_matrix", "div", "dot", "dynamic_slice", "dynamic_update_slice", "eigh", "eigvalsh", "eq",
    "erf", "exp", "exp2", "expand", "expm1", "floor", "floor_divide", "fmod", "full", "gather", "ge", "gt",
    "identity", "imag", "integer_pow", "inverse", "iota", "isfinite", "isnan", "item", "items", "le", "like", "log",
    "log10", "log1p", "log2", "logaddexp", "lt", "lu", "matmul", "maximum", "mean", "minimum", "move_axis", "mul", "ne", "neg",
    "nonsingular", "over_i", "pad", "pinv", "pow_", "qr", "random_bits", "real", "recurrence", "reduce_and",
    "reduce_max", "reduce_min", "reduce_or", "reduce_prod", "reduce_sum", "reduce_window", "remainder", "reshape",
    "reshape_to", "rint", "rsqrt", "safe_reciprocal", "scatter", "segment_reduce", "segments", "select", "shift_left",
    "shift_right", "sigmoid", "sign", "sin", "sinh", "slice_", "slogdet", "solve", "sort", "sqrt", "stop_gradient", "sub", "svd",
    "svdvals",
    "take_along_axis", "tan", "tanh", "times_i", "top_k", "transpose", "transpose_to", "triangle", "triangle_mask",
    "triangular_solve", "trunc", "view_as_complex", "view_as_real", "window_argmax", "window_scatter",
    "with_batch_axis", "zeros",
]  # fmt: skip
