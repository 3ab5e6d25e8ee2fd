"""The disk cache: compiled code, found again by everything that it was compiled from.

Two kinds of entry share one folder: an ``executable`` (traced graph -> whole executable, which skips passes and
Numba) and a ``kernel`` (source -> object code). An entry is one signed :mod:`container <graphc.storage.container>`
file named by its key; there is no index, so nothing can disagree with the files. Any number of processes use the
folder at once: an entry appears whole, by a rename, and the only thing that ever happens to it later is that it is
replaced or removed.

>>> import tempfile
>>> cache = Cache(tempfile.mkdtemp())
>>> key = fingerprint(source="def kernel(): ...", numba_version="0.68.1", cpu="znver4")
>>> cache.put("kernel", key, {"symbol": "kernel"}, {"object": b"..."})
True
>>> file = cache.get("kernel", key)
>>> file.manifest["symbol"], file.blob("object")
('kernel', b'...')
>>> cache.explain("kernel", fingerprint(source="def kernel(): ...", numba_version="0.69.0", cpu="znver4"))
'kernel: numba version 0.68.1 -> 0.69.0'
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import os
import re
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc import config
from graphc.storage import container, files, trust

KINDS = ("executable", "kernel")
MAX_ENTRIES = 1 << 16
MAX_EXPLAINED = 1000

# The folder is measured once per 1/32 of the limit that is written, and at least once per 1024 entries.
_SCANS_PER_LIMIT, _ENTRIES_PER_SCAN = 32, 1024
_ENTRY_NAME = re.compile(rf"[0-9a-f]{{64}}\.({'|'.join(KINDS)})\.v\d+")
_LONGEST_SHOWN = 80
_HASHED = "sha256 "
_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# Compiled code of graphc. It may be deleted at any time.\n"


class CacheWarning(UserWarning):
    """The disk cache cannot be used; everything works without it, and compiles anew in each process. Says why."""


@dataclass(frozen=True)
class Fingerprint:
    """What an entry is found by. Made by :func:`fingerprint`.

    ``key`` is the SHA-256 of all fields with their types and exact bits, as hex; ``fields`` shows them to people: short
    values as ``repr``, long ones by length and hash.
    """

    key: str
    fields: Mapping[str, str]


def fingerprint(**fields: Any) -> Fingerprint:
    """The fingerprint of everything that code generation reads: text, options, versions, CPU features.

    Values are None, bool, int, float, str, bytes, and lists, tuples and dicts of these; lists and tuples are the same,
    ``1``, ``1.0`` and ``True`` are not, nor are ``0.0`` and ``-0.0``. Raises TypeError for anything else.

    >>> fingerprint(cpu="znver4", fast=True).fields
    {'cpu': "'znver4'", 'fast': 'True'}
    >>> fingerprint(x=0.0).key == fingerprint(x=-0.0).key
    False
    """
    names = sorted(fields)
    encoded = {name: _encode(name, fields[name]) for name in names}
    key = hashlib.sha256(_encode("fields", encoded)).hexdigest()
    return Fingerprint(key, {name: _shown(fields[name], encoded[name]) for name in names})


class Cache:
    """A folder of compiled code with a size limit.

    ``dir`` is the folder; None takes ``GRAPHC_CACHE_DIR``, or ``graphc`` in the user's cache folder; ``"off"`` or
    ``""`` turns the cache off. ``limit_bytes`` is its size, None takes ``GRAPHC_CACHE_SIZE``; what was used longest ago
    is removed first. The folder is made with mode 0700 when first needed. One that belongs to somebody else or that
    others can write is not used, and a disk that is full or read-only is not written to again: each gives one
    CacheWarning, and ``get`` and ``put`` go on as if nothing were stored.

    ``cache.dir`` is the absolute path, ``""`` where the cache is off. A Cache holds no lock and no open file: use it
    from any thread, and after ``fork``.
    """

    def __init__(self, dir: str | os.PathLike[str] | None = None, limit_bytes: int | None = None) -> None:
        self.dir = _chosen_folder(dir)
        self.limit_bytes = config.get(config.CACHE_SIZE) if limit_bytes is None else limit_bytes
        self._writable = True
        self._invalid: dict[str, str] = {}  # path → what was wrong with the entry when it was last read

    def __repr__(self) -> str:
        return f"Cache({self.dir or 'off'!r}, limit_bytes={self.limit_bytes})"

    def get(self, kind: str, key: Fingerprint) -> container.File | None:
        """The entry, whole and as this user wrote it, or None. A damaged entry is removed."""
        return self.get_many(kind, (key,))[0]

    def get_many(self, kind: str, keys: Iterable[Fingerprint]) -> list[container.File | None]:
        """The entries of several keys in their order, None for each that is not there."""
        keys = tuple(keys)
        _require_kind(kind)
        if self._refused():
            return [None] * len(keys)
        return [self._load(kind, key) for key in keys]

    def put(
        self, kind: str, key: Fingerprint, manifest: Mapping[str, Any], sections: Mapping[str, bytes | np.ndarray]
    ) -> bool:
        """Store an entry, in place of one that is there, and tell whether that was possible.

        ``manifest`` and ``sections`` are those of :func:`container.write`; the manifest's name ``cache`` is taken: it
        holds kind, key and fields. An entry larger than the limit is not stored.
        """
        _require_kind(kind)
        if "cache" in manifest:
            raise ValueError("the name 'cache' in the manifest of a cache entry is the cache's own")
        size = sum(c.nbytes if isinstance(c, np.ndarray) else len(c) for c in sections.values())
        if not self._writable or size > self.limit_bytes or self._refused():
            return False
        if trust.sign(b"") is None:  # which has said why
            return False
        entry = {**manifest, "cache": {"kind": kind, "key": key.key, "fields": dict(key.fields)}}
        path = self._path(kind, key)
        try:
            size = self._store(path, entry, sections)
        except OSError as error:
            if os.name == "nt" and os.path.exists(path):  # Windows replaces no file that somebody reads at that moment
                return False
            self._writable = False
            _warn(f"{self.dir} cannot be written ({error.strerror})")
            return False
        self._invalid.pop(path, None)
        self._keep_limit(key, size)
        return True

    def explain(self, kind: str, key: Fingerprint) -> str:
        """Why ``key`` is not stored: the fields in which it differs from the nearest entry (of the newest 1000).

        The nearest entry is one with the same program and source where there is one, so that an upgrade shows as an
        upgrade. Told as what they are: an entry that was damaged or not this user's when it was read, and a cache near
        its limit, from which entries are removed.
        """
        return f"{kind}: {self.explain_many(kind, (key,))[0]}"

    def explain_many(self, kind: str, keys: Iterable[Fingerprint], brief: bool = False) -> list[str]:
        """The same for several keys, without the kind. ``brief``: of long fields (sources) it is said that they are new."""
        keys = tuple(keys)
        _require_kind(kind)
        if not self.dir:
            return ["the cache is off"] * len(keys)
        if problem := self._problem():
            return [problem] * len(keys)
        stored = [_Record(fields) for fields in self._records(kind)]
        found = [self._why(kind, key, stored, brief) for key in keys]
        used = sum(size for _, size, _ in self._entries())
        if used < self.limit_bytes - self.limit_bytes // 8:
            return found
        full = f" (or removed: {used:,} bytes are stored, the limit is {self.limit_bytes:,})"
        return [why if why in ("stored", *self._invalid.values()) else why + full for why in found]

    def _why(self, kind: str, key: Fingerprint, stored: Sequence[_Record], brief: bool) -> str:
        path = self._path(kind, key)
        if path in self._invalid:
            return self._invalid[path]
        if os.path.exists(path):
            return "stored"
        if not stored:
            return f"nothing is stored in {self.dir}"
        wanted = _Record(key.fields)
        old = min(stored, key=wanted.distance).fields
        changes = []
        for name in _differing(old, key.fields):
            new = key.fields.get(name, "")
            if brief and new.startswith(_HASHED):
                changes.append(f"new {name.replace('_', ' ')}")
            else:
                changes.append(
                    f"{name.replace('_', ' ')} {_unquoted(old.get(name))} -> {_unquoted(key.fields.get(name))}"
                )
        return "; ".join(changes) or "the stored entry was not valid"

    # The folder

    def _path(self, kind: str, key: Fingerprint) -> str:
        return os.path.join(self.dir, f"{key.key}.{kind}.v{container.VERSION}")

    def _problem(self) -> str | None:
        """Why the folder must not be used; None where it may be, or is not there yet."""
        try:
            status = os.stat(self.dir)
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"{self.dir} cannot be used ({error.strerror})"
        found = files.problem(status) if stat.S_ISDIR(status.st_mode) else "is not a folder"
        return found and f"{self.dir} {found}"

    def _refused(self) -> bool:
        if not self.dir:
            return True
        problem = self._problem()
        if problem:
            _warn(problem)
        return problem is not None

    def _load(self, kind: str, key: Fingerprint) -> container.File | None:
        path = self._path(kind, key)
        try:
            file = container.read(path)
            file.verify()
        except FileNotFoundError:
            return None
        except container.FileFormatError as error:
            files.remove(path)
            self._invalid[path] = f"the entry was damaged ({error.what})"
            return None
        except OSError as error:
            _warn(f"{path} cannot be read ({error.strerror})")
            self._invalid[path] = f"the entry cannot be read ({error.strerror})"
            return None
        # A whole file of ours may still have got the wrong name, or have been signed with a key that is gone.
        label = file.manifest.get("cache")
        if not isinstance(label, dict) or (label.get("kind"), label.get("key")) != (kind, key.key):
            files.remove(path)
            self._invalid[path] = "the entry had the name of another one"
            return None
        if not trust.trusts(file):
            self._invalid[path] = "the entry was not signed with this user's key"
            return None
        self._invalid.pop(path, None)
        with contextlib.suppress(OSError):
            os.utime(path)
        return file

    def _store(self, path: str, manifest: Mapping[str, Any], sections: Mapping[str, bytes | np.ndarray]) -> int:
        # Not durable: an entry that a power cut damages has a wrong hash, and waiting for the disk costs more than
        # compiling a kernel.
        def write() -> int:
            return container.write(path, manifest, sections, sign=trust.sign, mode=0o600, durable=False)

        try:
            return write()
        except FileNotFoundError:  # no folder yet, or somebody has just deleted it
            folder = os.path.dirname(path)
            if files.make_private_folder(folder):
                files.write_atomically(os.path.join(folder, "CACHEDIR.TAG"), [_TAG], mode=0o600, durable=False)
            return write()

    # The limit

    def _keep_limit(self, key: Fingerprint, size: int) -> None:
        """Measure the folder now and then: keys are evenly distributed numbers, so they are the dice."""
        share = max(size * _SCANS_PER_LIMIT / max(self.limit_bytes, 1), 1 / _ENTRIES_PER_SCAN)
        if int(key.key[:8], 16) < share * 2**32:
            self._evict()

    def _evict(self) -> None:
        """Remove what was used longest ago until the folder is 1/16 below its limit.

        What another process removes meanwhile counts as removed, so several at once do not remove more than one would.
        """
        files.remove_stale(self.dir)
        entries = sorted(self._entries())
        total, count = sum(size for _, size, _ in entries), len(entries)
        if total <= self.limit_bytes and count <= MAX_ENTRIES:
            return
        for _, size, path in entries:
            if total <= self.limit_bytes - self.limit_bytes // 16 and count <= MAX_ENTRIES - MAX_ENTRIES // 16:
                return
            files.remove(path)
            total, count = total - size, count - 1

    def _entries(self, kinds: Sequence[str] = KINDS) -> Iterator[tuple[int, int, str]]:
        """(time of last use in ns, size, path) of each entry. Files with other names are not ours."""
        with contextlib.suppress(OSError), os.scandir(self.dir) as found:
            for entry in found:
                name = _ENTRY_NAME.fullmatch(entry.name)
                if name and name[1] in kinds:
                    with contextlib.suppress(OSError):
                        status = entry.stat(follow_symlinks=False)
                        yield status.st_mtime_ns, status.st_size, entry.path

    def _records(self, kind: str) -> Iterator[dict[str, str]]:
        """The fields of the newest entries, newest first."""
        for _, _, path in heapq.nlargest(MAX_EXPLAINED, self._entries((kind,))):
            with contextlib.suppress(OSError, container.FileFormatError):
                label = container.read(path, sections=()).manifest.get("cache")
                fields = label.get("fields") if isinstance(label, dict) else None
                if isinstance(fields, dict) and all(isinstance(shown, str) for shown in fields.values()):
                    yield fields


def _chosen_folder(dir: str | os.PathLike[str] | None) -> str:
    chosen = config.get(config.CACHE_DIR) if dir is None else os.fspath(dir)
    if chosen is None:
        return files.cache_folder() or ""
    return "" if chosen in ("", "off") else os.path.abspath(os.path.expanduser(chosen))


def _require_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of cache entry; the kinds are {', '.join(KINDS)}")


def _warn(what: str) -> None:
    files.warn_once(CacheWarning, f"graphc works without its disk cache: {what}; GRAPHC_CACHE_DIR names another folder")


# Fingerprints


def _encode(name: str, value: Any) -> bytes:
    """Bytes that differ wherever values, types or structure do."""
    match value:
        case None | bool():
            return repr(value).encode()
        case int():
            return b"i%d;" % value
        case float():
            return b"f" + struct.pack("<d", value)
        case str():
            text = value.encode(errors="surrogatepass")
            return b"s%d;" % len(text) + text
        case bytes():
            return b"b%d;" % len(value) + value
        case list() | tuple():
            return b"l%d;" % len(value) + b"".join(_encode(name, item) for item in value)
        case dict():
            pairs = sorted((_encode(name, key), _encode(name, item)) for key, item in value.items())
            return b"d%d;" % len(pairs) + b"".join(key + item for key, item in pairs)
    raise TypeError(f"field {name!r} of a fingerprint holds {type(value).__name__}, which has no fixed bytes")


def _shown(value: Any, encoded: bytes) -> str:
    if len(encoded) <= _LONGEST_SHOWN and b"\n" not in encoded:
        return _text(value)
    return f"{_HASHED}{hashlib.sha256(encoded).hexdigest()[:16]} of {len(encoded):,} bytes"


def _text(value: Any) -> str:
    """Like ``repr``, and the same for what :func:`_encode` does not tell apart."""
    match value:
        case list() | tuple():
            return f"[{', '.join(map(_text, value))}]"
        case dict():
            return f"{{{', '.join(sorted(f'{_text(key)}: {_text(item)}' for key, item in value.items()))}}}"
    return repr(value)


def _unquoted(shown: str | None) -> str:
    if shown is None:
        return "(none)"
    return shown[1:-1] if shown.startswith(("'", '"')) else shown


def _differing(old: Mapping[str, str], new: Mapping[str, str]) -> Sequence[str]:
    return [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]


class _Record:
    """The fields of an entry, and how far they are from others: programs and sources (long fields) count before all."""

    __slots__ = ("fields", "items", "long")

    def __init__(self, fields: Mapping[str, str]) -> None:
        self.fields = fields
        self.items = frozenset(fields.items())
        self.long = frozenset(item for item in self.items if item[1].startswith(_HASHED))

    def distance(self, other: _Record) -> tuple[int, int]:
        return len(self.long ^ other.long), len(self.items ^ other.items)
