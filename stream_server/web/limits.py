"""How much one address may ask for without a token: requests, and lines of carts.

Counted in this process's memory: several processes allow as much each.
"""

from __future__ import annotations

import math
import time
from ipaddress import IPv6Address, ip_address

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.exceptions import HTTPException
from starlette.requests import Request

__all__ = ["Limits"]


class Limits:
    """Rates such as `600/minute;5000/hour`, or empty for none."""

    def __init__(self, requests: str, lines: str) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._requests: list[RateLimitItem] = parse_many(requests) if requests else []
        self._lines: list[RateLimitItem] = parse_many(lines) if lines else []

    def count_request(self, request: Request) -> None:
        """Raises HTTPException 429, saying when to try again, if it is one too many."""
        self._count(self._requests, "requests", request, 1)

    def count_lines(self, request: Request, lines: int) -> None:
        """The same for the lines of a cart."""
        self._count(self._lines, "lines", request, lines)

    def _count(self, rates: list[RateLimitItem], kind: str, request: Request, cost: int) -> None:
        address = _address(request)
        for rate in rates:
            if not self._limiter.hit(rate, kind, address, cost=cost):
                reset = self._limiter.get_window_stats(rate, kind, address).reset_time
                seconds = max(1, math.ceil(reset - time.time()))
                raise HTTPException(
                    429, "That is too much from one address", {"Retry-After": str(seconds)}
                )


def _address(request: Request) -> str:
    """The client's address; of IPv6 the network of 64 bits, which one client has to itself."""
    host = request.client.host if request.client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return address.exploded[:19]
