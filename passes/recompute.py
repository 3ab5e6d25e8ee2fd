"""Recomputation: cheap values are computed again where they are read, rather than kept in memory until then.

The backward pass of a loop kernel reads what the forward kernel has computed, every intermediate of it: for a sigmoid
``1 / (1 + e)`` the exponential e, the sum and the quotient. Here a value that a few plain operations make of values which the
reader reads anyway is made there again, and is no longer written. No value lives longer for it.

A copy may differ from the original in its last bit (a product is contracted into an addition in one kernel and not in the
other), so only values that are multiplied, divided and negated are copied: there a last bit stays a last bit, whereas
``exp(x - max)`` with another x than that of the maximum may be anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from graphc.ir import Graph, Node
from graphc.passes.schedule import Kernel, Schedule, base_of, compact

#: What is done again, and what may be done to it.
CHEAP = ("add", "sub", "mul", "div", "neg")
SAFE = ("mul", "div", "neg")
#: Most operations that one value is worth.
MOST = 4

TEMPLATES = ("elementwise", "contraction")


def recompute(schedule: Schedule) -> Schedule:
    """``schedule`` with cheap values made again by their readers."""
    return _Recompute(schedule).run()


class _Recompute:
    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.kernels = {k: kernel for k, kernel in enumerate(schedule.kernels)}
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
        return compact(replace(self.schedule, stages=stages))

    def lighten(self, k: int) -> bool:
        """Whether kernel ``k`` now writes less, its readers making the rest again."""
        maker = self.kernels[k]
        value_of = dict(zip(maker.body.outputs, maker.results, strict=True))
        dropped: set[Node] = set()
        for node in maker.body.nodes:
            value = value_of.get(node)
            if value is None or not self.is_candidate(node, value):
                continue
            recipe = self.recipe(node, value_of, dropped)
            if recipe is None:
                continue
            leaves, steps = recipe
            if all(self.may_make(reader, value, [value_of[leaf] for leaf in leaves], steps) for reader in self.readers[value]):
                dropped.add(node)
                for reader in self.readers.pop(value):
                    self.kernels[reader] = with_copy(self.kernels[reader], value, steps, value_of)
        if not dropped:
            return False
        kept = [(n, r) for n, r in zip(maker.body.outputs, maker.results, strict=True) if n not in dropped]
        body = pruned(replace(maker.body, outputs=tuple(n for n, _ in kept)))
        self.kernels[k] = replace(maker, body=body, results=tuple(r for _, r in kept))
        return True

    def is_candidate(self, node: Node, value: int) -> bool:
        """Whether ``node`` is cheap, lies in memory as it is, and is read by kernels alone."""
        found = self.schedule.values[value]
        plain = found.kind == "temporary" and found.base is None and value not in self.viewed
        return plain and node.op.name in CHEAP and node.type.dtype.is_float and bool(self.readers.get(value))

    def recipe(
        self, node: Node, value_of: Mapping[Node, int], dropped: set[Node]
    ) -> tuple[list[Node], list[Node]] | None:
        """The outputs that ``node`` is made of and the nodes in between, operands first and ``node`` last; None where that
        takes more than a few plain operations."""
        leaves: dict[Node, None] = {}
        steps: dict[Node, None] = {}

        def visit(x: Node) -> bool:
            if x in steps or x in leaves:
                return True
            if x is not node and x in value_of and x not in dropped:
                leaves[x] = None
                return True
            plain = x.op.name in CHEAP or x.op.name == "constant" or (x.op.name == "broadcast_to" and is_number(x))
            if not plain or not all(map(visit, x.inputs)):
                return False
            steps[x] = None
            return sum(s.op.name in CHEAP for s in steps) <= MOST

        if not visit(node) or not leaves:
            return None
        return list(leaves), list(steps)

    def may_make(self, reader: int, value: int, leaves: Sequence[int], steps: Sequence[Node]) -> bool:
        """Whether a kernel reads all ``leaves`` anyway, as they are, and only scales what it reads of ``value``."""
        kernel = self.kernels[reader]
        if kernel.template not in TEMPLATES or value not in kernel.args:
            return False
        have = {a: x for a, x in zip(kernel.args, kernel.body.inputs, strict=True)}
        if any(leaf not in have for leaf in leaves) or len(set(kernel.args)) != len(kernel.args):
            return False
        mine = have[value]
        wanted = {have[leaf] for leaf in leaves} | {mine}
        for node in kernel.body.nodes:
            if mine in node.inputs and (node.op.name not in SAFE or node.type.shape != mine.type.shape):
                return False
            if node.op.kind == "contraction" and wanted & set(node.inputs):
                return False
        frame = kernel.domain.extents if kernel.template == "elementwise" else dot_shape(kernel)
        return mine.type.shape == frame and mine not in kernel.body.outputs and all(
            have[leaf].type == mine.type for leaf in leaves
        )


def dot_shape(kernel: Kernel) -> tuple[int, ...]:
    return next(node.type.shape for node in kernel.body.nodes if node.op.kind == "contraction")


def is_number(node: Node) -> bool:
    return not node.inputs[0].inputs and node.inputs[0].op.name == "constant" and node.inputs[0].type.size == 1


def with_copy(kernel: Kernel, value: int, steps: Sequence[Node], value_of: Mapping[Node, int]) -> Kernel:
    """``kernel`` without the argument ``value``, which it makes by ``steps``."""
    body = kernel.body
    have = dict(zip(kernel.args, body.inputs, strict=True))
    made: dict[Node, Node] = {n: have[v] for n, v in value_of.items() if v in have}
    copies: list[Node] = []
    for step in steps:
        made[step] = Node(step.op, tuple(made[i] for i in step.inputs), step.attrs, step.type)
        copies.append(made[step])
    mapping: dict[Node, Node] = {have[value]: made[steps[-1]]}
    inputs = tuple(x for x in body.inputs if x is not have[value])
    nodes: list[Node] = [*inputs, *copies]
    for node in body.nodes:
        if node in mapping or node in inputs:
            continue
        operands = tuple(mapping.get(i, i) for i in node.inputs)
        mapping[node] = node if operands == node.inputs else Node(node.op, operands, node.attrs, node.type)
        nodes.append(mapping[node])
    lines = {mapping.get(node, node): found for node, found in body.lines.items() if node is not have[value]}
    outputs = tuple(mapping.get(node, node) for node in body.outputs)
    graph = renamed(Graph(body.name, inputs, outputs, tuple(nodes), lines))
    return replace(kernel, body=graph, args=tuple(a for a in kernel.args if a != value))


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
            operands = tuple(mapping.get(i, i) for i in node.inputs)
            mapping[node] = node if operands == node.inputs else Node(node.op, operands, node.attrs, node.type)
        nodes.append(mapping[node])
    inputs, outputs = (tuple(mapping.get(n, n) for n in ends) for ends in (graph.inputs, graph.outputs))
    lines = {mapping.get(node, node): found for node, found in graph.lines.items()}
    return Graph(graph.name, inputs, outputs, tuple(nodes), lines)


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
