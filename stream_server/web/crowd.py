"""The number of open streams or waiting polls that each address has at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from stream_server.web.addresses import networks

__all__ = ["Crowd", "Place"]


class Place:
    """The place of one address in a crowd. All its streams, or all its polls, share this object."""

    __slots__ = ("_crowd", "_host", "number")

    def __init__(self, crowd: Crowd, host: str) -> None:
        self._crowd = crowd
        self._host = host
        self.number = 0

    def leave(self) -> None:
        """Counts one less for the address."""
        self._crowd._leave(self, self._host)


class Crowd:
    """A count of streams or polls for each address. The limit is `max_per_address` (0: no limit);
    the wider networks of IPv6 have a larger limit."""

    def __init__(self, max_per_address: int) -> None:
        self._max_per_address = max_per_address
        self._places: dict[str, Place] = {}
        self._counts: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        """Returns the number of addresses that have at least one."""
        return len(self._places)

    def is_full(self, host: str) -> bool:
        """Whether the address has reached its limit."""
        return bool(self._max_per_address) and any(
            self._counts[key] >= self._max_per_address * share for key, share in networks(host)
        )

    def enter(self, host: str) -> Place:
        """Counts one more for the address, until the caller calls `leave`."""
        place = self._places.get(host)
        if place is None:
            place = self._places[host] = Place(self, host)
        place.number += 1
        for key, _ in networks(host):
            self._counts[key] += 1
        return place

    def _leave(self, place: Place, host: str) -> None:
        place.number -= 1
        if not place.number:
            del self._places[host]
        for key, _ in networks(host):
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]
