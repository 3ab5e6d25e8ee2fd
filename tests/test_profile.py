"""``exe.profile``: every kernel with its time, work and lines; nothing that was given changes."""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc import optim

pytestmark = pytest.mark.filterwarnings("error")


def test_every_kernel_is_there_with_its_lines():
    def f(w, x):
        h = np.tanh(x @ w)
        return (h - h.max(axis=1, keepdims=True)).sum(axis=1), np.sort(h[0])

    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(32, 16)).astype(np.float32), rng.normal(size=(64, 32)).astype(np.float32)
    exe = graphc.compile(f).executable(w, x)
    profile = exe.profile(w, x, repeat=5)
    kernels = list(exe.schedule.kernels)
    assert [r.name for r in profile.rows] == [k.name for k in kernels]
    assert [r.template for r in profile.rows] == [k.template for k in kernels]
    assert all(r.runs == 1 and r.microseconds > 0 and r.nbytes > 0 for r in profile.rows)
    dot = next(r for r in profile.rows if r.template == "contraction")
    assert dot.flops >= 2 * 64 * 32 * 16 and dot.gigaflops > 0 and dot.gigabytes_per_second > 0
    assert any("test_profile.py" in line for line in dot.lines)
    assert 0 < profile.share_of_limit(dot)
    assert profile.microseconds == pytest.approx(sum(r.microseconds for r in profile.rows))
    text = str(profile).splitlines()
    assert text[0].split() == ["kernel", "template", "µs", "share", "GB/s", "GFLOP/s", "limit", "lines"]
    assert len(text) == len(kernels) + 2 and "measured limits" in text[-1]


def test_kernels_of_loops_count_their_runs():
    def f(x):
        return graphc.scan(lambda c, row: (np.tanh(c + row), c.sum()), x[0], x)

    x = np.ones((12, 5), np.float32)
    profile = graphc.compile(f).executable(x).profile(x, repeat=4)
    assert max(r.runs for r in profile.rows) == 12
    assert "×12" in str(profile)


def test_nothing_changes():
    f = graphc.compile(lambda x, y: x + y, donate="x")
    x, y = np.ones(1000), np.ones(1000)
    f.executable(x, y).profile(x, y, repeat=3)
    assert (x == 1).all()
    step = graphc.TrainingStep(lambda p, x, y: ((x @ p - y) ** 2).mean(), np.ones(4), optim.adam(0.1))
    x, y = np.ones((3, 4)), np.zeros(3)
    exe = step.executable(x, y)
    profile = exe.profile(x, y, repeat=3)
    assert step.steps == 0 and (step.params == 1).all()
    assert len(profile.rows) == len(list(exe.schedule.kernels))
    step(x, y)
    assert step.steps == 1


def test_arguments_are_checked():
    exe = graphc.compile(lambda p, k: p["a"] * k).executable({"a": np.ones(3)}, 2.0)
    assert exe.profile({"a": np.ones(3)}, 3.0, repeat=1).rows
    with pytest.raises(TypeError, match="p: expected a dict"):
        exe.profile(np.ones(3), 2.0)
    with pytest.raises(TypeError, match="'p.a'"):
        exe.profile({"a": np.ones(4)}, 2.0)
    step = graphc.TrainingStep(lambda p, x: (p * x).sum() ** 2, np.ones(4), optim.sgd(0.1))
    with pytest.raises(TypeError, match=r"expected the arguments \(x\), got 2 arguments"):
        step.executable(np.ones(4)).profile(np.ones(4), np.ones(4))
    reference = graphc.compile(lambda x: x, backend="reference").executable(np.ones(3))
    with pytest.raises(NotImplementedError, match="use backend='cpu'"):
        reference.profile(np.ones(3))


def test_loaded_programs_can_be_profiled(tmp_path):
    x = np.ones((8, 8), np.float32)
    graphc.compile(lambda x: np.tanh(x @ x)).executable(x).save(tmp_path / "f.graphc")
    loaded = graphc.load(tmp_path / "f.graphc")
    profile = loaded.profile(x, repeat=2)
    assert any("test_profile.py" in line for row in profile.rows for line in row.lines)


def test_errors_of_the_data_come_through():
    exe = graphc.compile(lambda x, i: x[i] * 2).executable(np.ones(3), np.zeros(2, int))
    with pytest.raises(IndexError, match="test_profile.py"):
        exe.profile(np.ones(3), np.array([0, 7]))


def test_limits_are_plausible():
    from graphc.backends.cpu.profile import limits

    one = limits(1)
    assert limits(1) is one
    assert 0.5 < one.gigabytes_per_second < 2000 and 0.5 < one.gigaflops < 2000


def test_a_drawing_shows_the_figures_of_each_kernel():
    pytest.importorskip("graphviz")

    def f(w, x):
        return np.tanh(x @ w).sum(axis=1)

    w, x = np.ones((32, 16), np.float32), np.ones((64, 32), np.float32)
    exe = graphc.compile(f).executable(w, x)
    profile = exe.profile(w, x, repeat=2)
    dot = profile.to_dot()
    assert list(profile.figures) == [kernel.name for kernel in exe.schedule.kernels]
    for figures in profile.figures.values():
        assert figures in dot and figures.endswith("of the limit")
    assert "µs" not in exe.schedule.to_dot()
