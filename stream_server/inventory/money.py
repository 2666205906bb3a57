"""Amounts of money: whole numbers of the currency's smallest unit, such as cents or yen."""

from typing import Final

__all__ = ["digits_of"]

# As payment providers count (https://docs.stripe.com/currencies), and as `format_money.sql` and the
# browser client's money.js do. What CLDR shows of a currency is another thing: no fillér of HUF.
WITHOUT_CENTS: Final = frozenset(
    (
        *("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA"),
        *("PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"),
    )
)
WITH_MILS: Final = frozenset(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"))


def digits_of(currency: str) -> int:
    """How many decimals an amount in this currency (ISO 4217) has."""
    return 0 if currency in WITHOUT_CENTS else 3 if currency in WITH_MILS else 2
