"""What is set from outside: the environment, and nothing else.

A name here is the variable's name in lower case. An empty variable counts as absent. The README's
table is held against this class by a test. Secrets are `SecretStr`: they are never printed, and
error messages don't quote what was given for them.

What files and consoles leave around a value (white space, a line feed, a byte order mark, a pair of
quotes) is taken off each setting, whatever its type; what nobody can see within one is refused.
"""

import logging
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from ipaddress import ip_network
from typing import Annotated, Any, Final, Self
from unicodedata import category
from urllib.parse import quote, unquote, urlsplit

import limits
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from stream_server.errors import InvalidSettings

__all__ = ["DATABASE", "WORKER", "WORKERS_OWN", "Settings"]

logger = logging.getLogger(__name__)

_QUOTES: Final = "\"'`\u201c\u201d\u2018\u2019"
_UNSEEN: Final = ("Cc", "Cf", "Co", "Cn", "Zl", "Zp")  # Unicode's categories
_SERVICE: Final = re.compile(r"(tcp|udp|sctp)://\S+:\d+")


def _strip_wrapping(value: str) -> str:
    """Without what a file or a console left around it. Raises ValueError, which quotes nothing."""
    while (tidy := value.strip().strip("\ufeff\u200b\x00")) != value:
        value = tidy
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return _strip_wrapping(value[1:-1])
    if value and (value[0] in _QUOTES or value[-1] in _QUOTES):
        raise ValueError(
            "begins or ends with a quote that has no other one; give it without quotes"
        )
    return value


def _refuse_invisible(value: str) -> str:
    """Refuses what nobody can see in a value of one line."""
    for place, character in enumerate(value):
        if category(character) in _UNSEEN:
            raise ValueError(
                f"has a character that cannot be seen, U+{ord(character):04X}, at position "
                f"{place + 1}; give it in one line"
            )
    return value


def _postgres_url(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    if url and not re.match(r"postgres(ql)?(\+\w+)?://", url):  # also SQLAlchemy's, with its driver
        raise ValueError("must start with postgresql:// or be empty")
    return value


def _comma_list(value: object) -> object:
    if isinstance(value, str):
        return tuple(part for item in value.split(",") if (part := item.strip()))
    return value


def _origin(value: str) -> str:
    """RFC 6454, section 6.2: scheme, host, port, and nothing behind them."""
    parts = urlsplit(value)
    if value != "*" and (
        parts.scheme not in ("http", "https") or value != f"{parts.scheme}://{parts.netloc}"
    ):
        raise ValueError(f"{value!r} is no origin such as https://shop.example")
    return value


def _public_url(value: str) -> str:
    if not value:
        return value
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must start with http:// or https:// and a host")
    if parts.query or parts.fragment or "?" in value or "#" in value:
        raise ValueError("must end with its path, without ? and #")
    path = quote(unquote(parts.path.rstrip("/")), safe="/-._~!$&'()*+,;=:@")
    if any(segment in ("", ".", "..") for segment in path.split("/")[1:]):
        raise ValueError("must have no empty part, `.` or `..` in its path")
    if path.split("/")[1:2] and path.split("/")[1] in OWN_PATHS:
        raise ValueError(
            f"must have a path that does not begin with one of ours, as /{path[1:]} does"
        )
    return f"{parts.scheme}://{parts.netloc}{path}"


def _payment_url(value: str) -> str:
    if value and not re.match(r"https?://[^/]|/(?!/)", value):
        raise ValueError("must start with http://, https:// or /")
    return value


def _proxies(value: str) -> str:
    """Checked here, because uvicorn would take what it cannot read for the name of a host."""
    try:
        for part in value.split(",") if value != "*" else ():
            ip_network(part.strip())
    except ValueError:
        raise ValueError("must be addresses or networks such as 10.0.0.0/8, or *") from None
    return value


def _order_days(value: int) -> int:
    """Longer than a payment provider sends its events again, and than those are remembered."""
    if 0 < value < 30:
        raise ValueError("must be 0, or 30 at least")
    return value


def _rate(value: str) -> str:
    if value == "off":
        return ""
    if value:
        try:
            limits.parse_many(value)
        except ValueError:
            raise ValueError("must be such as 600/minute or 600/minute;5000/hour, or off") from None
    return value


def _currency(value: str) -> str:
    """ISO 4217."""
    if not re.fullmatch("[A-Za-z]{3}", value):
        raise ValueError("must be a code of three letters, such as USD")
    return value.upper()


def _secret_key(value: SecretStr) -> SecretStr:
    """RFC 7518, section 3.2: as many bytes as the hash at least."""
    if 0 < len(value.get_secret_value().encode()) < 32:
        raise ValueError("must have 32 characters at least, or be empty")
    return value


def _public_key(value: str) -> str:
    # Some ways to set a variable allow one line only.
    lines = value.replace("\\r", "").replace("\\n", "\n").splitlines()
    value = "\n".join(line.strip() for line in lines if line.strip())
    if value:
        try:
            load_pem_public_key(value.encode())
        except ValueError:
            raise ValueError("must be a public key in PEM, or empty") from None
    return value


Proxies = Annotated[str, AfterValidator(_proxies)]
Rate = Annotated[str, AfterValidator(_rate)]
PostgresURL = Annotated[SecretStr, AfterValidator(_postgres_url)]
Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_comma_list)
]


# The first parts of the paths that we answer ourselves (a test holds them to the routes).
OWN_PATHS: Final = frozenset(
    (
        *("api", "client", "static", "pictures", "healthz", "readyz", "metrics"),
        *("products", "cart", "checkout", "thanks", "demo"),
    )
)

# What each command reads (a test holds these to the code). Others are not its business: a wrong one
# does not stop it. `serve` and `demo` want all but the worker's own.
DATABASE: Final = frozenset(
    (
        *("database_url", "listen_database_url", "database_schema", "database_pool_size"),
        *("database_wait_seconds", "database_lock_seconds", "database_statement_seconds"),
    )
)
WORKERS_OWN: Final = frozenset(("worker_metrics_port", "log_keep_days", "order_keep_days"))
WORKER: Final = DATABASE | WORKERS_OWN | {"host", "sync_lag_minutes"}


class Settings(BaseSettings):
    """The settings of one process; read once, at its start, and immutable."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
    )

    database_url: PostgresURL = Field(
        SecretStr(""),
        description="URL of Postgres, as `postgresql://user:password@host:5432/shop`. Empty: an "
        "embedded Postgres under `--data-dir`",
    )
    listen_database_url: PostgresURL = Field(
        SecretStr(""),
        description="URL that leads straight to Postgres, for LISTEN and `migrate`, where "
        "`DATABASE_URL` leads through a pooler such as PgBouncer. Empty: "
        "`DATABASE_URL`",
    )
    database_schema: str = Field(
        "",
        max_length=63,
        description="Schema of all our tables; `migrate` makes it. Empty: the URL's option "
        "`schema`, else `public`",
    )
    database_pool_size: int = Field(
        10,
        ge=1,
        le=1000,
        description="Maximum number of connections to Postgres, besides the listening one",
    )
    database_wait_seconds: float = Field(
        5,
        gt=0,
        le=600,
        description="How long a request waits for a free connection before it gets a 503",
    )
    database_lock_seconds: float = Field(
        3,
        gt=0,
        le=600,
        description="How long a statement waits for a row that somebody else has locked",
    )
    database_statement_seconds: float = Field(
        10, gt=0, le=3600, description="How long a statement may take, except in imports"
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: any free one")
    http_head_seconds: float = Field(
        30,
        gt=0,
        le=3600,
        description="How long a new connection may take to send the head of a request before it "
        "is closed",
    )
    http_body_seconds: float = Field(
        30,
        gt=0,
        le=3600,
        description="How long the body of a request may pause before the connection is closed",
    )
    http_answer_seconds: float = Field(
        30,
        gt=0,
        le=3600,
        description="How long a client may read nothing of its answer before the connection is "
        "closed",
    )
    http_keep_alive_seconds: float = Field(
        75,
        gt=0,
        le=3600,
        description="How long a connection stays open without a request; a balancer in front "
        "should close its own connections sooner",
    )
    forwarded_allow_ips: Proxies = Field(
        "127.0.0.1,::1",
        description="Proxies whose `X-Forwarded-For`, `-Proto` and `-Host` are believed: "
        "addresses or networks, comma-separated; `*`: anybody",
    )
    public_url: Annotated[str, AfterValidator(_public_url)] = Field(
        "",
        description="URL at which browsers reach this server, for links, such as "
        "`https://shop.example/stock`; requests may arrive with or without its "
        "path. Empty: links are paths without a host",
    )
    allowed_origins: Origins = Field(
        (), description="Origins whose pages may read the API, comma-separated; `*`: all"
    )
    sync_lag_minutes: float = Field(
        60,
        gt=0,
        le=525_600,
        description="Age of an external system's newest count at which an alert opens",
    )
    import_max_mb: int = Field(
        100,
        ge=1,
        le=10_000,
        description="Size of the largest file that `/api/admin/imports` accepts",
    )
    worker_metrics_port: int = Field(
        0, ge=0, le=65535, description="Port of the worker's own `/metrics`, on `HOST`; 0: none"
    )

    log_keep_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="Age at which the worker deletes rows of the log, except each product's "
        "newest; 0: never",
    )
    order_keep_days: Annotated[int, AfterValidator(_order_days)] = Field(
        0,
        ge=0,
        le=36_500,
        description="Days after its last change at which the worker deletes an order, except "
        "shortfalls; 30 or more; 0: never",
    )

    secret_key: Annotated[SecretStr, AfterValidator(_secret_key)] = Field(
        SecretStr(""),
        description="Key that signs the tokens of programs that may write, 32 characters or "
        "more. Empty: no such token is accepted",
    )
    jwt_public_key: Annotated[str, AfterValidator(_public_key)] = Field(
        "", description="PEM public key of another issuer whose tokens (RS256) are accepted"
    )
    jwt_audience: str = Field("", description="Audience (`aud`) that a token must name; empty: any")
    jwt_issuer: str = Field("", description="Issuer (`iss`) that a token must name; empty: any")
    stripe_webhook_secret: SecretStr = Field(
        SecretStr(""),
        description="Stripe's `whsec_…` for `/api/webhooks/stripe`; while you replace it, both, "
        "separated by a comma. Empty: no event is accepted",
    )
    currency: Annotated[str, AfterValidator(_currency)] = Field(
        "USD",
        description="Currency of all prices, which are in its smallest unit (4900 is 49.00 USD, "
        "but 4900 JPY). A payment in another currency opens an alert",
    )
    refund_restocks: bool = Field(
        True,
        description="Units that are refunded through Stripe go back on sale, unless the "
        "refund's metadata says `restock: false`. `false`: only if the metadata "
        "says `restock: true`",
    )
    payment_url: Annotated[str, AfterValidator(_payment_url)] = Field(
        "",
        description="Page where shoppers pay; `?reservation=<token>` is appended. Empty: the "
        "checkout ends after holding stock",
    )
    reservation_minutes: float = Field(
        10,
        gt=0,
        le=1440,
        description="How long a checkout holds stock; it can be extended once, by as much again",
    )
    reservation_rate: Rate = Field(
        "600/minute",
        description="Limit on requests about reservations from one address without a token; "
        "`off`: no limit",
    )
    reservation_line_rate: Rate = Field(
        "6000/minute",
        description="Limit on cart lines that one address without a token reserves; `off`: no "
        "limit",
    )
    reservation_unit_rate: Rate = Field(
        "5000/minute;30000/hour",
        description="Limit on units that one address without a token reserves; `off`: no limit",
    )
    max_units_per_line: int = Field(
        1000,
        ge=1,
        le=2_147_483_647,
        description="Maximum number of units in a cart line that is reserved without a token",
    )
    max_units_per_cart: int = Field(
        2000,
        ge=1,
        le=2_147_483_647,
        description="Maximum number of units in a cart that is reserved without a token",
    )
    request_rate: Rate = Field(
        "18000/minute",
        description="Limit on requests from one address without a token; costly requests count "
        "as several; `off`: no limit",
    )
    search_rate: Rate = Field(
        "120/minute",
        description="Limit on searches from one address without a token; `off`: no limit",
    )
    connections_per_address: int = Field(
        5000,
        ge=0,
        le=10_000_000,
        description="Maximum number of open connections of one address that is not in "
        "`FORWARDED_ALLOW_IPS`, besides its streams; 0: no limit",
    )
    streams_per_address: int = Field(
        2000,
        ge=0,
        le=10_000_000,
        description="Maximum number of open streams of one address; 0: no limit",
    )
    polls_per_address: int = Field(
        2000,
        ge=0,
        le=10_000_000,
        description="Maximum number of waiting long polls of one address; more are answered at "
        "once; 0: no limit",
    )

    stream_conflate_ms: int = Field(
        100,
        ge=0,
        le=60_000,
        description="Shortest time between two updates of one product",
    )
    stream_ping_seconds: float = Field(
        15,
        gt=0,
        le=25,
        description="Seconds between `ping` events; 25 at most, because pages take 30 seconds "
        "of silence for an outage",
    )
    stream_drain_seconds: float = Field(
        5,
        ge=0,
        le=3600,
        description="Time over which streams are ended gradually when the server stops",
    )
    drain_delay_seconds: float = Field(
        0,
        ge=0,
        le=3600,
        description="Time for which `/readyz` answers 503 before the server begins to stop, so "
        "that balancers notice",
    )
    stream_max_seconds: float = Field(
        3600,
        ge=0,
        le=604_800,
        description="Age at which a stream ends, plus or minus a tenth; 0: never",
    )
    stream_stall_seconds: float = Field(
        30,
        gt=0,
        le=3600,
        description="How long a stream's client may read nothing before the stream is closed",
    )
    stream_retry_ms: int = Field(
        2000, ge=0, le=3_600_000, description="Time after which browsers reconnect, plus jitter"
    )
    stream_gzip: bool = Field(
        True, description="Streams are compressed for clients that accept gzip"
    )
    stream_awake_read_ms: int = Field(
        10, ge=1, le=60_000, description="Time between two reads of the log while changes arrive"
    )
    stream_sleep_after_ms: int = Field(
        1000,
        ge=1,
        le=3_600_000,
        description="Time without a change after which the server waits for notifications "
        "instead of reading",
    )
    stream_safety_read_seconds: float = Field(
        5,
        gt=0,
        le=3600,
        description="Time between two reads of the log while the server waits for notifications",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _tidy(cls, value: Any, info: ValidationInfo) -> Any:
        """One rule for every setting, before that of its type."""
        name = str(info.field_name)
        field = cls.model_fields[name]
        secret = isinstance(value, SecretStr)
        text = value.get_secret_value() if secret else value
        if not isinstance(text, str):
            return value
        tidy = _strip_wrapping(text)
        if not tidy and text:
            return field.default
        if field.annotation in (int, float) and _SERVICE.fullmatch(tidy):
            logger.warning(
                "%s is ignored: Kubernetes has set it to the address of a Service of that name "
                "(enableServiceLinks)",
                name.upper(),
            )
            return field.default
        if name != "jwt_public_key":  # the only one of several lines
            _refuse_invisible(tidy)
        return SecretStr(tidy) if secret else tidy

    @classmethod
    def load(
        cls,
        overrides: Mapping[str, object] | None = None,
        *,
        only: AbstractSet[str] | None = None,
    ) -> Self:
        """The environment's settings; `overrides` (by field name) win over it. Wrong ones that are
        not among `only` have their defaults.

        Raises InvalidSettings, which names each wrong variable and quotes no secret.
        """
        given = dict(overrides or {})
        try:
            return cls(**given)  # type: ignore[arg-type]  # pydantic checks them
        except ValidationError as error:
            problems = {
                str(problem["loc"][0]): problem["msg"].removeprefix("Value error, ")
                for problem in error.errors(include_input=False, include_url=False)
            }
        spared = set(problems) - (problems.keys() if only is None else only)
        if spared == problems.keys():
            defaults = {name: cls.model_fields[name].default for name in spared}
            return cls.load({**given, **defaults})
        raise InvalidSettings(
            {name.upper(): text for name, text in problems.items() if name not in spared}
        )

    @property
    def public_path(self) -> str:
        """The path of PUBLIC_URL, escaped as in a URL and without a slash at its end; or empty."""
        return urlsplit(self.public_url).path

    @property
    def listen_url(self) -> SecretStr:
        """Where whatever needs a session of its own connects: the source, which listens, and the
        migrations. LISTEN_DATABASE_URL, else DATABASE_URL."""
        own = self.listen_database_url
        return own if own.get_secret_value() else self.database_url
