"""The detection of poolers, and the choice between the settings' two URLs.

A pooler in transaction mode (PgBouncer, Supavisor, RDS Proxy) gives each transaction another
session: state that one client leaves in a session meets another client.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from stream_server.database.connections import Connection, connect
from stream_server.database.urls import Address, parse, with_schema
from stream_server.settings import Settings

__all__ = ["connect_for_session", "is_pooled", "pool_url", "session_url"]

PROBE_SECONDS: Final = 10.0  # for the answer to a probe
PROBES: Final = 5


def pool_url(settings: Settings) -> str:
    """Returns the URL for requests, which may lead through a pooler."""
    return _with_schema(settings, settings.database_url.get_secret_value())


def session_url(settings: Settings) -> str:
    """Returns the URL for parts that need a session of their own: source and migrations."""
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
    """Returns whether a pooler answers: it gives its clients a process id that is not Postgres'.

    Raises the errors of `connect`.
    """
    if address.is_pooled:
        return True
    connection = await _connect_untouched(address)
    try:
        return await _backend_pid(connection) != connection.get_server_pid()
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
    """Opens a connection for parts that need a session of their own: for locks, for LISTEN, for
    settings that last.

    Raises the errors of `connect`, and ConnectionError if a pooler shares the session; then it has
    changed nothing in that session.
    """
    address = url_or_address if isinstance(url_or_address, Address) else parse(url_or_address)

    async def check(connection: Connection) -> None:
        if await _gives_sessions_away(connection, address):
            raise ConnectionError(
                "LISTEN_DATABASE_URL must be a direct URL of Postgres: here a pooler answers, which"
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
    """Returns whether a pooler gives an idle client's session to other clients. Then our session
    changes, or another connection gets it."""
    backend = await _backend_pid(connection)
    if backend == connection.get_server_pid():
        return False
    other = await _connect_untouched(address)
    try:
        # Probe repeatedly: another client may have taken the session that we would have got.
        for _ in range(PROBES):
            if await _backend_pid(other) == backend or await _backend_pid(connection) != backend:
                return True
        return False
    finally:
        other.terminate()


async def _connect_untouched(address: Address) -> Connection:
    """Opens a connection without changing its session."""
    return await connect(
        replace(address, is_pooled=True),
        application_name="stream-server",
        timeout=PROBE_SECONDS,
    )


async def _backend_pid(connection: Connection) -> int:
    """Returns the process id of the backend that runs the present statement.

    Uses COPY, because asyncpg may prepare a statement for a SELECT, which stays in the session.
    """
    answer = bytearray()

    async def take(part: bytes) -> None:
        answer.extend(part)

    await connection.copy_from_query("select pg_backend_pid()", output=take, timeout=PROBE_SECONDS)
    return int(answer)
