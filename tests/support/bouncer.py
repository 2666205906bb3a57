"""A PgBouncer in front of a Postgres: in transaction mode, all else by default."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from urllib.parse import parse_qs, quote, unquote, urlsplit

import trustme

START_SECONDS = 20

URLOf = Callable[[str], str]


@contextmanager
def bouncer(
    server: str,
    user: str,
    password: str = "",
    *,
    pool_mode: str = "transaction",
    certificate: trustme.LeafCert | None = None,
    clients: trustme.CA | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[URLOf]:
    """Gives the URL of each database of `server` (a URL, or the folder of its socket) through a
    PgBouncer of one's own, for the role `user`; with a certificate, over TLS only, and of
    `clients` it wants one, too. `settings` are those of its section [pgbouncer].

    It listens on a free port of 127.0.0.1, and has ended when the block is left.
    """
    host, server_port = _place(server)
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert program is not None, "PgBouncer is not installed (Debian's package pgbouncer)"
    runs_as = _user(host)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="stream-server-bouncer-"))
    try:
        options: dict[str, str] = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(port),
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": str(folder / "users"),
            "pool_mode": pool_mode,
        }
        if certificate is not None:
            certificate.private_key_pem.write_to_path(folder / "key")
            certificate.cert_chain_pems[0].write_to_path(folder / "certificate")
            options["client_tls_sslmode"] = "require"
            options["client_tls_key_file"] = str(folder / "key")
            options["client_tls_cert_file"] = str(folder / "certificate")
        if clients is not None:
            clients.cert_pem.write_to_path(folder / "clients")
            options["client_tls_sslmode"] = "verify-full"
            options["client_tls_ca_file"] = str(folder / "clients")
        options.update(settings or {})
        lines = [f"{name} = {value}" for name, value in options.items()]
        (folder / "users").write_text(f"{_quoted(user)} {_quoted(password)}\n")
        (folder / "ini").write_text(
            f"[databases]\n* = host={host} port={server_port}\n[pgbouncer]\n" + "\n".join(lines)
        )
        if runs_as is not None:
            for path in (folder, *folder.iterdir()):
                os.chown(path, runs_as.pw_uid, runs_as.pw_gid)
        process = subprocess.Popen(
            [program, str(folder / "ini")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            user=None if runs_as is None else runs_as.pw_uid,
            group=None if runs_as is None else runs_as.pw_gid,
            extra_groups=None if runs_as is None else [],
            start_new_session=True,  # a Ctrl-C in the terminal is for pytest
        )
        try:
            _wait(process)
            role = quote(user, safe="")
            yield lambda database: f"postgresql://{role}@127.0.0.1:{port}/{quote(database)}"
        finally:
            process.terminate()
            process.wait()
    finally:
        shutil.rmtree(folder)


def _place(server: str) -> tuple[str, int]:
    if server.startswith("/"):
        return server, 5432
    parts = urlsplit(server)
    socket_folder = parse_qs(parts.query).get("host", [""])[0]
    return socket_folder or unquote(parts.hostname or "127.0.0.1"), parts.port or 5432


def _user(host: str) -> pwd.struct_passwd | None:
    """Whom to run as; None: as ourselves. It does not run as root: then, as the owner of the
    socket's folder, who alone may open it."""
    if os.geteuid() != 0:
        return None
    if host.startswith("/"):
        return pwd.getpwuid(Path(host).stat().st_uid)
    return pwd.getpwnam("nobody")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _wait(process: "subprocess.Popen[str]") -> None:
    """Until it says that it is up. Its log is read for as long as it runs: a full pipe would stop
    it."""
    assert process.stderr is not None
    log = process.stderr
    is_up, is_told = False, Event()
    last: deque[str] = deque(maxlen=20)

    def follow() -> None:
        nonlocal is_up
        with log:
            for line in log:
                last.append(line)
                if "process up" in line:
                    is_up = True
                    is_told.set()
        is_told.set()  # it has ended

    Thread(target=follow, daemon=True).start()
    is_told.wait(START_SECONDS)
    assert is_up, "PgBouncer did not start:\n" + "".join(last)
