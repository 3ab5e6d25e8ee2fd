"""NumPy's functions that graphc does not trace: why, and what to write instead. They raise by name."""

from __future__ import annotations

import numpy as np

from graphc.tracing import LEFT_OUT

_FILES = "it reads or writes files; call it outside the traced function"
_TEXT = "it makes text of numbers, which are not known while tracing; return the value and print it outside"

LEFT_OUT.update(
    {
        np.save: _FILES,
        np.savez: _FILES,
        np.savez_compressed: _FILES,
        np.savetxt: _FILES,
        np.loadtxt: _FILES,
        np.genfromtxt: _FILES,
        np.fromfile: _FILES,
        np.frombuffer: _FILES,
        np.fromstring: _FILES,
        np.array2string: _TEXT,
        np.array_repr: _TEXT,
        np.array_str: _TEXT,
    }
)
