"""The machine that code is compiled for, and the keys of everything that code generation depends on. Needs no Numba."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import sys
from collections.abc import Iterable
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np

from graphc import config

#: What a host must have to run code for the levels of x86-64.
LEVELS = {
    "x86-64-v2": ("sse4.2", "popcnt"),
    "x86-64-v3": ("avx2", "bmi2", "fma", "f16c"),
    "x86-64-v4": ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
}


def cpu_name() -> str | None:
    """The CPU to compile for as the code generator takes it: None is this machine's.

    Raises ConfigError where GRAPHC_CPU asks for instructions that this machine does not have: code runs where it was made.
    """
    name = config.get(config.CPU)
    if name == "host":
        return None
    missing = [feature for feature in LEVELS.get(name, ()) if not host_features().get(feature)]
    if missing:
        raise config.ConfigError(f"GRAPHC_CPU={name!r}: this machine has no {', '.join(missing)}")
    return name


@functools.cache
def host_features() -> dict[str, bool]:
    llvm.initialize_native_target()
    return dict(llvm.get_host_cpu_features())


@functools.cache
def _machine(cpu: str) -> dict[str, str]:
    host_features()
    host = cpu == "host"
    return {
        "triple": llvm.get_process_triple(),
        "cpu": llvm.get_host_cpu_name() if host else cpu,
        "features": llvm.get_host_cpu_features().flatten() if host else "",
        "numba_version": version("numba"),
        "llvmlite_version": version("llvmlite"),
        "generator": generator_key(),
    }


def machine() -> dict[str, str]:
    """What machine code is made for and by, as fields of a fingerprint."""
    return dict(_machine(config.get(config.CPU)))


def machine_key() -> str:
    """The same as one text: code with another key is compiled anew."""
    return "; ".join(machine().values())


def lowering() -> dict[str, str]:
    """What else lies between a traced graph and machine code, as fields of a fingerprint."""
    disabled: tuple[str, ...] = config.get(config.DISABLE)
    return {
        "graphc_code": lowering_key(),
        "numpy_version": np.__version__,  # folds constants
        "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
        "disabled_passes": ", ".join(disabled),
    }


@functools.cache
def generator_key() -> str:
    """A hash of the code generator itself."""
    return hash_of(Path(__file__).parent.glob("**/*.py"))


@functools.cache
def lowering_key() -> str:
    """A hash of the sources between a traced graph and machine code: ops, passes and this backend."""
    import graphc
    import graphc.passes

    backends = Path(__file__).resolve().parents[1]
    folders = (*map(Path, graphc.passes.__path__), Path(graphc.__file__).parent)
    found = (path for folder in folders for path in folder.rglob("*.py") if backends not in path.resolve().parents)
    return hash_of(found) + generator_key()


def hash_of(paths: Iterable[Path]) -> str:
    sha = hashlib.sha256()
    for path in sorted(paths):
        data = path.read_bytes()
        sha.update(f"{path.name} {len(data)}\n".encode())
        sha.update(data)
    return sha.hexdigest()[:16]


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
