"""Element types and tensor types: the leaves of every signature.

>>> TensorType(f32, (2, 4))
f32[2, 4]
>>> TensorType(f64, ())
f64
>>> TupleType((TensorType(f32, (3,)), TensorType(i32, (3,))))
(f32[3], i32[3])
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class DType:
    """One element type. There is exactly one instance per name, so ``is`` compares.

    ``kind`` is one of ``b`` (bool), ``i``, ``u``, ``f``, ``c``; ``itemsize`` is in bytes.
    """

    name: str
    kind: str
    itemsize: int

    @functools.cached_property
    def numpy(self) -> np.dtype:
        """The NumPy dtype. ``bf16`` is ml_dtypes' and imports that package on first use."""
        if self.name == "bf16":
            import ml_dtypes

            return np.dtype(ml_dtypes.bfloat16)
        return np.dtype(_NUMPY_NAMES[self.name])

    @property
    def is_float(self) -> bool:
        return self.kind == "f"

    @property
    def is_integer(self) -> bool:
        return self.kind in "iu"

    @property
    def is_inexact(self) -> bool:
        """True where derivatives exist: real and complex floating types."""
        return self.kind in "fc"

    @property
    def real(self) -> DType:
        """The element type of the parts of a complex number; any other type is its own."""
        return {"c64": f32, "c128": f64}.get(self.name, self)

    @property
    def complex(self) -> DType:
        """The complex type whose parts have this element type, c64 for the narrow floats."""
        return self if self.kind == "c" else c128 if self is f64 else c64

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple:
        return dtype, (self.name,)


_NUMPY_NAMES = {
    "bool": "bool", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
    "f16": "float16", "f32": "float32", "f64": "float64", "c64": "complex64", "c128": "complex128",
}  # fmt: skip

bool_ = DType("bool", "b", 1)
i8, i16, i32, i64 = (DType(f"i{8 * n}", "i", n) for n in (1, 2, 4, 8))
u8, u16, u32, u64 = (DType(f"u{8 * n}", "u", n) for n in (1, 2, 4, 8))
f16, bf16, f32, f64 = DType("f16", "f", 2), DType("bf16", "f", 2), DType("f32", "f", 4), DType("f64", "f", 8)
c64, c128 = DType("c64", "c", 8), DType("c128", "c", 16)

DTYPES: dict[str, DType] = {
    d.name: d for d in (bool_, i8, i16, i32, i64, u8, u16, u32, u64, f16, bf16, f32, f64, c64, c128)
}
_BY_NUMPY_DTYPE = {np.dtype(v): DTYPES[k] for k, v in _NUMPY_NAMES.items()}
_BY_NUMPY_NAME = {v: DTYPES[k] for k, v in _NUMPY_NAMES.items()} | {"bfloat16": bf16}


def dtype(spec: object) -> DType:
    """The DType of a graphc name, a DType, or anything that ``np.dtype`` accepts.

    Raises TypeError for element types that graphc does not have (strings, objects, longdouble, datetimes).
    """
    if isinstance(spec, DType):
        return spec
    if isinstance(spec, np.dtype) and spec in _BY_NUMPY_DTYPE:
        return _BY_NUMPY_DTYPE[spec]
    if isinstance(spec, str) and spec in DTYPES:
        return DTYPES[spec]
    try:
        name = np.dtype(spec).name  # type: ignore[call-overload]
    except TypeError:
        raise TypeError(f"{spec!r} is not an element type; graphc has {', '.join(DTYPES)}") from None
    if name not in _BY_NUMPY_NAME:
        raise TypeError(f"graphc has no element type for NumPy's {name}; it has {', '.join(DTYPES)}")
    return _BY_NUMPY_NAME[name]


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type and shape. Prints as in the text form: ``f32[2, 4]``, a scalar as ``f32``."""

    dtype: DType
    shape: tuple[int, ...]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"{self.dtype.name}[{', '.join(map(str, self.shape))}]" if self.shape else self.dtype.name


@dataclass(frozen=True, slots=True)
class TupleType:
    """The type of a node with several results, read one at a time by ``item`` nodes."""

    items: tuple[TensorType, ...]

    def __repr__(self) -> str:
        inner = ", ".join(map(repr, self.items))
        return f"({inner},)" if len(self.items) == 1 else f"({inner})"


Type = TensorType | TupleType
