"""Clients that read streams with parsers that are not ours, and clients that misbehave."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from httpx_sse import EventSource, ServerSentEvent

PATIENCE = 15.0  # seconds

# Trusts nobody. Without it each client would read the certificates of all authorities, for 20 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

JSON = dict[str, Any]


class Stream:
    """An open stream. Everything that was read stays in `events`."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.events: list[ServerSentEvent] = []
        self.last_id = ""
        self.retry: int | None = None
        self._incoming = EventSource(response).aiter_sse()

    async def next(self, name: str | None = None, *, skip: str = "ping") -> JSON:
        """The data of the next event, which must have this name; pings are passed over."""
        while True:
            event = await self._read()
            if event.event == skip and name != skip:
                continue
            assert name is None or event.event == name, event
            data: JSON = json.loads(event.data)
            return data

    async def opened(self) -> JSON:
        """The data of the first snapshot, before which a reset may come."""
        return await self.until("snapshot", lambda data: True)

    async def until(self, name: str, condition: Callable[[JSON], object]) -> JSON:
        """The data of the first event of this name for which the condition holds."""
        while True:
            event = await self._read()
            if event.event == name:
                data: JSON = json.loads(event.data)
                if condition(data):
                    return data

    async def rest(self) -> list[ServerSentEvent]:
        """All until the server ends the stream."""
        before = len(self.events)
        try:
            while True:
                await self._read()
        except StopAsyncIteration:
            return self.events[before:]

    def named(self, *names: str) -> list[JSON]:
        """The data of all events so far that have one of these names."""
        return [json.loads(each.data) for each in self.events if each.event in names]

    async def _read(self) -> ServerSentEvent:
        async with asyncio.timeout(PATIENCE):
            event = await anext(self._incoming)
        self.events.append(event)
        self.last_id = event.id  # the parser keeps the last one that was sent
        self.retry = self.retry if event.retry is None else event.retry
        return event

    async def aclose(self) -> None:
        await self._incoming.aclose()


@asynccontextmanager
async def reading(
    url: str, *, last_id: str | None = None, verify: ssl.SSLContext = NO_TLS
) -> AsyncIterator[Stream]:
    """A stream, after its head."""
    headers = {"Accept": "text/event-stream"}
    if last_id is not None:
        headers["Last-Event-ID"] = last_id
    async with (
        httpx.AsyncClient(timeout=PATIENCE, verify=verify, trust_env=False) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        assert response.status_code == 200, await response.aread()
        stream = Stream(response)
        try:
            yield stream
        finally:
            await stream.aclose()


@asynccontextmanager
async def calling(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client for requests that are answered."""
    async with httpx.AsyncClient(
        base_url=url, timeout=PATIENCE, verify=NO_TLS, trust_env=False
    ) as client:
        yield client


async def ready(client: httpx.AsyncClient) -> None:
    """Returns once the server says so."""
    async with asyncio.timeout(PATIENCE):
        while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


class Raw:
    """A connection on which anything can be sent; what comes back is collected unread."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.received = bytearray()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read_until(self, part: bytes) -> bytes:
        """All bytes so far, once this part is among them."""
        async with asyncio.timeout(PATIENCE):
            while part not in self.received:
                data = await self.reader.read(65536)
                assert data, f"ended before {part!r}: {bytes(self.received)!r}"
                self.received += data
        return bytes(self.received)

    async def read_to_end(self) -> bytes:
        """All bytes, once the server has closed the connection."""
        async with asyncio.timeout(PATIENCE):
            while data := await self.reader.read(65536):
                self.received += data
        return bytes(self.received)

    def reset(self) -> None:
        """Goes without a word: an RST instead of a FIN."""
        self.writer.transport.abort()


@asynccontextmanager
async def connected(
    port: int, *, receive_buffer: int | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Raw]:
    """A connection; `receive_buffer` bytes (None: as many as the kernel likes) wait unread."""
    sock = socket.socket()
    sock.setblocking(False)
    limit = 65536
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        limit = receive_buffer
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    name = "localhost" if tls else None
    reader, writer = await asyncio.open_connection(
        sock=sock, limit=limit, ssl=tls, server_hostname=name
    )
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


def get(path: str, *, version: str = "1.1", headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a GET request."""
    lines = [f"GET {path} HTTP/{version}", "Host: shop"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode()
