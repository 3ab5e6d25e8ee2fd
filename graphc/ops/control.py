"""Ops that hold graphs: call (a named composite), cond, scan, while_loop.

Their graphs are closed: what a body reads is an explicit operand. Derivatives and batching rules come from the same
transformations of the bodies, so every order exists. All have tuple types.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.ir import Builder, Graph, GraphError, Node, Op, inline
from graphc.ops.base import batched_operands, bool_, define, full, shifted, zeros
from graphc.ops.movement import move_axis
from graphc.ops.structure import item, items
from graphc.types import TensorType, TupleType, Type, i32

Flags = Sequence[bool]


def check_body(name: str, body: Graph, types: Sequence[Type]) -> None:
    if tuple(types) != body.input_types:
        raise GraphError(f"{name}: the graph {body.name} takes {body.input_types}, not {tuple(types)}")


def inexact(types: Sequence[TensorType]) -> list[int]:
    return [k for k, t in enumerate(types) if t.dtype.is_inexact]


def or_zeros(values: Sequence[Node | None], types: Sequence[TensorType]) -> list[Node]:
    return [zeros(t) if v is None else v for v, t in zip(values, types, strict=True)]


def scatter_list(length: int, where: Sequence[int], values: Sequence[Node]) -> list[Node | None]:
    """A list of ``length`` with ``values`` at positions ``where`` and None elsewhere."""
    found: list[Node | None] = [None] * length
    for k, value in zip(where, values, strict=True):
        found[k] = value
    return found


def evaluate(graph: Graph, inputs: Sequence[Any]) -> list[np.ndarray]:
    from graphc.interpreter import evaluate as run

    return list(run(graph, inputs))


# ------------------------------------------------------------------------------------------------ call


def _call_type(*types: TensorType, body: Graph, name: str, vjp: Graph | None, custom: bool) -> Type:
    check_body(f"call {name}", body, types)
    return TupleType(body.output_types)


def _call_vjp(
    ct: Sequence[Node | None], out: Node, *inputs: Node, body: Graph, vjp: Graph | None, **_: Any
) -> list[Node | None]:
    from graphc.autodiff import vjp_nodes

    if vjp is None:
        return (
            vjp_nodes(inline(body, inputs), ct, inputs) if len(set(inputs)) == len(inputs) else _split(ct, inputs, body)
        )
    where = inexact([i.type for i in inputs])
    seeds = [c for c, t in zip(or_zeros(ct, body.output_types), body.output_types, strict=True) if t.dtype.is_inexact]
    return scatter_list(len(inputs), where, inline(vjp, [*inputs, *items(out), *seeds]))


def _split(ct: Sequence[Node | None], inputs: Sequence[Node], body: Graph) -> list[Node | None]:
    """The rule of a call that is given one node twice: operands told apart by aliases."""
    from graphc.autodiff import vjp_nodes
    from graphc.ops.arithmetic import alias

    apart = [alias(x, tag=k) for k, x in enumerate(inputs)]
    return vjp_nodes(inline(body, apart), ct, apart)


def _call_jvp(
    tangents: Sequence[Node | None], out: Node, *inputs: Node, body: Graph, name: str, custom: bool, **_: Any
) -> Any:
    from graphc.autodiff import jvp_nodes
    from graphc.ops.arithmetic import alias

    if custom:
        raise GraphError(f"{name} has a custom VJP and therefore no forward-mode derivative (jvp, jacfwd, hessian)")
    apart = [alias(x, tag=k) for k, x in enumerate(inputs)]
    return jvp_nodes(inline(body, apart), apart, tangents)


def _call_batch(size: int, flags: Flags, *inputs: Node, body: Graph, name: str, vjp: Graph | None, custom: bool) -> Any:
    from graphc.autodiff import batch_graph

    batched = batch_graph(body, size, flags)
    rule = None
    if vjp is not None:
        outputs = [True] * len(body.outputs) + [True] * len(inexact(body.output_types))
        rule = _reduce_unbatched(batch_graph(vjp, size, [*flags, *outputs]), size, flags, inputs)
    return items(call(*inputs, body=batched, name=name, vjp=rule, custom=custom))


def _reduce_unbatched(rule: Graph, size: int, flags: Flags, inputs: Sequence[Node]) -> Graph:
    """Cotangents of operands that carry no batch axis are summed over it."""
    from graphc.ops.reduction import reduce_sum

    where = [flags[k] for k, x in enumerate(inputs) if x.type.dtype.is_inexact]
    with Builder(rule.name) as builder:
        outputs = inline(rule, [builder.input(n["name"], n.type) for n in rule.inputs])
        return builder.graph([o if flag else reduce_sum(o, axes=(0,)) for o, flag in zip(outputs, where, strict=True)])


#: ``call(*operands, body=, name=, vjp=, custom=)``: the graph ``body`` as one named node. ``vjp``, where given, is its own
#: derivative rule, a graph ``(operands…, results…, cotangents of inexact results…) -> cotangents of inexact operands``.
#: ``custom`` marks the user's own rules, which have no forward mode.
call = define(
    Op(
        "call",
        "control",
        infer=_call_type,
        eval=lambda *xs, body, **_: tuple(evaluate(body, xs)),
        vjp=_call_vjp,
        jvp=_call_jvp,
        batch=_call_batch,
    )
)

# ------------------------------------------------------------------------------------------------ cond


def _cond_type(index: TensorType, *operands: TensorType, branches: tuple[Graph, ...]) -> Type:
    if index != TensorType(i32, ()):
        raise GraphError(f"cond: the branch index must be an i32 scalar, not {index}")
    for branch in branches:
        check_body("cond", branch, operands)
        if branch.output_types != branches[0].output_types:
            raise GraphError(
                f"cond: branches must give the same types; {branches[0].name} gives {branches[0].output_types}, "
                f"{branch.name} gives {branch.output_types}"
            )
    return TupleType(branches[0].output_types)


def _cond_eval(index: Any, *operands: Any, branches: tuple[Graph, ...]) -> tuple[np.ndarray, ...]:
    return tuple(evaluate(branches[min(max(int(index), 0), len(branches) - 1)], operands))


def _cond_vjp(ct: Any, out: Node, index: Node, *operands: Node, branches: tuple[Graph, ...]) -> list[Node | None]:
    from graphc.autodiff import vjp_graph

    where = inexact([x.type for x in operands])
    types = branches[0].output_types
    seeds = [c for c, t in zip(or_zeros(ct, types), types, strict=True) if t.dtype.is_inexact]
    found = items(cond(index, *operands, *seeds, branches=tuple(vjp_graph(b, where) for b in branches)))
    return [None, *scatter_list(len(operands), where, found)]


def _cond_jvp(tangents: Any, out: Node, index: Node, *operands: Node, branches: tuple[Graph, ...]) -> list[Node | None]:
    from graphc.autodiff import jvp_graph

    where = [k for k, t in enumerate(tangents[1:]) if t is not None]
    given = [tangents[1 + k] for k in where]
    found = items(cond(index, *operands, *given, branches=tuple(jvp_graph(b, where) for b in branches)))
    n = len(branches[0].outputs)
    return scatter_list(n, inexact(branches[0].output_types), found[n:])


def _cond_batch(size: int, flags: Flags, index: Node, *operands: Node, branches: tuple[Graph, ...]) -> Any:
    from graphc.autodiff import batch_graph
    from graphc.ops.arithmetic import eq, like, maximum, minimum, select
    from graphc.ops.movement import broadcast

    batched = tuple(batch_graph(b, size, flags[1:]) for b in branches)
    if not flags[0]:
        return items(cond(index, *operands, branches=batched))
    clamped = minimum(maximum(index, like(index, 0)), like(index, len(branches) - 1))
    results = list(inline(batched[-1], operands))
    for k in range(len(branches) - 2, -1, -1):
        chosen = eq(clamped, like(clamped, k))
        mine = inline(batched[k], operands)
        results = [select(broadcast(chosen, a.type.shape, (0,)), a, b) for a, b in zip(mine, results, strict=True)]
    return tuple(results)


#: ``cond(index, *operands, branches=)``: the branch number ``index`` (i32, clamped) on the operands.
cond = define(Op("cond", "control", infer=_cond_type, eval=_cond_eval, vjp=_cond_vjp, jvp=_cond_jvp, batch=_cond_batch))

# ------------------------------------------------------------------------------------------------ scan


def _scan_type(*types: TensorType, body: Graph, n_carry: int, n_xs: int, length: int, reverse: bool) -> Type:
    carry, xs, consts = types[:n_carry], types[n_carry : n_carry + n_xs], types[n_carry + n_xs :]
    for x in xs:
        if x.ndim == 0 or x.shape[0] != length:
            raise GraphError(f"scan of length {length}: {x} has no leading axis of that length")
    check_body("scan", body, [*carry, *[TensorType(x.dtype, x.shape[1:]) for x in xs], *consts])
    if body.output_types[:n_carry] != tuple(carry):
        raise GraphError(f"scan: the carry goes in as {tuple(carry)} and comes out as {body.output_types[:n_carry]}")
    return TupleType((*carry, *[TensorType(t.dtype, (length, *t.shape)) for t in body.output_types[n_carry:]]))


def _scan_eval(
    *values: Any, body: Graph, n_carry: int, n_xs: int, length: int, reverse: bool
) -> tuple[np.ndarray, ...]:
    carry, xs, consts = list(values[:n_carry]), values[n_carry : n_carry + n_xs], values[n_carry + n_xs :]
    ys = [np.empty((length, *t.shape), t.dtype.numpy) for t in body.output_types[n_carry:]]
    for k in reversed(range(length)) if reverse else range(length):
        results = evaluate(body, [*carry, *[x[k] for x in xs], *consts])
        carry = results[:n_carry]
        for y, value in zip(ys, results[n_carry:], strict=True):
            y[k] = value
    return (*carry, *ys)


def _scan_vjp(
    ct: Any, out: Node, *values: Node, body: Graph, n_carry: int, n_xs: int, length: int, reverse: bool
) -> Any:
    """Run again forward keeping every carry, then backward over steps with the VJP of the body.

    The carry of the backward scan is the cotangent of the carry and the sum of the constants' cotangents.
    """
    from graphc.autodiff import vjp_graph
    from graphc.ops.arithmetic import add

    xs, consts = values[n_carry : n_carry + n_xs], values[n_carry + n_xs :]
    attrs = {"length": length, "reverse": reverse}
    kept = scan(*values, body=_keep_carry(body, n_carry), n_carry=n_carry, n_xs=n_xs, **attrs)
    n_ys = len(body.outputs) - n_carry
    history = items(kept)[n_carry + n_ys :]
    in_types = body.input_types
    where = inexact(in_types)
    c_where = [k for k in where if k < n_carry]
    x_where = [k for k in where if n_carry <= k < n_carry + n_xs]
    k_where = [k for k in where if k >= n_carry + n_xs]
    y_where = [k for k in range(n_ys) if body.output_types[n_carry + k].dtype.is_inexact]
    rule = vjp_graph(body, where)

    with Builder(f"{body.name}_backward") as builder:
        ct_carry = [builder.input(f"ct_carry{k}", in_types[k]) for k in c_where]
        ct_sums = [builder.input(f"ct_sum{k}", in_types[k]) for k in k_where]
        then = [builder.input(f"carry{k}", in_types[k]) for k in range(n_carry)]
        x = [builder.input(f"x{k}", in_types[n_carry + k]) for k in range(n_xs)]
        ct_y = [builder.input(f"ct_y{k}", body.output_types[n_carry + k]) for k in y_where]
        c = [builder.input(f"c{k}", t) for k, t in enumerate(in_types[n_carry + n_xs :])]
        found = dict(zip(where, inline(rule, [*then, *x, *c, *ct_carry, *ct_y]), strict=True))
        sums = [add(total, found[k]) for total, k in zip(ct_sums, k_where, strict=True)]
        backward = builder.graph([*[found[k] for k in c_where], *sums, *[found[k] for k in x_where]])

    seeds = or_zeros(ct, out.type.items)
    results = items(
        scan(
            *[seeds[k] for k in c_where], *[zeros(in_types[k]) for k in k_where],
            *history, *xs, *[seeds[n_carry + k] for k in y_where], *consts,
            body=backward, n_carry=len(c_where) + len(k_where), n_xs=n_carry + n_xs + len(y_where),
            length=length, reverse=not reverse,
        )
    )  # fmt: skip
    return scatter_list(len(values), [*c_where, *k_where, *x_where], results)


def _keep_carry(body: Graph, n_carry: int) -> Graph:
    """``body`` with the incoming carries as further outputs."""
    return Graph(
        f"{body.name}_kept", body.inputs, (*body.outputs, *body.inputs[:n_carry]), body.nodes, body.lines, body.adjoints
    )


def _scan_jvp(
    tangents: Any, out: Node, *values: Node, body: Graph, n_carry: int, n_xs: int, length: int, reverse: bool
) -> Any:
    from graphc.autodiff import jvp_graph

    types = body.input_types
    c_where = inexact(types[:n_carry])
    x_where = [k for k in range(n_carry, n_carry + n_xs) if tangents[k] is not None]
    k_where = [k for k in range(n_carry + n_xs, len(values)) if tangents[k] is not None]
    where = [*c_where, *x_where, *k_where]
    rule = jvp_graph(body, where)  # (carry, x, consts, tangents of each) -> (carry, ys, dcarry, dys)
    n_out = len(body.outputs)
    dy_where = [k for k in range(n_carry, n_out) if body.output_types[k].dtype.is_inexact]

    with Builder(f"{body.name}_tangent") as builder:

        def new(k: int, prefix: str) -> Node:
            return builder.input(f"{prefix}{k}", types[k])

        carry = [new(k, "carry") for k in range(n_carry)]
        d_carry = [new(k, "d_carry") for k in c_where]
        x = [new(k, "x") for k in range(n_carry, n_carry + n_xs)]
        d_x = [new(k, "d_x") for k in x_where]
        c = [new(k, "c") for k in range(n_carry + n_xs, len(values))]
        d_c = [new(k, "d_c") for k in k_where]
        found = inline(rule, [*carry, *x, *c, *d_carry, *d_x, *d_c])
        duals = found[n_out:]
        dual_body = builder.graph(
            [*found[:n_carry], *duals[: len(c_where)], *found[n_carry:n_out], *duals[len(c_where) :]]
        )
    starts = or_zeros([tangents[k] for k in c_where], [types[k] for k in c_where])
    results = items(
        scan(
            *values[:n_carry], *starts, *values[n_carry : n_carry + n_xs], *[tangents[k] for k in x_where],
            *values[n_carry + n_xs :], *[tangents[k] for k in k_where],
            body=dual_body, n_carry=n_carry + len(c_where), n_xs=n_xs + len(x_where), length=length, reverse=reverse,
        )
    )  # fmt: skip
    d_finals = results[n_carry : n_carry + len(c_where)]
    d_ys = results[len(results) - len(dy_where) :] if dy_where else ()
    return scatter_list(n_out, [*c_where, *dy_where], [*d_finals, *d_ys])


def _scan_batch(
    size: int, flags: Flags, *values: Node, body: Graph, n_carry: int, n_xs: int, length: int, reverse: bool
) -> Any:
    from graphc.autodiff import batch_graph

    carry = batched_operands(size, flags[:n_carry], values[:n_carry])
    x_flags, c_flags = flags[n_carry : n_carry + n_xs], flags[n_carry + n_xs :]
    xs = [move_axis(x, 1, 0) if f else x for x, f in zip(values[n_carry : n_carry + n_xs], x_flags, strict=True)]
    inner = batch_graph(body, size, [*[True] * n_carry, *x_flags, *c_flags])
    results = items(
        scan(
            *carry, *xs, *values[n_carry + n_xs :],
            body=inner, n_carry=n_carry, n_xs=n_xs, length=length, reverse=reverse,
        )
    )  # fmt: skip
    return (*results[:n_carry], *[move_axis(y, 1, 0) for y in results[n_carry:]])


#: ``scan(init…, xs…, consts…, body=, n_carry=, n_xs=, length=, reverse=)``: body ``(carry…, x…, consts…) -> (carry…, y…)``
#: over the leading axis of the xs; results are the last carries and the stacked ys.
scan = define(Op("scan", "control", infer=_scan_type, eval=_scan_eval, vjp=_scan_vjp, jvp=_scan_jvp, batch=_scan_batch))

# ------------------------------------------------------------------------------------------------ while_loop


def _while_type(*types: TensorType, cond: Graph, body: Graph, n_carry: int) -> Type:
    check_body("while_loop (condition)", cond, types)
    check_body("while_loop (body)", body, types)
    if cond.output_types != (TensorType(bool_, ()),):
        raise GraphError(f"while_loop: the condition must give one bool scalar, not {cond.output_types}")
    if body.output_types != tuple(types[:n_carry]):
        raise GraphError(
            f"while_loop: the carry goes in as {tuple(types[:n_carry])} and comes out as {body.output_types}"
        )
    return TupleType(tuple(types[:n_carry]))


def _while_eval(*values: Any, cond: Graph, body: Graph, n_carry: int) -> tuple[np.ndarray, ...]:
    carry, consts = list(values[:n_carry]), values[n_carry:]
    while bool(evaluate(cond, [*carry, *consts])[0]):
        carry = evaluate(body, [*carry, *consts])
    return tuple(carry)


def _while_vjp(ct: Any, out: Node, *values: Node, **_: Any) -> Any:
    raise GraphError(
        "while_loop has no reverse-mode derivative: its number of steps is not known when the graph is built; "
        "use scan or fori_loop with a constant number of steps, or forward mode (jvp, jacfwd)"
    )


def _while_jvp(tangents: Any, out: Node, *values: Node, cond: Graph, body: Graph, n_carry: int) -> Any:
    from graphc.autodiff import jvp_graph

    types = body.input_types
    c_where = inexact(types[:n_carry])
    k_where = [k for k in range(n_carry, len(values)) if tangents[k] is not None]
    rule = jvp_graph(body, [*c_where, *k_where])
    with Builder(f"{body.name}_tangent") as builder:
        inputs, d_carry, d_consts = _dual_inputs(builder, types, n_carry, c_where, k_where)
        found = inline(rule, [*inputs, *d_carry, *d_consts])
        dual_body = builder.graph([*found[:n_carry], *found[n_carry:]])
    with Builder(cond.name) as builder:
        inputs, _, _ = _dual_inputs(builder, types, n_carry, c_where, k_where)
        dual_cond = builder.graph(inline(cond, inputs))
    starts = or_zeros([tangents[k] for k in c_where], [types[k] for k in c_where])
    results = items(
        while_loop(
            *values[:n_carry], *starts, *values[n_carry:], *[tangents[k] for k in k_where],
            cond=dual_cond, body=dual_body, n_carry=n_carry + len(c_where),
        )
    )  # fmt: skip
    return scatter_list(n_carry, c_where, results[n_carry:])


def _dual_inputs(
    builder: Builder, types: Any, n_carry: int, c_where: Any, k_where: Any
) -> tuple[list[Node], list[Node], list[Node]]:
    carry = [builder.input(f"carry{k}", types[k]) for k in range(n_carry)]
    d_carry = [builder.input(f"d_carry{k}", types[k]) for k in c_where]
    consts = [builder.input(f"c{k}", types[k]) for k in range(n_carry, len(types))]
    d_consts = [builder.input(f"d_c{k}", types[k]) for k in k_where]
    return [*carry, *consts], d_carry, d_consts


def _while_batch(size: int, flags: Flags, *values: Node, cond: Graph, body: Graph, n_carry: int) -> Any:
    """All carries are batched; the loop runs while any example wants to, and the finished ones keep their values."""
    from graphc.autodiff import batch_graph
    from graphc.ops.arithmetic import select
    from graphc.ops.movement import broadcast
    from graphc.ops.reduction import reduce_or

    every = [*[True] * n_carry, *flags[n_carry:]]
    test, step = batch_graph(cond, size, every), batch_graph(body, size, every)
    operands = [*batched_operands(size, flags[:n_carry], values[:n_carry]), *values[n_carry:]]
    with Builder(f"{cond.name}_any") as builder:
        inputs = [builder.input(n["name"], n.type) for n in test.inputs]
        any_runs = builder.graph([reduce_or(inline(test, inputs)[0], axes=(0,))])
    with Builder(f"{body.name}_masked") as builder:
        inputs = [builder.input(n["name"], n.type) for n in step.inputs]
        runs = inline(test, inputs)[0]
        new = inline(step, inputs)
        masked = builder.graph(
            [select(broadcast(runs, n.type.shape, (0,)), n, old) for n, old in zip(new, inputs, strict=False)]
        )
    return items(while_loop(*operands, cond=any_runs, body=masked, n_carry=n_carry))


#: ``while_loop(init…, consts…, cond=, body=, n_carry=)``: the carry after running ``body`` while ``cond`` holds.
while_loop = define(
    Op("while_loop", "control", infer=_while_type, eval=_while_eval, vjp=_while_vjp, jvp=_while_jvp, batch=_while_batch)
)

__all__ = ["call", "cond", "full", "item", "scan", "shifted", "while_loop"]
