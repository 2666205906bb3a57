"""When a change goes out: at once, then at most so often, and the last always. Time is virtual."""

import random
from collections.abc import Iterator
from itertools import pairwise
from typing import cast

import hypothesis.strategies as st
import pytest
from httpx_sse import ServerSentEvent
from hypothesis import given, settings

from stream_server.metrics import Metrics
from stream_server.streaming import events, frames
from stream_server.streaming import publisher as module
from stream_server.streaming.cursor import Position, Snapshot
from stream_server.streaming.frames import Frame
from stream_server.streaming.hub import PING_SLOTS, Hub
from stream_server.streaming.products import Product
from stream_server.streaming.publisher import Publisher
from stream_server.streaming.subscriber import Subscriber
from stream_server.web.product_json import PublicEncoder
from tests.support.miniature import JSON, MiniPostgres, parsed
from tests.support.virtual_time import VirtualLoop

CONFLATE = 0.1


class Client(Subscriber):
    """A stream that notes when it gets what."""

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self.got: list[tuple[float, ServerSentEvent]] = []
        self.frames: list[Frame] = []
        self.is_aborted = False
        self.unread = 0

    def backlog(self) -> int:
        return self.unread

    def write(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.got += [(cast(Hub, self.hub).clock(), event) for event in parsed(frame.body)]

    def end(self) -> None:
        self.hub.unsubscribe(self)

    def abort(self) -> None:
        self.is_aborted = True
        self.end()

    def position(self) -> Snapshot:
        """The last that it was given."""
        return Position.parse([event.id for _, event in self.got if event.id][-1]).snapshot

    def updates(self, product_id: str) -> list[tuple[float, JSON]]:
        return [
            (at, event.json())
            for at, event in self.got
            if event.event == "inventory_updated" and event.json()["productId"] == product_id
        ]


class Shop:
    """A hub that follows a database in miniature at once."""

    def __init__(
        self, products: int = 3, ping: float = 15.0, stall: float = 30.0, longest: float = 0.0
    ) -> None:
        self.loop = VirtualLoop()
        self.database = MiniPostgres()
        self.change(*(f"p{number}" for number in range(products)), follow=False)
        self.metrics = Metrics()
        self.hub = Hub(
            PublicEncoder(), conflate=CONFLATE, clock=self.loop.time,
            on_failure=self.metrics.failed.labels("stream").inc,
        )  # fmt: skip
        with self.loop.entered():
            self.publisher = Publisher(
                self.hub, self.metrics, ping=ping, stall=stall, max_life=longest,
                now=self.loop.time, rng=random.Random(1),
            )  # fmt: skip
            self.hub.load("aaaa", self.database.snapshot(), self.database.products())
            self.tasks = [
                self.loop.create_task(self.publisher.publish()),
                self.loop.create_task(self.publisher.ping()),
            ]
        self.loop.step(3)

    def change(self, *product_ids: str, sold: int = 0, follow: bool = True) -> None:
        xid = self.database.begin()
        for product_id in product_ids:
            self.database.write(xid, product_id, None, sold_quantity=sold)
        self.database.end(xid, commit=True)
        if follow:
            self.hub.apply(self.database.since(self.hub.seen), self.database.snapshot())

    def open(self, *ids: str) -> Client:
        client = Client(self.hub)
        with self.loop.entered():
            self.hub.subscribe(client, frozenset(ids) if ids else None)
        self.loop.step(3)
        client.got.clear()
        return client


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.loop.finish()


def test_the_first_change_goes_out_at_once(shop: Shop) -> None:
    client = shop.open("p0")
    at = shop.loop.time()
    shop.change("p0", sold=5)
    shop.loop.step(3)
    assert [(when, data["soldQuantity"]) for when, data in client.updates("p0")] == [(at, 5)]


def test_the_next_ones_wait_and_only_the_newest_of_them_goes_out(shop: Shop) -> None:
    client = shop.open("p0")
    at = shop.loop.time()
    for sold in range(1, 6):
        shop.change("p0", sold=sold)
        shop.loop.step(3)
        shop.loop.advance(0.01)
    shop.loop.advance(1.0)
    (first, one), (second, five) = client.updates("p0")
    assert (one["soldQuantity"], five["soldQuantity"]) == (1, 5)
    assert first == at
    assert second == pytest.approx(at + CONFLATE, abs=0.011)


def test_the_quiet_of_one_product_holds_no_other_up(shop: Shop) -> None:
    client = shop.open()
    shop.change("p0", sold=1)
    shop.loop.step(3)
    shop.change("p0", sold=2)
    shop.loop.step(3)
    at = shop.loop.time()
    shop.change("p1", sold=3)
    shop.loop.step(3)
    assert [when for when, _ in client.updates("p1")] == [at]
    position = client.position()
    assert position.sees(shop.hub.entries["p1"].product.changed_xid) is False  # p0 is still owed
    shop.loop.advance(1.0)
    position = client.position()
    assert position == shop.hub.seen


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["p0", "p1", "p2"]), st.sampled_from([0.0, 0.01, 0.04, 0.2])),
        min_size=1,
        max_size=40,
    )
)
def test_at_most_one_update_an_interval_and_the_last_is_never_dropped(
    changes: list[tuple[str, float]],
) -> None:
    shop = Shop()
    client = shop.open()
    for sold, (product_id, pause) in enumerate(changes, start=1):
        shop.change(product_id, sold=sold)
        shop.loop.advance(pause)
    shop.loop.advance(3 * CONFLATE)
    for product_id, product in shop.database.products().items():
        updates = client.updates(product_id)
        times = [at for at, _ in updates]
        assert all(b - a >= CONFLATE - 1e-9 for a, b in pairwise(times))
        if product_id in dict(changes):
            assert updates[-1][1]["version"] == product.version
    shop.loop.finish()


def test_streams_that_show_the_same_share_one_frame(shop: Shop) -> None:
    clients = [shop.open("p0") for _ in range(3)] + [shop.open("p0", "p1"), shop.open()]
    shop.change("p0", sold=1)
    shop.loop.step(5)
    assert len({id(client.frames[-1]) for client in clients}) == 1


def test_who_is_told_less_never_gets_a_position_that_covers_more(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a frame goes out in slices, one that drains before its turn is not yet given a
    position that covers the frame."""
    monkeypatch.setattr(module, "_SLICE", 1)
    clients = [shop.open("p0", "p1") for _ in range(6)]
    for client in clients:
        client.pause()
    before = shop.hub.position()
    shop.change("p0", sold=1)
    for _ in range(30):
        waiting = [each for each in clients if each.is_full and not each.behind]
        if shop.hub.pending.is_publishing and waiting:
            with shop.loop.entered():
                waiting[0].resume()
            assert waiting[0].got[-1][1].id.startswith(f"{before}.")
        shop.loop.step()
    assert any(client.got for client in clients)


def test_pings_are_spread_over_the_interval_and_reach_everyone() -> None:
    shop = Shop(ping=6.0)
    clients = [shop.open("p0") for _ in range(2 * PING_SLOTS)]
    began = shop.loop.time()
    shop.loop.advance(6.2, resolution=0.05, turns=4)
    first = {}
    for client in clients:
        pings = [at for at, event in client.got if event.event == "ping"]
        assert 1 <= len(pings) <= 2
        first[client] = pings[0] - began
    assert len({round(at, 1) for at in first.values()}) > 40
    assert client.got[-1][1].json().keys() == {"time"}
    shop.loop.finish()


def test_only_who_is_full_for_too_long_is_closed() -> None:
    shop = Shop(ping=6.0, stall=2.0)
    stuck, slow, quick = shop.open(), shop.open(), shop.open()
    stuck.pause()
    shop.loop.advance(1.5)
    slow.pause()
    shop.loop.advance(1.0)
    assert (stuck.is_aborted, slow.is_aborted, quick.is_aborted) == (True, False, False)
    with shop.loop.entered():
        slow.resume()
    shop.loop.advance(5.0)
    assert not slow.is_aborted
    assert shop.hub.open_streams.total() == 2
    assert not shop.hub.stalls
    shop.loop.finish()


@pytest.mark.parametrize("last_id", [None, "aaaa.101:101:"])
def test_a_stream_whose_socket_is_full_from_the_beginning_is_closed_too(
    last_id: str | None,
) -> None:
    """Whether it begins or goes on, with an answer before it that nobody reads."""
    shop = Shop(ping=6.0, stall=2.0)
    stuck = Client(shop.hub)
    stuck.pause()
    with shop.loop.entered():
        shop.hub.subscribe(stuck, ["p0"], last_id)
    is_aborted = []
    for seconds in (1.5, 1.0):
        shop.loop.advance(seconds)
        is_aborted.append(stuck.is_aborted)
    assert is_aborted == [False, True]
    assert stuck.frames == []
    shop.loop.finish()


def test_who_reads_slowly_is_not_closed_and_who_stops_is() -> None:
    shop = Shop(ping=6.0, stall=2.0)
    slow, stuck = shop.open(), shop.open()
    slow.unread = stuck.unread = 1000
    slow.pause()
    stuck.pause()
    for left in range(999, 989, -1):
        slow.unread = left
        shop.loop.advance(1.5)
    assert (slow.is_aborted, stuck.is_aborted) == (False, True)
    shop.loop.advance(4.5)
    assert slow.is_aborted
    shop.loop.finish()


def test_a_stream_ends_when_it_has_lived_long_enough_each_at_its_own_time() -> None:
    shop = Shop(ping=2.0, longest=100.0)
    clients = [shop.open("p0") for _ in range(200)]
    began = shop.loop.time()
    while shop.hub.open_streams.total() and shop.loop.time() - began < 120:
        shop.loop.advance(1.0)
    assert not shop.hub.open_streams.total()
    ends = [client.got[-1] for client in clients]
    assert all(90 - 4 <= at - began <= 110 + 4 for at, _ in ends)
    assert max(at for at, _ in ends) - min(at for at, _ in ends) > 10
    assert {event.event for _, event in ends} == {"ping"}
    assert all(event.retry for _, event in ends)
    shop.loop.finish()


def test_without_a_longest_life_a_stream_never_ends() -> None:
    shop = Shop(ping=2.0)
    client = shop.open("p0")
    shop.loop.advance(2000.0, resolution=1.0)
    assert client.topic is not None
    shop.loop.finish()


@pytest.mark.parametrize(("streams", "takes"), [(20, 0.4), (100, 2.0), (1000, 5.0)])
def test_few_streams_end_one_after_the_other_and_many_within_the_time(
    shop: Shop, streams: int, takes: float
) -> None:
    """So that they don't come back all at once, and a small shop's shutdown is short."""
    clients = [shop.open(f"p{number % 3}") for number in range(streams)]
    began = shop.loop.now
    with shop.loop.entered():
        task = shop.loop.create_task(shop.publisher.end_streams(5.0))
    for quarter in range(1, 4):
        shop.loop.advance(began + takes * quarter / 4 - shop.loop.now)
        open_ones = sum(client.topic is not None for client in clients)
        assert open_ones == pytest.approx(streams * (1 - quarter / 4), abs=streams * 0.08)
    shop.loop.advance(takes / 3)
    assert task.done()
    assert not shop.hub.streams()


def test_the_full_are_not_pinged_and_not_written_to(shop: Shop) -> None:
    client = shop.open()
    client.pause()
    shop.change("p0", "p1", sold=1)
    shop.loop.advance(20.0, resolution=0.25)
    assert client.got == []
    assert client.behind == {"p0", "p1"}
    shop.change("p0", sold=2)
    shop.loop.advance(1.0)
    with shop.loop.entered():
        client.resume()
    ((_, snapshot),) = client.got
    assert {each["productId"]: each["soldQuantity"] for each in snapshot.json()["products"]} == {
        "p0": 2,
        "p1": 1,
    }


def test_a_pause_that_comes_after_the_end_leaves_nothing_behind(shop: Shop) -> None:
    """The last bytes may be the ones that fill the socket."""
    client = shop.open()
    shop.hub.unsubscribe(client)
    client.pause()
    assert not shop.hub.stalls


def test_a_reset_takes_the_last_id_from_the_client(shop: Shop) -> None:
    """The HTML standard, 9.2.6: an empty `id` sets the last event id to the empty string."""
    assert b"\nid: \n" in events.reset(2000).body


def test_a_change_that_comes_while_the_one_before_goes_out_waits_too(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SLICE", 1)
    clients = [shop.open("p0") for _ in range(8)]
    shop.change("p0", sold=1)
    shop.loop.step(3)
    assert shop.hub.pending.is_publishing
    shop.change("p0", sold=2)
    shop.loop.advance(1.0)
    for client in clients:
        (first, _), (second, two) = client.updates("p0")
        assert second - first >= CONFLATE - 1e-9
        assert two["soldQuantity"] == 2


# What fails


def failing_for(product_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    update = PublicEncoder.update

    def fail(self: PublicEncoder, product: Product, variant_id: str | None) -> bytes:
        if product.id == product_id:
            raise RuntimeError("it cannot be encoded")
        return update(self, product, variant_id)

    monkeypatch.setattr(PublicEncoder, "update", fail)


def test_a_product_that_cannot_be_encoded_holds_up_no_other_and_no_position_passes_over_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = shop.open()
    before = shop.hub.position()
    with monkeypatch.context() as patch:
        failing_for("p1", patch)
        shop.change("p0", "p1", "p2", sold=4)
        shop.loop.advance(0.5)
        assert [data["soldQuantity"] for _, data in client.updates("p0")] == [4]
        assert [data["soldQuantity"] for _, data in client.updates("p2")] == [4]
        shop.change("p0", sold=5)
        shop.loop.advance(0.5)
        assert [data["soldQuantity"] for _, data in client.updates("p0")] == [4, 5]
        assert client.updates("p1") == []
        assert str(Position("aaaa", client.position())) == shop.hub.position() == before
    shop.loop.advance(10.0, resolution=0.1)
    assert [data["soldQuantity"] for _, data in client.updates("p1")] == [4]
    assert client.position() == shop.hub.seen
    assert not shop.tasks[0].done()


def test_a_change_that_was_put_back_keeps_its_place_among_older_ones(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits out its quiet is older than what failed: positions stay before both."""
    client = shop.open()
    shop.change("p0", sold=1)
    shop.loop.step(3)
    shop.change("p0", sold=2)  # waits
    owed = shop.hub.entries["p0"].product.changed_xid
    with monkeypatch.context() as patch:
        failing_for("p1", patch)
        shop.change("p1", sold=1)
        shop.loop.step(3)
        assert list(shop.hub.pending) == ["p0", "p1"]
        assert not client.position().sees(owed)
        assert not Position.parse(shop.hub.position()).snapshot.sees(owed)


def test_whatever_else_fails_while_changes_go_out_they_go_out_later(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = shop.open()
    with monkeypatch.context() as patch:
        patch.setattr(frames, "Joined", lambda *_: 1 / 0)
        shop.change("p0", sold=4)
        shop.loop.step(3)
    with pytest.raises(ZeroDivisionError):
        shop.tasks[0].result()
    shop.tasks[0] = shop.loop.create_task(shop.publisher.publish())  # as the application does
    shop.loop.advance(3.0, resolution=0.1)
    assert [data["soldQuantity"] for _, data in client.updates("p0")] == [4]


def test_a_stream_that_cannot_be_written_to_is_closed_and_the_others_go_on(shop: Shop) -> None:
    clients = [shop.open("p0") for _ in range(3)]

    class Broken(Client):
        def write(self, frame: Frame) -> None:
            if self.got:
                raise RuntimeError("no socket does that")
            super().write(frame)

        def abort(self) -> None:
            raise RuntimeError("nor that")

    broken = Broken(shop.hub)
    with shop.loop.entered():
        shop.hub.subscribe(broken, frozenset(["p0"]))
    shop.change("p0", sold=4)
    shop.loop.advance(0.5)
    for client in clients:
        assert [data["soldQuantity"] for _, data in client.updates("p0")] == [4]
    assert broken.topic is None
    assert shop.hub.open_streams.total() == 3
    assert not shop.tasks[0].done()
    failures = shop.metrics.registry.get_sample_value(
        "stream_server_failed_deliveries_total", {"what": "stream"}
    )
    assert failures == 1


def test_a_stream_whose_snapshot_fails_is_closed_before_it_is_given_a_later_position(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = shop.open("p0", "p1")
    client.pause()
    shop.change("p0", sold=4)
    shop.loop.advance(0.5)
    with monkeypatch.context() as patch:
        patch.setattr(shop.hub, "snapshot_frame", lambda *_, **__: 1 / 0)
        with shop.loop.entered():
            client.resume()
            late = Client(shop.hub)
            shop.hub.subscribe(late, frozenset(["p0"]))
    shop.change("p1", sold=5)
    shop.loop.advance(0.5)
    assert client.is_aborted
    assert late.is_aborted
    assert client.got == late.got == []
    assert shop.hub.open_streams.total() == 0


def test_a_poll_is_given_no_position_of_the_history_before(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database is put back while a change goes out: the snapshot from before the change names
    transactions that the other history has yet to make."""
    monkeypatch.setattr(module, "_SLICE", 1)
    for _ in range(4):
        shop.open("p0")
    for sold in range(9):
        shop.change("p0", sold=sold, follow=False)
    shop.hub.apply(shop.database.since(shop.hub.seen), shop.database.snapshot())
    shop.loop.step(1)
    assert shop.hub.pending.is_publishing
    earlier = Snapshot(101, 101)
    with shop.loop.entered():
        shop.hub.load("bbbb", earlier, {})
    for _ in range(8):
        assert shop.hub.position() == str(Position("bbbb", earlier))
        shop.loop.step(1)


def test_a_held_stream_whose_socket_was_full_gets_pings_and_then_its_snapshot() -> None:
    shop = Shop(ping=2.0)
    shop.hub.is_loaded = False
    client = Client(shop.hub)
    client.is_full = True
    with shop.loop.entered():
        shop.hub.subscribe(client, frozenset(["p0"]))
        client.pause()
        client.resume()
        assert client.got == []
    shop.loop.advance(3.0)
    assert {event.event for _, event in client.got} == {"ping"}
    with shop.loop.entered():
        shop.hub.load("aaaa", shop.database.snapshot(), shop.database.products())
    shop.loop.step(3)
    assert client.got[-1][1].event == "snapshot"
    assert client.got[-1][1].id.startswith(shop.hub.position())
    shop.loop.finish()


def test_a_client_that_knows_a_state_in_between_is_told_of_each_variant_that_differs(
    shop: Shop,
) -> None:
    """It comes from another process, which was faster. Here the product's first change waits, and
    the next one takes its variant back to what was published: nothing seems to differ."""
    xid = shop.database.begin()
    shop.database.write(xid, "p0", "red", max_quantity=1000, sold_quantity=0)
    shop.database.end(xid, commit=True)
    shop.hub.apply(shop.database.since(shop.hub.seen), shop.database.snapshot())
    shop.open("p0")  # so that somebody watches it
    shop.change("p0", sold=1)
    shop.loop.step(3)
    shop.change("p0", sold=400)  # waits: the variant has 600 now, as the product has
    other = Position("aaaa", shop.database.snapshot())
    client = Client(shop.hub)
    with shop.loop.entered():
        shop.hub.subscribe(client, frozenset(["p0"]), str(other))
    shop.loop.step(3)
    shop.change("p0", sold=1)
    shop.loop.advance(1.0)
    told = {data["variantId"]: data["availableQuantity"] for _, data in client.updates("p0")}
    assert told == {None: 999, "red": 999}
