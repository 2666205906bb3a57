"""Nobody takes more than his share: units, streams, polls and requests of one address."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.support.clients import calling, reading
from tests.support.servers import until
from tests.support.shop import Shop, bearer


def cart(checkout: str, *lines: tuple[str, int]) -> dict[str, Any]:
    return {
        "checkoutToken": checkout,
        "lines": [{"productId": product, "quantity": units} for product, units in lines],
    }


def coming_from(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


@pytest.mark.settings(max_units_per_line=60, max_units_per_cart=100)
async def test_a_shopper_may_have_so_many_units_of_a_line_and_of_a_cart(api: Shop) -> None:
    for lines, field, most in (
        ([("lamp", 1), ("book", 61)], "lines[1].quantity", "60"),
        ([("book", 2**31 - 1)], "lines[0].quantity", "60"),
        ([("book", 60), ("bulb", 41)], "lines", "100"),
        ([("book", 50), ("book", 51)], "lines", "100"),
    ):
        answer = await api.shopper.post("/api/reservations", json=cart("c", *lines))
        error = answer.json()["error"]
        assert (answer.status_code, error["details"]["field"]) == (400, field)
        assert f"at most {most}" in error["message"]
    assert not await api.connection.fetchval("select count(*) from reservations")
    most_of_all = cart("c", ("book", 60), ("bulb", 40))
    assert (await api.shopper.post("/api/reservations", json=most_of_all)).status_code == 201
    # The shop's backend asks for many shoppers, and says who they are itself.
    much = cart("d", ("book", 10_000))
    assert (await api.backend.post("/api/reservations", json=much)).status_code == 201


@pytest.mark.settings(reservation_unit_rate="50/hour")
async def test_one_address_may_hold_so_many_units(api: Shop) -> None:
    async def reserve(units: int, address: str) -> int:
        answer = await api.shopper.post(
            "/api/reservations", json=cart(f"c{units}", ("book", units)),
            headers=coming_from(address),
        )  # fmt: skip
        if answer.status_code == 429:
            assert int(answer.headers["Retry-After"]) > 60
            assert "units" in answer.json()["error"]["message"]
        return answer.status_code

    assert await reserve(51, "203.0.113.7") == 400  # it never will be allowed
    assert [await reserve(30, "203.0.113.7"), await reserve(21, "203.0.113.7")] == [201, 429]
    assert await reserve(20, "203.0.113.7") == 201
    assert await reserve(30, "203.0.113.8") == 201
    assert api.server.metric("limited_total", what="units") == 1


@pytest.mark.settings(reservation_unit_rate="50/hour")
async def test_who_renews_a_hold_pays_for_its_units_again(api: Shop) -> None:
    """So what an address has at once is bounded by what it may ask for while a hold lasts."""
    path = "/api/reservations"
    first = await api.shopper.post(path, json=cart("c", ("book", 30)))
    token = first.json()["data"]["token"]
    statuses = [(await api.shopper.post(f"{path}/{token}/extend")).status_code for _ in range(2)]
    assert statuses == [200, 409]
    for checkout in ("c", "d"):  # in its place, or beside it
        answer = await api.shopper.post(path, json=cart(checkout, ("book", 30)))
        assert answer.status_code == 429
    assert (await api.shopper.delete(f"{path}/{token}")).status_code == 200
    assert (await api.shopper.post(path, json=cart("e", ("book", 30)))).status_code == 429


async def test_what_a_shopper_may_have_is_told_with_the_products(api: Shop) -> None:
    wanted = {"unitsPerLine": 1000, "unitsPerCart": 2000, "linesPerCart": 100}
    for path in ("/api/products", "/api/products/lamp"):
        assert (await api.shopper.get(path)).json()["limits"] == wanted


@pytest.mark.settings(streams_per_address=2)
async def test_one_address_has_so_many_streams_at_once(api: Shop) -> None:
    path = "/api/inventory/lamp/stream"
    async with AsyncExitStack() as stack:
        streams = []
        for _ in range(2):
            stream = await stack.enter_async_context(reading(api.server.url + path))
            await stream.opened()
            streams.append(stream)
        turned_away = await api.shopper.get(path)  # another status would end an EventSource
        assert turned_away.status_code == 200
        assert turned_away.text.startswith("retry: ")
        assert api.server.metric("limited_total", what="streams") == 1
        async with api.shopper.stream("GET", path, headers=coming_from("203.0.113.7")) as other:
            assert other.status_code == 200
    crowd = api.server.app.state.limits.streams
    await until(lambda: len(crowd) == 0, "all have left")
    async with reading(api.server.url + path) as stream:
        await stream.opened()


@pytest.mark.settings(polls_per_address=1)
async def test_polls_beyond_an_address_share_are_answered_at_once(api: Shop) -> None:
    path = "/api/inventory/lamp?wait=50"
    known = {"If-None-Match": (await api.shopper.get(path)).headers["ETag"]}
    waiting = asyncio.create_task(api.shopper.get(path, headers=known))
    await until(lambda: api.server.hub.waiters, "the poll waits")
    assert "stream_server_waiting_polls 1.0" in (await api.shopper.get("/metrics")).text
    async with calling(api.server.url) as another:
        assert (await another.get(path, headers=known)).status_code == 304
    assert not waiting.done()
    assert api.server.metric("limited_total", what="polls") == 1
    await api.connection.execute("update products set sold_quantity = 1 where id = 'lamp'")
    assert (await waiting).status_code == 200
    assert len(api.server.app.state.limits.polls) == 0


@pytest.mark.settings(request_rate="30/hour")
async def test_an_address_may_ask_so_often_whatever_it_asks_for(api: Shop) -> None:
    for number, path in enumerate(("/api/inventory/lamp", "/healthz", "/nowhere", "/")):
        headers = coming_from(f"203.0.113.{number}")
        answers = [await api.shopper.get(path, headers=headers) for _ in range(31)]
        assert 429 not in [each.status_code for each in answers[:1]]
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["Retry-After"]) > 60
        # With a token, nobody counts.
        good = {**headers, **bearer("shop")}
        assert (await api.shopper.get(path, headers=good)).status_code != 429
        bad = {**headers, "Authorization": "Bearer nonsense"}
        assert (await api.shopper.get(path, headers=bad)).status_code == 429


@pytest.mark.settings(request_rate="100/hour")
@pytest.mark.parametrize(
    ("method", "path", "body", "times"),
    [
        ("POST", "/api/inventory/batch", {"productIds": [str(n) for n in range(500)]}, 1),
        ("GET", "/api/inventory?productIds=" + ",".join(map(str, range(500))), None, 1),
        ("GET", "/api/inventory?limit=500", None, 1),
        ("GET", "/products", None, 3),
        ("GET", "/api/products?limit=1", None, 14),
        ("GET", "/api/products/lamp", None, 14),
        ("GET", "/api/products/lamp/alternatives", None, 14),
        ("GET", "/api/reservations/6fa459ea-ee8a-4ca4-894e-db77e160355e", None, 14),
        ("GET", "/readyz", None, 14),
        ("GET", "/metrics", None, 3),
        ("POST", "/api/webhooks/stripe", {"id": "x" * 200_000}, 1),
    ],
)
async def test_what_costs_more_counts_as_several(
    api: Shop, method: str, path: str, body: Any, times: int
) -> None:
    answers = [await api.shopper.request(method, path, json=body) for _ in range(times + 2)]
    assert [each.status_code for each in answers].count(429) >= 1
    assert 429 not in [each.status_code for each in answers[:times]]
