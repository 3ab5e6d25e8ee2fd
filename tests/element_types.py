"""Samples of every op in one element type as a few graphs, and how close two backends are in it."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from op_samples import SAMPLES, Sample, draw
from test_ops import PRIMITIVES, accepts, outputs, type_of

from graphc import types
from graphc.ir import Builder, Graph
from graphc.ops.base import OPS
from graphc.types import DType

FULL = os.environ.get("GRAPHC_TEST_FULL") == "1"
#: Samples of one graph: few graphs compile faster than many, small ones show faster what is wrong.
TOGETHER = 32

#: The distance allowed, in units of the last place of the largest number of a result. Half floats are computed in f32 and
#: rounded once per kernel, where the reference rounds after every op: 2 of their units. Decompositions and special
#: functions are the worst of f32 and f64.
UNITS = {"f16": 2, "bf16": 2, "f32": 256, "f64": 4096, "c64": 256, "c128": 4096}
SPACING = {"f16": 2.0**-10, "bf16": 2.0**-7, "f32": 2.0**-23, "f64": 2.0**-52, "c64": 2.0**-23, "c128": 2.0**-52}


@dataclass(frozen=True, eq=False)
class One:
    """A sample of an op."""

    name: str
    number: int

    @property
    def sample(self) -> Sample:
        return SAMPLES[self.name][self.number]

    def __str__(self) -> str:
        return f"{self.name}-{self.number}"


def taken(label: str, share: int) -> bool:
    """One in ``share``, always the same ones; all with GRAPHC_TEST_FULL=1."""
    return FULL or zlib.crc32(label.encode()) % share == 0


def samples(element: DType, share: int, wanted: Callable[[One], bool] = lambda one: True) -> Iterator[list[One]]:
    """The samples that ``element`` has a meaning for, in groups of TOGETHER."""
    every = [One(name, k) for name in PRIMITIVES for k in range(len(SAMPLES[name]))]
    found = [o for o in every if taken(f"{o} {element}", share) and accepts(o.name, o.sample, element) and wanted(o)]
    for k in range(0, len(found), TOGETHER):
        yield found[k : k + TOGETHER]


def joint_graph(group: Sequence[One], element: DType) -> tuple[Graph, list[np.ndarray], list[One]]:
    """All samples as one graph, its inputs, and the sample of every output."""
    arrays: list[np.ndarray] = []
    results, owners = [], []
    with Builder() as builder:
        for one in group:
            mine = draw(one.name, one.sample, element)
            nodes = [builder.input(f"x{len(arrays) + k}", type_of(a)) for k, a in enumerate(mine)]
            arrays += mine
            found = outputs(OPS[one.name](*nodes, **one.sample.attrs))
            results += found
            owners += [one] * len(found)
        return builder.graph(results), arrays, owners


def wide(value: np.ndarray) -> np.ndarray:
    kind = types.dtype(value.dtype).kind
    return value.astype(np.complex128) if kind == "c" else value.astype(np.float64) if kind == "f" else value


def difference(have: np.ndarray, want: np.ndarray, units: float | None = None, each: bool = False) -> str:
    """What sets two results apart: "" where nothing does. ``each``: in units of every number, not of the largest one.

    Integers, bools and numbers that are not finite are the same; so are the signs of zeros with ``each``.
    """
    if (have.dtype, have.shape) != (want.dtype, want.shape):
        return f"{have.dtype}{have.shape} instead of {want.dtype}{want.shape}"
    element = types.dtype(want.dtype)
    x, y = wide(have), wide(want)
    if not element.is_inexact:
        wrong = x != y
    else:
        finite = np.isfinite(y)
        size = np.abs(np.where(finite, y, 0))
        smallest = float({"f16": 2.0**-24, "bf16": 2.0**-133, "f32": 2.0**-149}.get(element.name, 0.0))
        room = (UNITS[element.name] if units is None else units) * (
            np.maximum(SPACING[element.name] * (size if each else size.max(initial=0.0)), smallest)
        )
        with np.errstate(all="ignore"):
            wrong = ~np.where(finite, np.abs(x - y) <= room, (x == y) | (np.isnan(x) & np.isnan(y)))
        if each and element.is_float:
            wrong = wrong | ((y == 0) & (x == 0) & (np.signbit(x) != np.signbit(y)))
    if not wrong.any():
        return ""
    places = [tuple(map(int, p)) for p in np.argwhere(wrong)[:4]]
    return f"at {places}: {have[wrong][:4].tolist()} instead of {want[wrong][:4].tolist()}"
