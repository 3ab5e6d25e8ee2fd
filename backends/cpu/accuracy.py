"""How far the CPU's elementwise functions may be from the exact result, in units in the last place.

Primitives are functions of kernels; compositions are those of graphc.nn, compared with the same formula of exact numbers.
The bounds hold on hosts with FMA; without it the primitives stay within 2.7 (tan 4.1). tests/exhaustive_math.py checks
``F32`` over all 2^32 inputs, the suite both on samples. The first number behind a name is the largest error that was found
for f32: over all inputs where it has a star, else over each 64th block of 2^18 inputs.

exp 0.98*, exp2 0.90*, expm1 1.84*, log 0.93*, log2 0.95*, log10 0.98*, log1p 1.27*, sqrt 0.50, rsqrt 1.49*, cbrt 0.82*,
tanh 1.50*, sigmoid 1.48*, sinh 1.62*, cosh 1.54*, asinh 1.92*, acosh 2.001*, atanh 1.52*, erf 1.12*, erfc 1.86*, ndtr 2.67*,
sin 1.56*, cos 1.55*, tan 1.89*, asin 1.34*, acos 0.91, atan 0.87; softplus 1.68*, silu 2.42*, gelu 3.36*.

A composition multiplies x by a function that falls to 0. Where that function is no normal number any more (results below
2^-119 in f32, 2^-1012 in f64), the error is counted in the units of these smallest results. ``gelu_tanh`` is
x · sigmoid(u): the rounding of u makes a relative error of up to 1.5 |u| units, so that the bound, for u down to where the
result vanishes, is wide.
"""

from __future__ import annotations

PRIMITIVES = (
    "exp exp2 expm1 log log2 log10 log1p sqrt rsqrt cbrt tanh sigmoid sinh cosh asinh acosh atanh erf erfc sin cos tan "
    "asin acos atan"
).split()
COMPOSITIONS = "softplus silu gelu gelu_tanh".split()

_BOUNDS = dict.fromkeys(PRIMITIVES, 2.0) | {"acosh": 2.01, "ndtr": 2.75, "softplus": 4.0, "silu": 4.0, "gelu": 4.0}
F32: dict[str, float] = _BOUNDS | {"gelu_tanh": 200.0}
F64: dict[str, float] = _BOUNDS | {"gelu_tanh": 1500.0}
