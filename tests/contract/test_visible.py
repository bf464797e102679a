"""What comes from a charter moves no cursor and hides nothing on a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from federation import make_federation
from hypothesis import given
from hypothesis import strategies as st

from hansa.contract.charter import Charter
from hansa.contract.errors import InputError
from hansa.contract.typed import parse_document
from hansa.contract.visible import look_alike, quoted, spelt, visible


@given(st.text())
def test_no_character_is_left_that_nobody_sees(text: str) -> None:
    for said in (visible(text), quoted(text), spelt(text)):
        assert not {unicodedata.category(it) for it in said} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert spelt(text).isascii()


@given(st.text(), st.text())
def test_two_texts_in_quotation_marks_are_never_one(one: str, other: str) -> None:
    assert (quoted(one) == quoted(other)) == (one == other)
    assert (spelt(one) == spelt(other)) == (one == other)


def test_it_says_what_stands_there() -> None:
    assert visible("Kontor\x1b[23;24r\nBank") == "Kontor\\x1b[23;24r\\nBank"
    assert visible("\u202eknab\u200b") == "\\u202eknab\\u200b"
    assert visible("Bürgerbank") == "Bürgerbank"
    assert quoted("Bank \\n 'of'") == r"'Bank \\n \'of\''"


def test_letters_of_another_script_look_alike() -> None:
    assert look_alike("Kontor", "K\u043entor")
    assert look_alike("B\u00fcrger", "Bu\u0308rger")
    assert not look_alike("Kontor", "Speicher")


@pytest.mark.parametrize("letter", ["\x1b", "\n", "\x9b", "\x7f", "\u202e", "\u2028"])
@pytest.mark.parametrize(
    "place",
    [("members", 0, "title"), ("members", 0, "sector"), ("members", 0, "controller"), ("task", "title")],
)
def test_a_charter_with_such_a_letter_is_none(letter: str, place: tuple[str | int, ...]) -> None:
    document = make_federation(3).charter.model_dump(mode="json")
    inner = document
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = f"Kontor{letter}Bank"
    with pytest.raises(InputError, match="must be one line, without control") as refused:
        parse_document(document, Charter, "charter.toml")
    assert letter not in str(refused.value)


def test_a_field_that_is_not_known_is_named_visibly() -> None:
    document = make_federation(3).charter.model_dump(mode="json") | {"\x1b[8m": 1}
    with pytest.raises(InputError, match="is not known here") as refused:
        parse_document(document, Charter, "charter.toml")
    assert "'\\x1b[8m'" in str(refused.value)
