"""Outage, poison or doubt: the judgement as tables, over what was tried of one event type."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from orderflow.core.failures import (
    FAILING_KEYS_MIN,
    REMEMBERED_S,
    TRIALS_MAX,
    WINDOW_S,
    Evidence,
    Trial,
    TrialHistory,
)
from orderflow.core.inbox import Failure

NOW = 100.0


def failed(fingerprint: str = "f") -> Failure:
    return Failure("unknown", "Boom", "no", fingerprint)


def bad(count: int, *, fingerprint: str = "f", start: int = 0, at: float = NOW, first: bool = True) -> list[Trial]:
    """So many keys that fail alike."""
    return [Trial(f"k{start + n}", failed(fingerprint), at, first) for n in range(count)]


def fine(count: int, *, start: int = 0, at: float = NOW, first: bool = True) -> list[Trial]:
    """So many keys that are handled."""
    return [Trial(f"k{start + n}", None, at, first) for n in range(count)]


@pytest.mark.parametrize(
    ("trials", "is_outage"),
    [
        pytest.param(bad(1), False, id="one event, alone"),
        pytest.param(bad(1) + fine(499, start=1), False, id="an isolated poison event"),
        pytest.param(bad(5) + fine(495, start=5), False, id="1 % poison in 500"),
        pytest.param(bad(150) + fine(350, start=150), False, id="30 % share"),
        pytest.param(fine(350, start=150) + bad(150), False, id="30 % share, at the end of a batch"),
        pytest.param(bad(250) + fine(250, start=250), False, id="exactly half"),
        pytest.param(bad(251) + fine(249, start=251), True, id="more than half"),
        pytest.param(bad(7), False, id="all of too few keys"),
        pytest.param(bad(8), True, id="all of just enough keys"),
        pytest.param(bad(8) + fine(7, start=8), True, id="just enough keys, just over half"),
        pytest.param(bad(8) + fine(8, start=8), False, id="just enough keys, half"),
        pytest.param(bad(7) + bad(7, fingerprint="g", start=7), False, id="two failures, each of too few keys"),
        pytest.param(bad(10) + bad(10, fingerprint="g", start=10), False, id="two failures, half of the keys each"),
        pytest.param(bad(20) + bad(8, fingerprint="g", start=20), True, id="two failures, one prevails"),
        pytest.param(bad(1) * 30, False, id="one key, tried often"),
        pytest.param(bad(20) + fine(20), False, id="keys that failed and were handled since"),
        pytest.param(fine(20) + bad(20), True, id="keys that were handled and have failed since"),
        pytest.param(bad(20, first=False), True, id="retries of what is parked, and nothing else was ever tried"),
        pytest.param(fine(9, start=50) + bad(8, first=False), False, id="retries of what is parked, beside others"),
        pytest.param(
            fine(20, start=50, at=NOW - WINDOW_S - 1) + bad(8), True, id="it succeeded before, all fails since"
        ),
        pytest.param(
            bad(7, at=NOW - 70) + bad(1, start=7), True, id="8 keys within a minute, nothing succeeded between"
        ),
        pytest.param(
            bad(7, at=NOW - 70) + fine(1, start=99, at=NOW - 50) + bad(1, start=7),
            False,
            id="8 keys within a minute, and one success between",
        ),
        pytest.param(
            bad(7, at=NOW - REMEMBERED_S - 1) + bad(1, start=7),
            False,
            id="what was not tried for long",
        ),
    ],
)
def test_many_keys_that_fail_alike_are_an_outage_and_an_isolated_one_is_not(
    trials: Sequence[Trial], is_outage: bool
) -> None:
    assert (TrialHistory().after(trials).outage(NOW) is not None) == is_outage


@pytest.mark.parametrize(
    ("trials", "in_doubt"),
    [
        pytest.param(bad(1), False, id="alone"),
        pytest.param(bad(2), True, id="with another that fails alike"),
        pytest.param(bad(1) + bad(1, fingerprint="g", start=1), False, id="with another that fails otherwise"),
        pytest.param(bad(2, at=NOW - 60) + bad(1), True, id="since a minute"),
        pytest.param(bad(2) + fine(1, start=9), False, id="others succeed"),
        pytest.param(bad(2) + fine(1, start=9) + bad(2, first=False), False, id="others succeed, and it fails again"),
        pytest.param(
            bad(2) + fine(1, start=9) + bad(2, start=2) + bad(1), True, id="others fail, none has succeeded since"
        ),
        pytest.param(bad(1) + fine(1, start=1), False, id="the other has been handled"),
        pytest.param(
            bad(1, start=1, at=NOW - REMEMBERED_S - 1) + bad(1), False, id="the other was not tried for long"
        ),
    ],
)
def test_a_key_is_in_doubt_while_others_fail_alike_and_nothing_has_succeeded_since(
    trials: Sequence[Trial], in_doubt: bool
) -> None:
    assert TrialHistory().after(trials).is_doubtful("k0", NOW) == in_doubt


def test_the_verdict_comes_with_its_evidence() -> None:
    evidence = TrialHistory().after(bad(9) + fine(3, start=9)).outage(NOW)

    assert evidence is not None
    assert (evidence.fingerprint, evidence.error, evidence.failing, evidence.tried) == ("f", "Boom: no", 9, 12)


def test_an_outage_that_begins_under_full_load_is_judged_after_so_many_failures() -> None:
    before = TrialHistory()
    for trial in fine(20 * TRIALS_MAX, start=1_000):
        before.record(trial)

    assert before.after(bad(TRIALS_MAX)).outage(NOW) is None
    assert before.after(bad(TRIALS_MAX + 1)).outage(NOW) is not None


def test_what_is_known_to_succeed_otherwise_is_no_outage_until_nothing_has_succeeded_for_a_while() -> None:
    history = TrialHistory().after(bad(20))
    history.blame_events()

    assert history.outage(NOW) is None
    assert not history.is_doubtful("k0", NOW)
    later = NOW + WINDOW_S + 1
    assert history.after(bad(7, start=50, at=later)).outage(later) is None
    assert history.after(bad(8, start=50, at=later)).outage(later) is not None


some_trials = st.lists(
    st.builds(
        Trial,
        key=st.sampled_from([f"k{n}" for n in range(12)]),
        failure=st.sampled_from([None, failed("f"), failed("g")]),
        at=st.just(NOW),
        first=st.booleans(),
    ),
    max_size=60,
)


@given(some_trials)
def test_to_look_ahead_changes_nothing_and_is_what_noting_does(trials: list[Trial]) -> None:
    noted, ahead = TrialHistory(), TrialHistory()
    for number, trial in enumerate(trials):
        assert ahead.after(trials[:number]).failing == noted.failing
        noted.record(trial)

    assert ahead.failing == {}
    assert ahead.after(trials).outage(NOW) == noted.outage(NOW)


@given(some_trials)
def test_what_is_judged_an_outage_fails_alike_with_many_and_all_that_is_in_doubt_fails(trials: list[Trial]) -> None:
    history = TrialHistory().after(trials)
    evidence = history.outage(NOW)
    last = {trial.key: trial for trial in trials}
    alike = [
        key
        for key, trial in last.items()
        if evidence is not None and trial.failure is not None and trial.failure.fingerprint == evidence.fingerprint
    ]

    assert evidence is None or FAILING_KEYS_MIN <= evidence.failing <= len(alike)
    assert set(history.failing) == {key for key, trial in last.items() if trial.failure is not None}


@given(some_trials, st.integers(2, 12))
def test_when_nothing_has_succeeded_since_all_that_fails_alike_is_in_doubt(trials: list[Trial], count: int) -> None:
    history = TrialHistory().after([*trials, *fine(1, start=99), *fine(12), *bad(count)])

    assert all(history.is_doubtful(f"k{n}", NOW) for n in range(count))


@given(some_trials)
def test_a_success_of_the_type_ends_all_doubt(trials: list[Trial]) -> None:
    history = TrialHistory().after([*trials, *fine(1, start=99)])

    assert not any(history.is_doubtful(key, NOW) for key in history.failing)


def test_only_so_many_failing_keys_are_remembered_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orderflow.core.failures.FAILING_MAX", 3)
    assert list(TrialHistory().after(bad(5)).failing) == ["k2", "k3", "k4"]


def test_a_type_is_failing_while_the_last_failure_is_remembered() -> None:
    history = TrialHistory().after(bad(1, at=NOW - 50) + bad(1, start=1))
    assert [TrialHistory().is_failing(NOW), history.is_failing(NOW)] == [False, True]
    assert [history.is_failing(NOW + REMEMBERED_S), history.is_failing(NOW + REMEMBERED_S + 0.1)] == [True, False]


@pytest.mark.parametrize(("age_s", "is_outage"), [(WINDOW_S, True), (WINDOW_S + 0.1, False)])
def test_with_a_success_since_only_first_trials_within_the_window_count(age_s: float, is_outage: bool) -> None:
    history = TrialHistory().after(bad(8, at=NOW - age_s) + fine(1, start=99))
    assert (history.outage(NOW) is not None) == is_outage


@pytest.mark.parametrize(("age_s", "is_outage"), [(REMEMBERED_S, True), (REMEMBERED_S + 0.1, False)])
def test_without_a_success_since_all_count_that_are_remembered(age_s: float, is_outage: bool) -> None:
    history = TrialHistory().after(bad(7, at=NOW - age_s) + bad(1, start=7))
    assert (history.outage(NOW) is not None) == is_outage


def test_what_is_given_up_casts_no_doubt_on_others_and_stays_what_it_was() -> None:
    history = TrialHistory().after(bad(2))
    before = history.failing["k1"]
    history.give_up("k1")
    history.give_up("nobody")
    assert history.failing == {"k0": history.failing["k0"], "k1": replace(before, given_up=True)}
    assert not history.is_doubtful("k0", NOW)


def test_what_is_forgotten_fails_no_more() -> None:
    history = TrialHistory().after(bad(2))
    history.forget("k1")
    history.forget("nobody")
    assert list(history.failing) == ["k0"]


def test_the_evidence_tells_the_latest_error_of_the_largest_group_and_how_many_were_tried() -> None:
    others = [Trial(f"g{n}", Failure("unknown", "Bang", "why", "g"), NOW) for n in range(2)]
    latest = [Trial("k1", Failure("unknown", "Boom", "again", "f"), NOW)]
    evidence = TrialHistory().after([*fine(1, start=50), *bad(3), *others[:1], *latest, *others[1:]]).evidence(NOW)
    assert evidence == Evidence("f", "Boom: again", 3, 6)


def test_of_failures_with_and_without_a_success_since_only_the_latter_count_where_wanted() -> None:
    history = TrialHistory().after([*bad(3), *fine(1, start=50), *bad(2, start=10), *bad(1)])
    assert history.evidence(NOW) == Evidence("f", "Boom: no", 5, 6)
    assert history.evidence(NOW, unanswered_only=True) == Evidence("f", "Boom: no", 2, 6)
    assert TrialHistory().evidence(NOW) is None
    assert TrialHistory().after([*bad(3), *fine(1, start=50)]).evidence(NOW, unanswered_only=True) is None


def test_shares_are_doubted_after_an_answer_until_nothing_fails_any_more() -> None:
    history = TrialHistory().after(bad(2))
    assert not history.unanswered_only
    history.blame_events()
    assert history.unanswered_only
    assert history.after(fine(1)).unanswered_only
    assert not history.after(fine(2)).unanswered_only
    assert not TrialHistory().after(fine(2)).unanswered_only


def test_retries_are_no_first_trials_and_a_key_fails_since_it_failed_first() -> None:
    history = TrialHistory().after([*bad(1, at=NOW - 60), *fine(1, start=9), *bad(1, first=False), *bad(1, start=1)])
    assert (history.failing["k0"].since, history.failing["k1"].since) == (1, 4)
    assert history.evidence(NOW) == Evidence("f", "Boom: no", 1, 2)


def test_the_first_failures_of_all_are_without_a_success_before_them() -> None:
    assert TrialHistory().after(bad(2)).evidence(NOW, unanswered_only=True) == Evidence("f", "Boom: no", 2, 2)
