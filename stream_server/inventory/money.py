"""Amounts of money: integers in the currency's smallest unit, such as cents or yen."""

from typing import Final

__all__ = ["digits_of"]

# As payment providers count (https://docs.stripe.com/currencies), and like `format_money.sql` and
# the browser client's money.js. CLDR's decimals differ: it has none for HUF, which has fillér.
WITHOUT_CENTS: Final = frozenset(
    (
        *("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA"),
        *("PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"),
    )
)
WITH_MILS: Final = frozenset(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"))


def digits_of(currency: str) -> int:
    """Returns the number of decimals of an amount in this currency (ISO 4217)."""
    return 0 if currency in WITHOUT_CENTS else 3 if currency in WITH_MILS else 2
