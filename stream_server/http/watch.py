"""The watch over a server's connections: how long they may take, how many there may be.

One look at all of them, once a second or so, replaces a timer for each request. What it ends is
counted by its reason; the log says it once a minute at most.
"""

from __future__ import annotations

import asyncio
import errno
import heapq
import logging
import os
import resource
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from stream_server.http.proxies import Proxies
from stream_server.metrics import Metrics

__all__ = ["Guest", "Patience", "Watch", "backlog", "spare_files"]

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_REPORTS: Final = 60.0
_SHORT_SECONDS: Final = 1.0  # for which files are taken to be short, once they were
_SMALL_BATCH: Final = 16  # connections that are chosen at once to make room
_REASONS: Final = {
    "head": "sent no complete head in time (HTTP_HEAD_SECONDS)",
    "body": "sent no more of their body (HTTP_BODY_SECONDS)",
    "answer": "read no more of their answer (HTTP_ANSWER_SECONDS)",
    "room": "waited for their client and made room for new ones, as open files ran short",
    "refused": "were refused, as open files ran out",
    "crowd": "were refused, as their address had all that it may (CONNECTIONS_PER_ADDRESS). If it "
    "is a proxy, name it in FORWARDED_ALLOW_IPS",
}


@dataclass(frozen=True)
class Patience:
    """Seconds that a client may take."""

    head: float = 30  # from connecting, or from a head's first byte, to its end
    body: float = 30  # for the next part of a body
    answer: float = 30  # for reading the next part of an answer
    idle: float = 75  # for the next request


class Guest(Protocol):
    """A connection, as the watch sees it."""

    since: float

    def waits_for(self) -> str | None:
        """What its client has to do next: send a `head`, a `body`, the next request (`idle`),
        or read its `answer`. None while it is our turn."""

    def look(self, now: float) -> None:
        """Ends the connection if its client has taken too long."""

    def leave(self) -> None:
        """Ends the connection now."""


class Place(Protocol):
    """Where a connection is counted for as long as it is one of HTTP."""

    def leave(self) -> None:
        """It is not any more."""


class Crowd(Protocol):
    """How many connections each address has."""

    def is_full(self, host: str) -> bool:
        """Whether the address has as many as it may."""

    def enter(self, host: str) -> Place:
        """One more, until it leaves."""


def spare_files(files: int) -> int:
    """Of so many files that may be open, those that streams must not take."""
    return max(64, files // 20)


def backlog() -> int:
    """Connections that may wait to be accepted. An event loop accepts all of them at once, so there
    must be files for that many; those beyond wait in their clients' systems."""
    return min(4096, max(16, _most_files() // 8))


class Watch:
    """What all connections of a server share."""

    def __init__(
        self,
        connections: Iterable[Guest],
        patience: Patience,
        metrics: Metrics,
        streams: Callable[[], int] = lambda: 0,
        *,
        proxies: Proxies | None = None,
        crowd: Crowd | None = None,
    ) -> None:
        """`connections` are those that HTTP is spoken on, as they are at any time; `streams`
        counts those that streams have taken over. `crowd` counts those of each address, but not of
        `proxies`, which have many clients."""
        self.patience = patience
        self.proxies = proxies or Proxies()
        self._crowd = crowd
        self.streams = streams
        self._connections = connections
        self._metrics = metrics
        self._files = 0
        self._is_short_until = float("-inf")
        self._leavers: deque[Guest] = deque()  # who makes room next, for a moment
        self._leaving: set[Guest] = set()  # who has been ended, and has not closed its file yet
        self._reports: Counter[str] = Counter()
        self._bad_requests: Counter[int] = Counter()
        self._reported_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        shortest = min(patience.head, patience.body, patience.answer, patience.idle)
        self._interval = min(1.0, max(0.02, shortest / 4))
        metrics.open_connections.set_function(self.count)

    def count(self) -> int:
        """Open connections, those of streams included."""
        return sum(1 for _ in self._connections) + self.streams()

    def start(self) -> None:
        """From now on it looks. Call it in the event loop, as often as you like."""
        if self._timer is None:
            self._files = _most_files()
            self._timer = asyncio.get_running_loop().call_later(self._interval, self._look)

    def stop(self) -> None:
        """Looks no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def admits(self, file: int) -> bool:
        """Whether a new connection may stay. `file` is its number: the kernel gives the lowest
        one that is free, so it says how many are open. Where they run short, each newcomer takes
        the place of somebody who lets us wait."""
        spare = spare_files(self._files)
        now = asyncio.get_running_loop().time()
        if file >= self._files - spare // 2:
            self._is_short_until = now + _SHORT_SECONDS
        elif now >= self._is_short_until:  # else a low number may be of one who has made room
            return True
        if self._make_room() or file < self._files - spare // 4:
            return True
        self.ended("refused")
        return False

    def place_of(self, host: str) -> Place | None:
        """Where a new connection from this address is counted; None if it is one too many."""
        if self._crowd is None:
            return _NOWHERE
        if self._crowd.is_full(host):
            self.ended("crowd")
            return None
        return self._crowd.enter(host)

    def ended(self, reason: str) -> None:
        """Notes that a connection was ended, and why."""
        self._metrics.ended_connections.labels(reason).inc()
        if reason in _REASONS:
            self._reports[reason] += 1

    def refused(self, status: int) -> None:
        """Notes that a request was refused before the application saw it."""
        self._metrics.bad_requests.labels(str(status)).inc()
        self._bad_requests[status] += 1

    def _make_room(self) -> bool:
        """Ends the connection that is missed least, if there is one: the idle first, then who was
        heard least lately."""
        if not self._leavers:
            waiting = [
                each
                for each in self._connections
                if each not in self._leaving and each.waits_for() is not None
            ]
            most = max(_SMALL_BATCH, len(waiting) // _SMALL_BATCH)
            self._leavers.extend(heapq.nsmallest(most, waiting, key=_worth))
            # Who is worth least is known for a moment only.
            asyncio.get_running_loop().call_later(0.005, self._leavers.clear)
        while self._leavers:
            leaver = self._leavers.popleft()
            if leaver.waits_for() is not None:
                self._leaving.add(leaver)
                leaver.leave()
                self.ended("room")
                return True
        return False

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._interval, self._look)
        now = loop.time()
        for each in list(self._connections):
            each.look(now)
        self._leaving.intersection_update(self._connections)
        self._files = _most_files()
        self._try_a_file()
        if now - self._reported_at >= _SECONDS_BETWEEN_REPORTS:
            self._report(now)

    def _try_a_file(self) -> None:
        """An event loop may keep it to itself that it could not accept a connection."""
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._metrics.accept_failures.inc()
                self._reports["accept"] += 1

    def _report(self, now: float) -> None:
        if self._reports["accept"]:
            logger.warning(
                "All %d files that may be open are: new connections are not accepted. "
                "Raise the limit: ulimit -n, or LimitNOFILE= of a systemd unit",
                self._files,
            )
        for reason, text in _REASONS.items():
            if self._reports[reason]:
                logger.warning("Connections ended: %d that %s", self._reports[reason], text)
        if self._bad_requests:
            logger.warning(
                "Requests refused as no HTTP that is served here, by status: %s",
                ", ".join(f"{number} × {status}" for status, number in self._bad_requests.items()),
            )
        if self._reports or self._bad_requests:
            self._reported_at = now
            self._reports.clear()
            self._bad_requests.clear()


class _Nowhere:
    def leave(self) -> None:
        pass


_NOWHERE: Final = _Nowhere()


def _worth(guest: Guest) -> tuple[bool, float]:
    return guest.waits_for() != "idle", guest.since


def _most_files() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if files == resource.RLIM_INFINITY else files
