"""The pass manager: reports, switches of the environment, dumps, errors that name the pass, and the order of the pipeline."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from random_graphs import random_graph, random_inputs

from graphc import config, ops
from graphc.interpreter import evaluate
from graphc.ir import Builder, Graph
from graphc.passes.fold import eliminate_dead
from graphc.passes.manager import Dump, Entry, Pass, PassError, Report, check_order, run
from graphc.passes.pipeline import PIPELINE
from graphc.passes.simplify import simplify
from graphc.text import from_text, to_text
from graphc.types import TensorType, f32
from graphc.verifier import VerifyError, verify

TEXT = "def f(x: f32[3]):\n    v0: f32[3] = neg(x)\n    v1: f32[3] = neg(v0)\n    v2: f32[3] = exp(v1)\n    return v2"


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in config.VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)


def keep(graph: Graph) -> Graph:
    return graph


def fail(graph: Graph) -> Graph:
    raise KeyError("lost")


def damage(graph: Graph) -> Graph:
    return Graph(graph.name, graph.inputs, graph.outputs, graph.nodes[:-1])


SIMPLIFY = Pass("simplify", simplify, "rules")
KEEP = Pass("keep", keep, "nothing")
FAIL = Pass("fail", fail, "raises")
DAMAGE = Pass("damage", damage, "loses a node")


def test_run_reports_what_passes_did() -> None:
    graph, report = run([KEEP, SIMPLIFY], from_text(TEXT))
    assert to_text(graph) == "def f(x: f32[3]):\n    v0: f32[3] = exp(x)\n    return v0"
    assert [(e.name, e.before, e.after, e.disabled) for e in report.entries] == [
        ("keep", 4, 4, False), ("simplify", 4, 2, False),
    ]  # fmt: skip
    assert report.seconds >= sum(e.seconds for e in report.entries) > 0


def test_the_report_prints_as_a_table() -> None:
    report = Report((Entry("simplify", 120, 80, 0.0123, 0.001), Entry("fold_constants", 80, 80, 0, 0, disabled=True)))
    assert str(report) == (
        "pass            before  after     ms  verify ms\n"
        "simplify           120     80  12.30       1.00\n"
        "fold_constants      80     80    off"
    )


def test_disabled_passes_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHC_DISABLE", "simplify,fail")
    graph, report = run([SIMPLIFY, FAIL, KEEP], from_text(TEXT))
    assert to_text(graph) == TEXT
    assert [e.disabled for e in report.entries] == [True, True, False]


def test_a_pass_that_raises_is_named() -> None:
    with pytest.raises(
        PassError, match="pass fail failed on <Graph f: 1 inputs, 4 nodes, 1 outputs>: 'lost'"
    ) as caught:
        run([KEEP, FAIL], from_text(TEXT))
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_pass_that_breaks_the_graph_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PassError, match="after damage the graph is not valid: the output .* is not a node") as caught:
        run([KEEP, DAMAGE], from_text(TEXT))
    assert isinstance(caught.value.__cause__, VerifyError)
    run([DAMAGE], from_text(TEXT), verify=False)
    monkeypatch.setenv("GRAPHC_VERIFY", "0")
    run([DAMAGE], from_text(TEXT))


def test_the_first_graph_is_verified() -> None:
    with pytest.raises(PassError, match="after traced the graph is not valid"):
        run([KEEP], damage(from_text(TEXT)))


def test_dumps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAPHC_DUMP", str(tmp_path / "new" / "stages"))
    for _ in range(2):
        run([SIMPLIFY, KEEP], from_text(TEXT))
    folders = sorted((tmp_path / "new" / "stages").iterdir())
    assert [f.name for f in folders] == ["f-0", "f-1"]
    files = sorted(path.name for path in folders[0].iterdir())
    assert [f for f in files if f.endswith(".txt")] == ["00_traced.txt", "01_simplify.txt", "02_keep.txt"]
    assert [f for f in files if f.endswith(".dot")] == ["00_traced.dot", "01_simplify.dot", "02_keep.dot"]
    assert (folders[0] / "00_traced.txt").read_text() == TEXT + "\n"


def test_a_failure_says_where_the_dumps_are(tmp_path: Path) -> None:
    with pytest.raises(PassError, match="the graph before it") as caught:
        run([FAIL], from_text(TEXT), dump=Dump(tmp_path))
    assert str(tmp_path) in str(caught.value)
    broken = tmp_path / "broken"
    broken.mkdir()
    with pytest.raises(PassError):
        run([DAMAGE], from_text(TEXT), dump=Dump(broken))
    assert (broken / "01_damage_not_valid.txt").read_text().endswith("return _\n")


def test_dumps_write_anything_that_prints(tmp_path: Path) -> None:
    dump = Dump(tmp_path)
    assert dump.write("a b/c", "text").read_text() == "text\n"
    assert [p.name for p in tmp_path.iterdir()] == ["00_a_b_c.txt"]


def test_debug_prints(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run([SIMPLIFY], from_text(TEXT))
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("GRAPHC_DEBUG", "1")
    run([SIMPLIFY], from_text(TEXT))
    shown = capsys.readouterr()
    assert shown.err.startswith("graphc: simplify: 4 -> 2 nodes, ") and shown.out == ""
    monkeypatch.setenv("GRAPHC_DEBUG", "3")
    run([SIMPLIFY], from_text(TEXT))
    assert "graphc: after simplify\ndef f(x: f32[3]):\n" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ the pipeline


def test_the_pipeline_keeps_its_order() -> None:
    assert check_order(PIPELINE) == []


def test_every_constraint_is_of_passes_that_exist_and_has_a_reason() -> None:
    names = {step.name for step in PIPELINE}
    for step in PIPELINE:
        assert {*step.after, *step.before} <= names
        assert step.doc and (step.reason or not (step.after or step.before))


def test_a_wrong_order_is_explained() -> None:
    first = Pass("first", keep, "", before=("second",), reason="it must see everything")
    second = Pass("second", keep, "", after=("first",), reason="it needs the first")
    assert check_order([first, second, second]) == []
    assert check_order([second, first]) == [
        "second must stand after first: it needs the first",
        "first must stand before second: it must see everything",
    ]


def test_the_reversed_pipeline_breaks_constraints() -> None:
    assert any("strip_identities must stand before simplify" in line for line in check_order(PIPELINE[::-1]))


def test_the_pipeline_keeps_the_meaning_of_random_graphs() -> None:
    with np.errstate(all="ignore"):
        for seed in range(60):
            graph = random_graph(seed, control=seed % 2 == 1)
            inputs = random_inputs(graph, seed)
            after, report = run(PIPELINE, graph)
            assert len(report.entries) == len(PIPELINE)
            for want, have in zip(evaluate(graph, inputs), evaluate(after, inputs), strict=True):
                np.testing.assert_array_equal(want, have)
            again, _ = run(PIPELINE, after)
            assert again.digest == after.digest


def test_the_verifier_takes_a_small_part_of_the_time() -> None:
    with Builder("f") as b:
        x = y = b.input("x", TensorType(f32, (4, 4)))
        for k in range(2000):
            y = ops.tanh(ops.add(ops.mul(y, ops.like(y, 1.0 + k)), x))
        graph = b.graph([y])
    start = time.perf_counter()
    after, report = run(PIPELINE, graph)
    total = time.perf_counter() - start
    assert sum(e.verify_seconds for e in report.entries) < 0.5 * total  # about a tenth on an idle machine
    verify(after)
    assert eliminate_dead(after) is after
