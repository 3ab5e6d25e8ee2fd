"""What a traced function computes, beside what NumPy computes by the same code."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import graphc
from graphc.interpreter import evaluate
from graphc.tracing import Program, trace_program
from graphc.tree import flatten
from graphc.verifier import verify


def traced(function: Callable[..., Any], *args: Any) -> Any:
    """``function`` traced for ``args`` and evaluated on them, every value checked against its type."""
    program = trace_program(function, args, {})
    verify(program.graph)
    return run(program, *args)


def run(program: Program, *args: Any) -> Any:
    leaves = [v for v in flatten(args)[0] if not callable(v) and not isinstance(v, str)]
    values = [np.asarray(v, a.type.dtype.numpy) for v, a in zip(leaves, program.arguments, strict=True)]
    return graphc.tree.unflatten(program.out_tree, evaluate(program.graph, values, check=True))


def in_numpy(function: Callable[..., Any], *args: Any) -> Any:
    copies = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return function(*copies)


def check_same(
    function: Callable[..., Any], *args: Any, rtol: float = 1e-6, atol: float = 1e-6, label: str = ""
) -> None:
    """The traced function gives NumPy's element types, shapes and values."""
    want = flatten(in_numpy(function, *args))[0]
    have = flatten(traced(function, *args))[0]
    assert len(have) == len(want), label
    for one, other in zip(have, want, strict=True):
        other = np.asarray(other)
        assert one.dtype == other.dtype, f"{label}: {one.dtype}, NumPy has {other.dtype}"
        assert one.shape == other.shape, f"{label}: {one.shape}, NumPy has {other.shape}"
        if other.dtype.kind == "f" and other.dtype.itemsize < 8:
            one, other = one.astype(np.float64), other.astype(np.float64)
            rough = {"float16": 4e-3, "float32": 2e-5}.get(str(np.asarray(have[0]).dtype), 2e-2)
            np.testing.assert_allclose(one, other, rtol=rough, atol=rough, err_msg=label)
        elif other.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=rtol * 1e-4, atol=atol * 1e-6, err_msg=label)
        else:
            np.testing.assert_array_equal(one, other, err_msg=label)
