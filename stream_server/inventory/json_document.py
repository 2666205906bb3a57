"""JSON that remembers where everything stood, so that a mistake can be named with its line.

    document = JSONDocument.parse(Path("products.json").read_bytes())
    for index, row in enumerate(document.rows): ...
    document.line((index, "variants", 2, "price"))

Objects are `Members`, pairs in the order of the file: a key that is given twice is still there.
Numbers that are no whole ones (12.0, 1e3, NaN) are `Literal`, their text: no field takes them, and
an error can quote them as they were written. Places are found only when they are asked for.
"""

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count

from stream_server.errors import ImportRejected, RejectedRow

__all__ = ["JSONDocument", "Literal", "Members", "Path"]

Path = tuple[str | int, ...]

SPACE = re.compile(r"[ \t\n\r]*")  # RFC 8259, section 2
MAX_DIGITS = 18  # of a whole number; more than Postgres can hold in any column of ours


class Members(list[tuple[str, object]]):
    """An object's keys and values."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A number as the file writes it."""

    text: str


def _whole(text: str) -> int | Literal:
    return int(text) if len(text) <= MAX_DIGITS else Literal(text)


_decoder = json.JSONDecoder(
    object_pairs_hook=Members, parse_int=_whole, parse_float=Literal, parse_constant=Literal
)


@dataclass(frozen=True)
class JSONDocument:
    """`[…]`, or `{"products": […]}`. A path begins with the position of a row, from 0."""

    text: str
    rows: Sequence[object]
    starts: Sequence[int]  # the offset of each row

    @classmethod
    def parse(cls, data: bytes) -> "JSONDocument":
        """Raises ImportRejected with the line and column of what is not UTF-8 or not JSON."""
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise _rejected(line, f"expected UTF-8, got byte 0x{data[error.start]:02x}") from None
        try:
            root = _decoder.decode(text)
        except json.JSONDecodeError as error:
            reason = f"expected JSON, got an error in column {error.colno}: {error.msg}"
            raise _rejected(error.lineno, reason) from None
        except RecursionError:
            raise _rejected(None, "expected JSON, got something nested too deeply") from None
        start = _skip(text, 0)
        if isinstance(root, Members):
            start, root = _products(text, start, root)
        if not isinstance(root, list) or isinstance(root, Members):
            reason = 'expected a list of products, or {"products": a list of products}'
            raise _rejected(text.count("\n", 0, start) + 1, reason)
        places = list(_children(text, start))
        return cls(text, [value for _, _, value in places], [offset for _, offset, _ in places])

    def line(self, path: Path) -> int:
        """The line of what stands at `path`, from 1; where that is missing, of what it is in."""
        offset = self.starts[int(path[0])]
        for step in path[1:]:
            found = [place for key, place, _ in _children(self.text, offset) if key == step]
            if not found:
                break
            offset = found[-1]
        return bisect_left(self._line_ends, offset) + 1

    @cached_property
    def _line_ends(self) -> Sequence[int]:
        return [match.start() for match in re.finditer("\n", self.text)]


def _rejected(line: int | None, reason: str) -> ImportRejected:
    return ImportRejected([RejectedRow(line, reason)])


def _products(text: str, start: int, root: Members) -> tuple[int, object]:
    """Offset and value of the one member `products`. Raises ImportRejected for any other."""
    members = list(_children(text, start))
    for position, (key, offset, _) in enumerate(members):
        if key != "products" or position > 0:
            line = text.count("\n", 0, offset) + 1
            raise _rejected(line, f'expected {{"products": …}} and nothing else, got {key!r}')
    return (members[0][1], members[0][2]) if members else (start, root)


def _children(text: str, start: int) -> Iterator[tuple[str | int, int, object]]:
    """Key or index, offset and value of each child of the array or object that begins at `start`,
    whose JSON is known to be right. None of anything else."""
    is_object = text[start] == "{"
    if not is_object and text[start] != "[":
        return
    end = start
    for index in count():
        end = _skip(text, end + 1)
        if text[end] in "]}":
            return
        key: str | int = index
        if is_object:
            key, end = _decoder.raw_decode(text, end)
            end = _skip(text, _skip(text, end) + 1)
        offset = end
        value, end = _decoder.raw_decode(text, offset)
        yield key, offset, value
        end = _skip(text, end)
        if text[end] != ",":
            return


def _skip(text: str, offset: int) -> int:
    """Past whitespace."""
    match = SPACE.match(text, offset)
    return match.end() if match else offset
