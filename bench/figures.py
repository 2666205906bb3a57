"""What a benchmark gives: figures, each with the bar that it has to hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Bar:
    """A limit, of a figure's ratio where it has a baseline, else of its value."""

    limit: float
    is_least: bool

    def holds(self, number: float) -> bool:
        return number >= self.limit if self.is_least else number <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.is_least else '≤'} {self.limit:,.6g}"


def at_most(limit: float) -> Bar:
    return Bar(limit, is_least=False)


def at_least(limit: float) -> Bar:
    return Bar(limit, is_least=True)


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. `against` names the peer that `baseline` is of; the ratio is value to baseline,
    as the median of the rounds in which both were measured one after the other."""

    name: str
    value: float
    unit: str
    bar: Bar | None = None
    against: str = ""
    baseline: float | None = None
    ratio: float | None = None

    @property
    def holds(self) -> bool | None:
        """None without a bar."""
        if self.bar is None:
            return None
        return self.bar.holds(self.value if self.ratio is None else self.ratio)

    def as_json(self) -> dict[str, object]:
        """For results.json, rounded to what is meant."""
        fields: dict[str, object] = {
            key: rounded(value) if isinstance(value, float) else value
            for key, value in asdict(self).items()
            if value not in (None, "")
        }
        if self.bar is not None:
            fields |= {"bar": str(self.bar), "holds": self.holds}
        return fields


def against(
    name: str,
    unit: str,
    values: Sequence[float],
    peer: str,
    baselines: Sequence[float],
    bar: Bar | None = None,
) -> Figure:
    """A figure of the rounds' medians; `values` and `baselines` are by round."""
    ratios = [value / baseline for value, baseline in zip(values, baselines, strict=True)]
    return Figure(name, median(values), unit, bar, peer, median(baselines), median(ratios))


def rounded(number: float) -> float:
    """Three digits, or all before the point."""
    return round(number) if abs(number) >= 1000 else float(f"{number:.3g}")


def table(figures: Sequence[Figure]) -> str:
    """For a terminal."""
    head = ("figure", "value", "unit", "baseline", "ratio", "bar", "")
    rows = [head, *(_row(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(map(_aligned, row, widths, range(len(row)))).rstrip() for row in rows
    )


def _row(figure: Figure) -> tuple[str, ...]:
    baseline = "" if figure.baseline is None else f"{_text(figure.baseline)} {figure.against}"
    return (
        figure.name,
        _text(figure.value),
        figure.unit,
        baseline,
        "" if figure.ratio is None else f"{figure.ratio:.2f}",
        "" if figure.bar is None else str(figure.bar),
        {None: "", True: "holds", False: "MISSED"}[figure.holds],
    )


def _text(number: float) -> str:
    return f"{rounded(number):,g}" if abs(number) < 1000 else f"{number:,.0f}"


def _aligned(text: str, width: int, column: int) -> str:
    return text.rjust(width) if column in (1, 4) else text.ljust(width)
