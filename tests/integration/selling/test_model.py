"""Any sequence of calls does what a plain model says, refuses what it refuses, and leaves the
database consistent."""

import asyncio
import copy
import json
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import asyncpg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from tests.support.invariants import assert_consistent
from tests.support.surroundings import opened

Connection: TypeAlias = "asyncpg.Connection[Any]"
T = TypeVar("T")
Key = tuple[str, str | None]
Line = tuple[Key, int]

# What is sold: max of the product, and of its variants. `cap` is limited below its variants' sum.
SHOP: dict[str, tuple[int | None, dict[str, int | None]]] = {
    "plain": (9, {}),
    "endless": (None, {}),
    "sum": (9, {"s": 5, "m": 4}),
    "cap": (6, {"s": 5, "m": None}),
}
ARTICLES: list[Key] = [
    ("plain", None),
    ("endless", None),
    ("sum", "s"),
    ("sum", "m"),
    ("cap", "s"),
    ("cap", "m"),
]
ROWS: list[Key] = [*((product, None) for product in SHOP), *ARTICLES[2:]]
LARGEST = 2**31 - 1


class Refused(Exception):
    """By the model, as the SQLSTATE says."""


@dataclass
class Row:
    max: int | None
    sold: int = 0
    reserved: int = 0

    @property
    def left(self) -> int:
        return (LARGEST if self.max is None else self.max) - self.sold - self.reserved


@dataclass
class Hold:
    checkout: str
    lines: dict[Key, int]
    prices: dict[Key, int]
    status: str = "active"
    overdue: bool = False
    extended: bool = False


@dataclass
class Order:
    lines: dict[Key, int]
    filled: dict[Key, int]
    prices: dict[Key, int]
    status: str
    payment: str | None
    hold: str | None
    refunded: dict[Key, int] = field(default_factory=dict)
    refunded_amount: int = 0

    @property
    def total(self) -> int:
        return sum(units * self.prices[key] for key, units in self.lines.items())

    def missing(self, key: Key) -> int:
        return max(0, self.lines[key] - self.filled[key] - self.refunded.get(key, 0))


@dataclass
class Model:
    """The rules of selling, without a database."""

    rows: dict[Key, Row] = field(default_factory=dict)
    prices: dict[Key, int | None] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    orders: dict[int, Order] = field(default_factory=dict)

    def prices_of(self, lines: dict[Key, int]) -> dict[Key, int]:
        return {key: self.prices[key] or self.prices[key[0], None] or 0 for key in lines}

    def move(self, key: Key, sold: int, reserved: int) -> None:
        for each in {(key[0], None), key}:
            self.rows[each].sold += sold
            self.rows[each].reserved += reserved

    def end(self, hold: Hold, status: str) -> None:
        hold.status = status
        for key, units in hold.lines.items():
            self.move(key, 0, -units)

    def end_overdue(self, lines: dict[Key, int], but: str | None = None) -> None:
        touched = {key[0] for key in lines}
        for hold in self.holds.values():
            if (
                hold.status == "active"
                and hold.overdue
                and hold.checkout != but
                and touched & {key[0] for key in hold.lines}
            ):
                self.end(hold, "expired")

    def granted(self, lines: dict[Key, int], own: dict[Key, int] | None = None) -> dict[Key, int]:
        left = {key: row.left for key, row in self.rows.items()}
        for key, units in (own or {}).items():
            for each in {(key[0], None), key}:
                left[each] += units
        granted = {}
        for key, units in sorted(lines.items(), key=lambda each: (each[0][0], each[0][1] or "")):
            given = max(0, min(units, left[key], left[key[0], None]))
            granted[key] = given
            for each in {(key[0], None), key}:
                left[each] -= given
        return granted

    def reserve(self, token: str, checkout: str, lines: dict[Key, int], partial: bool) -> None:
        for hold in self.holds.values():
            if hold.status == "active" and hold.checkout == checkout:
                self.end(hold, "released")
        granted = self.granted(lines)
        if granted != lines:
            short = {key: units for key, units in lines.items() if granted[key] < units}
            self.end_overdue(short, but=checkout)
        granted = self.granted(lines)
        if granted != lines and not (partial and any(granted.values())):
            raise Refused("SS003")
        held = {key: units for key, units in granted.items() if units}
        for key, units in held.items():
            self.move(key, 0, units)
        self.holds[token] = Hold(checkout, held, self.prices_of(held))

    def check_alive(self, hold: Hold) -> None:
        codes = {"converted": "SS007", "released": "SS006", "expired": "SS005"}
        if hold.status != "active":
            raise Refused(codes[hold.status])

    def extend(self, hold: Hold) -> None:
        self.check_alive(hold)
        if hold.overdue:
            raise Refused("SS005")
        if hold.extended:
            raise Refused("SS008")
        hold.extended = True

    def release(self, hold: Hold) -> None:
        self.check_alive(hold)
        self.end(hold, "released")

    def complete(
        self,
        token: str | None,
        lines: dict[Key, int] | None,
        payment: str | None,
        record: bool,
    ) -> Order:
        hold = self.holds[token] if token is not None else None
        wanted = hold.lines if hold is not None else lines
        assert wanted is not None
        known = [o for o in self.orders.values() if token is not None and o.hold == token] or [
            o for o in self.orders.values() if payment is not None and o.payment == payment
        ]
        if known:
            return self.repeat(known[0], token, wanted, payment)
        if hold is not None and hold.status == "active":
            for key, units in wanted.items():
                self.move(key, units, -units)
            filled = dict(wanted)
        else:
            self.make_room(wanted, hold)
            filled = self.granted(wanted)
            if filled != wanted and not record:
                raise Refused("SS003")
            for key, units in filled.items():
                self.move(key, units, 0)
        if hold is not None:
            hold.status = "converted"
        status = "paid" if filled == wanted else "shortfall"
        prices = hold.prices if hold is not None else self.prices_of(wanted)
        return Order(dict(wanted), filled, dict(prices), status, payment, token)

    def make_room(self, wanted: dict[Key, int], hold: Hold | None) -> None:
        """Others' overdue holds go if the checkout's own newer one is not enough; that one goes if
        it helps."""
        newer = [
            other
            for other in self.holds.values()
            if hold and other.status == "active" and other.checkout == hold.checkout
        ]
        own = newer[0].lines if newer else {}
        if self.granted(wanted, own) != wanted:
            self.end_overdue(wanted, but=newer[0].checkout if newer else None)
        if sum(self.granted(wanted).values()) < sum(self.granted(wanted, own).values()):
            self.end(newer[0], "released")

    def repeat(
        self, order: Order, token: str | None, lines: dict[Key, int], payment: str | None
    ) -> Order:
        other = any(o.payment == payment for o in self.orders.values() if o is not order)
        if order.hold != token or (order.payment and payment and order.payment != payment):
            raise Refused("SS010")
        if payment and not order.payment and other:
            raise Refused("SS010")
        if order.lines != lines:
            raise Refused("SS010")
        order.payment = order.payment or payment
        if order.status == "shortfall":
            missing = {key: order.missing(key) for key in order.lines if order.missing(key)}
            hold = self.holds[token] if token is not None else None
            self.make_room(missing, hold)
            for key, units in self.granted(missing).items():
                order.filled[key] += units
                self.move(key, units, 0)
            order.status = "shortfall" if any(map(order.missing, order.lines)) else "paid"
        return order

    def put_back(self, order: Order, key: Key, units: int) -> None:
        order.filled[key] -= units
        self.move(key, -units, 0)

    def close(self, order: Order, status: str, restock: bool) -> None:
        if order.status == status:
            return
        if order.status == "refunded":
            raise Refused("SS011")
        for key, units in order.lines.items():
            left = units - order.refunded.get(key, 0)
            if restock and order.status != "cancelled":
                self.put_back(order, key, min(order.filled[key], left))
        if status == "refunded":
            order.refunded = dict(order.lines)
        order.status = status

    def refund(
        self, order: Order, restock: bool, lines: dict[Key, int] | None, amount: int | None
    ) -> None:
        rest = order.total - order.refunded_amount
        if lines is None and amount is None:
            order.refunded_amount = order.total
            return self.close(order, "refunded", restock)
        if order.status == "refunded" and (lines is not None or rest == 0):
            raise Refused("SS011")
        for key, units in (lines or {}).items():
            if units > order.lines.get(key, 0) - order.refunded.get(key, 0):
                raise Refused("SS001")
        worth = sum(units * order.prices[key] for key, units in (lines or {}).items())
        wanted = min(rest, worth) if amount is None else amount
        if wanted > rest:
            raise Refused("SS001")
        order.refunded_amount += wanted
        for key, units in (lines or {}).items():
            returned = max(0, units - order.missing(key))
            order.refunded[key] = order.refunded.get(key, 0) + units
            if restock and order.status != "cancelled":
                self.put_back(order, key, returned)
        if order.status == "shortfall" and not any(map(order.missing, order.lines)):
            order.status = "paid"
        if order.refunded_amount == order.total or order.refunded == order.lines:
            self.close(order, "refunded", restock)
        return None

    def change_max(self, key: Key, new: int | None) -> None:
        row, product = self.rows[key], self.rows[key[0], None]
        siblings = [self.rows[each] for each in self.rows if each[0] == key[0] and each[1]]
        sizes = [each.max for each in siblings]
        is_sum = bool(key[1]) and None not in sizes and sum(m or 0 for m in sizes) == product.max
        was = row.max
        row.max = new
        if is_sum:
            product.max = None if new is None else (product.max or 0) - (was or 0) + new
        if min(row.left, product.left if is_sum else row.left) < 0:
            raise Refused("SS003")

    def adjust(self, key: Key, change: int) -> None:
        size = self.rows[key].max
        if change == 0 or size is None:
            raise Refused("SS001")
        self.change_max(key, size + change)

    def set_stock(self, key: Key, stock: int | None) -> None:
        row = self.rows[key]
        self.change_max(key, None if stock is None else stock + row.sold + row.reserved)


def lines_of(cart: list[Line]) -> dict[Key, int]:
    summed: dict[Key, int] = {}
    for key, units in cart:
        summed[key] = summed.get(key, 0) + units
    return summed


CARTS = st.lists(st.tuples(st.sampled_from(ARTICLES), st.integers(1, 4)), min_size=1, max_size=4)
PAYMENTS = st.sampled_from([None, "pay-1", "pay-2", "pay-3", "pay-4"])
CHECKOUTS = st.sampled_from(["c1", "c2", "c3", "c4"])


class Selling(RuleBasedStateMachine):
    """Each step is done to the model and to the database, in a shop of its own."""

    shops = 0
    url = ""

    tokens = Bundle("tokens")
    placed = Bundle("placed")

    def __init__(self) -> None:
        super().__init__()
        type(self).shops += 1
        self.shop = f"{type(self).shops}-"
        self.model = Model()
        self.tokens_there: list[str] = []
        self.runner = asyncio.Runner()
        self.connection: Connection = self.run(opened(self.url))
        self.sql("select expire_reservations(100000)")  # of the shops before
        for product, (size, variants) in SHOP.items():
            self.model.rows[product, None] = Row(size)
            self.model.prices[product, None] = 1
            self.sql(
                "insert into products (id, name, base_price, max_quantity) values ($1, $1, 1, $2)",
                self.shop + product,
                size,
            )
            for variant, units in variants.items():
                self.model.rows[product, variant] = Row(units)
                self.model.prices[product, variant] = None
                self.sql(
                    "insert into variants (id, product_id, variant_value, max_quantity)"
                    " values ($1, $2, 'V', $3)",
                    self.id_of((product, variant)),
                    self.shop + product,
                    units,
                )

    def run(self, work: Awaitable[T]) -> T:
        async def waited() -> T:
            return await work

        return self.runner.run(waited())

    def sql(self, query: str, *values: object) -> Any:
        return self.run(self.connection.fetchval(query, *values))

    def id_of(self, key: Key) -> str | None:
        return None if key[1] is None else f"{self.shop}{key[0]}-{key[1]}"

    def cart(self, cart: list[Line]) -> str:
        return json.dumps(
            [
                {"productId": self.shop + k[0], "variantId": self.id_of(k), "quantity": units}
                for k, units in cart
            ]
        )

    def pay(self, payment: str | None) -> str | None:
        return None if payment is None else self.shop + payment

    def both(self, work: Any, query: str, *values: object) -> tuple[Any, Any]:
        """The model's and the database's answer; None, None where both refuse."""
        before = copy.deepcopy(self.model)
        expected: Any = None
        refused: str | None = None
        try:
            expected = work()
        except Refused as error:
            refused, self.model = str(error), before
        answer: Any = None
        raised: str | None = None
        try:
            answer = self.sql(query, *values)
        except asyncpg.PostgresError as error:
            raised = error.sqlstate
        assert raised == refused, (answer, raised, refused)
        if raised is not None:
            return None, None
        return expected, None if answer is None else json.loads(answer)

    @rule(target=tokens, checkout=CHECKOUTS, cart=CARTS, partial=st.booleans())
    def reserve(self, checkout: str, cart: list[Line], partial: bool) -> Any:
        name = f"new {len(self.model.holds)}"
        _, answer = self.both(
            lambda: self.model.reserve(name, checkout, lines_of(cart), partial),
            "select reserve_stock($1, $2, allow_partial => $3)",
            self.shop + checkout,
            self.cart(cart),
            partial,
        )
        if answer is None:
            return multiple()
        self.model.holds = {
            answer["token"] if token == name else token: hold
            for token, hold in self.model.holds.items()
        }
        held = self.model.holds[answer["token"]]
        assert sum(line["quantity"] for line in answer["lines"]) == sum(held.lines.values())
        assert answer["total"] == sum(n * held.prices[key] for key, n in held.lines.items())
        return answer["token"]

    @rule(
        target=tokens,
        product=st.sampled_from(list(SHOP)),
        carts=st.lists(
            st.tuples(CHECKOUTS, st.sampled_from([None, "s", "m"]), st.integers(1, 6)),
            min_size=1,
            max_size=4,
        ),
    )
    def reserve_together(self, product: str, carts: list[tuple[str, str | None, int]]) -> Any:
        """In turn: those of which there is enough, for checkouts that hold nothing."""
        answers = json.loads(
            self.sql(
                "select reserve_together($1, $2)",
                self.shop + product,
                json.dumps(
                    [
                        {
                            "checkoutToken": self.shop + checkout,
                            "variantId": self.id_of((product, variant)),
                            "quantity": units,
                        }
                        for checkout, variant, units in carts
                    ]
                ),
            )
        )
        tokens = []
        for (checkout, variant, units), answer in zip(carts, answers, strict=True):
            key = (product, variant)
            is_held = any(
                hold.status == "active" and hold.checkout == checkout
                for hold in self.model.holds.values()
            )
            is_sold_so = key in ARTICLES
            is_there = is_sold_so and self.model.granted({key: units}) == {key: units}
            assert (answer is not None) == (is_there and not is_held)
            if answer is not None:
                self.model.reserve(answer["token"], checkout, {key: units}, partial=False)
                tokens.append(answer["token"])
        return multiple(*tokens)

    @rule(token=tokens)
    def extend(self, token: str) -> None:
        self.both(
            lambda: self.model.extend(self.model.holds[token]),
            "select extend_reservation($1)",
            token,
        )

    @rule(token=tokens)
    def release(self, token: str) -> None:
        self.both(
            lambda: self.model.release(self.model.holds[token]),
            "select release_reservation($1)",
            token,
        )

    @rule(token=tokens)
    def time_passes(self, token: str) -> None:
        self.model.holds[token].overdue = True
        self.sql("update reservations set expires_at = now() where token = $1", token)

    @rule()
    def sweep(self) -> None:
        overdue = [h for h in self.model.holds.values() if h.status == "active" and h.overdue]
        for hold in overdue:
            self.model.end(hold, "expired")
        assert self.sql("select expire_reservations(1000)") == len(overdue)

    @rule(target=placed, token=tokens, payment=PAYMENTS, record=st.booleans())
    def complete(self, token: str, payment: str | None, record: bool) -> Any:
        return self.ordered(
            *self.both(
                lambda: self.model.complete(token, None, payment, record),
                "select complete_order(reservation => $1, payment => $2, record_shortfall => $3)",
                token,
                self.pay(payment),
                record,
            )
        )

    @rule(target=placed, cart=CARTS, payment=PAYMENTS, record=st.booleans())
    def buy(self, cart: list[Line], payment: str | None, record: bool) -> Any:
        return self.ordered(
            *self.both(
                lambda: self.model.complete(None, lines_of(cart), payment, record),
                "select complete_order(cart => $1, payment => $2, record_shortfall => $3)",
                self.cart(cart),
                self.pay(payment),
                record,
            )
        )

    def ordered(self, order: Order | None, answer: Any) -> Any:
        if order is None:
            return multiple()
        assert answer["status"] == order.status
        assert sum(x["filledQuantity"] for x in answer["lines"]) == sum(order.filled.values())
        assert answer["total"] == order.total
        is_known = answer["orderId"] in self.model.orders
        assert is_known == any(order is each for each in self.model.orders.values())
        self.model.orders[answer["orderId"]] = order
        return multiple() if is_known else answer["orderId"]

    @rule(order=placed)
    def cancel(self, order: int) -> None:
        self.both(
            lambda: self.model.close(self.model.orders[order], "cancelled", True),
            "select cancel_order($1)",
            order,
        )

    @rule(
        order=placed,
        restock=st.booleans(),
        cart=st.none() | CARTS,
        amount=st.none() | st.integers(1, 12),
    )
    def refund(
        self, order: int, restock: bool, cart: list[Line] | None, amount: int | None
    ) -> None:
        self.both(
            lambda: self.model.refund(
                self.model.orders[order],
                restock,
                None if cart is None else lines_of(cart),
                amount,
            ),
            "select refund_order($1, $2, null, $3, $4)",
            order,
            restock,
            None if cart is None else self.cart(cart),
            amount,
        )

    @rule(order=placed, place=st.integers(0, 3), restock=st.booleans(), units=st.integers(1, 3))
    def refund_of_a_line(self, order: int, place: int, restock: bool, units: int) -> None:
        lines = sorted(self.model.orders[order].lines, key=str)
        self.refund(order, restock, [(lines[place % len(lines)], units)], None)

    @rule(key=st.sampled_from(ROWS), price=st.none() | st.integers(1, 5))
    def change_price(self, key: Key, price: int | None) -> None:
        price = price if key[1] is not None else price or 1
        self.model.prices[key] = price
        self.sql(
            "select change_price($1, $2, $3, 'correction')",
            self.shop + key[0],
            self.id_of(key),
            price,
        )

    @rule(key=st.sampled_from(ROWS), change=st.integers(-6, 6))
    def adjust(self, key: Key, change: int) -> None:
        self.both(
            lambda: self.model.adjust(key, change),
            "select adjust_stock($1, $2, $3, 'count')",
            self.shop + key[0],
            self.id_of(key),
            change,
        )

    @rule(key=st.sampled_from(ROWS), stock=st.none() | st.integers(0, 8))
    def set_stock(self, key: Key, stock: int | None) -> None:
        self.both(
            lambda: self.model.set_stock(key, stock),
            "select set_stock($1, $2, $3, 'count')",
            self.shop + key[0],
            self.id_of(key),
            stock,
        )

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        rows = self.run(
            self.connection.fetch(
                "select id, max_quantity, sold_quantity, reserved_quantity from products"
                " where starts_with(id, $1) union all"
                " select id, max_quantity, sold_quantity, reserved_quantity from variants"
                " where starts_with(id, $1)",
                self.shop,
            )
        )
        assert {row[0]: tuple(row)[1:] for row in rows} == {
            self.id_of(key) or self.shop + key[0]: (row.max, row.sold, row.reserved)
            for key, row in self.model.rows.items()
        }

    @invariant()
    def orders_are_as_the_model_says(self) -> None:
        orders = self.run(
            self.connection.fetch(
                "select id, status, refunded_amount, (select sum(refunded_quantity) from"
                " order_lines where order_id = o.id) as units from orders o where id = any ($1)",
                list(self.model.orders),
            )
        )
        assert {row["id"]: tuple(row)[1:] for row in orders} == {
            number: (order.status, order.refunded_amount, sum(order.refunded.values()))
            for number, order in self.model.orders.items()
        }

    def teardown(self) -> None:
        try:
            self.run(assert_consistent(self.connection))
        finally:
            self.run(self.connection.close())
            self.runner.close()


def test_any_sequence_of_calls_does_what_a_plain_model_says(database_url: str) -> None:
    Selling.url = database_url
    run_state_machine_as_test(
        Selling,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
