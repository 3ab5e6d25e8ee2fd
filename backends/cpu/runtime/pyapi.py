"""What the native code knows about CPython and NumPy: addresses of C functions, and where an array keeps what.

The layout of an array object is that of NumPy's public header (PyArrayObject_fields), which has not moved since NumPy
1.7, and checked once against real arrays: if anything is elsewhere, the runtime reads arrays through Python.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

C_CONTIGUOUS, ALIGNED, WRITEABLE = 0x1, 0x100, 0x400


def c_api(name: str) -> int:
    """The address of a function of CPython's C API."""
    address = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
    assert address is not None
    return address


@dataclass(frozen=True)
class ObjectLayout:
    """Byte offsets: of the type in every object, of the parts of an ndarray, of the value of a float."""

    type: int
    data: int
    ndim: int
    dims: int
    descr: int
    flags: int
    float_value: int


@cache
def object_layout() -> ObjectLayout | None:
    """The layout of objects in this process; None where it is not the one that the headers describe."""
    head = object.__basicsize__
    layout = ObjectLayout(
        type=head - 8, data=head, ndim=head + 8, dims=head + 16, descr=head + 40, flags=head + 48, float_value=head
    )
    plain = sys.byteorder == "little" and ctypes.sizeof(ctypes.c_void_p) == 8
    return layout if plain and _holds(layout) else None


def _holds(layout: ObjectLayout) -> bool:
    number = 1234.5678
    if ctypes.c_double.from_address(id(number) + layout.float_value).value != number:
        return False
    return all(_describes(layout, probe) for probe in _probes())


def _probes() -> tuple[np.ndarray, ...]:
    read_only = np.arange(24, dtype=np.float32).reshape(2, 3, 4)[1]
    read_only.flags.writeable = False
    return np.empty((5, 7, 3), np.int16), read_only, np.zeros((), np.float64), np.empty((3, 4)).T


def _describes(layout: ObjectLayout, probe: np.ndarray) -> bool:
    if probe.__sizeof__() < layout.flags + 4:
        return False

    def word(offset: int) -> int:
        return ctypes.c_int64.from_address(id(probe) + offset).value

    def half(offset: int) -> int:
        return ctypes.c_int32.from_address(id(probe) + offset).value

    if (word(layout.type), word(layout.data), half(layout.ndim), word(layout.descr), half(layout.flags)) != (
        id(np.ndarray),
        probe.ctypes.data,
        probe.ndim,
        id(probe.dtype),
        probe.flags.num,
    ):
        return False
    return probe.ndim == 0 or tuple((ctypes.c_int64 * probe.ndim).from_address(word(layout.dims))) == probe.shape


_allocate_lock = ctypes.CFUNCTYPE(ctypes.c_void_p)(c_api("PyThread_allocate_lock"))
_acquire_lock = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(c_api("PyThread_acquire_lock"))
_release_lock = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(c_api("PyThread_release_lock"))
_free_lock = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(c_api("PyThread_free_lock"))


def allocate_lock(*, taken: bool = False) -> int:
    """The address of a new CPython lock, which native code and `acquire_lock` use without the GIL."""
    lock = _allocate_lock()
    if lock is None:
        raise MemoryError
    if taken:
        _acquire_lock(lock, 1)
    return lock


def acquire_lock(lock: int, *, wait: bool = True) -> bool:
    """Takes the lock and returns True; False if it is taken and `wait` is False. Releases the GIL meanwhile."""
    return bool(_acquire_lock(lock, int(wait)))


def release_lock(lock: int) -> None:
    """Gives the lock back, from any thread."""
    _release_lock(lock)


def free_lock(lock: int) -> None:
    """Frees a lock that nobody holds or waits for."""
    _free_lock(lock)


class _MethodDef(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


_METH_FASTCALL = 0x80
_method_defs: dict[int, _MethodDef] = {}


def builtin_function(address: int, owner: object) -> Callable[..., int]:
    """A builtin function whose code, with the METH_FASTCALL signature, is at `address` and whose `self` is `owner`."""
    method = _method_defs.setdefault(address, _MethodDef(b"run", address, _METH_FASTCALL, None))
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.POINTER(_MethodDef), ctypes.py_object, ctypes.c_void_p]
    return make(ctypes.byref(method), owner, None)
