"""What scripts/bench makes of its figures, and what its load client counts."""

import json
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import chart, results
from bench.__main__ import GROUPS
from bench.figures import Figure, against, at_least, at_most, table
from bench.load import Load, load
from stream_server.streaming.frames import Frame, event

SVG = "{http://www.w3.org/2000/svg}"
RESULTS = {
    "machine": {"cores": 2},
    "groups": {
        "fan-out": results.group(
            [
                against("CPU a delivery", "µs", [8.0], "write() <in> C", [7.0], at_most(1.25)),
                Figure("memory a stream", 1.8, "KB", at_most(5)),
            ],
            0.1,
        )
    },
}


def test_a_ratio_is_of_figures_that_were_measured_in_the_same_round() -> None:
    figure = against("CPU", "µs", [10, 40, 12], "peer", [10, 80, 11], at_most(1.0))

    assert figure.ratio == 1.0  # not 12 to 11, the ratio of the medians
    assert figure.holds


def test_a_bar_is_for_the_ratio_where_there_is_one_and_else_for_the_value() -> None:
    assert Figure("commits", 900, "/s", at_least(0.8), "peer", 1000, 0.9).holds
    assert Figure("lag", 60, "ms", at_most(50)).holds is False
    assert Figure("size", 60, "B").holds is None


def test_a_missed_bar_stands_out_in_the_table() -> None:
    assert table([Figure("lag", 60, "ms", at_most(50))]).endswith("MISSED")


def test_the_chart_is_a_picture_of_all_bars_and_tells_them_to_those_who_cannot_see_it() -> None:
    picture = ElementTree.fromstring(chart.draw(RESULTS))  # noqa: S314  # our own

    assert len(picture.findall(f"{SVG}rect[@rx='3']")) == 3
    title = picture.findtext(f"{SVG}title")
    assert title is not None
    assert "stream-server 8.0" in title
    assert "write() <in> C 7.0" in title


def test_the_results_in_the_documentation_are_those_of_the_file() -> None:
    saved = json.loads(results.RESULTS.read_text())
    page = results.PAGE.read_text()

    assert results.markdown(saved) in page
    assert chart.draw(saved) == results.CHART.read_text()


def test_the_results_name_no_folder() -> None:
    text = results.RESULTS.read_text()

    assert str(Path.home()) not in text
    assert str(results.TOP) not in text


@pytest.mark.parametrize("name", GROUPS)
def test_the_documentation_explains_each_benchmark(name: str) -> None:
    assert f"\n## {name}\n" in results.PAGE.read_text()


UPDATE = Frame(
    event("inventory_updated", b'{"timestamp":"2026-05-04T18:00:00.000Z"}', position="e.1")
)
PING = Frame(event("ping", b'{"time":1777917600000}'))


def opened_by(listener: socket.socket) -> socket.socket:
    """The stream that the load client has asked for, once it has its snapshot."""
    stream, _ = listener.accept()
    stream.recv(65_536)
    stream.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + Frame(event("snapshot", b"{}")).chunk)
    return stream


def counted(opened: Load, stream: socket.socket, *parts: bytes) -> tuple[int, int, int]:
    """Updates, pings and bytes that it counts when these parts come one after the other."""
    pings = b"".join(parts).count(b"event: ping")
    updates = b"".join(parts).count(b"event: inventory_updated")
    seen = [0, 0, 0]
    for part in parts:
        stream.sendall(part)
    while seen[0] < updates or seen[1] < pings:
        report = opened.wait(updates - seen[0], 0.05)
        seen = [seen[0] + report.updates, seen[1] + report.pings, seen[2] + report.bytes]
    return seen[0], seen[1], seen[2]


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_ping_among_the_changes_counts_as_none_of_their_bytes(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(opened_by, listener)
        with load(tmp_path, listener.getsockname()[1], "/", 1) as opened:
            stream = accepting.result(10)
            opened.report()
            change, ping = UPDATE.chunk, PING.chunk

            assert counted(opened, stream, change) == (1, 0, len(change))
            assert counted(opened, stream, ping + change) == (1, 1, len(change))
            assert counted(opened, stream, ping) == (0, 1, 0)
            cut = change + ping[:9], ping[9:] + change + ping
            assert counted(opened, stream, *cut) == (2, 2, 2 * len(change))
            stream.close()
