"""Where in the user's program something happens: the innermost frame that belongs neither to graphc nor to NumPy."""

from __future__ import annotations

import linecache
import os
import sys
from types import CodeType, FrameType

import numpy as np

from graphc.ir import Line

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_ROOT = os.path.dirname(os.path.dirname(_HERE)) + os.sep
_INTERNAL = (
    _HERE,
    _ROOT + "passes" + os.sep,
    _ROOT + "backends" + os.sep,
    os.path.dirname(np.__file__) + os.sep,
)
_EXTERNAL = (os.path.join(_HERE, "nn") + os.sep,)
_internal_code: dict[CodeType, bool] = {}
_lines: dict[tuple[CodeType, int], tuple[Line, ...]] = {}


def is_internal(code: CodeType) -> bool:
    known = _internal_code.get(code)
    if known is None:
        name = code.co_filename
        known = name.startswith(_INTERNAL) or name.startswith("<frozen") or name.startswith("<__array_function__")
        _internal_code[code] = known
    return known


def user_frame() -> FrameType | None:
    """The frame of the user's code that is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_internal(frame.f_code):
        frame = frame.f_back
    return frame


def user_lines() -> tuple[Line, ...]:
    """The line of the user's program that is running, as a tuple of one (or none)."""
    frame = user_frame()
    if frame is None:
        return ()
    key = (frame.f_code, frame.f_lineno)
    lines = _lines.get(key)
    if lines is None:
        lines = (Line(short_path(frame.f_code.co_filename), frame.f_lineno, frame.f_code.co_qualname),)
        _lines[key] = lines
    return lines


def short_path(path: str) -> str:
    """``path`` relative to the working directory where it lies below it."""
    try:
        relative = os.path.relpath(path)
    except ValueError:
        return path
    return path if relative.startswith("..") else relative


def where() -> str:
    """``model.py:31: `x @ w` in forward``: the running expression of the user's program, from the instruction."""
    frame = user_frame()
    if frame is None:
        return "an unknown line"
    code = frame.f_code
    place = f"{short_path(code.co_filename)}:{frame.f_lineno}"
    text = expression(frame)
    return f"{place}: `{text}`" if text else place


def expression(frame: FrameType) -> str:
    """The source text of the instruction that ``frame`` is at."""
    positions = list(frame.f_code.co_positions())
    k = frame.f_lasti // 2
    if k >= len(positions):
        return ""
    line, end_line, column, end_column = positions[k]
    if line is None or column is None or end_column is None:
        return ""
    text = linecache.getline(frame.f_code.co_filename, line, frame.f_globals).rstrip("\n")
    raw = text.encode()
    piece = raw[column : end_column if end_line == line else None].decode(errors="replace").strip()
    return piece + (" …" if end_line != line else "")
