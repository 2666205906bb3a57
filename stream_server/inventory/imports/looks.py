"""The appearance of ids: ids that look alike, and characters that are invisible.

It follows Unicode Technical Standard 39, section 4: each id has a skeleton, and ids with the same
skeleton look alike, although their characters differ: é, or e with a combining accent; a Cyrillic В
or a B; a space or a no-break space. Unlike in the standard, ASCII characters look only like
themselves, because shops may have a size I and a size 1.
"""

import json
import unicodedata
from functools import cache, lru_cache
from importlib import resources
from typing import Final

__all__ = ["find_invisible", "is_plain", "skeleton"]

# Letters that readers of their alphabet distinguish, although UTS 39 calls them alike.
OWN: Final = frozenset("ı")
# Characters without a glyph, or with a blank one, that Unicode calls neither format nor space.
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
# Kinds of compatibility decomposition that keep the shape. Those of ², ½ and ① do not, for example.
SAME_SHAPE: Final = ("<wide>", "<narrow>", "<font>", "<noBreak>", "<compat>")


def is_plain(text: str) -> bool:
    """Returns whether the text is its own skeleton, like nearly every id."""
    return text.isascii() and "  " not in text


def skeleton(text: str) -> str:
    """Returns the skeleton of a text: the same for texts that look alike."""
    if not text.isascii():
        seen = "".join(map(_look, unicodedata.normalize("NFD", text)))
        text = unicodedata.normalize("NFD", seen)
    return " ".join(text.split())  # pages show several spaces as one


def find_invisible(text: str) -> str | None:
    """Returns the first character that is invisible or differs between systems, such as
    `U+200B ZERO WIDTH SPACE`; None if there is none. These are control and format characters, line
    separators, characters of private use, and unassigned ones."""
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
    """Returns the prototypes of characters outside of ASCII, from Unicode's confusables.txt.

    It is read at the first use, because few shops need it and it takes a tenth of a second.
    """
    file = resources.files("confusable_homoglyphs").joinpath("confusables.json")
    # Maps a character to its prototype, or a prototype to all characters that map to it.
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
    """Returns the prototype of `character`, which looks like `target` and the characters `alike`:
    an ASCII character of its own category if there is one, so that a Cyrillic І becomes I, not l.
    """
    if target == character or len(alike) == 1:
        # A pair may be listed in either direction. Prefer the character without a decomposition.
        return min(character, target, key=lambda each: (unicodedata.decomposition(each[0]), each))
    own = [each for each in (target, *alike) if len(each) == 1 and each.isascii()]
    kind = unicodedata.category(character)
    return next((each for each in own if unicodedata.category(each) == kind), (own or [target])[0])
