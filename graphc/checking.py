"""Derivatives checked by central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.transforms import jvp, vjp
from graphc.tree import flatten, unflatten
from graphc.types import DType, dtype

#: element type → (step relative to the argument, tolerance)
_SCALES = {"f64": (6e-6, 1e-6), "f32": (5e-3, 3e-2), "f16": (5e-2, 0.3), "bf16": (0.1, 0.5)}

Floats = Callable[..., list[Any]]


def check_grads(
    fn: Callable[..., Any],
    args: Sequence[Any],
    order: int = 2,
    atol: float | None = None,
    rtol: float | None = None,
    modes: Sequence[str] = ("fwd", "rev"),
) -> None:
    """Raise AssertionError where derivatives of ``fn`` at ``args`` differ from central differences.

    order       up to which derivatives are checked; each further order checks the derivatives of every mode of the last.
    atol, rtol  tolerances; None: 1e-6 for float64, 3e-2 for float32.
    modes       ``"fwd"`` (jvp), ``"rev"`` (vjp) or both.

    Arguments and results are any pytrees; the derivatives are taken by all float and complex leaves of ``args``, in a random
    direction (the same at every call). For complex numbers ⟨x, y⟩ is the real part of Σ xy, without a conjugate, as
    cotangents are meant in JAX. ``fn`` is called on plain arrays for the differences, so that what was traced is held against
    what NumPy computes.

    >>> check_grads(lambda x: np.sin(x) * x, (np.array([0.3, 2.0]),))
    >>> wrong = lambda x: x * x
    >>> from graphc import custom_vjp
    >>> half = custom_vjp(wrong)
    >>> half.defvjp(lambda x: (x * x, x), lambda x, ct: (x * ct,))
    >>> check_grads(half, (np.array(3.0),), order=1, modes=("rev",))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    AssertionError: check_grads: order 1, rev: ⟨ct, J v⟩ is ... by differences, ⟨vjp(ct), v⟩ is ...
    """
    if unknown := set(modes) - {"fwd", "rev"}:
        raise ValueError(f"check_grads: modes are 'fwd' and 'rev', not {sorted(unknown)}")
    function, point = float_function(fn, args)
    if not point:
        raise TypeError("check_grads: there is no float among the arguments, real or complex")
    coarsest = min((dtype(x.dtype) for x in point), key=_precision)
    tolerance = _SCALES[coarsest.real.name][1]
    limits = (tolerance if atol is None else atol, tolerance if rtol is None else rtol)
    _check(function, point, order, limits, tuple(modes), np.random.default_rng(0), ())


def _precision(element: DType) -> int:
    return list(_SCALES)[::-1].index(element.real.name)


def float_function(fn: Callable[..., Any], args: Sequence[Any]) -> tuple[Floats, list[np.ndarray]]:
    """``fn`` as a function from its float and complex leaves to its float and complex results, and those leaves."""
    leaves, tree = flatten(tuple(args))
    arrays = [v if callable(v) or isinstance(v, str) else np.asarray(v) for v in leaves]
    places = [k for k, a in enumerate(arrays) if isinstance(a, np.ndarray) and dtype(a.dtype).is_inexact]

    def function(*floats: Any) -> list[Any]:
        full = list(leaves)
        for k, value in zip(places, floats, strict=True):
            full[k] = value
        return [v for v in flatten(fn(*unflatten(tree, full)))[0] if dtype(np.result_type(v)).is_inexact]

    return function, [arrays[k] for k in places]


def _check(
    function: Floats,
    point: list[np.ndarray],
    order: int,
    limits: tuple[float, float],
    modes: tuple[str, ...],
    rng: np.random.Generator,
    path: tuple[str, ...],
) -> None:
    if order == 0:
        return
    direction = [_direction(x, rng) for x in point]
    numeric = differences(function, point, direction)
    for mode in modes:
        label = f"check_grads: order {len(path) + 1}, {' of '.join((mode, *path))}"
        derivative = _forward(function, direction) if mode == "fwd" else _reverse(function, numeric, rng)
        found = [np.asarray(v) for v in derivative(*point)]
        if mode == "fwd":
            for k, (have, want) in enumerate(zip(found, numeric, strict=True)):
                _compare(f"{label}, result {k}: J v is {{1}} by differences, {{0}} by jvp", have, want, limits)
        else:
            cotangents = derivative.cotangents  # type: ignore[attr-defined]
            _compare(
                f"{label}: ⟨ct, J v⟩ is {{1}} by differences, ⟨vjp(ct), v⟩ is {{0}}",
                _inner(found, direction),
                _inner(cotangents, numeric),
                limits,
                scale=_size(found, direction),
            )
        _check(derivative, point, order - 1, limits, modes, rng, (mode, *path))


def _forward(function: Floats, direction: list[np.ndarray]) -> Floats:
    return lambda *xs: jvp(function, xs, direction)[1]


def _reverse(function: Floats, like: list[np.ndarray], rng: np.random.Generator) -> Floats:
    cotangents = [_direction(y, rng) for y in like]

    def pulled(*xs: Any) -> list[Any]:
        return list(vjp(function, *xs)[1](cotangents))

    pulled.cotangents = cotangents  # type: ignore[attr-defined]
    return pulled


def _direction(like: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random numbers in the type of ``like``, none of them near 0."""
    signs = rng.integers(0, 2, like.shape) * 2 - 1
    found = np.asarray(signs * rng.uniform(0.5, 1.5, like.shape))
    if like.dtype.kind == "c":
        found = found * np.exp(1j * rng.uniform(0, np.pi, like.shape))
    return found.astype(like.dtype)


def _wide(value: Any) -> np.ndarray:
    """``value`` in float64, or complex128."""
    array = np.asarray(value)
    return np.asarray(array.astype(np.complex128 if array.dtype.kind == "c" else np.float64))


def differences(function: Floats, point: Sequence[np.ndarray], direction: Sequence[np.ndarray]) -> list[np.ndarray]:
    """J v by central differences."""
    scale = max([float(np.abs(_wide(x)).max(initial=0)) for x in point] + [1.0])
    step = scale * max(_SCALES[dtype(x.dtype).real.name][0] for x in point)
    ahead, behind = (
        [
            _wide(y)
            for y in function(
                *[(x + np.asarray(sign * step * v)).astype(x.dtype) for x, v in zip(point, direction, strict=True)]
            )
        ]
        for sign in (1, -1)
    )
    return [np.asarray((a - b) / (2 * step)) for a, b in zip(ahead, behind, strict=True)]


def _inner(xs: Sequence[np.ndarray], ys: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(sum(float(np.sum(_wide(x) * _wide(y)).real) for x, y in zip(xs, ys, strict=True)))


def _size(xs: Sequence[np.ndarray], ys: Sequence[np.ndarray]) -> float:
    """The sum of the sizes of the products in an inner product: what its rounding errors are relative to."""
    return float(_inner([np.abs(x) for x in xs], [np.abs(y) for y in ys]))


def _compare(message: str, have: np.ndarray, want: np.ndarray, limits: tuple[float, float], scale: float = 0.0) -> None:
    have, want = _wide(have), _wide(want)
    atol, rtol = limits
    # A difference quotient has an error relative to the largest numbers around it.
    largest = float(np.abs(want).max(initial=0)) if np.isfinite(want).all() else 0.0
    if have.shape != want.shape or not np.allclose(
        have, want, rtol=rtol, atol=atol + rtol * max(scale, largest), equal_nan=True
    ):
        raise AssertionError(message.format(_text(have), _text(want)))


def _text(value: np.ndarray) -> str:
    return repr(value.item()) if value.ndim == 0 else np.array2string(value, threshold=20, precision=8)
