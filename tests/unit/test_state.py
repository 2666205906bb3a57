"""A product's state does not depend on the order in which its changes come."""

from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import given

from stream_server.streaming.products import Change, apply_change
from tests.support.miniature import after, row

RED = st.sampled_from([None, None, "red", "blue"])


@st.composite
def histories(draw: st.DrawFn) -> list[Change]:
    """The versions of one product in order: its row first, then rows and variants."""
    variants = [None, *draw(st.lists(RED, max_size=8))]
    statuses = st.sampled_from(["active", "draft", "discontinued"])
    return [
        row(
            "p", version, variant=variant, status=draw(statuses),
            max_quantity=draw(st.none() | st.integers(100, 200)),
            sold_quantity=draw(st.integers(0, 100)),
        )
        for version, variant in enumerate(variants, start=1)
    ]  # fmt: skip


@given(histories(), st.data())
def test_any_order_that_begins_with_the_product_gives_the_same_state(
    history: list[Change], data: st.DataObject
) -> None:
    first, *others = history
    shuffled = data.draw(st.permutations(others))
    expected, got = after(history)["p"], after([first, *shuffled])["p"]
    assert replace(got, published=expected.published) == expected
    assert got.row_version == expected.row_version


@given(histories(), st.data())
def test_a_change_that_comes_again_changes_nothing(
    history: list[Change], data: st.DataObject
) -> None:
    """Also one that a newer state has overtaken: the same object comes out."""
    product = after(history)["p"]
    again = data.draw(st.sampled_from(history))
    assert apply_change(product, again) is product


@given(histories())
def test_the_newest_change_says_version_transaction_and_time(history: list[Change]) -> None:
    product, newest = after(history)["p"], history[-1]
    assert product.version == newest.version == len(history)
    assert (product.changed_xid, product.updated_at) == (newest.xid, newest.changed_at)
    assert product.published == any(
        each.status != "draft" for each in history if each.variant_id is None
    )
    for variant_id, variant in product.variants.items():
        last = [each for each in history if each.variant_id == variant_id][-1]
        assert (variant.version, variant.sold_quantity) == (last.version, last.sold_quantity)


def test_a_variant_of_an_unknown_product_is_not_a_product() -> None:
    assert apply_change(None, row("p", 2, variant="red")) is None


def test_a_state_that_others_hold_is_never_changed() -> None:
    before = after([row("p", 1), row("p", 2, variant="red")])["p"]
    variants = dict(before.variants)
    later = apply_change(before, row("p", 3, variant="blue"))
    assert later is not None
    assert later.variants.keys() == {"red", "blue"}
    assert before.variants == variants
