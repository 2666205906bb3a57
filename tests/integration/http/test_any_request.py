"""Whatever is asked, of any route: no answer is a bug's, and programs get JSON."""

import asyncio
import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.web.routing import Resource
from tests.support.clients import NO_TLS
from tests.support.documented import all_routes
from tests.support.servers import Connection, Server, add_products
from tests.support.shop import SECRET, bearer

pytestmark = pytest.mark.ways("direct-uvloop")

IDS = st.sampled_from(["unit-00000", ".", "..", "a/b", "%", "\x00", "ü", "-1", "9" * 30, " "])
TEXT = st.text(max_size=20) | IDS
VALUES = TEXT | st.sampled_from(["1", "0", "-1", "1e9", "nan", "true", "a,b", ",", '"x"', "W/"])
NAMES = st.sampled_from(
    ["productIds", "productIds[]", "limit", "after", "before", "etag", "wait", "q", "category"]
) | st.sampled_from(["state", "level", "lastEventId", "dryRun", "format", "_", "x", ""])
# No field of a line ends in white space, and none has what httpx does not send.
LINES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)
FIELDS = st.sampled_from(
    ["If-None-Match", "Accept", "Accept-Encoding", "Origin", "Sec-Fetch-Site", "Content-Type"]
) | st.sampled_from(["Idempotency-Key", "Last-Event-ID", "X-Forwarded-For", "Content-Encoding"])
LIKELY = st.sampled_from(
    ["*", 'W/"a", "b,c"', "gzip;q=0", "text/html", "application/json", "text/csv", "null"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | NAMES, inner, max_size=3),
    max_leaves=6,
)
LIKELY_BODIES = st.fixed_dictionaries(
    {},
    optional={
        "productIds": st.lists(IDS, max_size=3) | JSON,
        "etag": JSON,
        "checkoutToken": JSON,
        "lines": st.lists(st.fixed_dictionaries({"productId": IDS, "quantity": JSON}), max_size=2),
        "reason": st.just("correction") | JSON,
        "change": JSON,
        "price": JSON,
        "source": JSON,
    },
)
BODIES = st.binary(max_size=20) | (JSON | LIKELY_BODIES).map(lambda body: json.dumps(body).encode())
METHODS = st.sampled_from(["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH", "x"])


@st.composite
def requests(draw: st.DrawFn, routes: list[Resource]) -> dict[str, Any]:
    route = draw(st.sampled_from(routes))
    parts = [
        quote(draw(TEXT), safe="") if part.startswith("{") else part
        for part in route.path.split("/")
    ]
    query = draw(st.lists(st.tuples(NAMES, VALUES), max_size=3))
    method = draw(st.sampled_from([*route.endpoints]) | METHODS)
    headers = dict(draw(st.lists(st.tuples(FIELDS, LIKELY | LINES), max_size=3)))
    if draw(st.booleans()):
        headers.setdefault("Content-Type", "application/json")
    if draw(st.booleans()):
        headers |= bearer("admin")
    # Nobody has the time to wait.
    pairs = [
        f"{quote(name, safe='[]')}={'0.01' if name == 'wait' else quote(value, safe=',')}"
        for name, value in query
    ]
    url = "/".join(parts) + draw(st.sampled_from(["", "", "", "/"]))
    content = draw(BODIES) if method not in ("GET", "HEAD") else None
    return {
        "method": method,
        "url": url + (f"?{'&'.join(pairs)}" if pairs else ""),
        "headers": headers,
        "content": content,
    }


@pytest.mark.settings(
    secret_key=SECRET, stripe_webhook_secret="whsec_x",
    request_rate="", search_rate="", reservation_rate="",
    reservation_line_rate="", reservation_unit_rate="", allowed_origins="https://a.example",
)  # fmt: skip
async def test_no_request_is_a_bug(server: Server, connection: Connection) -> None:
    await add_products(connection, 3)
    await server.published(connection)
    routes = all_routes(server.app)

    def ask() -> None:
        with httpx.Client(base_url=server.url, verify=NO_TLS) as client:

            @settings(max_examples=400, deadline=None, database=None)
            @given(request=requests(routes))
            def check(request: dict[str, Any]) -> None:
                # httpx would resolve `..`
                url = httpx.URL(server.url).copy_with(raw_path=request.pop("url").encode())
                with client.stream(url=url, **request) as answer:
                    assert answer.status_code < 500, url
                    kind = answer.headers.get("content-type", "")
                    if kind.startswith("text/event-stream"):
                        return
                    body = answer.read()
                if url.path.startswith("/api/") and answer.status_code not in (204, 304):
                    assert kind == "application/json", (url, kind)
                    if request["method"] != "HEAD":
                        assert json.loads(body)["success"] == (answer.status_code < 300)

            check()

    await asyncio.to_thread(ask)
