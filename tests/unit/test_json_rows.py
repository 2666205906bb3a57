"""JSON that knows its places: the same values as any parser, and the right lines and columns."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.inventory.imports import text as text_module
from stream_server.inventory.imports.json_rows import JSONRow, Literal, Members, json_rows
from stream_server.inventory.imports.text import Unreadable

scalars = st.none() | st.booleans() | st.integers(-(10**16), 10**16) | st.text()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
spaces = st.text(" \t\r\n", max_size=3)


@pytest.fixture(params=[1, 7, 64, text_module.CHUNK], autouse=True, scope="module")
def chunk(request: pytest.FixtureRequest) -> Iterator[None]:
    """Bytes that are read at once: whatever they are, rows come out the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "CHUNK", request.param)
        yield


def read(data: bytes) -> list[JSONRow]:
    return list(json_rows(BytesIO(data)))


def plain(value: object) -> object:
    """As the standard library reads it."""
    if isinstance(value, Members):
        return {key: plain(member) for key, member in value}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


@given(
    rows=st.lists(values, max_size=5),
    indent=st.none() | st.integers(0, 3),
    escaped=st.booleans(),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_it_reads_what_the_standard_library_reads(
    rows: list[object], indent: int | None, escaped: bool, mark: bytes
) -> None:
    text = json.dumps(rows, indent=indent, ensure_ascii=escaped)
    assert [plain(row.value) for row in read(mark + text.encode("utf-8", "replace"))] == (
        rows if escaped else json.loads(text.encode("utf-8", "replace"))
    )


@given(rows=st.lists(values, max_size=5), space=spaces, wrapped=st.booleans())
def test_each_row_is_found_in_its_place_whatever_stands_around_it(
    rows: list[object], space: str, wrapped: bool
) -> None:
    text, places = space + ('{"products":' + space if wrapped else "") + "[", []
    for index, row in enumerate(rows):
        text += space
        *above, line = re.split("\r\n?|\n", text)
        places.append((len(above) + 1, len(line) + 1))
        text += json.dumps(row) + space + ("," if index < len(rows) - 1 else "")
    text += space + "]" + ("}" if wrapped else "") + space
    found = read(text.encode())
    assert [row.place(()) for row in found] == places
    assert [plain(row.value) for row in found] == rows


def test_what_is_deep_inside_is_found_and_what_is_missing_stands_where_its_parent_does() -> None:
    [row] = read(b'[\n{"a": [\n1,\n {"b":\n2}\n]}]')
    assert row.place(("a", 1, "b")) == (5, 1)
    assert row.place(("a", 1, "c")) == (4, 2)
    assert row.place(("nothing",)) == (2, 1)


def test_a_key_that_is_given_twice_is_kept_twice_and_the_last_one_is_found() -> None:
    [row] = read(b'[{"a": 1,\n"a": 2}]')
    assert row.value == Members([("a", 1), ("a", 2)])
    assert row.place(("a",)) == (2, 6)


@pytest.mark.parametrize("text", ["1.0", "1e3", "-0.5", "NaN", "-Infinity", "1" * 5_000])
def test_a_number_that_is_not_whole_or_far_too_long_stays_as_it_was_written(text: str) -> None:
    assert [row.value for row in read(f"[{text}]".encode())] == [Literal(text)]


@given(data=st.binary(max_size=20) | st.text('[]{}":,01e-.ntul productsaf\n').map(str.encode))
def test_anything_else_is_read_as_the_standard_library_does_or_is_unreadable(data: bytes) -> None:
    with suppress(Unreadable):
        rows = read(data)
        whole = json.loads(data.decode("utf-8-sig"))
        assert len(whole["products"] if isinstance(whole, dict) else whole) == len(rows)


@pytest.mark.parametrize(
    ("data", "line", "column"),
    [
        (b'[\n {"id": "\xe4"}]', 2, 10),
        (b"\xff\xfe[\x00]\x00", 1, 1),
        ("[\n\n'ä".encode("utf-16"), 1, 1),
        ('["ä",\n"ä'.encode()[:-1], 2, 2),
        (b'["\xc3\xa4", "\xe4"]', 1, 9),
        (b'[\r\n1,\r2,\r\r\n"\xe4"]', 5, 2),
    ],
)
def test_what_is_not_utf_8_is_named_with_its_line_and_byte(
    data: bytes, line: int, column: int
) -> None:
    with pytest.raises(Unreadable, match="expected UTF-8, got byte 0x") as raised:
        read(data)
    assert (raised.value.line, raised.value.column) == (line, column)


def test_a_line_ends_with_lf_with_cr_lf_or_with_cr() -> None:
    rows = read(b'[1,\r2,\r\n 3,\n\r {"a":\r4}]')

    assert [(row.line, row.column) for row in rows] == [(1, 2), (2, 1), (3, 2), (5, 2)]
    assert rows[-1].place(("a",)) == (6, 1)


def test_rows_before_a_mistake_are_read() -> None:
    rows = json_rows(BytesIO(b'[{"a": 1},\n {"b" 2}]'))
    assert next(rows).value == Members([("a", 1)])
    with pytest.raises(Unreadable) as raised:
        next(rows)
    assert (raised.value.line, raised.value.column) == (2, 7)


def test_a_row_without_an_end_is_not_read_into_memory(chunk: None) -> None:
    class Endless(BytesIO):
        given = 0

        def read(self, size: int | None = -1) -> bytes:
            self.given += 1024 * 1024
            return b"x" * (1024 * 1024)

    class Opened(Endless):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(size) if self.given else b'["' + super().read(size)

    file = Opened()
    with pytest.raises(Unreadable, match="expected a row of at most 16777216 characters"):
        list(json_rows(file))
    assert file.given < 64 * 1024 * 1024
