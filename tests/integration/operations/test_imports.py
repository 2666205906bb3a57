"""Catalogue files against a real Postgres: all of a file, or nothing of it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import asyncpg
import pytest

from stream_server.database.pool import Pool
from stream_server.errors import ImportRejected
from stream_server.inventory.imports.models import Imported, ImportRequest
from stream_server.inventory.imports.run import import_catalogue

Connection: TypeAlias = "asyncpg.Connection[Any]"

UNIT = {
    "id": "Unit-8x8x8",
    "name": "Unit 8×8×8",
    "description": "One cube.\nStacks.",
    "category": "Units",
    "basePrice": 4900,
    "status": "active",
    "requiresAssembly": True,
    "maxQuantity": 100,
    "soldQuantity": 3,
    "lowStockThreshold": 5,
    "maxPerOrder": 10,
    "variants": [
        {
            "id": "Unit-8x8x8-oak",
            "variantValue": "Oak",
            "sku": "U8-OAK",
            "price": 5900,
            "maxQuantity": 60,
            "soldQuantity": 3,
        },
        {"id": "Unit-8x8x8-white", "variantValue": "White", "maxQuantity": 40},
    ],
}
BRACKET = {"id": "Bracket", "name": "Bracket", "base_price": 250, "max_quantity": None}


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with Pool(database_url) as pool:
        yield pool


async def load(pool: Pool, content: object) -> Imported:
    """Import `content`: bytes as they are, anything else as indented JSON."""
    data = content if isinstance(content, bytes) else json.dumps(content, indent=2).encode()
    return await import_catalogue(pool, data, ImportRequest(actor="tester", reason="test"))


async def state(connection: Connection) -> list[list[Any]]:
    """Everything that an import can change."""
    return [
        await connection.fetch(f"select * from {table} order by id")
        for table in ("products", "variants", "inventory_log")
    ]


async def mistakes(pool: Pool, content: object) -> list[tuple[int | None, str]]:
    """Line and reason of each mistake."""
    with pytest.raises(ImportRejected) as raised:
        await load(pool, content)
    return [(row.line, row.reason) for row in raised.value.rows]


class TestGoodFiles:
    async def test_every_field_arrives(self, pool: Pool, connection: Connection) -> None:
        imported = await load(pool, [UNIT, BRACKET])

        assert imported == Imported(products=2, variants=2, added=4, changed=0)
        unit = await connection.fetchrow("select * from products where id = 'Unit-8x8x8'")
        assert unit is not None
        assert unit["name"] == "Unit 8×8×8"
        assert unit["description"] == "One cube.\nStacks."
        assert (unit["category"], unit["base_price"]) == ("Units", 4900)
        assert (unit["requires_assembly"], unit["has_variants"]) == (True, True)
        assert (unit["max_quantity"], unit["sold_quantity"]) == (100, 3)
        assert (unit["available_quantity"], unit["low_stock_threshold"]) == (97, 5)
        assert unit["max_per_order"] == 10
        oak = await connection.fetchrow("select * from variants where id = 'Unit-8x8x8-oak'")
        assert oak is not None
        assert (oak["product_id"], oak["variant_value"]) == ("Unit-8x8x8", "Oak")
        assert (oak["sku"], oak["price"], oak["available_quantity"]) == ("U8-OAK", 5900, 57)

    async def test_what_is_left_out_gets_the_default(
        self, pool: Pool, connection: Connection
    ) -> None:
        await load(pool, [{"id": "X", "name": "X", "basePrice": 0}])
        product = await connection.fetchrow("select * from products")
        assert product is not None
        assert (product["description"], product["category"]) == ("", "")
        assert (product["status"], product["requires_assembly"]) == ("active", False)
        assert (product["max_quantity"], product["sold_quantity"]) == (None, 0)
        assert (product["low_stock_threshold"], product["max_per_order"]) == (10, None)

    async def test_the_log_says_who_and_why(self, pool: Pool, connection: Connection) -> None:
        await load(pool, [UNIT])
        rows = await connection.fetch("select distinct actor, operation, reason from inventory_log")
        assert [tuple(row) for row in rows] == [("tester", "import", "test")]

    async def test_a_file_may_be_wrapped_or_begin_with_a_byte_order_mark(
        self, pool: Pool, connection: Connection
    ) -> None:
        await load(pool, {"products": [BRACKET]})
        await load(pool, b"\xef\xbb\xbf" + json.dumps([UNIT]).encode())
        assert await connection.fetchval("select count(*) from products") == 2

    async def test_an_empty_list_changes_nothing(self, pool: Pool) -> None:
        assert await load(pool, []) == Imported(products=0, variants=0, added=0, changed=0)

    async def test_importing_the_same_file_again_leaves_no_trace(
        self, pool: Pool, connection: Connection
    ) -> None:
        await load(pool, [UNIT, BRACKET])
        before = await state(connection)
        imported = await load(pool, [UNIT, BRACKET])
        assert (imported.added, imported.changed, imported.unchanged) == (0, 0, 4)
        assert await state(connection) == before

    async def test_only_what_differs_is_logged(self, pool: Pool, connection: Connection) -> None:
        await load(pool, [UNIT, BRACKET])
        last = await connection.fetchval("select max(id) from inventory_log")
        imported = await load(pool, [UNIT, BRACKET | {"base_price": 300}])
        assert (imported.added, imported.changed) == (0, 1)
        rows = await connection.fetch(
            "select product_id, price_after from inventory_log where id > $1", last
        )
        assert [tuple(row) for row in rows] == [("Bracket", 300)]

    async def test_what_is_sold_and_reserved_stays_unless_the_file_says_it(
        self, pool: Pool, connection: Connection
    ) -> None:
        await load(pool, [BRACKET | {"max_quantity": 50}])
        await connection.execute("update products set sold_quantity = 7, reserved_quantity = 2")
        await load(pool, [BRACKET | {"max_quantity": 60}])
        row = await connection.fetchrow(
            "select max_quantity, sold_quantity, reserved_quantity from products"
        )
        assert row is not None
        assert tuple(row) == (60, 7, 2)
        await load(pool, [BRACKET | {"max_quantity": 60, "sold_quantity": 8}])
        assert await connection.fetchval("select sold_quantity from products") == 8

    async def test_a_field_that_is_left_out_keeps_its_value(
        self, pool: Pool, connection: Connection
    ) -> None:
        await load(pool, [UNIT])
        await load(pool, [{"id": "Unit-8x8x8", "name": "Cube", "basePrice": 4900}])
        row = await connection.fetchrow("select name, category, max_quantity from products")
        assert row is not None
        assert tuple(row) == ("Cube", "Units", 100)
        assert await connection.fetchval("select count(*) from variants") == 2

    async def test_null_makes_a_limited_product_unlimited(
        self, pool: Pool, connection: Connection
    ) -> None:
        await load(pool, [UNIT])
        await load(pool, [UNIT | {"maxQuantity": None}])
        assert await connection.fetchval("select max_quantity from products") is None

    async def test_two_thousand_products_take_a_moment(
        self, pool: Pool, connection: Connection
    ) -> None:
        catalogue = [
            UNIT
            | {
                "id": f"P{number}",
                "variants": [
                    {"id": f"P{number}-{value}", "variantValue": value, "maxQuantity": 50}
                    for value in ("oak", "white")
                ],
            }
            for number in range(2_000)
        ]
        start = time.perf_counter()
        imported = await load(pool, catalogue)
        assert imported.added == 6_000
        assert await connection.fetchval("select count(*) from variants") == 4_000
        assert (await load(pool, catalogue)).unchanged == 6_000
        assert time.perf_counter() - start < 15


# What the one wrong row of a file is, and what is said about it.
WRONG_FIELDS: list[tuple[str, object, str]] = [
    ("id", "", "text of 1 to 200 characters, got ''"),
    ("id", "x" * 201, f"text of 1 to 200 characters, got '{'x' * 60}'… (201 characters)"),
    ("id", 7, "text of 1 to 200 characters, got 7"),
    ("id", "a\nb", "text without control characters or line breaks, got 'a\\nb'"),
    ("id", " a", "text without spaces around it, got ' a'"),
    ("name", "", "text of 1 to 500 characters, got ''"),
    ("name", "a\x00b", "text without control characters or line breaks, got 'a\\x00b'"),
    ("name", "a\u2028b", "text without control characters or line breaks, got 'a\\u2028b'"),
    ("name", None, "text of 1 to 500 characters, got null"),
    ("description", "\x1b[2J", "text without control characters, got '\\x1b[2J'"),
    ("description", ["a"], "text of 0 to 20000 characters, got a list"),
    ("category", {"a": 1}, "text of 0 to 200 characters, got an object"),
    ("basePrice", -1, "a whole number of cents, 0 to 2147483647, got -1"),
    ("basePrice", 2**31, "a whole number of cents, 0 to 2147483647, got 2147483648"),
    ("basePrice", 49.0, "a whole number of cents, 0 to 2147483647, got 49.0"),
    ("basePrice", "49", "a whole number of cents, 0 to 2147483647, got '49'"),
    ("basePrice", True, "a whole number of cents, 0 to 2147483647, got true"),
    ("basePrice", float("nan"), "a whole number of cents, 0 to 2147483647, got NaN"),
    ("basePrice", None, "a whole number of cents, 0 to 2147483647, got null"),
    ("status", "sold", "one of active, draft, discontinued, got 'sold'"),
    ("requiresAssembly", 1, "true or false, got 1"),
    (
        "maxQuantity",
        float("inf"),
        "a whole number of units, 0 to 2147483647, or null (unlimited), got Infinity",
    ),
    ("soldQuantity", None, "a whole number of units, 0 to 2147483647, got null"),
    (
        "maxPerOrder",
        0,
        "a whole number of units, 1 to 2147483647, or null (no limit), got 0",
    ),
    ("variants", {"a": 1}, "a list of variants, got an object"),
]


class TestBrokenFiles:
    """Each names what is wrong, and changes nothing."""

    @pytest.fixture(autouse=True)
    async def unchanged(self, pool: Pool, connection: Connection) -> AsyncIterator[None]:
        await load(pool, [BRACKET])
        before = await state(connection)
        yield
        assert await state(connection) == before

    @pytest.mark.parametrize(("key", "value", "reason"), WRONG_FIELDS)
    async def test_a_wrong_value_is_quoted_beside_what_was_expected(
        self, pool: Pool, key: str, value: object, reason: str
    ) -> None:
        good = BRACKET | {"name": "Changed"}
        bad = {"id": "New", "name": "New", "basePrice": 1} | {key: value}
        line = 9 + list(bad).index(key)  # behind the first row's six lines and the brackets
        rejections = await mistakes(pool, [good, bad])
        assert rejections == [(line, f"[1].{key}: expected {reason}")]

    async def test_each_bad_row_is_named_with_its_line_in_the_order_of_the_file(
        self, pool: Pool
    ) -> None:
        file = b"""{"products": [
            {"id": "A", "name": "A", "basePrice": 1},
            {"id": "B", "name": "B", "basePrise": 1, "colour": "red",
             "availableQuantity": 3},
            {"id": "A", "name": "A again", "basePrice": 1e3,
             "variants": [
                {"id": "V", "variantValue": "v"},
                {"id": "V", "variantValue": "v", "maxPerOrder": 1},
                7
             ]},
            "C",
            {"name": "D", "name": "d", "base_price": 1, "basePrice": 1}
        ]}"""
        assert await mistakes(pool, file) == [
            (3, "[1].basePrice: missing (the row is new)"),
            (3, "[1].basePrise: no such field; did you mean basePrice?"),
            (3, "[1].colour: no such field"),
            (4, "[1].availableQuantity: is computed here; leave it out"),
            (5, "[2].id: expected an id of its own, got that of the product [0]"),
            (5, "[2].basePrice: expected a whole number of cents, 0 to 2147483647, got 1e3"),
            (8, "[2].variants[1].id: expected an id of its own, got that of the variant"
                " [2].variants[0]"),
            (8, "[2].variants[1].maxPerOrder: no such field"),
            (9, "[2].variants[2]: expected an object with fields, got 7"),
            (11, "[3]: expected an object with fields, got 'C'"),
            (12, "[4].id: missing"),
            (12, "[4].name: given twice"),
            (12, "[4].basePrice: given twice"),
        ]  # fmt: skip

    async def test_a_bad_row_carries_its_id(self, pool: Pool) -> None:
        with pytest.raises(ImportRejected) as raised:
            await load(pool, [{"id": "A", "name": "A", "basePrice": None}])
        assert [row.id for row in raised.value.rows] == ["A"]

    @pytest.mark.parametrize(
        ("file", "line", "reason"),
        [
            (b"", 1, "expected JSON: "),
            (b'[\n {"id" "A"}\n]', 2, "expected JSON: "),
            (b"[]\n[]", 2, "expected JSON: "),
            (b'[\n {"id": "\xe4"}]', 2, "expected UTF-8, got byte 0xe4"),
            (b"\xff\xfe[\x00]\x00", 1, "expected UTF-8, got byte 0xff"),
            (b"[" * 100_000, 1, "expected JSON, got something nested too deeply"),
            (b"12", 1, 'expected a list of products, or {"products": a list of products}'),
            (
                b'\n{"products": {"id": 1}}',
                2,
                'expected a list of products, or {"products": a list of products}',
            ),
            (b"{}", 1, 'expected a list of products, or {"products": a list of products}'),
            (
                b'{"products": [],\n "version": 2}',
                2,
                "expected {\"products\": …} and nothing else, got 'version'",
            ),
            (
                b'[{"id": "A", "name": "A", "basePrice": ' + b"9" * 5_000 + b"}]",
                1,
                "[0].basePrice: expected a whole number of cents, 0 to 2147483647,"
                " got a number of 5000 characters",
            ),
        ],
    )
    async def test_a_file_that_is_no_catalogue_is_told_where(
        self, pool: Pool, file: bytes, line: int | None, reason: str
    ) -> None:
        [(found, told)] = await mistakes(pool, file)
        assert found == line
        assert told.startswith(reason)

    async def test_half_of_a_surrogate_pair_is_no_text(self, pool: Pool) -> None:
        file = rb'[{"id": "A", "name": "\ud83d", "basePrice": 1}]'
        [(_, reason)] = await mistakes(pool, file)
        assert reason.startswith("[0].name: expected text without control characters")

    async def test_a_limit_below_what_the_file_says_is_sold(self, pool: Pool) -> None:
        new = {"id": "A", "name": "A", "basePrice": 1, "maxQuantity": 3, "soldQuantity": 4}
        assert await mistakes(pool, [BRACKET | {"name": "Changed"}, new]) == [
            (12, "[1].maxQuantity: expected at least 4 (4 sold, 0 reserved), got 3")
        ]


class TestAgainstTheDatabase:
    async def test_a_limit_below_what_is_sold_and_reserved_is_named_and_nothing_changes(
        self, pool: Pool, connection: Connection
    ) -> None:
        await load(pool, [BRACKET | {"max_quantity": 20}])
        await connection.execute("update products set sold_quantity = 9, reserved_quantity = 3")
        before = await state(connection)

        with pytest.raises(ImportRejected) as raised:
            await load(pool, [UNIT, BRACKET | {"max_quantity": 11}])
        [row] = raised.value.rows
        assert row.id == "Bracket"
        assert row.reason == ("[1].max_quantity: expected at least 12 (9 sold, 3 reserved), got 11")

        too_many = {"id": "Bracket", "name": "Bracket", "base_price": 250, "soldQuantity": 18}
        with pytest.raises(ImportRejected) as raised:
            await load(pool, [UNIT, too_many])
        [row] = raised.value.rows
        assert row.reason == (
            "[1].soldQuantity: expected at most 17 (of 20, 3 are reserved), got 18"
        )
        assert await state(connection) == before

    async def test_what_orders_have_stays_sold(self, pool: Pool, connection: Connection) -> None:
        """Else it would be for sale again, and the order could not be cancelled any more."""
        await load(pool, [UNIT, BRACKET | {"max_quantity": 20}])
        oak = {"productId": "Unit-8x8x8", "variantId": "Unit-8x8x8-oak", "quantity": 2}
        order = await ordered(connection, {"productId": "Bracket", "quantity": 5}, oak)
        await ordered(connection, {"productId": "Bracket", "quantity": 2})
        before = await state(connection)

        file = [
            {"id": "Bracket", "soldQuantity": 6},
            {"id": "Unit-8x8x8", "variants": [{"id": "Unit-8x8x8-oak", "soldQuantity": 1}]},
        ]
        assert await mistakes(pool, file) == [
            (4, "[0].soldQuantity: expected at least 7 (sold to orders), got 6"),
            (
                11,
                "[1].variants[0].soldQuantity: expected at least 2 (sold to orders), got 1",
            ),
        ]
        assert await state(connection) == before

        await load(pool, [{"id": "Bracket", "soldQuantity": 7}, {"id": "Unit-8x8x8", "name": "U"}])
        await connection.execute("select cancel_order($1)", order)
        await load(pool, [{"id": "Bracket", "soldQuantity": 2}])
        assert [each for each in await sold(connection) if each[0] != "Unit-8x8x8-white"] == [
            ("Bracket", 2),
            ("Unit-8x8x8", 3),
            ("Unit-8x8x8-oak", 3),
        ]

    async def test_of_a_product_as_much_is_sold_as_of_its_variants(
        self, pool: Pool, connection: Connection
    ) -> None:
        await load(pool, [UNIT])
        before = await state(connection)
        white = {"id": "Unit-8x8x8-white", "soldQuantity": 1}
        for file, line, reason in (
            ([{"id": "Unit-8x8x8", "soldQuantity": 2}], 4,
             "[0].soldQuantity: expected at least 3 (sold of its variants), got 2"),
            ([{"id": "Unit-8x8x8", "variants": [white]}], 2,
             "[0].soldQuantity: expected at least 4 (sold of its variants), got 3"),
            ([{"id": "New", "name": "New", "basePrice": 1, "soldQuantity": 1,
               "variants": [{"id": "V", "variantValue": "V", "soldQuantity": 2}]}], 6,
             "[0].soldQuantity: expected at least 2 (sold of its variants), got 1"),
        ):  # fmt: skip
            assert await mistakes(pool, file) == [(line, reason)]
        assert await state(connection) == before
        await load(pool, [{"id": "Unit-8x8x8", "soldQuantity": 4, "variants": [white]}])

    async def test_a_list_of_variants_alone_sells_no_more_than_their_product(
        self, pool: Pool, connection: Connection
    ) -> None:
        await load(pool, [UNIT | {"soldQuantity": 5}])
        header = b"productId,variantId,soldQuantity\n"
        file = header + b"Unit-8x8x8,Unit-8x8x8-oak,2\nUnit-8x8x8,Unit-8x8x8-white,4\n"
        with pytest.raises(ImportRejected) as raised:
            await import_catalogue(
                pool, file, ImportRequest(format_name="csv", actor="tester", reason="test")
            )
        [row] = raised.value.rows
        assert (row.line, row.column, row.id) == (3, 3, "Unit-8x8x8-white")
        assert row.reason == (
            "soldQuantity: expected at most 3 (what is sold of the product 'Unit-8x8x8' but not of"
            " its other variants), got 4"
        )
        fits = file.replace(b"white,4", b"white,3")
        await import_catalogue(
            pool, fits, ImportRequest(format_name="csv", actor="tester", reason="test")
        )
        assert await sold(connection) == [
            ("Unit-8x8x8", 5),
            ("Unit-8x8x8-oak", 2),
            ("Unit-8x8x8-white", 3),
        ]

    async def test_what_was_wrong_before_does_not_reject_a_file_that_leaves_it_alone(
        self, pool: Pool, connection: Connection
    ) -> None:
        await load(pool, [UNIT])
        await ordered(
            connection,
            {"productId": "Unit-8x8x8", "variantId": "Unit-8x8x8-oak", "quantity": 2},
        )
        await connection.execute("update products set sold_quantity = 0")
        same = UNIT | {"name": "Cube", "soldQuantity": 0}
        same["variants"] = [{"id": "Unit-8x8x8-oak", "sku": "U8"}]
        assert (await load(pool, [same])).changed == 2

    async def test_a_variant_cannot_move_to_another_product(
        self, pool: Pool, connection: Connection
    ) -> None:
        await load(pool, [UNIT])
        before = await state(connection)
        thief = BRACKET | {"variants": [{"id": "Unit-8x8x8-oak", "variantValue": "Oak"}]}
        with pytest.raises(ImportRejected) as raised:
            await load(pool, [thief])
        assert [row.reason for row in raised.value.rows] == [
            "[0].variants[0].id: expected an id of its own, got a variant of 'Unit-8x8x8'"
        ]
        assert await state(connection) == before

    async def test_a_sale_in_the_meantime_is_not_lost(
        self, pool: Pool, connection: Connection
    ) -> None:
        """The import waits for the sale's lock and then builds on what it left."""
        await load(pool, [UNIT])
        sale = connection.transaction()
        await sale.start()
        await connection.execute("update products set sold_quantity = sold_quantity + 1")
        importing = asyncio.create_task(
            load(pool, [{"id": "Unit-8x8x8", "name": "Cube", "basePrice": 1}])
        )
        await _until_someone_waits(connection)
        await sale.commit()
        await importing
        row = await connection.fetchrow("select name, sold_quantity from products")
        assert row is not None
        assert tuple(row) == ("Cube", 4)


async def ordered(connection: Connection, *lines: dict[str, object]) -> int:
    """The id of an order of these lines."""
    order: str = await connection.fetchval("select complete_order(cart => $1)", json.dumps(lines))
    return int(json.loads(order)["orderId"])


async def sold(connection: Connection) -> list[tuple[str, int]]:
    """What is sold of each product and variant."""
    rows = await connection.fetch(
        "select id, sold_quantity from products union all"
        " select id, sold_quantity from variants order by id"
    )
    return [(row["id"], row["sold_quantity"]) for row in rows]


async def _until_someone_waits(connection: Connection) -> None:
    """Until another connection to this database waits for a lock that we hold."""
    while not await connection.fetchval(
        "select exists (select from pg_locks where not granted"
        " and pg_backend_pid() = any(pg_blocking_pids(pid)))"
    ):
        pass
