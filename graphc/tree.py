"""Pytrees: nestings of dict, list, tuple, namedtuple, dataclass and None whose leaves are arrays and scalars.

>>> leaves, tree = flatten({"w": 1.0, "b": [2.0, None]})
>>> leaves, tree.paths
([2.0, 1.0], ('b[0]', 'w'))
>>> unflatten(tree, [20, 10])
{'w': 10, 'b': [20, None]}

Dicts match by key: two dicts with the same keys in another order have equal trees, and their leaves come in the same
order (of the sorted keys):

>>> flatten({"b": 1, "a": 2})[1] == flatten({"a": 10, "b": 20})[1]
True
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any


@dataclass(frozen=True)
class Tree:
    """The structure of a pytree: ``kind`` is leaf, none, dict, list, tuple, namedtuple or dataclass.

    ``type`` is the class of a namedtuple or dataclass; every dict has ``dict``. ``order`` and ``rebuild`` say how a dict
    listed its keys and of which class it was: they serve rebuilding alone, so that dicts match by key.
    """

    kind: str
    children: tuple[Tree, ...] = ()
    keys: tuple[Any, ...] = ()
    type: type | None = None
    order: tuple[int, ...] = dataclasses.field(default=(), compare=False)
    rebuild: Callable[[dict], Any] | None = dataclasses.field(default=None, compare=False)

    @property
    def size(self) -> int:
        """The number of leaves."""
        return 1 if self.kind == "leaf" else sum(child.size for child in self.children)

    @property
    def paths(self) -> tuple[str, ...]:
        """One readable name per leaf: ``layers[0].w``; the empty string for a lone leaf."""
        return tuple(p.removeprefix(".") for p in _paths(self, ""))

    def __repr__(self) -> str:
        return f"Tree({', '.join(self.paths) or self.kind})"


#: Types known to be leaves, which need not be asked what they are; the tracers enter arrays and themselves.
LEAF_TYPES: set[type] = {bool, int, float, complex}

LEAF = Tree("leaf")
NONE = Tree("none")


def _paths(tree: Tree, prefix: str) -> Iterator[str]:
    if tree.kind == "leaf":
        yield prefix
    for key, child in zip(tree.keys, tree.children, strict=True):
        yield from _paths(child, _step(tree, prefix, key))


def _step(tree: Tree, prefix: str, key: Any) -> str:
    plain = tree.kind in ("dict", "namedtuple", "dataclass") and isinstance(key, str) and key.isidentifier()
    return f"{prefix}.{key}" if plain else f"{prefix}[{key!r}]"


def flatten(value: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], Tree]:
    """The leaves of ``value`` in order, and its structure."""
    leaves: list[Any] = []
    return leaves, _flatten(value, leaves, is_leaf)


def _flatten(value: Any, leaves: list[Any], is_leaf: Callable[[Any], bool] | None) -> Tree:
    kind = type(value)
    if kind in LEAF_TYPES or is_leaf is not None and is_leaf(value):
        leaves.append(value)
        return LEAF
    if value is None:
        return NONE
    if isinstance(value, dict):
        keys = list(value)
        order = sorted_keys(keys)
        children = tuple(_flatten(value[k], leaves, is_leaf) for k in order)
        place = {k: n for n, k in enumerate(order)}
        return Tree("dict", children, tuple(order), dict, tuple([place[k] for k in keys]), dict_maker(value))
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        children = tuple(_flatten(v, leaves, is_leaf) for v in value)
        return Tree("namedtuple", children, tuple(kind._fields), kind)
    if isinstance(value, (list, tuple)):
        children = tuple(_flatten(v, leaves, is_leaf) for v in value)
        return Tree("list" if isinstance(value, list) else "tuple", children, tuple(range(len(children))))
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and not hasattr(kind, "is_pytree_leaf"):
        names = tuple(f.name for f in dataclasses.fields(value))
        children = tuple(_flatten(getattr(value, n), leaves, is_leaf) for n in names)
        return Tree("dataclass", children, names, kind)
    leaves.append(value)
    return LEAF


def sorted_keys(keys: list[Any]) -> list[Any]:
    """Keys in an order that does not depend on insertion where they compare."""
    try:
        return sorted(keys)
    except TypeError:
        return sorted(keys, key=lambda k: (type(k).__name__, repr(k)))


def unflatten(tree: Tree, leaves: Sequence[Any]) -> Any:
    """The pytree of structure ``tree`` with these leaves. Raises ValueError if their number does not fit."""
    if len(leaves) != tree.size:
        raise ValueError(f"a tree of {tree.size} leaves cannot hold {len(leaves)}")
    return _unflatten(tree, iter(leaves))


def _unflatten(tree: Tree, leaves: Iterator[Any]) -> Any:
    if tree.kind == "leaf":
        return next(leaves)
    if tree.kind == "none":
        return None
    children = [_unflatten(child, leaves) for child in tree.children]
    match tree.kind:
        case "dict":
            pairs = list(zip(tree.keys, children, strict=True))
            ordered = [pairs[k] for k in tree.order] if tree.order else pairs
            return dict(ordered) if tree.rebuild is None else tree.rebuild(dict(ordered))
        case "list":
            return children
        case "tuple":
            return tuple(children)
        case "namedtuple":
            assert tree.type is not None
            return tree.type(*children)
        case "dataclass":
            assert tree.type is not None
            value: Any = object.__new__(tree.type)
            for name, child in zip(tree.keys, children, strict=True):
                object.__setattr__(value, name, child)
            return value
    raise ValueError(f"unknown tree kind {tree.kind!r}")


def dict_maker(value: dict) -> Callable[[dict], Any] | None:
    """What makes a dict of the class of ``value`` again; None for a plain one."""
    if type(value) is dict:
        return None
    if isinstance(value, defaultdict):
        return partial(type(value), value.default_factory)
    return type(value)


def difference(expected: Tree, given: Tree, path: str = "") -> str:
    """Where two trees first differ, in words.

    >>> difference(flatten({"w": [1, 2]})[1], flatten({"w": [1]})[1])
    "at 'w': expected a list of 2, got a list of 1"
    """
    alike = expected.kind == given.kind and expected.keys == given.keys and expected.type is given.type
    if alike:
        for key, one, other in zip(expected.keys, expected.children, given.children, strict=True):
            if one != other:
                return difference(one, other, _step(expected, path, key))
    place = path.removeprefix(".")
    return (f"at {place!r}: " if place else "") + f"expected {described(expected)}, got {described(given)}"


def described(tree: Tree) -> str:
    """``tree`` in a few words: its own kind, and how many or which children."""
    match tree.kind:
        case "leaf":
            return "an array or number"
        case "none":
            return "None"
        case "dict":
            return f"a dict with the keys {list(tree.keys)}"
        case "namedtuple" | "dataclass":
            return f"a {tree.kind} {tree.type.__name__}"  # type: ignore[union-attr]
    return f"a {tree.kind} of {len(tree.children)}"


def tree_map(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """``function`` applied leaf by leaf to trees of one structure.

    >>> tree_map(lambda a, b: a + b, {"w": 1, "b": 2}, {"w": 10, "b": 20})
    {'w': 11, 'b': 22}
    """
    leaves, structure = flatten(tree)
    others = []
    for other in rest:
        more, other_structure = flatten(other)
        if other_structure != structure:
            raise ValueError(f"the trees differ: {difference(structure, other_structure)}")
        others.append(more)
    return unflatten(structure, [function(*parts) for parts in zip(leaves, *others, strict=True)])


def tree_leaves(tree: Any) -> list[Any]:
    return flatten(tree)[0]
