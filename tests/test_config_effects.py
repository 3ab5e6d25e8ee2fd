"""The environment variables do what their table says, also where the machine code is in the cache already."""

from __future__ import annotations

import platform
import re

import numpy as np
import pytest

import graphc
from graphc.config import ConfigError
from graphc.tracing import Spec

x86 = pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="needs x86-64")


def model(w, x):
    return np.tanh(x @ w * 1.0).sum(axis=1)


def executable(**options):
    return graphc.compile(model, **options).executable(Spec((8, 4)), Spec((16, 8)))


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty cache, and nothing known in this process."""
    from graphc.backends import cpu

    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cpu, "_objects", {})
    return tmp_path / "cache"


# ------------------------------------------------------------------------------------------------ GRAPHC_DEBUG


def shown(capsys) -> str:
    out, err = capsys.readouterr()
    assert out == ""  # it all goes to stderr
    return err


def test_nothing_is_printed_by_default(fresh, capsys):
    executable()
    assert shown(capsys) == ""


def test_debug_1_tells_where_compile_time_went(fresh, capsys, monkeypatch):
    monkeypatch.setenv("GRAPHC_DEBUG", "1")
    executable()
    text = shown(capsys)
    assert re.search(r"graphc: model: not in the cache: executable: nothing is stored in", text)
    assert re.search(r"graphc: simplify: \d+ -> \d+ nodes, [\d.]+ ms", text)
    assert re.search(r"graphc: not in the cache: \w+[^:]*: nothing is stored in", text)
    assert re.search(r"graphc: k_\w+ \(k0\): compiled in \d+ ms \(Numba \d+, LLVM \d+\)", text)
    assert re.search(r"graphc: \d+ compiled: Numba \d+ ms, LLVM \d+ ms, side by side", text)
    assert re.search(r"graphc: (\d+) functions: \1 compiled, 0 from the cache, 0 known", text)
    stages = ("trace", "imports", "cache", "passes", "fuse", "plan", "emit", "kernels", "link")
    summary = ", ".join(rf"{stage} [\d.]+ ms" for stage in stages)
    assert re.search(rf"graphc: model: compiled, [\d.]+ s \({summary}\)", text)
    assert "def " not in text and "schedule" not in text

    executable()  # from the cache now
    text = shown(capsys)
    summary = ", ".join(rf"{stage} [\d.]+ ms" for stage in ("trace", "imports", "cache", "link"))
    assert re.search(rf"graphc: model: machine code was there, [\d.]+ s \({summary}\)", text)
    assert "simplify" not in text

    graphc.compile(lambda w, x: model(w, x) + 1).executable(Spec((8, 4)), Spec((16, 8)))
    text = shown(capsys)
    assert "not in the cache: executable: " in text and "program sha256" in text
    assert re.search(r"functions: \d compiled, 0 from the cache, [1-9]\d* known", text)


def test_debug_1_tells_the_time_of_the_gradient(fresh, capsys, monkeypatch):
    monkeypatch.setenv("GRAPHC_DEBUG", "1")
    graphc.compile(graphc.grad(lambda x: np.tanh(x).sum())).executable(Spec((8,)))
    assert re.search(r"\(trace [\d.]+ ms, gradient [\d.]+ ms, ", shown(capsys))


def test_debug_1_tells_why_kernels_were_not_in_the_cache(fresh, capsys, monkeypatch):
    from graphc.backends import cpu

    executable()
    (stored,) = fresh.glob("*.executable.*")
    stored.unlink()
    (kernel, *_) = fresh.glob("*.kernel.*")
    kernel.write_bytes(kernel.read_bytes()[:-9])
    monkeypatch.setattr(cpu, "_objects", {})
    monkeypatch.setenv("GRAPHC_DEBUG", "1")
    executable()
    text = shown(capsys)
    assert re.search(r"graphc: not in the cache: \w+: the entry was damaged \(", text)
    monkeypatch.setattr(cpu, "_objects", {})
    graphc.compile(lambda x: np.exp(x) + 3).executable(Spec((8,)))
    assert re.search(r"graphc: not in the cache: k_\w+: new source\n", shown(capsys))


@pytest.mark.parametrize("warm", [False, True])
def test_higher_levels_add_stages(fresh, capsys, monkeypatch, warm):
    if warm:
        executable()
    texts = []
    for level in "1234":
        monkeypatch.setenv("GRAPHC_DEBUG", level)
        executable()
        texts.append(shown(capsys))
    schedule, graphs, source = "schedule model:", "after eliminate_dead\ndef model(", "(table, thread, threads):"
    assert [schedule in t for t in texts] == [False, True, True, True]
    assert ["plan model: arena" in t for t in texts] == [False, True, True, True]
    assert [graphs in t for t in texts] == [False, False, True, True]
    assert [source in t for t in texts] == [False, False, False, True]


# ------------------------------------------------------------------------------------------------ GRAPHC_DUMP


def test_dump_writes_every_stage(fresh, monkeypatch, tmp_path):
    monkeypatch.setenv("GRAPHC_DUMP", str(tmp_path / "dump"))
    for n in range(2):  # the second time from the cache
        executable()
        folder = tmp_path / "dump" / f"model-{n}"
        names = sorted(p.name for p in folder.glob("*.txt"))
        stages = [re.sub(r"^\d+_|\.txt$", "", name) for name in names]
        assert stages[0] == "traced" and stages[-3:] == ["schedule", "plan", "source"] and "simplify" in stages
        assert [int(name[:2]) for name in names] == list(range(len(names)))
        assert "test_config_effects.py" in (folder / names[0]).read_text()
        assert "table, thread, threads" in (folder / names[-1]).read_text()
        assert (folder / f"{names[0][:-4]}.dot").read_text().startswith("digraph")


# ------------------------------------------------------------------------------------------------ GRAPHC_DISABLE, GRAPHC_VERIFY


def test_disabled_passes_do_not_run(fresh, monkeypatch):
    plain = executable()
    monkeypatch.setenv("GRAPHC_DISABLE", "simplify, fold_constants")
    other = executable()
    assert not other.cached  # it is another program
    entries = {e.name: e.disabled for e in other.report.entries}
    assert entries["simplify"] and entries["fold_constants"] and not entries["eliminate_dead"]
    assert len(other.graph.nodes) > len(plain.graph.nodes)
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(8, 4)).astype(np.float32), rng.normal(size=(16, 8)).astype(np.float32)
    np.testing.assert_allclose(other(w, x), plain(w, x), rtol=1e-6)


def test_a_pass_that_is_not_there_cannot_be_disabled(fresh, monkeypatch):
    monkeypatch.setenv("GRAPHC_DISABLE", "simplfy")
    with pytest.raises(ConfigError, match="GRAPHC_DISABLE.*simplfy.*simplify"):
        executable()


def test_verify(fresh, monkeypatch):
    from graphc.passes import manager
    from graphc.verifier import VerifyError

    def find_fault(graph):
        raise VerifyError("a fault", graph, None)

    monkeypatch.setattr(manager, "verify_graph", find_fault)
    with pytest.raises(manager.PassError, match="a fault"):
        executable()
    monkeypatch.setenv("GRAPHC_VERIFY", "0")
    executable()


# ------------------------------------------------------------------------------------------------ GRAPHC_BACKEND, GRAPHC_THREADS


def test_backend(monkeypatch):
    monkeypatch.setenv("GRAPHC_BACKEND", "reference")
    exe = executable()
    assert exe.options.backend == "reference" and "interprets" in exe.source
    assert executable(backend="cpu").options.backend == "cpu"
    step = graphc.TrainingStep(lambda p, x: (p * x).sum() ** 2, np.ones(3), graphc.optim.sgd(0.1))
    assert step.executable(np.ones(3)).options.backend == "reference"
    monkeypatch.setenv("GRAPHC_BACKEND", "gpu")
    with pytest.raises(ValueError, match="there is no backend 'gpu'"):
        executable()


def test_threads(monkeypatch):
    def threads(**options):
        return graphc.compile(lambda x: np.tanh(x), **options).executable(Spec((1_000_000,))).runner.executable.threads

    monkeypatch.setenv("GRAPHC_THREADS", "1")
    assert threads() == 1
    monkeypatch.setenv("GRAPHC_THREADS", "2")
    assert threads() == threads(threads=64) == 2 or graphc.backends.cpu.runtime.team.available_cores() == 1
    assert threads(threads=1) == 1
    monkeypatch.setenv("GRAPHC_THREADS", "0")
    with pytest.raises(ConfigError, match="GRAPHC_THREADS"):
        threads()


# ------------------------------------------------------------------------------------------------ GRAPHC_CPU


@x86
def test_cpu(fresh, monkeypatch):
    host = executable()
    monkeypatch.setenv("GRAPHC_CPU", "x86-64-v2")
    old = executable()
    assert not old.cached
    assert "ymm" not in old.assembly and "xmm" in old.assembly
    assert not any(data in old.code.objects.values() for data in host.code.objects.values())
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(8, 4)).astype(np.float32), rng.normal(size=(16, 8)).astype(np.float32)
    np.testing.assert_allclose(old(w, x), host(w, x), rtol=1e-5)


@x86
def test_a_cpu_that_this_one_is_not(fresh, monkeypatch):
    from graphc.backends.cpu import target

    monkeypatch.setattr(target, "host_features", lambda: {"avx2": False})
    monkeypatch.setenv("GRAPHC_CPU", "x86-64-v3")
    with pytest.raises(ConfigError, match="GRAPHC_CPU='x86-64-v3': this machine has no avx2, bmi2, fma, f16c"):
        executable()


# ------------------------------------------------------------------------------------------------ GRAPHC_CACHE_DIR, _SIZE


def test_cache_folder(fresh, monkeypatch, tmp_path):
    executable()
    assert len(list(fresh.iterdir())) > 2
    assert executable().cached
    for off in ("off", ""):
        monkeypatch.setenv("GRAPHC_CACHE_DIR", off)
        assert not executable().cached
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "other"))
    assert not executable().cached and executable().cached


def test_cache_size(fresh, monkeypatch):
    monkeypatch.setenv("GRAPHC_CACHE_SIZE", "1K")
    executable()
    assert not executable().cached  # an entry larger than the limit is not stored
    monkeypatch.setenv("GRAPHC_CACHE_SIZE", "1G")
    executable()
    assert executable().cached
