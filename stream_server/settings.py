"""What is set from outside: the environment, and nothing else.

A name here is the variable's name in lower case. An empty variable counts as absent. The README's
table is held against this class by a test. Secrets are `SecretStr`: they are never printed, and
error messages don't quote what was given for them.
"""

import re
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Annotated, Self
from urllib.parse import urlsplit

import limits
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from stream_server.errors import InvalidSettings

__all__ = ["Settings"]


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
    if value and urlsplit(value).scheme not in ("http", "https"):
        raise ValueError("must start with http:// or https://")
    return value.rstrip("/")


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
    if value:
        try:
            limits.parse_many(value)
        except ValueError:
            raise ValueError("must be such as 600/minute, or empty") from None
    return value


def _secret_key(value: SecretStr) -> SecretStr:
    """RFC 7518, section 3.2: as many bytes as the hash at least."""
    if 0 < len(value.get_secret_value().encode()) < 32:
        raise ValueError("must have 32 characters at least, or be empty")
    return value


def _public_key(value: str) -> str:
    value = value.replace("\\n", "\n")  # some ways to set a variable allow one line only
    if value and "-----BEGIN PUBLIC KEY-----" not in value:
        raise ValueError("must be a public key in PEM, or empty")
    return value


Proxies = Annotated[str, AfterValidator(_proxies)]
Rate = Annotated[str, AfterValidator(_rate)]
PostgresURL = Annotated[SecretStr, AfterValidator(_postgres_url)]
Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_comma_list)
]


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
        description="Postgres, as `postgresql://user:password@host:5432/shop`. "
        "Empty: an embedded one of its own under `--data-dir`",
    )
    listen_database_url: PostgresURL = Field(
        SecretStr(""),
        description="Straight to Postgres, to LISTEN and to migrate, if `DATABASE_URL` leads "
        "through a pooler such as PgBouncer. Empty: `DATABASE_URL`",
    )
    database_schema: str = Field(
        "",
        max_length=63,
        description="The schema that all our tables lie in; `migrate` makes it. "
        "Empty: the URL's option `schema`, else `public`",
    )
    database_pool_size: int = Field(
        10, ge=1, le=1000, description="Connections to Postgres at most, beside the listening one"
    )
    database_wait_seconds: float = Field(
        5,
        gt=0,
        le=600,
        description="So long a request waits for a free connection, then gets a 503",
    )
    database_lock_seconds: float = Field(
        3, gt=0, le=600, description="So long a statement waits for a row that somebody else locked"
    )
    database_statement_seconds: float = Field(
        10, gt=0, le=3600, description="So long a statement may take, imports apart"
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: any free one")
    forwarded_allow_ips: Proxies = Field(
        "127.0.0.1,::1",
        description="Proxies whose `X-Forwarded-For` says who the client is: addresses or "
        "networks, comma-separated; `*`: anybody",
    )
    public_url: Annotated[str, AfterValidator(_public_url)] = Field(
        "", description="Where browsers reach this server, for links. Empty: as it listens"
    )
    allowed_origins: Origins = Field(
        (), description="Origins whose pages may read the API, comma-separated; `*`: all"
    )
    sync_lag_minutes: float = Field(
        60,
        gt=0,
        le=525_600,
        description="Alert when the newest count of an external system is older than this",
    )
    import_max_mb: int = Field(
        100, ge=1, le=10_000, description="Largest file that may be sent to `/api/admin/imports`"
    )
    worker_metrics_port: int = Field(
        0, ge=0, le=65535, description="Port for the worker's own `/metrics`, on `HOST`; 0: none"
    )

    log_keep_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="The worker forgets rows of the log that are older, but for each one's newest; "
        "0: none",
    )
    order_keep_days: Annotated[int, AfterValidator(_order_days)] = Field(
        0,
        ge=0,
        le=36_500,
        description="The worker forgets orders that were last changed so long ago, 30 days at "
        "least, but for shortfalls; 0: none",
    )

    secret_key: Annotated[SecretStr, AfterValidator(_secret_key)] = Field(
        SecretStr(""),
        description="Signs the tokens of those who may write, 32 characters or more. "
        "Empty: no such token is accepted",
    )
    jwt_public_key: Annotated[str, AfterValidator(_public_key)] = Field(
        "", description="A public key in PEM whose owner issues tokens, too (RS256)"
    )
    stripe_webhook_secret: SecretStr = Field(
        SecretStr(""),
        description="Stripe's `whsec_…` for `/api/webhooks/stripe`. Empty: it accepts nothing",
    )
    payment_url: Annotated[str, AfterValidator(_payment_url)] = Field(
        "",
        description="Where the shop's checkout leads to pay, with `?reservation=` and its token. "
        "Empty: it holds stock, but leads nowhere",
    )
    reservation_minutes: float = Field(
        10, gt=0, le=1440, description="So long a checkout holds its stock; it may double that once"
    )
    reservation_rate: Rate = Field(
        "600/minute",
        description="Requests about reservations from one address without a token. Empty: any",
    )
    reservation_line_rate: Rate = Field(
        "6000/minute",
        description="Cart lines to reserve from one address without a token. Empty: any",
    )

    stream_conflate_ms: int = Field(
        100,
        ge=0,
        le=60_000,
        description="After a product's change, the next goes out so much later",
    )
    stream_ping_seconds: float = Field(
        15, gt=0, le=3600, description="A `ping` event on each stream, this often"
    )
    stream_drain_seconds: float = Field(
        5, ge=0, le=3600, description="At shutdown, streams are ended over this time"
    )
    stream_stall_seconds: float = Field(
        30, gt=0, le=3600, description="A stream whose client reads nothing for so long is closed"
    )
    stream_retry_ms: int = Field(
        2000, ge=0, le=3_600_000, description="Browsers come back after this time, and some jitter"
    )
    stream_gzip: bool = Field(
        True, description="Streams are sent as gzip to clients that accept it"
    )
    stream_awake_read_ms: int = Field(
        20, ge=1, le=60_000, description="While changes pour in, the log is read this often"
    )
    stream_sleep_after_ms: int = Field(
        1000, ge=1, le=3_600_000, description="Without a change for so long, wait to be notified"
    )
    stream_safety_read_seconds: float = Field(
        5, gt=0, le=3600, description="While waiting to be notified, read the log this often anyway"
    )

    @classmethod
    def load(cls, overrides: Mapping[str, object] | None = None) -> Self:
        """The environment's settings; `overrides` (by field name) win over it.

        Raises InvalidSettings, which names each wrong variable and quotes no secret.
        """
        try:
            return cls(**(overrides or {}))  # type: ignore[arg-type]  # pydantic checks them
        except ValidationError as error:
            problems = {
                str(problem["loc"][0]).upper(): problem["msg"].removeprefix("Value error, ")
                for problem in error.errors(include_input=False, include_url=False)
            }
        raise InvalidSettings(problems)

    @property
    def listen_url(self) -> SecretStr:
        """Where whatever needs a session of its own connects: the source, which listens, and the
        migrations. LISTEN_DATABASE_URL, else DATABASE_URL."""
        own = self.listen_database_url
        return own if own.get_secret_value() else self.database_url
