"""The catalogue of errors in graphc/docs/errors.md: its messages are those that are raised, its remedies work."""

from __future__ import annotations

import warnings

import error_catalogue
import pytest

ENTRIES = error_catalogue.entries()


def test_every_section_is_an_entry() -> None:
    assert len(ENTRIES) == error_catalogue.PATH.read_text().count("\n### ") > 40


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.title)
def test_the_bad_example_raises_this_message(entry: error_catalogue.Entry) -> None:
    with warnings.catch_warnings():
        assert error_catalogue.message_of(entry) == entry.message, "python tests/error_catalogue.py writes it anew"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.title)
def test_the_good_example_works(entry: error_catalogue.Entry) -> None:
    error_catalogue.run_good(entry)
