"""Compile single kernels and call them: what the tests of the emitters share."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from graphc import interpreter, types
from graphc.backends.cpu import codegen, lapack, native, target
from graphc.backends.cpu.runtime.loader import LoadedCode, load_objects, undefined_symbols
from graphc.ir import Builder, Graph, Node
from graphc.passes.schedule import Domain, Kernel

_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
ERROR_BASE = 1000


@cache
def _object(symbol: str, source: str, cpu: str | None) -> bytes:
    return native.compile_kernel(source, symbol, cpu)


def body(make: Callable[..., Node | Sequence[Node]], *inputs: types.TensorType) -> Graph:
    """The graph of ``make`` on inputs of the given types."""
    with Builder("body") as b:
        outputs = make(*[b.input(f"x{k}", t) for k, t in enumerate(inputs)])
        return b.graph([outputs] if isinstance(outputs, Node) else outputs)


def kernel(graph: Graph, template: str) -> Kernel:
    """A kernel with ``graph`` as its body."""
    first, last = len(graph.inputs), len(graph.inputs) + len(graph.outputs)
    extents = graph.outputs[0].type.shape
    return Kernel(template, template, Domain(extents), graph, tuple(range(first)), tuple(range(first, last)))


class Compiled:
    """A kernel as machine code. ``code`` is what the emitter wrote."""

    def __init__(self, k: Kernel) -> None:
        self.kernel = k
        self.code = codegen.lower(k)
        sources: dict[str, str] = {}
        for step in self.code.steps:
            sources |= {step.symbol: step.source, **dict(step.requires)}
        objects = [_object(symbol, source, target.cpu_name()) for symbol, source in sources.items()]
        if lapack.needs(tuple(name for data in objects for name in undefined_symbols(data))):
            lapack.register()
        self.loaded: LoadedCode = load_objects(objects)

    def __call__(
        self, *inputs: np.ndarray, threads: int = 1, in_place: dict[int, int] | None = None
    ) -> list[np.ndarray]:
        """The results. ``in_place`` says which result is written over which argument; others start as rubbish."""
        outputs = [np.empty(t.shape, t.dtype.numpy) for t in self.kernel.body.output_types]
        for out in outputs:
            out.reshape(-1).view(np.uint8)[:] = 0xA5
        inputs = tuple(np.array(x, order="C") for x in inputs)
        for result, argument in (in_place or {}).items():
            outputs[result] = inputs[argument]
        self.bind(*inputs, *outputs, threads=threads)()
        return outputs

    def bind(self, *buffers: np.ndarray, threads: int = 1) -> Callable[[], None]:
        """A call of the kernel on arguments and results, given in this order. Ranks run one after the other."""
        scratch = np.full(self.stride * threads + 64, 0x5A, np.uint8)
        steps = [self._step(step, buffers, -(-scratch.ctypes.data // 64) * 64) for step in self.code.steps]

        def call(loaded: LoadedCode = self.loaded) -> None:  # the machine code lives as long as this does
            assert scratch.size
            for function, table in steps:
                for rank in range(threads):
                    status = function(table.ctypes.data, rank, threads)
                    if status:
                        raise KernelError(status >> 32, (status & 0xFFFFFFFF) - ERROR_BASE)

        return call

    @property
    def stride(self) -> int:
        """Bytes from one thread's scratch to the next one's, for all steps together."""
        return -(-max(step.scratch for step in self.code.steps) // 64) * 64

    def _step(self, step: codegen.Code, buffers: Sequence[np.ndarray], base: int) -> tuple[Any, np.ndarray]:
        words = []
        for entry in step.table:
            match entry:
                case codegen.Pointer(position, offset):
                    words.append(buffers[position].ctypes.data + offset)
                case codegen.Word(value):
                    words.append(value)
                case codegen.Scratch(offset):
                    words.append(base + offset)
                case codegen.ScratchStride():
                    words.append(self.stride)
                case codegen.ErrorBase():
                    words.append(ERROR_BASE)
        table = np.array([w - 2**64 if w >= 2**63 else w for w in words], np.int64)
        return _FUNCTION(self.loaded.address(step.symbol)), table


class KernelError(Exception):
    """A kernel returned an error word: its code and the number of the node in the body."""

    def __init__(self, code: int, node: int) -> None:
        super().__init__(f"error {code} of node {node}")
        self.code, self.node = code, node


def expected(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What the ops' meanings give."""
    return interpreter.evaluate(graph, list(inputs))


def widened(graph: Graph) -> Graph:
    """The same graph with f64 in the place of narrower floats: the exact values, for comparisons."""
    from graphc import ops

    with Builder("wide") as b:
        done: dict[Node, Node] = {}
        for node in graph.nodes:
            if node.op.name == "input":
                done[node] = b.input(node["name"], _wide(node.type))
            elif node.op.name == "constant":
                value = node["value"].value
                done[node] = ops.const(value.astype(np.float64) if types.dtype(value.dtype).is_float else value)
            elif node.op.name == "iota":
                done[node] = ops.iota(**{**node.attributes(), "to": types.f64 if node["to"].is_float else node["to"]})
            elif node.op.name == "cast":
                to = types.f64 if node["to"].is_float else node["to"]
                done[node] = ops.convert(done[node.inputs[0]], to)
            else:
                done[node] = b.make(node.op, tuple(done[i] for i in node.inputs), node.attributes())
        return b.graph([done[o] for o in graph.outputs])


def _wide(t: types.TensorType) -> types.TensorType:
    return types.TensorType(types.f64, t.shape) if t.dtype.is_float else t
