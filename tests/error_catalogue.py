"""The catalogue of errors, ``graphc/docs/errors.md``: its entries, and what their bad and good examples do.

``python tests/error_catalogue.py`` writes the messages into the file anew, after a wording has changed.
"""

from __future__ import annotations

import copy
import inspect
import linecache
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import graphc
from graphc.interpreter import evaluate

PATH = Path(__file__).resolve().parent.parent / "graphc" / "docs" / "errors.md"
_CODE = r"(?:(?!```).)*?"
ENTRY = re.compile(
    rf"^### (?P<title>[^\n]+)\n\n(?P<prose>[^\n`]+\n\n)?```python\n(?P<bad>{_CODE})```\n\n"
    rf"```text\n(?P<message>{_CODE})```\n\n```python\n(?P<good>{_CODE})```\n",
    re.MULTILINE | re.DOTALL,
)
#: What the examples are traced with, by the names of their parameters.
ARGUMENTS: dict[str, Any] = {
    "x": np.array([0.5, -1.0, 2.0]),
    "y": np.array([1.5, 0.25, -0.75]),
    "a": np.array([[2.0, 0.5], [0.5, 3.0]]),
    "s": np.float64(0.75),
    "i": np.array(1),
    "n": np.array(3),
    "x32": np.array([0.5, -1.0, 2.0], np.float32),
    "params": {"w": np.eye(3), "b": np.zeros(3)},
}


@dataclass(frozen=True)
class Entry:
    title: str
    bad: str
    message: str
    good: str


def entries(text: str | None = None) -> list[Entry]:
    found = PATH.read_text() if text is None else text
    return [Entry(m["title"], m["bad"], m["message"].strip(), m["good"]) for m in ENTRY.finditer(found)]


def define(source: str, name: str = "model.py") -> dict[str, Any]:
    """The names that an example defines. Its lines are known under ``name``, as those of a file are."""
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    scope = {"np": np, "graphc": graphc, "math": math, "__name__": "model", **copy.deepcopy(ARGUMENTS)}
    exec(compile(source, name, "exec"), scope)
    return scope


def message_of(entry: Entry) -> str:
    """What the bad example raises: ``TypeOfError: message``. Its last line traces ``f``."""
    parameters = re.search(r"^def f\((.*)\):", entry.bad, re.MULTILINE)
    assert parameters is not None, entry.title
    try:
        define(f"{entry.bad}\ngraphc.trace(f, {parameters[1]})\n")
    except Exception as error:
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        return f"{type(error).__name__}: {error}{notes}"
    raise AssertionError(f"{entry.title}: the bad example raises nothing")


def run_good(entry: Entry) -> None:
    """The good example is traced, and gives what NumPy gives where it is NumPy alone."""
    function = define(entry.good)["f"]
    names = list(inspect.signature(function).parameters)
    graph = graphc.trace(function, *[ARGUMENTS[name] for name in names])
    if "graphc." in entry.good:
        return
    want = graphc.tree.flatten(function(*copy.deepcopy([ARGUMENTS[name] for name in names])))[0]
    have = evaluate(graph, [np.asarray(ARGUMENTS[name]) for name in names])
    for mine, theirs in zip(have, want, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)


def rewritten() -> str:
    def fill(match: re.Match[str]) -> str:
        message = message_of(Entry(match["title"], match["bad"], "", match["good"]))
        begin, end = match.span("message")
        return match[0][: begin - match.start()] + message + "\n" + match[0][end - match.start() :]

    return ENTRY.sub(fill, PATH.read_text())


if __name__ == "__main__":
    PATH.write_text(rewritten())
