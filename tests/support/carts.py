"""Carts, and holding them over HTTP."""

from typing import Any

from tests.support.shop import Shop

LAMP = {"productId": "lamp", "quantity": 2}
SHIRT_S = {"productId": "shirt", "variantId": "shirt-s", "quantity": 1}


def cart(*lines: dict[str, Any], checkout: str = "checkout-1", **more: Any) -> dict[str, Any]:
    return {"checkoutToken": checkout, "lines": list(lines), **more}


async def reserve(api: Shop, *lines: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = await api.shopper.post("/api/reservations", json=cart(*lines, **more))
    assert answer.status_code == 201, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def overdue(api: Shop, token: str) -> None:
    await api.connection.execute(
        "update reservations set expires_at = now() where token = $1", token
    )
