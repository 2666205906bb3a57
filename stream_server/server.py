"""uvicorn, as this service runs it."""

import asyncio
import gc
import logging
import resource
import socket
import sys
from collections.abc import Coroutine
from contextlib import suppress

import uvicorn
from sse_starlette.sse import AppStatus
from starlette.applications import Starlette

from stream_server.http.protocol import WatchedState
from stream_server.http.proxies import Proxies
from stream_server.http.watch import Timeouts, Watch, backlog
from stream_server.settings import Settings
from stream_server.web.crowd import Crowd

__all__ = ["Server", "create_server", "notice_lost_clients", "raise_file_limit"]

logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """Ends the application's streams in order before it waits for the other requests.

    uvicorn would wait for open streams first; they never end by themselves.
    """

    def __init__(self, config: uvicorn.Config, app: Starlette, *, drain_delay: float = 0.0) -> None:
        super().__init__(config)
        self._app = app
        app.state.hears_signals = False
        self._drain_delay = drain_delay
        settings: Settings = app.state.settings
        timeouts = Timeouts(
            head=settings.http_head_seconds,
            body=settings.http_body_seconds,
            answer=settings.http_answer_seconds,
            idle=settings.http_keep_alive_seconds,
        )
        # A client that acknowledges nothing has gone, however patient we are with its reading.
        self._lost_seconds = 30 + max(settings.stream_stall_seconds, settings.http_answer_seconds)
        state = WatchedState()
        state.watch = self._watch = Watch(
            state.connections,  # type: ignore[arg-type]  # they are `HttpProtocol`s
            timeouts,
            app.state.metrics,
            app.state.hub.open_streams.total,
            proxies=Proxies(settings.forwarded_allow_ips),
            crowd=Crowd(settings.connections_per_address),
        )
        self.server_state = state

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the application, then accepts connections."""
        for listener in sockets or ():
            notice_lost_clients(listener, self._lost_seconds)
        self._watch.start()
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Says on /readyz that it will, for balancers to notice; then stops accepting, drains the
        streams, and shuts down as uvicorn does."""
        self._app.state.is_leaving = True
        await self._unless_hurried(asyncio.sleep(self._drain_delay))
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        await self._unless_hurried(self._app.state.drain())
        logging.getLogger("uvicorn.error").addFilter(_is_fault)
        await super().shutdown(sockets)
        self._watch.stop()
        if self.force_exit:
            await self._cut_off()

    async def _cut_off(self) -> None:
        """What uvicorn leaves to whoever closes the loop."""
        requests, streams = self.server_state.tasks, self._watch.streams()
        logger.warning(
            "A second signal: requests that are cut off: %d; streams: %d", len(requests), streams
        )
        for each in requests:
            each.cancel()
        self._app.state.is_draining = self._app.state.is_hurried = True
        await self.lifespan.shutdown()

    async def _unless_hurried(self, work: Coroutine[object, object, None]) -> None:
        """Does this to its end, or until a second signal comes."""
        task = asyncio.create_task(work)
        while not (task.done() or self.force_exit):
            # As uvicorn looks at `force_exit`, which nobody signals.
            await asyncio.wait((task,), timeout=0.05)
        if not task.cancel():
            task.result()


def _is_fault(record: logging.LogRecord) -> bool:
    """A request that is cut off at the end is none."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def raise_file_limit() -> None:
    """Raises the process's limit of open files as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return
    # macOS says that there is no limit, but its setrlimit(2) refuses just that, and on some
    # releases all above OPEN_MAX.
    for files in (1_048_576, 65_536, 10_240):
        if files <= soft:
            return
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
            return


def notice_lost_clients(listener: socket.socket, seconds: float) -> None:
    """A connection is lost when its client's system has acknowledged nothing for so long.

    A phone that leaves the network says nothing; without this, what is written to it is sent
    again for some 15 minutes (tcp(7), TCP_USER_TIMEOUT). On Linux, accepted connections inherit it.
    """
    if listener.family not in (socket.AF_INET, socket.AF_INET6):
        return
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 45)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)


def create_server(app: Starlette, settings: Settings) -> Server:
    """A server for the application, where the settings say.

    Streams are written straight on their connections (`StreamProtocol`); uvloop is used where
    it is installed; the process's limit of open files is raised as far as it may be. The garbage
    collector runs seldom: requests leave no circles behind, and a full collection of ten thousand
    streams would hold every one of them up.
    """
    # Server.shutdown does it, and says when to come back.
    AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]  # the library's
    raise_file_limit()
    gc.set_threshold(20_000, 20, 100)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        http="stream_server.streaming.connection:StreamProtocol",
        ws="none",
        lifespan="on",
        backlog=backlog(),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    return Server(config, app, drain_delay=settings.drain_delay_seconds)
