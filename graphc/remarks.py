"""Warnings that point at the user's line, however deep inside graphc they are given."""

from __future__ import annotations

import sys
import warnings


def remark(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn with the place of the innermost frame that is not graphc's (or code that graphc generated)."""
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and is_ours(frame.f_globals.get("__name__"), frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level + 1)


def is_ours(module: object, filename: str) -> bool:
    return filename.startswith("<graphc ") or str(module).partition(".")[0] == "graphc"
