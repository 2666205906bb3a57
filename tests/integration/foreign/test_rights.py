"""Who may do what, for roles that are neither superuser nor owner."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import asyncpg
import pytest
import stripe

from stream_server.database.pool import Pool
from stream_server.metrics import Metrics
from stream_server.worker import Worker
from tests.support.clients import calling, reading
from tests.support.invariants import assert_consistent, assert_log_replays
from tests.support.roles import Role, made, run_roles_sql
from tests.support.servers import serving
from tests.support.shop import CATALOGUE, SECRET, WEBHOOK_SECRET, bearer
from tests.support.stripe_events import event, session
from tests.support.surroundings import SCHEMA

Connection: TypeAlias = "asyncpg.Connection[Any]"

NOW = datetime.now(UTC).isoformat()
SELLING = [
    'reserve_stock(\'c1\', \'[{"productId": "lamp", "quantity": 1}]\')',
    'complete_order(cart => \'[{"productId": "shirt", "variantId": "shirt-s",'
    " \"quantity\": 1}]', payment => 'pi_1')",
    "adjust_stock('lamp', null, 1, 'received')",
    "set_stock('shirt', 'shirt-m', 2, 'count')",
    "change_price('lamp', null, 1, 'promotion')",
    "change_status('lamp', null, 'discontinued', 'correction')",
    "change_threshold('lamp', null, 3, 'correction')",
    'apply_counts(\'erp\', now(), \'[{"productId": "lamp", "count": 5}]\')',
    "raise_alert('lamp', null, 'shortfall', 'three missing')",
    "expire_reservations()",
]
REFUSED = (asyncpg.InsufficientPrivilegeError, asyncpg.ObjectNotInPrerequisiteStateError)
LOOKING_AND_FORGING = [
    "insert into inventory_log (product_id, version, operation, sold_after, reserved_after,"
    " threshold_after, status_after, name_after, actor)"
    " values ('lamp', 99, 'sale', 1, 0, 10, 'active', 'Lamp', 'anna')",
    "update inventory_log set actor = 'anna'",
    "delete from inventory_log",
    "select set_config('stream_server.pruning', 'on', false); delete from inventory_log",
    "truncate inventory_log",
    "select * from reservations",
    "select * from orders",
    "update reservations set expires_at = now()",
    "delete from products",
    "select prune_inventory_log('0 seconds', 10)",
    "select prune_reservations('0 seconds', 10)",
    "select prune_orders('0 seconds', 10)",
    "select prune_replays('0 seconds')",
    "update stream_epoch set epoch = 'beef'",
]


@pytest.fixture
async def shop(connection: Connection) -> AsyncIterator[Connection]:
    await connection.execute(CATALOGUE)
    yield connection
    await assert_log_replays(connection)


@pytest.fixture
async def role(
    superuser: Connection, database_url: str
) -> AsyncIterator[Callable[[], Awaitable[Role]]]:
    """Makes roles that may sign in, and nothing more."""
    roles: list[Role] = []

    async def make() -> Role:
        roles.append(await made(superuser, database_url, f"till_{uuid4().hex[:12]}"))
        return roles[-1]

    yield make
    for each in roles:
        await each.unmake(superuser)


@pytest.fixture
async def till(
    role: Callable[[], Awaitable[Role]], shop: Connection, superuser: Connection
) -> Connection:
    """A connection of somebody who may read and update the catalogue only."""
    made = await role()
    await superuser.execute(f'grant usage on schema "{SCHEMA}" to {made.name}')
    await superuser.execute(f"grant select, update on products, variants to {made.name}")
    return await made.connect()


async def test_a_till_that_may_update_the_catalogue_changes_stock_and_is_named_in_the_log(
    till: Connection, shop: Connection
) -> None:
    name = await till.fetchval("select session_user")
    await till.execute("update products set sold_quantity = 1 where id = 'lamp'")
    await till.execute("update variants set sold_quantity = 1 where id = 'shirt-s'")
    assert await shop.fetchval("select count(*) from inventory_log where actor = $1", name) == 2


@pytest.mark.parametrize("call", SELLING)
async def test_it_calls_what_a_shops_backend_calls(till: Connection, call: str) -> None:
    await till.execute(f"select {call}")


@pytest.mark.parametrize("statement", LOOKING_AND_FORGING)
async def test_it_neither_forges_the_log_nor_sees_what_others_hold(
    till: Connection, shop: Connection, statement: str
) -> None:
    before = await shop.fetch("select * from inventory_log order by id")
    with pytest.raises(
        (asyncpg.InsufficientPrivilegeError, asyncpg.ObjectNotInPrerequisiteStateError)
    ):
        await till.execute(statement)
    assert await shop.fetch("select * from inventory_log order by id") == before


@pytest.mark.parametrize("call", SELLING)
async def test_somebody_who_may_only_read_changes_nothing_by_calling(
    role: Callable[[], Awaitable[Role]], shop: Connection, superuser: Connection, call: str
) -> None:
    """The functions run with the owner's rights, so each looks who calls."""
    made = await role()
    await superuser.execute(f'grant usage on schema "{SCHEMA}" to {made.name}')
    await superuser.execute(f"grant select on products, variants to {made.name}")
    reader = await made.connect()
    before = await shop.fetch("select * from inventory_log order by id")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="may not change stock"):
        await reader.execute(f"select {call}")
    assert await shop.fetch("select * from inventory_log order by id") == before


async def test_who_has_set_another_role_has_that_ones_rights(
    role: Callable[[], Awaitable[Role]], shop: Connection, superuser: Connection
) -> None:
    """As gateways do: they sign in as one role and act as another."""
    gateway, visitor = await role(), await role()
    await superuser.execute(f'grant usage on schema "{SCHEMA}" to {visitor.name}, {gateway.name}')
    await superuser.execute(f"grant select, update on products, variants to {gateway.name}")
    await superuser.execute(f"grant {visitor.name} to {gateway.name}")
    connection = await gateway.connect()
    await connection.execute("select adjust_stock('lamp', null, 1, 'received')")
    await connection.execute(f"set role {visitor.name}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("select adjust_stock('lamp', null, 1, 'received')")


async def test_the_roles_that_we_offer_are_made_again_and_again(
    superuser: Connection, database_url: str, tmp_path: Path
) -> None:
    for _ in range(2):
        await run_roles_sql(superuser)


async def test_a_seller_sells_through_functions_and_updates(
    role: Callable[[], Awaitable[Role]], shop: Connection, superuser: Connection
) -> None:
    await run_roles_sql(superuser)
    seller = await role()
    await superuser.execute(f"grant stream_server_seller to {seller.name}")
    connection = await seller.connect()
    for call in SELLING:
        await connection.execute(f"select {call}")
    await connection.execute("update products set max_quantity = 30 where id = 'bulb'")
    for statement in LOOKING_AND_FORGING:
        with pytest.raises(REFUSED):
            await connection.execute(statement)
    await assert_consistent(shop)


async def test_the_service_runs_under_the_roles_that_we_offer(
    role: Callable[[], Awaitable[Role]], shop: Connection, superuser: Connection
) -> None:
    """Web and worker each as their own role, which owns nothing."""
    await run_roles_sql(superuser)
    web, worker = await role(), await role()
    await superuser.execute(f"grant stream_server_web to {web.name}")
    await superuser.execute(f"grant stream_server_worker to {worker.name}")
    admin, backend = bearer("admin"), bearer("shop")
    settings: dict[str, Any] = {"secret_key": SECRET, "stripe_webhook_secret": WEBHOOK_SECRET}
    async with (
        serving(web.url, **settings) as server,
        calling(server.url) as client,
        reading(f"{server.url}/api/inventory/stream") as stream,
    ):
        await stream.opened()
        line = {"productId": "lamp", "quantity": 1}
        cart = {"checkoutToken": "c1", "lines": [line]}
        held = (await client.post("/api/reservations", json=cart)).json()["data"]["token"]
        both = {"checkoutToken": "c2", "lines": [line, {"productId": "bulb", "quantity": 2}]}
        other = (await client.post("/api/reservations", json=both)).json()["data"]["token"]
        csv = {**admin, "Content-Type": "text/csv"}
        counts = [{"productId": "bulb", "count": 90}]
        for request, status in (
            (client.get(f"/api/reservations/{held}"), 200),
            (client.post(f"/api/reservations/{held}/extend"), 200),
            (client.delete(f"/api/reservations/{other}"), 200),
            (
                client.post(
                    "/api/orders",
                    json={"reservationToken": held},
                    headers={**backend, "Idempotency-Key": "k"},
                ),
                201,
            ),
            (client.get("/api/orders/1", headers=backend), 200),
            (client.post("/api/orders/1/refund", headers=backend), 200),
            (
                client.post(
                    "/api/admin/products/lamp/adjustments",
                    json={"change": 2, "reason": "received"},
                    headers=admin,
                ),
                200,
            ),
            (
                client.post(
                    "/api/admin/sync",
                    json={"source": "erp", "occurredAt": NOW, "counts": counts},
                    headers=backend,
                ),
                200,
            ),
            (client.get("/api/admin/alerts", headers=admin), 200),
            (
                client.post(
                    "/api/admin/imports",
                    content=b"productId,maxQuantity\nlamp,30\nnew,1\n",
                    headers=csv,
                ),
                422,
            ),
            (
                client.post(
                    "/api/admin/imports", content=b"productId,maxQuantity\nlamp,30\n", headers=csv
                ),
                200,
            ),
            (client.get("/products/lamp"), 200),
            (client.get("/api/products?q=lamp"), 200),
            (client.get("/readyz"), 200),
        ):
            answer = await request
            assert answer.status_code == status, answer.text
        paid = event("checkout.session.completed", **session(held))
        signature = stripe.WebhookSignature.generate_signature_header(
            paid.decode(), WEBHOOK_SECRET, timestamp=int(datetime.now(UTC).timestamp())
        )
        answer = await client.post(
            "/api/webhooks/stripe", content=paid, headers={"Stripe-Signature": signature}
        )
        assert answer.status_code == 200, answer.text
        await stream.until(
            "inventory_updated", lambda data: data["maxQuantity"] == 30
        )  # by the import
        async with Pool(worker.url) as pool:
            at_work = Worker(
                pool,
                Metrics(),
                timedelta(hours=1),
                keep_log=timedelta(days=1),
                keep_orders=timedelta(days=1),
            )
            await shop.execute("update reservations set expires_at = now() - interval '1 minute'")
            await at_work.sweep()
            for work in (
                at_work.check_lag,
                at_work.tidy,
                at_work.log_missed_changes,
                at_work.prune,
            ):
                await work()
    await assert_consistent(shop)
