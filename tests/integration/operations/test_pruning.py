"""The log and orders are forgotten by age, and nothing that is still needed goes with them."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import asyncpg
import pytest

from stream_server.database.pool import Pool
from stream_server.errors import InvalidSettings
from stream_server.metrics import Metrics
from stream_server.settings import Settings
from stream_server.worker import Worker
from tests.support.invariants import BROKEN_QUANTITIES

Connection: TypeAlias = "asyncpg.Connection[Any]"
Connect: TypeAlias = Callable[[], Awaitable[Connection]]

NEWEST = """
select product_id, variant_id, max(version) from inventory_log
 group by product_id, variant_id order by 1, 2
"""


@pytest.fixture
async def db(connection: Connection) -> Connection:
    """A cap, and a shirt of two sizes, 1000 units each."""
    await connection.execute(
        """
        insert into products (id, name, base_price, max_quantity) values
            ('cap', 'Cap', 900, 1000), ('shirt', 'Shirt', 900, 1000);
        insert into variants (id, product_id, variant_value, max_quantity) values
            ('shirt-s', 'shirt', 'S', 500), ('shirt-m', 'shirt', 'M', 500);
        """
    )
    return connection


async def change(db: Connection, times: int, table: str = "products", id_: str = "cap") -> None:
    for _ in range(times):
        await db.execute(f"update {table} set sold_quantity = sold_quantity + 1 where id = $1", id_)


async def age(db: Connection, table: str, days: int, where: str = "true") -> None:
    """Makes rows older than they are."""
    columns = ["created_at"] + (["updated_at"] if table == "orders" else [])
    sets = ", ".join(f"{each} = {each} - make_interval(days => {days})" for each in columns)
    await db.execute(
        f"alter table {table} disable trigger user; update {table} set {sets} where {where};"
        f" alter table {table} enable trigger user"
    )


async def count(db: Connection, table: str) -> int:
    number: int = await db.fetchval(f"select count(*) from {table}")
    return number


class TestTheLog:
    async def test_the_newest_row_of_each_product_and_variant_stays_however_old(
        self, db: Connection
    ) -> None:
        await change(db, 3)
        await change(db, 3, "variants", "shirt-m")
        newest = await db.fetch(NEWEST)
        await age(db, "inventory_log", 40)
        await change(db, 2)

        assert await db.fetchval("select prune_inventory_log('30 days')") == 4 + 3
        assert len(newest) == 4
        assert await count(db, "inventory_log") == 4 + 1
        kept = {(row[0], row[1]): row[2] for row in await db.fetch(NEWEST)}
        assert kept == {(row[0], row[1]): row[2] for row in newest} | {("cap", None): 6}

    async def test_it_goes_in_portions_the_oldest_first(self, db: Connection) -> None:
        await change(db, 9)
        await age(db, "inventory_log", 40)
        pruned = [await db.fetchval("select prune_inventory_log('30 days', 4)") for _ in range(4)]
        assert pruned == [4, 4, 1, 0]
        assert await count(db, "inventory_log") == 4

        await change(db, 5)
        await age(db, "inventory_log", 40, "product_id = 'cap'")
        assert await db.fetchval("select prune_inventory_log('30 days', 2)") == 2
        first, second = await db.fetch(
            "select version from inventory_log where product_id = 'cap' order by id limit 2"
        )
        assert (first[0], second[0]) == (12, 13)

    async def test_it_reads_what_is_old_and_not_the_whole_log(self, db: Connection) -> None:
        await change(db, 30)
        await age(db, "inventory_log", 40, "version < 10")
        await db.execute("analyze inventory_log")

        async def scans() -> tuple[Any, ...]:
            await db.execute("select pg_stat_force_next_flush()")
            return tuple(
                await db.fetchrow(
                    "select seq_scan, seq_tup_read from pg_stat_user_tables"
                    " where relid = 'inventory_log'::regclass"
                )
                or ()
            )

        before = await scans()
        assert await db.fetchval("select prune_inventory_log('30 days')") > 0
        assert await scans() == before

    async def test_younger_rows_stay_wherever_they_stand(self, db: Connection) -> None:
        await change(db, 20)
        await age(db, "inventory_log", 40, "product_id = 'cap' and version > 7")
        assert await db.fetchval("select prune_inventory_log('30 days')") == 13
        versions = (
            "select array_agg(version order by id) from inventory_log where product_id = 'cap'"
        )
        assert await db.fetchval(versions) == [1, 2, 3, 4, 5, 6, 7, 21]

    async def test_a_count_from_before_what_has_gone_is_too_old_and_a_later_one_is_not(
        self, db: Connection
    ) -> None:
        """Of the product the newest row stays, so that its log seems to reach back."""

        async def moment() -> datetime:
            at: datetime = await db.fetchval("select clock_timestamp()")
            return at

        async def outcome(at: datetime, product: str = "cap", variant: str | None = None) -> str:
            counts = [{"productId": product, "variantId": variant, "count": 500}]
            row = await db.fetchrow(
                "select outcome, available from apply_counts('erp', $1, $2)", at, json.dumps(counts)
            )
            assert row is not None
            return f"{row['outcome']} {row['available']}"

        await change(db, 1, "variants", "shirt-s")
        early = await moment()
        await change(db, 3, "variants", "shirt-m")
        between = await moment()
        await change(db, 2, "variants", "shirt-m")
        await change(db, 2)
        boundary = await moment()
        await change(db, 5, "variants", "shirt-m")
        await change(db, 5)

        transaction = db.transaction()
        await transaction.start()
        assert await outcome(between, "shirt", "shirt-m") == "applied 493"
        await transaction.rollback()
        await db.execute("select prune_inventory_log(now() - $1)", boundary)
        for at in (early, between):
            assert (await outcome(at, "shirt", "shirt-m")).startswith("too_old")
            assert (await outcome(at)).startswith("too_old")
        assert await outcome(boundary, "shirt", "shirt-m") == "applied 495"
        assert await outcome(boundary) == "applied 495"

    async def test_a_product_that_changed_once_since_may_be_counted_though_nothing_older_is_left(
        self, db: Connection
    ) -> None:
        await change(db, 2)
        counted = await db.fetchval("select clock_timestamp()")
        await change(db, 1)
        await db.execute("select prune_inventory_log(now() - $1)", counted)
        counts = json.dumps([{"productId": "cap", "count": 500}])
        row = await db.fetchrow("select * from apply_counts('erp', $1, $2)", counted, counts)
        assert row is not None
        assert (row["outcome"], row["available"]) == ("applied", 499)

    async def test_the_horizon_never_goes_back(self, db: Connection) -> None:
        horizon = "select value::timestamptz from stream_settings where name = 'log_pruned_before'"
        await change(db, 2)
        assert await db.fetchval("select prune_inventory_log('1 day')") == 0
        assert await db.fetchval(horizon) is None
        newest = await db.fetchval(
            "select created_at from inventory_log where product_id = 'cap' and version = 2"
        )
        await db.execute("set datestyle = 'SQL, DMY'; set timezone = 'Asia/Kathmandu'")
        await db.execute("select prune_inventory_log('0 days')")
        assert await db.fetchval(horizon) >= newest
        before = await db.fetchval(horizon)
        await change(db, 2)
        await age(db, "inventory_log", 40, "product_id = 'cap'")
        assert await db.fetchval("select prune_inventory_log('1 day')") > 0
        assert await db.fetchval(horizon) == before

    async def test_workers_share_it_and_forget_nothing_without_the_setting(
        self, pool: Pool, db: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("stream_server.worker.PRUNED_AT_ONCE", 3)
        await change(db, 12)
        await age(db, "inventory_log", 40)
        before = await count(db, "inventory_log")
        lag = timedelta(minutes=1)
        await Worker(pool, Metrics(), lag).prune()
        assert await count(db, "inventory_log") == before
        keep = timedelta(days=30)
        workers = [Worker(pool, Metrics(), lag, keep_log=keep) for _ in range(3)]
        await asyncio.gather(*(each.prune() for each in workers))
        assert await count(db, "inventory_log") == 4


async def order(
    db: Connection, payment: str, units: int = 1, hold: bool = True, record: bool = False
) -> tuple[int, str | None]:
    """Its id, and the token of the hold that it was."""
    cart = json.dumps([{"productId": "shirt", "variantId": "shirt-s", "quantity": units}])
    token = None
    if hold:
        token = json.loads(await db.fetchval("select reserve_stock($1, $2)", payment, cart))[
            "token"
        ]
    placed = await db.fetchval(
        "select complete_order($1, $2, $3, $4)", token, None if hold else cart, payment, record
    )
    return json.loads(placed)["orderId"], token


class TestOrders:
    async def test_old_ones_go_with_their_holds_and_what_they_sold_stays_sold(
        self, db: Connection
    ) -> None:
        old, token = await order(db, "pi_1", 2)
        bare, _ = await order(db, "pi_2", 3, hold=False)
        refunded, _ = await order(db, "pi_3")
        await db.execute("select refund_order($1)", refunded)
        await age(db, "orders", 400)
        young, _ = await order(db, "pi_4")

        assert await db.fetchval("select prune_orders('365 days')") == 3
        assert [row[0] for row in await db.fetch("select id from orders")] == [young]
        assert await count(db, "order_lines") == await count(db, "reservations") == 1
        assert await count(db, "reservation_lines") == 1
        assert await db.fetchval("select sold_quantity from variants where id = 'shirt-s'") == 6
        assert not await db.fetch(BROKEN_QUANTITIES)
        assert old < bare < refunded < young
        for call, value, code in (
            ("refund_order($1)", old, "SS009"),
            ("cancel_order($1)", bare, "SS009"),
            ("complete_order($1)", token, "SS004"),
            ("find_reservation($1)", token, "SS004"),
        ):
            with pytest.raises(asyncpg.PostgresError) as raised:
                await db.execute(f"select {call}", value)
            assert raised.value.sqlstate == code

    async def test_shortfalls_and_orders_that_were_changed_lately_stay(
        self, db: Connection
    ) -> None:
        short, _ = await order(db, "pi_1", 600, hold=False, record=True)
        alert = "select count(*) from stock_alerts where level = 'shortfall' and closed_at is null"
        assert await db.fetchval(alert) == 1
        paid, _ = await order(db, "pi_2", hold=False, record=True)
        await age(db, "orders", 400)
        await db.execute("select refund_order($1)", paid)

        assert await db.fetchval("select prune_orders('365 days')") == 0
        assert await count(db, "orders") == 2
        assert await db.fetchval(alert) == 1
        await db.execute("select cancel_order($1)", short)
        assert await db.fetchval(alert) == 0

    async def test_it_goes_in_portions_the_oldest_first_and_passes_by_what_is_locked(
        self, db: Connection, connect: Connect
    ) -> None:
        ids = [(await order(db, f"pi_{number}"))[0] for number in range(6)]
        await age(db, "orders", 400)
        other = await connect()
        async with other.transaction():
            await other.execute("select from orders where id = $1 for update", ids[0])
            await other.execute(
                "select from reservations r where exists (select from orders o"
                " where o.reservation_id = r.id and o.id = $1) for update",
                ids[1],
            )
            assert await db.fetchval("select prune_orders('365 days', 4)") == 2
        left = [row[0] for row in await db.fetch("select id from orders order by id")]
        assert left == [ids[0], ids[1], *ids[4:]]
        assert await db.fetchval("select prune_orders('365 days', 4)") == 4

    async def test_workers_share_it_and_forget_nothing_without_the_setting(
        self, pool: Pool, db: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("stream_server.worker.ORDERS_AT_ONCE", 2)
        for number in range(7):
            await order(db, f"pi_{number}")
        await age(db, "orders", 400)
        lag = timedelta(minutes=1)
        await Worker(pool, Metrics(), lag).prune()
        assert await count(db, "orders") == 7
        keep = timedelta(days=365)
        workers = [Worker(pool, Metrics(), lag, keep_orders=keep) for _ in range(3)]
        await asyncio.gather(*(each.prune() for each in workers))
        await workers[0].prune()
        assert await count(db, "orders") == 0


def test_orders_are_kept_for_longer_than_payments_are_reported_again() -> None:
    assert Settings.load({"order_keep_days": 30}).order_keep_days == 30
    with pytest.raises(InvalidSettings, match="must be 0, or 30 at least"):
        Settings.load({"order_keep_days": 29})
