"""What streams in programs that are not ours show: each tells it in lines of JSON."""

import asyncio
import json
import subprocess
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Told:
    """What the streams of one program have shown so far, by their number."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.opened: dict[int, int] = defaultdict(int)
        self.closed: set[int] = set()
        self.resets: dict[int, int] = defaultdict(int)
        self.snapshots: dict[int, list[list[str]]] = defaultdict(list)
        self.stock: dict[int, dict[str, int]] = defaultdict(dict)

    def tell(self, n: int, what: str, data: Mapping[str, Any] | None = None) -> None:
        """One thing that happened to the n-th stream."""
        if what == "open":
            self.opened[n] += 1
        elif what == "closed":
            self.closed.add(n)
        elif what == "reset":
            self.resets[n] += 1
        elif what == "snapshot" and data is not None:
            self.snapshots[n].append([each["productId"] for each in data["products"]])
            for each in data["products"]:
                self.stock[n][each["productId"]] = each["maxQuantity"]
        elif what == "inventory_updated" and data is not None and data["variantId"] is None:
            self.stock[n][data["productId"]] = data["maxQuantity"]

    def without(self, product_id: str, stock: int) -> list[int]:
        """The streams that do not show this."""
        return [n for n in range(self.number) if self.stock[n].get(product_id) != stock]

    def lost(self) -> list[int]:
        """The streams that have given up for good."""
        return sorted(self.closed)


@asynccontextmanager
async def program(
    command: Sequence[str], number: int, environment: Mapping[str, str]
) -> AsyncIterator[Told]:
    """A program with so many streams, while the block runs."""
    told = Told(number)
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        cwd=HERE.parents[2],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        limit=2**24,
    )

    async def follow() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            event = json.loads(line)
            told.tell(event["n"], event["what"], event.get("data"))

    following = asyncio.create_task(follow())
    try:
        yield told
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        following.cancel()
        await asyncio.wait((following,))
        if not following.cancelled():
            following.result()
