"""Brings a catalogue file into the database: everything in it, or nothing.

    read    bytes of a format -> a document: rows, and the lines that they stand in
    check   document -> entries; all that can be wrong without asking the database
    merge   entries + the rows that exist, locked -> what each row shall be
    write   what is new or differs: products, then variants, each in the order of ids

A field that the file leaves out keeps its value in the database, so a file without `soldQuantity`
never touches what is sold. Where nothing differs nothing is written: importing a file again leaves
no trace.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from stream_server.database.pool import Pool, Queries, in_transaction
from stream_server.errors import TransactionConflict
from stream_server.inventory.entries import (
    PRODUCT_FIELDS,
    VARIANT_FIELDS,
    Document,
    Mistake,
    read_entries,
    rejected,
)
from stream_server.inventory.json_document import JSONDocument
from stream_server.inventory.models import Entry, Imported
from stream_server.inventory.rules import ACTIVE, LOW_STOCK_THRESHOLD

__all__ = ["FORMATS", "import_catalogue"]

Columns = Mapping[str, Any]  # a row; each column has its own type

FORMATS: Final[Mapping[str, Callable[[bytes], Document]]] = {"json": JSONDocument.parse}


async def import_catalogue(
    pool: Pool, data: bytes, *, format_name: str = "json", actor: str, reason: str
) -> Imported:
    """Add the products and variants of a file, or change them to what it says, in one transaction.

    Rows that the file does not name are left alone. `actor` and `reason` go into the log. The
    products and variants named stay locked until it commits; meeting a conflict, it tries again.

    Raises ImportRejected, which names every wrong row, DatabaseUnavailable and TransactionConflict;
    nothing has changed then.
    """
    document = FORMATS[format_name](data)
    entries = read_entries(document)

    async def work(connection: Queries) -> Imported:
        await connection.execute(
            "select set_config('stream_server.operation', 'import', true),"
            " set_config('stream_server.actor', :actor, true),"
            " set_config('stream_server.reason', :reason, true)",
            {"actor": actor, "reason": reason},
        )
        products = await _merge(connection, PRODUCTS, [(entry, entry.values) for entry in entries])
        variants = await _merge(
            connection,
            VARIANTS,
            [
                (variant, {**variant.values, "product_id": entry.id})
                for entry in entries
                for variant in entry.variants
            ],
        )
        if mistakes := [*products.mistakes, *variants.mistakes]:
            raise rejected(document, mistakes)
        for table, merged in ((PRODUCTS, products), (VARIANTS, variants)):
            await table.insert(connection, merged.added)
            await table.update(connection, merged.changed)
        return Imported(
            products=len(entries),
            variants=sum(len(entry.variants) for entry in entries),
            added=len(products.added) + len(variants.added),
            changed=len(products.changed) + len(variants.changed),
        )

    return await in_transaction(pool, work)


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    columns: Sequence[str]  # those that a file may give
    defaults: Columns  # of the columns that it may leave out

    async def locked(self, connection: Queries, ids: Iterable[str]) -> dict[str, Columns]:
        """The rows that exist, by id; locked in the order of ids against other writers."""
        rows = await connection.fetch_all(
            f"select {', '.join(self.columns)}, reserved_quantity from {self.name}"  # noqa: S608  # our own names
            " where id = any(cast(:ids as text[])) order by id for no key update",
            {"ids": sorted(ids)},
        )
        return {row["id"]: row for row in rows}

    async def insert(self, connection: Queries, rows: Sequence[Columns]) -> None:
        """Raises TransactionConflict if another transaction has just added one of them."""
        if not rows:
            return
        columns = ", ".join(self.columns)
        inserted = await connection.fetch_all(
            f"insert into {self.name} ({columns}) select {columns}"  # noqa: S608  # our own names
            f" from jsonb_populate_recordset(cast(null as {self.name}), cast(:rows as jsonb))"
            " order by id on conflict (id) do nothing returning id",
            {"rows": json.dumps(rows)},
        )
        if len(inserted) != len(rows):
            raise TransactionConflict

    async def update(self, connection: Queries, rows: Sequence[Columns]) -> None:
        if not rows:
            return
        settings = ", ".join(f"{column} = new.{column}" for column in self.columns)
        await connection.execute(
            f"update {self.name} as old set {settings}"  # noqa: S608  # our own names
            f" from jsonb_populate_recordset(cast(null as {self.name}), cast(:rows as jsonb)) new"
            " where old.id = new.id",
            {"rows": json.dumps(rows)},
        )


DEFAULTS: Final[Columns] = {
    "status": ACTIVE,
    "max_quantity": None,
    "sold_quantity": 0,
    "reserved_quantity": 0,
    "low_stock_threshold": LOW_STOCK_THRESHOLD,
}
PRODUCTS: Final = _Table(
    "products",
    tuple(PRODUCT_FIELDS),
    {
        **DEFAULTS,
        "description": "",
        "category": "",
        "requires_assembly": False,
        "max_per_order": None,
    },
)
VARIANTS: Final = _Table(
    "variants", ("product_id", *VARIANT_FIELDS), {**DEFAULTS, "sku": "", "price": None}
)


@dataclass(frozen=True, slots=True)
class _Merged:
    added: Sequence[Columns]
    changed: Sequence[Columns]
    mistakes: Sequence[Mistake]


async def _merge(
    connection: Queries, table: _Table, given: Sequence[tuple[Entry, Columns]]
) -> _Merged:
    """Lock the rows that exist and lay what is given over them, or over the defaults."""
    existing = await table.locked(connection, (entry.id for entry, _ in given))
    added: list[Columns] = []
    changed: list[Columns] = []
    mistakes: list[Mistake] = []
    for entry, values in given:
        old = existing.get(entry.id)
        new = {**(old or table.defaults), **values}
        mistakes += _impossible(entry, old, new)
        if old is None:
            added.append(new)
        elif new != old:
            changed.append(new)
    return _Merged(added, changed, mistakes)


def _impossible(entry: Entry, old: Columns | None, new: Columns) -> Iterator[Mistake]:
    """What the database would refuse (its invariant 1), in words that name the row."""
    if old is not None and old.get("product_id") != new.get("product_id"):
        reason = f"expected an id of its own, got a variant of {old['product_id']!r}"
        yield Mistake((*entry.path, entry.keys["id"]), reason, entry.id)
    most, sold, reserved = new["max_quantity"], new["sold_quantity"], new["reserved_quantity"]
    if most is not None and sold + reserved > most:
        if (key := entry.keys.get("max_quantity")) is not None:
            reason = f"expected at least {sold + reserved} ({sold} sold, {reserved} reserved)"
            yield Mistake((*entry.path, key), f"{reason}, got {most}", entry.id)
        else:
            key = entry.keys["sold_quantity"]
            reason = f"expected at most {most - reserved} (of {most}, {reserved} are reserved)"
            yield Mistake((*entry.path, key), f"{reason}, got {sold}", entry.id)
