"""The examples, each run as a stranger runs it: a process of its own, in an empty folder."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphc

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name: str, folder: Path, *arguments: str) -> str:
    """What an example prints. It finds the graphc that the tests use."""
    environment = os.environ | {"PYTHONPATH": str(Path(graphc.__file__).parents[1]), "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def seconds_of_compilation(out: str) -> float:
    return float(re.search(r"the step was compiled in ([\d.]+) s", out)[1])


# ------------------------------------------------------------------------------------------------ the main job


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    return folder, run("train_digits.py", folder)


def test_digits_are_recognised(digits):
    _, out = digits
    accuracy = re.fullmatch(r"test accuracy (\d+\.\d) %", out.splitlines()[-1])
    assert float(accuracy[1]) >= 97


def test_digits_are_summarised(digits):
    _, out = digits
    assert "a second process trains on: 100%" in out and "training: 100%" in out
    assert re.search(r"simplify +\d+ +\d+", out) and re.search(r"kernels: \d+ in \d+ stages \(.*contraction", out)
    assert re.search(r"memory:  planned peak [\d,]+ bytes \(lower bound", out) and "work: " in out
    assert seconds_of_compilation(out) < 10  # about 1 on an idle machine


def test_digits_write_their_files(digits):
    folder, _ = digits
    written = {p.name: p for p in (folder / "digits_out").iterdir()}
    assert set(written) >= {"loss.png", "digits.graphc"} and {"step.svg", "step.dot"} & set(written)
    assert written["loss.png"].read_bytes().startswith(b"\x89PNG")
    step = graphc.load(written["digits.graphc"])
    assert step.steps == (30 + 8) * 28
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    before = step.params[0]["w"].copy()
    assert step((x[:50] / 16).astype(np.float32), y[:50].astype(np.int64)) < 0.3
    assert not np.array_equal(step.params[0]["w"], before)


def test_digits_of_another_data_set(tmp_path):
    r = np.random.default_rng(0)
    x, y = r.integers(0, 256, (300, 7, 7), np.uint8), r.integers(0, 4, 300, np.uint8)
    np.savez(tmp_path / "data.npz", x_train=x[:260], y_train=y[:260], x_test=x[260:], y_test=y[260:])
    sizes = ["--epochs", "1", "--more", "1", "--hidden", "8", "--batch", "64", "--out", "here"]
    out = run("train_digits.py", tmp_path, "--data", "data.npz", *sizes)
    assert re.fullmatch(r"test accuracy \d+\.\d %", out.splitlines()[-1])
    assert graphc.load(tmp_path / "here" / "digits.graphc").steps == 2 * 4


# ------------------------------------------------------------------------------------------------ the others


def test_textbook(tmp_path):
    out = run("textbook.py", tmp_path, "--out", "graph.dot")
    assert "gradient = (-3.0, -6.0, 3.0)" in out and "= -18.0" in out
    assert "# adjoint of v0" in out
    assert "v0: f64 = add(x, y)  # adjoint of v1, z" in out  # the adjoint of r is q itself
    assert np.array_equal([[float(n) for n in row] for row in re.findall(r"\[*(\d)\. (\d)\. (\d)\.\]", out)],
                          [[2, 1, 1], [1, 0, 1], [1, 1, 0]])  # fmt: skip
    assert (tmp_path / "graph.dot").read_text().startswith("digraph")


def test_inside(tmp_path):
    out = run("inside.py", tmp_path, "--rows", "4")
    titles = re.findall(r"^──── (\d+)\. ", out, re.MULTILINE)
    assert titles == [str(k) for k in range(11)]
    for text in ("np.tanh(x @ w).mean()", "def value_and_grad_f(", "schedule value_and_grad_f", "plan value_and_grad_f",
                 "planned peak", "(table, thread, threads):", "value 1.0, gradient float32[64, 32]", "GFLOP/s"):  # fmt: skip
        assert text in out
    assert max(map(len, out.splitlines())) < 200 or "tile_strip" in out


def test_gradient_descent(tmp_path):
    out = run("gradient_descent.py", tmp_path, "--passes", "3", "--out", "curves.png")
    curves = re.findall(r"loss ([\d.]+) → ([\d.]+) after 3 passes, (\d+) steps", out)
    (first, full, n), (_, stochastic, m) = curves
    assert int(n) == 3 and int(m) == 3 * 35
    assert float(stochastic) < float(full) < float(first)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


# ------------------------------------------------------------------------------------------------ whole programs


def test_gaussian_process(tmp_path):
    out = run("gaussian_process.py", tmp_path, "--points", "40", "--plot", "fit.png")
    before, after = re.search(r"likelihood (-?[\d.]+) → (-?[\d.]+) in", out).groups()
    assert float(after) < 0.2 * float(before)
    assert abs(float(re.search(r"period ([\d.]+)", out)[1]) - 1.3) < 0.05
    assert float(re.search(r"extrapolated: ([\d.]+)", out)[1]) < 0.3
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")


def test_newton_cg(tmp_path):
    out = run("newton_cg.py", tmp_path, "--size", "20")
    assert float(re.search(r"off by ([\de.-]+)", out)[1]) < 1e-12
    values = dict(re.findall(r"^(\S+) +f = ([\de.+-]+)", out, re.MULTILINE))
    assert set(values) == {"L-BFGS-B", "Newton-CG", "trust-ncg"} and float(values["Newton-CG"]) < 1e-12


def test_fluid(tmp_path):
    out = run("fluid.py", tmp_path, "--size", "8", "--steps", "3", "--iterations", "20")
    before, after = re.search(r"difference ([\d.]+) → ([\d.]+),", out).groups()
    assert float(after) < 0.5 * float(before)
    assert int(re.search(r"a graph of (\d+) nodes", out)[1]) > 1000


def test_n_body(tmp_path):
    out = run("n_body.py", tmp_path, "--steps", "30")
    misses = [float(m) for m in re.findall(r"misses by ([\de.+-]+)", out)]
    assert misses[-1] < 1e-9 < 0.1 < misses[0]
    assert abs(float(re.search(r"energy (-[\d.]+)", out)[1]) + 1.28714) < 0.01


def test_rendering(tmp_path):
    out = run("rendering.py", tmp_path, "--size", "16", "--discs", "2", "--steps", "300")
    before, after = re.search(r"difference ([\d.]+) → ([\de.-]+) after", out).groups()
    assert float(after) < 1e-3 * float(before)


def test_differential_equation(tmp_path):
    out = run("differential_equation.py", tmp_path, "--steps", "800", "--hidden", "16", "--points", "64")
    before, after = re.search(r"residual ([\d.]+) → ([\de.-]+) after", out).groups()
    assert float(after) < 0.2 * float(before)
    assert float(re.search(r"t = 0.5: ([\d.]+)", out)[1]) < 0.2


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.name)
def test_examples_import_graphc_only(path):
    """Complete programs that a stranger reads in a minute: nothing of graphc's inside is imported."""
    allowed = {"graphc", "numpy", "scipy", "matplotlib", "sklearn", "tqdm", "__future__", *sys.stdlib_module_names}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        else:
            continue
        for name in names:
            assert name.split(".")[0] in allowed and not name.startswith("graphc.")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.name)
def test_examples_explain_themselves(path, tmp_path):
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)) and len(text.splitlines()) < 200
    if "argparse" in text:
        assert "usage" in run(path.name, tmp_path, "--help")
