"""The watch over a server's connections: it enforces their time limits and their number.

About once a second it checks all connections, instead of a timer for each request. It counts the
connections that it ends by reason, and logs the counts at most once a minute.
"""

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

__all__ = ["Crowd", "Place", "Timeouts", "Watch", "WatchedConnection", "backlog", "spare_files"]

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_REPORTS: Final = 60.0
_SHORTAGE_SECONDS: Final = 1.0  # after a shortage of files, the watch assumes it for this long
_SMALL_BATCH: Final = 16  # connections that are chosen together to make room
_REASONS: Final = {
    "head": "sent no complete head in time (HTTP_HEAD_SECONDS)",
    "body": "stopped sending a body (HTTP_BODY_SECONDS)",
    "answer": "stopped reading a response (HTTP_ANSWER_SECONDS)",
    "room": "waited for their client and made room for new ones, because open files ran short",
    "refused": "were refused, because no more files may be open",
    "crowd": "were refused, because their address had too many (CONNECTIONS_PER_ADDRESS). If the "
    "address is a proxy's, add it to FORWARDED_ALLOW_IPS",
}


@dataclass(frozen=True)
class Timeouts:
    """The time limits of a client, in seconds."""

    head: float = 30  # from connecting, or from a head's first byte, to the head's end
    body: float = 30  # for the next part of a body
    answer: float = 30  # for reading the next part of a response
    idle: float = 75  # for the next request


class WatchedConnection(Protocol):
    """The interface of a connection to the watch."""

    since: float

    def waits_for(self) -> str | None:
        """Returns what the client has to do next: send a `head`, a `body` or the next request
        (`idle`), or read its `answer`. None while the server has to act."""

    def look(self, now: float) -> None:
        """Ends the connection if its client has taken too long."""

    def leave(self) -> None:
        """Ends the connection now."""


class Place(Protocol):
    """The entry of a connection in the count of its address, while it serves HTTP requests."""

    def leave(self) -> None:
        """Removes the connection from the count."""


class Crowd(Protocol):
    """The number of connections of each address."""

    def is_full(self, host: str) -> bool:
        """Returns whether the address has its maximum number of connections."""

    def enter(self, host: str) -> Place:
        """Counts one more connection until its place is left."""


def spare_files(files: int) -> int:
    """Returns how many of `files`, the limit of open files, streams must leave free."""
    return max(64, files // 20)


def backlog() -> int:
    """Returns how many connections may wait to be accepted.

    An event loop accepts all of them at once, so there must be enough free files for them. Further
    connections wait in their clients' systems.
    """
    return min(4096, max(16, _max_files() // 8))


class Watch:
    """The state that all connections of a server share, and the checks of them."""

    def __init__(
        self,
        connections: Iterable[WatchedConnection],
        timeouts: Timeouts,
        metrics: Metrics,
        streams: Callable[[], int] = lambda: 0,
        *,
        proxies: Proxies | None = None,
        crowd: Crowd | None = None,
    ) -> None:
        """Takes `connections`, a live view of those that serve HTTP requests. `streams` returns the
        number of connections that streams have taken over. `crowd` counts the connections of each
        address except `proxies`, which have many clients."""
        self.timeouts = timeouts
        self.proxies = proxies or Proxies()
        self._crowd = crowd
        self.streams = streams
        self._connections = connections
        self._metrics = metrics
        self._files = 0
        self._is_short_until = float("-inf")
        self._candidates: deque[WatchedConnection] = deque()  # who makes room next
        self._leaving: set[WatchedConnection] = set()  # ended, file not closed yet
        self._reports: Counter[str] = Counter()
        self._bad_requests: Counter[int] = Counter()
        self._reported_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        shortest = min(timeouts.head, timeouts.body, timeouts.answer, timeouts.idle)
        self._interval = min(1.0, max(0.02, shortest / 4))
        metrics.open_connections.set_function(self.count)

    def count(self) -> int:
        """Returns the number of open connections, including those of streams."""
        return sum(1 for _ in self._connections) + self.streams()

    def start(self) -> None:
        """Starts the checks. Call it in the event loop; further calls do nothing."""
        if self._timer is None:
            self._files = _max_files()
            self._timer = asyncio.get_running_loop().call_later(self._interval, self._look)

    def stop(self) -> None:
        """Stops the checks."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def admits(self, file: int) -> bool:
        """Returns whether a new connection may stay. `file` is its file descriptor.

        The kernel gives the lowest free descriptor, so its number tells how many files are open.
        When they run short, each new connection replaces one that waits for its client.
        """
        spare = spare_files(self._files)
        now = asyncio.get_running_loop().time()
        if file >= self._files - spare // 2:
            self._is_short_until = now + _SHORTAGE_SECONDS
        elif now >= self._is_short_until:  # else the low number may come from a closed connection
            return True
        if self._make_room() or file < self._files - spare // 4:
            return True
        self.count_ended("refused")
        return False

    def place_of(self, host: str) -> Place | None:
        """Counts a new connection from this address and returns its place; None if the address has
        too many connections."""
        if self._crowd is None:
            return _UNCOUNTED
        if self._crowd.is_full(host):
            self.count_ended("crowd")
            return None
        return self._crowd.enter(host)

    def count_ended(self, reason: str) -> None:
        """Counts a connection that was ended for this reason."""
        self._metrics.ended_connections.labels(reason).inc()
        if reason in _REASONS:
            self._reports[reason] += 1

    def count_refused(self, status: int) -> None:
        """Counts a request that was refused before the application saw it."""
        self._metrics.bad_requests.labels(str(status)).inc()
        self._bad_requests[status] += 1

    def _make_room(self) -> bool:
        """Ends the least valuable connection and returns whether there was one: idle connections
        first, then the one whose client has been silent longest."""
        if not self._candidates:
            waiting = [
                each
                for each in self._connections
                if each not in self._leaving and each.waits_for() is not None
            ]
            count = max(_SMALL_BATCH, len(waiting) // _SMALL_BATCH)
            self._candidates.extend(heapq.nsmallest(count, waiting, key=_value_of))
            # The choice is valid for a moment only.
            asyncio.get_running_loop().call_later(0.005, self._candidates.clear)
        while self._candidates:
            candidate = self._candidates.popleft()
            if candidate.waits_for() is not None:
                self._leaving.add(candidate)
                candidate.leave()
                self.count_ended("room")
                return True
        return False

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._interval, self._look)
        now = loop.time()
        for each in list(self._connections):
            each.look(now)
        self._leaving.intersection_update(self._connections)
        self._files = _max_files()
        self._check_files()
        if now - self._reported_at >= _SECONDS_BETWEEN_REPORTS:
            self._report(now)

    def _check_files(self) -> None:
        """Counts a shortage of files, because an event loop may not report a failed accept."""
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._metrics.accept_failures.inc()
                self._reports["accept"] += 1

    def _report(self, now: float) -> None:
        if self._reports["accept"]:
            logger.warning(
                "No more than %d files may be open, and all of them are: new connections are not "
                "accepted. Raise the limit: ulimit -n, or LimitNOFILE= in a systemd unit",
                self._files,
            )
        for reason, text in _REASONS.items():
            if self._reports[reason]:
                logger.warning("Connections ended: %d that %s", self._reports[reason], text)
        if self._bad_requests:
            logger.warning(
                "Requests refused as invalid or unsupported HTTP, by status: %s",
                ", ".join(f"{number} × {status}" for status, number in self._bad_requests.items()),
            )
        if self._reports or self._bad_requests:
            self._reported_at = now
            self._reports.clear()
            self._bad_requests.clear()


class _Uncounted:
    def leave(self) -> None:
        pass


_UNCOUNTED: Final = _Uncounted()


def _value_of(connection: WatchedConnection) -> tuple[bool, float]:
    return connection.waits_for() != "idle", connection.since


def _max_files() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if files == resource.RLIM_INFINITY else files
