"""The reserver: it groups concurrent reservations of one product into few transactions.

A product's row stays locked until its transaction is on disk. With one transaction for each
reservation, requests for a popular product would queue for one flush each. So requests that arrive
while a product's transaction is running share the next one. A request never waits to be grouped:
alone, it gets its own transaction.

Requests for a product wait here and take a connection only when their turn comes. So a row that
stays locked occupies only a few connections, however many requests want it.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from stream_server.database.pool import AnyPool
from stream_server.database.transactions import retry
from stream_server.errors import DatabaseError, StreamServerError
from stream_server.inventory import reservations
from stream_server.inventory.reservations import CartLine, Reservation
from stream_server.inventory.turns import Turns

__all__ = ["Reserver"]

logger = logging.getLogger(__name__)

MAX_GROUP: Final = 64  # reservations in one transaction, so that its lock on the row stays short

RESERVE_TOGETHER: Final = (
    "select reserve_together(:product, cast(:carts as jsonb), cast(:hold as interval))"
)


@dataclass(eq=False, slots=True)
class _Request:
    """A cart with one line. Its answer is None if it needs `reserve_stock`."""

    checkout_token: str
    variant_id: str | None
    quantity: int
    actor: str | None
    answer: asyncio.Future[Reservation | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Reserver:
    """The reserver of a process, for all its requests. It reserves through `pool` for the time
    `hold`. At most `turns` transactions at a time compete for the same product; a request waits
    `patience` seconds for its turn."""

    def __init__(
        self, pool: AnyPool, hold: timedelta, *, turns: int = 3, patience: float = 5.0
    ) -> None:
        self._pool = pool
        self._hold = hold
        self._turns = Turns(turns, patience)
        self._waiting: dict[str, deque[_Request]] = {}  # by product, while a task reserves it
        self._tasks: set[asyncio.Task[None]] = set()

    async def reserve(
        self,
        checkout_token: str,
        lines: Sequence[CartLine],
        *,
        allow_partial: bool = False,
        actor: str | None = None,
    ) -> Reservation:
        """Reserves like `reservations.reserve`, and calls it for all carts except the most frequent
        kind: one line with enough stock, from a checkout without a reservation.

        Raises the same errors, and DatabaseUnavailable if its turn at a product does not come in
        time.

        If the caller is cancelled during the transaction, the reservation may remain.
        """
        if len(lines) == 1:
            (line,) = lines
            request = _Request(checkout_token, line["variantId"], line["quantity"], actor)
            self._enqueue(line["productId"], request)
            if (reservation := await request.answer) is not None:
                return reservation
        async with self._turns.at(line["productId"] for line in lines):
            return await retry(
                lambda: reservations.reserve(
                    self._pool,
                    checkout_token,
                    lines,
                    hold=self._hold,
                    allow_partial=allow_partial,
                    actor=actor,
                )
            )

    def _enqueue(self, product_id: str, request: _Request) -> None:
        if (waiting := self._waiting.get(product_id)) is not None:
            waiting.append(request)
            return
        self._waiting[product_id] = deque([request])
        task = asyncio.create_task(self._commit_groups(product_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _commit_groups(self, product_id: str) -> None:
        """Commits groups of requests until none waits for this product."""
        waiting = self._waiting[product_id]
        try:
            while waiting:
                group = [waiting.popleft() for _ in range(min(len(waiting), MAX_GROUP))]
                if present := [each for each in group if not each.answer.done()]:
                    await self._commit(product_id, present)
        finally:
            del self._waiting[product_id]

    async def _commit(self, product_id: str, group: Sequence[_Request]) -> None:
        """Reserves a group in one transaction and answers its requests. If it fails, each request
        is tried alone, because only one may be at fault. Errors of the database and lock time-outs
        go to all requests instead."""
        answers: Sequence[Reservation | None] = [None] * len(group)
        try:
            async with self._turns.at([product_id]):
                answers = await retry(lambda: self._reserve_together(product_id, group))
        except DatabaseError as error:
            _refuse(group, error)
        except StreamServerError as error:
            logger.warning(
                "Trying %d reservations of %s one by one: %s",
                len(group),
                product_id,
                error.message,
            )
        except Exception:
            logger.exception("Trying %d reservations of %s one by one", len(group), product_id)
        finally:
            _answer(group, answers)

    async def _reserve_together(
        self, product_id: str, group: Sequence[_Request]
    ) -> list[Reservation | None]:
        carts = [
            {
                "checkoutToken": request.checkout_token,
                "variantId": request.variant_id,
                "quantity": request.quantity,
                "actor": request.actor,
            }
            for request in group
        ]
        values = {"product": product_id, "carts": json.dumps(carts), "hold": self._hold}
        answers: list[Reservation | None] = json.loads(
            await self._pool.fetch_val(RESERVE_TOGETHER, values)
        )
        return answers


def _refuse(group: Sequence[_Request], error: DatabaseError) -> None:
    for request in group:
        if not request.answer.done():
            request.answer.set_exception(type(error)(error.message))


def _answer(group: Sequence[_Request], answers: Sequence[Reservation | None]) -> None:
    for request, answer in zip(group, answers, strict=True):
        if not request.answer.done():
            request.answer.set_result(answer)
