"""The command `stream-server`.

Each command reads the environment (`settings.py`); options win over it. What goes wrong on purpose
is told in a line on stderr, with exit code 1; a wrong option has 2, Ctrl-C 130. A second signal
ends a server that is still ending in order, with 130 or 143.
"""

import asyncio
import logging
import re
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Annotated, Final, Literal, NoReturn

import typer

from stream_server import __version__
from stream_server.app import create_app
from stream_server.cli import demo as demo_process
from stream_server.cli import web as web_process
from stream_server.cli import worker as worker_process
from stream_server.cli.progress import ProgressLine
from stream_server.database import migrations
from stream_server.database.embedded import EmbeddedPostgres, embedded_postgres
from stream_server.database.pool import Pool
from stream_server.database.poolers import session_url
from stream_server.database.transactions import Queries, in_transaction
from stream_server.errors import ImportRejected, InvalidSettings, StreamServerError
from stream_server.inventory.imports.models import Imported, ImportRequest
from stream_server.inventory.imports.run import import_catalogue
from stream_server.settings import DATABASE, WORKER, WORKERS_OWN, Settings
from stream_server.web.auth import Tokens

__all__ = ["app"]


@contextmanager
def _well_behaved() -> Iterator[None]:
    """What every command does when it fails or is stopped."""
    with web_process.at_signals(_leave):
        try:
            yield
        except StreamServerError as error:
            typer.echo(f"Error: {error.message}", err=True)
            raise typer.Exit(1) from None


def _leave(number: int, _: FrameType | None) -> NoReturn:
    """Through every `finally`; without this, an embedded Postgres would stay behind."""
    raise SystemExit(128 + number)


SERVER: Final = Settings.model_fields.keys() - WORKERS_OWN
DEMO: Final = Settings.model_fields.keys() - {"worker_metrics_port"}

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Live stock for shops on Postgres: a row changes, every browser knows.",
)

DataDir = Annotated[
    Path | None,
    typer.Option(
        file_okay=False, help="Use a Postgres of our own, with its data here, not DATABASE_URL."
    ),
]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stream-server {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


Host = Annotated[str | None, typer.Option(help="Address to listen on.  [env: HOST]")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.  [env: PORT]")]


@app.command()
@_well_behaved()
def serve(host: Host = None, port: Port = None, data_dir: DataDir = None) -> None:
    """Serve the API and the streams. Waits for the database as long as it takes."""
    _log(logging.INFO)
    with _database(data_dir, SERVER, _given(host=host, port=port)) as settings:
        if data_dir is not None:
            asyncio.run(migrations.migrate(session_url(settings)))
        listening = web_process.listen(settings.host, settings.port)
        logging.getLogger(__name__).info("Serving on %s", web_process.url_of(listening))
        code = web_process.run(create_app(settings), settings, listening)
    raise typer.Exit(code)


@app.command()
@_well_behaved()
def worker(data_dir: DataDir = None) -> None:
    """Do what no request waits for: end holds that are over, watch external systems, tidy up. As
    many as you like may run. Waits for the database as long as it takes."""
    _log(logging.INFO)
    with _database(data_dir, WORKER) as settings:
        code = worker_process.run(settings)
    raise typer.Exit(code)


@app.command()
@_well_behaved()
def demo(
    host: Host = None,
    port: Port = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Keep the data here, and find them again next time."),
    ] = None,
    shoppers: Annotated[bool, typer.Option(help="Let simulated shoppers buy.")] = True,
) -> None:
    """Try it: a Postgres, a catalogue and shoppers of its own. Ctrl-C ends all of it."""
    _log(logging.WARNING)
    given = _given(host=host, port=port)
    settings = Settings.load(given, only=DEMO)
    listening = web_process.listen(settings.host, settings.port)
    typer.echo("Starting Postgres …")
    with _postgres(data_dir) as postgres:
        settings = Settings.load(
            {
                **given,
                "database_url": postgres.url,
                "listen_database_url": "",
                "stream_drain_seconds": 0.2,
                "payment_url": f"{settings.public_path}/demo/pay",
                "stripe_webhook_secret": secrets.token_hex(16),
            },
            only=DEMO,
        )
        code = demo_process.run(settings, postgres, listening, with_shoppers=shoppers)
    raise typer.Exit(code)


@app.command()
@_well_behaved()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the database to this release's schema."""
    with _database(data_dir, DATABASE) as settings:
        applied = asyncio.run(migrations.migrate(session_url(settings)))
    for name in applied:
        typer.echo(f"Applied {name}")
    if not applied:
        typer.echo("The database is up to date")


@app.command("import")
@_well_behaved()
def import_(
    file: Annotated[
        typer.FileBinaryRead, typer.Argument(help="products.json, products.csv, or - for stdin.")
    ],
    format_: Annotated[
        Literal["json", "csv"] | None,
        typer.Option("--format", help="By default, as the file's name says."),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Check all of it, but change nothing.")] = False,
    actor: Annotated[str, typer.Option(envvar="USER", help="Who, for the log.")] = "import",
    reason: Annotated[str | None, typer.Option(help="Why, for the log.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Add and change products and variants as a file says: all of it, or nothing."""
    name = Path(file.name).name
    by_name = "csv" if name.lower().endswith((".csv", ".tsv", ".txt")) else "json"

    async def work(settings: Settings) -> Imported:
        await migrations.check(session_url(settings))
        async with Pool.of(settings, max_size=2) as pool:
            with ProgressLine(sys.stderr) as line:
                return await import_catalogue(
                    pool,
                    file,
                    ImportRequest(
                        name=name,
                        format_name=format_ or by_name,
                        actor=actor,
                        reason=reason or f"import of {name}",
                        dry_run=dry_run,
                    ),
                    progress=line.show,
                )

    try:
        with _database(data_dir, DATABASE) as settings:
            done = asyncio.run(work(settings))
    except ImportRejected as error:
        for row in error.rows:
            place = ":".join(str(part) for part in (file.name, row.line, row.column) if part)
            typer.echo(f"{place}: {row.reason}" + (f" ({row.id})" if row.id else ""), err=True)
        if more := error.count - len(error.rows):
            typer.echo(f"… and {more} more", err=True)
        typer.echo(f"Error: {error.count} found in {file.name}; nothing was changed", err=True)
        raise typer.Exit(1) from None
    would = "a dry run; there would be " if dry_run else ""
    typer.echo(
        f"{done.products} products with {done.variants} variants: {would}"
        f"{done.added} added, {done.changed} changed, {done.unchanged} as they were"
    )


@app.command()
@_well_behaved()
def token(
    subject: Annotated[str, typer.Option(help="Who, for the log.")],
    role: Annotated[Literal["admin", "shop"], typer.Option(help="What it may do.")],
    expires: Annotated[str, typer.Option(help="So long it is good: 90s, 30m, 12h, 7d.")] = "12h",
) -> None:
    """Make a bearer token for those who may write. Needs SECRET_KEY."""
    amount = re.fullmatch(r"([1-9]\d{0,5})([smhd])", expires)
    if amount is None:
        raise typer.BadParameter("expected a number and s, m, h or d", param_hint="--expires")
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[amount[2]]
    settings = Settings.load(only={"secret_key", "jwt_audience", "jwt_issuer"})
    secret = settings.secret_key.get_secret_value()
    if not secret:
        raise InvalidSettings({"SECRET_KEY": "is not set. It signs the token"})
    lifetime = timedelta(**{unit: int(amount[1])})
    tokens = Tokens(secret, audience=settings.jwt_audience, issuer=settings.jwt_issuer)
    typer.echo(tokens.issue(subject, role, now=datetime.now(UTC), lifetime=lifetime))


@app.command()
@_well_behaved()
def new_epoch(data_dir: DataDir = None) -> None:
    """Begin a new history of streams: after data were put back into tables that stayed."""
    epoch = secrets.token_hex(4)

    async def renew(connection: Queries) -> None:
        await connection.execute(
            "update stream_epoch set epoch = :epoch, renewed_at = now()", {"epoch": epoch}
        )
        # Servers that run learn of it at once.
        await connection.execute("""select pg_notify('stock_changes', '["*"]')""")

    async def work(settings: Settings) -> None:
        await migrations.check(session_url(settings))
        async with Pool.of(settings, max_size=1) as pool:
            await in_transaction(pool, renew)

    with _database(data_dir, DATABASE) as settings:
        asyncio.run(work(settings))
    typer.echo(
        f"stream_epoch is now {epoch}, and part of every stream's epoch.\n"
        "Every client that comes back gets a reset and the whole state. Failovers and restores of\n"
        "whole tables are noticed without this. Do it after a restore of data into tables that\n"
        "stayed: a position that a client kept from before could hide changes from it."
    )


def _given(**options: object) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


@contextmanager
def _database(
    data_dir: Path | None, names: AbstractSet[str], overrides: dict[str, object] | None = None
) -> Iterator[Settings]:
    """The settings of these names, with a database: that of DATABASE_URL, or one that runs as long
    as the block.

    Raises InvalidSettings if there is neither.
    """
    if data_dir is None:
        settings = Settings.load(overrides, only=names)
        if not settings.database_url.get_secret_value():
            raise InvalidSettings(
                {"DATABASE_URL": "is not set. Set it, or give --data-dir for a Postgres of our own"}
            )
        yield settings
        return
    with _postgres(data_dir) as postgres:
        own = {"database_url": postgres.url, "listen_database_url": ""}
        yield Settings.load({**(overrides or {}), **own}, only=names)


@contextmanager
def _postgres(data_dir: Path | None) -> Iterator[EmbeddedPostgres]:
    """An embedded Postgres, with its data in a temporary folder if there is no other.

    Neither its start nor its stop is left half done: each takes a moment, and signals wait.
    """
    stopped_by: list[int] = []
    with ExitStack() as stack:
        temporary = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="stream-server-", ignore_cleanup_errors=True)
        )
        undisturbed = stack.enter_context(ExitStack())
        with web_process.at_signals(lambda number, _: stopped_by.append(number)):
            postgres = stack.enter_context(embedded_postgres(data_dir or Path(temporary)))
        try:
            if stopped_by:
                _leave(stopped_by[0], None)
            yield postgres
        finally:
            undisturbed.enter_context(web_process.at_signals(signal.SIG_IGN))


def _log(level: int) -> None:
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")
