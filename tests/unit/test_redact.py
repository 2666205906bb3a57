"""What is shown of a database's URL: whom we talk to, and nothing secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.database.urls import redact

SECRET = "swordfish"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://db.example:5432/shop", "postgresql://db.example:5432/shop"),
        ("postgresql://shop@db/shop", "postgresql://shop@db/shop"),
        (f"postgresql://shop:{SECRET}@db/shop", "postgresql://shop:***@db/shop"),
        (f"postgres://shop:{SECRET}@[::1]:5432/shop", "postgres://shop:***@[::1]:5432/shop"),
        (f"postgresql://shop:{SECRET}@a:1,b:2/shop", "postgresql://shop:***@a:1,b:2/shop"),
        (
            "postgresql://postgres:@/shop?host=/tmp/data",
            "postgresql://postgres:***@/shop?host=/tmp/data",
        ),
        (
            f"postgresql://db/shop?password={SECRET}&sslmode=require",
            "postgresql://db/shop?***",
        ),
        (f"postgresql://u:x@{SECRET}@db/shop", "postgresql://u:***@db/shop"),
        (f"postgresql://db/shop?sslpassword={SECRET}", "postgresql://db/shop?***"),
        (
            f"postgresql+asyncpg://shop:{SECRET}@db/shop?schema=stock",
            "postgresql+asyncpg://shop:***@db/shop?schema=stock",
        ),
    ],
)
def test_it_shows_the_place_and_no_password(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        SECRET,
        f"host=db password={SECRET}",
        f"shop:{SECRET}@db/shop",
        f"postgresql://shop:{SECRET}",  # where the port belongs
        f"postgresql://shop:pass/{SECRET}@db/shop",
        f"postgresql://shop:pass?{SECRET}@db/shop",
        f"postgresql://shop:pass#{SECRET}@db/shop",
        f"postgresql://db/shop?password=x@{SECRET}",
        f"postgresql:/shop:{SECRET}@db/shop",
        f"mysql://shop:{SECRET}@db/shop",
    ],
)
def test_of_what_is_not_well_formed_it_shows_nothing(url: str) -> None:
    assert redact(url) == "***"


@given(st.text(st.characters(codec="utf-8"), max_size=8), st.text("@:/?#&=%[],", max_size=4))
def test_no_password_is_shown_whatever_is_in_it(before: str, after: str) -> None:
    password = f"{before}{SECRET}{after}"
    assert SECRET not in redact(f"postgresql://shop:{password}@db/shop")
    assert SECRET not in redact(f"postgresql://db/shop?password={password}")
