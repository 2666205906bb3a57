"""What every group of benchmarks is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from bench.database import Database
from stream_server.database.embedded import EmbeddedPostgres


@dataclass(frozen=True, slots=True)
class Context:
    """`build` keeps compiled programs, `folder` is for this run; `quick` asks for few rounds."""

    postgres: EmbeddedPostgres
    build: Path
    folder: Path
    quick: bool
    _numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def database(self, products: int) -> Iterator[Database]:
        """A fresh one, with so many products."""
        database = Database(self.postgres, f"bench_{next(self._numbers)}", self.folder)
        try:
            if products:
                database.fill(products)
            yield database
        finally:
            database.close()

    def pick(self, full: int, quick: int) -> int:
        return quick if self.quick else full
