"""``graphc.load``: what was saved, back."""

from __future__ import annotations

import os
from typing import Any

from graphc.tree import flatten


def load(path: str | os.PathLike[str], like: Any = None, trust: bool | None = None) -> Any:
    """An executable or a training step from a file.

    like   a pytree that gives the types of namedtuples and dataclasses, which come back as tuples and dicts otherwise: it
           nests as the parameters of a training step, or the results of an executable. Its leaves are not looked at.
    trust  True: run the machine code in the file whoever saved it. False: never. None: only if this user saved it; it is
           rebuilt from the portable program in the file otherwise, and for another CPU or version (which needs Numba).

    Raises FileFormatError (a ValueError) for a file that is damaged or none of graphc's, OSError where it cannot be read,
    and ValueError where ``like`` nests in another way.
    """
    from graphc import storage
    from graphc.executable import Executable
    from graphc.saving import FORMAT, graft, load_executable
    from graphc.training import FORMAT as STEP
    from graphc.training import TrainingStep

    file = storage.read(path)
    file.verify()
    kind = file.manifest.get("format")
    if kind == STEP:
        return TrainingStep.from_file(file, trust, like)
    if kind != FORMAT:
        raise storage.FileFormatError(os.fspath(path), f"holds {kind!r}, which this version of graphc does not know")
    exe: Executable = load_executable(file, trust)
    if like is not None:
        exe.nest_results(graft(exe.program.out_tree, flatten(like)[1], "results"))
    return exe
