"""How the functions of graphc.scipy are called: inside a trace they run on it, on plain arrays by the interpreter."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.tracing import current_trace, is_static, located
from graphc.transforms import interpret
from graphc.tree import flatten, unflatten


def on_arrays(*static: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A function over tracers, called with traced or plain arrays. Parameters in ``static`` are not arrays."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            if current_trace() is not None:
                return located(function, *args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            fixed = {k: v for k, v in bound.arguments.items() if k in static or v is None or is_static(v)}
            given = {k: _array(v) for k, v in bound.arguments.items() if k not in fixed}

            def traced(**arrays: Any) -> Any:
                return function(**{**arrays, **fixed})

            return _scalars(interpret(traced, (), given))

        return run

    return decorate


def _array(value: Any) -> Any:
    """Lists of numbers as an array; numbers stay weak, lists of arrays lists."""
    holds_arrays = isinstance(value, (list, tuple)) and any(isinstance(v, np.ndarray) for v in value)
    return np.asarray(value) if isinstance(value, (list, tuple)) and not holds_arrays else value


def _scalars(result: Any) -> Any:
    """Results without axes as NumPy scalars, as NumPy returns them."""
    leaves, tree = flatten(result)
    return unflatten(tree, [leaf[()] if isinstance(leaf, np.ndarray) and not leaf.ndim else leaf for leaf in leaves])


__all__ = ["on_arrays"]
