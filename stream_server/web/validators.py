"""Entity tags, and the check of If-None-Match (RFC 9110, sections 8.8.3 and 13.1.2)."""

import re
from collections.abc import Sequence
from typing import Final

from starlette.requests import Request

__all__ = ["MAX_TAG", "if_none_match", "is_among", "opaque"]

MAX_TAG: Final = 200  # characters of a tag in a body or query

# An empty member or an entity tag, followed by a comma or the end. A tag may contain commas, but no
# blanks and no quotes; a backslash escapes nothing.
MEMBER: Final = re.compile(r'[ \t]*(?:(?:W/)?"([!#-~\x80-\xff]*)"[ \t]*)?(?:,|\Z)')
# Compressing proxies add a suffix to our tags: Apache -gzip or -br, Jetty --gzip, others ;gzip or
# :gzip.
SUFFIX: Final = re.compile(r"(?:[-;:+_.]{1,2}(?:x-)?(?:gzip|br|brotli|zstd|deflate|df)){1,3}\Z")


def if_none_match(request: Request) -> str | None:
    """Returns the field If-None-Match, its lines joined (section 5.3); None without it."""
    field: bytes | None = None
    for name, value in request.scope["headers"]:
        if name == b"if-none-match":
            field = value if field is None else b"%b, %b" % (field, value)
    return None if field is None else field.decode("latin-1")


def is_among(etag: str, field: str | None) -> bool:
    """Whether an If-None-Match names this tag, by weak comparison, or is `*`. A field that breaks
    the grammar names no tag: then the client gets a whole answer, which is never wrong."""
    if field is None:
        return False
    if field == etag:  # nearly always
        return True
    return field.strip(" \t") == "*" or opaque(etag) in _members(field)


def opaque(tag: str) -> str:
    """Returns the identifying part of a tag: without `W/`, quotes and the suffix of a proxy."""
    inner = tag.removeprefix("W/").strip('"')
    return SUFFIX.sub("", inner)


def _members(field: str) -> Sequence[str]:
    members, place = [], 0
    while place < len(field):
        match = MEMBER.match(field, place)
        if match is None:
            return ()
        if match[1] is not None:
            members.append(SUFFIX.sub("", match[1]))
        place = match.end()
    return members
