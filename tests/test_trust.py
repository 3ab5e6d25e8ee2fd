"""Whose machine code may run: the keyed hash and the key behind it."""

from __future__ import annotations

import errno
import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import FaultyOS, run_script

from graphc.storage import TrustWarning, files, pack, read, sign, trust, trusts, verify

posix_only = pytest.mark.skipif(os.name == "nt", reason="uses fork and POSIX permissions")


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user with an empty configuration folder. Warnings fail a test that does not expect them."""
    for name in ("XDG_CONFIG_HOME", "HOME", "APPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    files.warn_once.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrustWarning)
        yield tmp_path


def key_file() -> Path:
    path = trust.key_path()
    assert path is not None
    return Path(path)


def test_what_this_user_signed_is_known_again() -> None:
    signature = sign(b"payload")
    assert signature is not None and len(signature) == 64 and signature == sign(b"payload")
    assert verify(b"payload", signature)


def test_everything_else_is_not() -> None:
    signature = sign(b"payload") or ""
    for payload, claimed in (
        (b"other", signature), (b"payload", signature[:-1]), (b"payload", signature + "0"), (b"payload", ""),
        (b"payload", "é" * 64), (b"payload", signature.upper()), (b"payload", None), (b"payload", 3), (b"", signature),
    ):  # fmt: skip
        assert not verify(payload, claimed)  # type: ignore[arg-type]


def test_verifying_makes_no_key(config: Path) -> None:
    assert not verify(b"payload", "0" * 64)
    assert not list(config.iterdir())


def test_another_user_has_another_key(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signature = sign(b"payload")
    for name in ("XDG_CONFIG_HOME", "HOME", "APPDATA"):
        monkeypatch.setenv(name, str(config / "other"))
    assert not verify(b"payload", signature)
    assert sign(b"payload") not in (None, signature)


def test_a_new_key_ends_the_trust_in_old_files() -> None:
    signature = sign(b"payload")
    key_file().unlink()
    assert not verify(b"payload", signature) and sign(b"payload") != signature


def test_files() -> None:
    saved = pack({"cpu": "znver4"}, {"code": b"machine code"}, sign=sign)
    assert trusts(read(saved))
    assert not trusts(read(pack({"cpu": "znver4"}, {"code": b"machine code"})))
    signature = read(saved).signature
    for manifest, code in (({"cpu": "znver4"}, b"evil"), ({"cpu": "znver3"}, b"machine code")):
        assert not trusts(read(pack(manifest, {"code": code}, sign=lambda digest: signature)))


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname != "Linux", reason="XDG folders")
def test_the_key_lies_in_the_configuration_folder(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trust.key_path() == str(config / "graphc" / "key")
    for unset in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CONFIG_HOME", unset)
        assert trust.key_path() == str(config / ".config" / "graphc" / "key")


@posix_only
def test_only_the_user_can_read_the_key() -> None:
    sign(b"")
    assert stat.S_IMODE(key_file().stat().st_mode) == 0o600
    assert stat.S_IMODE(key_file().parent.stat().st_mode) == 0o700
    assert os.listdir(key_file().parent) == ["key"]


def refused(signature: str | None, words: str) -> None:
    """Neither signs nor verifies, and says so once."""
    files.warn_once.cache_clear()
    with pytest.warns(TrustWarning, match=words) as caught:
        assert not verify(b"payload", signature)
        assert sign(b"payload") is None
        assert sign(b"payload") is None
    assert len(caught) == 1


@posix_only
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o660, 0o666])
def test_a_key_that_others_can_touch_is_refused(mode: int) -> None:
    signature = sign(b"payload")
    key_file().chmod(mode)
    refused(signature, f"is open to other users \\(mode {mode:04o}\\).*remove it")
    key_file().chmod(0o600)
    assert verify(b"payload", signature)


@posix_only
def test_a_folder_that_others_can_write_is_refused() -> None:
    signature = sign(b"payload")
    key_file().parent.chmod(0o770)
    refused(signature, "is open to other users.*0700")
    key_file().parent.chmod(0o755)
    assert verify(b"payload", signature)


@posix_only
def test_no_key_is_made_in_a_folder_that_others_can_write() -> None:
    key_file().parent.mkdir(parents=True)
    key_file().parent.chmod(0o777)
    refused(None, "is open to other users")
    assert not key_file().exists()


@posix_only
def test_somebody_elses_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    signature = sign(b"payload")
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    refused(signature, f"belongs to user {me}, not to you")


@posix_only
def test_a_key_that_is_no_file_is_refused(config: Path) -> None:
    signature = sign(b"payload")
    key_file().rename(config / "elsewhere")
    key_file().symlink_to(config / "elsewhere")
    refused(signature, "is not a regular file")
    key_file().unlink()
    key_file().mkdir()
    refused(signature, "is not a regular file")


@pytest.mark.parametrize("content", [b"", b"00" * 31, b"00" * 33, b"xy" * 32, b"\xff" * 64, b"00" * 100_000], ids=len)
def test_a_damaged_key_is_refused(content: bytes) -> None:
    signature = sign(b"payload")
    key_file().write_bytes(content)
    refused(signature, "is damaged; remove it")


def test_without_a_place_for_a_key(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (errno.EROFS, errno.EACCES, errno.ENOSPC):

        def failing(count: int, name: str, error: int = error) -> None:
            if name in ("open", "mkdir"):
                raise OSError(error, os.strerror(error))

        with monkeypatch.context() as patched:
            patched.setattr(files, "os", FaultyOS(failing))
            with pytest.warns(TrustWarning, match=os.strerror(error)):
                assert sign(b"payload") is None
        assert not [path for path in config.rglob("*") if path.is_file()]
    monkeypatch.setattr(files, "config_folder", lambda: None)
    refused(None, "no home folder; set XDG_CONFIG_HOME")


@posix_only
def test_a_file_system_without_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(count: int, name: str) -> None:
        if name == "link":
            raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(trust, "os", FaultyOS(no_links))
    assert verify(b"payload", sign(b"payload"))
    assert os.listdir(key_file().parent) == ["key"]


RACE = """
import os
from faults import run_forked
from graphc.storage import sign, trust

def signing(i):
    def action():
        with open(os.path.join(os.environ["TARGET"], str(i)), "w") as file:
            file.write(sign(b"payload"))
    return action

for _ in range(10):
    if os.path.exists(trust.key_path()):
        os.unlink(trust.key_path())
    assert run_forked(*map(signing, range(8))) == 0
    print(len({open(os.path.join(os.environ["TARGET"], str(i))).read() for i in range(8)}))
"""


@posix_only
def test_processes_that_make_the_key_at_once_agree(tmp_path: Path) -> None:
    assert run_script(RACE, TARGET=str(tmp_path)).split() == ["1"] * 10


KILL = """
import os, shutil
from faults import kill_everywhere
from graphc.storage import sign, trust, verify

for kills in kill_everywhere(lambda: sign(b"payload")):
    signature = sign(b"payload")
    assert signature and verify(b"payload", signature)
    shutil.rmtree(os.path.dirname(trust.key_path()))
print(kills)
"""


@posix_only
def test_a_process_killed_while_it_makes_the_key_does_no_harm() -> None:
    assert int(run_script(KILL)) >= 8
