"""The file format of graphc: a JSON manifest and named sections in one file that checks itself.

A saved executable, a training step and an entry of the disk cache are all such files. Nothing in one is ever executed
or unpickled by reading it, and nothing is compressed.

>>> import numpy as np
>>> data = pack({"program": "digits"}, {"weights": np.arange(6, dtype=np.float32).reshape(2, 3), "code": b"..."})
>>> file = read(data)
>>> file.manifest
{'program': 'digits'}
>>> file.section("weights")
array([[0., 1., 2.],
       [3., 4., 5.]], dtype=float32)
>>> file.section("code")
b'...'

Layout, all integers little-endian, every part aligned to 64 bytes and padded with zeros:

====== ===== =========================================================
offset bytes
====== ===== =========================================================
0      8     magic ``89 47 52 41 50 48 43 0A``
8      4     format version
12     4     zero
16     8     length of the manifest in bytes
24     8     length of the file in bytes
32     32    digest: SHA-256 of bytes 0..32 and the manifest
64     32    signature of the digest, or zeros
96     32    SHA-256 of bytes 0..96
128          manifest: ``{"manifest": ..., "sections": [...]}``
…            the sections, one after the other, in the manifest's order
====== ===== =========================================================

A section's record holds its name, kind (``bytes`` or ``array``), offset (from the first section), length, SHA-256,
and for an array dtype and shape. So the digest stands for the whole file, and a signature of these 32 bytes signs all
of it. Reading refuses gaps, overlaps and padding that is not zero, and follows no offset or length before it is known
to lie in the file.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import stat
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.storage import files

MAGIC = b"\x89GRAPHC\n"
VERSION = 1
ALIGNMENT = 64
MAX_MANIFEST_BYTES = 1 << 24
MAX_DEPTH = 64
MAX_NAME_LENGTH = 255

DTYPES: dict[str, str] = {
    "bool": "?", "i8": "i1", "i16": "<i2", "i32": "<i4", "i64": "<i8", "u8": "u1", "u16": "<u2", "u32": "<u4",
    "u64": "<u8", "f16": "<f2", "bf16": "bfloat16", "f32": "<f4", "f64": "<f8", "c64": "<c8", "c128": "<c16",
}  # fmt: skip
_ITEM_BYTES = {name: 2 if name == "bf16" else np.dtype(code).itemsize for name, code in DTYPES.items()}

_START = struct.Struct("<8sIIQQ")
_DIGEST = slice(32, 64)
_SIGNATURE = slice(64, 96)
_CHECKSUM = slice(96, 128)
_HEADER_BYTES = 128
_UNSIGNED = bytes(32)
# Files up to this size are read in one go; of larger ones each section gets a buffer of its own.
_SMALL_BYTES = 4 << 20

_SAVE_AGAIN = "save or copy it again"

Sign = Callable[[bytes], str | None]
Fetch = Callable[[int, int], memoryview]


class FileFormatError(ValueError):
    """A file that is not what graphc writes: foreign, cut short, altered, or of another version.

    ``path`` is the file (``<bytes>`` for data in memory), ``what`` is what is wrong with it, ``remedy`` what to do.
    """

    def __init__(self, path: str, what: str, remedy: str = _SAVE_AGAIN) -> None:
        super().__init__(f"{path}: {what}; {remedy}")
        self.path, self.what, self.remedy = path, what, remedy

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.what, self.remedy)


@dataclass(frozen=True, slots=True)
class Section:
    """One section as the manifest describes it. ``offset`` counts from the first section; bytes have no dtype."""

    name: str
    kind: str
    offset: int
    length: int
    sha256: str
    dtype: str | None = None
    shape: tuple[int, ...] = ()

    def __str__(self) -> str:
        what = "bytes" if self.dtype is None else f"{self.dtype}{list(self.shape) if self.shape else ''}"
        return f"{self.name}: {what}  # {self.length:,} bytes, sha256 {self.sha256[:12]}"


@dataclass(frozen=True, eq=False)
class File:
    """A file that was read. Prints as its table of contents.

    path       where it came from, ``<bytes>`` for data in memory.
    manifest   the writer's manifest: dicts, lists, strings, numbers, booleans, None.
    sections   name -> :class:`Section`, all of the file's, also those that were not read.
    digest     32 bytes that stand for the manifest and all sections.
    signature  what the writer's ``sign(digest)`` gave, as hex; None where the file is not signed. Reading does not
               judge it: see :func:`graphc.storage.trust.trusts`.
    """

    path: str
    manifest: dict[str, Any]
    sections: Mapping[str, Section]
    digest: bytes
    signature: str | None
    _data: Mapping[str, memoryview] = field(repr=False)
    _checked: set[str] = field(default_factory=set, repr=False)

    def section(self, name: str) -> bytes | np.ndarray:
        """The content of a section: ``bytes``, or a read-only ndarray that is aligned to 64 bytes and, where it can be,
        not copied. Its hash is checked the first time.

        Raises FileFormatError where the content is damaged or the file has no such section, and KeyError for a section
        that :func:`read` was told to leave out.
        """
        return self.array(name) if self._record(name).kind == "array" else self.blob(name)

    def array(self, name: str) -> np.ndarray:
        """Like :meth:`section`, for a section that must be an array."""
        record = self._record(name, "array")
        return _as_array(self._content(record), record, self.path)

    def blob(self, name: str) -> bytes:
        """Like :meth:`section`, for a section that must be bytes."""
        return bytes(self._content(self._record(name, "bytes")))

    def verify(self) -> None:
        """Check the hashes of all sections that were read. Raises FileFormatError."""
        for name in self._data:
            self._content(self.sections[name])

    def _record(self, name: str, kind: str | None = None) -> Section:
        record = self.sections.get(name)
        if record is None:
            raise FileFormatError(self.path, f"has no section {name!r}, only {', '.join(self.sections) or 'none'}")
        if kind not in (None, record.kind):
            raise FileFormatError(self.path, f"section {name!r} holds {record.kind} where {kind} is expected")
        return record

    def _content(self, record: Section) -> memoryview:
        if record.name not in self._data:
            raise KeyError(f"section {record.name!r} of {self.path} was left out when the file was read")
        content = self._data[record.name]
        if record.name not in self._checked:
            if hashlib.sha256(content).hexdigest() != record.sha256:
                raise FileFormatError(self.path, f"section {record.name!r} was altered (its hash does not match)")
            self._checked.add(record.name)
        return content

    def __str__(self) -> str:
        signed = "signed" if self.signature else "not signed"
        lines = [f"graphc file {self.path}, format {VERSION}, {signed}", *map(str, self.sections.values())]
        return "\n  ".join(lines)


# Writing


def write(
    path: str | os.PathLike[str],
    manifest: Mapping[str, Any],
    sections: Mapping[str, bytes | np.ndarray],
    *,
    sign: Sign | None = None,
    mode: int | None = None,
    durable: bool = True,
) -> int:
    """Write a file and return its size in bytes. ``path`` holds the old file or the new one, never a part.

    ``manifest`` is anything that JSON can hold with string keys and finite numbers (tuples come back as lists), at most
    16 MiB as text and 64 levels deep: larger things belong in sections. ``sections`` come back in their order; an array
    may have any of the 15 element types of graphc and any strides. ``sign(digest)`` returns 64 hex digits, or None to
    leave the file unsigned. ``mode`` and ``durable`` are those of :func:`graphc.storage.files.write_atomically`.

    Raises TypeError or ValueError for a manifest or section that cannot be written, before anything is touched, and
    OSError where the file system refuses.
    """
    count = files.write_atomically(path, _encode(manifest, sections, sign), mode=mode, durable=durable)
    if durable:
        files.remove_stale(os.path.dirname(os.path.realpath(path)))
    return count


def pack(manifest: Mapping[str, Any], sections: Mapping[str, bytes | np.ndarray], *, sign: Sign | None = None) -> bytes:
    """The bytes that :func:`write` would put in a file."""
    return b"".join(_encode(manifest, sections, sign))


def _encode(
    manifest: Mapping[str, Any], sections: Mapping[str, bytes | np.ndarray], sign: Sign | None
) -> list[files.Bytes]:
    records: list[dict[str, Any]] = []
    chunks: list[files.Bytes] = []
    end = 0
    for name, content in sections.items():
        record, data = _encode_section(name, content)
        records.append({"offset": end, **record})
        chunks += [data, bytes(-len(data) % ALIGNMENT)]
        end += _aligned(len(data))
    text = _encode_json({"manifest": dict(manifest), "sections": records})
    first = _HEADER_BYTES + _aligned(len(text))
    start = _START.pack(MAGIC, VERSION, 0, len(text), first + end)
    digest = hashlib.sha256(start + text).digest()
    signature = sign(digest) if sign else None
    sealed = start + digest + (bytes.fromhex(signature) if signature else _UNSIGNED)
    header = sealed + hashlib.sha256(sealed).digest()
    assert len(header) == _HEADER_BYTES, "a signature is 64 hex digits"
    return [header + text + bytes(first - _HEADER_BYTES - len(text)), *chunks]


def _encode_section(name: str, content: bytes | np.ndarray) -> tuple[dict[str, Any], files.Bytes]:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_LENGTH:
        raise ValueError(f"a section's name is a string of 1 to {MAX_NAME_LENGTH} characters, not {name!r}")
    if isinstance(content, np.ndarray):
        dtype, data = _encode_array(name, content)
        kind = {"name": name, "kind": "array", "dtype": dtype, "shape": list(content.shape)}
    elif isinstance(content, bytes | bytearray | memoryview):
        kind, data = {"name": name, "kind": "bytes"}, memoryview(content).cast("B")
    else:
        raise TypeError(f"section {name!r} is {type(content).__name__}; a section is bytes or an ndarray")
    return kind | {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}, data


def _encode_array(name: str, array: np.ndarray) -> tuple[str, memoryview]:
    code = array.dtype.name if array.dtype.kind == "V" else array.dtype.newbyteorder("<").str.lstrip("|")
    dtype = _BY_CODE.get(code)
    if dtype is None:
        raise TypeError(f"section {name!r} has dtype {array.dtype}; a file holds {', '.join(DTYPES)}")
    if dtype != "bf16":
        array = array.astype(DTYPES[dtype], copy=False)
    # Flattened first: memoryview knows neither bfloat16 nor how to cast a zero-size shape.
    return dtype, np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


_BY_CODE = {code.replace("?", "b1"): name for name, code in DTYPES.items()}


def _encode_json(document: dict[str, Any]) -> bytes:
    text = json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
    if len(text) > MAX_MANIFEST_BYTES:
        raise ValueError(f"the manifest has {len(text):,} bytes, more than {MAX_MANIFEST_BYTES:,}; use a section")
    if _too_deep(text):
        raise ValueError(f"the manifest is more than {MAX_DEPTH} levels deep; use a section")
    _require_string_keys(document)
    return text


def _require_string_keys(document: dict[str, Any]) -> None:
    """json.dumps turns other keys into strings without a word."""
    pending: list[Any] = [document]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    raise TypeError(f"a manifest's keys are strings, not {key!r}")
            pending += value.values()
        elif isinstance(value, list | tuple):
            pending += value


# Reading


def read(source: str | os.PathLike[str] | files.Bytes, sections: Iterable[str] | None = None) -> File:
    """Read a file, or the bytes of one. ``sections`` names those to read; None means all, ``()`` the manifest alone.

    The header and manifest are checked here, a section when it is first asked for (or all by :meth:`File.verify`).
    Arrays keep the memory that was read, so the file may be replaced, truncated or deleted afterwards.

    Raises FileFormatError for anything but a file as :func:`write` makes it, and OSError where it cannot be opened.
    """
    wanted = None if sections is None else tuple(sections)
    if isinstance(source, bytes | bytearray | memoryview):
        view = memoryview(source).cast("B").toreadonly()
        return _decode("<bytes>", len(view), _slicer(view), wanted)
    path = os.fspath(source)
    descriptor, status = files.open_at_once(path)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise FileFormatError(path, "is not a regular file", "give a file that graphc saved")
    with io.FileIO(descriptor) as handle:
        fetch = _reader(handle, path)
        if wanted is None and status.st_size <= _SMALL_BYTES:
            fetch = _slicer(fetch(0, status.st_size))
        return _decode(path, status.st_size, fetch, wanted)


def _slicer(view: memoryview) -> Fetch:
    """``fetch(offset, length)`` for data in memory."""
    return lambda offset, length: view[offset : offset + length]


def _reader(handle: io.FileIO, path: str) -> Fetch:
    """``fetch(offset, length)`` for a file: a buffer of its own, aligned. Callers keep to the file's true size."""

    def fetch(offset: int, length: int) -> memoryview:
        view = _aligned_buffer(length)
        handle.seek(offset)
        done = 0
        while done < length:
            count = handle.readinto(view[done:])
            if not count:
                raise FileFormatError(path, f"ended after {offset + done:,} bytes while it was read")
            done += count
        return view.toreadonly()

    return fetch


def _decode(path: str, size: int, fetch: Fetch, wanted: tuple[str, ...] | None) -> File:
    header, manifest_length = _decode_header(path, size, fetch)
    first = _HEADER_BYTES + _aligned(manifest_length)
    padded = fetch(_HEADER_BYTES, first - _HEADER_BYTES)
    text = bytes(padded[:manifest_length])
    if hashlib.sha256(header[: _START.size] + text).digest() != header[_DIGEST]:
        raise FileFormatError(path, "the manifest was altered (its hash does not match)")
    _require_zeros(path, "the manifest", padded[manifest_length:])
    document = _decode_json(path, text)
    if set(document) != {"manifest", "sections"} or not isinstance(document["manifest"], dict):
        raise FileFormatError(path, "the manifest does not have the parts that it must have")
    sections = _decode_table(path, document["sections"], size - first)
    data = {}
    for name in sections if wanted is None else wanted:
        if name not in sections:
            raise FileFormatError(path, f"has no section {name!r}, only {', '.join(sections) or 'none'}")
        length = sections[name].length
        span = fetch(first + sections[name].offset, _aligned(length))
        _require_zeros(path, f"section {name!r}", span[length:])
        data[name] = span[:length]
    signature = None if header[_SIGNATURE] == _UNSIGNED else header[_SIGNATURE].hex()
    return File(path, document["manifest"], sections, header[_DIGEST], signature, data)


def _decode_header(path: str, size: int, fetch: Fetch) -> tuple[bytes, int]:
    header = bytes(fetch(0, min(size, _HEADER_BYTES)))
    if not header.startswith(MAGIC):
        found = f"starts with {header[:8]!r}" if header else "it is empty"
        raise FileFormatError(path, f"is not a graphc file ({found})", "give a file that graphc saved")
    if size < _HEADER_BYTES:
        raise FileFormatError(path, f"is cut short: {size} bytes, less than the header")
    _, version, zero, manifest_length, length = _START.unpack_from(header)
    if version != VERSION or zero:
        remedy = "load it with the graphc that saved it, or save it again with this one"
        raise FileFormatError(path, f"has format version {version}, this graphc reads {VERSION}", remedy)
    if hashlib.sha256(header[: _CHECKSUM.start]).digest() != header[_CHECKSUM]:
        raise FileFormatError(path, "the header was altered (its hash does not match)")
    if length != size:
        what = "is cut short" if size < length else "has something appended"
        raise FileFormatError(path, f"{what}: {size:,} bytes where {length:,} were written")
    if manifest_length > MAX_MANIFEST_BYTES or _HEADER_BYTES + _aligned(manifest_length) > size:
        raise FileFormatError(path, f"claims a manifest of {manifest_length:,} bytes, more than can be")
    return header, manifest_length


def _decode_table(path: str, table: Any, room: int) -> dict[str, Section]:
    """The section records, in order and without gaps, filling exactly ``room`` bytes."""
    if not isinstance(table, list):
        raise FileFormatError(path, "the table of sections is not a list")
    sections: dict[str, Section] = {}
    end = 0
    for item in table:
        section = _decode_record(path, item)
        if section.name in sections:
            raise FileFormatError(path, f"has two sections named {section.name!r}")
        if section.offset != end or section.length > room - end:
            raise FileFormatError(path, f"section {section.name!r} does not lie where it must")
        end += _aligned(section.length)
        sections[section.name] = section
    if end != room:
        raise FileFormatError(path, f"sections take {end:,} bytes where the file has {room:,}")
    return sections


_FIELDS = {"name": str, "kind": str, "offset": int, "length": int, "sha256": str}
_FIELDS_OF_KIND = {"bytes": _FIELDS, "array": _FIELDS | {"dtype": str, "shape": list}}


def _decode_record(path: str, item: Any) -> Section:
    types = {key: type(value) for key, value in item.items()} if isinstance(item, dict) else {}
    if types not in _FIELDS_OF_KIND.values() or types != _FIELDS_OF_KIND.get(item["kind"]):
        raise FileFormatError(path, "a section's record does not have the parts that it must have")
    name, length, shape = item["name"], item["length"], tuple(item.get("shape", ()))
    if item["offset"] < 0 or length < 0 or not 0 < len(name) <= MAX_NAME_LENGTH:
        raise FileFormatError(path, f"section {name[:MAX_NAME_LENGTH]!r} has an impossible name, offset or length")
    if item["kind"] == "array" and not _array_fits(item["dtype"], shape, length):
        raise FileFormatError(path, f"section {name!r}: dtype, shape and length do not fit together")
    return Section(**(item | {"shape": shape}))


def _array_fits(dtype: str, shape: tuple[Any, ...], length: int) -> bool:
    if dtype not in DTYPES or len(shape) > 64 or any(type(n) is not int or not 0 <= n < 1 << 63 for n in shape):
        return False
    # NumPy refuses a zero-size shape whose other extents overflow, so they are bounded as well.
    if math.prod(n for n in shape if n) * _ITEM_BYTES[dtype] >= 1 << 63:
        return False
    return math.prod(shape) * _ITEM_BYTES[dtype] == length


def _as_array(content: memoryview, record: Section, path: str) -> np.ndarray:
    flat = np.frombuffer(content, np.uint8)
    if flat.__array_interface__["data"][0] % ALIGNMENT:
        aligned = _aligned_buffer(len(content))
        aligned[:] = content
        flat = np.frombuffer(aligned.toreadonly(), np.uint8)
    if record.dtype == "bool" and flat.size and flat.max() > 1:
        raise FileFormatError(path, f"section {record.name!r} holds bytes that are not booleans")
    array = flat.view(_numpy_dtype(str(record.dtype))).reshape(record.shape)
    if sys.byteorder == "big":
        array = array.astype(array.dtype.newbyteorder("="))
        array.flags.writeable = False
    return array


def _numpy_dtype(name: str) -> np.dtype:
    if name == "bf16":
        import ml_dtypes  # only here: the one element type that NumPy lacks

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(DTYPES[name])


# JSON from strangers


def _decode_json(path: str, text: bytes) -> dict[str, Any]:
    if _too_deep(text):
        raise FileFormatError(path, f"the manifest is more than {MAX_DEPTH} levels deep")
    try:
        document = json.loads(
            text.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise FileFormatError(path, f"the manifest is not the JSON that graphc writes ({error})") from None
    if not isinstance(document, dict):
        raise FileFormatError(path, "the manifest is not a JSON object")
    return document


_ONLY_STRUCTURE = bytes(set(range(256)) - set(b'"[]{}'))
_STRING = re.compile(rb'"[^"]*"?')


def _too_deep(text: bytes) -> bool:
    """Whether brackets nest more than MAX_DEPTH levels below the outermost. No recursion, so it can be asked first.

    A text that is not JSON may get either answer, but the part of it that a parser accepts is never too deep for False.
    """
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return False
    # Escaped quotes go first, so that each remaining quote begins or ends a string; then the strings go.
    quotes = text.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _ONLY_STRUCTURE)
    brackets = np.frombuffer(_STRING.sub(b"", quotes), np.uint8)
    opens = (brackets == ord("[")) | (brackets == ord("{"))
    return bool(np.cumsum(np.where(opens, 1, -1)).max(initial=0) > MAX_DEPTH + 1)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not finite")
    return value


# Bytes


def _aligned(length: int) -> int:
    """``length`` rounded up to the alignment."""
    return -(-length // ALIGNMENT) * ALIGNMENT


def _aligned_buffer(length: int) -> memoryview:
    raw = np.empty(length + ALIGNMENT, np.uint8)
    start = -raw.__array_interface__["data"][0] % ALIGNMENT
    return raw[start : start + length].data


def _require_zeros(path: str, where: str, padding: memoryview) -> None:
    if bytes(padding).strip(b"\0"):
        raise FileFormatError(path, f"something was written behind {where}")
