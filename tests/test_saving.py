"""Saved executables and training steps: bit-identical elsewhere, portable, trusted or rebuilt, and never a crash."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import random
import threading
from collections import namedtuple

import numpy as np
import pytest
from faults import kill_everywhere, run_script

import graphc
from graphc import optim, storage
from graphc.executable import Executable
from graphc.storage import FileFormatError
from graphc.training import TrainingStep

Pair = namedtuple("Pair", "first second")
X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
LABELS = np.arange(6) % 3


@dataclasses.dataclass
class Layer:
    w: object
    b: object


def loss(params, state, x, labels, key):
    """A classifier with noise on its inputs and a running mean: everything that a step can own."""
    x = x + np.float32(0.1) * graphc.random.normal(key, x.shape, np.float32) - state
    h = np.tanh(x @ params["hidden"].w + params["hidden"].b)
    z = h @ params["out"].w + params["out"].b
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    new = np.float32(0.9) * state + np.float32(0.1) * x.mean(axis=0)
    return -np.take_along_axis(log_p, labels[:, None], axis=1).mean(), new


def new_step(**options):
    r = np.random.default_rng(1)
    params = {
        "hidden": Layer(r.normal(size=(4, 8)).astype(np.float32), np.zeros(8, np.float32)),
        "out": Layer(r.normal(size=(8, 3)).astype(np.float32), np.zeros(3, np.float32)),
    }
    return TrainingStep(loss, params, optim.adam(0.05), state=np.zeros(4, np.float32), seed=3, **options)


def trained(step, count):
    return [float(step(X, LABELS)) for _ in range(count)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A step after 5 calls, saved; the losses of its next 5 calls; the text of its program."""
    path = tmp_path_factory.mktemp("saved") / "step.graphc"
    step = new_step()
    trained(step, 5)
    step(X[:3], LABELS[:3])
    step.save(path)
    return path, trained(step, 5), step.executables[0].traced.to_text(lines=True, roles=True)


@pytest.fixture(scope="module")
def function(tmp_path_factory):
    """A saved executable with nested arguments, keywords, static values, and what it returns."""

    @graphc.compile(static="power")
    def f(layer, pair, scale, power, mode="plain", *, shift):
        y = np.tanh(pair.first @ layer.w + layer.b) * scale**power
        return {"y": Pair(y, (shift, None)), "mode": [y.sum()] if mode == "plain" else []}

    layer = Layer(np.ones((4, 2), np.float32), np.arange(2, dtype=np.float32))
    args = (layer, Pair(X, np.float32(1)), 2.0, 3)
    exe = f.executable(*args, shift=np.float64(7))
    path = tmp_path_factory.mktemp("saved") / "function.graphc"
    exe.save(path)
    return path, exe, args, exe(*args, shift=np.float64(7))


RESTORE = """
import sys
import numpy as np
import graphc
step = graphc.load({path!r})
x, labels = np.load({data!r}).values()
losses = [float(step(x, labels)) for _ in range(5)]
step.save({again!r})
assert "numba" not in sys.modules and "test_saving" not in sys.modules, "Numba or the model was imported"
assert not any(e for e in step.executables if not e.cached)
print([l.hex() for l in losses], step.steps)
"""


# ------------------------------------------------------------------------------------------------ another process


def test_a_fresh_process_trains_on_without_numba_or_source(saved, tmp_path):
    path, want, _ = saved
    np.savez(tmp_path / "data.npz", x=X, labels=LABELS)
    names = {"path": str(path), "data": str(tmp_path / "data.npz"), "again": str(tmp_path / "again.graphc")}
    # The model's module cannot be found there, and neither can Numba.
    out = run_script("import sys; sys.modules['numba'] = None\n" + RESTORE.format(**names).replace('"numba" not in', '"" not in'))
    assert out.strip() == f"{[v.hex() for v in want]} 11"
    out = run_script(RESTORE.format(**names), GRAPHC_CACHE_DIR="off")
    assert out.strip() == f"{[v.hex() for v in want]} 11"
    again = graphc.load(tmp_path / "again.graphc")  # what the process saved
    whole = new_step()
    trained(whole, 5)
    whole(X[:3], LABELS[:3])
    trained(whole, 5)
    assert trained(again, 3) == trained(whole, 3)
    assert again.steps == 14


def test_an_executable_in_a_fresh_process(function, tmp_path):
    path, _, args, want = function
    np.savez(tmp_path / "data.npz", x=X, y=want["y"].first)
    code = f"""
import sys
import numpy as np
import graphc
f = graphc.load({str(path)!r})
x, y = np.load({str(tmp_path / "data.npz")!r}).values()
layer = {{"w": np.ones((4, 2), np.float32), "b": np.arange(2, dtype=np.float32)}}
got = f(layer, (x, np.float32(1)), 2.0, 3, shift=np.float64(7))
assert "numba" not in sys.modules
assert f.cached and f.memory.peak >= 0 and "numba" not in sys.modules
assert type(got["y"]) is tuple and got["y"][1][1] is None and got["y"][1][0] == 7
np.testing.assert_array_equal(got["y"][0], y)
print(len(f.source) > 100, f.notes)
"""
    assert run_script(code).strip() == "True ()"


# ------------------------------------------------------------------------------------------------ trees


def test_loaded_executables_take_plain_trees_and_the_users_own(function):
    path, exe, args, want = function
    loaded = graphc.load(path)
    layer, pair, scale, power = args
    plain = ({"b": layer.b, "w": layer.w}, tuple(pair), scale, power)
    for call in (args, plain, plain):
        got = loaded(*call, shift=np.float64(7))
        np.testing.assert_array_equal(got["y"][0], want["y"].first)
        assert type(got["y"]) is tuple and list(got) == ["y", "mode"]
    with pytest.raises(TypeError, match="layer: expected a dict with the keys .'w', 'b'., got a dict with the keys .'w'."):
        loaded({"w": layer.w}, *plain[1:], shift=np.float64(7))
    with pytest.raises(TypeError, match="compiled for the static value 3, not 4"):
        loaded(*args[:3], 4, shift=np.float64(7))
    with pytest.raises(TypeError, match=r"\(layer, pair, scale, argument 3, shift=\), got 4 arguments, mode=, shift="):
        loaded(*args, mode="other", shift=np.float64(7))
    with pytest.raises(TypeError, match="'layer.w'"):
        loaded({"b": layer.b, "w": layer.w.T}, *plain[1:], shift=np.float64(7))


def test_like_gives_the_types_of_results(function):
    path, _, args, want = function
    loaded = graphc.load(path, like={"y": Pair(0, (0, None)), "mode": [0]})
    got = loaded(*args, shift=np.float64(7))
    assert type(got["y"]) is Pair
    np.testing.assert_array_equal(got["y"].first, want["y"].first)
    with pytest.raises(ValueError, match="like does not nest as the saved results do: mode, y instead of"):
        graphc.load(path, like={"y": 0, "mode": 0})


def test_like_gives_the_types_of_parameters(saved):
    plain = graphc.load(saved[0])
    assert plain.params["hidden"].keys() == {"w", "b"}
    like = {"hidden": Layer(0, 0), "out": Layer(0, 0)}
    step = graphc.load(saved[0], like=like)
    assert type(step.params["hidden"]) is Layer and step.params["hidden"].w.shape == (4, 8)
    np.testing.assert_array_equal(step.params["out"].w, plain.params["out"]["w"])
    assert trained(step, 5) == saved[1]
    with pytest.raises(ValueError, match="like does not nest as the saved parameters do"):
        graphc.load(saved[0], like={"hidden": Layer(0, 0)})


def test_dict_keys_that_cannot_be_saved(tmp_path):
    exe = graphc.compile(lambda p: p[(0, 1)] * 2, backend="reference").executable({(0, 1): np.ones(2)})
    with pytest.raises(TypeError, match=r"a dict key \(0, 1\) of type tuple cannot be saved; use strings or whole numbers"):
        exe.save(tmp_path / "f.graphc")
    assert not os.listdir(tmp_path)


def test_whole_numbers_and_bools_as_keys(tmp_path):
    f = graphc.compile(lambda p: {True: p[1] + p[20], "n": p["a"]}, backend="reference")
    p = {20: np.ones(1), 1: np.ones(1)}
    g = graphc.compile(lambda p: {3: p[1] + p[20]}, backend="reference").executable(p)
    g.save(tmp_path / "g.graphc")
    assert graphc.load(tmp_path / "g.graphc")(p) == {3: 2.0}
    assert f.executables == ()


# ------------------------------------------------------------------------------------------------ steps


def test_a_loaded_step_knows_the_batches_that_it_was_saved_for(saved):
    step = graphc.load(saved[0])
    assert len(step.executables) == 2
    step(X[:3], LABELS[:3])
    with pytest.raises(TypeError, match=r"not saved for such a batch.*x: expected f32\[6, 4\], got f32\[2, 4\]"):
        step(X[:2], LABELS[:2])
    with pytest.raises(TypeError, match="not saved for such a batch"):
        step(X)
    assert step.steps == 7


def test_a_loaded_step_owns_what_it_loaded(saved):
    one, other = graphc.load(saved[0]), graphc.load(saved[0])
    before = other.params["out"]["w"].copy()
    trained(one, 2)
    np.testing.assert_array_equal(other.params["out"]["w"], before)
    with pytest.raises(ValueError, match="read-only"):
        one.params["out"]["w"][0] = 1
    assert "2 executables" in repr(one)


def test_a_step_that_was_not_compiled_cannot_be_saved(tmp_path):
    step = new_step(backend="reference")
    with pytest.raises(RuntimeError, match="has not been compiled yet"):
        step.save(tmp_path / "step.graphc")
    step.executable(X, LABELS)
    step.save(tmp_path / "step.graphc")
    assert graphc.load(tmp_path / "step.graphc").steps == 0


def test_aux_static_flags_and_nested_batches(tmp_path):
    def f(p, batch, *, half=False):
        y = p * batch.first + batch.second["k"]
        return (y**2).sum() * (0.5 if half else 1), {"y": y, "more": (y.sum(),)}

    step = TrainingStep(f, np.ones(2), optim.sgd(0.1), has_aux=True)
    batch = Pair(np.ones(2), {"k": np.zeros(2)})
    step(batch, half=True)
    step(batch)
    step.save(tmp_path / "step.graphc")
    loaded = graphc.load(tmp_path / "step.graphc")
    for call in ({"half": True}, {}, {"half": True}, {}):
        want, aux = step(batch, **call)
        got, same = loaded((batch.first, batch.second), **call)
        assert got == want
        np.testing.assert_array_equal(same["y"], aux["y"])
        assert type(same["more"]) is tuple
    with pytest.raises(TypeError, match="static value True, not False"):
        loaded(batch, half=False)


def test_saving_waits_for_a_call_and_shows_one_moment(tmp_path):
    """Both halves of the parameters are equal after every step."""
    step = TrainingStep(lambda p, x: ((p["a"] + p["b"]) * x).sum(), {"a": np.zeros(5000), "b": np.zeros(5000)}, optim.sgd(0.1))
    x = np.ones(5000)
    step(x)
    stop = threading.Event()

    def train():
        while not stop.is_set():
            step(x)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        for _ in range(5):
            step.save(tmp_path / "step.graphc")
            file = storage.read(tmp_path / "step.graphc")
            a, b, count = (file.array(f"owned.{k}") for k in range(3))
            np.testing.assert_array_equal(a, b)
            np.testing.assert_allclose(a, -0.1 * int(count))
    finally:
        stop.set()
        thread.join()


# ------------------------------------------------------------------------------------------------ looking inside


def test_a_loaded_program_keeps_lines_and_adjoints(saved):
    step = graphc.load(saved[0])
    exe, want = step.executables[0], saved[2]
    assert exe.traced.to_text(lines=True, roles=True) == want
    assert "test_saving.py" in want and "adjoint of" in want
    assert exe.memory == exe.code.memory
    assert b"plan " in storage.read(saved[0]).blob("e0.code.plan")[:10]


def test_lines_of_bodies_are_kept(tmp_path):
    def f(x):
        return graphc.scan(lambda c, row: (np.tanh(c + row), np.sin(c)), x[0], x)

    exe = graphc.compile(f, backend="reference").executable(X)
    exe.save(tmp_path / "f.graphc")
    loaded = graphc.load(tmp_path / "f.graphc")
    assert loaded.traced.to_text(lines=True) == exe.traced.to_text(lines=True)
    assert loaded.traced.to_text(lines=True).count("test_saving.py") > 2


# ------------------------------------------------------------------------------------------------ other machines, trust


def rewritten(path, target, change, sign=None):
    """The file again, with ``change(manifest, sections)`` applied and hashes made anew."""
    file = storage.read(path)
    manifest = copy.deepcopy(file.manifest)
    sections = {name: file.section(name) for name in file.sections}
    change(manifest, sections)
    storage.write(target, manifest, sections, sign=sign)
    return target


def other_machine(manifest, sections):
    for part in manifest["executables"]:
        part["machine"] = "another CPU"


def other_version(manifest, sections):
    for part in manifest["executables"]:
        part["version"] = "0.0.0"


def broken_code(manifest, sections):
    for name in list(sections):
        if ".code.object" in name:
            sections[name] = b"\x7fELF" + bytes(100)


def test_code_is_run_where_this_user_saved_it(saved):
    assert all(exe.cached for exe in graphc.load(saved[0]).executables)


@pytest.mark.parametrize("change", [other_machine, other_version])
def test_another_machine_or_version_rebuilds(saved, tmp_path, change):
    path = rewritten(saved[0], tmp_path / "step.graphc", change, sign=storage.sign)
    for trust in (None, True):
        step = graphc.load(path, trust=trust)
        assert trained(step, 5) == saved[1]
    step.save(path)
    assert trained(graphc.load(path), 1) == trained(step, 1)


def test_code_that_nobody_vouches_for_is_not_run(saved, tmp_path):
    unsigned = rewritten(saved[0], tmp_path / "step.graphc", broken_code)
    for trust in (None, False):
        assert trained(graphc.load(unsigned, trust=trust), 5) == saved[1]  # rebuilt: that code would not run
    with pytest.raises(FileFormatError, match="machine code"):
        graphc.load(unsigned, trust=True)
    foreign = rewritten(saved[0], tmp_path / "foreign.graphc", broken_code, sign=lambda payload: "ab" * 32)
    assert trained(graphc.load(foreign), 5) == saved[1]


def test_trust_decides(saved, tmp_path, monkeypatch):
    ran = []
    real = Executable.__init__

    def spy(self, program, options, code=None, **more):
        ran.append(code is not None)
        real(self, program, options, code, **more)

    monkeypatch.setattr(Executable, "__init__", spy)
    unsigned = rewritten(saved[0], tmp_path / "step.graphc", lambda manifest, sections: None)
    for path, trust, want in (
        (saved[0], None, True), (saved[0], False, False), (unsigned, None, False), (unsigned, True, True)
    ):  # fmt: skip
        ran.clear()
        assert trained(graphc.load(path, trust=trust), 5) == saved[1]
        assert ran == [want, want]
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another user"))
    monkeypatch.setenv("GRAPHC_CACHE_DIR", "off")
    ran.clear()
    graphc.load(saved[0])
    assert ran == [False, False]
    assert not (tmp_path / "another user").exists()  # looking made no key


# ------------------------------------------------------------------------------------------------ damaged files


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89GRAPHC\n", b"PK\x03\x04" + bytes(200)])
def test_foreign_files(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=str(path)):
        graphc.load(path)


def test_files_that_are_not_there_or_hold_something_else(tmp_path):
    with pytest.raises(FileNotFoundError):
        graphc.load(tmp_path / "none")
    storage.write(tmp_path / "other", {"format": "tea"}, {})
    with pytest.raises(FileFormatError, match="holds 'tea', which this version of graphc does not know"):
        graphc.load(tmp_path / "other")


def test_bytes_that_were_altered_are_always_found(saved, tmp_path):
    data = saved[0].read_bytes()
    dice = random.Random(0)
    path = tmp_path / "step.graphc"
    for k in range(1200):
        damaged = bytearray(data)
        at = dice.randrange(len(data))
        match k % 5:
            case 0 | 1:
                damaged[at] ^= 1 << dice.randrange(8)
            case 2:
                del damaged[at:]
            case 3:
                damaged[at : at + dice.randrange(1, 100)] = bytes(dice.randrange(256) for _ in range(dice.randrange(100)))
            case 4:
                start = dice.randrange(len(data))
                damaged[at : at + 64] = data[start : start + 64]
        if damaged != data:
            path.write_bytes(damaged)
            with pytest.raises(FileFormatError):
                graphc.load(path, trust=True)


NESTED = (["tuple", [], [], []], [0, 1, 2], [[]])
JUNK = (None, True, -1, 0, 7, 1 << 70, 1.5, "", "leaf", "none", "f32", "dict", "é", [], {}, *NESTED)


def mutate(value, dice, depth=0):
    """``value`` (of a JSON document) with something in it changed."""
    if depth > 6 or not isinstance(value, (dict, list)) or not value or dice.random() < 0.15:
        return dice.choice(JUNK)
    value = copy.copy(value)
    place = dice.choice(list(value) if isinstance(value, dict) else range(len(value)))
    match dice.randrange(8):
        case 0:
            del value[place]
        case 1 if isinstance(value, list):
            value.append(value[place])
        case 2 if isinstance(value, list):
            dice.shuffle(value)
        case _:
            value[place] = mutate(value[place], dice, depth + 1)
    return value


def mutate_text(text, dice):
    """A text with words or characters exchanged, left out or repeated."""
    words = text.split(" ")
    for _ in range(dice.randrange(1, 4)):
        a, b = dice.randrange(len(words)), dice.randrange(len(words))
        match dice.randrange(4):
            case 0:
                words[a] = words[b]
            case 1:
                del words[a]
            case 2:
                word = words[a]
                at = dice.randrange(len(word) + 1)
                words[a] = word[:at] + dice.choice("(),:[]=._'\"\n0129vx -") + word[at + dice.randrange(2) :]
            case 3:
                words.insert(a, words[b])
    return " ".join(words)


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """A step of the reference backend: rebuilding it takes no time."""
    path = tmp_path_factory.mktemp("saved") / "interpreted.graphc"

    def small(params, x, labels):
        z = np.tanh(x @ params["w"] + params["b"])
        return -np.take_along_axis(z, labels[:, None], axis=1).mean()

    params = {"w": np.ones((4, 3), np.float32), "b": np.zeros(3, np.float32)}
    step = TrainingStep(small, params, optim.sgd(0.1, momentum=0.9), backend="reference")
    step(X, LABELS)
    step.save(path)
    file = storage.read(path)
    return file.manifest, {name: file.section(name) for name in file.sections}


@pytest.mark.filterwarnings("ignore")
def test_whole_files_with_other_content_are_refused_or_work(interpreted):
    manifest, sections = interpreted
    dice = random.Random(1)
    refused = 0
    for k in range(1200):
        changed, parts = manifest, dict(sections)
        match k % 4:
            case 0 | 1:
                changed = mutate(manifest, dice)
            case 2:
                name = "e0.graph"
                parts[name] = mutate_text(sections[name].decode(), dice).encode()
            case 3:
                name = dice.choice(list(parts))
                match dice.randrange(4):
                    case 0:
                        del parts[name]
                    case 1:
                        parts[name] = sections[dice.choice(list(sections))]
                    case 2 if isinstance(parts[name], np.ndarray):
                        parts[name] = np.asarray(parts[name]).astype(dice.choice([np.float64, np.int8]))
                    case _:
                        parts["e0.annotations"] = json.dumps(mutate(json.loads(sections["e0.annotations"]), dice)).encode()
        if not isinstance(changed, dict):
            continue
        try:
            step = TrainingStep.from_file(storage.read(storage.pack(changed, parts)), trust=True)
        except FileFormatError:
            refused += 1
            continue
        try:
            step(X, LABELS)
        except (TypeError, ValueError, ArithmeticError, IndexError, MemoryError, RuntimeError):
            pass  # another program: it may not be able to run
    assert refused > 600


def test_machine_code_with_another_index_is_refused_or_loads(saved):
    from graphc.backends import cpu

    file = storage.read(saved[0])
    parts = {n.removeprefix("e0.code."): file.section(n) for n in file.sections if n.startswith("e0.code.")}
    index = json.loads(parts["index"])
    dice = random.Random(2)
    refused = 0
    for _ in range(400):
        try:
            cpu.code_from_sections(parts | {"index": json.dumps(mutate(index, dice)).encode()})
        except FileFormatError:
            refused += 1
    assert refused > 200
    with pytest.raises(FileFormatError, match="not whole"):
        cpu.code_from_sections({k: v for k, v in parts.items() if k != "object.0"})
    other = cpu.code_from_sections(parts)
    graph = graphc.trace(lambda x: x, np.zeros(3))
    with pytest.raises(FileFormatError, match="machine code of another program"):
        cpu.check_code(other, graph, graphc.executable.Options(), "here")


# ------------------------------------------------------------------------------------------------ killed while saving


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_every_write_the_file_is_the_old_or_the_new_one(tmp_path):
    path = tmp_path / "step.graphc"
    step = new_step(backend="reference")
    step(X, LABELS)
    step.save(path)
    storage.sign(b"")  # the key is there
    step(X, LABELS)
    counts = []
    for _ in kill_everywhere(lambda: step.save(path)):
        loaded = graphc.load(path)
        counts.append(loaded.steps)
        loaded(X, LABELS)
    assert set(counts) == {1, 2} and counts == sorted(counts) and len(counts) > 20
