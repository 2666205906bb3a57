"""Rate limits: how much each key has used lately, in bounded memory.

A sliding window of two slices: all that was used in the current slice, and the part of the previous
slice that the window still covers. An entry is one number, and a key that is not seen for two
slices is forgotten. Any window lets through at most twice the limit: if all requests come at the
end of one slice and in the next.
"""

import time
from collections.abc import Callable, Hashable, Iterable
from typing import Final

from limits import RateLimitItem, parse_many

from stream_server.web.addresses import Network

__all__ = ["Rate", "Refusal", "Window"]

MAX_KEYS: Final = 50_000  # in a slice; another key begins the next slice early


Refusal = tuple[RateLimitItem, float]
"""The limit that is exceeded, and the seconds until the request fits; infinity: it never fits."""


class Window:
    """A limit on what each key may use: `limit` in `seconds`."""

    __slots__ = ("_before", "_began", "_clock", "_max_keys", "_now", "limit", "seconds")

    def __init__(
        self,
        limit: int,
        seconds: float,
        *,
        max_keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self.seconds = seconds
        self._max_keys = max_keys
        self._clock = clock
        self._began = clock()
        self._now: dict[Hashable, int] = {}
        self._before: dict[Hashable, int] = {}

    def __len__(self) -> int:
        """Returns the number of remembered keys."""
        return len(self._now) + len(self._before)

    def wait(self, key: Hashable, cost: int, share: int = 1) -> float:
        """Returns the seconds until `cost` fits into `share` times the limit, if nothing else
        comes: 0 if it fits now, infinity if it never fits."""
        limit = self.limit * share
        if cost > limit:
            return float("inf")
        passed = self._advance()
        before, now = self._before.get(key, 0), self._now.get(key, 0)
        if before * (1 - passed) + now + cost <= limit:
            return 0.0
        if now + cost <= limit:  # fits once enough of the previous slice has passed
            return ((1 - (limit - now - cost) / before) - passed) * self.seconds
        return ((1 - passed) + (1 - (limit - cost) / now)) * self.seconds

    def add(self, key: Hashable, cost: int) -> None:
        """Counts `cost` for the key."""
        self._advance()
        if len(self._now) >= self._max_keys and key not in self._now:
            self._before, self._now, self._began = self._now, {}, self._clock()
        self._now[key] = self._now.get(key, 0) + cost

    def _advance(self) -> float:
        """Begins a new slice if it is time; returns the part of the slice that has passed."""
        passed = (self._clock() - self._began) / self.seconds
        if passed >= 1:
            slices = int(passed)
            self._before, self._now = self._now if slices == 1 else {}, {}
            self._began += slices * self.seconds
            passed -= slices
        return passed


class Rate:
    """A rate such as `600/minute;5000/hour`. A request must be within each of its limits."""

    def __init__(self, text: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._windows: list[tuple[RateLimitItem, Window]] = [
            (item, Window(item.amount, item.get_expiry(), clock=clock))
            for item in (parse_many(text) if text else ())
        ]

    def take(self, networks: Iterable[Network], cost: int = 1) -> Refusal | None:
        """Uses `cost` of each network's share; returns None. If that exceeds a share, uses nothing
        and returns the refusal."""
        for item, window in self._windows:
            for key, share in networks:
                if seconds := window.wait(key, cost, share):
                    return item, seconds
        for _, window in self._windows:
            for key, _ in networks:
                window.add(key, cost)
        return None

    @property
    def max_cost(self) -> int | None:
        """The highest cost that can ever be taken at once; None: no limit."""
        return min((item.amount for item, _ in self._windows), default=None)
