"""TrainingStep: forward, backward and weight update as one native program that owns what it trains."""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc import config
from graphc.driver import leaf_signature
from graphc.executable import Executable, Options, tree_from_json, tree_to_json, version
from graphc.optim import Optimizer
from graphc.tracing import Tracer, trace_program
from graphc.transforms import value_and_grad
from graphc.tree import Tree, flatten, unflatten

STATE_LOST = (
    "an earlier call of this training step failed after it had begun to write its parameters; they are lost. "
    "Make the step again, or load the last saved one"
)


@dataclass
class Owned:
    """What a step keeps: one array per leaf, aligned, updated in place by every executable that binds them."""

    arrays: list[np.ndarray]
    tree: Tree

    @staticmethod
    def copy_of(value: Any) -> Owned:
        leaves, tree = flatten(value)
        return Owned([aligned_copy(leaf) for leaf in leaves], tree)

    def view(self, key: str) -> Any:
        """Read-only views of the part ``key``, nested as it was given."""
        views = []
        for array in self.arrays:
            view = array.view()
            view.flags.writeable = False
            views.append(view)
        return unflatten(self.tree, views)[key]


def aligned_copy(value: Any, alignment: int = 64) -> np.ndarray:
    """A C-contiguous copy of ``value`` whose data begins at a multiple of ``alignment`` bytes."""
    source = np.asarray(value)
    raw = np.empty(source.nbytes + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    array = raw[start : start + source.nbytes].view(source.dtype).reshape(source.shape)
    array[...] = source
    return array


class TrainingStep:
    """A compiled training step: ``loss = step(*batch)`` runs forward, backward and update in one native program.

    loss       ``loss(params, *batch) -> scalar``; with ``state``: ``loss(params, state, *batch) -> (scalar, new state)``;
               with ``has_aux`` one more result: ``(…, aux)``, and calls return ``(loss, aux)``. A loss with a parameter
               called ``key`` gets a fresh random key (u32[2], see :mod:`graphc.random`) at every step.
    params     the initial parameters, any pytree of float arrays. Copied once; read them as ``step.params``.
    optimizer  from :mod:`graphc.optim`.
    state      further arrays that the loss updates (batch-norm statistics …), read as ``step.state``.
    seed       of the random key.

    One executable per batch signature; all share the parameters, and calls are serialised. ``step.params`` and
    ``step.state`` are read-only views of live memory. An update whose element type is not its parameter's is a TypeError.

    >>> import numpy as np, graphc
    >>> x = np.linspace(-1, 1, 8, dtype=np.float32); y = 3 * x
    >>> step = TrainingStep(lambda p, x, y: ((p["w"] * x - y) ** 2).mean(), {"w": np.float32(0)}, graphc.optim.sgd(0.5))
    >>> losses = [float(step(x, y)) for _ in range(20)]
    >>> losses[-1] < 1e-3 * losses[0]
    True
    """

    def __init__(
        self,
        loss: Callable[..., Any] | None,
        params: Any,
        optimizer: Optimizer | None,
        state: Any = None,
        has_aux: bool = False,
        *,
        seed: int = 0,
        backend: str | None = None,
        threads: int | None = None,
    ) -> None:
        if loss is None or optimizer is None:
            raise TypeError("TrainingStep needs a loss function and an optimizer")
        whole = {
            "key": np.array([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32),
            "optimizer": optimizer.init(params),
            "params": params,
            "state": state,
            "step": np.zeros((), np.int64),
        }
        options = Options(backend or config.get(config.BACKEND), threads or config.get(config.THREADS))
        self._setup(
            Owned.copy_of(whole), options, has_aux, training_program(loss, optimizer, state is not None, has_aux)
        )

    def _setup(self, owned: Owned, options: Options, has_aux: bool, program: Callable[..., Any] | None) -> None:
        self._owned = owned
        self._options = options
        self._has_aux = has_aux
        self._program = program
        self._executables: dict[Any, Executable] = {}
        self._lock = threading.RLock()
        self._lost = False

    # -- reading

    @property
    def params(self) -> Any:
        """The parameters: read-only views of live memory; copy them to keep them."""
        return self._owned.view("params")

    @property
    def state(self) -> Any:
        return self._owned.view("state")

    @property
    def optimizer_state(self) -> Any:
        return self._owned.view("optimizer")

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return int(self._owned.view("step"))

    # -- running

    def __call__(self, *batch: Any) -> Any:
        leaves, tree = (list(batch), None) if all(type(b) is np.ndarray for b in batch) else flatten(batch)
        key = (tree, tuple([(v.dtype, v.shape) if type(v) is np.ndarray else leaf_signature(v) for v in leaves]))
        exe = self._executables.get(key)
        if exe is None:
            exe = self._compile(key, batch)
        if self._lost:
            raise RuntimeError(STATE_LOST)
        with self._lock:
            try:
                result = exe.runner.call(leaves)
            except Exception as error:
                # A kernel's error says whether memory that outlives the call had been written by then.
                if getattr(error, "unsafe", False):
                    self._lost = True
                    error.add_note(STATE_LOST)
                raise
        if self._has_aux:
            return unflatten(exe.program.out_tree.children[0], result)
        return result[0]

    def executable(self, *batch: Any) -> Executable:
        """The executable for a batch of these types: its graph, schedule, plan, source, memory, profile."""
        leaves, tree = (list(batch), None) if all(type(b) is np.ndarray for b in batch) else flatten(batch)
        key = (tree, tuple(leaf_signature(v) for v in leaves))
        return self._executables.get(key) or self._compile(key, batch)

    def _compile(self, key: Any, batch: tuple[Any, ...]) -> Executable:
        with self._lock:
            if key in self._executables:
                return self._executables[key]
            if self._program is None:
                known = "; ".join(
                    str([str(a.type) for a in e.program.arguments[len(self._owned.arrays) :]])
                    for e in self._executables.values()
                )
                raise TypeError(
                    f"this step was loaded from a file and was saved for batches {known} only; "
                    "make a TrainingStep from the source for other shapes"
                )
            whole = unflatten(self._owned.tree, self._owned.arrays)
            program = trace_program(self._program, (whole, *batch), {})
            n = len(self._owned.arrays)
            first = len(program.graph.outputs) - n
            self._check_updates(program)
            pairs = tuple((k, first + k) for k in range(n))
            options = Options(self._options.backend, self._options.threads, pairs, tuple(range(n)))
            exe = Executable(program, options)
            exe.runner.bind(self._owned.arrays)
            self._executables[key] = exe
            return exe

    def _check_updates(self, program: Any) -> None:
        n = len(self._owned.arrays)
        outputs = program.graph.outputs[len(program.graph.outputs) - n :]
        for array, out, path in zip(self._owned.arrays, outputs, self._owned.tree.paths, strict=True):
            if (out.type.dtype.numpy, out.type.shape) != (array.dtype, array.shape):
                widened = [note for note in program.notes if note.startswith("float64")]
                raise TypeError(
                    f"the update of {path} is {out.type}, the array is {array.dtype}{list(array.shape)}"
                    + ("; " + "; ".join(widened) if widened else "")
                )

    # -- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the step to one file: programs, machine code, parameters, optimizer state, counter and key. Atomic.

        :func:`graphc.load` gives a step ready to train on, without the model's source and without Numba.
        """
        from graphc import storage

        with self._lock:
            if self._lost:
                raise RuntimeError(STATE_LOST)
            manifest, sections = self.contents()
            storage.write(path, manifest, sections, sign=storage.sign)

    def contents(self) -> tuple[dict[str, Any], dict[str, bytes | np.ndarray]]:
        if not self._executables:
            raise RuntimeError(
                "this step has not been compiled yet: call it once, or step.executable(*batch), then save"
            )
        executables = []
        sections: dict[str, bytes | np.ndarray] = {f"owned.{k}": a for k, a in enumerate(self._owned.arrays)}
        for k, exe in enumerate(self._executables.values()):
            manifest, parts = exe.contents()
            executables.append(manifest)
            sections.update({f"e{k}.{name}": content for name, content in parts.items()})
        return {
            "format": "graphc training step",
            "version": version("graphc"),
            "tree": tree_to_json(self._owned.tree),
            "has_aux": self._has_aux,
            "executables": executables,
        }, sections

    @classmethod
    def from_file(cls, file: Any, trust: bool | None) -> TrainingStep:
        """The step of a saved file. Raises FileFormatError where it is not one."""
        from graphc.executable import load_executable
        from graphc.storage import FileFormatError

        manifest = file.manifest
        try:
            tree = tree_from_json(manifest["tree"])
            arrays = [aligned_copy(file.array(f"owned.{k}")) for k in range(tree.size)]
            parts = list(manifest["executables"])
            has_aux = bool(manifest["has_aux"])
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            if isinstance(error, FileFormatError):
                raise
            raise FileFormatError(file.path, f"is not a saved training step ({error})") from None
        step = cls.__new__(cls)
        step._setup(Owned(arrays, tree), Options(), has_aux, None)
        for k, part in enumerate(parts):
            exe = load_executable(Part(file, part, f"e{k}."), trust)
            check_owned(exe, arrays, file.path)
            exe.runner.bind(arrays)
            step._executables[batch_key(exe, len(arrays))] = exe
        return step

    def __repr__(self) -> str:
        return f"<TrainingStep: {len(self._owned.arrays)} owned arrays, {self.steps} steps, {len(self._executables)} executables>"


def check_owned(exe: Executable, arrays: Sequence[np.ndarray], path: str) -> None:
    from graphc.storage import FileFormatError

    have = [(a.dtype, a.shape) for a in arrays]
    want = [(a.type.dtype.numpy, a.type.shape) for a in exe.program.arguments[: len(arrays)]]
    if have != want or exe.options.owned != tuple(range(len(arrays))):
        raise FileFormatError(path, "holds arrays that do not fit its program")


def batch_key(exe: Executable, n_owned: int) -> Any:
    """The key under which :class:`TrainingStep` looks for an executable, from its program alone."""
    args, _ = exe.program.in_tree.children
    batch = Tree("tuple", args.children[1:], tuple(range(len(args.children) - 1)))
    arguments = exe.program.arguments[n_owned:]
    if all(child.kind == "leaf" for child in batch.children) and not any(a.weak for a in arguments):
        return None, tuple((a.type.dtype.numpy, a.type.shape) for a in arguments)
    signature = tuple(
        (a.type.dtype.numpy, a.type.shape, True) if a.weak else (a.type.dtype.numpy, a.type.shape) for a in arguments
    )
    return batch, signature


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


def training_program(
    loss: Callable[..., Any], optimizer: Optimizer, has_state: bool, has_aux: bool
) -> Callable[..., Any]:
    """The function of one step: ``(owned, *batch) -> (loss or (loss, aux), new owned)``."""
    wants_key = "key" in parameters_of(loss)

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

    def step(owned: dict[str, Any], *batch: Any) -> Any:
        from graphc import random

        lead = (owned["state"],) if has_state else ()
        new_key, extra = owned["key"], {}
        if wants_key:
            new_key, use = random.split(owned["key"])
            extra = {"key": use}

        def of_params(params: Any) -> Any:
            return split(loss(params, *lead, *batch, **extra))

        (value, (state, aux)), grads = value_and_grad(of_params, has_aux=True)(owned["params"])
        params, optimizer_state = optimizer.update(grads, owned["optimizer"], owned["params"], owned["step"])
        new = {
            "key": new_key,
            "optimizer": optimizer_state,
            "params": params,
            "state": state,
            "step": owned["step"] + 1,
        }
        return (value, aux) if has_aux else value, new

    step.__name__ = f"train_{getattr(loss, '__name__', 'step')}".replace("<lambda>", "step")
    return step


def parameters_of(function: Callable[..., Any]) -> Sequence[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []


__all__ = ["Owned", "Tracer", "TrainingStep", "training_program"]
