"""Sums, means, extremes and selection."""

from __future__ import annotations

import numpy as np
from cases import case, floats

CASES = [
    case("np.mean", lambda x: np.mean(x, axis=1), floats(3, 4)),
    case("np.sum", lambda x: x.sum(0), floats(3, 4)),
    case("np.var", lambda x: np.var(x, axis=0, ddof=1), floats(3, 4)),
    case("np.argmax", lambda x: np.argmax(x, axis=0), floats(3, 4), grad=0),
    case("np.where", lambda x, y: np.where(x > 0, x, y), floats(3, 4), floats(4)),
]
