"""The rows of a JSON file, one at a time, each with the places of what is in it.

    for row in json_rows(file):
        row.value
        row.place(("variants", 2, "price"))     # (line, column)

Objects are `Members`, pairs in the order of the file: a key that is given twice is still there.
Numbers that are no whole ones (12.0, 1e3, NaN) are `Literal`, their text: no field takes them, and
an error can quote them as they were written. Places are found only when they are asked for.
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
MAX_DIGITS: Final = 18  # of a whole number; more than Postgres can hold in any column of ours
MAX_ROW: Final = 16 * 1024 * 1024  # characters of one product with its variants
# An error so near to the end of what has been read may be due to what has not: the longest thing
# that is looked at as a whole is an escaped surrogate pair, \ud83d\ude00.
LOOKAHEAD: Final = 16
SHAPE: Final = 'expected a list of products, or {"products": a list of products}'
ONLY_PRODUCTS: Final = 'expected {"products": …} and nothing else'


class Members(list[tuple[str, object]]):
    """An object's keys and values."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A number as the file writes it."""

    text: str


@dataclass(frozen=True, slots=True)
class JSONRow:
    """One element of the list. `index` counts from 0, lines and columns from 1."""

    index: int
    value: object
    text: str
    line: int
    column: int

    def place(self, path: Path) -> tuple[int, int]:
        """Line and column of what stands at `path`; where that is missing, of what it is in."""
        offset = 0
        for step in path:
            found = [place for key, place in _children(self.text, offset) if key == step]
            if not found:
                break
            offset = found[-1]
        return _advance(self.line, self.column, self.text, 0, offset)

    def name(self, path: Path) -> str:
        """`[3].variants[0].price`: counted from 0, as jq does."""
        return "".join(_step(step) for step in (self.index, *path))

    def reference(self, path: Path) -> str:
        """How a reason that another row is given refers to this one."""
        return self.name(path)


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{show_name(step)}"


def json_rows(file: BinaryIO) -> Iterator[JSONRow]:
    """The elements of `[…]`, or of `{"products": […]}`.

    Raises Unreadable with the place of what is not UTF-8, not JSON, or neither of these shapes.
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
    """Past `{"products":`."""
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
    """The part of a text that is being looked at. What lies behind is forgotten."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = pieces
        self._text = ""
        self._at = 0
        self.place = (1, 1)  # line and column of the next character
        self.started = (1, 1)  # of the last value

    def peek(self) -> str:
        """The next character that is no space; empty at the end of the text."""
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
        """The next value, and its text."""
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
                    *self.place, "expected JSON, got something nested too deeply"
                ) from None
            if end > len(self._text) - LOOKAHEAD and self._more():
                continue  # a number may go on: 12|.5e-3
            text = self._text[self._at : end]
            self._move(end)
            return value, text

    def _move(self, to: int) -> None:
        self.place = _advance(*self.place, self._text, self._at, to)
        self._at = to

    def _more(self) -> bool:
        """As much again as is being looked at, so that a long row is not read over and over."""
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
    """Line and column at `end`, given those at `start`."""
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
    """Key or index, and offset, of each child of the array or object that begins at `start`,
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
        yield key, end
        _, end = _decoder.raw_decode(text, end)
        end = _skip(text, end)
        if text[end] != ",":
            return


def _skip(text: str, offset: int) -> int:
    """Past whitespace."""
    match = SPACE.match(text, offset)
    return match.end() if match else offset
