"""Which content codings a client takes (RFC 9110, section 12.5.3)."""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import Request

__all__ = ["accepts_gzip", "takes_gzip"]

USUAL: Final = frozenset(
    {b"gzip", b"gzip, deflate", b"gzip, deflate, br", b"gzip, deflate, br, zstd"}
)
# token [ OWS ";" OWS "q=" qvalue ], in any case
CODING: Final = re.compile(
    r"([!#$%&'*+.^_`|~0-9a-z-]+)(?:[ \t]*;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?", re.ASCII
)


def accepts_gzip(request: Request) -> bool:
    """Whether the answer may come by gzip, and the client does not like it better without."""
    lines = [value for name, value in request.scope["headers"] if name == b"accept-encoding"]
    return bool(lines) and takes_gzip(lines[0] if len(lines) == 1 else b",".join(lines))


def takes_gzip(field: bytes) -> bool:
    """The same of an Accept-Encoding. A member that breaks the grammar is passed over: then the
    answer comes as it is, which everybody can read."""
    if field in USUAL:
        return True
    weights: dict[str, float] = {}
    for member in field.decode("latin-1").lower().split(","):
        if match := CODING.fullmatch(member.strip(" \t")):
            weights.setdefault(match[1], float(match[2] or 1))
    # x-gzip is gzip (section 8.4.1.3); * is whatever is not named.
    weight = next((weights[name] for name in ("gzip", "x-gzip", "*") if name in weights), 0.0)
    return weight > 0 and weight >= weights.get("identity", 0)
