"""The composite "attention": ``softmax(score(q kᵀ)) v``, and its derivative, neither with a matrix that outlives them.

    s = q kᵀ,  t = score(s, x…),  m = max t,  e = exp(t − m),  l = Σ e,  o = e v / l        (max and Σ over the keys)

A call's results are o and, for the derivative, m and l, one number for each query each. With p = e / l, the rule is

    t̄ = p (ō vᵀ − Σ ō o + l̄ l),  s̄ = score's rule,  q̄ = s̄ k,  k̄ = s̄ᵀ q,  v̄ = pᵀ ō

which is a call "attention_grad" of its own, whose body makes s and p again. The results do not depend on m: no cotangent
passes it. See Dao et al., *FlashAttention* (2022), for the recomputation.

Operands are q[…, M, D], k[…, N, D], v[…, N, E] with equal leading axes, and what the score reads. Half floats are computed
in f32.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

from graphc import ops
from graphc.autodiff import vjp_nodes
from graphc.ir import Builder, Graph, Node, inline
from graphc.ops.control import call
from graphc.types import DType, TensorType, bf16, f16, f32

NAMES = ("attention", "attention_grad")

#: Least sizes that a fused kernel is worth: queries, keys, and scores of one matrix. Below, a matrix stays in the first cache
#: anyway and blocks would be mostly edges (estimates; the switch has not been measured).
LEAST_QUERIES, LEAST_KEYS, LEAST_SCORES = 8, 16, 1024
#: Most features of a query or a value: the blocks of a fused kernel hold whole rows of them.
MOST_FEATURES = 512


def worthwhile(queries: int, keys: int, features: int, values: int) -> bool:
    """Whether attention of these extents is computed by fused kernels."""
    return (
        queries >= LEAST_QUERIES
        and keys >= LEAST_KEYS
        and queries * keys >= LEAST_SCORES
        and 2 <= features <= MOST_FEATURES
        and 2 <= values <= MOST_FEATURES
    )


@dataclass(frozen=True)
class Score:
    """The function between the contractions: a graph ``(s, x…) -> t`` of one shape, compared by its text."""

    graph: Graph = field(compare=False, hash=False)
    digest: str

    @staticmethod
    def of(graph: Graph) -> Score:
        return Score(graph, graph.digest)


Types = tuple[TensorType, ...]


def attention(operands: Sequence[Node], score: Graph, out: DType) -> Node:
    """The call on ``(q, k, v, x…)``; its result o, of element type ``out``."""
    made = Score.of(score)
    types = tuple([x.type for x in operands])
    body, rule = forward_body(made, types, out), rule_graph(made, types, out)
    return ops.items(call(*operands, body=body, name="attention", vjp=rule, custom=False))[0]


def compute_type(dtype: DType) -> DType:
    return f32 if dtype in (f16, bf16) else dtype


def widened(x: Node, to: DType) -> Node:
    return x if x.type.dtype is to else ops.cast(x, to=to)


def over_depth(x: Node, y: Node, of_x: int, of_y: int) -> Node:
    """The dot of x[…, a, b] and y[…, c, d] over the axes ``of_x`` and ``of_y`` of the last two (0 or 1)."""
    lead = x.type.ndim - 2
    batch = tuple(range(lead))
    return ops.dot(x, y, batch=(batch, batch), contract=((lead + of_x,), (lead + of_y,)))


def scores(q: Node, k: Node, extras: Sequence[Node], score: Graph) -> tuple[Node, Node]:
    """s and t."""
    s = over_depth(q, k, 1, 1)
    return s, inline(score, [s, *extras])[0]


def inputs(builder: Builder, types: Sequence[TensorType]) -> list[Node]:
    names = ["q", "k", "v", *[f"x{n}" for n in range(len(types) - 3)]]
    return [builder.input(name, type) for name, type in zip(names, types, strict=True)]


@functools.lru_cache(maxsize=64)
def forward_body(score: Score, types: Types, out: DType) -> Graph:
    """``(q, k, v, x…) -> o, m, l``"""
    with Builder("attention") as builder:
        q, k, v, *extras = inputs(builder, types)
        c = score.graph.output_types[0].dtype
        _, t = scores(widened(q, c), widened(k, c), extras, score.graph)
        axes = (t.type.ndim - 1,)
        m = ops.stop_gradient(ops.reduce_max(t, axes=axes))
        e = ops.exp(ops.sub(t, ops.expand(m, t, axes)))
        total = ops.reduce_sum(e, axes=axes)
        product = over_depth(e, widened(v, c), 1, 0)
        o = ops.div(product, ops.expand(total, product, axes))
        return builder.graph([widened(o, out), m, total])


@functools.lru_cache(maxsize=64)
def rule_graph(score: Score, types: Types, out: DType) -> Graph:
    """``(q, k, v, x…, o, m, l, ō, m̄, l̄) -> q̄, k̄, v̄, x̄…`` of the inexact operands.

    The cotangents of what the score reads are made by nodes of their own: they are wanted rarely, and large.
    """
    body = grad_body(score, types, out)
    with Builder("attention_rule") as builder:
        given = inputs(builder, types)
        o, m, total, ct_o, _, ct_total = (
            builder.input(name, type)
            for name, type in zip(
                ("o", "m", "l", "ct_o", "ct_m", "ct_l"), 2 * forward_body(score, types, out).output_types, strict=True
            )
        )
        cotangents = ops.items(
            call(*given, o, m, total, ct_o, ct_total, body=body, name="attention_grad", vjp=None, custom=False)
        )
        wanted = [x for x in given[3:] if x.type.dtype.is_inexact]
        rest: list[Node] = []
        if wanted:
            t, ct_t = _score_cotangent(score.graph, given, o, m, total, ct_o, ct_total)[1:3]
            found = vjp_nodes([t], [ct_t], wanted)
            rest = [ops.zeros(x.type) if ct is None else ct for x, ct in zip(wanted, found, strict=True)]
        return builder.graph([*cotangents, *rest])


@functools.lru_cache(maxsize=64)
def grad_body(score: Score, types: Types, out: DType) -> Graph:
    """``(q, k, v, x…, o, m, l, ō, l̄) -> q̄, k̄, v̄``"""
    with Builder("attention_grad") as builder:
        given = inputs(builder, types)
        names, kinds = ("o", "m", "l"), forward_body(score, types, out).output_types
        o, m, total = (builder.input(name, type) for name, type in zip(names, kinds, strict=True))
        ct_o, ct_total = builder.input("ct_o", o.type), builder.input("ct_l", total.type)
        s, t, ct_t, p = _score_cotangent(score.graph, given, o, m, total, ct_o, ct_total)
        (ct_s,) = vjp_nodes([t], [ct_t], [s])
        assert ct_s is not None
        c = p.type.dtype
        q, k, v = given[:3]
        ct_v = over_depth(p, widened(ct_o, c), 0, 0)
        ct_q = over_depth(ct_s, widened(k, c), 1, 0)
        ct_k = over_depth(ct_s, widened(q, c), 0, 0)
        return builder.graph([widened(ct, x.type.dtype) for ct, x in zip((ct_q, ct_k, ct_v), (q, k, v), strict=True)])


def _score_cotangent(
    score: Graph, given: Sequence[Node], o: Node, m: Node, total: Node, ct_o: Node, ct_total: Node
) -> tuple[Node, Node, Node, Node]:
    """s, t, the cotangent of t, and p."""
    q, k, v, *extras = given
    c = score.output_types[0].dtype
    s, t = scores(widened(q, c), widened(k, c), extras, score)
    axes = (t.type.ndim - 1,)
    e = ops.exp(ops.sub(t, ops.expand(ops.stop_gradient(m), t, axes)))
    p = ops.div(e, ops.expand(total, t, axes))
    wide = widened(ct_o, c)
    ct_p = over_depth(wide, widened(v, c), 1, 1)
    inner = ops.reduce_sum(ops.mul(wide, widened(o, c)), axes=axes)
    of_row = ops.sub(ops.mul(ct_total, total), inner)
    return s, t, ops.mul(p, ops.add(ct_p, ops.expand(of_row, t, axes))), p


__all__ = ["NAMES", "attention", "compute_type", "forward_body", "grad_body", "worthwhile"]
