"""Random graphs over ops with ragged small shapes, for tests of laws. Seeded: one seed is one graph, on every machine.

``random_graph(seed)`` makes a Graph, ``random_inputs(graph, seed)`` arrays for it. Shapes include axes of extent 0 and 1;
element types are f32, f64, i32 and bool; ops are elementwise, reductions, movement, contractions, and (on request)
concatenate, pad, gather, scatter, scan, cond and while_loop.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphc import ops
from graphc.ir import Builder, Graph, Node
from graphc.types import DType, TensorType, bool_, f32, f64, i32

EXTENTS = (1, 2, 3, 4, 5, 7, 8)
FLOATS = (f32, f64)


class Maker:
    """Grows a graph node by node from a pool of earlier ones."""

    def __init__(self, seed: int, zero: bool = True, control: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.zero = zero
        self.control = control
        self.pool: list[Node] = []
        self.builder = Builder("random")

    def pick(self, *items):  # type: ignore[no-untyped-def]
        return items[int(self.rng.integers(len(items)))]

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def shape(self) -> tuple[int, ...]:
        """Usually a shape that is there already, so that nodes meet."""
        if self.pool and self.chance(0.8):
            return self.pick(*self.pool).type.shape
        return tuple(
            0 if self.zero and self.chance(0.03) else int(self.pick(*EXTENTS)) for _ in range(self.rng.integers(0, 4))
        )

    def node(self, wanted: Callable[[TensorType], bool]) -> Node | None:
        """A node of the pool whose type is wanted, later ones more often."""
        found = [n for n in self.pool if wanted(n.type)]
        if not found:
            return None
        at = int(len(found) * (1 - self.rng.random() ** 2))
        return found[min(at, len(found) - 1)]

    def of_type(self, type: TensorType) -> Node:
        """A node of exactly ``type``: from the pool, broadcast, reshaped, cast, or a constant."""
        same = self.node(lambda t: t == type)
        if same is not None and self.chance(0.7):
            return same
        kind = self.rng.random()
        if kind < 0.35 and type.shape:
            kept = tuple(k for k in range(len(type.shape)) if self.chance(0.5))
            small = self.node(lambda t: t == TensorType(type.dtype, tuple(type.shape[k] for k in kept)))
            if small is not None:
                return ops.broadcast(small, type.shape, kept)
        if kind < 0.55:
            other = self.node(lambda t: t.size == type.size and t.dtype is type.dtype)
            if other is not None:
                return ops.reshape_to(other, type.shape)
        if kind < 0.7 and type.dtype is not bool_:
            other = self.node(
                lambda t: t.shape == type.shape and t.dtype is not type.dtype and t.dtype in (i32, bool_, f32)
            )
            if other is not None and (type.dtype is not i32 or other.type.dtype is bool_):
                return ops.cast(other, to=type.dtype)
        if kind < 0.8 and type.shape and type.dtype is not bool_ and 0 not in type.shape:
            return ops.iota(shape=type.shape, axis=int(self.rng.integers(len(type.shape))), to=type.dtype)
        if same is not None:
            return same
        if self.chance(0.5) or type.size > 64:
            return ops.full(type, self.value(type.dtype))
        return ops.const(self.values(type), type.dtype)

    def value(self, dtype: DType):  # type: ignore[no-untyped-def]
        return (
            self.chance(0.5)
            if dtype is bool_
            else int(self.rng.integers(-3, 4))
            if dtype is i32
            else float(self.rng.normal())
        )

    def values(self, type: TensorType) -> np.ndarray:
        if type.dtype is bool_:
            return self.rng.random(type.shape) < 0.5
        if type.dtype is i32:
            return self.rng.integers(-5, 6, type.shape)
        return self.rng.normal(size=type.shape)

    # -------------------------------------------------------------------------------------------- steps

    def elementwise(self) -> Node:
        type = self.node(lambda t: True).type  # type: ignore[union-attr]
        x = self.of_type(type)
        if type.dtype is bool_:
            if self.chance(0.4):
                value = TensorType(self.pick(f32, f64, i32), type.shape)
                return ops.select(x, self.of_type(value), self.of_type(value))
            return self.pick(ops.bit_and, ops.bit_or, ops.bit_xor)(x, self.of_type(type))
        if self.chance(0.15):
            return self.pick(ops.lt, ops.eq, ops.ge)(x, self.of_type(type))
        if type.dtype is i32:
            return self.pick(ops.add, ops.sub, ops.mul, ops.maximum, ops.minimum)(x, self.of_type(type))
        if self.chance(0.35):
            return self.pick(ops.exp, ops.tanh, ops.neg, ops.sin, ops.sigmoid, ops.abs_, ops.sqrt)(x)
        return self.pick(ops.add, ops.sub, ops.mul, ops.div, ops.maximum)(x, self.of_type(type))

    def reduction(self) -> Node | None:
        x = self.node(lambda t: t.ndim > 0 and t.size > 0)
        if x is None:
            return None
        n = x.type.ndim
        axes = tuple(k for k in range(n) if self.chance(0.5)) or (n - 1,)
        if x.type.dtype is bool_:
            return self.pick(ops.reduce_and, ops.reduce_or)(x, axes=axes)
        if self.chance(0.1):
            return ops.cast(self.pick(ops.argmax, ops.argmin)(x, axis=axes[0]), to=i32)
        y = self.pick(ops.reduce_sum, ops.reduce_max, ops.reduce_min, ops.reduce_sum)(x, axes=axes)
        if self.chance(0.6):  # broadcast back, as normalisations do
            self.pool.append(y)
            y = self.pick(ops.sub, ops.mul)(x, ops.expand(y, x, axes))
        return y

    def movement(self) -> Node | None:
        x = self.node(lambda t: t.ndim > 0)
        if x is None:
            return None
        shape = x.type.shape
        match int(self.rng.integers(4)):
            case 0:
                return ops.transpose(x, axes=tuple(int(k) for k in self.rng.permutation(len(shape))))
            case 1:
                start, size, step = [], [], []
                for n in shape:
                    count = int(self.rng.integers(1, n + 1)) if n else 0
                    by = int(self.rng.integers(1, n // count + 1)) if n else 1
                    first = int(self.rng.integers(0, n - (count - 1) * by)) if n else 0
                    if self.chance(0.2) and count:
                        first, by = first + (count - 1) * by, -by
                    start.append(first), size.append(count), step.append(by)
                return ops.slice_(x, start=tuple(start), size=tuple(size), step=tuple(step))
            case 2:
                axis = int(self.rng.integers(len(shape) + 1))
                return ops.broadcast_to(
                    x, shape=(*shape[:axis], int(self.pick(*EXTENTS)), *shape[axis:]),
                    axes=tuple(k + (k >= axis) for k in range(len(shape))),
                )  # fmt: skip
        size = x.type.size
        if size == 0:
            return ops.reshape_to(x, (0,))
        first = self.pick(*[d for d in range(1, size + 1) if size % d == 0])
        return ops.reshape_to(x, self.pick((size,), (first, size // first), (first, 1, size // first)))

    def dot(self) -> Node | None:
        x = self.node(lambda t: 0 < t.ndim <= 3 and t.dtype in FLOATS)
        if x is None:
            return None
        depth = x.type.shape[-1]
        y = self.node(lambda t: t.dtype is x.type.dtype and 1 <= t.ndim <= 2 and depth in t.shape)
        if y is None:
            y = self.of_type(TensorType(x.type.dtype, (depth, int(self.pick(*EXTENTS)))))
        return ops.dot(x, y, batch=((), ()), contract=((x.type.ndim - 1,), (y.type.shape.index(depth),)))

    def other(self) -> Node | None:
        x = self.node(lambda t: t.ndim > 0)
        if x is None:
            return None
        shape = x.type.shape
        if self.chance(0.5):
            axis = int(self.rng.integers(len(shape)))
            return ops.concatenate(x, self.of_type(x.type), axis=axis)
        start = tuple(int(self.rng.integers(0, 3)) for _ in shape)
        wide = tuple(n + s + int(self.rng.integers(0, 3)) for n, s in zip(shape, start, strict=True))
        return ops.pad(
            x, ops.const(self.value(x.type.dtype), x.type.dtype), shape=wide, start=start, step=(1,) * len(shape)
        )

    def indexing(self) -> Node | None:
        from graphc.ops.indexing import gather, scatter

        x = self.node(lambda t: t.ndim > 0 and t.dtype in FLOATS and 0 not in t.shape)
        if x is None:
            return None
        axis = int(self.rng.integers(x.type.ndim))
        index = self.node(lambda t: t.dtype is i32 and t.ndim <= 2)
        if index is None:
            index = ops.iota(shape=(3,), axis=0, to=i32)
        picked = gather(x, index, axes=(axis,), mode="clip")
        if self.chance(0.5):
            return picked
        return scatter(self.of_type(x.type), picked, index, axes=(axis,), mode="clip", combine="add")

    def loop(self) -> Node | None:
        from graphc.ops.control import cond, scan, while_loop

        x = self.node(lambda t: 0 < t.ndim <= 2 and t.dtype is f32 and 0 < t.shape[0] < 9)
        if x is None:
            return None
        row = TensorType(f32, x.type.shape[1:])
        carry, constant = self.of_type(row), self.of_type(row)
        choice = int(self.rng.integers(3))
        if choice == 0:
            body = small_graph(self, "body", [row, row, row], 2)
            found = scan(
                carry, x, constant, body=body, n_carry=1, n_xs=1, length=x.type.shape[0], reverse=self.chance(0.5)
            )
            self.pool.append(ops.item(found, index=1))
            return ops.item(found, index=0)
        if choice == 1:
            branches = tuple(small_graph(self, f"branch{k}", [row, row], 1) for k in range(2))
            return ops.item(cond(self.of_type(TensorType(i32, ())), carry, constant, branches=branches), index=0)
        number = TensorType(i32, ())
        with Builder("test") as b:
            k, _, _ = (b.input(f"a{n}", t) for n, t in enumerate([number, row, row]))
            test = b.graph([ops.lt(k, ops.const(4, i32))])
        with Builder("step") as b:
            k, c, d = (b.input(f"a{n}", t) for n, t in enumerate([number, row, row]))
            step = b.graph([ops.add(k, ops.const(1, i32)), self.pick(ops.add, ops.mul)(ops.tanh(c), d)])
        found = while_loop(ops.const(0, i32), carry, constant, cond=test, body=step, n_carry=2)
        return ops.item(found, index=1)

    def step(self) -> None:
        """One more node."""
        steps = [self.elementwise] * 10 + [self.reduction] * 4 + [self.movement] * 4 + [self.dot] * 2
        steps += [self.other, self.indexing] if self.control else []
        steps += [self.loop] if self.control else []
        found = self.pick(*steps)()
        if found is not None and found.type.size <= 2048 and found.type.ndim <= 4:
            self.pool.append(found)


def small_graph(maker: Maker, name: str, types: list[TensorType], n_outputs: int) -> Graph:
    """A body over ``types`` whose outputs have the first type."""
    with Builder(name) as b:
        pool = [b.input(f"a{k}", t) for k, t in enumerate(types)]
        for _ in range(int(maker.rng.integers(1, 6))):
            x, y = maker.pick(*pool), maker.pick(*pool)
            pool.append(maker.pick(ops.add, ops.mul, ops.sub, lambda a, b: ops.tanh(a))(x, y))
        return b.graph([maker.pick(*pool[-3:]) for _ in range(n_outputs)])


def random_graph(seed: int, size: int = 40, zero: bool = True, control: bool = False) -> Graph:
    """A graph of about ``size`` nodes; ``zero`` allows empty axes, ``control`` adds indexing, movement with copies, loops."""
    maker = Maker(seed, zero, control)
    with maker.builder as builder:
        for k in range(int(maker.rng.integers(1, 6))):
            type = TensorType(maker.pick(f32, f32, f64, i32, bool_), maker.shape())
            maker.pool.append(builder.input(f"x{k}", type))
        for _ in range(size):
            maker.step()
        outputs = [maker.pick(*maker.pool[len(maker.pool) // 2 :]) for _ in range(int(maker.rng.integers(1, 6)))]
        return builder.graph(outputs)


def random_inputs(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    """Arrays for the inputs of ``graph``."""
    maker = Maker(seed)
    return [maker.values(t).astype(t.dtype.numpy) if t.shape else np.asarray(maker.values(t), t.dtype.numpy)
            for t in graph.input_types]  # fmt: skip


def random_donations(graph: Graph, seed: int) -> dict[int, int]:
    """Some inputs with an output of the same type each."""
    rng = np.random.default_rng(seed)
    found: dict[int, int] = {}
    for i, type in enumerate(graph.input_types):
        for j, other in enumerate(graph.output_types):
            if type == other and j not in found.values() and rng.random() < 0.7:
                found[i] = j
                break
    return found
