"""The sample catalogue: what a shop would check of it."""

from importlib.resources import files
from typing import Any, TypeAlias

import asyncpg
import pytest

from stream_server.database.pool import Pool
from stream_server.inventory.imports.models import ImportRequest
from stream_server.inventory.imports.run import import_catalogue

Connection: TypeAlias = "asyncpg.Connection[Any]"

# As written in A, "Verify Phase 2.4.5 completion"; but others may have a table of this name, too.
COLUMNS = """
SELECT column_name, data_type
FROM information_schema.columns
WHERE table_name = 'products' AND table_schema = current_schema()
  AND column_name IN ('max_quantity', 'sold_quantity', 'available_quantity', 'is_available');
"""
FOUNDER = """
SELECT id, name, max_quantity, sold_quantity, available_quantity, is_available
FROM products
WHERE id = 'Unit-8x8x8-Founder';
"""
UNLIMITED = """
SELECT id, name, max_quantity, sold_quantity, available_quantity, is_available
FROM products
WHERE id = 'Material-8x8-V';
"""


@pytest.fixture(autouse=True)
async def catalogue(database_url: str) -> None:
    data = files("stream_server.sample").joinpath("catalogue.json").read_bytes()
    async with Pool(database_url) as pool:
        await import_catalogue(pool, data, ImportRequest(actor="demo", reason="sample catalogue"))


async def test_the_four_columns_of_stock_are_there(connection: Connection) -> None:
    assert len(await connection.fetch(COLUMNS)) == 4


async def test_the_founder_edition_is_limited_to_a_thousand(connection: Connection) -> None:
    [row] = await connection.fetch(FOUNDER)
    assert tuple(row)[2:] == (1000, 0, 1000, True)


async def test_a_material_is_unlimited(connection: Connection) -> None:
    [row] = await connection.fetch(UNLIMITED)
    assert tuple(row)[2:] == (None, 0, None, True)


async def test_products_agree_with_their_variants(connection: Connection) -> None:
    """One sale changes both rows, so both have sold the same, and neither has more to sell."""
    rows = await connection.fetch(
        "select p.id from products p join variants v on v.product_id = p.id group by p.id"
        " having p.sold_quantity <> sum(v.sold_quantity)"
        " or (count(v.max_quantity) = count(*)"
        " and p.max_quantity is distinct from sum(v.max_quantity))"
    )
    assert rows == []
    assert await connection.fetchval("select count(*) from products where has_variants") > 5


async def test_it_shows_every_kind_of_stock(connection: Connection) -> None:
    row = await connection.fetchrow(
        "select count(*) as products,"
        " count(*) filter (where available_quantity is null) as unlimited,"
        " count(*) filter (where available_quantity between 1 and low_stock_threshold) as low,"
        " count(*) filter (where available_quantity = 0) as sold_out,"
        " count(*) filter (where status = 'discontinued') as discontinued,"
        " count(distinct category) as categories,"
        " min(length(description)) as shortest"
        " from products"
    )
    assert row is not None
    assert 20 <= row["products"] <= 30
    assert min(row["unlimited"], row["low"], row["sold_out"], row["discontinued"]) >= 1
    assert row["categories"] >= 4
    assert row["shortest"] > 50
