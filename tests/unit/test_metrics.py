"""Each process tells what it has, and nothing that it cannot know."""

import asyncio

from stream_server.app import create_app
from stream_server.database.shares import Shares, Work
from stream_server.metrics import Metrics
from stream_server.settings import Settings


def told(metrics: Metrics) -> str:
    return metrics.render(open_streams={}, products=0).decode()


def test_a_worker_says_nothing_of_streams() -> None:
    text = told(Metrics(serves=False))
    assert "stream_server_expired_reservations_total 0.0" in text
    for name in ("source_live", "source_state", "open_streams", "products", "webhooks", "lag_sec"):
        assert f"stream_server_{name}" not in text.replace("stream_server_sync_lag", "")


def test_a_server_says_nothing_of_what_a_worker_does() -> None:
    text = told(Metrics(works=False))
    assert 'stream_server_source_state{state="lost"} 1.0' in text
    assert "expired_reservations" not in text
    assert "missed_changes" not in text


def test_a_demo_has_both_and_no_counter_is_doubled() -> None:
    text = told(Metrics())
    assert "stream_server_expired_reservations_total" in text
    assert "stream_server_source_live" in text
    assert "_created" not in text


async def test_the_pool_says_what_is_in_use_and_what_waits() -> None:
    app = create_app(Settings.load({"database_url": "postgresql://nowhere/shop"}))
    shares = app.state.pool._shares = Shares(1, shared=False)
    await shares.take(Work.READING, 1)
    waiting = asyncio.create_task(shares.take(Work.SELLING, 60))
    await asyncio.sleep(0)
    text = told(app.state.metrics)
    assert "stream_server_pool_connections_in_use 1.0" in text
    assert "stream_server_pool_waiting 1.0" in text
    shares.give(Work.READING)
    await waiting
    assert "stream_server_pool_waiting 0.0" in told(app.state.metrics)
