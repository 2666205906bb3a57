"""Publishes changes: decides when each is sent, makes its frame and writes it in slices.

A change is sent at once. When every stream has it, the product waits for `STREAM_CONFLATE_MS`;
then its newest state is sent, if it has changed meanwhile. So the first change is never delayed and
the last is never dropped. Frames are made once and sent in order: a stream that shows two products
never gets the later change with a position that covers the earlier one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from stream_server.metrics import Metrics
from stream_server.streaming import events, frames
from stream_server.streaming.frames import Frame
from stream_server.streaming.hub import PING_SLOTS, Hub
from stream_server.streaming.pending import Pending
from stream_server.streaming.subscriber import Subscriber, Topic

__all__ = ["Publisher"]

logger = logging.getLogger(__name__)

_SLICE: Final = 256  # writes in one turn of the event loop: about 3 ms
_OPENINGS: Final = 32  # streams that begin in one turn of the event loop
_FAREWELL_SECONDS: Final = 0.02  # between two streams that end, where there are few
_BATCH: Final = 200  # products published together


class Publisher:
    """Decides when streams get changes and pings, and when they end. Times are seconds."""

    def __init__(
        self,
        hub: Hub,
        metrics: Metrics,
        *,
        ping: float = 15.0,
        stall: float = 30.0,
        max_life: float = 3600.0,
        now: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._hub = hub
        self._metrics = metrics
        self._ping = ping
        self._stall = stall
        self._max_life = max_life
        self._now = now
        self._rng = rng or random.Random()
        self._told_live_changes = 0
        self._in_turn = 0  # writes in this turn of the loop

    async def publish(self) -> None:
        """Publishes changes when they are due, for ever."""
        while True:
            self._hub.changed.clear()
            generation = self._hub.generation
            if generation != self._hub.ended_generation:
                await self.end_streams(seconds=1.0)
                self._hub.end_generation(generation)
            if self._hub.live_changes != self._told_live_changes:
                await self._tell_live()
            if self._hub.held and self._hub.is_loaded:
                await self._start_held()
            due = self._hub.pending.due(_BATCH)
            if due:
                await self._publish(due)
            else:
                await self._sleep_until_due()

    async def ping(self) -> None:
        """Pings every stream once an interval, closes streams whose clients read nothing, and ends
        streams that are old enough, for ever."""
        loop = asyncio.get_running_loop()
        pause = self._ping / PING_SLOTS
        at = loop.time()
        while True:
            for slot in self._hub.ping_slots:
                at = max(at + pause, loop.time() - self._ping)
                await asyncio.sleep(at - loop.time())
                self._abort_stalled()
                if slot:
                    await self._write_all(list(slot), events.ping(self._now()))
                    self._end_old(slot)

    async def end_streams(self, seconds: float) -> None:
        """Ends every stream, spread over this time, or over less where there are few. Each client
        is given its own time to come back."""
        for waiter in self._hub.waiters:
            waiter.end()
        streams = self._hub.streams()
        self._rng.shuffle(streams)
        farewells = [self._farewell() for _ in range(64)]
        seconds = min(seconds, len(streams) * _FAREWELL_SECONDS)
        deadline = self._hub.clock() + seconds
        slices = max(-(-len(streams) // _SLICE), round(seconds / _FAREWELL_SECONDS), 1)
        size = -(-len(streams) // slices) or 1
        slices = -(-len(streams) // size)
        for number, part in enumerate(_slices(streams, size), start=1):
            for subscriber in part:
                self._end(subscriber, self._rng.choice(farewells))
            left = deadline - self._hub.clock()
            await asyncio.sleep(max(0.0, left / (slices - number + 1)) if number < slices else 0)

    async def _sleep_until_due(self) -> None:
        due = self._hub.pending.next_due
        if due is None:
            await self._hub.changed.wait()
            return
        delay = due - self._hub.clock()
        timer = asyncio.get_running_loop().call_later(max(0.0, delay), self._hub.changed.set)
        await self._hub.changed.wait()
        timer.cancel()

    async def _publish(self, product_ids: Sequence[str]) -> None:
        hub = self._hub
        generation = hub.generation
        taken = hub.pending.take(product_ids, hub.seen)
        try:
            encoded = self._encode(taken)
            make = frames.Joined(encoded, hub.published_position())
            delivered = 0
            for shown, subscribers in self._by_products(encoded).items():
                delivered += await self._write_all(subscribers, make.frame(shown), shown)
            self._measure(delivered, [taken[product_id].changed_at for product_id in encoded])
        except Exception:
            if hub.generation == generation:
                hub.pending.put_back(taken)
            raise
        finally:
            hub.pending.finish(taken.values())

    def _encode(self, taken: Mapping[str, Pending]) -> dict[str, bytes]:
        """The events of each change that concerns the public. A product that cannot be encoded is
        put back, and holds up no other one."""
        encoded: dict[str, bytes] = {}
        for product_id, pending in taken.items():
            try:
                told = pending.as_events(self._hub.encoder)
            except Exception:
                self._metrics.failed.labels("product").inc()
                logger.exception("Product %r cannot be published; trying again", product_id)
                self._hub.pending.put_back({product_id: pending})
            else:
                if told:
                    encoded[product_id] = told
        return encoded

    def _by_products(self, product_ids: Collection[str]) -> dict[tuple[str, ...], list[Subscriber]]:
        """The subscribers, by the products among these that they show: they get the same frame."""
        topics_of = self._hub.topics.of
        if len(product_ids) == 1:  # by far the most frequent case
            (only,) = product_ids
            return {(only,): [each for topic in topics_of(only) for each in topic.subscribers]}
        shown: dict[Topic, tuple[str, ...]] = {}
        for product_id in product_ids:
            for topic in topics_of(product_id):
                shown[topic] = (*shown.get(topic, ()), product_id)
        subscribers: dict[tuple[str, ...], list[Subscriber]] = {}
        for topic, ids in shown.items():
            subscribers.setdefault(ids, []).extend(topic.subscribers)
        return subscribers

    async def _write_all(
        self, subscribers: Sequence[Subscriber], frame: Frame, product_ids: Iterable[str] = ()
    ) -> int:
        """Writes a frame to the subscribers that are up to date; the others note the products.
        Lets other tasks run after each slice, which may consist of several frames. Returns how
        many were written."""
        written = start = 0
        while start < len(subscribers):
            part = subscribers[start : start + _SLICE - self._in_turn]
            start += len(part)
            self._in_turn += len(part)
            for subscriber in part:
                if subscriber.behind is not None:
                    subscriber.fall_behind(product_ids)
                    continue
                try:
                    subscriber.send(frame)
                    written += 1
                except Exception as error:  # noqa: BLE001  # it is logged there
                    subscriber.fail(error)
            if self._in_turn >= _SLICE:
                self._in_turn = 0
                await asyncio.sleep(0)
        return written

    async def _tell_live(self) -> None:
        # By a counter, not by comparing values: a stream that began in between has the value of
        # that moment from its snapshot.
        self._told_live_changes = self._hub.live_changes
        frame = events.source(is_live=self._hub.is_live)
        told = [each for each in self._hub.streams() if each not in self._hub.held]
        await self._write_all(told, frame)

    async def _start_held(self) -> None:
        # Only the publisher starts them, so that no stream gets a change before its snapshot.
        for part in _slices(list(self._hub.held), _OPENINGS):
            for subscriber in part:
                if subscriber not in self._hub.held:
                    continue
                try:
                    if not self._hub.start_held(subscriber):
                        self._end(subscriber, self._farewell())
                except Exception as error:  # noqa: BLE001  # it is logged there
                    subscriber.fail(error)
            await asyncio.sleep(0)

    def _end(self, subscriber: Subscriber, farewell: Frame) -> None:
        try:
            if subscriber.is_full:
                subscriber.abort()  # a farewell could not be sent either
            elif subscriber.topic is not None:
                subscriber.write(farewell)
                subscriber.end()
        except Exception as error:  # noqa: BLE001  # it is logged there
            subscriber.fail(error)

    def _measure(self, delivered: int, changed_at: Iterable[float]) -> None:
        now = self._now()
        self._metrics.delivered.inc(delivered)
        for at in changed_at:
            self._metrics.published_changes.inc()
            self._metrics.lag.observe(max(0.0, now - at))

    def _end_old(self, slot: Iterable[Subscriber]) -> None:
        if not self._max_life:
            return
        for subscriber in list(slot):
            if subscriber.pings_left is None:
                subscriber.pings_left = self._lifetime()
            subscriber.pings_left -= 1
            if not subscriber.pings_left:
                self._end(subscriber, self._farewell())

    def _lifetime(self) -> int:
        """How many pings a stream gets. Jitter keeps streams that began together, after a restart,
        from ending together."""
        return max(1, round(self._max_life * self._rng.uniform(0.9, 1.1) / self._ping))

    def _abort_stalled(self) -> None:
        for subscriber in self._hub.stalled_since(self._hub.clock() - self._stall):
            subscriber.abort()
            self._metrics.stalled.inc()

    def _farewell(self) -> Frame:
        return events.ping(self._now(), int(self._hub.retry_ms * self._rng.uniform(0.5, 2.5)))


def _slices(subscribers: list[Subscriber], size: int) -> Iterable[list[Subscriber]]:
    for start in range(0, len(subscribers), size):
        yield subscribers[start : start + size]
