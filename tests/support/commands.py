"""The command, run as a process."""

import asyncio
import os
import re
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
import pytest

COMMAND = [sys.executable, "-m", "stream_server.cli"]


def environment(database_url: str) -> dict[str, str]:
    return {**os.environ, "DATABASE_URL": database_url, "USER": "tester"}


async def run(
    *arguments: str, database_url: str = "", stdin: bytes | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; no traceback is ever right."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        env=environment(database_url),
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(stdin), timeout=60)
    assert b"Traceback" not in err, err.decode()
    assert process.returncode is not None
    return subprocess.CompletedProcess([*arguments], process.returncode, out.decode(), err.decode())


@contextmanager
def serving(
    *arguments: str, database_url: str = "", **variables: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`serve` on a free port, and its URL as the log tells it; ended with the block. `variables` of
    the environment are named in lower case."""
    settings = {name.upper(): value for name, value in variables.items()}
    with subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", *arguments],
        env=environment(database_url) | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if found := re.search(r"Serving on (http://\S+)", line):
                    yield process, found[1]
                    break
            else:
                pytest.fail("it ended without serving")
        finally:
            process.kill()


async def status(url: str, expected: int) -> httpx.Response:
    """Ask until the answer has the expected status."""
    async with asyncio.timeout(30), httpx.AsyncClient() as client:
        while True:
            try:
                response = await client.get(url)
            except httpx.TransportError:
                continue
            if response.status_code == expected:
                return response
            await asyncio.sleep(0.05)


@asynccontextmanager
async def working(database_url: str, **variables: str) -> AsyncIterator[Process]:
    """The command `worker`, as a process."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        "worker",
        env={**environment(database_url), **variables},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        _, err = await process.communicate()
        sys.stderr.write(err.decode())  # shown with a test that fails
