"""The promise of the hub, whatever happens in whatever order: a page that goes on from the last
id it got ends with the newest state of everything that it shows.

Two processes follow one database in miniature, each at its own pace. Pages join them, fill up,
drain, lose what was on its way, and come back to either process. Time is virtual.
"""

from __future__ import annotations

import random
import zlib
from typing import Any, cast

import hypothesis.strategies as st
import pytest
from httpx_sse import ServerSentEvent
from hypothesis import Phase, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from stream_server.metrics import Metrics
from stream_server.streaming import hub, publisher, subscriber
from stream_server.streaming.frames import GZIP_HEAD, Frame
from stream_server.streaming.hub import Hub
from stream_server.streaming.publisher import Publisher
from stream_server.streaming.subscriber import Subscriber
from stream_server.web.product_json import PublicEncoder
from tests.support.miniature import MiniPostgres, Page, parsed
from tests.support.virtual_time import VirtualLoop

PRODUCTS = [f"p{number}" for number in range(5)]
SETS = [None, frozenset(PRODUCTS), *(frozenset(PRODUCTS[n : n + 2]) for n in range(4))]
CONFLATE = 0.1


class Socket(Subscriber):
    """A connection that is full when the test says so, and whose bytes are long on the way; by
    gzip, what it reads is what was unpacked of all that it got so far."""

    def __init__(self, hub: Hub, on_its_way: list[ServerSentEvent], *, is_packed: bool) -> None:
        super().__init__(hub)
        self.on_its_way = on_its_way
        self.inflate = zlib.decompressobj(wbits=31) if is_packed else None
        if self.inflate:
            self.inflate.decompress(GZIP_HEAD)
        self.fills_up = False
        self.has_ended = False

    def write(self, frame: Frame) -> None:
        assert not self.has_ended
        assert not self.is_full, "written to a full socket"
        body = self.inflate.decompress(frame.packed) if self.inflate else frame.body
        self.on_its_way.extend(parsed(body))
        if self.fills_up:
            self.fills_up = False
            self.pause()

    def end(self) -> None:
        self.hub.unsubscribe(self)
        self.has_ended = True

    abort = end


class Visitor:
    """Two pages on one stream: one believes each event, the other keeps higher versions."""

    def __init__(self, ids: frozenset[str] | None, patience: int) -> None:
        self.ids = ids
        self.patience = (
            patience  # events that it still gets, before its connection is cut at the end
        )
        self.pages = [Page(ids), Page(ids, by_version=True)]
        self.socket: Socket | None = None

    @property
    def last_id(self) -> str | None:
        return self.pages[0].last_id

    def receive(self, count: int | None = None) -> None:
        assert self.socket is not None
        events = self.socket.on_its_way[:count]
        del self.socket.on_its_way[:count]
        for event in events:
            for page in self.pages:
                page.take(event)


class Process:
    """A hub with its publisher, and a source that reads when the test says so."""

    def __init__(self, database: MiniPostgres, loop: VirtualLoop) -> None:
        self.database = database
        self.loop = loop
        self.hub = Hub(PublicEncoder(), conflate=CONFLATE, clock=loop.time)
        with loop.entered():
            self.publisher = Publisher(
                self.hub, Metrics(), now=lambda: loop.now, rng=random.Random(7)
            )
            self.task = loop.create_task(self.publisher.publish())
            self.hub.load(database.epoch, database.snapshot(), database.products())
            self.hub.set_live(True)

    def read(self, *, anew: bool = False) -> None:
        database, own = self.database, self.hub
        seen = database.snapshot()
        with self.loop.entered():
            if anew or own.epoch != database.epoch:
                own.load(database.epoch, seen, database.products())
            else:
                own.apply(database.since(own.seen), seen)


class Recovery(RuleBasedStateMachine):
    transactions = Bundle("transactions")
    visitors = Bundle("visitors")

    @initialize(drafts=st.sets(st.sampled_from(PRODUCTS[:3])))
    def start(self, drafts: set[str]) -> None:
        self.loop = VirtualLoop()
        self.database = MiniPostgres()
        xid = self.database.begin()
        for product_id in PRODUCTS[:4]:  # the last one is created later, or never
            status = "draft" if product_id in drafts else "active"
            self.database.write(xid, product_id, None, status=status)
        self.database.write(xid, "p3", "p3-red")
        self.database.end(xid, commit=True)
        self.processes = [Process(self.database, self.loop) for _ in range(2)]
        self.everybody: list[Visitor] = []
        self.loop.step()

    # The shop

    @rule(target=transactions)
    def begin(self) -> int:
        return self.database.begin()

    @rule(
        xid=transactions,
        product_id=st.sampled_from(PRODUCTS),
        variant=st.sampled_from([None, None, "red", "blue"]),
        status=st.sampled_from(["active", "active", "active", "draft", "discontinued"]),
        sold=st.integers(0, 1000),
    )
    def write(self, xid: int, product_id: str, variant: str | None, status: str, sold: int) -> None:
        if xid not in self.database.open or self.database.locked_by(product_id) not in (None, xid):
            return
        if variant is not None and not self.database.version(product_id):
            return
        self.database.write(
            xid,
            product_id,
            variant and f"{product_id}-{variant}",
            status=status,
            sold_quantity=sold,
        )

    @rule(xid=consumes(transactions), commit=st.sampled_from([True, True, True, False]))
    def end(self, xid: int, commit: bool) -> None:
        self.database.end(xid, commit=commit)

    @rule(
        product_ids=st.lists(st.sampled_from(PRODUCTS[:4]), min_size=1, max_size=4, unique=True),
        sold=st.integers(0, 1000),
        readers=st.sampled_from([(0,), (1,), (0, 1)]),
        turns=st.integers(0, 2),
    )
    def sell(self, product_ids: list[str], sold: int, readers: list[int], turns: int) -> None:
        xid = self.database.begin()
        for product_id in product_ids:
            if self.database.locked_by(product_id) is None:
                self.database.write(xid, product_id, None, sold_quantity=sold)
        self.database.end(xid, commit=True)
        for which in readers:
            self.processes[which].read()
        self.loop.step(turns)

    # The processes

    @rule(which=st.integers(0, 1))
    def read(self, which: int) -> None:
        self.processes[which].read()

    @rule(turns=st.integers(1, 3))
    def turn(self, turns: int) -> None:
        self.loop.step(turns)

    @rule(seconds=st.sampled_from([0.01, 0.05, 0.11]))
    def wait(self, seconds: float) -> None:
        self.loop.advance(seconds, resolution=0.05, turns=3)

    @rule(
        which=st.integers(0, 1),
        trouble=st.sampled_from(["restart", "reload", "lost", "found", "blink", "epoch"]),
    )
    def trouble(self, which: int, trouble: str) -> None:
        process = self.processes[which]
        if trouble == "restart":
            for visitor in self.everybody:
                if visitor.socket is not None and visitor.socket.hub is process.hub:
                    self.disconnect(visitor)
            process.task.cancel()
            self.processes[which] = Process(self.database, self.loop)
        elif trouble == "epoch":
            self.database.epoch = "bbbb" if self.database.epoch == "aaaa" else "aaaa"
            process.read()
        elif trouble == "reload":
            process.read(anew=True)
        else:
            with self.loop.entered():
                process.hub.set_live(trouble == "found")
                if trouble == "blink":
                    self.connect(self.newcomer(None, 9), which)
                    process.hub.set_live(True)

    # The visitors

    @rule(
        target=visitors,
        ids=st.sampled_from(SETS),
        which=st.integers(0, 1),
        patience=st.integers(0, 4),
    )
    def join(self, ids: frozenset[str] | None, which: int, patience: int) -> Any:
        if len(self.everybody) >= 8:
            return multiple()
        visitor = self.newcomer(ids, patience)
        self.connect(visitor, which)
        return visitor

    @rule(
        visitor=visitors,
        count=st.integers(0, 4),
        which=st.integers(0, 1),
        fills_up=st.booleans(),
        is_away=st.booleans(),
    )
    def come_back(
        self, visitor: Visitor, count: int, which: int, fills_up: bool, is_away: bool
    ) -> None:
        """Gets a little more, loses the rest with its connection, and makes a new one."""
        if visitor.socket is not None:
            visitor.receive(count)
            self.disconnect(visitor)
        if not is_away:
            self.connect(visitor, which, fills_up=fills_up)

    @rule(visitor=visitors, count=st.integers(1, 4))
    def receive(self, visitor: Visitor, count: int) -> None:
        if visitor.socket is not None:
            visitor.receive(count)

    @rule(visitor=visitors)
    def fill_or_drain(self, visitor: Visitor) -> None:
        """The next write is the one that does not fit any more; or there is room again."""
        socket = visitor.socket
        if socket is not None and not socket.has_ended:
            if socket.is_full:
                with self.loop.entered():
                    socket.resume()
            else:
                socket.fills_up = True

    def newcomer(self, ids: frozenset[str] | None, patience: int) -> Visitor:
        visitor = Visitor(ids, patience)
        self.everybody.append(visitor)
        return visitor

    def disconnect(self, visitor: Visitor) -> None:
        if visitor.socket is not None:
            visitor.socket.hub.unsubscribe(visitor.socket)
            visitor.socket = None

    def connect(self, visitor: Visitor, which: int, *, fills_up: bool = False) -> None:
        process = self.processes[which]
        last_id = visitor.last_id
        if last_id is not None and process.hub.is_ahead(last_id):
            process.read()  # as the web does: read once more before judging
        is_packed = self.everybody.index(visitor) % 2 == 1
        visitor.socket = Socket(process.hub, [], is_packed=is_packed)
        visitor.socket.fills_up = fills_up
        with self.loop.entered():
            process.hub.subscribe(visitor.socket, visitor.ids, last_id)

    # What must hold

    @invariant()
    def a_draft_that_never_was_public_is_never_told(self) -> None:
        if not hasattr(self, "database"):
            return
        ever_public = {each.product_id for each in self.database.log if each.status != "draft"
                       and each.variant_id is None}  # fmt: skip
        for visitor in self.everybody:
            for page in visitor.pages:
                assert page.heard_of <= ever_public

    @invariant()
    def memory_is_bounded_by_what_is_shown(self) -> None:
        for visitor in getattr(self, "everybody", ()):
            socket = visitor.socket
            if socket is not None and socket.behind is not None:
                assert len(socket.behind) <= len(PRODUCTS)

    def teardown(self) -> None:
        if not hasattr(self, "database"):
            return
        try:
            self.settle()
            for visitor in self.everybody:
                self.check(visitor)
        finally:
            self.loop.finish()

    def settle(self) -> None:
        """Most visitors lose their connection where they are, and come back when all is over:
        transactions have ended, sources are found, everything is published."""
        for visitor in self.everybody:
            if visitor.patience < 4 and visitor.socket is not None:
                visitor.receive(visitor.patience)
                self.disconnect(visitor)
        for xid in list(self.database.open):
            self.database.end(xid, commit=xid % 2 == 0)
        for _ in range(3):
            for process in self.processes:
                process.read()
                with self.loop.entered():
                    process.hub.set_live(True)
            self.loop.advance(3 * CONFLATE, resolution=0.1, turns=30)
            for number, visitor in enumerate(self.everybody):
                if visitor.socket is None or visitor.socket.has_ended:
                    self.connect(visitor, number % 2)
                assert visitor.socket is not None
                visitor.socket.fills_up = False
                if visitor.socket.is_full:
                    self.fill_or_drain(visitor)
            self.loop.step(20)
            self.loop.advance(1.5, resolution=0.5)  # streams of an old history end within 1 s
        for visitor in self.everybody:
            visitor.receive()

    def check(self, visitor: Visitor) -> None:
        assert visitor.socket is not None
        assert visitor.socket.behind is None
        assert not visitor.socket.has_ended
        for page in visitor.pages:
            assert page.products == self.database.public(visitor.ids)
            assert page.live is True
        own = cast(Hub, visitor.socket.hub)
        assert not own.pending
        assert not own.stalls
        for process in self.processes:
            assert process.task.cancelled() or not process.task.done()


@pytest.mark.parametrize(
    ("slice_", "batch", "page", "examples"), [(1, 2, 2, 150), (256, 200, 200, 40)]
)
def test_whoever_resumes_from_the_last_id_it_got_ends_with_the_newest_state(
    monkeypatch: pytest.MonkeyPatch, slice_: int, batch: int, page: int, examples: int
) -> None:
    """Small slices and pages let everything happen between two of them."""
    monkeypatch.setattr(publisher, "_SLICE", slice_)
    monkeypatch.setattr(publisher, "_BATCH", batch)
    monkeypatch.setattr(subscriber, "PAGE", page)
    monkeypatch.setattr(hub, "PAGE", page)
    run_state_machine_as_test(
        Recovery,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            phases=(Phase.explicit, Phase.reuse, Phase.generate),
        ),
    )
