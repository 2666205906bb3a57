"""Parts that go onto, into or under units; and a parcel for any other product."""

import re
from math import cos, radians, sin

from stream_server.web.pages.pictures.drawing import (
    DIAGONAL,
    FRONT,
    SIDE,
    TOP,
    Drawing,
    Finish,
    Point,
    shade,
)
from stream_server.web.pages.pictures.finishes import (
    BIRCH,
    FINISHES,
    INK,
    PALE,
    RUBBER,
    STEEL,
    TINTS,
    finish_of,
    number,
)
from stream_server.web.pages.pictures.units import WALL, Fill, boxes, cube, drawers, shelf

__all__ = [
    "bottles",
    "castors",
    "door",
    "drawer",
    "joints",
    "legs",
    "panel",
    "parcel",
    "planter",
    "rail",
    "shelf_insert",
]


def panel(d: Drawing, match: re.Match[str], finish: str) -> None:
    words = {"v": "veneer", "f": "felt", "c": "cork", "l": "linoleum", "m": "mirror"}
    kind = FINISHES.get(words.get(match[3].lower(), ""), BIRCH)
    front = finish_of(finish, kind)
    thin = 0.35 if kind.pattern != "felt" else 0.5
    width, height = float(max(int(match[1]), int(match[2]))), 8.0
    d.shadow((0, 0, 0), (width, 4.2, 0))
    for i, finish_there in enumerate((Finish(front.colour), Finish(front.colour), front)):
        d.box((0.5 * (2 - i), 1.5 * i, 0), (width, thin, height), finish_there)


def in_ghost(d: Drawing, fill: Fill | None) -> None:
    """Draws a pale unit, as the background of an insert."""
    size = (8.0, 8.0, 8.0)
    d.shadow((0, 0, 0), size)
    cube(d, (0, 0, 0), size, PALE, fill)


def door(d: Drawing, _: re.Match[str], finish: str) -> None:
    in_ghost(d, boxes)
    leaf = finish_of(finish, BIRCH)
    angle = radians(24)
    across, out = cos(angle), sin(angle)
    x, y = 0.1 + 7.8 * across, 8 + 7.8 * out
    inset = 0.5
    d.face([(0.1, 8, 0.1), (x, y, 0.1), (x, y, 7.9), (0.1, 8, 7.9)], shade(leaf.colour, 0.86))
    with d.on((0.1, 8, 0.1), (across, out, 0), (0, 0, 1)) as flat:
        if leaf.pattern == "cane":
            flat.append(f'<path d="M0 0H78V78H0z" fill="{shade(BIRCH.colour, 0.9)}"/>')
        else:
            flat += d.pattern(leaf, 7.8, 7.8, 0.86)
    if leaf.pattern == "cane":
        with d.on(
            (0.1 + inset * 1.4 * across, 8 + inset * 1.4 * out, 0.8), (across, out, 0), (0, 0, 1)
        ) as flat:
            flat.append(f'<path d="M0 0H64V64H0z" fill="{shade(leaf.colour, 0.95)}"/>')
            flat += d.pattern(leaf, 6.4, 6.4, 0.9)
    d.face(
        [
            (x, y, 0.1),
            (x + 0.4 * out, y - 0.4 * across, 0.1),
            (x + 0.4 * out, y - 0.4 * across, 7.9),
            (x, y, 7.9),
        ],
        shade(BIRCH.colour, 1.02),
    )
    d.face(
        [
            (0.1, 8, 7.9),
            (x, y, 7.9),
            (x + 0.4 * out, y - 0.4 * across, 7.9),
            (0.1 + 0.4 * out, 8 - 0.4 * across, 7.9),
        ],
        shade(BIRCH.colour, TOP),
    )


def drawer(d: Drawing, _: re.Match[str], finish: str) -> None:
    in_ghost(d, None)
    drawers(d, (WALL, 8, WALL), 8 - 2 * WALL, 8 - 2 * WALL, 4.2, finish_of(finish, BIRCH))


def shelf_insert(d: Drawing, _: re.Match[str], finish: str) -> None:
    in_ghost(d, lambda d, at, size: shelf(d, at, size, finish_of(finish, BIRCH)))


def bottles(d: Drawing, _: re.Match[str], finish: str) -> None:
    wood = finish_of(finish, BIRCH)

    def cross(d: Drawing, at: Point, size: Point) -> None:
        (x, y, z), (w, depth, h) = at, size
        with d.on((x, y + depth * 0.93, z), (1, 0, 0), (0, 0, 1)) as flat:
            u, v = w * 10, h * 10
            for i, j, colour in (
                (0.5, 0.13, "#3d5a3a"),
                (0.15, 0.5, "#6b2b33"),
                (0.85, 0.5, "#3d5a3a"),
                (0.37, 0.16, "#6b2b33"),
                (0.63, 0.16, "#2e4630"),
                (0.16, 0.34, "#3d5a3a"),
                (0.84, 0.34, "#6b2b33"),
            ):
                flat.append(
                    f'<circle cx="{u * i:.0f}" cy="{v * j:.0f}" r="9" fill="{colour}"/>'
                    f'<circle cx="{u * i:.0f}" cy="{v * j:.0f}" r="4" fill="#b89a58"/>'
                )
        with d.on((x, y + depth, z), (1, 0, 0), (0, 0, 1)) as flat:
            u, v = w * 10, h * 10
            boards = f"M0 0L{u:g} {v:g}M{u:g} 0L0 {v:g}"
            for light, thick in ((0.7, 7), (1.05, 4.5)):
                colour = shade(wood.colour, light)
                flat.append(f'<path d="{boards}" stroke="{colour}" stroke-width="{thick}"/>')

    in_ghost(d, cross)


def planter(d: Drawing, _: re.Match[str], finish: str) -> None:
    in_ghost(d, boxes)
    d.box((0.3, 0.3, 8), (7.4, 7.4, 1.5), finish_of(finish, INK))
    d.face([(0.7, 0.7, 9.5), (7.3, 0.7, 9.5), (7.3, 7.3, 9.5), (0.7, 7.3, 9.5)], "#5a4334")
    for x, y in sorted(
        ((a * 1.5 + 1.3, b * 1.5 + 1.3) for a in range(4) for b in range(4)), key=sum
    ):
        leaves(d, (x + d.rng.uniform(-0.3, 0.3), y + d.rng.uniform(-0.3, 0.3), 9.5))


def leaves(d: Drawing, at: Point) -> None:
    x, y, z = at
    with d.on(at, DIAGONAL, (0, 0, 1)) as flat:
        for _ in range(4):
            lean, tall = d.rng.uniform(-14, 14), d.rng.uniform(14, 32)
            colour = d.rng.choice(("#5d7a4e", "#6f8a5b", "#88a070", "#4c6a45"))
            flat.append(
                f'<path d="M0 0Q{lean - 5:.0f} {tall * 0.6:.0f} {lean:.0f} {tall:.0f}'
                f'Q{lean + 6:.0f} {tall * 0.5:.0f} 0 0z" fill="{colour}"/>'
            )
    d.reach((x, y, z + 3))


def joints(d: Drawing, _: re.Match[str], finish: str) -> None:
    wood = finish_of(finish, FINISHES["beech"])
    d.shadow((0, 0, 0), (9, 9, 0))
    for x, y in ((0, 0), (5, 0), (0, 5), (5, 5)):
        d.box((x, y + 1.2, 0), (4, 1.6, 1.2), wood)
        d.box((x + 1.2, y, 0), (1.6, 4, 1.2), wood)
        d.box((x + 1.2, y + 1.2, 1.2), (1.6, 1.6, 1.4), wood)


def legs(d: Drawing, _: re.Match[str], finish: str) -> None:
    wood = finish_of(finish, FINISHES["beech"])
    d.shadow((0, 0, 0), (9, 9, 0))
    for x, y in ((1, 1), (7.5, 1), (1, 7.5), (7.5, 7.5)):
        d.box((x - 1.3, y - 1.3, 8.2), (2.6, 2.6, 0.4), STEEL)
        with d.on((x, y, 0), DIAGONAL, (0, 0, 1)) as flat:
            for k, (a, b) in enumerate(((-1, 0.1), (0.1, 1))):
                light = (1.0, 0.74)[k]
                flat.append(
                    f'<path d="M{9 * a:g} 82L{4.5 * a:g} 0H{4.5 * b:g}L{9 * b:g} 82z"'
                    f' fill="{shade(wood.colour, light)}"/>'
                )
            flat.append(f'<path d="M-4.5 4Q0 1 4.5 4V0H-4.5z" fill="{shade(wood.colour, 0.5)}"/>')


def castors(d: Drawing, _: re.Match[str], __: str) -> None:
    d.shadow((0, 0, 0), (9, 9, 0))
    for x, y in ((0, 0), (6, 0), (0, 6), (6, 6)):
        with d.on((x + 1.5, y + 2.1, 1.8), (1, 0, 0), (0, 0, 1)) as flat:
            flat.append(f'<circle cx="8" cy="-4" r="18" fill="{shade(RUBBER.colour, 0.7)}"/>')
        with d.on((x + 1.5, y + 2.9, 1.8), (1, 0, 0), (0, 0, 1)) as flat:
            flat.append(
                f'<circle r="18" fill="{RUBBER.colour}"/><circle r="11" fill="#c9ced2"/>'
                '<circle r="4" fill="#6d747a"/>'
                '<path d="M-5 30L-6 6Q0 -6 6 6L14 30z" fill="#a9b1b7" opacity=".92"/>'
            )
        d.box((x, y + 0.4, 4.6), (3.6, 3.6, 0.4), STEEL)


def rail(d: Drawing, _: re.Match[str], __: str) -> None:
    d.shadow((0, 0, 0), (17, 1.5, 0))
    d.box((0, 0, 0), (17, 0.8, 0.5), STEEL)
    d.box((0, 0, 0.5), (17, 0.3, 3), STEEL)
    with d.on((0, 0.3, 0.5), (1, 0, 0), (0, 0, 1)) as flat:
        for i in range(8):
            x = 12 + i * 21
            flat.append(f'<rect x="{x - 5}" y="12" width="10" height="6" rx="3" fill="#5b6268"/>')
    for left in (1.4, 5.6, 9.8, 14.0):
        d.box((left, 0.3, 1.0), (1.6, 1.2, 0.4), INK)
        d.box((left, 1.2, 1.4), (1.6, 0.35, 1.0), INK)


def parcel(d: Drawing, product_id: str, finish: str) -> None:
    """Draws a box, for a product that we know nothing about."""
    digits = number(product_id)
    w, depth, h = (6.0 + (digits >> shift) % 4 for shift in (3, 7, 11))
    card = Finish("#c9a273", "plain")
    tint = finish_of(finish, Finish(TINTS[digits % len(TINTS)]))
    d.shadow((0, 0, 0), (w, depth, h))
    d.box((0, 0, 0), (w, depth, h), card)
    half = w / 2
    band = shade(tint.colour, 1.0)
    d.face(
        [(half - 0.6, 0, h), (half + 0.6, 0, h), (half + 0.6, depth, h), (half - 0.6, depth, h)],
        shade(band, TOP),
    )
    d.face(
        [
            (half - 0.6, depth, 0),
            (half + 0.6, depth, 0),
            (half + 0.6, depth, h),
            (half - 0.6, depth, h),
        ],
        shade(band, FRONT),
    )
    with d.on((w, depth, 0), (0, -1, 0), (0, 0, 1)) as flat:
        paper = shade("#fffdf8", SIDE + 0.2)
        wide, lines = depth * 10 - 20, f"M15 28H{depth * 7:g}M15 22H{depth * 5:g}"
        flat.append(
            f'<rect x="10" y="12" width="{wide:g}" height="24" rx="2" fill="{paper}"/>'
            f'<path d="{lines}" stroke="{band}" stroke-width="2.5"/>'
        )
