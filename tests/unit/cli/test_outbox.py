"""`orderflow outbox republish`: four services side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.calls import ORDER_ID
from tests.unit.cli.fleet import Fleet, fleet

TIMES = {"oldest": "2026-05-12T08:00:00Z", "newest": "2026-05-12T09:00:00Z"}
ROWS = {"topic": "order-events", "count": 12, **TIMES}
NONE: dict[str, Any] = {"/ops/outbox/published": []}
SOME: dict[str, Any] = {"/ops/outbox/published": [ROWS], "POST /ops/outbox/republish": {"republished": 12}}
MEANT = ("--yes", "--reason", "the topic was deleted")


def answering(home: Path, order: Mapping[str, Any]) -> AbstractContextManager[Fleet]:
    return fleet(home, order=order, payment=NONE, inventory=NONE, notification=NONE)


def test_a_rehearsal_shows_what_would_be_published_again_and_changes_nothing(tmp_path: Path) -> None:
    with answering(tmp_path, SOME) as services:
        shown = services.call("outbox", "republish", "--topic", "order-events", "--rehearse")
        asked = services.asked["order"]

    assert shown.exit_code == 0
    assert ["order", "order-events", "12"] in [line.split()[:3] for line in shown.stdout.splitlines()]
    assert "Nothing was changed" in shown.stdout
    assert [each.method for each in asked] == ["GET"]


def test_each_service_that_has_such_events_publishes_them_again(tmp_path: Path) -> None:
    choice = ("--order", ORDER_ID, "--from", "2026-05-12T08:00:00Z", "--to", "2026-05-12T09:00:00Z")
    with answering(tmp_path, SOME) as services:
        done = services.call("outbox", "republish", *choice, *MEANT, "--json")
        said = [each for each in services.asked["order"] if each.method == "POST"]
        others = [
            each
            for name in ("payment", "inventory", "notification")
            for each in services.asked[name]
            if each.method == "POST"
        ]

    assert json.loads(done.stdout) == {
        "rehearsed": False,
        "published": {"order": [ROWS], "payment": [], "inventory": [], "notification": []},
        "republished": {"order": 12},
        "unreachable": {},
    }
    since = int(datetime(2026, 5, 12, 8, tzinfo=UTC).timestamp() * 1000)
    assert [each.body for each in said] == [
        {
            "key": ORDER_ID,
            "from_ms": since,
            "to_ms": since + 3_600_000,
            "reason": "the topic was deleted",
            "confirmed": True,
        }
    ]
    assert others == []


@pytest.mark.parametrize("given", [(), ("--yes",), ("--reason", "r")])
def test_it_is_meant_only_with_yes_and_a_reason(given: tuple[str, ...], tmp_path: Path) -> None:
    with answering(tmp_path, SOME) as services:
        done = services.call("outbox", "republish", "--all", *given)
        said = [each.method for each in services.asked["order"]]

    assert done.exit_code == 5
    assert "publishes 12 events again" in done.stderr
    assert said == ["GET"]


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ((), 2, "Say what to republish"),
        (("--all", "--topic", "order-events"), 2, "Say what to republish"),
        (("--from", "yesterday"), 2, "is not a time"),
        (("--order", "12"), 2, "is not an order id"),
        (("--topic", "order-events"), 4, "has no published event of that kind"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(given: tuple[str, ...], code: int, said: str, tmp_path: Path) -> None:
    with answering(tmp_path, NONE) as services:
        done = services.call("outbox", "republish", *given, *MEANT)

    assert done.exit_code == code
    assert said in done.stderr


def test_a_service_that_is_away_is_told_and_the_others_publish(tmp_path: Path) -> None:
    with fleet(tmp_path, away="inventory", order=SOME, payment=NONE, notification=NONE) as services:
        done = services.call("outbox", "republish", "--from", "2h", *MEANT)

    assert done.exit_code == 3
    assert "12 events are being published again" in done.stdout
    assert "inventory did not answer" in done.stderr
