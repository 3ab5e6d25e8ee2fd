"""Tracers: values of the program being traced, which behave as NumPy arrays and record nodes instead of computing.

A :class:`Trace` owns a Builder. A :class:`Tracer` is a node of a trace that behaves as an array. NumPy functions reach it
by ``__array_ufunc__`` and ``__array_function__`` and are looked up in two tables, :data:`UFUNCS` and :data:`FUNCTIONS`,
which :mod:`graphc.numpy` fills. Anything not in them raises by name.

A Python number that is an argument is *weak*, as a literal is: it takes the element type of the arrays it meets. Operators
on weak numbers alone give weak numbers; NumPy functions give NumPy's own scalars, as they do outside a trace.

Arrays can be changed in place (``x[i] = v``, ``x += v``): a tracer then stands for another node. A :class:`View` reads its
base again whenever that has changed, and writes through to it.

Bodies of scan, cond and while_loop are traced in a Trace of their own whose parent is the enclosing one; what they
read from it is *captured*: it becomes an operand.
"""

from __future__ import annotations

import itertools
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn

import numpy as np

from graphc import leaks, ops
from graphc.ir import INPUT, Builder, Graph, GraphError, Node, ShapeError
from graphc.leaks import TracerError, UnsupportedError, refuse
from graphc.location import operand_texts, place, user_frame, user_lines, where
from graphc.promotion import common_type, element_of, resolved_loop, same_kind
from graphc.tree import LEAF_TYPES, flatten
from graphc.types import DType, TensorType, bool_, dtype, f32, f64, i64

#: np.ufunc -> function(*nodes of the loop's input dtypes) -> node (or tuple of nodes)
UFUNCS: dict[Any, Callable[..., Any]] = {}
#: NumPy function -> function with its signature, on tracers
FUNCTIONS: dict[Any, Callable[..., Any]] = {}
#: NumPy function that is not traced -> why, and what to write instead
LEFT_OUT: dict[Any, str] = {}
#: ufuncs of other packages (scipy.special), by name
NAMED_UFUNCS: dict[str, Callable[..., Any]] = {}
#: methods and operators of Tracer that are not ufuncs, by name
METHODS: dict[str, Callable[..., Any]] = {}

LARGE_CONSTANT = 1 << 20  # bytes
_OUTSIDE = "write it with functions that are traced, or compute it outside the traced function and pass the result"
COMPARISONS = frozenset({np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal})


class _State(threading.local):
    def __init__(self) -> None:
        self.traces: list[Trace] = []


_state = _State()


def current_trace() -> Trace | None:
    return _state.traces[-1] if _state.traces else None


class Trace:
    """One function being traced: a builder, what it captured from the enclosing trace, and remarks for the user."""

    def __init__(self, name: str = "graph", parent: Trace | None = None) -> None:
        self.builder = Builder(name)
        self.builder.locate = user_lines
        self.parent = parent
        self.captures: dict[Node, Node] = {}  # node of the parent -> input of this trace
        self.notes: list[str] = [] if parent is None else parent.notes
        self.tags: Iterator[int] = itertools.count() if parent is None else parent.tags
        self.constants: dict[int, tuple[np.ndarray, Node]] = {}  # id of an array of the user's -> it, and its node
        self.numbers: dict[tuple[type, Any, DType | None], Node] = {}
        self.repeated: dict[tuple[Node, tuple[int, ...]], Node] = {}  # (scalar constant, shape) -> its broadcast
        self.open = False

    def __enter__(self) -> Trace:
        if not _state.traces:
            leaks.forget()
        _state.traces.append(self)
        self.builder.__enter__()
        self.open = True
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.builder.__exit__(kind, error, traceback)
        _state.traces.pop()
        self.open = False
        refused = leaks.swallowed(error)
        if refused is not None:
            raise refused from None

    def input(self, name: str, type: TensorType, weak: bool = False) -> Tracer:
        return Tracer(self.builder.input(name, type), self, weak)

    def node(self, tracer: Tracer) -> Node:
        """The node of ``tracer`` in this trace; a tracer of an enclosing trace is captured."""
        if tracer._trace is self:
            return tracer._node
        if not tracer._trace.open or self.parent is None:
            refuse_kept(tracer)
        with self.parent.builder:
            outer = self.parent.node(tracer)
        if outer not in self.captures:
            self.captures[outer] = self.builder.input(f"captured{len(self.captures)}", outer.type)
        return self.captures[outer]

    def graph(
        self, outputs: Sequence[Node], inputs: Sequence[Node] | None = None, annotated: bool = True
    ) -> Graph:
        """The graph of ``outputs``. Raises TracerError where a value that only existed inside a vmap is among them."""
        graph = self.builder.graph(outputs, inputs=inputs, annotated=annotated)
        if any([n.op is INPUT for n in graph.nodes[len(graph.inputs) :]]):
            refuse_escaped(self.builder.graph(outputs, inputs=inputs))
        return graph

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def refuse_kept(tracer: Tracer) -> NoReturn:
    made = tracer._trace.builder.lines.get(tracer._node)
    refuse(
        f"a traced value {tracer._node.type}"
        + (f" of {made[0]}" if made else "")
        + " was kept from another trace and used",
        "return it from the function that made it (bodies of scan, cond and while_loop are functions of their own), or "
        "pass it as an argument",
    )


def refuse_escaped(graph: Graph) -> NoReturn:
    hole = next(n for n in graph.nodes[len(graph.inputs) :] if n.op is INPUT)
    reader = next((n for n in graph.nodes if hole in n.inputs), hole)
    lines = graph.lines.get(reader)
    raise TracerError(
        f"one example {hole.type} of a vmapped function was used outside it"
        + (f" (at {lines[0]})" if lines else "")
        + "; return it from the function that vmap maps, and do not store it in a variable or array outside"
    )


# ------------------------------------------------------------------------------------------------ values to nodes


def is_tracer(value: Any) -> bool:
    return isinstance(value, Tracer)


def is_weak_scalar(value: Any) -> bool:
    """True for Python's own bool, int, float, complex (``np.float64`` is strong although it is a ``float``)."""
    return type(value) in (bool, int, float, complex)


_DISCARDED = "Casting complex values to real discards the imaginary part"


def user_stacklevel() -> int:
    """The level at which a warning raised by the caller names the user's line."""
    user, level = user_frame(), 1
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame is not user:
        frame, level = frame.f_back, level + 1
    return level if frame is not None else 2


def to_node(value: Any, to: DType | None = None) -> Node:
    """``value`` (tracer, array, scalar, nested list of numbers) as a node of the current trace, cast to ``to``."""
    trace = current_trace()
    if trace is None:
        if isinstance(value, Tracer):
            refuse_kept(value)
        raise RuntimeError("to_node outside a trace")
    if isinstance(value, Tracer):
        node = value._node if value._trace is trace else trace.node(value)
        if to is None or node.type.dtype is to:
            return node
        if node.type.dtype.kind == "c" and to.kind in "iuf":
            warnings.warn(_DISCARDED, np.exceptions.ComplexWarning, stacklevel=user_stacklevel())
        return ops.convert(node, to)
    if isinstance(value, Node):
        return value if to is None else ops.convert(value, to)
    if isinstance(value, (list, tuple)) and any(map(is_tracer, flatten(list(value))[0])):
        return to_node(METHODS["array"](value), to)
    if is_weak_scalar(value):
        return number_node(trace, value, to)
    return array_node(trace, value, to)


def number_node(trace: Trace, value: Any, to: DType | None) -> Node:
    """A Python number as a constant, made once per trace and element type."""
    key = (type(value), value, to)
    node = trace.numbers.get(key) if value or type(value) is int else None  # 0.0 and -0.0 are equal
    if node is None:
        node = trace.numbers[key] = ops.const(np.asarray(value, dtype=to.numpy if to is not None else None))
    return node


def array_node(trace: Trace, value: Any, to: DType | None) -> Node:
    """A NumPy array (or list of numbers) as a constant, converted here rather than in the program."""
    array = np.asarray(plain(value))
    if array.dtype == object:
        raise TracerError(f"{value!r} is not an array of numbers (at {where()})")
    if array.nbytes > LARGE_CONSTANT:
        trace.note(
            f"an array of {array.nbytes / 1e6:.1f} MB from outside the function became a constant ({where()}); "
            "pass it as an argument to keep it out of the program"
        )
    if to is not None and dtype(array.dtype) is not to:
        with np.errstate(all="ignore"):
            return constant(array.astype(to.numpy))
    known = trace.constants.get(id(value))
    if known is not None and known[0] is value and same_bits(known[1], array):
        return known[1]
    node = constant(array)
    if node.op is ops.constant and type(value) is np.ndarray:
        trace.constants[id(value)] = (value, node)  # hashed once, as long as it stays as it is
    return node


def plain(value: Any) -> Any:
    """``value``, unless it is an array whose arithmetic is not NumPy's plain one."""
    if isinstance(value, (np.ma.MaskedArray, np.matrix)):
        raise TypeError(
            f"graphc does not take a {type(value).__name__} (at {where()}); convert it with np.asarray and keep masks as "
            "arrays of their own"
        )
    return value


def same_bits(node: Node, array: np.ndarray) -> bool:
    kept = node["value"].value
    return kept.shape == array.shape and kept.dtype == array.dtype and kept.tobytes() == array.tobytes()


def constant(array: np.ndarray) -> Node:
    """A constant node; an array filled with one value becomes a broadcast scalar."""
    if array.ndim and array.size > 1:
        first = array.reshape(-1)[:1]
        if (array.reshape(-1)[-1:].tobytes() == first.tobytes()) and array.tobytes() == first.tobytes() * array.size:
            return ops.full(TensorType(dtype(array.dtype), array.shape), first[0])
    return ops.const(array)


def wrap(node: Node, weak: bool = False) -> Tracer:
    trace = current_trace()
    assert trace is not None
    return Tracer(node, trace, weak)


def type_of(value: Any) -> TensorType:
    """The type that ``value`` has by itself."""
    if isinstance(value, Tracer):
        return value._node.type
    array = np.asarray(value)
    return TensorType(dtype(array.dtype), array.shape)


def element_type(value: Any) -> DType:
    """The element type that ``value`` has by itself."""
    if isinstance(value, Tracer):
        return value._node.type.dtype
    if isinstance(value, (np.ndarray, np.generic)):
        return dtype(value.dtype)
    return dtype(np.asarray(value).dtype)


_WEAK = {"b": bool, "i": int, "f": float, "c": complex}


def weak_kind(value: Any) -> type | None:
    """bool, int, float or complex for a weak scalar (a Python number or a traced one), else None."""
    if isinstance(value, Tracer):
        return _WEAK[value._node.type.dtype.kind] if value._weak else None
    return type(value) if is_weak_scalar(value) else None


# ------------------------------------------------------------------------------------------------ promotion


def promote(*values: Any) -> DType:
    """The element type of arithmetic on ``values``: NumPy 2's rule; f16 and bf16 as in JAX."""
    return common_type([weak_kind(v) or element_type(v) for v in values])


def operands(*values: Any, to: DType | None = None) -> list[Node]:
    """``values`` as nodes of one element type and one shape, by NumPy's promotion and broadcasting."""
    element = promote(*values) if to is None else to
    note_widening(element, values)
    return broadcast_together([to_node(v, element) for v in values])


def broadcast_together(nodes: Sequence[Node]) -> list[Node]:
    shapes = [n.type.shape for n in nodes]
    if shapes.count(shapes[0]) == len(shapes):
        return list(nodes)
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(f"{' and '.join(str(n.type) for n in nodes)} do not broadcast together") from None
    return [n if n.type.shape == shape else repeated(n, shape) for n in nodes]


def repeated(node: Node, shape: tuple[int, ...]) -> Node:
    """``node`` broadcast to ``shape``; of a scalar constant once per trace."""
    trace = current_trace()
    if node.op is not ops.constant or node.type.shape or trace is None:
        return ops.broadcast_numpy(node, shape)
    found = trace.repeated.get((node, shape))
    if found is None:
        found = trace.repeated[node, shape] = ops.broadcast_numpy(node, shape)
    return found


def note_widening(result: DType, values: Sequence[Any]) -> None:
    """Say where an f32 program becomes f64, and which operand did it."""
    if result is not f64:
        return
    if not any(isinstance(v, Tracer) and v._node.type.dtype is f32 and not v._weak for v in values):
        return
    guilty = [k for k, v in enumerate(values) if weak_kind(v) is None and element_type(v) is not f32]
    trace, frame = current_trace(), user_frame()
    if not guilty or trace is None:
        return
    texts = operand_texts(frame) if frame is not None else []
    k = next((k for k in guilty if element_type(values[k]) is f64), guilty[0])
    # np.where has its condition before the two operands.
    own = texts[k + len(texts) - len(values)] if len(texts) >= len(values) else ""
    name = own or where().partition(": `")[2].rstrip("`")
    kind = np.dtype(element_type(values[k]).numpy).name
    trace.note(
        f"float64 from {place(frame) if frame else 'an unknown line'}: {name} is {kind}, the other operand float32"
    )


def located(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``function(*args, **kwargs)``; the nodes that it makes get the user's line, looked up once, and so do errors."""
    trace = current_trace()
    builder = trace.builder if trace is not None and trace.builder.origin is None else None
    if builder is not None:
        builder.origin = user_lines()
    try:
        return function(*args, **kwargs)
    except GraphError as error:
        if getattr(error, "located", False):
            raise
        raised = type(error)(f"{error}\n  at {where()}")
        raised.located = True  # type: ignore[attr-defined]
        raise raised from None
    except UnsupportedError as error:
        if "at " + where() not in str(error):
            error.args = (f"{error} (at {where()})",)
        raise
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        if not isinstance(error, TracerError) and not getattr(error, "__notes__", None):
            error.add_note(f"at {where()}")
        raise
    finally:
        if builder is not None:
            builder.origin = None


# ------------------------------------------------------------------------------------------------ ufuncs


def apply_ufunc(
    ufunc: Any, *inputs: Any, dtype_: Any = None, casting: str = "same_kind", signature: Any = None
) -> Any:
    """A NumPy ufunc on tracers: NumPy's own loop resolution gives the types, the table gives the nodes."""
    special = FUNCTIONS.get(ufunc)
    if special is not None:
        return located(special, *inputs)
    rule = UFUNCS.get(ufunc) or NAMED_UFUNCS.get(ufunc.__name__)
    if rule is None:
        refuse_ufunc(ufunc)
    if signature is not None:
        dtype_ = loop_signature(ufunc, signature, dtype_)
    return located(_apply_ufunc, ufunc, rule, inputs, dtype_, casting)


def refuse_ufunc(ufunc: Any) -> NoReturn:
    """Raise UnsupportedError for a ufunc without a rule, with what to write instead."""
    reason = LEFT_OUT.get(ufunc)
    if reason is None and all(set(loop) <= set("O->") for loop in ufunc.types):
        reason = (
            "np.frompyfunc calls a Python function with one number after the other; call that function on the traced arrays "
            "themselves, or write graphc.vmap(f)(x) where it takes numbers"
        )
    raise UnsupportedError(f"graphc does not trace the ufunc {ufunc.__name__} (at {where()}): {reason or _OUTSIDE}")


def loop_signature(ufunc: Any, signature: Any, dtype_: Any) -> tuple[Any, ...]:
    """The types of the loop that ``signature=`` asks for: ``"dd->d"``, or a tuple of types and None."""
    if dtype_ is not None:
        raise TypeError("cannot specify both 'signature' and 'dtype'")
    count = ufunc.nin + ufunc.nout
    if isinstance(signature, str):
        parts = signature.replace("->", "")
        if len(parts) != count or "->" not in signature and len(parts) != 1:
            raise ValueError(f"a type-string for {ufunc.__name__} is 1 typecode or {ufunc.nin} '->' {ufunc.nout} typecodes")
        signature = tuple(parts)
    if not isinstance(signature, tuple):
        raise TypeError("the signature object to ufunc must be a string or a tuple.")
    if len(signature) == 1:
        signature = (None,) * ufunc.nin + signature * ufunc.nout
    if len(signature) != count:
        raise ValueError(f"a type-tuple must be specified of length {count} for ufunc {ufunc.__name__!r}")
    return tuple(None if t is None else dtype(t) for t in signature)


def _apply_ufunc(ufunc: Any, rule: Callable[..., Any], inputs: Sequence[Any], dtype_: Any, casting: str) -> Any:
    prepared = [v if type(v) is Tracer or not isinstance(v, (list, tuple)) else to_tracer(v) for v in inputs]
    if ufunc in COMPARISONS:
        settled = compare_out_of_range(ufunc, prepared)
        if settled is not None:
            return settled
        prepared = [strong_integer(v, prepared) for v in prepared]
    loop, widens = loop_types(ufunc, prepared, dtype_, casting)
    if widens:
        note_widening(f64, prepared)
    nodes = [to_node(v, t) for v, t in zip(prepared, loop, strict=True)]
    try:
        nodes = broadcast_together(nodes)
    except GraphError as error:
        raise type(error)(f"{ufunc.__name__}: {error}") from None
    result = rule(*nodes)
    if isinstance(result, tuple):
        return tuple([wrap(r) for r in result])
    return wrap(result)


def to_tracer(value: Any) -> Tracer:
    return value if isinstance(value, Tracer) else wrap(to_node(value))


def compare_out_of_range(ufunc: Any, inputs: Sequence[Any]) -> Tracer | None:
    """``u8 < 300``: an int that the array's type does not hold compares the same with all its values."""
    for mine, other in (inputs, inputs[::-1]):
        if type(other) is int and weak_kind(mine) is None and (element := element_type(mine)).is_integer:
            info = np.iinfo(element.numpy)
            if not info.min <= other <= info.max:
                pair = (0, other) if mine is inputs[0] else (other, 0)
                answer = _PYTHON_COMPARISONS[ufunc](*pair)
                return wrap(ops.full(TensorType(bool_, type_of(mine).shape), answer))
    return None


_PYTHON_COMPARISONS: dict[Any, Callable[[int, int], bool]] = {
    np.equal: lambda x, y: x == y,
    np.not_equal: lambda x, y: x != y,
    np.less: lambda x, y: x < y,
    np.less_equal: lambda x, y: x <= y,
    np.greater: lambda x, y: x > y,
    np.greater_equal: lambda x, y: x >= y,
}


def strong_integer(value: Any, others: Sequence[Any]) -> Any:
    """A traced Python int compares as i64 with integer arrays: its number may lie outside the array's type."""
    if not (isinstance(value, Tracer) and value._weak and value._node.type.dtype is i64):
        return value
    return Tracer(value._node, value._trace) if any(element_type(v).is_integer for v in others) else value


_loops: dict[Any, tuple[list[DType], bool]] = {}


def loop_types(ufunc: Any, inputs: Sequence[Any], dtype_: Any, casting: str) -> tuple[list[DType], bool]:
    """The input element types of the loop that NumPy would run, and whether it makes f64 of f32."""
    given = [weak_kind(v) or element_type(v) for v in inputs]
    key = (ufunc, *given, dtype_, casting)
    found = _loops.get(key)
    if found is None:
        try:
            wanted = dtype_ if dtype_ is None or isinstance(dtype_, tuple) else element_of(dtype_)
            types = resolved_loop(ufunc, given, wanted, casting)
            found = _loops[key] = types, f64 in types and f32 in given and ufunc not in COMPARISONS
        except TypeError as error:
            names = ", ".join(str(v._node.type) if isinstance(v, Tracer) else type(v).__name__ for v in inputs)
            raise GraphError(f"{ufunc.__name__} is not defined for {names}: {error}") from None
    return found


# ------------------------------------------------------------------------------------------------ operators


def operate(ufunc: Any, *values: Any) -> Any:
    """An operator: on weak numbers alone it gives a weak number, as Python's own arithmetic does."""
    for value in values:
        if weak_kind(value) is None:
            return apply_ufunc(ufunc, *values)
    if ufunc in _ON_INTEGERS:
        values = tuple([python_integer(v) for v in values])
    result = apply_ufunc(ufunc, *values)
    if isinstance(result, tuple):
        return tuple([wrap(r._node, True) for r in result])
    return wrap(result._node, True)


#: Arithmetic in which Python's True is 1; &, | and ^ of two bools stay bools.
_ON_INTEGERS = frozenset(
    {
        np.add, np.subtract, np.multiply, np.true_divide, np.floor_divide, np.remainder, np.divmod, np.power, np.negative,
        np.positive, np.absolute, np.invert, np.left_shift, np.right_shift,
    }
)  # fmt: skip


def python_integer(value: Any) -> Any:
    if isinstance(value, Tracer):
        return wrap(ops.convert(to_node(value), i64), True) if value._node.type.dtype is bool_ else value
    return int(value) if type(value) is bool else value


def binary(ufunc: Any) -> Callable[[Tracer, Any], Any]:
    def method(self: Tracer, other: Any) -> Any:
        return NotImplemented if defers(other) else operate(ufunc, self, other)

    return method


def reflected(ufunc: Any) -> Callable[[Tracer, Any], Any]:
    def method(self: Tracer, other: Any) -> Any:
        return NotImplemented if defers(other) else operate(ufunc, other, self)

    return method


def in_place(ufunc: Any) -> Callable[[Tracer, Any], Any]:
    """``x += v`` changes the array ``x``, which other names and views see; a scalar is replaced, as in NumPy."""

    def method(self: Tracer, other: Any) -> Any:
        if defers(other):
            return NotImplemented
        if not self._is_array():
            refuse_scalar_input(self, ufunc)
            return METHODS["power"](self, other) if ufunc is np.power else operate(ufunc, self, other)
        self._assign(cast_back(ufunc, self, apply_ufunc(ufunc, self, other)))
        return self

    return method


def refuse_scalar_input(target: Tracer, ufunc: Any) -> None:
    """A 0-d argument may be an array, which would change, or a number, which would not."""
    node = target._node
    while node.op is ops.alias:
        node = node.inputs[0]
    if not target._weak and target._trace.parent is None and node in target._trace.builder.inputs:
        refuse(
            f"a 0-d argument {target._node.type} would be changed in place by np.{ufunc.__name__}",
            "write x = x + v instead of x += v",
        )


def cast_back(ufunc: Any, target: Tracer, result: Tracer, casting: str = "same_kind") -> Node:
    """``result`` in the type of the array that it is written to: NumPy's rule for ``out=``."""
    if result.shape != target.shape:
        raise ShapeError(
            f"{ufunc.__name__} in place: the result {result._node.type} does not fit into {target._node.type} (at {where()})"
        )
    check_cast(ufunc, result._node.type.dtype, target._node.type.dtype, casting)
    return ops.convert(to_node(result), target._node.type.dtype)


def check_cast(ufunc: Any, have: DType, want: DType, casting: str = "same_kind") -> None:
    if not (same_kind(have, want) if casting == "same_kind" else np.can_cast(have.numpy, want.numpy, casting)):  # type: ignore[arg-type]
        raise GraphError(
            f"{ufunc.__name__} in place: {have} cannot be written into an array of {want} (at {where()}); "
            f"write x = x.astype({have.numpy.name!r}) first"
        )


def unary(ufunc: Any) -> Callable[[Tracer], Any]:
    return lambda self: operate(ufunc, self)


def defers(other: Any) -> bool:
    """Whether an operand is no number or array, so that Python should ask it instead."""
    return type(other) is not Tracer and (isinstance(other, (str, bytes, dict, set)) or other is None)


class Tracer:
    """A value of the program being traced: behaves as a NumPy array whose numbers are not known yet.

    ``shape``, ``dtype``, ``ndim``, ``size`` are known and ordinary; operators, NumPy functions, methods and indexing
    record nodes. Using its numbers (``if x``, ``float(x)``) raises TracerError with the remedy.
    """

    __slots__ = ("_node", "_trace", "_weak", "__weakref__")
    __array_priority__ = 1000

    def __init__(self, node: Node, trace: Trace, weak: bool = False) -> None:
        self._node = node
        self._trace = trace
        self._weak = weak

    # -- what is known
    @property
    def shape(self) -> tuple[int, ...]:
        return self._node.type.shape

    @property
    def dtype(self) -> np.dtype:
        return self._node.type.dtype.numpy

    @property
    def ndim(self) -> int:
        return self._node.type.ndim

    @property
    def size(self) -> int:
        return self._node.type.size

    @property
    def nbytes(self) -> int:
        return self._node.type.nbytes

    @property
    def itemsize(self) -> int:
        return self._node.type.dtype.itemsize

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """``isinstance(x, np.ndarray)`` is true, so that code which asks before it works on arrays goes the right way."""
        return np.ndarray

    @property
    def real(self) -> Any:
        return located(METHODS["real"], self)

    @real.setter
    def real(self, value: Any) -> None:
        located(METHODS["set_part"], self, "real", value)

    @property
    def imag(self) -> Any:
        return located(METHODS["imag"], self)

    @imag.setter
    def imag(self, value: Any) -> None:
        located(METHODS["set_part"], self, "imag", value)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        return (self[k] for k in range(self.shape[0]))

    def __repr__(self) -> str:
        return f"Tracer({self._node.type})"

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __hash__(self) -> int:
        return id(self)

    # -- operators
    __add__, __radd__, __iadd__ = binary(np.add), reflected(np.add), in_place(np.add)
    __sub__, __rsub__, __isub__ = binary(np.subtract), reflected(np.subtract), in_place(np.subtract)
    __mul__, __rmul__, __imul__ = binary(np.multiply), reflected(np.multiply), in_place(np.multiply)
    __truediv__, __rtruediv__, __itruediv__ = (
        binary(np.true_divide),
        reflected(np.true_divide),
        in_place(np.true_divide),
    )
    __floordiv__, __rfloordiv__ = binary(np.floor_divide), reflected(np.floor_divide)
    __ifloordiv__ = in_place(np.floor_divide)
    __mod__, __rmod__, __imod__ = binary(np.remainder), reflected(np.remainder), in_place(np.remainder)
    __matmul__, __rmatmul__, __imatmul__ = binary(np.matmul), reflected(np.matmul), in_place(np.matmul)
    __and__, __rand__, __iand__ = binary(np.bitwise_and), reflected(np.bitwise_and), in_place(np.bitwise_and)
    __or__, __ror__, __ior__ = binary(np.bitwise_or), reflected(np.bitwise_or), in_place(np.bitwise_or)
    __xor__, __rxor__, __ixor__ = binary(np.bitwise_xor), reflected(np.bitwise_xor), in_place(np.bitwise_xor)
    __lshift__, __rlshift__, __ilshift__ = binary(np.left_shift), reflected(np.left_shift), in_place(np.left_shift)
    __rshift__, __rrshift__, __irshift__ = binary(np.right_shift), reflected(np.right_shift), in_place(np.right_shift)
    __ipow__ = in_place(np.power)
    __divmod__ = binary(np.divmod)
    __rdivmod__ = reflected(np.divmod)
    __lt__, __le__ = binary(np.less), binary(np.less_equal)
    __gt__, __ge__ = binary(np.greater), binary(np.greater_equal)
    __neg__, __pos__, __invert__ = unary(np.negative), unary(np.positive), unary(np.invert)
    __abs__ = unary(np.absolute)

    def __pow__(self, other: Any) -> Any:
        return NotImplemented if defers(other) else located(METHODS["power"], self, other)

    def __rpow__(self, other: Any) -> Any:
        return NotImplemented if defers(other) else located(METHODS["power"], other, self)

    def __eq__(self, other: Any) -> Any:
        return self._differs_from(other, False) if defers(other) else operate(np.equal, self, other)

    def __ne__(self, other: Any) -> Any:
        return self._differs_from(other, True) if defers(other) else operate(np.not_equal, self, other)

    def _differs_from(self, other: Any, answer: bool) -> Any:
        """``x == None`` and ``x == "text"``: an array is compared element by element, as in NumPy."""
        return located(METHODS["compare.answer"], self, answer) if self.shape else NotImplemented

    def __getitem__(self, index: Any) -> Any:
        return located(METHODS["getitem"], self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        located(METHODS["setitem"], self, index, value)

    def __getattr__(self, name: str) -> Any:
        method = METHODS.get(name)
        if method is None or name.startswith("_") or not (name == "at" or hasattr(np.ndarray, name)):
            if name.startswith("_") or not hasattr(np.ndarray, name):
                raise AttributeError(f"a traced array has no attribute {name!r}")
            raise AttributeError(f"graphc does not trace the array method or attribute {name!r} (at {where()})")
        if getattr(method, "is_property", False):
            return located(method, self)
        return lambda *args, **kwargs: called(f"the method {name}", method, self, *args, **kwargs)

    # -- changing in place
    @property
    def flat(self) -> Any:
        """The elements in C order, read and written by one index."""
        return located(METHODS["flat"], self)

    @flat.setter
    def flat(self, value: Any) -> None:
        located(METHODS["set_flat"], self, value)

    def __delitem__(self, index: Any) -> NoReturn:
        raise ValueError("cannot delete array elements")

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return np

    def _is_array(self) -> bool:
        """Whether this is an array, which can be changed, rather than a scalar."""
        return bool(self._node.type.shape)

    def _assign(self, node: Node) -> None:
        """Let this array hold ``node`` (of its type) from now on."""
        if self._trace is not current_trace():
            refuse(
                f"an array {self._node.type} of the enclosing function would be changed inside a body of its own",
                "return the new value from the function that scan, cond, while_loop, checkpoint or custom_vjp was given",
            )
        assert node.type == self._node.type
        self._node = node

    # -- NumPy's protocols
    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        if method == "__call__" and out is None and not kwargs:
            return apply_ufunc(ufunc, *inputs)
        targets = () if out is None else out if isinstance(out, tuple) else (out,)
        for target in targets:
            if target is not None and not isinstance(target, Tracer):
                refuse_out(ufunc.__name__)
        if method == "__call__":
            return call_ufunc(ufunc, inputs, targets, kwargs)
        if targets:
            kwargs["out"] = targets
        return called(f"np.{ufunc.__name__}.{method}", METHODS[f"ufunc.{method}"], ufunc, *inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        handler = FUNCTIONS.get(function)
        name = f"{getattr(function, '__module__', None) or 'numpy'}.{function.__name__}".replace("numpy.", "np.", 1)
        if handler is None:
            raise UnsupportedError(f"graphc does not trace {name} (at {where()}): {LEFT_OUT.get(function, _OUTSIDE)}")
        target = kwargs.get("out")
        if target is None:
            return called(name, handler, *args, **{k: v for k, v in kwargs.items() if k != "out"})
        if not isinstance(target, Tracer):
            refuse_out(name.removeprefix("np."))
        result = called(name, handler, *args, **{k: v for k, v in kwargs.items() if k != "out"})
        return METHODS["write_out"](function, (target,), result, True)

    # -- concrete values are not there
    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        leaks.refuse_number(self._node.type)

    def __bool__(self) -> NoReturn:
        leaks.refuse_truth(self._node.type)

    def __float__(self) -> NoReturn:
        leaks.refuse_number(self._node.type)

    def __complex__(self) -> NoReturn:
        refuse(
            f"complex() needs the number of a traced {self._node.type}, which is not known while tracing",
            "write x + 0j, or x.astype(complex), to convert it inside the program",
        )

    def __int__(self) -> NoReturn:
        refuse(
            f"int() needs the number of a traced {self._node.type}, which is not known while tracing",
            "write x.astype(int) to convert it inside the program, or name the argument in compile(static=...)",
        )

    def __index__(self) -> NoReturn:
        refuse(
            f"a traced {self._node.type} was used as a Python integer (range, list index, shape)",
            "name the argument in compile(static=...) where it gives a shape or a number of steps; use graphc.fori_loop "
            "for a loop, and np.stack(items)[i] to pick from a list",
        )

    def __round__(self, digits: int | None = None) -> Any:
        if digits is None:
            refuse(f"round() needs the number of a traced {self._node.type}", "write np.round(x)")
        if self.shape:
            raise TypeError("type numpy.ndarray doesn't define __round__ method")
        return METHODS["round"](self, digits)

    def __trunc__(self) -> NoReturn:
        refuse(f"math.trunc() needs the number of a traced {self._node.type}", "write np.trunc(x)")

    def __floor__(self) -> NoReturn:
        refuse(f"math.floor() needs the number of a traced {self._node.type}", "write np.floor(x)")

    def __ceil__(self) -> NoReturn:
        refuse(f"math.ceil() needs the number of a traced {self._node.type}", "write np.ceil(x)")

    def __contains__(self, value: Any) -> NoReturn:
        refuse(f"`in` needs the numbers of a traced {self._node.type}", "write np.any(x == value)")

    def item(self, *_: Any) -> NoReturn:
        refuse("item() of a traced value", "return the value from the function to see its number")

    def tolist(self) -> NoReturn:
        refuse("tolist() of a traced value", "return the value from the function to see its numbers")

    def tobytes(self, *_: Any) -> NoReturn:
        refuse("tobytes() of a traced value", "return the value from the function to see its numbers")

    def __reduce_ex__(self, _: Any) -> NoReturn:
        refuse("a traced value cannot be pickled or copied to another process", "return it from the function")

    def __copy__(self) -> Tracer:
        return wrap(to_node(self), self._weak)

    def __deepcopy__(self, _: Any) -> Tracer:
        return self.__copy__()


class View(Tracer):
    """A part of another array, seen through ``read``; what is assigned to it is put into the base by ``write``.

    ``read(base node) -> node`` and ``write(base node, new node) -> base node``. Without ``write`` NumPy may have made a copy
    (reshape of an array whose layout is not known): it is refused to use the view after either has been changed.
    """

    __slots__ = ("_base", "_root", "_read", "_write", "_seen", "_value")

    def __init__(
        self, base: Tracer, trace: Trace, read: Callable[[Node], Node], write: Callable[[Node, Node], Node] | None
    ) -> None:
        self._trace = trace
        self._weak = False
        self._base = base
        self._root: Tracer = base._root if isinstance(base, View) else base
        self._read = read
        self._write = write
        self._seen: Node = trace.node(self._root)  # what the root held when _value was read
        self._value: Node = read(trace.node(base))

    @property
    def _node(self) -> Node:  # type: ignore[override]
        held = self._trace.node(self._root)
        if held is not self._seen:
            with self._trace.builder:
                self._refresh(held)
        return self._value

    def _refresh(self, held: Node) -> None:
        """Read again from the root down to this view."""
        stale: list[View] = []
        view: Tracer = self
        while isinstance(view, View) and view._seen is not held:
            stale.append(view)
            view = view._base
        node = view._value if isinstance(view, View) else held
        for view in reversed(stale):
            if view._write is None:
                refuse_ambiguous(view._value)
            node = view._value = view._read(node)
            view._seen = held

    def _is_array(self) -> bool:
        return True

    def _assign(self, node: Node) -> None:
        view: Tracer = self
        while isinstance(view, View):
            assert node.type == view._node.type
            if view._write is None:
                refuse_ambiguous(node)
            node = view._write(view._trace.node(view._base), node)
            view = view._base
        view._assign(node)


LEAF_TYPES.update((np.ndarray, Tracer, View))


def refuse_ambiguous(node: Node) -> NoReturn:
    refuse(
        f"an array {node.type} made by reshape, ravel or broadcast_to is used after it, or the array it was made of, was "
        "changed in place: whether NumPy shares the memory depends on its layout",
        "write .copy() where it is made, or change the array before",
    )


def call_ufunc(ufunc: Any, inputs: Sequence[Any], targets: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """``ufunc(*inputs, out=targets, **kwargs)``. The layout in memory (``order``) and subclasses do not matter."""
    kwargs = {k: v for k, v in kwargs.items() if k not in ("order", "subok")}
    mask, casting = kwargs.pop("where", True), kwargs.pop("casting", "same_kind")
    if not (isinstance(mask, (bool, np.bool_)) and mask):
        inputs = chosen_by_mask(ufunc, mask, inputs, targets)
    special = FUNCTIONS.get(ufunc)
    if special is not None:
        result = called(f"np.{ufunc.__name__}", special, *inputs, **kwargs)
    else:
        element, signature = kwargs.pop("dtype", None), kwargs.pop("signature", kwargs.pop("sig", None))
        if kwargs:
            raise UnsupportedError(f"np.{ufunc.__name__} with {', '.join(kwargs)}= is not traced (at {where()})")
        result = apply_ufunc(ufunc, *inputs, dtype_=element, casting=casting, signature=signature)
    return result if not targets else METHODS["write_out"](ufunc, targets, result, mask, casting)


def chosen_by_mask(ufunc: Any, mask: Any, inputs: Sequence[Any], targets: Sequence[Any]) -> Sequence[Any]:
    """The inputs of a call with ``where=mask``, harmless numbers where it does not hold."""
    if not targets or any(t is None for t in targets):
        raise UnsupportedError(
            f"np.{ufunc.__name__}(where=...) without out= leaves numbers undefined (at {where()}); write np.where"
        )
    if element_type(mask) is not bool_:
        raise TypeError(
            f"Cannot cast array data from {np.dtype(element_type(mask).numpy)!r} to {np.dtype(bool)!r} according to the rule "
            "'safe'"
        )
    return [METHODS["ufunc.guarded"](ufunc, mask, v) for v in inputs]


def called(name: str, handler: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``handler(*args, **kwargs)`` for ``name``; an argument that it does not have is refused by name."""
    try:
        return located(handler, *args, **kwargs)
    except TypeError as error:
        misfit = _MISFIT.search(str(error))
        if misfit and depth(error) <= 2:
            raise UnsupportedError(f"{name}, as graphc traces it, {misfit[0]} (at {where()})") from None
        raise


_MISFIT = re.compile(
    r"got an unexpected keyword argument '\w+'|missing \d+ required .*|takes .* positional arguments? but .*"
)


def depth(error: BaseException) -> int:
    """How many frames below :func:`called` an error was raised: 1 (:func:`located`) or 2 for arguments that do not fit."""
    count, step = -1, error.__traceback__
    while step is not None:
        count, step = count + 1, step.tb_next
    return count


def refuse_out(name: str) -> NoReturn:
    frame = user_frame()
    inplace = frame is not None and leaks.operation(frame) == "BINARY_OP"
    refuse(
        f"np.{name} would write a traced value into a NumPy array",
        "write a = a + x instead of a += x, or make the array of traced values too: a = np.zeros_like(x)"
        if inplace
        else "write a = np.add(...) without out=, or make the target of traced values too: a = np.zeros_like(x)",
    )
