"""What many streams of different products, and many of all of them, cost."""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from stream_server.metrics import Metrics
from stream_server.streaming import publisher as publishing
from stream_server.streaming.cursor import Snapshot
from stream_server.streaming.frames import Frame
from stream_server.streaming.hub import Hub
from stream_server.streaming.publisher import Publisher
from stream_server.streaming.subscriber import Subscriber
from stream_server.web.product_json import PublicEncoder
from tests.support.miniature import after, parsed, row
from tests.support.virtual_time import VirtualLoop


class Reader(Subscriber):
    """Reads everything; or nothing, if it is `stuck`."""

    def __init__(self, hub: Hub, *, stuck: bool = False) -> None:
        super().__init__(hub)
        self.stuck = stuck
        self.bytes = 0
        self.frames: list[Frame] | None = None

    def write(self, frame: Frame) -> None:
        self.bytes += len(frame.body)
        if self.frames is not None:
            self.frames.append(frame)
        if self.stuck and not self.is_full:
            self.pause()

    def abort(self) -> None:
        self.hub.unsubscribe(self)


def hub_of(products: int) -> Hub:
    hub = Hub(PublicEncoder())
    changes = [row(f"p{number:05}", 1, xid=200, log_id=number) for number in range(products)]
    hub.load("aaaa", Snapshot(300, 300), after(changes))
    hub.set_live(True)
    for product_id in hub.entries:
        hub.json(product_id)
    return hub


def kept_by(make: Callable[[], object]) -> int:
    """Bytes that are kept of what it made."""
    gc.collect()
    tracemalloc.start()
    made = make()
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del made
    return size


def test_a_listing_page_takes_two_kilobytes_of_the_hub() -> None:
    """Whatever it began with is not kept for it."""
    hub = hub_of(2000)
    ids = list(hub.entries)
    rng = random.Random(1)

    def open_pages() -> list[Reader]:
        pages = []
        for _ in range(1000):
            pages.append(reader := Reader(hub))
            shown = rng.sample(ids, 24)
            hub.subscribe(reader, [each.encode().decode() for each in shown])  # texts of its own
        return pages

    assert kept_by(open_pages) / 1000 < 2200


def test_what_is_watched_is_forgotten_with_the_last_who_watches() -> None:
    hub = hub_of(40)
    rng = random.Random(2)
    everybody: list[Reader] = []
    for turn in range(3000):
        if rng.random() < 0.5 or turn > 2500:
            if everybody:
                hub.unsubscribe(everybody.pop(rng.randrange(len(everybody))))
        else:
            everybody.append(reader := Reader(hub))
            hub.subscribe(reader, rng.sample([*hub.entries, "unknown"], rng.randint(1, 24)))
        product_id = rng.choice([*hub.entries, "unknown"])
        watching = {r for r in everybody if r.topic and product_id in (r.topic.ids or ())}
        found = [s for topic in hub.topics.of(product_id) for s in topic.subscribers]
        assert set(found) == watching
        assert len(found) == len(watching)
        assert hub.topics.is_watched(product_id) == bool(watching)
    for reader in everybody:
        hub.unsubscribe(reader)
    assert not hub.topics
    assert not hub.topics._watchers


def test_those_who_come_for_the_same_share_the_first_frame() -> None:
    hub = hub_of(300)
    made = [hub._opening(("p00001", "p00002")) for _ in range(3)]
    assert made[0] is made[2]
    for number in range(290):
        hub._opening(tuple(f"p{each:05}" for each in range(number, number + 10)))
    assert hub._openings._bytes <= 262_144
    hub.apply([row("p00001", 2)])
    assert hub._opening(("p00001", "p00002")) is not made[0]
    assert len(hub._openings._frames) == 1


def test_a_page_of_products_with_many_variants_opens_in_several_events() -> None:
    """None is larger than can be shared, and the last one has the position."""
    hub = hub_of(0)
    changes = [row(f"p{number}", 1, xid=200, log_id=number) for number in range(40)]
    changes += [
        row(each.product_id, number + 2, variant=f"{each.product_id}-{number}", xid=200)
        for each in changes
        for number in range(100)
    ]
    hub.load("bbbb", Snapshot(300, 300), after(changes))
    hub.end_generation(hub.generation)
    loop = VirtualLoop()
    reader = Reader(hub)
    reader.frames = []
    with loop.entered():
        hub.subscribe(reader, hub.entries)
    loop.step(200)
    events = parsed(b"".join(frame.body for frame in reader.frames))
    shown = [product["productId"] for event in events for product in event.json()["products"]]
    assert sorted(shown) == sorted(hub.entries)
    assert max(len(frame.body) for frame in reader.frames) <= 262_144
    assert [bool(event.id) for event in events] == [*[False] * (len(events) - 1), True]
    loop.finish()


def run(loop: VirtualLoop, hub: Hub, readers: Iterable[Reader], last_id: str | None = None) -> None:
    with loop.entered():
        for reader in readers:
            hub.subscribe(reader, None, last_id)
    loop.step(200)


def test_catalogue_streams_share_pages_and_the_position() -> None:
    hub = hub_of(5000)
    loop = VirtualLoop()
    readers = [Reader(hub) for _ in range(5)]
    run(loop, hub, readers)
    assert len({reader.bytes for reader in readers}) == 1
    assert all(reader.behind is None and reader.cursor is None for reader in readers)
    assert readers[0].bytes > sum(len(hub.json(each)) for each in hub.entries)
    assert 0 < hub._pages._bytes <= 4_194_304
    for reader in readers:
        hub.unsubscribe(reader)
    assert not hub._pages._pages
    loop.finish()


def test_catalogue_streams_that_read_nothing_keep_nothing() -> None:
    hub = hub_of(5000)
    loop = VirtualLoop()
    stuck: list[Reader] = []

    def open_streams() -> None:
        stuck.extend(Reader(hub, stuck=True) for _ in range(100))
        run(loop, hub, stuck)

    run(loop, hub, [Reader(hub)])
    assert kept_by(open_streams) / 100 < 3000
    loop.finish()


def test_who_lacks_nothing_of_the_catalogue_costs_no_look_at_it() -> None:
    hub = hub_of(5000)
    hub.apply([row("p00007", 2, xid=310)], Snapshot(320, 320))
    loop = VirtualLoop()

    class Seen(dict[str, Any]):
        looks = 0

        def __getitem__(self, key: str) -> Any:
            self.looks += 1
            return super().__getitem__(key)

        def values(self) -> Any:
            raise AssertionError("all of it")

    hub.entries = seen = Seen(hub.entries)
    run(loop, hub, [current := Reader(hub)], "aaaa.320:320:")
    run(loop, hub, [late := Reader(hub)], "aaaa.305:305:")
    assert seen.looks < 20
    assert current.bytes < late.bytes < 1000
    loop.finish()


@pytest.mark.parametrize("most", [3, 10_000])
def test_whoever_was_away_gets_each_product_that_changed(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """However little is remembered: then it gets everything."""
    monkeypatch.setattr("stream_server.streaming.catalogue._RECENT", most)
    hub = hub_of(50)
    rng = random.Random(3)
    changed_after: dict[int, set[str]] = {}
    for xid in range(300, 900):
        product_id = rng.choice(list(hub.entries))
        version = hub.entries[product_id].product.version + 1
        hub.apply([row(product_id, version, xid=xid)], Snapshot(xid + 1, xid + 1))
        for changed in changed_after.values():
            changed.add(product_id)
        changed_after[xid + 1] = set()
    for xid, expected in changed_after.items():
        found = hub._changed_since(Snapshot(xid, xid), None)
        if found is None:
            assert most == 3
        else:
            assert set(found) == expected
            assert len(found) == len(expected)


def test_a_product_on_many_pages_does_not_hold_the_loop() -> None:
    """Each page is a topic with one subscriber; turns are as long as for one topic."""
    hub = hub_of(400)
    loop = VirtualLoop()
    with loop.entered():
        publisher = Publisher(hub, Metrics(), now=lambda: loop.now)
        task = loop.create_task(publisher.publish())
        readers = [Reader(hub) for _ in range(1000)]
        for number, reader in enumerate(readers):
            hub.subscribe(reader, ["p00000", f"p{1 + number % 399:05}", f"p{number // 399:05}"])
    loop.step(20)
    begun = [reader.bytes for reader in readers]
    hub.apply([row("p00000", 2, xid=400)], Snapshot(401, 401))
    told = []
    for _ in range(30):
        loop.step(1)
        told.append(sum(r.bytes > b for r, b in zip(readers, begun, strict=True)))
    assert told[-1] == 1000
    turns = [b - a for a, b in zip([0, *told], told, strict=False)]
    assert max(turns) <= publishing._SLICE
    task.cancel()
    loop.finish()
