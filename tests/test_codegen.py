"""The frame of code generation: tables, text, scopes, dispatch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from emit_calls import body

from graphc import ops
from graphc.backends.cpu.codegen import (
    Code,
    Emission,
    ErrorBase,
    NoEmitter,
    Pointer,
    Scratch,
    ScratchStride,
    Word,
    alias_scopes,
    linear,
    lower,
    word_bits,
)  # fmt: skip
from graphc.backends.cpu.loops import Axis, Layout, Point, Values, merge_axes
from graphc.ir import Builder, Graph, Op
from graphc.passes.schedule import Domain, Kernel
from graphc.types import TensorType, bf16, bool_, f16, f32, f64, i8, i32, i64, u64


def kernel(graph: Graph, template: str = "elementwise") -> Kernel:
    n = len(graph.inputs)
    return Kernel("k0", template, Domain(graph.outputs[0].type.shape), graph, tuple(range(n)), (n,))


def add_kernel() -> Kernel:
    t = TensorType(f32, (8,))
    return kernel(body(ops.add, t, t))


def test_the_table_holds_what_may_differ() -> None:
    e = Emission(add_kernel(), "an example")
    assert (e.pointer(0), e.pointer(1, 16), e.pointer(0), e.pointer(2)) == ("p0", "p1", "p0", "p2")
    assert (e.word(128, "n0"), e.word(128, "n0")) == ("n0", "n0")
    assert (e.param(f32, 0.5, "a"), e.param(f32, 0.5, "b"), e.param(f32, 0.5, "a")) == ("c0", "c1", "c0")
    assert (e.shared(100), e.scratch(10), e.scratch(70), e.errors()) == ("shared", "scratch", "scratch1", "errors")
    code = e.code(units=3, work=5.0)
    half = word_bits(f32, 0.5)
    assert code.table == (
        Pointer(0), Pointer(1, 16), Pointer(2), Word(128), Word(half), Word(half), Scratch(0),
        Scratch(128), ScratchStride(), Scratch(192), ScratchStride(), ErrorBase(),
    )  # fmt: skip
    assert code.scratch == 128 + 64 + 128
    assert (code.units, code.work) == (3, 5.0)


def test_the_symbol_is_the_text() -> None:
    def emit(title: str, value: int) -> Code:
        e = Emission(add_kernel(), title)
        e.word(value, "n0")
        return e.code(1, 1.0)

    assert emit("a", 1).source == emit("a", 2).source
    assert emit("a", 1).symbol != emit("b", 1).symbol
    code = emit("a", 1)
    assert code.source == (f"# a\ndef {code.symbol}(table, thread, threads):\n    n0 = word(table, 0)\n    return 0\n")


def test_blocks() -> None:
    e = Emission(add_kernel(), "blocks")
    with e.block("for i in range(3):"):
        e.line("x = i", "a comment")
        with e.block("if i > 7:"):
            pass
    with e.block("while 1:"):
        with e.block("if 0:"):
            pass
    assert e.code(1, 0).source.splitlines()[2:-1] == ["    for i in range(3):", "        x = i  # a comment"]


def test_steps_share_scratch() -> None:
    e, after = Emission(add_kernel(), "first"), Emission(add_kernel(), "second")
    for part in (e, after):
        part.shared(1000)
    after.scratch(64)
    code = e.code(1, 1.0, after.code(1, 1.0))
    assert [step.symbol for step in code.steps] == [code.symbol, code.then.symbol if code.then else ""]
    assert code.scratch == 1024 + 64


def test_words_of_constants() -> None:
    assert word_bits(f32, 1.0) == 0x3F800000
    assert word_bits(f64, -0.0) == -(2**63)
    assert word_bits(f16, 0.1) == int(np.float32(np.float16(0.1)).view(np.uint32))
    assert word_bits(bf16, 1.0) == 0x3F800000
    assert word_bits(i8, -1) == 0xFF
    assert word_bits(i64, -1) == -1
    assert word_bits(u64, 2**64 - 1) == -1
    assert word_bits(bool_, True) == 1


def test_linear() -> None:
    assert linear(("i", 4), ("j", 1), (3, 10)) == "i * 4 + j + 30"
    assert linear(("i + 16", 4), ("j", -1)) == "(i + 16) * 4 - j"
    assert linear(("j", -2), (2, 5)) == "0 - j * 2 + 10"
    assert linear((0, 7)) == "0"


def test_alias_scopes_cover_every_in_place_pair() -> None:
    """A result has the scope of each argument in whose place the planner may lay it; others are apart."""
    x, y, s = TensorType(f32, (4, 5)), TensorType(i32, (20,)), TensorType(f32, ())
    assert alias_scopes((x, s, TensorType(f32, (4,))), (x,)) == (0, 1, 2, 0)
    assert alias_scopes((x, y), (x, y)) == (0, 0, 0, 0)
    assert alias_scopes((x,), (TensorType(f64, (4, 5)), s)) == (0, 1, 2)


def test_merging_axes() -> None:
    axes = [
        Axis((k,), n, reduced)
        for k, (n, reduced) in enumerate(((2, False), (1, True), (3, False), (4, True), (5, True)))
    ]
    merged = merge_axes(axes, [(60, 60, 20, 5, 1), (0, 0, 0, 5, 1)])
    assert [(axis.extent, axis.reduced) for axis in merged] == [(6, False), (20, True)]
    apart = merge_axes(axes, [(60, 60, 20, 5, 1), (3, 0, 1, 1, 4)])
    assert [axis.extent for axis in apart] == [6, 4, 5]
    assert merge_axes([Axis((0,), 1, False)], [(1,)]) == ()


def test_values_write_each_node_once() -> None:
    """What an inner block makes is forgotten outside; what is known is not written again."""
    t = TensorType(f32, (8, 40))
    graph = body(
        lambda x, r: ops.mul(ops.tanh(ops.add(x, ops.broadcast_to(r, shape=t.shape, axes=(1,)))), ops.full(t, 0.5)),
        t, TensorType(f32, (40,)),
    )  # fmt: skip
    e = Emission(kernel(graph), "values")
    values = Values(e)
    at = Point(("i", "j"), 1)
    inner = values.child("_1")
    inner.emit(graph.outputs, at)
    inner.emit(graph.outputs, at)
    inner.store(2, graph.outputs[0], at)
    assert graph.outputs[0] in inner and graph.outputs[0] not in values
    lines = [line.split("  #")[0].strip() for line in e.code(1, 0).source.splitlines()]
    assert lines[-7:-1] == [
        "v0_1 = load(p0, i * 40 + j, f32, 0)",
        "v2_1 = load(p1, j, f32, 1)",
        "v3_1 = v0_1 + v2_1",
        "v4_1 = tanh(v3_1)",
        "v7_1 = v4_1 * c0",
        "store(p2, i * 40 + j, v7_1, f32, 0)",
    ]


def test_half_floats_are_rounded_where_something_is_decided() -> None:
    t = TensorType(bf16, (8,))
    graph = body(lambda x, y: [ops.gt(ops.mul(x, y), x), ops.exp(ops.mul(x, y))], t, t)
    e = Emission(Kernel("k", "elementwise", Domain((8,)), graph, (0, 1), (2, 3)), "rounding")
    Values(e).emit(graph.outputs, Point(("i",), 0))
    text = e.code(1, 0).source
    assert "v2_rounded = cast(v2, bf16)" in text
    assert "v3 = v2_rounded > v0" in text and "= exp(v2)" in text


def test_layout_of_kept_nodes() -> None:
    """Values of the kept shape lie along the kept axes and do not move along reduced ones."""
    t = TensorType(f32, (6, 7, 8))
    graph = body(lambda x, k: ops.sub(ops.reduce_sum(x, axes=(1,)), k), t, TensorType(f32, (6, 8)))
    layout = Layout(graph, t.shape, (1,))
    place = layout.place(graph.inputs[1])
    assert place is not None and place.strides == (8, 0, 1)
    assert layout.stored(graph.outputs[0]) == (8, 0, 1)


def test_what_cannot_be_emitted() -> None:
    t = TensorType(f32, (8,))
    unknown = Op("frobnicate", "elementwise", lambda x: x, lambda x: x)
    with Builder() as b:
        graph = b.graph([unknown(b.input("x", t))])
    with pytest.raises(NoEmitter, match="cpu has no emitter for frobnicate"):
        lower(kernel(graph))
    with Builder() as b:
        graph = b.graph([ops.matmul(x, x) for x in [b.input("x", TensorType(f32, (4, 4)))]])
    with pytest.raises(NoEmitter, match="no emitter for dot: inside a kernel of template elementwise"):
        lower(kernel(graph))


def test_emitters_do_not_import_numba() -> None:
    """A compilation that finds its machine code in the cache makes texts and tables only."""
    script = (
        "import importlib, sys\n"
        "from graphc import ops; from graphc.ir import Builder; from graphc.types import *\n"
        "from graphc.backends.cpu import codegen; from graphc.passes.schedule import Domain, Kernel\n"
        "t = TensorType(f32, (4, 5))\n"
        "with Builder() as b:\n"
        "    x = b.input('x', t); y = b.graph([ops.tanh(x)]); z = b.graph([ops.reduce_sum(x, axes=(1,))])\n"
        "for g, template, reduced in ((y, 'elementwise', ()), (z, 'row', (1,))):\n"
        "    codegen.lower(Kernel('k', template, Domain((4, 5), reduced), g, (0,), (1,)))\n"
        "for module in set(codegen.EMITTERS.values()): importlib.import_module('graphc.backends.cpu.' + module)\n"
        "assert 'numba' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[1])
