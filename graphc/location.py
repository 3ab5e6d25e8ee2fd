"""Where in the user's program something happens: the innermost frame that belongs neither to graphc nor to NumPy.

The running instruction of that frame, through ``co_positions``, gives the expression, and its opcode tells what is done
with a value: the cases that all arrive at one protocol method (``a[i]``, ``a[i] = x``, ``np.array([x])``) are told apart.
"""

from __future__ import annotations

import ast
import dis
import linecache
import os
import sys
import textwrap
from types import CodeType, FrameType

import numpy as np

from graphc.ir import Line

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_ROOT = os.path.dirname(os.path.dirname(_HERE)) + os.sep
SCIPY = os.path.join(os.path.dirname(os.path.dirname(np.__file__)), "scipy") + os.sep  # it lies beside NumPy
_INTERNAL = (
    _HERE,
    _ROOT + "passes" + os.sep,
    _ROOT + "backends" + os.sep,
    os.path.dirname(np.__file__) + os.sep,
    SCIPY,
    "<frozen",
    "<__array_function__",
)
_internal_code: dict[CodeType, bool] = {}
_lines: dict[tuple[CodeType, int], tuple[Line, ...]] = {}


def is_internal(code: CodeType) -> bool:
    known = _internal_code.get(code)
    if known is None:
        known = _internal_code[code] = code.co_filename.startswith(_INTERNAL)
    return known


def user_frame() -> FrameType | None:
    """The frame of the user's code that is running."""
    frame: FrameType | None = sys._getframe(2)  # not the caller, which is graphc's
    known = _internal_code.get
    while frame is not None:
        internal = known(frame.f_code)
        if not internal and (internal is False or not is_internal(frame.f_code)):
            break
        frame = frame.f_back
    return frame


def scipy_module() -> str | None:
    """The package of SciPy (``scipy.stats``) that the user's running line has called and that called back."""
    frame: FrameType | None = sys._getframe(1)
    found = None
    while frame is not None and is_internal(frame.f_code):
        if frame.f_code.co_filename.startswith(SCIPY):
            found = ".".join(frame.f_globals.get("__name__", "scipy").split(".")[:2])
        frame = frame.f_back
    return found


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
    """``model.py:31: `x @ w```: the running expression of the user's program, from the instruction."""
    frame = user_frame()
    if frame is None:
        return "an unknown line"
    text = expression(frame)
    return f"{place(frame)}: `{text}`" if text else place(frame)


def place(frame: FrameType) -> str:
    """``model.py:31``"""
    return f"{short_path(frame.f_code.co_filename)}:{frame.f_lineno}"


def expression(frame: FrameType, whole: bool = False) -> str:
    """The source text of the instruction that ``frame`` is at: its first line and an ellipsis, or the ``whole``."""
    positions = list(frame.f_code.co_positions())
    k = frame.f_lasti // 2
    if k >= len(positions):
        return ""
    line, end_line, column, end_column = positions[k]
    if line is None or end_line is None or column is None or end_column is None:
        return ""
    rows = [linecache.getline(frame.f_code.co_filename, n, frame.f_globals).encode() for n in range(line, end_line + 1)]
    rows[-1] = rows[-1][:end_column]
    rows[0] = rows[0][column:]
    if whole or line == end_line:
        return b"".join(rows).decode(errors="replace").strip()
    return rows[0].decode(errors="replace").strip() + " …"


def operation(frame: FrameType) -> str:
    """What the running instruction does, by the name of its opcode: STORE_SUBSCR, BINARY_SUBSCR, CALL, …"""
    name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
    if name == "BINARY_OP" and frame.f_code.co_code[frame.f_lasti + 1] == _SUBSCRIPT:
        return "BINARY_SUBSCR"
    return name


#: From Python 3.14 on ``a[i]`` is one of the binary operators.
_SUBSCRIPT = next((k for k, (name, *_) in enumerate(getattr(dis, "_nb_ops", ())) if name == "NB_SUBSCR"), -1)


def operand_texts(frame: FrameType) -> list[str]:
    """The source texts of the operands of the running expression: both sides of an operator, or the arguments.

    Of a call on one list (``np.stack([x, y])``) they are the elements.
    """
    text = textwrap.dedent(expression(frame, whole=True))
    try:
        statement = ast.parse(text).body[0]
    except (SyntaxError, IndexError, ValueError):
        return []
    value = statement.value if isinstance(statement, ast.Expr) else statement
    parts: list[ast.expr]
    match value:
        case ast.BinOp(left, _, right):
            parts = [left, right]
        case ast.AugAssign(target, _, right):
            parts = [target, right]
        case ast.Compare(left, _, [right]):
            parts = [left, right]
        case ast.Call(ast.Attribute(owner, _), arguments) if ast.unparse(owner) not in ("np", "numpy", "gnp"):
            parts = [owner, *arguments]
        case ast.Call(_, [ast.List(elements) | ast.Tuple(elements), *_]):
            parts = elements
        case ast.Call(_, arguments):
            parts = arguments
        case _:
            return []
    return [ast.get_source_segment(text, part) or "" for part in parts]
