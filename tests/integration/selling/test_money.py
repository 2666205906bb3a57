"""Money and goods never part silently: prices of holds, sums that differ, refunds that fail,
disputes, events that end in an error."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.carts import LAMP, SHIRT_S, overdue, reserve
from tests.support.shop import Quantities, Shop, row
from tests.support.stripe_events import NOBODYS, charge, event, open_alerts, outcome, send, session

COMPLETED = "checkout.session.completed"


def metric(api: Shop, what: str) -> float:
    return api.server.metric("payment_troubles_total", what=what)


async def price(api: Shop, product: str, cents: int) -> None:
    body = {"price": cents, "reason": "correction"}
    answer = await api.admin.post(f"/api/admin/products/{product}/price", json=body)
    assert answer.status_code == 200


async def order(api: Shop, number: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = (await api.backend.get(f"/api/orders/{number}")).json()["data"]
    return found


async def refund(api: Shop, number: int = 1, **body: Any) -> httpx.Response:
    return await api.backend.post(f"/api/orders/{number}/refund", json=body)


def money_back(id_: str = "re_1", status: str = "succeeded", **more: Any) -> dict[str, Any]:
    return {"id": id_, "payment_intent": "pi_1", "charge": "ch_1", "status": status, **more}


async def paid(api: Shop, *lines: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An order of these lines, paid by pi_1 with what they cost."""
    held = await reserve(api, *lines)
    amounts = {"amount_total": held["total"], "currency": "usd"}
    body = event(COMPLETED, "evt_paid", **{**session(held["token"]), **amounts, **more})
    assert await outcome(api, body) == "order completed"
    return await order(api)


class TestPrices:
    @pytest.mark.parametrize("lines", [(LAMP,), (LAMP, SHIRT_S)])  # alone it is held with others
    async def test_a_hold_says_its_prices_and_its_order_has_them_whatever_they_are_by_then(
        self, api: Shop, lines: tuple[dict[str, Any], ...]
    ) -> None:
        held = await reserve(api, *lines)
        assert held["lines"][0]["unitPrice"] == 4000
        assert held["total"] == 8000 + 2500 * (len(lines) - 1)
        await price(api, "lamp", 4500)
        path = f"/api/reservations/{held['token']}"
        extended = (await api.shopper.post(f"{path}/extend")).json()["data"]
        assert (extended["total"], extended["lines"][0]["unitPrice"]) == (held["total"], 4000)
        body = event(
            COMPLETED, **session(held["token"]), amount_total=held["total"], currency="usd"
        )
        assert await outcome(api, body) == "order completed"
        placed = await order(api)
        assert (placed["lines"][0]["unitPrice"], placed["total"]) == (4000, held["total"])
        assert (placed["amount"], placed["currency"]) == (held["total"], "USD")
        assert await open_alerts(api, "payment") == []
        assert (await api.shopper.get(path)).json()["data"]["total"] == held["total"]

    async def test_a_payment_after_the_holds_end_has_the_holds_price(self, api: Shop) -> None:
        held = await reserve(api, LAMP)
        await overdue(api, held["token"])
        await api.connection.fetchval("select expire_reservations()")
        await price(api, "lamp", 1)
        await outcome(api, event(COMPLETED, **session(held["token"]), amount_total=8000))
        assert (await order(api))["total"] == 8000
        assert await open_alerts(api, "payment") == []

    async def test_a_hold_that_is_made_anew_has_the_price_of_then_and_so_has_a_direct_order(
        self, api: Shop
    ) -> None:
        await reserve(api, LAMP)
        await price(api, "lamp", 4500)
        assert (await reserve(api, LAMP, SHIRT_S))["total"] == 9000 + 2500
        bought = await api.backend.post("/api/orders", json={"lines": [LAMP]})
        assert bought.json()["data"]["total"] == 9000

    async def test_a_hold_of_the_release_before_has_the_price_of_now(self, api: Shop) -> None:
        held = await reserve(api, LAMP)
        await api.connection.execute("update reservation_lines set unit_price = null")
        await price(api, "lamp", 4500)
        found = (await api.shopper.get(f"/api/reservations/{held['token']}")).json()["data"]
        assert found["total"] == 9000
        await outcome(api, event(COMPLETED, **session(held["token"])))
        assert (await order(api))["total"] == 9000

    async def test_a_partial_holds_total_is_of_what_is_held(self, api: Shop) -> None:
        held = await reserve(api, {"productId": "lamp", "quantity": 12}, allowPartial=True)
        assert held["total"] == 40_000


class TestAmounts:
    @pytest.mark.parametrize(
        "amounts",
        [
            {"amount_total": 8000, "currency": "usd"},
            {"amount_total": 9500, "amount_subtotal": 8000, "currency": "usd"},
            {"amount_total": 7000, "amount_subtotal": 8000, "currency": "USD"},
            {
                "amount_total": 8600,
                "total_details": {
                    "amount_shipping": 500,
                    "amount_tax": 300,
                    "amount_discount": 200,
                },
            },
            {"amount_total": "8000"},
            {"amount_total": True},
            {"amount_total": -1},
            {"amount_total": None, "currency": 7},
        ],
    )
    async def test_what_was_paid_fits_with_tax_shipping_and_discount(
        self, api: Shop, amounts: dict[str, Any]
    ) -> None:
        held = await reserve(api, LAMP)
        body = event(COMPLETED, **session(held["token"]), **amounts)
        assert await outcome(api, body) == "order completed"
        assert await open_alerts(api, "payment") == []

    @pytest.mark.parametrize(
        ("amounts", "words"),
        [
            ({"amount_total": 1, "currency": "usd"}, "costs 80.00 USD, but 0.01 USD was paid"),
            ({"amount_total": 8000, "currency": "jpy"}, "costs 80.00 USD, but 8000 JPY was paid"),
            (
                {"amount_total": 9000, "amount_subtotal": 7000, "currency": "usd"},
                "costs 80.00 USD, but 90.00 USD was paid, 70.00 USD of it for the goods",
            ),
        ],
    )
    async def test_another_sum_or_currency_makes_the_order_and_an_alert_with_both(
        self, api: Shop, quantities: Quantities, amounts: dict[str, Any], words: str
    ) -> None:
        held = await reserve(api, LAMP)
        body = event(COMPLETED, **session(held["token"]), **amounts)
        assert await outcome(api, body) == "order completed"
        assert await quantities("lamp") == (2, 0)
        placed = await order(api)
        assert (placed["status"], placed["amount"]) == ("paid", amounts["amount_total"])
        assert await open_alerts(api, "payment") == [("order 1", f"Order 1 {words} (pi_1)")]
        assert metric(api, "amount") == 1
        await outcome(api, event("charge.refunded", "evt_2", **charge()))
        assert await open_alerts(api, "payment") == []

    async def test_the_alert_of_too_much_closes_when_the_rest_has_gone_back(
        self, api: Shop
    ) -> None:
        held = await reserve(api, LAMP)
        await outcome(api, event(COMPLETED, **session(held["token"]), amount_total=9000))
        for amount, is_open in ((400, True), (600, False)):
            assert (await refund(api, amount=amount)).status_code == 200
            assert bool(await open_alerts(api, "payment")) == is_open
        assert (await order(api))["status"] == "paid"

    @pytest.mark.settings(currency="jpy")
    async def test_yen_have_no_cents(self, api: Shop) -> None:
        held = await reserve(api, LAMP)
        body = event(COMPLETED, **session(held["token"]), amount_total=80, currency="jpy")
        await outcome(api, body)
        ((_, message),) = await open_alerts(api, "payment")
        assert message.startswith("Order 1 costs 8000 JPY, but 80 JPY was paid")

    async def test_an_intent_without_metadata_is_compared_with_its_order(self, api: Shop) -> None:
        def intent(amount: int) -> dict[str, Any]:
            return {"id": "pi_1", "amount_received": amount, "currency": "usd", "metadata": {}}

        kind = "payment_intent.succeeded"
        assert await outcome(api, event(kind, "evt_0", **intent(1))) == (
            "names no reservation of ours"
        )
        await api.backend.post("/api/orders", json={"lines": [LAMP], "paymentReference": "pi_1"})
        assert (
            await outcome(api, event(kind, "evt_1", **intent(1))) == "order paid with another sum"
        )
        assert [source for source, _ in await open_alerts(api, "payment")] == ["order 1"]
        assert await outcome(api, event(kind, "evt_2", **intent(8000))) == "order paid"
        assert await open_alerts(api, "payment") == []

    async def test_an_intent_of_a_session_with_shipping_says_nothing_new(self, api: Shop) -> None:
        await paid(api, LAMP, amount_total=9000, amount_subtotal=8000)
        intent: dict[str, Any] = {"id": "pi_1", "amount_received": 9000, "currency": "usd"}
        assert await outcome(api, event("payment_intent.succeeded", **intent)) == "order paid"
        assert await open_alerts(api, "payment") == []

    async def test_an_intent_that_names_its_reservation_completes_it(
        self, api: Shop, quantities: Quantities
    ) -> None:
        held = await reserve(api, LAMP)
        intent: dict[str, Any] = {
            "id": "pi_1",
            "amount_received": 8000,
            "currency": "usd",
            "metadata": {"reservation_token": held["token"]},
        }
        body = event("payment_intent.succeeded", **intent)
        assert await outcome(api, body) == "order completed"
        assert await quantities("lamp") == (2, 0)

    async def test_a_backend_may_say_what_was_paid(self, api: Shop) -> None:
        body = {"lines": [LAMP], "amount": 9000, "goodsAmount": 8000, "currency": "usd"}
        placed = (await api.backend.post("/api/orders", json=body)).json()["data"]
        assert (placed["amount"], placed["currency"], placed["total"]) == (9000, "USD", 8000)
        assert await open_alerts(api, "payment") == []
        await api.backend.post("/api/orders", json={"lines": [LAMP], "amount": 1})
        assert [source for source, _ in await open_alerts(api, "payment")] == ["order 2"]
        assert metric(api, "amount") == 1
        for wrong in ({"amount": -1}, {"amount": 1, "currency": "dollars"}, {"currency": "usd"}):
            answer = await api.backend.post("/api/orders", json={"lines": [LAMP], **wrong})
            assert answer.json()["error"]["code"] == "invalid_request", wrong


class TestPartialRefunds:
    async def test_units_go_back_on_the_shelf_or_are_lost(
        self, api: Shop, quantities: Quantities
    ) -> None:
        await paid(api, {**LAMP, "quantity": 5}, SHIRT_S)
        one = {"productId": "lamp", "quantity": 1}
        answer = (await refund(api, lines=[one])).json()["data"]
        assert (answer["status"], answer["refundedAmount"]) == ("paid", 4000)
        assert (answer["lines"][0]["filledQuantity"], answer["lines"][0]["refundedQuantity"]) == (
            4,
            1,
        )
        assert await quantities("lamp") == (4, 0)
        lost = (await refund(api, lines=[{**one, "quantity": 2}], restock=False)).json()["data"]
        assert lost["refundedAmount"] == 12_000
        assert await quantities("lamp") == (4, 0)
        too_many = await refund(api, lines=[{**one, "quantity": 3}])
        assert too_many.json()["error"]["details"] == {
            "field": "lines",
            "expected": "at most the units of the order that are not refunded: 2 of lamp",
        }
        assert (await refund(api, lines=[{"productId": "book", "quantity": 1}])).status_code == 400
        # What is left goes back; what was lost stays sold.
        whole = (await refund(api)).json()["data"]
        assert (whole["status"], whole["refundedAmount"]) == ("refunded", 22_500)
        assert await quantities("lamp") == (2, 0)
        assert await quantities("shirt-s") == (0, 0)
        again = await refund(api, lines=[one])
        assert (again.status_code, again.json()["error"]["code"]) == (409, "order_conflict")

    async def test_all_units_one_after_the_other_refund_the_order(
        self, api: Shop, quantities: Quantities
    ) -> None:
        await paid(api, LAMP)
        one = {"productId": "lamp", "quantity": 1}
        statuses = [(await refund(api, lines=[one])).json()["data"]["status"] for _ in range(2)]
        assert statuses == ["paid", "refunded"]
        assert await quantities("lamp") == (0, 0)

    async def test_an_amount_is_money_only_until_all_of_it_has_gone_back(
        self, api: Shop, quantities: Quantities
    ) -> None:
        await paid(api, LAMP)
        assert (await refund(api, amount=3000)).json()["data"]["refundedAmount"] == 3000
        assert await quantities("lamp") == (2, 0)
        more = await refund(api, amount=5001)
        assert more.json()["error"]["details"]["expected"] == "a whole number from 1 to 5000"
        assert (await refund(api, amount=5000)).json()["data"]["status"] == "refunded"
        assert await quantities("lamp") == (0, 0)

    async def test_units_cost_their_part_of_what_was_paid(self, api: Shop) -> None:
        await paid(api, LAMP, amount_total=4000, amount_subtotal=8000)  # half price
        answer = await refund(api, lines=[{"productId": "lamp", "quantity": 1}])
        assert answer.json()["data"]["refundedAmount"] == 2000
        assert answer.json()["data"]["status"] == "paid"

    async def test_what_an_order_waits_for_is_refunded_first_and_waited_for_no_more(
        self, api: Shop, quantities: Quantities
    ) -> None:
        wanted = {"lines": [{"productId": "lamp", "quantity": 12}], "onShortage": "record"}
        await api.backend.post("/api/orders", json={**wanted, "paymentReference": "pi_1"})
        assert len(await open_alerts(api, "shortfall")) == 1
        answer = await refund(api, lines=[{"productId": "lamp", "quantity": 2}])
        assert answer.json()["data"]["status"] == "paid"
        assert await quantities("lamp") == (10, 0)
        assert await open_alerts(api, "shortfall") == []

    async def test_a_refund_of_one_name_counts_once_whoever_tells_of_it(
        self, api: Shop, quantities: Quantities
    ) -> None:
        await paid(api, LAMP)
        event_ = event("refund.created", "evt_2", **money_back(amount=4000))
        assert await outcome(api, event_) == "a part was refunded"
        assert await quantities("lamp") == (2, 0)
        body: dict[str, Any] = {"lines": [{**LAMP, "quantity": 1}], "refundReference": "re_1"}
        for _ in range(2):
            answer = (await refund(api, **body)).json()["data"]
            assert (answer["refundedAmount"], answer["status"]) == (4000, "paid")
            assert await quantities("lamp") == (1, 0)
        part = {**charge(all_of_it=False), "amount_refunded": 4000}
        await outcome(api, event("charge.refunded", "evt_3", **part))
        assert (await order(api))["refundedAmount"] == 4000
        await api.backend.post("/api/orders", json={"lines": [LAMP]})
        other = await refund(api, 2, amount=1, refundReference="re_1")
        assert (other.status_code, other.json()["error"]["details"]) == (409, {"orderId": 1})

    async def test_a_cancelled_order_gives_nothing_back_again(
        self, api: Shop, quantities: Quantities
    ) -> None:
        await paid(api, {**LAMP, "quantity": 4})
        await refund(api, lines=[LAMP], restock=False)
        await api.backend.post("/api/orders/1/cancel")
        assert await quantities("lamp") == (2, 0)
        assert (await refund(api)).json()["data"]["status"] == "refunded"
        assert await quantities("lamp") == (2, 0)


class TestRefundsOfTheProvider:
    async def test_amounts_sum_up_to_all_of_it_in_any_order(
        self, api: Shop, quantities: Quantities
    ) -> None:
        await paid(api, LAMP)
        for number, (at, amount, sum_) in enumerate(((20, 5000, 5000), (10, 3000, 5000))):
            part = {**charge(all_of_it=False), "amount_refunded": amount}
            await outcome(api, event("charge.refunded", f"evt_{number}", created=at, **part))
            assert (await order(api))["refundedAmount"] == sum_
        whole = {**charge(), "amount_refunded": 8000}
        assert await outcome(api, event("charge.refunded", "evt_9", created=30, **whole)) == (
            "order refunded"
        )
        assert await quantities("lamp") == (0, 0)

    @pytest.mark.parametrize("kind", ["charge.refunded", "refund.created"])
    @pytest.mark.parametrize(
        ("said", "sold"), [({}, 0), ({"restock": "true"}, 0), ({"restock": "false"}, 2)]
    )
    async def test_metadata_say_whether_goods_go_back_on_sale(
        self, api: Shop, quantities: Quantities, kind: str, said: dict[str, str], sold: int
    ) -> None:
        await paid(api, LAMP)
        thing = charge() if kind == "charge.refunded" else money_back(amount=8000)
        body = event(kind, "evt_2", **thing, metadata=said)
        assert await outcome(api, body) == "order refunded"
        assert await quantities("lamp") == (sold, 0)

    @pytest.mark.parametrize(("sold_on", "left"), [(0, 2), (9, 1)])
    async def test_a_refund_whose_goods_are_lost_may_come_after_its_charge(
        self, api: Shop, quantities: Quantities, sold_on: int, left: int
    ) -> None:
        await paid(api, LAMP)
        await outcome(api, event("charge.refunded", "evt_2", **charge()))
        assert await quantities("lamp") == (0, 0)
        if sold_on:
            more = {"lines": [{"productId": "lamp", "quantity": sold_on}]}
            assert (await api.backend.post("/api/orders", json=more)).status_code == 201
        lost = money_back(amount=8000, metadata={"restock": "false"})
        for number, kind in enumerate(("refund.created", "refund.updated"), 3):
            await outcome(api, event(kind, f"evt_{number}", **lost))
            assert await quantities("lamp") == (sold_on + left, 0)
        messages = [message for _, message in await open_alerts(api, "payment")]
        assert ["are sold or held: 1" in each for each in messages] == [True] * (2 - left)

    async def test_a_charge_that_lists_its_refunds_has_the_newest_ones_word(
        self, api: Shop, quantities: Quantities
    ) -> None:
        await paid(api, LAMP)
        listed = {"data": [money_back(metadata={"restock": "false"}), money_back("re_0"), 7]}
        await outcome(api, event("charge.refunded", "evt_2", **charge(), refunds=listed))
        assert await quantities("lamp") == (2, 0)

    @pytest.mark.settings(refund_restocks=False)
    async def test_goods_may_come_back_after_all(self, api: Shop, quantities: Quantities) -> None:
        await paid(api, LAMP)
        await outcome(api, event("charge.refunded", "evt_2", **charge()))
        assert await quantities("lamp") == (2, 0)
        back = money_back(amount=8000, metadata={"restock": "true"})
        await outcome(api, event("refund.created", "evt_3", **back))
        assert await quantities("lamp") == (0, 0)

    @pytest.mark.settings(refund_restocks=False)
    @pytest.mark.parametrize(("said", "sold"), [({}, 2), ({"restock": "true"}, 0)])
    async def test_the_setting_says_what_happens_without(
        self, api: Shop, quantities: Quantities, said: dict[str, str], sold: int
    ) -> None:
        await paid(api, LAMP)
        await outcome(api, event("charge.refunded", "evt_2", **charge(), metadata=said))
        assert await quantities("lamp") == (sold, 0)

    async def test_metadata_may_name_units(self, api: Shop, quantities: Quantities) -> None:
        await paid(api, {**LAMP, "quantity": 4})
        for number, restock in enumerate(("true", "false"), 1):
            said = {"lines": '[{"productId": "lamp", "quantity": 1}]', "restock": restock}
            back = money_back(f"re_{number}", amount=4000, metadata=said)
            kinds = ("refund.created", "refund.updated")
            for kind in kinds:
                body = event(kind, f"evt_{kind}_{number}", **back)
                assert await outcome(api, body) == "a part was refunded"
            assert await quantities("lamp") == (3, 0)
        wrong = money_back("re_3", amount=1, metadata={"lines": "[{"})
        assert await outcome(api, event("refund.created", "evt_3", **wrong)) == (
            "a part was refunded"
        )
        assert (await order(api))["refundedAmount"] == 8001

    @pytest.mark.parametrize("kind", ["refund.failed", "charge.refund.updated"])
    async def test_a_refund_that_fails_alerts_until_as_much_has_gone_back(
        self, api: Shop, kind: str
    ) -> None:
        await paid(api, LAMP)
        await outcome(api, event("charge.refunded", "evt_2", **charge()))
        failed = money_back(status="failed", amount=8000, currency="usd", failure_reason="declined")
        assert await outcome(api, event(kind, "evt_3", **failed)) == "refund failed"
        assert await open_alerts(api, "payment") == [
            (
                "re_1",
                "The refund re_1 of 80.00 USD (pi_1 of order 1) has failed, declined: the money has"
                " not gone back",
            )
        ]
        assert metric(api, "refund_failed") == 1
        assert (await order(api))["refundedAmount"] == 0
        # Told once: when somebody has seen it, another word of it opens nothing.
        other = "refund.updated"
        assert await outcome(api, event(other, "evt_4", **failed)) == "refund failed"
        assert len(await open_alerts(api, "payment")) == 1
        assert (await refund(api, refundReference="re_2")).json()["data"]["refundedAmount"] == 8000
        assert await open_alerts(api, "payment") == []

    async def test_a_refund_that_fails_without_an_amount_is_of_all(self, api: Shop) -> None:
        await paid(api, LAMP)
        await outcome(api, event("charge.refunded", "evt_2", **charge()))
        await outcome(api, event("refund.failed", "evt_3", **money_back(status="failed")))
        assert [source for source, _ in await open_alerts(api, "payment")] == ["re_1"]
        assert (await order(api))["refundedAmount"] == 0

    async def test_a_payment_for_nothing_whose_refund_fails_alerts_again(self, api: Shop) -> None:
        await outcome(api, event(COMPLETED, **session(NOBODYS)))
        await outcome(api, event("charge.refunded", "evt_2", **charge()))
        assert await open_alerts(api, "payment") == []
        body = event("refund.failed", "evt_3", **money_back(status="failed", amount=1))
        assert await outcome(api, body) == "refund failed"
        assert [source for source, _ in await open_alerts(api, "payment")] == ["re_1"]

    async def test_a_refund_waits_for_an_order_that_the_backend_makes_too(
        self, api: Shop, quantities: Quantities
    ) -> None:
        body = event("refund.created", **money_back(amount=4000))
        assert await outcome(api, body) == "refund waits for its order"
        wanted = {"lines": [LAMP], "paymentReference": "pi_1"}
        placed = (await api.backend.post("/api/orders", json=wanted)).json()["data"]
        assert (placed["status"], placed["refundedAmount"]) == ("paid", 4000)


def dispute(status: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "dp_1",
        "charge": "ch_1",
        "payment_intent": "pi_1",
        "amount": 8000,
        "currency": "usd",
        "reason": "fraudulent",
        "status": status,
        **more,
    }


class TestDisputes:
    @pytest.mark.parametrize("end", ["won", "warning_closed", "lost"])
    async def test_a_dispute_alerts_until_it_is_won(self, api: Shop, end: str) -> None:
        await paid(api, LAMP)
        body = event("charge.dispute.created", "evt_2", **dispute("needs_response"))
        assert await outcome(api, body) == "dispute open"
        assert await open_alerts(api, "payment") == [
            ("dp_1", "80.00 USD (pi_1 of order 1) is disputed, fraudulent")
        ]
        await outcome(api, event("charge.dispute.closed", "evt_3", **dispute(end)))
        messages = [message for _, message in await open_alerts(api, "payment")]
        if end == "lost":
            assert messages == [
                "80.00 USD (pi_1 of order 1) is gone: the dispute is lost, fraudulent"
            ]
        else:
            assert messages == []
        assert (metric(api, "dispute"), metric(api, "dispute_lost")) == (1, end == "lost")

    async def test_a_dispute_waits_for_its_order_and_strangers_stay_quiet(self, api: Shop) -> None:
        body = event("charge.dispute.created", **dispute("needs_response"))
        assert await outcome(api, body) == "dispute waits for its order"
        assert await open_alerts(api, "payment") == []
        await api.backend.post("/api/orders", json={"lines": [LAMP], "paymentReference": "pi_1"})
        assert [source for source, _ in await open_alerts(api, "payment")] == ["dp_1"]

    async def test_the_end_may_come_before_the_beginning(self, api: Shop) -> None:
        await paid(api, LAMP)
        await outcome(api, event("charge.dispute.closed", "evt_3", **dispute("won")))
        await outcome(api, event("charge.dispute.created", "evt_2", **dispute("needs_response")))
        assert await open_alerts(api, "payment") == []


class TestOtherCheckouts:
    @pytest.mark.parametrize(
        "names",
        [
            {"client_reference_id": "user_42", "metadata": None},
            {"client_reference_id": None, "metadata": {"reservation_token": "cart 7"}},
            {"client_reference_id": "cus_1", "metadata": {"order": "9"}},
        ],
    )
    @pytest.mark.parametrize("kind", [COMPLETED, "checkout.session.expired"])
    async def test_they_stay_quiet(
        self,
        api: Shop,
        names: dict[str, Any],
        kind: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        body = event(kind, **{**session(""), **names}, amount_total=1)
        assert await outcome(api, body) == "names no reservation of ours"
        for number, other in enumerate(("charge.refunded", "charge.dispute.created"), 2):
            await outcome(api, event(other, f"evt_{number}", **{**dispute("x"), "refunded": True}))
        assert await open_alerts(api, "payment") == []
        assert not [each for each in caplog.records if each.levelname == "ERROR"]

    async def test_a_token_of_ours_beside_another_name_counts(self, api: Shop) -> None:
        held = await reserve(api, LAMP)
        names = {"client_reference_id": held["token"], "metadata": {"reservation_token": "cart"}}
        body = event(COMPLETED, **{**session(""), **names})
        assert await outcome(api, body) == "order completed"


class TestErrors:
    async def test_an_event_that_fails_alerts_until_it_is_dealt_with(
        self, api: Shop, quantities: Quantities
    ) -> None:
        held = await reserve(api, LAMP)
        await api.connection.execute(
            "alter table orders add constraint none check (payment_reference <> 'pi_1')"
        )
        body = event(COMPLETED, **session(held["token"]))
        answers = [await send(api, body, at=None) for _ in range(2)]
        assert {each.status_code for each in answers} == {409}
        ((source, message),) = await open_alerts(api, "payment")
        assert source == "evt_1"
        assert message.startswith(
            "The event checkout.session.completed of pi_1 ended in an error (impossible_change)"
        )
        failures = {"type": COMPLETED, "reason": "impossible_change"}
        assert api.server.metric("webhook_failures_total", **failures) == 2
        assert api.server.metric("webhooks_total", result="failed") == 2
        assert metric(api, "webhook_failed") == 2
        await api.connection.execute("alter table orders drop constraint none")
        assert await outcome(api, body) == "order completed"
        assert await open_alerts(api, "payment") == []
        assert await quantities("lamp") == (2, 0)

    @pytest.mark.parametrize(
        ("code", "status", "reason"),
        [("53100", 503, "database_unavailable"), ("23514", 409, "impossible_change")],
    )
    @pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}])
    async def test_an_order_that_fails_after_its_payment_alerts_until_it_is_made(
        self, api: Shop, code: str, status: int, reason: str, headers: dict[str, str]
    ) -> None:
        await api.connection.execute(
            "create function fail() returns trigger language plpgsql as"
            f" $$ begin raise exception 'no' using errcode = '{code}'; end $$;"
            " create trigger fail before insert on orders for each row execute function fail()"
        )
        wanted = {"lines": [LAMP], "paymentReference": "pi_1"}
        failed = await api.backend.post("/api/orders", json=wanted, headers=headers)
        assert failed.status_code == status
        ((source, message),) = await open_alerts(api, "payment")
        assert source == "order for pi_1"
        assert f"({reason})" in message
        assert metric(api, "order_failed") == 1
        await api.connection.execute("drop trigger fail on orders")
        assert (await api.backend.post("/api/orders", json=wanted)).status_code == 201
        assert await open_alerts(api, "payment") == []

    async def test_an_order_that_is_refused_is_no_alert(self, api: Shop) -> None:
        wanted = {"lines": [{**LAMP, "quantity": 99}], "paymentReference": "pi_1"}
        assert (await api.backend.post("/api/orders", json=wanted)).status_code == 409
        assert await open_alerts(api, "payment") == []

    @pytest.mark.settings(stripe_webhook_secret="whsec_old, whsec_new")
    async def test_two_secrets_are_good_while_one_is_replaced(self, api: Shop) -> None:
        for number, secret in enumerate(("whsec_old", "whsec_new", "whsec_other")):
            body = event("invoice.paid", f"evt_{number}", id="in_1")
            answer = await send(api, body, secret=secret)
            assert answer.status_code == (400 if secret == "whsec_other" else 200)


async def test_a_late_payer_keeps_a_newer_hold_that_has_nothing_of_what_is_short(
    api: Shop, quantities: Quantities
) -> None:
    first = await reserve(api, {"productId": "lamp", "quantity": 6})
    newer = await reserve(api, SHIRT_S)
    await reserve(api, {"productId": "lamp", "quantity": 8}, checkout="another")
    assert await outcome(api, event(COMPLETED, **session(first["token"]))) == (
        "order short of stock"
    )
    assert (await api.shopper.get(f"/api/reservations/{newer['token']}")).status_code == 200
    assert await quantities("shirt-s") == (0, 1)


async def test_any_order_of_reports_ends_the_same(api: Shop) -> None:
    """A payment, two partial refunds and their sums, one that fails, a dispute: each as Stripe
    dates it, shuffled, some of them twice."""
    await api.connection.execute("update products set max_quantity = 100000 where id = 'lamp'")
    part = {"refunded": False, "id": "ch"}
    reports: list[tuple[str, int, dict[str, Any]]] = [
        ("refund.created", 10, {"id": "re_a", "amount": 1000, "status": "pending"}),
        ("charge.refunded", 10, {**part, "amount_refunded": 1000}),
        ("refund.updated", 11, {"id": "re_a", "amount": 1000, "status": "succeeded"}),
        ("refund.created", 20, {"id": "re_b", "amount": 3000, "status": "pending"}),
        ("charge.refunded", 20, {**part, "amount_refunded": 4000}),
        ("refund.failed", 30, {"id": "re_b", "amount": 3000, "status": "failed"}),
        ("charge.dispute.created", 40, {"id": "dp", "amount": 1, "status": "needs_response"}),
        ("charge.dispute.closed", 50, {"id": "dp", "amount": 1, "status": "won"}),
    ]
    runs = 0

    async def run(deliveries: list[int], payment_at: int) -> None:
        nonlocal runs
        runs += 1
        name = f"pi_{runs}"
        held = await reserve(api, LAMP, checkout=name)
        body = {**session(held["token"], intent=name), "amount_total": 8000}
        steps: list[tuple[str, int, dict[str, Any]]] = [reports[each] for each in deliveries]
        steps.insert(payment_at, (COMPLETED, 1, body))
        for number, (kind, at, thing) in enumerate(steps):
            given_ = {"payment_intent": name, **thing}
            if "id" in thing and kind != COMPLETED:
                given_["id"] = f"{thing['id']}_{runs}"
            await outcome(api, event(kind, f"evt_{runs}_{number}", created=at, **given_))
        found = await row(
            api.connection,
            "select id, status, refunded_amount from orders where payment_reference = $1",
            name,
        )
        assert found[1:] == ("paid", 1000)
        alerts = [source for source, _ in await open_alerts(api, "payment")]
        assert alerts == [f"re_b_{runs}"]
        await api.connection.execute(
            "update stock_alerts set closed_at = now() where closed_at is null"
        )

    examples: list[tuple[list[int], int]] = []

    @settings(
        max_examples=25,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.permutations(range(len(reports))),
        st.lists(st.integers(0, len(reports) - 1), max_size=3),
        st.integers(0, len(reports)),
    )
    def collect(order_: list[int], twice: list[int], payment_at: int) -> None:
        examples.append(([*order_, *twice], payment_at))

    collect()
    for deliveries, payment_at in examples:
        await run(deliveries, payment_at)


def test_events_are_written_as_stripe_writes_them() -> None:
    assert json.loads(event("t", "e", created=7, id="x"))["created"] == 7
