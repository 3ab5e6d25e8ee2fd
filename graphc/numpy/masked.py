"""``x[mask]`` of a traced mask: how many elements it has depends on data, so it is kept as the elements and the mask.

What needs neither their number nor their order works: reductions (``x[mask].mean()``), elementwise functions with scalars and
with what the same mask selects of other arrays (``((x[m] - y[m]) ** 2).sum()``), and assignment where the same mask holds
(``x[m] *= 2``, ``x[m] = y[m] + 1``). Everything else is refused with the remedy.

Elements that the mask leaves out are replaced by 1, in every operand, before anything is computed of them: neither a value nor
a derivative of ``np.log(x[x > 0]).sum()`` sees the log of a negative number.

The maximum of no elements is the lowest number of the type (and the minimum the highest): that there are none is not known
while tracing, when NumPy would raise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from graphc import ops
from graphc.ir import Node
from graphc.leaks import UnsupportedError, refuse
from graphc.location import where
from graphc.numpy.indexing import fitted, mask_axes
from graphc.numpy.indices import Selection
from graphc.numpy.tables import axes_of, given
from graphc.tracing import (
    FUNCTIONS,
    METHODS,
    Tracer,
    apply_ufunc,
    cast_back,
    current_trace,
    is_tracer,
    is_weak_scalar,
    to_node,
    wrap,
)
from graphc.types import DType, bool_, i64


class MaskedSelection(Tracer):
    """The elements of an array where a mask holds.

    ``_values`` holds all elements, those that the mask leaves out replaced by 1, along axis ``_axis``; ``_mask`` is one bool per
    place of that axis.
    """

    __slots__ = ("_values", "_mask", "_axis", "_made")

    def __init__(self, values: Tracer, mask: Node, axis: int, made: str) -> None:
        trace = current_trace()
        assert trace is not None
        self._trace = trace
        self._weak = False
        self._values = values
        self._mask = mask
        self._axis = axis
        self._made = made

    # -- what is not known
    @property
    def _node(self) -> Node:  # type: ignore[override]
        refuse(
            f"indexing by a boolean mask has a shape that depends on data: {describe(self)}, is used as an array",
            "write np.where(mask, x, 0) and reduce it, or index with integers; x[mask].sum() and other reductions, "
            "np.exp(x[mask]), x[mask] - y[mask] and x[mask] = v are possible",
        )

    @property
    def shape(self) -> tuple[int, ...]:
        refuse(
            f"the shape of {describe(self)}, depends on data",
            "write np.count_nonzero(mask) for the number of selected elements",
        )

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape)

    def __len__(self) -> int:
        return len(self.shape)

    def __iter__(self) -> Any:
        return iter(self.shape)

    # -- what is known
    @property
    def dtype(self) -> np.dtype:
        return self._values.dtype

    @property
    def ndim(self) -> int:
        return self._values.ndim

    @property
    def size(self) -> Any:
        """How many elements are selected, as a traced number."""
        count = ops.reduce_sum(ops.convert(self._mask, i64), axes=(0,))
        return wrap(count) * math.prod(self._others())

    def _others(self) -> tuple[int, ...]:
        """The extents of the axes that the mask does not select along."""
        shape = self._values.shape
        return shape[: self._axis] + shape[self._axis + 1 :]

    @property
    def itemsize(self) -> int:
        return self._values.itemsize

    def __repr__(self) -> str:
        return f"MaskedSelection({self._values._node.type} where a mask holds along axis {self._axis})"

    def __getattr__(self, name: str) -> Any:
        function = _METHODS.get(name)
        if function is not None:
            return lambda *args, **kwargs: function(self, *args, **kwargs)
        if name.startswith("_"):
            raise AttributeError(f"x[mask] has no attribute {name!r}")
        refuse_function(f"the method or attribute {name}", self)

    def __getitem__(self, index: Any) -> Any:
        return self._node

    def __setitem__(self, index: Any, value: Any) -> None:
        self._node  # noqa: B018

    # -- arithmetic
    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        if method == "reduce" and out is None:
            return reduced(ufunc_reduction(ufunc), self, kwargs.pop("axis", 0), kwargs)
        if ufunc is np.matmul and method == "__call__" and out is None and not kwargs:
            return inner(*inputs)
        if method != "__call__" or out is not None or kwargs or ufunc.signature is not None:
            refuse_function(f"np.{ufunc.__name__}{'' if method == '__call__' else '.' + method}", self)
        return elementwise(lambda *xs: apply_ufunc(ufunc, *xs), f"np.{ufunc.__name__}", inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        name = f"np.{function.__name__}"
        if function in _REDUCTIONS:
            return reduce_call(function, *args, **kwargs)
        if function in _ELEMENTWISE:
            return elementwise(lambda *xs: FUNCTIONS[function](*xs, **kwargs), name, args)
        if function in _FUNCTIONS:
            return _FUNCTIONS[function](*args, **kwargs)
        refuse_function(name, self)

    def _change(self, ufunc: Any, other: Any) -> MaskedSelection:
        """``x[mask] += v``: the selection is a copy of its own, which is changed."""
        changed = elementwise(lambda *xs: apply_ufunc(ufunc, *xs), f"np.{ufunc.__name__}", (self, other))
        self._values = wrap(cast_back(ufunc, self._values, changed._values))
        return self


def describe(selection: MaskedSelection) -> str:
    return f"x[mask], of {selection._made}"


def refuse_function(name: str, selection: MaskedSelection) -> NoReturn:
    refuse(
        f"{name} of {describe(selection)}, is not traced: it may need the number or the order of the selected elements, which "
        "depend on data",
        "write it with np.where(mask, x, fill) for a fill that does not count, such as np.nan for the nan-functions",
    )


def operator_of(ufunc: Any, reflected: bool = False) -> Callable[..., Any]:
    def method(self: MaskedSelection, *others: Any) -> Any:
        values = (*others, self) if reflected else (self, *others)
        return elementwise(lambda *xs: apply_ufunc(ufunc, *xs), f"np.{ufunc.__name__}", values)

    return method


def in_place_of(ufunc: Any) -> Callable[..., Any]:
    return lambda self, other: self._change(ufunc, other)


_OPERATORS: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide, "floordiv": np.floor_divide,
    "mod": np.remainder, "pow": np.power, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "lshift": np.left_shift, "rshift": np.right_shift,
}  # fmt: skip
_COMPARISONS: dict[str, Any] = {
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
}  # fmt: skip
_UNARY: dict[str, Any] = {"neg": np.negative, "pos": np.positive, "invert": np.invert, "abs": np.absolute}

_name: str
_ufunc: Any
for _name, _ufunc in _OPERATORS.items():
    setattr(MaskedSelection, f"__{_name}__", operator_of(_ufunc))
    setattr(MaskedSelection, f"__r{_name}__", operator_of(_ufunc, reflected=True))
    setattr(MaskedSelection, f"__i{_name}__", in_place_of(_ufunc))
for _name, _ufunc in (_COMPARISONS | _UNARY).items():
    setattr(MaskedSelection, f"__{_name}__", operator_of(_ufunc))


def power(x: Any, y: Any) -> Any:
    """``x[mask] ** 2``: as for arrays, exact and in the type of x where the exponent is a number."""
    return elementwise(lambda *xs: METHODS["power"](*xs), "np.power", (x, y))


setattr(MaskedSelection, "__pow__", power)  # noqa: B010
setattr(MaskedSelection, "__rpow__", lambda self, other: power(other, self))  # noqa: B010


# ------------------------------------------------------------------------------------------------ making and assigning


def masked_selection(x: Tracer, chosen: Selection) -> MaskedSelection:
    """``x[index]`` for an index with a traced mask."""
    assert chosen.mask is not None
    held, mask = chosen.window.read(to_node(x)), to_node(chosen.mask)
    axis, shape = chosen.mask_axis, held.type.shape
    flat = ops.reshape_to(held, (*shape[:axis], mask.type.size, *shape[axis + mask.type.ndim :]))
    values = ops.move_axis(flat, axis, chosen.position)
    line = ops.reshape_to(mask, (mask.type.size,))
    return MaskedSelection(wrap(guarded(values, line, chosen.position)), line, chosen.position, where())


def guarded(values: Node, mask: Node, axis: int) -> Node:
    """``values``, 1 where the mask (along ``axis``) does not hold."""
    return ops.select(ops.broadcast(mask, values.type.shape, (axis,)), values, ops.like(values, 1))


def masked_values(chosen: Selection, value: Any, element: DType) -> Node:
    """What is assigned where the mask of ``chosen`` holds, in the shape of the window."""
    assert chosen.mask is not None
    window = chosen.window.shape
    at = mask_axes(chosen)
    count = chosen.mask.size
    rest = [n for k, n in enumerate(window) if k not in at]
    place = chosen.position
    if isinstance(value, MaskedSelection):
        flat_mask = ops.reshape_to(to_node(chosen.mask), (count,))
        if value._mask is not flat_mask or value.ndim - value._axis != len(rest) - place + 1:
            refuse(
                "what one mask selects was assigned where another mask holds: whether their numbers of elements agree depends "
                "on data",
                "write x = np.where(mask, values, x) with values of the shape of x",
            )
        node, along = to_node(value._values, element), count
    else:
        node, along = to_node(value, element), 1
        own = node.type.ndim - 1 - (len(rest) - place)
        if own >= 0 and node.type.shape[own] != 1:
            refuse(
                f"a traced array was assigned {node.type} where a mask holds: how many numbers that takes depends on data",
                "write x = np.where(mask, values, x) with values of the shape of x",
            )
    spread = ops.move_axis(fitted(node, (*rest[:place], along, *rest[place:])), place, at[0] if at else 0)
    first = at[0] if at else chosen.mask_axis
    inner = chosen.mask.shape if along == count and isinstance(value, MaskedSelection) else (1,) * len(at)
    opened = ops.reshape_to(spread, (*window[:first], *inner, *window[first + len(at) :]))
    return ops.broadcast_numpy(opened, window)


METHODS["masked_selection"] = masked_selection
METHODS["masked_values"] = masked_values


# ------------------------------------------------------------------------------------------------ elementwise


def elementwise(function: Callable[..., Any], name: str, operands: Sequence[Any]) -> Any:
    """``function`` of selections by one mask and of what broadcasts with them whatever the mask."""
    selections = [v for v in operands if isinstance(v, MaskedSelection)]
    first = selections[0]
    for other in selections[1:]:
        if other._mask is not first._mask:
            refuse(
                f"{name} of what two different masks select: whether their numbers of elements agree depends on data",
                "write np.where(mask, ..., 0) over the whole arrays",
            )
    behind = max(s.ndim - s._axis for s in selections)  # the mask's axis, counted from the last one
    if any(s.ndim - s._axis != behind for s in selections):
        refuse_function(f"{name} of selections whose axes differ, and", first)
    rank = max([np.ndim(v) for v in operands if not isinstance(v, MaskedSelection)] + [s.ndim for s in selections])
    prepared = [
        v._values if isinstance(v, MaskedSelection) else operand_beside(v, first, behind, name) for v in operands
    ]
    result = function(*prepared)
    axis = rank - behind
    results = result if isinstance(result, tuple) else (result,)
    wrapped = tuple(MaskedSelection(r, first._mask, axis, first._made) for r in results)
    return wrapped if isinstance(result, tuple) else wrapped[0]


def operand_beside(value: Any, selection: MaskedSelection, behind: int, name: str) -> Any:
    """Another operand: one that does not vary along the mask's axis, harmless where the mask does not hold."""
    if value is None or is_weak_scalar(value) or isinstance(value, (np.generic, str)):
        return value
    ndim = np.ndim(value)
    if ndim >= behind and np.shape(value)[ndim - behind] != 1:
        refuse(
            f"{name} of {describe(selection)}, and an array of shape {np.shape(value)}: whether they broadcast depends on data",
            "select from both with the same mask: x[mask] * y[mask]",
        )
    node = to_node(value)
    rank = max(ndim, behind)
    shape = list((1,) * (rank - ndim) + node.type.shape)
    shape[rank - behind] = selection._mask.type.size
    weak = is_tracer(value) and value._weak
    return wrap(guarded(ops.broadcast_numpy(node, shape), selection._mask, rank - behind), weak)


def astype(self: MaskedSelection, *args: Any, **kwargs: Any) -> MaskedSelection:
    return elementwise(lambda x: x.astype(*args, **kwargs), "astype", (self,))


_ELEMENTWISE = {np.where, np.clip, np.round, np.around, np.nan_to_num, np.real, np.imag, np.isclose, np.sinc, np.copy}


# ------------------------------------------------------------------------------------------------ reductions


def reduce_call(function: Any, a: Any, axis: Any = None, *args: Any, **kwargs: Any) -> Any:
    if args:
        raise UnsupportedError(
            f"np.{function.__name__} of x[mask] takes its arguments after axis by name (at {where()})"
        )
    return reduced(function, a, axis, kwargs)


def reduced(function: Any, selection: MaskedSelection, axis: Any, options: dict[str, Any]) -> Any:
    """A reduction along ``axis``: with a mask where the mask's axis is among them, else still a selection."""
    axes = axes_of(axis, selection.ndim)
    values, line = selection._values, selection._axis
    if options.get("out") is not None:
        raise UnsupportedError(f"np.{function.__name__}(out=...) of x[mask] is not traced; assign the result")
    limit = options.get("where", True)
    if line not in axes:
        result = FUNCTIONS[function](values, axis=axes, **options)
        kept = line if options.get("keepdims") else line - sum(k < line for k in axes)
        return MaskedSelection(
            wrap(guarded(to_node(result), selection._mask, kept)), selection._mask, kept, selection._made
        )
    mask = ops.broadcast(selection._mask, values.shape, (line,))
    if limit is not True and limit is not np._NoValue:
        chosen = (
            limit._values
            if isinstance(limit, MaskedSelection)
            else operand_beside(limit, selection, values.ndim - line, "where")
        )
        mask = ops.bit_and(mask, ops.broadcast_numpy(to_node(chosen, bool_), values.shape))
    options = {**options, "where": wrap(mask)}
    identity = _IDENTITIES.get(function)
    if identity is not None and not given(options.get("initial")):
        assert identity.identity is not None
        options["initial"] = np.asarray(identity.identity(values._node.type.dtype), values.dtype)
    return FUNCTIONS[function](values, axis=axes, **options)


_IDENTITIES = {np.max: ops.reduce_max, np.amax: ops.reduce_max, np.min: ops.reduce_min, np.amin: ops.reduce_min}
_REDUCTIONS = {
    np.sum, np.prod, np.mean, np.var, np.std, np.max, np.amax, np.min, np.amin, np.any, np.all, np.nansum, np.nanmean,
    np.nanvar, np.nanstd, np.nanprod,
}  # fmt: skip
_BY_UFUNC = {
    np.add: np.sum, np.multiply: np.prod, np.maximum: np.max, np.minimum: np.min, np.logical_and: np.all,
    np.logical_or: np.any,
}  # fmt: skip


def ufunc_reduction(ufunc: Any) -> Any:
    if ufunc not in _BY_UFUNC:
        raise UnsupportedError(f"np.{ufunc.__name__}.reduce of x[mask] is not traced (at {where()}); write np.where")
    return _BY_UFUNC[ufunc]


def method_of(function: Any) -> Callable[..., Any]:
    return lambda self, axis=None, *args, **kwargs: reduce_call(function, self, axis, *args, **kwargs)


def ptp(a: Any, axis: Any = None, **kwargs: Any) -> Any:
    return reduce_call(np.max, a, axis, **kwargs) - reduce_call(np.min, a, axis, **kwargs)


def count_nonzero(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    return reduce_call(np.sum, a != 0, axis, keepdims=keepdims)


def average(a: Any, axis: Any = None, weights: Any = None) -> Any:
    if weights is None:
        return reduce_call(np.mean, a, axis)
    return reduce_call(np.sum, a * weights, axis) / reduce_call(np.sum, weights + a * 0, axis)


def inner(a: Any, b: Any) -> Any:
    """The inner product of what one mask selects of two vectors."""
    if np.ndim(a) != 1 or np.ndim(b) != 1:
        refuse_function("a matrix product", a if isinstance(a, MaskedSelection) else b)
    return (a * b).sum()


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if axis is None and ord not in (None, 2) and x.ndim > 1 or ord not in (None, 1, 2, np.inf, -np.inf):
        refuse_function(f"np.linalg.norm(ord={ord!r})", x)
    size = abs(x)
    if ord == 1:
        return reduce_call(np.sum, size, axis, keepdims=keepdims)
    if ord in (np.inf, -np.inf):
        return reduce_call(np.max if ord > 0 else np.min, size, axis, keepdims=keepdims)
    values = size._values
    masked = ops.select(
        ops.broadcast(size._mask, values.shape, (size._axis,)), to_node(values), ops.zeros(values._node.type)
    )
    return FUNCTIONS[np.linalg.norm](
        wrap(masked), axis=tuple(range(x.ndim)) if axis is None and x.ndim == 1 else axis, keepdims=keepdims
    )


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.ptp: ptp,
    np.count_nonzero: count_nonzero,
    np.average: average,
    np.dot: inner,
    np.vdot: inner,
    np.inner: inner,
    np.linalg.norm: norm,
    np.size: lambda a, axis=None: a.size if axis is None else a.shape,
    np.ndim: lambda a: a.ndim,
    np.shape: lambda a: a.shape,
}
_METHODS: dict[str, Callable[..., Any]] = {
    "sum": method_of(np.sum),
    "prod": method_of(np.prod),
    "mean": method_of(np.mean),
    "var": method_of(np.var),
    "std": method_of(np.std),
    "max": method_of(np.max),
    "min": method_of(np.min),
    "any": method_of(np.any),
    "all": method_of(np.all),
    "astype": astype,
    "round": lambda self, decimals=0: elementwise(lambda x: x.round(decimals), "round", (self,)),
    "clip": lambda self, *args, **kwargs: elementwise(lambda x: x.clip(*args, **kwargs), "clip", (self,)),
    "copy": lambda self, order="C": elementwise(lambda x: x.copy(), "copy", (self,)),
    "dot": inner,
}
setattr(MaskedSelection, "__matmul__", inner)  # noqa: B010
setattr(MaskedSelection, "__rmatmul__", lambda self, other: inner(other, self))  # noqa: B010
