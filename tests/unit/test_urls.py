"""What URLs of databases say, as tools and providers write them."""

from collections.abc import Mapping
from inspect import signature
from pathlib import Path

import pytest
import trustme
from asyncpg import connect_utils
from hypothesis import example, given
from hypothesis import strategies as st

from stream_server.database.tls import tls_context
from stream_server.database.urls import (
    IGNORED_OPTIONS,
    KNOWN_OPTIONS,
    Address,
    Keepalives,
    format_names,
    parse,
    parse_names,
    with_schema,
)
from stream_server.errors import InvalidSettings

SECRET = "swordfish"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGPASSFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # its ~/.postgresql would count


def read(url: str, environ: Mapping[str, str] | None = None) -> Address:
    return parse(url, environ=environ or {})


class Reached:
    """Where asyncpg would go, by its own parser."""

    def __init__(self, dsn: str) -> None:
        parser = connect_utils._parse_connect_dsn_and_args  # type: ignore[attr-defined]  # internal
        nothing = dict.fromkeys(signature(parser).parameters)
        self.places, parameters = parser(**{**nothing, "dsn": dsn})
        self.user, self.password = parameters.user, parameters.password
        self.database = parameters.database
        self.startup = parameters.server_settings
        self.target = parameters.target_session_attrs.value
        self.sslmode = parameters.sslmode.name


@pytest.mark.parametrize(
    ("url", "places", "user", "password", "database"),
    [
        pytest.param(
            "postgres://u4:p9%2Fx@ec2-1.compute-1.amazonaws.com:5432/d1",
            [("ec2-1.compute-1.amazonaws.com", 5432)], "u4", "p9/x", "d1",
            id="heroku",
        ),
        pytest.param(
            "postgresql://shop:a%40b%3A%23%3F@ep-cool-1.eu.aws.neon.tech/shop"
            "?sslmode=require&channel_binding=require&options=endpoint%3Dep-cool-1",
            [("ep-cool-1.eu.aws.neon.tech", 5432)], "shop", "a@b:#?", "shop",
            id="neon",
        ),
        pytest.param(
            "postgres://postgres.ref:p@aws-0-eu.pooler.supabase.com:6543/postgres"
            "?pgbouncer=true&connection_limit=1&workaround=supabase-pooler.vercel",
            [("aws-0-eu.pooler.supabase.com", 6543)], "postgres.ref", "p", "postgres",
            id="supabase",
        ),
        pytest.param(
            "postgresql+asyncpg://shop:p@db:6432/shop?prepared_statement_cache_size=0",
            [("db", 6432)], "shop", "p", "shop",
            id="sqlalchemy",
        ),
        pytest.param(
            "postgresql+psycopg://shop:p@/shop?host=one:5433&host=two:5434",
            [("one", 5433), ("two", 5434)], "shop", "p", "shop",
            id="sqlalchemy-hosts",
        ),
        pytest.param(
            "postgresql://shop:p@localhost/shop?host=/cloudsql/project:region:shop",
            ["/cloudsql/project:region:shop/.s.PGSQL.5432"], "shop", "p", "shop",
            id="prisma-cloud-sql",
        ),
        pytest.param(
            "postgres://shop:p@%2Fvar%2Frun%2Fpostgresql:5433/shop",
            ["/var/run/postgresql/.s.PGSQL.5433"], "shop", "p", "shop",
            id="django",
        ),
        pytest.param(
            "postgresql://postgres:@/shop?host=/srv/my%20data",
            ["/srv/my data/.s.PGSQL.5432"], "postgres", None, "shop",
            id="embedded",
        ),
        pytest.param(
            "postgresql://a,b:5433/shop?user=shop&password=x%26y+z",
            [("a", 5432), ("b", 5433)], "shop", "x&y+z", "shop",
            id="all-by-options",
        ),
        pytest.param(
            "postgresql://shop@a,b/shop?port=5433,5434",
            [("a", 5433), ("b", 5434)], "shop", None, "shop",
            id="ports-by-option",
        ),
        pytest.param(
            "postgresql://shop@[::1]:5433,[fe80::1%25eth0],10.0.0.1/shop",
            [("::1", 5433), ("fe80::1%eth0", 5432), ("10.0.0.1", 5432)], "shop", None, "shop",
            id="ipv6",
        ),
        pytest.param(
            "postgresql://shop@/shop?host=::1&port=5433",
            [("::1", 5433)], "shop", None, "shop",
            id="ipv6-by-option",
        ),
        pytest.param(
            "postgresql://shop@/shop?hostaddr=10.0.0.1",
            [("10.0.0.1", 5432)], "shop", None, "shop",
            id="hostaddr",
        ),
        pytest.param(
            "postgresql://sh%C3%B6p:p#ss?w[rd@db/b%C3%BCcher%2Fstock;1\n",
            [("db", 5432)], "shöp", "p#ss?w[rd", "bücher/stock;1",
            id="odd-characters",
        ),
        pytest.param(
            "postgresql://shop@:5433/shop?host=db", [("db", 5432)], "shop", None, "shop",
            id="an-option-wins",
        ),
    ],
)  # fmt: skip
def test_asyncpg_goes_where_the_url_says(
    url: str,
    places: list[tuple[str, int] | str],
    user: str,
    password: str | None,
    database: str,
) -> None:
    address = read(url)
    reached = Reached(address.dsn)
    assert (reached.places, reached.user, reached.password, reached.database) == (
        places, user, password, database,
    )  # fmt: skip
    assert [place for dsn in address.hosts for place in Reached(dsn).places] == places


def test_a_port_alone_is_that_of_the_usual_hosts() -> None:
    places = Reached(read("postgresql://shop@:5433/shop").dsn).places
    assert places == Reached(read("postgresql://shop@/shop?port=5433").dsn).places
    assert ("localhost", 5433) in places


EVERY_OPTION = (
    "application_name=till&channel_binding=require&client_encoding=latin1&connect_timeout=3"
    "&connection_limit=7&fallback_application_name=x&gssencmode=disable&gsslib=gssapi&hostaddr=10.0.0.1"
    "&keepalives=1&keepalives_idle=30&keepalives_interval=5&keepalives_count=3&tcp_user_timeout=9000"
    "&krbsrvname=postgres&load_balance_hosts=disable&options=-c%20lock_timeout%3D5s&passfile=/none"
    "&pgbouncer=true&pool_timeout=2.5&replication=false&require_auth=scram-sha-256&requiressl=1"
    "&schema=stock&service=shop&socket_timeout=9&ssl_max_protocol_version=TLSv1.3"
    "&ssl_min_protocol_version=TLSv1.2&sslaccept=strict&sslcompression=0&sslmode=require"
    "&sslnegotiation=postgres&sslsni=1&target_session_attrs=read-write&statement_timeout=9s&of_nobody=1"
)


def test_no_option_becomes_a_startup_parameter() -> None:
    address = read(f"postgresql://shop@db/shop?{EVERY_OPTION}")
    assert Reached(address.dsn).startup is None
    assert Reached(address.dsn).target == "read-write"
    assert Reached(address.dsn).sslmode == "require"
    assert address.schema == "stock"
    assert address.is_pooled
    assert (address.pool_size, address.pool_timeout, address.connect_timeout) == (7, 2.5, 3)
    assert address.statement_cache_size == 0
    assert address.keepalives == Keepalives(True, 30, 5, 3, 9000)
    assert address.application_name == "till"
    assert dict(address.parameters) == {"lock_timeout": "5s", "statement_timeout": "9s"}
    assert address.ignored == (
        "channel_binding", "client_encoding", "fallback_application_name", "gssencmode",
        "hostaddr", "load_balance_hosts", "of_nobody", "replication", "require_auth", "requiressl",
        "service", "socket_timeout", "sslaccept", "sslcompression", "sslsni",
    )  # fmt: skip


def test_without_options_nothing_is_assumed() -> None:
    address = read("postgresql://shop@db/shop")
    assert Reached(address.dsn).target == "any"
    assert (address.schema, address.is_pooled, address.statement_cache_size) == (None, False, None)
    assert (address.pool_size, address.pool_timeout, address.connect_timeout) == (None, None, None)
    assert address.keepalives == Keepalives()
    assert not address.parameters
    assert not address.ignored


def test_what_a_proxy_reads_in_options_is_sent_on() -> None:
    address = read("postgresql://db/shop?options=reference%3Dabc%20-c%20work_mem%3D8MB")
    assert Reached(address.dsn).startup == {"options": "reference=abc"}
    assert dict(address.parameters) == {"work_mem": "8MB"}


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ("-c%20statement_timeout=1234", {"statement_timeout": "1234"}),
        ("-cstatement_timeout%3D1234", {"statement_timeout": "1234"}),
        ("--statement-timeout=5s%20-c%20geqo=off", {"statement_timeout": "5s", "geqo": "off"}),
        (r"-c my.text=a\ b\\c", {"my.text": r"a b\c"}),
        ("-c%20a.b=x=y", {"a.b": "x=y"}),
        ("-c%20client_encoding=latin1", {}),
    ],
)
def test_options_are_read_as_the_server_reads_them(
    options: str, parameters: dict[str, str]
) -> None:
    assert dict(read(f"postgresql://db/shop?options={options}").parameters) == parameters


@pytest.mark.parametrize(
    ("query", "schema"),
    [
        ("schema=stock", "stock"),
        ("schema=My%20Stock", "My Stock"),
        ("schema=", None),
        ("options=-csearch_path%3DStock,public", "stock"),
        ('options=-csearch_path%3D"$user","My ""stock"""', None),  # the space ends it
        ('options=-csearch_path%3D"$user",\\"Stock\\"', "Stock"),
        ("search_path=stock,public", "stock"),
        ("schema=stock&search_path=other", "stock"),
    ],
)
def test_the_schema_is_prismas_or_the_first_of_the_search_path(
    query: str, schema: str | None
) -> None:
    if schema is None and "search_path" in query:
        with pytest.raises(InvalidSettings):
            read(f"postgresql://db/shop?{query}")
    else:
        assert read(f"postgresql://db/shop?{query}").schema == schema


def test_a_schema_put_into_a_url_replaces_the_one_there() -> None:
    url = with_schema(
        "postgresql://u:p?x@db/shop?sslmode=require&schema=a&connect_timeout=3", 'b &"c'
    )
    assert url == (
        "postgresql://u:p?x@db/shop?sslmode=require&connect_timeout=3&schema=b%20%26%22c"
    )
    address = read(url)
    assert (address.schema, address.connect_timeout) == ('b &"c', 3)
    assert read(with_schema("postgres://db/shop?options=-csearch_path%3Da", "b")).schema == "b"
    assert with_schema("postgres://db/shop", "b") == "postgres://db/shop?schema=b"


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)))
def test_names_are_the_same_after_being_written_and_read(names: list[str]) -> None:
    assert parse_names(format_names(*names)) == (names or None)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=15))
def test_any_schema_survives_in_a_url(schema: str) -> None:
    address = read(with_schema("postgresql://u@db/shop?options=-c%20geqo%3Doff", f"s{schema}"))
    assert address.schema == f"s{schema}"


# With several hosts


def test_of_several_hosts_the_one_that_takes_writes_is_meant() -> None:
    address = read("postgresql://a,b/shop")
    assert Reached(address.dsn).target == "primary"
    assert [Reached(dsn).target for dsn in address.hosts] == ["primary", "primary"]
    wanted = {"PGTARGETSESSIONATTRS": "any"}
    assert Reached(read("postgresql://a,b/shop", wanted).dsn).target == "any"
    assert Reached(read("postgresql://a,b/s?target_session_attrs=any").dsn).target == "any"


# TLS


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        ("", "prefer"),
        ("sslmode=disable", "disable"),
        ("sslmode=verify-full", "verify_full"),
        ("ssl=true", "require"),
        ("ssl=no-verify", "require"),
        ("ssl=false", "disable"),
        ("ssl=require", "require"),
    ],
)
def test_the_mode_of_tls_is_libpqs_or_that_of_other_drivers(
    options: str, mode: str, tmp_path: Path
) -> None:
    if mode == "verify_full":  # asyncpg alone wants a file
        (tmp_path / ".postgresql").mkdir()
        trustme.CA().cert_pem.write_to_path(tmp_path / ".postgresql" / "root.crt")
    assert Reached(read(f"postgresql://db/shop?{options}").dsn).sslmode == mode


def test_the_environment_says_what_the_url_does_not() -> None:
    environ = {"PGSSLMODE": "disable"}
    assert Reached(read("postgresql://db/shop", environ).dsn).sslmode == "disable"
    assert Reached(read("postgresql://db/s?sslmode=require", environ).dsn).sslmode == "require"


def test_verify_full_without_a_file_takes_the_systems_authorities(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "system.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    for options in ("sslmode=verify-full", "sslrootcert=system"):
        context = tls_context(read(f"postgresql://db/shop?{options}").tls)
        assert context is not None
        assert context.check_hostname
        (certificate,) = context.get_ca_certs()
        assert "trustme" in str(certificate)


# Documentation


def test_the_docs_name_every_option_that_means_something() -> None:
    page = (Path(__file__).parents[2] / "docs" / "databases.md").read_text().lower()
    others = {"database", "ssl", "idle_session_timeout", "transaction_timeout"}  # the "…" there
    assert [
        name for name in KNOWN_OPTIONS - IGNORED_OPTIONS - others if f"`{name}" not in page
    ] == []


# Mistakes

MISTAKES = [
    ("", "must start with postgresql://"),
    ("mysql://db/shop", "must start with postgresql://"),
    ("postgresql:/db/shop", "must start with postgresql://"),
    ("postgresql://db:port/shop", "port must be"),
    ("postgresql://db:0/shop", "port must be"),
    ("postgresql://db:65536/shop", "port must be"),
    ("postgresql://a,b,c/shop?port=1,2", "port must be one"),
    ("postgresql://a,,b/shop", "host must have no empty item"),
    ("postgresql://::1/shop", "port must be"),
    ("postgresql://[::1/shop", "host must have an IPv6 address"),
    ("postgresql://my db/shop", "host must be a name"),
    (f"postgresql://shop:{SECRET}%/x@db/shop", "must have %40 for @ and %2F for /"),
    (f"postgresql://shop:{SECRET}%4@db/shop", "the password must have two hexadecimal"),
    (f"postgresql://shop:{SECRET}%FF@db/shop", "the password must be UTF-8"),
    (f"postgresql://shop:{SECRET}%00@db/shop", "the password must be UTF-8"),
    (f"postgresql://shop:x@{SECRET}@db/shop", "must have %40 for @"),
    (f"postgresql://shop:1/{SECRET}@db/shop", "must have %40 for @"),
    (f"postgresql://shop:{SECRET}/x@db/shop", "must have %40 for @ and %2F for /"),
    (f"postgresql://db/shop?password=x&{SECRET}", "must be name=value"),
    (f"postgresql://db/shop?password=x&password={SECRET}", "is given twice"),
    (f"postgresql://db/shop?password=&{SECRET}=0&port=x", "port must be"),
    ("postgresql://db/shop?sslmode=require&sslmode=disable", "sslmode must be given once"),
    ("postgresql://db/shop?sslmode=verify", "sslmode must be one of disable, allow"),
    ("postgresql://db/shop?ssl=maybe", "ssl must be"),
    ("postgresql://db/shop?sslmode=verify-ca", "sslrootcert must name the file of the CA"),
    ("postgresql://db/shop?sslmode=require&sslrootcert=system", "sslmode must be verify-full"),
    ("postgresql://db/shop?sslrootcert=/none/root.pem", "sslrootcert must name a readable file:"),
    (f"postgresql://db/shop?sslmode=require&sslcert={__file__}", "must be files in PEM"),
    (f"postgresql://db/shop?sslmode=verify-ca&sslrootcert={__file__}", "must be files in PEM"),
    ("postgresql://db/shop?sslnegotiation=now", "sslnegotiation must be one of postgres, direct"),
    ("postgresql://db/shop?sslnegotiation=direct", "with sslnegotiation=direct"),
    ("postgresql://db/shop?ssl_min_protocol_version=2", "ssl_min_protocol_version must be one of"),
    ("postgresql://db/shop?connect_timeout=soon", "connect_timeout must be a number of seconds"),
    ("postgresql://db/shop?connect_timeout=-1", "connect_timeout must be a number of seconds"),
    ("postgresql://db/shop?pool_timeout=nan", "pool_timeout must be a number of seconds"),
    ("postgresql://db/shop?connection_limit=0", "connection_limit must be a whole number"),
    ("postgresql://db/shop?keepalives_idle=x", "keepalives_idle must be a whole number"),
    ("postgresql://db/shop?pgbouncer=yes", "pgbouncer must be true or false"),
    ("postgresql://db/shop?target_session_attrs=master", "target_session_attrs must be primary"),
    ("postgresql://db/shop?target_session_attrs=standby", "a standby accepts no writes"),
    ("postgresql://db/shop?gsslib=x", "gsslib must be"),
    ("postgresql://db/shop?options=-x", "options must be -c name=value"),
    ("postgresql://db/shop?options=-c%20work_mem", "options must be -c name=value"),
    ("postgresql://db/shop?options=-c", "options must be -c name=value"),
    ("postgresql://db/shop?options=--x%3B=1", "options must be -c name=value"),
    ("postgresql://db/shop?search_path=a,,b", "search_path must be names"),
    ("postgresql://db/shop?schema=pg_catalog", "schema must not begin with pg_"),
    (f"postgresql://db/shop?schema={'s' * 64}", "schema must have at most 63 bytes"),
    ("postgresql://db/shop?schema=%", "the option schema must have two"),
]  # fmt: skip


@pytest.mark.parametrize(("url", "problem"), MISTAKES)
def test_a_mistake_is_told_at_once_with_its_option_and_no_secret(url: str, problem: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        parse(url, "LISTEN_DATABASE_URL", environ={})
    assert caught.value.message.startswith("LISTEN_DATABASE_URL: ")
    assert problem in caught.value.message
    assert SECRET not in shown(caught.value)


def shown(error: InvalidSettings) -> str:
    return f"{error} {error.details} {error.__cause__!r} {error.__context__!r}"


def told(url: str) -> str:
    """All that a log or a message could show of it."""
    try:
        address = read(url)
    except InvalidSettings as error:
        return shown(error)
    return f"{address} {address.ignored} {address.place}"


@example(form="postgresql://db/shop?password={}", before="", marks="&", after="=0")
@given(
    st.sampled_from(
        [
            "postgresql://shop:{}@db/shop",
            "postgresql://shop:{}@a,b:5432/shop?sslmode=x",
            "postgresql://db/shop?password={}",
            "postgresql://db/shop?password={}&port=x",
            "postgresql://db/shop?sslpassword={}&sslmode=require",
            "shop:{}@db/shop",
        ]
    ),
    st.text(max_size=8),
    st.text("@:/?#&=%[],+ \\ab01", max_size=6),
    st.text("@:/?#&=%[],+ \\ab01", max_size=6),
)
def test_no_password_is_told_whatever_is_in_it(
    form: str, before: str, marks: str, after: str
) -> None:
    assert SECRET not in told(form.format(f"{before}{marks}{SECRET}{after}"))
