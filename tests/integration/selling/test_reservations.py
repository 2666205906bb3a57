"""Holding stock over HTTP: what is held, for how long, and what is refused."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import asyncpg
import pytest

from tests.support.carts import LAMP, SHIRT_S, cart, overdue, reserve
from tests.support.clients import reading
from tests.support.shop import Connection, Quantities, Shop

Connect: TypeAlias = Callable[[], Awaitable[Connection]]


async def test_a_checkout_holds_stock_of_product_and_variant_for_ten_minutes(
    api: Shop, quantities: Quantities
) -> None:
    held = await reserve(api, LAMP, SHIRT_S)
    assert held["status"] == "active"
    assert held["isExtendable"] is True
    assert [(x["productId"], x["variantId"], x["quantity"]) for x in held["lines"]] == [
        ("lamp", None, 2),
        ("shirt", "shirt-s", 1),
    ]
    seconds = await api.connection.fetchval(
        "select extract(epoch from $1::text::timestamptz - now())", held["expiresAt"]
    )
    assert 595 < seconds <= 600
    assert await quantities("lamp") == (0, 2)
    assert await quantities("shirt") == (0, 1)
    assert await quantities("shirt-s") == (0, 1)
    log = await api.connection.fetch("select * from inventory_log where operation = 'reserve'")
    assert {row["actor"] for row in log} == {"shopper"}
    assert not any(held["token"] in str(dict(row)) for row in log)
    found = await api.shopper.get(f"/api/reservations/{held['token']}")
    assert found.json()["data"]["expiresAt"] == held["expiresAt"]


async def test_lines_of_one_variant_are_summed_before_they_are_checked(api: Shop) -> None:
    line = {"productId": "shirt", "variantId": "shirt-m", "quantity": 2}
    more = {**line, "quantity": 3}
    answer = await api.shopper.post("/api/reservations", json=cart(line, more))
    assert answer.status_code == 409
    (refused,) = answer.json()["error"]["details"]["lines"]
    assert (refused["requested"], refused["available"]) == (5, 3)


async def test_the_same_checkout_replaces_its_hold_and_is_not_blocked_by_it(
    api: Shop, quantities: Quantities
) -> None:
    first = await reserve(api, {"productId": "lamp", "quantity": 10}, SHIRT_S)
    second = await reserve(api, {"productId": "lamp", "quantity": 9})
    assert second["token"] != first["token"]
    assert await quantities("lamp") == (0, 9)
    assert await quantities("shirt-s") == (0, 0)
    gone = await api.shopper.get(f"/api/reservations/{first['token']}")
    assert (gone.status_code, gone.json()["error"]["code"]) == (410, "reservation_released")


async def test_a_refused_replacement_leaves_the_hold_as_it_was(
    api: Shop, quantities: Quantities
) -> None:
    first = await reserve(api, LAMP)
    answer = await api.shopper.post(
        "/api/reservations", json=cart({"productId": "lamp", "quantity": 11})
    )
    assert answer.status_code == 409
    assert await quantities("lamp") == (0, 2)
    assert (await api.shopper.get(f"/api/reservations/{first['token']}")).status_code == 200


async def test_too_little_stock_is_said_a_line_with_alternatives(api: Shop) -> None:
    await reserve(api, {"productId": "lamp", "quantity": 7}, checkout="another")
    answer = await api.shopper.post(
        "/api/reservations", json=cart({"productId": "lamp", "quantity": 5}, SHIRT_S)
    )
    assert answer.status_code == 409
    error = answer.json()["error"]
    assert error["code"] == "insufficient_stock"
    lamp, shirt = error["details"]["lines"]
    assert (lamp["requested"], lamp["available"]) == (5, 3)
    # Lamp, light, 4000: the nearest lights first; the chair costs 4100 and is no light.
    assert [each["productId"] for each in lamp["alternatives"]] == ["torch", "bulb", "candle"]
    assert lamp["alternatives"][0] == {
        "productId": "torch",
        "name": "Torch",
        "price": 3500,
        "availableQuantity": 20,
        "stock": 20,
        "stockMessage": "20 available",
    }
    assert (shirt["requested"], shirt["available"], shirt["alternatives"]) == (1, 5, [])


async def test_alternatives_are_in_stock_and_go_beyond_the_category_last(api: Shop) -> None:
    await api.connection.execute(
        "update products set max_quantity = 0 where id in ('torch', 'bulb', 'candle')"
    )
    await api.server.published(api.connection)
    answer = await api.shopper.get("/api/products/lamp/alternatives")
    assert [each["productId"] for each in answer.json()["data"]] == ["chair", "shirt", "book"]


async def test_a_part_is_held_if_that_is_allowed(api: Shop, quantities: Quantities) -> None:
    lines = ({"productId": "lamp", "quantity": 12}, {"productId": "gone", "quantity": 1})
    held = await reserve(api, *lines, allowPartial=True)
    assert {x["productId"]: (x["quantity"], x["requested"]) for x in held["lines"]} == {
        "lamp": (10, 12),
        "gone": (0, 1),
    }
    assert await quantities("lamp") == (0, 10)
    nothing = await api.shopper.post(
        "/api/reservations", json=cart(lines[1], checkout="x", allowPartial=True)
    )
    assert nothing.status_code == 409


async def test_a_reservation_is_extended_once(api: Shop) -> None:
    held = await reserve(api, LAMP)
    path = f"/api/reservations/{held['token']}/extend"
    extended = (await api.shopper.post(path)).json()["data"]
    assert extended["isExtendable"] is False
    assert await api.connection.fetchval(
        "select $1::text::timestamptz - $2::text::timestamptz = interval '10 minutes'",
        extended["expiresAt"],
        held["expiresAt"],
    )
    again = await api.shopper.post(path)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "already_extended")


async def test_a_release_gives_back_once(api: Shop, quantities: Quantities) -> None:
    held = await reserve(api, LAMP, SHIRT_S)
    path = f"/api/reservations/{held['token']}"
    released = await api.shopper.delete(path)
    assert (released.status_code, released.json()["data"]["status"]) == (200, "released")
    assert (await api.shopper.delete(path)).status_code == 410
    assert await quantities("lamp") == (0, 0)
    assert await quantities("shirt-s") == (0, 0)


async def test_an_overdue_hold_gives_way_before_anybody_is_refused(
    api: Shop, quantities: Quantities
) -> None:
    held = await reserve(api, {"productId": "lamp", "quantity": 10}, SHIRT_S)
    await overdue(api, held["token"])
    await reserve(api, {"productId": "lamp", "quantity": 10}, checkout="another")
    assert await quantities("lamp") == (0, 10)
    assert await quantities("shirt-s") == (0, 0)
    assert (await api.shopper.get(f"/api/reservations/{held['token']}")).status_code == 410


async def test_while_others_end_what_is_overdue_nobody_is_refused(
    shop: Connection, connect: Connect
) -> None:
    """Somebody has an overdue hold locked, and has not given it back yet: ask again."""
    await shop.execute(
        """select reserve_stock('late', '[{"productId": "lamp", "quantity": 10}]')"""
    )
    await shop.execute("update reservations set expires_at = now()")
    cart = '[{"productId": "lamp", "quantity": 1}]'
    ending = await connect()
    transaction = ending.transaction()
    await transaction.start()
    await ending.execute("select from reservations for update")
    for record in (False, True):
        with pytest.raises(asyncpg.LockNotAvailableError):
            await shop.execute(
                "select complete_order(cart => $1, record_shortfall => $2)", cart, record
            )
    await transaction.rollback()
    order = await shop.fetchval("select complete_order(cart => $1)", cart)
    assert json.loads(order)["status"] == "paid"


async def test_what_is_overdue_is_not_waited_for_where_there_is_enough(
    shop: Connection, connect: Connect
) -> None:
    await shop.execute("""select reserve_stock('late', '[{"productId": "lamp", "quantity": 2}]')""")
    await shop.execute("update reservations set expires_at = now()")
    other = await connect()
    async with other.transaction(), asyncio.timeout(20):
        await other.execute("select from reservations for update")
        await shop.execute(
            "select reserve_stock('c', $1)",
            '[{"productId": "lamp", "quantity": 8}, {"productId": "bulb", "quantity": 1}]',
        )


@pytest.mark.parametrize("own", [0, 1])
@pytest.mark.parametrize("partial", [False, True])
async def test_a_hold_that_another_one_is_ending_is_not_waited_for(
    shop: Connection, connect: Connect, own: int, partial: bool
) -> None:
    """Who ends it has it locked, and waits for something else himself."""
    reserve_lamps = "select reserve_stock($1, $2, allow_partial => $3)"
    lines = '[{"productId": "lamp", "quantity": %d}, {"productId": "bulb", "quantity": 1}]'
    if own:
        await shop.execute(reserve_lamps, "mine", lines % 1, False)
    await shop.execute(reserve_lamps, "late", lines % 9, False)
    await shop.execute("update reservations set expires_at = now() where checkout_token = 'late'")
    importing, ending = await connect(), await connect()
    transaction = importing.transaction()
    await transaction.start()
    await importing.execute("select from products where id = 'lamp' for no key update")
    release = asyncio.create_task(
        ending.execute(
            "select release_reservation(token) from reservations where checkout_token = 'late'"
        )
    )
    async with asyncio.timeout(20):
        while not await shop.fetchval(
            "select count(*) from pg_locks l join pg_stat_activity a using (pid)"
            " where not granted and a.datname = current_database()"
        ):
            pass
        with pytest.raises(asyncpg.LockNotAvailableError, match="is ending overdue holds"):
            await shop.execute(reserve_lamps, "mine", lines % 3, partial)
    await transaction.rollback()
    await release
    await shop.execute(reserve_lamps, "mine", lines % 3, partial)


async def test_overdue_holds_are_looked_at_only_where_too_little_is_left(
    shop: Connection,
) -> None:
    await shop.execute(
        'select reserve_stock(\'c\' || n, \'[{"productId": "bulb", "quantity": 1}]\')'
        " from generate_series(1, 50) n"
    )
    await shop.execute("update reservations set expires_at = now()")
    read = (
        "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables"
        " where relid = 'reservations'::regclass"
    )
    async with shop.transaction():
        before = await shop.fetchval(read)
        await shop.execute(
            "select reserve_stock('c', $1)",
            '[{"productId": "lamp", "quantity": 2}, {"productId": "shirt", "variantId": "shirt-s",'
            ' "quantity": 1}]',
        )
        assert await shop.fetchval(read) - before < 10


async def test_overdue_holds_on_other_lines_than_the_short_one_are_left(
    shop: Connection, quantities: Quantities
) -> None:
    for checkout, product, units in (("a", "lamp", 4), ("b", "bulb", 4)):
        await shop.execute(
            "select reserve_stock($1, jsonb_build_array(jsonb_build_object("
            "'productId', $2::text, 'quantity', $3::integer)))",
            checkout,
            product,
            units,
        )
    await shop.execute("update reservations set expires_at = now()")
    await shop.execute(
        "select reserve_stock('c', $1)",
        '[{"productId": "lamp", "quantity": 8}, {"productId": "bulb", "quantity": 1}]',
    )
    assert await quantities("lamp") == (0, 8)
    assert await quantities("bulb") == (0, 5)


async def test_no_checkout_has_a_name_that_is_the_sleeping_sources_lock(
    shop: Connection,
) -> None:
    """Locks of one key are the source's and the imports'; a token, which a client chooses, could
    hash to any of them."""
    lines = '[{"productId": "lamp", "quantity": 1}]'
    async with shop.transaction():
        await shop.execute("select reserve_stock('c', $1)", lines)
        await shop.execute(
            "select reserve_together('lamp', jsonb_build_array(jsonb_build_object("
            "'checkoutToken', 'd', 'quantity', 1)))"
        )
        keys = await shop.fetch(
            "select classid::bigint, objsubid from pg_locks"
            " where locktype = 'advisory' and pid = pg_backend_pid()"
        )
    assert [tuple(key) for key in keys] == [(int.from_bytes(b"chec"), 2)] * 2


async def test_a_direct_purchase_ends_overdue_holds_too(api: Shop) -> None:
    held = await reserve(api, {"productId": "lamp", "quantity": 10})
    await overdue(api, held["token"])
    bought = await api.backend.post(
        "/api/orders", json={"lines": [{"productId": "lamp", "quantity": 10}]}
    )
    assert bought.status_code == 201


@pytest.mark.parametrize("method", ["GET", "DELETE", "extend"])
@pytest.mark.parametrize(
    ("state", "status"),
    [("unknown", 404), ("expired", 410), ("overdue", 410), ("released", 410), ("order", 409)],
)
async def test_a_token_that_holds_nothing_is_refused_by_its_state(
    api: Shop, method: str, state: str, status: int
) -> None:
    held = await reserve(api, LAMP)
    token = "no-such-token" if state == "unknown" else held["token"]
    if state in ("expired", "overdue"):
        await overdue(api, token)
    if state == "expired":
        assert await api.connection.fetchval("select expire_reservations()") == 1
    if state == "released":
        await api.shopper.delete(f"/api/reservations/{token}")
    if state == "order":
        await api.backend.post("/api/orders", json={"reservationToken": token})
    if method == "extend":
        answer = await api.shopper.post(f"/api/reservations/{token}/extend")
    else:
        answer = await api.shopper.request(method, f"/api/reservations/{token}")
    if (state, method) == ("order", "GET"):
        assert answer.json()["data"]["status"] == "converted"
    elif (state, method) == ("overdue", "DELETE"):
        assert answer.status_code == 200  # that is what was wanted
    else:
        assert answer.status_code == status
        assert held["token"] not in answer.text


async def test_a_token_may_be_any_nonsense(api: Shop) -> None:
    for token in ("%00", "%ff%fe", "a" * 5000, "%20", "'; drop table orders", "%0a"):
        answer = await api.shopper.get(f"/api/reservations/{token}")
        assert answer.status_code == 404, token


async def test_a_quantity_must_be_a_whole_number_of_at_least_one(api: Shop) -> None:
    wrong: list[Any] = [0, -1, 1.5, 1.0, 2**31, 10**30, "2", None, True, [], {}]
    for quantity in wrong:
        answer = await api.shopper.post(
            "/api/reservations", json=cart({"productId": "lamp", "quantity": quantity})
        )
        assert answer.status_code == 400, quantity
        assert answer.json()["error"]["details"]["field"] == "lines[0].quantity"


UNSELLABLE: list[tuple[Any, int, str]] = [
    ({"productId": "chair", "quantity": 4}, 400, "max_per_order_exceeded"),
    ({"productId": "shirt", "quantity": 1}, 400, "invalid_request"),
    ({"productId": "shirt", "variantId": "nope", "quantity": 1}, 404, "variant_not_found"),
    ({"productId": "lamp", "variantId": "shirt-s", "quantity": 1}, 404, "variant_not_found"),
    ({"productId": "nope", "quantity": 1}, 404, "product_not_found"),
    ({"productId": "secret", "quantity": 1}, 404, "product_not_found"),
    ({"productId": "gone", "quantity": 1}, 409, "insufficient_stock"),
    ({"productId": "", "quantity": 1}, 400, "invalid_request"),
    ({"productId": "a\0b", "quantity": 1}, 400, "invalid_request"),
    ({"productId": 7, "quantity": 1}, 400, "invalid_request"),
    ({"quantity": 1}, 400, "invalid_request"),
    ("lamp", 400, "invalid_request"),
]


async def test_a_line_that_cannot_be_sold_is_refused_by_name(api: Shop) -> None:
    for line, status, code in UNSELLABLE:
        answer = await api.shopper.post("/api/reservations", json=cart(line))
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), line
    assert await api.connection.fetchval("select count(*) from reservations") == 0


NO_CARTS = [
    b"",
    b"nonsense",
    b"[]",
    b"null",
    b'{"lines": []}',
    b'{"checkoutToken": "c", "lines": []}',
    b'{"checkoutToken": "c"}',
    b'{"checkoutToken": "c", "lines": {}}',
    b'{"checkoutToken": "", "lines": [{"productId": "lamp", "quantity": 1}]}',
    b'{"checkoutToken": "c\\u0000", "lines": [{"productId": "lamp", "quantity": 1}]}',
    b'{"checkoutToken": "c", "lines": [{"productId": "lamp", "quantity": 1}], "hold": 99}',
    b'{"checkoutToken": "c", "lines": [{"productId": "lamp", "quantity": 1}],'
    b' "allowPartial": "yes"}',
    b'{"checkoutToken": "c", "lines": [{"productId": "lamp", "quantity": NaN}]}',
    b'{"checkoutToken": "c", "lines": [{"productId": "\\ud800", "quantity": 1}]}',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"\xed\xa0\x80": 1}',  # half a surrogate pair, as no UTF-8 has it
    b'{"checkoutToken": "\xed\xa0\x80", "lines": [{"productId": "lamp", "quantity": 1}]}',
    '{"\\ud800": 1}'.encode("utf-16"),
    '{"\\ud800": 1}'.encode("utf-32-be"),
    b'{"\\ud800": 1}',
]


async def test_a_body_that_is_no_cart_is_a_400(api: Shop) -> None:
    for body in NO_CARTS:
        for client, path in ((api.shopper, "/api/reservations"), (api.backend, "/api/orders")):
            answer = await client.post(
                path, content=body, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code == 400, body
            assert answer.json()["error"]["code"] == "invalid_request"


async def test_a_cart_has_a_hundred_lines_at_most(api: Shop) -> None:
    line = {"productId": "bulb", "quantity": 1}
    assert (
        await api.shopper.post("/api/reservations", json=cart(*[line] * 1000))
    ).status_code == 400
    await reserve(api, *[line] * 100)
    huge = b'{"checkoutToken": "' + b"x" * 2**20 + b'"}'
    assert (
        await api.shopper.post(
            "/api/reservations", content=huge, headers={"Content-Type": "application/json"}
        )
    ).status_code == 413


@pytest.mark.settings(reservation_rate="3/hour", reservation_line_rate="off")
async def test_shoppers_are_limited_by_address_and_told_when_to_come_back(api: Shop) -> None:
    for _ in range(3):
        await reserve(api, LAMP)
    answer = await api.shopper.post("/api/reservations", json=cart(LAMP))
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many_requests")
    assert 0 < int(answer.headers["retry-after"]) <= 2 * 3600
    # The shop's own backend speaks for many.
    assert (await api.backend.post("/api/reservations", json=cart(LAMP))).status_code == 201


@pytest.mark.settings(reservation_rate="", reservation_line_rate="5/hour")
async def test_shoppers_are_limited_by_the_size_of_their_carts(api: Shop) -> None:
    bulb = {"productId": "bulb", "quantity": 1}
    await reserve(api, *[bulb] * 4)
    answer = await api.shopper.post("/api/reservations", json=cart(bulb, bulb))
    assert answer.status_code == 429
    await reserve(api, bulb)


async def test_a_reservation_shows_on_a_stream(api: Shop) -> None:
    async with reading(f"{api.server.url}/api/inventory/lamp/stream") as stream:
        await stream.next("snapshot")
        await reserve(api, LAMP)
        seen = await stream.next("inventory_updated")
    assert (seen["stock"], seen["soldQuantity"]) == (8, 0)
