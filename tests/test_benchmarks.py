"""The benchmark's workloads at tiny sizes: every one runs, learns, and gives on the CPU what the reference gives."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

import data  # noqa: E402
import side_graphc  # noqa: E402

SMALL = {
    "tiny": {"widths": (3, 4, 2)},
    "tiny-tree": {"widths": (3, 4, 2)},
    "mlp-sgd": {"widths": (7, 6, 5), "batch": 9},
    "mlp-adam": {"widths": (7, 6, 5), "batch": 9},
    "chain": {"size": 33},
    "layernorm": {"rows": 5, "width": 7},
    "lstm": {"batch": 3, "hidden": 5, "steps": 4, "symbols": 6},
    "gpt": {"layers": 1, "width": 6, "heads": 2, "context": 5, "batch": 3, "symbols": 7},
    "lenet": {"channels": (2, 3), "hidden": 5, "batch": 3, "extent": 16},
    "resnet": {"channels": (2, 4), "blocks": 1, "batch": 3, "extent": 6},
    "gcn": {"nodes": 11, "edges": 30, "features": 9, "hidden": 4, "classes": 3},
    "moe": {"experts": 3, "width": 4, "hidden": 5, "batch": 6},
    "pde": {"hidden": 4, "layers": 2, "batch": 5},
}


def losses(name: str, dtype: str, count: int) -> list[float]:
    step = side_graphc.WORKLOADS[name](data.make(name, SMALL[name], dtype))
    return [step() for _ in range(count)]


@pytest.mark.parametrize("name", data.SIZES)
def test_workload_learns(name, monkeypatch):
    monkeypatch.setenv("GRAPHC_BACKEND", "reference")
    found = losses(name, "float64", 3)
    assert np.isfinite(found).all()
    if hasattr(side_graphc.WORKLOADS[name](data.make(name, SMALL[name])), "gradients"):
        assert found[0] == found[2]
    else:
        assert found[0] > found[1] > found[2]


@pytest.mark.parametrize("name", data.SIZES)
def test_cpu_agrees_with_reference(name, monkeypatch):
    have = losses(name, "float32", 3)
    monkeypatch.setenv("GRAPHC_BACKEND", "reference")
    np.testing.assert_allclose(have, losses(name, "float64", 3), rtol=1e-4)


def test_every_workload_is_described():
    for name, sizes in data.SIZES.items():
        assert "{" not in data.describe(name, sizes)
    for name, sizes, dtype in data.VARIANTS:
        assert sizes.keys() <= data.SIZES[name].keys() and dtype in ("float32", "float64")
    assert SMALL.keys() == data.SIZES.keys() == side_graphc.WORKLOADS.keys()
