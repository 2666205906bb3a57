"""Plain EventSources over restarts of the server, straight and through proxies: how many give up.

    scripts/restarts [--streams 200] [--restarts 20] [--products 50000] [--seed N]

`--streams` is how many each caller opens on each way. One is lost if it gives up (`readyState` 2)
or does not show, half a minute after the server is back, what changed meanwhile.
"""

import argparse
import asyncio
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import asyncpg
import httpx
from playwright.async_api import async_playwright

from stream_server.database.embedded import embedded_postgres
from stream_server.database.migrations import migrate
from tests.support import browsers
from tests.support.callers.told import HERE, Told, program
from tests.support.ports import reserved_port
from tests.support.proxies import proxy
from tests.support.surroundings import opened

Connection: TypeAlias = "asyncpg.Connection[Any]"

logger = logging.getLogger(__name__)

CALLERS: Final = ("eventsource", "undici", "chromium")
WAYS: Final = ("direct", "nginx", "haproxy")  # or any of tests/support/proxies.py
PATIENCE: Final = 30.0  # seconds
STREAMS_A_HOST: Final = 5  # over HTTP/1.1 a browser opens six connections to one
PRODUCT: Final = "p1"

_PRODUCTS: Final = """
insert into products (id, name, base_price, max_quantity)
select 'p' || i, 'Product ' || i, 4900, 1000 from generate_series(1, $1::int) i
"""
_SCRIPT: Final = """
(urls) => urls.forEach((url, n) => {
    const source = new EventSource(url);
    source.addEventListener("open", () => tell(n, "open", null));
    source.addEventListener("error", () => {
        if (source.readyState === 2) tell(n, "closed", null);
    });
    for (const what of ["reset", "snapshot", "inventory_updated"]) {
        source.addEventListener(what, (event) => tell(n, what, JSON.parse(event.data)));
    }
    (globalThis.sources ??= []).push(source);
})
"""


class Service:
    """`stream-server serve` on one port, that starts and ends."""

    def __init__(self, database_url: str, port: int, settings: Mapping[str, str]) -> None:
        self.port = port
        self._environment = {
            **os.environ,
            "DATABASE_URL": database_url,
            "ALLOWED_ORIGINS": "*",
            "STREAMS_PER_ADDRESS": "0",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stream_server.cli", "serve", "--port", str(self.port)],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    async def stop(self) -> None:
        """Ends it as a restart does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(self._process.wait, 60)
            self._process = None

    async def ready(self) -> None:
        url = f"http://127.0.0.1:{self.port}/readyz"
        async with asyncio.timeout(60), httpx.AsyncClient(trust_env=False) as client:
            while True:
                try:
                    if (await client.get(url)).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)


async def run(
    database_url: str,
    *,
    streams: int,
    restarts: int,
    longest: float,
    seed: int,
    callers: Sequence[str] = CALLERS,
    ways: Sequence[str] = WAYS,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> dict[tuple[str, str], set[int]]:
    """The streams that were lost, by caller and way. The server is away for 0.5 to `longest`
    seconds each time. Their product must be there."""
    chance = random.Random(seed)
    connection = await opened(database_url)
    all_told: dict[tuple[str, str], Told] = {}
    lost: dict[tuple[str, str], set[int]] = {}
    async with AsyncExitStack() as stack:
        stack.callback(connection.terminate)
        port, unused = (stack.enter_context(reserved_port()) for _ in range(2))
        service = Service(database_url, port, settings)
        stack.push_async_callback(service.stop)
        service.start()
        await service.ready()
        for way in ways:
            base, authority = f"http://localhost:{port}", None
            if way != "direct":
                through = stack.enter_context(proxy(way, (port, unused)))
                base, authority = through.url, through.authority
            for caller in callers:
                started = _started(caller, base, streams, authority)
                all_told[caller, way] = await stack.enter_async_context(started)
                lost[caller, way] = set()

        await _shown(all_told, 1000, lost)
        for number in range(restarts):
            await service.stop()
            await _sell(connection, 999 - number)
            away = chance.uniform(0.5, longest)
            await asyncio.sleep(away)
            service.start()
            await service.ready()
            back = time.monotonic()
            await _shown(all_told, 999 - number, lost)
            logger.info(
                "%d: away for %.1f s, all back after another %.1f s, %d lost until now",
                number + 1, away, time.monotonic() - back, sum(map(len, lost.values())),
            )  # fmt: skip
    return lost


async def fill(connection: Connection, products: int) -> None:
    """Products whose ids are p1, p2, …, with 1,000 units each."""
    await connection.execute(_PRODUCTS, products)


async def _sell(connection: Connection, left: int) -> None:
    await connection.execute("update products set max_quantity = $1 where id = $2", left, PRODUCT)


async def _shown(
    all_told: dict[tuple[str, str], Told], stock: int, lost: dict[tuple[str, str], set[int]]
) -> None:
    """Waits until each stream shows the stock or has given up; adds those that do not."""
    deadline = time.monotonic() + PATIENCE

    def missing(told: Told) -> set[int]:
        return set(told.without(PRODUCT, stock)) - told.closed

    while any(map(missing, all_told.values())) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    for key, told in all_told.items():
        lost[key] |= told.closed | missing(told)


@asynccontextmanager
async def _started(
    caller: str, base: str, number: int, authority: Path | None
) -> AsyncIterator[Told]:
    """So many streams, half of them of one product, half of two."""
    paths = [
        f"/api/inventory/{PRODUCT}/stream"
        if n % 2
        else f"/api/inventory/stream?productIds={PRODUCT},p2"
        for n in range(number)
    ]
    if caller == "chromium":
        is_http2 = base.startswith("https:")  # and Caddy answers for no other name than its own
        urls = [
            (base if is_http2 else base.replace("//", f"//s{n // STREAMS_A_HOST}.")) + path
            for n, path in enumerate(paths)
        ]
        async with in_chromium(urls) as told:
            yield told
        return
    environment = dict(os.environ)
    if authority is not None:
        environment["NODE_EXTRA_CA_CERTS"] = str(authority)
    command = ["node", str(HERE / "eventsources.mjs"), caller, *(base + path for path in paths)]
    async with program(command, number, environment) as told:
        yield told


@asynccontextmanager
async def in_chromium(urls: Sequence[str]) -> AsyncIterator[Told]:
    """An EventSource for each URL, in one page."""
    told = Told(len(urls))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=browsers.path(),
            args=[*browsers.options(), "--ignore-certificate-errors"],
        )
        page = await browser.new_page()
        await page.expose_function("tell", told.tell)
        await page.evaluate(_SCRIPT, list(urls))
        try:
            yield told
        finally:
            await browser.close()


async def _main(options: argparse.Namespace) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="stream-server-restarts-") as folder,
        embedded_postgres(Path(folder), throwaway=True) as server,
    ):
        await migrate(server.url)
        connection = await opened(server.url)
        await fill(connection, options.products)
        await connection.close()
        began = time.monotonic()
        lost = await run(
            server.url,
            streams=options.streams,
            restarts=options.restarts,
            longest=5.0,
            seed=options.seed,
            callers=options.callers.split(","),
            ways=options.ways.split(","),
        )
    print(
        f"{options.restarts} restarts, {options.products} products, seed {options.seed},"
        f" {time.monotonic() - began:.0f} s"
    )
    for (caller, way), numbers in lost.items():
        print(f"{caller:12} {way:8} {len(numbers)} of {options.streams} lost")
    return 1 if any(lost.values()) else 0


def main() -> int:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--products", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--callers", default=",".join(CALLERS))
    parser.add_argument("--ways", default=",".join(WAYS))
    return asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
