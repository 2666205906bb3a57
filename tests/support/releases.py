"""The release before, as its users have it: its code, its commands as processes, its database."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest

BEFORE = "d454e7e"  # the last commit that knew no schema but public and no role but a superuser
PROGRAM = "from stream_server.cli import app; app()"
PATIENCE = 60.0  # seconds


def taken_from_history(folder: Path) -> Path:
    """The code of the release before, put there; skips the test where its history is missing."""
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed, so the release before cannot be had")
    done = subprocess.run(
        [git, "-C", str(Path(__file__).parents[2]), "archive", BEFORE, "stream_server", "sql"],
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"the commit {BEFORE} is not in this clone, so the release before is missing")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


@dataclass
class Running:
    """A command that runs. Its output is in `log`."""

    process: asyncio.subprocess.Process
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text()

    async def says(self, pattern: str) -> re.Match[str]:
        """Where its output has this first."""
        async with asyncio.timeout(PATIENCE):
            while (found := re.search(pattern, self.output)) is None:
                assert self.process.returncode is None, self.output
                await asyncio.sleep(0.02)
        return found

    async def stop(self) -> str:
        """Its whole output, once it has ended in order."""
        self.process.terminate()
        async with asyncio.timeout(PATIENCE):
            await self.process.wait()
        return self.output


@asynccontextmanager
async def running(
    *arguments: str, url: str, log: Path, code: Path | None = None, **variables: str
) -> AsyncIterator[Running]:
    """A command of the release whose code lies there; None: of this one. `variables` of the
    environment are named in lower case."""
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "PYTHONPATH": str(code or Path(__file__).parents[2]),
        **{name.upper(): value for name, value in variables.items()},
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", PROGRAM, *arguments,
            env=environment, cwd=log.parent, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        yield Running(process, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def migrated_by(code: Path | None, url: str, log: Path) -> tuple[int, str]:
    """Run `migrate` to its end; its exit code and its output."""
    async with running("migrate", url=url, log=log, code=code) as command:
        async with asyncio.timeout(PATIENCE):
            returned = await command.process.wait()
        return returned, command.output
