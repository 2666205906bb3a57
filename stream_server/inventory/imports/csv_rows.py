"""The rows of a CSV file, one at a time (RFC 4180, and the variants of spreadsheets).

The first line names the columns. The delimiter is the comma, semicolon or tab that splits this line
into most known names. An empty field counts as absent: a new row gets the default, an existing row
keeps its value. `value_of` turns numbers and words into values; other fields stay text.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from operator import add
from typing import BinaryIO, Final

from stream_server.inventory.imports.json_rows import Path
from stream_server.inventory.imports.text import Unreadable, decode, show_name

__all__ = ["CSVRow", "csv_rows", "value_of"]

DELIMITERS: Final = (",", ";", "\t")
MAX_LINE: Final = 1024 * 1024  # characters
NUMBER: Final = re.compile(r"-?[0-9]{1,18}")
LINE_END: Final = re.compile(r"(\r\n?|\n)")
WORDS: Final[Mapping[str, object]] = {"null": None, "true": True, "false": False}


@dataclass(frozen=True, slots=True)
class CSVRow:
    """A row of the file. `fields` are its nonempty fields by the name in the header. A row with
    another number of fields than the header has no `fields`, but a `problem` to report."""

    index: int
    fields: Mapping[str, str]
    columns: Mapping[str, int]
    line: int
    problem: str | None = None

    def place(self, path: Path) -> tuple[int, int]:
        """Returns the line in which the row begins, and the field's position in it, from 1."""
        return self.line, self.columns.get(str(path[-1]), 1) if path else 1

    def name(self, path: Path) -> str:
        """Returns the column's name."""
        return str(path[-1]) if path else ""

    def reference(self, _: Path) -> str:
        """Returns the words that refer to this row in the mistakes of other rows."""
        return f"in line {self.line}"


def value_of(text: str) -> object:
    """Returns the number, true, false or null that the text denotes, else the text."""
    word = text.strip()
    if NUMBER.fullmatch(word):
        return int(word)
    return WORDS.get(word.lower(), text)


def csv_rows(file: BinaryIO, column: Callable[[str], str], required: str) -> Iterator[CSVRow]:
    """Yields the rows below the header, except empty lines. `column` returns the meaning of a name
    in the header; it raises ValueError with the reason for an unknown name.

    Raises Unreadable with the place of invalid UTF-8 or CSV, and for a header with an unknown name,
    with a repeated one, or without the `required` one.
    """
    lines = _lines(decode(file))
    first = next(lines, "")
    if not first.strip():
        raise Unreadable(1, 1, "expected the names of the columns in the first line")
    reader = csv.reader(chain([first], lines), delimiter=_delimiter(first, column), strict=True)
    header: list[str] = []
    columns: dict[str, int] = {}
    index, line = 0, 1
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise Unreadable(line, 1, f"expected CSV: {error}") from None
        if not header:
            header = [name.strip() for name in fields]
            columns = _columns(header, column, required)
        elif any(map(str.strip, fields)):
            if len(fields) == len(header):
                given = {
                    name: field for name, field in zip(header, fields, strict=True) if field.strip()
                }
                yield CSVRow(index, given, columns, line)
            else:
                problem = f"expected {len(header)} fields, as in the first line, got {len(fields)}"
                yield CSVRow(index, {}, columns, line, problem)
            index += 1
        line = reader.line_num + 1


def _columns(header: Sequence[str], column: Callable[[str], str], required: str) -> dict[str, int]:
    columns: dict[str, int] = {}
    meanings: set[str] = set()
    for position, name in enumerate(header, 1):
        if not name:
            raise Unreadable(1, position, "expected a name for each column")
        try:
            meaning = column(name)
        except ValueError as error:
            raise Unreadable(1, position, f"{show_name(name)}: {error}") from None
        if meaning in meanings:
            raise Unreadable(1, position, f"{show_name(name)}: given twice")
        meanings.add(meaning)
        columns[name] = position
    if column(required) not in meanings:
        raise Unreadable(1, 1, f"expected a column {required}")
    return columns


def _delimiter(header: str, column: Callable[[str], str]) -> str:
    """Returns the delimiter that yields most known names; a comma if no delimiter yields any."""

    def is_known(name: str) -> bool:
        with suppress(ValueError):
            return bool(column(name))
        return False

    def names(delimiter: str) -> int:
        return sum(is_known(field.strip(' "')) for field in header.strip().split(delimiter))

    return max(DELIMITERS, key=names)


def _lines(pieces: Iterator[str]) -> Iterator[str]:
    """Yields lines with their ends. A line break within quotes ends a line, too: csv.reader joins
    such lines."""
    rest, number = "", 1
    for piece in pieces:
        *whole, rest = LINE_END.split(rest + piece)
        yield from map(add, whole[::2], whole[1::2])
        number += len(whole) // 2
        if len(rest) > MAX_LINE:
            raise Unreadable(number, 1, f"expected lines of at most {MAX_LINE} characters")
    if rest:
        yield rest
