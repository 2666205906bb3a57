"""The rules of stock as properties and by example."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.inventory import rules

SOLD_OUT = "Sold Out"


@dataclass(frozen=True)
class Row:
    """A product or a variant, as the rules see it."""

    available_quantity: int | None
    status: str = "active"


units = st.integers(min_value=0, max_value=2_000)
quantities = st.none() | units
statuses = st.sampled_from(["active", "draft", "discontinued"])
rows = st.builds(Row, available_quantity=quantities, status=statuses)
variant_maps = st.none() | st.dictionaries(st.sampled_from("abcdef"), rows)


class TestLowStock:
    """0 < available <= threshold."""

    @pytest.mark.parametrize(
        ("available", "low"), [(0, False), (1, True), (10, True), (11, False), (None, False)]
    )
    def test_low_is_above_nothing_and_up_to_the_threshold_of_ten(
        self, available: int | None, low: bool
    ) -> None:
        assert rules.is_low_stock(available) is low

    @given(available=quantities, threshold=units)
    def test_a_row_may_say_its_own_threshold(self, available: int | None, threshold: int) -> None:
        low = available is not None and available in range(1, threshold + 1)
        assert rules.is_low_stock(available, threshold) is low

    def test_a_threshold_of_zero_turns_the_warning_off(self) -> None:
        assert not rules.is_low_stock(1, threshold=0)


class TestMessages:
    """The four texts."""

    @pytest.mark.parametrize(
        ("available", "is_available", "message"),
        [
            (0, False, SOLD_OUT),
            (1, True, "Only 1 remaining!"),
            (10, True, "Only 10 remaining!"),
            (11, True, "11 available"),
            (None, True, "In Stock"),
            (None, False, SOLD_OUT),
            (500, False, SOLD_OUT),
            (0, True, SOLD_OUT),
        ],
    )
    def test_the_message_of_a_card(
        self, available: int | None, is_available: bool, message: str
    ) -> None:
        assert rules.stock_message(available, is_available) == message

    @pytest.mark.parametrize(
        ("available", "is_available", "threshold", "message"),
        [
            (11, True, 10, "11 items available"),
            (1, True, 0, "1 item available"),
            (10, True, 10, "Only 10 remaining!"),
            (None, True, 10, "In Stock"),
            (0, False, 10, SOLD_OUT),
        ],
    )
    def test_the_message_of_a_products_own_page(
        self, available: int | None, is_available: bool, threshold: int, message: str
    ) -> None:
        assert rules.product_page_message(available, is_available, threshold) == message

    @given(available=quantities, is_available=st.booleans(), threshold=units)
    def test_urgency_is_shown_exactly_where_stock_is_low(
        self, available: int | None, is_available: bool, threshold: int
    ) -> None:
        message = rules.stock_message(available, is_available, threshold)
        urgent = message.startswith("Only ")
        assert urgent is (is_available and rules.is_low_stock(available, threshold))


class TestEffectiveAvailability:
    """Invariant 2: a product and its variants bound each other."""

    @given(own=quantities, others=st.lists(quantities))
    def test_unlimited_never_bounds(self, own: int | None, others: list[int | None]) -> None:
        finite = [quantity for quantity in [own, *others] if quantity is not None]
        assert rules.effective_available(own, *others) == (min(finite) if finite else None)

    def test_a_variant_has_no_more_than_its_product(self) -> None:
        assert rules.variant_available(Row(3), Row(7)) == 3
        assert rules.variant_available(Row(None), Row(7)) == 7
        assert rules.variant_available(Row(None), Row(None)) is None

    def test_a_product_has_no_more_than_its_variants_together(self) -> None:
        assert rules.product_available(Row(100), [Row(3), Row(4)]) == 7
        assert rules.product_available(Row(5), [Row(3), Row(4)]) == 5

    def test_one_unlimited_variant_leaves_only_the_products_own_bound(self) -> None:
        assert rules.product_available(Row(100), [Row(3), Row(None)]) == 100
        assert rules.product_available(Row(None), [Row(3), Row(None)]) is None

    def test_only_active_variants_count(self) -> None:
        assert rules.product_available(Row(100), [Row(3), Row(None, "draft")]) == 3

    def test_a_product_of_which_no_variant_is_active_has_nothing(self) -> None:
        assert rules.product_available(Row(None), [Row(8, "discontinued")]) == 0
        assert rules.product_available(Row(100), []) == 0

    def test_a_product_without_variants_has_its_own(self) -> None:
        assert rules.product_available(Row(100), None) == 100
        assert rules.product_available(Row(None), None) is None

    @given(product=rows, variants=st.lists(rows))
    def test_summing_what_each_variant_can_really_have_gives_the_same(
        self, product: Row, variants: list[Row]
    ) -> None:
        each = (rules.variant_available(product, v) for v in variants if v.status == "active")
        together = rules.effective_available(
            product.available_quantity, rules.total_available(each)
        )
        assert rules.product_available(product, variants) == together


class TestPurchase:
    """The product is asked first, then the variant."""

    def test_an_unknown_product_is_not_available(self) -> None:
        assert not rules.is_purchasable(None)

    @pytest.mark.parametrize("variants", [None, {}, {"oak": Row(5)}])
    def test_an_unknown_variant_is_not_available(self, variants: dict[str, Row] | None) -> None:
        assert not rules.is_purchasable(Row(5), variants, "walnut")

    def test_a_product_that_is_sold_out_sells_none_of_its_variants(self) -> None:
        assert not rules.is_purchasable(Row(0), {"oak": Row(5)}, "oak")

    @pytest.mark.parametrize("status", ["draft", "discontinued"])
    def test_what_is_not_active_is_not_available(self, status: str) -> None:
        assert not rules.is_purchasable(Row(None, status))
        assert not rules.is_purchasable(Row(None, status), {"oak": Row(5)}, "oak")
        assert not rules.is_purchasable(Row(None), {"oak": Row(5, status)}, "oak")

    @given(product=rows, variants=variant_maps)
    def test_a_product_is_available_exactly_if_it_is_in_some_variant(
        self, product: Row, variants: dict[str, Row] | None
    ) -> None:
        if variants is not None:
            in_some = any(rules.is_purchasable(product, variants, id_) for id_ in variants)
            assert rules.is_purchasable(product, variants) is in_some

    @given(product=rows, variants=variant_maps, quantity=st.integers(1, 2_000))
    def test_nobody_buys_more_than_any_row_has(
        self, product: Row, variants: dict[str, Row] | None, quantity: int
    ) -> None:
        for variant_id in [None, *(variants or {})]:
            if rules.is_purchasable(product, variants, variant_id, quantity):
                asked = [product] if variant_id is None else [product, (variants or {})[variant_id]]
                assert all(row.status == "active" for row in asked)
                assert all(
                    row.available_quantity is None or row.available_quantity >= quantity
                    for row in asked
                )
