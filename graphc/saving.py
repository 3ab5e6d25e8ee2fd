"""What a saved executable consists of: the portable program with its annotations, and the machine code beside it.

Files are data: reading one runs nothing, imports no class by name, and takes nothing for granted that is written in it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc import config
from graphc.calling import StaticLeaf
from graphc.ir import Graph, Line, Node
from graphc.tracing import Argument, Program
from graphc.tree import LEAF, NONE, Tree
from graphc.types import TensorType, dtype

if TYPE_CHECKING:
    from graphc.executable import Executable, Options

FORMAT = "graphc executable"
MAX_TREE_DEPTH = 64
Sections = dict[str, bytes | np.ndarray]
MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)


@functools.cache
def version(package: str) -> str:
    """The version of an installed package; of graphc itself from its source."""
    if package == "graphc":
        from graphc import __version__

        return __version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


# ------------------------------------------------------------------------------------------------ executables


def executable_parts(exe: Executable) -> tuple[dict[str, Any], Sections]:
    """What the file of an executable holds: a manifest and sections."""
    from graphc.executable import backend_module
    from graphc.text import constants, to_text

    program = exe.program
    manifest = {
        "format": FORMAT,
        "version": version("graphc"),
        "options": exe.options.to_json(),
        "machine": backend_module(exe.options.backend).machine_key(),
        "in_tree": tree_to_json(program.in_tree),
        "out_tree": tree_to_json(program.out_tree),
        "arguments": [[a.name, str(a.type.dtype), list(a.type.shape), a.weak] for a in program.arguments],
        "static": [[k, leaf.shown] for k, leaf in exe.statics.items()],
        "notes": list(program.notes),
    }
    sections: Sections = {"graph": to_text(program.graph).encode(), "annotations": annotation_text(program.graph)}
    sections.update({f"constant.{sha}": array for sha, array in constants(program.graph).items()})
    sections.update({f"code.{k}": v for k, v in exe.code.sections().items()})
    return manifest, sections


def load_executable(file: Any, trust: bool | None, threads: int | None = None) -> Executable:
    """An executable from a file that was read: its own machine code where that may run here, else compiled anew.

    Raises FileFormatError where the file holds none.
    """
    from graphc import storage
    from graphc.executable import Executable, Options, backend_module

    manifest = file.manifest
    program, statics = program_from_file(file)
    try:
        options = Options.from_json(manifest["options"], threads or config.get(config.THREADS))
        check_options(options, program.graph)
        backend = backend_module(options.backend)
        usable = manifest["machine"] == backend.machine_key() and manifest["version"] == version("graphc")
    except MALFORMED as error:
        raise storage.FileFormatError(file.path, f"is not a saved executable ({error})") from None
    code = None
    if usable and (trust or (trust is None and storage.trusts(file))):
        names = [n for n in file.sections if n.startswith("code.")]
        code = backend.code_from_sections({n.removeprefix("code."): file.section(n) for n in names}, file.path)
        backend.check_code(code, program.graph, options, file.path)
    return Executable(program, options, code, statics=statics)


def check_options(options: Options, graph: Graph) -> None:
    """Raise ValueError for options that do not fit the graph."""
    inputs, outputs = [i for i, _ in options.donated], [o for _, o in options.donated]
    for numbers, count in ((inputs, len(graph.inputs)), (outputs, len(graph.outputs)), (options.owned, len(graph.inputs))):
        if len(set(numbers)) != len(numbers) or not all(0 <= k < count for k in numbers):
            raise ValueError("donated or owned arguments that are not there")
    if any(graph.inputs[i].type != graph.outputs[o].type for i, o in options.donated):
        raise ValueError("donated arguments of another type than their results")


def program_from_file(file: Any) -> tuple[Program, dict[int, StaticLeaf]]:
    """The portable program of a saved file and its static arguments. Raises FileFormatError where it is not one."""
    from graphc.storage import FileFormatError
    from graphc.text import from_text

    manifest = file.manifest
    try:
        constants = {n.removeprefix("constant."): file.array(n) for n in file.sections if n.startswith("constant.")}
        graph = annotated(from_text(file.blob("graph").decode(), constants), file.blob("annotations"))
        arguments = tuple(argument_from_json(*entry) for entry in manifest["arguments"])
        statics = {integer(k): StaticLeaf(string(shown)) for k, shown in manifest["static"]}
        in_tree, out_tree = tree_from_json(manifest["in_tree"]), tree_from_json(manifest["out_tree"])
        notes = tuple(string(note) for note in manifest["notes"])
        check_program(graph, arguments, statics, in_tree, out_tree)
        return Program(graph, arguments, in_tree, out_tree, notes), statics
    except FileFormatError:
        raise
    except MALFORMED as error:
        raise FileFormatError(file.path, f"does not hold a graphc program ({error})") from None


def check_program(
    graph: Graph, arguments: Sequence[Argument], statics: Mapping[int, StaticLeaf], in_tree: Tree, out_tree: Tree
) -> None:
    """Raise ValueError where a graph and the nesting of its arguments and results do not belong together."""
    if [a.type for a in arguments] != list(graph.input_types):
        raise ValueError("the arguments are not the inputs of the graph")
    if out_tree.size != len(graph.outputs):
        raise ValueError("the results are not the outputs of the graph")
    nested = [child.kind for child in in_tree.children]
    if in_tree.kind != "tuple" or nested != ["tuple", "dict"] or not all(isinstance(k, str) for k in in_tree.children[1].keys):
        raise ValueError("the arguments are not a tuple and keywords")
    if in_tree.size != len(arguments) + len(statics) or not all(0 <= k < in_tree.size for k in statics):
        raise ValueError("the arguments do not fill their nesting")


def argument_from_json(name: Any, element: Any, shape: Any, weak: Any) -> Argument:
    extents = tuple(integer(n) for n in shape)
    if type(weak) is not bool or any(n < 0 for n in extents) or (weak and extents):
        raise ValueError("an argument is malformed")
    return Argument(string(name), TensorType(dtype(string(element)), extents), weak)


def integer(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} where a whole number is expected")
    return value


def string(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"{value!r} where a text is expected")
    return value


# ------------------------------------------------------------------------------------------------ trees as data


def tree_to_json(tree: Tree) -> Any:
    """A tree as JSON. Dict keys must be strings, integers, bools or None; classes are left out."""
    if tree.kind in ("leaf", "none"):
        return tree.kind
    for key in tree.keys:
        if type(key) not in (str, int, bool, type(None)):
            raise TypeError(f"a dict key {key!r} of type {type(key).__name__} cannot be saved; use strings or whole numbers")
    return [tree.kind, list(tree.keys), [tree_to_json(c) for c in tree.children], list(tree.order)]


def tree_from_json(data: Any, depth: int = 0) -> Tree:
    """The tree back: namedtuples come back as tuples, dataclasses as dicts (``load(like=)`` gives the types)."""
    if data in ("leaf", "none"):
        return LEAF if data == "leaf" else NONE
    if depth > MAX_TREE_DEPTH:
        raise ValueError("a tree in the file is too deep")
    if not (isinstance(data, list) and len(data) == 4 and all(isinstance(part, list) for part in data[1:])):
        raise ValueError("a tree in the file is malformed")
    kind, keys, children, order = data
    plain = {"namedtuple": "tuple", "dataclass": "dict"}.get(string(kind), kind)
    if plain not in ("dict", "list", "tuple") or len(keys) != len(children):
        raise ValueError(f"a tree in the file has kind {kind!r}")
    parts = tuple(tree_from_json(c, depth + 1) for c in children)
    if plain != "dict":
        return Tree(plain, parts, tuple(range(len(parts))))
    if len(set(keys)) != len(keys) or (order and sorted(order) != list(range(len(keys)))):
        raise ValueError("a dict in the file has the same key twice")
    return Tree("dict", parts, tuple(keys), dict, tuple(order))


def graft(saved: Tree, like: Tree, what: str) -> Tree:
    """``like``, which gives the classes of ``saved``. Raises ValueError where they do not nest alike."""
    if not alike(saved, like):
        raise ValueError(f"like does not nest as the saved {what} do: {paths(like)} instead of {paths(saved)}")
    return like


def alike(saved: Tree, like: Tree) -> bool:
    """Whether ``like`` nests as ``saved`` does, namedtuples standing for tuples and dataclasses for dicts."""
    kind = {"namedtuple": "tuple", "dataclass": "dict"}.get(like.kind, like.kind)
    keys = tuple(range(len(like.children))) if like.kind == "namedtuple" else like.keys
    return kind == saved.kind and keys == saved.keys and all(map(alike, saved.children, like.children))


def paths(tree: Tree) -> str:
    return ", ".join(p or "one array" for p in tree.paths[:8]) + (", …" if tree.size > 8 else "") or tree.kind


# ------------------------------------------------------------------------------------------------ annotations


def annotation_text(graph: Graph) -> bytes:
    """The user's lines of every node, of bodies too, and what is adjoint to what, as JSON."""
    made_by: dict[Line, int] = {}
    lines = [
        {str(k): [made_by.setdefault(line, len(made_by)) for line in g.lines[n]] for k, n in enumerate(g.nodes) if n in g.lines}
        for g in all_graphs(graph)
    ]
    number = {node: k for k, node in enumerate(graph.nodes)}
    adjoints = [[order, number[p], number[a]] for order, p, a in graph.adjoints if p in number and a in number]
    places = [[line.file, line.line, line.function] for line in made_by]
    return json.dumps({"places": places, "lines": lines, "adjoints": adjoints}, separators=(",", ":")).encode()


def annotated(graph: Graph, data: bytes) -> Graph:
    """``graph`` with the annotations that :func:`annotation_text` wrote. Raises ValueError and its like for any other data."""
    found = json.loads(data)
    places = [Line(string(file), integer(line), string(function)) for file, line, function in found["places"]]
    graphs = list(all_graphs(graph))
    if len(found["lines"]) != len(graphs):
        raise ValueError("annotations of another graph")
    tables: list[dict[Node, tuple[Line, ...]]] = []
    for g, table in zip(graphs, found["lines"], strict=True):
        tables.append({g.nodes[index(int(k), g.nodes)]: tuple(places[index(n, places)] for n in v) for k, v in table.items()})
    for g, lines in zip(graphs[1:], tables[1:], strict=True):  # bodies were made by the parser just now
        assert isinstance(g.lines, dict)
        g.lines.update(lines)
    nodes = graph.nodes
    adjoints = [(integer(order), nodes[index(p, nodes)], nodes[index(a, nodes)]) for order, p, a in found["adjoints"]]
    return Graph(graph.name, graph.inputs, graph.outputs, nodes, tables[0], tuple(adjoints))


def index(k: Any, items: Sequence[Any]) -> int:
    if not 0 <= integer(k) < len(items):
        raise ValueError("a number that stands for nothing")
    return k


def all_graphs(graph: Graph) -> Iterator[Graph]:
    """``graph`` and the graphs that its nodes hold, at any depth, each once and in the order of the text."""
    seen: set[Graph] = set()
    pending = [graph]
    while pending:
        found = pending.pop()
        if found not in seen:
            seen.add(found)
            yield found
            pending.extend(reversed([body for node in found.nodes for body in node.bodies]))
