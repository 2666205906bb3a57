"""The uvicorn server of this service: graceful end of streams, lost clients, limits of files."""

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

__all__ = [
    "Server",
    "configuration",
    "notice_lost_clients",
    "prepare_process",
    "raise_file_limit",
]

logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """A uvicorn server that closes the application's streams before it waits for other requests.

    uvicorn alone would wait for open streams, which never end by themselves.
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
        # A client that acknowledges nothing is lost. Slow readers get more time than this.
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
        """Announces the end on /readyz and waits for load balancers to notice it; then stops
        accepting connections, drains the streams, and shuts down as uvicorn does."""
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
        """Cancels the requests that uvicorn would leave until the loop is closed."""
        requests, streams = self.server_state.tasks, self._watch.streams()
        logger.warning("Second signal: aborting %d requests and %d streams", len(requests), streams)
        for each in requests:
            each.cancel()
        self._app.state.is_draining = self._app.state.is_hurried = True
        await self.lifespan.shutdown()

    async def _unless_hurried(self, work: Coroutine[object, object, None]) -> None:
        """Runs `work` until it ends or a second signal comes."""
        task = asyncio.create_task(work)
        while not (task.done() or self.force_exit):
            # uvicorn polls `force_exit`, too: no event tells of it.
            await asyncio.wait((task,), timeout=0.05)
        if not task.cancel():
            task.result()


def _is_fault(record: logging.LogRecord) -> bool:
    """Returns whether a record tells of a fault; a request cancelled at shutdown is not one."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def raise_file_limit() -> None:
    """Raises the process's limit of open files to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return
    # macOS reports no hard limit, but its setrlimit(2) refuses "no limit" and, in some releases,
    # every number above OPEN_MAX.
    for files in (1_048_576, 65_536, 10_240):
        if files <= soft:
            return
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
            return


def notice_lost_clients(listener: socket.socket, seconds: float) -> None:
    """Makes the kernel drop connections whose client has acknowledged nothing for `seconds`.

    A phone that leaves the network sends nothing. Without this option, the kernel would repeat
    unacknowledged data for some 15 minutes (tcp(7), TCP_USER_TIMEOUT). On Linux, accepted
    connections inherit the options of `listener`.
    """
    if listener.family not in (socket.AF_INET, socket.AF_INET6):
        return
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 45)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)


def prepare_process() -> None:
    """Prepares this process for many streams.

    The limit of open files is raised to the hard limit. The garbage collector runs seldom: requests
    leave no reference cycles, and a full collection with ten thousand streams would delay all of
    them.
    """
    raise_file_limit()
    gc.set_threshold(20_000, 20, 100)


def configuration(app: Starlette, settings: Settings) -> uvicorn.Config:
    """Returns uvicorn's configuration for the application, on the host and port of the settings.

    Streams write directly to their connections (`StreamProtocol`). uvloop is used if it is
    installed.
    """
    # Server.shutdown ends streams itself, and tells clients when to reconnect.
    AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]  # the library's
    return uvicorn.Config(
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
