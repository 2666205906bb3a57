"""A Postgres of the benchmarks' own, with the default settings (fsync is on), and who writes to it.

Products are "p0", "p1", …; their numbers have as many digits at the end as at the beginning, so
that the size of a frame does not change.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from bench.processes import BenchError, stop
from stream_server.database.embedded import EmbeddedPostgres
from stream_server.database.migrations import migrate

_PRODUCTS = """
set session_replication_role = replica;  -- no triggers: the log begins empty
insert into products (id, name, base_price, max_quantity, sold_quantity, version, published_at)
select 'p' || i, 'Product ' || i, 4900, 1000000000, 100000000, 1000000, now()
  from generate_series(0, {number} - 1) i;
set session_replication_role = default;
analyze products;
"""
_XIDS = """
do $$ begin
    while pg_current_xact_id() < '20000'::xid8 loop commit; end loop;
end $$
"""
SALE = "update products set sold_quantity = sold_quantity + 1 where id = 'p' || {product}"


@dataclass(frozen=True, slots=True)
class Written:
    """What pgbench did."""

    transactions: int
    per_second: float


class Writer:
    """pgbench, at work."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self._process = process
        self._seconds = seconds

    def result(self) -> Written:
        """Waits for its end. Raises BenchError if it failed."""
        try:
            output, _ = self._process.communicate(timeout=self._seconds + 20)
        except subprocess.TimeoutExpired:
            raise BenchError("pgbench does not end") from None
        text = output.decode(errors="replace")
        number = re.search(r"actually processed: (\d+)", text)
        rate = re.search(r"tps = ([\d.]+) \(without initial", text)
        if number is None or rate is None:
            raise BenchError(f"pgbench failed:\n{text[-1000:]}")
        return Written(int(number[1]), float(rate[1]))


class Database:
    """A migrated database, with a connection as any client has it."""

    def __init__(self, server: EmbeddedPostgres, name: str, folder: Path) -> None:
        self._server = server
        self._name = name
        self._folder = folder
        self.url = server.url_of(name)
        self._runner = asyncio.Runner()
        asyncio.run(_execute(server.url, f'create database "{name}"'))
        asyncio.run(migrate(self.url))
        self._connection: asyncpg.Connection[Any] = self._runner.run(_connect(self.url))

    def close(self) -> None:
        self._runner.run(self._connection.close(timeout=5))
        self._runner.close()
        asyncio.run(_execute(self._server.url, f'drop database "{self._name}" with (force)'))

    def execute(self, statement: str) -> None:
        self._runner.run(self._connection.execute(statement, timeout=120))

    def number(self, query: str) -> int:
        return int(self._runner.run(self._connection.fetchval(query, timeout=60)))

    def numbers(self, query: str) -> list[int]:
        """The first column of its rows."""
        rows = self._runner.run(self._connection.fetch(query, timeout=60))
        return [int(row[0]) for row in rows]

    def fill(self, products: int) -> None:
        """Products, and transaction numbers with as many digits for a while."""
        self.execute(_PRODUCTS.format(number=products))
        self.execute(_XIDS)

    def sell(self, product: int = 0) -> None:
        """One commit, of one unit of one product."""
        self.execute(SALE.format(product=product))

    def versions(self) -> int:
        """The sum of all products' versions."""
        return self.number("select sum(version) from products")

    @contextmanager
    def writer(
        self,
        product: str,
        seconds: float,
        *,
        clients: int = 4,
        per_second: float | None = None,
    ) -> Iterator[Writer]:
        """pgbench while the block runs: each transaction sells one unit of a product, whose number
        `product` gives as an expression of pgbench; as fast as it goes, or at this rate."""
        script = self._folder / "sale.sql"
        sale = SALE.format(product=":product::text")
        script.write_text(f"\\set product {product}\n{sale};\n")
        command = [
            str(self._server.binaries / "pgbench"),
            *("--no-vacuum", "--protocol=prepared", f"--file={script}"),
            *(f"--client={clients}", f"--jobs={min(2, clients)}", f"--time={seconds:.0f}"),
            *([f"--rate={per_second}"] if per_second else []),
            *(f"--host={self._server.socket_folder}", "--username=postgres", self._name),
        ]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield Writer(process, seconds)
        finally:
            stop(process)
            if process.stdout is not None:
                process.stdout.close()


async def _connect(url: str) -> asyncpg.Connection[Any]:
    return await asyncpg.connect(url, timeout=10)


async def _execute(url: str, statement: str) -> None:
    connection = await _connect(url)
    try:
        await connection.execute(statement, timeout=60)
    finally:
        await connection.close()
