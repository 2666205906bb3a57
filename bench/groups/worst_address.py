"""What one address may take for itself, without a token and within the default limits.

Of each kind of request: what it costs the server's loop and Postgres, how many a minute are let
through, and so the share of a core that an address can use up with it. Then the worst kinds, all at
once and as fast as the limits let them through: what the server and Postgres really used.

30,000 products, a tenth of them sold out, all words of whose names are in many others.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import quote

from bench.context import Context
from bench.database import Database
from bench.figures import Figure, at_most
from bench.processes import BenchError
from bench.servers import Ours, ours
from stream_server.settings import Settings

PRODUCTS = 30_000
WORST = 0.1  # of a core, the most that an address may use
SCALE = 10  # the limits are tried at a tenth of what they are

_CATALOGUE = """
set session_replication_role = replica;  -- no triggers: the log begins empty
update products
   set name = 'Oak shelf ' || id, category = 'shelves ' || length(id),
       description = repeat('solid oak with doors ', 20),
       base_price = 1000 + hashtext(id) % 1000,
       sold_quantity = case when hashtext(id) % 10 = 0 then max_quantity else sold_quantity end;
set session_replication_role = default;
vacuum (analyze) products;
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request: what is sent the nth time. `is_stream`: opened, and closed at once."""

    name: str
    path: Callable[[int], str]
    body: Callable[[int], object] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_stream: bool = False


def _ids(number: int, first: int) -> str:
    return ",".join(f"p{(first * number + i) % PRODUCTS}" for i in range(number))


def _cart(lines: int, quantity: int) -> Callable[[int], object]:
    return lambda n: {
        "checkoutToken": f"worst {lines} {quantity} {n}",
        "lines": [
            {"productId": f"p{(n * lines + i) % PRODUCTS}", "quantity": quantity}
            for i in range(lines)
        ],
    }


WORDS = quote("oak shelf solid doors")
HTML = {"Accept": "text/html"}
KINDS: Sequence[Kind] = (
    Kind("poll", lambda n: f"/api/inventory/p{n % PRODUCTS}"),
    Kind("poll of 500 products", lambda n: f"/api/inventory?productIds={_ids(500, n)}"),
    Kind(
        "poll of 500 products, gzip",
        lambda n: f"/api/inventory?productIds={_ids(500, n)}",
        headers={"Accept-Encoding": "gzip"},
    ),
    Kind("500 products by a POST", lambda _: "/api/inventory/batch",
         lambda n: {"productIds": _ids(500, n).split(",")}),
    Kind("product", lambda n: f"/api/products/p{n % PRODUCTS}"),
    Kind("alternatives", lambda n: f"/api/products/p{n % PRODUCTS}/alternatives"),
    Kind("one of the catalogue", lambda n: f"/api/products?limit=1&after=p{n % PRODUCTS}"),
    Kind("19 of the catalogue", lambda n: f"/api/products?limit=19&after=p{n % PRODUCTS}"),
    Kind("200 of the catalogue", lambda n: f"/api/products?limit=200&after=p{n % PRODUCTS}"),
    Kind("search", lambda n: f"/api/products?limit=200&q={WORDS}&after=p{n}"),
    Kind("listing page", lambda n: f"/products?after=p{n % PRODUCTS}", headers=HTML),
    Kind("product page", lambda n: f"/products/p{n % PRODUCTS}", headers=HTML),
    Kind("page that is not there", lambda n: f"/nowhere/{n}", headers=HTML),
    Kind("product that is not there", lambda n: f"/api/products/none{n}"),
    Kind("unknown reservation", lambda n: f"/api/reservations/{n:08x}-0000-4000-8000-000000000000"),
    Kind("hold", lambda _: "/api/reservations", _cart(1, 1)),
    Kind("hold of 100 lines", lambda _: "/api/reservations", _cart(100, 1)),
    Kind("refused hold", lambda _: "/api/reservations",
         lambda n: {"checkoutToken": f"short {n}", "lines": [
             {"productId": f"p{_sold_out(n)}", "quantity": 1}]}),
    Kind("refused hold of 100 lines", lambda _: "/api/reservations",
         lambda n: {"checkoutToken": f"short {n}", "lines": [
             {"productId": f"p{_sold_out(n * 100 + i)}", "quantity": 1} for i in range(100)]}),
    Kind("readiness", lambda _: "/readyz"),
    Kind("metrics", lambda _: "/metrics"),
    Kind("a megabyte of JSON that is none", lambda _: "/api/inventory/batch",
         lambda _: ["x" * 100] * 10_000),
    Kind("long head", lambda n: f"/api/inventory/p{n % PRODUCTS}", headers={"X-Long": "x" * 8000}),
    Kind("stream of a product", lambda n: f"/api/inventory/p{n % PRODUCTS}/stream", is_stream=True),
    Kind("stream of a product, from a reader that is ahead",
         lambda n: f"/api/inventory/p{n % PRODUCTS}/stream?lastEventId={AHEAD[0]}", is_stream=True),
    Kind("stream of 500 products", lambda n: f"/api/inventory/stream?productIds={_ids(500, n)}",
         is_stream=True),
    Kind("stream of the catalogue", lambda _: "/api/inventory/stream", is_stream=True),
)  # fmt: skip
SOLD_OUT: list[int] = []
AHEAD: list[str] = []


def _sold_out(n: int) -> int:
    return SOLD_OUT[n % len(SOLD_OUT)]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one request, in ms of CPU; and how many a minute are let through."""

    kind: Kind
    loop: float
    postgres: float
    allowed: float

    @property
    def of_loop(self) -> float:
        return self.loop * self.allowed / 60_000

    @property
    def of_postgres(self) -> float:
        return self.postgres * self.allowed / 60_000


def measure(context: Context) -> list[Figure]:
    with context.database(PRODUCTS) as database:
        for statement in filter(str.strip, _CATALOGUE.split(";\n")):
            database.execute(statement)
        SOLD_OUT[:] = database.numbers(
            "select substr(id, 2) from products where available_quantity = 0"
        )
        allowed = _allowed(context, database)
        costs = _costs(context, database, allowed)
        loop, postgres = _worst_at_once(context, database, costs)
    figures = [
        Figure(f"{cost.kind.name}: {part} a request", value, "ms")
        for cost in costs
        for part, value in (("loop", cost.loop), ("Postgres", cost.postgres))
    ]
    refused = next(cost for cost in costs if cost.kind.name == "refused hold")
    return [
        Figure("refused hold: Postgres", refused.postgres, "ms", at_most(1)),
        *(
            Figure(f"{cost.kind.name}: an address' share of {part}", share, "of a core",
                   at_most(WORST))
            for cost in costs
            for part, share in (("the loop", cost.of_loop), ("Postgres", cost.of_postgres))
        ),
        Figure("the worst at once: share of the loop", loop, "of a core", at_most(WORST)),
        Figure("the worst at once: share of Postgres", postgres, "of a core", at_most(WORST)),
        *figures,
    ]  # fmt: skip


class Client:
    """Sends requests from an address of its own."""

    def __init__(self, port: int, address: str) -> None:
        self._port = port
        self._source = (address, 0)
        self._connection: http.client.HTTPConnection | None = None

    def send(self, kind: Kind, n: int) -> bool:
        """Whether it was let through."""
        if kind.is_stream:
            return self._open(kind.path(n))
        body = None if kind.body is None else json.dumps(kind.body(n))
        headers = dict(kind.headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                "127.0.0.1", self._port, timeout=20, source_address=self._source
            )
        try:
            self._connection.request("GET" if body is None else "POST", kind.path(n), body, headers)
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        if answer.status >= 500:
            raise BenchError(f"{kind.name}: {answer.status}")
        return answer.status != 429

    def _open(self, path: str) -> bool:
        with socket.create_connection(
            ("127.0.0.1", self._port), timeout=20, source_address=self._source
        ) as stream:
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            said = b""
            while b"\nevent: " not in said:  # not one that has been turned away
                more = stream.recv(65_536)
                if not more:
                    return False
                said += more
        return True

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


_addresses = count(2)


@contextmanager
def _client(port: int) -> Iterator[Client]:
    number = next(_addresses)
    client = Client(port, f"127.0.{1 + number // 250}.{1 + number % 250}")
    try:
        yield client
    finally:
        client.close()


def _allowed(context: Context, database: Database) -> dict[str, float]:
    """Requests a minute, by kind: sent until one is refused, in time for none to be forgotten."""
    allowed: dict[str, float] = {}
    with ours(database, context.folder, _limits(SCALE)) as server:
        _look_ahead(server)
        for kind in KINDS:
            with _client(server.port) as client:
                sent = next(n for n in count() if not client.send(kind, n))
                allowed[kind.name] = sent * SCALE
            _release_all(database)
    return allowed


def _limits(scale: int, seconds: int = 60) -> dict[str, str]:
    """The default limits, divided, of windows of so many seconds."""
    rates = {
        name.upper(): Settings.model_fields[name].default
        for name in (
            "request_rate",
            "search_rate",
            "reservation_rate",
            "reservation_line_rate",
            "reservation_unit_rate",
        )
    }
    return {
        name: f"{int(rate.partition('/minute')[0]) * seconds // 60 // scale}/{seconds} second"
        for name, rate in rates.items()
    }


def _look_ahead(server: Ours) -> None:
    """A position of this history that no reader has seen."""
    answer = json.loads(server.get("/api/inventory?productIds=p0"))
    epoch, _, snapshot = answer["position"].partition(".")
    first, last, *rest = snapshot.split(":")
    AHEAD[:] = [f"{epoch}.{first}:{int(last) + 1_000_000}:{':'.join(rest)}"]


_NO_LIMITS = {
    "SEARCH_RATE": "off",
    "RESERVATION_RATE": "off",
    "RESERVATION_LINE_RATE": "off",
    "RESERVATION_UNIT_RATE": "off",
}


def _costs(context: Context, database: Database, allowed: Mapping[str, float]) -> list[Cost]:
    times = context.pick(400, 100)
    costs = []
    postmaster = _parent(database.number("select pg_backend_pid()"))
    with ours(database, context.folder, _NO_LIMITS) as server:
        _look_ahead(server)
        for kind in KINDS:
            rounds = times // 10 if "catalogue" in kind.name and kind.is_stream else times
            with _client(server.port) as client:
                for n in range(10):
                    client.send(kind, n)
                server.process.settle()
                loop, postgres = server.process.cpu(), _cpu_below(postmaster)
                for n in range(10, 10 + rounds):
                    client.send(kind, n)
                server.process.settle()
                loop = (server.process.cpu() - loop) / rounds * 1000
                postgres = (_cpu_below(postmaster) - postgres) / rounds * 1000
            _release_all(database)
            costs.append(Cost(kind, loop, postgres, allowed[kind.name]))
    return costs


def _worst_at_once(
    context: Context, database: Database, costs: Sequence[Cost]
) -> tuple[float, float]:
    """Shares of a core: of the two kinds that take most of the loop and of Postgres each, sent from
    one address at once."""
    by_loop = sorted(costs, key=lambda cost: cost.of_loop)[-2:]
    by_postgres = sorted(costs, key=lambda cost: cost.of_postgres)[-2:]
    kinds = {cost.kind.name: cost for cost in (*by_loop, *by_postgres)}
    seconds = context.pick(60, 10)
    postmaster = _parent(database.number("select pg_backend_pid()"))
    with (
        ours(database, context.folder, _limits(1, seconds)) as server,
        _client(server.port) as first,
    ):
        _look_ahead(server)
        until = time.monotonic() + seconds
        threads = [
            threading.Thread(target=_send_paced, args=(server, first, cost, until))
            for cost in kinds.values()
        ]
        loop, postgres = server.process.cpu(), _cpu_below(postmaster)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        loop = (server.process.cpu() - loop) / seconds
        postgres = (_cpu_below(postmaster) - postgres) / seconds
    print(f"  the worst: {', '.join(kinds)}")
    return loop, postgres


def _send_paced(server: Ours, first: Client, cost: Cost, until: float) -> None:
    """As many as are let through, evenly; a refusal costs the sender a second."""
    client = Client(server.port, first._source[0])
    pause = 60 / max(1.0, cost.allowed)
    n, due = 0, time.monotonic()
    while (now := time.monotonic()) < until:
        if now < due:
            time.sleep(min(due - now, until - now))
            continue
        with suppress(OSError, http.client.HTTPException):
            due += pause if client.send(cost.kind, n) else 1.0
        n += 1
    client.close()


def _release_all(database: Database) -> None:
    """So that no hold of one kind is in the way of the next."""
    database.execute("update reservations set expires_at = now() where status = 'active'")
    while database.number("select expire_reservations(1000)"):
        pass


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _cpu_below(pid: int) -> float:
    """Seconds of CPU of a process' children, those that have ended too."""
    ticks = os.sysconf("SC_CLK_TCK")
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    total = int(fields[13]) + int(fields[14])
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(OSError):
            used = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            total += int(used[11]) + int(used[12])
    return total / ticks
