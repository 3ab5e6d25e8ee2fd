"""The plain interpreter: the meaning of a Graph, node by node, in NumPy.

Everything that compiles is compared with this. It is also what transforms of concrete arrays and the bodies of control
ops run on, so it is quick: a graph is turned once into a list of steps over numbered slots.

>>> from graphc import ops
>>> from graphc.ir import Builder
>>> from graphc.types import TensorType, f32
>>> with Builder() as b:
...     x = b.input("x", TensorType(f32, (3,)))
...     graph = b.graph([ops.add(x, x), ops.reduce_sum(x, axes=(0,))])
>>> evaluate(graph, [np.arange(3, dtype=np.float32)])
[array([0., 2., 4.], dtype=float32), array(3., dtype=float32)]

Results of movement ops (transpose, slice, broadcast_to, reshape) may be views; every other value is C-contiguous, whatever
the layout of the operands was. A value therefore has the same bits wherever its graph is cut into kernels.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.ir import Graph, GraphError, Node
from graphc.types import TensorType, Type, f32, f64

#: Movement ops whose NumPy meaning is a view.
VIEWS = frozenset({"transpose", "slice", "broadcast_to", "reshape"})
#: How a step treats layouts: its result is a view; it takes views; it takes C-contiguous operands only. The last are the
#: ops whose kernels get whole tensors: a routine (LAPACK, say) may round differently for another layout.
VIEW, STRIDED, WHOLE = range(3)
WHOLE_KINDS = frozenset({"indexing", "sort", "linalg", "random", "control"})


def evaluate(graph: Graph, inputs: Sequence[Any], check: bool = False) -> list[np.ndarray]:
    """The outputs of ``graph`` on ``inputs`` (arrays of exactly the dtypes and shapes of the graph's inputs).

    The results are fresh, writable, C-contiguous and distinct: none shares memory with an input, a constant or another
    result. ``check`` compares the dtype and shape of every value with its node's type and raises GraphError.
    """
    program = program_of(graph)
    if len(inputs) != len(graph.inputs):
        raise GraphError(f"{graph.name} takes {len(graph.inputs)} inputs, {len(inputs)} given")
    slots: list[Any] = [None] * program.size
    for k, value in enumerate(inputs):
        slots[k] = contiguous(value)
    for k, node in program.constants:
        slots[k] = node["value"].value
    if check:
        for node, value in zip(graph.inputs, slots, strict=False):
            check_value(node, value)
    with np.errstate(all="ignore"):  # the meaning of an op is its values
        for node, function, operands, attrs, place, layout, dying in program.steps:
            if layout == WHOLE:
                value = function(*[contiguous(slots[i]) for i in operands], **attrs)
            else:
                value = function(*[slots[i] for i in operands], **attrs)
            if type(value) is tuple:
                value = tuple([contiguous(v) for v in value])
            elif layout != VIEW and (type(value) is not np.ndarray or not value.flags.c_contiguous):
                value = contiguous(value)
            slots[place] = value
            for slot in dying:
                slots[slot] = None
            if check:
                check_value(node, value)
    return fresh([slots[k] for k in program.outputs], slots[: len(inputs)])


def contiguous(value: Any) -> np.ndarray:
    """``value`` as a C-contiguous array, itself where it is one."""
    if type(value) is not np.ndarray:
        value = np.asarray(value)
    return value if value.flags.c_contiguous else np.array(value, order="C")


def fresh(values: Sequence[np.ndarray], taken: Sequence[np.ndarray]) -> list[np.ndarray]:
    """``values`` as arrays that own their memory, are writable, and are neither among ``taken`` nor twice in the list."""
    seen = {id(value) for value in taken}
    results = []
    for value in values:
        if value.base is not None or id(value) in seen or not value.flags.writeable:
            value = np.array(value, order="C")
        seen.add(id(value))
        results.append(value)
    return results


def check_value(node: Node, value: Any) -> None:
    """Raise GraphError where ``value`` has not exactly the type of ``node``."""
    types: Sequence[Type] = [node.type] if isinstance(node.type, TensorType) else node.type.items
    values = [value] if isinstance(node.type, TensorType) else value
    if len(types) != len(values):
        raise GraphError(f"{node!r} evaluates to {len(values)} results, not {len(types)}")
    for want, have in zip(types, values, strict=True):
        assert isinstance(want, TensorType)
        if have.dtype != want.dtype.numpy or have.shape != want.shape:
            raise GraphError(f"{node!r} evaluates to {have.dtype}{list(have.shape)}, not {want}")


NO_ATTRIBUTES: dict[str, Any] = {}

Step = tuple[Node, Callable[..., Any], list[int], dict[str, Any], int, int, list[int]]


def evaluation(node: Node) -> Callable[..., Any]:
    """``eval`` of the op; of one that is a ufunc of NumPy's on f32 or f64, whose type that keeps, the ufunc itself."""
    function = node.op.eval
    ufunc = getattr(function, "on_floats", None)
    plain = type(ufunc) is np.ufunc and (node.type.dtype is f64 or node.type.dtype is f32)
    return ufunc if ufunc is not None and plain and not node.attrs else function


class Program:
    """A graph as steps over numbered slots: inputs first. ``dying`` slots of a step are emptied after it."""

    __slots__ = ("constants", "outputs", "size", "steps")

    def __init__(self, graph: Graph) -> None:
        slot = {node: k for k, node in enumerate(graph.inputs)}
        steps: list[Step] = []
        self.constants: list[tuple[int, Node]] = []
        for node in graph.nodes:
            if node in slot:
                continue
            op = node.op
            place = slot[node] = len(slot)
            if op.kind == "constant":
                self.constants.append((place, node))
                continue
            layout = VIEW if op.name in VIEWS else WHOLE if op.kind in WHOLE_KINDS else STRIDED
            attrs = dict(node.attrs) if node.attrs else NO_ATTRIBUTES
            steps.append((node, evaluation(node), [slot[i] for i in node.inputs], attrs, place, layout, []))
        self.outputs = [slot[o] for o in graph.outputs]
        self.size = len(slot)
        self.steps = steps
        seen = set(self.outputs)
        for step in reversed(steps):
            operands, place, dying = step[2], step[4], step[6]
            if place not in seen:  # nobody reads it
                dying.append(place)
            for operand in operands:
                if operand not in seen:
                    seen.add(operand)
                    dying.append(operand)


_programs: weakref.WeakKeyDictionary[Graph, Program] = weakref.WeakKeyDictionary()


def program_of(graph: Graph) -> Program:
    """The steps of ``graph``, made once as long as it lives."""
    program = _programs.get(graph)
    if program is None:
        program = _programs[graph] = Program(graph)
    return program
