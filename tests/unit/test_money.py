"""Prices on pages."""

import re

import pytest

from stream_server.database.migrations import sql_folder
from stream_server.inventory.money import WITH_MILS, WITHOUT_CENTS
from stream_server.web.pages.rendering import money

CLIENT = sql_folder().parent / "stream_server/static/client/money.js"


@pytest.mark.parametrize(
    ("amount", "currency", "written"),
    [
        (4900, "USD", "$49.00"),
        (123_456_789, "EUR", "€1,234,567.89"),
        (4900, "JPY", "¥4,900"),
        (4900, "BHD", "BHD\xa04.900"),
        (4900, "HUF", "HUF\xa049.00"),
        (4900, "IQD", "IQD\xa04.900"),
        (5, "CHF", "CHF\xa00.05"),
        (0, "USD", "$0.00"),
    ],
)
def test_an_amount_has_the_decimals_and_the_sign_of_its_currency(
    amount: int, currency: str, written: str
) -> None:
    assert money(amount, currency) == written


def test_server_database_and_client_have_the_same_currencies_without_cents_and_with_mils() -> None:
    sql = (sql_folder() / "functions/payments/format_money.sql").read_text()
    in_sql = [set(re.findall("'([A-Z]{3})'", each)) for each in sql.split("then 0")]
    lists = re.findall("'([A-Z]{6,})'", CLIENT.read_text())
    in_client = [set(re.findall("[A-Z]{3}", each)) for each in lists]
    assert in_sql == in_client == [set(WITHOUT_CENTS), set(WITH_MILS)]
