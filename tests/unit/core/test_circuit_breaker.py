"""The circuit breaker of one event type: what it holds back, who may be tried when, and when it is over."""

from __future__ import annotations

import math

import pytest

from orderflow.core.circuit_breaker import CONTRADICTED_S, REFUSALS_MAX, UNTRIED_EVERY_S, CircuitBreaker
from orderflow.core.failures import Evidence, Trial
from orderflow.core.inbox import Failure
from orderflow.core.retry import Backoff
from tests.support.rng import Drawn
from tests.unit.core.still_clock import StillClock

NOW = 100.0
EVIDENCE = Evidence("f", "Boom: no", 9, 12)
KEYS = [f"k{n}" for n in range(30)]


def failed(key: str, message: str = "no", error: str = "Boom") -> Trial:
    return Trial(key, Failure("unknown", error, message, "f"), NOW)


def handled(key: str) -> Trial:
    return Trial(key, None, NOW)


def closed(clock: StillClock | None = None) -> CircuitBreaker:
    """Waits 0.5, 1, 2 and then 4 s between rounds that fail."""
    return CircuitBreaker(Backoff(1_000, 8_000), clock or StillClock(), Drawn(0.0))


def opened(clock: StillClock | None = None) -> CircuitBreaker:
    """Open, with KEYS that have failed."""
    breaker = closed(clock)
    breaker.record([failed(key) for key in KEYS], [])
    breaker.open(EVIDENCE)
    return breaker


def probe(breaker: CircuitBreaker) -> int:
    """How many probes may go now."""
    count = 0
    while breaker.may_probe():
        count += 1
    return count


def test_closed_it_remembers_what_fails_and_holds_nothing_back() -> None:
    breaker = closed()
    breaker.record([failed("k0"), handled("k1")], [])
    assert (breaker.is_open, breaker.evidence, list(breaker.history.failing)) == (False, None, ["k0"])


def test_it_opens_with_its_evidence_and_one_probe_at_once() -> None:
    breaker = opened()
    assert (breaker.is_open, breaker.evidence, breaker.opened_at) == (True, EVIDENCE, NOW)
    assert (breaker.probe_at, breaker.untried_at, breaker.width) == (NOW, NOW, 1)
    assert (breaker.last_error, breaker.contradicted_at, breaker.is_healed) == ("", None, False)
    assert probe(breaker) == 1


def test_a_round_whose_outcome_nobody_hears_of_is_followed_by_another_after_a_pause() -> None:
    clock = StillClock()
    breaker = opened(clock)
    assert breaker.may_probe()
    assert breaker.probe_in_s == 0.5
    clock.now += 0.4
    assert probe(breaker) == 0
    assert breaker.idle_s < 0
    clock.now = NOW + 0.5
    assert probe(breaker) == 1


def test_while_rounds_succeed_they_double_without_a_pause_until_it_is_healed() -> None:
    breaker = opened()
    seen = []
    tried = 0
    while not breaker.is_healed:
        width = probe(breaker)
        breaker.record([handled(key) for key in KEYS[tried : tried + width]], [])
        tried += width
        seen.append((width, breaker.probe_at))
    assert seen == [(1, NOW), (2, NOW), (4, NOW), (8, NOW)]


@pytest.mark.parametrize(("healed", "failing", "width"), [(3, 1, 4), (2, 2, 1), (1, 3, 1), (0, 1, 1)])
def test_a_round_succeeds_when_most_of_it_does(healed: int, failing: int, width: int) -> None:
    breaker = opened()
    breaker.record([handled("k0")], [])
    good, bad = KEYS[1 : 1 + healed], KEYS[10 : 10 + failing]
    breaker.record([*(handled(key) for key in good), *(failed(key) for key in bad)], [])
    assert breaker.width == width


def test_rounds_that_fail_wait_longer_each_time_until_one_succeeds() -> None:
    breaker = opened()
    waits = []
    for _ in range(5):
        breaker.record([failed("k0"), failed("k1", "why", "Bang")], [])
        waits.append(breaker.probe_at - NOW)
    assert waits == [0.5, 1.0, 2.0, 4.0, 4.0]
    assert breaker.last_error == "Bang: why"
    breaker.record([handled("k2")], [])
    assert (breaker.last_error, breaker.probe_at) == ("Bang: why", NOW)
    for wait in (0.5, 1.0):
        breaker.record([failed("k0")], [])
        assert (breaker.probe_at, breaker.last_error) == (NOW + wait, "Boom: no")


def test_what_is_left_of_a_round_ends_with_its_outcome() -> None:
    breaker = opened()
    for healed in (["k0"], ["k1", "k2"]):
        assert breaker.may_probe()
        breaker.record([handled(key) for key in healed], [])
    assert breaker.may_probe()
    breaker.record([failed("k3")], [])
    assert not breaker.may_probe()


def test_a_probe_that_tells_nothing_is_followed_by_a_whole_round_at_once() -> None:
    breaker = opened()
    breaker.record([handled("k0")], [])
    assert breaker.may_probe()
    breaker.record([], ["k1"])
    assert "k1" not in breaker.history.failing
    assert breaker.probe_at == NOW
    assert probe(breaker) == 2


def test_others_that_succeed_contradict_it_from_the_first_on_until_one_that_failed_does() -> None:
    clock = StillClock()
    breaker = opened(clock)
    clock.now += 10 * CONTRADICTED_S
    assert breaker.poison_in_s == math.inf
    breaker.record([failed("k0")], [])
    assert breaker.probe_in_s > 0
    breaker.record([handled("other")], [])
    assert (breaker.probe_in_s, breaker.poison_in_s) == (0.0, CONTRADICTED_S)
    clock.now += 1
    breaker.record([failed("k0")], [])
    breaker.record([handled("another")], [])
    assert breaker.probe_in_s > 0
    assert breaker.poison_in_s == CONTRADICTED_S - 1
    clock.now += CONTRADICTED_S - 1
    assert breaker.poison_in_s == 0.0
    breaker.record([handled("k0")], [])
    assert breaker.poison_in_s == math.inf


def test_each_time_that_so_many_were_refused_untried_keys_wait_a_moment() -> None:
    clock = StillClock()
    breaker = opened(clock)
    for _ in range(2):
        for _ in range(REFUSALS_MAX - 1):
            breaker.refused()
            assert breaker.untried_in_s == 0.0
        breaker.refused()
        assert breaker.untried_in_s == UNTRIED_EVERY_S
        clock.now += 50


@pytest.mark.parametrize(("poison", "failing"), [(True, 30), (False, 0)])
def test_closed_again_it_forgets_everything_unless_the_events_are_to_blame(poison: bool, failing: int) -> None:
    clock = StillClock()
    breaker = opened(clock)
    breaker.record([failed("k0")], [])
    breaker.close(poison=poison)
    assert (breaker.is_open, breaker.width, len(breaker.history.failing)) == (False, 1, failing)
    assert breaker.history.unanswered_only is poison
    clock.now += 9
    breaker.open(EVIDENCE)
    assert (breaker.opened_at, breaker.probe_at, breaker.last_error) == (NOW + 9, NOW + 9, "")


def test_closed_what_is_given_up_casts_no_doubt_on_others() -> None:
    breaker = closed()
    breaker.record([failed("k0"), failed("k1")], ["k1", "stranger"])
    assert not breaker.history.is_doubtful("k0", NOW)
    assert [key for key, each in breaker.history.failing.items() if each.given_up] == ["k1"]
    assert breaker.probe_at == NOW
