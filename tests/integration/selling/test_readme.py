"""What the README says a shop's own backend can do, it can."""

import re
from pathlib import Path

from tests.support.shop import Connection, Quantities, row

README = Path(__file__).parents[3] / "README.md"


async def test_the_readmes_sql_sells_inside_a_transaction_of_the_shops_own(
    shop: Connection, quantities: Quantities
) -> None:
    await shop.execute(
        "insert into products (id, name, base_price, max_quantity) values"
        " ('Unit-8x8x8', 'Unit', 1, 5), ('Set-Starter', 'Set', 1, 1);"
        "insert into variants (id, product_id, variant_value, max_quantity)"
        " values ('Unit-8x8x8-oak', 'Unit-8x8x8', 'Oak', 5)"
    )
    block = re.search(r"```sql\n(begin;.*?commit;)\n```", README.read_text(), re.DOTALL)
    assert block is not None
    user = await shop.fetchval("select session_user")
    await shop.execute(block[1].replace("commit;", "rollback;"))
    assert await quantities("Unit-8x8x8") == (0, 0)
    await shop.execute(block[1])
    assert await quantities("Unit-8x8x8") == (0, 2)
    assert await quantities("Set-Starter") == (1, 0)
    assert await row(
        shop,
        "select array_agg(operation order by id), array_agg(distinct actor) from inventory_log"
        " where product_id like 'Unit-%' or product_id like 'Set-%' and operation <> 'insert'",
    ) == (
        ["insert", "insert", "reserve", "reserve", "sale", "adjust", "adjust"],
        sorted([user, "till 4"]),
    )
    # What the functions say of themselves does not stay for the transaction's other statements.
    async with shop.transaction():
        await shop.execute("select adjust_stock('lamp', null, 1, 'count', actor => 'anna')")
        await shop.execute("update products set base_price = 1 where id = 'lamp'")
    assert await row(
        shop, "select operation, reason, actor from inventory_log order by id desc limit 1"
    ) == ("update", None, user)
