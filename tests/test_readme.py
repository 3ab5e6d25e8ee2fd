"""The README: its example runs as printed, its commands and names are there, its table is the one in the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from faults import run_script

import graphc
from graphc import config

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_example_runs_as_printed(tmp_path, monkeypatch):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 16
    out = run_script(code)
    first, last = map(float, re.fullmatch(r"loss ([\d.]+) -> ([\d.]+)\n", out).groups())
    assert last < 0.1 * first


def test_the_two_commands_can_be_followed():
    main_job = "pip install '.[examples]' && python examples/train_digits.py"
    for command in (main_job, "pip install -e '.[test]' && python -m pytest"):
        assert re.search(rf"^ {{4}}{re.escape(command)}$", README, re.MULTILINE)
        for extra in re.findall(r"\.\[(\w+)\]", command):
            assert extra in PROJECT["optional-dependencies"]
    for path in re.findall(r"python (\S+\.py)", README):
        assert (ROOT / path).is_file()
    assert "Python 3.11" in README and PROJECT["requires-python"] == ">=3.11"


def test_the_environment_table_is_up_to_date():
    table = re.search(r"<!-- config\b[^\n]*-->\n(.*?)\n<!-- /config -->", README, re.DOTALL)[1]
    assert table == config.table(), "run python -m graphc.config and put what it prints into README.md"


def test_the_names_that_it_mentions_exist():
    listed = re.search(r"- \*\*Derivatives\*\*:(.*?)\n\n", README, re.DOTALL)[1]
    text = listed + " ".join(re.findall(r"graphc\.\w+", README))
    for name in re.findall(r"`(\w+)`", text):
        assert hasattr(graphc, name), name
    for name in re.findall(r"\bgraphc\.(\w+)", README):
        assert hasattr(graphc, name) or name == "config", name


def test_the_picture_is_there():
    for stage in ("trace", "gradient", "passes", "fuse", "plan", "emit", "run", "Graph", "Schedule", "Plan", "Executable"):
        assert stage in README


def test_looking_inside_works_as_the_table_says():
    rows = dict(re.findall(r"^\| ([^|]+) \| (.+) \|$", README, re.MULTILINE))
    if "memory before anything runs" not in rows:
        pytest.skip("the table was rewritten")
    import numpy as np

    f = graphc.compile(lambda x: np.tanh(x).sum())
    exe = f.executable(np.ones(8))
    for name in re.findall(r"exe\.(\w+)", " ".join(rows.values())):
        assert hasattr(exe, name), name
