"""The mix of orders of the demo."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from orderflow.bank import APPROVED, DECLINED, MISBEHAVING
from orderflow.cli.load import SHARES, SOLD_OUT, plan
from orderflow.http.validation import StrictDecoder
from orderflow.load.client import PRICES, SOLD_OUT_SKU
from orderflow.services.inventory.service import DEMO_CATALOGUE
from orderflow.services.order.api import NewOrder, require_sound


def test_the_same_seed_is_the_same_mix_and_another_is_another() -> None:
    assert list(plan(200, 1)) == list(plan(200, 1))
    assert list(plan(200, 1)) != list(plan(200, 2))


def test_the_shares_are_those_that_are_said() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    found = Counter(order.kind for order in plan(20_000, 3))

    for kind, share in SHARES.items():
        assert found[kind] / 20_000 == pytest.approx(share, abs=0.01)


def test_a_small_run_shows_every_kind() -> None:
    assert {order.kind for order in plan(20, 5)} == set(SHARES)


def test_the_order_service_accepts_every_order() -> None:
    decoder = StrictDecoder(NewOrder)
    for order in plan(500, 7):
        require_sound(decoder.decode(order.body))


def test_what_is_ordered_is_in_the_demo_catalogue_and_only_one_kind_is_sold_out() -> None:
    assert set(PRICES) == {sku for sku, units in DEMO_CATALOGUE.items() if units}
    assert DEMO_CATALOGUE[SOLD_OUT_SKU] == 0
    for order in plan(500, 9):
        skus = {item["sku"] for item in json.loads(order.body)["items"]}
        assert (SOLD_OUT_SKU in skus) == (order.kind == SOLD_OUT)


def test_every_payment_method_is_one_that_the_bank_knows() -> None:
    known = APPROVED | set(DECLINED) | MISBEHAVING

    assert {json.loads(order.body)["payment_method"] for order in plan(5000, 11)} <= known
