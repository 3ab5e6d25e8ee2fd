"""Pytrees: what nests, how it is rebuilt, and how trees that differ are told."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict, namedtuple
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphc.tree import difference, flatten, tree_leaves, tree_map, unflatten

Point = namedtuple("Point", "x y")


class Layer(NamedTuple):
    w: Any
    b: Any = None


@dataclasses.dataclass
class Params:
    layers: list[Any]
    scale: Any


@dataclasses.dataclass(frozen=True)
class Frozen:
    w: Any
    name: Any = None

    def __post_init__(self) -> None:
        raise_if = self.w == "never"
        assert not raise_if


@dataclasses.dataclass(slots=True)
class Slotted:
    w: Any


def test_every_kind_of_nesting_is_rebuilt() -> None:
    value = {
        "b": [1, (2, None)], "a": Point(3, Layer(4)), "p": Params([5, {"z": 6}], 7), "f": Frozen(8), "s": Slotted(9),
        3: 10,
    }  # fmt: skip
    leaves, tree = flatten(value)
    assert sorted(leaves) == list(range(1, 11))
    back = unflatten(tree, leaves)
    assert back == value
    assert list(back) == list(value), "the order of the keys is kept"
    assert type(back["p"]) is Params and type(back["a"]) is Point and type(back["a"].y) is Layer


def test_paths_are_readable() -> None:
    tree = flatten({"layers": [{"w": 1, "b": 2}], "two words": 3, "p": Point(4, 5), 7: 6})[1]
    assert set(tree.paths) == {"layers[0].w", "layers[0].b", "['two words']", "p.x", "p.y", "[7]"}
    assert flatten(1)[1].paths == ("",)
    assert flatten(None)[1].paths == ()


def test_dicts_match_by_key() -> None:
    one, other = {"w": 1, "b": 2}, {"b": 20, "w": 10}
    assert flatten(one)[1] == flatten(other)[1]
    assert hash(flatten(one)[1]) == hash(flatten(other)[1])
    assert tree_map(lambda x, y: x + y, one, other) == {"w": 11, "b": 22}
    assert list(tree_map(lambda x, y: x + y, one, other)) == ["w", "b"], "in the order of the first tree"
    assert flatten(one)[1] != flatten({"w": 1, "c": 2})[1]
    mixed = {1: "a", "1": "b", (2, 3): "c"}
    assert flatten(mixed)[0] == flatten(dict(reversed(mixed.items())))[0]


def test_classes_of_dicts_match_and_come_back() -> None:
    ordered, default = OrderedDict(b=1, a=2), defaultdict(list, {"a": 2, "b": 1})
    assert flatten(ordered)[1] == flatten(dict(ordered))[1] == flatten(default)[1]
    back = unflatten(flatten(default)[1], [3, 4])
    assert back == {"a": 3, "b": 4} and type(back) is defaultdict and back["new"] == []
    assert type(unflatten(flatten(ordered)[1], [3, 4])) is OrderedDict


def test_kinds_do_not_match_each_other() -> None:
    trees = [flatten(v)[1] for v in ([1], (1,), {"x": 1, "y": 2}, Point(1, 2), Layer(1, 2), 1, None, [1, 2], {0: 1})]
    assert len(set(trees)) == len(trees)


def test_unflatten_counts_leaves() -> None:
    with pytest.raises(ValueError, match="2 leaves cannot hold 3"):
        unflatten(flatten([1, 2])[1], [1, 2, 3])


def test_difference_names_the_place() -> None:
    expected = {"w": [1, {"a": 2}], "b": Point(1, 2)}

    def told(given: Any) -> str:
        return difference(flatten(expected)[1], flatten(given)[1])

    assert told({"w": [1, {"b": 2}], "b": Point(1, 2)}) == (
        "at 'w[1]': expected a dict with the keys ['a'], got a dict with the keys ['b']"
    )
    assert (
        told({"w": [1, 3], "b": Point(1, 2)})
        == "at 'w[1]': expected a dict with the keys ['a'], got an array or number"
    )
    assert told({"w": [1, {"a": None}], "b": Point(1, 2)}) == "at 'w[1].a': expected an array or number, got None"
    assert told({"w": [1, {"a": 2}], "b": Layer(1, 2)}) == "at 'b': expected a namedtuple Point, got a namedtuple Layer"
    assert told([1]) == "expected a dict with the keys ['b', 'w'], got a list of 1"
    with pytest.raises(ValueError, match="the trees differ: at 'b'"):
        tree_map(lambda x, y: x, {"a": 1, "b": 2}, {"a": 1, "b": [2]})


def test_is_leaf_stops() -> None:
    leaves, tree = flatten({"a": [1, 2], "b": 3}, is_leaf=lambda v: isinstance(v, list))
    assert leaves == [[1, 2], 3] and unflatten(tree, leaves) == {"a": [1, 2], "b": 3}


trees = st.recursive(
    st.integers() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2) | st.integers(), inner, max_size=3)
        | st.builds(Point, inner, inner)
        | st.builds(Slotted, inner)
    ),
    max_leaves=12,
)


@given(trees)
def test_law_round_trip(value: Any) -> None:
    leaves, tree = flatten(value)
    assert unflatten(tree, leaves) == value
    assert tree.size == len(leaves) == len(tree.paths) == len(set(tree.paths)) == len(tree_leaves(value))
    assert flatten(unflatten(tree, leaves))[1] == tree
    assert tree_map(lambda leaf: leaf, value) == value
