"""Rates that forget: how much each key has used of late, in memory that has a bound.

A sliding window by two slices: what was used in this slice, and of the slice before as much as the
window still reaches into it. So a key that was not seen for two slices is not there any more, and
an entry is a number. Within any window at most twice the limit gets through: where all of it comes
at the end of one slice and in the next one.
"""

import time
from collections.abc import Callable, Hashable, Iterable
from typing import Final

from limits import RateLimitItem, parse_many

from stream_server.web.addresses import Network

__all__ = ["Rate", "Refusal", "Window"]

MAX_KEYS: Final = 50_000  # of a slice; more begin the next one early


Refusal = tuple[RateLimitItem, float]
"""The item that is exceeded, and the seconds until there is room; infinity: there never is."""


class Window:
    """At most `limit` in `seconds`, for each key."""

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
        """Keys that it remembers."""
        return len(self._now) + len(self._before)

    def wait(self, key: Hashable, cost: int, share: int = 1) -> float:
        """Seconds until so much more is within `share` times the limit, if nothing else comes: 0 if
        it is now, infinity if it never is."""
        limit = self.limit * share
        if cost > limit:
            return float("inf")
        passed = self._advance()
        before, now = self._before.get(key, 0), self._now.get(key, 0)
        if before * (1 - passed) + now + cost <= limit:
            return 0.0
        if now + cost <= limit:  # when enough of the slice before has gone by
            return ((1 - (limit - now - cost) / before) - passed) * self.seconds
        return ((1 - passed) + (1 - (limit - cost) / now)) * self.seconds

    def add(self, key: Hashable, cost: int) -> None:
        self._advance()
        if len(self._now) >= self._max_keys and key not in self._now:
            self._before, self._now, self._began = self._now, {}, self._clock()
        self._now[key] = self._now.get(key, 0) + cost

    def _advance(self) -> float:
        """The part of this slice that has passed, after beginning a new one if it is time."""
        passed = (self._clock() - self._began) / self.seconds
        if passed >= 1:
            slices = int(passed)
            self._before, self._now = self._now if slices == 1 else {}, {}
            self._began += slices * self.seconds
            passed -= slices
        return passed


class Rate:
    """Such as `600/minute;5000/hour`: what is within each of them is within the rate."""

    def __init__(self, text: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._windows: list[tuple[RateLimitItem, Window]] = [
            (item, Window(item.amount, item.get_expiry(), clock=clock))
            for item in (parse_many(text) if text else ())
        ]

    def take(self, networks: Iterable[Network], cost: int = 1) -> Refusal | None:
        """Uses so much of each network's share. What would be too much uses nothing, and is
        refused."""
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
        """The most that can be asked for at once; None: any number."""
        return min((item.amount for item, _ in self._windows), default=None)
