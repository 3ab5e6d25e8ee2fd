"""The environment variables of graphc: one table, read at the moment of use.

>>> import os
>>> os.environ["GRAPHC_DEBUG"] = "2"
>>> get(DEBUG), get("GRAPHC_DEBUG")
(2, 2)
>>> del os.environ["GRAPHC_DEBUG"]
>>> get(DEBUG)
0

``python -m graphc.config`` prints the table as the README shows it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class ConfigError(ValueError):
    """An environment variable holds what it cannot mean. Names the variable, the text and what is accepted."""


@dataclass(frozen=True)
class Kind(Generic[T_co]):
    """How the text of a variable becomes a value.

    ``label`` says in words what is accepted, ``parse`` makes the value (ValueError where it cannot), and ``blank``
    tells whether an empty text is a value of its own; elsewhere it means that the variable is not set.
    """

    label: str
    parse: Callable[[str], T_co]
    blank: bool = False


@dataclass(frozen=True)
class Variable(Generic[T]):
    """One environment variable. ``default`` is what :func:`get` returns where it is not set."""

    name: str
    default: T
    type: Kind[T]
    doc: str


def _integer(low: int, high: int | None = None) -> Kind[int]:
    def parse(text: str) -> int:
        value = int(text)
        if value < low or (high is not None and value > high):
            raise ValueError
        return value

    return Kind(f"integer from {low}" + ("" if high is None else f" to {high}"), parse)


def _flag(text: str) -> bool:
    return {"0": False, "1": True}[text]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _size(text: str) -> int:
    parts = re.fullmatch(r"(\d+)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if parts is None:
        raise ValueError
    return int(parts[1]) << 10 * " KMGT".index(parts[2].upper() or " ")


def _folder(text: str) -> Path:
    return Path(text).expanduser().absolute()


DEBUG = Variable(
    "GRAPHC_DEBUG",
    0,
    _integer(0, 4),
    "What is printed while compiling: 1 names passes, times, the slowest kernels and why code was not in the cache, 2 adds "
    "schedules and memory plans, 3 the graph after every pass, 4 the generated source.",
)
DUMP: Variable[Path | None] = Variable(
    "GRAPHC_DUMP",
    None,
    Kind("folder", _folder),
    "Every stage is written there as numbered text and `.dot` files.",
)
DISABLE = Variable(
    "GRAPHC_DISABLE",
    (),
    Kind("names, separated by commas", _names),
    "Passes to leave out.",
)
VERIFY = Variable(
    "GRAPHC_VERIFY",
    True,
    Kind("0 or 1", _flag),
    "Whether the verifier runs between passes.",
)
BACKEND = Variable(
    "GRAPHC_BACKEND",
    "cpu",
    Kind("name", str.strip),
    "The backend of `compile` where the call names none.",
)
THREADS: Variable[int | None] = Variable(
    "GRAPHC_THREADS",
    None,
    _integer(1),
    "Threads of one call; unset: every core that the process may use. Results do not depend on it.",
)
CPU = Variable(
    "GRAPHC_CPU",
    "host",
    Kind("LLVM name of a CPU, or `host`", str.strip),
    "The processor to compile for, such as `x86-64-v3` or `znver4`.",
)
CACHE_DIR: Variable[str | None] = Variable(
    "GRAPHC_CACHE_DIR",
    None,
    Kind("folder; `off` or empty: no cache", str.strip, blank=True),
    "Where compiled code is kept between processes; unset: `graphc` in the user's cache folder.",
)
CACHE_SIZE = Variable(
    "GRAPHC_CACHE_SIZE",
    1 << 30,
    Kind("bytes, or with K, M, G, T", _size),
    "The disk cache is kept below this size; what was used longest ago goes first.",
)

VARIABLES: tuple[Variable[Any], ...] = (DEBUG, DUMP, DISABLE, VERIFY, BACKEND, THREADS, CPU, CACHE_DIR, CACHE_SIZE)
_BY_NAME = {variable.name: variable for variable in VARIABLES}


@overload
def get(variable: Variable[T]) -> T: ...
@overload
def get(variable: str) -> Any: ...
def get(variable: Variable[Any] | str) -> Any:
    """The value of a variable, given as its entry (then the result is typed) or by name, read from the environment now.

    Raises ConfigError for a text that the variable cannot mean, and KeyError for a name that is not in the table.
    """
    entry = _BY_NAME[variable] if isinstance(variable, str) else variable
    text = os.environ.get(entry.name)
    if text is None or not (text.strip() or entry.type.blank):
        return entry.default
    try:
        return entry.type.parse(text)
    except (ValueError, KeyError):
        raise ConfigError(f"{entry.name}={text!r} has no meaning: it takes {entry.type.label}") from None


def table() -> str:
    """All variables as a Markdown table: name, what it takes, default, meaning."""
    rows = [f"| `{v.name}` | {v.type.label} | {_shown_default(v)} | {v.doc} |" for v in VARIABLES]
    return "\n".join(["| variable | takes | default | meaning |", "| --- | --- | --- | --- |", *rows])


def _shown_default(variable: Variable[Any]) -> str:
    match variable.default:
        case None | ():
            return ""
        case bool(flag):
            return f"`{int(flag)}`"
        case int(size) if variable.type.parse is _size:
            return f"`{size >> 30}G`"
        case value:
            return f"`{value}`"


if __name__ == "__main__":
    print(table())
