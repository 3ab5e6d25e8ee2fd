"""What may import what: downward only, and nothing heavy before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: graphc core from the bottom up: at its top level a module imports only from what stands before it.
ORDER = (
    "types", "config", "looking", "remarks", "collecting", "clock", "ir", "location", "tree", "ops", "interpreter",
    "cotangents", "autodiff", "text", "storage", "verifier", "drawing", "leaks", "generators", "promotion",
    "tracers", "tracing", "attention", "lifting_softmax", "lifting_attention", "lifting", "transforms", "control",
    "numpy", "scipy", "optim", "random", "checking", "nn",
    "calling", "executable", "saving", "driver", "training", "loading",
)  # fmt: skip
#: Modules of the driver: they reach into passes and backends, inside functions.
DRIVER = {"driver", "training", "executable", "saving", "loading", "calling", "looking"}
HEAVY = ("numba", "llvmlite", "ml_dtypes", "networkx", "scipy", "graphviz")


def modules(folder: str) -> Iterator[tuple[str, Path]]:
    """Dotted names, below the package, of the modules in a top-level folder."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT / folder).with_suffix("").parts
        yield ".".join(p for p in parts if p != "__init__"), path


def imports(path: Path, everywhere: bool = False) -> Iterator[str]:
    """The full names that a module imports: at its top level, or everywhere."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if everywhere else top_level(tree.body):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def top_level(body: list[ast.stmt]) -> Iterator[ast.AST]:
    for node in body:
        yield node
        for inner in ("body", "orelse", "handlers", "finalbody"):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield from top_level(getattr(node, inner, []))


CORE = {name for name, _ in modules("graphc") if name}


def module_of(name: str) -> str | None:
    """The module of graphc core that an imported name belongs to: ``tracing`` of ``graphc.tracing.wrap``."""
    if name != "graphc" and not name.startswith("graphc."):
        return None
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in CORE:
        parts.pop()
    return ".".join(parts) or None


@pytest.mark.parametrize("module", sorted(CORE))
def test_core_imports_downward(module: str) -> None:
    package = module.split(".")[0]
    assert package in ORDER, f"graphc.{package} is new: enter it in ORDER of test_structure.py"
    for name in imports(dict(modules("graphc"))[module]):
        assert not name.startswith(("graphc.passes", "graphc.backends")), (
            f"graphc.{module} imports {name} at its top level"
        )
        target = (module_of(name) or package).split(".")[0]
        assert ORDER.index(target) <= ORDER.index(package), f"graphc.{module} imports {name}, which is above it"


@pytest.mark.parametrize("module", sorted(CORE))
def test_only_the_driver_reaches_upward(module: str) -> None:
    if module.split(".")[0] in DRIVER:
        return
    for name in imports(dict(modules("graphc"))[module], everywhere=True):
        assert not name.startswith(("graphc.passes", "graphc.backends")), f"graphc.{module} imports {name}"


def test_passes_do_not_import_backends() -> None:
    for module, path in modules("passes"):
        for name in imports(path, everywhere=True):
            assert not name.startswith("graphc.backends"), f"graphc.passes.{module} imports {name}"


def test_folders_are_imported_by_their_installed_names() -> None:
    for folder in ("graphc", "passes", "backends", "examples"):
        for module, path in modules(folder):
            for name in imports(path, everywhere=True):
                assert name.split(".")[0] not in ("passes", "backends"), f"{folder}/{module} imports {name}"


def test_examples_import_graphc_alone() -> None:
    for module, path in modules("examples"):
        for name in imports(path, everywhere=True):
            if name.startswith("graphc"):
                target = name.removeprefix("graphc").strip(".").split(".")[0]
                assert target in ("", "numpy", "nn", "optim", "random"), f"examples/{module} imports {name}"


def test_importing_graphc_imports_numpy_alone() -> None:
    code = (
        "import sys; before = set(sys.modules); import graphc\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])\n"
        "print(sorted({m.split('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names) - {'numpy', 'graphc'}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy, others = result.stdout.strip().splitlines()
    assert heavy == "[]"
    assert [m for m in eval(others) if not m.startswith("_")] == []


def test_every_module_says_what_it_is() -> None:
    for folder in ("graphc", "passes", "backends", "tests", "examples"):
        for module, path in modules(folder):
            text = path.read_text()
            if text.strip() and not module.startswith("golden"):
                assert ast.get_docstring(ast.parse(text)), f"{folder}/{module} has no docstring"
                assert "from __future__ import annotations" in text, f"{folder}/{module}"


def test_public_names_exist_and_have_docstrings() -> None:
    import graphc

    assert sorted(graphc.__all__) == graphc.__all__
    for name in graphc.__all__:
        value = getattr(graphc, name)
        assert value.__doc__, f"graphc.{name} has no docstring"
    for name in graphc.nn.__all__:
        assert getattr(graphc.nn, name).__doc__, f"graphc.nn.{name} has no docstring"
    for module in (graphc.optim, graphc.random):
        for name, value in vars(module).items():
            if callable(value) and getattr(value, "__module__", "") == module.__name__ and not name.startswith("_"):
                assert value.__doc__ or name in ("decayed", "zeros_like", "as_float", "adaptive"), (
                    f"{module.__name__}.{name} has no docstring"
                )
