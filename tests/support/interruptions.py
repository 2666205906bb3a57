"""Ends what `migrate` does at one of its statements."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import asyncpg
import pytest

from stream_server.database.poolers import connect_for_session

Connection: TypeAlias = "asyncpg.Connection[Any]"
How: TypeAlias = Literal["terminated", "cancelled"]

CANCEL = "do $$ begin raise exception 'cancelled' using errcode = 'query_canceled'; end $$"


@dataclass
class Interruption:
    """`happened`: the statement was reached."""

    happened: bool = False
    statements: int = 0


@contextmanager
def interrupted(admin: Connection, at: int, how: How) -> Iterator[Interruption]:
    """Within it, the connection of `migrate` ends before its statement number `at` (from 1, BEGIN
    and COMMIT too), or the statement fails as a cancelled one does."""
    state = Interruption()
    migrators: list[Connection] = []

    async def noted(*arguments: Any, **options: Any) -> Connection:
        migrators.append(await connect_for_session(*arguments, **options))
        return migrators[-1]

    def broken(name: str) -> Any:
        original = getattr(asyncpg.Connection, name)

        async def method(self: Connection, query: str, *values: Any, **options: Any) -> Any:
            if self in migrators and not query.startswith("ROLLBACK"):
                state.statements += 1
                if state.statements == at:
                    state.happened = True
                    if how == "terminated":
                        await admin.fetchval(
                            "select pg_terminate_backend($1, 5000)", self.get_server_pid()
                        )
                    else:
                        await execute(self, CANCEL)
            return await original(self, query, *values, **options)

        return method

    execute = asyncpg.Connection.execute
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stream_server.database.migrations.connect_for_session", noted)
        for name in ("execute", "fetch", "fetchval"):
            patch.setattr(asyncpg.Connection, name, broken(name))
        yield state
