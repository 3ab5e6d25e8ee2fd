"""The examples in docstrings, of every module that has some."""

from __future__ import annotations

import ast
import doctest
import importlib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


def modules_with_examples() -> list[str]:
    found = []
    for folder, package in (("graphc", "graphc"), ("passes", "graphc.passes"), ("backends", "graphc.backends")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if any(">>> " in (text or "") for text in docstrings(path)):
                parts = path.relative_to(ROOT / folder).with_suffix("").parts
                found.append(".".join((package, *[p for p in parts if p != "__init__"])))
    return found


def docstrings(path: Path) -> list[str | None]:
    nodes = [
        n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef))
    ]
    return [ast.get_docstring(n) for n in nodes]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    with np.printoptions(legacy=False):
        result = doctest.testmod(
            module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, extraglobs={"np": np}
        )
    assert result.attempted > 0, f"{name}: its examples are not collected"
    assert result.failed == 0, f"{name}: {result.failed} of {result.attempted} examples failed (see the output)"
