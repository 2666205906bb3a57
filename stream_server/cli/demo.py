"""The demo: the whole service on a Postgres of its own, with something going on in the shop."""

import asyncio
import random
import shlex
import socket
from collections.abc import Sequence
from importlib.resources import files
from typing import Final
from urllib.parse import urlsplit

import typer

from stream_server.app import create_app
from stream_server.cli import web
from stream_server.cli.shoppers import Shoppers
from stream_server.database.embedded import EmbeddedPostgres
from stream_server.database.migrations import migrate
from stream_server.database.pool import Pool
from stream_server.database.poolers import session_url
from stream_server.inventory.imports.models import ImportRequest
from stream_server.inventory.imports.run import import_catalogue
from stream_server.settings import Settings
from stream_server.worker import work_until

__all__ = ["run"]

WATCHED: Final = "Unit-8x8x8-Founder"
CHANGED: Final = "Set-Starter"
CHANGE: Final = (
    "update products set max_quantity = sold_quantity + reserved_quantity + 5"  # noqa: S608  # to read
    f" where id = '{CHANGED}'"
)


def run(
    settings: Settings,
    postgres: EmbeddedPostgres,
    listening: Sequence[socket.socket],
    *,
    with_shoppers: bool,
) -> int:
    """Serve the demo until a signal comes; the exit code for it."""
    asyncio.run(_prepare(settings))
    url = web.url_of(listening)
    app = create_app(settings, is_demo=True)

    async def companion() -> None:
        await _is_ready(url)
        typer.echo(_greeting(url, postgres))
        async with asyncio.TaskGroup() as beside:
            beside.create_task(work_until(asyncio.Event(), settings, app.state.metrics))
            if with_shoppers:
                beside.create_task(_shop(settings))

    return web.run(app, settings, listening, companion)


async def _shop(settings: Settings) -> None:
    async with Pool.of(settings, max_size=1) as pool:
        await Shoppers(pool, random.Random()).run()


async def _prepare(settings: Settings) -> None:
    """The schema, and the sample catalogue where there is none yet."""
    await migrate(session_url(settings))
    async with Pool.of(settings, max_size=1) as pool:
        if not await pool.fetch_val("select exists (select from products)"):
            sample = files("stream_server") / "sample" / "catalogue.json"
            await import_catalogue(
                pool,
                sample.read_bytes(),
                ImportRequest(actor="demo", reason="sample catalogue"),
            )


async def _is_ready(url: str) -> None:
    """Until `/readyz` says so: the server answers, and follows the database."""
    while await _status(url, "/readyz") != 200:  # noqa: ASYNC110  # as a client, from outside
        await asyncio.sleep(0.05)


async def _status(url: str, path: str) -> int | None:
    """The status of a GET; None if nobody answers."""
    place = urlsplit(url)
    try:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
    except OSError:
        return None
    try:
        request = f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        status_line = await reader.readline()
        return int(status_line.split()[1])
    except (OSError, IndexError, ValueError):
        return None
    finally:
        writer.close()


def _greeting(url: str, postgres: EmbeddedPostgres) -> str:
    psql = shlex.join([str(postgres.binaries / "psql"), postgres.url, "-c"])
    return f"""\
Stream server ready: {url}

Open it in two windows and buy something:
  {url}/products/{WATCHED}

Watch a product that people are buying:
  curl -N {url}/api/inventory/{WATCHED}/stream

Watch the whole shop in one terminal, and change the stock of a product in another:
  curl -N {url}/api/inventory/stream
  {psql} "{CHANGE}"

Ask instead of watching:
  curl {url}/api/inventory/{WATCHED}
  curl '{url}/api/inventory?productIds={WATCHED},{CHANGED}'

Operate it: {url}/healthz {url}/readyz {url}/metrics

Ctrl-C ends all of it.
"""
