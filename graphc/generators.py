"""Random generators that a function draws from while it is traced: the numbers would become constants of the program.

NumPy's generators are compiled code that no profile hook sees, so their states are compared before and after. Looked at
are the global ones (``np.random``, ``random``) and those that the function can reach: in its arguments, closure, defaults,
the globals that it names, the attributes of its object, and in turn in the functions found there.
"""

from __future__ import annotations

import functools
import random
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from graphc.location import is_internal
from graphc.remarks import remark

LIMIT = 1000  # objects looked at


class DrawnWarning(UserWarning):
    """A random generator was drawn from while tracing."""


def is_generator(value: Any) -> bool:
    return isinstance(value, (np.random.Generator, np.random.RandomState, np.random.BitGenerator, random.Random))


def state_of(generator: Any) -> Any:
    """The state of a generator as a value that compares; None where it has none."""
    if isinstance(generator, random.Random):
        try:
            return generator.getstate()
        except NotImplementedError:  # the system's generator
            return None
    if isinstance(generator, np.random.RandomState):
        return frozen(generator.get_state(legacy=False))
    return frozen(generator.state if isinstance(generator, np.random.BitGenerator) else generator.bit_generator.state)


def frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((k, frozen(v)) for k, v in value.items())
    return value.tobytes() if isinstance(value, np.ndarray) else value


def reachable(function: Callable[..., Any], arguments: Iterable[Any] = ()) -> dict[str, Any]:
    """The generators that ``function`` can reach, by name."""
    found: dict[str, Any] = {"np.random": np.random.mtrand._rand, "random": random._inst}  # type: ignore[attr-defined]
    known = {id(g) for g in found.values()}
    label = getattr(function, "__name__", "the function")
    stack: list[tuple[str, Any]] = [(f"an argument of {label}", a) for a in arguments if is_generator(a)]
    stack.append((label, function))
    seen: set[int] = set()
    while stack and len(seen) < LIMIT:
        name, value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if is_generator(value):
            if id(value) not in known:
                known.add(id(value))
                found[name] = value
        else:
            stack.extend(parts(value))
    return found


def parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What ``value`` leads to, with readable names; nothing for numbers, arrays, modules and graphc's own functions."""
    if isinstance(value, types.FunctionType):
        if not is_internal(value.__code__):
            yield from function_parts(value)
        elif value.__closure__ is not None:  # transforms hold the user's function
            yield from ((cell_name, v) for cell_name, v in cells(value) if callable(v))
    elif isinstance(value, types.MethodType):
        yield getattr(value.__func__, "__qualname__", type(value.__func__).__name__), value.__func__
        yield type(value.__self__).__name__, value.__self__
    elif isinstance(value, functools.partial):
        yield getattr(value.func, "__name__", "partial"), value.func
        yield from ((f"argument {k}", v) for k, v in enumerate(value.args))
        yield from value.keywords.items()
    elif type(value) in (list, tuple, dict) and len(value) <= 64:
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        yield from ((f"[{k!r}]", v) for k, v in entries)
    elif type(value).__module__.partition(".")[0] in ("graphc", "numba", "llvmlite"):
        if hasattr(value, "__wrapped__"):  # compiled functions hold the user's
            yield getattr(value, "__name__", "function"), value.__wrapped__
    elif type(value).__module__ not in ("builtins", "numpy", "_io") and not isinstance(value, (type, types.ModuleType)):
        attributes = getattr(value, "__dict__", None)
        yield from (
            (f"{type(value).__name__}.{k}", v) for k, v in (attributes.items() if type(attributes) is dict else ())
        )
        if callable(value):
            yield f"{type(value).__name__}.__call__", type(value).__call__


def function_parts(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    yield from cells(function)
    yield from ((f"a default of {function.__name__}", v) for v in function.__defaults__ or ())
    yield from (function.__kwdefaults__ or {}).items()
    for name in global_names(function.__code__):
        value = function.__globals__.get(name)
        if isinstance(value, types.ModuleType):  # module.rng
            yield from (
                (f"{name}.{n}", v) for n in global_names(function.__code__) if is_generator(v := vars(value).get(n))
            )
        elif value is not None:
            yield name, value


def cells(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue


@functools.lru_cache(maxsize=4096)
def global_names(code: types.CodeType) -> tuple[str, ...]:
    """The names that ``code`` and the functions defined inside it use as globals or attributes."""
    inner = (n for c in code.co_consts if isinstance(c, types.CodeType) for n in global_names(c))
    return tuple(dict.fromkeys((*code.co_names, *inner)))


class unchanged_generators:  # noqa: N801 (used as a statement)
    """``with unchanged_generators(function, arguments):`` warns, by name, of every generator that was drawn from inside."""

    def __init__(self, function: Callable[..., Any], arguments: Iterable[Any] = ()) -> None:
        self.name = getattr(function, "__name__", "a function")
        self.found = reachable(function, arguments)

    def __enter__(self) -> None:
        self.before = {name: state_of(g) for name, g in self.found.items()}

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if error is not None:
            return
        for name in [name for name, g in self.found.items() if state_of(g) != self.before[name]]:
            remark(
                f"the random generator {name} was drawn from while {self.name} was traced: the numbers are now constants of "
                "the program and the same in every call; pass them as an argument, or use graphc.random with a key",
                DrawnWarning,
            )
