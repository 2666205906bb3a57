"""The server beside a Postgres that has lost commits, or got others: whatever happens to it, in the
end the server shows what the database has, it never calls anything else live, and clients that
come back with a position from before are told.

Real servers, with folders of their own. Programs that write come back before the source does: they
reach Postgres by its socket's folder, the service by a link to it, which is missing meanwhile.
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from stream_server.database import embedded
from stream_server.database.embedded import EmbeddedPostgres, embedded_postgres
from stream_server.database.migrations import migrate
from stream_server.errors import DatabaseUnavailable
from stream_server.streaming import source
from stream_server.streaming.cursor import Position
from tests.support.clients import calling, reading, ready
from tests.support.servers import (
    Connection,
    Server,
    add_products,
    assert_complete,
    caught_up,
    sell,
    serving,
    until,
)
from tests.support.templates import IN_MEMORY

SETTINGS = {**embedded.THROWAWAY, "max_prepared_transactions": "1200", "shared_buffers": "16MB"}
Numbers = dict[str, tuple[int, int]]  # sold units and version by product


@dataclass
class Postgres:
    """A server in a folder of its own, which a test may treat badly."""

    folder: Path
    binaries: Path
    cluster: embedded._Cluster = field(init=False)
    server: EmbeddedPostgres = field(init=False)

    def __post_init__(self) -> None:
        self.cluster = embedded._Cluster(
            self.folder / "postgres", self.binaries, embedded._user(), True
        )
        sockets = self.cluster.socket_folder()
        self.server = EmbeddedPostgres(self.binaries, sockets, self.folder / "postgres.log")

    async def start(self, **settings: str) -> None:
        await asyncio.to_thread(self.cluster.start, self.server, {**SETTINGS, **settings})

    async def stop(self, mode: str = "fast") -> None:
        await asyncio.to_thread(self.cluster._ctl, "stop", "-w", "-m", mode)

    async def run(self, program: str, *arguments: str) -> None:
        await asyncio.to_thread(self.cluster._run, program, *arguments)

    async def connect(self) -> Connection:
        return await asyncpg.connect(self.server.url)

    def copy(self, folder: Path) -> "Postgres":
        """Another one with the same data; this one is stopped."""
        copied = Postgres(folder, self.binaries)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder / "postgres", folder / "postgres")
        user = self.cluster.user
        if user is not None:
            for path in (folder / "postgres", *folder.rglob("*")):
                os.chown(path, user.pw_uid, user.pw_gid)
        (folder / "postgres").chmod(0o700)
        return copied


class Shop:
    """A Postgres, and the service that follows it by the link."""

    def __init__(self, folder: Path, postgres: Postgres) -> None:
        self.folder = folder
        self.postgres = postgres
        self.link = folder / "now"
        self.url = f"postgresql://postgres:@/postgres?host={quote(str(self.link))}"
        self.server: Server
        self.said_live: list[Numbers] = []
        self.last_id = ""

    def cut(self) -> None:
        """From here on, the service does not find Postgres."""
        self.link.unlink()

    def let_in(self) -> None:
        self.link.symlink_to(self.postgres.cluster.socket_folder())

    def shown(self) -> Numbers:
        entries = self.server.hub.entries.values()
        return {e.product.id: (e.product.sold_quantity, e.product.version) for e in entries}

    async def lost(self) -> None:
        await until(lambda: not self.server.hub.is_live, "the source has lost Postgres")
        self.said_live.clear()

    async def sold(self, units: int, product_id: str = "unit-00000") -> None:
        """Each unit in a transaction of its own, by somebody who needs no link."""
        connection = await self.postgres.connect()
        for _ in range(units):
            await sell(connection, product_id)
        await connection.close()

    async def remembers(self) -> None:
        """A client takes note of a position that covers all there is."""
        connection = await self.postgres.connect()
        await self.server.published(connection)
        await assert_complete(self.server.hub, connection)
        await connection.close()
        async with reading(f"{self.server.url}/api/inventory/stream") as stream:
            await stream.opened()
            self.last_id = stream.last_id
        assert self.last_id

    async def heals(self) -> None:
        """Nobody has written since `let_in`. The server is live only with what the database has;
        the client that remembers is told; and all goes on from there."""
        server, stream_url = self.server, f"{self.server.url}/api/inventory/stream"
        connection = await self.postgres.connect()
        rows = await connection.fetch("select id, sold_quantity, version from products")
        numbers = {row["id"]: (row["sold_quantity"], row["version"]) for row in rows}
        async with calling(server.url) as client:
            await ready(client)
            assert self.said_live
            assert self.said_live == [numbers] * len(self.said_live)
            await server.published(connection)
            await assert_complete(server.hub, connection)
            assert server.hub.ended_generation == server.hub.generation
            polled = (await client.get("/api/inventory")).json()
            assert "stale" not in polled
            assert {p["productId"]: p["soldQuantity"] for p in polled["data"]} == {
                product_id: sold for product_id, (sold, _) in numbers.items()
            }
        async with reading(stream_url, last_id=self.last_id) as back:
            await back.next("reset")
            snapshot = await back.next("snapshot")
            assert {
                p["productId"]: (p["soldQuantity"], p["version"]) for p in snapshot["products"]
            } == numbers
            newest = back.last_id
        async with reading(stream_url, last_id=newest) as again:
            assert (await again.next("snapshot"))["products"] == []
            await sell(connection, "unit-00001")
            await again.next("inventory_updated")
        await server.published(connection)
        await assert_complete(server.hub, connection)
        assert server.metric("loop_failures_total", loop="source") == 0
        assert server.metric("unannounced_rows_total") == 0
        await connection.close()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Short, because of the sockets in it, and open to the user that Postgres runs as."""
    folder = Path(tempfile.mkdtemp(prefix="ss-h-", dir=IN_MEMORY if IN_MEMORY.is_dir() else None))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def pristine(folder: Path) -> Postgres:
    """Stopped, with two products."""

    async def fill(url: str) -> None:
        await migrate(url)
        connection: Connection = await asyncpg.connect(url)
        await add_products(connection, 2)
        await connection.close()

    with embedded_postgres(folder / "pristine", throwaway=True) as server:
        asyncio.run(fill(server.url))
    return Postgres(folder / "pristine", server.binaries)


@pytest.fixture
def postgres_of(pristine: Postgres, folder: Path) -> Iterator[Callable[[str], Postgres]]:
    """Copies of it, by name; stopped and removed at the end."""
    made: list[Postgres] = []

    def copy(name: str) -> Postgres:
        made.append(pristine.copy(folder / name))
        return made[-1]

    yield copy
    for each in made:
        if each.cluster.is_running():
            each.cluster._ctl("stop", "-w", "-m", "immediate")
        shutil.rmtree(each.folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def it_comes_back_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_BACKOFF_SECONDS", (0.02, 0.05))


@asynccontextmanager
async def shop_on(postgres: Postgres, *, safety_read: float = 5) -> AsyncIterator[Shop]:
    """The service on a Postgres that runs."""
    shop = Shop(postgres.folder.with_suffix(".shop"), postgres)
    shop.folder.mkdir(mode=0o755)
    shop.let_in()
    try:
        async with serving(
            shop.url, stream_sleep_after_ms=100, stream_safety_read_seconds=safety_read
        ) as server:
            shop.server = server
            set_live = server.hub.set_live

            def noted(is_live: bool) -> None:
                if is_live:
                    shop.said_live.append(shop.shown())
                set_live(is_live)

            server.hub.set_live = noted  # type: ignore[method-assign]  # it takes note only
            yield shop
    finally:
        shutil.rmtree(shop.folder)


async def test_a_standby_that_lacks_the_last_commits_is_promoted_and_writers_are_back_first(
    postgres_of: Callable[[str], Postgres], folder: Path
) -> None:
    """Numbers are given out a second time, past those that the server has seen."""
    primary = postgres_of("primary")
    standby = Postgres(folder / "standby", primary.binaries)
    await primary.start()
    try:
        standby.folder.mkdir()
        if (user := primary.cluster.user) is not None:
            os.chown(standby.folder, user.pw_uid, user.pw_gid)
        await primary.run(
            "pg_basebackup", "-R", "-c", "fast", "-h", str(primary.cluster.socket_folder()),
            "-U", "postgres", "-D", str(standby.cluster.folder),
        )  # fmt: skip
        # Sockets lie in the data's folder here, and so does the primary's lock file.
        (standby.cluster.folder / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
        await standby.start()
        async with shop_on(primary) as shop:
            await shop.sold(3)
            replica = await standby.connect()
            async with asyncio.timeout(15):
                # Postgres tells nobody what it has replayed.
                while await replica.fetchval("select sum(sold_quantity) from products") != 3:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await replica.execute("alter system set primary_conninfo = ''")
            await replica.execute("select pg_reload_conf()")
            async with asyncio.timeout(15):
                while await replica.fetchval("select count(*) from pg_stat_wal_receiver"):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await shop.sold(10)  # which it never gets
            await shop.remembers()
            old_epoch = shop.server.hub.epoch
            shop.cut()
            await primary.stop("immediate")
            await shop.lost()
            # A standby that is found too early is no source.
            shop.postgres = standby
            shop.let_in()
            await asyncio.sleep(0.2)
            assert not shop.server.hub.is_live
            shop.cut()
            await standby.run("pg_ctl", "promote", "-w", "-D", str(standby.cluster.folder))
            await replica.close()
            await shop.sold(5)
            await shop.sold(20, "unit-00001")
            shop.let_in()
            await shop.heals()
            assert shop.shown()["unit-00000"] == (8, 9)
            assert shop.server.hub.epoch != old_epoch
    finally:
        if standby.cluster.is_running():
            await standby.stop("immediate")
        shutil.rmtree(standby.folder, ignore_errors=True)


async def test_a_data_folder_is_put_back_under_a_stopped_server(
    postgres_of: Callable[[str], Postgres],
) -> None:
    postgres = postgres_of("folder")
    backup = postgres_of("backup")
    await postgres.start()
    async with shop_on(postgres) as shop:
        await shop.sold(2)
        # The backup is of a time when the server had followed already.
        shop.cut()
        await postgres.stop()
        await shop.lost()
        shutil.rmtree(backup.folder)
        backup = postgres.copy(backup.folder)
        await postgres.start()
        shop.let_in()
        await shop.server.live()
        await shop.sold(10)
        await shop.remembers()
        shop.cut()
        await postgres.stop()
        await shop.lost()
        backup.copy(postgres.folder)
        await postgres.start()
        await shop.sold(4)
        await shop.sold(20, "unit-00001")
        shop.let_in()
        await shop.heals()
        assert shop.shown()["unit-00000"] == (6, 7)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_postgres_restarts(postgres_of: Callable[[str], Postgres], mode: str) -> None:
    postgres = postgres_of("restart")
    await postgres.start()
    async with shop_on(postgres) as shop:
        await shop.sold(4)
        await shop.remembers()
        shop.cut()
        await postgres.stop(mode)
        await shop.lost()
        await postgres.start()
        await shop.sold(1)
        shop.let_in()
        await shop.heals()


@pytest.mark.parametrize("victim", ["a backend", "the postmaster"])
async def test_a_crash_takes_commits_back_and_their_numbers_are_given_out_again(
    postgres_of: Callable[[str], Postgres], victim: str
) -> None:
    """What was committed asynchronously within the last moments is gone, though the server and its
    clients have seen it. A quiet shop: exactly as many commits follow. Whether Postgres loses them
    is up to it, so a few tries are made; what must hold, holds either way."""
    postgres = postgres_of("crash")
    settings = {"synchronous_commit": "off", "wal_writer_delay": "10s"}
    await postgres.start(**settings)
    async with shop_on(postgres) as shop:
        has_lost = False
        for _ in range(4):
            await shop.remembers()
            before = shop.server.hub.seen
            writer = await postgres.connect()
            pid = await writer.fetchval("select pg_backend_pid()")
            await until(lambda: shop.server.state() == "asleep", "it lies down")
            await sell(writer, "unit-00000")
            await caught_up(shop.server.hub, writer)
            seen, shown = shop.server.hub.seen, shop.shown()
            assert seen != before
            shop.last_id = str(Position(shop.server.hub.epoch, seen))
            shop.cut()
            if victim == "a backend":
                os.kill(pid, signal.SIGKILL)
            else:
                file = postgres.cluster.folder / "postmaster.pid"
                os.kill(int(file.read_text().split()[0]), signal.SIGKILL)
            await shop.lost()
            writer.terminate()
            await back(postgres, restart=victim == "the postmaster", settings=settings)
            await shop.sold(1, "unit-00001")
            shop.let_in()
            await shop.heals()
            has_lost = has_lost or shop.shown()["unit-00000"] != shown["unit-00000"]
            if has_lost:
                break


async def back(postgres: Postgres, *, restart: bool, settings: dict[str, str]) -> None:
    """Returns when it answers again after a crash."""
    async with asyncio.timeout(30):
        while restart:
            try:  # its children may not have gone yet
                await postgres.start(**settings)
                break
            except DatabaseUnavailable:
                await asyncio.sleep(0.05)
        while True:
            try:
                await (await postgres.connect()).close()
                return
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.02)


def dump_of(postgres: Postgres) -> bytes:
    """As psql takes it, without the lines that would not let a test divide it."""
    program = postgres.binaries / "pg_dump"
    done = subprocess.run([program, postgres.server.url], capture_output=True, check=True)
    return re.sub(rb"(?m)^\\(un)?restrict .*\n", b"", done.stdout)


async def restore(postgres: Postgres, dump: bytes) -> None:
    """In one transaction."""
    program: list[str] = [
        str(postgres.binaries / "psql"),
        "-1",
        "-q",
        "-X",
        "-v",
        "ON_ERROR_STOP=1",
    ]

    def run() -> None:
        subprocess.run(
            [*program, postgres.server.url], input=dump, stdout=subprocess.DEVNULL, check=True
        )

    await asyncio.to_thread(run)


@pytest.mark.parametrize("is_new_epoch", [False, True], ids=["alone", "with new-epoch"])
@pytest.mark.parametrize("is_whole", [True, False], ids=["at once", "bit by bit"])
async def test_an_older_dump_is_restored_into_the_same_database(
    postgres_of: Callable[[str], Postgres],
    is_whole: bool,
    is_new_epoch: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While everything runs, and between two reads of a source that sleeps."""
    postgres = postgres_of("same")
    await postgres.start()
    async with shop_on(postgres, safety_read=1) as shop:
        await shop.sold(2)
        await postgres_executes(
            postgres,
            "insert into variants (id, product_id, variant_value)"
            " values ('oak', 'unit-00000', 'Oak')",
        )
        dump = await asyncio.to_thread(dump_of, postgres)
        await shop.sold(10)
        await shop.remembers()
        shop.said_live.clear()
        clean = b"set client_min_messages = warning; drop schema public cascade;"
        clean += b" create schema public;\n"
        if not is_whole:  # the epoch is back, the rows of variants and the triggers are not
            end_of_epoch = dump.index(b"\n\\.\n", dump.index(b"COPY public.stream_epoch")) + 4
            await restore(postgres, clean + dump[:end_of_epoch])
            dump, clean = dump[end_of_epoch:], b""
            await until(lambda: "no triggers that log changes" in caplog.text or shop.said_live)
            assert not shop.server.hub.is_live
        if is_new_epoch:  # in the same transaction: a read between the two would heal it twice
            dump += b"\nupdate public.stream_epoch set epoch = 'feedbeef';\n"
        await restore(postgres, clean + dump)
        await until(lambda: shop.server.hub.is_live and shop.said_live, "it has read it anew")
        connection = await postgres.connect()
        await caught_up(shop.server.hub, connection)
        await until(lambda: shop.shown()["unit-00000"][0] == 2, "as of the dump")
        await until(lambda: shop.server.hub.is_live)
        await connection.close()
        await shop.heals()


async def postgres_executes(postgres: Postgres, statement: str) -> None:
    connection = await postgres.connect()
    await connection.execute(statement)
    await connection.close()


async def test_a_dump_moves_into_a_younger_cluster_and_its_numbers_are_no_news(
    postgres_of: Callable[[str], Postgres], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source sleeps, and whoever resumes with the newest position gets nothing, also when the
    new cluster's counter passes the old one's numbers."""
    old, young = postgres_of("old"), postgres_of("young")
    await old.start()
    await postgres_executes(
        old,
        "do $$ begin for i in 1..3000 loop"
        " update products set sold_quantity = 1 + i % 7 where id = 'unit-00000'; commit;"
        " end loop; end $$",
    )
    async with shop_on(old) as shop:
        await shop.remembers()
        shop.cut()
        dump = await asyncio.to_thread(dump_of, old)
        await old.stop()
        await shop.lost()
        await young.start()
        await postgres_executes(young, "drop schema public cascade; create schema public")
        await restore(young, dump)
        shop.postgres = young
        shop.let_in()
        await shop.heals()
        for has_passed in (False, True):
            await until(lambda: shop.server.state() == "asleep", "it lies down")
            connection = await young.connect()
            rows = shop.server.metric("source_rows_total")
            if has_passed:
                await connection.execute(
                    "do $$ begin for i in 1..4000 loop perform pg_current_xact_id(); commit;"
                    " end loop; end $$"
                )
            await sell(connection, "unit-00001")
            await shop.server.published(connection)
            newest = await connection.fetchval("select max(xid::text::bigint) from inventory_log")
            number = await connection.fetchval("select pg_current_xact_id()::text::bigint")
            assert (number > newest) is has_passed
            assert shop.server.metric("source_rows_total") == rows + 1
            await shop.server.source.refresh()
            at_the_end = shop.server.hub.position()
            async with reading(
                f"{shop.server.url}/api/inventory/stream", last_id=at_the_end
            ) as again:
                assert (await again.next("snapshot"))["products"] == []
            await connection.close()
        assert shop.server.metric("unannounced_rows_total") == 0


async def test_a_thousand_transactions_in_progress_are_no_reason_to_stop(
    postgres_of: Callable[[str], Postgres],
) -> None:
    """Positions stay short enough to be sent back, and hide nothing."""
    postgres = postgres_of("many")
    await postgres.start()
    async with shop_on(postgres) as shop:
        connection = await postgres.connect()
        for number in range(1_100):
            await connection.execute(
                f"begin; select pg_current_xact_id(); prepare transaction 'many {number}'"
            )
        await sell(connection, "unit-00000")
        await shop.server.published(connection)
        assert len(shop.server.hub.seen.in_progress) == 1_100
        async with reading(f"{shop.server.url}/api/inventory/stream") as stream:
            await stream.opened()
            await sell(connection, "unit-00000")
            await stream.next("inventory_updated")
        assert len(stream.last_id) < 4_000
        await sell(connection, "unit-00001")
        await shop.server.published(connection)
        async with reading(
            f"{shop.server.url}/api/inventory/stream", last_id=stream.last_id
        ) as again:
            told = {p["productId"] for p in (await again.next("snapshot"))["products"]}
            assert "unit-00001" in told
        assert shop.server.hub.is_live
        assert shop.server.metric("source_losses_total") == 0
        assert shop.server.metric("loop_failures_total", loop="source") == 0
        await connection.close()


async def test_an_ordinary_role_is_told_which_history_it_is(
    postgres_of: Callable[[str], Postgres],
) -> None:
    """And all that come at once find the same."""
    postgres = postgres_of("role")
    await postgres.start()
    await postgres_executes(postgres, "create role ordinary login; truncate stream_incarnation")
    url = postgres.server.url.replace("//postgres:@", "//ordinary@")
    connections: list[Connection] = [await asyncpg.connect(url) for _ in range(8)]
    told = await asyncio.gather(*(c.fetchval("select stream_lineage()") for c in connections))
    assert len(set(told)) == 1
    assert "?" not in told[0]
    assert told[0].split("/")[1] == "00000001"
    for connection in connections:
        await connection.close()
    owner = await postgres.connect()
    assert await owner.fetchval("select count(*) from stream_incarnation") == 1
    await owner.execute("truncate stream_incarnation; set default_transaction_read_only = on")
    assert await owner.fetchval("select stream_lineage()") == told[0]
    await owner.close()
