"""A process of buyers, for a test: `buyers.py DATABASE_URL NAME` prints what they got."""

import asyncio
import sys
from datetime import timedelta

from stream_server.database.pool import Pool
from stream_server.database.transactions import retry
from stream_server.errors import InsufficientStock
from stream_server.inventory import orders
from stream_server.inventory.reservations import CartLine
from stream_server.inventory.reserver import Reserver

HOLD = timedelta(minutes=10)
BUYERS = 200


async def buy_in_a_process(url: str, name: str) -> None:
    """Buyers, eight at a time; half hold before they buy. Prints units bought and refusals."""
    line: CartLine = {"productId": "lamp", "variantId": None, "quantity": 1}
    bought, refused = 0, 0
    # However slow the machine is, each of them gets his turn at a connection.
    async with Pool(url, max_size=8, wait=120) as pool:
        reserver = Reserver(pool, HOLD)

        async def buyer(number: int) -> None:
            nonlocal bought, refused
            payment = f"payment {name}.{number}"
            try:
                if number % 2:
                    held = await reserver.reserve(payment, [line])
                    await asyncio.gather(
                        *(
                            retry(
                                lambda: orders.complete(
                                    pool,
                                    reservation_token=held["token"],
                                    payment_reference=payment,
                                )
                            )
                            for _ in range(2)
                        )
                    )
                else:
                    await retry(
                        lambda: orders.complete(pool, lines=[line], payment_reference=payment)
                    )
                bought += 1
            except InsufficientStock:
                refused += 1

        await asyncio.gather(*(buyer(number) for number in range(BUYERS)))
    sys.stdout.write(f"{bought} {refused}\n")


if __name__ == "__main__":
    asyncio.run(buy_in_a_process(*sys.argv[1:]))
