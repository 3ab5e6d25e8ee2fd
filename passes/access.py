"""Accesses: which memory a chain of movement ops reads, as an offset and a stride per axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.ir import Node
from graphc.types import TensorType


@dataclass(frozen=True, slots=True)
class Access:
    """Element ``(i0, i1, …)`` of a node is element ``offset + Σ strides[k]·i_k`` of ``source``, counted in elements."""

    source: Node
    offset: int
    strides: tuple[int, ...]


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of a C-contiguous tensor."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


def access(node: Node, sources: frozenset[Node] | set[Node]) -> Access | None:
    """How ``node`` reads one of ``sources``, or None if it is no chain of affine movement over one of them."""
    chain: list[Node] = []
    while node not in sources:
        if node.op.name not in ("transpose", "slice", "broadcast_to", "reshape"):
            return None
        chain.append(node)
        node = node.inputs[0]
    found = Access(node, 0, contiguous_strides(node.type.shape))
    for step in reversed(chain):
        moved = move(found, step)
        if moved is None:
            return None
        found = moved
    return found


def move(at: Access, node: Node) -> Access | None:
    """The access of ``node``, a movement of a tensor that is accessed as ``at``; None where it is not affine."""
    match node.op.name:
        case "transpose":
            return Access(at.source, at.offset, tuple(at.strides[a] for a in node["axes"]))
        case "slice":
            if 0 in node["size"]:
                return Access(at.source, 0, (0,) * len(node["size"]))
            offset = at.offset + sum(s * first for s, first in zip(at.strides, node["start"], strict=True))
            return Access(at.source, offset, tuple(s * by for s, by in zip(at.strides, node["step"], strict=True)))
        case "broadcast_to":
            strides = [0] * len(node["shape"])
            for axis, stride in zip(node["axes"], at.strides, strict=True):
                strides[axis] = stride
            return Access(at.source, at.offset, tuple(strides))
        case "reshape":
            strides_or_none = reshaped_strides(node.inputs[0].type, at.strides, node.type)
            return None if strides_or_none is None else Access(at.source, at.offset, strides_or_none)
    return None


def reshaped_strides(old: TensorType, strides: Sequence[int], new: TensorType) -> tuple[int, ...] | None:
    """Strides of a reshape without copying, or None (the rule of NumPy's ``_attempt_nocopy_reshape``)."""
    if old.size == 0:
        return (0,) * new.ndim
    have = [(n, s) for n, s in zip(old.shape, strides, strict=True) if n != 1]
    want = [(k, n) for k, n in enumerate(new.shape) if n != 1]
    result = [0] * new.ndim
    i = j = 0
    while i < len(have) and j < len(want):
        i_end, j_end, left, right = i + 1, j + 1, have[i][0], want[j][1]
        while left != right:
            if left < right:
                left *= have[i_end][0]
                i_end += 1
            else:
                right *= want[j_end][1]
                j_end += 1
        for k in range(i, i_end - 1):  # the old axes must be one line in memory
            if have[k][1] != have[k + 1][1] * have[k + 1][0]:
                return None
        stride = have[i_end - 1][1]
        for k in range(j_end - 1, j - 1, -1):
            result[want[k][0]] = stride
            stride *= want[k][1]
        i, j = i_end, j_end
    return tuple(result)
