"""Control flow that stays in the graph: scan, fori_loop, while_loop, cond, switch. Names and meaning as in JAX.

A Python loop in a traced function is unrolled; these are not. What a body reads from the enclosing function is passed to
it as an operand. A Python number that is carried stays weak: it takes the element type of the arrays that it meets.
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
from graphc.tracing import (
    Trace,
    common_type,
    current_trace,
    graph_name,
    is_static,
    located,
    output_nodes,
    to_node,
    to_tracer,
    unwrapped,
    weak_kind,
    wrap,
)
from graphc.transforms import Operands, close_over, concrete_or_traced
from graphc.tree import Tree, difference, flatten, unflatten
from graphc.types import DType, TensorType, bool_, i32, i64


class _Body:
    """A function traced in a trace of its own: its outputs, which of them are weak, and what it captured."""

    def __init__(
        self,
        function: Callable[..., Any],
        leaves: Sequence[Any],
        tree: Tree,
        types: Sequence[TensorType],
        weak: Sequence[bool],
    ) -> None:
        """``tree`` is that of the arguments; ``types`` and ``weak`` are those of its leaves that are not static."""
        with Trace(graph_name(function), current_trace()) as trace:
            inputs = [trace.input(f"x{k}", t, w) for k, (t, w) in enumerate(zip(types, weak, strict=True))]
            given = iter(inputs)
            result = function(*unflatten(tree, [unwrapped(v) if is_static(v) else next(given) for v in leaves]))
            self.outputs, self.tree = output_nodes(result)
        self.weak = [weak_kind(leaf) is not None for leaf in flatten(result)[0]]
        self.trace = trace
        self.n = len(inputs)

    @property
    def captured(self) -> list[Node]:
        return list(self.trace.captures)

    def element(self, k: int) -> DType | type:
        """The element type of output ``k``, or the Python type that it is a weak number of."""
        element = self.outputs[k].type.dtype
        return {"b": bool, "i": int, "f": float, "c": complex}[element.kind] if self.weak[k] else element

    def convert(self, k: int, element: DType) -> None:
        with self.trace.builder:
            self.outputs[k] = ops.convert(self.outputs[k], element)

    def graph(self, captured: Sequence[Node]) -> Graph:
        return close_over(self.trace, self.outputs, self.n, captured)


def same_tree(what: str, given: Tree, expected: Tree) -> None:
    if given != expected:
        raise TypeError(f"{what} {difference(expected, given)}")


class _Carry:
    """The values that a loop carries: their nodes, and which are still Python numbers."""

    def __init__(self, value: Any) -> None:
        self.leaves, self.tree = flatten(value)
        self.nodes = [to_node(v) for v in self.leaves]
        self.weak = [weak_kind(v) is not None for v in self.leaves]

    @property
    def types(self) -> list[TensorType]:
        return [n.type for n in self.nodes]

    def settle(self, body: _Body, what: str) -> bool:
        """Whether ``body`` returns these types. A weak value takes the type that it comes out with: then trace again."""
        settled = True
        for k, (node, path) in enumerate(zip(self.nodes, self.tree.paths, strict=True)):
            out = body.outputs[k].type
            if out == node.type and self.weak[k] == body.weak[k]:
                continue
            if out.shape == node.type.shape and self.weak[k]:
                kind = {"b": bool, "i": int, "f": float}[node.type.dtype.kind]
                self.nodes[k] = ops.convert(node, common_type([kind, body.element(k)]))
                self.weak[k] = body.weak[k]
                settled = False
            elif (
                out.shape == node.type.shape
                and common_type([node.type.dtype, body.element(k)]) is node.type.dtype
                and body.weak[k]
            ):
                body.convert(k, node.type.dtype)
            elif out != node.type:
                label = f"{what} {f'at {path!r} ' if path else ''}"
                raise TypeError(
                    f"{label}goes in as {node.type} and comes out as {out}; give it the same shape, and the same type with "
                    f".astype({out.dtype.numpy.name!r}) before the loop or .astype({node.type.dtype.numpy.name!r}) in it"
                )
        return settled

    def results(self, items: Sequence[Node]) -> list[Any]:
        return [wrap(r, w) for r, w in zip(items, self.weak, strict=False)]


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
) -> Any:
    """``carry, ys``: ``carry, y = f(carry, x)`` over the leading axis of ``xs``, the ys stacked.

    ``xs`` is a pytree of arrays of equal leading length, or None with ``length``. The carry keeps its types; raises
    TypeError where it does not.

    >>> import numpy as np
    >>> total, sums = scan(lambda c, x: (c + x, c + x), 0.0, np.array([1.0, 2.0, 3.0]))
    >>> float(total), sums
    (6.0, array([1., 3., 6.]))
    """

    def scan_of(init: Any, xs: Any) -> Any:
        return scan_nodes("scan", f, init, xs, length, reverse, weak=False)

    return concrete_or_traced(scan_of)(init, xs)


def scan_nodes(
    what: str, f: Callable[..., Any], init: Any, xs: Any, length: int | None, reverse: bool, weak: bool
) -> tuple[Any, Any]:
    """The results of a scan. ``weak``: the xs are Python numbers in the body."""
    carry = _Carry(init)
    leaves, tree = flatten((init, xs))
    stacked = [to_node(v) for v in leaves[len(carry.leaves) :]]
    steps = scan_length(what, stacked, length)
    slices = [TensorType(n.type.dtype, n.type.shape[1:]) for n in stacked]
    while True:
        body = _Body(f, leaves, tree, [*carry.types, *slices], [*carry.weak, *[weak] * len(slices)])
        if body.tree.kind not in ("tuple", "list") or len(body.tree.children) != 2:
            raise TypeError(f"the body of {what} must return (carry, y), not {body.tree}")
        same_tree(f"the carry of {what}", body.tree.children[0], carry.tree)
        if carry.settle(body, f"the carry of {what}"):
            break
    captured = body.captured
    node = located(
        scan_op, *carry.nodes, *stacked, *captured,
        body=body.graph(captured), n_carry=len(carry.nodes), n_xs=len(stacked), length=steps, reverse=bool(reverse),
    )  # fmt: skip
    items = ops.items(node)
    ys = [wrap(r) for r in items[len(carry.nodes) :]]
    return unflatten(carry.tree, carry.results(items)), unflatten(body.tree.children[1], ys)


def scan_length(what: str, stacked: Sequence[Node], length: int | None) -> int:
    if any(n.type.ndim == 0 for n in stacked):
        raise ValueError(f"{what}: the xs are arrays with a leading axis to run over; one of them is a scalar")
    lengths = {n.type.shape[0] for n in stacked} | ({int(length)} if length is not None else set())
    if not lengths:
        raise ValueError(f"{what}: without xs give length=")
    if len(lengths) > 1:
        raise ValueError(f"{what}: the xs (and length=) must agree in their leading length, found {sorted(lengths)}")
    return lengths.pop()


def fori_loop(lower: Any, upper: Any, body: Callable[[Any, Any], Any], init: Any) -> Any:
    """``value = body(i, value)`` for i from ``lower`` to ``upper``. With Python ints it is a scan and has gradients.

    ``i`` is a Python number to the body, as in ``for i in range(lower, upper)``.

    >>> int(fori_loop(0, 5, lambda i, s: s + i, 0))
    10
    """
    if isinstance(lower, (int, np.integer)) and isinstance(upper, (int, np.integer)):
        first, steps = int(lower), max(int(upper) - int(lower), 0)

        def loop_of(init: Any) -> Any:
            line = TensorType(i64, (steps,))
            places = ops.add(ops.iota(shape=(steps,), axis=0, to=i64), ops.full(line, first))
            return scan_nodes(
                "fori_loop", lambda value, i: (body(i, value), None), init, wrap(places), None, False, True
            )[0]

        return concrete_or_traced(loop_of)(init)

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
        carry = _Carry(init)
        tree = flatten((init,))[1]
        while True:
            step = _Body(body_fun, carry.leaves, tree, carry.types, carry.weak)
            same_tree("the value of while_loop", step.tree, carry.tree)
            if carry.settle(step, "the value of while_loop"):
                break
        test = _Body(cond_fun, carry.leaves, tree, carry.types, carry.weak)
        if [o.type.shape for o in test.outputs] != [()]:
            raise TypeError(
                f"the condition of while_loop must return one scalar, not {[str(o.type) for o in test.outputs]}"
            )
        with test.trace.builder:
            test.outputs = [truth(test.outputs[0])]
        captured = list(dict.fromkeys([*test.captured, *step.captured]))
        node = located(
            while_op,
            *carry.nodes,
            *captured,
            cond=test.graph(captured),
            body=step.graph(captured),
            n_carry=len(carry.nodes),
        )
        return unflatten(carry.tree, carry.results(ops.items(node)))

    return concrete_or_traced(while_of)(init)


def truth(node: Node) -> Node:
    return node if node.type.dtype is bool_ else ops.ne(node, ops.zeros(node.type))


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """``branches[index](*operands)``, the index clamped; only the chosen branch runs.

    The branches return equal nestings and shapes; element types are promoted.

    >>> float(switch(1, [lambda x: x, lambda x: x * 10], 2.0))
    20.0
    """
    if not branches:
        raise ValueError("switch needs at least one branch")

    def switch_of(index: Any, operands: Any) -> Any:
        chosen = to_node(to_tracer(index))
        if chosen.type.shape != () or chosen.type.dtype.kind not in "biu":
            raise TypeError(f"the index of switch must be an integer scalar, not {chosen.type}")
        return branch_results("switch", chosen, branches, operands)

    return concrete_or_traced(switch_of)(index, operands)


def branch_results(what: str, chosen: Node, branches: Sequence[Callable[..., Any]], args: tuple) -> Any:
    operands = Operands(args)
    types = [n.type for n in operands.nodes]
    tree = flatten(args, is_leaf=is_static)[1]
    bodies = [_Body(b, operands.leaves, tree, types, operands.weak) for b in branches]
    for body in bodies[1:]:
        same_tree(f"the branches of {what} return different trees:", body.tree, bodies[0].tree)
    weak = [unify(what, bodies, k) for k in range(len(bodies[0].outputs))]
    captured = list(dict.fromkeys(c for b in bodies for c in b.captured))
    if chosen.type.dtype.kind != "b":
        wide = ops.convert(chosen, i64)
        chosen = ops.minimum(ops.maximum(wide, ops.zeros(wide.type)), ops.like(wide, len(branches) - 1))
    index = ops.convert(chosen, i32)
    node = located(cond_op, index, *operands.nodes, *captured, branches=tuple(b.graph(captured) for b in bodies))
    return unflatten(bodies[0].tree, [wrap(r, w) for r, w in zip(ops.items(node), weak, strict=True)])


def unify(what: str, bodies: Sequence[_Body], k: int) -> bool:
    """Bring output ``k`` of the branches to one element type; whether it is weak. Shapes must agree."""
    types = [b.outputs[k].type for b in bodies]
    if len({t.shape for t in types}) > 1:
        path = bodies[0].tree.paths[k]
        label = f"at {path!r} " if path else ""
        raise TypeError(f"the branches of {what} return different shapes {label}: {', '.join(map(str, types))}")
    element = common_type([b.element(k) for b in bodies])
    for body in bodies:
        body.convert(k, element)
    return all(b.weak[k] for b in bodies)


def cond(pred: Any, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any) -> Any:
    """``true_fun(*operands)`` if ``pred`` else ``false_fun(*operands)``; only one of them runs.

    >>> float(cond(True, lambda x: x + 1, lambda x: x - 1, 3.0))
    4.0
    """

    def cond_of(pred: Any, operands: Any) -> Any:
        node = to_node(pred)
        if node.type.shape != ():
            raise TypeError(
                f"the predicate of cond must be a scalar, not {node.type}; np.where chooses element by element"
            )
        return branch_results("cond", truth(node), [false_fun, true_fun], operands)

    return concrete_or_traced(cond_of)(pred, operands)
