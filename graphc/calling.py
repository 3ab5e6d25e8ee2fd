"""Signatures of calls: what tells one executable of a function from another, and the quick way from a call to its leaves.

A call is flattened, its leaves described, and the :class:`Signature` looked up. That walks the nesting in Python at every
call; so for a signature that was seen, :func:`matcher` writes a function that takes the leaves out by name and checks
them on the way, and :func:`rebuilder` one that nests the results.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import linecache
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.tracing import argument, flatten_call, is_static, root_name, unwrapped
from graphc.tree import Tree, described, flatten
from graphc.types import DTYPES, TensorType, dtype

Match = Callable[[tuple[Any, ...], Mapping[str, Any]], "list[Any] | None"]


#: the Python class of a weak number, by the kind of its element type
NUMBERS: dict[str, type] = {"b": bool, "i": int, "f": float, "c": complex}


@dataclass(frozen=True)
class ArrayLeaf:
    """A leaf that enters the program: element type and shape; ``number`` is the class of a Python number, which is weak."""

    dtype: np.dtype
    shape: tuple[int, ...]
    number: type | None = None

    def __str__(self) -> str:
        return f"a Python {self.number.__name__}" if self.number else str(TensorType(dtype(self.dtype), self.shape))


@dataclass(frozen=True)
class StaticLeaf:
    """A leaf that is part of the signature: its type and value. ``shown`` is how it is told, and kept in files.

    One that was read from a file has no type and value: it stands for whatever is shown in the same way.
    """

    shown: str
    type: type | None = None
    value: Any = None

    def agrees(self, value: Any) -> bool:
        if self.type is None:
            return static_text(value) == self.shown
        return type(value) is self.type and bool(value == self.value)

    def __str__(self) -> str:
        return self.shown


Leaf = ArrayLeaf | StaticLeaf


@dataclass(frozen=True)
class Signature:
    """What distinguishes one executable of a function from another: nesting, types, static values."""

    tree: Tree
    leaves: tuple[Leaf, ...]

    @property
    def statics(self) -> dict[int, StaticLeaf]:
        """The static leaves by position."""
        return {k: leaf for k, leaf in enumerate(self.leaves) if isinstance(leaf, StaticLeaf)}


Names = Callable[[Tree], Sequence[str]]


def signature_of(
    args: Sequence[Any], kwargs: Mapping[str, Any], names: Names, static: Sequence[str] = ()
) -> tuple[Signature, list[Any]]:
    """The signature of a call, and its leaves that enter the program.

    ``names(tree)`` gives the leaves' names; it is asked where there are ``static`` parameters, and for errors.
    """
    leaves, tree = flatten_call(args, kwargs)
    roots = [root_name(name) for name in names(tree)] if static else ()
    kinds: list[Leaf] = []
    dynamic = []
    for k, leaf in enumerate(leaves):
        if is_static(leaf) or (roots and roots[k] in static):
            kinds.append(static_leaf(unwrapped(leaf)))
        else:
            kinds.append(array_leaf(leaf, lambda k=k: names(tree)[k]))  # type: ignore[misc]
            dynamic.append(leaf)
    return Signature(tree, tuple(kinds)), dynamic


def array_leaf(leaf: Any, name: Callable[[], str] = str) -> ArrayLeaf:
    """The description of a leaf. Raises TypeError with its name for what is no array, number or Spec."""
    if type(leaf) is np.ndarray and leaf.dtype in PLAIN:
        return ArrayLeaf(leaf.dtype, leaf.shape)
    try:
        found = argument(leaf, "")
    except TypeError:
        found = argument(leaf, name())
    return ArrayLeaf(found.type.dtype.numpy, found.type.shape, type(leaf) if found.weak else None)


#: NumPy's own element types that graphc has; others (of ml_dtypes, in other byte orders) take the long way.
PLAIN = frozenset(d.numpy for d in DTYPES.values() if d.name != "bf16")


def static_leaf(value: Any) -> StaticLeaf:
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"a static argument must be hashable, {value!r} of type {type(value).__name__} is not") from None
    return StaticLeaf(static_text(value), type(value), value)


def static_text(value: Any) -> str:
    """How a static value is told: by its literal; functions, classes and members of enums by name."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if isinstance(value, type) or callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return repr(value)


# ------------------------------------------------------------------------------------------------ calls of one signature


def take_leaves(signature: Signature, names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """The arrays and numbers of a call that must have this nesting and these static values; types are not looked at.

    Where the signature comes from a file it holds plain tuples and dicts: namedtuples and dataclasses fit them. ``names``
    are those of the positional arguments. Raises TypeError where the call does not fit, naming the argument.
    """
    wanted, by_name = signature.tree.children
    if len(args) != len(wanted.children) or set(kwargs) != set(by_name.keys):
        keys = [f"{key}=" for key in by_name.keys]
        given = [*(["1 argument" if len(args) == 1 else f"{len(args)} arguments"]), *(f"{key}=" for key in kwargs)]
        raise TypeError(f"expected the arguments ({', '.join([*names, *keys])}), got {', '.join(given)}")
    leaves: list[Any] = []
    for name, tree, value in zip(names, wanted.children, args, strict=True):
        take(tree, value, name, leaves)
    for name, tree in zip(by_name.keys, by_name.children, strict=True):
        take(tree, kwargs[name], name, leaves)
    dynamic = []
    for kind, leaf in zip(signature.leaves, leaves, strict=True):
        if isinstance(kind, ArrayLeaf):
            dynamic.append(leaf)
        elif not kind.agrees(leaf):
            raise TypeError(f"this was compiled for the static value {kind}, not {static_text(leaf)}")
    return dynamic


def check_types(signature: Signature, leaves: Sequence[Any], names: Sequence[str]) -> None:
    """Raise TypeError, with its name, for a leaf that is not of the type that the signature has at its place."""
    wanted = [kind for kind in signature.leaves if isinstance(kind, ArrayLeaf)]
    for kind, leaf, name in zip(wanted, leaves, names, strict=True):
        found = array_leaf(leaf, lambda name=name: name)  # type: ignore[misc]
        if found != kind:
            raise TypeError(f"{name}: expected {kind}, got {found}")


def take(tree: Tree, value: Any, path: str, leaves: list[Any]) -> None:
    """Append the leaves of ``value``, which must nest as ``tree`` does, in the order of ``tree``."""
    if tree.kind == "leaf":
        if isinstance(value, (dict, list, tuple)) or value is None:
            raise TypeError(f"{path}: expected an array or number, got {described(flatten(value)[1])}")
        leaves.append(value)
        return
    parts = children_of(tree, value)
    if parts is None:
        raise TypeError(f"{path}: expected {described(tree)}, got {described(flatten(value)[1])}")
    for key, child, part in zip(tree.keys, tree.children, parts, strict=True):
        plain = tree.kind in ("dict", "namedtuple", "dataclass") and isinstance(key, str) and key.isidentifier()
        take(child, part, f"{path}.{key}" if plain else f"{path}[{key!r}]", leaves)


def children_of(tree: Tree, value: Any) -> list[Any] | None:
    """The parts of ``value`` in the order of ``tree``'s; None where it is built in another way."""
    match tree.kind:
        case "none":
            return [] if value is None else None
        case "dict":
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            fits = isinstance(value, dict) and value.keys() == set(tree.keys)
            return [value[k] for k in tree.keys] if fits else None
        case "dataclass":
            return [getattr(value, k) for k in tree.keys] if type(value) is tree.type else None
        case "namedtuple":
            return list(value) if isinstance(value, tuple) and type(value) is tree.type else None
    fits = isinstance(value, list if tree.kind == "list" else tuple) and len(value) == len(tree.children)
    return list(value) if fits else None


# ------------------------------------------------------------------------------------------------ generated functions


def matcher(signature: Signature) -> Match | None:
    """A function that takes the arrays and numbers out of a call ``(args, kwargs)`` of exactly this signature.

    It returns None for any other call, also for calls that only look different: those go the long way. There is none for
    nestings that it does not know how to check (subclasses of dict).
    """
    if not knows(signature.tree):
        return None
    writer = _Matcher(signature)
    args, kwargs = signature.tree.children
    writer.check(f"len(args) != {len(args.children)}")
    writer.check(f"len(kwargs) != {len(kwargs.children)}" if kwargs.children else "kwargs")
    for k, child in enumerate(args.children):
        writer.visit(child, f"args[{k}]")
    for key, child in zip(kwargs.keys, kwargs.children, strict=True):
        writer.visit(child, f"kwargs[{key!r}]")
    lines = [*writer.lines, f"return [{', '.join(writer.found)}]"]
    body = "\n        ".join(lines)
    source = f"def match(args, kwargs):\n    try:\n        {body}\n    except (KeyError, AttributeError):\n        return None\n"
    return defined("match", source, writer.scope)


def knows(tree: Tree) -> bool:
    return tree.rebuild is None and all(map(knows, tree.children))


class _Matcher:
    """The statements of a matcher: one variable per place of the nesting."""

    def __init__(self, signature: Signature) -> None:
        self.leaves = iter(signature.leaves)
        self.lines: list[str] = []
        self.found: list[str] = []
        self.scope: dict[str, Any] = {"ndarray": np.ndarray, "asarray": np.asarray}
        self.count = 0

    def constant(self, value: Any) -> str:
        name = f"c{len(self.scope)}"
        self.scope[name] = value
        return name

    def check(self, wrong: str) -> None:
        self.lines.append(f"if {wrong}: return None")

    def visit(self, tree: Tree, place: str) -> None:
        name = f"v{self.count}"
        self.count += 1
        self.lines.append(f"{name} = {place}")
        if tree.kind == "leaf":
            return self.leaf(next(self.leaves), name)
        if tree.kind == "none":
            return self.check(f"{name} is not None")
        plain = {"dict": "dict", "list": "list", "tuple": "tuple"}.get(tree.kind) or self.constant(tree.type)
        sized = tree.kind in ("dict", "list", "tuple")
        self.check(f"type({name}) is not {plain}" + (f" or len({name}) != {len(tree.children)}" if sized else ""))
        for k, (key, child) in enumerate(zip(tree.keys, tree.children, strict=True)):
            match tree.kind:
                case "dict":
                    self.visit(child, f"{name}[{repr(key) if type(key) in (str, int) else self.constant(key)}]")
                case "dataclass":
                    self.visit(child, f"{name}.{key}")
                case _:
                    self.visit(child, f"{name}[{k}]")

    def leaf(self, leaf: Leaf, name: str) -> None:
        if isinstance(leaf, StaticLeaf):
            return self.check(f"not {self.constant(leaf.agrees)}({name})")
        if leaf.number is not None:
            self.check(f"type({name}) is not {leaf.number.__name__}")
        else:
            kind = self.constant(leaf.dtype)
            if leaf.shape == ():  # NumPy's own scalars
                self.lines.append(f"if type({name}) is {self.constant(leaf.dtype.type)}: {name} = asarray({name})")
            self.check(f"type({name}) is not ndarray or {name}.dtype is not {kind} or {name}.shape != {leaf.shape!r}")
        self.found.append(name)


def rebuilder(tree: Tree) -> Callable[[Sequence[Any]], Any]:
    """A function that nests a list of leaves as ``tree`` says."""
    scope: dict[str, Any] = {}
    lines: list[str] = []
    count = iter(range(tree.size))

    def visit(tree: Tree) -> str:
        if tree.kind == "leaf":
            return f"leaves[{next(count)}]"
        if tree.kind == "none":
            return "None"
        parts = [visit(child) for child in tree.children]
        name = f"n{len(lines)}"
        lines.append(f"{name} = {built(tree, parts)}")
        return name

    def constant(value: Any) -> str:
        name = f"c{len(scope)}"
        scope[name] = value
        return name

    def built(tree: Tree, parts: list[str]) -> str:
        match tree.kind:
            case "list":
                return f"[{', '.join(parts)}]"
            case "tuple":
                return f"({', '.join(parts)}{',' * (len(parts) == 1)})"
            case "dict":
                order = tree.order or range(len(parts))
                keys = [repr(k) if type(k) in (str, int) else constant(k) for k in tree.keys]
                plain = f"{{{', '.join(f'{keys[k]}: {parts[k]}' for k in order)}}}"
                return plain if tree.rebuild is None else f"{constant(tree.rebuild)}({plain})"
            case "namedtuple":
                return f"{constant(tree.type)}({', '.join(parts)})"
        return f"{constant(dataclass_maker(tree))}({', '.join(parts)})"

    result = visit(tree)
    body = "".join(f"    {line}\n" for line in lines)
    return defined("rebuild", f"def rebuild(leaves):\n{body}    return {result}\n", scope)


def dataclass_maker(tree: Tree) -> Callable[..., Any]:
    """Makes a dataclass of its fields, as :func:`graphc.tree.unflatten` does: without ``__init__``."""
    assert tree.type is not None
    cls, keys = tree.type, tree.keys

    def make(*values: Any) -> Any:
        made: Any = object.__new__(cls)
        for key, value in zip(keys, values, strict=True):
            object.__setattr__(made, key, value)
        return made

    return make


def defined(name: str, source: str, scope: dict[str, Any]) -> Any:
    """The function that ``source`` defines; tracebacks show its lines. Equal sources share one entry of ``linecache``."""
    filename = f"<graphc {name} {hashlib.sha256(source.encode()).hexdigest()[:12]}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), scope)
    return scope[name]
