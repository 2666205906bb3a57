"""Limits on the requests of one address without a token.

Each process counts in its own memory, so each of several processes allows the whole limit.
"""

import logging
import math
import time
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Scope

from stream_server.errors import InvalidRequest
from stream_server.metrics import Metrics
from stream_server.settings import Settings
from stream_server.web.addresses import client_host, networks
from stream_server.web.auth import identity_of
from stream_server.web.crowd import Crowd
from stream_server.web.rates import Rate, Refusal

__all__ = [
    "BYTES_A_REQUEST",
    "IDS_A_REQUEST",
    "PAGE",
    "QUERY",
    "STREAM_RETRY_MS",
    "Limits",
    "limits_of",
]

logger = logging.getLogger(__name__)

# So much of each costs the event loop as much as a plain request, about 0.1 ms
# (bench/groups/worst_address.py).
IDS_A_REQUEST: Final = 10  # product ids
BYTES_A_REQUEST: Final = 4096  # of a body
STREAM_RETRY_MS: Final = 5000  # plus jitter: when a refused stream may come back
QUERY: Final = 6  # a database query costs as much as so many plain requests
PAGE: Final = 25  # a page with cards costs as much as so many plain requests
_SECONDS_BETWEEN_WARNINGS: Final = 60.0


class Limits:
    """The limits of each address: its rates, and its open streams and waiting polls."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._requests = Rate(settings.request_rate)
        self._searches = Rate(settings.search_rate)
        self._reservations = Rate(settings.reservation_rate)
        self._lines = Rate(settings.reservation_line_rate)
        self._units = Rate(settings.reservation_unit_rate)
        self._metrics = metrics
        self._warned_at = -math.inf
        self.streams = Crowd(settings.streams_per_address)
        self.polls = Crowd(settings.polls_per_address)

    def check_request(self, scope: Scope, cost: int = 1) -> None:
        """Counts a request, or the extra cost of one. Raises HTTPException 429 with Retry-After if
        the address has used up its rate, unless the request has a valid token."""
        hosts = networks(client_host(scope))
        refused = self._requests.take(hosts, cost) if cost else None
        if refused is None:
            return
        if math.isinf(refused[1]):  # more than the whole rate: takes all of it
            refused = self._requests.take(hosts, self._requests.max_cost or cost)
        if refused is not None and not _has_token(scope):
            self._refuse(scope, refused, "requests", "REQUEST_RATE")

    def check_query(self, request: Request) -> None:
        """Counts the extra cost of a database query. Raises HTTPException 429."""
        self.check_request(request.scope, QUERY)

    def check_search(self, request: Request) -> None:
        """Counts a search of the catalogue by words. Raises HTTPException 429."""
        refused = self._searches.take(networks(client_host(request.scope)))
        if refused is not None and not _has_token(request.scope):
            self._refuse(request.scope, refused, "searches", "SEARCH_RATE")

    def check_reservation(self, request: Request) -> None:
        """Counts a shopper's request about a reservation. Raises HTTPException 429."""
        refused = self._reservations.take(networks(client_host(request.scope)))
        if refused is not None:
            self._refuse(request.scope, refused, "reservations", "RESERVATION_RATE")

    def check_cart(self, request: Request, lines: int, units: int) -> None:
        """Counts the lines and units that a shopper wants to reserve. Raises HTTPException 429, and
        InvalidRequest for a cart that exceeds a whole rate."""
        hosts = networks(client_host(request.scope))
        for rate, cost, what, name in (
            (self._lines, lines, "cart lines", "RESERVATION_LINE_RATE"),
            (self._units, units, "units", "RESERVATION_UNIT_RATE"),
        ):
            if rate.max_cost is not None and cost > rate.max_cost:
                raise InvalidRequest("lines", f"at most {rate.max_cost} {what} in all, not {cost}")
            refused = rate.take(hosts, cost)
            if refused is not None:
                self._refuse(request.scope, refused, what, name)

    def _refuse(self, scope: Scope, refused: Refusal, what: str, name: str) -> None:
        item, seconds = refused
        self._metrics.limited.labels(what).inc()
        now = time.monotonic()
        if now - self._warned_at > _SECONDS_BETWEEN_WARNINGS:
            self._warned_at = now
            logger.warning(
                "%s gets a 429: %s is %s. If this is a proxy, add it to FORWARDED_ALLOW_IPS",
                client_host(scope), name, item,
            )  # fmt: skip
        raise HTTPException(
            429,
            f"Too many {what} from one address: the limit is {item}",
            {"Retry-After": str(max(1, math.ceil(seconds)))},
        )


def _has_token(scope: Scope) -> bool:
    try:
        return identity_of(Request(scope)) is not None
    except HTTPException:
        return False


def limits_of(request: Request) -> Limits:
    """Returns the limits of the application."""
    limits: Limits = request.app.state.limits
    return limits
