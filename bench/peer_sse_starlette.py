"""What one writes first: sse-starlette with a queue and a generator a client, under uvicorn.

uvloop and httptools, as ours. A POST to /pub goes to every stream of /sub.

    python -m bench.peer_sse_starlette PORT
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import uvicorn
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

EVENT = "inventory_updated"


def create_app() -> Starlette:
    queues: set[asyncio.Queue[tuple[str, str]]] = set()

    async def subscribe(_: Request) -> Response:
        queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue(100)
        queues.add(queue)

        async def events() -> AsyncIterator[ServerSentEvent]:
            try:
                yield ServerSentEvent("{}", event="snapshot", sep="\n")
                while True:
                    data, position = await queue.get()
                    yield ServerSentEvent(data, event=EVENT, id=position, sep="\n")
            finally:
                queues.discard(queue)

        return EventSourceResponse(events(), ping=3600)

    async def publish(request: Request) -> Response:
        data = (await request.body()).decode()
        for queue in queues:
            queue.put_nowait((data, request.headers["x-position"]))
        return Response(status_code=202)

    return Starlette(
        routes=[Route("/sub", subscribe), Route("/pub", publish, methods=["POST"])],
    )


if __name__ == "__main__":
    uvicorn.run(
        create_app(),
        port=int(sys.argv[1]),
        http="httptools",
        loop="uvloop",
        backlog=4096,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )
