"""Counts of external systems that come late, twice, or in any order."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count as counting
from typing import Any, TypeAlias

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_server.database.pool import Pool
from stream_server.database.transactions import Row
from stream_server.errors import InvalidRequest
from stream_server.inventory.counts import Count, apply_counts, check_lag, read_lags
from stream_server.metrics import Metrics
from tests.support.invariants import assert_log_replays
from tests.support.office import Office
from tests.support.surroundings import opened

Connection: TypeAlias = "asyncpg.Connection[Any]"
Connect: TypeAlias = Callable[[], Awaitable[Connection]]

MAX = 2**31 - 1  # Postgres's integer

REPORT = """
select outcome, max_after from apply_counts($1, $2,
    jsonb_build_array(jsonb_build_object('productId', $3::text, 'variantId', $4::text,
                                         'count', $5::integer)), 'scanner')
"""


@pytest.fixture
async def db(connection: Connection) -> Connection:
    """100 caps of which 10 are sold, 30 shirts of two sizes, and books without a limit."""
    await connection.execute(
        """
        insert into products (id, name, base_price, max_quantity, sold_quantity) values
            ('cap', 'Cap', 900, 100, 10), ('shirt', 'Shirt', 900, 30, 0);
        insert into products (id, name, base_price) values ('book', 'Book', 900);
        insert into variants (id, product_id, variant_value, max_quantity) values
            ('shirt-s', 'shirt', 'S', 10), ('shirt-m', 'shirt', 'M', 20);
        """
    )
    return connection


async def now(db: Connection) -> datetime:
    at: datetime = await db.fetchval("select clock_timestamp()")
    return at


async def report(
    db: Connection,
    units: int,
    at: datetime,
    *,
    source: str = "erp",
    product: str = "cap",
    variant: str | None = None,
) -> str:
    row = await db.fetchrow(REPORT, source, at, product, variant, units)
    assert row is not None
    outcome: str = row["outcome"]
    return outcome


async def available(db: Connection, id_: str = "cap") -> int | None:
    number: int | None = await db.fetchval(
        "select available_quantity from products where id = $1 union all"
        " select available_quantity from variants where id = $1",
        id_,
    )
    return number


async def alerts(db: Connection) -> list[tuple[str, str]]:
    rows = await db.fetch(
        "select level, message from stock_alerts where closed_at is null"
        " and level in ('sync', 'lag') order by id"
    )
    return [(row["level"], row["message"]) for row in rows]


class TestCorrection:
    async def test_sales_since_the_count_are_taken_off(self, db: Connection) -> None:
        counted = await now(db)
        await db.execute("update products set sold_quantity = sold_quantity + 5 where id = 'cap'")
        assert await report(db, 60, counted) == "applied"
        assert await available(db) == 55

    async def test_units_on_hold_lay_there_when_they_were_counted(self, db: Connection) -> None:
        await db.execute("update products set reserved_quantity = 4 where id = 'cap'")
        counted = await now(db)
        await db.execute(
            "update products set reserved_quantity = 0, sold_quantity = sold_quantity + 4"
            " where id = 'cap'"
        )
        assert await report(db, 60, counted) == "applied"
        assert await available(db) == 56

    async def test_a_delivery_since_the_count_is_added(self, db: Connection) -> None:
        counted = await now(db)
        await db.execute("update products set max_quantity = max_quantity + 40 where id = 'cap'")
        await report(db, 60, counted)
        assert await available(db) == 100

    async def test_a_correction_by_an_earlier_report_is_no_delivery(self, db: Connection) -> None:
        first, second = await now(db), await now(db)
        assert await report(db, 60, first) == "applied"
        assert await report(db, 58, second) == "applied"
        assert await available(db) == 58

    async def test_an_older_report_does_not_undo_a_newer_one_from_anywhere(
        self, db: Connection
    ) -> None:
        first = await now(db)
        second = await now(db)
        assert await report(db, 60, second) == "applied"
        assert await report(db, 70, first) == "superseded"
        assert await report(db, 70, first, source="warehouse") == "superseded"
        assert await report(db, 60, second) == "superseded"
        assert await available(db) == 60

    async def test_a_count_by_hand_is_newer_than_a_report_from_before_it(
        self, db: Connection
    ) -> None:
        counted = await now(db)
        await db.execute("select set_stock('cap', null, 33, 'count')")
        assert await report(db, 60, counted) == "superseded"
        assert await available(db) == 33

    async def test_a_report_that_says_what_is_known_writes_nothing(self, db: Connection) -> None:
        before = await db.fetchval("select max(id) from inventory_log")
        assert await report(db, 90, await now(db)) == "unchanged"
        assert await db.fetchval("select max(id) from inventory_log") == before

    async def test_too_few_for_what_is_sold_and_reserved_leaves_none_and_alerts(
        self, db: Connection
    ) -> None:
        await db.execute("update products set reserved_quantity = 7 where id = 'cap'")
        assert await report(db, 4, await now(db)) == "clamped"
        assert await available(db) == 0
        assert await alerts(db) == [
            ("sync", "erp counted 4, which is 3 fewer than are sold and reserved")
        ]
        assert await report(db, 7, await now(db)) == "unchanged"
        assert await alerts(db) == []

    async def test_a_variant_moves_a_product_that_is_the_sum_of_its_variants(
        self, db: Connection
    ) -> None:
        assert await report(db, 14, await now(db), product="shirt", variant="shirt-s") == "applied"
        assert await available(db, "shirt-s") == 14
        assert await available(db, "shirt") == 34
        await db.execute("update products set sold_quantity = 33 where id = 'shirt'")
        assert await report(db, 0, await now(db), product="shirt", variant="shirt-m") == "clamped"
        assert await available(db, "shirt") == 0
        await assert_log_replays(db)

    @pytest.mark.parametrize(
        ("product", "variant", "outcome"),
        [
            ("hat", None, "unknown"),
            ("cap", "shirt-s", "unknown"),
            ("shirt", "shirt-xl", "unknown"),
            ("book", None, "unlimited"),
        ],
    )
    async def test_what_cannot_be_corrected_is_told_and_left(
        self, db: Connection, product: str, variant: str | None, outcome: str
    ) -> None:
        before = await db.fetchval("select max(id) from inventory_log")
        assert await report(db, 4, await now(db), product=product, variant=variant) == outcome
        assert await db.fetchval("select max(id) from inventory_log") == before

    async def test_a_report_from_before_the_log_begins_is_too_old(self, db: Connection) -> None:
        counted = await now(db)
        await db.execute("update products set sold_quantity = 11 where id = 'cap'")
        await db.execute("update products set sold_quantity = 12 where id = 'cap'")
        begin = await db.fetchval(
            "select created_at from inventory_log where product_id = 'cap' and version = 3"
        )
        await db.execute("select prune_inventory_log(now() - $1)", begin)
        assert await report(db, 4, counted) == "too_old"
        assert await report(db, 4, begin) == "applied"

    async def test_a_product_that_is_newer_than_the_count_had_no_sales_before_it(
        self, db: Connection
    ) -> None:
        counted = await now(db)
        await db.execute(
            "insert into products (id, name, base_price, max_quantity, sold_quantity)"
            " values ('new', 'New', 1, 50, 20)"
        )
        await db.execute("update products set sold_quantity = 25 where id = 'new'")
        assert await report(db, 40, counted, product="new") == "applied"
        assert await available(db, "new") == 35

    async def test_the_future_is_refused(self, pool: Pool, db: Connection) -> None:
        late = datetime.now(UTC) + timedelta(hours=1)
        with pytest.raises(InvalidRequest, match="occurredAt must be in the past"):
            await apply_counts(
                pool, source="erp", occurred_at=late, counts=[Count("cap", None, 1)], actor="a"
            )
        assert await db.fetchval("select count(*) from sync_state") == 0

    async def test_the_log_says_who_from_where_and_of_when(self, db: Connection) -> None:
        async with db.transaction():
            await db.execute("select set_config('stream_server.note', 'before', true)")
            await report(db, 4, datetime(2026, 1, 2, tzinfo=UTC) + timedelta(0))
            assert await db.fetchval("select current_setting('stream_server.note')") == "before"
            assert not await db.fetchval("select current_setting('stream_server.actor', true)")
        row = await db.fetchrow(
            "select operation, reason, actor, reference, note from inventory_log"
            " order by id desc limit 1"
        )
        assert row is not None
        assert tuple(row)[:4] == ("sync", "count", "scanner", "erp")
        assert row["note"].startswith("counted 2026-01-02 00:00:00")

    async def test_a_count_that_no_column_holds_beside_what_is_sold_is_named(
        self, pool: Pool, db: Connection
    ) -> None:
        await db.execute("update products set sold_quantity = 4 where id = 'shirt'")
        await db.execute("update variants set sold_quantity = 4 where id = 'shirt-m'")
        for counts, name, most in (
            ([Count("shirt", None, 1), Count("cap", None, MAX)], "counts[1].count", MAX - 10),
            # The other size's 10 belong to the product's maximum.
            ([Count("shirt", "shirt-m", MAX)], "counts[0].count", MAX - 4 - 10),
        ):
            with pytest.raises(InvalidRequest) as raised:
                await send(pool, db, *counts)
            assert (raised.value.field, raised.value.expected) == (name, f"at most {most}")
            fits = Count(counts[-1].product_id, counts[-1].variant_id, most)
            assert [row["outcome"] for row in await send(pool, db, fits)] == ["applied"]
        assert await available(db) == MAX - 10
        assert (await send(pool, db, Count("cap", None, MAX - 11)))[0]["available"] == MAX - 11
        assert await available(db, "shirt") == MAX - 4
        await assert_log_replays(db)

    @pytest.mark.parametrize("variant", [None, "shirt-m"])
    async def test_units_that_are_sold_but_still_lie_there_do_not_go_on_sale_again(
        self, pool: Pool, db: Connection, variant: str | None
    ) -> None:
        product = "shirt" if variant else "cap"
        for table, id_ in (("products", product), ("variants", variant)):
            await db.execute(f"update {table} set sold_quantity = 10 where id = $1", id_)
        before = await available(db, variant or product)
        assert before is not None

        [row] = await send(pool, db, Count(product, variant, before + 10, sold_on_shelf=10))
        assert (row["outcome"], row["available"]) == ("unchanged", before)
        [row] = await send(pool, db, Count(product, variant, before + 4, sold_on_shelf=6))
        assert (row["outcome"], row["available"]) == ("applied", before - 2)
        [row] = await send(pool, db, Count(product, variant, 5, sold_on_shelf=5))
        assert (row["outcome"], row["available"]) == ("applied", 0)

    @pytest.mark.parametrize("variant", [None, "shirt-m"])
    async def test_a_source_that_cannot_tell_sold_units_apart_has_a_time_for_which_they_lie_there(
        self, pool: Pool, db: Connection, variant: str | None
    ) -> None:
        product = "shirt" if variant else "cap"
        for table, id_ in (("products", product), ("variants", variant)):
            await db.execute(
                f"update {table} set sold_quantity = sold_quantity + 10 where id = $1", id_
            )
        before = await available(db, variant or product)
        assert before is not None
        count = Count(product, variant, before + 10)
        await send(pool, db, replace(count, sold_on_shelf=10))
        for sends_within, sold_on_shelf, left in (
            ("1 hour", None, before),
            ("1 hour", 4, before + 6),
            ("1 hour", 0, before + 10),
            ("1 hour", None, before),
            ("1 microsecond", None, before + 10),
        ):
            await db.execute(f"update sync_state set sends_within = '{sends_within}'")
            [row] = await send(pool, db, replace(count, sold_on_shelf=sold_on_shelf))
            assert row["available"] == left
        await db.execute("update sync_state set sends_within = '1 hour'")
        [row] = await send(pool, db, Count(product, variant, 3))  # fewer than were sold
        assert row["available"] == 0

    @pytest.mark.parametrize("number", [-1, 3])
    async def test_more_sold_units_than_were_counted_are_refused(
        self, db: Connection, number: int
    ) -> None:
        counts = f'[{{"productId": "cap", "count": 2, "soldOnShelf": {number}}}]'
        with pytest.raises(
            asyncpg.PostgresError, match=r"counts\[0\].soldOnShelf must be"
        ) as raised:
            await db.execute("select apply_counts('erp', now(), $1)", counts)
        assert raised.value.sqlstate == "SS001"

    @pytest.mark.parametrize("number", [-1, 2**31])
    async def test_a_count_in_sql_that_is_out_of_bounds_is_named(
        self, db: Connection, number: int
    ) -> None:
        counts = f'[{{"productId": "cap", "count": 1}}, {{"productId": "hat", "count": {number}}}]'
        with pytest.raises(asyncpg.PostgresError, match=r"counts\[1\].count must be") as raised:
            await db.execute("select apply_counts('erp', now(), $1)", counts)
        assert raised.value.sqlstate == "SS001"

    async def test_reports_and_sales_at_the_same_time_neither_block_for_ever_nor_lose_a_sale(
        self, db: Connection, connect: Connect, pool: Pool
    ) -> None:
        """Reports with all products in one order, sales in another."""
        ids = [f"p{number}" for number in range(6)]
        await db.execute(
            "insert into products (id, name, base_price, max_quantity)"
            " select id, id, 1, 10000 from unnest($1::text[]) id",
            ids,
        )
        connections = [await connect() for _ in range(4)]

        async def sell(connection: Connection) -> None:
            for turn in range(40):
                await connection.execute(
                    "update products set sold_quantity = sold_quantity + 1 where id = $1",
                    ids[turn % 6],
                )

        async def send(source: str) -> None:
            for _ in range(20):
                await apply_counts(
                    pool,
                    source=source,
                    occurred_at=await now_of(pool),
                    counts=[Count(id_, None, 5000) for id_ in reversed(ids)],
                    actor=source,
                )

        await asyncio.gather(*map(sell, connections), send("erp"), send("warehouse"))
        assert (
            await db.fetchval("select sum(sold_quantity) from products where id like 'p%'") == 160
        )
        await assert_log_replays(db)


class TestSources:
    async def test_there_are_100_at_most_and_those_go_on_reporting(
        self, pool: Pool, db: Connection
    ) -> None:
        for number in range(100):
            await report(db, 90, await now(db), source=f"till {number}")
        with pytest.raises(InvalidRequest, match="source must be one of the 100"):
            await send(pool, db, Count("cap", None, 90))
        assert await report(db, 80, await now(db), source="till 99") == "applied"

    async def test_the_metric_and_the_alert_of_one_that_was_deleted_go(
        self, pool: Pool, db: Connection
    ) -> None:
        metrics = Metrics()

        async def look() -> tuple[list[tuple[str, str]], set[str]]:
            await check_lag(pool, timedelta(minutes=1))
            metrics.set_sync_lags(await read_lags(pool))
            text = metrics.render(open_streams={}, products=0).decode()
            return await alerts(db), set(re.findall(r'sync_lag_seconds\{source="(.*?)"\}', text))

        late = await now(db) - timedelta(hours=1)
        await report(db, 90, late, source="erp")
        await report(db, 90, await now(db), source="till")
        assert [level for level, _ in (await look())[0]] == ["lag"]
        assert (await look())[1] == {"erp", "till"}

        await db.execute("delete from sync_counts; delete from sync_state where source = 'erp'")
        assert await look() == ([], {"till"})


async def send(pool: Pool, db: Connection, *counts: Count) -> list[Row]:
    return await apply_counts(
        pool, source="erp", occurred_at=await now(db), counts=counts, actor="a"
    )


async def now_of(pool: Pool) -> datetime:
    at: datetime = await pool.fetch_val("select clock_timestamp()")
    return at


@dataclass
class Model:
    """A shelf, and reports about it, in plain Python: what the database has to agree with."""

    max: int = 100
    sold: int = 0
    reserved: int = 0
    moves: list[tuple[datetime, int, int]] = field(default_factory=list)  # when, sold, came
    newest: datetime | None = None
    is_alarmed: bool = False

    @property
    def available(self) -> int:
        return self.max - self.sold - self.reserved

    def report(self, at: datetime, units: int) -> str:
        if self.newest is not None and at <= self.newest:
            return "superseded"
        self.newest = at
        sold_then = self.sold - sum(sold for when, sold, _ in self.moves if when > at)
        came_since = sum(came for when, _, came in self.moves if when > at)
        wanted = units + sold_then + came_since
        least = self.sold + self.reserved
        before, self.max = self.max, max(wanted, least)
        self.is_alarmed = wanted < least
        return "clamped" if self.is_alarmed else "applied" if self.max != before else "unchanged"


units = st.integers(1, 30)
actions = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["sell", "hold", "release", "come", "go"]), units),
        st.tuples(st.just("look"), units),
        st.tuples(st.just("report"), st.integers(0, 5)),
    ),
    min_size=1,
    max_size=25,
)
numbers = counting()


@given(actions=actions, of_variant=st.booleans())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whenever_and_in_whatever_order_reports_come_the_shelf_is_as_a_plain_model_says(
    database_url: str, actions: list[tuple[str, int]], of_variant: bool
) -> None:
    asyncio.run(_compare(database_url, actions, of_variant))


async def _compare(url: str, actions: list[tuple[str, int]], of_variant: bool) -> None:
    db: Connection = await opened(url)
    try:
        id_ = f"shelf-{next(numbers)}"
        await db.execute(
            "insert into products (id, name, base_price, max_quantity) values ($1, 'S', 1, $2)",
            id_,
            None if of_variant else 100,
        )
        table, variant = "products", None
        if of_variant:
            table, variant = "variants", id_
            await db.execute(
                "insert into variants (id, product_id, variant_value, max_quantity)"
                " values ($1, $1, 'V', 100)",
                id_,
            )
        model = Model()
        seen: list[tuple[datetime, int]] = []
        for action, number in actions:
            sold = reserved = came = 0
            match action:
                case "sell":
                    sold = min(number, model.available)
                case "hold":
                    reserved = min(number, model.available)
                case "release":
                    reserved = -min(number, model.reserved)
                case "come":
                    came = number
                case "go":
                    came = -min(number, model.available)
                case "look":
                    # What lies there, give or take: counts are wrong at times.
                    lying = model.max - model.sold
                    seen.append((await now(db), max(0, lying + number - 15)))
                case "report" if seen:
                    at, counted = seen[number % len(seen)]
                    source = ("erp", "warehouse")[number % 2]
                    outcome = await report(
                        db, counted, at, source=source, product=id_, variant=variant
                    )
                    assert outcome == model.report(at, counted)
            if of_variant and (sold or reserved):  # a sale moves the product, too
                await db.execute(
                    "update products set sold_quantity = sold_quantity + $2,"
                    " reserved_quantity = reserved_quantity + $3 where id = $1",
                    id_,
                    sold,
                    reserved,
                )
            if sold or reserved or came:
                at = await db.fetchval(
                    f"update {table} set sold_quantity = sold_quantity + $2,"
                    " reserved_quantity = reserved_quantity + $3, max_quantity = max_quantity + $4"
                    " where id = $1 returning updated_at",
                    id_,
                    sold,
                    reserved,
                    came,
                )
                model.sold += sold
                model.reserved += reserved
                model.max += came
                model.moves.append((at, sold, came))
            row = await db.fetchrow(
                f"select max_quantity, sold_quantity, reserved_quantity from {table} where id = $1",
                id_,
            )
            assert row is not None
            assert tuple(row) == (model.max, model.sold, model.reserved)
            open_alerts = await db.fetchval(
                "select count(*) from stock_alerts where product_id = $1 and level = 'sync'"
                " and closed_at is null",
                id_,
            )
            assert open_alerts == model.is_alarmed
    finally:
        await db.close()


class TestLag:
    async def test_a_source_that_is_late_has_an_alert_until_it_reports_again(
        self, db: Connection
    ) -> None:
        await report(db, 90, await now(db) - timedelta(minutes=61))
        await db.execute("select check_sync_lag('60 minutes')")
        await db.execute("select check_sync_lag('60 minutes')")
        late = ("lag", "The newest count of erp is older than 60 minutes")
        assert await alerts(db) == [late]
        await report(db, 90, await now(db))
        await db.execute("select check_sync_lag('60 minutes')")
        assert await alerts(db) == []

    async def test_a_source_may_have_a_limit_of_its_own(self, db: Connection) -> None:
        await report(db, 90, await now(db) - timedelta(minutes=61))
        await db.execute("update sync_state set lag_limit = '2 hours'")
        await db.execute("select check_sync_lag('60 minutes')")
        assert await alerts(db) == []

    async def test_an_old_report_does_not_make_a_source_late(self, db: Connection) -> None:
        await report(db, 90, await now(db))
        await report(db, 90, await now(db) - timedelta(days=2))
        row = await db.fetchrow("select * from check_sync_lag('60 minutes')")
        assert row is not None
        assert not row["is_late"]
        delay = await db.fetchval("select last_delay from sync_state")
        assert delay > timedelta(days=1)


class TestOverHTTP:
    async def test_a_report_is_answered_with_what_became_of_each_count(
        self, office: Office, db: Connection
    ) -> None:
        body = {
            "source": "erp",
            "occurredAt": (await now(db)).isoformat(),
            "counts": [
                {"productId": "shirt", "variantId": "shirt-s", "count": 8},
                {"productId": "cap", "count": 50},
                {"productId": "hat", "count": 50},
            ],
        }
        answer = await office.shop.post("/api/admin/sync", json=body)
        assert answer.status_code == 200
        assert answer.json()["data"] == [
            {
                "productId": "cap",
                "variantId": None,
                "outcome": "applied",
                "count": 50,
                "movedSince": 0,
                "maxQuantity": 60,
                "availableQuantity": 50,
            },
            {
                "productId": "hat",
                "variantId": None,
                "outcome": "unknown",
                "count": 50,
                "movedSince": None,
                "maxQuantity": None,
                "availableQuantity": None,
            },
            {
                "productId": "shirt",
                "variantId": "shirt-s",
                "outcome": "applied",
                "count": 8,
                "movedSince": 0,
                "maxQuantity": 8,
                "availableQuantity": 8,
            },
        ]
        again = await office.shop.post("/api/admin/sync", json=body)
        assert [each["outcome"] for each in again.json()["data"]] == [
            "superseded",
            "unknown",
            "superseded",
        ]
        assert (await office.anyone.post("/api/admin/sync", json=body)).status_code == 401

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"source": ""}, "source"),
            ({"source": "a\nb"}, "source"),
            ({"source": "x" * 101}, "source"),
            ({"occurredAt": "yesterday"}, "occurredAt"),
            ({"occurredAt": "2026-05-04T18:00:00"}, "occurredAt"),
            ({"occurredAt": 1770000000}, "occurredAt"),
            ({"occurredAt": "0001-01-01T00:00:00+14:00"}, "occurredAt"),
            ({"occurredAt": "2999-01-01T00:00:00Z"}, "occurredAt"),
            ({"counts": []}, "counts"),
            ({"counts": {}}, "counts"),
            ({"counts": [7]}, "counts[0]"),
            ({"counts": [{"productId": "cap"}]}, "counts[0].count"),
            ({"counts": [{"productId": "cap", "count": -1}]}, "counts[0].count"),
            ({"counts": [{"productId": "cap", "count": 1.5}]}, "counts[0].count"),
            ({"counts": [{"productId": "cap", "count": 2**31}]}, "counts[0].count"),
            ({"counts": [{"productId": "cap", "count": True}]}, "counts[0].count"),
            (
                {"counts": [{"productId": "cap", "count": 2, "soldOnShelf": 3}]},
                "counts[0].soldOnShelf",
            ),
            ({"counts": [{"productId": "c\0p", "count": 1}]}, "counts[0].productId"),
            ({"counts": [{"product": "cap", "count": 1}]}, "counts[0]"),
            ({"counts": [{"productId": "cap", "count": 1}] * 2}, "counts[1]"),
            ({"counts": [{"productId": f"{n}", "count": 1} for n in range(5001)]}, "counts"),
            ({"extra": 1}, "extra"),
        ],
    )
    async def test_a_wrong_field_is_named_and_nothing_changes(
        self, office: Office, db: Connection, change: dict[str, object], field: str
    ) -> None:
        body = {
            "source": "erp",
            "occurredAt": "2026-05-04T18:00:00Z",
            "counts": [{"productId": "cap", "count": 1}],
        }
        answer = await office.shop.post("/api/admin/sync", json=body | change)
        assert answer.status_code == 400
        assert answer.json()["error"]["details"]["field"] == field
        assert await db.fetchval("select count(*) from sync_state") == 0
        assert await available(db) == 90
