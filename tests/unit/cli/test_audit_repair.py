"""`orderflow audit --repair`, as far as it goes without services."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.calls import ORDER_ID, call


@pytest.mark.parametrize(
    "words", [("--yes",), ("--reason", "why"), ("--only", "refund-missing"), ("--order", ORDER_ID)]
)
def test_what_goes_with_a_repair_needs_one(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = call(tmp_path, "audit", *words)
    assert done.exit_code == 2
    assert "go with --repair" in done.stderr


def test_a_kind_that_no_event_heals_is_refused_with_those_that_can_be_healed(tmp_path: Path) -> None:
    done = call(tmp_path, "audit", "--repair", "--only", "double-charge")
    assert done.exit_code == 2
    assert "'double-charge' is not a kind that can be repaired" in done.stderr
    assert "refund-missing" in done.stderr


def test_to_watch_and_to_repair_are_two_things(tmp_path: Path) -> None:
    done = call(tmp_path, "audit", "--repair", "--watch", "30")
    assert (done.exit_code, "Either --watch or --repair" in done.stderr) == (2, True)
