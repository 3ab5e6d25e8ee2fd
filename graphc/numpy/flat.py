"""``x.flat``: the elements in C order, read and written by one index; repeated writing as ``np.put`` and ``np.place`` do it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from graphc import ops
from graphc.ir import Node
from graphc.leaks import refuse
from graphc.numpy.indexing import updated
from graphc.numpy.indices import Selection, selection
from graphc.numpy.tables import property_
from graphc.tracing import METHODS, Tracer, located, to_node, wrap


class Flat:
    """``x.flat`` of a traced array. What is assigned to it is repeated, or cut, to the number of places."""

    def __init__(self, array: Tracer) -> None:
        self.base = array

    def __len__(self) -> int:
        return self.base.size

    def __iter__(self) -> Iterator[Any]:
        line = wrap(self._line())
        return (line[k] for k in range(len(self)))

    def __getitem__(self, index: Any) -> Tracer:
        return located(lambda: copied(METHODS["getitem"](wrap(self._line()), one_index(index))))

    def __setitem__(self, index: Any, value: Any) -> None:
        located(self._write, one_index(index), value)

    def _write(self, index: Any, value: Any) -> None:
        line = self._line()
        chosen = selection(index, line.type.shape)
        held = chosen.window.read(line)
        node = to_node(value, line.type.dtype)
        if chosen.mask is None and node.type.size != 1:
            node = repeated(ops.reshape_to(node, (node.type.size,)), selected(chosen))
        else:
            node = ops.reshape_to(node, (node.type.size,))
        new = chosen.window.write(line, updated(chosen, held, wrap(node), "set"))
        self.base._assign(ops.reshape_to(new, self.base.shape))

    def _line(self) -> Node:
        node = to_node(self.base)
        return ops.reshape_to(node, (node.type.size,))

    def copy(self) -> Tracer:
        """The elements as a vector of their own."""
        return wrap(self._line())

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        refuse("x.flat of a traced array was used as an array", "write x.ravel() or x.flat.copy()")


def copied(x: Any) -> Tracer:
    return wrap(to_node(x))


def one_index(index: Any) -> Any:
    if isinstance(index, tuple):
        if len(index) != 1:
            raise IndexError("unsupported iterator index")
        return index[0]
    return index


def selected(chosen: Selection) -> int:
    """How many places a selection of a vector has."""
    if not chosen.arrays:
        return int(np.prod(chosen.window.shape, dtype=np.int64))
    return chosen.indices()[0].type.size


def repeated(line: Node, count: int) -> Node:
    """A vector repeated from the start, or cut, to ``count`` elements. Of none there is nothing to repeat: ValueError."""
    size = line.type.size
    if count == 0:
        return ops.slice_(line, start=(0,), size=(0,), step=(1,))
    if size == 0:
        raise ValueError("cannot copy zero-sized values into places")
    if size < count:
        times = -(-count // size)
        line = ops.reshape_to(ops.broadcast_numpy(line, (times, size)), (times * size,))
    return ops.slice_(line, start=(0,), size=(count,), step=(1,)) if line.type.size != count else line


@property_("flat")
def flat(x: Tracer) -> Flat:
    return Flat(x)


def set_flat(x: Tracer, value: Any) -> None:
    """``x.flat = value``"""
    Flat(x)[...] = value


METHODS["set_flat"] = set_flat
