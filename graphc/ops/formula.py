"""Formulas over graph nodes, written as mathematics: what the special functions are made of.

A :class:`Real` is a node of a float type with Python's operators; numbers take its type. :func:`expansion` makes of a
formula what an op record wants as ``expand``: it computes in f64 whatever float type the operands have.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.ir import Builder, Graph, Node, Op
from graphc.ops import arithmetic as a
from graphc.ops.base import const
from graphc.ops.movement import broadcast
from graphc.ops.reduction import reduce_sum
from graphc.types import TensorType, dtype, f64


class Real:
    """A node with operators. Comparisons give the node of the condition."""

    __slots__ = ("node",)

    def __init__(self, node: Node) -> None:
        self.node = node

    def _of(self, value: Any) -> Node:
        return value.node if isinstance(value, Real) else a.like(self.node, value)

    def _with(self, op: Op, other: Any) -> Real:
        return Real(op(self.node, self._of(other)))

    def _from(self, op: Op, other: Any) -> Real:
        return Real(op(self._of(other), self.node))

    def __add__(self, other: Any) -> Real:
        return self._with(a.add, other)

    def __radd__(self, other: Any) -> Real:
        return self._from(a.add, other)

    def __sub__(self, other: Any) -> Real:
        return self._with(a.sub, other)

    def __rsub__(self, other: Any) -> Real:
        return self._from(a.sub, other)

    def __mul__(self, other: Any) -> Real:
        return self._with(a.mul, other)

    def __rmul__(self, other: Any) -> Real:
        return self._from(a.mul, other)

    def __truediv__(self, other: Any) -> Real:
        return self._with(a.div, other)

    def __rtruediv__(self, other: Any) -> Real:
        return self._from(a.div, other)

    def __pow__(self, exponent: int) -> Real:
        return Real(a.integer_pow(self.node, exponent=exponent))

    def __neg__(self) -> Real:
        return Real(a.neg(self.node))

    def __abs__(self) -> Real:
        return Real(a.abs_(self.node))

    def __lt__(self, other: Any) -> Node:
        return a.lt(self.node, self._of(other))

    def __le__(self, other: Any) -> Node:
        return a.le(self.node, self._of(other))

    def __gt__(self, other: Any) -> Node:
        return a.gt(self.node, self._of(other))

    def __ge__(self, other: Any) -> Node:
        return a.ge(self.node, self._of(other))

    def equals(self, other: Any) -> Node:
        return a.eq(self.node, self._of(other))


def _function(op: Op) -> Callable[[Real], Real]:
    return lambda x: Real(op(x.node))


exp, expm1, log, log1p, sqrt = map(_function, (a.exp, a.expm1, a.log, a.log1p, a.sqrt))
sin, cos, floor, rint, sign = map(_function, (a.sin, a.cos, a.floor, a.rint, a.sign))


def power(x: Real, y: Real) -> Real:
    return Real(a.pow_(x.node, y.node))


def least(x: Real, y: Any) -> Real:
    return x._with(a.minimum, y)


def greatest(x: Real, y: Any) -> Real:
    return x._with(a.maximum, y)


def where(condition: Node, x: Any, y: Any) -> Real:
    """``x`` where the condition holds, else ``y``; one of them may be a number."""
    like = x if isinstance(x, Real) else y
    return Real(a.select(condition, like._of(x), like._of(y)))


def both(*conditions: Node) -> Node:
    return functools.reduce(a.bit_and, conditions)


def either(*conditions: Node) -> Node:
    return functools.reduce(a.bit_or, conditions)


def polynomial(coefficients: Sequence[float], x: Real) -> Real:
    """Σ cₖ xᵏ by Horner's rule."""
    total = Real(x._of(coefficients[-1]))
    for c in reversed(coefficients[:-1]):
        total = total * x + c
    return total


def rational(ratio: tuple[Sequence[float], Sequence[float]], x: Real) -> Real:
    above, below = ratio
    return polynomial(above, x) if len(below) == 1 else polynomial(above, x) / polynomial(below, x)


def along(x: Real, numbers: np.ndarray) -> tuple[Real, Real]:
    """``x`` and ``numbers`` over a new last axis, along which :func:`total` sums."""
    shape = (*x.node.type.shape, len(numbers))
    line = broadcast(const(np.asarray(numbers, np.float64)), shape, (len(shape) - 1,))
    return spread(x, len(numbers)), Real(line)


def spread(x: Real, count: int) -> Real:
    shape = x.node.type.shape
    return Real(broadcast(x.node, (*shape, count), tuple(range(len(shape)))))


def total(x: Real) -> Real:
    return Real(reduce_sum(x.node, axes=(x.node.type.ndim - 1,)))


# ------------------------------------------------------------------------------------------------ as parts of records


def expansion(formula: Callable[..., Real], wide: bool = True) -> Callable[..., Node]:
    """``formula`` on nodes; the result has the element type of the operands. ``wide``: it is computed in f64."""

    def expand(*inputs: Node, **attrs: Any) -> Node:
        own = inputs[0].type.dtype
        result = formula(*[Real(a.convert(x, f64 if wide else own)) for x in inputs], **attrs)
        return a.convert(result.node, own)

    return expand


def evaluation(expand: Callable[..., Node]) -> Callable[..., Any]:
    """The meaning of an op by its expansion, run by the interpreter; the graph is made once per types and attributes.

    A formula without sums is expanded for scalars: NumPy's functions take tensors of any shape in their place.
    """

    @functools.lru_cache(maxsize=256)
    def graph_of(types: tuple[TensorType, ...], attrs: tuple[tuple[str, Any], ...]) -> Graph:
        with Builder("expansion") as builder:
            inputs = [builder.input(f"x{k}", type) for k, type in enumerate(types)]
            return builder.graph([expand(*inputs, **dict(attrs))])

    def evaluate(*arrays: Any, **attrs: Any) -> np.ndarray:
        from graphc.interpreter import evaluate as run

        given = [np.asarray(x) for x in arrays]
        items = tuple(sorted(attrs.items()))
        graph = graph_of(tuple([TensorType(dtype(x.dtype), ()) for x in given]), items)
        if any([node.op.kind not in ("input", "constant", "elementwise") for node in graph.nodes]):
            graph = graph_of(tuple([TensorType(dtype(x.dtype), x.shape) for x in given]), items)
        (result,) = run(graph, given)
        return result if result.shape == given[0].shape else np.broadcast_to(result, given[0].shape)

    return evaluate


def slope(expand: Callable[..., Node], k: int) -> Callable[..., Node | None]:
    """The partial derivative by operand ``k`` as the derivative of the expansion itself."""

    def partial(g: Node, out: Node, *inputs: Node, **attrs: Any) -> Node | None:
        from graphc.autodiff import vjp_nodes

        moved = list(inputs)
        moved[k] = a.alias(inputs[k], tag=-1)  # apart from the other operands, which may depend on it
        result = expand(*moved, **attrs)
        (found,) = vjp_nodes([result], [g], [moved[k]])
        return found

    return partial


__all__ = [
    "Real", "along", "both", "cos", "either", "evaluation", "exp", "expansion", "expm1", "floor", "greatest", "least", "log",
    "log1p", "polynomial", "power", "rational", "rint", "sign", "sin", "slope", "spread", "sqrt", "total", "where",
]  # fmt: skip
