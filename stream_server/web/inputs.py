"""Reading what clients send: each wrong field is an InvalidRequest that names it."""

import json
from collections.abc import Iterable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from stream_server.errors import InvalidRequest

MAX_BODY = 1024 * 1024  # bytes
MAX_IDS = 500
MAX_ID = 200  # characters, as the database allows


async def json_body(request: Request) -> Any:
    """The body as JSON. Raises HTTPException 413 past 1 MiB, InvalidRequest if it is no JSON."""
    body = bytearray()
    if int(request.headers.get("content-length") or 0) > MAX_BODY:
        raise HTTPException(413, f"The body is larger than {MAX_BODY} bytes")
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"The body is larger than {MAX_BODY} bytes")
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("body", f"JSON ({error})") from error


def product_ids(given: Any, field: str = "productIds") -> list[str]:
    """A list of product ids, each once, in the order given."""
    if not isinstance(given, list):
        raise InvalidRequest(field, "an array")
    if len(given) > MAX_IDS:
        raise InvalidRequest(field, f"an array of {MAX_IDS} ids at most, not {len(given)}")
    for index, each in enumerate(given):
        if not isinstance(each, str) or not 0 < len(each) <= MAX_ID:
            raise InvalidRequest(f"{field}[{index}]", f"a string of 1 to {MAX_ID} characters")
    return list(dict.fromkeys(given))


def product_ids_in_query(request: Request) -> list[str] | None:
    """`?productIds=a,b`, which may be repeated; None if it is not there at all."""
    if not request.scope["query_string"]:
        return None
    given = request.query_params.getlist("productIds")
    if not given:
        return None
    ids = [each for part in given for each in part.split(",") if each]
    if not ids:
        raise InvalidRequest("productIds", "one id at least, separated by commas")
    return product_ids(ids)


def number_in_query(
    request: Request, field: str, *, default: float, lowest: float, highest: float
) -> float:
    """A number in the query string, between two bounds."""
    if not request.scope["query_string"]:
        return default
    given = request.query_params.get(field)
    if given is None:
        return default
    try:
        number = float(given)
    except ValueError:
        number = float("nan")
    if not lowest <= number <= highest:
        raise InvalidRequest(field, f"a number from {lowest:g} to {highest:g}")
    return number


def header(request: Request, name: bytes) -> str | None:
    """A header by its name in lower case, without building the mapping of all of them."""
    for each, value in request.scope["headers"]:
        if each == name:
            text: str = value.decode("latin-1")
            return text
    return None


def etag_matches(if_none_match: str | None, etag: str) -> bool:
    """Weak comparison of If-None-Match with an entity tag (RFC 9110, 13.1.2)."""
    if if_none_match is None:
        return False
    return if_none_match == etag or any(
        _opaque(each) in ("*", _opaque(etag)) for each in _tags(if_none_match)
    )


def _tags(field: str) -> Iterable[str]:
    return (each.strip() for each in field.split(","))


def _opaque(tag: str) -> str:
    return tag.removeprefix("W/")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
