"""The proxies of examples/proxies, with these very files but for ports and paths, each as an
unprivileged process of its own on loopback."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import trustme

EXAMPLES: Final = Path(__file__).parents[2] / "examples" / "proxies"
START_SECONDS: Final = 20
_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin"
_APACHE_MODULES: Final = [
    "mpm_event",
    "asis",
    "authz_core",
    "alias",
    "deflate",
    "filter",
    "headers",
    "http2",
    "lbmethod_byrequests",
    "proxy",
    "proxy_balancer",
    "proxy_http",
    "setenvif",
    "slotmem_shm",
    "socache_shmcb",
    "ssl",
]


@dataclass(frozen=True)
class Proxy:
    """A proxy that runs. Its certificate is one of `authority`, a PEM file."""

    name: str
    url: str
    authority: Path

    @property
    def has_tls(self) -> bool:
        return self.url.startswith("https")


@dataclass(frozen=True)
class _Place:
    """What a proxy's files are filled in with."""

    folder: Path
    port: int
    backends: tuple[int, int]
    user: pwd.struct_passwd | None

    def filled(self, name: str, replaced: Mapping[str, str] | None = None) -> Path:
        """The example in the proxy's folder, for the ports of this place."""
        text = (EXAMPLES / name).read_text()
        first, second = map(str, self.backends)
        changes = {
            "127.0.0.1:8000": f"127.0.0.1:{first}",
            "127.0.0.1:8001": f"127.0.0.1:{second}",
            "/etc/ssl/": f"{self.folder}/",
            **(replaced or {}),
        }
        for old, new in changes.items():
            assert old in text or old == "/etc/ssl/" or "8000" in old or "8001" in old, (name, old)
            text = text.replace(old, new)
        file = self.folder / name
        file.write_text(text)
        return file


def program(*names: str) -> str:
    """Where a program is. Without it the test is skipped; on CI it fails."""
    for name in names:
        if found := shutil.which(name, path=_PATH):
            return found
    message = f"There is no {names[0]} here; on Debian .ci/run says which package has it"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@contextmanager
def proxy(name: str, backends: tuple[int, int]) -> Iterator[Proxy]:
    """The proxy of this name before servers on two ports of 127.0.0.1, of which either may be
    away. It has ended when the block is left."""
    start = _STARTS[name]
    folder = Path(tempfile.mkdtemp(prefix=f"stream-server-{name}-"))
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    try:
        authority = folder / "authority.pem"
        ca = trustme.CA()
        ca.cert_pem.write_to_path(authority)
        certificate = ca.issue_cert("localhost", "*.localhost", "127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(folder / "shop.pem")
        certificate.private_key_pem.write_to_path(folder / "shop.key")
        command, variables = start(_Place(folder, port, backends, user))
        (folder / "log").touch()
        if user is not None:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, user.pw_uid, user.pw_gid)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": _PATH, "HOME": str(folder), "TMPDIR": str(folder), **variables},
                cwd=folder,
                user=None if user is None else user.pw_uid,
                group=None if user is None else user.pw_gid,
                extra_groups=None if user is None else [],
                start_new_session=True,  # a Ctrl-C in the terminal is for pytest
            )
        try:
            _wait(process, port, folder / "log")
            scheme = "http" if name == "varnish" else "https"
            yield Proxy(name, f"{scheme}://localhost:{port}", authority)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"It does not listen:\n{log.read_text(errors='replace')[-4000:]}")


_Command = tuple[Sequence[str], Mapping[str, str]]


def _nginx(place: _Place) -> _Command:
    """As a part of `http`, where Debian's own nginx.conf has it."""
    listen = {"listen 443": f"listen 127.0.0.1:{place.port}"}
    site = place.filled("nginx.conf", listen)
    temporary = "".join(
        f"{each}_temp_path {place.folder}/{each};\n"
        for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = place.folder / "main.conf"
    main.write_text(
        f"daemon off; pid {place.folder}/pid; error_log stderr warn;\n"
        f"events {{ worker_connections 8192; }}\n"
        f"http {{\naccess_log off;\n{temporary}include {site};\n}}\n"
    )
    return [program("nginx"), "-p", str(place.folder), "-e", "stderr", "-c", str(main)], {}


def _haproxy(place: _Place) -> _Command:
    listen = {"bind :443": f"bind 127.0.0.1:{place.port}"}
    return [program("haproxy"), "-db", "-f", str(place.filled("haproxy.cfg", listen))], {}


def _caddy(place: _Place) -> _Command:
    """With a certificate of ours, for it would ask Let's Encrypt for one."""
    here, own = f"https://localhost:{place.port}", f"{place.folder}/shop"
    site = place.filled(
        "Caddyfile", {"shop.example {": f"{here} {{\n\tbind 127.0.0.1\n\ttls {own}.pem {own}.key"}
    )
    options = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"
    site.write_text(options + site.read_text())
    command = [program("caddy"), "run", "--adapter", "caddyfile", "--config", str(site)]
    return command, {"XDG_DATA_HOME": str(place.folder), "XDG_CONFIG_HOME": str(place.folder)}


def _apache(place: _Place) -> _Command:
    """With the modules that the file's head names, and some that Debian has on."""
    server = program("apache2", "httpd")
    for name in ("later.asis", "away.asis"):
        shutil.copy(EXAMPLES / name, place.folder)
    site = place.filled(
        "apache.conf",
        {
            "Listen 443": f"Listen 127.0.0.1:{place.port}",
            "*:443": f"127.0.0.1:{place.port}",
            "/etc/apache2/": f"{place.folder}/",
        },
    )
    modules = Path("/usr/lib/apache2/modules")
    main = place.folder / "main.conf"
    main.write_text(
        "".join(f"LoadModule {each}_module {modules}/mod_{each}.so\n" for each in _APACHE_MODULES)
        + f"ServerRoot {place.folder}\nDefaultRuntimeDir {place.folder}\nPidFile pid\n"
        f"ErrorLog /dev/stderr\nServerName localhost\nMutex file:{place.folder}\n"
        f"DocumentRoot {place.folder}\nInclude {site}\n"
    )
    return [server, "-DFOREGROUND", "-f", str(main)], {}


def _varnish(place: _Place) -> _Command:
    first, second = place.backends
    file = place.filled("varnish.vcl", {'"8000"': f'"{first}"', '"8001"': f'"{second}"'})
    return [
        program("varnishd"), "-F", "-j", "none", "-n", str(place.folder / "work"),
        "-a", f"localhost:{place.port}", "-f", str(file), "-s", "malloc,32m",
    ], {}  # fmt: skip


_STARTS: Final[Mapping[str, Callable[[_Place], _Command]]] = {
    "nginx": _nginx,
    "haproxy": _haproxy,
    "caddy": _caddy,
    "apache": _apache,
    "varnish": _varnish,
}
NAMES: Final = tuple(_STARTS)
