"""The reference backend: interprets a Graph, a Schedule and a Plan with the NumPy meaning of each op.

The three give the same bits: a fused program that differs from its graph is fused wrongly, a planned one that differs
from its schedule has two values in one place.
"""

from __future__ import annotations

from graphc.backends.reference.interpret import UnwrittenError, run_graph, run_plan, run_schedule

__all__ = ["UnwrittenError", "run_graph", "run_plan", "run_schedule"]
