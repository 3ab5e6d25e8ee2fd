"""Signatures of calls: what tells one executable of a function from another, and the quick way from a call to its leaves.

A call is flattened, its leaves described, and the :class:`Signature` looked up. That walks the nesting in Python at every
call; so for a signature that was seen, :func:`matcher` writes a function that takes the leaves out by name and checks
them on the way, and :func:`rebuilder` one that nests the results.
"""

from __future__ import annotations

import enum
import linecache
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc.tracing import argument, flatten_call, is_static, unwrapped
from graphc.tree import Tree
from graphc.types import dtype

Match = Callable[[tuple[Any, ...], Mapping[str, Any]], "list[Any] | None"]


@dataclass(frozen=True)
class ArrayLeaf:
    """A leaf that enters the program: element type and shape; ``number`` is the class of a Python number, which is weak."""

    dtype: np.dtype
    shape: tuple[int, ...]
    number: type | None = None


@dataclass(frozen=True)
class StaticLeaf:
    """A leaf that is part of the signature. Values are equal where types and values are; ``shown`` is how it is saved."""

    type: type | None
    value: Any
    shown: str = ""


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


def signature_of(
    args: Sequence[Any], kwargs: Mapping[str, Any], names: Callable[[Tree], Sequence[str]], static: Sequence[str] = ()
) -> tuple[Signature, list[Any]]:
    """The signature of a call, and its leaves that enter the program.

    ``names(tree)`` gives the leaves' names, which are asked for where there are ``static`` parameters or an error is told.
    """
    leaves, tree = flatten_call(args, kwargs)
    roots = [name.split(".")[0].split("[")[0] for name in names(tree)] if static else ()
    described: list[Leaf] = []
    dynamic = []
    for k, leaf in enumerate(leaves):
        if is_static(leaf) or (roots and roots[k] in static):
            described.append(static_leaf(unwrapped(leaf)))
        else:
            described.append(array_leaf(leaf, k, tree, names))
            dynamic.append(leaf)
    return Signature(tree, tuple(described)), dynamic


def array_leaf(leaf: Any, k: int, tree: Tree, names: Callable[[Tree], Sequence[str]]) -> ArrayLeaf:
    """The description of a leaf. Raises TypeError with its name for what is no array, number or Spec."""
    if type(leaf) is np.ndarray and leaf.dtype.isbuiltin == 1 and leaf.dtype.kind not in "OSUVMm":
        return ArrayLeaf(leaf.dtype, leaf.shape)
    try:
        found = argument(leaf, "")
    except TypeError:
        found = argument(leaf, names(tree)[k])
    return ArrayLeaf(found.type.dtype.numpy, found.type.shape, type(leaf) if found.weak else None)


def static_leaf(value: Any) -> StaticLeaf:
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"a static argument must be hashable, {value!r} of type {type(value).__name__} is not") from None
    return StaticLeaf(type(value), value, static_text(value))


def static_text(value: Any) -> str:
    """How a static value is written into a file: by its literal, or by name for functions, classes and enums."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if isinstance(value, type) or callable(value):
        return f"{getattr(value, '__module__', '?')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return repr(value)


def as_saved(signature: Signature) -> Signature:
    """The signature as a file keeps it: namedtuples as tuples, dataclasses as dicts, static values by their text."""
    leaves = [StaticLeaf(None, None, s.shown) if isinstance(s, StaticLeaf) else s for s in signature.leaves]
    return Signature(plain_tree(signature.tree), tuple(leaves))


def plain_tree(tree: Tree) -> Tree:
    """``tree`` without the user's classes: namedtuples become tuples, dataclasses and all dicts plain dicts."""
    children = tuple(map(plain_tree, tree.children))
    match tree.kind:
        case "namedtuple":
            return Tree("tuple", children, tuple(range(len(children))))
        case "dataclass":
            order = sorted(range(len(children)), key=lambda k: tree.keys[k])
            keys = tuple(tree.keys[k] for k in order)
            place = {k: n for n, k in enumerate(order)}
            return Tree("dict", tuple(children[k] for k in order), keys, dict, tuple(place[k] for k in range(len(order))))
        case "dict":
            return Tree("dict", children, tree.keys, dict, tree.order)
    return replace(tree, children=children) if children else tree


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
        self.scope: dict[str, Any] = {"ndarray": np.ndarray}
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
            self.check(f"type({name}) is not {self.constant(leaf.type)} or {name} != {self.constant(leaf.value)}")
            return
        if leaf.number is not None:
            self.check(f"type({name}) is not {leaf.number.__name__}")
        else:
            kind = self.constant(leaf.dtype)
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
        made = object.__new__(cls)
        for key, value in zip(keys, values, strict=True):
            object.__setattr__(made, key, value)
        return made

    return make


def defined(name: str, source: str, scope: dict[str, Any]) -> Any:
    """The function that ``source`` defines; tracebacks show its lines. Equal sources share one entry of ``linecache``."""
    filename = f"<graphc {name} {hash(source) & 0xFFFFFFFFFFFF:x}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), scope)
    return scope[name]


def leaf_from_json(data: Any) -> Leaf:
    """A leaf as :func:`leaf_to_json` writes it. Raises ValueError, TypeError or KeyError for anything else."""
    if isinstance(data, str):
        return StaticLeaf(None, None, data)
    element, shape, number = data
    return ArrayLeaf(dtype(str(element)).numpy, tuple(int(n) for n in shape), NUMBERS[number] if number else None)


def leaf_to_json(leaf: Leaf) -> Any:
    if isinstance(leaf, StaticLeaf):
        return leaf.shown
    return [dtype(leaf.dtype).name, list(leaf.shape), leaf.number.__name__ if leaf.number else ""]


NUMBERS = {kind.__name__: kind for kind in (bool, int, float, complex)}
