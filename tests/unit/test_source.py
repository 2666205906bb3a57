"""The source's pace, without a database."""

from typing import Any

import pytest

from stream_server.metrics import Metrics
from stream_server.streaming.hub import Hub
from stream_server.streaming.source import Source
from stream_server.web.product_json import PublicEncoder
from tests.unit.virtual_time import VirtualLoop


@pytest.mark.parametrize("seconds", [0.0005, 0.002, 0.009, 0.05])
def test_reads_take_a_fifth_of_the_time_at_most_whatever_they_cost(seconds: float) -> None:
    loop = VirtualLoop()
    source = Source("", Hub(PublicEncoder()), Metrics(), awake_read=0.02, sleep_after=60.0)
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
    assert 0.05 <= spent / (loop.now - began) <= 0.205
    task.cancel()
    loop.finish()
