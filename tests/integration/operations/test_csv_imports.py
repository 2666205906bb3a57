"""CSV files as spreadsheets write them: what they may say, and what is said about wrong ones."""

import csv
import io
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeAlias

import asyncpg
import pytest

from stream_server.database.pool import Pool
from stream_server.errors import ImportRejected
from stream_server.inventory.imports.models import Imported, ImportRequest
from stream_server.inventory.imports.run import import_catalogue

Connection: TypeAlias = "asyncpg.Connection[Any]"

HEADER = ("productId", "variantId", "name", "basePrice", "variantValue", "sku", "maxQuantity")
UNIT = ("Unit-8x8x8", "", "Unit 8×8×8", "4900", "", "", "100")
OAK = ("Unit-8x8x8", "Unit-oak", "", "", "Oak", "U8-OAK", "60")
CAP = ("Cap", "", 'Cap, "the" one', "900", "", "", "null")


async def load(pool: Pool, data: bytes, **options: Any) -> Imported:
    return await import_catalogue(
        pool, data, ImportRequest(format_name="csv", actor="tester", reason="test", **options)
    )


def written(
    *rows: Sequence[str],
    header: Sequence[str] = HEADER,
    delimiter: str = ",",
    end: str = "\r\n",
    quoting: Any = csv.QUOTE_MINIMAL,
) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerows([header, *rows])
    return out.getvalue().encode()


async def state(connection: Connection) -> list[list[Any]]:
    return [
        await connection.fetch(f"select * from {table} order by id")
        for table in ("products", "variants", "inventory_log")
    ]


class TestGoodFiles:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
    @pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    async def test_however_it_is_written_it_says_the_same(
        self,
        pool: Pool,
        connection: Connection,
        delimiter: str,
        end: str,
        mark: bytes,
        quoting: Any,
    ) -> None:
        data = written(UNIT, OAK, CAP, delimiter=delimiter, end=end, quoting=quoting)
        imported = await load(pool, mark + data)
        assert imported == Imported(products=2, variants=1, added=3, changed=0)
        products = await connection.fetch(
            "select id, name, base_price, max_quantity, has_variants from products order by id"
        )
        assert [tuple(row) for row in products] == [
            ("Cap", 'Cap, "the" one', 900, None, False),
            ("Unit-8x8x8", "Unit 8×8×8", 4900, 100, True),
        ]
        [oak] = await connection.fetch("select * from variants")
        assert (oak["id"], oak["product_id"], oak["variant_value"]) == (
            "Unit-oak",
            "Unit-8x8x8",
            "Oak",
        )
        assert (oak["sku"], oak["max_quantity"], oak["price"]) == ("U8-OAK", 60, None)

    async def test_it_says_the_same_as_json(self, pool: Pool, connection: Connection) -> None:
        await load(pool, written(UNIT, OAK, CAP))
        again = json.dumps(
            [
                {
                    "id": "Unit-8x8x8",
                    "name": "Unit 8×8×8",
                    "basePrice": 4900,
                    "maxQuantity": 100,
                    "variants": [
                        {
                            "id": "Unit-oak",
                            "variantValue": "Oak",
                            "sku": "U8-OAK",
                            "maxQuantity": 60,
                        }
                    ],
                },
                {"id": "Cap", "name": 'Cap, "the" one', "basePrice": 900, "maxQuantity": None},
            ]
        )
        imported = await import_catalogue(
            pool, again.encode(), ImportRequest(actor="tester", reason="test")
        )
        assert imported.unchanged == 3

    async def test_every_column_arrives_in_either_spelling(
        self, pool: Pool, connection: Connection
    ) -> None:
        header = (
            "product_id", "name", "description", "category", "base_price", "status",
            "requires_assembly", "max_quantity", "soldQuantity", "low_stock_threshold",
            "max_per_order",
        )  # fmt: skip
        row = ("A", "A", "two\nlines", "Units", "1", "draft", "TRUE", " 9 ", "3", "2", "4")
        await load(pool, written(row, header=header))
        product = await connection.fetchrow("select * from products")
        assert product is not None
        assert (product["description"], product["category"]) == ("two\nlines", "Units")
        assert (product["status"], product["requires_assembly"]) == ("draft", True)
        assert (product["max_quantity"], product["sold_quantity"]) == (9, 3)
        assert (product["low_stock_threshold"], product["max_per_order"]) == (2, 4)

    async def test_a_list_of_stock_changes_stock_and_nothing_else(
        self, pool: Pool, connection: Connection
    ) -> None:
        await load(pool, written(UNIT, OAK, CAP))
        header = ("variantId", "productId", "maxQuantity")
        rows = (("", "Cap", "5"), ("Unit-oak", "Unit-8x8x8", "70"), ("", "Unit-8x8x8", ""))
        imported = await load(pool, written(*rows, header=header))
        assert (imported.changed, imported.unchanged) == (2, 1)
        assert await connection.fetchval("select max_quantity from variants") == 70
        row = await connection.fetchrow("select name, max_quantity from products where id = 'Cap'")
        assert row is not None
        assert tuple(row) == ('Cap, "the" one', 5)

    async def test_a_variant_may_come_before_its_product_and_lines_may_be_empty(
        self, pool: Pool
    ) -> None:
        data = written(OAK, UNIT).replace(b"\r\n", b"\r\n\r\n,,,,,,\r\n")
        assert (await load(pool, data)).added == 2

    async def test_the_word_null_is_a_name_where_text_is_wanted(
        self, pool: Pool, connection: Connection
    ) -> None:
        await load(pool, written(("7", "", "null", "900", "", "", "null")))
        row = await connection.fetchrow("select id, name, max_quantity from products")
        assert row is not None
        assert tuple(row) == ("7", "null", None)

    async def test_a_header_alone_changes_nothing(self, pool: Pool) -> None:
        assert (await load(pool, written())).products == 0


class TestBadFiles:
    """Each names what is wrong with its line and column, and changes nothing."""

    @pytest.fixture(autouse=True)
    async def unchanged(self, pool: Pool, connection: Connection) -> AsyncIterator[None]:
        await load(pool, written(CAP))
        before = await state(connection)
        yield
        assert await state(connection) == before

    async def rejections(self, pool: Pool, data: bytes) -> list[tuple[Any, ...]]:
        with pytest.raises(ImportRejected) as raised:
            await load(pool, data)
        return [(row.line, row.column, row.reason) for row in raised.value.rows]

    @pytest.mark.parametrize(
        ("data", "line", "column", "reason"),
        [
            (b"", 1, 1, "expected the names of the columns in the first line"),
            (b"\r\nproductId\r\nA", 1, 1, "expected the names of the columns in the first line"),
            (b"name,basePrice\nA,1", 1, 1, "expected a column productId"),
            (b"productId,name,nmae\nA,A,A", 1, 3, "nmae: no such field; did you mean name?"),
            (b"productId;name;stock\nA;A;7", 1, 3, "stock: no such field"),
            (b"productId,id\nA,A", 1, 2, "id: no such field"),
            (b"productId,availableQuantity\nA,7", 1, 2, "availableQuantity: is computed here"),
            (b"productId,name,product_id\nA,A,A", 1, 3, "product_id: given twice"),
            (b"productId,,name\nA,A,A", 1, 2, "expected a name for each column"),
            (b"productId,name\n.,A", 2, 1, "productId: expected an id other than . and .."),
            (b"productId,name\n..,A", 2, 1, "productId: expected an id other than . and .."),
            (b"productId|name\nA|A", 1, 1, "productId|name: no such field"),
            (b'productId,name\n"A,A\nB,B\n', 2, 1, "expected CSV: unexpected end of data"),
            (b'productId,name\nA,A\n"B"x,B\n', 3, 1, "expected CSV: ',' expected after '\"'"),
            (b"productId,name\nA," + b"x" * 200_000, 2, 1, "expected CSV: field larger than"),
            (b"productId,name\nA," + b"x" * 2**21, 2, 1, "expected lines of at most 1048576"),
            ("productId,name\nA,A\nB,Stück\n".encode("latin-1"), 3, 5, "expected UTF-8, got"),
            ("productId,name\nA,A\n".encode("utf-16"), 1, 1, "expected UTF-8, got byte 0xff"),
            (b"PK\x03\x04\x14\x00\x06\x00\x08\x00", 1, 1, "'PK\\x03\\x04"),
        ],
    )
    async def test_a_file_that_cannot_be_read_is_told_where(
        self, pool: Pool, data: bytes, line: int, column: int, reason: str
    ) -> None:
        found, at, told = (await self.rejections(pool, data))[-1]
        assert (found, at) == (line, column)
        assert told.startswith(reason)

    @pytest.mark.parametrize(
        ("row", "column", "reason"),
        [
            (("", "", "A", "1", "", "", ""), 1, "productId: missing"),
            ((" A", "", "A", "1", "", "", ""), 1, "productId: expected text without spaces"),
            (("A", "", "A", "1.50", "", "", ""), 4, "basePrice: expected a whole number of cents"),
            (("A", "", "A", "1,50", "", "", ""), 4, "basePrice: expected a whole number of cents"),
            (("A", "", "A", "-1", "", "", ""), 4, "basePrice: expected a whole number of cents"),
            (("A", "", "A", "2147483648", "", "", ""), 4, "basePrice: expected a whole number"),
            (("A", "", "A", "null", "", "", ""), 4, "basePrice: expected a whole number of cents"),
            (("A", "", "A", "9" * 30, "", "", ""), 4, "basePrice: expected a whole number"),
            (("A", "", "A", "1", "", "", "many"), 7, "maxQuantity: expected a whole number of"),
            (("A", "", "A", "1", "Oak", "", ""), 5, "variantValue: expected nothing (the field is"
                " a variant's), got 'Oak'"),
            (("Cap", "V", "A", "", "Oak", "", ""), 3, "name: expected nothing (the field is"
                " a product's and the row a variant's), got 'A'"),
            (("", "V", "", "", "Oak", "", ""), 1, "productId: missing"),
            (("Hat", "V", "", "", "Oak", "", ""), 1, "productId: there is no product 'Hat'"),
            (("Cap", "V", "", "", "", "", ""), 5, "variantValue: missing (the row is new)"),
            (("A", "", "A", "1"), 1, "expected 7 fields, as in the first line, got 4"),
            (("A", "", "A", "1", "", "", "", ""), 1, "expected 7 fields, as in the first line"),
        ],
    )  # fmt: skip
    async def test_a_wrong_row_is_named_by_line_and_column(
        self, pool: Pool, row: Sequence[str], column: int, reason: str
    ) -> None:
        rejections = await self.rejections(pool, written(UNIT, row, OAK))
        assert [(line, at) for line, at, _ in rejections][:1] == [(3, column)]
        assert rejections[0][2].startswith(reason)

    async def test_a_line_break_within_quotes_counts_as_a_line(self, pool: Pool) -> None:
        multi = ("A", "", "A", "1", "", "", "")
        data = written(
            ("Unit-8x8x8", "", "U", "1", "", "two\nlines", ""),
            multi,
            ("B", "", "B", "x", "", "", ""),
        )
        rejections = await self.rejections(pool, data)
        assert [(line, column) for line, column, _ in rejections] == [(2, 6), (5, 4)]

    @pytest.mark.parametrize("ends", ["\r", "\r\n\r", "\n\r\r\n", "\r\r\r\n"])
    async def test_each_line_counts_once_whatever_it_ends_with(self, pool: Pool, ends: str) -> None:
        """`ends` are those of the lines 2 and, if there is more than one, of empty lines behind."""
        empty = len(ends.replace("\r\n", "\n")) - 1
        lines = "productId,description,basePrice\rCap,A,1" + ends + 'B,"B\rb",x\r\nC,C,y\r'
        told = await self.rejections(pool, lines.encode())
        wrong = [(line, column) for line, column, reason in told if "got" in reason]
        assert wrong == [(3 + empty, 3), (5 + empty, 3)]
        latin = lines.encode() + "D,Stück,1".encode("latin-1")
        assert (await self.rejections(pool, latin))[-1][:2] == (6 + empty, 5)

    async def test_an_id_that_is_given_twice_is_told_with_the_line_of_the_first(
        self, pool: Pool
    ) -> None:
        assert await self.rejections(pool, written(UNIT, OAK, UNIT, OAK)) == [
            (4, 1, "productId: expected an id of its own, got that of the product in line 2"),
            (5, 2, "variantId: expected an id of its own, got that of the variant in line 3"),
        ]

    async def test_all_bad_rows_are_told_and_those_behind_the_first_unreadable_byte_are_not(
        self, pool: Pool
    ) -> None:
        bad = ("B", "", "B", "x", "", "", "")
        data = written(bad, UNIT, UNIT) + b"\xff\r\n" + written(bad)
        rejections = await self.rejections(pool, data)
        assert [line for line, _, _ in rejections] == [2, 4, 5]
        assert rejections[-1] == (5, 1, "expected UTF-8, got byte 0xff")


class TestIdsThatLookTheSame:
    """An import adds no product or variant that the eye cannot tell from another."""

    CAFE = "Caf\u00e9"
    SAME = "Cafe\u0301"

    async def rejections(self, pool: Pool, data: bytes) -> list[tuple[Any, ...]]:
        with pytest.raises(ImportRejected) as raised:
            await load(pool, data)
        return [(row.line, row.column, row.reason) for row in raised.value.rows]

    @pytest.mark.parametrize(
        ("there", "added"),
        [(CAFE, SAME), (SAME, CAFE), ("B", "\u0412"), ("\u0412", "B"), ("A B", "A\u00a0B")],
    )
    async def test_a_new_product_that_looks_like_one_in_the_database_is_named(
        self, pool: Pool, there: str, added: str
    ) -> None:
        await load(pool, f"productId,name,basePrice\n{there},A,1\n".encode())
        data = f"productId,name,basePrice\nHat,A,1\n{added},A,1\n".encode()
        assert await self.rejections(pool, data) == [
            (3, 1, f"productId: expected an id that the eye can tell from {there!a}"
                   f" (in the database), got {added!a}"),
        ]  # fmt: skip

    async def test_of_two_in_the_file_the_second_is_named_with_the_line_of_the_first(
        self, pool: Pool
    ) -> None:
        data = f"productId,name,basePrice\n{self.CAFE},A,1\nHat,A,1\n{self.SAME},A,1\n"
        assert await self.rejections(pool, data.encode()) == [
            (4, 1, f"productId: expected an id that the eye can tell from {self.CAFE!a}"
                   f" (in line 2), got {self.SAME!a}"),
        ]  # fmt: skip

    async def test_variants_are_told_apart_from_variants_only(self, pool: Pool) -> None:
        header = "productId,variantId,name,basePrice,variantValue\n"
        await load(pool, f"{header}B,,B,1,\nB,{self.CAFE},,,V\n".encode())
        await load(pool, f"{header}B,\u0412,,,V\n".encode())
        told = await self.rejections(pool, f"{header}B,{self.SAME},,,V\n".encode())
        assert [(line, column) for line, column, _ in told] == [(2, 2)]

    async def test_a_character_that_cannot_be_seen_is_named(self, pool: Pool) -> None:
        data = "productId,name,basePrice\nA\u200bB,A,1\nA\u0378,A,1\n".encode()
        assert await self.rejections(pool, data) == [
            (2, 1, "productId: expected characters that can be seen, got U+200B ZERO WIDTH SPACE"),
            (3, 1, "productId: expected characters that can be seen, got U+0378"),
        ]

    async def test_rows_that_are_there_already_are_imported_whatever_they_look_like(
        self, pool: Pool, connection: Connection
    ) -> None:
        ids = ["B", "\u0412", self.CAFE, self.SAME, "A\u200bB", "A\u2000B", "A\ufe0fB"]
        await connection.execute(
            "insert into products (id, name, base_price)"
            " select id, 'A', 1 from unnest($1::text[]) id",
            ids,
        )
        data = "productId,basePrice\n" + "".join(f"{id_},2\n" for id_ in ids)
        imported = await load(pool, data.encode())
        assert (imported.added, imported.changed) == (0, len(ids))

    async def test_of_many_ids_beyond_ascii_each_may_be_new(self, pool: Pool) -> None:
        rows = "".join(f"Стол {number},A,1\n" for number in range(20_500))
        data = ("productId,name,basePrice\n" + rows).encode()
        assert (await load(pool, data)).added == 20_500
        told = await self.rejections(pool, data + "Cтoл 20499,A,1\nСтол 20500,A,1\n".encode())
        assert [line for line, _, _ in told] == [20_502]
