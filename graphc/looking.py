"""What Graph, Schedule and Plan share: methods to draw and export them, and their notebook form."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class Inspectable:
    """Methods over :mod:`graphc.drawing`, imported when they are used."""

    __slots__ = ()

    def to_dot(self) -> str:
        """The drawing as DOT text."""
        from graphc.drawing import to_dot

        return to_dot(self)

    def draw(self, path: str | os.PathLike[str]) -> Path:
        """Draw to a file, by suffix ``.svg``, ``.png``, ``.pdf`` or ``.dot``; the path that was written.

        Rendered by ``dot`` where that is installed, else by pygraphviz; without either the DOT text is written and a
        message says what to install.
        """
        from graphc.drawing import draw

        return draw(self, path)

    def to_networkx(self) -> Any:
        """A ``networkx.MultiDiGraph`` with op, type, role and lines as attributes of the nodes."""
        from graphc.drawing import to_networkx

        graph: Any = getattr(self, "graph", self)
        return to_networkx(graph)

    def _repr_html_(self) -> str:
        from graphc.drawing import repr_html

        return repr_html(self)
