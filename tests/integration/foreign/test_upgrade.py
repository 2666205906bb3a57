"""A shop that goes on selling while it is brought from the release before to this one."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg

from stream_server.database.migrations import check, migrate
from tests.support.clients import calling, reading, ready
from tests.support.invariants import assert_consistent
from tests.support.releases import migrated_by, running
from tests.support.servers import until

Connection: TypeAlias = "asyncpg.Connection[Any]"
Known = dict[tuple[str, str | None], tuple[int | None, int, int]]

CATALOGUE = """
insert into products (id, name, base_price, max_quantity)
select 'thing-' || n, 'Thing ' || n, 1000 + n, 1000000 from generate_series(1, 20) n;
insert into products (id, name, base_price, max_quantity) values ('shirt', 'Shirt', 2500, 2000000);
insert into variants (id, product_id, variant_value, max_quantity) values
    ('shirt-s', 'shirt', 'S', 1000000), ('shirt-m', 'shirt', 'M', 1000000);
"""
# What a shop has after a while: holds, overdue ones too, orders, counts.
HISTORY = """
select reserve_stock('early-' || n, jsonb_build_array(jsonb_build_object(
           'productId', 'thing-' || 1 + n % 20, 'quantity', 1)),
           hold => case n % 3 when 0 then interval '1 ms' else interval '1 hour' end)
  from generate_series(1, 300) n;
select complete_order(cart => jsonb_build_array(jsonb_build_object(
           'productId', 'thing-' || 1 + n % 20, 'quantity', 2)), payment => 'early-' || n)
  from generate_series(1, 300) n;
select apply_counts('till', clock_timestamp(), jsonb_build_array(jsonb_build_object(
           'productId', 'thing-' || n, 'count', 999000 + n)))
  from generate_series(1, 20) n;
"""
NOW = """
select id, null, max_quantity, sold_quantity, base_price from products
union all
select v.product_id, v.id, v.max_quantity, v.sold_quantity, coalesce(v.price, p.base_price)
  from variants v join products p on p.id = v.product_id
"""


async def now(connection: Connection) -> Known:
    return {(row[0], row[1]): (row[2], row[3], row[4]) for row in await connection.fetch(NOW)}


class Reader:
    """A client of a stream that keeps what it was told, as `docs/streams.md` says."""

    def __init__(self) -> None:
        self.known: Known = {}
        self.last_id = ""
        self.updates = 0

    async def follow(self, url: str, opened: asyncio.Event | None = None) -> None:
        """Until the server ends it."""
        async with reading(f"{url}/api/inventory/stream", last_id=self.last_id or None) as stream:
            try:
                while True:
                    event = await stream._read()
                    self._take(event.event, json.loads(event.data))
                    self.last_id = stream.last_id
                    if opened and stream.last_id:
                        opened.set()
            except StopAsyncIteration:
                return

    def _take(self, name: str, data: Any) -> None:
        if name == "reset":
            self.known.clear()
        elif name == "snapshot":
            for product in data["products"]:
                for row in (product, *product.get("variants", ())):
                    self._put(product["productId"], row)
        elif name == "inventory_updated":
            self.updates += 1
            self._put(data["productId"], data)

    def _put(self, product_id: str, row: Any) -> None:
        self.known[product_id, row.get("variantId")] = (
            row["maxQuantity"],
            row["soldQuantity"],
            row["price"],
        )


Work = Callable[[random.Random, str], Awaitable[None]]


def _cart(rng: random.Random) -> str:
    lines = [
        {"productId": f"thing-{number}", "quantity": rng.randint(1, 3)}
        for number in rng.sample(range(1, 21), rng.randint(1, 3))
    ]
    if rng.random() < 0.3:
        lines.append({"productId": "shirt", "variantId": rng.choice(["shirt-s", "shirt-m"]),
                      "quantity": 1})  # fmt: skip
    return json.dumps(lines)


class Writers:
    """Programs of the shop's own. Each keeps its session and its prepared statements, waits a
    second for a lock, and notes every error."""

    def __init__(self, url: str) -> None:
        self.errors: list[str] = []
        self.done = dict.fromkeys(
            ("reserve", "order", "buy", "adjust", "product", "variant", "count", "till"), 0
        )
        self._url = url
        self._stopped = asyncio.Event()

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            for name in self.done:
                tasks.create_task(self._work(name))
            yield
            self._stopped.set()

    async def go_on(self, times: int) -> None:
        """Returns once each has done its work so many times more, or one has failed."""
        wanted = {name: count + times for name, count in self.done.items()}
        await until(
            lambda: self.errors or all(self.done[name] >= wanted[name] for name in wanted),
            f"all go on: {wanted}",
            60,
        )

    async def _work(self, name: str) -> None:
        rng = random.Random(name)
        connection: Connection = await asyncpg.connect(
            self._url, server_settings={"lock_timeout": "1s"}
        )
        try:
            work: Work = await getattr(self, f"_{name}")(connection)
            while not self._stopped.is_set():
                try:
                    await work(rng, f"{name}-{self.done[name]}")
                except asyncpg.PostgresError as error:
                    self.errors.append(f"{name}: {error.sqlstate} {error}")
                self.done[name] += 1
        finally:
            connection.terminate()

    async def _reserve(self, connection: Connection) -> Work:
        hold = await connection.prepare("select reserve_stock($1, $2::jsonb, actor => 'shop')")
        release = await connection.prepare("select release_reservation($1)")

        async def work(rng: random.Random, name: str) -> None:
            held = json.loads(await hold.fetchval(name, _cart(rng)))
            if rng.random() < 0.5:
                await release.fetchval(held["token"])

        return work

    async def _order(self, connection: Connection) -> Work:
        hold = await connection.prepare("select reserve_stock($1, $2::jsonb)")
        complete = await connection.prepare(
            "select complete_order(reservation => $1, payment => $2)"
        )

        async def work(rng: random.Random, name: str) -> None:
            held = json.loads(await hold.fetchval(name, _cart(rng)))
            await complete.fetchval(held["token"], name)

        return work

    async def _buy(self, connection: Connection) -> Work:
        buy = await connection.prepare("select complete_order(cart => $1::jsonb, payment => $2)")
        cancel = await connection.prepare("select cancel_order($1)")

        async def work(rng: random.Random, name: str) -> None:
            order = json.loads(await buy.fetchval(_cart(rng), name))
            if rng.random() < 0.2:
                await cancel.fetchval(order["orderId"])

        return work

    async def _adjust(self, connection: Connection) -> Work:
        adjust = await connection.prepare(
            "select adjust_stock($1, null, $2, 'received', 'a delivery', null, 'depot')"
        )

        async def work(rng: random.Random, name: str) -> None:
            await adjust.fetchval(f"thing-{rng.randint(1, 20)}", rng.randint(1, 5))

        return work

    async def _product(self, connection: Connection) -> Work:
        sell = await connection.prepare(
            "update products set sold_quantity = sold_quantity + 1, base_price = $2 where id = $1"
            " returning *"
        )

        async def work(rng: random.Random, name: str) -> None:
            await sell.fetch(f"thing-{rng.randint(1, 20)}", rng.randint(1, 9999))

        return work

    async def _variant(self, connection: Connection) -> Work:
        lock = await connection.prepare("select from products where id = 'shirt' for no key update")
        price = await connection.prepare("update variants set price = $2 where id = $1")

        async def work(rng: random.Random, name: str) -> None:
            async with connection.transaction():
                await lock.fetch()
                await price.fetch(rng.choice(["shirt-s", "shirt-m"]), rng.randint(1, 9999))

        return work

    async def _count(self, connection: Connection) -> Work:
        count = await connection.prepare("select * from apply_counts('till', $1, $2::jsonb)")

        async def work(rng: random.Random, name: str) -> None:
            counts = [{"productId": f"thing-{rng.randint(1, 20)}", "count": 500_000}]
            await count.fetch(datetime.now(UTC), json.dumps(counts))

        return work

    async def _till(self, connection: Connection) -> Work:
        """Several commands in one transaction, as the README has it."""

        async def work(rng: random.Random, name: str) -> None:
            async with connection.transaction():
                await connection.execute("select set_config('stream_server.actor', 'till 4', true)")
                await connection.fetchval(
                    "select complete_order(cart => $1::jsonb, payment => $2)", _cart(rng), name
                )

        return work


class TestUnderLoad:
    async def test_nobody_notices_the_upgrade_and_no_event_is_lost(
        self, before: Path, blank_url: str, tmp_path: Path
    ) -> None:
        code, output = await migrated_by(before, blank_url, tmp_path / "migrate.log")
        assert code == 0, output
        connection: Connection = await asyncpg.connect(blank_url)
        await connection.execute(CATALOGUE)
        await connection.execute(HISTORY)
        async with AsyncExitStack() as stack, asyncio.timeout(120):
            stack.push_async_callback(connection.close)
            server = await stack.enter_async_context(
                running(
                    "serve", "--port", "0", url=blank_url, log=tmp_path / "old.log", code=before
                )
            )
            worker = await stack.enter_async_context(
                running("worker", url=blank_url, log=tmp_path / "worker.log", code=before)
            )
            url = (await server.says(r"Serving on (http://\S+)"))[1]
            async with calling(url) as client:
                await ready(client)
            readers = [Reader() for _ in range(3)]
            opened = [asyncio.Event() for _ in readers]
            followers = [
                asyncio.create_task(reader.follow(url, event))
                for reader, event in zip(readers, opened, strict=True)
            ]
            for event in opened:
                await event.wait()
            early_id = readers[0].last_id

            writers = Writers(blank_url)
            async with writers.at_work():
                await writers.go_on(5)
                applied = await migrate(blank_url)
                assert "triggers.sql" in applied
                told = [reader.updates for reader in readers]
                await writers.go_on(20)
                async with calling(url) as client:  # the old server sells
                    answer = await client.post(
                        "/api/reservations",
                        json={
                            "checkoutToken": "after",
                            "lines": [{"productId": "thing-1", "quantity": 1}],
                        },
                    )
                    assert answer.status_code == 201, answer.text
            assert not writers.errors
            assert all(after.updates > count for after, count in zip(readers, told, strict=True))

            truth = await now(connection)
            await until(lambda: all(reader.known == truth for reader in readers), "all is told", 30)
            assert not any(follower.done() for follower in followers)

            new = await stack.enter_async_context(
                running("serve", "--port", "0", url=blank_url, log=tmp_path / "new.log")
            )
            new_url = (await new.says(r"Serving on (http://\S+)"))[1]
            async with calling(new_url) as client:
                await ready(client)
            assert "Traceback" not in await server.stop()
            assert "Traceback" not in await worker.stop()
            for follower in followers:
                await follower
            assert "WARNING" not in server.output
            assert "WARNING" not in worker.output

            await connection.execute("update products set base_price = 77")
            truth = await now(connection)
            readers[1].last_id = early_id  # somebody who was away all the time
            again = [asyncio.create_task(reader.follow(new_url)) for reader in readers]
            await until(
                lambda: all(reader.known == truth for reader in readers), "all is told anew", 30
            )
            assert "Traceback" not in await new.stop()
            await asyncio.gather(*again)
            await check(blank_url)
            await assert_consistent(connection)


class TestTwoReleases:
    """Both use one advisory lock: the second waits for the first."""

    async def test_the_older_one_first_and_the_newer_one_brings_its_schema_up(
        self, before: Path, blank_url: str, tmp_path: Path
    ) -> None:
        logs = tmp_path / "old.log", tmp_path / "new.log"
        async with in_the_way(blank_url, "products") as watcher:
            old = asyncio.create_task(migrated_by(before, blank_url, logs[0]))
            await migrators(watcher, 1)
            new = asyncio.create_task(migrated_by(None, blank_url, logs[1]))
            await migrators(watcher, 2)
        code, output = await old
        assert code == 0, output
        code, output = await new
        assert code == 0, output
        assert "Applied migrations/0006" in output
        assert "Applied migrations/0001" not in output
        await check(blank_url)
        assert await migrate(blank_url) == []

    async def test_the_newer_one_first_and_the_older_one_changes_nothing(
        self, before: Path, blank_url: str, tmp_path: Path
    ) -> None:
        logs = tmp_path / "old.log", tmp_path / "new.log"
        async with in_the_way(blank_url, "products") as watcher:
            new = asyncio.create_task(migrated_by(None, blank_url, logs[1]))
            await migrators(watcher, 1)
            old = asyncio.create_task(migrated_by(before, blank_url, logs[0]))
            await migrators(watcher, 2)
        code, output = await new
        assert code == 0, output
        code, output = await old
        assert code == 1
        assert 'relation "products" already exists' in last_line(output)
        await check(blank_url)
        assert await migrate(blank_url) == []

    async def test_the_older_one_waits_for_an_upgrade_and_is_told_that_it_is_too_old(
        self, before: Path, blank_url: str, tmp_path: Path
    ) -> None:
        logs = tmp_path / "old.log", tmp_path / "new.log"
        code, output = await migrated_by(before, blank_url, logs[0])
        assert code == 0, output
        async with in_the_way(blank_url, "stream_settings") as watcher:
            new = asyncio.create_task(migrated_by(None, blank_url, logs[1]))
            await migrators(watcher, 1)
            old = asyncio.create_task(migrated_by(before, blank_url, logs[0]))
            await migrators(watcher, 2)
        code, output = await new
        assert code == 0, output
        code, output = await old
        assert code == 1
        assert "migrated by a newer release: migrations/0006" in last_line(output)
        await check(blank_url)
        async with running("serve", "--port", "0", url=blank_url, log=logs[0], code=before) as late:
            await late.says("migrated by a newer release")  # and it waits, changing nothing


@asynccontextmanager
async def in_the_way(url: str, table: str) -> AsyncIterator[Connection]:
    """Within it, nobody else can make the table, which is not made in the end. Gives a connection
    to watch."""
    blocker: Connection = await asyncpg.connect(url)
    watcher: Connection = await asyncpg.connect(url)
    try:
        making = blocker.transaction()
        await making.start()
        await blocker.execute(f"create table {table} ()")
        yield watcher
        await making.rollback()
    finally:
        blocker.terminate()
        watcher.terminate()


MIGRATORS = """
select count(*) from pg_stat_activity
 where application_name = 'stream-server migrate' and datname = current_database()
   and exists (select from pg_locks where locktype = 'advisory' and granted)
"""


async def migrators(watcher: Connection, number: int) -> None:
    """Returns once there are so many, of which one has the lock."""
    async with asyncio.timeout(30):
        while await watcher.fetchval(MIGRATORS) < number:  # noqa: ASYNC110  # no event tells it
            await asyncio.sleep(0.01)


def last_line(output: str) -> str:
    assert "Traceback" not in output
    return output.strip().splitlines()[-1]
