"""The source's pace, without a database."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from stream_server.metrics import Metrics
from stream_server.streaming.hub import Hub
from stream_server.streaming.source import Source
from stream_server.web.product_json import PublicEncoder
from tests.support.virtual_time import VirtualLoop


@pytest.mark.parametrize("seconds", [0.0005, 0.002, 0.009, 0.05])
def test_reads_take_a_fifth_of_the_time_at_most_whatever_they_cost(seconds: float) -> None:
    loop = VirtualLoop()
    source = Source("", Hub(PublicEncoder()), Metrics(), awake_read=0.01, sleep_after=60.0)
    spent = 0.0

    async def read(connection: Any) -> int:
        nonlocal spent
        loop.now += seconds
        spent += seconds
        return 1

    source._read = read  # type: ignore[method-assign]  # what a read does is not asked here
    connection: Any = None
    with loop.entered():
        task = loop.create_task(source._stay_awake(connection))
    began = loop.now
    loop.advance(5.0, resolution=0.001, turns=3)
    assert 0.04 <= spent / (loop.now - began) <= 0.205
    task.cancel()
    loop.finish()


def test_while_changes_pour_in_each_read_takes_several_and_none_waits_long() -> None:
    reads = _reads(lambda since, now: round((now - since) * 1000))  # one each millisecond
    pauses = [later - earlier for earlier, later in pairwise(reads)]
    assert min(pauses) > 0.009
    assert max(pauses) < 0.013


def test_after_a_moment_without_changes_the_next_one_waits_half_as_long() -> None:
    reads = _reads(lambda since, now: 0)
    assert max(later - earlier for earlier, later in pairwise(reads)) < 0.007


def _reads(rows: Callable[[float, float], int]) -> list[float]:
    """When the log is read within a second, given how many rows come from one time to another."""
    loop = VirtualLoop()
    source = Source("", Hub(PublicEncoder()), Metrics(), awake_read=0.01, sleep_after=60.0)
    times = [loop.now]

    async def read(connection: Any) -> int:
        found = rows(times[-1], loop.now)
        times.append(loop.now)
        loop.now += 0.001
        return found

    source._read = read  # type: ignore[method-assign]  # as above
    connection: Any = None
    with loop.entered():
        task = loop.create_task(source._stay_awake(connection))
    loop.advance(1.0, resolution=0.0005, turns=3)
    task.cancel()
    loop.finish()
    return times[2:]
