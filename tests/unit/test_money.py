"""Prices on pages."""

import pytest

from stream_server.web.pages.rendering import money


@pytest.mark.parametrize(
    ("amount", "currency", "written"),
    [
        (4900, "USD", "$49.00"),
        (123_456_789, "EUR", "€1,234,567.89"),
        (4900, "JPY", "¥4,900"),
        (4900, "BHD", "BHD\xa04.900"),
        (5, "CHF", "CHF\xa00.05"),
        (0, "USD", "$0.00"),
    ],
)
def test_an_amount_has_the_decimals_and_the_sign_of_its_currency(
    amount: int, currency: str, written: str
) -> None:
    assert money(amount, currency) == written
