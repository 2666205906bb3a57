"""Pictures of all products, drawn from the product's id and the finish of a variant.

The ids of the sample describe the products: `Unit-8x16x16`, `Material-8x8-C`, `Insert-Door-8x8`.
Any other id gets a parcel, in a colour that depends on the id.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files
from typing import Final
from urllib.parse import quote, urlencode

from stream_server.web.pages.pictures import parts, units
from stream_server.web.pages.pictures.drawing import Drawing

__all__ = ["VERSION", "draw", "url"]


@lru_cache(maxsize=512)
def draw(product_id: str, finish: str = "") -> str:
    """Returns the SVG of any product."""
    drawing = Drawing(product_id)
    for pattern, sketch in SKETCHES:
        if match := re.search(pattern, product_id, re.IGNORECASE):
            sketch(drawing, match, finish)
            break
    else:
        parts.parcel(drawing, product_id, finish)
    return drawing.svg(f"{product_id} {finish}".strip())


def url(product_id: str, finish: str = "") -> str:
    """Returns the path of a product's picture; `finish` is the value of a variant."""
    query = f"?{urlencode({'finish': finish})}" if finish else ""
    return f"/pictures/{VERSION}/{quote(product_id, safe='')}{query}"


SKETCHES: Final[tuple[tuple[str, Callable[[Drawing, re.Match[str], str], None]], ...]] = (
    (r"^Unit-(\d{1,2})x(\d{1,2})x(\d{1,2})(?P<rest>-.*)?$", units.unit),
    (r"^Material-(\d{1,2})x(\d{1,2})-(\w)", parts.panel),
    (r"^Insert-Door\b", parts.door),
    (r"^Insert-Drawer\b", parts.drawer),
    (r"^Insert-Shelf\b", parts.shelf_insert),
    (r"^Insert-Bottle\b", parts.bottles),
    (r"^Insert-Planter\b", parts.planter),
    (r"^Hardware-Joint\b", parts.joints),
    (r"^Hardware-Legs\b", parts.legs),
    (r"^Hardware-Castors\b", parts.castors),
    (r"^Hardware-Wall-Rail\b", parts.rail),
    (r"^Set-Bookcase-(\d)x(\d)", units.bookcase),
    (r"^Set-Desk\b", units.desk),
    (r"^Set-Starter\b", units.starter),
)


def _version() -> str:
    digest = blake2b(digest_size=6)
    for each in sorted(
        files("stream_server.web.pages.pictures").iterdir(), key=lambda each: each.name
    ):
        if each.name.endswith(".py"):
            digest.update(each.read_bytes())
    return digest.hexdigest()


VERSION: Final = _version()  # of the pictures; their URLs contain it, so they change with it
