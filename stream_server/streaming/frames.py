"""The bytes of the wire: Server-Sent Events, the HTTP/1.1 chunks that carry them, and gzip.

The format is the HTML standard's, section 9.2.6 ("Interpreting an event stream"): each field is a
line, and a blank line ends an event. Data is JSON on one line: json escapes CR, LF and NUL.

For clients that accept gzip, bytes are deflated once (RFC 1951) and written to all of them. That
works because no deflated block refers to bytes before it: each stream is a gzip header, any
sequence of such blocks, and the checksum of their content (RFC 1952).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

__all__ = [
    "GZIP_HEAD",
    "LAST_CHUNK",
    "Block",
    "Frame",
    "Joined",
    "chunk_of",
    "event",
    "gzip_end",
    "packed",
    "snapshot_data",
    "to_json",
    "with_position",
]

LAST_CHUNK: Final = b"0\r\n\r\n"
GZIP_HEAD: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

# One compressor for all frames: a full flush resets it. Level 1 is three times as fast as 6 and
# compresses repetitions nearly as well. A small hash table (memLevel 4) loses nothing either, and a
# full flush clears it in half the time.
_deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, 4)


def packed(body: bytes) -> bytes:
    """The bytes, deflated into whole blocks that end at a byte boundary, refer to nothing before
    them and are not marked as the last."""
    return _deflate.compress(body) + _deflate.flush(zlib.Z_FULL_FLUSH)


def gzip_end(checksum: int, size: int) -> bytes:
    """The end of a gzip stream: an empty last block, then the CRC-32 and the number of all bytes
    before compression."""
    return b"\x03\x00%b%b" % (
        checksum.to_bytes(4, "little"),
        (size & 0xFFFFFFFF).to_bytes(4, "little"),
    )


def chunk_of(data: bytes) -> bytes:
    """Data as one chunk of `Transfer-Encoding: chunked` (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Block:
    """A part that several frames share. It is deflated when the first of them needs it."""

    __slots__ = ("_packed", "body")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self._packed = b""

    @property
    def packed(self) -> bytes:
        """See `packed`."""
        if not self._packed:
            self._packed = packed(self.body)
        return self._packed


class Frame:
    """One or more whole events, made once and written to every stream that shows them.

    `chunk` is the body as an HTTP chunk, `packed` the deflated body, `packed_chunk` the deflated
    body as an HTTP chunk.
    """

    __slots__ = ("_blocks", "_packed", "_packed_chunk", "body", "chunk")

    def __init__(self, *parts: bytes | Block) -> None:
        self._blocks = [Block(part) if isinstance(part, bytes) else part for part in parts]
        self._packed = self._packed_chunk = b""
        self.body = b"".join([block.body for block in self._blocks])
        self.chunk = chunk_of(self.body)

    @property
    def packed(self) -> bytes:
        if not self._packed:
            self._packed = b"".join([block.packed for block in self._blocks])
        return self._packed

    @property
    def packed_chunk(self) -> bytes:
        if not self._packed_chunk:
            self._packed_chunk = chunk_of(self.packed)
        return self._packed_chunk


def to_json(value: object) -> bytes:
    """JSON on one line, in UTF-8, without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def event(
    name: str, data: bytes, *, position: str | None = None, retry_ms: int | None = None
) -> bytes:
    """One event. `data` is one line. The position becomes the client's `Last-Event-ID`; an empty
    position clears it."""
    parts = [b"event: ", name.encode(), b"\ndata: ", data, b"\n"]
    if position is not None:
        parts += [b"id: ", position.encode(), b"\n"]
    if retry_ms is not None:
        parts.append(b"retry: %d\n" % retry_ms)
    parts.append(b"\n")
    return b"".join(parts)


def with_position(events: bytes, position: str) -> bytes:
    """Adds a position to the last of these events."""
    return b"%bid: %b\n\n" % (events[:-1], position.encode())


class Joined:
    """Makes frames of some products' events. Each product's events are deflated once, whichever
    products they are sent with.

    The last event of a frame carries the position: a client that got only a part of the frame
    resumes from its earlier position.
    """

    def __init__(self, events: Mapping[str, bytes], position: str) -> None:
        self._whole = {product_id: Block(each) for product_id, each in events.items()}
        self._open = {product_id: Block(each[:-1]) for product_id, each in events.items()}
        self._position = Block(b"id: %b\n\n" % position.encode())

    def frame(self, product_ids: Sequence[str]) -> Frame:
        """The events of these products, in this order."""
        *before, last = product_ids
        return Frame(*[self._whole[each] for each in before], self._open[last], self._position)


def snapshot_data(products: Iterable[bytes], unknown: list[str], live: bool) -> bytes:
    """The data of a `snapshot` event. `products` are JSON already."""
    return b'{"products":[%b],"unknown":%b,"live":%b}' % (
        b",".join(products),
        to_json(unknown) if unknown else b"[]",
        b"true" if live else b"false",
    )
