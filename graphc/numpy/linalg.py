"""numpy.linalg's names, on traced and on plain arrays, and the exponential of matrices.

>>> import numpy as np
>>> from graphc.numpy import linalg
>>> linalg.inv(np.diag([2.0, 4.0]))
array([[0.5 , 0.  ],
       [0.  , 0.25]])
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.numpy import matrices
from graphc.transforms import concrete_or_traced


def expm(a: Any) -> Any:
    """e to the matrices in the last two axes of ``a``, as ``scipy.linalg.expm``.

    [13/13] Padé approximant with scaling and squaring; it has derivatives of any order.

    >>> import numpy as np
    >>> expm(np.array([[0.0, 1.0], [0.0, 0.0]]))
    array([[1., 1.],
           [0., 1.]])
    """
    return _expm(a)


_expm = concrete_or_traced(lambda a: matrices.expm(a))


def __getattr__(name: str) -> Any:
    try:
        return getattr(np.linalg, name)
    except AttributeError:
        raise AttributeError(f"graphc.numpy.linalg has no {name!r}: numpy.linalg has none") from None


__all__ = ["expm"]
