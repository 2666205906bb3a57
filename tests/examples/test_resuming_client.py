import asyncio
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import httpx
import pytest

from tests.support.examples import PATIENCE, SERVER, command, running, words
from tests.support.servers import until
from tests.support.site import Site, Stock

Connection: TypeAlias = "asyncpg.Connection[Any]"
CHAIRS = [f"Chair-{n}" for n in range(5)]
ALL = {**dict.fromkeys(CHAIRS, 50), "Table": 7, "Lamp": 1}
TROUBLE = "Lamp\u2028with a name\u0085of several lines"


class Copy:
    """What the example keeps and prints."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "stock.db"
        self.log = folder / "log"

    def following(self, url: str) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
        replaced = {SERVER: url, "stock.db": str(self.file)}
        run = words(command("resuming-client", "python3 examples"), replaced)
        return running(run, self.log, PYTHONWARNINGS="error")

    def products(self) -> Mapping[str, Any]:
        if not self.file.exists():
            return {}
        with closing(sqlite3.connect(self.file)) as db:
            try:
                rows = db.execute("select id, data from product").fetchall()
            except sqlite3.OperationalError:  # it has just begun
                return {}
        return {product_id: json.loads(data) for product_id, data in rows}

    def available(self) -> Mapping[str, int | None]:
        return {each: data["availableQuantity"] for each, data in self.products().items()}

    async def becomes(self, available: Mapping[str, int | None]) -> None:
        await until(lambda: self.available() == available, f"{self.available()} is {available}")

    def printed(self) -> Sequence[str]:
        """What it has printed since this was last asked."""
        lines = self.log.read_text().splitlines()
        self.log.write_text("")
        return lines


@pytest.fixture
async def stock(connection: Connection) -> Stock:
    stock = Stock(connection)
    await stock.add(*CHAIRS, most=50)
    await stock.add("Table", variants={"Table-oak": 3, "Table-ash": 4}, most=7)
    await stock.add("Lamp", name=TROUBLE, most=1)
    return stock


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


async def test_it_copies_all_and_follows_each_change(
    site: Site, stock: Stock, copy: Copy, connection: Connection
) -> None:
    async with copy.following(site.url):
        await copy.becomes(ALL)
        assert copy.products()["Lamp"]["name"] == TROUBLE

        await stock.set("Chair-3", 7)
        await copy.becomes({**ALL, "Chair-3": 7})
        await stock.add("Stool", most=9)
        await copy.becomes({**ALL, "Chair-3": 7, "Stool": 9})
        await stock.status("Stool", "draft")
        await copy.becomes({**ALL, "Chair-3": 7})

        await stock.set_variant("Table-oak", 1)
        await until(
            lambda: (
                {
                    each["variantValue"]: each["availableQuantity"]
                    for each in copy.products()["Table"]["variants"]
                }
                == {"oak": 1, "ash": 4}
            ),
            "the variant's number",
        )
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = (await client.get(f"{site.url}/api/inventory")).json()
    assert copy.available() == {
        each["productId"]: each["availableQuantity"] for each in answer["data"]
    }


async def test_after_it_was_killed_it_is_told_what_has_changed_and_nothing_else(
    site: Site, stock: Stock, copy: Copy
) -> None:
    async with copy.following(site.url) as process:
        await copy.becomes(ALL)
        os.killpg(process.pid, signal.SIGKILL)
    await site.streams(0)
    copy.printed()
    await stock.set("Chair-2", 3)
    await site.knows("Chair-2", 3)
    async with copy.following(site.url):
        await copy.becomes({**ALL, "Chair-2": 3})
        assert copy.printed() == ["Chair-2 Only 3 remaining!"]


async def test_after_the_server_was_away_it_is_told_what_has_changed_and_nothing_else(
    site: Site, stock: Stock, copy: Copy
) -> None:
    async with copy.following(site.url):
        await copy.becomes(ALL)
        copy.printed()
        await site.stop()
        await stock.set("Chair-2", 3)
        await site.start()
        await copy.becomes({**ALL, "Chair-2": 3})
        told = [each for each in copy.printed() if "connection" not in each]
        assert told == ["Chair-2 Only 3 remaining!"]


async def test_a_reset_makes_the_copy_anew(site: Site, copy: Copy, superuser: Connection) -> None:
    async with copy.following(site.url):
        await copy.becomes(ALL)
        async with superuser.transaction():  # as after a restore, past our triggers
            await superuser.execute("set local session_replication_role = replica")
            await superuser.execute("delete from products where id = 'Lamp'")
            await superuser.execute("update products set max_quantity = 40 where id = 'Chair-1'")
        await superuser.execute("update stream_epoch set epoch = 'beef'")
        kept = {each: most for each, most in ALL.items() if each != "Lamp"}
        await copy.becomes({**kept, "Chair-1": 40})


@asynccontextmanager
async def answering(*answers: tuple[str, str]) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that gives one answer after another, each of which breaks off: its URL, and the
    Last-Event-IDs that it was asked with."""
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        sent = [each for each in head.splitlines() if each.startswith("Last-Event-ID: ")]
        asked.append(sent[0].removeprefix("Last-Event-ID: ") if sent else "")
        status, body = answers[len(asked) - 1]
        # The length is never reached: the connection breaks.
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 10000\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


def snapshot(**available: int) -> str:
    products = [
        {"productId": each, "availableQuantity": units, "version": 1}
        for each, units in available.items()
    ]
    return f"event: snapshot\ndata: {json.dumps({'products': products, 'unknown': []})}\n"


NEVER = "retry: 3600000\n\n"


async def test_a_connection_that_breaks_within_a_reset_leaves_the_copy_as_it_was(
    copy: Copy,
) -> None:
    """The id belongs to what the copy has: half a new one would be filled up with changes only."""
    async with (
        answering(
            ("200 OK", f"{snapshot(Lamp=1, Chair=1)}id: first\nretry: 10\n\n"),
            ("200 OK", f"event: reset\ndata: {{}}\nid:\n\n{snapshot(Lamp=2)}\n"),
            ("200 OK", f"{snapshot(Lamp=3)}id: third\n{NEVER}"),
        ) as (url, asked),
        copy.following(url),
    ):
        await copy.becomes({"Lamp": 3, "Chair": 1})
    assert asked == ["", "first", "first"]


async def test_it_comes_back_when_it_is_told_to_and_while_a_proxy_says_that_the_server_is_away(
    copy: Copy,
) -> None:
    turned_away = ("200 OK", "retry: 10\n\n")
    away = ("503 Service Unavailable", "")
    answers = [*[turned_away, away] * 20, ("200 OK", f"{snapshot(Lamp=1)}id: first\n{NEVER}")]
    async with answering(*answers) as (url, asked), copy.following(url):
        await copy.becomes({"Lamp": 1})  # of its own it would wait for a minute and a half
    assert len(asked) == len(answers)


async def test_it_ends_when_coming_back_is_of_no_use(copy: Copy) -> None:
    async with answering(("400 Bad Request", "")) as (url, _), copy.following(url) as process:
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() != 0
    assert any("400 Bad Request" in line for line in copy.printed())
