"""Values that people type, times that they read."""

from __future__ import annotations

from typing import Any

import click
import pytest

from orderflow.cli.order import amount, elapsed, quoted
from orderflow.cli.output import WAITS
from orderflow.cli.tables import duration, moment, moment_of_ms
from orderflow.cli.topic import start_of
from orderflow.cli.values import event_or_position, item, order_id
from orderflow.core.inbox import Waits
from tests.unit.cli.calls import ORDER_ID


def test_an_item_is_sku_quantity_and_price() -> None:
    assert item("SKU-A.b_1:2:1250") == {"sku": "SKU-A.b_1", "quantity": 2, "unit_price": 1250}


@pytest.mark.parametrize("wrong", ["", "a", "a:1:", ":1:1", "a:x:1", "a:1:1.5", "a:1:2:3", "a:-1:1", "a:\u0661:1"])
def test_an_item_that_is_written_otherwise_is_refused_with_an_example(wrong: str) -> None:
    with pytest.raises(click.BadParameter, match="SKU-MILK-JUG:2:1250"):
        item(wrong)


def test_an_order_id_is_a_uuid_in_any_writing() -> None:
    assert order_id(ORDER_ID.upper()) == ORDER_ID
    with pytest.raises(click.BadParameter, match="order list"):
        order_id("4711")


def test_a_dead_letter_is_named_by_event_id_or_position() -> None:
    assert event_or_position("17") == "17"
    assert event_or_position(ORDER_ID) == ORDER_ID
    with pytest.raises(click.BadParameter, match="dlt list"):
        event_or_position("../orders")


@pytest.mark.parametrize(
    ("given", "meant"), [(None, None), ("latest", "latest"), ("earliest", "earliest"), ("12", 12)]
)
def test_a_place_to_start_is_a_word_or_an_offset(given: Any, meant: Any) -> None:
    assert start_of(given) == meant


def test_another_place_to_start_is_refused() -> None:
    with pytest.raises(click.BadParameter, match="earliest, latest"):
        start_of("-1")


def test_a_key_is_quoted_as_a_structured_header_has_it() -> None:
    assert quoted('cart "1" \\') == '"cart \\"1\\" \\\\"'


@pytest.mark.parametrize("wrong", ["", "a\nb", "ü", "x" * 256])
def test_a_key_that_does_not_fit_a_header_is_refused(wrong: str) -> None:
    with pytest.raises(click.UsageError, match="printable ASCII"):
        quoted(wrong)


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [(0, "0 ms"), (999, "999 ms"), (1500, "1.5 s"), (120_000, "2 min"), (7_200_000, "2.0 h"), (172_800_000, "2.0 d")],
)
def test_a_duration_has_the_unit_that_fits(milliseconds: float, shown: str) -> None:
    assert duration(milliseconds) == shown


def test_a_moment_is_local_time_and_what_is_none_is_left_as_it_is() -> None:
    assert moment("2026-01-02T03:04:05.678Z").endswith(":05.678")
    assert moment(None) == "-"
    assert moment("never") == "never"
    assert moment_of_ms(10**20) == str(10**20)


def test_between_times_that_are_none_nothing_is_said() -> None:
    assert elapsed("2026-01-02T03:04:05Z", "2026-01-02T03:04:06.5Z") == "+1.5 s"
    assert elapsed("x", None) == ""


def test_an_amount_has_the_digits_of_its_currency() -> None:
    assert amount(1234, "EUR") == "12.34 EUR"
    assert amount(1234, "JPY") == "1234 JPY"
    assert amount(1234, "???") == "1234 ???"


def test_what_waits_is_counted_as_the_inbox_tells_it_apart() -> None:
    assert list(Waits) == list(WAITS)
