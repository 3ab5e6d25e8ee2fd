"""The CPU runtime: everything that runs between a Python call and the kernels.

It needs NumPy, llvmlite and ctypes alone: a saved executable is loaded and called without Numba and without the
compiler. `TapeBuilder` makes a `Program`, `load_objects` links its kernels, `Executable` calls it.
"""

from __future__ import annotations

from graphc.backends.cpu.runtime.binder import Executable
from graphc.backends.cpu.runtime.builder import Advance, Call, Scalar, TapeBuilder
from graphc.backends.cpu.runtime.loader import LoadedCode, load_objects, register_symbols, undefined_symbols
from graphc.backends.cpu.runtime.objectfile import CodeError
from graphc.backends.cpu.runtime.program import Output, Program, Spec, Word

__all__ = [
    "Advance",
    "Call",
    "CodeError",
    "Executable",
    "LoadedCode",
    "Output",
    "Program",
    "Scalar",
    "Spec",
    "TapeBuilder",
    "Word",
    "load_objects",
    "register_symbols",
    "undefined_symbols",
]
