"""What a traced value is not, and what to write instead: the errors of values that leave the program being traced.

Every message names what happened, the user's line and expression, and the remedy.
"""

from __future__ import annotations

import re
import threading
from typing import NoReturn

from graphc.location import expression, operation, user_frame, where


class TracerError(TypeError):
    """A traced value was used where a concrete one is needed. The message says what to write instead."""


class UnsupportedError(TypeError):
    """A NumPy function, or an argument of one, that graphc does not trace."""


class _Last(threading.local):
    error: TracerError | None = None
    place: tuple[object, int] | None = None


_last = _Last()


def refuse(what: str, remedy: str) -> NoReturn:
    """Raise TracerError: ``what`` at the user's line; ``remedy``. C code that swallows it is found out, see swallowed."""
    error = TracerError(f"{what} at {where()}; {remedy}")
    frame = user_frame()
    _last.error, _last.place = error, (frame.f_code, frame.f_lineno) if frame else None
    raise error


def swallowed(error: BaseException | None) -> TracerError | None:
    """The TracerError that NumPy replaced by ``error``: ``a[0] = x`` and ``np.zeros(n)`` report one of their own."""
    if error is None or isinstance(error, TracerError):
        return None
    if isinstance(error.__cause__, TracerError):
        return error.__cause__
    step, last = error.__traceback__, None
    while step is not None:
        last, step = step, step.tb_next
    if last is not None and _last.place == (last.tb_frame.f_code, last.tb_lineno):
        return _last.error
    return None


def forget() -> None:
    """A new trace begins: what an earlier one refused does not matter any more."""
    _last.error = _last.place = None


# ------------------------------------------------------------------------------------------------ NumPy wants an array

_BUILD = "build it with np.stack([...]), np.concatenate([...]) or np.where"
_FILL = "make the array of traced values too: a = np.zeros_like(x) or a = graphc.numpy.zeros(shape), then a[i] = v"


def refuse_array(type: object) -> NoReturn:
    """``__array__`` was asked of a traced value: by indexing, assignment or a call, which the bytecode tells apart."""
    frame = user_frame()
    doing = operation(frame) if frame is not None else ""
    text = expression(frame, whole=True) if frame is not None else ""
    if doing == "STORE_SUBSCR":
        refuse(f"a traced {type} would be written into a NumPy array", f"{_FILL}; or {_BUILD}")
    if doing == "BINARY_SUBSCR":
        refuse(
            f"a NumPy array is indexed by a traced {type}",
            "write graphc.numpy.asarray(a)[i], which makes the array part of the program",
        )
    what, remedy = call_remedy(text)
    refuse(f"{what} a traced {type}", remedy)


def call_remedy(text: str) -> tuple[str, str]:
    """What a call does with the traced value, and the remedy, from the call's source text."""
    name = re.match(r"(?:\w+\.)*(\w+)\s*\(", text)
    called = name[1] if name else ""
    if called in ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray", "require"):
        return (
            f"np.{called} would make a NumPy array of",
            "leave it away where it holds one traced value (that is an array already); write np.stack([...]) or "
            "graphc.numpy.array([...]) for a list of them",
        )
    if called in ("full", "fill", "fill_diagonal"):
        return f"{called} would fill a NumPy array with", "write graphc.numpy.full(shape, value), or np.full_like(x, value)"
    if called in ("arange", "linspace"):
        return (
            f"np.{called} would depend on",
            "a shape cannot depend on traced values: write start + step * np.arange(n) with a number n, or name the "
            "argument in compile(static=...)",
        )
    if called in _TYPES:
        return f"{called}() would make a NumPy scalar of", f"write x.astype(np.{called})"
    if re.match(r"(np|numpy)\.random\.|.*\b(rng|default_rng|RandomState)\b", text):
        return "a NumPy random generator was given", "use graphc.random with a key, or pass the numbers as an argument"
    if called:
        return (
            f"{called}() asked for the numbers of",
            f"they are not known while tracing: if this is a method of a NumPy array, call np.{called}(a, x) or wrap the "
            "array in graphc.numpy.asarray(a); other libraries can be called outside the traced function",
        )
    return (
        "NumPy asked for the numbers of",
        "they are not known while tracing: use NumPy functions on the traced value itself, and "
        "graphc.numpy.asarray(a) for NumPy arrays that meet it",
    )


_TYPES = (
    "bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
    "double", "single", "half", "intp", "complex64", "complex128",
)  # fmt: skip


def refuse_truth(type: object) -> NoReturn:
    frame = user_frame()
    text = expression(frame, whole=True) if frame is not None else ""
    name = re.match(r"(max|min|sorted|any|all)\s*\(", text)
    remedies = {
        "max": "write np.maximum(a, b), or x.max() for the largest element",
        "min": "write np.minimum(a, b), or x.min() for the smallest element",
        "sorted": "write np.sort(x)",
        "any": "write np.any(x)",
        "all": "write np.all(x)",
    }
    refuse(
        f"the truth value of a traced {type} is not known while tracing",
        remedies[name[1]]
        if name
        else "write np.where(condition, a, b) or graphc.cond instead of if, np.logical_and / or / not instead of "
        "and / or / not, graphc.while_loop instead of while",
    )


def refuse_float(type: object) -> NoReturn:
    frame = user_frame()
    text = expression(frame, whole=True) if frame is not None else ""
    name = re.match(r"(?:math|cmath)\.(\w+)\s*\(", text)
    remedy = f"write np.{_MATH.get(name[1], name[1])}" if name else "write x.astype(float) to convert it inside the program"
    refuse(f"{name[0] if name else 'float('}) needs the number of a traced {type}, which is not known while tracing", remedy)


#: Names that differ between math and NumPy.
_MATH = {
    "pow": "power", "asin": "arcsin", "acos": "arccos", "atan": "arctan", "atan2": "arctan2", "asinh": "arcsinh",
    "acosh": "arccosh", "atanh": "arctanh", "degrees": "rad2deg", "radians": "deg2rad", "fsum": "sum", "dist":
    "linalg.norm", "erf": "... of scipy.special: scipy.special.erf", "gamma": "... of scipy.special: scipy.special.gamma",
}  # fmt: skip
