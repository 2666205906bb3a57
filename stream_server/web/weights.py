"""How much a client likes what it names in Accept or Accept-Encoding."""

import re
from typing import Final

__all__ = ["weights"]

_WORD: Final = r"[!#$%&'*+.^_`|~0-9a-z-]+"
_NAME: Final = re.compile(rf"{_WORD}(/{_WORD})?", re.ASCII)
_WEIGHT: Final = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.ASCII)


def weights(field: str) -> dict[str, float]:
    """The names in lower case, each with its weight (RFC 9110, section 12.4.2); of a name that
    comes twice the first counts. A member that breaks the grammar is passed over. Parameters of
    media types are, too: only theirs may have other than `q`."""
    found: dict[str, float] = {}
    for member in field.lower().split(","):
        name, *parameters = [part.strip(" \t") for part in member.split(";")]
        match = _NAME.fullmatch(name)
        given = [each for each in parameters if match is None or not match[1] or each[:2] == "q="]
        weight = _WEIGHT.fullmatch(given[0] if given else "q=1")
        if match and weight and len(given) <= 1:
            found.setdefault(name, float(weight[1]))
    return found
