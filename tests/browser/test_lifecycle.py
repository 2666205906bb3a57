"""Frozen pages, as a laptop or a phone that sleeps makes them.

Playwright keeps its pages focused, and Chromium does not freeze those; so this one is driven by the
DevTools protocol alone.
"""

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio
import websockets

from tests.support.browsers import options, path
from tests.support.servers import PATIENCE, until
from tests.support.site import Site, Stock, indicators

STATUS = "<connection-status></connection-status>"


class Tab:
    """A tab, by the DevTools protocol."""

    def __init__(self, connection: websockets.ClientConnection) -> None:
        self._connection = connection
        self._last = 0

    async def send(self, method: str, **parameters: Any) -> Any:
        self._last += 1
        number = self._last
        message = {"id": number, "method": method, "params": parameters}
        await self._connection.send(json.dumps(message))
        async with asyncio.timeout(PATIENCE):
            while True:
                answer = json.loads(await self._connection.recv())
                if answer.get("id") == number:
                    assert "result" in answer, f"{method}: {answer}"
                    return answer["result"]

    async def evaluate(self, expression: str) -> Any:
        parameters = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        answer = await self.send("Runtime.evaluate", **parameters)
        return answer["result"].get("value")

    async def shows(self, text: str) -> None:
        """Waits until the indicator shows this; the page looks, every time that it changes."""
        shown = await self.evaluate(
            f"""new Promise((resolve) => {{
                const look = () => {{
                    const indicator = document.querySelector('stock-indicator');
                    const shown = indicator?.shadowRoot?.querySelector('[part~=badge]').textContent;
                    if (shown === {json.dumps(text)} || Date.now() > end) resolve(shown);
                    else setTimeout(look, 20);
                }};
                const end = Date.now() + 5000;
                look();
            }})"""
        )
        assert shown == text

    async def freeze(self) -> None:
        await self.send("Page.setWebLifecycleState", state="frozen")

    async def wake(self) -> None:
        await self.send("Page.setWebLifecycleState", state="active")


class Browser:
    """A Chromium of its own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._tabs: list[websockets.ClientConnection] = []

    async def open(self, url: str) -> Tab:
        if self._tabs:
            new = await Tab(self._tabs[0]).send("Target.createTarget", url=url)
            target = new["targetId"]
        else:
            async with httpx.AsyncClient() as client:
                answer = await client.get(f"http://127.0.0.1:{self._port}/json/list")
            target = next(each["id"] for each in answer.json() if each["type"] == "page")
        address = f"ws://127.0.0.1:{self._port}/devtools/page/{target}"
        connection = await websockets.connect(address)
        self._tabs.append(connection)
        tab = Tab(connection)
        await tab.send("Page.navigate", url=url)
        return tab

    async def close(self) -> None:
        for each in self._tabs:
            await each.close()


def _port_in(told: Path) -> int:
    """Where Chromium says that it listens; 0 until it does."""
    lines = told.read_text().splitlines() if told.exists() else []
    return int(lines[0]) if len(lines) > 1 else 0


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            path(),
            *options(),
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            "about:blank",
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            told = Path(profile, "DevToolsActivePort")
            await until(lambda: _port_in(told), "Chromium listens")
            browser = Browser(_port_in(told))
            yield browser
            await browser.close()
        finally:
            with suppress(ProcessLookupError):  # it may have ended by itself
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


@pytest_asyncio.fixture(loop_scope="session")
async def sleepy(live_server: Site) -> AsyncIterator[Browser]:
    """A browser whose tabs can be frozen."""
    async with launched() as browser:
        yield browser


async def test_a_frozen_page_wakes_up_with_the_right_numbers_and_one_connection(
    live_server: Site, stock: Stock, sleepy: Browser
) -> None:
    await stock.add("cube", most=42)
    tab = await sleepy.open(live_server.show("page.html", indicators(["cube"]) + STATUS))
    await tab.shows("42 available")
    await tab.freeze()
    await live_server.streams(0)
    await stock.set("cube", 9)
    await tab.wake()
    await tab.shows("Only 9 remaining!")
    await live_server.streams(1)
    assert await tab.evaluate("document.querySelector('connection-status').textContent") == ""


async def test_a_leader_that_is_frozen_hands_over_and_comes_back_as_a_follower(
    live_server: Site, stock: Stock, sleepy: Browser
) -> None:
    await stock.add("cube", most=42)
    url = live_server.show("page.html", indicators(["cube"]) + STATUS)
    leader = await sleepy.open(url)
    await leader.shows("42 available")
    follower = await sleepy.open(url)
    await follower.shows("42 available")
    assert live_server.open_streams == 1
    await leader.freeze()
    await stock.set("cube", 8)
    await follower.shows("Only 8 remaining!")
    await stock.set("cube", 7)
    await follower.shows("Only 7 remaining!")
    await leader.wake()
    await leader.shows("Only 7 remaining!")
    await stock.set("cube", 6)
    await leader.shows("Only 6 remaining!")
    await live_server.streams(1)
