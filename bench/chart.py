"""Draws docs/images/bench.svg from bench/results.json: `python -m bench.chart`.

Plain SVG, with its colours by `prefers-color-scheme`, so that one file serves light and dark pages.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

WIDTH = 840
MARGIN = 24
COLUMN = 384  # two of them, with the gap between
GAP = WIDTH - 2 * MARGIN - 2 * COLUMN
LABEL = 140  # of a bar, to the left of it
VALUE = 62  # to the right of the longest bar
BAR, STEP = 18, 27
HEAD = 58  # of a panel: title and what it says
TOP = 20

STYLE = """
    .page { fill: #ffffff; stroke: #d8dee4 }
    text { font: 13px system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif;
           fill: #2b333b }
    .title { font-size: 15px; font-weight: 600; fill: #11181f }
    .note { font-size: 12px; fill: #5d6872 }
    .value { font-variant-numeric: tabular-nums }
    .own { fill: #0b7a68; } .peer { fill: #b7c0c8 }
    text.own { fill: #07604f; font-weight: 600 }
    @media (prefers-color-scheme: dark) {
        .page { fill: #12181e; stroke: #2b343d }
        text { fill: #d3dae0 } .title { fill: #f1f5f8 } .note { fill: #93a0ab }
        .own { fill: #2fbf9f } .peer { fill: #4a5662 }
        text.own { fill: #5fe0c3 }
    }
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars of one unit."""

    title: str
    note: str
    bars: Sequence[tuple[str, float, bool]]  # label, value, whether it is ours


def draw(results: Mapping[str, Any]) -> str:
    """The whole picture; panels whose figures are missing are left out."""
    panels = [panel for panel in panels_of(results) if panel.bars]
    rows = [panels[start : start + 2] for start in range(0, len(panels), 2)]
    parts, top = [], float(TOP)
    for row in rows:
        for column, panel in enumerate(row):
            parts.append(_panel(panel, MARGIN + column * (COLUMN + GAP), top))
        top += HEAD + STEP * max(len(panel.bars) for panel in row) + 16
    height = top - 4
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}"'
        f' width="{WIDTH}" height="{height:g}" role="img" aria-labelledby="title">\n'
        f'<title id="title">{escape(_title(panels))}</title>\n<style>{STYLE}</style>\n'
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:g}" rx="8"/>\n'
        f"{''.join(parts)}</svg>\n"
    )


def panels_of(results: Mapping[str, Any]) -> list[Panel]:
    """What the picture shows, of what was measured."""
    cores = results["machine"]["cores"]
    fan_out, commits = _figures(results, "fan-out"), _figures(results, "commits")
    memory = [figure for figure in fan_out if figure["name"].startswith("memory a stream")]
    return [
        Panel(
            "Server CPU a delivery",
            "µs at 10,000 streams; shorter is better",
            _with_peers(fan_out, "CPU a delivery"),
        ),
        Panel(
            "Server memory an open stream",
            "KB at 10,000 streams; shorter is better",
            [_memory(figure) for figure in memory if figure["value"] >= 0.1],
        ),
        Panel(
            "Streams accepted a second",
            "by one process; ours begin with the state; longer is better",
            _with_peers(fan_out, "streams accepted", shortest_first=False),
        ),
        Panel(
            "Commits a second, 16 writers",
            f"beside the readers, on {cores} cores; longer is better",
            _commits(commits),
        ),
    ]


def _figures(results: Mapping[str, Any], group: str) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = results["groups"].get(group, {}).get("figures", [])
    return figures


def _with_peers(
    figures: Sequence[Mapping[str, Any]], name: str, *, shortest_first: bool = True
) -> list[tuple[str, float, bool]]:
    same = [figure for figure in figures if figure["name"] == name]
    bars = [("stream-server", same[0]["value"], True)] if same else []
    bars += [(_short(figure["against"]), figure["baseline"], False) for figure in same]
    return sorted(bars, key=lambda bar: bar[1], reverse=not shortest_first)


def _memory(figure: Mapping[str, Any]) -> tuple[str, float, bool]:
    peer = figure["name"].removeprefix("memory a stream").removeprefix(", ")
    return peer or "stream-server", figure["value"], not peer


def _commits(figures: Sequence[Mapping[str, Any]]) -> list[tuple[str, float, bool]]:
    if not figures:
        return []
    labels = {
        "commits, one source": ("one server reads", True),
        "commits, four sources": ("four servers read", True),
        "commits, always notifying": ("NOTIFY each time", False),
    }
    bars = [("nobody reads", figures[0]["baseline"], False)]
    for figure in figures:
        label, is_own = labels[figure["name"]]
        bars.append((label, figure["value"], is_own))
    return bars


def _short(name: str) -> str:
    return "nchan, with state" if name.startswith("nginx + nchan,") else name


def _panel(panel: Panel, left: float, top: float) -> str:
    longest = max(value for _, value, _ in panel.bars)
    lines = [
        f'<text class="title" x="{left:g}" y="{top + 16:g}">{escape(panel.title)}</text>\n',
        f'<text class="note" x="{left:g}" y="{top + 35:g}">{escape(panel.note)}</text>\n',
    ]
    for number, (label, value, is_own) in enumerate(panel.bars):
        y = top + HEAD - 6 + number * STEP
        width = max(2.0, (COLUMN - LABEL - VALUE) * value / longest)
        kind, middle = ("own" if is_own else "peer"), y + BAR / 2 + 4.5
        text_kind = ' class="own"' if is_own else ""
        lines += [
            f'<text{text_kind} x="{left + LABEL - 10:g}" y="{middle:g}" text-anchor="end">'
            f"{escape(label)}</text>\n",
            f'<rect class="{kind}" x="{left + LABEL:g}" y="{y:g}" width="{width:.1f}"'
            f' height="{BAR}" rx="3"/>\n',
            f'<text class="value{" own" if is_own else ""}" x="{left + LABEL + width + 7:.1f}"'
            f' y="{middle:g}">{_text(value)}</text>\n',
        ]
    return "".join(lines)


def _title(panels: Sequence[Panel]) -> str:
    """The picture in words."""
    return " ".join(
        f"{panel.title}: " + ", ".join(f"{label} {_text(value)}" for label, value, _ in panel.bars)
        + "." for panel in panels
    )  # fmt: skip


def _text(number: float) -> str:
    return f"{number:,.1f}" if number < 100 else f"{number:,.0f}"


if __name__ == "__main__":
    here = Path(__file__).resolve()
    drawn = draw(json.loads(here.with_name("results.json").read_text()))
    sys.stdout.write(drawn)
