"""The check that a write from a browser comes from this server's own pages or ALLOWED_ORIGINS.

A page of any site can make its visitors' browsers send a POST, with or without cookies, if the body
is a form or text: the browser then sends no preflight. So a write must be application/json; and if
the browser names the page that sends it, that page must be allowed. Programs other than browsers
send neither Origin nor Sec-Fetch-Site, and pass.
"""

from typing import Final
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request

from stream_server.http.proxies import FORWARDED_HOST
from stream_server.web import state

__all__ = ["refuse_but_json", "refuse_foreign"]

JSON: Final = "application/json"
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def refuse_but_json(request: Request) -> None:
    """Raises HTTPException 403 if a page of another site sent the request, 415 if its body is not
    application/json."""
    refuse_foreign(request)
    given = _lines(request, b"content-type")
    media_type = given[0].partition(";")[0].strip(" \t").lower() if len(given) == 1 else ""
    if media_type == JSON or not (given or _has_body(request)):
        return
    shown = f"not {', '.join(given)[:80]}" if given else "but it is missing"
    raise HTTPException(415, f"Content-Type must be {JSON}, {shown}", {"Accept": JSON})


def refuse_foreign(request: Request) -> None:
    """Raises HTTPException 403 if a page of another site sent the request."""
    origins = _lines(request, b"origin")
    sites = _lines(request, b"sec-fetch-site")
    if not origins and not sites:
        return
    allowed = state.settings(request).allowed_origins
    is_allowed = (
        len(origins) == 1
        and origins[0] != "null"
        and ("*" in allowed or origins[0] in allowed or _is_ours(request, origins[0]))
    )
    # Browsers set Sec-Fetch-Site; pages cannot (https://www.w3.org/TR/fetch-metadata/).
    if is_allowed or (sites and set(sites) <= {"same-origin", "none"}):
        return
    raise HTTPException(
        403,
        f"Pages of {', '.join(origins)[:100] or 'another site'} may not write here. Set "
        "ALLOWED_ORIGINS to allow them, or PUBLIC_URL if they are this server's own",
    )


def _is_ours(request: Request, origin: str) -> bool:
    """Whether the origin is this server: that of PUBLIC_URL, or that of the request.

    For the request, only host and port are compared: behind a proxy with TLS, its scheme is
    unknown. X-Forwarded-Host counts only if our own server knows that a proxy has sent it.
    """
    public_url = state.settings(request).public_url
    if public_url and _address(public_url) == _address(origin):
        return True
    forwarded = request.scope.get("extensions", {}).get(FORWARDED_HOST, "")
    hosts = ",".join([*_lines(request, b"host"), forwarded])
    scheme, address = origin.partition(":")[0], _address(origin)
    ours = [_address(f"{scheme}://{host.strip()}") for host in hosts.split(",")]
    return address is not None and address in ours


def _address(url: str) -> tuple[str, int | None] | None:
    """Returns host and port; None if `url` is not a URL."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        return (host, parts.port or DEFAULT_PORTS.get(parts.scheme)) if host else None
    except ValueError:
        return None


def _has_body(request: Request) -> bool:
    """Whether the request has a body (RFC 9112, section 6)."""
    lengths = _lines(request, b"content-length")
    return bool(_lines(request, b"transfer-encoding")) or any(each != "0" for each in lengths)


def _lines(request: Request, name: bytes) -> list[str]:
    return [value.decode("latin-1") for each, value in request.scope["headers"] if each == name]
