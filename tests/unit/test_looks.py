"""Ids that cannot be told apart by eye, and characters that cannot be seen."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.inventory.imports.looks import find_invisible, is_plain, skeleton


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Café", "Cafe\u0301"),
        ("B", "\u0412"),  # Cyrillic
        ("I", "\u0406"),
        ("Poster", "P\u03bfster"),  # Greek
        ("\u00c1", "\u0410\u0301"),
        ("AB", "A\u200bB"),
        ("AB", "A\u00adB"),
        ("AB", "A\ufe0fB"),
        ("AB", "\u202eAB\u202c"),
        ("A B", "A\u00a0B"),
        ("A B", "A\u2003B"),
        ("A B", "A  B"),
        ("A-1", "A\u20101"),
        ("A-1", "A\u22121"),
        ("A1", "\uff21\uff11"),
        ("A1", "\U0001d400\U0001d7cf"),
        ("IV", "\u2163"),
        ("fix", "\ufb01x"),
        ("8x8", "8×8"),
        ("it's", "it’s"),
    ],
)
def test_what_looks_the_same_has_the_same_skeleton(one: str, other: str) -> None:
    assert skeleton(one) == skeleton(other)
    assert not (is_plain(one) and is_plain(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Size I", "Size 1"),
        ("Größe I", "Größe 1"),
        ("l", "I"),
        ("O", "0"),
        ("horn", "hom"),
        ("Cafe", "Café"),
        ("a", "A"),
        ("m2", "m²"),
        ("kin", "kın"),
        ("A-B", "A B"),
        ("Стол", "Стул"),
        ("机", "桌"),
    ],
)
def test_what_can_be_told_apart_has_another(one: str, other: str) -> None:
    assert skeleton(one) != skeleton(other)


def test_each_character_has_a_look_that_looks_like_itself() -> None:
    planes = (*range(0x80, 0xD800), *range(0xE000, 0x20000))

    assert [one for one in map(chr, planes) if skeleton(skeleton(one)) != skeleton(one)] == []


@given(st.text(max_size=20))
def test_a_skeleton_is_its_own_and_of_one_form_of_unicode_as_of_another(text: str) -> None:
    assert skeleton(skeleton(text)) == skeleton(text)
    for form in ("NFC", "NFD"):
        assert skeleton(unicodedata.normalize(form, text)) == skeleton(text)


@given(st.text(st.characters(max_codepoint=0x7E, min_codepoint=0x20)))
def test_what_is_plain_is_its_own_skeleton(text: str) -> None:
    if is_plain(text):
        assert skeleton(text) == text.strip()


@pytest.mark.parametrize(
    ("character", "name"),
    [
        ("\u200b", "U+200B ZERO WIDTH SPACE"),
        ("\u202e", "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("\u2028", "U+2028 LINE SEPARATOR"),
        ("\ufe0f", "U+FE0F VARIATION SELECTOR-16"),
        ("\u3164", "U+3164 HANGUL FILLER"),
        ("\ue000", "U+E000"),
        ("\u0378", "U+0378"),
        ("\x07", "U+0007"),
    ],
)
def test_what_cannot_be_seen_is_named(character: str, name: str) -> None:
    assert find_invisible(f"A{character}B") == name


def test_letters_marks_signs_and_spaces_are_seen() -> None:
    assert find_invisible("Café Ж 机 😀 8×8 №1\u00a0€") is None
