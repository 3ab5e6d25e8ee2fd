"""The machine that code is compiled for, and the key of everything that code generation depends on. Needs no Numba."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from pathlib import Path

import llvmlite.binding as llvm

from graphc import config


@functools.cache
def _key(cpu: str) -> str:
    llvm.initialize_native_target()
    triple = llvm.get_process_triple()
    if cpu == "host":
        return f"{triple} {llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"
    return f"{triple} {cpu}"


def cpu_name() -> str | None:
    """The CPU to compile for as the code generator takes it: None is this machine's."""
    name = config.get(config.CPU)
    return None if name == "host" else name


def target_key() -> str:
    """Triple, CPU and features of what code is compiled for."""
    return _key(config.get(config.CPU))


@functools.cache
def generator_key() -> str:
    """A hash of the code generator itself and the versions of what it stands on."""
    sha = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("**/*.py")):
        sha.update(path.read_bytes())
    for package in ("numba", "llvmlite"):
        try:
            sha.update(f"{package} {importlib.metadata.version(package)}".encode())
        except importlib.metadata.PackageNotFoundError:
            sha.update(f"{package} none".encode())
    return sha.hexdigest()[:16]


@functools.cache
def lowering_key() -> str:
    """A hash of everything between a traced graph and machine code: ops, passes and this backend."""
    sha = hashlib.sha256(generator_key().encode())
    root = Path(__file__).resolve().parents[1]
    import graphc
    import graphc.passes

    for folder in (*graphc.passes.__path__, Path(graphc.__file__).parent):
        for path in sorted(Path(folder).rglob("*.py")):
            if root not in path.parents:
                sha.update(path.read_bytes())
    return sha.hexdigest()[:16]
