"""``fused``: a graph that a backend computes in one kernel with a template of its own, as one node.

Passes make it of calls whose bodies such a template knows (attention), and look into it no more. It means its body.
"""

from __future__ import annotations

from typing import Any

from graphc.ir import Graph, Op
from graphc.ops.base import define
from graphc.ops.control import check_body, evaluate
from graphc.types import TensorType, TupleType, Type


def _fused_type(*types: TensorType, body: Graph, name: str) -> Type:
    check_body(f"fused {name}", body, types)
    return TupleType(body.output_types)


def _fused_eval(*values: Any, body: Graph, name: str) -> tuple[Any, ...]:
    return tuple(evaluate(body, values))


#: ``fused(*operands, body=, name=)``: the graph ``body`` as one kernel of the template ``name``. It comes after all
#: derivatives, so it has no rules for them.
fused: Op = define(Op("fused", "fused", infer=_fused_type, eval=_fused_eval))

__all__ = ["fused"]
