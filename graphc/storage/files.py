"""What container, trust and cache need of a file system: atomic writes, per-user folders, and who may touch them."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import stat
import sys
import time
import warnings
from collections.abc import Iterable

TEMPORARY_PREFIX, TEMPORARY_SUFFIX = ".graphc-", ".tmp"
STALE_AFTER_SECONDS = 24 * 3600  # a temporary file that nobody has written to for so long has lost its writer

# One write call takes at most this much: Windows refuses 2 GiB, Linux shortens it.
_CHUNK_BYTES = 1 << 28
_NOT_INHERITED_BINARY = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

Bytes = bytes | bytearray | memoryview


def write_atomically(
    path: str | os.PathLike[str], chunks: Iterable[Bytes], *, mode: int | None = None, durable: bool = True
) -> int:
    """Make ``chunks`` the content of ``path``, and return how many bytes they are.

    Whoever opens ``path`` sees the old file whole or the new one whole, also when this process is killed at any
    write. A symbolic link stays one: its target is replaced. ``mode`` holds the permission bits of the file; None
    keeps those of the old file, or takes the umask's. With ``durable`` the new file survives a power cut once this
    returns.

    Raises OSError where the file system refuses; the old file is then as it was.
    """
    target = os.path.realpath(path)
    if mode is None:
        with contextlib.suppress(FileNotFoundError):
            mode = stat.S_IMODE(os.stat(target).st_mode)
    temporary, count = write_temporary(os.path.dirname(target), chunks, mode=mode, durable=durable)
    try:
        os.replace(temporary, target)
    except BaseException:
        remove(temporary)
        raise
    if durable:
        sync_folder(os.path.dirname(target))
    return count


def write_temporary(
    folder: str, chunks: Iterable[Bytes], *, mode: int | None = None, durable: bool = True
) -> tuple[str, int]:
    """Write ``chunks`` to a new file in ``folder``; its path and size. Nothing remains of it where that fails."""
    path = os.path.join(folder, f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
    # With a mode of its own the file starts closed to others, whatever the umask says.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOT_INHERITED_BINARY
    descriptor = os.open(path, flags, 0o666 if mode is None else 0o600)
    try:
        try:
            if mode not in (None, 0o600):
                os.chmod(path, mode)
            count = sum(_write_all(descriptor, chunk) for chunk in chunks)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        remove(path)
        raise
    return path, count


def _write_all(descriptor: int, chunk: Bytes) -> int:
    view = memoryview(chunk)
    written = 0
    while written < len(view):
        written += os.write(descriptor, view[written : written + _CHUNK_BYTES])
    return written


def remove(path: str) -> None:
    """Remove a file if that is possible: somebody else may have done it, or may forbid it."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def sync_folder(folder: str) -> None:
    """Make a rename in ``folder`` survive a power cut. Windows cannot and need not."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY | _NOT_INHERITED_BINARY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_stale(folder: str) -> None:
    """Remove the temporary files that killed writers left in ``folder``."""
    oldest = time.time() - STALE_AFTER_SECONDS
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if is_temporary(entry.name):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < oldest:
                        remove(entry.path)


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that :func:`write_temporary` made."""
    return name.startswith(TEMPORARY_PREFIX) and name.endswith(TEMPORARY_SUFFIX)


def open_at_once(path: str | os.PathLike[str]) -> tuple[int, os.stat_result]:
    """A descriptor for reading and what it is. Does not wait for a writer where ``path`` is a pipe."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _NOT_INHERITED_BINARY)
    try:
        return descriptor, os.fstat(descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def config_folder() -> str | None:
    """The user's configuration folder of graphc; None where the user has no home."""
    return _user_folder("XDG_CONFIG_HOME", ".config", "Library/Application Support", "APPDATA")


def cache_folder() -> str | None:
    """The user's cache folder of graphc; None where the user has no home."""
    return _user_folder("XDG_CACHE_HOME", ".cache", "Library/Caches", "LOCALAPPDATA")


def _user_folder(xdg: str, xdg_default: str, macos: str, windows: str) -> str | None:
    if sys.platform == "win32":
        base = os.environ.get(windows, "")
    elif sys.platform == "darwin":
        base = os.path.expanduser(f"~/{macos}")
    else:
        base = os.environ.get(xdg, "")
        if not os.path.isabs(base):  # the XDG specification says to ignore relative paths
            base = os.path.expanduser(f"~/{xdg_default}")
    return os.path.join(base, "graphc") if os.path.isabs(base) else None


def make_private_folder(folder: str) -> bool:
    """Make ``folder`` with mode 0700, and its parents as the umask says. False where it is there already, as it is."""
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        return False
    return True


def problem(status: os.stat_result, *, secret: bool = False) -> str | None:
    """Why a file or folder is not this user's alone, as words after its name; None where it is.

    Others must not be able to write it and, with ``secret``, not to read it. Windows keeps this in access lists that
    the folders below a user's profile inherit; there nothing is checked.
    """
    if os.name == "nt":
        return None
    if status.st_uid != os.geteuid():
        return f"belongs to user {status.st_uid}, not to you (user {os.geteuid()})"
    if status.st_mode & (0o077 if secret else 0o022):
        return f"is open to other users (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


@functools.lru_cache(maxsize=64)
def warn_once(category: type[Warning], message: str) -> None:
    """Warn of something that would otherwise be said at every call; once per process and text."""
    warnings.warn(message, category, stacklevel=3)
