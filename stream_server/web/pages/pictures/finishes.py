"""The finishes of surfaces, found by the words of their names."""

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

from stream_server.web.pages.pictures.drawing import Finish

__all__ = [
    "BIRCH",
    "FINISHES",
    "INK",
    "PALE",
    "RUBBER",
    "SPINES",
    "STEEL",
    "TINTS",
    "finish_of",
    "number",
]

BIRCH: Final = Finish("#e2bf8b", "grain")
PALE: Final = Finish("#e9ddca", "plain")
STEEL: Final = Finish("#9aa3aa")
INK: Final = Finish("#33363b")
RUBBER: Final = Finish("#3c3d40")

# A word in the name of a finish decides its look.
FINISHES: Final[Mapping[str, Finish]] = {
    "birch": BIRCH,
    "beech": Finish("#d9a06b", "grain"),
    "oak": Finish("#b98550", "grain"),
    "walnut": Finish("#7a5236", "grain"),
    "cane": Finish("#d8b478", "cane", "#a97b3d"),
    "steel": INK,
    "terrazzo": Finish("#eee9e0", "terrazzo"),
    "cardboard": Finish("#c79a63", "ribs"),
    "veneer": Finish("#b07c48", "grain"),
    "felt": Finish("#8d9094", "felt"),
    "cork": Finish("#c89660", "cork", "#a87540"),
    "linoleum": Finish("#6f7b5b"),
    "mirror": Finish("#b9d3de", "mirror"),
    "nero": Finish("#3a3938"),
    "olive": Finish("#7d8056"),
    "powder": Finish("#d8b3a6"),
    "grey": Finish("#8d9094", "felt"),
    "rust": Finish("#b1562f", "felt"),
    "pine": Finish("#4d6b55", "felt"),
    "black": INK,
    "white": Finish("#f1ede4"),
    "green": Finish("#7d8f63"),
    "ochre": Finish("#d69b33"),
    "blue": Finish("#48708f"),
    "red": Finish("#b2473a"),
    "yellow": Finish("#e0bd4a"),
    "pink": Finish("#d99a9a"),
    "orange": Finish("#d37a3a"),
}
TINTS: Final = ("#b1562f", "#48708f", "#7d8f63", "#d69b33", "#8a6d8f", "#5f7f78", "#a9685f")
SPINES: Final = ("#a6452e", "#3f6378", "#d3a13c", "#66784f", "#ece4d4", "#3a3a3c", "#7c5573")


def finish_of(words: str, otherwise: Finish) -> Finish:
    """Returns the finish of the last known word; a colour if there are only unknown words."""
    for word in reversed(re.findall(r"[a-z]+", words.lower())):
        if word in FINISHES:
            return FINISHES[word]
    return Finish(TINTS[number(words) % len(TINTS)]) if words else otherwise


def number(text: str) -> int:
    """Returns a number for any text, always the same for the same text."""
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=4).digest())
