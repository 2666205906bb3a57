"""The cubes, their contents, and the sets that are made of cubes."""

import re
from collections.abc import Callable, Mapping
from typing import Final

from stream_server.web.pages.pictures.drawing import DIAGONAL, TOP, Drawing, Finish, Point, shade
from stream_server.web.pages.pictures.finishes import BIRCH, FINISHES, PALE, SPINES, finish_of

__all__ = [
    "WALL",
    "Fill",
    "bookcase",
    "boxes",
    "cube",
    "desk",
    "drawers",
    "shelf",
    "starter",
    "unit",
]

WALL: Final = 0.55  # inches
Fill = Callable[[Drawing, Point, Point], None]


def cube(
    d: Drawing,
    at: Point,
    size: Point,
    finish: Finish,
    fill: Fill | None = None,
    *,
    inside: Finish | None = None,
) -> None:
    """Draws a unit, open at the front. `fill` gets its inner corner and size, to draw contents."""
    (x, y, z), (w, depth, h) = at, size
    inside = inside or finish
    front = y + depth
    d.face(
        [(x, y, z + h), (x + w, y, z + h), (x + w, front, z + h), (x, front, z + h)],
        shade(finish.colour, TOP),
    )
    with d.on((x, y, z + h), (1, 0, 0), (0, 1, 0)) as flat:
        flat += d.pattern(finish, w, depth, TOP)
    d.side(at, size, finish)
    a, b, low, high = x + WALL, x + w - WALL, z + WALL, z + h - WALL
    back = y + WALL
    with d.clipped([(a, front, low), (b, front, low), (b, front, high), (a, front, high)]):
        d.face(
            [(a, back, low), (b, back, low), (b, back, high), (a, back, high)],
            shade(inside.colour, 0.66),
        )
        with d.on((a, back, low), (1, 0, 0), (0, 0, 1)) as flat:
            flat += d.pattern(inside, b - a, high - low, 0.62)
        d.face(
            [(a, back, low), (a, front, low), (a, front, high), (a, back, high)],
            shade(inside.colour, 0.84),
        )
        d.face(
            [(a, back, low), (b, back, low), (b, front, low), (a, front, low)],
            shade(inside.colour, 0.95),
        )
        if fill is not None:
            fill(d, (a, back, low), (b - a, front - back, high - low))
    light = shade(finish.colour, 1.04)
    for corners in (
        [(x, z), (x + w, z), (b, low), (a, low)],
        [(x, z), (a, low), (a, high), (x, z + h)],
        [(b, low), (x + w, z), (x + w, z + h), (b, high)],
        [(a, high), (b, high), (x + w, z + h), (x, z + h)],
    ):
        d.face([(i, front, j) for i, j in corners], light)
    if finish.pattern == "grain":  # the layers of the plywood
        for part in (0.35, 0.7):
            m = WALL * part
            d.line(
                [
                    (i, front, j)
                    for i, j in (
                        (x + m, z + m),
                        (x + w - m, z + m),
                        (x + w - m, z + h - m),
                        (x + m, z + h - m),
                        (x + m, z + m),
                    )
                ],
                shade(finish.colour, 0.78),
                0.6,
            )


# Contents of units


def books(d: Drawing, at: Point, size: Point) -> None:
    (x, y, z), (w, depth, h) = at, size
    position = 0.3
    while position < w * 0.72:
        thick = d.rng.uniform(0.45, 1.0)
        tall = min(h * 0.92, d.rng.uniform(4.2, 6.4))
        d.box(
            (x + position, y + depth * 0.2, z),
            (thick, depth * 0.62, tall),
            Finish(d.rng.choice(SPINES)),
        )
        position += thick + 0.04


def records(d: Drawing, at: Point, size: Point) -> None:
    (x, y, z), (w, depth, h) = at, size
    position = 0.4
    while position < w * 0.8:
        d.box(
            (x + position, y + 0.4, z),
            (0.22, depth * 0.8, min(h * 0.86, 12.2)),
            Finish(d.rng.choice(SPINES)),
        )
        position += 0.34


def vase(d: Drawing, at: Point, size: Point) -> None:
    (x, y, z), (w, depth, h) = at, size
    with d.on((x + w * 0.36, y + depth * 0.78, z), DIAGONAL, (0, 0, 1)) as flat:
        tall = min(h * 0.8, 6.5) * 10
        for lean, colour in ((-16, "#6f8a5b"), (-3, "#88a070"), (11, "#5d7a4e")):
            stem = f"M0 {tall * 0.45:.0f}Q{lean * 0.4:g} {tall * 0.7:.0f} {lean} {tall * 0.95:.0f}"
            flat.append(
                f'<path d="{stem}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
                f'<ellipse cx="{lean}" cy="{tall * 0.9:.0f}" rx="3.4" ry="6" fill="{colour}"/>'
            )
        left = f"M-8 1Q-13 {tall * 0.3:.0f} -4 {tall * 0.45:.0f}"
        flat.append(f'<path d="{left}H4Q13 {tall * 0.3:.0f} 8 1Q0 -3 -8 1z" fill="#c9654a"/>')


def boxes(d: Drawing, at: Point, size: Point) -> None:
    (x, y, z), (w, depth, _) = at, size
    d.box((x + 0.7, y + 1, z), (w * 0.7, depth * 0.75, 2.2), Finish("#d9d2c4"))
    d.box((x + 1.1, y + 1.6, z + 2.2), (w * 0.5, depth * 0.5, 1.5), Finish("#b1562f"))


def shelf(d: Drawing, at: Point, size: Point, finish: Finish = BIRCH) -> None:
    (x, y, z), (w, depth, h) = at, size
    d.box((x + 0.6, y + depth * 0.3, z), (w * 0.55, depth * 0.55, 1.3), Finish("#d9d2c4"))
    d.box((x, y, z + h / 2 - 0.25), (w, depth, 0.5), finish)
    d.box(
        (x + 0.9, y + depth * 0.3, z + h / 2 + 0.25),
        (w * 0.42, depth * 0.5, 0.7),
        Finish("#48708f"),
    )
    d.box(
        (x + 1.2, y + depth * 0.35, z + h / 2 + 0.95),
        (w * 0.36, depth * 0.42, 0.6),
        Finish("#d69b33"),
    )


CONTENTS: Final[tuple[Fill | None, ...]] = (books, None, vase, boxes, books, None, records)


# Products


def unit(d: Drawing, match: re.Match[str], finish: str) -> None:
    sides = sorted(int(each) for each in match.groups()[:3])
    depth, height, width = sides if sides[1] > sides[0] else (sides[1], sides[0], sides[2])
    kind = (match["rest"] or "").lower()
    size = (float(width), float(depth), float(height))
    d.shadow((0, 0, 0), size)
    if "corner" in kind:
        corner(d, finish_of(finish, BIRCH))
    elif "terrazzo" in kind:
        cube(d, (0, 0, 0), size, BIRCH, boxes)
        d.box((-0.2, -0.2, 8), (8.4, 8.4, 0.9), FINISHES["terrazzo"])
    elif "cardboard" in kind:
        cube(d, (0, 0, 0), size, FINISHES["cardboard"])
    elif "founder" in kind:
        coat = finish_of(finish, FINISHES["ochre"])
        cube(d, (0, 0, 0), size, coat, inside=BIRCH)
        with d.on((8, 8, 0), (0, -1, 0), (0, 0, 1)) as flat:  # the number of the edition
            flat.append(
                '<circle cx="62" cy="62" r="9" fill="#d8b25a" stroke="#8a6a24"/>'
                '<path d="M57 59h10M57 65h10" stroke="#8a6a24" stroke-width="1.6"/>'
            )
    else:
        what: Mapping[tuple[int, int], Fill] = {(8, 8): vase, (16, 8): books, (16, 16): records}
        cube(d, (0, 0, 0), size, finish_of(finish, BIRCH), what.get((width, height), books))


def corner(d: Drawing, finish: Finish) -> None:
    """Draws a corner unit, whose slanted wall is the open one."""
    d.prism([(0, 0), (8, 0), (8, 3.4), (3.4, 8), (0, 8)], 0, 8, finish)
    with d.on((0, 0, 8), (1, 0, 0), (0, 1, 0)) as flat:
        flat += d.pattern(finish, 8, 3.3, TOP)
    with d.on((3.4, 8, 0), DIAGONAL, (0, 0, 1)) as flat:
        inner = shade(finish.colour, 0.6)
        flat.append(
            f'<path d="M5.5 5.5H59.5V74.5H5.5z" fill="{inner}"/>'
            f'<path d="M5.5 5.5L32 22L59.5 5.5z" fill="{shade(finish.colour, 0.9)}"/>'
            f'<path d="M32 22V74.5" stroke="{shade(finish.colour, 0.5)}"/>'
            f'<path d="M32 22V74.5H59.5V5.5z" fill="{shade(finish.colour, 0.7)}"/>'
        )


def drawers(d: Drawing, at: Point, width: float, height: float, out: float, finish: Finish) -> None:
    """Draws two drawers in the front of a unit; `out` is how far the upper one is pulled out."""
    x, y, z = at
    half, dark = height / 2, shade(finish.colour, 0.6)
    knob = f'<circle cx="{width * 5:g}" cy="{half * 6:g}" r="3" fill="{dark}"/>'
    d.box((x, y - 0.4, z), (width, 0.5, half - 0.08), finish)
    with d.on((x, y + 0.1, z), (1, 0, 0), (0, 0, 1)) as flat:
        flat.append(knob)
    top = z + half
    if out:
        tall = half - 0.7
        d.face(
            [
                (x + 0.3, y - 1, top + tall),
                (x + width - 0.3, y - 1, top + tall),
                (x + width - 0.3, y + out, top + tall),
                (x + 0.3, y + out, top + tall),
            ],
            shade(PALE.colour, 0.7),
        )
        d.box((x + 0.9, y - 1, top + tall - 0.4), (width * 0.5, out * 0.7, 0.5), Finish("#48708f"))
        d.side((x + 0.3, y - 1, top), (width - 0.6, out + 1, tall), Finish("#e2cba6", "grain"))
        for edge in (x + 0.3, x + width - 0.3):
            d.line(
                [(edge, y - 1, top + tall), (edge, y + out, top + tall)],
                shade(BIRCH.colour, 0.85),
                2,
            )
    d.box((x, y + out - 0.4, top), (width, 0.5, half - 0.08), finish)
    with d.on((x, y + out + 0.1, top), (1, 0, 0), (0, 0, 1)) as flat:
        flat.append(knob)


def bookcase(d: Drawing, match: re.Match[str], finish: str) -> None:
    columns, rows = min(6, int(match[1])), min(6, int(match[2]))
    wood = finish_of(finish, BIRCH)
    d.shadow((0, 0, 0), (columns * 8.0, 8, 0))
    for row in range(rows):
        for column in range(columns):
            fill = CONTENTS[(row * 4 + column * 3) % len(CONTENTS)]
            cube(d, (column * 8.0, 0, row * 8.0), (8, 8, 8), wood, fill)


def desk(d: Drawing, _: re.Match[str], finish: str) -> None:
    wood = finish_of(finish, BIRCH)
    d.shadow((0, 0, 0), (34, 8, 0))
    for x in (0.0, 26.0):
        for z in (0.0, 8.0):
            cube(d, (x, 0, z), (8, 8, 8), wood)
            drawers(
                d,
                (x + WALL, 8, z + WALL),
                8 - 2 * WALL,
                8 - 2 * WALL,
                2.5 if (x, z) == (0, 8.0) else 0,
                wood,
            )
    d.box((-0.6, -0.6, 16), (35.2, 9.4, 0.8), FINISHES["linoleum"])
    d.box((6, 2, 16.8), (6, 4, 0.5), Finish("#ece4d4"))
    d.box((6.3, 2.4, 17.3), (5, 3.2, 0.6), Finish("#a6452e"))
    vase(d, (24, 1, 16.8), (4, 4, 6))


def starter(d: Drawing, _: re.Match[str], finish: str) -> None:
    wood = finish_of(finish, BIRCH)
    d.shadow((0, 0, 0), (16, 8, 0))
    cube(d, (0, 0, 0), (8, 8, 8), wood, shelf)
    cube(d, (8, 0, 0), (8, 8, 8), wood)
    d.box((8 + WALL / 2, 7.9, WALL / 2), (8 - WALL, 0.3, 8 - WALL), wood)
    with d.on((8, 8.2, 0), (1, 0, 0), (0, 0, 1)) as flat:
        flat.append(f'<circle cx="14" cy="42" r="3" fill="{shade(wood.colour, 0.6)}"/>')
    cube(d, (0, 0, 8), (8, 8, 8), wood, books)
    vase(d, (10, 2, 8), (4, 4, 7))
