"""LAPACK and BLAS from the scipy-openblas32 wheel: the functions that library kernels call, by address.

The wheel's OpenBLAS has its own pool of threads. This process's copy is set to one: kernels split their work themselves,
and OpenBLAS chooses kernels by the size of what it is given, so that splitting would change bits.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import sys
from pathlib import Path
from typing import Any

PREFIX = "scipy_"

#: The symbols that kernels may use (Fortran's calling convention: everything by reference, 32-bit integers).
SYMBOLS = tuple(
    f"scipy_{kind}{routine}_"
    for routine in ("potrf", "trsm", "getrf", "geqrf", "orgqr", "syevd", "gesdd")
    for kind in "sd"
)


class LibraryError(ImportError):
    """OpenBLAS cannot be loaded. Says which package brings it."""


@functools.cache
def library() -> ctypes.CDLL:
    """The shared library, loaded at the first call, set to one thread. Raises LibraryError."""
    found = importlib.util.find_spec("scipy_openblas32")
    if found is None or not found.submodule_search_locations:
        raise LibraryError("linear algebra needs the package scipy-openblas32, which is not installed")
    folder = Path(found.submodule_search_locations[0])
    pattern = {"win32": "*openblas*.dll", "darwin": "*openblas*.dylib"}.get(sys.platform, "*openblas*.so*")
    files = sorted(folder.glob(f"lib/{pattern}"))
    if not files:
        raise LibraryError(f"the package scipy-openblas32 has no shared library in {folder / 'lib'}")
    loaded = ctypes.CDLL(str(files[0]))
    loaded.scipy_openblas_set_num_threads(1)
    return loaded


def function(name: str) -> Any:
    """The function ``name`` as ctypes sees it. Raises LibraryError."""
    return getattr(library(), name)


def address(name: str) -> int:
    """The address of the function ``name``. Raises LibraryError."""
    found = ctypes.cast(function(name), ctypes.c_void_p).value
    assert found is not None
    return found


@functools.cache
def register() -> None:
    """Make :data:`SYMBOLS` known to the loader of kernels. Raises LibraryError."""
    from graphc.backends.cpu.runtime import register_symbols

    register_symbols({name: address(name) for name in SYMBOLS})


def needs(symbols: tuple[str, ...]) -> bool:
    """Whether one of ``symbols`` is LAPACK's, so that :func:`register` has to be called before loading."""
    return any(name.startswith(PREFIX) for name in symbols)
