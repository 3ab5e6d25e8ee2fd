"""Tracing: arguments and results, weak numbers, static values, lines, constants, remarks, random generators."""

from __future__ import annotations

import enum
import random
import subprocess
import sys
import threading
import warnings
from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from compare import run, traced

import graphc
from graphc.generators import DrawnWarning
from graphc.ir import Graph
from graphc.tracing import Trace, trace_program
from graphc.verifier import verify

F32 = np.ones(3, np.float32)
Point = namedtuple("Point", "x y")


@dataclass
class Params:
    w: Any
    b: Any = None


class Mode(enum.Enum):
    FAST = 1
    SLOW = 2


def divides_by_two(x: Any) -> Any:
    return x / 2


def ops_of(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes if n.op.name != "input"]


# ------------------------------------------------------------------------------------------------ arguments and results


def test_arguments_and_results_nest() -> None:
    def program(p: Any, points: Any, *rest: Any, scale: Any = 1.0) -> Any:
        total = p.w["a"] * scale + points[0].x + sum(rest)
        return {"total": total, "point": Point(points[1], None), "params": Params(total * 2), "all": [p.b, (total,)]}

    p = Params({"a": F32, "b": None}, b=np.arange(3))
    args = (p, [Point(1.0, F32), np.float32(2)], F32, 3)
    result = traced(program, *args)
    want = program(*args)
    assert type(result["params"]) is Params and type(result["point"]) is Point and result["point"].y is None
    np.testing.assert_array_equal(result["total"], want["total"])
    assert result["total"].dtype == np.float32 and result["all"][0].tolist() == [0, 1, 2]
    program_ = trace_program(program, args, {"scale": 2.0})
    assert [a.name for a in program_.arguments] == [
        "p.w.a",
        "p.b",
        "points[0].x",
        "points[0].y",
        "points[1]",
        "rest0",
        "rest1",
        "scale",
    ]
    assert [a.weak for a in program_.arguments] == [False, False, True, False, False, False, True, True]
    verify(program_.graph)


def test_specs_stand_for_arrays() -> None:
    graph = graphc.trace(lambda x, y: x @ y, graphc.Spec((2, 3), "bf16"), graphc.Spec([3], np.float32))
    assert [str(t) for t in graph.input_types] == ["bf16[2, 3]", "f32[3]"] and str(graph.output_types[0]) == "f32[2]"
    assert graphc.Spec(3).shape == (3,)
    with pytest.raises(ValueError, match="no shape"):
        graphc.Spec((-1,))
    with pytest.raises(TypeError, match="element type"):
        graphc.Spec((), "string")


def test_unused_arguments_stay_inputs() -> None:
    graph = graphc.trace(lambda x, y: y, F32, F32)
    assert graph.input_names == ("x", "y") and graph.outputs == (graph.inputs[1],)


def test_results_may_be_inputs_constants_and_equal() -> None:
    one, other, number, same = traced(lambda x: (x, x, 3, np.arange(2)), F32)
    assert one is not other and number.dtype == np.int64 and same.tolist() == [0, 1]


def test_weak_arguments_are_inputs_and_take_the_type_they_meet() -> None:
    program = trace_program(lambda x, a, n, flag: (x * a + n, a * n, flag * x, np.sqrt(a)), (F32, 2.5, 3, True), {})
    assert [str(t) for t in program.graph.output_types] == ["f32[3]", "f64", "f32[3]", "f64"]
    result = run(program, F32, 0.5, 7, False)
    assert result[0].tolist() == [7.5, 7.5, 7.5] and result[1] == 3.5 and result[2].tolist() == [0, 0, 0]
    assert [str(t) for t in graphc.trace(lambda x, a: x * a, F32, np.float64(2)).output_types] == ["f64[3]"]


def test_static_values_are_part_of_the_program() -> None:
    def program(x: Any, mode: Any, act: Any = np.tanh, training: Any = False, axis: Any = None) -> Any:
        y = act(x) if mode is Mode.FAST else x
        return (y * 2 if training else y).sum(axis)

    args = (F32, Mode.FAST)
    assert "tanh" in ops_of(graphc.trace(program, *args))
    assert "tanh" not in ops_of(graphc.trace(program, F32, Mode.SLOW))
    assert "sin" in ops_of(graphc.trace(program, *args, act=np.sin))
    training = graphc.trace(program, *args, training=True)
    assert len(training.inputs) == 1 and "mul" in ops_of(training)
    assert "mul" not in ops_of(graphc.trace(program, *args, training=False))
    assert len(graphc.trace(lambda x, flag: x * flag, F32, True).inputs) == 2, "by position a bool is a number"
    assert len(trace_program(lambda x, k: x.reshape(k, -1), (F32, 3), {}, static=("k",)).graph.inputs) == 1


def test_static_values_through_compile() -> None:
    calls = []

    def program(x: Any, n: int = 2, name: str = "a", training: bool = False) -> Any:
        calls.append(1)
        return x * n if training else np.tile(x, 2)

    f = graphc.compile(program, backend="reference", static="n")
    assert f(F32, 3, training=True).tolist() == [3.0] * 3
    assert f(F32, 3, training=False).shape == (6,)
    f(F32, 3, training=True)
    assert len(calls) == 2
    assert f(F32, 4, training=True).tolist() == [4.0] * 3 and len(calls) == 3
    g = graphc.compile(lambda x, a: x * a, backend="reference")
    assert [g(F32, a).tolist() for a in (2.0, 3.0)] == [[2.0] * 3, [3.0] * 3]


def test_python_loops_unroll_and_equal_expressions_are_one_node() -> None:
    def program(x: Any) -> Any:
        for _ in range(3):
            x = np.tanh(x)
        return x + np.tanh(x) * np.tanh(x)

    assert ops_of(graphc.trace(program, F32)).count("tanh") == 4


def test_names_of_graphs_and_inputs() -> None:
    assert graphc.trace(lambda x: x, 1.0).name == "graph"
    assert graphc.trace(divides_by_two, F32).name == "divides_by_two"
    graph = graphc.trace(lambda *args: args[0] + args[1], F32, F32)
    assert graph.input_names == ("args0", "args1")
    assert graphc.trace(np.add, F32, F32).input_names[0]


def test_traces_are_the_same_text_every_time() -> None:
    def program(x: Any) -> Any:
        return graphc.grad(lambda x: graphc.checkpoint(lambda y: np.sin(y) * x)(x).sum())(x)

    texts = {str(graphc.trace(program, F32)) for _ in range(3)}
    graphc.grad(lambda x: x.sum())(F32)
    assert texts == {str(graphc.trace(program, F32))}


def test_threads_trace_apart() -> None:
    results: dict[int, Any] = {}

    def work(k: int) -> None:
        results[k] = graphc.grad(lambda x: (x**k).sum())(np.full(3, 2.0))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(1, 5)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert {k: v.tolist() for k, v in results.items()} == {k: [k * 2.0 ** (k - 1)] * 3 for k in range(1, 5)}


def test_an_error_leaves_no_trace_open() -> None:
    with pytest.raises(ZeroDivisionError):
        graphc.trace(lambda x: 1 / 0, F32)
    assert graphc.tracing.current_trace() is None
    assert type(graphc.numpy.zeros(2)) is np.ndarray


# ------------------------------------------------------------------------------------------------ lines


def here(function: Any, offset: int) -> int:
    return int(function.__code__.co_firstlineno + offset)


def test_nodes_know_their_lines() -> None:
    def program(w: Any, x: Any) -> Any:
        h = np.tanh(x @ w)
        return (
            h
            * h.mean()
        ).sum()  # fmt: skip

    def loss(w: Any, x: Any) -> Any:
        return program(w, x)

    graph = graphc.trace(graphc.value_and_grad(loss), np.ones((3, 2)), np.ones((4, 3)))
    lines: dict[str, set[int]] = {}
    for node, places in graph.lines.items():
        lines.setdefault(node.op.name, set()).update(p.line for p in places)
        assert all(p.file.endswith("test_tracing.py") for p in places)
    assert lines["tanh"] == {here(program, 1)}
    assert here(program, 1) in lines["dot"], "the adjoint of x @ w is of the line of x @ w"
    assert lines["div"] == {here(program, 4)}
    functions = {
        p.function.split(".")[-1] for node, places in graph.lines.items() for p in places if node.op.name == "tanh"
    }
    assert functions == {"program"}
    assert all(node in graph.lines for node in graph.nodes if node.op.name not in ("input", "constant", "alias"))


def test_library_functions_are_at_the_users_line() -> None:
    def program(x: Any) -> Any:
        return np.linalg.norm(x) + np.std(x)

    graph = graphc.trace(program, F32)
    lines = {p.line for node, places in graph.lines.items() for p in places if node.op.name != "input"}
    assert lines == {here(program, 1)}


def test_a_node_of_many_lines_keeps_several() -> None:
    def program(x: Any) -> Any:
        a = np.sin(x)
        b = np.sin(x)
        return a * b

    graph = graphc.trace(program, F32)
    (sin,) = [n for n in graph.nodes if n.op.name == "sin"]
    assert [p.line for p in graph.lines[sin]] == [here(program, 1), here(program, 2)]


# ------------------------------------------------------------------------------------------------ constants and remarks


def test_closed_over_arrays_are_copied() -> None:
    table = np.arange(20.0)
    program = trace_program(lambda x: x + table[:3], (F32,), {})
    table[:] = 0
    assert run(program, F32)[2] == 3.0


def test_an_array_that_changes_while_tracing_is_read_each_time() -> None:
    buffer = np.arange(20.0)

    def program(x: Any) -> Any:
        first = x + buffer
        buffer[3] = 100
        second = x + buffer
        return first[3], second[3]

    assert [float(v) for v in traced(program, np.zeros(20))] == [3.0, 100.0]


def test_one_array_is_one_constant() -> None:
    table = np.arange(1000.0)
    graph = graphc.trace(lambda x: x * table + np.sin(table) * x + table, np.ones(1000))
    assert sum(n.op.name == "constant" for n in graph.nodes) == 2


def test_large_constants_are_remarked() -> None:
    table = np.arange(200_000.0)
    notes = trace_program(lambda x: x + table, (table,), {}).notes
    assert (
        len(notes) == 1
        and "1.6 MB" in notes[0]
        and "test_tracing.py" in notes[0]
        and "pass it as an argument" in notes[0]
    )


def widening(function: Any, *args: Any) -> str:
    notes = trace_program(function, args, {}).notes
    assert len(notes) == 1, notes
    return notes[0]


def test_what_widens_to_float64_is_remarked_with_its_line() -> None:
    def divides(x: Any) -> Any:
        return x / np.sqrt(64)

    assert widening(divides, F32) == (
        f"float64 from tests/test_tracing.py:{here(divides, 1)}: np.sqrt(64) is float64, the other operand float32"
    )
    assert "np.eye(3) is float64" in widening(lambda x: np.eye(3) @ x, F32)
    assert ": y is float64" in widening(lambda x, y: np.maximum(x, y), F32, np.ones(3))
    assert "np.arange(3) is int64" in widening(lambda x: x + np.arange(3), F32)
    assert "np.float64(2) is float64" in widening(lambda x: np.where(x > 0, x, np.float64(2)), F32)
    assert ": np.ones(1) is float64" in widening(lambda x: np.concatenate([x, np.ones(1)]), F32)

    def in_place(x: Any) -> Any:
        y = x * 1
        y = y * np.float64(2)
        return y.astype(np.float32)

    assert "np.float64(2) is float64" in widening(in_place, F32)


def test_what_stays_float32_is_not_remarked() -> None:
    def program(x: Any, n: Any) -> Any:
        return (
            x * 0.5
            + np.pi
            - 3 * x**2 / n
            + np.float32(2) * x.mean()
            + np.sqrt(x)
            + (x > 0)
            + np.arange(3, dtype=np.int8)
        )

    found = trace_program(program, (F32, 7.0), {})
    assert found.notes == () and str(found.graph.output_types[0]) == "f32[3]"
    assert trace_program(lambda x: x.astype(np.float64) * 2, (F32,), {}).notes == ()


# ------------------------------------------------------------------------------------------------ random generators

RNG = np.random.default_rng(0)


def helper(x: Any) -> Any:
    return x + RNG.normal(size=3)


class Model:
    def __init__(self) -> None:
        self.generator = np.random.default_rng(1)

    def forward(self, x: Any) -> Any:
        return x * self.generator.random(3)

    def __call__(self, x: Any) -> Any:
        return self.forward(x)


def closes_over() -> Any:
    rng = np.random.default_rng(0)

    def noisy(x: Any) -> Any:
        return x + rng.normal(size=3)

    return noisy


def default_argument(x: Any, rng: Any = RNG) -> Any:
    return x + rng.normal(size=3)


MODEL = Model()
DRAWERS = [
    (lambda x: x + np.random.normal(size=3), "np.random was"), (lambda x: x * random.random(), "random was"),
    (closes_over(), "rng was"), (helper, "RNG was"), (lambda x: helper(x) * 2, "RNG was"), (MODEL.forward, "Model.generator"),
    (MODEL, "Model.generator"), (default_argument, "a default of default_argument"),
    (graphc.grad(lambda x: helper(x).sum()), "RNG"), (graphc.checkpoint(closes_over()), "rng"),
    (lambda x: x + np.random.default_rng(RNG.bit_generator).random(3), "RNG"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "name"), DRAWERS, ids=range(len(DRAWERS)))
def test_drawing_while_tracing_is_told_by_name(function: Any, name: str) -> None:
    with pytest.warns(DrawnWarning, match=f"the random generator .*{name}.*graphc.random with a key") as caught:
        graphc.trace(function, np.ones(3))
    assert len(caught) == 1 and caught[0].filename.endswith("test_tracing.py")


def test_no_warning_without_a_draw() -> None:
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graphc.trace(lambda x: x + (rng is None) + (RNG is None), F32)
        graphc.trace(lambda x, key: x + graphc.random.normal(key, 3), F32, graphc.random.key(0))
        graphc.grad(lambda x: (x * rng.normal(size=3)).sum())(np.ones(3))  # traced anew at every call


# ------------------------------------------------------------------------------------------------ nesting, size


def test_captures_become_operands() -> None:
    def program(x: Any, w: Any) -> Any:
        outer = w * 2
        return graphc.scan(lambda c, v: (c + v * outer.sum() + w[0], None), 0.0, x)[0]

    graph = graphc.trace(program, np.ones(4), np.ones(2))
    verify(graph)
    (scan,) = [n for n in graph.nodes if n.op.name == "scan"]
    assert len(scan.inputs) == 4, "carry, xs, and two captured"
    assert float(traced(program, np.ones(4), np.ones(2))) == 20.0


def test_captures_through_two_levels() -> None:
    def program(x: Any, w: Any) -> Any:
        def inner(c: Any, v: Any) -> Any:
            return c + v * w, None

        return graphc.scan(lambda c, row: graphc.scan(inner, c, row), 0.0, x)[0]

    x = np.arange(6.0).reshape(2, 3)
    assert float(traced(program, x, 2.0)) == 30.0
    assert float(graphc.grad(program, argnums=1)(x, 2.0)) == 15.0


def test_twenty_thousand_nodes_without_recursion() -> None:
    def program(x: Any) -> Any:
        for _ in range(10_000):
            x = np.sin(x) + 1.0
        return x.sum()

    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(220)
        graph = graphc.trace(graphc.value_and_grad(program), F32)
    finally:
        sys.setrecursionlimit(limit)
    assert len(graph.nodes) > 40_000

    def views(x: Any) -> Any:
        x = x + 0
        y = x
        for _ in range(3000):
            y = y[::-1]
        y[0] = 5
        return x, y

    x, y = traced(views, F32)
    assert x.tolist() == [5, 1, 1] and y.tolist() == [5, 1, 1]


def test_a_trace_is_open_only_inside_its_block() -> None:
    trace = Trace("t")
    with trace:
        assert trace.open and graphc.tracing.current_trace() is trace
    assert not trace.open


def test_tracing_imports_no_compiler() -> None:
    code = (
        "import sys, numpy as np, graphc\n"
        "graphc.grad(lambda x: (x**2).sum())(np.ones(3)); str(graphc.trace(np.sin, np.ones(3)))\n"
        "print(sorted(m for m in ('numba', 'llvmlite', 'networkx', 'graphviz', 'scipy') if m in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
