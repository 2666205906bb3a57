"""What a page does when the way to the server is bad, and that it comes back by itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Page, Request, Route, expect

from tests.support.site import Site, Stock, indicators, is_in_state, shows

STATUS = "<connection-status></connection-status>"
OUTDATED = "Stock info may be outdated"


async def opened(site: Site, stock: Stock, page: Page) -> None:
    """A live page of one product, 42 units, on a clock that the test can move."""
    await stock.add("cube", most=42)
    await page.clock.install()
    await page.goto(site.show("page.html", indicators(["cube"]) + STATUS))
    await is_in_state(page, "live")
    await shows(page, "stock-indicator", "42 available")


async def let_pass(page: Page, seconds: float, until: str) -> None:
    """Moves the page's clock in steps, until its state is this."""
    for _ in range(int(seconds)):
        if await page.locator("connection-status").get_attribute("state") == until:
            return
        await page.clock.run_for(1000)
        await page.evaluate("fetch('/healthz').catch(() => {})")  # the network's turn
    await is_in_state(page, until)


async def test_a_stopped_server_is_stale_after_30_s_and_live_again_by_itself(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await opened(live_server, stock, page)
    outdated = page.locator("stock-indicator").get_by_text(OUTDATED)
    await live_server.stop()
    await is_in_state(page, "connecting")
    await page.clock.run_for(28_000)
    await expect(page.locator("connection-status")).to_have_attribute("state", "connecting")
    await expect(outdated).to_be_hidden()
    await page.clock.run_for(2_500)
    await is_in_state(page, "stale")
    await expect(outdated).to_be_visible()
    await shows(page, "stock-indicator", "42 available")
    await stock.set("cube", 7)
    await live_server.start()
    await let_pass(page, 60, "live")
    await shows(page, "stock-indicator", "Only 7 remaining!")
    await expect(outdated).to_be_hidden()
    await live_server.streams(1)


async def test_it_resumes_from_where_it_was(live_server: Site, stock: Stock, page: Page) -> None:
    """Only what changed comes again, and nothing that changed is missed."""
    await stock.add("lamp")
    await opened(live_server, stock, page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await live_server.stop()
    await stock.set("cube", 5)
    await live_server.start()
    await let_pass(page, 60, "live")
    await shows(page, "stock-indicator", "Only 5 remaining!")
    assert any("lastEventId=" in url for url in asked if "/stream" in url)


async def test_after_a_restore_from_a_backup_lower_versions_are_believed(
    live_server: Site, stock: Stock, page: Page
) -> None:
    """A new epoch: the server resets the stream."""
    await opened(live_server, stock, page)
    for most in (41, 40, 39):
        await stock.set("cube", most)
    await shows(page, "stock-indicator", "39 available")
    await live_server.stop()
    await restore(stock)
    await live_server.start()
    await let_pass(page, 60, "live")
    await shows(page, "stock-indicator", "77 available")


async def test_a_page_that_polls_notices_a_restore_too(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await opened(live_server, stock, page)
    for most in (41, 40, 39):
        await stock.set("cube", most)
    await shows(page, "stock-indicator", "39 available")
    await page.route("**/stream?**", lambda route: route.abort())
    await live_server.stop()
    await restore(stock)
    await live_server.start()
    await let_pass(page, 60, "polling")
    await shows(page, "stock-indicator", "77 available")


async def restore(stock: Stock) -> None:
    await stock.connection.execute("alter table products disable trigger user")
    await stock.connection.execute("update products set version = 1, max_quantity = 77")
    await stock.connection.execute("alter table products enable trigger user")
    await stock.connection.execute("update stream_epoch set epoch = 'feedbeef'")


async def test_a_blocked_stream_falls_back_to_polling_and_comes_back(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube", most=42)
    await page.clock.install()
    await page.route("**/stream?**", lambda route: route.abort())
    answers: list[int] = []
    page.on("response", lambda got: answers.append(got.status) if "batch" in got.url else None)
    await page.goto(live_server.show("page.html", indicators(["cube"]) + STATUS))
    await let_pass(page, 30, "polling")
    await shows(page, "stock-indicator", "42 available")
    await stock.set("cube", 41)
    await live_server.knows("cube", 41)
    await page.clock.run_for(12_000)
    await shows(page, "stock-indicator", "41 available")
    async with page.expect_response("**/batch") as answer:
        await page.clock.run_for(12_000)
    assert (await (await answer.value).json())["unchanged"], "an ETag spares the answer"
    assert set(answers) == {200}
    await expect(page.locator("stock-indicator").get_by_text(OUTDATED)).to_be_hidden()
    await page.unroute("**/stream?**")
    await let_pass(page, 60, "live")
    await live_server.streams(1)
    answers.clear()
    await page.clock.run_for(25_000)
    assert answers == [], "it polls no more"


async def test_an_error_of_the_server_is_no_end(
    live_server: Site, stock: Stock, page: Page
) -> None:
    """EventSource itself gives up for good on any status but 200."""
    await stock.add("cube", most=42)
    await page.clock.install()
    await page.route("**/stream?**", lambda route: route.fulfill(status=500))
    await page.goto(live_server.show("page.html", indicators(["cube"]) + STATUS))
    await let_pass(page, 30, "polling")
    await page.unroute("**/stream?**")
    await let_pass(page, 60, "live")


async def test_without_eventsource_it_polls_at_once(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube", most=42)
    await page.add_init_script("delete window.EventSource")
    await page.clock.install()
    await page.goto(live_server.show("page.html", indicators(["cube"]) + STATUS))
    await is_in_state(page, "polling")
    await shows(page, "stock-indicator", "42 available")
    await stock.set("cube", 3)
    await live_server.knows("cube", 3)
    await page.clock.run_for(12_000)
    await shows(page, "stock-indicator", "Only 3 remaining!")
    assert live_server.open_streams == 0


async def test_attempts_grow_rare_and_are_jittered(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube")
    await page.clock.install()
    asked: list[float] = []

    async def refuse(route: Route, _: Request) -> None:
        asked.append(await page.evaluate("Date.now()"))
        await route.abort()

    await page.route("**/api/**", refuse)
    await page.goto(live_server.show("page.html", indicators(["cube"]) + STATUS))
    for _ in range(120):
        await page.clock.run_for(1000)
        await page.evaluate("fetch('/healthz')")
    assert 6 <= len([each for each in asked if each - asked[0] < 60_000]) <= 16
    assert len(asked) <= 28, "two minutes: a dozen polls, and attempts ever rarer"


class Proxy:
    """Forwards to a site. While it buffers, nothing of an event stream gets through."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.is_buffering = True
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            body = await reader.readexactly(length)
            head = head.replace(b"Connection: keep-alive", b"Connection: close")
            upstream, to = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(to)
            to.write(head + body)
            is_held = self.is_buffering and b"/stream?" in head.partition(b"\r\n")[0]
            while data := await upstream.read(65_536):
                if not is_held:
                    writer.write(data)
                    await writer.drain()
            to.close()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._tasks)


@asynccontextmanager
async def proxied(site: Site) -> AsyncIterator[Proxy]:
    proxy = Proxy(site.port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()


async def test_behind_a_proxy_that_buffers_the_watchdog_notices_and_polling_takes_over(
    live_server: Site, stock: Stock, page: Page
) -> None:
    await stock.add("cube", most=42)
    await page.clock.install()
    url = live_server.show("page.html", indicators(["cube"]) + STATUS)
    async with proxied(live_server) as proxy:
        attempts: list[Any] = []
        page.on("request", lambda one: attempts.append(one) if "/stream?" in one.url else None)
        await page.goto(url.replace(str(live_server.port), str(proxy.port)))
        await let_pass(page, 15, "polling")
        await shows(page, "stock-indicator", "42 available")
        assert len(attempts) == 1, "the stream still has its chance"
        await stock.set("cube", 8)
        await live_server.knows("cube", 8)
        await page.clock.run_for(40_000)
        await shows(page, "stock-indicator", "Only 8 remaining!")
        await is_in_state(page, "polling")
        proxy.is_buffering = False
        await let_pass(page, 90, "live")
        assert len(attempts) > 1
        await stock.set("cube", 6)
        await shows(page, "stock-indicator", "Only 6 remaining!")


async def test_a_proxy_that_keeps_streams_to_itself_is_given_ever_fewer(
    live_server: Site, stock: Stock, page: Page
) -> None:
    """It may keep each one open, too, after the page has gone."""
    await stock.add("cube", most=42)
    await page.clock.install()
    url = live_server.show("page.html", indicators(["cube"]) + STATUS)
    async with proxied(live_server) as proxy:
        attempts: list[Any] = []
        page.on("request", lambda one: attempts.append(one) if "/stream?" in one.url else None)
        await page.goto(url.replace(str(live_server.port), str(proxy.port)))
        await let_pass(page, 15, "polling")
        for _ in range(24):
            await page.clock.run_for(40_000)
        await is_in_state(page, "polling")
        assert 3 <= len(attempts) <= 8, "in 16 minutes"
        await stock.set("cube", 8)
        await live_server.knows("cube", 8)
        for _ in range(15):
            await page.clock.run_for(1000)
            await page.evaluate("fetch('/healthz').catch(() => {})")
        await shows(page, "stock-indicator", "Only 8 remaining!")


async def test_a_poll_that_fails_beside_a_live_stream_is_made_again(
    live_server: Site, stock: Stock, page: Page
) -> None:
    """A catalogue's stream does not say what an element that is added later shows."""
    await stock.add("cube", "door", most=42)
    script = """
        import { stockStream } from '/client/stock-stream.js';
        stockStream().pollInterval = 200;
        stockStream().watch(null, () => {});
    """
    await page.goto(live_server.show("page.html", indicators(["cube"]) + STATUS, script))
    await is_in_state(page, "live")
    refused: list[str] = []

    async def refuse_twice(route: Any) -> None:
        if len(refused) == 2:
            await route.continue_()
        else:
            refused.append(route.request.url)
            await route.fulfill(status=503)

    await page.route("**/api/inventory/batch", refuse_twice)
    await page.evaluate(
        """() => {
            const added = document.createElement('stock-indicator');
            added.id = 'added';
            added.setAttribute('product-id', 'door');
            document.body.append(added);
        }"""
    )
    await shows(page, "#added", "42 available")
    assert len(refused) == 2
    await is_in_state(page, "live")


async def test_a_page_with_nothing_to_show_asks_nothing(live_server: Site, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url) if "/api/" in one.url else None)
    await page.clock.install()
    body = "<stock-indicator></stock-indicator><live-price product-id=''></live-price>"
    await page.goto(live_server.show("page.html", body + STATUS))
    for _ in range(10):
        await page.clock.run_for(1000)
        await page.evaluate("fetch('/healthz').catch(() => {})")
    await page.evaluate("dispatchEvent(new Event('online'))")
    await page.clock.run_for(1000)
    await page.evaluate("fetch('/healthz').catch(() => {})")
    assert asked == []


async def test_a_stream_that_falls_silent_is_given_up_after_40_s_not_before(
    live_server: Site, stock: Stock, page: Page
) -> None:
    """The connection stands, but nothing comes: no ping either."""
    await opened(live_server, stock, page)
    attempts: list[str] = []
    page.on("request", lambda one: attempts.append(one.url) if "/api/" in one.url else None)
    await page.clock.run_for(28_000)
    await is_in_state(page, "live")
    await page.clock.run_for(8_000)
    await is_in_state(page, "stale")
    assert attempts == []
    await page.clock.run_for(6_000)
    await is_in_state(page, "live")
    assert any("lastEventId=" in url for url in attempts)
    await live_server.streams(1)


async def test_while_the_server_has_lost_its_database_pings_are_no_word(
    live_server: Site, stock: Stock, page: Page
) -> None:
    """The stream stays, but what it shows may be wrong: stale after 30 s."""
    await opened(live_server, stock, page)
    await page.route("**/api/**", lambda route: route.abort())
    assert live_server.app is not None
    live_server.app.state.hub.set_live(False)
    await page.wait_for_function("performance.now() > 0")
    await page.clock.run_for(31_000)
    await is_in_state(page, "stale")
    live_server.app.state.hub.set_live(True)
    await is_in_state(page, "live")


async def test_the_back_button_brings_a_live_page_with_the_right_numbers(
    live_server: Site, stock: Stock, page: Page
) -> None:
    """From the back/forward cache: the same page as it was left, and one connection."""
    await stock.add("cube", most=42)
    other = live_server.add("other.html", "<title>other</title>")
    await page.goto(live_server.show("page.html", indicators(["cube"]) + STATUS))
    await shows(page, "stock-indicator", "42 available")
    await page.evaluate("window.sameAsBefore = true")
    for most in (41, 40):
        await page.goto(other)
        await live_server.streams(0)
        await stock.set("cube", most)
        await page.go_back(wait_until="commit")
        assert await page.evaluate("window.sameAsBefore"), "it was not in the cache"
        await shows(page, "stock-indicator", f"{most} available")
        await is_in_state(page, "live")
        await live_server.streams(1)


async def test_offline_and_online(live_server: Site, stock: Stock, page: Page) -> None:
    await stock.add("cube", most=42)
    await page.goto(live_server.show("page.html", indicators(["cube"]) + STATUS))
    await shows(page, "stock-indicator", "42 available")
    await page.context.set_offline(True)
    await is_in_state(page, "offline")
    await stock.set("cube", 9)
    await page.context.set_offline(False)
    await is_in_state(page, "live")
    await shows(page, "stock-indicator", "Only 9 remaining!")
    await live_server.streams(1)


async def test_a_page_that_leaves_does_not_join_again_until_it_is_back(
    live_server: Site, stock: Stock, page: Page
) -> None:
    """As in a browser that fires no `freeze`: hidden comes after pagehide."""
    await stock.add("cube", most=42)
    await page.goto(
        live_server.show(
            "page.html",
            '<stock-indicator product-id="cube">'
            "</stock-indicator><connection-status></connection-status>",
        )
    )
    await live_server.streams(1)
    await page.evaluate(
        """() => {
            dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }));
            Object.defineProperty(document, 'hidden', { get: () => true, configurable: true });
            document.dispatchEvent(new Event('visibilitychange', { bubbles: true }));
        }"""
    )
    await live_server.streams(0)
    held = "async () => (await navigator.locks.query()).held.length"
    assert await page.evaluate(held) == 0
    await page.evaluate(
        """() => {
            delete document.hidden;
            dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }));
        }"""
    )
    await live_server.streams(1)
