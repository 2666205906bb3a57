"""The import of a catalogue file into the database: the whole file, or nothing.

    read    a thread reads and checks row by row; COPY into temporary tables; the longest row
            bounds the memory, not the size of the file
    lock    one import at a time; products, then variants, each in the order of ids
    merge   the file's values win over existing rows, and those over defaults
    check   the rules that need the database: repeated ids, units sold and reserved
    write   new and changed rows, in four statements for any number of rows

All of this is one transaction. A field that is absent from the file keeps its value in the
database, so a file without `soldQuantity` never changes the sold units. Rows that do not differ are
not written: importing the same file again only adds a record.
"""

import asyncio
import hashlib
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from io import SEEK_END, BytesIO
from itertools import islice
from typing import BinaryIO, Final, cast

from stream_server.database.pool import AnyPool
from stream_server.database.queries import query
from stream_server.database.transactions import Row, Transaction
from stream_server.errors import ImportRejected, RejectedRow, TransactionConflict
from stream_server.inventory.imports import fields
from stream_server.inventory.imports.fields import Checked, Mistake, camel
from stream_server.inventory.imports.looks import find_invisible, is_plain, skeleton
from stream_server.inventory.imports.models import Entry, ImportRequest, ImportResult, Value
from stream_server.inventory.imports.record import ImportRecord, Progress
from stream_server.inventory.imports.text import Unreadable

__all__ = ["FORMATS", "Progress", "import_catalogue"]

Reader = Callable[[BinaryIO], Iterator[tuple[fields.FileRow, Checked]]]

FORMATS: Final[Mapping[str, Reader]] = {"json": fields.read_json, "csv": fields.read_csv}

TURN: Final = int.from_bytes(b"imports")  # the advisory lock that admits one import at a time
ROWS_BATCH: Final = 1000
LOOKS_BATCH: Final = 10_000
MAX_KEPT_MISTAKES: Final = 10_000  # further mistakes are only counted
ATTEMPTS: Final = 5
MAX_SECONDS: Final = 3600.0  # for one statement on all rows, or for another import to end
LOCK_SECONDS: Final = 60.0  # to wait for a row that another transaction has locked

PRODUCT_COLUMNS: Final = tuple(fields.PRODUCT_FIELDS)
VARIANT_COLUMNS: Final = tuple(fields.VARIANT_FIELDS)
# Columns that may be null in the file. The staged row tells whether the file gives them.
NULLABLE_OF_PRODUCTS: Final = ("max_quantity", "max_per_order")
NULLABLE_OF_VARIANTS: Final = ("max_quantity", "price")


async def import_catalogue(
    pool: AnyPool,
    file: BinaryIO | bytes,
    request: ImportRequest,
    *,
    progress: Callable[[Progress], None] | None = None,
    turn: AbstractAsyncContextManager[object] | None = None,
) -> ImportResult:
    """Adds or changes the products and variants of a file in one transaction.

    Rows that the file does not name stay unchanged. The rows that it names stay locked until the
    import commits. A dry run does everything except writing. `progress` is called about twice a
    second. The import holds a connection of the pool from the moment `turn` is acquired until it
    ends.

    Raises ImportRejected, which names every wrong row, DatabaseUnavailable and TransactionConflict.
    After an error, nothing has changed.
    """
    with tempfile.TemporaryFile() as spool:
        source = await asyncio.to_thread(_seekable, file, spool)
        sha256, size = await asyncio.to_thread(_digest, source)
        record = await ImportRecord.begin(pool, request, sha256=sha256, size=size)
        work = _Import(source, FORMATS[request.format_name], record, request)
        try:
            async with record.reported(progress), turn or nullcontext():
                try:
                    return await pool.run(work.run)
                except _Undone as done:
                    imported = done.imported
            await record.complete(pool, created=imported.added, updated=imported.changed)
            return imported
        except ImportRejected as error:
            await record.reject(error)
            raise ImportRejected(error.rows, error.count, record.id) from None
        except BaseException as error:
            await record.fail(f"The import failed: {error or type(error).__name__}")
            raise


class _Undone(Exception):
    """The end of a dry run, which rolls its transaction back."""

    def __init__(self, imported: ImportResult) -> None:
        super().__init__()
        self.imported = imported


@dataclass(slots=True)
class _Mistakes:
    """The first mistakes, and the number of all."""

    rows: list[RejectedRow] = field(default_factory=list)
    count: int = 0

    def add(self, line: int, column: int, reason: str, id_: str | None = None) -> None:
        self.count += 1
        if len(self.rows) < MAX_KEPT_MISTAKES:
            self.rows.append(RejectedRow(line, column, reason, id_))

    def add_of(self, row: fields.FileRow, mistake: Mistake) -> None:
        if len(self.rows) < MAX_KEPT_MISTAKES:
            name = row.name(mistake.path)
            reason = f"{name}: {mistake.reason}" if name else mistake.reason
            self.add(*row.place(mistake.path), reason, mistake.id)
        else:
            self.count += 1

    def rejection(self) -> ImportRejected:
        rows = sorted(self.rows, key=lambda row: (row.line or 0, row.column or 0))
        return ImportRejected(rows, self.count)


@dataclass(slots=True)
class _Staged:
    """Some rows of a file, ready for COPY."""

    products: list[Sequence[object]] = field(default_factory=list)
    variants: list[Sequence[object]] = field(default_factory=list)
    looks: list[Sequence[object]] = field(default_factory=list)

    def add(self, row: fields.FileRow, checked: Checked) -> None:
        """Adds the entries of a row, even wrong ones if their id is known: the id may be a
        duplicate."""
        for product in checked.products:
            if "id" in product.values:
                self.products.append(
                    (row.index, *_values(product, PRODUCT_COLUMNS, NULLABLE_OF_PRODUCTS))
                )
                self.look(product.id, is_variant=False)
        for part, (product_id, variant) in enumerate(checked.variants):
            if "id" in variant.values:
                values = _values(variant, VARIANT_COLUMNS, NULLABLE_OF_VARIANTS)
                self.variants.append((row.index, part, product_id, *values))
                self.look(variant.id, is_variant=True)

    def look(self, id_: str, *, is_variant: bool) -> None:
        if not is_plain(id_):
            self.looks.append((is_variant, id_, skeleton(id_), find_invisible(id_)))


def _values(entry: Entry, columns: Sequence[str], nullable: Sequence[str]) -> Iterator[Value]:
    yield from (entry.values.get(column) for column in columns)
    yield from (column in entry.values for column in nullable)


@dataclass(slots=True)
class _Import:
    """One import with its transaction."""

    file: BinaryIO
    reader: Reader
    record: ImportRecord
    request: ImportRequest
    products: int = 0
    variants: int = 0

    async def run(self, connection: Transaction) -> ImportResult:
        """Runs the import. Raises _Undone after a dry run, and ImportRejected."""
        await connection.wait_longer(statement=MAX_SECONDS, lock=MAX_SECONDS)
        await self.record.hold(connection)
        await connection.execute(
            "select set_config('stream_server.operation', 'import', true),"
            " set_config('stream_server.actor', :actor, true),"
            " set_config('stream_server.reason', :reason, true),"
            " set_config('stream_server.batch_id', :batch, true)",
            {
                "actor": self.request.actor,
                "reason": self.request.reason,
                "batch": str(self.record.id),
            },
        )
        mistakes = await self._stage(connection)
        self.record.progress.phase = "checking"
        if mistakes.count or self.request.dry_run:
            imported = await self._merge(connection, mistakes)
            raise _Undone(imported)
        rng = random.Random()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with connection.savepoint():
                    await connection.run_query("select pg_advisory_xact_lock($1::bigint)", TURN)
                    await connection.wait_longer(statement=MAX_SECONDS, lock=LOCK_SECONDS)
                    await connection.run_script(query("imports/lock"))
                    imported = await self._merge(connection, mistakes)
                    self.record.progress.phase = "writing"
                    await connection.run_script(query("imports/write"))
                break
            except TransactionConflict:
                if attempt == ATTEMPTS:
                    raise
                await connection.wait_longer(statement=MAX_SECONDS, lock=MAX_SECONDS)
                await asyncio.sleep(rng.uniform(0, 0.05 * 2**attempt))
        await self.record.complete(connection, created=imported.added, updated=imported.changed)
        return imported

    async def _stage(self, connection: Transaction) -> _Mistakes:
        """Stages the file's rows up to its end, or up to the first unreadable place."""
        await connection.run_script(query("imports/stage"))
        self.file.seek(0)
        rows = self.reader(self.file)
        mistakes = _Mistakes()
        while (staged := await asyncio.to_thread(self._take, rows, mistakes)) is not None:
            for table, columns, taken in (
                ("staged_products", STAGED_PRODUCTS, staged.products),
                ("staged_variants", STAGED_VARIANTS, staged.variants),
                ("staged_looks", STAGED_LOOKS, staged.looks),
            ):
                if taken:
                    await connection.copy_rows(table, columns, taken)
            self.record.progress.rows = self.products + self.variants
            self.record.progress.bytes_read = self.file.tell()
        await connection.run_script("analyze pg_temp.staged_products, pg_temp.staged_variants")
        return mistakes

    def _take(
        self, rows: Iterator[tuple[fields.FileRow, Checked]], mistakes: _Mistakes
    ) -> _Staged | None:
        """Returns the next rows, None after the last. It runs in a thread, because it blocks."""
        staged, taken = _Staged(), 0
        try:
            for row, checked in islice(rows, ROWS_BATCH):
                taken += 1
                staged.add(row, checked)
                for mistake in checked.mistakes:
                    mistakes.add_of(row, mistake)
                self.products += len(checked.products)
                self.variants += len(checked.variants)
        except Unreadable as error:
            mistakes.add(error.line, error.column, error.reason)
        return staged if taken else None

    async def _merge(self, connection: Transaction, mistakes: _Mistakes) -> ImportResult:
        """Merges the staged rows with the database's and checks the result.

        Raises ImportRejected with the earlier mistakes and those found now.
        """
        await connection.run_script(query("imports/merge"))
        await self._look_around(connection)
        found = await connection.run_query(query("imports/mistakes"), MAX_KEPT_MISTAKES)
        if found:
            await asyncio.to_thread(self._locate, found, mistakes)
        if mistakes.count:
            raise mistakes.rejection()
        [counts] = await connection.run_query(COUNTS)
        return ImportResult(
            products=self.products,
            variants=self.variants,
            added=counts["added"],
            changed=counts["changed"],
            import_id=self.record.id,
        )

    async def _look_around(self, connection: Transaction) -> None:
        """Stages the appearance of ids in the database, if the file adds new ids."""
        for table, is_variant in (("products", False), ("variants", True)):
            last = ""
            while ids := await connection.run_query(
                LOOKS_QUERY.format(table=table), last, LOOKS_BATCH
            ):
                seen, last = _Staged(), ids[-1]["id"]
                for row in ids:
                    seen.look(row["id"], is_variant=is_variant)
                await connection.copy_rows("staged_looks", STAGED_LOOKS, seen.looks)
        await connection.run_script("analyze pg_temp.staged_looks")

    def _locate(self, found: Sequence[Row], mistakes: _Mistakes) -> None:
        """Reads the file again to find the places of the mistakes that the database found."""
        wanted = {mistake["row"] for mistake in found}
        others = {mistake["other_row"] for mistake in found} - {None}
        last = max(wanted | others)
        references: dict[tuple[int, int | None], str] = {}
        by_row: dict[int, list[Row]] = {}
        for mistake in found:
            by_row.setdefault(mistake["row"], []).append(mistake)
        self.file.seek(0)
        for row, checked in self.reader(self.file):
            if row.index in others:
                for part, entry in _parts(checked):
                    references[row.index, part] = row.reference(entry.path)
            for mistake in by_row.get(row.index, ()):
                entry = dict(_parts(checked))[mistake["part"]]
                other = references.get((mistake["other_row"], mistake["other_part"]), "")
                column = mistake["column_name"]
                if column in entry.keys and column not in entry.values:
                    continue  # the field is given but wrong: reported before
                key = entry.keys.get(column, camel(column))
                reason = _reason(mistake, other)
                mistakes.add_of(row, Mistake((*entry.path, key), reason, mistake["id"]))
            if row.index == last:
                break
        mistakes.count += found[0]["all_of_them"] - len(found)


def _parts(checked: Checked) -> Iterator[tuple[int | None, Entry]]:
    yield from ((None, product) for product in checked.products)
    yield from ((part, variant) for part, (_, variant) in enumerate(checked.variants))


def _reason(mistake: Row, other: str) -> str:
    """Returns the words for a mistake that the database found."""
    bound, sold, reserved = mistake["bound"], mistake["sold"], mistake["reserved"]
    match mistake["kind"], mistake["column_name"]:
        case "missing", _:
            return "missing (the row is new)"
        case "repeated", _:
            kind = "product" if mistake["part"] is None else "variant"
            return f"expected a unique id, got the id of the {kind} {other}"
        case "unseen", _:
            return f"expected visible characters, got {mistake['other']}"
        case "lookalike", _:
            whose = f"{mistake['other']!a} ({other or 'in the database'})"
            return f"expected an id that does not look like {whose}, got {mistake['id']!a}"
        case "moved", _:
            return f"expected a unique id, got the id of a variant of {mistake['other']!r}"
        case "unknown_product", _:
            return (
                f"expected the id of a product, got {mistake['other']!r},"
                " which is neither in the file nor in the database"
            )
        case "undersold", _:
            return f"expected at least {bound} (sold to orders), got {sold}"
        case "unequal", _ if mistake["part"] is None:
            return f"expected at least {bound} (sold of its variants), got {sold}"
        case "unequal", _:
            rest = f"units sold of the product {mistake['other']!r} without its other variants"
            return f"expected at most {bound} ({rest}), got {sold}"
        case "below_sales", _:
            taken = f"{reserved} units of the product {mistake['other']!r} are sold or reserved"
            return f"expected at least {bound} ({taken}), got {sold}"
        case _, "max_quantity":
            reason = f"expected at least {sold + reserved} ({sold} sold, {reserved} reserved)"
            return f"{reason}, got {bound}"
        case _:
            reason = f"expected at most {bound - reserved} ({reserved} of {bound} are reserved)"
            return f"{reason}, got {sold}"


STAGED_PRODUCTS: Final = (
    "row",
    *PRODUCT_COLUMNS,
    *(f"{column}_given" for column in NULLABLE_OF_PRODUCTS),
)
STAGED_VARIANTS: Final = (
    "row",
    "part",
    "product_id",
    *VARIANT_COLUMNS,
    *(f"{column}_given" for column in NULLABLE_OF_VARIANTS),
)
STAGED_LOOKS: Final = ("is_variant", "id", "skeleton", "unseen")
# Existing ids that may not be plain, if the file adds new ids.
LOOKS_QUERY: Final = """
select id
  from {table}
 where id > $1 and (octet_length(id) <> length(id) or position('  ' in id) > 0)
   and exists (select from pg_temp.merged_{table} where is_new)
 order by id
 limit $2
"""
COUNTS: Final = """
select count(*) filter (where is_new) as added, count(*) filter (where differs) as changed
  from (select is_new, differs from pg_temp.merged_products
        union all select is_new, differs from pg_temp.merged_variants) merged
"""


def _seekable(file: BinaryIO | bytes, spool: BinaryIO) -> BinaryIO:
    """Returns the file, or a seekable copy of it."""
    if isinstance(file, bytes):
        return BytesIO(file)
    if file.seekable():
        return file
    shutil.copyfileobj(file, spool)
    return spool


def _digest(file: BinaryIO) -> tuple[str, int]:
    """Returns SHA-256 and size of the file, and rewinds it."""
    file.seek(0)
    digest = hashlib.file_digest(cast(BytesIO, file), "sha256").hexdigest()
    size = file.seek(0, SEEK_END)
    file.seek(0)
    return digest, size
