"""Whoever writes, from wherever, with whatever triggers: the log and the sums stay right."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, TypeAlias

import asyncpg
import pytest

from stream_server.database.pool import Pool
from stream_server.errors import ImportRejected
from stream_server.inventory.imports.models import ImportRequest
from stream_server.inventory.imports.run import import_catalogue
from stream_server.metrics import Metrics
from stream_server.worker import Worker
from tests.support.clients import reading
from tests.support.invariants import assert_log_replays
from tests.support.servers import Server, serving
from tests.support.shop import CATALOGUE
from tests.support.surroundings import IS_PLAIN, SCHEMA

Connection: TypeAlias = "asyncpg.Connection[Any]"


@pytest.fixture
async def shop(connection: Connection) -> AsyncIterator[Connection]:
    await connection.execute(CATALOGUE)
    yield connection
    await assert_log_replays(connection)


# Paths


PATHS = ("''", "pg_temp", '"$user", public') if IS_PLAIN else ("''", "decoys", "decoys, public")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "statement",
    [
        "update {0}.products set max_quantity = 1 where id = 'lamp'",
        "insert into {0}.products (id, name, base_price) values ('new', 'New', 1)",
        "update {0}.variants set max_quantity = 9 where id = 'shirt-s'",
        "insert into {0}.variants (id, product_id, variant_value) values ('xl', 'shirt', 'XL')",
        "select {0}.adjust_stock('lamp', null, 1, 'received')",
        """select {0}.reserve_stock('c', '[{{"productId": "lamp", "quantity": 1}}]')""",
        """select {0}.complete_order(cart => '[{{"productId": "lamp", "quantity": 1}}]')""",
        'select * from {0}.apply_counts(\'erp\', now(), \'[{{"productId": "lamp", "count": 4}}]\')',
    ],
)
async def test_a_writers_search_path_does_not_matter(
    shop: Connection, path: str, statement: str
) -> None:
    before = await shop.fetchval("select count(*) from inventory_log")
    await shop.execute(f"set search_path = {path}")
    await shop.execute(statement.format(f'"{SCHEMA}"'))
    await shop.execute(f'set search_path = "{SCHEMA}"')
    assert await shop.fetchval("select count(*) from inventory_log") > before


async def test_every_function_has_a_path_of_its_own(connection: Connection) -> None:
    """Or a body whose names were found when it was made."""
    functions = await connection.fetch(
        """
        select proname from pg_proc
         where pronamespace = quote_ident(current_schema())::regnamespace
           and prosqlbody is null
           and not exists (select from unnest(proconfig) setting
                            where setting = format('search_path=%I, pg_temp', current_schema()))
        """
    )
    assert functions == []


async def test_every_table_has_a_primary_key(connection: Connection) -> None:
    """Where all tables are published, rows of others can be neither changed nor deleted."""
    tables = await connection.fetch(
        """
        select relname from pg_class c
         where relkind = 'r' and relnamespace = quote_ident(current_schema())::regnamespace
           and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)
        """
    )
    assert tables == []


async def test_nothing_of_ours_lies_outside_of_the_schema(
    connection: Connection, superuser: Connection
) -> None:
    role = await connection.fetchval("select current_user")
    outside = await superuser.fetch(
        """
        select relname::text from pg_class
         where pg_get_userbyid(relowner) = $1 and relkind in ('r', 'v', 'S')
           and relnamespace <> quote_ident($2)::regnamespace
        union all
        select proname from pg_proc
         where pg_get_userbyid(proowner) = $1 and pronamespace <> quote_ident($2)::regnamespace
        """,
        role,
        SCHEMA,
    )
    assert outside == []


# A shop's own triggers


@pytest.mark.parametrize("name", ["a_first", "set_price", "zzz_last", "~"])
async def test_a_trigger_of_the_shops_may_change_the_row_before_or_after_ours(
    shop: Connection, name: str
) -> None:
    await shop.execute(
        f"""
        create function ending() returns trigger language plpgsql as $$
        begin
            new.base_price := new.base_price / 10 * 10 + 9;
            return new;
        end $$;
        create trigger "{name}" before update on products for each row execute function ending();
        """
    )
    await shop.execute("update products set description = 'bright' where id = 'lamp'")
    await shop.execute("update products set sold_quantity = 1 where id = 'lamp'")
    await shop.execute("update products set description = 'dim'")
    assert await shop.fetchval("select base_price from products where id = 'lamp'") == 4009


@pytest.mark.parametrize("name", ["a_first", "zzz_last"])
async def test_nor_does_it_matter_for_variants(shop: Connection, name: str) -> None:
    await shop.execute(
        f"""
        create function rounded() returns trigger language plpgsql as $$
        begin
            new.max_quantity := new.max_quantity / 2 * 2;
            return new;
        end $$;
        create trigger "{name}" before update on variants for each row execute function rounded();
        """
    )
    await shop.execute("update variants set sku = 'S-1' where id = 'shirt-s'")
    await shop.execute("update variants set sku = 'm' where product_id = 'shirt'")
    assert await shop.fetchval("select sum(max_quantity) from variants") == 6
    assert await shop.fetchval("select max_quantity from products where id = 'shirt'") == 6


async def test_a_trigger_that_writes_the_row_again_is_logged_twice(shop: Connection) -> None:
    await shop.execute(
        """
        create function cheaper() returns trigger language plpgsql as $$
        begin
            if new.sold_quantity > 5 and new.base_price > 100 then
                update products set base_price = 100 where id = new.id;
            end if;
            return null;
        end $$;
        create trigger aaa after update on products for each row execute function cheaper();
        """
    )
    await shop.execute("update products set sold_quantity = 6 where id = 'lamp'")


# Both tables at once


async def test_a_variant_and_then_its_product_change_in_two_statements_not_in_one(
    shop: Connection,
) -> None:
    """Postgres lets no statement change a row that its own triggers have changed."""
    variant = "update variants set variant_value = 'Small' where id = 'shirt-s' returning id"
    product = "update products set base_price = 450 where id = 'shirt' returning id"
    version = "select version from products where id = 'shirt'"
    before = await shop.fetchval(version)
    with pytest.raises(asyncpg.TriggeredDataChangeViolationError):
        await shop.execute(f"with v as ({variant}), p as ({product}) select from v, p")
    assert await shop.fetchval(version) == before
    async with shop.transaction():
        await shop.execute(variant)
        await shop.execute(product)
    assert await shop.fetchval(version) == before + 2


# Sums


async def maximum(shop: Connection) -> int | None:
    value: int | None = await shop.fetchval("select max_quantity from products where id = 'shirt'")
    return value


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("update variants set max_quantity = max_quantity + 5 where id = 'shirt-s'", 13),
        ("update variants set max_quantity = 1", 2),
        ("update variants set max_quantity = null where id = 'shirt-m'", None),
        ("insert into variants values ('xl', 'shirt', 'XL', '', null, 'active', 20)", 28),
        ("insert into variants (id, product_id, variant_value) values ('xl', 'shirt', 'XL')", 8),
        ("update variants set price = 1", 8),
    ],
)
async def test_a_product_whose_maximum_is_the_sum_of_its_variants_follows_them(
    shop: Connection, statement: str, expected: int | None
) -> None:
    await shop.execute(statement)
    assert await maximum(shop) == expected


async def test_a_limit_of_the_products_own_stays(shop: Connection) -> None:
    await shop.execute("update products set max_quantity = 6 where id = 'shirt'")
    await shop.execute("update variants set max_quantity = max_quantity + 5")
    assert await maximum(shop) == 6


async def test_a_sum_below_what_is_sold_of_the_product_is_refused(shop: Connection) -> None:
    await shop.execute("update products set sold_quantity = 7 where id = 'shirt'")
    with pytest.raises(asyncpg.CheckViolationError, match="products_not_oversold"):
        await shop.execute("update variants set max_quantity = 2")
    assert await maximum(shop) == 8


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (b"shirt,shirt-s,15\nshirt,shirt-m,13\n", 28),
        (b"shirt,shirt-s,2\n", 5),
        (b"shirt,,50\nshirt,shirt-s,15\n", 50),
        (b"shirt,,8\nshirt,shirt-s,15\nshirt,shirt-m,13\n", 8),
    ],
)
async def test_a_list_of_stock_moves_the_product_along_unless_it_says_what_its_maximum_is(
    shop: Connection, database_url: str, rows: bytes, expected: int
) -> None:
    async with Pool(database_url) as pool:
        file = b"productId,variantId,maxQuantity\n" + rows
        await import_catalogue(
            pool, file, ImportRequest(format_name="csv", actor="anna", reason="delivery")
        )
    assert await maximum(shop) == expected


async def test_an_import_that_adds_a_variant_moves_a_product_that_it_also_renames(
    shop: Connection, database_url: str
) -> None:
    file = [
        {
            "id": "shirt",
            "name": "Best shirt",
            "variants": [
                {"id": "shirt-l", "variantValue": "L", "maxQuantity": 7},
                {"id": "shirt-s", "maxQuantity": 6},
            ],
        }
    ]
    async with Pool(database_url) as pool:
        await import_catalogue(
            pool, json.dumps(file).encode(), ImportRequest(actor="anna", reason="season")
        )
    assert await maximum(shop) == 16
    assert await shop.fetchval("select name from products where id = 'shirt'") == "Best shirt"


async def test_what_is_sold_out_with_its_variants_comes_back_with_a_list_of_stock(
    shop: Connection, database_url: str
) -> None:
    async with serving(database_url) as server:
        await shop.execute(
            "select complete_order(cart => '["
            '{"productId": "shirt", "variantId": "shirt-s", "quantity": 5},'
            '{"productId": "shirt", "variantId": "shirt-m", "quantity": 3}]\')'
        )
        file = b"productId,variantId,maxQuantity\nshirt,shirt-s,8\nshirt,shirt-m,10\n"
        async with Pool(database_url) as pool:
            await import_catalogue(
                pool, file, ImportRequest(format_name="csv", actor="anna", reason="delivery")
            )
        await server.published(shop)
        product = server.hub.public("shirt")
        assert product is not None
        assert product.available_quantity == 10


async def test_an_import_that_would_oversell_the_product_by_its_variants_changes_nothing(
    shop: Connection, database_url: str
) -> None:
    await shop.execute("update products set sold_quantity = 7 where id = 'shirt'")
    file = b"productId,variantId,maxQuantity\nshirt,shirt-s,1\nshirt,shirt-m,1\n"
    async with Pool(database_url) as pool:
        with pytest.raises(ImportRejected) as caught:
            await import_catalogue(
                pool, file, ImportRequest(format_name="csv", actor="anna", reason="loss")
            )
    assert "7" in caught.value.rows[0].reason
    assert await maximum(shop) == 8


# Changes past the triggers


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("update products set max_quantity = 7 where id in ('lamp', 'bulb')", 2),
        ("update variants set status = 'discontinued' where id = 'shirt-s'", 1),
        ("update products set sold_quantity = 10 where id = 'lamp'", 1),
        ("insert into products (id, name, base_price, version) values ('raw', 'Raw', 1, 0)", 1),
        ("update products set description = 'not tracked'", 0),
    ],
)
async def test_what_came_past_the_triggers_is_found_numbered_and_logged(
    shop: Connection, superuser: Connection, statement: str, found: int
) -> None:
    """As logical replication's apply and a restore with triggers disabled do it."""
    await superuser.execute("set session_replication_role = replica")
    await superuser.execute(statement)
    assert await shop.fetchval("select log_missed_changes()") == found
    assert await shop.fetchval("select log_missed_changes()") == 0
    assert (
        await shop.fetchval("select count(*) from inventory_log where operation = 'missed'")
        == found
    )


async def test_the_worker_finds_it_and_streams_tell_it(
    shop: Connection, superuser: Connection, database_url: str
) -> None:
    async with (
        serving(database_url) as server,
        Pool(database_url) as pool,
        reading(f"{server.url}/api/inventory/lamp/stream") as stream,
    ):
        await stream.opened()
        await superuser.execute("set session_replication_role = replica")
        await superuser.execute("update products set sold_quantity = 10 where id = 'lamp'")
        metrics = Metrics()
        await Worker(pool, metrics, timedelta(hours=1)).log_missed_changes()
        event = await stream.next("inventory_updated")
        assert event["availableQuantity"] == 0
        assert metrics.registry.get_sample_value("stream_server_missed_changes_total") == 1
    assert (
        await shop.fetchval(
            "select count(*) from stock_alerts where product_id = 'lamp' and level = 'out'"
        )
        == 1
    )


async def test_what_somebody_works_on_is_left_for_another_time(
    shop: Connection, superuser: Connection
) -> None:
    await superuser.execute("set session_replication_role = replica")
    await superuser.execute("update products set max_quantity = 7 where id in ('lamp', 'bulb')")
    await superuser.execute("begin; select from products where id = 'bulb' for update")
    assert await shop.fetchval("select log_missed_changes()") == 1
    await superuser.execute("rollback")
    assert await shop.fetchval("select log_missed_changes()") == 1


# Announcements


async def test_announcements_can_be_turned_on_for_others_and_off_for_two_phase_commit(
    shop: Connection, database_url: str, superuser: Connection
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    listener: Connection = await asyncpg.connect(dsn_of(database_url))
    await listener.add_listener("stock_changes", lambda *args: heard.put_nowait(str(args[-1])))
    try:
        await shop.execute("update stream_settings set value = 'always'")
        await shop.execute("update products set max_quantity = 11 where id = 'lamp'")
        async with asyncio.timeout(10):
            assert await heard.get() == '["lamp"]'
        await shop.execute("update stream_settings set value = 'never'")
        async with serving(database_url, stream_safety_read_seconds=0.2) as server:
            await asleep(server)
            await shop.execute("begin")
            await shop.execute("update products set max_quantity = 12 where id = 'lamp'")
            await shop.execute("select raise_alert('lamp', null, 'shortfall', 'one missing')")
            await shop.execute("prepare transaction 'stock'")
            await shop.execute("commit prepared 'stock'")
            await server.published(shop)
            assert server.metric("unannounced_rows_total") == 0
        assert heard.empty()
    finally:
        listener.terminate()
    with pytest.raises(asyncpg.CheckViolationError, match="notify_mode"):
        await shop.execute("update stream_settings set value = 'sometimes'")


def dsn_of(url: str) -> str:
    return url.split("&schema=")[0]


async def asleep(server: Server) -> None:
    async with asyncio.timeout(15):
        while server.state() != "asleep":  # noqa: ASYNC110  # no event says so
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", [".", ".."])
async def test_a_new_product_has_an_id_that_an_address_can_have_and_an_old_one_goes_on(
    shop: Connection, name: str
) -> None:
    insert = "insert into products (id, name, base_price, max_quantity) values ($1, 'A', 1, 1)"
    with pytest.raises(asyncpg.CheckViolationError, match="cannot have the id"):
        await shop.execute(insert, name)
    before = shop.transaction()  # it is as if it had never been: its log does not begin with it
    await before.start()
    await shop.execute("alter table products disable trigger user")
    await shop.execute(insert, name)
    await shop.execute("alter table products enable trigger user")
    await shop.execute("update products set sold_quantity = 1 where id = $1", name)
    await before.rollback()
