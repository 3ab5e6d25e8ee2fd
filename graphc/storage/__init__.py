"""What graphc keeps on disk: saved executables and training steps, and the cache of compiled code.

``container`` is the file format, ``trust`` decides whose machine code may run, ``cache`` keeps compiled code between
processes.
"""

from __future__ import annotations

from graphc.storage.cache import Cache, CacheWarning, Fingerprint, fingerprint
from graphc.storage.container import File, FileFormatError, Section, pack, read, write
from graphc.storage.trust import TrustWarning, sign, trusts, verify

__all__ = [
    "Cache",
    "CacheWarning",
    "File",
    "FileFormatError",
    "Fingerprint",
    "Section",
    "TrustWarning",
    "fingerprint",
    "pack",
    "read",
    "sign",
    "trusts",
    "verify",
    "write",
]
