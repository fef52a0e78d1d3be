"""What a person may say became of an order's money, and when he is asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from orderflow.console.order import SETTLED_BY_HAND_AFTER, SETTLEMENTS, OrderWhole
from orderflow.services.payment.messages import SettlementOutcome
from orderflow.services.payment.model import PaymentStatus


def whole(status: str | None, changed_ago: timedelta) -> OrderWhole:
    changed_at = (datetime.now(UTC) - changed_ago).isoformat()
    payment = None if status is None else {"status": status, "changed_at": changed_at}
    unlooked: Any = None
    return OrderWhole(cast(Any, unlooked), cast(Any, unlooked), payment, (), {})


@pytest.mark.parametrize(
    ("status", "offered"),
    [
        ("CHARGING", ["charged", "not-charged"]),
        ("UNKNOWN", ["charged", "not-charged"]),
        ("REFUND_DUE", ["refunded", "not-charged"]),
        ("REFUND_REFUSED", ["refunded", "not-charged", "ask-again"]),
        ("CAPTURED", []),
        ("REFUNDED", []),
        (None, []),
    ],
)
def test_what_the_bank_leaves_open_is_settled_by_hand_and_nothing_else(
    status: str | None, offered: list[str]
) -> None:
    assert [outcome for outcome, _ in whole(status, timedelta(minutes=1)).settlements] == offered


def test_nobody_is_asked_while_the_bank_may_still_answer_soon() -> None:
    assert whole("UNKNOWN", SETTLED_BY_HAND_AFTER - timedelta(seconds=5)).settlements == ()


def test_only_what_the_payment_service_takes_is_offered() -> None:
    assert set(SETTLEMENTS) <= set(PaymentStatus)
    assert {outcome for choices in SETTLEMENTS.values() for outcome, _ in choices} == set(SettlementOutcome)
