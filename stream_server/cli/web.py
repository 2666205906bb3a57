"""The web server as a command runs it: its socket, its signals, its exit code."""

import asyncio
import errno
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from starlette.applications import Starlette

from stream_server.errors import InvalidSettings
from stream_server.server import Server, create_server
from stream_server.settings import Settings

__all__ = ["at_signals", "listen", "run", "url_of"]

logger = logging.getLogger(__name__)

Handler = Callable[[int, FrameType | None], object] | signal.Handlers


class _Server(Server):
    """Returns after a signal like any function, so that what runs around it can end, too. A second
    signal ends it without waiting for anybody."""

    @property
    def exit_code(self) -> int:
        """As the first signal says it: 130 after Ctrl-C, else 0. As the second one does if it had
        to be hurried: 130 or 143, since somebody may have been cut off."""
        first, second, *_ = [*self._captured_signals, 0, 0]
        return 128 + (second or first) if second or first == signal.SIGINT else 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """As uvicorn does, for which only a second Ctrl-C is urgent."""
        self.force_exit = bool(self._captured_signals)
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, but it does not raise the signal again when all is done."""
        with at_signals(self.handle_exit):
            yield


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


def listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on all addresses of a host, taken before anything else is started.

    `::` stands for IPv4, too. Port 0: any that is free, the same on all. Raises InvalidSettings
    when they cannot be had.
    """
    listening: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port):
            try:
                listening.append(_listen(family, address, port))
            except OSError as error:
                # A name such as localhost may have an address that this machine has not.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
            else:
                port = listening[0].getsockname()[1]
        if not listening:
            raise missing
    except socket.gaierror as error:
        reason = (
            f"{host} is no address here: {error.strerror}. conda and some shells set HOST, too; "
            "--host wins over it"
        )
        raise InvalidSettings({"HOST": reason}) from error
    except OSError as error:
        for each in listening:
            each.close()
        # The error's own text has the address behind the system's words.
        reason = os.strerror(error.errno) if error.errno else str(error)
        reason = f"{port} on {host} cannot be used: {reason}. Try another with --port"
        raise InvalidSettings({"PORT": reason}) from error
    return listening


def _addresses(host: str, port: int) -> list[tuple[int, str]]:
    """The families and addresses of a host, each once; an IPv6 address may be in brackets."""
    host = host.removeprefix("[").removesuffix("]")
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, str(address[0])) for family, *_, address in found))


def _listen(family: int, address: str, port: int) -> socket.socket:
    return socket.create_server(
        (address, port),
        family=family,
        backlog=4096,
        dualstack_ipv6=address == "::" and socket.has_dualstack_ipv6(),
    )


def url_of(listening: Sequence[socket.socket]) -> str:
    """Where a browser on this machine finds it."""
    host, port = listening[0].getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # any, seen from here
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(
    app: Starlette,
    settings: Settings,
    listening: Sequence[socket.socket],
    companion: Callable[[], Coroutine[object, object, None]] | None = None,
) -> int:
    """Serve until a signal comes; the exit code for it.

    `companion` runs beside it and is cancelled at the end; if it fails, that is logged at once.
    """
    config = create_server(app, settings).config
    web = _Server(config, app, drain_delay=settings.drain_delay_seconds)

    async def accompany() -> None:
        try:
            if companion is not None:
                await companion()
        except Exception:
            logger.exception("What ran beside the server has failed")

    async def main() -> None:
        beside = asyncio.create_task(accompany())
        try:
            await web.serve(list(listening))
        finally:
            beside.cancel()
            await asyncio.wait((beside,))

    with asyncio.Runner(loop_factory=web.config.get_loop_factory()) as runner:
        runner.run(main())
    return web.exit_code
