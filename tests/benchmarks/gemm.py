"""Generated contraction kernels against one thread of OpenBLAS, at shapes of training steps.

Both run in turn in one process; medians. ``python tests/benchmarks/gemm.py [f32|f64]``
"""

from __future__ import annotations

import ctypes
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from emit_calls import Compiled, body, kernel  # noqa: E402

from graphc import ops, types  # noqa: E402
from graphc.backends.cpu import lapack  # noqa: E402

#: name, rows, columns, depth, whether the left and the right operand are transposes of what lies in memory
SHAPES = (
    ("forward", 128, 512, 784, False, False),
    ("weight gradient", 784, 512, 128, True, False),
    ("input gradient", 128, 512, 512, False, True),
    ("projection", 2048, 384, 128, False, False),
    ("recurrent step", 32, 512, 128, False, False),
    ("classifier", 128, 10, 512, False, False),
    ("one row", 1, 512, 784, False, False),
    ("one row, transposed", 1, 512, 784, False, True),
    ("long depth", 512, 512, 4096, True, False),
    ("square", 1024, 1024, 1024, False, False),
)
CBLAS_ROWS, PLAIN, TRANSPOSED = 101, 111, 112


def openblas(
    element: types.DType, x: np.ndarray, y: np.ndarray, out: np.ndarray, tx: bool, ty: bool
) -> Callable[[], None]:
    """The same product by OpenBLAS, as a call without arguments."""
    kind, scalar = ("s", ctypes.c_float) if element is types.f32 else ("d", ctypes.c_double)
    gemm = lapack.function(f"scipy_cblas_{kind}gemm")
    (m, n), k = out.shape, x.shape[0] if tx else x.shape[1]
    a, b, c = (ctypes.c_void_p(v.ctypes.data) for v in (x, y, out))
    ways = (TRANSPOSED if tx else PLAIN, TRANSPOSED if ty else PLAIN)
    return lambda: gemm(CBLAS_ROWS, *ways, m, n, k, scalar(1), a, x.shape[1], b, y.shape[1], scalar(0), c, n)


def measure(calls: tuple[Callable[[], object], ...], seconds: float = 0.4) -> list[float]:
    """Median seconds of each call, all in turn."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times[0]) < 7:
        for call, found in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]


def main() -> None:
    element = types.DTYPES[sys.argv[1] if len(sys.argv) > 1 else "f32"]
    rng = np.random.default_rng(0)
    print(f"{'':20s} {'rows x columns x depth':>22s} {'OpenBLAS':>9s} {'graphc':>9s}  GFLOP/s, one thread of each")
    for name, m, n, k, tx, ty in SHAPES:
        x = rng.standard_normal((k, m) if tx else (m, k)).astype(element.numpy)
        y = rng.standard_normal((n, k) if ty else (k, n)).astype(element.numpy)
        out, check = np.empty((m, n), element.numpy), np.empty((m, n), element.numpy)
        contract = ((0 if tx else 1,), (1 if ty else 0,))
        graph = body(
            lambda a, b, contract=contract: ops.dot(a, b, batch=((), ()), contract=contract),
            *(types.TensorType(element, v.shape) for v in (x, y)),
        )
        call = Compiled(kernel(graph, "contraction")).bind(x, y, out)
        blas, ours = measure((openblas(element, x, y, check, tx, ty), call))
        assert np.allclose(out, check, atol=1e-3)
        flops = 2e-9 * m * n * k
        print(f"{name:20s} {f'{m} x {n} x {k}':>22s} {flops / blas:9.1f} {flops / ours:9.1f}  ratio {blas / ours:.2f}")


if __name__ == "__main__":
    main()
