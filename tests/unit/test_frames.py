"""The bytes of the wire, read back by a parser that is not ours."""

import json
import random
import zlib

import hypothesis.strategies as st
from hypothesis import given

from stream_server.streaming import frames
from stream_server.streaming.frames import Frame
from tests.support.miniature import parsed

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
    told = {
        str(number): frames.event(name, frames.to_json({"a": text}))
        for number, (name, text) in enumerate(given_events)
    }
    events = parsed(frames.Joined(told, "aaaa.1:2:").frame(list(told)).body)
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


@given(st.lists(st.binary(max_size=3000), max_size=6), st.randoms(use_true_random=False))
def test_packed_frames_are_one_gzip_stream_in_whatever_order_they_come(
    bodies: list[bytes], rng: random.Random
) -> None:
    """RFC 1952, with its checksum and size; each frame can be read as soon as it is there."""
    made = [Frame(body, body) for body in bodies]
    got = [rng.choice(made) for _ in range(len(made) * 2)]
    reader = zlib.decompressobj(wbits=31)
    assert reader.decompress(frames.GZIP_HEAD) == b""
    for frame in got:
        assert reader.decompress(frame.packed) == frame.body
    said = b"".join(frame.body for frame in got)
    reader.decompress(frames.gzip_end(zlib.crc32(said), len(said)))
    assert reader.eof
    assert not reader.unused_data
