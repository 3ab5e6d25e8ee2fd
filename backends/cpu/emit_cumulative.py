"""Emitter of running sums, products, extremes and recurrences along one axis. Operands lie contiguous.

A *row* is what one result runs along: ``length`` elements, ``inner`` apart. Lanes are rows: neighbours in memory where there
are inner axes (chunks of them are the work units), gathered otherwise. Each row is computed in the order of its elements.

Where there are few rows, lanes lie along them: sixteen elements are combined by doubling, then with the carry. That changes
the order of additions, which costs no accuracy. Products of floats and recurrences stay in order, one element at a time: a
product of several factors can overflow where the factors one by one do not.

A row is computed by one thread, so that nothing depends on the number of threads. f16 and bf16 accumulate in f32.
"""

from __future__ import annotations

import math

from graphc.backends.cpu.codegen import CHEAP, CONTIGUOUS, LANES, STRIDED, Code, Emission, compute_dtype, dtype_name
from graphc.backends.cpu.emit_loops import ragged, vector_loop
from graphc.ir import Node
from graphc.passes.schedule import Kernel
from graphc.types import DType

CHUNK = 256  # neighbouring rows that make a work unit
NARROW = 8  # fewer neighbouring rows than this leave most lanes empty
FEW = 5  # rows, fewer of which are faster one element at a time than gathered
SIDE_BY_SIDE = 4  # vectors
IN_ORDER = 1.4  # nanoseconds from one element to the next

#: the step of each op, on the accumulator and the next elements
STEPS = {
    "cumsum": "{acc} + {0}",
    "cumprod": "{acc} * {0}",
    "cummax": "maximum({acc}, {0})",
    "cummin": "minimum({acc}, {0})",
    "recurrence": "{0} * {acc} + {1}",
}


def cumulative(kernel: Kernel, node: Node) -> Code:
    """One running op."""
    axis, shape = node["axis"], node.type.shape
    inner = math.prod(shape[axis + 1 :])
    rows = node.type.size // shape[axis]
    if inner >= NARROW:
        return _lanes_beside(kernel, node, inner)
    if inner == 1 and rows < LANES and _may_double(node):
        return _lanes_along(kernel, node)
    return (_lanes_gathered if rows >= FEW else _one_by_one)(kernel, node, inner)


def _may_double(node: Node) -> bool:
    """Whether steps may be combined before they meet the carry."""
    return node.op.name != "recurrence" and (node.op.name != "cumprod" or node.type.dtype.is_integer)


def _words(e: Emission, node: Node, inner: int) -> None:
    """The variables ``blocks`` (extent of the axes before), ``length``, ``inner``, and ``step`` from one element of a row
    to the next one of the order, whose first one lies ``begin`` behind the row's first."""
    length = node.type.shape[node["axis"]]
    e.word(node.type.size // (length * inner), "blocks")
    e.word(length, "length")
    e.word(inner, "inner")
    e.word(-inner if node["reverse"] else inner, "step")
    e.word((length - 1) * inner if node["reverse"] else 0, "begin")


def _lanes_beside(kernel: Kernel, node: Node, inner: int) -> Code:
    """Lanes over the axes behind the running one."""
    dtype, result = node.type.dtype, len(kernel.body.inputs)
    name = dtype_name(dtype)
    e = Emission(kernel, f"{node.op.name} of {name}, rows side by side")
    operands = [kernel.body.inputs.index(x) for x in node.inputs]
    _words(e, node, inner)

    def load(position: int, at: str, shift: int, lanes: str | int | None) -> str:
        at = f"{at} + {shift}" if shift else at
        where = f"{e.pointer(position)}, {at}, {name}, {e.scope(position)}"
        return f"load({where})" if lanes is None else f"load_masked({where}, {lanes})"

    def store(at: str, shift: int, value: str, lanes: str | int | None) -> None:
        at = f"{at} + {shift}" if shift else at
        where = f"{e.pointer(result)}, {at}, {value}, {name}, {e.scope(result)}"
        e.line(f"store({where})" if lanes is None else f"store_masked({where}, {lanes})")

    e.line(f"chunks = (inner + {CHUNK - 1}) // {CHUNK}")
    e.line("first, last = share(blocks * chunks, 1, thread, threads)")
    with e.block("for unit in range(first, last):"):
        e.line(f"low = unit % chunks * {CHUNK}")
        e.line(f"high = min(low + {CHUNK}, inner)")
        e.line("base = unit // chunks * length * inner + begin")
        for vectors in vector_loop(e, "j", "low", "high", SIDE_BY_SIDE):
            accs = [f"acc_{c}" for c in range(len(vectors))]
            e.line("at = base + j")
            for acc, (shift, lanes) in zip(accs, vectors, strict=True):
                e.line(f"{acc} = {load(operands[-1], 'at', shift, lanes)}")
                store("at", shift, acc, lanes)
            with e.block("for i in range(1, length):"):
                e.line("at = at + step")
                for acc, (shift, lanes) in zip(accs, vectors, strict=True):
                    values = [load(position, "at", shift, lanes) for position in operands]
                    e.line(f"{acc} = {STEPS[node.op.name].format(*values, acc=acc)}")
                    store("at", shift, acc, lanes)
    units = node.type.size // (node.type.shape[node["axis"]] * inner) * -(-inner // CHUNK)
    return e.code(units, max(node.type.size / LANES * _cost(dtype, len(operands), CONTIGUOUS), e.memory_cost))


def _lanes_gathered(kernel: Kernel, node: Node, inner: int) -> Code:
    """Sixteen rows at a time, wherever they lie."""
    dtype, result = node.type.dtype, len(kernel.body.inputs)
    name = dtype_name(dtype)
    e = Emission(kernel, f"{node.op.name} of {name}, sixteen rows")
    operands = [kernel.body.inputs.index(x) for x in node.inputs]
    _words(e, node, inner)

    def load(position: int, count: str | int) -> str:
        return f"gather({e.pointer(position)}, at, {name}, {e.scope(position)}, {count})"

    e.line(f"first, last = share(blocks * inner, {LANES}, thread, threads)")
    for lanes in ragged(e, "row", "first", "last"):
        count = LANES if lanes is None else lanes
        e.line("rows = lanes(row)")
        e.line("at = rows // inner * (length * inner) + rows % inner + begin")
        e.line(f"acc = {load(operands[-1], count)}")
        e.line(f"scatter({e.pointer(result)}, at, acc, {name}, {e.scope(result)}, {count})")
        with e.block("for i in range(1, length):"):
            e.line("at = at + step")
            values = [load(position, count) for position in operands]
            e.line(f"acc = {STEPS[node.op.name].format(*values, acc='acc')}")
            e.line(f"scatter({e.pointer(result)}, at, acc, {name}, {e.scope(result)}, {count})")
    vectors = -(-(node.type.size // node.type.shape[node["axis"]]) // LANES)
    steps = vectors * node.type.shape[node["axis"]]
    return e.code(vectors, max(steps * _cost(dtype, len(operands), STRIDED), e.memory_cost))


def _one_by_one(kernel: Kernel, node: Node, inner: int) -> Code:
    """A row at a time, an element at a time."""
    dtype, result = node.type.dtype, len(kernel.body.inputs)
    name = dtype_name(dtype)
    e = Emission(kernel, f"{node.op.name} of {name}, one by one")
    operands = [kernel.body.inputs.index(x) for x in node.inputs]
    _words(e, node, inner)

    def load(position: int) -> str:
        return f"splat_load({e.pointer(position)}, at, {name}, {e.scope(position)})"

    e.line("first, last = share(blocks * inner, 1, thread, threads)")
    with e.block("for row in range(first, last):"):
        e.line("at = row // inner * (length * inner) + row % inner + begin")
        e.line(f"acc = {load(operands[-1])}")
        e.line(f"store_first({e.pointer(result)}, at, acc, {name}, {e.scope(result)})")
        with e.block("for i in range(1, length):"):
            e.line("at = at + step")
            e.line(f"acc = {STEPS[node.op.name].format(*map(load, operands), acc='acc')}")
            e.line(f"store_first({e.pointer(result)}, at, acc, {name}, {e.scope(result)})")
    rows = node.type.size // node.type.shape[node["axis"]]
    return e.code(rows, max(node.type.size * IN_ORDER, e.memory_cost))


def _lanes_along(kernel: Kernel, node: Node) -> Code:
    """Sixteen elements of a row at a time."""
    dtype, result, reverse = node.type.dtype, len(kernel.body.inputs), node["reverse"]
    name, length = dtype_name(dtype), node.type.shape[node["axis"]]
    rows = node.type.size // length
    e = Emission(kernel, f"{node.op.name} of {name}, {'backwards ' if reverse else ''}along rows")
    e.word(rows, "rows")
    e.word(length, "length")
    source, target = e.pointer(kernel.body.inputs.index(node.inputs[0])), e.pointer(result)
    scopes = e.scope(kernel.body.inputs.index(node.inputs[0])), e.scope(result)

    def scan(at: str, lanes: str | None, first: bool = False) -> None:
        count = lanes or LANES
        where = f"{at}, {name}, {scopes[0]}"
        e.line(f"v = load({source}, {where})" if lanes is None else f"v = load_masked({source}, {where}, {lanes})")
        for by in (1, 2, 4, 8):
            taken = f"mask_tail({count} - {by})" if reverse else f"lanes(0) >= {by}"
            e.line(f"other = rotate_lanes(v, {by if reverse else LANES - by})")
            e.line(f"v = select({taken}, {STEPS[node.op.name].format('v', acc='other')}, v)")
        if not first:
            e.line(f"v = {STEPS[node.op.name].format('v', acc='carry')}")
        e.line(f"carry = splat_lane(v, {0 if reverse else LANES - 1})")
        where = f"{at}, v, {name}, {scopes[1]}"
        e.line(f"store({target}, {where})" if lanes is None else f"store_masked({target}, {where}, {lanes})")

    e.line("first, last = share(rows, 1, thread, threads)")
    e.line(f"begin = min(length, {LANES})")
    e.line(f"whole = begin + (length - begin) // {LANES} * {LANES}")
    e.line("rest = length - whole")
    with e.block("for row in range(first, last):"):
        e.line("base = row * length")
        scan("base + length - begin" if reverse else "base", "begin", first=True)
        with e.block(f"for j in range(begin, whole, {LANES}):"):
            scan(f"base + length - j - {LANES}" if reverse else "base + j", None)
        with e.block("if rest > 0:"):
            scan("base" if reverse else "base + whole", "rest")
    each = 4 * CHEAP + 2 * CONTIGUOUS + 6.0
    return e.code(rows, max(node.type.size / LANES * each * (2 if dtype.itemsize == 8 else 1), e.memory_cost))


def _cost(dtype: DType, operands: int, access: float) -> float:
    """Estimated nanoseconds of a step of sixteen lanes."""
    return (CHEAP + (operands + 1) * access) * (2 if compute_dtype(dtype).itemsize == 8 else 1)


__all__ = ["STEPS", "cumulative"]
