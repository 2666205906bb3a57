"""What an id looks like: whether two can be told apart by eye, and what of one cannot be seen.

After Unicode Technical Standard 39, section 4: each id has a skeleton, and ids with the same one
look the same, whatever they are made of: é or e and an accent, В of Cyrillic or B, a space or one
that does not break. Unlike there, ASCII characters look like nothing but themselves: shops do have
a size I and a size 1.
"""

import json
import unicodedata
from functools import cache, lru_cache
from importlib import resources
from typing import Final

__all__ = ["find_invisible", "is_plain", "skeleton"]

# Letters of an alphabet that its readers tell apart, though UTS 39 has them look alike.
OWN: Final = frozenset("ı")
# What Unicode draws as nothing, or as a space, without calling it a format character or a space.
BLANK: Final = frozenset(
    map(
        chr,
        (
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F),
            *(0x2800, 0x3164, 0xFFA0),
            *range(0xFE00, 0xFE10),
            *range(0xE0100, 0xE01F0),
        ),
    )
)
# Kinds of compatibility decomposition of which the shape stays: not of ², ½ or ①, for example.
SAME_SHAPE: Final = ("<wide>", "<narrow>", "<font>", "<noBreak>", "<compat>")


def is_plain(text: str) -> bool:
    """Whether it is its own skeleton, as nearly every id is."""
    return text.isascii() and "  " not in text


def skeleton(text: str) -> str:
    """What it looks like: the same for texts that the eye cannot tell apart."""
    if not text.isascii():
        seen = "".join(map(_look, unicodedata.normalize("NFD", text)))
        text = unicodedata.normalize("NFD", seen)
    return " ".join(text.split())  # a page shows several spaces as one


def find_invisible(text: str) -> str | None:
    """The first character that shows nothing, or not the same everywhere: a control or format
    character, one of private use, one that Unicode has not assigned, a separator of lines. As in
    `U+200B ZERO WIDTH SPACE`."""
    for character in text:
        if _is_invisible(character):
            name = unicodedata.name(character, "")
            return f"U+{ord(character):04X} {name}".strip()
    return None


def _is_invisible(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "C" or category in ("Zl", "Zp") or character in BLANK


@lru_cache(maxsize=4096)
def _look(character: str) -> str:
    if character.isascii() or character in OWN:
        return character
    if _is_invisible(character):
        return ""
    if unicodedata.category(character) == "Zs":
        return " "
    if unicodedata.decomposition(character).startswith(SAME_SHAPE):
        seen = unicodedata.normalize("NFKD", character)
    else:
        seen = unicodedata.normalize("NFD", _confusables().get(character, character))
    return seen if seen == character else "".join(map(_look, seen))


@cache
def _confusables() -> dict[str, str]:
    """What each character outside of ASCII looks like, by Unicode's confusables.txt. Read once it
    is needed: few shops have such ids, and it takes a tenth of a second."""
    file = resources.files("confusable_homoglyphs").joinpath("confusables.json")
    # Of each character those that it is listed with: the one that it is mapped to, or, of one that
    # others are mapped to, all of these.
    listed: dict[str, list[str]] = {
        key.strip("\u200e"): [other["c"].strip("\u200e") for other in others]
        for key, others in json.loads(file.read_text(encoding="utf-8")).items()
    }
    return {
        character: _choose(character, others[0], listed[others[0]])
        for character, others in listed.items()
        if len(character) == 1 and not character.isascii() and len(others) == 1
    }


def _choose(character: str, target: str, alike: list[str]) -> str:
    """What stands for `character`, which looks like `target` and all that is `alike` to it: an
    ASCII character of its own kind if there is one, so that the Cyrillic І is I and not l."""
    if target == character or len(alike) == 1:
        # One of two, either way. What Unicode makes of simpler characters is made of these.
        return min(character, target, key=lambda each: (unicodedata.decomposition(each[0]), each))
    own = [each for each in (target, *alike) if len(each) == 1 and each.isascii()]
    kind = unicodedata.category(character)
    return next((each for each in own if unicodedata.category(each) == kind), (own or [target])[0])
