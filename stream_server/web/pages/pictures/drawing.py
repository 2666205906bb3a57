"""An isometric view of solids, drawn as SVG from sizes in inches.

x runs to the lower right, y to the lower left, z up. Visible are the top of a solid, its left face
(the front, at the maximum y) and its right face (the side, at the maximum x). Nearer things are
drawn later. The SVG contains only shapes: no scripts, no style attributes, no references to other
files.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from math import cos, pi, sin
from typing import Final

__all__ = ["DIAGONAL", "FRONT", "SIDE", "TOP", "Drawing", "Finish", "Point", "shade"]

Point = tuple[float, float, float]
COS: Final = cos(pi / 6)
SIN: Final = sin(pi / 6)
MARGIN: Final = 0.1  # as a part of the picture's side
GROUND: Final = 1.4  # inches of shadow around a solid

DIAGONAL: Final[Point] = (cos(pi / 4), -cos(pi / 4), 0)  # from left to right across the picture

# How much light falls on each face of a solid.
TOP: Final = 1.08
FRONT: Final = 0.93
SIDE: Final = 0.76


@dataclass(frozen=True, slots=True)
class Finish:
    """The look of a surface: its colour and its pattern (`grain`, `felt`, `plain` …)."""

    colour: str
    pattern: str = "plain"
    second: str = ""  # the colour of the pattern; empty: a darker shade of `colour`

    @property
    def mark(self) -> str:
        """The colour of the pattern."""
        return self.second or shade(self.colour, 0.8)


def shade(colour: str, light: float) -> str:
    """Returns the colour `#rrggbb` in another light: lighter above 1, darker below 1."""
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    lit = [part * light if light <= 1 else part + (255 - part) * (light - 1) * 2 for part in parts]
    return "#" + "".join(f"{max(0, min(255, round(part))):02x}" for part in lit)


class Drawing:
    """A collection of shapes. The same seed gives the same picture."""

    def __init__(self, seed: str) -> None:
        self.rng = random.Random(seed)
        self._parts: list[str] = []
        self._clips = 0
        self._left = self._upper = float("inf")
        self._right = self._lower = float("-inf")

    def svg(self, title: str) -> str:
        """Returns the picture: a square with the shapes in the middle."""
        width, height = self._right - self._left, self._lower - self._upper
        side = max(width, height, 150) / (1 - 2 * MARGIN)
        x = (self._left + self._right - side) / 2
        y = (self._upper + self._lower - side) / 2
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" width="400" height="400"'
            f' viewBox="{x:.0f} {y:.0f} {side:.0f} {side:.0f}" stroke-linejoin="round"'
            f' stroke-linecap="round"><title>{escape(title)}</title>{"".join(self._parts)}</svg>'
        )

    def reach(self, point: Point) -> None:
        """Makes the picture large enough to show this point; for shapes on planes."""
        self._path([point])

    # Flat shapes in space

    def face(
        self, points: Iterable[Point], fill: str, *, edge: str = "", opacity: float = 1
    ) -> None:
        """Draws a polygon."""
        path = self._path(points)
        edge = edge or shade(fill, 0.8)
        faint = f' opacity="{opacity:g}"' if opacity < 1 else ""
        self._parts.append(
            f'<path d="{path}" fill="{fill}" stroke="{edge}" stroke-width=".8"{faint}/>'
        )

    def line(self, points: Iterable[Point], colour: str, width: float = 1.0) -> None:
        """Draws an open line; its width is in tenths of an inch."""
        path = self._path(points).removesuffix("z")
        self._parts.append(
            f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>'
        )

    @contextmanager
    def clipped(self, points: Iterable[Point]) -> Iterator[None]:
        """Clips all shapes that the block draws to the polygon."""
        self._clips += 1
        name = f"c{self._clips}"
        self._parts.append(
            f'<clipPath id="{name}"><path d="{self._path(points)}"/></clipPath>'
            f'<g clip-path="url(#{name})">'
        )
        bounds = self._left, self._upper, self._right, self._lower
        yield
        self._left, self._upper, self._right, self._lower = bounds
        self._parts.append("</g>")

    @contextmanager
    def on(self, origin: Point, across: Point, up: Point) -> Iterator[list[str]]:
        """Yields a list for SVG on a plane. Its coordinates are tenths of an inch from `origin`, in
        the directions `across` and `up` (each of length 1)."""
        x, y = _project(origin)
        ux, uy = _project(across)
        vx, vy = _project(up)
        flat: list[str] = []
        yield flat
        matrix = " ".join(f"{each:.3g}" for each in (ux / 10, uy / 10, vx / 10, vy / 10))
        if flat:
            self._parts.append(
                f'<g transform="matrix({matrix} {x:.1f} {y:.1f})">{"".join(flat)}</g>'
            )

    # Solids

    def box(self, at: Point, size: Point, finish: Finish, top: Finish | None = None) -> None:
        """Draws a box whose left, back, lower corner is at `at`."""
        (x, y, z), (w, d, h) = at, size
        top = top or finish
        self.face(
            [(x, y, z + h), (x + w, y, z + h), (x + w, y + d, z + h), (x, y + d, z + h)],
            shade(top.colour, TOP),
        )
        with self.on((x, y, z + h), (1, 0, 0), (0, 1, 0)) as flat:
            flat += self.pattern(top, w, d, TOP)
        self.face(
            [(x, y + d, z), (x + w, y + d, z), (x + w, y + d, z + h), (x, y + d, z + h)],
            shade(finish.colour, FRONT),
        )
        with self.on((x, y + d, z), (1, 0, 0), (0, 0, 1)) as flat:
            flat += self.pattern(finish, w, h, FRONT)
        self.side(at, size, finish)

    def side(self, at: Point, size: Point, finish: Finish) -> None:
        """Draws the right face of a box."""
        (x, y, z), (w, d, h) = at, size
        x += w
        self.face(
            [(x, y, z), (x, y + d, z), (x, y + d, z + h), (x, y, z + h)], shade(finish.colour, SIDE)
        )
        with self.on((x, y + d, z), (0, -1, 0), (0, 0, 1)) as flat:
            flat += self.pattern(finish, d, h, SIDE)

    def prism(
        self, footprint: Sequence[tuple[float, float]], z: float, h: float, finish: Finish
    ) -> None:
        """Draws a solid on a convex footprint; its corners are clockwise, seen from above."""
        corners = list(zip(footprint, [*footprint[1:], footprint[0]], strict=True))
        for (x1, y1), (x2, y2) in corners:
            # (nx, ny) points outwards. The face is visible if it points towards +x or +y.
            nx, ny = y2 - y1, x1 - x2
            if nx + ny <= 0:
                continue
            light = (FRONT * max(0.0, ny) + SIDE * max(0.0, nx)) / (max(0.0, ny) + max(0.0, nx))
            self.face(
                [(x1, y1, z), (x2, y2, z), (x2, y2, z + h), (x1, y1, z + h)],
                shade(finish.colour, light),
            )
        self.face([(x, y, z + h) for x, y in footprint], shade(finish.colour, TOP))

    def shadow(self, at: Point, size: Point) -> None:
        """Draws a shadow on the ground around a solid."""
        (x, y, z), (w, d, _) = at, size
        for grown, opacity in ((GROUND, 0.04), (GROUND / 2, 0.05), (0.1, 0.06)):
            a, b, c, e = x - grown, y - grown, x + w + grown, y + d + grown
            path = self._path([(a, b, z), (c, b, z), (c, e, z), (a, e, z)])
            self._parts.append(f'<path d="{path}" opacity="{opacity}"/>')

    # Patterns of surfaces: sizes in inches, shapes in tenths of an inch

    def pattern(self, finish: Finish, width: float, height: float, light: float) -> list[str]:
        """Returns shapes that look like wood, felt, stone …; none for a small or plain surface."""
        w, h, rng = width * 10, height * 10, self.rng
        mark = shade(finish.mark, light)
        if min(w, h) < 4:
            return []
        if finish.pattern == "grain":
            return self._grain(w, h, mark)
        if finish.pattern in ("felt", "cork", "terrazzo"):
            density, min_size, max_size = {"felt": (0.03, 0.4, 0.7), "cork": (0.02, 0.7, 2.0)}.get(
                finish.pattern, (0.012, 1.2, 3.2)
            )
            second = {"cork": (mark, shade(finish.mark, light * 0.8))}.get(
                finish.pattern,
                (mark,)
                if finish.pattern == "felt"
                else ("#c4674a", "#5f7f78", "#e3b65b", "#3c3a38"),
            )
            return [
                _blob(rng, w, h, rng.uniform(min_size, max_size), rng.choice(second))
                for _ in range(min(170, max(6, round(w * h * density))))
            ]
        if finish.pattern == "cane":
            lines = "".join(
                f"M{i:g} 0l{h:g} {h:g}M{i + h:g} 0l{-h:g} {h:g}" for i in _steps(-h, w, 4.5)
            )
            weave = "".join(f"M{i:g} 0V{h:g}" for i in _steps(0, w, 4.5)) + "".join(
                f"M0 {i:g}H{w:g}" for i in _steps(0, h, 4.5)
            )
            self._clips += 1
            name = f"c{self._clips}"
            return [
                f'<clipPath id="{name}"><path d="M0 0H{w:g}V{h:g}H0z"/></clipPath>'
                f'<g clip-path="url(#{name})" fill="none" stroke="{mark}" stroke-width=".8">'
                f'<path d="{lines}"/><path d="{weave}" opacity=".6"/></g>'
            ]
        if finish.pattern == "mirror":
            return [
                f'<path d="M{w * a:g} 0L{w * (a + b):g} 0L{w * (c + b):g} {h:g}L{w * c:g} {h:g}z"'
                f' fill="#fff" opacity="{o}"/>'
                for a, b, c, o in ((0.05, 0.22, 0.42, 0.55), (0.38, 0.07, 0.72, 0.4))
            ]
        if finish.pattern == "ribs":
            path = "".join(f"M{i:g} 0V{h:g}" for i in _steps(3, w, 3))
            return [f'<path d="{path}" stroke="{mark}" stroke-width=".7" opacity=".6"/>']
        return []

    def _grain(self, w: float, h: float, mark: str) -> list[str]:
        """Returns growth rings, cut lengthwise, along the longer side."""
        rng, path = self.rng, ""
        length, across = (w, h) if w >= h else (h, w)
        for base in _steps(rng.uniform(3, 8), across - 2, 11):
            at = base + rng.uniform(-2.5, 2.5)
            bends = [at + rng.uniform(-2.2, 2.2) for _ in range(4)]
            at, *bends = (max(1.0, min(across - 1, each)) for each in (at, *bends))
            points = [(length * i / 3, bend) for i, bend in enumerate(bends)]
            flip = w < h
            pairs = [(b, a) if flip else (a, b) for a, b in points]
            (x0, y0), (x1, y1), (x2, y2), (x3, y3) = pairs
            path += f"M{x0:.0f} {y0:.1f}C{x1:.0f} {y1:.1f} {x2:.0f} {y2:.1f} {x3:.0f} {y3:.1f}"
        return [f'<path d="{path}" fill="none" stroke="{mark}" stroke-width=".9" opacity=".7"/>']

    def _path(self, points: Iterable[Point]) -> str:
        flat = [_project(point) for point in points]
        for x, y in flat:
            self._left, self._right = min(self._left, x), max(self._right, x)
            self._upper, self._lower = min(self._upper, y), max(self._lower, y)
        return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in flat) + "z"


def _project(point: Point) -> tuple[float, float]:
    """Returns the place of a point in the picture."""
    x, y, z = point
    return 10 * (x - y) * COS, 10 * ((x + y) * SIN - z)


def _steps(first: float, last: float, step: float) -> Iterator[float]:
    while first < last:
        yield first
        first += step


def _blob(rng: random.Random, w: float, h: float, size: float, colour: str) -> str:
    x, y = rng.uniform(size, max(size, w - size)), rng.uniform(size, max(size, h - size))
    wide = size * rng.uniform(0.8, 1.5)
    return f'<ellipse cx="{x:.0f}" cy="{y:.0f}" rx="{wide:.1f}" ry="{size:.1f}" fill="{colour}"/>'
