"""The circuit breaker of one event type: who may be tried when, and when it is over."""

from __future__ import annotations

import pytest

from orderflow.messaging.breaker import CONTRADICTED_S, REFUSALS_MAX, UNTRIED_EVERY_S, Breaker
from orderflow.messaging.outage import Evidence
from orderflow.messaging.retry import Backoff
from tests.support.chance import Drawn

NOW = 100.0
EVIDENCE = Evidence("f", "Boom: no", 9, 12)


def breaker() -> Breaker:
    """Waits 0.5, 1, 2 and then 4 s between rounds that fail."""
    return Breaker(EVIDENCE, NOW, Backoff(1_000, 8_000), Drawn(0.0))


def test_it_begins_at_once_with_one_key() -> None:
    new = breaker()
    assert (new.evidence, new.began, new.probe_at, new.untried_at) == (EVIDENCE, NOW, NOW, NOW)
    assert (new.width, new.last_error, new.contradicted_at) == (1, "", None)
    assert (new.is_healed, new.is_ramping) == (False, False)
    assert [new.may_probe(NOW), new.may_probe(NOW)] == [True, False]


def test_a_round_whose_outcome_nobody_hears_of_is_followed_by_another_after_a_pause() -> None:
    opened = breaker()
    assert opened.may_probe(NOW)
    assert opened.probe_at == NOW + 0.5
    assert [opened.may_probe(NOW + 0.4), opened.may_probe(NOW + 0.5), opened.may_probe(NOW + 0.5)] == [
        False,
        True,
        False,
    ]


def test_while_rounds_succeed_they_double_without_a_pause_until_it_is_healed() -> None:
    opened = breaker()
    seen = []
    while not opened.is_healed:
        tried = 0
        while opened.may_probe(NOW):
            tried += 1
        opened.probed(tried, [], NOW)
        seen.append((tried, opened.is_ramping, opened.probe_at))
    assert seen == [(1, True, NOW), (2, True, NOW), (4, True, NOW), (8, True, NOW)]


@pytest.mark.parametrize(("healed", "failed", "width"), [(3, 1, 4), (2, 2, 1), (1, 3, 1), (0, 1, 1)])
def test_a_round_succeeds_when_most_of_it_does(healed: int, failed: int, width: int) -> None:
    opened = breaker()
    opened.probed(1, [], NOW)
    opened.probed(healed, ["Boom: no"] * failed, NOW)
    assert (opened.width, opened.is_ramping) == (width, width > 1)


def test_rounds_that_fail_wait_longer_each_time_until_one_succeeds() -> None:
    opened = breaker()
    waits = []
    for number in range(5):
        opened.probed(0, [f"error {number}", "Bang: why"], NOW)
        waits.append(opened.probe_at - NOW)
    assert waits == [0.5, 1.0, 2.0, 4.0, 4.0]
    assert opened.last_error == "Bang: why"
    opened.probed(1, [], NOW)
    assert opened.last_error == "Bang: why"
    for wait in (0.5, 1.0):
        opened.probed(0, [], NOW)
        assert (opened.probe_at, opened.last_error) == (NOW + wait, "Bang: why")


def test_what_is_left_of_a_round_ends_with_its_outcome() -> None:
    opened = breaker()
    for healed in (1, 2):
        opened.may_probe(NOW)
        opened.probed(healed, [], NOW)
    assert opened.may_probe(NOW)
    opened.probed(0, ["Boom: no"], NOW)
    assert not opened.may_probe(NOW)


def test_what_told_nothing_is_followed_by_a_whole_round_at_once() -> None:
    opened = breaker()
    opened.probed(1, [], NOW)
    assert opened.may_probe(NOW)
    opened.told_nothing(NOW)
    assert opened.probe_at == NOW
    assert [opened.may_probe(NOW) for _ in range(3)] == [True, True, False]


def test_others_that_succeed_contradict_it_from_the_first_on_until_one_that_failed_does() -> None:
    opened = breaker()
    assert not opened.is_contradicted(NOW + 10 * CONTRADICTED_S)
    opened.probed(0, ["Boom: no"], NOW)
    opened.contradicted(NOW + 1)
    assert opened.probe_at == NOW + 1
    opened.probed(0, ["Boom: no"], NOW + 2)
    at = opened.probe_at
    opened.contradicted(NOW + 3)
    assert (opened.contradicted_at, opened.probe_at) == (NOW + 1, at)
    until = NOW + 1 + CONTRADICTED_S
    assert [opened.is_contradicted(when) for when in (until - 0.1, until)] == [False, True]
    opened.probed(1, [], until)
    assert opened.contradicted_at is None


def test_each_time_that_so_many_were_refused_untried_keys_wait_a_moment() -> None:
    opened = breaker()
    for round_at in (NOW, NOW + 50):
        for _ in range(REFUSALS_MAX - 1):
            opened.refused(round_at)
            assert opened.untried_at <= round_at
        opened.refused(round_at)
        assert opened.untried_at == round_at + UNTRIED_EVERY_S
