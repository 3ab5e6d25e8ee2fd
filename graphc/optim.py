"""Optimizers as pairs of functions over pytrees, written in NumPy: inside a step they become nodes of its graph.

An :class:`Optimizer` has ``init(params) -> state`` and ``update(grads, state, params, step) -> (params, state)``;
``step`` counts from 0. They work on plain arrays too:

>>> import numpy as np
>>> optimizer = sgd(0.5)
>>> params = {"w": np.array([1.0, 2.0])}
>>> optimizer.update({"w": np.array([1.0, 1.0])}, optimizer.init(params), params, 0)[0]
{'w': array([0.5, 1.5])}

A learning rate is a number or a schedule: a function of the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.tracing import is_tracer
from graphc.tree import difference, flatten, tree_leaves, tree_map, unflatten

Schedule = Callable[[Any], Any]


@dataclass(frozen=True)
class Optimizer:
    """``init(params) -> state``; ``update(grads, state, params, step) -> (new params, new state)``."""

    init: Callable[[Any], Any]
    update: Callable[[Any, Any, Any, Any], tuple[Any, Any]]


def rate(learning_rate: float | Schedule, step: Any, like: Any) -> Any:
    """The learning rate at ``step``; an array of one number in the element type of ``like``."""
    value = learning_rate(step) if callable(learning_rate) else learning_rate
    return value.astype(like.dtype) if hasattr(value, "astype") else value


def number(value: Any) -> Any:
    """A hyperparameter as a Python number, which takes the type of the arrays it meets (NumPy's would widen float32)."""
    known = isinstance(value, (np.generic, np.ndarray)) and not is_tracer(value)
    return value.item() if known and value.ndim == 0 else value


def leafwise(function: Callable[..., tuple], count: int, grads: Any, params: Any, *states: Any) -> tuple[Any, ...]:
    """``function(g, p, *state)`` for every leaf: a tuple of ``count`` trees that nest as the parameters.

    Of complex parameters ``g`` is the conjugate of the gradient, the direction in which the loss grows most.
    """
    leaves, structure = flatten(params)
    others = []
    for name, tree in (("gradients do", grads), *[("optimizer state does", s) for s in states]):
        values, given = flatten(tree)
        if given != structure:
            raise TypeError(f"the {name} not nest as the parameters: {difference(structure, given)}")
        others.append([v if hasattr(v, "dtype") else np.asarray(v) for v in values])
    arrays = [p if hasattr(p, "dtype") else np.asarray(p) for p in leaves]
    results = [function(np.conj(g), p, *rest) for p, g, *rest in zip(arrays, *others, strict=True)]
    return tuple(unflatten(structure, [r[k] for r in results]) for k in range(count))


def zeros_like(params: Any) -> Any:
    return tree_map(np.zeros_like, params)


def decayed(g: Any, p: Any, weight_decay: float) -> Any:
    return g + weight_decay * p if weight_decay else g


def sgd(
    learning_rate: float | Schedule, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
) -> Optimizer:
    """Stochastic gradient descent, with momentum as in Sutskever et al. (2013) in PyTorch's form.

    ``v ← momentum·v + g`` and ``p ← p − rate·v`` (Nesterov: ``g + momentum·v``); weight decay is added to the gradient.
    """
    if nesterov and not momentum:
        raise ValueError("sgd: nesterov needs a momentum")
    momentum, weight_decay = number(momentum), number(weight_decay)

    def init(params: Any) -> Any:
        return {"velocity": zeros_like(params)} if momentum else {}

    def update(grads: Any, state: Any, params: Any, step: Any) -> tuple[Any, Any]:
        def plain(g: Any, p: Any) -> tuple[Any]:
            return (p - rate(learning_rate, step, p) * decayed(g, p, weight_decay),)

        def heavy(g: Any, p: Any, v: Any) -> tuple[Any, Any]:
            g = decayed(g, p, weight_decay)
            v = momentum * v + g
            return p - rate(learning_rate, step, p) * (g + momentum * v if nesterov else v), v

        if not momentum:
            return leafwise(plain, 1, grads, params)[0], state
        new, velocity = leafwise(heavy, 2, grads, params, state["velocity"])
        return new, {"velocity": velocity}

    return Optimizer(init, update)


def adam(
    learning_rate: float | Schedule = 1e-3,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Adam (Kingma and Ba 2015). ``weight_decay`` is L2 regularisation: it is added to the gradient."""
    return adaptive(learning_rate, b1, b2, eps, coupled=weight_decay, decoupled=0.0)


def adamw(
    learning_rate: float | Schedule = 1e-3,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""
    return adaptive(learning_rate, b1, b2, eps, coupled=0.0, decoupled=weight_decay)


def adaptive(
    learning_rate: float | Schedule, b1: float, b2: float, eps: float, coupled: float, decoupled: float
) -> Optimizer:
    b1, b2, eps, coupled, decoupled = map(number, (b1, b2, eps, coupled, decoupled))

    def init(params: Any) -> Any:
        return {"m": zeros_like(params), "v": zeros_like(params)}

    def update(grads: Any, state: Any, params: Any, step: Any) -> tuple[Any, Any]:
        t = (
            np.asarray(step + 1, dtype=np.float64)
            if isinstance(step, (int, np.integer))
            else (step + 1).astype(np.float64)
        )
        # The bias corrections are scalars: computed once in float64, then in the element type of the parameters.
        first, second = 1 - np.power(b1, t), 1 - np.power(b2, t)

        def one(g: Any, p: Any, m: Any, v: Any) -> tuple[Any, Any, Any]:
            g = decayed(g, p, coupled)
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * (g * np.conj(g))
            lr = rate(learning_rate, step, p)
            scale = (1 / first).astype(p.dtype) * lr
            root = np.sqrt(v * (1 / second).astype(p.dtype))
            p = p * (1 - lr * decoupled) if decoupled else p
            return p - scale * m / (root + eps), m, v

        new, m, v = leafwise(one, 3, grads, params, state["m"], state["v"])
        return new, {"m": m, "v": v}

    return Optimizer(init, update)


def rmsprop(
    learning_rate: float | Schedule = 1e-2, decay: float = 0.99, eps: float = 1e-8, momentum: float = 0.0
) -> Optimizer:
    """RMSProp (Tieleman and Hinton 2012) in PyTorch's form: ``g / (√v + eps)``, then momentum."""
    decay, eps, momentum = map(number, (decay, eps, momentum))

    def init(params: Any) -> Any:
        state = {"v": zeros_like(params)}
        return state | {"velocity": zeros_like(params)} if momentum else state

    def update(grads: Any, state: Any, params: Any, step: Any) -> tuple[Any, Any]:
        def one(g: Any, p: Any, v: Any, u: Any) -> tuple[Any, Any, Any]:
            v = decay * v + (1 - decay) * (g * np.conj(g))
            move = g / (np.sqrt(v) + eps)
            u = momentum * u + move if momentum else u
            return p - rate(learning_rate, step, p) * (u if momentum else move), v, u

        velocity = state.get("velocity", state["v"])
        new, v, u = leafwise(one, 3, grads, params, state["v"], velocity)
        return new, {"v": v, "velocity": u} if momentum else {"v": v}

    return Optimizer(init, update)


def adagrad(learning_rate: float | Schedule = 1e-2, eps: float = 1e-10) -> Optimizer:
    """AdaGrad (Duchi et al. 2011): ``p ← p − rate·g / (√Σg² + eps)``."""
    eps = number(eps)

    def init(params: Any) -> Any:
        return {"sum": zeros_like(params)}

    def update(grads: Any, state: Any, params: Any, step: Any) -> tuple[Any, Any]:
        def one(g: Any, p: Any, s: Any) -> tuple[Any, Any]:
            s = s + g * np.conj(g)
            return p - rate(learning_rate, step, p) * g / (np.sqrt(s) + eps), s

        new, total = leafwise(one, 2, grads, params, state["sum"])
        return new, {"sum": total}

    return Optimizer(init, update)


def global_norm(tree: Any) -> Any:
    """√ of the sum of squares of all leaves; half floats are summed as float32.

    >>> float(global_norm([np.array([3.0]), np.array([4.0])]))
    5.0
    """
    total: Any = 0.0
    for leaf in tree_leaves(tree):
        leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        wide = leaf.astype(np.float32) if leaf.dtype.itemsize == 2 else leaf
        total = (wide * np.conj(wide)).real.sum() + total
    return np.sqrt(total)


def clip_by_global_norm(max_norm: float, optimizer: Optimizer) -> Optimizer:
    """``optimizer`` on gradients scaled down so that their global norm is at most ``max_norm`` (Pascanu et al. 2013)."""
    limit = number(max_norm)

    def update(grads: Any, state: Any, params: Any, step: Any) -> tuple[Any, Any]:
        scale = np.minimum(1.0, limit / (global_norm(grads) + 1e-12))
        scaled = tree_map(lambda g: g * scale.astype(g.dtype) if hasattr(g, "dtype") else g * float(scale), grads)
        return optimizer.update(scaled, state, params, step)

    return Optimizer(optimizer.init, update)


# ------------------------------------------------------------------------------------------------ schedules


def as_float(step: Any) -> Any:
    return step.astype(np.float64) if hasattr(step, "astype") else np.float64(step)


def constant(value: float) -> Schedule:
    """The same rate at every step."""
    return lambda step: as_float(step) * 0 + value


def exponential_decay(initial: float, rate: float, steps: int) -> Schedule:
    """``initial · rate^(step / steps)``.

    >>> float(exponential_decay(1.0, 0.5, 10)(20))
    0.25
    """
    return lambda step: initial * np.power(rate, as_float(step) / steps)


def cosine_decay(initial: float, steps: int, final: float = 0.0) -> Schedule:
    """From ``initial`` to ``final`` along half a cosine in ``steps`` steps (Loshchilov and Hutter 2017)."""

    def schedule(step: Any) -> Any:
        done = np.minimum(as_float(step) / steps, 1.0)
        return final + (initial - final) * 0.5 * (1 + np.cos(math.pi * done))

    return schedule


def warmup(steps: int, schedule: Schedule | float) -> Schedule:
    """Linear from 0 over ``steps`` steps, then ``schedule`` from its beginning.

    >>> float(warmup(10, 1.0)(4)), float(warmup(10, 1.0)(50))
    (0.5, 1.0)
    """

    def ramp(step: Any) -> Any:
        t = as_float(step)
        after = schedule(np.maximum(t - steps, 0.0)) if callable(schedule) else schedule
        start = schedule(t * 0) if callable(schedule) else schedule
        return np.where(t < steps, start * (t + 1) / steps, after)

    return ramp


def piecewise_constant(boundaries: Sequence[int], values: Sequence[float]) -> Schedule:
    """``values[k]`` between boundary k-1 and k.

    >>> float(piecewise_constant([10], [1.0, 0.1])(10))
    0.1
    """
    if len(values) != len(boundaries) + 1:
        raise ValueError("piecewise_constant needs one value more than boundaries")

    def schedule(step: Any) -> Any:
        t = as_float(step)
        result = t * 0 + values[0]
        for boundary, value in zip(boundaries, values[1:], strict=True):
            result = np.where(t < boundary, result, value)
        return result

    return schedule
