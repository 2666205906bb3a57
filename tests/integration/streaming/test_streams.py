"""What a page sees on its stream when rows change in Postgres."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.clients import reading
from tests.support.servers import (
    Connection,
    Server,
    add_products,
    assert_complete,
    sell,
    serving,
)

Connect = Callable[[], Awaitable[Connection]]


def stream_of(server: Server, *product_ids: str) -> str:
    if len(product_ids) == 1:
        return f"{server.url}/api/inventory/{quote(product_ids[0], safe='')}/stream"
    query = f"?productIds={','.join(product_ids)}" if product_ids else ""
    return f"{server.url}/api/inventory/stream{query}"


async def test_a_stream_begins_with_the_state_at_once(
    server: Server, connection: Connection
) -> None:
    """The snapshot follows the head, with an id to resume from and a time to wait."""
    await add_products(connection, 1)
    await server.published(connection)
    async with reading(stream_of(server, "unit-00000")) as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        assert stream.response.headers["cache-control"] == "no-store, no-transform"
        assert stream.response.headers["x-accel-buffering"] == "no"
        snapshot = await stream.next("snapshot")
        assert [each["productId"] for each in snapshot["products"]] == ["unit-00000"]
        assert snapshot["unknown"] == []
        assert snapshot["live"] is True
        assert stream.last_id.startswith(f"{server.hub.epoch}.")
        assert stream.retry == 2000


async def test_a_change_made_in_sql_arrives_with_the_right_numbers(
    server: Server, connection: Connection
) -> None:
    """All fields of `inventory_updated`."""
    await add_products(connection, 1)
    await server.published(connection)
    async with reading(stream_of(server, "unit-00000")) as stream:
        await stream.next("snapshot")
        await connection.execute(
            "update products set sold_quantity = 995, base_price = 5100 where id = 'unit-00000'"
        )
        update = await stream.next("inventory_updated")
    stamp = update.pop("timestamp")
    assert stamp.endswith("Z")
    assert "T" in stamp
    assert update == {
        "productId": "unit-00000", "variantId": None, "maxQuantity": 1000, "soldQuantity": 995,
        "availableQuantity": 5, "isAvailable": True, "stock": 5, "status": "active",
        "price": 5100, "isLowStock": True, "stockMessage": "Only 5 remaining!", "version": 2,
    }  # fmt: skip


async def test_an_update_that_changes_nothing_and_one_rolled_back_are_never_seen(
    server: Server, connection: Connection
) -> None:
    await add_products(connection, 1)
    await server.published(connection)
    async with reading(stream_of(server, "unit-00000")) as stream:
        await stream.next("snapshot")
        await connection.execute("update products set sold_quantity = sold_quantity")
        await connection.execute("update products set description = 'new', category = 'units'")
        transaction = connection.transaction()
        await transaction.start()
        await sell(connection, "unit-00000", 500)
        await transaction.rollback()
        await sell(connection, "unit-00000", 1)
        update = await stream.next("inventory_updated")
        assert (update["soldQuantity"], update["version"]) == (1, 2)


async def test_a_transaction_that_commits_late_is_not_lost(
    server: Server, connect: Connect
) -> None:
    """A takes its number, B commits, both streams see B; A commits, both see A."""
    a, b = await connect(), await connect()
    await add_products(b, 2)
    await server.published(b)
    async with (
        reading(stream_of(server, "unit-00000", "unit-00001")) as several,
        reading(stream_of(server)) as catalogue,
    ):
        for stream in (several, catalogue):
            await stream.opened()
        early = a.transaction()
        await early.start()
        await sell(a, "unit-00000", 7)
        await sell(b, "unit-00001", 3)
        for stream in (several, catalogue):
            update = await stream.next("inventory_updated")
            assert (update["productId"], update["soldQuantity"]) == ("unit-00001", 3)
        position = several.last_id
        await early.commit()
        for stream in (several, catalogue):
            update = await stream.next("inventory_updated")
            assert (update["productId"], update["soldQuantity"]) == ("unit-00000", 7)
    async with reading(stream_of(server), last_id=position) as back:
        snapshot = await back.next("snapshot")
        assert [each["productId"] for each in snapshot["products"]] == ["unit-00000"]


@pytest.mark.ways("direct-uvloop")
async def test_ten_thousand_rows_in_one_transaction_are_one_event_a_product(
    server: Server, connection: Connection, connect: Connect
) -> None:
    """And one notification, and the last state of each is right."""
    ids = await add_products(connection, 10_000)
    await server.published(connection)
    listener = await connect()
    notifications: list[str] = []
    await listener.add_listener("stock_changes", lambda *args: notifications.append(args[-1]))
    await listener.execute("select pg_advisory_lock_shared(495890817899)")  # one that sleeps
    async with (
        reading(stream_of(server)) as catalogue,
        reading(stream_of(server, "unit-00000")) as one,
    ):
        await catalogue.opened()
        while sum(len(each["products"]) for each in catalogue.named("snapshot")) < 10_000:
            await catalogue.next("snapshot")
        await one.next("snapshot")
        async with connection.transaction():
            await connection.execute("update products set sold_quantity = 1")
            await connection.execute("select pg_notify('stock_changes', 'mark')")
        updates: list[dict[str, Any]] = []
        while len(updates) < len(ids):  # of which snapshots pay some, where the socket was full
            data = await catalogue.next()
            updates += data.get("products", [data])
        assert sorted(each["productId"] for each in updates) == ids
        assert {(each["soldQuantity"], each["version"]) for each in updates} == {(1, 2)}
        assert (await one.next("inventory_updated"))["soldQuantity"] == 1
        await assert_complete(server.hub, connection)
        await sell(connection, "unit-00000", 1)
        for stream in (catalogue, one):
            update = await stream.until("inventory_updated", lambda data: True)
            assert (update["soldQuantity"], update["version"]) == (2, 3)
    await listener.execute("select 1")
    assert notifications[:2] == ['["*"]', "mark"]


async def test_changes_of_a_variant_come_with_its_product(
    server: Server, connection: Connection
) -> None:
    """One event a changed variant, and one for the product."""
    await add_products(connection, 1)
    await connection.execute(
        "insert into variants (id, product_id, variant_value, max_quantity) values"
        " ('red', 'unit-00000', 'Red', 10), ('blue', 'unit-00000', 'Blue', 20)"
    )
    await server.published(connection)
    async with reading(stream_of(server, "unit-00000")) as stream:
        snapshot = await stream.next("snapshot")
        (product,) = snapshot["products"]
        assert product["availableQuantity"] == 30
        assert {each["variantId"] for each in product["variants"]} == {"red", "blue"}
        await connection.execute("update variants set sold_quantity = 10 where id = 'red'")
        update = await stream.next("inventory_updated")
        assert (update["variantId"], update["stock"]) == ("red", 0)
        assert (update["isAvailable"], update["stockMessage"]) == (False, "Sold Out")
        update = await stream.next("inventory_updated")
        assert (update["variantId"], update["stock"]) == (None, 20)
        await sell(connection, "unit-00000")
        assert (await stream.next("inventory_updated"))["variantId"] is None
    await assert_complete(server.hub, connection)


async def test_a_stream_of_some_shows_those_and_a_stream_of_all_what_is_created_later(
    server: Server, connection: Connection
) -> None:
    await add_products(connection, 3)
    await server.published(connection)
    async with (
        reading(stream_of(server, "unit-00001", "missing")) as some,
        reading(stream_of(server)) as everything,
    ):
        snapshot = await some.next("snapshot")
        assert [each["productId"] for each in snapshot["products"]] == ["unit-00001"]
        assert snapshot["unknown"] == ["missing"]
        assert len((await everything.opened())["products"]) == 3
        await sell(connection, "unit-00000")
        await sell(connection, "unit-00001")
        assert (await some.next("inventory_updated"))["productId"] == "unit-00001"
        for expected in ("unit-00000", "unit-00001"):
            assert (await everything.next("inventory_updated"))["productId"] == expected
        await add_products(connection, 1, "missing")
        await add_products(connection, 1, "later-")
        update = await everything.until(
            "inventory_updated", lambda data: data["productId"] == "later-00000"
        )
        assert update["stock"] == 1000
        await connection.execute(
            "update products set status = 'discontinued' where id = 'unit-00001'"
        )
        for stream in (some, everything):
            status = await stream.next("product_status_changed")
            assert status.keys() == {"productId", "status", "timestamp"}
            assert (status["productId"], status["status"]) == ("unit-00001", "discontinued")
            update = await stream.next("inventory_updated")
            assert (update["status"], update["isAvailable"]) == ("discontinued", False)


async def test_a_product_that_was_unknown_appears_on_the_stream_that_named_it(
    server: Server, connection: Connection
) -> None:
    await add_products(connection, 1)
    await server.published(connection)
    async with reading(stream_of(server, "unit-00000", "soon-00000")) as stream:
        assert (await stream.next("snapshot"))["unknown"] == ["soon-00000"]
        await add_products(connection, 1, "soon-")
        assert (await stream.next("inventory_updated"))["productId"] == "soon-00000"


async def test_drafts_never_leak(server: Server, connection: Connection) -> None:
    """Nothing of a draft until it is published; then it appears; back in the drawer, it is gone."""
    await add_products(connection, 1)
    await connection.execute(
        "insert into products (id, name, base_price, max_quantity, status)"
        " values ('secret', 'Secret', 1, 5, 'draft')"
    )
    await server.published(connection)
    async with (
        reading(stream_of(server)) as everything,
        reading(stream_of(server, "unit-00000", "secret")) as some,
    ):
        assert "secret" not in json.dumps(await everything.opened())
        first = everything.last_id
        assert (await some.next("snapshot"))["unknown"] == ["secret"]
        await sell(connection, "secret")
        await sell(connection, "unit-00000")
        for stream in (everything, some):
            assert (await stream.next("inventory_updated"))["productId"] == "unit-00000"
        async with reading(stream_of(server), last_id=first) as back:
            assert "secret" not in json.dumps(await back.next("snapshot"))
        await connection.execute("update products set status = 'active' where id = 'secret'")
        for stream in (everything, some):
            update = await stream.until("inventory_updated", lambda data: True)
            assert (update["productId"], update["stock"]) == ("secret", 4)
        public = everything.last_id
        await connection.execute("update products set status = 'draft' where id = 'secret'")
        for stream in (everything, some):
            status = await stream.next("product_status_changed")
            assert (status["productId"], status["status"]) == ("secret", "draft")
        await sell(connection, "secret")
        await sell(connection, "unit-00000")
        for stream in (everything, some):
            assert (await stream.next())["productId"] == "unit-00000"
        async with reading(stream_of(server), last_id=public) as back:
            snapshot = await back.next("snapshot")
            assert snapshot["unknown"] == ["secret"]
            assert [each["productId"] for each in snapshot["products"]] == ["unit-00000"]


NAMES = [
    "newlines: one\ntwo\r\nthree\rfour",
    "lines of the protocol:\n\ndata: {}\n\nid: forged\n\n: comment",
    "separators: a\u2028b\u2029c\u0085d\x0be\x0cf",
    "controls: a\x01b\x1fc\x7fd",
    "four bytes: \U0001f6cb\ufe0f \U00020000",
    'quotes: say "8x8x8" \\ </script>',
]


@pytest.mark.ways("direct-uvloop", "portable")
async def test_names_survive_the_wire_whatever_is_in_them(
    server: Server, connection: Connection
) -> None:
    ids = [f"{number},b/c?d é%2F" for number in range(len(NAMES))]
    await connection.executemany(
        "insert into products (id, name, base_price) values ($1, $2, 1)",
        list(zip(ids, NAMES, strict=True)),
    )
    await server.published(connection)
    for product_id, name in zip(ids, NAMES, strict=True):
        async with reading(stream_of(server, product_id)) as stream:
            (product,) = (await stream.next("snapshot"))["products"]
            assert (product["productId"], product["name"]) == (product_id, name)
            await sell(connection, product_id)
            assert (await stream.next("inventory_updated"))["productId"] == product_id
            assert [each.event for each in stream.events] == ["snapshot", "inventory_updated"]


# Coming back


async def test_a_client_that_was_away_gets_what_changed_and_nothing_else(
    server: Server, connection: Connection
) -> None:
    await add_products(connection, 4)
    await server.published(connection)
    watched = ("unit-00000", "unit-00001", "unit-00002")
    async with reading(stream_of(server, *watched)) as stream:
        await stream.next("snapshot")
    await sell(connection, "unit-00001", 4)
    await sell(connection, "unit-00003")
    await server.published(connection)
    async with reading(stream_of(server, *watched), last_id=stream.last_id) as back:
        snapshot = await back.next("snapshot")
        assert [(each["productId"], each["soldQuantity"]) for each in snapshot["products"]] == [
            ("unit-00001", 4)
        ]
        assert snapshot["unknown"] == []
    async with reading(stream_of(server, *watched), last_id=back.last_id) as again:
        assert (await again.next("snapshot"))["products"] == []
        await sell(connection, "unit-00002")
        assert (await again.next("inventory_updated"))["productId"] == "unit-00002"


async def test_a_page_that_cannot_set_headers_resumes_by_its_query(
    server: Server, connection: Connection
) -> None:
    await add_products(connection, 2)
    await server.published(connection)
    async with reading(stream_of(server)) as stream:
        await stream.opened()
    await sell(connection, "unit-00001")
    await server.published(connection)
    async with reading(f"{stream_of(server)}?lastEventId={quote(stream.last_id)}") as back:
        snapshot = await back.next("snapshot")
        assert [each["productId"] for each in snapshot["products"]] == ["unit-00001"]


async def test_resume_works_on_another_process_and_after_a_restart(
    database_url: str, http: str, connection: Connection
) -> None:
    await add_products(connection, 3)
    async with serving(database_url, http=http) as first, serving(database_url) as second:
        async with reading(stream_of(first)) as stream:
            await stream.opened()
            await sell(connection, "unit-00000")
            await stream.next("inventory_updated")
        await sell(connection, "unit-00001")
        await second.published(connection)
        async with reading(stream_of(second), last_id=stream.last_id) as back:
            snapshot = await back.next("snapshot")
            assert [each["productId"] for each in snapshot["products"]] == ["unit-00001"]
    await sell(connection, "unit-00002")
    async with (
        serving(database_url, http=http) as restarted,
        reading(stream_of(restarted), last_id=back.last_id) as again,
    ):
        snapshot = await again.next("snapshot")
        assert [each["productId"] for each in snapshot["products"]] == ["unit-00002"]


async def test_a_client_ahead_of_a_process_that_lags_is_not_reset(
    server: Server, connection: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process reads once more before it judges the id."""
    await add_products(connection, 2)
    await server.published(connection)
    async with serving(database_url) as other, reading(stream_of(other)) as stream:
        await other.published(connection)
        await stream.opened()
        reads, begun = asyncio.Event(), asyncio.Event()
        read = server.source._read

        async def late(connection: Connection) -> int:
            begun.set()
            if not reads.is_set():  # slow, until somebody asks
                await asyncio.wait_for(reads.wait(), 10)
            return await read(connection)

        monkeypatch.setattr(server.source, "_read", late)
        await sell(connection, "unit-00001")
        await begun.wait()  # so no earlier read is under way
        await sell(connection, "unit-00000")
        await stream.until("inventory_updated", lambda data: data["productId"] == "unit-00000")
        assert server.hub.is_ahead(stream.last_id)
        refresh = server.source.refresh

        async def asked(timeout: float = 2.0) -> None:
            reads.set()
            await refresh(timeout)

        monkeypatch.setattr(server.source, "refresh", asked)
        async with reading(stream_of(server), last_id=stream.last_id) as back:
            assert (await back.next())["products"] == []
            assert [each.event for each in back.events] == ["snapshot"]


FORGED = [
    "nonsense", "1", ".", "aaaa.", "aaaa.1:2:", "{epoch}.1:2", "{epoch}.9:3:", "{epoch}.0:1:",
    "{epoch}.5:9:4", "{epoch}.1:999999999999:", "{epoch}.1:99999999999999999999:",
    "{epoch}.1:x:", "{epoch}.1:2:3,4", "{epoch}.\u0661:\u0662:", "\xff\xfe", "\0",
    "{epoch}.1:2000:" + ",".join(map(str, range(1, 1500))), "x" * 7000,
]  # fmt: skip


@pytest.mark.ways("direct-uvloop", "portable")
async def test_an_id_that_is_not_of_this_history_means_reset_and_everything(
    server: Server, connection: Connection
) -> None:
    """Forged, broken, from the future, of another epoch: never an error."""
    await add_products(connection, 2)
    await server.published(connection)
    url = stream_of(server, "unit-00000", "unit-00001")
    for last_id in FORGED:
        given = quote(last_id.format(epoch=server.hub.epoch))
        async with reading(f"{url}&lastEventId={given}") as stream:
            assert await stream.next("reset") == {}
            assert stream.last_id == ""
            assert len((await stream.next("snapshot"))["products"]) == 2
            assert stream.last_id.startswith(server.hub.epoch)
    async with reading(url, last_id="nonsense") as stream:
        await stream.next("reset")


async def test_a_new_epoch_ends_the_streams_and_resets_whoever_comes_back(
    server: Server, connection: Connection
) -> None:
    """After a restore: what was known may never have happened."""
    await add_products(connection, 2)
    await server.published(connection)
    before = server.hub.epoch
    async with reading(stream_of(server)) as stream:
        await stream.opened()
        async with connection.transaction():
            await connection.execute("update stream_epoch set epoch = 'beef'")
            await sell(connection, "unit-00000")
        rest = await stream.rest()
        # It may be told that what it has is stale, before it ends.
        assert [each.event for each in rest if each.event != "source"] == ["ping"]
        assert stream.retry is not None
    async with reading(stream_of(server), last_id=stream.last_id) as back:
        await back.next("reset")
        snapshot = await back.next("snapshot")
        assert sorted(each["soldQuantity"] for each in snapshot["products"]) == [0, 1]
    async with reading(stream_of(server)) as later:
        await later.opened()
        await sell(connection, "unit-00000")
        await later.next("inventory_updated")
        assert later.last_id.startswith(f"{server.hub.epoch}.")
        assert not later.last_id.startswith(f"{before}.")


async def test_whoever_joins_while_changes_pour_in_misses_nothing(
    server: Server, connection: Connection, connect: Connect
) -> None:
    """Streams are opened, cut and resumed under load; each ends with the database's numbers."""
    ids = await add_products(connection, 6)
    await server.published(connection)

    async def write(writer: Connection, own: list[str]) -> None:
        for number in range(60):
            await sell(writer, own[number % len(own)])

    async def watch(number: int) -> dict[str, int]:
        sold: dict[str, int] = {}
        last_id = None
        while True:
            async with reading(stream_of(server), last_id=last_id) as stream:
                for _ in range(5 + number):
                    data = await stream.next()
                    for each in data.get("products", [data] if "soldQuantity" in data else []):
                        sold[each["productId"]] = each["soldQuantity"]
                    if sold == expected:
                        return sold
                last_id = stream.last_id or last_id

    expected = dict.fromkeys(ids[:2], 30) | dict.fromkeys(ids[2:], 15)
    writers = [await connect(), await connect()]
    writers_at_work = [
        asyncio.create_task(write(*each)) for each in zip(writers, (ids[:2], ids[2:]), strict=True)
    ]
    async with asyncio.timeout(30):
        for sold in await asyncio.gather(*map(watch, range(4))):
            assert sold == expected
    await asyncio.gather(*writers_at_work)
    await server.published(connection)
    await assert_complete(server.hub, connection)


async def test_an_id_of_other_products_gets_everything(
    server: Server, connection: Connection
) -> None:
    """Not what has changed since: of the others the client knows nothing. No reset is needed."""
    await add_products(connection, 3)
    await server.published(connection)
    async with reading(stream_of(server, "unit-00001")) as stream:
        await stream.next("snapshot")
    last_id = stream.last_id
    for ids in (("unit-00001", "unit-00002", "nobody"), ("unit-00002",)):
        url = stream_of(server, *ids)
        asked = "&" if "?" in url else "?"
        async with (
            reading(url, last_id=last_id) as by_header,
            reading(f"{url}{asked}lastEventId={quote(last_id)}") as by_query,
        ):
            for back in (by_header, by_query):
                snapshot = await back.next()
                known = {each["productId"] for each in snapshot["products"]}
                assert known | set(snapshot["unknown"]) == set(ids)
                assert [each.event for each in back.events] == ["snapshot"]
    async with reading(stream_of(server), last_id=last_id) as everything:
        await everything.next("reset")
        assert len((await everything.next("snapshot"))["products"]) == 3
    for known_form in (last_id, last_id.rpartition(".")[0]):  # as ids were before
        async with reading(stream_of(server, "unit-00001"), last_id=known_form) as same:
            assert (await same.next("snapshot"))["products"] == []
