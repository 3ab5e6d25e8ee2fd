"""Emitter of library kernels: linear algebra by LAPACK and BLAS, sorting, running ops, random bits. Operands lie contiguous.

Sorting turns elements into integer keys that are ordered as the elements are, NaN last, and finds the stable order of the
keys: for short rows by counting, for each key, those that come before it, for long ones byte by byte (radix sort, least
significant byte first). Neither depends on anything but the keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from graphc.backends.cpu import emit_linalg
from graphc.backends.cpu.codegen import CONTIGUOUS, LANES, STRIDED, Code, Emission, NoEmitter, dtype_name
from graphc.backends.cpu.emit_cumulative import STEPS, cumulative
from graphc.backends.cpu.emit_loops import elementwise, ragged
from graphc.backends.cpu.emit_segment import bits
from graphc.backends.cpu.loops import Point, load_from, store_to
from graphc.ir import Node
from graphc.passes.schedule import Domain, Kernel
from graphc.types import DType, bf16, f16, f64, i64

COUNTED = 96  # elements of a row up to which its order is found by counting
LARGEST = 2**63 - 1


def library(kernel: Kernel) -> Code:
    """One op of linear algebra, sorting, or random bits."""
    node = next((n for n in kernel.body.nodes if n.op.name in _EMITTERS), None)
    if node is None:
        raise NoEmitter(kernel.body.nodes[-1])
    if any(x.op.kind != "input" for x in node.inputs):
        raise NoEmitter(node, "its operands must be in memory")
    if all(t.size == 0 for t in kernel.body.output_types):
        return Emission(kernel, "library without elements").code(1, 0.0)
    return _EMITTERS[node.op.name](kernel, node)


def _random_bits(kernel: Kernel, node: Node) -> Code:
    return elementwise(replace(kernel, domain=Domain(node.type.shape)))


# ------------------------------------------------------------------------------------------------ sorting


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows that are sorted: ``count`` of ``length`` elements, which are ``stride`` apart."""

    count: int
    length: int
    stride: int


def _sort(kernel: Kernel, node: Node) -> Code:
    return _sorted(kernel, node, node["axis"], descending=False)


def _top_k(kernel: Kernel, node: Node) -> Code:
    return _sorted(kernel, node, node.inputs[0].type.ndim - 1, descending=True)


def _sorted(kernel: Kernel, node: Node, axis: int, descending: bool) -> Code:
    x = node.inputs[0].type
    rows = Rows(x.size // max(x.shape[axis], 1), x.shape[axis], math.prod(x.shape[axis + 1 :]))
    kept = node["k"] if descending else rows.length
    e = Emission(kernel, f"{node.op.name} of rows of {rows.length} {dtype_name(x.dtype)}, {rows.stride} apart")
    small = rows.length <= COUNTED
    room = -(-rows.length // LANES) * LANES * 8
    regions = {
        name: e.scratch(room) for name in (("keys", "order") if small else ("keys", "order", "keys_2", "order_2"))
    }
    counts = "" if small else e.scratch(8 * 256 * 8)
    for name, region in regions.items():
        e.line(f"{name} = {region}")
    e.line(f"first, last = share({e.word(rows.count, 'rows')}, 1, thread, threads)")
    with e.block("for row in range(first, last):"):
        e.line(f"base = row // {rows.stride} * {rows.length * rows.stride} + row % {rows.stride}")
        _write_keys(e, rows, x.dtype, descending)
        if small:
            e.require(_SMALL)
            e.line(f"sort_small(keys, order, {rows.length})")
        else:
            e.require(_LARGE)
            flip = -(2**63) if x.dtype.itemsize == 8 else 0
            e.line(f"sort_large(keys, order, keys_2, order_2, {counts}, {rows.length}, {_digits(x.dtype)}, {flip})")
        e.line(f"into = row // {rows.stride} * {kept * rows.stride} + row % {rows.stride}")
        _write_results(e, node, rows, kept)
    each = rows.length * (3.0 * rows.length / LANES if small else 3.0 * _digits(x.dtype) + 3)
    return e.code(rows.count, rows.count * (each + rows.length / LANES * (CONTIGUOUS + STRIDED)))


def _digits(dtype: DType) -> int:
    """Bytes of a key."""
    return 4 if dtype is f16 or dtype is bf16 else dtype.itemsize


def _write_keys(e: Emission, rows: Rows, dtype: DType, descending: bool) -> None:
    """``keys`` of a row: int64, ordered as the elements are. Those beyond the row are the largest.

    Keys of 8 bytes are ordered as signed numbers, shorter ones are not negative.
    """
    for lanes in ragged(e, "j", 0, rows.length):
        load = load_from(e.pointer(0), (1, rows.stride), dtype, e.scope(0), Point(("base", "j"), 1, lanes))
        e.line(f"v = {load}")
        e.line(f"key = {_key(e, dtype)}")
        if descending:
            e.line("key = ~key" if _digits(dtype) == 8 else f"key = {256 ** _digits(dtype) - 1} - key")
        if lanes is not None:
            e.line(f"key = select(mask_tail({lanes}), key, {LARGEST})")
        e.line("store(keys, j, key, i64, -1)")


def _key(e: Emission, dtype: DType) -> str:
    """The expression of the key of the vector ``v``; equal for 0 and -0, the same for all NaN."""
    if dtype.kind == "f":
        signed, magnitude = ("i64", LARGEST) if dtype is f64 else ("i32", 2**31 - 1)
        e.line(f"raw = bitcast(select(v == 0.0, 0.0, v), {signed})")
        e.line(f"raw = select(raw < 0, raw ^ {magnitude}, raw)")
        e.line(f"raw = select(v == v, raw, {magnitude})")
        return "raw" if dtype is f64 else f"cast(raw, i64) + {2**31}"
    if dtype.name == "u64":
        return "cast(v ^ (splat(1, u64) << 63), i64)"
    if dtype.name == "i64":
        return "v"
    return f"cast(v, i64) + {2 ** (8 * dtype.itemsize - 1)}" if dtype.kind == "i" else "cast(v, i64)"


def _write_results(e: Emission, node: Node, rows: Rows, kept: int) -> None:
    """The first ``kept`` of the row in order: the elements, their places, or both."""
    first, results = len(e.kernel.body.inputs), _RESULTS[node.op.name]
    for lanes in ragged(e, "j", 0, kept):
        point = Point(("into", "j"), 1, lanes)
        count = LANES if lanes is None else lanes
        e.line("places = load(order, j, i64, -1)")
        for position, what in enumerate(results, first):
            value, element = "places", i64
            if what == "values":
                value, element = "moved", bits(node.inputs[0].type.dtype)
                places = f"base + places * {rows.stride}" if rows.stride != 1 else "base + places"
                e.line(f"moved = gather({e.pointer(0)}, {places}, {dtype_name(element)}, {e.scope(0)}, {count})")
            e.line(store_to(e.pointer(position), (1, rows.stride), value, element, e.scope(position), point))


_RESULTS = {"sort": ("values",), "argsort": ("places",), "top_k": ("values", "places")}

_SMALL = (
    "graphc_sort_small",
    """\
def graphc_sort_small(table, thread, threads):
    # order[number of keys that come before key i] = i
    keys = pointer(table, 0)
    order = pointer(table, 1)
    n = word(table, 2)
    for i in range(n):
        mine = splat_load(keys, i, i64, 0)
        before = 0
        for j in range(0, n, 16):
            other = load(keys, j, i64, 0)
            before = before + count_lanes((other < mine) | ((other == mine) & (lanes(j) < i)))
        store_first(order, before, splat(i, i64), i64, 1)
    return 0
""",
)

_LARGE = (
    "graphc_sort_large",
    """\
def graphc_sort_large(table, thread, threads):
    # the stable order of keys, byte by byte; keys ^ flip are ordered as unsigned numbers
    keys = pointer(table, 0)
    order = pointer(table, 1)
    keys_to = pointer(table, 2)
    order_to = pointer(table, 3)
    counts = pointer(table, 4)
    n = word(table, 5)
    digits = word(table, 6)
    flip = word(table, 7)
    result = order
    for i in range(0, 256 * digits, 16):
        store(counts, i, splat(0, i64), i64, -1)
    for i in range(n):
        key = first_lane(splat_load(keys, i, i64, -1)) ^ flip
        store_first(order, i, splat(i, i64), i64, -1)
        for digit in range(digits):
            slot = digit * 256 + (key >> 8 * digit & 255)
            store_first(counts, slot, splat_load(counts, slot, i64, -1) + 1, i64, -1)
    probe = first_lane(splat_load(keys, 0, i64, -1)) ^ flip
    for digit in range(digits):
        if first_lane(splat_load(counts, digit * 256 + (probe >> 8 * digit & 255), i64, -1)) < n:
            total = 0
            for slot in range(digit * 256, digit * 256 + 256):
                here = first_lane(splat_load(counts, slot, i64, -1))
                store_first(counts, slot, splat(total, i64), i64, -1)
                total = total + here
            for i in range(n):
                key = first_lane(splat_load(keys, i, i64, -1))
                slot = digit * 256 + ((key ^ flip) >> 8 * digit & 255)
                place = first_lane(splat_load(counts, slot, i64, -1))
                store_first(counts, slot, splat(place + 1, i64), i64, -1)
                store_first(keys_to, place, splat(key, i64), i64, -1)
                store_first(order_to, place, splat_load(order, i, i64, -1), i64, -1)
            other = keys
            keys = keys_to
            keys_to = other
            other = order
            order = order_to
            order_to = other
    if address(order) != address(result):
        for i in range(0, n, 16):
            store(result, i, load(order, i, i64, -1), i64, -1)
    return 0
""",
)

_EMITTERS: dict[str, Callable[[Kernel, Node], Code]] = {
    **emit_linalg.EMITTERS,
    "sort": _sort,
    "argsort": _sort,
    "top_k": _top_k,
    "random_bits": _random_bits,
    **dict.fromkeys(STEPS, cumulative),
}
