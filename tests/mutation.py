"""Mutants of the derivative rules: signs flipped, terms and factors dropped, cotangents left out. Tests have to notice.

``python tests/mutation.py [--files arithmetic reduction] [--every N]`` copies the checkout to a temporary folder, changes one
place of one rule in ``graphc/ops`` at a time, runs the tests of the records against it, and prints what survives.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Files without rules, or whose formulas are values rather than derivatives.
WITHOUT_RULES = {"__init__", "base", "random", "structure", "special_formulas", "special_tables", "formula"}
#: Tests that are run on every mutant, and those of single files.
TESTS = ["tests/test_ops.py"]
MORE_TESTS = {
    "cumulative": ["tests/test_cumulative.py"],
    "control": ["tests/test_control.py", "tests/test_transforms.py"],
    "complex": ["tests/test_complex.py"],
    "decompositions": ["tests/test_numpy_linalg.py"],
    "systems": ["tests/test_numpy_linalg.py"],
    "linalg": ["tests/test_numpy_linalg.py"],
    "arithmetic": ["tests/test_numpy_ufuncs.py", "tests/test_complex.py"],
    "special": ["tests/test_special.py", "tests/test_cases.py"],
    "elementary": ["tests/test_numpy_ufuncs.py"],
}
PRODUCTS = {"mul", "div"}
SUMS = {"add": "sub", "sub": "add"}


@dataclass(frozen=True)
class Mutant:
    file: str
    line: int
    what: str
    source: str


def called(node: ast.AST) -> str:
    """``neg`` of ``neg(x)`` and of ``ops.neg(x)``."""
    if not isinstance(node, ast.Call) or node.keywords:
        return ""
    function = node.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id != "np":
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def replacements(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Wrong expressions in place of ``node``."""
    name = called(node)
    if name == "neg":
        yield "sign dropped", node.args[0]  # type: ignore[attr-defined]
    if name in SUMS and len(node.args) == 2:  # type: ignore[attr-defined]
        first, second = node.args  # type: ignore[attr-defined]
        yield "second term dropped", first
        yield "first term dropped", second
        yield f"{name} made {SUMS[name]}", ast.Call(renamed(node.func, SUMS[name]), [first, second], [])  # type: ignore[attr-defined]
    if name in PRODUCTS and len(node.args) == 2:  # type: ignore[attr-defined]
        yield "factor dropped", node.args[0]  # type: ignore[attr-defined]


def renamed(function: ast.expr, name: str) -> ast.expr:
    if isinstance(function, ast.Attribute):
        return ast.Attribute(function.value, name, ast.Load())
    return ast.Name(name, ast.Load())


def dropped_cotangents(tree: ast.AST) -> Iterator[tuple[ast.Tuple, int]]:
    """Entries of the tuples that functions of the name ``…vjp`` return."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and "vjp" in node.name:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and isinstance(inner.value, ast.Tuple):
                    for k, part in enumerate(inner.value.elts):
                        if not (isinstance(part, ast.Constant) and part.value is None):
                            yield inner.value, k


def mutants(path: Path) -> Iterator[Mutant]:
    """Every mutant of one file of records."""
    text = path.read_text()
    places = [n for n in ast.walk(ast.parse(text)) if called(n)]
    for number in range(len(places)):
        for choice in range(3):
            tree = ast.parse(text)
            node = [n for n in ast.walk(tree) if called(n)][number]
            options = list(replacements(node))
            if choice < len(options):
                what, new = options[choice]
                yield Mutant(path.name, node.lineno, what, ast.unparse(Swap(node, new).visit(tree)))  # type: ignore[attr-defined]
    for number in range(len(list(dropped_cotangents(ast.parse(text))))):
        tree = ast.parse(text)
        values, k = list(dropped_cotangents(tree))[number]
        values.elts[k] = ast.Constant(None)
        yield Mutant(path.name, values.lineno, f"cotangent {k} dropped", ast.unparse(tree))


class Swap(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.expr) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return ast.fix_missing_locations(ast.copy_location(self.new, node)) if node is self.old else super().visit(node)


def survives(folder: Path, mutant: Mutant) -> bool:
    """Whether the tests pass on ``mutant``."""
    target = folder / "graphc" / "ops" / mutant.file
    original = target.read_text()
    target.write_text(mutant.source)
    try:
        stem = target.stem
        tests = [t for t in [*TESTS, *MORE_TESTS.get(stem, ())] if (folder / t).exists()]
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=900)
    except subprocess.TimeoutExpired:
        return False
    finally:
        target.write_text(original)
    return result.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", nargs="*", help="names of files in graphc/ops, without .py; all with rules by default")
    parser.add_argument("--every", type=int, default=1, help="take one mutant in so many")
    parser.add_argument("--offset", type=int, default=0)
    options = parser.parse_args()
    paths = sorted(p for p in (ROOT / "graphc" / "ops").glob("*.py") if p.stem not in WITHOUT_RULES)
    if options.files:
        paths = [p for p in paths if p.stem in options.files]
    killed, alive = 0, []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "copy"
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", "__pycache__", ".*_cache"))
        chosen = [m for path in paths for m in mutants(path)][options.offset :: options.every]
        for mutant in chosen:
            if survives(folder, mutant):
                alive.append(mutant)
                print(f"survives: {mutant.file}:{mutant.line}: {mutant.what}", flush=True)
            else:
                killed += 1
    print(f"{killed} of {len(chosen)} mutants killed ({100 * killed / max(len(chosen), 1):.1f} %)")


if __name__ == "__main__":
    main()
