"""What a client saw, and what of it cannot be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orderflow.chaos.client import DECLINED, FAILED, OK, SOLD_OUT, UNKNOWN, History, Placing, wanted
from tests.unit.chaos.orders import SEED, shown, some

ORDER = some()


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    made = History(tmp_path / "history.jsonl", lambda: 1.5)
    yield made
    made.close()


def found(history: History) -> list[str]:
    return [trouble.verdict for trouble in history.troubles]


def test_the_same_seed_orders_the_same() -> None:
    assert [wanted(SEED, number) for number in range(50)] == [wanted(SEED, number) for number in range(50)]


@pytest.mark.parametrize(
    ("ends", "sum_"),
    [
        ([FAILED], FAILED),
        ([FAILED, UNKNOWN, FAILED], UNKNOWN),
        ([UNKNOWN, OK], OK),
        ([OK, UNKNOWN, FAILED], OK),
    ],
)
def test_what_may_have_arrived_is_never_taken_back(ends: list[str], sum_: str) -> None:
    placing = Placing.of(ORDER)
    for outcome in ends:
        placing.sum_up(outcome)

    assert placing.outcome == sum_


def test_an_order_that_goes_on_and_ends_is_fine(history: History) -> None:
    placing = Placing.of(ORDER)
    history.placed(placing, shown(ORDER, status="PENDING"))
    for status in ("PENDING", "PAID", "COMPLETED", "COMPLETED"):
        history.seen(placing, shown(ORDER, status=status))
    history.placed(placing, shown(ORDER, status="PENDING"))

    assert found(history) == []
    assert placing.outcome == OK


@pytest.mark.parametrize(("before", "after"), [("PAID", "PENDING"), ("COMPLETED", "FAILED"), ("FAILED", "PAID")])
def test_a_status_that_goes_back_is_found(history: History, before: str, after: str) -> None:
    placing = Placing.of(ORDER)
    history.seen(placing, shown(ORDER, status=before))
    history.seen(placing, shown(ORDER, status=after))

    assert found(history) == ["adrift"]


def test_another_amount_is_found(history: History) -> None:
    history.seen(Placing.of(ORDER), shown(ORDER, total=ORDER.total + 1))

    assert found(history) == ["adrift"]


def test_one_key_with_two_orders_is_found(history: History) -> None:
    placing = Placing.of(ORDER)
    history.placed(placing, shown(ORDER, "A"))
    history.placed(placing, shown(ORDER, "B"))

    assert found(history) == ["doubled"]


def test_an_accepted_order_that_is_not_found_any_more_is_lost(history: History) -> None:
    placing = Placing.of(ORDER)
    history.placed(placing, shown(ORDER))
    history.missing(placing)

    assert found(history) == ["lost"]


def test_every_request_is_written_down(history: History, tmp_path: Path) -> None:
    history.invoke("place", 1, key="k")
    history.end(UNKNOWN, "place", 1, why="ReadError")
    history.close()
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]

    assert lines == [
        {"t": 1.5, "event": "invoke", "op": "place", "order": 1, "key": "k"},
        {"t": 1.5, "event": "unknown", "op": "place", "order": 1, "why": "ReadError"},
    ]


@pytest.mark.parametrize(("kind", "ends"), [(DECLINED, ("FAILED", "none")), (SOLD_OUT, ("FAILED", "done"))])
def test_how_it_must_end_is_known_beforehand(kind: str, ends: tuple[str, str]) -> None:
    assert Placing.of(some(kind)).ends == ends
