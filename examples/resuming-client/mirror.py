"""Keeps a copy of a shop's stock in a SQLite file, and misses no change while either side is down.

Run `python mirror.py SERVER FILE`, for example: python mirror.py http://127.0.0.1:8000 stock.db
"""

import json
import random
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

# The server pings every 15 s. After 40 s without a byte the connection is dead, whatever TCP says.
TIMEOUT = httpx.Timeout(10, read=40)


@dataclass
class Event:
    """One Server-Sent Event. `id` and `retry` are None where the server did not send them."""

    name: str = "message"
    data: list[str] = field(default_factory=list)
    id: str | None = None
    retry: int | None = None


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yields the lines of a stream. httpx's iter_lines() would not do: it also ends a line at
    characters such as U+2028, which may be in a product's name."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode()


def events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Yields the events of a stream, except an event that was cut off before its blank line."""
    event = Event()
    for line in lines(chunks):
        if not line:
            yield event
            event = Event()
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            event.name = value
        elif name == "data":
            event.data.append(value)
        elif name == "id":
            event.id = value
        elif name == "retry" and value.isdecimal():
            event.retry = int(value)


class Mirror:
    """The copy: a row for each product, and the id of the last event in the copy.

    Both change in one transaction, which ends with each event that has an id. So if this program
    dies or the connection breaks, the copy and the id still belong together, and the next stream
    continues from there.
    """

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path)
        self._db.executescript(
            "create table if not exists product (id text primary key, data text not null);"
            "create table if not exists last_event (id text not null);"
        )

    @property
    def last_id(self) -> str:
        row = self._db.execute("select id from last_event").fetchone()
        return row[0] if row else ""

    def apply(self, event: Event) -> None:
        """Take an event in. Names that are new to this program are passed over."""
        data = json.loads("\n".join(event.data) or "{}")
        if event.name == "reset":  # our copy is void; a full snapshot follows
            self._db.execute("delete from product")
        elif event.name == "snapshot":  # whole products: all, or those that changed since
            for product in data["products"]:
                self._put(product)
            for product_id in data["unknown"]:
                self._remove(product_id)
        elif event.name == "inventory_updated":
            self._update(data)
        elif event.name == "product_status_changed" and data["status"] == "draft":
            self._remove(data["productId"])
        if event.id:  # only now is the copy consistent again
            self._db.execute("delete from last_event")
            self._db.execute("insert into last_event values (?)", [event.id])
            self._db.commit()

    def undo(self) -> None:
        """Discards the changes after the last id: the server will send them again."""
        self._db.rollback()

    def _update(self, update: dict[str, Any]) -> None:
        """Applies the change of a product or of one of its variants. The update of a new product or
        variant has no name: /api/inventory/ID has it."""
        product = self._get(update["productId"]) or {}
        # A product and its variants share one version counter: a lower version is outdated.
        if update["version"] < product.get("version", 0):
            return
        variants = {each["variantId"]: each for each in product.get("variants", [])}
        if update["variantId"] is None:
            product |= update
        else:
            variants[update["variantId"]] = variants.get(update["variantId"], {}) | update
            product |= {"productId": update["productId"], "version": update["version"]}
        product["variants"] = [each for each in variants.values() if each["status"] != "draft"]
        self._put(product)

    def _get(self, product_id: str) -> dict[str, Any] | None:
        row = self._db.execute("select data from product where id = ?", [product_id]).fetchone()
        return json.loads(row[0]) if row else None

    def _put(self, product: dict[str, Any]) -> None:
        self._db.execute(
            "insert into product values (?, ?) on conflict (id) do update set data = excluded.data",
            [product["productId"], json.dumps(product)],
        )
        print(product["productId"], product.get("stockMessage", ""), flush=True)

    def _remove(self, product_id: str) -> None:
        self._db.execute("delete from product where id = ?", [product_id])
        print(product_id, "is not sold any more", flush=True)


def follow(url: str, mirror: Mirror) -> None:
    """Reads the stream for ever, and reconnects whenever it ends."""
    wait = 2.0  # seconds, until the server sends another time
    with httpx.Client(timeout=TIMEOUT) as client:
        while True:
            headers = {"Last-Event-ID": mirror.last_id} if mirror.last_id else {}
            try:
                with client.stream("GET", f"{url}/api/inventory/stream", headers=headers) as answer:
                    # 4xx: trying again would not help. A proxy sends 5xx while the server is down.
                    if answer.is_client_error:
                        answer.raise_for_status()
                    if answer.is_success:
                        for event in events(answer.iter_bytes()):
                            if event.retry is not None:
                                wait = event.retry / 1000
                            mirror.apply(event)
            except httpx.RequestError as error:
                print("The connection broke:", error or type(error).__name__, file=sys.stderr)
            mirror.undo()
            # So that clients do not all reconnect at the same moment.
            time.sleep(wait * random.uniform(1, 1.5))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        follow(sys.argv[1].rstrip("/"), Mirror(sys.argv[2]))
