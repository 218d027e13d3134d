"""Spellings of one name that nobody can tell apart."""

import unicodedata

import pytest

from twofold.core.errors import DataError, ParameterError
from twofold.core.names import normalize_name, spelled

SPELLINGS = [
    "gut\u200b", "\ufeffgut", "g\u00adut", "gut\u00a0", "\u2060gut", "gut\u200e", " gut ", "gut\u3000",
]  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_one_name_of_several_spellings(spelling):
    assert normalize_name(spelling) == "gut"


@pytest.mark.parametrize("name", ["Schäden", "각", "Å", "sehr gut", "a\nb", "ب\u200cب"])
def test_a_name_keeps_what_can_be_seen(name):
    assert normalize_name(unicodedata.normalize("NFD", name)) == unicodedata.normalize("NFC", name)
    assert normalize_name(name) == unicodedata.normalize("NFC", name)


def test_a_space_without_a_break_is_a_space():
    assert normalize_name("sehr\u00a0gut") == normalize_name("sehr\u2009gut") == "sehr gut"


@pytest.mark.parametrize(("name", "shown"), [("a", "'a'"), ("\u0430", "'\u0430' ('\\u0430')"), ("ä", "'ä' ('\\xe4')")])
def test_letters_that_may_look_like_others_are_spelled_out(name, shown):
    assert spelled(name) == shown


@pytest.mark.parametrize("kind", [DataError, ParameterError])
@pytest.mark.parametrize(("text", "shown"), [("a\u200bb", r"a\u200bb"), ("\ufeffc", r"\ufeffc"), ("\xadd", r"\xadd")])
def test_every_error_shows_characters_that_cannot_be_seen(kind, text, shown):
    assert str(kind(f"{text}: unknown key")) == f"{shown}: unknown key"
