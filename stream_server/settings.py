"""The settings of the service, which come from environment variables only.

A field's name is the variable's name in lower case. An empty variable counts as absent. A test
compares the README's table with this class. Secrets are `SecretStr`: they are never printed, and
error messages do not quote them.

Files and consoles leave characters around a value: white space, a line feed, a byte order mark, a
pair of quotes. These are stripped from each setting. Invisible characters inside a value are
refused.
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
    """Returns the value without the characters that files and consoles leave around it.

    Raises ValueError, which does not quote the value.
    """
    while (tidy := value.strip().strip("\ufeff\u200b\x00")) != value:
        value = tidy
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return _strip_wrapping(value[1:-1])
    if value and (value[0] in _QUOTES or value[-1] in _QUOTES):
        raise ValueError(
            "must have both quotes or none, but has a quote at one end only; remove the quote"
        )
    return value


def _refuse_invisible(value: str) -> str:
    """Raises ValueError for an invisible character in a value of one line."""
    for place, character in enumerate(value):
        if category(character) in _UNSEEN:
            raise ValueError(
                f"must be one line of visible characters, but has U+{ord(character):04X} at "
                f"position {place + 1}; remove that character"
            )
    return value


def _postgres_url(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    if url and not re.match(r"postgres(ql)?(\+\w+)?://", url):  # SQLAlchemy adds the driver's name
        raise ValueError("must start with postgresql:// or be empty")
    return value


def _comma_list(value: object) -> object:
    if isinstance(value, str):
        return tuple(part for item in value.split(",") if (part := item.strip()))
    return value


def _origin(value: str) -> str:
    """Checks an origin: scheme, host and port, nothing else (RFC 6454, section 6.2)."""
    parts = urlsplit(value)
    if value != "*" and (
        parts.scheme not in ("http", "https") or value != f"{parts.scheme}://{parts.netloc}"
    ):
        raise ValueError(f"must be origins such as https://shop.example, or *; got {value!r}")
    return value


def _public_url(value: str) -> str:
    if not value:
        return value
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must start with http:// or https:// and a host")
    if parts.query or parts.fragment or "?" in value or "#" in value:
        raise ValueError("must have no query and no fragment (no ? and no #)")
    path = quote(unquote(parts.path.rstrip("/")), safe="/-._~!$&'()*+,;=:@")
    if any(segment in ("", ".", "..") for segment in path.split("/")[1:]):
        raise ValueError("must have a path without empty segments, `.` and `..`")
    if path.split("/")[1:2] and path.split("/")[1] in OWN_PATHS:
        raise ValueError(
            f"must have a path other than the service's own paths; /{path[1:]} is one of them"
        )
    return f"{parts.scheme}://{parts.netloc}{path}"


def _payment_url(value: str) -> str:
    if value and not re.match(r"https?://[^/]|/(?!/)", value):
        raise ValueError("must start with http://, https:// or /")
    return value


def _proxies(value: str) -> str:
    """Checks the proxies here, because uvicorn takes a malformed address for a host's name."""
    try:
        for part in value.split(",") if value != "*" else ():
            ip_network(part.strip())
    except ValueError:
        raise ValueError(
            "must be IP addresses or networks such as 10.0.0.0/8, comma-separated, or *"
        ) from None
    return value


def _order_days(value: int) -> int:
    """Checks that orders outlive a payment provider's retries and our records of its events."""
    if 0 < value < 30:
        raise ValueError("must be 0, or at least 30")
    return value


def _rate(value: str) -> str:
    if value == "off":
        return ""
    if value:
        try:
            limits.parse_many(value)
        except ValueError:
            raise ValueError(
                "must be a rate such as 600/minute or 600/minute;5000/hour, or off"
            ) from None
    return value


def _currency(value: str) -> str:
    """Returns the currency's code (ISO 4217) in capitals."""
    if not re.fullmatch("[A-Za-z]{3}", value):
        raise ValueError("must be a code of three letters, such as USD")
    return value.upper()


def _secret_key(value: SecretStr) -> SecretStr:
    """Checks that the key has at least as many bytes as the hash (RFC 7518, section 3.2)."""
    if 0 < len(value.get_secret_value().encode()) < 32:
        raise ValueError("must have at least 32 characters, or be empty")
    return value


def _public_key(value: str) -> str:
    # Some tools allow one line only, and write its line breaks as \n.
    lines = value.replace("\\r", "").replace("\\n", "\n").splitlines()
    value = "\n".join(line.strip() for line in lines if line.strip())
    if value:
        try:
            load_pem_public_key(value.encode())
        except ValueError:
            raise ValueError("must be a public key in PEM format, or empty") from None
    return value


Proxies = Annotated[str, AfterValidator(_proxies)]
Rate = Annotated[str, AfterValidator(_rate)]
PostgresURL = Annotated[SecretStr, AfterValidator(_postgres_url)]
Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_comma_list)
]


# First segments of the service's own paths. A test compares them with the routes.
OWN_PATHS: Final = frozenset(
    (
        *("api", "client", "static", "pictures", "healthz", "readyz", "metrics"),
        *("products", "cart", "checkout", "thanks", "demo"),
    )
)

# The settings that each command reads. A test compares them with the code. A wrong value of any
# other setting does not stop the command. `serve` and `demo` read all but the worker's own.
DATABASE: Final = frozenset(
    (
        *("database_url", "listen_database_url", "database_schema", "database_pool_size"),
        *("database_wait_seconds", "database_lock_seconds", "database_statement_seconds"),
    )
)
WORKERS_OWN: Final = frozenset(("worker_metrics_port", "log_keep_days", "order_keep_days"))
WORKER: Final = DATABASE | WORKERS_OWN | {"host", "sync_lag_minutes"}


class Settings(BaseSettings):
    """The settings of one process: read once, at its start, and immutable."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
    )

    database_url: PostgresURL = Field(
        SecretStr(""),
        description="URL of Postgres, such as `postgresql://user:password@host:5432/shop`. Empty: "
        "an embedded Postgres under `--data-dir`",
    )
    listen_database_url: PostgresURL = Field(
        SecretStr(""),
        description="Direct URL of Postgres, for LISTEN and `migrate`, if `DATABASE_URL` goes "
        "through a pooler such as PgBouncer. Empty: `DATABASE_URL`",
    )
    database_schema: str = Field(
        "",
        max_length=63,
        description="Schema of the service's tables; `migrate` creates it. Empty: the URL's "
        "option `schema`, else `public`",
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
        description="How long a statement waits for a row that another transaction has locked",
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
        description="How long a client may read nothing of its response before the connection is "
        "closed",
    )
    http_keep_alive_seconds: float = Field(
        75,
        gt=0,
        le=3600,
        description="How long a connection stays open without a request; a load balancer in front "
        "should close its own connections sooner",
    )
    forwarded_allow_ips: Proxies = Field(
        "127.0.0.1,::1",
        description="Proxies whose `X-Forwarded-For`, `-Proto` and `-Host` are trusted: "
        "addresses or networks, comma-separated; `*`: every client",
    )
    public_url: Annotated[str, AfterValidator(_public_url)] = Field(
        "",
        description="URL at which browsers reach this server, such as "
        "`https://shop.example/stock`; links begin with it. Requests may arrive with or without "
        "its path. Empty: links are paths without a host",
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
        description="Maximum size of a file for `/api/admin/imports`, in megabytes",
    )
    worker_metrics_port: int = Field(
        0, ge=0, le=65535, description="Port of the worker's own `/metrics`, on `HOST`; 0: none"
    )

    log_keep_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="Age in days at which the worker deletes rows of the log, except each "
        "product's newest; 0: never",
    )
    order_keep_days: Annotated[int, AfterValidator(_order_days)] = Field(
        0,
        ge=0,
        le=36_500,
        description="Days after its last change at which the worker deletes an order, unless it "
        "is a shortfall; at least 30; 0: never",
    )

    secret_key: Annotated[SecretStr, AfterValidator(_secret_key)] = Field(
        SecretStr(""),
        description="Key that signs the tokens of programs that may write, at least 32 "
        "characters. Empty: no such token is accepted",
    )
    jwt_public_key: Annotated[str, AfterValidator(_public_key)] = Field(
        "", description="PEM public key of another issuer whose tokens (RS256) are accepted"
    )
    jwt_audience: str = Field("", description="Audience (`aud`) that a token must name; empty: any")
    jwt_issuer: str = Field("", description="Issuer (`iss`) that a token must name; empty: any")
    stripe_webhook_secret: SecretStr = Field(
        SecretStr(""),
        description="Stripe's `whsec_…` for `/api/webhooks/stripe`; while you rotate it, both "
        "secrets, separated by a comma. Empty: no event is accepted",
    )
    currency: Annotated[str, AfterValidator(_currency)] = Field(
        "USD",
        description="Currency of all prices. Prices are in its smallest unit (4900 is 49.00 USD, "
        "but 4900 JPY). A payment in another currency opens an alert",
    )
    refund_restocks: bool = Field(
        True,
        description="Whether units that are refunded through Stripe go back on sale. The "
        "refund's metadata (`restock: true` or `restock: false`) wins over this setting",
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
        description="Limit on reservation requests from one address without a token; "
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
        description="Maximum number of waiting long polls of one address; further polls are "
        "answered at once; 0: no limit",
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
        description="Seconds between `ping` events; at most 25, because pages show their numbers "
        "as outdated after 30 seconds without an event",
    )
    stream_drain_seconds: float = Field(
        5,
        ge=0,
        le=3600,
        description="Time over which the server closes streams gradually when it stops",
    )
    drain_delay_seconds: float = Field(
        0,
        ge=0,
        le=3600,
        description="Time for which `/readyz` answers 503 before the server begins to stop, so "
        "that load balancers notice",
    )
    stream_max_seconds: float = Field(
        3600,
        ge=0,
        le=604_800,
        description="Age at which a stream is closed, plus or minus a tenth; 0: never",
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
        True, description="Whether streams are compressed for clients that accept gzip"
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
        """Strips and checks the text of every setting before its type does."""
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
                "%s is ignored: Kubernetes has set it to the address of a Service of that name. "
                "Set enableServiceLinks: false in the pod's spec",
                name.upper(),
            )
            return field.default
        if name != "jwt_public_key":  # the only setting that may have several lines
            _refuse_invisible(tidy)
        return SecretStr(tidy) if secret else tidy

    @classmethod
    def load(
        cls,
        overrides: Mapping[str, object] | None = None,
        *,
        only: AbstractSet[str] | None = None,
    ) -> Self:
        """Returns the settings of the environment; `overrides`, by field name, win over it.

        With `only`, a wrong setting that is not among these names gets its default.

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
        """The path of PUBLIC_URL, percent-encoded, without a slash at its end; may be empty."""
        return urlsplit(self.public_url).path

    @property
    def listen_url(self) -> SecretStr:
        """The URL for parts that need a session of their own: the source, which listens, and the
        migrations. It is LISTEN_DATABASE_URL, else DATABASE_URL."""
        own = self.listen_database_url
        return own if own.get_secret_value() else self.database_url
