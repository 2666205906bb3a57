"""Orders and Stripe's webhook: sold once, whoever says so, and nothing paid is lost."""

import asyncio
import json
import time
from typing import Any

import pytest
import stripe

from tests.support.carts import LAMP, SHIRT_S, overdue, reserve
from tests.support.shop import WEBHOOK_SECRET, Quantities, Shop, bearer, row
from tests.support.stripe_events import NOBODYS, charge, event, open_alerts, outcome, send, session


async def test_a_reservation_becomes_an_order_once(api: Shop, quantities: Quantities) -> None:
    held = await reserve(api, LAMP, SHIRT_S)
    wanted = {"reservationToken": held["token"], "paymentReference": "pi_1"}
    answers = [await api.backend.post("/api/orders", json=wanted) for _ in range(3)]
    assert [each.status_code for each in answers] == [201] * 3
    assert len({each.json()["data"]["orderId"] for each in answers}) == 1
    order = answers[0].json()["data"]
    assert order["status"] == "paid"
    assert [(x["productId"], x["filledQuantity"], x["unitPrice"]) for x in order["lines"]] == [
        ("lamp", 2, 4000),
        ("shirt", 1, 2500),
    ]
    assert await quantities("lamp") == (2, 0)
    assert await quantities("shirt") == (1, 0)
    assert await quantities("shirt-s") == (1, 0)
    actors = await api.connection.fetch(
        "select distinct actor, reference from inventory_log where operation = 'sale'"
    )
    assert [tuple(each) for each in actors] == [("the shop", f"order {order['orderId']}")]


async def test_a_cart_is_bought_directly_and_its_payment_is_one_order(
    api: Shop, quantities: Quantities
) -> None:
    wanted = {"lines": [LAMP, {**SHIRT_S, "variantId": "shirt-m"}], "paymentReference": "pi_1"}
    first = await api.backend.post("/api/orders", json=wanted)
    again = await api.backend.post("/api/orders", json=wanted)
    assert first.json() == again.json()
    assert first.json()["data"]["lines"][1]["unitPrice"] == 2700
    assert await quantities("lamp") == (2, 0)
    other = await api.backend.post("/api/orders", json={**wanted, "lines": [LAMP]})
    assert (other.status_code, other.json()["error"]["code"]) == (409, "order_conflict")
    short = await api.backend.post(
        "/api/orders", json={"lines": [{"productId": "lamp", "quantity": 9}]}
    )
    assert (short.status_code, short.json()["error"]["code"]) == (409, "insufficient_stock")


async def test_a_second_payment_for_one_reservation_is_refused_with_its_order(api: Shop) -> None:
    held = await reserve(api, LAMP)
    for payment, status in (("pi_1", 201), ("pi_2", 409)):
        answer = await api.backend.post(
            "/api/orders", json={"reservationToken": held["token"], "paymentReference": payment}
        )
        assert answer.status_code == status
    assert answer.json()["error"]["details"] == {"orderId": 1}


async def test_a_payment_after_the_holds_end_takes_from_stock_again(
    api: Shop, quantities: Quantities
) -> None:
    held = await reserve(api, LAMP)
    await overdue(api, held["token"])
    await api.connection.fetchval("select expire_reservations()")
    assert await quantities("lamp") == (0, 0)
    assert await outcome(api, event("checkout.session.completed", **session(held["token"]))) == (
        "order completed"
    )
    assert await quantities("lamp") == (2, 0)


async def test_a_payment_that_cannot_be_filled_is_a_shortfall_with_an_alert(
    api: Shop, quantities: Quantities
) -> None:
    held = await reserve(api, {"productId": "lamp", "quantity": 4})
    await overdue(api, held["token"])
    await reserve(api, {"productId": "lamp", "quantity": 9}, checkout="another")
    refused = await api.backend.post("/api/orders", json={"reservationToken": held["token"]})
    assert refused.status_code == 409
    assert await outcome(api, event("checkout.session.completed", **session(held["token"]))) == (
        "order short of stock"
    )
    assert await quantities("lamp") == (1, 9)
    assert await row(api.connection, "select status from orders") == ("shortfall",)
    product, closed, message = await row(
        api.connection,
        "select product_id, closed_at, message from stock_alerts where level = 'shortfall'",
    )
    assert (product, closed) == ("lamp", None)
    assert "3 of 4" in message
    # Another one has an alert of its own.
    other = await api.backend.post(
        "/api/orders",
        json={"lines": [LAMP], "paymentReference": "pi_2", "onShortage": "record"},
    )
    number = other.json()["data"]["orderId"]
    alerts = await open_alerts(api, "shortfall")
    assert alerts[0] == (
        f"order {number}",
        f"Order {number} is paid, but 2 of 2 could not be taken from stock",
    )
    assert [each for _, each in alerts[1:]] == [message]
    # Stock comes in, and the payment is reported again.
    await api.connection.execute("select adjust_stock('lamp', null, 20, 'received')")
    filled = await api.backend.post(
        "/api/orders", json={"reservationToken": held["token"], "paymentReference": "pi_1"}
    )
    assert filled.json()["data"]["status"] == "paid"
    assert await open_alerts(api, "shortfall") == alerts[:1]
    await api.backend.post(f"/api/orders/{number}/cancel")
    assert await open_alerts(api, "shortfall") == []
    assert await quantities("lamp") == (4, 9)


async def test_a_late_payer_is_not_blocked_by_his_own_newer_hold(
    api: Shop, quantities: Quantities
) -> None:
    first = await reserve(api, {"productId": "lamp", "quantity": 6})
    await reserve(api, {"productId": "lamp", "quantity": 6})
    assert await outcome(api, event("checkout.session.completed", **session(first["token"]))) == (
        "order completed"
    )
    assert await quantities("lamp") == (6, 0)


async def test_a_late_payer_keeps_his_newer_hold_where_there_is_enough_for_both(
    api: Shop, quantities: Quantities
) -> None:
    first = await reserve(api, {"productId": "lamp", "quantity": 4})
    newer = await reserve(api, {"productId": "lamp", "quantity": 5})
    assert await outcome(api, event("checkout.session.completed", **session(first["token"]))) == (
        "order completed"
    )
    assert await quantities("lamp") == (4, 5)
    assert (await api.shopper.get(f"/api/reservations/{newer['token']}")).status_code == 200


async def test_an_event_takes_no_lock_that_could_be_the_sleeping_sources(api: Shop) -> None:
    """Locks of one key are the source's and the imports'; a payment's name could hash to any."""
    await api.connection.execute(
        """
        create function look_at_locks() returns trigger language plpgsql as $$
        begin
            if exists (select from pg_locks where locktype = 'advisory' and objsubid = 1
                                              and pid = pg_backend_pid()) then
                raise exception 'a lock of one key';
            end if;
            return null;
        end $$;
        create trigger look after insert on webhook_events
            for each row execute function look_at_locks();
        """
    )
    held = await reserve(api, LAMP)
    assert await outcome(api, event("checkout.session.completed", **session(held["token"]))) == (
        "order completed"
    )


async def test_browser_and_webhook_complete_one_order(api: Shop, quantities: Quantities) -> None:
    held = await reserve(api, LAMP)
    wanted = {"reservationToken": held["token"], "paymentReference": "pi_1"}
    kinds = ("checkout.session.completed", "checkout.session.async_payment_succeeded")
    answers = await asyncio.gather(
        *(api.backend.post("/api/orders", json=wanted) for _ in range(5)),
        *(
            send(api, event(kind, f"evt_{kind}_{number}", **session(held["token"])))
            for kind in kinds
            for number in range(5)
        ),
    )
    assert {each.status_code for each in answers} <= {200, 201}
    assert await quantities("lamp") == (2, 0)
    assert await api.connection.fetchval("select count(*) from orders") == 1


async def test_an_unpaid_session_waits_for_its_payment(api: Shop, quantities: Quantities) -> None:
    held = await reserve(api, LAMP)
    unpaid = event("checkout.session.completed", **session(held["token"], status="unpaid"))
    assert await outcome(api, unpaid) == "waits for its payment"
    assert await quantities("lamp") == (0, 2)
    paid = event("checkout.session.async_payment_succeeded", "evt_2", **session(held["token"]))
    assert await outcome(api, paid) == "order completed"
    assert await quantities("lamp") == (2, 0)


async def test_a_failed_or_expired_session_releases_its_hold_once(
    api: Shop, quantities: Quantities
) -> None:
    held = await reserve(api, LAMP)
    failed = event("checkout.session.async_payment_failed", **session(held["token"]))
    assert await outcome(api, failed) == "reservation released"
    expired = event("checkout.session.expired", "evt_2", **session(held["token"]))
    assert await outcome(api, expired) == "the reservation had ended"
    assert await quantities("lamp") == (0, 0)


async def test_a_refund_gives_back_once_and_a_part_of_one_nothing(
    api: Shop, quantities: Quantities
) -> None:
    held = await reserve(api, LAMP)
    await outcome(api, event("checkout.session.completed", **session(held["token"])))
    part = event("charge.refunded", "evt_2", **charge(all_of_it=False))
    assert (await outcome(api, part)).startswith("a part")
    assert await quantities("lamp") == (2, 0)
    for number in (3, 4):
        assert await outcome(api, event("charge.refunded", f"evt_{number}", **charge())) == (
            "order refunded"
        )
    assert await quantities("lamp") == (0, 0)


async def test_a_refund_that_comes_before_its_payment_waits_for_it(
    api: Shop, quantities: Quantities
) -> None:
    held = await reserve(api, LAMP)
    assert await outcome(api, event("charge.refunded", **charge())) == "refund waits for its order"
    paid = event("checkout.session.completed", "evt_2", **session(held["token"]))
    assert await outcome(api, paid) == "order completed and refunded"
    assert await quantities("lamp") == (0, 0)
    assert await api.connection.fetchval("select status from orders") == "refunded"


async def test_an_event_that_is_sent_again_does_nothing(api: Shop, quantities: Quantities) -> None:
    held = await reserve(api, LAMP)
    body = event("checkout.session.completed", **session(held["token"]))
    assert await outcome(api, body) == "order completed"
    now = time.time()
    answers = [await send(api, body, at=now + later) for later in (1, 2, 3)]
    assert {each.json()["data"]["outcome"] for each in answers} == {"seen before"}
    assert await quantities("lamp") == (2, 0)
    assert api.server.metric("webhooks_total", result="duplicate") == 3


async def test_a_replayed_webhook_is_refused_and_counted(api: Shop, quantities: Quantities) -> None:
    held = await reserve(api, LAMP)
    body = event("checkout.session.completed", **session(held["token"]))
    now = time.time()
    assert (await send(api, body, at=now)).status_code == 200
    header = stripe.WebhookSignature.generate_signature_header(
        body.decode(), WEBHOOK_SECRET, timestamp=int(now)
    )
    replays = [
        await send(api, body, at=now),
        await send(api, body, at=now - 60),
        *[
            await api.shopper.post(
                "/api/webhooks/stripe",
                content=body,
                headers={"Stripe-Signature": f"{header},t={later}"},
            )
            for later in (int(now) + 100_000, 10**25)
        ],
    ]
    assert [each.status_code for each in replays] == [400] * 4
    assert {each.json()["error"]["code"] for each in replays} == {"webhook_rejected"}
    assert await quantities("lamp") == (2, 0)
    assert api.server.metric("webhooks_total", result="rejected") == 4
    # Nor does it keep Stripe's own repeat out.
    assert (await send(api, body, at=now + 1)).json()["data"]["outcome"] == "seen before"


async def test_an_event_may_come_with_what_a_proxy_wants_in_its_address(
    api: Shop, quantities: Quantities
) -> None:
    held = await reserve(api, LAMP)
    body = event("checkout.session.completed", **session(held["token"]))
    answer = await send(api, body, path="/api/webhooks/stripe?bypass=abc&bypass=def")
    assert answer.status_code == 200, answer.text
    assert await quantities("lamp") == (2, 0)


async def test_an_event_type_that_is_not_handled_is_recorded(api: Shop) -> None:
    assert await outcome(api, event("invoice.paid", id="in_1")) == "not handled"
    assert await api.connection.fetchval("select outcome from webhook_events") == "not handled"
    assert api.server.metric("webhooks_total", result="unhandled") == 1


async def test_a_payment_for_an_unknown_reservation_alerts_until_it_is_refunded(api: Shop) -> None:
    body = event("checkout.session.completed", **session(NOBODYS))
    assert await outcome(api, body) == "paid, but the reservation is not known"
    assert await open_alerts(api, "payment") == [
        ("pi_1", "pi_1 is paid, but the reservation is not known")
    ]
    refund = event("charge.refunded", "evt_2", **charge())
    assert await outcome(api, refund) == "refunded a payment without an order"
    assert await open_alerts(api, "payment") == []


@pytest.mark.parametrize("name", ["\ud800", "p\0", "p" * 201, 7])
async def test_a_payment_whose_names_cannot_be_names_does_nothing(api: Shop, name: Any) -> None:
    body = event("checkout.session.completed", **session(NOBODYS, intent=name))
    assert await outcome(api, body) == "names no reservation of ours"
    held = await reserve(api, LAMP)
    body = event(
        "checkout.session.completed",
        "evt_2",
        **session(held["token"]) | {"metadata": {"reservation_token": name}},
    )
    assert await outcome(api, body) == "names no reservation of ours"


async def test_a_refund_that_comes_before_a_payment_for_nothing_leaves_no_alert(api: Shop) -> None:
    assert await outcome(api, event("charge.refunded", **charge())) == "refund waits for its order"
    paid = event("checkout.session.completed", "evt_2", **session(NOBODYS))
    assert await outcome(api, paid) == "paid and refunded; the reservation is not known"
    assert await open_alerts(api, "payment") == []
    outcomes = await api.connection.fetch("select outcome from webhook_events order by id")
    assert outcomes[0][0] == "refunded a payment without an order"


async def test_each_payment_of_one_reservation_but_the_first_alerts_until_acknowledged(
    api: Shop, quantities: Quantities
) -> None:
    held = await reserve(api, LAMP)
    for number in (1, 2, 3):
        paid = event(
            "checkout.session.completed",
            f"evt_{number}",
            **session(held["token"], intent=f"pi_{number}"),
        )
        expected = "paid, but the order has been paid by another payment"
        assert await outcome(api, paid) == ("order completed" if number == 1 else expected)
    assert await quantities("lamp") == (2, 0)
    assert [source for source, _ in await open_alerts(api, "payment")] == ["pi_3", "pi_2"]
    alerts = (await api.admin.get("/api/admin/alerts?level=payment")).json()["data"]
    await api.admin.post(f"/api/admin/alerts/{alerts[0]['alertId']}/acknowledge")
    assert [source for source, _ in await open_alerts(api, "payment")] == ["pi_2"]


@pytest.mark.parametrize("path", ["cancel", "refund"])
async def test_a_payment_for_an_order_that_has_ended_alerts_until_it_is_refunded(
    api: Shop, quantities: Quantities, path: str
) -> None:
    held = await reserve(api, LAMP)
    await api.backend.post("/api/orders", json={"reservationToken": held["token"]})
    ended = await api.backend.post(f"/api/orders/1/{path}")
    status = ended.json()["data"]["status"]
    paid = event("checkout.session.completed", **session(held["token"]))
    assert await outcome(api, paid) == f"paid, but the order is {status}"
    assert await open_alerts(api, "payment") == [
        ("pi_1", f"pi_1 is paid, but the order is {status}")
    ]
    assert await outcome(api, event("charge.refunded", "evt_2", **charge())) == "order refunded"
    assert await open_alerts(api, "payment") == []
    assert await quantities("lamp") == (0, 0)


async def test_news_of_a_payment_that_has_been_refunded_is_no_alert(api: Shop) -> None:
    held = await reserve(api, LAMP)
    await api.backend.post(
        "/api/orders", json={"reservationToken": held["token"], "paymentReference": "pi_1"}
    )
    await outcome(api, event("charge.refunded", **charge()))
    paid = event("checkout.session.completed", "evt_2", **session(held["token"]))
    assert await outcome(api, paid) == "order completed"
    assert await open_alerts(api, "payment") == []


async def test_a_webhook_that_stripe_did_not_just_sign_writes_nothing_and_is_counted(
    api: Shop, quantities: Quantities
) -> None:
    held = await reserve(api, LAMP)
    body = event("checkout.session.completed", **session(held["token"]))
    now = time.time()
    header = stripe.WebhookSignature.generate_signature_header(body.decode(), WEBHOOK_SECRET)
    compact = json.dumps(json.loads(body), separators=(",", ":")).encode()
    signed: list[tuple[bytes, Any]] = [
        (compact, {"Stripe-Signature": header}),
        (body.decode().encode("utf-16"), {"Stripe-Signature": header}),
        (body, {}),
        (body, {"Stripe-Signature": ""}),
        (body, {"Stripe-Signature": "t=now,v1=1"}),
        (body, {"Stripe-Signature": "t=1,v1=é".encode()}),
        (body, {"Stripe-Signature": header.replace("v1=", "v0=")}),
    ]
    answers = [
        await send(api, body, secret="whsec_forged"),
        await send(api, body, at=now - 301),
        await send(api, b"\xff" + body),
        await send(api, b"no JSON"),
        await send(api, b'{"id": "evt_1"}'),
        await send(api, b'{"id": "e\\u0000", "type": "t", "data": {"object": {}}}'),
        await send(api, b'{"id": "e", "type": "\\ud800", "data": {"object": {}}}'),
        *[
            await api.shopper.post("/api/webhooks/stripe", content=content, headers=headers)
            for content, headers in signed
        ],
    ]
    assert [each.status_code for each in answers] == [400] * 14
    assert {each.json()["error"]["code"] for each in answers} == {"webhook_rejected"}
    assert await api.connection.fetchval("select count(*) from webhook_events") == 0
    assert await quantities("lamp") == (0, 2)
    assert api.server.metric("webhooks_total", result="rejected") == 14


async def test_cancel_and_refund_give_back_once(api: Shop, quantities: Quantities) -> None:
    for number, path in enumerate(("cancel", "refund"), 1):
        bought = await api.backend.post("/api/orders", json={"lines": [LAMP, SHIRT_S]})
        order = bought.json()["data"]["orderId"]
        answers = [await api.backend.post(f"/api/orders/{order}/{path}") for _ in range(2)]
        assert [each.status_code for each in answers] == [200, 200], number
        assert await quantities("lamp") == (0, 0)
        assert await quantities("shirt-s") == (0, 0)
    late = await api.backend.post(f"/api/orders/{order}/cancel")
    assert (late.status_code, late.json()["error"]["code"]) == (409, "order_conflict")


async def test_lost_goods_stay_sold_after_a_refund(api: Shop, quantities: Quantities) -> None:
    await api.backend.post("/api/orders", json={"lines": [LAMP]})
    assert (
        await api.admin.post("/api/orders/1/refund", json={"restock": False})
    ).status_code == 200
    assert await quantities("lamp") == (2, 0)


async def test_orders_that_make_no_sense_are_refused(api: Shop) -> None:
    held = await reserve(api, LAMP)
    for body, status in (
        ({}, 400),
        ({"reservationToken": held["token"], "lines": [LAMP]}, 400),
        ({"reservationToken": "nobody's"}, 404),
        ({"reservationToken": held["token"], "paymentReference": "\n"}, 400),
        ({"reservationToken": held["token"], "onShortage": "ignore"}, 400),
        ({"lines": []}, 400),
        ({"lines": [{"productId": "chair", "quantity": 4}]}, 400),
        ({"lines": [{"productId": "shirt", "quantity": 1}]}, 400),
    ):
        answer = await api.backend.post("/api/orders", json=body)
        assert answer.status_code == status, body
    for path in ("999", "-1", "1.5", "abc", "9" * 40, "%00", "²"):
        assert (await api.backend.get(f"/api/orders/{path}")).status_code == 404, path


async def test_only_shops_and_admins_may_order(api: Shop) -> None:
    for path in ("/api/orders", "/api/orders/1/cancel", "/api/orders/1/refund"):
        answer = await api.shopper.post(path, json={"lines": [LAMP]})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    bought = await api.shopper.post("/api/orders", json={"lines": [LAMP]}, headers=bearer("admin"))
    assert bought.status_code == 201
