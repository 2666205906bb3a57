"""The limits on all streams of a process together: open files, and unknown product ids."""

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
    """The limit on open streams: each uses one of the process's open files.

    The limit on open files is read again whenever it seems to be reached, so raising it with
    `prlimit` helps without a restart.
    """

    def __init__(self) -> None:
        self._streams = 0.0
        self._warned_at = float("-inf")

    def has_room(self, hub: Hub) -> bool:
        """Whether there is room for one more stream."""
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
                "%d streams are open, as many as the limit of %d open files allows; new ones are "
                "refused. Raise the limit: ulimit -n, or LimitNOFILE= of a systemd unit",
                streams, files,
            )  # fmt: skip
        return False


class UnknownIds:
    """The number of ids on open streams that no product has. The server keeps their text only for
    these streams, so their number is limited for each address and in all."""

    def __init__(self, max_per_address: int = 50_000, max_total: int = 500_000) -> None:
        self._max_per_address = max_per_address
        self._max_total = max_total
        self._total = 0
        self._counts: Counter[Hashable] = Counter()

    def has_room(self, host: str, number: int) -> bool:
        """Whether the address may have `number` more unknown ids."""
        its_own = self._counts[_narrowest(host)]
        return its_own + number <= self._max_per_address and self._total + number <= self._max_total

    def count(self, place: Place, host: str, number: int) -> Place:
        """Counts the unknown ids of a stream. Returns its place, whose `leave` ends the count."""
        return _CountedPlace(place, self, host, number)

    def add(self, host: str, number: int) -> None:
        """Adds `number` unknown ids to the address; a negative number takes some away."""
        key = _narrowest(host)
        self._total += number
        self._counts[key] += number
        if not self._counts[key]:
            del self._counts[key]


def _narrowest(host: str) -> Hashable:
    return networks(host)[0][0]


class _CountedPlace:
    """The place of a stream with unknown ids."""

    __slots__ = ("_host", "_number", "_place", "_unknown")

    def __init__(self, place: Place, unknown: UnknownIds, host: str, number: int) -> None:
        self._place, self._unknown, self._host, self._number = place, unknown, host, number
        unknown.add(host, number)

    def leave(self) -> None:
        """Counts the ids no more, because the stream has ended."""
        self._unknown.add(self._host, -self._number)
        self._place.leave()
