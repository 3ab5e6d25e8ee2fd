"""The text form: exact values, the round trip, golden texts, and errors that point at the place."""

from __future__ import annotations

import random
import re
import struct

import numpy as np
import pytest

from graphc import ops, types
from graphc.ir import Array, Builder, Graph, Line, Node
from graphc.ops.control import cond, scan
from graphc.text import MAX_DEPTH, TextError, constants, from_text, identifier, node_names, to_text, value_text
from graphc.types import TensorType, TupleType, f32, f64, i32


def round_trip(graph: Graph) -> Graph:
    """``graph`` read back from its text, the law checked."""
    text = to_text(graph)
    again = from_text(text, constants(graph))
    assert to_text(again) == text
    assert again.digest == graph.digest
    return again


def constant_graph(*values: Array) -> Graph:
    with Builder("f") as b:
        return b.graph([ops.constant(value=value) for value in values])


def bits(value: np.ndarray) -> bytes:
    return np.ascontiguousarray(value).tobytes()


# ------------------------------------------------------------------------------------------------ golden


GOLDEN = """\
def step(x: f32[2, 4], w: f32[4, 3], i: i32):
    v0: f32[2, 3] = dot(x, w, batch=((), ()), contract=((1,), (0,)))
    v1: f32[2, 3] = tanh(v0)
    v2: f32 = const(f32, 0.1)
    v3: f32[2, 3] = broadcast_to(v2, axes=(), shape=(2, 3))
    v4: f32[2, 3] = pow(v1, v3)
    v5: f32[2, 3] = abs(v4)
    v6: (f32[2, 2], i64[2, 2]) = top_k(v5, k=2)
    v7: f32[2, 2] = v6[0]
    v8: i64[2, 2] = v6[1]
    def left(a: f32[2, 2]):
        v0: f32[2, 2] = neg(a)
        return v0
    def right(a: f32[2, 2]):
        return a
    v9: (f32[2, 2],) = cond(i, v7, branches=(left, right))
    v10: f32[2, 2] = v9[0]
    v11: f64[2, 2] = cast(v10, to=f64)
    return v11, v8, x, v8
"""


def test_golden() -> None:
    graph = from_text(GOLDEN)
    assert to_text(graph) + "\n" == GOLDEN
    assert graph.name == "step" and graph.input_names == ("x", "w", "i")
    assert graph.outputs[1] is graph.outputs[3] and graph.outputs[2] is graph.inputs[0]
    round_trip(graph)


def test_built_and_parsed_graphs_are_equal() -> None:
    with Builder("step") as b:
        x = b.input("x", TensorType(f32, (2, 4)))
        graph = b.graph([ops.neg(x), x])
    assert to_text(graph) == "def step(x: f32[2, 4]):\n    v0: f32[2, 4] = neg(x)\n    return v0, x"
    assert from_text(to_text(graph)).digest == graph.digest


def test_no_inputs_no_outputs() -> None:
    with Builder("nothing") as b:
        graph = b.graph([])
    assert to_text(graph) == "def nothing():\n    return"
    round_trip(graph)


def test_dead_nodes_and_their_order_survive() -> None:
    text = "def f(x: f32):\n    v0: f32 = neg(x)\n    v1: f32 = exp(x)\n    v2: f32 = log(x)\n    return v1"
    assert to_text(from_text(text)) == text


def test_comments_and_blank_lines_are_ignored() -> None:
    text = "# head\n\ndef f(x: f32):  # one\n    # two\n\n    v0: f32 = neg(x)  # three (\n    return v0\n\n# end\n"
    assert to_text(from_text(text)) == "def f(x: f32):\n    v0: f32 = neg(x)\n    return v0"


def test_long_headers_have_one_parameter_a_line() -> None:
    with Builder("f") as b:
        inputs = [b.input(f"parameter_{k}", TensorType(f32, (128, 512))) for k in range(8)]
        graph = b.graph([inputs[3]])
    lines = to_text(graph).split("\n")
    assert lines[:2] == ["def f(", "        parameter_0: f32[128, 512],"] and lines[9] == "):"
    round_trip(graph)


# ------------------------------------------------------------------------------------------------ exact values


@pytest.mark.parametrize("element", types.DTYPES.values(), ids=str)
def test_arrays_of_every_element_type(element: types.DType) -> None:
    rng = np.random.default_rng(0)
    for shape in [(), (1,), (3,), (2, 3), (0,), (3, 0, 2), (16,), (17,), (3, 1, 2)]:
        size = int(np.prod(shape))
        raw = rng.integers(0, 256, size * element.itemsize, np.uint8)
        raw = raw % 2 if element.kind == "b" else raw
        value = raw.view(element.numpy).reshape(shape)
        graph = constant_graph(Array(value))
        assert bits(round_trip(graph).outputs[0]["value"].value) == bits(value)
        assert len(constants(graph)) == (size > 16)


@pytest.mark.parametrize("element", [types.f16, types.bf16, types.f32, types.f64], ids=str)
def test_special_numbers(element: types.DType) -> None:
    unsigned = np.dtype(f"u{element.itemsize}")
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.5, 0.1]).astype(element.numpy)
    information = types.f16.numpy if element is types.f16 else element.numpy
    patterns = np.array([1, 2, 3], unsigned).view(information)  # subnormal
    ones = np.array([-1, -2], f"i{element.itemsize}").view(element.numpy)  # NaNs with payloads
    for values in (special, patterns, ones):
        again = round_trip(constant_graph(Array(values))).outputs[0]["value"].value
        assert bits(again) == bits(values)


def test_all_half_precision_numbers() -> None:
    for element in (types.f16, types.bf16):
        values = np.arange(1 << 16, dtype=np.uint16).view(element.numpy)
        for k in range(0, 1 << 16, 1613):
            array = Array(values[k : k + 16])
            assert bits(round_trip(constant_graph(array)).outputs[0]["value"].value) == bits(array.value)


def test_short_texts_of_f32_read_back_exactly() -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        array = Array(rng.integers(0, 1 << 32, 16, np.uint32).view(np.float32))
        assert bits(round_trip(constant_graph(array)).outputs[0]["value"].value) == bits(array.value)
    assert value_text(Array(np.float32(0.1))) == "const(f32, 0.1)"
    assert value_text(Array(np.float32(1e-45))) == "const(f32, 1e-45)"
    assert value_text(Array(np.float16(0.1))) == "const(f16, 0.1)"
    assert value_text(Array(np.array([True, False]))) == "const(bool[2], [True, False])"
    assert value_text(Array(np.float32("nan"))) == "const(f32, nan)"
    assert value_text(Array(np.complex64(1 - 0j))) == "const(c64, complex(1.0, 0.0))"


NAN_WITH_PAYLOAD = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0001))[0]

ATTRIBUTES = [
    None, True, False, 0, 1, -1, 10**30, 0.0, -0.0, 1.0, 0.1, 1e300, float("inf"), -float("inf"), float("nan"),
    NAN_WITH_PAYLOAD, "", "sum", "'\"\\\n\u2028é", (), (1,), ((), (0.5, "x")), f32, types.bool_, TensorType(f32, ()),
    TensorType(f32, (2, 0)), TupleType(()), TupleType((TensorType(f64, ()), TensorType(i32, (3,)))),
    Array([1.0, -0.0]), Array(np.arange(40)), (Array(3), None),
]  # fmt: skip


@pytest.mark.parametrize("value", ATTRIBUTES, ids=lambda v: value_text(v)[:40])
def test_attributes(value: object) -> None:
    with Builder("f") as b:
        graph = b.graph([ops.alias(b.input("x", TensorType(f32, ())), tag=value)])
    again = round_trip(graph)
    have = again.outputs[0]["tag"]
    assert type(have) is type(value)


def test_attributes_stay_apart() -> None:
    values = [0.0, -0.0, 0, False, 1, True, 1.0, "1", None, f32, TensorType(f32, ()), float("nan"), NAN_WITH_PAYLOAD]
    with Builder("f") as b:
        x = b.input("x", TensorType(f32, ()))
        graph = b.graph([ops.alias(x, tag=value) for value in values])
    assert len(set(graph.outputs)) == len(values)
    assert len(set(round_trip(graph).outputs)) == len(values)


def test_equal_bytes_of_different_types() -> None:
    zeros = [np.zeros(20, np.float32), np.zeros(20, np.int32), np.zeros((4, 5), np.float32), np.zeros(80, np.int8)]
    graph = constant_graph(*map(Array, zeros))
    assert len(constants(graph)) == 1
    round_trip(graph)


def test_constants_of_bodies_are_found() -> None:
    with Builder("body") as b:
        c = b.input("c", TensorType(f64, (20,)))
        body = b.graph([ops.add(c, ops.const(np.arange(20.0)))])
    with Builder("f") as b:
        start = b.input("x", TensorType(f64, (20,)))
        graph = b.graph(ops.items(scan(start, body=body, n_carry=1, n_xs=0, length=3, reverse=False)))
    assert len(constants(graph)) == 1
    round_trip(graph)


# ------------------------------------------------------------------------------------------------ names


def test_names_of_inputs() -> None:
    with Builder("<lambda>") as b:
        names = ["params['w']", "params w", "lambda", "x", "v0", "v2", "f32", "3d", "", "α", "ﬁ", "_", "params_w"]
        inputs = [b.input(name, TensorType(f32, ())) for name in names]
        total = inputs[0]
        for x in inputs[1:]:
            total = ops.add(total, x)
        graph = b.graph([total])
    texts = list(node_names(graph).values())
    assert texts[:3] == ["params_w", "params_w_1", "lambda_"] and len(set(texts)) == len(texts)
    assert "v0" in texts[:13] and "v0" not in texts[13:]  # nodes make way
    round_trip(graph)
    assert identifier("<lambda>") == "lambda_" and identifier("a b") == "a_b"


def test_names_of_bodies_are_unique() -> None:
    def body(name: str, scale: float) -> Graph:
        with Builder(name) as b:
            x = b.input("x", TensorType(f32, ()))
            return b.graph([ops.mul(x, ops.like(x, scale))])

    with Builder("f") as b:
        i, x = b.input("i", TensorType(i32, ())), b.input("x", TensorType(f32, ()))
        branches = tuple(body(name, k) for k, name in enumerate(["body", "body", "nan", "f32", "body_1"]))
        one = cond(i, x, branches=branches)
        two = cond(i, ops.item(one, index=0), branches=branches[:2])
        graph = b.graph([ops.item(two, index=0)])
    text = to_text(graph)
    defs = [line.strip().split("(")[0] for line in text.split("\n") if line.strip().startswith("def ")]
    assert defs == ["def f", "def body", "def body_1", "def nan_1", "def f32_1", "def body_1_1"]  # each once
    round_trip(graph)


def test_deep_nesting() -> None:
    with Builder("body0") as b:
        graph = b.graph([ops.neg(b.input("x", TensorType(f32, ())))])
    for k in range(40):
        with Builder(f"body{k + 1}") as b:
            i, x = b.input("i", TensorType(i32, ())), b.input("x", TensorType(f32, ()))
            operands = (x,) if k == 0 else (i, x)
            graph = b.graph([ops.item(cond(i, *operands, branches=(graph,)), index=0)])
    round_trip(graph)
    deep = "\n".join(" " * k + f"def d{k}():" for k in range(MAX_DEPTH + 1))
    with pytest.raises(TextError, match="more than 100 nested defs"):
        from_text(deep)


# ------------------------------------------------------------------------------------------------ annotations


def test_lines_and_roles() -> None:
    with Builder("f") as b:
        b.origin = (Line("/home/me/model.py", 31, "loss"), Line("layers\n.py", 7))
        x = b.input("x", TensorType(f32, ()))
        y = ops.exp(x)
        b.origin = ()
        b.add_adjoint(1, y, z := ops.neg(y))
        b.add_adjoint(1, x, z)
        b.add_adjoint(2, y, z)
        graph = b.graph([z])
    assert to_text(graph, lines=True, roles=True).split("\n")[1:3] == [
        "    v0: f32 = exp(x)  # model.py:31; layers\\n.py:7",
        "    v1: f32 = neg(v0)  # adjoint of v0, x; order-2 adjoint of v0",
    ]
    assert to_text(graph, roles=True).split("\n")[1] == "    v0: f32 = exp(x)"
    assert from_text(to_text(graph, lines=True, roles=True)).digest == graph.digest


def test_malformed_graphs_print() -> None:
    with Builder("f") as b:
        x, hidden = b.input("x", TensorType(f32, ())), b.placeholder(TensorType(f32, ()))
        node = ops.add(x, hidden)
    bad = Node(ops.neg, (node,), (("tag", object()),), TensorType(f32, ()))
    text = to_text(Graph("f", (x,), (hidden,), (x, node, bad, bad)))
    assert "add(x, _)" in text and "return _" in text and "<object>" in text


# ------------------------------------------------------------------------------------------------ errors


def error(text: str, **arrays: np.ndarray) -> TextError:
    with pytest.raises(TextError) as caught:
        from_text(text, arrays)
    return caught.value


HEAD = "def f(x: f32[2], y: f32[3]):\n"


def test_an_error_points_at_the_place() -> None:
    assert str(error(HEAD + "    v0: f32[2] = add(x, y)\n    return v0")) == (
        "line 2: add needs operands of one type, not f32[2], f32[3]\n"
        "        v0: f32[2] = add(x, y)\n"
        "                     ^"
    )
    wide = error("def f(é: f32):\n    v0: f32 = neg(ö)\n    return v0")
    assert str(wide).endswith("        v0: f32 = neg(ö)\n                      ^")


ERRORS = [
    ("", 1, "there is no graph here"),
    ("x = 1", 1, "a graph starts with `def`"),
    ("  def f():\n    return", 1, "a graph starts with `def` at the left margin"),
    ("def f():\n    return\nreturn", 3, "after its return"),
    ("def f():\n", 2, "f has no return"),
    ("def f(x):\n    return x", 1, "parameter x needs a type"),
    ("def f(x: f32, x: f32):\n    return x", 1, "duplicate argument|two parameters"),
    ("def f(x: f32 = 1):\n    return x", 1, "plain"),
    ("def f(*x: f32):\n    return x", 1, "plain"),
    ("def f(x: f31):\n    return x", 1, "not a type"),
    ("def f(x: f32[-1]):\n    return x", 1, "not a type"),
    ("def f(x: f32[True]):\n    return x", 1, "not a type"),
    ("def f(x: (f32,)):\n    return x", 1, "must be a tensor"),
    (HEAD + "  v0: f32[2] = neg(x)\n    return v0", 3, "indented by 4"),
    (HEAD + "return x", 2, "more than its def"),
    (HEAD + "\tv0: f32[2] = neg(x)", 2, "indent with spaces"),
    (HEAD + "    v0: f32[2] = neg(x", 2, "a bracket is not closed"),
    (HEAD + "    v0: f32[2] = neg(x))\n    return v0", 2, "unmatched"),
    (HEAD + "    v0 = neg(x)\n    return v0", 2, "a statement of a graph is"),
    (HEAD + "    import os\n    return x", 2, "a statement of a graph is"),
    (HEAD + "    v0: f32[2] = neg(x); v1: f32[2] = exp(x)\n    return v0", 2, "one statement a line"),
    (HEAD + "    v0: f32[3] = neg(x)\n    return v0", 2, r"v0 is f32\[2\], not f32\[3\]"),
    (HEAD + "    v0: f32[2] = neg(z)\n    return v0", 2, "z is not defined above"),
    (HEAD + "    v0: f32[2] = neg(x)\n    v0: f32[2] = exp(x)\n    return v0", 3, "v0 is defined twice"),
    (HEAD + "    v0: f32[2] = neg(x)\n    v1: f32[2] = neg(x)\n    return v0", 3, "v1 repeats v0"),
    (HEAD + "    v0: f32[2] = ngg(x)\n    return v0", 2, "there is no op 'ngg'"),
    (HEAD + "    v0: f32[2] = os.system(x)\n    return v0", 2, "a node is"),
    (HEAD + "    v0: f32[2] = neg(x, axis=1)\n    return v0", 2, "neg does not take"),
    (HEAD + "    v0: f32[2] = neg(*x)\n    return v0", 2, "operands are names"),
    (HEAD + "    v0: f32[2] = neg(x, **y)\n    return v0", 2, "each once"),
    (HEAD + "    v0: f32[2] = neg(neg(x))\n    return v0", 2, "operands are names"),
    (HEAD + "    v0: f32[2] = x\n    return v0", 2, "a node is"),
    (HEAD + "    v0: f32[2] = x[0]\n    return v0", 2, "there is no result 0"),
    (HEAD + "    v0: f32 = input(name='a', type=f32[()])\n    return v0", 2, "inputs are parameters"),
    (HEAD + "    v0: f32[2] = alias(x, tag=[1])\n    return v0", 2, "not a value of an attribute"),
    (HEAD + "    v0: f32[2] = alias(x, tag=b'')\n    return v0", 2, "not a value of an attribute"),
    (HEAD + "    v0: f32[2] = alias(x, tag=1j)\n    return v0", 2, "not a value of an attribute"),
    (HEAD + "    v0: f32[2] = alias(x, tag=-True)\n    return v0", 2, "not a value of an attribute"),
    (HEAD + "    v0: f32[2] = alias(x, tag=nan(0))\n    return v0", 2, "not the bits of a NaN"),
    (HEAD + "    v0: f32[2] = alias(x, tag=nan(0x1ffffffffffffffff))\n    return v0", 2, "no such bits"),
    (HEAD + "    v0: f32[2] = const(f32[2], [1.0])\n    return v0", 2, "needs a list of 2 here"),
    (HEAD + "    v0: f32[2] = const(f32[2], [1, 2])\n    return v0", 2, "not an element of f32"),
    (HEAD + "    v0: i8 = const(i8, 128)\n    return v0", 2, "not an element of i8"),
    (HEAD + "    v0: i8 = const(i8, True)\n    return v0", 2, "not an element of i8"),
    (HEAD + "    v0: bool = const(bool, 1)\n    return v0", 2, "not an element of bool"),
    (HEAD + "    v0: f32 = const(f32, nan(0x7fc0000000000000))\n    return v0", 2, "not an element of f32"),
    (HEAD + "    v0: c64 = const(c64, 1.0)\n    return v0", 2, "complex numbers are written"),
    (HEAD + "    v0: f32[17] = const(f32[17], [1.0])\n    return v0", 2, "is named by its sha256"),
    (HEAD + "    v0: f32[0] = const(f32[0], [[]])\n    return v0", 2, r"is written \[\]"),
    (HEAD + "    v0: f32[17] = const(f32[17], sha256='0')\n    return v0", 2, "was not given"),
    (HEAD + "    v0: f32[17] = const(f32[17], sha256='bad')\n    return v0", 2, "has another sha256"),
    (HEAD + "    v0: f32[18] = const(f32[18], sha256='bad')\n    return v0", 2, "has 68 bytes"),
    (HEAD + "    v0: f32[2] = const(x)\n    return v0", 2, "constants are written"),
    (HEAD + "    return x,\n    return", 3, "after its return"),
    (HEAD + "    v0: (f32[2], i64[2]) = top_k(x, k=2)\n    return v0", 3, "return its items"),
    (HEAD + "    def nan():\n        return\n    return", 2, "the name nan is taken"),
    (HEAD + "    def g() -> f32:\n        return\n    return", 2, "plain"),
    (HEAD + "    v0: f32[2] = alias(x, tag=" + "(" * 300 + ")" * 300 + ")\n    return v0", 2, ""),
    (HEAD + "    v0: f32[2] = alias(x, tag=" + "-" * 100_000 + "1)\n    return v0", 2, ""),
    (HEAD + "    v0: f32[2] = alias(x, tag=" + "9" * 5000 + ")\n    return v0", 2, ""),
    (HEAD + "    v0: f32[2] = alias(x, tag=g)\n    return v0", 2, "not a value of an attribute"),
    (HEAD + "    v0: f32[2] = neg(x\0)\n    return v0", 2, ""),
    (HEAD + "    v0: f32[2] = reshape(x, shape=(2.0,))\n    return v0", 2, ""),
    (HEAD + "    v0: f32[True, 2] = reshape(x, shape=(True, 2))\n    return v0", 2, "not a type"),
    (HEAD + "    v0: f32[1, 2] = reshape(x, shape=(True, 2))\n    return v0", 2, r"is f32\[True, 2\]"),
]


@pytest.mark.parametrize(("text", "line", "reason"), ERRORS, ids=range(len(ERRORS)))
def test_errors(text: str, line: int, reason: str) -> None:
    found = error(text, bad=np.zeros(17, np.float32))
    assert found.line == line, found
    assert re.search(reason, found.reason), found.reason


def test_damaged_texts_are_errors_or_graphs() -> None:
    """Whatever is done to a text, the parser answers with a graph or a TextError."""
    rng = random.Random(0)
    alphabet = "()[]{},.:;=-+'\"\\#\n\t \0é0123456789abcdefv_xN"
    for _ in range(3000):
        text = list(GOLDEN)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(text))
            match rng.randrange(4):
                case 0:
                    text[at] = rng.choice(alphabet)
                case 1:
                    text.insert(at, rng.choice(alphabet))
                case 2:
                    del text[at : at + rng.randint(1, 30)]
                case 3:
                    text[at:at] = text[(other := rng.randrange(len(text))) : other + rng.randint(1, 40)]
        try:
            graph = from_text("".join(text))
        except TextError as damage:
            assert str(damage).startswith(f"line {damage.line}: ")
        else:
            assert to_text(from_text(to_text(graph))) == to_text(graph)


def test_a_long_text_is_read_line_by_line() -> None:
    with Builder("f") as b:
        x = b.input("x", TensorType(f32, (2, 4)))
        y = x
        for _ in range(5000):
            y = ops.tanh(ops.add(y, x))
        graph = b.graph([y])
    assert len(graph.nodes) == 10_001
    round_trip(graph)
