"""The web server of a command: its sockets, its signals, its exit code."""

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
from stream_server.server import Server, configuration, prepare_process
from stream_server.settings import Settings

__all__ = ["at_signals", "listen", "run", "url_of"]

logger = logging.getLogger(__name__)

Handler = Callable[[int, FrameType | None], object] | signal.Handlers


class _Server(Server):
    """A server that returns normally after a signal, so that the code around it can clean up. A
    second signal ends it without waiting for requests."""

    @property
    def exit_code(self) -> int:
        """The exit code: 130 if the first signal was Ctrl-C, else 0. After a second signal it is
        that signal's 130 or 143, because requests may have been aborted."""
        first, second, *_ = [*self._captured_signals, 0, 0]
        return 128 + (second or first) if second or first == signal.SIGINT else 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handles a signal as uvicorn does, but a second signal of any kind forces the end."""
        self.force_exit = bool(self._captured_signals)
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures signals as uvicorn does, but does not raise them again at the end."""
        with at_signals(self.handle_exit):
            yield


@contextmanager
def at_signals(handler: Handler) -> Iterator[None]:
    """Has `handler` called at Ctrl-C, SIGTERM and SIGHUP within the block."""
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it
        signals.append(signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def listen(host: str, port: int) -> list[socket.socket]:
    """Returns listening sockets on all addresses of a host; called before anything else starts.

    `::` includes IPv4. Port 0 means any free port, the same on all addresses.

    Raises InvalidSettings if the host or the port cannot be used.
    """
    listening: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port):
            try:
                listening.append(_listen(family, address, port))
            except OSError as error:
                # A name such as localhost may have an address that this machine does not have.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
            else:
                port = listening[0].getsockname()[1]
        if not listening:
            raise missing
    except socket.gaierror as error:
        reason = (
            f"{host} must be an address or a name of this machine: {error.strerror}. conda and "
            "some shells set HOST, too; --host wins over it"
        )
        raise InvalidSettings({"HOST": reason}) from error
    except OSError as error:
        for each in listening:
            each.close()
        # The text of the error repeats the address.
        reason = os.strerror(error.errno) if error.errno else str(error)
        reason = f"{port} on {host} cannot be used: {reason}. Choose another port with --port"
        raise InvalidSettings({"PORT": reason}) from error
    return listening


def _addresses(host: str, port: int) -> list[tuple[int, str]]:
    """Returns the families and addresses of a host without repeats; accepts IPv6 in brackets."""
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
    """Returns the URL for a browser on this machine."""
    host, port = listening[0].getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # binds nothing
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(
    app: Starlette,
    settings: Settings,
    listening: Sequence[socket.socket],
    companion: Callable[[], Coroutine[object, object, None]] | None = None,
) -> int:
    """Serves until a signal comes; returns the exit code.

    `companion` runs beside the server and is cancelled at the end. Its failure is logged at once.
    """
    prepare_process()
    web = _Server(configuration(app, settings), app, drain_delay=settings.drain_delay_seconds)

    async def accompany() -> None:
        try:
            if companion is not None:
                await companion()
        except Exception:
            logger.exception("The task beside the server failed")

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
