"""``graphc.load``: what was saved, back."""

from __future__ import annotations

import os
from typing import Any

from graphc.tree import Tree, flatten


def load(path: str | os.PathLike[str], like: Any = None, trust: bool | None = None) -> Any:
    """An executable or a training step from a file.

    like   a pytree (or, for a training step, its parameters) that gives the types of namedtuples and dataclasses, which
           come back as tuples and dicts otherwise.
    trust  True: run the machine code in the file whoever saved it. False: never. None: only if this user saved it; the
           step is rebuilt from the portable program in the file otherwise (which needs Numba).

    Raises FileFormatError (a ValueError) for a file that is damaged or none of graphc's.
    """
    from graphc import storage
    from graphc.executable import FORMAT, load_executable
    from graphc.training import TrainingStep

    file = storage.read(path)
    kind = file.manifest.get("format")
    if kind == FORMAT:
        exe = load_executable(file, trust)
        if like is not None:
            exe.program = with_out_tree(exe.program, like)
        return exe
    if kind == "graphc training step":
        step = TrainingStep.from_file(file, trust)
        if like is not None:
            step._owned.tree = graft(step._owned.tree, "params", flatten(like)[1])
        return step
    raise storage.FileFormatError(os.fspath(path), f"holds {kind!r}, which this version of graphc does not know")


def graft(tree: Tree, key: str, part: Tree) -> Tree:
    """``tree`` (a dict) with the subtree at ``key`` replaced by one of as many leaves."""
    at = tree.keys.index(key)
    if tree.children[at].size != part.size:
        raise ValueError(f"like has {part.size} leaves, the saved {key} have {tree.children[at].size}")
    children = (*tree.children[:at], part, *tree.children[at + 1 :])
    return Tree(tree.kind, children, tree.keys, tree.type, tree.order)


def with_out_tree(program: Any, like: Any) -> Any:
    from dataclasses import replace

    tree = flatten(like)[1]
    if tree.size != program.out_tree.size:
        raise ValueError(f"like has {tree.size} leaves, the saved results have {program.out_tree.size}")
    return replace(program, out_tree=tree)
