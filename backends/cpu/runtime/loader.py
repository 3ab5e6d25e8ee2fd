"""Linking object files into the process.

Kernels may call a short list of functions: memory and math functions of the C library, and what a caller registers
(LAPACK). Everything that an object needs is looked up in that list before LLVM sees the object.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Mapping, Sequence

import llvmlite.binding as llvm

from graphc.backends.cpu.runtime.objectfile import CodeError, Symbols, read_symbols, without_unwind_tables

MEMORY_FUNCTIONS = ("memcpy", "memmove", "memset")
MATH_FUNCTIONS = tuple(
    name + suffix
    for name in (
        "acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp2 expm1 fabs floor fma "
        "fmax fmin fmod hypot ldexp lgamma log log10 log1p log2 nearbyint nextafter pow remainder rint round sin sinh "
        "sqrt tan tanh tgamma trunc"
    ).split()
    for suffix in ("", "f")
)
_C_LIBRARY = frozenset(MEMORY_FUNCTIONS + MATH_FUNCTIONS)

_provided: dict[str, int] = {}
_providing = threading.Lock()


def register_symbols(addresses: Mapping[str, int]) -> None:
    """Provides functions to all objects that are loaded from now on, such as LAPACK's: name to address.

    Raises:
        ValueError: a name stands for another function already, which loaded code may be using.
    """
    with _providing:
        for name, address in addresses.items():
            if _provided.setdefault(name, address) != address:
                raise ValueError(f"the symbol {name!r} is registered with another address")
            llvm.add_symbol(name, address)


def undefined_symbols(data: bytes) -> tuple[str, ...]:
    """The names of the symbols that an object file needs and that nobody provides: it can be loaded if there are none.

    Raises:
        CodeError: the object file is damaged, or for another machine.
    """
    return _missing(read_symbols(data))


class LoadedCode:
    """Linked object files. Their machine code lives as long as this does."""

    def __init__(self, engine: llvm.ExecutionEngine, symbols: frozenset[str]) -> None:
        self._engine = engine
        self._symbols = symbols

    def address(self, symbol: str) -> int:
        """The address of a function.

        Raises:
            CodeError: no object defines it.
        """
        if symbol not in self._symbols:
            raise CodeError(f"no object file defines {symbol!r}")
        return self._engine.get_function_address(symbol)


def load_objects(objects: Sequence[bytes]) -> LoadedCode:
    """Links object files into the process, all of them at once.

    Raises:
        CodeError: an object is damaged or for another machine, two define the same symbol, or one needs a function
            that is neither in another of the objects, nor in the C library's list, nor registered. Nothing has been
            linked then.
    """
    defined: set[str] = set()
    weak: set[str] = set()
    tables = [read_symbols(data) for data in objects]
    together = frozenset(name for symbols in tables for name in symbols.defined)
    for index, symbols in enumerate(tables):
        _check_object(index, symbols, defined, together)
        weak.update(symbols.weak)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.object_files = [without_unwind_tables(bytes(data)) for data in objects]
    for data in engine.object_files:  # kept by the engine, as LLVM reads them in place, even when it frees it
        try:
            engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(data))
        except ValueError:
            raise CodeError("LLVM cannot read the object file") from None
    engine.finalize_object()
    return LoadedCode(engine, frozenset(defined | weak))


def _check_object(index: int, symbols: Symbols, defined: set[str], together: frozenset[str]) -> None:
    missing = tuple(name for name in _missing(symbols) if name not in together)
    if missing:
        raise CodeError(f"object file {index} needs {', '.join(missing)}, which nobody provides")
    twice = defined.intersection(symbols.defined)
    if twice:
        raise CodeError(f"object file {index} defines {', '.join(sorted(twice))}, which another defines as well")
    defined.update(symbols.defined)


def _missing(symbols: Symbols) -> tuple[str, ...]:
    return tuple(name for name in symbols.undefined if name not in _provided and not _provide(name))


def _provide(name: str) -> bool:
    """Registers a function of the C library's list; False if the name is not in it."""
    if name not in _C_LIBRARY:
        return False
    function = next((getattr(library, name) for library in _c_libraries() if hasattr(library, name)), None)
    address = ctypes.cast(function, ctypes.c_void_p).value if function else None
    if address is None:
        return False
    register_symbols({name: address})
    return True


def _c_libraries() -> list[ctypes.CDLL]:
    if sys.platform == "win32":
        return [ctypes.CDLL("ucrtbase"), ctypes.CDLL("vcruntime140")]
    libraries = [ctypes.CDLL(None)]
    if sys.platform.startswith("linux"):
        try:
            libraries.append(ctypes.CDLL("libm.so.6"))
        except OSError:  # a C library that has its math functions in one piece
            pass
    return libraries


__all__ = [
    "CodeError",
    "LoadedCode",
    "MATH_FUNCTIONS",
    "MEMORY_FUNCTIONS",
    "load_objects",
    "register_symbols",
    "undefined_symbols",
]
