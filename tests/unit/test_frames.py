"""The bytes of the wire, read back by a parser that is not ours."""

import json

import hypothesis.strategies as st
from hypothesis import given

from stream_server.streaming import frames
from stream_server.streaming.frames import Frame
from tests.unit.shop import parsed

TEXTS = st.text(max_size=40) | st.sampled_from(["\r\n\n", "\0", "\u2028\u2029\u0085", "data: x"])


def test_an_event_as_it_is_written() -> None:
    assert frames.event("ping", b'{"time":1}') == b'event: ping\ndata: {"time":1}\n\n'
    assert (
        frames.event("snapshot", b"{}", position="aaaa.1:2:", retry_ms=2000)
        == b"event: snapshot\ndata: {}\nid: aaaa.1:2:\nretry: 2000\n\n"
    )
    assert frames.event("reset", b"{}", position="") == b"event: reset\ndata: {}\nid: \n\n"


@given(st.lists(st.tuples(st.sampled_from(["inventory_updated", "ping"]), TEXTS), min_size=1))
def test_whatever_is_in_the_data_events_come_out_as_they_went_in(
    given_events: list[tuple[str, str]],
) -> None:
    stream = b"".join(
        frames.event(name, frames.to_json({"a": text})) for name, text in given_events
    )
    events = parsed(frames.with_position(stream, "aaaa.1:2:"))
    assert [(each.event, json.loads(each.data)["a"]) for each in events] == given_events
    assert [each.id for each in events] == [""] * (len(events) - 1) + ["aaaa.1:2:"]


@given(st.lists(st.dictionaries(TEXTS, TEXTS)), st.lists(TEXTS), st.booleans())
def test_snapshot_data_is_json_of_one_line(
    products: list[dict[str, str]], unknown: list[str], live: bool
) -> None:
    data = frames.snapshot_data(map(frames.to_json, products), unknown, live)
    assert not {b"\n", b"\r", b"\0"} & {bytes([byte]) for byte in data}
    assert json.loads(data) == {"products": products, "unknown": unknown, "live": live}


@given(st.binary(min_size=1, max_size=5000))
def test_a_chunk_says_its_size(body: bytes) -> None:
    """RFC 9112, section 7.1."""
    size, _, rest = Frame(body).chunk.partition(b"\r\n")
    assert int(size, 16) == len(body)
    assert rest == body + b"\r\n"
