"""The file format: what goes in comes out, and nothing else is ever taken for it."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import pickle
import random
import struct
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from faults import FaultyOS, run_script

from graphc.storage import File, FileFormatError, container, files, pack, read, write

Sections = dict[str, bytes | np.ndarray]
MANIFEST: dict[str, Any] = {
    "program": "digits",
    "steps": [1, 2.5, True, None],
    "nested": {"ä": '“quoted\\"”', "[{": "]]]]"},
}
SECTIONS: Sections = {
    "code": bytes(range(256)) * 3,
    "weights": np.arange(12, dtype=np.float32).reshape(3, 4),
    "empty": b"",
    "flags": np.array([True, False, True]),
    "none": np.zeros((0, 5), np.int64),
    "step": np.array(7, np.int64),
}
posix_only = pytest.mark.skipif(os.name == "nt", reason="uses fork and POSIX permissions")


def same(file: File, manifest: dict = MANIFEST, sections: Sections = SECTIONS) -> bool:
    """Whether the file holds exactly this content, bit for bit. Raises FileFormatError where a section is damaged."""
    if file.manifest != manifest or list(file.sections) != list(sections):
        return False
    return all(same_content(file.section(name), content) for name, content in sections.items())


def same_content(got: object, content: object) -> bool:
    if isinstance(got, np.ndarray) and isinstance(content, np.ndarray):
        return (got.dtype, got.shape, got.tobytes()) == (content.dtype, content.shape, content.tobytes())
    return type(got) is type(content) and got == content


def forge(document: object, body: bytes = b"") -> bytes:
    """A file whose hashes are right, whatever its manifest says. ``document`` is JSON text or what becomes it."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return seal(text, len(text), body)


def seal(text: bytes, manifest_length: int, body: bytes, file_length: int | None = None, version: int = 1) -> bytes:
    padded = text + bytes(-len(text) % 64) + body
    length = 128 + len(padded) if file_length is None else file_length
    start = struct.pack("<8sIIQQ", container.MAGIC, version, 0, manifest_length, length)
    sealed = start + hashlib.sha256(start + text).digest() + bytes(32)
    return sealed + hashlib.sha256(sealed).digest() + padded


def record(content: bytes, **changes: object) -> dict:
    return {
        "name": "a", "kind": "bytes", "offset": 0, "length": len(content), "sha256": hashlib.sha256(content).hexdigest()
    } | changes  # fmt: skip


# What goes in comes out


def test_round_trip_in_memory_and_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "model.graphc"
    size = write(path, MANIFEST, SECTIONS)
    data = path.read_bytes()
    assert data == pack(MANIFEST, SECTIONS) and len(data) == size
    assert same(read(data)) and same(read(path)) and same(read(str(path))) and same(read(bytearray(data)))
    assert read(path).path == str(path)


@pytest.mark.parametrize("name", container.DTYPES)
def test_every_dtype(name: str) -> None:
    dtype = np.dtype(ml_dtypes.bfloat16) if name == "bf16" else np.dtype(container.DTYPES[name])
    bits = np.random.default_rng(0).integers(0, 2 if name == "bool" else 256, 24 * dtype.itemsize, np.uint8)
    array = bits.view(dtype).reshape(2, 3, 4)  # NaNs with payloads and subnormals among them
    for content in (array, array.T, array[:, ::-2], array[:0], array[1, 2, 3]):
        file = read(pack({}, {"x": np.asarray(content)}))
        assert file.sections["x"].dtype == name
        assert same_content(file.section("x"), np.asarray(content))


def test_big_endian_arrays_are_stored_little_endian() -> None:
    array = np.arange(5, dtype=">f8")
    got = read(pack({}, {"x": array})).array("x")
    assert got.dtype == np.dtype(np.float64) and (got == array).all()


def test_arrays_are_read_only_aligned_and_not_copied(tmp_path: Path) -> None:
    write(tmp_path / "f", MANIFEST, SECTIONS)
    for source in (tmp_path / "f", pack(MANIFEST, SECTIONS), b" " + pack(MANIFEST, SECTIONS)):
        file = read(memoryview(source)[1:] if isinstance(source, bytes) and source.startswith(b" ") else source)
        weights = file.array("weights")
        assert not weights.flags.writeable and weights.ctypes.data % 64 == 0
    on_disk = read(tmp_path / "f")
    assert np.shares_memory(on_disk.array("weights"), on_disk.array("weights"))


def test_large_files_are_read_by_section(tmp_path: Path) -> None:
    sections: Sections = {
        "big": np.arange(1 << 20, dtype=np.float64),
        "small": b"x",
        "other": np.arange(1 << 19, dtype=np.int32),
    }
    write(tmp_path / "f", {}, sections)
    file = read(tmp_path / "f")
    assert same(file, {}, sections)
    assert file.array("big").ctypes.data % 64 == 0
    part = read(tmp_path / "f", sections=("small",))
    assert part.blob("small") == b"x" and list(part.sections) == list(sections)
    with pytest.raises(KeyError, match="left out"):
        part.section("big")


def test_arrays_outlive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write(path, {}, {"x": np.arange(1 << 17)})
    file = read(path)
    path.write_bytes(b"")
    assert (file.array("x") == np.arange(1 << 17)).all()


def test_sections_to_read_are_named(tmp_path: Path) -> None:
    data = pack(MANIFEST, SECTIONS)
    assert read(data, sections=()).manifest == MANIFEST
    with pytest.raises(FileFormatError, match="has no section 'plan', only code, weights"):
        read(data, sections=("plan",))
    with pytest.raises(FileFormatError, match="has no section 'plan'"):
        read(data).section("plan")
    with pytest.raises(FileFormatError, match="'code' holds bytes where array is expected"):
        read(data).array("code")
    with pytest.raises(FileFormatError, match="'step' holds array where bytes is expected"):
        read(data).blob("step")


def test_a_file_prints_as_its_contents() -> None:
    lines = str(read(pack({}, {"code": b"abc", "w": np.zeros((2, 3), np.float32)}))).splitlines()
    assert lines[0] == "graphc file <bytes>, format 1, not signed"
    assert lines[1].startswith("  code: bytes  # 3 bytes, sha256 ba7816bf8f01")
    assert lines[2].startswith("  w: f32[2, 3]  # 24 bytes, sha256 ")


def test_the_same_content_is_the_same_bytes() -> None:
    assert pack(MANIFEST, SECTIONS) == pack(dict(MANIFEST), dict(SECTIONS))


def test_a_signature_is_kept_but_not_judged() -> None:
    seen: list[bytes] = []

    def sign(digest: bytes) -> str:
        seen.append(digest)
        return "ab" * 32

    data = pack(MANIFEST, SECTIONS, sign=sign)
    file = read(data)
    assert (file.signature, [file.digest]) == ("ab" * 32, seen) and same(file)
    assert read(pack(MANIFEST, SECTIONS, sign=lambda digest: None)).signature is None
    other = read(pack(MANIFEST, SECTIONS | {"code": b"other"}))
    assert other.digest != file.digest, "the digest stands for the sections as well"


# What cannot be written


@pytest.mark.parametrize(
    "manifest, error",
    [
        ({"x": math.nan}, ValueError),
        ({"x": -math.inf}, ValueError),
        ({1: "x"}, TypeError),
        ({"a": [{None: 1}]}, TypeError),
        ({"x": {1, 2}}, TypeError),
        ({"x": np.float32(1)}, TypeError),
        ({"x": b"raw"}, TypeError),
        ({"x": "y" * container.MAX_MANIFEST_BYTES}, ValueError),
    ],
)  # fmt: skip
def test_manifests_that_json_would_change_are_refused(tmp_path: Path, manifest: dict, error: type) -> None:
    with pytest.raises(error):
        write(tmp_path / "f", manifest, {})
    assert not list(tmp_path.iterdir())


def test_the_depth_limit_is_the_same_for_writing_and_reading() -> None:
    def nested(levels: int) -> dict:
        value: dict = {}
        for _ in range(levels - 1):
            value = {"x": value} if levels % 2 else {"x": value, "]": "["}
        return value

    for levels in (container.MAX_DEPTH - 1, container.MAX_DEPTH):
        assert read(pack(nested(levels), {})).manifest == nested(levels)
    for levels in (container.MAX_DEPTH + 1, container.MAX_DEPTH + 2, 500):
        with pytest.raises(ValueError, match="levels deep"):
            pack(nested(levels), {})
        with pytest.raises(FileFormatError, match="levels deep"):
            read(forge({"manifest": nested(levels), "sections": []}))


@pytest.mark.parametrize(
    "sections",
    [
        {"x": "text"},
        {"x": np.array(["a"])},
        {"x": np.array([None])},
        {"x": np.zeros(2, [("a", "f4"), ("b", "i4")])},
        {"x": np.zeros(2, "M8[s]")},
        {"x": [1, 2]},
        {"": b""},
        {"n" * 256: b""},
        {3: b""},
    ],
)  # fmt: skip
def test_sections_that_are_no_bytes_or_tensors_are_refused(tmp_path: Path, sections: dict) -> None:
    with pytest.raises((TypeError, ValueError), match="section"):
        write(tmp_path / "f", {}, sections)
    assert not list(tmp_path.iterdir())


# What is refused


@pytest.mark.parametrize(
    "data, what",
    [
        (b"", "empty"),
        (b"PK\x03\x04" + bytes(500), "not a graphc file"),
        (pickle.dumps(list(range(100))), "not a graphc file"),
        (container.MAGIC, "cut short"),
        (container.MAGIC + bytes(500), "format version 0"),
        (seal(b"{}", 2, b"", version=2), "format version 2, this graphc reads 1"),
        (pack(MANIFEST, SECTIONS)[:-64], "cut short"),
        (pack(MANIFEST, SECTIONS) + bytes(64), "appended"),
        (seal(b"{}", 1 << 62, b""), "claims a manifest of"),
        (seal(b"{}", (1 << 64) - 1, b""), "claims a manifest of"),
        (seal(b"{}", 128, b""), "claims a manifest of"),
        (seal(b"{}", 2, b"", file_length=(1 << 64) - 1), "cut short"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",
)  # fmt: skip
def test_foreign_files(tmp_path: Path, data: bytes, what: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(data)
    for source, name in ((data, "<bytes>"), (path, str(path))):
        with pytest.raises(FileFormatError, match=what) as caught:
            read(source)
        assert caught.value.path == name and str(caught.value).startswith(f"{name}: ")
        assert caught.value.remedy in str(caught.value)
        assert isinstance(pickle.loads(pickle.dumps(caught.value)), FileFormatError)


ARRAY = record(bytes(24), kind="array", dtype="f32", shape=[2, 3])


FORGED_RECORDS: list[Any] = [
    None, 1, [], {}, record(b"") | {"kind": "pickle"}, record(b"") | {"kind": []}, record(b"", more=1),
    {k: v for k, v in record(b"").items() if k != "sha256"},
    record(b"", name=3), record(b"", name=""), record(b"", name="n" * 256), record(b"", sha256=None),
    record(b"", offset=-64), record(b"", offset=64), record(b"", offset=1.0), record(b"", offset=False),
    record(b"", length=-1), record(b"", length=1), record(b"", length=64), record(b"", length=1 << 62),
    record(b"", length=True), record(b"", length="0"),
]  # fmt: skip
FORGED: list[Any] = [
    [], None, 3, "text", {}, {"manifest": {}}, {"manifest": [], "sections": []}, {"manifest": {}, "sections": {}},
    {"manifest": {}, "sections": [], "more": 1},
    b"", b"{", b"\xff\xfe", b'{"manifest":{"x":"\xff"},"sections":[]}',
    b'{"manifest":{},"manifest":{},"sections":[]}', b'{"manifest":{"x":1,"x":1},"sections":[]}',
    b'{"manifest":{"x":NaN},"sections":[]}', b'{"manifest":{"x":-Infinity},"sections":[]}',
    b'{"manifest":{"x":1e999},"sections":[]}', b'{"manifest":{"x":' + b"9" * 5000 + b'},"sections":[]}',
    b'{"manifest":{"x":' + b"[" * 100_000 + b"]" * 100_000 + b'},"sections":[]}',
    b'{"manifest":' + b'{"x":' * 100_000, b"[" * 1_000_000, b'{"manifest":{"' + b"[" * 100_000,
    b'{"manifest":{"a\\\\":' + b'["]",' * 100_000, b'{"manifest":{"a\\"":' + b'["]]]",' * 100_000,
    *({"manifest": {}, "sections": [item]} for item in FORGED_RECORDS),
    {"manifest": {}, "sections": [record(b""), record(b"")]},
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(FORGED)))
def test_forged_manifests(case: int) -> None:
    with pytest.raises(FileFormatError):
        read(forge(FORGED[case]))


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2, 4]}, {"shape": [-2, -3]}, {"shape": [2, 3.0]}, {"shape": [2, True, 3]}, {"shape": "23"},
        {"shape": [6, 1 << 63]}, {"shape": [1] * 65 + [6]}, {"shape": [[2], 3]}, {"shape": [None]}, {"shape": 6},
        {"dtype": "f64"}, {"dtype": "O"}, {"dtype": "object"}, {"dtype": ""}, {"dtype": None}, {"dtype": "<f4"},
        {"length": 1 << 62, "shape": [1 << 60]}, {"length": 0, "shape": [0, 1 << 62, 1 << 62]},
        {"length": 0, "shape": [0, 1 << 63]}, {"offset": 64}, {"offset": 1 << 70}, {"kind": "bytes"},
    ],
)  # fmt: skip
def test_forged_arrays(change: dict) -> None:
    assert read(forge({"manifest": {}, "sections": [ARRAY]}, bytes(64))).array("a").shape == (2, 3)
    with pytest.raises(FileFormatError):
        read(forge({"manifest": {}, "sections": [ARRAY | change]}, bytes(64)))


def test_hidden_bytes_are_refused() -> None:
    document = {"manifest": {}, "sections": [record(b"abc"), record(b"abc", name="b", offset=64)]}
    good = b"abc" + bytes(61)
    assert read(forge(document, good + good)).blob("b") == b"abc"
    for body in (good + good[:-1] + b"x", good[:-1] + b"x" + good, good + good + bytes(64), good):
        with pytest.raises(FileFormatError):
            read(forge(document, body))
    overlap = {"manifest": {}, "sections": [record(b"abc"), record(b"abc", name="b")]}
    with pytest.raises(FileFormatError, match="does not lie where it must"):
        read(forge(overlap, good))


def test_bytes_that_are_no_booleans_are_refused() -> None:
    content = b"\x00\x01\x02"
    document = {"manifest": {}, "sections": [record(content, kind="array", dtype="bool", shape=[3])]}
    with pytest.raises(FileFormatError, match="not booleans"):
        read(forge(document, content + bytes(61))).section("a")


def test_claimed_lengths_allocate_nothing(tmp_path: Path) -> None:
    huge = {"length": 1 << 50, "shape": [1 << 48]}
    claims = [forge({"manifest": {}, "sections": [ARRAY | huge]}, bytes(64)), seal(b"{}", 1 << 50, b"")]
    claims += [seal(b"{}", 2, b"", file_length=1 << 50), seal(b" " * 64, container.MAX_MANIFEST_BYTES, b"")]
    for data in claims:
        (tmp_path / "f").write_bytes(data)
        tracemalloc.start()
        for source in (data, tmp_path / "f"):
            with pytest.raises(FileFormatError):
                read(source)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 18


@posix_only
def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(FileFormatError, match="not a regular file"):
            read(path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing")


# Thousands of damaged files


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 1, 2, 20))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _overwrite(data: bytearray, rng: random.Random) -> None:
    at, count = rng.randrange(len(data)), rng.randrange(1, 200)
    data[at : at + count] = rng.randbytes(min(count, len(data) - at))


def _truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def _remove(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 8, 64, 128))]


def _insert(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice((b"\0", bytes(64), rng.randbytes(64), b"}", data[at : at + 64]))


def _splice(data: bytearray, rng: random.Random) -> None:
    other = pack(MANIFEST | {"other": 1}, SECTIONS | {"code": b"other code" * 50, "more": b"x" * 300})
    at = rng.choice((rng.randrange(32, 2000), rng.randrange(64, 2000, 64)))  # both start alike
    data[at:] = other[at:]


def _lengths(data: bytearray, rng: random.Random) -> None:
    at = rng.choice((8, 12, 16, 20, 24, 28))
    value = rng.choice((0, 1, 63, 64, 127, 1 << 31, (1 << 32) - 1, rng.getrandbits(32)))
    data[at : at + 4] = value.to_bytes(4, "little")


def _digits(data: bytearray, rng: random.Random) -> None:
    places = [i for i in range(128, min(len(data), 1500)) if chr(data[i]).isdigit()]
    data[rng.choice(places)] = ord(rng.choice("0123456789-.e"))


MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [
    _flip, _overwrite, _truncate, _remove, _insert, _splice, _lengths, _digits,
]  # fmt: skip


@pytest.mark.parametrize("mutate", MUTATIONS)
def test_damaged_files_are_errors_or_unharmed(mutate: Callable, tmp_path: Path) -> None:
    rng = random.Random(mutate.__name__)
    data = pack(MANIFEST, SECTIONS, sign=lambda digest: "5c" * 32)
    for round in range(1000):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 3))):
            if damaged:
                mutate(damaged, rng)
        source: bytes | Path = bytes(damaged)
        if round % 10 == 0:
            (tmp_path / "f").write_bytes(damaged)
            source = tmp_path / "f"
        try:
            unharmed = same(read(source))
        except FileFormatError:
            continue
        assert unharmed and bytes(damaged) == data, "there is one way only to write a content"


def test_every_prefix_and_every_byte() -> None:
    data = pack({"a": 1}, {"x": b"abc", "y": np.arange(3, dtype=np.int16)})
    for end in range(len(data)):
        with pytest.raises(FileFormatError):
            read(data[:end])
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x41
        with pytest.raises(FileFormatError):
            read(damaged).verify()


def test_forged_numbers_never_lead_outside() -> None:
    """Right hashes around wrong numbers: whatever is accepted lies inside the file."""
    rng = random.Random(3)
    table = json.loads(pack({}, SECTIONS)[128:].split(b"\0")[0])["sections"]
    body = b"".join(bytes(-(-entry["length"] // 64) * 64) for entry in table)
    values: tuple[Any, ...] = (
        -64,
        -1,
        0,
        1,
        3,
        64,
        128,
        1 << 31,
        1 << 32,
        1 << 63,
        1 << 64,
        1 << 200,
        0.5,
        "64",
        None,
        [],
        True,
    )
    for _ in range(2000):
        forged = json.loads(json.dumps(table))
        for _ in range(rng.choice((1, 2, 3))):
            entry = rng.choice(forged)
            key = rng.choice([key for key in entry if key not in ("name", "sha256")])
            if key == "shape" and isinstance(entry["shape"], list) and entry["shape"] and rng.random() < 0.8:
                entry["shape"][rng.randrange(len(entry["shape"]))] = rng.choice(values)
            else:
                entry[key] = rng.choice((*values, *container.DTYPES, "array", "bytes"))
        try:
            file = read(forge({"manifest": {}, "sections": forged}, body))
        except FileFormatError:
            continue
        assert all(0 <= s.offset <= s.offset + s.length <= len(body) for s in file.sections.values())


# Writing is all or nothing


KILL = """
import os
from faults import kill_everywhere
from graphc.storage import read, write

path = os.environ["TARGET"]

def save(version):
    write(path, {"v": version}, {"code": bytes([version]) * 1000, "more": bytes([version]) * 70})

for versions in ({1, 2}, {None, 2}):  # over an old file, and where there is none
    save(1) if 1 in versions else os.unlink(path)
    seen = set()
    for kills in kill_everywhere(lambda: save(2)):
        version = None
        if os.path.exists(path):
            file = read(path)
            version = file.manifest["v"]
            assert file.blob("code") == bytes([version]) * 1000 and file.blob("more") == bytes([version]) * 70
        seen.add(version)
    assert seen == versions and version == 2
    print(kills)
"""


@posix_only
def test_a_process_killed_at_any_write_leaves_a_whole_file(tmp_path: Path) -> None:
    kills = run_script(KILL, TARGET=str(tmp_path / "f")).split()
    assert len(kills) == 2 and min(map(int, kills)) >= 12


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write(path, {"v": 1}, {"code": b"1" * 1000})
    failures = 0
    for n in range(100):

        def full(count: int, name: str, n: int = n) -> None:
            if count == n and name in ("open", "write", "fsync", "replace"):
                raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(files, "os", FaultyOS(full))
            try:
                write(path, {"v": 2}, {"code": b"2" * 1000})
            except OSError as error:
                failures += 1
                assert error.errno == errno.ENOSPC
        assert os.listdir(tmp_path) == ["f"]
        read(path).verify()
    assert failures >= 8 and read(path).manifest == {"v": 2}


def test_readers_see_whole_files_while_they_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write(path, {"v": 0}, {"code": bytes(5000)})
    done = threading.Event()

    def replace() -> None:
        for v in range(1, 100):
            write(path, {"v": v}, {"code": bytes([v]) * (5000 + v)}, durable=False)
        done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    while not done.is_set():
        file = read(path)
        assert file.blob("code") == bytes([file.manifest["v"]]) * (5000 + file.manifest["v"])
    writer.join()


@posix_only
def test_permissions_and_links_are_kept(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    write(target, {}, {})
    os.chmod(target, 0o640)
    link.symlink_to(target)
    write(link, {"v": 2}, {})
    assert link.is_symlink() and read(target).manifest == {"v": 2}
    assert target.stat().st_mode & 0o777 == 0o640
    write(tmp_path / "private", {}, {}, mode=0o600)
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600


def test_what_killed_writers_left_is_removed_a_day_later(tmp_path: Path) -> None:
    stale, fresh = tmp_path / ".graphc-0123.tmp", tmp_path / ".graphc-4567.tmp"
    for path in (stale, fresh, tmp_path / "other.tmp"):
        path.write_bytes(b"part")
    os.utime(stale, (0, 0))
    os.utime(tmp_path / "other.tmp", (0, 0))
    write(tmp_path / "f", {}, {})
    assert {p.name for p in tmp_path.iterdir()} == {"f", fresh.name, "other.tmp"}
