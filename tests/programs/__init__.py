"""Complete programs in plain NumPy, each written as its author would write it without knowing of graphc.

A module per family lists :class:`Program` objects in ``PROGRAMS``. ``tests/test_programs.py`` holds each against NumPy,
finite differences of first and second order, HIPS autograd where that runs it, and both backends;
``tests/benchmarks/programs.py`` measures them beside autograd.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

Arguments = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Program:
    """A function that computes one number from parameters and data, and what to call it with.

    loss       ``loss(params, *data)``, a module-level function; derivatives are by ``params``, any nesting of arrays.
    arguments  ``arguments(seed, **sizes)`` makes ``(params, *data)``, float64 and integers, tiny unless told otherwise.
    large      the sizes that the benchmark takes.
    peer       why HIPS autograd cannot run it; empty: it can.
    widens     the program itself makes float64 of float32 (it says ``np.ones``, not ``np.ones(…, x.dtype)``).
    modes      the modes of differentiation that there are: a custom_vjp has no forward mode.
    rtol       how far derivatives may be from central differences.
    grad32     how far the derivatives of the float32 program may be from those in float64, beside their largest.
    """

    loss: Callable[..., Any]
    arguments: Callable[..., Arguments]
    large: Mapping[str, int] = field(default_factory=dict)
    peer: str = ""
    widens: bool = False
    modes: tuple[str, ...] = ("fwd", "rev")
    rtol: float = 1e-6
    grad32: float = 1e-3

    @property
    def name(self) -> str:
        return self.loss.__name__


def families() -> Iterator[ModuleType]:
    """The modules of this package."""
    for found in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        yield importlib.import_module(f"{__name__}.{found.name}")


def all_programs() -> list[Program]:
    programs = [one for family in families() for one in family.PROGRAMS]
    assert len({one.name for one in programs}) == len(programs), "two programs have one name"
    return programs


def rewired(function: Callable[..., Any], **names: Any) -> Callable[..., Any]:
    """``function`` from a second copy of its module, in which ``names`` mean something else.

    ``rewired(loss, np=autograd.numpy)`` is the very same source on another NumPy. Names that the module does not have are
    left out.
    """
    spec = importlib.util.find_spec(function.__module__)
    assert spec is not None and spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    vars(copy).update({name: value for name, value in names.items() if name in vars(copy)})
    return getattr(copy, function.__name__)


def on_autograd(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` on HIPS autograd's NumPy and SciPy."""
    import autograd
    import autograd.numpy
    import autograd.scipy.special
    import autograd.scipy.stats

    return rewired(
        function,
        np=autograd.numpy,
        special=autograd.scipy.special,
        grad=autograd.grad,
        elementwise_grad=autograd.elementwise_grad,
    )
