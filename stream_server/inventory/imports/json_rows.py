"""The rows of a JSON file, one at a time, with the places of their values.

for row in json_rows(file):
    row.value
    row.place(("variants", 2, "price"))     # (line, column)

"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import BinaryIO, Final

from stream_server.inventory.imports.text import Unreadable, decode, line_ends, show_name

__all__ = ["JSONRow", "Literal", "Members", "Path", "json_rows"]

Path = tuple[str | int, ...]

SPACE: Final = re.compile(r"[ \t\n\r]*")  # RFC 8259, section 2
MAX_DIGITS: Final = 18  # of a whole number; more than any column of ours can have
MAX_ROW: Final = 16 * 1024 * 1024  # characters of one product with its variants
# An error this near to the end of the text in memory may come from the missing rest. The longest
# token that the decoder reads as a whole is an escaped surrogate pair, \ud83d\ude00.
LOOKAHEAD: Final = 16
SHAPE: Final = 'expected a list of products, or {"products": a list of products}'
ONLY_PRODUCTS: Final = 'expected only {"products": …}'


class Members(list[tuple[str, object]]):
    """The keys and values of an object in the order of the file; a repeated key occurs twice."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A number that is not an integer, such as 12.0, 1e3 or NaN, as the file writes it. No field
    accepts it, and errors quote it unchanged."""

    text: str


@dataclass(frozen=True, slots=True)
class JSONRow:
    """An element of the list. `index` counts from 0, lines and columns from 1."""

    index: int
    value: object
    text: str
    line: int
    column: int

    def place(self, path: Path) -> tuple[int, int]:
        """Returns line and column of the value at `path`, or of the value that lacks it. They are
        computed at each call."""
        offset = 0
        for step in path:
            found = [place for key, place in _children(self.text, offset) if key == step]
            if not found:
                break
            offset = found[-1]
        return _advance(self.line, self.column, self.text, 0, offset)

    def name(self, path: Path) -> str:
        """Returns the path as jq writes it, counted from 0: `[3].variants[0].price`."""
        return "".join(_step(step) for step in (self.index, *path))

    def reference(self, path: Path) -> str:
        """Returns the words that refer to this row in the mistakes of other rows."""
        return self.name(path)


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{show_name(step)}"


def json_rows(file: BinaryIO) -> Iterator[JSONRow]:
    """Yields the elements of `[…]`, or of `{"products": […]}`.

    Raises Unreadable with the place of invalid UTF-8 or JSON, and for any other shape.
    """
    window = _Window(decode(file))
    is_wrapped = window.peek() == "{"
    if is_wrapped:
        _enter(window)
    if window.peek() != "[":
        window.value()
        raise Unreadable(*window.started, SHAPE)
    window.take("[")
    if window.peek() == "]":
        window.take("]")
    else:
        for index in count():
            value, text = window.value()
            yield JSONRow(index, value, text, *window.started)
            if window.peek() == "]":
                window.take("]")
                break
            window.take(",")
    if is_wrapped:
        if window.peek() == ",":
            window.take(",")
            key, _ = window.value()
            raise Unreadable(*window.started, f"{ONLY_PRODUCTS}, got {show_name(str(key))!r}")
        window.take("}")
    if window.peek():
        raise Unreadable(*window.place, "expected JSON: Extra data")


def _enter(window: "_Window") -> None:
    """Reads `{"products":`."""
    place = window.place
    window.take("{")
    if window.peek() == "}":
        raise Unreadable(*place, SHAPE)
    key, _ = window.value()
    if not isinstance(key, str):
        raise Unreadable(
            *window.started, "expected JSON: Expecting property name enclosed in double quotes"
        )
    window.take(":")
    if key != "products":
        raise Unreadable(*window.started, f"{ONLY_PRODUCTS}, got {show_name(key)!r}")


class _Window:
    """The part of a text that is in memory. Text before the position is dropped."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = pieces
        self._text = ""
        self._at = 0
        self.place = (1, 1)  # line and column of the next character
        self.started = (1, 1)  # of the last value

    def peek(self) -> str:
        """Returns the next character after white space; empty at the end of the text."""
        while True:
            match = SPACE.match(self._text, self._at)
            self._move(match.end() if match else self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, character: str) -> None:
        if self.peek() != character:
            raise Unreadable(*self.place, f"expected JSON: Expecting {character!r} delimiter")
        self._move(self._at + 1)

    def value(self) -> tuple[object, str]:
        """Reads the next value; returns it with its text."""
        self.peek()
        self.started = self.place
        while True:
            try:
                value, end = _decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                is_cut = error.pos >= len(self._text) - LOOKAHEAD
                is_cut = is_cut or error.msg.startswith("Unterminated string")
                if is_cut and self._more():
                    continue
                place = _advance(*self.place, self._text, self._at, error.pos)
                raise Unreadable(*place, f"expected JSON: {error.msg}") from None
            except RecursionError:
                raise Unreadable(
                    *self.place, "expected JSON with fewer nested lists and objects"
                ) from None
            if end > len(self._text) - LOOKAHEAD and self._more():
                continue  # the number may continue: 12|.5e-3
            text = self._text[self._at : end]
            self._move(end)
            return value, text

    def _move(self, to: int) -> None:
        self.place = _advance(*self.place, self._text, self._at, to)
        self._at = to

    def _more(self) -> bool:
        """Reads more text and returns whether there was any. It doubles the text in memory, so that
        a long row is decoded only a few times."""
        rest = self._text[self._at :]
        if len(rest) > MAX_ROW:
            raise Unreadable(*self.place, f"expected a row of at most {MAX_ROW} characters")
        pieces, wanted = [rest], len(rest)
        for piece in self._pieces:
            pieces.append(piece)
            wanted -= len(piece)
            if wanted <= 0:
                break
        if len(pieces) == 1:
            return False
        self._text, self._at = "".join(pieces), 0
        return True


def _advance(line: int, column: int, text: str, start: int, end: int) -> tuple[int, int]:
    """Returns line and column at `end`, given those at `start`."""
    ends = line_ends(text, start, end)
    if not ends:
        return line, column + end - start
    return line + ends, end - max(text.rfind("\n", start, end), text.rfind("\r", start, end))


def _whole(text: str) -> int | Literal:
    return int(text) if len(text) <= MAX_DIGITS else Literal(text)


_decoder: Final = json.JSONDecoder(
    object_pairs_hook=Members, parse_int=_whole, parse_float=Literal, parse_constant=Literal
)


def _children(text: str, start: int) -> Iterator[tuple[str | int, int]]:
    """Yields key or index, and offset, of each child of the array or object that begins at `start`
    in valid JSON. Other values have no children."""
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
        yield key, end
        _, end = _decoder.raw_decode(text, end)
        end = _skip(text, end)
        if text[end] != ",":
            return


def _skip(text: str, offset: int) -> int:
    """Returns the offset after white space."""
    match = SPACE.match(text, offset)
    return match.end() if match else offset
