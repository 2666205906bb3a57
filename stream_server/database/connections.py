"""Opens connections to Postgres as a URL describes them, also through poolers.

    address = parse(url)
    connection = await connect(address, application_name="stream-server source")

The only startup parameter is `application_name`: PgBouncer refuses most others. What a session
needs is set by one statement after it.
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

__all__ = ["connect", "quote_identifier", "set_statements"]

logger = logging.getLogger(__name__)

Connection: TypeAlias = "asyncpg.Connection[Any]"  # generic in the stubs only

CONNECT_TIMEOUT: Final = 60.0  # seconds for one host, where neither the URL nor the caller says
CACHED_STATEMENTS: Final = 100  # prepared ones that a connection keeps; asyncpg's own default

# Another host may do better: it is down, starts, ends, is full, or is a standby.
TRY_THE_NEXT: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
)
# Of a parameter that the URL sets, Postgres does not know its name, its value or our right to it.
REFUSED_PARAMETER: Final = (
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
    """A new connection. Times are seconds; `timeout` is for each host that the URL names.

    The session's search_path is the URL's schema (`public` if it names none), then pg_temp. The
    URL's parameters are set, then the given ones, which win. Through a pooler (`pgbouncer=true`)
    nothing is set, for the session is somebody else's too: there, each transaction begins with
    `set_statements(…, local=True)`. As in libpq, `application_name` is what we are called if the
    URL does not say; so are `timeout` and `statement_cache_size`. `check` sees the session before
    anything is set; what it raises counts as an error of connecting.

    Raises asyncpg's errors and OSError, TimeoutError among them, if no host can be used (the last
    one's error); InvalidSettings for what waiting won't mend. None of them holds a password.
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

    async def opened(dsn: str) -> Connection:
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
            return await opened(dsn)
        except TRY_THE_NEXT as error:
            logger.info("%s: %s; trying the next host", address.place, error or "no answer")
    return await opened(last)


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
            f"the server's certificate is not trusted: {error.verify_message}"
        ) from error
    except asyncpg.TargetServerAttributeNotMatched as error:
        raise ConnectionError(
            "the server takes no writes, and target_session_attrs wants one that does"
        ) from error
    except UnicodeError:
        problem = "host must be a name that can be looked up"
    except KeyError:  # getpass looks for the process's user
        problem = "names no user, and the process has none with a name"
    except ValueError:  # asyncpg quotes the URL
        problem = "is no address of a Postgres"
    # Not in the block, where it would hold the error that quotes.
    raise InvalidSettings({address.name: problem})


async def _set_up(connection: Connection, address: Address, parameters: Mapping[str, str]) -> None:
    wanted = {
        "search_path": format_names(address.schema or "public", "pg_temp"),
        **address.parameters,
        **parameters,
    }
    try:
        await connection.execute(set_statements(wanted))
    except REFUSED_PARAMETER as error:
        if not address.parameters:
            raise
        problem = f"options: Postgres refuses a parameter: {error}"
        raise InvalidSettings({address.name: problem}) from error


@cache  # once for each URL
def _tell_ignored(name: str, place: str, options: tuple[str, ...]) -> None:
    logger.warning(
        "%s: ignored, as they mean nothing here: %s (%s)", name, ", ".join(options), place
    )


def _keep_alive(connection: Connection, keepalives: Keepalives) -> None:
    """What a system has no option for, it does its own way."""
    # asyncpg has no public way to the socket.
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
    """The SQL that sets parameters for the session or, if `local`, for the transaction that it
    stands in. Of `search_path` the value is a list of names: `stock, "my schema", pg_temp`."""
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
        raise ValueError("search_path must be names of schemas, joined by commas")
    return format_names(*names)


def _quote_literal(text: str) -> str:
    """Right whatever standard_conforming_strings is."""
    escaped = text.replace("'", "''").replace("\\", "\\\\")
    return f"E'{escaped}'" if "\\" in text else f"'{escaped}'"


def quote_identifier(name: str) -> str:
    """The name as SQL has it, whatever is in it: `"my ""own"" schema"`."""
    return format_names(name)
