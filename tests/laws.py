"""How close a backend has to be: the law of numerical error, and runs of whole graphs on the CPU backend.

|cpu − exact| ≤ 4·|reference − exact| + 8 ulp of the largest term, where exact is the graph in long double. A graph whose
discrete decisions (comparisons, rounding, argmax …) hang on the last bits has no exact answer; it is told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphc.executable import Options, lower
from graphc.interpreter import evaluate
from graphc.ir import Graph, Node

WIDE = np.longdouble
DECIDE = {"eq", "ne", "lt", "le", "gt", "ge"}
ROUND = {"floor", "ceil", "trunc", "rint", "floor_divide", "remainder", "sign"}
AMPLIFY = {"exp", "expm1", "pow", "integer_pow"}
PRODUCTS = {"mul", "div", "dot", "reduce_prod"}
ORDER = {"argmax", "argmin", "sort", "argsort", "top_k"}


@dataclass
class Wide:
    """Every node's value in long double, the largest magnitude and the coarsest float type behind it, and whether
    decisions were clear."""

    values: dict[Node, object]
    scale: dict[Node, float]
    epsilon: dict[Node, float]
    growth: dict[Node, float]
    clear: bool = True


def widened(value):
    if isinstance(value, tuple):
        return tuple(map(widened, value))
    array = np.asarray(value)
    return array.astype(WIDE) if array.dtype.kind == "f" or array.dtype.name == "bfloat16" else array


def magnitude(value) -> float:
    if isinstance(value, tuple):
        return max(map(magnitude, value), default=0.0)
    array = np.asarray(value)
    if array.dtype.kind not in "f" or array.size == 0:
        return 0.0
    finite = np.abs(array[np.isfinite(array)])
    return float(finite.max()) if finite.size else 0.0


def exact(graph: Graph, inputs: Sequence[np.ndarray]) -> Wide:
    """``graph`` evaluated in long double."""
    wide = Wide(dict(zip(graph.inputs, map(widened, inputs), strict=True)), {}, {}, {})
    for node in graph.nodes:
        if node not in wide.values:
            operands = [wide.values[i] for i in node.inputs]
            if not clear_decision(node, operands, [wide.scale[i] for i in node.inputs]):
                wide.clear = False
            with np.errstate(all="ignore"):
                if node.op.name == "cast" and node.type.dtype.is_float:
                    value = np.asarray(operands[0]).astype(WIDE)
                else:
                    value = node.op.eval(*operands, **dict(node.attrs))
            wide.values[node] = widened(value)
        wide.epsilon[node] = max([epsilon(node.type), *[wide.epsilon[i] for i in node.inputs]])
        wide.scale[node] = max([magnitude(wide.values[node]), *[wide.scale[i] for i in node.inputs]])
        wide.growth[node] = growth(node, wide)
    return wide


def growth(node: Node, wide: Wide) -> float:
    """By how much one ulp in the operands may have grown, in ulps of the result: errors add up in products, and those of
    an exponent count as often as it is large. (A program that squares 16 times has 65536 where a lucky reference has 0.)"""
    before = [wide.growth[i] for i in node.inputs]
    if node.op.name in PRODUCTS:
        return sum(before)
    if node.op.name in AMPLIFY:
        return max(before) * max(
            1.0, magnitude(wide.values[node.inputs[-1]]), float(dict(node.attrs).get("exponent", 1))
        )
    return max(before, default=1.0)


def epsilon(type) -> float:
    """The spacing of numbers around 1 in the coarsest float of a type."""
    types = getattr(type, "items", (type,))
    return max(
        [float({"f16": 2**-10, "bf16": 2**-7, "f32": 2**-23, "f64": 2**-52}.get(t.dtype.name, 0)) for t in types]
    )


def clear_decision(node: Node, operands, scales) -> bool:
    """Whether the discrete outcome of ``node`` is the same under small errors of its operands."""
    name = node.op.name
    floats = [np.asarray(o) for o in operands if not isinstance(o, tuple) and np.asarray(o).dtype == WIDE]
    if not floats:
        return True
    room = 1e-4 * (max(scales, default=0.0) + 1e-6)
    with np.errstate(all="ignore"):
        if name in DECIDE:
            gap = np.abs(floats[0] - floats[1])
            return not bool(((gap < room) & (gap != 0)).any())
        if name in ROUND or (name == "cast" and not node.type.dtype.is_float):
            x = floats[0] if name != "floor_divide" and name != "remainder" else floats[0] / floats[1]
            return not bool((np.abs(x - np.rint(x)) < room).any())
        if name in ORDER:
            flat = np.sort(floats[0].ravel())
            return not bool((np.abs(np.diff(flat)) < room).any())  # ties too: they are ties in exact arithmetic only
        if name in AMPLIFY:
            return not bool((np.abs(floats[0]) > 100).any())
    return True


def assert_close(graph: Graph, wide: Wide, reference: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> None:
    for k, (node, ref, mine) in enumerate(zip(graph.outputs, reference, got, strict=True)):
        assert (mine.dtype, mine.shape) == (ref.dtype, ref.shape), f"output {k}"
        if ref.dtype.kind not in "f" and ref.dtype.name != "bfloat16":
            np.testing.assert_array_equal(mine, ref, err_msg=f"output {k}")
            continue
        with np.errstate(all="ignore"):
            truth = np.asarray(wide.values[node])
            unit = WIDE(wide.epsilon[node]) * WIDE(wide.scale[node]) * WIDE(wide.growth[node])
            bound = 4 * np.abs(widened(ref) - truth) + 8 * unit
            error = np.abs(widened(mine) - truth)
            fine = error <= bound
        both_nan = np.isnan(mine) & np.isnan(ref)
        overflow = ~np.isfinite(ref) & np.isfinite(truth)  # beyond the element type: infinities and NaN as they come
        ok = fine | both_nan | overflow | (mine == ref)
        assert ok.all(), f"output {k} ({node!r}): got {mine[~ok][:4]}, reference {ref[~ok][:4]}, exact {truth[~ok][:4]}"


def run_cpu(graph: Graph, inputs: Sequence[np.ndarray], threads: int = 1) -> list[np.ndarray]:
    """``graph`` through passes, fusion, plan and machine code."""
    from graphc.backends import cpu

    options = Options("cpu", threads)
    low = lower(graph, options)
    runner = cpu.Runner(cpu.build(low.plan, options), threads)
    return runner.call(list(inputs))


def check_cpu(graph: Graph, inputs: Sequence[np.ndarray], threads: int = 1) -> bool:
    """Hold the CPU backend against the reference; False where the graph has no exact answer."""
    reference = evaluate(graph, inputs)
    wide = exact(graph, inputs)
    got = run_cpu(graph, inputs, threads)
    if not wide.clear:
        return False
    assert_close(graph, wide, reference, got)
    return True
