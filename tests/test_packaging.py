"""What an install has, what text makers load, and what no file says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: folder → the package that it is
FOLDERS = {"graphc": "graphc", "passes": "graphc.passes", "backends": "graphc.backends"}


def setuptools_table() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def owned() -> Iterator[tuple[str, Path]]:
    """Every file below the three folders, with the package that it lies in."""
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                yield ".".join([package, *path.parent.relative_to(ROOT / folder).parts]), path


def test_every_package_is_installed():
    table = setuptools_table()
    assert table["package-dir"] == {package: folder for folder, package in FOLDERS.items()}
    with_code = {package for package, path in owned() if path.suffix == ".py"}
    assert sorted(table["packages"]) == sorted(with_code)
    assert {package for package, path in owned() if path.name == "__init__.py"} == with_code


def test_files_that_are_no_python_are_installed():
    data = setuptools_table()["package-data"]
    for package, path in owned():
        if path.suffix != ".py":
            enclosing = [package, package.rpartition(".")[0]]
            patterns = [pattern for name in enclosing for pattern in data.get(name, [])]
            assert any(path.match(pattern) for pattern in patterns), f"{path} is not in package-data"


def test_makers_of_source_text_load_no_numba():
    """They write source; ``native`` alone, imported when something is compiled, turns it into machine code."""
    stems = sorted(path.stem for path in (ROOT / "backends/cpu").glob("emit_*.py"))
    assert len(stems) >= 5
    names = [f"graphc.backends.cpu.{stem}" for stem in ("assemble", "codegen", *stems)]
    script = f"import sys, {', '.join(names)}; print('numba' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


def texts() -> Iterator[Path]:
    yield from (ROOT / "README.md", ROOT / "pyproject.toml")
    for folder in (*FOLDERS, "examples", "tests"):
        yield from (p for p in sorted((ROOT / folder).rglob("*")) if p.suffix in (".py", ".md", ".toml", ".txt"))


def test_nothing_speaks_of_where_it_was_written():
    """No words of a workplace, no paths of somebody's machine (``/home/me`` stands for anybody's)."""
    pattern = re.compile(r"\b(agents?|sessions?)\b|(?<![\w.*])/(home|Users|root|opt|work)/(?!me\b)\w+", re.IGNORECASE)
    found = []
    for path in texts():
        if path == Path(__file__).resolve():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if match := pattern.search(line.replace('scope="session"', "")):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert not found
