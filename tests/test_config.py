"""The table of environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphc import config


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in config.VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)


@pytest.mark.parametrize(
    "name, text, value",
    [
        ("GRAPHC_DEBUG", "4", 4),
        ("GRAPHC_DUMP", "/tmp/stages", Path("/tmp/stages")),
        ("GRAPHC_DISABLE", "fusion, simplify,,", ("fusion", "simplify")),
        ("GRAPHC_VERIFY", "0", False),
        ("GRAPHC_BACKEND", "reference", "reference"),
        ("GRAPHC_THREADS", "8", 8),
        ("GRAPHC_CPU", "x86-64-v3", "x86-64-v3"),
        ("GRAPHC_CACHE_DIR", "off", "off"),
        ("GRAPHC_CACHE_DIR", "", ""),
        ("GRAPHC_CACHE_SIZE", "123", 123),
        ("GRAPHC_CACHE_SIZE", "2K", 2048),
        ("GRAPHC_CACHE_SIZE", "500MB", 500 << 20),
        ("GRAPHC_CACHE_SIZE", "3 GiB", 3 << 30),
    ],
)  # fmt: skip
def test_values(name: str, text: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, text)
    assert config.get(name) == value


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = (0, None, (), True, "cpu", None, "host", None, 1 << 30)
    assert tuple(config.get(v) for v in config.VARIABLES) == defaults
    for variable in config.VARIABLES:
        monkeypatch.setenv(variable.name, "")
    assert tuple(config.get(v) for v in config.VARIABLES) == (*defaults[:-2], "", defaults[-1])


@pytest.mark.parametrize(
    "name, text",
    [
        ("GRAPHC_DEBUG", "5"), ("GRAPHC_DEBUG", "-1"), ("GRAPHC_DEBUG", "yes"), ("GRAPHC_VERIFY", "true"),
        ("GRAPHC_THREADS", "0"), ("GRAPHC_THREADS", "2.5"), ("GRAPHC_CACHE_SIZE", "-1"), ("GRAPHC_CACHE_SIZE", "1X"),
    ],
)  # fmt: skip
def test_nonsense_is_an_error_that_says_what_is_accepted(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(config.ConfigError, match=f"{name}='{text}' has no meaning: it takes "):
        config.get(name)


def test_a_name_that_is_not_in_the_table() -> None:
    with pytest.raises(KeyError):
        config.get("GRAPHC_DEBUGGING")


def test_the_table_shows_every_variable() -> None:
    lines = config.table().splitlines()
    assert len(lines) == 2 + len(config.VARIABLES)
    assert all(line.count("|") == 5 for line in lines)
    assert "| `GRAPHC_VERIFY` | 0 or 1 | `1` | " in lines[5]
    assert "| `1G` |" in lines[-1]
