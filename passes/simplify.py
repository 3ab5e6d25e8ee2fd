"""Algebraic simplification: rules as data, one driver.

:func:`simplify` applies the exact rules: they keep every bit of every result (a NaN stays a NaN; which NaN is not
promised). So ``x * 0`` stays (NaN, inf), and so does ``x + 0.0`` (it turns -0.0 into 0.0), while ``x + (-0.0)`` is x.
Rules that change bits are FAST and are asked for by name.

A rule looks at one node and returns a node of the same type or None. It reads as mathematics:

    @exact("neg")
    def double_negation(node):                      # -(-x) -> x
        match node:
            case Node(ops.neg, (Node(ops.neg, (x,)),)):
                return x
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc import ops
from graphc.ir import Builder, Graph, Node, carry_tables, copy_nodes, current_builder, fixed_point, rewrite, users
from graphc.ops import control
from graphc.ops.contraction import free_axes
from graphc.types import DType, bool_

Function = Callable[[Node], Node | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rewrite: ``function`` is offered the nodes whose op is among ``roots`` (names; empty: every node)."""

    name: str
    roots: tuple[str, ...]
    function: Function


EXACT: list[Rule] = []
FAST: dict[str, tuple[Rule, ...]] = {}


def exact(*roots: str) -> Callable[[Function], Function]:
    """Enter a rule that keeps every bit."""

    def enter(function: Function) -> Function:
        EXACT.append(Rule(function.__name__, roots, function))
        return function

    return enter


def fast(name: str, *roots: str) -> Callable[[Function], Function]:
    """Enter a rule that may change bits, under the name of its set."""

    def enter(function: Function) -> Function:
        FAST[name] = (*FAST.get(name, ()), Rule(function.__name__, roots, function))
        return function

    return enter


# ------------------------------------------------------------------------------------------------ the driver


def simplify(graph: Graph, fast: Collection[str] = ()) -> Graph:
    """``graph`` and the graphs in it, simplified until no rule applies. ``fast`` names sets of FAST rules to add.

    Raises ValueError for a name that is no set.
    """
    unknown = [name for name in fast if name not in FAST]
    if unknown:
        raise ValueError(f"there is no fast set {unknown[0]!r}; there are {', '.join(FAST)}")
    rules = [*EXACT, *(rule for name in sorted(set(fast)) for rule in FAST[name])]
    return _simplify(graph, driver(rules))


def _simplify(graph: Graph, apply: Function) -> Graph:
    graph = map_bodies(graph, lambda body: _simplify(body, apply))
    return swap_transposed_dots(fixed_point(graph, apply))


def driver(rules: Collection[Rule]) -> Function:
    """One function that offers a node to the rules for its op, in order."""
    everywhere = [rule.function for rule in rules if not rule.roots]
    table: dict[str, list[Function]] = {}
    for rule in rules:
        for root in rule.roots:
            table.setdefault(root, []).append(rule.function)

    def apply(node: Node) -> Node | None:
        for function in table.get(node.op.name, ()):
            found = function(node)
            if found is not None:
                return found
        for function in everywhere:
            found = function(node)
            if found is not None:
                return found
        return None

    return apply


def map_bodies(graph: Graph, function: Callable[[Graph], Graph]) -> Graph:
    """``graph`` with ``function`` applied to every graph that its nodes hold: each once, shared ones stay shared.

    Bodies of ``fused`` nodes are left as they are: a kernel's template knows their form.
    """
    done: dict[Graph, Graph] = {}
    for node in graph.nodes:
        if node.attrs and node.op.kind != "fused" and holds_graphs(node):
            for body in node.bodies:
                if body not in done:
                    done[body] = function(body)
    if all(before is after for before, after in done.items()):
        return graph

    def mapped(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple([mapped(v) for v in value])
        return done[value] if isinstance(value, Graph) else value

    def replace(node: Node, operands: tuple[Node, ...]) -> Node | None:
        if not node.bodies or node.op.kind == "fused":
            return None
        return node.op(*operands, **{key: mapped(value) for key, value in node.attrs})

    return rebuild(graph, replace)


def holds_graphs(node: Node) -> bool:
    """Whether an attribute is a graph or a tuple of graphs: :attr:`Node.bodies` without making it."""
    for _, value in node.attrs:
        kind = value.__class__
        if kind is Graph or (kind is tuple and value and value[0].__class__ is Graph):
            return True
    return False


def rebuild(graph: Graph, replace: Callable[[Node, tuple[Node, ...]], Node | None]) -> Graph:
    """``graph`` with ``replace(node, new operands)`` in the place of each node (None: the node as it is)."""
    mapping: dict[Node, Node] = {}
    with Builder(graph.name) as builder:
        for node in graph.inputs:
            mapping[node] = builder.input(node["name"], node.type)
        for node in graph.nodes:
            if node not in mapping:
                operands = tuple([mapping[i] for i in node.inputs])
                mapping[node] = replace(node, operands) or builder.remake(node, operands)
        carry_tables(builder, graph, mapping)
        return builder.graph([mapping[o] for o in graph.outputs])


def strip_identities(graph: Graph) -> Graph:
    """``graph`` without ``alias`` and ``stop_gradient``: they mean something to derivatives alone."""

    identities = (ops.alias, ops.stop_gradient)

    def rule(node: Node) -> Node | None:
        return node.inputs[0] if node.op in identities else None

    graph = map_bodies(graph, strip_identities)
    return rewrite(graph, rule) if any(node.op in identities for node in graph.nodes) else graph


# ------------------------------------------------------------------------------------------------ what rules ask


def number(node: Node) -> float | None:
    """The one real number that fills ``node``, as a Python number, or None."""
    value = ops.constant_value(node)
    if value is None or node.type.dtype.kind == "c":
        return None
    return float(value) if node.type.dtype.is_float else value.item()


def is_number(node: Node, value: float) -> bool:
    """Whether ``node`` is full of ``value``; ``0.0`` and ``-0.0`` are told apart for floats."""
    found = number(node)
    if found is None or found != value:
        return False
    return not node.type.dtype.is_float or math.copysign(1.0, found) == math.copysign(1.0, value)


def adds_nothing(node: Node) -> bool:
    """Whether ``x + node`` is x for every x: -0.0 for floats, 0 for integers."""
    return is_number(node, -0.0 if node.type.dtype.is_float else 0)


def subtracts_nothing(node: Node) -> bool:
    return is_number(node, 0.0 if node.type.dtype.is_float else 0)


def is_lossless(a: DType, b: DType) -> bool:
    """Whether every value of ``a`` is a value of ``b``."""
    if a is b or a is bool_:
        return True
    if b.kind in "iu":
        signs = 8 * (b.itemsize - a.itemsize) - (b.kind == "i" and a.kind == "u")
        return a.kind in "iu" and signs >= 0 and not (a.kind == "i" and b.kind == "u")
    if b.kind == "f":
        digits, low = _float_digits(b)
        if a.kind in "iu":
            return 8 * a.itemsize - (a.kind == "i") <= digits and b.name != "f16"
        return a.kind == "f" and _float_digits(a)[0] <= digits and low <= _float_digits(a)[1]
    return False


def _float_digits(t: DType) -> tuple[int, int]:
    """Binary digits of the significand, and the exponent of the least subnormal number."""
    return {"f16": (11, -24), "bf16": (8, -133), "f32": (24, -149), "f64": (53, -1074)}[t.name]


# ------------------------------------------------------------------------------------------------ arithmetic


@exact("add")
def add_nothing(node: Node) -> Node | None:  # x + (-0.0) -> x
    match node:
        case Node(ops.add, (x, y)) if adds_nothing(y):
            return x
        case Node(ops.add, (x, y)) if adds_nothing(x):
            return y
    return None


@exact("add")
def add_negation(node: Node) -> Node | None:  # x + (-y) -> x - y
    match node:
        case Node(ops.add, (x, Node(ops.neg, (y,)))):
            return ops.sub(x, y)
        case Node(ops.add, (Node(ops.neg, (x,)), y)):
            return ops.sub(y, x)
    return None


@exact("sub")
def subtract_nothing(node: Node) -> Node | None:  # x - 0.0 -> x
    match node:
        case Node(ops.sub, (x, y)) if subtracts_nothing(y):
            return x
    return None


@exact("sub")
def subtract_negation(node: Node) -> Node | None:  # x - (-y) -> x + y
    match node:
        case Node(ops.sub, (x, Node(ops.neg, (y,)))):
            return ops.add(x, y)
    return None


@exact("sub")
def subtract_from_negative_zero(node: Node) -> Node | None:  # (-0.0) - x -> -x
    match node:
        case Node(ops.sub, (zero, x)) if adds_nothing(zero):
            return ops.neg(x)
    return None


@exact("mul")
def multiply_by_one(node: Node) -> Node | None:  # x * 1 -> x
    match node:
        case Node(ops.mul, (x, y)) if is_number(y, 1):
            return x
        case Node(ops.mul, (x, y)) if is_number(x, 1):
            return y
    return None


@exact("mul")
def multiply_by_minus_one(node: Node) -> Node | None:  # x * (-1) -> -x
    match node:
        case Node(ops.mul, (x, y)) if is_number(y, -1):
            return ops.neg(x)
        case Node(ops.mul, (x, y)) if is_number(x, -1):
            return ops.neg(y)
    return None


@exact("mul")
def multiply_integers_by_zero(node: Node) -> Node | None:  # n * 0 -> 0, integers have no NaN
    match node:
        case Node(ops.mul, (x, y)) if node.type.dtype.is_integer:
            return y if is_number(y, 0) else x if is_number(x, 0) else None
    return None


@exact("mul")
def multiply_negations(node: Node) -> Node | None:  # (-x) * (-y) -> x * y
    match node:
        case Node(ops.mul, (Node(ops.neg, (x,)), Node(ops.neg, (y,)))):
            return ops.mul(x, y)
    return None


@exact("mul", "div")
def negate_the_constant(node: Node) -> Node | None:  # (-x) * c -> x * (-c)
    if not node.type.dtype.is_float:
        return None
    match node:
        case Node(op, (Node(ops.neg, (x,)), c)) if (value := number(c)) is not None:
            return op(x, ops.full(c.type, -value))
        case Node(op, (c, Node(ops.neg, (x,)))) if (value := number(c)) is not None:
            return op(ops.full(c.type, -value), x)
    return None


@exact("div")
def divide_by_one(node: Node) -> Node | None:  # x / 1 -> x
    match node:
        case Node(ops.div, (x, y)) if is_number(y, 1):
            return x
        case Node(ops.div, (x, y)) if is_number(y, -1):
            return ops.neg(x)
    return None


@exact("div")
def divide_by_power_of_two(node: Node) -> Node | None:  # x / 2^k -> x * 2^-k: the same real number, rounded once
    match node:
        case Node(ops.div, (x, y)) if (value := number(y)) is not None and _is_normal(value, y.type.dtype):
            if abs(math.frexp(value)[0]) == 0.5 and _is_normal(1 / value, y.type.dtype):
                return ops.mul(x, ops.full(y.type, 1 / value))
    return None


def _is_normal(value: float, t: DType) -> bool:
    """Whether ``value`` is neither zero, subnormal nor infinite in ``t``."""
    digits, low = _float_digits(t)
    return 2.0 ** (low + digits - 1) <= abs(value) < math.inf


@exact("div")
def divide_negations(node: Node) -> Node | None:  # (-x) / (-y) -> x / y
    match node:
        case Node(ops.div, (Node(ops.neg, (x,)), Node(ops.neg, (y,)))):
            return ops.div(x, y)
    return None


@exact("neg", "bit_not")
def involution(node: Node) -> Node | None:  # -(-x) -> x, ~~x -> x
    match node:
        case Node(op, (Node(inner, (x,)),)) if op is inner:
            return x
    return None


@exact("abs")
def absolute_negation(node: Node) -> Node | None:  # |-x| -> |x|, ||x|| -> |x|
    match node:
        case Node(ops.abs_, (Node(ops.neg, (x,)),)) if x.type.dtype.kind != "u":
            return ops.abs_(x)
        case Node(ops.abs_, (Node(ops.abs_) as x,)):
            return x
    return None


@exact("maximum", "minimum", "bit_and", "bit_or")
def idempotent(node: Node) -> Node | None:  # max(x, x) -> x
    match node:
        case Node(_, (x, y)) if x is y:
            return x
    return None


@exact("integer_pow")
def small_powers(node: Node) -> Node | None:  # x ** 1 -> x, x ** 0 -> 1 (also of NaN)
    match node["exponent"]:
        case 1:
            return node.inputs[0]
        case 0:
            return ops.full(node.type, 1)
    return None


@exact("bit_not")
def negated_equality(node: Node) -> Node | None:  # not (x == y) -> x != y; an order has NaN against it
    match node:
        case Node(ops.bit_not, (Node(ops.eq, (x, y)),)) if node.type.dtype is bool_:
            return ops.ne(x, y)
        case Node(ops.bit_not, (Node(ops.ne, (x, y)),)) if node.type.dtype is bool_:
            return ops.eq(x, y)
    return None


# ------------------------------------------------------------------------------------------------ select and cast


@exact("select")
def select_decided(node: Node) -> Node | None:  # select(True, x, y) -> x, select(c, x, x) -> x
    match node:
        case Node(ops.select, (_, x, y)) if x is y:
            return x
        case Node(ops.select, (c, x, y)) if (value := number(c)) is not None:
            return x if value else y
    return None


@exact("select")
def select_negated(node: Node) -> Node | None:  # select(not c, x, y) -> select(c, y, x)
    match node:
        case Node(ops.select, (Node(ops.bit_not, (c,)), x, y)):
            return ops.select(c, y, x)
    return None


@exact("select")
def select_truth(node: Node) -> Node | None:  # select(c, True, False) -> c
    match node:
        case Node(ops.select, (c, x, y)) if node.type.dtype is bool_:
            if is_number(x, True) and is_number(y, False):
                return c
            if is_number(x, False) and is_number(y, True):
                return ops.bit_not(c)
    return None


@exact("cast")
def cast_to_itself(node: Node) -> Node | None:
    match node:
        case Node(ops.cast, (x,)) if x.type.dtype is node.type.dtype:
            return x
    return None


@exact("cast")
def cast_of_lossless_cast(node: Node) -> Node | None:  # a -> b -> c is a -> c where b holds every value of a
    match node:
        case Node(ops.cast, (Node(ops.cast, (x,)) as middle,)):
            a, b, c = x.type.dtype, middle.type.dtype, node.type.dtype
            # What a float out of range becomes as an integer depends on the float's type.
            if is_lossless(a, b) and (not (b.kind == "f" and c.kind in "iu") or is_lossless(a, c)):
                return ops.convert(x, c)
    return None


# ------------------------------------------------------------------------------------------------ movement


@exact("transpose")
def transpose_nothing(node: Node) -> Node | None:  # also where only axes of extent 1 move: that is a reshape
    match node:
        case Node(ops.transpose, (x,)):
            axes = node["axes"]
            if axes == tuple(range(len(axes))):
                return x
            moving = [a for a in axes if x.type.shape[a] != 1]
            return ops.reshape_to(x, node.type.shape) if moving == sorted(moving) else None
    return None


@exact("transpose")
def transpose_twice(node: Node) -> Node | None:
    match node:
        case Node(ops.transpose, (Node(ops.transpose, (x,)) as inner,)):
            return ops.transpose_to(x, tuple(inner["axes"][a] for a in node["axes"]))
    return None


@exact("reshape")
def reshape_nothing(node: Node) -> Node | None:
    match node:
        case Node(ops.reshape, (x,)) if x.type == node.type:
            return x
        case Node(ops.reshape, (Node(ops.reshape, (x,)),)):
            return ops.reshape_to(x, node.type.shape)
    return None


@exact("broadcast_to")
def broadcast_nothing(node: Node) -> Node | None:
    match node:
        case Node(ops.broadcast_to, (x,)) if x.type == node.type:
            return x
        case Node(ops.broadcast_to, (Node(ops.broadcast_to, (x,)) as inner,)):
            return ops.broadcast_to(x, shape=node["shape"], axes=tuple(node["axes"][a] for a in inner["axes"]))
    return None


@exact("broadcast_to")
def broadcast_single(node: Node) -> Node | None:  # axes of extent 1 of the operand are repeated as any other
    match node:
        case Node(ops.broadcast_to, (Node(ops.reshape, (x,)) as inner,)) if _squeezed(x.type.shape) == x.type.shape:
            kept = [k for k, n in enumerate(inner.type.shape) if n != 1]
            if tuple(inner.type.shape[k] for k in kept) == x.type.shape:
                return ops.broadcast_to(x, shape=node["shape"], axes=tuple(node["axes"][k] for k in kept))
    return None


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


@exact("reshape")
def reshape_broadcast(node: Node) -> Node | None:  # where axes of extent 1 come or go, or a scalar is repeated
    match node:
        case Node(ops.reshape, (Node(ops.broadcast_to, (x,)) as inner,)):
            if not x.type.shape:
                return ops.broadcast(x, node.type.shape, ())
            return _reshape_units(x, inner["axes"], inner.type.shape, node.type.shape)
    return None


def _reshape_units(x: Node, axes: tuple[int, ...], old: tuple[int, ...], new: tuple[int, ...]) -> Node | None:
    if _squeezed(old) != _squeezed(new) or 1 in x.type.shape:
        return None
    places = iter([k for k, n in enumerate(new) if n != 1])
    moved = {k: next(places) for k, n in enumerate(old) if n != 1}
    return ops.broadcast(x, new, tuple(moved[a] for a in axes))


@exact("transpose")
def transpose_broadcast(node: Node) -> Node | None:  # the axes of the operand keep their order, or it is transposed
    match node:
        case Node(ops.transpose, (Node(ops.broadcast_to, (x,)) as inner,)):
            places = [node["axes"].index(a) for a in inner["axes"]]
            order = tuple(sorted(range(len(places)), key=places.__getitem__))
            moved = ops.transpose_to(x, order)
            return ops.broadcast_to(moved, shape=node.type.shape, axes=tuple(sorted(places)))
    return None


@exact("slice")
def slice_all(node: Node) -> Node | None:
    match node:
        case Node(ops.slice_, (x,)) if x.type == node.type and all(
            step == 1 or n == 1 for step, n in zip(node["step"], x.type.shape, strict=True)
        ):
            return x
    return None


@exact("slice")
def slice_twice(node: Node) -> Node | None:
    match node:
        case Node(ops.slice_, (Node(ops.slice_, (x,)) as inner,)) if node.type.size:
            outer = zip(node["start"], node["step"], inner["start"], inner["step"], strict=True)
            start, step = zip(*[(b + a * by, by * of) for a, of, b, by in outer], strict=True)
            return ops.slice_(x, start=start, size=node["size"], step=step)
    return None


@exact("slice")
def slice_broadcast(node: Node) -> Node | None:  # slice what is repeated
    match node:
        case Node(ops.slice_, (Node(ops.broadcast_to, (x,)) as inner,)):
            axes = inner["axes"]
            parts = {key: tuple(node[key][a] for a in axes) for key in ("start", "size", "step")}
            kept = ops.slice_(x, **parts) if axes else x
            return ops.broadcast(kept, node.type.shape, axes)
    return None


@exact("slice")
def slice_concatenation(node: Node) -> Node | None:  # where it stays in one part
    match node:
        case Node(ops.slice_, (Node(ops.concatenate, parts) as inner,)) if node.type.size:
            axis, start = inner["axis"], node["start"]
            last = start[axis] + (node["size"][axis] - 1) * node["step"][axis]
            low = 0
            for part in parts:
                high = low + part.type.shape[axis]
                if low <= start[axis] < high and low <= last < high:
                    moved = (*start[:axis], start[axis] - low, *start[axis + 1 :])
                    return ops.slice_(part, start=moved, size=node["size"], step=node["step"])
                low = high
    return None


@exact("concatenate")
def concatenate_one(node: Node) -> Node | None:  # parts without elements add nothing
    match node:
        case Node(ops.concatenate, (x,)):
            return x
        case Node(ops.concatenate, parts) if node.type.size and any(not p.type.size for p in parts):
            return ops.concatenate(*[p for p in parts if p.type.size], axis=node["axis"])
    return None


@exact("pad")
def pad_nothing(node: Node) -> Node | None:
    match node:
        case Node(ops.pad, (x, _)) if x.type == node.type and all(
            step == 1 or n == 1 for step, n in zip(node["step"], x.type.shape, strict=True)
        ):
            return x
    return None


# ------------------------------------------------------------------------------------------------ reductions


@exact("reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_and", "reduce_or")
def reduce_nothing(node: Node) -> Node | None:  # over no axes, or over axes of extent 1
    (x,) = node.inputs
    if any(x.type.shape[a] != 1 for a in node["axes"]):
        return None
    flat = ops.reshape_to(x, node.type.shape)
    # A sum starts from 0.0, and 0.0 + (-0.0) is 0.0.
    return ops.add(flat, ops.zeros(flat.type)) if node.op is ops.reduce_sum and node.type.dtype.is_inexact else flat


@exact("reduce_window", "window_argmax")
def window_of_a_scalar(node: Node) -> Node | None:  # it is all that the window holds
    (x,) = node.inputs
    if x.type.shape:
        return None
    if node.op.name == "window_argmax":
        return ops.zeros(node.type)
    # As in reduce_nothing: a sum starts from 0.0.
    return ops.add(x, ops.zeros(x.type)) if node["kind"] == "sum" and x.type.dtype.is_inexact else x


@exact("reduce_max", "reduce_min", "reduce_and", "reduce_or")
def reduce_repeated(node: Node) -> Node | None:  # the maximum of equal numbers
    match node:
        case Node(_, (Node(ops.broadcast_to, (x,)) as inner,)) if node.type.size and inner.type.size:
            kept = [k for k in range(inner.type.ndim) if k not in node["axes"]]
            if all(a in kept for a in inner["axes"]):
                return ops.broadcast(x, node.type.shape, tuple(kept.index(a) for a in inner["axes"]))
    return None


# ------------------------------------------------------------------------------------------------ elementwise


#: Ops whose result is the one correctly rounded number, whichever way it is computed.
_ROUNDED = frozenset(
    "add sub mul div neg abs sign floor ceil trunc rint sqrt maximum minimum eq ne lt le gt ge isnan isfinite bit_and "
    "bit_or bit_xor bit_not shift_left shift_right select cast".split()
)


@exact(*sorted(_ROUNDED))
def compute_before_repeating(node: Node) -> Node | None:  # f(broadcast x, broadcast y) -> broadcast f(x, y)
    if not node.inputs or any(operand.op is not ops.broadcast_to for operand in node.inputs):
        return None
    widest = max(node.inputs, key=lambda operand: len(operand["axes"]))
    axes = widest["axes"]
    if any(operand["axes"] not in (axes, ()) for operand in node.inputs):
        return None  # an outer product has no smaller form
    if widest.inputs[0].type.size >= node.type.size:
        return None
    shape = widest.inputs[0].type.shape
    operands = [o.inputs[0] if o["axes"] == axes else ops.broadcast(o.inputs[0], shape, ()) for o in node.inputs]
    return ops.broadcast(node.op(*operands, **node.attributes()), node.type.shape, axes)


# ------------------------------------------------------------------------------------------------ contraction


@exact("dot")
def dot_of_transposed(node: Node) -> Node | None:
    """A transposed operand only changes the axis numbers, where its free axes keep their order."""
    for k, operand in enumerate(node.inputs):
        if operand.op is not ops.transpose:
            continue
        axes = operand["axes"]
        batch, contract = _replaced(node["batch"], k, axes), _replaced(node["contract"], k, axes)
        free = [axes[a] for a in free_axes(operand.type.ndim, node["batch"][k], node["contract"][k])]
        if free == sorted(free):
            inputs = [operand.inputs[0] if j == k else x for j, x in enumerate(node.inputs)]
            return ops.dot(*inputs, batch=batch, contract=contract)
    return None


def _replaced(pair: tuple[Any, Any], k: int, axes: tuple[int, ...]) -> tuple[Any, Any]:
    moved = tuple(axes[a] for a in pair[k])
    return (moved, pair[1]) if k == 0 else (pair[0], moved)


def swap_transposed_dots(graph: Graph) -> Graph:
    """``(x · y)ᵀ`` becomes ``y · x`` where nothing else reads the product, so that nothing is computed twice."""
    reads = users(graph.nodes)
    outputs = set(graph.outputs)
    swapped = {n for n in graph.nodes if _swaps(n) and len(reads[n.inputs[0]]) == 1 and n.inputs[0] not in outputs}
    if not swapped:
        return graph

    def replace(node: Node, operands: tuple[Node, ...]) -> Node | None:
        if node not in swapped:
            return None
        (product,) = operands
        return ops.dot(*product.inputs[::-1], batch=product["batch"][::-1], contract=product["contract"][::-1])

    return rebuild(graph, replace)


def _swaps(node: Node) -> bool:
    """Whether ``node`` transposes a dot by exchanging its rows and columns."""
    if node.op is not ops.transpose or node.inputs[0].op is not ops.dot:
        return False
    product = node.inputs[0]
    lead, rows_end = len(product["batch"][0]), product.inputs[0].type.ndim - len(product["contract"][0])
    return node["axes"] == (*range(lead), *range(rows_end, product.type.ndim), *range(lead, rows_end))


# ------------------------------------------------------------------------------------------------ control


@exact("item")
def branch_decided(node: Node) -> Node | None:  # cond(2, …) -> the branch
    match node:
        case Node(ops.item, (Node(control.cond, (index, *operands)) as held,)) if (value := number(index)) is not None:
            branches = held["branches"]
            chosen = branches[min(max(int(value), 0), len(branches) - 1)]
            return inlined(chosen, operands)[node["index"]]
    return None


def inlined(body: Graph, operands: Collection[Node]) -> tuple[Node, ...]:
    """``body`` built on ``operands`` in the current builder; nodes without lines get those of the node that held it."""
    builder = current_builder()
    mapping: dict[Node, Node] = dict(zip(body.inputs, operands, strict=True))
    outputs = copy_nodes(builder, body.nodes, mapping, body.outputs)
    for node in body.nodes:
        lines = body.lines.get(node, builder.origin)
        if lines and node.op.kind != "input":  # an operand has lines of its own
            builder.add_lines(mapping[node], lines)
    for order, primal, adjoint in body.adjoints:
        builder.add_adjoint(order, mapping[primal], mapping[adjoint])
    return outputs


# ------------------------------------------------------------------------------------------------ fast, not exact


@fast("zero_product", "mul")
def multiply_by_zero(node: Node) -> Node | None:  # x * 0 -> 0: NaN and inf become 0
    match node:
        case Node(ops.mul, (x, y)) if number(y) == 0 or number(x) == 0:
            return ops.zeros(node.type)
    return None


@fast("zero_sum", "add", "sub")
def add_zero(node: Node) -> Node | None:  # x + 0.0 -> x: -0.0 stays -0.0
    match node:
        case Node(_, (x, y)) if number(y) == 0:
            return x
        case Node(ops.add, (x, y)) if number(x) == 0:
            return y
        case Node(ops.sub, (x, y)) if number(x) == 0:
            return ops.neg(y)
    return None


@fast("reassociate", "add", "mul")
def constants_together(node: Node) -> Node | None:  # (x + c) + d -> x + (c + d)
    match node:
        case Node(op, (Node(inner, (x, c)), d)) if op is inner and number(c) is not None and number(d) is not None:
            return op(x, op(c, d))
    return None


@fast("reassociate", "add", "mul")
def constant_last(node: Node) -> Node | None:  # c + x -> x + c
    match node:
        case Node(op, (c, x)) if number(c) is not None and number(x) is None:
            return op(x, c)
    return None


@fast("reciprocal", "div")
def multiply_by_reciprocal(node: Node) -> Node | None:  # x / c -> x * (1 / c)
    match node:
        case Node(ops.div, (x, y)) if value := number(y):
            with np.errstate(over="ignore"):
                reciprocal = np.array(1 / value).astype(y.type.dtype.numpy)
            if np.isfinite(reciprocal):
                return ops.mul(x, ops.full(y.type, reciprocal))
    return None


__all__ = [
    "EXACT", "FAST", "Rule", "driver", "inlined", "map_bodies", "number", "rebuild", "simplify",
    "strip_identities", "swap_transposed_dots",
]  # fmt: skip
