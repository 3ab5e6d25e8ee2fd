"""SciPy-shaped functions that graphc traces, on traced and on plain arrays; SciPy need not be installed.

``scipy.special``'s ufuncs on traced arrays work as they are. What SciPy writes in Python (``logsumexp``, ``softmax``,
``polygamma``, the distributions of ``scipy.stats``) asks for the numbers of its arguments; it is here under the same names.

>>> import numpy as np
>>> import graphc
>>> float(graphc.grad(lambda x: graphc.scipy.stats.norm.logpdf(x, 1.0, 2.0))(3.0))
-0.5
"""

from __future__ import annotations

from graphc.scipy import linalg, special, stats

__all__ = ["linalg", "special", "stats"]
