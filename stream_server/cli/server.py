"""The web server: uvicorn with our connections and our way to stop."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import uvicorn
from starlette.applications import Starlette

from stream_server.errors import InvalidSettings
from stream_server.streaming.connection import StreamProtocol

__all__ = ["Server", "at_signals", "listen", "run", "url_of"]

logger = logging.getLogger(__name__)

Handler = Callable[[int, FrameType | None], object] | signal.Handlers

KEEP_ALIVE: Final = 75  # seconds; longer than proxies keep a connection, and than a poll interval
GRACE: Final = 5  # seconds for requests under way, once the streams have ended


class Server(uvicorn.Server):
    """Ends streams before it closes connections, and after a signal returns like any function."""

    def __init__(self, app: Starlette) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=StreamProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=GRACE,
            )
        )
        self._app = app

    @property
    def stopped_by(self) -> int | None:
        """The signal that stopped it."""
        return self._captured_signals[0] if self._captured_signals else None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, but it does not raise the signal again when all is done."""
        with at_signals(self.handle_exit):
            yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn waits for open connections and streams never end by themselves: end them, while
        new clients are still told to go elsewhere. A second Ctrl-C cuts that short."""
        draining = asyncio.create_task(self._app.state.drain())
        while not (draining.done() or self.force_exit):
            await asyncio.wait((draining,), timeout=0.1)
        draining.cancel()
        await super().shutdown(sockets)


@contextmanager
def at_signals(handler: Handler) -> Iterator[None]:
    """Have `handler` called at Ctrl-C and at what asks for an orderly end, within the block."""
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # else: run by nohup
        signals.append(signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, taken before anything else is started. Port 0: any that is free.

    Raises InvalidSettings when it cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except socket.gaierror as error:
        raise InvalidSettings({"HOST": f"{host} is no address here: {error.strerror}"}) from error
    except OSError as error:
        reason = f"{port} on {host} cannot be used: {error.strerror}. Try another with --port"
        raise InvalidSettings({"PORT": reason}) from error


def url_of(listening: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # any, seen from here
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(
    app: Starlette,
    listening: socket.socket,
    companion: Callable[[], Coroutine[object, object, None]] | None = None,
) -> int:
    """Serve until a signal comes; the exit code for it: 130 after Ctrl-C, else 0.

    `companion` runs beside it and is cancelled at the end; if it fails, that is logged at once.
    """
    server = Server(app)

    async def accompany() -> None:
        try:
            if companion is not None:
                await companion()
        except Exception:
            logger.exception("What ran beside the server has failed")

    async def main() -> None:
        beside = asyncio.create_task(accompany())
        try:
            await server.serve([listening])
        finally:
            beside.cancel()
            await asyncio.wait((beside,))

    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(main())
    return 128 + signal.SIGINT if server.stopped_by == signal.SIGINT else 0
