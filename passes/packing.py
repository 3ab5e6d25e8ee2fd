"""Offsets for buffers in one arena: two buffers that live at the same time share no byte.

The problem is dynamic storage allocation (NP-hard). Best fit in a fixed order is what works in practice: buffers are
taken one by one (largest first is the best single order), each put into the smallest gap that the placed buffers which
live at the same time leave, else above them. See Sekiyama et al., *Profile-guided memory optimization for deep neural
networks* (2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ALIGNMENT = 64
#: With more buffers than this only as many orders are tried as stay quick.
MANY = 4096
VERY_MANY = 20000


@dataclass(frozen=True, slots=True)
class Span:
    """``size`` bytes wanted from stage ``first`` to stage ``last``, both included."""

    size: int
    first: int
    last: int


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def most_live(spans: Sequence[Span]) -> int:
    """The largest sum of aligned sizes over all stages: no arena can be smaller.

    >>> most_live([Span(64, 0, 1), Span(100, 1, 2), Span(64, 2, 3)])
    192
    """
    if not spans:
        return 0
    change = np.zeros(max(s.last for s in spans) + 2, np.int64)
    for s in spans:
        change[s.first] += aligned(s.size)
        change[s.last + 1] -= aligned(s.size)
    return int(np.cumsum(change).max())


def pack(spans: Sequence[Span]) -> tuple[list[int], int]:
    """Offsets (multiples of ALIGNMENT) and the size of the arena: the best of several orders.

    >>> pack([Span(64, 0, 1), Span(128, 1, 2), Span(64, 2, 3)])
    ([128, 0, 128], 192)
    """
    bound = most_live(spans)
    best: tuple[list[int], int] | None = None
    for order in orders(spans):
        found = place(spans, order)
        if best is None or found[1] < best[1]:
            best = found
        if best[1] <= bound:
            break
    return best or ([], 0)


def orders(spans: Sequence[Span]) -> list[list[int]]:
    """Orders to try, the most promising first; ties keep the given order, so the result is the same every time."""
    everyone = range(len(spans))
    by_size = sorted(everyone, key=lambda k: (-spans[k].size, spans[k].first))
    by_start = sorted(everyone, key=lambda k: (spans[k].first, -spans[k].size))
    by_area = sorted(everyone, key=lambda k: -spans[k].size * (spans[k].last - spans[k].first + 1))
    by_length = sorted(everyone, key=lambda k: (spans[k].first - spans[k].last, -spans[k].size))
    if len(spans) > VERY_MANY:
        return [by_start]
    if len(spans) > MANY:
        return [by_size, by_start]
    return [by_size, by_area, by_length, by_start]


def place(spans: Sequence[Span], order: Sequence[int]) -> tuple[list[int], int]:
    """Best fit of the spans in the given order."""
    offsets = [0] * len(spans)
    first, last, start, end = (np.zeros(len(spans), np.int64) for _ in range(4))
    total = 0
    for count, k in enumerate(order):
        span, size = spans[k], aligned(spans[k].size)
        if size:
            meets = np.flatnonzero((first[:count] <= span.last) & (last[:count] >= span.first))
            offsets[k] = best_gap(start[meets], end[meets], size)
        first[count], last[count], start[count], end[count] = span.first, span.last, offsets[k], offsets[k] + size
        total = max(total, offsets[k] + size)
    return offsets, total


def best_gap(start: np.ndarray, end: np.ndarray, size: int) -> int:
    """Where ``size`` bytes fit best among taken ranges [start, end): the smallest gap, else above them all."""
    if not len(start):
        return 0
    by_start = np.argsort(start, kind="stable")
    begins = start[by_start]
    below = np.maximum.accumulate(end[by_start])  # the highest taken byte so far
    floor = np.concatenate(([0], below[:-1]))
    gaps = begins - floor
    fits = np.flatnonzero(gaps >= size)
    if not len(fits):
        return int(below[-1])
    return int(floor[fits[np.argmin(gaps[fits])]])
