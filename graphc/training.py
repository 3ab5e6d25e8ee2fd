"""TrainingStep: forward, backward and weight update as one native program that owns what it trains."""

from __future__ import annotations

import functools
import inspect
import operator
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from graphc.calling import Match, Signature, check_types, matcher, rebuilder, signature_of, take_leaves
from graphc.clock import tracing
from graphc.driver import QUICK, chosen_options, label
from graphc.executable import Executable, Options, batch_signature
from graphc.optim import Optimizer
from graphc.saving import (
    MALFORMED,
    Sections,
    executable_parts,
    graft,
    load_executable,
    tree_from_json,
    tree_to_json,
    version,
)
from graphc.tracing import Program, current_trace, is_tracer, leaf_names, trace_program
from graphc.transforms import value_and_grad
from graphc.tree import Tree, difference, flatten, unflatten
from graphc.types import dtype

FORMAT = "graphc training step"
#: What a step keeps, in the order of the arguments of its program.
PARTS = ("params", "state", "optimizer", "step", "key")
STATE_LOST = (
    "an earlier call of this training step failed after it had begun to write its parameters; they are lost. "
    "Make the step again, or load the last saved one"
)
FORKED = (
    "another thread was in a call of this training step when this process was forked, so its parameters are half written "
    "here. Make the step again, or load the last saved one"
)


class Way(NamedTuple):
    """What a call needs: ``match(batch, named)`` takes its leaves, ``run`` steps on them, ``rebuild`` nests loss and aux."""

    match: Match
    run: Callable[[Sequence[Any]], list[Any]]
    rebuild: Callable[[Sequence[Any]], Any]


def no_match(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Where calls cannot be matched quickly."""


@dataclass
class Owned:
    """What a step keeps: one array per leaf, aligned, updated in place by every executable that binds them.

    ``tree`` is a tuple with a part for each of PARTS.
    """

    arrays: list[np.ndarray]
    tree: Tree

    @staticmethod
    def copy_of(*parts: Any) -> Owned:
        arrays: list[np.ndarray] = []
        tree = flatten(parts)[1]
        for name, part in zip(PARTS, parts, strict=True):
            leaves, structure = flatten(part)
            arrays.extend(aligned_copy(leaf, joined(name, p)) for leaf, p in zip(leaves, structure.paths, strict=True))
        return Owned(arrays, tree)

    def view(self, name: str) -> Any:
        """Read-only views of one part, nested as it was given."""
        at = PARTS.index(name)
        children = self.tree.children
        start = sum(child.size for child in children[:at])
        return unflatten(children[at], [read_only(a) for a in self.arrays[start : start + children[at].size]])

    @property
    def names(self) -> list[str]:
        """``params.w1``: a name for each array."""
        parts = zip(PARTS, self.tree.children, strict=True)
        return [joined(name, path) for name, part in parts for path in part.paths]


def joined(name: str, path: str) -> str:
    return name + (path if not path or path.startswith("[") else f".{path}")


def read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def aligned_copy(value: Any, name: str = "", alignment: int = 64) -> np.ndarray:
    """A C-contiguous copy of ``value`` whose data begins at a multiple of ``alignment`` bytes.

    Raises TypeError, with ``name``, for what is no array of numbers.
    """
    source = np.asarray(value)
    try:
        element = dtype(source.dtype).numpy
    except TypeError:
        raise TypeError(f"{name or 'the value'} is a {type(value).__name__}, not an array of numbers") from None
    raw = np.empty(source.nbytes + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    array = raw[start : start + source.nbytes].view(element).reshape(source.shape)
    array[...] = source
    return array


class TrainingStep:
    """A compiled training step: ``loss = step(*batch)`` runs forward, backward and update in one native program.

    loss       ``loss(params, *batch) -> scalar``; with ``state``: ``loss(params, state, *batch) -> (scalar, new state)``;
               with ``has_aux`` one more result: ``(…, aux)``, and calls return ``(loss, aux)``. A loss with a parameter
               called ``key`` gets a fresh random key (u32[2], see :mod:`graphc.random`) at every step. Bools given to a
               call by keyword, strings and functions are static: each value has a program of its own.
    params     the initial parameters, any pytree of float arrays. Copied once; read them as ``step.params``.
    optimizer  from :mod:`graphc.optim`.
    state      further arrays that the loss updates (batch-norm statistics …), read as ``step.state``.
    seed       of the random key.
    backend, threads   as in :func:`graphc.compile`.

    One executable per batch signature; all share the parameters, and calls are serialised. ``step.params`` and
    ``step.state`` are read-only views of live memory. An update whose element type is not its parameter's is a TypeError.
    A call that raises leaves everything as it was, but for an error that shows only after the update has begun: the step
    then says so and refuses to go on.

    >>> import numpy as np, graphc
    >>> x = np.linspace(-1, 1, 8, dtype=np.float32); y = 3 * x
    >>> step = TrainingStep(lambda p, x, y: ((p["w"] * x - y) ** 2).mean(), {"w": np.float32(0)}, graphc.optim.sgd(0.5))
    >>> losses = [float(step(x, y)) for _ in range(20)]
    >>> losses[-1] < 1e-3 * losses[0]
    True
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        params: Any,
        optimizer: Optimizer,
        state: Any = None,
        has_aux: bool = False,
        *,
        seed: int = 0,
        backend: str | None = None,
        threads: int | None = None,
    ) -> None:
        if not callable(loss) or not isinstance(optimizer, Optimizer):
            raise TypeError("TrainingStep needs a loss function, parameters and an optimizer of graphc.optim")
        key = np.array([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32)
        owned = Owned.copy_of(params, state, optimizer.init(params), np.zeros((), np.int64), key)
        program = training_program(loss, optimizer, state is not None, has_aux)
        self._setup(owned, chosen_options(backend, threads), has_aux, program)

    def _setup(self, owned: Owned, options: Options, has_aux: bool, program: Callable[..., Any] | None) -> None:
        self._owned = owned
        self._options = options
        self._has_aux = has_aux
        self._program = program
        self._executables: dict[Signature, Executable] = {}
        self._ways: dict[Executable, Way] = {}
        self._quick: tuple[Way, ...] = ()  # those taken last, tried before anything else
        self._lock = threading.RLock()
        self._lost = ""
        _alive.add(self)

    # -- reading

    @property
    def params(self) -> Any:
        """The parameters: read-only views of live memory; copy them to keep them."""
        return self._owned.view("params")

    @property
    def state(self) -> Any:
        """What the loss keeps beside the parameters: read-only views of live memory."""
        return self._owned.view("state")

    @property
    def optimizer_state(self) -> Any:
        """What the optimizer keeps (moments, velocities): read-only views of live memory."""
        return self._owned.view("optimizer")

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return int(self._owned.view("step"))

    # -- running

    def __call__(self, *batch: Any, **named: Any) -> Any:
        for way in self._quick:
            leaves = way.match(batch, named)
            if leaves is not None:
                break
        else:
            exe, leaves = self._find(batch, named)
            way = self._prefer(exe)
        with self._lock:
            if self._lost:
                raise RuntimeError(self._lost)
            try:
                result = way.run(leaves)
            except Exception as error:
                # A kernel's error says whether memory that outlives the call had been written by then.
                if getattr(error, "unsafe", False):
                    self._lost = STATE_LOST
                    error.add_note(STATE_LOST)
                raise
        return way.rebuild(result)

    def executable(self, *batch: Any, **named: Any) -> Executable:
        """The executable for a batch of these types: its graph, schedule, plan, source, memory, profile."""
        return self._find(batch, named)[0]

    @property
    def executables(self) -> tuple[Executable, ...]:
        """All that were compiled or loaded so far."""
        return tuple(self._executables.values())

    def _find(self, batch: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Executable, list[Any]]:
        if current_trace() is not None and any(map(is_tracer, flatten([batch, dict(named)])[0])):
            raise TypeError("a training step cannot be part of a traced function; trace its loss function instead")
        if self._program is None:
            return self._find_loaded(batch, named)
        key, leaves = signature_of(batch, named, lambda tree: leaf_names(self._of_batch, tree))
        exe = self._executables.get(key)
        if exe is None:
            with self._lock:
                exe = self._executables.get(key)
                if exe is None:
                    exe = self._executables[key] = self._compile(key, batch, named)
        return exe, leaves

    def _find_loaded(self, batch: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Executable, list[Any]]:
        """A step from a file knows the batches that it was saved for, by plain tuples and dicts."""
        why = []
        for key, exe in self._executables.items():
            try:
                leaves = take_leaves(key, batch_signature(exe)[1], batch, named)
                check_types(key, leaves, [a.name for a in exe.program.arguments[len(self._owned.arrays) :]])
                return exe, leaves
            except TypeError as error:
                why.append(str(error))
        raise TypeError(
            "this step was loaded from a file and was not saved for such a batch; make a TrainingStep from the source for "
            f"others ({'; '.join(why)})"
        )

    def _prefer(self, exe: Executable) -> Way:
        """The way to ``exe``, which is tried first from now on."""
        way = self._ways.get(exe)
        if way is None:
            nest = rebuilder(exe.program.out_tree.children[0]) if self._has_aux else operator.itemgetter(0)
            match = matcher(batch_signature(exe)[0]) or no_match
            way = self._ways[exe] = Way(match, exe.runner.call, nest)
        if way not in self._quick:
            self._quick = (way, *self._quick[: QUICK - 1])
        return way

    @functools.cached_property
    def _of_batch(self) -> Callable[..., Any]:
        """A function with the parameters of the batch, for their names."""

        def of_batch(*batch: Any, **named: Any) -> None:
            """Never called."""

        assert self._program is not None
        parameters = list(inspect.signature(self._program).parameters.values())[len(PARTS) :]
        of_batch.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return of_batch

    def _compile(self, key: Signature, batch: tuple[Any, ...], named: Mapping[str, Any]) -> Executable:
        assert self._program is not None
        owned = self._owned
        parts = unflatten(owned.tree, owned.arrays)
        with tracing() as seconds:
            program = trace_program(self._program, (*parts, *batch), named)
        check_updates(program, owned)
        count = len(owned.arrays)
        first = len(program.graph.outputs) - count
        pairs = tuple((k, first + k) for k in range(count))
        options = Options(self._options.backend, self._options.threads, pairs, tuple(range(count)))
        statics = {k + count: leaf for k, leaf in key.statics.items()}
        exe = Executable(program, options, statics=statics, seconds=seconds)
        exe.runner.bind(owned.arrays)
        return exe

    def _start_anew(self) -> None:
        """In a forked child: calls of other threads do not exist here."""
        if not self._lock.acquire(blocking=False):
            self._lock = threading.RLock()
            self._lost = self._lost or FORKED
        else:
            self._lock.release()

    # -- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the step to one file: programs, machine code, parameters, optimizer state, counter and key. Atomic.

        :func:`graphc.load` gives a step ready to train on, without the model's source and without Numba. Raises
        RuntimeError where nothing was compiled yet: call the step, or ``step.executable(*batch)``, before.
        """
        from graphc import storage

        with self._lock:
            if self._lost:
                raise RuntimeError(self._lost)
            manifest, sections = self._parts()
            storage.write(path, manifest, sections, sign=storage.sign)

    def _parts(self) -> tuple[dict[str, Any], Sections]:
        if not self._executables:
            raise RuntimeError(
                "this step has not been compiled yet: call it once, or step.executable(*batch), then save"
            )
        executables = []
        sections: Sections = {f"owned.{k}": a for k, a in enumerate(self._owned.arrays)}
        for k, exe in enumerate(self._executables.values()):
            manifest, parts = executable_parts(exe)
            executables.append(manifest)
            sections.update({f"e{k}.{name}": content for name, content in parts.items()})
        return {
            "format": FORMAT,
            "version": version("graphc"),
            "tree": tree_to_json(self._owned.tree),
            "has_aux": self._has_aux,
            "executables": executables,
        }, sections

    @classmethod
    def from_file(cls, file: Any, trust: bool | None, like: Any = None) -> TrainingStep:
        """The step of a saved file; ``like`` gives the classes of the parameters. Raises FileFormatError."""
        from graphc.storage import FileFormatError

        manifest = file.manifest
        try:
            tree = tree_from_json(manifest["tree"])
            if tree.kind != "tuple" or len(tree.children) != len(PARTS):
                raise ValueError("not all parts are there")
            arrays = [aligned_copy(file.array(f"owned.{k}")) for k in range(tree.size)]
            parts = [Part(file, dict(part), f"e{k}.") for k, part in enumerate(manifest["executables"])]
            has_aux = bool(manifest["has_aux"])
        except FileFormatError:
            raise
        except MALFORMED as error:
            raise FileFormatError(file.path, f"is not a saved training step ({error})") from None
        if like is not None:
            params = graft(tree.children[0], flatten(like)[1], "parameters")
            tree = Tree("tuple", (params, *tree.children[1:]), tree.keys)
        step = cls.__new__(cls)
        step._setup(Owned(arrays, tree), Options(), has_aux, None)
        for part in parts:
            exe = load_executable(part, trust)
            check_owned(exe, step._owned, has_aux, file.path)
            exe.runner.bind(arrays)
            step._executables[batch_signature(exe)[0]] = exe
        return step

    def __repr__(self) -> str:
        count = len(self._executables)
        return f"<TrainingStep: {len(self._owned.arrays)} owned arrays, {self.steps} steps, {count} executables>"


_alive: weakref.WeakSet[TrainingStep] = weakref.WeakSet()


def _after_fork() -> None:
    for step in list(_alive):
        step._start_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def check_updates(program: Program, owned: Owned) -> None:
    """Raise TypeError where the new values do not nest as the old ones do, or have other types."""
    new = program.out_tree.children[1]
    for name, old_part, new_part in zip(PARTS, owned.tree.children, new.children, strict=True):
        if old_part != new_part:
            raise TypeError(f"the update of {name} nests in another way: {difference(old_part, new_part)}")
    outputs = program.graph.outputs[len(program.graph.outputs) - len(owned.arrays) :]
    for array, out, name in zip(owned.arrays, outputs, owned.names, strict=True):
        if (out.type.dtype.numpy, out.type.shape) != (array.dtype, array.shape):
            widened = [note for note in program.notes if note.startswith("float64")]
            was = f"{dtype(array.dtype)}{list(array.shape) if array.shape else ''}"
            raise TypeError(f"the update of {name} is {out.type}, the array is {was}" + "".join(f"; {w}" for w in widened))


def check_owned(exe: Executable, owned: Owned, has_aux: bool, path: str) -> None:
    """Raise FileFormatError where a program from a file does not belong to the arrays beside it."""
    from graphc.storage import FileFormatError

    count = len(owned.arrays)
    have = [(a.dtype, a.shape) for a in owned.arrays]
    want = [(a.type.dtype.numpy, a.type.shape) for a in exe.program.arguments[:count]]
    first = len(exe.program.graph.outputs) - count
    pairs = tuple((k, first + k) for k in range(count))
    args, out = exe.program.in_tree.children[0], exe.program.out_tree
    nested = [child.size for child in args.children[: len(PARTS)]] == [child.size for child in owned.tree.children]
    results = len(out.children) == 2 and (out.children[0].kind == "tuple" if has_aux else out.children[0].size == 1)
    fits = have == want and exe.options.owned == tuple(range(count)) and exe.options.donated == pairs
    if not (fits and nested and results and all(k >= count for k in exe.statics)):
        raise FileFormatError(path, "holds arrays that do not fit its program")


class Part:
    """One executable inside a training-step file, as a file of its own."""

    def __init__(self, file: Any, manifest: Mapping[str, Any], prefix: str) -> None:
        self.path = file.path
        self.manifest = manifest
        self.digest, self.signature = file.digest, file.signature
        self.sections = {n.removeprefix(prefix): s for n, s in file.sections.items() if n.startswith(prefix)}
        self._file, self._prefix = file, prefix

    def section(self, name: str) -> Any:
        return self._file.section(self._prefix + name)

    def array(self, name: str) -> np.ndarray:
        return self._file.array(self._prefix + name)

    def blob(self, name: str) -> bytes:
        return self._file.blob(self._prefix + name)


# ------------------------------------------------------------------------------------------------ the program of a step


def training_program(
    loss: Callable[..., Any], optimizer: Optimizer, has_state: bool, has_aux: bool
) -> Callable[..., Any]:
    """The function of one step: ``(params, state, optimizer, step, key, *batch) -> (loss or (loss, aux), those anew)``."""
    parameters = parameters_of(loss)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][1 + has_state :]
    wants_key = "key" in [p.name for p in parameters]
    key_at = next((k for k, p in enumerate(positional) if p.name == "key"), len(positional))

    def split(result: Any) -> tuple[Any, Any]:
        """The loss, and (new state, aux)."""
        if not (has_state or has_aux):
            return result, (None, None)
        count = 1 + has_state + has_aux
        if not isinstance(result, tuple) or len(result) != count:
            wanted = "(loss" + (", new_state" if has_state else "") + (", aux" if has_aux else "") + ")"
            raise TypeError(f"the loss function must return {wanted}, it returned {type(result).__name__}")
        value, *rest = result
        return value, (rest[0] if has_state else None, rest[-1] if has_aux else None)

    def step(params: Any, state: Any, moments: Any, count: Any, key: Any, *batch: Any, **named: Any) -> Any:
        from graphc import random

        given = [state, *batch] if has_state else [*batch]
        if wants_key:
            key, use = random.split(key)
            if key_at < len(batch):
                given.insert(key_at + has_state, use)
            else:
                named["key"] = use

        def of_params(params: Any) -> Any:
            return split(loss(params, *given, **named))

        (value, (new_state, aux)), grads = value_and_grad(of_params, has_aux=True)(params)
        new_params, new_moments = optimizer.update(grads, moments, params, count)
        return (value, aux) if has_aux else value, (new_params, new_state, new_moments, count + 1, key)

    # The program's arguments are named as the user named those of the loss.
    kind = inspect.Parameter.POSITIONAL_ONLY
    batch = [p.replace(kind=kind, default=p.empty) for p in positional if p.name != "key" and p.name not in PARTS]
    rest = [p for p in parameters if p.kind == p.VAR_POSITIONAL]
    step.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [*(inspect.Parameter(name, kind) for name in PARTS), *batch, *rest]
    )
    step.__name__ = f"train_{label(loss)}".replace("<lambda>", "step")
    return step


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []


__all__ = ["Owned", "TrainingStep", "training_program"]
