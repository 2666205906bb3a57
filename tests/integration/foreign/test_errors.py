"""Every error of Postgres has an answer: a 503 or a clear 4xx, one line in the log."""

import asyncio
import logging
import os
import sys
from datetime import timedelta
from typing import Any, TypeAlias

import asyncpg
import httpx
import pytest

from stream_server.database.pool import Pool
from stream_server.metrics import Metrics
from stream_server.worker import Worker
from tests.support.servers import until
from tests.support.shop import Shop, row

Connection: TypeAlias = "asyncpg.Connection[Any]"

UNAVAILABLE = [
    "0A000", "08006", "25006", "25P02", "26000", "34000", "38000", "39000", "42501", "42703",
    "53000", "53100", "53200", "53300", "53400", "54000", "55000", "55006", "57014", "57P01",
    "57P03", "58000", "58030", "F0000", "HV000", "P0003", "XX000", "XX001",
]  # fmt: skip
CONFLICTS = ["23505", "40001", "40P01", "55P03"]
IMPOSSIBLE = ["22000", "22012", "23000", "23502", "23503", "23514", "23P01", "44000", "P0001"]


def answers(state: str) -> tuple[int, str]:
    if state in UNAVAILABLE:
        return 503, "database_unavailable"
    if state in CONFLICTS:
        return 503, "transaction_conflict"
    return 409, "impossible_change"


async def break_products(connection: Connection, state: str) -> None:
    await connection.execute(
        f"""
        create function broken() returns trigger language plpgsql as $$
        begin raise exception 'no more' using errcode = '{state}'; end $$;
        create trigger zz before update on products for each row execute function broken();
        """
    )


async def attempts(api: Shop) -> list[httpx.Response]:
    """Each way to change stock."""
    lamp = {"productId": "lamp", "quantity": 1}
    bulb = {"productId": "bulb", "quantity": 1}
    admin, backend = api.admin, api.backend
    return [
        await api.shopper.post("/api/reservations", json={"checkoutToken": "a", "lines": [lamp]}),
        await api.shopper.post(
            "/api/reservations", json={"checkoutToken": "b", "lines": [lamp, bulb]}
        ),
        await backend.post("/api/orders", json={"lines": [lamp]}),
        await backend.post(
            "/api/orders", json={"lines": [bulb]}, headers={"Idempotency-Key": "once"}
        ),
        await admin.post(
            "/api/admin/products/lamp/adjustments", json={"change": 1, "reason": "received"}
        ),
        await admin.post(
            "/api/admin/products/lamp/price", json={"price": 1, "reason": "promotion"}
        ),
        await backend.post(
            "/api/admin/sync",
            json={
                "source": "erp",
                "occurredAt": "2026-05-04T18:00:00Z",
                "counts": [{"productId": "lamp", "count": 4}],
            },
        ),
    ]


@pytest.mark.parametrize("state", [*UNAVAILABLE, *CONFLICTS, *IMPOSSIBLE])
async def test_an_error_of_postgres_is_answered_and_told_in_a_line(
    api: Shop, shop: Connection, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = await row(shop, "select count(*), max(id) from inventory_log")
    await break_products(shop, state)
    status, code = answers(state)
    with caplog.at_level(logging.INFO):
        for answer in await attempts(api):
            if answer.request.url.path == "/api/admin/sync":
                continue  # a count from before the products were made changes nothing
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
            assert status != 503 or answer.headers["retry-after"]
    assert "Traceback" not in caplog.text
    assert await row(shop, "select count(*), max(id) from inventory_log") == before
    await shop.execute("drop trigger zz on products")


async def test_a_read_only_database_is_said_and_survived(
    api: Shop, shop: Connection, superuser: Connection, database_url: str
) -> None:
    database = await shop.fetchval("select current_database()")
    await superuser.execute(f'alter database "{database}" set default_transaction_read_only = on')
    await end_sessions(superuser)
    await until(lambda: not api.server.hub.is_live)
    await until(lambda: api.server.hub.is_live)
    ready = await api.shopper.get("/readyz")
    assert ready.status_code == 503
    assert "read-only" in ready.json()["error"]["message"]
    assert ready.headers["retry-after"]
    for answer in await attempts(api):
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "database_unavailable"
    assert (await api.shopper.get("/api/inventory/lamp")).json()["data"]["availableQuantity"] == 10
    assert (await api.shopper.get("/products/lamp")).status_code == 200
    async with Pool(database_url) as pool:
        worker = Worker(pool, Metrics(), timedelta(hours=1))
        for name, loop in worker.loops.items():
            task = asyncio.ensure_future(loop())
            done, _ = await asyncio.wait([task], timeout=0.5)
            assert not done, name
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    for command in (["new-epoch"], ["import", "-", "--format", "csv"]):
        code, said = await run(database_url, *command)
        assert code == 1
        assert said.startswith("Error: "), said
        assert "Traceback" not in said
    await superuser.execute(f'alter database "{database}" reset default_transaction_read_only')
    await end_sessions(superuser)
    await until(lambda: api.server.hub.is_live)

    async def ready_again() -> bool:
        return (await api.shopper.get("/readyz")).status_code == 200

    async with asyncio.timeout(15):
        while not await ready_again():  # noqa: ASYNC110  # as a balancer asks
            await asyncio.sleep(0.01)
    assert (await attempts(api))[2].status_code == 201


async def test_a_statement_that_takes_too_long_is_a_503(
    database_url: str, api: Shop, shop: Connection
) -> None:
    await shop.execute(
        """
        create function slow() returns trigger language plpgsql as $$
        begin perform pg_sleep(60); return new; end $$;
        create trigger zz before update on products for each row execute function slow();
        """
    )
    async with Pool(database_url, statement=0.2) as pool:
        with pytest.raises(Exception, match="took too long"):
            await pool.execute("update products set sold_quantity = 1 where id = 'lamp'")
        assert await pool.fetch_val("select 1") == 1
    await shop.execute("drop trigger zz on products")


async def test_a_role_without_rights_is_told_so_in_a_line(
    shop: Connection, database_url: str
) -> None:
    await shop.execute("revoke all on stream_server_migrations from current_user")
    for command in ("migrate", "new-epoch"):
        code, said = await run(database_url, command)
        assert code == 1
        assert said.startswith("Error: "), said
        assert "permission denied" in said
        assert len(said.splitlines()) == 1


async def end_sessions(superuser: Connection) -> None:
    await superuser.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and application_name like 'stream-server%'"
    )


async def run(database_url: str, *arguments: str) -> tuple[int, str]:
    """A command of ours; its exit code and what it said on stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", "from stream_server.cli import app; app()"),
        *arguments,
        env={**os.environ, "DATABASE_URL": database_url},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate(b"productId,maxQuantity\nlamp,20\n")
    return process.returncode or 0, said.decode()
