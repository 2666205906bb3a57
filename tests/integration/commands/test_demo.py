"""The demo: one command, everything in it, and nothing left of it afterwards."""

import asyncio
import os
import random
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import httpx
import pytest
from httpx_sse import connect_sse

from stream_server.cli.shoppers import LIMITED_EDITION, Shoppers
from stream_server.database.pool import Pool
from stream_server.inventory.imports.models import ImportRequest
from stream_server.inventory.imports.run import import_catalogue

Connection: TypeAlias = "asyncpg.Connection[Any]"


class TestCommand:
    @contextmanager
    def demo(self, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
        """The process, its URL, and all that it said up to its last hint."""
        with subprocess.Popen(
            [sys.executable, "-m", "stream_server.cli", "demo", "--port", "0", *arguments],
            env={**os.environ, "DATABASE_URL": "postgresql://not.to.be.used.invalid/shop"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # As in a terminal, where Ctrl-C goes to all processes in front.
            process_group=0,
        ) as process:
            assert process.stdout is not None
            said = ""
            try:
                while "Ctrl-C ends" not in said:
                    line = process.stdout.readline()
                    assert line, f"it ended early: {said}"
                    said += line
                found = re.search(r"^Stream server ready: (http://\S+)$", said, re.MULTILINE)
                assert found, said
                yield process, found[1], said
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)

    @pytest.mark.parametrize(
        ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0)]
    )
    def test_a_signal_ends_everything_within_seconds(
        self, number: signal.Signals, code: int
    ) -> None:
        with self.demo() as (process, url, said):
            found = re.search(r"host=([^' ]+)", said)
            assert found
            folder = Path(found[1])
            postmaster = int((folder / "postmaster.pid").read_text().split()[0])
            assert _runs(postmaster)
            assert httpx.get(f"{url}/healthz").status_code == 200
            assert httpx.get(f"{url}/readyz").status_code == 200
            with (
                httpx.Client() as client,
                connect_sse(client, "GET", f"{url}/api/inventory/stream") as stream,
            ):
                events = stream.iter_sse()
                assert [next(events).event, next(events).event] == ["reset", "snapshot"]
                os.killpg(process.pid, number)
                rest, _ = process.communicate(timeout=10)
            assert process.returncode == code
            assert rest.strip() == ""
        assert not _runs(postmaster)
        assert not folder.exists()

    def test_the_line_for_psql_can_be_pasted_and_is_seen_on_the_stream(self) -> None:
        with self.demo("--no-shoppers") as (_, url, said):
            [line] = [line for line in said.splitlines() if "psql" in line]
            with (
                httpx.Client(timeout=10) as client,
                connect_sse(client, "GET", f"{url}/api/inventory/Set-Starter/stream") as stream,
            ):
                events = stream.iter_sse()
                assert next(events).event == "snapshot"
                subprocess.run(shlex.split(line), check=True, capture_output=True)
                update = next(event for event in events if event.event == "inventory_updated")
                assert update.json()["stockMessage"] == "Only 5 remaining!"

    def test_shoppers_are_heard_on_the_stream(self) -> None:
        with (
            self.demo() as (_, url, _),
            httpx.Client(timeout=30) as client,
            connect_sse(client, "GET", f"{url}/api/inventory/stream") as stream,
        ):
            assert any(event.event == "inventory_updated" for event in stream.iter_sse())


def _runs(pid: int) -> bool:
    """Whether the process is alive; one that only waits to be reaped is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and ") Z " in stat.read_text())


class TestShoppers:
    @pytest.fixture
    async def pool(self, database_url: str) -> AsyncIterator[Pool]:
        sample = files("stream_server") / "sample" / "catalogue.json"
        async with Pool(database_url) as pool:
            await import_catalogue(
                pool, sample.read_bytes(), ImportRequest(actor="demo", reason="sample")
            )
            yield pool

    async def test_a_long_day_sells_a_lot_and_never_runs_dry(
        self, pool: Pool, connection: Connection
    ) -> None:
        shoppers = Shoppers(pool, random.Random(7))
        acted = [await shoppers.act() for _ in range(600)]
        assert sum(acted) > 500

        counts = dict(
            await connection.fetch(
                "select actor || ' ' || operation, count(*) from inventory_log group by 1"
            )
        )
        assert counts.keys() == {
            "demo import",
            "demo-shopper sale",
            "demo-warehouse restock",
        }
        limited = await connection.fetchrow(
            "select max_quantity, sold_quantity > 0 from products where id = $1", LIMITED_EDITION
        )
        assert limited is not None
        assert tuple(limited) == (1000, True)

    async def test_a_product_and_its_variants_move_together(
        self, pool: Pool, connection: Connection
    ) -> None:
        shoppers = Shoppers(pool, random.Random(8))
        for _ in range(200):
            await shoppers.act()
        apart = await connection.fetch(
            "select p.id from products p join variants v on v.product_id = p.id"
            " group by p.id having p.sold_quantity <> sum(v.sold_quantity)"
        )
        assert apart == []

    async def test_the_last_unit_is_sold_once(self, pool: Pool, connection: Connection) -> None:
        # The limited edition, because no delivery ever brings more of it.
        await connection.execute(
            f"update products set status = 'draft' where id <> '{LIMITED_EDITION}';"
            f"update variants set status = 'draft' where product_id = '{LIMITED_EDITION}';"
            "update variants set status = 'active', max_quantity = sold_quantity + 1"
            f" where id = '{LIMITED_EDITION}-blue'"
        )
        # The same seed: all of them want to buy at the same time.
        crowd = [Shoppers(pool, random.Random(1)) for _ in range(20)]
        bought = await asyncio.gather(*(shoppers.act() for shoppers in crowd))
        assert bought.count(True) == 1
        sold = await connection.fetch(
            "select sold_quantity, (select sum(sold_quantity) from variants"
            " where product_id = p.id) from products p where id = $1",
            LIMITED_EDITION,
        )
        assert [tuple(row) for row in sold] == [(1, 1)]

    async def test_they_come_at_the_rate_that_was_asked_for(self, pool: Pool) -> None:
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 200:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await Shoppers(pool, random.Random(9), sleep=sleep, per_second=2.0).run()
        assert 80 < sum(slept) < 120

    async def test_a_database_that_is_away_does_not_end_them(
        self, pool: Pool, caplog: pytest.LogCaptureFixture
    ) -> None:
        rounds = 0

        async def sleep(_: float) -> None:
            nonlocal rounds
            rounds += 1
            if rounds == 1:
                await pool.disconnect()
            elif rounds == 3:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await Shoppers(pool, random.Random(1), sleep=sleep).run()
        assert caplog.text.count("could not buy") == 2
