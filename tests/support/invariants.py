"""What must hold of a shop's database at any time, whoever has written to it and however."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[Any]"

STATE = ("max", "sold", "reserved", "available", "threshold", "price", "status", "name")

BROKEN_QUANTITIES = """
with held as (
    select l.product_id, l.variant_id, sum(l.quantity) as units
      from reservation_lines l join reservations r on r.id = l.reservation_id
     where r.status = 'active' group by 1, 2),
filled as (
    select l.product_id, l.variant_id, sum(l.filled_quantity) as units
      from order_lines l group by 1, 2)
select 'product' as kind, p.id, p.max_quantity, p.sold_quantity, p.reserved_quantity,
       (select coalesce(sum(units), 0) from held where product_id = p.id) as held,
       (select coalesce(sum(units), 0) from filled where product_id = p.id) as filled
  from products p
 where least(p.sold_quantity, p.reserved_quantity, p.available_quantity) < 0
    or p.reserved_quantity <> (select least(coalesce(sum(units), 0), 2147483647)
                                 from held where product_id = p.id)
    or p.sold_quantity < (select least(coalesce(sum(units), 0), 2147483647)
                            from filled where product_id = p.id)
    or p.sold_quantity < (select least(coalesce(sum(v.sold_quantity), 0), 2147483647)
                            from variants v where v.product_id = p.id)
union all
select 'variant', v.id, v.max_quantity, v.sold_quantity, v.reserved_quantity,
       (select coalesce(sum(units), 0) from held where variant_id = v.id),
       (select coalesce(sum(units), 0) from filled where variant_id = v.id)
  from variants v
 where least(v.sold_quantity, v.reserved_quantity, v.available_quantity) < 0
    or v.reserved_quantity <> (select least(coalesce(sum(units), 0), 2147483647)
                                 from held where variant_id = v.id)
    or v.sold_quantity < (select least(coalesce(sum(units), 0), 2147483647)
                            from filled where variant_id = v.id)
"""

ROWS = """
select id as product_id, null as variant_id, version, max_quantity as max, sold_quantity as sold,
       reserved_quantity as reserved, available_quantity as available,
       low_stock_threshold as threshold, base_price as price, status, name
  from products
union all
select product_id, id, version, max_quantity, sold_quantity, reserved_quantity, available_quantity,
       low_stock_threshold, price, status, variant_value
  from variants
"""


async def assert_consistent(connection: Connection) -> None:
    """Nothing is negative; what is reserved is what active reservations hold; what is sold is at
    least what orders were filled with, and of a product at least what is sold of its variants (up
    to the largest integer, which only unlimited stock can pass); and the log accounts for all of
    it."""
    broken = await connection.fetch(BROKEN_QUANTITIES)
    assert not broken, [dict(row) for row in broken]
    await assert_log_replays(connection)


async def assert_log_replays(connection: Connection) -> None:
    """The log, replayed from nothing, gives every row's state: each of its rows begins where the
    one before ended, a product's versions have no gap, and each has an actor."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        rows = {(row["product_id"], row["variant_id"]): row for row in await connection.fetch(ROWS)}
        log = await connection.fetch("select * from inventory_log order by product_id, version")
    replayed: dict[tuple[str, str | None], Mapping[str, Any]] = {}
    versions: dict[str, int] = defaultdict(int)
    for entry in log:
        key = (entry["product_id"], entry["variant_id"])
        versions[key[0]] += 1
        assert entry["version"] == versions[key[0]], f"a gap before {dict(entry)}"
        assert entry["actor"], dict(entry)
        before = {name: entry[f"{name}_before"] for name in STATE}
        known = replayed.get(key)
        assert before == (dict.fromkeys(STATE) if known is None else known), dict(entry)
        replayed[key] = {name: entry[f"{name}_after"] for name in STATE}
    assert replayed == {key: {name: row[name] for name in STATE} for key, row in rows.items()}
    for (product_id, variant_id), row in rows.items():
        if variant_id is None:
            assert row["version"] == versions[product_id]
