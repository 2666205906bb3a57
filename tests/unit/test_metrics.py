"""Each process tells what it has, and nothing that it cannot know."""

from stream_server.metrics import Metrics


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
