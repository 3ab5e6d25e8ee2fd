"""How far the CPU's elementwise functions may be from the exact result, in units in the last place.

``F32`` is checked over all 2^32 inputs by tests/exhaustive_math.py and on a sample by the suite, ``F64`` on a sample. Both
hold on hosts with FMA; without it the primitives stay within 2.7 (tan 4.1).
"""

from __future__ import annotations

_PRIMITIVES = (
    "exp exp2 expm1 log log2 log10 log1p sqrt rsqrt cbrt tanh sigmoid sinh cosh asinh acosh atanh erf erfc sin cos tan "
    "asin acos atan"
).split()
_COMPOSITIONS = "softplus silu gelu gelu_tanh".split()

F32: dict[str, float] = dict.fromkeys(_PRIMITIVES, 2.0) | dict.fromkeys(_COMPOSITIONS, 4.0)
F64: dict[str, float] = dict(F32)
