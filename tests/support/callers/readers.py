"""python readers.py PROGRAM URL: one stream, read again after each end with the last id, and what
it shows as lines of JSON (told.py). PROGRAM: httpx-sse, aiohttp-sse-client2, curl, curl-http2."""

import asyncio
import json
import subprocess
import sys
import time

PAUSE = 0.2  # seconds


def tell(what: str, data: str = "null") -> None:
    sys.stdout.write(f'{{"n":0,"what":{json.dumps(what)},"data":{data}}}\n')
    sys.stdout.flush()


def with_httpx_sse(url: str) -> None:
    import httpx
    from httpx_sse import connect_sse

    last_id = ""
    while True:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            with (
                httpx.Client(timeout=None, trust_env=False) as client,  # noqa: S113  # pings are rare
                connect_sse(client, "GET", url, headers=headers) as source,
            ):
                for event in source.iter_sse():
                    last_id = event.id
                    tell(event.event, event.data)
        except httpx.TransportError:
            pass
        time.sleep(PAUSE)


async def with_aiohttp(url: str) -> None:
    import aiohttp
    from aiohttp_sse_client2.client import EventSource  # type: ignore[import-untyped]

    last_id = ""
    patience = aiohttp.ClientTimeout(total=None)
    while True:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            async with EventSource(url, headers=headers, timeout=patience) as source:
                async for event in source:
                    last_id = event.last_event_id or last_id
                    tell(event.type, event.data)
        except (ConnectionError, aiohttp.ClientError):
            pass
        await asyncio.sleep(PAUSE)


def with_curl(url: str, *options: str) -> None:
    last_id = ""
    while True:
        command = ["curl", "--silent", "--no-buffer", *options, url]
        if last_id:
            command += ["--header", f"Last-Event-ID: {last_id}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            name = data = ""
            for line in process.stdout:
                field, _, value = line.rstrip("\n").partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    data = value
                elif field == "id":
                    last_id = value
                elif not field and data:
                    tell(name, data)
                    name = data = ""
        time.sleep(PAUSE)


if __name__ == "__main__":
    match sys.argv[1:]:
        case "httpx-sse", url:
            with_httpx_sse(url)
        case "aiohttp-sse-client2", url:
            asyncio.run(with_aiohttp(url))
        case "curl", url:
            with_curl(url)
        case "curl-http2", url:
            with_curl(url, "--http2")
