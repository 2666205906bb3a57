"""Connections to Postgres as a URL describes them, also through poolers.

    address = parse(url)
    connection = await connect(address, application_name="stream-server source")

The only startup parameter is `application_name`, because PgBouncer refuses most others. One
statement after connecting sets all other parameters.
"""

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import asyncpg

from stream_server.database.tls import tls_context
from stream_server.database.urls import Address, Keepalives, format_names, parse, parse_names
from stream_server.errors import InvalidSettings

__all__ = ["Connection", "connect", "quote_identifier", "set_statements"]

logger = logging.getLogger(__name__)

Connection: TypeAlias = "asyncpg.Connection[Any]"  # generic in the stubs only

CONNECT_TIMEOUT: Final = 60.0  # seconds for one host, unless the URL or the caller says otherwise
CACHED_STATEMENTS: Final = 100  # prepared statements per connection; asyncpg's default

# With these errors, try the next host: this one is down, starts, stops, is full, or is a standby.
NEXT_HOST_ERRORS: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
)
# Postgres refuses the name or the value of a parameter in the URL, or our right to set it.
PARAMETER_ERRORS: Final = (
    asyncpg.UndefinedObjectError,
    asyncpg.InvalidParameterValueError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.CantChangeRuntimeParamError,
    asyncpg.PostgresSyntaxError,
)


async def connect(
    url_or_address: str | Address,
    *,
    application_name: str,
    parameters: Mapping[str, str] = MappingProxyType({}),
    timeout: float | None = None,
    command_timeout: float | None = None,
    statement_cache_size: int | None = None,
    check: Callable[[Connection], Awaitable[None]] | None = None,
) -> Connection:
    """Opens a connection. Times are seconds; `timeout` applies to each host of the URL.

    The session's search_path is the URL's schema (by default `public`), then pg_temp. The URL's
    parameters are set first, then `parameters`, which win. Through a pooler (`pgbouncer=true`)
    nothing is set, because other clients share the session: there, each transaction begins with
    `set_statements(…, local=True)`. The URL wins over `application_name`, as in libpq, and over
    `timeout` and `statement_cache_size`. `check` gets the session before parameters are set; its
    errors count as errors of connecting.

    Raises asyncpg's errors and OSError, including TimeoutError, if no host can be used (the last
    host's error), and InvalidSettings if waiting cannot help. No error contains a password.
    """
    address = url_or_address if isinstance(url_or_address, Address) else parse(url_or_address)
    if address.ignored:
        _tell_ignored(address.name, address.place, address.ignored)
    if address.connect_timeout is not None:
        timeout = address.connect_timeout or None
    elif timeout is None:
        timeout = CONNECT_TIMEOUT
    if address.statement_cache_size is not None:
        statement_cache_size = address.statement_cache_size
    elif statement_cache_size is None:
        statement_cache_size = CACHED_STATEMENTS

    async def open_host(dsn: str) -> Connection:
        async with asyncio.timeout(timeout):
            connection = await _open(
                dsn,
                address,
                application_name=address.application_name or application_name,
                command_timeout=command_timeout,
                statement_cache_size=statement_cache_size,
            )
            try:
                _keep_alive(connection, address.keepalives)
                if check is not None:
                    await check(connection)
                if not address.is_pooled:
                    await _set_up(connection, address, parameters)
            except BaseException:
                connection.terminate()
                raise
            return connection

    *others, last = address.hosts
    for dsn in others:
        try:
            return await open_host(dsn)
        except NEXT_HOST_ERRORS as error:
            logger.info("%s: %s; trying the next host", address.place, error or "no answer")
    return await open_host(last)


async def _open(
    dsn: str,
    address: Address,
    *,
    application_name: str,
    command_timeout: float | None,
    statement_cache_size: int,
) -> Connection:
    try:
        connection: Connection = await asyncpg.connect(  # type: ignore[call-overload]  # the stubs don't know timeout=None
            dsn,
            ssl=tls_context(address.tls),
            timeout=None,
            command_timeout=command_timeout,
            statement_cache_size=statement_cache_size,
            server_settings={"application_name": application_name},
        )
        return connection
    except ssl.SSLCertVerificationError as error:  # a ValueError, too
        raise ConnectionError(
            f"the server's certificate is not trusted: {error.verify_message}. Set sslrootcert to"
            " the file of its CA"
        ) from error
    except asyncpg.TargetServerAttributeNotMatched as error:
        raise ConnectionError(
            "the server is read-only, but target_session_attrs asks for one that accepts writes"
        ) from error
    except UnicodeError:
        problem = "host must be a name whose parts have 1 to 63 characters"
    except KeyError:  # getpass looks for the process's user
        problem = "must name a user, because the process's user has no name"
    except ValueError:  # asyncpg's error quotes the URL
        problem = "must be a URL such as postgresql://user:password@host:5432/shop"
    # Raised outside of the block: inside, it would keep the error that quotes the URL.
    raise InvalidSettings({address.name: problem})


async def _set_up(connection: Connection, address: Address, parameters: Mapping[str, str]) -> None:
    wanted = {
        "search_path": format_names(address.schema or "public", "pg_temp"),
        **address.parameters,
        **parameters,
    }
    try:
        await connection.execute(set_statements(wanted))
    except PARAMETER_ERRORS as error:
        if not address.parameters:
            raise
        problem = f"options: Postgres refuses a parameter; correct or remove it: {error}"
        raise InvalidSettings({address.name: problem}) from error


@cache  # once for each URL
def _tell_ignored(name: str, place: str, options: tuple[str, ...]) -> None:
    logger.warning(
        "%s: ignored options without a meaning here: %s (%s)", name, ", ".join(options), place
    )


def _keep_alive(connection: Connection, keepalives: Keepalives) -> None:
    """Sets the TCP keepalive options that the operating system has."""
    # asyncpg has no public access to the socket.
    transport: asyncio.Transport = connection._transport  # type: ignore[attr-defined]
    link = transport.get_extra_info("socket")
    if link.family not in (socket.AF_INET, socket.AF_INET6):
        return
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(keepalives.is_on))
    options = {
        "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE": keepalives.idle,
        "TCP_KEEPINTVL": keepalives.interval,
        "TCP_KEEPCNT": keepalives.count,
        "TCP_USER_TIMEOUT": keepalives.user_timeout,
    }
    for name, value in options.items():
        if value is not None and hasattr(socket, name):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def set_statements(parameters: Mapping[str, str], *, local: bool = False) -> str:
    """Returns the SQL that sets parameters for the session or, if `local`, for the present
    transaction. The value of `search_path` is a list of names: `stock, "my schema", pg_temp`."""
    command = "set local" if local else "set"
    return "; ".join(
        f"{command} {_parameter(name)} = {_value(name, value)}"
        for name, value in parameters.items()
    )


def _parameter(name: str) -> str:
    is_plain = re.fullmatch(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*", name)
    return name if is_plain else ".".join(map(quote_identifier, name.split(".")))


def _value(name: str, value: str) -> str:
    if name != "search_path":
        return _quote_literal(value)
    names = parse_names(value)
    if names is None:
        raise ValueError("search_path must be names of schemas, separated by commas")
    return format_names(*names)


def _quote_literal(text: str) -> str:
    """Returns a literal that is correct for any value of standard_conforming_strings."""
    escaped = text.replace("'", "''").replace("\\", "\\\\")
    return f"E'{escaped}'" if "\\" in text else f"'{escaped}'"


def quote_identifier(name: str) -> str:
    """Returns the name as an SQL identifier: `"my ""own"" schema"`."""
    return format_names(name)
