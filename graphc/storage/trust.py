"""Which files may bring machine code: those that this user saved.

A signature is HMAC-SHA256 with a random key that lies in the user's configuration folder and never leaves it. A file
from elsewhere, or altered, has no valid signature; its machine code is then not run, and the step is rebuilt from the
portable program in the file. The signature protects against code from strangers, not against somebody who can read
the user's own files.

>>> file = container.read(container.pack({}, {"code": b"..."}))
>>> trusts(file)
False
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
import secrets
import stat

from graphc.storage import container, files

KEY_BYTES = 32


class TrustWarning(UserWarning):
    """The user's key cannot be used or made; what is saved is then not trusted later. Says why and what to do."""


def key_path() -> str | None:
    """Where the key of this user lies; None where the user has no home.

    ``$XDG_CONFIG_HOME/graphc/key`` (``~/.config`` where unset) on Linux, below ``~/Library/Application Support`` on
    macOS and ``%APPDATA%`` on Windows.
    """
    folder = files.config_folder()
    return folder and os.path.join(folder, "key")


def sign(payload: bytes) -> str | None:
    """The signature of ``payload`` as 64 hex digits; the first call of a user makes the key.

    None where there is no key that only this user can read and none can be made, with one TrustWarning that says why.
    """
    try:
        key = _key(create=True)
    except (_NoKey, OSError) as error:
        _warn(error)
        return None
    return _mac(key, payload)


def verify(payload: bytes, signature: str | None) -> bool:
    """Whether this user signed ``payload``, in constant time. Makes no key and raises nothing."""
    if not isinstance(signature, str):
        return False
    try:
        key = _key(create=False)
    except FileNotFoundError:
        return False
    except (_NoKey, OSError) as error:
        _warn(error)
        return False
    return hmac.compare_digest(_mac(key, payload).encode(), signature.encode("ascii", "replace"))


def trusts(file: container.File) -> bool:
    """Whether this user saved ``file`` with ``sign=trust.sign``: then its machine code may run.

    It speaks for the file as it was written. A section that was altered since then raises when it is read.
    """
    return verify(file.digest, file.signature)


def _mac(key: bytes, payload: bytes) -> str:
    return hmac.digest(key, payload, hashlib.sha256).hex()


class _NoKey(Exception):
    """There is something at the key's place that must not be used as one, or there is no such place."""


def _key(*, create: bool) -> bytes:
    """The key of this user. Raises _NoKey, or OSError: FileNotFoundError where there is none and none is to be made."""
    path = key_path()
    if path is None:
        raise _NoKey("the user has no home folder; set XDG_CONFIG_HOME")
    try:
        return _checked(path)
    except FileNotFoundError:
        if not create:
            raise
    _create(path)
    return _checked(path)


def _checked(path: str) -> bytes:
    folder = os.path.dirname(path)
    if found := files.problem(os.stat(folder)):
        raise _NoKey(f"{folder} {found}; make it yours with mode 0700")
    status = os.stat(path, follow_symlinks=False)
    found = files.problem(status, secret=True) if stat.S_ISREG(status.st_mode) else "is not a regular file"
    key = None if found else _read(path, status.st_ino, status.st_mtime_ns, status.st_size)
    if key is None:
        raise _NoKey(f"{path} {found or 'is damaged'}; remove it and the next save makes a new one")
    return key


@functools.lru_cache(maxsize=4)
def _read(path: str, inode: int, modified: int, size: int) -> bytes | None:
    """The content of the key's file, kept for as long as the file stays the same; None where it is no key."""
    try:
        with open(path, encoding="ascii") as file:
            key = bytes.fromhex(file.read(4 * KEY_BYTES))
    except ValueError:
        return None
    return key if len(key) == KEY_BYTES else None


def _create(path: str) -> None:
    """Make a key. Of several processes that do so at once, one wins and all use its key; nobody sees a part of it."""
    folder = os.path.dirname(path)
    files.make_private_folder(folder)
    text = secrets.token_hex(KEY_BYTES) + "\n"
    temporary, _ = files.write_temporary(folder, [text.encode()], mode=0o600)
    try:
        # A hard link, unlike a rename, fails where the name exists.
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:
        # A file system without hard links: the last of several wins, and what the others sign meanwhile is not trusted.
        os.replace(temporary, path)
    files.remove(temporary)
    files.sync_folder(folder)


def _warn(error: _NoKey | OSError) -> None:
    remedy = "; XDG_CONFIG_HOME can name another folder" if isinstance(error, OSError) else ""
    files.warn_once(
        TrustWarning, f"machine code that is saved now is compiled again when it is loaded: {error}{remedy}"
    )
