"""What graphc traces of NumPy: every function is traced and has cases, or raises by name with its reason."""

from __future__ import annotations

from typing import Any

import coverage_table
import numpy as np
import pytest

import graphc
from graphc.tracing import FUNCTIONS, LEFT_OUT, UFUNCS, UnsupportedError

#: Functions of what is known while tracing (shapes, element types): without cases, tested in test_numpy_shapes.py.
KNOWN = {
    "np.can_cast", "np.common_type", "np.copyto", "np.einsum_path", "np.iscomplexobj", "np.isrealobj",
    "np.may_share_memory", "np.min_scalar_type", "np.ndim", "np.result_type", "np.shape", "np.shares_memory", "np.size",
}  # fmt: skip


def test_every_function_is_traced_or_left_out_with_a_reason() -> None:
    known = coverage_table.functions()
    done = {*coverage_table.covered(), *coverage_table.namesakes()}
    assert [name for name, f in known.items() if name not in done and f not in LEFT_OUT] == []


def test_at_least_85_percent_of_the_functions_are_traced() -> None:
    done = {*coverage_table.covered(), *coverage_table.namesakes()}
    assert len(done) >= 0.85 * len(coverage_table.functions())


def test_every_ufunc_is_traced() -> None:
    assert [n for n, u in coverage_table.ufuncs().items() if u not in UFUNCS and u not in FUNCTIONS] == []


def test_what_is_traced_has_cases() -> None:
    cases = coverage_table.cases_of()
    names = {*coverage_table.covered(), *coverage_table.namesakes(), *coverage_table.ufuncs()} - KNOWN
    assert sorted(name for name in names if not coverage_table.cases_for(name, cases)) == []


@pytest.mark.parametrize("function", LEFT_OUT, ids=lambda f: getattr(f, "__name__", str(f)))
def test_what_is_left_out_raises_by_name_with_the_reason(function: Any) -> None:
    def program(x: Any) -> Any:
        return x.__array_function__(function, (type(x),), (x,), {})

    with pytest.raises(UnsupportedError) as caught:
        graphc.trace(program, np.ones(3))
    assert function.__name__ in str(caught.value) and LEFT_OUT[function] in str(caught.value)


def test_the_table_in_the_documentation_is_this_one() -> None:
    text = coverage_table.PATH.read_text()
    if f"NumPy {np.__version__.rpartition('.')[0]}" in text:
        assert text == coverage_table.text(), "python tests/coverage_table.py writes it anew"
    else:  # another version of NumPy has other functions
        assert all(f"`{name}`" in text for name in ("np.sum", "np.linalg.solve", "np.add", "scipy.special.erf"))
