"""Runs the examples as their READMEs say, but for ports and addresses."""

import asyncio
import os
import shlex
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
SERVER: Final = "http://127.0.0.1:8000"  # as the examples write it
PATIENCE: Final = 30.0  # seconds


def command(example: str, program: str) -> str:
    """The command in an example's README that begins with this program, or has it after `&&` or
    variables."""
    readme = (EXAMPLES / example / "README.md").read_text()
    commands = [line.strip() for line in readme.splitlines() if line.startswith("    ")]
    parts = [part for line in commands for part in line.split(" && ")]
    (found,) = [part[part.index(program) :] for part in parts if program in part]
    return found


def words(text: str, replaced: Mapping[str, str]) -> Sequence[str]:
    """A command's words, with some of its text replaced, all of which must be there."""
    for old, new in replaced.items():
        assert old in text, (old, text)
        text = text.replace(old, new)
    return shlex.split(text)


def copied(example: str, folder: Path, server: str) -> Path:
    """A copy of an example that reads from this server."""
    copy = folder / example
    shutil.copytree(EXAMPLES / example, copy, ignore=shutil.ignore_patterns("node_modules"))
    for path in copy.rglob("*"):
        if path.suffix in {".html", ".js"}:
            path.write_text(path.read_text().replace(SERVER, server))
    return copy


@asynccontextmanager
async def running(
    command: Sequence[str], log: Path, *, cwd: Path = EXAMPLES.parent, **variables: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program that runs as long as the block, with whatever it starts. What it says is in `log`.
    Python is the one that runs the tests."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,  # as in a terminal: esbuild ends with it
            stdout=output,
            stderr=output,
            cwd=cwd,
            env={**os.environ, "PATH": path, "NO_PROXY": "127.0.0.1", **variables},
            start_new_session=True,  # so that it and its children are ended together
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):  # the test may just have ended it
                os.killpg(process.pid, signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            await process.wait()


async def listens(process: asyncio.subprocess.Process, port: int) -> None:
    """Waits until the program takes connections."""
    async with asyncio.timeout(PATIENCE):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
    raise AssertionError("it has ended; what it said is in its log")
