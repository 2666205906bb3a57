"""Changes by hand: with a reason, by whom, once, and never below what is taken."""

import asyncio
from typing import Any

import httpx

from tests.support.shop import Shop, row


async def change(api: Shop, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    return await api.admin.post(
        f"/api/admin/products/{path}", json={"reason": "count", **body}, headers=headers
    )


async def test_an_adjustment_changes_stock_and_says_who_and_why(api: Shop) -> None:
    answer = await change(
        api, "lamp/adjustments", {"change": -3, "reason": "damaged", "note": "fell down"}
    )
    assert answer.status_code == 200
    data = answer.json()["data"]
    assert (data["maxQuantity"], data["availableQuantity"], data["version"]) == (7, 7, 2)
    log = await row(
        api.connection,
        "select operation, change, reason, note, actor from inventory_log"
        " where product_id = 'lamp' and version = 2",
    )
    assert log == ("adjust", -3, "damaged", "fell down", "the admin")


async def test_a_product_that_is_the_sum_of_its_variants_follows_them(api: Shop) -> None:
    await change(api, "shirt/adjustments", {"variantId": "shirt-s", "change": 4})
    rows = await api.connection.fetch(
        "select max_quantity from products where id = 'shirt' union all"
        " select max_quantity from variants where id = 'shirt-s'"
    )
    assert [each[0] for each in rows] == [12, 9]


async def test_a_count_needs_the_version_that_it_was_made_with(api: Shop) -> None:
    await api.backend.post("/api/orders", json={"lines": [{"productId": "lamp", "quantity": 2}]})
    stale = await change(api, "lamp/adjustments", {"stock": 50, "expectedVersion": 1})
    assert (stale.status_code, stale.json()["error"]["code"]) == (409, "version_conflict")
    current = stale.json()["error"]["details"]["current"]
    assert (current["version"], current["availableQuantity"]) == (2, 8)
    missing = await change(api, "lamp/adjustments", {"stock": 50})
    assert missing.status_code == 400
    counted = await change(api, "lamp/adjustments", {"stock": 50, "expectedVersion": 2})
    data = counted.json()["data"]
    assert (data["maxQuantity"], data["soldQuantity"], data["availableQuantity"]) == (52, 2, 50)


async def test_a_stock_that_no_column_holds_beside_what_is_sold_is_named(api: Shop) -> None:
    most = 2**31 - 1
    sold = [{"productId": "lamp", "quantity": 2}]
    sold += [{"productId": "shirt", "variantId": "shirt-s", "quantity": 1}]
    await api.backend.post("/api/orders", json={"lines": sold})
    for path, variant, version, highest in (
        ("lamp", None, 2, most - 2),
        ("shirt", "shirt-s", 5, most - 1 - 3),  # 3 of the other size are in the product's maximum
    ):
        body = {"variantId": variant, "expectedVersion": version}
        answer = await change(api, f"{path}/adjustments", {**body, "stock": most})
        assert answer.json()["error"]["details"] == {
            "field": "stock",
            "expected": f"at most {highest}",
        }
        answer = await change(api, f"{path}/adjustments", {**body, "stock": highest})
        assert answer.json()["data"]["availableQuantity"] == highest


async def test_what_is_taken_cannot_be_adjusted_away(api: Shop) -> None:
    await api.backend.post("/api/orders", json={"lines": [{"productId": "lamp", "quantity": 8}]})
    answer = await change(api, "lamp/adjustments", {"change": -3})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "insufficient_stock")
    assert answer.json()["error"]["details"]["lines"][0] == {
        "productId": "lamp",
        "variantId": None,
        "requested": 3,
        "available": 2,
    }


async def test_price_status_and_threshold_change_the_same_way(api: Shop) -> None:
    for path, body, field, operation in (
        ("lamp/price", {"price": 100}, "price", "price"),
        ("lamp/status", {"status": "discontinued"}, "status", "status"),
        ("lamp/threshold", {"lowStockThreshold": 3}, "lowStockThreshold", "threshold"),
        ("shirt/price", {"price": None, "variantId": "shirt-m"}, "price", "price"),
    ):
        answer = await change(api, path, {**body, "reason": "promotion"})
        assert answer.json()["data"][field] == body[field], answer.text
        logged = await row(
            api.connection, "select operation, reason from inventory_log order by id desc limit 1"
        )
        assert logged == (operation, "promotion")


async def test_changes_that_make_no_sense_are_refused(api: Shop) -> None:
    for path, body, status in (
        ("lamp/adjustments", {}, 400),
        ("lamp/adjustments", {"change": 0}, 400),
        ("lamp/adjustments", {"change": 1.5}, 400),
        ("lamp/adjustments", {"change": 2**31}, 400),
        ("lamp/adjustments", {"change": 2**31 - 1}, 400),
        ("lamp/adjustments", {"change": 1, "stock": 1}, 400),
        ("lamp/adjustments", {"change": 1, "reason": "because"}, 400),
        ("lamp/adjustments", {"change": 1, "reason": "other"}, 400),
        ("lamp/adjustments", {"change": 1, "reason": "other", "note": " "}, 400),
        ("lamp/adjustments", {"change": 1, "note": "a\0b"}, 400),
        ("lamp/adjustments", {"change": 1, "reason": ["count"]}, 400),
        ("lamp/adjustments", {"change": 1, "variantId": "shirt-s"}, 404),
        ("lamp/adjustments", {"stock": -1, "expectedVersion": 1}, 400),
        ("book/adjustments", {"change": 1}, 400),
        ("nope/adjustments", {"change": 1}, 404),
        ("%00/adjustments", {"change": 1}, 400),
        ("lamp/price", {}, 400),
        ("lamp/price", {"price": -1}, 400),
        ("lamp/price", {"price": None}, 400),
        ("lamp/status", {"status": "sold"}, 400),
        ("lamp/threshold", {"lowStockThreshold": -1}, 400),
    ):
        answer = await change(api, path, body)
        assert answer.status_code == status, (path, body, answer.text)
    no_text = b'{"change": 1, "reason": "count", "note": "\xed\xa0\x80"}'
    answer = await api.admin.post(
        "/api/admin/products/lamp/adjustments",
        content=no_text,
        headers={"Content-Type": "application/json"},
    )
    assert (answer.status_code, answer.json()["error"]["details"]["field"]) == (400, "body")
    assert await api.connection.fetchval("select max(version) from inventory_log") == 3  # as made


async def test_the_same_key_gets_the_same_answer_and_changes_once(api: Shop) -> None:
    key = {"Idempotency-Key": "key-1"}
    first = await change(api, "lamp/adjustments", {"change": 5}, **key)
    again = await change(api, "lamp/adjustments", {"change": 5}, **key)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    other = await change(api, "lamp/adjustments", {"change": 6}, **key)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    elsewhere = await change(api, "bulb/adjustments", {"change": 5}, **key)
    assert elsewhere.status_code == 422
    logged = await api.connection.fetch(
        "select idempotency_key from inventory_log where operation = 'adjust'"
    )
    assert [each[0] for each in logged] == ["key-1"]


async def test_many_requests_with_one_key_at_once_change_once(api: Shop) -> None:
    answers = await asyncio.gather(
        *(
            change(api, "lamp/adjustments", {"change": 1}, **{"Idempotency-Key": "k"})
            for _ in range(12)
        )
    )
    assert len({each.content for each in answers}) == 1
    assert answers[0].json()["data"]["maxQuantity"] == 11
    assert (
        await api.connection.fetchval("select max_quantity from products where id = 'lamp'") == 11
    )


async def test_a_refusal_is_kept_too(api: Shop) -> None:
    key = {"Idempotency-Key": "key-1"}
    first = await change(api, "lamp/adjustments", {"change": -11}, **key)
    assert first.status_code == 409
    await change(api, "lamp/adjustments", {"change": 50})
    again = await change(api, "lamp/adjustments", {"change": -11}, **key)
    assert (again.status_code, again.content) == (409, first.content)


async def test_only_admins_change_stock(api: Shop) -> None:
    body = {"change": 1, "reason": "count"}
    path = "/api/admin/products/lamp/adjustments"
    assert (await api.shopper.post(path, json=body)).status_code == 401
    answer = await api.backend.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    assert "insufficient_scope" in answer.headers["www-authenticate"]
