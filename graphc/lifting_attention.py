"""Recognising attention in what the user wrote: see :mod:`graphc.lifting` and :mod:`graphc.attention`.

The match begins at the second contraction, ``p @ v`` (or at the division after it, ``(e @ v) / Σe``), and goes back through
the softmax and the score function, any elementwise nodes, to the first contraction. Axes are followed by *labels*: the
number of the axis of p that an axis runs along, None for axes of length 1 and for contracted ones. So letters, transposes
and reshapes that only move axes of length 1 do not matter.

Of the axes of the scores, the one that the softmax sums is that of the *keys*; the longest of those along which only the
queries vary is that of the *rows*; all others are batch axes, along which an operand that lacks them is repeated.

What the score function reads besides is put into it where it can be computed there from less memory: numbers, comparisons
of row and key (also where they come as an array, ``np.tril``), elementwise nodes on what is repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc import ops
from graphc.attention import attention, compute_type, worthwhile
from graphc.interpreter import evaluate
from graphc.ir import Builder, Graph, Node, topological
from graphc.lifting_softmax import Match, Misfit, long_axes, match, same_but_ones, shifted
from graphc.types import DType, TensorType, dtype, i32

Labels = tuple[int | None, ...]

#: Nodes of a score function at most, and elements of a constant that is looked at.
MOST_NODES = 128
MOST_ELEMENTS = 1 << 24


class NoMatch(Exception):
    """Why something is no attention."""


@dataclass(frozen=True)
class Extra:
    """What a score function reads: ``source``, whose axes have ``labels``, with those of ``ordered`` in their order."""

    source: Node
    labels: Labels
    ordered: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """An attention whose result is ``root``: contraction ``product``, of which p is operand number ``side``, after ``scores``.

    ``chain`` are movements from product to root, ``score`` is the function between the contractions, which reads ``extras``.
    """

    root: Node
    product: Node
    side: int
    chain: tuple[Node, ...]
    scores: Node
    score_labels: Labels
    key_side: int
    row: int
    key: int
    batch: tuple[int, ...]
    extents: Mapping[int, int]
    score: Graph
    extras: tuple[Extra, ...]


class Finder:
    """Finds attention among the nodes of ``path`` (topological)."""

    def __init__(self, path: Sequence[Node]) -> None:
        self.path = path
        self._place: dict[Node, int] | None = None

    def find(self, node: Node) -> Found | Misfit | None:
        """The attention whose result ``node`` is, why it is none, or None where it does not begin like one."""
        try:
            if node.op is ops.dot:
                return self._normalised(node)
            if node.op is ops.div:
                return self._divided(node)
        except NoMatch as why:
            return Misfit("attention", str(why))
        return None

    def _normalised(self, product: Node) -> Found | None:
        """``softmax(t) @ v``"""
        for side in (0, 1):
            p, labels = behind(product.inputs[side], numbered(product.inputs[side]))
            soft = softmax_of(p)
            if soft is not None:
                return self._attention(product, product, side, (), *soft, labels)
            between = behind_elementwise(p)
            if between is not None and ops.dot in {x.op for x in contractions_behind(between)}:
                raise NoMatch(f"{p.op.name} lies between the softmax and the second contraction")
        return None

    def _divided(self, root: Node) -> Found | None:
        """``(e @ v) / Σe``"""
        chain: list[Node] = []
        product = root.inputs[0]
        labels = numbered(product)
        while product.op is ops.transpose or product.op is ops.reshape and same_but_ones(product, product.inputs[0]):
            chain.append(product)
            labels = through(product, labels)
            product = product.inputs[0]
        if product.op is not ops.dot:
            return None
        total, of_total = unrepeated(root.inputs[1], numbered(root.inputs[1]))
        if total.op is not ops.reduce_sum or total.inputs[0].op is not ops.exp:
            return None
        for side in (0, 1):
            e, of_e = behind(product.inputs[side], numbered(product.inputs[side]))
            if e is not total.inputs[0]:
                continue
            axes = total["axes"]
            # Axis of the root → axis of p: by the axes of the product, whose free axes of p come in order.
            at = dict(zip(result_labels(product, side), labels, strict=True))
            kept = [of_e[k] for k in long_axes(e.type.shape) if k not in axes]
            if [at.get(label) for label in kept] != [label for label in of_total if label is not None]:
                raise NoMatch("the sum of the exponentials divides along other axes")
            top, _ = shifted(e.inputs[0], axes)
            return self._attention(root, product, side, tuple(reversed(chain)), top, axes, of_e)
        return None

    # ---------------------------------------------------------------------------------------- the parts

    def _attention(
        self, root: Node, product: Node, side: int, chain: tuple[Node, ...], top: Node, axes: Sequence[int],
        labels: Labels,
    ) -> Found | None:  # fmt: skip
        p = product.inputs[side]
        contracted = {k for k in product["contract"][side] if p.type.shape[k] != 1}
        keys = {labels[k] for k in axes} - {None}
        if not contracted and not keys:
            return None
        candidates = contractions_behind(top)
        if not candidates:
            return None
        if keys != contracted:
            raise NoMatch("the softmax sums over other axes than the second contraction")
        if len(keys) != 1:
            raise NoMatch("the softmax sums over several axes")
        (key,) = keys
        assert key is not None
        why: NoMatch | None = None
        for dot in candidates:
            try:
                return self._of_scores(root, product, side, chain, top, labels, dot, key)
            except NoMatch as reason:
                why = why or reason
        assert why is not None
        raise why

    def _of_scores(
        self, root: Node, product: Node, side: int, chain: tuple[Node, ...], top: Node, labels: Labels, dot: Node,
        key: int,
    ) -> Found:  # fmt: skip
        """``dot`` as the first contraction. Raises NoMatch."""
        p, v = product.inputs[side], product.inputs[1 - side]
        extents = {k: n for k, n in enumerate(p.type.shape) if n != 1}
        places = self._region(top, labels, dot)
        own = places[dot]
        if {label for label in own if label is not None} != set(extents):
            raise NoMatch("the first contraction lacks an axis of the scores")
        of_operand = [operand_labels(dot, own, n) for n in (0, 1)]
        varies = [{label for label in found if label is not None} for found in of_operand]
        if key in varies[0] & varies[1]:
            raise NoMatch("both operands of the first contraction vary along the summed axis")
        key_side = 0 if key in varies[0] else 1
        of_v = {k for k in product["batch"][side] if k in extents}
        rows = [label for label in sorted(extents) if label not in varies[key_side] and label not in of_v]
        if not rows:
            raise NoMatch("there is no axis along which only the queries vary")
        row = max(rows, key=lambda label: (extents[label], label))
        q, k = dot.inputs[1 - key_side], dot.inputs[key_side]
        depth = size_of(q, dot["contract"][1 - key_side])
        width = v.type.size // max(size_of(v, (*product["batch"][1 - side], *product["contract"][1 - side])), 1)
        if not worthwhile(extents[row], extents[key], depth, width):
            raise NoMatch(
                f"a kernel of its own is not worth it for {extents[row]} queries, {extents[key]} keys and "
                f"{depth} and {width} features"
            )
        if not (q.type.dtype.is_float and k.type.dtype.is_float):
            raise NoMatch(f"scores of type {q.type.dtype} are not computed in blocks")
        batch = tuple(label for label in sorted(extents) if label not in (row, key))
        self._check_types(places, dot, p)
        score, extras = ScoreMaker(top, labels, dot, batch, row, key, extents).make()
        return Found(root, product, side, chain, dot, own, key_side, row, key, batch, extents, score, extras)

    def _region(self, top: Node, labels: Labels, dot: Node) -> dict[Node, Labels]:
        """The nodes between ``dot`` and ``top`` with the labels of their axes. Raises NoMatch."""
        reaching = reaches(top, dot)
        found: dict[Node, Labels] = {}
        waiting = [(top, labels)]
        leaves: list[Node] = []
        while waiting:
            node, have = waiting.pop()
            if node not in reaching:
                leaves.append(node)
                continue
            if node in found:
                if found[node] != have:
                    raise NoMatch(f"the score function reads {node.op.name} in two orders of its axes")
                continue
            found[node] = have
            if node is not dot:
                waiting += [(x, through(node, have)) for x in node.inputs]
        if len(found) > MOST_NODES:
            raise NoMatch(f"the score function has more than {MOST_NODES} nodes")
        self._check_leaves(leaves, dot)
        return found

    def _check_leaves(self, leaves: Sequence[Node], dot: Node) -> None:
        """Nothing else that the score function reads may depend on the scores."""
        if self._place is None:
            self._place = {node: k for k, node in enumerate(self.path)}
        place, first = self._place, self._place.get(dot, -1)
        seen: set[Node] = set()
        waiting = [x for x in leaves if place.get(x, -1) > first]
        while waiting:
            node = waiting.pop()
            if node is dot:
                raise NoMatch("the score function reads what was reduced or moved from the scores themselves")
            if node not in seen:
                seen.add(node)
                waiting += [x for x in node.inputs if place.get(x, -1) >= first]

    def _check_types(self, places: Mapping[Node, Labels], dot: Node, p: Node) -> None:
        element = compute_type(dot.type.dtype)
        for node in (*places, p):
            if node.type.dtype.is_float and compute_type(node.type.dtype) is not element:
                raise NoMatch(f"{node.op.name} changes the element type to {node.type.dtype} between the contractions")


# ------------------------------------------------------------------------------------------------ labels


def numbered(node: Node) -> Labels:
    return tuple(k if n != 1 else None for k, n in enumerate(node.type.shape))


def through(node: Node, labels: Labels) -> Labels:
    """The labels of the operands of ``node``, a movement of axes or elementwise."""
    if node.op is ops.transpose:
        found: list[int | None] = [None] * len(labels)
        for k, axis in enumerate(node["axes"]):
            found[axis] = labels[k]
        return tuple(found)
    if node.op is ops.reshape:
        long = iter([label for label, n in zip(labels, node.type.shape, strict=True) if n != 1])
        return tuple(None if n == 1 else next(long) for n in node.inputs[0].type.shape)
    return labels


def is_movement(node: Node) -> bool:
    return node.op is ops.transpose or node.op is ops.reshape and same_but_ones(node, node.inputs[0])


def is_float_cast(node: Node) -> bool:
    return node.op is ops.cast and node.type.dtype.is_float and node.inputs[0].type.dtype.is_float


def behind(node: Node, labels: Labels) -> tuple[Node, Labels]:
    """What is behind movements of axes and casts between floats."""
    while is_movement(node) or is_float_cast(node):
        labels = through(node, labels)
        node = node.inputs[0]
    return node, labels


def result_labels(product: Node, side: int) -> list[int | None]:
    """Per axis of the result of a dot, the axis of operand ``side`` that it is, or None."""
    batch, contract = product["batch"], product["contract"]
    free = [[k for k in range(x.type.ndim) if k not in (*batch[n], *contract[n])] for n, x in enumerate(product.inputs)]
    lead: list[int | None] = list(batch[side])
    own: list[int | None] = list(free[side])
    other: list[int | None] = [None] * len(free[1 - side])
    return lead + (own + other if side == 0 else other + own)


def operand_labels(dot: Node, labels: Labels, n: int) -> Labels:
    """The labels of the axes of operand ``n`` of a dot whose result has ``labels``."""
    found: list[int | None] = [None] * dot.inputs[n].type.ndim
    for label, axis in zip(labels, result_labels(dot, n), strict=True):
        if axis is not None and dot.inputs[n].type.shape[axis] != 1:
            found[axis] = label
    return tuple(found)


def size_of(node: Node, axes: Sequence[int]) -> int:
    return int(np.prod([node.type.shape[k] for k in axes], dtype=np.int64))


# ------------------------------------------------------------------------------------------------ softmax and scores


def softmax_of(p: Node) -> tuple[Node, tuple[int, ...]] | None:
    """What ``p`` is the softmax of, and over which axes."""
    if p.op in (ops.div, ops.mul):
        found = match(p)
        if isinstance(found, Match) and found.name == "softmax" and found.x.type.shape == p.type.shape:
            return found.x, found.axes
    if (
        p.op is ops.item
        and p.inputs[0].op.name == "call"
        and p.inputs[0]["name"] == "softmax"
        and not p.inputs[0]["custom"]
    ):
        body = p.inputs[0]["body"]
        sums = [node for node in body.nodes if node.op is ops.reduce_sum]
        if len(sums) == 1:
            return p.inputs[0].inputs[0], sums[0]["axes"]
    return None


def behind_elementwise(p: Node, most: int = 8) -> Node | None:
    """What a softmax is taken of that the elementwise node ``p`` is made of, by at most ``most`` elementwise nodes."""
    waiting = [p]
    for _ in range(most):
        if not waiting:
            return None
        node = waiting.pop(0)
        if node.op.kind == "elementwise" and node.op is not ops.exp:
            for x in node.inputs:
                source, _ = behind(x, numbered(x))
                soft = softmax_of(source)
                if soft is not None:
                    return soft[0]
                waiting.append(source)
    return None


def contractions_behind(top: Node) -> list[Node]:
    """The dots that ``top`` is made of by elementwise nodes and movements of axes, nearest first."""
    found: dict[Node, None] = {}
    seen: set[Node] = set()
    waiting = [top]
    while waiting and len(seen) <= MOST_NODES:
        node = waiting.pop(0)
        if node in seen:
            continue
        seen.add(node)
        if node.op is ops.dot:
            found[node] = None
        elif node.op.kind == "elementwise" or is_movement(node):
            waiting += node.inputs
    return list(found)


def reaches(top: Node, dot: Node) -> set[Node]:
    """The nodes, ``top`` and ``dot`` included, from which elementwise nodes and movements lead to ``dot``."""
    stop = {dot}
    found: set[Node] = {dot}
    order: list[Node] = []
    seen: set[Node] = set()
    waiting: list[tuple[Node, bool]] = [(top, False)]
    while waiting:
        node, done = waiting.pop()
        if done:
            order.append(node)
            continue
        if node in seen:
            continue
        seen.add(node)
        waiting.append((node, True))
        if node not in stop and (node.op.kind == "elementwise" or is_movement(node)) and len(seen) <= 4 * MOST_NODES:
            waiting += [(x, False) for x in node.inputs]
    for node in order:
        if (
            node is not dot
            and (node.op.kind == "elementwise" or is_movement(node))
            and not found.isdisjoint(node.inputs)
        ):
            found.add(node)
    return found


# ------------------------------------------------------------------------------------------------ building


def build(found: Found, mapping: Mapping[Node, Node]) -> Node:
    """The call for a match on the operands as ``mapping`` has them, moved to the form of the user's node."""
    product, dot, side = found.product, found.scores, found.side
    order = found.batch

    def operand(node: Node, labels: Labels, own: int, deep: Sequence[int]) -> Node:
        return canonical(mapping.get(node, node), labels, order, found.extents, own, deep)

    sides = (1 - found.key_side, found.key_side)
    q, k = (
        operand(dot.inputs[n], operand_labels(dot, found.score_labels, n), own, dot["contract"][n])
        for n, own in zip(sides, (found.row, found.key), strict=True)
    )
    v, p = product.inputs[1 - side], product.inputs[side]
    of_v: list[int | None] = [None] * v.type.ndim
    for a, b in (*zip(product["batch"][side], product["batch"][1 - side], strict=True),
                 *zip(product["contract"][side], product["contract"][1 - side], strict=True)):  # fmt: skip
        of_v[b] = a if p.type.shape[a] != 1 else None
    taken = (*product["batch"][1 - side], *product["contract"][1 - side])
    wide = [n for n in range(v.type.ndim) if n not in taken]
    v = operand(v, tuple(of_v), found.key, wide)
    extras = [squeezed(mapping.get(x.source, x.source), x.labels, x.ordered) for x in found.extras]
    made = attention([q, k, v, *extras], found.score, product.type.dtype)
    # […batch, row, E] → the axes of the product
    have: list[int | None] = [*order, found.row]
    features = [product.inputs[1 - side].type.shape[n] for n in wide]
    result = ops.reshape_to(made, (*made.type.shape[:-1], *features))
    free = iter(range(len(have), len(have) + len(features)))
    axes = result_labels(product, side)
    moved = [next(free) if axis is None else have.index(axis) for axis in axes if axis is None or axis in have]
    result = ops.reshape_to(ops.transpose_to(result, moved), product.type.shape)
    if result.type.dtype is not product.type.dtype:
        result = ops.cast(result, to=product.type.dtype)
    for step in found.chain:
        result = step.op(result, **dict(step.attrs))
    return result


def canonical(
    node: Node, labels: Labels, batch: Sequence[int], extents: Mapping[int, int], own: int, deep: Sequence[int]
) -> Node:
    """``node`` as […batch, own, depth]: axes ``deep`` merged into one, batch axes that it lacks repeated."""
    lead = [label for label in batch if label in labels]
    axes = [labels.index(label) for label in (*lead, own)] + list(deep)
    rest = [k for k in range(node.type.ndim) if k not in axes]  # of length 1
    depth = size_of(node, deep)
    moved = ops.transpose_to(node, (*rest, *axes))
    moved = ops.reshape_to(moved, (*[extents[label] for label in (*lead, own)], depth))
    places = [*[batch.index(label) for label in lead], len(batch), len(batch) + 1]
    return ops.broadcast(moved, (*[extents[label] for label in batch], extents[own], depth), places)


class ScoreMaker:
    """The score function as a graph over the frame […batch, rows, keys], and what it reads."""

    def __init__(
        self, top: Node, labels: Labels, scores: Node, batch: tuple[int, ...], row: int, key: int,
        extents: Mapping[int, int],
    ) -> None:  # fmt: skip
        self.top, self.labels, self.scores, self.row, self.key, self.extents = top, labels, scores, row, key, extents
        self.order = (*batch, row, key)
        self.frame = tuple(extents[label] for label in self.order)
        self.element = compute_type(scores.type.dtype)
        self.extras: list[Extra] = []
        self.inputs: dict[tuple[Node, Labels], Node] = {}
        self.made: dict[Node, Node] = {}

    def make(self) -> tuple[Graph, tuple[Extra, ...]]:
        """The graph ``(s, x…) -> t``, and the x. Raises NoMatch."""
        with Builder("score") as self.builder:
            self.made[self.scores] = self.builder.input("s", TensorType(self.element, self.frame))
            places: dict[Node, Labels] = {self.top: self.labels}
            reaching = reaches(self.top, self.scores)
            region = [n for n in topological([self.top], stop=[self.scores]) if n in reaching and n is not self.scores]
            for node in reversed(region):
                for x in node.inputs:
                    places.setdefault(x, through(node, places[node]))
            for node in region:
                self.made[node] = self._remade(node, places)
            return self.builder.graph([self.made[self.top]]), tuple(self.extras)

    def _remade(self, node: Node, places: Mapping[Node, Labels]) -> Node:
        if is_movement(node) or is_float_cast(node):
            return self.made[node.inputs[0]]
        operands = [self.made[x] if x in self.made else self._leaf(x, through(node, places[node])) for x in node.inputs]
        return node.op(*operands, **dict(node.attrs))

    # ---------------------------------------------------------------------------------------- what it reads besides

    def _leaf(self, x: Node, labels: Labels) -> Node:
        """``x``, whose axes have ``labels``, over the frame."""
        number = ops.constant_value(x)
        if number is not None:
            return self._full(number, x.type.dtype)
        known = known_value(x)
        if known is not None:
            made = self._known(known, labels)
            if made is not None:
                return made
        if x.op.kind == "elementwise" and x.inputs and not is_float_cast(x) and self._smaller_parts(x):
            return x.op(*[self._leaf(y, labels) for y in x.inputs], **dict(x.attrs))
        return self._extra(*unrepeated(x, labels))

    def _full(self, number: Any, stored: DType) -> Node:
        element = compute_type(stored) if stored.is_float else stored
        return ops.full(TensorType(element, self.frame), np.asarray(number).astype(element.numpy))

    def _known(self, array: np.ndarray, labels: Labels) -> Node | None:
        """A constant as a comparison of row and key, or None."""
        long = [label for label in labels if label is not None]
        slim = array.reshape([n for n in array.shape if n != 1])
        for axis, label in reversed(list(enumerate(long))):
            if slim.ndim > axis and label not in (self.row, self.key):
                if not (slim == slim.take([0], axis)).all():
                    return None
                slim = slim.take(0, axis)
        kept = [label for label in long if label in (self.row, self.key)]
        if slim.ndim != 2:
            return None
        matrix = slim if kept == [self.row, self.key] else slim.T
        triangle = triangular(matrix)
        if triangle is None:
            return None
        offset, below, above = triangle
        last = len(self.frame) - 1
        rows, keys = (ops.iota(shape=self.frame, axis=axis, to=i32) for axis in (last - 1, last))
        shifted_rows = ops.add(rows, ops.full(rows.type, offset)) if offset else rows
        inside = ops.ge(shifted_rows, keys)
        element = dtype(array.dtype)
        if element is inside.type.dtype and bool(below) and not bool(above):
            return inside
        return ops.select(inside, self._full(below, element), self._full(above, element))

    def _smaller_parts(self, x: Node) -> bool:
        """Whether what an elementwise node is made of takes less memory than it does itself."""
        budget, waiting, seen = x.type.nbytes, [x], 0
        while waiting:
            node = waiting.pop()
            seen += 1
            if seen > MOST_NODES // 4:
                return False
            if ops.constant_value(node) is not None or known_value(node) is not None:
                continue
            if node.op.kind == "elementwise" and node.inputs and not is_float_cast(node):
                waiting += node.inputs
            else:
                source, _ = unrepeated(node, numbered(node))
                budget -= source.type.nbytes
        return budget > 0

    def _extra(self, x: Node, labels: Labels) -> Node:
        """``x`` as an operand of the call: without axes of length 1, the others in the order of the frame."""
        if x.type.dtype.is_float and compute_type(x.type.dtype) is not self.element:
            raise NoMatch(f"the score function reads {x.type}")
        long = [label for label in labels if label is not None]
        ordered = tuple(label for label in self.order if label in long)
        key = (x, labels)
        if key not in self.inputs:
            shape = tuple(self.extents[label] for label in ordered)
            self.inputs[key] = self.builder.input(f"x{len(self.extras)}", TensorType(x.type.dtype, shape))
            self.extras.append(Extra(x, labels, ordered))
        given = self.inputs[key]
        if x.type.dtype.is_float and x.type.dtype is not self.element:
            given = ops.cast(given, to=self.element)
        return ops.broadcast(given, self.frame, [self.order.index(label) for label in ordered])


def squeezed(x: Node, labels: Labels, ordered: Sequence[int]) -> Node:
    long = [label for label in labels if label is not None]
    slim = ops.reshape_to(x, [n for n, label in zip(x.type.shape, labels, strict=True) if label is not None])
    return ops.transpose_to(slim, [long.index(label) for label in ordered])


def unrepeated(x: Node, labels: Labels) -> tuple[Node, Labels]:
    """What ``x`` repeats, and its labels; axes of length 1 come and go."""
    while True:
        if x.op is ops.broadcast_to:
            labels = tuple(
                labels[k] if n != 1 else None for k, n in zip(x["axes"], x.inputs[0].type.shape, strict=True)
            )
            x = x.inputs[0]
        elif is_movement(x):
            labels = through(x, labels)
            x = x.inputs[0]
        else:
            return x, labels


def known_value(x: Node) -> np.ndarray | None:
    """The value of what depends on constants and indices alone, as small as it is before it is repeated."""
    if x.op is ops.broadcast_to or is_movement(x):
        inner = known_value(x.inputs[0]) if x.type.size <= MOST_ELEMENTS else None
        return None if inner is None else x.op.eval(inner, **dict(x.attrs))
    if x.op is ops.constant:
        value: np.ndarray = x["value"].value
        return value if value.size <= MOST_ELEMENTS else None
    if x.op.kind != "elementwise" or x.type.size > MOST_ELEMENTS:
        return None
    nodes = topological([x])
    if len(nodes) > MOST_NODES // 4 or any(
        n.op is not ops.constant and n.op.kind != "elementwise" and n.op is not ops.broadcast_to and not is_movement(n)
        for n in nodes
    ):
        return None
    with np.errstate(all="ignore"):
        graph = Graph("known", (), (x,), tuple(nodes))
        return evaluate(graph, [])[0]


def triangular(matrix: np.ndarray) -> tuple[int, Any, Any] | None:
    """``(offset, below, above)`` where ``matrix[i, j]`` is ``below`` for j ≤ i + offset, else ``above``; None elsewhere."""
    rows, columns = matrix.shape
    below, above = matrix[-1, 0], matrix[0, -1]
    if below == above:
        return None
    inside = matrix == below
    counts = inside.sum(axis=1)
    partial = np.flatnonzero((counts > 0) & (counts < columns))
    if not len(partial):
        return None
    offset = int(counts[partial[0]]) - 1 - int(partial[0])
    want = np.arange(columns)[None, :] <= np.arange(rows)[:, None] + offset
    if not np.array_equal(inside, want) or not (matrix[~want] == above).all():
        return None
    return offset, below, above


__all__ = ["Finder", "Found", "build"]
