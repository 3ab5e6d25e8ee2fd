"""Derivatives and vectorisation as functions of functions: grad, vjp, jvp, jacobian, hessian, vmap …

Inside a trace a transform appends nodes to the graph being traced. On concrete arrays it traces the function, transforms
the graph and interprets it: nothing is compiled. Transforms compose in any order and to any depth. What a function is
differentiated by gets an identity of its own (an ``alias`` node), so an argument is never confused with a value that the
function closes over:

>>> from graphc import grad
>>> float(grad(lambda x: x * grad(lambda y: x + y)(x))(1.0))
1.0
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphc import ops
from graphc.autodiff import batch_nodes, jvp_nodes, vjp_nodes
from graphc.collecting import collector_paused
from graphc.ir import Builder, GraphError, Node, inline
from graphc.location import where
from graphc.tracing import (
    Spec,
    Trace,
    Tracer,
    argument,
    current_trace,
    flatten_call,
    graph_name,
    is_static,
    leaf_names,
    located,
    output_nodes,
    to_node,
    unwrapped,
    weak_kind,
    wrap,
)
from graphc.tree import Tree, difference, flatten, unflatten
from graphc.types import TensorType, i64

# ------------------------------------------------------------------------------------------------ running


def concrete_or_traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` runs inside a trace; called on concrete arrays it is traced and interpreted on the spot."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if current_trace() is not None:
            return function(*args, **kwargs)
        with collector_paused():
            return interpret(function, args, kwargs)

    return run


def interpret(function: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
    """Trace ``function`` on the types of its arguments and evaluate the graph with the reference interpreter."""
    from graphc.interpreter import evaluate

    leaves, tree = flatten_call(args, kwargs)
    names = leaf_names(function, tree)
    with Trace(graph_name(function)) as trace:
        inputs, values = [], []
        for leaf, name in zip(leaves, names, strict=True):
            if is_static(leaf):
                inputs.append(unwrapped(leaf))
                continue
            if isinstance(leaf, Spec):
                raise TypeError(f"{name} is a Spec; give an array, or use graphc.trace to look at the graph")
            described = argument(leaf, name)
            inputs.append(trace.input(name or "x", described.type, described.weak))
            values.append(np.asarray(leaf).astype(described.type.dtype.numpy, copy=False))
        call_args, call_kwargs = unflatten(tree, inputs)
        nodes, out_tree = output_nodes(function(*call_args, **call_kwargs))
        graph = trace.graph(nodes, annotated=False)
    return unflatten(out_tree, evaluate(graph, values))


def this_trace() -> Trace:
    trace = current_trace()
    assert trace is not None, "a transform runs inside a trace"
    return trace


def isolate(value: Any) -> tuple[Any, list[Node], Tree]:
    """``value`` with every leaf under a new identity: the pytree of tracers, the nodes, the structure."""
    leaves, tree = flatten(value)
    tags = this_trace().tags
    nodes = [ops.alias(to_node(leaf), tag=next(tags)) for leaf in leaves]
    tracers = [wrap(node, weak_kind(leaf) is not None) for node, leaf in zip(nodes, leaves, strict=True)]
    return unflatten(tree, tracers), nodes, tree


def pick(args: Sequence[Any], argnums: int | Sequence[int], name: str) -> tuple[tuple[int, ...], bool]:
    """``argnums`` as non-negative positions, and whether it was a single int."""
    single = isinstance(argnums, (int, np.integer))
    given: Sequence[Any] = (argnums,) if single else tuple(argnums)  # type: ignore[arg-type]
    positions = []
    for k in given:
        if not isinstance(k, (int, np.integer)) or not -len(args) <= k < len(args):
            raise ValueError(
                f"{name}: argnums={argnums!r} for a call with {len(args)} positional argument{'s' * (len(args) != 1)}; "
                "argnums are positions, and what they name must be given by position"
            )
        positions.append(int(k) % len(args))
    if len(set(positions)) != len(positions):
        raise ValueError(f"{name}: argnums={argnums!r} names an argument twice")
    return tuple(positions), single


def isolate_arguments(
    args: Sequence[Any], argnums: int | Sequence[int], name: str
) -> tuple[list[Any], list[Node], list[Tree], bool]:
    """The arguments with those at ``argnums`` isolated; their nodes (checked to be floats) and trees."""
    positions, single = pick(args, argnums, name)
    call = list(args)
    nodes: list[Node] = []
    trees = []
    for k in positions:
        check_floats(args[k], k, name)
        call[k], found, tree = isolate(args[k])
        nodes += found
        trees.append(tree)
    return call, nodes, trees, single


def check_floats(value: Any, position: int, name: str) -> None:
    leaves, tree = flatten(value)
    for k, leaf in enumerate(leaves):
        described = None if is_static(leaf) else argument(leaf, "").type
        if described is None or not described.dtype.is_inexact:
            path = tree.paths[k]
            label = f"argument {position}" + (f" ({path})" if path else "")
            remedy = "close over it" if name in ("vjp", "jvp") else "leave it out of argnums"
            raise TypeError(
                f"{name}: {label} is {described or 'a ' + type(leaf).__name__}; derivatives are taken by floats only. "
                f"Convert it with .astype(float) (or write 3.0 for 3), or {remedy}"
            )


def rebuild(trees: Sequence[Tree], nodes: Sequence[Node], single: bool) -> Any:
    """Nodes back in the nesting of the arguments they belong to."""
    parts, at = [], 0
    for tree in trees:
        parts.append(unflatten(tree, [wrap(n) for n in nodes[at : at + tree.size]]))
        at += tree.size
    return parts[0] if single else tuple(parts)


def or_zeros(nodes: Sequence[Node | None], like: Sequence[Node]) -> list[Node]:
    return [ops.zeros(x.type) if n is None else n for n, x in zip(nodes, like, strict=True)]


# ------------------------------------------------------------------------------------------------ reverse mode


def value_and_grad(
    fun: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False
) -> Callable[..., Any]:
    """The value of a scalar function and its gradient by the arguments at ``argnums``.

    Returns a function ``(*args) -> (value, gradient)``; the gradient nests as the argument does (a tuple of gradients
    where ``argnums`` is a sequence). With ``has_aux`` the function returns ``(loss, aux)`` and the result is
    ``((loss, aux), gradient)``. Raises TypeError where the loss is no real scalar or an argument is no float.

    The gradient by a complex z = x + iy is ∂L/∂x - i ∂L/∂y, as in JAX: steepest descent follows its conjugate. With
    ``holomorphic`` arguments and loss are complex, and the result is the complex derivative.

    >>> value_and_grad(lambda w: (w ** 2).sum())(np.array([1.0, 2.0]))
    (array(5.), array([2., 4.]))
    """

    def value_and_grad_of(*args: Any, **kwargs: Any) -> Any:
        call, wrt, trees, single = isolate_arguments(args, argnums, "grad")
        check_holomorphic("grad", holomorphic, wrt)
        result = fun(*call, **kwargs)
        loss, aux = split_aux(result, has_aux)
        node = scalar_loss(loss, holomorphic)
        node, aux_leaves, aux_tree, path = lift_outputs(node, aux, wrt)
        gradient = located(vjp_nodes, [node], [ops.full(node.type, 1)], wrt, path)
        value = wrap(node)
        tree = rebuild(trees, or_zeros(gradient, wrt), single)
        return ((value, unflatten(aux_tree, aux_leaves)), tree) if has_aux else (value, tree)

    return concrete_or_traced(named(value_and_grad_of, "value_and_grad", fun))


def lift_outputs(loss: Node, aux: Any, wrt: Sequence[Node]) -> tuple[Node, list[Any], Tree, list[Node] | None]:
    """The loss and the traced leaves of ``aux`` with their patterns (softmax …) recognised: before adjoints exist.

    And the active nodes of the loss, where they are known.
    """
    leaves, tree = flatten(aux)
    traced = [k for k, leaf in enumerate(leaves) if isinstance(leaf, Tracer)]
    found, path = lifted([loss, *[to_node(leaves[k]) for k in traced]], wrt)
    for k, node in zip(traced, found[1:], strict=True):
        leaves[k] = wrap(node, leaves[k]._weak)
    return found[0], leaves, tree, None if traced else path


def lifted(outputs: Sequence[Node], wrt: Sequence[Node]) -> tuple[list[Node], list[Node] | None]:
    """``outputs`` with softmax, log-softmax and logsumexp recognised, and their active nodes; see :func:`lift`.

    What nearly was one of these is remarked.
    """
    from graphc.lifting import Misfit, lift

    trace = this_trace()

    def remark(node: Node, misfit: Misfit) -> None:
        lines = trace.builder.lines.get(node, ())
        trace.note(f"not recognised as {misfit.name}{f' ({lines[0]})' if lines else ''}: {misfit.reason}")

    return lift(outputs, wrt, remark)


def split_aux(result: Any, has_aux: bool) -> tuple[Any, Any]:
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"has_aux=True needs a function that returns (loss, aux), not {type(result).__name__}")
    return result


def check_holomorphic(name: str, holomorphic: bool, nodes: Sequence[Node], what: str = "arguments") -> None:
    """Complex derivatives need complex arguments and results."""
    for node in nodes:
        if holomorphic and node.type.dtype.kind != "c":
            raise TypeError(
                f"{name} with holomorphic=True needs complex {what}, this one is {node.type}; convert it with "
                ".astype(complex), or leave holomorphic=True out"
            )


def scalar_loss(loss: Any, holomorphic: bool = False) -> Node:
    if isinstance(loss, (tuple, list, dict)) or loss is None:
        raise TypeError(
            f"grad needs a function that returns one scalar, this one returned a {type(loss).__name__}; "
            "return the loss alone, or (loss, aux) with has_aux=True"
        )
    node = to_node(loss)
    if node.type.shape != ():
        raise TypeError(
            f"grad needs a scalar loss, this one is {node.type} (at {where()}); reduce it with .sum() or .mean(), or use "
            "graphc.jacobian"
        )
    if holomorphic:
        check_holomorphic("grad", True, [node], "losses")
    elif not node.type.dtype.is_float:
        remedy = "; take its real part or np.abs, or give holomorphic=True" if node.type.dtype.kind == "c" else ""
        raise TypeError(f"grad needs a real floating loss, this one is {node.type}{remedy}")
    return node


def grad(
    fun: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False
) -> Callable[..., Any]:
    """The gradient of a scalar function by the arguments at ``argnums``; with ``has_aux``: ``(gradient, aux)``.

    >>> f = lambda x, y, z: (x + y) * (x + z)
    >>> [float(g) for g in grad(f, argnums=(0, 1, 2))(-2.0, 5.0, -4.0)]
    [-3.0, -6.0, 3.0]
    >>> float(grad(grad(lambda x: x ** 3))(2.0))
    12.0

    By a complex argument z = x + iy it is ∂L/∂x - i ∂L/∂y, as in JAX; ``holomorphic`` asks for the derivative of a complex
    function instead:

    >>> complex(grad(lambda z: np.abs(z) ** 2)(3 + 4j)), complex(grad(lambda z: z ** 2, holomorphic=True)(3 + 4j))
    ((6-8j), (6+8j))
    """
    both = value_and_grad(fun, argnums, has_aux, holomorphic)

    def grad_of(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return named(grad_of, "grad", fun)


def vjp(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """``(outputs, pullback)``: ``pullback(cotangents)`` gives a tuple of cotangents, one per primal.

    Inside a trace everything is symbolic. On concrete arrays the pullback traces and interprets anew at each call.

    >>> y, pullback = vjp(lambda x: x * x, np.array([1.0, 2.0]))
    >>> pullback(np.array([1.0, 10.0]))
    (array([ 2., 40.]),)
    """
    if current_trace() is None:
        for k, primal in enumerate(primals):
            check_floats(primal, k, "vjp")
        outputs = concrete_or_traced(lambda *p: fun(*p))(*primals)

        def pull(cotangents: Any) -> Any:
            def both(p: Any, ct: Any) -> Any:
                return vjp(fun, *p, has_aux=has_aux)[1](ct)

            return interpret(both, (primals, cotangents), {})

        return (outputs[0], pull, outputs[1]) if has_aux else (outputs, pull)
    call, wrt, trees, _ = isolate_arguments(primals, range(len(primals)), "vjp")
    outputs, aux = split_aux(fun(*call), has_aux)
    nodes, out_tree = output_nodes(outputs)
    nodes, path = lifted(nodes, wrt)

    def pullback(cotangents: Any) -> Any:
        seeds = matching_nodes("vjp: the cotangent", cotangents, nodes, out_tree)
        found = located(vjp_nodes, nodes, seeds, wrt, path)
        return rebuild(trees, or_zeros(found, wrt), single=False)

    value = unflatten(out_tree, [wrap(n) for n in nodes])
    return (value, pullback, aux) if has_aux else (value, pullback)


def matching_nodes(name: str, values: Any, like: Sequence[Node], tree: Tree) -> list[Node]:
    """The leaves of ``values``, which must nest as ``tree`` and have the types of ``like``."""
    leaves, given = flatten(values)
    if given != tree:
        raise TypeError(f"{name} {difference(tree, given)}")
    nodes = []
    for leaf, node, path in zip(leaves, like, tree.paths, strict=True):
        made = to_node(leaf)
        kinds = made.type.dtype.kind, node.type.dtype.kind
        misfit = made.type.dtype.is_inexact and not node.type.dtype.is_inexact or kinds[0] == "c" != kinds[1]
        if made.type.shape != node.type.shape or misfit:
            raise TypeError(f"{name} {f'at {path!r} ' if path else ''}should be {node.type}, not {made.type}")
        nodes.append(ops.convert(made, node.type.dtype))
    return nodes


# ------------------------------------------------------------------------------------------------ forward mode


def jvp(fun: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """``(outputs, tangents of the outputs)`` for ``tangents`` of ``primals`` (two sequences of equal nesting).

    >>> jvp(np.sin, (0.0,), (2.0,))
    (array(0.), array(2.))
    """
    if current_trace() is None:
        return interpret(lambda p, t: jvp(fun, p, t, has_aux), (tuple(primals), tuple(tangents)), {})
    call, wrt, trees, _ = isolate_arguments(primals, range(len(primals)), "jvp")
    given: list[Node] = []
    if len(tangents) != len(call):
        raise TypeError(f"jvp: {len(call)} primals, {len(tangents)} tangents")
    at = 0
    for tangent, tree in zip(tangents, trees, strict=True):
        given += matching_nodes("jvp: the tangent", tangent, wrt[at : at + tree.size], tree)
        at += tree.size
    outputs, aux = split_aux(fun(*call), has_aux)
    nodes, out_tree = output_nodes(outputs)
    found = or_zeros(located(jvp_nodes, nodes, wrt, given), nodes)
    pair = unflatten(out_tree, [wrap(n) for n in nodes]), unflatten(out_tree, [wrap(t) for t in found])
    return (*pair, aux) if has_aux else pair


# ------------------------------------------------------------------------------------------------ vmap


def vmap(fun: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """``fun`` over a batch axis of its arguments, as one graph without a loop.

    ``in_axes`` is an int or None for all arguments, or a sequence with one entry per argument, each an int, None, or a
    pytree of them matching the argument. ``out_axes`` places the batch axis in the results. vmaps nest.

    >>> vmap(lambda a, b: (a * b).sum(), in_axes=(0, None))(np.ones((3, 2)), np.array([1.0, 2.0]))
    array([3., 3., 3.])
    """

    def vmap_of(*args: Any, **kwargs: Any) -> Any:
        leaves, tree = flatten_call(args, kwargs)
        axes = argument_axes(in_axes, tree, leaves)
        nodes = [leaf if is_static(leaf) else to_node(leaf) for leaf in leaves]
        size = batch_size(nodes, axes)
        trace = this_trace()
        batched: dict[Node, Node] = {}
        inner: list[Any] = []
        for node, axis, leaf in zip(nodes, axes, leaves, strict=True):
            if not isinstance(node, Node):
                inner.append(unwrapped(node))
            elif axis is None:
                inner.append(wrap(node, weak_kind(leaf) is not None))
            else:
                shape = node.type.shape[:axis] + node.type.shape[axis + 1 :]
                hole = trace.builder.placeholder(TensorType(node.type.dtype, shape))
                batched[hole] = ops.move_axis(node, axis, 0)
                inner.append(wrap(hole))
        call_args, call_kwargs = unflatten(tree, inner)
        outputs, out_tree = output_nodes(fun(*call_args, **call_kwargs))
        places = prefix_axes("out_axes", out_axes, out_tree)
        found = located(batch_nodes, outputs, batched, size)
        results = [
            wrap(placed(node, flag, axis, size, path))
            for (node, flag), axis, path in zip(found, places, out_tree.paths, strict=True)
        ]
        return unflatten(out_tree, results)

    return concrete_or_traced(named(vmap_of, "vmap", fun))


def placed(node: Node, flag: bool, axis: int | None, size: int, path: str) -> Node:
    """An output with its batch axis, which it has first if ``flag``, at ``axis``."""
    label = f"output {path!r}" if path else "the output"
    if axis is None:
        if flag:
            raise ValueError(f"vmap: {label} depends on a mapped argument, so its out_axes cannot be None")
        return node
    whole = node if flag else ops.with_batch_axis(node, size)
    if not -whole.type.ndim <= axis < whole.type.ndim:
        raise ValueError(f"vmap: out_axes {axis} for {label} with {whole.type.ndim} axes, the batch axis included")
    return ops.move_axis(whole, 0, axis % whole.type.ndim)


def argument_axes(in_axes: Any, tree: Tree, leaves: Sequence[Any]) -> list[int | None]:
    """One axis per leaf of ``(args, kwargs)``; keyword arguments are mapped over axis 0, as in JAX."""
    args, kwargs = tree.children
    if isinstance(in_axes, (list, tuple)) and len(in_axes) != len(args.children):
        raise ValueError(f"vmap: in_axes has {len(in_axes)} entries for {len(args.children)} arguments")
    axes = [*prefix_axes("in_axes", in_axes, args), *[0] * kwargs.size]
    found: list[int | None] = []
    for axis, leaf in zip(axes, leaves, strict=True):
        if axis is None or is_static(leaf):
            found.append(None)
            continue
        ndim = np.ndim(leaf)
        if not -ndim <= axis < ndim:
            raise ValueError(
                f"vmap: axis {axis} of an argument with {ndim} axes; in_axes=None leaves an argument whole"
            )
        found.append(axis % ndim)
    return found


def prefix_axes(name: str, spec: Any, tree: Tree) -> list[int | None]:
    """One axis per leaf of ``tree``: ``spec`` is an int or None for all below it, or nests as the tree does."""
    entries, spec_tree = flatten(spec, is_leaf=lambda v: v is None or isinstance(v, (int, np.integer)))
    for entry in entries:
        if not (entry is None or isinstance(entry, (int, np.integer))):
            raise TypeError(f"vmap: {name} holds ints and None, not {entry!r}")
    remaining = iter(entries)

    def spread(spec_tree: Tree, tree: Tree) -> Iterator[int | None]:
        if spec_tree.kind == "leaf":
            axis = next(remaining)
            yield from [None if axis is None else int(axis)] * tree.size
            return
        sequences = {spec_tree.kind, tree.kind} <= {"list", "tuple", "namedtuple"}
        if not (sequences or spec_tree.kind == tree.kind) or len(spec_tree.children) != len(tree.children):
            raise ValueError(f"vmap: {name}={spec!r} does not match: {difference(tree, spec_tree)}")
        if tree.kind == "dict" and spec_tree.keys != tree.keys:
            raise ValueError(f"vmap: {name}={spec!r} does not match: {difference(tree, spec_tree)}")
        for spec_child, child in zip(spec_tree.children, tree.children, strict=True):
            yield from spread(spec_child, child)

    return list(spread(spec_tree, tree))


def batch_size(nodes: Sequence[Any], axes: Sequence[int | None]) -> int:
    sizes = {n.type.shape[a] for n, a in zip(nodes, axes, strict=True) if a is not None}
    if not sizes:
        raise ValueError("vmap: no argument is mapped (in_axes are all None)")
    if len(sizes) > 1:
        raise ValueError(f"vmap: the mapped axes have different lengths {sorted(sizes)}")
    return sizes.pop()


# ------------------------------------------------------------------------------------------------ Jacobians


def jacrev(fun: Callable[..., Any], argnums: int | Sequence[int] = 0, holomorphic: bool = False) -> Callable[..., Any]:
    """The Jacobian by reverse mode: one vmapped pullback over the unit vectors of the output.

    For each output leaf of shape ``o`` and argument leaf of shape ``i`` an array of shape ``o + i``, nested as the
    output, then as the argument. The graph does not grow with the number of outputs. Complex outputs need
    ``holomorphic`` (and complex arguments).

    >>> jacrev(lambda x: x * x)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """

    def jacrev_of(*args: Any, **kwargs: Any) -> Any:
        call, wrt, trees, single = isolate_arguments(args, argnums, "jacrev")
        check_holomorphic("jacrev", holomorphic, wrt)
        nodes, out_tree = float_outputs(fun(*call, **kwargs), "jacrev", holomorphic)
        rows = []
        for out in lifted(nodes, wrt)[0]:
            found = unit_batch(
                out.type,
                lambda seed, out=out: or_zeros(vjp_nodes([out], [seed], wrt), wrt),  # type: ignore[misc]
            )
            whole = [ops.reshape_to(n, (*out.type.shape, *x.type.shape)) for n, x in zip(found, wrt, strict=True)]
            rows.append(rebuild(trees, whole, single))
        return unflatten(out_tree, rows)

    return concrete_or_traced(named(jacrev_of, "jacrev", fun))


def float_outputs(value: Any, name: str, holomorphic: bool, kinds: str = "f") -> tuple[list[Node], Tree]:
    """The outputs, checked to be of ``kinds`` (complex where ``holomorphic``)."""
    nodes, tree = output_nodes(value)
    check_holomorphic(name, holomorphic, nodes, "outputs")
    for node, path in zip(nodes, tree.paths, strict=True):
        if node.type.dtype.kind == "c" and not holomorphic and "c" not in kinds:
            raise TypeError(
                f"{name}: the output {f'{path} ' if path else ''}is {node.type}; take its real and imaginary parts, or "
                "give holomorphic=True"
            )
        if not node.type.dtype.is_inexact:
            raise TypeError(
                f"{name}: the output {f'{path} ' if path else ''}is {node.type}; derivatives exist for floats only"
            )
    return nodes, tree


def unit_batch(type: TensorType, linear: Callable[[Node], Sequence[Node]]) -> list[Node]:
    """``linear`` applied to every unit vector of ``type`` at once; results carry the batch axis first."""
    hole = this_trace().builder.placeholder(type)
    results = located(linear, hole)
    return [
        node if flag else ops.with_batch_axis(node, type.size)
        for node, flag in batch_nodes(results, {hole: unit_vectors(type)}, type.size)
    ]


def unit_vectors(type: TensorType) -> Node:
    """All unit vectors of ``type`` as one tensor ``[size, *shape]``."""
    n = type.size
    same = ops.eq(ops.iota(shape=(n, n), axis=0, to=i64), ops.iota(shape=(n, n), axis=1, to=i64))
    return ops.reshape_to(ops.convert(same, type.dtype), (n, *type.shape))


def jacfwd(fun: Callable[..., Any], argnums: int | Sequence[int] = 0, holomorphic: bool = False) -> Callable[..., Any]:
    """The Jacobian by forward mode: one vmapped pushforward over the unit vectors of the argument.

    Shapes and nesting as :func:`jacrev`; better where there are fewer inputs than outputs. Complex arguments need
    ``holomorphic`` (and complex outputs); outputs of real arguments may be complex.

    >>> jacfwd(lambda x: x * x)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """

    def jacfwd_of(*args: Any, **kwargs: Any) -> Any:
        call, wrt, trees, single = isolate_arguments(args, argnums, "jacfwd")
        check_holomorphic("jacfwd", holomorphic, wrt)
        if not holomorphic and any(x.type.dtype.kind == "c" for x in wrt):
            raise TypeError(
                "jacfwd by a complex argument needs holomorphic=True; for another function differentiate by the real and "
                "imaginary parts, x + 1j * y"
            )
        nodes, out_tree = float_outputs(fun(*call, **kwargs), "jacfwd", holomorphic, "fc")
        columns: list[list[Node]] = []  # per input leaf, per output leaf
        for x in wrt:
            found = unit_batch(x.type, lambda t, x=x: or_zeros(jvp_nodes(nodes, [x], [t]), nodes))  # type: ignore[misc]
            shaped = []
            for n, out in zip(found, nodes, strict=True):
                last = ops.transpose_to(n, (*range(1, n.type.ndim), 0))
                shaped.append(ops.reshape_to(last, (*out.type.shape, *x.type.shape)))
            columns.append(shaped)
        rows = [rebuild(trees, [column[k] for column in columns], single) for k in range(len(nodes))]
        return unflatten(out_tree, rows)

    return concrete_or_traced(named(jacfwd_of, "jacfwd", fun))


def jacobian(
    fun: Callable[..., Any], argnums: int | Sequence[int] = 0, holomorphic: bool = False
) -> Callable[..., Any]:
    """The Jacobian, by reverse mode (see :func:`jacrev`; :func:`jacfwd` is the forward one)."""
    return jacrev(fun, argnums, holomorphic)


def hessian(fun: Callable[..., Any], argnums: int | Sequence[int] = 0, holomorphic: bool = False) -> Callable[..., Any]:
    """The second derivatives of a scalar function: forward over reverse, vmapped, never a loop over rows.

    For argument leaves of shapes ``i`` and ``j`` an array ``i + j``, nested twice as the arguments.

    >>> hessian(lambda x: x[0] * x[1] ** 2)(np.array([3.0, 2.0]))
    array([[0., 4.],
           [4., 6.]])
    """
    gradient = grad(fun, argnums, holomorphic=holomorphic)
    return named(jacfwd(gradient, argnums, holomorphic), "hessian", fun)


def hvp(fun: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """Hessian-vector products: ``hvp(f)(*args, v)`` without forming the Hessian (Pearlmutter 1994, forward over reverse).

    ``v`` nests as the argument at ``argnums``.

    >>> hvp(lambda x: (x ** 3).sum())(np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    array([ 6., 12.])
    """
    gradient = grad(fun, argnums)

    def hvp_of(*args: Any, **kwargs: Any) -> Any:
        if len(args) < 2:
            raise TypeError("hvp: the vector comes after the arguments: hvp(f)(*args, v)")
        *primals, vector = args
        ((k,), _) = pick(primals, argnums, "hvp")

        def of_one(x: Any) -> Any:
            return gradient(*primals[:k], x, *primals[k + 1 :], **kwargs)

        return jvp(of_one, (primals[k],), (vector,))[1]

    return concrete_or_traced(named(hvp_of, "hvp", fun))


# ------------------------------------------------------------------------------------------------ custom rules


def stop_gradient(x: Any) -> Any:
    """``x`` as a constant for derivatives; a pytree is treated leaf by leaf.

    >>> float(grad(lambda x: x * stop_gradient(x))(3.0))
    3.0
    """
    if current_trace() is None:
        return x
    leaves, tree = flatten(x)
    return unflatten(tree, [wrap(ops.stop_gradient(to_node(v))) if isinstance(v, Tracer) else v for v in leaves])


class custom_vjp:
    """A function with its own derivative rule, given by :meth:`defvjp`.

    ``fwd(*args) -> (output, residuals)`` and ``bwd(residuals, cotangent) -> tuple of cotangents, one per argument``
    (None for zero). The cotangent nests as the output, None for outputs that are no floats. The rule is about the
    arguments; traced values that the function closes over are differentiated through the function itself. The rules may
    call the function: there it is the plain one, without rules.
    Forward-mode differentiation of the function (jvp, jacfwd) is refused by name.

    >>> @custom_vjp
    ... def clipped(x):
    ...     return x * x
    >>> clipped.defvjp(lambda x: (x * x, x), lambda x, ct: (np.clip(2 * x * ct, -1, 1),))
    >>> float(grad(clipped)(5.0))
    1.0
    """

    def __init__(self, fun: Callable[..., Any]) -> None:
        self.fun = fun
        self.fwd: Callable[..., Any] | None = None
        self.bwd: Callable[..., Any] | None = None
        self.in_rule = threading.local()
        self.__name__ = getattr(fun, "__name__", "custom")
        functools.update_wrapper(self, fun)

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Set the rule: ``fwd(*args) -> (output, residuals)`` and ``bwd(residuals, cotangent) -> cotangents``."""
        self.fwd, self.bwd = fwd, bwd

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if current_trace() is None or getattr(self.in_rule, "active", False):
            return self.fun(*args, **kwargs)
        if self.fwd is None or self.bwd is None:
            raise TypeError(f"{self.__name__} is a custom_vjp without rules: call {self.__name__}.defvjp(fwd, bwd)")
        if kwargs:
            bound = inspect.signature(self.fun).bind(*args, **kwargs)
            if bound.kwargs:
                raise TypeError(
                    f"{self.__name__}: a custom_vjp takes its arguments by position, not {list(bound.kwargs)}"
                )
            args = bound.args
        return call_with_rule(self, args, graph_name(self))

    @contextmanager
    def own_rule(self) -> Iterator[tuple[Callable[..., Any], Callable[..., Any]]]:
        """fwd and bwd; while they run, the function is the plain one."""
        assert self.fwd is not None and self.bwd is not None
        self.in_rule.active = True
        try:
            yield self.fwd, self.bwd
        finally:
            self.in_rule.active = False


class Operands:
    """The arguments of a function that becomes a node: their traced leaves are operands, static ones stay as they are."""

    def __init__(self, args: tuple, kwargs: dict[str, Any] | None = None) -> None:
        self.leaves, self.tree = flatten_call(args, kwargs or {})
        self.dynamic = [v for v in self.leaves if not is_static(v)]
        self.nodes = [to_node(v) for v in self.dynamic]
        self.weak = [weak_kind(v) is not None for v in self.dynamic]

    def inputs(self, trace: Trace) -> tuple[tuple, dict[str, Any]]:
        """The arguments as inputs of ``trace``."""
        fresh = iter(
            [trace.input(f"x{k}", n.type, w) for k, (n, w) in enumerate(zip(self.nodes, self.weak, strict=True))]
        )
        return unflatten(self.tree, [unwrapped(v) if is_static(v) else next(fresh) for v in self.leaves])


def call_with_rule(function: custom_vjp, args: tuple, name: str) -> Any:
    """A ``call`` node for ``fun(*args)`` whose rule runs ``fwd`` again (the same nodes) and then ``bwd``."""
    from graphc.ops.control import call

    operands = Operands(args)
    with Trace(name, this_trace()) as inner:
        results, out_tree = output_nodes(function.fun(*operands.inputs(inner)[0]))
    with Trace(f"{name}_rule", this_trace()) as rule:
        call_args, _ = operands.inputs(rule)
        for k, node in enumerate(results):
            rule.input(f"y{k}", node.type)
        cts = [rule.input(f"ct{k}", n.type) if n.type.dtype.is_inexact else None for k, n in enumerate(results)]
        with function.own_rule() as (fwd, bwd):
            residuals = forward_residuals(fwd(*call_args), results, out_tree, name)
            cotangents = rule_cotangents(bwd(residuals, unflatten(out_tree, cts)), args, operands, name)
    captured = list(dict.fromkeys([*inner.captures, *rule.captures]))
    n = len(operands.nodes)
    body = close_over(inner, results, n, captured)
    wanted = [c for c, x in zip(cotangents, operands.nodes, strict=True) if x.type.dtype.is_inexact]
    with rule:
        wanted += closure_cotangents(rule, body, operands, captured, [c._node for c in cts if c is not None], name)
    full_rule = close_over(rule, wanted, n, captured)
    node = call(*operands.nodes, *captured, body=body, name=name, vjp=full_rule, custom=True)
    return unflatten(out_tree, [wrap(r) for r in ops.items(node)])


def forward_residuals(returned: Any, results: Sequence[Node], out_tree: Tree, name: str) -> Any:
    """The residuals that ``fwd`` returned beside the output, which must have the type of the function's own."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise TypeError(f"the fwd rule of {name} must return (output, residuals), not {type(returned).__name__}")
    output, residuals = returned
    nodes, tree = output_nodes(output)
    if tree != out_tree or [n.type for n in nodes] != [n.type for n in results]:
        raise TypeError(
            f"the fwd rule of {name} returned outputs {[str(n.type) for n in nodes]}, the function itself "
            f"{[str(n.type) for n in results]}; both must return the same, fwd as (output, residuals)"
        )
    return residuals


def closure_cotangents(
    rule: Trace, body: Any, operands: Operands, captured: Sequence[Node], cts: Sequence[Node], name: str
) -> list[Node]:
    """Cotangents of the floats that a custom_vjp function closes over, through its body. Runs inside the rule's trace."""
    floats = [k for k, c in enumerate(captured) if c.type.dtype.is_inexact]
    if not floats:
        return []
    for c in captured:  # an input in the rule, also for what only the function reads
        if c not in rule.captures:
            rule.captures[c] = rule.builder.input(f"captured{len(rule.captures)}", c.type)
    n = len(operands.nodes)
    outputs = inline(body, [*rule.builder.inputs[:n], *[rule.captures[c] for c in captured]])
    given = iter(cts)
    seeds = [next(given) if o.type.dtype.is_inexact else None for o in outputs]
    wrt = [rule.captures[captured[k]] for k in floats]
    try:
        return or_zeros(vjp_nodes(outputs, seeds, wrt), wrt)
    except GraphError as error:
        types = ", ".join(str(captured[k].type) for k in floats)
        raise TypeError(
            f"{name} closes over traced values ({types}) that its rule says nothing about, and the function itself cannot be "
            f"differentiated: {error}. Pass them as arguments (with None as their cotangent if they need none)"
        ) from None


def rule_cotangents(given: Any, args: tuple, operands: Operands, name: str) -> list[Node]:
    """What ``bwd`` returned as one node per operand, None as zeros. Runs inside the rule's trace."""
    if not isinstance(given, (tuple, list)) or len(given) != len(args):
        count = f", not {len(given)}" if isinstance(given, (tuple, list)) else f", not a {type(given).__name__}"
        raise TypeError(
            f"the bwd rule of {name} must return a tuple of {len(args)} cotangents, one per argument{count}"
        )
    remaining = iter(operands.nodes)
    found: list[Node] = []
    for ct, arg in zip(given, args, strict=True):
        leaves, tree = flatten(arg, is_leaf=is_static)
        mine = [None if is_static(leaf) else next(remaining) for leaf in leaves]
        parts, ct_tree = flatten(ct, is_leaf=lambda v: v is None or is_static(v))
        if ct is None:
            parts = [None] * len(mine)
        elif ct_tree.size != tree.size:
            raise TypeError(
                f"the bwd rule of {name} returned a cotangent that does not nest: {difference(tree, ct_tree)}"
            )
        for part, operand in zip(parts, mine, strict=True):
            if operand is not None:
                found.append(rule_cotangent(part, operand, name))
    return found


def rule_cotangent(part: Any, operand: Node, name: str) -> Node:
    if part is None or not operand.type.dtype.is_inexact:
        return ops.zeros(operand.type)
    made = to_node(part, operand.type.dtype)
    if made.type != operand.type:
        raise TypeError(f"the bwd rule of {name} returned a cotangent {made.type} for an argument {operand.type}")
    return made


def close_over(trace: Trace, outputs: Sequence[Node], n_own: int, captured: Sequence[Node]) -> Any:
    """The graph of an inner trace: its own first ``n_own`` inputs, the captured operands, then its other inputs."""
    builder = trace.builder
    mine = {node: c for c, node in trace.captures.items()}
    own = [x for x in builder.inputs if x not in mine]
    with builder:
        taken = [trace.captures.get(c) or builder.input("unused", c.type) for c in captured]
    return trace.graph(outputs, inputs=[*own[:n_own], *taken, *own[n_own:]])


def checkpoint(fun: Callable[..., Any]) -> Callable[..., Any]:
    """``fun`` without keeping its intermediate values for the backward pass: they are computed again there.

    The recomputed nodes are kept apart from the originals by ``barrier`` nodes (Griewank and Walther, chapter 12).

    >>> float(grad(checkpoint(lambda x: np.sin(x) * x))(0.0))
    0.0
    """

    def checkpoint_of(*args: Any, **kwargs: Any) -> Any:
        from graphc.ops.control import call

        operands = Operands(args, kwargs)
        with Trace(graph_name(fun), this_trace()) as inner:
            call_args, call_kwargs = operands.inputs(inner)
            results, out_tree = output_nodes(fun(*call_args, **call_kwargs))
        captured = list(inner.captures)
        body = close_over(inner, results, len(operands.nodes), captured)
        node = call(*operands.nodes, *captured, body=body, name="checkpoint", vjp=recompute_rule(body), custom=False)
        return unflatten(out_tree, [wrap(r) for r in ops.items(node)])

    return concrete_or_traced(named(checkpoint_of, "checkpoint", fun))


def recompute_rule(body: Any) -> Any:
    """``(inputs…, outputs…, cotangents…) -> cotangents``: the body again on barriers, differentiated."""
    tags = this_trace().tags
    with Builder(f"{body.name}_rule") as builder:
        inputs = [builder.input(n["name"], n.type) for n in body.inputs]
        for k, o in enumerate(body.outputs):
            builder.input(f"y{k}", o.type)
        cts = {k: builder.input(f"ct{k}", o.type) for k, o in enumerate(body.outputs) if o.type.dtype.is_inexact}
        again = [ops.barrier(x, tag=next(tags)) for x in inputs]
        outputs = inline(body, again)
        wrt = [x for x in again if x.type.dtype.is_inexact]
        found = vjp_nodes(outputs, [cts.get(k) for k in range(len(outputs))], wrt)
        return builder.graph(or_zeros(found, wrt))


def named(function: Callable[..., Any], prefix: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with the signature and a readable name of what it transforms."""
    try:
        functools.update_wrapper(function, original, updated=())
    except (AttributeError, TypeError):
        pass
    function.__name__ = f"{prefix}_{getattr(original, '__name__', 'function')}".replace("<", "").replace(">", "")
    return function


__all__ = [
    "GraphError", "checkpoint", "concrete_or_traced", "custom_vjp", "grad", "hessian", "hvp", "interpret", "jacfwd",
    "jacobian", "jacrev", "jvp", "stop_gradient", "value_and_grad", "vjp", "vmap",
]  # fmt: skip
