"""The server that is measured, and its peers. All run on 127.0.0.1, each as a single process
(nginx: one worker), started for the block and stopped after it."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from bench.database import Database
from bench.processes import (
    BenchError,
    Process,
    compiled,
    free_port,
    raise_descriptors,
    running,
    wait_for_port,
)

_MODULES = Path("/usr/lib/nginx/modules")
PLAIN = "sse-starlette"
FLOOR = "write() in C"
NCHAN = "nginx + nchan"


@dataclass(frozen=True, slots=True)
class Ours:
    """`stream-server serve`."""

    process: Process
    port: int
    seconds_to_ready: float

    def get(self, path: str) -> bytes:
        with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            body: bytes = answer.read()
        return body

    def open_streams(self) -> int:
        """As /metrics gives it."""
        lines = self.get("/metrics").decode().splitlines()
        return sum(
            int(float(line.rpartition(" ")[2]))
            for line in lines
            if line.startswith("stream_server_open_streams{")
        )

    def wait_until_empty(self, within: float = 30.0) -> int:
        """The number of open streams: 0, unless the time was not enough."""
        deadline = time.monotonic() + within
        while (left := self.open_streams()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left


@contextmanager
def ours(
    database: Database,
    folder: Path,
    settings: Mapping[str, str] | None = None,
    program: tuple[str, ...] = ("-m", "stream_server.cli", "serve"),
) -> Iterator[Ours]:
    """Our server on this database, once it is ready."""
    port = free_port()
    environment = {
        "DATABASE_URL": database.url,
        "PORT": str(port),
        "STREAM_DRAIN_SECONDS": "0",
        "REQUEST_RATE": "off",  # all come from one address
        "STREAMS_PER_ADDRESS": "0",
        **(settings or {}),
    }
    command = [sys.executable, *program]
    began = time.monotonic()
    with running("stream-server", command, folder / f"ours-{port}.log", environment) as process:
        _wait_until_ready(process, port)
        yield Ours(process, port, time.monotonic() - began)


def _wait_until_ready(process: Process, port: int, within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        if process.has_ended() or time.monotonic() > deadline:
            raise BenchError(f"stream-server is not ready:\n{process.last_words()}")
        time.sleep(0.01)


class Peer:
    """Another server. What is posted to it goes to each of its streams, of /sub."""

    def __init__(self, name: str, process: Process, port: int) -> None:
        self.name = name
        self.process = process
        self.port = port

    def publish(self, data: bytes, position: str, *, to: int | None = None) -> None:
        """As an event `inventory_updated` with this data and, if the server lets us choose, id.
        `to` is for the floor: to so many streams only."""
        body = data if self.name != FLOOR else b"%b\nid: %b" % (data, position.encode())
        only = "" if to is None else f"X-To: {to}\r\n"
        head = (
            f"POST /pub HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            f"X-EventSource-Event: inventory_updated\r\nX-Position: {position}\r\n{only}\r\n"
        )
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(head.encode() + body)  # at once: the floor reads once
            answer = connection.recv(65_536)
        if not answer.startswith(b"HTTP/1.1 2"):
            raise BenchError(f"{self.name} answers {answer[:40]!r}")


@contextmanager
def floor(build: Path, folder: Path) -> Iterator[Peer]:
    """Bare write() calls (floor.c)."""
    program = compiled(Path(__file__).with_name("floor.c"), build)
    port = free_port()
    with running(FLOOR, [program, str(port)], folder / "floor.log") as process:
        wait_for_port(process, port)
        yield Peer(FLOOR, process, port)


@contextmanager
def plain(folder: Path) -> Iterator[Peer]:
    """A queue and a generator a client under EventSourceResponse ((peer_sse_starlette.py))."""
    port = free_port()
    command = [sys.executable, "-m", "bench.peer_sse_starlette", str(port)]
    with running(PLAIN, command, folder / "plain.log") as process:
        wait_for_port(process, port)
        yield Peer(PLAIN, process, port)


@contextmanager
def nchan(folder: Path) -> Iterator[Peer | None]:
    """nginx with nchan, installed if it is missing and we may; None if it can't be had."""
    program = _nginx()
    if program is None:
        yield None
        return
    port = free_port()
    own = folder / "nginx"
    own.mkdir()
    template = Path(__file__).with_name("nchan.conf").read_text()
    configuration = own / "nginx.conf"
    configuration.write_text(
        template.format(
            modules=_MODULES,
            folder=own,
            port=port,
            connections=min(30_000, raise_descriptors()) - 50,
        )
    )
    command = [program, "-p", str(own), "-c", str(configuration)]
    with running(NCHAN, command, folder / "nginx.log") as master:
        wait_for_port(master, port)
        worker = Process(NCHAN, master.child(), master.log)
        yield Peer(NCHAN, worker, port)


def _nginx() -> str | None:
    if not _has_nchan() and os.geteuid() == 0 and shutil.which("apt-get"):
        install = ["apt-get", "install", "--yes", "--no-install-recommends"]
        # RUNLEVEL keeps the package from starting a service.
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for command in (["apt-get", "update"], [*install, "nginx", "libnginx-mod-nchan"]):
            subprocess.run(command, env=environment, capture_output=True, check=False, timeout=180)
    if not _has_nchan():
        print("nginx with nchan is not here; its figures are left out."
              " On Debian: apt-get install nginx libnginx-mod-nchan")  # fmt: skip
        return None
    return _find_nginx()


def _has_nchan() -> bool:
    return _find_nginx() is not None and (_MODULES / "ngx_nchan_module.so").exists()


def _find_nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def version_of_nginx() -> str | None:
    """Such as 1.22.1."""
    program = _find_nginx()
    if program is None or not _has_nchan():
        return None
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stderr
    return said.strip().rpartition("/")[2] or None
