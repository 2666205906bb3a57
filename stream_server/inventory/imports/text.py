"""The text of a file, piece by piece. A line ends with LF, CR LF or CR."""

from collections.abc import Iterator
from typing import BinaryIO, Final

__all__ = ["CHUNK", "Unreadable", "decode", "line_ends", "show_name"]

CHUNK: Final = 256 * 1024  # bytes of one read
MAX_CHARACTER_BYTES: Final = 4  # in UTF-8
MAX_SHOWN_LENGTH: Final = 60  # characters of a name that an error quotes


class Unreadable(Exception):
    """A place from which on the file cannot be read; `line` and `column` count from 1."""

    def __init__(self, line: int, column: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.column = column
        self.reason = reason


def show_name(name: str) -> str:
    """Returns a name from a file in a short form that is safe to print and to store."""
    is_fit = name.isprintable() and len(name) <= MAX_SHOWN_LENGTH
    return name if is_fit else repr(name[:MAX_SHOWN_LENGTH])


def line_ends(text: str, start: int, end: int) -> int:
    """Returns the number of line ends between two positions; neither may split CR LF."""
    ends = text.count("\n", start, end)
    if returns := text.count("\r", start, end):
        ends += returns - text.count("\r\n", start, end)
    return ends


def decode(file: BinaryIO) -> Iterator[str]:
    """Yields the text of a file from its current position on, without a byte order mark. CR LF is
    never split: only the last piece may end with CR.

    Raises Unreadable with the line of the first byte that is not UTF-8; the column is the byte's
    position in that line.
    """
    pending, line, line_start, offset = b"", 1, 0, 0  # offset: of `pending` in the file
    while True:
        chunk = file.read(CHUNK)
        data = pending + chunk
        if offset == 0 and chunk and len(data) < MAX_CHARACTER_BYTES:
            pending = data
            continue
        good = len(data)
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            good = error.start
            if not chunk or good < len(data) - MAX_CHARACTER_BYTES + 1:
                start = _last_line_end(data, good)
                column = good - start if start >= 0 else offset + good - line_start + 1
                text = data[:good].decode()
                line += line_ends(text, 0, len(text))
                if good:
                    yield text.removeprefix("\ufeff") if offset == 0 else text
                reason = f"expected UTF-8, got byte 0x{data[good]:02x}"
                raise Unreadable(line, column, reason) from None
            text = data[:good].decode()
        if chunk and text.endswith("\r"):
            text, good = text[:-1], good - 1
        line += line_ends(text, 0, len(text))
        if (newline := _last_line_end(data, good)) >= 0:
            line_start = offset + newline + 1
        if offset == 0:
            text = text.removeprefix("\ufeff")
        if text:
            yield text
        if not chunk:
            return
        pending, offset = data[good:], offset + good


def _last_line_end(data: bytes, end: int) -> int:
    return max(data.rfind(b"\n", 0, end), data.rfind(b"\r", 0, end))
