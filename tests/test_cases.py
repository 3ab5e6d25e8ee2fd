"""Every case of every NumPy function: values and element types, derivatives at orders 1 and 2, batching, both backends.

``GRAPHC_TEST_FULL=1`` runs the CPU backend on every case; otherwise it takes a sample of them.
"""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import Case, all_cases
from compare import traced

import graphc
from graphc.tracing import is_tracer
from graphc.tree import flatten

FULL = os.environ.get("GRAPHC_TEST_FULL") == "1"
CASES = list(all_cases())
TYPES = {"b": ("?",), "i": ("i1", "i4", "i8"), "u": ("u1", "u8"), "f": ("f2", "f4", "f8"), "c": ("F", "D")}
#: How much coarser than float64 the tolerance of an element type is.
COARSE = {"f2": 1e13, "f4": 1e9, "f8": 1.0, "F": 1e9, "D": 1.0}


def ids(selected: list[tuple[str, Case]]) -> list[Any]:
    return [pytest.param(one, id=name) for name, one in selected]


def sampled(name: str) -> bool:
    """One case in eight, always the same ones."""
    return FULL or zlib.crc32(name.encode()) % 8 == 0


def quiet(function: Callable[..., Any], *args: Any) -> Any:
    copies = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*copies)


def in_type(args: tuple[Any, ...], code: str) -> tuple[Any, ...]:
    """``args``, the float64 arrays among them in another element type."""

    def converted(a: Any) -> Any:
        if not isinstance(a, np.ndarray) or a.dtype != np.float64:
            return a
        if code in ("F", "D"):
            return (a + 1j * np.roll(a, 1)).astype(code)
        with np.errstate(all="ignore"):
            return (np.abs(a) if code[0] == "u" else a).astype(code)

    return tuple(map(converted, args))


def floating(one: Case) -> bool:
    return any(isinstance(a, np.ndarray) and a.dtype == np.float64 for a in one.args)


def codes(one: Case) -> list[str]:
    return [c for kind in one.kinds for c in TYPES[kind]] if floating(one) else ["f8"]


def check_values(one: Case, have: Any, want: Any, code: str) -> None:
    got, expected = flatten(have)[0], flatten(want)[0]
    assert len(got) == len(expected), f"{len(got)} results, NumPy has {len(expected)}"
    for mine, theirs in zip(got, expected, strict=True):
        mine, theirs = np.asarray(mine), np.asarray(theirs)
        assert mine.dtype == theirs.dtype, f"{code}: {mine.dtype}, NumPy has {theirs.dtype}"
        assert mine.shape == theirs.shape, f"{code}: {mine.shape}, NumPy has {theirs.shape}"
        if theirs.dtype.kind not in "fc" or one.exact:
            np.testing.assert_array_equal(mine, theirs, err_msg=code)
            continue
        narrow = "f2" if theirs.dtype == np.float16 else "f4" if theirs.dtype.name in ("float32", "complex64") else "f8"
        # An operand of a narrower type than the result has its own rounding in neither.
        rtol = min((one.rtol or 1e-12) * max(COARSE[narrow], 1.0), 2e-2)
        wide = np.complex128 if theirs.dtype.kind == "c" else np.float64
        mine, theirs = mine.astype(wide), theirs.astype(wide)
        finite = np.abs(theirs[np.isfinite(theirs)])
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=rtol * (finite.max(initial=0.0)), err_msg=code)


@pytest.mark.parametrize("one", ids(CASES))
def test_values(one: Case) -> None:
    """Shapes, element types and values are NumPy's, in every element type that NumPy takes."""
    tried = 0
    for code in codes(one):
        args = in_type(one.args, code)
        try:
            want = quiet(one.expect or one.call, *args)
        except (TypeError, ValueError, np.linalg.LinAlgError):
            if code == "f8":
                raise
            continue
        if any(np.asarray(v).dtype.kind not in "biufc" for v in flatten(want)[0]):
            continue
        check_values(one, quiet(lambda *a: traced(one.call, *a), *args), want, code)
        tried += 1
    assert tried


@pytest.mark.parametrize("one", ids([(n, c) for n, c in CASES if c.grad and floating(c)]))
def test_derivatives(one: Case) -> None:
    """Forward and reverse mode against central differences, at every order asked for."""
    places = [k for k, a in enumerate(one.args) if isinstance(a, np.ndarray) and a.dtype == np.float64]

    def of_floats(*xs: Any) -> Any:
        args = list(one.args)
        for k, x in zip(places, xs, strict=True):
            args[k] = x
        plain = not any(map(is_tracer, xs))
        return (one.expect or one.call if plain else one.call)(*args)

    with np.errstate(all="ignore"):
        graphc.check_grads(of_floats, [one.args[k] for k in places], order=one.grad)


@pytest.mark.parametrize("one", ids([(n, c) for n, c in CASES if c.batch and floating(c)]))
def test_batching(one: Case) -> None:
    """``vmap`` over the float64 arguments is the loop over their examples."""
    axes = tuple(0 if isinstance(a, np.ndarray) and a.dtype == np.float64 else None for a in one.args)
    pairs = list(zip(one.args, axes, strict=True))
    examples = [one.args, tuple(a if axis is None else a[::-1] if a.ndim else a * 0.75 for a, axis in pairs)]
    stacked = [a if axis is None else np.stack([e[k] for e in examples]) for k, (a, axis) in enumerate(pairs)]
    want = [flatten(quiet(one.expect or one.call, *e))[0] for e in examples]
    have = flatten(quiet(graphc.vmap(one.call, in_axes=axes), *stacked))[0]
    check_values(one, have, [np.stack(parts) for parts in zip(*want, strict=True)], "f8")


@pytest.mark.parametrize("one", ids([(n, c) for n, c in CASES if sampled(n)]))
def test_compiled(one: Case) -> None:
    """The CPU backend gives the reference's values, for float64 and float32, and the first derivative where there is one."""
    wide = ("D", "F") if one.kinds == "c" else ("f8", "f4")
    for code in wide if floating(one) else ("f8",):
        args = in_type(one.args, code)
        want = quiet(lambda *a: traced(one.call, *a), *args)
        check_values(one, quiet(graphc.compile(one.call), *args), want, code)
    if not (one.grad and floating(one)):
        return

    def total(*xs: Any) -> Any:
        return sum(np.sum(r * 1.5) for r in flatten(one.call(*xs))[0] if np.result_type(r).kind == "f")

    wrt = [k for k, a in enumerate(one.args) if isinstance(a, np.ndarray) and a.dtype == np.float64]
    gradient = graphc.grad(total, argnums=wrt)
    check_values(one, quiet(graphc.compile(gradient), *one.args), quiet(gradient, *one.args), "f8")
