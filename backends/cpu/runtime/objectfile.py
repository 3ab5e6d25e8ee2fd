"""Reading object files: which symbols an object defines and needs, and whether it is whole.

LLVM trusts what it links: an unresolved symbol ends in a call to address 0, a damaged table in a write to anywhere or
an abort of the process. So everything that the linker will follow is checked here first. ELF is what LLVM's JIT uses on
Linux and Windows and is read in full; of Mach-O and COFF objects the header and the symbol table are.
"""

from __future__ import annotations

import platform
import struct
from collections.abc import Callable
from dataclasses import dataclass


class CodeError(Exception):
    """Machine code that cannot be loaded: damaged, for another machine, or in need of symbols that nobody provides."""


@dataclass(frozen=True)
class Symbols:
    """The global symbols of an object: those it alone may define, those others may define too, those it needs."""

    defined: tuple[str, ...]
    weak: tuple[str, ...]
    undefined: tuple[str, ...]


def read_symbols(data: bytes) -> Symbols:
    """Checks an object file and returns its symbols.

    Raises:
        CodeError: it is damaged, not an object file, or one for another machine.
    """
    reader = _READERS.get(bytes(data[:4]), _coff)
    try:
        return reader(data)
    except (struct.error, UnicodeDecodeError) as error:
        raise CodeError(f"the object file is damaged: {error}") from None


def without_unwind_tables(data: bytes) -> bytes:
    """The object file, checked by `read_symbols` before, with the sections for unwinding the stack marked as unused.

    Kernels raise nothing that would unwind through them, and to register the tables costs time and trusts every byte.
    """
    if data[:4] != b"\x7fELF":
        return data
    patched = bytearray(data)
    table, entry, count, names = _elf_section_table(data)
    headers = [_ELF_SECTION.unpack_from(data, table + entry * index) for index in range(count)]
    strings = data[headers[names][4] : headers[names][4] + headers[names][5]]
    unused = {index for index, header in enumerate(headers) if _string(strings, header[0]) == ".eh_frame"}
    for index, (_, kind, *_, info, _, _) in enumerate(headers):
        if index in unused or kind == _RELA and info in unused:
            struct.pack_into("<IQ", patched, table + entry * index + 4, 0, 0)  # no type, no flags
    return bytes(patched)


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise CodeError(f"the object file is damaged: {problem}")


def _machine() -> str:
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


def _require_machine(name: str | None) -> None:
    if name != _machine():
        raise CodeError(f"the object file is for {name or 'an unknown machine'}, and this is {_machine()}")


def _string(table: bytes, at: int) -> str:
    end = table.find(b"\0", at)
    _require(0 <= at < len(table) and end >= 0, "a name lies outside the string table")
    return table[at:end].decode()


# ELF, as in the System V ABI. Sizes in bytes.
_ELF_HEADER = struct.Struct("<4sBBBB8xHHIQQQIHHHHHH")
_ELF_SECTION = struct.Struct("<IIQQQQIIQQ")
_ELF_SYMBOL = struct.Struct("<IBBHQQ")
_ELF_RELOCATION = struct.Struct("<QQq")
_ELF_MACHINES = {62: "x86_64", 183: "aarch64"}
_SYMTAB, _STRTAB, _RELA, _NOBITS, _REL = 2, 3, 4, 8, 9
_LOADED = {1, 7, 8, 14, 15, 16, 0x70000001}
"""Section types whose bytes are loaded: program data, notes, zeros, initialiser arrays, unwind tables."""
_ALLOC = 2
_FLAGS = 0x1 | _ALLOC | 0x4 | 0x10 | 0x20 | 0x40 | 0x80 | 0x200 | 0x200000 | 0x10000000 | 0x80000000
"""Section flags that may occur. Not among them: thread-local and compressed sections."""
_LOCAL, _GLOBAL, _WEAK = 0, 1, 2
_SECTION, _FILE = 3, 4
_TARGET_TYPES = {0, 1, 2, _SECTION}
"""Symbol types that a relocation may refer to: untyped, object, function, section."""
_ABSOLUTE, _COMMON = 0xFFF1, 0xFFF2
_MAX_ZEROS = 1 << 30
_MAX_ALIGNMENT = 1 << 12
_MAX_ADDEND = 1 << 24
_RELOCATIONS = {
    # Type to the bytes that it writes: those which LLVM's JIT linker knows and which cannot overflow silently.
    "x86_64": {1: 8, 2: 4, 4: 4, 9: 4, 24: 8, 25: 8, 26: 4, 27: 8, 29: 8, 41: 4, 42: 4},
    "aarch64": {
        257: 8,
        260: 8,
        261: 4,
        **{kind: 4 for kind in (*range(263, 270), *range(274, 281), 282, 283, 284, 285, 286, 299, 311, 312)},
    },
}
_ANYWHERE = {4, 9, 41, 42, 282, 283, 311, 312, *range(263, 270)}
"""Relocations of 4 bytes whose target may lie anywhere: through a stub or a table entry, or a part of an address."""


@dataclass(frozen=True)
class _Section:
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry: int

    def entries(self, data: bytes, layout: struct.Struct) -> list[tuple[int, ...]]:
        _require(self.entry == layout.size and self.size % layout.size == 0, "a table has entries of a wrong size")
        return list(layout.iter_unpack(data[self.offset : self.offset + self.size]))


def _elf(data: bytes) -> Symbols:
    sections = _elf_sections(data)
    tables = [section for section in sections if section.kind == _SYMTAB]
    _require(len(tables) == 1, f"it has {len(tables)} symbol tables")
    symbols = tables[0].entries(data, _ELF_SYMBOL)
    _require(len(symbols) >= 1, "its symbol table is empty")
    for section in sections:
        _require(section.kind != _REL, "it has relocations without addends")
        if section.kind == _RELA:
            _check_relocations(data, section, sections, symbols)
    return _elf_symbols(data, tables[0], symbols, sections)


def _elf_section_table(data: bytes) -> tuple[int, int, int, int]:
    """Where the section headers are, how large one is, how many there are, and which one has their names."""
    (magic, width, order, version, _, kind, machine, _, _, _, table, _, _, _, _, entry, count, names) = (
        _ELF_HEADER.unpack_from(data)
    )
    _require((magic, width, order, version) == (b"\x7fELF", 2, 1, 1), "its header is not that of 64-bit ELF")
    _require_machine(_ELF_MACHINES.get(machine))
    _require(kind == 1, "it is not a relocatable object")
    _require(entry == _ELF_SECTION.size and 0 < count < 0xFF00 and names < count, "its section table is not one")
    _require(table + entry * count <= len(data), "its section table lies outside the file")
    return table, entry, count, names


def _elf_sections(data: bytes) -> list[_Section]:
    table, entry, count, names = _elf_section_table(data)
    sections = []
    for fields in _ELF_SECTION.iter_unpack(data[table : table + entry * count]):
        _, kind, flags, _, offset, size, link, info, alignment, entry_size = fields
        sections.append(_Section(kind, flags, offset, size, link, info, alignment, entry_size))
    for section in sections:
        _check_section(data, section, count)
    _require(sections[names].kind == _STRTAB, "its section names are no string table")
    strings = sections[names]
    for name, *_ in _ELF_SECTION.iter_unpack(data[table : table + entry * count]):
        _string(data[strings.offset : strings.offset + strings.size], name)
    return sections


def _check_section(data: bytes, section: _Section, count: int) -> None:
    if section.kind == 0:
        return
    if section.kind == _NOBITS:
        _require(section.size <= _MAX_ZEROS, "a section of zeros is too large")
    else:
        _require(section.offset + section.size <= len(data), "a section lies outside the file")
    _require(section.flags & ~_FLAGS == 0, f"a section has the flags {section.flags:#x}")
    if section.kind == _STRTAB:
        _require(section.size > 0 and data[section.offset + section.size - 1] == 0, "a string table has no end")
    _require(section.link < count, "a section refers to one that is not there")
    _require(
        section.alignment <= _MAX_ALIGNMENT and section.alignment & (section.alignment - 1) == 0,
        f"a section is aligned to {section.alignment} bytes",
    )
    _require(not section.flags & _ALLOC or section.kind in _LOADED, f"a section has the type {section.kind:#x}")


def _check_relocations(data: bytes, table: _Section, sections: list[_Section], symbols: list[tuple[int, ...]]) -> None:
    _require(table.info < len(sections) and sections[table.link].kind == _SYMTAB, "relocations belong to no section")
    target = sections[table.info]
    widths = _RELOCATIONS.get(_machine(), {})
    for offset, info, addend in table.entries(data, _ELF_RELOCATION):
        kind, symbol = info & 0xFFFFFFFF, info >> 32
        width = widths.get(kind)
        if width is None:
            raise CodeError(f"the object file has relocations of type {kind}, which cannot be linked")
        _require(offset + width <= target.size and target.kind != _NOBITS, "a relocation lies outside its section")
        _require(0 < symbol < len(symbols), "a relocation names no symbol")
        _, binding_and_type, _, section, _, _ = symbols[symbol]
        _require(
            binding_and_type & 15 in _TARGET_TYPES and section != _ABSOLUTE,
            "a relocation refers to a symbol of an unknown type",
        )
        near = width < 8 and kind not in _ANYWHERE
        _require(not near or section != 0, "a short relocation refers to a function elsewhere")
        _require(width == 8 or abs(addend) <= _MAX_ADDEND, "a relocation reaches too far")


def _elf_symbols(data: bytes, table: _Section, symbols: list[tuple[int, ...]], sections: list[_Section]) -> Symbols:
    _require(sections[table.link].kind == _STRTAB, "its symbol names are no string table")
    strings = sections[table.link]
    names = data[strings.offset : strings.offset + strings.size]
    defined: list[str] = []
    weak: list[str] = []
    undefined: list[str] = []
    for name, info, _, section, value, size in symbols[1:]:
        binding, kind = info >> 4, info & 15
        _require(
            binding in (_LOCAL, _GLOBAL, _WEAK) and kind in {*_TARGET_TYPES, _FILE}, "a symbol has an unknown type"
        )
        text = _string(names, name)
        if section == 0:
            _require(binding != _LOCAL and kind != _SECTION, "a local symbol has no section")
            undefined.append(text)
            continue
        _require(kind != _SECTION or section < len(sections), "a section symbol has no section")
        if section == _COMMON:
            _require(
                size <= _MAX_ZEROS and 0 < value <= _MAX_ALIGNMENT and value & (value - 1) == 0,
                "a common symbol has a wrong size or alignment",
            )
        elif section != _ABSOLUTE:
            _require(
                section < len(sections) and value + size <= sections[section].size, "a symbol lies outside its section"
            )
        if binding != _LOCAL:
            (weak if binding == _WEAK or section == _COMMON else defined).append(text)
    return Symbols(tuple(defined), tuple(weak), tuple(undefined))


# Mach-O: mach-o/loader.h and mach-o/nlist.h.
_MACHO_HEADER = struct.Struct("<IIIIIIII")
_MACHO_SYMTAB_COMMAND = struct.Struct("<IIIIII")
_MACHO_SYMBOL = struct.Struct("<IBBHQ")
_MACHO_MACHINES = {0x01000007: "x86_64", 0x0100000C: "aarch64"}
_LC_SYMTAB = 2
_N_STAB, _N_TYPE, _N_EXT = 0xE0, 0x0E, 0x01


def _macho(data: bytes) -> Symbols:
    _, machine, _, kind, commands, _, _, _ = _MACHO_HEADER.unpack_from(data)
    _require_machine(_MACHO_MACHINES.get(machine))
    _require(kind == 1, "it is not a relocatable object")
    at = _MACHO_HEADER.size
    for _ in range(commands):
        command, size = struct.unpack_from("<II", data, at)
        _require(size >= 8 and at + size <= len(data), "a load command lies outside the file")
        if command == _LC_SYMTAB:
            return _macho_symbols(data, *_MACHO_SYMTAB_COMMAND.unpack_from(data, at)[2:])
        at += size
    raise CodeError("the object file is damaged: it has no symbol table")


def _macho_symbols(data: bytes, table: int, count: int, strings: int, strings_size: int) -> Symbols:
    _require(
        table + count * _MACHO_SYMBOL.size <= len(data) and strings + strings_size <= len(data),
        "its symbol table lies outside the file",
    )
    names = data[strings : strings + strings_size]
    defined: list[str] = []
    undefined: list[str] = []
    for name, kind, _, _, value in _MACHO_SYMBOL.iter_unpack(data[table : table + count * _MACHO_SYMBOL.size]):
        if kind & _N_STAB or not kind & _N_EXT:
            continue
        needed = kind & _N_TYPE == 0 and value == 0
        (undefined if needed else defined).append(_string(names, name).removeprefix("_"))
    return Symbols(tuple(defined), (), tuple(undefined))


# COFF: the PE format specification.
_COFF_HEADER = struct.Struct("<HHIIIHH")
_COFF_SYMBOL = struct.Struct("<8sIhHBB")
_COFF_MACHINES = {0x8664: "x86_64", 0xAA64: "aarch64"}
_COFF_EXTERNAL = 2


def _coff(data: bytes) -> Symbols:
    machine, _, _, table, count, _, _ = _COFF_HEADER.unpack_from(data)
    if machine not in _COFF_MACHINES:
        raise CodeError("this is not an object file")
    _require_machine(_COFF_MACHINES[machine])
    end = table + count * _COFF_SYMBOL.size
    _require(end + 4 <= len(data), "its symbol table lies outside the file")
    names = data[end:]
    defined: list[str] = []
    undefined: list[str] = []
    auxiliary = 0
    for raw, value, section, _, storage, following in _COFF_SYMBOL.iter_unpack(data[table:end]):
        if auxiliary:
            auxiliary -= 1
            continue
        auxiliary = following
        if storage != _COFF_EXTERNAL:
            continue
        short, offset = struct.unpack("<II", raw)
        name = _string(names, offset) if short == 0 else raw.rstrip(b"\0").decode()
        (undefined if section == 0 and value == 0 else defined).append(name)
    return Symbols(tuple(defined), (), tuple(undefined))


_READERS: dict[bytes, Callable[[bytes], Symbols]] = {b"\x7fELF": _elf, b"\xcf\xfa\xed\xfe": _macho}
