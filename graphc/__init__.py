"""graphc: a static computation-graph compiler for NumPy programs."""

from __future__ import annotations

import os as _os

# In a checkout the folders passes/ and backends/ lie beside this package; an installed graphc has them inside.
_root = _os.path.dirname(_os.path.dirname(_os.path.abspath(__file__)))
if _os.path.isdir(_os.path.join(_root, "passes")) and _os.path.isfile(_os.path.join(_root, "pyproject.toml")):
    __path__.append(_root)

from graphc import numpy  # noqa: E402  (fills the dispatch tables)
from graphc.ir import Graph, GraphError  # noqa: E402
from graphc.tracing import Spec, TracerError, UnsupportedError  # noqa: E402
from graphc.transforms import (  # noqa: E402
    checkpoint, custom_vjp, grad, hessian, hvp, jacfwd, jacobian, jacrev, jvp, stop_gradient, value_and_grad, vjp, vmap,
)  # fmt: skip

__version__ = "0.1.0"
