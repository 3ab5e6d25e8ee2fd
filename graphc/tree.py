"""Pytrees: nestings of dict, list, tuple, namedtuple, dataclass and None whose leaves are arrays and scalars.

>>> leaves, tree = flatten({"w": 1.0, "b": [2.0, None]})
>>> leaves, tree.paths
([1.0, 2.0], ('w', 'b[0]'))
>>> unflatten(tree, [10, 20])
{'w': 10, 'b': [20, None]}

Dicts match by key: two dicts with the same keys in another order have equal trees, leaves in the order of the first
key order seen is not relied upon, they are sorted where keys compare and in insertion order otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tree:
    """The structure of a pytree: ``kind`` is leaf, none, dict, list, tuple, namedtuple or dataclass."""

    kind: str
    children: tuple[Tree, ...] = ()
    keys: tuple[Any, ...] = ()
    type: type | None = None
    # The order in which an input dict listed its keys, for rebuilding; equal dicts have equal trees.
    order: tuple[int, ...] = dataclasses.field(default=(), compare=False)

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


LEAF = Tree("leaf")
NONE = Tree("none")


def _paths(tree: Tree, prefix: str) -> Iterator[str]:
    if tree.kind == "leaf":
        yield prefix
    for key, child in zip(tree.keys, tree.children, strict=True):
        plain = tree.kind in ("dict", "namedtuple", "dataclass") and isinstance(key, str) and key.isidentifier()
        yield from _paths(child, f"{prefix}.{key}" if plain else f"{prefix}[{key!r}]")


def flatten(value: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], Tree]:
    """The leaves of ``value`` in order, and its structure."""
    leaves: list[Any] = []
    return leaves, _flatten(value, leaves, is_leaf)


def _flatten(value: Any, leaves: list[Any], is_leaf: Callable[[Any], bool] | None) -> Tree:
    kind = type(value)
    if is_leaf is not None and is_leaf(value):
        leaves.append(value)
        return LEAF
    if value is None:
        return NONE
    if isinstance(value, dict):
        keys = list(value)
        order = sorted_keys(keys)
        children = tuple(_flatten(value[k], leaves, is_leaf) for k in order)
        return Tree("dict", children, tuple(order), kind, tuple(order.index(k) for k in keys))
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        children = tuple(_flatten(v, leaves, is_leaf) for v in value)
        return Tree("namedtuple", children, tuple(kind._fields), kind)
    if kind is list or kind is tuple:
        children = tuple(_flatten(v, leaves, is_leaf) for v in value)
        return Tree(kind.__name__, children, tuple(range(len(children))))
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
            plain = dict(ordered)
            return plain if tree.type in (None, dict) else _rebuild_dict(tree.type, plain)
        case "list":
            return children
        case "tuple":
            return tuple(children)
        case "namedtuple":
            assert tree.type is not None
            return tree.type(*children)
        case "dataclass":
            assert tree.type is not None
            value = object.__new__(tree.type)
            for name, child in zip(tree.keys, children, strict=True):
                object.__setattr__(value, name, child)
            return value
    raise ValueError(f"unknown tree kind {tree.kind!r}")


def _rebuild_dict(kind: Any, plain: dict) -> Any:
    try:
        return kind(plain)
    except TypeError:  # a defaultdict takes its factory first
        return plain


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
            raise ValueError(f"trees differ: {structure} and {other_structure}")
        others.append(more)
    return unflatten(structure, [function(*parts) for parts in zip(leaves, *others, strict=True)])


def tree_leaves(tree: Any) -> list[Any]:
    return flatten(tree)[0]
