"""Tracing: running the user's NumPy code on tracers that record nodes instead of computing.

A :class:`Trace` owns a Builder. A :class:`Tracer` is a node of a trace that behaves as an array. NumPy functions reach it
by ``__array_ufunc__`` and ``__array_function__`` and are looked up in two tables, :data:`UFUNCS` and :data:`FUNCTIONS`,
which :mod:`graphc.numpy` fills. Anything not in them raises by name.

Bodies of scan, cond and while_loop are traced in a Trace of their own whose parent is the enclosing one; what they
read from it is *captured*: it becomes an operand.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from graphc import ops
from graphc.ir import Builder, Graph, GraphError, Node
from graphc.location import user_lines, where
from graphc.tree import Tree, flatten, unflatten
from graphc.types import DType, TensorType, bf16, bool_, dtype, f16, f32, f64, i64

#: np.ufunc -> function(*nodes of the loop's input dtypes) -> node (or tuple of nodes)
UFUNCS: dict[Any, Callable[..., Any]] = {}
#: NumPy function -> function with its signature, on tracers
FUNCTIONS: dict[Any, Callable[..., Any]] = {}
#: ufuncs of other packages (scipy.special), by name
NAMED_UFUNCS: dict[str, Callable[..., Any]] = {}
#: methods and operators of Tracer that are not ufuncs, by name
METHODS: dict[str, Callable[..., Any]] = {}

LARGE_CONSTANT = 1 << 20  # bytes


class TracerError(TypeError):
    """A traced value was used where a concrete one is needed. The message says what to write instead."""


class UnsupportedError(TypeError):
    """A NumPy function, or an argument of one, that graphc does not trace."""


@dataclass(frozen=True)
class Spec:
    """The shape and element type of an argument, in place of an array: ``Spec((128, 784), "f32")``.

    >>> Spec((2, 3), "f32")
    Spec(shape=(2, 3), dtype=f32)
    """

    shape: tuple[int, ...]
    dtype: Any = "f32"

    is_pytree_leaf = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "dtype", dtype(self.dtype))

    @property
    def type(self) -> TensorType:
        return TensorType(self.dtype, self.shape)


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
        self.open = False

    def __enter__(self) -> Trace:
        _state.traces.append(self)
        self.builder.__enter__()
        self.open = True
        return self

    def __exit__(self, *exc: object) -> None:
        self.builder.__exit__(*exc)
        _state.traces.pop()
        self.open = False

    def input(self, name: str, type: TensorType, weak: bool = False) -> Tracer:
        return Tracer(self.builder.input(name, type), self, weak)

    def node(self, tracer: Tracer) -> Node:
        """The node of ``tracer`` in this trace; a tracer of an enclosing trace is captured."""
        if tracer._trace is self:
            return tracer._node
        if not tracer._trace.open or self.parent is None:
            raise TracerError(
                f"a traced value of type {tracer._node.type} was kept from another trace and used at {where()}; "
                "return it from the function that made it, or pass it as an argument"
            )
        outer = self.parent.node(tracer)
        if outer not in self.captures:
            self.captures[outer] = self.builder.input(f"captured{len(self.captures)}", outer.type)
        return self.captures[outer]

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


# ------------------------------------------------------------------------------------------------ values to nodes


def is_tracer(value: Any) -> bool:
    return isinstance(value, Tracer)


def is_weak_scalar(value: Any) -> bool:
    """True for Python's own bool, int, float, complex (``np.float64`` is strong although it is a ``float``)."""
    return type(value) in (bool, int, float, complex)


def to_node(value: Any, to: DType | None = None) -> Node:
    """``value`` (tracer, array, scalar, nested list of numbers) as a node of the current trace, cast to ``to``."""
    trace = current_trace()
    assert trace is not None, "to_node outside a trace"
    if isinstance(value, Tracer):
        node = trace.node(value)
        return node if to is None else ops.convert(node, to)
    if isinstance(value, Node):
        return value if to is None else ops.convert(value, to)
    if isinstance(value, (list, tuple)) and any(map(is_tracer, flatten(list(value))[0])):
        return to_node(METHODS["array"](value), to)
    array = np.asarray(value) if to is None or not is_weak_scalar(value) else np.asarray(value, dtype=to.numpy)
    if array.dtype == object:
        raise TracerError(f"{value!r} is not an array of numbers (at {where()})")
    if array.nbytes > LARGE_CONSTANT:
        trace.note(
            f"an array of {array.nbytes / 1e6:.1f} MB from outside the function became a constant ({where()}); "
            "pass it as an argument to keep it out of the program"
        )
    if to is not None and dtype(array.dtype) is not to:
        with np.errstate(all="ignore"):
            array = array.astype(to.numpy)
    return constant(array)


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


def element_type(value: Any) -> DType:
    """The element type that ``value`` has by itself."""
    if isinstance(value, Tracer):
        return value._node.type.dtype
    return dtype(np.asarray(value).dtype)


def weak_kind(value: Any) -> type | None:
    """bool, int, float or complex for a weak scalar (a Python number or a traced one), else None."""
    if isinstance(value, Tracer):
        if not value._weak:
            return None
        return {"b": bool, "i": int, "f": float, "c": complex}[value._node.type.dtype.kind]
    return type(value) if is_weak_scalar(value) else None


def promote(*values: Any) -> DType:
    """The element type of arithmetic on ``values``: NumPy 2's rule; f16 and bf16 as in JAX."""
    strong = [element_type(v) for v in values if weak_kind(v) is None]
    weak = [kind for v in values if (kind := weak_kind(v)) is not None]
    if bf16 in strong:
        return promote_bf16(strong, weak)
    arguments = [t.numpy for t in strong] + [kind() for kind in weak]
    return dtype(np.result_type(*arguments))


def promote_bf16(strong: Sequence[DType], weak: Sequence[type]) -> DType:
    rest = [t for t in strong if t is not bf16 and t.is_inexact]
    if not rest:
        return bf16
    return f32 if all(t is f16 for t in rest) else dtype(np.result_type(np.float32, *[t.numpy for t in rest]))


def operands(*values: Any, to: DType | None = None) -> list[Node]:
    """``values`` as nodes of one element type and one shape, by NumPy's promotion and broadcasting."""
    element = promote(*values) if to is None else to
    note_widening(element, values)
    nodes = [to_node(v, element) for v in values]
    return broadcast_together(nodes)


def broadcast_together(nodes: Sequence[Node]) -> list[Node]:
    shapes = [n.type.shape for n in nodes]
    if all(s == shapes[0] for s in shapes):
        return list(nodes)
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise GraphError(f"shapes {', '.join(map(str, shapes))} do not broadcast together") from None
    return [ops.broadcast_numpy(n, shape) for n in nodes]


def note_widening(result: DType, values: Sequence[Any]) -> None:
    """Say where an f32 program becomes f64, and which operand did it."""
    if result is not f64:
        return
    narrow = [v for v in values if isinstance(v, Tracer) and v._node.type.dtype is f32]
    wide = [v for v in values if weak_kind(v) is None and element_type(v) is f64]
    trace = current_trace()
    if narrow and wide and trace is not None:
        what = "a traced value" if isinstance(wide[0], Tracer) else type(wide[0]).__name__
        trace.note(f"float64 from {where()}: {what} is float64, the other operand float32")


def located(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``function(*args, **kwargs)``; a GraphError gets the user's line."""
    try:
        return function(*args, **kwargs)
    except GraphError as error:
        if getattr(error, "located", False):
            raise
        raised = GraphError(f"{error}\n  at {where()}")
        raised.located = True  # type: ignore[attr-defined]
        raise raised from None


# ------------------------------------------------------------------------------------------------ ufuncs


def apply_ufunc(ufunc: Any, *inputs: Any, dtype_: Any = None, where_: Any = True, casting: str = "same_kind") -> Any:
    """A NumPy ufunc on tracers: NumPy's own loop resolution gives the types, the table gives the nodes."""
    special = FUNCTIONS.get(ufunc)
    if special is not None:
        return located(special, *inputs)
    rule = UFUNCS.get(ufunc) or NAMED_UFUNCS.get(ufunc.__name__)
    if rule is None:
        raise UnsupportedError(f"graphc does not trace the ufunc {ufunc.__name__} (at {where()})")
    return located(_apply_ufunc, ufunc, rule, inputs, dtype_, where_)


def _apply_ufunc(ufunc: Any, rule: Callable[..., Any], inputs: Sequence[Any], dtype_: Any, where_: Any) -> Any:
    prepared = [to_tracer(v) if isinstance(v, (list, tuple)) else v for v in inputs]
    loop = loop_types(ufunc, prepared, dtype_)
    if any(t is f64 for t in loop):
        note_widening(f64, prepared)
    nodes = broadcast_together([to_node(v, t) for v, t in zip(prepared, loop, strict=True)])
    result = rule(*nodes)
    weak = all(weak_kind(v) is not None for v in prepared) and dtype_ is None
    if isinstance(result, tuple):
        return tuple(wrap(r, weak) for r in result)
    if where_ is not True:
        raise UnsupportedError(f"{ufunc.__name__}(where=...) needs out= with graphc; write np.where (at {where()})")
    return wrap(result, weak and result.type.dtype is not bool_)


def to_tracer(value: Any) -> Tracer:
    return value if isinstance(value, Tracer) else wrap(to_node(value))


def loop_types(ufunc: Any, inputs: Sequence[Any], dtype_: Any) -> list[DType]:
    """The input element types of the loop that NumPy would run."""
    if dtype_ is not None:
        return [dtype(dtype_)] * len(inputs)
    strong = [element_type(v) for v in inputs if weak_kind(v) is None]
    if bf16 in strong:
        return [promote(*inputs)] * len(inputs)
    kinds = [weak_kind(v) for v in inputs]
    # NumPy has no weak bools: they are strong np.bool_.
    given = [np.dtype(bool) if k is bool else k or element_type(v).numpy for k, v in zip(kinds, inputs, strict=True)]
    if not strong:
        given = [np.dtype(k) for k in given]
    try:
        found = ufunc.resolve_dtypes((*given, *[None] * ufunc.nout))
    except TypeError as error:
        names = ", ".join(str(v._node.type) if isinstance(v, Tracer) else type(v).__name__ for v in inputs)
        raise GraphError(f"{ufunc.__name__} is not defined for {names}: {error}") from None
    return [dtype(t) for t in found[: ufunc.nin]]


def binary(ufunc: Any) -> Callable[[Tracer, Any], Any]:
    def method(self: Tracer, other: Any) -> Any:
        return NotImplemented if defers(other) else apply_ufunc(ufunc, self, other)

    return method


def reflected(ufunc: Any) -> Callable[[Tracer, Any], Any]:
    def method(self: Tracer, other: Any) -> Any:
        return NotImplemented if defers(other) else apply_ufunc(ufunc, other, self)

    return method


def unary(ufunc: Any) -> Callable[[Tracer], Any]:
    return lambda self: apply_ufunc(ufunc, self)


def defers(other: Any) -> bool:
    """Whether an operand is no number or array, so that Python should ask it instead."""
    return isinstance(other, (str, bytes, dict, set)) or other is None


def refuse(what: str, remedy: str) -> NoReturn:
    raise TracerError(f"{what} at {where()}; {remedy}")


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
    __add__, __radd__ = binary(np.add), reflected(np.add)
    __sub__, __rsub__ = binary(np.subtract), reflected(np.subtract)
    __mul__, __rmul__ = binary(np.multiply), reflected(np.multiply)
    __truediv__, __rtruediv__ = binary(np.true_divide), reflected(np.true_divide)
    __floordiv__, __rfloordiv__ = binary(np.floor_divide), reflected(np.floor_divide)
    __mod__, __rmod__ = binary(np.remainder), reflected(np.remainder)
    __matmul__, __rmatmul__ = binary(np.matmul), reflected(np.matmul)
    __and__, __rand__ = binary(np.bitwise_and), reflected(np.bitwise_and)
    __or__, __ror__ = binary(np.bitwise_or), reflected(np.bitwise_or)
    __xor__, __rxor__ = binary(np.bitwise_xor), reflected(np.bitwise_xor)
    __lshift__, __rlshift__ = binary(np.left_shift), reflected(np.left_shift)
    __rshift__, __rrshift__ = binary(np.right_shift), reflected(np.right_shift)
    __divmod__ = binary(np.divmod)
    __rdivmod__ = reflected(np.divmod)
    __lt__, __le__ = binary(np.less), binary(np.less_equal)
    __gt__, __ge__ = binary(np.greater), binary(np.greater_equal)
    __neg__, __pos__, __invert__ = unary(np.negative), unary(np.positive), unary(np.invert)
    __abs__ = unary(np.absolute)

    def __pow__(self, other: Any) -> Any:
        return NotImplemented if defers(other) else METHODS["power"](self, other)

    def __rpow__(self, other: Any) -> Any:
        return NotImplemented if defers(other) else METHODS["power"](other, self)

    def __eq__(self, other: Any) -> Any:
        return NotImplemented if defers(other) else apply_ufunc(np.equal, self, other)

    def __ne__(self, other: Any) -> Any:
        return NotImplemented if defers(other) else apply_ufunc(np.not_equal, self, other)

    def __getitem__(self, index: Any) -> Any:
        return located(METHODS["getitem"], self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        located(METHODS["setitem"], self, index, value)

    def __getattr__(self, name: str) -> Any:
        method = METHODS.get(name)
        if method is None or name.startswith("_"):
            raise AttributeError(f"a traced array has no attribute {name!r}" + ("" if name.startswith("_") else f" (at {where()})"))
        if getattr(method, "is_property", False):
            return method(self)
        return lambda *args, **kwargs: located(method, self, *args, **kwargs)

    # -- NumPy's protocols
    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        target = out[0] if isinstance(out, tuple) and len(out) == 1 else out
        if target is not None and not isinstance(target, Tracer):
            refuse(
                f"np.{ufunc.__name__} would write a traced value of this program into a NumPy array (out=)",
                "write `result = ...` without out=, or make the target inside the function with np.zeros_like(x)",
            )
        name = f"{ufunc.__name__}.{method}"
        if method == "__call__":
            special = FUNCTIONS.get(ufunc)
            if special is not None:
                result = located(special, *inputs, **kwargs)
            else:
                loop = {"dtype_": kwargs.pop("dtype", None), "where_": kwargs.pop("where", True)}
                kwargs.pop("casting", None)
                if kwargs:
                    raise UnsupportedError(f"np.{ufunc.__name__} with {', '.join(kwargs)}= is not traced (at {where()})")
                result = apply_ufunc(ufunc, *inputs, **loop)
        else:
            handler = METHODS.get(f"ufunc.{method}")
            if handler is None:
                raise UnsupportedError(f"np.{name} is not traced (at {where()})")
            result = located(handler, ufunc, *inputs, **kwargs)
        if target is not None:
            return write_out(target, result)
        return result

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        handler = FUNCTIONS.get(function)
        if handler is None:
            module = getattr(function, "__module__", "numpy")
            raise UnsupportedError(
                f"graphc does not trace {module}.{function.__name__} (at {where()}); "
                "write it with functions of graphc.numpy, or compute it outside the traced function"
            )
        target = kwargs.get("out")
        if target is not None:
            if not isinstance(target, Tracer):
                refuse(
                    f"np.{function.__name__} would write a traced value into a NumPy array (out=)",
                    "leave out= away and use the result",
                )
            kwargs = {k: v for k, v in kwargs.items() if k != "out"}
            return write_out(target, located(handler, *args, **kwargs))
        return located(handler, *args, **kwargs)

    # -- concrete values are not there
    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(
            f"a traced value {self._node.type} was used as a NumPy array",
            "use NumPy functions on it directly: inside a traced function write `x[i] = v` on arrays made there by "
            "np.zeros_like(x), np.stack([...]) instead of np.array([...]), and graphc.numpy.asarray(a)[i] to index a "
            "NumPy array by a traced index",
        )

    def __bool__(self) -> NoReturn:
        refuse(
            f"the truth value of a traced {self._node.type} is not known while tracing (if, while, and, or, not, assert)",
            "write np.where(condition, a, b), np.logical_and(a, b), graphc.cond or graphc.while_loop",
        )

    def __float__(self) -> NoReturn:
        refuse(
            f"float() of a traced {self._node.type}: its number is not known while tracing",
            "use np functions instead of math (np.sqrt, not math.sqrt), or x.astype(float); return the value to see it",
        )

    def __complex__(self) -> NoReturn:
        refuse(f"complex() of a traced {self._node.type}", "use x.astype(complex)")

    def __int__(self) -> NoReturn:
        refuse(
            f"int() of a traced {self._node.type}: its number is not known while tracing",
            "use x.astype(int), or name the argument in compile(static=...)",
        )

    def __index__(self) -> NoReturn:
        refuse(
            f"a traced {self._node.type} was used as a Python integer (range, list index, shape)",
            "name the argument in compile(static=...), use graphc.fori_loop, or np.take(array, i)",
        )

    def item(self, *_: Any) -> NoReturn:
        refuse("item() of a traced value", "return the value from the function to see its number")

    def tolist(self) -> NoReturn:
        refuse("tolist() of a traced value", "return the value from the function to see its numbers")

    def __reduce__(self) -> NoReturn:
        refuse("a traced value cannot be pickled or copied to another process", "return it from the function")

    def __copy__(self) -> Tracer:
        return Tracer(self._node, self._trace, self._weak)

    def __deepcopy__(self, _: Any) -> Tracer:
        return self.__copy__()


def write_out(target: Tracer, result: Any) -> Tracer:
    """``out=target``: the target takes the value, cast to its own type as NumPy would."""
    located(METHODS["setitem"], target, Ellipsis, result)
    return target


# ------------------------------------------------------------------------------------------------ tracing functions


@dataclass(frozen=True)
class Argument:
    """One traced leaf: its name, type, and whether it is a weak Python scalar."""

    name: str
    type: TensorType
    weak: bool


def argument(value: Any, name: str) -> Argument:
    """How a call argument enters a program. Raises TypeError for what is no array, number or Spec."""
    if isinstance(value, Spec):
        return Argument(name, value.type, False)
    if isinstance(value, Tracer):
        return Argument(name, value._node.type, value._weak)
    if isinstance(value, np.ndarray):
        return Argument(name, TensorType(dtype(value.dtype), value.shape), False)
    if is_weak_scalar(value):
        return Argument(name, TensorType(dtype(np.asarray(value).dtype), ()), True)
    if isinstance(value, np.generic):
        return Argument(name, TensorType(dtype(value.dtype), ()), False)
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        return Argument(name, TensorType(dtype(array.dtype), array.shape), False)
    raise TypeError(
        f"argument {name or 'of the function'} is a {type(value).__name__}; arguments are arrays, numbers and nestings of "
        "dict, list, tuple, namedtuple, dataclass and None; name others in static="
    )


def is_static(value: Any) -> bool:
    """Leaves that are part of the signature rather than inputs: strings, enums, callables, types."""
    import enum

    return isinstance(value, (str, bytes, enum.Enum, type, slice, range, np.dtype, DType)) or (
        callable(value) and not isinstance(value, (np.ndarray, np.generic, Tracer))
    )


def leaf_names(function: Callable[..., Any], tree: Tree) -> list[str]:
    """Readable names of the leaves of an ``(args, kwargs)`` tree: ``params.w1``, ``x``."""
    import inspect

    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    plain = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind == p.VAR_POSITIONAL), "arg")
    names: list[str] = []
    args, kwargs = tree.children
    for k, child in enumerate(args.children):
        base = plain[k] if k < len(plain) else f"{rest}{k - len(plain)}"
        names.extend(_join(base, p) for p in child.paths)
    for key, child in zip(kwargs.keys, kwargs.children, strict=True):
        names.extend(_join(str(key), p) for p in child.paths)
    return names


def _join(base: str, path: str) -> str:
    return base if not path else base + path if path.startswith("[") else f"{base}.{path}"


def output_nodes(value: Any) -> tuple[list[Node], Tree]:
    """The leaves of what a traced function returned, as nodes of the current trace."""
    leaves, tree = flatten(value)
    nodes = []
    for leaf, path in zip(leaves, tree.paths, strict=True):
        try:
            nodes.append(to_node(leaf))
        except TypeError as error:
            raise TypeError(f"the traced function returned {type(leaf).__name__} {path!r}: {error}") from None
    return nodes, tree


@dataclass(frozen=True, eq=False)
class Program:
    """A traced function: the graph, and how its inputs and outputs nest."""

    graph: Graph
    arguments: tuple[Argument, ...]
    in_tree: Tree
    out_tree: Tree
    notes: tuple[str, ...] = ()


def trace_program(function: Callable[..., Any], args: tuple, kwargs: dict[str, Any], static: Sequence[str] = ()) -> Program:
    """Run ``function`` on tracers in place of the array leaves of its arguments."""
    leaves, tree = flatten((args, kwargs), is_leaf=is_static)
    names = leaf_names(function, tree)
    dynamic = [not (is_static(v) or names[k].split(".")[0].split("[")[0] in static) for k, v in enumerate(leaves)]
    arguments = tuple(argument(v, n) for v, n, d in zip(leaves, names, dynamic, strict=True) if d)
    name = getattr(function, "__name__", "graph")
    with unchanged_generators(), Trace(name if name.isidentifier() else "graph") as trace:
        tracers = iter([trace.input(a.name or "x", a.type, a.weak) for a in arguments])
        call_args, call_kwargs = unflatten(tree, [next(tracers) if d else v for v, d in zip(leaves, dynamic, strict=True)])
        nodes, out_tree = output_nodes(function(*call_args, **call_kwargs))
        graph = trace.builder.graph(nodes)
    return Program(graph, arguments, tree, out_tree, tuple(trace.notes))


@contextmanager
def unchanged_generators() -> Iterator[None]:
    """Warn when NumPy's global random state was drawn from while tracing: the draw would become a constant."""
    before = np.random.get_state()
    yield
    after = np.random.get_state()
    if before[2] != after[2] or not np.array_equal(before[1], after[1]):  # type: ignore[index]
        warnings.warn(
            "np.random was drawn from while tracing: the numbers are now constants of the program and the same in every "
            "call; pass them as an argument, or use graphc.random with a key",
            stacklevel=4,
        )


def in_trace(*values: Any) -> bool:
    """Whether a transform should run inside the current trace (there is one) rather than start its own."""
    return current_trace() is not None


__all__ = [
    "FUNCTIONS", "METHODS", "NAMED_UFUNCS", "UFUNCS", "Argument", "Program", "Spec", "Trace", "Tracer", "TracerError",
    "UnsupportedError", "apply_ufunc", "argument", "current_trace", "in_trace", "is_tracer", "located", "operands",
    "output_nodes", "promote", "refuse", "to_node", "to_tracer", "trace_program", "wrap", "i64",
]  # fmt: skip
