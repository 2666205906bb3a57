"""Pictures of products: distinct, small, the same each time, and nothing but shapes."""

import gzip
import json
from importlib.resources import files
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.web.pages import pictures

SVG = "{http://www.w3.org/2000/svg}"
SHAPES = {"svg", "title", "path", "g", "clipPath", "circle", "ellipse", "rect"}
SAMPLE = json.loads((files("stream_server") / "sample" / "catalogue.json").read_text())
IDS = [product["id"] for product in SAMPLE]


def elements(drawn: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(drawn).iter())  # noqa: S314  # drawn here


@pytest.mark.parametrize("product_id", IDS)
def test_a_product_of_the_sample_has_a_small_picture_of_plain_shapes(product_id: str) -> None:
    drawn = pictures.draw(product_id)
    found = elements(drawn)
    assert {each.tag.removeprefix(SVG) for each in found} <= SHAPES
    assert len(found) > 10
    assert len(gzip.compress(drawn.encode())) < 10_000
    attributes = {name for each in found for name in each.attrib}
    assert not {name for name in attributes if name.startswith("on") or name in ("style", "href")}


def test_no_two_products_look_the_same_and_none_is_a_parcel() -> None:
    drawn = {pictures.draw(each).partition("</title>")[2] for each in IDS}
    assert len(drawn) == len(IDS)
    label = 'height="24" rx="2"'
    assert label in pictures.draw("something else")
    assert not [each for each in drawn if label in each]


def test_each_finish_of_a_product_has_its_own_colours() -> None:
    for product in SAMPLE:
        finishes = [variant["variantValue"] for variant in product.get("variants", ())]
        drawn = {pictures.draw(product["id"], each).partition("</title>")[2] for each in finishes}
        assert len(drawn) == len(finishes), product["id"]


def test_the_same_product_is_drawn_the_same_again() -> None:
    first = pictures.draw("Set-Desk")
    pictures.draw.cache_clear()
    assert pictures.draw("Set-Desk") == first


def test_a_larger_unit_has_a_larger_view() -> None:
    def side(product_id: str) -> float:
        return float(elements(pictures.draw(product_id))[0].attrib["viewBox"].split()[2])

    assert side("Unit-8x8x8") < side("Unit-8x8x16") < side("Unit-16x16x16")


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_id_and_finish_has_a_picture(product_id: str, finish: str) -> None:
    if any(each < " " or "\ud800" <= each <= "\udfff" for each in product_id + finish):
        return
    try:
        drawn = pictures.draw(product_id, finish)
        title = elements(drawn)[1]
    except ElementTree.ParseError:
        assert not (product_id + finish).isprintable()  # no picture is asked for such ids
        return
    assert title.text is None or title.text == f"{product_id} {finish}".strip()


@pytest.mark.parametrize("product_id", ["</title><script>alert(1)</script>", "a\"b'&<c>", "🪑/%2F"])
def test_an_id_is_text_in_its_picture(product_id: str) -> None:
    assert elements(pictures.draw(product_id))[1].text == product_id


def test_an_address_holds_any_id() -> None:
    assert pictures.url("a/b c?d#e", "x&y") == (
        f"/pictures/{pictures.VERSION}/a%2Fb%20c%3Fd%23e?finish=x%26y"
    )
