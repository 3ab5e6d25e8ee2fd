"""graphc: a static computation-graph compiler for NumPy programs."""

from __future__ import annotations

import os as _os

# In a checkout the folders passes/ and backends/ lie beside this package; an installed graphc has them inside.
_root = _os.path.dirname(_os.path.dirname(_os.path.abspath(__file__)))
if _os.path.isdir(_os.path.join(_root, "passes")) and _os.path.isfile(_os.path.join(_root, "pyproject.toml")):
    __path__.append(_root)

from graphc import numpy, optim, random  # noqa: E402  (numpy fills the dispatch tables)
from graphc import nn, scipy  # noqa: E402
from graphc.checking import check_grads  # noqa: E402
from graphc.control import cond, fori_loop, scan, switch, while_loop  # noqa: E402
from graphc.driver import compile, trace  # noqa: E402
from graphc.executable import Executable  # noqa: E402
from graphc.ir import Graph, GraphError, ShapeError  # noqa: E402
from graphc.loading import load  # noqa: E402
from graphc.tracing import Spec, TracerError, UnsupportedError  # noqa: E402
from graphc.training import TrainingStep  # noqa: E402
from graphc.transforms import (  # noqa: E402
    checkpoint, custom_vjp, grad, hessian, hvp, jacfwd, jacobian, jacrev, jvp, stop_gradient, value_and_grad, vjp, vmap,
)  # fmt: skip


def draw(value: object, path: str | _os.PathLike[str]) -> object:
    """Draw a Graph, Schedule or Plan to ``path``; see :meth:`graphc.Graph.draw`."""
    from graphc.drawing import draw as draw_to

    return draw_to(value, path)


__version__ = "0.1.0"
__all__ = [
    "Executable", "Graph", "GraphError", "ShapeError", "Spec", "TracerError", "TrainingStep", "UnsupportedError", "check_grads",
    "checkpoint", "compile", "cond", "custom_vjp", "draw", "fori_loop", "grad", "hessian", "hvp", "jacfwd", "jacobian",
    "jacrev", "jvp", "load", "nn", "numpy", "optim", "random", "scan", "scipy", "stop_gradient", "switch", "trace",
    "value_and_grad", "vjp", "vmap", "while_loop",
]  # fmt: skip
