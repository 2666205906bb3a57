"""Whether a way to Postgres leads through a pooler, and which URL of the settings is for what.

A pooler in transaction mode (PgBouncer, Supavisor, RDS Proxy) gives each transaction another
session: what one leaves behind there meets somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from stream_server.database.connections import Connection, connect
from stream_server.database.urls import Address, parse, with_schema
from stream_server.settings import Settings

__all__ = ["connect_for_session", "is_pooled", "pool_url", "session_url"]

PROBE_SECONDS: Final = 10.0  # for an answer to a question about a pooler
PROBES: Final = 5


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


async def connect_for_session(
    url_or_address: str | Address,
    *,
    application_name: str,
    parameters: Mapping[str, str],
    timeout: float,
    command_timeout: float | None = None,
) -> Connection:
    """As `connect`, for whatever needs a session of its own: locks, LISTEN, settings that last.

    Raises what `connect` raises, and ConnectionError where a pooler gives sessions away. On those,
    it has set nothing.
    """
    address = url_or_address if isinstance(url_or_address, Address) else parse(url_or_address)

    async def check(connection: Connection) -> None:
        if await _gives_sessions_away(connection, address):
            raise ConnectionError(
                "LISTEN_DATABASE_URL must lead straight to Postgres: here a pooler answers, which"
                " gives each transaction another session"
            )

    return await connect(
        replace(address, is_pooled=False),
        application_name=application_name,
        parameters=parameters,
        timeout=timeout,
        command_timeout=command_timeout,
        check=check,
    )


async def _gives_sessions_away(connection: Connection, address: Address) -> bool:
    """Whether it is a pooler that hands a session to the next one who comes, while its owner is
    idle. Then ours changes, or another connection gets it."""
    backend = await _backend(connection)
    if backend == connection.get_server_pid():
        return False
    other = await _untouched(address)
    try:
        # More than once: a third one may just have taken what we would have got.
        for _ in range(PROBES):
            if await _backend(other) == backend or await _backend(connection) != backend:
                return True
        return False
    finally:
        other.terminate()


async def _untouched(address: Address) -> Connection:
    """A connection whose session is left as it was found."""
    return await connect(
        replace(address, is_pooled=True),
        application_name="stream-server",
        timeout=PROBE_SECONDS,
    )


async def _backend(connection: Connection) -> int:
    """The process that runs what is asked now. By COPY: for a SELECT, asyncpg may prepare a
    statement, which stays in the session."""
    answer = bytearray()

    async def take(part: bytes) -> None:
        answer.extend(part)

    await connection.copy_from_query("select pg_backend_pid()", output=take, timeout=PROBE_SECONDS)
    return int(answer)
