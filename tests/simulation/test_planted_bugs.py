"""A simulator is worth what it catches: protocol bugs are planted, each is caught within so many seeds."""

from __future__ import annotations

import pytest

from orderflow.audit.findings import Promise
from orderflow.messaging.fold import Fold
from orderflow.simulation.code import Code
from orderflow.simulation.run import Run, run
from tests.simulation.bugs import DedupesApartEngine, SettlesFirstEngine, overtaking, refunds_unguarded

SEEDS_MAX = 200


def first_caught(code: Code, promise: Promise | None = None) -> Run:
    """The first seed that shows the bug (by breaking this promise); the same world without it keeps all promises."""
    for seed in range(SEEDS_MAX):
        result = run(seed, code)
        if result.broken and (promise is None or promise in promises(result)):
            assert not run(seed).broken
            return result
    raise AssertionError(f"not caught within {SEEDS_MAX} seeds")


def promises(result: Run) -> set[Promise]:
    return {finding.promise for finding in result.report.findings}


def test_an_offset_that_is_settled_before_the_commit_loses_orders() -> None:
    assert first_caught(Code(engine=SettlesFirstEngine), Promise.NOTHING_LOST)


def test_dedupe_outside_of_the_transaction_loses_what_was_noted_but_not_done() -> None:
    caught = first_caught(Code(engine=DedupesApartEngine))
    assert promises(caught) & {Promise.NOTHING_LOST, Promise.BOOKS_BALANCE}


def test_a_refund_without_a_guard_is_paid_twice() -> None:
    caught = first_caught(refunds_unguarded())
    assert Promise.NOTHING_TWICE in promises(caught)
    assert any("more than one refund" in sentence for sentence in caught.broken)


def test_later_events_that_overtake_a_parked_one_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as planted:
        planted.setattr(Fold, "take", overtaking(Fold.take))
        seed = next(seed for seed in range(SEEDS_MAX) if run(seed).broken)
    assert not run(seed).broken


def test_a_failure_explains_itself_and_says_how_to_see_it_again() -> None:
    caught = first_caught(Code(engine=SettlesFirstEngine))
    told = caught.explain()
    assert f"seed {caught.plan.seed}: {len(caught.broken)} broken" in told
    assert caught.broken[0] in told
    assert caught.trace.lines(1)[0] in told
    assert told.endswith(f"replay: python -m orderflow.simulation --seed {caught.plan.seed}")
