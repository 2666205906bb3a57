"""What following the log costs those who write: commits a second of 16 writers, each on products
of its own, with one source and with four, against the same schema without announcements.

The sources are whole servers, on the same machine as Postgres and the writers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from bench.context import Context
from bench.database import Database
from bench.figures import Figure, against, at_least
from bench.servers import ours
from stream_server.database.migrations import sql_folder

WRITERS = 16
PRODUCTS = 10_000
PRODUCT = f"random(0, {PRODUCTS // WRITERS - 1}) * {WRITERS} + :client_id"
SILENT = """
create or replace function announce_changes(product_ids text[]) returns void
language plpgsql as $$ begin end $$
"""
NOTIFY = "update stream_settings set value = '{mode}' where name = 'notify_mode'"
NOBODY = "announcing nothing to nobody"


def measure(context: Context) -> list[Figure]:
    rounds = context.pick(4, 2)
    with context.database(PRODUCTS) as database:
        ways: dict[str, Callable[[], float]] = {
            NOBODY: lambda: without_announcements(context, database),
            "one source": lambda: with_sources(context, database, 1),
            "four sources": lambda: with_sources(context, database, 4),
            "always notifying": lambda: always_notifying(context, database),
        }
        commits: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds):
            for name in ways if number % 2 == 0 else reversed(ways):
                commits[name].append(ways[name]())
    bars = {"one source": at_least(0.8), "four sources": at_least(0.7), "always notifying": None}
    return [
        against(f"commits, {name}", "/s", commits[name], NOBODY, commits[NOBODY], bar)
        for name, bar in bars.items()
    ]


def with_sources(context: Context, database: Database, number: int) -> float:
    """Commits a second, once the sources know that there is much to read."""
    with ExitStack() as stack:
        for _ in range(number):
            stack.enter_context(ours(database, context.folder))
        write(context, database, 1)
        return write(context, database, context.pick(5, 3))


def without_announcements(context: Context, database: Database) -> float:
    with replaced(database):
        return with_sources(context, database, 0)


def always_notifying(context: Context, database: Database) -> float:
    """As if somebody slept: what every commit would pay without the protocol."""
    database.execute(NOTIFY.format(mode="always"))
    try:
        return with_sources(context, database, 1)
    finally:
        database.execute(NOTIFY.format(mode="when_asleep"))


def write(context: Context, database: Database, seconds: int) -> float:
    with database.writer(PRODUCT, seconds, clients=WRITERS) as writer:
        return writer.result().per_second


@contextmanager
def replaced(database: Database) -> Iterator[None]:
    """The same triggers, without what announces."""
    database.execute(SILENT)
    try:
        yield
    finally:
        database.execute((sql_folder() / "functions/log/announce_changes.sql").read_text())
