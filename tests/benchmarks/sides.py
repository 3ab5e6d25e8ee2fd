"""The processes of the benchmark: one for each way to run a workload, asked line by line (see serve.py)."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
#: The ways to run a workload: the module and its table of workloads.
WAYS = {
    "graphc": ("side_graphc", "WORKLOADS"),
    "torch": ("side_torch", "WORKLOADS"),
    "torch other": ("side_torch", "OTHER"),
    "torch.compile": ("side_torch", "COMPILED"),
    "jax": ("side_jax", "WORKLOADS"),
    "pytensor": ("side_pytensor", "WORKLOADS"),
}
#: Workloads of the ways that have not all of them.
ONLY: dict[str, Sequence[str]] = {
    "torch other": ("lstm", "lenet", "resnet"),
    "pytensor": ("tiny", "mlp-sgd", "mlp-adam", "chain", "layernorm"),
}
PATIENCE = 600.0  # seconds that an answer may take


def ways(name: str, pythons: dict[str, str]) -> Iterator[str]:
    """Those that have a workload, of the ways in ``pythons``."""
    return (way for way in WAYS if way in pythons and (way not in ONLY or name in ONLY[way]))


class Refused(RuntimeError):
    """A side cannot run a workload; ``details`` is its traceback."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class Side:
    """The process of one way to run a workload, with as many threads for all; ``env`` is added to its environment."""

    def __init__(
        self, way: str, python: str, threads: int, dtype: str = "float32", env: dict[str, str] | None = None
    ) -> None:
        self.way = way
        module, self.table = WAYS[way]
        self.process = subprocess.Popen(
            [python, str(HERE / "serve.py"), module, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=HERE,
            env=os.environ | environment(threads, dtype) | (env or {}),
        )

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        line = ""
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
            if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
                self.process.kill()
                raise Refused(f"{self.way}: no answer in {PATIENCE:.0f} s")
            line = self.process.stdout.readline()
        except BrokenPipeError:
            pass
        if not line:
            raise Refused(f"{self.way}: its process ended with {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(f"{self.way}: {answer['error']}", answer["traceback"])
        return answer

    def start(self, name: str, sizes: dict[str, Any], dtype: str, count: int) -> dict[str, Any]:
        return self.ask("start", name=name, table=self.table, sizes=sizes, dtype=dtype, count=count)

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def environment(threads: int, dtype: str) -> dict[str, str]:
    """The same number of threads for all; serve.py also binds its process to as many cores."""
    found = {"GRAPHC_THREADS": str(threads), "PYTHONPATH": str(HERE.parents[1])}
    found |= {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
    if threads == 1:
        found["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    if dtype == "float64":
        found["JAX_ENABLE_X64"] = "1"
    return found


def caches(folder: str) -> dict[str, str]:
    """Every framework's compilation cache in ``folder``."""
    return {
        "GRAPHC_CACHE_DIR": os.path.join(folder, "graphc"),
        "JAX_COMPILATION_CACHE_DIR": os.path.join(folder, "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TORCHINDUCTOR_CACHE_DIR": os.path.join(folder, "inductor"),
    }
