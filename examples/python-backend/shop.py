"""The backend of a shop, which sells with stream-server's SQL functions in its own transactions.

Run `uvicorn shop:app`. DATABASE_URL names stream-server's database.
"""

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[Any]"

ACTOR = "web shop"  # the actor in the log of changes
ATTEMPTS = 3

# The errors of the functions (sql/README.md), and the statuses of this shop's answers.
STATUS_OF = {
    "SS001": 400,  # malformed
    "SS002": 404,  # no such product
    "SS003": 409,  # not enough in stock
    "SS004": 404,  # no such reservation
    "SS005": 410,  # it has expired
    "SS006": 410,  # it was released
    "SS007": 409,  # it has become an order
    "SS009": 404,  # no such order
    "SS010": 409,  # the payment belongs to something else
    "SS011": 409,  # the order is refunded
    "SS012": 409,  # more than one order may have
}

# The shop's own data, in the same database: written in the same transaction as the sale.
OWN_TABLE = """
create table if not exists customers_of_orders (
    order_id bigint primary key,
    email    text not null
)
"""

ALTERNATIVES = """
select other.id, other.name
  from products wanted
  join products other on other.category = wanted.category and other.id <> wanted.id
 where wanted.id = $1 and other.is_available
 order by abs(other.base_price - wanted.base_price), other.id
 limit 3
"""


async def checkout(request: Request) -> Response:
    """{checkout, lines}: holds stock for ten minutes. `checkout` is a random name that the page
    generates; sent again with another cart, it replaces its own hold."""
    body = await request.json()

    async def hold(connection: Connection) -> Any:
        return await connection.fetchval(
            "select reserve_stock($1, $2, actor => $3)", body["checkout"], body["lines"], ACTOR
        )

    return JSONResponse(await in_transaction(request, hold), 201)


async def pay(request: Request) -> Response:
    """{reservation, payment, email}: sells the held units. A real shop calls this after its payment
    provider has confirmed the payment, so missing units become a shortfall instead of an error.
    The same payment again gives the same order."""
    body = await request.json()

    async def sell(connection: Connection) -> Any:
        order = await connection.fetchval(
            "select complete_order(reservation => $1, payment => $2, record_shortfall => true,"
            " actor => $3)",
            body["reservation"],
            body["payment"],
            ACTOR,
        )
        await connection.execute(
            "insert into customers_of_orders values ($1, $2) on conflict do nothing",
            order["orderId"],
            body["email"],
        )
        return order

    return JSONResponse(await in_transaction(request, sell), 201)


async def leave(request: Request) -> Response:
    """Releases the hold of a shopper who has left the checkout."""

    async def release(connection: Connection) -> Any:
        return await connection.fetchval(
            "select release_reservation($1, $2)", request.path_params["reservation"], ACTOR
        )

    return JSONResponse(await in_transaction(request, release))


async def cancel(request: Request) -> Response:
    """Cancels an order: its units go back on sale."""

    async def give_back(connection: Connection) -> Any:
        return await connection.fetchval(
            "select cancel_order($1, $2)", request.path_params["order_id"], ACTOR
        )

    return JSONResponse(await in_transaction(request, give_back))


async def in_transaction(request: Request, work: Callable[[Connection], Awaitable[Any]]) -> Any:
    """Returns the result of `work`, which runs in one transaction. If another transaction is in the
    way (a deadlock, or a row that stays locked), nothing has happened, and we try again."""
    pool: asyncpg.Pool[Any] = request.app.state.pool
    attempt = 1
    while True:
        try:
            async with pool.acquire() as connection, connection.transaction():
                return await work(connection)
        except (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError):
            if attempt == ATTEMPTS:
                raise
            attempt += 1
            await asyncio.sleep(random.uniform(0.01, 0.1))


async def refused(request: Request, error: Exception) -> Response:
    """Turns the error of a function into an answer. The transaction has been rolled back."""
    assert isinstance(error, asyncpg.PostgresError)
    if error.sqlstate not in STATUS_OF:
        raise error  # a bug in this program, or a fault of the database: a 500
    answer = {"error": error.args[0], "detail": json.loads(error.detail or "{}")}
    if error.sqlstate == "SS003":
        for line in answer["detail"]["lines"]:
            if line["available"] < line["requested"]:
                line["alternatives"] = await alternatives_to(request, line["productId"])
    return JSONResponse(answer, STATUS_OF[error.sqlstate])


async def alternatives_to(request: Request, product_id: str) -> list[dict[str, str]]:
    """Returns products of the same category that are in stock, the nearest price first."""
    rows = await request.app.state.pool.fetch(ALTERNATIVES, product_id)
    return [dict(row) for row in rows]


async def read_json(connection: "asyncpg.Connection[Any]") -> None:
    """Makes asyncpg convert between jsonb and dicts or lists."""
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
    )


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"],
        init=read_json,
        server_settings={"lock_timeout": "3s"},  # nobody waits longer for a row
    ) as app.state.pool:
        await app.state.pool.execute(OWN_TABLE)
        yield


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/checkout", checkout, methods=["POST"]),
        Route("/checkout/{reservation}", leave, methods=["DELETE"]),
        Route("/pay", pay, methods=["POST"]),
        Route("/orders/{order_id:int}/cancel", cancel, methods=["POST"]),
    ],
    exception_handlers={asyncpg.PostgresError: refused},
)
