"""Cases of NumPy's (and SciPy's) functions: what each is called with, one line per case.

A module per area lists :class:`Case` objects in ``CASES``. Every case is run through NumPy, the reference interpreter and
the CPU backend, in every element type that NumPy takes, differentiated twice and batched: see ``tests/test_cases.py``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Case:
    """One call of one function.

    name     the function as users write it: ``"np.median"``, ``"np.linalg.solve"``, ``"scipy.special.erf"``,
             ``"np.ndarray.sort"``, ``"np.add.reduceat"``. The coverage table reads it.
    call     the call, written in plain NumPy, a function of ``args``.
    args     NumPy arrays (float64, or integers and bools where they are indices or masks).
    expect   what gives the expected values where ``call`` itself does not run on plain arrays; by default ``call``.
    kinds    the kinds of element types that the float64 arguments are also tried in: some of ``"biufc"``. NumPy is
             asked whether it takes them.
    grad     the order up to which derivatives by the float64 arguments are checked; 0 where it is piecewise constant.
    batch    whether ``vmap`` of the call is held against a loop.
    rtol     relative tolerance of float64 values; None: 1e-12. Narrower floats are scaled up from it.
    exact    values are moved, not computed: they must be the same bits.
    """

    name: str
    call: Callable[..., Any]
    args: tuple[Any, ...]
    expect: Callable[..., Any] | None = None
    kinds: str = "biuf"
    grad: int = 2
    batch: bool = True
    rtol: float | None = None
    exact: bool = False
    id: str = field(default="")


def case(name: str, call: Callable[..., Any], *args: Any, **options: Any) -> Case:
    return Case(name, call, args, **options)


def floats(*shape: int, seed: int = 0, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    """Numbers in (low, high), all different and well apart, so that central differences cross no tie."""
    rng = np.random.default_rng([seed, *shape])
    count = int(np.prod(shape))
    places = rng.permutation(count) + rng.uniform(0.25, 0.75, count)
    return (low + (high - low) * places / max(count, 1)).reshape(shape)


def positive(*shape: int, seed: int = 0) -> np.ndarray:
    return floats(*shape, seed=seed, low=0.3, high=2.0)


def integers(*shape: int, low: int = 0, high: int = 4, seed: int = 0) -> np.ndarray:
    """Indices: int64 in [low, high). They keep their element type in every run."""
    return np.random.default_rng([seed, *shape]).integers(low, high, shape)


def mask(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).integers(0, 2, shape).astype(bool)


def areas() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def all_cases() -> Iterator[tuple[str, Case]]:
    """(id, case) of every area."""
    for area in areas():
        seen: dict[str, int] = {}
        for one in importlib.import_module(f"cases.{area}").CASES:
            k = seen[one.name] = seen.get(one.name, -1) + 1
            yield f"{one.name}-{k}", one
