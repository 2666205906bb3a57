"""JSON that remembers its lines: the same values as any parser, and the right places."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.errors import ImportRejected
from stream_server.inventory.json_document import JSONDocument, Literal, Members

scalars = st.none() | st.booleans() | st.integers(-(10**16), 10**16) | st.text()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
spaces = st.text(" \t\r\n", max_size=3)


def plain(value: object) -> object:
    """As the standard library reads it."""
    if isinstance(value, Members):
        return {key: plain(member) for key, member in value}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


@given(rows=st.lists(values, max_size=5), indent=st.none() | st.integers(0, 3))
def test_it_reads_what_the_standard_library_reads(rows: list[object], indent: int | None) -> None:
    text = json.dumps(rows, indent=indent)
    assert plain(list(JSONDocument.parse(text.encode()).rows)) == rows


@given(rows=st.lists(values, max_size=5), space=spaces, wrapped=st.booleans())
def test_each_row_is_found_in_its_line_whatever_stands_around_it(
    rows: list[object], space: str, wrapped: bool
) -> None:
    head = space + ('{"products":' + space if wrapped else "") + "["
    text, lines = head, []
    for row in rows:
        text += space
        lines.append(text.count("\n") + 1)
        text += json.dumps(row, ensure_ascii=False) + space + ","
    text = text.rstrip(",") + space + "]" + ("}" if wrapped else "") + space
    if rows:
        document = JSONDocument.parse(text.encode())
        assert [document.line((index,)) for index in range(len(rows))] == lines


def test_what_is_deep_inside_is_found_and_what_is_missing_stands_where_its_parent_does() -> None:
    document = JSONDocument.parse(b'[\n{"a": [\n1,\n{"b":\n2}\n]}]')
    assert document.line((0, "a", 1, "b")) == 5
    assert document.line((0, "a", 1, "c")) == 4
    assert document.line((0, "nothing")) == 2


def test_a_key_that_is_given_twice_is_kept_twice_and_the_last_one_is_found() -> None:
    document = JSONDocument.parse(b'[{"a": 1,\n"a": 2}]')
    assert document.rows == [Members([("a", 1), ("a", 2)])]
    assert document.line((0, "a")) == 2


@pytest.mark.parametrize("text", ["1.0", "1e3", "-0.5", "NaN", "-Infinity", "1" * 5_000])
def test_a_number_that_is_not_whole_or_far_too_long_stays_as_it_was_written(text: str) -> None:
    assert JSONDocument.parse(f"[{text}]".encode()).rows == [Literal(text)]


@given(data=st.binary(max_size=20) | st.text('[]{}":,01e-.ntul productsaf\n').map(str.encode))
def test_anything_else_is_read_or_rejected(data: bytes) -> None:
    with suppress(ImportRejected):
        JSONDocument.parse(data)
