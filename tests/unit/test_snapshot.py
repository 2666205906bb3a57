"""Positions: what a client sends back is read strictly, and says exactly what was seen."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from stream_server.streaming.cursor import Position, Snapshot


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    xmax = draw(st.integers(1, 2**63 - 1))
    xmin = draw(st.integers(max(1, xmax - 50), xmax))
    between = range(xmin, xmax)
    in_progress = draw(st.sets(st.sampled_from(between))) if between else set()
    return Snapshot(xmin, xmax, frozenset(in_progress))


@given(snapshots(), st.from_regex(r"[0-9a-f]{4,32}", fullmatch=True))
def test_what_is_written_is_read_back(snapshot: Snapshot, epoch: str) -> None:
    assert Snapshot.parse(str(snapshot)) == snapshot
    position = Position(epoch, snapshot)
    assert Position.parse(str(position)) == position


@given(st.data(), snapshots())
def test_a_snapshot_sees_what_had_ended_when_it_was_taken(
    data: st.DataObject, snapshot: Snapshot
) -> None:
    xid = data.draw(st.integers(max(1, snapshot.xmin - 5), snapshot.xmax + 5))
    had_ended = xid < snapshot.xmax and xid not in snapshot.in_progress
    assert snapshot.sees(xid) is had_ended


def test_the_example_of_the_postgres_manual() -> None:
    """Section 9.27: 10:20:10,14,15."""
    snapshot = Snapshot.parse("10:20:10,14,15")
    assert [xid for xid in range(8, 22) if snapshot.sees(xid)] == [
        8, 9, 11, 12, 13, 16, 17, 18, 19,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "::", "1:2", "1:2:3:4", "a:b:", "1:2:,", "1:2:1,", "2:1:", "0:1:", "1:0:",
        "-1:2:", "+1:2:", " 1:2:", "1:2:\n", "1_0:20:", "1:2:2", "5:9:4", "1.0:2:", "0x1:2:",
        "\u0661:\u0662:", "\u00b2:3:", "1:9223372036854775808:", f"1:{10**30}:", "1:2:\0",
        "1:2:" + "1" * 30_000,
    ],
    ids=lambda text: repr(text[:20]),
)  # fmt: skip
def test_what_postgres_never_wrote_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # which one is nobody's business
        Snapshot.parse(text)


@given(st.text(max_size=60))
def test_no_text_does_anything_but_parse_or_raise_a_value_error(text: str) -> None:
    for given_text in (text, f"aaaa.{text}"):
        try:
            position = Position.parse(given_text)
        except ValueError:
            continue
        assert Position.parse(str(position)) == position


def test_thousands_of_transactions_in_progress_make_a_position_that_can_be_sent_back() -> None:
    """It sees nothing that the snapshot does not, and the snapshot itself is read whole."""
    text = "10:90000:" + ",".join(map(str, range(10, 60_010, 20)))
    snapshot = Snapshot.parse(text)
    assert str(snapshot) == text
    written = str(Position("aaaa", snapshot))
    assert len(written) < 4_000
    told = Position.parse(written).snapshot
    assert all(snapshot.sees(xid) for xid in range(1, 90_001) if told.sees(xid))
    assert told.sees(11)
    assert told.xmax > 2_000


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "1:2:", ".1:2:", "aaaa", "aaaa.", "aaaa:1:2:",
        "aaaa.1:2000:" + ",".join(map(str, range(1, 1002))), "aaaa." + "1" * 30_000 + ":2:",
    ],
    ids=lambda text: repr(text[:20]),
)  # fmt: skip
def test_a_position_has_an_epoch_and_a_snapshot(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # which one is nobody's business
        Position.parse(text)
