"""The disk cache: right or absent, whatever happens to its folder."""

from __future__ import annotations

import errno
import itertools
import os
import random
import re
import shutil
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from faults import MODULES, FaultyOS, run_script

from graphc.storage import Cache, CacheWarning, Fingerprint, TrustWarning, container, files, fingerprint, write

posix_only = pytest.mark.skipif(os.name == "nt", reason="uses fork and POSIX permissions")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user with an empty home. Warnings fail a test that does not expect them."""
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "HOME", "APPDATA", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("GRAPHC_CACHE_DIR", "GRAPHC_CACHE_SIZE"):
        monkeypatch.delenv(name, raising=False)
    files.warn_once.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error", CacheWarning)
        warnings.simplefilter("error", TrustWarning)
        yield tmp_path / "home"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def key(number: int = 0, **fields: object) -> Fingerprint:
    return fingerprint(**{"source": f"def kernel():\n    return {number}", "numba_version": "0.68.1"} | fields)


def put(cache: Cache, number: int = 0, size: int = 100, kind: str = "kernel") -> bool:
    return cache.put(kind, key(number), {"number": number}, {"code": bytes([number % 256]) * size})


def number(cache: Cache, number: int = 0, kind: str = "kernel") -> int | None:
    """What is stored under the key of ``number``: itself, or None."""
    file = cache.get(kind, key(number))
    if file is None:
        return None
    code = file.blob("code")
    assert code == bytes([number % 256]) * len(code)
    return file.manifest["number"]


def entries(cache: Cache) -> list[Path]:
    return sorted(path for path in Path(cache.dir).iterdir() if path.name != "CACHEDIR.TAG")


# Storing and finding


def test_an_entry_comes_back(cache: Cache) -> None:
    sections: dict[str, bytes | np.ndarray] = {
        "code": b"machine code",
        "table": np.arange(6, dtype=np.int64).reshape(2, 3),
    }
    assert cache.get("kernel", key()) is None
    assert cache.put("kernel", key(), {"symbol": "k0"}, sections)
    file = Cache(cache.dir).get("kernel", key())
    assert file is not None and file.manifest["symbol"] == "k0"
    assert file.blob("code") == b"machine code" and (file.array("table") == sections["table"]).all()


def test_kinds_and_keys_are_kept_apart(cache: Cache) -> None:
    put(cache, 1)
    assert number(cache, 1) == 1
    assert number(cache, 2) is None and number(cache, 1, "executable") is None
    put(cache, 2, kind="executable")
    assert number(cache, 2) is None and number(cache, 2, "executable") == 2


def test_a_new_entry_replaces_the_old(cache: Cache) -> None:
    cache.put("kernel", key(), {"v": 1}, {})
    cache.put("kernel", key(), {"v": 2}, {})
    file = cache.get("kernel", key())
    assert file is not None and file.manifest["v"] == 2 and len(entries(cache)) == 1


def test_many_at_once(cache: Cache) -> None:
    for i in range(0, 30, 2):
        put(cache, i)
    found = cache.get_many("kernel", [key(i) for i in range(30)])
    assert [file and file.manifest["number"] for file in found] == [None if i % 2 else i for i in range(30)]


def test_misuse_is_an_error(cache: Cache) -> None:
    with pytest.raises(ValueError, match="'kernels' is no kind of cache entry; the kinds are executable, kernel"):
        cache.get("kernels", key())
    with pytest.raises(ValueError, match="the name 'cache'"):
        cache.put("kernel", key(), {"cache": 1}, {})
    with pytest.raises(TypeError, match="section"):
        cache.put("kernel", key(), {}, {"x": np.array([None])})


def test_files_are_signed_and_private(cache: Cache) -> None:
    put(cache)
    (entry,) = entries(cache)
    assert container.read(entry).signature is not None
    if os.name != "nt":
        assert stat.S_IMODE(os.stat(cache.dir).st_mode) == 0o700
        assert stat.S_IMODE(entry.stat().st_mode) == 0o600


# Where it is


def test_the_folder_is_chosen_by_argument_then_environment_then_user(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Cache().dir == files.cache_folder() and Path(Cache().dir).is_relative_to(home)
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "environment"))
    assert Cache().dir == str(tmp_path / "environment")
    assert Cache(tmp_path / "argument").dir == str(tmp_path / "argument")
    monkeypatch.chdir(tmp_path)
    assert Cache("relative").dir == str(tmp_path / "relative")
    monkeypatch.setenv("GRAPHC_CACHE_SIZE", "3M")
    assert Cache().limit_bytes == 3 << 20 and Cache(limit_bytes=5).limit_bytes == 5


def test_it_can_be_turned_off(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    off = [Cache("off"), Cache("")]
    for value in ("off", ""):
        monkeypatch.setenv("GRAPHC_CACHE_DIR", value)
        off.append(Cache())
    for cache in off:
        assert not put(cache) and number(cache) is None and cache.get_many("kernel", [key()] * 3) == [None] * 3
        assert cache.explain("kernel", key()) == "kernel: the cache is off"
        assert repr(cache).startswith("Cache('off'")
    assert not home.exists()


def unused(cache: Cache, words: str) -> None:
    """Works as an empty cache and says why, once."""
    with pytest.warns(CacheWarning, match=words) as caught:
        for _ in range(3):
            assert not put(cache) and number(cache) is None
            assert not put(Cache(cache.dir)) and number(Cache(cache.dir)) is None
    assert len(caught) == 1


@posix_only
@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_can_write_is_refused(cache: Cache, mode: int) -> None:
    put(cache)
    os.chmod(cache.dir, mode)
    unused(cache, f"is open to other users \\(mode {mode:04o}\\)")
    assert "is open to other users" in cache.explain("kernel", key())
    os.chmod(cache.dir, 0o755)
    assert number(cache) == 0


@posix_only
def test_somebody_elses_folder_is_refused(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cache)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    unused(cache, f"belongs to user {me}, not to you")


def test_a_file_in_the_folders_place(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"")
    unused(Cache(tmp_path / "cache"), "is not a folder")


def test_a_folder_that_disappears_is_made_again(cache: Cache) -> None:
    put(cache, 1)
    shutil.rmtree(cache.dir)
    assert number(cache, 1) is None
    assert put(cache, 2) and number(cache, 2) == 2
    assert (Path(cache.dir) / "CACHEDIR.TAG").read_bytes().startswith(b"Signature: 8a477f597d28d172789f06886806bc55")


# Damage


def test_a_damaged_entry_is_removed_and_stored_again(cache: Cache) -> None:
    put(cache)
    (entry,) = entries(cache)
    good, rng = entry.read_bytes(), random.Random(0)
    places = [*range(0, len(good), 7), len(good) - 1]
    for at in places:
        for bad in (good[:at], good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :]):
            entry.write_bytes(bad)
            assert number(cache) is None
            assert not entry.exists()
    assert put(cache) and number(cache) == 0


def test_an_entry_under_a_wrong_name_is_not_taken(cache: Cache) -> None:
    put(cache, 1)
    (entry,) = entries(cache)
    wrong = Path(str(entry).replace(key(1).key, key(2).key))
    entry.rename(wrong)
    assert number(cache, 2) is None and not wrong.exists()
    put(cache, 1)
    entry.rename(str(entry).replace("kernel", "executable"))
    assert number(cache, 1, "executable") is None


def test_only_what_this_user_signed_is_taken(cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put(cache)
    (entry,) = entries(cache)
    stored = container.read(entry)
    write(entry, stored.manifest, {"code": stored.blob("code")})
    assert number(cache) is None
    assert put(cache) and number(cache) == 0
    for name in ("XDG_CONFIG_HOME", "HOME", "APPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "other"))
    assert number(cache) is None
    assert put(cache) and number(cache) == 0


def test_without_a_key_nothing_is_stored(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "config_folder", lambda: None)
    with pytest.warns(TrustWarning) as caught:
        for _ in range(3):
            assert not put(cache)
    assert len(caught) == 1 and not os.path.exists(cache.dir)


def test_an_entry_that_cannot_be_read(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cache)

    def failing(count: int, name: str) -> None:
        if name == "open":
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files, "os", FaultyOS(failing))
    with pytest.warns(CacheWarning, match="cannot be read \\(Input/output error\\)"):
        assert number(cache) is None
    monkeypatch.undo()
    assert entries(cache)


# Disks


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("cold", [True, False])
def test_a_disk_that_cannot_be_written(cache: Cache, error: int, cold: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every single call: one warning, no rubbish, and what is stored can still be read."""
    put(cache, 1)
    for failing_call in itertools.count():
        if cold:
            shutil.rmtree(cache.dir, ignore_errors=True)
        failed = faulty_put(Cache(cache.dir), failing_call, error, monkeypatch)
        assert not any(files.is_temporary(path.name) for path in Path(cache.dir).parent.rglob("*"))
        if not cold:
            assert number(Cache(cache.dir), 1) == 1
        if not failed:
            break
    assert failing_call >= 4 and number(cache, 2) == 2


def faulty_put(cache: Cache, failing_call: int, error: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Put entry 2 where the call of that number fails. Whether there was such a call."""
    calls: list[str] = []

    def fault(count: int, name: str) -> None:
        if name in ("open", "write", "mkdir", "replace", "chmod"):
            calls.append(name)
            if len(calls) > failing_call:
                raise OSError(error, os.strerror(error))

    files.warn_once.cache_clear()
    with monkeypatch.context() as patched, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for module in MODULES:
            patched.setattr(module, "os", FaultyOS(fault))
        stored = put(cache, 2)
        failed = len(calls) > failing_call
        assert stored != failed
        if failed:
            assert not put(cache, 2)
    assert len(caught) == failed
    if failed:
        assert "cannot be written" in str(caught[0].message) and os.strerror(error) in str(caught[0].message)
    return failed


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder(cache: Cache) -> None:
    put(cache, 1)
    os.chmod(cache.dir, 0o500)
    with pytest.warns(CacheWarning, match="cannot be written"):
        assert not put(cache, 2)
    assert number(cache, 1) == 1
    os.chmod(cache.dir, 0o700)


# The limit


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", limit_bytes=20_000)
    for i in range(4):
        put(cache, i, 4000)
        os.utime(entries_of(cache, i), (1000 + i, 1000 + i))
    assert number(cache, 0) == 0, "a read counts as use"
    put(cache, 4, 4000)
    assert [number(cache, i) for i in range(5)] == [0, None, 2, 3, 4]


def entries_of(cache: Cache, i: int) -> Path:
    return Path(cache.dir) / f"{key(i).key}.kernel.v1"


def test_the_folder_stays_below_the_limit(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", limit_bytes=100_000)
    rng = random.Random(0)
    for i in range(200):
        assert put(cache, i, rng.randrange(20_000))
        assert sum(path.stat().st_size for path in entries(cache)) <= 100_000 and number(cache, i) == i
    assert sum(path.stat().st_size for path in entries(cache)) > 50_000
    assert not put(cache, 1000, 100_001), "what is larger than the limit would drive out all else"
    assert len(entries(cache)) > 3


def test_measuring_is_rare_for_small_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "cache", limit_bytes=10_000_000)
    scans: list[int] = []
    monkeypatch.setattr(Cache, "_evict", lambda self: scans.append(1))
    for i in range(300):
        put(cache, i, 500)
    assert len(scans) <= 4, "1 KB of 10 MB: one put in 300 measures"


def test_the_number_of_entries_is_limited(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphc.storage.cache.MAX_ENTRIES", 32)
    for i in range(40):
        put(cache, i)
        os.utime(entries_of(cache, i), (1000 + i, 1000 + i))
    cache._evict()
    assert [number(cache, i) for i in range(40)] == [None] * 10 + list(range(10, 40))


def test_only_files_of_the_cache_are_ever_removed(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    foreign = ["notes.txt", "x.kernel.v1", key().key, f"{key().key}.kernel", f"{key().key}.other.v1", "a.tmp"]
    for name in (*foreign, ".graphc-0000.tmp"):
        (folder / name).write_bytes(bytes(5000))
        os.utime(folder / name, (0, 0))
    old = folder / f"{'0' * 64}.executable.v0"
    old.write_bytes(bytes(5000))
    os.utime(old, (0, 0))
    cache = Cache(folder, limit_bytes=5000)
    put(cache, 1, 3000)
    assert {path.name for path in entries(cache)} == {*foreign, entries_of(cache, 1).name}


# Fingerprints


def test_keys_differ_wherever_values_do() -> None:
    values: list[object] = [
        None, False, True, 0, 1, -1, 2**70, 0.0, -0.0, 1.0, float("nan"), float("inf"), "", "0", "1", "None", "a", "é",
        "\ud800", b"", b"a", [], [[]], ["a"], ["a", "b"], ["ab"], [b"a"], [["a"], "b"], {}, {"a": 1}, {"a": "1"},
        {"a": 1, "b": 2}, {1: "a"}, "s1;a", ["s1;a"],
    ]  # fmt: skip
    keys = [fingerprint(x=value).key for value in values]
    keys += [fingerprint(y=None).key, fingerprint().key, fingerprint(x=None, y=None).key]
    assert len(set(keys)) == len(keys)


def test_keys_are_the_same_for_the_same_values() -> None:
    assert fingerprint(a=1, b={"x": 1, "y": 2}) == fingerprint(b={"y": 2, "x": 1}, a=1)
    assert fingerprint(a=(1, 2)).key == fingerprint(a=[1, 2]).key
    # Pinned: a changed encoding empties every cache, so it should not change by accident.
    expected = "1a402054666012b9dedb40caabaeb5e044960e3533c1e6a8bcb28b2075c3abcb"
    assert fingerprint(a=[None, True, 1, 0.5, "x", b"y", {"k": ()}]).key == expected


def test_what_has_no_fixed_bytes_is_refused() -> None:
    for value in (object(), {1, 2}, np.float32(1), np.arange(3), [1, (2, {"x": int})], 1j):
        with pytest.raises(TypeError, match="field 'options' of a fingerprint holds"):
            fingerprint(options=value)


def test_fields_are_shown() -> None:
    fields = fingerprint(cpu="znver4", fast=True, threads=2, source="def f():\n    pass", blob=bytes(1000)).fields
    assert (fields["cpu"], fields["fast"], fields["threads"]) == ("'znver4'", "True", "2")
    assert fields["source"].startswith("sha256 ") and fields["source"].endswith(" of 21 bytes")
    assert fields["blob"].endswith(" of 1,006 bytes")


# Why not


def test_misses_are_explained(cache: Cache) -> None:
    def explained(number: int = 0, **fields: object) -> str:
        return cache.explain("kernel", key(number, **fields))

    assert explained() == f"kernel: nothing is stored in {cache.dir}"
    for i in range(5):
        cache.put("kernel", key(i, cpu="znver4"), {}, {})
    cache.put("kernel", key(9, cpu="znver4", numba_version="0.69.0"), {}, {})
    assert explained(3, cpu="znver4") == "kernel: stored"
    assert explained(3, cpu="znver5") == "kernel: cpu znver4 -> znver5"
    # Nearest is the entry with the same source, although another one has the same version and CPU.
    assert explained(3, cpu="znver4", numba_version="0.69.0") == "kernel: numba version 0.68.1 -> 0.69.0"
    changed = "kernel: cpu znver4 -> host; fast math (none) -> True; numba version 0.68.1 -> 0.70.0"
    assert explained(3, cpu="host", numba_version="0.70.0", fast_math=True) == changed
    assert explained(77, cpu="znver4").startswith("kernel: source sha256 ")
    assert cache.explain("executable", key()) == f"executable: nothing is stored in {cache.dir}"


def test_several_misses_are_explained_at_once(cache: Cache) -> None:
    put(cache, 0)
    put(cache, 1)
    path = Path(cache._path("kernel", key(1)))
    path.write_bytes(path.read_bytes()[:-1])
    keys = [key(0), key(1), key(2, text="x" * 200), key(0, numba_version="0.69.0")]
    assert [file is None for file in cache.get_many("kernel", keys)] == [False, True, True, True]
    why = cache.explain_many("kernel", keys, brief=True)
    assert why[0] == "stored" and why[1].startswith("the entry was damaged (")
    assert why[2].endswith("new text") and why[3] == "numba version 0.68.1 -> 0.69.0"
    put(cache, 1)
    assert cache.explain_many("kernel", keys[1:2]) == ["stored"]


def test_a_full_cache_is_told(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", limit_bytes=20_000)
    for number in range(9):
        put(cache, number, 2000)
    (why,) = cache.explain_many("kernel", [key(99)])
    assert re.search(r"\(or removed: [\d,]+ bytes are stored, the limit is 20,000\)$", why)


def test_explaining_reads_past_damaged_entries(cache: Cache) -> None:
    put(cache, 1)
    for i in range(10, 20):
        entries_of(cache, i).write_bytes(os.urandom(1000))
    container.write(entries_of(cache, 20), {"cache": {"fields": {"x": 1}}}, {})
    container.write(entries_of(cache, 21), {"cache": 3}, {})
    assert cache.explain("kernel", key(1, numba_version="0.69.0")) == "kernel: numba version 0.68.1 -> 0.69.0"


# Many at once


COMMON = """
import os
from faults import kill_everywhere, run_forked
from graphc.storage import Cache, fingerprint, files

folder = os.environ["TARGET"]

def code(i):
    return bytes([i]) * (1000 + i)

def put(cache, i, kind="kernel"):
    return cache.put(kind, fingerprint(i=i), {"i": i}, {"code": code(i)})

def get(cache, i, kind="kernel"):
    file = cache.get(kind, fingerprint(i=i))
    assert file is None or (file.manifest["i"], file.blob("code")) == (i, code(i))
    return file is not None
"""

EIGHT = (
    COMMON
    + """
def use(start, limit=None):
    def action():
        cache = Cache(folder, limit)
        for i in range(start, start + 40):
            if not get(cache, i % 40):
                assert put(cache, i % 40)
                assert limit or get(cache, i % 40)
    return action

assert run_forked(*(use(5 * n) for n in range(8))) == 0
assert all(get(Cache(folder), i) for i in range(40))
print(len([name for name in os.listdir(folder) if name.endswith("v1")]))
assert run_forked(*(use(5 * n, 15_000) for n in range(8))) == 0  # all evict at once
put(Cache(folder, 15_000), 40)
assert sum(entry.stat().st_size for entry in os.scandir(folder) if entry.name.endswith("v1")) <= 15_000
print(len([name for name in os.listdir(folder) if files.is_temporary(name)]))
"""
)


@posix_only
def test_eight_processes_on_one_cold_cache(tmp_path: Path) -> None:
    assert run_script(EIGHT, TARGET=str(tmp_path / "cache")).split() == ["40", "0"]


KILL = (
    COMMON
    + """
import shutil
put(Cache(folder), 9)  # makes the key
for cold in (True, False):
    if cold:
        shutil.rmtree(folder)
    for kills in kill_everywhere(lambda: (put(Cache(folder, 3500), 1), get(Cache(folder), 1))):
        get(Cache(folder), 1)
        assert put(Cache(folder), 1) and get(Cache(folder), 1)
        assert cold or get(Cache(folder), 0)
        os.unlink(Cache(folder)._path("kernel", fingerprint(i=1)))
        shutil.rmtree(folder) if cold else put(Cache(folder), 0)
    print(kills)
    put(Cache(folder), 0)
"""
)


@posix_only
def test_a_process_killed_at_any_write_does_no_harm(tmp_path: Path) -> None:
    kills = run_script(KILL, TARGET=str(tmp_path / "cache")).split()
    assert len(kills) == 2 and min(map(int, kills)) >= 8


FORK = (
    COMMON
    + """
cache = Cache(folder)
put(cache, 1)

def child():
    assert get(cache, 1) and put(cache, 2) and get(cache, 2)

assert run_forked(child, child) == 0
assert get(cache, 2) and put(cache, 3)
print("fine")
"""
)


@posix_only
def test_use_after_fork(tmp_path: Path) -> None:
    assert run_script(FORK, TARGET=str(tmp_path / "cache")) == "fine\n"


def test_threads_share_a_cache(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", limit_bytes=20_000)
    failures: list[BaseException] = []

    def work(start: int) -> None:
        try:
            for i in range(start, start + 60):
                number(cache, i % 20)
                put(cache, i % 20)
        except BaseException as error:
            failures.append(error)

    run_threads(work, 0, 7)
    assert not failures


def run_threads(work: Callable[[int], None], *starts: int) -> None:
    threads = [threading.Thread(target=work, args=(start,)) for start in starts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
