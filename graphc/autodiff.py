"""The three transformation drivers: reverse mode, forward mode, batching. Each appends nodes to the current builder.

They walk nodes in topological order, ask each op's record for its rule, and never recurse. Because rules are made of
graph ops, what a driver appends can be transformed again: derivatives of any order are just more nodes.

Reverse accumulation follows Griewank and Walther, *Evaluating Derivatives* (2008), chapter 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from graphc.clock import differentiating
from graphc.cotangents import parts_of, summed
from graphc.ir import Builder, Graph, GraphError, Node, current_builder, inline, topological
from graphc.ops.arithmetic import add
from graphc.ops.base import add_all, batched_operands, zeros
from graphc.ops.structure import item
from graphc.types import TensorType, TupleType

Cotangent = Node | list[Node | None] | None


def active_nodes(outputs: Iterable[Node], wrt: Iterable[Node]) -> list[Node]:
    """The nodes on a differentiable path from ``wrt`` to ``outputs``, in topological order, ``wrt`` included."""
    sources = dict.fromkeys(wrt)
    active: set[Node] = set(sources)
    found: list[Node] = []
    for node in topological(outputs, stop=sources):
        if node in sources or (not active.isdisjoint(node.inputs) and differentiable(node)):
            active.add(node)
            found.append(node)
    return found


def differentiable(node: Node) -> bool:
    if isinstance(node.type, TupleType):
        return any(t.dtype.is_inexact for t in node.type.items)
    return node.type.dtype.is_inexact


def add_line(error: GraphError, builder: Builder) -> None:
    """Add the line of the node that is being transformed to the error of its rule."""
    if builder.origin and "\n  of " not in str(error):
        error.args = (f"{error}\n  of {builder.origin[0]}",)


@contextmanager
def origin_of(builder: Builder, node: Node) -> Iterator[None]:
    """New nodes get the lines of ``node``: a derivative comes from the line of what it differentiates. So do errors."""
    saved, builder.origin = builder.origin, builder.lines.get(node, ())
    try:
        yield
    except GraphError as error:
        add_line(error, builder)
        raise
    finally:
        builder.origin = saved


@differentiating()
def vjp_nodes(
    outputs: Sequence[Node],
    cotangents: Sequence[Node | None],
    wrt: Sequence[Node],
    path: Sequence[Node] | None = None,
) -> list[Node | None]:
    """Cotangents of ``wrt`` for ``cotangents`` of ``outputs`` (None is zero); None where an output does not depend on it.

    Every cotangent is entered into the builder's adjoint table with its order of differentiation. ``path``: the active
    nodes, where they are known.
    """
    builder = current_builder()
    path = active_nodes(outputs, wrt) if path is None else path
    on_path = set(path)
    orders = builder.adjoint_order
    order = 1 + (max([orders.get(n, 0) for n in path], default=0) if orders else 0)
    table: dict[Node, Cotangent] = {}
    for out, ct in zip(outputs, cotangents, strict=True):
        if ct is not None and out in on_path:
            accumulate(table, out, ct)
    sources = set(wrt)
    saved = builder.origin
    try:
        for node in reversed(path):
            found = table.get(node)
            if found is None:
                continue
            if isinstance(found, Node):
                builder.add_adjoint(order, node, found)
            if node in sources:
                continue
            builder.origin = builder.lines.get(node, ())  # a derivative comes from the line of what it differentiates
            if node.op is item:
                accumulate_item(table, node, found)
                continue
            if node.op.vjp is None:
                raise GraphError(f"{node.op.name} has no reverse-mode derivative")
            rule_ct = tuple(found) if isinstance(found, list) else found
            parts = parts_of(node, rule_ct, sources, on_path)
            for operand, part in zip(node.inputs, parts, strict=True):
                if part is not None and operand in on_path:
                    accumulate(table, operand, part)
    except GraphError as error:
        add_line(error, builder)
        raise
    finally:
        builder.origin = saved
    result = [table.get(source) for source in wrt]
    return [r if isinstance(r, Node) else None for r in result]


def accumulate(table: dict[Node, Cotangent], node: Node, ct: Node) -> None:
    have = table.get(node)
    table[node] = summed(have, ct) if isinstance(have, Node) else ct


def accumulate_item(table: dict[Node, Cotangent], node: Node, ct: Cotangent) -> None:
    parent = node.inputs[0]
    slots = table.setdefault(parent, [None] * len(parent.type.items))
    assert isinstance(slots, list) and isinstance(ct, Node)
    have = slots[node["index"]]
    slots[node["index"]] = ct if have is None else add(have, ct)


def jvp_nodes(outputs: Sequence[Node], wrt: Sequence[Node], tangents: Sequence[Node | None]) -> list[Node | None]:
    """Tangents of ``outputs`` for ``tangents`` of ``wrt`` (None is zero)."""
    builder = current_builder()
    table: dict[Node, Node | None | Sequence[Node | None]] = dict(zip(wrt, tangents, strict=True))
    for node in active_nodes(outputs, wrt):
        if node in table:
            continue
        incoming = [table.get(i) for i in node.inputs]
        if all(t is None for t in incoming):
            continue
        if node.op is item:
            slots = incoming[0]
            assert slots is not None and not isinstance(slots, Node)
            table[node] = slots[node["index"]]
            continue
        if node.op.jvp is None:
            raise GraphError(f"{node.op.name} has no forward-mode derivative")
        with origin_of(builder, node):
            table[node] = node.op.jvp(incoming, node, *node.inputs, **dict(node.attrs))
    result = [table.get(out) for out in outputs]
    return [t if isinstance(t, Node) else None for t in result]


def batch_nodes(outputs: Sequence[Node], batched: Mapping[Node, Node], size: int) -> list[tuple[Node, bool]]:
    """``outputs`` rebuilt with every node in ``batched`` replaced by one with a leading axis of length ``size``.

    Returns each output and whether it carries the batch axis; outputs that depend on nothing batched are themselves.
    """
    builder = current_builder()
    table: dict[Node, Node | Sequence[Node]] = dict(batched)
    for node in topological(outputs, stop=batched):
        if node in table or not any(i in table for i in node.inputs):
            continue
        if node.op is item:
            table[node] = table[node.inputs[0]][node["index"]]  # type: ignore[index]
            continue
        if node.op.batch is None:
            raise GraphError(f"vmap: {node.op.name} has no batching rule")
        flags = [i in table for i in node.inputs]
        operands = [table.get(i, i) for i in node.inputs]
        with origin_of(builder, node):
            table[node] = node.op.batch(size, flags, *operands, **dict(node.attrs))
    for order, primal, adjoint in list(builder.adjoints):  # batched adjoints are adjoints of the same order
        owner, mapped = table.get(primal, primal), table.get(adjoint)
        if isinstance(mapped, Node) and isinstance(owner, Node) and mapped.type == owner.type:
            builder.add_adjoint(order, owner, mapped)
    result: list[tuple[Node, bool]] = []
    for out in outputs:
        mapped = table.get(out, out)
        assert isinstance(mapped, Node)
        result.append((mapped, out in table))
    return result


# ------------------------------------------------------------------------------------------- graphs, for nodes that hold them


def vjp_graph(graph: Graph, wrt: Sequence[int]) -> Graph:
    """The graph ``(inputs…, cotangents of the inexact outputs…) -> cotangents of inputs wrt`` (zeros where absent)."""
    with Builder(f"{graph.name}_vjp") as builder:
        inputs = clone_inputs(builder, graph)
        outputs = inline(graph, inputs)
        cts = [builder.input(f"ct{k}", o.type) for k, o in enumerate(outputs) if o.type.dtype.is_inexact]
        given = iter(cts)
        seeds = [next(given) if o.type.dtype.is_inexact else None for o in outputs]
        targets = [inputs[k] for k in wrt]
        found = vjp_nodes(outputs, seeds, targets)
        return builder.graph([zeros(x.type) if ct is None else ct for x, ct in zip(targets, found, strict=True)])


def jvp_graph(graph: Graph, wrt: Sequence[int]) -> Graph:
    """The graph ``(inputs…, tangents of inputs wrt…) -> (outputs…, tangents of the inexact outputs…)``."""
    with Builder(f"{graph.name}_jvp") as builder:
        inputs = clone_inputs(builder, graph)
        outputs = inline(graph, inputs)
        tangents = [builder.input(f"t{k}", inputs[k].type) for k in wrt]
        found = jvp_nodes(outputs, [inputs[k] for k in wrt], tangents)
        dual = [
            zeros(o.type) if t is None else t for o, t in zip(outputs, found, strict=True) if o.type.dtype.is_inexact
        ]
        return builder.graph([*outputs, *dual])


def batch_graph(graph: Graph, size: int, flags: Sequence[bool]) -> Graph:
    """``graph`` over a leading axis of the inputs whose flag is set; every output carries that axis."""
    with Builder(f"{graph.name}_batch") as builder:
        mapping: dict[Node, Node] = {}
        inner: list[Node] = []
        for node, flag in zip(graph.inputs, flags, strict=True):
            type = TensorType(node.type.dtype, (size, *node.type.shape)) if flag else node.type
            outer = builder.input(node["name"], type)
            inner.append(builder.placeholder(node.type) if flag else outer)
            if flag:
                mapping[inner[-1]] = outer
        outputs = batch_nodes(inline(graph, inner), mapping, size)
        return builder.graph(batched_operands(size, [flag for _, flag in outputs], [o for o, _ in outputs]))


def clone_inputs(builder: Builder, graph: Graph) -> list[Node]:
    return [builder.input(n["name"], n.type) for n in graph.inputs]


__all__ = [
    "active_nodes", "add_all", "batch_graph", "batch_nodes", "clone_inputs", "jvp_graph", "jvp_nodes", "vjp_graph",
    "vjp_nodes",
]  # fmt: skip
