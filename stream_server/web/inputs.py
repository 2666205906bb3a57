"""Readers of what clients send. They raise InvalidRequest, which names the wrong field."""

import json
import math
import re
from datetime import UTC, datetime
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request

from stream_server.errors import InvalidRequest
from stream_server.inventory.reservations import CartLine
from stream_server.streaming.frames import to_json
from stream_server.web.limits import BYTES_A_REQUEST, limits_of

__all__ = [
    "MAX_BIG_INTEGER",
    "MAX_BODY",
    "MAX_ID",
    "MAX_IDS",
    "MAX_INTEGER",
    "MAX_LINES",
    "cart_lines",
    "fields",
    "flag",
    "flag_in_query",
    "header",
    "json_body",
    "moment",
    "number_in_query",
    "optional_text",
    "parse_json",
    "product_ids",
    "product_ids_in_query",
    "raw_body",
    "refuse_wrapped",
    "text",
    "whole",
    "whole_in_path",
    "whole_in_query",
]

MAX_BODY: Final = 1024 * 1024  # bytes
MAX_IDS: Final = 500
MAX_LINES: Final = 100  # in a cart
MAX_ID: Final = 200  # characters, as the database allows
MAX_INTEGER: Final = 2**31 - 1
MAX_BIG_INTEGER: Final = 2**63 - 1


def refuse_wrapped(request: Request) -> None:
    """Raises HTTPException 415 for a body that is encoded or sent as a form (RFC 9110, sections 8.4
    and 15.5.16)."""
    encoding = (header(request, b"content-encoding") or "").strip().lower()
    if encoding not in ("", "identity"):
        reason = f"The body must not be encoded; its Content-Encoding is {encoding[:50]}"
        raise HTTPException(415, reason, headers={"Accept-Encoding": "identity"})
    media_type = (header(request, b"content-type") or "").strip().lower()
    if media_type.startswith("multipart/"):
        raise HTTPException(
            415, "The body must be the data or the file itself, not a form that contains it"
        )


async def raw_body(request: Request) -> bytes:
    """Returns the body as it was sent. Raises HTTPException 413 if it is larger than 1 MiB, 415 if
    it is encoded or a form, and 429 if the address has sent too much."""
    refuse_wrapped(request)
    body = bytearray()
    length = request.headers.get("content-length") or "0"
    if not length.isdecimal() or int(length) > MAX_BODY:
        raise HTTPException(413, f"The body is larger than {MAX_BODY} bytes")
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"The body is larger than {MAX_BODY} bytes")
    limits_of(request).check_request(request.scope, len(body) // BYTES_A_REQUEST)
    return bytes(body)


def parse_json(body: bytes) -> Any:
    """Parses JSON in UTF-8, with or without a byte order mark (RFC 8259, section 8.1). Raises
    InvalidRequest if the body is not JSON."""
    try:
        # From bytes, json would also accept other encodings and lone surrogates.
        value = json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant)
        if b"\\u" in body:
            to_json(value)  # fails for a lone surrogate, which nothing can store or send
        return value
    except UnicodeError as error:
        raise InvalidRequest("body", f"JSON in UTF-8 ({error})") from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("body", f"JSON ({error})") from error


async def json_body(request: Request) -> Any:
    """Returns the parsed body. Raises what `raw_body` raises, and InvalidRequest if the body is not
    JSON."""
    return parse_json(await raw_body(request))


def fields(given: Any, *known: str) -> dict[str, Any]:
    """Returns an object. Refuses unknown fields: a misspelt field would otherwise be ignored."""
    if not isinstance(given, dict):
        raise InvalidRequest("body", "an object")
    for field in given:
        if field not in known:
            raise InvalidRequest(field, f"left out; the known fields are {', '.join(known)}")
    return given


def text(given: Any, field: str, max_length: int = MAX_ID) -> str:
    """Returns a string that is not empty, that Postgres can store, and without control
    characters."""
    if (
        not isinstance(given, str)
        or not 0 < len(given) <= max_length
        or any(character < " " or "\x7f" <= character <= "\x9f" for character in given)
        or any("\ud800" <= character <= "\udfff" for character in given)
    ):
        raise InvalidRequest(
            field, f"a string of 1 to {max_length} characters without control characters"
        )
    return given


def optional_text(given: Any, field: str, max_length: int = MAX_ID) -> str | None:
    """Returns such a string, or None if the field is null or missing."""
    return None if given is None else text(given, field, max_length)


def whole(given: Any, field: str, min_value: int, max_value: int = MAX_INTEGER) -> int:
    """Returns an int between two bounds; refuses 1.0 and true."""
    if not isinstance(given, int) or isinstance(given, bool) or not min_value <= given <= max_value:
        raise InvalidRequest(field, f"a whole number from {min_value} to {max_value}")
    return given


def flag(given: Any, field: str, *, default: bool) -> bool:
    """Returns a boolean; the default if the field is null or missing."""
    if given is None:
        return default
    if not isinstance(given, bool):
        raise InvalidRequest(field, "true or false")
    return given


def cart_lines(given: Any) -> list[CartLine]:
    """Returns the `lines` of a cart: 1 to 2147483647 units of a product or variant each."""
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_LINES:
        raise InvalidRequest("lines", f"an array of 1 to {MAX_LINES} lines")
    return [_cart_line(line, f"lines[{index}]") for index, line in enumerate(given)]


def _cart_line(given: Any, place: str) -> CartLine:
    if not isinstance(given, dict):
        raise InvalidRequest(place, "an object with productId and quantity")
    return {
        "productId": text(given.get("productId"), f"{place}.productId"),
        "variantId": optional_text(given.get("variantId"), f"{place}.variantId"),
        "quantity": whole(given.get("quantity"), f"{place}.quantity", 1),
    }


def product_ids(given: Any, field: str = "productIds") -> list[str]:
    """Returns a list of product ids without repetitions, in the given order."""
    if not isinstance(given, list):
        raise InvalidRequest(field, "an array")
    if len(given) > MAX_IDS:
        raise InvalidRequest(field, f"an array of at most {MAX_IDS} ids, not {len(given)}")
    for index, each in enumerate(given):
        if not isinstance(each, str) or not 0 < len(each) <= MAX_ID:
            raise InvalidRequest(f"{field}[{index}]", f"a string of 1 to {MAX_ID} characters")
    return list(dict.fromkeys(given))


def product_ids_in_query(request: Request) -> list[str] | None:
    """Returns the ids in `?productIds=a,b`; None without the field. The field may be repeated, and
    be called `productIds[]`, as axios and jQuery write lists."""
    if not request.scope["query_string"]:
        return None
    query = request.query_params
    given = [*query.getlist("productIds"), *query.getlist("productIds[]")]
    if not given:
        return None
    ids = [each for part in given for each in part.split(",") if each]
    if not ids:
        raise InvalidRequest("productIds", "at least one id; commas separate several")
    return product_ids(ids)


def number_in_query(
    request: Request, field: str, *, default: float, min_value: float, max_value: float
) -> float:
    """Returns a number from the query string, between two bounds."""
    if not request.scope["query_string"]:
        return default
    given = request.query_params.get(field)
    if given is None:
        return default
    is_number = re.fullmatch(r"[0-9]{1,9}(\.[0-9]{0,9})?", given)
    number = float(given) if is_number else math.nan
    if not min_value <= number <= max_value:
        raise InvalidRequest(field, f"a number from {min_value:g} to {max_value:g}")
    return number


def header(request: Request, name: bytes) -> str | None:
    """Returns the first header of this name, in lower case. Builds no mapping of all headers."""
    for each, value in request.scope["headers"]:
        if each == name:
            text: str = value.decode("latin-1")
            return text
    return None


def whole_in_query(
    request: Request, field: str, *, default: int, min_value: int, max_value: int
) -> int:
    """Returns a whole number from the query string, between two bounds."""
    given = request.query_params.get(field)
    return default if given is None else _digits(given, field, min_value, max_value)


def whole_in_path(request: Request, name: str, field: str) -> int:
    """Returns a numeric id from the path."""
    return _digits(request.path_params[name], field, 0, MAX_BIG_INTEGER)


def flag_in_query(request: Request, field: str) -> bool:
    """Returns whether the query string has `?field=true`; false without the field."""
    given = request.query_params.get(field, "false")
    if given not in ("true", "false"):
        raise InvalidRequest(field, "true or false")
    return given == "true"


def moment(given: Any, field: str) -> datetime:
    """Returns a date and time with its offset from UTC (RFC 3339)."""
    expected = "a date and time with an offset from UTC, such as 2026-05-04T18:00:00Z"
    if not isinstance(given, str):
        raise InvalidRequest(field, expected)
    try:
        at = datetime.fromisoformat(given)
        at.astimezone(UTC)  # overflows at the ends of the calendar
    except (ValueError, OverflowError):
        raise InvalidRequest(field, expected) from None
    if at.tzinfo is None:
        raise InvalidRequest(field, expected)
    return at


def _digits(given: str, field: str, min_value: int, max_value: int) -> int:
    if not (given.isascii() and given.isdecimal() and len(given) <= 19):
        raise InvalidRequest(field, f"a whole number from {min_value} to {max_value}")
    return whole(int(given), field, min_value, max_value)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
