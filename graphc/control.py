"""Control flow that stays in the graph: scan, fori_loop, while_loop, cond, switch. Names and meaning as in JAX.

A Python loop in a traced function is unrolled; these are not. What a body reads from the enclosing function is passed to
it as an operand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import Graph, Node
from graphc.ops.control import cond as cond_op
from graphc.ops.control import scan as scan_op
from graphc.ops.control import while_loop as while_op
from graphc.tracing import Trace, Tracer, current_trace, output_nodes, to_node, to_tracer, wrap
from graphc.transforms import close_over, concrete_or_traced
from graphc.tree import Tree, flatten, unflatten
from graphc.types import TensorType, i32, i64


class _Body:
    """A function traced in a trace of its own: its outputs, and what it captured."""

    def __init__(self, function: Callable[..., Any], operands: Sequence[Any], types: Sequence[TensorType], weak: Sequence[bool]) -> None:
        parent = current_trace()
        assert parent is not None
        leaves, tree = flatten(tuple(operands))
        with Trace(body_name(function), parent) as trace:
            inputs = [trace.input(f"x{k}", t, w) for k, (t, w) in enumerate(zip(types, weak, strict=True))]
            assert len(inputs) == len(leaves)
            self.outputs, self.tree = output_nodes(function(*unflatten(tree, inputs)))
        self.trace = trace
        self.n = len(inputs)

    @property
    def captured(self) -> list[Node]:
        return list(self.trace.captures)

    def convert(self, types: Sequence[TensorType], what: str) -> None:
        """Bring the outputs to ``types`` where only the element type of a weak value differs; else TypeError."""
        with self.trace.builder:
            for k, (out, want) in enumerate(zip(self.outputs, types, strict=False)):
                if out.type != want:
                    if out.type.shape != want.shape or out.type.dtype.kind not in want.dtype.kind + "biu":
                        raise TypeError(f"{what}: value {k} goes in as {want} and comes out as {out.type}; make them equal with .astype")
                    self.outputs[k] = ops.convert(out, want.dtype)

    def graph(self, captured: Sequence[Node]) -> Graph:
        return close_over(self.trace, self.outputs, self.n, captured)


def body_name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", "body")
    return name if name.isidentifier() else "body"


def is_weak(value: Any) -> bool:
    return isinstance(value, Tracer) and value._weak or type(value) in (bool, int, float, complex)


def same_tree(what: str, given: Tree, expected: Tree) -> None:
    if given != expected:
        raise TypeError(f"{what}: expected a tree with leaves {list(expected.paths)}, got {list(given.paths)}")


def scan(f: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any = None, length: int | None = None, reverse: bool = False) -> Any:
    """``carry, ys``: ``carry, y = f(carry, x)`` over the leading axis of ``xs``, the ys stacked.

    ``xs`` is a pytree of arrays of equal leading length, or None with ``length``. The carry keeps its types.

    >>> import numpy as np
    >>> total, sums = scan(lambda c, x: (c + x, c + x), 0.0, np.array([1.0, 2.0, 3.0]))
    >>> float(total), sums
    (6.0, array([1., 3., 6.]))
    """

    def scan_of(init: Any, xs: Any) -> Any:
        carry_leaves, carry_tree = flatten(init)
        x_leaves, _ = flatten(xs)
        carry = [to_node(v) for v in carry_leaves]
        stacked = [to_node(v) for v in x_leaves]
        lengths = {n.type.shape[:1] for n in stacked} | ({(length,)} if length is not None else set())
        if len(lengths) != 1 or lengths == {()}:
            raise ValueError(f"scan: xs must share one leading length (found {sorted(lengths)}); without xs give length=")
        (steps,) = lengths.pop()
        types = [n.type for n in carry] + [TensorType(n.type.dtype, n.type.shape[1:]) for n in stacked]
        weak = [False] * len(types)
        body = _Body(f, (init, xs), types, weak)
        if body.tree.kind != "tuple" or len(body.tree.children) != 2:
            raise TypeError("the body of scan must return (carry, y)")
        same_tree("the carry of scan", body.tree.children[0], carry_tree)
        body.convert([n.type for n in carry], "the carry of scan")
        captured = body.captured
        node = scan_op(
            *carry, *stacked, *captured,
            body=body.graph(captured), n_carry=len(carry), n_xs=len(stacked), length=int(steps), reverse=reverse,
        )  # fmt: skip
        return unflatten(body.tree, [wrap(r) for r in ops.items(node)])

    return concrete_or_traced(scan_of)(init, xs)


def fori_loop(lower: Any, upper: Any, body: Callable[[Any, Any], Any], init: Any) -> Any:
    """``value = body(i, value)`` for i from ``lower`` to ``upper``. With Python ints it is a scan and has gradients.

    >>> int(fori_loop(0, 5, lambda i, s: s + i, 0))
    10
    """
    if isinstance(lower, (int, np.integer)) and isinstance(upper, (int, np.integer)):
        steps = np.arange(int(lower), int(upper))
        return scan(lambda value, i: (body(i, value), None), init, steps)[0]

    def condition(state: Any) -> Any:
        return state[0] < state[1]

    def step(state: Any) -> Any:
        i, end, value = state
        return i + 1, end, body(i, value)

    return while_loop(condition, step, (lower, upper, init))[2]


def while_loop(cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init: Any) -> Any:
    """``value = body_fun(value)`` while ``cond_fun(value)``. Forward mode only, as the number of steps is not known.

    >>> int(while_loop(lambda n: n < 100, lambda n: n * 2, 3))
    192
    """

    def while_of(init: Any) -> Any:
        leaves, tree = flatten(init)
        carry = [to_node(v) for v in leaves]
        types, weak = [n.type for n in carry], [False] * len(carry)
        test = _Body(cond_fun, (init,), types, weak)
        step = _Body(body_fun, (init,), types, weak)
        same_tree("the value of while_loop", step.tree, tree)
        step.convert(types, "the value of while_loop")
        if [o.type.shape for o in test.outputs] != [()]:
            raise TypeError("the condition of while_loop must return one scalar")
        with test.trace.builder:
            (truth,) = test.outputs
            test.outputs = [truth if truth.type.dtype.kind == "b" else ops.ne(truth, ops.zeros(truth.type))]
        captured = list(dict.fromkeys([*test.captured, *step.captured]))
        node = while_op(*carry, *captured, cond=test.graph(captured), body=step.graph(captured), n_carry=len(carry))
        return unflatten(tree, [wrap(r) for r in ops.items(node)])

    return concrete_or_traced(while_of)(init)


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """``branches[index](*operands)``, the index clamped; only the chosen branch runs.

    >>> float(switch(1, [lambda x: x, lambda x: x * 10], 2.0))
    20.0
    """
    if not branches:
        raise ValueError("switch needs at least one branch")

    def switch_of(index: Any, operands: Any) -> Any:
        leaves, _ = flatten(operands)
        nodes = [to_node(v) for v in leaves]
        weak = [is_weak(v) for v in leaves]
        bodies = [_Body(b, operands, [n.type for n in nodes], weak) for b in branches]
        for body in bodies[1:]:
            same_tree("the branches of cond", body.tree, bodies[0].tree)
        unify(bodies)
        captured = list(dict.fromkeys(c for b in bodies for c in b.captured))
        chosen = to_tracer(index)._node
        if chosen.type.shape != () or chosen.type.dtype.kind not in "biu":
            raise TypeError(f"the index of switch must be an integer scalar, not {chosen.type}")
        if chosen.type.dtype.kind != "b":
            wide = ops.convert(chosen, i64)
            last = ops.like(wide, len(branches) - 1)
            chosen = ops.minimum(ops.maximum(wide, ops.zeros(wide.type)), last)
        node = cond_op(ops.convert(chosen, i32), *nodes, *captured, branches=tuple(b.graph(captured) for b in bodies))
        return unflatten(bodies[0].tree, [wrap(r) for r in ops.items(node)])

    return concrete_or_traced(switch_of)(index, operands)


def unify(bodies: Sequence[_Body]) -> None:
    """Bring the outputs of branches to common element types; shapes must agree."""
    for k in range(len(bodies[0].outputs)):
        types = [b.outputs[k].type for b in bodies]
        if len({t.shape for t in types}) > 1:
            raise TypeError(f"the branches of cond return different shapes for value {k}: {', '.join(map(str, types))}")
        wide = np.result_type(*[t.dtype.numpy for t in types])
        for body in bodies:
            from graphc.types import dtype

            with body.trace.builder:
                body.outputs[k] = ops.convert(body.outputs[k], dtype(wide))


def cond(pred: Any, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any) -> Any:
    """``true_fun(*operands)`` if ``pred`` else ``false_fun(*operands)``; only one of them runs.

    >>> float(cond(True, lambda x: x + 1, lambda x: x - 1, 3.0))
    4.0
    """

    def cond_of(pred: Any, operands: Any) -> Any:
        node = to_node(pred)
        truth = node if node.type.dtype.kind == "b" else ops.ne(node, ops.zeros(node.type))
        return switch(wrap(truth), [false_fun, true_fun], *operands)

    return concrete_or_traced(cond_of)(pred, operands)
