"""What an import costs: rows a second, against the bare INSERT of the same rows, and memory.

The command `stream-server import` runs as a process of its own. Its time is that of its batch, from
the first row read to the commit; the INSERT has the same triggers and log, and nothing to check.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.context import Context
from bench.database import Database
from bench.figures import Figure, against, at_least, at_most
from bench.processes import BenchError

INSERT = """
insert into products (id, name, description, category, base_price, max_quantity)
select 'bare' || i, 'Product ' || i, 'One cube, stacks. No tools.', 'Units', 4900, 500
  from generate_series(0, {rows} - 1) i
"""
SECONDS = "select (1000 * extract(epoch from finished_at - started_at))::bigint"
FEW = 1000


@dataclass(frozen=True, slots=True)
class Done:
    seconds: float
    megabytes: float  # the largest that the process was


def measure(context: Context) -> list[Figure]:
    rows = context.pick(100_000, 20_000)
    with context.database(0) as database:
        few = imported(database, written(context, FEW, products))
        new: list[float] = []
        again: list[float] = []
        bare: list[float] = []
        memory: list[float] = []
        file = written(context, rows, products)
        for _ in range(context.pick(3, 2)):
            clear(database)
            bare.append(rows / inserted(database, rows))
            clear(database)
            first, second = imported(database, file), imported(database, file)
            new.append(rows / first.seconds)
            again.append(rows / second.seconds)
            memory.append(max(first.megabytes, second.megabytes) - few.megabytes)
        clear(database)
        mixed = imported(database, written(context, rows, products_with_variants))
    return [
        against("import, new rows", "rows/s", new, "a bare INSERT", bare, at_least(0.3)),
        against("import, nothing differs", "rows/s", again, "a bare INSERT", bare),
        Figure("import, every other row a variant", rows / mixed.seconds, "rows/s"),
        Figure(f"memory, more than for {FEW:,} rows", max(memory), "MB", at_most(32)),
    ]


def products(number: int) -> str:
    return f"P{number};;Product {number};4900;;500;One cube, stacks. No tools.;Units\n"


def products_with_variants(number: int) -> str:
    if number % 2 == 0:
        return products(number)
    return f"P{number - 1};V{number};;;Oak;300;;\n"


def written(context: Context, rows: int, row: Callable[[int], str]) -> Path:
    file = context.folder / "products.csv"
    with file.open("w") as out:
        out.write(
            "productId;variantId;name;basePrice;variantValue;maxQuantity;description;category\n"
        )
        out.writelines(map(row, range(rows)))
    return file


def imported(database: Database, file: Path) -> Done:
    """Raises BenchError if the command fails."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "stream_server.cli", "import", str(file)],
            env={**os.environ, "DATABASE_URL": database.url, "USER": "bench"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            text = errors.read().decode(errors="replace")
            raise BenchError(f"the import ended with {process.returncode}:\n{text[-1000:]}")
    milliseconds = database.number(f"{SECONDS} from import_batches order by id desc limit 1")
    kilobytes = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return Done(milliseconds / 1000, kilobytes / 1024)


def inserted(database: Database, rows: int) -> float:
    """Seconds of the bare INSERT."""
    database.execute("create temporary table if not exists clock (at timestamptz)")
    database.execute("insert into clock values (clock_timestamp())")
    database.execute(INSERT.format(rows=rows))
    seconds = "select (1000 * extract(epoch from clock_timestamp() - max(at)))::bigint from clock"
    return database.number(seconds) / 1000


def clear(database: Database) -> None:
    """Nothing in the shop, whatever its triggers say."""
    database.execute(
        "set session_replication_role = replica;"
        "truncate products, variants, inventory_log, stock_alerts cascade;"
        "set session_replication_role = default;"
    )
