"""What the client knows of an order against what the service has."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from orderflow.audit.findings import Finding, Kind
from orderflow.chaos.client import FAILED, INVALID, OK, UNKNOWN
from orderflow.chaos.judge import compare, is_own_poison
from tests.unit.chaos.orders import placing_of, shown, some

ORDER, UNKEYED, REFUSED = some(), some(key=False), some(INVALID, key=False)


def test_what_was_accepted_and_what_was_not_answered_may_be_there_once() -> None:
    assert list(compare(placing_of(ORDER, OK, "A"), [shown(ORDER)])) == []
    assert list(compare(placing_of(ORDER, UNKNOWN), [shown(ORDER)])) == []
    assert list(compare(placing_of(ORDER, UNKNOWN), [])) == []
    assert list(compare(placing_of(REFUSED, FAILED), [])) == []


@pytest.mark.parametrize(
    ("outcome", "ids", "verdicts"),
    [
        (OK, [], ["lost"]),
        (OK, ["B"], ["lost"]),
        (OK, ["A", "B"], ["doubled"]),
        (UNKNOWN, ["A", "B"], ["doubled"]),
        (FAILED, ["A"], ["doubled"]),
    ],
)
def test_lost_and_doubled(outcome: str, ids: list[str], verdicts: list[str]) -> None:
    placing = placing_of(ORDER, outcome, "A" if outcome == OK else "")

    assert [each.verdict for each in compare(placing, [shown(ORDER, each) for each in ids])] == verdicts


def test_an_order_without_a_key_is_sent_once_so_two_are_too_many_when_it_was_accepted() -> None:
    found = [shown(UNKEYED, "A"), shown(UNKEYED, "B")]

    assert [each.verdict for each in compare(placing_of(UNKEYED, OK, "A"), found)] == ["doubled"]


@pytest.mark.parametrize("other", [{"status": "FAILED"}, {"status": "PAID"}, {"total": 1}, {"currency": "CHF"}])
def test_another_end_or_another_amount_is_adrift(other: dict[str, Any]) -> None:
    found = compare(placing_of(ORDER, OK, "A"), [shown(ORDER, **other)])

    assert [each.verdict for each in found] == ["adrift"]


def test_that_the_audit_finds_the_poison_of_this_run_is_as_it_should_be_and_nothing_else_is() -> None:
    forged = Finding(Kind.RECORD_FORGED, "chaos-poison-22-0", "a row of an outbox", "no event id")
    assert is_own_poison(forged)
    assert not is_own_poison(dataclasses.replace(forged, subject="01a21899-d79c-751f-9faa-611a9a0c1947"))
    assert not is_own_poison(dataclasses.replace(forged, kind=Kind.RECORD_MISSING))
