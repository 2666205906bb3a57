"""How much all streams of a process may take together: open files, and ids that no product has."""

import logging
import math
import resource
import time
from collections import Counter
from collections.abc import Hashable
from typing import Final

from stream_server.http.watch import spare_files
from stream_server.streaming.hub import Hub
from stream_server.streaming.subscriber import Place
from stream_server.web.addresses import networks

__all__ = ["StreamLimit", "UnknownIds"]

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_WARNINGS: Final = 60.0


class StreamLimit:
    """How many streams may be open at once: each takes one of the process's open files.

    The limit of open files is asked for whenever it seems reached, so that `prlimit` helps
    without a restart.
    """

    def __init__(self) -> None:
        self._streams = 0.0
        self._warned_at = float("-inf")

    def has_room(self, hub: Hub) -> bool:
        """Whether there is room for one more."""
        streams = sum(hub.open_streams.values())
        if streams < self._streams:
            return True
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        is_unlimited = files == resource.RLIM_INFINITY
        self._streams = math.inf if is_unlimited else files - spare_files(files)
        if streams < self._streams:
            return True
        now = time.monotonic()
        if now - self._warned_at > _SECONDS_BETWEEN_WARNINGS:
            self._warned_at = now
            logger.warning(
                "%d streams are open, all that the limit of %d open files has room for; new ones "
                "are sent away. Raise it: ulimit -n, or LimitNOFILE= of a systemd unit",
                streams, files,
            )  # fmt: skip
        return False


class UnknownIds:
    """How many ids streams show that no product has. Each is a text that is kept for them alone,
    so one address, and all together, may have so many at once."""

    def __init__(self, max_per_address: int = 50_000, max_total: int = 500_000) -> None:
        self._max_per_address = max_per_address
        self._max_total = max_total
        self._total = 0
        self._counts: Counter[Hashable] = Counter()

    def has_room(self, host: str, number: int) -> bool:
        """Whether an address may have so many more."""
        its_own = self._counts[_narrowest(host)]
        return its_own + number <= self._max_per_address and self._total + number <= self._max_total

    def count(self, place: Place, host: str, number: int) -> Place:
        """The place of a stream that shows so many of them, which are counted until it leaves."""
        return _CountedPlace(place, self, host, number)

    def add(self, host: str, number: int) -> None:
        """So many more; fewer if it is negative."""
        key = _narrowest(host)
        self._total += number
        self._counts[key] += number
        if not self._counts[key]:
            del self._counts[key]


def _narrowest(host: str) -> Hashable:
    return networks(host)[0][0]


class _CountedPlace:
    """The place of a stream that shows unknown ids."""

    __slots__ = ("_host", "_number", "_place", "_unknown")

    def __init__(self, place: Place, unknown: UnknownIds, host: str, number: int) -> None:
        self._place, self._unknown, self._host, self._number = place, unknown, host, number
        unknown.add(host, number)

    def leave(self) -> None:
        """The stream has ended."""
        self._unknown.add(self._host, -self._number)
        self._place.leave()
