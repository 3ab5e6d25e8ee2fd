"""Nodes that hold several results or a graph: ``item`` reads a tuple, ``call`` is a named composite."""

from __future__ import annotations

from typing import Any

from graphc.ir import GraphError, Op
from graphc.ops.base import define
from graphc.types import TupleType, Type


def _item_type(x: Type, index: int) -> Type:
    if not isinstance(x, TupleType) or not 0 <= index < len(x.items):
        raise GraphError(f"item: there is no result {index} in {x}")
    return x.items[index]


#: ``item(x, index=)``: one result of a node with several. Derivative and batching drivers treat it structurally.
item: Op = define(Op("item", "tuple", infer=_item_type, eval=lambda x, index: x[index]))


def items(x: Any) -> tuple[Any, ...]:
    """All results of a tuple-typed node."""
    return tuple(item(x, index=k) for k in range(len(x.type.items)))
