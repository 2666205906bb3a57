"""Bulk imports by admins over HTTP."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import asyncpg
import pytest

from stream_server.inventory.imports.record import LOCK
from tests.support.clients import calling
from tests.support.office import Office
from tests.support.servers import serving
from tests.support.shop import SECRET, bearer

Connection: TypeAlias = "asyncpg.Connection[Any]"

CSV = {"Content-Type": "text/csv; charset=utf-8"}
JSON = {"Content-Type": "application/json"}
GOOD = b"productId,name,basePrice,maxQuantity\r\nCap,Cap,900,20\r\nHat,Hat,1900,\r\n"
BAD = b"productId,name,basePrice,maxQuantity\r\nCap,Cap,900,20\r\nHat,Hat,19.00,\r\n"
IMPORTS = "/api/admin/imports"
IN_TRANSACTION = """
select count(distinct l.pid) from pg_locks l join pg_stat_activity a using (pid)
 where l.locktype = 'advisory' and l.classid = $1 and a.datname = current_database()
"""


async def products(connection: Connection) -> int:
    number: int = await connection.fetchval("select count(*) from products")
    return number


async def test_a_file_is_imported_and_the_answer_is_its_record(
    office: Office, connection: Connection
) -> None:
    answer = await office.admin.post(f"{IMPORTS}?name=caps.csv", content=GOOD, headers=CSV)
    assert answer.status_code == 200
    batch = answer.json()["data"]
    assert (batch["name"], batch["format"], batch["actor"]) == ("caps.csv", "csv", "the admin")
    assert (batch["status"], batch["rows"], batch["created"]) == ("completed", 2, 2)
    assert batch["reason"] == "import of caps.csv"
    assert batch["sizeBytes"] == len(GOOD)
    assert batch["startedAt"] <= batch["finishedAt"]
    assert (await office.admin.get(f"{IMPORTS}/{batch['importId']}")).json()["data"] == batch
    assert (await office.admin.get(IMPORTS)).json() == {
        "success": True,
        "data": [batch],
        "next": None,
    }
    assert (
        await connection.fetchval("select distinct batch_id from inventory_log")
        == (batch["importId"])
    )


async def test_json_is_taken_too(office: Office, connection: Connection) -> None:
    file = json.dumps([{"id": "Cap", "name": "Cap", "basePrice": 900}]).encode()
    assert (await office.admin.post(IMPORTS, content=file, headers=JSON)).status_code == 200
    named = await office.admin.post(f"{IMPORTS}?format=csv", content=GOOD, headers=JSON)
    assert named.status_code == 200
    assert await products(connection) == 2


async def test_a_rejected_file_is_answered_with_each_mistake(
    office: Office, connection: Connection
) -> None:
    answer = await office.admin.post(IMPORTS, content=BAD, headers=CSV)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert (error["code"], error["message"]) == (
        "import_rejected",
        "1 mistake found; nothing was changed",
    )
    reason = "basePrice: expected a whole number of cents, 0 to 2147483647, got '19.00'"
    rows = [{"line": 3, "column": 3, "reason": reason, "id": "Hat"}]
    import_id = error["details"].pop("importId")
    assert error["details"] == {"count": 1, "rows": rows}
    batch = (await office.admin.get(f"{IMPORTS}/{import_id}")).json()["data"]
    assert (batch["status"], batch["errorCount"], batch["errors"]) == ("rejected", 1, rows)
    assert await products(connection) == 0


async def test_a_dry_run_changes_nothing(office: Office, connection: Connection) -> None:
    answer = await office.admin.post(f"{IMPORTS}?dryRun=true", content=GOOD, headers=CSV)
    batch = answer.json()["data"]
    assert (batch["dryRun"], batch["status"], batch["created"]) == (True, "completed", 2)
    assert await products(connection) == 0


async def test_who_does_not_wait_is_told_where_to_ask(
    office: Office, connection: Connection
) -> None:
    await office.admin.post(IMPORTS, content=GOOD, headers=CSV)
    holder = connection.transaction()
    await holder.start()
    await connection.execute("select from products for update")
    new = GOOD.replace(b"20", b"30")
    answer = await office.admin.post(f"{IMPORTS}?wait=0", content=new, headers=CSV)
    assert answer.status_code == 202
    place = answer.headers["location"]
    assert place == f"{IMPORTS}/{answer.json()['data']['importId']}"
    assert (await office.admin.get(place)).json()["data"]["status"] == "running"
    await holder.rollback()
    await _until(office, place, lambda batch: batch["status"] == "completed")
    assert await connection.fetchval("select max(max_quantity) from products") == 30


@pytest.mark.settings(database_pool_size=3)
async def test_imports_that_wait_leave_the_shop_its_connections(
    office: Office, connection: Connection
) -> None:
    """One of them holds a connection while it waits for a row; those behind it hold none."""
    await office.admin.post(IMPORTS, content=GOOD, headers=CSV)
    await connection.execute("insert into products (id, name, base_price) values ('Book', 'B', 1)")
    holder = connection.transaction()
    await holder.start()
    await connection.execute("select from products where id = 'Cap' for update")
    places = []
    for most in (b"31", b"32", b"33", b"34"):
        answer = await office.admin.post(
            f"{IMPORTS}?wait=0", content=GOOD.replace(b"20", most), headers=CSV
        )
        assert answer.status_code == 202
        places.append(answer.headers["location"])
    await _until_an_import_waits(connection)
    for number in range(5):
        cart = {"checkoutToken": f"c{number}", "lines": [{"productId": "Book", "quantity": 1}]}
        assert (await office.anyone.post("/api/reservations", json=cart)).status_code == 201
    for place in places:
        assert (await office.admin.get(place)).json()["data"]["status"] == "running"
    assert await connection.fetchval(IN_TRANSACTION, LOCK) == 1
    await holder.rollback()
    for place in places:
        await _until(office, place, lambda batch: batch["status"] == "completed")
    assert await connection.fetchval("select max(max_quantity) from products") == 34


async def test_a_client_that_leaves_does_not_break_its_import_off(
    office: Office, connection: Connection
) -> None:
    await office.admin.post(IMPORTS, content=GOOD, headers=CSV)
    holder = connection.transaction()
    await holder.start()
    await connection.execute("select from products for update")
    sent = office.admin.post(f"{IMPORTS}?wait=60", content=GOOD.replace(b"20", b"30"), headers=CSV)
    request = asyncio.create_task(sent)
    await _until_an_import_waits(connection)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await holder.rollback()
    [latest, _] = (await office.admin.get(IMPORTS)).json()["data"]
    await _until(office, f"{IMPORTS}/{latest['importId']}", lambda b: b["status"] == "completed")


async def test_a_shutdown_breaks_an_import_off_and_leaves_nothing(
    database_url: str, connection: Connection
) -> None:
    async with (
        serving(database_url, secret_key=SECRET) as server,
        calling(server.url) as client,
    ):
        client.headers.update(bearer("admin"))
        await client.post(IMPORTS, content=GOOD, headers=CSV)
        holder = connection.transaction()
        await holder.start()
        await connection.execute("select from products for update")
        new = GOOD.replace(b"20", b"30")
        await client.post(f"{IMPORTS}?wait=0", content=new, headers=CSV)
    await holder.rollback()
    assert [
        row["status"] for row in await connection.fetch("select * from import_batches order by id")
    ] == ["completed", "failed"]
    assert await connection.fetchval("select max(max_quantity) from products") == 20


async def test_an_import_reaches_open_streams_and_a_rejected_one_does_not(
    office: Office, connection: Connection
) -> None:
    """Must hold 5: rows of a rejected file are never seen, even for a moment."""
    await office.admin.post(IMPORTS, content=GOOD, headers=CSV)
    await office.server.published(connection)
    async with office.anyone.stream("GET", "/api/inventory/stream") as response:
        lines = response.aiter_lines()
        await _line(lines, "event: snapshot")
        await office.admin.post(IMPORTS, content=BAD.replace(b"20", b"25"), headers=CSV)
        await office.admin.post(IMPORTS, content=GOOD.replace(b"20", b"30"), headers=CSV)
        await _line(lines, "event: inventory_updated")
        event = json.loads((await _line(lines, "data: ")).removeprefix("data: "))
        assert (event["productId"], event["maxQuantity"], event["version"]) == ("Cap", 30, 2)


@pytest.mark.settings(import_max_mb=1)
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_file_past_the_limit_is_refused(
    office: Office, connection: Connection, is_chunked: bool
) -> None:
    file = b"productId,name,basePrice\n" + b"A,A,1\n" * 200_000
    assert len(file) > 1024 * 1024

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(file), 10_000):
            yield file[start : start + 10_000]

    content: Any = chunks() if is_chunked else file
    answer = await office.admin.post(IMPORTS, content=content, headers=CSV)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert await connection.fetchval("select count(*) from import_batches") == 0


async def test_a_form_or_an_encoded_file_is_415_and_no_import(
    office: Office, connection: Connection
) -> None:
    for query in ("", "?format=csv"):
        form = await office.admin.post(IMPORTS + query, files={"file": GOOD})
        packed = await office.admin.post(
            IMPORTS + query,
            content=gzip.compress(GOOD),
            headers={**CSV, "Content-Encoding": "GZip"},
        )
        for answer in (form, packed):
            assert answer.status_code == 415
            assert answer.json()["error"]["code"] == "unsupported_media_type"
        assert "file itself" in form.json()["error"]["message"]
        assert "Content-Encoding is gzip" in packed.json()["error"]["message"]
        assert packed.headers["Accept-Encoding"] == "identity"
    assert await connection.fetchval("select count(*) from import_batches") == 0


@pytest.mark.parametrize(
    ("query", "headers", "field"),
    [
        ("", {"Content-Type": "application/xml"}, "Content-Type"),
        ("", {}, "Content-Type"),
        ("?format=yaml", CSV, "format"),
        ("?dryRun=yes", CSV, "dryRun"),
        ("?wait=61", CSV, "wait"),
        ("?wait=nan", CSV, "wait"),
        ("?name=", CSV, "name"),
        ("?name=a%00b", CSV, "name"),
        ("?reason=%0a", CSV, "reason"),
    ],
)
async def test_a_wrong_parameter_is_named(
    office: Office, connection: Connection, query: str, headers: dict[str, str], field: str
) -> None:
    answer = await office.admin.post(IMPORTS + query, content=GOOD, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == field
    assert await products(connection) == 0


async def test_it_is_for_admins(office: Office, connection: Connection) -> None:
    for client, status in ((office.anyone, 401), (office.shop, 403)):
        assert (await client.post(IMPORTS, content=GOOD, headers=CSV)).status_code == status
        assert (await client.get(IMPORTS)).status_code == status
        assert (await client.get(f"{IMPORTS}/1")).status_code == status
    assert await products(connection) == 0
    for import_id, status in (("7", 404), ("x", 400), ("-1", 400), ("9" * 20, 400)):
        assert (await office.admin.get(f"{IMPORTS}/{import_id}")).status_code == status


async def test_pages_of_imports(office: Office) -> None:
    for _ in range(3):
        await office.admin.post(f"{IMPORTS}?dryRun=true", content=GOOD, headers=CSV)
    page = (await office.admin.get(f"{IMPORTS}?limit=2")).json()
    assert len(page["data"]) == 2
    rest = (await office.admin.get(f"{IMPORTS}?limit=2&before={page['next']}")).json()
    assert (len(rest["data"]), rest["next"]) == (1, None)


async def _until(office: Office, path: str, condition: Callable[[Any], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition((await office.admin.get(path)).json()["data"]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def _until_an_import_waits(connection: Connection) -> None:
    async with asyncio.timeout(20):
        while not await connection.fetchval(  # noqa: ASYNC110  # another connection changes it
            "select exists (select from pg_locks where not granted)"
        ):
            await asyncio.sleep(0.01)


async def _line(lines: AsyncIterator[str], start: str) -> str:
    async with asyncio.timeout(20):
        async for line in lines:
            if line.startswith(start):
                return line
    raise AssertionError(f"the stream ended before {start!r}")
