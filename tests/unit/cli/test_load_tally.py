"""Percentiles, and the summary of a run."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from orderflow.cli.demo import document, parts
from orderflow.cli.load import LoadOptions, Tally, percentiles
from orderflow.cli.output import Output

WISH = LoadOptions(orders=3, rate=None, concurrency=2, seed=1, timeout_s=1)


def test_percentiles_are_the_nearest_rank_in_milliseconds() -> None:
    found = percentiles(array("d", [number / 1000 for number in range(100, 0, -1)]))

    assert found == {"p50": 50, "p90": 90, "p99": 99, "max": 100, "measured": 100}


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50))
def test_percentiles_are_values_that_were_measured_and_grow(seconds: list[float]) -> None:
    found = percentiles(array("d", seconds))

    shown = [found[name] for name in ("p50", "p90", "p99", "max")]
    assert shown == sorted(shown)
    assert set(shown) <= {round(value * 1000, 2) for value in seconds}


def test_of_nothing_there_are_no_percentiles() -> None:
    assert percentiles(array("d")) == {"measured": 0}


def test_the_summary_counts_every_order_once() -> None:
    tally = Tally(3, began=10.0, placing_ended=11.0, ended=12.0)
    for order_id, kind in (("a", "approved"), ("b", "sold out"), ("c", "slow bank")):
        tally.accept(order_id, kind, 10.0, 10.5)
    tally.finish("a")
    tally.learn("a", "COMPLETED", None, "none")
    tally.finish("b")
    tally.learn("b", "FAILED", "out_of_stock", "due")
    tally.errors["422: no"] += 1

    shown = document(tally, WISH)

    assert shown["orders"] == {"asked": 3, "placed": 3, "final": 2}
    assert shown["outcomes"] == {"COMPLETED": 1, "FAILED": {"out_of_stock": 1}, "unfinished": 1}
    assert shown["refunds"] == {"done": 0, "due": 1, "refused": 0}
    assert shown["rates"] == {"accepted_per_s": 3.0, "final_per_s": 1.0}
    assert shown["accepted_ms"]["p50"] == 500
    assert tally.refunds_due() == ["b"]
    Output().show(*parts(tally, WISH))


def test_a_run_that_placed_nothing_has_a_summary_too() -> None:
    Output().show(*parts(Tally(3), WISH))

    assert document(Tally(3), WISH)["rates"] == {"accepted_per_s": 0.0, "final_per_s": 0.0}
