"""Whether a way to Postgres leads through a pooler, and which URL of the settings is for what.

A pooler in transaction mode (PgBouncer, Supavisor, RDS Proxy) gives each transaction another
session: what one leaves behind there meets somebody else.
"""

from __future__ import annotations

from dataclasses import replace

from stream_server.database.connections import Connection, connect
from stream_server.database.urls import Address, parse, with_schema
from stream_server.settings import Settings

__all__ = ["gives_sessions_away", "is_pooled", "pool_url", "session_url"]


def pool_url(settings: Settings) -> str:
    """For requests. May lead through a pooler."""
    return _with_schema(settings, settings.database_url.get_secret_value())


def session_url(settings: Settings) -> str:
    """For whatever needs a session of its own: the source, which listens, and migrations."""
    return _with_schema(settings, settings.listen_url.get_secret_value())


def _with_schema(settings: Settings, url: str) -> str:
    schema = settings.database_schema
    for name, each in (
        ("DATABASE_URL", settings.database_url),
        ("LISTEN_DATABASE_URL", settings.listen_url),
    ):
        schema = schema or parse(each.get_secret_value(), name).schema or ""
    return with_schema(url, schema) if schema else url


async def is_pooled(address: Address) -> bool:
    """Whether somebody else than Postgres answers: a pooler tells its clients a process id of its
    own. Raises what `connect` raises."""
    if address.is_pooled:
        return True
    connection = await _untouched(address)
    try:
        return await _backend(connection) != connection.get_server_pid()
    finally:
        connection.terminate()


async def gives_sessions_away(address: Address) -> bool:
    """Whether it is a pooler that hands a session to the next one who comes, while its owner is
    idle. Raises what `connect` raises."""
    first = await _untouched(address)
    try:
        backend = await _backend(first)
        if backend == first.get_server_pid():
            return False
        second = await _untouched(address)
        try:
            return await _backend(second) == backend
        finally:
            second.terminate()
    finally:
        first.terminate()


async def _untouched(address: Address) -> Connection:
    """A connection whose session is left as it was found."""
    return await connect(
        replace(address, is_pooled=True, statement_cache_size=0),
        application_name="stream-server",
        timeout=10,
        command_timeout=10,
    )


async def _backend(connection: Connection) -> int:
    # In a transaction, so that the statement is run where it was prepared.
    async with connection.transaction():
        pid: int = await connection.fetchval("select pg_backend_pid()")
        return pid
