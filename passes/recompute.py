"""Recomputation: values are computed again where they are read, rather than kept in memory until then.

The backward pass of a loop kernel reads what the forward kernel has computed, every intermediate of it: for a sigmoid
``1 / (1 + e)`` the exponential e, the sum and the quotient; for a gelu five values of the size of its argument. Here a value
that a few plain operations make of values that its readers can read is made there again, and is no longer written. For values
too large for a core's cache functions are computed again too, which takes less time than the memory does, and several values
that follow from one are replaced by that one, stored instead of them.

A copy may differ from the original in its last bit (a product is contracted into an addition in one kernel and not in the
other), so only values that are multiplied, divided and negated are copied: there a last bit stays a last bit, whereas
``exp(x - max)`` with another x than that of the maximum may be anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from graphc.ir import INPUT, Graph, Node
from graphc.passes.schedule import Kernel, Schedule, Value, base_of, compact
from graphc.types import TensorType

#: Operations that are done in place of reading a small value, and how many; of all others one counts as FUNCTION of them.
CHEAP = ("add", "sub", "mul", "div", "neg", "integer_pow")
FEW = 4
FUNCTION = 8
#: Values of so many bytes do not stay in the cache of a core until they are read: so many operations are worth one.
LARGE = 1 << 18
MANY = 24
#: What may be done to a copy.
SAFE = ("mul", "div", "neg")

TEMPLATES = ("elementwise", "contraction", "row", "column")


def recompute(schedule: Schedule) -> Schedule:
    """``schedule`` with values made again by their readers where that is cheaper than memory."""
    return _Recompute(schedule).run()


class _Recompute:
    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.values = list(schedule.values)
        self.kernels = dict(enumerate(schedule.kernels))
        self.readers: dict[int, list[int]] = {}  # value -> the kernels that read it, or a view of it
        self.viewed: set[int] = set()
        for k, kernel in self.kernels.items():
            for argument in dict.fromkeys(kernel.args):
                base = base_of(schedule, argument)
                self.readers.setdefault(base, []).append(k)
                if base != argument:
                    self.viewed.add(base)

    def run(self) -> Schedule:
        changed = False
        for k, kernel in list(self.kernels.items()):
            if kernel.bodies:
                self.kernels[k] = replace(kernel, bodies=tuple(map(recompute, kernel.bodies)))
                changed = True
            elif kernel.template in TEMPLATES and len(kernel.results) > 1:
                changed |= self.lighten(k)
        if not changed:
            return self.schedule
        fresh = iter(self.kernels.values())
        stages = tuple(tuple(next(fresh) for _ in stage) for stage in self.schedule.stages)
        return compact(replace(self.schedule, values=tuple(self.values), stages=stages))

    def lighten(self, k: int) -> bool:
        """Whether kernel ``k`` now writes less, its readers making the rest again."""
        maker = _Maker(self.kernels[k])
        for node in maker.body.nodes:
            if node in maker.value_of and self.is_candidate(maker, node):
                self.drop(maker, [node], None)
        large = [n for n in maker.value_of if n.type.nbytes >= LARGE and self.is_candidate(maker, n)]
        if len(large) > 1:
            self.replace_by_one(maker, large)
        if not maker.dropped:
            return False
        for reader, wanted in maker.copies.items():
            self.kernels[reader] = with_copies(self.kernels[reader], maker, list(wanted), self.values)
        kept = [(n, r) for n, r in maker.value_of.items() if n not in maker.dropped]
        body = pruned(replace(maker.body, outputs=tuple(n for n, _ in kept)))
        self.kernels[k] = replace(maker.kernel, body=body, results=tuple(r for _, r in kept))
        return True

    def is_candidate(self, maker: _Maker, node: Node) -> bool:
        """Whether ``node``, an output, is a temporary at the shape of the loops that lies in memory as it is."""
        value = maker.value_of[node]
        found = self.values[value]
        plain = (
            found.kind == "temporary" and found.base is None and value not in self.viewed and node not in maker.dropped
        )
        full = node.op.kind == "elementwise" and node.type.shape == maker.frame
        return plain and full and node.type.dtype.is_float and bool(self.readers.get(value))

    def replace_by_one(self, maker: _Maker, large: Sequence[Node]) -> None:
        """Store the one value from which most of ``large`` follow, instead of these."""
        best: tuple[int, Node, list[Node]] | None = None
        for source in maker.body.nodes:
            if source.type != large[0].type or source in maker.value_of or not source.inputs:
                continue
            if source.op.kind not in ("elementwise", "contraction"):
                continue
            follow = [node for node in large if node.type == source.type and self.makers(maker, node, source)]
            if len(follow) > max(1, best[0] if best else 0):
                best = len(follow), source, follow
        if best is not None:
            _, source, follow = best
            maker.value_of[source] = len(self.values)
            self.values.append(Value(source.type, "temporary", self.values[maker.value_of[follow[0]]].node))
            self.drop(maker, follow, source)

    def drop(self, maker: _Maker, nodes: Sequence[Node], source: Node | None) -> None:
        """Let the readers of ``nodes`` make them where all of them can."""
        for node in nodes:
            recipes = self.makers(maker, node, source)
            if not recipes:
                continue
            maker.dropped.add(node)
            for reader in self.readers.pop(maker.value_of[node]):
                maker.copies.setdefault(reader, {})[node] = None
            for leaf in recipes:
                have = self.readers.setdefault(self.base(maker.value_of[leaf]), [])
                have += [r for r in sorted(maker.copies) if node in maker.copies[r] and r not in have]

    def makers(self, maker: _Maker, node: Node, source: Node | None) -> list[Node]:
        """What the readers of ``node`` need to make it, all of which they can read; empty where they cannot."""
        recipe = maker.recipe(node, source)
        if recipe is None:
            return []
        leaves, steps = recipe
        if not all(self.may_make(maker, r, node, leaves, steps, source) for r in self.readers[maker.value_of[node]]):
            return []
        return leaves

    def may_make(
        self, maker: _Maker, reader: int, node: Node, leaves: Sequence[Node], steps: Sequence[Node], source: Node | None
    ) -> bool:
        """Whether a kernel has ``leaves`` at hand and only scales what it reads of ``node``."""
        kernel, value = self.kernels[reader], maker.value_of[node]
        if kernel.template not in TEMPLATES or value not in kernel.args or len(set(kernel.args)) != len(kernel.args):
            return False
        have = dict(zip(kernel.args, kernel.body.inputs, strict=True))
        mine = have[value]
        for leaf in leaves:
            if leaf is not source and not self.is_at_hand(maker.value_of[leaf], reader, kernel, leaf.type):
                return False
        for user in kernel.body.nodes:
            if mine in user.inputs and (user.op.name not in SAFE or user.type.shape != mine.type.shape):
                return False
        return mine.type.shape == frame_of(kernel) == maker.frame and mine not in kernel.body.outputs

    def is_at_hand(self, value: int, reader: int, kernel: Kernel, type: TensorType) -> bool:
        """Whether ``kernel`` reads a value anyway, as it is, or another kernel does later: then it is still there."""
        found = self.values[value]
        later = found.kind == "temporary" and max(self.readers.get(self.base(value), ()), default=-1) > reader
        return found.type == type and (value in kernel.args or later)

    def base(self, value: int) -> int:
        base = self.values[value].base
        return value if base is None else base


class _Maker:
    """A kernel that may write less: its outputs with their values, those that are dropped, and who makes which again."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.body = kernel.body
        self.frame = frame_of(kernel)
        self.value_of = dict(zip(kernel.body.outputs, kernel.results, strict=True))
        self.dropped: set[Node] = set()
        self.copies: dict[int, dict[Node, None]] = {}

    def recipe(self, node: Node, source: Node | None = None) -> tuple[list[Node], list[Node]] | None:
        """The stored values that ``node`` is made of, and the nodes in between, operands first and ``node`` last; None
        where that takes more than it is worth. ``source`` is to be stored."""
        large = node.type.nbytes >= LARGE
        budget = MANY if large else FEW
        leaves: dict[Node, None] = {}
        steps: dict[Node, None] = {}
        spent = 0
        pending: list[tuple[Node, bool]] = [(node, False)]
        while pending:
            x, operands_done = pending.pop()
            if x in steps or x in leaves:
                continue
            if operands_done:
                steps[x] = None
                continue
            if x is source or (x is not node and x in self.value_of and x not in self.dropped):
                leaves[x] = None
                continue
            if x.op.kind == "elementwise" and x.op.name != "iota" and x.type.shape == self.frame:
                spent += 1 if x.op.name in CHEAP else FUNCTION
            elif not (is_number(x) or (x.op.name == "broadcast_to" and x.inputs[0] in self.value_of)):
                return None
            if spent > budget:
                return None
            pending.append((x, True))
            pending += [(i, False) for i in x.inputs]
        return (list(leaves), list(steps)) if leaves else None


def frame_of(kernel: Kernel) -> tuple[int, ...]:
    """The shape at which a kernel's elementwise nodes lie: that of its loops, of a contraction that of the product."""
    if kernel.template == "contraction":
        return next(node.type.shape for node in kernel.body.nodes if node.op.kind == "contraction")
    return kernel.domain.extents


def is_number(node: Node) -> bool:
    """Whether ``node`` is a scalar constant, or one in every place."""
    while node.op.name == "broadcast_to":
        (node,) = node.inputs
    return node.op.name == "constant" and node.type.size == 1


def with_copies(kernel: Kernel, maker: _Maker, wanted: Sequence[Node], values: Sequence[Value]) -> Kernel:
    """``kernel`` without the arguments that hold ``wanted``, which it makes itself."""
    body = kernel.body
    gone = {maker.value_of[node] for node in wanted}
    have = dict(zip(kernel.args, body.inputs, strict=True))
    made: dict[Node, Node] = {}
    args, inputs = [], []
    for value, x in have.items():
        if value not in gone:
            args.append(value)
            inputs.append(x)
    copies: list[Node] = []
    stored = {n: v for n, v in maker.value_of.items() if n not in maker.dropped}
    needed: dict[Node, None] = {}
    pending = list(wanted)
    while pending:
        x = pending.pop()
        if x in needed:
            continue
        needed[x] = None
        if x not in stored:
            pending += x.inputs
    for node in maker.body.nodes:
        if node not in needed:
            continue
        if node in stored:
            value = stored[node]
            if value not in have:
                have[value] = Node(INPUT, (), (("name", f"y{value}"), ("type", node.type)), node.type)
                args.append(value)
                inputs.append(have[value])
            made[node] = have[value]
        else:
            made[node] = Node(node.op, tuple(made[i] for i in node.inputs), node.attrs, node.type)
            copies.append(made[node])
    mapping = {have[maker.value_of[node]]: made[node] for node in wanted}
    nodes: list[Node] = [*inputs, *copies]
    listed = set(nodes)
    for node in body.nodes:
        if node in mapping or node in listed:
            continue
        mapping[node] = moved(node, mapping)
        nodes.append(mapping[node])
    lines = {mapping.get(node, node): found for node, found in body.lines.items() if node.inputs or node in listed}
    outputs = tuple(mapping.get(node, node) for node in body.outputs)
    graph = renamed(Graph(body.name, tuple(inputs), outputs, tuple(nodes), lines))
    return replace(kernel, body=graph, args=tuple(args))


def moved(node: Node, mapping: Mapping[Node, Node]) -> Node:
    """``node`` on what its operands have become."""
    operands = tuple(mapping.get(i, i) for i in node.inputs)
    return node if operands == node.inputs else Node(node.op, operands, node.attrs, node.type)


def renamed(graph: Graph) -> Graph:
    """``graph`` with its inputs numbered as they stand."""
    mapping: dict[Node, Node] = {}
    for k, x in enumerate(graph.inputs):
        if x["name"] != f"x{k}":
            mapping[x] = Node(x.op, (), (("name", f"x{k}"), ("type", x.type)), x.type)
    if not mapping:
        return graph
    nodes = []
    for node in graph.nodes:
        if node not in mapping:
            mapping[node] = moved(node, mapping)
        nodes.append(mapping[node])

    def become(ends: Iterable[Node]) -> tuple[Node, ...]:
        return tuple(mapping.get(n, n) for n in ends)

    lines = {mapping.get(node, node): found for node, found in graph.lines.items()}
    return Graph(graph.name, become(graph.inputs), become(graph.outputs), tuple(nodes), lines)


def pruned(graph: Graph) -> Graph:
    """``graph`` without nodes that no output needs; inputs stay."""
    needed = set(graph.inputs)
    pending = list(graph.outputs)
    while pending:
        node = pending.pop()
        if node not in needed:
            needed.add(node)
            pending += node.inputs
    nodes = tuple(node for node in graph.nodes if node in needed)
    return replace(graph, nodes=nodes, lines={n: found for n, found in graph.lines.items() if n in needed})
