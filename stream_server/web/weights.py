"""The weights in Accept and Accept-Encoding: how much a client prefers what it names."""

import re
from typing import Final

__all__ = ["weights"]

_WORD: Final = r"[!#$%&'*+.^_`|~0-9a-z-]+"
_NAME: Final = re.compile(rf"{_WORD}(/{_WORD})?", re.ASCII)
_WEIGHT: Final = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.ASCII)


def weights(field: str) -> dict[str, float]:
    """Returns the names in lower case with their weights (RFC 9110, section 12.4.2). The first
    counts if a name comes twice. Members that break the grammar are ignored. A parameter other
    than `q` is ignored after a media type, and breaks the grammar elsewhere."""
    found: dict[str, float] = {}
    for member in field.lower().split(","):
        name, *parameters = [part.strip(" \t") for part in member.split(";")]
        match = _NAME.fullmatch(name)
        given = [each for each in parameters if match is None or not match[1] or each[:2] == "q="]
        weight = _WEIGHT.fullmatch(given[0] if given else "q=1")
        if match and weight and len(given) <= 1:
            found.setdefault(name, float(weight[1]))
    return found
