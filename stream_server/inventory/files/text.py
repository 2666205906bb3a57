"""Text of a file, piece by piece."""

from collections.abc import Iterator
from typing import BinaryIO, Final

__all__ = ["CHUNK", "Unreadable", "decoded", "shown_name"]

CHUNK: Final = 256 * 1024  # bytes that are read at once
LONGEST: Final = 4  # bytes of a character in UTF-8
SHOWN_LENGTH: Final = 60  # characters of a name that an error quotes


class Unreadable(Exception):
    """From here on the file cannot be read; `column` counts from 1, as `line` does."""

    def __init__(self, line: int, column: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.column = column
        self.reason = reason


def shown_name(name: str) -> str:
    """A name from a file, in a form that is safe to print and to store, and not long."""
    is_fit = name.isprintable() and len(name) <= SHOWN_LENGTH
    return name if is_fit else repr(name[:SHOWN_LENGTH])


def decoded(file: BinaryIO) -> Iterator[str]:
    """The text of a file from its current position on, without a byte order mark.

    Raises Unreadable with the line of the first byte that is not UTF-8; the column is the byte's
    position in that line.
    """
    pending, line, line_start, offset = b"", 1, 0, 0  # offset: of `pending` in the file
    while True:
        chunk = file.read(CHUNK)
        data = pending + chunk
        if offset == 0 and chunk and len(data) < LONGEST:
            pending = data
            continue
        good = len(data)
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            good = error.start
            if not chunk or good < len(data) - LONGEST + 1:
                start = data.rfind(b"\n", 0, good)
                column = good - start if start >= 0 else offset + good - line_start + 1
                line += data.count(b"\n", 0, good)
                if good:
                    yield data[:good].decode("utf-8-sig" if offset == 0 else "utf-8")
                reason = f"expected UTF-8, got byte 0x{data[good]:02x}"
                raise Unreadable(line, column, reason) from None
            text = data[:good].decode()
        line += data.count(b"\n", 0, good)
        if (newline := data.rfind(b"\n", 0, good)) >= 0:
            line_start = offset + newline + 1
        if offset == 0:
            text = text.removeprefix("\ufeff")
        if text:
            yield text
        if not chunk:
            return
        pending, offset = data[good:], offset + good
