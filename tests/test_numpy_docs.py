"""graphc means what NumPy means: NumPy's own examples, signatures, methods, errors, and what sceptical users try."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from docstring_examples import Outcome, compared, documented, outcomes, public_class
from numpy_snippets import AWKWARD, BAD, METHODS, REFUSED, SNIPPETS

import graphc
from graphc.tracing import FUNCTIONS, TracerError, UnsupportedError

RNG = np.random.default_rng(0)
ROOT = RNG.normal(size=(4, 4))

#: Why an example of NumPy's is refused → what the message says.
REASONS = {
    "the shape or type of the result depends on the numbers": "depends on data|at traced places|with room for",
    "a mask chooses how many elements there are": "for a fill that does not count",
    "the numbers are asked for": "needs the numbers of|truth value of a traced|as a Python integer|would write a traced",
    "the memory of an array is asked for": "known of the memory|memory layout|np.may_share_memory",
    "objects, strings and subclasses are no arrays of numbers": "no element type for|not an array of numbers|no subclasses",
    "a function that writes into parts of an array": "the function would write into parts",
    "the eigenvalues of a real matrix may be complex": "may be complex|are complex",
    "decompositions of complex matrices": "of complex matrices is not traced",
}

#: Where examples differ, because NumPy promises nothing → part of their source.
UNDEFINED = {
    "what np.empty_like holds": "empty_like",
    "what the array holds after overwrite_input": "overwrite_input",
    "the order within the parts": "partition(a, ",
}


def test_reasons_are_words() -> None:
    assert all(" " in reason for reason in (*REASONS, *UNDEFINED))


@pytest.mark.parametrize("name", documented())
def test_examples_of_the_docstring(name: str) -> None:
    found = outcomes(name, documented()[name])
    assert [o for o in found if unexpected(o)] == []


@pytest.mark.skipif(not os.environ.get("GRAPHC_TEST_FULL"), reason="GRAPHC_TEST_FULL=1 runs the examples in more types")
@pytest.mark.parametrize("element", ["f4", "i4", "i1", "b", "c8"])
@pytest.mark.parametrize("name", documented())
def test_calls_of_the_docstring_in_other_types(name: str, element: str) -> None:
    found = outcomes(name, documented()[name], element=np.dtype(element))
    assert [o for o in found if unexpected(o) and not any(part in o.source for part in LENIENT.values())] == []


#: Where graphc takes what NumPy refuses, or the other way round, in some element types → part of the source.
LENIENT = {
    "weights that sum to zero, which are not known": "average(data",
    "a float median is not written into integers": "out=",
    "the order of equal elements": "argpartition",
    "complex replacements of NaN": "nan_to_num(",
    "complex values with a period": "period=",
}


def unexpected(outcome: Outcome) -> bool:
    if outcome.kind == "refused":
        return not any(re.search(pattern, outcome.detail) for pattern in REASONS.values())
    return outcome.kind == "different" and not any(part in outcome.source for part in UNDEFINED.values())


# ------------------------------------------------------------------------------------------------ signatures

#: Parameters that NumPy or the dispatch takes away before a function of graphc is called; ndmax is refused by name.
TAKEN = {"like", "out", "ndmax"}


@pytest.mark.parametrize("name", [n for n, f in documented().items() if not isinstance(f, np.ufunc)])
def test_parameters_are_those_of_numpy(name: str) -> None:
    function = documented()[name]
    have = list(inspect.signature(FUNCTIONS[function]).parameters.values())
    kinds = {p.kind for p in have}
    if inspect.Parameter.VAR_POSITIONAL in kinds and inspect.Parameter.VAR_KEYWORD in kinds:
        return  # passes everything on
    names = [p.name for p in have]
    for k, parameter in enumerate(inspect.signature(function).parameters.values()):
        if parameter.name in TAKEN and parameter.name not in names:
            continue
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            assert names[k] == parameter.name or inspect.Parameter.VAR_POSITIONAL in kinds, parameter
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            assert parameter.name in names or inspect.Parameter.VAR_KEYWORD in kinds, parameter


def test_arguments_that_are_not_known_are_refused_by_name() -> None:
    unknown: Any = {"extobj": []}
    with pytest.raises(UnsupportedError, match=r"np\.clip.*'extobj'"):
        graphc.trace(lambda x: np.clip(x, 0, 1, **unknown), np.ones(3))


# ------------------------------------------------------------------------------------------------ snippets


def function_of(line: str, arrays: dict[str, Any]) -> tuple[Callable[..., Any], list[str]]:
    """A line of tests/numpy_snippets.py as a function of the arrays that it reads, and their names."""
    *statements, last = [part.strip() for part in line.split("; ")]
    last = last if last.startswith("return ") else f"return {last}"
    bare = re.sub(r"'[^']*'", "''", line)
    used = [n for n in arrays if re.search(rf"(?<![\w.]){n}(?!\w)", bare)]
    source = f"def function({', '.join(used)}):\n" + "".join(f"    {s}\n" for s in (*statements, last))
    scope: dict[str, Any] = {"np": np}
    exec(compile(source, "<line>", "exec"), scope)
    return scope["function"], used


def check_line(line: str, arrays: dict[str, Any], element: type) -> tuple[str, str]:
    function, used = function_of(line, arrays)
    values = [arrays[n] for n in used]
    narrow = {np.dtype(np.float64): np.float32, np.dtype(np.complex128): np.complex64}
    if element is np.float32:
        values = [v.astype(narrow.get(v.dtype, v.dtype)) for v in values]
    return compared(function, values)


PROGRAM = {
    "x": RNG.normal(size=8),
    "a": RNG.normal(size=(4, 5)),
    "b": RNG.normal(size=(4, 5)),
    "m": ROOT @ ROOT.T + 4 * np.eye(4),
    "t": RNG.normal(size=(2, 3, 4)),
    "i": np.array([2, 0, 3, 1]),
    "k": np.array([1, 0, 1, 1, 0, 0, 1, 0], bool),
    "s": np.float64(0.7),
}


@pytest.mark.parametrize("element", [np.float64, np.float32])
@pytest.mark.parametrize("line", SNIPPETS.strip().split("\n"))
def test_snippets(line: str, element: type) -> None:
    assert check_line(line, PROGRAM, element) == ("same", "")


#: Awkward numbers: NaN, both zeros, small and large integers, nothing at all, Python's own numbers.
NUMBERS = {
    **PROGRAM,
    "s": np.array(0.7),
    "u": np.array([1, 200, 3, 0], np.uint8),
    "j": np.array([3, -7, 100, 1], np.int8),
    "g": np.array([1, 2**63 + 5, 7, 2**64 - 1], np.uint64),
    "z": np.array([0.0, -0.0, 1.0, -1.0]),
    "n": np.array([1.0, np.nan, -2.0, 0.3, np.inf]),
    "o": np.zeros((0, 3)),
    "w": RNG.normal(size=4).astype(np.float32),
    "P": 2.5,
    "Q": 2,
    "R": True,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("line", AWKWARD.strip().split("\n"))
def test_awkward_numbers_types_and_views(line: str) -> None:
    assert check_line(line, NUMBERS, np.float64) == ("same", "")


# ------------------------------------------------------------------------------------------------ methods

ARRAYS = {
    "a": np.arange(1.0, 7.0).reshape(2, 3) * 0.5,
    "v": np.array([3.0, 1.0, 2.0, 0.5]),
    "i": np.array([[3, 1, 2], [0, 5, 4]]),
    "b": np.array([True, False, True]),
    "m": np.array([[2.0, 1.0], [1.0, 3.0]]),
    "c": np.array([1 + 2j, 3 - 1j]),
}


@pytest.mark.parametrize("element", [np.float64, np.float32])
@pytest.mark.parametrize("line", METHODS.strip().split("\n"))
def test_methods_and_operators(line: str, element: type) -> None:
    assert check_line(line, ARRAYS, element) == ("same", "")


@pytest.mark.parametrize("line", REFUSED.strip().split("\n"))
def test_what_asks_for_numbers_or_memory_is_refused(line: str) -> None:
    function, used = function_of(line, ARRAYS)
    with pytest.raises((TracerError, UnsupportedError), match="; |: ") as caught:
        graphc.trace(function, *[ARRAYS[n] for n in used])
    assert "<line>:2" in str(caught.value)


#: Names of ndarray that are not methods for users: protocols of memory, of subclasses and of pickle.
PROTOCOLS = {
    "__array_finalize__", "__array_interface__", "__array_struct__", "__array_wrap__", "__class_getitem__", "__dlpack__",
    "__dlpack_device__", "__setstate__",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(dir(np.ndarray)) - PROTOCOLS))
def test_every_name_of_ndarray_is_there_or_refused_by_name(name: str) -> None:
    def program(x: Any) -> Any:
        getattr(x, name)
        return x

    try:
        graphc.trace(program, np.ones((2, 3)))
    except TracerError as error:
        assert name in str(error) and "; " in str(error)


def test_names_of_no_array_are_attribute_errors() -> None:
    def program(x: Any) -> Any:
        assert not any(hasattr(x, name) for name in ("getitem", "array", "power", "write_out", "foo", "tocsr", "numpy"))
        return x

    graphc.trace(program, np.ones(3))


# ------------------------------------------------------------------------------------------------ errors

OPERANDS = {
    "x": np.arange(6.0).reshape(2, 3),
    "v": np.arange(3.0),
    "m": np.eye(3),
    "s": np.float64(2.0),
    "i": np.arange(3),
    "b": np.array([True, False, True]),
    "t": np.arange(24.0).reshape(2, 3, 4),
    "e": np.zeros((0, 3)),
    "c": np.array([1j, 2, 3]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("line", BAD.strip().split("\n"))
def test_what_numpy_refuses_is_refused_with_its_class(line: str) -> None:
    function, used = function_of(line, OPERANDS)
    with pytest.raises(Exception) as wanted:  # noqa: B017, PT011 (NumPy says which)
        function(*[OPERANDS[n].copy() for n in used])
    with pytest.raises(public_class(wanted.value)) as caught:
        graphc.trace(function, *[OPERANDS[n] for n in used])
    text = str(caught.value) + " ".join(getattr(caught.value, "__notes__", ()))
    if not isinstance(caught.value, (TypeError, AttributeError)) or isinstance(caught.value, graphc.GraphError):
        assert "<line>:2" in text  # of the others, NumPy itself refuses some before graphc is asked


def test_shape_errors_are_caught_as_value_errors() -> None:
    def fallback(x: Any, y: Any) -> Any:
        try:
            return x @ y
        except ValueError:
            return x.T @ y

    x = np.arange(6.0).reshape(2, 3)
    assert compared(fallback, [x, x])[0] == "same"
    with pytest.raises(graphc.ShapeError) as caught:
        graphc.trace(lambda x, y: x + y, x, np.ones(4))
    assert isinstance(caught.value, (graphc.GraphError,)) and isinstance(caught.value, ValueError)
