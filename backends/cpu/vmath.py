"""Elementwise functions on vectors of 16 lanes, written as LLVM IR once per process and inlined into kernels.

Floating point functions are within 2 ulp of the exact result for f32 and f64 on hosts with FMA (ndtr 2.5), within 2.7
elsewhere (tan 4.1); :mod:`graphc.backends.cpu.accuracy` has the bounds, and what was measured. They are right at +-0, +-inf,
NaN, subnormals and at the ends of their ranges, call no library, and give the same bits on every host with FMA.
Integer functions have NumPy's meaning
(division by zero gives 0, ``INT_MIN // -1`` wraps, shifts by the width or more give 0 or -1).

Each function of the modules named below takes and returns :class:`~graphc.backends.cpu.simd.Value`, so they compose;
``@elementwise`` also makes it a function of the kernel language. The polynomials are weighted minimax fits, coefficients
rounded one after another to the precision; the comment beside each gives interval and error.

Sources: W. Cody and W. Waite, Software Manual for the Elementary Functions (1980); the argument reductions of fdlibm
and SLEEF (N. Shibata); J. Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (2011).
"""

from __future__ import annotations

from graphc.backends.cpu import vmath_arithmetic, vmath_exp, vmath_power, vmath_trig

__all__ = ["vmath_arithmetic", "vmath_exp", "vmath_power", "vmath_trig"]
