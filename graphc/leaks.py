"""What a traced value is not, and what to write instead: the errors of values that leave the program being traced.

Every message names what happened, the user's line and expression, and the remedy.
"""

from __future__ import annotations

import importlib
import re
import sys
import threading
from typing import NoReturn

from graphc.location import expression, operation, scipy_module, user_frame, where


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


# ------------------------------------------------------------------------------------------------ numbers are asked for

_BUILD = "build it with np.stack([...]), np.concatenate([...]) or np.where"
_FILL = "make the array of traced values too: a = np.zeros_like(x) or a = graphc.numpy.zeros(shape), then a[i] = v"


def running() -> tuple[str, str]:
    """The opcode and the source text of the user's running instruction."""
    frame = user_frame()
    return (operation(frame), expression(frame, whole=True)) if frame is not None else ("", "")


def refuse_number(type: object) -> NoReturn:
    """A traced value was asked for its numbers, by ``__array__`` or ``__float__``; the bytecode tells what for."""
    if called_by("_vectorize_call", "_get_ufunc_and_otypes"):
        refuse(
            f"np.vectorize would call its function with one number of a traced {type} after the other",
            "call the function on the arrays themselves, or write graphc.vmap(f)(x) where it takes numbers",
        )
    doing, text = running()
    module = scipy_module()
    if module is not None:
        refuse(f"{module} asks for the numbers of a traced {type}", scipy_remedy(module, text))
    if doing == "STORE_SUBSCR" or re.search(r"\.(__setitem__|fill|fill_diagonal|itemset|put)\s*\(", text):
        refuse(f"a traced {type} would be written into a NumPy array", f"{_FILL}; or {_BUILD}")
    if doing == "BINARY_SUBSCR" and (short := re.match(r"(?:np|numpy|gnp)\.([rc]_)\s*\[", text)):
        refuse(
            f"np.{short[1]}[...] would make a NumPy array of a traced {type}",
            "write np.column_stack([...])" if short[1] == "c_" else "write np.concatenate([...])",
        )
    if doing == "BINARY_SUBSCR":
        refuse(
            f"a NumPy array is indexed by a traced {type}",
            "write graphc.numpy.asarray(a)[i], which makes the array part of the program",
        )
    what, remedy = call_remedy(text)
    refuse(f"{what} a traced {type}, which {'are' if 'numbers' in what else 'is'} not known while tracing", remedy)


def scipy_remedy(module: str, text: str) -> str:
    """Which function of graphc.scipy to write for a call of one that SciPy has written in Python."""
    called = re.match(r"[\w.]*?(\w+(?:\.\w+)?)\s*\(", text)
    names = called[1].split(".") if called else []
    ours = importlib.import_module("graphc.scipy")
    place = getattr(ours, module.split(".")[-1], None)
    known = [n for n in names if n in getattr(place, "__all__", ())]
    if known:
        shown = ".".join(names[names.index(known[0]) :])
        return f"write graphc.{module}.{shown}, which works on traced and on plain arrays"
    have = f"; graphc.{module} has {', '.join(place.__all__)}" if place is not None else ""
    return f"write it with functions that are traced, or compute it outside the traced function and pass the result{have}"


def called_by(*names: str) -> bool:
    """Whether one of these functions of NumPy's asks, itself or through a comprehension."""
    frame = sys._getframe(2)
    for _ in range(4):
        if frame is None:
            return False
        if frame.f_code.co_name in names and "numpy" in frame.f_code.co_filename:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def call_remedy(text: str) -> tuple[str, str]:
    """What a call asks of the traced value, and the remedy, from the call's source text."""
    found = re.match(r"((?:\w+\.)*)(\w+)\s*\(", text)
    owner, name = (found[1].rstrip("."), found[2]) if found else ("", "")
    if owner in ("math", "cmath"):
        return f"{owner}.{name}() needs the number of", f"write {_MATH.get(name, 'np.' + name)}"
    if name == "float" and not owner:
        return "float() needs the number of", "write x.astype(float) to convert it inside the program"
    if name in ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray", "require"):
        return (
            f"np.{name} would make a NumPy array of",
            "leave it away where it holds one traced value (that is an array already); write np.stack([...]) or "
            "graphc.numpy.array([...]) for a list of them",
        )
    if name == "full":
        return (
            f"{owner}.{name} would fill a NumPy array with",
            "write graphc.numpy.full(shape, v), or np.full_like(x, v)",
        )
    if name in ("arange", "linspace"):
        return (
            f"np.{name} would depend on",
            "a shape cannot depend on traced values: write start + step * np.arange(n) with a number n, or name the "
            "argument in compile(static=...)",
        )
    if name == "lexsort":
        return "np.lexsort was given a list with", "write np.lexsort((a, b)) with a tuple, or np.lexsort(np.stack([a, b]))"
    if name in ("take", "take_along_axis", "choose"):
        return (
            f"np.{name} was given as indices",
            "write graphc.numpy.asarray(a)[i], which makes the array part of the program",
        )
    if name in _TYPES:
        return f"{name}() would make a NumPy scalar of", f"write x.astype(np.{name})"
    if re.match(r"(np|numpy)\.random\b|.*\b(rng|default_rng|RandomState)\b", text):
        return (
            "a NumPy random generator was given",
            "use graphc.random with a key, or draw outside the function and pass the numbers as an argument",
        )
    return (
        f"{name + '()' if name else 'NumPy'} needs the numbers of",
        "call NumPy functions on the traced value itself (np.dot(a, x) rather than a.dot(x)); make lists of traced values "
        "arrays with np.stack([...]) or graphc.numpy.array([...]), and NumPy arrays part of the program with "
        "graphc.numpy.asarray(a); other libraries can be called outside the traced function",
    )


_TYPES = (
    "bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
    "double", "single", "half", "intp", "complex64", "complex128",
)  # fmt: skip


def refuse_truth(type: object) -> NoReturn:
    _, text = running()
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


#: Functions of math that have another name in NumPy.
_MATH = {
    "pow": "np.power", "asin": "np.arcsin", "acos": "np.arccos", "atan": "np.arctan", "atan2": "np.arctan2",
    "asinh": "np.arcsinh", "acosh": "np.arccosh", "atanh": "np.arctanh", "degrees": "np.rad2deg",
    "radians": "np.deg2rad", "fsum": "np.sum", "dist": "np.linalg.norm", "erf": "scipy.special.erf",
}  # fmt: skip
