"""The examples in NumPy's docstrings, run on traced arrays: what each call of the documented function gives, beside NumPy.

A docstring is run statement by statement in NumPy. Of every statement, the calls of the documented function are looked up in
its syntax tree and repeated inside a trace, with their arguments as they stand: arrays, and lists of numbers where NumPy takes
an array, are traced arguments. Statements are also repeated as a whole, with every array that they read as an argument.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import doctest
import inspect
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.interpreter import evaluate
from graphc.tracing import FUNCTIONS, UFUNCS, Tracer, TracerError, UnsupportedError, is_tracer, trace_program


@dataclass(frozen=True)
class Outcome:
    """What became of one call or statement in NumPy and in a trace: ``same``, ``refused``, or ``different``."""

    name: str
    source: str
    kind: str
    detail: str


def documented() -> dict[str, Any]:
    """name → function or ufunc that is traced and has a docstring."""
    found = {}
    for function in (*FUNCTIONS, *UFUNCS):
        module = getattr(function, "__module__", None) or "numpy"
        if isinstance(function, np.ufunc) or module.startswith("numpy"):
            found[f"{module.replace('numpy', 'np', 1)}.{function.__name__}"] = function
    return dict(sorted(found.items()))


# ------------------------------------------------------------------------------------------------ traced and compared


class Rest:
    """A place in a result that holds no array: compared as it stands."""


def is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float, complex, np.generic)) and np.asarray(value).dtype.kind in "biufc"


def is_numeric(value: Any) -> bool:
    return type(value) is np.ndarray and value.dtype.kind in "biufc" and np.dtype(value.dtype).itemsize <= 16


def parts_of(value: Any) -> list[Any]:
    """The arrays and other leaves of nested tuples, lists and dicts."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [leaf for v in value for leaf in parts_of(v)]
    return [value]


def replaced(value: Any, take: Callable[[Any], Any]) -> Any:
    """``value`` with ``take`` of each numeric array in it."""
    if is_numeric(value):
        return take(value)
    if type(value) in (list, tuple):
        return type(value)([replaced(v, take) for v in value])
    return value


def run_traced(function: Callable[..., Any], arrays: list[Any]) -> list[Any]:
    """The leaves of what ``function`` returns, traced with ``arrays`` as arguments and evaluated on them."""
    kept: list[Any] = []

    def program(*args: Any) -> Any:
        leaves = parts_of(function(*args))
        kept.extend(Rest if is_tracer(v) else v for v in leaves)
        return [v for v in leaves if is_tracer(v)]

    traced = trace_program(program, tuple(arrays), {})
    values = [np.asarray(v, a.type.dtype.numpy) for v, a in zip(arrays, traced.arguments, strict=True)]
    found = iter(evaluate(traced.graph, values, check=True))
    return [next(found) if v is Rest else v for v in kept]


def difference(want: Any, have: Any) -> str:
    """What differs between two leaves; empty for nothing."""
    if not (isinstance(want, np.ndarray) and want.dtype.kind in "biufc" or is_number(want)):
        return "" if want is have or bool(np.all(want == have)) else f"{have!r}, NumPy has {want!r}"
    one, other = np.asarray(have), np.asarray(want)
    if one.dtype != other.dtype and "float16" not in (str(one.dtype), str(other.dtype)):
        return f"{one.dtype}, NumPy has {other.dtype}"
    if one.shape != other.shape:
        return f"shape {one.shape}, NumPy has {other.shape}"
    rough = 1e-3 if other.dtype in (np.float16, np.float32, np.complex64) else 1e-9
    if np.allclose(one, other, rtol=rough, atol=rough, equal_nan=True):
        return ""
    return f"{one}, NumPy has {other}"


def compared(function: Callable[..., Any], arrays: list[Any]) -> tuple[str, str]:
    """(kind, detail): ``same``, ``refused`` with the message, ``different``."""
    try:
        with quiet():
            want: Any = parts_of(function(*[a.copy() if isinstance(a, np.ndarray) else a for a in arrays]))
    except Exception as error:
        want = error
    try:
        with quiet():
            have = run_traced(function, arrays)
    except (TracerError, UnsupportedError) as error:
        return "refused", str(error)
    except Exception as error:
        if isinstance(want, Exception) and isinstance(error, public_class(want)):
            return "same", ""
        if "graphc has no element type for" in str(error):
            return "refused", str(error)
        return "different", f"{type(error).__name__}: {error}, NumPy has {want!r}"
    if isinstance(want, Exception):
        return "different", f"{have}, NumPy raises {want!r}"
    if len(want) != len(have):
        return "different", f"{len(have)} results, NumPy has {len(want)}"
    found = [d for w, h in zip(want, have, strict=True) if (d := difference(w, h))]
    return ("different", "; ".join(found)) if found else ("same", "")


def public_class(error: Exception) -> type[Exception]:
    """The class that users catch: NumPy's own classes for ufuncs have no public name."""
    return next(c for c in type(error).__mro__ if "._core" not in c.__module__)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with np.errstate(all="ignore"), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


# ------------------------------------------------------------------------------------------------ which arguments are arrays


class _Probe:
    """Notices that NumPy would dispatch on an argument."""

    seen = False

    def __array_function__(self, *_: Any) -> Any:
        _Probe.seen = True
        raise LookupError

    __array_ufunc__ = __array_function__


def takes_array(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], place: Any) -> bool:
    """Whether NumPy takes an array at ``place`` (a position or keyword)."""
    if isinstance(function, np.ufunc):
        return isinstance(place, int)
    given, named = list(args), dict(kwargs)
    if isinstance(place, int):
        given[place] = _Probe()
    else:
        named[place] = _Probe()
    _Probe.seen = False
    with contextlib.suppress(Exception):
        function(*given, **named)
    return _Probe.seen


def as_array(value: Any) -> Any:
    """A list of numbers as an array, where it is one; lists of arrays stay."""
    if type(value) not in (list, tuple) or any(is_numeric(v) for v in parts_of(value)):
        return value
    if not parts_of(value) or not all(is_number(v) for v in parts_of(value)):
        return value
    try:
        array = np.array(value)
    except ValueError:
        return value
    return array if is_numeric(array) else value


#: Lists of arrays: a list of lists stays a list.
LISTS = {
    "stack", "concatenate", "vstack", "hstack", "dstack", "column_stack", "block", "ix_", "lexsort", "broadcast_arrays",
    "multi_dot", "select", "piecewise", "histogramdd", "ravel_multi_index", "rot90", "einsum",
}  # fmt: skip
#: Words of examples that are left out: pictures, layouts in memory, arrays and loops for timing.
SKIPPED = (
    "plt",
    "matplotlib",
    "as_strided",
    "192163377",
    "for iteration in",
    "10000",
    "512*512",
    "(512, 512)",
    "2**9",
    "1000)",
)


def check_call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], element: Any = None) -> tuple[str, str]:
    """``function(*args, **kwargs)`` in NumPy and in a trace; with ``element``, its arrays of floats in that element type."""
    given: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
    if function.__name__ not in LISTS:
        given = {k: as_array(v) if takes_array(function, args, kwargs, k) else v for k, v in given.items()}
    arrays: list[np.ndarray] = []
    replaced(list(given.values()), lambda a: arrays.append(a))
    if not arrays:
        return "", ""
    if element is not None:
        with quiet():
            arrays = [a.astype(element) if a.dtype.kind in "fi" else a for a in arrays]

    def program(*traced: Any) -> Any:
        values = iter(traced)
        filled = {k: replaced(v, lambda _: next(values)) for k, v in given.items()}
        return function(
            *[v for k, v in filled.items() if isinstance(k, int)],
            **{k: v for k, v in filled.items() if not isinstance(k, int)},
        )

    return compared(program, arrays)


# ------------------------------------------------------------------------------------------------ docstrings


def calls_of(
    function: Any, statement: str, names: dict[str, Any]
) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """The calls of ``function`` in a statement, with the arguments evaluated."""
    for node in ast.walk(ast.parse(statement)):
        if not isinstance(node, ast.Call):
            continue
        try:
            with quiet():
                if eval(ast.unparse(node.func), names) is not function:
                    continue
                holder = ast.Call(ast.Name("_arguments", ast.Load()), node.args, node.keywords)
                args, kwargs = eval(
                    ast.unparse(holder), {**copied(names), "_arguments": lambda *args, **kwargs: (args, kwargs)}
                )
        except Exception:
            continue
        yield ast.unparse(node), args, kwargs


def copied(names: dict[str, Any]) -> dict[str, Any]:
    return {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in names.items()}


def statement_program(statement: str, names: dict[str, Any]) -> tuple[Callable[..., Any], list[np.ndarray]] | None:
    """A statement as a function of the arrays that it reads: its value, or what it assigns, and the arrays as changed."""
    tree = ast.parse(statement)
    used = sorted({n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and is_numeric(names.get(n.id))})
    targets = sorted({n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)})
    if not used or "random" in statement or "rng" in statement or "print" in statement or "id(" in statement:
        return None
    last = tree.body[-1]
    if isinstance(last, ast.Expr):
        tree.body[-1] = ast.copy_location(ast.Assign([ast.Name("_value", ast.Store())], last.value), last)
        targets = [*targets, "_value"]
    code = compile(ast.fix_missing_locations(tree), "<docstring>", "exec")

    def program(*arrays: Any) -> Any:
        scope = {**names, **dict(zip(used, arrays, strict=True))}
        exec(code, scope)
        results = {k: scope[k] for k in (*used, *targets) if k in scope}
        return {k: v for k, v in results.items() if not (callable(v) and not isinstance(v, (np.ndarray, Tracer)))}

    return program, [names[n] for n in used]


def namespace() -> dict[str, Any]:
    return {"np": np, "__builtins__": builtins}


def outcomes(name: str, function: Any, element: Any = None) -> list[Outcome]:
    """What becomes of every call of ``function`` in its docstring, and of every statement that reads arrays.

    With ``element``, of the calls alone, their numbers in that element type.
    """
    text = inspect.getdoc(function) or ""
    names = namespace()
    found: list[Outcome] = []
    try:
        examples = doctest.DocTestParser().get_examples(text)
    except ValueError:
        return []
    for example in examples:
        source = example.source.strip()
        if any(word in source for word in SKIPPED):
            continue
        try:
            ast.parse(source)
        except SyntaxError:
            continue
        for call, args, kwargs in calls_of(function, source, names):
            kind, detail = check_call(function, args, kwargs, element)
            if kind:
                found.append(Outcome(name, call, kind, detail))
        program = statement_program(source, names) if element is None else None
        if program is not None:
            found.append(Outcome(name, source, *compared(*program)))
        with contextlib.suppress(Exception), quiet():
            exec(compile(source, "<docstring>", "exec"), names)
    return found


__all__ = ["Outcome", "check_call", "compared", "documented", "outcomes", "public_class"]
