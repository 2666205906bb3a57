"""Roles for the tests of rights."""

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, urlsplit

import asyncpg

from stream_server.database.migrations import sql_folder
from tests.support.postgres import program
from tests.support.surroundings import PASSWORD, SCHEMA, opened

Connection: TypeAlias = "asyncpg.Connection[Any]"

PSQL = program("psql")


@dataclass
class Role:
    """A role that may sign in to one database."""

    name: str
    url: str
    connections: list[Connection] = field(default_factory=list)

    async def connect(self) -> Connection:
        self.connections.append(await opened(self.url))
        return self.connections[-1]

    async def unmake(self, superuser: Connection) -> None:
        for connection in self.connections:
            connection.terminate()
        await superuser.execute(f"drop owned by {self.name}; drop role {self.name}")


async def made(superuser: Connection, database_url: str, name: str) -> Role:
    """A new role, with no right but to sign in."""
    await superuser.execute(f"create role {name} login password '{PASSWORD}'")
    place = urlsplit(database_url)
    netloc = f"{name}:{quote(PASSWORD)}@{place.netloc.rpartition('@')[2]}"
    return Role(name, place._replace(netloc=netloc).geturl())


async def run_roles_sql(superuser: Connection) -> None:
    """`sql/roles.sql` by psql, as its heading says."""
    place = superuser._addr  # type: ignore[attr-defined]  # asyncpg has no public name for it
    host, port = (str(Path(place).parent), "5432") if isinstance(place, str) else place
    command = [PSQL, "--quiet", "--no-psqlrc", f"--host={host}", f"--port={port}"]
    process = await asyncio.create_subprocess_exec(
        *command,
        f"--username={await superuser.fetchval('select session_user')}",
        f"--dbname={await superuser.fetchval('select current_database()')}",
        f"--variable=schema={SCHEMA}",
        f"--file={sql_folder() / 'roles.sql'}",
        env={**os.environ, "PGPASSWORD": "unused"},
    )
    assert await process.wait() == 0
