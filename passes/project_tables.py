"""A contraction of gathered rows becomes rows gathered from the contraction of the table, where the table has fewer rows.

``embedding[tokens] @ W`` multiplies the same rows again for every token; ``(embedding @ W)[tokens]`` multiplies each row of
the table once. Every element is the same sum of the same products.
"""

from __future__ import annotations

from graphc import ops
from graphc.ir import Graph, Node, rewrite
from graphc.passes.simplify import map_bodies

#: The table must have so many times fewer rows than are gathered.
FEWER = 2


def project_tables(graph: Graph) -> Graph:
    """``graph`` with contractions of gathered rows done on the table.

    >>> from graphc.text import from_text
    >>> text = '''
    ... def g(e: f32[3, 8], i: i64[6], w: f32[8, 4]):
    ...     v0: f32[6, 8] = gather(e, i, axes=(0,), mode='raise')
    ...     v1: f32[6, 4] = dot(v0, w, batch=((), ()), contract=((1,), (0,)))
    ...     return v1'''
    >>> print(project_tables(from_text(text)))
    def g(e: f32[3, 8], i: i64[6], w: f32[8, 4]):
        v0: f32[3, 4] = dot(e, w, batch=((), ()), contract=((1,), (0,)))
        v1: f32[6, 4] = gather(v0, i, axes=(0,), mode='raise')
        return v1
    """
    graph = map_bodies(graph, project_tables)
    return rewrite(graph, projected) if any(map(is_projection, graph.nodes)) else graph


def is_projection(node: Node) -> bool:
    """Whether ``node`` contracts, within each row, many rows that are gathered from few."""
    if node.op is not ops.dot or node["batch"] != ((), ()) or node.inputs[0].op is not ops.gather:
        return False
    rows = node.inputs[0]
    table, *indices = rows.inputs
    if rows["axes"] != (0,) or rows["mode"] not in ("raise", "clip") or len(indices) != 1:
        return False
    count = indices[0].type.ndim
    inside = all(axis >= count for axis in node["contract"][0])
    return inside and indices[0].type.size >= FEWER * table.type.shape[0] > 0


def projected(node: Node) -> Node | None:
    if not is_projection(node):
        return None
    (rows, y), (axes, others) = node.inputs, node["contract"]
    table, index = rows.inputs
    moved = tuple(axis - index.type.ndim + 1 for axis in axes)
    product = ops.dot(table, y, batch=((), ()), contract=(moved, others))
    return ops.gather(product, index, axes=(0,), mode=rows["mode"])
