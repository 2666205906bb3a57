"""Unlimited stock: nobody can use it up, by holds or orders of all that a number can say."""

import json
from typing import Any, TypeAlias

import asyncpg
import pytest

from tests.support.shop import Quantities

Connection: TypeAlias = "asyncpg.Connection[Any]"

MOST = 2**31 - 1

KINDS = """
insert into products (id, name, base_price, max_quantity) values
    ('file', 'File', 900, null), ('song', 'Song', 100, null), ('print', 'Print', 2000, 10);
insert into variants (id, product_id, variant_value, max_quantity) values
    ('song-mp3', 'song', 'MP3', null), ('song-flac', 'song', 'FLAC', null),
    ('song-vinyl', 'song', 'Vinyl', 5),
    ('print-a4', 'print', 'A4', null);
"""
UNLIMITED = [("file", None), ("song", "song-mp3")]


@pytest.fixture
async def kinds(shop: Connection) -> Connection:
    await shop.execute(KINDS)
    return shop


def line(product: str, variant: str | None, quantity: int) -> dict[str, Any]:
    return {"productId": product, "variantId": variant, "quantity": quantity}


async def reserve(shop: Connection, checkout: str, *lines: dict[str, Any]) -> str:
    """The hold's token."""
    held = await shop.fetchval("select reserve_stock($1, $2)", checkout, json.dumps(lines))
    token: str = json.loads(held)["token"]
    return token


async def reserve_together(shop: Connection, checkout: str, one: dict[str, Any]) -> str | None:
    """The hold's token, of a call for many; None if it would have to be asked for alone."""
    cart = {"checkoutToken": checkout, **one}
    answers = await shop.fetchval(
        "select reserve_together($1, $2)", one["productId"], json.dumps([cart])
    )
    (answer,) = json.loads(answers)
    return None if answer is None else answer["token"]


async def order(shop: Connection, **given: object) -> dict[str, Any]:
    arguments = ", ".join(f"{name} => ${number}" for number, name in enumerate(given, 1))
    placed: dict[str, Any] = json.loads(
        await shop.fetchval(f"select complete_order({arguments})", *given.values())
    )
    return placed


@pytest.mark.parametrize(("product", "variant"), UNLIMITED)
async def test_holds_of_all_there_could_be_take_nothing_from_the_next_shopper(
    kinds: Connection, quantities: Quantities, product: str, variant: str | None
) -> None:
    everything, one = line(product, variant, MOST), line(product, variant, 1)
    evil = [await reserve(kinds, "evil 1", everything)]
    evil.append(await reserve_together(kinds, "evil 2", everything) or "")
    honest = await reserve(kinds, "honest", one)
    assert await reserve_together(kinds, "another", one) is not None
    paid = await order(kinds, cart=json.dumps([one]), payment="pi_1", record_shortfall=True)
    assert (paid["status"], paid["lines"][0]["filledQuantity"]) == ("paid", 1)
    held = await order(kinds, reservation=honest, payment="pi_2", record_shortfall=True)
    assert held["status"] == "paid"
    assert await quantities(variant or product) == (2, MOST)
    for token in evil:
        await kinds.execute("select release_reservation($1)", token)
    assert await quantities(product) == await quantities(variant or product) == (2, 1)


async def test_one_hold_of_every_variant_counts_each_for_itself(kinds: Connection) -> None:
    cart = [line("song", each, MOST) for each in ("song-flac", "song-mp3")]
    token = await reserve(kinds, "c", *cart, line("song", "song-vinyl", 5))
    paid = await order(kinds, reservation=token, payment="pi_1")
    assert [each["filledQuantity"] for each in paid["lines"]] == [MOST, MOST, 5]
    with pytest.raises(asyncpg.PostgresError, match="not enough in stock"):
        await reserve(kinds, "d", line("song", "song-vinyl", 1))
    await reserve(kinds, "d", line("song", "song-mp3", 1))


async def test_a_limited_product_limits_its_unlimited_variant(kinds: Connection) -> None:
    with pytest.raises(asyncpg.PostgresError) as refused:
        await reserve(kinds, "c", line("print", "print-a4", MOST))
    assert json.loads(refused.value.detail or "")["lines"][0]["available"] == 10
    await reserve(kinds, "c", line("print", "print-a4", 10))
    with pytest.raises(asyncpg.PostgresError, match="not enough in stock"):
        await reserve(kinds, "d", line("print", "print-a4", 1))


@pytest.mark.parametrize(("product", "variant"), UNLIMITED)
async def test_overdue_holds_of_more_than_a_number_can_say_are_ended(
    kinds: Connection, quantities: Quantities, product: str, variant: str | None
) -> None:
    for checkout in ("a", "b", "c"):
        await reserve(kinds, checkout, line(product, variant, MOST))
    await kinds.execute("update reservations set expires_at = now() - interval '1 second'")
    assert await kinds.fetchval("select expire_reservations()") == 3
    assert await quantities(product) == await quantities(variant or product) == (0, 0)


@pytest.mark.parametrize(("product", "variant"), UNLIMITED)
async def test_orders_of_more_than_a_number_can_say_are_filled_and_can_be_refunded(
    kinds: Connection, quantities: Quantities, product: str, variant: str | None
) -> None:
    cart = json.dumps([line(product, variant, MOST)])
    orders = [await order(kinds, cart=cart, payment=f"pi_{n}") for n in range(3)]
    assert {each["status"] for each in orders} == {"paid"}
    assert await quantities(variant or product) == (MOST, 0)
    for each in orders[:2]:
        refunded = await kinds.fetchval("select refund_order($1)", each["orderId"])
        assert json.loads(refunded)["status"] == "refunded"
    assert await quantities(variant or product) == (
        MOST,
        0,
    )  # it cannot say how many more there are


async def test_a_limit_set_while_units_are_held_counts_them(
    kinds: Connection, quantities: Quantities
) -> None:
    token = await reserve(kinds, "c", line("file", None, 7))
    await kinds.execute("select set_stock('file', null, 3, 'correction')")
    with pytest.raises(asyncpg.PostgresError, match="not enough in stock"):
        await reserve(kinds, "d", line("file", None, 4))
    await order(kinds, reservation=token, payment="pi_1")
    assert await quantities("file") == (7, 0)
    await kinds.execute("select set_stock('file', null, null, 'correction')")
    evil = await reserve(kinds, "e", line("file", None, MOST))
    with pytest.raises(asyncpg.PostgresError, match="stock must be null"):
        await kinds.execute("select set_stock('file', null, 3, 'correction')")
    await kinds.execute("select release_reservation($1)", evil)
    await kinds.execute("select set_stock('file', null, 3, 'correction')")
    await reserve(kinds, "d", line("file", None, 3))


async def test_a_database_whose_unlimited_stock_is_used_up_already_sells_again(
    kinds: Connection, quantities: Quantities
) -> None:
    """As the release before has left it."""
    evil = await reserve(kinds, "evil", line("file", None, MOST - 1))
    assert await quantities("file") == (0, MOST - 1)
    paid = await order(kinds, cart=json.dumps([line("file", None, 5)]), payment="pi_1")
    assert paid["status"] == "paid"
    await kinds.execute("select release_reservation($1)", evil)
    assert await quantities("file") == (5, 0)
