"""Complex numbers: every ufunc that NumPy defines for them, parts, products, reductions, order, indexing, views."""

from __future__ import annotations

from typing import Any

import numpy as np

from cases import case, floats, integers, mask

SHIFTED = floats(2, 3, seed=3) + 0.3


def assigned(z: Any) -> Any:
    z = z.copy()
    z.real = z.imag * 2
    z.imag[0] = 1
    z[1:].real += 3
    z.T[0].imag *= 2
    return z


def swapped(z: Any) -> Any:
    z = z.copy()
    z.real, z.imag = z.imag.copy(), z.real.copy()
    np.conj(z, out=z)
    return z


def updated(z: Any, i: Any, v: Any) -> Any:
    z = z.copy()
    np.add.at(z, i, v)
    z[i[:1]] *= 2j
    z[0] -= v[0]
    return z


UNARY = (
    "negative positive absolute sign reciprocal square sqrt exp exp2 expm1 log log2 log10 log1p sin cos tan sinh cosh tanh "
    "arcsin arccos arctan arcsinh arccosh arctanh conjugate rint isnan isinf isfinite logical_not"
).split()
BINARY = (
    "add subtract multiply true_divide power float_power equal not_equal less less_equal greater greater_equal maximum "
    "minimum fmax fmin logical_and logical_or logical_xor"
).split()

CASES = [
    *[case(f"np.{name}", getattr(np, name), SHIFTED, kinds="c", grad=0, rtol=1e-11) for name in UNARY],
    *[case(f"np.{name}", getattr(np, name), floats(2, 3), floats(3, seed=5), kinds="c", grad=0) for name in BINARY],
    case("np.equal", lambda x, y: np.equal(np.round(x), np.round(y)), floats(4, 4), floats(4, seed=2), kinds="c", grad=0),
    case("np.less_equal", lambda x, y: np.round(x) <= np.round(y), floats(4, 4), floats(4, seed=2), kinds="c", grad=0),
    # Derivatives of programs that pass through complex numbers.
    case("np.exp", lambda x: np.abs(np.exp(1j * x) + x), floats(2, 3)),
    case("np.angle", lambda x, y: np.angle(np.exp(1j * x) * (y + 2j)), floats(3), floats(2, 3)),
    case("np.angle", lambda x: np.angle(x + 1j, deg=True), floats(2, 3)),
    case("np.angle", np.angle, floats(2, 3), kinds="biufc", grad=0),
    case("np.sqrt", lambda x: np.sqrt(x + 0j).imag, floats(2, 3), kinds="f"),
    case("np.log", lambda x: np.log(x + 0.5j).real, floats(2, 3), kinds="f"),
    case("np.sign", lambda x: np.sign(x + 0.5j).real, floats(2, 3), kinds="f"),
    case("np.multiply", lambda x, y: ((x + 1j) * (y - x * 1j)).imag, floats(2, 3), floats(2, 3, seed=2), kinds="f"),
    case("np.power", lambda x, y: np.power(x + 1j, y + 0.5j).real, floats(2, 3), floats(3, seed=2), kinds="f"),
    case("np.tanh", lambda x: np.tanh(x + 0.5j).imag + np.tan(x * 1j).imag, floats(2, 3), kinds="f"),
    case("np.arcsin", lambda x: (np.arcsin(x + 0.5j) + np.arccosh(x + 0.5j)).imag, floats(2, 3), kinds="f"),
    case("np.arctan", lambda x: (np.arctan(x + 0.5j) - np.arctanh(x * 1j)).real, floats(2, 3), kinds="f"),
    # Operators and numbers.
    case("np.ndarray", lambda z: z**2 + z**3 - z**-2 + z**0.5 + 2**z + z**0, SHIFTED, kinds="c", grad=0, rtol=1e-11),
    case("np.ndarray", lambda z: (z + 1j) / (2 - 1j * z) - 3.0 * abs(z) + -z, SHIFTED, kinds="fc", grad=0),
    case("np.ndarray", lambda z: 1j * z + np.pi, floats(3), kinds="biufc", grad=0),
    # Parts.
    case("np.real", lambda z: (np.real(z), z.real, np.imag(z), z.imag), floats(2, 3), kinds="biufc", grad=0),
    case("np.conj", lambda z: (np.conj(z), z.conj(), z.conjugate()), floats(2, 3), kinds="biufc", grad=0),
    case("np.iscomplex", lambda z: (np.iscomplex(z), np.isreal(z)), floats(2, 3), kinds="biufc", grad=0),
    case("np.iscomplexobj", lambda z: z * (2 if np.iscomplexobj(z) else 3), floats(2, 3), kinds="fc", grad=0),
    case("np.isrealobj", lambda z: z * (2 if np.isrealobj(z) else 3), floats(2, 3), kinds="fc", grad=0),
    case("np.ndarray.astype", lambda z: (z.astype(np.complex64), z.astype(np.complex128)), floats(3), kinds="biufc", grad=0),
    case("np.ndarray.astype", lambda z: (z.astype(np.float32), z.astype(bool)), floats(3), kinds="c", grad=0),
    case("np.ndarray.real", assigned, floats(3, 2), kinds="c", grad=0, batch=False),
    case("np.ndarray.imag", swapped, floats(3, 2), kinds="c", grad=0, batch=False),
    # Reductions.
    case("np.sum", lambda z: (z.sum(), z.sum(axis=0), z.sum(axis=(0, 2), keepdims=True)), floats(2, 3, 4), kinds="c", grad=0),
    case("np.prod", lambda z: (z.prod(), z.prod(axis=0), z.prod(axis=(0, 2))), floats(2, 3, 4), kinds="c", grad=0),
    case("np.prod", lambda x: np.prod(x + 1j, axis=1).real, floats(2, 5), kinds="f"),
    case("np.prod", lambda z: (z.prod(axis=0), z.sum(axis=0)), floats(0, 3), kinds="c", grad=0),
    case("np.mean", lambda z: (z.mean(), z.mean(axis=-1)), floats(2, 5), kinds="c", grad=0),
    case("np.mean", lambda z, m: np.mean(z, axis=0, where=m), floats(4, 3), mask(4, 3) | True, kinds="c", grad=0),
    case("np.var", lambda z: (z.var(), z.var(axis=0, ddof=1), z.std(axis=1)), floats(4, 5), kinds="c", grad=0),
    case("np.std", lambda x: np.std(np.exp(1j * x), axis=0), floats(4, 3), kinds="f"),
    case("np.average", lambda z, w: np.average(z, axis=0, weights=np.abs(w)), floats(4, 3), floats(4), kinds="c", grad=0),
    case("np.cumsum", lambda z: (np.cumsum(z), np.cumsum(z, axis=0)), floats(3, 4), kinds="c", grad=0),
    case("np.cumprod", lambda z: (np.cumprod(z), np.cumprod(z, axis=0)), floats(3, 4), kinds="c", grad=0),
    case("np.cumprod", lambda x: np.cumprod(x + 1j).imag, floats(5), kinds="f"),
    case("np.any", lambda z: (z.any(axis=0), z.all(axis=0), np.count_nonzero(z)), np.round(floats(3, 4)), kinds="c", grad=0),
    case("np.add.reduce", lambda z: np.add.reduce(z, axis=1), floats(3, 4), kinds="c", grad=0),
    # Order.
    case("np.max", lambda z: (z.max(), z.max(axis=0), z.min(axis=(0, 1))), floats(3, 4), kinds="c", grad=0),
    case("np.max", lambda z: (np.round(z).max(axis=1), np.round(z).min(axis=1)), floats(3, 9), kinds="c", grad=0),
    case("np.argmax", lambda z: (z.argmax(), z.argmax(axis=0), z.argmin(axis=1)), floats(3, 4), kinds="c", grad=0),
    case("np.sort", lambda z: (np.sort(np.round(z)), np.sort(z, axis=0)), floats(3, 9), kinds="c", grad=0),
    case("np.argsort", lambda z: (np.argsort(np.round(z), kind="stable"), z.argsort(axis=0)), floats(3, 9), kinds="c", grad=0),
    case("np.sort_complex", np.sort_complex, floats(2, 5), kinds="biufc", grad=0),
    case("np.clip", lambda z: np.clip(z, -1 + 0j, 1 + 1j), floats(3, 4), kinds="c", grad=0),
    # Products.
    case("np.vdot", np.vdot, floats(2, 3), floats(3, 2, seed=2), kinds="fc", grad=0),
    case("np.vdot", lambda x, y: np.vdot(x + 1j * y, np.exp(1j * x)).real, floats(4), floats(4, seed=2), kinds="f"),
    case("np.inner", np.inner, floats(2, 3), floats(4, 3, seed=2), kinds="c", grad=0),
    case("np.outer", np.outer, floats(2), floats(3, seed=2), kinds="c", grad=0),
    case("np.dot", np.dot, floats(4, 3), floats(3, 5, seed=2), kinds="c", grad=0),
    case("np.matmul", lambda x, y: (x @ y, x[0] @ y[0], y @ x.mT), floats(2, 4, 3), floats(2, 3, 3, seed=2), kinds="c", grad=0),
    case("np.matmul", lambda x, y: np.abs((x + 1j) @ (y * 1j + x.T)), floats(2, 3), floats(3, 2, seed=2), kinds="f"),
    case("np.tensordot", lambda x, y: np.tensordot(x, y, axes=((0, 2), (1, 0))), floats(2, 3, 4), floats(4, 2, seed=2),
        kinds="c", grad=0),
    case("np.einsum", lambda x, y: np.einsum("ij,kj,i->k", x, y, x[:, 0]), floats(2, 3), floats(4, 3, seed=2), kinds="c", grad=0),
    case("np.linalg.norm", lambda z: (np.linalg.norm(z), np.linalg.norm(z, axis=0), np.linalg.norm(z, 1, axis=1)), floats(3, 4),
        kinds="c", grad=0),
    case("np.linalg.norm", lambda x: np.linalg.norm(np.exp(1j * x) + x, axis=0), floats(3, 4), kinds="f"),
    case("np.trace", lambda z: (np.trace(z), np.diagonal(z)), floats(3, 3), kinds="c", grad=0),
    # Movement, indexing, selection.
    case("np.concatenate", lambda x, y: np.concatenate([x, y[:1], x.real], axis=0), floats(2, 3), floats(3, 3),
        kinds="c", grad=0),
    case("np.pad", lambda z: np.pad(z, ((1, 0), (2, 1)), constant_values=2 - 1j), floats(2, 3), kinds="c", grad=0),
    case("np.reshape", lambda z: z.T.reshape(2, 6)[::-1, 1::2], floats(3, 4), kinds="c", grad=0, exact=True),
    case("np.take", lambda z, i: (z[i], z[:, i], z.T[i, 0]), floats(4, 4), integers(3), kinds="c", grad=0, exact=True),
    case("np.add.at", updated, floats(4, 2), integers(5), floats(5, 2), kinds="c", grad=0, batch=False),
    case("np.where", lambda z, m: np.where(m, z, 1j), floats(3, 4), mask(3, 4), kinds="c", grad=0, exact=True),
    case("np.stack", lambda z: np.stack([z, z.conj()], axis=1), floats(3, 4), kinds="c", grad=0, exact=True),
    case("np.full_like", lambda z: (np.full_like(z, 1j), np.zeros_like(z), np.ones_like(z)), floats(3), kinds="c", grad=0,
        batch=False),
    case("np.stack", lambda z: np.stack([z[0], 1j, 2.0, z[1]]), floats(3), kinds="c", grad=0),
    case("np.round", lambda z: (np.round(z), np.round(z, 2)), floats(3, 4), kinds="c", grad=0),
    case("np.isclose", lambda z: (np.isclose(z, z + 1e-9j), np.allclose(z, z * 1j)), floats(3), kinds="c", grad=0),
    case("np.diff", lambda z: np.diff(z, axis=0), floats(3, 4), kinds="c", grad=0),
    case("np.trapezoid", lambda z: np.trapezoid(z, dx=0.5), floats(5), kinds="c", grad=0),
    case("np.polyval", lambda z, p: np.polyval(p, z), floats(5), floats(3), kinds="c", grad=0),
    case("np.nan_to_num", lambda z: np.nan_to_num(z / (z - z[0]), nan=7, posinf=9, neginf=-9), floats(4), kinds="c", grad=0),
]  # fmt: skip
