"""The real application with a few pages beside it, in the test's own event loop.

Pages are under a content security policy that allows no inline script and no inline style, as a
careful shop's are. What a browser sees, it sees through a socket; a server can be stopped and
started again on its port.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
from playwright.async_api import Browser, BrowserContext, Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stream_server.server import Server as UvicornServer
from stream_server.server import configuration
from tests.support.servers import PromptServer, app_on, until

Connection: TypeAlias = "asyncpg.Connection[Any]"

TOP = Path(__file__).parents[2]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"
)
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}


class Site:
    """The application on a database, with pages under /pages/, on one port (a reserved one) for its
    life."""

    def __init__(self, database_url: str, port: int, **overrides: Any) -> None:
        self._database_url = database_url
        self._overrides = overrides
        self.pages: dict[str, str] = {}
        self.policy = POLICY
        self.port = port
        self.url = f"http://127.0.0.1:{self.port}"
        self.app: Starlette | None = None
        self._server: UvicornServer | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serves, on what the database says now."""
        app = app_on(self._database_url, **self._overrides)
        app.router.routes.insert(0, Route("/pages/{name}", self._page))
        server = PromptServer(configuration(app, app.state.settings), app)
        listening = socket.create_server(("127.0.0.1", self.port))
        self.app, self._server = app, server
        self._task = asyncio.create_task(server._serve([listening]))
        await until(
            lambda: app.state.hub.is_live and app.state.pool.is_connected, "the server is ready"
        )

    async def stop(self) -> None:
        """Ends it as SIGTERM does."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task
            self._server = self._task = self.app = None

    def add(self, name: str, content: str) -> str:
        """A page, a script or a stylesheet; its URL."""
        self.pages[name] = content
        return f"{self.url}/pages/{name}"

    def show(self, name: str, body: str, script: str = "", *, head: str = "") -> str:
        """A page with the elements on it; its URL. `script` is a module of the page."""
        stem = name.partition(".")[0]
        self.add(f"{stem}.js", f'import "/client/define.js";\n{script}')
        return self.add(
            name,
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{stem}</title>'
            f'{head}<script type="module" src="/pages/{stem}.js"></script></head>'
            f"<body>{body}</body></html>",
        )

    def metric(self, name: str, **labels: str) -> float:
        assert self.app is not None
        value = self.app.state.metrics.registry.get_sample_value(f"stream_server_{name}", labels)
        return float(value or 0)

    @property
    def open_streams(self) -> int:
        """As the metric counts them, of every kind."""
        assert self.app is not None
        return int(self.app.state.hub.open_streams.total())

    async def streams(self, count: int, within: float = 5.0) -> None:
        """Waits until so many streams are open."""
        await until(lambda: self.open_streams == count, f"{count} open streams", within)

    async def knows(self, product_id: str, most: int) -> None:
        """Waits until the server has heard of a product's new quantity."""
        hub = self.app.state.hub if self.app else None
        assert hub is not None
        await until(
            lambda: (
                product_id in hub.entries and hub.entries[product_id].product.max_quantity == most
            ),
            f"{product_id} is {most}",
        )

    async def _page(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self.pages:
            return Response("", 404)
        headers = {"Content-Security-Policy": self.policy} if self.policy else {}
        kind = TYPES[name.rpartition(".")[2]]
        return Response(self.pages[name], headers=headers, media_type=kind)


class Stock:
    """Changes stock as somebody in psql would."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def add(
        self,
        *ids: str,
        most: int | None = 1000,
        price: int = 4900,
        name: str | None = None,
        variants: Mapping[str, int | None] | None = None,
    ) -> Sequence[str]:
        """Products; `variants` maps an id (its value is the id's last word) to its units."""
        await self.connection.executemany(
            "insert into products (id, name, base_price, max_quantity, has_variants)"
            " values ($1, $2, $3, $4, $5)",
            [(each, name or f"Product {each}", price, most, bool(variants)) for each in ids],
        )
        for variant, units in (variants or {}).items():
            await self.connection.execute(
                "insert into variants (id, product_id, variant_value, max_quantity)"
                " values ($1, $2, $3, $4)",
                variant,
                ids[0],
                variant.rpartition("-")[2],
                units,
            )
        return ids

    async def set(self, product_id: str, most: int | None) -> None:
        await self.connection.execute(
            "update products set max_quantity = $2, sold_quantity = 0 where id = $1",
            product_id,
            most,
        )

    async def set_variant(self, product_id: str, most: int | None) -> None:
        await self.connection.execute(
            "update variants set max_quantity = $2 where id = $1", product_id, most
        )

    async def price(self, product_id: str, cents: int) -> None:
        await self.connection.execute(
            "update products set base_price = $2 where id = $1", product_id, cents
        )

    async def status(self, product_id: str, status: str) -> None:
        await self.connection.execute(
            "update products set status = $2 where id = $1", product_id, status
        )


OpenPage = Callable[[str], Awaitable[Page]]


def indicators(ids: Sequence[str]) -> str:
    """A listing of cards, as a server would render them."""
    return "".join(
        f'<article product-id="{escape(each)}"><h2>{escape(each)}</h2>'
        "<stock-indicator>as rendered</stock-indicator> <live-price>$49.00</live-price>"
        "<sold-out-badge hidden></sold-out-badge></article>"
        for each in ids
    )


async def shows(page: Page, selector: str, text: str, within: float = 5.0) -> None:
    """Waits until the live text of an element (in its shadow) is this."""
    try:
        await page.wait_for_function(
            """([selector, text]) => {
                const element = document.querySelector(selector);
                const shown = element?.shadowRoot?.querySelector(
                    '[part~=badge], [part~=price], [part~=title], [part~=text]');
                return shown?.textContent === text;
            }""",
            arg=[selector, text],
            timeout=within * 1000,
        )
    except Exception as error:
        found = await page.evaluate(
            "s => document.querySelector(s)?.shadowRoot?.textContent ?? document.body.innerText",
            selector,
        )
        raise AssertionError(f"{selector} shows {found!r}, not {text!r}") from error


async def is_in_state(page: Page, state: str, within: float = 5.0) -> None:
    """Waits until the page's store says how it stands."""
    try:
        await page.wait_for_function(
            "state => document.querySelector('connection-status')?.getAttribute('state') === state",
            arg=state,
            timeout=within * 1000,
        )
    except Exception as error:
        found = await page.evaluate(
            "document.querySelector('connection-status')?.getAttribute('state')"
        )
        raise AssertionError(f"the connection is {found!r}, not {state!r}") from error


def literal(value: object) -> str:
    """A value as JavaScript source."""
    return json.dumps(value)


@asynccontextmanager
async def busy(browser: Browser, page: Page) -> AsyncIterator[list[float]]:
    """The tasks of a page, by the milliseconds that its thread worked on each; filled in at the
    block's end. What else the machine does meanwhile does not count, as it would in the times by
    the clock that a page is told of ("longtask")."""
    worked: list[float] = []
    await browser.start_tracing(page=page, categories=["toplevel", "__metadata"])
    try:
        yield worked
    finally:
        events = json.loads(await browser.stop_tracing())["traceEvents"]
    pages = {
        (each["pid"], each["tid"])
        for each in events
        if each["name"] == "thread_name" and each["args"]["name"] == "CrRendererMain"
    }
    worked += [
        each["tdur"] / 1000
        for each in events
        if "tdur" in each and (each["pid"], each["tid"]) in pages
    ]


@asynccontextmanager
async def recorded(context: BrowserContext) -> AsyncIterator[list[str]]:
    """What the pages of a context complain about."""
    complaints: list[str] = []
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    yield complaints
