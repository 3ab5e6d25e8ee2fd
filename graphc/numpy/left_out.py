"""NumPy's functions that graphc does not trace: why, and what to write instead. They raise by name."""

from __future__ import annotations

import numpy as np

from graphc.tracing import LEFT_OUT

_FILES = "it reads or writes files; call it outside the traced function"
_DATES = "dates are no numbers; count days outside the traced function and pass the integers"
_TEXT = "it makes text of numbers, which are not known while tracing; return the value and print it outside"

_EIG = "the eigenvalues of a matrix that is not symmetric are complex; use np.linalg.eigh or eigvalsh for symmetric ones"

_FFT = (
    "there is no fast Fourier transform among graphc's operations yet; transform outside the traced function, or, for few "
    "points, multiply by the matrix np.exp(-2j * np.pi * np.outer(k, k) / n) with k = np.arange(n)"
)
_TRANSFORMS = "fft ifft rfft irfft hfft ihfft fft2 ifft2 rfft2 irfft2 fftn ifftn rfftn irfftn".split()
LEFT_OUT.update({getattr(np.fft, name): _FFT for name in _TRANSFORMS})
_SHIFT = "write np.roll(x, {}x.shape[axis] // 2), axis)"
LEFT_OUT[np.fft.fftshift] = _SHIFT.format("(")
LEFT_OUT[np.fft.ifftshift] = _SHIFT.format("-(")

LEFT_OUT.update(
    {
        np.linalg.eig: _EIG,
        np.linalg.eigvals: _EIG,
        np.save: _FILES,
        np.savez: _FILES,
        np.savez_compressed: _FILES,
        np.savetxt: _FILES,
        np.loadtxt: _FILES,
        np.genfromtxt: _FILES,
        np.fromfile: _FILES,
        np.frombuffer: _FILES,
        np.fromstring: _FILES,
        np.busday_count: _DATES,
        np.busday_offset: _DATES,
        np.is_busday: _DATES,
        np.datetime_as_string: _DATES,
        np.roots: "the zeros of a real polynomial may be complex, and how many there are depends on data; improve zeros found "
        "outside the traced function by Newton's method, with np.polyval and np.polyder",
        np.array2string: _TEXT,
        np.array_repr: _TEXT,
        np.array_str: _TEXT,
    }
)
