"""Emitter of linear algebra kernels: LAPACK and BLAS, one matrix one unit. Operands lie contiguous.

LAPACK's matrices are stored by columns. Where that is not the same as a transposed problem, a matrix is copied transposed
into the thread's scratch, factored there, and copied back: signs are then the same as NumPy's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from graphc.backends.cpu.codegen import LANES, Code, Emission, dtype_name
from graphc.backends.cpu.emit_loops import ragged
from graphc.backends.cpu.emit_segment import bits
from graphc.backends.cpu.loops import Point, load_from, store_to
from graphc.ir import Node
from graphc.passes.schedule import Kernel
from graphc.types import DType, f64

LINALG_ERROR = 2  # the error code of LinAlgError
BLOCK = 64  # columns that LAPACK works on at once, at most


def _cholesky(kernel: Kernel, node: Node) -> Code:
    """Copy the lower triangle, zeros above it, and factor it in place; one matrix is one unit."""
    dtype, n = node.type.dtype, node.type.shape[-1]
    name, result = dtype_name(dtype), len(kernel.body.inputs)
    argument = kernel.body.inputs.index(node.inputs[0])
    count = node.type.size // (n * n)
    e = Emission(kernel, f"cholesky of {name}")
    x, out, size = e.pointer(argument), e.pointer(result), e.word(n, "n")
    e.line(f"first, last = share({e.word(count, 'matrices')}, 1, thread, threads)")
    with e.block("for matrix in range(first, last):"):
        with e.block(f"for row in range({size}):"):
            e.line(f"at = (matrix * {size} + row) * {size}")
            with e.block(f"for j in range(0, {size}, {LANES}):"):
                e.line(f"v = load_masked({x}, at + j, {name}, {e.scope(argument)}, min(row + 1, {size}) - j)")
                e.line(f"store_masked({out}, at + j, v, {name}, {e.scope(result)}, {size} - j)")
        e.line(f"info = cholesky_factor(advance({out}, matrix * {size} * {size}, {name}), {size}, {name})")
        with e.block("if info != 0:"):
            e.line(f"return ({LINALG_ERROR} << 32) | ({e.errors()} + {e.numbers[node]})")
    return e.code(count, count * (n * n * 0.5 + n**3 / 3 * _flop(dtype)))


def _triangular_solve(kernel: Kernel, node: Node) -> Code:
    """Copy the right-hand side and solve in place; one matrix is one unit."""
    dtype, (rows, columns) = node.type.dtype, node.type.shape[-2:]
    name, result = dtype_name(dtype), len(kernel.body.inputs)
    a, b = (kernel.body.inputs.index(x) for x in node.inputs)
    order = node.inputs[0].type.shape[-1]
    count = node.type.size // (rows * columns)
    e = Emission(kernel, f"triangular_solve of {name}")
    e.word(order, "order")
    e.word(rows, "rows")
    e.word(columns, "columns")
    flags = ", ".join(e.word(int(node[flag]), flag) for flag in ("left_side", "lower", "transpose", "unit_diagonal"))
    e.line(f"first, last = share({e.word(count, 'matrices')}, 1, thread, threads)")
    with e.block("for matrix in range(first, last):"):
        e.line("base = matrix * rows * columns")
        for lanes in ragged(e, "j", 0, "rows * columns"):
            point = Point(("base", "j"), 1, lanes)
            e.line(f"v = {load_from(e.pointer(b), (1, 1), bits(dtype), e.scope(b), point)}")
            e.line(store_to(e.pointer(result), (1, 1), "v", bits(dtype), e.scope(result), point))
        matrix = f"advance({e.pointer(a)}, matrix * order * order, {name})"
        e.line(
            f"triangular_solve({matrix}, advance({e.pointer(result)}, base, {name}), rows, columns, {flags}, {name})"
        )
    return e.code(count, count * (rows * columns * (0.2 + order * _flop(dtype))))


def _flop(dtype: DType) -> float:
    """Nanoseconds of a multiplication and addition in a library routine."""
    return 0.04 if dtype is f64 else 0.02


# ------------------------------------------------------------------------------------------------ factorisations


def _fail(e: Emission, node: Node, condition: str) -> None:
    with e.block(f"if {condition}:"):
        e.line(f"return ({LINALG_ERROR} << 32) | ({e.errors()} + {e.numbers[node]})")


def _transposed(
    e: Emission, name: str, source: tuple[str, str, int], target: tuple[str, str, int], rows: str, columns: str
) -> None:
    """Write the transpose of the row-major rows x columns matrix ``source``: pointers, first elements, alias scopes."""
    (x, x_base, x_scope), (y, y_base, y_scope) = source, target
    with e.block(f"for line in range({columns}):"), e.block(f"for j in range(0, {rows}, {LANES}):"):
        e.line(f"v = load_strided({x}, {x_base} + j * {columns} + line, {columns}, {name}, {x_scope}, {rows} - j)")
        e.line(f"store_masked({y}, {y_base} + line * {rows} + j, v, {name}, {y_scope}, {rows} - j)")


class _Factorisation:
    """What the factorisations share: the emission, the operand, the results, their alias scopes."""

    def __init__(self, kernel: Kernel, node: Node) -> None:
        self.node, self.kernel = node, kernel
        self.x = node.inputs[0].type
        *lead, self.m, self.n = self.x.shape
        self.count = math.prod(lead)
        self.name = dtype_name(self.x.dtype)
        self.e = Emission(kernel, f"{node.op.name} of {self.name}")
        self.argument = kernel.body.inputs.index(node.inputs[0])
        self.e.word(self.m, "m")
        self.e.word(self.n, "n")

    def room(self, elements: int, itemsize: int = 0) -> str:
        return self.e.scratch(max(elements, 1) * (itemsize or self.x.dtype.itemsize))

    def operand(self) -> tuple[str, str, int]:
        return self.e.pointer(self.argument), "matrix * m * n", self.e.scope(self.argument)

    def result(self, k: int, size: str) -> tuple[str, str, int]:
        position = len(self.kernel.body.inputs) + k
        return self.e.pointer(position), f"matrix * {size}", self.e.scope(position)

    def matrices(self) -> str:
        self.e.line(f"first, last = share({self.e.word(self.count, 'matrices')}, 1, thread, threads)")
        return "for matrix in range(first, last):"

    def code(self, flops: float) -> Code:
        each = 2 * self.m * self.n + flops * _flop(self.x.dtype)
        return self.e.code(self.count, self.count * each)


def _lu(kernel: Kernel, node: Node) -> Code:
    f = _Factorisation(kernel, node)
    e, name, n = f.e, f.name, f.n
    a, pivots = f.room(n * n), f.room(n, 4)
    factors, (order, first, scope), (sign, _, sign_scope) = f.result(0, "n * n"), f.result(1, "n"), f.result(2, "1")
    with e.block(f.matrices()):
        _transposed(e, name, f.operand(), (a, "0", -1), "m", "n")
        e.line("sign = 1")
        with e.block("if n > 0:"):
            e.line(f"info = getrf(n, {a}, {pivots}, {name})")
        _transposed(e, name, (a, "0", -1), factors, "n", "m")
        with e.block(f"for i in range(0, n, {LANES}):"):
            e.line(f"store_masked({order}, {first} + i, lanes(i), i64, {scope}, n - i)")
        with e.block("for i in range(n):"):
            e.line(f"other = first_lane(splat_load({pivots}, i, i32, -1)) - 1")
            with e.block("if other != i:"):
                e.line("sign = 0 - sign")
                e.line(f"mine = splat_load({order}, {first} + i, i64, {scope})")
                e.line(f"theirs = splat_load({order}, {first} + other, i64, {scope})")
                e.line(f"store_first({order}, {first} + i, theirs, i64, {scope})")
                e.line(f"store_first({order}, {first} + other, mine, i64, {scope})")
        e.line(f"store_first({sign}, matrix, cast(splat(sign, i64), {name}), {name}, {sign_scope})")
    return f.code(n**3 / 3)


def _nonsingular(kernel: Kernel, node: Node) -> Code:
    f = _Factorisation(kernel, node)
    e, name = f.e, f.name
    (x, base, scope), (out, _, out_scope) = f.operand(), f.result(0, "m * n")
    with e.block(f.matrices()):
        with e.block("for i in range(n):"):
            _fail(e, node, f"any_lane(splat_load({x}, {base} + i * (n + 1), {name}, {scope}) == 0.0)")
        with e.block(f"for j in range(0, m * n, {LANES}):"):
            e.line(f"v = load_masked({x}, {base} + j, {name}, {scope}, m * n - j)")
            e.line(f"store_masked({out}, {base} + j, v, {name}, {out_scope}, m * n - j)")
    return f.code(0)


def _qr(kernel: Kernel, node: Node) -> Code:
    f = _Factorisation(kernel, node)
    e, name, m, n = f.e, f.name, f.m, f.n
    k = m if node["full"] else min(m, n)
    e.word(k, "k")
    reflectors, lwork = e.word(min(m, n), "reflectors"), e.word(BLOCK * max(m, n), "lwork")
    a, tau, work = f.room(m * max(n, k)), f.room(min(m, n)), f.room(BLOCK * max(m, n))
    r, base, scope = f.result(1, "k * n")
    with e.block(f.matrices()):
        _transposed(e, name, f.operand(), (a, "0", -1), "m", "n")
        e.line(f"info = geqrf(m, n, {a}, {tau}, {work}, {lwork}, {name})")
        with e.block("for i in range(k):"), e.block(f"for j in range(0, n, {LANES}):"):
            e.line(f"v = load_strided({a}, j * m + i, m, {name}, -1, n - j)")
            e.line("v = select(lanes(j) >= i, v, 0.0)")
            e.line(f"store_masked({r}, {base} + i * n + j, v, {name}, {scope}, n - j)")
        e.line(f"info = orgqr(m, k, {reflectors}, {a}, {tau}, {work}, {lwork}, {name})")
        _transposed(e, name, (a, "0", -1), f.result(0, "m * k"), "k", "m")
    return f.code(2 * m * n * k + m * k * k)


def _eigh(kernel: Kernel, node: Node) -> Code:
    """Eigenvalues, and vectors where they are a result."""
    f = _Factorisation(kernel, node)
    e, name, n, vectors = f.e, f.name, f.n, node.op.name == "eigh"
    size, places = 1 + 6 * n + 2 * n * n + BLOCK * n, 3 + 5 * n
    a, work, integers = f.room(n * n), f.room(size), f.room(places, 4)
    lower, lwork, liwork = e.word(int(node["lower"]), "lower"), e.word(size, "lwork"), e.word(places, "liwork")
    job = e.word(ord("V" if vectors else "N"), "job")
    values, base, _ = f.result(0, "n")
    with e.block(f.matrices()):
        _transposed(e, name, f.operand(), (a, "0", -1), "m", "n")
        target = f"advance({values}, {base}, {name})"
        e.line(f"info = syevd({job}, {lower}, n, {a}, {target}, {work}, {lwork}, {integers}, {liwork}, {name})")
        _fail(e, node, "info != 0")
        if vectors:
            _transposed(e, name, (a, "0", -1), f.result(1, "n * n"), "n", "n")
    return f.code((9 if vectors else 1.5) * n**3)


def _svd(kernel: Kernel, node: Node) -> Code:
    """Singular values, and vectors where they are a result."""
    f = _Factorisation(kernel, node)
    e, name, m, n, vectors = f.e, f.name, f.m, f.n, node.op.name == "svd"
    small, large = min(m, n), max(m, n)
    columns, rows = (0, 1) if not vectors else (m, n) if node["full"] else (small, small)
    size = 4 * small * small + 7 * small + large + BLOCK * (m + n)
    a, u, vt = f.room(m * n), f.room(m * columns), f.room(rows * n)
    work, integers = f.room(size), f.room(8 * small, 4)
    job = e.word(ord("N" if not vectors else "A" if node["full"] else "S"), "job")
    e.word(rows, "rows")
    e.word(small, "small")
    lwork = e.word(size, "lwork")
    s, base, _ = f.result(1 if vectors else 0, "small")
    with e.block(f.matrices()):
        _transposed(e, name, f.operand(), (a, "0", -1), "m", "n")
        values = f"advance({s}, {base}, {name})"
        e.line(f"info = gesdd({job}, m, n, {a}, {values}, {u}, {vt}, rows, {work}, {lwork}, {integers}, {name})")
        _fail(e, node, "info != 0")
        if vectors:
            e.word(columns, "columns")
            _transposed(e, name, (u, "0", -1), f.result(0, "m * columns"), "columns", "m")
            _transposed(e, name, (vt, "0", -1), f.result(2, "rows * n"), "n", "rows")
    return f.code((12 if vectors else 3) * large * small * small)


EMITTERS: dict[str, Callable[[Kernel, Node], Code]] = {
    "cholesky": _cholesky,
    "triangular_solve": _triangular_solve,
    "lu": _lu,
    "nonsingular": _nonsingular,
    "qr": _qr,
    "eigh": _eigh,
    "eigvalsh": _eigh,
    "svd": _svd,
    "svdvals": _svd,
}
