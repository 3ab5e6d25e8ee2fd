"""What is known of an array without its numbers: shape, size, types, memory; and what a traced array cannot tell."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from graphc import ops
from graphc.leaks import UnsupportedError, refuse
from graphc.numpy.indexing import view_of
from graphc.numpy.shapes import reshape
from graphc.numpy.tables import element_of, property_, traces
from graphc.tracing import METHODS, Tracer, View, element_type, is_tracer, to_tracer, weak_kind, wrap
from graphc.types import TensorType, bool_


@traces(np.can_cast)
def can_cast(from_: Any, to: Any, casting: str = "safe") -> bool:
    if weak_kind(from_) is not None and not is_tracer(from_):
        raise TypeError(
            "can_cast() does not support Python ints, floats, and complex because the result used to depend on the value."
        )
    have = element_type(from_).numpy
    want = element_type(to).numpy if is_tracer(to) else to
    return bool(np.can_cast(have, want, casting))  # type: ignore[arg-type]


@traces(np.min_scalar_type)
def min_scalar_type(a: Any, /) -> np.dtype:
    """That of an array. The smallest type that holds a scalar depends on its value."""
    x = to_tracer(a)
    if x.ndim == 0 and x.dtype.kind != "b":
        refuse("np.min_scalar_type of a traced scalar depends on its value", "write x.dtype for the type that it has")
    return x.dtype


@traces(np.common_type)
def common_type(*arrays: Any) -> type:
    return np.common_type(*[np.empty(0, element_type(a).numpy) for a in arrays])


@traces(np.may_share_memory)
def may_share_memory(a: Any, b: Any, /, max_work: Any = None) -> bool:
    """Whether both are views of one array."""
    return is_tracer(a) and is_tracer(b) and root_of(a) is root_of(b)


@traces(np.shares_memory)
def shares_memory(a: Any, b: Any, /, max_work: Any = None) -> bool:
    """False for views of different arrays, True for one array; of two views of one array it is not known."""
    if not may_share_memory(a, b):
        return False
    if a is b or not isinstance(a, View) or not isinstance(b, View):
        return bool(a.size and b.size)
    raise UnsupportedError("np.shares_memory of two views of one traced array is not traced; np.may_share_memory is")


def root_of(x: Tracer) -> Tracer:
    return x._root if isinstance(x, View) else x


# ------------------------------------------------------------------------------------------------ memory


def view(x: Tracer, dtype: Any = None, type: Any = None) -> Tracer:
    """``x.view(dtype)``: the same bytes read as another type, for whole numbers of one size, and complex as pairs of floats."""
    if type is not None or isinstance(dtype, builtin_type) and issubclass(dtype, np.ndarray):
        raise UnsupportedError("x.view(type) is not traced: a traced array has no subclasses")
    have, want = x._node.type.dtype, x._node.type.dtype if dtype is None else element_of(dtype)
    if want is have:
        return view_of(x, lambda base: base, lambda base, value: value)
    whole = have.kind in "biu" and want.kind in "iu" and have.itemsize == want.itemsize
    if whole and have is not bool_:
        return view_of(x, lambda base: ops.convert(base, want), lambda base, value: ops.convert(value, have))
    if whole:
        return view_of(x, lambda base: ops.convert(base, want), None)
    if have.kind == "c" and want.kind == "f" and have.itemsize == 2 * want.itemsize:
        if x.ndim == 0:
            raise ValueError("Changing the dtype of a 0d array is only supported if the itemsize is unchanged")
        parts = np.stack([x.real, x.imag], axis=-1)
        return reshape(parts, (*x.shape[:-1], 2 * x.shape[-1]))
    refuse(
        f"x.view({want}) of a traced {x._node.type} reads the bytes of its numbers as another type",
        "write x.astype(...) to convert the numbers, or take the view outside the traced function",
    )


builtin_type = type
METHODS["view"] = view
METHODS["compare.answer"] = lambda x, value: wrap(ops.full(TensorType(bool_, x.shape), value))


def refused(name: str, what: str, remedy: str, attribute: bool = False) -> None:
    """Let ``x.name`` (or calling it) raise with the remedy."""

    def refuse_it(x: Tracer, *_: Any, **__: Any) -> NoReturn:
        refuse(f"{what} of a traced {x._node.type}", remedy)

    if attribute:
        property_(name)(refuse_it)
    else:
        METHODS[name] = refuse_it


_LAYOUT = "nothing is known of the memory of a traced array; take it of the array outside the traced function"
for _name in ("strides", "flags", "data", "ctypes", "base"):
    refused(_name, f"the attribute {_name}", _LAYOUT, attribute=True)
refused("setflags", "setflags()", _LAYOUT)
refused(
    "nonzero",
    "nonzero()",
    "its shape depends on data: write np.where(mask, x, y), or graphc.numpy.nonzero(x, size=n) for a fixed number of places",
)
refused("resize", "resize() in place", "write x = np.resize(x, shape), which repeats the elements, or np.pad(x, ...)")
for _name in ("tofile", "dump", "dumps", "getfield", "setfield", "byteswap"):
    if hasattr(np.ndarray, _name):
        refused(_name, f"{_name}()", "return the array from the function and do it outside")
property_("device")(lambda x: "cpu")
METHODS["to_device"] = lambda x, device, /, *, stream=None: x
