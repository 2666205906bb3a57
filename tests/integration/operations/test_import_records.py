"""What an import leaves behind when it ends well, badly, or not at all."""

import asyncio
import hashlib
import io
import json
import random
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_server.database.pool import Pool
from stream_server.errors import ImportRejected, TransactionConflict
from stream_server.inventory.imports.models import ImportRequest
from stream_server.inventory.imports.record import Progress, close_abandoned
from stream_server.inventory.imports.run import KEPT_MISTAKES, import_catalogue
from tests.support.catalogue_files import as_csv, as_json, catalogue
from tests.support.commands import COMMAND, environment, run
from tests.support.invariants import assert_log_replays
from tests.support.servers import until
from tests.support.surroundings import opened

Connection: TypeAlias = "asyncpg.Connection[Any]"
Connect: TypeAlias = Callable[[], Awaitable[Connection]]


async def load(
    pool: Pool,
    data: bytes,
    *,
    progress: Callable[[Progress], None] | None = None,
    turn: asyncio.Lock | None = None,
    **options: Any,
) -> Any:
    request = ImportRequest(actor="tester", reason="test", **options)
    return await import_catalogue(pool, data, request, progress=progress, turn=turn)


async def catalogue_state(connection: Connection) -> list[list[Any]]:
    return [
        await connection.fetch(f"select * from {table} order by id")
        for table in ("products", "variants", "inventory_log", "stock_alerts")
    ]


class TestRecord:
    async def test_a_good_import_is_recorded_with_its_file_and_its_log_rows_name_it(
        self, pool: Pool, connection: Connection
    ) -> None:
        data = as_json(catalogue(3))
        imported = await load(pool, data, name="spring.json")
        row = await connection.fetchrow("select * from import_batches")
        assert row is not None
        assert row["id"] == imported.import_id
        assert (row["name"], row["format"], row["status"]) == ("spring.json", "json", "completed")
        assert (row["sha256"], row["size_bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
        assert (row["actor"], row["reason"], row["is_dry_run"]) == ("tester", "test", False)
        assert (row["row_count"], row["created_count"], row["updated_count"]) == (6, 6, 0)
        assert row["bytes_read"] == len(data)
        assert row["finished_at"] >= row["started_at"]
        assert await connection.fetch("select distinct batch_id from inventory_log") == [
            (row["id"],)
        ]

    async def test_a_rejected_one_is_recorded_with_its_first_mistakes(
        self, pool: Pool, connection: Connection
    ) -> None:
        with pytest.raises(ImportRejected) as raised:
            await load(pool, as_json(catalogue(1200, basePrice=-1)))
        assert raised.value.count == 1200
        assert len(raised.value.rows) == 1200
        row = await connection.fetchrow("select * from import_batches")
        assert row is not None
        assert (row["status"], row["error_count"]) == ("rejected", 1200)
        errors = json.loads(row["errors"])
        assert len(errors) == 1000
        assert errors[0] == {
            "line": 5,
            "column": 16,
            "reason": "[0].basePrice: expected a whole number of cents, 0 to 2147483647, got -1",
            "id": "P0",
        }

    async def test_more_mistakes_than_anybody_reads_are_counted(self, pool: Pool) -> None:
        data = as_json([{"id": "A"}] + [{}] * (KEPT_MISTAKES + 500) + [{"id": "A"}] * 3)
        with pytest.raises(ImportRejected) as raised:
            await load(pool, data)
        assert len(raised.value.rows) == KEPT_MISTAKES
        # each {} lacks its id; A is new and lacks name and price, four times; thrice it is not new
        assert raised.value.count == KEPT_MISTAKES + 500 + 4 * 2 + 3

    async def test_a_dry_run_tells_what_would_be_and_changes_nothing(
        self, pool: Pool, connection: Connection
    ) -> None:
        await load(pool, as_json(catalogue(10, maxQuantity=60)))
        before = await catalogue_state(connection)
        with pytest.raises(ImportRejected) as raised:
            await load(pool, as_json(catalogue(30, basePrice=-1)), dry_run=True)
        assert raised.value.count == 30
        imported = await load(pool, as_json(catalogue(30)), dry_run=True)
        assert (imported.added, imported.changed, imported.unchanged) == (40, 10, 10)
        row = await connection.fetchrow("select * from import_batches order by id desc limit 1")
        assert row is not None
        assert (row["status"], row["is_dry_run"]) == ("completed", True)
        assert (row["created_count"], row["updated_count"]) == (40, 10)
        assert await catalogue_state(connection) == before

    async def test_progress_is_told_and_can_be_read_by_others(
        self, pool: Pool, connection: Connection
    ) -> None:
        """The import waits for a row that somebody else holds; its progress does not."""
        await load(pool, as_json(catalogue(1)))
        told: list[tuple[str, int]] = []

        def tell(progress: Progress) -> None:
            told.append((progress.phase, progress.rows))

        holder = connection.transaction()
        await holder.start()
        await connection.execute("update products set name = 'held'")
        importing = asyncio.create_task(load(pool, as_json(catalogue(700)), progress=tell))
        await _until(lambda: pool.fetch_val("select bool_or(row_count = 1400) from import_batches"))
        row = await pool.fetch_one("select * from import_batches order by id desc limit 1")
        assert row is not None
        assert (row["status"], row["phase"]) == ("running", "checking")
        assert not importing.done()
        await holder.rollback()
        await importing
        assert told[0] == ("reading", 0)
        assert ("checking", 1400) in told
        assert told[-1] == ("writing", 1400)

    async def test_a_stream_that_can_be_read_only_once_is_enough(self, pool: Pool) -> None:
        class Pipe(io.RawIOBase):
            def __init__(self, data: bytes) -> None:
                self._data = io.BytesIO(data)

            def readable(self) -> bool:
                return True

            def readinto(self, buffer: Any) -> int:
                return self._data.readinto(buffer)

        piped = io.BufferedReader(Pipe(as_json(catalogue(3))))
        imported = await import_catalogue(pool, piped, ImportRequest(actor="a", reason="b"))
        assert imported.added == 6


@given(
    position=st.integers(0, 59),
    of_variant=st.booleans(),
    kind=st.sampled_from(["price", "repeated", "sold", "missing", "type"]),
    in_csv=st.booleans(),
    seed=st.integers(0, 2**32),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_one_bad_row_anywhere_leaves_the_database_and_the_log_as_they_were(
    database_url: str, position: int, of_variant: bool, kind: str, in_csv: bool, seed: int
) -> None:
    asyncio.run(_reject_one(database_url, position, of_variant, kind, in_csv, seed))


async def _reject_one(
    url: str, position: int, of_variant: bool, kind: str, in_csv: bool, seed: int
) -> None:
    async with Pool(url, max_size=2) as pool:
        connection: Connection = await opened(url)
        try:
            existing = catalogue(20)
            await load(pool, as_json(existing))
            await connection.execute(
                "update products set sold_quantity = 40 where sold_quantity = 0 and id <> 'P3'"
            )
            before = await catalogue_state(connection)
            rows = catalogue(60, name="Changed", maxQuantity=55)
            random.Random(seed).shuffle(rows)
            row: dict[str, Any] = rows[position]
            part = row["variants"][0] if of_variant else row
            match kind:
                case "price":
                    row["basePrice"] = -1
                case "repeated":
                    part["id"] = (rows[position - 1]["variants"][0] if of_variant else rows[0])[
                        "id"
                    ]
                    if part is rows[0]:
                        part["id"] = rows[1]["id"]
                case "sold":
                    part["maxQuantity"] = "-3" if in_csv else -3
                case "missing":
                    part["variantValue" if of_variant else "name"] = "" if in_csv else None
                    if in_csv and row["id"] in {each["id"] for each in existing}:
                        part["maxQuantity"] = "x"  # what exists needs no name
                case "type":
                    part["maxQuantity"] = "many"
            data = as_csv(rows) if in_csv else as_json(rows)
            with pytest.raises(ImportRejected) as raised:
                await load(pool, data, format_name="csv" if in_csv else "json")
            assert raised.value.rows[0].line is not None
            assert await catalogue_state(connection) == before
        finally:
            await connection.close()


class TestBesideOthers:
    async def test_two_imports_of_the_same_new_rows_are_one_after_the_other(
        self, pool: Pool, connection: Connection
    ) -> None:
        data = as_json(catalogue(300))
        results = await asyncio.gather(*(load(pool, data) for _ in range(4)))
        assert sorted(result.added for result in results) == [0, 0, 0, 600]
        assert await connection.fetchval("select count(*) from inventory_log") == 600
        await assert_log_replays(connection)

    async def test_a_row_that_somebody_adds_meanwhile_is_built_upon(
        self, pool: Pool, connection: Connection
    ) -> None:
        """It waits for the insert, finds its row taken, and merges again on top of it."""
        adding = connection.transaction()
        await adding.start()
        await connection.execute(
            "insert into products (id, name, base_price, max_quantity, sold_quantity)"
            " values ('P2', 'Theirs', 1, 30, 30)"
        )
        importing = asyncio.create_task(load(pool, as_json(catalogue(5))))
        await _until_someone_waits(connection)
        await adding.commit()
        imported = await importing
        assert (imported.added, imported.changed) == (9, 1)
        row = await connection.fetchrow("select name, sold_quantity from products where id = 'P2'")
        assert row is not None
        assert tuple(row) == ("Product 2", 30)
        await assert_log_replays(connection)

    async def test_imports_and_sales_in_any_order_neither_deadlock_nor_lose_a_sale(
        self, pool: Pool, connection: Connection, connect: Connect
    ) -> None:
        await load(pool, as_json(catalogue(50, maxQuantity=10_000)))
        connections = [await connect() for _ in range(4)]

        async def sell(connection: Connection, seed: int) -> None:
            rng = random.Random(seed)
            for _ in range(60):
                ids = sorted(rng.sample(range(50), 5), key=lambda number: f"P{number}")
                async with connection.transaction():
                    for number in ids:
                        await connection.execute(
                            "update products set sold_quantity = sold_quantity + 1 where id = $1",
                            f"P{number}",
                        )

        async def imports() -> None:
            for price in range(6):
                await load(pool, as_json(catalogue(50, maxQuantity=10_000, basePrice=price)))

        sales = [sell(each, seed) for seed, each in enumerate(connections)]
        await asyncio.gather(imports(), *sales)
        assert await connection.fetchval("select sum(sold_quantity) from products") == 4 * 60 * 5
        await assert_log_replays(connection)

    async def test_an_import_is_told_to_streams_as_one_notification(
        self, pool: Pool, connection: Connection, connect: Connect
    ) -> None:
        await load(pool, as_json(catalogue(20)))
        told: list[str] = []
        listening = await connect()
        await listening.add_listener("stock_changes", lambda *args: told.append(str(args[-1])))
        await listening.execute("select pg_advisory_lock_shared(495890817899)")
        await load(pool, as_json(catalogue(20, maxQuantity=60)))
        with pytest.raises(ImportRejected):
            await load(pool, as_json([*catalogue(20, maxQuantity=70), {"id": ""}]))
        await connection.execute("select pg_notify('stock_changes', 'the end')")
        await until(lambda: "the end" in told)
        assert len(told) == 2
        assert len(json.loads(told[0])) == 20


class TestBrokenOff:
    async def test_a_cancelled_import_changes_nothing_and_says_so(
        self, pool: Pool, connection: Connection
    ) -> None:
        await load(pool, as_json(catalogue(1)))
        before = await catalogue_state(connection)
        holder = connection.transaction()
        await holder.start()
        await connection.execute("select from products for update")
        importing = asyncio.create_task(load(pool, as_json(catalogue(10))))
        await _until_someone_waits(connection)
        importing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await importing
        await holder.rollback()
        status = await connection.fetchval(
            "select status from import_batches order by id desc limit 1"
        )
        assert status == "failed"
        assert await catalogue_state(connection) == before
        assert (await load(pool, as_json(catalogue(10)))).added == 18

    async def test_an_import_that_is_killed_leaves_nothing_but_a_row_that_says_so(
        self, pool: Pool, connection: Connection, database_url: str, tmp_path: Path
    ) -> None:
        await load(pool, as_json(catalogue(1)))
        before = await catalogue_state(connection)
        file = tmp_path / "products.json"
        file.write_bytes(as_json(catalogue(50)))
        holder = connection.transaction()
        await holder.start()
        await connection.execute("select from products for update")
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "import", str(file), env=environment(database_url)
        )
        await _until_someone_waits(connection)
        assert await close_abandoned(pool, patience=-1) == 0, "it is alive"
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await holder.rollback()
        await _until(lambda: close_abandoned(pool, patience=-1))
        row = await connection.fetchrow("select * from import_batches order by id desc limit 1")
        assert row is not None
        assert row["status"] == "failed"
        assert "The process that ran it is gone" in row["errors"]
        assert await close_abandoned(pool, patience=-1) == 0
        assert await catalogue_state(connection) == before

    async def test_an_import_that_was_given_up_while_it_waited_changes_nothing(
        self, pool: Pool, connection: Connection
    ) -> None:
        """Its row says that it failed, so it must not go on when its turn comes."""
        turn = asyncio.Lock()
        async with turn:
            importing = asyncio.create_task(load(pool, as_json(catalogue(1)), turn=turn))
            await _until(lambda: close_abandoned(pool, patience=-1))
        with pytest.raises(TransactionConflict, match="given up"):
            await importing
        assert await connection.fetchval("select status from import_batches") == "failed"
        assert await connection.fetchval("select count(*) from products") == 0

    async def test_an_import_can_be_cancelled_before_its_turn(
        self, pool: Pool, connection: Connection
    ) -> None:
        turn, began = asyncio.Lock(), asyncio.Event()
        async with turn:
            importing = asyncio.create_task(
                load(pool, as_json(catalogue(1)), turn=turn, progress=lambda _: began.set())
            )
            await began.wait()
            importing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await importing
        assert await connection.fetchval("select status from import_batches") == "failed"
        assert (await load(pool, as_json(catalogue(1)), turn=turn)).added == 2

    async def test_a_conflict_that_does_not_end_is_told(
        self, pool: Pool, connection: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await connection.execute(
            "create function conflict() returns trigger language plpgsql as"
            " $$ begin raise exception 'no' using errcode = '40001'; end $$;"
            "create trigger conflict before insert on products execute function conflict()"
        )
        with pytest.raises(TransactionConflict):
            await load(pool, as_json(catalogue(1)))
        assert await connection.fetchval("select status from import_batches") == "failed"


class TestLargeFiles:
    async def test_a_hundred_thousand_rows_fit_in_a_little_memory(
        self, pool: Pool, connection: Connection, tmp_path: Path
    ) -> None:
        """The process grows by the same whether a file has a thousand rows or a hundred thousand,
        give or take 64 MiB."""
        file = tmp_path / "large.csv"
        with file.open("w") as out:
            out.write("productId;name;basePrice;maxQuantity\n")
            out.writelines(f"P{n:06};Product {n};100;50\n" for n in range(100_000))
        await load(pool, as_json(catalogue(500)))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with file.open("rb") as source:
            imported = await import_catalogue(
                pool, source, ImportRequest(format_name="csv", actor="a", reason="b")
            )
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert imported.added == 100_000
        assert await connection.fetchval("select count(*) from inventory_log") == 101_000
        assert grown < 64 * 1024, f"{grown} KiB"

    async def test_the_last_row_of_two_hundred_megabytes_is_wrong(
        self, database_url: str, connection: Connection, tmp_path: Path
    ) -> None:
        """All of it is read, a little at a time, and nothing of it stays."""
        file = tmp_path / "huge.json"
        text = "All about it. " * 800
        with file.open("w") as out:
            out.write("[\n")
            for number in range(20_000):
                out.write(f'{{"id": "P{number}", "name": "P", "basePrice": 1, "description": ')
                out.write(f'"{text}"}},\n')
            out.write('{"id": "P20000", "name": "P", "basePrice": "1"}\n]')
        assert file.stat().st_size > 200_000_000
        program = (
            "import re, sys; from stream_server.cli import app\n"
            "try: app()\n"  # VmHWM, for ru_maxrss would tell what the tests' own process has
            "finally:\n"
            "    status = open('/proc/self/status').read()\n"
            "    print(re.search('VmHWM:[^0-9]*([0-9]+)', status)[1], file=sys.stderr)"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, "import", str(file), env=environment(database_url),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, err = await asyncio.wait_for(process.communicate(), 300)
        assert process.returncode == 1
        place, error, memory = err.decode().splitlines()
        assert place.startswith(f"{file}:20002:44: [20000].basePrice: expected a whole number")
        assert error == f"Error: 1 found in {file}; nothing was changed"
        assert int(memory) < 200 * 1024, f"{memory} KiB"
        assert await connection.fetchval("select count(*) from products") == 0


class TestCommand:
    async def test_a_csv_is_known_by_its_name_and_a_dry_run_says_that_it_is_one(
        self, database_url: str, connection: Connection, tmp_path: Path
    ) -> None:
        file = tmp_path / "products.csv"
        file.write_bytes(as_csv(catalogue(2)))
        dry = await run("import", str(file), "--dry-run", database_url=database_url)
        assert dry.stdout == (
            "2 products with 2 variants: a dry run; there would be"
            " 4 added, 0 changed, 0 as they were\n"
        )
        assert await connection.fetchval("select count(*) from products") == 0
        done = await run(
            "import", "-", "--format", "csv", database_url=database_url, stdin=file.read_bytes()
        )
        assert done.stdout == "2 products with 2 variants: 4 added, 0 changed, 0 as they were\n", (
            done.stderr
        )
        assert done.stderr == ""


async def _until(question: Callable[[], Awaitable[object]]) -> None:
    """Until the answer is yes."""
    async with asyncio.timeout(20):
        while not await question():  # noqa: ASYNC110  # another process changes it
            await asyncio.sleep(0.005)


async def _until_someone_waits(connection: Connection) -> None:
    """Until another connection to this database waits for a lock that we hold."""
    await _until(
        lambda: connection.fetchval(
            "select exists (select from pg_locks where not granted"
            " and pg_backend_pid() = any(pg_blocking_pids(pid)))"
        )
    )
