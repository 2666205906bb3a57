"""What the URL of a database says, whichever tool or provider wrote it.

    address = parse("postgresql+asyncpg://shop:secret@db.example/shop?schema=stock")
    address.schema   # 'stock'
    redact(url)      # 'postgresql+asyncpg://shop:***@db.example/shop?schema=stock'

The grammar is libpq's (https://www.postgresql.org/docs/current/libpq-connect.html), and so is what
its options mean. Options of Prisma, SQLAlchemy, Go's drivers and the providers count where they
mean something here. The rest is ignored, and named in `Address.ignored`: sent on to Postgres, each
would be a startup parameter, which Postgres or a pooler refuses at every try. What is a mistake
raises InvalidSettings at once. No message quotes a value: it may be, or hold, a password.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NoReturn
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlencode

from stream_server.database.tls import SSL_MODES, TLS_OPTIONS, tls_problem
from stream_server.errors import InvalidSettings

__all__ = [
    "Address",
    "Keepalives",
    "format_names",
    "parse",
    "parse_names",
    "redact",
    "with_schema",
]


@dataclass(frozen=True, slots=True)
class Keepalives:
    """How TCP finds out that the other side is gone; None: as the system does. Times are seconds,
    of `user_timeout` milliseconds. They mean nothing to Unix sockets."""

    is_on: bool = True
    idle: int | None = None
    interval: int | None = None
    count: int | None = None
    user_timeout: int | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says of a database and of the way to it. Its text shows no secret."""

    name: str  # of the setting that held the URL
    place: str  # the URL, redacted
    dsn: str = field(repr=False)  # for asyncpg: only what it understands, and all hosts
    hosts: tuple[str, ...] = field(repr=False)  # the same, one URL for each host, in their order
    tls: Mapping[str, str] = field(repr=False)  # the options of TLS, by libpq's names
    schema: str | None  # None: not said
    is_pooled: bool  # through a pooler that gives each transaction another session
    pool_size: int | None
    pool_timeout: float | None  # seconds to wait for a free connection; 0: no limit
    connect_timeout: float | None  # seconds for one host; 0: no limit
    statement_cache_size: int | None  # 0: no prepared statements
    keepalives: Keepalives
    application_name: str | None
    parameters: Mapping[str, str]  # of the session; search_path is not among them: see `schema`
    ignored: tuple[str, ...]  # names of options that mean nothing here


SCHEME: Final = re.compile(r"postgres(?:ql)?(?:\+\w+)?://", re.ASCII)

# Of libpq's variables, those that asyncpg would read, and that defaults of ours must not overrule.
VARIABLES: Final = {
    **{name: "PG" + name.upper().replace("_", "") for name in TLS_OPTIONS - {"sslpassword"}},
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}
SECRETS: Final = frozenset({"password", "sslpassword"})
PASSED_ON: Final = ("target_session_attrs", "krbsrvname", "gsslib", "passfile")
# Parameters of Postgres that asyncpg and Go's drivers take among the options; libpq doesn't.
PARAMETERS: Final = frozenset(
    {
        "search_path",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "transaction_timeout",
        "timezone",
    }
)
# What our reading and writing of values depends on is not for a URL to change.
OUR_OWN: Final = frozenset({"client_encoding", "standard_conforming_strings"})
# Known, and meaningless here: for being told by name whatever else is in the URL.
MEANINGLESS: Final = frozenset(
    {
        "channel_binding",
        "client_encoding",
        "conn_health_checks",
        "conn_max_age",
        "connection_timeout",
        "fallback_application_name",
        "gssdelegation",
        "gssencmode",
        "hostaddr",
        "load_balance_hosts",
        "max_idle_connection_lifetime",
        "max_protocol_version",
        "min_protocol_version",
        "replication",
        "require_auth",
        "requirepeer",
        "requiressl",
        "service",
        "single_use_connections",
        "socket_timeout",
        "sslaccept",
        "sslcertmode",
        "sslcompression",
        "sslcrldir",
        "sslidentity",
        "sslsni",
        "supa",
        "uselibpqcompat",
        "workaround",
    }
)
# What `redact` shows.
SAFE_OPTIONS: Final = frozenset(
    {
        "application_name",
        "connect_timeout",
        "connection_limit",
        "dbname",
        "host",
        "pgbouncer",
        "pool_timeout",
        "port",
        "schema",
        "sslmode",
        "target_session_attrs",
        "user",
    }
)
KNOWN: Final = (
    SAFE_OPTIONS
    | TLS_OPTIONS
    | PARAMETERS
    | MEANINGLESS
    | set(PASSED_ON)
    | {"password", "options", "ssl", "statement_cache_size", "prepared_statement_cache_size"}
    | {"keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"}
    | {"tcp_user_timeout", "database"}
)
LONGEST_NAME: Final = 63  # bytes; Postgres cuts longer names off


def parse(
    url: str, name: str = "DATABASE_URL", *, environ: Mapping[str, str] = os.environ
) -> Address:
    """What `url` says; `name` is the setting that held it, for messages.

    Options win over what stands before the `?`, as in libpq (Prisma's and SQLAlchemy's URLs of
    sockets rely on it), and over libpq's variables for TLS and `target_session_attrs` in `environ`.
    With several hosts, the one is meant that takes writes, unless `target_session_attrs` says else.

    Raises InvalidSettings. It names the option and quotes no value of any.
    """

    def refuse(problem: str) -> NoReturn:
        raise InvalidSettings({name: problem})

    return _Reader(refuse, environ).read(url.strip(), name)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Of a URL, still percent-encoded."""

    user: str
    password: str
    hosts: str
    database: str
    options: str


def _split(url: str) -> _Parts | None:
    """By libpq's grammar: credentials end at the first @, if it comes before any slash."""
    scheme = SCHEME.match(url)
    if scheme is None:
        return None
    rest = url[scheme.end() :]
    user = password = ""
    before, at, after = rest.partition("@")
    if at and "/" not in before:
        (user, _, password), rest = before.partition(":"), after
    place, _, options = rest.partition("?")
    hosts, _, database = place.partition("/")
    return _Parts(user, password, hosts, database, options)


class _Reader:
    """Reads one URL. `refuse` raises."""

    def __init__(self, refuse: Callable[[str], NoReturn], environ: Mapping[str, str]) -> None:
        self._refuse = refuse
        self._environ = environ

    def read(self, url: str, name: str) -> Address:
        parts = _split(url)
        if parts is None:
            self._refuse("must start with postgresql://")
        if "@" in parts.hosts + parts.database:
            self._refuse("in the user's name and the password, @ must be written %40 and / %2F")
        given = self._options(parts.options)
        # Behind an unescaped password, what looks like a name may be a piece of it.
        is_secretive = "@" in parts.options or not given.keys().isdisjoint(SECRETS)
        options = {key: value for key, value in given.items() if value}
        take = options.pop

        user = take("user", "") or self._decoded(parts.user, "the user's name")
        password = take("password", "") or self._decoded(parts.password, "the password")
        database = self._decoded(parts.database, "the name of the database")
        database = take("dbname", "") or take("database", "") or database
        places = self._places(parts.hosts, options)
        tls = self._tls(options)
        ignored: list[str] = []

        parameters, for_proxy = self._session(take("options", ""))
        for option in [key for key in options if key.lower() in PARAMETERS]:
            parameters[option.lower()] = options.pop(option)
        application_name = take("application_name", "") or None
        application_name = parameters.pop("application_name", None) or application_name
        schema = self._schema(take("schema", ""), parameters.pop("search_path", ""), ignored)
        for parameter in OUR_OWN & parameters.keys():
            del parameters[parameter]
            ignored.append(parameter)

        is_pooled = take("pgbouncer", "false")
        if is_pooled not in ("true", "false"):
            self._refuse("pgbouncer must be true or false")
        pool_size = self._whole(options, "connection_limit", least=1)
        pool_timeout = self._seconds(options, "pool_timeout")
        connect_timeout = self._seconds(options, "connect_timeout")
        caches = ("statement_cache_size", "prepared_statement_cache_size")
        cache = [size for key in caches if (size := self._whole(options, key)) is not None]
        keepalives = self._keepalives(options)

        passed = {key: value for key in PASSED_ON if (value := self._take(options, key))}
        self._check_target(passed, len(places))
        if passed.get("gsslib", "gssapi") not in ("gssapi", "sspi"):
            self._refuse("gsslib must be gssapi or sspi")
        if for_proxy:
            passed["options"] = for_proxy

        ignored += [key if key in MEANINGLESS or not is_secretive else "***" for key in options]

        query = {**tls, **passed}

        def dsn(*places: tuple[str, str]) -> str:
            return _build(user, password, places, database, query)

        return Address(
            name=name,
            place=redact(url),
            dsn=dsn(*places),
            hosts=tuple(dsn(place) for place in places) or (dsn(),),
            tls=MappingProxyType(tls),
            schema=schema,
            is_pooled=is_pooled == "true",
            pool_size=pool_size,
            pool_timeout=pool_timeout,
            connect_timeout=connect_timeout,
            statement_cache_size=cache[0] if cache else (0 if is_pooled == "true" else None),
            keepalives=keepalives,
            application_name=application_name,
            parameters=MappingProxyType(parameters),
            ignored=tuple(sorted(set(ignored))),
        )

    def _decoded(self, text: str, what: str) -> str:
        if re.search(r"%(?![0-9A-Fa-f]{2})", text):
            self._refuse(
                f"{what}: after a % there must be two hexadecimal digits (a % itself is %25)"
            )
        # Not errors="strict": that error would hold the text, and with it the password.
        encoded = unquote_to_bytes(text.encode(errors="surrogatepass"))
        decoded = encoded.decode(errors="surrogateescape")
        if re.search("[\0\ud800-\udfff]", decoded):
            self._refuse(f"{what} must be UTF-8, without the character 0")
        return decoded

    def _options(self, text: str) -> dict[str, str]:
        """By name, decoded. As in libpq, a plus is a plus. Hosts and ports may come one by one."""
        options: dict[str, str] = {}
        for item in filter(None, text.split("&")):
            encoded, equals, value = item.partition("=")
            if not (equals and encoded):
                self._refuse(
                    "after the ? there must be name=value, joined by & (in a password, & is %26,"
                    " ? is %3F and / is %2F)"
                )
            name = self._decoded(encoded, "the name of an option")
            what = f"the option {name}" if name in KNOWN else "an option's value"
            value = self._decoded(value, what)
            if name in ("host", "port") and name in options:
                value = f"{options[name]},{value}"
            elif options.get(name, value) != value:
                self._refuse(f"{what} is there twice, with different values")
            options[name] = value
        return options

    def _take(self, options: dict[str, str], name: str) -> str:
        """The option's value, else its variable's."""
        return options.pop(name, "") or self._environ.get(VARIABLES.get(name, ""), "")

    def _whole(self, options: dict[str, str], name: str, least: int = 0) -> int | None:
        if not (value := options.pop(name, "")):
            return None
        if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) < least:
            self._refuse(f"{name} must be a whole number, {least} or more")
        return int(value)

    def _seconds(self, options: dict[str, str], name: str) -> float | None:
        if not (value := options.pop(name, "")):
            return None
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
            self._refuse(f"{name} must be a number of seconds; 0 is no limit")
        return float(value)

    def _port(self, text: str) -> str:
        if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
            self._refuse(
                "port must be a number from 1 to 65535 (in a password, / is %2F, ? is %3F)"
            )
        return text

    def _places(self, authority: str, options: dict[str, str]) -> list[tuple[str, str]]:
        """Hosts or folders of sockets, each with its port or ""."""
        places = []
        for item in authority.split(",") if authority else ():
            parts = re.fullmatch(
                r"(?:\[(?P<v6>[^][]+)\]|(?P<host>[^][:]*))(?::(?P<port>.*))?", item
            )
            if parts is None:
                self._refuse("host: an IPv6 address must stand in [ ]")
            host = self._decoded(parts["v6"] or parts["host"] or "", "host")
            port = self._decoded(parts["port"] or "", "port")
            places.append((host, self._port(port) if port else ""))
        if listed := options.pop("host", ""):
            # A socket's folder may hold colons (Cloud SQL's do), and so does an IPv6 address.
            places = [self._place(item) for item in listed.split(",")]
        elif (not places or places[0][0] == "") and (address := options.pop("hostaddr", "")):
            port = places[0][1] if places else ""
            places = [(item, port) for item in address.split(",")]
        if listed := options.pop("port", ""):
            ports = [port and self._port(port) for port in listed.split(",")]
            places = places or [("", "")]
            if len(ports) not in (1, len(places)):
                self._refuse("port must be one for all hosts, or one for each")
            places = [(host, ports[number % len(ports)]) for number, (host, _) in enumerate(places)]
        if len(places) > 1 and not all(host for host, _ in places):
            self._refuse("host: one of the list is empty")
        for host, _ in places:
            if not host.startswith("/") and re.search(r"[\s\0-\x1f/?#@]", host):
                self._refuse("host must be a name, an address or the folder of a socket")
        return places

    def _place(self, item: str) -> tuple[str, str]:
        bare = item.removeprefix("[").removesuffix("]")
        if item.startswith("/") or _is_ipv6(bare):
            return bare, ""
        host, colon, port = item.rpartition(":") if ":" in item else (item, "", "")
        return host.removeprefix("[").removesuffix("]"), self._port(port) if colon else ""

    def _tls(self, options: dict[str, str]) -> dict[str, str]:
        tls = {name: value for name in TLS_OPTIONS if (value := self._take(options, name))}
        if plain := options.pop("ssl", ""):
            # JDBC's and libpq's `true`, node-postgres's `no-verify`, SQLAlchemy's modes.
            modes = {"true": "require", "1": "require", "no-verify": "require", "false": "disable"}
            mode = modes.get(plain, plain)
            if mode not in SSL_MODES:
                self._refuse("ssl must be true, false or one of sslmode's values")
            tls.setdefault("sslmode", mode)
        if tls.get("sslrootcert") == "system":
            tls.setdefault("sslmode", "verify-full")
        if problem := tls_problem(tls):
            self._refuse(problem)
        return tls

    def _check_target(self, passed: dict[str, str], hosts: int) -> None:
        if hosts > 1:
            passed.setdefault("target_session_attrs", "primary")
        target = passed.get("target_session_attrs", "any")
        if target in ("standby", "read-only", "prefer-standby"):
            self._refuse(
                "target_session_attrs must be primary, read-write or any: stock is written, and a"
                " standby takes no writes"
            )
        if target not in ("any", "primary", "read-write"):
            self._refuse("target_session_attrs must be primary, read-write or any")

    def _keepalives(self, options: dict[str, str]) -> Keepalives:
        # 0 is the system's own value.
        return Keepalives(
            is_on=self._whole(options, "keepalives") != 0,
            idle=self._whole(options, "keepalives_idle") or None,
            interval=self._whole(options, "keepalives_interval") or None,
            count=self._whole(options, "keepalives_count") or None,
            user_timeout=self._whole(options, "tcp_user_timeout") or None,
        )

    def _session(self, text: str) -> tuple[dict[str, str], str]:
        """libpq's `options`: parameters of the session, and words that are a proxy's (Neon's
        `endpoint=…`, Supavisor's `reference=…`), which are sent on."""
        parameters: dict[str, str] = {}
        for_proxy = []
        words = iter(_words(text))
        for word in words:
            if word.startswith("--"):
                setting = word[2:]
            elif word.startswith("-c"):
                setting = word[2:] or next(words, "")
            elif "=" in word and not word.startswith("-"):
                for_proxy.append(word)
                continue
            else:
                setting = ""
            name, equals, value = setting.partition("=")
            name = name.replace("-", "_").lower()
            if not (equals and re.fullmatch(r"[a-z_][\w$]*(\.[a-z_][\w$]*)*", name)):
                self._refuse(
                    "options must be -c name=value or --name=value, with %20 between two of them"
                    " and a backslash before a space in a value"
                )
            parameters[name] = value
        return parameters, " ".join(word.replace("\\", "\\\\") for word in for_proxy)

    def _schema(self, own: str, search_path: str, ignored: list[str]) -> str | None:
        """Prisma's `schema` or, if it is not there, the first schema of search_path."""
        if own:
            if search_path:
                ignored.append("search_path")
        elif search_path:
            names = parse_names(search_path)
            if names is None:
                self._refuse("search_path must be names of schemas, joined by commas")
            own = next((name for name in names if name not in ("$user", "pg_temp")), "")
        if own.startswith("pg_"):
            self._refuse("schema must not begin with pg_: these are Postgres's own")
        if len(own.encode()) > LONGEST_NAME:
            self._refuse(f"schema must have {LONGEST_NAME} bytes at most")
        return own or None


def _words(text: str) -> Iterator[str]:
    """Split as the server does: a backslash keeps the character behind it (pg_split_opts)."""
    for word in re.findall(r"(?:\\.|[^\s\\]|\\$)+", text, re.DOTALL):
        yield re.sub(r"\\(.)|\\$", r"\1", word, flags=re.DOTALL)


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _build(
    user: str,
    password: str,
    places: tuple[tuple[str, str], ...],
    database: str,
    options: Mapping[str, str],
) -> str:
    """asyncpg splits hosts at colons and unquotes them afterwards: so folders and IPv6 addresses
    are quoted whole, and need no brackets."""
    credentials = quote(user, safe="") + (":" + quote(password, safe="") if password else "")
    named = [(host, port) for host, port in places if host]
    hosts = ",".join(quote(host, safe="") + (port and f":{port}") for host, port in named)
    if places and not named:  # the default host, at a port of its own
        options = {**options, "port": places[0][1]} if places[0][1] else options
    query = urlencode(options, quote_via=quote, safe="")
    return (
        "postgresql://"
        + (credentials and f"{credentials}@")
        + hosts
        + "/" * bool(database or query)
        + quote(database, safe="")
        + (query and f"?{query}")
    )


# Names of schemas


def parse_names(text: str) -> list[str] | None:
    """The names of a list such as search_path's value, as Postgres reads it: in double quotes as
    they stand, else in lower case. None if it is no such list."""
    names = []
    item = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^\s,"]+))\s*(,|$)')
    position = 0
    while match := item.match(text, position):
        quoted, bare, comma = match.groups()
        names.append(quoted.replace('""', '"') if quoted else bare.lower())
        if not comma:
            return names
        position = match.end()
    return None


def format_names(*names: str) -> str:
    """The opposite of `parse_names`: `"my schema", "pg_temp"`."""
    return ", ".join('"' + name.replace('"', '""') + '"' for name in names)


def with_schema(url: str, schema: str) -> str:
    """The URL whose option `schema` is this one, so that one URL describes a database whole."""
    place, options = _before_options(url)
    kept = [
        item
        for item in options.split("&")
        if item
        and unquote_to_bytes(item.partition("=")[0].encode(errors="surrogatepass")) != b"schema"
    ]
    return f"{place}?{'&'.join([*kept, 'schema=' + quote(schema, safe='')])}"


def _before_options(url: str) -> tuple[str, str]:
    scheme = SCHEME.match(url)
    start = scheme.end() if scheme else 0
    before, at, _ = url[start:].partition("@")
    if at and "/" not in before:
        start += len(before)  # a question mark in a password
    place, _, options = url[start:].partition("?")
    return url[:start] + place, options


# What may be shown

ADDRESS: Final = re.compile(
    r"(?P<scheme>postgres(?:ql)?(?:\+[A-Za-z0-9_]+)?://)"
    r"(?:(?P<user>[^:@/?#]*)(?P<secret>:[^/?#]*)?@)?"
    r"(?P<hosts>[^@/?#]*)(?P<database>/[^@?#]*)?(?:\?(?P<options>[^@#]*))?"
)
HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[\w.%-]*)(:\d*)?")


def redact(url: str) -> str:
    """The URL without what may be secret, for log lines and messages.

    It shows what is known to be harmless instead of hiding what is known to be secret: a password
    among the options or in the port's place is not shown either, and of a URL that is not well
    formed (a password with an unescaped `/` in it) nothing is.
    """
    parts = ADDRESS.fullmatch(url)
    if parts is None or not all(map(HOST.fullmatch, parts["hosts"].split(","))):
        return "***"
    options = parts["options"] or ""
    if not {name for name, _ in parse_qsl(options, keep_blank_values=True)} <= SAFE_OPTIONS:
        options = "***"
    user = "" if parts["user"] is None else parts["user"] + (":***@" if parts["secret"] else "@")
    query = "?" + options if options else ""
    return parts["scheme"] + user + parts["hosts"] + (parts["database"] or "") + query
