"""uvicorn, as this service runs it."""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
import time

import uvicorn
from sse_starlette.sse import AppStatus
from starlette.applications import Starlette

from stream_server.settings import Settings

__all__ = ["Server", "server"]


class Server(uvicorn.Server):
    """Ends the application's streams in order before it waits for the other requests.

    uvicorn would wait for open streams first; they never end by themselves.
    """

    def __init__(self, config: uvicorn.Config, app: Starlette, *, drain_delay: float = 0.0) -> None:
        super().__init__(config)
        self._app = app
        self._drain_delay = drain_delay

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Says on /readyz that it will, for balancers to notice; then stops accepting, drains the
        streams, and shuts down as uvicorn does."""
        self._app.state.is_leaving = True
        until = time.monotonic() + self._drain_delay
        while time.monotonic() < until and not self.force_exit:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # as uvicorn looks at `force_exit`, which nobody signals
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        await self._app.state.drain()
        await super().shutdown(sockets)


def server(app: Starlette, settings: Settings) -> Server:
    """A server for the application, where the settings say.

    Streams are written straight on their connections (`StreamProtocol`); uvloop is used where
    it is installed; the process's limit of open files is raised as far as it may be. The garbage
    collector runs seldom: requests leave no circles behind, and a full collection of ten thousand
    streams would hold every one of them up.
    """
    # Server.shutdown does it, and says when to come back.
    AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]  # the library's
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    gc.set_threshold(20_000, 20, 100)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        http="stream_server.streaming.connection:StreamProtocol",
        ws="none",
        lifespan="on",
        backlog=4096,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # polls come every ten seconds
        timeout_graceful_shutdown=10,
    )
    return Server(config, app, drain_delay=settings.drain_delay_seconds)
