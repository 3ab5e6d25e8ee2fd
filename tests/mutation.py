"""Mutants of the derivative rules: signs flipped, terms and factors dropped, branches swapped. Tests have to notice.

``python tests/mutation.py [--files arithmetic reduction] [--every N]`` copies the checkout to a temporary folder, changes one
place of one rule in ``graphc/ops`` at a time, and prints what survives the tests. A mutant first meets the derivative
checks of the records that its place belongs to, in a forked process; only those that pass are put before whole test files.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before NumPy: the forked processes have no threads but their own

ROOT = Path(__file__).resolve().parent.parent
#: Files without rules, or whose formulas are values rather than derivatives.
WITHOUT_RULES = {"__init__", "base", "random", "structure", "special_formulas", "special_tables", "formula"}
#: Functions that are no rules: types, values and compositions.
NO_RULES = ("_type", "_eval", "_expand", "_batch", "mean")
#: Tests that survivors of the quick checks meet, and more for single files.
TESTS = ["tests/test_ops.py", "tests/test_awkward.py"]
MORE_TESTS = {
    "cumulative": ["tests/test_cumulative.py"],
    "control": ["tests/test_control.py", "tests/test_transforms.py"],
    "complex": ["tests/test_complex.py"],
    "decompositions": ["tests/test_numpy_linalg.py"],
    "systems": ["tests/test_numpy_linalg.py"],
    "linalg": ["tests/test_numpy_linalg.py"],
    "arithmetic": ["tests/test_numpy_ufuncs.py", "tests/test_complex.py"],
    "special": ["tests/test_special.py"],
    "reduction": ["tests/test_nn.py"],
    "elementary": ["tests/test_numpy_ufuncs.py"],
}
#: What of TESTS a survivor meets first.
BRIEF = "not compiled and not test_derivatives[ and not complex_derivatives and not element_type and not text_and"
#: Seconds that a mutant may take before it counts as killed: in the quick checks, and in the whole files.
QUICK_LIMIT, FULL_LIMIT = 120, 900

SUMS = {"add": "sub", "sub": "add"}
PRODUCTS = {"mul", "div"}
BRANCHES = {"select", "where"}
COMPARISONS = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}
#: Maps that a wrong rule may forget: transposition, conjugate, triangle, symmetric part …
FORGOTTEN = {
    "neg": "sign", "swap_last": "transposition", "conj": "conjugate", "triangle": "triangle", "_symmetric": "symmetric part",
    "_half_diagonal": "half of the diagonal", "times_i": "i", "expand": "",
}  # fmt: skip
PYTHON_SUMS: dict[type, ast.operator] = {ast.Add: ast.Sub(), ast.Sub: ast.Add()}


@dataclass(frozen=True)
class Mutant:
    file: str
    line: int
    what: str
    source: str
    #: Names of the records that the place belongs to.
    records: tuple[str, ...]


def called(node: ast.AST) -> str:
    """``neg`` of ``neg(x)`` and of ``ops.neg(x)``."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id != "np":
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def replacements(node: ast.AST, of_reals: bool) -> Iterator[tuple[str, ast.expr]]:
    """Wrong expressions in place of ``node``. ``of_reals``: Python's operators are those of nodes there."""
    if isinstance(node, ast.Call) and (name := called(node)):
        yield from wrong_calls(node, name)
    if of_reals and isinstance(node, ast.BinOp):
        yield from wrong_operators(node)
    if of_reals and isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "sign dropped", node.operand


def wrong_calls(node: ast.Call, name: str) -> Iterator[tuple[str, ast.expr]]:
    args = node.args
    if name in FORGOTTEN and args and FORGOTTEN[name]:
        yield f"{FORGOTTEN[name]} dropped", args[0]
    if name in SUMS and len(args) == 2:
        yield "second term dropped", args[0]
        yield "first term dropped", args[1]
        yield f"{name} made {SUMS[name]}", ast.Call(renamed(node.func, SUMS[name]), args, [])
    if name in PRODUCTS and len(args) == 2:
        yield "factor dropped", args[0]
    if name in BRANCHES and len(args) == 3:
        yield "branches swapped", ast.Call(node.func, [args[0], args[2], args[1]], node.keywords)
    if name in COMPARISONS and len(args) == 2:
        yield f"{name} made {COMPARISONS[name]}", ast.Call(renamed(node.func, COMPARISONS[name]), args, [])
    for k, keyword in enumerate(node.keywords):
        if is_not(keyword.value):
            kept = [ast.keyword(q.arg, q.value.operand if j == k else q.value) for j, q in enumerate(node.keywords)]  # type: ignore[attr-defined]
            yield f"{keyword.arg} not turned round", ast.Call(node.func, args, kept)
    for k, arg in enumerate(args):
        if is_not(arg):
            yield "not turned round", ast.Call(node.func, [*args[:k], arg.operand, *args[k + 1 :]], node.keywords)  # type: ignore[attr-defined]
    if name == "like" and len(args) == 2:
        yield "constant changed", ast.Call(node.func, [args[0], ast.BinOp(args[1], ast.Add(), ast.Constant(1))], [])


def is_not(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def wrong_operators(node: ast.BinOp) -> Iterator[tuple[str, ast.expr]]:
    if type(node.op) in PYTHON_SUMS:
        yield "second term dropped", node.left
        yield "first term dropped", node.right
        yield "sign of the second term", ast.BinOp(node.left, PYTHON_SUMS[type(node.op)], node.right)
    if isinstance(node.op, (ast.Mult, ast.Div)):
        yield "factor dropped", node.left


def renamed(function: ast.expr, name: str) -> ast.expr:
    if isinstance(function, ast.Attribute):
        return ast.Attribute(function.value, name, ast.Load())
    return ast.Name(name, ast.Load())


# ------------------------------------------------------------------------------------------------ places


def rules(tree: ast.Module) -> Iterator[tuple[ast.stmt, list[ast.AST]]]:
    """The top-level statements of a file, each with the nodes of it that may belong to a rule."""
    for statement in tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.Assign, ast.AnnAssign, ast.Expr)) and not no_rule(statement):
            yield statement, list(nodes_of_rules(statement))


def no_rule(statement: ast.AST) -> bool:
    decorated = isinstance(statement, ast.FunctionDef) and any(isinstance(d, ast.Name) for d in statement.decorator_list)
    if not isinstance(statement, ast.FunctionDef):
        return False
    values = statement.returns is not None and "np.ndarray" in ast.unparse(statement.returns)
    return statement.name.endswith(NO_RULES) or decorated or values


def nodes_of_rules(node: ast.AST) -> Iterator[ast.AST]:
    """``ast.walk`` without the parts of a record that are types, values and batching rules."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.keyword) and child.arg in ("infer", "eval", "batch", "expand", "identity"):
            continue
        if no_rule(child) or (isinstance(child, ast.FunctionDef) and child.name in ("infer", "evaluate", "batch")):
            continue
        yield from nodes_of_rules(child)


def takes_cotangent(node: ast.AST) -> bool:
    return isinstance(node, (ast.FunctionDef, ast.Lambda)) and bool(node.args.args) and node.args.args[0].arg == "g"


def of_reals(statement: ast.stmt) -> set[ast.AST]:
    """The nodes of rules that are written with Python's operators: functions of (g, out, …)."""
    return {inner for node in ast.walk(statement) if takes_cotangent(node) for inner in ast.walk(node)}


def dropped(node: ast.AST) -> Iterator[tuple[str, ast.AST, str, int | None]]:
    """Cotangents, tangents and partial derivatives of ``node`` that can be left out: (what, holder, field, place)."""
    if isinstance(node, ast.FunctionDef) and node.name.endswith(("vjp", "jvp")):
        for inner in ast.walk(node):
            if isinstance(inner, ast.Return) and inner.value is not None and not is_none(inner.value):
                yield from dropped_parts(inner, "value")
    if isinstance(node, ast.keyword) and node.arg in ("vjp", "jvp") and isinstance(node.value, ast.Lambda):
        yield from dropped_parts(node.value, "body")
    if isinstance(node, ast.Tuple) and any(takes_cotangent(part) for part in node.elts):
        yield from (("partial dropped", node, "elts", k) for k, part in enumerate(node.elts) if takes_cotangent(part))


def dropped_parts(holder: ast.AST, field: str) -> Iterator[tuple[str, ast.AST, str, int | None]]:
    value = getattr(holder, field)
    if isinstance(value, ast.Tuple):
        parts = ((k, p) for k, p in enumerate(value.elts) if not is_none(p) and not isinstance(p, ast.Starred))
        yield from ((f"result {k} dropped", value, "elts", k) for k, _ in parts)
    elif not is_none(value):
        yield "result dropped", holder, field, None


def is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def mutants(path: Path, names: set[str]) -> Iterator[Mutant]:
    """Every mutant of one file of records; ``names`` are those of all records."""
    tree = ast.parse(path.read_text())
    belong = records_of(tree, names)
    for statement, nodes in rules(tree):
        operators = of_reals(statement) if path.stem in ("special", "elementary") else set()
        records = belong[statement]
        for node in nodes:
            for what, new in replacements(node, node in operators):
                source = ast.unparse(ast.fix_missing_locations(Swap(node, new).visit(copy_but(tree, node))))
                yield Mutant(path.name, node.lineno, what, source, records)  # type: ignore[attr-defined]
            for what, holder, field, k in dropped(node):
                value = getattr(holder, field)
                line = (value[k] if k is not None else value).lineno
                none = ast.Constant(None)
                setattr(holder, field, none if k is None else [none if j == k else p for j, p in enumerate(value)])
                yield Mutant(path.name, line, what, ast.unparse(ast.fix_missing_locations(tree)), records)
                setattr(holder, field, value)


def copy_but(tree: ast.Module, node: ast.AST) -> ast.Module:
    """A copy of ``tree`` in which ``node`` is still itself."""
    return copy.deepcopy(tree, {id(node): node})


class Swap(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.expr) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else super().visit(node)


def records_of(tree: ast.Module, names: set[str]) -> dict[ast.stmt, tuple[str, ...]]:
    """For each top-level statement the records whose definitions depend on it, directly or through other statements."""
    defines = {s: set(defined(s)) for s in tree.body}
    uses = {s: {n.id for n in ast.walk(s) if isinstance(n, ast.Name)} for s in tree.body}
    strings = {s: [n.value for n in ast.walk(s) if isinstance(n, ast.Constant) and n.value in names] for s in tree.body}
    found = {}
    for statement in tree.body:
        reached, waiting = {statement}, [statement]
        while waiting:
            provided = defines[waiting.pop()]
            more = [s for s in tree.body if s not in reached and uses[s] & provided and not is_record(s, strings[s])]
            ends = [s for s in tree.body if s not in reached and uses[s] & provided and is_record(s, strings[s])]
            reached.update(more + ends)
            waiting.extend(more)
        found[statement] = tuple(dict.fromkeys(name for s in tree.body if s in reached for name in strings[s]))
    return found


def is_record(statement: ast.stmt, strings: list[str]) -> bool:
    return isinstance(statement, (ast.Assign, ast.AnnAssign)) and bool(strings)


def defined(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return [n.id for t in targets if t is not None for n in ast.walk(t) if isinstance(n, ast.Name)]


# ------------------------------------------------------------------------------------------------ tests


def quick(folder: Path, mutant: Mutant) -> bool:
    """Whether the derivative checks of the mutant's records pass, in a process forked from this one."""
    child = os.fork()
    if child == 0:
        os._exit(checked(folder, mutant))
    return os.waitpid(child, 0)[1] == 0


def checked(folder: Path, mutant: Mutant) -> int:
    """0 where the checks pass. A process that takes too long is ended by its alarm, which counts as killed."""
    signal.alarm(QUICK_LIMIT)
    os.chdir(folder)
    sys.path[:0] = [str(folder), str(folder / "tests")]
    try:
        tests = importlib.import_module("test_ops")
        checks = (tests.test_derivatives, tests.test_complex_derivatives, tests.test_derivatives_keep_the_element_type)
        for check, element in zip(checks, ("f64", "c128", "f64"), strict=True):
            for name, sample in tests.checks_of(mutant.records, element):
                check(name, sample)
    except BaseException:
        return 1
    return 0


def survives(folder: Path, mutant: Mutant) -> bool:
    """Whether the tests pass on ``mutant``."""
    target = folder / "graphc" / "ops" / mutant.file
    original = target.read_text()
    target.write_text(mutant.source)
    try:
        return quick(folder, mutant) and passes(folder, target.stem)
    finally:
        target.write_text(original)


def passes(folder: Path, stem: str) -> bool:
    """Whether whole test files pass, the quick tests before the slow ones."""
    brief, more = [*TESTS, "-k", BRIEF], MORE_TESTS.get(stem, ())
    return all(pytest_passes(folder, tests) for tests in (brief, more, TESTS) if tests)


def pytest_passes(folder: Path, arguments: Sequence[str]) -> bool:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-n0", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=FULL_LIMIT)
    except subprocess.TimeoutExpired:
        return False
    return result.returncode == 0


def record_names() -> set[str]:
    command = [sys.executable, "-c", "from graphc.ops.base import OPS; import graphc.ops; print(*OPS)"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return set(subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout.split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", nargs="*", help="names of files in graphc/ops, without .py; all with rules by default")
    parser.add_argument("--every", type=int, default=1, help="take one mutant in so many")
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--list", action="store_true", help="print the mutants, run nothing")
    parser.add_argument("--quick", action="store_true", help="only the derivative checks of the records: shows more survivors")
    options = parser.parse_args()
    paths = sorted(p for p in (ROOT / "graphc" / "ops").glob("*.py") if p.stem not in WITHOUT_RULES)
    if options.files:
        paths = [p for p in paths if p.stem in options.files]
    names = record_names()
    if not options.list:
        preload()
    killed = total = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "copy"
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", "__pycache__", ".*_cache"))
        for path in paths:
            chosen = list(mutants(folder / path.relative_to(ROOT), names))[options.offset :: options.every]
            alive = 0
            for mutant in chosen:
                if options.list:
                    print(f"{mutant.file}:{mutant.line}: {mutant.what} ({', '.join(mutant.records)})")
                elif survives_quickly(folder, mutant) if options.quick else survives(folder, mutant):
                    alive += 1
                    print(f"survives: {mutant.file}:{mutant.line}: {mutant.what}", flush=True)
            print(f"{path.stem}: {len(chosen) - alive} of {len(chosen)}", flush=True)
            killed, total = killed + len(chosen) - alive, total + len(chosen)
    print(f"{killed} of {total} mutants killed ({100 * killed / max(total, 1):.1f} %)")


def survives_quickly(folder: Path, mutant: Mutant) -> bool:
    target = folder / "graphc" / "ops" / mutant.file
    original = target.read_text()
    target.write_text(mutant.source)
    try:
        return quick(folder, mutant)
    finally:
        target.write_text(original)


def preload() -> None:
    """What tests import beside graphc, once for all forked processes; they write no byte code of mutants."""
    sys.dont_write_bytecode = True
    for name in ("numpy", "ml_dtypes", "pytest", "hypothesis"):
        importlib.import_module(name)


if __name__ == "__main__":
    main()
